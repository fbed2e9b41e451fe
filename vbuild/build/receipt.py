"""What a later run needs to know to keep a finished shard.

- A receipt binds a shard to this vbuild, this manifest and this table (architecture: resume); it is
  written after the shard is on disk. A later run hashes the shard again before it keeps it.
- Whatever is not a receipt, in whatever way, is none: then the shard is made again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from vbuild.errors import InvalidInput
from vbuild.strict_json import loads

__all__ = ["Receipt"]

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a finished shard was made by, and what it is (digests in hex, size in bytes).

    ``version`` is vbuild's. ``tensors`` has the digest of each tensor, in file order, where the
    weights digest is wanted.
    """

    version: str
    manifest: str
    table: str
    sha256: str
    size: int
    tensors: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(
            {
                "version": self.version,
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
                "version": str(version),
                "manifest": str(manifest),
                "table": str(table),
                "sha256": str(digest),
                "size": int(size),
                "tensors": list(tensors),
            } if all(isinstance(t, str) and _DIGEST.fullmatch(t) for t in tensors):
                return cls(version, manifest, table, digest, size, tuple(map(str, tensors)))
        return None
