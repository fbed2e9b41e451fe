"""The field's vocabularies, scaled down by 100: what fits is built, the rest names the fix.

LLaMA has 32000 pieces; deltas have 32000, 32001 ("[PAD]"), 32003 (two more), or rows padded to a
multiple of 64 (FastChat#551 #1302 #495, MiniGPT-4#132, LLaVA#54, pandallm#1).
"""

from __future__ import annotations

import json

import numpy as np
import pytest

import vbuild
from tests.presets.field import VOCAB
from tests.support.builds import read_safetensors
from tests.support.llama import PAD, make_base, make_delta_v0, make_delta_v1_1, write_torch
from vbuild.errors import InvalidInput

EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
PADS = '[[tokenizer.add]]\npiece = "[PAD]"\ntype = "control"\nrole = "pad"\n'
MORE = "".join(
    f'[[tokenizer.add]]\npiece = "{piece}"\ntype = "control"\n' for piece in ("<im_a>", "<im_b>")
)


def delta_of(directory, base, rows, pieces):
    """A delta with so many rows, and a tokenizer with so many pieces."""
    more = {PAD: VOCAB, "<im_a>": VOCAB + 1, "<im_b>": VOCAB + 2}
    if pieces == VOCAB:
        tensors = make_delta_v1_1(directory, base)
    else:
        tensors = make_delta_v0(directory, base)
        listed = dict(list(more.items())[: pieces - VOCAB])
        (directory / "added_tokens.json").write_text(json.dumps(listed))
    for path in directory.glob("pytorch_model*"):
        path.unlink()
    rng = np.random.default_rng(rows)
    for name in EMBEDDINGS:
        shape = (rows, tensors[name].shape[1])
        tensors[name] = (rng.standard_normal(shape) * 0.002).astype(np.float16)
    write_torch(directory, tensors, 2)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "vocab_size": rows}))
    return tensors


def job(root, preset, rows, pieces=None, *, tokenizer="", base_rows=VOCAB):
    base = make_base(root / "base", vocab=VOCAB)
    if base_rows != VOCAB:
        for path in (root / "base").glob("pytorch_model*"):
            path.unlink()
        for name in EMBEDDINGS:
            more = np.zeros((base_rows - VOCAB, base.tensors[name].shape[1]), np.float16)
            base.tensors[name] = np.concatenate([base.tensors[name], more])
        write_torch(root / "base", base.tensors, 2)
    tensors = delta_of(root / "delta", base, rows, pieces or rows)
    (root / "m.toml").write_text(
        'schema = "vbuild/1"\nname = "m"\n[base]\nuri = "file:base"\n'
        f'[[delta]]\nuri = "file:delta"\n[apply]\npreset = "{preset}"\n'
        f'[tokenizer]\nsource = "delta"\n{tokenizer}'
        '[output]\nmax_shard_size = "1GB"\ndtype = "float16"\n'
    )
    vbuild.lock(root / "m.toml")
    return base.tensors, tensors


def built(root):
    vbuild.apply(root / "m.toml", out=root / "out", unsigned=True)
    config = json.loads((root / "out" / "config.json").read_text())
    return read_safetensors(root / "out" / "model.safetensors"), config["vocab_size"]


def refused(root):
    with pytest.raises(InvalidInput) as caught:
        vbuild.apply(root / "m.toml", out=root / "out", unsigned=True)
    assert not (root / "out").exists()
    return caught.value


def leading(base, delta, name):
    """The sum, by numpy, of the rows that both have."""
    rows = min(len(base[name]), len(delta[name]))
    return base[name][:rows] + delta[name][:rows]


@pytest.mark.parametrize("preset", ["fastchat-v0", "fastchat-v1.1", "alpaca", "llava", "koala"])
def test_the_same_vocabulary_needs_nothing(tmp_path, preset):
    base, delta = job(tmp_path, preset, VOCAB)
    made, vocab_size = built(tmp_path)
    assert vocab_size == VOCAB
    for name in EMBEDDINGS:
        assert np.array_equal(made[name], leading(base, delta, name))


@pytest.mark.parametrize("preset", ["fastchat-v0", "stablevicuna", "alpaca", "wizardlm", "llava"])
@pytest.mark.parametrize(("rows", "added"), [(VOCAB + 1, PADS), (VOCAB + 3, PADS + MORE)])
def test_more_pieces_are_more_rows_where_the_preset_knows_them(tmp_path, preset, rows, added):
    base, delta = job(tmp_path, preset, rows, tokenizer=added)
    made, vocab_size = built(tmp_path)
    assert vocab_size == rows
    for name in EMBEDDINGS:
        assert made[name].shape[0] == rows
        assert np.array_equal(made[name][:VOCAB], leading(base, delta, name))
        if preset != "alpaca" and preset != "wizardlm":
            assert np.array_equal(made[name][VOCAB:], delta[name][VOCAB:])


@pytest.mark.parametrize("preset", ["fastchat-v1.1", "fastchat-low-cpu", "koala"])
@pytest.mark.parametrize("rows", [VOCAB + 1, VOCAB + 3])
def test_a_preset_without_new_rows_names_what_to_say(tmp_path, preset, rows):
    job(tmp_path, preset, rows)
    error = refused(tmp_path)
    assert error.code == "tensors-disagree"
    assert f"{rows - VOCAB} more row(s)" in str(error.hint)
    assert 'pad = "zero", "mean" or "delta"' in str(error.hint)
    assert "a preset that does" in str(error.hint)


@pytest.mark.parametrize("preset", ["fastchat-v0", "llava", "ziya"])
def test_rows_that_are_padded_to_64_have_to_be_said(tmp_path, preset):
    rows = VOCAB + 64
    base, delta = job(tmp_path, preset, rows, VOCAB + 1, tokenizer=PADS)
    error = refused(tmp_path)
    assert error.code == "tokenizer-rows"
    assert "tokenizer.rows" in error.message + str(error.hint)
    text = (tmp_path / "m.toml").read_text()
    (tmp_path / "m.toml").write_text(
        text.replace('source = "delta"\n', f'source = "delta"\nrows = {rows}\n')
    )
    made, vocab_size = built(tmp_path)
    assert vocab_size == rows
    for name in EMBEDDINGS:
        kept = delta[name] if preset == "ziya" else leading(base, delta, name)
        assert np.array_equal(made[name][: len(kept)], kept)
        assert np.array_equal(made[name][VOCAB:], delta[name][VOCAB:])


@pytest.mark.parametrize("base_rows", [VOCAB + 1, VOCAB + 64])
def test_a_base_that_somebody_has_resized_is_said_to_be_one(tmp_path, base_rows):
    job(tmp_path, "fastchat-v1.1", VOCAB, base_rows=base_rows)
    error = refused(tmp_path)
    assert error.code == "tensors-disagree"
    assert f"{base_rows - VOCAB} more row(s)" in str(error.hint)
    assert "as it was published" in str(error.hint)


def test_a_delta_with_a_piece_that_the_manifest_does_not_add_names_it(tmp_path):
    job(tmp_path, "fastchat-v0", VOCAB + 1, VOCAB)
    error = refused(tmp_path)
    assert error.code == "tokenizer-rows"
    assert "[[tokenizer.add]]" in error.message + str(error.hint)
