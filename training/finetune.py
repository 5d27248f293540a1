"""Stage 2, or a tuning of your own: `python -m training.finetune --recipe qlora --data my.json --images dir --model M`."""

import sys

from training.recipes import finetune, lora, qlora, unfreeze_layers
from training.stage import command

RECIPES = {"finetune": finetune, "lora": lora, "qlora": qlora, "unfreeze_layers": unfreeze_layers}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return command("finetune", RECIPES, "Stage 2, or a tuning of your own.", arguments)


if __name__ == "__main__":
    sys.exit(main())
