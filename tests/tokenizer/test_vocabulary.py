"""vbuild.tokenizer.vocabulary: ids over all files (cases 64, 65, 68)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.sentencepiece_models import small_model
from vbuild.errors import InvalidInput
from vbuild.tokenizer.patch import patch_tokenizer
from vbuild.tokenizer.sentencepiece_model import MAX_PIECES, Piece, PieceType, append_pieces
from vbuild.tokenizer.sentencepiece_model import parse_model as parse
from vbuild.tokenizer.token_list import AddedPiece
from vbuild.tokenizer.vocabulary import parse_object

MODEL = small_model(300)
PAD = AddedPiece("[PAD]", "control", "pad")


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def count(**documents: Any) -> int:
    """The number of ids of the model with the given files beside it."""
    files = {f"{name}.json": encoded(value) for name, value in documents.items()}
    return patch_tokenizer({"tokenizer.model": MODEL, **files}, []).pieces


def fast(vocab: Any, added: Any = ()) -> dict[str, Any]:
    return {"model": {"type": "BPE", "vocab": vocab}, "added_tokens": list(added)}


def decoder(**tokens: Any) -> dict[str, Any]:
    return {"added_tokens_decoder": {key[1:]: {"content": v} for key, v in tokens.items()}}


def test_the_models_pieces_are_counted() -> None:
    assert count() == 300


def test_tokens_behind_the_pieces_count() -> None:
    assert count(added_tokens={"<b>": 301, "<a>": 300}) == 302


def test_tokens_that_several_files_name_count_once() -> None:
    entries = [{"id": 300, "content": "<a>"}, {"id": 1, "content": "<s>"}]
    assert (
        count(
            added_tokens={"<a>": 300, "</s>": 2},
            tokenizer_config=decoder(_300="<a>", _301="<b>", _0="<unk>"),
            tokenizer=fast({"<unk>": 0, "<s>": 1}, entries),
        )
        == 302
    )


def test_a_placeholder_piece_may_have_another_name_in_the_decoder() -> None:
    assert count(tokenizer_config=decoder(_7="<|im_start|>")) == 300


def test_without_a_model_the_fast_tokenizer_is_counted() -> None:
    files = {"tokenizer.json": encoded(fast({"<a>": 1, "<b>": 0}, [{"id": 2, "content": "c"}]))}
    assert patch_tokenizer(files, []).pieces == 3


def test_a_unigram_vocabulary_is_counted_by_position() -> None:
    files = {"tokenizer.json": encoded(fast([["<unk>", 0], ["<a>", -1.5]]))}
    assert patch_tokenizer(files, []).pieces == 2


def test_files_without_a_vocabulary_count_nothing() -> None:
    files = {"merges.txt": b"#version: 0.2\n", "added_tokens.json": b'{"a": 7}'}
    patched = patch_tokenizer(files, [])
    assert (patched.files, patched.pieces) == (files, 0)


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        pytest.param({"added_tokens": {"<a>": 301}}, "no token has id 300", id="case_65_gap"),
        pytest.param(
            {"added_tokens": {"<a>": 300, "<b>": 300}}, "two tokens", id="case_65_id_twice"
        ),
        pytest.param({"added_tokens": {"<a>": -1}}, "out of range", id="case_65_negative"),
        pytest.param({"added_tokens": {"<a>": MAX_PIECES}}, "out of range", id="case_65_huge"),
        pytest.param({"added_tokens": {"<a>": 2**63}}, "out of range", id="case_65_beyond_i64"),
        pytest.param({"added_tokens": {"<a>": 5}}, "two tokens", id="case_65_id_of_a_piece"),
        pytest.param({"added_tokens": {"<s>": 300}}, "two ids", id="case_65_piece_again"),
        pytest.param(
            {"added_tokens": {"<a>": 300}, "tokenizer_config": decoder(_301="<a>")},
            "two ids",
            id="case_65_files_disagree_on_the_id",
        ),
        pytest.param(
            {"added_tokens": {"<a>": 300}, "tokenizer_config": decoder(_300="<b>")},
            "two tokens",
            id="case_65_files_disagree_on_the_token",
        ),
        pytest.param(
            {"tokenizer_config": decoder(_300="<a>", _301="<a>")}, "twice", id="case_65_token_twice"
        ),
        pytest.param(
            {"tokenizer": fast({}, [{"id": 300, "content": "<a>"}, {"id": 300, "content": "<b>"}])},
            "two tokens",
            id="case_65_fast_id_twice",
        ),
        pytest.param({"tokenizer": fast({"<a>": 302})}, "gap", id="case_65_fast_gap"),
        pytest.param({"tokenizer": fast([["<a>", 0], ["<a>", 0]])}, "twice", id="case_65_unigram"),
    ],
)
def test_ids_that_contradict_are_refused(documents: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        count(**documents)
    assert (caught.value.code, caught.value.exit_status) == ("tokenizer-id", 2)
    assert any(f"{name}.json" in caught.value.message for name in documents)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("added_tokens", ["a"]),
        ("added_tokens", {"<a>": True}),
        ("added_tokens", {"<a>": 300.0}),
        ("added_tokens", {"<a>": "300"}),
        ("special_tokens_map", "x"),
        ("tokenizer_config", {"added_tokens_decoder": []}),
        ("tokenizer_config", {"added_tokens_decoder": {"0300": {"content": "<a>"}}}),
        ("tokenizer_config", {"added_tokens_decoder": {"٣": {"content": "<a>"}}}),
        ("tokenizer_config", {"added_tokens_decoder": {"300": "<a>"}}),
        ("tokenizer_config", {"added_tokens_decoder": {"300": {"content": ""}}}),
        ("tokenizer", {}),
        ("tokenizer", {"model": {"vocab": 3}}),
        ("tokenizer", {"model": {"vocab": {"<a>": None}}}),
        ("tokenizer", {"model": {"vocab": [["<a>", 0], "<b>"]}}),
        ("tokenizer", {"model": {"vocab": {}}, "added_tokens": {}}),
        ("tokenizer", {"model": {"vocab": {}}, "added_tokens": [3]}),
        ("tokenizer", {"model": {"vocab": {}}, "added_tokens": [{"content": "<a>"}]}),
    ],
)
def test_a_file_of_another_form_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        count(**{name: value})
    assert (caught.value.code, caught.value.where) == ("tokenizer-json-form", f"{name}.json")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"a": 300, "\\u0061": 301}', id="case_64_duplicate_keys"),
        pytest.param(b'{"a": NaN}', id="case_64_nan"),
        pytest.param(b'{"\\ud800": 300}', id="case_64_lone_surrogate"),
        pytest.param(b'{"a": 1' + b"0" * 5000 + b"}", id="case_64_huge_integer"),
        pytest.param(b'{"a":' * 5000, id="case_64_deep_nesting"),
        pytest.param(b'{"a": "\xff"}', id="case_64_not_utf8"),
        pytest.param(b"", id="case_64_empty"),
    ],
)
@pytest.mark.parametrize(
    "name",
    ["added_tokens.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"],
)
def test_malformed_json_is_refused_in_every_file(data: bytes, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        patch_tokenizer({"tokenizer.model": MODEL, name: data}, [], where=lambda n: f"delta/{n}")
    assert (caught.value.code, caught.value.exit_status) == ("json-malformed", 2)
    assert caught.value.where == f"delta/{name}"


def test_the_limit_that_transformers_writes_for_none_is_read() -> None:
    data = b'{"model_max_length" :\n1000000000000000019884624838656, "a": {"b": 1}}'
    assert parse_object(data, "x")["a"] == {"b": 1}
    for other in (b"1000000000000000019884624838657", b"10000000000000000198846248386560"):
        with pytest.raises(InvalidInput, match="64 bits"):
            parse_object(b'{"model_max_length": ' + other + b"}", "x")


def test_offsets_in_errors_are_true_behind_that_limit() -> None:
    data = b'{"model_max_length": 1000000000000000019884624838656, }'
    with pytest.raises(InvalidInput, match=f"at byte {data.index(b'}')}"):
        parse_object(data, "x")


@pytest.mark.parametrize(
    ("adds", "documents", "code"),
    [
        pytest.param(
            [AddedPiece("<s>", "control")], {}, "tokenizer-piece-exists", id="case_68_already_there"
        ),
        pytest.param([AddedPiece("", "normal")], {}, "tokenizer-piece-invalid", id="case_68_empty"),
        pytest.param(
            [AddedPiece("\udc80", "normal")], {}, "tokenizer-piece-invalid", id="case_68_not_utf8"
        ),
        pytest.param([PAD, PAD], {}, "tokenizer-piece-duplicate", id="case_68_twice"),
        pytest.param(
            [PAD, AddedPiece("x", "control", "pad")], {}, "tokenizer-pad", id="two_to_pad"
        ),
        pytest.param([AddedPiece("x", "normal", "pad")], {}, "tokenizer-pad", id="pad_from_text"),
        pytest.param(
            [PAD],
            {"added_tokens": {"<a>": 300, "[PAD]": 301}},
            "tokenizer-id",
            id="case_65_other_id",
        ),
        pytest.param([PAD], {"added_tokens": {"<a>": 300}}, "tokenizer-id", id="case_65_id_taken"),
        pytest.param(
            [PAD],
            {"tokenizer_config": decoder(_7="[PAD]")},
            "tokenizer-piece-exists",
            id="case_65_name_of_a_placeholder",
        ),
        pytest.param(
            [AddedPiece("<a>", "normal")],
            {"added_tokens": {"<a>": 300}},
            "tokenizer-piece-exists",
            id="normal_piece_among_added_tokens",
        ),
    ],
)
def test_an_addition_that_cannot_be_is_refused(
    adds: list[AddedPiece], documents: dict[str, Any], code: str
) -> None:
    files = {f"{name}.json": encoded(value) for name, value in documents.items()}
    with pytest.raises(InvalidInput) as caught:
        patch_tokenizer({"tokenizer.model": MODEL, **files}, adds)
    assert (caught.value.code, caught.value.exit_status) == (code, 2)
    assert caught.value.where == "[tokenizer]"
    assert caught.value.message.isprintable()


def test_case_65_an_id_that_is_taken_names_both_pieces() -> None:
    with pytest.raises(InvalidInput) as caught:
        patch_tokenizer({"tokenizer.model": MODEL, "added_tokens.json": b'{"<a>": 300}'}, [PAD])
    assert caught.value.message == (
        '[tokenizer]: the piece "[PAD]" to add gets id 300, which "<a>" has'
    )


def test_too_many_pieces_are_refused() -> None:
    adds = [AddedPiece("t", "normal")] * (MAX_PIECES - 299)
    with pytest.raises(InvalidInput, match=f"more than {MAX_PIECES}"):
        patch_tokenizer({"tokenizer.model": MODEL}, adds)


def test_a_piece_that_was_added_before_is_there() -> None:
    model = append_pieces(parse(MODEL, "m"), [Piece("[PAD]", 0.0, PieceType.CONTROL)])
    with pytest.raises(InvalidInput, match="already there, with id 300"):
        patch_tokenizer({"tokenizer.model": model}, [PAD])


@pytest.mark.parametrize("files", [{}, {"vocab.json": b"{}"}], ids=["none", "none_counted"])
def test_a_piece_needs_a_tokenizer_to_be_added_to(files: dict[str, bytes]) -> None:
    with pytest.raises(InvalidInput) as caught:
        patch_tokenizer(files, [PAD])
    assert caught.value.code == "tokenizer-missing"
