"""A vector times a matrix in four bits on an NVIDIA GPU: what a decoded token is made of, three a layer.

Reading the weights is most of the work, so they are read once, in the order in which they lie, and multiplied as whole
numbers (`nf4_assembly`), while the vector stays in registers for all rows that a program takes. Triton comes with torch
where torch has CUDA on Linux.

Shape letters: N rows of the matrix, K columns, B blocks of a row, C words of eight weights that a row has, up to a power
of 2.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from maya_core.weights.nf4_assembly import WHOLE, assembly

IN_A_WORD, IN_A_BLOCK = 8, 64
WORDS_OF_A_WARP = 128  # four for each thread: 16 bytes, the most that one instruction reads
MOST_WARPS = 8
PRODUCT = tl.constexpr(assembly())
ONE = tl.constexpr(WHOLE)
UNIT = tl.constexpr(256 / WHOLE**2)  # of a product


@triton.jit
def _fours(a: tl.tensor, b: tl.tensor, c: tl.tensor, d: tl.tensor) -> tl.tensor:
    """Four digits in a word, in nf4_assembly's ORDER."""
    return (b & 255) | ((a & 255) << 8) | ((d & 255) << 16) | ((c & 255) << 24)


@triton.jit
def _row(
    words: tl.tensor,
    scales: tl.tensor,
    row: tl.tensor,
    rows: tl.tensor,
    word_C: tl.tensor,
    unit_C: tl.tensor,
    digits: tl.tensor,
    WORDS: tl.constexpr,
) -> tl.tensor:
    """(C,) the products of a row's words; zeros behind the last row."""
    is_there_C = (word_C < WORDS) & (row < rows)
    row_C = row.to(tl.int64) * WORDS + word_C
    eight_C = tl.load(words + row_C, mask=is_there_C, other=0)
    scale_C = tl.load(scales + row_C // 8, mask=is_there_C, other=0)
    product_C = tl.inline_asm_elementwise(
        PRODUCT,
        "=r,r,r,r,r,r",
        [eight_C, digits[0], digits[1], digits[2], digits[3]],
        dtype=tl.int32,
        is_pure=True,
        pack=1,
    )
    return product_C.to(tl.float32) * (scale_C.to(tl.float32) * unit_C)


@triton.jit
def _added(
    a: tl.tensor,
    b: tl.tensor,
    c: tl.tensor,
    d: tl.tensor,
    e: tl.tensor,
    f: tl.tensor,
    g: tl.tensor,
    h: tl.tensor,
) -> tl.tensor:
    return a + e, b + f, c + g, d + h


@triton.jit
def _product(
    vector: tl.tensor,
    words: tl.tensor,
    scales: tl.tensor,
    product: tl.tensor,
    rows: tl.tensor,
    WORDS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS_AT_ONCE: tl.constexpr,
) -> None:
    """ROWS_AT_ONCE rows of the product, four after four."""
    word_C = tl.arange(0, WIDTH)
    is_there_C = word_C < WORDS
    ab = tl.load(vector + word_C * 4, mask=is_there_C, other=0)
    cd = tl.load(vector + word_C * 4 + 1, mask=is_there_C, other=0)
    ef = tl.load(vector + word_C * 4 + 2, mask=is_there_C, other=0)
    gh = tl.load(vector + word_C * 4 + 3, mask=is_there_C, other=0)
    # the first of two bfloat16 numbers lies in the lower half
    a, b = (ab << 16).to(tl.float32, bitcast=True), (ab & -65536).to(tl.float32, bitcast=True)
    c, d = (cd << 16).to(tl.float32, bitcast=True), (cd & -65536).to(tl.float32, bitcast=True)
    e, f = (ef << 16).to(tl.float32, bitcast=True), (ef & -65536).to(tl.float32, bitcast=True)
    g, h = (gh << 16).to(tl.float32, bitcast=True), (gh & -65536).to(tl.float32, bitcast=True)
    most_C = tl.maximum(tl.maximum(tl.maximum(tl.abs(a), tl.abs(b)), tl.maximum(tl.abs(c), tl.abs(d))),
                        tl.maximum(tl.maximum(tl.abs(e), tl.abs(f)), tl.maximum(tl.abs(g), tl.abs(h))))  # fmt: skip
    unit_C = most_C * UNIT + 0 * (a + b + c + d + e + f + g + h)  # what is not a number stays none
    whole_C = tl.where(most_C > 0, ONE / most_C, 0)
    a, b = tl.floor(a * whole_C + 0.5).to(tl.int32), tl.floor(b * whole_C + 0.5).to(tl.int32)
    c, d = tl.floor(c * whole_C + 0.5).to(tl.int32), tl.floor(d * whole_C + 0.5).to(tl.int32)
    e, f = tl.floor(e * whole_C + 0.5).to(tl.int32), tl.floor(f * whole_C + 0.5).to(tl.int32)
    g, h = tl.floor(g * whole_C + 0.5).to(tl.int32), tl.floor(h * whole_C + 0.5).to(tl.int32)
    # a lower digit is what is left of 256 times the upper one, and so the number's own last eight bits
    digits = (
        _fours((a + 128) >> 8, (b + 128) >> 8, (c + 128) >> 8, (d + 128) >> 8),
        _fours((e + 128) >> 8, (f + 128) >> 8, (g + 128) >> 8, (h + 128) >> 8),
        _fours(a, b, c, d),
        _fours(e, f, g, h),
    )
    for group in tl.static_range(0, ROWS_AT_ONCE, 4):
        row = tl.program_id(0) * ROWS_AT_ONCE + group
        first, second, third, fourth = tl.reduce(
            (
                _row(words, scales, row, rows, word_C, unit_C, digits, WORDS),
                _row(words, scales, row + 1, rows, word_C, unit_C, digits, WORDS),
                _row(words, scales, row + 2, rows, word_C, unit_C, digits, WORDS),
                _row(words, scales, row + 3, rows, word_C, unit_C, digits, WORDS),
            ),
            0,
            _added,
        )
        tl.store(product + row, first.to(tl.bfloat16), mask=row < rows)
        tl.store(product + row + 1, second.to(tl.bfloat16), mask=row + 1 < rows)
        tl.store(product + row + 2, third.to(tl.bfloat16), mask=row + 2 < rows)
        tl.store(product + row + 3, fourth.to(tl.bfloat16), mask=row + 3 < rows)


def product(vector_K: Tensor, data: Tensor, scales_NB: Tensor) -> Tensor:
    """(K,) bfloat16 -> (N,) bfloat16. data: the matrix as bitsandbytes keeps it, two weights in a byte; scales_NB: float16,
    of each block of 64 columns. K is a multiple of 64."""
    rows, blocks = scales_NB.shape
    product_N = torch.empty(rows, dtype=torch.bfloat16, device=vector_K.device)
    words = blocks * IN_A_BLOCK // IN_A_WORD
    width = triton.next_power_of_2(words)
    rows_at_once = 16 if width > 1024 else 8  # so an H200 was fastest, with so many warps
    with torch.cuda.device(vector_K.device):  # Triton's own is the current one
        _product[(triton.cdiv(rows, rows_at_once),)](
            vector_K.view(torch.int32),
            data.view(-1).view(torch.int32),
            scales_NB,
            product_N,
            rows,
            WORDS=words,
            WIDTH=width,
            ROWS_AT_ONCE=rows_at_once,
            num_warps=min(MOST_WARPS, max(1, width // WORDS_OF_A_WARP)),
        )
    return product_N
