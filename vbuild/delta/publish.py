"""Making a delta: base and target in, a directory that gives the target back out.

- Every input file is hashed as it is read, and again where it is read again; the manifest pins what
  was found.
- Before anything is published the delta is applied again: what comes out is hashed for the
  manifest's pins, and compared with the target element by element. An add delta need not give the
  target back exactly (numerics.md: 0.07 % to 1.6 % of the elements differ); an XOR has to.
- The directory appears at once and whole, as a build's does, with SHA256SUMS beside it.
- ``check`` runs before and after: an output that somebody makes in the meantime is not replaced.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vbuild.attest.sums import format_sums
from vbuild.build import attest_directory
from vbuild.build.materials import Material
from vbuild.build.output import check_output
from vbuild.build.prepare import Prepared, prepare_located
from vbuild.build.staging import open_staging
from vbuild.build.weigh import Weighed, weigh
from vbuild.delta.again import compared, rows_of
from vbuild.delta.groups import BASE, DELTA, TARGET
from vbuild.delta.passes import Inputs, Run, store
from vbuild.delta.rules import DeltaOp, DeltaRule, Drafted, draft
from vbuild.delta.text import Pinned, Text
from vbuild.diff import Measured, Side
from vbuild.diff.side import inputs
from vbuild.digest import kernels, sha256_hex, weights_digest
from vbuild.errors import Interrupted, InvalidInput, Mismatch
from vbuild.files import os_error, read_small
from vbuild.formats import open_checkpoint
from vbuild.formats.checkpoint import Checkpoint
from vbuild.formats.registry import holds_weights
from vbuild.manifest import parse_manifest
from vbuild.manifest.schema import decimal_size
from vbuild.plan import Claimed, FileRef, Plan, Request, make_plan
from vbuild.plan.containers.safetensors import Safetensors
from vbuild.plan.order import InputLayout
from vbuild.progress import Progress, Silence
from vbuild.tokenizer import CONFIG_FILES, TOKENIZER_FILES

__all__ = ["MANIFEST_NAME", "Made", "Wanted", "make"]

MANIFEST_NAME = "manifest.toml"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a delta is to be. ``pin_weights``: the base is pinned by its weights digest, so that any
    container of it will do, and Meta's ``params.json`` by its own; else by its files."""

    op: DeltaOp
    name: str
    base_uri: str
    license: str | None = None
    pin_weights: bool = False
    max_shard_size: str = "5GB"


@dataclass(frozen=True, slots=True)
class Made:
    """A published delta. ``back`` has what was measured of each tensor when it was applied again,
    of so many ``elements``; digests are hex."""

    out: Path
    attest: Path
    files: Mapping[str, str]
    size: int
    rules: tuple[DeltaRule, ...]
    back: Mapping[str, Measured]
    elements: int
    base_weights: str
    target_weights: str
    weights: str


