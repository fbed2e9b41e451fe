"""Where the keys of a TOML text stand, and where further ones can be written.

- The parser of values is tomli; this scanner only finds places. It runs first, over text that
  may be malformed, and stops at the first thing that it cannot read: tomli then says what is
  wrong there.
- It bounds what tomli would spend: nesting, parts of a key and the number of values. (A dotted
  key costs tomli the square of its parts: 2000 lines with 1000 parts each take half a minute.)
- One pass, linear in the text; regular expressions are possessive, so nothing backtracks.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

import tomli

from vbuild.errors import InvalidInput

__all__ = ["Home", "KeyPath", "Outline", "cut", "format_path", "scan"]

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and array indexes (from 0) from the top of the document down."""

MAX_DEPTH: Final = 16
MAX_VALUES: Final = 100_000
LONGEST_SCALAR: Final = 200
LONGEST_KEY: Final = 200

_BLANK = re.compile(r"(?:[ \t\n]++|#[^\n]*+)*+")
_SPACE = re.compile(r"[ \t]*+")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]++")
_BASIC = re.compile(r'"(?:[^"\\\n]++|\\[^\n])*+"')
_LITERAL = re.compile(r"'[^'\n]*+'")
_LONG_BASIC = re.compile(r'"""(?:[^"\\]++|\\[\s\S]|"{1,2}+(?!"))*+"""(?:"{0,2})')
_LONG_LITERAL = re.compile(r"'''(?:[^']++|'{1,2}+(?!'))*+'''(?:'{0,2})")
_WORD = r"[^\s,\[\]{}#\"'=]++"
_SCALAR = re.compile(rf"{_WORD}(?:[ \t]++{_WORD})*+")
_STRINGS = (_LONG_BASIC, _LONG_LITERAL, _BASIC, _LITERAL)


def cut(text: str, length: int) -> str:
    """``text``, or its beginning and an ellipsis where it is longer than ``length``."""
    return text if len(text) <= length else text[:length] + "…"


def format_path(path: KeyPath) -> str:
    """``path`` as a reader would type it: ``delta[0].files."model.bin".size``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = _BARE_KEY.fullmatch(part)
            text += ("." if text else "") + (part if bare else json.dumps(part, ensure_ascii=False))
    return text


@dataclass(frozen=True, slots=True)
class Home:
    """Where a table can get another key.

    ``at`` is the offset behind its last value, or behind what opens it; ``prefix`` stands in front
    of the key (``files.``, of dotted keys). ``inline``: it is, or lies in, an inline table, which
    is ``empty`` where it has no key yet.
    """

    at: int
    prefix: str = ""
    inline: bool = False
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Outline:
    """Where the keys of a document stand.

    ``lines``: key path -> line, from 1. ``homes``: path of a table -> where it can get another
    key, as an offset in the text with LF line ends. ``uris``: path of a ``uri`` that is a string ->
    where its value begins and ends, with its quotes. ``where`` names the document in errors.
    """

    where: str
    lines: Mapping[KeyPath, int]
    homes: Mapping[KeyPath, Home]
    uris: Mapping[KeyPath, tuple[int, int]]

    def line_of(self, path: KeyPath) -> int:
        """The line of ``path``, or of the nearest thing around it that the text has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def place(self, path: KeyPath) -> str:
        """``file:line`` of ``path``."""
        return f"{self.where}:{self.line_of(path)}"

    def error(
        self,
        code: str,
        path: KeyPath,
        what: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        hint: str | None = None,
    ) -> InvalidInput:
        """The error that ``what`` is wrong with the key at ``path``."""
        key = cut(format_path(path), LONGEST_KEY)
        return InvalidInput(
            code,
            f"{key}: {what}" if key else what,
            where=self.place(path),
            expected=expected,
            got=got,
            hint=hint,
        )


class _Stop(Exception):
    """The text is not TOML from here on; tomli finds the words for it."""


def scan(text: str, where: str) -> Outline:
    """The outline of ``text``, up to its first syntax error.

    Line ends are LF. Raises InvalidInput ``manifest-too-deep`` and ``manifest-too-large`` where
    the document is nested deeper, or holds more values, than any manifest.
    """
    scanner = _Scanner(text, where)
    with contextlib.suppress(_Stop):
        scanner.document()
    return Outline(where, scanner.lines, scanner.homes, scanner.uris)


