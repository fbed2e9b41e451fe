import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from Crypto.PublicKey import ECC

from tests.attest.material import CURVE_NAMES, KEYS, PASSPHRASE, private, public, sec1
from vbuild.attest.keys import (
    CURVES,
    canonical_public_pem,
    distinct,
    fingerprint,
    load_public_key,
    pem_text,
)
from vbuild.attest.private import (
    generate,
    load_private_key,
    parse_private_key,
    write_key_pair,
)
from vbuild.errors import InvalidInput, Unavailable, VbuildError


def refused(call, code: str, text: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as info:
        call()
    assert info.value.code == code
    assert info.value.exit_status == 2
    assert info.value.where == "the.key"
    assert text in info.value.message
    assert "\n" not in info.value.message
    return info.value


def load_public(text: str):
    return load_public_key(text.encode(), "the.key")


def load_private(text: str, passphrase: bytes | None = None):
    return parse_private_key(text.encode(), passphrase, "the.key")


@pytest.mark.parametrize("name", CURVE_NAMES)
def test_openssl_s_public_key_text_is_the_canonical_one(name):
    text = KEYS[f"{name}-public"].encode()
    assert canonical_public_pem(public(name)) == text
    assert fingerprint(public(name)) == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("name", CURVE_NAMES)
def test_a_private_key_knows_its_public_half(name):
    assert private(name).public_key == public(name)


@pytest.mark.parametrize(
    "name",
    [
        "p256-sec1",
        "p256-pkcs8-encrypted",
        "p256-pkcs8-scrypt",
        "p256-openssh",
        "p256-openssh-encrypted",
    ],
)
def test_every_private_form_holds_the_same_key(name):
    assert load_private(KEYS[name], PASSPHRASE).public_key == public("p256")


@pytest.mark.parametrize("name", ["p521-sec1", "p521-openssh"])
def test_every_private_form_of_p521_holds_the_same_key(name):
    assert load_private(KEYS[name]).public_key == public("p521")


def test_windows_line_ends_do_not_change_the_fingerprint_case_74():
    text = KEYS["p256-public"].replace("\n", "\r\n")
    assert fingerprint(load_public(text)) == fingerprint(public())


def test_a_key_listed_twice_counts_once_case_79():
    assert list(distinct([public(), public("p384"), public()])) == [
        fingerprint(public()),
        fingerprint(public("p384")),
    ]


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("rsa-public", "key-unsupported", "RSA"),
        ("secp256k1-public", "key-unsupported", "secp256k1"),
        ("brainpoolP256r1-public", "key-unsupported", "brainpool"),
        ("secp224r1-public", "key-unsupported", "P-224"),
        ("ed25519-public", "key-unsupported", "Ed25519"),
        ("certificate", "key-unsupported", "certificate"),
        ("compressed-public", "key-malformed", "uncompressed"),
        ("explicit-public", "key-malformed", "named curve"),
        ("p256-pkcs8", "key-unsupported", "private key"),
        ("p256-sec1", "key-unsupported", "private key"),
        ("p256-openssh", "key-unsupported", "private key"),
        ("two-blocks", "key-malformed", "several PEM blocks"),
    ],
)
def test_another_kind_of_public_key_is_refused_case_74(name, code, text):
    refused(lambda: load_public(KEYS[name]), code, text)


def test_a_public_key_in_the_form_of_openssh_is_refused_with_the_command_that_converts_it():
    with pytest.raises(InvalidInput) as info:
        load_public("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY= somebody\n")
    assert (info.value.code, info.value.exit_status) == ("key-unsupported", 2)
    assert info.value.hint == "convert it: ssh-keygen -e -m PKCS8 -f KEY > NEW"


def point_text(x: int, y: int) -> str:
    der = CURVES[0].spki + x.to_bytes(32, "big") + y.to_bytes(32, "big")
    return pem_text("PUBLIC KEY", der).decode()


def test_a_point_off_the_curve_is_refused_case_74():
    key = public()
    refused(lambda: load_public(point_text(key.x, key.y ^ 1)), "key-off-curve", "P-256")
    refused(lambda: load_public(point_text(0, 0)), "key-off-curve", "P-256")


