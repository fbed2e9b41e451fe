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
from vbuild.build.run import Progress, Silence, opened, run_all
from vbuild.diff.compare import Comparison, Measured, Pair, pair_up
from vbuild.diff.side import Inputs, Side, inputs
from vbuild.digest import core_error, kernels
from vbuild.errors import Interrupted
from vbuild.plan import FileRef
from vbuild.plan.claim import Band, Recipe, Step, View
from vbuild.plan.lower import Draft, lower
from vbuild.plan.order import InputLayout, Program, unhashed
from vbuild.table import Op
from vbuild.tensors import JoinedSpec, Tensor

__all__ = ["compare", "measured", "run_measuring"]

BATCH = 64 * 1024 * 1024
"""Bytes of one side; a larger tensor is a task of its own."""


@dataclass(frozen=True, slots=True)
class Task:
    """A program that measures tensors in order; ``bytes`` is what it reads."""

    program: Program
    names: tuple[str, ...]
    bytes: int


def compare(
    a: Side, b: Side, *, jobs: int | None = None, progress: Progress | None = None
) -> Comparison:
    """What differs between two checkpoints. Errors: those of reading; InvalidInput for a layout
    that no segment can have; Mismatch for a file that changes; Interrupted."""
    found = pair_up(a.checkpoint.tensors, b.checkpoint.tensors)
    todo = [pair for pair in found.pairs if pair.compared_as is not None and pair.measured is None]
    todo.sort(key=lambda pair: _position(pair.a))
    files = inputs(a, b)
    sizes = {ref: identity.size for ref, identity in files.identities.items()}
    swapped = {pair.name for pair in todo if _is_swapped(pair)}
    tasks = [_task(batch, sizes) for batch in _batches(todo)]
    results = run_measuring(tasks, files, jobs=jobs, progress=progress)
    done = {name: _swap(value) if name in swapped else value for name, value in results.items()}
    return replace(
        found,
        pairs=tuple(replace(p, measured=done.get(p.name, p.measured)) for p in found.pairs),
    )


def _position(tensor: Tensor) -> tuple[str, int]:
    first = tensor.parts[0] if isinstance(tensor, JoinedSpec) else tensor
    return first.file, first.offset


def _batches(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    batch: list[Pair] = []
    size = 0
    for pair in pairs:
        if batch and size + pair.a.nbytes > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(pair)
        size += pair.a.nbytes
    if batch:
        yield batch


def _is_swapped(pair: Pair) -> bool:
    """Whether a chain starts from b: what a segment before has widened is always its operand a."""
    return pair.b.dtype is not pair.compared_as


def _recipe(pair: Pair) -> Recipe:
    """The tensor of one side, compared with the other's."""
    assert pair.compared_as is not None
    sides = [View(0, pair.a), View(1, pair.b)]
    start, other = reversed(sides) if _is_swapped(pair) else sides
    rows = pair.a.shape[0] if pair.a.shape else 1
    band = Band(0, rows, start, (Step(Op.DIFF, other, pair.compared_as),))
    return Recipe(pair.name, pair.compared_as, pair.a.shape, (band,))


def _task(pairs: Sequence[Pair], sizes: Mapping[FileRef, int]) -> Task:
    draft = Draft()
    for pair in pairs:
        lower(draft, _recipe(pair))
    layouts = {ref: InputLayout(sizes[ref], ()) for ref in draft.files}
    return Task(
        unhashed(draft, layouts),
        tuple(pair.name for pair in pairs),
        sum(pair.a.nbytes + pair.b.nbytes for pair in pairs),
    )


def run_measuring(
    tasks: Sequence[Task],
    files: Inputs,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Measured]:
    """What the tasks find, by tensor."""
    own = kernels()
    control = _core.Control()
    found: dict[str, Measured] = {}

    def run(task: Task) -> _core.Result:
        labels = [files.materials[ref].label for ref in task.program.files]
        table = task.program.table.serialize()
        with opened(files, task.program.files) as fds:
            try:
                return _core.run(table, fds, -1, own, control, hash_output=False)
            except _core.Fault as fault:
                raise core_error(fault, labels, "") from fault

    def done(task: Task, result: _core.Result) -> None:
        found.update(zip(task.names, map(measured, result.differences), strict=True))

    try:
        run_all(tasks, run, done, control, jobs, progress or Silence())
    except KeyboardInterrupt as e:
        raise Interrupted("interrupted", "interrupted") from e
    return found


def measured(found: _core.Difference) -> Measured:
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


def _swap(found: Measured) -> Measured:
    return replace(found, bits=(found.bits[1], found.bits[0]))
