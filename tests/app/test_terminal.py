"""`maya chat`: the page's conversations in a terminal."""

import io
import os
import signal
from threading import Timer

import pytest

from app.chat import Chat
from app.engine import Loading
from app.history import Entry, History
from app.i18n import Say
from app.settings import Settings
from app.terminal import COMMANDS, TerminalChat, lines_of, lines_typed, pictures_in, stoppable
from maya_core.assets import asset_path
from maya_core.errors import GenerationError
from maya_core.languages import CODES
from tests.app.scripted import ScriptedEngine

PHOTO = str(asset_path("examples") / "1.png")


@pytest.fixture
def talk(tmp_path):
    """talk(lines...) -> what is answered, and what is told beside it, in a terminal that speaks `code`."""

    def talk(*lines, engine=None, code="en", loading=lambda: None):
        out, err = io.StringIO(), io.StringIO()
        chat = Chat(engine=engine or ScriptedEngine("An ", "answer."), history=history, settings=Settings())
        terminal = TerminalChat(chat, Say(code), loading=loading, out=out, err=err)
        terminal.run(lines_of(lines))
        return out.getvalue(), err.getvalue()

    history = talk.history = History(tmp_path / "data")
    return talk


def said(history):
    [conversation] = history.conversations()
    return [(entry.role, entry.text, len(entry.pictures)) for entry in history.entries(conversation.id)]


def test_a_conversation_is_answered_and_kept_for_the_page(talk):
    out, _ = talk(f"{PHOTO} What is this?", "And its colour?")
    assert out == "An answer.\nAn answer.\n"
    assert said(talk.history) == [
        ("user", "What is this?", 1), ("assistant", "An answer.", 0),
        ("user", "And its colour?", 0), ("assistant", "An answer.", 0),
    ]  # fmt: skip


def test_pictures_wait_for_the_question(talk):
    _, err = talk(PHOTO, f"/picture {PHOTO}", "/picture no-such.png", "What are these?")
    assert err.count("This goes with your next question.") == 2
    assert "There is no file no-such.png." in err
    assert said(talk.history)[0] == ("user", "What are these?", 2)


def test_a_picture_that_cannot_be_read_is_told_alone_and_not_asked_about_again(talk, tmp_path):
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    out, err = talk(f"{PHOTO} What is this?", f"{cut} And this?", "And its colour?")
    assert out == "An answer.\nAn answer.\n"
    assert err.count("This file is not a picture that can be read. Choose another one.") == 1
    assert [text for role, text, _ in said(talk.history) if role == "user"] == ["What is this?", "And its colour?"]


def test_a_path_of_no_file_beside_words_is_told_and_the_line_comes_back(talk):
    engine = ScriptedEngine("No.")
    begun = []
    typed = iter([f"{PHOTO} no-such.JPG What?"])

    def lines(before=""):
        begun.append(before)
        return next(typed, None) or _end()

    err = io.StringIO()
    chat = Chat(engine=engine, history=talk.history, settings=Settings())
    TerminalChat(chat, Say("en"), out=io.StringIO(), err=err).run(lines)
    assert "There is no file no-such.JPG." in err.getvalue()
    assert begun == ["", f"{PHOTO} no-such.JPG What?"]
    assert engine.asked == ()


def test_a_folder_beside_words_is_no_picture_and_a_stroke_between_words_is_no_folder(talk, tmp_path):
    _, err = talk(f"{PHOTO} What is this?", f"{tmp_path} And this?", "A cup / a mug, and/or a glass?")
    assert f"There is no file {tmp_path}." in err
    assert [text for role, text, _ in said(talk.history) if role == "user"] == [
        "What is this?", "A cup / a mug, and/or a glass?",
    ]  # fmt: skip


def test_without_a_picture_it_is_asked_for_and_the_question_comes_back(talk):
    begun = []
    typed = iter(["What?", f"{PHOTO} What?"])

    def lines(before=""):
        begun.append(before)
        return next(typed, None) or pytest.fail("no end") if len(begun) < 3 else _end()

    out, err = io.StringIO(), io.StringIO()
    chat = Chat(engine=ScriptedEngine("Yes."), history=talk.history, settings=Settings())
    TerminalChat(chat, Say("en"), out=out, err=err).run(lines)
    assert begun == ["", "What?", ""]
    assert "Add a picture first." in err.getvalue()
    assert out.getvalue() == "Yes.\n"


def _end():
    raise EOFError


@pytest.mark.parametrize("code", CODES)
def test_commands_are_named_in_every_language_and_in_english(talk, code):
    say = Say(code)
    names = [say(command) for command in COMMANDS]
    assert len(set(names)) == len(names)
    assert all(name.startswith("/") and " " not in name for name in names)
    for help_ in (say("/help"), "/help"):
        _, err = talk(help_, code=code)
        assert all(f"{say(name)}: {say(does)}" in err for name, does in COMMANDS.items())
    out, _ = talk(say("/quit"), f"{PHOTO} What?", code=code)
    assert out == ""


