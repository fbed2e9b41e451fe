"""Many tables in one file for ``vbreplay``, and the judge of what it prints.

- Valid tables come from the strategies of the machine's own tests, with those whose operands go
  over several blocks beside them; each has to give what the numpy model gives.
- Malformed ones are valid ones with bits, fields or records changed, or with a source that is too
  short. Each has to be refused, or to do what the model says that it says.
- The corpus is the same on every run: a failure can be looked at.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings

from tests.support.machine_kernels import differences
from tests.support.machine_model import Outcome, ShortRead, run_model
from tests.support.machine_tables import Case, cases, random_bytes, tame_bytes
from vbuild.table import (
    AS_STORED,
    BLOCK_TYPES,
    BYTES,
    NOTHING,
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
)

__all__ = ["Replay", "large_tables", "mutated_tables", "random_tables", "write_corpus", "wrong"]

F16, BF16, F32, F64 = range(4)
BLOCK = 256 * 1024
HEADER, SOURCE, TENSOR, SEGMENT = 40, 16, 16, 144
INTERESTING = (0, 1, 2, 3, 4, 5, 16, 255, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1, 2**32)
INTERESTING_WIDE = (*INTERESTING, 2**61, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1)


@dataclass(frozen=True, slots=True)
class Replay:
    """A serialized table and what its sources hold; one that is not ``valid`` may be refused."""

    table: bytes
    sources: tuple[bytes, ...]
    valid: bool = True


def random_tables(count: int) -> list[Replay]:
    """Valid tables of a few small segments."""
    found: list[Case] = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return [Replay(case.table.serialize(), case.sources) for case in found]


# ---- tables over several blocks ----


def _dense(dims: tuple[int, ...], size: int) -> tuple[int, ...]:
    return tuple(size * math.prod(dims[i + 1 :]) for i in range(len(dims)))


def _one_tensor(
    segments: Sequence[Segment],
    sizes: Sequence[int],
    mode: Mode,
    parts: Sequence[Part] = (),
    regions: Sequence[Region] = (),
) -> Replay:
    sources = tuple((mode, size) for size in sizes)
    table = Table(sources, tuple(segments), ((0, 3),), b"pre", True, tuple(regions), tuple(parts))
    contents = tuple(tame_bytes(size, i) for i, size in enumerate(sizes))
    return Replay(table.serialize(), contents)


def _around_blocks() -> Iterator[Replay]:
    """An ordered chain of two additions and a conversion, of sizes around those of a block."""
    for count in (BLOCK // 4 - 1, BLOCK // 4, BLOCK // 4 + 1, 3 * BLOCK // 4 + 7, 5 * BLOCK):
        dims = (1, 1, 1, count)
        a, b, c = (Operand(i, 0, _dense(dims, s)) for i, s in enumerate((2, 4, 2)))
        before = Operand(Operand.PREVIOUS)
        chain = (
            Segment(Op.ADD, dims, a, F16, F32, b, F32, AS_STORED, 0),
            Segment(Op.SUB, dims, before, F32, F32, c, BF16, F32, 0),
            Segment(Op.COPY, dims, before, F32, F16, tensor=0),
        )
        yield _one_tensor(chain, [2 * count, 4 * count, 2 * count], Mode.ORDERED)


STRIDED = (
    ((1, 1, 700, 1201), (0, 0, 2, 1400), F16),
    ((1, 1, 3, 1 << 19), (0, 0, 2, 22), F16),
    ((1, 1, 1, 1 << 19), (0, 0, 0, 22), F16),
    ((1, 3, 500, 701), (0, 2200000, 2900, 4), F32),
    ((13, 11, 17, 19), (2, 26, 286, 4862), F16),
    ((2, 1, 9, 5), (1 << 23, 0, 300_000, 8), F64),
    ((1, 40, 50, 60), (0, 0, 120, 2), BF16),
)


def _strided() -> Iterator[Replay]:
    """Transposed, interleaved, far apart, backwards, broadcast: copied, and added to."""
    for dims, strides, type_ in STRIDED:
        size, count = item_size(type_), math.prod(dims)
        last = sum((n - 1) * s for n, s in zip(dims, strides, strict=True))
        sizes = [100 + last + size, count * size]
        a = Operand(0, 100, strides)
        for op in (Op.COPY, Op.ADD):
            b = NOTHING if op is Op.COPY else Operand(1, 0, _dense(dims, size))
            b_type = 0 if op is Op.COPY else type_
            segment = Segment(op, dims, a, type_, type_, b, b_type, AS_STORED, 0)
            yield _one_tensor([segment], sizes, Mode.PLAIN)


def _walked() -> Iterator[Replay]:
    """More walked sources than there are lanes, alone and beside an output."""
    sizes = [1, 63, 64, 65, BLOCK, BLOCK + 1, 3 * BLOCK + 11, *range(1000, 1020)]
    walks = [hash_only(i, 0, size) for i, size in enumerate(sizes)]
    sources = tuple((Mode.WALKED, size) for size in sizes)
    contents = tuple(random_bytes(size, i) for i, size in enumerate(sizes))
    dims = (1, 1, 1, 2 * BLOCK)
    xor = Segment(
        Op.XOR, dims, Operand(6, 7, (0, 0, 0, 1)), BYTES, BYTES, Operand(6, 9, (0, 0, 0, 1)), BYTES
    )
    yield Replay(Table(sources, tuple(walks)).serialize(), contents)
    yield Replay(Table(sources, (xor, *walks)).serialize(), contents)


def _matrix(source: int, rows: int, columns: int, type_: int, *, turned: bool = False) -> Part:
    size = item_size(type_)
    strides = (0, 0, size, rows * size) if turned else (0, 0, columns * size, size)
    return Part(source, 0, (1, 1, rows, columns), strides, type_)


def _parts() -> Iterator[Replay]:
    """Joined columns, a mean, products in panels and of turned factors; blocks; a difference."""
    joined = [_matrix(i, 30, columns, F16) for i, columns in enumerate((40_000, 24, 30_008))]
    product = [_matrix(3, 30, 3, F32), _matrix(4, 3, 70_032, BF16)]
    mean = [_matrix(5, 21, 70_032, F16)]
    turned = [_matrix(6, 30, 5, F16, turned=True), _matrix(7, 5, 70_032, F32, turned=True)]
    parts = [*joined, *product, *mean, *turned]
    sizes = [math.prod(p.dims) * item_size(p.type) for p in parts]
    dims, before = (1, 1, 30, 70_032), Operand(Operand.PREVIOUS)
    a = Operand.of_parts(Operand.JOINED, 0, 3)
    b = Operand.of_parts(Operand.PRODUCT, 3, 2, 0.3)
    c = Operand.of_parts(Operand.MEAN, 5, 1)
    d = Operand.of_parts(Operand.PRODUCT, 6, 2, -2.0)
    chain = [
        Segment(Op.ADD, dims, a, F16, F32, b, F32, F32, 0),
        Segment(Op.SUB, dims, before, F32, F32, c, F32, F32, 0),
    ]
    last = Segment(Op.DIFF, dims, before, F32, F32, d, F32, tensor=0)
    yield _one_tensor([*chain, last], sizes, Mode.PLAIN, parts)
    parts, sizes = parts[:6], sizes[:6]
    for code in BLOCK_TYPES.values():
        wide = (1, 1, 30 * 70_032 // 32, 32)
        blocks = Segment(Op.COPY, wide, Operand(6, 0, _dense(wide, 4)), F32, code, tensor=0)
        stored = Segment(Op.COPY, dims, before, F32, BF16, tensor=0)
        yield _one_tensor([*chain, stored, blocks], [*sizes, 4 * 30 * 70_032], Mode.PLAIN, parts)


def _tagged() -> Iterator[Replay]:
    """Strided operands that are tagged: by heads, and by way of the scratch file."""
    for dims, strides in (
        ((6, 2, 64, 1100), (64 * 4400, 2200, 4400, 2)),
        ((1, 1, 1700, 1301), (0, 0, 2, 3400)),
    ):
        size = 2 * math.prod(dims)
        regions = [Region(0, RegionKind.USE, 0, size)]
        segment = Segment(Op.COPY, dims, Operand(0, 0, strides, 1), F16, F32, tensor=0)
        yield _one_tensor([segment], [size], Mode.PLAIN, (), regions)


def large_tables() -> list[Replay]:
    """Valid tables whose operands go over several blocks."""
    return [*_around_blocks(), *_strided(), *_walked(), *_parts(), *_tagged()]


# ---- malformed tables ----


def _counts(table: bytes) -> tuple[int, int, int]:
    """Sources, tensors, segments, as the header says."""
    return struct.unpack_from("<3I", table, 12)


def _flip(rng: np.random.Generator, table: bytearray) -> None:
    bit = int(rng.integers(8 * len(table)))
    table[bit // 8] ^= 1 << bit % 8


def _overwrite(rng: np.random.Generator, table: bytearray) -> None:
    """An aligned field gets a value at which something changes."""
    width = int(rng.choice([1, 4, 8]))
    values = INTERESTING_WIDE if width == 8 else INTERESTING
    value = values[int(rng.integers(len(values)))] % (1 << 8 * width)
    at = int(rng.integers(8, len(table))) // width * width
    table[at : at + width] = value.to_bytes(width, "little")[: len(table) - at]


def _segment_at(table: bytearray, i: int) -> slice:
    sources, tensors, _ = _counts(table)
    begin = HEADER + SOURCE * sources + TENSOR * tensors + SEGMENT * i
    return slice(begin, begin + SEGMENT)


def _swap_segments(rng: np.random.Generator, table: bytearray) -> None:
    count = _counts(table)[2]
    if count >= 2:
        i, j = (_segment_at(table, int(n)) for n in rng.choice(count, 2, replace=False))
        table[i], table[j] = table[j], table[i]


def _repeat_segment(rng: np.random.Generator, table: bytearray) -> None:
    """A segment twice, or not at all; the header is told."""
    count = _counts(table)[2]
    if count:
        place = _segment_at(table, int(rng.integers(count)))
        times = 2 * int(rng.integers(2))
        table[place] = table[place] * times
        struct.pack_into("<I", table, 20, count + times - 1)


def _cut(rng: np.random.Generator, table: bytearray) -> None:
    del table[int(rng.integers(len(table))) :]


CHANGES = (_flip, _overwrite, _overwrite, _overwrite, _swap_segments, _repeat_segment)


def mutated_tables(valid: Sequence[Replay], each: int) -> list[Replay]:
    """``each`` malformed tables for every one of ``valid``. One in eight has a source cut short."""
    rng = np.random.default_rng(0)
    found = []
    for replay in valid:
        for _ in range(each):
            table = bytearray(replay.table)
            for _ in range(int(rng.integers(1, 4))):
                if len(table) >= HEADER and _whole(table):
                    CHANGES[int(rng.integers(len(CHANGES)))](rng, table)
            if rng.integers(40) == 0:
                _cut(rng, table)
            sources = list(_fitting(table, replay.sources))
            if sources and rng.integers(8) == 0:
                i = int(rng.integers(len(sources)))
                sources[i] = sources[i][: int(rng.integers(len(sources[i]) + 1))]
            found.append(Replay(bytes(table), tuple(sources), valid=False))
    return found


def _whole(table: bytearray) -> bool:
    """Whether the records are where the header's counts put them."""
    sources, tensors, segments = _counts(table)
    return HEADER + SOURCE * sources + TENSOR * tensors + SEGMENT * segments <= len(table)


