import json
import os

import pytest

from tests.attest.material import (
    digest_of,
    hash_files,
    private,
    public,
    rebundle,
    small_bundle,
    statement_of,
)
from vbuild.attest.keys import fingerprint
from vbuild.attest.oms import sign_model
from vbuild.attest.sign import sign_tree
from vbuild.attest.verify import verify_tree
from vbuild.errors import InvalidInput, Mismatch, Unavailable

FILES = {"config.json": "{}", "model.safetensors": "weights", "sub/é.txt": "text"}


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "m"
    for name, content in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    sign(directory)
    return directory


def sign(directory, key="p256", name="m"):
    signed = sign_tree(directory, name, private(key), hash_files=hash_files)
    (directory / "model.sig").write_bytes(signed.bundle)
    return signed


def verify(directory, *keys, **options):
    return verify_tree(directory, keys or (public(),), hash_files=hash_files, **options)


def statuses(verdict):
    return {file.name: file.status for file in verdict.files}


def test_a_signed_directory_verifies_file_by_file(model):
    verdict = verify(model)
    assert verdict.ok and verdict.problem is None and verdict.hint is None
    assert statuses(verdict) == dict.fromkeys(sorted(FILES), "OK")
    assert verdict.fingerprint == fingerprint(public())
    assert verdict.name == "m"
    for file in verdict.files:
        assert file.expected == file.actual == digest_of(FILES[file.name])


def test_signing_again_gives_the_same_bytes(model):
    before = (model / "model.sig").read_bytes()
    sign(model)
    assert (model / "model.sig").read_bytes() == before


def test_a_changed_file_is_a_result_with_both_digests_case_19(model):
    (model / "model.safetensors").write_text("Weights")
    verdict = verify(model)
    assert not verdict.ok and verdict.problem is None
    failed = next(f for f in verdict.files if f.status == "FAILED")
    assert failed.name == "model.safetensors"
    assert (failed.expected, failed.actual) == (digest_of("weights"), digest_of("Weights"))


def test_every_byte_of_every_file_counts(model):
    for name in FILES:
        path = model / name
        good = path.read_bytes()
        for at in range(len(good)):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            assert statuses(verify(model))[name] == "FAILED"
        path.write_bytes(good)
    assert verify(model).ok


def test_a_missing_file_is_a_no_case_16(model):
    (model / "config.json").unlink()
    verdict = verify(model)
    assert not verdict.ok
    assert statuses(verdict)["config.json"] == "MISSING"


@pytest.mark.parametrize("name", ["extra", "sub/extra", ".hidden", "sub/model.sig", "CONFIG.json"])
def test_an_extra_file_is_a_no_case_17(model, name):
    (model / name).write_text("")
    verdict = verify(model)
    assert not verdict.ok
    assert statuses(verdict)[name] == "EXTRA"


@pytest.mark.parametrize("name", [".git/config", ".github/w.yml", ".gitignore", ".gitattributes"])
def test_files_under_the_default_ignore_paths_are_extra_unless_allowed_case_77(model, name):
    path = model / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("anything")
    verdict = verify(model)
    assert not verdict.ok
    assert statuses(verdict)[name] == "EXTRA"
    allowed = verify(model, allow_ignored=(name.split("/")[0],))
    assert allowed.ok
    assert allowed.not_covered == (name,)
    assert name not in statuses(allowed)


def test_allowing_a_path_does_not_help_where_the_signature_does_not_leave_it_out_case_77(model):
    (model / "extra").write_text("")
    assert not verify(model, allow_ignored=("extra",)).ok


@pytest.mark.parametrize("name", [".cache/huggingface/download/x.lock", ".git/HEAD"])
def test_left_overs_of_a_download_get_a_hint_case_31(model, name):
    (model / name).parent.mkdir(parents=True)
    (model / name).write_text("")
    verdict = verify(model)
    assert not verdict.ok
    assert verdict.hint is not None and "remove it" in verdict.hint


