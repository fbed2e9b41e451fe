"""The client of the Hugging Face Hub: what a repository has, and getting a file into the cache.

- The only importer of huggingface_hub (beside ``hub_errors``, which knows its exceptions). It is
  loaded when there is something to ask or to download, never by a build whose files are there.
- The user's cache, token and ``HF_ENDPOINT`` are the client's; the endpoint and the cache are read
  from the environment at each call, the client itself reads them once, at import (interop.md).
- Resuming: ``hf_hub_download`` of 2.4.0 writes to a temporary file of random name and removes it
  when it fails, so nothing is left for a later process. What it downloads with, ``http_get``, does
  go on from an offset. So a body goes through ``http_get``, with its retries, redirects and token,
  into a file whose name is always the same (``blobs/ETAG.vbuild.incomplete``). When its digest is
  right, it is renamed to ``blobs/ETAG`` and linked from the snapshot, as the client would do.
  ``hf_hub_download`` would ask the Hub once more before it makes the link, and download what that
  answer says, whatever it is; only where links cannot be, or are not wanted, it makes its copy.
- ``http_get`` is plain HTTP: Xet, whose package is Rust, is not loaded.
- The client accepts a corrupt body of the right length (interop.md). Nothing is renamed before its
  digest is the expected one, so no file comes into the cache that is not; and a file that was
  continued and turns out wrong is downloaded once more from its beginning.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final, TypeVar, cast

from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers

from vbuild.digest import digest_mismatch, size_mismatch
from vbuild.errors import InvalidInput, Unavailable
from vbuild.files import SMALL_FILE_LIMIT, read_small
from vbuild.formats.registry import HEAD, check_foreign
from vbuild.sources.hub import Repository
from vbuild.sources.hub_cache import blobs, snapshot, unfinished
from vbuild.sources.hub_errors import CLIENT_ERRORS, as_error, pause
from vbuild.sources.partial import Partial
from vbuild.sources.wanted import Listing, RemoteFile, Wanted, git_blob_sha1

__all__ = ["download", "list_files", "quiet"]

T = TypeVar("T")

RETRY_SECONDS: Final = (1.0, 2.0, 4.0, 8.0)
"""Waits between tries that have brought nothing."""

LARGEST: Final = 50 * 1000 * 1000 * 1000
"""Bytes that the Hub serves by plain HTTP (the client's ``MAX_HTTP_DOWNLOAD_SIZE``)."""

TIMEOUT: Final = 10.0
"""Seconds that the Hub may take to answer a question."""

_OTHER_PIN: Final = (
    "the manifest pins another file than the Hub has at this commit: correct the pin"
)
_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _NoBar:
    """The client's progress bar, which is not shown: ours is."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *error: object) -> None: ...

    def update(self, n: float | None = 1) -> None: ...

    def close(self) -> None: ...


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the client from writing its warnings to standard error while the body runs.

    They are about tries that it repeats; what ends a download is raised. ``HF_HUB_VERBOSITY`` and
    ``HF_DEBUG`` ask for them all the same.
    """
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    if not (os.environ.get("HF_HUB_VERBOSITY") or os.environ.get("HF_DEBUG")):
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _patiently(
    call: Callable[[], T],
    repository: Repository,
    file: str | None,
    stop: threading.Event,
    progressed: Callable[[], bool] = lambda: False,
) -> T:
    """``call()``, again after a while as long as the trouble may pass; see ``hub_errors``.

    The count of tries starts again when one has ``progressed``.
    """
    waits = iter(RETRY_SECONDS)
    while True:
        try:
            return call()
        except CLIENT_ERRORS as e:
            if progressed():
                waits = iter(RETRY_SECONDS)
            seconds = pause(e, next(waits, None))
            if seconds is None or stop.wait(seconds):
                raise as_error(e, repository, file) from e


def list_files(repository: Repository) -> Listing:
    """What the repository has at its revision: the commit, and every file's size and digest.

    No file is downloaded. Unavailable where the Hub does not say.
    """

    def ask() -> Listing:
        info = HfApi(endpoint=_endpoint()).model_info(
            repository.id, revision=repository.revision, files_metadata=True, timeout=TIMEOUT
        )
        files = {}
        for file in info.siblings or ():
            if file.rfilename in files:
                raise ValueError("a file that is listed twice")
            files[file.rfilename] = _listed(file)
        at = repository.at(str(info.sha))
        if not at.is_commit or (repository.is_commit and at != repository):
            raise ValueError("another commit than was asked for")
        return Listing(at, MappingProxyType(files))

    return _patiently(ask, repository, None, threading.Event())


def _listed(file: RepoSibling) -> RemoteFile:
    """What a listing says of a file; ValueError where it makes no sense."""
    if not isinstance(file.rfilename, str):
        raise ValueError("a file without a name")
    size, digest, form = file.size, file.blob_id, _SHA1
    if file.lfs is not None:
        size, digest, form = file.lfs.size, file.lfs.sha256, _SHA256
    if type(size) is not int or not 0 <= size < 1 << 63:
        raise ValueError("a file without a size")
    if not isinstance(digest, str) or not form.fullmatch(digest):
        raise ValueError("a file without a digest")
    return RemoteFile(size, digest, None) if file.lfs else RemoteFile(size, None, digest)


@dataclass(frozen=True, slots=True)
class _Remote:
    """What the Hub says about a file: its name in the cache, and its size if that is known."""

    etag: str
    size: int | None


def _ask(wanted: Wanted, stop: threading.Event) -> _Remote:
    """What the Hub has, which must be what is wanted: a Mismatch is known before a byte comes."""
    commit = wanted.repository.commit()
    url = hf_hub_url(wanted.repository.id, wanted.name, revision=commit, endpoint=_endpoint())

    def ask() -> _Remote:
        found = get_hf_file_metadata(url, timeout=TIMEOUT, endpoint=_endpoint())
        if found.commit_hash != commit:
            raise ValueError(f"commit {found.commit_hash}")
        if not any(form.fullmatch(found.etag or "") for form in (_SHA1, _SHA256)):
            raise ValueError("no ETag of a file")
        return _Remote(str(found.etag), found.size)

    remote = _patiently(ask, wanted.repository, wanted.name, stop)
    pinned, size = wanted.size, remote.size
    if pinned is not None and size is not None and pinned != size:
        raise size_mismatch(wanted.label, pinned, size, hint=_OTHER_PIN)
    if wanted.sha256 is not None and len(remote.etag) == 64 and remote.etag != wanted.sha256:
        raise digest_mismatch(wanted.label, wanted.sha256, remote.etag, hint=_OTHER_PIN)
    return remote


def download(
    wanted: Wanted,
    cache: Path,
    *,
    replace: bool,
    advance: Callable[[int], None],
    stop: threading.Event,
) -> Path:
    """The path of the file in the cache, downloaded unless its blob is there and is right.

    With ``replace`` a blob and a snapshot's file that are there are not believed. ``advance``
    hears of bytes as they come; ``stop`` ends it with Interrupted. Raises Mismatch where another
    file comes than is wanted, Unavailable for what the Hub, the network or the disk refuses.
    """
    remote = _ask(wanted, stop)
    folder = blobs(cache, wanted.repository)
    pointer = snapshot(cache, wanted.repository) / wanted.name
    blob = folder / remote.etag
    size = wanted.size if wanted.size is not None else remote.size
    if size is not None and size > LARGEST:
        raise Unavailable(
            "hub-too-large",
            "the Hub does not serve so large a file by plain HTTP",
            where=wanted.label,
            expected=f"at most {LARGEST} bytes",
            got=f"{size} bytes",
            hint="download it with `hf download` into the same cache, then run again",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = Partial(unfinished(blob), wanted.label, size=size, advance=advance, stop=stop)
        with partial:
            if blob.is_file() and not (replace and wanted.actual(blob) != wanted.expected):
                partial.discard()
                advance(blob.stat().st_size)
            else:
                _fill(partial, wanted, remote.etag if len(remote.etag) == 40 else None, stop)
                partial.finish(blob)
            linked = _link(pointer, blob)
    except OSError as e:
        raise as_error(e, wanted.repository, wanted.name) from e
    return pointer if linked else _copy(wanted, cache, stop)


def _link(pointer: Path, blob: Path) -> bool:
    """Make the snapshot's entry a link to the blob; False, and no entry, where none can be.

    What is there and is something else, a damaged copy or a link to another file, is removed.
    """
    with contextlib.suppress(OSError):  # nothing is there, or a link to nothing
        if pointer.samefile(blob):
            return True
    pointer.unlink(missing_ok=True)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    if constants.HF_HUB_DISABLE_SYMLINKS:
        return False
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        return False
    return True


def _copy(wanted: Wanted, cache: Path, stop: threading.Event) -> Path:
    """Have the client make the snapshot's entry for a blob that is there, as a copy."""
    path = _patiently(
        lambda: hf_hub_download(
            wanted.repository.id,
            wanted.name,
            revision=wanted.repository.commit(),
            cache_dir=cache,
            endpoint=_endpoint(),
            etag_timeout=TIMEOUT,
        ),
        wanted.repository,
        wanted.name,
        stop,
    )
    return Path(path)


def _fill(partial: Partial, wanted: Wanted, git_sha1: str | None, stop: threading.Event) -> None:
    """Download into ``partial`` what it lacks, and compare it with what is wanted.

    ``git_sha1`` is what the Hub says of a file that is not in LFS: a file that is as it says was
    not damaged on its way.
    """
    try:
        _get(partial, wanted, stop)
        got = wanted.actual(partial.path, partial.sha256)
        if got != wanted.expected and partial.kept:
            partial.restart()  # what was kept may have been damaged, by a crash for example
            _get(partial, wanted, stop)
            got = wanted.actual(partial.path, partial.sha256)
    except Unavailable as e:
        if e.code == "hub-length":
            e.hint = _looks_like(partial, wanted) or e.hint
            partial.discard()
        raise
    if got != wanted.expected:
        hint = _looks_like(partial, wanted) or "it was damaged on its way: run the command again"
        if git_sha1 is not None and partial.tell() <= SMALL_FILE_LIMIT:
            data = read_small(partial.path, wanted.label)
            hint = _OTHER_PIN if git_blob_sha1(data) == git_sha1 else hint
        partial.discard()
        raise digest_mismatch(wanted.label, wanted.expected, got, hint=hint)


def _looks_like(partial: Partial, wanted: Wanted) -> str | None:
    """What came instead of the file, if it is one of the usual things."""
    try:
        check_foreign(partial.head(HEAD), wanted.label)
    except InvalidInput as e:
        return f"{e.what}: {e.hint}"
    return None


def _get(partial: Partial, wanted: Wanted, stop: threading.Event) -> None:
    """Have the client append what is missing, as often as it takes."""
    url = hf_hub_url(
        wanted.repository.id,
        wanted.name,
        revision=wanted.repository.commit(),
        endpoint=_endpoint(),
    )
    seen = partial.tell()

    def progressed() -> bool:
        nonlocal seen
        before, seen = seen, partial.tell()
        return seen > before

    def get() -> None:
        http_get(
            url,
            cast(BinaryIO, partial),
            resume_size=partial.tell(),
            headers=build_hf_headers(),
            expected_size=partial.size,
            tqdm_class=cast(Any, _NoBar),
        )

    _patiently(get, wanted.repository, wanted.name, stop, progressed)
