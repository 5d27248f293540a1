"""Stage 1, the connector alone on captions: `python -m training.pretrain --tower SIGLIP --language-model AYA --data ...`."""

import sys

from training.recipes import pretrain
from training.stage import command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return command("pretrain", {"pretrain": pretrain}, "Stage 1: teach the connector on captions.", arguments)


if __name__ == "__main__":
    sys.exit(main())
