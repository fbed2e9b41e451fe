"""Operands of parts, differences and block types over many blocks; and readings that are tagged."""

from __future__ import annotations

import math
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.machine_model import run_model
from tests.support.machine_runs import KEY, assert_as_the_model, execute, opened
from tests.support.machine_tables import random_bytes, tame_bytes
from vbuild._core import Control, Fault, Kernels, check_table, run
from vbuild.table import (
    AS_STORED,
    BLOCK_TYPES,
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
    use_range,
)

F16, BF16, F32, F64, RAW1 = 0, 1, 2, 3, 16
MIB = 1 << 20
Z = Operand(Operand.ZERO)
PREVIOUS = Operand(Operand.PREVIOUS)

every_level = pytest.mark.parametrize("level", ["portable", "native"])


def dense(dims: Sequence[int], type_: int) -> tuple[int, ...]:
    return tuple(item_size(type_) * math.prod(dims[i + 1 :]) for i in range(4))


def matrix(source: int, rows: int, columns: int, type_: int, *, turned: bool = False) -> Part:
    """A matrix that is all of its source; ``turned``: it lies there column after column."""
    size = item_size(type_)
    strides = (0, 0, size, rows * size) if turned else (0, 0, columns * size, size)
    return Part(source, 0, (1, 1, rows, columns), strides, type_)


def table_of(
    segments: Sequence[Segment],
    sizes: Sequence[int],
    parts: Sequence[Part] = (),
    regions: Sequence[Region] = (),
    mode: Mode = Mode.PLAIN,
) -> bytes:
    """One tensor, whose prefix is ``pre``."""
    walks = [hash_only(i, 0, size) for i, size in enumerate(sizes) if mode is Mode.WALKED]
    return Table(
        tuple((mode, size) for size in sizes),
        (*segments, *walks),
        ((0, 3),),
        b"pre",
        allow_nonfinite=True,
        regions=tuple(regions),
        parts=tuple(parts),
    ).serialize()


def part_size(part: Part) -> int:
    return math.prod(part.dims) * item_size(part.type)


# ---- products ----

PRODUCTS = {
    "one panel": (150, 4, 4100, F16, F32, False),
    "several panels": (5, 3, 200_001, F32, BF16, False),
    "a row of the left factor is long": (9, 40_000, 3, BF16, F16, False),
    "turned factors": (700, 9, 700, F32, F32, True),
    "turned factors in panels": (3, 5, 90_000, F16, F32, True),
    "a column": (200_000, 2, 1, F32, F16, False),
}


@every_level
@pytest.mark.parametrize("case", PRODUCTS, ids=list(PRODUCTS))
def test_products_over_many_blocks_are_the_models(level: str, case: str) -> None:
    rows, rank, columns, left, right, turned = PRODUCTS[case]
    parts = [
        matrix(1, rows, rank, left, turned=turned),
        matrix(2, rank, columns, right, turned=turned),
    ]
    dims = (1, 1, rows, columns)
    b = Operand.of_parts(Operand.PRODUCT, 0, 2, 0.75)
    a = Operand(0, 0, dense(dims, F16))
    segment = Segment(Op.ADD, dims, a, F16, F16, b, F32, F32, 0)
    sizes = [2 * rows * columns, *map(part_size, parts)]
    sources = [tame_bytes(size, i) for i, size in enumerate(sizes)]
    assert_as_the_model(table_of([segment], sizes, parts), sources, level)


