"""The recipes in manifests/ are valid, and pinned only with what is publicly known."""

from __future__ import annotations

from pathlib import Path

import pytest

from vbuild.manifest import load_manifest, unpinned

RECIPES = sorted((Path(__file__).parents[2] / "manifests").glob("*.toml"))


def test_there_are_recipes():
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_loads_under_its_own_name_and_says_what_it_lacks(path):
    loaded = load_manifest(path)
    assert loaded.manifest.name == path.stem
    assert loaded.manifest.license
    assert unpinned(loaded.manifest), "a fully pinned recipe deserves a test of its own digests"
    assert loaded.rules_for(0)
