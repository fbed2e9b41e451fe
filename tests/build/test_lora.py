"""Adapters merged by a build: the defined order of numerics.md, the same bits on every level."""

from __future__ import annotations

import numpy as np
import pytest

import vbuild
from tests.support.adapters import PREFIX, factors, write_adapter
from tests.support.builds import read_safetensors, write_safetensors
from tests.support.machine_kernels import product
from vbuild._core import Kernels, cpu_features
from vbuild.errors import InvalidInput

Q = "model.layers.0.self_attn.q_proj"
V = "model.layers.0.self_attn.v_proj"
EMBED = "model.embed_tokens"
NORM = "model.norm.weight"


def base_tensors(seed=1, dtype="float16"):
    rng = np.random.default_rng(seed)
    shapes = {f"{Q}.weight": (24, 40), f"{V}.weight": (40, 24), f"{EMBED}.weight": (30, 24)}
    tensors = {n: (rng.standard_normal(s) * 0.1).astype(dtype) for n, s in shapes.items()}
    return {**tensors, NORM: np.ones(24, dtype), "lm_head.weight": tensors[f"{EMBED}.weight"][::-1]}


def manifest(root, *, rules="", output="", deltas=("lora",), head="", **tables):
    text = 'schema = "vbuild/1"\nname = "merged"\n[base]\nuri = "file:base"\n'
    for delta in deltas:
        text += f'[[delta]]\nuri = "file:{delta}"\nkind = "lora"\n'
    path = root / "manifest.toml"
    path.write_text(f"{text}{rules}\n[output]\n{output}\n")
    vbuild.lock(path)
    return path


def built(root, *, jobs=None, out="out", **options):
    path = manifest(root, **options)
    applied = vbuild.apply(path, out=root / out, unsigned=True, jobs=jobs)
    assert applied.warnings == ()
    return read_safetensors(root / out / "model.safetensors")


def write_base(root, tensors):
    (root / "base").mkdir(parents=True)
    write_safetensors(root / "base" / "model.safetensors", tensors)


def change(tensors, module, scale):
    """The update of a linear layer in the order of numerics.md, by numpy alone."""
    a, b = (tensors[f"{PREFIX}{module}.lora_{side}.weight"] for side in "AB")
    return product(b.astype("<f4"), a.astype("<f4"), np.float32(scale))


def rounded(base, update):
    """One addition in f32, one rounding to the base's type."""
    return (base.astype("<f4") + update).astype(base.dtype)


def same(made, wanted):
    assert sorted(made) == sorted(wanted)
    for name, expected in wanted.items():
        assert made[name].dtype == expected.dtype, name
        assert made[name].tobytes() == np.ascontiguousarray(expected).tobytes(), name


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("factor_dtype", ["float16", "float32"])
def test_an_update_is_the_product_in_f32_and_one_rounding(tmp_path, dtype, factor_dtype):
    base = base_tensors(dtype=dtype)
    lora = factors(Q, (24, 40), dtype=factor_dtype) | factors(V, (40, 24), seed=9, scale=0.3)
    write_base(tmp_path, base)
    write_adapter(tmp_path / "lora", lora)
    wanted = {n: rounded(base[n], change(lora, n[:-7], 4.0)) for n in (f"{Q}.weight", f"{V}.weight")}
    same(built(tmp_path), base | wanted)
    assert not np.array_equal(wanted[f"{Q}.weight"], base[f"{Q}.weight"])


@pytest.mark.parametrize("rank", [1, 3, 7, 64])
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}])
def test_any_rank_and_scale(tmp_path, rank, settings):
    base = base_tensors()
    lora = factors(Q, (24, 40), rank=rank)
    write_base(tmp_path, base)
    write_adapter(tmp_path / "lora", lora, r=rank, **settings)
    scale = 16 / (rank**0.5 if settings else rank)
    name = f"{Q}.weight"
    same(built(tmp_path), base | {name: rounded(base[name], change(lora, Q, scale))})


def test_patterns_of_rank_and_alpha(tmp_path):
    base = base_tensors()
    lora = factors(Q, (24, 40), rank=8) | factors(V, (40, 24))
    write_base(tmp_path, base)
    write_adapter(
        tmp_path / "lora", lora, rank_pattern={"q_proj": 8}, alpha_pattern={r".*\.q_proj": 2}
    )
    made = built(tmp_path)
    for module, scale in ((Q, 0.25), (V, 4.0)):
        name = f"{module}.weight"
        same({name: made[name]}, {name: rounded(base[name], change(lora, module, scale))})


