"""Errors, warnings and hints as lines."""

from __future__ import annotations

from vbuild.errors import VbuildError
from vbuild.report.lines import BLANK, Line, line, styled

__all__ = ["error_lines", "hint_line", "warning_line"]


def error_lines(error: VbuildError) -> list[Line]:
    """``error: ...``, and where there is a hint a blank line and ``hint: ...``."""
    lines = [line(styled("error:", "bad"), " ", error.message)]
    return lines if error.hint is None else [*lines, BLANK, hint_line(error.hint)]


def hint_line(hint: str) -> Line:
    """``hint: ...``."""
    return line(styled("hint:", "accent"), " ", hint)


def warning_line(warning: str) -> Line:
    """``warning: ...``."""
    return line(styled("warning:", "caution"), " ", warning)
