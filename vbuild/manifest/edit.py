"""Pins written into the text of a manifest, everything else as it was.

- Text is only inserted, at the places that ``outline.py`` has found: into the braces of an inline
  table, or as lines behind a table's last key. (An editor of TOML documents is not used: it moves
  sections where ``[[delta]]`` tables do not follow each other.) Only a ``uri`` is replaced, where
  a commit takes the place of a branch.
- A ``files`` that is missing goes right behind the keys of its table, as ``[base.files]`` or
  ``[delta.files]``, one line per file, sorted by name.
- The result is parsed again. If it does not say exactly what was meant, nothing is written.
"""

from __future__ import annotations

import bisect
import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from vbuild.errors import InvalidInput
from vbuild.manifest.load import parse_toml
from vbuild.manifest.outline import Home, KeyPath, Outline, format_path

__all__ = ["NewUri", "Pin", "pinned_text"]

Node: TypeAlias = Any
"""A part of a parsed TOML document."""

_INDENT = re.compile(r"[ \t]*")
_COMMENT = re.compile(r"[ \t]*#")
_BLANK_OR_END = re.compile(r"[ \t]*(\n|$)")


@dataclass(frozen=True, slots=True)
class Pin:
    """A file's size and digest, and the key that they belong to.

    ``place`` is ``(…, "files", name)`` or ``("tokenizer", "tokens_sha256")``.
    """

    place: KeyPath
    size: int
    sha256: str

    @property
    def of_file(self) -> bool:
        """Whether it stands in a table of files."""
        return self.place[-2] == "files"

    def set_in(self, document: Node) -> None:
        """Set the pin in a parsed document, making the tables that are missing."""
        *parents, last = self.place
        for part in parents:
            document = document.setdefault(part, {}) if part == "files" else document[part]
        if self.of_file:
            document.setdefault(last, {}).update(size=self.size, sha256=self.sha256)
        else:
            document[last] = self.sha256


@dataclass(frozen=True, slots=True)
class NewUri:
    """``uri`` instead of what the key ``place``, ``(…, "uri")``, says."""

    place: KeyPath
    uri: str

    def set_in(self, document: Node) -> None:
        """Set it in a parsed document."""
        _lookup(document, self.place[:-1])["uri"] = self.uri

    def replacement(self, text: str, outline: Outline) -> _Insertion:
        """The string of the same kind, basic or literal, with the new URI in it."""
        begin, end = outline.uris[self.place]
        quotes = text[begin : begin + 3]
        quotes = quotes if quotes in ('"""', "'''") else quotes[0]
        return _Insertion(begin, end, f"{quotes}{self.uri}{quotes}")


@dataclass(frozen=True, slots=True)
class _Insertion:
    """``text`` instead of what stands from ``begin`` to ``end``, offsets with LF line ends."""

    begin: int
    end: int
    text: str


def pinned_text(
    data: bytes, outline: Outline, pins: Sequence[Pin], uris: Sequence[NewUri] = ()
) -> bytes:
    """``data``, a manifest, with ``pins`` and ``uris``; ``data`` itself where it has them all.

    InvalidInput (``lock-layout``) where they cannot be put into the way it is written.
    """
    original = data.decode("utf-8")
    text = original.replace("\r\n", "\n")
    before = parse_toml(text, outline.where)
    meant = copy.deepcopy(before)
    changes: list[Pin | NewUri] = [*pins, *uris]
    for new in changes:
        new.set_in(meant)
    if meant == before:
        return data
    try:
        replaced = [uri.replacement(text, outline) for uri in uris]
        edited = _applied(original, [*_insertions(text, outline, before, pins), *replaced])
        written = parse_toml(edited.replace("\r\n", "\n"), outline.where) == meant
    except (InvalidInput, LookupError, ValueError):
        written = False
    if not written:
        raise InvalidInput(
            "lock-layout",
            "the pins cannot be written into a table that is laid out like this",
            where=outline.place(changes[0].place),
            expected='a table [base.files] or [delta.files] with lines "NAME" = {}',
            got=format_path(changes[0].place),
        )
    return edited.encode("utf-8")


