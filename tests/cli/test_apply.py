"""vbuild apply, as a user sees it."""

import hashlib
import json
import re
import shutil
import subprocess

import pytest

from tests.support.commands import digests, run_vbuild

FINGERPRINT = re.compile(r"\b[0-9a-f]{64}\b")


def test_the_result_is_on_stdout_and_the_licence_on_stderr(job, vb):
    ran = vb("apply", "manifest.toml")
    assert ran.status == 0
    sums, _, summary = ran.out.partition("\n\n")
    out = job.root / "build" / "test-model"
    assert dict(reversed(row.split("  ")) for row in sums.splitlines()) == digests(out)
    assert "built     build/test-model\n" in summary
    assert "verify    vbuild verify build/test-model\n" in summary
    assert str(job.root) not in ran.out
    assert "license: test licence\n" in ran.err
    assert "new signing key: " in ran.err
    assert "licence" not in ran.out


def test_the_printed_command_verifies_the_output(job, vb):
    ran = vb("apply", "manifest.toml")
    command = ran.out.rpartition("vbuild ")[2].split()
    assert vb(*command).status == 0


def test_the_printed_command_verifies_an_unsigned_output(job, vb):
    ran = vb("apply", "manifest.toml", "--unsigned")
    assert ran.status == 0
    command = ran.out.rpartition("verify    ")[2]
    checked = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(": OK") == len(digests(job.root / "build/test-model"))


def test_the_printed_command_names_the_public_half_of_a_key_of_ones_own_choice(job, vb):
    assert vb("keygen", "release.pem").status == 0
    ran = vb("apply", "manifest.toml", "--key", "release.pem")
    assert ran.out.endswith("vbuild verify build/test-model --key release.pub\n")
    assert vb("verify", "build/test-model", "--key", "release.pub").status == 0
    assert vb("verify", "build/test-model").status == 2  # there is no key of one's own to trust


def test_the_key_of_the_environment_signs(job, vb, monkeypatch):
    vb("keygen", "release.pem")
    monkeypatch.setenv("VBUILD_KEY", "release.pem")
    assert vb("apply", "manifest.toml").out.endswith("--key release.pub\n")


def test_a_key_is_made_on_first_use_only(job, vb):
    assert "new signing key" in vb("apply", "manifest.toml").err
    assert "new signing key" not in vb("apply", "manifest.toml", "--force").err


def test_the_json_says_what_was_built(job, vb):
    ran = vb("apply", "manifest.toml", "--json")
    found = json.loads(ran.out)
    assert found["schema"] == "vbuild.apply/1"
    assert {f["name"]: f["sha256"] for f in found["files"]} == digests(
        job.root / "build/test-model"
    )
    assert found["out"] == "build/test-model"
    assert found["license"] == "test licence"
    assert FINGERPRINT.fullmatch(found["fingerprint"])


def test_json_in_a_file_leaves_the_text_where_it_is(job, vb):
    ran = vb("apply", "manifest.toml", "--json=result.json")
    assert "built     build/test-model" in ran.out
    assert json.loads((job.root / "result.json").read_text())["schema"] == "vbuild.apply/1"


def test_a_dry_run_shows_the_plan_and_writes_nothing(job, vb):
    before = sorted(job.root.rglob("*"))
    ran = vb("apply", "manifest.toml", "--dry-run")
    assert ran.status == 0
    assert ran.out == vb("plan", "manifest.toml").out
    assert sorted(job.root.rglob("*")) == before


def test_quiet_says_nothing_when_all_is_well(job, vb):
    assert vb("apply", "manifest.toml").status == 0  # makes the key
    ran = vb("apply", "manifest.toml", "--force", "--quiet")
    assert (ran.status, ran.out, ran.err) == (0, "", "")


def test_warnings_are_on_stderr_also_when_quiet(job, vb):
    job.rules = '[apply]\n[[apply.rule]]\nmatch = "nothing.*"\nop = "drop"\n' + job.rules.replace(
        "[apply]\n", ""
    )
    job.write()
    ran = vb("apply", "manifest.toml", "--quiet")
    assert ran.status == 0
    assert ran.err == "warning: the pattern 'nothing.*' claims no tensor\n"


def test_the_same_job_gives_the_same_sums_for_any_number_of_threads(job, vb):
    first = vb("apply", "manifest.toml", "--jobs", "1", "--out", "a").out.partition("\n\n")[0]
    second = vb("apply", "manifest.toml", "--jobs", "3", "--out", "b").out.partition("\n\n")[0]
    assert first == second


def test_key_and_unsigned_exclude_each_other(job, vb):
    ran = vb("apply", "manifest.toml", "--key", "k", "--unsigned")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "error: --key and --unsigned exclude each other\n"


def test_an_existing_output_is_refused_without_force(job, vb):
    vb("apply", "manifest.toml")
    ran = vb("apply", "manifest.toml")
    assert (ran.status, ran.out) == (2, "")
    assert "the output exists already\n\nhint: replace it with --force" in ran.err


def test_a_wrong_base_is_a_no_and_leaves_nothing(job, vb):
    weights = job.root / "base" / "part-1.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    ran = vb("apply", "manifest.toml")
    assert (ran.status, ran.out) == (1, "")
    assert (
        "error: base/part-1.safetensors: the file is not the one that the manifest pins" in ran.err
    )
    assert hashlib.sha256(data).hexdigest() in ran.err
    assert list((job.root / "build").iterdir()) == []


def test_base_and_delta_say_where_the_inputs_are(job, vb):
    shutil.move(job.root / "base", job.root / "elsewhere")
    assert vb("apply", "manifest.toml").status == 3
    assert vb("apply", "manifest.toml", "--base", "elsewhere", "--delta", "delta").status == 0


@pytest.mark.parametrize("arguments", [["apply"], ["plan"], ["verify"]])
def test_a_manifest_that_is_not_locked_says_how_to_lock_it(job, vb, arguments):
    text = job.manifest.read_text()
    job.manifest.write_text(re.sub(r'sha256 = "[0-9a-f]{64}"', "", text).replace(", }", " }"))
    ran = vb(*arguments, "manifest.toml")
    assert ran.status == 4
    assert ran.err.endswith("\n\nhint: vbuild lock manifest.toml\n")


def test_a_real_process_keeps_the_streams_apart(job, config):
    ran = run_vbuild("apply", "manifest.toml", config=config, cwd=job.root)
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[0].endswith("  model-00001-of-00003.safetensors")
    assert ran.stderr.splitlines()[0].startswith("building test-model: ")
    assert "\x1b" not in ran.stdout + ran.stderr
