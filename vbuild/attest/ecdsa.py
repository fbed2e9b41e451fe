"""ECDSA signatures: RFC 6979 out, strict DER in.

- The nonce comes from key and message (RFC 6979), so the same key signs the same bytes the same
  way on every machine.
- A signature is decoded and judged here, before a library sees it: it must be the one DER
  encoding of two integers in [1, n-1]. Refused are trailing bytes, long forms of a length, extra
  zero bytes, negative numbers, 0, n and above, and the raw R || S form (bad-inputs.md, 73).
- Both s and n - s verify, as the standard has it; nothing here may use a signature as an
  identifier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbuild.attest.keys import Curve, PublicKey
from vbuild.errors import InvalidInput, Mismatch

if TYPE_CHECKING:
    from Crypto.Hash import SHA256, SHA384, SHA512
    from Crypto.PublicKey.ECC import EccKey

__all__ = ["decode_signature", "encode_signature", "sign", "verify"]


def _integer(n: int) -> bytes:
    body = n.to_bytes(n.bit_length() // 8 + 1, "big")
    return bytes((0x02, len(body))) + body


def encode_signature(r: int, s: int) -> bytes:
    """The DER encoding of SEQUENCE { INTEGER r, INTEGER s }; both are below 2^522."""
    body = _integer(r) + _integer(s)
    length = bytes((len(body),)) if len(body) < 128 else bytes((0x81, len(body)))
    return b"\x30" + length + body


def decode_signature(der: bytes, curve: Curve, where: str) -> tuple[int, int]:
    """(r, s) of a canonical DER signature; InvalidInput (``signature-der``) for anything else."""
    # Read as if it were canonical, then compare with the only canonical encoding.
    start = 3 if der[1:2] == b"\x81" else 2
    longest = curve.size + 1
    if 8 <= len(der) <= 3 + 2 * (2 + longest) and der[start + 1] <= longest:
        middle = start + 2 + der[start + 1]
        r = int.from_bytes(der[start + 2 : middle], "big")
        s = int.from_bytes(der[middle + 2 :], "big")
        if s.bit_length() <= 8 * longest and encode_signature(r, s) == der:
            if 0 < r < curve.order and 0 < s < curve.order:
                return r, s
            raise InvalidInput(
                "signature-der", "r or s of the signature is 0 or not below the order", where=where
            )
    hint = "this looks like a raw R || S pair" if len(der) == 2 * curve.size else None
    raise InvalidInput(
        "signature-der", "the signature is not canonical DER", where=where, hint=hint
    )


def sign(key: EccKey, curve: Curve, message: bytes) -> bytes:
    """The deterministic DER signature of ``message`` by a private ``key`` on ``curve``."""
    from Crypto.Signature import DSS

    scheme = DSS.new(key, "deterministic-rfc6979", encoding="der")
    return bytes(scheme.sign(_hash(curve, message)))


def verify(key: PublicKey, message: bytes, der: bytes, where: str) -> None:
    """Return if ``der`` is ``key``'s signature of ``message``.

    InvalidInput (``signature-der``) for a malformed signature, Mismatch (``signature-invalid``)
    for one that does not verify.
    """
    from Crypto.PublicKey import ECC
    from Crypto.Signature import DSS

    r, s = decode_signature(der, key.curve, where)
    raw = r.to_bytes(key.curve.size, "big") + s.to_bytes(key.curve.size, "big")
    point = ECC.construct(curve=key.curve.name, point_x=key.x, point_y=key.y)
    scheme = DSS.new(point, "fips-186-3", encoding="binary")
    try:
        scheme.verify(_hash(key.curve, message), raw)
    except ValueError as e:
        raise Mismatch(
            "signature-invalid", "the signature does not match what it stands for", where=where
        ) from e


def _hash(
    curve: Curve, message: bytes
) -> SHA256.SHA256Hash | SHA384.SHA384Hash | SHA512.SHA512Hash:
    from Crypto.Hash import SHA256, SHA384, SHA512

    if curve.name == "P-256":
        return SHA256.new(message)
    return SHA384.new(message) if curve.name == "P-384" else SHA512.new(message)
