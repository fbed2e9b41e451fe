"""JSON from strangers: one meaning per document, in bounded time and memory.

- The parser is the standard library's. What it lets through and others do not is refused here:
  duplicate keys (escapes undone), NaN and Infinity, lone surrogates, a byte order mark, text
  that is not UTF-8, integers beyond 64 bits, numbers that overflow a double (bad-inputs.md, 36,
  38, 64, 69).
- Size, depth and number of elements are judged before the parser runs, without building
  objects: the standard parser recurses, and ten million tiny lists are a gigabyte (37).
- ``-0`` is the double -0.0, as in serde_json and JavaScript, never the integer 0 (41).
"""

from __future__ import annotations

import json
import math
import re
from typing import Final, NoReturn, TypeAlias

from vbuild.errors import InvalidInput

__all__ = ["Json", "loads", "quoted"]

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

MAX_SIZE: Final = 100_000_000
"""Bytes; the largest document, which is also the largest header that safetensors reads."""

MAX_ELEMENTS: Final = 4_000_000
"""The most list items and object members; a tokenizer with 500 000 merges has two million."""

_LONGEST_NUMBER = 64
_BLOCK = 1 << 20
_FLAT = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"{}[],"))
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)


def loads(
    data: bytes,
    where: str,
    *,
    code: str = "json-malformed",
    max_depth: int = 64,
    max_size: int = MAX_SIZE,
    max_elements: int = MAX_ELEMENTS,
) -> Json:
    """The value of the JSON document ``data``, as plain Python objects.

    ``where`` names the document in errors. Every refusal is InvalidInput with ``code``. A list
    or object inside another counts for ``max_depth``, a list item or object member for
    ``max_elements``; ``max_size`` is in bytes.
    """
    document = _Document(where, code)
    if len(data) > max_size:
        document.refuse("JSON document is too large", f"at most {max_size} bytes", len(data))
    if data.startswith(b"\xef\xbb\xbf"):
        document.refuse("JSON text starts with a byte order mark")
    if b"\\u" in data and _LONE_SURROGATE.search(data.replace(b"\\\\", b"__")):
        document.refuse("JSON string has an escaped lone surrogate")
    _check_structure(data, document, max_depth, max_elements)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        document.refuse(f"JSON text is not UTF-8 at byte {e.start}")
    return document.parse(text)


def quoted(text: str) -> str:
    """``text`` in double quotes for a message, cut at 80 characters."""
    return json.dumps(_shortened(text), ensure_ascii=False)


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_structure(data: bytes, document: _Document, max_depth: int, max_elements: int) -> None:
    """Refuse more than ``max_elements`` elements or a nesting deeper than ``max_depth``.

    Exact for valid JSON. In a malformed document the count runs on after the first error, so it
    may be refused for another reason than the parser would give.
    """
    # Without escaped backslashes and escaped quotes, every quote opens or closes a string.
    data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = bytearray()
    elements = 0
    inside = 0
    for begin in range(0, len(data), _BLOCK):
        parts = data[begin : begin + _BLOCK].split(b'"')
        structure = b"".join(parts[inside::2]).translate(_FLAT, _NOT_STRUCTURE)
        inside = (inside + len(parts) - 1) & 1
        found = structure.replace(b",", b"")
        brackets += found
        elements += len(structure) - len(found) + found.count(b"[")
        if elements > max_elements:
            document.refuse(f"JSON document has more than {max_elements} elements")
    for _ in range(max_depth):  # each round takes away the innermost level
        brackets = brackets.replace(b"[]", b"")
    if b"[]" in brackets or brackets.count(b"[") > max_depth:
        document.refuse(f"JSON is nested deeper than {max_depth} levels")


class _Document:
    """The parser's hooks, and the name and code that their errors carry."""

    def __init__(self, where: str, code: str) -> None:
        self.where = where
        self.code = code

    def refuse(self, what: str, expected: object = None, got: object = None) -> NoReturn:
        raise InvalidInput(self.code, what, where=self.where, expected=expected, got=got)

    def parse(self, text: str) -> Json:
        decoder = json.JSONDecoder(
            object_pairs_hook=self.members,
            parse_int=self.integer,
            parse_float=self.real,
            parse_constant=self.constant,
        )
        try:
            value: Json = decoder.decode(text)
        except json.JSONDecodeError as e:
            at = len(text[: e.pos].encode("utf-8"))
            reason = e.msg[:1].lower() + e.msg[1:]
            self.refuse(f"not valid JSON at byte {at}: {reason}")
        return value

    def members(self, pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self.refuse(f"duplicate key {quoted(key)}")
                seen.add(key)
        return value

    def integer(self, digits: str) -> int | float:
        if digits == "-0":
            return -0.0
        value = int(digits) if len(digits) <= 20 else None
        if value is None or not -(1 << 63) <= value < 1 << 64:
            self.refuse("JSON integer does not fit 64 bits", got=_shortened(digits))
        return value

    def real(self, digits: str) -> float:
        if len(digits) > _LONGEST_NUMBER:
            self.refuse("JSON number is too long", f"at most {_LONGEST_NUMBER} characters")
        if not math.isfinite(value := float(digits)):
            self.refuse("JSON number does not fit a double", got=digits)
        return value

    def constant(self, name: str) -> NoReturn:
        self.refuse(f"{name} is not JSON")
