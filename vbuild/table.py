"""Segments, and the serialized table that the core runs.

- A table says how one output stream is made; it knows sources by index, never by name.
- The serialized form is little-endian and documented in ``docs/reference/table-format.md``; the
  core's parser (``_core/table.c``) is its judge and checks all of it again.
- Regions are byte ranges that are tagged under a key of the run (``_core/tag.h``): as they are
  hashed (walk), or as an operand uses them.
- Strides and offsets are bytes; the output is written in the order of the segments.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from vbuild.tensors import DType

__all__ = [
    "AS_STORED",
    "BYTES",
    "CHAIN",
    "NOTHING",
    "RANK",
    "Mode",
    "Op",
    "Operand",
    "Region",
    "RegionKind",
    "Segment",
    "Table",
    "dense",
    "hash_only",
    "item_size",
    "joint_dims",
    "type_code",
]

RANK = 4
"""Dimensions of a segment."""

CHAIN = 64
"""The longest run of segments each of which goes on from the one before."""

AS_STORED = 255
"""``Segment.compute``: the operands are used in their own types (numerics.md, mixed types)."""

_ARITHMETIC = {DType.F16: 0, DType.BF16: 1, DType.F32: 2, DType.F64: 3}
_RAW = {1: 16, 2: 17, 4: 18, 8: 19}
_SIZES = {code: dtype.itemsize for dtype, code in _ARITHMETIC.items()} | {
    code: size for size, code in _RAW.items()
}
_NO_TENSOR = 0xFFFFFFFF


def type_code(dtype: DType, *, raw: bool = False) -> int:
    """The core's code of ``dtype``; ``raw`` asks for opaque items of the same size (XOR)."""
    if raw or dtype not in _ARITHMETIC:
        return _RAW[dtype.itemsize]
    return _ARITHMETIC[dtype]


def item_size(code: int) -> int:
    """Bytes of one element of a type code."""
    return _SIZES[code]


class Op(enum.IntEnum):
    """What a segment does with its operands."""

    COPY = 1
    ADD = 2
    SUB = 3
    XOR = 4
    HASH = 5


class Mode(enum.IntEnum):
    """How a source of a table gets its digest."""

    PLAIN = 0
    ORDERED = 1
    WALKED = 2


@dataclass(frozen=True, slots=True)
class Operand:
    """Where a segment's elements come from: a source, the literals, zeros, or the step before.

    ``tag`` is 0, or one more than the index of the use region that the operand reads.
    """

    source: int
    offset: int = 0
    strides: tuple[int, ...] = (0,) * RANK
    tag: int = 0

    LITERAL = -1
    ZERO = -2
    PREVIOUS = -3
    NONE = -4

    def pack(self) -> bytes:
        """The 48 bytes of the serialized form."""
        return struct.pack("<iIQ4Q", self.source, self.tag, self.offset, *self.strides)


NOTHING = Operand(Operand.NONE)


@dataclass(frozen=True, slots=True)
class Segment:
    """One strided operation: ``dims`` elements of ``a`` and ``b`` give as many of the output."""

    op: Op
    dims: tuple[int, ...]
    a: Operand
    a_type: int
    out_type: int
    b: Operand = NOTHING
    b_type: int = 0
    compute: int = AS_STORED
    tensor: int = _NO_TENSOR

    @property
    def count(self) -> int:
        """Elements."""
        return prod(self.dims)

    def pack(self) -> bytes:
        """The 144 bytes of the serialized form."""
        head = struct.pack(
            "<BBBBB3xII4Q",
            self.op,
            self.a_type,
            self.b_type,
            self.compute,
            self.out_type,
            self.tensor,
            0,
            *self.dims,
        )
        return head + self.a.pack() + self.b.pack()


class RegionKind(enum.IntEnum):
    """Which reading of its bytes a region's tag is taken over."""

    WALK = 1
    USE = 2


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes ``[begin, end)`` of a source, to be tagged as they are hashed or as they are used."""

    source: int
    kind: RegionKind
    begin: int
    end: int

    def pack(self) -> bytes:
        """The 24 bytes of the serialized form."""
        return struct.pack("<IIQQ", self.source, self.kind, self.begin, self.end)


@dataclass(frozen=True, slots=True)
class Table:
    """How one output stream is made from ``sources`` (mode and size of each).

    ``regions``: walk regions by source, begin and end; then use regions in the operands' order.
    """

    sources: tuple[tuple[Mode, int], ...]
    segments: tuple[Segment, ...]
    tensors: tuple[tuple[int, int], ...] = ()  # offset and size of each digest prefix in literals
    literals: bytes = b""
    allow_nonfinite: bool = False
    regions: tuple[Region, ...] = ()

    def serialize(self) -> bytes:
        """The bytes that the core runs and that a plan's digest is taken over."""
        head = struct.pack(
            "<8sIIIIQII",
            b"vbtable1",
            int(self.allow_nonfinite),
            len(self.sources),
            len(self.tensors),
            len(self.segments),
            len(self.literals),
            len(self.regions),
            0,
        )
        return b"".join(
            [
                head,
                *(struct.pack("<IIQ", mode, 0, size) for mode, size in self.sources),
                *(struct.pack("<QQ", *prefix) for prefix in self.tensors),
                *(segment.pack() for segment in self.segments),
                *(region.pack() for region in self.regions),
                self.literals,
            ]
        )


def dense(source: int, begin: int, end: int) -> tuple[Operand, tuple[int, ...]]:
    """Bytes ``[begin, end)`` of a source as an operand, and the dimensions that go with it."""
    return Operand(source, begin, (0, 0, 0, 1)), (1, 1, 1, end - begin)


BYTES = _RAW[1]
"""The type code of opaque bytes."""


def hash_only(source: int, begin: int, end: int) -> Segment:
    """The segment for bytes of a source that only its hash needs."""
    operand, dims = dense(source, begin, end)
    return Segment(Op.HASH, dims, operand, BYTES, BYTES)


def joint_dims(
    shape: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]] | None:
    """``shape`` as RANK dimensions that all operands share, and each operand's strides over them.

    ``strides`` has one sequence per operand, in any unit. Axes are merged where every operand's
    layout allows it; None where more than RANK remain. All extents are at least 1.
    """
    merged: list[tuple[int, tuple[int, ...]]] = []
    for extent, steps in zip(shape, zip(*strides, strict=True), strict=True):
        if extent == 1:
            continue
        if merged and merged[-1][1] == tuple(step * extent for step in steps):
            merged[-1] = (merged[-1][0] * extent, steps)
        else:
            merged.append((extent, steps))
    if len(merged) > RANK:
        return None
    padding = RANK - len(merged)
    dims = (1,) * padding + tuple(extent for extent, _ in merged)
    per_operand = tuple(
        (0,) * padding + tuple(steps[i] for _, steps in merged) for i in range(len(strides))
    )
    return dims, per_operand
