"""Training from the command line: recipes, what is told before the first step, and results that load."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from maya_core import cli
from maya_core.assets import asset_path
from maya_core.languages import CODES
from maya_core.learning.metrics import read_records
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.optim import build_optimizers, trained_parameters
from maya_core.learning.train import TrainConfig
from maya_core.model.attention import no_mask
from maya_core.model.prompt import Message
from maya_core.weights.adapters import MATRICES, LoraSettings, add_lora
from maya_core.weights.checkpoint import load_config, load_model, load_processor, save_model
from maya_core.weights.push import pack
from tests.tiny import SENTENCES, tiny_config, tiny_model, tiny_session, write_records
from training import estimate, finetune, pretrain, stage
from training import model as starting
from training.estimate import Lengths, Parameters, Work, kept_by_adapters, kept_by_layer, memory, suggestion
from training.options import StageOptions
from training.recipes import CONNECTOR, LANGUAGE_MODEL, LORA_A, LORA_B, MAGNITUDE, Recipe, lora, qlora, unfreeze_layers
from training.recipes import finetune as stage_2
from training.recipes import pretrain as stage_1


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    session = tiny_session()
    save_model(session.model, session.processor, folder)
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    file = tmp_path / "data.json"
    write_records(file, tmp_path / "images")
    return file


@pytest.fixture
def tune(data, base, tmp_path, monkeypatch, capsys):
    """Run `training.finetune` on the data; gives exit status, what was printed, and the result's folder."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*flags: str, model: Path | None = base, command=finetune.main):
        paths = ["--data", str(data), "--images", str(data.parent / "images"), "--out", str(tmp_path / "out")]
        given = ["--model", str(model)] if model else []
        short = ["--steps", "3", "--batch-size", "4", "--log-every", "1", "--workers", "0", "--frozen", "float32"]
        status = command([*paths, *given, *short, *flags])
        return status, capsys.readouterr(), tmp_path / "out"

    return run


def logits(folder: Path) -> torch.Tensor:
    model, processor = load_model(folder), load_processor(folder)
    image = Image.new("RGB", (64, 64), (200, 30, 30))
    batch = processor.prompts([[Message(role="user", text=SENTENCES[0], images=(image,))]])
    with torch.no_grad():
        return model(**batch).logits


def changed(before: Path, after: Path) -> set[str]:
    old, new = load_model(before).state_dict(), load_model(after).state_dict()
    return {name for name in old if not torch.equal(old[name], new[name])}


def test_the_published_hyperparameters():
    one, two, adapters = stage_1(), stage_2(), lora()
    assert one.train.learning_rates == {CONNECTOR: 1e-3}
    assert two.train.learning_rates == {CONNECTOR: 2e-5, LANGUAGE_MODEL: 2e-5}
    assert (one.train.batch_size, two.train.batch_size) == (256, 128)
    for recipe in (one, two, adapters):
        train = recipe.train
        assert (train.epochs, train.steps, train.warmup, train.weight_decay) == (1, None, 0.03, 0.0)
        assert (train.bf16, recipe.max_length, train.betas) == (True, 2048, (0.9, 0.999))
    assert (one.prompt_format, one.image_aspect_ratio) == ("caption", "stretch")
    assert adapters.lora is not None
    assert (adapters.lora.rank, adapters.lora.alpha, adapters.lora.dropout) == (128, 256, 0.05)
    rates = adapters.train.learning_rates
    assert rates[LORA_B] == pytest.approx(16 * rates[LORA_A])
    assert rates[CONNECTOR] == 2e-5
    assert lora(a=2e-4, b=2e-4).train.learning_rates[LORA_B] == 2e-4
    assert qlora().four_bit


def test_a_full_tuning_changes_connector_and_language_model_alone(tune, base):
    status, printed, out = tune()
    assert status == 0, printed.err
    assert "10 records" not in printed.out  # one in each language
    for language in CODES:
        assert f"{language}: 1 records, 1 places an epoch, 0 corrupt" in printed.out
    assert "step 3 of 3: loss" in printed.out
    assert "% of peak" in printed.out
    assert "left" in printed.out
    parts = {name.split(".")[0] for name in changed(base, out)}
    assert parts == {"connector", "language_model"}
    assert not changed(out.with_name("out.run"), out)  # a run opens as a model, which is its result
    assert json.loads((out / "recipe.json").read_text())["train"]["batch_size"] == 4


def test_the_tower_trains_on_request(tune, base):
    rates = ["--learning-rates", "model.vision_tower", "1e-4", LANGUAGE_MODEL, "0"]
    status, printed, out = tune(*rates)
    assert status == 0, printed.err
    assert {name.split(".")[0] for name in changed(base, out)} == {"connector", "vision_tower"}


def test_the_last_layers_alone(tune, base):
    status, printed, out = tune("--recipe", "unfreeze_layers", "--last-layers", "1")
    assert status == 0, printed.err
    names = {name for name in changed(base, out) if name.startswith("language_model")}
    assert names
    assert all(name.startswith(("language_model.model.layers.2.", "language_model.model.norm")) for name in names)
    assert tune("--recipe", "unfreeze_layers", "--last-layers", "9")[0] == 2
    assert unfreeze_layers(2).last_layers == 2


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
@pytest.mark.parametrize("kind", [(), ("--dora",), ("--dora", "--rslora", "--targets", "q_proj", "up_proj")])
def test_an_adapter_loads_as_what_was_trained_and_in_peft(tune, base, kind):
    from peft import PeftModel

    rates = ["--learning-rates", CONNECTOR, "1e-2", LORA_A, "1e-2", LORA_B, "1e-2"]
    status, printed, out = tune("--recipe", "lora", "--rank", "4", "--alpha", "8", *rates, *kind)
    assert status == 0, printed.err
    assert not torch.allclose(logits(out), logits(base), atol=1e-3)
    image = Image.new("RGB", (64, 64), (200, 30, 30))
    batch = load_processor(base).prompts([[Message(role="user", text=SENTENCES[0], images=(image,))]])
    assert torch.allclose(logits(out.with_name("out.run")), logits(out), atol=1e-5)
    model = PeftModel.from_pretrained(load_model(base), str(out))
    model.eval()
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, logits(out), atol=1e-4)


