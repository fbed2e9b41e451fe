"""What the presenters of a diff share: values, positions, shares, what has changed most.

- A value is exact: the shortest decimal that gives it back, or its bits where it is no number.
- A share that is not nothing is never shown as 0 %, one that is not all never as 100 %.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vbuild.diff import Comparison, Pair, Stack, Summary, arrange
from vbuild.tensors import DType, Tensor

__all__ = [
    "Part",
    "brief",
    "changed_most",
    "distance",
    "grouped",
    "headline",
    "position",
    "shape",
    "share",
    "stacks",
    "totals",
    "value",
]

_FLOATS = {DType.F16: "<e", DType.F32: "<f", DType.F64: "<d"}
_SIGNED = (DType.I8, DType.I16, DType.I32, DType.I64)
_UNSIGNED = (DType.U8, DType.U16, DType.U32, DType.U64)


@dataclass(frozen=True, slots=True)
class Part:
    """What has changed in some tensors: of a cell, a module or a layer."""

    tensors: int
    changed: int
    elements: int
    differing: int
    max_ulp: int
    max_abs: float

    @property
    def share(self) -> float:
        """Differing elements as a part of those that were compared."""
        return self.differing / self.elements if self.elements else 0.0


def totals(pairs: Iterable[Pair]) -> Part:
    """The sum of pairs."""
    pairs = list(pairs)
    found = [pair.measured for pair in pairs if pair.measured is not None]
    return Part(
        len(pairs),
        sum(pair.status != "same" for pair in pairs),
        sum(pair.elements for pair in pairs if pair.measured is not None),
        sum(m.differing for m in found),
        max((m.max_ulp for m in found), default=0),
        max((m.max_abs for m in found), default=0.0),
    )


def stacks(comparison: Comparison) -> tuple[tuple[Stack, ...], tuple[str, ...]]:
    """All tensors of both sides, arranged: layers and modules, and what stands apart."""
    tensors = [*(p.a for p in comparison.pairs), *comparison.only_a, *comparison.only_b]
    return arrange(sorted(tensor.name for tensor in tensors))


def changed_most(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that differ in value, those with the largest share of changed elements first."""
    return sorted(
        (pair for pair in pairs if pair.measured is not None and pair.measured.differing),
        key=lambda pair: (-pair.share, -(pair.measured.max_abs if pair.measured else 0), pair.name),
    )


def value(bits: int, dtype: DType) -> str:
    """The element that ``bits`` are, as text."""
    size = dtype.itemsize
    if dtype is DType.BF16:
        return _number(struct.unpack("<f", struct.pack("<I", bits << 16))[0])
    if dtype in _FLOATS:
        return _number(struct.unpack(_FLOATS[dtype], bits.to_bytes(size, "little"))[0])
    if dtype in _SIGNED or dtype in _UNSIGNED:
        return str(int.from_bytes(bits.to_bytes(size, "little"), "little", signed=dtype in _SIGNED))
    if dtype is DType.BOOL and bits in (0, 1):
        return "true" if bits else "false"
    return f"0x{bits:0{2 * size}x}"


def _number(number: float) -> str:
    return repr(number)


def brief(bits: int, dtype: DType) -> str:
    """As :func:`value`, with six digits."""
    text = value(bits, dtype)
    return format(float(text), ".6g") if dtype.is_arithmetic else text


def distance(number: float) -> str:
    """An absolute difference with three digits."""
    return format(number, ".3g")


def position(index: int, extents: Sequence[int]) -> tuple[int, ...]:
    """Element ``index`` in C order as an index per dimension."""
    found = []
    for extent in reversed(extents):
        index, i = divmod(index, extent)
        found.append(i)
    return tuple(reversed(found))


def shape(extents: Sequence[int]) -> str:
    """``[32000, 4096]``."""
    return f"[{', '.join(map(str, extents))}]"


def share(part: int, whole: int) -> str:
    """``34.8 %``; ``<0.1 %`` and ``>99.9 %`` for what is almost nothing or almost all."""
    if part == 0 or part == whole:
        return "100 %" if part else "0 %"
    percent = 100 * part / whole
    if percent < 0.1:
        return "<0.1 %"
    return ">99.9 %" if percent > 99.9 else f"{percent:.1f} %"


def grouped(number: int) -> str:
    """Digits in groups of three, with gaps, which nobody takes for a decimal sign."""
    return f"{number:,}".replace(",", " ")


def headline(summary: Summary) -> str:
    """Which of the two's tensors are the same, in one sentence without a full stop."""
    said = [
        (summary.same, "the same"),
        (summary.changed, "changed"),
        (summary.type, "of another type"),
        (summary.shape, "of another shape"),
    ]
    parts = [f"{count} {what}" for count, what in said if count]
    noun = "tensor" if summary.in_both == 1 else "tensors"
    text = f"{summary.in_both} {noun} in both"
    if parts:
        text += f": {', '.join(parts)}"
    for count, side in ((summary.only_a, "a"), (summary.only_b, "b")):
        if count:
            text += f"; {count} only in {side}"
    return text


def described(tensor: Tensor) -> str:
    """``F16 [32000, 4096]``."""
    return f"{tensor.dtype} {shape(tensor.shape)}"


def is_finite(number: float) -> bool:
    """Whether JSON has the number."""
    return math.isfinite(number)
