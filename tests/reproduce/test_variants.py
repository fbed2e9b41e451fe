"""Which rebuilds are made."""

import pytest

from vbuild.errors import InvalidInput
from vbuild.reproduce import CONDITIONS, variants

FEATURES = ("avx2", "avx512", "shani")


def changed(usual, other):
    return {c for c in CONDITIONS if usual.conditions[c] != other.conditions[c]}


@pytest.mark.parametrize("features", [(), ("neon",), FEATURES])
@pytest.mark.parametrize("processors", [1, 2, 5, 64])
def test_without_a_choice_two_builds_differ_in_every_condition(features, processors):
    usual, other = variants((), features, processors)
    assert usual.isa == "native"
    assert usual.jobs == processors
    assert other.isa == "portable"
    assert changed(usual, other) == set(CONDITIONS)


def test_with_all_each_other_build_changes_one_condition():
    usual, *others = variants(["all"], FEATURES, 2)
    assert all(len(changed(usual, other)) == 1 for other in others)
    assert {c for other in others for c in changed(usual, other)} == set(CONDITIONS)
    assert len({v.name for v in (usual, *others)}) == len(others) + 1


def test_a_choice_changes_only_what_is_named():
    usual, *others = variants(["isa"], FEATURES, 2)
    assert [v.isa for v in others] == ["portable", "avx2", "avx512", "shani"]
    assert {c for other in others for c in changed(usual, other)} == {"isa"}
    assert [v.jobs for v in variants(["jobs"], FEATURES, 2)] == [2, 1, 5]


def test_a_feature_that_is_all_there_is_is_not_built_with_twice():
    assert [v.isa for v in variants(["isa"], ["neon"], 2)] == ["native", "portable"]


def test_the_order_and_repetition_of_a_choice_do_not_matter():
    assert variants(["jobs", "isa", "jobs"], (), 2) == variants(["isa", "jobs"], (), 2)


def test_every_value_reaches_the_child_s_environment():
    _, other = variants((), FEATURES, 2)
    environment = other.environment({"HOME": "/h", "LC_ALL": "de_DE", "TZ": "CET"})
    assert environment == {
        "HOME": "/h",
        "LC_ALL": "tr_TR.UTF-8",
        "TZ": "<+14>-14",
        "PYTHONHASHSEED": "20230414",
        "VBUILD_ISA": "portable",
    }


def test_an_unknown_condition_is_refused_with_the_known_ones():
    with pytest.raises(InvalidInput) as caught:
        variants(["isa", "moon"], FEATURES, 2)
    assert caught.value.code == "unknown-condition"
    assert caught.value.got == "moon"
    assert "locale" in caught.value.expected
