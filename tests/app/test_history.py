"""Conversations are kept, found, changed, deleted, brought back, exported and imported; nothing else stays."""

import errno
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import unicodedata
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.chat import to_messages
from app.exports import to_zip
from app.history import (
    ConversationGone,
    Entry,
    History,
    HistoryDamaged,
    HistoryForbidden,
    HistoryFull,
    HistoryLocked,
    HistoryUnavailable,
    NotAConversation,
    PictureGone,
    TurnGone,
    shortened,
)
from maya_core.errors import ImageUnreadable
from maya_core.model.images import open_image
from maya_core.model.prompt import prompt_pieces
from tests.tiny import picture

SAID = {
    "en": "What is the violin made of?",
    "zh": "小提琴是什么做的？",
    "fr": "De quoi le violon est-il fait ?",
    "es": "¿De qué está hecho el violín?",
    "ru": "Из чего сделана скрипка?",
    "hi": "वायलिन किससे बना है?",
    "ja": "バイオリンは何でできていますか？",
    "ar": "مم صُنع الكمان؟",
    "bn": "বেহালা কী দিয়ে তৈরি?",
    "ur": "وائلن کس چیز سے بنا ہے؟",
}
SOUGHT = {"en": "VIOLIN made", "zh": "小提琴", "fr": "violon", "es": "VIOLÍN", "ru": "СКРИПКА", "hi": "वायलिन",
          "ja": "バイオリン", "ar": "الكمان", "bn": "বেহালা", "ur": "وائلن"}  # fmt: skip
SHORT = {
    "en": "is",
    "zh": "琴",
    "fr": "De",
    "es": "De",
    "ru": "Из",
    "hi": "है",
    "ja": "何",
    "ar": "مم",
    "bn": "কী",
    "ur": "کس",
}


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "data")


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    picture().save(file)
    return file


def talk(history, *texts, photo=None):
    pictures = (history.keep_picture(photo),) if photo else ()
    key = history.create(texts[0])
    for number, text in enumerate(texts):
        role = "assistant" if number % 2 else "user"
        history.append(key, Entry(role=role, text=text, pictures=() if number else pictures))
    return key


def test_what_was_said_is_there_after_a_restart(history, photo):
    key = talk(history, "What?", "A dog.", photo=photo)
    history.append(key, Entry(role="assistant", text="Sure.", tokens=7, seconds=1.5, waited=0.5))
    again = History(history.folder)
    assert again.entries(key) == history.entries(key)
    last = again.entries(key)[-1]
    assert (last.role, last.text, last.tokens, last.seconds, last.waited) == ("assistant", "Sure.", 7, 1.5, 0.5)
    assert [one.title for one in again.conversations()] == ["What?"]


def test_a_history_of_an_older_maya_is_read_and_goes_on(history):
    key = talk(history, "What?", "A dog.")
    before = history.entries(key)
    with sqlite3.connect(history.folder / "history.sqlite") as database:
        database.execute("ALTER TABLE turns DROP COLUMN waited")
    again = History(history.folder)
    assert again.entries(key) == before
    talk(again, "And?", "A cat.")


def plain(text):
    """Without accents and capitals."""
    return "".join(
        letter for letter in unicodedata.normalize("NFKD", text) if not "\u0300" <= letter <= "\u036f"
    ).casefold()


