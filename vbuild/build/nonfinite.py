"""Naming the element whose result is not finite (bad-inputs.md, 60).

- The core knows a segment and an index in it; the recipe knows the tensor. Segments of a tensor
  come band by band, so the bands' sizes turn one into the other.
"""

from __future__ import annotations

import struct
from math import prod

from vbuild import _core
from vbuild.errors import InvalidInput
from vbuild.plan import OutputFile
from vbuild.table import BLOCK_TYPES, Op, Operand, Segment

__all__ = ["nonfinite_error"]


def nonfinite_error(output: OutputFile, fault: _core.Fault) -> InvalidInput:
    """The error for a ``nonfinite`` fault in the program of ``output``."""
    segments = output.program.table.segments
    segment = segments[fault.segment]
    recipe = output.recipes[segment.tensor]
    before = sum(
        prod(s.dims)
        for s in segments[: fault.segment]
        if s.tensor == segment.tensor and s.a.source != Operand.PREVIOUS
    )
    if segment.a.source == Operand.PREVIOUS:  # the chain's first segment has been counted
        before -= segment.count
    index = _unravel(before + fault.index, recipe.shape)
    a, b, result = (
        _value(bits, code)
        for bits, code in zip(
            fault.bits, (segment.a_type, segment.b_type, segment.out_type), strict=True
        )
    )
    return InvalidInput(
        "nonfinite-result",
        f"element [{', '.join(map(str, index))}] is not finite: "
        f"{_formula(segment, a, b)} = {result}",
        where=recipe.name,
        hint='look for damaged inputs; if this is meant, set nonfinite = "allow" in [output]',
    )


def _formula(segment: Segment, a: str, b: str) -> str:
    if segment.out_type in BLOCK_TYPES.values():
        return f"{a} in a block whose scale"
    if segment.op is Op.COPY:
        return f"{a} converted"
    return f"{a} {'-' if segment.op is Op.SUB else '+'} {b}"


def _unravel(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    index = []
    for extent in reversed(shape):
        flat, i = divmod(flat, extent)
        index.append(i)
    return tuple(reversed(index))


def _value(bits: int, code: int) -> str:
    """The number that ``bits`` stand for in an arithmetic type, as text; of a block, its scale."""
    if code in BLOCK_TYPES.values():
        code = 0
    if code == 1:  # bf16 is the upper half of an f32
        bits, code = bits << 16, 2
    form, size = {0: ("<e", 2), 2: ("<f", 4), 3: ("<d", 8)}[code]
    return format(struct.unpack(form, bits.to_bytes(size, "little"))[0], ".6g")
