"""The reference implementation of the OMS as a second opinion, in both directions."""

import base64
import hashlib
import json
import subprocess
import sys

import pytest

from tests.attest.material import KEYS, VECTORS, hash_files, private, public, sec1
from vbuild.attest.dsse import IN_TOTO, pae
from vbuild.attest.keys import canonical_public_pem, fingerprint
from vbuild.attest.sign import sign_tree
from vbuild.attest.verify import verify_tree

pytestmark = pytest.mark.oracle

FILES = {"config.json": "{}", "weights/a.safetensors": "one", "café \U0001f600.txt": "two", "z": ""}


@pytest.fixture
def model(tmp_path):
    pytest.importorskip("model_signing")
    for name, content in FILES.items():
        path = tmp_path / "m" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "m"


@pytest.fixture(params=["p256", "p384", "p521"])
def curve(request):
    return request.param


def ours(model, curve):
    signed = sign_tree(model, "m", private(curve), hash_files=hash_files)
    (model / "model.sig").write_bytes(signed.bundle)


def run(*arguments) -> bool:
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def their_verdict(model, curve) -> bool:
    key = model.parent / "key.pub"
    key.write_bytes(canonical_public_pem(public(curve)))
    signature = model / "model.sig"
    return run("verify", "key", "--signature", signature, "--public_key", key, model)


def sign_theirs(model, curve, *options):
    key = model.parent / "key.pem"
    key.write_text(KEYS[f"{curve}-pkcs8"])
    signature = model / "model.sig"
    arguments = ("--private_key", key, "--signature", signature, *options, model)
    assert run("sign", "key", *arguments)


def our_verdict(model, curve):
    return verify_tree(model, (public(curve),), hash_files=hash_files)


def test_the_reference_verifier_accepts_what_we_sign(model, curve):
    ours(model, curve)
    assert their_verdict(model, curve)
    (model / "z").write_text("tampered")
    assert not their_verdict(model, curve)


def test_the_reference_verifier_rejects_our_signature_over_other_files(model):
    ours(model, "p256")
    (model / "extra").write_text("")
    assert not their_verdict(model, "p256")
    (model / "extra").unlink()
    assert their_verdict(model, "p256")
    (model / "z").unlink()
    assert not their_verdict(model, "p256")


def test_the_reference_verifier_wants_the_right_key(model):
    ours(model, "p256")
    assert not their_verdict(model, "p384")


def test_we_accept_what_the_reference_signer_signs_case_77(model, curve):
    sign_theirs(model, curve)
    verdict = our_verdict(model, curve)
    assert verdict.ok, verdict.problem
    assert verdict.fingerprint == fingerprint(public(curve))
    assert [f.name for f in verdict.files] == sorted(FILES)
    (model / "z").write_text("tampered")
    assert not our_verdict(model, curve).ok


def test_we_accept_it_without_git_paths_as_well_case_77(model):
    sign_theirs(model, "p256", "--no-ignore-git-paths")
    assert our_verdict(model, "p256").ok


def test_we_refuse_a_path_that_the_reference_signer_left_out_case_77(model):
    sign_theirs(model, "p256", "--ignore-paths", model / "z")
    (model / "z").write_text("anything")
    assert their_verdict(model, "p256")
    assert our_verdict(model, "p256").problem.code == "ignores-too-much"


def test_we_refuse_its_order_where_it_is_not_that_of_code_points_case_76(model):
    (model / "weights.txt").write_text("")  # '.' sorts before '/', path components do not
    sign_theirs(model, "p256")
    assert their_verdict(model, "p256")
    problem = our_verdict(model, "p256").problem
    assert problem.code == "statement-malformed"
    assert "code points" in problem.message


def test_the_vector_is_what_pyca_and_plain_json_make_of_it():
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    from cryptography.hazmat.primitives import hashes, serialization

    vector = json.loads((VECTORS / "model-sig.json").read_text())
    key = ec.derive_private_key(int(vector["private"], 16), ec.SECP256R1())
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    bundle = json.loads(vector["bundle"])
    assert bundle["verificationMaterial"]["publicKey"]["hint"] == hashlib.sha256(pem).hexdigest()
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    signature = key.sign(pae(IN_TOTO, payload), algorithm)
    assert bundle["dsseEnvelope"]["signatures"][0]["sig"] == base64.b64encode(signature).decode()
    root = hashlib.sha256(b"".join(bytes.fromhex(r["digest"]) for r in vector["resources"]))
    subject = {"name": vector["name"], "digest": {"sha256": root.hexdigest()}}
    assert json.loads(payload)["subject"] == [subject]


def test_the_reference_implementation_accepts_the_vector(tmp_path):
    pytest.importorskip("model_signing")
    from model_signing._signing import sign_ec_key, sign_sigstore_pb

    vector = json.loads((VECTORS / "model-sig.json").read_text())
    (tmp_path / "key.pub").write_bytes(
        canonical_public_pem(sec1("P-256", vector["private"]).public_key)
    )
    (tmp_path / "model.sig").write_text(vector["bundle"])
    signature = sign_sigstore_pb.Signature.read(tmp_path / "model.sig")
    manifest = sign_ec_key.Verifier(tmp_path / "key.pub").verify(signature)
    listed = {str(d.identifier): d.digest.digest_hex for d in manifest.resource_descriptors()}
    assert listed == {r["name"]: r["digest"] for r in vector["resources"]}