def test_fan_in_fan_out_adds_the_product_turned(tmp_path):
    base = base_tensors()
    lora = factors(Q, (40, 24))
    write_base(tmp_path, base)
    write_adapter(tmp_path / "lora", lora, fan_in_fan_out=True)
    name = f"{Q}.weight"
    same(built(tmp_path), base | {name: rounded(base[name], change(lora, Q, 4.0).T)})


def test_an_embedding_gets_its_product_turned(tmp_path):
    base = base_tensors()
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((4, 30)).astype("<f4"), rng.standard_normal((24, 4)).astype("<f4")
    write_base(tmp_path, base)
    names = [f"{PREFIX}{EMBED}.lora_embedding_{side}" for side in "AB"]
    write_adapter(tmp_path / "lora", dict(zip(names, (a, b), strict=True)))
    name = f"{EMBED}.weight"
    wanted = rounded(base[name], product(b, a, np.float32(4)).T)
    same(built(tmp_path), base | {name: wanted})


def test_a_saved_module_replaces_the_base_s_in_its_type_and_may_have_more_rows(tmp_path):
    base = base_tensors()
    rng = np.random.default_rng(4)
    saved = {
        f"{PREFIX}{EMBED}.weight": rng.standard_normal((37, 24)).astype("<f4"),
        f"{PREFIX}lm_head.modules_to_save.weight": rng.standard_normal((37, 24)).astype("<f2"),
    }
    write_base(tmp_path, base)
    write_adapter(tmp_path / "lora", saved | factors(Q, (24, 40)))
    made = built(tmp_path)
    assert made[f"{EMBED}.weight"].shape == (37, 24)
    same(
        {n: made[n] for n in (f"{EMBED}.weight", "lm_head.weight")},
        {
            f"{EMBED}.weight": saved[f"{PREFIX}{EMBED}.weight"].astype("<f2"),
            "lm_head.weight": saved[f"{PREFIX}lm_head.modules_to_save.weight"],
        },
    )


def test_an_embedding_that_is_saved_and_updated(tmp_path):
    base = base_tensors()
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((4, 33)).astype("<f4"), rng.standard_normal((24, 4)).astype("<f4")
    weight = rng.standard_normal((33, 24)).astype("<f2")
    names = [f"{PREFIX}{EMBED}.{n}" for n in ("lora_embedding_A", "lora_embedding_B")]
    tensors = dict(zip(names, (a, b), strict=True))
    write_base(tmp_path, base)
    write_adapter(tmp_path / "lora", tensors | {f"{PREFIX}{EMBED}.base_layer.weight": weight})
    made = built(tmp_path)[f"{EMBED}.weight"]
    same({"w": made}, {"w": rounded(weight, product(b, a, np.float32(4)).T)})


# ---- chains ----


def two_adapters(root, base):
    loras = [factors(Q, (24, 40), seed=i, scale=0.4) for i in (1, 2)]
    write_base(root, base)
    for i, lora in enumerate(loras):
        write_adapter(root / f"lora{i}", lora)
    return [change(lora, Q, 4.0) for lora in loras]


def test_a_chain_is_rounded_after_each_adapter(tmp_path):
    base = base_tensors()
    first, second = two_adapters(tmp_path, base)
    name = f"{Q}.weight"
    wanted = rounded(rounded(base[name], first), second)
    same(built(tmp_path, deltas=("lora0", "lora1")), base | {name: wanted})


def test_a_chain_with_compute_float32_is_rounded_once_at_the_end(tmp_path):
    base = base_tensors()
    first, second = two_adapters(tmp_path, base)
    name = f"{Q}.weight"
    wanted = ((base[name].astype("<f4") + first) + second).astype("<f2")
    assert not np.array_equal(wanted, rounded(rounded(base[name], first), second))
    rules = (
        '[[apply.rule]]\nmatch = "*"\nop = "merge"\n'
        'on_missing = "copy-base"\ncompute = "float32"\n'
    )
    same(built(tmp_path, deltas=("lora0", "lora1"), rules=rules), base | {name: wanted})


