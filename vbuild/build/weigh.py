"""The weights digest of an input, found in one pass with the digests of its files.

- Each file is read once; its bytes go to its own digest and to those of its tensors (numerics.md,
  weights digest). What is read twice, because tensors lie in another order than the file has them,
  is tagged both times: the bytes that were weighed are the bytes that were hashed.
- So the file digests that are found stand for the weights: who pins them has pinned those.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vbuild import _core
from vbuild.build.pool import Inputs, opened, run_all, scratch
from vbuild.progress import Progress, Silence
from vbuild.digest import core_error, kernels, weights_digest
from vbuild.errors import Interrupted
from vbuild.files import changed
from vbuild.formats import Checkpoint
from vbuild.plan import FileRef
from vbuild.plan.recipe import copied
from vbuild.plan.lower import Draft, lower
from vbuild.plan.order import InputLayout, Program, Range, finish
from vbuild.table import RegionKind
from vbuild.tensors import Tensor

__all__ = ["Guard", "Weighed", "first_part", "weigh"]


@dataclass(frozen=True, slots=True)
class Weighed:
    """``files`` has the digest (hex) of each file that was opened, ``tensors`` that of each tensor;
    ``weights`` is the weights digest."""

    files: Mapping[str, str]
    tensors: Mapping[str, bytes]
    weights: str


@dataclass(slots=True)
class Guard:
    """The tags of what programs have hashed and of what they have used, to be compared."""

    hashed: dict[Range, bytes] = field(default_factory=dict)
    used: list[tuple[Range, bytes]] = field(default_factory=list)

    def add(self, program: Program, result: _core.Result) -> None:
        """The tags of a program that has ended."""
        for (kind, region), tag in zip(program.regions, result.regions, strict=True):
            if kind is RegionKind.WALK:
                self.hashed[region] = tag
            else:
                self.used.append((region, tag))

    def check(self, inputs: Inputs) -> None:
        """Mismatch (``file-changed``) unless the bytes used are those that were hashed."""
        for region, tag in self.used:
            if self.hashed.get(region) != tag:
                raise changed(inputs.materials[region.ref].label)


@dataclass(frozen=True, slots=True)
class _Task:
    program: Program
    tensors: tuple[Tensor, ...]

    @property
    def bytes(self) -> int:
        """Bytes that are hashed: of files, and of tensors."""
        inputs = sum(size for mode, size in self.program.table.sources if mode)
        return inputs + sum(tensor.nbytes for tensor in self.tensors)


def first_part(tensor: Tensor) -> tuple[str, int]:
    """The file and the offset at which a tensor begins."""
    return tensor.parts[0].file, tensor.parts[0].offset


def weigh(
    checkpoint: Checkpoint,
    inputs: Inputs,
    group: int = 0,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Weighed:
    """The digests of a checkpoint, whose files are the ``group`` of ``inputs``.

    Errors: those of reading, Mismatch for a file that changes, Interrupted.
    """
    tasks = _tasks(checkpoint, group)
    own = kernels()
    control = _core.Control()
    guard = Guard()
    key = os.urandom(_core.TAG_KEY_SIZE)
    files: dict[str, str] = {}
    tensors: dict[str, bytes] = {}

    def run(task: _Task) -> _core.Result:
        labels = [inputs.materials[ref].label for ref in task.program.files]
        table = task.program.table.serialize()
        with opened(inputs, task.program.files) as fds, scratch() as scratch_fd:
            try:
                return _core.run(
                    table,
                    fds,
                    -1,
                    own,
                    control,
                    hash_output=False,
                    tensor_digests=True,
                    tag_key=key,
                    scratch_fd=scratch_fd,
                )
            except _core.Fault as fault:
                raise core_error(fault, labels, "") from fault

    def done(task: _Task, result: _core.Result) -> None:
        guard.add(task.program, result)
        found = zip(task.program.files, result.sources, strict=True)
        files.update({ref.file: digest.hex() for ref, digest in found if digest is not None})
        names = [tensor.name for tensor in task.tensors]
        tensors.update(zip(names, result.tensors, strict=True))

    try:
        run_all(tasks, run, done, control, jobs, progress or Silence())
    except KeyboardInterrupt as e:
        raise Interrupted("interrupted", "interrupted") from e
    guard.check(inputs)
    return Weighed(dict(sorted(files.items())), tensors, weights_digest(tensors))


def _tasks(checkpoint: Checkpoint, group: int) -> list[_Task]:
    """A task per file that tensors begin in, in the order of their bytes; one for other files."""
    by_file: dict[str, list[Tensor]] = {name: [] for name in checkpoint.files}
    for tensor in sorted(checkpoint.tensors.values(), key=first_part):
        by_file[first_part(tensor)[0]].append(tensor)
    groups = [tuple(tensors) for tensors in by_file.values() if tensors]
    drafts = [_draft(tensors, group) for tensors in groups]
    layouts = {
        FileRef(group, name): InputLayout(identity.size, checkpoint.headers[name])
        for name, identity in checkpoint.identities.items()
    }
    programs = finish(drafts, layouts)
    rest: Sequence[tuple[Tensor, ...]] = [()] * (len(programs) - len(groups))
    return [_Task(p, t) for p, t in zip(programs, [*groups, *rest], strict=True)]


def _draft(tensors: Sequence[Tensor], group: int) -> Draft:
    draft = Draft()
    for tensor in tensors:
        lower(draft, copied(group, tensor))
    return draft
