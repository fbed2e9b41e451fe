"""Taking a JSON value apart when every part of it is suspect.

- Each value knows where it stands, so an error names the member and not only the file.
- An object has the members that are asked for and no others: what is not understood is refused,
  not skipped (the OMS schemas forbid additional properties; signing.md).
- A constant must have the right type, too: ``0`` is not ``false``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vbuild.errors import InvalidInput
from vbuild.strict_json import Json, quoted

__all__ = ["Value"]


@dataclass(frozen=True, slots=True)
class Value:
    """A JSON value at ``where``; errors are InvalidInput with ``code``."""

    value: Json
    where: str
    code: str

    def error(self, what: str, *, expected: object = None, got: object = None) -> InvalidInput:
        """The error for this value."""
        return InvalidInput(self.code, what, where=self.where, expected=expected, got=got)

    def members(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Value]:
        """The members of an object: all of ``required``, any of ``optional``, no other."""
        if not isinstance(self.value, dict):
            raise self.error("not an object", got=self.shown)
        for key in required:
            if key not in self.value:
                raise self.error(f"member {quoted(key)} is missing")
        for key in self.value:
            if key not in required and key not in optional:
                raise self.error(f"unknown member {quoted(key)}")
        return {k: Value(v, f"{self.where}.{k}", self.code) for k, v in self.value.items()}

    def items(self) -> Iterator[Value]:
        """The items of a list, one at a time: there may be a hundred thousand."""
        if not isinstance(self.value, list):
            raise self.error("not a list", got=self.shown)
        for i, item in enumerate(self.value):
            yield Value(item, f"{self.where}[{i}]", self.code)

    def only(self) -> Value:
        """The one item of a list that must have exactly one."""
        if not isinstance(self.value, list):
            raise self.error("not a list", got=self.shown)
        if len(self.value) != 1:
            raise self.error("wrong number of items", expected=1, got=len(self.value))
        return Value(self.value[0], f"{self.where}[0]", self.code)

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self.error("not a string", got=self.shown)
        return self.value

    def equals(self, constant: str | bool) -> bool:
        """Whether the value is ``constant``, of the same type."""
        return type(self.value) is type(constant) and self.value == constant

    def must_be(self, constant: str) -> None:
        """Raise unless the value is ``constant``."""
        if not self.equals(constant):
            raise self.error(
                "not the value that it must have", expected=quoted(constant), got=self.shown
            )

    @property
    def shown(self) -> str:
        """The value as an error message shows it, never long."""
        if isinstance(self.value, str):
            return quoted(self.value)
        if isinstance(self.value, dict):
            return "an object"
        if isinstance(self.value, list):
            return "a list"
        return json.dumps(self.value)
