"""Planning: manifest, base and delta tensors in; one table of segments per output file out.

- A pure function of headers: it reads no data, opens nothing for writing, and gives the same plan
  on every machine.
- The parts, in order: :mod:`claim` (rules to recipes), :mod:`layout` (recipes to files),
  :mod:`lower` (recipes to segments), :mod:`order` (who hashes what).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vbuild.errors import InvalidInput
from vbuild.formats import Checkpoint
from vbuild.formats.index import index_json
from vbuild.formats.safetensors import header
from vbuild.plan.claim import Recipe, Ruleset, claim, copied
from vbuild.plan.layout import layout
from vbuild.plan.lower import Draft, FileRef, lower
from vbuild.plan.order import InputLayout, Program, finish, unhashed
from vbuild.tensors import DType, Tensor

__all__ = [
    "INDEX_NAME",
    "FileRef",
    "OutputFile",
    "Plan",
    "Request",
    "copy_program",
    "make_plan",
    "plan_of",
]

INDEX_NAME = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Request:
    """What a plan is made from.

    ``inputs`` has every weight file (and any other input that is too large for memory) with the
    ranges that reading its header looked at; ``rulesets`` has one entry per delta.
    """

    base: Checkpoint
    deltas: tuple[Checkpoint, ...]
    rulesets: tuple[Ruleset, ...]
    inputs: Mapping[FileRef, InputLayout]
    output_dtype: DType | None = None
    max_shard_size: int | None = None
    allow_nonfinite: bool = False


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A weight file to be written, and the program that makes it."""

    name: str
    size: int
    program: Program
    recipes: tuple[Recipe, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the serialized table: what a receipt binds."""
        return hashlib.sha256(self.program.table.serialize()).hexdigest()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a build does to weights.

    ``rest`` hashes input files that no output uses; ``index`` is the shard index (None for a single
    file); ``warnings`` are for the user.
    """

    outputs: tuple[OutputFile, ...]
    rest: Program | None
    index: bytes | None
    warnings: tuple[str, ...]

    @property
    def recipes(self) -> dict[str, Recipe]:
        """Every output tensor by name."""
        return {r.name: r for output in self.outputs for r in output.recipes}

    @property
    def programs(self) -> tuple[Program, ...]:
        """All programs: those of the outputs in order, then ``rest``."""
        made = tuple(output.program for output in self.outputs)
        return made if self.rest is None else (*made, self.rest)

    @property
    def output_bytes(self) -> int:
        """Bytes of all weight files."""
        return sum(output.size for output in self.outputs)

    @property
    def hashed_bytes(self) -> int:
        """Bytes that the build hashes, which is what its time goes into."""
        inputs = sum(
            size for program in self.programs for mode, size in program.table.sources if mode
        )
        return inputs + self.output_bytes


def make_plan(request: Request) -> Plan:
    """The plan for ``request``; InvalidInput where a rule cannot be applied (see :mod:`claim`)."""
    recipes, warnings = claim(
        request.base.tensors,
        [delta.tensors for delta in request.deltas],
        request.rulesets,
        request.output_dtype,
    )
    if not recipes:
        raise InvalidInput("nothing-to-build", "the rules leave no tensor for the output")
    files = layout(recipes, request.base, request.max_shard_size)
    return plan_of(
        files, request.inputs, allow_nonfinite=request.allow_nonfinite, warnings=warnings
    )


def plan_of(
    files: Sequence[tuple[str, tuple[Recipe, ...]]],
    inputs: Mapping[FileRef, InputLayout],
    *,
    allow_nonfinite: bool = False,
    warnings: Sequence[str] = (),
) -> Plan:
    """The plan that makes ``files``, as :func:`vbuild.plan.layout.layout` has them."""
    drafts = [_draft(recipes_of_file) for _, recipes_of_file in files]
    programs = finish(drafts, inputs, allow_nonfinite=allow_nonfinite)
    outputs = tuple(
        OutputFile(name, _size(made), program, made)
        for (name, made), program in zip(files, programs, strict=False)
    )
    rest = programs[len(files)] if len(programs) > len(files) else None
    return Plan(outputs, rest, _index(outputs), tuple(warnings))


def copy_program(tensors: Sequence[Tensor], sizes: Mapping[str, int]) -> Program:
    """The program that would copy ``tensors`` in order; ``sizes`` are those of their files.

    Run without an output, it gives the digest of each tensor.
    """
    draft = Draft()
    for spec in tensors:
        lower(draft, copied(0, spec))
    return unhashed(draft, {ref: InputLayout(sizes[ref.file], ()) for ref in draft.files})


def _header(recipes: Sequence[Recipe]) -> bytes:
    return header([(r.name, r.dtype, r.shape) for r in recipes])


def _size(recipes: Sequence[Recipe]) -> int:
    return len(_header(recipes)) + sum(r.nbytes for r in recipes)


def _draft(recipes: Sequence[Recipe]) -> Draft:
    draft = Draft()
    draft.store_bytes(_header(recipes))
    for recipe in recipes:
        lower(draft, recipe)
    return draft


def _index(outputs: Sequence[OutputFile]) -> bytes | None:
    if len(outputs) == 1:
        return None
    weight_map = {r.name: output.name for output in outputs for r in output.recipes}
    total = sum(r.nbytes for output in outputs for r in output.recipes)
    return index_json(weight_map, total)
