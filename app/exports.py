"""A conversation as a file to keep: Markdown with its pictures in a zip, or JSON that any Maya reads in again."""

import re
from collections.abc import Callable, Mapping
from io import BytesIO
from urllib.parse import quote
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from starlette.requests import Request
from starlette.responses import Response

from app.history import History, there
from app.i18n import Say, preferred_language
from app.plain import written_plain
from maya_core.model.prompt import Role

# What some system takes in no file name, and signs that would show a name in another order than it has.
_NOT_IN_A_NAME = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+')


def exporter(history: History) -> Callable[[Request], Response]:
    """The endpoint of `/conversations/{conversation}.{ending}?language=`."""

    def export(request: Request) -> Response:
        conversation, ending = request.path_params["conversation"], request.path_params["ending"]
        title = history.title(conversation)
        if ending not in ("zip", "json") or not title:
            return Response(status_code=404)
        say = Say(preferred_language(request.query_params.get("language", "")))
        names: dict[Role, str] = {"user": say("You"), "assistant": "Maya", "system": "Maya"}
        file = to_zip(history, conversation, names) if ending == "zip" else history.to_json(conversation).encode()
        headers = {
            "content-disposition": f"attachment; filename*=UTF-8''{quote(f'{file_name(title)}.{ending}')}",
            "cache-control": "no-store",
        }
        return Response(file, media_type=f"application/{ending}", headers=headers)

    return export


def to_zip(history: History, conversation: str, names: Mapping[Role, str]) -> bytes:
    """Markdown for people to read, and its pictures beside it. names: of those who speak."""
    title = history.title(conversation)
    parts, packed = [f"# {written_plain(title)}"], BytesIO()
    with ZipFile(packed, "w") as archive:
        for entry in history.entries(conversation):
            parts.append(f"**{names[entry.role]}**")
            for file in there(entry):
                inside = f"pictures/{len(archive.namelist()) + 1}{file.suffix}"
                archive.write(file, inside, ZIP_STORED)
                parts.append(f"![]({inside})")
            parts.append(written_plain(entry.text) if entry.role == "user" else entry.text)
        archive.writestr(f"{file_name(title)}.md", "\n\n".join(parts) + "\n", ZIP_DEFLATED)
    return packed.getvalue()


def file_name(title: str) -> str:
    """A title as the name of a file, without ending: in its own script, without what some system does not take."""
    return " ".join(_NOT_IN_A_NAME.sub(" ", title).split()).strip(".… ") or "Maya"
