"""EmojiVQA as LLaVA JSON with a folder of pictures, the format of the paper's own data."""

import json
from pathlib import Path
from typing import Any

from maya_core.languages import CODES, PRETRAINED_CODES
from training.emoji_vqa.dataset import EmojiConversations, conversation
from training.emoji_vqa.questions import caption, load_phrases
from training.emoji_vqa.scenes import Scene, Split, make_scene, render

ROLES = {"user": "human", "assistant": "gpt"}


def export(out: Path, split: Split, scenes: int, *, image_size: int = 128) -> tuple[int, int]:
    """Write `images/`, `pretrain.json` (a caption a scene, eight languages in turn) and `instruct.json` (conversations
    in ten) into `out`; returns how many records each has."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    conversations = EmojiConversations(split=split, size=scenes, languages=CODES, image_size=image_size)
    captions, instructions = [], []
    for index in range(scenes):
        scene = make_scene(split, index, size=image_size)
        file = f"{split}-{index:07d}.png"
        render(scene).save(out / "images" / file)
        captions.append(_caption_record(scene, PRETRAINED_CODES[index % len(PRETRAINED_CODES)], file))
        turns = conversation(scene, conversations.questions(scene))
        instructions.append(_record(file, [(ROLES[turn.role], turn.text) for turn in turns]))
    for name, records in (("pretrain", captions), ("instruct", instructions)):
        text = json.dumps(records, ensure_ascii=False, indent=1)
        (out / f"{name}.json").write_text(text + "\n", "utf-8")
    return len(captions), len(instructions)


def _caption_record(scene: Scene, language: str, file: str) -> dict[str, Any]:
    request = load_phrases(language).wordings["describe"][0]
    return _record(file, [("human", request), ("gpt", caption(scene, language))])


def _record(file: str, turns: list[tuple[str, str]]) -> dict[str, Any]:
    """The picture's slot stands at the start of the first question, as LLaVA writes it."""
    values = [{"from": speaker, "value": text} for speaker, text in turns]
    values[0]["value"] = "<image>\n" + values[0]["value"]
    return {"id": Path(file).stem, "image": file, "conversations": values}
