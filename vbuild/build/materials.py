"""The files that a manifest pins: where they are, and whether they are what it says.

- Only files under ``files`` are looked at, and every one of them, used or not.
- A missing file, a wrong type and a wrong size are said before anything is hashed
  (bad-inputs.md, 16, 18, 20); ``verify`` says it of each file, everything else of the first one.
- Small files that are not weights are read once, into memory: the bytes hashed are the bytes used.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from vbuild.build.weights_pin import pins_by_weights
from vbuild.digest import digest_mismatch, hash_files, sha256_hex, size_mismatch
from vbuild.errors import InvalidInput, Mismatch, Unavailable, VbuildError
from vbuild.files import SMALL_FILE_LIMIT, open_regular, read_small
from vbuild.manifest import Base, Delta, FilePin, LoadedManifest
from vbuild.manifest.check import inputs
from vbuild.plan import FileRef
from vbuild.progress import Progress
from vbuild.sources import Source, resolve

__all__ = [
    "Material",
    "check_digest",
    "check_overrides",
    "group_label",
    "locate",
    "untrue_weights",
    "verify_inputs",
    "verify_materials",
]


@dataclass(frozen=True, slots=True)
class Material:
    """An input file: ``ref`` names it, ``sha256`` is its pin, ``uri`` where it came from.

    ``hint`` is what to do if it is not the pinned one, where that is known; ``side`` is what
    messages call the input, where it is neither a base nor a delta.
    """

    ref: FileRef
    path: Path
    size: int
    sha256: str
    uri: str
    hint: str | None = None
    side: str | None = None

    @property
    def label(self) -> str:
        """How messages name it: ``base/model.bin``."""
        return f"{self.side or group_label(self.ref.group)}/{self.ref.file}"


def group_label(group: int) -> str:
    """``base`` for 0, ``delta`` for the first delta, ``delta[2]`` for the next."""
    return "base" if group == 0 else "delta" if group == 1 else f"delta[{group}]"


WEIGHTS = "weights"
"""What stands for the files of an input whose weights are not the pinned ones."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a pinned file should be; ``problem`` is why the input's directory cannot be used."""

    ref: FileRef
    pin: FilePin
    source: Source | None
    uri: str
    problem: VbuildError | None = None

    @property
    def label(self) -> str:
        return f"{group_label(self.ref.group)}/{self.ref.file}"


def check_overrides(loaded: LoadedManifest, deltas: Sequence[Path]) -> None:
    """InvalidInput if there are more ``deltas`` than the manifest has."""
    if len(deltas) > len(loaded.manifest.delta):
        raise InvalidInput(
            "too-many-deltas",
            "more --delta options than the manifest has deltas",
            expected=len(loaded.manifest.delta),
            got=len(deltas),
        )


def locate(
    loaded: LoadedManifest,
    base: Path | None = None,
    deltas: Sequence[Path] = (),
    *,
    progress: Progress | None = None,
) -> dict[FileRef, Material]:
    """Every material of a locked manifest; ``base`` and ``deltas`` override the URIs.

    Raises Unavailable for what is missing, InvalidInput for what is no regular file, Mismatch for
    a size that is not the pinned one. The digests are not looked at, but for inputs that are pinned
    by their weights: these are hashed here, which ``progress`` hears of, and their files' digests
    become pins.
    """
    places = _places(loaded, base, deltas, progress)
    return {place.ref: _material(loaded, place) for place in places}


def _places(
    loaded: LoadedManifest,
    base: Path | None,
    deltas: Sequence[Path],
    progress: Progress | None = None,
) -> Iterator[_Place]:
    check_overrides(loaded, deltas)
    manifest = loaded.manifest
    overrides = [base, *deltas, *[None] * (len(manifest.delta) - len(deltas))]
    sides: tuple[Base | Delta, ...] = (manifest.base, *manifest.delta)
    for group, side in enumerate(sides):
        option = "--delta" if group else "--base"
        source: Source | None = None
        problem: VbuildError | None = None
        try:
            source = resolve(side.uri, loaded.path.parent, overrides[group], option=option)
        except (InvalidInput, Unavailable) as e:
            problem = e
        files = dict(side.files)
        if side.weights is not None and source is None:
            files = {WEIGHTS: FilePin(sha256=side.weights)}
        elif side.weights is not None and source is not None:
            where = loaded.place((*inputs(manifest)[group][0], "weights"))
            label = group_label(group)
            try:
                found = pins_by_weights(side, source, label, where, progress=progress)
                files |= {n: pin for n, pin in found.items() if n not in files or not files[n].sha256}
            except (InvalidInput, Unavailable, Mismatch) as e:
                files, problem = {WEIGHTS: FilePin(sha256=side.weights)}, e
        for name in sorted(files):
            yield _Place(FileRef(group, name), files[name], source, side.uri, problem)


