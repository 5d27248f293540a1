"""What is told of an answer beside its words: what it waits for, and what it took."""

import html

import regex

from app.engine import Loading, Queued, Wait
from app.history import Entry
from app.i18n import Say, format_minutes, format_number, format_seconds, format_share

LONG = 60.0  # seconds of loading that are told before
SLOW = 2  # seconds of looking that are told: each of an 8B's layers may take as long
FEWEST_WORDS = 2  # of which it can be said how fast they came
# Scripts that write no space between words: each of their signs counts, as those who write them count.
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}]"
WORD = regex.compile(rf"(?V1){UNSPACED}|[[\p{{L}}\p{{M}}\p{{N}}'’\u200c\u200d]--{UNSPACED}]+")


def waiting_told(wait: Wait | None, say: Say, *, native_digits: bool) -> str:
    """What an answer waits for before its first word."""
    if wait is None:
        return say("Thinking…")
    if isinstance(wait, Loading):
        return loading_told(wait, say, native_digits=native_digits)
    if isinstance(wait, Queued):
        ahead = format_number(wait.ahead, say.language, native_digits=native_digits)
        return say.number(
            "{count} question is answered before yours.",
            "{count} questions are answered before yours.",
            wait.ahead,
            count=ahead,
        )
    told = say("Thinking…")
    if wait.pictures:
        told = say.number("Looking at the picture…", "Looking at the pictures…", wait.pictures)
    share = [format_share(wait.share, say.language, native_digits=native_digits)] if wait.share else []
    passed = [format_seconds(wait.passed, say.language, native_digits=native_digits)] if wait.passed >= SLOW else []
    return " ".join([told, " · ".join(share + passed)]).strip()


def loading_told(loading: Loading, say: Say, *, native_digits: bool) -> str:
    """How far the model is loaded since when, and how long four bits take where it comes to them only now."""
    share = format_share(loading.share, say.language, native_digits=native_digits)
    passed = format_seconds(max(1, loading.passed), say.language, native_digits=native_digits)
    told = say("The model is loading: {share} is there after {seconds}.", share=share, seconds=passed)
    if loading.seconds < LONG:
        return told
    minutes = format_minutes(loading.seconds, say.language, native_digits=native_digits)
    slow = say("It comes to four bits meanwhile, which takes about {minutes} on this computer.", minutes=minutes)
    return f"{told}\n\n{slow}"


def took_told(answer: Entry | None, say: Say, *, native_digits: bool) -> str:
    """HTML: how long an answer took, and what more can be asked to be seen; empty where that is not known."""
    if answer is None or not answer.tokens:
        return ""

    def seconds(number: float) -> str:
        return format_seconds(max(number, 0.01), say.language, native_digits=native_digits)

    def number(number: float) -> str:
        return format_number(number, say.language, native_digits=native_digits)

    more = [say("Tokens: {count}", count=number(answer.tokens))]
    words, writing = len(WORD.findall(answer.text)), answer.seconds - answer.waited
    if answer.waited:  # an older Maya did not note it
        if words >= FEWEST_WORDS and writing > 0:
            more.insert(0, say("Words a second: {rate}", rate=number(words / writing)))
        more.insert(0, say("First word after {seconds}", seconds=seconds(answer.waited)))
    told = say("Answered in {seconds}", seconds=seconds(answer.seconds))
    details = "".join(f"<span>{html.escape(one)}</span>" for one in more)
    return f"<details><summary>{html.escape(told)}</summary><p>{details}</p></details>"
