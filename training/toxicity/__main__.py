"""The toxicity filter from the command line: `python -m training.toxicity {scan,remove}`."""

import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import tyro

from maya_core.errors import DataError
from training.command import ended
from training.toxicity.classifiers import IMAGE_MODEL, TEXT_MODEL
from training.toxicity.removal import OfUnknown

PUBLISHED = "7,111 + 892, union 7,531 of 558,128 (arXiv 2505.08910)"
AUDIT = "audit.jsonl"
app = tyro.extras.SubcommandApp()


@app.command
def scan(
    source: tyro.conf.Positional[Path],
    images: Annotated[Path, tyro.conf.arg(help="folder of the pictures")],
    out: Annotated[Path, tyro.conf.arg(help="folder for findings; the same command goes on where it stopped")],
    text_model: Annotated[str, tyro.conf.arg(help="text classifier, a folder or repository")] = TEXT_MODEL,
    image_model: Annotated[str, tyro.conf.arg(help="image classifier, or a guard that is asked")] = IMAGE_MODEL,
    policy: Annotated[
        Path | None, tyro.conf.arg(help="what a guard judges by, as its makers' own; a short one of ours if not given")
    ] = None,
    arbiter_model: Annotated[
        str | None, tyro.conf.arg(help="its name at --endpoint; it decides on pictures found toxic; none if not given")
    ] = None,
    endpoint: Annotated[str, tyro.conf.arg(help="of the arbiter, OpenAI-compatible")] = "http://127.0.0.1:8000/v1",
    key_variable: Annotated[str, tyro.conf.arg(help="environment variable with its key")] = "OPENAI_API_KEY",
) -> None:
    """Look at the captions and pictures of English LLaVA data, and write down what is toxic and why."""
    import asyncio

    from rich.console import Console

    from maya_core.weights.durable import exclusive
    from training.toxicity.classifiers import POLICY, TextClassifier, image_classifier
    from training.toxicity.findings import Finding, Findings, Part
    from training.toxicity.scan import arbitrate, begin, look_at_pictures, look_at_texts
    from training.translate.run import EngineOptions

    judged_by = _read(policy) if policy else POLICY
    parts: dict[Part, str] = {"text": text_model, "image": image_model}
    if policy:
        parts["image"] += f", policy {sha256(judged_by.encode()).hexdigest()[:12]}"
    if arbiter_model:
        parts["arbiter"] = arbiter_model
    console = Console()
    with exclusive(out), Findings(out) as findings, console.status("looking") as status:
        done = dict.fromkeys(parts, 0)

        def note(part: Part, _: Finding) -> None:
            done[part] += 1
            status.update(", ".join(f"{count:,} by {one}" for one, count in done.items()))

        file = begin(findings, source, parts)
        look_at_texts(findings, file, TextClassifier(text_model), note)
        look_at_pictures(findings, file, images, image_classifier(image_model, policy=judged_by), note)
        if arbiter_model:

            async def asking() -> None:
                engine = EngineOptions(model=arbiter_model, endpoint=endpoint, key_variable=key_variable).open()
                try:
                    await arbitrate(findings, file, engine, note)
                finally:
                    await engine.close()

            asyncio.run(asking())
        findings.write_audit(out / AUDIT)
        counts = findings.counts()
    print(
        f"{counts.image:,} + {counts.text:,}, union {counts.union:,} of {counts.records:,}; not known: {counts.unknown:,}"
    )
    print(f"published: {PUBLISHED}; the reasons are in {out / AUDIT}")


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, ValueError):
        raise DataError(f"{file.name} cannot be read; give a text file with the policy.") from None


@app.command
def remove(
    findings: tyro.conf.Positional[Path],
    data: Annotated[Path, tyro.conf.arg(help="folder of LLaVA data, a file a language")],
    out: Annotated[Path, tyro.conf.arg(help="folder for what is left of each")],
    unknown: Annotated[OfUnknown, tyro.conf.arg(help="what to do with records that could not be judged")] = "stop",
) -> None:
    """Take what was found toxic out of every language, by id."""
    from training.toxicity.findings import Findings
    from training.toxicity.removal import remove as take_out

    with Findings(findings, new=False) as found:
        for file in take_out(found, data, out, unknown):
            absent = f", {file.absent:,} were not there" if file.absent else ""
            print(f"{file.file}: {file.kept:,} kept, {file.removed:,} removed{absent}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return ended(lambda: app.cli(description=__doc__, args=arguments, prog="python -m training.toxicity"), extra="data")


if __name__ == "__main__":
    sys.exit(main())