def _lookup(document: Node, path: KeyPath) -> Node:
    for part in path:
        document = document[part]
    return document


def _insertions(
    text: str, outline: Outline, before: Mapping[str, object], pins: Sequence[Pin]
) -> Iterator[_Insertion]:
    """What has to be written where, so that ``before`` says ``pins`` too."""
    new: dict[KeyPath, dict[str, str]] = {}  # tables that have no `files` yet
    for pin in pins:
        table = pin.place[:-1]
        if not pin.of_file:
            if pin.place[-1] not in _lookup(before, table):
                yield _members(text, outline.homes[table], {str(pin.place[-1]): f'"{pin.sha256}"'})
        elif "files" not in _lookup(before, table[:-1]):
            name = json.dumps(pin.place[-1], ensure_ascii=False)
            new.setdefault(table[:-1], {})[name] = f"{{ {_written(_values(pin))} }}"
        else:
            known = _lookup(before, pin.place)
            missing = {key: value for key, value in _values(pin).items() if key not in known}
            if missing:
                yield _members(text, outline.homes[pin.place], missing)
    for owner, files in new.items():
        home = outline.homes[owner]
        listed = dict(sorted(files.items()))
        if home.inline or home.prefix:
            yield _members(text, home, {"files": f"{{ {_written(listed)} }}"})
        else:
            header = ".".join(str(part) for part in owner if isinstance(part, str))
            at = _end_of_table(text, home.at)
            yield _lines(
                text, at, [f"[{header}.files]", *(f"{k} = {v}" for k, v in listed.items())]
            )


def _values(pin: Pin) -> dict[str, str]:
    return {"size": str(pin.size), "sha256": f'"{pin.sha256}"'}


def _written(members: Mapping[str, str]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in members.items())


def _members(text: str, home: Home, members: Mapping[str, str]) -> _Insertion:
    """``members``, in the order given, written into the table that has this home."""
    keys = {home.prefix + key: value for key, value in members.items()}
    if home.empty:
        return _Insertion(home.at, text.index("}", home.at), f" {_written(keys)} ")
    if home.inline:
        return _Insertion(home.at, home.at, f", {_written(keys)}")
    begin = text.rfind("\n", 0, home.at) + 1
    indent = _INDENT.match(text, begin)
    assert indent is not None
    lines = [f"{indent[0]}{key} = {value}" for key, value in keys.items()]
    return _lines(text, _end_of_line(text, home.at), lines)


def _lines(text: str, at: int, lines: Sequence[str]) -> _Insertion:
    """``lines`` at ``at``, where a line begins or the text ends."""
    start = "\n" if at and text[at - 1] != "\n" else ""
    return _Insertion(at, at, start + "".join(line + "\n" for line in lines))


def _end_of_line(text: str, at: int) -> int:
    return text.find("\n", at) + 1 or len(text)


def _end_of_table(text: str, at: int) -> int:
    """Where a table ends whose last key ends at ``at``: comments right below belong to it.

    Not those that stand right above what comes next.
    """
    end = at = _end_of_line(text, at)
    while _COMMENT.match(text, end):
        end = _end_of_line(text, end)
    return end if _BLANK_OR_END.match(text, end) else at


def _applied(original: str, insertions: Sequence[_Insertion]) -> str:
    """``original`` with the insertions; new lines end as its own do, LF where these differ."""
    returns = [m.start() - i for i, m in enumerate(re.finditer("\r\n", original))]
    newline = "\r\n" if len(returns) == original.count("\n") > 0 else "\n"
    parts = []
    done = 0
    for new in sorted(insertions, key=lambda n: n.begin):
        begin, end = (at + bisect.bisect_left(returns, at) for at in (new.begin, new.end))
        parts += [original[done:begin], new.text.replace("\n", newline)]
        done = end
    return "".join(parts) + original[done:]
