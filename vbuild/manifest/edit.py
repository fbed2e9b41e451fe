"""Pins written into the text of a manifest, everything else as it was.

- A new ``[base.files]`` or ``[delta.files]`` goes right behind the keys of its table, one line per
  file, sorted by name.
- An existing ``"name" = {}`` is filled in by tomlkit, which keeps the rest of the line; so is
  whatever other way of writing a table the manifest uses.
- The result is parsed again. If it does not say exactly what was meant, nothing is written:
  TOML has more ways to write a table than editing them can be trusted with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import tomlkit
import tomlkit.items
from tomlkit.exceptions import TOMLKitError

from vbuild.errors import InvalidInput
from vbuild.manifest.load import parse_toml
from vbuild.manifest.outline import KeyPath, Outline, format_path

__all__ = ["Pin", "pinned_text"]

Node: TypeAlias = Any
"""A part of a TOML document, plain or tomlkit's."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A file's size and digest, and the key that they belong to.

    ``place`` is ``(…, "files", name)`` or ``("tokenizer", "tokens_sha256")``.
    """

    place: KeyPath
    size: int
    sha256: str

    def set_in(self, document: Node) -> None:
        """Set the pin in a parsed document, making the tables that are missing."""
        *parents, last = self.place
        for part in parents:
            document = document.setdefault(part, {}) if part == "files" else document[part]
        if parents[-1] == "files":
            document.setdefault(last, {}).update(size=self.size, sha256=self.sha256)
        else:
            document[last] = self.sha256


def pinned_text(data: bytes, outline: Outline, pins: Sequence[Pin]) -> bytes:
    """``data``, a manifest, with ``pins``; ``data`` itself where it has them all.

    InvalidInput (``lock-layout``) where they cannot be put into the way it is written.
    """
    before = _parsed(data.decode("utf-8"), outline)
    meant = _copy(before)
    for pin in pins:
        pin.set_in(meant)
    if meant == before:
        return data
    newline = "\r\n" if data.count(b"\r\n") == data.count(b"\n") > 0 else "\n"
    text = _with_tables(data.decode("utf-8"), outline, before, pins, newline)
    try:
        if _parsed(text, outline) != meant:
            text = _with_pins(text, pins, newline)
        written = _parsed(text, outline) == meant
    except (InvalidInput, TOMLKitError, LookupError, TypeError, ValueError):
        # tomlkit reads less than TOML 1.1 and trips over some ways of writing a table.
        written = False
    if not written:
        raise InvalidInput(
            "lock-layout",
            "the pins cannot be written into a table that is laid out like this",
            where=outline.place(pins[0].place),
            expected='a table [base.files] or [delta.files] with lines "NAME" = {}',
            got=format_path(pins[0].place),
        )
    return text.encode("utf-8")


def _parsed(text: str, outline: Outline) -> Mapping[str, object]:
    return parse_toml(text.replace("\r\n", "\n"), outline.where)


def _copy(value: Node) -> Node:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _inline(pin: Pin) -> str:
    return f'{{ size = {pin.size}, sha256 = "{pin.sha256}" }}'


def _lookup(document: Node, path: KeyPath) -> Node:
    for part in path:
        document = document[part]
    return document


def _with_tables(
    text: str, outline: Outline, before: Mapping[str, object], pins: Sequence[Pin], newline: str
) -> str:
    """``text`` with a ``files`` table for each input that has none and is a table with a header."""
    lines = re.split(r"(?<=\n)", text)
    blocks: dict[int, list[str]] = {}
    for pin in sorted(pins, key=lambda pin: str(pin.place[-1])):
        *table, files, name = pin.place
        owner = tuple(table)
        if files == "files" and owner in outline.ends and "files" not in _lookup(before, owner):
            at = _end_of_table(lines, outline.ends[owner])
            header = ".".join(str(part) for part in owner if isinstance(part, str))
            block = blocks.setdefault(at, [f"[{header}.files]"])
            block.append(f"{json.dumps(name, ensure_ascii=False)} = {_inline(pin)}")
    for at in sorted(blocks, reverse=True):
        if not lines[at - 1].endswith("\n"):
            lines[at - 1] += newline
        lines[at:at] = [line + newline for line in blocks[at]]
    return "".join(lines)


def _end_of_table(lines: Sequence[str], last: int) -> int:
    """The number of lines up to the table's end: comments right below it belong to it.

    Not those that stand right above what comes next.
    """
    end = last
    while end < len(lines) and lines[end].lstrip().startswith("#"):
        end += 1
    return end if end == len(lines) or not lines[end].strip() else last


def _with_pins(text: str, pins: Sequence[Pin], newline: str) -> str:
    """``text`` with the pins that it lacks set by tomlkit."""
    document = tomlkit.parse(text)
    for pin in pins:
        *parents, last = pin.place
        if parents[-1] != "files":
            _lookup(document, tuple(parents))[last] = pin.sha256
            continue
        owner = _lookup(document, tuple(parents[:-1]))
        if "files" not in owner:
            owner["files"] = tomlkit.inline_table()
        known = owner["files"].get(last)
        wanted = {"size": pin.size, "sha256": pin.sha256}
        if known == wanted:
            continue
        if known is None or isinstance(known, tomlkit.items.InlineTable):
            owner["files"][last] = tomlkit.value(_inline(pin))
        else:
            known.update({key: wanted[key] for key in wanted if key not in known})
    return re.sub(r"(?<!\r)\n", newline, tomlkit.dumps(document))  # tomlkit's own are LF
