"""``vbuild make-delta``: a delta, then ``apply`` of what it has written."""

import json

import pytest

from tests.support.differing import write_pair


@pytest.fixture
def pair(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pair(tmp_path)


def test_an_xor_delta_is_made_applied_and_gives_the_target_back(pair, vb, tmp_path):
    # One tensor has another type in the target, so there is no exact delta from this base.
    ran = vb("make-delta", "base", "tuned", "--op", "xor", "--out", "d")
    assert (ran.status, ran.out) == (2, "")
    assert "there is no exact delta between two element types" in ran.err
    assert vb("make-delta", "tuned", "tuned", "--op", "xor", "--out", "d").status == 0
    ran = vb("apply", "d/manifest.toml", "--unsigned")
    assert ran.status == 0
    assert vb("diff", "tuned", "build/tuned").status == 0


def test_the_answer_says_what_does_not_come_back(pair, vb, tmp_path):
    from tests.support.checkpoints import f16, write_model

    write_model(tmp_path / "one", {"w": f16([1.0, 1.0, -0.25])})
    write_model(tmp_path / "two", {"w": f16([0.3, 1.0, -0.25])})
    ran = vb("make-delta", "one", "two", "--op", "add", "--out", "d", "--license", "as you like")
    assert ran.status == 0
    assert "comes back      all but 1 of 3 (33.3 %)" in ran.out
    assert "largest error   1 ulp in w" in ran.out
    assert ran.out.endswith(" vbuild apply d/manifest.toml\n")
    assert 'license = "as you like"' in (tmp_path / "d" / "manifest.toml").read_text()
    again = vb("make-delta", "one", "two", "--op", "add", "--out", "d", "--force", "--json")
    found = json.loads(again.out)
    assert (found["elements"], found["differing"], found["max_ulp"]) == (3, 1, 1)
    assert found["max_ulp_tensor"] == "w"
    assert found["rules"] == [
        {"op": "add", "match": ["*"], "pad": None, "compute": None, "tensors": 1}
    ]


def test_a_delta_is_signed_and_verified_like_a_model(pair, vb):
    assert vb("make-delta", "base", "base", "--op", "xor", "--out", "d").status == 0
    assert vb("sign", "d").status == 0
    assert vb("verify", "d").status == 0
    assert vb("apply", "d/manifest.toml").status == 0


def test_an_operation_has_to_be_named(pair, vb):
    ran = vb("make-delta", "base", "tuned", "--out", "d")
    assert ran.status == 2
    assert "--op" in ran.err
