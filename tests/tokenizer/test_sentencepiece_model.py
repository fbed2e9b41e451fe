"""vbuild.tokenizer.sentencepiece_model: reading, appending, and every way to be malformed."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from tests.support.sentencepiece_models import small_model
from vbuild.errors import InvalidInput
from vbuild.tokenizer.sentencepiece_model import (
    Piece,
    PieceType,
    append_pieces,
    encode_varint,
    parse_model,
)

WHERE = "delta/tokenizer.model"


def tag(number: int, wire: int) -> bytes:
    return encode_varint(number << 3 | wire)


def message(number: int, payload: bytes) -> bytes:
    return tag(number, 2) + encode_varint(len(payload)) + payload


def record(piece: bytes, kind: int = 1, score: float = 0.0) -> bytes:
    return message(
        1, message(1, piece) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
    )


UNK = record(b"<unk>", 2)
TRAINER = message(2, tag(3, 0) + b"\x02" + tag(4, 0) + b"\x04" + message(46, b"<s>"))
TINY = UNK + record(b"<s>", 3) + record("▁é".encode(), 1, -1.5) + record(b"b") + TRAINER
TINY += message(3, message(1, b"identity")) + message(200, b"extension")


def load(data: bytes) -> SentencePieceProcessor:
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(data)
    return processor


def test_pieces_scores_and_types_are_those_that_sentencepiece_reads() -> None:
    data = small_model(400)
    model = parse_model(data, WHERE)
    processor = load(data)
    assert len(model.pieces) == processor.GetPieceSize() == 400
    for i, piece in enumerate(model.pieces):
        assert piece.piece == processor.IdToPiece(i)
        assert piece.score == processor.GetScore(i)
        assert (piece.type is PieceType.CONTROL) == processor.IsControl(i)
        assert (piece.type is PieceType.BYTE) == processor.IsByte(i)
        assert (piece.type is PieceType.UNKNOWN) == processor.IsUnknown(i)
    assert (model.unk, model.bos, model.eos, model.model_type) == ("<unk>", "<s>", "</s>", 2)


RECORDS = st.one_of(
    st.builds(
        record,
        st.text(max_size=50).map(str.encode),
        st.integers(0, 9),
        st.floats(width=32, allow_nan=False),
    ),
    st.text(min_size=1, max_size=5).map(lambda text: message(1, message(1, text.encode()))),
    st.binary(max_size=12).map(lambda payload: message(1, payload)),
    st.binary(max_size=4),
)


def read(data: bytes) -> tuple[Piece, ...] | str:
    try:
        return parse_model(data, WHERE).pieces
    except InvalidInput as e:
        return e.code


@given(st.lists(RECORDS, max_size=8))
def test_usual_records_are_read_as_the_general_reader_reads_them(records: list[bytes]) -> None:
    data = UNK + b"".join(records)
    # Behind any other field nothing is read by the loop for usual records.
    assert read(data) == read(message(200, b"") + data)


@pytest.mark.parametrize("length", [1, 113, 114, 119, 120, 121, 122, 127, 128, 129, 300])
def test_a_piece_may_have_any_length(length: int) -> None:
    pieces = parse_model(UNK + record(b"a" * length, 4, 0.5), WHERE).pieces
    assert pieces[1] == Piece("a" * length, 0.5, PieceType.USER_DEFINED)


def test_missing_fields_have_the_defaults_of_the_format() -> None:
    model = parse_model(UNK + message(1, message(1, b"a")), WHERE)
    assert model.pieces[1] == Piece("a", 0.0, PieceType.NORMAL)
    assert (model.model_type, model.bos, model.eos, model.trainer_spec) == (1, None, None, None)


def test_new_records_stand_behind_the_last_piece_and_all_else_is_unchanged() -> None:
    data = small_model(300)
    model = parse_model(data, WHERE)
    patched = append_pieces(model, [Piece("[PAD]", 0.0, PieceType.CONTROL)])
    at = model.insert_at
    assert patched == data[:at] + bytes.fromhex("0a0e0a055b5041445d15000000001803") + data[at:]
    assert data[at : at + 1] == b"\x12"


def test_records_go_behind_a_piece_that_stands_after_other_fields() -> None:
    data = UNK + TRAINER + record(b"late") + message(200, b"x")
    patched = append_pieces(parse_model(data, WHERE), [Piece("n", 0.0, PieceType.NORMAL)])
    assert patched == UNK + TRAINER + record(b"late") + record(b"n") + message(200, b"x")


@pytest.mark.parametrize(
    "spec",
    [tag(3, 0) + b"\x02" + tag(4, 0) + b"\x02" + tag(7, 0) + b"\x01", tag(3, 0) + b"\x02"],
    ids=["number_there", "number_missing"],
)
@pytest.mark.parametrize("is_first", [False, True], ids=["spec_last", "spec_first"])
def test_the_trainers_vocabulary_size_is_raised_on_request(spec: bytes, is_first: bool) -> None:
    pieces = UNK + record(b"a")
    data = message(2, spec) + pieces if is_first else pieces + message(2, spec)
    added = [Piece("b", 0.0, PieceType.NORMAL)]
    model = parse_model(data, WHERE)
    raised = tag(3, 0) + b"\x02" + tag(4, 0) + b"\x03" + spec[4:]
    pieces += record(b"b")
    expected = message(2, raised) + pieces if is_first else pieces + message(2, raised)
    assert append_pieces(model, added, update_vocab_size=True) == expected


def test_without_a_trainers_record_the_size_cannot_be_raised() -> None:
    with pytest.raises(InvalidInput, match="no trainer_spec"):
        append_pieces(parse_model(UNK, WHERE), [], update_vocab_size=True)


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
            st.sampled_from([PieceType.NORMAL, PieceType.CONTROL, PieceType.USER_DEFINED]),
        ),
        unique_by=lambda item: item[0],
        max_size=5,
    )
)
def test_what_is_appended_is_read_back(items: list[tuple[str, PieceType]]) -> None:
    known = {p.piece for p in parse_model(TINY, WHERE).pieces}
    added = [Piece(text, 0.0, kind) for text, kind in items if text not in known]
    model = parse_model(TINY, WHERE)
    again = parse_model(append_pieces(model, added), WHERE)
    assert again.pieces == (*model.pieces, *added)
    assert again.data.replace(again.data[model.insert_at : again.insert_at], b"") == TINY


MALFORMED = [
    pytest.param(b"", "exactly one UNKNOWN", id="case_67_empty"),
    pytest.param(record(b"a"), "exactly one UNKNOWN", id="case_67_no_unknown_piece"),
    pytest.param(UNK + record(b"u", 2), "exactly one UNKNOWN", id="case_67_two_unknown_pieces"),
    pytest.param(UNK + b"\x08\x01", "wire type 0, not 2", id="case_67_pieces_as_number"),
    pytest.param(UNK + b"\x15\0\0\0\0", "wire type 5, not 2", id="case_67_trainer_as_fixed32"),
    pytest.param(UNK + b"\x0b", "wire type 3", id="case_67_group"),
    pytest.param(UNK + b"\x0f", "wire type 7", id="case_67_wire_type_7"),
    pytest.param(UNK + b"\x02\x00", "field number 0", id="case_67_field_0"),
    pytest.param(
        UNK + b"\xfa\xff\xff\xff\x7f\0", "does not exist", id="case_67_field_above_29_bits"
    ),
    pytest.param(UNK + b"\x0a" + b"\xff" * 10, "64 bits", id="case_67_varint_of_11_bytes"),
    pytest.param(UNK + b"\x0a" + b"\xff" * 9 + b"\x02", "64 bits", id="case_67_varint_of_65_bits"),
    pytest.param(UNK + b"\x0a" + b"\xff" * 9 + b"\x01", "past the end", id="case_67_length_2_64"),
    pytest.param(UNK + b"\x0a\x80", "has no end", id="case_67_varint_cut_off"),
    pytest.param(UNK + b"\x12\x05abc", "past the end", id="case_67_length_past_the_end"),
    pytest.param(UNK + message(1, b"\x08\x01"), "wire type 0", id="case_67_piece_as_number"),
    pytest.param(
        UNK + message(1, b"\x0a\x01a\x10\x00"), "wire type 0", id="case_67_score_as_number"
    ),
    pytest.param(UNK + message(1, b"\x0a\x01a\x1d\0\0\0\0"), "wire", id="case_67_type_as_fixed32"),
    pytest.param(UNK + message(1, b"\x0a\x05a"), "past the end", id="case_67_inner_length"),
    pytest.param(UNK + message(1, b"\x0a\x01a\x0a\x01b"), "twice", id="case_67_two_texts"),
    pytest.param(UNK + record(b"a", 0), "piece type 0", id="case_67_type_0"),
    pytest.param(UNK + record(b"a", 7), "piece type 7", id="case_67_type_7"),
    pytest.param(UNK + TRAINER + TRAINER, "second trainer_spec", id="case_67_two_trainers"),
    pytest.param(UNK + message(2, b"\x1d\0\0\0\0"), "wire type 5", id="case_67_model_type_wire"),
    pytest.param(b"IQ== 0\nIg== 1\n", "tiktoken", id="case_67_tiktoken_file"),
]


@pytest.mark.parametrize(("data", "says"), MALFORMED)
def test_a_malformed_model_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        parse_model(data, WHERE)
    assert caught.value.code == "tokenizer-model-malformed"
    assert caught.value.exit_status == 2
    assert WHERE in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(UNK + record(b""), "tokenizer-piece-invalid", id="case_68_empty"),
        pytest.param(UNK + message(1, b""), "tokenizer-piece-invalid", id="case_68_no_text"),
        pytest.param(UNK + record(b"\xff"), "tokenizer-piece-invalid", id="case_68_not_utf8"),
        pytest.param(
            UNK + record(b"\xed\xa0\x80"), "tokenizer-piece-invalid", id="case_68_surrogate"
        ),
        pytest.param(UNK + record(b"<unk>"), "tokenizer-piece-duplicate", id="case_68_twice"),
        pytest.param(
            UNK + record(b"a", 3) + record(b"a", 1),
            "tokenizer-piece-duplicate",
            id="case_68_twice_with_two_types",
        ),
    ],
)
def test_a_bad_piece_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_model(data, WHERE)
    assert (caught.value.code, caught.value.exit_status) == (code, 2)
    assert WHERE in caught.value.message


def test_appending_a_piece_that_is_there_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is there twice, as 3 and 4"):
        append_pieces(parse_model(TINY, WHERE), [Piece("b", 0.0, PieceType.CONTROL)])


def test_case_67_a_cut_at_every_byte_is_refused_or_ends_between_two_fields() -> None:
    whole = parse_model(TINY, WHERE)
    ends = set()
    at = 0
    while at < len(TINY):  # every length in TINY is one byte, tags are one or two
        at += 1 + (TINY[at] > 0x7F)
        at += 1 + TINY[at]
        ends.add(at)
    for cut in range(len(TINY)):
        try:
            model = parse_model(TINY[:cut], WHERE)
        except InvalidInput:
            assert cut not in ends
        else:
            assert cut in ends
            assert model.pieces == whole.pieces[: len(model.pieces)]


def test_case_67_a_cut_of_a_trained_model_is_refused_inside_a_record() -> None:
    data = small_model(300)
    first = 2 + data[1]
    for cut in range(1, first + 2 + data[first + 1]):
        if cut == first:
            continue
        with pytest.raises(InvalidInput):
            parse_model(data[:cut], WHERE)


def test_case_67_a_flipped_bit_gives_a_model_or_one_clear_error() -> None:
    refused = 0
    for i in range(len(TINY) * 8):
        flipped = bytearray(TINY)
        flipped[i // 8] ^= 1 << i % 8
        try:
            model = parse_model(bytes(flipped), WHERE)
        except InvalidInput as e:
            assert WHERE in e.message
            refused += 1
        else:
            assert model.data == flipped
            assert model.pieces
    assert refused > len(TINY)


@given(st.binary(max_size=64))
def test_arbitrary_bytes_raise_nothing_but_our_errors(tail: bytes) -> None:
    try:
        model = parse_model(UNK + tail, WHERE)
    except InvalidInput as e:
        assert e.where == WHERE
    else:
        assert model.data == UNK + tail


@pytest.mark.parametrize(
    "tail", [b"\x30\x00" * 5000, message(1, b"\x0a\x01a" + b"\x20\x00" * 5000)]
)
def test_case_67_the_number_of_fields_is_bounded(tail: bytes) -> None:
    with pytest.raises(InvalidInput, match="too many fields"):
        parse_model(UNK + tail, WHERE, max_pieces=100)
    assert parse_model(UNK + tail, WHERE).pieces[0].piece == "<unk>"


def test_case_67_the_number_of_pieces_is_bounded() -> None:
    data = small_model(300)
    assert len(parse_model(data, WHERE, max_pieces=300).pieces) == 300
    with pytest.raises(InvalidInput, match="more than 299 pieces"):
        parse_model(data, WHERE, max_pieces=299)
