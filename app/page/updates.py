"""What an event changes on the page, by component.

A handler that changes more than one component gives `Updates`, so that panels can add to them without counting places;
gradio takes the dictionary where the event names its outputs, and refuses a component that is not among them.
"""

import html
from typing import Any

Updates = dict[Any, Any]  # component -> its next value, or a gr.update

HIDDEN = {"show_progress": "hidden"}  # of an event: nothing is laid over what it is about to change


def join(*several: Updates) -> Updates:
    """As one. Of a component that is in more than one of them, every change there must be a gr.update."""
    joined: Updates = {}
    for updates in several:
        for component, update in updates.items():
            joined[component] = {**joined[component], **update} if component in joined else update
    return joined


def ours(sentence: str) -> str:
    """For one of gradio's notices, whose own words the page's script replaces by those of the chosen language."""
    return f"<bdi>{html.escape(sentence, quote=False)}</bdi>"