@pytest.mark.parametrize("sought", [SOUGHT, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("code", SAID)
def test_search_finds_words_in_every_script(history, code, sought):
    keys = {language: talk(history, "Hello", said) for language, said in SAID.items()}
    found = {one.id for one in history.conversations(sought[code])}
    assert keys[code] in found
    holders = {
        keys[one] for one, said in SAID.items() if all(plain(word) in plain(said) for word in sought[code].split())
    }
    assert found == holders


PAIRS = {
    "Arabic vowels": ("كتاب", "هَلْ هذا كِتَابٌ"),
    "tatweel": ("كتاب", "كتـــاب"),
    "kaf of Urdu": ("کتاب", "كتاب"),
    "kaf of Arabic": ("كتاب", "کتاب"),
    "hamza": ("اسد", "أسد"),
    "ya": ("علی", "علي"),
    "alef maksura": ("على", "علي"),
    "ta marbuta": ("سياره", "سيارة"),
    "he of Urdu": ("ہاتھی", "هاتهي"),
    "zero width non-joiner": ("میخواهم", "می\u200cخواهم"),
    "zero width joiner": ("क्ष", "क्\u200dष"),
    "nukta": ("कलम", "क़लम"),
    "nukta typed": ("क़लम", "कलम"),
    "nukta of Bengali": ("বড", "বড়"),
    "Arabic digits": ("3", "٣ قطط"),
    "Devanagari digits": ("5", "५ सेब"),
    "Bengali digits": ("7", "৭টি"),
    "Urdu digits": ("۴", "4 بلیاں"),
    "French": ("elephant", "Un éléphant"),
    "Spanish": ("arbol", "el ÁRBOL"),
    "oe": ("oeuf", "un œuf"),
    "Russian": ("елка", "ёлка"),
    "hiragana": ("りんご", "リンゴ"),
    "katakana": ("リンゴ", "りんご"),
    "half width": ("リンゴ", "ﾘﾝｺﾞ"),
    "full width": ("maya", "ＭＡＹＡ"),
    "soft hyphen": ("elephant", "ele\u00adphant"),
}
APART = {"voiced kana": ("かき", "かぎ"), "vowel signs": ("की", "को"), "Russian й": ("мои", "мой"), "ye": ("کے", "کی")}


@pytest.mark.parametrize(("sought", "said"), PAIRS.values(), ids=PAIRS)
def test_words_are_found_however_they_are_written(history, sought, said):
    key = talk(history, "?", said)
    talk(history, "?", "something else")
    assert [one.id for one in history.conversations(sought)] == [key]
    titled = talk(history, said)
    assert {one.id for one in history.conversations(sought)} == {key, titled}


@pytest.mark.parametrize(("sought", "said"), APART.values(), ids=APART)
def test_other_words_are_not_found(history, sought, said):
    talk(history, "?", said)
    assert history.conversations(sought) == []


def test_words_that_an_older_maya_folded_otherwise_are_found(history):
    key = talk(history, "?", "Un éléphant")
    with sqlite3.connect(history.folder / "history.sqlite") as database:
        database.execute("UPDATE words SET folded = 'un éléphant'")
        database.execute("PRAGMA user_version = 0")
    assert [one.id for one in History(history.folder).conversations("elephant")] == [key]


def test_ten_thousand_conversations_are_searched_at_once(history):
    with sqlite3.connect(history.folder / "history.sqlite") as database:
        many = [(f"{number:032x}", f"Título {number} über ein Bild", float(number)) for number in range(10_000)]
        database.executemany("INSERT INTO conversations VALUES (?, ?, ?, NULL)", many)
        said = [(number, key, f"Was ist das? {number}") for number, (key, *_) in enumerate(many)]
        database.executemany("INSERT INTO messages VALUES (?, ?, 'user', ?, 0, 0)", said)
        database.executemany("INSERT INTO words (rowid, folded) VALUES (?, ?)", [(n, t.lower()) for n, _, t in said])
    history.conversations("titulo")
    started = time.process_time()
    assert len(history.conversations("titulo")) == 200
    assert time.process_time() - started < 0.15  # 0.05 on a machine that does nothing else


def test_search_takes_what_is_typed_as_words(history):
    key = talk(history, 'a "quoted" 100% word*', "answer")
    for search in ('"quoted"', "100%", "word*", "  ", "AND", 'a" OR "b'):
        ids = {one.id for one in history.conversations(search)}
        assert ids == ({key} if search not in ("AND", 'a" OR "b') else set())
    history.create("answer without words")
    history.rename(key, "Ｗｉｄｅ Title")
    assert [one.id for one in history.conversations("wide answer")] == [key]


def test_the_latest_conversation_comes_first_and_a_long_list_is_cut(history):
    keys = [talk(history, str(number)) for number in range(5)]
    history.append(keys[0], Entry(role="assistant", text="late"))
    assert [one.id for one in history.conversations(most=3)] == [keys[0], keys[4], keys[3]]


def test_a_deleted_conversation_comes_back_until_it_is_purged(history, photo):
    key, other = talk(history, "secret words", photo=photo), talk(history, "other", photo=photo)
    history.delete(key)
    assert [one.id for one in history.conversations()] == [other]
    history.purge(older=60)
    history.undelete(key)
    assert history.entries(key)[0].pictures[0].exists()
    history.delete(key)
    gone = history.entries(key)[0].pictures[0]
    history.purge()
    assert not gone.exists()
    assert history.entries(key) == []
    assert history.conversations("secret") == []
    assert len(list(history.pictures.iterdir())) == 1
    with sqlite3.connect(history.folder / "history.sqlite") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert database.execute("SELECT count(*) FROM words").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM pictures").fetchone() == (1,)


def test_pictures_are_kept_without_what_says_where_and_whose(history, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "CANARY description"
    exif[0x8825] = {1: "N", 2: (24.0, 51.0, 36.0)}
    file = tmp_path / "CANARY name.jpg"
    Image.effect_noise((900, 700), 60).convert("RGB").save(file, exif=exif, comment=b"CANARY comment")
    kept = history.keep_picture(file)
    assert b"CANARY" not in kept.read_bytes()
    assert "CANARY" not in kept.name
    with Image.open(kept) as opened:
        assert not opened.getexif()
    assert open_image(kept).size == (900, 700)
    with pytest.raises(ImageUnreadable):
        history.keep_picture(b"no picture")
    with pytest.raises(PictureGone):
        history.keep_picture(tmp_path / "gone.png")


def test_only_this_user_can_read_it(history, photo):
    talk(history, "What?", photo=photo)
    for folder in (history.folder, history.pictures):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in history.pictures.iterdir()} == {0o600}


def test_export_and_import_give_the_same_conversation(history, photo, tmp_path):
    key = talk(history, SAID["ur"], SAID["ar"], SAID["hi"], photo=photo)
    other = History(tmp_path / "other")
    copy = other.from_json(history.to_json(key))
    assert other.title(copy) == history.title(key)
    assert [(entry.role, entry.text) for entry in other.entries(copy)] == [
        (entry.role, entry.text) for entry in history.entries(key)
    ]
    [one], [two] = history.entries(key)[0].pictures, other.entries(copy)[0].pictures
    assert open_image(one).tobytes() == open_image(two).tobytes()


def exported(version=1, **message):
    messages = [{"role": "user", "text": "x", "pictures": []} | message]
    return json.dumps({"format": "maya-conversation", "version": version, "title": "x", "messages": messages})


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", b"\xff\xfe", "[" * 100_000, exported(99), exported(role="root"), exported(text=5),
     exported(role="system"), exported(role="assistant"), exported(text=" \n"), exported(text="x" * 9000),
     json.dumps({"format": "maya-conversation", "version": 1, "title": "t", "messages": []}),
     exported(pictures=["AA"]), exported(pictures=["?"]), exported(pictures=5)],
)  # fmt: skip
def test_a_file_that_is_no_conversation_is_refused_and_adds_nothing(history, text):
    with pytest.raises(NotAConversation):
        history.from_json(text)
    assert history.conversations() == []


def test_an_answer_that_is_a_picture_is_refused(history, photo):
    """No prompt could hold it: every question after it would fail."""
    fields = json.loads(history.to_json(talk(history, "a?", "b", photo=photo)))
    asked, answer = fields["messages"]
    answer["pictures"] = asked["pictures"]
    with pytest.raises(NotAConversation):
        history.from_json(json.dumps(fields))
    assert len(history.conversations()) == 1


def test_an_import_is_brought_into_order(history):
    messages = [{"role": role, "text": text, "pictures": []} for role, text in
                (("user", "a?"), ("user", "b?"), ("assistant", "c"), ("assistant", "d"))]  # fmt: skip
    fields = {"format": "maya-conversation", "version": 1, "title": " ", "messages": messages}
    key = history.from_json(json.dumps(fields))
    assert [(entry.role, entry.text) for entry in history.entries(key)] == [
        ("user", "a?"), ("user", "b?"), ("assistant", "c\n\nd"),
    ]  # fmt: skip
    assert [one.title for one in history.conversations()] == ["a?"]


@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    title=st.text(max_size=8),
    messages=st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=8)), max_size=5),
)
def test_whatever_import_takes_can_be_listed_asked_on_exported_and_imported_again(history, title, messages):
    said = [{"role": role, "text": text, "pictures": []} for role, text in messages]
    fields = {"format": "maya-conversation", "version": 1, "title": title, "messages": said}
    try:
        key = history.from_json(json.dumps(fields))
    except NotAConversation:
        return
    assert history.title(key)
    assert key in {one.id for one in history.conversations(most=10_000)}
    history.append(key, Entry(role="user", text="And now?"))
    asked = to_messages(history.entries(key))
    prompt_pieces(asked, "chat", answer_next=True)
    again = history.from_json(history.to_json(key))
    assert [(one.role, one.text) for one in history.entries(again)] == [
        (one.role, one.text) for one in history.entries(key)
    ]