class _Scanner:
    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self.where = where
        self.at = 0
        self.table: KeyPath = ()
        self.lines: dict[KeyPath, int] = {}
        self.homes: dict[KeyPath, Home] = {}
        self.uris: dict[KeyPath, tuple[int, int]] = {}
        self.arrays: dict[KeyPath, int] = {}  # arrays of tables -> their last index
        self.values = 0
        self.newlines = array("I", (m.start() for m in re.finditer("\n", text)))

    def line(self) -> int:
        return bisect.bisect_left(self.newlines, self.at) + 1

    def refuse(self, code: str, what: str, expected: str) -> NoReturn:
        raise InvalidInput(code, what, where=f"{self.where}:{self.line()}", expected=expected)

    def record(self, path: KeyPath, line: int) -> None:
        if len(path) > MAX_DEPTH:
            self.refuse("manifest-too-deep", "too deeply nested", f"at most {MAX_DEPTH} levels")
        self.values += 1
        if self.values > MAX_VALUES:
            self.refuse("manifest-too-large", "too many values", f"at most {MAX_VALUES}")
        self.lines[path] = line

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise _Stop
        self.at = match.end()
        return match[0]

    def accept(self, token: str) -> bool:
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def expect(self, token: str) -> None:
        if not self.accept(token):
            raise _Stop

    def document(self) -> None:
        while True:
            self.take(_BLANK)
            if self.at == len(self.text):
                return
            if self.text[self.at] == "[":
                self.header()
            else:
                self.key_value(self.table, inline=False)

    def header(self) -> None:
        line = self.line()
        self.expect("[")
        double = self.accept("[")
        parts = [part for part, _ in self.key()]
        self.expect("]]" if double else "]")
        path: KeyPath = ()
        for i, part in enumerate(parts, 1):
            path += (part,)
            if path not in self.lines or i == len(parts):
                self.record(path, self.lines.get(path, line) if double else line)
            if double and i == len(parts):
                self.arrays[path] = self.arrays.get(path, -1) + 1
                self.record((*path, self.arrays[path]), line)
            if path in self.arrays:
                path += (self.arrays[path],)
        self.table = path
        self.homes[path] = Home(self.at)

    def key(self) -> list[tuple[str, int]]:
        """The parts of a dotted key, each with the offset behind it; and the space around it."""
        parts = []
        while True:
            self.take(_SPACE)
            parts.append((self.key_part(), self.at))
            if len(parts) > MAX_DEPTH:
                self.refuse("manifest-too-deep", "too deeply nested", f"at most {MAX_DEPTH} levels")
            self.take(_SPACE)
            if not self.accept("."):
                return parts

    def key_part(self) -> str:
        quote = self.text[self.at : self.at + 1]
        if quote == "'":
            return self.take(_LITERAL)[1:-1]
        if quote != '"':
            return self.take(_BARE_KEY)
        raw = self.take(_BASIC)
        if "\\" not in raw:
            return raw[1:-1]
        try:
            return str(tomli.loads(f"key={raw}")["key"])
        except ValueError as e:
            raise _Stop from e

    def key_value(self, table: KeyPath, *, inline: bool) -> None:
        line = self.line()
        begin = self.at
        path, prefix = table, ""
        tables = []
        for part, end in self.key():
            tables.append((path, prefix))
            path, prefix = (*path, part), f"{self.text[begin:end]}."
            if path not in self.lines:
                self.record(path, line)
        self.expect("=")
        self.take(_SPACE)
        self.value(path)
        for owner, prefix in tables:
            self.homes[owner] = Home(self.at, prefix, inline)

    def value(self, path: KeyPath) -> None:
        if self.accept("["):
            self.items(path, "]")
        elif self.accept("{"):
            self.items(path, "}")
        elif self.text[self.at : self.at + 1] in ('"', "'"):
            match = next((m for s in _STRINGS if (m := s.match(self.text, self.at))), None)
            if match is None:
                raise _Stop
            self.at = match.end()
            if path[-1] == "uri":
                self.uris[path] = match.span()
        elif len(self.take(_SCALAR)) > LONGEST_SCALAR:
            self.refuse(
                "manifest-syntax", "a number is too long", f"at most {LONGEST_SCALAR} characters"
            )

    def items(self, path: KeyPath, close: str) -> None:
        """What stands in an array, or in an inline table, up to and with ``close``."""
        if close == "}":
            self.homes[path] = Home(self.at, inline=True, empty=True)
        index = 0
        while True:
            self.take(_BLANK)
            if self.accept(close):
                return
            if close == "]":
                self.record((*path, index), self.line())
                self.value((*path, index))
                index += 1
            else:
                self.key_value(path, inline=True)
            self.take(_BLANK)
            if not self.accept(","):
                self.expect(close)
                return
