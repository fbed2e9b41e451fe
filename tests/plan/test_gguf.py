"""vbuild.plan.containers.gguf: the tensors of a GGUF file are those of a safetensors output, stored
as llama.cpp has them. The package ``gguf`` reads them back and says what blocks have to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.plan.made_up import Side, execute, plan_of, side
from vbuild._core import Fault
from vbuild.errors import InvalidInput
from vbuild.formats.gguf_llama import Llama
from vbuild.manifest import Rule
from vbuild.plan import Plan
from vbuild.plan.containers.gguf import FILE_TYPES, Gguf
from vbuild.plan.containers.safetensors import Safetensors
from vbuild.plan.recipe import Product, Recipe, Step, View
from vbuild.table import Op
from vbuild.tensors import DType, JoinedSpec, TensorSpec

Array = NDArray[np.generic]
HIDDEN, WIDE, HEADS, LAYERS, ROWS = 64, 96, 4, 2, 10
MODEL = Llama(
    "config.json",
    LAYERS,
    128,
    HIDDEN,
    WIDE,
    HEADS,
    2,
    HIDDEN // HEADS,
    1e-6,
    1e4,
    None,
    ROWS,
    False,
)
ADD = [Rule(match="*", op="add")]
COPY = [Rule(match="*", op="copy-base")]
QUERY, KEY = (f"model.layers.1.self_attn.{part}_proj.weight" for part in "qk")


def shapes(model: Llama = MODEL) -> dict[str, tuple[int, ...]]:
    """transformers' names and shapes, in an order that no output has."""
    found = {}
    for name in sorted(model.names(), reverse=True):
        place = model.place(name)
        assert place is not None
        found[name] = place.shape
    return found


def tensors(seed: int, model: Llama = MODEL, dtype: str = "f2") -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes(model).items()}


def container(type_: DType = DType.F16, model: Llama = MODEL, **more: object) -> Gguf:
    return Gguf("m", type_, model, (), **more)  # type: ignore[arg-type]