def test_the_second_adapter_changes_what_the_first_has_saved(tmp_path):
    base = base_tensors()
    weight = np.random.default_rng(6).standard_normal((24, 40)).astype("<f2")
    lora = factors(Q, (24, 40), seed=8)
    write_base(tmp_path, base)
    write_adapter(tmp_path / "lora0", {f"{PREFIX}{Q}.weight": weight})
    write_adapter(tmp_path / "lora1", lora)
    wanted = {f"{Q}.weight": rounded(weight, change(lora, Q, 4.0))}
    same(built(tmp_path, deltas=("lora0", "lora1")), base | wanted)


# ---- the same bits everywhere ----


def levels():
    """What this machine has, from portable code upwards."""
    found = ["portable", *cpu_features(), "native"]
    return sorted({level for level in found if level in ("portable", "native", "avx2", "avx512")})


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("jobs", [1, 2])
def test_the_same_bits_at_every_level_and_with_any_number_of_threads(
    tmp_path, monkeypatch, level, jobs
):
    base = base_tensors()
    lora = factors(Q, (24, 40)) | factors(V, (40, 24), seed=9)
    write_base(tmp_path, base)
    write_adapter(tmp_path / "lora", lora)
    monkeypatch.setenv("VBUILD_ISA", level)
    assert Kernels().features is not None
    path = manifest(tmp_path, output='max_shard_size = "2KB"')
    vbuild.apply(path, out=tmp_path / "out", unsigned=True, jobs=jobs)
    made = {}
    for file in sorted((tmp_path / "out").glob("*.safetensors")):
        made |= read_safetensors(file)
    wanted = {f"{m}.weight": rounded(base[f"{m}.weight"], change(lora, m, 4.0)) for m in (Q, V)}
    same(made, base | wanted)


# ---- what does not fit ----


def refused(root, code, **options):
    with pytest.raises(InvalidInput) as caught:
        built(root, **options)
    assert caught.value.code == code
    assert "\n" not in caught.value.message
    return caught.value


def test_case_61_an_adapter_for_what_the_base_does_not_have(tmp_path):
    write_base(tmp_path, base_tensors())
    write_adapter(tmp_path / "lora", factors("model.layers.9.self_attn.q_proj", (24, 40)))
    error = refused(tmp_path, "tensors-disagree")
    assert error.where == "model.layers.9.self_attn.q_proj.weight"
    assert "made for" in str(error.hint)


@pytest.mark.parametrize("settings", [{}, {"fan_in_fan_out": True}])
def test_case_61_an_adapter_for_another_shape(tmp_path, settings):
    write_base(tmp_path, base_tensors())
    write_adapter(tmp_path / "lora", factors(Q, (24, 41)), **settings)
    error = refused(tmp_path, "tensors-disagree")
    assert "[24, 40]" in error.what
    assert "made for another base" in str(error.hint)


def test_a_saved_module_of_another_width_is_refused(tmp_path):
    write_base(tmp_path, base_tensors())
    write_adapter(tmp_path / "lora", {f"{PREFIX}{EMBED}.weight": np.ones((30, 25), "<f2")})
    assert "another base" in str(refused(tmp_path, "tensors-disagree").hint)


def test_a_configuration_has_to_be_listed(tmp_path):
    write_base(tmp_path, base_tensors())
    write_adapter(tmp_path / "lora", factors(Q, (24, 40)))
    path = manifest(tmp_path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "adapter_config.json" not in line))
    with pytest.raises(InvalidInput) as caught:
        vbuild.apply(path, out=tmp_path / "out", unsigned=True)
    assert caught.value.code == "adapter-config"
    assert '"adapter_config.json" = {}' in str(caught.value.hint)


def test_an_addition_cannot_take_a_low_rank_update(tmp_path):
    write_base(tmp_path, base_tensors())
    write_adapter(tmp_path / "lora", factors(Q, (24, 40)))
    rules = '[[apply.rule]]\nmatch = "*"\nop = "add"\non_missing = "copy"\n'
    assert refused(tmp_path, "tensors-disagree", rules=rules).hint == 'take op = "merge" for it'


def test_factors_beyond_what_a_build_keeps_in_memory_are_refused(tmp_path):
    base = {f"{Q}.weight": np.zeros((1, 5000), "<f2")}
    write_base(tmp_path, base)
    deltas = [f"lora{i}" for i in range(9)]
    for delta in deltas:
        write_adapter(tmp_path / delta, factors(Q, (1, 5000), rank=400), r=400)
    error = refused(tmp_path, "too-many-deltas", deltas=deltas)
    assert error.where == f"{Q}.weight"
