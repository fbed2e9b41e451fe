"""Edits of a JSON file that leave every byte alone which they need not change.

- A changed value is replaced where it stands; new members and items go behind the last one, in
  the style of their neighbours: indentation, line ends, space after the colon.
- A member that has the wanted value already is not touched, however it is written.
- The text must be a document that ``vbuild.strict_json`` accepts: keys are unique, nesting is
  bounded. Nothing is checked twice here.
- Offsets come from the standard parser's own scanner, so a file of many megabytes is located in
  as many milliseconds as parsing takes, and is never serialized again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vbuild.strict_json import Json

__all__ = ["append_items", "new_document", "set_members", "set_members_of_children"]

_SPACE = re.compile(r"[ \t\n\r]*")
_LINE_END = re.compile(r"\r\n|\n|\r")
_SCANNER = json.JSONDecoder()
_LONGEST_SPACE = 256  # a longer gap is not a style, and would be written once for every insertion


@dataclass(frozen=True, slots=True)
class _Child:
    """A member or an item: its key or index, where it begins, its value's begin and end."""

    key: str | int
    begin: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class _Style:
    """How the children of one container are written.

    ``gap`` is what stands between a comma and the next child, ``unit`` one level of indentation.
    """

    gap: str
    colon: str
    unit: str

    def dump(self, value: Json) -> str:
        line_end = _LINE_END.search(self.gap)
        if line_end is None:
            return json.dumps(value, ensure_ascii=False, separators=("," + self.gap, self.colon))
        text = json.dumps(value, ensure_ascii=False, indent=self.unit, separators=(",", self.colon))
        return text.replace("\n", line_end[0] + _indentation(self.gap))

    def member(self, key: str, value: Json) -> str:
        return json.dumps(key, ensure_ascii=False) + self.colon + self.dump(value)


def new_document(value: Mapping[str, Json]) -> bytes:
    """A new JSON file: two spaces a level, keys in the order of ``value``, a final newline."""
    return (json.dumps(dict(value), ensure_ascii=False, indent=2) + "\n").encode("utf-8")


def set_members(text: str, path: Sequence[str | int], members: Mapping[str, Json]) -> str:
    """``text`` with ``members`` in the object at ``path``: changed, or inserted at its end.

    ``path`` leads from the root through keys and indices to an object that is there.
    """
    at = _locate(text, path)
    children = _children(text, at)
    style = _style(text, path, at, children)
    known = {child.key: child for child in children}
    new = [style.member(key, value) for key, value in members.items() if key not in known]
    if new:
        text = _insert(text, at, children, style, new, len(path))
    for child in reversed(children):  # from the back, so that offsets in front stay true
        if isinstance(child.key, str) and child.key in members:
            text = _replace(text, child, style, members[child.key])
    return text


def set_members_of_children(
    text: str, path: Sequence[str | int], edits: Mapping[str | int, Mapping[str, Json]]
) -> str:
    """``text`` with ``edits`` (key or index -> members) in the objects inside the one at ``path``.

    One pass, however many objects change. The new values are scalars.
    """
    parts = []
    done = 0
    for child in _children(text, _locate(text, path)):
        if child.key in edits:
            parts.append(text[done : child.value])
            parts.append(set_members(text[child.value : child.end], (), edits[child.key]))
            done = child.end
    return "".join(parts) + text[done:]


def append_items(text: str, path: Sequence[str | int], items: Sequence[Json]) -> str:
    """``text`` with ``items`` at the end of the array at ``path``, which is there."""
    if not items:
        return text
    at = _locate(text, path)
    children = _children(text, at)
    style = _style(text, path, at, children)
    return _insert(text, at, children, style, [style.dump(i) for i in items], len(path))


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _children(text: str, at: int) -> list[_Child]:
    """The members or items of the container that begins at ``at``."""
    is_object = text[at] == "{"
    children: list[_Child] = []
    end = at
    while True:
        begin = value = _skip(text, end + 1)
        if text[begin] in "]}":  # only of an empty container
            return children
        key: str | int = len(children)
        if is_object:
            key, end = _SCANNER.raw_decode(text, begin)
            value = _skip(text, _skip(text, end) + 1)
        _, stop = _SCANNER.raw_decode(text, value)
        children.append(_Child(key, begin, value, stop))
        end = _skip(text, stop)
        if text[end] != ",":
            return children


def _locate(text: str, path: Sequence[str | int]) -> int:
    """Where the value at ``path`` begins."""
    at = _skip(text, 0)
    for step in path:
        at = next(child.value for child in _children(text, at) if child.key == step)
    return at


def _indentation(gap: str) -> str:
    """What stands behind the last line end of ``gap``."""
    return _LINE_END.split(gap)[-1]


def _style(text: str, path: Sequence[str | int], at: int, children: Sequence[_Child]) -> _Style:
    """The style of the container at ``at``; an empty one takes that of the root."""
    root_at = _skip(text, 0)
    root = _children(text, root_at) if path else children
    colon = _colon(text, children) or _colon(text, root) or ": "
    root_gap = _gap(text, root_at, root, colon, "\n  ")
    is_multiline = _LINE_END.search(root_gap) is not None
    unit = _indentation(root_gap) if is_multiline else "  "
    default = root_gap + unit * len(path) if is_multiline else root_gap
    return _Style(_gap(text, at, children, colon, default), colon, unit)


def _gap(text: str, at: int, children: Sequence[_Child], colon: str, default: str) -> str:
    """The white space in front of the last child; ``default`` where there is no child."""
    if not children:
        return default
    begin = text.index(",", children[-2].end) + 1 if len(children) > 1 else at + 1
    gap = text[begin : children[-1].begin]
    if len(gap) > _LONGEST_SPACE:
        return default
    if gap or len(children) > 1:
        return gap
    # A lone child says nothing about commas; the space behind the colon is the best witness.
    return " " if colon.endswith(" ") else ""


def _colon(text: str, children: Sequence[_Child]) -> str | None:
    """What stands between key and value of the last member, if it is on one line."""
    if not children or isinstance(children[-1].key, int):
        return None
    last = children[-1]
    _, key_end = _SCANNER.raw_decode(text, last.begin)
    colon = text[key_end : last.value]
    return None if _LINE_END.search(colon) or len(colon) > _LONGEST_SPACE else colon


def _insert(
    text: str, at: int, children: Sequence[_Child], style: _Style, new: Sequence[str], depth: int
) -> str:
    """``text`` with the written children ``new`` behind the last child of the container."""
    if children:
        behind = children[-1].end
        return text[:behind] + "".join(f",{style.gap}{n}" for n in new) + text[behind:]
    written = f",{style.gap}".join(new)
    line_end = _LINE_END.search(style.gap)
    if line_end is None:
        return text[: at + 1] + written + text[at + 1 :]
    inside = text[at + 1 : _skip(text, at + 1)]
    tail = "" if _LINE_END.search(inside) else line_end[0] + style.unit * depth
    return text[: at + 1] + style.gap + written + tail + text[at + 1 :]


def _replace(text: str, child: _Child, style: _Style, value: Json) -> str:
    present = _SCANNER.raw_decode(text, child.value)[0]
    if _canonical(present) == _canonical(value):
        return text
    return text[: child.value] + style.dump(value) + text[child.end :]


def _canonical(value: Json) -> str:
    """A text that tells ``1``, ``1.0`` and ``true`` apart, as ``==`` does not."""
    return json.dumps(value, sort_keys=True)
