"""What a command may say, and where it goes.

- Standard output has results, or one JSON document and nothing else; standard error has progress,
  notices, warnings and errors.
- Colours only on a terminal: ``--no-color``, then ``NO_COLOR``, then ``FORCE_COLOR`` decide.
- No output can make a command fail in a way that looks like an answer: characters that the stream
  cannot encode are escaped, a reader that has gone is ignored, a full disk is an error (3).
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from vbuild.errors import InvalidInput, VbuildError
from vbuild.files import os_error, write_atomic
from vbuild.report.document import Fields, dumps, error_fields
from vbuild.report.error import error_lines, hint_line, warning_line
from vbuild.report.lines import Line, render

if TYPE_CHECKING:
    from vbuild.progress import Progress

__all__ = ["Console", "discard", "tolerate", "use_color"]


def tolerate() -> None:
    """Make both streams accept every character; a closed stream becomes one that drops all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            null = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(null, "w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard(stream: TextIO) -> None:
    """Send what ``stream`` still has, and all that follows, nowhere."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def use_color(stream: TextIO, no_color: bool, environment: Mapping[str, str]) -> bool:
    """Whether ``stream`` gets colours."""
    if no_color or environment.get("NO_COLOR"):
        return False
    forced = environment.get("FORCE_COLOR")
    if forced:
        return forced != "0"
    return is_terminal(stream, environment)


def is_terminal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether ``stream`` is a terminal that can do more than print lines."""
    return stream.isatty() and environment.get("TERM") != "dumb"


class Console:
    """The streams of one command, which is called ``command`` in the names of its JSON."""

    def __init__(
        self,
        command: str,
        *,
        json_to: str | None = None,
        quiet: bool = False,
        no_color: bool = False,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.command = command
        self.json_to = json_to
        self.quiet = quiet
        self.no_color = no_color
        self.environment = environment
        self.silent = False

    def check_target(self) -> None:
        """Refuse a FILE for JSON that cannot be written, before the work is done."""
        if self.json_to is None or self.json_to == "-":
            return
        if not _may_be_file(self.json_to):
            target, self.json_to = self.json_to, None
            what, hint = _refusal("JSON", target)
            raise InvalidInput("json-target", what, where=target or "--json=", hint=hint)

    def check_targets(self, targets: Mapping[str, str | None]) -> None:
        """Refuse FILEs (by option) that cannot be written, or one that two options name.

        One that goes to standard output silences :meth:`result`.
        """
        wanted = {"--json": self.json_to, **targets}
        taken = [option for option, target in wanted.items() if target == "-"]
        if len(taken) > 1:
            what = f"{taken[0]} and {taken[1]} would both go to standard output"
            raise InvalidInput("usage", what, hint=f"write {taken[1]}=FILE")
        for option, target in targets.items():
            if target not in (None, "-") and not _may_be_file(str(target)):
                what, hint = _refusal("report", str(target))
                raise InvalidInput("report-target", what, where=target or f"{option}=", hint=hint)
        first: dict[Path, str] = {}
        for option, target in wanted.items():
            if target is None or target == "-":
                continue
            other = first.setdefault(Path(target).resolve(), option)
            if other != option:
                what = f"{other} and {option} would both write {target}"
                raise InvalidInput("usage", what, hint="give each a file of its own")
        self.silent = bool(taken)

    def result(self, lines: Iterable[Line], *, wrong: bool = False) -> None:
        """Lines for standard output; ``wrong``: they say what is wrong, so also with --quiet."""
        if not self.silent and self.json_to != "-" and (wrong or not self.quiet):
            self._write(sys.stdout, lines)

    def note(self, *lines: Line) -> None:
        """Lines for standard error that --quiet leaves out."""
        if not self.quiet:
            self._write(sys.stderr, lines)

    def warn(self, warning: str) -> None:
        """A warning."""
        self._write(sys.stderr, [warning_line(warning)])

    def hint(self, hint: str) -> None:
        """What to do next."""
        self._write(sys.stderr, [hint_line(hint)])

    def error(self, error: VbuildError) -> None:
        """An error and its hint."""
        with contextlib.suppress(OSError):
            sys.stdout.flush()  # so that the two streams of a terminal are in order
        self._write(sys.stderr, error_lines(error))

    def document(self, fields: Fields) -> None:
        """The result as JSON, if it was asked for."""
        self._document(f"vbuild.{self.command}/1", fields)

    def error_document(self, error: VbuildError) -> None:
        """An error as JSON, if JSON was asked for."""
        self._document("vbuild.error/1", error_fields(error))

    def progress(self) -> Progress | None:
        """Who hears how far a build is: a bar on a terminal, a few lines elsewhere."""
        if self.quiet:
            return None
        from vbuild.cli._progress import Bar, Lines

        if is_terminal(sys.stderr, self.environment):
            return Bar(sys.stderr, use_color(sys.stderr, self.no_color, self.environment))
        return Lines(lambda text: self.note(text))

    def _document(self, schema: str, fields: Fields) -> None:
        if self.json_to is None:
            return
        self.report(self.json_to, dumps(schema, fields))

    def report(self, target: str, text: str) -> None:
        """Write ``text`` to the file ``target``, or to standard output if it is ``-``."""
        if target == "-":
            _send(sys.stdout, text)
            return
        path = Path(target)
        try:
            if path.exists() and not path.is_file():
                path.write_text(text, encoding="utf-8")  # a pipe or a device
            else:
                write_atomic(path.resolve(), text.encode("utf-8"))
        except BrokenPipeError:
            return
        except OSError as e:
            raise os_error(e, target, "write") from e

    def _write(self, stream: TextIO, lines: Iterable[Line]) -> None:
        colour = use_color(stream, self.no_color, self.environment)
        _send(stream, "".join(render(line, colour=colour) + "\n" for line in lines))


def _may_be_file(target: str) -> bool:
    path = Path(target)
    return bool(target) and not path.is_dir() and path.parent.is_dir() and not _is_weights(path)


def _is_weights(path: Path) -> bool:
    """Whether a file of weights is there: the next argument, taken for the FILE of an option."""
    return path.is_file() and path.name.endswith((".safetensors", ".bin", ".pt", ".pth", ".gguf"))


def _refusal(what: str, target: str) -> tuple[str, str]:
    """What is wrong with the FILE ``target``, and what to do."""
    if target and _is_weights(Path(target)):
        hint = "write the option as --OPTION=FILE, or behind the other arguments"
        return f"the {what} would replace weights", hint
    return f"the {what} cannot be written there", "name a file in a directory that exists"


def _send(stream: TextIO, text: str) -> None:
    """Write ``text`` now. A reader that has gone is no error; nor is a broken standard error."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        discard(stream)
    except OSError as e:
        discard(stream)
        if stream is not sys.stderr:
            raise os_error(e, "standard output", "write") from e
