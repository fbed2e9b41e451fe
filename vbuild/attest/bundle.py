"""A sigstore bundle v0.3 that holds a DSSE envelope signed with a bare key.

- Written as one line of compact JSON, in the order that signing.md gives: same payload and key,
  same bytes.
- Read in this order: size, JSON, shape, the key that the hint names, the form of the signature,
  the signature. The payload is handed out only after that.
- The hint chooses among the trusted keys; a key taken from a bundle is never trusted. Without a
  matching trusted key the answer is no, and the hint is reported as what it is, a claim.
- Certificates, transparency log entries, timestamps and plain message signatures are refused:
  they would go unchecked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vbuild.attest import ecdsa
from vbuild.attest.dsse import IN_TOTO, Envelope, envelope_json, pae, read_envelope
from vbuild.attest.keys import PublicKey, Signer, distinct, fingerprint
from vbuild.attest.shape import Value
from vbuild.errors import InvalidInput, Mismatch
from vbuild.strict_json import Json, loads

__all__ = ["MAX_BUNDLE", "Opened", "open_bundle", "write_bundle"]

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"

MAX_BUNDLE: Final = 32 * 1024 * 1024
"""Bytes; a resource takes about 200, so this is a model of more than 100 000 files."""

MAX_ELEMENTS: Final = 1000
"""List items and object members around the payload; a bundle has a dozen."""

_HINT = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Opened:
    """What a trusted key signed, and which key it was."""

    payload: bytes
    fingerprint: str


def write_bundle(payload: bytes, signer: Signer) -> bytes:
    """``payload`` (an in-toto statement) signed by ``signer``, as a bundle without a newline.

    The signature is verified before it is used: a faulty machine or external signer is found
    here and not by the reader. Then InvalidInput (``signature-der``) or Mismatch
    (``signature-invalid``).
    """
    message = pae(IN_TOTO, payload)
    signature = signer.sign(message)
    ecdsa.verify(signer.public_key, message, signature, "the new signature")
    bundle: Json = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": fingerprint(signer.public_key)},
            "tlogEntries": [],
        },
        "dsseEnvelope": envelope_json(Envelope(payload, signature)),
    }
    return json.dumps(bundle, separators=(",", ":")).encode("ascii")


def open_bundle(data: bytes, trusted: Sequence[PublicKey], *, where: str) -> Opened:
    """The payload of a bundle that one of ``trusted`` signed; ``where`` names it in errors.

    InvalidInput ``signature-malformed``, ``signature-unsupported``, ``signature-der``; Mismatch
    ``signer-untrusted``, ``hint-mismatch``, ``signature-invalid``.
    """
    code = "signature-malformed"
    document = loads(data, where, code=code, max_size=MAX_BUNDLE, max_elements=MAX_ELEMENTS)
    root = Value(document, where, code)
    members = root.members(("mediaType", "verificationMaterial", "dsseEnvelope"))
    members["mediaType"].must_be(MEDIA_TYPE)
    hint = _hint(members["verificationMaterial"])
    envelope = read_envelope(members["dsseEnvelope"])
    message = pae(IN_TOTO, envelope.payload)
    keys = distinct(trusted)
    key = keys.get(hint)
    if key is None:
        raise _untrusted(hint, keys, message, envelope.signature, where)
    ecdsa.verify(key, message, envelope.signature, where)
    return Opened(envelope.payload, hint)


def _hint(material: Value) -> str:
    if isinstance(material.value, dict):
        for kind in ("certificate", "x509CertificateChain"):
            if kind in material.value:
                raise InvalidInput(
                    "signature-unsupported",
                    "signed with a certificate, and vbuild verifies bare keys only",
                    where=material.where,
                )
    members = material.members(("publicKey",), ("tlogEntries",))
    if "tlogEntries" in members and any(members["tlogEntries"].items()):
        raise InvalidInput(
            "signature-unsupported",
            "transparency log entries cannot be checked offline",
            where=members["tlogEntries"].where,
        )
    hint = members["publicKey"].members(("hint",))["hint"]
    if not _HINT.fullmatch(hint.text()):
        raise hint.error("not a fingerprint of 64 lower-case hex digits")
    return hint.text()


def _untrusted(
    hint: str, keys: dict[str, PublicKey], message: bytes, signature: bytes, where: str
) -> Mismatch:
    # A wrong hint on a good signature deserves its own message (bad-inputs.md, 75).
    for name, key in sorted(keys.items()):
        try:
            ecdsa.verify(key, message, signature, where)
        except (InvalidInput, Mismatch):
            continue
        return Mismatch(
            "hint-mismatch",
            "the bundle names another key than the one that signed it",
            where=where,
            expected=name,
            got=hint,
        )
    return Mismatch(
        "signer-untrusted",
        f"not signed by a trusted key; it claims the key {hint}",
        where=where,
        hint="if you trust the signer, get the public key from them and give it with --key",
    )
