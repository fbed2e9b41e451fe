"""Segments, and the serialized table that the core runs.

- A table says how one output stream is made; it knows sources by index, never by name.
- The serialized form is little-endian and documented in ``docs/reference/table-format.md``; the
  core's parser (``_core/table.c``) is its judge and checks all of it again.
- Regions are byte ranges that are tagged under a key of the run (``_core/tag.h``): as they are
  hashed (walk), or as an operand uses them.
- Strides and offsets are bytes; the output is written in the order of the segments.
- An operand that is made of more than one strided reading (columns of several files, a mean of
  rows, a product of two matrices) names its *parts*.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from vbuild.tensors import BLOCK_ELEMENTS, DType

__all__ = [
    "AS_STORED",
    "BLOCK_ELEMENTS",
    "BLOCK_TYPES",
    "BYTES",
    "CHAIN",
    "FACTORS",
    "NOTHING",
    "RANK",
    "Mode",
    "Op",
    "Operand",
    "Part",
    "Region",
    "RegionKind",
    "Segment",
    "Table",
    "dense",
    "hash_only",
    "item_size",
    "result_code",
    "stored_size",
    "type_code",
    "use_range",
]

RANK = 4
"""Dimensions of a segment."""

CHAIN = 64
"""The longest run of segments each of which goes on from the one before."""

FACTORS = 64 << 20
"""The most bytes that the means and products of a chain may take in memory."""

AS_STORED = 255
"""``Segment.compute``: the operands are used in their own types (numerics.md, mixed types)."""

_ARITHMETIC = {DType.F16: 0, DType.BF16: 1, DType.F32: 2, DType.F64: 3}
_RAW = {1: 16, 2: 17, 4: 18, 8: 19}
_SIZES = {code: dtype.itemsize for dtype, code in _ARITHMETIC.items()} | {
    code: size for size, code in _RAW.items()
}
_NO_TENSOR = 0xFFFFFFFF

BLOCK_TYPES = {"Q4_0": 34, "Q4_1": 35, "Q5_0": 38, "Q5_1": 39, "Q8_0": 40}
"""Codes of ggml's quantized types: 32 and ggml's own number. Results only, never operands."""

_BLOCK_SIZES = {34: 18, 35: 20, 38: 22, 39: 24, 40: 34}


def type_code(dtype: DType, *, raw: bool = False) -> int:
    """The core's code of ``dtype``; ``raw`` asks for opaque items of the same size (XOR)."""
    if raw or dtype not in _ARITHMETIC:
        return _RAW[dtype.itemsize]
    return _ARITHMETIC[dtype]


def result_code(dtype: DType) -> int:
    """The core's code of the results that become ``dtype``: blocks are made, never taken apart."""
    return BLOCK_TYPES[dtype.code] if dtype.is_block else type_code(dtype)


def item_size(code: int) -> int:
    """Bytes of one element of a type code."""
    return _SIZES[code]


def stored_size(code: int, count: int) -> int:
    """Bytes of ``count`` results of a type code; whole blocks, if it is a block type."""
    if code in _BLOCK_SIZES:
        return count // BLOCK_ELEMENTS * _BLOCK_SIZES[code]
    return count * _SIZES[code]


class Op(enum.IntEnum):
    """What a segment does with its operands."""

    COPY = 1
    ADD = 2
    SUB = 3
    XOR = 4
    HASH = 5
    DIFF = 6


class Mode(enum.IntEnum):
    """How a source of a table gets its digest."""

    PLAIN = 0
    ORDERED = 1
    WALKED = 2


@dataclass(frozen=True, slots=True)
class Operand:
    """Where a segment's elements come from: a source, the literals, zeros, the step before, parts.

    ``tag`` is 0, or one more than the index of the use region that the operand reads.

    JOINED, MEAN and PRODUCT take the segment as a matrix of its last dimension's columns and of
    all other dimensions' rows. Their ``offset`` is the index of the first part, ``tag`` the number
    of parts, and the first stride of PRODUCT the bits of its scale (f32):

    - JOINED: the parts side by side along the last dimension, each with the segment's other ones;
    - MEAN: one part, a matrix of as many columns; each row of the operand is the mean of its rows,
      in f32, in the order of torch's sum (numerics.md, new rows);
    - PRODUCT: a part of (rows, rank) and one of (rank, columns); the operand is scale times their
      product, in f32, in the order of numerics.md (LoRA).
    """

    source: int
    offset: int = 0
    strides: tuple[int, ...] = (0,) * RANK
    tag: int = 0

    LITERAL = -1
    ZERO = -2
    PREVIOUS = -3
    NONE = -4
    JOINED = -5
    MEAN = -6
    PRODUCT = -7

    @classmethod
    def of_parts(cls, kind: int, first: int, count: int, scale: float = 0.0) -> Operand:
        """An operand of ``count`` parts from the one with index ``first`` on."""
        (bits,) = struct.unpack("<I", struct.pack("<f", scale))
        return cls(kind, first, (bits, *(0,) * (RANK - 1)), count)

    def pack(self) -> bytes:
        """The 48 bytes of the serialized form."""
        return struct.pack("<iIQ4Q", self.source, self.tag, self.offset, *self.strides)


NOTHING = Operand(Operand.NONE)


@dataclass(frozen=True, slots=True)
class Part:
    """One strided reading of a source, of those that an operand is made of.

    ``tag`` is 0, or one more than the index of the use region that it reads.
    """

    source: int
    offset: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    type: int
    tag: int = 0

    def pack(self) -> bytes:
        """The 88 bytes of the serialized form."""
        return struct.pack(
            "<iIQ4Q4QII",
            self.source,
            self.tag,
            self.offset,
            *self.strides,
            *self.dims,
            self.type,
            0,
        )


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
    ``parts`` are those of the operands that are made of some, in the operands' order.
    """

    sources: tuple[tuple[Mode, int], ...]
    segments: tuple[Segment, ...]
    tensors: tuple[tuple[int, int], ...] = ()  # offset and size of each digest prefix in literals
    literals: bytes = b""
    allow_nonfinite: bool = False
    regions: tuple[Region, ...] = ()
    parts: tuple[Part, ...] = ()

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
            len(self.parts),
        )
        return b"".join(
            [
                head,
                *(struct.pack("<IIQ", mode, 0, size) for mode, size in self.sources),
                *(struct.pack("<QQ", *prefix) for prefix in self.tensors),
                *(segment.pack() for segment in self.segments),
                *(part.pack() for part in self.parts),
                *(region.pack() for region in self.regions),
                self.literals,
            ]
        )


def dense(source: int, begin: int, end: int) -> tuple[Operand, tuple[int, ...]]:
    """Bytes ``[begin, end)`` of a source as an operand, and the dimensions that go with it."""
    return Operand(source, begin, (0, 0, 0, 1)), (1, 1, 1, end - begin)


def use_range(
    offset: int, dims: Sequence[int], strides: Sequence[int], code: int
) -> tuple[int, int] | None:
    """The bytes that a use region of this reading has: from its first element to its last.

    None where so few of them are used that it cannot have one.
    """
    size = item_size(code)
    span = sum((n - 1) * s for n, s in zip(dims, strides, strict=True)) + size
    if span > 4 * prod(dims) * size + _SPARE:
        return None
    return offset, offset + span


_SPARE = 4096

BYTES = _RAW[1]
"""The type code of opaque bytes."""


def hash_only(source: int, begin: int, end: int) -> Segment:
    """The segment for bytes of a source that only its hash needs."""
    operand, dims = dense(source, begin, end)
    return Segment(Op.HASH, dims, operand, BYTES, BYTES)
