"""Opening the files of a base or a delta by key, one at a time, keeping what was read of each.

- The bytes read are kept: the build feeds them to the file's digest, so what was planned from is
  what was verified (bad-inputs.md, 24).
- Equal bytes are kept once: the norms of Meta's files are in each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vbuild.errors import InvalidInput
from vbuild.files import SMALL_FILE_LIMIT, Identity, InputFile

__all__ = ["Opener"]


class Opener:
    """Files by key; ``headers`` and ``identities`` have an entry for each that was opened."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files
        self.headers: dict[str, tuple[tuple[int, bytes], ...]] = {}
        self.identities: dict[str, Identity] = {}
        self._kept: dict[bytes, bytes] = {}

    @contextmanager
    def open(self, name: str) -> Iterator[InputFile]:
        """The file ``name``, while it is open; what was read is kept when it is closed."""
        with InputFile(self.files[name], name) as file:
            yield file
            self.headers[name] = tuple(
                (offset, self._kept.setdefault(data, data)) for offset, data in file.ranges
            )
            self.identities[name] = file.identity

    def read(self, name: str, what: str) -> bytes:
        """All of a small file; InvalidInput (``file-too-large``) for one too large for ``what``."""
        with self.open(name) as file:
            if file.size > SMALL_FILE_LIMIT:
                raise InvalidInput(
                    "file-too-large",
                    f"the file is too large to be {what}",
                    where=name,
                    expected=f"at most {SMALL_FILE_LIMIT} bytes",
                    got=f"{file.size} bytes",
                )
            return file.pread(0, file.size)
