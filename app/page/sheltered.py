"""Blocks whose events never end in gradio's error box: whatever fails becomes a notice of ours, and what was typed stays."""

import logging
from pathlib import Path
from typing import Any

import gradio as gr

from app.addresses import is_conversation
from app.i18n import SOURCE, Unexpected, describe_error
from app.page.services import Services
from app.page.updates import ours
from maya_core.errors import MayaError
from maya_core.languages import CODES

LOG = logging.getLogger(__name__)
SHOWS = "x-maya-shows"  # the header in which the page's script says which conversation the page shows


class Sheltered(gr.Blocks):
    """typed: pairs of components, of a question that is sent and of what comes back of it. language: of the page. current:
    the state of the conversation that is shown. Set once they are there."""

    services: Services
    language: Any = None
    current: Any = None
    typed: tuple[tuple[Any, Any], ...] = ()

    async def process_api(self, block_fn: Any, inputs: list[Any], state: Any = None, **rest: Any) -> dict[str, Any]:
        """As gradio's, for one event, or the next step of one."""
        self._recall(state, rest.get("request"))
        try:
            called: dict[str, Any] = await super().process_api(block_fn, inputs, state, **rest)
        except Exception as error:  # noqa: BLE001 - whatever it is, gradio would lay a red "Error" over the page
            event = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
            return await self._failed(error, event, inputs, state, rest.get("event_id"))
        return called

    def _recall(self, state: Any, request: Any) -> None:
        """A page that outlived its server, or slept until it was forgotten, goes on with the conversation that it shows."""
        if state is None or self.current is None or self.current._id in state:
            return
        shown = getattr(request, "headers", {}).get(SHOWS, "")
        if is_conversation(shown):
            state[self.current._id] = shown

    async def _failed(
        self, error: Exception, event: Any, inputs: list[Any], state: Any, event_id: Any
    ) -> dict[str, Any]:
        trouble = error if isinstance(error, MayaError) else Unexpected("Something went wrong.")
        if trouble is not error:
            LOG.error("The event %s failed by %s.", event.name, type(error).__name__)
        given = dict(zip(event.inputs, inputs, strict=False))
        sentence = describe_error(trouble, self._spoken(given))
        self._queue.log_message(event_id, ours(sentence), title="Maya", level="warning", duration=None)
        changed = dict.fromkeys(event.outputs, gr.skip())
        changed |= {back: _typed(given.get(sent)) for sent, back in self.typed if sent in given and back in changed}
        values = list(changed.values())
        data = await self.postprocess_data(event, values[0] if len(values) == 1 else values, state)
        return {"data": data, "is_generating": False, "iterator": None, "duration": 0.0, "average_duration": 0.0,
                "render_config": None, "changed_state_ids": []}  # fmt: skip

    def _spoken(self, given: dict[Any, Any]) -> str:
        """The language that the page speaks: of the event, or the one chosen last."""
        codes = (given.get(self.language), self.services.language, self.services.kept.load().language)
        return next((code for code in codes if isinstance(code, str) and code in CODES), SOURCE)


def _typed(sent: Any) -> dict[str, Any]:
    """What was sent, with those of its pictures that are here."""
    if not isinstance(sent, dict) or not isinstance(sent.get("text"), str):
        return {"text": "", "files": []}
    paths = [str(file.get("path")) for file in sent.get("files") or () if isinstance(file, dict)]
    return {"text": sent["text"], "files": [path for path in paths if Path(path).is_file()]}
