"""Inputs that are pinned by their weights digest, in whatever container they come."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.support.builds import pins, sha256
from tests.support.checkpoints import Array, bf16, f16, write_model, write_shards
from tests.support.torch_files import write_torch_legacy, write_torch_zip
from vbuild import inspect
from vbuild.build import Sealed, build, prepare
from vbuild.cli import main
from vbuild.commands.evidence import evidence
from vbuild.errors import InvalidInput, Mismatch, NotLocked, VbuildError
from vbuild.manifest import load_manifest, require_locked
from vbuild.tensors import DType

MANIFEST = """schema = "vbuild/1"
name = "test-model"
[base]
uri = "file:base"
{base}
[[delta]]
uri = "file:delta"
[delta.files]
{delta}
[[apply.rule]]
match = "*"
op = "add"
[output]
max_shard_size = "2KB"
"""


def tensors(seed, scale):
    rng = np.random.default_rng(seed)
    return {f"layers.{i}.w": f16(rng.standard_normal((24, 16)) * scale) for i in range(8)}


@pytest.fixture
def job(tmp_path):
    """``job(base lines)`` writes the manifest; the base is in ``root/base``, as one file."""
    write_model(tmp_path / "base", tensors(1, 1.0))
    write_model(tmp_path / "delta", tensors(2, 0.01))

    def write(base=None):
        digest = inspect(tmp_path / "base", weights_digest=True).weights
        base = f'weights = "{digest}"' if base is None else base
        text = MANIFEST.format(base=base, delta=pins(tmp_path / "delta"))
        (tmp_path / "manifest.toml").write_text(text)
        return tmp_path / "manifest.toml"

    return write


def in_containers(root):
    """The base of ``job`` in other containers and other shards, by name."""
    base = tensors(1, 1.0)
    arrays = {name: array.data for name, array in base.items()}
    write_shards(root / "seven", base, 7)
    for kind, write in (("zip", write_torch_zip), ("legacy", write_torch_legacy)):
        (root / kind).mkdir()
        write(root / kind / "pytorch_model.bin", arrays)
    write_model(root / "one", base)
    (root / "parts").mkdir()
    for i in range(3):
        part = {n: arrays[n] for n in sorted(arrays)[i::3]}
        write_torch_zip(root / "parts" / f"pytorch_model-0000{i + 1}-of-00003.bin", part)
    return ("one", "seven", "zip", "legacy", "parts")


def built(manifest, out, **options):
    return build(prepare(load_manifest(manifest), **options), out, seal=lambda files: Sealed())


def test_any_container_and_sharding_gives_the_same_files(job, tmp_path):
    manifest = job()
    expected = built(manifest, tmp_path / "out").files
    for name in in_containers(tmp_path):
        found = built(manifest, tmp_path / f"out-{name}", base=tmp_path / name)
        assert found.files == expected, name
        assert inspect(tmp_path / name, weights_digest=True).weights in manifest.read_text()


def test_listed_weight_files_need_no_digests_and_others_do(job, tmp_path):
    digest = inspect(tmp_path / "base", weights_digest=True).weights
    listed = f'weights = "{digest}"\n[base.files]\n"model.safetensors" = {{}}\n'
    require_locked(load_manifest(job(listed)))
    built(job(listed), tmp_path / "out")
    (tmp_path / "base" / "config.json").write_text("{}\n")
    with pytest.raises(NotLocked) as caught:
        require_locked(load_manifest(job(listed + '"config.json" = {}\n')))
    assert "config.json" in caught.value.message
    pin = f'"config.json" = {{ sha256 = "{sha256(tmp_path / "base" / "config.json")}" }}\n'
    assert "config.json" in built(job(listed + pin), tmp_path / "out2").files


def test_nothing_but_weights_is_taken_from_a_directory_that_is_not_listed(job, tmp_path):
    (tmp_path / "base" / "config.json").write_text("{}\n")
    assert "config.json" not in built(job(), tmp_path / "out").files


def failing(manifest, **options) -> VbuildError:
    with pytest.raises(VbuildError) as caught:
        prepare(load_manifest(manifest), **options)
    return caught.value


def test_other_weights_are_refused(job, tmp_path):
    manifest = job()
    other = write_model(tmp_path / "other", tensors(3, 1.0))
    error = failing(manifest, base=other)
    assert isinstance(error, Mismatch)
    assert error.code == "weights-mismatch"
    assert error.where == f"{manifest}:5"
    assert error.expected == load_manifest(manifest).manifest.base.weights
    assert error.got == inspect(other, weights_digest=True).weights


@pytest.mark.parametrize("what", ["nothing", "a file"])
def test_a_base_that_is_no_directory_is_never_passed_over(job, tmp_path, what):
    manifest = job()
    gone = tmp_path / "gone"
    (tmp_path / "base").rename(gone)
    if what == "a file":
        (tmp_path / "base").write_bytes((gone / "model.safetensors").read_bytes())
    code, status = ("source-missing", 3) if what == "nothing" else ("not-a-directory", 2)
    assert failing(manifest).code == code
    assert main(["verify", str(manifest)]) == (3 if what == "nothing" else 1)
    assert main(["apply", str(manifest), "--out", str(tmp_path / "out")]) == status
    assert main(["verify", str(manifest), "--base", str(gone)]) == 0


def as_bf16(array: Array) -> np.ndarray:
    """The values rounded to bfloat16, to nearest even, as f32."""
    bits = array.data.astype("<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view("<f4")


@pytest.mark.parametrize("container", ["safetensors", "shards", "torch"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_that_were_rounded_to_bfloat16_are_called_so(job, tmp_path, dtype, container):
    manifest = job()
    store = f16 if dtype == "float16" else bf16
    rounded = {n: store(as_bf16(a)) for n, a in tensors(1, 1.0).items()}
    rounded["position_ids"] = Array(DType.I64, np.arange(3, dtype="<i8"))
    place = tmp_path / "rounded"
    if container == "torch":
        place.mkdir()
        names = [n for n, a in rounded.items() if a.dtype.code == "BF16"]
        arrays = {n: a.data for n, a in rounded.items()}
        write_torch_zip(place / "pytorch_model.bin", arrays, bf16_names=names)
    elif container == "shards":
        write_shards(place, rounded, 3)
    else:
        write_model(place, rounded)
    error = failing(manifest, base=place)
    assert isinstance(error, Mismatch)
    assert error.code == "bf16-rounded"
    assert "transformers 4.33 to 4.46" in error.message


def test_one_value_that_bfloat16_lacks_is_enough_to_say_nothing_of_rounding(job, tmp_path):
    manifest = job()
    rounded = {n: f16(as_bf16(a)) for n, a in tensors(1, 1.0).items()}
    rounded["layers.7.w"].data[23, 15] = 1 + 2**-10
    write_model(tmp_path / "rounded", rounded)
    assert failing(manifest, base=tmp_path / "rounded").code == "weights-mismatch"


def test_a_file_that_changes_after_it_was_weighed_is_caught(job, tmp_path):
    prepared = prepare(load_manifest(job()))
    path = tmp_path / "base" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Mismatch) as caught:
        build(prepared, tmp_path / "out", seal=lambda files: Sealed())
    assert caught.value.code == "file-changed"
    assert not (tmp_path / "out").exists()


def test_a_delta_may_be_pinned_by_its_weights_too(job, tmp_path):
    manifest = job()
    expected = built(manifest, tmp_path / "out").files
    digest = inspect(tmp_path / "delta", weights_digest=True).weights
    text = MANIFEST.replace("[delta.files]\n", "").format(
        base="[base.files]\n" + pins(tmp_path / "base"), delta=f'weights = "{digest}"'
    )
    manifest.write_text(text)
    write_shards(tmp_path / "delta5", tensors(2, 0.01), 5)
    found = built(manifest, tmp_path / "out2", deltas=[tmp_path / "delta5"])
    assert found.files == expected


def test_an_input_of_the_hub_is_not_pinned_by_weights_alone(job, tmp_path, monkeypatch):
    manifest = job()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    uri = "hf://org/repo@" + "0" * 40
    manifest.write_text(manifest.read_text().replace("file:base", uri))
    error = failing(manifest)
    assert isinstance(error, InvalidInput)
    assert error.code == "weights-remote"
    built(manifest, tmp_path / "out", base=tmp_path / "base")


def test_the_provenance_has_the_weights_and_the_files(job, tmp_path):
    manifest = job()
    prepared = prepare(load_manifest(manifest))
    sealed = evidence(prepared, {"model.safetensors": "0" * 64}, None)
    statement = json.loads(sealed.attest["provenance.json"])
    found = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    digests = [entry.get("digest", {}) for entry in found]
    assert {"vbuildWeightsV1": load_manifest(manifest).manifest.base.weights} in digests
    assert {"sha256": sha256(tmp_path / "base" / "model.safetensors")} in digests
