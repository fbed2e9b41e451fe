"""XOR of whole files: which bytes meet which, and that every file is hashed."""

from __future__ import annotations

import pytest

from tests.plan.made_up import Side, execute
from vbuild.errors import InvalidInput
from vbuild.plan import FileRef, make_file_plan
from vbuild.plan.order import InputLayout
from vbuild.table import Mode, Op


def planned(base: dict[str, int], payload: dict[str, int]):
    sides = (base, payload)
    return make_file_plan(
        {FileRef(i, n): InputLayout(size, ()) for i in (0, 1) for n, size in sides[i].items()}
    )


@pytest.mark.parametrize(
    ("sizes", "ops"),
    [
        ((9, 9), [Op.XOR]),
        ((9, 5), [Op.XOR, Op.HASH]),
        ((5, 9), [Op.XOR, Op.COPY]),
        ((0, 9), [Op.COPY]),
        ((9, 0), []),
    ],
)
def test_the_base_counts_as_zero_beyond_its_end(sizes: tuple[int, int], ops: list[Op]) -> None:
    plan = planned({"a": sizes[0]}, {"a": sizes[1]})
    (output,) = plan.outputs
    assert (output.name, output.size, output.recipes) == ("a", sizes[1], ())
    assert [s.op for s in output.program.table.segments] == ops
    assert (plan.rest is None) == (0 not in sizes)
    assert (plan.others, plan.warnings, output.container) == ({}, (), 0)


def test_both_files_are_hashed_as_they_are_used() -> None:
    (output,) = planned({"a": 5}, {"a": 9}).outputs
    assert [mode for mode, _ in output.program.table.sources] == [Mode.ORDERED, Mode.ORDERED]


def test_files_of_the_base_that_are_not_used_are_hashed_alone() -> None:
    contents = [{"a": b"12345", "z": b"zz"}, {"a": b"abc"}]
    plan = planned(*({n: len(data) for n, data in one.items()} for one in contents))
    made = execute(plan, *(Side({}, one) for one in contents))
    assert made == {"a": bytes(x ^ y for x, y in zip(b"123", b"abc", strict=True))}
    assert plan.rest is not None


def test_a_file_without_a_base_is_an_error() -> None:
    with pytest.raises(InvalidInput) as caught:
        planned({"a": 5}, {"a": 5, "b": 5})
    assert (caught.value.code, caught.value.where) == ("no-base-file", "delta/b")


def test_a_delta_without_a_file_is_an_error() -> None:
    with pytest.raises(InvalidInput) as caught:
        planned({"a": 5}, {})
    assert caught.value.code == "nothing-to-build"
