"""`python -m tests.speed.inference`: our answers against transformers' `generate`, on the same weights.

Outputs are compared before any time is told. Measured is the CPU time of one thread, with both interleaved, the median
over rounds. Weights are random: speed does not depend on them.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from accelerate import init_empty_weights
from PIL import Image
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from maya_core.answering.llama_decoder import LlamaDecoder
from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession
from maya_core.llama import PACKAGE, VERSION, LlamaModel, is_installed
from maya_core.model.config import MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation, MayaProcessor
from maya_core.model.prompt import Message
from maya_core.weights.gguf_file import write_language_model
from maya_core.weights.quantization import FourBitHead, has_kernel, quantize
from tests.speed.report import Row, record
from training.embedded.tokenizer import train_tokenizer

GENERATE = "transformers `generate`"
FOUR_BIT_PEER = "transformers `generate` with bitsandbytes"
WORDS = "What is in the picture and where does it lie? A dog lies on the green grass beside a red ball in the sun. "
NEXT_QUESTION = "And where does it lie?"  # some 20 tokens, as questions have
ANSWER = "The dog lies on the grass beside the ball, where the sun is green."
PUBLISHED_LAYERS, FEW_LAYERS = 32, (1, 3)
LIKELIEST = 32  # words whose scores are compared
PROMPT = 530  # letters, some 320 tokens: as many as a picture and a question take


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare our answers with transformers' generate."""

    rounds: Annotated[int, tyro.conf.arg(help="times that each is measured, interleaved")] = 7
    only: Annotated[tuple[str, ...], tyro.conf.arg(help="of: host, decode, turns, four_bit, llama")] = ()
    record: Annotated[bool, tyro.conf.arg(help="keep what is printed, and write README's table")] = False


# --- models ---


def new_model(
    *, tokenizer: Any, tower: dict[str, Any], text: dict[str, Any], spread: float
) -> tuple[Any, MayaProcessor]:
    """A random Maya of these shapes, and its processor."""
    known = tokenizer.get_added_vocab()
    config = MayaConfig(
        vision_config={"image_size": 256, "patch_size": 16, "vision_use_head": False} | tower,
        text_config={
            "max_position_embeddings": 8192, "logit_scale": 0.0625, "eos_token_id": None,
            "pad_token_id": known["<PAD>"], "bos_token_id": known["<BOS_TOKEN>"],
        } | text,
        image_token_id=known["<image>"],
        vision_feature_select_strategy="full",
    )  # fmt: skip
    torch.manual_seed(0)
    model = MayaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, spread)
    return model, MayaProcessor(config, ImagePreparation(size=256), tokenizer)


SMALL_TOWER = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 3}


def medium_text(vocab_size: int) -> dict[str, Any]:
    """A language model of 195 M parameters."""
    return {
        "vocab_size": vocab_size, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 16, "num_key_value_heads": 4,
    }  # fmt: skip


# --- measuring ---


def thread_seconds(work: Callable[[], Any]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


def medians(rounds: int, *works: Callable[[], float]) -> list[float]:
    """The median of what each gives, run in turns after one round that does not count."""
    measured = [[work() for work in works] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*measured, strict=True)]


def stock_tokens(
    model: Any, inputs: dict[str, Tensor], new: int, processors: LogitsProcessorList | None = None
) -> list[int]:
    ids = model.generate(
        **inputs, logits_processor=processors, max_new_tokens=new, min_new_tokens=new, do_sample=False,
        suppress_tokens=[model.config.image_token_id],
    )  # fmt: skip
    answer: list[int] = ids[0, inputs["input_ids"].shape[1] :].tolist()
    return answer


