"""``model.sig``: the signed list of a model's files (OpenSSF Model Signing 1.0, key method).

What a bundle must be, each point refused on its own even where the reference verifier lets it
through (signing.md; bad-inputs.md, 69 to 78):

- at most 32 MiB of JSON without duplicate keys, byte order mark, NaN or lone surrogates, neither
  in the bundle nor in the payload; no member that the format does not have;
- one signature, in canonical base64 and DER, by a trusted key that the hint names;
- one subject, whose digest is the SHA-256 of the resources' raw digests in their order;
- method ``files``, hash ``sha256`` everywhere, symbolic links not allowed;
- ignore paths: among the four defaults, the signature file's own name (``model_signing`` adds it
  when it signs in the directory) and what the caller allows, in any order;
- at least one resource; names clean, strictly increasing by code points (so none twice), not
  the signature itself, none under an ignore path; digests of 64 lower-case hex digits.

``model_signing`` sorts names by path components (``a/b`` before ``a.txt``), so of its bundles
those in which that matters are refused, as the Go verifier refuses them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from vbuild.attest.bundle import open_bundle, write_bundle
from vbuild.attest.keys import PublicKey, Signer
from vbuild.attest.names import IGNORED, SIGNATURE, is_under, name_problem
from vbuild.attest.shape import Value
from vbuild.errors import InvalidInput, Mismatch
from vbuild.strict_json import loads

__all__ = ["STATEMENT_TYPE", "VerifiedModel", "model_root", "sign_model", "verify_bundle"]

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"

_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class VerifiedModel:
    """What a trusted key says a model consists of.

    ``name`` is the signer's name for it (text from the signer; escape it before printing);
    ``resources`` maps file names to hex digests, in order; ``root`` is the subject's digest;
    ``fingerprint`` is the signer's; ``ignored`` are the paths that the signature leaves out.
    """

    name: str
    resources: dict[str, str]
    root: str
    fingerprint: str
    ignored: tuple[str, ...]


def model_root(digests: Sequence[str]) -> str:
    """The subject's digest: SHA-256 over the raw bytes of the hex ``digests``, in order."""
    return hashlib.sha256(b"".join(bytes.fromhex(d) for d in digests)).hexdigest()


def sign_model(name: str, resources: Sequence[tuple[str, str]], signer: Signer) -> bytes:
    """The bytes of ``model.sig`` for (file name, hex SHA-256) pairs in any order.

    The same name, resources and key give the same bytes. InvalidInput ``name-unsafe`` for a file
    name that a strict verifier refuses, ``nothing-to-sign`` without resources.
    """
    listed = sorted(resources)
    if not listed:
        raise InvalidInput("nothing-to-sign", "there is no file to sign", where=name)
    if name_problem(name.replace("/", "_")) is not None:
        raise InvalidInput("name-unsafe", "not a name that a model can be signed under", got=name)
    for i, (file, digest) in enumerate(listed):
        problem = "is listed twice" if i and listed[i - 1][0] == file else name_problem(file)
        if file == SIGNATURE or is_under(file, IGNORED):
            problem = "is never signed"
        elif problem is None and not _DIGEST.fullmatch(digest):
            problem = "has no SHA-256 digest"
        if problem is not None:
            raise InvalidInput("name-unsafe", f"the file name {problem}", where=file)
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": model_root([d for _, d in listed])}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(IGNORED),
            },
            "resources": [{"name": n, "algorithm": "sha256", "digest": d} for n, d in listed],
        },
    }
    text = json.dumps(statement, separators=(",", ":"), ensure_ascii=False)
    return write_bundle(text.encode("utf-8"), signer)


def verify_bundle(
    bundle: bytes,
    trusted: Sequence[PublicKey],
    *,
    where: str,
    allow_ignored: Collection[str] = (),
) -> VerifiedModel:
    """What ``bundle`` vouches for, if one of ``trusted`` signed it and it is strictly well-formed.

    ``where`` names the bundle in errors; ``allow_ignored`` are further paths that a signature may
    leave out. The rules are the module's. ``open_bundle``'s errors, and InvalidInput
    ``statement-malformed`` or ``signature-unsupported``; Mismatch ``root-mismatch`` or
    ``ignores-too-much``.
    """
    opened = open_bundle(bundle, trusted, where=where)
    where = f"{where}: payload"
    code = "statement-malformed"
    statement = Value(loads(opened.payload, where, code=code), where, code)
    members = statement.members(("_type", "subject", "predicateType", "predicate"))
    members["_type"].must_be(STATEMENT_TYPE)
    members["predicateType"].must_be(PREDICATE_TYPE)
    name, root = _subject(members["subject"])
    predicate = members["predicate"].members(("serialization", "resources"))
    ignored = _ignored(predicate["serialization"], {*IGNORED, SIGNATURE, *allow_ignored})
    resources = _resources(predicate["resources"], {SIGNATURE, *ignored})
    found = model_root(list(resources.values()))
    if found != root:
        raise Mismatch(
            "root-mismatch",
            "the signed digest is not that of the listed files",
            where=where,
            expected=root,
            got=found,
        )
    return VerifiedModel(name, resources, root, opened.fingerprint, ignored)


def _digest(value: Value) -> str:
    if not _DIGEST.fullmatch(value.text()):
        raise value.error("not a SHA-256 digest of 64 lower-case hex digits")
    return value.text()


def _subject(value: Value) -> tuple[str, str]:
    members = value.only().members(("name", "digest"))
    if not members["name"].text():
        raise members["name"].error("the model has no name")
    return members["name"].text(), _digest(members["digest"].members(("sha256",))["sha256"])


def _supported(value: Value, constant: str | bool) -> None:
    if not value.equals(constant):
        raise InvalidInput(
            "signature-unsupported",
            "a kind of signature that vbuild does not verify",
            where=value.where,
            expected=json.dumps(constant),
            got=value.shown,
            hint="sign the model again with the method files and the hash sha256",
        )


def _ignored(value: Value, allowed: Collection[str]) -> tuple[str, ...]:
    members = value.members(("method", "hash_type", "allow_symlinks"), ("ignore_paths",))
    _supported(members["method"], "files")
    _supported(members["hash_type"], "sha256")
    _supported(members["allow_symlinks"], False)
    ignored: set[str] = set()
    for path in members["ignore_paths"].items() if "ignore_paths" in members else ():
        if path.text() not in allowed:
            raise Mismatch(
                "ignores-too-much",
                f"the signature does not cover {path.shown}",
                where=path.where,
                hint="have the model signed again without ignoring it",
            )
        ignored.add(path.text())
    return tuple(sorted(ignored))


def _resources(value: Value, excluded: Collection[str]) -> dict[str, str]:
    resources: dict[str, str] = {}
    previous: str | None = None
    for item in value.items():
        members = item.members(("name", "algorithm", "digest"))
        name = members["name"].text()
        problem = name_problem(name)
        if problem is None and is_under(name, excluded):
            problem = "is one that the signature leaves out"
        if problem is not None:
            raise members["name"].error(f"the file name {problem}", got=members["name"].shown)
        if previous is not None and name <= previous:
            raise members["name"].error(
                "file names are not strictly increasing by code points", got=members["name"].shown
            )
        _supported(members["algorithm"], "sha256")
        resources[name] = _digest(members["digest"])
        previous = name
    if not resources:
        raise value.error("the signature covers no file")
    return resources
