"""Where a question is put together; and below it the camera.

What is in the box changes in the browser alone, at once: the server's word would come over what was typed meanwhile.
"""

import gradio as gr

from app.page.head import ADD_PHOTO
from app.page.words import Words

LONGEST_TEXT = (
    10**9
)  # gradio would make a file of what is longer; whether it is too long for a question, is told when asked


class QuestionBox:
    """The question box and the camera. asked: what was sent, on its way to the server. returned: what comes back from there
    because of trouble. Both are boxes, so that gradio looks after their pictures as after the box's. Its two buttons are
    always there, and the page's script shows the one that can be pressed: gradio would make them anew while somebody
    presses them."""

    def __init__(self, words: Words) -> None:
        self.question = words.add(
            gr.MultimodalTextbox(
                elem_id="maya-question",
                show_label=False,
                file_count="multiple",
                sources=["upload"],
                max_plain_text_length=LONGEST_TEXT,
                autofocus=True,
                stop_btn=True,
            ),
            lambda say, _: {"placeholder": say("Add a picture and type a question"), "label": say("Question")},
        )
        self.asked, self.returned = (gr.MultimodalTextbox(visible="hidden", file_count="multiple") for _ in range(2))
        with words.add(
            gr.Accordion(open=False, elem_id="maya-camera"), lambda say, _: {"label": say("Take a picture")}
        ):
            self.camera = gr.Image(
                sources=["webcam"], type="filepath", show_label=False, height=240, buttons=[], format="png"
            )

    def wire(self) -> None:
        both = [self.question, self.camera]
        self.camera.change(None, both, both, js=ADD_PHOTO)
