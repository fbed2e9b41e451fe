"""The front of the room: tokenizer files and pieces to add in, patched files out.

- Bytes in, bytes out: nothing is opened, nothing is written. A file that no addition changes is
  returned as the same bytes; no addition changes no file.
- ``tokenizer.model`` gets a record for every added piece, also for one that ``added_tokens.json``
  already lists with the right id, as the delta of Vicuna v0 does.
- Files that the source lacks are made only where a piece is added: ``added_tokens.json``,
  ``tokenizer_config.json`` and, for a padding token, ``special_tokens_map.json``. A bare
  ``tokenizer.model``, as Meta gives it, gets its ``tokenizer_config.json`` in any case.
- Rows of the embeddings and ids of the tokenizer are the same number, or the manifest says how
  many rows there are (bad-inputs.md, 66).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vbuild.errors import InvalidInput
from vbuild.strict_json import Json
from vbuild.tokenizer.huggingface_files import (
    make_tokenizer_config,
    patch_added_tokens,
    patch_special_tokens_map,
    patch_tokenizer_config,
    patch_tokenizer_json,
)
from vbuild.tokenizer.json_text import set_members
from vbuild.tokenizer.sentencepiece_model import Piece, PieceType, append_pieces
from vbuild.tokenizer.token_list import AddedPiece, PieceKind
from vbuild.tokenizer.vocabulary import (
    PlacedPiece,
    Vocabulary,
    parse_object,
    place_pieces,
    read_vocabulary,
)

__all__ = [
    "CONFIG_FILES",
    "PIECE_TYPES",
    "TOKENIZER_FILES",
    "PatchedTokenizer",
    "check_rows",
    "patch_config",
    "patch_tokenizer",
]

TOKENIZER_FILES: Final = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
"""Names of the files that belong to a tokenizer."""

CONFIG_FILES: Final = ("config.json", "generation_config.json")
"""Names of the files that describe a model, of which a few keys follow the build."""

PIECE_TYPES: Final[Mapping[PieceKind, PieceType]] = {
    "control": PieceType.CONTROL,
    "user-defined": PieceType.USER_DEFINED,
    "normal": PieceType.NORMAL,
}
"""SentencePiece's type for each type of the manifest."""

_REQUEST = "[tokenizer]"


@dataclass(frozen=True, slots=True)
class PatchedTokenizer:
    """``files`` by name; ``pieces``, the number of ids, which the embeddings' rows have to be.

    ``pieces`` is 0 where no file has a vocabulary that vbuild counts (``tokenizer.model`` or
    ``tokenizer.json``). ``pad_id`` is the id of the piece that was added to pad, or None.
    """

    files: dict[str, bytes]
    pieces: int
    pad_id: int | None


def _same_name(name: str) -> str:
    return name


def patch_tokenizer(
    files: Mapping[str, bytes],
    adds: Sequence[AddedPiece],
    *,
    where: Callable[[str], str] = _same_name,
    update_trainer_vocab_size: bool = False,
    bare: bool = False,
) -> PatchedTokenizer:
    """The tokenizer ``files`` (name -> bytes) with the pieces ``adds``, in that order.

    ``where`` turns a file's name into the one that errors show. ``update_trainer_vocab_size``
    also writes the number of pieces into the trainer's record. ``bare`` says that the files are
    Meta's, which come without Hugging Face's. Raises InvalidInput for malformed files and for
    pieces that are there, are no pieces or get another id than a file says.
    """
    vocabulary = read_vocabulary(files, where)
    patched = dict(sorted(files.items()))
    if not adds:
        if bare and vocabulary.model is not None and "tokenizer_config.json" not in files:
            made = make_tokenizer_config(vocabulary, vocabulary.model, (), None)
            patched = dict(sorted({**patched, "tokenizer_config.json": made}.items()))
        return PatchedTokenizer(patched, vocabulary.size, None)
    if not vocabulary.base:
        raise InvalidInput(
            "tokenizer-missing",
            "there is no tokenizer.model and no tokenizer.json to add a piece to",
            where=_REQUEST,
            hint="list the tokenizer's files in the manifest, or add no piece",
        )
    placed = place_pieces(vocabulary, adds, _REQUEST)
    pad = next((p for p in placed if p.request.role == "pad"), None)
    if vocabulary.model is not None:
        records = [Piece(p.request.piece, 0.0, PIECE_TYPES[p.request.kind]) for p in placed]
        patched["tokenizer.model"] = append_pieces(
            vocabulary.model, records, update_vocab_size=update_trainer_vocab_size
        )
    if "tokenizer.json" in files:
        label = where("tokenizer.json")
        patched["tokenizer.json"] = patch_tokenizer_json(
            files["tokenizer.json"], vocabulary, placed, label
        )
    patched.update(_companions(files, vocabulary, placed, pad))
    return PatchedTokenizer(
        files=dict(sorted(patched.items())),
        pieces=max(vocabulary.size, vocabulary.base + len(placed)),
        pad_id=None if pad is None else pad.id,
    )