def test_a_coordinate_that_is_not_reduced_is_refused_case_74():
    curve = CURVES[0]
    y = pow(curve.b, (curve.p + 1) // 4, curve.p)  # the point with x = 0, also spelt x = p
    assert load_public(point_text(0, y)).x == 0
    refused(lambda: load_public(point_text(curve.p, y)), "key-off-curve", "P-256")


def test_the_point_at_infinity_is_refused_case_74():
    der = bytes.fromhex("301906072a8648ce3d020106082a8648ce3d03010703020000")
    text = pem_text("PUBLIC KEY", der).decode()
    refused(lambda: load_public(text), "key-malformed", "uncompressed point")


@pytest.mark.parametrize("load", [load_public, load_private])
def test_text_that_is_not_one_clean_block_is_refused_case_74(load):
    text = KEYS["p256-public" if load is load_public else "p256-pkcs8"]
    first, *middle, last = text.splitlines()
    bad_bits = [first, *middle[:-1], middle[-1][:-3] + "B==", last]
    for broken in (
        "",
        "ssh-ed25519 AAAA",
        "\ufeff" + text,
        "note\n" + text,
        text + "note\n",
        text + text,
        text.replace("-----END", "----END"),
        text.replace("\n", ""),
        text.replace(middle[0], middle[0][:10] + " " + middle[0][10:]),
        text.replace(middle[0], middle[0][:-1]),
        text.replace(middle[0], middle[0] + "="),
        text.replace("PRIVATE", "DSA PRIVATE").replace("-----END DSA ", "-----END "),
        "\n".join(bad_bits),
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        text + "\n" * 70_000,
    ):
        if broken == text:
            continue
        with pytest.raises(InvalidInput) as info:
            load(broken)
        assert info.value.code in ("key-malformed", "key-unsupported")
        assert "the.key" in info.value.message


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("rsa-pkcs8", "key-unsupported", "RSA"),
        ("rsa-traditional", "key-unsupported", "RSA"),
        ("rsa-openssh", "key-unsupported", "RSA"),
        ("rsa-pkcs8-encrypted", "key-unsupported", "other algorithms"),
        ("secp256k1-pkcs8", "key-unsupported", "secp256k1"),
        ("secp256k1-sec1", "key-unsupported", "secp256k1"),
        ("brainpoolP256r1-pkcs8", "key-unsupported", "brainpool"),
        ("secp224r1-sec1", "key-unsupported", "P-224"),
        ("ed25519-pkcs8", "key-unsupported", "Ed25519"),
        ("ed25519-openssh", "key-unsupported", "Ed25519"),
        ("explicit-sec1", "key-malformed", "not an elliptic curve private key"),
        ("legacy-encrypted", "key-unsupported", "legacy"),
        ("p256-public", "key-unsupported", "public key"),
        ("certificate", "key-unsupported", "certificate"),
        ("two-blocks", "key-malformed", "several PEM blocks"),
    ],
)
def test_another_kind_of_private_key_is_refused_case_74(name, code, text):
    refused(lambda: load_private(KEYS[name], PASSPHRASE), code, text)


@pytest.mark.parametrize("name", ["p256-pkcs8-encrypted", "p256-openssh-encrypted"])
def test_a_wrong_or_missing_passphrase_is_refused_case_81(name):
    refused(lambda: load_private(KEYS[name], b"wrong"), "passphrase-wrong", "does not open")
    refused(lambda: load_private(KEYS[name]), "passphrase-missing", "encrypted")
    refused(lambda: load_private(KEYS[name], b""), "passphrase-missing", "encrypted")


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.name)
def test_a_scalar_of_zero_or_at_least_the_order_is_refused(curve):
    assert sec1(curve.name, f"{curve.order - 1:0{2 * curve.size}x}").public_key.curve == curve
    for scalar in (0, curve.order, curve.order + 1):
        with pytest.raises(InvalidInput) as info:
            sec1(curve.name, f"{scalar:0{2 * curve.size}x}")
        assert info.value.code == "key-malformed"


@pytest.mark.parametrize("name", ["p256-pkcs8", "p256-sec1", "p256-openssh"])
def test_no_damage_to_a_private_key_escapes_as_another_exception(name):
    label = KEYS[name].splitlines()[0][11:-5]
    der = base64.b64decode("".join(KEYS[name].splitlines()[1:-1]))
    survivors = 0
    for at in range(len(der)):
        for damaged in (der[:at], der[:at] + bytes([der[at] ^ 0xFF]) + der[at + 1 :]):
            try:
                parse_private_key(pem_text(label, damaged), None, "the.key")
                survivors += 1  # the comment of an OpenSSH key, say
            except VbuildError as e:
                assert e.exit_status == 2
    assert survivors < len(der)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_private_key_that_others_can_read_is_refused_case_81(tmp_path, mode):
    path = tmp_path / "key.pem"
    path.write_text(KEYS["p256-pkcs8"])
    path.chmod(mode)
    with pytest.raises(InvalidInput) as info:
        load_private_key(path)
    assert info.value.code == "key-permissions"
    assert info.value.exit_status == 2
    assert str(path) in info.value.message
    assert info.value.hint == f"chmod 600 {path}"
    path.chmod(0o600)
    assert load_private_key(path).public_key == public()


