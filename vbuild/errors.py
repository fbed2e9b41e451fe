"""Every exception that vbuild raises on purpose.

- A mismatch that a command exists to find (``verify``, ``diff``, ``check``) is a *result*; an
  exception means that the request cannot be carried out.
- Each error says what is wrong, where, what was expected and what was found, and which command
  or edit helps. Its ``code`` is stable and documented in ``docs/reference/errors.md``.
- The class decides the exit status of the command line, nothing else does.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "Interrupted",
    "InvalidInput",
    "Mismatch",
    "NotLocked",
    "Unavailable",
    "VbuildError",
    "printable",
]


def printable(text: str) -> str:
    """``text`` with control characters, bidirectional marks and lone surrogates escaped.

    File and tensor names come from strangers and end up on a terminal.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text
    )


class VbuildError(Exception):
    """Base of all errors of vbuild.

    ``code`` is a stable kebab-case identifier, ``what`` a sentence without a final full stop,
    ``where`` a file, ``file:line``, tensor or key; ``expected`` and ``got`` are values; ``hint``
    is what to do or type next.
    """

    exit_status: ClassVar[int] = 70

    def __init__(
        self,
        code: str,
        what: str,
        *,
        where: str | None = None,
        expected: object = None,
        got: object = None,
        hint: str | None = None,
    ) -> None:
        self.code = code
        self.what = printable(what)
        self.where = None if where is None else printable(where)
        self.expected = None if expected is None else printable(str(expected))
        self.got = None if got is None else printable(str(got))
        self.hint = None if hint is None else printable(hint)
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The one line: where, what, expected and got (the hint stands apart)."""
        parts = [self.what if self.where is None else f"{self.where}: {self.what}"]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.got is not None:
            parts.append(f"got {self.got}")
        return ", ".join(parts)


class Mismatch(VbuildError):
    """Checked, and the answer is no: a digest, a signature or a result differs."""

    exit_status = 1


class InvalidInput(VbuildError):
    """The request or an input is malformed, or is something that vbuild refuses."""

    exit_status = 2


class Unavailable(VbuildError):
    """Could not find out: a missing file, the network, a permission, a full disk."""

    exit_status = 3


class NotLocked(VbuildError):
    """The manifest does not pin everything that the build would read."""

    exit_status = 4


class Interrupted(VbuildError):
    """The user or the system asked the process to stop."""

    exit_status = 130
