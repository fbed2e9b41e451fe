"""`check`: rebuilds in child processes, a real difference found, and nothing left behind."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.commands import run_vbuild
from tests.support.llama import make_base, make_delta_v0, manifest_text
from vbuild.commands.check import check
from vbuild.commands.lock import lock
from vbuild.errors import (
    InvalidInput,
    Mismatch,
    NotLocked,
    Unavailable,
    VbuildError,
)
from vbuild.reproduce import CONDITIONS

FAKE = (sys.executable, str(Path(__file__).with_name("fake_apply.py")))
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    top = tmp_path_factory.mktemp("inputs")
    make_delta_v0(top / "delta", make_base(top / "base", hidden=32, layers=1))
    (top / "m.toml").write_text(manifest_text("small"))
    lock(top / "m.toml")
    return top


@pytest.fixture
def manifest(inputs):
    return inputs / "m.toml"


@pytest.fixture
def work(tmp_path):
    directory = tmp_path / "work"
    directory.mkdir()
    yield directory
    assert list(directory.iterdir()) == [], "something was left behind"


def faked(manifest, work, *, command=FAKE, vary=(), against=None, **environment):
    return check(
        manifest,
        work=work,
        vary=vary,
        against=against,
        command=command,
        environment={**os.environ, **environment},
    )


# ---- the real command ----


def test_two_real_builds_under_other_conditions_are_the_same(manifest, work):
    heard, started = [], []
    checked = check(
        manifest,
        work=work,
        on_build=lambda checking, number: heard.append(checking.variants[number - 1]),
        on_start=started.append,
    )
    assert checked.ok, checked.differences
    assert [v.name for v in heard] == ["usual", "other"]
    usual, other = checked.observations
    assert usual.files == other.files
    assert usual.conditions.keys() == set(CONDITIONS)
    assert {"config.json", "model.safetensors.index.json", "tokenizer.model"} <= set(usual.files)
    assert set(usual.modes.values()) == {"0644"}
    assert set(usual.beside) == {"SHA256SUMS", "provenance.json"}
    assert started[0].needed > sum(
        path.stat().st_size for path in (manifest.parent / "base").glob("*.bin")
    )


def test_every_single_condition_leaves_the_bytes_alone_case_87(manifest, work):
    checked = check(manifest, work=work, vary=["all"])
    assert checked.ok, checked.differences
    assert len(checked.observations) > len(CONDITIONS)


def test_case_86_every_instruction_set_gives_the_same_bytes(manifest, work):
    checked = check(manifest, work=work, vary=["isa"])
    assert checked.ok, checked.differences
    assert checked.observations[1].conditions["isa"] == "portable"


def test_relative_paths_and_overrides_reach_the_children(inputs, work, monkeypatch):
    moved = inputs.parent / "moved"
    moved.mkdir(exist_ok=True)
    (moved / "m.toml").write_bytes((inputs / "m.toml").read_bytes())
    monkeypatch.chdir(moved)
    here = Path(os.path.relpath(inputs, moved))
    assert not here.is_absolute()
    checked = check(Path("m.toml"), base=here / "base", delta=[here / "delta"], work=work)
    assert checked.ok


def test_a_model_from_outside_is_compared_as_well(manifest, work, tmp_path):
    from vbuild.commands.apply import apply

    out = tmp_path / "published"
    apply(manifest, out=out, unsigned=True)
    checked = check(manifest, work=work, against=out)
    assert checked.ok, checked.differences
    assert [o.name for o in checked.observations[2:]] == [
        str(out),
        str(tmp_path / "published.attest" / "SHA256SUMS"),
    ]
    shard = sorted(out.glob("*.safetensors"))[0]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    checked = check(manifest, work=work, against=out)
    (difference,) = checked.differences
    assert (difference.file, difference.aspect) == (shard.name, "sha256")
    assert difference.got == hashlib.sha256(data).hexdigest()
    assert difference.other == str(out)


def test_case_63_the_digests_that_a_manifest_expects_are_enforced(inputs, work):
    usual = check(inputs / "m.toml", work=work).observations[0]
    pinned = inputs / "pinned.toml"
    text = (inputs / "m.toml").read_text()
    pins = "".join(f'"{n}" = {{ sha256 = "{d}" }}\n' for n, d in usual.files.items())
    pinned.write_text(f"{text}[output.files]\n{pins}")
    assert check(pinned, work=work).ok
    wrong = pins.replace(usual.files["config.json"], "0" * 64)
    pinned.write_text(f"{text}[output.files]\n{wrong}")
    with pytest.raises(Mismatch) as caught:
        check(pinned, work=work)
    assert caught.value.code == "output-mismatch"
    assert "config.json" in caught.value.message
    assert caught.value.expected == "0" * 64
    assert caught.value.got == usual.files["config.json"]


def test_an_unpinned_manifest_is_status_4_before_anything_is_built(inputs, work):
    unpinned = inputs / "unpinned.toml"
    unpinned.write_text(manifest_text("small"))
    with pytest.raises(NotLocked):
        faked(unpinned, work)


# ---- differences are found ----


@pytest.mark.parametrize(
    ("variable", "condition"),
    [
        ("LC_ALL", "locale"),
        ("PYTHONHASHSEED", "hashseed"),
        ("TZ", "timezone"),
        ("VBUILD_ISA", "isa"),
        ("PWD", "directory"),
    ],
)
def test_a_build_that_depends_on_a_condition_is_found(manifest, work, variable, condition):
    checked = faked(manifest, work, vary=["all"], FAKE_DIFFERS=variable)
    assert not checked.ok
    assert {d.file for d in checked.differences} == {"model.safetensors"}
    assert {d.other.split()[0] for d in checked.differences} == {condition}
    first, *_ = checked.observations
    assert checked.differences[0].expected == first.files["model.safetensors"]
    digests = {o.files["model.safetensors"] for o in checked.observations}
    assert len(digests) > 1


def test_a_file_that_only_one_build_makes_is_found(manifest, work):
    differences = faked(manifest, work, FAKE_EXTRA="PYTHONHASHSEED").differences
    assert [(d.file, d.expected is None, d.got is None) for d in differences] == [
        ("0.txt", False, True),
        ("20230414.txt", True, False),
    ]


def test_a_mode_that_depends_on_a_condition_is_found(manifest, work):
    (difference,) = faked(manifest, work, FAKE_MODE="LC_ALL").differences
    assert difference.aspect == "mode"
    assert (difference.expected, difference.got) == ("0600", "0644")


def test_provenance_that_depends_on_a_condition_is_found(manifest, work):
    (difference,) = faked(manifest, work, FAKE_BESIDE="TZ").differences
    assert (difference.aspect, difference.file) == ("beside", "provenance.json")


# ---- children that fail ----


@pytest.mark.parametrize("status", [1, 2, 3, 4, 70, 130])
def test_a_child_s_error_comes_through_with_its_status(manifest, work, status):
    error = {
        "code": "digest-mismatch",
        "what": "not the one",
        "where": "base/x.bin",
        "expected": "aa",
        "got": "bb",
        "hint": "get it",
    }
    document = json.dumps({"schema": "vbuild.error/1", "message": "all of it", **error})
    with pytest.raises(VbuildError) as caught:
        faked(manifest, work, FAKE_STATUS=str(status), FAKE_FAILS=document)
    assert caught.value.exit_status == status
    assert {key: getattr(caught.value, key) for key in error} == error


@pytest.mark.parametrize(
    "document", ["", "no JSON", "[]", "{}", '{"schema": "vbuild.apply/1"}', "[" * 100_000]
)
def test_a_child_that_fails_without_a_report_is_quoted(manifest, work, document):
    with pytest.raises(VbuildError) as caught:
        faked(
            manifest,
            work,
            FAKE_STATUS="3",
            FAKE_FAILS=document,
            FAKE_SAYS="warning\nMemoryError: \x1b[31mno\n",
        )
    assert caught.value.exit_status == 3
    assert caught.value.code == "rebuild-failed"
    assert "MemoryError: \\x1b[31mno" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_status_of_1_without_a_report_is_not_taken_for_a_verdict(manifest, work):
    with pytest.raises(VbuildError) as caught:
        faked(manifest, work, FAKE_STATUS="1", FAKE_SAYS="ImportError: no module")
    assert caught.value.exit_status == 70


def test_a_child_that_is_killed_is_status_3(manifest, work):
    with pytest.raises(Unavailable) as caught:
        faked(manifest, work, FAKE_KILLED="1")
    assert caught.value.code == "rebuild-died"
    assert "signal 9" in caught.value.message


def test_a_command_that_is_not_there_is_status_3(manifest, work):
    with pytest.raises(Unavailable) as caught:
        faked(manifest, work, command=["/nonexistent/vbuild"])
    assert "/nonexistent/vbuild" in caught.value.message


def test_a_place_that_is_not_there_is_status_3(manifest, tmp_path):
    with pytest.raises(Unavailable, match="no such directory"):
        faked(manifest, tmp_path / "nowhere")


def test_an_unknown_condition_is_refused_before_anything_is_read(tmp_path, work):
    with pytest.raises(InvalidInput) as caught:
        faked(tmp_path / "nowhere.toml", work, vary=["moon"])
    assert caught.value.code == "unknown-condition"


def test_case_27_a_disk_without_room_is_said_first(manifest, work, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("vbuild.commands.plan.shutil.disk_usage", lambda _: usage)
    with pytest.raises(Unavailable) as caught:
        faked(manifest, work)
    assert caught.value.code == "disk-full"
    assert caught.value.got == "10 bytes"
    assert "--work" in caught.value.hint


def test_case_28_ctrl_c_stops_the_child_and_removes_everything(manifest, work, tmp_path):
    note = tmp_path / "pid"
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from vbuild.commands.check import check\n"
        "from vbuild.errors import Interrupted\n"
        "manifest, work, *command = sys.argv[1:]\n"
        "try:\n"
        "    check(Path(manifest), work=Path(work), command=command)\n"
        "except Interrupted as e:\n"
        "    sys.exit(e.exit_status)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(manifest), str(work), *FAKE],
        env={**os.environ, "PYTHONPATH": str(ROOT), "FAKE_WAITS": str(note)},
    )
    with parent:
        while not note.exists() and parent.poll() is None:
            time.sleep(0.01)
        child = int(note.read_text())
        assert list(work.iterdir())
        parent.send_signal(signal.SIGINT)
        assert parent.wait(timeout=60) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


# ---- the command line ----


def line_count(text, end):
    return sum(line.endswith(end) for line in text.splitlines())


def test_the_command_says_yes_with_status_0(manifest, work, tmp_path):
    done = run_vbuild("check", manifest, "--work", work, config=tmp_path)
    assert done.returncode == 0, done.stderr
    assert line_count(done.stdout, ": SAME") == 12
    assert done.stdout.splitlines()[-1] == "PASSED: small, 12 files the same in 2 builds"
    assert "2 builds, one at a time; each takes" in done.stderr
    assert "free" in done.stderr
    assert "build 2 of 2: other (" in done.stderr


def test_the_command_says_no_with_status_1_and_what_differs(manifest, work, tmp_path):
    sums = tmp_path / "SHA256SUMS"
    assert (
        run_vbuild("apply", manifest, "--unsigned", config=tmp_path, cwd=tmp_path).returncode == 0
    )
    good = (tmp_path / "build" / "small.attest" / "SHA256SUMS").read_text()
    sums.write_text(good)
    arguments = ("check", manifest, "--work", work, "--vary", "jobs", "--against", sums)
    assert run_vbuild(*arguments, config=tmp_path).returncode == 0
    sums.write_text("0" * 64 + good[64:])
    done = run_vbuild(*arguments, "--quiet", f"--json={tmp_path}/c.json", config=tmp_path)
    assert done.returncode == 1
    assert done.stderr == ""
    first, *details, verdict = done.stdout.splitlines()
    assert first == "added_tokens.json: DIFFERS"
    assert [detail.split()[1] for detail in details] == [good[:64], "0" * 64]
    assert verdict.startswith("FAILED: small, 1 of 12 files not the same in ")
    document = json.loads((tmp_path / "c.json").read_text())
    assert document["schema"] == "vbuild.check/1"
    assert (document["ok"], document["exit_status"]) == (False, 1)
    assert [d["other"] for d in document["differences"]] == [str(sums)]
    assert {b["conditions"]["jobs"] for b in document["builds"]} >= {"1", "2", "5"}


def test_the_command_passes_a_child_s_error_on(inputs, work, tmp_path):
    pinned = inputs / "wrong.toml"
    text = (inputs / "m.toml").read_text()
    pinned.write_text(f'{text}[output.files]\n"config.json" = {{ sha256 = "{"0" * 64}" }}\n')
    done = run_vbuild("check", pinned, "--work", work, "--json", config=tmp_path)
    assert done.returncode == 1
    error = json.loads(done.stdout)
    assert (error["schema"], error["code"]) == ("vbuild.error/1", "output-mismatch")
    assert "wrong.toml" in error["where"]


def test_conditions_may_be_listed_or_repeated(manifest, work, tmp_path):
    arguments = ("check", manifest, "--work", work, "--vary", "umask, timezone", "--vary", "umask")
    done = run_vbuild(*arguments, "--json", config=tmp_path)
    assert done.returncode == 0, done.stderr
    builds = json.loads(done.stdout)["builds"]
    assert [b["name"] for b in builds] == ["usual", "timezone <+14>-14", "umask 0777"]
    assert "vbuild-check-" not in done.stdout


def test_a_condition_that_is_unknown_is_status_2(manifest, work, tmp_path):
    done = run_vbuild("check", manifest, "--vary", "moon", config=tmp_path)
    assert done.returncode == 2
    assert "got moon" in done.stderr
