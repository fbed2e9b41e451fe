"""Where a build's results go, and whether they may: nothing that is not ours is replaced.

- An output stands beside its attest directory and, while it is built, its staging directory; none
  of them lies in or around an input.
- ``--force`` replaces what vbuild has made, not what somebody has put there since.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vbuild.errors import InvalidInput
from vbuild.files import os_error, read_small

__all__ = ["attest_directory", "check_output", "staging_directory"]

SIGNATURE_NAME = "model.sig"
SUMS_NAME = "SHA256SUMS"


def attest_directory(out: Path) -> Path:
    """Where the files beside the model directory ``out`` go."""
    return out.with_name(out.name + ".attest")


def staging_directory(out: Path) -> Path:
    """Where ``out`` is built: beside it, so that publishing is a rename."""
    return out.with_name(f".{out.name}.vbuild")


def check_output(out: Path, inputs: Mapping[str, Path], manifest: Path, *, force: bool) -> None:
    """Refuse an output that exists or lies in an input's directory (bad-inputs.md, 11).

    ``inputs`` are directories by label. With ``force`` an existing output is accepted if it is
    empty, or one that vbuild has made and that nobody has put anything into. An attest directory
    without its model is always replaced, but nothing else that has its name. Raises InvalidInput,
    and Unavailable where the system does not tell.
    """
    if not out.name:
        raise InvalidInput("output-exists", "the root directory is no output", where=str(out))
    try:
        for place in (out, attest_directory(out), staging_directory(out)):
            _check_apart(place, inputs)
        _check_attest(attest_directory(out))
        if os.path.lexists(out):
            _check_existing(out, manifest, force)
    except OSError as e:
        raise os_error(e, e.filename or str(out), "read") from e


def _check_apart(place: Path, inputs: Mapping[str, Path]) -> None:
    real = _real(place)
    for label, directory in inputs.items():
        source = _real(directory)
        if real == source or source in real.parents or real in source.parents:
            raise InvalidInput(
                "output-in-input",
                f"the output would be inside the directory of the {label}, or around it",
                where=str(place),
                hint="choose another directory with --out DIR",
            )


def _check_attest(attest: Path) -> None:
    if os.path.lexists(attest) and not _is_replaceable(attest, attest / SUMS_NAME):
        raise InvalidInput(
            "output-not-ours",
            "something that vbuild has not made is where the attest directory goes",
            where=str(attest),
            hint="move it away, or choose another directory with --out DIR",
        )


def _check_existing(out: Path, manifest: Path, force: bool) -> None:
    if not force:
        raise InvalidInput(
            "output-exists",
            "the output exists already",
            where=str(out),
            hint="replace it with --force, or choose another directory with --out DIR",
        )
    sums = attest_directory(out) / SUMS_NAME
    if not _is_replaceable(out, out / SIGNATURE_NAME, sums):
        raise InvalidInput(
            "output-not-ours",
            "--force replaces only an empty directory or one that vbuild has made",
            where=str(out),
            hint="remove it yourself, or choose another directory with --out DIR",
        )
    inside = _real(out) in _real(manifest).parents
    stranger = manifest.name if inside else _stranger(out, sums)
    if stranger is not None:
        raise InvalidInput(
            "output-not-ours",
            f"--force would delete {stranger}, which vbuild has not made",
            where=str(out),
            hint="move it away, or choose another directory with --out DIR",
        )


def _is_replaceable(directory: Path, *marks: Path) -> bool:
    """Whether ``directory`` is empty, or has a file that tells that vbuild has made it."""
    if directory.is_symlink() or not directory.is_dir():
        return False
    return any(mark.is_file() for mark in marks) or not any(directory.iterdir())


def _stranger(out: Path, sums: Path) -> str | None:
    """The first file in ``out`` that ``sums`` does not list, if there is such a list."""
    if not sums.is_file():
        return None
    text = read_small(sums, str(sums)).decode("utf-8", "surrogateescape")
    listed = {name for line in text.split("\n") for _, gap, name in [line.partition("  ")] if gap}
    found = sorted(
        str((Path(directory) / name).relative_to(out))
        for directory, _, names in os.walk(out)
        for name in names
    )
    return next((n for n in found if n not in listed and n != SIGNATURE_NAME), None)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
