"""Which rules a delta gets, from the names, types and shapes of base and target."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbuild.delta.rules import draft
from vbuild.errors import InvalidInput
from vbuild.manifest import glob_match
from vbuild.table import Op
from vbuild.tensors import DType, TensorSpec, contiguous_strides


def specs(**tensors):
    """Name -> (type, shape); dots are written as two underscores."""
    return {
        name.replace("__", "."): TensorSpec(
            name.replace("__", "."), dtype, shape, "f", 0, contiguous_strides(shape)
        )
        for name, (dtype, shape) in tensors.items()
    }


F16, F32, BF16 = ((dtype, (4, 2)) for dtype in (DType.F16, DType.F32, DType.BF16))
I64 = (DType.I64, (4,))


def rules(drafted):
    return [
        (r.rule.op, r.rule.patterns, r.rule.pad, r.rule.compute, r.tensors) for r in drafted.rules
    ]


def refusal(base, target, op="add"):
    with pytest.raises(InvalidInput) as caught:
        draft(base, target, op)
    return caught.value


@pytest.mark.parametrize("op", ["add", "xor"])
def test_one_rule_is_enough_where_both_have_the_same(op):
    found = draft(specs(a=F16, b=F16), specs(a=F16, b=F16), op)
    assert rules(found) == [(op, ("*",), None, None, 2)]
    step = found.recipes["a"].bands[0].steps[0]
    assert (step.op, step.compute) == (Op.SUB if op == "add" else Op.XOR, DType.F16)
    assert found.output_dtype is None


def test_what_is_on_one_side_only_is_copied_or_dropped():
    base = specs(a=F16, gone=F16)
    target = specs(a=F16, new=F32)
    assert rules(draft(base, target, "add")) == [
        ("drop", ("gone",), None, None, 1),
        ("copy-delta", ("new",), None, None, 1),
        ("add", ("*",), None, None, 1),
    ]


def test_layers_are_one_glob_where_it_claims_nothing_else():
    names = {f"layers__{i}__inv_freq": F32 for i in range(12)}
    base = specs(a=F16, **names)
    assert rules(draft(base, specs(a=F16), "add"))[0] == (
        "drop",
        ("layers.*.inv_freq",),
        None,
        None,
        12,
    )
    kept = specs(a=F16, layers__3__inv_freq=F32)
    listed = rules(draft(base, kept, "add"))[0][1]
    assert listed == tuple(sorted(f"layers.{i}.inv_freq" for i in range(12) if i != 3))


@pytest.mark.parametrize("op", ["add", "xor"])
def test_more_rows_stand_in_the_delta_as_they_are(op):
    found = draft(specs(a=F16, e=F16), specs(a=F16, e=(DType.F16, (6, 2))), op)
    assert rules(found)[0] == (op, ("e",), "delta", None, 1)
    first, new = found.recipes["e"].bands
    assert (first.begin, first.end, new.begin, new.end) == (0, 4, 4, 6)
    assert new.steps == ()
    assert new.start.first_row == 4


@pytest.mark.parametrize("shape", [(3, 2), (4, 3), (8,), (4, 2, 1), ()])
def test_any_other_shape_is_copied_whole(shape):
    found = draft(specs(a=F16, e=F16), specs(a=F16, e=(DType.F16, shape)), "add")
    assert rules(found)[0] == ("copy-delta", ("e",), None, None, 1)


def test_types_without_arithmetic_are_xored():
    found = draft(specs(a=F16, ids=I64), specs(a=F16, ids=I64), "add")
    assert rules(found)[0] == ("xor", ("ids",), None, None, 1)


def test_other_types_are_added_in_the_targets():
    found = draft(specs(a=F16, b=BF16), specs(a=BF16, b=BF16), "add")
    assert sorted(rules(found), key=str) == [
        ("add", ("*",), None, None, 1),
        ("add", ("a",), None, "bfloat16", 1),
    ] or rules(found) == [("add", ("b",), None, None, 1), ("add", ("*",), None, "bfloat16", 1)]
    assert found.output_dtype is DType.BF16
    assert found.recipes["a"].bands[0].steps[0].compute is DType.BF16


def test_a_target_of_several_types_cannot_change_the_bases():
    error = refusal(specs(a=F16, b=F32), specs(a=BF16, b=F32))
    assert (error.code, error.where) == ("delta-types", "a")


def test_there_is_no_exact_delta_between_types():
    assert refusal(specs(a=F16), specs(a=BF16), "xor").code == "delta-types"


def test_nothing_in_common_is_refused():
    assert refusal(specs(a=F16), specs(b=F16)).code == "nothing-in-common"


@pytest.mark.parametrize("name", ["x*", "x?", "[x]", "x" * 1001])
def test_a_name_that_no_rule_can_name_alone_is_refused(name):
    base = specs(xa=F16, xb=F16)
    target = base | specs(**{name: F16})
    assert refusal(base, target).code == "delta-name"


def test_such_a_name_is_no_problem_under_the_last_rule():
    tensors = specs(**{"x*": F16, "[x]": F16})
    assert rules(draft(tensors, tensors, "add")) == [("add", ("*",), None, None, 2)]


names = st.text("ab.01*?", min_size=1, max_size=6)
kinds = st.sampled_from([F16, (DType.F16, (6, 2)), (DType.F16, (3,)), I64])


sides = st.dictionaries(names, kinds)


@given(sides, sides, st.sampled_from(["add", "xor"]))
@settings(deadline=None)
def test_the_first_rule_that_matches_does_what_the_recipe_needs(base, target, op):
    one, other = specs(**base), specs(**target)
    try:
        found = draft(one, other, op)
    except InvalidInput:
        return
    assert found.recipes.keys() == other.keys()
    for name in one.keys() | other.keys():
        rule = next(
            r.rule for r in found.rules if any(glob_match(p, name) for p in r.rule.patterns)
        )
        if name not in other:
            assert rule.op == "drop"
        elif name not in one:
            assert rule.op == "copy-delta"
        elif one[name].shape == other[name].shape and one[name].dtype is other[name].dtype:
            assert rule.op in ("add", "xor")
        assert sum(r.tensors for r in found.rules) == len(one.keys() | other.keys())
