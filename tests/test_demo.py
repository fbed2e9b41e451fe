"""`make demo`: what it shows is what happens, and it stays in its directory."""

import os
import re
import subprocess
import sys

from tests.support.commands import ROOT

SCRIPT = ROOT / "docs" / "tutorial" / "demo.py"


def run_demo(cwd, *arguments):
    home = cwd / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CONFIG_HOME": str(home / "xdg")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert list(home.iterdir()) == [], "the user's configuration was touched"
    return done


def test_the_demonstration_runs_twice_and_stays_in_its_directory(tmp_path):
    for _ in range(2):
        done = run_demo(tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "home"]
    assert (tmp_path / "demo" / "config" / "vbuild" / "key.pem").is_file()
    assert "\x1b" not in done.stdout
    assert "Traceback" not in done.stdout
    assert len(done.stdout.splitlines()) <= 130
    tutorial = SCRIPT.with_name("README.md").read_text()
    digests = re.findall(r"^[0-9a-f]{64}  .*(?:safetensors|gguf)$", tutorial, re.MULTILINE)
    assert len(digests) == 3
    assert set(digests) <= set(done.stdout.splitlines())
    for shown in ("$ vbuild lock", "$ vbuild apply", ": FAILED", "PASSED: ", "(exit status 4"):
        assert shown in done.stdout


def test_a_directory_that_is_somebody_s_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    done = run_demo(tmp_path, "mine")
    assert done.returncode == 1
    assert "not from an earlier demonstration" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_step_that_ends_otherwise_is_a_failure(tmp_path):
    text = SCRIPT.read_text().replace("expect=4", "expect=0").replace("__file__", repr(str(SCRIPT)))
    changed = tmp_path / "changed.py"
    changed.write_text(text)
    done = subprocess.run(
        [sys.executable, str(changed), str(tmp_path / "demo")],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    assert "`vbuild apply manifest.toml` ended with 4, not 0" in done.stderr


def test_the_tutorial_shows_the_commands_of_the_demonstration():
    tutorial = SCRIPT.with_name("README.md").read_text()
    for command in (
        "vbuild apply manifest.toml",
        "vbuild lock manifest.toml",
        "vbuild plan manifest.toml",
        "vbuild verify manifest.toml",
        "vbuild verify build/mini-vicuna-v0",
        "vbuild apply manifest.toml --base base-bf16 --out build/wrong",
        "vbuild check manifest.toml --against build/mini-vicuna-v0",
        "vbuild apply gguf.toml --out build/gguf",
    ):
        assert f"$ {command}\n" in tutorial, command
