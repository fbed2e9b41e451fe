"""The proof that SentencePiece reads a patched model as it was meant; it alone imports the library.

- The library is imported when a model is checked, not when vbuild starts.
- Every piece is compared, id by id, with what vbuild's own reader found in the same bytes: text,
  and whether it is UNKNOWN, CONTROL, UNUSED or BYTE. No text is encoded, so the normalization
  tables of a file from a stranger are not run.
"""

from __future__ import annotations

from collections.abc import Sequence

from vbuild.errors import InvalidInput
from vbuild.strict_json import quoted
from vbuild.tokenizer.patch import PIECE_TYPES
from vbuild.tokenizer.sentencepiece_model import PieceType, parse_model
from vbuild.tokenizer.token_list import AddedPiece

__all__ = ["verify_model"]


def verify_model(
    model: bytes, adds: Sequence[AddedPiece] = (), *, where: str = "tokenizer.model"
) -> None:
    """Load the bytes of a ``tokenizer.model`` and compare it, piece by piece.

    ``adds`` have to be its last pieces, in order, with their types. Raises InvalidInput:
    ``tokenizer-load`` where SentencePiece refuses the file or reads it otherwise, and what
    ``parse_model`` raises.
    """
    pieces = parse_model(model, where).pieces
    tail = pieces[len(pieces) - len(adds) :]
    if [(p.piece, p.type) for p in tail] != [(a.piece, PIECE_TYPES[a.kind]) for a in adds]:
        raise _failed(where, "the added pieces are not the last ones of the model")
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except RuntimeError as e:
        raise _failed(where, f"SentencePiece does not load the model: {e}") from e
    if processor.GetPieceSize() != len(pieces):
        raise _failed(where, "another number of pieces", len(pieces), processor.GetPieceSize())
    ids = range(len(pieces))
    tests = {
        PieceType.UNKNOWN: processor.IsUnknown,
        PieceType.CONTROL: processor.IsControl,
        PieceType.UNUSED: processor.IsUnused,
        PieceType.BYTE: processor.IsByte,
    }
    for i in ids:
        got = processor.IdToPiece(i)
        if got != pieces[i].piece:
            raise _failed(where, f"another piece has id {i}", quoted(pieces[i].piece), quoted(got))
        for kind, test in tests.items():
            if test(i) != (pieces[i].type is kind):
                name = pieces[i].type.name
                raise _failed(where, f"the piece with id {i} has another type", name)


def _failed(where: str, what: str, expected: object = None, got: object = None) -> InvalidInput:
    return InvalidInput("tokenizer-load", what, where=where, expected=expected, got=got)
