"""vbuild.table: the serialized form, and the dimensions that operands share."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.machine_model import parse
from tests.support.machine_tables import Case, cases
from vbuild._core import Kernels, check_table
from vbuild.table import (
    AS_STORED,
    BLOCK_TYPES,
    BYTES,
    CHAIN,
    RANK,
    Mode,
    Op,
    Operand,
    Region,
    RegionKind,
    Segment,
    Table,
    dense,
    hash_only,
    item_size,
    joint_dims,
    result_code,
    split_axes,
    stored_size,
    type_code,
)
from vbuild.tensors import DType


@given(cases())
def test_an_independent_parser_reads_back_what_was_serialized(case: Case) -> None:
    table = case.table
    parsed = parse(table.serialize())
    assert parsed.allow_nonfinite == table.allow_nonfinite
    assert parsed.sources == table.sources
    assert (parsed.tensors, parsed.literals) == (table.tensors, table.literals)
    assert len(parsed.segments) == len(table.segments)
    assert [(r.source, r.kind, r.begin, r.end) for r in parsed.regions] == [
        (r.source, r.kind, r.begin, r.end) for r in table.regions
    ]
    for read, written in zip(parsed.segments, table.segments, strict=True):
        for key in ("op", "a_type", "b_type", "compute", "out_type", "tensor", "dims"):
            assert getattr(read, key) == getattr(written, key)
        for ours, theirs in ((read.a, written.a), (read.b, written.b)):
            assert (ours.source, ours.tag, ours.offset, ours.strides) == (
                theirs.source,
                theirs.tag,
                theirs.offset,
                theirs.strides,
            )


def test_the_serialized_form_is_the_documented_one() -> None:
    segment = Segment(
        Op.ADD, (1, 1, 2, 3), Operand(0, 5, (0, 0, 6, 2), 7), 0, 2, Operand(-1, 7), 1, 3, tensor=9
    )
    region = Region(0, RegionKind.USE, 5, 17)
    table = Table(((Mode.WALKED, 10),), (segment,), ((1, 2),), b"end", True, (region,))
    head = b"vbtable1" + bytes.fromhex("01000000 01000000 01000000 01000000 0300000000000000")
    head += bytes.fromhex("01000000 00000000")
    source = bytes.fromhex("02000000 00000000 0a00000000000000")
    tensor = struct.pack("<QQ", 1, 2)
    body = bytes.fromhex("02 00 01 03 02 000000 09000000 00000000")
    body += struct.pack("<4Q", 1, 1, 2, 3)
    body += struct.pack("<iIQ4Q", 0, 7, 5, 0, 0, 6, 2) + struct.pack("<iIQ4Q", -1, 0, 7, 0, 0, 0, 0)
    assert len(segment.pack()) == 144
    tagged = struct.pack("<IIQQ", 0, 2, 5, 17)
    assert table.serialize() == head + source + tensor + body + tagged + b"end"


def test_the_longest_chain_is_the_cores() -> None:
    one, again = Operand(Operand.ZERO), Operand(Operand.PREVIOUS)
    for length in (CHAIN, CHAIN + 1):
        chain = [Segment(Op.COPY, (1,) * RANK, again, BYTES, BYTES)] * (length - 1)
        first = Segment(Op.COPY, (1,) * RANK, one, BYTES, BYTES)
        table = Table((), (first, *chain)).serialize()
        if length == CHAIN:
            assert check_table(table, Kernels())[0] == 1
            continue
        with pytest.raises(ValueError, match="too many segments"):
            check_table(table, Kernels())


@pytest.mark.parametrize("dtype", list(DType), ids=str)
def test_every_element_type_has_a_code_of_its_size(dtype: DType) -> None:
    assert item_size(type_code(dtype)) == dtype.itemsize
    assert item_size(type_code(dtype, raw=True)) == dtype.itemsize
    assert type_code(dtype, raw=True) >= 16
    assert (type_code(dtype) < 4) == dtype.is_arithmetic


def test_dense_and_hash_only_describe_a_range_of_bytes() -> None:
    operand, dims = dense(3, 10, 14)
    assert (operand, dims) == (Operand(3, 10, (0, 0, 0, 1)), (1, 1, 1, 4))
    segment = hash_only(3, 10, 14)
    assert (segment.op, segment.a, segment.count) == (Op.HASH, operand, 4)
    assert (segment.b.source, segment.compute) == (Operand.NONE, AS_STORED)


def _positions(extents: Sequence[int], strides: Sequence[int]) -> list[int]:
    """The offset of every element, in C order."""
    found = np.zeros(1, np.int64)
    for extent, stride in zip(extents, strides, strict=True):
        found = (found[:, None] + np.arange(extent, dtype=np.int64) * stride).ravel()
    return found.tolist()


@st.composite
def cut(draw, count):
    """Extents whose product is ``count``, extents of 1 among them."""
    extents = []
    while count > 1:
        extents.append(draw(st.sampled_from([n for n in range(2, count + 1) if count % n == 0])))
        count //= extents[-1]
    return (*extents, *[1] * draw(st.integers(0, 2)))


@st.composite
def layouts(draw):
    count = draw(st.sampled_from([1, 2, 6, 8, 12, 24, 36]))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        extents = draw(cut(count))
        strides = tuple(draw(st.integers(0, 50)) for _ in extents)
        if draw(st.booleans()):
            strides = tuple(prod(extents[i + 1 :]) for i in range(len(extents)))
        found.append((extents, strides))
    return found


@given(layouts())
def test_the_elements_come_in_the_order_of_every_layout(found):
    joint = joint_dims(found)
    if joint is None:
        return
    dims, strides = joint
    assert len(dims) == RANK
    for layout, own in zip(found, strides, strict=True):
        assert _positions(dims, own) == _positions(*layout)


@given(st.sampled_from([1, 2, 6, 8, 24]), st.data())
def test_dense_layouts_are_one_axis_however_they_are_cut(count, data):
    found = []
    for _ in range(3):
        extents = data.draw(cut(count))
        found.append((extents, tuple(prod(extents[i + 1 :]) for i in range(len(extents)))))
    dims, strides = joint_dims(found)
    assert dims == (1, 1, 1, count)
    assert {own[-1] for own in strides} == {0 if count == 1 else 1}


@given(layouts(), st.integers(1, 5), st.integers(0, 5))
def test_columns_stay_the_last_axis(found, columns, step):
    wider = [((*extents, columns), (*strides, step)) for extents, strides in found]
    joint = joint_dims(wider, columns=True)
    if joint is None:
        return
    dims, strides = joint
    assert dims[-1] == columns
    for layout, own in zip(wider, strides, strict=True):
        assert _positions(dims, own) == _positions(*layout)


def test_the_permuted_rows_of_a_head_meet_rows_that_are_not_permuted():
    heads, half, columns = 4, 3, 5
    rows = np.arange(heads * 2 * half * columns).reshape(heads, half, 2, columns)
    permuted = rows.transpose(0, 2, 1, 3)
    joint = joint_dims(
        [
            (permuted.shape, tuple(s // rows.itemsize for s in permuted.strides)),
            ((heads * 2 * half, columns), (columns, 1)),
        ]
    )
    assert joint is not None
    dims, (own, plain) = joint
    assert dims == (heads, 2, half, columns)
    assert _positions(dims, own) == permuted.ravel().tolist()
    assert _positions(dims, plain) == list(range(rows.size))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (((6, 4), (5, 1)), ((4, 6), (7, 1))),  # the cuts do not fit
        (((2, 2, 2, 2, 2), (99, 7, 49, 3, 11)), ((32,), (1,))),  # five axes remain
    ],
)
def test_layouts_that_share_no_four_dimensions_are_told(one, other):
    assert joint_dims([one, other]) is None


def test_columns_that_differ_are_told():
    assert joint_dims([((2, 6), (6, 1)), ((4, 3), (3, 1))], columns=True) is None


@pytest.mark.parametrize(
    ("name", "size"), [("Q4_0", 18), ("Q4_1", 20), ("Q5_0", 22), ("Q5_1", 24), ("Q8_0", 34)]
)
def test_blocks_have_the_size_that_ggml_gives_them(name, size):
    assert stored_size(BLOCK_TYPES[name], 96) == 3 * size


@given(st.lists(st.sampled_from([1, 2, 3, 4, 6]), max_size=4), st.data())
def test_axes_are_split_at_the_asked_for_extents(extents, data):
    """Any way of cutting the same elements gives the same offsets, in the same order."""
    flat = [n for n in extents for n in ([2, n // 2] if n in (4, 6) else [n])]
    steps = data.draw(st.lists(st.integers(0, 50), min_size=len(extents), max_size=len(extents)))
    groups = split_axes((extents, steps), flat)
    assert groups is not None
    assert [prod(n for n, _ in group) for group in groups] == flat
    axes = [axis for group in groups for axis in group]
    assert offsets([n for n, _ in axes], [step for _, step in axes]) == offsets(extents, steps)


def offsets(extents, steps):
    where = np.zeros(1, int)
    for n, step in zip(extents, steps, strict=True):
        where = (where[:, None] + np.arange(n) * step).ravel()
    return where.tolist()


@pytest.mark.parametrize(
    ("extents", "wanted"), [((6,), (2, 4)), ((4,), (3,)), ((2, 3), (3, 2)), ((2,), (2, 2))]
)
def test_axes_that_cannot_be_split_there_are_told(extents, wanted):
    assert split_axes((extents, (1,) * len(extents)), wanted) is None


def test_results_become_blocks_and_operands_are_their_bytes():
    for dtype in DType:
        assert result_code(dtype) == (
            BLOCK_TYPES[dtype.code] if dtype.is_block else type_code(dtype)
        )
    assert type_code(DType.Q8_0) == BYTES
