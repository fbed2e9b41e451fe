"""A URI leads to a directory, or to an error that says which URIs there are."""

from pathlib import Path

import pytest

from vbuild.errors import InvalidInput, Unavailable
from vbuild.sources import check_uri, resolve


@pytest.fixture
def here(tmp_path):
    for name in ("project", "base", "project/in", "project/100%20 ü"):
        (tmp_path / name).mkdir()
    return tmp_path / "project"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("file:in", "in"),
        ("file:./in", "in"),
        ("file:../base", "../base"),
        ("file:100%20 ü", "100%20 ü"),
        ("file:.", "."),
    ],
)
def test_a_relative_path_is_relative_to_the_manifest_and_not_decoded(here, uri, expected):
    source = resolve(uri, here, None)
    assert source.directory.samefile(here / expected)
    assert source.uri == uri
    assert source.path("sub/x.bin") == source.directory / "sub" / "x.bin"


@pytest.mark.parametrize("form", ["file:{}", "file://{}"])
def test_an_absolute_path_is_absolute(here, form):
    assert resolve(form.format(here), Path("/nowhere"), None).directory == here


def test_an_override_replaces_what_the_uri_says(here):
    for uri in ("file:nowhere", "hf://org/repo@main", "file:in"):
        assert resolve(uri, here, here / "in").directory == here / "in"


@pytest.mark.parametrize("option", ["--base", "--delta"])
def test_case_16_a_missing_directory_is_unavailable_and_the_option_is_named(here, option):
    for uri, override in (("file:none", None), ("file:in", here / "none")):
        with pytest.raises(Unavailable) as caught:
            resolve(uri, here, override, option=option)
        error = caught.value
        assert (error.code, error.exit_status) == ("source-missing", 3)
        assert error.where == str(here / "none")
        assert error.hint == f"say where it is with {option} PATH"


def test_case_20_a_file_instead_of_a_directory_is_refused(here):
    (here / "model.bin").write_bytes(b"x")
    with pytest.raises(InvalidInput) as caught:
        resolve("file:model.bin", here, None)
    assert (caught.value.code, caught.value.exit_status) == ("not-a-directory", 2)
    with pytest.raises(Unavailable):
        resolve("file:model.bin/x", here, None)


def test_a_path_that_the_system_refuses_is_unavailable(here):
    with pytest.raises(Unavailable) as caught:
        resolve("file:" + "x" * 5000, here, None)
    assert caught.value.code == "io-error"


@pytest.mark.parametrize(
    ("uri", "code", "hint"),
    [
        ("llama-7b", "bad-uri", "file:llama-7b"),
        ("/srv/llama", "bad-uri", "file:/srv/llama"),
        ("", "bad-uri", "file:PATH"),
        ("file:", "bad-uri", "file:PATH"),
        ("file://host/x", "bad-uri", None),
        ("file:a\nb", "bad-uri", None),
        ("file:a\0b", "bad-uri", None),
        ("s3://bucket/x", "unknown-scheme", "file:PATH"),
        ("https://huggingface.co/org/repo", "unknown-scheme", "file:PATH"),
        ("C:\\models", "unknown-scheme", "file:PATH"),
        ("fil:x", "unknown-scheme", "did you mean file:?"),
        ("HF://org/repo", "unknown-scheme", "did you mean hf:?"),
        ("hf:org/repo", "bad-uri", None),
        ("hf://repo", "bad-uri", None),
        ("hf://org/repo/file.bin", "bad-uri", None),
        ("hf://../repo@main", "bad-uri", None),
        ("hf://org/repo@", "bad-uri", None),
    ],
)
def test_a_uri_that_is_not_one_of_ours_is_refused(here, uri, code, hint):
    with pytest.raises(InvalidInput) as caught:
        check_uri(uri, "m.toml:4")
    assert (caught.value.code, caught.value.where) == (code, "m.toml:4")
    assert hint is None or (caught.value.hint is not None and hint in caught.value.hint)
    with pytest.raises(InvalidInput):
        resolve(uri, here, here)


def test_an_unknown_scheme_names_the_known_ones():
    with pytest.raises(InvalidInput) as caught:
        check_uri("ftp://x")
    assert caught.value.expected == "file: or hf:"


def test_a_hub_uri_is_understood_but_not_fetched(here):
    for rest in ("//org/repo@main", "//lmsys/vicuna-7b-delta-v1.1", f"//o/r@{'0' * 40}"):
        assert check_uri(f"hf:{rest}") == ("hf", rest)
    with pytest.raises(InvalidInput) as caught:
        resolve("hf://org/repo@main", here, None, option="--delta")
    error = caught.value
    assert error.code == "not-supported-yet"
    assert error.hint is not None and "--delta PATH" in error.hint
