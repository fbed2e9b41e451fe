"""Rebuilds compared: what was varied, which files are the same, and the verdict.

- ``NAME: SAME`` or ``DIFFERS`` per file, and under a file that differs what each build made of it;
  then one line that begins with ``PASSED`` or ``FAILED``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vbuild.report.document import Value
from vbuild.report.lines import Line, Span, line, styled, table
from vbuild.report.units import counted, size

if TYPE_CHECKING:
    from vbuild.commands.check import Checked, Checking
    from vbuild.reproduce import Difference, Observation

__all__ = ["building_line", "document", "lines", "opening", "status"]

ABSENT = "not there"


def status(checked: Checked) -> int:
    """0 if everything is the same, 1 if something differs."""
    return 0 if checked.ok else 1


def opening(checking: Checking) -> Line:
    """What is going to be done, and the room that it takes."""
    builds = counted(len(checking.variants), "build")
    return line(
        f"checking {checking.name}: {builds}, one at a time; each takes {size(checking.needed)} "
        f"in {checking.work}, where {size(checking.free)} are free"
    )


def building_line(number: int, checking: Checking) -> Line:
    """Which build comes now, counted from 1, and what is not as in the first one."""
    first, variant = checking.variants[0], checking.variants[number - 1]
    usual = {} if variant is first else first.conditions
    said = [f"{n} {value}" for n, value in variant.conditions.items() if value != usual.get(n)]
    shown = line(f"build {number} of {len(checking.variants)}: ", styled(variant.name, "strong"))
    return shown if said == [variant.name] else (*shown, Span(f" ({', '.join(said)})"))


def lines(checked: Checked, *, problems_only: bool = False) -> Iterator[Line]:
    """The files in order, then the verdict; with ``problems_only`` nothing that is the same."""
    differ: dict[str, list[Difference]] = {}
    for difference in checked.differences:
        differ.setdefault(_label(checked, difference), []).append(difference)
    first = checked.observations[0]
    names = {
        *first.files,
        *differ,
        *(f"{checked.checking.name}.attest/{n}" for n in first.beside or ()),
    }
    for name in sorted(names):
        if name in differ:
            yield line(f"{name}: ", styled("DIFFERS", "bad"))
            yield from _details(differ[name])
        elif not problems_only:
            yield line(f"{name}: ", styled("SAME", "good"))
    if not problems_only or differ:
        yield _verdict(checked, len(differ), len(names))


def _label(checked: Checked, difference: Difference) -> str:
    """The file's name; for one beside the model, with the directory it is in."""
    beside = difference.aspect == "beside"
    return f"{checked.checking.name}.attest/{difference.file}" if beside else difference.file


def _details(differences: list[Difference]) -> Iterator[Line]:
    """What the first build made, and what the others did, with the mode where that differs."""
    rows: list[tuple[str, str]] = []
    for d in differences:
        mode = "mode " if d.aspect == "mode" else ""
        for name, value in ((d.first, d.expected), (d.other, d.got)):
            row = (name, ABSENT if value is None else mode + value)
            if row not in rows:
                rows.append(row)
    yield from table(rows)


def _verdict(checked: Checked, wrong: int, total: int) -> Line:
    builds = counted(len(checked.checking.variants), "build")
    others = [o.name for o in checked.observations if not o.conditions]
    among = f"{builds} and {' and '.join(others)}" if others else builds
    name = checked.checking.name
    if checked.ok:
        files = counted(total, "file")
        return line(styled("PASSED:", "good"), f" {name}, {files} the same in {among}")
    text = f" {name}, {wrong} of {counted(total, 'file')} not the same in {among}"
    return line(styled("FAILED:", "bad"), text)


def document(checked: Checked) -> dict[str, Value]:
    """The fields of ``vbuild.check/1``."""
    checking = checked.checking
    return {
        "name": checking.name,
        "ok": checked.ok,
        "exit_status": status(checked),
        "builds": [_observation(o) for o in checked.observations if o.conditions],
        "against": [_observation(o) for o in checked.observations if not o.conditions],
        "differences": [
            {
                "file": d.file,
                "aspect": d.aspect,
                "first": d.first,
                "other": d.other,
                "expected": d.expected,
                "got": d.got,
            }
            for d in checked.differences
        ],
        "work": checking.work,
        "needed_bytes": checking.needed,
        "free_bytes": checking.free,
        "seconds": round(checked.seconds, 3),
    }


def _observation(observation: Observation) -> dict[str, Value]:
    modes, beside = observation.modes, observation.beside
    return {
        "name": observation.name,
        "conditions": dict(observation.conditions),
        "files": [
            {"name": name, "sha256": digest, "mode": None if modes is None else modes[name]}
            for name, digest in observation.files.items()
        ],
        "beside": None
        if beside is None
        else [{"name": name, "sha256": digest} for name, digest in beside.items()],
    }
