"""vbuild verify, as a user sees it."""

import json

import pytest

from tests.support.commands import digests


def verdict(ran):
    return ran.out.splitlines()[-1]


def test_a_model_as_it_was_signed_passes(model, vb):
    ran = vb("verify", model)
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[:-1] == [f"{name}: OK" for name in digests(model)]
    assert lines[-1].startswith(f"PASSED: test-model, {len(lines) - 1} files, signed by ")


def test_every_kind_of_difference_has_its_word(model, vb):
    names = sorted(digests(model))
    (model / names[0]).write_bytes(b"other")
    (model / names[1]).unlink()
    (model / "surprise").write_bytes(b"")
    ran = vb("verify", model)
    assert ran.status == 1
    assert f"{names[0]}: FAILED\n{names[1]}: MISSING\n{names[2]}: OK\n" in ran.out
    assert "surprise: EXTRA\n" in ran.out
    assert verdict(ran).startswith(
        f"FAILED: test-model, 1 failed, 1 missing, 1 extra (of {len(names)} signed), signed by "
    )
    assert f"{names[0]}: expected " in ran.err


def test_quiet_says_only_what_is_wrong(model, vb):
    assert vb("verify", "-q", model).out == ""
    (model / "surprise").write_bytes(b"")
    ran = vb("verify", "-q", model)
    assert (ran.status, ran.err) == (1, "")
    assert ran.out.startswith("surprise: EXTRA\nFAILED: ")


def test_the_json_has_the_same_verdict(model, vb):
    name = min(digests(model))
    (model / name).write_bytes(b"other")
    ran = vb("verify", model, "--json")
    found = json.loads(ran.out)
    assert (ran.status, found["exit_status"], found["ok"], found["kind"]) == (1, 1, False, "model")
    assert [f["status"] for f in found["files"]].count("FAILED") == 1
    assert found["files"][0]["actual"] != found["files"][0]["expected"]


def test_a_directory_without_a_signature_is_a_no(model, vb):
    (model / "model.sig").unlink()
    ran = vb("verify", model)
    assert ran.status == 1
    assert verdict(ran) == f"FAILED: {model}: the directory is not signed, expected model.sig"
    assert ran.err == "hint: if it is yours, sign it with vbuild sign\n"


def test_a_signature_that_is_not_one_is_malformed(model, vb):
    (model / "model.sig").write_bytes(b"[]")
    ran = vb("verify", model, "--json")
    assert ran.status == 2
    assert json.loads(ran.out)["problem"]["exit_status"] == 2


def test_a_key_that_is_not_trusted_does_not_count(model, vb):
    vb("keygen", "other.pem")
    ran = vb("verify", model, "--key", "other.pub")
    assert ran.status == 1
    assert "not signed by a trusted key" in verdict(ran)


def test_a_signature_for_another_model_is_a_no(model, vb):
    assert vb("verify", model, "--name", "test-model").status == 0
    assert vb("verify", model, "--name", "other-model").status == 1


def test_a_threshold_counts_the_signatures_of_other_rebuilders(job, model, vb):
    (job.root / "others").mkdir()
    for name in ("a", "b"):
        vb("keygen", f"{name}.pem")
        assert vb("apply", "manifest.toml", "--out", f"x{name}", "--key", f"{name}.pem").status == 0
    (job.root / "others" / "b.sig").write_bytes((job.root / "xb" / "model.sig").read_bytes())
    both = ("--key", "a.pub", "--key", "b.pub", "--threshold", "2")
    assert vb("verify", "xa", *both).status == 1
    ran = vb("verify", "xa", *both, "--attestations", "others")
    assert ran.status == 0
    assert " and " in verdict(ran)


def test_the_inputs_of_a_manifest_are_judged_one_by_one(job, vb):
    ran = vb("verify", job.manifest)
    assert ran.status == 0
    assert ran.out == (
        "base/part-1.safetensors: OK\ndelta/part-1.safetensors: OK\n"
        "PASSED: inputs of test-model, 2 files as pinned\n"
    )
    weights = job.root / "delta" / "part-1.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    ran = vb("verify", job.manifest)
    assert ran.status == 1
    assert "delta/part-1.safetensors: FAILED\n" in ran.out
    assert verdict(ran) == "FAILED: inputs of test-model, 1 failed (of 2 pinned)"
    found = json.loads(vb("verify", job.manifest, "--json").out)
    assert (found["kind"], found["ok"]) == ("inputs", False)


def test_a_missing_input_is_not_an_answer(job, vb):
    (job.root / "base" / "part-1.safetensors").unlink()
    ran = vb("verify", job.manifest)
    assert ran.status == 3
    assert ran.out == (
        "base/part-1.safetensors: MISSING\ndelta/part-1.safetensors: OK\n"
        "FAILED: inputs of test-model, 1 missing (of 2 pinned)\n"
    )
    assert ran.err == "base/part-1.safetensors: no such file\n"


def test_every_input_is_listed_and_a_failed_one_is_the_answer(job, vb):
    (job.root / "base" / "part-1.safetensors").unlink()
    (job.root / "delta" / "part-1.safetensors").write_bytes(b"short")
    ran = vb("verify", job.manifest)
    assert ran.status == 1
    assert ran.out == (
        "base/part-1.safetensors: MISSING\ndelta/part-1.safetensors: FAILED\n"
        "FAILED: inputs of test-model, 1 failed, 1 missing (of 2 pinned)\n"
    )
    assert "delta/part-1.safetensors: the file does not have the size" in ran.err
    found = json.loads(vb("verify", job.manifest, "--json").out)
    codes = [file["problem"]["code"] for file in found["files"]]
    assert codes == ["file-missing", "size-mismatch"]


def test_a_missing_directory_is_every_file_of_it(job, vb):
    (job.root / "delta").rename(job.root / "elsewhere")
    ran = vb("verify", job.manifest)
    assert ran.status == 3
    assert "base/part-1.safetensors: OK\ndelta/part-1.safetensors: MISSING\n" in ran.out
    assert ran.err.endswith("hint: say where it is with --delta PATH\n")
    assert vb("verify", job.manifest, "--delta", "elsewhere").status == 0


@pytest.mark.parametrize(
    ("target", "option", "what"),
    [
        ("build/test-model", ("--base", "base"), "--base is for a manifest only"),
        ("manifest.toml", ("--threshold", "2"), "--threshold is for a model directory only"),
        ("manifest.toml", ("--key", "k.pub"), "--key is for a model directory only"),
    ],
)
def test_an_option_that_would_mean_nothing_is_refused(model, vb, target, option, what):
    ran = vb("verify", target, *option)
    assert (ran.status, ran.out, ran.err) == (2, "", f"error: {what}\n")


def test_case_89_a_name_cannot_steer_the_terminal(model, vb):
    (model / "\x1b[31m\nPASSED: x").write_bytes(b"")
    ran = vb("verify", model)
    assert ran.status == 1
    assert "\\x1b[31m\\nPASSED: x: EXTRA\n" in ran.out
    assert "\x1b" not in ran.out


def test_case_29_a_name_that_is_not_utf_8_is_shown_and_gives_valid_json(model, vb):
    (model / "n\udcff").write_bytes(b"")
    assert "n\\udcff: EXTRA\n" in vb("verify", model).out
    ran = vb("verify", model, "--json")
    assert "n\\udcff" in [f["name"] for f in json.loads(ran.out.encode("ascii"))["files"]]
