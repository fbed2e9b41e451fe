"""A second implementation of the segment machine, in numpy, from docs/reference/table-format.md.

- It parses the serialized form itself and shares no code with vbuild.
- It holds everything in memory and does one segment after the other; blocks, cursors and kernels
  do not exist here.
- The table must be valid; a read beyond a source's end is :class:`ShortRead`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.support.machine_kernels import BLOCK_BYTES, blocks, mean_of_rows, product

__all__ = [
    "Fault",
    "Header",
    "Outcome",
    "RegionRecord",
    "SegmentRecord",
    "ShortRead",
    "parse",
    "run_model",
]

F16, BF16, F32, F64 = range(4)
SIZES = {F16: 2, BF16: 2, F32: 4, F64: 8, 16: 1, 17: 2, 18: 4, 19: 8}
COPY, ADD, SUB, XOR, HASH, DIFF = range(1, 7)
LITERAL, ZERO, PREVIOUS, NONE, JOINED, MEAN, PRODUCT = range(-1, -8, -1)
PLAIN, ORDERED, WALKED = range(3)
WALK, USE = 1, 2
AS_STORED = 255
NO_TENSOR = 0xFFFFFFFF

Bits = NDArray[np.unsignedinteger]


class ShortRead(Exception):
    """A source ends before the table says so."""

    def __init__(self, source: int) -> None:
        super().__init__(source)
        self.source = source


@dataclass(frozen=True, slots=True)
class OperandRecord:
    source: int
    tag: int
    offset: int
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    op: int
    a_type: int
    b_type: int
    compute: int
    out_type: int
    tensor: int
    dims: tuple[int, ...]
    a: OperandRecord
    b: OperandRecord


@dataclass(frozen=True, slots=True)
class PartRecord:
    source: int
    tag: int
    offset: int
    strides: tuple[int, ...]
    dims: tuple[int, ...]
    type: int


@dataclass(frozen=True, slots=True)
class RegionRecord:
    source: int
    kind: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed table."""

    allow_nonfinite: bool
    sources: tuple[tuple[int, int], ...]
    tensors: tuple[tuple[int, int], ...]
    segments: tuple[SegmentRecord, ...]
    parts: tuple[PartRecord, ...]
    regions: tuple[RegionRecord, ...]
    literals: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """The first result that is not finite: segment, element, and the bits of a, b and result."""

    segment: int
    index: int
    bits: tuple[int, int, int]


@dataclass(slots=True)
class Outcome:
    """What a run gives; ``regions`` has the bytes that each region's tag is taken over.

    ``compared`` has, for each tensor of DIFF segments, what was compared, piece by piece.
    """

    output: bytearray = field(default_factory=bytearray)
    sources: list[bytes | None] = field(default_factory=list)
    tensors: list[bytes] = field(default_factory=list)
    regions: list[bytes] = field(default_factory=list)
    compared: dict[int, list[tuple[int, Bits, Bits]]] = field(default_factory=dict)
    fault: Fault | None = None


def _operand(data: bytes, at: int) -> OperandRecord:
    source, tag, offset, *strides = struct.unpack_from("<iIQ4Q", data, at)
    return OperandRecord(source, tag, offset, tuple(strides))


def parse(data: bytes) -> Header:
    """The records of a valid table."""
    magic, flags, nsources, ntensors, nsegments = struct.unpack_from("<8s4I", data)
    nliterals, nregions, nparts = struct.unpack_from("<QII", data, 24)
    assert magic == b"vbtable1"
    at = 40
    sources = [struct.unpack_from("<I4xQ", data, at + 16 * i) for i in range(nsources)]
    at += 16 * nsources
    tensors = [struct.unpack_from("<2Q", data, at + 16 * i) for i in range(ntensors)]
    at += 16 * ntensors
    segments = []
    for _ in range(nsegments):
        op, a_type, b_type, compute, out_type, tensor = struct.unpack_from("<5B3xI4x", data, at)
        dims = struct.unpack_from("<4Q", data, at + 16)
        a, b = _operand(data, at + 48), _operand(data, at + 96)
        segments.append(SegmentRecord(op, a_type, b_type, compute, out_type, tensor, dims, a, b))
        at += 144
    parts = []
    for i in range(nparts):
        source, tag, *numbers, type_ = struct.unpack_from("<iI9QI4x", data, at + 88 * i)
        offset, strides, dims = numbers[0], tuple(numbers[1:5]), tuple(numbers[5:])
        parts.append(PartRecord(source, tag, offset, strides, dims, type_))
    at += 88 * nparts
    regions = [
        RegionRecord(*struct.unpack_from("<2I2Q", data, at + 24 * i)) for i in range(nregions)
    ]
    at += 24 * nregions
    assert len(data) == at + nliterals
    return Header(
        bool(flags & 1),
        tuple(sources),
        tuple(tensors),
        tuple(segments),
        tuple(parts),
        tuple(regions),
        data[at:],
    )


# ---- arithmetic on bit patterns ----


