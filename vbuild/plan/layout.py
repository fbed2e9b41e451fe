"""Which output file each tensor goes to, and in which order.

- With ``max_shard_size`` tensors are dealt to shards in code-point order of their names; without
  it a sharded base keeps its cut, file by file; anything else is one file. Meta's files cut
  tensors, not models: such a base is dealt to shards of 5 GB.
- Inside a file tensors stand as safetensors' own serializer puts them: wider types first, then by
  name. So the same tensors give the same files from any container (architecture: output layout).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vbuild.formats import Checkpoint
from vbuild.formats.registry import META_LLAMA
from vbuild.formats.safetensors import canonical_order, shard_name
from vbuild.plan.recipe import Recipe
from vbuild.tensors import Tensor

__all__ = ["layout"]

_META_SHARD = 5_000_000_000
"""Bytes; ``max_shard_size`` of a build from Meta's files, where the manifest says none."""


def layout(
    recipes: Mapping[str, Recipe],
    base: Checkpoint,
    max_shard_size: int | None,
) -> list[tuple[str, tuple[Recipe, ...]]]:
    """``(file name, recipes in file order)`` for every output file, in order of name.

    ``max_shard_size`` is in bytes of tensor data; a single larger tensor gets a shard of its own.
    """
    names = sorted(recipes)
    if max_shard_size is None and base.format == META_LLAMA:
        max_shard_size = _META_SHARD
    if max_shard_size is None:
        groups = _as_the_base(names, base.tensors)
    else:
        groups = _by_size(names, recipes, max_shard_size)
    files = []
    for i, group in enumerate(groups):
        order = canonical_order((name, recipes[name].dtype) for name in group)
        files.append((shard_name(i + 1, len(groups)), tuple(recipes[name] for name in order)))
    return files


def _as_the_base(names: Sequence[str], base: Mapping[str, Tensor]) -> list[list[str]]:
    """One group per base file that still has tensors; tensors that are new go to the last."""
    files = sorted({spec.file for spec in base.values()})
    groups: dict[str, list[str]] = {file: [] for file in files}
    new = [name for name in names if name not in base]
    for name in names:
        if name in base:
            groups[base[name].file].append(name)
    kept = [group for group in groups.values() if group] or [[]]
    kept[-1] += new
    return kept


def _by_size(names: Sequence[str], recipes: Mapping[str, Recipe], limit: int) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    size = 0
    for name in names:
        nbytes = recipes[name].nbytes
        if groups[-1] and size + nbytes > limit:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += nbytes
    return groups
