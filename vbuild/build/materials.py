"""The files that a manifest pins: where they are, and whether they are what it says.

- Only files under ``files`` are looked at, and every one of them, used or not.
- A missing file, a wrong type and a wrong size are said before anything is hashed
  (bad-inputs.md, 16, 18, 20).
- Small files that are not weights are read once, into memory: the bytes hashed are the bytes used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbuild import _core
from vbuild.digest import hash_files, sha256_hex
from vbuild.errors import InvalidInput, Mismatch, VbuildError
from vbuild.files import SMALL_FILE_LIMIT, open_regular, read_small
from vbuild.manifest import Base, Delta, LoadedManifest
from vbuild.plan import FileRef
from vbuild.sources import resolve

__all__ = [
    "Material",
    "check_digest",
    "digest_mismatch",
    "group_label",
    "locate",
    "verify_materials",
]


@dataclass(frozen=True, slots=True)
class Material:
    """An input file: ``ref`` names it, ``sha256`` is its pin, ``uri`` where it came from.

    ``side`` is what messages call the input, where it is neither a base nor a delta.
    """

    ref: FileRef
    path: Path
    size: int
    sha256: str
    uri: str
    side: str | None = None

    @property
    def label(self) -> str:
        """How messages name it: ``base/model.bin``."""
        return f"{self.side or group_label(self.ref.group)}/{self.ref.file}"


def group_label(group: int) -> str:
    """``base`` for 0, ``delta`` for the first delta, ``delta[2]`` for the next."""
    return "base" if group == 0 else "delta" if group == 1 else f"delta[{group}]"


def locate(
    loaded: LoadedManifest, base: Path | None = None, deltas: Sequence[Path] = ()
) -> dict[FileRef, Material]:
    """Every material of a locked manifest; ``base`` and ``deltas`` override the URIs.

    Raises Unavailable for what is missing, InvalidInput for what is no regular file, Mismatch for
    a size that is not the pinned one. The digests are not looked at.
    """
    manifest = loaded.manifest
    if len(deltas) > len(manifest.delta):
        raise InvalidInput(
            "too-many-deltas",
            "more --delta options than the manifest has deltas",
            expected=len(manifest.delta),
            got=len(deltas),
        )
    overrides = [base, *deltas, *[None] * (len(manifest.delta) - len(deltas))]
    materials: dict[FileRef, Material] = {}
    sides: tuple[Base | Delta, ...] = (manifest.base, *manifest.delta)
    for group, side in enumerate(sides):
        option = "--delta" if group else "--base"
        source = resolve(side.uri, loaded.path.parent, overrides[group], option=option)
        for name in sorted(side.files):
            pin = side.files[name]
            assert pin.sha256 is not None, "the manifest is locked"
            ref = FileRef(group, name)
            size = _size(source.path(name), f"{group_label(group)}/{name}", pin.size)
            materials[ref] = Material(ref, source.path(name), size, pin.sha256, side.uri)
    return materials


def _size(path: Path, label: str, pinned: int | None) -> int:
    fd = open_regular(path, label)
    try:
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    if pinned is not None and size != pinned:
        raise Mismatch(
            "size-mismatch",
            "the file does not have the size that the manifest pins",
            where=label,
            expected=f"{pinned} bytes",
            got=f"{size} bytes",
            hint="it is truncated, or another file; get it again, or look for the right one",
        )
    return size


def digest_mismatch(label: str, expected: str, got: str) -> Mismatch:
    """The error for an input whose digest is not its pin."""
    return Mismatch(
        "digest-mismatch",
        "the file is not the one that the manifest pins: sha256",
        where=label,
        expected=expected,
        got=got,
        hint="get the file that the manifest means; a different base gives a different model",
    )


def check_digest(material: Material, got: str) -> None:
    """Mismatch (``digest-mismatch``) if ``got`` is not the material's pin."""
    if got != material.sha256:
        raise digest_mismatch(material.label, material.sha256, got)


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
    """What became of an input: ``actual`` is its digest, ``problem`` why there is none."""

    label: str
    expected: str
    actual: str | None
    problem: VbuildError | None = None

    @property
    def ok(self) -> bool:
        """Whether the file is the pinned one."""
        return self.actual == self.expected


def verify_materials(
    materials: Mapping[FileRef, Material],
    *,
    jobs: int | None = None,
    control: _core.Control | None = None,
) -> tuple[InputVerdict, ...]:
    """Hash every material and compare it with its pin, in order."""
    listed = [materials[ref] for ref in sorted(materials)]
    digests = hash_files(
        [m.path for m in listed], [m.label for m in listed], jobs=jobs, control=control
    )
    return tuple(
        InputVerdict(m.label, m.sha256, digest) for m, digest in zip(listed, digests, strict=True)
    )


def first_mismatch(materials: Mapping[FileRef, Material]) -> Mismatch | None:
    """The error for the first material that is not what its pin says, or None."""
    for verdict in verify_materials(materials):
        if not verdict.ok:
            return digest_mismatch(verdict.label, verdict.expected, str(verdict.actual))
    return None