class Clock(LogitsProcessor):
    """Thread time whenever `generate` has the scores of a further token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.times.append(time.thread_time())
        return scores


def stock_token_seconds(model: Any, inputs: dict[str, Tensor], new: int) -> float:
    """Seconds of a token after the first."""
    clock = Clock()
    stock_tokens(model, inputs, new, LogitsProcessorList([clock]))
    return (clock.times[-1] - clock.times[0]) / (new - 1)


def our_token_seconds(session: ChatSession, messages: Sequence[Message], new: int) -> float:
    """Seconds of a token after the first."""
    session._read = None  # a new conversation
    stream = session.deltas(messages, GenerationOptions(max_new_tokens=new))
    times = [time.thread_time() for _ in stream]
    return (times[-1] - times[0]) / (new - 1)


def agreement_of(ours: Sequence[int], theirs: Sequence[int]) -> str:
    same = next((at for at, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]), len(ours))
    return f"{same} of {len(ours)} greedy tokens the same"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


# --- the comparisons ---


def host(options: Options, tokenizer: Any) -> list[Row]:
    """What a token costs besides arithmetic: 32 layers that are next to nothing."""
    model, processor = thin_model(tokenizer)
    return [_decoding("host work a token, 32 thin layers", model, processor, options, many=65, wanted=2.5)]


def decode(options: Options, tokenizer: Any) -> list[Row]:
    model, processor = medium_model(tokenizer)
    size = sum(parameter.numel() for parameter in model.language_model.parameters()) / 1e6
    return [_decoding(f"a token, {size:.0f} M bfloat16", model, processor, options, many=25, wanted=1.25)]


def thin_model(tokenizer: Any) -> tuple[Any, MayaProcessor]:
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 32,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    return new_model(tokenizer=tokenizer, tower=SMALL_TOWER, text=text, spread=0.3)


def medium_model(tokenizer: Any) -> tuple[Any, MayaProcessor]:
    model, processor = new_model(tokenizer=tokenizer, tower=SMALL_TOWER, text=medium_text(32000), spread=0.02)
    return model.bfloat16(), processor


def _decoding(what: str, model: Any, processor: MayaProcessor, options: Options, *, many: int, wanted: float) -> Row:
    stock, session = copy.deepcopy(model), ChatSession(model, processor)
    messages = [Message(role="user", text=WORDS)]
    inputs = processor.prompts([messages])

    agreement = _checked(session, stock, messages, many)
    mine, other = medians(
        options.rounds,
        lambda: our_token_seconds(session, messages, many),
        lambda: stock_token_seconds(stock, inputs, many),
    )
    return Row(
        what=what, peer=GENERATE, ours=milliseconds(mine), theirs=milliseconds(other), ratio=other / mine,
        agreement=agreement, wanted=wanted,
    )  # fmt: skip


@torch.inference_mode()
def _checked(session: ChatSession, stock: Any, messages: Sequence[Message], new: int) -> str:
    """How many greedy tokens agree, and how near the scores of the first are; ends the run where they are not near."""
    inputs = session.processor.prompts([messages])
    ours = session.token_ids(messages, GenerationOptions(max_new_tokens=new))
    theirs = stock_tokens(stock, inputs, new)
    decoder = session.decoder
    embeds = session.model.get_input_embeddings()(inputs["input_ids"])
    scores = decoder(embeds, torch.arange(embeds.shape[1])[None], decoder.new_cache(1)).float()
    expected = stock(**inputs).logits[:, -1].float()
    if isinstance(decoder.head, FourBitHead):  # which gives the likeliest exactly, and only those
        likeliest = expected.topk(LIKELIEST).indices
        scores, expected = scores.gather(1, likeliest), expected.gather(1, likeliest)
    difference = float((scores - expected).abs().max() / expected.abs().max())
    if difference > (1e-4 if stock.dtype == torch.float32 else 3e-2):
        raise SystemExit(f"the scores differ by {difference:.1e} of their size")
    return f"{agreement_of(ours, theirs)}, scores within {difference:.0e}"


def turns(options: Options, tokenizer: Any) -> list[Row]:
    """The wait for the first token of a later turn, about a picture."""
    model, processor = new_model(tokenizer=tokenizer, tower=SMALL_TOWER, text=medium_text(len(tokenizer)), spread=0.02)
    stock = copy.deepcopy(model)
    photo = Image.effect_mandelbrot((640, 480), (-2, -1, 1, 1), 50).convert("RGB")
    rows = []
    for turn, wanted in ((2, 8.0), (5, 12.0)):
        messages = [Message(role="user", text=WORDS, images=(photo,))]
        for _ in range(turn - 1):
            messages += [Message(role="assistant", text=ANSWER), Message(role="user", text=NEXT_QUESTION)]
        session = ChatSession(model, processor)

        def ours(session: ChatSession = session, messages: Any = messages) -> float:
            session._read = None
            _first(session, [*messages[:-1], Message(role="user", text="?")])  # all turns before this one were read
            return thread_seconds(lambda: _first(session, messages))

        def theirs(messages: Any = messages) -> float:
            return thread_seconds(lambda: stock_tokens(stock, processor.prompts([messages]), 1))

        if (first := _first(session, messages)) != (expected := stock_tokens(stock, processor.prompts([messages]), 1)):
            raise SystemExit(f"turn {turn}: the first tokens differ, {first} and {expected}")
        mine, other = medians(options.rounds, ours, theirs)
        row = Row(
            what=f"first token of turn {turn}, with a picture", peer=GENERATE, ours=milliseconds(mine),
            theirs=milliseconds(other), ratio=other / mine, agreement="the same token", wanted=wanted,
        )  # fmt: skip
        rows.append(row)
    return rows


def _first(session: ChatSession, messages: Sequence[Message]) -> list[int]:
    return session.token_ids(messages, GenerationOptions(max_new_tokens=1))


def four_bit(options: Options, tokenizer: Any) -> list[Row]:
    """The published shapes in NF4: one layer and three, extrapolated to 32; a token with the head, a prompt without, because
    the peer's head copies the whole table there."""
    tokens, prompts = [], []
    for layers in FEW_LAYERS:
        session, stock = _published_shapes(layers, tokenizer)
        messages = [Message(role="user", text=(WORDS * 6)[:PROMPT])]
        short = [Message(role="user", text="?")]
        agreement = _checked(session, stock, messages, 9)
        inputs = session.processor.prompts([short])

        def our_token(session: ChatSession = session, short: Any = short) -> float:
            return our_token_seconds(session, short, 9)

        def stock_token(stock: Any = stock, inputs: Any = inputs) -> float:
            return stock_token_seconds(stock, inputs, 9)

        with torch.inference_mode():
            embeds = session.model.get_input_embeddings()(session.processor.prompts([messages])["input_ids"])
        tokens.append(medians(options.rounds, our_token, stock_token))
        prompts.append(medians(options.rounds, *_prompt_readers(session, stock, embeds)))
    rows = []
    for what, (one, three), read, wanted in (
        ("a token, 8B in NF4", tokens, 1, 1.4),
        (f"a prompt of {embeds.shape[1]}, 8B in NF4, without the head", prompts, 0, 1.3),
    ):
        layer = [(after - before) / 2 for before, after in zip(one, three, strict=True)]
        mine, other = (PUBLISHED_LAYERS * each + read * (first - each) for each, first in zip(layer, one, strict=True))
        row = Row(
            what=what, peer=FOUR_BIT_PEER, ours=milliseconds(mine), theirs=milliseconds(other),
            ratio=other / mine, agreement=agreement, wanted=wanted,
        )  # fmt: skip
        rows.append(row)
    return rows