@every_level
def test_a_chain_may_have_several_products_and_a_mean(level: str) -> None:
    rows, columns = 200, 1000
    parts = [matrix(0, 77, columns, BF16)]
    for i in (1, 3):
        parts += [matrix(i, rows, 6, F32), matrix(i + 1, 6, columns, F32)]
    dims = (1, 2, rows // 2, columns)
    mean = Operand.of_parts(Operand.MEAN, 0, 1)
    products = [Operand.of_parts(Operand.PRODUCT, 1 + 2 * i, 2, 2.0) for i in range(2)]
    segments = (
        Segment(Op.SUB, dims, mean, F32, F32, products[0], F32, F32, 0),
        Segment(Op.ADD, dims, PREVIOUS, F32, BF16, products[1], F32, F32, 0),
    )
    sizes = [part_size(part) for part in parts]
    sources = [tame_bytes(size, i) for i, size in enumerate(sizes)]
    assert_as_the_model(table_of(segments, sizes, parts), sources, level)


def test_the_factors_of_a_chain_are_what_its_memory_grows_with() -> None:
    def memory(rank: int, rows: int) -> int:
        parts = [matrix(0, rows, rank, F32), matrix(1, rank, 4096, F32)]
        b = Operand.of_parts(Operand.PRODUCT, 0, 2, 1.0)
        segment = Segment(Op.ADD, (1, 1, rows, 4096), Z, F32, F32, b, F32, F32, 0)
        return check_table(table_of([segment], list(map(part_size, parts)), parts), Kernels())[1]

    assert memory(64, 1 << 30) - memory(64, 10) <= 64 * 1024
    assert 0 <= memory(1024, 10) - memory(64, 10) - 960 * 4096 * 4 <= MIB
    with pytest.raises(ValueError, match="the factors of a chain are too large"):
        memory(4096, 10)


# ---- means ----


@every_level
@pytest.mark.parametrize(("rows", "columns", "type_"), [(3000, 777, F16), (3, 200_000, F32)])
def test_the_mean_of_many_rows_stands_in_every_row(
    level: str, rows: int, columns: int, type_: int
) -> None:
    parts = [matrix(0, rows, columns, type_)]
    dims = (1, 1, 7, columns)
    segment = Segment(
        Op.COPY, dims, Operand.of_parts(Operand.MEAN, 0, 1), F32, BF16, NOTHING, 0, AS_STORED, 0
    )
    sizes = [part_size(parts[0])]
    assert_as_the_model(table_of([segment], sizes, parts), [tame_bytes(sizes[0], 1)], level)


@pytest.mark.parametrize("out", [F32, F16, BLOCK_TYPES["Q8_0"]])
def test_a_mean_that_is_not_finite_is_told_where_it_is_copied(out: int) -> None:
    rows = np.ones((4, 96), "<f4")
    rows[:, 70] = 3e38
    part = matrix(0, 4, 96, F32)
    mean = Operand.of_parts(Operand.MEAN, 0, 1)
    segment = Segment(Op.COPY, (1, 1, 2, 96), mean, F32, out)
    table = Table(((Mode.PLAIN, rows.nbytes),), (segment,), parts=(part,)).serialize()
    with pytest.raises(Fault) as caught:
        execute(table, [rows.tobytes()])
    assert (caught.value.status, caught.value.index) == ("nonfinite", 70)
    assert caught.value.bits[0] == 0x7F800000
    assert_as_the_model(table, [rows.tobytes()], "native")


# ---- parts side by side ----


@every_level
@pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.WALKED])
@pytest.mark.parametrize(
    ("rows", "widths"), [(5000, [64, 1, 200]), (2, [300_000, 7, 250_000])], ids=["tall", "wide"]
)
def test_columns_of_several_files_are_joined(
    level: str, mode: Mode, rows: int, widths: list[int]
) -> None:
    parts, regions = [], []
    for i, width in enumerate(widths):
        parts.append(matrix(i, rows, width, F16))
        if mode is Mode.WALKED:
            size = part_size(parts[-1])
            regions.append(Region(i, RegionKind.USE, 0, size))
            parts[-1] = Part(i, 0, parts[-1].dims, parts[-1].strides, F16, 2 + 2 * i)
    if mode is Mode.WALKED:  # the region of each is walked, too
        regions = [Region(r.source, RegionKind.WALK, r.begin, r.end) for r in regions] + regions
        parts = [Part(p.source, 0, p.dims, p.strides, F16, 4 + p.source) for p in parts]
    dims = (1, 1, rows, sum(widths))
    a = Operand.of_parts(Operand.JOINED, 0, len(parts))
    segment = Segment(Op.COPY, dims, a, F16, F32, NOTHING, 0, AS_STORED, 0)
    sizes = [part_size(part) for part in parts]
    sources = [random_bytes(size, i) for i, size in enumerate(sizes)]
    table = table_of([segment], sizes, parts, regions, mode)
    assert_as_the_model(table, sources, level)
    found = execute(table, sources, level)[0].regions
    assert found[: len(found) // 2] == found[len(found) // 2 :]


# ---- readings that are tagged as they are used ----

VIEWS = {  # dimensions, and the axes as they vary in the file, slowest first
    "heads that are more than a block": ((3, 2, 64, 2100), (0, 2, 1, 3), F32),
    "heads that are less than a block": ((40, 2, 8, 64), (0, 2, 1, 3), F16),
    "heads of one row": ((700, 2, 1, 64), (0, 2, 1, 3), F16),
    "turned, and small": ((1, 1, 300, 500), (0, 1, 3, 2), F16),
    "turned, and more than a window": ((1, 1, 1700, 1701), (0, 1, 3, 2), F32),
    "turned, in rows of a block and more": ((1, 1, 20, 200_000), (0, 1, 3, 2), F16),
    "inside out": ((2, 3, 3, 70_000), (3, 0, 2, 1), F16),
}


def permuted(dims: tuple[int, ...], order: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Strides of elements that fill a range of a file."""
    strides = [0] * 4
    for axis in reversed(order):
        strides[axis] = size
        size *= dims[axis]
    return tuple(strides)


@every_level
@pytest.mark.parametrize("case", VIEWS, ids=list(VIEWS))
@pytest.mark.parametrize("op", [Op.COPY, Op.ADD], ids=["copy", "add"])
def test_a_strided_operand_is_tagged_as_it_lies_in_its_file(level: str, case: str, op: Op) -> None:
    dims, order, type_ = VIEWS[case]
    strides = permuted(dims, order, item_size(type_))
    count = math.prod(dims)
    at = use_range(100, dims, strides, type_)
    assert at == (100, 100 + count * item_size(type_))
    regions = [Region(0, RegionKind.WALK, *at), Region(0, RegionKind.USE, *at)]
    a = Operand(0, 100, strides, tag=2)
    b = NOTHING if op is Op.COPY else Operand(1, 0, dense(dims, F16))
    segment = Segment(op, dims, a, type_, type_, b, F16, AS_STORED, 0)
    sizes = [at[1] + 50, 2 * count]
    sources = [tame_bytes(size, 3) for size in sizes]
    table = table_of([segment], sizes, (), regions, Mode.WALKED)
    assert_as_the_model(table, sources, level)
    found = execute(table, sources, level)[0].regions
    assert found[0] == found[1]


@pytest.mark.parametrize("given", [True, False], ids=["a file", "memory"])
def test_what_does_not_lie_in_reading_order_goes_through_the_scratch_file(given: bool) -> None:
    dims, size = (1, 1, 1700, 1701), 4 * 1700 * 1701
    regions = [Region(0, RegionKind.USE, 0, size)]
    a = Operand(0, 0, (0, 0, 4, 4 * 1700), tag=1)
    table = table_of([Segment(Op.COPY, dims, a, F32, F32, tensor=0)], [size], (), regions)
    content = tame_bytes(size, 1)
    with opened([content]) as fds, tempfile.TemporaryFile() as scratch:
        fd = scratch.fileno() if given else -1
        result = run(table, fds, -1, Kernels(), Control(), tag_key=KEY, scratch_fd=fd)
        assert os.pread(scratch.fileno(), size + 1, 0) == (content if given else b"")
    assert result.regions == (Kernels().tag(KEY, content),)
    turned = np.frombuffer(content, "<f4").reshape(1701, 1700).T
    assert turned.tobytes() == bytes(run_model(table, [content]).output)


def test_a_scratch_file_that_cannot_be_written_is_told() -> None:
    size = 4 * 1700 * 1701
    a = Operand(0, 0, (0, 0, 4, 4 * 1700), tag=1)
    segment = Segment(Op.COPY, (1, 1, 1700, 1701), a, F32, F32)
    table = table_of([segment], [size], (), [Region(0, RegionKind.USE, 0, size)])
    full = os.open("/dev/full", os.O_RDWR)
    try:
        with opened([bytes(size)]) as fds, pytest.raises(Fault) as caught:
            run(table, fds, -1, Kernels(), Control(), tag_key=KEY, scratch_fd=full)
    finally:
        os.close(full)
    assert caught.value.status == "write-failed"


def test_strided_readings_take_little_memory() -> None:
    views = [
        ((1, 1, 1 << 20, 1 << 12), (0, 0, 2, 1 << 21)),
        ((32, 2, 64, 8192), (1 << 21, 8192 * 2, 8192 * 4, 2)),
    ]
    for dims, strides in views:
        at = use_range(0, dims, strides, F16)
        assert at is not None
        a = Operand(0, 0, strides, tag=1)
        segments = [Segment(Op.COPY, dims, a, F16, F16)]
        table = table_of(segments, [at[1]], (), [Region(0, RegionKind.USE, *at)])
        assert check_table(table, Kernels())[1] < 16 * MIB


# ---- differences ----


@every_level
@pytest.mark.parametrize("type_", [F16, BF16, F32, F64, RAW1, 17, 18, 19])
def test_differences_are_counted_over_blocks_and_segments(level: str, type_: int) -> None:
    counts = [200_000, 3, 65_536]
    size = item_size(type_) * sum(counts)
    a, b = bytearray(random_bytes(size, 1)), bytearray(random_bytes(size, 1))
    for place in (7, 100_000, 199_999, 200_002, sum(counts) - 1):
        b[place * item_size(type_)] ^= 3
    segments, at = [], 0
    for count in counts:
        dims = (1, 1, 1, count)
        x, y = (Operand(i, at, (0, 0, 0, item_size(type_))) for i in range(2))
        segments.append(Segment(Op.DIFF, dims, x, type_, type_, y, type_, tensor=0))
        at += count * item_size(type_)
    table = table_of(segments, [size, size], mode=Mode.ORDERED)
    assert_as_the_model(table, [bytes(a), bytes(b)], level)
    result, output = execute(table, [bytes(a), bytes(b)], level)
    (found,) = result.differences
    assert found is not None
    assert (output, found.count, found.first) == (b"", 5, 7)


def test_a_tensor_that_nothing_was_compared_of_has_no_difference() -> None:
    dims = (1, 1, 1, 4)
    segments = (
        Segment(Op.COPY, dims, Z, F16, F16, tensor=0),
        Segment(Op.DIFF, dims, Z, F16, F16, Z, F16, tensor=2),
    )
    table = Table((), segments, ((0, 1),) * 3, b"-").serialize()
    result, output = execute(table, [])
    assert [found is not None for found in result.differences] == [False, False, True]
    assert output == bytes(8)
    copied = Table((), segments[:1], ((0, 1),), b"-").serialize()
    assert execute(copied, [])[0].differences == ()


def test_progress_of_a_comparison_counts_elements_where_nothing_is_hashed() -> None:
    size = MIB
    operand = Operand(0, 0, (0, 0, 0, 1))
    dims = (1, 1, 1, size)
    segment = Segment(Op.DIFF, dims, operand, RAW1, RAW1, operand, RAW1, tensor=0)
    control = Control()
    with opened([bytes(size)]) as fds:
        run(table_of([segment], [size]), fds, -1, Kernels(), control, hash_output=False)
    assert control.done == size


# ---- block types ----


@every_level
@pytest.mark.parametrize("name", BLOCK_TYPES)
@pytest.mark.parametrize("type_", [F16, BF16, F32, F64])
def test_blocks_are_the_models_over_many_blocks(level: str, name: str, type_: int) -> None:
    dims = (1, 3, 41, 32 * 70)
    count = math.prod(dims)
    sizes = [count * item_size(type_), count * 2]
    segments = (
        Segment(
            Op.ADD, dims, Operand(0, 0, dense(dims, type_)), type_, type_,
            Operand(1, 0, dense(dims, F16)), F16, AS_STORED, 0,
        ),
        Segment(Op.COPY, dims, PREVIOUS, type_, BLOCK_TYPES[name], tensor=0),
    )  # fmt: skip
    sources = [random_bytes(sizes[0], 1), tame_bytes(sizes[1], 2)]
    assert_as_the_model(table_of(segments, sizes, mode=Mode.ORDERED), sources, level)


@pytest.mark.parametrize("at", [0, 31, 5000, 299_999])
def test_an_element_that_has_no_block_is_told(at: int) -> None:
    count = 300_000
    values = np.ones(count, "<f4")
    values[at] = np.nan
    segment = Segment(Op.COPY, (1, 1, 1, count), Operand(0, 0, (0, 0, 0, 4)), F32, 40)
    table = Table(((Mode.PLAIN, 4 * count),), (segment,)).serialize()
    with pytest.raises(Fault) as caught:
        execute(table, [values.tobytes()])
    assert (caught.value.status, caught.value.index) == ("nonfinite", at)
    assert caught.value.bits == (0x7FC00000, 0, 0x7E00)


# ---- stopping ----


@pytest.mark.parametrize("kind", ["mean", "spool"])
def test_loading_what_stays_can_be_stopped(kind: str) -> None:
    rows, columns = 1 << 26, 1 << 12  # 512 GiB of zeros that no disk has
    part = matrix(0, rows, columns, F16, turned=kind == "spool")
    size = part_size(part)
    if kind == "mean":
        mean = Operand.of_parts(Operand.MEAN, 0, 1)
        segment = Segment(Op.COPY, (1, 1, 1, columns), mean, F32, F32)
        table = table_of([segment], [size], [part])
    else:
        a = Operand(0, 0, part.strides, tag=1)
        segment = Segment(Op.COPY, part.dims, a, F16, F16)
        table = table_of([segment], [size], (), [Region(0, RegionKind.USE, 0, size)])
    control = Control()
    timer = threading.Timer(0.2, control.stop)
    with tempfile.TemporaryFile() as f, Path(os.devnull).open("r+b") as scratch:
        f.truncate(size)
        timer.start()
        with pytest.raises(Fault) as caught:
            run(table, [f.fileno()], -1, Kernels(), control, tag_key=KEY,
                scratch_fd=scratch.fileno())  # fmt: skip
    timer.join()
    assert caught.value.status == "stopped"


# ---- malformed tables ----

DIMS = (1, 1, 2, 4)
J, M, P = Operand.JOINED, Operand.MEAN, Operand.PRODUCT
LEFT, RIGHT = matrix(0, 2, 3, F32), matrix(0, 3, 4, F16)
HALF = matrix(0, 2, 2, F16)


def copied(kind: int, count: int, type_: int = F16, first: int = 0, **more: int) -> Segment:
    return Segment(Op.COPY, DIMS, Operand.of_parts(kind, first, count, **more), type_, type_)


def added(kind: int = P, count: int = 2, type_: int = F32) -> Segment:
    return Segment(Op.ADD, DIMS, Z, F32, F32, Operand.of_parts(kind, 0, count, 1.0), type_, F32)


def at_zero(
    source: int = 0, offset: int = 0, dims: tuple[int, ...] = DIMS, type_: int = F16
) -> Part:
    """One element, again and again."""
    return Part(source, offset, dims, (0,) * 4, type_)


REFUSED: dict[str, tuple[str, list[Segment], list[Part]]] = {
    "a part too many": ("a part that no operand has", [], [HALF]),
    "no parts": ("not in the operands' order", [copied(J, 0)], []),
    "more parts than there are": ("not in the operands' order", [copied(J, 2)], [HALF]),
    "another first part": ("not in the operands' order", [copied(J, 1, first=1)], [HALF] * 2),
    "a product of three": ("not in the operands' order", [added(count=3)], [LEFT, RIGHT, RIGHT]),
    "a mean of two": ("not in the operands' order", [copied(M, 2, F32)], [LEFT, LEFT]),
    "columns are missing": ("does not fit", [copied(J, 1)], [HALF]),
    "too many columns": ("does not fit", [copied(J, 3)], [HALF] * 3),
    "another number of rows": ("does not fit", [copied(J, 2)], [HALF, matrix(0, 3, 2, F16)]),
    "another type": ("does not fit", [copied(J, 2)], [HALF, matrix(0, 2, 2, BF16)]),
    "a mean of other columns": ("does not fit", [copied(M, 1, F32)], [LEFT]),
    "a mean of f64": ("does not fit", [copied(M, 1, F32)], [matrix(0, 2, 4, F64)]),
    "a mean of items": ("does not fit", [copied(M, 1, F32)], [matrix(0, 2, 4, RAW1)]),
    "a mean in f16": ("a mean or a product is f32", [copied(M, 1)], [matrix(0, 2, 4, F16)]),
    "ranks that differ": ("does not fit", [added()], [matrix(0, 2, 2, F16), RIGHT]),
    "rows of a product": ("does not fit", [added()], [matrix(0, 3, 3, F16), RIGHT]),
    "columns of a product": ("does not fit", [added()], [LEFT, matrix(0, 3, 5, F16)]),
    "a product in f16": ("a mean or a product is f32", [added(type_=F16)], [LEFT, RIGHT]),
    "a product first": ("a product is a second operand", [copied(P, 2, F32)], [LEFT, RIGHT]),
    "a scale of joined parts": ("strides of an operand of parts",
                                [copied(J, 2, scale=1.0)], [HALF] * 2),
    "an unknown kind": ("no such source", [copied(-8, 0)], []),
    "a type of a part": ("unknown element type", [copied(J, 1)], [at_zero(type_=9)]),
    "an extent of a part": ("bad dimensions", [copied(J, 1)], [at_zero(dims=(1, 1, 2, 0))]),
    "a part outside": ("lies outside", [copied(J, 1)], [at_zero(offset=100)]),
    "a part of nothing": ("no such source", [copied(J, 1)], [at_zero(-1)]),
    "a part of a literal": ("no such source", [copied(J, 1)], [at_zero(9)]),
    "an ordered part": ("a part of an ordered source", [copied(J, 1)], [at_zero(1)]),
    "hashing parts": ("hash-only segments need a source",
                      [Segment(Op.HASH, DIMS, Operand.of_parts(J, 0, 2), RAW1, RAW1)], [HALF] * 2),
    "types that differ": ("a difference is between equal types",
                          [Segment(Op.DIFF, DIMS, Z, F16, F16, Z, F32, tensor=0)], []),
    "a difference of nothing": ("no such tensor",
                                [Segment(Op.DIFF, DIMS, Z, F16, F16, Z, F16)], []),
    "half a difference": ("a second operand is missing",
                          [Segment(Op.DIFF, DIMS, Z, F16, F16, tensor=0)], []),
    "going on from a difference": ("does not fit the one it goes on from", [
        Segment(Op.DIFF, DIMS, Z, F16, F16, Z, F16, tensor=0),
        Segment(Op.COPY, DIMS, PREVIOUS, F16, F16, tensor=0),
    ], []),
    "half a block": ("a row is not whole blocks", [Segment(Op.COPY, DIMS, Z, F16, 40)], []),
    "items in blocks": ("no such conversion", [Segment(Op.COPY, DIMS, Z, RAW1, 40)], []),
    "blocks of blocks": ("unknown element type", [Segment(Op.COPY, DIMS, Z, 40, 40)], []),
    "an unknown block type": ("no such conversion", [Segment(Op.COPY, DIMS, Z, F16, 36)], []),
    "a sum in blocks": ("arithmetic takes", [Segment(Op.ADD, DIMS, Z, F16, 40, Z, F16)], []),
    "going on from blocks": ("does not fit the one it goes on from", [
        Segment(Op.COPY, (1, 1, 1, 32), Z, F16, 40),
        Segment(Op.COPY, (1, 1, 1, 32), PREVIOUS, F16, F16),
    ], []),
}  # fmt: skip


@pytest.mark.parametrize("which", REFUSED)
def test_malformed_operands_are_refused_with_their_reason(which: str) -> None:
    why, segments, parts = REFUSED[which]
    sources = ((Mode.PLAIN, 100), (Mode.ORDERED, 100))
    rest = hash_only(1, 0, 100)
    table = Table(sources, (*segments, rest), ((0, 1),), b"-", parts=tuple(parts)).serialize()
    with pytest.raises(ValueError, match=why):
        check_table(table, Kernels())


def test_a_region_is_not_much_longer_than_what_is_used_of_it() -> None:
    for stride, fits in ((8, True), (8 + 41, True), (8 + 42, False)):
        dims, strides = (1, 1, 1, 101), (0, 0, 0, stride)
        at = 0, 100 * stride + 2
        assert (use_range(0, dims, strides, F16) == at) is fits
        segment = Segment(Op.COPY, dims, Operand(0, 0, strides, tag=1), F16, F16)
        table = table_of([segment], [at[1]], (), [Region(0, RegionKind.USE, *at)])
        if fits:
            check_table(table, Kernels())
            continue
        with pytest.raises(ValueError, match="not what its operand reads"):
            check_table(table, Kernels())