def turned(values: Array, heads: int) -> Array:
    """Rows in llama.cpp's order (interop.md, GGUF)."""
    rows, width = values.shape
    return values.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def stored(expected: Mapping[str, Array], model: Llama = MODEL) -> dict[str, Array]:
    """Tensors by the package's names, with llama.cpp's order of rows, in f32."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.layers)
    found = {}
    for name, values in expected.items():
        heads = {"q_proj": model.heads, "k_proj": model.kv_heads}.get(name.split(".")[-2], 0)
        right = turned(values, heads) if heads else values
        found[str(names.get_name(name, (".weight",)))] = right.astype("f4")
    return found


def read_back(data: bytes, directory: Path) -> gguf.GGUFReader:
    path = directory / "made.gguf"
    path.write_bytes(data)
    return gguf.GGUFReader(path)


def check(data: bytes, expected: Mapping[str, Array], directory: Path) -> None:
    """Every tensor of the file has the bytes that the package makes of ``expected``."""
    found = {t.name: t for t in read_back(data, directory).tensors}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        kind = found[name].tensor_type
        assert gguf.quants.quantize(values, kind).tobytes() == found[name].data.tobytes(), name


def as_torch(made: Mapping[str, Array]) -> Side:
    names = list(made)
    half = len(names) // 2
    first, second = ({n: made[n] for n in part} for part in (names[:half], names[half:]))
    return side({"1.bin": first, "2.bin": second}, gap=3)


@pytest.mark.parametrize("type_", list(FILE_TYPES), ids=str)
def test_every_tensor_is_the_sum_as_the_package_stores_it(tmp_path: Path, type_: DType) -> None:
    base, delta = tensors(0), tensors(1)
    sides = as_torch(base), as_torch(delta)
    plan = plan_of(*sides, rules=ADD, containers=[container(type_)])
    ((name, data),) = execute(plan, *sides).items()
    assert name == f"m-{type_}.gguf"
    check(data, stored({n: base[n] + delta[n] for n in base}), tmp_path)
    kinds = {t.name: t.tensor_type.name for t in read_back(data, tmp_path).tensors}
    assert {kinds[name] for name in kinds if name.endswith("norm.weight")} == {"F32"}
    assert {kinds[name] for name in kinds if not name.endswith("norm.weight")} == {type_.code}
    assert not plan.warnings


def test_the_order_is_fixed_and_the_data_is_aligned(tmp_path: Path) -> None:
    base = as_torch(tensors(0))
    plan = plan_of(base, rules=COPY, containers=[container(DType.Q4_0)])
    (data,) = execute(plan, base).values()
    found = read_back(data, tmp_path).tensors
    names = [t.name for t in found]
    layers = [sorted(n for n in names if n.startswith(f"blk.{i}.")) for i in range(LAYERS)]
    ends = ["output_norm.weight", "output.weight"]
    assert names == ["token_embd.weight", *layers[0], *layers[1], *ends]
    assert [r.name for r in plan.outputs[0].recipes] == names
    assert {t.data_offset % 32 for t in found} == {0}


def test_a_deltas_cut_and_the_order_of_mappings_change_nothing() -> None:
    base, delta = tensors(0), tensors(1)
    one = side({"f": dict(sorted(base.items()))})
    files = []
    for sides in ((as_torch(base), as_torch(delta)), (one, as_torch(delta)), (one, one)):
        plan = plan_of(*sides, rules=ADD, containers=[container(DType.Q8_0)])
        files.append(execute(plan, *sides)["m-Q8_0.gguf"])
    assert files[0] == files[1] != files[2]


def test_the_result_is_rounded_before_it_is_stored(tmp_path: Path) -> None:
    base = tensors(0, dtype="f4")
    one = as_torch(base)
    for dtype, kind in ((DType.F16, "f2"), (None, "f4")):
        for type_ in (DType.F32, DType.Q5_1):
            plan = plan_of(one, rules=COPY, containers=[container(type_, dtype=dtype)])
            (data,) = execute(plan, one).values()
            check(data, stored({n: v.astype(kind) for n, v in base.items()}), tmp_path)


def test_a_sum_in_another_type_is_rounded_to_the_base_s_before_it_is_stored(tmp_path: Path) -> None:
    base, delta = tensors(0), tensors(1, dtype="f4")
    sides = as_torch(base), as_torch(delta)
    rules = [Rule(match="*", op="add", compute="float32")]
    plan = plan_of(*sides, rules=rules, containers=[container(DType.F32)])
    (data,) = execute(plan, *sides).values()
    sums = {n: (base[n].astype("f4") + delta[n]).astype("f2") for n in base}
    check(data, stored(sums), tmp_path)


def test_exclusive_or_is_stored_too(tmp_path: Path) -> None:
    base, delta = tensors(0), tensors(1)
    delta = {n: (delta[n].view("u2") & 0x83FF).view("f2") for n in delta}
    sides = as_torch(base), as_torch(delta)
    plan = plan_of(*sides, rules=[Rule(match="*", op="xor")], containers=[container(DType.Q8_0)])
    (data,) = execute(plan, *sides).values()
    bits = {n: (base[n].view("u2") ^ delta[n].view("u2")).view("f2") for n in base}
    check(data, stored(bits), tmp_path)


# ---- other layouts of the inputs ----


def in_metas_order(values: Array, heads: int) -> Array:
    """q or k as Meta's files have them: what transformers' conversion started from."""
    return turned(values, heads)


def metas_view(spec: TensorSpec, heads: int) -> TensorSpec:
    """The tensor in transformers' order, over a file in Meta's."""
    rows, width = spec.shape
    inside = rows // heads // 2
    dims = (heads, 2, inside, width)
    return replace(spec, dims=dims, strides=(2 * inside * width, width, 2 * width, 1))


def meta_side(made: Mapping[str, Array]) -> Side:
    heads = {n: {"q_proj": HEADS, "k_proj": 2}.get(n.split(".")[-2], 0) for n in made}
    held = {n: in_metas_order(v, heads[n]) if heads[n] else v for n, v in made.items()}
    one = as_torch(held)
    for name, count in heads.items():
        if count:
            one.tensors[name] = metas_view(one.tensors[name], count)
    return one


def test_a_base_in_metas_order_gives_the_same_file_and_is_read_densely() -> None:
    base, delta = tensors(0), tensors(1)
    expected = plan_of(as_torch(base), as_torch(delta), rules=ADD, containers=[container()])
    wanted = execute(expected, as_torch(base), as_torch(delta))
    sides = meta_side(base), as_torch(delta)
    plan = plan_of(*sides, rules=ADD, containers=[container()])
    assert execute(plan, *sides) == wanted
    alone = plan_of(meta_side(base), rules=COPY, containers=[container()])
    (output,) = alone.outputs
    for segment in output.program.table.segments:
        if segment.op is Op.COPY and segment.a.source >= 0:
            assert segment.dims[:3] == (1, 1, 1), "one dimension: dense"


def joined(made: Mapping[str, Array], names: Sequence[str], axis: int) -> Side:
    """``names`` in two parts, in files of their own; the others in one."""
    rest = {n: v for n, v in made.items() if n not in names}
    halves = [[np.ascontiguousarray(h) for h in np.split(made[n], 2, axis)] for n in names]
    files = {f"{i}.bin": {n: h[i] for n, h in zip(names, halves, strict=True)} for i in (0, 1)}
    parts = [side({file: held}) for file, held in files.items()]
    one = side({"rest.bin": rest})
    for n in names:
        specs = tuple(replace(part.tensors[n], name=n) for part in parts)
        one.tensors[n] = JoinedSpec(n, DType.F16, made[n].shape, axis, specs)  # type: ignore[assignment]
    for part in parts:
        one.contents.update(part.contents)
    return one


@pytest.mark.parametrize("axis", [0, 1])
def test_parts_in_several_files_give_the_same_file(axis: int) -> None:
    base, delta = tensors(0), tensors(1)
    sides = joined(base, [QUERY, KEY], axis), as_torch(delta)
    plan = plan_of(*sides, rules=ADD, containers=[container(DType.Q8_0)])
    whole = as_torch(base), as_torch(delta)
    wanted = plan_of(*whole, rules=ADD, containers=[container(DType.Q8_0)])
    assert execute(plan, *sides) == execute(wanted, *whole)


def test_parts_that_cut_a_head_are_refused() -> None:
    base = tensors(0)
    one = joined(base, [QUERY], 0)
    whole = one.tensors[QUERY]
    assert isinstance(whole, JoinedSpec)
    parts = tuple(
        replace(part, shape=(rows, HIDDEN))
        for part, rows in zip(whole.parts, (24, 40), strict=True)
    )
    one.tensors[QUERY] = replace(whole, parts=parts)
    with pytest.raises(InvalidInput) as caught:
        plan_of(one, rules=COPY, containers=[container()])
    assert caught.value.code == "gguf-tensor"


class WithProducts(Gguf):
    """A container whose recipes for q and k have a low-rank product added, as a LoRA's."""

    def contents(self, recipes, base):  # type: ignore[no-untyped-def]
        return super().contents(with_products(recipes), base)


