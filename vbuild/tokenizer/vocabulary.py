"""Which id belongs to which token, over all tokenizer files of a source.

- ``tokenizer.model`` gives the ids 0 to n-1; without it ``tokenizer.json`` does. The other files
  may add tokens behind them (``added_tokens.json``, ``added_tokens_decoder`` of
  ``tokenizer_config.json``, ``tokenizer.json``), and must then agree with each other.
- The ids are 0 to size-1 without a gap; no id and no token is there twice, every id is a number
  below ``MAX_PIECES`` (bad-inputs.md, 65). Only ``added_tokens_decoder`` and ``tokenizer.json``
  may give a placeholder piece of the model a new name, as fine-tuned models do.
- An added piece gets the id behind the last piece, whatever other files say: a file that has it
  with that id is satisfied, with another id, or another token with that id, is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vbuild.errors import InvalidInput
from vbuild.strict_json import Json, loads, quoted
from vbuild.tokenizer.sentencepiece_model import MAX_PIECES, SentencePieceModel, parse_model
from vbuild.tokenizer.token_list import AddedPiece, check_piece

__all__ = ["PlacedPiece", "Vocabulary", "parse_object", "place_pieces", "read_vocabulary"]

_NO_LIMIT = re.compile(
    rb'("model_max_length"[ \t\r\n]*:[ \t\r\n]*)1000000000000000019884624838656(?=[ \t\r\n,}])'
)
_DOCUMENTS = frozenset(
    ("added_tokens.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
)
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True)
class PlacedPiece:
    """A piece to add, with its id."""

    request: AddedPiece
    id: int


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a source.

    ``base`` is the number of ids that ``tokenizer.model`` (or ``tokenizer.json`` alone) gives,
    ``size`` the number of all ids, both 0 where neither file is there. ``documents`` holds the
    parsed JSON files by name.
    """

    ids: Mapping[str, int]
    base: int
    size: int
    model: SentencePieceModel | None
    documents: Mapping[str, dict[str, Json]]


def parse_object(data: bytes, where: str) -> dict[str, Json]:
    """The JSON object in ``data``, strictly (bad-inputs.md, 64).

    One integer above 64 bits is let through: transformers writes int(1e30) as the
    ``model_max_length`` of a tokenizer that has none.
    """
    same_length = rb"\g<1>1e30" + b" " * 27  # keeps the offsets in errors true
    value = loads(_NO_LIMIT.sub(same_length, data), where)
    if not isinstance(value, dict):
        raise _wrong_form(where, "the file is not a JSON object")
    return value


def read_vocabulary(files: Mapping[str, bytes], where: Callable[[str], str]) -> Vocabulary:
    """What ``files`` (name -> bytes) say about tokens and ids.

    ``where`` turns a file's name into the one that errors show. Raises InvalidInput:
    ``json-malformed``, ``tokenizer-json-form``, ``tokenizer-id`` and what ``parse_model`` raises.
    """
    documents = {
        name: parse_object(data, where(name))
        for name, data in sorted(files.items())
        if name in _DOCUMENTS
    }
    model = None
    ids = _Ids()
    if "tokenizer.model" in files:
        model = parse_model(files["tokenizer.model"], where("tokenizer.model"))
        ids.take_model(model)
    if "tokenizer.json" in documents:
        label = where("tokenizer.json")
        ids.take(_fast_vocabulary(documents["tokenizer.json"], label), label)
        ids.take(_fast_added_tokens(documents["tokenizer.json"], label), label)
        if model is None:
            ids.base = ids.count(label)
    if "added_tokens.json" in documents:
        label = where("added_tokens.json")
        added = _checked_ids(documents["added_tokens.json"], label)
        ids.take(added, label, may_rename=False)
    if "tokenizer_config.json" in documents:
        label = where("tokenizer_config.json")
        ids.take(_decoder_ids(documents["tokenizer_config.json"], label), label)
    size = 0
    if ids.base:
        size = ids.count(", ".join(sorted({*ids.sources.values()})))
    return Vocabulary(ids.ids, ids.base, size, model, documents)


