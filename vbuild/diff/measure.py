"""Measuring the pairs of two checkpoints: tables of DIFF segments, run on threads.

- Every element of both sides is read once, in the order of the first one's files, in constant
  memory; nothing is hashed or written.
- A task has some tensors of about :data:`BATCH` bytes, so that all threads have work to the end.
- The files have to stay what they were when their headers were read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vbuild import _core
from vbuild.build.pool import Inputs, opened, run_all
from vbuild.build.weigh import first_part
from vbuild.diff.compare import Comparison, Measured, Pair, pair_up
from vbuild.diff.side import Side, inputs
from vbuild.digest import core_error, kernels
from vbuild.errors import Interrupted
from vbuild.plan import FileRef
from vbuild.plan.lower import Draft, lower
from vbuild.plan.order import InputLayout, Program, unhashed
from vbuild.plan.recipe import Band, Recipe, Step, View
from vbuild.progress import Progress, Silence
from vbuild.table import Op

__all__ = ["BATCH", "MeasuringTask", "batches", "compare", "run_measuring"]

BATCH = 64 * 1024 * 1024
"""Bytes of one side; a larger tensor is a task of its own."""


@dataclass(frozen=True, slots=True)
class MeasuringTask:
    """A program that measures tensors in order; ``bytes`` is what it goes through."""

    program: Program
    names: tuple[str, ...]
    bytes: int

    @classmethod
    def of(cls, recipes: Sequence[Recipe], sizes: Mapping[FileRef, int]) -> MeasuringTask:
        """The task for recipes that end in a DIFF; ``sizes`` are those of the files."""
        draft = Draft()
        for recipe in recipes:
            lower(draft, recipe)
        layouts = {ref: InputLayout(sizes[ref], ()) for ref in draft.files}
        names = tuple(recipe.name for recipe in recipes)
        return cls(unhashed(draft, layouts), names, sum(recipe.nbytes for recipe in recipes))


def compare(
    a: Side, b: Side, *, jobs: int | None = None, progress: Progress | None = None
) -> Comparison:
    """What differs between two checkpoints. Errors: those of reading; InvalidInput for a layout
    that no segment can have; Mismatch for a file that changes; Interrupted."""
    found = pair_up(a.checkpoint.tensors, b.checkpoint.tensors)
    todo = [pair for pair in found.pairs if pair.compared_as is not None and pair.measured is None]
    todo.sort(key=lambda pair: first_part(pair.a))
    files = inputs(a, b)
    sizes = {ref: identity.size for ref, identity in files.identities.items()}
    tasks = [MeasuringTask.of(batch, sizes) for batch in batches([_recipe(p) for p in todo])]
    results = run_measuring(tasks, files, jobs=jobs, progress=progress)
    return replace(
        found,
        pairs=tuple(replace(p, measured=results.get(p.name, p.measured)) for p in found.pairs),
    )


def _recipe(pair: Pair) -> Recipe:
    """The tensor of a, compared with that of b."""
    assert pair.compared_as is not None
    rows = pair.a.shape[0] if pair.a.shape else 1
    step = Step(Op.DIFF, View(1, pair.b), pair.compared_as)
    return Recipe(
        pair.name, pair.compared_as, pair.a.shape, (Band(0, rows, View(0, pair.a), (step,)),)
    )


def batches(recipes: Sequence[Recipe]) -> Iterator[list[Recipe]]:
    """The recipes in order, in tasks of about :data:`BATCH` bytes."""
    batch: list[Recipe] = []
    size = 0
    for recipe in recipes:
        if batch and size + recipe.nbytes > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(recipe)
        size += recipe.nbytes
    if batch:
        yield batch


def run_measuring(
    tasks: Sequence[MeasuringTask],
    files: Inputs,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Measured]:
    """What the tasks find, by tensor."""
    own = kernels()
    control = _core.Control()
    found: dict[str, Measured] = {}

    def run(task: MeasuringTask) -> _core.Result:
        labels = [files.materials[ref].label for ref in task.program.files]
        table = task.program.table.serialize()
        with opened(files, task.program.files) as fds:
            try:
                return _core.run(table, fds, -1, own, control, hash_output=False)
            except _core.Fault as fault:
                raise core_error(fault, labels, "") from fault

    def done(task: MeasuringTask, result: _core.Result) -> None:
        for name, difference in zip(task.names, result.differences, strict=True):
            assert difference is not None, "every tensor of a task is compared"
            found[name] = _measured(difference)

    try:
        run_all(tasks, run, done, control, jobs, progress or Silence())
    except KeyboardInterrupt as e:
        raise Interrupted("interrupted", "interrupted") from e
    return found


def _measured(found: _core.Difference) -> Measured:
    """What the core has found in one tensor."""
    return Measured(
        differing=found.count,
        unordered=found.unordered,
        first=found.first,
        bits=found.first_bits,
        max_ulp=found.max_ulp,
        max_ulp_at=found.max_ulp_at,
        max_abs=found.max_abs,
        max_abs_at=found.max_abs_at,
    )
