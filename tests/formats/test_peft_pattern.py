"""The expressions of ``alpha_pattern`` match what Python's own engine says, as PEFT asks it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbuild.formats.peft_pattern import MAX_DEPTH, MAX_LENGTH, Pattern, PatternError

NAMES = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.10.self_attn.q_proj",
    "model.layers.1.mlp.up_proj",
    "q_proj",
    "lm_head",
]


def as_peft(key: str, name: str) -> bool:
    """PEFT's rule, by Python's engine."""
    return re.match(rf"(.*\.)?({key})$", name) is not None


@pytest.mark.parametrize(
    "key",
    [
        "q_proj",
        "self_attn.q_proj",
        "self_attn?q_proj",
        "model.layers.0.self_attn.q_proj",
        "^model.layers.0.self_attn.q_proj",
        "^q_proj",
        "q_proj$",
        r".*\.self_attn\..*",
        r"layers\.\d+\.self_attn\.(q|k)_proj",
        r"layers.[0-9].*q_proj",
        r"layers\.1[0-9]?\.[^.]+\.(?:up|q)_proj",
        r"(model\.)?(lm_head|\w+_proj)",
        "",
        "proj",
        "a|lm_head",
        r"[\d.a-z_]+",
        "()+x?",
        r"(a*)*q_proj",
        "[^-]*",
        "[a-]*",
    ],
)
def test_it_matches_what_peft_matches(key):
    pattern = Pattern(key)
    assert [pattern.matches(name) for name in NAMES] == [as_peft(key, name) for name in NAMES]


ATOMS = st.sampled_from(["a", "b", ".", r"\.", "_", "[ab]", "[^a.]", r"\d", r"\w", "1"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("({}){}".format, inner, st.sampled_from(["", "*", "+", "?"])),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds("{}{}".format, inner, inner),
        st.builds("^{}".format, inner),
        st.builds("{}$".format, inner),
    ),
    max_leaves=8,
)


@given(PATTERNS, st.text("ab._1", max_size=8))
def test_any_expression_matches_what_peft_matches(key, name):
    assert Pattern(key).matches(name) == as_peft(key, name)


@pytest.mark.parametrize(
    "key",
    [
        "a{2}",
        "a*?",
        "a**",
        "(?=a)",
        "(?P<x>a)",
        r"\1",
        r"\b",
        r"\s",
        "(a",
        "a)",
        "[a",
        "[]",
        "[b-a]",
        "[+--]",
        "*a",
        "a\\",
        "x" * (MAX_LENGTH + 1),
        "(" * (MAX_DEPTH + 2) + "a" + ")" * (MAX_DEPTH + 2),
    ],
)
def test_what_is_not_known_is_refused(key):
    with pytest.raises(PatternError):
        Pattern(key)


def test_a_name_beyond_ascii_is_matched_only_by_plain_text():
    assert not Pattern("q").matches("m\u00e9q")
    assert Pattern("q").matches("m\u00e9.q")
    with pytest.raises(PatternError):
        Pattern(r"\w+").matches("m\u00e9")


def test_an_expression_on_which_python_would_never_end_is_matched():
    pattern = Pattern("(a*)*(a*)*(a|a)*(a*)*b")
    assert not pattern.matches("a" * 2000)
    assert pattern.matches("a" * 2000 + "b")
