"""A new signature on a model directory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vbuild.report.apply import sum_line
from vbuild.report.document import Value
from vbuild.report.lines import BLANK, Line, Span, line, styled, table
from vbuild.report.units import counted

if TYPE_CHECKING:
    from vbuild.commands.sign import Signed

__all__ = ["document", "lines"]


def lines(signed: Signed, check: str) -> Iterator[Line]:
    """The digests that were signed, then by whom; ``check`` is the command that verifies it."""
    for name, digest in signed.files:
        yield sum_line(name, digest)
    yield BLANK
    rows: list[tuple[str | Span, ...]] = [
        ("signed", styled(str(signed.path), "strong")),
        ("", f"{signed.name}, {counted(len(signed.files), 'file')}"),
        ("key", signed.key.fingerprint),
        ("verify", styled(check, "accent")),
    ]
    yield from table(rows, indent=0)
    for name in signed.uncovered:
        yield line(f"{name}: ", styled("not signed", "caution"))


def document(signed: Signed, check: str) -> dict[str, Value]:
    """The fields of ``vbuild.sign/1``."""
    return {
        "path": signed.path,
        "name": signed.name,
        "fingerprint": signed.key.fingerprint,
        "files": [{"name": name, "sha256": digest} for name, digest in signed.files],
        "uncovered": list(signed.uncovered),
        "hint": signed.hint,
        "verify": check,
    }
