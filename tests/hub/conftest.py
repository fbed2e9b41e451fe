"""A loopback Hub, the client's settings for it, and small jobs whose inputs are there."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http

from tests.support.builds import Job
from tests.support.hub import CHUNK, Hub
from vbuild.cli import main
from vbuild.sources import hub_client

CLEARED = ("HF_TOKEN", "HF_HOME", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "VBUILD_KEY")


@dataclass
class Ran:
    """What a command has done."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def session():
    """The client's connections are its own until all tests have ended: making it is slow."""
    yield
    huggingface_hub.close_session()


@pytest.fixture
def waits(monkeypatch):
    """Nobody waits before a further try; the seconds that the client would have waited."""
    seconds: list[float] = []
    clock = SimpleNamespace(sleep=seconds.append)
    monkeypatch.setattr(_http, "time", clock)
    monkeypatch.setattr(file_download, "time", clock)
    monkeypatch.setattr(hub_client, "RETRY_SECONDS", (0.0, 0.0, 0.0))
    # The client hands bytes on in pieces of 10 MB; what is left of one when a connection is cut is
    # lost. The files here are smaller than that.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    return seconds


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch):
    """No test of this process asks for a name, and so none leaves the machine."""
    real = socket.getaddrinfo

    def look_up(host, *arguments, **options):
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, f"no network in tests: {host}")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture(params=[False], ids=[""])
def hub(request, tmp_path, monkeypatch, waits):
    """The server, which the client of this process and of children asks."""
    for name in CLEARED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Hub(cdn=request.param) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        # What the client makes of HF_ENDPOINT at import: here, it is imported already.
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
        for thread in threading.enumerate():
            if thread.name.startswith("vbuild-fetch"):
                thread.join()


@pytest.fixture
def vb(hub, capsys):
    """``vb("fetch", path)``: exit status and output of a command line."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


@dataclass
class HubJob:
    """A manifest whose delta is at the Hub, and the files that it consists of."""

    job: Job
    hub: Hub
    files: dict[str, bytes]
    commit: str

    @property
    def manifest(self) -> Path:
        """Its path."""
        return self.job.manifest

    @property
    def uri(self) -> str:
        """Of the delta."""
        return f"hf://org/delta@{self.commit}"

    def cached(self, name: str) -> Path:
        """Where the client keeps a file of the delta."""
        cache = self.job.root / "cache" / "models--org--delta"
        return cache / "snapshots" / self.commit / name

    @property
    def weights(self) -> str:
        """The name of the delta's largest file."""
        return max(self.files, key=lambda name: len(self.files[name]))


@pytest.fixture
def job(hub, tmp_path, monkeypatch):
    """A locked job whose delta, in two shards, is at the Hub and not on this machine."""
    monkeypatch.chdir(tmp_path)
    local = Job(tmp_path, shards=2).write()
    files = {p.name: p.read_bytes() for p in sorted((tmp_path / "delta").iterdir())}
    commit = hub.repo("org/delta", files).commits["main"]
    for name in files:
        (tmp_path / "delta" / name).unlink()
    (tmp_path / "delta").rmdir()
    text = local.manifest.read_text().replace("file:delta", f"hf://org/delta@{commit}")
    local.manifest.write_text(text)
    return HubJob(local, hub, files, commit)
