import base64
import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.attest.material import (
    CURVE_NAMES,
    RESOURCES,
    VECTORS,
    digest_of,
    forged,
    private,
    public,
    rebundle,
    sec1,
    small_bundle,
    statement_of,
    with_resources,
)
from vbuild.attest import bundle as bundle_module
from vbuild.attest.dsse import IN_TOTO, pae
from vbuild.attest.ecdsa import decode_signature, encode_signature
from vbuild.attest.keys import CURVES, fingerprint
from vbuild.attest.oms import model_root, sign_model, verify_bundle
from vbuild.errors import InvalidInput, Mismatch, VbuildError

A, B = digest_of("a"), digest_of("b")


def check(data: bytes, *keys, **options):
    return verify_bundle(data, keys or (public(),), where="model.sig", **options)


def refused(data: bytes, code: str, kind: type[VbuildError] = InvalidInput, **options):
    with pytest.raises(VbuildError) as info:
        check(data, **options)
    assert (info.value.code, type(info.value)) == (code, kind), info.value.message
    assert "model.sig" in info.value.message
    assert "\n" not in info.value.message
    assert len(info.value.message) < 500
    return info.value


def edited(change) -> bytes:
    """The small bundle with ``change`` made to its outer JSON."""
    value = json.loads(small_bundle())
    change(value)
    return json.dumps(value).encode()


def put(*path_and_value):
    *path, last, new = path_and_value

    def change(value):
        for key in path:
            value = value[key]
        value[last] = new

    return change


def drop(*path):
    *path, last = path

    def change(value):
        for key in path:
            value = value[key]
        del value[last]

    return change


def test_the_bytes_are_those_of_the_published_vector():
    vector = json.loads((VECTORS / "model-sig.json").read_text())
    signer = sec1("P-256", vector["private"])
    resources = [(r["name"], r["digest"]) for r in vector["resources"]]
    assert sign_model(vector["name"], resources, signer) == vector["bundle"].encode()


@pytest.mark.parametrize("name", CURVE_NAMES)
def test_what_is_signed_is_verified(name):
    key = private(name)
    verified = check(small_bundle(key), public(name))
    assert verified.name == "m"
    assert verified.resources == dict(RESOURCES)
    assert verified.fingerprint == fingerprint(key.public_key)
    assert verified.root == model_root([d for _, d in RESOURCES])


def test_the_same_files_in_any_order_give_the_same_bytes():
    assert sign_model("m", RESOURCES[::-1], private()) == small_bundle() == small_bundle()


def test_names_are_sorted_by_code_points_and_stand_as_utf_8():
    names = ["a/b", "a.txt", "a-b", "B", "é", "\uffff", "\U0001f600", "z"]
    data = sign_model("modèle", [(n, A) for n in names], private())
    assert list(check(data).resources) == sorted(names)
    assert sorted(names) == sorted(names, key=lambda n: n.encode())
    payload = base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"])
    assert "modèle".encode() in payload and "\U0001f600".encode() in payload


def test_every_single_bit_flip_of_a_small_bundle_is_refused():
    data = sign_model("m", [("f", A)], private())
    for at, bit in product(range(len(data)), range(8)):
        flipped = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        with pytest.raises((InvalidInput, Mismatch)):
            check(flipped)


def test_every_truncation_of_a_small_bundle_is_refused():
    data = small_bundle()
    for end in range(len(data)):
        refused(data[:end], "signature-malformed")


@given(st.binary(max_size=200))
def test_noise_is_refused_in_one_way(data):
    with pytest.raises(InvalidInput) as info:
        check(data)
    assert info.value.code == "signature-malformed"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["sha256", "name", "sig", "hint", "x"]), inner)
    ),
    max_leaves=5,
)


def paths(value, at=()):
    yield at
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, child in children:
        yield from paths(child, (*at, key))


