"""Differences as data."""

import hashlib

import pytest

from vbuild.errors import InvalidInput, Unavailable
from vbuild.reproduce import Difference, Observation, differences, parse_sums, reference

A, B = "a" * 64, "b" * 64


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_equal_observations_have_no_differences():
    seen = [Observation(name, {"x": A}, {"x": "0644"}, {"p": B}) for name in "123"]
    assert differences(seen) == ()
    assert differences(seen[:1]) == ()


def test_a_digest_a_missing_and_an_extra_file_are_found_in_order():
    first = Observation("1", {"x": A, "y": A})
    other = Observation("2", {"x": B, "z": A})
    assert differences([first, other]) == (
        Difference("x", "sha256", "1", "2", A, B),
        Difference("y", "sha256", "1", "2", A, None),
        Difference("z", "sha256", "1", "2", None, A),
    )


def test_modes_and_what_lies_beside_count_between_rebuilds_only():
    first = Observation("1", {"x": A}, {"x": "0644"}, {"p": A})
    rebuilt = Observation("2", {"x": A}, {"x": "0600"}, {"p": B})
    published = Observation("there", {"x": A})
    assert differences([first, published]) == ()
    assert differences([first, rebuilt]) == (
        Difference("x", "mode", "1", "2", "0644", "0600"),
        Difference("p", "beside", "1", "2", A, B),
    )


def test_a_file_that_is_not_there_is_reported_once():
    first = Observation("1", {"x": A}, {"x": "0644"})
    assert len(differences([first, Observation("2", {}, {})])) == 1


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "m"
    (directory / "sub").mkdir(parents=True)
    (directory / "a").write_text("one")
    (directory / "sub" / "b").write_text("two")
    (directory / "model.sig").write_text("signature")
    (directory / ".git").mkdir()
    (directory / ".git" / "config").write_text("")
    return directory


def test_a_directory_is_known_by_the_files_that_a_signature_covers(model):
    (seen,) = reference(model)
    assert seen.files == {"a": sha("one"), "sub/b": sha("two")}
    assert seen.modes is None


def test_the_sums_beside_a_directory_count_as_well(model):
    attest = model.with_name("m.attest")
    attest.mkdir()
    (attest / "SHA256SUMS").write_text(f"{A}  a\n{sha('two')}  sub/b\n")
    seen, listed = reference(model)
    assert differences([seen, listed]) == (
        Difference("a", "sha256", str(model), str(attest / "SHA256SUMS"), sha("one"), A),
    )


def test_a_file_is_read_as_sha256sum_writes_it(tmp_path):
    path = tmp_path / "SHA256SUMS"
    path.write_text(f"{A}  a b\n{B} *binary\n{B}  model.sig\n")
    (seen,) = reference(path)
    assert seen.files == {"a b": A, "binary": B}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"{A}  a\n\n",
        f"{A} a\n",
        f"{A.upper()}  a\n",
        f"{A[1:]}  a\n",
        f"{A}  ../a\n",
        f"{A}  /a\n",
        f"{A}  a\n{B}  a\n",
        f"\\{A}  a\\n\n",
        "<html>",
    ],
)
def test_a_malformed_list_is_refused_and_named(text):
    with pytest.raises(InvalidInput) as caught:
        parse_sums(text.encode(), "SUMS")
    assert caught.value.code == "sums-malformed"
    assert caught.value.where.startswith("SUMS")


def test_a_list_that_is_not_text_is_refused():
    with pytest.raises(InvalidInput, match="UTF-8"):
        parse_sums(b"\xff" * 70, "SUMS")


def test_case_16_a_reference_that_is_missing_is_status_3(tmp_path):
    with pytest.raises(Unavailable, match="nowhere"):
        reference(tmp_path / "nowhere")


def test_case_21_a_link_in_a_reference_is_refused(model):
    (model / "link").symlink_to("a")
    with pytest.raises(InvalidInput, match="link"):
        reference(model)