def _fitting(table: bytearray, sources: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """As many sources as the header claims, where it could be right; the new ones are empty."""
    if len(table) < HEADER or not _whole(table):
        return sources
    claimed = _counts(table)[0]
    return (*sources[:claimed], *[b""] * (claimed - len(sources)))


# ---- the file, and the judge ----


def write_corpus(path: Path, replays: Iterable[Replay]) -> None:
    """The file that ``vbreplay`` reads."""
    with path.open("wb") as f:
        for replay in replays:
            sizes = [len(source) for source in replay.sources]
            f.write(struct.pack(f"<2I{len(sizes)}Q", len(replay.table), len(sizes), *sizes))
            f.write(replay.table)
            f.writelines(replay.sources)


def wrong(replays: Sequence[Replay], printed: str) -> list[str]:
    """What ``vbreplay`` has printed that is not as it should be, as text."""
    blocks = [block.splitlines() for block in printed.split("case ")[1:]]
    if len(blocks) != len(replays):
        return [f"{len(blocks)} of {len(replays)} cases have been run: {printed[-300:]}"]
    found = []
    for replay, (number, *lines) in zip(replays, blocks, strict=True):
        problem = _judge(replay, lines)
        if problem:
            found.append(f"case {number}: {problem}")
    return found


def _judge(replay: Replay, lines: list[str]) -> str | None:
    if not lines:
        return "nothing was printed"
    if lines[0] == "large" or lines[0].startswith("refused "):
        return f"a valid table is {lines[0]}" if replay.valid else None
    try:
        expected = _lines(run_model(replay.table, replay.sources))
    except ShortRead as short:
        expected = [f"fault read-short source {short.source}"]
    if expected[0].startswith("fault ") and lines[0].startswith("fault ") and not replay.valid:
        return None  # which of several faults is met first is the machine's own affair
    return None if lines == expected else f"{lines} instead of {expected}"


def _difference(outcome: Outcome, tensor: int) -> str:
    d = differences(outcome.compared.get(tensor, []))
    max_abs = struct.unpack("<Q", struct.pack("<d", d.max_abs))[0]
    numbers = f"{d.count} {d.first} {d.first_bits[0]:x} {d.first_bits[1]:x} {d.max_ulp}"
    rest = f"{d.max_ulp_at} {max_abs:x} {d.max_abs_at} {d.unordered}"
    return f"difference {tensor} {numbers} {rest}"


def _lines(outcome: Outcome) -> list[str]:
    """What ``vbreplay`` has to print for what the model gives."""
    if outcome.fault is not None:
        fault = outcome.fault
        bits = " ".join(f"{b:x}" for b in fault.bits)
        return [f"fault nonfinite segment {fault.segment} index {fault.index} bits {bits}"]
    output = hashlib.sha256(outcome.output).hexdigest()
    digests = [("source", i, d.hex() if d else "-") for i, d in enumerate(outcome.sources)]
    digests += [("tensor", i, d.hex()) for i, d in enumerate(outcome.tensors)]
    lines = [f"{kind} {i} {digest}" for kind, i, digest in digests]
    if outcome.compared:
        lines += [_difference(outcome, i) for i in range(len(outcome.tensors))]
    return [f"output {output}", *lines, f"written {output}"]