def test_a_link_in_place_of_a_signed_file_is_a_no_case_21(model, tmp_path):
    target = tmp_path / "weights"
    (model / "model.safetensors").rename(target)
    (model / "model.safetensors").symlink_to(target)
    verdict = verify(model)
    failed = next(f for f in verdict.files if f.name == "model.safetensors")
    assert not verdict.ok
    assert (failed.status, failed.actual) == ("FAILED", "a symbolic link")


def test_a_directory_that_became_a_link_hides_its_files_case_22(model, tmp_path):
    (model / "sub").rename(tmp_path / "sub")
    (model / "sub").symlink_to(tmp_path / "sub")
    verdict = verify(model)
    assert not verdict.ok
    assert statuses(verdict)["sub/é.txt"] == "MISSING"
    assert statuses(verdict)["sub"] == "EXTRA"


def test_a_fifo_or_a_directory_in_place_of_a_file_is_a_no_and_never_hangs_case_20(model):
    (model / "config.json").unlink()
    os.mkfifo(model / "config.json")
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").mkdir()
    found = {f.name: (f.status, f.actual) for f in verify(model).files}
    assert found["config.json"] == ("FAILED", "a fifo")
    assert found["model.safetensors"] == ("FAILED", "a directory")


def test_a_file_whose_name_is_not_utf_8_is_extra_case_29(model):
    (model / os.fsdecode(b"caf\xe9")).write_text("")
    verdict = verify(model)
    assert not verdict.ok
    assert [f.status for f in verdict.files].count("EXTRA") == 1


def test_an_unsigned_directory_is_a_no(model):
    (model / "model.sig").unlink()
    verdict = verify(model)
    assert not verdict.ok and verdict.files == () and verdict.fingerprint is None
    assert (verdict.problem.code, verdict.problem.exit_status) == ("no-signature", 1)
    assert str(model) in verdict.problem.message


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: p.symlink_to("config.json")])
def test_a_signature_that_is_not_a_regular_file_is_refused_cases_20_21(model, make):
    (model / "model.sig").unlink()
    make(model / "model.sig")
    verdict = verify(model)
    assert not verdict.ok
    assert (verdict.problem.code, verdict.problem.exit_status) == ("not-a-file", 2)


def test_a_damaged_signature_is_a_no_that_names_the_file_case_69(model):
    (model / "model.sig").write_text("[]")
    verdict = verify(model)
    assert not verdict.ok
    assert (verdict.problem.code, verdict.problem.exit_status) == ("signature-malformed", 2)
    assert f"{model}/model.sig" in verdict.problem.message


def test_an_untrusted_signer_is_a_no_that_shows_the_claimed_key_case_79(model):
    verdict = verify(model, public("p384"))
    assert not verdict.ok and verdict.files == ()
    assert (verdict.problem.code, verdict.problem.exit_status) == ("signer-untrusted", 1)
    assert fingerprint(public()) in verdict.problem.message


def test_no_key_at_all_is_a_malformed_request_case_79(model):
    with pytest.raises(InvalidInput) as info:
        verify_tree(model, (), hash_files=hash_files)
    assert (info.value.code, info.value.exit_status) == ("no-trusted-key", 2)


def test_a_signature_for_another_model_is_a_no_case_80(model):
    assert verify(model, expected_name="m").ok
    verdict = verify(model, expected_name="m-v2")
    assert not verdict.ok
    assert (verdict.problem.code, verdict.problem.exit_status) == ("signed-for-another", 1)
    assert (verdict.problem.expected, verdict.problem.got) == ("m-v2", "m")


def test_the_signature_of_an_older_release_does_not_fit_the_new_one_case_80(model):
    old = (model / "model.sig").read_bytes()
    (model / "model.safetensors").write_text("new weights")
    sign(model)
    assert verify(model).ok
    (model / "model.sig").write_bytes(old)
    assert statuses(verify(model))["model.safetensors"] == "FAILED"


def test_a_bundle_by_the_trusted_key_for_other_files_lists_every_difference_case_80(model):
    (model / "model.sig").write_bytes(sign_model("m", [("other", "0" * 64)], private()))
    assert statuses(verify(model)) == {**dict.fromkeys(FILES, "EXTRA"), "other": "MISSING"}


