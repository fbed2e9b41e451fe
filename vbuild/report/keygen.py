"""A new key pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbuild.report.document import Value
from vbuild.report.lines import Line, styled, table

if TYPE_CHECKING:
    from vbuild.commands.keygen import NewKey

__all__ = ["document", "lines"]


def lines(key: NewKey, *, encrypted: bool) -> list[Line]:
    """Where the halves are, and the fingerprint to tell others."""
    protection = "encrypted" if encrypted else "not encrypted"
    return table(
        [
            ("private key", styled(str(key.private), "strong")),
            ("", f"{protection}; keep it secret"),
            ("public key", styled(str(key.public), "strong")),
            ("", "give it to those who verify"),
            ("fingerprint", key.fingerprint),
        ],
        indent=0,
    )


def document(key: NewKey, *, encrypted: bool) -> dict[str, Value]:
    """The fields of ``vbuild.keygen/1``."""
    return {
        "private": key.private,
        "public": key.public,
        "fingerprint": key.fingerprint,
        "encrypted": encrypted,
    }
