"""``vbuild lock``: sizes and digests of the inputs, written into the manifest in place.

- A file that ``files`` lists gets the pin that it lacks; an input without ``files`` gets the
  table, with what ``discover.py`` finds. What is pinned already is compared and never replaced.
- Of a repository of the Hub, the Hub says sizes and digests, and the commit, which takes the
  place of a branch in the ``uri``; no weights are downloaded (``lock_hub.py``).
- Comments, order, line ends and the file's mode stay as they are. The new text is parsed again
  before it is written: it must say what the old one said, and the pins.
- With ``check`` nothing is written: gaps and untrue pins are the result.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbuild.digest import digest_mismatch, size_mismatch
from vbuild.errors import InvalidInput, NotLocked, VbuildError
from vbuild.files import Identity, InputFile, changed, os_error, read_small, write_atomic
from vbuild.formats.registry import HEAD, check_lfs_pointer, holds_weights
from vbuild.manifest.check import inputs
from vbuild.manifest.discover import companions, discover, place_of_directory
from vbuild.manifest.edit import NewUri, Pin, pinned_text
from vbuild.manifest.load import LoadedManifest, load_manifest, lock_command, unpinned_paths
from vbuild.manifest.lock_hub import look_up
from vbuild.manifest.outline import KeyPath, format_path
from vbuild.manifest.schema import Base, Delta
from vbuild.sources import repository_of, resolve

__all__ = ["HashFiles", "LockResult", "lock_manifest"]

HashFiles = Callable[[Sequence[Path]], Sequence[str]]
"""Paths -> their SHA-256 digests in hexadecimal, in the same order."""

_HINT = "get the right file, or delete the pin to accept this one"


@dataclass(frozen=True, slots=True)
class LockResult:
    """``changed``: the manifest was rewritten; ``text``: its bytes now.

    ``pinned`` files have a size or a digest that they did not have; ``resolved`` are the URIs
    that have got a commit. ``problems`` (with ``check`` only): a NotLocked for each gap, a Mismatch
    for each pin that is not true; empty if the manifest is locked and its pins hold.
    """

    changed: bool
    text: bytes
    problems: tuple[VbuildError, ...]
    pinned: int = 0
    resolved: tuple[NewUri, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    """A file to pin: where its pin stands or goes, what the pin says, and what the file is.

    ``name`` is for messages. A file on this machine has a ``path`` and an ``identity``; of one
    that only the Hub has, the ``digest`` is known.
    """

    place: KeyPath
    pinned: tuple[int | None, str | None]
    name: str
    size: int
    path: Path | None = None
    identity: Identity | None = None
    digest: str | None = None


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
    Mismatch where an existing pin is not true, Unavailable where an input is missing or the Hub
    does not answer.
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
    overrides = [base, *delta, *[None] * (len(loaded.manifest.delta) - len(delta))]
    files, uris = _collect(loaded, overrides, check)
    pins, problems = _judge(loaded, files, hash_files)
    if check:
        return LockResult(False, loaded.data, (*_gaps(loaded, overrides), *problems))
    if problems:
        raise problems[0]
    text = pinned_text(loaded.data, loaded.outline, pins, uris)
    if text != loaded.data:
        _write(path, loaded.data, text)
    pinned = sum(None in f.pinned for f in files if f.place[-2] == "files")
    return LockResult(text != loaded.data, text, (), pinned, tuple(uris))


def _collect(
    loaded: LoadedManifest, overrides: Sequence[Path | None], check: bool
) -> tuple[list[_File], list[NewUri]]:
    """Every file to pin, and the URIs that get a commit."""
    files: list[_File] = []
    uris: list[NewUri] = []
    for (path, side), override in zip(inputs(loaded.manifest), overrides, strict=True):
        listed = side.files or side.weights is not None
        if check and (not listed or not _is_fixed(side, override)):
            continue  # one of the gaps: nothing to compare
        if not side.files and any(o.format == "as-is" for o in loaded.manifest.outputs):
            raise InvalidInput(
                "weights-unclear",
                "which files are XORed is for you to say: nothing in them tells",
                where=loaded.place(path),
                hint='list them under `files`, as "NAME" = {}, and lock again',
            )
        repository = repository_of(side.uri, override)
        if repository is None:
            files += _local(loaded, path, side, override, check)
            continue
        found = look_up(loaded.manifest, path, side, repository)
        if found.repository != repository:
            uris.append(NewUri((*path, "uri"), found.repository.uri))
        for name, remote in sorted(found.files.items()):
            place, pinned = (*path, "files", name), _pinned(side, name)
            label = f"{found.repository.uri}/{name}"
            if remote.path is None:
                files.append(_File(place, pinned, label, remote.size, digest=remote.sha256))
            else:
                files.append(_file(place, pinned, remote.path))
    tokenizer = loaded.manifest.tokenizer
    if tokenizer is not None and tokenizer.tokens is not None:
        tokens = loaded.path.parent / tokenizer.tokens
        files.append(_file(("tokenizer", "tokens_sha256"), (None, tokenizer.tokens_sha256), tokens))
    return files, uris


def _local(
    loaded: LoadedManifest, path: KeyPath, side: Base | Delta, override: Path | None, check: bool
) -> list[_File]:
    option = "--base" if path == ("base",) else "--delta"
    source = resolve(side.uri, loaded.path.parent, override, option=option)
    names = sorted(side.files)
    if not names and not (check and side.weights is not None):
        place = place_of_directory(source.directory)
        names = discover(place, side.format, *companions(loaded.manifest, path))
    if side.weights is not None:  # the weights are pinned already, whatever files they are in
        unpinned = {n for n in names if holds_weights(n) and _pinned(side, n)[1] is None}
        names = [n for n in names if n not in unpinned]
    return [_file((*path, "files", n), _pinned(side, n), source.path(n)) for n in names]


def _pinned(side: Base | Delta, name: str) -> tuple[int | None, str | None]:
    pin = side.files.get(name)
    return (None, None) if pin is None else (pin.size, pin.sha256)


def _file(place: KeyPath, pinned: tuple[int | None, str | None], path: Path) -> _File:
    with InputFile(path, str(path)) as f:
        check_lfs_pointer(f.pread(0, min(f.size, HEAD)), f.name)
        return _File(place, pinned, str(path), f.size, path, f.identity)


def _judge(
    loaded: LoadedManifest, files: Sequence[_File], hash_files: HashFiles
) -> tuple[list[Pin], list[VbuildError]]:
    """The pins that hold, and a problem for each that does not; sizes are judged first."""
    problems: list[VbuildError] = []
    sized = []
    for f in files:
        size = f.pinned[0]
        if size in (None, f.size):
            sized.append(f)
        else:
            assert size is not None
            where = loaded.place(f.place)
            problems.append(size_mismatch(where, size, f.size, file=_name(f), hint=_HINT))
    pins = []
    for f, digest in zip(sized, _digests(sized, hash_files), strict=True):
        sha256 = f.pinned[1]
        if sha256 is not None and sha256 != digest:
            where = loaded.place(f.place)
            problems.append(digest_mismatch(where, sha256, digest, file=_name(f), hint=_HINT))
        pins.append(Pin(f.place, f.size, digest))
    return pins, problems


def _digests(files: Sequence[_File], hash_files: HashFiles) -> list[str]:
    """The SHA-256 of each file, which is hashed if it is on this machine."""
    paths = [f.path for f in files if f.path is not None]
    hashed = iter(hash_files(paths) if paths else ())
    digests = []
    for f in files:
        if f.path is None:
            assert f.digest is not None
            digests.append(f.digest)
            continue
        digests.append(next(hashed))
        with InputFile(f.path, f.name) as again:
            if again.identity != f.identity:
                raise changed(again.name)
    return digests


def _name(f: _File) -> str:
    return f"{format_path(f.place)}: {f.name}"


def _is_fixed(side: Base | Delta, override: Path | None) -> bool:
    """Whether the URI means the same files tomorrow, as far as it says which are meant."""
    repository = repository_of(side.uri, override)
    return repository is None or repository.is_commit


def _gaps(loaded: LoadedManifest, overrides: Sequence[Path | None]) -> list[VbuildError]:
    sides = zip(inputs(loaded.manifest), overrides, strict=True)
    uris = [(*path, "uri") for (path, side), override in sides if not _is_fixed(side, override)]
    return [
        NotLocked(
            "not-locked",
            f"{format_path(path)} is not pinned",
            where=loaded.place(path),
            hint=lock_command(loaded),
        )
        for path in (*uris, *unpinned_paths(loaded.manifest))
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
