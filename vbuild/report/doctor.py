"""What the machine can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vbuild.report.document import Value
from vbuild.report.lines import Line, Style, styled, table

if TYPE_CHECKING:
    from vbuild.commands.doctor import Finding

__all__ = ["document", "exit_status", "lines"]

_STYLES: dict[str, Style] = {"ok": "good", "note": "caution", "problem": "bad"}


def exit_status(findings: Sequence[Finding]) -> int:
    """1 if something would keep vbuild from working, else 0."""
    return int(any(finding.status == "problem" for finding in findings))


def lines(findings: Sequence[Finding], *, problems_only: bool = False) -> list[Line]:
    """A row per finding."""
    return table(
        [
            (styled(f.status, _STYLES[f.status]), styled(f.topic, "strong"), f.detail)
            for f in findings
            if not problems_only or f.status == "problem"
        ],
        indent=0,
    )


def document(findings: Sequence[Finding]) -> dict[str, Value]:
    """The fields of ``vbuild.doctor/1``."""
    return {
        "ok": exit_status(findings) == 0,
        "findings": [{"topic": f.topic, "status": f.status, "detail": f.detail} for f in findings],
    }
