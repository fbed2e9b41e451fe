"""Everything that happens before the first byte is written: locate, read headers, plan.

- The digest is judged first: where a header cannot be read or a rule cannot be applied, the inputs
  are hashed, and a file that is not the pinned one is the error that the user sees
  (architecture: files).
- The result is enough to print the plan, and enough to run it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbuild.build.containers import make_containers
from vbuild.build.materials import Material, first_mismatch, group_label, is_small, locate
from vbuild.build.side_files import make_side_files
from vbuild.errors import InvalidInput, Mismatch
from vbuild.files import Identity
from vbuild.formats import Checkpoint, open_checkpoint
from vbuild.manifest import (
    Base,
    Delta,
    LoadedManifest,
    check_collisions,
    outputs,
    require_locked,
)
from vbuild.plan import FileRef, Plan, Request, claim_tensors, make_plan
from vbuild.plan.claim import Ruleset
from vbuild.plan.order import InputLayout

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A build that can be run.

    ``identities`` has what each weight file was when its header was read, ``layouts`` what has been
    read of it; ``side_files`` the bytes of all output files that are not weights, by name, the shard
    index included.
    """

    loaded: LoadedManifest
    materials: Mapping[FileRef, Material]
    identities: Mapping[FileRef, Identity]
    layouts: Mapping[FileRef, InputLayout]
    base: Checkpoint
    deltas: tuple[Checkpoint, ...]
    plan: Plan
    side_files: Mapping[str, bytes]

    @property
    def sides(self) -> tuple[tuple[str, Checkpoint], ...]:
        """The base and the deltas in order, each with the label that messages use."""
        checkpoints = enumerate((self.base, *self.deltas))
        return tuple((group_label(group), checkpoint) for group, checkpoint in checkpoints)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Every file of the model directory but the signature, sorted."""
        return tuple(sorted([*(o.name for o in self.plan.outputs), *self.side_files]))


def prepare(
    loaded: LoadedManifest, base: Path | None = None, deltas: Sequence[Path] = ()
) -> Prepared:
    """Plan the build of a locked manifest; see :func:`vbuild.build.materials.locate` for errors.

    NotLocked for a manifest that is not fully pinned; InvalidInput and Mismatch as the rooms below
    raise them.
    """
    require_locked(loaded)
    materials = locate(loaded, base, deltas)
    try:
        return _prepare(loaded, materials)
    except (InvalidInput, Mismatch) as problem:
        raise (first_mismatch(materials) or problem) from problem


def _prepare(loaded: LoadedManifest, materials: Mapping[FileRef, Material]) -> Prepared:
    manifest = loaded.manifest
    sides: tuple[Base | Delta, ...] = (manifest.base, *manifest.delta)
    checkpoints = [
        open_checkpoint(_paths(materials, group), group_label(group), side.format)
        for group, side in enumerate(sides)
    ]
    identities = {
        FileRef(group, file): identity
        for group, checkpoint in enumerate(checkpoints)
        for file, identity in checkpoint.identities.items()
    }
    layouts = _layouts(materials, checkpoints)
    claimed = claim_tensors(checkpoints[0], checkpoints[1:], _rulesets(loaded))
    side_files = make_side_files(
        loaded, materials, checkpoints, layouts.keys(), claimed.recipes
    )
    containers = make_containers(loaded, side_files)
    plan = make_plan(Request(claimed, checkpoints[0], layouts, containers))
    prepared = Prepared(
        loaded,
        materials,
        identities,
        layouts,
        checkpoints[0],
        tuple(checkpoints[1:]),
        plan,
        {**plan.others, **side_files.files},
    )
    check_collisions(prepared.output_names, str(loaded.path))
    _check_expected(prepared)
    return prepared


def _paths(materials: Mapping[FileRef, Material], group: int) -> dict[str, Path]:
    return {ref.file: m.path for ref, m in materials.items() if ref.group == group}


def _rulesets(loaded: LoadedManifest) -> tuple[Ruleset, ...]:
    count = max(1, len(loaded.manifest.delta))
    return tuple(
        Ruleset(
            loaded.rules_for(i),
            warn_unused=loaded.preset_for(i) is None and bool(loaded.manifest.delta),
        )
        for i in range(count)
    )


def _layouts(
    materials: Mapping[FileRef, Material], checkpoints: Sequence[Checkpoint]
) -> dict[FileRef, InputLayout]:
    """What the plan has to hash: weights and indexes, and files too large for memory.

    All the others are read whole, by whoever needs them or for their digest alone.
    """
    layouts = {}
    for ref, material in materials.items():
        ranges = checkpoints[ref.group].headers.get(ref.file)
        if ranges is not None or not is_small(material):
            layouts[ref] = InputLayout(material.size, ranges or ())
    return layouts


def _check_expected(prepared: Prepared) -> None:
    """Every file that ``[output.files]`` expects is one that the build writes, of the same size."""
    sizes = {o.name: o.size for o in prepared.plan.outputs}
    sizes |= {name: len(data) for name, data in prepared.side_files.items()}
    loaded = prepared.loaded
    pins = [
        ((*path, "files", name), name, pin)
        for path, output in outputs(loaded.manifest)
        for name, pin in sorted(output.files.items())
    ]
    for path, name, pin in pins:
        where = loaded.place(path)
        if name not in sizes:
            raise InvalidInput(
                "unknown-output",
                f"the build makes no file {name!r}",
                where=where,
                expected=", ".join(prepared.output_names),
            )
        if pin.size not in (None, sizes[name]):
            raise Mismatch(
                "output-mismatch",
                f"{name} is not what the manifest expects",
                where=where,
                expected=f"{pin.size} bytes",
                got=f"{sizes[name]} bytes",
            )
