"""A delta that was made: its files, its rules, and what comes back when it is applied."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vbuild.report.apply import sum_line
from vbuild.report.differences import distance, grouped, share
from vbuild.report.document import Value
from vbuild.report.lines import BLANK, Line, Span, styled, table
from vbuild.report.units import counted, duration, size

if TYPE_CHECKING:
    from vbuild.commands.make_delta import DeltaMade
    from vbuild.delta import DeltaRule
    from vbuild.diff import Measured

__all__ = ["document", "lines"]


def lines(found: DeltaMade, out: Path) -> Iterator[Line]:
    """The digests of all files, then what was made and how near the target it comes."""
    made = found.made
    for name, digest in made.files.items():
        yield sum_line(name, digest)
    yield BLANK
    rows: list[tuple[str | Span, ...]] = [
        ("delta", styled(str(out), "strong")),
        ("", f"{counted(len(made.files), 'file')}, {size(made.size)}"),
    ]
    rows += [("rules" if i == 0 else "", _rule(rule)) for i, rule in enumerate(made.rules)]
    rows += [
        ("comes back", _back(found)),
        *_farthest(found),
        ("base weights", made.base_weights),
        ("target weights", made.target_weights),
        ("its weights", made.weights),
        ("time", duration(found.seconds)),
        ("apply", styled(apply_command(out), "accent")),
    ]
    yield from table(rows, indent=0)


def apply_command(out: Path) -> str:
    """What to type to get the target back."""
    return f"vbuild apply {shlex.quote(str(out / 'manifest.toml'))}"


def _rule(rule: DeltaRule) -> str:
    text = f"{counted(rule.tensors, 'tensor')}: {rule.rule.op}"
    return text if rule.rule.pad is None else f"{text}, new rows as they are"


def _totals(found: DeltaMade) -> tuple[int, int]:
    """Elements that were compared, and those that do not come back."""
    differing = sum(measured.differing for measured in found.made.back.values())
    return found.made.elements, differing


def _back(found: DeltaMade) -> Span:
    elements, differing = _totals(found)
    if not differing:
        return styled(f"every element of {grouped(elements)}", "good")
    part = share(differing, elements)
    return styled(f"all but {grouped(differing)} of {grouped(elements)} ({part})", "caution")


def _largest(found: DeltaMade) -> tuple[str, Measured] | None:
    """The tensor with the largest error in ulps, if any element does not come back."""
    wrong = [(name, m) for name, m in found.made.back.items() if m.differing]
    return max(wrong, key=lambda item: item[1].max_ulp, default=None)


def _farthest(found: DeltaMade) -> Iterator[tuple[str, str]]:
    largest = _largest(found)
    if largest is not None:
        name, measured = largest
        ulps = counted(measured.max_ulp, "ulp")
        yield "largest error", f"{ulps} in {name}, {distance(_largest_abs(found))} anywhere"


def _largest_abs(found: DeltaMade) -> float:
    return max((m.max_abs for m in found.made.back.values()), default=0.0)


def document(found: DeltaMade, out: Path) -> dict[str, Value]:
    """The fields of ``vbuild.make-delta/1``."""
    made = found.made
    elements, differing = _totals(found)
    largest = _largest(found)
    return {
        "out": out,
        "attest": out.with_name(made.attest.name),
        "name": found.wanted.name,
        "op": found.wanted.op,
        "files": [{"name": name, "sha256": digest} for name, digest in made.files.items()],
        "size": made.size,
        "rules": [
            {
                "op": rule.rule.op,
                "match": list(rule.rule.patterns),
                "pad": rule.rule.pad,
                "compute": rule.rule.compute,
                "tensors": rule.tensors,
            }
            for rule in made.rules
        ],
        "elements": elements,
        "differing": differing,
        "max_ulp": 0 if largest is None else largest[1].max_ulp,
        "max_ulp_tensor": None if largest is None else largest[0],
        "max_abs": _largest_abs(found),
        "weights": {
            "base": made.base_weights,
            "target": made.target_weights,
            "result": made.weights,
        },
        "seconds": round(found.seconds, 3),
        "apply": apply_command(out),
    }
