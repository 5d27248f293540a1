"""What the page shows and what the model reads."""

import html
import sqlite3
from dataclasses import replace

import pytest

from app.chat import EMPTY, Chat, answer_languages, to_messages
from app.engine import Looking, OneAtATime, Piece, Queued
from app.history import Entry, History, HistoryLocked, PictureGone, TurnGone
from app.i18n import tell, translate
from app.settings import Settings
from maya_core.errors import GenerationError, ImageError
from maya_core.languages import CODES, get_language
from maya_core.model.images import open_image
from tests.app.scripted import ScriptedEngine
from tests.tiny import picture


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    picture().save(file)
    return str(file)


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "data")


def chat(engine, history, **settings):
    return Chat(engine=engine, history=history, settings=Settings(**settings))


def asked(entries):
    return [(message.role, message.text, len(message.images)) for message in entries]


def test_the_answer_grows_piece_by_piece_and_is_kept(photo, history):
    engine = ScriptedEngine("यह ", "", "कुत्ता ", "है।")
    views = list(chat(engine, history).ask(None, {"text": " यह क्या है? ", "files": [photo]}))
    grown = ["यह क्या है?", "यह ", "यह ", "यह कुत्ता ", "यह कुत्ता है।", "यह कुत्ता है।"]
    assert [html.unescape(view.shown[-1]["content"]) for view in views] == grown  # a question refers to its signs
    assert all(view.typed == EMPTY and view.notice == "" for view in views)
    assert asked(engine.asked) == [("user", "यह क्या है?", 1)]
    key = views[-1].conversation
    question, answer = history.entries(key)
    assert (question.text, answer.text, answer.tokens) == ("यह क्या है?", "यह कुत्ता है।", 4)
    assert history.title(key) == "यह क्या है?"
    assert open_image(question.pictures[0]).tobytes() == open_image(photo).tobytes()


