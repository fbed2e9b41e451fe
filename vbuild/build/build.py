"""Making a model directory from a prepared build.

- Inputs are verified against their pins, outputs against theirs, before anything is published.
- A shard is kept once every file that it reads is verified, and what it has used of those that are
  walked has the tags of what was hashed (bad-inputs.md, 24).
- A shard that an earlier, interrupted run has finished is hashed again and kept.
- The caller seals the result: signing is a room above this one.
- An error removes the staging directory; an interruption leaves it for the next run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vbuild import _core
from vbuild.build.output import attest_directory, check_output
from vbuild.build.prepare import Prepared
from vbuild.build.receipt import Receipt
from vbuild.build.run import Task, run_tasks
from vbuild.build.staging import Staging, open_staging
from vbuild.digest import hash_files, kernels, sha256_hex, weights_digest
from vbuild.errors import Interrupted, Mismatch, Unavailable
from vbuild.files import changed, os_error
from vbuild.manifest import outputs
from vbuild.plan import FileRef, OutputFile
from vbuild.plan.order import Program, Range, finish
from vbuild.progress import Progress, Silence
from vbuild.table import RegionKind

__all__ = ["Built", "Sealed", "build"]


@dataclass(frozen=True, slots=True)
class Sealed:
    """What is added to a finished model: files in it (a signature), and files beside it."""

    model: Mapping[str, bytes] = field(default_factory=dict)
    attest: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Built:
    """A published model.

    ``files`` has the digest (hex) of every file in it but those that sealing has added; ``resumed``
    the weight files kept from an earlier run; ``weights`` the weights digest where it was pinned.
    """

    out: Path
    attest: Path
    files: Mapping[str, str]
    size: int
    resumed: tuple[str, ...]
    features: tuple[str, ...]
    weights: str | None = None


@dataclass(frozen=True, slots=True)
class _Made:
    """An output that is written, its receipt, and the tags of what it has used."""

    output: OutputFile
    receipt: Receipt
    uses: tuple[tuple[Range, bytes], ...]


@dataclass(slots=True)
class _State:
    """What a build has found so far."""

    receipts: dict[str, Receipt] = field(default_factory=dict)
    verified: set[FileRef] = field(default_factory=set)
    hashed: dict[Range, bytes] = field(default_factory=dict)  # tags of walk regions
    waiting: list[_Made] = field(default_factory=list)


def build(
    prepared: Prepared,
    out: Path,
    *,
    seal: Callable[[Mapping[str, str]], Sealed],
    jobs: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Built:
    """Build, seal and publish ``out``, an absolute path.

    ``seal`` gets the digest of every file by name. Raises InvalidInput where the output is in the
    way or a result is not finite, Mismatch where a digest is not the pinned one, Unavailable for
    what the system refuses, Interrupted.
    """
    sides = {m.label.split("/", 1)[0]: _source(m.path, m.ref) for m in prepared.materials.values()}
    check = partial(check_output, out, sides, prepared.loaded.path, force=force)
    check()
    own = kernels()
    with open_staging(out) as staging:
        try:
            check()  # again: a killed publication has been undone
            state = _resume(prepared, staging, jobs)
            resumed = tuple(sorted(state.receipts))
            _check_space(prepared, staging, state)
            tasks = _tasks(prepared, state)
            run_tasks(
                prepared,
                tasks,
                create=staging.create_part,
                scratch=staging.root,
                done=lambda task, result: _done(prepared, staging, state, task, result),
                kernels=own,
                jobs=jobs,
                progress=progress or Silence(),
                tag_key=os.urandom(_core.TAG_KEY_SIZE),
                tensor_digests={o.name for o in prepared.plan.outputs if _is_pinned(prepared, o)},
            )
            files = _digests(prepared, state)
            weights = _check_weights(prepared, state)
            _check_expected(prepared, files)
            sealed = seal(files)
            check()  # again: a build takes time, in which somebody may have made one
            names = [output.name for output in prepared.plan.outputs]
            model = {**prepared.side_files, **sealed.model}
            staging.publish(names, model, sealed.attest, force=force)
        except (Interrupted, KeyboardInterrupt) as e:
            raise Interrupted(
                "interrupted",
                "interrupted; finished shards are kept",
                hint="run the same command again to go on",
            ) from e
        except OSError as e:
            staging.remove()
            raise os_error(e, str(out), "write") from e
        except BaseException:
            staging.remove()
            raise
        staging.remove()
    size = prepared.plan.output_bytes + sum(map(len, prepared.side_files.values()))
    return Built(out, attest_directory(out), files, size, resumed, own.features, weights)


def _source(path: Path, ref: FileRef) -> Path:
    """The directory of an input: ``path`` without the file's key."""
    return path.parents[ref.file.count("/")]


def _resume(prepared: Prepared, staging: Staging, jobs: int | None) -> _State:
    """The shards that are finished: made by this vbuild from this manifest and table, and still the
    same bytes. Everything else of earlier runs is removed."""
    state = _State()
    found: list[tuple[str, Receipt]] = []
    for output in prepared.plan.outputs:
        receipt = staging.kept(output.name)
        if receipt is not None and _applies(receipt, prepared, output):
            found.append((output.name, receipt))
    names = [name for name, _ in found]
    digests = hash_files([staging.part(name) for name in names], names, jobs=jobs)
    for (name, receipt), digest in zip(found, digests, strict=True):
        if digest == receipt.sha256:
            state.receipts[name] = receipt
    staging.drop_others(state.receipts)
    return state


def _is_pinned(prepared: Prepared, output: OutputFile) -> bool:
    """Whether the manifest pins the weights digest of what ``output`` belongs to."""
    return prepared.loaded.manifest.outputs[output.container].weights is not None


