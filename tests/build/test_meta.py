"""Meta's original files as a base, or as a delta: the same model as from Hugging Face's files."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vbuild
from tests.support.builds import Job, read_safetensors, write_safetensors
from tests.support.meta_files import Meta, hugging_face, make_meta, write_meta
from tests.support.sentencepiece_models import small_model
from tests.support.torch_files import write_torch_zip
from vbuild.build import Built, Sealed, build, prepare
from vbuild.errors import InvalidInput, VbuildError
from vbuild.manifest import load_manifest

CONFIG = b'{"architectures": ["LlamaForCausalLM"], "vocab_size": 320}\n'
EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
CUT = 'max_shard_size = "60KB"'


def delta_of(model: Meta, rows: int = 0) -> dict[str, np.ndarray]:
    """Small changes, under Hugging Face's names; ``rows`` more of the embeddings."""
    rng = np.random.default_rng(7)
    delta = {}
    for name, values in hugging_face(model).items():
        more = rows if name in EMBEDDINGS else 0
        shape = (values.shape[0] + more, *values.shape[1:])
        delta[name] = (rng.standard_normal(shape) * 0.002).astype(np.float16)
    return delta


def job_of(root: Path, model: Meta, preset: str = "fastchat-v1.1", output: str = CUT) -> Job:
    """A job with a Hugging Face base; :func:`with_meta` puts Meta's in its place."""
    rows = 1 if preset == "fastchat-v0" else 0
    return Job(
        root,
        base=hugging_face(model),
        delta=delta_of(model, rows),
        rules=f'[apply]\npreset = "{preset}"\n[config]\nsource = "delta"\n',
        output=output,
        extra={"delta": {"config.json": CONFIG}},
    )


def with_meta(job: Job, model: Meta, files: int, side: str = "base", **options: Any) -> Job:
    job.write()
    for old in (job.root / side).iterdir():
        old.unlink()
    write_meta(job.root / side, model, files, **options)
    job.pin()
    return job


def make(job: Job) -> Built:
    return build(prepare(load_manifest(job.manifest)), job.out, seal=lambda files: Sealed())


def made_of(job: Job) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for path in sorted(job.out.glob("*.safetensors")):
        found |= read_safetensors(path)
    return found


def assert_sum(job: Job) -> None:
    got, expected = made_of(job), job.expected()
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert got[name].tobytes() == values.tobytes(), name


SHAPES = {
    "1_file": (1, {}, {}),
    "2_files": (2, {}, {}),
    "4_files": (4, {}, {}),
    "8_files": (8, {}, {}),
    "8_files_grouped": (8, {"dim": 128, "heads": 16, "kv_heads": 8}, {}),
    "1_file_grouped": (1, {"kv_heads": 2}, {}),
    "13b": (2, {"dim": 160, "heads": 40, "wide": 432}, {"one_storage": True}),
    "llama_3": (2, {"kv_heads": 2}, {"vocabulary_by_rows": True}),
}


