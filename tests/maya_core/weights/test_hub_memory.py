"""What is remembered of the hub: what someone broke is found out anew, and what is whole stays."""

import json

import pytest

from maya_core.weights.hub_memory import HubMemory

WHOLE = {"commits": {"owner/name": "c" * 40}, "models": {"owner/name@c": {"config.json": [3, "d"]}}, "checked": {}}
BROKEN = {
    "empty": b"",
    "cut": json.dumps(WHOLE).encode()[:40],
    "random": bytes(range(256)),
    "a list": b"[1, 2]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "other values": b'{"commits": {"owner/name": 5}, "models": {"owner/name@c": {"config.json": "x"}}, "checked": 7}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read_counts_as_nothing_and_is_written_anew(tmp_path, content):
    memory = HubMemory(tmp_path / "hub.json")
    memory.file.write_bytes(content)
    assert memory.commit("owner/name") is None
    assert memory.files("owner/name", "c") == []
    memory.pin("owner/name", "c" * 40)
    assert HubMemory(memory.file).commit("owner/name") == "c" * 40
    assert [one.name for one in tmp_path.iterdir()] == ["hub.json"]


def test_what_is_whole_beside_what_is_not_stays(tmp_path):
    memory = HubMemory(tmp_path / "hub.json")
    memory.file.write_text(json.dumps(WHOLE | {"checked": []}))
    assert memory.commit("owner/name") == "c" * 40
    assert [(file.name, file.size) for file in memory.files("owner/name", "c")] == [("config.json", 3)]