def _companions(
    files: Mapping[str, bytes],
    vocabulary: Vocabulary,
    placed: Sequence[PlacedPiece],
    pad: PlacedPiece | None,
) -> dict[str, bytes]:
    """The files that describe added tokens, patched or made; a normal piece is none."""
    tokens = [p for p in placed if p.request.kind != "normal"]
    name = None if pad is None else pad.request.piece
    companions: dict[str, bytes] = {}
    if "added_tokens.json" in files or (vocabulary.model is not None and tokens):
        companions["added_tokens.json"] = patch_added_tokens(files.get("added_tokens.json"), tokens)
    if "tokenizer_config.json" in files:
        companions["tokenizer_config.json"] = patch_tokenizer_config(
            files["tokenizer_config.json"], vocabulary, tokens, name
        )
    elif vocabulary.model is not None:
        companions["tokenizer_config.json"] = make_tokenizer_config(
            vocabulary, vocabulary.model, tokens, name
        )
    if name is not None:
        companions["special_tokens_map.json"] = patch_special_tokens_map(
            files.get("special_tokens_map.json"), vocabulary, name
        )
    return companions


def patch_config(
    files: Mapping[str, bytes],
    *,
    vocab_size: int | None,
    pad_id: int | None,
    dtype: str | None,
    where: Callable[[str], str] = _same_name,
) -> dict[str, bytes]:
    """The model's configuration ``files`` with the keys that a build decides.

    In ``config.json``: ``vocab_size`` (rows of the embeddings) and ``pad_token_id`` are set, in
    ``text_config`` where that has the ``vocab_size``; ``torch_dtype`` and ``dtype`` change only
    where they are there. In ``generation_config.json``: ``pad_token_id`` changes only where it
    is there, as generation falls back on ``config.json`` for what the file leaves out. None
    leaves a key alone. Raises InvalidInput for a file that is not a JSON object.
    """
    patched: dict[str, bytes] = {}
    for name in sorted(set(files) & set(CONFIG_FILES)):
        document = parse_object(files[name], where(name))
        text = files[name].decode("utf-8")
        if name == "config.json":
            text = _patch_model_config(text, document, vocab_size, pad_id, dtype)
        elif pad_id is not None and "pad_token_id" in document:
            text = set_members(text, (), {"pad_token_id": pad_id})
        patched[name] = text.encode("utf-8")
    return patched


def _patch_model_config(
    text: str,
    document: Mapping[str, Json],
    vocab_size: int | None,
    pad_id: int | None,
    dtype: str | None,
) -> str:
    inner = document.get("text_config")
    nested = "vocab_size" not in document and isinstance(inner, dict) and "vocab_size" in inner
    numbers = {"vocab_size": vocab_size, "pad_token_id": pad_id}
    members: dict[str, Json] = {key: n for key, n in numbers.items() if n is not None}
    text = set_members(text, ("text_config",) if nested else (), members)
    if dtype is None:
        return text
    return set_members(
        text, (), {key: dtype for key in ("torch_dtype", "dtype") if key in document}
    )


def check_rows(pieces: int, rows: Mapping[str, int], declared_rows: int | None) -> None:
    """Compare the embeddings' ``rows`` (tensor name -> rows) with the number of ``pieces``.

    They are equal, or the manifest declares the rows that are there, and they are more. Raises
    InvalidInput (``tokenizer-rows``) for the first name, in order, where this does not hold.
    """
    wanted = pieces if declared_rows is None else max(pieces, declared_rows)
    for name, count in sorted(rows.items()):
        if count == wanted and declared_rows in (None, count):
            continue
        if count < pieces:
            hint = "take a surplus [[tokenizer.add]] out, or pad the embeddings (pad = ...)"
        else:
            hint = f"set tokenizer.rows = {count}"
            if declared_rows is None:
                hint += ", or add the missing pieces with [[tokenizer.add]]"
        declared = "" if declared_rows is None else f", tokenizer.rows = {declared_rows}"
        raise InvalidInput(
            "tokenizer-rows",
            "the rows of the embeddings and the pieces of the tokenizer disagree",
            where=name,
            expected=f"{wanted} rows ({pieces} pieces{declared})",
            got=f"{count} rows",
            hint=hint,
        )
