"""vbuild.tokenizer.patch: the files that come out (case 66, Vicuna v0's delta, fast tokenizers)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.sentencepiece_models import small_model
from vbuild.errors import InvalidInput
from vbuild.tokenizer import (
    AddedPiece,
    check_rows,
    parse_token_list,
    patch_config,
    patch_tokenizer,
)
from vbuild.tokenizer.sentencepiece_model import Piece, PieceType, append_pieces, parse_model

MODEL = small_model(300)
PAD = AddedPiece("[PAD]", "control", "pad")
USER = AddedPiece("<|user|>", "user-defined")
WORD = AddedPiece("▁word", "normal")


def entry(content: str, special: bool) -> dict[str, Any]:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {"content": content, **flags, "special": special}


def test_without_additions_every_file_is_the_same_bytes() -> None:
    files = {
        "tokenizer.model": MODEL,
        "added_tokens.json": b'{ "[PAD]":300 }',
        "tokenizer_config.json": b'{"bos_token": ""}',
        "special_tokens_map.json": b"{}",
        "chat_template.jinja": b"\xff not even text",
    }
    patched = patch_tokenizer(files, [])
    assert patched.files == files
    assert (patched.pieces, patched.pad_id) == (301, None)


def test_a_model_alone_gets_the_files_that_its_readers_need() -> None:
    patched = patch_tokenizer({"tokenizer.model": MODEL}, [PAD, USER, WORD])
    assert list(patched.files) == [
        "added_tokens.json",
        "special_tokens_map.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ]
    added = [
        Piece("[PAD]", 0.0, PieceType.CONTROL),
        Piece("<|user|>", 0.0, PieceType.USER_DEFINED),
        Piece("▁word", 0.0, PieceType.NORMAL),
    ]
    assert patched.files["tokenizer.model"] == append_pieces(parse_model(MODEL, "m"), added)
    assert patched.files["added_tokens.json"] == b'{\n  "[PAD]": 300,\n  "<|user|>": 301\n}\n'
    assert json.loads(patched.files["special_tokens_map.json"]) == {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "[PAD]",
        "unk_token": "<unk>",
    }
    config = json.loads(patched.files["tokenizer_config.json"])
    assert config.pop("added_tokens_decoder") == {
        "0": entry("<unk>", True),
        "1": entry("<s>", True),
        "2": entry("</s>", True),
        "300": entry("[PAD]", True),
        "301": entry("<|user|>", False),
    }
    assert config == {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "legacy": False,
        "pad_token": "[PAD]",
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
    }
    assert (patched.pieces, patched.pad_id) == (303, 300)


def test_without_a_role_no_map_of_special_tokens_is_made() -> None:
    patched = patch_tokenizer({"tokenizer.model": MODEL}, [AddedPiece("[PAD]", "control")])
    assert sorted(patched.files) == [
        "added_tokens.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ]
    assert b"pad_token" not in patched.files["tokenizer_config.json"]
    assert patched.pad_id is None


def test_a_normal_piece_is_no_added_token() -> None:
    config = b'{"tokenizer_class":"LlamaTokenizer","add_bos_token":true}'
    files = {"tokenizer.model": MODEL, "tokenizer_config.json": config}
    patched = patch_tokenizer(files, [WORD])
    assert sorted(patched.files) == sorted(files)
    assert patched.files["tokenizer_config.json"] == config
    assert patched.pieces == 301


def test_the_trainers_vocabulary_size_is_raised_on_request() -> None:
    plain = patch_tokenizer({"tokenizer.model": MODEL}, [PAD]).files["tokenizer.model"]
    raised = patch_tokenizer({"tokenizer.model": MODEL}, [PAD], update_trainer_vocab_size=True)
    assert raised.files["tokenizer.model"] == plain.replace(b"\x20\xac\x02", b"\x20\xad\x02")


def test_a_token_list_is_added_in_its_order() -> None:
    adds = parse_token_list(b"C [PAD]\nUB PHU+\nN zz\n", "list.txt")
    patched = patch_tokenizer({"tokenizer.model": MODEL}, adds)
    pieces = parse_model(patched.files["tokenizer.model"], "m").pieces
    assert [p.piece for p in pieces[300:]] == ["[PAD]", "<u>", "zz"]


VICUNA = {
    "tokenizer.model": MODEL,
    "added_tokens.json": b'{\n  "[PAD]": 300\n}\n',
    "special_tokens_map.json": b'{\n  "bos_token": "</s>",\n  "pad_token": "[PAD]"\n}\n',
    "tokenizer_config.json": (
        b'{\n  "bos_token": "",\n  "model_max_length": 1000000000000000019884624838656,\n'
        b'  "pad_token": null,\n  "padding_side": "right",\n'
        b'  "tokenizer_class": "LlamaTokenizer",\n  "unk_token": ""\n}\n'
    ),
}


def test_a_piece_that_only_added_tokens_has_with_its_id_is_satisfied() -> None:
    patched = patch_tokenizer(VICUNA, [PAD])
    assert (patched.pieces, patched.pad_id) == (301, 300)
    assert patched.files["added_tokens.json"] == VICUNA["added_tokens.json"]
    assert patched.files["special_tokens_map.json"] == VICUNA["special_tokens_map.json"]
    pieces = parse_model(patched.files["tokenizer.model"], "m").pieces
    assert pieces[300] == Piece("[PAD]", 0.0, PieceType.CONTROL)


def test_a_config_that_gets_a_decoder_takes_along_what_it_hides() -> None:
    patched = patch_tokenizer(VICUNA, [PAD]).files["tokenizer_config.json"]
    head = VICUNA["tokenizer_config.json"]
    head = head.replace(b'"bos_token": ""', b'"bos_token": "</s>"')
    head = head.replace(b'"unk_token": ""', b'"unk_token": "<unk>"')
    head = head.replace(b'"pad_token": null', b'"pad_token": "[PAD]"')
    assert patched.startswith(head[:-3] + b',\n  "added_tokens_decoder": {\n    "0": {\n')
    assert patched.endswith(b'  },\n  "add_bos_token": true\n}\n')
    config = json.loads(patched)
    assert config["added_tokens_decoder"] == {
        "0": entry("<unk>", True),
        "2": entry("</s>", True),
        "300": entry("[PAD]", True),
    }


def test_flags_of_special_tokens_and_other_added_tokens_are_taken_along() -> None:
    bos = {"content": "<s>", "lstrip": False, "normalized": True, "rstrip": True}
    files = {
        "tokenizer.model": MODEL,
        "added_tokens.json": b'{"[PAD]": 300, "<x>": 301, "<y>": 302}',
        "special_tokens_map.json": json.dumps(
            {"bos_token": bos, "additional_special_tokens": ["<x>"]}
        ).encode(),
        "tokenizer_config.json": b'{"tokenizer_class": "LlamaTokenizer", "eos_token": null}',
    }
    config = json.loads(patch_tokenizer(files, [PAD]).files["tokenizer_config.json"])
    decoder = config["added_tokens_decoder"]
    assert decoder["1"] == entry("<s>", True) | {"normalized": True, "rstrip": True}
    assert decoder["301"] == entry("<x>", True)
    assert decoder["302"] == entry("<y>", False) | {"normalized": True}
    assert config["additional_special_tokens"] == ["<x>"]
    assert (config["bos_token"], config["eos_token"]) == ("<s>", None)


def test_an_existing_decoder_gets_one_entry_and_keeps_its_bytes() -> None:
    config = (
        b'{ "added_tokens_decoder": {"1": {"content":"<s>"}},\t"add_bos_token":false,'
        b'"tokenizer_class":"LlamaTokenizer"}'
    )
    files = {"tokenizer.model": MODEL, "tokenizer_config.json": config}
    patched = patch_tokenizer(files, [USER]).files["tokenizer_config.json"]
    new = json.dumps(entry("<|user|>", False)).encode()
    assert patched == config.replace(b'"<s>"}}', b'"<s>"}, "300": ' + new + b"}")


def test_a_satisfied_entry_of_another_kind_is_made_special() -> None:
    config = b'{"added_tokens_decoder": {"300": {"content": "[PAD]", "special": false}}}'
    files = {"tokenizer.model": MODEL, "tokenizer_config.json": config}
    patched = json.loads(patch_tokenizer(files, [PAD]).files["tokenizer_config.json"])
    assert patched["added_tokens_decoder"] == {"300": {"content": "[PAD]", "special": True}}
    assert patched["pad_token"] == "[PAD]"


def test_a_padding_token_written_as_an_object_is_left() -> None:
    files = {
        "tokenizer.model": MODEL,
        "special_tokens_map.json": b'{"pad_token": {"content": "[PAD]", "lstrip": true}}',
    }
    patched = patch_tokenizer(files, [PAD])
    assert patched.files["special_tokens_map.json"] == files["special_tokens_map.json"]
    config = json.loads(patched.files["tokenizer_config.json"])
    assert config["added_tokens_decoder"]["300"] == entry("[PAD]", True)


def fast(vocab: Any, added: Any, **style: Any) -> bytes:
    value = {"version": "1.0", "added_tokens": added, "model": {"type": "BPE", "vocab": vocab}}
    return json.dumps(value, **style).encode()


FIRST = {
    "id": 0,
    "content": "<unk>",
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
}


@pytest.mark.parametrize("style", [{"indent": 2}, {}, {"separators": (",", ":")}])
def test_a_fast_tokenizer_gets_the_token_in_both_places(style: dict[str, Any]) -> None:
    vocab = {"<unk>": 0, "a": 1}
    files = {"tokenizer.json": fast(vocab, [FIRST, FIRST | {"id": 2, "content": "b"}], **style)}
    patched = patch_tokenizer(files, [PAD, USER])
    new = [
        FIRST | {"id": 3, "content": "[PAD]"},
        FIRST | {"id": 4, "content": "<|user|>", "special": False},
    ]
    added = [FIRST, FIRST | {"id": 2, "content": "b"}, *new]
    vocab |= {"[PAD]": 3, "<|user|>": 4}
    assert patched.files["tokenizer.json"] == fast(vocab, added, **style)
    assert json.loads(patched.files["special_tokens_map.json"]) == {"pad_token": "[PAD]"}
    assert (patched.pieces, patched.pad_id) == (5, 3)
    assert set(patched.files) == {"special_tokens_map.json", "tokenizer.json"}


def test_a_fast_tokenizer_that_has_the_token_gets_the_missing_half() -> None:
    vocab = {p.piece: i for i, p in enumerate(parse_model(MODEL, "m").pieces)}
    half = FIRST | {"id": 300, "content": "[PAD]", "special": False}
    files = {"tokenizer.model": MODEL, "tokenizer.json": fast(vocab, [FIRST, half])}
    patched = patch_tokenizer(files, [PAD])
    whole = fast({**vocab, "[PAD]": 300}, [FIRST, half | {"special": True}])
    assert patched.files["tokenizer.json"] == whole


def test_a_fast_tokenizer_without_added_tokens_gets_the_list() -> None:
    files = {"tokenizer.json": b'{"model": {"vocab": {"a": 0}}}'}
    patched = json.loads(patch_tokenizer(files, [USER]).files["tokenizer.json"])
    assert [t["content"] for t in patched["added_tokens"]] == ["<|user|>"]


@pytest.mark.parametrize(
    ("vocab", "add"), [({"a": 0}, WORD), ([["a", 0.0]], PAD)], ids=["normal", "unigram"]
)
def test_what_a_fast_tokenizer_cannot_take_is_refused(vocab: Any, add: AddedPiece) -> None:
    with pytest.raises(InvalidInput) as caught:
        patch_tokenizer({"tokenizer.json": fast(vocab, [])}, [add])
    assert (caught.value.code, caught.value.where) == ("tokenizer-unsupported", "tokenizer.json")


def test_no_config_is_made_for_a_unigram_model() -> None:
    unigram = MODEL.replace(b"\x18\x02\x20\xac\x02", b"\x18\x01\x20\xac\x02")
    with pytest.raises(InvalidInput, match="expected model_type 2, got 1"):
        patch_tokenizer({"tokenizer.model": unigram}, [PAD])


CONFIG = (
    b'{\r\n\t"vocab_size":  300 ,\r\n\t"torch_dtype": "float32",\r\n'
    b'\t"rms_norm_eps": 1e-06,\r\n\t"pad_token_id": 0\r\n}'
)


def test_the_configuration_changes_in_the_decided_keys_only() -> None:
    patched = patch_config({"config.json": CONFIG}, vocab_size=301, pad_id=300, dtype="float16")
    expected = CONFIG.replace(b"300 ", b"301 ").replace(b"float32", b"float16")
    assert patched == {"config.json": expected.replace(b'id": 0', b'id": 300')}


def test_a_configuration_that_is_right_is_the_same_bytes() -> None:
    files = {"config.json": CONFIG, "generation_config.json": b"{}"}
    assert patch_config(files, vocab_size=300, pad_id=0, dtype="float32") == files
    assert patch_config(files, vocab_size=None, pad_id=None, dtype=None) == files


def test_missing_keys_are_inserted_but_for_the_type() -> None:
    patched = patch_config({"config.json": b'{"a": 1}'}, vocab_size=7, pad_id=6, dtype="float16")
    assert patched == {"config.json": b'{"a": 1, "vocab_size": 7, "pad_token_id": 6}'}


def test_both_spellings_of_the_type_change() -> None:
    files = {"config.json": b'{"dtype": "bfloat16", "torch_dtype": "bfloat16"}'}
    patched = patch_config(files, vocab_size=None, pad_id=None, dtype="float16")
    assert patched == {"config.json": b'{"dtype": "float16", "torch_dtype": "float16"}'}


def test_a_text_model_inside_a_larger_one_is_found() -> None:
    files = {"config.json": b'{"text_config": {"vocab_size": 1}, "x": 2}'}
    patched = patch_config(files, vocab_size=3, pad_id=None, dtype=None)
    assert patched == {"config.json": b'{"text_config": {"vocab_size": 3}, "x": 2}'}


@pytest.mark.parametrize(
    ("before", "after"),
    [(b'{"pad_token_id": 0}', b'{"pad_token_id": 300}'), (b'{"top_p": 0.9}', b'{"top_p": 0.9}')],
)
def test_generation_pads_with_the_new_id_where_it_names_one(before: bytes, after: bytes) -> None:
    files = {"generation_config.json": before, "README.md": b"not a configuration"}
    patched = patch_config(files, vocab_size=301, pad_id=300, dtype="float16")
    assert patched == {"generation_config.json": after}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b'{"a": 1, "a": 1}', "json-malformed", id="case_64_duplicate_key"),
        pytest.param(b"[]", "tokenizer-json-form", id="case_64_not_an_object"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_malformed_configuration_is_refused(data: bytes, code: str, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        patch_config(
            {name: data}, vocab_size=1, pad_id=None, dtype=None, where=lambda n: f"base/{n}"
        )
    assert (caught.value.code, caught.value.where) == (code, f"base/{name}")


@pytest.mark.parametrize(("rows", "declared"), [(301, None), (301, 301), (304, 304)])
def test_rows_that_agree_are_let_through(rows: int, declared: int | None) -> None:
    assert check_rows(301, {"model.embed_tokens.weight": rows}, declared) is None


@pytest.mark.parametrize(
    ("rows", "declared", "hint"),
    [
        pytest.param(300, None, "[[tokenizer.add]]", id="case_66_fewer_rows"),
        pytest.param(302, None, "tokenizer.rows = 302", id="case_66_more_rows"),
        pytest.param(302, 303, "tokenizer.rows = 302", id="case_66_declared_otherwise"),
        pytest.param(301, 303, "tokenizer.rows = 301", id="case_66_declared_for_nothing"),
        pytest.param(300, 300, "[[tokenizer.add]]", id="case_66_declared_too_few"),
        pytest.param(301, 300, "tokenizer.rows = 301", id="case_66_declared_below_the_pieces"),
    ],
)
def test_rows_that_disagree_are_refused(rows: int, declared: int | None, hint: str) -> None:
    embeddings = {"model.embed_tokens.weight": rows, "lm_head.weight": rows}
    with pytest.raises(InvalidInput) as caught:
        check_rows(301, embeddings, declared)
    error = caught.value
    assert (error.code, error.exit_status, error.where) == ("tokenizer-rows", 2, "lm_head.weight")
    assert f"got {rows} rows" in error.message
    assert "301 pieces" in error.message
    assert hint in (error.hint or "")


def test_one_embedding_of_two_is_enough_to_disagree() -> None:
    with pytest.raises(InvalidInput, match=r"model\.embed_tokens\.weight.*got 300 rows"):
        check_rows(301, {"lm_head.weight": 301, "model.embed_tokens.weight": 300}, None)