@settings(
    max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(st.characters(exclude_categories=())), search=st.text())
def test_any_text_can_be_kept_and_looked_for(history, text, search):
    key = history.create(text)
    history.append(key, Entry(role="user", text=text))
    assert len(shortened(text)) <= 60
    history.conversations(search)
    with suppress(NotAConversation):  # where nothing can be asked
        history.from_json(history.to_json(key))


def test_a_title_is_cut_between_words_and_never_inside_a_letter():
    assert shortened("one two\nthree", 9) == "one two…"
    assert shortened("abcdefghij", 5) == "abcd…"
    assert shortened("किकिकिकि", 4) == "कि…"


@pytest.mark.parametrize(
    ("line", "most", "cut"),
    [
        ("🇫🇷🇩🇪🇯🇵", 4, "🇫🇷…"),
        ("👩‍👩‍👧👩‍👩‍👧", 8, "👩‍👩‍👧…"),
        ("क्षक्षक्ष", 6, "क्ष…"),
        ("ক্ষক্ষ", 3, "…"),
        ("\u1100\u1161\u11a8" * 3, 6, "\u1100\u1161\u11a8…"),
        ("e\u0301" * 4, 4, "e\u0301…"),
    ],
    ids=["flags", "family", "virama", "virama at the start", "jamo", "accents"],
)
def test_a_title_ends_in_whole_letters(line, most, cut):
    assert shortened(line, most) == cut