def _prompt_readers(
    session: ChatSession, stock: Any, embeds: Tensor
) -> tuple[Callable[[], float], Callable[[], float]]:
    """Seconds to read a prompt."""
    positions = torch.arange(embeds.shape[1])[None]

    @torch.inference_mode()
    def ours() -> float:
        return thread_seconds(lambda: session.decoder(embeds, positions, session.decoder.new_cache(1)))

    @torch.inference_mode()
    def theirs() -> float:
        return thread_seconds(lambda: stock.get_decoder()(inputs_embeds=embeds, use_cache=True))

    return ours, theirs


def _published_shapes(layers: int, tokenizer: Any) -> tuple[ChatSession, Any]:
    """A model of the published widths in NF4, twice; the table of words is shared."""
    known = tokenizer.get_added_vocab()
    config = MayaConfig(
        vision_config={"image_size": 256, "patch_size": 16, "vision_use_head": False} | SMALL_TOWER,
        text_config={
            "vocab_size": 256000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": layers,
            "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
            "logit_scale": 0.0625, "eos_token_id": None, "pad_token_id": known["<PAD>"],
        },
        image_token_id=known["<image>"],
        vision_feature_select_strategy="full",
    )  # fmt: skip
    with init_empty_weights():
        model = MayaForConditionalGeneration(config).eval()
    torch.manual_seed(0)
    for name, parameter in list(model.named_parameters()):
        owner, _, attribute = name.rpartition(".")
        value = torch.empty(parameter.shape, dtype=torch.bfloat16).fill_(1)
        if parameter.ndim > 1:
            value.normal_(0, 0.02)
        setattr(model.get_submodule(owner), attribute, torch.nn.Parameter(value, requires_grad=False))
    model.tie_weights()
    quantize(model, device="cpu")
    table = model.get_input_embeddings().weight
    stock = copy.deepcopy(model, {id(table): table})
    return ChatSession(model, MayaProcessor(config, ImagePreparation(size=256), tokenizer)), stock


