"""``lock``, ``verify`` and ``make-delta --pin weights``: manifests that pin weights."""

import json

import pytest

from tests.support.checkpoints import f16, write_model, write_shards


@pytest.fixture
def delta(tmp_path, monkeypatch, vb):
    """A delta whose base is pinned by its weights, in the current directory."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "base", {"a": f16([1.0, 2.0]), "b": f16([3.0])})
    write_model(tmp_path / "tuned", {"a": f16([1.5, 2.0]), "b": f16([3.5])})
    made = ("make-delta", "base", "tuned", "--op", "xor", "--out", "d", "--pin", "weights")
    assert vb(*made).status == 0
    return tmp_path / "d" / "manifest.toml"


def test_a_delta_that_pins_weights_takes_a_base_in_other_shards(delta, vb, tmp_path):
    write_shards(tmp_path / "cut", {"a": f16([1.0, 2.0]), "b": f16([3.0])}, 2)
    assert vb("apply", delta, "--base", "cut", "--unsigned").status == 0
    assert vb("diff", "tuned", "build/tuned").status == 0
    write_model(tmp_path / "wrong", {"a": f16([1.0, 2.1]), "b": f16([3.0])})
    ran = vb("apply", delta, "--base", "wrong", "--unsigned", "--out", "x")
    assert (ran.status, (tmp_path / "x").exists()) == (1, False)
    assert "the weights of the base are not those that the manifest pins" in ran.err


def test_lock_leaves_it_as_it_is_and_checks_it(delta, vb, tmp_path):
    before = delta.read_bytes()
    assert vb("lock", delta).status == 0
    assert vb("lock", delta, "--check").status == 0
    assert delta.read_bytes() == before
    write_model(tmp_path / "base", {"a": f16([1.0, 2.1]), "b": f16([3.0])})
    ran = vb("lock", delta, "--check", "--json")
    assert ran.status == 1
    assert [p["code"] for p in json.loads(ran.out)["problems"]] == ["weights-mismatch"]
    assert vb("lock", delta).status == 1
    assert delta.read_bytes() == before


def test_lock_pins_the_other_files_of_such_an_input(delta, vb, tmp_path):
    (tmp_path / "base" / "config.json").write_text("{}\n")
    digest = vb("inspect", "base", "--weights-digest").out.strip()
    manifest = tmp_path / "m.toml"
    manifest.write_text(
        f'schema = "vbuild/1"\nname = "x"\n[base]\nuri = "file:base"\nweights = "{digest}"\n'
    )
    assert vb("lock", manifest).status == 0
    text = manifest.read_text()
    assert '"config.json" = { size = 3, sha256 = "' in text
    assert "safetensors" not in text
    assert vb("lock", manifest, "--check").status == 0
    assert vb("apply", manifest, "--unsigned").status == 0


def test_verify_says_whether_the_weights_are_the_pinned_ones(delta, vb, tmp_path):
    ran = vb("verify", delta)
    assert (ran.status, "base/model.safetensors: OK" in ran.out) == (0, True)
    write_model(tmp_path / "base", {"a": f16([1.0, 2.1]), "b": f16([3.0])})
    ran = vb("verify", delta)
    assert (ran.status, "base/weights: FAILED" in ran.out) == (1, True)