def said(history, key):
    return [entry.text for entry in history.entries(key)]


def ids(history, key):
    return [entry.id for entry in history.entries(key)]


def test_a_question_in_the_place_of_another_hides_it_until_it_has_an_answer(history):
    key = talk(history, "one", "two", "three", "four")
    turns = ids(history, key)
    with pytest.raises(HistoryUnavailable):
        history.append(key, Entry(role=None, text="five"), instead_of=turns[2], seen=turns)
    assert said(history, key) == ["one", "two", "three", "four"]
    five = history.append(key, Entry(role="user", text="five"), instead_of=turns[2], seen=turns)
    assert said(history, key) == ["one", "two", "five"]
    assert history.take_back(key, five)
    assert said(history, key) == ["one", "two", "three", "four"]
    five = history.append(key, Entry(role="user", text="five"), instead_of=turns[2], seen=turns)
    history.keep_answer(key, five, Entry(role="assistant", text="six"))
    assert said(history, key) == ["one", "two", "five", "six"]
    assert said(History(history.folder), key) == ["one", "two", "five", "six"]


def test_a_question_that_got_no_answer_leaves_what_was_there_before_it(history):
    key = talk(history, "one", "two")
    turns = ids(history, key)
    same = history.append(key, Entry(role="user", text="one"), instead_of=turns[0], seen=turns)
    history.leave_unanswered(key, same)
    assert said(history, key) == ["one", "two"]
    history.append(key, Entry(role="user", text="other"), instead_of=turns[0], seen=turns)
    assert said(history, key) == ["other"]
    assert said(History(history.folder), key) == ["one", "two", "other"]  # Maya was killed meanwhile


