"""``vbuild keygen``: a new P-256 key pair in two files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vbuild.attest.keys import fingerprint
from vbuild.attest.private import write_key_pair

__all__ = ["NewKey", "keygen"]


@dataclass(frozen=True, slots=True)
class NewKey:
    """Where the halves are, and the fingerprint that others see."""

    private: Path
    public: Path
    fingerprint: str


def keygen(path: Path, *, passphrase: bytes | None = None) -> NewKey:
    """Write a new private key to ``path`` (mode 0600) and its public half beside it.

    InvalidInput (``file-exists``) where either is there: a key is never overwritten.
    """
    key = write_key_pair(path, passphrase)
    public = path.with_suffix(".pub") if path.suffix == ".pem" else Path(f"{path}.pub")
    return NewKey(path, public, fingerprint(key.public_key))
