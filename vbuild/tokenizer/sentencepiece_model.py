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
- The records that a file begins with are read in one loop as long as they have the usual form; from
  the first that has not, and for every error, the general reader takes over.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from vbuild.errors import InvalidInput
from vbuild.strict_json import quoted
from vbuild.tokenizer.wire import BYTES, FIXED32, VARINT, Field, Reader

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

_PIECES, _TRAINER_SPEC = 1, 2
_TOP_LEVEL_MESSAGES = range(1, 6)
_RECORD_WIRE = {1: BYTES, 2: FIXED32, 3: VARINT}
_MODEL_TYPE, _VOCAB_SIZE, _BOS_PIECE, _EOS_PIECE = 3, 4, 46, 47
_TRAINER_WIRE = {_MODEL_TYPE: VARINT, _VOCAB_SIZE: VARINT, _BOS_PIECE: BYTES, _EOS_PIECE: BYTES}
_TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/=]{1,512} [0-9]{1,9}\n")


class PieceType(IntEnum):
    """The types of SentencePiece; the numbers are those of its file format."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_TYPES: Final = {int(kind): kind for kind in PieceType}
_SCORE: Final = struct.Struct("<f")


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
    reader = _reader(data, where, max_pieces)
    pieces, insert_at = _usual_pieces(data, max_pieces)
    trainer: Field | None = None
    for field in reader.fields(insert_at, len(data)):
        if field.number in _TOP_LEVEL_MESSAGES:
            reader.expect(field, BYTES)
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


def _reader(data: bytes, where: str, pieces: int) -> Reader:
    # A piece is a top-level field with three in it; the other records hold a few hundred.
    return Reader(data, where, 5 * pieces + 4096)


def _trainer_settings(reader: Reader, trainer: Field | None) -> tuple[int, str, str]:
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


def _usual_pieces(data: bytes, most: int) -> tuple[list[Piece], int]:
    """The pieces at the beginning of ``data``, at most ``most``, and where they end.

    A usual record has text, score and perhaps type, in this order, and one-byte lengths: what the
    trainer writes. 32 000 of them take a tenth of the time that the general reader needs.
    """
    pieces: list[Piece] = []
    at = 0
    while len(pieces) < most:
        head = data[at : at + 4]
        if len(head) < 4 or head[0] != 0x0A or head[1] >= 0x80 or head[2] != 0x0A:
            break
        end, text_end = at + 2 + head[1], at + 4 + head[3]
        number = int(PieceType.NORMAL)
        if end > len(data) or text_end == at + 4:
            break
        if end == text_end + 7 and data[text_end + 5] == 0x18:
            number = data[text_end + 6]
        elif end != text_end + 5:
            break
        kind = _TYPES.get(number)
        if data[text_end] != 0x15 or kind is None:
            break
        try:
            text = data[at + 4 : text_end].decode("utf-8")
        except UnicodeDecodeError:
            break
        pieces.append(Piece(text, _SCORE.unpack_from(data, text_end + 1)[0], kind))
        at = end
    return pieces, at


def _parse_piece(reader: Reader, record: Field) -> Piece:
    """The piece in the payload of ``record``; a missing type is NORMAL, a missing score 0."""
    found: dict[int, Field] = {}
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
    score = _SCORE.unpack_from(reader.data, found[2].value)[0] if 2 in found else 0.0
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
    reader = _reader(model.data, model.where, len(model.pieces))
    first = last = end  # where a record without the number would hold it
    for field in reader.fields(payload, end):
        if field.number == _VOCAB_SIZE:  # the last one counts
            first, last = field.begin, field.end
        elif field.number > _VOCAB_SIZE and first == end:
            first = last = field.begin
    number = encode_varint(_VOCAB_SIZE << 3) + encode_varint(size)
    spec = model.data[payload:first] + number + model.data[last:end]
    return begin, end, b"\x12" + encode_varint(len(spec)) + spec
