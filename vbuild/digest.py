"""SHA-256 of files, several at a time; and the digest of a model's weights.

- Files are dealt to threads by size, and each thread hashes several interleaved, which is what
  makes verification cheap (performance.md: 1.7 x one stream and more).
- A file is opened, identified, read once from begin to end, and identified again.
- The weights digest does not depend on the container (numerics.md, weights digest).
"""

from __future__ import annotations

import hashlib
import heapq
import os
import resource
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vbuild import _core
from vbuild.errors import Interrupted, InvalidInput, Mismatch, Unavailable, VbuildError
from vbuild.files import Identity, changed, open_regular, os_error
from vbuild.progress import Progress, reporting
from vbuild.table import Mode, Table, hash_only

__all__ = [
    "core_error",
    "digest_mismatch",
    "hash_files",
    "kernels",
    "sha256_hex",
    "size_mismatch",
    "threads",
    "watched",
    "weights_digest",
]

_PER_RUN = 16
"""Files open at a time per thread; a table has at most so many sources (bad-inputs.md, 88)."""

_RESERVED = 32
"""Descriptors that are left to the rest of the process."""


def threads(jobs: int | None, files: int) -> int:
    """How many threads to use: ``jobs`` (default: the processors that this process may use), but
    no more than may have ``files`` files open each (bad-inputs.md, 88)."""
    wanted = jobs or len(os.sched_getaffinity(0))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (limit - _RESERVED) // max(files, 1)))


def kernels() -> _core.Kernels:
    """The kernels that this process uses: native, or what ``VBUILD_ISA`` asks for."""
    try:
        return _core.Kernels()
    except ValueError as e:
        raise InvalidInput(
            "isa-unavailable",
            "VBUILD_ISA names an instruction set that is unknown or not here",
            where="VBUILD_ISA",
            expected=", ".join(("native", "portable", *_core.cpu_features())),
            got=os.environ.get("VBUILD_ISA"),
        ) from e


def sha256_hex(data: bytes) -> str:
    """SHA-256 of bytes in memory, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def digest_mismatch(
    where: str, expected: str, got: str, *, file: str = "the file", hint: str | None = None
) -> Mismatch:
    """The error for an input whose digest is not its pin; ``file`` if ``where`` does not say it."""
    return Mismatch(
        "digest-mismatch",
        f"{file} is not the one that the manifest pins: sha256",
        where=where,
        expected=expected,
        got=got,
        hint=hint
        or "get the file that the manifest means; a different base gives a different model",
    )


def size_mismatch(
    where: str, expected: int, got: int, *, file: str = "the file", hint: str | None = None
) -> Mismatch:
    """The error for an input whose size is not the pinned one; as :func:`digest_mismatch`."""
    return Mismatch(
        "size-mismatch",
        f"{file} does not have the size that the manifest pins",
        where=where,
        expected=f"{expected} bytes",
        got=f"{got} bytes",
        hint=hint or "it is truncated, or another file; get it again, or look for the right one",
    )


def core_error(fault: _core.Fault, names: Sequence[str], output: str) -> VbuildError:
    """The error for a run that failed in reading ``names`` or writing ``output``."""
    if fault.status == "stopped":
        return Interrupted("interrupted", "interrupted")
    if fault.status == "read-short":
        return changed(names[fault.source])
    if fault.status == "read-failed":
        return os_error(OSError(fault.error, ""), names[fault.source], "read")
    if fault.status == "write-failed":
        return os_error(OSError(fault.error, ""), output, "write")
    return Unavailable("no-memory", "out of memory", where=output or None)


def hash_files(
    paths: Sequence[Path],
    names: Sequence[str] | None = None,
    *,
    jobs: int | None = None,
    control: _core.Control | None = None,
) -> list[str]:
    """SHA-256 of each file, lower-case hex; ``names`` stand for the paths in errors.

    ``jobs`` threads (default: the processors that this process may use). ``control`` counts the
    bytes done and can stop it.
    """
    names = [str(path) for path in paths] if names is None else names
    control = control or _core.Control()
    own = kernels()
    hands = threads(jobs, min(_PER_RUN, len(paths)))
    digests: dict[int, str] = {}
    groups = _deal(paths, names, hands)
    with ThreadPoolExecutor(max_workers=hands) as pool:
        try:
            for done in pool.map(lambda g: _hash_group(g, paths, names, own, control), groups):
                digests.update(done)
        except BaseException:
            control.stop()  # also on Ctrl-C: the pool waits for its threads
            raise
    return [digests[i] for i in range(len(paths))]


def watched(progress: Progress | None) -> Callable[..., list[str]]:
    """:func:`hash_files` of paths (and names), with ``progress`` hearing how far it is."""
    if progress is None:
        return hash_files
    heard = progress

    def hash_watched(paths: Sequence[Path], names: Sequence[str] | None = None) -> list[str]:
        control = _core.Control()
        total = sum(path.stat().st_size for path in paths if path.is_file())
        with reporting(heard, total, lambda: control.done):
            return hash_files(paths, names, control=control)

    return hash_watched


def _deal(paths: Sequence[Path], names: Sequence[str], hands: int) -> list[list[int]]:
    """Indices of the files, dealt to ``hands`` groups of nearly equal size, largest first."""
    sizes = []
    for path, name in zip(paths, names, strict=True):
        try:
            sizes.append(path.stat().st_size)
        except OSError as e:
            raise os_error(e, name, "read") from e
    groups: list[tuple[int, int, list[int]]] = [(0, i, []) for i in range(hands)]
    for index in sorted(range(len(paths)), key=lambda i: (-sizes[i], i)):
        load, hand, group = heapq.heappop(groups)
        group.append(index)
        heapq.heappush(groups, (load + sizes[index], hand, group))
    return [group for _, _, group in sorted(groups, key=lambda g: g[1]) if group]


def _hash_group(
    group: Sequence[int],
    paths: Sequence[Path],
    names: Sequence[str],
    own: _core.Kernels,
    control: _core.Control,
) -> dict[int, str]:
    digests: dict[int, str] = {}
    for start in range(0, len(group), _PER_RUN):
        part = group[start : start + _PER_RUN]
        part_names = [names[i] for i in part]
        found = _hash_some([paths[i] for i in part], part_names, own, control)
        digests.update(zip(part, found, strict=True))
    return digests


def _hash_some(
    paths: Sequence[Path], names: Sequence[str], own: _core.Kernels, control: _core.Control
) -> list[str]:
    """Digests of a few files, interleaved, by a table that only hashes."""
    fds: list[int] = []
    try:
        for path, name in zip(paths, names, strict=True):
            fds.append(open_regular(path, name))
        before = [Identity.of(fd) for fd in fds]
        table = Table(
            sources=tuple((Mode.WALKED, known.size) for known in before),
            segments=tuple(hash_only(i, 0, k.size) for i, k in enumerate(before) if k.size),
        )
        try:
            result = _core.run(table.serialize(), fds, -1, own, control, hash_output=False)
        except _core.Fault as fault:
            raise core_error(fault, names, "") from fault
        for fd, known, name in zip(fds, before, names, strict=True):
            if Identity.of(fd) != known:
                raise changed(name)
    finally:
        for fd in fds:
            os.close(fd)
    return [digest.hex() for digest in result.sources if digest is not None]


def weights_digest(tensor_digests: Mapping[str, bytes]) -> str:
    """The digest of a model's weights, from the digest of each tensor by name."""
    text = "vbuild-weights-v1\n" + "".join(
        f"{digest.hex()}  {name}\n" for name, digest in sorted(tensor_digests.items())
    )
    return sha256_hex(text.encode())