@pytest.mark.parametrize(("files", "measures", "options"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("preset", ["fastchat-v0", "fastchat-v1.1"])
def test_the_files_are_those_of_a_build_from_hugging_faces(
    tmp_path, files, measures, options, preset
):
    model = make_meta(**measures)
    found = {}
    for container, shards in (("safetensors", 1), ("torch", 3)):
        job = job_of(tmp_path / container, model, preset)
        job.container, job.shards = container, shards
        found[container] = make(job.write()).files
    job = with_meta(job_of(tmp_path / "meta", model, preset), model, files, **options)
    found["meta"] = make(job).files
    assert_sum(job)
    assert len(found["meta"]) > 3
    assert found["meta"] == found["safetensors"] == found["torch"]


@pytest.mark.parametrize("files", [1, 2])
def test_a_delta_may_be_metas_too(tmp_path, files):
    base, change = make_meta(), make_meta(seed=1, scale=0.001)
    outputs = set()
    for side in ("neither", "delta", "base", "both"):
        job = job_of(tmp_path / side, base)
        job.delta = hugging_face(change)
        job.write()
        if side in ("delta", "both"):
            with_meta(job, change, files, "delta")
            (job.root / "delta/config.json").write_bytes(CONFIG)
        if side in ("base", "both"):
            for old in (job.root / "base").iterdir():
                old.unlink()
            write_meta(job.root / "base", base, files)
        job.pin()
        outputs.add(tuple(make(job).files.items()))
        assert_sum(job)
    assert len(outputs) == 1


def test_without_a_limit_the_model_is_not_cut_as_metas_files_are(tmp_path):
    model = make_meta()
    job = with_meta(job_of(tmp_path, model, output=""), model, 2)
    assert [n for n in make(job).files if n.endswith("safetensors")] == ["model.safetensors"]


def test_every_byte_of_every_file_is_verified(tmp_path):
    """A change in a norm's copy, in the frequencies, in the directory of the archive, anywhere."""
    model = make_meta(layers=1)
    job = with_meta(job_of(tmp_path, model), model, 2)
    for name in ("consolidated.01.pth", "consolidated.00.pth", "params.json"):
        path = tmp_path / "base" / name
        whole = path.read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 37)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(VbuildError) as caught:
                make(job)
            assert caught.value.code == "digest-mismatch", (name, at)
            assert f"base/{name}" in caught.value.message
        path.write_bytes(whole)
    make(job)


# Configuration and tokenizer


def plain(root: Path, model: Meta, files: int = 1, **options: Any) -> Path:
    """A manifest that builds nothing but the base."""
    write_meta(root / "base", model, files, **options)
    (root / "base/tokenizer.model").write_bytes(small_model(model.vocab))
    path = root / "manifest.toml"
    path.write_text(
        'schema = "vbuild/1"\nname = "m"\n[base]\nuri = "file:base"\n[tokenizer]\nsource = "base"\n'
    )
    vbuild.lock(path)
    return path


def config_of(manifest: Path) -> dict[str, Any]:
    out = manifest.parent / "out"
    vbuild.apply(manifest, out=out, unsigned=True)
    config: dict[str, Any] = json.loads((out / "config.json").read_text())
    return config


def test_lock_finds_metas_files_and_their_tokenizer(tmp_path):
    manifest = plain(tmp_path, make_meta(), 2)
    files = load_manifest(manifest).manifest.base.files
    assert list(files) == [
        "consolidated.00.pth",
        "consolidated.01.pth",
        "params.json",
        "tokenizer.model",
    ]
    assert vbuild.lock(manifest, check=True).problems == ()


def test_a_configuration_is_made_of_the_parameters(tmp_path):
    config = config_of(plain(tmp_path, make_meta(kv_heads=4)))
    assert config == {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 64,
        "intermediate_size": 96,
        "max_position_embeddings": 2048,
        "model_type": "llama",
        "num_attention_heads": 8,
        "num_hidden_layers": 2,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vocab_size": 320,
    }
    generation = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert generation == {"bos_token_id": 1, "eos_token_id": 2}


def test_the_tokenizer_model_is_the_same_and_gets_the_file_that_readers_need(tmp_path):
    config_of(plain(tmp_path, make_meta()))
    made = (tmp_path / "out/tokenizer.model").read_bytes()
    assert made == (tmp_path / "base/tokenizer.model").read_bytes()
    config = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "LlamaTokenizer"
    assert config["add_bos_token"] is True


def test_a_configuration_that_is_listed_is_taken_and_none_is_made(tmp_path):
    manifest = plain(tmp_path, make_meta())
    (tmp_path / "base/config.json").write_bytes(CONFIG)
    text = re.sub(r"\[base\.files\].*?(?=\[tok)", "", manifest.read_text(), flags=re.DOTALL)
    manifest.write_text(text)
    vbuild.lock(manifest)
    assert config_of(manifest) == json.loads(CONFIG)
    assert not (tmp_path / "out/generation_config.json").exists()


def test_the_manifests_type_and_pieces_stand_in_the_made_configuration(tmp_path):
    manifest = plain(tmp_path, make_meta())
    text = manifest.read_text() + (
        '[[tokenizer.add]]\npiece = "[PAD]"\ntype = "control"\nrole = "pad"\n'
        '[output]\ndtype = "float32"\n'
    )
    delta = {n: np.zeros((321, 64), np.float16) for n in EMBEDDINGS}
    (tmp_path / "delta").mkdir()
    write_safetensors(tmp_path / "delta/model.safetensors", delta)
    text = text.replace(
        "[tokenizer]\n",
        '[[delta]]\nuri = "file:delta"\n[apply]\n[[apply.rule]]\nmatch = '
        f'{json.dumps(EMBEDDINGS)}\nop = "add"\npad = "zero"\n[[apply.rule]]\nmatch = "*"\n'
        'op = "copy-base"\n[tokenizer]\n',
    )
    manifest.write_text(text)
    vbuild.lock(manifest)
    config = config_of(manifest)
    assert (config["vocab_size"], config["pad_token_id"]) == (321, 320)
    assert config["torch_dtype"] == "float32"


LLAMA_3 = {"rope_theta": 500000.0, "norm_eps": 1e-05}


@pytest.mark.parametrize(
    ("changes", "vocab", "context", "pieces"),
    [
        ({}, 320, 2048, (1, 2)),
        ({"norm_eps": 1e-05}, 320, 4096, (1, 2)),
        ({"norm_eps": 1e-05, "rope_theta": 1000000}, 320, 16384, (1, 2)),
        (LLAMA_3, 128256, 8192, (128000, 128001)),
    ],
    ids=["llama_1", "llama_2", "code_llama", "llama_3"],
)
def test_the_context_follows_from_the_generation(tmp_path, changes, vocab, context, pieces):
    model = make_meta(dim=16, heads=2, wide=8, layers=1, vocab=vocab)
    write_meta(tmp_path / "base", model, 1, params={**model.params, **changes})
    manifest = tmp_path / "manifest.toml"
    manifest.write_text('schema = "vbuild/1"\nname = "m"\n[base]\nuri = "file:base"\n')
    vbuild.lock(manifest)
    config = config_of(manifest)
    assert config["max_position_embeddings"] == context
    assert (config["bos_token_id"], config["eos_token_id"]) == pieces
    assert config.get("rope_theta") == changes.get("rope_theta")


def test_a_key_that_may_change_the_model_needs_a_configuration_of_somebody_elses(tmp_path):
    model = make_meta()
    params = {**model.params, "use_scaled_rope": True}
    manifest = plain(tmp_path, model, params=params)
    with pytest.raises(InvalidInput) as caught:
        config_of(manifest)
    assert caught.value.code == "meta-config"
    assert "use_scaled_rope" in caught.value.message
    job = with_meta(job_of(tmp_path / "job", model), model, 1, params=params)
    assert hashlib.sha256(CONFIG).hexdigest() == make(job).files["config.json"]


# What people see


@pytest.mark.parametrize("files", [1, 4])
def test_the_weights_digest_is_that_of_the_converted_model(tmp_path, files):
    model = make_meta()
    write_meta(tmp_path / "meta", model, files, one_storage=True)
    (tmp_path / "hf").mkdir()
    write_torch_zip(tmp_path / "hf/pytorch_model.bin", hugging_face(model))
    write_safetensors(tmp_path / "model.safetensors", hugging_face(model))
    paths = (tmp_path / "meta", tmp_path / "hf", tmp_path / "model.safetensors")
    assert len({vbuild.inspect(path, weights_digest=True).weights for path in paths}) == 1