def test_a_turn_that_was_not_seen_is_never_hidden(history):
    key = talk(history, "one", "two")
    seen = ids(history, key)
    history.append(key, Entry(role="user", text="three"))
    with pytest.raises(TurnGone):
        history.append(key, Entry(role="user", text="other"), instead_of=seen[0], seen=seen)
    with pytest.raises(TurnGone):
        history.append(key, Entry(role="user", text="other"), instead_of=10**6, seen=seen)
    assert said(history, key) == ["one", "two", "three"]


def test_an_answer_stands_after_its_question_whenever_it_comes(history):
    key = history.create("Talk")
    first, second = (history.append(key, Entry(role="user", text=text)) for text in ("one", "two"))
    history.keep_answer(key, second, Entry(role="assistant", text="to two"))
    history.keep_answer(key, first, Entry(role="assistant", text="to o", half=True))
    assert said(history, key) == ["one", "to o", "two", "to two"]
    history.keep_answer(key, first, Entry(role="assistant", text="to one"))
    assert said(history, key) == ["one", "to one", "two", "to two"]


def test_a_question_brings_its_conversation_back_and_one_that_is_gone_is_told(history):
    key = talk(history, "one", "two")
    history.delete(key)
    history.append(key, Entry(role="user", text="three"))
    assert [one.id for one in history.conversations()] == [key]
    history.delete(key)
    history.purge()
    with pytest.raises(ConversationGone):
        history.append(key, Entry(role="user", text="four"))


def test_the_first_question_taken_back_leaves_no_conversation(history):
    key = history.create("one")
    question = history.append(key, Entry(role="user", text="one"))
    assert not history.take_back(key, question)
    assert history.title(key) == ""


def test_a_revision_changes_with_all_that_is_shown(history):
    key = talk(history, "one", "two")
    seen = [history.revision(key)]
    history.rename(key, "Title")
    seen.append(history.revision(key))
    turns = ids(history, key)
    question = history.append(key, Entry(role="user", text="one"), instead_of=turns[0], seen=turns)
    seen.append(history.revision(key))
    history.keep_answer(key, question, Entry(role="assistant", text="three"))
    seen += [history.revision(key), history.revision(key)]
    assert len(set(seen)) == 4
    assert seen[-1] == seen[-2]
    history.delete(key)
    assert history.revision(key) == history.revision("none") == ""


@contextmanager
def held(history, how="EXCLUSIVE"):
    """Another program's lock."""
    other = sqlite3.connect(history.folder / "history.sqlite")
    try:
        other.execute(f"BEGIN {how}")
        yield
    finally:
        other.close()


