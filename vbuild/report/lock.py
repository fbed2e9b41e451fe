"""What became of pinning a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vbuild.report.document import Value, error_fields
from vbuild.report.lines import Line, line, styled
from vbuild.report.units import counted

if TYPE_CHECKING:
    from vbuild.manifest.lock import LockResult

__all__ = ["document", "exit_status", "lines"]


def exit_status(result: LockResult) -> int:
    """0; 1 where a pin is not true; 4 where one is missing and all others are true."""
    return min((problem.exit_status for problem in result.problems), default=0)


def lines(manifest: Path, result: LockResult, *, check: bool) -> Iterator[Line]:
    """A line per problem, then the answer."""
    for problem in result.problems:
        yield line(styled("FAILED:", "bad"), " ", problem.message)
    if result.problems:
        yield line(f"{manifest}: ", styled("not locked", "bad"), f", {_count(result)}")
    elif check:
        yield line(f"{manifest}: ", styled("locked", "good"), ", and every pin is true")
    elif result.changed:
        for new in result.resolved:
            yield line(new.uri)
        text = f", {counted(result.pinned, 'file')} pinned"
        yield line(f"{manifest}: ", styled("locked", "good"), text)
    else:
        yield line(f"{manifest}: ", styled("locked", "good"), " already")


def _count(result: LockResult) -> str:
    return counted(len(result.problems), "problem")


def document(manifest: Path, result: LockResult, *, check: bool) -> dict[str, Value]:
    """The fields of ``vbuild.lock/1``."""
    return {
        "manifest": manifest,
        "check": check,
        "locked": not result.problems,
        "changed": result.changed,
        "pinned": result.pinned,
        "resolved": [new.uri for new in result.resolved],
        "exit_status": exit_status(result),
        "problems": [error_fields(problem) for problem in result.problems],
    }
