"""Why a document does not fit the schema: the first offending key, with its line.

- msgspec decides whether a document fits; its messages leave out the keys of tables, so this
  walk over the same types finds the place and says what was expected there.
- Order: the schema version, then the document's keys as they stand, then what is missing.
- The nearest known key or value is suggested.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final, cast

import msgspec
from msgspec import inspect

from vbuild.errors import InvalidInput
from vbuild.manifest.outline import KeyPath, Outline, cut
from vbuild.manifest.schema import (
    EXPECTED,
    LATER,
    SCHEMA_VERSION,
    SHA256_PATTERN,
    FilePin,
    Manifest,
    OutputPin,
)

__all__ = ["convert", "nearest", "quote"]

LONGEST_QUOTE: Final = 60
TABLE: Final = "a table"
ARRAY: Final = "an array"


def convert(document: Mapping[str, object], outline: Outline) -> Manifest:
    """``document`` (parsed TOML) as a Manifest; InvalidInput with file, line and key otherwise."""
    version = document.get("schema", SCHEMA_VERSION)
    if isinstance(version, str) and version != SCHEMA_VERSION:
        raise outline.error(
            "schema-version",
            ("schema",),
            "not a version of the manifest language that this vbuild knows",
            expected=quote(SCHEMA_VERSION),
            got=quote(version),
        )
    try:
        return msgspec.convert(document, Manifest, strict=True)
    except (msgspec.ValidationError, ValueError, OverflowError) as e:
        # ValueError: an integer with more digits than Python prints.
        walk = _Walk(outline)
        walk.visit(inspect.type_info(Manifest), document, ())
        raise outline.error("bad-manifest", (), cut(str(e), LONGEST_QUOTE)) from e


def nearest(word: str, known: Iterable[str]) -> str | None:
    """``did you mean "X"?`` for the known word that is nearest to ``word``, if one is near."""
    near = difflib.get_close_matches(word[:LONGEST_QUOTE], sorted(known), n=1)
    return f'did you mean "{near[0]}"?' if near else None


def quote(value: object) -> str:
    """``value`` as TOML writes it, cut to what fits into a line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 64 else f"a {value.bit_length()}-bit integer"
    if isinstance(value, str):
        return f'"{cut(value, LONGEST_QUOTE)}"'
    if isinstance(value, Mapping):
        return TABLE
    if isinstance(value, list):
        return ARRAY
    if isinstance(value, datetime.date | datetime.time):
        return "a date or time"
    return str(value)


def _one_of(values: Iterable[object]) -> str:
    words = [quote(v) for v in values]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


