"""What a build made, and what differs between two of them: both as data.

- A file is compared by digest, and between rebuilds by its mode, which the umask must not touch.
- What lies beside a model (its sums, its provenance) is compared between rebuilds, too; only
  ``buildinfo.json``, which is about the machine, is not.
- Everything is compared with the first observation.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from vbuild.attest.names import SIGNATURE
from vbuild.attest.tree import list_tree, path_of, signable
from vbuild.digest import hash_files
from vbuild.files import os_error

__all__ = ["Difference", "Observation", "differences", "observe_build", "observe_model"]

Aspect: TypeAlias = Literal["sha256", "mode", "beside"]

NOT_COMPARED: Final = ("buildinfo.json",)


@dataclass(frozen=True, slots=True)
class Observation:
    """The files of one model.

    ``files`` maps names to digests in hex; ``modes`` (four octal digits) and ``beside`` (digests
    of the files beside the model) are None where they are nobody's business. ``conditions`` are
    those of a rebuild, empty for a model that was there before.
    """

    name: str
    files: Mapping[str, str]
    modes: Mapping[str, str] | None = None
    beside: Mapping[str, str] | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same in ``first`` and ``other``, names of observations.

    ``aspect`` is ``sha256`` or ``mode`` of the model's file ``file``, or ``beside`` for the digest
    of a file beside the model. ``expected`` is what ``first`` has, ``got`` what ``other`` has; None
    means that the file is not there.
    """

    file: str
    aspect: Aspect
    first: str
    other: str
    expected: str | None
    got: str | None


def observe_model(directory: Path, name: str) -> Observation:
    """The model in ``directory``: every file that a signature would cover.

    Raises what listing and hashing raise; InvalidInput for a link or the like in it.
    """
    listed, _ = signable(directory, list_tree(directory))
    labels = [f"{directory}/{file}" for file in listed]
    digests = hash_files([path_of(directory, file) for file in listed], labels)
    return Observation(name, dict(zip(listed, digests, strict=True)))


def observe_build(out: Path, attest: Path, name: str, conditions: Mapping[str, str]) -> Observation:
    """What a rebuild has made: the model ``out``, with modes, and ``attest`` beside it."""
    model = observe_model(out, name)
    beside = sorted(
        file for file in list_tree(attest).files if file not in (*NOT_COMPARED, SIGNATURE)
    )
    digests = hash_files([attest / file for file in beside])
    return Observation(
        name,
        model.files,
        {file: _mode(path_of(out, file)) for file in model.files},
        dict(zip(beside, digests, strict=True)),
        conditions,
    )


def _mode(path: Path) -> str:
    try:
        return f"{stat.S_IMODE(path.lstat().st_mode):04o}"
    except OSError as e:
        raise os_error(e, str(path), "read") from e


def differences(observations: Sequence[Observation]) -> tuple[Difference, ...]:
    """What differs from the first observation, in order of the others and of file names."""
    first, *others = observations
    return tuple(d for other in others for d in _between(first, other))


def _between(first: Observation, other: Observation) -> list[Difference]:
    aspects: tuple[tuple[Aspect, Mapping[str, str] | None, Mapping[str, str] | None], ...] = (
        ("sha256", first.files, other.files),
        ("mode", first.modes, other.modes),
        ("beside", first.beside, other.beside),
    )
    found = []
    for aspect, expected, got in aspects:
        if expected is None or got is None:
            continue
        # A file that only one of them has is reported once, by its digest.
        names = expected.keys() & got.keys() if aspect == "mode" else expected.keys() | got.keys()
        found += [
            Difference(name, aspect, first.name, other.name, expected.get(name), got.get(name))
            for name in sorted(names)
            if expected.get(name) != got.get(name)
        ]
    return found
