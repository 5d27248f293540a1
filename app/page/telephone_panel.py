"""How to come to this page from a telephone in the same house, where Maya was started for that."""

import gradio as gr

from app.i18n import Say
from app.lan import Lan, qr_code
from app.page.words import Words


class TelephonePanel:
    """A picture to scan, the address and the code, and what it means that they open the page."""

    def __init__(self, lan: Lan, words: Words) -> None:
        with words.add(gr.Accordion(elem_id="maya-telephone"), lambda say, _: {"label": say("From a telephone")}):
            gr.HTML(f'<div style="text-align: center">{qr_code(lan.link)}</div>', elem_id="maya-qr")
            words.add(gr.Markdown(), lambda say, _: {"value": "\n\n".join(told(lan, say))})


def told(lan: Lan, say: Say) -> tuple[str, str]:
    """How to come here, and what that opens."""
    return (
        say(
            "Scan this with a telephone in the same network, or open {address} there and type the code {code}.",
            address=lan.address,
            code=lan.spoken_code,
        ),
        say(
            "Whoever has the code can read all conversations, and change and delete them. What is sent is not encrypted:"
            " open Maya only to a network that you trust."
        ),
    )
