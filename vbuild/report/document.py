"""JSON of results: one object, ``schema`` first, in ASCII, the same bytes for the same result.

- Fields are only ever added to a schema (docs/reference/json.md).
- A name that is not UTF-8 has lone surrogates inside Python; they are written as the text
  ``\\udcff``, so that every reader can read the document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from vbuild.errors import VbuildError

__all__ = ["Fields", "Value", "dumps", "error_fields"]

Value: TypeAlias = "bool | int | float | str | Path | Sequence[Value] | Mapping[str, Value] | None"
Fields: TypeAlias = Mapping[str, Value]


def dumps(schema: str, fields: Fields) -> str:
    """The document of ``schema`` (``vbuild.apply/1``), with a line end."""
    return json.dumps(_plain({"schema": schema, **fields}), indent=2, allow_nan=False) + "\n"


def _plain(value: Value) -> object:
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return value


def error_fields(error: VbuildError) -> dict[str, Value]:
    """What ``vbuild.error/1`` says, and what stands for an error inside other documents."""
    return {
        "code": error.code,
        "message": error.message,
        "what": error.what,
        "where": error.where,
        "expected": error.expected,
        "got": error.got,
        "hint": error.hint,
        "exit_status": error.exit_status,
    }