def place_pieces(
    vocabulary: Vocabulary, adds: Sequence[AddedPiece], where: str
) -> tuple[PlacedPiece, ...]:
    """``adds`` with their ids; ``where`` names the request or its file in errors.

    Raises InvalidInput: ``tokenizer-piece-invalid``, ``tokenizer-piece-exists``,
    ``tokenizer-piece-duplicate``, ``tokenizer-pad``, ``tokenizer-id``.
    """
    if vocabulary.base + len(adds) > MAX_PIECES:
        raise InvalidInput("tokenizer-id", f"more than {MAX_PIECES} pieces", where=where)
    tokens = {i: token for token, i in vocabulary.ids.items()}
    placed: dict[str, PlacedPiece] = {}
    for i, add in enumerate(adds, vocabulary.base):
        check_piece(add.piece, where)
        if add.piece in placed:
            raise InvalidInput(
                "tokenizer-piece-duplicate",
                f"the piece {quoted(add.piece)} is added twice",
                where=where,
            )
        known = vocabulary.ids.get(add.piece)
        if known is not None and known < vocabulary.base:
            raise InvalidInput(
                "tokenizer-piece-exists",
                f"the piece {quoted(add.piece)} to add is already there, with id {known}",
                where=where,
                hint="take it out of the pieces to add",
            )
        if known is not None and known != i:
            raise _other_id(
                where,
                f"the piece {quoted(add.piece)} to add has another id",
                expected=f"id {i}",
                got=f"id {known}",
            )
        if tokens.get(i, add.piece) != add.piece:
            raise _other_id(
                where,
                f"the piece {quoted(add.piece)} to add gets id {i}, which {quoted(tokens[i])} has",
            )
        if known is not None and add.kind == "normal":
            raise InvalidInput(
                "tokenizer-piece-exists",
                f"the piece {quoted(add.piece)} stands among the added tokens, "
                "which always match whole; a normal piece does not",
                where=where,
                hint='use type = "user-defined" or "control"',
            )
        placed[add.piece] = PlacedPiece(add, i)
    _check_pad(adds, where)
    return tuple(placed.values())


def _check_pad(adds: Sequence[AddedPiece], where: str) -> None:
    pads = [add for add in adds if add.role == "pad"]
    if len(pads) > 1:
        raise InvalidInput("tokenizer-pad", "more than one added piece is to pad", where=where)
    if pads and pads[0].kind != "control":
        raise InvalidInput(
            "tokenizer-pad",
            f"the piece {quoted(pads[0].piece)} is to pad, so it must never come from text",
            where=where,
            expected='type = "control"',
            got=pads[0].kind,
        )


def _other_id(
    where: str, what: str, expected: str | None = None, got: str | None = None
) -> InvalidInput:
    return InvalidInput(
        "tokenizer-id",
        what,
        where=where,
        expected=expected,
        got=got,
        hint="list the tokens that the source adds already first, in the order of their ids",
    )


def _wrong_form(where: str, what: str) -> InvalidInput:
    return InvalidInput("tokenizer-json-form", what, where=where)


