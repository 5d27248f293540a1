"""One model on several cards: `device_map`, as far as a CPU can show it.

Which part goes where is decided by shapes, which meta tensors have; that a part needs nothing of another but what it is
given shows where each part's weights are there only while it computes, as accelerate brings them from the disk.
"""

import torch
from accelerate import dispatch_model, infer_auto_device_map, init_empty_weights
from accelerate.utils import compute_module_sizes

from maya_core.model.config import MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from tests.tiny import picture, tiny_session

GB = 10**9


def place_of(name: str, places: dict[str, int]) -> int | str:
    """The device of a module or of a weight, by its own name or that of what it lies in."""
    while name and name not in places:
        name = name.rpartition(".")[0]
    return places[name]


def test_maya_8b_in_sixteen_bits_lies_on_two_cards_and_no_layer_on_both():
    with init_empty_weights():
        model = MayaForConditionalGeneration(MayaConfig.published()).to(torch.bfloat16)
    model.tie_weights()
    room = {0: 8 * GB, 1: 10 * GB}
    places = infer_auto_device_map(
        model, max_memory=room, no_split_module_classes=model._no_split_modules, dtype=torch.bfloat16
    )
    assert set(places.values()) == {0, 1}
    for path, module in model.named_modules():
        if type(module).__name__ in model._no_split_modules:
            assert len({place_of(f"{path}.{name}", places) for name, _ in module.named_parameters()}) == 1, path
    sizes = compute_module_sizes(model, dtype=torch.bfloat16)
    taken = {card: sum(sizes[path] for path, place in places.items() if place == card) for card in room}
    assert all(taken[card] <= room[card] for card in room)


def test_parts_meet_nowhere_but_in_what_they_are_given(tmp_path):
    session = tiny_session()
    inputs = session.processor.prompts([[session.processor.user_message("What is this?", [picture()])]])
    with torch.inference_mode():
        expected = session.model(**inputs).logits
    layers = len(session.model.get_decoder().layers)
    parts = ["vision_tower", "connector", "language_model.model.norm", "language_model.model.rotary_emb"]
    parts += [f"language_model.model.layers.{number}" for number in range(layers)]
    here = {"language_model.model.embed_tokens": "cpu", "language_model.lm_head": "cpu"}  # one table
    model = dispatch_model(
        session.model, here | dict.fromkeys(parts, "disk"), main_device="cpu", offload_dir=tmp_path, force_hooks=True
    )
    assert next(model.connector.parameters()).is_meta
    with torch.inference_mode():
        torch.testing.assert_close(model(**inputs).logits, expected)
    assert next(model.connector.parameters()).is_meta