class ProductsAsTheyAre(Safetensors):
    def contents(self, recipes, base):  # type: ignore[no-untyped-def]
        return super().contents(with_products(recipes), base)


def with_products(recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    made = dict(recipes)
    for name in (QUERY, KEY):
        recipe = recipes[name]
        left, right = (recipes[f"{name}.{side}"].bands[0].start for side in ("A", "B"))
        assert isinstance(left, View) and isinstance(right, View)
        assert isinstance(left.spec, TensorSpec) and isinstance(right.spec, TensorSpec)
        step = Step(Op.ADD, Product(0, left.spec, right.spec, 0.5), DType.F32)
        bands = tuple(replace(band, steps=(step,)) for band in recipe.bands)
        made[name] = replace(recipe, bands=bands)
    return {name: recipe for name, recipe in made.items() if name[-2:] not in (".A", ".B")}


@pytest.mark.parametrize("type_", [DType.F16, DType.Q8_0], ids=str)
def test_low_rank_products_are_turned_by_their_left_factor(tmp_path: Path, type_: DType) -> None:
    rng = np.random.default_rng(7)
    base = tensors(0)
    for name in (QUERY, KEY):
        base[f"{name}.A"] = rng.normal(size=(base[name].shape[0], 3)).astype("f4")
        base[f"{name}.B"] = rng.normal(size=(3, HIDDEN)).astype("f2")
    one = as_torch(base)
    outputs = [WithProducts("m", type_, MODEL, ()), ProductsAsTheyAre()]
    plan = plan_of(one, rules=COPY, containers=outputs)
    files = execute(plan, one)
    check(files[f"m-{type_}.gguf"], stored(safetensors_values(files, plan)), tmp_path)


def safetensors_values(files: Mapping[str, bytes], plan: Plan) -> dict[str, Array]:
    """The f16 tensors of the safetensors outputs."""
    found = {}
    for output in plan.outputs:
        if output.name.endswith(".safetensors"):
            data = files[output.name]
            at = 8 + int.from_bytes(data[:8], "little")
            for recipe in output.recipes:
                assert recipe.dtype is DType.F16
                part = data[at : at + recipe.nbytes]
                found[recipe.name] = np.frombuffer(part, "<f2").reshape(recipe.shape)
                at += recipe.nbytes
    return found


# ---- several outputs ----


def test_several_outputs_hash_every_input_once_and_have_the_same_values(tmp_path: Path) -> None:
    base, delta = tensors(0), tensors(1)
    sides = as_torch(base), as_torch(delta)
    outputs = [Safetensors(), container(DType.F32), container(DType.Q8_0)]
    plan = plan_of(*sides, rules=ADD, containers=outputs)
    files = execute(plan, *sides)  # asserts that each digest comes out once
    assert [o.container for o in plan.outputs] == [0, 0, 1, 2]
    expected = stored(safetensors_values(files, plan))
    for name in ("m-F32.gguf", "m-Q8_0.gguf"):
        check(files[name], expected, tmp_path)


def test_each_output_judges_its_own_results() -> None:
    base = tensors(0, dtype="f4")
    base[QUERY][3, 5] = 1e30  # finite, but not as f16
    one = as_torch(base)
    strict, wide = container(DType.F16), container(DType.BF16)
    allowed = container(DType.F16, allow_nonfinite=True)
    execute(plan_of(one, rules=COPY, containers=[wide, allowed]), one)
    with pytest.raises(Fault) as caught:
        execute(plan_of(one, rules=COPY, containers=[wide, strict]), one)
    assert caught.value.status == "nonfinite"


# ---- what does not fit ----


def test_rows_that_are_no_whole_blocks_are_stored_as_f16_with_a_warning(tmp_path: Path) -> None:
    model = replace(MODEL, feed_forward=WIDE + 2)
    base = tensors(0, model)
    one = as_torch(base)
    plan = plan_of(one, rules=COPY, containers=[container(DType.Q4_1, model)])
    (data,) = execute(plan, one).values()
    check(data, stored(base, model), tmp_path)
    kinds = {t.name: t.tensor_type.name for t in read_back(data, tmp_path).tensors}
    assert {name for name in kinds if kinds[name] == "F16"} == {
        f"blk.{i}.ffn_down.weight" for i in range(LAYERS)
    }
    (warning,) = plan.warnings
    assert "blk.0.ffn_down.weight" in warning


def test_a_missing_tensor_is_named() -> None:
    base = tensors(0)
    del base["model.norm.weight"], base[QUERY]
    with pytest.raises(InvalidInput, match=r"2 tensor.*q_proj.*model\.norm"):
        plan_of(as_torch(base), rules=COPY, containers=[container()])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("lm_head.weight", np.zeros((ROWS + 1, HIDDEN), "f2")),
        ("model.norm.weight", np.zeros((HIDDEN, 1), "f2")),
        ("model.norm.weight", np.zeros(HIDDEN, "i8")),
    ],
)
def test_a_tensor_that_is_not_what_the_configuration_says_is_named(
    name: str, values: Array
) -> None:
    base = {**tensors(0), name: values}
    with pytest.raises(InvalidInput) as caught:
        plan_of(as_torch(base), rules=COPY, containers=[container()])
    assert (caught.value.code, caught.value.where) == ("gguf-tensor", name)


def test_a_tensor_that_has_no_place_is_named() -> None:
    base = {**tensors(0), "model.mm_projector.weight": np.zeros((2, 2), "f2")}
    with pytest.raises(InvalidInput) as caught:
        plan_of(as_torch(base), rules=COPY, containers=[container()])
    assert (caught.value.code, caught.value.where) == ("gguf-tensor", "model.mm_projector.weight")


def test_padded_rows_of_q_cannot_be_turned() -> None:
    base, delta = tensors(0), tensors(1)
    base[QUERY] = base[QUERY][:-1]
    rules = [Rule(match="*", op="add", pad="zero")]
    with pytest.raises(InvalidInput) as caught:
        plan_of(as_torch(base), as_torch(delta), rules=rules, containers=[container()])
    assert (caught.value.code, caught.value.where) == ("gguf-tensor", QUERY)
