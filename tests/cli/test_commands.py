"""plan, lock, inspect, keygen, sign and doctor, as a user sees them."""

import hashlib
import io
import json
import re
import stat

import numpy as np
import pytest

import vbuild.commands.doctor
from tests.support.builds import read_safetensors
from tests.support.commands import weights_digest
from vbuild.commands.doctor import Finding

# ---- plan


def test_a_plan_lists_what_is_read_computed_and_written(job, vb):
    job.extra = {"base": {"config.json": b"{}\n"}}
    job.write()
    ran = vb("plan", "manifest.toml")
    assert (ran.status, ran.err) == (0, "")
    assert re.search(r"base/config.json +3 B +read whole", ran.out)
    assert re.search(r"delta/part-1.safetensors +\S+ \S+ +hashed from its beginning", ran.out)
    assert "1  *embed_tokens.weight *lm_head.weight: add, pad zero\n  2  *: add\n" in ran.out
    assert re.search(r"compute  8 tensors, ", ran.out)
    assert re.search(r"model-00001-of-00003.safetensors +\S+ kB +\d tensor", ran.out)
    assert "into build/test-model\n" in ran.out
    assert str(job.root) not in ran.out


def test_a_plan_adds_up_in_json(job, vb):
    found = json.loads(vb("plan", "manifest.toml", "--json").out)
    assert sum(o["size"] for o in found["outputs"]) == found["write_bytes"]
    assert sum(i["size"] for i in found["inputs"]) == found["read_bytes"]
    expected = job.expected()
    assert sum(t["count"] for t in found["tensors"]) == len(expected)
    assert sum(t["bytes"] for t in found["tensors"]) == sum(a.nbytes for a in expected.values())


def test_a_plan_says_which_tensors_are_dropped_and_which_files_are_only_hashed(job, vb):
    job.base["a.rotary_emb.inv_freq"] = np.zeros(4, np.float16)
    job.rules = '[apply]\npreset = "fastchat-v0"'
    job.write()
    found = json.loads(vb("plan", "manifest.toml", "--json").out)
    assert found["dropped"] == ["a.rotary_emb.inv_freq"]
    assert found["rules"][0]["origin"] == "of the preset fastchat-v0"
    assert re.search(r"\n +1 +dropped\n", vb("plan", "manifest.toml").out)


