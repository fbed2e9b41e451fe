"""vbuild.table: the serialized form, and the dimensions that operands share."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given

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
    result_code,
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


@pytest.mark.parametrize(
    ("name", "size"), [("Q4_0", 18), ("Q4_1", 20), ("Q5_0", 22), ("Q5_1", 24), ("Q8_0", 34)]
)
def test_blocks_have_the_size_that_ggml_gives_them(name, size):
    assert stored_size(BLOCK_TYPES[name], 96) == 3 * size


def test_results_become_blocks_and_operands_are_their_bytes():
    for dtype in DType:
        assert result_code(dtype) == (
            BLOCK_TYPES[dtype.code] if dtype.is_block else type_code(dtype)
        )
    assert type_code(DType.Q8_0) == BYTES
