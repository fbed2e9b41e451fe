"""vbuild.strict_json: what it refuses, that it stays bounded, that it agrees with json."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbuild.errors import InvalidInput
from vbuild.strict_json import loads, quoted

MALFORMED = [
    pytest.param(b"", "at byte 0", id="empty"),
    pytest.param(b"{", "at byte 1", id="unterminated_object"),
    pytest.param(b"[1,]", "not valid JSON", id="trailing_comma"),
    pytest.param(b"{'a':1}", "at byte 1", id="single_quotes"),
    pytest.param(b"[1] x", "at byte 4: extra data", id="text_after_the_document"),
    pytest.param(b"[1]\0", "at byte 3: extra data", id="nul_after_the_document"),
    pytest.param('["é" 1]'.encode(), "at byte 6", id="offset_counts_bytes"),
    pytest.param(b"[01]", "not valid JSON", id="leading_zero"),
    pytest.param(b"[+1]", "not valid JSON", id="plus_sign"),
    pytest.param(b"[.5]", "not valid JSON", id="no_digit_before_the_point"),
    pytest.param(b'["\t"]', "control character", id="raw_control_character"),
    pytest.param(b'["\\x41"]', "escape", id="unknown_escape"),
    pytest.param(b'"\\', "unterminated string", id="backslash_at_the_end"),
    pytest.param(b"]" * 100 + b"[" * 60, "not valid JSON", id="closed_before_opened"),
    pytest.param(b"[1]".replace(b"1", b"\xc2\xa01"), "not valid JSON", id="no_break_space"),
    pytest.param(b'{"a":1,"b":2,"a":1}', 'duplicate key "a"', id="case_64_duplicate_key"),
    pytest.param(b'[{"a":1,"\\u0061":1}]', 'duplicate key "a"', id="case_64_duplicate_by_escape"),
    pytest.param(b"[NaN]", "NaN is not JSON", id="case_64_nan"),
    pytest.param(b"[-Infinity]", "-Infinity is not JSON", id="case_64_infinity"),
    pytest.param(b"[1e999]", "does not fit a double", id="case_64_number_overflows_to_infinity"),
    pytest.param(b"[0." + b"1" * 99 + b"]", "too long", id="case_64_long_fraction"),
    pytest.param(b"[18446744073709551616]", "64 bits", id="case_64_integer_of_65_bits"),
    pytest.param(b"[-9223372036854775809]", "64 bits", id="case_64_negative_of_65_bits"),
    pytest.param(b"9" * 100_000, "64 bits", id="case_64_digits_beyond_pythons_limit"),
    pytest.param(b'["\\ud800"]', "lone surrogate", id="case_64_lone_high_surrogate"),
    pytest.param(b'["\\uDC00"]', "lone surrogate", id="case_64_lone_low_surrogate"),
    pytest.param(b'{"\\ud800":1}', "lone surrogate", id="case_64_lone_surrogate_in_a_key"),
    pytest.param(b'["\\udc00\\ud800"]', "lone surrogate", id="case_64_surrogates_swapped"),
    pytest.param(
        b'["\\ud800\\\\\\udc00"]', "lone surrogate", id="case_64_surrogates_around_a_backslash"
    ),
    pytest.param(b"[" * 65 + b"]" * 65, "deeper than 64", id="case_64_depth_65"),
    pytest.param(b'{"a":' * 65 + b"1" + b"}" * 65, "deeper than 64", id="case_64_deep_objects"),
    pytest.param(b'{"a":[' * 33 + b"]}" * 33, "deeper than 64", id="case_64_deep_and_mixed"),
    pytest.param(b"[" * 100_000, "deeper than 64", id="case_37_deep_and_cut_off"),
    pytest.param(b'["\\"",' + b"[" * 99, "deeper than 64", id="case_37_deep_after_escaped_quote"),
    pytest.param(b"\xef\xbb\xbf{}", "byte order mark", id="case_36_byte_order_mark"),
    pytest.param("[]".encode("utf-16"), "not UTF-8", id="case_36_utf_16"),
    pytest.param("[]".encode("utf-16-le"), "not valid JSON", id="case_36_utf_16_without_mark"),
    pytest.param(b'["\xff"]', "not UTF-8 at byte 2", id="case_36_not_utf_8"),
    pytest.param(b'["\xc0\xaf"]', "not UTF-8", id="case_36_overlong_utf_8"),
    pytest.param(b'["\xed\xa0\x80"]', "not UTF-8", id="case_36_surrogate_in_utf_8"),
]


@pytest.mark.parametrize(("data", "message"), MALFORMED)
def test_a_malformed_document_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        loads(data, "config.json", code="config-malformed")
    assert caught.value.code == "config-malformed"
    assert caught.value.exit_status == 2
    assert caught.value.message.startswith("config.json: ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b" \t\r\n[ 1 , 2 ] \n", id="whitespace"),
        pytest.param(b"[" * 64 + b"]" * 64, id="depth_64"),
        pytest.param(b'["' + b"[{" * 200 + b'"]', id="brackets_in_a_string"),
        pytest.param(b'["\\"[[[[", "\\\\", "' + b"[" * 99 + b'"]', id="escaped_quotes"),
        pytest.param(b'["\\ud83d\\ude00"]', id="surrogate_pair"),
        pytest.param(b'["\\\\ud800"]', id="backslash_then_text_like_a_surrogate"),
        pytest.param(b'["\\u0000", "\\u001f"]', id="escaped_control_characters"),
        pytest.param(b"[18446744073709551615, -9223372036854775808]", id="64_bit_integers"),
        pytest.param(b'{"a":{"a":[{"a":1},{"a":2}]}}', id="same_key_in_different_objects"),
        pytest.param(b"null", id="scalar"),
    ],
)
def test_a_valid_document_is_read_as_the_standard_library_reads_it(data: bytes) -> None:
    assert loads(data, "x") == json.loads(data)


def test_minus_zero_is_a_double() -> None:
    value = loads(b"-0", "x")
    assert isinstance(value, float)
    assert math.copysign(1.0, value) == -1.0


def test_the_limits_are_exact() -> None:
    assert loads(b'{"a":[1,2,3]}', "x", max_elements=4, max_size=13, max_depth=2)
    for limits in ({"max_elements": 3}, {"max_size": 12}, {"max_depth": 1}):
        with pytest.raises(InvalidInput) as caught:
            loads(b'{"a":[1,2,3]}', "x", **limits)
        assert caught.value.code == "json-malformed"


def test_case_37_structure_is_counted_across_blocks() -> None:
    # Strings and escapes straddle the blocks of 1 MiB in which structure is counted.
    for pad in range(4):
        text = b'["' + b"x" * ((1 << 20) - 4 + pad) + b'\\"[[[\\\\","' + b"[" * 99 + b'",[1]]'
        assert loads(text, "x", max_depth=2, max_elements=4) == json.loads(text)
        with pytest.raises(InvalidInput, match="deeper than 1 "):
            loads(text, "x", max_depth=1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"[" + b"[]," * 5_000_000 + b"[]]", id="tiny_lists"),
        pytest.param(b"[" + b"0," * 5_000_000 + b"0]", id="tiny_numbers"),
        pytest.param(b"[" * 5_000_000, id="open_brackets"),
    ],
)
def test_case_37_too_many_elements_are_refused_before_parsing(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="more than 4000000 elements"):
        loads(data, "x")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'"' * 5_000_001, id="quotes"),
        pytest.param(b'"' + b'\\"' * 5_000_000, id="escaped_quotes"),
        pytest.param(b"\\" * 5_000_001, id="backslashes"),
        pytest.param(b'"' + b"\\ud800\\udc00" * 500_000, id="surrogate_pairs"),
        pytest.param(b"[1,1.0,tru", id="cut_off"),
    ],
)
def test_case_37_hostile_text_takes_linear_time(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="not valid JSON"):
        loads(data, "x")


def test_a_long_key_is_cut_in_the_message() -> None:
    key = b"k" * 10_000
    with pytest.raises(InvalidInput) as caught:
        loads(b'{"' + key + b'":1,"' + key + b'":2}', "x")
    assert len(caught.value.message) < 200
    assert quoted('a"b') == '"a\\"b"'


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('a"\\[]{},é😀'), inner),
    max_leaves=30,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_what_json_writes_is_read_back(value: object, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert loads(text.encode(), "x") == value


@given(st.lists(st.sampled_from('[]{},:"\\ u0aé1-.e'), max_size=40).map("".join))
def test_what_is_accepted_is_what_json_accepts(text: str) -> None:
    try:
        value = loads(text.encode(), "x")
    except InvalidInput:
        return
    assert value == json.loads(text)


@given(st.binary(max_size=60))
def test_bytes_never_raise_anything_else(data: bytes) -> None:
    try:
        value = loads(b"[" + data, "x")
    except InvalidInput as e:
        assert e.code == "json-malformed"
    else:
        assert isinstance(value, list)


def _nesting(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((_nesting(v) for v in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((_nesting(v) for v in value), default=0)
    return 0


@given(VALUES)
def test_depth_is_counted_exactly(value: object) -> None:
    text = json.dumps(value).encode()
    depth = _nesting(value)
    assert loads(text, "x", max_depth=depth) == value
    if depth:
        with pytest.raises(InvalidInput, match="deeper"):
            loads(text, "x", max_depth=depth - 1)
