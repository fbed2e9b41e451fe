"""vbuild.plan.lower: recipes become segments that give numpy's answers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.plan.made_up import execute, plan_of, side, values
from vbuild._core import Fault
from vbuild.errors import InvalidInput
from vbuild.manifest import Rule
from vbuild.plan import copy_program
from vbuild.plan.lower import Draft, lower, tensor_prefix
from vbuild.plan.recipe import Band, Recipe, Step, View, Zeros
from vbuild.table import AS_STORED, Mode, Op, Operand
from vbuild.tensors import DType, TensorSpec

Array = NDArray[np.generic]
F16, BF16, F32 = 0, 1, 2
RAW2 = 17


def numbers(*shape: int, seed: int = 0, dtype: str = "f2") -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def built(base: Array, *deltas: Array, rules: list, dtype: DType | None = None) -> Array:
    """The tensor ``w`` of a build that consists of it."""
    sides = [side({"f": {"w": array}}, gap=1) for array in (base, *deltas)]
    plan = plan_of(*sides, rules=rules, output_dtype=dtype)
    return values(execute(plan, *sides), plan)["w"]


def as_bf16(array: Array) -> Array:
    """Bits of bf16 by truncation: any bf16 numbers will do."""
    return (array.astype("f4").view("u4") >> 16).astype("u2")


def from_bf16(bits: Array) -> Array:
    return (bits.astype("u4") << 16).view("f4")


def add(**more: object) -> list[Rule]:
    return [Rule(match="*", op="add", **more)]


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 1, 3), (2, 3, 4, 5), (2,) * 7])
def test_the_sum_is_numpys_for_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    base, delta = numbers(*shape), numbers(*shape, seed=1)
    base, delta = np.asarray(base), np.asarray(delta)
    result = built(base, delta, rules=add())
    assert (result.shape, result.tobytes()) == (shape, (base + delta).tobytes())


def test_layouts_of_base_and_delta_may_differ() -> None:
    base, delta = numbers(5, 6, 7), np.asfortranarray(numbers(5, 6, 7, seed=1))
    assert built(base, delta, rules=add()).tobytes() == (base + delta).tobytes()


def test_a_contiguous_tensor_is_one_segment_of_one_dimension() -> None:
    sides = side({"f": {"w": numbers(5, 6, 7)}}), side({"f": {"w": numbers(5, 6, 7)}})
    segments = plan_of(*sides, rules=add()).outputs[0].program.table.segments
    assert [s.dims for s in segments if s.op is Op.ADD] == [(1, 1, 1, 210)]


def test_pad_zero_and_delta_give_what_concatenation_gives() -> None:
    base, delta = numbers(4, 3), numbers(6, 3, seed=1)
    old = base + delta[:4]
    zero, copied = (built(base, delta, rules=add(pad=pad)) for pad in ("zero", "delta"))
    assert zero.tobytes() == np.concatenate([old, np.float16(0) + delta[4:]]).tobytes()
    assert copied.tobytes() == np.concatenate([old, delta[4:]]).tobytes()


def test_pad_zero_makes_negative_zeros_positive_and_pad_delta_keeps_them() -> None:
    base, delta = np.zeros((1, 1), "f2"), np.full((2, 1), -0.0, "f2")
    assert not np.signbit(built(base, delta, rules=add(pad="zero"))[1, 0])
    assert np.signbit(built(base, delta, rules=add(pad="delta"))[1, 0])


def test_padding_an_empty_base_gives_the_new_rows() -> None:
    base, delta = numbers(0, 3), numbers(2, 3, seed=1)
    assert built(base, delta, rules=add(pad="zero")).tobytes() == delta.tobytes()


def test_compute_float32_rounds_once() -> None:
    base, delta = numbers(1000), numbers(1000, seed=1, dtype="f4")
    result = built(base, delta, rules=add(compute="float32"))
    assert result.tobytes() == (base.astype("f4") + delta).astype("f2").tobytes()


def test_compute_float16_rounds_the_delta_first() -> None:
    base, delta = numbers(1000), numbers(1000, seed=1, dtype="f4")
    result = built(base, delta, rules=add(compute="float16"))
    assert result.tobytes() == (base + delta.astype("f2")).tobytes()
    assert result.tobytes() != (base.astype("f4") + delta).astype("f2").tobytes()


def test_output_dtype_rounds_the_result() -> None:
    base, delta = numbers(100, dtype="f4"), numbers(100, seed=1, dtype="f4")
    result = built(base, delta, rules=add(), dtype=DType.F16)
    assert result.tobytes() == (base + delta).astype("f2").tobytes()


def test_bfloat16_is_added_in_float32() -> None:
    base, delta = as_bf16(numbers(100)), numbers(100, seed=1)
    result = built(base, delta, rules=add(compute="float32"), dtype=DType.F32)
    assert result.tobytes() == (from_bf16(base) + delta.astype("f4")).tobytes()


def test_the_value_between_two_deltas_stays_in_the_compute_type() -> None:
    base, one, two = (numbers(500, seed=i) for i in range(3))
    result = built(base, one, two, rules=add(compute="float32"))
    wide = base.astype("f4") + one.astype("f4") + two.astype("f4")
    assert result.tobytes() == wide.astype("f2").tobytes()
    stored = built(base, one, two, rules=add())
    assert stored.tobytes() == ((base + one) + two).tobytes()
    assert stored.tobytes() != result.tobytes()


def test_a_rule_without_compute_adds_in_the_bases_type_whatever_came_before() -> None:
    base, one, two = (numbers(500, seed=i) for i in range(3))
    result = built(base, one, two, rules=[add(compute="float32"), add()])
    middle = (base.astype("f4") + one.astype("f4")).astype("f2")
    assert result.tobytes() == (middle + two).tobytes()


XOR = [Rule(match="*", op="xor")]


def test_xor_combines_bits_of_any_type() -> None:
    base, delta = numbers(100, dtype="f8"), numbers(100, seed=1, dtype="f8").view("i8")
    result = built(base, delta, rules=XOR)
    assert result.tobytes() == (base.view("i8") ^ delta).tobytes()


def test_an_xor_after_a_wide_addition_sees_the_bits_of_the_bases_type() -> None:
    base, one, two = numbers(100), numbers(100, seed=1, dtype="f4"), numbers(100, seed=2)
    rules = [add(compute="float32"), XOR]
    result = built(base, one, two, rules=rules)
    middle = (base.astype("f4") + one).astype("f2")
    assert result.tobytes() == (middle.view("u2") ^ two.view("u2")).tobytes()


def test_an_xor_of_padded_rows_sees_the_bits_of_the_bases_type() -> None:
    base, one, two = numbers(2, 3), numbers(4, 3, seed=1, dtype="f4"), numbers(4, 3, seed=2)
    rules = [add(compute="float32", pad="delta"), XOR]
    middle = np.concatenate([base.astype("f4") + one[:2], one[2:]]).astype("f2")
    result = built(base, one, two, rules=rules)
    assert result.tobytes() == (middle.view("u2") ^ two.view("u2")).tobytes()


def test_an_addition_after_an_xor_and_a_conversion_at_the_end() -> None:
    base, one, two = numbers(100), np.full(100, 0x8000, "u2"), numbers(100, seed=2)
    sides = [side({"f": {"w": a}}) for a in (base, one.view("i2"), two)]
    plan = plan_of(*sides, rules=[XOR, add()], output_dtype=DType.F32)
    result = values(execute(plan, *sides), plan)["w"]
    assert result.tobytes() == (-base + two).astype("f4").tobytes()


def test_case_60_subnormals_ties_and_negative_zero_are_kept() -> None:
    base = np.array([0x0001, 0x8000, 0x3C00, 0x3C01, 0x8001], "u2").view("f2")
    delta = np.array([0x0001, 0x8000, 0x1000, 0x1000, 0x0001], "u2").view("f2")
    result = built(base, delta, rules=add())
    assert result.view("u2").tolist() == [0x0002, 0x8000, 0x3C00, 0x3C02, 0x0000]


def test_case_60_an_overflow_is_a_fault() -> None:
    huge = np.full(3, 60000, "f2")
    with pytest.raises(Fault) as caught:
        built(huge, huge, rules=add())
    assert caught.value.status == "nonfinite"


def test_tensors_without_elements_have_no_segment_and_take_no_room() -> None:
    sides = (
        side({"f": {"e": numbers(0, 3), "w": numbers(2)}}),
        side({"f": {"e": numbers(0, 3), "w": numbers(2)}}),
    )
    plan = plan_of(*sides, rules=add())
    assert {s.tensor for s in plan.outputs[0].program.table.segments if s.op is Op.ADD} == {1}
    assert values(execute(plan, *sides), plan)["e"].shape == (0, 3)


def test_a_layout_of_five_dimensions_that_cannot_be_merged_is_refused() -> None:
    odd = TensorSpec("w", DType.F16, (2, 2, 2, 2, 2), "f", 0, (1, 4, 16, 64, 256))
    recipe = Recipe("w", DType.F16, odd.shape, (Band(0, 2, View(0, odd)),))
    with pytest.raises(InvalidInput) as caught:
        lower(Draft(), recipe)
    assert (caught.value.code, caught.value.where) == ("layout-too-complex", "w")


def test_a_chain_that_the_core_could_not_run_is_refused() -> None:
    base = TensorSpec("w", DType.F16, (2,), "f", 0, (1,))
    step = Step(Op.ADD, View(1, base), None)
    for steps in (64, 65):
        recipe = Recipe("w", DType.F16, (2,), (Band(0, 2, View(0, base), (step,) * steps),))
        if steps == 64:
            lower(Draft(), recipe)
            continue
        with pytest.raises(InvalidInput) as caught:
            lower(Draft(), recipe)
    assert caught.value.code == "too-many-deltas"


def test_a_chain_reads_the_base_once_and_converts_at_its_end() -> None:
    base = TensorSpec("w", DType.F16, (4, 2), "b", 10, (2, 1))
    delta = TensorSpec("w", DType.BF16, (6, 2), "d", 100, (2, 1))
    steps = (
        Step(Op.ADD, View(1, delta), DType.F32),
        Step(Op.XOR, View(2, base, 1), DType.F16),
    )
    bands = (Band(0, 4, View(0, base), steps), Band(4, 6, Zeros(DType.F16), steps[:1]))
    draft = Draft()
    lower(draft, Recipe("w", DType.BF16, (6, 2), bands))
    summary = [(s.op, s.a.source, s.a_type, s.b.source, s.b_type, s.compute, s.out_type)
               for s in draft.segments]  # fmt: skip
    assert summary == [
        (Op.ADD, 0, F16, 1, BF16, F32, F16),
        (Op.XOR, Operand.PREVIOUS, RAW2, 2, RAW2, AS_STORED, RAW2),
        (Op.COPY, Operand.PREVIOUS, F16, Operand.NONE, 0, AS_STORED, BF16),
        (Op.ADD, Operand.ZERO, F16, 1, BF16, F32, BF16),
    ]
    assert [s.b.offset for s in draft.segments] == [100, 14, 0, 100]
    assert [ref.group for ref in draft.files] == [0, 1, 2]


def test_a_tensors_digest_starts_with_its_type_and_shape() -> None:
    assert tensor_prefix(DType.BF16, (32000, 8)) == b"vbuild-tensor-v1\0BF16\x0032000,8\0"
    assert tensor_prefix(DType.F32, ()) == b"vbuild-tensor-v1\0F32\0\0"


def test_copy_program_reads_tensors_and_hashes_no_file() -> None:
    one = side({"f": {"b": numbers(3, 4), "a": np.asfortranarray(numbers(2, 5))}}, gap=2)
    table = copy_program(list(one.tensors.values()), {"f": len(one.contents["f"])}).table
    assert table.sources == ((Mode.PLAIN, len(one.contents["f"])),)
    assert [literal for _, literal in table.tensors] == [len(b"vbuild-tensor-v1\0F16\x003,4\0")] * 2
    assert copy_program([], {}).table.segments == ()