def test_what_an_answer_waits_for_is_told_and_how_long_it_did(photo, history, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("app.chat.time.monotonic", lambda: next(clock))

    class Waits(ScriptedEngine):
        def stream(self, messages, **options):
            yield Piece(waits=Queued(ahead=2))
            yield Piece(waits=Looking(pictures=1))
            yield from super().stream(messages, **options)

    views = list(chat(Waits("A ", "dog."), history).ask(None, {"text": "What?", "files": [photo]}))
    assert [view.waits for view in views] == [None, Queued(ahead=2), Looking(pictures=1), None, None, None]
    answer = history.entries(views[-1].conversation)[-1]
    assert (answer.waited, answer.seconds) == (3, 4)


def test_a_second_question_keeps_the_picture(photo, history):
    engine = ScriptedEngine("A dog.")
    talk = chat(engine, history)
    key = list(talk.ask(None, {"text": "What is this?", "files": [photo]}))[-1].conversation
    list(talk.ask(key, {"text": "Which colour?", "files": []}))
    assert asked(engine.asked) == [
        ("user", "What is this?", 1),
        ("assistant", "A dog.", 0),
        ("user", "Which colour?", 0),
    ]


def test_several_pictures_in_a_turn_are_all_shown_to_the_model(photo, history):
    engine = ScriptedEngine("Two.")
    view = list(chat(engine, history).ask(None, {"text": "How many?", "files": [photo, photo]}))[-1]
    assert asked(engine.asked) == [("user", "How many?", 2)]
    assert [sorted(entry["content"]) for entry in view.shown[:2]] == [["path"], ["path"]]


def test_a_new_picture_starts_anew(photo, history):
    picture = history.keep_picture(photo)
    first = Entry(role="user", text="What?", pictures=(picture,))
    entries = [first, Entry(role="assistant", text="A dog."), replace(first, text="And this?")]
    assert asked(to_messages(entries)) == [("user", "And this?", 1)]


def test_a_question_that_was_stopped_is_left_out_and_its_picture_stays(photo, history):
    stopped = Entry(role="user", text="stopped", pictures=(history.keep_picture(photo),))
    later = [Entry(role="user", text="stopped too"), Entry(role="user", text="asked again")]
    assert asked(to_messages([stopped, *later])) == [("user", "asked again", 1)]
    answered = [*later, Entry(role="assistant", text="Yes."), Entry(role="user", text="Sure?")]
    expected = [("user", "asked again", 1), ("assistant", "Yes.", 0), ("user", "Sure?", 0)]
    assert asked(to_messages([stopped, *answered])) == expected


@pytest.mark.parametrize("code", CODES)
def test_the_answer_can_be_wanted_in_any_language(photo, history, code):
    engine = ScriptedEngine("…")
    talk = chat(engine, history, answer_language=code, temperature=0.5, most_tokens=64)
    key = list(talk.ask(None, {"text": "What is this?", "files": [photo]}))[-1].conversation
    assert engine.asked[0].text == ("What is this?" if code == "en" else f"What is this?\n{get_language(code).request}")
    assert engine.options == {"temperature": 0.5, "most_tokens": 64}
    assert history.entries(key)[0].text == "What is this?"


@pytest.mark.parametrize("code", CODES)
def test_a_question_that_says_too_little_is_answered_as_the_conversation_goes_on(photo, history, code):
    opening = {"hi": "यह क्या है?", "ja": "これは何ですか？", "fr": "Qu'est-ce que c'est ?"}
    for spoken, question in opening.items():
        engine = ScriptedEngine("…")
        talk = Chat(engine=engine, history=history, settings=Settings(), interface=code)
        key = list(talk.ask(None, {"text": question, "files": [photo]}))[-1].conversation
        list(talk.ask(key, {"text": "?", "files": [photo]}))
        assert engine.asked[-1].text == f"?\n{get_language(spoken).request}"
        list(talk.ask(None, {"text": "?", "files": [photo]}))
        assert engine.asked[-1].text == f"?\n{get_language(code).request}"


@pytest.mark.parametrize("code", CODES)
def test_a_question_in_none_of_the_ten_is_answered_in_the_interface_s_and_that_is_told(photo, history, code):
    engine = ScriptedEngine("a", "b")
    typed = {"text": "Was ist das?", "files": [photo]}
    talk = Chat(engine=engine, history=history, settings=Settings(), interface=code)
    views = list(talk.ask(None, typed))
    assert engine.asked[0].text == f"Was ist das?\n{get_language(code).request}"
    assert {tell(view.notice, code) for view in views[1:]} == {get_language(code).unknown}
    *_, again = talk.ask_again(views[-1].conversation, views[-1].turns[0], "What is this?")
    assert (again.notice, engine.asked[0].text) == ("", "What is this?")
    chosen = Chat(engine=engine, history=history, settings=Settings(answer_language="ru"), interface=code)
    assert not any(view.notice for view in chosen.ask(None, typed))


def test_each_question_keeps_the_language_it_was_asked_for_in():
    said = ("What is this?", "Colour?", "یہ کیا ہے؟", "ok", "yeh kya hai")
    decided = answer_languages([Entry(role="user", text=text) for text in said], None, "hi")
    assert [language.code for language in decided.values()] == ["en", "en", "ur", "ur", "ur"]
    assert [language.code for language in answer_languages([Entry(role="user", text="?")], "bn", "hi").values()] == [
        "bn"
    ]


@pytest.mark.parametrize("language", CODES)
def test_trouble_is_told_and_nothing_is_lost(photo, tmp_path, history, language):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"not a picture")
    unreadable = "This file is not a picture that can be read. Choose another one."
    cases = [
        ({"text": "What?", "files": [str(damaged)]}, unreadable),
        ({"text": "  ", "files": [photo]}, "Type a question first."),
        ({"text": "x" * 8001, "files": [photo]}, "This question is too long. Shorten it to {characters} characters."),
        ({"text": "What?", "files": []}, "Add a picture first."),
    ]
    for typed, sentence in cases:
        [view] = chat(ScriptedEngine(), history).ask(None, typed)
        assert (view.typed, view.shown, view.conversation) == (typed, [], None)
        assert tell(view.notice, language) == translate(sentence, language).replace("{characters}", "8000")
    assert history.conversations() == []


@pytest.mark.parametrize("language", CODES)
def test_of_several_pictures_the_trouble_says_which_it_is_about(photo, tmp_path, history, language):
    damaged = tmp_path / "my_*dog*.png"
    damaged.write_bytes(b"not a picture")
    [view] = chat(ScriptedEngine(), history).ask(None, {"text": "What?", "files": [photo, str(damaged)]})
    sentence = translate("This file is not a picture that can be read. Choose another one.", language)
    assert tell(view.notice, language) == f"\u2068my_*dog*.png\u2069: {sentence}"  # in its own direction