def test_a_conversation_of_the_list_goes_on(talk):
    key = talk.history.create("A cat\x1b[2J")
    talk.history.append(key, Entry(role="user", text="What?", pictures=(talk.history.keep_picture(PHOTO),)))
    talk.history.append(key, Entry(role="assistant", text="A cat."))
    _, err = talk("/list", "/open 7", "/open ١", "Which colour?")
    assert "1  A cat[2J\n" in err  # nothing of it moves the terminal's cursor
    assert "There is no conversation with this number." in err
    assert "[Picture]\n> What?\nA cat.\n" in err
    assert said(talk.history)[2:] == [("user", "Which colour?", 0), ("assistant", "An answer.", 0)]
    talk("/new", f"{PHOTO} What?")
    assert len(talk.history.conversations()) == 2


def test_an_unknown_command_is_not_asked(talk):
    engine = ScriptedEngine("No.")
    _, err = talk("/pictur", engine=engine)
    assert "There is no command /pictur. /help tells more." in err
    assert engine.asked == ()


def test_ctrl_c_stops_the_answer_and_its_half_is_kept(talk):
    def answer(_):
        yield "A half"
        signal.raise_signal(signal.SIGINT)
        yield ", which ends here"
        pytest.fail("it went on")

    engine = ScriptedEngine(answer=answer)
    before = signal.getsignal(signal.SIGINT)
    out, err = talk(f"{PHOTO} What?", "/list", engine=engine)
    assert out.startswith("A half")
    assert "Stopped. What was said is kept." in err
    assert said(talk.history)[1][1] == out.rstrip("\n")
    assert engine.closed.is_set()
    assert signal.getsignal(signal.SIGINT) == before


def test_ctrl_c_again_interrupts():
    with stoppable() as is_stopped:
        signal.raise_signal(signal.SIGINT)
        assert is_stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_trouble_is_told_in_the_language(talk):
    _, err = talk(f"{PHOTO} ?", engine=ScriptedEngine(trouble=GenerationError("NaN")), code="ur")
    assert Say("ur")("The model could not answer. Ask again, or start Maya anew.") in err


@pytest.mark.parametrize("path", ["nowhere.png", "a" * 5000, "~nobody-of-this-name/x.png", "\0"])
def test_a_picture_that_is_not_there_is_told(talk, path):
    _, err = talk(f"/picture {path}")
    assert "There is no file" in err


def test_how_long_loading_takes_is_told_before(talk):
    stages = iter([Loading(seconds=640.0), Loading(share=0.5, seconds=640.0)])
    _, err = talk(f"{PHOTO} What?", loading=lambda: next(stages, None))
    assert "takes about 11 min on this computer" in err


@pytest.mark.parametrize(
    "written", ["{}", "'{}'", '"{}"', "{escaped}", "file://{quoted}", "  {}  ", "'{}' "], ids=range(7)
)
def test_a_dropped_path_is_a_picture_however_the_terminal_writes_it(tmp_path, written):
    name = "کپ.png" if written.strip() == "{}" else "my cup's (1).png" if "'" not in written else "my cup.png"
    file = tmp_path / name
    file.touch()
    escaped = "".join(f"\\{letter}" if letter in " '()" else letter for letter in str(file))
    line = written.format(file, escaped=escaped, quoted=str(file).replace(" ", "%20").replace("'", "%27"))
    assert pictures_in(line) == ([str(file)], "")
    assert pictures_in(f"{line} یہ کیا ہے؟") == ([str(file)], "یہ کیا ہے؟")


@pytest.mark.parametrize(
    "line",
    ["What's  this?", "it's 'quoted", "a\\", "x.png", "\0.png", "~nobody/x.png", "~7 cups?", "a" * 5000 + ".png"],
)
def test_other_words_stay_as_they_are(line):
    assert pictures_in(line) == ([], line)


@pytest.mark.skipif(os.name == "nt", reason="a pipe in the place of a terminal")
def test_lines_are_typed_and_what_came_back_stands_in_the_next(tmp_path):
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    with create_pipe_input() as typed, create_app_session(input=typed, output=DummyOutput()):
        lines = lines_typed(Say("hi"))
        typed.send_text("यह क्या है?\r")
        assert lines() == "यह क्या है?"
        typed.send_text("!\r")
        assert lines("What?") == "What?!"
        later = Timer(1, typed.send_text, ("\r",))  # what completes is looked for meanwhile
        typed.send_text("/lis\t")
        later.start()
        assert lines() == "/list"
        (tmp_path / "cup.png").touch()
        later = Timer(1, typed.send_text, (" यह क्या है?\r",))
        typed.send_text(f"{tmp_path}/cu\t")
        later.start()
        assert lines() == f"{tmp_path}/cup.png यह क्या है?"
        typed.send_text("\x03")
        with pytest.raises(KeyboardInterrupt):
            lines()
        typed.send_text("\x04")
        with pytest.raises(EOFError):
            lines()
