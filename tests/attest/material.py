"""Keys, bundles and trees that the tests of this room share."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vbuild.attest.dsse import IN_TOTO, pae
from vbuild.attest.keys import fingerprint, load_public_key, pem_text
from vbuild.attest.oms import sign_model
from vbuild.attest.private import PrivateKey, parse_private_key

VECTORS = Path(__file__).parent.parent / "vectors"
KEYS: dict[str, str] = json.loads((VECTORS / "keys.json").read_text())["files"]
PASSPHRASE = b"correct-horse"
CURVE_NAMES = ("p256", "p384", "p521")


OIDS = {"P-256": "06082a8648ce3d030107", "P-384": "06052b81040022", "P-521": "06052b81040023"}


def sec1(curve: str, scalar: str) -> PrivateKey:
    """The key with this scalar in hex, read from a hand-made ECPrivateKey."""
    secret = bytes.fromhex(scalar)
    oid = bytes.fromhex(OIDS[curve])
    body = b"\x02\x01\x01\x04" + bytes([len(secret)]) + secret + b"\xa0" + bytes([len(oid)]) + oid
    return parse_private_key(
        pem_text("EC PRIVATE KEY", b"\x30" + bytes([len(body)]) + body), None, curve
    )


def private(name: str = "p256") -> PrivateKey:
    return parse_private_key(KEYS[f"{name}-pkcs8"].encode(), None, name)


def public(name: str = "p256"):
    return load_public_key(KEYS[f"{name}-public"].encode(), name)


def hash_files(paths: Sequence[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


RESOURCES = (("config.json", digest_of("{}")), ("model.safetensors", digest_of("weights")))


def small_bundle(signer: PrivateKey | None = None) -> bytes:
    return sign_model("m", RESOURCES, signer or private())


def statement_of(bundle: bytes) -> dict[str, Any]:
    return json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))


def rebundle(payload: bytes, signer: PrivateKey | None = None) -> bytes:
    """``payload`` signed without any of the writer's rules."""
    key = signer or private()
    signature = base64.b64encode(key.sign(pae(IN_TOTO, payload))).decode()
    return json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "publicKey": {"hint": fingerprint(key.public_key)},
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": IN_TOTO,
                "signatures": [{"sig": signature, "keyid": ""}],
            },
        }
    ).encode()


def forged(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A well-signed bundle whose statement ``change`` has edited in place."""
    statement = statement_of(small_bundle())
    change(statement)
    return rebundle(json.dumps(statement).encode())


def with_resources(resources: Sequence[tuple[str, str]]) -> bytes:
    """A well-signed bundle with these resources as they are, and the root that fits them."""

    def change(statement: dict[str, Any]) -> None:
        statement["predicate"]["resources"] = [
            {"name": n, "algorithm": "sha256", "digest": d} for n, d in resources
        ]
        raw = b"".join(bytes.fromhex(d) for _, d in resources)
        statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(raw).hexdigest()

    return forged(change)
