"""PEM text, read strictly, and what kind of key a DER blob holds when it is not ours.

- Exactly one block and nothing around it but white space: which of several keys is meant is not
  guessed, and text in front is where a second key hides.
- Base64 is canonical: no spaces, no stray bits, padding as it must be. Lines may have any width
  and either line end.
- A refused key is named by the object identifiers found in it. That is for the message only.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from vbuild.errors import InvalidInput

__all__ = ["decode_base64", "describe", "key_error", "single_block", "unsupported_kind"]

MAX_PEM: Final = 64 * 1024
"""Bytes; an RSA-16384 private key takes 13 KiB, and the keys that vbuild uses under 1 KiB."""

_BLOCK = re.compile(
    r"\s*-----BEGIN ([A-Z0-9 ]+)-----\r?\n((?:[A-Za-z0-9+/=]+\r?\n)*)-----END \1-----\s*"
)
_KINDS: Final = (
    ("2a864886f70d0101", "RSA"),
    ("2a8648ce3804", "DSA"),
    ("2b8104000a", "secp256k1"),
    ("2b2403030208", "brainpool"),
    ("2b65", "Ed25519, Ed448 and X25519"),
    ("2b81040021", "P-224"),
    ("2a8648ce3d030101", "P-192"),
    ("608648016503040311", "ML-DSA"),
    ("608648016503040312", "ML-DSA"),
    ("608648016503040313", "ML-DSA"),
)
_SSH_KINDS: Final = (
    (b"ssh-rsa", "RSA"),
    (b"ssh-dss", "DSA"),
    (b"ssh-ed25519", "Ed25519"),
    (b"sk-ssh-", "security key (FIDO)"),
    (b"sk-ecdsa-", "security key (FIDO)"),
)


def key_error(code: str, what: str, where: str, *, hint: str | None = None) -> InvalidInput:
    """The error for a key file that is malformed or of a kind that is not used here."""
    return InvalidInput(code, what, where=where, hint=hint)


def unsupported_kind(kind: str, where: str) -> InvalidInput:
    """The error for ``kind`` ("RSA") of keys."""
    return key_error(
        "key-unsupported", f"{kind} keys are not supported, use P-256, P-384 or P-521", where
    )


def decode_base64(text: str) -> bytes | None:
    """The bytes of standard, padded, canonical base64, or None (bad-inputs.md, 72)."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode("ascii") == text else None


def single_block(data: bytes, where: str) -> tuple[str, bytes]:
    """Label and content of the only PEM block in ``data``.

    InvalidInput ``key-malformed`` for anything that is not one clean block, ``key-unsupported``
    for a certificate, which is often mistaken for a key.
    """
    if len(data) > MAX_PEM:
        raise key_error("key-malformed", "the file is too large to be a key", where)
    text = data.decode("latin-1")
    if "-----BEGIN CERTIFICATE" in text or "-----BEGIN TRUSTED CERTIFICATE" in text:
        raise key_error(
            "key-unsupported",
            "this is a certificate, and a bare key is needed",
            where,
            hint="to verify, take its public key: openssl x509 -in CERTIFICATE -pubkey -noout; "
            "to sign, use the private key that belongs to it",
        )
    if text.count("-----BEGIN ") > 1:
        hint = None
        if "-----BEGIN EC PARAMETERS-----" in text:
            hint = "keep the key only: openssl pkcs8 -topk8 -in KEY -out NEW"
        raise key_error("key-malformed", "several PEM blocks in one file", where, hint=hint)
    if "\nProc-Type:" in text:
        raise key_error(
            "key-unsupported",
            "the key is encrypted in the legacy PEM way, which is weak",
            where,
            hint="convert it: openssl pkcs8 -topk8 -in KEY -out NEW",
        )
    match = _BLOCK.fullmatch(text)
    if match is None:
        what = "text around the PEM block, or a damaged one" if "-----BEGIN " in text else "not PEM"
        raise key_error("key-malformed", what, where)
    content = decode_base64("".join(match[2].split()))
    if content is None:
        raise key_error("key-malformed", "the base64 of the PEM block is not canonical", where)
    return match[1], content


def describe(content: bytes) -> str | None:
    """The kind of key that ``content`` holds, if it is one that vbuild does not use."""
    for name, kind in _SSH_KINDS:
        if name in content:
            return kind
    for oid, kind in _KINDS:
        encoded = bytes.fromhex(oid)
        # An identifier stands behind its tag and a length that covers at least the prefix.
        at = content.find(encoded)
        if at >= 2 and content[at - 2] == 0x06 and content[at - 1] >= len(encoded):
            return kind
    return None