@pytest.mark.parametrize("language", CODES)
def test_a_question_that_the_model_could_not_answer_goes_back_into_the_box(photo, history, language):
    typed = {"text": "What?", "files": [photo]}
    engine = ScriptedEngine(trouble=GenerationError("NaN"))
    view = list(chat(engine, history).ask(None, typed))[-1]
    assert view.typed == typed
    assert view.shown == []
    assert tell(view.notice, language) == translate(
        "The model could not answer. Ask again, or start Maya anew.", language
    )
    again = list(chat(ScriptedEngine("A dog."), history).ask(view.conversation, view.typed))[-1]
    assert [entry.text for entry in history.entries(again.conversation)] == ["What?", "A dog."]


def test_what_came_before_the_trouble_is_kept(photo, history):
    engine = ScriptedEngine("A ", trouble=GenerationError("NaN"))
    view = list(chat(engine, history).ask(None, {"text": "What?", "files": [photo]}))[-1]
    assert view.notice
    assert view.typed == EMPTY
    assert [entry.text for entry in history.entries(view.conversation)] == ["What?", "A "]


def test_stopping_closes_the_engine_and_keeps_what_was_said(photo, history):
    engine = ScriptedEngine("one ", "two ", "three")
    views = chat(engine, history).ask(None, {"text": "What?", "files": [photo]})
    key = [next(views) for _ in range(3)][-1].conversation
    assert not engine.closed.is_set()
    views.close()
    assert engine.closed.is_set()
    assert [entry.text for entry in history.entries(key)] == ["What?", "one two "]


@pytest.mark.parametrize(
    "after", range(7)
)  # views: before the start, while the prompt is read, in the middle, at the end
def test_stopped_at_any_moment_and_twice_the_place_is_free_and_what_came_is_kept_once(photo, history, after):
    queue = OneAtATime(ScriptedEngine("one ", "two ", "three"))
    views = chat(queue, history).ask(None, {"text": "What?", "files": [photo]})
    seen = [view for _, view in zip(range(after), views, strict=False)]
    views.close()
    views.close()
    assert queue.busy == 0
    kept = [entry.text for conversation in history.conversations() for entry in history.entries(conversation.id)]
    assert kept[:1] == ["What?"][: len(seen)]
    assert len(kept) <= 2
    assert "one two three".startswith("".join(kept[1:]))
    if after >= 3:
        assert kept[1] == seen[-1].shown[-1]["content"]
    again = list(chat(queue, history).ask(None, {"text": "And?", "files": [photo]}))
    assert again[-1].shown[-1]["content"] == "one two three"


def test_a_question_can_be_asked_again_and_in_other_words(photo, history):
    engine = ScriptedEngine(answer=lambda messages: [f"{messages[-1].text.splitlines()[0]}!"])
    talk = chat(engine, history)
    key = list(talk.ask(None, {"text": "first", "files": [photo]}))[-1].conversation
    list(talk.ask(key, {"text": "second", "files": []}))
    seen = talk.view(key)  # picture, first, first!, second, second!
    first, second = seen.turns[0], seen.turns[3]
    assert [talk.question_of(key, turn) for turn in seen.turns] == [first, first, first, second, second]
    list(talk.ask_again(key, second))
    assert [entry.text for entry in history.entries(key)] == ["first", "first!", "second", "second!"]
    second = talk.view(key).turns[3]
    view = list(talk.ask_again(key, second, "other"))[-1]
    assert [entry.text for entry in history.entries(key)] == ["first", "first!", "other", "other!"]
    assert asked(engine.asked)[-1] == ("user", "other", 0)
    assert view.typed == EMPTY
    [refused] = talk.ask_again(key, view.turns[0], "  ")
    assert tell(refused.notice, "en") == "Type a question first."
    [gone] = talk.ask_again(key, second, "third")
    assert isinstance(gone.notice, TurnGone)
    assert gone.typed["text"] == "third"
    assert [entry.text for entry in history.entries(key)] == ["first", "first!", "other", "other!"]
    assert len(history.conversations()) == 1


def three_turns(engine, history, photo):
    """A chat with a conversation of three questions, its id, and the ids of the turns."""
    talk = chat(engine, history)
    key = list(talk.ask(None, {"text": "first", "files": [photo]}))[-1].conversation
    for text in ("second", "third"):
        list(talk.ask(key, {"text": text, "files": []}))
    return talk, key, [entry.id for entry in history.entries(key)]


def said(history, key):
    return [entry.text for entry in history.entries(key)]


def repeating():
    return ScriptedEngine(answer=lambda messages: [f"{messages[-1].text.splitlines()[0]}!"])


ALL = ["first", "first!", "second", "second!", "third", "third!"]


