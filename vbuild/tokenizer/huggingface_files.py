"""The Hugging Face files beside a tokenizer, kept in agreement with the pieces that are added.

- A control or user-defined piece is an added token there; a normal piece is known from the
  vocabulary alone. ``special`` says control: the GGUF conversion takes a piece's type from
  ``added_tokens_decoder``, and without an entry loses it (interop.md).
- An edit touches the keys that the piece needs and no other byte. Where transformers would stop
  reading one file because another now has a key, the key takes the first file's content along.
- ``tokenizer.json`` gets the token in ``added_tokens`` and in ``model.vocab``; transformers reads
  one or the other, depending on the class of the tokenizer.
- A made ``tokenizer_config.json`` is LLaMA's, as without ``tokenizer_class`` and
  ``add_bos_token`` transformers 5 loses BOS and the dummy prefix silently. ``legacy`` is false:
  the tokens are then SentencePiece's own, also behind an added token (but transformers puts no
  dummy prefix in front of one that text begins with).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vbuild.errors import InvalidInput
from vbuild.strict_json import Json, quoted
from vbuild.tokenizer.json_text import (
    append_items,
    new_document,
    set_members,
    set_members_of_children,
)
from vbuild.tokenizer.sentencepiece_model import SentencePieceModel
from vbuild.tokenizer.vocabulary import PlacedPiece, Vocabulary

__all__ = [
    "make_tokenizer_config",
    "patch_added_tokens",
    "patch_special_tokens_map",
    "patch_tokenizer_config",
    "patch_tokenizer_json",
    "special_tokens",
    "token_names",
]

_NAMES = (
    "bos_token",
    "cls_token",
    "eos_token",
    "mask_token",
    "pad_token",
    "sep_token",
    "unk_token",
)
_ADDITIONAL = "additional_special_tokens"
_FLAGS = ("lstrip", "normalized", "rstrip", "single_word")
_BPE = 2


def patch_added_tokens(data: bytes | None, placed: Sequence[PlacedPiece]) -> bytes:
    """``added_tokens.json`` with the added tokens of ``placed``; made where ``data`` is None."""
    members: dict[str, Json] = {p.request.piece: p.id for p in placed}
    if data is None:
        return new_document(members)
    return set_members(data.decode("utf-8"), (), members).encode("utf-8")


def patch_special_tokens_map(data: bytes | None, vocabulary: Vocabulary, pad: str) -> bytes:
    """``special_tokens_map.json`` with ``pad`` as the padding token; made where missing."""
    if data is None:
        names = {**token_names(vocabulary), "pad_token": pad}
        return new_document(dict(sorted(names.items())))
    document = vocabulary.documents["special_tokens_map.json"]
    members = _pad_member(document, pad)
    return set_members(data.decode("utf-8"), (), members).encode("utf-8")


def patch_tokenizer_config(
    data: bytes, vocabulary: Vocabulary, placed: Sequence[PlacedPiece], pad: str | None
) -> bytes:
    """An existing ``tokenizer_config.json`` with the added tokens ``placed`` and ``pad``."""
    text = data.decode("utf-8")
    config = vocabulary.documents["tokenizer_config.json"]
    decoder = config.get("added_tokens_decoder")
    members: dict[str, Json] = {}
    if isinstance(decoder, dict):
        text = _patch_decoder(text, decoder, placed)
    elif vocabulary.model is not None and placed:
        members["added_tokens_decoder"] = _full_decoder(vocabulary, placed)
        members.update(_names_of_map(vocabulary, config))
    if vocabulary.model is not None and "tokenizer.json" not in vocabulary.documents:
        _complete_llama_keys(config, vocabulary.model, members)
    if pad is not None:
        members.pop("pad_token", None)
        members.update(_pad_member(config, pad))
    return set_members(text, (), members).encode("utf-8")


def make_tokenizer_config(
    vocabulary: Vocabulary,
    model: SentencePieceModel,
    placed: Sequence[PlacedPiece],
    pad: str | None,
) -> bytes:
    """A ``tokenizer_config.json`` for a LLaMA tokenizer that has none.

    Raises InvalidInput (``tokenizer-unsupported``) for another kind of model.
    """
    if model.model_type != _BPE:
        raise InvalidInput(
            "tokenizer-unsupported",
            "the source has no tokenizer_config.json, and one is made for BPE models only",
            where=model.where,
            expected=f"model_type {_BPE}",
            got=model.model_type,
        )
    config: dict[str, Json] = {
        "add_bos_token": model.bos is not None,
        "add_eos_token": False,
        "added_tokens_decoder": _full_decoder(vocabulary, placed),
        "legacy": False,
        "tokenizer_class": "LlamaTokenizer",
        **token_names(vocabulary),
    }
    if pad is not None:
        config["pad_token"] = pad
    return new_document(dict(sorted(config.items())))


def patch_tokenizer_json(
    data: bytes, vocabulary: Vocabulary, placed: Sequence[PlacedPiece], where: str
) -> bytes:
    """``tokenizer.json`` with the added tokens ``placed`` in both places.

    Raises InvalidInput (``tokenizer-unsupported``) for a Unigram vocabulary and for a normal
    piece, which would need merges that SentencePiece does not write down.
    """
    document = vocabulary.documents["tokenizer.json"]
    model = document["model"]
    vocab = model["vocab"] if isinstance(model, dict) else None
    normal = [p.request.piece for p in placed if p.request.kind == "normal"]
    if not isinstance(vocab, dict) or normal:
        what = "a Unigram vocabulary" if not normal else f"the normal piece {quoted(normal[0])}"
        raise InvalidInput(
            "tokenizer-unsupported",
            f"{what} cannot be patched in tokenizer.json",
            where=where,
            hint="leave tokenizer.json out of the files, or add a user-defined piece",
        )
    new: dict[str, Json] = {p.request.piece: p.id for p in placed if p.request.piece not in vocab}
    text = set_members(data.decode("utf-8"), ("model", "vocab"), new)
    added = document.get("added_tokens")
    if not isinstance(added, list):
        entries: list[Json] = [_fast_entry(p) for p in placed]
        return set_members(text, (), {"added_tokens": entries}).encode("utf-8")
    known = {entry["id"]: i for i, entry in enumerate(added) if isinstance(entry, dict)}
    flags: dict[str | int, Mapping[str, Json]] = {
        known[p.id]: {"special": _special(p)} for p in placed if p.id in known
    }
    text = set_members_of_children(text, ("added_tokens",), flags)
    missing: list[Json] = [_fast_entry(p) for p in placed if p.id not in known]
    return append_items(text, ("added_tokens",), missing).encode("utf-8")


def _special(placed: PlacedPiece) -> bool:
    return placed.request.kind == "control"


def _entry(content: str, *, special: bool, normalized: bool = False) -> dict[str, Json]:
    return {
        "content": content,
        "lstrip": False,
        "normalized": normalized,
        "rstrip": False,
        "single_word": False,
        "special": special,
    }


def _fast_entry(placed: PlacedPiece) -> dict[str, Json]:
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    entry = _entry(placed.request.piece, special=_special(placed))
    return {"id": placed.id, "content": entry["content"], **{flag: entry[flag] for flag in flags}}


def _patch_decoder(text: str, decoder: Mapping[str, Json], placed: Sequence[PlacedPiece]) -> str:
    known = {str(p.id): p for p in placed if str(p.id) in decoder}
    flags: dict[str | int, Mapping[str, Json]] = {
        key: {"special": _special(p)} for key, p in known.items()
    }
    text = set_members_of_children(text, ("added_tokens_decoder",), flags)
    new: dict[str, Json] = {
        str(p.id): _entry(p.request.piece, special=_special(p))
        for p in placed
        if str(p.id) not in known
    }
    return set_members(text, ("added_tokens_decoder",), new)


def _full_decoder(vocabulary: Vocabulary, placed: Sequence[PlacedPiece]) -> dict[str, Json]:
    """An ``added_tokens_decoder`` that holds what transformers gathers where there is none.

    Those are the named special tokens, ``added_tokens.json`` (normalized, unless special) and
    the added tokens of ``tokenizer.json``; the later ones win.
    """
    special = special_tokens(vocabulary)
    entries: dict[int, dict[str, Json]] = {}
    for token in sorted(special.keys() & vocabulary.ids.keys()):
        entries[vocabulary.ids[token]] = {**_entry(token, special=True), **special[token]}
    for token in vocabulary.documents.get("added_tokens.json", {}):
        is_special = token in special
        entries[vocabulary.ids[token]] = _entry(
            token, special=is_special, normalized=not is_special
        )
    fast = vocabulary.documents.get("tokenizer.json", {}).get("added_tokens")
    for added in fast if isinstance(fast, list) else ():
        content = _content(added)
        if isinstance(added, dict) and content is not None:
            flags = _entry(content, special=False)
            entries[vocabulary.ids[content]] = {key: added.get(key, flags[key]) for key in flags}
    for p in placed:
        entries[p.id] = _entry(p.request.piece, special=_special(p))
    return {str(i): entry for i, entry in sorted(entries.items())}


def _content(value: Json) -> str | None:
    """The text of a token that is written as a string or as an object; None for none."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def token_names(vocabulary: Vocabulary) -> dict[str, Json]:
    """The named special tokens as transformers reads them, the model's where no file has one."""
    model = vocabulary.model
    names: dict[str, str | None] = {}
    if model is not None:
        names = {"bos_token": model.bos, "eos_token": model.eos, "unk_token": model.unk}
    for document in ("tokenizer_config.json", "special_tokens_map.json"):
        values = vocabulary.documents.get(document, {})
        for name in _NAMES:
            names[name] = _content(values.get(name)) or names.get(name)
    return {name: content for name, content in names.items() if content is not None}