def test_an_answer_that_cannot_be_kept_is_shown_and_kept_as_soon_as_it_can(history, monkeypatch):
    monkeypatch.setattr("app.history.LOCKED_SECONDS", 0.05)
    monkeypatch.setattr("app.history.SAVE_AGAIN_SECONDS", 0.05)
    key = history.create("one")
    question = history.append(key, Entry(role="user", text="one"))
    with held(history):
        with pytest.raises(HistoryLocked):
            history.keep_answer(key, question, Entry(role="assistant", text="two"))
        assert said(history, key) == ["one", "two"]
    with closing(sqlite3.connect(history.folder / "history.sqlite")) as database:
        while database.execute("SELECT count(*) FROM messages").fetchone() != (2,):
            time.sleep(0.01)
    assert said(History(history.folder), key) == said(history, key) == ["one", "two"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "full"), HistoryFull),
        (OSError(errno.EACCES, "no"), HistoryForbidden),
        (OSError(errno.EROFS, "no"), HistoryForbidden),
        (OSError(errno.EIO, "broken"), HistoryUnavailable),
        ("database or disk is full", HistoryFull),
        ("attempt to write a readonly database", HistoryForbidden),
    ],
    ids=str,
)
def test_each_cause_has_its_own_trouble(history, monkeypatch, error, kind):
    if isinstance(error, str):
        code = {"database": sqlite3.SQLITE_FULL, "attempt": sqlite3.SQLITE_READONLY}[error.split()[0]]
        error = sqlite3.OperationalError(error)
        error.sqlite_errorcode = code

    def connect(*_, **__):
        raise error

    monkeypatch.setattr("app.history.sqlite3.connect", connect)
    with pytest.raises(kind) as told:
        history.create("one")
    assert type(told.value) is kind


def test_a_full_disk_is_told_and_leaves_what_was_there(history):
    key = talk(history, "one", "two")
    with sqlite3.connect(history.folder / "history.sqlite") as database:
        pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.close()
    connect = sqlite3.connect

    def small(*arguments, **named):
        opened = connect(*arguments, **named)
        opened.execute(f"PRAGMA max_page_count = {pages}")
        return opened

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.history.sqlite3.connect", small)
        with pytest.raises(HistoryFull):
            history.append(key, Entry(role="user", text="three " * 100_000))
    assert said(history, key) == ["one", "two"]


def test_a_conversation_whose_picture_was_deleted_by_hand_is_listed_exported_and_imported(history, photo):
    key = talk(history, "What?", "A dog.", photo=photo)
    history.entries(key)[0].pictures[0].unlink()
    again = history.from_json(history.to_json(key))
    assert said(history, again) == ["What?", "A dog."]
    assert to_zip(history, key, {"user": "You", "assistant": "Maya"})


def test_a_half_answer_is_still_half_after_export_and_import(history):
    key = history.create("one")
    question = history.append(key, Entry(role="user", text="one"))
    history.keep_answer(key, question, Entry(role="assistant", text="tw", half=True))
    again = history.from_json(history.to_json(key))
    assert [entry.half for entry in history.entries(again)] == [False, True]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_or_locked_store_is_told(tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "history.sqlite").write_bytes(b"this is no database" * 1000)
    with pytest.raises(HistoryDamaged, match="damaged"):
        History(folder)
    assert (folder / "history.sqlite").read_bytes().startswith(b"this is no database")
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(HistoryForbidden, match="free space"):
        History(file / "data")


def test_many_threads_write_at_once(history):
    key = history.create("all")

    def write(name):
        for number in range(10):
            history.append(key, Entry(role="user", text=f"{name}/{number}"))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [entry.text for entry in history.entries(key)]
    assert len(said) == 80
    for name in range(8):
        assert [text for text in said if text.startswith(f"{name}/")] == [f"{name}/{number}" for number in range(10)]


WRITER = """
import sys
from pathlib import Path
from app.chat import to_messages
from app.exports import to_zip
from app.history import Entry, History
history = History(Path(sys.argv[1]))
key = history.create("killed")
for number in range(100_000):
    history.append(key, Entry(role="user", text=str(number)))
    print(number, flush=True)
"""


def test_a_kill_loses_nothing_that_was_kept(tmp_path):
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(10 + 7 * attempt)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().splitlines() if line.strip()]
        writer.stdout.close()
        writer.wait()
        history = History(folder)
        [conversation] = history.conversations()
        said = [int(entry.text) for entry in history.entries(conversation.id)]
        assert said[: len(acknowledged)] == acknowledged
        assert said == list(range(len(said)))


def test_the_export_is_plain_json(history, photo):
    fields = json.loads(history.to_json(talk(history, "What?", photo=photo)))
    assert fields["messages"][0]["text"] == "What?"
