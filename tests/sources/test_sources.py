"""A URI leads to a directory, or to an error that says which URIs there are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vbuild.errors import InvalidInput, NotLocked, Unavailable
from vbuild.sources import Repository, check_uri, repository_of, resolve
from vbuild.sources.hub_cache import cache_directory


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
        ("https://huggingface.co/org/repo", "unknown-scheme", "hf://org/repo"),
        ("https://hf.co/org/repo/tree/main", "unknown-scheme", "hf://org/repo"),
        ("https://huggingface.co/gpt2", "unknown-scheme", "file:PATH"),
        ("https://example.org/huggingface.co/org/repo", "unknown-scheme", "file:PATH"),
        ("C:\\models", "unknown-scheme", "file:PATH"),
        ("fil:x", "unknown-scheme", "did you mean file:?"),
        ("HF://org/repo", "unknown-scheme", "did you mean hf:?"),
        ("hf:org/repo", "bad-uri", None),
        ("hf://repo", "bad-uri", None),
        ("hf://org/repo/file.bin", "bad-uri", None),
        ("hf://../repo@main", "bad-uri", None),
        ("hf://org/repo@", "bad-uri", None),
        ("hf://org/re--po@main", "bad-uri", None),
        ("hf://org/repo..x@main", "bad-uri", None),
        ("hf://org/repo.@main", "bad-uri", None),
        ("hf://org/repo@a/../../b", "bad-uri", None),
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


def test_a_repository_of_the_hub_is_in_the_clients_cache(here, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(here / "cache"))
    commit = "0123456789" * 4
    source = resolve(f"hf://lmsys/vicuna-7b-delta-v1.1@{commit}", here, None)
    folder = here / "cache" / "models--lmsys--vicuna-7b-delta-v1.1" / "snapshots" / commit
    assert (source.fetched, source.path("a/b")) == (True, folder / "a" / "b")
    assert repository_of(source.uri) == Repository("lmsys/vicuna-7b-delta-v1.1", commit)
    assert repository_of(source.uri, here) is repository_of("file:in") is None


@pytest.mark.parametrize("revision", ["", "@main", "@refs/pr/1", f"@{'0' * 39}", f"@{'A' * 40}"])
def test_case_82_only_a_commit_says_which_files_are_meant(here, revision):
    uri = f"hf://org/repo{revision}"
    assert check_uri(uri) == ("hf", uri[3:])
    with pytest.raises(NotLocked) as caught:
        resolve(uri, here, None)
    assert (caught.value.code, caught.value.exit_status) == ("not-locked", 4)
    assert caught.value.hint is not None and "vbuild lock" in caught.value.hint


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HF_HOME": "/hf"},
        {"HF_HOME": "~/hf/$SUB"},
        {"XDG_CACHE_HOME": "/xdg"},
        {"HF_HUB_CACHE": "$SUB/cache", "HF_HOME": "/hf"},
        {"HF_HOME": ""},
        {"HF_HUB_CACHE": "", "HF_HOME": "/hf"},
        {"HUGGINGFACE_HUB_CACHE": "~/old"},
        {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/new"},
    ],
)
def test_the_cache_is_where_the_client_has_it(environment, tmp_path, monkeypatch):
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path), "SUB": "sub", **environment}.items():
        monkeypatch.setenv(name, value)
    program = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert cache_directory(os.environ) == Path(ran.stdout.strip())