@given(st.data(), json_values)
def test_any_value_in_the_place_of_any_other_is_refused_without_another_exception(data, new):
    statement = statement_of(small_bundle())
    path = data.draw(st.sampled_from([p for p in paths(statement) if p]))
    try:
        verified = check(forged(put(*path, new)))
    except VbuildError as e:
        assert e.exit_status in (1, 2)
    else:  # the same value again, another name, or fewer ignore paths; the root covers digests
        assert tuple(verified.resources.values()) == tuple(d for _, d in RESOURCES)


class TestCase69:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"not JSON",
            b"[]",
            b"null",
            b'"text"',
            b"\xef\xbb\xbf" + small_bundle(),
            small_bundle() + b"{}",
            b"[" * 100_000,
            b'{"mediaType":' * 1000,
            b'{"mediaType":NaN}',
            small_bundle().decode().encode("utf-16"),
            small_bundle().replace(b'"keyid":""', b'"keyid":"\\ud800"'),
            small_bundle()[:-1] + b',"mediaType":"x"}',
            small_bundle().replace(b'"keyid":""', b'"keyid":"","k\\u0065yid":""'),
        ],
        ids=range(14),
    )
    def test_what_is_not_one_plain_json_object_is_refused_case_69(self, data):
        refused(data, "signature-malformed")

    def test_a_bundle_above_the_cap_is_refused_case_69(self):
        refused(b" " * (bundle_module.MAX_BUNDLE + 1), "signature-malformed")

    def test_duplicate_keys_in_the_payload_are_refused_case_69(self):
        text = json.dumps(statement_of(small_bundle()))
        refused(rebundle(text.replace("{", '{"_type":"x",', 1).encode()), "statement-malformed")
        doubled = text.replace('"name": "config.json"', '"name": "x", "name": "config.json"')
        refused(rebundle(doubled.encode()), "statement-malformed")

    @pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b"[" * 100_000, b"1"])
    def test_a_signed_payload_that_is_not_an_object_is_refused_case_69(self, payload):
        refused(rebundle(payload), "statement-malformed")


class TestCase70:
    @pytest.mark.parametrize(
        "change",
        [
            put("mediaType", "application/vnd.dev.sigstore.bundle.v0.2+json"),
            put("mediaType", None),
            drop("mediaType"),
            put("dsseEnvelope", "payloadType", "application/vnd.in-toto+json "),
            drop("dsseEnvelope", "payloadType"),
            drop("verificationMaterial"),
            drop("verificationMaterial", "publicKey"),
            drop("verificationMaterial", "publicKey", "hint"),
            put("verificationMaterial", "publicKey", "rawBytes", "AAAA"),
            put("verificationMaterial", "tlogEntries", None),
            put("verificationMaterial", "publicKey", "hint", ["x"]),
            put("extra", 1),
            put("dsseEnvelope", "extra", 1),
            put("dsseEnvelope", []),
        ],
        ids=range(14),
    )
    def test_another_shape_of_bundle_is_refused_case_70(self, change):
        refused(edited(change), "signature-malformed")

    @pytest.mark.parametrize(
        "change",
        [
            put("verificationMaterial", "certificate", {"rawBytes": "AAAA"}),
            put("verificationMaterial", {"x509CertificateChain": {"certificates": []}}),
            put("verificationMaterial", "tlogEntries", [{}]),
        ],
        ids=["certificate", "chain", "log entry"],
    )
    def test_what_would_go_unchecked_is_refused_case_70(self, change):
        refused(edited(change), "signature-unsupported")

    @pytest.mark.parametrize(
        "change",
        [
            put("_type", "https://in-toto.io/Statement/v0.1"),
            put("predicateType", "https://slsa.dev/provenance/v1"),
            put("predicateType", "https://model_signing/Digests/v0.1"),
            drop("_type"),
            drop("predicateType"),
            put("note", "x"),
            put("predicate", "note", "x"),
            put("predicate", "serialization", "note", "x"),
            put("predicate", "resources", 0, "size", 1),
            put("subject", 0, "digest", "sha512", "00"),
            put("subject", 0, "uri", "x"),
        ],
        ids=range(11),
    )
    def test_another_shape_of_statement_is_refused_case_70(self, change):
        refused(forged(change), "statement-malformed")

    def test_the_members_that_protobuf_leaves_out_when_empty_may_be_missing(self):
        assert check(edited(drop("verificationMaterial", "tlogEntries"))).name == "m"
        assert check(edited(drop("dsseEnvelope", "signatures", 0, "keyid"))).name == "m"


