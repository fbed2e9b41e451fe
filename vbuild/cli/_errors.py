"""Whatever was raised, as an error of vbuild: one form for messages, JSON and exit statuses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import click

from vbuild.errors import Interrupted, InvalidInput, Unavailable, VbuildError
from vbuild.files import os_error

__all__ = ["as_error"]


def as_error(e: BaseException, arguments: Sequence[str] = ()) -> VbuildError:
    """``e`` itself, or the error that says what it means to a user.

    ``arguments`` are the command line, for errors in it.
    """
    if isinstance(e, VbuildError):
        return e
    if isinstance(e, click.ClickException):
        return _usage(e, arguments)
    if isinstance(e, KeyboardInterrupt):
        return Interrupted("interrupted", "interrupted")
    if isinstance(e, MemoryError):
        return Unavailable("no-memory", "out of memory")
    if isinstance(e, OSError):
        where = e.filename if isinstance(e.filename, str) else "the system"
        return os_error(e, where, "use")
    return VbuildError(
        "internal-error",
        f"internal error: {type(e).__name__}: {e}",
        hint="this is a bug in vbuild: run it again with VBUILD_DEBUG=1 and report what it shows",
    )


def _usage(e: click.ClickException, arguments: Sequence[str]) -> InvalidInput:
    """An error in the command line, in one line without a full stop."""
    message = e.format_message().strip().replace("\n", " ").rstrip(".")
    context = e.ctx if isinstance(e, click.UsageError) else None
    hint = f"{_called(arguments) if context is None else context.command_path} --help"
    if isinstance(e, click.NoSuchOption):
        message = f"no such option {e.option_name}"
        if e.possibilities:
            hint = f"did you mean {e.possibilities[0]}?"
    taken = _taken_by_json(arguments)
    if isinstance(e, click.MissingParameter) and taken is not None:
        hint = f"--json took {taken} as its FILE: put --json last, or write --json=FILE"
    return InvalidInput("usage", message[:1].lower() + message[1:], hint=hint)


def _called(arguments: Sequence[str]) -> str:
    """``vbuild COMMAND``, as far as the arguments tell."""
    return " ".join(["vbuild", *(a for a in arguments[:1] if not a.startswith("-"))])


def _taken_by_json(arguments: Sequence[str]) -> str | None:
    """The argument that a bare ``--json`` took for its FILE."""
    for argument, following in pairwise(arguments):
        if argument == "--json" and not following.startswith("-"):
            return following
    return None
