"""The main job, from two checkpoints and a manifest to a signed model, on a small LLaMA.

What must come out is computed here by numpy and hashlib; nothing is read with vbuild.
"""

import json
import os
import shutil
import stat

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor

import vbuild
from tests.support.commands import digests, load_safetensors, run_vbuild, weights_digest
from tests.support.llama import (
    PAD,
    expected_sum,
    make_base,
    make_delta_v0,
    make_delta_v1_1,
    manifest_text,
    round_to_bfloat16,
    safetensors_bytes,
    write_safetensors,
    write_torch,
)
from vbuild._core import cpu_features
from vbuild.errors import InvalidInput, Mismatch

VOCAB = 320
SHARDS = 'max_shard_size = "100KB"'


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A locked v0 job, and what it must give."""
    top = tmp_path_factory.mktemp("job")
    base = make_base(top / "base", vocab=VOCAB)
    delta = make_delta_v0(top / "delta", base)
    (top / "m.toml").write_text(manifest_text("mini-vicuna", output=SHARDS))
    vbuild.lock(top / "m.toml")
    return top, base, expected_sum(base.tensors, delta)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return tmp_path_factory.mktemp("config")


@pytest.fixture(scope="module")
def built(job, config):
    """The published model of ``job``, signed with a key made on first use."""
    out = job[0] / "out"
    applied = vbuild.apply(job[0] / "m.toml", out=out, environment=environment(config))
    assert applied.fingerprint is not None
    return out


def environment(config):
    return {"XDG_CONFIG_HOME": str(config), "HOME": "/nonexistent"}


def same_bits(a, b):
    assert a.keys() == b.keys()
    return all(
        a[n].shape == b[n].shape and a[n].astype("<f2").tobytes() == b[n].astype("<f2").tobytes()
        for n in a
    )


# ---- what comes out ----


def test_every_tensor_is_numpy_s_sum_in_float16(job, built):
    _, base, expected = job
    made = load_safetensors(built)
    assert same_bits(made, expected)
    assert made["lm_head.weight"].shape[0] == VOCAB + 1
    assert any("inv_freq" in name for name in made), "both sides have it, so it is added"
    assert len(list(built.glob("*.safetensors"))) > 1
    norm = "model.norm.weight"
    assert np.any(made[norm] != base.tensors[norm])


def test_a_new_row_is_zero_plus_the_delta_s(job, built):
    _, _, expected = job
    made = load_safetensors(built)["model.embed_tokens.weight"]
    assert np.array_equal(made[VOCAB], expected["model.embed_tokens.weight"][VOCAB])
    assert np.any(made[VOCAB])


def test_the_weights_digest_is_the_one_that_hashlib_gives(job, built):
    top, _, expected = job
    digest = weights_digest(expected)
    assert vbuild.inspect(built, weights_digest=True).weights == digest
    pinned = top / "pinned.toml"
    text = (top / "m.toml").read_text()
    pinned.write_text(text.replace("[output]\n", f'[output]\nweights = "{digest}"\n'))
    assert vbuild.apply(pinned, out=top / "again", unsigned=True).built.weights == digest


def test_the_index_lists_every_tensor_once(built):
    index = json.loads((built / "model.safetensors.index.json").read_text())
    made = load_safetensors(built)
    assert index["weight_map"].keys() == made.keys()
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in made.values())


def test_pieces_rows_and_configuration_agree(built):
    model = SentencePieceProcessor(model_file=str(built / "tokenizer.model"))
    assert model.piece_size() == VOCAB + 1
    assert model.id_to_piece(VOCAB) == PAD
    assert model.is_control(VOCAB)
    assert json.loads((built / "added_tokens.json").read_text()) == {PAD: VOCAB}
    config = json.loads((built / "config.json").read_text())
    assert config["vocab_size"] == VOCAB + 1
    assert config["pad_token_id"] == VOCAB
    rows = {t.shape[0] for n, t in load_safetensors(built).items() if "embed" in n or "head" in n}
    assert rows == {VOCAB + 1}


def test_the_configuration_changes_in_two_values_only(job, built):
    before = (job[0] / "delta" / "config.json").read_text().split("\n")
    after = (built / "config.json").read_text().split("\n")
    changed = [b for a, b in zip(before, after, strict=True) if a != b]
    assert changed == [f'  "pad_token_id": {VOCAB},']


def test_what_lies_beside_the_model_lists_its_files(built):
    attest = built.with_name("out.attest")
    lines = (attest / "SHA256SUMS").read_text().splitlines()
    assert dict(reversed(line.split("  ", 1)) for line in lines) == digests(built)
    provenance = json.loads((attest / "provenance.json").read_text())
    subjects = {s["name"]: s["digest"]["sha256"] for s in provenance["subject"]}
    assert digests(built).items() <= subjects.items()


def test_a_v1_1_delta_keeps_the_vocabulary_and_drops_what_one_side_has(tmp_path):
    base = make_base(tmp_path / "base", vocab=VOCAB)
    delta = make_delta_v1_1(tmp_path / "delta", base)
    manifest = tmp_path / "m.toml"
    manifest.write_text(manifest_text("mini", preset="fastchat-v1.1", pad=False))
    vbuild.lock(manifest)
    vbuild.apply(manifest, out=tmp_path / "out", unsigned=True)
    made = load_safetensors(tmp_path / "out")
    assert same_bits(made, expected_sum(base.tensors, delta))
    assert not any("inv_freq" in name for name in made)
    model = (tmp_path / "base" / "tokenizer.model").read_bytes()
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == model


# ---- the same bytes ----


def other_container(top, write):
    base = make_base(top / "base", vocab=VOCAB, shards=2, write=write)
    make_delta_v0(top / "delta", base, shards=5, write=write)
    (top / "m.toml").write_text(manifest_text("mini-vicuna", output=SHARDS))
    vbuild.lock(top / "m.toml")
    vbuild.apply(top / "m.toml", out=top / "out", unsigned=True)
    return digests(top / "out")


def write_one_safetensors(directory, tensors, shards):
    (directory / "model.safetensors").write_bytes(safetensors_bytes(tensors))


@pytest.mark.parametrize("write", [write_torch, write_safetensors, write_one_safetensors])
def test_another_container_and_another_cut_give_the_same_files(built, tmp_path, write):
    assert other_container(tmp_path, write) == digests(built)


@pytest.mark.parametrize(
    ("isa", "jobs"),
    [("portable", 1), ("native", 7), *((isa, 2) for isa in ("portable", *cpu_features()))],
)
def test_case_86_threads_and_instruction_sets_change_nothing(job, built, config, isa, jobs):
    out = job[0] / f"{isa}-{jobs}"
    arguments = ("apply", job[0] / "m.toml", "--out", out, "--unsigned", "--jobs", jobs)
    done = run_vbuild(*arguments, config=config, VBUILD_ISA=isa)
    assert done.returncode == 0, done.stderr
    assert digests(out) == digests(built)
    shutil.rmtree(out)


@pytest.mark.parametrize(
    ("umask", "variables"),
    [
        (0o777, {}),
        (0o000, {"PYTHONHASHSEED": "1", "LC_ALL": "tr_TR.UTF-8"}),
        (0o077, {"PYTHONHASHSEED": "2", "LC_ALL": "C", "TZ": "<+14>-14"}),
    ],
)
def test_case_87_umask_locale_hash_seed_time_zone_and_directory_change_nothing(
    job, built, config, tmp_path, umask, variables
):
    place = tmp_path / "ä b" / "c"
    (place / "build").mkdir(parents=True)
    done = run_vbuild(
        "apply",
        os.path.relpath(job[0] / "m.toml", place),
        "--unsigned",
        config=config,
        cwd=place,
        umask=umask,
        PYTHONDONTWRITEBYTECODE="1",
        **variables,
    )
    assert done.returncode == 0, done.stderr
    out = place / "build" / "mini-vicuna"
    assert digests(out) == digests(built)
    for name in digests(built):
        assert stat.S_IMODE((out / name).stat().st_mode) == 0o644, name
    for directory in (out, out.with_name("mini-vicuna.attest")):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o755


def test_the_same_key_signs_with_the_same_bytes(job, built, config):
    again = job[0] / "signed-again"
    vbuild.apply(job[0] / "m.toml", out=again, environment=environment(config))
    assert (again / "model.sig").read_bytes() == (built / "model.sig").read_bytes()


# ---- yes and no ----


def test_the_signature_holds_and_every_file_matters(built, config):
    assert vbuild.verify(built, environment=environment(config)).ok
    for name in digests(built):
        path = built / name
        data = path.read_bytes()
        path.write_bytes(bytes([data[0] ^ 0x10]) + data[1:])
        verdict = vbuild.verify(built, environment=environment(config))
        path.write_bytes(data)
        assert not verdict.ok
        assert {f.name: f.status for f in verdict.files if f.status != "OK"} == {name: "FAILED"}
    assert vbuild.verify(built, environment=environment(config)).ok


def test_another_key_is_a_no(built, tmp_path):
    vbuild.keygen(tmp_path / "other.pem")
    assert not vbuild.verify(built, key=[tmp_path / "other.pub"]).ok


def test_case_57_a_base_that_was_rounded_to_bfloat16_is_refused(job, tmp_path):
    top, base, _ = job
    wrong = tmp_path / "base"
    shutil.copytree(top / "base", wrong)
    write_torch(wrong, {n: round_to_bfloat16(t) for n, t in base.tensors.items()}, 3)
    assert {p.name: p.stat().st_size for p in wrong.iterdir()} == {
        p.name: p.stat().st_size for p in (top / "base").iterdir()
    }
    with pytest.raises(Mismatch) as caught:
        vbuild.apply(top / "m.toml", base=wrong, out=tmp_path / "out", unsigned=True)
    assert caught.value.code == "digest-mismatch"
    assert "base/pytorch_model-0000" in caught.value.message
    assert [p.name for p in tmp_path.iterdir()] == ["base"]


def test_case_66_rows_without_a_piece_stop_the_build(job, tmp_path):
    top, _, _ = job
    manifest = top / "no-pad.toml"
    manifest.write_text(manifest_text("mini", pad=False))
    (top / "delta" / "added_tokens.json").rename(tmp_path / "kept")
    try:
        vbuild.lock(manifest)
        with pytest.raises(InvalidInput) as caught:
            vbuild.apply(manifest, out=tmp_path / "out", unsigned=True)
    finally:
        (tmp_path / "kept").rename(top / "delta" / "added_tokens.json")
    assert str(VOCAB) in caught.value.message
    assert str(VOCAB + 1) in caught.value.message
    assert list(tmp_path.iterdir()) == []


# ---- the generator ----


def test_the_generator_gives_the_same_bytes_for_the_same_seed(job, tmp_path):
    base = make_base(tmp_path / "base", vocab=VOCAB)
    make_delta_v0(tmp_path / "delta", base)
    for name in ("base", "delta"):
        assert digests(tmp_path / name) == digests(job[0] / name)
    make_base(tmp_path / "other", vocab=VOCAB, seed=5)
    changed = digests(tmp_path / "other")
    assert changed["tokenizer.model"] != digests(job[0] / "base")["tokenizer.model"]
    assert changed.keys() == digests(job[0] / "base").keys()


def test_the_generator_and_the_build_give_what_they_gave_on_other_machines(job):
    _, base, expected = job
    assert weights_digest(base.tensors) == BASE_DIGEST
    assert weights_digest(expected) == RESULT_DIGEST


BASE_DIGEST = "a7000a258eab3644f78ff675bb49d3832fede9283fe02d4219a48e036a7271ef"
RESULT_DIGEST = "97fc738ce32b9b0706db57df7022db22ad9ff0238e1b395ac708b7f7a8eb9ddc"
