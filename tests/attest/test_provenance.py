import json

import pytest

from tests.attest.material import RESOURCES, private, public
from vbuild.attest.bundle import open_bundle
from vbuild.attest.keys import fingerprint
from vbuild.attest.oms import model_root
from vbuild.attest.provenance import Material, provenance_statement, sign_statement
from vbuild.errors import InvalidInput, Mismatch

MATERIALS = [
    Material("pkg:huggingface/org/repo@" + "0" * 40, "config.json", {"sha256": "1" * 64}),
    Material("file:manifest.toml", None, {"sha256": "2" * 64}),
    Material("pkg:pypi/vbuild@1.0"),
]


def statement(**changes) -> bytes:
    arguments = {
        "name": "vicuna-7b",
        "resources": RESOURCES,
        "build_type": "https://example.org/vbuild/build/v1",
        "external_parameters": {"manifest": "manifest.toml", "base": "file:llama", "delta": ["x"]},
        "materials": MATERIALS,
        "builder_id": "https://example.org/vbuild/local/v1",
        "builder_version": {"vbuild": "1.0"},
    }
    return provenance_statement(**{**arguments, **changes})


def test_every_file_and_the_root_are_subjects():
    value = json.loads(statement())
    assert value["_type"] == "https://in-toto.io/Statement/v1"
    assert value["predicateType"] == "https://slsa.dev/provenance/v1"
    assert {s["name"]: s["digest"]["sha256"] for s in value["subject"]} == {
        **dict(RESOURCES),
        "vicuna-7b": model_root([d for _, d in RESOURCES]),
    }
    definition = value["predicate"]["buildDefinition"]
    assert set(definition) == {"buildType", "externalParameters", "resolvedDependencies"}
    assert len(definition["resolvedDependencies"]) == 3
    assert value["predicate"]["runDetails"]["builder"]["id"].startswith("https://")


def test_no_order_of_the_arguments_changes_a_byte():
    parameters = {"delta": ["x"], "base": "file:llama", "manifest": "manifest.toml"}
    assert statement() == statement(
        resources=RESOURCES[::-1], materials=MATERIALS[::-1], external_parameters=parameters
    )


def test_the_signed_bundle_opens_with_the_key_and_with_no_other():
    data = sign_statement(statement(), private())
    assert data == sign_statement(statement(), private())
    opened = open_bundle(data, (public(),), where="provenance.json")
    assert opened.payload == statement()
    assert opened.fingerprint == fingerprint(public())
    with pytest.raises(Mismatch):
        open_bundle(data, (public("p384"),), where="provenance.json")


def test_provenance_is_not_taken_for_a_model_signature():
    from vbuild.attest.oms import verify_bundle

    with pytest.raises(InvalidInput) as info:
        verify_bundle(sign_statement(statement(), private()), (public(),), where="provenance.json")
    assert info.value.code == "statement-malformed"


def test_provenance_of_nothing_or_with_a_name_that_is_no_text_is_refused():
    with pytest.raises(InvalidInput) as info:
        statement(resources=())
    assert info.value.code == "nothing-to-sign"
    with pytest.raises(InvalidInput) as bad:
        statement(resources=(("a\udcff", "0" * 64),))
    assert bad.value.code == "name-unsafe"


@pytest.mark.oracle
def test_in_toto_s_own_library_reads_the_statement():
    json_format = pytest.importorskip("google.protobuf.json_format")
    statement_pb2 = pytest.importorskip("in_toto_attestation.v1.statement_pb2")
    parsed = json_format.Parse(statement(), statement_pb2.Statement())
    module = pytest.importorskip("in_toto_attestation.v1.statement")
    module.Statement.copy_from_pb(parsed).validate()


@pytest.mark.oracle
def test_sigstore_s_own_models_read_the_bundle():
    models = pytest.importorskip("sigstore_models.bundle.v1")
    parsed = models.Bundle.from_json(sign_statement(statement(), private()))
    assert parsed.verification_material.public_key.hint == fingerprint(public())
