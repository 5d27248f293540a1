"""A conversation as a file to keep."""

from io import BytesIO
from urllib.parse import unquote
from zipfile import ZipFile

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from app.exports import exporter, file_name, to_zip
from app.history import Entry, History
from maya_core.model.images import MOST_BYTES, open_image
from tests.app.client import events_of, join, listen, upload
from tests.tiny import picture

NAMES = {"user": "آپ", "assistant": "Maya", "system": "Maya"}


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "data")


@pytest.fixture
def key(history, tmp_path):
    """A conversation with two pictures, then one."""
    file = tmp_path / "photo.png"
    picture().save(file)
    key = history.create("یہ کیا ہے؟")
    for pictures, text in ((2, "یہ کیا ہے؟ *"), (1, "اور یہ؟")):
        history.append(
            key, Entry(role="user", text=text, pictures=tuple(history.keep_picture(file) for _ in range(pictures)))
        )
        history.append(key, Entry(role="assistant", text="**ایک** سیب"))
    return key


def test_markdown_comes_with_its_pictures_beside_it(history, key):
    with ZipFile(BytesIO(to_zip(history, key, NAMES))) as archive:
        assert archive.testzip() is None
        *pictures, words = archive.namelist()
        text = archive.read(words).decode()
        kept = [file for entry in history.entries(key) for file in entry.pictures]
        assert [archive.read(inside) for inside in pictures] == [file.read_bytes() for file in kept]
        assert open_image(archive.read(pictures[0])).size == open_image(kept[0]).size
    assert words == "یہ کیا ہے؟.md"
    assert pictures == ["pictures/1.png", "pictures/2.png", "pictures/3.png"]
    assert text.startswith(
        "# یہ کیا ہے؟\n\n**آپ**\n\n![](pictures/1.png)\n\n![](pictures/2.png)\n\nیہ کیا ہے؟ \\*\n\n**Maya**\n\n**ایک** سیب"
    )


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("यह क्या है?", "यह क्या है"),
        ("これは何？", "これは何？"),
        ('a/b\\c: "d" <e>|f*\n', "a b c d e f"),
        ("..\u202egnp.exe", "gnp.exe"),
        ("A question that is long…", "A question that is long"),
        ("??", "Maya"),
    ],
)
def test_a_file_keeps_the_letters_of_every_script_in_its_name(title, name):
    assert file_name(title) == name


@pytest.mark.parametrize("ending", ["zip", "json"])
def test_the_browser_is_told_the_name(history, key, ending):
    client = TestClient(Starlette(routes=[Route("/conversations/{conversation}.{ending}", exporter(history))]))
    answer = client.get(f"/conversations/{key}.{ending}?language=ur")
    assert answer.headers["content-type"] == f"application/{ending}"
    assert unquote(answer.headers["content-disposition"].split("''")[1]) == f"یہ کیا ہے؟.{ending}"
    assert client.get(f"/conversations/{key}.md").status_code == 404
    assert client.get(f"/conversations/{'0' * 32}.{ending}").status_code == 404


@pytest.mark.long(20)
def test_an_export_of_many_photographs_can_be_imported_on_the_page(site):
    """Twelve of which each is as large as one is kept: more than any picture that is taken may have."""
    history = site.history
    key = history.create("Holidays")
    for number in range(12):
        file = history.pictures / f"{number:032x}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (800, 800, 3), np.uint8)).save(file)
        history.append(key, Entry(role="user", text=f"What is {number}?", pictures=(file,)))
        history.append(key, Entry(role="assistant", text="Noise."))
    with httpx.Client(base_url=site.address.rstrip("/"), timeout=300) as client:
        exported = client.get(f"/conversations/{key}.json").content
        assert len(exported) > MOST_BYTES
        path = upload(client, exported, "Holidays.json")
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        *_, last = listen(client, join(client, events_of(site)["bring_in"], [file, "", "en"]))
    assert last["success"], last
    [again, _] = history.conversations()
    assert again.id != key
    entries = history.entries(again.id)
    assert [entry.text for entry in entries[::2]] == [f"What is {number}?" for number in range(12)]
    assert all(entry.pictures[0].is_file() for entry in entries[::2])
