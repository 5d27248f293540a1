"""Our own product of a vector and a matrix in four bits: its instructions run here one by one, on a GPU as it is."""

import random
import re

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, get_4bit_type

from maya_core.weights import quantization
from maya_core.weights.nf4_assembly import NF4, ORDER, WHOLE, assembly, digits


def signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def bytes_of(word: int) -> list[int]:
    return [word >> 8 * at & 255 for at in range(4)]


def run(ptx: str, *given: int) -> int:
    """What $0 is after PTX's instructions, of words $1, $2 ..."""
    held = {f"${number}": word for number, word in enumerate(given, start=1)}

    def value(name: str) -> int:
        return held[name] if name in held else int(name, 0)

    for line in ptx.strip("{} ").split(";"):
        if not (match := re.match(r"\s*([a-z0-9]+)\.(\S+) (.*)", line)) or not match[3] or line.strip().startswith("."):
            continue
        name, _, operands = match.groups()
        out, *read = (operand.strip() for operand in operands.split(","))
        a, *rest = map(value, read)
        match name:
            case "and":
                word = a & rest[0]
            case "or":
                word = a | rest[0]
            case "shr":
                word = a >> rest[0]
            case "shl":
                word = a << rest[0]
            case "mov":
                word = a
            case "add":
                word = a + rest[0]
            case "prmt":
                pool = bytes_of(a) + bytes_of(rest[0])
                word = sum(pool[rest[1] >> 4 * at & 7] << 8 * at for at in range(4))
                assert not rest[1] & 0x8888  # which would repeat a sign
            case "dp4a":
                pairs = zip(bytes_of(a), bytes_of(rest[0]), strict=True)
                word = rest[1] + sum(signed(one) * signed(other) for one, other in pairs)
        held[out] = word & 0xFFFFFFFF
    return held["$0"] - (held["$0"] >> 31 << 32)


def in_digits(whole: list[int]) -> list[int]:
    """Eight whole numbers as words of upper digits, and of lower ones."""
    pairs = [[digits(number) for number in (whole[at + one] for one in ORDER)] for at in (0, 4)]
    return [int.from_bytes(bytes(pair[which] & 255 for pair in four), "little") for which in (0, 1) for four in pairs]


def test_the_instructions_multiply_eight_weights_with_eight_numbers():
    assert pytest.approx(get_4bit_type("nf4", device="cpu").tolist()) == list(NF4)
    rng = random.Random(0)
    for _ in range(50):
        codes = [rng.randrange(16) for _ in range(8)]
        whole = [rng.randint(-WHOLE, WHOLE) for _ in range(8)]
        held = bytes(first << 4 | second for first, second in zip(codes[::2], codes[1::2], strict=True))
        given = run(assembly(), int.from_bytes(held, "little"), *in_digits(whole))
        expected = sum(NF4[code] * number for code, number in zip(codes, whole, strict=True))
        assert given * 256 / WHOLE == pytest.approx(expected, abs=2e-4 * WHOLE)


def test_without_a_gpu_there_is_no_such_product():
    assert quantization.own_product(torch.device("cpu"), 4096) is None


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "columns"), [(4096, 4096), (34816, 4096), (4096, 14336), (100, 64), (7, 32768)])
def test_the_product_is_that_of_the_matrix_on_a_gpu(rows, columns):
    device = torch.device("cuda")
    generator = torch.Generator(device).manual_seed(rows)
    weight_NK = torch.randn(rows, columns, device=device, generator=generator) / 50
    vector_1K = torch.randn(1, columns, device=device, generator=generator).bfloat16()
    data, state = quantization._quantized([weight_NK], device)
    given_1N = quantization.FourBit(data, state, None)(vector_1K)
    assert quantization.own_product(device, columns) is not None
    expected_1N = vector_1K.double() @ dequantize_4bit(data, state).double().T
    difference = (given_1N - expected_1N).norm() / expected_1N.norm()
    assert difference < 5e-3  # the result is in bfloat16
