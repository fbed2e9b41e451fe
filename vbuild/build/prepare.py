"""Everything that happens before the first byte is written: locate, read headers, plan.

- The digest is judged first: where a header cannot be read or a rule cannot be applied, the inputs
  are hashed, and a file that is not the pinned one is the error that the user sees
  (architecture: files).
- The result is enough to print the plan, and enough to run it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vbuild.build.containers import make_containers
from vbuild.build.materials import (
    Material,
    first_mismatch,
    group_label,
    is_small,
    locate,
    read_material,
)
from vbuild.build.side_files import make_side_files
from vbuild.errors import InvalidInput, Mismatch
from vbuild.files import Identity
from vbuild.formats import Checkpoint, open_checkpoint
from vbuild.formats.peft import as_adapter
from vbuild.formats.peft_config import CONFIG_NAME, parse_adapter_config
from vbuild.manifest import (
    Base,
    Delta,
    LoadedManifest,
    check_collisions,
    load_preset,
    outputs,
    require_locked,
)
from vbuild.plan import FileRef, Plan, Request, claim_tensors, make_file_plan, make_plan
from vbuild.plan.claim import Ruleset
from vbuild.plan.order import InputLayout
from vbuild.progress import Progress

__all__ = ["Prepared", "prepare", "prepare_located"]


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
    loaded: LoadedManifest,
    base: Path | None = None,
    deltas: Sequence[Path] = (),
    *,
    progress: Progress | None = None,
) -> Prepared:
    """Plan the build of a locked manifest; see :func:`vbuild.build.materials.locate` for errors.

    NotLocked for a manifest that is not fully pinned; InvalidInput and Mismatch as the rooms below
    raise them.
    """
    require_locked(loaded)
    materials = locate(loaded, base, deltas, progress=progress)
    try:
        return prepare_located(loaded, materials)
    except (InvalidInput, Mismatch) as problem:
        raise (first_mismatch(materials) or problem) from problem


def prepare_located(loaded: LoadedManifest, materials: Mapping[FileRef, Material]) -> Prepared:
    """As :func:`prepare`, with files that are found already; no file is compared with its pin."""
    manifest = loaded.manifest
    if any(output.format == "as-is" for output in manifest.outputs):
        return _prepare_files(loaded, materials)
    checkpoints = [_open_base(manifest.base, materials)]
    checkpoints += [_open_delta(d, i, materials) for i, d in enumerate(manifest.delta, 1)]
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
    plan = replace(plan, warnings=(*plan.warnings, *_other_types(loaded, plan)))
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


def _prepare_files(loaded: LoadedManifest, materials: Mapping[FileRef, Material]) -> Prepared:
    """The build of an xor-file delta: whole files, of which no header is read."""
    layouts = {ref: InputLayout(material.size, ()) for ref, material in materials.items()}
    none = Checkpoint({}, (), "as-is", {}, {})
    prepared = Prepared(
        loaded=loaded,
        materials=materials,
        identities={},
        layouts=layouts,
        base=none,
        deltas=(none,),
        plan=make_file_plan(layouts),
        side_files={},
    )
    _check_expected(prepared)
    return prepared


def _open_base(base: Base, materials: Mapping[FileRef, Material]) -> Checkpoint:
    return open_checkpoint(_paths(materials, 0), group_label(0), base.format)


def _open_delta(delta: Delta, group: int, materials: Mapping[FileRef, Material]) -> Checkpoint:
    """The tensors of a delta, or what an adapter changes."""
    checkpoint = open_checkpoint(_paths(materials, group), group_label(group), delta.format)
    if delta.kind != "lora":
        return checkpoint
    config = materials.get(FileRef(group, CONFIG_NAME))
    if config is None:
        raise InvalidInput(
            "adapter-config",
            f"the adapter has no {CONFIG_NAME}",
            where=group_label(group),
            hint=f'list it among its files: "{CONFIG_NAME}" = {{}}',
        )
    return as_adapter(checkpoint, parse_adapter_config(read_material(config), config.label))


def _other_types(loaded: LoadedManifest, plan: Plan) -> list[str]:
    """A warning where the tool that a preset describes writes another type than the build does.

    With a ``dtype`` the manifest has decided; without one nobody may have thought of it.
    """
    last = len(loaded.manifest.delta) - 1
    preset = loaded.preset_for(last) if last >= 0 else None
    wanted = None if preset is None else load_preset(preset).dtype
    if wanted is None or all(output.dtype is not None for output in loaded.manifest.outputs):
        return []
    made = {recipe.dtype for recipe in plan.recipes.values() if recipe.dtype.is_arithmetic}
    others = sorted(dtype.long_name for dtype in made if dtype.long_name != wanted)
    if not others:
        return []
    return [
        f"what the preset {preset} describes writes {wanted}, and this build {' and '.join(others)}"
        f' (the base\'s type): say dtype = "{wanted}" in [output] for the same bits'
    ]


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