def make(
    base: Side,
    target: Side,
    wanted: Wanted,
    out: Path,
    *,
    jobs: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Made:
    """Make, verify and publish the delta from ``base`` to ``target`` as ``out``, an absolute path.

    Errors: those of :func:`vbuild.delta.rules.draft`; InvalidInput where the output is in the way,
    a difference is not finite or the target's tokenizer does not fit its weights; Mismatch for an
    input that changes; Unavailable; Interrupted.
    """
    drafted = draft(base.checkpoint.tensors, target.checkpoint.tensors, wanted.op)
    check = partial(check_output, out, {"base": base.path, "target": target.path}, out, force=force)
    check()
    with open_staging(out) as staging:
        try:
            check()
            staging.drop_others(())
            run = Run(staging, jobs, progress or Silence(), kernels())
            try:
                made, sealed = _make(base, target, wanted, drafted, run)
            except InvalidInput as e:
                if e.code == "nonfinite-result":
                    e.hint = "look for damaged inputs; if this is meant, make it with --op xor"
                raise
            check()
            sums = format_sums(sorted(made.files.items()))
            names = [name for name in made.files if name != MANIFEST_NAME]
            staging.publish(names, {MANIFEST_NAME: sealed}, {"SHA256SUMS": sums}, force=force)
        except KeyboardInterrupt as e:
            raise Interrupted("interrupted", "interrupted") from e
        except OSError as e:
            raise os_error(e, str(out), "write") from e
        finally:
            staging.remove()
    return made


def _make(
    base: Side, target: Side, wanted: Wanted, drafted: Drafted, run: Run
) -> tuple[Made, bytes]:
    """The parts of the delta in the staging directory, and its manifest."""
    sides = inputs(base, target)
    weighed = [
        weigh(side.checkpoint, sides, group, jobs=run.jobs, progress=run.progress)
        for group, side in ((BASE, base), (TARGET, target))
    ]
    known = Inputs(_materials(base, target, weighed), sides.identities)
    shards = Safetensors(max_shard_size=decimal_size(wanted.max_shard_size))
    claimed = Claimed(drafted.recipes, ())
    plan = make_plan(Request(claimed, target.checkpoint, _layouts(base, target), (shards,)))
    digests, _ = run.tasks(known, plan, store=True)
    sizes = {output.name: output.size for output in plan.outputs}
    side_files = _side_files(target, plan)
    for name, data in side_files.items():
        store(run.staging, name, data)
        digests[name], sizes[name] = sha256_hex(data), len(data)
    pins = {name: Pinned(sizes[name], digests[name]) for name in sorted(digests)}
    text = _text(wanted, drafted, known, weighed[0].weights, pins)
    delta = {
        FileRef(DELTA, name): Material(
            FileRef(DELTA, name), run.staging.part(name), pin.size, pin.sha256, "file:."
        )
        for name, pin in pins.items()
    }
    bases = {ref: m for ref, m in known.materials.items() if ref.group == BASE}
    prepared, text = _prepared(text, run.staging.out / MANIFEST_NAME, {**bases, **delta})
    outputs, tensors = run.tasks(
        Inputs(prepared.materials, prepared.identities), prepared.plan, store=False, tensors=True
    )
    back = compared(prepared, target, jobs=run.jobs, progress=run.progress)
    if wanted.op == "xor" and any(found.differing for found in back.values()):
        raise Mismatch(
            "delta-not-exact",
            "the delta does not give the target back",
            where=next(name for name, found in back.items() if found.differing),
            hint="this is a bug in vbuild, or the memory of this machine: please report it",
        )
    weights = weights_digest(tensors)
    final = text.with_outputs(_outputs(prepared, outputs), weights).encode()
    prepare_located(parse_manifest(final, str(run.staging.out / MANIFEST_NAME)), prepared.materials)
    digests[MANIFEST_NAME] = sha256_hex(final)
    out = run.staging.out
    made = Made(
        out,
        attest_directory(out),
        dict(sorted(digests.items())),
        sum(sizes.values()) + len(final),
        drafted.rules,
        back,
        sum(tensor.count for tensor in target.checkpoint.tensors.values()),
        weighed[0].weights,
        weighed[1].weights,
        weights,
    )
    return made, final


def _materials(base: Side, target: Side, weighed: Sequence[Weighed]) -> dict[FileRef, Material]:
    found = {}
    for group, side in ((BASE, base), (TARGET, target)):
        for name, identity in side.checkpoint.identities.items():
            ref = FileRef(group, name)
            digest = weighed[group].files[name]
            found[ref] = Material(ref, side.files[name], identity.size, digest, "", side.label)
    return found


def _layouts(*sides: Side) -> dict[FileRef, InputLayout]:
    return {
        FileRef(group, name): InputLayout(identity.size, side.checkpoint.headers[name])
        for group, side in enumerate(sides)
        for name, identity in side.checkpoint.identities.items()
    }


def _side_files(target: Side, plan: Plan) -> dict[str, bytes]:
    """The index of the delta's shards, and the target's configuration and tokenizer."""
    files = dict(plan.others)
    if target.path != target.directory:
        return files
    for name in (*CONFIG_FILES, *TOKENIZER_FILES):
        path = target.directory / name
        if os.path.lexists(path):
            files[name] = read_small(path, f"{target.label}/{name}")
    return files


def _text(
    wanted: Wanted,
    drafted: Drafted,
    known: Inputs,
    base_weights: str,
    pins: Mapping[str, Pinned],
) -> Text:
    files = {
        ref.file: Pinned(m.size, m.sha256)
        for ref, m in known.materials.items()
        if ref.group == BASE and not (wanted.pin_weights and holds_weights(ref.file))
    }
    return Text(
        name=wanted.name,
        license=wanted.license,
        base_uri=wanted.base_uri,
        base=files,
        base_weights=base_weights if wanted.pin_weights else None,
        delta=pins,
        rules=drafted.rules,
        config=any(name in pins for name in CONFIG_FILES),
        tokenizer=any(name in pins for name in TOKENIZER_FILES),
        rows=None,
        dtype=None if drafted.output_dtype is None else drafted.output_dtype.long_name,
        max_shard_size=wanted.max_shard_size,
        outputs={},
        weights=None,
    )


def _prepared(
    text: Text, path: Path, materials: Mapping[FileRef, Material]
) -> tuple[Prepared, Text]:
    """The build of the delta's manifest; ``tokenizer.rows`` is set where the target needs it."""
    try:
        return prepare_located(parse_manifest(text.encode(), str(path)), materials), text
    except InvalidInput as e:
        if e.code != "tokenizer-rows":
            raise
        checkpoint = _delta_checkpoint(materials)
        text = replace(text, rows=rows_of(checkpoint.tensors))
    return prepare_located(parse_manifest(text.encode(), str(path)), materials), text


def _delta_checkpoint(materials: Mapping[FileRef, Material]) -> Checkpoint:
    paths = {ref.file: m.path for ref, m in materials.items() if ref.group == DELTA}
    return open_checkpoint(paths, "delta")


def _outputs(prepared: Prepared, digests: Mapping[str, str]) -> dict[str, Pinned]:
    """Pins of everything that applying the delta writes."""
    pins = {o.name: Pinned(o.size, digests[o.name]) for o in prepared.plan.outputs}
    for name, data in prepared.side_files.items():
        pins[name] = Pinned(len(data), sha256_hex(data))
    return pins
