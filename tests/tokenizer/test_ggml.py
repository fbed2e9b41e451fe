"""vbuild.tokenizer.ggml: the vocabulary of a GGUF file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor

from tests.support.sentencepiece_models import small_model
from vbuild.errors import InvalidInput
from vbuild.tokenizer import AddedPiece, ggml_vocabulary, patch_tokenizer
from vbuild.tokenizer.sentencepiece_model import Piece, PieceType, append_pieces, parse_model

VOCAB = 320
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


@pytest.fixture(scope="module")
def model() -> bytes:
    return small_model(VOCAB)


def vocabulary(
    files: dict[str, bytes], *, rows: int = VOCAB, config: dict[str, Any] | None = None
) -> dict[str, Any]:
    entries = ggml_vocabulary(files, config or {}, rows, lambda name: f"base/{name}")
    return {
        entry.key.removeprefix("tokenizer.").removeprefix("ggml."): entry.value for entry in entries
    }


def text(document: object) -> bytes:
    return json.dumps(document).encode()


def token(found: dict[str, Any], i: int) -> tuple[str, float, int]:
    return found["tokens"][i], found["scores"][i], found["token_type"][i]


def test_pieces_scores_and_types_are_sentencepiece_s(model: bytes) -> None:
    found = vocabulary({"tokenizer.model": model})
    theirs = SentencePieceProcessor(model_proto=model)
    assert found["tokens"] == tuple(theirs.id_to_piece(i) for i in range(VOCAB))
    assert found["scores"] == tuple(theirs.get_score(i) for i in range(VOCAB))
    kinds = [(theirs.is_unknown, 2), (theirs.is_control, 3), (theirs.is_byte, 6)]
    for i in range(VOCAB):
        assert found["token_type"][i] == next((n for is_kind, n in kinds if is_kind(i)), NORMAL)
    assert (found["model"], found["pre"]) == ("llama", "default")
    assert [found[f"{name}_token_id"] for name in ("bos", "eos", "unknown")] == [1, 2, 0]
    assert "padding_token_id" not in found
    assert (found["add_bos_token"], found["add_eos_token"]) == (True, False)


def test_added_pieces_have_their_types_and_the_padding_its_id(model: bytes) -> None:
    adds = (
        AddedPiece("[PAD]", "control", "pad"),
        AddedPiece("<user>", "user-defined"),
        AddedPiece("kiki", "normal"),
    )
    patched = patch_tokenizer({"tokenizer.model": model}, adds)
    found = vocabulary(dict(patched.files), rows=VOCAB + 3)
    assert token(found, VOCAB) == ("[PAD]", -1000.0, CONTROL)
    assert token(found, VOCAB + 1) == ("<user>", -1000.0, USER_DEFINED)
    assert token(found, VOCAB + 2) == ("kiki", 0.0, NORMAL)
    assert found["padding_token_id"] == VOCAB


def test_a_user_defined_piece_of_the_model_stays_one(model: bytes) -> None:
    piece = Piece("<u>", 0.0, PieceType.USER_DEFINED)
    grown = append_pieces(parse_model(model, "m"), [piece])
    assert token(vocabulary({"tokenizer.model": grown}, rows=VOCAB + 1), VOCAB) == (
        "<u>",
        0.0,
        USER_DEFINED,
    )


def test_added_tokens_are_user_defined_unless_a_file_calls_them_special(model: bytes) -> None:
    files = {
        "tokenizer.model": model,
        "added_tokens.json": text({"[PAD]": VOCAB, "<x>": VOCAB + 1}),
        "special_tokens_map.json": text({"pad_token": "[PAD]"}),
    }
    found = vocabulary(files, rows=VOCAB + 2)
    assert token(found, VOCAB) == ("[PAD]", -1000.0, CONTROL)
    assert token(found, VOCAB + 1) == ("<x>", -1000.0, USER_DEFINED)
    assert found["padding_token_id"] == VOCAB


def test_the_decoder_has_the_last_word(model: bytes) -> None:
    entries = {
        str(VOCAB): {"content": "<x>", "special": True},
        str(VOCAB + 1): {"content": "▁a▁b", "special": False},
        str(VOCAB + 2): {"content": "<|end|>", "special": False},
    }
    files = {
        "tokenizer.model": model,
        "added_tokens.json": text({"<x>": VOCAB}),
        "tokenizer_config.json": text({"added_tokens_decoder": entries}),
    }
    found = vocabulary(files, rows=VOCAB + 3)
    assert token(found, VOCAB) == ("<x>", -1000.0, CONTROL)
    assert token(found, VOCAB + 1) == (" a b", -1000.0, USER_DEFINED)
    assert token(found, VOCAB + 2) == ("<|end|>", -1000.0, CONTROL)


def test_tokens_that_only_tokenizer_json_adds_are_there(model: bytes) -> None:
    pieces = {p.piece: i for i, p in enumerate(parse_model(model, "m").pieces)}
    document = {"model": {"vocab": pieces}, "added_tokens": [{"id": VOCAB, "content": "<x>"}]}
    files = {"tokenizer.model": model, "tokenizer.json": text(document)}
    assert token(vocabulary(files, rows=VOCAB + 1), VOCAB) == ("<x>", -1000.0, USER_DEFINED)


def test_rows_without_a_token_get_unused_placeholders(model: bytes) -> None:
    found = vocabulary({"tokenizer.model": model}, rows=VOCAB + 2)
    assert token(found, VOCAB + 1) == (f"[PAD{VOCAB + 1}]", -10000.0, UNUSED)
    assert {len(found[key]) for key in ("tokens", "scores", "token_type")} == {VOCAB + 2}


def test_ids_come_from_the_tokenizer_before_the_configuration(model: bytes) -> None:
    wrong = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": -1}
    found = vocabulary({"tokenizer.model": model}, config=wrong)
    assert [found[f"{name}_token_id"] for name in ("bos", "eos", "unknown")] == [1, 2, 0]
    assert "padding_token_id" not in found
    for value, expected in ((5, 5), (VOCAB, None), (True, None), ("5", None), ([5], None)):
        found = vocabulary({"tokenizer.model": model}, config={"pad_token_id": value})
        assert found.get("padding_token_id") == expected


def test_flags_and_template_are_the_tokenizer_s(model: bytes) -> None:
    config = {
        "add_bos_token": False,
        "add_eos_token": True,
        "add_prefix_space": False,
        "chat_template": "{{ x }}",
    }
    files = {"tokenizer.model": model, "tokenizer_config.json": text(config)}
    found = vocabulary(files)
    assert (found["add_bos_token"], found["add_eos_token"]) == (False, True)
    assert found["add_space_prefix"] is False
    assert found["chat_template"] == "{{ x }}"


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({"chat_template.jinja": "ä".encode()}, "ä"),
        ({"chat_template.json": text({"chat_template": "b"})}, "b"),
        ({"chat_template.json": text({"chat_template": 1})}, None),
        (
            {
                "tokenizer_config.json": text(
                    {"chat_template": [{"name": "default", "template": "d"}]}
                )
            },
            "d",
        ),
        ({"tokenizer_config.json": text({"chat_template": ["x"]})}, None),
        ({"tokenizer_config.json": text({"chat_template": ""})}, None),
    ],
)
def test_a_template_in_each_of_its_places(
    model: bytes, files: dict[str, bytes], template: str | None
) -> None:
    assert vocabulary({"tokenizer.model": model, **files}).get("chat_template") == template


def test_a_template_that_is_no_text_is_refused(model: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        vocabulary({"tokenizer.model": model, "chat_template.jinja": b"\xff"})
    assert (caught.value.code, caught.value.where) == ("gguf-tokenizer", "base/chat_template.jinja")


def test_more_tokens_than_rows_are_refused(model: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        vocabulary({"tokenizer.model": model}, rows=VOCAB - 1)
    assert (caught.value.code, caught.value.got) == ("gguf-tokenizer", str(VOCAB))


def test_without_a_sentencepiece_model_the_file_is_asked_for() -> None:
    pieces = {"model": {"vocab": {"a": 0, "b": 1}}}
    with pytest.raises(InvalidInput) as caught:
        vocabulary({"tokenizer.json": text(pieces)}, rows=2)
    assert caught.value.code == "gguf-tokenizer"
    assert "tokenizer.model" in str(caught.value.hint)


def test_a_model_that_is_not_bpe_is_refused(model: bytes) -> None:
    parsed = parse_model(model, "m")
    assert parsed.trainer_spec is not None
    _, payload, end = parsed.trainer_spec
    spec = model[payload:end].replace(b"\x18\x02", b"\x18\x01", 1)  # field 3, model_type
    unigram = model[:payload] + spec + model[end:]
    assert parse_model(unigram, "m").model_type == 1
    with pytest.raises(InvalidInput) as caught:
        vocabulary({"tokenizer.model": unigram})
    assert (caught.value.code, caught.value.got) == ("gguf-tokenizer", "model_type 1")
