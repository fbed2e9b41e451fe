"""One rebuild: a child process that runs ``vbuild apply``.

- The child is this interpreter with this vbuild, whatever the working directory is, and nothing
  from the working directory is imported.
- An error of the child is raised here with its own code, text and exit status.
- When this process is interrupted the child is stopped before anything is cleaned up.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbuild.errors import (
    Interrupted,
    InvalidInput,
    Mismatch,
    NotLocked,
    Unavailable,
    VbuildError,
)
from vbuild.files import os_error
from vbuild.reproduce.variants import Variant
from vbuild.strict_json import loads

__all__ = ["Request", "run_child", "vbuild_command"]

STOP_SECONDS: Final = 10
"""How long a child may take to stop before it is killed."""

ERROR_SCHEMA: Final = "vbuild.error/1"
_PARTS: Final = ("code", "what", "where", "expected", "got", "hint")

_BY_STATUS: Final = {
    kind.exit_status: kind for kind in (Mismatch, InvalidInput, Unavailable, NotLocked, Interrupted)
}


def vbuild_command() -> tuple[str, ...]:
    """The command that runs this vbuild in another process."""
    return (sys.executable, "-P", "-m", "vbuild")


@dataclass(frozen=True, slots=True)
class Request:
    """What is built again and again: paths are absolute; ``command`` is what runs ``apply``."""

    name: str
    manifest: Path
    base: Path | None
    delta: tuple[Path, ...]
    environment: Mapping[str, str]
    command: tuple[str, ...]

    def arguments(self, variant: Variant, out: Path) -> list[str]:
        """The command line of one rebuild."""
        options = [] if self.base is None else ["--base", str(self.base)]
        for delta in self.delta:
            options += ["--delta", str(delta)]
        options += ["--out", str(out), "--unsigned", "--jobs", str(variant.jobs), "--json"]
        return [*self.command, "apply", str(self.manifest), *options]


def run_child(request: Request, variant: Variant, directory: Path, out: Path) -> None:
    """Build ``out`` in a child process that works in ``directory``; raise what it fails with."""
    environment = variant.environment(request.environment)
    environment["PWD"] = str(directory)
    environment["PYTHONPATH"] = _python_path(request.environment)
    # Else a child with an odd umask could leave unreadable caches in the installation.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        child = subprocess.Popen(
            request.arguments(variant, out),
            cwd=directory,
            env=environment,
            umask=variant.umask,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as e:
        raise os_error(e, request.command[0], "run") from e
    with child:
        try:
            stdout, stderr = child.communicate()
        except BaseException:
            _stop(child)
            raise
    if child.returncode != 0:
        raise _child_error(child.returncode, stdout, stderr, variant)


def _python_path(environment: Mapping[str, str]) -> str:
    """``PYTHONPATH`` with the directory that this vbuild was imported from.

    Not if it is one of the interpreter's own, which would then come before the standard library.
    """
    package = str(Path(__file__).parents[2])
    given = [p for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p]
    own = [] if Path(package).name in ("site-packages", "dist-packages") else [package]
    return os.pathsep.join([*own, *map(os.path.abspath, given)])


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()


def _child_error(status: int, stdout: bytes, stderr: bytes, variant: Variant) -> VbuildError:
    """The child's error as its ``--json`` output describes it, or as much as there is to say."""
    where = f"rebuild {variant.name!r}"
    if status < 0:
        return Unavailable(
            "rebuild-died", "the rebuild was killed", where=where, got=f"signal {-status}"
        )
    error = _described(stdout)
    kind = _BY_STATUS.get(status, VbuildError)
    if error is None:
        # 1 is also the status of an interpreter that failed: without a report it is no verdict.
        kind = VbuildError if kind is Mismatch else kind
        lines = stderr.decode("utf-8", "replace").strip().splitlines()
        text = lines[-1][:500] if lines else f"it ended with status {status}"
        return kind("rebuild-failed", f"the rebuild failed: {text}", where=where)
    return kind(
        error["code"] or "rebuild-failed",
        error["what"] or "the rebuild failed",
        where=error["where"],
        expected=error["expected"],
        got=error["got"],
        hint=error["hint"],
    )


def _described(stdout: bytes) -> dict[str, str | None] | None:
    """The parts of the ``vbuild.error/1`` document in ``stdout``, or None if there is none."""
    try:
        document = loads(stdout, "rebuild")
    except InvalidInput:
        return None
    if not isinstance(document, dict) or document.get("schema") != ERROR_SCHEMA:
        return None
    values = {key: document.get(key) for key in _PARTS}
    return {key: value if isinstance(value, str) else None for key, value in values.items()}
