"""Planning: manifest, base and delta tensors in; one table of segments per output file out.

- A pure function of headers: it reads no data, opens nothing for writing, and gives the same plan
  on every machine.
- The parts, in order: :mod:`claim` (rules to recipes), :mod:`containers` (recipes to files, for
  every output), :mod:`lower` (recipes to segments), :mod:`order` (who hashes what);
  :mod:`whole_files` is the other way to segments, for deltas of files.
- Claiming is a step of its own, as what a container is made with may depend on the recipes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vbuild.errors import InvalidInput
from vbuild.formats import Checkpoint
from vbuild.plan.claim import Ruleset, claim
from vbuild.plan.containers import Container, WeightFile
from vbuild.plan.lower import Draft, FileRef, lower
from vbuild.plan.order import InputLayout, Program, finish, unhashed
from vbuild.plan.recipe import Recipe, copied
from vbuild.plan.whole_files import xor_drafts
from vbuild.tensors import Tensor

__all__ = [
    "Claimed",
    "FileRef",
    "OutputFile",
    "Plan",
    "Request",
    "claim_tensors",
    "copy_program",
    "make_file_plan",
    "make_plan",
]


@dataclass(frozen=True, slots=True)
class Claimed:
    """What the rules make of base and deltas: all output tensors by name, and warnings."""

    recipes: Mapping[str, Recipe]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What a plan is made from.

    ``inputs`` has every weight file (and any other input that is too large for memory) with the
    ranges that reading its header looked at; ``outputs`` the containers, of which each holds the
    whole model.
    """

    claimed: Claimed
    base: Checkpoint
    inputs: Mapping[FileRef, InputLayout]
    outputs: tuple[Container, ...]


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A weight file to be written, the program that makes it, and which output it belongs to.

    ``recipes`` is empty for a file that is made as a whole.
    """

    name: str
    size: int
    program: Program
    recipes: tuple[Recipe, ...]
    container: int

    @property
    def digest(self) -> str:
        """SHA-256 of the serialized table: what a receipt binds."""
        return hashlib.sha256(self.program.table.serialize()).hexdigest()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a build does to weights.

    ``recipes`` has every tensor of the model by name, as the rules made it; ``rest`` hashes input
    files that no output uses; ``others`` are the containers' files without weights (the shard
    index), by name; ``warnings`` are for the user.
    """

    recipes: Mapping[str, Recipe]
    outputs: tuple[OutputFile, ...]
    rest: Program | None
    others: Mapping[str, bytes]
    warnings: tuple[str, ...]

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


def claim_tensors(
    base: Checkpoint, deltas: Sequence[Checkpoint], rulesets: Sequence[Ruleset]
) -> Claimed:
    """What the rules make of ``base`` and ``deltas``; ``rulesets`` has one entry per delta.

    InvalidInput where a rule cannot be applied (see :mod:`claim`), or nothing is left.
    """
    changes = [{**delta.tensors, **delta.updates} for delta in deltas]
    recipes, warnings = claim(base.tensors, changes, rulesets, None)
    if not recipes:
        raise InvalidInput("nothing-to-build", "the rules leave no tensor for the output")
    return Claimed(recipes, tuple(warnings))


def make_plan(request: Request) -> Plan:
    """The plan for ``request``; InvalidInput where a container cannot hold the tensors."""
    recipes = request.claimed.recipes
    contents = [output.contents(recipes, request.base) for output in request.outputs]
    files = [(i, file) for i, found in enumerate(contents) for file in found.files]
    drafts = [_draft(file, request.outputs[i].allow_nonfinite) for i, file in files]
    programs = finish(drafts, request.inputs)
    outputs = tuple(
        OutputFile(file.name, file.size, program, file.recipes, i)
        for (i, file), program in zip(files, programs, strict=False)
    )
    return Plan(
        recipes,
        outputs,
        programs[len(files)] if len(programs) > len(files) else None,
        {name: data for found in contents for name, data in sorted(found.others.items())},
        (*request.claimed.warnings, *(text for found in contents for text in found.warnings)),
    )


def make_file_plan(inputs: Mapping[FileRef, InputLayout]) -> Plan:
    """The plan of an xor-file delta (group 1): its files, XORed with the base's of their names.

    InvalidInput: ``no-base-file``, ``nothing-to-build``.
    """
    drafts = xor_drafts(inputs)
    if not drafts:
        raise InvalidInput("nothing-to-build", "the delta has no file")
    programs = finish(list(drafts.values()), inputs)
    outputs = tuple(
        OutputFile(name, inputs[FileRef(1, name)].size, program, (), 0)
        for name, program in zip(drafts, programs, strict=False)
    )
    rest = programs[len(drafts)] if len(programs) > len(drafts) else None
    return Plan({}, outputs, rest, {}, ())


def copy_program(tensors: Sequence[Tensor], sizes: Mapping[str, int]) -> Program:
    """The program that would copy ``tensors`` in order; ``sizes`` are those of their files.

    Run without an output, it gives the digest of each tensor.
    """
    draft = Draft()
    for spec in tensors:
        lower(draft, copied(0, spec))
    return unhashed(draft, {ref: InputLayout(sizes[ref.file], ()) for ref in draft.files})


def _draft(file: WeightFile, allow_nonfinite: bool) -> Draft:
    draft = Draft(allow_nonfinite=allow_nonfinite)
    draft.store_bytes(file.header)
    for recipe in file.recipes:
        lower(draft, recipe)
        if file.padding(recipe):
            draft.store_bytes(bytes(file.padding(recipe)))
    return draft
