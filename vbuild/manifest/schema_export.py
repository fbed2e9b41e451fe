"""The manifest's JSON Schema, for editors and other tools (draft 2020-12).

- Made from ``schema.py`` alone; the same text on every machine.
- In the shape of TOML: a key may be left out, but never null.
- ``docs/reference/manifest.schema.json`` is this text; a test keeps it in step.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeAlias

import msgspec

from vbuild.manifest.schema import END, Manifest

__all__ = ["json_schema"]

Json: TypeAlias = Any

_NULL: Final = {"type": "null"}
_PRESET_OR_RULES: Final = [{"required": ["preset"]}, {"required": ["rule"]}]


def json_schema() -> str:
    """The JSON Schema as text with a final line feed."""
    (top,), definitions = msgspec.json.schema_components([Manifest], ref_template="#/$defs/{name}")
    tables = {name: _toml_shape(definitions[name]) for name in sorted(definitions)}
    tables["Apply"]["oneOf"] = _PRESET_OR_RULES
    tables["Delta"]["not"] = {"required": ["preset", "rule"]}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vbuild manifest, version 1",
        **top,
        "$defs": tables,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _toml_shape(node: Json) -> Json:
    """``node`` without null, without struct defaults, and with ``$`` alone as the end."""
    if isinstance(node, list):
        return [_toml_shape(item) for item in node if item not in (_NULL, None)]
    if isinstance(node, str):
        return node.replace(END, "$").replace("``", "`")
    if not isinstance(node, dict):
        return node
    shaped = {
        key: _toml_shape(value)
        for key, value in node.items()
        if (key, value) != ("required", []) and not (key == "default" and not _is_scalar(value))
    }
    choices = shaped.get("anyOf", ())
    if len(choices) == 1:
        del shaped["anyOf"]
        shaped = {**choices[0], **shaped}
    return shaped


def _is_scalar(value: Json) -> bool:
    return isinstance(value, str | int)
