import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.attest.material import CURVE_NAMES, VECTORS, private, public, sec1
from vbuild.attest.ecdsa import decode_signature, encode_signature, verify
from vbuild.attest.keys import CURVES
from vbuild.errors import InvalidInput, Mismatch

P256 = CURVES[0]
RFC6979 = [
    pytest.param(key, signature, id=f"{key['curve']}-{signature['message']}")
    for key in json.loads((VECTORS / "rfc6979.json").read_text())["keys"]
    for signature in key["signatures"]
]


@pytest.mark.parametrize(("key", "signature"), RFC6979)
def test_a_signature_is_the_one_that_rfc_6979_prints(key, signature):
    signer = sec1(key["curve"], key["private"])
    if "x" in key:
        assert (signer.public_key.x, signer.public_key.y) == (int(key["x"], 16), int(key["y"], 16))
    r, s = int(signature["r"], 16), int(signature["s"], 16)
    der = signer.sign(signature["message"].encode())
    assert der == encode_signature(r, s)
    assert decode_signature(der, signer.public_key.curve, "w") == (r, s)
    verify(signer.public_key, signature["message"].encode(), der, "w")


@pytest.mark.parametrize("name", CURVE_NAMES)
def test_a_signature_of_other_bytes_or_by_another_key_does_not_verify(name):
    key = private(name)
    der = key.sign(b"message")
    verify(key.public_key, b"message", der, "w")
    with pytest.raises(Mismatch) as info:
        verify(key.public_key, b"Message", der, "w")
    assert (info.value.code, info.value.exit_status) == ("signature-invalid", 1)
    r, s = decode_signature(der, key.public_key.curve, "w")
    with pytest.raises(Mismatch):
        verify(key.public_key, b"message", encode_signature(s, r), "w")


def tlv(tag: int, body: bytes, length: bytes | None = None) -> bytes:
    return bytes([tag]) + (length or bytes([len(body)])) + body


ONE, TWO = b"\x02\x01\x01", b"\x02\x01\x02"
N = P256.order.to_bytes(33, "big")
MALFORMED = {
    "empty": b"",
    "one byte": b"\x30",
    "no integers": tlv(0x30, b""),
    "one integer": tlv(0x30, ONE),
    "three integers": tlv(0x30, ONE + TWO + ONE),
    "trailing byte": tlv(0x30, ONE + TWO) + b"\0",
    "trailing inside": tlv(0x30, ONE + TWO + b"\0"),
    "truncated": tlv(0x30, ONE + TWO)[:-1],
    "long length": tlv(0x30, ONE + TWO, b"\x81\x06"),
    "longer length": tlv(0x30, ONE + TWO, b"\x82\x00\x06"),
    "indefinite length": tlv(0x30, ONE + TWO + b"\0\0", b"\x80"),
    "long integer length": tlv(0x30, b"\x02\x81\x01\x01" + TWO),
    "padded r": tlv(0x30, b"\x02\x02\x00\x01" + TWO),
    "padded s": tlv(0x30, ONE + b"\x02\x02\x00\x02"),
    "negative r": tlv(0x30, b"\x02\x01\x81" + TWO),
    "negative s": tlv(0x30, ONE + b"\x02\x01\xff"),
    "empty r": tlv(0x30, b"\x02\x00" + TWO),
    "empty s": tlv(0x30, ONE + b"\x02\x00"),
    "r is zero": tlv(0x30, b"\x02\x01\x00" + TWO),
    "s is zero": tlv(0x30, ONE + b"\x02\x01\x00"),
    "r is n": tlv(0x30, tlv(2, N) + TWO),
    "s is n": tlv(0x30, ONE + tlv(2, N)),
    "s is n + 1": tlv(0x30, ONE + tlv(2, (P256.order + 1).to_bytes(33, "big"))),
    "r has 200 bytes": b"\x30\x81\xcd" + b"\x02\x81\xc8" + b"\x01" * 200 + ONE,
    "s has 66 bytes": tlv(0x30, ONE + tlv(2, b"\x01" * 66)),
    "a set": tlv(0x31, ONE + TWO),
    "octet strings": tlv(0x30, b"\x04\x01\x01\x04\x01\x02"),
    "raw": b"\x01" * 64,
    "raw that starts as DER": b"\x30\x3e" + b"\x02" * 62,
    "all ones": b"\xff" * 72,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_signature_that_is_not_canonical_der_is_refused_case_73(name):
    with pytest.raises(InvalidInput) as info:
        verify(public(), b"message", MALFORMED[name], "model.sig")
    assert (info.value.code, info.value.exit_status) == ("signature-der", 2)
    assert "model.sig" in info.value.message


def test_the_raw_form_of_a_good_signature_is_refused_with_a_hint_case_73():
    r, s = decode_signature(private().sign(b"m"), P256, "w")
    with pytest.raises(InvalidInput) as info:
        verify(public(), b"m", r.to_bytes(32, "big") + s.to_bytes(32, "big"), "w")
    assert "raw" in info.value.hint


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.name)
@given(data=st.data())
def test_the_der_code_round_trips_over_the_whole_range(curve, data):
    number = st.integers(1, curve.order - 1) | st.sampled_from(
        (1, 127, 128, 255, 256, curve.order - 1)
    )
    r, s = data.draw(number), data.draw(number)
    assert decode_signature(encode_signature(r, s), curve, "w") == (r, s)


@given(st.binary(max_size=160))
def test_nothing_but_canonical_der_is_decoded(data):
    for curve in CURVES:
        try:
            r, s = decode_signature(data, curve, "w")
        except InvalidInput as e:
            assert e.code == "signature-der"
        else:
            assert encode_signature(r, s) == data


def test_every_single_bit_flip_of_a_signature_is_refused():
    der = private().sign(b"message")
    for at, bit in product(range(len(der)), range(8)):
        flipped = der[:at] + bytes([der[at] ^ 1 << bit]) + der[at + 1 :]
        with pytest.raises((InvalidInput, Mismatch)):
            verify(public(), b"message", flipped, "w")


@pytest.mark.oracle
@pytest.mark.parametrize("name", CURVE_NAMES)
def test_pyca_and_we_verify_each_other(name):
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    from cryptography.hazmat.primitives import hashes, serialization

    key = private(name)
    algorithm = {"p256": hashes.SHA256(), "p384": hashes.SHA384(), "p521": hashes.SHA512()}[name]
    theirs = serialization.load_pem_private_key(key.pem(), None)
    for i in range(20):
        message = bytes([i]) * i
        der = key.sign(message)
        theirs.public_key().verify(der, message, ec.ECDSA(algorithm))
        assert theirs.sign(message, ec.ECDSA(algorithm, deterministic_signing=True)) == der
        verify(key.public_key, message, theirs.sign(message, ec.ECDSA(algorithm)), "w")


@pytest.mark.oracle
@given(st.integers(1, P256.order - 1), st.integers(1, P256.order - 1))
def test_pyca_encodes_signatures_as_we_do(r, s):
    utils = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.utils")
    assert utils.encode_dss_signature(r, s) == encode_signature(r, s)
