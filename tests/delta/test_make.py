"""A delta from base to target, applied again by the ordinary build."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from tests.support.builds import sha256
from tests.support.checkpoints import Array, bf16, f16, f32, write_model, write_shards
from tests.support.machine_kernels import differences
from tests.support.meta_files import hugging_face, make_meta, write_meta
from tests.support.torch_files import write_torch_zip
from vbuild.build import Sealed, build, prepare
from vbuild.commands.make_delta import make_delta
from vbuild.delta import publish
from vbuild.diff import compare, open_side
from vbuild.errors import InvalidInput, Mismatch, VbuildError
from vbuild.files import read_small
from vbuild.manifest import load_manifest
from vbuild.tensors import DType


def models(seed=0, sigma=1e-3):
    """Base and target with everything that deltas have in the field."""
    rng = np.random.default_rng(seed)
    base, target = {}, {}
    shapes = {"model.embed_tokens.weight": (30, 8), "lm_head.weight": (30, 8)}
    shapes |= {f"model.layers.{i}.mlp.up_proj.weight": (64, 8) for i in range(3)}
    for name, shape in shapes.items():
        values = (rng.standard_normal(shape) * 0.02).astype(np.float16)
        tuned = (values + rng.standard_normal(shape) * sigma).astype(np.float16)
        if shape[0] == 30:
            tuned = np.concatenate([tuned, rng.standard_normal((2, 8)).astype(np.float16)])
        base[name], target[name] = f16(values), f16(tuned)
    for i in range(3):
        base[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = f32(rng.standard_normal(4))
    target["model.mm_projector.weight"] = f16(rng.standard_normal((3, 3)))
    ids = Array(DType.I64, np.arange(7, dtype="<i8"))
    base["position_ids"] = target["position_ids"] = ids
    return base, target


@pytest.fixture
def sides(tmp_path):
    base, target = models()
    return write_model(tmp_path / "base", base), write_model(tmp_path / "tuned", target)


def built(manifest, out, **options):
    prepared = prepare(load_manifest(manifest), **options)
    assert prepared.plan.warnings == ()
    return build(prepared, out, seal=lambda files: Sealed())


def same(a, b):
    return compare(open_side(a, "a"), open_side(b, "b")).same


@pytest.mark.parametrize("limit", ["400", "5GB"])
def test_an_xor_delta_gives_the_target_back_bit_for_bit(sides, tmp_path, limit):
    base, target = sides
    found = make_delta(base, target, op="xor", out=tmp_path / "d", max_shard_size=limit)
    assert not any(measured.differing for measured in found.made.back.values())
    made = built(tmp_path / "d" / "manifest.toml", tmp_path / "out")
    assert same(target, tmp_path / "out")
    assert made.weights == found.made.weights == found.made.target_weights


def test_an_add_delta_gives_what_its_manifest_pins_and_what_was_reported(sides, tmp_path):
    base, target = sides
    found = make_delta(base, target, op="add", out=tmp_path / "d")
    made = built(tmp_path / "d" / "manifest.toml", tmp_path / "out")  # its pins are enforced
    assert made.weights == found.made.weights != found.made.target_weights
    comparison = compare(open_side(tmp_path / "out", "a"), open_side(target, "b"))
    assert {p.name: p.measured for p in comparison.pairs} == found.made.back


def test_an_add_delta_is_numpys_difference_and_sum(tmp_path):
    rng = np.random.default_rng(5)
    base = (rng.standard_normal((200, 50)) * 0.02).astype(np.float16)
    target = (base + rng.standard_normal(base.shape) * 1e-3).astype(np.float16)
    write_model(tmp_path / "base", {"w": f16(base)})
    write_model(tmp_path / "t", {"w": f16(target)})
    found = make_delta(tmp_path / "base", tmp_path / "t", op="add", out=tmp_path / "d").made
    delta = target - base  # numpy rounds f16 once, to nearest even
    stored = open_side(tmp_path / "d" / "model.safetensors", "d").checkpoint.tensors["w"]
    data = (tmp_path / "d" / "model.safetensors").read_bytes()[stored.offset :]
    assert data == delta.tobytes()
    again = (base + delta).view("<u2").ravel()
    expected = differences([(0, again, target.view("<u2").ravel())])
    got = found.back["w"]
    assert (got.differing, got.max_ulp, got.max_abs) == (
        expected.count,
        expected.max_ulp,
        expected.max_abs,
    )
    assert got.differing > 0
    assert found.elements == base.size


def test_the_manifest_is_the_same_whoever_makes_it_and_when(sides, tmp_path):
    base, target = sides
    make_delta(base, target, op="add", out=tmp_path / "d", jobs=1)
    first = {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()}
    make_delta(base, target, op="add", out=tmp_path / "d", jobs=2, force=True)
    assert {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()} == first
    text = first["manifest.toml"].decode()
    assert 'uri = "file:../base"' in text
    assert str(tmp_path) not in text


def test_containers_and_shards_of_base_and_target_change_nothing_of_the_delta(tmp_path):
    base, target = models()
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "t", target)
    write_shards(tmp_path / "t3", target, 3)
    (tmp_path / "tb").mkdir()
    write_torch_zip(tmp_path / "tb" / "pytorch_model.bin", {n: a.data for n, a in target.items()})
    deltas = []
    for i, name in enumerate(("t", "t3", "tb")):
        out = tmp_path / f"d{i}"
        make_delta(tmp_path / "base", tmp_path / name, op="add", out=out, name="x")
        deltas.append({p.name: p.read_bytes() for p in out.iterdir()})
    assert deltas[0] == deltas[1] == deltas[2]


@pytest.mark.parametrize(
    ("base", "target"),
    [(f16, bf16), (f32, f16), (f16, f32), (bf16, f32)],
    ids=["f16-bf16", "f32-f16", "f16-f32", "bf16-f32"],
)
def test_types_that_differ_are_added_in_the_targets(tmp_path, base, target):
    rng = np.random.default_rng(1)
    values = rng.integers(-8, 8, (20, 4)) / 8
    changed = values + rng.integers(-2, 3, (20, 4)) / 8
    write_model(tmp_path / "base", {"w": base(values)})
    write_model(tmp_path / "t", {"w": target(changed)})
    found = make_delta(tmp_path / "base", tmp_path / "t", op="add", out=tmp_path / "d")
    assert not any(m.differing for m in found.made.back.values())
    built(tmp_path / "d" / "manifest.toml", tmp_path / "out")
    assert same(tmp_path / "t", tmp_path / "out")


def test_configuration_and_tokenizer_are_the_targets(sides, tmp_path):
    base, target = sides
    (base / "config.json").write_text('{"vocab_size": 30}\n')
    (target / "config.json").write_text('{"vocab_size": 32}\n')
    (target / "special_tokens_map.json").write_text('{"pad_token": "[PAD]"}\n')
    (target / "notes.txt").write_text("not for the delta\n")
    make_delta(base, target, op="add", out=tmp_path / "d")
    made = built(tmp_path / "d" / "manifest.toml", tmp_path / "out")
    names = {p.name for p in (tmp_path / "d").iterdir()}
    assert names >= {"config.json", "special_tokens_map.json", "manifest.toml"}
    assert "notes.txt" not in names
    for name in ("config.json", "special_tokens_map.json"):
        assert (tmp_path / "out" / name).read_bytes() == (target / name).read_bytes()
    assert made.files["config.json"] == sha256(target / "config.json")


def test_the_delta_can_be_moved_with_its_base_given_by_option(sides, tmp_path):
    base, target = sides
    make_delta(base, target, op="xor", out=tmp_path / "d", base_uri="hf://org/base@main")
    moved = tmp_path / "elsewhere" / "d"
    shutil.copytree(tmp_path / "d", moved)
    built(moved / "manifest.toml", tmp_path / "out", base=base)
    assert same(target, tmp_path / "out")


def test_single_files_will_do(tmp_path):
    base, target = models()
    write_model(tmp_path / "b", base)
    write_model(tmp_path / "t", target)
    one, other = tmp_path / "b" / "base.safetensors", tmp_path / "t" / "tuned.safetensors"
    (tmp_path / "b" / "model.safetensors").rename(one)
    (tmp_path / "t" / "model.safetensors").rename(other)
    found = make_delta(one, other, op="xor", out=tmp_path / "d")
    assert found.wanted.name == "tuned"
    built(tmp_path / "d" / "manifest.toml", tmp_path / "out")
    assert same(other, tmp_path / "out")


def test_sums_stand_beside_the_delta(sides, tmp_path):
    base, target = sides
    found = make_delta(base, target, op="add", out=tmp_path / "d").made
    sums = (tmp_path / "d.attest" / "SHA256SUMS").read_text()
    assert sums == "".join(f"{sha256(p)}  {p.name}\n" for p in sorted((tmp_path / "d").iterdir()))
    assert dict(found.files) == {p.name: sha256(p) for p in (tmp_path / "d").iterdir()}


def failing(tmp_path, *arguments, **options) -> VbuildError:
    """The error of a delta that cannot be made, and nothing of it must be left."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises(VbuildError) as caught:
        make_delta(*arguments, **options)
    assert sorted(tmp_path.iterdir()) == before
    return caught.value


