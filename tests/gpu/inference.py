"""`python -m tests.gpu.inference`: Maya 8B in four bits on one GPU, with random weights, against transformers.

Outputs are compared before any time is told. Where a step's time goes is told kernel by kernel, and two ceilings: memory
bandwidth and matrix products.
What matters most comes first; a part that fails is told, and the others are measured all the same. `--only` names parts;
`--toy` runs the whole of it on small shapes, on a CPU too; `--record` keeps what is printed. (argparse, because rented
machines have little installed.)
"""

import argparse
import copy
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from PIL import Image
from torch import Tensor

from maya_core.answering.footprint import footprint
from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession
from maya_core.hardware import give_back_memory
from maya_core.model.config import PUBLISHED_TEXT, PUBLISHED_VISION, MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation, MayaProcessor
from maya_core.model.prompt import Message
from maya_core.weights.checkpoint import load_model, save_model
from maya_core.weights.export import quantize_checkpoint
from maya_core.weights.quantization import FourBitHead, quantize
from tests.speed.report import GOAL, Row, record
from training.embedded.tokenizer import train_tokenizer

QUESTION = "What is in the picture, and where does it lie?"
TOY_TEXT = {
    "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 2048, "max_position_embeddings": 1024,
}  # fmt: skip
TOY_VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
KERNELS = 24  # that are told of a step, the longest first
PROFILED = 16  # tokens
PEER, STATIC_PEER = "transformers and bitsandbytes", "transformers, bfloat16, static cache, compiled"


Part = Callable[["Bench"], list[Row]]


class Bench:
    """The device, the shapes, and how much is measured."""

    def __init__(self, *, toy: bool) -> None:
        self.toy = toy
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokens, self.peer_tokens, self.repeats = (12, 6, 2) if toy else (256, 48, 5)
        tokenizer = train_tokenizer(400, texts=[QUESTION])
        known = tokenizer.get_added_vocab()
        self.config = MayaConfig(
            vision_config=dict(PUBLISHED_VISION) | (TOY_VISION if toy else {}),
            text_config=dict(PUBLISHED_TEXT)
            | {"eos_token_id": None, "pad_token_id": known["<PAD>"]}
            | (TOY_TEXT if toy else {}),
            image_token_id=known["<image>"],
        )
        self.processor = MayaProcessor(self.config, ImagePreparation(size=self.config.image_size), tokenizer)
        photo = Image.effect_mandelbrot((1024, 768), (-2, -1, 1, 1), 60).convert("RGB")
        self.messages = [Message(role="user", text=QUESTION, images=(photo,))]

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], repeats: int | None = None) -> float:
        """The median, after one call that does not count."""
        work()
        times = []
        for _ in range(repeats or self.repeats):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    def random_model(self) -> MayaForConditionalGeneration:
        """Weights in bfloat16 on the device, of the size that keeps numbers in range."""
        with init_empty_weights():
            model: MayaForConditionalGeneration = MayaForConditionalGeneration(copy.deepcopy(self.config))
        generator = torch.Generator(self.device).manual_seed(0)
        for name, parameter in list(model.named_parameters()):
            owner, _, attribute = name.rpartition(".")
            value = torch.ones(parameter.shape, dtype=torch.bfloat16, device=self.device)
            if parameter.ndim > 1:
                value.normal_(0, 0.02, generator=generator)
            setattr(model.get_submodule(owner), attribute, torch.nn.Parameter(value, requires_grad=False))
        model.tie_weights()
        return model.to(self.device).eval()

    def inputs(self) -> dict[str, Tensor]:
        batch = {name: tensor.to(self.device) for name, tensor in self.processor.prompts([self.messages]).items()}
        return batch | {"pixel_values": batch["pixel_values"].bfloat16()}


