"""An input that is pinned by its weights digest: any container and sharding of the tensors will do.

- The tensors are weighed and the files hashed in one pass (:mod:`vbuild.build.weigh`). If the weights
  are the pinned ones, the digests of these files are the pins of this build, which reads them again
  and checks them as it does every input.
- Which files are the weights: those that ``files`` lists, else those that ``vbuild lock`` would find.
  Every other file of such an input is pinned by a digest of its own, or not read.
- Weights that have been rounded to bfloat16 on the way are told apart from other wrong ones:
  transformers 4.33 to 4.46 did that to the LLaMA that they converted (peers.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vbuild import _core
from vbuild.build.pool import Input, Inputs, opened, run_all
from vbuild.build.weigh import weigh
from vbuild.digest import core_error, kernels
from vbuild.errors import Interrupted, InvalidInput, Mismatch
from vbuild.files import Identity
from vbuild.formats import Checkpoint, open_checkpoint
from vbuild.formats.registry import holds_weights
from vbuild.manifest import Base, Delta, FilePin
from vbuild.manifest.discover import discover, place_of_directory
from vbuild.plan import FileRef
from vbuild.plan.recipe import copied
from vbuild.plan.lower import Draft, lower
from vbuild.plan.order import InputLayout, Program, unhashed
from vbuild.progress import Progress, Silence
from vbuild.sources import Source
from vbuild.table import Op, Operand, Segment, type_code
from vbuild.tensors import DType

__all__ = ["pins_by_weights", "rounded_to_bf16"]


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    label: str


@dataclass(frozen=True, slots=True)
class _Files:
    materials: Mapping[FileRef, Input]
    identities: Mapping[FileRef, Identity]


def pins_by_weights(
    side: Base | Delta,
    source: Source,
    label: str,
    where: str,
    *,
    progress: Progress | None = None,
) -> dict[str, FilePin]:
    """The pins of the weight files of an input whose ``weights`` are pinned.

    ``label`` names the input, ``where`` the place of its pin. Mismatch (``weights-mismatch``,
    ``bf16-rounded``) if the weights are others; InvalidInput for files that cannot be pinned so.
    """
    checkpoint = open_checkpoint(_paths(side, source, where), label, side.format)
    for name in checkpoint.identities:
        if not holds_weights(name) and (name not in side.files or side.files[name].sha256 is None):
            raise InvalidInput(
                "weights-unpinned-file",
                f"{name} is read too, and no weights digest covers it",
                where=where,
                hint=f'list it with its digest under `files`: "{name}" = {{}}, then vbuild lock',
            )
    files = _Files(
        {FileRef(0, n): _File(source.path(n), f"{label}/{n}") for n in checkpoint.identities},
        {FileRef(0, n): identity for n, identity in checkpoint.identities.items()},
    )
    found = weigh(checkpoint, files, progress=progress)
    if found.weights != side.weights:
        raise _mismatch(side, checkpoint, files, label, where, found.weights)
    return {
        name: FilePin(size=checkpoint.identities[name].size, sha256=digest)
        for name, digest in found.files.items()
    }


def _paths(side: Base | Delta, source: Source, where: str) -> dict[str, Path]:
    names = sorted(side.files) if any(map(holds_weights, side.files)) else []
    if source.fetched and (not names or any(pin.sha256 is None for pin in side.files.values())):
        raise InvalidInput(
            "weights-remote",
            "only an input on this machine can be pinned by its weights digest alone",
            where=where,
            hint="name the directory of a local copy with --base or --delta, or list the files",
        )
    if not names:
        names = discover(place_of_directory(source.directory), side.format, (), ())
        names = sorted({*names, *side.files})
    return {name: source.path(name) for name in names}


def _mismatch(
    side: Base | Delta,
    checkpoint: Checkpoint,
    files: Inputs,
    label: str,
    where: str,
    got: str,
) -> Mismatch:
    if rounded_to_bf16(checkpoint, files):
        return Mismatch(
            "bf16-rounded",
            f"the weights of the {label} are not the pinned ones, and each is a value of bfloat16: "
            "they were rounded, as transformers 4.33 to 4.46 do when they convert LLaMA",
            where=where,
            expected=side.weights,
            got=got,
            hint="convert the original files with another version of transformers, or give them "
            "to vbuild as they are",
        )
    return Mismatch(
        "weights-mismatch",
        f"the weights of the {label} are not those that the manifest pins",
        where=where,
        expected=side.weights,
        got=got,
        hint="get the weights that the manifest means, in any container; a different base gives a "
        "different model",
    )


@dataclass(frozen=True, slots=True)
class _Task:
    program: Program

    @property
    def bytes(self) -> int:
        return sum(segment.count for segment in self.program.table.segments)


def rounded_to_bf16(checkpoint: Checkpoint, files: Inputs, group: int = 0) -> bool:
    """Whether every element of arithmetic type is one that bfloat16 has too.

    The files are the ``group`` of ``files``. False where there is no such element.
    """
    tasks = _rounding_tasks(checkpoint, files, group)
    if tasks is None:
        return False
    own, control, differing = kernels(), _core.Control(), 0

    def run(task: _Task) -> _core.Result:
        labels = [files.materials[ref].label for ref in task.program.files]
        table = task.program.table.serialize()
        with opened(files, task.program.files) as fds:
            try:
                return _core.run(table, fds, -1, own, control, hash_output=False)
            except _core.Fault as fault:
                raise core_error(fault, labels, "") from fault

    def done(task: _Task, result: _core.Result) -> None:
        nonlocal differing
        differing += sum(found.count for found in result.differences if found is not None)

    try:
        run_all(tasks, run, done, control, None, Silence())
    except KeyboardInterrupt as e:
        raise Interrupted("interrupted", "interrupted") from e
    return differing == 0


def _rounding_tasks(checkpoint: Checkpoint, files: Inputs, group: int) -> list[_Task] | None:
    """A task per file that compares what is rounded with what it was; None without elements."""
    drafts: dict[str, Draft] = {}
    elements = 0
    for tensor in checkpoint.tensors.values():
        if not tensor.dtype.is_arithmetic:
            continue
        elements += tensor.count
        for part in tensor.parts:
            if tensor.dtype is not DType.BF16:
                lower(drafts.setdefault(part.file, Draft()), copied(group, part))
    if not elements:
        return None
    tasks = []
    for draft in drafts.values():
        draft.segments = [made for s in draft.segments for made in _rounded(s)]
        layouts = {ref: InputLayout(files.identities[ref].size, ()) for ref in draft.files}
        program = unhashed(draft, layouts)
        # What rounds to infinity is a difference like any other.
        table = replace(program.table, allow_nonfinite=True)
        tasks.append(_Task(replace(program, table=table)))
    return tasks


def _rounded(copy: Segment) -> tuple[Segment, ...]:
    """A copy as a chain: to bfloat16, back, and compared with what it was."""
    bf16, before = type_code(DType.BF16), Operand(Operand.PREVIOUS)
    return (
        replace(copy, out_type=bf16),
        replace(copy, a=before, a_type=bf16),
        replace(copy, op=Op.DIFF, a=before, b=copy.a, b_type=copy.a_type),
    )
