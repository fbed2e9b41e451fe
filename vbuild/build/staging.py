"""The directory that a build works in, and how its result becomes visible.

- Beside the output stands ``.NAME.vbuild``, mode 0700 and ours alone; it is locked while a build
  runs. Nothing in it looks like a model: a shard is ``weights/NAME.part`` until the end.
- A finished shard gets a receipt (:mod:`vbuild.build.receipt`) after it is on disk.
- Publishing renames: first the attest directory, then the model directory, each complete and
  synced. So whatever stops the build, what has the output's name is whole (bad-inputs.md, 28); an
  output that is being replaced is put back, at the latest by the next run.
- Modes do not depend on the umask (87).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from vbuild.build.output import attest_directory, staging_directory
from vbuild.build.receipt import Receipt
from vbuild.errors import InvalidInput, Unavailable
from vbuild.files import make_directories, os_error, read_small, sync_directory, write_atomic

__all__ = ["Staging", "open_staging"]

# What a publication has in the staging directory, by name.
MODEL, ATTEST, OLD_MODEL, OLD_ATTEST = "model", "attest", "old-model", "old-attest"


class Staging:
    """An open, locked staging directory for the output ``out``."""

    def __init__(self, root: Path, out: Path) -> None:
        self.root = root
        self.out = out

    def part(self, name: str) -> Path:
        """Where the weight file ``name`` is written."""
        return self.root / "weights" / f"{name}.part"

    def _receipt(self, name: str) -> Path:
        return self.root / "receipts" / f"{name}.json"

    def create_part(self, name: str) -> int:
        """A descriptor of the empty file :meth:`part`."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._receipt(name).unlink(missing_ok=True)
            fd = os.open(self.part(name), flags, 0o600)
            os.fchmod(fd, 0o644)
        except OSError as e:
            raise os_error(e, str(self.part(name)), "write") from e
        return fd

    def keep(self, name: str, receipt: Receipt) -> None:
        """Record that :meth:`part` is finished and synced."""
        sync_directory(self.root / "weights")
        write_atomic(self._receipt(name), receipt.encode(), mode=0o600)

    def kept(self, name: str) -> Receipt | None:
        """The receipt of a part that is there in full size, if any."""
        try:
            receipt = Receipt.decode(read_small(self._receipt(name), name))
            if receipt is not None and self.part(name).lstat().st_size == receipt.size:
                return receipt
        except (InvalidInput, Unavailable, OSError):
            pass
        return None

    def drop_others(self, names: Collection[str]) -> None:
        """Remove every part and receipt but those of ``names``: another plan may have left some."""
        parts, receipts = {self.part(n) for n in names}, {self._receipt(n) for n in names}
        for directory in (self.root / "weights", self.root / "receipts"):
            for path in sorted(directory.iterdir()):
                if path not in parts and path not in receipts:
                    _remove(path)

    def publish(
        self,
        weights: Sequence[str],
        files: Mapping[str, bytes],
        attest: Mapping[str, bytes],
        *,
        force: bool,
    ) -> None:
        """Put the parts and ``files`` under the output's name, and ``attest`` beside it.

        With ``force`` an output that has the name is moved away; whatever fails, it is put back.
        """
        model, beside = self.root / MODEL, self.root / ATTEST
        _write_tree(beside, attest)  # first: see recover()
        _write_tree(model, files)
        for name in weights:
            self.part(name).rename(model / name)
        sync_directory(model)
        try:
            if force:
                _away(self.out, self.root / OLD_MODEL)
            _away(attest_directory(self.out), self.root / OLD_ATTEST)
            beside.rename(attest_directory(self.out))
            model.rename(self.out)  # fails where something has the name, but for an empty directory
        except BaseException:
            self.recover()
            raise
        sync_directory(self.out.parent)

    def recover(self) -> None:
        """Undo a publication that did not come to its end; the parts are parts again.

        The model is moved last, so while it is here the end was not reached; what goes beside it
        was here before it, so if that is not here it is in its place.
        """
        model, beside = self.root / MODEL, attest_directory(self.out)
        if model.is_dir():
            if not (self.root / ATTEST).is_dir():
                _away(beside, self.root / ATTEST)
            _away(self.root / OLD_ATTEST, beside)
            if not os.path.lexists(self.out):
                _away(self.root / OLD_MODEL, self.out)
            for receipt in sorted((self.root / "receipts").glob("*.json")):
                made = model / receipt.stem
                if made.is_file():
                    made.rename(self.part(receipt.stem))
        for name in (MODEL, ATTEST, OLD_MODEL, OLD_ATTEST):
            _remove(self.root / name)

    def remove(self) -> None:
        """Delete the directory and everything in it, as far as that is possible.

        What could not be put back is left for the next run to put back.
        """
        if (self.root / MODEL).is_dir() and os.path.lexists(self.root / OLD_MODEL):
            return
        shutil.rmtree(self.root, ignore_errors=True)


def _remove(path: Path) -> None:
    """Delete a file or a directory, which need not be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_tree(directory: Path, files: Mapping[str, bytes]) -> None:
    _remove(directory)
    make_directories(directory, 0o755)
    for name, data in sorted(files.items()):
        path = directory / name
        make_directories(path.parent, 0o755)
        write_atomic(path, data)
    sync_directory(directory)


def _away(path: Path, to: Path) -> None:
    """Rename ``path``, which need not be there."""
    if os.path.lexists(path):
        path.rename(to)


@contextlib.contextmanager
def open_staging(out: Path) -> Iterator[Staging]:
    """The staging directory of ``out``, made if it is not there, locked until the end.

    The caller decides when it is removed. InvalidInput if another build holds it or if somebody
    else owns it; Unavailable where it cannot be made.
    """
    root = staging_directory(out)
    try:
        make_directories(out.parent, 0o755)
        with contextlib.suppress(FileExistsError):
            root.mkdir(mode=0o700)
        found = root.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise InvalidInput(
                "staging-not-ours",
                "something that this user has not made is in the way",
                where=str(root),
                hint="remove it, or choose another directory with --out DIR",
            )
        root.chmod(0o700)
        lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except NotADirectoryError as e:
        what = "a file is where a directory would have to be"
        raise InvalidInput("not-a-directory", what, where=str(out.parent)) from e
    except OSError as e:
        raise os_error(e, str(root), "create") from e
    try:
        _lock(lock, root, out)
        staging = Staging(root, out)
        try:
            for name in ("weights", "receipts"):
                make_directories(root / name, 0o700)
            staging.recover()
        except OSError as e:
            raise os_error(e, str(root), "clear") from e
        yield staging
    finally:
        os.close(lock)


def _lock(fd: int, root: Path, out: Path) -> None:
    """Lock ``root``, open as ``fd``, which another build may have replaced in the meantime."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = os.path.samestat(os.fstat(fd), root.lstat())
    except (BlockingIOError, FileNotFoundError):
        locked = False
    if not locked:
        raise InvalidInput(
            "build-running", "another build of this output is running", where=str(out)
        )
