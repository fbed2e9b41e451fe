"""vbuild.tokenizer.load_check: SentencePiece itself reads what was patched."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from tests.support.sentencepiece_models import sentences, small_model
from vbuild.errors import InvalidInput
from vbuild.tokenizer import AddedPiece, patch_tokenizer, verify_model
from vbuild.tokenizer.sentencepiece_model import parse_model
from vbuild.tokenizer.token_list import PieceKind

MODEL = small_model(400)
ADDS = [
    AddedPiece("[PAD]", "control", "pad"),
    AddedPiece("<|user|>", "user-defined"),
    AddedPiece("▁zzz", "normal"),
]
KINDS: list[PieceKind] = ["control", "user-defined", "normal"]


def patched(adds: list[AddedPiece]) -> bytes:
    return patch_tokenizer({"tokenizer.model": MODEL}, adds).files["tokenizer.model"]


def load(data: bytes) -> SentencePieceProcessor:
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(data)
    return processor


def test_a_patched_model_loads_with_its_pieces_ids_and_types() -> None:
    data = patched(ADDS)
    assert verify_model(data, ADDS) is None
    processor = load(data)
    assert [processor.IdToPiece(i) for i in range(400, 403)] == ["[PAD]", "<|user|>", "▁zzz"]
    assert [processor.IsControl(i) for i in range(400, 403)] == [True, False, False]


def test_a_control_piece_never_comes_out_of_text() -> None:
    processor = load(patched(ADDS))
    for text in ["[PAD]", "a [PAD] b", "▁[PAD]", "<s>[PAD]</s>"]:
        assert not {0, 1, 2, 400} & set(processor.Encode(text))


def test_a_user_defined_piece_always_comes_out_whole() -> None:
    processor = load(patched(ADDS))
    for text in ["<|user|>", "a<|user|>b", " <|user|> ", "<|user|><|user|>"]:
        assert processor.Encode(text).count(401) == text.count("<|user|>")


def test_text_without_the_added_pieces_is_encoded_as_before() -> None:
    before, after = load(MODEL), load(patched(ADDS[:2]))
    for text in [*sentences(200, seed=5), "  two  spaces", "ünïcödé 🙂", ""]:
        assert before.Encode(text) == after.Encode(text)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
            st.sampled_from(KINDS),
        ),
        unique_by=lambda item: item[0],
        min_size=1,
        max_size=4,
    )
)
def test_sentencepiece_loads_whatever_may_be_added(items: list[tuple[str, PieceKind]]) -> None:
    known = {piece.piece for piece in parse_model(MODEL, "m").pieces}
    adds = [AddedPiece(text, kind) for text, kind in items if text not in known]
    data = patched(adds) if adds else MODEL
    verify_model(data, adds)
    assert load(data).GetPieceSize() == 400 + len(adds)


def test_another_request_than_what_was_added_is_noticed() -> None:
    with pytest.raises(InvalidInput) as caught:
        verify_model(patched(ADDS), ADDS[:2])
    assert caught.value.code == "tokenizer-load"


def test_what_sentencepiece_refuses_is_an_error_of_ours() -> None:
    broken = MODEL.replace(b"<0x00>", b"<0xzz>")  # byte fallback needs all 256 bytes
    with pytest.raises(InvalidInput, match="does not load") as caught:
        verify_model(broken, where="delta/tokenizer.model")
    assert (caught.value.code, caught.value.where) == ("tokenizer-load", "delta/tokenizer.model")
    assert caught.value.message.isprintable()


def test_case_67_a_malformed_model_is_refused_before_it_is_loaded() -> None:
    with pytest.raises(InvalidInput) as caught:
        verify_model(MODEL[:-1])
    assert caught.value.code == "tokenizer-model-malformed"


def test_sentencepiece_is_imported_only_to_check() -> None:
    code = "import sys, vbuild.tokenizer; sys.exit('sentencepiece' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