def test_a_file_that_changes_while_it_is_hashed_is_found_out_case_24(model):
    def racing(paths):
        digests = hash_files(paths)
        (model / "config.json").write_text("tampered afterwards")
        return digests

    with pytest.raises(Mismatch) as info:
        verify_tree(model, (public(),), hash_files=racing)
    assert (info.value.code, info.value.exit_status) == ("file-changed", 1)
    with pytest.raises(Mismatch):
        sign_tree(model, "m", private(), hash_files=racing_again(model))


def racing_again(model):
    def racing(paths):
        digests = hash_files(paths)
        (model / "new file").write_text("")
        return digests

    return racing


def test_a_missing_directory_is_unavailable_and_not_a_no(tmp_path):
    with pytest.raises(Unavailable) as info:
        verify(tmp_path / "none")
    assert info.value.exit_status == 3


class TestThreshold:
    def bundle(self, model, key, name="m", drop_ignores=False):
        data = sign_tree(model, name, private(key), hash_files=hash_files).bundle
        if not drop_ignores:
            return data
        statement = statement_of(data)
        statement["predicate"]["serialization"]["ignore_paths"] = []
        return rebundle(json.dumps(statement).encode(), private(key))

    def test_two_different_keys_reach_two(self, model):
        other = ("rebuilder.sig", self.bundle(model, "p384", name="same files"))
        keys = (public(), public("p384"))
        verdict = verify(model, *keys, attestations=[other], threshold=2)
        assert verdict.ok
        assert verdict.fingerprints == tuple(map(fingerprint, keys))
        assert verdict.name == "m"

    def test_the_same_key_twice_counts_once(self, model):
        again = [("a", self.bundle(model, "p256")), ("b", self.bundle(model, "p256", name="n"))]
        verdict = verify(model, public(), public("p384"), attestations=again, threshold=2)
        assert not verdict.ok
        assert (verdict.problem.code, verdict.problem.exit_status) == ("threshold-not-met", 1)
        assert (verdict.problem.expected, verdict.problem.got) == ("2", "1")

    def test_an_untrusted_key_counts_for_nothing_and_is_reported(self, model):
        other = ("stranger.sig", self.bundle(model, "p521"))
        keys = (public(), public("p384"))
        verdict = verify(model, *keys, attestations=[other], threshold=2)
        assert verdict.problem.code == "threshold-not-met"
        assert "stranger.sig" in verdict.problem.hint
        fine = verify(model, *keys, attestations=[other])
        assert fine.ok
        assert [e.code for e in fine.refused] == ["signer-untrusted"]

    def test_signatures_of_other_files_do_not_add_up(self, model):
        other = ("other.sig", small_bundle(private("p384")))
        keys = (public(), public("p384"))
        verdict = verify(model, *keys, attestations=[other], threshold=2)
        assert verdict.problem.code == "threshold-not-met"

    def test_trusted_keys_that_contradict_each_other_are_a_no(self, model):
        other = ("other.sig", small_bundle(private("p384")))
        verdict = verify(model, public(), public("p384"), attestations=[other])
        assert not verdict.ok
        assert (verdict.problem.code, verdict.problem.exit_status) == ("signers-disagree", 1)

    def test_attestations_alone_are_enough(self, model):
        bundles = [(key, self.bundle(model, key)) for key in ("p384", "p521")]
        (model / "model.sig").unlink()
        keys = (public("p384"), public("p521"))
        assert verify(model, *keys, attestations=bundles, threshold=2).ok

    @pytest.mark.parametrize("threshold", [0, -1, 3])
    def test_a_threshold_that_cannot_be_asked_for_is_malformed(self, model, threshold):
        with pytest.raises(InvalidInput) as info:
            verify(model, public(), public("p384"), public(), threshold=threshold)
        assert (info.value.code, info.value.exit_status) == ("threshold-invalid", 2)

    def test_only_what_all_signers_leave_out_may_be_left_out(self, model):
        other = ("strict.sig", self.bundle(model, "p384", drop_ignores=True))
        (model / ".gitignore").write_text("")
        keys = (public(), public("p384"))
        options = {"allow_ignored": (".gitignore",)}
        assert verify(model, *keys, **options).ok
        assert not verify(model, *keys, attestations=[other], threshold=2, **options).ok