def _unsigned(type_: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype(f"<u{SIZES[type_]}")


_FRACTION = {F16: 10, BF16: 7, F32: 23, F64: 52}
_WIDTH = {F16: 16, BF16: 16, F32: 32, F64: 64}


def _infinity(type_: int) -> int:
    return (1 << (_WIDTH[type_] - 1)) - (1 << _FRACTION[type_])


def _magnitude(bits: Bits, type_: int) -> Bits:
    return bits & bits.dtype.type((1 << (_WIDTH[type_] - 1)) - 1)


def _is_nan(bits: Bits, type_: int) -> NDArray[np.bool_]:
    return _magnitude(bits, type_) > _infinity(type_)


def _is_finite(bits: Bits, type_: int) -> NDArray[np.bool_]:
    return _magnitude(bits, type_) < _infinity(type_)


def _values(bits: Bits, type_: int) -> NDArray[np.floating]:
    """The numbers, exactly (NaNs are any NaN)."""
    if type_ == BF16:
        return (bits.astype("<u4") << np.uint32(16)).view("<f4")
    return bits.view({F16: "<f2", F32: "<f4", F64: "<f8"}[type_])


def _rounded(values: NDArray[np.floating], type_: int) -> Bits:
    """Bit patterns of ``values`` rounded to nearest even (NaNs are any NaN)."""
    if type_ == F64:
        return values.astype("<f8").view("<u8")
    if type_ == F32:
        return values.astype("<f4").view("<u4")
    if type_ == F16:
        return values.astype("<f2").view("<u2")
    # bf16: 8 bits of precision, smallest subnormal 2^-133; scaling by powers of two is exact.
    wide = values.astype("<f8")
    exponent = np.maximum(np.frexp(wide)[1] - 8, -133)
    near = np.ldexp(np.rint(np.ldexp(wide, -exponent)), exponent)
    return (near.astype("<f4").view("<u4") >> np.uint32(16)).astype("<u2")


def _nan(bits: Bits, type_: int, to: int) -> Bits:
    """What a NaN becomes in another type: quiet, with its sign and leading payload bits."""
    if to == BF16:
        return np.full(bits.shape, 0x7FC0, "<u2")
    wide = bits.astype("<u8")
    sign = (wide >> np.uint64(_WIDTH[type_] - 1)) << np.uint64(_WIDTH[to] - 1)
    payload = wide & np.uint64((1 << _FRACTION[type_]) - 1)
    shift = _FRACTION[to] - _FRACTION[type_]
    payload = payload << np.uint64(shift) if shift >= 0 else payload >> np.uint64(-shift)
    quiet = np.uint64(_infinity(to) | 1 << (_FRACTION[to] - 1))
    return (sign | payload | quiet).astype(_unsigned(to))


def _converted(bits: Bits, type_: int, to: int) -> Bits:
    if type_ == to:
        return bits
    with np.errstate(all="ignore"):
        result = _rounded(_values(bits, type_), to)
    return np.where(_is_nan(bits, type_), _nan(bits, type_, to), result)


def _sum(op: int, a: Bits, a_type: int, b: Bits, b_type: int) -> Bits:
    """``a + b`` or ``a - b`` in the type of a, by rule B."""
    wide = "<f8" if F64 in (a_type, b_type) else "<f4"
    with np.errstate(all="ignore"):
        x, y = _values(a, a_type).astype(wide), _values(b, b_type).astype(wide)
        exact = x + y if op == ADD else x - y
        result = _rounded(exact, a_type)
    default = 0x7FC0 if a_type == BF16 else 0
    if not default:
        default = 1 << (_WIDTH[a_type] - 1) | _infinity(a_type) | 1 << (_FRACTION[a_type] - 1)
    result = np.where(np.isnan(exact), _unsigned(a_type).type(default), result)
    result = np.where(_is_nan(a, a_type), _nan(a, a_type, a_type), result)
    return np.where(_is_nan(b, b_type), _nan(b, b_type, a_type), result)


def _computed(s: SegmentRecord, a: Bits, b: Bits | None) -> tuple[Bits, NDArray[np.bool_]]:
    """The result's bit patterns, and where it counts as not finite."""
    never = np.zeros(a.shape, bool)
    if s.op == COPY:
        if s.out_type in BLOCK_BYTES:
            return blocks(_values(_converted(a, s.a_type, F32), F32), s.out_type)
        if s.a_type == s.out_type:
            return a, ~_is_finite(a, F32) if s.a.source == MEAN else never
        result = _converted(a, s.a_type, s.out_type)
        if s.a.source == MEAN:
            return result, ~_is_finite(result, s.out_type)
        return result, _is_finite(a, s.a_type) & ~_is_finite(result, s.out_type)
    assert b is not None
    if s.op == XOR:
        return a ^ b, never
    a_type, b_type = s.a_type, s.b_type
    if s.compute != AS_STORED:
        a, b = _converted(a, a_type, s.compute), _converted(b, b_type, s.compute)
        a_type = b_type = s.compute
    result = _converted(_sum(s.op, a, a_type, b, b_type), a_type, s.out_type)
    return result, ~_is_finite(result, s.out_type)


# ---- running ----


def _range(sources: Sequence[bytes], source: int, begin: int, size: int) -> bytes:
    if begin + size > len(sources[source]):
        raise ShortRead(source)
    return sources[source][begin : begin + size]


def _strided(
    held: bytes, source: int, o: OperandRecord | PartRecord, type_: int, dims: tuple[int, ...]
) -> Bits:
    """Elements that lie in ``held``, flat in C order."""
    itemsize = SIZES[type_]
    offsets = np.full(dims, o.offset, np.int64)
    for axis, stride in enumerate(o.strides):
        shape = [1] * len(dims)
        shape[axis] = dims[axis]
        if dims[axis] > 1:
            offsets = offsets + (np.arange(dims[axis]) * stride).reshape(shape)
    flat = offsets.ravel()
    if flat.size and int(flat.max()) + itemsize > len(held):
        raise ShortRead(source)
    items = np.frombuffer(held, np.uint8)[flat[:, None] + np.arange(itemsize)]
    return np.ascontiguousarray(items).view(_unsigned(type_)).ravel()


def _fetch(
    t: Header, o: OperandRecord, type_: int, dims: tuple[int, ...], sources: Sequence[bytes]
) -> Bits:
    """The elements of an operand that is not PREVIOUS, flat in C order."""
    count = int(np.prod(dims, dtype=object))
    if o.source == ZERO:
        return np.zeros(count, _unsigned(type_))
    if o.source == LITERAL:
        return _strided(t.literals, LITERAL, o, type_, dims)
    if o.source >= 0:
        return _strided(sources[o.source], o.source, o, type_, dims)
    parts = [
        _strided(sources[p.source], p.source, p, p.type, p.dims).reshape(-1, p.dims[3])
        for p in t.parts[o.offset : o.offset + o.tag]
    ]
    if o.source == JOINED:
        return np.concatenate(parts, axis=1).ravel()
    records = t.parts[o.offset : o.offset + o.tag]
    matrices = [
        _values(_converted(part, record.type, F32), F32)
        for part, record in zip(parts, records, strict=True)
    ]
    if o.source == MEAN:
        made = np.broadcast_to(mean_of_rows(matrices[0]), (count // dims[3], dims[3]))
    else:
        scale = np.array([o.strides[0]], "<u4").view("<f4")[0]
        made = product(*matrices, scale)
    return np.ascontiguousarray(made).view("<u4").ravel()


def _at(bits: Bits | None, i: int) -> int:
    return 0 if bits is None else int(bits[i])


def run_model(table: bytes, sources: Sequence[bytes]) -> Outcome:
    """What the machine must give for a table and the contents of its sources."""
    t = parse(table)
    outcome = Outcome()
    hashes = [hashlib.sha256() for _ in t.sources]
    walked = [bytearray() for _ in t.sources]
    tensors = [hashlib.sha256(t.literals[at : at + size]) for at, size in t.tensors]
    result: Bits | None = None
    for i, s in enumerate(t.segments):
        if s.op == HASH:
            size = int(np.prod(s.dims, dtype=object))
            if s.b.source == LITERAL:
                data = t.literals[s.b.offset : s.b.offset + size]
            else:
                data = _range(sources, s.a.source, s.a.offset, size)
            hashes[s.a.source].update(data)
            walked[s.a.source] += data
            continue
        operands: list[Bits | None] = []
        for o, type_ in ((s.a, s.a_type), (s.b, s.b_type)):
            if o.source == PREVIOUS:
                operands.append(result)
                continue
            operands.append(None if o.source == NONE else _fetch(t, o, type_, s.dims, sources))
            if o.source >= 0 and t.sources[o.source][0] == ORDERED:
                last = operands[-1]
                assert last is not None
                hashes[o.source].update(last.tobytes())
        a, b = operands
        assert a is not None
        if s.op == DIFF:
            assert b is not None
            if s.b_type != s.a_type:
                b = _converted(b, s.b_type, s.a_type)
            outcome.compared.setdefault(s.tensor, []).append((s.a_type, a, b))
            continue
        result, bad = _computed(s, a, b)
        if bad.any() and not t.allow_nonfinite:
            first = int(bad.argmax())
            made = (
                int.from_bytes(result[first // 32 * BLOCK_BYTES[s.out_type] :][:2], "little")
                if s.out_type in BLOCK_BYTES
                else _at(result, first)
            )
            outcome.fault = Fault(i, first, (_at(a, first), _at(b, first), made))
            return outcome
        if i + 1 < len(t.segments) and t.segments[i + 1].a.source == PREVIOUS:
            continue
        stored = result.tobytes()
        outcome.output += stored
        if s.tensor != NO_TENSOR:
            tensors[s.tensor].update(stored)
    outcome.sources = [
        h.digest() if mode != PLAIN else None
        for h, (mode, _) in zip(hashes, t.sources, strict=True)
    ]
    outcome.tensors = [h.digest() for h in tensors]
    outcome.regions = [
        bytes((walked if r.kind == WALK else sources)[r.source][r.begin : r.end]) for r in t.regions
    ]
    return outcome