def _receipt(
    prepared: Prepared, output: OutputFile, sha256: str, tensors: tuple[str, ...]
) -> Receipt:
    return Receipt(
        _core.VERSION, prepared.loaded.digest, output.digest, sha256, output.size, tensors
    )


def _applies(receipt: Receipt, prepared: Prepared, output: OutputFile) -> bool:
    """Whether a receipt is one that this build could have written for ``output``."""
    tensors = len(output.recipes) if _is_pinned(prepared, output) else 0
    same = receipt == _receipt(prepared, output, receipt.sha256, receipt.tensors)
    return same and len(receipt.tensors) == tensors


def _check_space(prepared: Prepared, staging: Staging, state: _State) -> None:
    """Say that the disk is too small before the first byte is written (bad-inputs.md, 27)."""
    needed = sum(o.size for o in prepared.plan.outputs if o.name not in state.receipts)
    needed += sum(map(len, prepared.side_files.values()))
    free = shutil.disk_usage(staging.root).free
    if needed > free:
        raise Unavailable(
            "disk-full",
            "there is not enough room for the output",
            where=str(staging.out),
            expected=f"{needed} bytes free",
            got=f"{free} bytes",
            hint="free some space, or choose another disk with --out DIR",
        )


def _tasks(prepared: Prepared, state: _State) -> list[Task]:
    """What is left to do; files that only finished shards have hashed are hashed again if any
    other shard reads them."""
    tasks = [
        Task(output.program, output)
        for output in prepared.plan.outputs
        if output.name not in state.receipts
    ]
    rest = prepared.plan.rest
    hashed = _hashed([t.program for t in tasks])
    missing = {ref for t in tasks for ref in t.program.files} - hashed
    if missing:
        layouts = {ref: prepared.layouts[ref] for ref in missing}
        regions = [region for t in tasks for region in t.program.regions]
        used = [r for kind, r in regions if kind is RegionKind.USE and r.ref in missing]
        again = finish([], layouts, used=used)
        tasks += [Task(program, None) for program in again]
    if rest is not None:
        tasks.append(Task(rest, None))
    return tasks


def _hashed(programs: Sequence[Program]) -> set[FileRef]:
    return {
        ref
        for program in programs
        for ref, (mode, _) in zip(program.files, program.table.sources, strict=True)
        if mode
    }


def _done(
    prepared: Prepared, staging: Staging, state: _State, task: Task, result: _core.Result
) -> None:
    """A program has ended and its inputs are right: write the receipts that this allows.

    A shard that reads a file which another program hashes waits until that file is verified.
    Mismatch (``file-changed``) if it has used other bytes than were hashed.
    """
    state.verified |= _hashed([task.program])
    tags = list(zip(task.program.regions, result.regions, strict=True))
    state.hashed |= {region: tag for (kind, region), tag in tags if kind is RegionKind.WALK}
    if task.output is not None and result.output is not None:
        tensors = tuple(digest.hex() for digest in result.tensors)
        receipt = _receipt(prepared, task.output, result.output.hex(), tensors)
        uses = tuple((region, tag) for (kind, region), tag in tags if kind is RegionKind.USE)
        state.waiting.append(_Made(task.output, receipt, uses))
    waiting, state.waiting = state.waiting, []
    for made in waiting:
        if not state.verified.issuperset(made.output.program.files):
            state.waiting.append(made)
            continue
        _check_uses(prepared, state, made)
        staging.keep(made.output.name, made.receipt)
        state.receipts[made.output.name] = made.receipt


def _check_uses(prepared: Prepared, state: _State, made: _Made) -> None:
    """Mismatch unless the bytes that an output has used are those that were hashed."""
    for region, tag in made.uses:
        if state.hashed.get(region) != tag:
            raise changed(prepared.materials[region.ref].label)


def _digests(prepared: Prepared, state: _State) -> dict[str, str]:
    """Digest of every output file by name, sorted."""
    digests = {o.name: state.receipts[o.name].sha256 for o in prepared.plan.outputs}
    digests |= {name: sha256_hex(data) for name, data in prepared.side_files.items()}
    return dict(sorted(digests.items()))


def _check_weights(prepared: Prepared, state: _State) -> str | None:
    """The weights digest of the first output whose digest the manifest pins; Mismatch if that of
    any output is another one than its pin."""
    found: list[str] = []
    for i, (path, asked) in enumerate(outputs(prepared.loaded.manifest)):
        if asked.weights is None:
            continue
        digests = {
            recipe.name: bytes.fromhex(digest)
            for o in prepared.plan.outputs
            if o.container == i
            for recipe, digest in zip(o.recipes, state.receipts[o.name].tensors, strict=True)
        }
        found.append(weights_digest(digests))
        if found[-1] != asked.weights:
            raise Mismatch(
                "weights-mismatch",
                "the weights are not the ones that the manifest expects",
                where=prepared.loaded.place((*path, "weights")),
                expected=asked.weights,
                got=found[-1],
            )
    return found[0] if found else None


def _check_expected(prepared: Prepared, files: Mapping[str, str]) -> None:
    """Enforce ``[output.files]`` (bad-inputs.md, 63)."""
    pins = [
        ((*path, "files", name), name, pin)
        for path, output in outputs(prepared.loaded.manifest)
        for name, pin in sorted(output.files.items())
    ]
    for path, name, pin in pins:
        if files[name] != pin.sha256:
            raise Mismatch(
                "output-mismatch",
                f"{name} is not what the manifest expects: sha256",
                where=prepared.loaded.place(path),
                expected=pin.sha256,
                got=files[name],
                hint="the build was removed; compare vbuild's version and the manifest with those "
                "of whoever wrote the pin",
            )