@pytest.mark.parametrize("text", [None, "other"], ids=["again", "edited"])
def test_an_early_question_asked_again_leaves_the_conversation_as_it_was(photo, history, text):
    talk, key, turns = three_turns(repeating(), history, photo)
    *_, view = talk.ask_again(key, turns[2], text, seen=turns)
    asks = text or "second"
    assert said(history, key) == ALL
    assert said(history, view.conversation) == ["first", "first!", asks, f"{asks}!"]
    assert [message.text.split("\n")[0] for message in talk.engine.asked] == ["first", "first!", asks]
    assert {view.conversation, key} == {one.id for one in history.conversations()}
    assert view.notice == "The conversation as it was stays in the list; this is a new one."
    *_, view = talk.ask_again(key, turns[0], text)
    asks = text or "first"
    assert history.title(view.conversation) == asks  # a title that was its first question
    assert (said(history, key), said(history, view.conversation)) == (ALL, [asks, f"{asks}!"])


def test_pictures_of_a_branch_survive_the_deletion_of_either_conversation(photo, history):
    for goes in ("before", "branch"):
        talk, key, turns = three_turns(repeating(), history, photo)
        *_, view = talk.ask_again(key, turns[2])
        deleted, left = (key, view.conversation) if goes == "before" else (view.conversation, key)
        history.delete(deleted)
        history.purge()
        [file] = history.entries(left)[0].pictures
        assert file.is_file()
        *_, view = talk.ask(left, {"text": "more", "files": []})
        assert (view.notice, view.shown[-1]["content"]) == ("", "more!")


@pytest.mark.parametrize("text", [None, "other"], ids=["again", "edited"])
def test_a_branch_whose_question_could_not_be_answered_leaves_nothing_and_the_words_come_back(photo, history, text):
    _, key, turns = three_turns(repeating(), history, photo)
    failing = chat(ScriptedEngine(trouble=GenerationError("NaN")), history)
    *_, view = failing.ask_again(key, turns[2], text)
    assert (view.conversation, view.typed["text"], isinstance(view.notice, GenerationError)) == (key, text or "", True)
    assert [one.id for one in history.conversations()] == [key]
    assert said(history, key) == ALL
    views = failing.ask_again(key, turns[2], text)
    branch = next(views).conversation
    views.close()  # stopped before a word: it can be gone on with
    assert (said(history, key), said(history, branch)) == (ALL, ["first", "first!", text or "second"])
    *_, view = chat(repeating(), history).go_on(branch)
    assert view.shown[-1]["content"] == f"{text or 'second'}!"


@pytest.mark.parametrize("text", [None, "Other words"], ids=["again", "edited"])
def test_an_answer_stays_until_another_has_a_word(photo, history, text):
    talk = chat(ScriptedEngine("A dog."), history)
    key = list(talk.ask(None, {"text": "What?", "files": [photo]}))[-1].conversation
    failing = chat(ScriptedEngine(trouble=GenerationError("NaN")), history)
    *_, view = failing.ask_again(key, talk.view(key).turns[0], text)
    assert [entry.text for entry in history.entries(key)] == ["What?", "A dog."]
    assert view.typed["text"] == (text or "")
    views = talk.ask_again(key, talk.view(key).turns[0], text)
    next(views)
    views.close()
    assert [entry.text for entry in history.entries(key)] == ["What?", "A dog.", *([text] if text else [])]


def test_a_failed_first_question_leaves_no_conversation_and_comes_back_or_stays_where_nobody_takes_it(photo, history):
    typed = {"text": "What?", "files": [photo]}
    failing = chat(ScriptedEngine(trouble=GenerationError("NaN")), history)
    *_, view = failing.ask(None, typed)
    assert (view.conversation, view.typed, history.conversations()) == (None, typed, [])
    *_, view = replace(failing, is_heard=lambda: False).ask(None, typed)
    assert (view.typed, view.half, len(view.shown)) == (EMPTY, True, 2)
    *_, view = chat(ScriptedEngine("A dog."), history).go_on(view.conversation)
    assert [entry.text for entry in history.entries(view.conversation)] == ["What?", "A dog."]