def test_an_adapter_of_another_model_is_refused(tune, tmp_path, capsys):
    from maya_core.errors import CheckpointMismatch

    _, _, out = tune("--recipe", "lora", "--rank", "2")
    other = tiny_session(text={"hidden_size": 32, "num_attention_heads": 4})
    save_model(other.model, other.processor, tmp_path / "other")
    config = json.loads((out / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(tmp_path / "other")}))
    with pytest.raises(CheckpointMismatch):
        load_model(out)


def test_a_and_b_have_rates_of_their_own(base):
    recipe = lora()
    model = load_model(base)
    stage.prepare(model, recipe, torch.device("cpu"))
    [adamw] = build_optimizers(AnswerObjective(model), recipe.train.learning_rates)
    trained = {id(parameter): group["lr"] for group in adamw.param_groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        wanted = {True: 5e-5} if ".lora_A." in name else {True: 8e-4} if ".lora_B." in name else {}
        if name.startswith("connector."):
            wanted = {True: 2e-5}
        assert trained.get(id(parameter)) == wanted.get(True), name
        assert parameter.requires_grad == bool(wanted), name


def test_dora_and_the_ratio_of_lora_plus_make_rates(base, tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(stage, "run_stage", taken.append)
    given = ["--data", "d", "--images", "i", "--model", str(base), "--recipe", "lora"]

    def rates(*flags: str) -> dict[str, float]:
        assert finetune.main([*given, *flags]) == 0
        return dict(taken[-1].recipe.train.learning_rates)

    usual = {CONNECTOR: 2e-5, LORA_A: 5e-5, LORA_B: 8e-4}
    assert rates("--loraplus-ratio", "4") == usual | {LORA_B: pytest.approx(2e-4)}
    assert rates("--loraplus-ratio", "4", "--learning-rates", LORA_A, "1e-3") == usual | {LORA_A: 1e-3, LORA_B: 4e-3}
    assert rates("--dora") == usual | {MAGNITUDE: 8e-4}
    assert rates("--dora", "--learning-rates", MAGNITUDE, "0") == usual
    assert taken[-1].resting == (MAGNITUDE,)
    for flags, alpha in ((("--rank", "8"), 16), (("--rank", "8", "--alpha", "8"), 8), ((), 256)):
        rates(*flags)
        assert taken[-1].recipe.lora.alpha == alpha


def test_options_of_adapters_are_refused_where_there_is_none(tune):
    assert "--loraplus-ratio is of an adapter's A and B" in refusal(tune("--loraplus-ratio", "4"))
    status, printed, _ = tune("--rank", "4", "--dora")
    assert status == 2
    assert printed.err.strip() == "--dora and --rank would be of an adapter; take --recipe lora or qlora."


def test_what_dora_has_beside_a_and_b_moves_and_is_tuned_on(tune, base, tmp_path):
    status, printed, out = tune("--recipe", "lora", "--dora", *QUICK)
    assert status == 0, printed.err
    stored = load_file(out / "adapter_model.safetensors")
    lengths = {name: tensor for name, tensor in stored.items() if name.endswith(MAGNITUDE)}
    weights = load_model(base).state_dict()
    for name, length in lengths.items():
        norm = weights[name.removeprefix("base_model.model.").removesuffix(MAGNITUDE) + "weight"].norm(dim=1)
        assert (length != norm).float().mean() > 0.9, name
        assert torch.allclose(length, norm, rtol=0.2), name
    assert len(lengths) == 21
    on = ("--recipe", "lora", "--adapter", "continue", "--out", str(tmp_path / "on"), "--run", str(tmp_path / "second"))
    status, printed, _ = tune(*on, "--learning-rates", CONNECTOR, "0", LORA_A, "1e-9", LORA_B, "1e-9", model=out)
    assert status == 0, printed.err
    assert torch.allclose(logits(tmp_path / "on"), logits(out), atol=1e-4)
    record = json.loads((tmp_path / "on" / "recipe.json").read_text("utf-8"))
    assert record["train"]["learning_rates"][MAGNITUDE] == 1e-9


def test_an_adapter_with_ranks_of_single_layers_is_refused(tune):
    from maya_core.errors import CheckpointMismatch

    _, _, out = tune("--recipe", "lora", "--rank", "2")
    config = json.loads((out / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps(config | {"alpha_pattern": {"q_proj": 3}}))
    with pytest.raises(CheckpointMismatch, match="alpha_pattern"):
        load_model(out)


@pytest.mark.parametrize(
    ("main", "name"), [(finetune.main, "finetune"), (finetune.main, "qlora"), (pretrain.main, "pretrain")]
)
def test_help_fits_two_screens_and_has_a_line_for_every_option(main, name, capsys):
    assert main(["--recipe", name, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 90
    assert max(map(len, lines)) <= 100
    told = [line.split()[0].removeprefix("--").replace("-", "_") for line in lines if line.startswith("  --")]
    kinds = (StageOptions, Recipe, TrainConfig, *([LoraSettings] if name != "pretrain" else []))
    inner = {
        "recipe_name",
        "resting",
        "given",
        "train",
        "lora",
        *(["loraplus_ratio", "adapter"] if name == "pretrain" else []),
    }
    there = {one.name for kind in kinds for one in fields(kind)} - inner | {"config"}
    assert sorted(told) == sorted(there)
    assert all(re.fullmatch(r"  --\S+( \S+)*  +\S.{10,}", line) for line in lines if line.startswith("  --"))


def test_four_bits_rest_in_the_decoder_alone_and_the_adapter_learns(tune, base):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = load_model(base)
    recipe = qlora()
    stage.prepare(model, recipe, torch.device("cpu"))
    for name, module in model.named_modules():
        is_linear = isinstance(module, torch.nn.Linear) and "lora" not in name
        if is_linear:
            in_layers = name.startswith("language_model.model.layers.")
            assert isinstance(module, bitsandbytes.nn.Linear4bit) == in_layers, name
    rates = ["--learning-rates", LORA_A, "1e-2", LORA_B, "1e-2"]
    status, printed, out = tune("--recipe", "qlora", "--rank", "4", "--optimizer", "adamw", *rates)
    assert status == 0, printed.err
    assert not torch.allclose(logits(out), logits(base), atol=1e-3)


def test_parameters_are_counted_as_they_are(base):
    dora = replace(lora(), lora=LoraSettings(rank=2, dora=True, targets=("k_proj", "up_proj")))
    dora = replace(dora, train=replace(dora.train, learning_rates={**dora.train.learning_rates, MAGNITUDE: 1e-3}))
    for recipe in (stage_1(), stage_2(), lora(), unfreeze_layers(1), dora):
        model = load_model(base)
        counted = Parameters.of(model.config, recipe)
        stage.prepare(model, recipe, torch.device("cpu"))
        parts = stage.parts_of(recipe, model.config)
        trained = trained_parameters(build_optimizers(AnswerObjective(model), parts))
        real = sum({id(parameter): parameter.numel() for parameter in trained}.values())
        assert counted.trained == pytest.approx(real, rel=0.01)


FOUR_LAYERS = {"num_hidden_layers": 4}  # every fourth looks, where the connector is cross-attention


@pytest.fixture
def parts(tmp_path) -> list[str]:
    """Flags for a new Maya: tower and language model, each in a folder as its makers publish them."""
    session = tiny_session(text=FOUR_LAYERS)
    model, processor = session.model, session.processor
    for part, folder, config in (
        ("vision_tower", tmp_path / "siglip", model.config.vision),
        ("language_model", tmp_path / "aya", model.config.text),
    ):
        folder.mkdir()
        state = {name: tensor.clone() for name, tensor in getattr(model, part).state_dict().items()}
        if part == "vision_tower":
            state = {f"vision_model.{name}": tensor for name, tensor in state.items()} | {"logit_scale": torch.ones(1)}
        else:
            del state["lm_head.weight"]
        save_file(state, folder / "model.safetensors")
        config.save_pretrained(folder)
    assert processor.tokenizer is not None
    processor.tokenizer.save_pretrained(str(tmp_path / "aya"))
    return ["--tower", str(tmp_path / "siglip"), "--language-model", str(tmp_path / "aya")]


def test_a_new_maya_from_a_tower_and_a_language_model(tune, parts):
    model = tiny_session(text=FOUR_LAYERS).model
    status, printed, out = tune(*parts, model=None, command=pretrain.main)
    assert status == 0, printed.err
    made = load_model(out)
    for part in ("vision_tower", "language_model"):
        for name, tensor in getattr(model, part).state_dict().items():
            assert torch.equal(tensor, getattr(made, part).state_dict()[name]), name
    assert not changed(out.with_name("out.run"), out)
    assert made.config.prompt_format == "maya-v1"
    assert made.config.image_aspect_ratio == "pad"  # what stage 2 and answers take; captions alone are stretched


def test_parts_that_do_not_go_together_are_named(tune, parts, tmp_path):
    file = tmp_path / "aya" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_hidden_layers": 3}))
    done = tune(*parts, "--connector", "cross_attention", model=None, command=pretrain.main)
    assert "These parts make no Maya: cross_attn_every_n_layers 4 leaves none of the 3 decoder layers" in refusal(done)


@pytest.mark.parametrize(
    ("connector", "depth", "tower"),
    [("mlp", 4, "siglip"), ("qformer", 1, "siglip"), ("cross_attention", 1, "siglip"), ("mlp", 2, "dinov2")],
)
def test_each_architecture_from_pretraining_to_an_answer(
    tune, data, parts, tmp_path, monkeypatch, capsys, connector, depth, tower
):
    if tower == "dinov2":
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 16,
        }
        Dinov2Model(Dinov2Config(**sizes)).save_pretrained(tmp_path / tower)
    flags = [*parts, "--tower", str(tmp_path / tower), "--connector", connector, "--depth", str(depth)]
    status, printed, out = tune(*flags, "--steps", "1", model=None, command=pretrain.main)
    assert status == 0, printed.err
    config = load_config(out)
    assert (config.connector.kind, config.connector.depth) == (connector, depth)
    place = ("--out", str(tmp_path / "tuned"), "--steps", "1")
    status, printed, _ = tune(*place, model=out)
    assert status == 0, printed.err
    assert {name.split(".")[0] for name in changed(out, tmp_path / "tuned")} == {"connector", "language_model"}
    ask = f'Ask it: `maya ask PICTURE "QUESTION" --model {tmp_path / "tuned"}`'
    assert ask in printed.out
    words = shlex.split(ask.partition("`")[2].rstrip("`"))
    words[2:4] = [str(data.parent / "images" / "0.png"), "What is in the picture?"]
    monkeypatch.setattr(sys, "argv", [*words, "--max-new-tokens", "3", "--json"])
    cli.main()
    assert json.loads(capsys.readouterr().out)["tokens"] >= 1


def test_what_the_user_can_mend_is_told_before_the_first_step(tune, data, base, tmp_path, monkeypatch):
    def sentence(*flags: str, **options) -> str:
        status, printed, out = tune(*flags, **options)
        assert status == 2
        assert len(printed.err.splitlines()) == 1
        assert not out.exists()
        assert not list(tmp_path.glob("out.run/checkpoints/*"))
        return printed.err.strip()

    assert "neither a file nor a folder" in sentence("--data", str(tmp_path / "absent.json"))
    assert "There is no folder" in sentence(model=tmp_path / "absent")
    assert "Give --model" in sentence(model=None)
    assert "There is no folder" in sentence("--images", str(tmp_path / "absent"))
    assert "data.json would be learnt from and held out; give --validation another file" in refusal(
        tune("--validation", str(data))
    )
    monkeypatch.setattr(stage, "free_memory", lambda device: 2**20)
    assert "1.0 MiB are free" in sentence()
    monkeypatch.undo()
    monkeypatch.setenv("COLUMNS", "200")
    records = json.loads(data.read_text("utf-8"))
    records[3]["image"] = "absent.png"
    del records[4]["conversations"]
    data.write_text(json.dumps(records), "utf-8")
    assert "Not to be trained on: 2 of 10 records" in sentence()


def test_options_that_contradict_each_other_are_named(tune, tmp_path):
    def sentence(*flags: str, **options) -> str:
        status, printed, out = tune(*flags, **options)
        assert status == 2
        assert not out.exists()
        assert not printed.out
        [said] = printed.err.splitlines()
        return said

    new = ("--tower", "siglip", "--language-model", "aya")
    assert "made of --tower," in sentence("--tower", "siglip")
    assert "made of --language-model," in sentence("--language-model", "aya")
    assert "made of --tower and --language-model," in sentence(*new)
    assert "both --tower and --language-model" in sentence(*new[:2], model=None)
    assert "give --model instead of --tower and --language-model" in sentence("--recipe", "lora", *new, model=None)
    assert "--last-layers" in sentence("--recipe", "lora", "--last-layers", "1")
    assert "--learning-rates" in sentence("--learning-rates", CONNECTOR, "0", LANGUAGE_MODEL, "0")
    assert "--four-bit" in sentence("--four-bit")


def test_a_result_takes_nothing_away(tune, base, tmp_path):
    def sentence(*flags: str, **options) -> str:
        status, printed, _ = tune(*flags, **options)
        assert status == 2
        assert not printed.out
        [said] = printed.err.splitlines()
        return said

    (tmp_path / "out" / "photos").mkdir(parents=True)
    assert "out is not empty and no model that Maya wrote (photos)" in sentence("--overwrite")
    (tmp_path / "out" / "photos").rmdir()
    for flags in (("--run", str(tmp_path / "out")), ("--features", str(tmp_path / "out" / "seen"))):
        assert f"{flags[0]} is or lies in --out" in sentence(*flags)
    before = {file.name: file.read_bytes() for file in base.iterdir()}
    assert "is itself what is read" in sentence("--out", str(base), "--overwrite")
    assert {file.name: file.read_bytes() for file in base.iterdir()} == before
    assert tune()[0] == 0
    assert "out holds a model already" in sentence("--run", str(tmp_path / "another"))
    (tmp_path / "out" / "notes.txt").write_text("mine")
    status, printed, out = tune("--steps", "4", "--run", str(tmp_path / "another"), "--overwrite")
    assert status == 0, printed.err
    assert (out / "notes.txt").read_text() == "mine"


def test_a_connector_trains_on_four_bits_and_a_language_model_does_not(tune, base, tmp_path):
    pytest.importorskip("bitsandbytes")
    from maya_core.weights.export import quantize_checkpoint

    quantize_checkpoint(base, tmp_path / "small")
    status, printed, out = tune(model=tmp_path / "small")
    assert status == 2
    assert "small is in four bits" in printed.err
    status, printed, out = tune(model=tmp_path / "small", command=pretrain.main)
    assert status == 0, printed.err
    assert {name.split(".")[0] for name in changed(tmp_path / "small", out)} == {"connector"}


def test_parts_that_are_not_there_are_named(tune):
    assert "There is no part 'model.conector'" in tune("--learning-rates", "model.conector", "1e-3")[1].err
    assert "Muon has rates for model.vision_tower" in tune("--muon-rates", "model.vision_tower", "1e-3")[1].err


@pytest.mark.parametrize(
    "flags",
    [
        ("--seed", "-1"),
        ("--seed", str(2**64)),
        ("--steps", "0"),
        ("--epochs", "nan"),
        ("--batch-size", "0"),
        ("--learning-rates", CONNECTOR, "nan"),
        ("--mixing", "2"),
        ("--validation", "5"),
        ("--max-length", "0"),
        ("--last-layers", "0"),
        ("--recipe", "lora", "--rank", "0"),
        ("--recipe", "lora", "--alpha", "0"),
        ("--recipe", "lora", "--dropout", "1"),
    ],
)
def test_numbers_that_cannot_be_are_told_before_anything_is_read(tune, monkeypatch, capsys, flags):
    monkeypatch.setattr(stage, "run_stage", lambda options: pytest.fail("it ran"))
    with pytest.raises(SystemExit) as stopped:
        tune(*flags)
    assert stopped.value.code == 2
    assert " must be " in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["lora", "qlora"])
def test_an_adapter_comes_from_the_seed_alone(tune, recipe, tmp_path):
    if recipe == "qlora":
        pytest.importorskip("bitsandbytes")

    def adapter(name: str, seed: int) -> bytes:
        torch.seed()  # whatever was drawn before
        flags = ["--rank", "4", "--optimizer", "adamw", "--seed", str(seed), "--run", str(tmp_path / name)]
        status, printed, out = tune("--recipe", recipe, "--overwrite", *flags)
        assert status == 0, printed.err
        return (out / "adapter_model.safetensors").read_bytes()

    first = adapter("first", 1)
    assert adapter("again", 1) == first
    assert adapter("other", 2) != first


@pytest.mark.parametrize(
    ("recipe", "advice"),
    [
        ("finetune", "give --more-epochs, or --model {out} and another --out."),
        ("lora", "give --more-epochs, or --model {out} --adapter continue and another --out."),
    ],
)
def test_a_finished_run_says_so(tune, recipe, advice, tmp_path):
    _, printed, out = tune("--recipe", recipe)
    assert f"The result is in {out}" in printed.out
    status, printed, _ = tune("--recipe", recipe)
    assert status == 0
    said = printed.out.splitlines()[-1]
    assert f"The run in {out}.run is finished, and its result is in {out}; to train on" in said
    assert advice.format(out=out) in said
    assert "opens it" not in printed.out


@pytest.mark.parametrize(("is_fast", "format"), [(True, "bfloat16"), (False, "float32")])
def test_what_rests_is_in_the_format_that_the_device_computes_fast(monkeypatch, tmp_path, is_fast, format):
    monkeypatch.setattr(starting, "has_bfloat16", lambda device: is_fast)
    options = StageOptions(data=("d",), images=tmp_path, model="m")
    assert starting.with_format(options, torch.device("cpu")).recipe.frozen == format
    given = replace(options, recipe=replace(options.recipe, frozen="bfloat16"))
    assert starting.with_format(given, torch.device("cpu")) == given


@pytest.mark.parametrize("recipe", ["pretrain", "finetune", "unfreeze_layers", "lora", "qlora"])
def test_three_lines_say_what_to_do_with_the_result(tmp_path, recipe, capsys):
    command = pretrain if recipe == "pretrain" else finetune
    made = stage_1() if recipe == "pretrain" else command.RECIPES[recipe]()
    options = StageOptions(data=("d",), images=tmp_path, model="m", out=tmp_path / "mine", recipe=made)
    lines = stage.opened(options).splitlines()
    assert lines[0] == f"The result is in {options.out}; `maya-app --model {options.out}` opens it in the app."
    assert lines[1] == f'Ask it: `maya ask PICTURE "QUESTION" --model {options.out}`'
    assert lines[2].startswith("It is an adapter: `maya merge" if "lora" in recipe else "Tune it on: ")
    assert len(lines) == 3


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("recipe", ["finetune", "lora"])
def test_files_have_the_mode_that_the_umask_says(tune, recipe):
    before = os.umask(0o027)
    try:
        _, _, out = tune("--recipe", recipe)
    finally:
        os.umask(before)
    files = [*out.iterdir(), *out.with_name("out.run").glob("checkpoints/*/*")]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o640}


def test_a_second_interrupt_ends_the_command_quietly(data, base, tmp_path):
    given = ["--data", data, "--images", data.parent / "images", "--model", base, "--out", tmp_path / "out"]
    code = f"""
import signal, sys
from training import finetune, stage
def look_at(*_, **__):
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGINT)
if sys.argv[1] == "before":
    stage.look_at = look_at
def train(*_, **__):
    with stop:
        look_at()
from maya_core.learning.stop_signals import StopSignals
stop = StopSignals()
stage.train = train
sys.exit(finetune.main({[str(word) for word in given]!r}))
"""
    for moment in ("before", "in"):
        done = subprocess.run(
            [sys.executable, "-c", code, moment], capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )
        assert done.returncode == 130, done.stderr
        assert "Traceback" not in done.stderr


def test_a_dry_run_tells_and_trains_nothing(tune):
    status, printed, out = tune("--dry-run")
    assert status == 0
    assert "Memory: about" in printed.out
    assert "Time: 3 steps" in printed.out
    assert not out.exists()


def test_an_unknown_recipe_is_answered_with_those_there_are(tune):
    status, printed, _ = tune("--recipe", "magic")
    assert status == 2
    assert "qlora" in printed.err


def test_features_of_a_resting_tower_are_computed_once(tune, tmp_path):
    store = tmp_path / "features"
    assert tune("--features", str(store), "--batch-size", "10")[0] == 0
    files = {file: file.stat().st_mtime_ns for folder in store.iterdir() for file in folder.iterdir()}
    assert len(files) == 10
    status, printed, _ = tune("--features", str(store), "--run", str(tmp_path / "again"), "--overwrite")
    assert status == 0, printed.err
    assert {file: file.stat().st_mtime_ns for folder in store.iterdir() for file in folder.iterdir()} == files
    moving = ("--learning-rates", "model.vision_tower", "1e-4", "--overwrite")
    status, printed, _ = tune("--features", str(store), *moving)
    assert status == 2
    assert "leave --features out" in printed.err


# --- settings in a file ---


def test_what_a_run_writes_makes_the_same_again(tune, base, tmp_path, capsys):
    flags = (
        "--rank",
        "2",
        "--targets",
        "q_proj",
        "v_proj",
        "--rslora",
        "--learning-rates",
        LORA_A,
        "1e-2",
        CONNECTOR,
        "0",
    )
    status, printed, out = tune("--recipe", "lora", *flags, "--mixing", "0.5")
    assert status == 0, printed.err
    first = load_file(out / "adapter_model.safetensors")
    assert {name.split(".")[-3] for name in first} == {"q_proj", "v_proj"}
    assert torch.isfinite(logits(out)).all()
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["use_rslora"]
    again = ["--config", str(out / "recipe.json"), "--out", str(tmp_path / "again")]
    assert finetune.main(again) == 0, capsys.readouterr().err
    second = load_file(tmp_path / "again" / "adapter_model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    was, now = (json.loads((folder / "recipe.json").read_text()) for folder in (out, tmp_path / "again"))
    assert was | {"run": ""} == now | {"run": ""}


def test_settings_in_yaml_and_flags_before_them(data, base, tmp_path, capsys, monkeypatch):
    file = tmp_path / "run.yaml"
    file.write_text(
        f"recipe: lora\ndata: {data}\nimages: {data.parent / 'images'}\nmodel: {base}\nsteps: 7\nbatch_size: 4\n"
        "check: false\nworkers: 0\nlearning_rates: {model.connector: 0.01}\n"
    )
    taken = []
    monkeypatch.setattr(stage, "run_stage", taken.append)
    assert finetune.main(["--config", str(file), "--steps", "2"]) == 0
    [options] = taken
    assert (options.recipe_name, options.check, options.recipe.train.steps) == ("lora", False, 2)
    assert options.recipe.train.learning_rates[CONNECTOR] == 0.01
    assert options.recipe.train.learning_rates[LORA_B] == 8e-4
    for text, says in (("a: [", "neither YAML nor JSON"), ("- a", "a line `name: value`")):
        file.write_text(text)
        assert finetune.main(["--config", str(file)]) == 2
        assert says in capsys.readouterr().err
    assert finetune.main(["--config", str(tmp_path / "none.yaml")]) == 2
    assert "There is no file" in capsys.readouterr().err


# --- what makes a result ---


def refusal(done) -> str:
    status, printed, _ = done
    assert status == 2
    assert "Traceback" not in printed.err
    return printed.err.strip().splitlines()[-1]


def test_a_run_goes_on_only_with_what_it_was_begun_with(tune, data, base, tmp_path):
    assert tune("--recipe", "lora", "--rank", "2", "--alpha", "4")[0] == 0
    again = ("--recipe", "lora", "--rank", "2", "--alpha", "4")
    was = json.loads((tmp_path / "out" / "recipe.json").read_text("utf-8"))
    assert (was["data"], was["images"], was["model"]) == ([str(data)], str(data.parent / "images"), str(base))
    assert "A and B train together" in refusal(tune(*again, "--learning-rates", LORA_A, "0"))
    assert "started with alpha 4 (now 8)" in refusal(tune(*again, "--alpha", "8"))
    assert "max_length 2048 (now 99), image_aspect_ratio None (now stretch)" in refusal(
        tune(*again, "--max-length", "99", "--image-aspect-ratio", "stretch")
    ).replace("image_aspect_ratio None (now stretch), max_length 2048 (now 99)",
              "max_length 2048 (now 99), image_aspect_ratio None (now stretch)")  # fmt: skip
    other = tiny_session(text={"intermediate_size": 96})
    with torch.no_grad():
        other.model.connector.layers[0].weight.add_(0.01)
    save_model(other.model, other.processor, tmp_path / "other")
    assert "started with another model;" in refusal(tune(*again, model=tmp_path / "other"))
    copy = tmp_path / "copy.json"
    copy.write_bytes(data.read_bytes())
    assert tune(*again, "--data", str(copy))[0] == 0  # the same under another name
    copy.write_text(data.read_text("utf-8").replace("Un chien", "Un chat"), "utf-8")
    assert "started with another data;" in refusal(tune(*again, "--data", str(copy)))
    Image.new("RGB", (44, 30)).save(data.parent / "images" / "4.png")
    assert "started with another data;" in refusal(tune(*again))
    status, printed, out = tune(*again, "--restart")
    assert status == 0
    assert f"What the run had so far is in {out}.run.1" in printed.out
    assert list(Path(f"{out}.run.1").glob("checkpoints/step-*"))


def test_a_finished_run_goes_on_for_more_epochs(tune, tmp_path):
    def steps() -> list[int]:
        lines = (tmp_path / "out.run" / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["step"] for line in lines]

    assert "There is no run" in refusal(tune("--more-epochs", "1"))
    assert tune()[0] == 0
    first = logits(tmp_path / "out")
    status, printed, _ = tune("--more-epochs", "0.8")
    assert status == 0, printed.err
    assert steps() == [1, 2, 3, 4, 5]
    assert not torch.equal(logits(tmp_path / "out"), first)
    assert "steps 5 (now 3)" in refusal(tune())
    assert tune("--more-epochs", "0.4")[0] == 0
    assert steps() == [1, 2, 3, 4, 5, 6]
    rates = [
        json.loads(line)["learning_rate"] for line in (tmp_path / "out.run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert rates[0] == rates[3] == rates[5] == 1  # each part has a schedule of its own


QUICK = ("--rank", "4", "--alpha", "8", "--learning-rates", CONNECTOR, "1e-2", LORA_A, "1e-2", LORA_B, "1e-2")


def test_an_adapter_is_tuned_on_or_merged_in_as_one_says(tune, base, tmp_path):
    assert tune("--recipe", "lora", *QUICK)[0] == 0
    adapter, first = tmp_path / "out", logits(tmp_path / "out")
    here = ("--run", str(tmp_path / "second"), "--out", str(tmp_path / "tuned"))
    assert "--adapter continue to tune it on, or --adapter merge" in refusal(
        tune("--recipe", "lora", *here, model=adapter)
    )
    assert "take one of them, or --adapter merge" in refusal(tune("--adapter", "continue", *here, model=adapter))
    assert "--model is none" in refusal(tune("--recipe", "lora", "--adapter", "merge", *here))
    for flags, told in (
        (("--rank", "8", "--targets", "v_proj"), f"out has rank 4 and targets {' '.join(MATRICES)}, which"),
        (("--alpha=4",), "out has alpha 8, which stays as it is tuned on; leave --alpha out"),
        (("--dora",), "out has dora off"),
    ):
        assert told in refusal(tune("--recipe", "lora", "--adapter", "continue", *here, *flags, model=adapter))
    resting = ("--learning-rates", CONNECTOR, "0", LORA_A, "1e-9", LORA_B, "1e-9", "--rank", "4", "--dropout", "0")
    for way, files in (("continue", "adapter_model.safetensors"), ("merge", "model.safetensors")):
        place = ("--run", str(tmp_path / f"run-{way}"), "--out", str(tmp_path / way))
        status, printed, _ = tune("--recipe", "lora", "--adapter", way, *place, *resting, model=adapter)
        assert status == 0, printed.err
        assert (tmp_path / way / files).is_file()
        assert torch.allclose(logits(tmp_path / way), first, atol=1e-4)  # it begins where the other ended
        assert torch.allclose(logits(tmp_path / f"run-{way}"), logits(tmp_path / way), atol=1e-5)
    config = json.loads((tmp_path / "continue" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert config["base_model_name_or_path"] == os.path.relpath(base, tmp_path / "continue")
    assert not torch.allclose(first, logits(base), atol=1e-3)


def test_a_base_of_the_same_shape_is_not_the_base(tune, base, tmp_path):
    from maya_core.errors import CheckpointMismatch

    own = tmp_path / "models" / "base"
    shutil.copytree(base, own)
    status, _, out = tune("--recipe", "lora", "--rank", "2", model=own)
    assert status == 0
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(out, moved / "out")
    shutil.move(tmp_path / "models", moved / "models")
    load_model(moved / "out")  # both were moved together
    other = tiny_session()
    with torch.no_grad():
        other.model.connector.layers[0].weight.add_(0.01)
    save_model(other.model, other.processor, moved / "models" / "base", overwrite=True)
    with pytest.raises(CheckpointMismatch, match="trained on other weights than those that are in base now"):
        load_model(moved / "out")


@pytest.mark.parametrize("recipe", ["finetune", "lora", "qlora", "unfreeze_layers"])
def test_what_trains_is_float32_and_moves(tune, base, recipe, tmp_path):
    if recipe == "qlora":
        pytest.importorskip("bitsandbytes")
    flags = ("--frozen", "bfloat16", "--steps", "2", "--optimizer", "adamw", "--warmup", "0")
    flags += ("--last-layers", "1") if recipe == "unfreeze_layers" else ()
    status, printed, _ = tune("--recipe", recipe, *flags)
    assert status == 0, printed.err
    [*_, newest] = sorted((tmp_path / "out.run" / "checkpoints").iterdir())
    learnt = load_file(newest / "weights.safetensors")
    assert {tensor.dtype for tensor in learnt.values()} == {torch.float32}
    before = load_model(base, dtype=torch.bfloat16)
    made = finetune.RECIPES[recipe]()
    made = replace(made, last_layers=1) if recipe == "unfreeze_layers" else made
    torch.manual_seed(made.train.seed)
    objective = stage.prepare(before, made, torch.device("cpu"))
    start = dict(objective.named_parameters())
    still = [name for name, tensor in learnt.items() if torch.equal(tensor, start[name])]
    assert not [name for name in still if "lora_A" not in name]  # B is nothing at first, and A has no gradient yet
    for name in (name for name in learnt if "lora_A" in name):
        assert (learnt[name] != start[name]).float().mean() > 0.9, name


def test_bad_records_are_left_out_and_counted_on_request(tune, data):
    records = json.loads(data.read_text("utf-8"))
    records[3]["image"] = "absent.png"
    del records[4]["conversations"]
    data.write_text(json.dumps(records), "utf-8")
    assert "Not to be trained on: 2 of 10 records" in refusal(tune())
    status, printed, _ = tune("--skip-bad")
    assert status == 0, printed.err
    assert "2 of 10 records are left out." in printed.out
    assert "ru: 1" not in printed.out.replace("es: 1 records", "")
    assert "picture-missing" in printed.out


def test_what_stops_a_run_is_told_before_its_first_step(tune, data):
    records = json.loads(data.read_text("utf-8"))
    records[2]["conversations"][0]["value"] = "<image>" + "pourquoi " * 400
    picture = data.parent / "images" / "5.png"
    Image.effect_noise((64, 64), 50).save(picture)
    picture.write_bytes(picture.read_bytes()[:1000])
    data.write_text(json.dumps(records), "utf-8")
    status, printed, _ = tune()
    assert status == 2
    assert "too-long" in printed.out
    assert "picture-unreadable" in printed.out
    assert not list(data.parent.glob("out.run/checkpoints/*"))


def test_few_steps_and_the_disk_are_told_beforehand(tune, monkeypatch):
    told = tune("--dry-run", "--steps", "60")[1].out
    assert "Disk: about" in told
    assert "few steps" not in told
    config = TrainConfig(batch_size=128)
    advice = suggestion(config, 180)
    assert advice is not None
    assert "180 places an epoch, 128 a step" in advice
    assert "--batch-size 2 --epochs 2 makes 180." in advice
    assert suggestion(config, 128 * 50) is None
    monkeypatch.setattr(stage.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    assert "The checkpoints in out.run take about" in refusal(tune())


def test_a_signal_says_how_to_go_on(tune, monkeypatch):
    began = stage.train

    def stopped(*arguments, **options):
        def record(step):
            signal.raise_signal(signal.SIGTERM)

        return began(*arguments, **(options | {"on_record": record}))

    monkeypatch.setattr(stage, "train", stopped)
    with pytest.raises(SystemExit) as left:
        tune()
    assert left.value.code == 128 + signal.SIGTERM
    monkeypatch.undo()
    monkeypatch.setenv("COLUMNS", "200")
    status, printed, out = tune()
    assert "Stopped after step 1 of 3" in printed.out
    assert f"which is kept in {out}.run; the same command goes on from there." in printed.out
    assert status == 0


def test_what_is_held_out_is_measured_and_the_best_weights_are_the_result(tune, data, tmp_path):
    records = json.loads(data.read_text("utf-8"))
    data.write_text(json.dumps(records * 3), "utf-8")
    fast = ("--steps", "6", "--learning-rates", CONNECTOR, "3e-2", LANGUAGE_MODEL, "3e-2", "--warmup", "0")
    status, printed, out = tune("--validation", "0.3", "--validate-every", "2", *fast)
    assert status == 0, printed.err
    assert "10 conversations are held out, and measured every 2 steps." in printed.out
    measured = [one for one in read_records(out.with_name("out.run") / "metrics.jsonl") if one["held_out"]]
    assert [one["step"] for one in measured] == [2, 4, 6]
    assert set(measured[0]["held_out"]) == {"all", *CODES}
    assert set(measured[0]["exact_match"]) == set(measured[0]["chrf"]) <= {"all", *CODES}
    said = f"held out {measured[0]['held_out']['all']:.3f}, right {measured[0]['exact_match']['all']:.0f} %, chrF"
    assert said in printed.out
    best = min(measured, key=lambda one: one["held_out"]["all"])["step"]
    [kept] = (tmp_path / "out.run" / "best").iterdir()
    assert kept.name == f"step-{best:08d}"
    learnt = load_file(kept / "weights.safetensors")
    parcel = pack(out, "me/mine")  # to the hub
    files = {name: file if isinstance(file, bytes) else file.read_bytes() for name, file in parcel.files.items()}
    assert not [name for name, content in files.items() if str(tmp_path).encode() in content or b"data.json" in content]
    assert "20 conversations about pictures (en 2," in parcel.card
    lowest = min(measured, key=lambda one: one["held_out"]["all"])
    assert f"| loss on what was held out | {lowest['held_out']['all']:.3f} |" in parcel.card
    assert f"| short answers to it that are right, % | {lowest['exact_match']['all']:.1f} |" in parcel.card
    assert f"| chrF of those answers | {lowest['chrf']['all']:.1f} |" in parcel.card
    assert finetune.main(["--config", str(out / "recipe.json"), "--dry-run"]) == 0  # figures are nothing to be given
    made = load_model(out).state_dict()
    name = "connector.layers.0.weight"
    assert torch.equal(made[name], learnt[f"model.{name}"])


def test_what_is_measured_changes_nothing_of_what_four_bits_learn(tune, data, tmp_path, monkeypatch):
    """Measured without gradients, bitsandbytes' layers repack themselves for a kernel that passes none on."""
    repacked = []
    modules = "bitsandbytes.nn.modules"
    repack = import_module(modules)._convert_weight_packed_for_cpu
    monkeypatch.setattr(
        f"{modules}._convert_weight_packed_for_cpu", lambda *given: repacked.append(1) or repack(*given)
    )
    held = tmp_path / "held.json"
    held.write_bytes(data.read_bytes())
    flags = ("--recipe", "qlora", "--targets", "q_proj", "--dropout", "0")
    assert tune(*flags, "--run", str(tmp_path / "alone"))[0] == 0
    measured = ("--validation", str(held), "--validate-every", "1", "--overwrite")
    assert tune(*flags, *measured, "--run", str(tmp_path / "measured"))[0] == 0
    one, other = (
        load_file(tmp_path / run / "checkpoints" / "step-00000003" / "weights.safetensors")
        for run in ("alone", "measured")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not repacked


def test_other_languages_keep_their_own_losses(tune, data):
    others = {"fr": "German", "ja": "Tok Pisin", "ru": ""}
    records = [one | {"language": others.get(one["language"], one["language"])} for one in json.loads(data.read_text())]
    data.write_text(json.dumps(records * 3), "utf-8")
    status, printed, out = tune("--validation", "0.3", "--validate-every", "6", "--steps", "6", "--log-every", "6")
    assert status == 0, printed.err
    last = read_records(out.with_name("out.run") / "metrics.jsonl")[-1]
    told = {*CODES, "de", "tpi"} - {*others}
    assert set(last["loss_by_language"]) == told
    assert set(last["held_out"]) == {"all", *told}
    assert f"language: [{', '.join(CODES)}, de, tpi]" in pack(out, "me/mine").card


def test_a_run_prepares_data_on_no_more_cores_than_it_may_use(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    options = StageOptions(data=("my.json",), images=tmp_path, model="base", recipe=lora())
    assert options.recipe.train.workers > 1
    assert stage._scheduled(options, 100).workers == 1


def test_a_run_ends_where_what_is_held_out_comes_no_lower(tune, data, tmp_path):
    held = tmp_path / "held.json"
    held.write_bytes(data.read_bytes())
    resting = ("--learning-rates", CONNECTOR, "1e-12", LANGUAGE_MODEL, "0", "--steps", "9")
    flags = ("--validation", str(held), "--validate-every", "1", "--patience", "2", *resting)
    status, printed, out = tune(*flags)
    assert status == 0, printed.err
    steps = [one["step"] for one in read_records(out.with_name("out.run") / "metrics.jsonl")]
    assert steps[-1] < 9
    assert "is finished" in tune(*flags)[1].out
    for alone in (("--patience", "2"), ("--validate-every", "9"), ("--validate-answers", "0")):
        assert "give --validation" in refusal(tune(*alone, "--out", str(tmp_path / "other")))


def test_what_is_computed_is_counted_as_it_is():
    """The embedded Maya's tower is made of convolutions, whose weights are used at many places."""
    config = load_config(asset_path("maya-tiny"))
    work = Work.of(config, stage_2(), Lengths(tokens=200, supervised=20, pictures=1, longest=300))
    assert work.tower > 2 * Parameters.of(config, stage_2()).tower * config.patches_kept(*[config.image_size] * 2)
    siglip = Work.of(tiny_config(), stage_2(), Lengths(tokens=20, supervised=2, pictures=1, longest=30))
    counted = Parameters.of(tiny_config(), stage_2())
    assert siglip.tower == pytest.approx(2 * 16 * counted.tower, rel=0.5)
    assert siglip.connector == pytest.approx(2 * 16 * counted.connector, rel=0.05)


TOKENS = 251  # a number that is no size of a weight


def kept_a_layer(*, width: int, inner: int, learns: bool, lora: LoraSettings | None = None) -> float:
    """Numbers in bfloat16 that one more decoder layer keeps of a token."""

    def kept(layers: int) -> int:
        shape = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
        heads = {"num_attention_heads": width // 64, "num_key_value_heads": width // 256}
        model = tiny_model(text=shape | heads).train()
        AnswerObjective(model).requires_grad_(learns)
        if lora is not None:
            add_lora(model, lora)
            model.requires_grad_(False)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_("lora_" in name)
        held: dict[int, Tensor] = {}

        def pack(tensor: Tensor) -> Tensor:
            if TOKENS in tensor.shape:
                held[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu"):
            embeds = torch.randn(1, TOKENS, width, dtype=torch.bfloat16, requires_grad=True)
            starts = torch.tensor([0, TOKENS], dtype=torch.int32)
            output = model.get_decoder()(
                inputs_embeds=embeds,
                attention_mask=no_mask(starts),
                position_ids=torch.arange(TOKENS)[None],
                supervised=torch.arange(TOKENS),
                sequence_starts=starts,
                longest=TOKENS,
                use_cache=False,
            )
        assert output.last_hidden_state.requires_grad
        return sum(tensor.untyped_storage().nbytes() for tensor in held.values())

    return (kept(5) - kept(2)) / 3 / TOKENS / 2


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize(("width", "inner"), [(256, 896), (512, 1024)])
def test_the_memory_that_is_told_is_what_a_layer_keeps(width, inner, learns):
    told = kept_by_layer(tiny_config(text={"hidden_size": width, "intermediate_size": inner}).text, learns=learns)
    assert kept_a_layer(width=width, inner=inner, learns=learns) == pytest.approx(told, rel=0.05)


@pytest.mark.parametrize("more", [{}, {"targets": ("q_proj", "down_proj"), "dora": True}])
def test_what_adapters_keep_is_told_too(more):
    width, inner, settings = 256, 896, LoraSettings(rank=16, dropout=0.0, **more)
    text = tiny_config(text={"hidden_size": width, "intermediate_size": inner}).text
    told = kept_by_layer(text, learns=False) + kept_by_adapters(text, settings)
    assert kept_a_layer(width=width, inner=inner, learns=False, lora=settings) == pytest.approx(told, rel=0.05)


@pytest.mark.parametrize("name", ["pretrain", "finetune", "lora", "qlora", "unfreeze_layers"])
def test_weights_gradients_and_moments_are_told_as_they_are(name):
    if name == "qlora":
        pytest.importorskip("bitsandbytes")
    recipe = stage_1() if name == "pretrain" else finetune.RECIPES[name]()
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 5}
    model = tiny_model(text=sizes).to(torch.bfloat16)
    told = memory(model.config, recipe, Lengths(tokens=20, supervised=5, pictures=1, longest=30))
    objective = stage.prepare(model, recipe, torch.device("cpu"))
    rates = stage.parts_of(recipe, model.config)
    optimizers = build_optimizers(objective, rates, eight_bit=recipe.train.optimizer == "adamw8bit")
    trained = {id(one): one for one in trained_parameters(optimizers)}
    for parameter in trained.values():
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    resting = [one for one in objective.parameters() if id(one) not in trained]
    states = [one.quant_state for one in resting if getattr(one, "quant_state", None)]
    moments = [value for optimizer in optimizers for state in optimizer.state.values() for value in state.values()]
    measured = {
        "weights at rest": sum(one.nbytes for one in resting) + sum(state.absmax.nbytes for state in states),
        "weights that train": sum(one.nbytes for one in trained.values()) * 1.5,  # and a copy in bfloat16
        "gradients": sum(one.grad.nbytes for one in trained.values()),
        "optimiser": sum(one.nbytes for one in moments if isinstance(one, Tensor) and one.numel() > 256),
    }
    for part, size in measured.items():
        assert told[part] == pytest.approx(size, rel=0.05), part


def test_the_table_of_the_guide_is_what_the_command_prints(capsys):
    assert estimate.main([]) == 0
    printed = capsys.readouterr().out
    guide = (Path(estimate.__file__).parent / "README.md").read_text("utf-8")
    assert guide.partition("<!-- memory -->\n")[2].partition("<!-- /memory -->")[0] == printed
    assert estimate.main(["--model", "/nowhere"]) == 2
    assert "There is no folder /nowhere" in capsys.readouterr().err
