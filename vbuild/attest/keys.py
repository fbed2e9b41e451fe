"""Public keys: the three curves, their PEM text, fingerprints, and what a signer is.

- NIST P-256, P-384 and P-521, and nothing else. A public key is accepted in exactly one form:
  one ``PUBLIC KEY`` block with a named curve and an uncompressed point that lies on the curve.
- The form is compared byte for byte with the only DER encoding there is, so no ASN.1 parser is
  involved and two texts of the same key have the same canonical text.
- The fingerprint is the SHA-256 of the canonical PEM text; it is the hint of an OMS bundle
  (signing.md). Windows line ends are read, but never enter a fingerprint.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from vbuild.attest.pem import describe, key_error, single_block, unsupported_kind

__all__ = [
    "CURVES",
    "Curve",
    "PublicKey",
    "Signer",
    "canonical_public_pem",
    "distinct",
    "fingerprint",
    "load_public_key",
    "pem_text",
]


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve y^2 = x^3 - 3x + b over the integers modulo ``p``, with a group of ``order``.

    ``size`` is that of a coordinate in bytes; ``spki`` is the DER of a public key up to the
    point's coordinates.
    """

    name: str
    p: int
    b: int
    order: int
    size: int
    spki: bytes

    def contains(self, x: int, y: int) -> bool:
        """Whether (x, y) is a point of the curve, with both coordinates reduced."""
        inside = 0 <= x < self.p and 0 <= y < self.p
        return inside and (y * y - (x * x * x - 3 * x + self.b)) % self.p == 0


# FIPS 186-4, D.1.2; the prefixes are RFC 5480's SubjectPublicKeyInfo with a named curve.
CURVES = (
    Curve(
        name="P-256",
        p=2**256 - 2**224 + 2**192 + 2**96 - 1,
        b=0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        order=0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
        size=32,
        spki=bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
    ),
    Curve(
        name="P-384",
        p=2**384 - 2**128 - 2**96 + 2**32 - 1,
        b=int(
            "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe814112"
            "0314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
            16,
        ),
        order=int(
            "ffffffffffffffffffffffffffffffffffffffffffffffff"
            "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
            16,
        ),
        size=48,
        spki=bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004"),
    ),
    Curve(
        name="P-521",
        p=2**521 - 1,
        b=int(
            "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e1"
            "56193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
            16,
        ),
        order=int(
            "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
            "fa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
            16,
        ),
        size=66,
        spki=bytes.fromhex("30819b301006072a8648ce3d020106052b810400230381860004"),
    ),
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A point of one of the three curves; ``load_public_key`` and signers make them."""

    curve: Curve
    x: int
    y: int


class Signer(Protocol):
    """Something that signs: a private key in memory, or a command that holds one."""

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies what ``sign`` returns."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The DER ECDSA signature over the hash of ``message`` that the curve fixes."""
        ...


def pem_text(label: str, der: bytes) -> bytes:
    """``der`` as one PEM block: 64 columns of base64 and a final newline."""
    body = base64.b64encode(der).decode("ascii")
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    text = "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
    return text.encode("ascii")


def canonical_public_pem(key: PublicKey) -> bytes:
    """The one PEM text of ``key`` that fingerprints are made of, as OpenSSL writes it."""
    size = key.curve.size
    point = key.x.to_bytes(size, "big") + key.y.to_bytes(size, "big")
    return pem_text("PUBLIC KEY", key.curve.spki + point)


def fingerprint(key: PublicKey) -> str:
    """Lower-case hex SHA-256 of the canonical PEM text; the hint of an OMS bundle."""
    return hashlib.sha256(canonical_public_pem(key)).hexdigest()


def distinct(keys: Iterable[PublicKey]) -> dict[str, PublicKey]:
    """``keys`` by fingerprint, so that a key listed twice counts once (bad-inputs.md, 79)."""
    return {fingerprint(key): key for key in keys}


def load_public_key(data: bytes, where: str) -> PublicKey:
    """The public key in the PEM text ``data``; ``where`` names it in errors.

    InvalidInput ``key-malformed`` for what is not one clean PEM block, ``key-unsupported`` for a
    key of another kind or form, ``key-off-curve`` for a point that is not on its curve
    (bad-inputs.md, 74).
    """
    if data.startswith(b"ecdsa-sha2-nistp"):
        raise key_error(
            "key-unsupported",
            "this is a public key in OpenSSH's form",
            where,
            hint="convert it: ssh-keygen -e -m PKCS8 -f KEY > NEW",
        )
    label, der = single_block(data, where)
    if label.endswith("PRIVATE KEY"):
        raise key_error(
            "key-unsupported",
            "this is a private key, and a public key is needed",
            where,
            hint="give the file that ends in .pub; keep this one to yourself",
        )
    if label != "PUBLIC KEY":
        raise key_error("key-unsupported", f"a {label} block is not a public key", where)
    for curve in CURVES:
        if der.startswith(curve.spki) and len(der) == len(curve.spki) + 2 * curve.size:
            point = der[len(curve.spki) :]
            x = int.from_bytes(point[: curve.size], "big")
            y = int.from_bytes(point[curve.size :], "big")
            if not curve.contains(x, y):
                raise key_error("key-off-curve", f"the point is not on curve {curve.name}", where)
            return PublicKey(curve, x, y)
    kind = describe(der)
    if kind is not None:
        raise unsupported_kind(kind, where)
    raise key_error(
        "key-malformed",
        "the public key is not a named curve with an uncompressed point",
        where,
        hint="convert it: openssl ec -pubin -in KEY -param_enc named_curve"
        " -conv_form uncompressed -out NEW",
    )
