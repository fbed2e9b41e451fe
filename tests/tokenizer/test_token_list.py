"""vbuild.tokenizer.token_list: llama-tools' format, strictly."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbuild.errors import InvalidInput
from vbuild.tokenizer import token_list
from vbuild.tokenizer.token_list import AddedPiece, check_piece, parse_token_list

LIST = """\
N normal token
C <control token>

U user\tdefined
  UB YW5vdGhlciB1c2VyIHRva2Vu\t\r
CB IFtQQURd
C controltoken\rNB w6k=
"""


def test_each_form_of_a_line_gives_its_piece_and_type() -> None:
    assert parse_token_list(LIST.encode(), "list.txt") == (
        AddedPiece("normal token", "normal"),
        AddedPiece("<control token>", "control"),
        AddedPiece("user\tdefined", "user-defined"),
        AddedPiece("another user token", "user-defined"),
        AddedPiece(" [PAD]", "control"),
        AddedPiece("controltoken", "control"),
        AddedPiece("é", "normal"),
    )


def test_an_empty_list_has_no_pieces() -> None:
    assert parse_token_list(b"\n \r\n", "list.txt") == ()


def test_space_behind_the_separator_belongs_to_the_piece() -> None:
    assert parse_token_list(b"U  x", "list.txt") == (AddedPiece(" x", "user-defined"),)


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
            st.sampled_from([("C", "control"), ("U", "user-defined"), ("N", "normal")]),
        )
    )
)
def test_base64_carries_any_piece(items: list[tuple[str, tuple[str, str]]]) -> None:
    lines = [f"{kind[0]}B {base64.b64encode(text.encode()).decode()}" for text, kind in items]
    parsed = parse_token_list("\n".join(lines).encode(), "list.txt")
    assert [(a.piece, a.kind) for a in parsed] == [(text, kind[1]) for text, kind in items]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"X piece", "tokenizer-list-malformed", id="unknown_letter"),
        pytest.param(b"c piece", "tokenizer-list-malformed", id="lower_case"),
        pytest.param(b"Cpiece", "tokenizer-list-malformed", id="no_separator"),
        pytest.param(b"C\tpiece", "tokenizer-list-malformed", id="tab_as_separator"),
        pytest.param(b"\xef\xbb\xbfC piece", "tokenizer-list-malformed", id="byte_order_mark"),
        pytest.param(b"\xff", "tokenizer-list-malformed", id="list_not_utf8"),
        pytest.param(b"CB !!!!", "tokenizer-list-malformed", id="not_base64"),
        pytest.param(b"CB YQ", "tokenizer-list-malformed", id="base64_without_padding"),
        pytest.param(b"CB YR==", "tokenizer-list-malformed", id="base64_not_canonical"),
        pytest.param("CB é".encode(), "tokenizer-list-malformed", id="base64_not_ascii"),
        pytest.param(b"C", "tokenizer-list-malformed", id="case_68_empty"),
        pytest.param(b"CB /w==", "tokenizer-piece-invalid", id="case_68_not_utf8"),
        pytest.param(b"UB AA==", "tokenizer-piece-invalid", id="case_68_nul"),
    ],
)
def test_a_malformed_line_is_refused_with_its_number(data: bytes, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_token_list(b"\n" + data, "list.txt")
    assert (caught.value.code, caught.value.exit_status) == (code, 2)
    assert caught.value.message.startswith("list.txt")
    assert "utf8" in str(data) or b"\xff" in data or caught.value.where == "list.txt:2"


def test_no_list_is_longer_than_a_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_list, "MAX_PIECES", 3)
    assert len(parse_token_list(b"C a\n\nC b\n\nC c\n\n", "list.txt")) == 3
    with pytest.raises(InvalidInput) as caught:
        parse_token_list(b"C a\nC b\nC c\nC d\n", "list.txt")
    assert (caught.value.code, caught.value.exit_status) == ("tokenizer-list-malformed", 2)
    assert caught.value.message == "list.txt: the list has more than 3 pieces"


@pytest.mark.parametrize("piece", ["", "a\0b", "\ud800"], ids=["case_68_empty", "nul", "surrogate"])
def test_what_cannot_be_a_piece_is_refused(piece: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_piece(piece, "[[tokenizer.add]]")
    assert caught.value.code == "tokenizer-piece-invalid"
    assert caught.value.message.isprintable()