def test_a_refused_question_of_a_page_that_has_gone_is_kept_with_what_can_be_read(photo, history, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    talk = replace(chat(ScriptedEngine("A dog."), history), is_heard=lambda: False)
    [view] = talk.ask(None, {"text": "What?", "files": [photo, cut]})
    assert (view.typed, view.half) == (EMPTY, True)
    assert isinstance(view.notice, ImageError)
    [entry] = history.entries(view.conversation)
    assert (entry.text, len(entry.pictures)) == ("What?", 1)
    *_, view = talk.go_on(view.conversation)
    assert view.answer.text == "A dog."
    [view] = talk.ask(None, {"text": "And this?", "files": []})
    assert [entry.text for entry in history.entries(view.conversation)] == ["And this?"]


def test_a_question_that_is_gone_on_with_in_vain_stays(photo, history):
    failing = chat(ScriptedEngine(trouble=GenerationError("NaN")), history)
    *_, left = replace(failing, is_heard=lambda: False).ask(None, {"text": "What?", "files": [photo]})
    *_, view = failing.go_on(left.conversation)
    assert [entry.text for entry in history.entries(left.conversation)] == ["What?"]
    assert view.half


def test_a_half_answer_is_marked_and_gone_on_with(photo, history):
    engine = ScriptedEngine("one ", "two ", "three")
    talk = chat(engine, history)
    views = talk.ask(None, {"text": "What?", "files": [photo]})
    key = [next(views) for _ in range(3)][-1].conversation
    views.close()
    assert talk.view(key).half
    assert [entry.half for entry in History(history.folder).entries(key)] == [False, True]
    more = chat(ScriptedEngine("three ", "four"), history)
    *_, view = more.go_on(key)
    question, half = more.engine.asked
    assert (question.role, half.role, half.text, half.is_half) == ("user", "assistant", "one two ", True)
    assert [entry.text for entry in history.entries(key)] == ["What?", "one two three four"]
    assert (view.half, view.answer.tokens) == (False, 4)
    [same] = more.go_on(key)
    assert same.shown == view.shown


def test_what_has_come_of_an_answer_is_kept_as_it_comes(photo, history, monkeypatch):
    monkeypatch.setattr("app.chat.KEPT_SECONDS", 0.0)
    views = chat(ScriptedEngine("one ", "two ", "three"), history).ask(None, {"text": "What?", "files": [photo]})
    key = [next(views) for _ in range(3)][-1].conversation
    kept = [(entry.text, entry.half) for entry in History(history.folder).entries(key)]  # as after a crash
    assert kept == [("What?", False), ("one two ", True)]
    list(views)
    assert [(entry.text, entry.half) for entry in history.entries(key)] == [("What?", False), ("one two three", False)]


def test_an_answer_that_filled_its_length_can_be_gone_on_with(photo, history):
    talk = chat(ScriptedEngine(*["word "] * 32), history, most_tokens=32)
    *_, view = talk.ask(None, {"text": "What?", "files": [photo]})
    assert view.half


def test_an_answer_that_cannot_be_kept_stays_on_the_page(photo, history, monkeypatch):
    monkeypatch.setattr("app.history.LOCKED_SECONDS", 0.05)
    views = chat(ScriptedEngine("A ", "dog."), history).ask(None, {"text": "What?", "files": [photo]})
    key = [next(views) for _ in range(2)][-1].conversation
    other = sqlite3.connect(history.folder / "history.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    *_, view = views
    assert isinstance(view.notice, HistoryLocked)
    assert view.shown[-1]["content"] == "A dog."
    other.close()
    history.save()
    assert [entry.text for entry in History(history.folder).entries(key)] == ["What?", "A dog."]


def test_a_picture_that_was_deleted_by_hand_is_told_and_a_new_one_goes_on(photo, history):
    talk = chat(ScriptedEngine("A dog."), history)
    key = list(talk.ask(None, {"text": "What?", "files": [photo]}))[-1].conversation
    history.entries(key)[0].pictures[0].unlink()
    view = talk.view(key)
    assert isinstance(view.notice, PictureGone)
    assert "path" not in str(view.shown[0])
    *_, view = talk.ask(key, {"text": "And now?", "files": []})
    assert isinstance(view.notice, PictureGone)
    assert view.typed["text"] == "And now?"
    *_, view = talk.ask(key, {"text": "And now?", "files": [photo]})
    assert view.shown[-1]["content"] == "A dog."


@pytest.mark.parametrize("language", CODES)
def test_a_conversation_too_long_for_the_model_is_answered_and_that_is_told(photo, history, language):
    class Forgetful(ScriptedEngine):
        def stream(self, messages, **options):
            for piece in super().stream(messages, **options):
                yield replace(piece, left_out=3)

    *_, last = chat(Forgetful("a", "b"), history).ask(None, {"text": "What?", "files": [photo]})
    assert last.shown[-1]["content"] == "ab"
    assert tell(last.notice, language) == translate(
        "This conversation is long; the model no longer sees its beginning.", language
    )
