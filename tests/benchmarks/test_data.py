"""The data that the benchmark makes: one model, whatever its container and cut."""

from __future__ import annotations

import json
from math import prod

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor

from benchmarks.containers import WRITERS
from benchmarks.generate import tokenizer
from benchmarks.shapes import HEAD, Llama, deal, whole
from vbuild import inspect

SMALL = Llama(width=256, vocabulary=300, layers=2)


@pytest.mark.parametrize(
    ("width", "intermediate"), [(4096, 11008), (5120, 13824), (6656, 17920), (8192, 22016)]
)
def test_the_mlp_is_as_wide_as_in_the_published_models(width, intermediate):
    assert Llama(width, 32000, 1).intermediate == intermediate


def test_7b_has_the_parameters_of_the_published_model():
    assert Llama(4096, 32000, 32).bytes == 2 * 6_738_415_616


@pytest.mark.parametrize("size", [2e8, 2e9, 4e9])
def test_a_model_comes_near_the_size_that_is_asked_for(size):
    model = Llama.of_size(size, 1280, 12000)
    layer = Llama(1280, 12000, 2).bytes - Llama(1280, 12000, 1).bytes
    assert abs(model.bytes - size) <= layer / 2


@pytest.mark.parametrize("shards", [1, 2, 5, 8, 10, 20, 40])
def test_shards_are_even_and_in_order_of_name(shards):
    shapes = Llama.of_size(2e9, 1280, 12000).shapes()
    groups, largest = deal(shapes, shards)
    sizes = [sum(2 * prod(shapes[name]) for name in group) for group in groups]
    assert [name for group in groups for name in group] == sorted(shapes)
    assert len(groups) == shards
    assert max(sizes) == largest
    assert sum(sizes) / shards >= 0.8 * largest


def weights(directory):
    return inspect(directory, weights_digest=True).weights


def test_every_container_and_cut_has_the_same_tensors(tmp_path):
    found = set()
    for container, shards in (("safetensors", 1), ("safetensors", 3), ("bin", 2)):
        side = tmp_path / f"{container}-{shards}"
        side.mkdir()
        WRITERS[container](side, SMALL, shards, "base")
        found.add(weights(side))
    assert len(found) == 1


def test_base_and_delta_are_different_and_plausible():
    base, delta = (whole("model.norm.weight", (1000,), kind) for kind in ("base", "delta"))
    assert np.isfinite(base).all()
    assert np.abs(base).min() > np.abs(delta).max()
    assert (base > 0).any()
    assert (base < 0).any()


@pytest.mark.oracle
def test_metas_files_are_the_model_taken_apart(tmp_path):
    torch = pytest.importorskip("torch")
    WRITERS["meta"](tmp_path, SMALL, 2, "base")
    parts = [torch.load(tmp_path / f"consolidated.{i:02}.pth") for i in range(2)]
    params = json.loads((tmp_path / "params.json").read_text())
    wq = torch.cat([part["layers.1.attention.wq.weight"] for part in parts], dim=0)
    # The permutation of transformers' conversion script.
    heads = params["n_heads"]
    ours = wq.view(heads, HEAD // 2, 2, 256).transpose(1, 2).reshape(256, 256)
    name = "model.layers.1.self_attn.q_proj.weight"
    assert np.array_equal(ours.numpy(), whole(name, (256, 256), "base"))
    down = torch.cat([part["layers.0.feed_forward.w2.weight"] for part in parts], dim=1)
    name = "model.layers.0.mlp.down_proj.weight"
    assert np.array_equal(down.numpy(), whole(name, tuple(down.shape), "base"))
    assert torch.equal(parts[0]["norm.weight"], parts[1]["norm.weight"])


def test_the_tokenizer_has_the_pieces_that_are_asked_for():
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(tokenizer(1000))
    assert processor.GetPieceSize() == 1000