def special_tokens(vocabulary: Vocabulary) -> dict[str, dict[str, Json]]:
    """The special tokens, named or not, with the flags that their files give them."""
    special: dict[str, dict[str, Json]] = {}
    for content in token_names(vocabulary).values():
        special[str(content)] = {}
    for document in ("tokenizer_config.json", "special_tokens_map.json"):
        values = vocabulary.documents.get(document, {})
        additional = values.get(_ADDITIONAL)
        tokens = [values.get(name) for name in _NAMES]
        for value in [*tokens, *(additional if isinstance(additional, list) else ())]:
            token = _content(value)
            if token is not None:
                flags = value if isinstance(value, dict) else {}
                special[token] = {key: flags[key] for key in _FLAGS if key in flags}
    return special


def _names_of_map(vocabulary: Vocabulary, config: Mapping[str, Json]) -> dict[str, Json]:
    """The members that carry ``special_tokens_map.json`` into ``tokenizer_config.json``.

    transformers reads the map only where there is no ``added_tokens_decoder``. An empty name, as
    early conversions of LLaMA have, cannot be loaded beside one and becomes the model's.
    """
    document = vocabulary.documents.get("special_tokens_map.json", {})
    members: dict[str, Json] = {
        name: content
        for name, content in token_names(vocabulary).items()
        if (name in document or config.get(name) is not None)
        and content != _content(config.get(name))
    }
    additional = document.get(_ADDITIONAL)
    if isinstance(additional, list) and _ADDITIONAL not in config:
        members[_ADDITIONAL] = [c for c in map(_content, additional) if c is not None]
    return members


def _complete_llama_keys(
    config: Mapping[str, Json], model: SentencePieceModel, members: dict[str, Json]
) -> None:
    """Add to ``members`` what transformers 5 needs to read ``tokenizer.model`` as LLaMA's."""
    if config.get("tokenizer_class") is None and model.model_type == _BPE:
        members["tokenizer_class"] = "LlamaTokenizer"
    name = members.get("tokenizer_class", config.get("tokenizer_class"))
    is_llama = isinstance(name, str) and name.lower().startswith("llamatokenizer")
    if is_llama and "add_bos_token" not in config and model.bos is not None:
        members["add_bos_token"] = True


def _pad_member(document: Mapping[str, Json], pad: str) -> dict[str, Json]:
    """The member that makes ``pad`` the padding token; none if it is already."""
    return {} if _content(document.get("pad_token")) == pad else {"pad_token": pad}
