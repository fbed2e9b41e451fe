"""Private keys: made, read from a file that only its owner can read, and written once.

- Read: PKCS#8 plain and encrypted, SEC1, OpenSSH. The parser is pycryptodome's; what comes out
  must be a private key on one of the three curves with a scalar in [1, n-1].
- A file that the group or others may read or write is refused (bad-inputs.md, 81).
- Written: PKCS#8, mode 0600, never over an existing file. A passphrase is bytes that the caller
  got from a prompt, a file or the environment; here it is neither asked for nor kept.
"""

from __future__ import annotations

import os
import shlex
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vbuild.attest import ecdsa
from vbuild.attest.keys import CURVES, PublicKey, canonical_public_pem, pem_text
from vbuild.attest.pem import MAX_PEM, describe, key_error, single_block, unsupported_kind
from vbuild.errors import InvalidInput
from vbuild.files import InputFile, os_error, write_atomic

if TYPE_CHECKING:
    from Crypto.PublicKey.ECC import EccKey

__all__ = ["PrivateKey", "generate", "load_private_key", "parse_private_key", "write_key_pair"]

_LABELS: Final = ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY")
_OPENSSH_PLAIN: Final = b"openssh-key-v1\0\0\0\0\x04none"
_PROTECTION: Final = "PBKDF2WithHMAC-SHA512AndAES256-CBC"
_ITERATIONS: Final = 210_000
"""OWASP's figure for PBKDF2 with HMAC-SHA512; about 0.1 s."""


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A signer whose key is in memory."""

    public_key: PublicKey
    _key: EccKey = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """The deterministic DER signature of ``message``."""
        return ecdsa.sign(self._key, self.public_key.curve, message)

    def pem(self, passphrase: bytes | None = None) -> bytes:
        """The PKCS#8 PEM text, encrypted if a passphrase is given (salted: differs each time)."""
        if passphrase is None:
            der = self._key.export_key(format="DER", use_pkcs8=True)
            return pem_text("PRIVATE KEY", bytes(der))
        der = self._key.export_key(
            format="DER",
            use_pkcs8=True,
            passphrase=passphrase,
            protection=_PROTECTION,
            prot_params={"iteration_count": _ITERATIONS},
        )
        return pem_text("ENCRYPTED PRIVATE KEY", bytes(der))


def generate() -> PrivateKey:
    """A new P-256 key from the operating system's random numbers."""
    from Crypto.PublicKey import ECC

    return _wrap(ECC.generate(curve="P-256"), "generated key")


def _wrap(key: EccKey, where: str) -> PrivateKey:
    curve = next((c for c in CURVES if key.curve == f"NIST {c.name}"), None)
    if curve is None:
        raise unsupported_kind(str(key.curve), where)
    if not key.has_private():
        raise key_error("key-unsupported", "this is a public key, not a private one", where)
    x, y = (int(v) for v in key.pointQ.xy)
    if not 0 < int(key.d) < curve.order or not curve.contains(x, y):
        raise key_error("key-malformed", "the private key is not a number below the order", where)
    return PrivateKey(PublicKey(curve, x, y), key)


def parse_private_key(data: bytes, passphrase: bytes | None, where: str) -> PrivateKey:
    """The private key in the PEM text ``data``; ``where`` names it in errors.

    InvalidInput ``key-malformed``, ``key-unsupported`` (another kind of key),
    ``passphrase-missing`` or ``passphrase-wrong``. A passphrase for a key that is not encrypted
    is ignored.
    """
    from Crypto.PublicKey import ECC

    label, content = single_block(data, where)
    if label == "PUBLIC KEY":
        raise key_error(
            "key-unsupported", "this is a public key, and a private key is needed", where
        )
    if label not in _LABELS:
        if label.endswith(" PRIVATE KEY"):
            raise unsupported_kind(label.removesuffix(" PRIVATE KEY"), where)
        raise key_error("key-unsupported", f"a {label} block is not a private key", where)
    openssh = label.startswith("OPENSSH")
    encrypted = label.startswith("ENCRYPTED") or (openssh and _OPENSSH_PLAIN not in content)
    if encrypted and not passphrase:
        raise key_error(
            "passphrase-missing", "the key is encrypted and no passphrase is given", where
        )
    encoded = pem_text(label, content) if openssh else content
    try:
        key = ECC.import_key(encoded, passphrase if encrypted else None)
    # What hostile bytes get out of the parser's slicing and unpacking, besides ValueError.
    except (ValueError, IndexError, TypeError, ArithmeticError, struct.error) as e:
        other = describe(content)
        if other is None and isinstance(e, ECC.UnsupportedEccFeature):
            other = "other curves' and other algorithms'"
        if other is not None:
            raise unsupported_kind(other, where) from e
        if encrypted:
            raise key_error(
                "passphrase-wrong", "the passphrase does not open the key", where
            ) from e
        raise key_error("key-malformed", "not an elliptic curve private key", where) from e
    return _wrap(key, where)


def load_private_key(path: Path, passphrase: bytes | None = None) -> PrivateKey:
    """The private key in the file ``path``.

    Besides ``parse_private_key``'s errors: InvalidInput ``key-permissions`` if anyone but the
    owner has access, ``not-a-file``; Unavailable if it cannot be read.
    """
    where = str(path)
    with InputFile(path, where) as file:
        # One byte above the limit is enough for the parser to refuse the size.
        data = file.pread(0, min(file.size, MAX_PEM + 1))
        mode = stat.S_IMODE(os.fstat(file.fd).st_mode)
        if mode & 0o077 and b"PRIVATE KEY-----" in data:
            raise InvalidInput(
                "key-permissions",
                "others have access to this private key",
                where=where,
                expected="mode 0600",
                got=f"mode {mode:04o}",
                hint=f"chmod 600 {shlex.quote(where)}",
            )
    return parse_private_key(data, passphrase, where)


def write_key_pair(path: Path, passphrase: bytes | None = None) -> PrivateKey:
    """Make a P-256 key and write it to ``path`` (mode 0600) and its public half to ``path``.pub.

    A name that ends in ``.pem`` gives ``.pub`` instead of ``.pem``. InvalidInput ``file-exists``
    if either file is there (nothing is written), Unavailable if they cannot be written.
    """
    public = path.with_suffix(".pub") if path.suffix == ".pem" else Path(f"{path}.pub")
    for file in (path, public):
        if os.path.lexists(file):
            raise _exists(file)
    key = generate()
    _write_new(path, key.pem(passphrase), mode=0o600)
    try:
        _write_new(public, canonical_public_pem(key.public_key), mode=0o644)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return key


def _exists(path: Path) -> InvalidInput:
    return InvalidInput(
        "file-exists",
        "the file exists, and a key is never overwritten",
        where=str(path),
        hint="choose another name, or move the old key away",
    )


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    try:
        write_atomic(path, data, mode=mode, overwrite=False)
    except FileExistsError as e:
        raise _exists(path) from e
    except OSError as e:
        raise os_error(e, str(path), "write") from e
