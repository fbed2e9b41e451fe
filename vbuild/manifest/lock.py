"""``vbuild lock``: sizes and digests of the inputs, written into the manifest in place.

- A file that ``files`` lists gets the pin that it lacks; an input without ``files`` gets the
  table, with what ``discover.py`` finds. What is pinned already is compared and never replaced.
- Comments, order, line ends and the file's mode stay as they are. The new text is parsed again
  before it is written: it must say what the old one said, and the pins.
- With ``check`` nothing is written: gaps and untrue pins are the result.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbuild.errors import InvalidInput, Mismatch, NotLocked, VbuildError
from vbuild.files import Identity, InputFile, changed, os_error, read_small, write_atomic
from vbuild.formats.registry import HEAD, check_lfs_pointer
from vbuild.manifest.check import inputs
from vbuild.manifest.discover import companions, discover
from vbuild.manifest.edit import Pin, pinned_text
from vbuild.manifest.load import LoadedManifest, load_manifest, lock_command, unpinned_paths
from vbuild.manifest.outline import KeyPath, format_path
from vbuild.sources import resolve

__all__ = ["HashFiles", "LockResult", "lock_manifest"]

HashFiles = Callable[[Sequence[Path]], Sequence[str]]
"""Paths -> their SHA-256 digests in hexadecimal, in the same order."""


@dataclass(frozen=True, slots=True)
class LockResult:
    """``changed``: the manifest was rewritten; ``text``: its bytes now.

    ``problems`` (with ``check`` only): a NotLocked for each gap, a Mismatch for each pin that is
    not true; empty if the manifest is locked and its pins hold.
    """

    changed: bool
    text: bytes
    problems: tuple[VbuildError, ...]


@dataclass(frozen=True, slots=True)
class _File:
    """A file to pin: where its pin stands or goes, where it is, and what is known of it."""

    place: KeyPath
    path: Path
    size: int | None
    sha256: str | None
    identity: Identity


def lock_manifest(
    path: Path,
    *,
    hash_files: HashFiles,
    base: Path | None = None,
    delta: Sequence[Path] = (),
    check: bool = False,
) -> LockResult:
    """Pin the inputs of the manifest ``path`` in place, or say what ``check`` finds.

    ``base`` and ``delta`` are directories that replace the URIs, the deltas in order. Raises
    Mismatch where an existing pin is not true, Unavailable where an input is missing.
    """
    loaded = load_manifest(path)
    if len(delta) > len(loaded.manifest.delta):
        raise InvalidInput(
            "too-many-deltas",
            "more deltas given than the manifest has",
            where=str(path),
            expected=f"at most {len(loaded.manifest.delta)}",
            got=len(delta),
        )
    files = _collect(loaded, [base, *delta], check)
    pins, problems = _judge(loaded, files, hash_files)
    if check:
        return LockResult(False, loaded.data, (*_gaps(loaded), *problems))
    if problems:
        raise problems[0]
    text = pinned_text(loaded.data, loaded.outline, pins)
    if text != loaded.data:
        _write(path, loaded.data, text)
    return LockResult(text != loaded.data, text, ())


def _collect(loaded: LoadedManifest, overrides: Sequence[Path | None], check: bool) -> list[_File]:
    manifest, here = loaded.manifest, loaded.path.parent
    files: list[_File] = []
    for i, (path, side) in enumerate(inputs(manifest)):
        option = "--delta" if i else "--base"
        override = overrides[i] if i < len(overrides) else None
        if check and not side.files:
            continue  # one of the gaps: nothing to compare
        source = resolve(side.uri, here, override, option=option)
        names = sorted(side.files)
        if not names and manifest.output.format == "as-is":
            raise InvalidInput(
                "weights-unclear",
                "which files are XORed is for you to say: nothing in them tells",
                where=loaded.place(path),
                hint='list them under `files`, as "NAME" = {}, and lock again',
            )
        if not names:
            names = discover(source.directory, side.format, *companions(manifest, path))
        for name in names:
            pin = side.files.get(name)
            size, sha256 = (pin.size, pin.sha256) if pin else (None, None)
            files.append(_file((*path, "files", name), source.path(name), size, sha256))
    tokenizer = manifest.tokenizer
    if tokenizer is not None and tokenizer.tokens is not None:
        place = ("tokenizer", "tokens_sha256")
        files.append(_file(place, here / tokenizer.tokens, None, tokenizer.tokens_sha256))
    return files


def _file(place: KeyPath, path: Path, size: int | None, sha256: str | None) -> _File:
    with InputFile(path, str(path)) as f:
        check_lfs_pointer(f.pread(0, min(f.size, HEAD)), f.name)
        return _File(place, path, size, sha256, f.identity)


def _judge(
    loaded: LoadedManifest, files: Sequence[_File], hash_files: HashFiles
) -> tuple[list[Pin], list[VbuildError]]:
    """The pins that hold, and a problem for each that does not; sizes are judged first."""
    problems: list[VbuildError] = []
    sized = []
    for f in files:
        if f.size in (None, f.identity.size):
            sized.append(f)
        else:
            problems.append(_untrue(loaded, f, "size", str(f.size), str(f.identity.size)))
    pins = []
    digests = hash_files([f.path for f in sized]) if sized else ()
    for f, digest in zip(sized, digests, strict=True):
        with InputFile(f.path, str(f.path)) as again:
            if again.identity != f.identity:
                raise changed(again.name)
        if f.sha256 not in (None, digest):
            problems.append(_untrue(loaded, f, "sha256", str(f.sha256), digest))
        pins.append(Pin(f.place, f.identity.size, digest))
    return pins, problems


def _untrue(loaded: LoadedManifest, f: _File, key: str, pinned: str, actual: str) -> Mismatch:
    return Mismatch(
        f"{key}-mismatch",
        f"{format_path(f.place)}: {f.path} has another {key} than the manifest says",
        where=loaded.place(f.place),
        expected=pinned,
        got=actual,
        hint="get the right file, or delete the pin to accept this one",
    )


def _gaps(loaded: LoadedManifest) -> list[VbuildError]:
    return [
        NotLocked(
            "not-locked",
            f"{format_path(path)} is not pinned",
            where=loaded.place(path),
            hint=lock_command(loaded),
        )
        for path in unpinned_paths(loaded.manifest)
    ]


def _write(path: Path, before: bytes, text: bytes) -> None:
    """Replace the manifest, or the file that a symbolic link to it names.

    Mismatch (``file-changed``) if it is not what was read ``before``: hashing takes minutes, and
    what somebody has written meanwhile must not be lost.
    """
    if read_small(path, str(path)) != before:
        raise changed(str(path))
    try:
        target = path.resolve()
        write_atomic(target, text, mode=stat.S_IMODE(target.stat().st_mode))
    except OSError as e:
        raise os_error(e, str(path), "write") from e
