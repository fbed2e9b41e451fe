"""The DSSE envelope: a payload, its type, and one signature over both.

- What is signed is the pre-authentication encoding, in which type and payload carry their
  lengths, so no other split of the same bytes has the same signature.
- Read: exactly one signature (a second one would go unchecked), base64 canonical and standard,
  the payload type that the caller expects, an empty or absent ``keyid``; no further members.
- The payload is opaque bytes here and is parsed by nobody before its signature is checked.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from vbuild.attest.pem import decode_base64
from vbuild.attest.shape import Value
from vbuild.strict_json import Json

__all__ = ["IN_TOTO", "Envelope", "envelope_json", "pae", "read_envelope"]

IN_TOTO = "application/vnd.in-toto+json"
"""The payload type of an in-toto statement."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload and the (unverified) signature of its pre-authentication encoding."""

    payload: bytes
    signature: bytes


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed (DSSE protocol 1.0): lengths are decimal, in bytes."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope_json(envelope: Envelope) -> Json:
    """The envelope of an in-toto payload as a JSON object, members in signing.md's order."""
    return {
        "payload": base64.b64encode(envelope.payload).decode("ascii"),
        "payloadType": IN_TOTO,
        "signatures": [
            {"sig": base64.b64encode(envelope.signature).decode("ascii"), "keyid": ""},
        ],
    }


def read_envelope(value: Value) -> Envelope:
    """The envelope of an in-toto payload; InvalidInput for any other shape (70, 71, 72)."""
    members = value.members(("payload", "payloadType", "signatures"))
    members["payloadType"].must_be(IN_TOTO)
    signature = members["signatures"].only().members(("sig",), ("keyid",))
    if "keyid" in signature:
        signature["keyid"].must_be("")
    return Envelope(_decoded(members["payload"]), _decoded(signature["sig"]))


def _decoded(value: Value) -> bytes:
    data = decode_base64(value.text())
    if data is None:
        raise value.error("not canonical base64")
    return data
