"""vbuild.plan.order: every byte of every input is hashed once, by whom it costs least."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.plan.made_up import HEAD, TAIL, Side, execute, plan_of, side, values
from tests.support.machine_model import run_model
from vbuild._core import F16, F32, Kernels, check_table
from vbuild.manifest import Rule
from vbuild.plan import FileRef, Plan
from vbuild.plan.lower import Draft
from vbuild.plan.order import InputLayout, Program, Range, finish
from vbuild.table import BYTES, Mode, Op, Operand, Part, RegionKind, Segment, dense

Array = NDArray[np.generic]
ADD = [Rule(match="*", op="add", on_missing="copy")]


def tensors(names: str, seed: int = 0, size: int = 5) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(2, size)).astype("f2") for name in names}


def modes(plan: Plan) -> list[dict[tuple[int, str], Mode]]:
    return [
        {
            (ref.group, ref.file): mode
            for ref, (mode, _) in zip(p.files, p.table.sources, strict=True)
        }
        for p in plan.programs
    ]


def test_files_in_the_outputs_order_are_hashed_as_they_are_used() -> None:
    base, delta = side({"b": tensors("abc")}), side({"d": tensors("abc", 1)}, gap=4)
    plan = plan_of(base, delta, rules=ADD)
    assert modes(plan) == [{(0, "b"): Mode.ORDERED, (1, "d"): Mode.ORDERED}]
    execute(plan, base, delta)


def test_a_file_in_another_order_is_walked() -> None:
    base, delta = side({"b": tensors("abc")}), side({"d": tensors("acb", 1)})
    plan = plan_of(base, delta, rules=ADD)
    assert modes(plan) == [{(0, "b"): Mode.ORDERED, (1, "d"): Mode.WALKED}]
    execute(plan, base, delta)


def test_a_transposed_tensor_makes_its_file_walked() -> None:
    arrays = {name: np.asfortranarray(array) for name, array in tensors("a").items()}
    base, delta = side({"b": tensors("a")}), side({"d": arrays})
    plan = plan_of(base, delta, rules=ADD)
    assert modes(plan) == [{(0, "b"): Mode.ORDERED, (1, "d"): Mode.WALKED}]
    execute(plan, base, delta)


def test_a_file_that_two_outputs_use_is_walked_by_one_of_them() -> None:
    base = side({"b1": tensors("ab"), "b2": tensors("cd", 1)})
    delta = side({"d": tensors("abcd", 2)})
    plan = plan_of(base, delta, rules=ADD)
    assert modes(plan) == [
        {(0, "b1"): Mode.ORDERED, (1, "d"): Mode.WALKED},
        {(0, "b2"): Mode.ORDERED, (1, "d"): Mode.PLAIN},
    ]
    execute(plan, base, delta)


def test_walked_files_are_dealt_to_the_output_with_the_least_to_do() -> None:
    base = side({"b1": tensors("ab"), "b2": tensors("cd", 1)})
    delta = side({"d1": tensors("ac", 2), "d2": tensors("bd", 3)})
    plan = plan_of(base, delta, rules=ADD)
    walked = [[key for key, mode in part.items() if mode is Mode.WALKED] for part in modes(plan)]
    assert walked == [[(1, "d1")], [(1, "d2")]]
    execute(plan, base, delta)


def regions(program: Program, kind: RegionKind) -> list[Range]:
    return [region for found, region in program.regions if found is kind]


def test_a_dense_use_of_a_walked_file_is_tagged_where_it_is_used_and_hashed() -> None:
    base = side({"b1": tensors("ab"), "b2": tensors("cd", 1)})
    delta = side({"d": tensors("dbca", 2)})
    plan = plan_of(base, delta, rules=ADD)
    first, second = plan.programs
    ref = FileRef(1, "d")
    uses = [regions(program, RegionKind.USE) for program in (first, second)]
    places = {name: delta.tensors[name].offset for name in "abcd"}
    assert [[use.begin for use in part] for part in uses] == [
        [places[name] for name in "ab"],
        [places[name] for name in "cd"],
    ]
    assert {use.end - use.begin for part in uses for use in part} == {20}
    walker = first if (Mode.WALKED in dict(first.table.sources)) else second
    assert regions(walker, RegionKind.WALK) == sorted([*uses[0], *uses[1]])
    assert {region.ref for program in plan.programs for _, region in program.regions} == {ref}
    execute(plan, base, delta)


def test_a_transposed_tensor_is_tagged_from_its_first_byte_to_its_last() -> None:
    arrays = {name: np.asfortranarray(array) for name, array in tensors("a").items()}
    base, delta = side({"b": tensors("a")}), side({"d": arrays})
    plan = plan_of(base, delta, rules=ADD)
    assert modes(plan) == [{(0, "b"): Mode.ORDERED, (1, "d"): Mode.WALKED}]
    begin = delta.tensors["a"].offset
    whole = Range(FileRef(1, "d"), begin, begin + 20)
    assert plan.programs[0].regions == ((RegionKind.WALK, whole), (RegionKind.USE, whole))
    execute(plan, base, delta)


def composed() -> Draft:
    """Columns of two files, and a product of two more, of which one is transposed."""
    draft = Draft(prefixes=[b"a"])
    files = [draft.source(FileRef(0, name)) for name in "pqlr"]
    dims = (1, 1, 4, 6)
    columns = [
        Part(file, 10, (1, 1, 4, 3), (0, 0, 6 + gap, 2), F16)
        for file, gap in zip(files[:2], (0, 2000), strict=True)
    ]
    factors = [
        Part(files[2], 0, (1, 1, 4, 2), (0, 0, 2, 8), F16),
        Part(files[3], 4, (1, 1, 2, 6), (0, 0, 24, 4), F32),
    ]
    a = draft.composite(Operand.JOINED, columns)
    b = draft.composite(Operand.PRODUCT, factors, 2.0)
    draft.segments.append(Segment(Op.ADD, dims, a, F16, F16, b, F32, F32, 0))
    return draft


def test_parts_are_tagged_and_their_files_are_walked() -> None:
    inputs = {FileRef(0, name): InputLayout(7000, ()) for name in "pqlr"}
    (program,) = finish([composed()], inputs)
    assert {mode for mode, _ in program.table.sources} == {Mode.WALKED}
    check_table(program.table.serialize(), Kernels())
    used = {"p": (10, 34), "l": (0, 16), "r": (4, 52)}
    wanted = [Range(FileRef(0, name), *at) for name, at in used.items()]
    assert regions(program, RegionKind.USE) == wanted
    assert regions(program, RegionKind.WALK) == wanted
    assert [part.tag for part in program.table.parts] == [4, 0, 5, 6]


def test_parts_of_a_file_that_is_also_used_in_order_keep_it_from_being_hashed_as_it_is_used() -> (
    None
):
    draft = composed()
    operand, dims = dense(3, 100, 200)
    draft.segments.append(Segment(Op.COPY, dims, operand, BYTES, BYTES))
    inputs = {FileRef(0, name): InputLayout(7000, ()) for name in "pqlr"}
    (program,) = finish([draft], inputs)
    assert program.table.sources[3] == (Mode.WALKED, 7000)
    check_table(program.table.serialize(), Kernels())


def test_regions_that_other_programs_use_are_tagged_where_the_file_is_walked_again() -> None:
    ref = FileRef(0, "f")
    used = [Range(ref, 3, 9), Range(ref, 0, 4), Range(ref, 3, 9)]
    (program,) = finish([], {ref: InputLayout(9, ())}, used=used)
    assert regions(program, RegionKind.WALK) == [Range(ref, 0, 4), Range(ref, 3, 9)]
    assert regions(program, RegionKind.USE) == []


def test_files_that_no_output_uses_are_hashed_by_a_program_without_output() -> None:
    base = side({"b": tensors("a"), "unused": tensors("x")})
    delta = side({"d": tensors("a", 1), "other": tensors("x", 1)})
    plan = plan_of(base, delta, rules=[Rule(match="x", op="drop"), *ADD])
    assert plan.rest is not None
    assert plan.rest.files == (FileRef(0, "unused"), FileRef(1, "other"))
    assert {mode for mode, _ in plan.rest.table.sources} == {Mode.WALKED}
    assert len(execute(plan, base, delta)) == 1


def test_what_planning_has_read_is_hashed_as_it_was_read() -> None:
    base = side({"b": tensors("ab")}, gap=3)
    plan = plan_of(base, rules=[Rule(match="*", op="copy-base")])
    table = plan.outputs[0].program.table
    first = next(s for s in table.segments if s.op is Op.HASH)
    literal = table.literals[first.b.offset : first.b.offset + first.count]
    assert (first.a.offset, first.b.source, literal) == (0, Operand.LITERAL, HEAD)
    last = table.segments[-1]
    assert (last.b.source, last.count) == (Operand.NONE, len(TAIL))


def test_case_24_a_header_changed_after_planning_changes_no_digest() -> None:
    base = side({"b": tensors("ab")})
    plan = plan_of(base, rules=[Rule(match="*", op="copy-base")])
    program = plan.outputs[0].program
    changed = Side(base.tensors, {"b": base.contents["b"].replace(HEAD, HEAD.upper())})
    assert changed.contents != base.contents
    made = _source_digests(program.table.serialize(), changed.contents["b"])
    assert made == _source_digests(program.table.serialize(), base.contents["b"])


def _source_digests(table: bytes, content: bytes) -> list[bytes | None]:
    return run_model(table, [content]).sources


@given(
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 50), st.binary(min_size=1, max_size=20)), max_size=6),
)
def test_hash_only_segments_cover_a_file_with_any_known_ranges(
    size: int, known: list[tuple[int, bytes]]
) -> None:
    ranges: list[tuple[int, bytes]] = []
    for offset, data in sorted(known):
        begin = ranges[-1][0] + len(ranges[-1][1]) if ranges else 0
        if offset >= begin and offset + len(data) <= size:
            ranges.append((offset, data))
    content = bytearray(b"\xff" * size)
    for offset, data in ranges:
        content[offset : offset + len(data)] = data
    ref = FileRef(0, "f")
    (program,) = finish([], {ref: InputLayout(size, tuple(ranges))})
    table, at = program.table, 0
    for segment in table.segments:
        assert (segment.op, segment.a_type, segment.a.offset) == (Op.HASH, BYTES, at)
        begin = segment.b.offset
        literal = table.literals[begin : begin + segment.count]
        known_here = segment.b.source == Operand.LITERAL
        assert content[at : at + segment.count] == (
            literal if known_here else b"\xff" * segment.count
        )
        at += segment.count
    assert at == size


def _dealt(arrays: Mapping[str, Array], cut: list[int], order: list[str]) -> dict[str, dict]:
    """``arrays`` in ``order``, in as many files as ``cut`` has numbers."""
    files: dict[str, dict] = {}
    for i, name in enumerate(order):
        files.setdefault(f"f{cut[i % len(cut)]}", {})[name] = arrays[name]
    return files


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_cut_and_order_of_the_inputs_gives_the_same_tensors(data: st.DataObject) -> None:
    names = "abcdefg"
    ours, theirs = tensors(names), tensors(names, 1)
    cuts = st.lists(st.integers(0, 3), min_size=1, max_size=7)
    sides = [
        side(
            _dealt(arrays, data.draw(cuts), data.draw(st.permutations(names))),
            gap=data.draw(st.integers(0, 3)),
        )
        for arrays in (ours, theirs)
    ]
    limit = data.draw(st.none() | st.integers(1, 100))
    plan = plan_of(*sides, rules=ADD, max_shard_size=limit)
    made = values(execute(plan, *sides), plan)
    assert {name: array.tobytes() for name, array in made.items()} == {
        name: (ours[name] + theirs[name]).tobytes() for name in names
    }


def test_a_draft_counts_each_file_once() -> None:
    draft = Draft()
    refs = [FileRef(0, "a"), FileRef(1, "a"), FileRef(0, "a")]
    assert [draft.source(ref) for ref in refs] == [0, 1, 0]
