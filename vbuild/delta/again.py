"""A delta applied again: what comes back, compared with the target element by element.

- The chain of segments that would make a tensor is compared where it would have been written; so
  nothing is stored, and all of it is one more reading of base, delta and target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vbuild.build.pool import Input
from vbuild.build.prepare import Prepared
from vbuild.build.side_files import EMBEDDINGS
from vbuild.delta.groups import WANTED
from vbuild.diff import Measured, Side
from vbuild.diff.measure import MeasuringTask, batches, run_measuring
from vbuild.diff.side import InputFile
from vbuild.files import Identity
from vbuild.plan import FileRef
from vbuild.plan.recipe import Recipe, Step, View
from vbuild.progress import Progress
from vbuild.table import Op
from vbuild.tensors import Tensor

__all__ = ["compared", "rows_of"]


@dataclass(frozen=True, slots=True)
class _Files:
    materials: Mapping[FileRef, Input]
    identities: Mapping[FileRef, Identity]


def compared(
    prepared: Prepared,
    target: Side,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Measured]:
    """By tensor, how what a build makes differs from the target (a is the build's)."""
    checkpoint = target.checkpoint
    files = _Files(
        {
            **prepared.materials,
            **{
                FileRef(WANTED, name): InputFile(target.files[name], f"{target.label}/{name}")
                for name in checkpoint.files
            },
        },
        {
            **prepared.identities,
            **{FileRef(WANTED, name): checkpoint.identities[name] for name in checkpoint.files},
        },
    )
    sizes = {ref: identity.size for ref, identity in files.identities.items()}
    made = [recipe for output in prepared.plan.outputs for recipe in output.recipes]
    recipes = [_compared(recipe, checkpoint.tensors[recipe.name]) for recipe in made]
    found = {recipe.name: Measured() for recipe in recipes}  # of some there is nothing to measure
    filled = [recipe for recipe in recipes if 0 not in recipe.shape]
    tasks = [MeasuringTask.of(batch, sizes) for batch in batches(filled)]
    return found | run_measuring(tasks, files, jobs=jobs, progress=progress)


def _compared(recipe: Recipe, wanted: Tensor) -> Recipe:
    assert recipe.dtype is wanted.dtype
    assert recipe.shape == wanted.shape
    bands = tuple(
        replace(
            band,
            steps=(*band.steps, Step(Op.DIFF, View(WANTED, wanted, band.begin), recipe.dtype)),
        )
        for band in recipe.bands
    )
    return replace(recipe, bands=bands)


def rows_of(tensors: Mapping[str, Tensor]) -> int | None:
    """Rows of the embeddings."""
    found = [t.shape[0] for name, t in tensors.items() if name.endswith(EMBEDDINGS) and t.shape]
    return max(found, default=None)