def ceilings(bench: Bench) -> list[Row]:
    """What the device can do: bytes moved a second, and operations of a matrix product."""
    size = 2**22 if bench.toy else 2**31
    source = torch.empty(size, dtype=torch.uint8, device=bench.device).random_()
    target = torch.empty_like(source)
    seconds = bench.seconds(lambda: target.copy_(source))
    side = 256 if bench.toy else 8192
    left, right = (torch.randn(side, side, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    product = bench.seconds(lambda: left @ right)
    print(f"copy {2 * size / seconds / 1e9:.0f} GB/s, bfloat16 products {2 * side**3 / product / 1e12:.1f} TFLOP/s")
    return []


def tokens_per_second(bench: Bench, answer: Callable[[int], Any], new: int) -> float:
    """Of the tokens after the first: a long answer less one of a single token."""
    return (new - 1) / (bench.seconds(lambda: answer(new)) - bench.seconds(lambda: answer(1)))


@torch.inference_mode()
def agreement(bench: Bench, session: ChatSession) -> str:
    """How near our scores are to the modules' own, after the prompt and after one more token; ends the run where they are
    not."""
    inputs = bench.inputs()
    cache = session.decoder.new_cache(1)
    scores = session.decoder.read(inputs["input_ids"], session.model.vision_features(inputs["pixel_values"]), cache)
    token_11 = scores.argmax(-1)[None]
    further = {
        name: torch.cat([inputs[name], more], dim=1)
        for name, more in (("input_ids", token_11), ("attention_mask", torch.ones_like(token_11)))
    }
    pairs = (
        (scores[0], session.model(**inputs, logits_to_keep=1)),
        (session.decoder.read(token_11, None, cache)[0], session.model(**(inputs | further), logits_to_keep=1)),
    )
    difference = max(_difference(session, ours, theirs.logits[0, -1]) for ours, theirs in pairs)
    if not difference < 3e-2:
        raise RuntimeError(f"the scores differ by {difference:.1e} of their size")
    return f"scores within {difference:.0e}"


def _difference(session: ChatSession, scores_V: Tensor, expected_V: Tensor) -> float:
    scores_V, expected_V = scores_V.float(), expected_V.float()
    if isinstance(session.decoder.head, FourBitHead):  # which gives the likeliest exactly, and only those
        likeliest = expected_V.topk(32).indices
        scores_V, expected_V = scores_V[likeliest], expected_V[likeliest]
    return float((scores_V - expected_V).norm() / expected_V.norm())


def stock(bench: Bench, model: MayaForConditionalGeneration, **more: Any) -> Callable[[int], Any]:
    inputs = bench.inputs()
    return lambda new: model.generate(**inputs, max_new_tokens=new, min_new_tokens=new, do_sample=False, **more)


def answering(bench: Bench) -> list[Row]:
    """Tokens a second in four bits, the wait for the first, and the memory of a chat of 4,096 tokens."""
    model = bench.random_model()
    quantize(model, device=bench.device)
    session = ChatSession(model, bench.processor)
    near = agreement(bench, session)

    def afresh() -> list[int]:
        session._read, session._seen = None, type(session._seen)(model)
        return _ours(bench, session, 1)

    first, mine = bench.seconds(afresh), tokens_per_second(bench, partial(_ours, bench, session), bench.tokens)
    prepared = bench.seconds(lambda: bench.processor.pixel_values(bench.messages[0].images))
    print(
        f"ours: first token {first * 1e3:.1f} ms, {prepared * 1e3:.1f} of them for the picture's pixels on the CPU, then "
        f"{mine:.0f} a second; {near}",
        flush=True,
    )
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        _ours(bench, session, bench.tokens)
        said = footprint(bench.config, dtype=torch.bfloat16, quantization="nf4", device="cuda")
        most = torch.cuda.max_memory_allocated()
        print(f"memory of a chat: {most / 1e9:.2f} GB at most, {said / 1e9:.2f} GB said before", flush=True)
    where_time_goes(bench, "a token", lambda: _ours(bench, session, PROFILED + 1), PROFILED)
    where_time_goes(bench, "a first token", afresh, 1)
    theirs = tokens_per_second(bench, stock(bench, model), bench.peer_tokens)
    their_first = bench.seconds(lambda: stock(bench, model)(1))
    return [
        Row(
            what="tokens a second, NF4", peer=PEER, ours=f"{mine:.0f}", theirs=f"{theirs:.0f}", ratio=mine / theirs,
            agreement=near, wanted=6,
        ),
        Row(
            what="first token, with a picture, NF4", peer=PEER, ours=f"{first * 1e3:.1f} ms",
            theirs=f"{their_first * 1e3:.1f} ms", ratio=their_first / first, agreement=near,
        ),
    ]  # fmt: skip


def _ours(bench: Bench, session: ChatSession, new: int) -> list[int]:
    return session.token_ids(bench.messages, GenerationOptions(max_new_tokens=new))


def where_time_goes(bench: Bench, what: str, work: Callable[[], Any], parts: int) -> None:
    """The device's time for each of `parts`, kernel by kernel."""
    work()
    try:
        with profiler(bench) as profile:
            work()
            bench.wait()
    except RuntimeError as error:  # what was measured must not be lost where nothing may be profiled
        print(f"not profiled: {error}")
        return
    tell(bench, what, profile, parts)


def profiler(bench: Bench) -> Any:
    activity = torch.profiler.ProfilerActivity
    return torch.profiler.profile(activities=[activity.CUDA if bench.device.type == "cuda" else activity.CPU])


def tell(bench: Bench, what: str, profile: Any, parts: int = 1) -> None:
    """The kernels that took longest."""
    name = "self_device_time_total" if bench.device.type == "cuda" else "self_cpu_time_total"
    events = sorted(profile.key_averages(), key=lambda event: -getattr(event, name))
    told = [(getattr(event, name) / parts, event.count / parts, event.key[:90]) for event in events]
    print(f"{what}: {sum(spent for spent, _, _ in told):.0f} us in {sum(count for _, count, _ in told):.0f} kernels")
    for spent, count, key in told[:KERNELS]:
        print(f"  {spent:8.1f} us {count:7.1f} x {key}")


def against_static(bench: Bench) -> list[Row]:
    """Against the fastest that transformers has: all sixteen bits, nothing allocated, compiled."""
    model = bench.random_model()
    more = {"cache_implementation": "static"}
    theirs = tokens_per_second(bench, stock(bench, model, **more), bench.peer_tokens)
    quantize(model, device=bench.device)
    session = ChatSession(model, bench.processor)
    near = agreement(bench, session)
    mine = tokens_per_second(bench, partial(_ours, bench, session), bench.tokens)
    row = Row(
        what="tokens a second, NF4", peer=STATIC_PEER, ours=f"{mine:.0f}", theirs=f"{theirs:.0f}", ratio=mine / theirs,
        agreement=near, wanted=1.3,
    )  # fmt: skip
    return [row]


def loading(bench: Bench) -> list[Row]:
    """Loading what was quantised before, as `maya quantize` leaves it."""
    model = bench.random_model()
    quantize(model, device=bench.device)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, bench.processor, Path(folder) / "four-bit")
        del model
        give_back_memory()
        seconds = bench.seconds(partial(load, bench, Path(folder) / "four-bit"), repeats=1)
    return [
        Row(
            what="loading in NF4", peer=f"{GOAL}, on an H100", ours=f"{seconds:.1f} s", theirs="15 s", ratio=15 / seconds,
            agreement="equal scores, by test", wanted=1,
        )
    ]  # fmt: skip


def load(bench: Bench, path: Path, **more: Any) -> None:
    load_model(path, dtype=torch.bfloat16, device=bench.device, **more)


def loading_whole(bench: Bench) -> list[Row]:
    """Against quantising on the way in."""
    with tempfile.TemporaryDirectory() as folder:
        whole, four_bit = Path(folder) / "whole", Path(folder) / "four-bit"
        save_model(bench.random_model(), bench.processor, whole)
        quantize_checkpoint(whole, four_bit)
        ours = bench.seconds(partial(load, bench, four_bit), repeats=1)
        theirs = bench.seconds(partial(load, bench, whole, quantization="nf4"), repeats=1)
    return [
        Row(
            what="loading in NF4", peer="quantising on the way in", ours=f"{ours:.1f} s", theirs=f"{theirs:.1f} s",
            ratio=theirs / ours, agreement="equal scores, by test", wanted=4,
        )
    ]  # fmt: skip


def run(name: str, parts: Mapping[str, Part], description: str | None, arguments: Sequence[str] | None) -> list[Row]:
    """The command of a GPU benchmark: `python -m tests.gpu.NAME`. What is measured is printed, and kept, part by part; ends
    with status 1 where one failed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), metavar="PART", help=", ".join(parts))
    options = parser.parse_args(arguments)
    bench = Bench(toy=options.toy)
    if bench.device.type != "cuda" and not options.toy:
        raise SystemExit("There is no CUDA GPU here; --toy runs on the CPU.")
    rows: list[Row] = []
    failed = []
    for part in options.only:
        try:
            found = parts[part](bench)
        except Exception:  # noqa: BLE001  (a rented machine is there once: what can be measured is)
            traceback.print_exc()
            failed.append(part)
            found = []
        rows += found
        if found:
            subject = {"inference": "Answering", "training": "Training"}[name]
            record(f"{subject}, one GPU", rows, command=f"python -m tests.gpu.{name} --record", keep=options.record)
        give_back_memory()
    if failed:
        raise SystemExit(f"failed, as told above: {', '.join(failed)}")
    return rows


PARTS: Mapping[str, Part] = {
    "answering": answering,
    "ceilings": ceilings,
    "loading": loading,
    "static-cache": against_static,
    "loading-whole": loading_whole,
}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    return run("inference", PARTS, __doc__, arguments)


if __name__ == "__main__":
    main()
