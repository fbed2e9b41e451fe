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

from vbuild.build.receipt import Receipt
from vbuild.errors import InvalidInput, Unavailable
from vbuild.files import make_directories, os_error, read_small, sync_directory, write_atomic

__all__ = ["Staging", "attest_directory", "check_output", "open_staging"]

SIGNATURE_NAME = "model.sig"
SUMS_NAME = "SHA256SUMS"

# What a publication has in the staging directory, by name.
MODEL, ATTEST, OLD_MODEL, OLD_ATTEST = "model", "attest", "old-model", "old-attest"


def attest_directory(out: Path) -> Path:
    """Where the files beside the model directory ``out`` go."""
    return out.with_name(out.name + ".attest")


def check_output(out: Path, inputs: Mapping[str, Path], *, force: bool) -> None:
    """Refuse an output that exists or lies in an input's directory (bad-inputs.md, 11).

    ``inputs`` are directories by label. With ``force`` an existing output is accepted if it looks
    like one that vbuild has made, or is empty. An attest directory without its model is always
    replaced, but nothing else that has its name. Unavailable where the system does not tell.
    """
    if not out.name:
        raise InvalidInput("output-exists", "the root directory is no output", where=str(out))
    try:
        _check_output(out, inputs, force)
    except OSError as e:
        raise os_error(e, e.filename or str(out), "read") from e


def _check_output(out: Path, inputs: Mapping[str, Path], force: bool) -> None:
    attest = attest_directory(out)
    for place in (out, attest, _staging_directory(out)):
        _check_apart(place, inputs)
    if os.path.lexists(attest) and not _is_replaceable(attest, attest / SUMS_NAME):
        raise InvalidInput(
            "output-not-ours",
            "something that vbuild has not made is where the attest directory goes",
            where=str(attest),
            hint="move it away, or choose another directory with --out DIR",
        )
    if not os.path.lexists(out):
        return
    if not force:
        raise InvalidInput(
            "output-exists",
            "the output exists already",
            where=str(out),
            hint="replace it with --force, or choose another directory with --out DIR",
        )
    if not _is_replaceable(out, out / SIGNATURE_NAME, attest / SUMS_NAME):
        raise InvalidInput(
            "output-not-ours",
            "--force replaces only an empty directory or one that vbuild has made",
            where=str(out),
            hint="remove it yourself, or choose another directory with --out DIR",
        )


def _check_apart(place: Path, inputs: Mapping[str, Path]) -> None:
    real = Path(os.path.realpath(place))
    for label, directory in inputs.items():
        source = Path(os.path.realpath(directory))
        if real == source or source in real.parents or real in source.parents:
            raise InvalidInput(
                "output-in-input",
                f"the output would be inside the directory of the {label}, or around it",
                where=str(place),
                hint="choose another directory with --out DIR",
            )


def _is_replaceable(directory: Path, *marks: Path) -> bool:
    """Whether ``directory`` is empty, or has a file that tells that vbuild has made it."""
    if directory.is_symlink() or not directory.is_dir():
        return False
    return any(mark.is_file() for mark in marks) or not any(directory.iterdir())


def _staging_directory(out: Path) -> Path:
    return out.with_name(f".{out.name}.vbuild")


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
        _write_tree(model, files)
        for name in weights:
            self.part(name).rename(model / name)
        sync_directory(model)
        _write_tree(beside, attest)
        try:
            _move(beside, attest_directory(self.out), self.root / OLD_ATTEST)
            _move(model, self.out, self.root / OLD_MODEL if force else None)
        except BaseException:
            self.recover()
            raise
        sync_directory(self.out.parent)

    def recover(self) -> None:
        """Undo a publication that did not come to its end; the parts are parts again.

        The model is moved last, so that it tells by its place whether the end was reached.
        """
        model = self.root / MODEL
        if model.is_dir():
            self._put_back(OLD_ATTEST, attest_directory(self.out))
            if not os.path.lexists(self.out):
                self._put_back(OLD_MODEL, self.out)
            for receipt in sorted((self.root / "receipts").glob("*.json")):
                made = model / receipt.stem
                if made.is_file():
                    made.rename(self.part(receipt.stem))
        for name in (MODEL, ATTEST, OLD_MODEL, OLD_ATTEST):
            _remove(self.root / name)

    def _put_back(self, old: str, name: Path) -> None:
        if not os.path.lexists(self.root / old):
            return
        if os.path.lexists(name):
            _remove(self.root / ATTEST)
            name.rename(self.root / ATTEST)
        (self.root / old).rename(name)

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


def _move(new: Path, name: Path, old: Path | None) -> None:
    """Give ``new`` the name ``name``; what has it now is moved to ``old``, without which it is an
    error (but for an empty directory)."""
    if old is not None and os.path.lexists(name):
        name.rename(old)
    new.rename(name)


@contextlib.contextmanager
def open_staging(out: Path) -> Iterator[Staging]:
    """The staging directory of ``out``, made if it is not there, locked until the end.

    The caller decides when it is removed. InvalidInput if another build holds it or if somebody
    else owns it; Unavailable where it cannot be made.
    """
    root = _staging_directory(out)
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
