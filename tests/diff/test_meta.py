"""Meta's files against the same model in Hugging Face's form: diff, digests, deltas, pins."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.builds import sha256
from tests.support.checkpoints import bf16, f16, write_model
from tests.support.meta_files import Meta, hugging_face, make_meta, write_meta
from vbuild import diff, inspect
from vbuild.build import Sealed, build, prepare
from vbuild.commands.make_delta import make_delta
from vbuild.errors import Mismatch, VbuildError
from vbuild.manifest import load_manifest


@pytest.fixture(scope="module")
def model() -> Meta:
    return make_meta(dim=64, heads=8, kv_heads=4, layers=2)


@pytest.fixture(params=[1, 2, 4])
def sides(request, tmp_path, model):
    write_meta(tmp_path / "meta", model, request.param, one_storage=request.param == 2)
    converted = {name: f16(values) for name, values in hugging_face(model).items()}
    return tmp_path / "meta", write_model(tmp_path / "hf", converted)


def test_there_is_no_difference_and_one_weights_digest(sides):
    found = diff(*sides, weights_digest=True)
    assert found.same
    assert found.weights[0] == found.weights[1] == inspect(sides[1], weights_digest=True).weights


def test_one_changed_element_is_found_where_it_is(sides, tmp_path, model):
    changed = {name: f16(values.copy()) for name, values in hugging_face(model).items()}
    for name, at in (("self_attn.q_proj", (33, 5)), ("mlp.down_proj", (7, 95))):
        changed[f"model.layers.1.{name}.weight"].data[at] += 1
    found = diff(sides[0], write_model(tmp_path / "changed", changed)).comparison
    differ = {p.name: p.measured for p in found.pairs if p.differing}
    assert {name: (m.differing, m.first) for name, m in differ.items()} == {
        "model.layers.1.self_attn.q_proj.weight": (1, 33 * 64 + 5),
        "model.layers.1.mlp.down_proj.weight": (1, 7 * 96 + 95),
    }


def target(tmp_path, model):
    rng = np.random.default_rng(9)
    tuned = {
        name: f16(values + rng.standard_normal(values.shape) * 1e-3)
        for name, values in hugging_face(model).items()
    }
    return write_model(tmp_path / "tuned", tuned)


@pytest.mark.parametrize("op", ["add", "xor"])
def test_a_delta_from_metas_files_gives_the_target_back(sides, tmp_path, model, op):
    tuned = target(tmp_path, model)
    found = make_delta(sides[0], tuned, op=op, out=tmp_path / "d").made
    prepared = prepare(load_manifest(tmp_path / "d" / "manifest.toml"))
    made = build(prepared, tmp_path / "out", seal=lambda files: Sealed())
    assert made.weights == found.weights
    assert diff(tmp_path / "out", tuned).same == (op == "xor")


def test_a_delta_that_pins_weights_takes_metas_files_for_hugging_faces(sides, tmp_path, model):
    meta, hf = sides
    make_delta(hf, target(tmp_path, model), op="xor", out=tmp_path / "d", pin_weights=True)
    manifest = tmp_path / "d" / "manifest.toml"
    with pytest.raises(VbuildError) as caught:
        prepare(load_manifest(manifest), meta)
    assert caught.value.code == "weights-unpinned-file"  # its params.json
    pin = f'[base.files]\n"params.json" = {{ sha256 = "{sha256(meta / "params.json")}" }}\n'
    manifest.write_text(manifest.read_text().replace("\n[[delta]]", f"{pin}\n[[delta]]", 1))
    prepared = prepare(load_manifest(manifest), meta)
    build(prepared, tmp_path / "out", seal=lambda files: Sealed())
    assert diff(tmp_path / "out", tmp_path / "tuned").same


def test_a_conversion_that_rounds_to_bfloat16_is_called_so(sides, tmp_path, model):
    make_delta(sides[0], target(tmp_path, model), op="xor", out=tmp_path / "d", pin_weights=True)
    rounded = {name: bf16(values) for name, values in hugging_face(model).items()}
    write_model(tmp_path / "rounded", rounded)
    with pytest.raises(Mismatch) as caught:
        prepare(load_manifest(tmp_path / "d" / "manifest.toml"), tmp_path / "rounded")
    assert caught.value.code == "bf16-rounded"
