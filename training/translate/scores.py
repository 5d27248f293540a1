"""BLEU and chrF of candidates against references, by sacrebleu, each language cut into words as it should be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Chinese by character, Japanese by MeCab; the others by Unicode's classes, which know the danda and Arabic's own marks,
# where BLEU's usual 13a leaves them on the word before.
TOKENIZERS = {"zh": "zh", "ja": "ja-mecab"}
OTHERS_TOKENIZER = "intl"
RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Score:
    """0 to 100; interval: half of the width of the 95 % interval of resampled references. p: how likely a difference to the
    best as large as this one is by chance (paired bootstrap); None for the best, and for one that says the same."""

    value: float
    interval: float
    p: float | None


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A candidate in one language. precisions: of 1- to 4-grams. failed: references for which it gave nothing."""

    bleu: Score
    chrf: Score
    precisions: tuple[float, ...]
    failed: int
    references: int


def score(
    candidates: Mapping[str, Sequence[str]], references: Sequence[str], language: str, *, resamples: int = RESAMPLES
) -> tuple[dict[str, Scored], str]:
    """Each candidate's scores, and the signature of the BLEU that was computed. candidates: translations by name, "" where
    one failed, which counts as one that shares nothing with its reference."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    tokenizer = TOKENIZERS.get(language, OTHERS_TOKENIZER)
    bleu = BLEU(tokenize=tokenizer)
    plain = {name: bleu.corpus_score(said, [references]) for name, said in candidates.items()}
    order = sorted(candidates, key=lambda name: -plain[name].score)
    test = PairedTest(
        [(name, candidates[name]) for name in order],
        {"BLEU": BLEU(tokenize=tokenizer, references=[references]), "chrF2": CHRF(references=[references])},
        None,
        test_type="bs",
        n_samples=resamples,
    )
    _, results = test()
    best = candidates[order[0]]
    return {
        name: Scored(
            bleu=_score(results["BLEU"][place], is_best=candidates[name] == best),
            chrf=_score(results["chrF2"][place], is_best=candidates[name] == best),
            precisions=tuple(round(precision, 2) for precision in plain[name].precisions),
            failed=sum(not said for said in candidates[name]),
            references=len(references),
        )
        for place, name in enumerate(order)
    }, str(bleu.get_signature())


def _score(result: object, *, is_best: bool) -> Score:
    """is_best: it says what the best one says; sacrebleu takes a difference of nothing in every sample for a sure one."""
    p = None if is_best else result.p_value  # type: ignore[attr-defined]
    return Score(
        value=round(float(result.score), 2),  # type: ignore[attr-defined]
        interval=round(float(result.ci), 2),  # type: ignore[attr-defined]
        p=None if p is None else round(float(p), 4),
    )
