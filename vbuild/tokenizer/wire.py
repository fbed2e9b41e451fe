"""The wire form of a protobuf message: fields, numbers and texts, with errors that say where.

- Strict: a cut at any byte, a field that reaches past its message and a number above 64 bits are
  errors (bad-inputs.md, 67).
- Bounded: a reader hands out at most as many fields as it was made for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vbuild.errors import InvalidInput

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "Field", "Reader"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: ``begin`` of its tag, ``value`` where its payload starts, ``end``."""

    number: int
    wire: int
    begin: int
    value: int
    end: int


class Reader:
    """Fields of ``data``, with errors that name the file and the offset."""

    def __init__(self, data: bytes, where: str, max_fields: int) -> None:
        self.data = data
        self.where = where
        self.fields_left = max_fields

    def error(self, what: str, at: int, code: str = "tokenizer-model-malformed") -> InvalidInput:
        """The error for what stands at the offset ``at``."""
        return InvalidInput(code, f"{what} at byte {at}", where=self.where)

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """The number at ``at`` and the offset behind it."""
        value = shift = 0
        for i in range(at, min(end, at + 10)):
            byte = self.data[i]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    raise self.error("a number does not fit 64 bits", at)
                return value, i + 1
            shift += 7
        if end - at < 10:
            raise self.error("the file is cut off or a length is wrong: a number has no end", at)
        raise self.error("a number does not fit 64 bits", at)

    def fields(self, begin: int, end: int) -> Iterator[Field]:
        """The fields of the message in ``[begin, end)``, in order."""
        at = begin
        while at < end:
            self.fields_left -= 1
            if self.fields_left < 0:
                raise self.error("too many fields", at)
            tag, value = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise self.error(f"field number {number} does not exist", at)
            if wire == VARINT:
                _, stop = self.varint(value, end)
            elif wire == BYTES:
                length, value = self.varint(value, end)
                stop = value + length
            elif wire in (FIXED32, FIXED64):
                stop = value + (4 if wire == FIXED32 else 8)
            else:
                raise self.error(f"wire type {wire} does not belong in a SentencePiece model", at)
            if stop > end:
                raise self.error(f"field {number} reaches past the end of its message", at)
            yield Field(number, wire, at, value, stop)
            at = stop

    def expect(self, field: Field, wire: int) -> None:
        """Raise unless ``field`` has this wire type."""
        if field.wire != wire:
            raise self.error(
                f"field {field.number} has wire type {field.wire}, not {wire}", field.begin
            )

    def text(self, field: Field) -> str:
        """The payload of a string field."""
        try:
            return self.data[field.value : field.end].decode("utf-8")
        except UnicodeDecodeError as e:
            at = field.value + e.start
            raise self.error("a piece is not UTF-8", at, "tokenizer-piece-invalid") from e
