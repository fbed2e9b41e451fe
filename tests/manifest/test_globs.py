"""Globs match as the standard library's do, and in bounded time."""

import fnmatch

from hypothesis import given
from hypothesis import strategies as st

from vbuild.manifest import glob_match

TEXT = st.text("ab.*?", max_size=12)


@given(pattern=TEXT, name=st.text("ab.", max_size=20))
def test_a_glob_without_brackets_matches_as_fnmatch_does(pattern, name):
    assert glob_match(pattern, name) == fnmatch.fnmatchcase(name, pattern)


@given(parts=st.lists(st.text("ab?", max_size=3), min_size=1), fill=st.text("ab.", max_size=3))
def test_a_name_made_from_a_glob_is_matched(parts, fill):
    name = fill.join(parts).replace("?", "b")
    assert glob_match("*".join(parts), name)


def test_a_star_crosses_dots_and_case_counts():
    assert glob_match("*.rotary_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.inv_freq")
    assert glob_match("model.layers.?.*", "model.layers.7.mlp.up_proj.weight")
    assert not glob_match("model.layers.?.*", "model.layers.17.mlp.up_proj.weight")
    assert not glob_match("LM_head.*", "lm_head.weight")
    assert not glob_match("lm_head", "lm_head.weight")
    assert not glob_match("ab*ba", "aba")


def test_brackets_and_backslashes_are_only_characters_to_the_matcher():
    assert glob_match("a[b]", "a[b]") and not glob_match("a[b]", "ab")
    assert glob_match("a\\*", "a\\x") and not glob_match("a\\*", "a*")


def test_many_stars_do_not_backtrack():
    assert not glob_match("a*" * 400 + "b", "a" * 100_000)
    assert not glob_match("?a*" * 250 + "b", "a" * 2_000)
