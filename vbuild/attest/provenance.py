"""How a model was made: an in-toto statement with a SLSA v1 provenance predicate.

- The subjects are every output file and, under the model's name, the root that ``model.sig``
  signs, so that provenance and signature speak of the same thing.
- Deterministic: keys and lists are sorted, and there is no time, host name, user name, absolute
  path or run identifier. Two builders of one manifest write the same statement; what differs
  between their machines goes to ``buildinfo.json``, which nobody signs (signing.md).
- ``external_parameters`` are what the user decided and what changes bytes: the manifest, the
  URIs, such flags. Threads are not among them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vbuild.attest.bundle import write_bundle
from vbuild.attest.keys import Signer
from vbuild.attest.oms import STATEMENT_TYPE, model_root
from vbuild.errors import InvalidInput
from vbuild.strict_json import Json

__all__ = ["Material", "provenance_statement", "sign_statement"]

PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"


@dataclass(frozen=True, slots=True)
class Material:
    """An input by digest: ``uri`` says where it comes from (``pkg:huggingface/ORG/REPO@COMMIT``,
    ``file:NAME``), ``name`` which file of it, ``digest`` maps algorithms to hex digests (None
    for what has none, as the tool itself)."""

    uri: str
    name: str | None = None
    digest: Mapping[str, str] | None = None


def provenance_statement(
    *,
    name: str,
    resources: Sequence[tuple[str, str]],
    build_type: str,
    external_parameters: Mapping[str, Json],
    materials: Sequence[Material],
    builder_id: str,
    builder_version: Mapping[str, str],
) -> bytes:
    """The statement's canonical JSON: sorted keys, compact, raw UTF-8.

    ``resources`` are the (file name, hex SHA-256) pairs of ``model.sig``; ``build_type`` is a URI
    with documentation behind it. InvalidInput ``nothing-to-sign`` without resources,
    ``name-unsafe`` for text that is not UTF-8.
    """
    listed = sorted(resources)
    if not listed:
        raise InvalidInput("nothing-to-sign", "there is no file to attest", where=name)
    subjects = [*listed, (name, model_root([digest for _, digest in listed]))]
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": n, "digest": {"sha256": d}} for n, d in subjects],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": build_type,
                "externalParameters": dict(external_parameters),
                "resolvedDependencies": sorted(
                    map(_descriptor, materials), key=lambda d: json.dumps(d, sort_keys=True)
                ),
            },
            "runDetails": {"builder": {"id": builder_id, "version": dict(builder_version)}},
        },
    }
    text = json.dumps(
        statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise InvalidInput("name-unsafe", "a name is not UTF-8", where=name) from e


def _descriptor(material: Material) -> dict[str, object]:
    descriptor: dict[str, object] = {"uri": material.uri}
    if material.name is not None:
        descriptor["name"] = material.name
    if material.digest is not None:
        descriptor["digest"] = dict(material.digest)
    return descriptor


def sign_statement(statement: bytes, signer: Signer) -> bytes:
    """``statement`` in a signed sigstore bundle (payload type in-toto), as one line of JSON."""
    return write_bundle(statement, signer)