class _Ids:
    """The growing table of tokens; ``sources`` holds, per id behind the base, its file."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.tokens: dict[int, str] = {}
        self.sources: dict[int, str] = {}
        self.base = 0

    def take_model(self, model: SentencePieceModel) -> None:
        self.ids = {piece.piece: i for i, piece in enumerate(model.pieces)}
        self.tokens = {i: piece.piece for i, piece in enumerate(model.pieces)}
        self.base = len(model.pieces)

    def take(self, claims: Mapping[str, int], where: str, *, may_rename: bool = True) -> None:
        """Enter what one file claims, or raise (``tokenizer-id``) where it contradicts."""
        for token, i in claims.items():
            if self.ids.setdefault(token, i) != i:
                what = f"the token {quoted(token)} has two ids"
                raise InvalidInput(
                    "tokenizer-id", what, where=where, expected=self.ids[token], got=i
                )
            if self.tokens.setdefault(i, token) == token:
                if i >= self.base:
                    self.sources[i] = where
            elif i >= self.base or not may_rename:
                what = f"id {i} has two tokens, {quoted(self.tokens[i])} and {quoted(token)}"
                raise InvalidInput("tokenizer-id", what, where=where)

    def count(self, where: str) -> int:
        """The number of ids; InvalidInput (``tokenizer-id``) if one below the largest is free."""
        size = 1 + max(self.tokens, default=-1)
        if size != len(self.tokens):
            gap = next(i for i in range(size) if i not in self.tokens)
            raise InvalidInput(
                "tokenizer-id",
                f"the ids have a gap: no token has id {gap}",
                where=where,
                expected=f"{size} tokens",
                got=len(self.tokens),
            )
        return size


def _checked_ids(claims: Mapping[str, Json], where: str) -> dict[str, int]:
    """``claims`` as token -> id, each an integer in range, none twice."""
    ids: dict[str, int] = {}
    tokens: dict[int, str] = {}
    for token, value in claims.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_form(where, f"the id of {quoted(token)} is not an integer")
        if not 0 <= value < MAX_PIECES:
            raise InvalidInput(
                "tokenizer-id",
                f"the id of {quoted(token)} is out of range",
                where=where,
                expected=f"0 to {MAX_PIECES - 1}",
                got=value,
            )
        if tokens.setdefault(value, token) != token:
            what = f"id {value} has two tokens, {quoted(tokens[value])} and {quoted(token)}"
            raise InvalidInput("tokenizer-id", what, where=where)
        ids[token] = value
    return ids


def _entry_ids(entries: Sequence[tuple[Json, Json]], where: str) -> dict[str, int]:
    """The ids of ``(id, entry)`` pairs, where an entry is an object with ``content``."""
    claims: dict[str, Json] = {}
    for value, entry in entries:
        content = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(content, str) or not content:
            raise _wrong_form(where, f"the added token with id {value} has no content")
        if content in claims:
            what = f"the added token {quoted(content)} is there twice"
            raise InvalidInput("tokenizer-id", what, where=where)
        claims[content] = value
    return _checked_ids(claims, where)


def _decoder_ids(config: Mapping[str, Json], where: str) -> dict[str, int]:
    decoder = config.get("added_tokens_decoder", {})
    if not isinstance(decoder, dict):
        raise _wrong_form(where, "added_tokens_decoder is not an object")
    for key in decoder:
        if not _DECIMAL.fullmatch(key):
            raise _wrong_form(where, f"the key {quoted(key)} of added_tokens_decoder is not an id")
    return _entry_ids([(int(key), entry) for key, entry in decoder.items()], where)


def _fast_added_tokens(document: Mapping[str, Json], where: str) -> dict[str, int]:
    added = document.get("added_tokens", [])
    if not isinstance(added, list):
        raise _wrong_form(where, "added_tokens is not a list")
    entries = [(entry.get("id") if isinstance(entry, dict) else None, entry) for entry in added]
    return _entry_ids(entries, where)


def _fast_vocabulary(document: Mapping[str, Json], where: str) -> dict[str, int]:
    """``model.vocab``: an object of ids, or Unigram's list of pieces and scores."""
    model = document.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, dict):
        return _checked_ids(vocab, where)
    if not isinstance(vocab, list):
        raise _wrong_form(where, "model.vocab is neither an object nor a list")
    claims: dict[str, Json] = {}
    for i, item in enumerate(vocab):
        if not isinstance(item, list) or not item or not isinstance(item[0], str):
            raise _wrong_form(where, f"item {i} of model.vocab is not a piece with its score")
        if item[0] in claims:
            raise InvalidInput(
                "tokenizer-id", f"the piece {quoted(item[0])} is there twice", where=where
            )
        claims[item[0]] = i
    return _checked_ids(claims, where)
