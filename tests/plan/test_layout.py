"""vbuild.plan.layout: which file each tensor goes to, and in which order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plan.made_up import execute, plan_of, side, spec
from vbuild.formats import Checkpoint
from vbuild.manifest import Rule
from vbuild.plan.layout import layout
from vbuild.plan.recipe import copied
from vbuild.tensors import DType, TensorSpec

COPY = [Rule(match="*", op="copy-base")]


def names(
    tensors: list[TensorSpec],
    limit: int | None,
    base: list[TensorSpec] | None = None,
    format: str = "safetensors",
) -> dict[str, list[str]]:
    """Names of tensors by file."""
    recipes = {t.name: copied(0, t) for t in tensors}
    held = {t.name: t for t in (tensors if base is None else base)}
    checkpoint = Checkpoint(held, (), format, {}, {})
    return {file: [r.name for r in made] for file, made in layout(recipes, checkpoint, limit)}


def test_without_a_limit_one_file_stays_one_file() -> None:
    assert names([spec("b"), spec("a")], None) == {"model.safetensors": ["a", "b"]}


def test_without_a_limit_the_bases_cut_is_kept_and_files_are_named_anew() -> None:
    tensors = [spec("a", file="x2.bin"), spec("b", file="x1.bin"), spec("c", file="x2.bin")]
    assert names(tensors, None) == {
        "model-00001-of-00002.safetensors": ["b"],
        "model-00002-of-00002.safetensors": ["a", "c"],
    }


def test_a_file_whose_tensors_are_all_dropped_leaves_no_gap_in_the_numbers() -> None:
    base = [spec("a", file="1"), spec("b", file="2"), spec("c", file="3")]
    assert names([base[0], base[2]], None, base) == {
        "model-00001-of-00002.safetensors": ["a"],
        "model-00002-of-00002.safetensors": ["c"],
    }


def test_tensors_that_the_base_does_not_have_go_to_the_last_file() -> None:
    base = [spec("b", file="1"), spec("c", file="2")]
    made = names([*base, spec("a", file="delta")], None, base)
    assert list(made.values()) == [["b"], ["a", "c"]]


def test_a_limit_cuts_in_code_point_order_of_names() -> None:
    tensors = [spec(name, (10,)) for name in ("layer.10", "layer.2", "Z", "layer.1")]
    assert list(names(tensors, 40).values()) == [["Z", "layer.1"], ["layer.10", "layer.2"]]


def test_a_tensor_above_the_limit_has_a_file_of_its_own() -> None:
    tensors = [spec("a", (10,)), spec("b", (1000,)), spec("c", (10,)), spec("d", (10,))]
    assert list(names(tensors, 100).values()) == [["a"], ["b"], ["c", "d"]]


def test_a_shard_may_be_exactly_as_large_as_the_limit() -> None:
    tensors = [spec("a", (10,)), spec("b", (10,))]
    assert len(names(tensors, 40)) == 1
    assert len(names(tensors, 39)) == 2


def test_inside_a_file_wider_types_come_first() -> None:
    types = {"a": DType.F16, "b": DType.F32, "c": DType.I64, "d": DType.BF16, "e": DType.BOOL}
    tensors = [spec(name, dtype=dtype) for name, dtype in types.items()]
    assert names(tensors, None) == {"model.safetensors": ["c", "b", "d", "a", "e"]}


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1), st.integers(0, 60), min_size=1
    ),
    st.integers(1, 200),
)
def test_every_tensor_is_in_one_shard_and_no_shard_is_cut_too_early(
    sizes: dict[str, int], limit: int
) -> None:
    made = list(names([spec(n, (size,)) for n, size in sizes.items()], limit).values())
    assert [name for shard in made for name in shard] == sorted(sizes)
    totals = [sum(2 * sizes[name] for name in shard) for shard in made]
    for i, shard in enumerate(made):
        assert totals[i] <= limit or len(shard) == 1
        if i + 1 < len(made):
            assert totals[i] + 2 * sizes[made[i + 1][0]] > limit


@pytest.mark.oracle
def test_a_file_is_what_safetensors_itself_writes() -> None:
    numpy_io = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(1)
    arrays = {
        "z": rng.normal(size=(3, 5)).astype("f2"),
        "layer.10.w": rng.normal(size=(2, 2, 2)).astype("f4"),
        "layer.2.w": rng.normal(size=7).astype("f8"),
        "ids": rng.integers(0, 9, (2, 1)),
        "mask": rng.integers(0, 2, 5).astype("u1"),
        "scalar": np.array(1.5, "f4"),
        "empty": np.zeros((0, 4), "f2"),
        "\u00e9\u4e2d": rng.normal(size=1).astype("f2"),
    }
    base = side({"f": arrays}, gap=3)
    plan = plan_of(base, rules=COPY)
    expected = numpy_io.save(arrays, metadata={"format": "pt"})
    assert execute(plan, base) == {"model.safetensors": expected}
