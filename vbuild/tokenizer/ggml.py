"""The vocabulary as a GGUF file holds it: what llama.cpp's own converter takes from the same files.

- Ids, scores and types are those of ``tokenizer.model``, changed by ``added_tokens.json`` and by
  ``added_tokens_decoder``, in that order. Rows beyond the last token get unused placeholders.
- Two things are better than in that converter: a user-defined piece of the model stays one, and a
  token that a file names as special is a control token whichever file adds it. Both would otherwise
  change the tokens of a text (interop.md).
- The ids of BOS, EOS, UNK and PAD come from the tokenizer's files; ``config.json``, whose numbers
  are wrong in early conversions of LLaMA, is asked for what they do not name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbuild.errors import InvalidInput
from vbuild.formats.gguf_header import Entry
from vbuild.strict_json import Json
from vbuild.tokenizer.huggingface_files import special_tokens, token_names
from vbuild.tokenizer.sentencepiece_model import Piece, PieceType, SentencePieceModel
from vbuild.tokenizer.vocabulary import Vocabulary, parse_object, read_vocabulary

__all__ = ["ggml_vocabulary"]

_BPE = 2
_ADDED = -1000.0
_PLACEHOLDER = -10000.0
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_IDS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}


def ggml_vocabulary(
    files: Mapping[str, bytes],
    config: Mapping[str, Json],
    rows: int,
    where: Callable[[str], str],
) -> list[Entry]:
    """The metadata ``tokenizer.ggml.*`` of a model whose embeddings have ``rows`` rows.

    ``files`` are the tokenizer's (name -> bytes), ``config`` is the model's; ``where`` turns a
    file's name into the one that errors show. Raises InvalidInput: ``gguf-tokenizer`` where there
    is no SentencePiece BPE model, or one with more pieces than rows; what ``read_vocabulary``
    raises.
    """
    vocabulary = read_vocabulary(files, where)
    model = _model(vocabulary, rows, where)
    pieces = _pieces(vocabulary, model, rows)
    prefix = "tokenizer.ggml"
    return [
        Entry(f"{prefix}.model", "STRING", "llama"),
        Entry(f"{prefix}.pre", "STRING", "default"),
        Entry(f"{prefix}.tokens", "STRING", tuple(p.piece for p in pieces)),
        Entry(f"{prefix}.scores", "FLOAT32", tuple(p.score for p in pieces)),
        Entry(f"{prefix}.token_type", "INT32", tuple(int(p.type) for p in pieces)),
        *(Entry(f"{prefix}.{key}", "UINT32", i) for key, i in _ids(vocabulary, config, rows)),
        *_flags(vocabulary, model),
        *_chat_template(vocabulary, files, where),
    ]


def _model(vocabulary: Vocabulary, rows: int, where: Callable[[str], str]) -> SentencePieceModel:
    model = vocabulary.model
    if model is None or model.model_type != _BPE:
        raise InvalidInput(
            "gguf-tokenizer",
            "the vocabulary of a GGUF file is made from a SentencePiece model",
            where=where("tokenizer.model"),
            expected=f"a tokenizer.model with model_type {_BPE} (BPE)",
            got="no such file" if model is None else f"model_type {model.model_type}",
            hint="list tokenizer.model in the files of the side that tokenizer.source names",
        )
    if vocabulary.size > rows:
        raise InvalidInput(
            "gguf-tokenizer",
            "the tokenizer has more tokens than the embeddings have rows",
            where=where("tokenizer.model"),
            expected=f"at most {rows}",
            got=vocabulary.size,
        )
    return model


def _pieces(vocabulary: Vocabulary, model: SentencePieceModel, rows: int) -> list[Piece]:
    """One piece per row."""
    pieces = list(model.pieces)
    for i in range(len(pieces), rows):
        pieces.append(Piece(f"[PAD{i}]", _PLACEHOLDER, PieceType.UNUSED))
    special = special_tokens(vocabulary)
    for token, i in _added(vocabulary).items():
        kind = PieceType.CONTROL if token in special else PieceType.USER_DEFINED
        pieces[i] = Piece(token, _ADDED, kind)
    decoder = vocabulary.documents.get("tokenizer_config.json", {}).get("added_tokens_decoder")
    for key, entry in (decoder if isinstance(decoder, dict) else {}).items():
        assert isinstance(entry, dict), "the vocabulary has been read"
        token = str(entry["content"])
        if entry.get("special") or _looks_special(token):
            pieces[int(key)] = Piece(token, _ADDED, PieceType.CONTROL)
        else:
            text = token.replace(_SPACE, " ")
            pieces[int(key)] = Piece(text, _ADDED, PieceType.USER_DEFINED)
    return pieces


def _added(vocabulary: Vocabulary) -> dict[str, int]:
    """Tokens of ``added_tokens.json``, and those behind the model's that other files name."""
    behind = {token: i for token, i in vocabulary.ids.items() if i >= vocabulary.base}
    listed = vocabulary.documents.get("added_tokens.json", {})
    return behind | {token: vocabulary.ids[token] for token in listed}


def _looks_special(token: str) -> bool:
    """As llama.cpp's converter tells control tokens that are not marked as such."""
    ends = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    return token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]") or any(
        token.startswith(begin) and token.endswith(end) for begin, end in ends
    )


def _ids(vocabulary: Vocabulary, config: Mapping[str, Json], rows: int) -> list[tuple[str, int]]:
    """The ids of the named tokens, by key."""
    names = token_names(vocabulary)
    found = []
    for name, key in _IDS.items():
        value: Json = vocabulary.ids.get(str(names.get(name)))
        if value is None:
            value = config.get(f"{name}_id")
        if type(value) is int and 0 <= value < rows:
            found.append((key, value))
    return found


def _flags(vocabulary: Vocabulary, model: SentencePieceModel) -> list[Entry]:
    config = vocabulary.documents.get("tokenizer_config.json", {})
    bos, eos = config.get("add_bos_token"), config.get("add_eos_token")
    flags = {
        "add_bos_token": bos if isinstance(bos, bool) else model.bos is not None,
        "add_eos_token": eos is True,
    }
    space = config.get("add_prefix_space")
    if isinstance(space, bool):
        flags["add_space_prefix"] = space
    return [Entry(f"tokenizer.ggml.{key}", "BOOL", value) for key, value in flags.items()]


def _chat_template(
    vocabulary: Vocabulary, files: Mapping[str, bytes], where: Callable[[str], str]
) -> list[Entry]:
    """The template of ``tokenizer_config.json``, else of a file of its own; at most one entry."""
    template = vocabulary.documents.get("tokenizer_config.json", {}).get("chat_template")
    if template is None and "chat_template.jinja" in files:
        try:
            template = files["chat_template.jinja"].decode("utf-8")
        except UnicodeDecodeError as e:
            label = where("chat_template.jinja")
            raise InvalidInput("gguf-tokenizer", "the file is not UTF-8", where=label) from e
    elif template is None and "chat_template.json" in files:
        document = parse_object(files["chat_template.json"], where("chat_template.json"))
        template = document.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {e.get("name"): e.get("template") for e in template if isinstance(e, dict)}
        template = named.get("default")
    if not isinstance(template, str) or not template:
        return []
    return [Entry("tokenizer.chat_template", "STRING", template)]
