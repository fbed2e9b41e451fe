"""What lies in a model directory, listed without following anything.

- Directories are opened relative to their parent and never through a symbolic link, so swapping
  one for a link while it is walked shows (bad-inputs.md, 22).
- Regular files are listed with their identity. Links, pipes, sockets and devices are listed apart
  with their kind; nothing opens them (20, 21).
- Names are relative, ``/`` between components, sorted by code points. Bytes that are not UTF-8
  stay in a name as lone surrogates, so that such a file can be reported (29).
- Two listings that are equal mean that nothing was added, removed, replaced or written between.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbuild.attest.names import IGNORED, SIGNATURE, is_under, name_problem
from vbuild.errors import InvalidInput, Mismatch
from vbuild.files import Identity, os_error

__all__ = ["Tree", "check_unchanged", "left_over_hint", "list_tree", "path_of", "signable"]

MAX_DEPTH: Final = 32
"""Levels of directories; one descriptor is open for each (a limit of 64 is usual in tests)."""

MAX_ENTRIES: Final = 1_000_000

_LEFT_OVERS: Final = (".cache/huggingface", ".git")

_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory's content at one moment, each mapping sorted by name.

    ``files`` and ``directories`` map names to identities (the directory itself is ``""``),
    ``irregular`` maps the names of everything else to what it is.
    """

    files: dict[str, Identity]
    directories: dict[str, Identity]
    irregular: dict[str, str]


def path_of(directory: Path, name: str) -> Path:
    """The path of the listed file ``name``, whatever the locale makes of its bytes."""
    return directory / os.fsdecode(name.encode("utf-8", "surrogateescape"))


def list_tree(directory: Path) -> Tree:
    """The content of ``directory`` (which may itself be reached through a link).

    InvalidInput ``not-a-directory``, ``tree-too-large``; Unavailable if it or a directory in it
    is missing or cannot be read.
    """
    where = str(directory)
    walk = _Walk(where)
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        if e.errno == errno.ENOTDIR and directory.exists():
            raise InvalidInput("not-a-directory", "not a directory", where=where) from e
        raise os_error(e, where, "read") from e
    walk.enter(fd, "", 0)
    return Tree(
        files=dict(sorted(walk.files.items())),
        directories=dict(sorted(walk.directories.items())),
        irregular=dict(sorted(walk.irregular.items())),
    )


class _Walk:
    def __init__(self, where: str) -> None:
        self.where = where
        self.files: dict[str, Identity] = {}
        self.directories: dict[str, Identity] = {}
        self.irregular: dict[str, str] = {}
        self.count = 0

    def enter(self, fd: int, name: str, depth: int) -> None:
        """List the directory ``name`` that is open as ``fd``, and close ``fd``."""
        try:
            self.directories[name] = Identity.of(fd)
            for raw in self._names(fd, depth):
                below = raw.decode("utf-8", "surrogateescape")
                self._entry(fd, raw, f"{name}/{below}" if name else below, depth)
        except OSError as e:
            raise os_error(e, f"{self.where}/{name}" if name else self.where, "read") from e
        finally:
            os.close(fd)

    def _names(self, fd: int, depth: int) -> list[bytes]:
        names = []
        with os.scandir(fd) as entries:
            for entry in entries:
                self.count += 1
                if self.count > MAX_ENTRIES or depth >= MAX_DEPTH:
                    raise InvalidInput(
                        "tree-too-large",
                        "not a model directory: it is too deep or has too many entries",
                        where=self.where,
                        expected=f"at most {MAX_DEPTH} levels and {MAX_ENTRIES} entries",
                    )
                names.append(os.fsencode(entry.name))
        return names

    def _entry(self, parent: int, raw: bytes, name: str, depth: int) -> None:
        status = os.stat(raw, dir_fd=parent, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            self.files[name] = Identity(
                status.st_dev,
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
        elif kind == stat.S_IFDIR:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                fd = os.open(raw, flags, dir_fd=parent)
            except OSError as e:
                if e.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENOENT):
                    raise _changed(self.where) from e
                raise os_error(e, f"{self.where}/{name}", "read") from e
            self.enter(fd, name, depth + 1)
        else:
            self.irregular[name] = _KINDS.get(kind, "not a regular file")


def _changed(where: str) -> Mismatch:
    return Mismatch(
        "file-changed",
        "the directory changed while it was being read",
        where=where,
        hint="make sure that nothing writes to it, then run again",
    )


def check_unchanged(directory: Path, tree: Tree) -> None:
    """Raise Mismatch (``file-changed``) unless ``directory`` is still as ``tree`` lists it."""
    if list_tree(directory) != tree:
        raise _changed(str(directory))


def left_over_hint(names: list[str]) -> str | None:
    """What to do about ``names`` that a download or a clone left in the tree (31), or None."""
    for left_over in _LEFT_OVERS:
        if any(is_under(name, (left_over,)) for name in names):
            return f"{left_over} is a left-over of a download or a clone: remove it and run again"
    return None


def signable(directory: Path, tree: Tree) -> tuple[list[str], list[str]]:
    """The files of ``tree`` to sign, and those that no signature covers, both sorted.

    Signed is every file but ``model.sig`` and what lies under the four default ignore paths.
    InvalidInput ``not-a-file`` for a link or the like among them (21), ``name-unsafe`` for a name
    that a strict verifier refuses, ``nothing-to-sign`` if no file is left.
    """
    for name, kind in tree.irregular.items():
        if not is_under(name, IGNORED):
            hint = "replace links by what they point to: cp -rL DIR NEW" if "link" in kind else None
            raise InvalidInput(
                "not-a-file",
                f"{kind} cannot be signed",
                where=f"{directory}/{name}",
                hint=hint,
            )
    uncovered = [n for n in (*tree.files, *tree.irregular) if is_under(n, IGNORED)]
    names = [n for n in tree.files if n != SIGNATURE and not is_under(n, IGNORED)]
    for name in names:
        problem = name_problem(name)
        if problem is not None:
            raise InvalidInput(
                "name-unsafe", f"the file name {problem}", where=f"{directory}/{name}"
            )
    if not names:
        raise InvalidInput("nothing-to-sign", "there is no file to sign", where=str(directory))
    return names, sorted(uncovered)