class TestCase71:
    def test_no_signature_is_refused_case_71(self):
        refused(edited(put("dsseEnvelope", "signatures", [])), "signature-malformed")
        refused(edited(put("dsseEnvelope", "signatures", None)), "signature-malformed")

    def test_a_second_signature_is_refused_case_71(self):
        def change(value):
            signatures = value["dsseEnvelope"]["signatures"]
            signatures.append(signatures[0])

        error = refused(edited(change), "signature-malformed")
        assert (error.expected, error.got) == ("1", "2")

    def test_a_key_id_is_refused_case_71(self):
        change = put("dsseEnvelope", "signatures", 0, "keyid", "abc")
        refused(edited(change), "signature-malformed")


def noncanonical(text: str) -> list[str]:
    return [
        text[:10] + "\n" + text[10:],
        text + "\n",
        " " + text,
        text[:-1],
        text + "=",
        text.rstrip("=") if text.endswith("=") else text[:-1] + "=",
        text[:8] + "-_" + text[10:],
        text[:8] + "é" + text[9:],
        text[:8] + "==" + text[8:],
    ]


@pytest.mark.parametrize("which", ["payload", "sig"])
def test_base64_that_is_not_canonical_is_refused_case_72(which):
    value = json.loads(small_bundle())["dsseEnvelope"]
    text = value["payload"] if which == "payload" else value["signatures"][0]["sig"]
    path = ("payload",) if which == "payload" else ("signatures", 0, "sig")
    for bad in noncanonical(text):
        refused(edited(put("dsseEnvelope", *path, bad)), "signature-malformed")


def test_stray_bits_in_the_last_base64_digit_are_refused_case_72():
    text = base64.b64encode(b"\x30" * 71).decode()
    assert text.endswith("DA=")
    bad = text[:-2] + "B="
    assert base64.b64decode(bad) == b"\x30" * 71
    refused(edited(put("dsseEnvelope", "signatures", 0, "sig", bad)), "signature-malformed")


def test_a_signature_that_is_not_canonical_der_is_refused_case_73():
    der = base64.b64decode(json.loads(small_bundle())["dsseEnvelope"]["signatures"][0]["sig"])
    r, s = decode_signature(der, CURVES[0], "w")
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    for bad in (
        der + b"\0",
        raw,
        b"",
        encode_signature(0, s),
        encode_signature(r, CURVES[0].order),
    ):
        text = base64.b64encode(bad).decode()
        refused(edited(put("dsseEnvelope", "signatures", 0, "sig", text)), "signature-der")


def test_a_hint_that_does_not_name_the_signer_is_a_no_case_75():
    other = fingerprint(public("p384"))
    error = refused(
        edited(put("verificationMaterial", "publicKey", "hint", other)), "hint-mismatch", Mismatch
    )
    assert (error.expected, error.got) == (fingerprint(public()), other)
    assert error.exit_status == 1


@pytest.mark.parametrize("hint", ["", "0" * 63, "A" * 64, "0" * 64 + "\n"])
def test_a_hint_that_is_no_fingerprint_is_refused_case_75(hint):
    refused(edited(put("verificationMaterial", "publicKey", "hint", hint)), "signature-malformed")


