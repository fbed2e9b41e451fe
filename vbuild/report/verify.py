"""The verdict about a model directory or a manifest's inputs.

- ``NAME: OK``, ``FAILED``, ``MISSING`` or ``EXTRA`` per file, then one line that begins with
  ``PASSED`` or ``FAILED`` and names the keys that vouch for a model.
- What stands in a file's place, or its digest, is said apart (``details``), so that the list can
  be read by a program.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from vbuild.report.document import Value, error_fields
from vbuild.report.lines import Line, Style, line, styled
from vbuild.report.units import counted

if TYPE_CHECKING:
    from vbuild.attest.verify import FileVerdict, TreeVerdict
    from vbuild.build.materials import InputVerdict
    from vbuild.commands.verify import InputsVerdict

__all__ = [
    "details",
    "inputs_document",
    "inputs_hint",
    "inputs_lines",
    "inputs_status",
    "tree_document",
    "tree_lines",
    "tree_status",
]

EXPLAINED = 20
"""How many files that are not OK get a detail."""

_STYLES: dict[str, Style] = {"OK": "good", "FAILED": "bad", "MISSING": "bad", "EXTRA": "bad"}


def _file_line(name: str, status: str) -> Line:
    return line(f"{name}: ", styled(status, _STYLES[status]))


def _verdict(ok: bool, text: str) -> Line:
    return line(styled("PASSED:", "good") if ok else styled("FAILED:", "bad"), " ", text)


def tree_status(verdict: TreeVerdict) -> int:
    """0 for yes, 1 for no; a signature that cannot be judged has a status of its own."""
    if verdict.ok:
        return 0
    return 1 if verdict.problem is None else verdict.problem.exit_status


def tree_lines(verdict: TreeVerdict, *, problems_only: bool = False) -> Iterator[Line]:
    """The files in order, then the verdict; with ``problems_only`` nothing that is as it should."""
    for file in verdict.files:
        if not problems_only or file.status != "OK":
            yield _file_line(file.name, file.status)
    if not problems_only or not verdict.ok:
        yield _tree_verdict(verdict)


def _tree_verdict(verdict: TreeVerdict) -> Line:
    if verdict.problem is not None:
        return _verdict(False, verdict.problem.message)
    text = (
        f"{verdict.name}, {_tally(verdict.files)}, signed by {' and '.join(verdict.fingerprints)}"
    )
    if verdict.not_covered:
        text += f"; {counted(len(verdict.not_covered), 'file')} not covered by the signature"
    return _verdict(verdict.ok, text)


def _tally(files: Sequence[FileVerdict]) -> str:
    """``12 files``, or ``1 failed, 2 extra (of 12 signed)``."""
    signed = sum(file.status != "EXTRA" for file in files)
    counts = {
        status: sum(file.status == status for file in files)
        for status in ("FAILED", "MISSING", "EXTRA")
    }
    wrong = [f"{count} {status.lower()}" for status, count in counts.items() if count]
    return f"{', '.join(wrong)} (of {signed} signed)" if wrong else counted(signed, "file")


def details(files: Iterable[FileVerdict | InputVerdict]) -> Iterator[Line]:
    """What the first files that failed are instead of what they should be."""
    explained = 0
    for file in files:
        name = getattr(file, "name", None) or getattr(file, "label", "")
        problem = getattr(file, "problem", None)
        if problem is None and file.actual in (None, file.expected):
            continue
        explained += 1
        if explained > EXPLAINED:
            return
        if problem is not None:
            yield line(styled(problem.message, "faint"))
            continue
        if file.expected is None:
            yield line(styled(f"{name} is {file.actual}", "faint"))
        else:
            text = f"{name}: expected {file.expected}, got {file.actual}"
            yield line(styled(text, "faint"))


def tree_document(target: str, verdict: TreeVerdict) -> dict[str, Value]:
    """The fields of ``vbuild.verify/1`` for a model directory."""
    return {
        "kind": "model",
        "target": target,
        "ok": verdict.ok,
        "exit_status": tree_status(verdict),
        "name": verdict.name,
        "root": verdict.root,
        "fingerprints": list(verdict.fingerprints),
        "files": [
            {
                "name": file.name,
                "status": file.status,
                "expected": file.expected,
                "actual": file.actual,
            }
            for file in verdict.files
        ],
        "not_covered": list(verdict.not_covered),
        "refused": [error_fields(error) for error in verdict.refused],
        "problem": None if verdict.problem is None else error_fields(verdict.problem),
        "hint": verdict.hint,
    }


def _input_status(verdict: InputVerdict) -> str:
    if verdict.ok:
        return "OK"
    return "MISSING" if verdict.missing else "FAILED"


def inputs_status(verdict: InputsVerdict) -> int:
    """0 for yes, 1 if an input has failed, 3 if all that is known is that some are missing."""
    if verdict.ok:
        return 0
    return 3 if all(item.ok or item.missing for item in verdict.inputs) else 1


def inputs_hint(verdict: InputsVerdict) -> str | None:
    """What to do about the first input for which that is known."""
    return next((item.hint for item in verdict.inputs if not item.ok and item.hint), None)


def inputs_lines(verdict: InputsVerdict, *, problems_only: bool = False) -> Iterator[Line]:
    """As :func:`tree_lines`, for a manifest's inputs."""
    for item in verdict.inputs:
        if not problems_only or not item.ok:
            yield _file_line(item.label, _input_status(item))
    if not problems_only or not verdict.ok:
        statuses = [_input_status(item) for item in verdict.inputs]
        wrong = [
            f"{statuses.count(status)} {status.lower()}"
            for status in ("FAILED", "MISSING")
            if status in statuses
        ]
        text = f"{', '.join(wrong)} (of {len(statuses)} pinned)"
        if verdict.ok:
            text = f"{counted(len(statuses), 'file')} as pinned"
        yield _verdict(verdict.ok, f"inputs of {verdict.name}, {text}")


def inputs_document(target: str, verdict: InputsVerdict) -> dict[str, Value]:
    """The fields of ``vbuild.verify/1`` for a manifest's inputs."""
    return {
        "kind": "inputs",
        "target": target,
        "ok": verdict.ok,
        "exit_status": inputs_status(verdict),
        "name": verdict.name,
        "files": [
            {
                "name": item.label,
                "status": _input_status(item),
                "expected": item.expected,
                "actual": item.actual,
                "problem": None if item.problem is None else error_fields(item.problem),
            }
            for item in verdict.inputs
        ],
    }
