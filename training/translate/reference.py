"""A reference set: machine translations with a way back into English, for people to accept, mend or reject; and what they
agreed on."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from maya_core.errors import DataError
from maya_core.reviews import VERDICTS, Item, Review
from training.translate.journal import Incoming, Journal
from training.translate.texts import digest


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A translation that people agreed on."""

    id: str
    language: str
    source: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class Settled:
    """Of one language: references, items of all, those without a majority, rejected ones, and how far reviewers agree."""

    references: tuple[Reference, ...]
    items: int
    unreviewed: int
    disputed: int
    rejected: int
    reviewers: int
    alpha: float | None


def texts_as_records(texts: Iterable[str]) -> Iterable[Incoming]:
    """Texts alone, as a journal takes them in."""
    for number, text in enumerate(texts):
        yield Incoming(number=number, texts=(text,))


def translations_in(journal: Journal, language: str, texts: Iterable[str]) -> dict[str, str]:
    """The texts of these that are translated."""
    found = {}
    for text in texts:
        state = journal.translation(language, digest(text))
        if state and state[2] is not None:
            found[text] = state[2]
    return found


def items(sources: Mapping[str, str], forward: Mapping[str, Mapping[str, str]], back: Mapping[str, str]) -> list[Item]:
    """Items of all languages. sources: by id. forward: translations by language and source. back: by translation."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    found = []
    for language, translations in forward.items():
        for identity, source in sources.items():
            if source in translations:
                translation = translations[source]
                returned = back.get(translation, "")
                similarity = round(metric.sentence_score(returned, [source]).score, 1)
                found.append(
                    Item(
                        id=identity,
                        language=language,
                        source=source,
                        translation=translation,
                        back_translation=returned,
                        similarity=similarity,
                    )
                )
    return found


def settle(all_items: Sequence[Item], reviews: Sequence[Review]) -> dict[str, Settled]:
    """What people agreed on, by language. More than half of an item's reviewers decide between good (accepted or edited) and
    bad (rejected); of edits the one that most share, or else the last, is taken, unless more accept the text as it is."""
    by_item: dict[tuple[str, str], list[Review]] = defaultdict(list)
    for review in reviews:
        by_item[review.language, review.item].append(review)
    found = {}
    for language in dict.fromkeys(item.language for item in all_items):
        own = [item for item in all_items if item.language == language]
        verdicts = {item.id: by_item[language, item.id] for item in own}
        texts = {item.id: _text(item, verdicts[item.id]) for item in own if verdicts[item.id]}
        found[language] = Settled(
            references=tuple(
                Reference(id=item.id, language=language, source=item.source, reference=text)
                for item in own
                if (text := texts.get(item.id))
            ),
            items=len(own),
            unreviewed=len(own) - len(texts),
            disputed=sum(text is None for text in texts.values()),
            rejected=sum(text == "" for text in texts.values()),
            reviewers=len({review.reviewer for said in verdicts.values() for review in said}),
            alpha=krippendorff_alpha([[review.verdict for review in said] for said in verdicts.values()]),
        )
    return found


def _text(item: Item, reviews: Sequence[Review]) -> str | None:
    """The agreed text; "" where it is rejected, None where as many say so as not."""
    counts = Counter(review.verdict for review in reviews)
    bad, good = counts["reject"], counts["accept"] + counts["edit"]
    if bad == good:
        return None
    if bad > good:
        return ""
    if counts["accept"] >= counts["edit"]:
        return item.translation
    edits = [review.text for review in sorted(reviews, key=lambda one: one.moment) if review.verdict == "edit"]
    shared = Counter(edits)
    return max(edits[::-1], key=lambda text: shared[text])


def krippendorff_alpha(ratings: Sequence[Sequence[str]]) -> float | None:
    """Agreement beyond chance on named choices: 1 is complete, 0 is chance. Items with a single rating say nothing; None
    where no two people rated one item, or all ratings are the same. (Krippendorff 2011, "Computing Krippendorff's
    alpha-reliability".)"""
    paired = [item for item in ratings if len(item) > 1]
    coincidences: Counter[tuple[str, str]] = Counter()
    for item in paired:
        counts = Counter(item)
        for one in VERDICTS:
            for other in VERDICTS:
                pairs = counts[one] * (counts[other] - (one == other))
                coincidences[one, other] += pairs / (len(item) - 1)  # type: ignore[assignment]
    totals = {one: sum(coincidences[one, other] for other in VERDICTS) for one in VERDICTS}
    everything = sum(totals.values())
    observed = sum(count for (one, other), count in coincidences.items() if one != other)
    expected = sum(totals[one] * totals[other] for one in VERDICTS for other in VERDICTS if one != other)
    return 1 - (everything - 1) * observed / expected if expected else None


def write_references(file: Path, references: Iterable[Reference]) -> None:
    file.write_text("".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in references), "utf-8")


def load_references(file: Path) -> dict[str, list[Reference]]:
    """References by language. Raises DataError."""
    found: dict[str, list[Reference]] = defaultdict(list)
    try:
        for line in file.read_text("utf-8").splitlines():
            reference = Reference(**json.loads(line))
            found[reference.language].append(reference)
    except (OSError, ValueError, TypeError):
        raise DataError(
            f"{file.name} cannot be read; `python -m training.translate references` writes such a file."
        ) from None
    if not found:
        raise DataError(f"{file.name} holds no reference; review some translations first.")
    return found