def untrue_weights(
    loaded: LoadedManifest,
    base: Path | None = None,
    deltas: Sequence[Path] = (),
    *,
    progress: Progress | None = None,
) -> tuple[Mismatch, ...]:
    """A Mismatch for each input whose weights are not the pinned ones; errors as for ``locate``."""
    problems = []
    for place in _places(loaded, base, deltas, progress):
        if place.ref.file == WEIGHTS and isinstance(place.problem, Mismatch):
            problems.append(place.problem)
        elif place.ref.file == WEIGHTS and place.problem is not None:
            raise place.problem
    return tuple(problems)


def _material(loaded: LoadedManifest, place: _Place) -> Material:
    if place.problem is not None:
        raise place.problem
    assert place.source is not None
    assert place.pin.sha256 is not None, "the manifest is locked"
    path = place.source.path(place.ref.file)
    manifest = shlex.quote(str(loaded.path))
    hint = None
    if place.source.fetched:
        hint = f"the cached file is damaged, get it again: vbuild fetch {manifest} --refetch"
    try:
        size = _size(path, place.label, place.pin.size, hint)
    except InvalidInput as e:  # no regular file
        e.hint = e.hint or hint
        raise
    except Unavailable as e:
        if place.source.fetched and e.code == "file-missing":
            raise Unavailable(
                "not-fetched",
                f"it has not been downloaded yet from {place.uri}",
                where=place.label,
                hint=f"vbuild fetch {manifest}",
            ) from e
        raise
    return Material(place.ref, path, size, place.pin.sha256, place.uri, hint)


def _size(path: Path, label: str, pinned: int | None, hint: str | None) -> int:
    fd = open_regular(path, label)
    try:
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    if pinned is not None and size != pinned:
        raise size_mismatch(label, pinned, size, hint=hint)
    return size


def check_digest(material: Material, got: str) -> None:
    """Mismatch (``digest-mismatch``) if ``got`` is not the material's pin."""
    if got != material.sha256:
        raise digest_mismatch(material.label, material.sha256, got, hint=material.hint)


def read_material(material: Material) -> bytes:
    """The bytes of a small file, checked against its pin."""
    data = read_small(material.path, material.label)
    check_digest(material, sha256_hex(data))
    return data


def is_small(material: Material) -> bool:
    """Whether the file fits in memory."""
    return material.size <= SMALL_FILE_LIMIT


@dataclass(frozen=True, slots=True)
class InputVerdict:
    """What became of an input: ``actual`` is its digest, ``problem`` why there is none.

    ``hint`` is what to do if it is not the pinned one, where that is known.
    """

    label: str
    expected: str
    actual: str | None
    problem: VbuildError | None = None
    hint: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the file is the pinned one."""
        return self.actual == self.expected

    @property
    def missing(self) -> bool:
        """Whether nobody knows what the file is: it is not there, or cannot be read."""
        return isinstance(self.problem, Unavailable)


HashFiles: TypeAlias = Callable[[Sequence[Path], Sequence[str]], Sequence[str]]
"""Paths and their names in errors -> SHA-256 digests in hexadecimal, in the same order."""


def verify_inputs(
    loaded: LoadedManifest,
    base: Path | None = None,
    deltas: Sequence[Path] = (),
    *,
    hash_files: HashFiles = hash_files,
) -> tuple[InputVerdict, ...]:
    """Judge every material of a locked manifest, also those that are missing; see ``locate``."""
    materials: dict[FileRef, Material] = {}
    verdicts: dict[FileRef, InputVerdict] = {}
    for place in _places(loaded, base, deltas):
        try:
            materials[place.ref] = _material(loaded, place)
        except (Unavailable, InvalidInput, Mismatch) as e:
            pin = str(place.pin.sha256)
            verdicts[place.ref] = InputVerdict(place.label, pin, None, e, e.hint)
    known = verify_materials(materials, hash_files=hash_files)
    verdicts |= dict(zip(sorted(materials), known, strict=True))
    return tuple(verdicts[ref] for ref in sorted(verdicts))


def verify_materials(
    materials: Mapping[FileRef, Material], *, hash_files: HashFiles = hash_files
) -> tuple[InputVerdict, ...]:
    """Hash every material and compare it with its pin, in order."""
    listed = [materials[ref] for ref in sorted(materials)]
    digests = hash_files([m.path for m in listed], [m.label for m in listed])
    return tuple(
        InputVerdict(m.label, m.sha256, digest, hint=m.hint)
        for m, digest in zip(listed, digests, strict=True)
    )


def first_mismatch(materials: Mapping[FileRef, Material]) -> Mismatch | None:
    """The error for the first material that is not what its pin says, or None."""
    for verdict in verify_materials(materials):
        if not verdict.ok:
            got = str(verdict.actual)
            return digest_mismatch(verdict.label, verdict.expected, got, hint=verdict.hint)
    return None
