"""What goes into and beside a built model to vouch for it.

- ``model.sig`` in the model; ``SHA256SUMS``, ``provenance.json`` and its signed bundle beside it.
- Nothing here depends on the time, the machine or the place: the same build gives the same bytes,
  with the same key also the same signatures.
"""

from __future__ import annotations

from collections.abc import Mapping

from vbuild import _core
from vbuild.attest.keys import Signer
from vbuild.attest.names import SIGNATURE
from vbuild.attest.oms import sign_model
from vbuild.attest.provenance import Material, provenance_statement, sign_statement
from vbuild.attest.sums import format_sums
from vbuild.build import Prepared, Sealed
from vbuild.build.materials import Material as Input
from vbuild.build.materials import group_label
from vbuild.errors import printable
from vbuild.manifest import Base, Delta
from vbuild.strict_json import Json

__all__ = ["BUILDER_ID", "BUILD_TYPE", "evidence"]

BUILD_TYPE = "urn:vbuild:build-type:1"
"""What ``externalParameters`` means; see docs/reference/provenance.md."""

BUILDER_ID = "urn:vbuild:builder:local"
"""A local builder: SLSA build level 1."""


def evidence(prepared: Prepared, files: Mapping[str, str], signer: Signer | None) -> Sealed:
    """Signature, sums and provenance for the output ``files`` (name to hex SHA-256)."""
    name = prepared.loaded.manifest.name
    resources = sorted(files.items())
    statement = provenance_statement(
        name=name,
        resources=resources,
        build_type=BUILD_TYPE,
        external_parameters=_parameters(prepared),
        materials=_materials(prepared),
        builder_id=BUILDER_ID,
        builder_version={"vbuild": _core.VERSION},
    )
    attest = {"SHA256SUMS": format_sums(resources), "provenance.json": statement + b"\n"}
    if signer is None:
        return Sealed({}, attest)
    attest["provenance.sigstore.json"] = sign_statement(statement, signer)
    return Sealed({SIGNATURE: sign_model(name, resources, signer)}, attest)


def public_uri(uri: str) -> str:
    """``uri`` without what only this machine knows: of an absolute path, the last part."""
    scheme, _, rest = uri.partition(":")
    if scheme == "file" and rest.startswith("/"):
        return f"file:{rest.rstrip('/').rpartition('/')[2]}"
    return uri


def _manifest_name(prepared: Prepared) -> str:
    """The manifest's file name; what is not UTF-8 in it could not be written down."""
    return printable(prepared.loaded.path.name)


def _parameters(prepared: Prepared) -> dict[str, Json]:
    manifest = prepared.loaded.manifest
    return {
        "manifest": {"name": _manifest_name(prepared), "sha256": prepared.loaded.digest},
        "base": public_uri(manifest.base.uri),
        "delta": [public_uri(delta.uri) for delta in manifest.delta],
        "license": manifest.license,
    }


def _materials(prepared: Prepared) -> list[Material]:
    loaded = prepared.loaded
    materials = [Material(f"file:{_manifest_name(prepared)}", digest={"sha256": loaded.digest})]
    materials += [_material(found) for _, found in sorted(prepared.materials.items())]
    sides: tuple[Base | Delta, ...] = (loaded.manifest.base, *loaded.manifest.delta)
    for side in sides:
        if side.weights is not None:
            digest = {"vbuildWeightsV1": side.weights}
            materials.append(Material(public_uri(side.uri), "weights", digest))
    tokenizer = loaded.manifest.tokenizer
    if tokenizer is not None and tokenizer.tokens is not None:
        pin = {"sha256": str(tokenizer.tokens_sha256)}
        materials.append(Material(f"file:{tokenizer.tokens}", digest=pin))
    materials.append(Material(f"pkg:pypi/vbuild@{_core.VERSION}"))
    return materials


def _material(found: Input) -> Material:
    return Material(
        public_uri(found.uri),
        f"{group_label(found.ref.group)}/{found.ref.file}",
        {"sha256": found.sha256},
    )
