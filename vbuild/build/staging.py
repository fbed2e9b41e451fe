"""The directory that a build works in, and how its result becomes visible.

- Beside the output stands ``.NAME.vbuild``, mode 0700 and ours alone; it is locked while a build
  runs. Nothing in it looks like a model: a shard is ``weights/NAME.part`` until the end.
- A receipt says that a finished shard was made by this manifest and this table; it is written after
  the shard is on disk. A later run hashes the shard again before it keeps it.
- Publishing renames: first the attest directory, then the model directory, each complete and synced.
  So whatever stops the build, what has the output's name is whole (bad-inputs.md, 28).
- Modes do not depend on the umask (87).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vbuild.errors import InvalidInput, Unavailable
from vbuild.files import os_error, read_small, sync_directory, write_atomic
from vbuild.strict_json import loads

__all__ = ["Receipt", "Staging", "attest_directory", "check_output", "open_staging"]

SIGNATURE_NAME = "model.sig"
SUMS_NAME = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a finished shard was made by, and what it is (digests in hex, size in bytes).

    ``tensors`` has the digest of each tensor, in file order, where the weights digest is wanted.
    """

    manifest: str
    table: str
    sha256: str
    size: int
    tensors: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(
            {
                "manifest": self.manifest,
                "table": self.table,
                "sha256": self.sha256,
                "size": self.size,
                "tensors": self.tensors,
            }
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Receipt | None:
        """The receipt, or None if it is not one: then the shard is made again."""
        try:
            found = loads(data, "receipt")
        except InvalidInput:
            return None
        match found:
            case {
                "manifest": str(manifest),
                "table": str(table),
                "sha256": str(digest),
                "size": int(size),
                "tensors": list(tensors),
            }:
                return cls(manifest, table, digest, size, tuple(map(str, tensors)))
        return None


def attest_directory(out: Path) -> Path:
    """Where the files beside the model directory ``out`` go."""
    return out.with_name(out.name + ".attest")


def check_output(out: Path, inputs: Mapping[str, Path], *, force: bool) -> None:
    """Refuse an output that exists or lies in an input's directory (bad-inputs.md, 11).

    ``inputs`` are directories by label. With ``force`` an existing output is accepted if it looks
    like one that vbuild has made, or is empty. An attest directory without its model is always
    replaced, but nothing else that has its name.
    """
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
            if receipt is not None and self.part(name).stat().st_size == receipt.size:
                return receipt
        except (Unavailable, OSError):
            pass
        return None

    def publish(
        self, weights: list[str], files: Mapping[str, bytes], attest: Mapping[str, bytes]
    ) -> None:
        """Put the parts and ``files`` under the output's name, and ``attest`` beside it."""
        model = self.root / "model"
        _write_tree(model, files)
        for name in weights:
            os.rename(self.part(name), model / name)
        sync_directory(model)
        _write_tree(self.root / "attest", attest)
        _replace(self.root / "attest", attest_directory(self.out), self.root / "old-attest")
        _replace(model, self.out, self.root / "old-model")

    def remove(self) -> None:
        """Delete the directory and everything in it."""
        shutil.rmtree(self.root)


def _write_tree(directory: Path, files: Mapping[str, bytes]) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    directory.chmod(0o755)
    for name, data in sorted(files.items()):
        path = directory / name
        for parent in reversed(path.relative_to(directory).parents[:-1]):
            if not (directory / parent).is_dir():
                (directory / parent).mkdir()
                (directory / parent).chmod(0o755)
        write_atomic(path, data)
    sync_directory(directory)


def _replace(new: Path, name: Path, old: Path) -> None:
    """Give ``new`` the name ``name``; what has it now is moved to ``old``."""
    shutil.rmtree(old, ignore_errors=True)
    if os.path.lexists(name):
        os.rename(name, old)
    os.rename(new, name)
    sync_directory(name.parent)


@contextlib.contextmanager
def open_staging(out: Path) -> Iterator[Staging]:
    """The staging directory of ``out``, made if it is not there, locked until the end.

    The caller decides when it is removed. InvalidInput if another build holds it or if somebody
    else owns it; Unavailable where it cannot be made.
    """
    root = _staging_directory(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
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
    except OSError as e:
        raise os_error(e, str(root), "create") from e
    try:
        _lock(lock, out)
        for name in ("weights", "receipts"):
            (root / name).mkdir(mode=0o700, exist_ok=True)
            (root / name).chmod(0o700)
        yield Staging(root, out)
    finally:
        os.close(lock)


def _lock(fd: int, out: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        raise InvalidInput(
            "build-running", "another build of this output is running", where=str(out)
        ) from e
