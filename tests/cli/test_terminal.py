"""What a terminal shows, and what everything else gets."""

import os
import re

import pytest

from tests.support.models import SLOW, write_slow_job
from tests.support.terminal import run_on_terminal

COLOUR = re.compile(r"\x1b\[[0-9;]+m")
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def slow(tmp_path):
    return write_slow_job(tmp_path)


def test_a_build_shows_a_bar_that_disappears(slow, tmp_path):
    status, seen = run_on_terminal(
        "apply", slow.manifest, "--out", slow.out, config=tmp_path, environment=SLOW
    )
    assert status == 0
    assert re.search(r" %.* MB of 240 MB, \S+ .B/s, .* left", seen)
    assert seen.count(HIDE) == seen.count(SHOW) == 1
    assert "\x1b[2K" in seen.partition(SHOW)[2] or "\x1b[2K" in seen.partition(SHOW)[0][-80:]
    assert COLOUR.search(seen)


@pytest.mark.parametrize(
    "arguments", [("verify", "manifest.toml"), ("lock", "--check", "manifest.toml")]
)
def test_hashing_shows_a_bar_too(job, tmp_path, arguments):
    status, seen = run_on_terminal(*arguments, config=tmp_path)
    assert status == 0
    assert seen.count(HIDE) == seen.count(SHOW) == 1
    assert re.search(r" %.* B of \S+ kB", seen)


def test_verifying_a_model_shows_a_bar(model, tmp_path, config):
    status, seen = run_on_terminal("verify", model, config=config)
    assert status == 0
    assert seen.count(HIDE) == seen.count(SHOW) == 1
    assert "PASSED: test-model" in COLOUR.sub("", seen.partition(SHOW)[2])


def test_the_bar_is_on_stderr_and_the_result_on_stdout(slow, tmp_path):
    read, write = os.pipe()
    status, seen = run_on_terminal(
        "apply", slow.manifest, "--out", slow.out, config=tmp_path, stdout=write
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        result = pipe.read()
    assert status == 0
    assert HIDE in seen
    assert "\x1b" not in result
    assert result.splitlines()[0].endswith("  model-00001-of-00040.safetensors")
    assert "model-00001" not in seen


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (["--no-color"], {}),
        ([], {"NO_COLOR": "1"}),
        ([], {"NO_COLOR": "1", "FORCE_COLOR": "1"}),
        ([], {"FORCE_COLOR": "0"}),
        ([], {"TERM": "dumb"}),
    ],
)
def test_colours_can_be_turned_off(job, tmp_path, options, environment):
    status, seen = run_on_terminal(
        "apply", job.manifest, *options, config=tmp_path, environment=environment
    )
    assert status == 0
    assert not COLOUR.search(seen)


def test_a_dumb_terminal_gets_no_control_characters(job, tmp_path):
    _, seen = run_on_terminal("apply", job.manifest, config=tmp_path, environment={"TERM": "dumb"})
    assert "\x1b" not in seen


def test_colours_can_be_forced_without_a_terminal(job, vb, monkeypatch):
    assert "\x1b" not in vb("verify", "manifest.toml").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[32mOK\x1b[0m" in vb("verify", "manifest.toml").out
    assert "\x1b" not in vb("verify", "manifest.toml", "--no-color").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in vb("verify", "manifest.toml").out


def test_json_has_no_colours(job, vb, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in vb("verify", "manifest.toml", "--json").out


def test_a_passphrase_is_asked_for_on_a_terminal_and_not_shown(model, tmp_path):
    new = [("New passphrase: ", "correct horse"), ("Again: ", "correct horse")]
    status, seen = run_on_terminal(
        "keygen", tmp_path / "k.pem", "--passphrase-prompt", config=tmp_path, answers=new
    )
    assert status == 0, seen
    assert "horse" not in seen
    prompt = f"Passphrase for {tmp_path}/k.pem: "
    status, seen = run_on_terminal(
        "sign",
        model,
        "--key",
        tmp_path / "k.pem",
        "--force",
        config=tmp_path,
        answers=[(prompt, "correct horse")],
    )
    assert status == 0, seen
    assert "horse" not in seen
    status, seen = run_on_terminal("verify", model, "--key", tmp_path / "k.pub", config=tmp_path)
    assert status == 0


def test_two_passphrases_that_differ_are_refused(tmp_path):
    answers = [("New passphrase: ", "a"), ("Again: ", "b")]
    status, seen = run_on_terminal(
        "keygen", tmp_path / "k.pem", "--passphrase-prompt", config=tmp_path, answers=answers
    )
    assert status == 2
    assert "the two passphrases differ" in seen
    assert not (tmp_path / "k.pem").exists()
