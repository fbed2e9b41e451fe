"""Low-rank updates and means over bases that lie in parts, or whose rows are in another order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.plan.made_up import Side, execute, plan_of, side
from tests.support.machine_kernels import mean_of_rows, product
from vbuild.errors import InvalidInput
from vbuild.manifest import Rule
from vbuild.tensors import DType, JoinedSpec, LowRankSpec, TensorSpec

Array = NDArray[np.generic]
MERGE = (Rule(match="*", op="merge", on_missing="copy-base"),)
ROWS, COLUMNS, RANK, HEADS = 24, 20, 3, 3


def numbers(*shape: int, seed: int, dtype: str = "float16") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def adapter(rows: int = ROWS, columns: int = COLUMNS) -> tuple[Side, Array]:
    """Factors of an update of ``w``, the right one transposed in its file; and their product."""
    left = numbers(rows, RANK, seed=5, dtype="float32")
    right = numbers(RANK, columns, seed=6)
    made = side({"a": {"b": left, "a": np.asfortranarray(right)}}, gap=2)
    update = LowRankSpec("w", made.tensors["b"], made.tensors["a"], 0.25)
    factors = (left.astype("<f4"), right.astype("<f4"))
    return Side({}, made.contents, {"w": update}), product(*factors, np.float32(0.25))


def rounded(base: Array, update: Array) -> bytes:
    return (base.astype("<f4") + update).astype("<f2").tobytes()


def data_of(files: dict[str, bytes]) -> bytes:
    """What follows the header of the one file."""
    (content,) = files.values()
    return content[8 + int.from_bytes(content[:8], "little") :]


def joined(axis: int, values: Array, cuts: list[int]) -> Side:
    """``values`` in parts, a file each, as a tensor that is joined along ``axis``."""
    parts = np.split(values, cuts, axis)
    files = side({f"p{i}": {f"w{i}": np.ascontiguousarray(p)} for i, p in enumerate(parts)}, gap=2)
    specs = [replace(files.tensors[f"w{i}"], name="w") for i in range(len(parts))]
    spec = JoinedSpec("w", DType.F16, values.shape, axis, tuple(specs))
    return Side({"w": spec}, files.contents)  # type: ignore[dict-item]


@pytest.mark.parametrize(("axis", "cuts"), [(0, [5, 6]), (1, [8]), (1, [3, 4, 15])])
def test_an_update_of_a_matrix_in_parts(axis: int, cuts: list[int]) -> None:
    base = numbers(ROWS, COLUMNS, seed=1)
    sides = joined(axis, base, cuts), adapter()[0]
    made = execute(plan_of(*sides, rules=MERGE), *sides)
    assert data_of(made) == rounded(base, adapter()[1])


@pytest.mark.parametrize("level", ["portable", "native"])
def test_an_update_of_a_matrix_whose_rows_are_read_in_another_order(level: str) -> None:
    stored = numbers(ROWS, COLUMNS, seed=2)
    half = ROWS // HEADS // 2
    base = stored.reshape(HEADS, half, 2, COLUMNS).swapaxes(1, 2).reshape(ROWS, COLUMNS)
    files = side({"f": {"w": stored}}, gap=3)
    spec = replace(
        files.tensors["w"],
        dims=(HEADS, 2, half, COLUMNS),
        strides=(2 * half * COLUMNS, COLUMNS, 2 * COLUMNS, 1),
    )
    sides = Side({"w": spec}, files.contents), adapter()[0]
    made = execute(plan_of(*sides, rules=MERGE), *sides, level=level)
    assert data_of(made) == rounded(base, adapter()[1])


def test_rows_in_another_order_of_an_update_of_a_matrix_in_parts() -> None:
    """Meta's files as GGUF: the base is joined, and the left factor's rows are read as it needs."""
    base = numbers(ROWS, COLUMNS, seed=7)
    lora, update = adapter()
    half = ROWS // HEADS // 2
    left = replace(
        lora.updates["w"].left,
        dims=(HEADS, 2, half, RANK),
        strides=(2 * half * RANK, RANK, 2 * RANK, 1),
    )
    turned = Side({}, lora.contents, {"w": replace(lora.updates["w"], left=left)})
    sides = joined(0, base, [ROWS // HEADS]), turned
    made = execute(plan_of(*sides, rules=MERGE), *sides)
    permuted = update.reshape(HEADS, half, 2, COLUMNS).swapaxes(1, 2).reshape(ROWS, COLUMNS)
    assert data_of(made) == rounded(base, permuted)


def test_a_cut_inside_a_head_of_an_update_is_refused() -> None:
    lora, _ = adapter()
    left = replace(lora.updates["w"].left, dims=(HEADS, 2, 4, RANK), strides=(24, 3, 6, 1))
    turned = Side({}, lora.contents, {"w": replace(lora.updates["w"], left=left)})
    with pytest.raises(InvalidInput) as caught:
        plan_of(joined(0, numbers(ROWS, COLUMNS, seed=8), [5]), turned, rules=MERGE)
    assert caught.value.code == "layout-too-complex"


def test_an_update_of_a_matrix_that_lies_transposed() -> None:
    base = numbers(ROWS, COLUMNS, seed=3)
    sides = side({"f": {"w": np.asfortranarray(base)}}, gap=2), adapter()[0]
    made = execute(plan_of(*sides, rules=MERGE), *sides)
    assert data_of(made) == rounded(base, adapter()[1])


def test_a_saved_matrix_and_its_update() -> None:
    base, saved = numbers(ROWS, COLUMNS, seed=1), numbers(ROWS + 2, COLUMNS, seed=4)
    lora, update = adapter(ROWS + 2)
    more = side({"s": {"saved": saved}})
    weight: TensorSpec = more.tensors["saved"]
    both = Side({}, lora.contents | more.contents, {"w": replace(lora.updates["w"], weight=weight)})
    sides = side({"f": {"w": base}}), both
    made = execute(plan_of(*sides, rules=MERGE), *sides)
    assert data_of(made) == rounded(saved, update)


@pytest.mark.parametrize("more", [1, 3])
@pytest.mark.parametrize("compute", ["float16", "float32"])
def test_new_rows_start_from_the_mean(more: int, compute: str) -> None:
    base, delta = numbers(50, 7, seed=1), numbers(50 + more, 7, seed=2)
    sides = side({"f": {"w": base}}, gap=2), side({"d": {"w": delta}}, gap=2)
    rule = Rule(match="*", op="add", pad="mean", compute=compute)
    made = execute(plan_of(*sides, rules=[rule]), *sides)
    grown = np.concatenate([base.astype("<f4"), np.tile(mean_of_rows(base), (more, 1))])
    total = grown.astype(compute) + delta.astype(compute)
    assert data_of(made) == total.astype("<f2").tobytes()
