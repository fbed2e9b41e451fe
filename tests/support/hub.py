"""A Hub on the loopback interface: what the real client asks for, and faults on demand.

- It answers as interop.md describes: the listing of a repository with LFS metadata, HEAD and GET of
  ``resolve`` with ETag, commit, size and ranges, error codes in ``X-Error-Code``.
- With ``cdn`` the content of LFS files comes from a second origin, as it does from the real one.
- A :class:`Fault` spoils the next answers whose request it matches.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["CHUNK", "Fault", "Hub", "Repo", "Seen", "git_sha1", "sha256"]

CHUNK = 64
"""Bytes that the client hands on at a time, in tests."""

LFS = (".bin", ".safetensors", ".pth", ".model")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    """A repository: ``commits`` by name of the branch, the files by commit and name."""

    commits: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False
    token: str | None = None

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """A new commit on ``branch`` with exactly these files."""
        text = repr((branch, len(self.files), sorted(files)))
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[branch] = commit
        self.files[commit] = dict(files)
        return commit


@dataclass
class Fault:
    """What goes wrong with the next ``times`` requests that have ``match`` in ``METHOD PATH``.

    ``status`` replaces the answer; ``headers`` are added to it; ``body`` replaces the content, but
    not its announced length; ``cut`` ends the connection after so many bytes; ``pause`` waits for
    the event then, before it ends.
    """

    match: str
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    pause: threading.Event | None = None
    ignore_range: bool = False


@dataclass
class Seen:
    """A request."""

    line: str
    headers: dict[str, str]


class Hub:
    """The server; ``endpoint`` is its address while it is entered."""

    def __init__(self, *, cdn: bool = False) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.cdn = cdn
        self._lock = threading.Lock()
        self._servers: list[ThreadingHTTPServer] = []

    def repo(self, name: str, files: dict[str, bytes]) -> Repo:
        """A repository with one commit on ``main``."""
        repo = self.repos[name] = Repo()
        repo.commit(files)
        return repo

    def __enter__(self) -> Hub:
        self.endpoint, self.storage = self._serve(), self._serve()
        return self

    def _serve(self) -> str:
        server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    def __exit__(self, *error: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def fault(self, match: str, **what: Any) -> Fault:
        """Arrange a fault."""
        self.faults.append(Fault(match, **what))
        return self.faults[-1]

    def note(self, seen: Seen) -> Fault:
        """Remember a request; the fault that it gets."""
        with self._lock:
            self.seen.append(seen)
            for fault in self.faults:
                if fault.times and fault.match in seen.line:
                    fault.times -= 1
                    return fault
        return Fault("")

    def lines(self, method: str) -> list[str]:
        """The requests with ``method``, as ``METHOD PATH``."""
        return [s.line for s in self.seen if s.line.startswith(method)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a client that has gone is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self.serve()

    def do_GET(self) -> None:
        self.serve()

    def serve(self) -> None:
        line = f"{self.command} {unquote(self.path)}"
        if self.path == "/api/agent-harnesses":  # asked once a day, for the client's own use
            self.fault = Fault("")
            self.answer(404, b"", {})
            return
        self.fault = self.hub.note(Seen(line, {k.lower(): v for k, v in self.headers.items()}))
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if self.fault.status is not None:
            self.answer(self.fault.status, self.fault.body or b"", {})
        elif parts[0] == "api":
            self.listing("/".join(parts[2:4]), parts[5] if len(parts) > 4 else "main")
        elif parts[0] == "storage":
            self.content(self.stored(parts[1]), {})
        else:
            self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def found(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files; None if an error has been answered."""
        repo = self.hub.repos.get(name)
        token = self.headers.get("Authorization")
        if repo is None or (repo.token and not repo.gated and token != f"Bearer {repo.token}"):
            self.answer(401, b"", {"X-Error-Code": "RepoNotFound"})
            return None
        commit = repo.commits.get(revision, revision)
        if commit not in repo.files:
            self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit, repo.files[commit]

    def listing(self, name: str, revision: str) -> None:
        found = self.found(name, revision)
        if found is None:
            return
        commit, files = found
        siblings = []
        for file, data in files.items():
            entry: dict[str, Any] = {"rfilename": file, "size": len(data)}
            entry["blobId"] = git_sha1(data)
            if file.endswith(LFS):
                entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        info = {"id": name, "sha": commit, "siblings": siblings, "private": False, "tags": []}
        self.answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def resolve(self, name: str, revision: str, file: str) -> None:
        found = self.found(name, revision)
        if found is None:
            return
        repo = self.hub.repos[name]
        if repo.gated and self.headers.get("Authorization") != f"Bearer {repo.token}":
            self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
            return
        commit, files = found
        if file not in files:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        data = files[file]
        lfs = file.endswith(LFS)
        etag = sha256(data) if lfs else git_sha1(data)
        head = {"X-Repo-Commit": commit, "ETag": f'"{etag}"'}
        if lfs:
            head |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        if lfs and self.hub.cdn:
            head["Location"] = f"{self.hub.storage}/storage/{etag}"
            self.answer(302, b"", head)
        else:
            self.content(data, head)

    def stored(self, etag: str) -> bytes:
        every = (d for r in self.hub.repos.values() for f in r.files.values() for d in f.values())
        return next(data for data in every if sha256(data) == etag)

    def content(self, data: bytes, head: dict[str, str]) -> None:
        begin = 0
        asked = self.headers.get("Range")
        if asked and not self.fault.ignore_range:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            head |= {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
        head["Content-Length"] = str(len(data) - begin)
        body = data if self.fault.body is None else self.fault.body
        self.answer(206 if "Content-Range" in head else 200, body[begin:], head)

    def answer(self, status: int, body: bytes, head: dict[str, str]) -> None:
        fault = self.fault
        head = {"Content-Length": str(len(body)), **head, **fault.headers}
        self.send_response(status)
        for key, value in head.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if fault.cut is None else body[: fault.cut])
        if fault.cut is not None or fault.body is not None:
            self.wfile.flush()
            self.close_connection = True
        if fault.pause is not None:
            fault.pause.wait(30)