def test_a_public_key_is_called_one_whatever_its_mode(tmp_path):
    path = tmp_path / "key.pub"
    path.write_text(KEYS["p256-public"])
    path.chmod(0o644)
    with pytest.raises(InvalidInput) as info:
        load_private_key(path)
    assert (info.value.code, info.value.exit_status) == ("key-unsupported", 2)
    assert "this is a public key" in info.value.message


def test_a_missing_private_key_is_unavailable(tmp_path):
    with pytest.raises(Unavailable) as info:
        load_private_key(tmp_path / "none.pem")
    assert info.value.exit_status == 3


@pytest.mark.parametrize("passphrase", [None, b"open sesame"])
def test_a_key_pair_is_written_once_with_mode_0600_and_read_back(tmp_path, passphrase):
    path = tmp_path / "release.pem"
    key = write_key_pair(path, passphrase)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_private_key(path, passphrase).public_key == key.public_key
    assert load_public_key((tmp_path / "release.pub").read_bytes(), "k") == key.public_key
    before = path.read_bytes()
    with pytest.raises(InvalidInput) as info:
        write_key_pair(path)
    assert info.value.code == "file-exists"
    assert path.read_bytes() == before


def test_a_key_pair_is_not_written_over_a_public_key(tmp_path):
    (tmp_path / "mine.pub").write_text("precious")
    with pytest.raises(InvalidInput):
        write_key_pair(tmp_path / "mine")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.pub"]


def test_writing_where_nothing_can_be_written_is_unavailable(tmp_path):
    with pytest.raises(Unavailable):
        write_key_pair(tmp_path / "none" / "key.pem")


def test_the_scalar_does_not_show_in_a_repr():
    scalar = int(ECC.import_key(KEYS["p256-pkcs8"]).d)
    shown = repr(private())
    assert str(scalar) not in shown and "EccKey" not in shown


@pytest.mark.oracle
@pytest.mark.parametrize("passphrase", [None, b"open sesame"])
def test_pyca_reads_the_private_keys_that_we_write(passphrase):
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    key = generate()
    theirs = serialization.load_pem_private_key(key.pem(passphrase), passphrase)
    numbers = theirs.public_key().public_numbers()
    assert (numbers.x, numbers.y) == (key.public_key.x, key.public_key.y)
    spki = theirs.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert spki == canonical_public_pem(key.public_key)


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.name)
def test_the_order_is_that_of_the_group(curve):
    base = ECC.construct(curve=curve.name, d=1).pointQ
    last = ECC.construct(curve=curve.name, d=curve.order - 1).pointQ
    assert (last.x, last.y) == (base.x, curve.p - int(base.y))  # (n - 1) G = -G
    with pytest.raises(ValueError):
        ECC.construct(curve=curve.name, d=curve.order)


@pytest.mark.oracle
def test_pyca_finds_the_same_orders():
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    curves = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
    for ours, theirs in zip(CURVES, curves, strict=True):
        base = ec.derive_private_key(1, theirs).public_key().public_numbers()
        last = ec.derive_private_key(ours.order - 1, theirs).public_key().public_numbers()
        assert (last.x, last.y) == (base.x, ours.p - base.y)  # (n - 1) G = -G
        assert ours.contains(base.x, base.y)


LAZY = """
import sys
import vbuild.attest.sign, vbuild.attest.provenance, vbuild.attest.trust, vbuild.attest.sums
from vbuild.attest.keys import load_public_key
load_public_key(sys.stdin.buffer.read(), "k")
assert not [m for m in sys.modules if m.split(".")[0] in ("Crypto", "cryptography")]
from vbuild.attest.oms import sign_model, verify_bundle
from vbuild.attest.private import generate
key = generate()
verify_bundle(sign_model("m", [("f", "0" * 64)], key), [key.public_key], where="w")
assert "Crypto" in sys.modules and "cryptography" not in sys.modules
"""


def test_the_crypto_library_is_imported_where_it_is_used_and_it_is_the_c_one():
    done = subprocess.run(
        [sys.executable, "-c", LAZY],
        input=KEYS["p256-public"].encode(),
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0