def test_a_hint_of_a_trusted_key_that_did_not_sign_is_a_no_case_75():
    data = small_bundle(private("p384"))
    value = json.loads(data)
    value["verificationMaterial"]["publicKey"]["hint"] = fingerprint(public("p521"))
    with pytest.raises(VbuildError) as info:
        check(json.dumps(value).encode(), public("p521"))
    assert info.value.code == "signature-invalid"


class TestCase76:
    def test_a_root_that_does_not_match_is_a_no_case_76(self):
        change = put("subject", 0, "digest", "sha256", A)
        error = refused(forged(change), "root-mismatch", Mismatch)
        assert error.expected == A
        swapped = put("predicate", "resources", 0, "digest", A)
        refused(forged(swapped), "root-mismatch", Mismatch)

    @pytest.mark.parametrize(
        "names",
        [
            ("a", "a"),
            ("b", "a"),
            ("a/b", "a.txt"),
            ("\U0001f600", "\uffff"),
            ("./a", "b"),
            ("a", "b/../c"),
            ("..", "a"),
            ("/etc/passwd", "a"),
            ("", "a"),
            ("a", "b//c"),
            ("a", "b/"),
            ("a", "b\\c"),
            ("a", "b\nc"),
            ("a", "b\x00c"),
            ("a", "b\x7fc"),
            ("a", "model.sig"),
            (".git/config", "a"),
            (".gitignore", "a"),
        ],
    )
    def test_bad_or_unsorted_names_are_refused_case_76(self, names):
        refused(with_resources([(n, A) for n in names]), "statement-malformed")

    @pytest.mark.parametrize("digest", [A.upper(), A[:-1], A + "0", "", " " + A[1:], "é" * 64])
    def test_a_digest_that_is_not_lower_case_hex_is_refused_case_76(self, digest):
        refused(forged(put("predicate", "resources", 0, "digest", digest)), "statement-malformed")
        refused(forged(put("subject", 0, "digest", "sha256", digest)), "statement-malformed")

    def test_an_empty_list_is_refused_case_76(self):
        refused(with_resources([]), "statement-malformed")

    @pytest.mark.parametrize("subjects", [[], [{"name": "m", "digest": {"sha256": A}}] * 2, {}])
    def test_anything_but_one_subject_is_refused_case_76(self, subjects):
        refused(forged(put("subject", subjects)), "statement-malformed")

    def test_a_model_without_a_name_is_refused_case_76(self):
        refused(forged(put("subject", 0, "name", "")), "statement-malformed")


class TestCase77:
    IGNORE = ("predicate", "serialization", "ignore_paths")

    @pytest.mark.parametrize(
        "ignored",
        [
            ["model.sig", ".github", ".gitignore", ".git", ".gitattributes"],
            [".gitignore", ".git", ".gitattributes", "model.sig", ".github"],
            ["model.sig"],
            [],
        ],
    )
    def test_the_defaults_and_the_signature_are_accepted_in_any_order_case_77(self, ignored):
        assert check(forged(put(*self.IGNORE, ignored))).ignored == tuple(sorted(ignored))

    def test_a_statement_without_ignore_paths_is_accepted_case_77(self):
        assert check(forged(drop(*self.IGNORE))).ignored == ()

    @pytest.mark.parametrize("path", ["weights", ".", "", "/", "*.bin", "../x", ".git/", ".GIT"])
    def test_any_further_path_is_a_no_unless_allowed_case_77(self, path):
        data = forged(put(*self.IGNORE, [".git", path]))
        refused(data, "ignores-too-much", Mismatch)
        refused(data, "ignores-too-much", Mismatch, allow_ignored=("other",))
        assert path in check(data, allow_ignored=(path,)).ignored

    def test_another_name_of_the_signature_is_not_a_way_round_case_77(self):
        refused(forged(put(*self.IGNORE, ["other.sig"])), "ignores-too-much", Mismatch)

    @pytest.mark.parametrize("paths", [None, ".git", [1], [[".git"]]])
    def test_ignore_paths_of_another_type_are_refused_case_77(self, paths):
        refused(forged(put(*self.IGNORE, paths)), "statement-malformed")


