"""Having files of the Hub in the client's cache: several at a time, with one count of bytes.

- What is there is not asked for again, and without anything missing nobody is asked at all. It is
  not hashed either: whoever uses a file verifies it. With ``refetch`` it is, and what is not the
  wanted file is downloaded again.
- When it is interrupted, or one file fails, the threads are hardly waited for: they may be waiting
  for the network. What has come is kept (``partial.py``).
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from vbuild.digest import watched
from vbuild.errors import Interrupted, Unavailable, VbuildError
from vbuild.progress import POLL_SECONDS, Progress, Silence
from vbuild.sources.hub import Repository
from vbuild.sources.hub_cache import blobs, cache_directory, snapshot, unfinished
from vbuild.sources.wanted import Listing, Wanted

__all__ = ["Fetched", "Pending", "fetch_files", "list_repository"]

WORKERS: Final = 4
"""Files that are downloaded at a time."""

GRACE_SECONDS: Final = 1.0
"""How long a failed download waits for the others to notice."""

Status = Literal["cached", "downloaded", "repaired"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is in the cache now, and how it has come there."""

    wanted: Wanted
    path: Path
    status: Status


@dataclass(frozen=True, slots=True)
class Pending:
    """What is going to be downloaded into ``cache``; ``bytes`` as far as sizes are pinned."""

    files: tuple[Wanted, ...]
    bytes: int
    cache: Path


class _Count:
    """Bytes that have come, counted by several threads."""

    def __init__(self) -> None:
        self.done = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.done += count


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """For the import of the client; Unavailable (``hub-client``) where that fails.

    The client reads its settings then, and prints what it has to say about them, even to standard
    output.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ImportError, ValueError) as e:
        raise Unavailable(
            "hub-client",
            f"the client of the Hub cannot be loaded: {e}",
            hint="look at the variables that begin with HF_, or install huggingface_hub again",
        ) from e


def list_repository(repository: Repository) -> Listing:
    """What the Hub has in ``repository``; Unavailable where it does not say."""
    with _loading():
        from vbuild.sources.hub_client import list_files, quiet

    with quiet():
        return list_files(repository)


def fetch_files(
    wanted: Sequence[Wanted],
    *,
    refetch: bool = False,
    progress: Progress | None = None,
    on_start: Callable[[Pending], None] | None = None,
) -> tuple[Fetched, ...]:
    """Have every file of ``wanted`` in the cache, and say where, in order.

    ``on_start`` is called before the first byte is asked for, if any is. Raises what ``download``
    does; the first error stops the other downloads.
    """
    cache = cache_directory(os.environ)
    paths = [snapshot(cache, w.repository) / w.name for w in wanted]
    there = [path.is_file() for path in paths]
    damaged = _damaged(wanted, paths, there, progress) if refetch else frozenset[int]()
    missing = [i for i in range(len(wanted)) if not there[i] or i in damaged]
    if missing:
        unique = {(wanted[i].repository, wanted[i].name): wanted[i] for i in missing}
        pending = Pending(tuple(unique.values()), sum(w.size or 0 for w in unique.values()), cache)
        if on_start is not None:
            on_start(pending)
        _check_space(pending, refetch)
        _download_all(pending, refetch, progress or Silence())
    status: dict[int, Status] = dict.fromkeys(missing, "downloaded")
    status |= dict.fromkeys(damaged, "repaired")
    return tuple(
        Fetched(w, path, status.get(i, "cached"))
        for i, (w, path) in enumerate(zip(wanted, paths, strict=True))
    )


def _damaged(
    wanted: Sequence[Wanted],
    paths: Sequence[Path],
    there: Sequence[bool],
    progress: Progress | None,
) -> frozenset[int]:
    """Which of the files that are there are not the wanted ones."""
    present = [i for i in range(len(wanted)) if there[i]]
    same_size = [i for i in present if paths[i].stat().st_size == wanted[i].size]
    same_size += [i for i in present if wanted[i].size is None]
    pinned = [i for i in same_size if wanted[i].sha256 is not None]
    digests = watched(progress)([paths[i] for i in pinned], [wanted[i].label for i in pinned])
    right = {i for i, digest in zip(pinned, digests, strict=True) if digest == wanted[i].sha256}
    right |= {
        i
        for i in same_size
        if wanted[i].sha256 is None and wanted[i].actual(paths[i]) == wanted[i].expected
    }
    return frozenset(present) - right


def _check_space(pending: Pending, refetch: bool) -> None:
    """Say that the disk is too small before the first byte comes (bad-inputs.md, 27)."""
    needed = sum(_to_come(w, pending.cache, refetch) for w in pending.files)
    existing = next(p for p in (pending.cache, *pending.cache.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise Unavailable(
            "disk-full",
            "there is not enough room for the downloads",
            where=str(pending.cache),
            expected=f"{needed} bytes free",
            got=f"{free} bytes",
            hint="free some space, or put the cache on another disk with HF_HUB_CACHE",
        )


def _to_come(wanted: Wanted, cache: Path, refetch: bool) -> int:
    """How many of its bytes are not on the disk yet, at most.

    It is there under its digest, whole (which is believed without ``refetch``) or unfinished; a
    small file that is not in LFS has another name there, which only the Hub knows.
    """
    size = wanted.size or 0
    blob = blobs(cache, wanted.repository) / (wanted.sha256 or str(wanted.git_sha1))
    if blob.is_file() and not refetch:
        return 0
    try:
        return max(0, size - unfinished(blob).stat().st_size)
    except OSError:  # nothing has come yet
        return size


def _download_all(pending: Pending, refetch: bool, progress: Progress) -> None:
    """Download the files on threads; the first error, or the interruption, ends it."""
    with _loading():
        from vbuild.sources.hub_client import download, quiet

    tasks: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    stop, count = threading.Event(), _Count()
    for wanted in sorted(pending.files, key=lambda w: -(w.size or 0)):
        tasks.put(wanted)

    def work() -> None:
        while not stop.is_set():
            try:
                wanted = tasks.get_nowait()
            except queue.Empty:
                return
            try:
                download(wanted, pending.cache, replace=refetch, advance=count.add, stop=stop)
            except BaseException as e:  # handed to the thread that waits
                ended.put(e)
                return
            ended.put(None)

    hands = [
        threading.Thread(target=work, name=f"vbuild-fetch-{i}", daemon=True)
        for i in range(min(WORKERS, len(pending.files)))
    ]
    progress.begin(pending.bytes)
    try:
        with quiet():
            for hand in hands:
                hand.start()
            try:
                _wait(pending, ended, count, progress)
            except VbuildError:
                stop.set()
                until = time.monotonic() + GRACE_SECONDS
                for hand in hands:
                    hand.join(max(0.0, until - time.monotonic()))
                raise
    except KeyboardInterrupt as e:
        raise Interrupted(
            "interrupted",
            "interrupted; what has been downloaded is kept",
            hint="run the same command again to go on",
        ) from e
    finally:
        stop.set()
        progress.end()


def _wait(
    pending: Pending,
    ended: queue.SimpleQueue[BaseException | None],
    count: _Count,
    progress: Progress,
) -> None:
    """Return when all downloads have ended, or raise what the first one has raised."""
    files, total = len(pending.files), pending.bytes  # more may come: not every size is pinned
    while files:
        try:
            failed = ended.get(timeout=POLL_SECONDS)
        except queue.Empty:
            progress.at(min(count.done, total))
            continue
        if failed is not None:
            raise failed
        files -= 1
        progress.at(min(count.done, total))