def test_an_output_that_exists_is_replaced_by_force_only(sides, tmp_path):
    base, target = sides
    make_delta(base, target, op="add", out=tmp_path / "d")
    assert failing(tmp_path, base, target, op="add", out=tmp_path / "d").code == "output-exists"
    make_delta(base, target, op="xor", out=tmp_path / "d", force=True)
    (tmp_path / "d" / "mine.txt").write_text("keep me")
    error = failing(tmp_path, base, target, op="add", out=tmp_path / "d", force=True)
    assert error.code == "output-not-ours"


@pytest.mark.parametrize("place", ["base", "tuned", "base/d", "tuned/d"])
def test_an_output_in_an_input_is_refused(sides, tmp_path, place):
    assert failing(tmp_path, *sides, op="add", out=tmp_path / place).code == "output-in-input"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"name": "no/name"}, "bad-name"),
        ({"max_shard_size": "lots"}, "usage"),
        ({"base_uri": "gopher://x"}, "unknown-scheme"),
    ],
)
def test_what_no_manifest_can_have_is_refused(sides, tmp_path, options, code):
    assert failing(tmp_path, *sides, op="add", out=tmp_path / "d", **options).code == code


def test_a_difference_that_is_not_finite_is_an_error_and_xor_has_none(tmp_path):
    write_model(tmp_path / "base", {"w": f16([-60000.0, 1.0])})
    write_model(tmp_path / "t", {"w": f16([60000.0, 1.0])})
    error = failing(tmp_path, tmp_path / "base", tmp_path / "t", op="add", out=tmp_path / "d")
    assert (error.code, error.where) == ("nonfinite-result", "w")
    assert "--op xor" in error.hint
    make_delta(tmp_path / "base", tmp_path / "t", op="xor", out=tmp_path / "d")


