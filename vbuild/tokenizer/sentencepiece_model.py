"""The wire form of a SentencePiece ``tokenizer.model``: reading its pieces, appending new ones.

- Only the top-level fields, the piece records and four fields of the trainer's record are read;
  every other byte is carried along unread, so that a patched file differs from its source by the
  inserted records alone (formats.md, SentencePiece).
- New records stand right after the last field 1. A protobuf runtime that parses the file,
  appends the same pieces and serializes writes the same bytes, wherever the source is in field
  order, as every file of the SentencePiece trainer is.
- Strict: a cut at any byte, a wrong wire type, a number above 64 bits, a piece that is not
  UTF-8, is empty or is there twice, and any number of UNKNOWN pieces but one are errors
  (bad-inputs.md, 67 and 68). SentencePiece itself cannot load most of these.
- Bounded: at most ``MAX_PIECES`` pieces, and as many fields as they need.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from vbuild.errors import InvalidInput
from vbuild.strict_json import quoted

__all__ = [
    "MAX_PIECES",
    "Piece",
    "PieceType",
    "SentencePieceModel",
    "append_pieces",
    "encode_varint",
    "parse_model",
]

MAX_PIECES: Final = 1 << 20
"""The most pieces of a model; the largest published vocabulary (XLM-V) has 901 629."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PIECES, _TRAINER_SPEC = 1, 2
_TOP_LEVEL_MESSAGES = range(1, 6)
_RECORD_WIRE = {1: _BYTES, 2: _FIXED32, 3: _VARINT}
_MODEL_TYPE, _VOCAB_SIZE, _BOS_PIECE, _EOS_PIECE = 3, 4, 46, 47
_TRAINER_WIRE = {_MODEL_TYPE: _VARINT, _VOCAB_SIZE: _VARINT, _BOS_PIECE: _BYTES, _EOS_PIECE: _BYTES}
_TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/=]{1,512} [0-9]{1,9}\n")


class PieceType(IntEnum):
    """The types of SentencePiece; the numbers are those of its file format."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of the vocabulary; its id is its position."""

    piece: str
    score: float
    type: PieceType


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """A parsed ``tokenizer.model``.

    ``insert_at`` is the offset behind the last piece record. ``trainer_spec`` holds the offsets
    of the tag, the payload and the end of the trainer's record, or None. ``model_type`` is 1
    for unigram and 2 for BPE. The ``bos`` and ``eos`` pieces are None where no CONTROL piece
    has the name that the trainer's record gives.
    """

    data: bytes
    where: str
    pieces: tuple[Piece, ...]
    insert_at: int
    trainer_spec: tuple[int, int, int] | None
    model_type: int
    unk: str
    bos: str | None
    eos: str | None


@dataclass(frozen=True, slots=True)
class _Field:
    """One field: ``begin`` of its tag, ``value`` where its payload starts, ``end``."""

    number: int
    wire: int
    begin: int
    value: int
    end: int


class _Reader:
    """Fields of ``data``, with errors that name the file and the offset."""

    def __init__(self, data: bytes, where: str, max_pieces: int) -> None:
        self.data = data
        self.where = where
        # A piece is a top-level field with three in it; the other records hold a few hundred.
        self.fields_left = 5 * max_pieces + 4096

    def error(self, what: str, at: int, code: str = "tokenizer-model-malformed") -> InvalidInput:
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

    def fields(self, begin: int, end: int) -> Iterator[_Field]:
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
            if wire == _VARINT:
                _, stop = self.varint(value, end)
            elif wire == _BYTES:
                length, value = self.varint(value, end)
                stop = value + length
            elif wire in (_FIXED32, _FIXED64):
                stop = value + (4 if wire == _FIXED32 else 8)
            else:
                raise self.error(f"wire type {wire} does not belong in a SentencePiece model", at)
            if stop > end:
                raise self.error(f"field {number} reaches past the end of its message", at)
            yield _Field(number, wire, at, value, stop)
            at = stop

    def expect(self, field: _Field, wire: int) -> None:
        if field.wire != wire:
            raise self.error(
                f"field {field.number} has wire type {field.wire}, not {wire}", field.begin
            )

    def text(self, field: _Field) -> str:
        """The payload of a string field."""
        try:
            return self.data[field.value : field.end].decode("utf-8")
        except UnicodeDecodeError as e:
            at = field.value + e.start
            raise self.error("a piece is not UTF-8", at, "tokenizer-piece-invalid") from e


def parse_model(data: bytes, where: str, *, max_pieces: int = MAX_PIECES) -> SentencePieceModel:
    """The vocabulary and the layout of the file ``data``; ``where`` names it in errors.

    Raises InvalidInput: ``tokenizer-model-malformed`` for what is not a SentencePiece model,
    ``tokenizer-piece-invalid`` and ``tokenizer-piece-duplicate`` for its pieces.
    """
    if _TIKTOKEN_LINE.match(data):
        raise InvalidInput(
            "tokenizer-model-malformed",
            "the file is a tiktoken vocabulary, as Llama 3 has",
            where=where,
            expected="a SentencePiece model",
            hint="take the tokenizer from a source in Hugging Face's format",
        )
    reader = _Reader(data, where, max_pieces)
    pieces: list[Piece] = []
    insert_at = 0
    trainer: _Field | None = None
    for field in reader.fields(0, len(data)):
        if field.number in _TOP_LEVEL_MESSAGES:
            reader.expect(field, _BYTES)
        if field.number == _PIECES:
            if len(pieces) == max_pieces:
                raise reader.error(f"more than {max_pieces} pieces", field.begin)
            pieces.append(_parse_piece(reader, field))
            insert_at = field.end
        elif field.number == _TRAINER_SPEC:
            if trainer is not None:
                raise reader.error("a second trainer_spec", field.begin)
            trainer = field
    unk = _check_pieces(pieces, where)
    model_type, bos, eos = _trainer_settings(reader, trainer)
    control = {p.piece for p in pieces if p.type is PieceType.CONTROL}
    return SentencePieceModel(
        data=data,
        where=where,
        pieces=tuple(pieces),
        insert_at=insert_at,
        trainer_spec=None if trainer is None else (trainer.begin, trainer.value, trainer.end),
        model_type=model_type,
        unk=unk,
        bos=bos if bos in control else None,
        eos=eos if eos in control else None,
    )