@pytest.mark.parametrize(
    "change",
    [
        put("predicate", "serialization", "method", "shards"),
        put("predicate", "serialization", "hash_type", "blake3"),
        put("predicate", "serialization", "hash_type", None),
        put("predicate", "serialization", "allow_symlinks", True),
        put("predicate", "serialization", "allow_symlinks", 0),
        put("predicate", "serialization", "allow_symlinks", "false"),
        put("predicate", "resources", 0, "algorithm", "blake2"),
        put("predicate", "resources", 1, "algorithm", "SHA256"),
    ],
    ids=range(8),
)
def test_another_method_or_hash_is_refused_case_78(change):
    refused(forged(change), "signature-unsupported")


def test_a_signer_that_is_not_trusted_is_a_no_that_names_the_claim_case_79():
    with pytest.raises(Mismatch) as info:
        check(small_bundle(), public("p384"), public("p521"))
    assert (info.value.code, info.value.exit_status) == ("signer-untrusted", 1)
    assert f"claims the key {fingerprint(public())}" in info.value.message
    assert "--key" in info.value.hint


def test_the_right_key_is_found_among_several_and_may_be_listed_twice_case_79():
    keys = (public("p521"), public(), public("p384"), public())
    assert check(small_bundle(), *keys).fingerprint == fingerprint(public())


class BrokenSigner:
    public_key = public()

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def sign(self, message: bytes) -> bytes:
        return self.answer


@pytest.mark.parametrize("answer", [b"", private().sign(b"something else")])
def test_a_signer_that_returns_something_else_is_found_before_anything_is_written(answer):
    with pytest.raises((InvalidInput, Mismatch)) as info:
        sign_model("m", RESOURCES, BrokenSigner(answer))
    assert "the new signature" in info.value.message


@pytest.mark.parametrize(
    ("resources", "code"),
    [
        ([], "nothing-to-sign"),
        ([("a", A), ("a", B)], "name-unsafe"),
        ([("../a", A)], "name-unsafe"),
        ([("a\nb", A)], "name-unsafe"),
        ([("a\udcff", A)], "name-unsafe"),
        ([("model.sig", A)], "name-unsafe"),
        ([(".git/config", A)], "name-unsafe"),
        ([("a", A.upper())], "name-unsafe"),
    ],
)
def test_what_a_strict_verifier_would_refuse_is_not_signed(resources, code):
    with pytest.raises(InvalidInput) as info:
        sign_model("m", resources, private())
    assert info.value.code == code


@pytest.mark.parametrize("name", ["", ".", "..", "a\nb", "\udcff"])
def test_a_model_is_not_signed_under_a_name_that_is_none(name):
    with pytest.raises(InvalidInput) as info:
        sign_model(name, RESOURCES, private())
    assert info.value.code == "name-unsafe"


def test_the_signed_bytes_carry_their_lengths_in_bytes():
    assert pae(IN_TOTO, "é".encode()) == b"DSSEv1 28 application/vnd.in-toto+json 2 \xc3\xa9"


@pytest.mark.oracle
@given(st.text(max_size=30), st.binary(max_size=60))
def test_securesystemslib_encodes_what_is_signed_in_the_same_way(kind, payload):
    dsse = pytest.importorskip("securesystemslib.dsse")
    assert dsse.Envelope(payload, kind, {}).pae() == pae(kind, payload)


def test_a_flood_of_items_around_the_payload_is_refused_case_69():
    for path in (("verificationMaterial", "tlogEntries"), ("dsseEnvelope", "signatures")):
        refused(edited(put(*path, [1] * 100_000)), "signature-malformed")


def test_a_model_of_many_files_is_signed_and_verified():
    resources = [(f"shard-{i:06}", A) for i in range(20_000)]
    assert len(check(sign_model("m", resources, private())).resources) == 20_000
