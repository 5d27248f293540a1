"""Which preamble translates best: every candidate into every language, scored against the references."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean

from maya_core.languages import get_language
from training.translate.prompts import ALL
from training.translate.scores import Scored

PUBLISHED = 47.0  # BLEU of the paper's best of six, over seven languages (arXiv 2505.08910)


@dataclass(frozen=True, kw_only=True)
class Search:
    """scores: by preamble and language. signatures: of BLEU, by language."""

    model: str
    preambles: Mapping[str, str]
    scores: Mapping[str, Mapping[str, Scored]]
    signatures: Mapping[str, str] = field(default_factory=dict)

    @property
    def languages(self) -> list[str]:
        return list(self.signatures)

    def mean(self, preamble: str) -> float:
        """BLEU over all languages."""
        return fmean(scored.bleu.value for scored in self.scores[preamble].values())

    @property
    def best(self) -> str:
        """The preamble that is best over all languages; of equals the first."""
        return max(self.scores, key=self.mean)

    def best_in(self, language: str) -> str:
        return max(self.scores, key=lambda name: self.scores[name][language].bleu.value)

    def chosen(self) -> dict[str, str]:
        """The best preamble of each language, and of all for the others."""
        return {language: self.preambles[self.best_in(language)] for language in self.languages} | {
            ALL: self.preambles[self.best]
        }


def write(search: Search, out: Path) -> None:
    """chosen.json for the bulk run, report.json, report.md, and scores.png in the folder `out`."""
    from training.translate.plots import plot_scores

    out.mkdir(parents=True, exist_ok=True)
    plot_scores(search, out / "scores.png")
    for name, content in (
        ("chosen.json", {"preambles": search.chosen()}),
        ("report.json", {"mean_bleu": {name: round(search.mean(name), 2) for name in search.scores}, **asdict(search)}),
    ):
        (out / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")
    (out / "report.md").write_text(_markdown(search), "utf-8")


def _markdown(search: Search) -> str:
    names = [f"{get_language(code).native_name} ({code})" for code in search.languages]
    lines = [
        "# Search of preambles",
        "",
        f"Model {search.model}. Best over all languages: **{search.best}**, BLEU {search.mean(search.best):.1f} on average "
        f"(published for the paper's own best, on its own references: {PUBLISHED:.0f}).",
        "",
        "BLEU with the half-width of its 95 % bootstrap interval; bold is the best of a language, * differs from it with "
        "p < 0.05 (paired bootstrap).",
        "",
        "| | " + " | ".join([*names, "mean"]) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    lines += [
        f"| {name} | "
        + " | ".join([*(_cell(search, name, code) for code in search.languages), f"{search.mean(name):.1f}"])
        + " |"
        for name in search.scores
    ]
    lines += ["", "![BLEU and chrF by language](scores.png)", ""]
    lines += ["| preamble | language | chrF2 | 1- to 4-gram precision | failed |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {get_language(code).native_name} | {scored.chrf.value:.1f} ± {scored.chrf.interval:.1f} | "
        f"{' / '.join(f'{precision:.1f}' for precision in scored.precisions)} | {scored.failed} of {scored.references} |"
        for name, of in search.scores.items()
        for code, scored in of.items()
    ]
    lines += ["", "## Preambles", ""]
    lines += [
        f"**{name}**\n\n    {text.replace(chr(10), chr(10) + '    ')}\n" for name, text in search.preambles.items()
    ]
    lines += ["## How it was computed", ""]
    lines += [f"- {get_language(code).native_name}: BLEU {signature}" for code, signature in search.signatures.items()]
    return "\n".join(lines) + "\n"


def _cell(search: Search, name: str, code: str) -> str:
    bleu = search.scores[name][code].bleu
    told = f"{bleu.value:.1f} ± {bleu.interval:.1f}"
    if name == search.best_in(code):
        return f"**{told}**"
    return told + ("*" if bleu.p is not None and bleu.p < 0.05 else "")
