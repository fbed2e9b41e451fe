"""The recipes in manifests/ are valid, and pinned with what is publicly known, all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vbuild.manifest import load_manifest, load_preset, unpinned

RECIPES = sorted((Path(__file__).parents[2] / "manifests").glob("*.toml"))
README = RECIPES[0].parent / "README.md"

PUBLIC = {
    "7B/consolidated.00.pth": "700df0d3013b703a806d2ae7f1bfb8e59814e3d06ae78be0c66368a50059f33d",
    "13B/consolidated.00.pth": "745bf4e29a4dd6f411e72976d92b452da1b49168a4f41c951cfcc8051823cf08",
    "13B/consolidated.01.pth": "d5ccbcc465c71c0de439a5aeffebe8344c68a519bce70bc7f9f92654ee567085",
    "tokenizer.model": "9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347",
}
"""What Meta's own lists of digests have; the tokenizer is in every size."""

MODELS = {
    "alpaca-7b": ["alpaca"],
    "chinese-alpaca-7b": ["chinese-alpaca"],
    "chinese-alpaca-plus-7b": ["chinese-alpaca", "chinese-alpaca"],
    "koala-7b": ["koala"],
    "llava-7b-v0": ["llava"],
    "oasst-sft-6-llama-30b": ["oasst-xor"],
    "stable-vicuna-13b": ["stablevicuna"],
    "vicuna-13b-v0": ["fastchat-v0"],
    "vicuna-13b-v1.1": ["fastchat-v1.1"],
    "vicuna-7b-v0": ["fastchat-v0"],
    "vicuna-7b-v1.1": ["fastchat-v1.1"],
}
"""The presets of each recipe's deltas."""


def test_there_is_a_recipe_for_every_published_model():
    assert [path.stem for path in RECIPES] == sorted(MODELS)
    page = README.read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in MODELS)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_loads_under_its_own_name_and_says_what_it_lacks(path):
    loaded = load_manifest(path)
    manifest = loaded.manifest
    assert manifest.name == path.stem
    assert manifest.license
    assert [loaded.preset_for(i) for i in range(len(manifest.delta))] == MODELS[path.stem]
    assert unpinned(manifest), "a fully pinned recipe deserves a test of its own digests"
    assert "`vbuild lock`" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_what_is_pinned_is_what_is_public(path):
    manifest = load_manifest(path).manifest
    pinned = 0
    for side in (manifest.base, *manifest.delta):
        for name, pin in side.files.items():
            own = side is not manifest.base and pin.sha256 is None  # a delta's own tokenizer
            assert pin.sha256 == (None if own else PUBLIC.get(name)), name
            pinned += pin.sha256 is not None
    assert pinned, "Meta's list has a digest for every base"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_gives_the_type_that_the_original_writes(path):
    loaded = load_manifest(path)
    wanted = load_preset(MODELS[path.stem][-1]).dtype
    given = loaded.manifest.output.dtype
    assert wanted in (given, None) or (given is None and wanted == "float16")  # LLaMA's own