def llama(options: Options, tokenizer: Any) -> list[Row]:
    """The layers of the published shapes, ours as NF4 is read and llama.cpp's in Q4_0, one and two extrapolated to 32: a
    token, and a prompt. The table of words is small, and the head is not in it."""
    if not is_installed():
        raise SystemExit(f"llama.cpp is not here: pip install {PACKAGE}=={VERSION}")
    tokens, prompts = [], []
    for layers in (1, 2):
        ours, theirs = _in_both_engines(layers, tokenizer)
        messages, short = [Message(role="user", text=(WORDS * 6)[:PROMPT])], [Message(role="user", text="?")]
        ids_1T = ours.processor.prompts([messages])["input_ids"]
        readers = [partial(_read_seconds, session, ids_1T) for session in (ours, theirs)]
        writers = [partial(our_token_seconds, session, short, 9) for session in (ours, theirs)]
        tokens.append(medians(options.rounds, *writers))
        prompts.append(medians(options.rounds, *readers))
    instructions = "AVX512-BF16" if has_kernel() else torch.backends.cpu.get_cpu_capability()
    rows = []
    for what, (one, two) in (("a token", tokens), (f"a prompt of {ids_1T.shape[1]}", prompts)):
        mine, other = (PUBLISHED_LAYERS * (after - before) for before, after in zip(one, two, strict=True))
        row = Row(
            what=f"{what}, 8B in four bits, layers alone, on {instructions}", peer=f"llama.cpp, Q4_0 ({PACKAGE} {VERSION})",
            ours=milliseconds(mine), theirs=milliseconds(other), ratio=other / mine,
            agreement=_near_in_both_engines(tokenizer),
        )  # fmt: skip
        rows.append(row)
    return rows


def _read_seconds(session: ChatSession, ids_1T: Tensor) -> float:
    """Seconds to read a prompt."""
    with torch.inference_mode():
        return thread_seconds(lambda: session.decoder.read(ids_1T, None, session.decoder.new_cache(1)))


def _in_both_engines(layers: int, tokenizer: Any) -> tuple[ChatSession, ChatSession]:
    """The published widths with few words, in our four bits and in llama.cpp's."""
    text = {
        "vocab_size": 512, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": layers,
        "num_attention_heads": 32, "num_key_value_heads": 8,
    }  # fmt: skip
    model, processor = new_model(tokenizer=tokenizer, tower=SMALL_TOWER, text=text, spread=0.02)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "model.gguf"
        write_language_model(model.state_dict(), model.config.text, None, file, numbers="q4_0", name="speed")
        theirs = ChatSession(model, processor, LlamaDecoder(model, LlamaModel(file)))
    quantize(model.bfloat16(), device="cpu")
    return ChatSession(model, processor), theirs


def _near_in_both_engines(tokenizer: Any) -> str:
    """Both round differently; on the same weights in 16 bits they are compared."""
    model, processor = thin_model(tokenizer)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "model.gguf"
        write_language_model(model.state_dict(), model.config.text, None, file, numbers="f16", name="speed")
        theirs = ChatSession(model, processor, LlamaDecoder(model, LlamaModel(file)))
    messages = [Message(role="user", text=WORDS)]
    mine, other = (
        session.token_ids(messages, GenerationOptions(max_new_tokens=25))
        for session in (ChatSession(model, processor), theirs)
    )
    return f"in 16 bits {agreement_of(mine, other)}"


COMPARISONS = {"host": host, "decode": decode, "turns": turns, "four_bit": four_bit, "llama": llama}


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(290, texts=[WORDS])  # a token is a letter or two, so that sentences have a usual length
    names = options.only or tuple(name for name in COMPARISONS if name != "llama" or is_installed())
    for name in names:
        rows = COMPARISONS[name](options, tokenizer)
        command = f"python -m tests.speed.inference --only {name} --rounds {options.rounds} --record"
        record(f"Answering, one thread of the CPU: {name}", rows, command=command, keep=options.record)


if __name__ == "__main__":
    main()
