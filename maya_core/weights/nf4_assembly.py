"""Eight weights of four bits times eight numbers, in a GPU's own instructions: what `nf4_kernel` does with a word.

`prmt` puts together four of eight bytes, chosen by four bits each, which is how the weights lie: three of them look up four
weights in a table of sixteen bytes. `dp4a` multiplies and adds four pairs of bytes. So weights and numbers are whole
numbers of 16 bits, in two digits of a byte each: their product is exact but for the lower digits', which is less than
bfloat16 rounds off.
"""

from collections.abc import Sequence

# arXiv 2305.14314, appendix E
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022833334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
WHOLE = 127 * 256  # what 1 is
ORDER = (1, 0, 3, 2)  # in which four weights come: the first of two lies in a byte's upper half


def digits(whole: int) -> tuple[int, int]:
    """Upper and lower digit, -128 to 127 each: whole = 256 * upper + lower."""
    upper = (whole + 128) >> 8
    return upper, whole - 256 * upper


def _words(table: Sequence[int]) -> list[str]:
    """Sixteen bytes as four words."""
    held = bytes(number & 255 for number in table)
    return [f"0x{int.from_bytes(held[at : at + 4], 'little'):08x}" for at in range(0, 16, 4)]


def assembly() -> str:
    """PTX. $0: the product, over WHOLE * WHOLE / 256. $1: eight weights. $2, $3: the upper digits of eight numbers, four a
    word in ORDER; $4, $5: the lower ones."""
    upper, lower = (_words(table) for table in zip(*(digits(round(WHOLE * number)) for number in NF4), strict=True))
    lines = [
        ".reg .b32 which, half, first, second, upper, lower;",
        ".reg .s32 great, small;",
        "and.b32 which, $1, 0x77777777;",  # which of the eight numbers of a half
        "shr.u32 half, $1, 1;",
        "and.b32 half, half, 0x44444444;",  # and which half
        "or.b32 half, half, 0x32103210;",
        "mov.s32 great, 0;",
        "mov.s32 small, 0;",
    ]
    for four in (0, 1):
        for name, words in (("upper", upper), ("lower", lower)):
            lines += [
                f"prmt.b32 first, {words[0]}, {words[1]}, which;",
                f"prmt.b32 second, {words[2]}, {words[3]}, which;",
                f"prmt.b32 {name}, first, second, half;",
            ]
        lines += [
            f"dp4a.s32.s32 great, upper, ${2 + four}, great;",
            f"dp4a.s32.s32 small, upper, ${4 + four}, small;",
            f"dp4a.s32.s32 small, lower, ${2 + four}, small;",
        ]
        lines += ["shr.u32 which, which, 16;", "shr.u32 half, half, 16;"] if four == 0 else []
    lines += ["shl.b32 great, great, 8;", "add.s32 $0, great, small;"]
    return "{ " + " ".join(lines) + " }"