class _Walk:
    def __init__(self, outline: Outline) -> None:
        self.outline = outline

    def visit(self, kind: inspect.Type, value: object, path: KeyPath) -> None:
        """Raise what is wrong with ``value`` as a ``kind``, if anything is."""
        match kind:
            case inspect.Metadata():
                self.visit(kind.type, value, path)
            case inspect.UnionType():
                self.visit(_member(kind, value), value, path)
            case inspect.StructType():
                self.struct(kind, self.table(value, path), path)
            case inspect.DictType():
                table = self.table(value, path)
                if len(table) < (kind.min_length or 0):
                    raise self.outline.error(
                        "empty-list", path, "lists no file", hint="name each file, or leave it out"
                    )
                for key, item in table.items():
                    self.visit(kind.value_type, item, (*path, key))
            case inspect.VarTupleType():
                self.array(kind, value, path)
            case inspect.StrType():
                self.string(kind, value, path)
            case inspect.IntType():
                self.integer(kind, value, path)
            case inspect.BoolType() if not isinstance(value, bool):
                raise self.wrong_type(path, "true or false", value)
            case _:
                pass

    def wrong_type(self, path: KeyPath, expected: str, value: object) -> InvalidInput:
        tables = isinstance(value, list) and any(isinstance(item, dict) for item in value)
        hint = None
        if expected == ARRAY and isinstance(value, dict):
            hint = f"write [[{path[-1]}]], once for each"
        elif expected == TABLE and tables:
            hint = f"write [{path[-1]}]: there is only one"
        return self.outline.error(
            "wrong-type", path, "wrong type", expected=expected, got=quote(value), hint=hint
        )

    def table(self, value: object, path: KeyPath) -> dict[str, object]:
        if not isinstance(value, dict):
            raise self.wrong_type(path, TABLE, value)
        return cast("dict[str, object]", value)

    def struct(self, kind: inspect.StructType, table: dict[str, object], path: KeyPath) -> None:
        fields = {field.encode_name: field for field in kind.fields}
        for key, value in table.items():
            if key not in fields:
                raise self.unknown_key(kind, key, value, path)
        for key, value in table.items():
            self.field(kind, fields[key], value, (*path, key))
        for key, field in fields.items():
            if field.required and key not in table:
                raise self.outline.error("missing-key", path, f'the key "{key}" is missing')

    def unknown_key(
        self, kind: inspect.StructType, key: str, value: object, path: KeyPath
    ) -> InvalidInput:
        known = [field.encode_name for field in kind.fields]
        hint = nearest(key, known)
        if kind.cls in (FilePin, OutputPin):
            if isinstance(value, dict) or "/" in key:
                name = cut(f"{path[-1]}.{key}", LONGEST_QUOTE)
                hint = f'quote a file name that has dots: "{name}" = {{ … }}'
            elif hint is None:
                hint = "SHA-256 is the only digest"
        return self.outline.error(
            "unknown-key", (*path, key), "unknown key", expected=", ".join(known), hint=hint
        )

    def field(
        self, kind: inspect.StructType, field: inspect.Field, value: object, path: KeyPath
    ) -> None:
        """A key of a struct: a literal's values depend on which key it is."""
        literals = _literals(field.type)
        if not literals:
            self.visit(field.type, value, path)
        elif not isinstance(value, str):
            raise self.wrong_type(path, _one_of(literals), value)
        elif value not in literals:
            if value in LATER.get((kind.cls.__name__, field.name), ()):
                raise self.outline.error(
                    "not-supported-yet",
                    path,
                    f"{quote(value)} is not supported yet",
                    expected=_one_of(literals),
                )
            raise self.outline.error(
                "bad-value",
                path,
                "not one of the values that it may have",
                expected=_one_of(literals),
                got=quote(value),
                hint=nearest(value, literals),
            )

    def array(self, kind: inspect.VarTupleType, value: object, path: KeyPath) -> None:
        if not isinstance(value, list):
            raise self.wrong_type(path, ARRAY, value)
        if len(value) < (kind.min_length or 0):
            raise self.outline.error("empty-list", path, "the array is empty")
        for i, item in enumerate(value):
            self.visit(kind.item_type, item, (*path, i))

    def string(self, kind: inspect.StrType, value: object, path: KeyPath) -> None:
        if not isinstance(value, str):
            raise self.wrong_type(path, "a string", value)
        if len(value) < (kind.min_length or 0):
            raise self.outline.error("bad-value", path, "the string is empty")
        if kind.max_length is not None and len(value) > kind.max_length:
            raise self.outline.error(
                "bad-value",
                path,
                "the string is too long",
                expected=f"at most {kind.max_length} characters",
                got=f"{len(value)}",
            )
        if kind.pattern is not None and re.search(kind.pattern, value) is None:
            digest = kind.pattern == SHA256_PATTERN
            raise self.outline.error(
                "bad-digest" if digest else "bad-value",
                path,
                "not a SHA-256 digest" if digest else "not a valid value",
                expected=EXPECTED[kind.pattern],
                got=quote(value),
                hint=_digest_hint(value) if digest else None,
            )

    def integer(self, kind: inspect.IntType, value: object, path: KeyPath) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong_type(path, "an integer", value)
        if not (kind.ge or 0) <= value <= (kind.le or value):
            raise self.outline.error(
                "bad-value",
                path,
                "the integer is out of range",
                expected=f"{kind.ge} to {kind.le}",
                got=quote(value),
            )


def _member(union: inspect.UnionType, value: object) -> inspect.Type:
    """The member of ``union`` that ``value`` is meant to be."""
    members = [t for t in map(_plain, union.types) if not isinstance(t, inspect.NoneType)]
    if isinstance(value, list):
        return next((t for t in members if isinstance(t, inspect.VarTupleType)), members[0])
    return members[0]


def _plain(kind: inspect.Type) -> inspect.Type:
    return _plain(kind.type) if isinstance(kind, inspect.Metadata) else kind


def _literals(kind: inspect.Type) -> tuple[str, ...]:
    """The values of a literal (perhaps optional, in the order of the schema), or nothing."""
    kind = _plain(kind)
    if isinstance(kind, inspect.UnionType):
        return next(filter(None, map(_literals, kind.types)), ())
    return tuple(map(str, kind.values)) if isinstance(kind, inspect.LiteralType) else ()


def _digest_hint(value: str) -> str | None:
    algorithm, colon, bare = value.lower().rpartition(":")
    if algorithm not in ("", "sha256"):
        return "SHA-256 is the only digest, written without its name"
    if re.search(SHA256_PATTERN, bare) is None:
        return None
    return "leave out what is before the colon" if colon else "write it in lower case"
