"""What is asked to be added to a tokenizer: one piece, or a list in llama-tools' format.

- A line of a list is ``C piece``, ``U piece`` or ``N piece`` (control, user-defined, normal), or
  ``CB``, ``UB``, ``NB`` and the piece in base64; blank lines are skipped and the white space
  around a line does not count, so a piece that starts or ends with it needs base64.
- Stricter than llama-tools: the separator is one space, base64 is canonical, the text is UTF-8.
- A piece is not empty and has no NUL, at which SentencePiece's matching would stop
  (bad-inputs.md, 68). A plain space in a user-defined or normal piece is legal, but SentencePiece
  writes a space in text as U+2581, so such a piece never matches.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from vbuild.errors import InvalidInput
from vbuild.strict_json import quoted
from vbuild.tokenizer.sentencepiece_model import MAX_PIECES

__all__ = ["AddedPiece", "PieceKind", "check_piece", "parse_token_list"]

PieceKind: TypeAlias = Literal["control", "user-defined", "normal"]

_KINDS: Final[dict[str, PieceKind]] = {"C": "control", "U": "user-defined", "N": "normal"}
_LINE = re.compile(r"([CUN])(B?) (.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class AddedPiece:
    """A piece to add: a ``[[tokenizer.add]]`` of the manifest or a line of a list."""

    piece: str
    kind: PieceKind
    role: Literal["pad"] | None = None


def check_piece(piece: str, where: str) -> None:
    """Raise InvalidInput (``tokenizer-piece-invalid``) for a text that cannot be a piece."""
    problem = None
    if not piece:
        problem = "a piece to add is empty"
    elif "\0" in piece:
        problem = f"the piece {quoted(piece)} to add has a NUL"
    elif any("\ud800" <= c <= "\udfff" for c in piece):
        problem = f"the piece {quoted(piece)} to add is not UTF-8"
    if problem is not None:
        raise InvalidInput("tokenizer-piece-invalid", problem, where=where)


def parse_token_list(data: bytes, where: str) -> tuple[AddedPiece, ...]:
    """The pieces of the list ``data``, in order; ``where`` names the file in errors.

    Raises InvalidInput: ``tokenizer-list-malformed`` for a line of another form or too many,
    ``tokenizer-piece-invalid`` for what cannot be a piece.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InvalidInput(
            "tokenizer-list-malformed", f"the list is not UTF-8 at byte {e.start}", where=where
        ) from e
    pieces: list[AddedPiece] = []
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if stripped := line.strip():
            if len(pieces) == MAX_PIECES:
                what = f"the list has more than {MAX_PIECES} pieces"
                raise InvalidInput("tokenizer-list-malformed", what, where=where)
            pieces.append(_parse_line(stripped, f"{where}:{number}"))
    return tuple(pieces)


def _parse_line(line: str, where: str) -> AddedPiece:
    match = _LINE.fullmatch(line)
    if match is None:
        raise InvalidInput(
            "tokenizer-list-malformed",
            "a line of a token list has another form",
            where=where,
            expected="C, U, N, CB, UB or NB, one space and the piece",
            got=quoted(line),
        )
    letter, coded, piece = match.groups()
    if coded:
        piece = _decode(piece, where)
    check_piece(piece, where)
    return AddedPiece(piece, _KINDS[letter])


def _decode(coded: str, where: str) -> str:
    try:
        raw = base64.b64decode(coded.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as e:
        raise InvalidInput("tokenizer-list-malformed", "not base64", where=where) from e
    if base64.b64encode(raw).decode("ascii") != coded:
        raise InvalidInput("tokenizer-list-malformed", "base64 is not canonical", where=where)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InvalidInput(
            "tokenizer-piece-invalid", "the piece to add is not UTF-8", where=where
        ) from e