def _trainer_settings(reader: _Reader, trainer: _Field | None) -> tuple[int, str, str]:
    """The model's type and the texts of BOS and EOS, or what the format means by their absence."""
    model_type = 1
    names = {_BOS_PIECE: "<s>", _EOS_PIECE: "</s>"}
    for field in () if trainer is None else reader.fields(trainer.value, trainer.end):
        if field.number in _TRAINER_WIRE:
            reader.expect(field, _TRAINER_WIRE[field.number])
        if field.number in names:
            names[field.number] = reader.text(field)
        elif field.number == _MODEL_TYPE:
            model_type, _ = reader.varint(field.value, field.end)
    return model_type, names[_BOS_PIECE], names[_EOS_PIECE]


def _parse_piece(reader: _Reader, record: _Field) -> Piece:
    """The piece in the payload of ``record``; a missing type is NORMAL, a missing score 0."""
    found: dict[int, _Field] = {}
    for field in reader.fields(record.value, record.end):
        wire = _RECORD_WIRE.get(field.number)
        if wire is not None:
            reader.expect(field, wire)
            if field.number in found:
                raise reader.error(f"a piece has field {field.number} twice", field.begin)
            found[field.number] = field
    text = reader.text(found[1]) if 1 in found else ""
    if not text:
        raise reader.error("a piece is empty", record.begin, "tokenizer-piece-invalid")
    score = struct.unpack_from("<f", reader.data, found[2].value)[0] if 2 in found else 0.0
    kind = reader.varint(found[3].value, found[3].end)[0] if 3 in found else PieceType.NORMAL
    if not PieceType.NORMAL <= kind <= PieceType.BYTE:
        raise reader.error(f"piece type {kind} does not exist", found[3].begin)
    return Piece(text, score, PieceType(kind))


def _check_pieces(pieces: Sequence[Piece], where: str) -> str:
    """The UNKNOWN piece, after the rules that hold for the whole list."""
    ids: dict[str, int] = {}
    for i, piece in enumerate(pieces):
        if ids.setdefault(piece.piece, i) != i:
            raise InvalidInput(
                "tokenizer-piece-duplicate",
                f"the piece {quoted(piece.piece)} is there twice, as {ids[piece.piece]} and {i}",
                where=where,
            )
    unknown = [p.piece for p in pieces if p.type is PieceType.UNKNOWN]
    if len(unknown) != 1:
        raise InvalidInput(
            "tokenizer-model-malformed",
            "a SentencePiece model has exactly one UNKNOWN piece",
            where=where,
            expected=1,
            got=len(unknown),
        )
    return unknown[0]


def encode_varint(value: int) -> bytes:
    """``value`` (not negative) in the shortest base-128 form."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def append_pieces(
    model: SentencePieceModel, pieces: Sequence[Piece], *, update_vocab_size: bool = False
) -> bytes:
    """The bytes of ``model`` with ``pieces`` behind its own, in the given order.

    Score and type are always written, as llama-tools and every protobuf runtime do. With
    ``update_vocab_size`` the trainer's record gets the new number of pieces; loaders ignore that
    number, and llama-tools' ``add_tokens.py`` leaves it.
    """
    _check_pieces((*model.pieces, *pieces), model.where)
    records = b"".join(_record(p) for p in pieces)
    data, at = model.data, model.insert_at
    if not update_vocab_size:
        return data[:at] + records + data[at:]
    begin, end, spec = _trainer_with_vocab_size(model, len(model.pieces) + len(pieces))
    if begin < at:  # legal, though no known writer does it
        return data[:begin] + spec + data[end:at] + records + data[at:]
    return data[:at] + records + data[at:begin] + spec + data[end:]


def _record(piece: Piece) -> bytes:
    text = piece.piece.encode("utf-8")
    payload = b"\x0a" + encode_varint(len(text)) + text
    payload += b"\x15" + struct.pack("<f", piece.score) + b"\x18" + encode_varint(piece.type)
    return b"\x0a" + encode_varint(len(payload)) + payload


def _trainer_with_vocab_size(model: SentencePieceModel, size: int) -> tuple[int, int, bytes]:
    """Begin and end of the trainer's record, and the record with ``vocab_size = size``."""
    if model.trainer_spec is None:
        raise InvalidInput(
            "tokenizer-model-malformed",
            "there is no trainer_spec whose vocab_size could be raised",
            where=model.where,
        )
    begin, payload, end = model.trainer_spec
    reader = _Reader(model.data, model.where, len(model.pieces))
    first = last = end  # where a record without the number would hold it
    for field in reader.fields(payload, end):
        if field.number == _VOCAB_SIZE:  # the last one counts
            first, last = field.begin, field.end
        elif field.number > _VOCAB_SIZE and first == end:
            first = last = field.begin
    number = encode_varint(_VOCAB_SIZE << 3) + encode_varint(size)
    spec = model.data[payload:first] + number + model.data[last:end]
    return begin, end, b"\x12" + encode_varint(len(spec)) + spec
