"""Hypothesis strategies for valid tables of the segment machine, and what their sources hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from vbuild.table import (
    AS_STORED,
    BLOCK_TYPES,
    BYTES,
    NOTHING,
    RANK,
    Mode,
    Op,
    Operand,
    Part,
    Region,
    RegionKind,
    Segment,
    Table,
    hash_only,
    item_size,
    use_range,
)

__all__ = ["Case", "cases", "random_bytes", "tame_bytes"]

ARITHMETIC = (0, 1, 2, 3)
RAW = (16, 17, 18, 19)
F32 = 2
_NO_TENSOR = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Case:
    """A table, and what its sources hold."""

    table: Table
    sources: tuple[bytes, ...]


def random_bytes(size: int, seed: int) -> bytes:
    """Any bit patterns: a good part of them are NaNs, infinities and subnormals."""
    return np.random.default_rng(seed).bytes(size)


def tame_bytes(size: int, seed: int) -> bytes:
    """Numbers of magnitude below 2 in every arithmetic type, at every offset."""
    return (np.frombuffer(random_bytes(size, seed), np.uint8) & 0xBF).tobytes()


def _dense_strides(dims: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides = []
    for i in range(RANK):
        strides.append(itemsize * math.prod(dims[i + 1 :]))
    return tuple(strides)


class _Builder:
    """Grows sources and literals as the segments need them."""

    def __init__(self, draw: Callable[[st.SearchStrategy], object]) -> None:
        self.draw = draw
        self.modes = draw(st.lists(st.sampled_from(list(Mode)), max_size=4))
        self.sizes = [0] * len(self.modes)
        self.literals = bytearray()
        self.seed = draw(st.integers(0, 2**32))
        self.content = draw(st.sampled_from([random_bytes, tame_bytes]))
        self.segments: list[Segment] = []
        self.parts: list[Part] = []
        self.in_chain: set[int] = set()

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def pick(self, *choices: object) -> object:
        return self.draw(st.sampled_from(choices))

    def dims(self) -> tuple[int, ...]:
        used = [self.number(1, 7) for _ in range(self.number(0, RANK))]
        if used and self.pick(True, False, False):
            used[-1] = 32 * self.number(1, 3)
        return tuple([1] * (RANK - len(used)) + used)

    def strides(self, dims: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
        """Dense, a permutation of dense, broadcast, spaced, or anything."""
        kind = self.pick("dense", "permuted", "broadcast", "spaced", "any")
        if kind == "any":
            return tuple(self.number(0, 40) for _ in dims)
        order = list(range(RANK))
        if kind == "permuted":
            order = self.draw(st.permutations(order))
        strides = [0] * RANK
        step = itemsize * (self.number(2, 5) if kind == "spaced" else 1)
        for axis in reversed(order):
            strides[axis] = step
            step *= dims[axis]
            if kind == "spaced":
                step += self.number(0, 9)
        if kind == "broadcast":
            strides[self.number(0, RANK - 1)] = 0
        return tuple(strides)

    def strided(self, source: int, dims: tuple[int, ...], type_: int) -> Operand:
        """A reading of a source that is not ORDERED; the source grows as it needs to."""
        itemsize = item_size(type_)
        strides = self.strides(dims, itemsize)
        offset = self.number(0, 20)
        last = sum((n - 1) * s for n, s in zip(dims, strides, strict=True))
        self.sizes[source] = max(self.sizes[source], offset + last + itemsize)
        return Operand(source, offset, strides)

    def part(self, dims: tuple[int, ...], type_: int) -> Part:
        unordered = [i for i, m in enumerate(self.modes) if m != Mode.ORDERED]
        o = self.strided(self.pick(*unordered), dims, type_)
        return Part(o.source, o.offset, dims, o.strides, type_)

    def composite(self, kind: str, dims: tuple[int, ...], type_: int) -> Operand:
        """An operand of parts; ``kind`` is in lower case."""
        if kind == "joined":
            cuts = sorted({0, *(self.number(1, dims[3]) for _ in range(3)), dims[3]})
            widths = [end - begin for begin, end in pairwise(cuts)]
            parts = [self.part((*dims[:3], width), type_) for width in widths]
        elif kind == "mean":
            rows = self.pick(1, 2, 5, 17, 40)
            parts = [self.part((1, 1, rows, dims[3]), self.number(0, F32))]
        else:
            rank = self.number(1, 5)
            rows = self.pick(dims[:3], (1, 1, math.prod(dims[:3])))
            left = self.part((*rows, rank), self.number(0, F32))
            parts = [left, self.part((1, 1, rank, dims[3]), self.number(0, F32))]
        first = len(self.parts)
        self.parts += parts
        scale = self.pick(1.0, 0.5, -3.0, 1e30) if kind == "product" else 0.0
        return Operand.of_parts(getattr(Operand, kind.upper()), first, len(parts), scale)

    def operand(self, dims: tuple[int, ...], type_: int, *, second: bool = False) -> Operand:
        """An operand of any kind that is allowed here, but PREVIOUS."""
        free = [i for i, m in enumerate(self.modes) if m != Mode.ORDERED or i not in self.in_chain]
        kinds: list[str] = ["zero", "literal", *["source"] * (3 * bool(free))]
        if any(mode != Mode.ORDERED for mode in self.modes):
            kinds += ["joined", *(["mean", *["product"] * 2 * second] if type_ == F32 else [])]
        kind = self.pick(*kinds)
        if kind == "zero":
            return Operand(Operand.ZERO)
        if kind in ("joined", "mean", "product"):
            return self.composite(kind, dims, type_)
        itemsize = item_size(type_)
        size = math.prod(dims) * itemsize
        if kind == "literal":
            offset = len(self.literals) + self.number(0, 3)
            self.literals += random_bytes(offset - len(self.literals), 0)
            self.literals += self.content(size, self.number(0, 2**16))
            return Operand(Operand.LITERAL, offset, _dense_strides(dims, itemsize))
        source = self.pick(*free)
        if self.modes[source] != Mode.ORDERED:
            return self.strided(source, dims, type_)
        self.in_chain.add(source)
        offset = self.sizes[source]
        self.sizes[source] += size
        return Operand(source, offset, _dense_strides(dims, itemsize))

    def gaps(self) -> None:
        """Bytes of ORDERED sources that only their hash needs; some are literals."""
        for source, mode in enumerate(self.modes):
            if mode == Mode.ORDERED and self.pick(True, False, False):
                size = self.number(1, 50)
                self.segments.append(self.hash_segment(source, self.sizes[source], size))
                self.sizes[source] += size

    def hash_segment(self, source: int, begin: int, size: int) -> Segment:
        segment = hash_only(source, begin, begin + size)
        if self.pick(True, False):
            return segment
        operand = Operand(Operand.LITERAL, len(self.literals), (0, 0, 0, 1))
        self.literals += random_bytes(size, self.number(0, 2**16))
        return Segment(Op.HASH, segment.dims, segment.a, BYTES, BYTES, b=operand, b_type=BYTES)

    def step(self, dims: tuple[int, ...], tensor: int, before: int | None) -> None:
        """One segment of a chain; ``before`` is the type of the previous result."""
        op = self.pick(Op.COPY, Op.COPY, Op.ADD, Op.ADD, Op.SUB, Op.XOR)
        own = [t for t in (*ARITHMETIC, *RAW)]
        if before is not None:
            same = [t for t in own if item_size(t) == item_size(before)]
            own = [t for t in same if t == before or t in RAW or before in RAW]
        if op == Op.XOR:
            own = [t for t in own if t in RAW]
        elif op in (Op.ADD, Op.SUB):
            own = [t for t in own if t in ARITHMETIC]
        if not own:
            op, own = Op.XOR, [t for t in RAW if item_size(t) == item_size(before or BYTES)]
        a_type = self.pick(*own)
        a = Operand(Operand.PREVIOUS) if before is not None else self.operand(dims, a_type)
        if op == Op.COPY:
            out = self.pick(*ARITHMETIC) if a_type in ARITHMETIC else a_type
            self.segments.append(Segment(op, dims, a, a_type, out, NOTHING, 0, 255, tensor))
            return
        raw = op == Op.XOR
        b_type = a_type if raw else self.pick(*ARITHMETIC, F32)
        b = self.operand(dims, b_type, second=True)
        out = a_type if raw else self.pick(a_type, *ARITHMETIC)
        compute = AS_STORED if raw else self.pick(AS_STORED, *ARITHMETIC)
        self.segments.append(Segment(op, dims, a, a_type, out, b, b_type, compute, tensor))

    def last_step(self, dims: tuple[int, ...], tensor: int, before: int | None) -> None:
        """A segment that nothing goes on from: a comparison, or blocks of a block type."""
        a_type = self.pick(*ARITHMETIC, *RAW) if before is None else before
        blocks = dims[3] % 32 == 0 and a_type in ARITHMETIC and self.pick(True, False)
        if not blocks and tensor == _NO_TENSOR:
            return
        a = Operand(Operand.PREVIOUS) if before is not None else self.operand(dims, a_type)
        if blocks:
            out = self.pick(*BLOCK_TYPES.values())
            self.segments.append(Segment(Op.COPY, dims, a, a_type, out, tensor=tensor))
            return
        narrower = range(a_type) if a_type in (2, 3) else ()  # their values are all of a_type's
        b_type = self.pick(a_type, *narrower)
        b = self.operand(dims, b_type, second=True)
        self.segments.append(Segment(Op.DIFF, dims, a, a_type, a_type, b, b_type, tensor=tensor))

    def chain(self, tensor: int) -> None:
        dims = self.dims()
        self.in_chain.clear()
        begin = len(self.segments)
        for _ in range(self.pick(0, 1, 1, 1, 2, 3, 4)):
            before = self.segments[-1].out_type if len(self.segments) > begin else None
            self.step(dims, tensor, before)
        if len(self.segments) == begin or self.pick(True, False, False):
            before = self.segments[-1].out_type if len(self.segments) > begin else None
            self.last_step(dims, tensor, before)

    def walk(self) -> None:
        """HASH segments of the WALKED sources, among the others but never inside a chain."""
        for source, mode in enumerate(self.modes):
            at, place = 0, 0
            while mode == Mode.WALKED and at < self.sizes[source]:
                size = self.number(1, self.sizes[source] - at)
                places = [
                    i
                    for i in range(place, len(self.segments) + 1)
                    if i == len(self.segments) or self.segments[i].a.source != Operand.PREVIOUS
                ]
                place = self.pick(*places)
                self.segments.insert(place, self.hash_segment(source, at, size))
                place, at = place + 1, at + size

    def regions(self) -> tuple[Region, ...]:
        """Walk regions, overlapping as it happens; and use regions, whose operands are tagged."""
        walks = set()
        for source, mode in enumerate(self.modes):
            for _ in range(self.number(0, 3) if mode == Mode.WALKED and self.sizes[source] else 0):
                begin = self.number(0, self.sizes[source] - 1)
                walks.add((source, begin, self.number(begin + 1, self.sizes[source])))
        found = [Region(source, RegionKind.WALK, *at) for source, *at in sorted(walks)]
        for i, s in enumerate(self.segments):
            a = self.tagged(s, s.a, s.a_type, found)
            self.segments[i] = replace(s, a=a, b=self.tagged(s, s.b, s.b_type, found))
        return tuple(found)

    def tagged(self, s: Segment, o: Operand, type_: int, found: list[Region]) -> Operand:
        """The operand with a tag, or its parts, where it may have one and the draw says so."""
        if o.source in (Operand.JOINED, Operand.MEAN, Operand.PRODUCT):
            for i in range(o.offset, o.offset + o.tag):
                p = self.parts[i]
                tag = self.tag(p.source, use_range(p.offset, p.dims, p.strides, p.type), found)
                self.parts[i] = replace(p, tag=tag)
            return o
        if s.op == Op.HASH or o.source < 0 or self.modes[o.source] == Mode.ORDERED:
            return o
        at = use_range(o.offset, s.dims, o.strides, type_)
        return replace(o, tag=self.tag(o.source, at, found))

    def tag(self, source: int, at: tuple[int, int] | None, found: list[Region]) -> int:
        if at is None or not self.pick(True, True, False):
            return 0
        found.append(Region(source, RegionKind.USE, *at))
        return len(found)

    def finish(self, tensors: int) -> Case:
        self.walk()
        regions = self.regions()
        prefixes = []
        for i in range(tensors):
            prefix = b"tensor %d\0" % i
            prefixes.append((len(self.literals), len(prefix)))
            self.literals += prefix
        table = Table(
            tuple(zip(self.modes, self.sizes, strict=True)),
            tuple(self.segments),
            tuple(prefixes),
            bytes(self.literals),
            bool(self.pick(True, False)),
            regions,
            tuple(self.parts),
        )
        contents = [self.content(size, self.seed + i) for i, size in enumerate(self.sizes)]
        return Case(table, tuple(contents))


@st.composite
def cases(draw: Callable[[st.SearchStrategy], object]) -> Case:
    """A valid table of a few small segments."""
    builder = _Builder(draw)
    tensor, unused = _NO_TENSOR, 0
    for _ in range(builder.number(0, 5)):
        builder.gaps()
        if builder.pick(True, True, False):  # else the same tensor goes on
            new = builder.pick(True, False)
            tensor = unused + builder.number(0, 1) if new else _NO_TENSOR
            unused = tensor + 1 if new else unused
        builder.chain(tensor)
    builder.gaps()
    return builder.finish(unused + builder.number(0, 1))
