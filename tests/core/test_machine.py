"""The segment machine against a numpy model of it, and under faults and hostile tables."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.machine_model import ShortRead
from tests.support.machine_runs import KEY, assert_as_the_model, control_with, execute, opened
from tests.support.machine_tables import Case, cases, random_bytes, tame_bytes
from vbuild._core import TAG_KEY_SIZE, Control, Fault, Kernels, check_table, run
from vbuild.table import (
    AS_STORED,
    BYTES,
    NOTHING,
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
)

LEVELS = ["portable", "native"]
F16, BF16, F32, F64, RAW1, RAW2, RAW4, RAW8 = 0, 1, 2, 3, 16, 17, 18, 19
KIB = 1024
BLOCK = 256 * KIB

every_level = pytest.mark.parametrize("level", LEVELS)


# ---- against the model ----


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.sampled_from(LEVELS), st.sampled_from([1, 2]))
def test_random_tables_give_what_the_model_gives(case: Case, level: str, threads: int) -> None:
    assert_as_the_model(case.table.serialize(), case.sources, level, threads)


def only(*segments: Segment, sizes: Sequence[int], mode: Mode = Mode.PLAIN) -> bytes:
    return Table(
        tuple((mode, size) for size in sizes),
        segments,
        ((0, 3),),
        b"pre",
        allow_nonfinite=True,
    ).serialize()


def flat(source: int, count: int, type_: int) -> Operand:
    return Operand(source, 0, (0, 0, 0, item_size(type_)))


@every_level
@pytest.mark.parametrize("extra", [-1, 0, 1, BLOCK + 7], ids="{:+d}".format)
@pytest.mark.parametrize(
    ("op", "a_type", "b_type", "compute", "out"),
    [
        (Op.COPY, RAW1, 0, AS_STORED, RAW1),
        (Op.COPY, F16, 0, AS_STORED, F32),
        (Op.COPY, F64, 0, AS_STORED, BF16),
        (Op.XOR, RAW8, RAW8, AS_STORED, RAW8),
        (Op.ADD, F16, F16, AS_STORED, F16),
        (Op.ADD, F16, F32, AS_STORED, BF16),
        (Op.SUB, BF16, F64, F16, F32),
    ],
)
def test_sizes_around_a_block_make_no_difference(
    level: str, extra: int, op: Op, a_type: int, b_type: int, compute: int, out: int
) -> None:
    widest = max(item_size(t) for t in (a_type, b_type, out))
    count = BLOCK // widest + extra
    sizes = [count * item_size(a_type), 0 if op == Op.COPY else count * item_size(b_type)]
    segment = Segment(
        op,
        (1, 1, 1, count),
        flat(0, count, a_type),
        a_type,
        out,
        NOTHING if op == Op.COPY else flat(1, count, b_type),
        b_type,
        compute,
        tensor=0,
    )
    sources = [random_bytes(size, 5 + i) for i, size in enumerate(sizes)]
    assert_as_the_model(only(segment, sizes=sizes, mode=Mode.ORDERED), sources, level)


@every_level
def test_a_chain_longer_than_a_block_hashes_all_that_it_reads(level: str) -> None:
    count = BLOCK // 4 + 3
    previous = Operand(Operand.PREVIOUS)
    dims = (1, 1, 1, count)
    segments = (
        Segment(Op.ADD, dims, flat(0, count, F16), F16, F32, flat(1, count, F16), F16, F32, 0),
        Segment(Op.XOR, dims, previous, RAW4, RAW4, flat(2, count, RAW4), RAW4, AS_STORED, 0),
        Segment(Op.COPY, dims, previous, RAW4, RAW4, NOTHING, 0, AS_STORED, 0),
        Segment(Op.COPY, dims, previous, F32, BF16, NOTHING, 0, AS_STORED, 0),
    )
    sizes = [2 * count, 2 * count, 4 * count]
    sources = [random_bytes(size, i) for i, size in enumerate(sizes)]
    assert_as_the_model(only(*segments, sizes=sizes, mode=Mode.ORDERED), sources, level)


@every_level
def test_a_copy_inside_a_chain_leaves_the_conversion_after_it_room(level: str) -> None:
    dims, previous = (1, 1, 1, 1000), Operand(Operand.PREVIOUS)
    segments = (
        Segment(Op.ADD, dims, flat(0, 1000, F16), F16, F16, flat(1, 1000, F16), F16, AS_STORED, 0),
        Segment(Op.COPY, dims, previous, F16, F16, tensor=0),
        Segment(Op.COPY, dims, previous, F16, F64, tensor=0),
    )
    sources = [tame_bytes(2000, 1), tame_bytes(2000, 2)]
    assert_as_the_model(only(*segments, sizes=[2000, 2000]), sources, level)


STRIDED = {
    "transposed, one span": ((1, 1, 1025, 2047), (0, 0, 2, 2 * 1025)),
    "transposed, wider than the span": ((1, 1, 1700, 1701), (0, 0, 4, 4 * 1700)),
    "rows out of order": ((32, 2, 64, 512), (64 * 1024 * 2, 1024, 2048, 2)),
    "columns of a wide matrix": ((1, 1, 9000, 40), (0, 0, 4096, 2)),
    "one element in a page": ((1, 1, 1, 3000), (0, 0, 0, 5003)),
    "broadcast rows": ((1, 1, 3000, 1025), (0, 0, 0, 2)),
    "broadcast columns": ((1, 1, 3000, 1025), (0, 0, 2, 0)),
    "four axes backwards": ((13, 11, 17, 19), (2, 26, 286, 4862)),
    "more than a strided block of runs": ((1, 3, 1500, 701), (0, 4400000, 2900, 4)),
}


@every_level
@pytest.mark.parametrize("layout", STRIDED, ids=list(STRIDED))
@pytest.mark.parametrize("op", [Op.COPY, Op.ADD], ids=["copy", "add"])
def test_large_strided_operands_are_read_as_the_model_reads_them(
    level: str, layout: str, op: Op
) -> None:
    dims, strides = STRIDED[layout]
    type_ = F32 if 4 in strides else F16
    count = int(np.prod(dims))
    last = sum((n - 1) * s for n, s in zip(dims, strides, strict=True))
    sizes = [100 + last + item_size(type_), count * item_size(type_)]
    dense_strides = tuple(item_size(type_) * int(np.prod(dims[i + 1 :])) for i in range(4))
    b = NOTHING if op == Op.COPY else Operand(1, 0, dense_strides)
    segment = Segment(op, dims, Operand(0, 100, strides), type_, type_, b, type_, tensor=0)
    assert_as_the_model(only(segment, sizes=sizes), [tame_bytes(size, 3) for size in sizes], level)


@every_level
def test_more_walked_sources_than_lanes_are_all_hashed(level: str) -> None:
    sizes = [0, 1, 63, 64, 65, BLOCK, BLOCK + 1, 3 * BLOCK + 11, *range(1000, 1030)]
    sources = [random_bytes(size, i) for i, size in enumerate(sizes)]
    segments = tuple(hash_only(i, 0, size) for i, size in enumerate(sizes) if size)
    table = Table(tuple((Mode.WALKED, size) for size in sizes), segments).serialize()
    result, output = execute(table, sources, level)
    assert output == b""
    assert result.sources == tuple(hashlib.sha256(source).digest() for source in sources)


@every_level
def test_cursors_walk_beside_an_output_that_uses_the_same_files(level: str) -> None:
    sizes = [3 * BLOCK + 10, 40, 7 * BLOCK, 5 * BLOCK, 2 * BLOCK]
    sources = [random_bytes(size, i) for i, size in enumerate(sizes)]
    operand, dims = dense(0, 10, 3 * BLOCK + 10)
    other, _ = dense(2, BLOCK, 4 * BLOCK)
    segments = (
        Segment(Op.XOR, dims, operand, BYTES, BYTES, other, BYTES),
        *(hash_only(i, 0, size) for i, size in enumerate(sizes)),
    )
    table = Table(tuple((Mode.WALKED, size) for size in sizes), segments).serialize()
    result, output = execute(table, sources, level)
    a, b = (np.frombuffer(data, np.uint8) for data in (sources[0][10:], sources[2]))
    assert output == (a ^ b[BLOCK : 4 * BLOCK]).tobytes()
    assert result.sources == tuple(hashlib.sha256(source).digest() for source in sources)


def test_without_an_output_file_the_digests_are_the_same() -> None:
    source = random_bytes(1000, 1)
    operand, dims = dense(0, 0, 1000)
    table = only(Segment(Op.COPY, dims, operand, BYTES, BYTES, tensor=0), sizes=[1000])
    stored, _ = execute(table, [source])
    with opened([source]) as fds:
        kept = run(table, fds, -1, Kernels(), Control(), tensor_digests=True)
        bare = run(table, fds, -1, Kernels(), Control(), hash_output=False)
    assert (kept.output, kept.tensors) == (stored.output, stored.tensors)
    assert (bare.output, bare.tensors, bare.sources) == (None, (), (None,))


def test_a_tensor_without_elements_has_the_digest_of_its_prefix() -> None:
    table = Table((), (), ((1, 4),), b"-name-").serialize()
    result, _ = execute(table, [])
    assert result.tensors == (hashlib.sha256(b"name").digest(),)


def test_progress_counts_every_byte_that_is_hashed() -> None:
    operand, dims = dense(0, 0, 3 * BLOCK)
    segment = Segment(Op.COPY, dims, operand, BYTES, BYTES, tensor=0)
    control = Control()
    with opened([bytes(3 * BLOCK)]) as fds:
        run(only(segment, sizes=[3 * BLOCK], mode=Mode.ORDERED), fds, -1, Kernels(), control)
    assert control.done == 6 * BLOCK


def test_check_table_tells_the_size_of_the_output_and_a_memory_that_does_not_grow() -> None:
    small, large = (
        only(Segment(Op.COPY, (1, 1, 1, n), Operand(0, 0, (0, 0, 0, 1)), BYTES, BYTES), sizes=[n])
        for n in (10, 1 << 40)
    )
    assert check_table(small, Kernels())[0] == 10
    assert check_table(large, Kernels())[0] == 1 << 40
    assert check_table(small, Kernels())[1] == check_table(large, Kernels())[1] < 8 * KIB * KIB


# ---- two threads ----

every_number = pytest.mark.parametrize("threads", [1, 2])


@pytest.mark.parametrize("size", [1, BLOCK, 5 * BLOCK + 17, 40 * BLOCK + 3])
def test_two_threads_give_what_one_gives(size: int) -> None:
    """Two files in order, one out of order, and bytes that only the hash needs."""
    contents = [random_bytes(n, i) for i, n in enumerate((size + 9, size, 2 * size, size + BLOCK))]
    first, dims = dense(0, 9, size + 9)
    second, _ = dense(1, 0, size)
    third, _ = dense(2, size, 2 * size)
    previous = Operand(Operand.PREVIOUS)
    segments = (
        hash_only(0, 0, 9),
        Segment(Op.XOR, dims, first, BYTES, BYTES, second, BYTES, tensor=0),
        Segment(Op.COPY, dims, previous, BYTES, BYTES, tensor=0),
        Segment(Op.XOR, dims, previous, BYTES, BYTES, replace(third, tag=2), BYTES, tensor=0),
        hash_only(2, 0, 2 * size),
        hash_only(3, 0, size + BLOCK),
    )
    modes = (Mode.ORDERED, Mode.ORDERED, Mode.WALKED, Mode.WALKED)
    sources = tuple(zip(modes, map(len, contents), strict=True))
    at = (size, 2 * size)
    regions = (Region(2, RegionKind.WALK, *at), Region(2, RegionKind.USE, *at))
    table = Table(sources, segments, ((0, 1),), b"-", regions=regions).serialize()
    assert_as_the_model(table, contents, "native", threads=2)
    control = control_with(2)
    with opened(contents) as fds:
        for _ in range(2):  # the thread is given back
            before = control.done
            run(table, fds, -1, Kernels(), control)
            assert control.done - before == sum(map(len, contents)) + size


def test_a_second_thread_may_join_at_any_time() -> None:
    size = 400 * BLOCK + 5
    source = random_bytes(size, 1)
    table, control, ended = copy_table(size), Control(), threading.Event()

    def lend_when_it_runs() -> None:
        while not control.done and not ended.wait(0.001):
            pass
        control.lend()

    helper = threading.Thread(target=lend_when_it_runs)
    with opened([source]) as fds:
        helper.start()
        try:
            result = run(table, fds, -1, Kernels(), control)
        finally:
            ended.set()
            helper.join()
    assert control.done == 2 * size
    assert result.output == result.sources[0] == hashlib.sha256(source).digest()


# ---- faults ----


def copy_table(size: int, mode: Mode = Mode.ORDERED) -> bytes:
    operand, dims = dense(0, 0, size)
    return only(Segment(Op.COPY, dims, operand, BYTES, BYTES), sizes=[size], mode=mode)


@pytest.mark.parametrize("kept", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK - 1])
@every_number
def test_case_25_a_source_that_got_shorter_is_named(kept: int, threads: int) -> None:
    with pytest.raises(Fault) as caught:
        execute(copy_table(3 * BLOCK), [bytes(kept)], threads=threads)
    assert (caught.value.status, caught.value.source) == ("read-short", 0)


def test_case_25_a_walked_source_that_got_shorter_is_named() -> None:
    segments = (hash_only(0, 0, 10), hash_only(1, 0, BLOCK + 1))
    table = Table(((Mode.WALKED, 10), (Mode.WALKED, BLOCK + 1)), segments).serialize()
    with pytest.raises(Fault) as caught:
        execute(table, [bytes(10), bytes(BLOCK)])
    assert (caught.value.status, caught.value.source) == ("read-short", 1)


def test_case_26_a_read_that_fails_gives_its_errno(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        for fd, number in ((directory, errno.EISDIR), (-1, errno.EBADF)):
            with pytest.raises(Fault) as caught:
                run(copy_table(10), [fd], -1, Kernels(), Control())
            found = caught.value
            assert (found.status, found.error, found.source) == ("read-failed", number, 0)
    finally:
        os.close(directory)


@every_number
def test_case_27_a_full_disk_gives_its_errno(threads: int) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with opened([bytes(100)]) as fds, pytest.raises(Fault) as caught:
            run(copy_table(100), fds, full, Kernels(), control_with(threads))
    finally:
        os.close(full)
    assert (caught.value.status, caught.value.error) == ("write-failed", errno.ENOSPC)


@every_number
def test_a_run_can_be_stopped_from_another_thread(threads: int) -> None:
    size = 1 << 40  # a sparse file that takes minutes to hash
    table = copy_table(size)
    control, ended = control_with(threads), threading.Event()

    def stop_when_it_runs() -> None:
        while not control.done and not ended.wait(0.001):
            pass
        control.stop()

    watcher = threading.Thread(target=stop_when_it_runs)
    with tempfile.TemporaryFile() as f:
        f.truncate(size)
        watcher.start()
        try:
            with pytest.raises(Fault) as caught:
                run(table, [f.fileno()], -1, Kernels(), control)
        finally:
            ended.set()
            watcher.join()
    assert caught.value.status == "stopped"
    assert 0 < control.done < size


@every_level
@pytest.mark.parametrize("at", [0, 1, BLOCK // 2 - 1, BLOCK // 2, BLOCK + 17])
def test_case_60_the_first_result_that_is_not_finite_is_told_with_its_operands(
    level: str, at: int
) -> None:
    count = BLOCK + 100
    a, b = np.zeros(count, "<f2"), np.zeros(count, "<f2")
    a[at:] = b[at:] = 60000
    segment = Segment(
        Op.ADD, (1, 1, 1, count), flat(0, count, F16), F16, F16, flat(1, count, F16), F16
    )
    table = Table(((Mode.PLAIN, 2 * count),) * 2, (segment,)).serialize()
    with pytest.raises(Fault) as caught:
        execute(table, [a.tobytes(), b.tobytes()], level)
    fault = caught.value
    assert (fault.status, fault.segment, fault.index) == ("nonfinite", 0, at)
    assert fault.bits == (0x7B53, 0x7B53, 0x7C00)


@every_level
def test_copies_and_xor_pass_every_bit_pattern(level: str) -> None:
    every = np.arange(65536, dtype="<u2").tobytes()
    operand = flat(0, 65536, F16)
    dims = (1, 1, 1, 65536)
    segments = (
        Segment(Op.COPY, dims, operand, F16, F16),
        Segment(Op.XOR, dims, operand, RAW2, RAW2, Operand(Operand.ZERO), RAW2),
    )
    table = Table(((Mode.PLAIN, len(every)),), segments).serialize()
    assert execute(table, [every], level)[1] == every + every


# ---- malformed tables ----


def a_table() -> tuple[bytes, list[bytes]]:
    """A small table with a chain, literals, a tensor and every kind of source."""
    dims = (1, 1, 2, 3)
    rows = Operand(0, 4, (0, 0, 6, 2))
    columns = Operand(1, 2, (0, 0, 2, 4))
    whole = Operand(2, 0, (0, 0, 12, 4), tag=3)
    segments = (
        hash_only(0, 0, 4),
        Segment(Op.ADD, dims, rows, F16, F32, columns, F16, F32, 0),
        Segment(Op.SUB, dims, Operand(Operand.PREVIOUS), F32, BF16, whole,
                F32, AS_STORED, 0),
        Segment(Op.COPY, (1, 1, 1, 5), Operand(Operand.LITERAL, 1, (0, 0, 0, 1)), BYTES, BYTES),
        hash_only(2, 0, 24),
        Segment(Op.HASH, (1, 1, 1, 2), Operand(0, 16, (0, 0, 0, 1)), BYTES, BYTES,
                Operand(Operand.LITERAL, 0, (0, 0, 0, 1)), BYTES),
    )  # fmt: skip
    sources = ((Mode.ORDERED, 18), (Mode.PLAIN, 20), (Mode.WALKED, 24))
    regions = (
        Region(2, RegionKind.WALK, 0, 24),
        Region(2, RegionKind.WALK, 7, 9),
        Region(2, RegionKind.USE, 0, 24),
    )
    table = Table(sources, segments, ((2, 3),), b"literal", regions=regions)
    return table.serialize(), [tame_bytes(size, 9) for _, size in sources]


def assert_harmless(table: bytes, sources: Sequence[bytes]) -> None:
    """``table`` is refused, or it gives what the model gives; huge outputs are not made."""
    try:
        size, _, work = check_table(table, Kernels())
    except ValueError:
        return
    n = struct.unpack_from("<I", table, 12)[0]
    sources = [*sources[:n], *[b""] * (n - len(sources))]
    if max(size, work) > 1 << 20:
        return
    try:
        assert_as_the_model(table, sources, "native")
    except ShortRead:
        with pytest.raises(Fault):
            execute(table, sources)


def test_the_table_that_the_mutations_start_from_is_valid() -> None:
    table, sources = a_table()
    assert_as_the_model(table, sources, "native")


def test_a_table_that_is_cut_anywhere_is_refused() -> None:
    table, _ = a_table()
    for size in range(len(table)):
        with pytest.raises(ValueError, match="bad table"):
            check_table(table[:size], Kernels())
    with pytest.raises(ValueError, match="does not agree"):
        check_table(table + b"\0", Kernels())


def test_a_table_with_any_bit_flipped_is_refused_or_runs_as_it_says() -> None:
    table, sources = a_table()
    for bit in range(8 * len(table)):
        flipped = bytearray(table)
        flipped[bit // 8] ^= 1 << bit % 8
        assert_harmless(bytes(flipped), sources)


INTERESTING = [0, 1, 2, 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF, 2**63 - 1, 2**63]
INTERESTING += [2**64 - 1, 2**64 - 8, 2**61, 2**32, 2**32 + 1]


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    cases(),
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(INTERESTING), st.booleans()),
        min_size=1,
        max_size=4,
    ),
)
def test_a_table_with_fields_overwritten_is_refused_or_runs_as_it_says(
    case: Case, changes: list[tuple[float, int, bool]]
) -> None:
    table = bytearray(case.table.serialize())
    records = len(table) - len(case.table.literals)
    for place, value, wide in changes:
        width = 8 if wide else 4
        at = int(place * records) // width * width
        size = min(width, len(table) - at)
        table[at : at + size] = (value % 2 ** (8 * width)).to_bytes(width, "little")[:size]
    assert_harmless(bytes(table), case.sources)


def with_reserved(offset: int) -> bytes:
    table = bytearray(a_table()[0])
    table[offset] = 1
    return bytes(table)


SEGMENTS = 40 + 3 * 16 + 16


@pytest.mark.parametrize(
    "offset",
    [40 + 4, SEGMENTS + 5, SEGMENTS + 7, SEGMENTS + 12],
)
def test_reserved_bytes_must_be_zero(offset: int) -> None:
    with pytest.raises(ValueError, match="reserved bytes are not zero"):
        check_table(with_reserved(offset), Kernels())


P = Operand(Operand.PREVIOUS)
Z = Operand(Operand.ZERO)
ONE = (1, 1, 1, 1)
BYTE = Operand(0, 0, (0, 0, 0, 1))
REFUSED = {
    "no such source": [Segment(Op.COPY, ONE, Operand(1), RAW1, RAW1)],
    "an operand lies outside its source": [Segment(Op.COPY, ONE, Operand(0, 9), RAW1, RAW1)],
    "a literal operand must be dense": [
        Segment(Op.COPY, (1, 1, 1, 2), Operand(Operand.LITERAL), RAW1, RAW1)
    ],
    "no such conversion": [Segment(Op.COPY, ONE, Z, RAW2, F16)],
    "xor takes equal raw types": [Segment(Op.XOR, ONE, Z, F16, F16, Z, F16)],
    "arithmetic takes arithmetic types": [Segment(Op.ADD, ONE, Z, RAW2, RAW2, Z, RAW2)],
    "unknown compute type": [Segment(Op.ADD, ONE, Z, F16, F16, Z, F16, RAW2)],
    "hash-only segments are bytes": [Segment(Op.HASH, ONE, BYTE, F16, F16)],
    "hash-only segments need a source": [Segment(Op.HASH, ONE, Z, RAW1, RAW1)],
    "a hash-only segment's second operand": [Segment(Op.HASH, ONE, BYTE, RAW1, RAW1, Z, RAW1)],
    "bad dimensions": [Segment(Op.COPY, (1, 1, 1, 0), Z, RAW1, RAW1)],
    "a copy has one operand": [Segment(Op.COPY, ONE, Z, RAW1, RAW1, Z, RAW1)],
    "no such tensor": [Segment(Op.COPY, ONE, Z, RAW1, RAW1, tensor=2)],
    "nothing to go on from": [Segment(Op.COPY, ONE, P, RAW1, RAW1)],
    "only the first operand can be the previous result": [
        Segment(Op.COPY, ONE, Z, F16, F16),
        Segment(Op.ADD, ONE, Z, F16, F16, P, F16),
    ],
    "the segment does not fit the one it goes on from": [
        Segment(Op.COPY, ONE, Z, F16, F16),
        Segment(Op.COPY, (1, 1, 1, 2), P, F16, F16),
    ],
    "too many segments in a chain": [
        Segment(Op.COPY, ONE, Z, F16, F16),
        *[Segment(Op.COPY, ONE, P, F16, F16)] * 64,
    ],
    "tensors are not stored in order": [
        Segment(Op.COPY, ONE, Z, F16, F16, tensor=0),
        Segment(Op.COPY, ONE, Z, F16, F16),
        Segment(Op.COPY, ONE, Z, F16, F16, tensor=0),
    ],
    "a hashed source is not read to its end": [],
    "an ordered source is not read in order": [
        Segment(Op.COPY, ONE, Operand(0, 1, (0, 0, 0, 1)), RAW1, RAW1)
    ],
    "an ordered source must be read densely": [
        Segment(Op.COPY, (1, 1, 1, 2), Operand(0, 0, (0, 0, 0, 0)), RAW1, RAW1)
    ],
    "both operands read one ordered source": [Segment(Op.XOR, ONE, BYTE, RAW1, RAW1, BYTE, RAW1)],
    "two steps of a chain read one ordered source": [
        Segment(Op.XOR, ONE, BYTE, RAW1, RAW1, Z, RAW1),
        Segment(Op.XOR, ONE, P, RAW1, RAW1, Operand(0, 1, (0, 0, 0, 1)), RAW1),
    ],
}


@pytest.mark.parametrize("why", REFUSED, ids=[why.replace(" ", "-") for why in REFUSED])
def test_a_table_is_refused_with_its_reason(why: str) -> None:
    table = Table(((Mode.ORDERED, 2),), tuple(REFUSED[why]), ((0, 1),), b"literals")
    with pytest.raises(ValueError, match=why):
        check_table(table.serialize(), Kernels())


WALK, USE = RegionKind.WALK, RegionKind.USE
WALKED, ORDERED, PLAIN = range(3)  # the sources of these tables, of eight bytes each
ANY_KIND = Region(PLAIN, 3, 0, 1)  # type: ignore[arg-type]


def used(source: int, tag: int, begin: int = 0, stride: int = 1, size: int = 4) -> Segment:
    """A copy of bytes of a source, tagged."""
    operand = Operand(source, begin, (0, 0, 0, stride), tag)
    return Segment(Op.COPY, (1, 1, 1, size), operand, RAW1, RAW1)


BAD_REGIONS: dict[str, tuple[list[Region], list[Segment], str]] = {
    "kind": ([ANY_KIND], [], "unknown kind of a region"),
    "source": ([Region(3, USE, 0, 1)], [], "a region of no source"),
    "empty": ([Region(PLAIN, USE, 1, 1)], [], "lies outside its source"),
    "backwards": ([Region(WALKED, WALK, 2, 1)], [], "lies outside its source"),
    "beyond": ([Region(WALKED, WALK, 0, 9)], [], "lies outside its source"),
    "far beyond": ([Region(WALKED, WALK, 0, 2**64 - 1)], [], "lies outside its source"),
    "twice": ([Region(WALKED, WALK, 0, 1)] * 2, [], "regions are not in order"),
    "unsorted": (
        [Region(WALKED, WALK, 1, 2), Region(WALKED, WALK, 0, 8)], [], "regions are not in order"
    ),
    "walk after use": (
        [Region(PLAIN, USE, 0, 4), Region(WALKED, WALK, 0, 8)],
        [used(PLAIN, 1)],
        "regions are not in order",
    ),
    "walk of plain": ([Region(PLAIN, WALK, 0, 1)], [], "source that is not walked"),
    "walk of ordered": ([Region(ORDERED, WALK, 0, 1)], [], "source that is not walked"),
    "unused": ([Region(PLAIN, USE, 0, 4)], [], "that no operand reads"),
    "used twice": (
        [Region(PLAIN, USE, 0, 4)], [used(PLAIN, 1), used(PLAIN, 1)], "not in the operands' order"
    ),
    "wrong order": (
        [Region(PLAIN, USE, 0, 4), Region(PLAIN, USE, 0, 4)],
        [used(PLAIN, 2), used(PLAIN, 1)],
        "not in the operands' order",
    ),
    "tag without region": ([], [used(PLAIN, 1)], "not in the operands' order"),
    "greatest tag": ([], [used(PLAIN, 2**32 - 1)], "not in the operands' order"),
    "tag of a walk": (
        [Region(WALKED, WALK, 0, 4)], [used(WALKED, 1)], "not in the operands' order"
    ),
    "another source": ([Region(WALKED, USE, 0, 4)], [used(PLAIN, 1)], "not what its operand reads"),
    "another begin": ([Region(PLAIN, USE, 1, 5)], [used(PLAIN, 1)], "not what its operand reads"),
    "another end": ([Region(PLAIN, USE, 0, 5)], [used(PLAIN, 1)], "not what its operand reads"),
    "strided": (
        [Region(PLAIN, USE, 0, 4)], [used(PLAIN, 1, stride=2)], "not what its operand reads"
    ),
    "ordered": ([Region(ORDERED, USE, 0, 8)], [used(ORDERED, 1, size=8)], "of an ordered source"),
    "zeros": ([], [used(Operand.ZERO, 1)], "does not use a source"),
    "literal": ([], [used(Operand.LITERAL, 1)], "does not use a source"),
    "nothing": (
        [],
        [replace(used(PLAIN, 0), b=Operand(Operand.NONE, tag=1))],
        "does not use a source",
    ),
    "hash only": (
        [Region(WALKED, USE, 0, 8)],
        [replace(hash_only(WALKED, 0, 8), a=replace(dense(WALKED, 0, 8)[0], tag=1))],
        "does not use a source",
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", BAD_REGIONS)
def test_bad_regions_are_refused_with_their_reason(which: str) -> None:
    regions, segments, why = BAD_REGIONS[which]
    reads = {(s.a.source, s.op) for s in segments}
    rest = [] if (WALKED, Op.HASH) in reads else [hash_only(WALKED, 0, 8)]
    rest += [] if (ORDERED, Op.COPY) in reads else [hash_only(ORDERED, 0, 8)]
    sources = ((Mode.WALKED, 8), (Mode.ORDERED, 8), (Mode.PLAIN, 8))
    table = Table(sources, (*segments, *rest), (), b"literals", regions=tuple(regions))
    with pytest.raises(ValueError, match=why):
        check_table(table.serialize(), Kernels())


@every_level
def test_tags_of_walked_and_used_bytes_agree_over_many_blocks(level: str) -> None:
    """Two shuffled halves, overlapping regions, and a literal in the middle of what is walked."""
    size = 5 * BLOCK + 1000
    source = random_bytes(size, 1)
    cuts = [(3 * BLOCK + 77, size - 1), (11, 2 * BLOCK + 5), (2 * BLOCK, 3 * BLOCK), (0, size)]
    literal = source[BLOCK - 30 : BLOCK + 30]
    walk = [
        hash_only(0, 0, BLOCK - 30),
        replace(hash_only(0, BLOCK - 30, BLOCK + 30), b=dense(Operand.LITERAL, 0, 60)[0]),
        hash_only(0, BLOCK + 30, size),
    ]
    walk[1] = replace(walk[1], b_type=BYTES)
    regions = [Region(0, WALK, *cut) for cut in sorted(cuts)]
    segments = []
    for begin, end in cuts:
        regions.append(Region(0, USE, begin, end))
        operand, dims = dense(0, begin, end)
        tagged = replace(operand, tag=len(regions))
        segments.append(Segment(Op.COPY, dims, tagged, BYTES, BYTES))
    sources = ((Mode.WALKED, size),)
    table = Table(sources, (*segments, *walk), (), literal, regions=tuple(regions)).serialize()
    assert_as_the_model(table, [source], level)
    found = execute(table, [source], level)[0].regions
    walked = dict(zip(sorted(cuts), found[:4], strict=True))
    assert list(found[4:]) == [walked[cut] for cut in cuts]
    other = source.replace(literal, bytes(60))
    found = execute(table, [other], level)[0].regions
    walked = dict(zip(sorted(cuts), found[:4], strict=True))
    same = [walked[cut] == tag for cut, tag in zip(cuts, found[4:], strict=True)]
    assert same == [True, False, True, False]


def test_without_a_key_nothing_is_tagged_and_a_short_key_is_refused() -> None:
    table, sources = a_table()
    with opened(sources) as fds:
        assert run(table, fds, -1, Kernels(), Control()).regions == ()
        with pytest.raises(ValueError, match=str(TAG_KEY_SIZE)):
            run(table, fds, -1, Kernels(), Control(), tag_key=KEY[1:])


def test_a_chain_may_have_sixty_four_segments() -> None:
    chain = [Segment(Op.COPY, ONE, P, F16, F16)] * 63
    table = Table((), (Segment(Op.COPY, ONE, Z, F16, F16), *chain)).serialize()
    assert execute(table, [])[1] == b"\0\0"


def test_the_number_of_descriptors_must_be_that_of_the_sources() -> None:
    with pytest.raises(ValueError, match="1 sources, got 0 descriptors"):
        run(copy_table(1), [], -1, Kernels(), Control())
