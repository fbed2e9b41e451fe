"""Whatever stands in the files, `patch_tokenizer` gives files that agree or one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.sentencepiece_models import small_model
from vbuild.errors import VbuildError
from vbuild.tokenizer import AddedPiece, patch_config, patch_tokenizer
from vbuild.tokenizer.sentencepiece_model import parse_model

TRAINED = small_model(300)
PIECES = sum(2 + n for n in (14, 12, 13))  # the records of <unk>, <s> and </s>
MODEL = TRAINED[:PIECES] + TRAINED[parse_model(TRAINED, "m").insert_at :]
ADDS = [AddedPiece("[PAD]", "control", "pad"), AddedPiece("<|u|>", "user-defined")]

TOKENS = ["<unk>", "<s>", "</s>", "[PAD]", "<|u|>", "<x>"]
ODD = st.sampled_from(
    [None, True, 0, 3, 5, -1, 3.0, 2**63, "", "3", "<s>", "<x>", [], {}, [[["<s>"]]], {"id": 3}]
)


def mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """``usual`` in nineteen of twenty draws, else something odd."""
    return st.integers(0, 19).flatmap(lambda n: ODD if n == 13 else usual)


def entry(token_id: int) -> st.SearchStrategy[Any]:
    return mostly(
        st.fixed_dictionaries(
            {"id": mostly(st.just(token_id)), "content": mostly(st.just(TOKENS[token_id]))},
            optional={"special": mostly(st.booleans()), "lstrip": mostly(st.booleans())},
        )
    )


def some(make: Callable[[int], tuple[str, st.SearchStrategy[Any]]]) -> st.SearchStrategy[Any]:
    """An object with any of the six tokens, as ``make`` writes them."""
    return st.fixed_dictionaries({}, optional=dict(make(i) for i in range(6)))


IDS = mostly(some(lambda i: (TOKENS[i], mostly(st.just(i)))))
ENTRIES = mostly(
    st.tuples(*(st.none() | entry(i) for i in range(6))).map(lambda e: [*filter(None, e)])
)
NAMES = {
    name: mostly(st.sampled_from(TOKENS) | st.integers(0, 5).flatmap(entry))
    for name in ("bos_token", "pad_token", "unk_token")
} | {"additional_special_tokens": ENTRIES}
CONFIG = {
    **NAMES,
    "added_tokens_decoder": mostly(some(lambda i: (str(i), entry(i)))),
    "tokenizer_class": mostly(st.just("LlamaTokenizer")),
}
DOCUMENTS = {
    "added_tokens.json": IDS,
    "special_tokens_map.json": mostly(st.fixed_dictionaries({}, optional=NAMES)),
    "tokenizer_config.json": mostly(st.fixed_dictionaries({}, optional=CONFIG)),
    "tokenizer.json": mostly(
        st.fixed_dictionaries(
            {"model": mostly(st.fixed_dictionaries({"vocab": IDS}))},
            optional={"added_tokens": ENTRIES},
        )
    ),
}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def patch(files: dict[str, bytes]) -> bool:
    """True where the files were patched; the result is then consistent."""
    try:
        patched = patch_tokenizer(files, ADDS, where=lambda name: f"delta/{name}")
    except VbuildError as e:
        assert e.exit_status == 2
        assert e.message.isprintable()
        assert len(e.message) < 500
        return False
    again = patch_tokenizer(patched.files, [])
    assert again.pieces == patched.pieces
    assert again.files == patched.files
    if "tokenizer.model" in files:
        pieces = parse_model(patched.files["tokenizer.model"], "m").pieces
        assert [p.piece for p in pieces[3:]] == ["[PAD]", "<|u|>"]
    return True


@given(st.fixed_dictionaries({}, optional=DOCUMENTS), st.booleans())
def test_odd_documents_are_patched_consistently_or_refused(
    documents: dict[str, Any], has_model: bool
) -> None:
    files = {name: encoded(value) for name, value in documents.items()}
    patch({**files, "tokenizer.model": MODEL} if has_model else files)


GOOD = {
    "added_tokens.json": b'{"[PAD]": 3}',
    "special_tokens_map.json": b'{"bos_token": {"content": "<s>", "lstrip": false}}',
    "tokenizer_config.json": b'{"added_tokens_decoder": {"1": {"content": "<s>"}}}',
    "tokenizer.json": b'{"added_tokens": [{"id": 1, "content": "<s>"}],\n "model": {"vocab": {}}}',
}


def test_the_undamaged_files_are_patched() -> None:
    assert patch({**GOOD, "tokenizer.model": MODEL})


def test_case_64_a_cut_at_every_byte_of_every_file_is_refused() -> None:
    for name, data in GOOD.items():
        for cut in range(len(data)):
            assert not patch({**GOOD, name: data[:cut], "tokenizer.model": MODEL})


def test_case_64_a_flipped_bit_gives_consistent_files_or_one_clear_error() -> None:
    outcomes = set()
    for name, data in GOOD.items():
        for bit in range(len(data) * 8):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            outcomes.add(patch({**GOOD, name: bytes(flipped), "tokenizer.model": MODEL}))
    assert outcomes == {True, False}


@given(st.dictionaries(st.sampled_from(["vocab_size", "dtype", "text_config", "x"]), ODD))
def test_odd_configurations_are_patched(document: dict[str, Any]) -> None:
    patched = patch_config(
        {"config.json": encoded(document)}, vocab_size=301, pad_id=300, dtype="float16"
    )
    config = json.loads(patched["config.json"])
    assert (config["vocab_size"], config["pad_token_id"]) == (301, 300)
    assert config.get("dtype", "float16") == "float16"
    assert config.get("x") == document.get("x")
