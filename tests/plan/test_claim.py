"""vbuild.plan.claim: which rule claims what, and what it says when it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.plan.made_up import spec
from vbuild.errors import InvalidInput
from vbuild.manifest import Rule
from vbuild.plan.claim import Ruleset, claim
from vbuild.plan.recipe import Band, Mean, Product, Recipe, Step, View, Zeros
from vbuild.table import Op
from vbuild.tensors import DType, JoinedSpec, LowRankSpec, Tensor, TensorSpec

ADD = Rule(match="*", op="add")


def claimed(
    base: Sequence[TensorSpec],
    *deltas: Sequence[TensorSpec],
    rules: Sequence[Rule] = (ADD,),
    output_dtype: DType | None = None,
) -> dict[str, Recipe]:
    """Recipes, where the same rules hold for every delta."""
    recipes, warnings = claim(
        {t.name: t for t in base},
        [{t.name: t for t in delta} for delta in deltas],
        [Ruleset(tuple(rules))] * max(1, len(deltas)),
        output_dtype,
    )
    assert warnings == []
    return recipes


def refused(base: Sequence[TensorSpec], delta: Sequence[TensorSpec], *rules: Rule) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        claimed(base, delta, rules=rules)
    assert caught.value.exit_status == 2
    assert "\n" not in caught.value.message
    return caught.value


def test_add_takes_the_base_and_adds_the_delta() -> None:
    base, delta = spec("w"), spec("w")
    step = Step(Op.ADD, View(1, delta), DType.F16)
    assert claimed([base], [delta])["w"].bands == (Band(0, 4, View(0, base), (step,)),)


def test_xor_combines_bit_patterns_of_the_bases_type() -> None:
    base, delta = spec("w"), spec("w", dtype=DType.I16)
    recipe = claimed([base], [delta], rules=[Rule(match="*", op="xor")])["w"]
    step = Step(Op.XOR, View(1, delta), DType.F16)
    assert recipe.bands == (Band(0, 4, View(0, base), (step,)),)
    assert recipe.dtype is DType.F16


@pytest.mark.parametrize(("op", "group"), [("copy-base", 0), ("copy-delta", 1)])
def test_a_copy_takes_one_side_whatever_the_other_is(op: str, group: int) -> None:
    sides = spec("w"), spec("w", (9, 9), DType.I64)
    recipe = claimed([sides[0]], [sides[1]], rules=[Rule(match="*", op=op)])["w"]
    assert (recipe.dtype, recipe.shape) == (sides[group].dtype, sides[group].shape)
    assert recipe.bands == (Band(0, recipe.rows, View(group, sides[group])),)


def test_drop_leaves_a_tensor_out_on_whichever_side_it_is() -> None:
    rules = [Rule(match="x*", op="drop"), ADD]
    both, one, other = spec("x.both"), spec("x.base"), spec("x.delta")
    recipes = claimed([spec("w"), both, one], [spec("w"), both, other], rules=rules)
    assert list(recipes) == ["w"]


def test_the_first_rule_that_matches_claims() -> None:
    rules = [Rule(match=("a", "b"), op="copy-base"), Rule(match="?", op="copy-delta")]
    sides = [spec(name) for name in "abc"]
    recipes = claimed(sides, sides, rules=rules)
    assert {name: r.bands[0].start.group for name, r in recipes.items()} == {"a": 0, "b": 0, "c": 1}


def test_the_result_is_in_code_point_order_of_names() -> None:
    names = ["b", "a.10", "a.2", "Z", "\u00e9", "\U0001f600"]
    sides = [spec(name) for name in names]
    assert list(claimed(sides, sides)) == sorted(names)


# ---- case 58: a tensor on one side only ----


@pytest.mark.parametrize("op", ["add", "xor"])
@pytest.mark.parametrize("where", ["base", "delta"])
def test_case_58_a_tensor_on_one_side_is_an_error_that_names_on_missing(
    op: str, where: str
) -> None:
    sides = {"base": [spec("w")], "delta": [spec("w")]}
    sides[where].append(spec("only"))
    error = refused(sides["base"], sides["delta"], Rule(match="*", op=op))
    assert error.code == "tensors-disagree"
    assert error.where == "only"
    assert "delta" if where == "base" else "base" in error.what
    assert 'on_missing = "copy" or "drop"' in str(error.hint)


@pytest.mark.parametrize(("op", "missing"), [("copy-base", "base"), ("copy-delta", "delta")])
def test_case_58_a_copy_of_what_is_not_there_is_an_error(op: str, missing: str) -> None:
    sides = {"base": [spec("w")], "delta": [spec("w")]}
    sides[missing] = []
    error = refused(sides["base"], sides["delta"], Rule(match="*", op=op))
    assert error.what.startswith(f"the {missing} has no such tensor")


@pytest.mark.parametrize(("where", "group"), [("base", 0), ("delta", 1)])
def test_on_missing_copy_takes_it_from_the_side_that_has_it(where: str, group: int) -> None:
    sides = {"base": [spec("w")], "delta": [spec("w")]}
    only = spec("only", (7,), DType.F32)
    sides[where].append(only)
    rules = [Rule(match="*", op="add", on_missing="copy")]
    recipe = claimed(sides["base"], sides["delta"], rules=rules)["only"]
    assert (recipe.dtype, recipe.bands) == (DType.F32, (Band(0, 7, View(group, only)),))


@pytest.mark.parametrize("where", ["base", "delta"])
def test_on_missing_drop_leaves_it_out(where: str) -> None:
    sides = {"base": [spec("w")], "delta": [spec("w")]}
    sides[where].append(spec("only"))
    rules = [Rule(match="*", op="add", on_missing="drop")]
    assert list(claimed(sides["base"], sides["delta"], rules=rules)) == ["w"]


# ---- case 59: types and shapes ----


def test_case_59_types_that_differ_are_an_error_that_names_compute() -> None:
    error = refused([spec("w")], [spec("w", dtype=DType.F32)], ADD)
    assert error.message == "w: the base has F16 and the delta has F32"
    assert 'compute = "float16", "bfloat16", "float32" or "as-stored"' in str(error.hint)


def test_as_stored_allows_types_that_differ_and_converts_neither() -> None:
    rules = [Rule(match="*", op="add", compute="as-stored")]
    recipe = claimed([spec("w")], [spec("w", dtype=DType.F32)], rules=rules)["w"]
    assert recipe.dtype is DType.F16
    assert [step.compute for step in recipe.bands[0].steps] == [None]


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_compute_allows_types_that_differ(name: str) -> None:
    rules = [Rule(match="*", op="add", compute=name)]
    recipe = claimed([spec("w")], [spec("w", dtype=DType.BF16)], rules=rules)["w"]
    assert recipe.dtype is DType.F16
    assert recipe.bands[0].steps[0].compute is DType.from_long_name(name)


@pytest.mark.parametrize("side", [0, 1])
def test_case_59_addition_of_integers_is_an_error_that_names_other_rules(side: int) -> None:
    types = [DType.F16, DType.F16]
    types[side] = DType.I64
    error = refused(
        [spec("w", dtype=types[0])],
        [spec("w", dtype=types[1])],
        Rule(match="*", op="add", compute="float32"),
    )
    assert error.what == f"addition is not defined for the {('base', 'delta')[side]}'s type I64"
    assert "copy-base" in str(error.hint)


def test_case_59_shapes_that_differ_are_an_error_that_names_on_shape_mismatch() -> None:
    error = refused([spec("w", (4, 3))], [spec("w", (3, 4))], ADD)
    assert error.message == "w: the base has shape [4, 3] and the delta has [3, 4]"
    assert "probably not the one that the delta was made for" in str(error.hint)
    assert 'on_shape_mismatch = "copy-delta"' in str(error.hint)


def test_case_59_more_rows_in_the_delta_are_an_error_that_names_pad() -> None:
    error = refused([spec("w", (4, 3))], [spec("w", (5, 3))], ADD)
    assert "1 more row(s)" in str(error.hint)
    assert 'pad = "zero", "mean" or "delta"' in str(error.hint)


def test_case_59_fewer_rows_cannot_be_padded() -> None:
    error = refused([spec("w", (5, 3))], [spec("w", (4, 3))], Rule(match="*", op="add", pad="zero"))
    assert error.code == "tensors-disagree"
    assert "pad =" not in str(error.hint)


def test_case_59_one_error_lists_all_tensors_that_fail_for_the_same_reason() -> None:
    base = [spec(f"w{i:02}") for i in range(20)]
    delta = [spec(f"w{i:02}", dtype=DType.F32) for i in range(20)]
    error = refused(base, delta, ADD)
    assert "so do 19 more: w01, w02" in error.what
    assert error.what.endswith("w12 and 7 more")


def test_case_62_xor_of_elements_of_another_size_is_an_error() -> None:
    rule = Rule(match="*", op="xor")
    error = refused([spec("w")], [spec("w", dtype=DType.F32)], rule)
    assert error.what == "cannot xor F16 with F32: the element sizes differ"


def test_on_shape_mismatch_copy_delta_takes_the_delta() -> None:
    delta = spec("w", (5, 5), DType.F32)
    rules = [Rule(match="*", op="add", on_shape_mismatch="copy-delta")]
    recipe = claimed([spec("w")], [delta], rules=rules)["w"]
    assert (recipe.dtype, recipe.bands) == (DType.F32, (Band(0, 5, View(1, delta)),))


def test_pad_zero_adds_the_new_rows_to_zeros() -> None:
    base, delta = spec("w", (4, 3)), spec("w", (6, 3))
    recipe = claimed([base], [delta], rules=[Rule(match="*", op="add", pad="zero")])["w"]
    assert recipe.shape == (6, 3)
    assert recipe.bands == (
        Band(0, 4, View(0, base), (Step(Op.ADD, View(1, delta, 0), DType.F16),)),
        Band(4, 6, Zeros(DType.F16), (Step(Op.ADD, View(1, delta, 4), DType.F16),)),
    )


def test_pad_delta_takes_the_new_rows_as_they_are() -> None:
    base, delta = spec("w", (4, 3)), spec("w", (6, 3))
    recipe = claimed([base], [delta], rules=[Rule(match="*", op="add", pad="delta")])["w"]
    assert recipe.bands[1] == Band(4, 6, View(1, delta, 4))


def test_pad_mean_adds_the_new_rows_to_the_mean_of_the_old() -> None:
    base, delta = spec("w", (4, 3)), spec("w", (6, 3))
    recipe = claimed([base], [delta], rules=[Rule(match="*", op="add", pad="mean")])["w"]
    assert recipe.bands == (
        Band(0, 4, View(0, base), (Step(Op.ADD, View(1, delta, 0), DType.F16),)),
        Band(4, 6, Mean(0, base), (Step(Op.ADD, View(1, delta, 4), DType.F16),)),
    )


@pytest.mark.parametrize(
    "base",
    [
        spec("w", (4,)),
        spec("w", (4, 3), DType.F64),
        replace(spec("w", (4, 3)), dims=(2, 2, 3), strides=(3, 6, 1)),
        JoinedSpec("w", DType.F16, (4, 3), 0, (spec("w", (2, 3)), spec("w", (2, 3), file="g"))),
        spec("w", (0, 3)),
    ],
    ids=["vector", "float64", "permuted", "joined", "empty"],
)
def test_pad_mean_is_of_one_matrix_as_it_is_stored(base: Tensor) -> None:
    delta = spec("w", (5, *base.shape[1:]), base.dtype)
    error = refused([base], [delta], Rule(match="*", op="add", pad="mean"))  # type: ignore[list-item]
    assert error.code == "tensors-disagree"
    assert 'pad = "zero" or "delta"' in str(error.hint)


def test_pad_mean_is_not_of_what_a_delta_has_changed() -> None:
    sides = spec("w", (4, 3)), spec("w", (5, 3)), spec("w", (6, 3))
    with pytest.raises(InvalidInput) as caught:
        claimed([sides[0]], [sides[1]], [sides[2]], rules=[Rule(match="*", op="add", pad="mean")])
    assert "no delta before has changed" in caught.value.what


def test_pad_is_for_more_rows_and_on_shape_mismatch_for_the_rest() -> None:
    rules = [Rule(match="*", op="add", pad="mean", on_shape_mismatch="copy-delta")]
    base, more, other = spec("w", (4, 3)), spec("w", (5, 3)), spec("w", (4, 4))
    assert len(claimed([base], [more], rules=rules)["w"].bands) == 2
    assert claimed([base], [other], rules=rules)["w"].bands == (Band(0, 4, View(1, other)),)


@pytest.mark.parametrize(("side", "on_missing"), [(0, "copy-base"), (1, "copy-delta")])
def test_on_missing_may_name_the_side_that_is_copied(side: int, on_missing: str) -> None:
    rules = [Rule(match="*", op="add", on_missing=on_missing)]
    sides: list[list[TensorSpec]] = [[spec("w")], [spec("w")]]
    sides[side].append(spec("only"))
    assert claimed(*sides, rules=rules)["only"].bands == (Band(0, 4, View(side, spec("only"))),)
    error = refused(*reversed(sides), *rules)
    assert error.where == "only"


# ---- adapters ----


def update(name: str, shape: tuple[int, int], *, weight: TensorSpec | None = None) -> LowRankSpec:
    """An update of rank 2."""
    left, right = spec("b", (shape[0], 2)), spec("a", (2, shape[1]))
    return LowRankSpec(name, left, right, 0.5, weight)


def merged(
    base: Sequence[TensorSpec],
    *adapters: Sequence[TensorSpec | LowRankSpec],
    rule: Rule = Rule(match="*", op="merge", on_missing="copy-base"),  # noqa: B008 (frozen)
) -> dict[str, Recipe]:
    recipes, _ = claim(
        {t.name: t for t in base},
        [{t.name: t for t in adapter} for adapter in adapters],
        [Ruleset((rule,))] * len(adapters),
        None,
    )
    return recipes


def not_merged(
    base: Sequence[TensorSpec], adapter: Sequence[TensorSpec | LowRankSpec], **keys: str
) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        merged(base, adapter, rule=Rule(match="*", **{"op": "merge", **keys}))  # type: ignore[arg-type]
    return caught.value


def test_merge_adds_the_product_of_a_low_rank_update_as_stored() -> None:
    change = update("w", (4, 3))
    other = replace(spec("other"), offset=24)
    recipes = merged([spec("w"), other], [change])
    step = Step(Op.ADD, Product(1, change.left, change.right, 0.5, 0), None)
    assert recipes["w"].bands == (Band(0, 4, View(0, spec("w")), (step,)),)
    assert recipes["w"].dtype is DType.F16
    assert recipes["other"].bands == (Band(0, 4, View(0, other)),)


def test_merge_takes_a_saved_module_in_the_base_s_type() -> None:
    saved = spec("w", (9, 3), DType.F32)
    recipe = merged([spec("w")], [saved])["w"]
    assert (recipe.dtype, recipe.shape) == (DType.F16, (9, 3))
    assert recipe.bands == (Band(0, 9, View(1, saved)),)


def test_merge_adds_to_a_module_that_is_saved_too() -> None:
    saved = spec("saved", (9, 3))
    recipe = merged([spec("w")], [update("w", (9, 3), weight=saved)])["w"]
    assert (recipe.name, recipe.shape) == ("w", (9, 3))
    assert recipe.bands[0].start == View(1, saved)
    assert len(recipe.bands[0].steps) == 1


def test_merge_of_a_saved_module_of_another_type_has_to_say_how() -> None:
    change = update("w", (4, 3), weight=spec("saved", dtype=DType.F32))
    assert 'compute = "float32"' in str(not_merged([spec("w")], [change]).hint)
    rule = Rule(match="*", op="merge", compute="float32")
    assert merged([spec("w")], [change], rule=rule)["w"].bands[0].steps[0].compute is DType.F32


@pytest.mark.parametrize("op", ["add", "xor", "copy-delta"])
def test_only_merge_takes_a_low_rank_update(op: str) -> None:
    error = not_merged([spec("w")], [update("w", (4, 3))], op=op)
    assert error.hint == 'take op = "merge" for it'


def test_a_low_rank_update_may_be_dropped_or_ignored() -> None:
    for op in ("drop", "copy-base"):
        rule = Rule(match="w", op=op)
        rules = (rule, Rule(match="*", op="copy-base"))
        recipes, _ = claim(
            {"w": spec("w"), "x": spec("x")}, [{"w": update("w", (4, 3))}], [Ruleset(rules)], None
        )
        assert ("w" in recipes) == (op == "copy-base")


def test_case_61_an_update_of_what_is_not_there_names_the_base() -> None:
    for on_missing in ("error", "copy", "copy-delta", "copy-base"):
        error = not_merged([spec("x")], [update("w", (4, 3))], on_missing=on_missing)
        assert error.code == "tensors-disagree"
        if on_missing in ("copy", "copy-base"):
            assert error.where == "w"


@pytest.mark.parametrize(
    ("base", "change", "words"),
    [
        (spec("w"), update("w", (4, 5)), "[4, 3] and the adapter's update has [4, 5]"),
        (spec("w"), spec("w", (4, 5)), "[4, 3] and the adapter's saved module has [4, 5]"),
        (spec("w"), spec("w", (4,)), "saved module has [4]"),
        (spec("w"), spec("w", (3, 3)), "[4, 3] and the adapter's saved module has [3, 3]"),
        (spec("w"), spec("w", (0, 3)), "saved module has [0, 3]"),
        (spec("w", dtype=DType.I64), update("w", (4, 3)), "addition is not defined"),
        (spec("w", dtype=DType.I64), spec("w"), "cannot be converted"),
    ],
)
def test_case_61_an_adapter_of_another_form_is_refused(
    base: TensorSpec, change: TensorSpec | LowRankSpec, words: str
) -> None:
    error = not_merged([base], [change])
    assert error.code == "tensors-disagree"
    assert words in error.what


def test_a_matrix_under_two_names_is_not_changed_under_one() -> None:
    base = [spec("embed"), replace(spec("embed"), name="head"), replace(spec("x"), offset=99)]
    error = not_merged(base, [update("embed", (4, 3))], on_missing="copy-base")
    assert (error.code, error.where) == ("tied-tensors", "embed")
    assert 'match = "head", op = "drop"' in str(error.hint)
    both = [update("embed", (4, 3)), update("head", (4, 3))]
    assert len(merged(base, both)) == 3
    rules = (Rule(match="head", op="drop"), Rule(match="*", op="merge", on_missing="copy-base"))
    sides = {t.name: t for t in base}, [{"embed": update("embed", (4, 3))}]
    assert sorted(claim(*sides, [Ruleset(rules)], None)[0]) == ["embed", "x"]


# ---- chains, the output's type, what is left over ----


def test_adapters_of_a_chain_are_steps_one_after_the_other() -> None:
    rule = Rule(match="*", op="merge", compute="float32")
    first, second = update("w", (4, 3)), update("w", (4, 3))
    steps = merged([spec("w")], [first], [second], rule=rule)["w"].bands[0].steps
    assert [(s.operand.group, s.compute) for s in steps] == [(1, DType.F32), (2, DType.F32)]


def test_the_second_delta_of_a_chain_continues_what_the_first_has_made() -> None:
    base, first, second = spec("w", (4, 3)), spec("w", (5, 3)), spec("w", (6, 3))
    rules = [Rule(match="*", op="add", pad="zero", compute="float32")]
    recipe = claimed([base], [first], [second], rules=rules)["w"]
    starts = [(b.begin, b.end, len(b.steps)) for b in recipe.bands]
    assert starts == [(0, 4, 2), (4, 5, 2), (5, 6, 1)]
    groups = [[s.operand.group for s in b.steps] for b in recipe.bands]
    assert groups == [[1, 2], [1, 2], [2]]
    rows = [[s.operand.first_row for s in b.steps] for b in recipe.bands]
    assert rows == [[0, 0], [4, 4], [5]]


def test_the_output_type_is_for_arithmetic_types_only() -> None:
    sides = [spec("w"), spec("ids", dtype=DType.I64)]
    rules = [Rule(match="*", op="copy-base")]
    recipes = claimed(sides, sides, rules=rules, output_dtype=DType.BF16)
    assert (recipes["w"].dtype, recipes["ids"].dtype) == (DType.BF16, DType.I64)


def test_without_a_delta_rules_can_copy_and_drop() -> None:
    rules = [Rule(match="x", op="drop"), Rule(match="*", op="copy-base")]
    assert list(claimed([spec("w"), spec("x")], rules=rules)) == ["w"]


def test_without_a_delta_and_rules_the_base_is_copied() -> None:
    recipes, warnings = claim({"w": spec("w")}, [], [], None)
    assert (list(recipes), warnings) == (["w"], [])


def test_case_15_tensors_that_no_rule_claims_are_listed() -> None:
    sides = [spec(f"w{i:02}") for i in range(15)]
    error = refused(sides, sides, Rule(match="w00", op="add"))
    assert error.code == "unclaimed-tensors"
    assert error.what.startswith("no rule claims 14 tensor(s): w01, w02")
    assert error.what.endswith("w12 and 2 more")
    assert "[[apply.rule]]" in str(error.hint)


@pytest.mark.parametrize("where", ["base", "delta"])
def test_case_15_a_tensor_of_either_side_must_be_claimed(where: str) -> None:
    sides = {"base": [spec("w")], "delta": [spec("w")]}
    sides[where].append(spec("odd"))
    assert "odd" in refused(sides["base"], sides["delta"], Rule(match="w", op="add")).what


@pytest.mark.parametrize("warn", [True, False], ids=["own rules", "preset"])
def test_case_15_a_pattern_that_claims_nothing_is_a_warning_unless_of_a_preset(warn: bool) -> None:
    rules = (Rule(match=("no", "such"), op="drop"), ADD, Rule(match="w", op="drop"))
    _, warnings = claim({"w": spec("w")}, [{"w": spec("w")}], [Ruleset(rules, warn)], None)
    expected = [f"the pattern {p!r} claims no tensor" for p in ("no, such", "w")]
    assert warnings == (expected if warn else [])
