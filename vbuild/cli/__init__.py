"""The command line: arguments in, messages and an exit status out.

- A command is a module of this package without a leading underscore, with a click command named
  ``command``; what it does is imported when it runs, so that ``vbuild --help`` stays quick.
- Results go to standard output; everything else to standard error. What a command prints is made
  in :mod:`vbuild.report`.
- This is the one place where an exception becomes a message and an exit status.
- SIGINT and SIGTERM raise KeyboardInterrupt once; the second one ends the process at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType

import click

from vbuild.cli._console import Console, discard, tolerate
from vbuild.cli._errors import as_error
from vbuild.cli._group import group
from vbuild.cli._options import Session, preview
from vbuild.errors import VbuildError
from vbuild.report.lines import BLANK

__all__ = ["main"]

DEBUG_VARIABLE = "VBUILD_DEBUG"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (default: the process's) and return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    tolerate()
    session = Session(preview(arguments))
    try:
        with _interruptible():
            return _run(arguments, session)
    # The last line of defence: whatever it is, it becomes a message and a status.
    except BaseException as e:
        if isinstance(e, (SystemExit, GeneratorExit)):
            raise
        return _report(e, arguments, session.console)


def _run(arguments: Sequence[str], session: Session) -> int:
    if not arguments:
        with group.make_context("vbuild", [], resilient_parsing=True) as context:
            click.echo(group.get_help(context), err=True)
        return 2
    try:
        with group.make_context("vbuild", list(arguments), obj=session) as context:
            status: int = group.invoke(context)
            return status
    except click.exceptions.Exit as e:  # after --help and --version
        return e.exit_code


def _report(e: BaseException, arguments: Sequence[str], console: Console) -> int:
    """Say what happened, on standard error and in the JSON that was asked for."""
    if isinstance(e, BrokenPipeError) and not console.command:
        discard(sys.stdout)  # whoever read the help has seen enough
        return 0
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(e, file=sys.stderr)
    if isinstance(e, KeyboardInterrupt) and sys.stderr.isatty():
        console.note(BLANK)  # ends the line in which the terminal shows ^C
    error = as_error(e, arguments)
    console.error(error)
    try:
        console.error_document(error)
    except VbuildError as second:
        console.error(second)
    return error.exit_status


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, unless the parent has them ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    caught = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in caught:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    for number in caught:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])
