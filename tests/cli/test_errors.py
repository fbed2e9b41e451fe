"""Every way to fail: one message, one exit status, nothing on standard output but JSON."""

import errno
import json
import subprocess
import sys

import pytest

import vbuild.commands.doctor
from tests.support.commands import ROOT, run_vbuild


def failing(monkeypatch, exception):
    def doctor():
        raise exception

    monkeypatch.setattr(vbuild.commands.doctor, "doctor", doctor)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["aply"], "no such command 'aply'", "did you mean vbuild apply?"),
        (["frobnicate"], "no such command 'frobnicate'", "vbuild --help"),
        (["apply", "m", "--jbos", "3"], "no such option --jbos", "did you mean --jobs?"),
        (["apply", "m", "--xyzzy"], "no such option --xyzzy", "vbuild apply --help"),
        (["--xyzzy"], "no such option --xyzzy", "vbuild --help"),
        (["verify"], "missing argument 'DIR|MANIFEST'", "vbuild verify --help"),
        (["plan", "a", "b"], "got unexpected extra argument (b)", "vbuild plan --help"),
        (
            ["apply", "m", "--jobs", "0"],
            "invalid value for '--jobs': 0 is not in the range 1<=x<=1024",
            "vbuild apply --help",
        ),
        (["sign", "d", "--key"], "option '--key' requires an argument", "vbuild sign --help"),
        (
            ["verify", ""],
            "invalid value for 'DIR|MANIFEST': the path is empty",
            "vbuild verify --help",
        ),
    ],
)
def test_an_error_in_the_command_line_is_2(vb, arguments, message, hint):
    ran = vb(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"error: {message}\n\nhint: {hint}\n"


def test_without_a_command_the_help_is_shown_and_the_status_is_2(vb):
    ran = vb()
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == vb("--help").out


def test_a_json_option_that_takes_the_argument_says_so_and_overwrites_nothing(job, vb):
    before = job.manifest.read_bytes()
    ran = vb("apply", "--json", "manifest.toml")
    assert ran.status == 2
    assert "--json took manifest.toml as its FILE" in ran.err
    assert job.manifest.read_bytes() == before


@pytest.mark.parametrize("json_option", ["--json", "--json=-", "--json=e.json"])
def test_an_error_is_json_too(tmp_path, vb, monkeypatch, json_option):
    monkeypatch.chdir(tmp_path)
    for arguments, status, code in ((["verify", "nope"], 3, "file-missing"), (["x"], 2, "usage")):
        ran = vb(*arguments, json_option)
        text = (tmp_path / "e.json").read_text() if "e.json" in json_option else ran.out
        found = json.loads(text)
        assert (ran.status, found["exit_status"], found["code"]) == (status, status, code)
        assert found["schema"] == "vbuild.error/1"
        assert ran.err.startswith(f"error: {found['message']}\n")


@pytest.mark.parametrize("target", ["nowhere/result.json", ".", ""])
def test_json_that_cannot_be_written_is_said_before_the_work(job, vb, target):
    ran = vb("apply", "manifest.toml", f"--json={target}")
    assert ran.status == 2
    assert "the JSON cannot be written there" in ran.err
    assert not (job.root / "build").exists()


def test_json_goes_into_a_pipe(job, config):
    ran = run_vbuild("plan", "manifest.toml", "--json", "/dev/stdout", config=config, cwd=job.root)
    assert ran.returncode == 0
    assert '"schema": "vbuild.plan/1"' in ran.stdout


def test_a_manifest_with_a_typo_names_line_and_key(job, vb):
    text = job.manifest.read_text()
    job.manifest.write_text(text.replace("license", "licence"))
    ran = vb("apply", "manifest.toml")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("error: manifest.toml:3: ")
    assert "license" in ran.err


@pytest.mark.parametrize(
    ("exception", "status", "message"),
    [
        (PermissionError(errno.EACCES, "no", "/x"), 3, "/x: no permission to use it"),
        (OSError(errno.ENOSPC, "full"), 3, "the system: the disk is full"),
        (OSError(errno.EIO, "broken", "/x"), 3, "/x: could not use it: Input/output error"),
        (BrokenPipeError(errno.EPIPE, "gone"), 3, "the system: could not use it: Broken pipe"),
        (MemoryError(), 3, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("bo\x1bom"), 70, "internal error: RuntimeError: bo\\x1bom"),
        (RecursionError("deep"), 70, "internal error: RecursionError: deep"),
    ],
)
def test_whatever_escapes_becomes_one_line(vb, monkeypatch, exception, status, message):
    failing(monkeypatch, exception)
    ran = vb("doctor")
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.splitlines()[0] == f"error: {message}"
    assert "Traceback" not in ran.err


def test_a_traceback_is_shown_on_request_only(vb, monkeypatch):
    failing(monkeypatch, RuntimeError("boom"))
    assert "VBUILD_DEBUG=1" in vb("doctor").err
    monkeypatch.setenv("VBUILD_DEBUG", "1")
    assert vb("doctor").err.startswith("Traceback (most recent call last)")


def shell(command, config, **environment):
    """Run a shell command line in which ``vbuild`` is this one."""
    line = f'vbuild() {{ "{sys.executable}" -m vbuild "$@"; }}; {command}'
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(config)}
    return subprocess.run(
        ["bash", "-c", line], env=env | environment, capture_output=True, check=False
    )


def test_a_reader_that_has_gone_changes_nothing(model, config):
    ran = shell(f"vbuild verify {model} | true; exit ${{PIPESTATUS[0]}}", config)
    assert (ran.returncode, ran.stderr) == (0, b"")
    (model / "extra").write_bytes(b"")
    ran = shell(f"vbuild verify {model} | true; exit ${{PIPESTATUS[0]}}", config)
    assert (ran.returncode, ran.stderr) == (1, b"")
    ran = shell("vbuild --help | true; exit ${PIPESTATUS[0]}", config)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_closed_streams_do_not_change_the_answer(model, config):
    assert shell(f"vbuild verify {model} >&-", config).returncode == 0
    assert shell(f"vbuild verify {model} <&- >&- 2>&-", config).returncode == 0
    assert shell("vbuild verify nothing 2>&-", config).returncode == 3


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
@pytest.mark.parametrize("option", ["", "--json", "--json=/dev/full"])
def test_an_output_that_cannot_be_written_is_3(model, config, option):
    ran = shell(f"vbuild verify {model} {option} > /dev/full", config)
    assert ran.returncode == 3
    assert b"the disk is full" in ran.stderr
    assert ran.stderr.count(b"error:") == 1 or option


def test_every_character_can_be_printed_in_any_locale(model, config):
    (model / "é 模型").write_bytes(b"")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = shell(f"vbuild verify {model}", config, **ascii_only)
    assert ran.returncode == 1
    assert b": EXTRA\n" in ran.stdout
    ran = shell("vbuild verify $'n\\xff\\xc3\\xa9'", config, **ascii_only)
    assert ran.returncode == 3
    assert ran.stderr.startswith(b"error: n\\udcff")
