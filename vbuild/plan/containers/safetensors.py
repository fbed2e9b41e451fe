"""safetensors as an output: one file, or shards and their index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vbuild.formats import Checkpoint
from vbuild.formats.index import index_json
from vbuild.formats.safetensors import header
from vbuild.plan.containers import Contents, WeightFile
from vbuild.plan.layout import layout
from vbuild.plan.recipe import Recipe, as_type
from vbuild.tensors import DType

__all__ = ["INDEX_NAME", "Safetensors"]

INDEX_NAME = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Safetensors:
    """``dtype`` is the result's type (None: as the rules leave it); see :mod:`layout` for files."""

    dtype: DType | None = None
    max_shard_size: int | None = None
    allow_nonfinite: bool = False

    def contents(self, recipes: Mapping[str, Recipe], base: Checkpoint) -> Contents:
        """The shards, and their index where there is more than one."""
        typed = as_type(recipes, self.dtype)
        files = [
            WeightFile(name, header([(r.name, r.dtype, r.shape) for r in made]), made)
            for name, made in layout(typed, base, self.max_shard_size)
        ]
        others = {INDEX_NAME: _index(files)} if len(files) > 1 else {}
        return Contents(tuple(files), others)


def _index(files: Sequence[WeightFile]) -> bytes:
    weight_map = {recipe.name: file.name for file in files for recipe in file.recipes}
    return index_json(weight_map, sum(r.nbytes for file in files for r in file.recipes))