def test_a_disk_that_is_too_small_is_a_warning(job, vb, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    ran = vb("plan", "manifest.toml")
    assert ran.status == 0
    assert ran.err.startswith("warning: the disk is too small: the output needs ")


def test_the_same_plan_is_printed_twice(job, vb):
    assert vb("plan", "manifest.toml").out == vb("plan", "manifest.toml").out


# ---- lock


@pytest.fixture
def unlocked(job):
    text = job.manifest.read_text()
    job.manifest.write_text(re.sub(r"\{ size = \d+, sha256 = \"[0-9a-f]{64}\" \}", "{}", text))
    return job


def test_lock_pins_a_manifest_and_then_has_nothing_to_do(unlocked, vb):
    assert vb("lock", "manifest.toml").out == "manifest.toml: locked, 2 files pinned\n"
    assert vb("lock", "manifest.toml").out == "manifest.toml: locked already\n"
    ran = vb("lock", "manifest.toml", "--check")
    assert (ran.status, ran.out) == (0, "manifest.toml: locked, and every pin is true\n")


def test_lock_check_is_4_for_a_gap_and_writes_nothing(unlocked, vb):
    before = unlocked.manifest.read_bytes()
    ran = vb("lock", "manifest.toml", "--check")
    assert ran.status == 4
    assert ran.out.endswith("manifest.toml: not locked, 2 problems\n")
    assert ran.err == "hint: vbuild lock manifest.toml\n"
    assert unlocked.manifest.read_bytes() == before


def test_lock_check_is_1_for_a_pin_that_is_not_true(job, vb):
    weights = job.root / "base" / "part-1.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    ran = vb("lock", "manifest.toml", "--check", "--json")
    found = json.loads(ran.out)
    assert (ran.status, found["exit_status"], found["locked"]) == (1, 1, False)
    assert [p["code"] for p in found["problems"]] == ["digest-mismatch"]


# ---- inspect


def test_inspect_lists_every_tensor(job, vb):
    ran = vb("inspect", "delta/part-1.safetensors")
    assert ran.status == 0
    rows = [row.split("  ") for row in ran.out.splitlines()[3:]]
    assert [row[0] for row in rows] == sorted(job.delta)
    assert "[31, 16]" in ran.out


def test_inspect_agrees_with_another_reader_in_json(job, vb):
    path = job.root / "delta" / "part-1.safetensors"
    found = json.loads(vb("inspect", path, "--digests", "--json").out)
    data = path.read_bytes()
    assert found["files"] == [{"name": path.name, "sha256": hashlib.sha256(data).hexdigest()}]
    for tensor in found["tensors"]:
        begin, end = tensor["offset"], tensor["offset"] + tensor["bytes"]
        values = np.frombuffer(data[begin:end], "<f2").reshape(tensor["shape"])
        assert np.array_equal(values, job.delta[tensor["name"]])
    assert found["weights"] == weights_digest(read_safetensors(path))


def test_the_weights_digest_is_the_only_line(job, vb):
    ran = vb("inspect", "delta", "--weights-digest")
    assert ran.out == weights_digest(job.delta) + "\n"


def test_digests_and_the_weights_digest_exclude_each_other(job, vb):
    assert vb("inspect", "delta", "--weights-digest", "--digests").status == 2


# ---- keygen


def test_a_new_key_is_private_and_is_never_overwritten(tmp_path, vb, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = vb("keygen", "k.pem")
    assert ran.status == 0
    assert "not encrypted; keep it secret" in ran.out
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
    assert json.loads(vb("keygen", "k2.pem", "--json").out)["public"] == "k2.pub"
    ran = vb("keygen", "k.pem")
    assert ran.status == 2
    assert ran.err.startswith("error: k.pem: ")


@pytest.mark.parametrize("source", ["file", "environment"])
def test_a_key_with_a_passphrase_signs_only_with_it(model, vb, monkeypatch, tmp_path, source):
    (tmp_path / "secret").write_text("correct horse\nnot this line\n")
    if source == "file":
        made = vb("keygen", "k.pem", "--passphrase-file", "secret")
    else:
        monkeypatch.setenv("VBUILD_KEY_PASSPHRASE", "correct horse")
        made = vb("keygen", "k.pem")
        monkeypatch.delenv("VBUILD_KEY_PASSPHRASE")
    assert "encrypted; keep it secret" in made.out
    assert "ENCRYPTED" in (tmp_path / "k.pem").read_text()
    monkeypatch.setattr("sys.stdin", io.StringIO())
    ran = vb("sign", model, "--key", "k.pem", "--force")
    assert ran.status == 2
    assert ran.err.endswith("\n\nhint: set VBUILD_KEY_PASSPHRASE\n")
    monkeypatch.setenv("VBUILD_KEY_PASSPHRASE", "wrong horse")
    assert vb("sign", model, "--key", "k.pem", "--force").status == 2
    monkeypatch.setenv("VBUILD_KEY_PASSPHRASE", "correct horse")
    assert vb("sign", model, "--key", "k.pem", "--force").status == 0
    assert vb("verify", model, "--key", "k.pub").status == 0


@pytest.mark.parametrize("content", [b"", b"\nsecond line", b"x" * 5000])
def test_an_unusable_passphrase_is_refused(tmp_path, vb, content):
    (tmp_path / "secret").write_bytes(content)
    ran = vb("keygen", tmp_path / "k.pem", "--passphrase-file", tmp_path / "secret")
    assert ran.status == 2
    assert f"{tmp_path}/secret: not a passphrase, expected 1 to 4096 bytes" in ran.err
    assert not (tmp_path / "k.pem").exists()


# ---- sign


def test_a_signed_directory_verifies_under_the_name_that_was_given(tmp_path, vb):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights").write_bytes(b"w")
    ran = vb("sign", tmp_path / "m", "--name", "mine")
    assert ran.status == 0
    assert ran.out.startswith(f"{hashlib.sha256(b'w').hexdigest()}  weights\n\n")
    assert vb("verify", tmp_path / "m", "--name", "mine").status == 0
    again = vb("sign", tmp_path / "m")
    assert again.status == 2
    assert "--force" in again.err


def test_what_a_signature_leaves_out_is_said(tmp_path, vb):
    (tmp_path / "m" / ".git").mkdir(parents=True)
    (tmp_path / "m" / ".git" / "x").write_bytes(b"")
    (tmp_path / "m" / "weights").write_bytes(b"w")
    ran = vb("sign", tmp_path / "m")
    assert ran.out.endswith(".git/x: not signed\n")
    assert ran.err.endswith(
        "hint: .git is a left-over of a download or a clone: remove it and run again\n"
    )


# ---- doctor


def test_doctor_finds_a_working_installation(vb):
    ran = vb("doctor", "--json")
    found = json.loads(ran.out)
    assert (ran.status, found["ok"]) == (0, True)
    status = {f["topic"]: f["status"] for f in found["findings"]}
    assert status["self-test"] == "ok"
    assert status["keys"] == "note"


def test_doctor_says_no_when_something_is_missing(vb, monkeypatch):
    broken = (Finding("a", "ok", "fine"), Finding("b", "problem", "missing: pip install b"))
    monkeypatch.setattr(vbuild.commands.doctor, "doctor", lambda: broken)
    ran = vb("doctor", "--quiet")
    assert (ran.status, ran.out) == (1, "problem  b  missing: pip install b\n")
