"""The command line in this process, and small jobs for it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.support.builds import Job
from vbuild.cli import main


@dataclass
class Ran:
    """What a command has done."""

    status: int
    out: str
    err: str


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The user's configuration directory, empty; and no settings from outside."""
    for name in ("NO_COLOR", "FORCE_COLOR", "VBUILD_KEY", "VBUILD_KEY_PASSPHRASE", "VBUILD_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(directory))
    return directory


@pytest.fixture
def vb(config, capsys):
    """``vb("verify", path)``: exit status and output of a command line."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A locked job in the current directory."""
    monkeypatch.chdir(tmp_path)
    return Job(tmp_path, output='max_shard_size = "2KB"').write()


@pytest.fixture
def model(job, vb):
    """A built and signed model, relative to the current directory."""
    assert vb("apply", job.manifest.name).status == 0
    return job.root / "build" / "test-model"