def test_padded_embeddings_set_the_rows_of_the_tokenizer(tmp_path):
    from tests.support.sentencepiece_models import small_model

    write_model(tmp_path / "base", {"model.embed_tokens.weight": f16(np.ones((400, 4)))})
    write_model(tmp_path / "t", {"model.embed_tokens.weight": f16(np.zeros((448, 4)))})
    (tmp_path / "t" / "tokenizer.model").write_bytes(small_model(vocab_size=400))
    make_delta(tmp_path / "base", tmp_path / "t", op="xor", out=tmp_path / "d")
    assert "rows = 448\n" in (tmp_path / "d" / "manifest.toml").read_text()
    built(tmp_path / "d" / "manifest.toml", tmp_path / "out")


def test_an_input_that_changes_while_the_delta_is_made_is_caught(sides, tmp_path, monkeypatch):
    base, target = sides
    path = base / "model.safetensors"
    weigh = publish.weigh

    def then_change(*args, **kwargs):
        found = weigh(*args, **kwargs)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        stat = path.stat()
        path.write_bytes(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return found

    monkeypatch.setattr(publish, "weigh", then_change)
    error = failing(tmp_path, base, target, op="add", out=tmp_path / "d")
    assert isinstance(error, Mismatch)
    assert error.code in ("file-changed", "digest-mismatch")


def test_a_file_of_the_target_that_is_too_large_to_be_a_configuration_is_refused(sides, tmp_path):
    base, target = sides
    with (target / "config.json").open("wb") as f:
        f.truncate(65 << 20)
    error = failing(tmp_path, base, target, op="add", out=tmp_path / "d")
    assert isinstance(error, InvalidInput)
    with pytest.raises(InvalidInput):
        read_small(target / "config.json", "config.json")


def test_a_base_in_metas_files_that_is_pinned_by_weights_may_be_cut_otherwise(tmp_path):
    model = make_meta()
    for files in (1, 2):
        write_meta(tmp_path / f"meta{files}", model, files)
    values = {name: f16(array + 1) for name, array in hugging_face(model).items()}
    target = write_model(tmp_path / "target", values)
    delta = tmp_path / "d"
    make_delta(tmp_path / "meta2", target, op="xor", out=delta, pin_weights=True)
    manifest = load_manifest(delta / "manifest.toml")
    assert list(manifest.manifest.base.files) == ["params.json"]
    for files in (1, 2):
        prepared = prepare(manifest, base=tmp_path / f"meta{files}")
        build(prepared, tmp_path / f"out{files}", seal=lambda _: Sealed())
        assert compare(open_side(tmp_path / f"out{files}", "a"), open_side(target, "b")).same
