"""The table of answers: what is in it stays, and a later run knows it."""

import csv
import json
import os

import pytest

from maya_core.commands.rows import COLUMNS, Row, RowFile
from maya_core.errors import MayaError

ROWS = [
    Row(picture="a.png", question='What, "this"?', answer="Two\nlines", language="en"),
    Row(picture="کپ.png", question="یہ کیا ہے؟", answer="یہ ایک کپ ہے۔", language="ur"),
    Row(picture="broken.png", question="?", error="It cannot be read."),
]
BOTH = pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])


def read(path) -> list[dict[str, str]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def pairs(rows):
    return {(row.picture, row.question) for row in rows}


@BOTH
def test_rows_are_read_as_they_were_written(tmp_path, name):
    path = tmp_path / name
    assert RowFile(path).done == set()
    RowFile(path).add(ROWS[:1])
    RowFile(path).add(ROWS[1:])
    file = RowFile(path)
    assert (file.done, file.failed) == (pairs(ROWS[:2]), pairs(ROWS[2:]))
    assert [Row(**row) for row in read(path)] == ROWS


@BOTH
def test_of_a_file_cut_off_anywhere_the_whole_rows_stay_and_it_grows_on(tmp_path, name):
    path = tmp_path / name
    RowFile(path).add(ROWS)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        file = RowFile(path)
        missing = [row for row in ROWS if (row.picture, row.question) not in file.done | file.failed]
        file.add(missing)
        assert [Row(**row) for row in read(path)] == ROWS, length


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("out.csv", "name,age\r\nAda,36\r\n"),
        ("out.csv", ",".join(COLUMNS) + '\r\na,b,c\r\n"x,1,2,3,4\r\n'),
        ("out.csv", "My diary\n"),
        ("out.jsonl", '{"a": 1}\n'),
        ("out.jsonl", '{"picture": 1, "question": "b"}\n'),
        ("out.jsonl", 'x\n{"picture": "a", "question": "b"}\n'),
    ],
)
def test_what_is_no_table_of_ours_is_left_as_it_is(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(MayaError, match="holds something else"):
        RowFile(tmp_path / name)
    assert (tmp_path / name).read_bytes() == content.encode()


def test_a_spreadsheet_may_have_saved_it(tmp_path):
    path = tmp_path / "out.csv"
    RowFile(path).add(ROWS)
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").removeprefix("\ufeff".encode()))
    file = RowFile(path)
    assert file.done | file.failed == pairs(ROWS)


@BOTH
def test_rows_without_an_answer_that_are_asked_again_make_room_and_no_other_changes(tmp_path, name):
    path = tmp_path / name
    others = [Row(picture="gone.png", question="?", error="No\nfile."), *ROWS[:2]]
    RowFile(path).add([ROWS[2], *others])
    path.chmod(0o640)
    file = RowFile(path)
    file.forget_failed(pairs(ROWS))
    assert file.failed == {("gone.png", "?")}
    file.add([answered := Row(picture="broken.png", question="?", answer="A cup.", language="en")])
    assert [Row(**row) for row in read(path)] == [*others, answered]
    assert RowFile(path).done == pairs(ROWS)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in tmp_path.iterdir()] == [name]


@BOTH
@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="Windows asks for rights to link")
def test_rows_are_taken_away_through_a_link(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "elsewhere" / name)
    RowFile(tmp_path / name).add(ROWS)
    RowFile(tmp_path / name).forget_failed(pairs(ROWS))
    assert (tmp_path / name).is_symlink()
    assert RowFile(tmp_path / "elsewhere" / name).failed == set()


def test_other_endings_and_places_are_told(tmp_path):
    with pytest.raises(MayaError, match=r"\.csv or \.jsonl"):
        RowFile(tmp_path / "out.txt")
    with pytest.raises(MayaError, match="cannot be written"):
        RowFile(tmp_path / "nowhere" / "out.csv")


@BOTH
def test_a_picture_whose_name_has_bytes_that_are_no_letters_is_known_again(tmp_path, name):
    pictures = [os.fsdecode(b"cup\xff.png"), os.fsdecode(b"cup\xfe.png")]
    RowFile(tmp_path / name).add([Row(picture=pictures[0], question="What?", answer="A cup")])
    assert [(picture, "What?") in RowFile(tmp_path / name) for picture in pictures] == [True, False]
