"""File names mean one and the same file on every system."""

import string
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbuild.errors import InvalidInput
from vbuild.manifest import check_collisions, clean_relative_path
from vbuild.manifest.paths import find_collision, output_name_fault, path_fault

NAMES = st.text(st.characters(codec=None, max_codepoint=0x24FF), max_size=20) | st.text(
    "aA./\\: \0é", max_size=12
)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        ("/a", "is absolute"),
        ("//server/share", "is absolute"),
        ("\\\\server\\share", "has a backslash"),
        ("a\\b", "has a backslash"),
        ("C:/a", "has a colon"),
        ("a:stream", "has a colon"),
        ("../a", "has a component '..'"),
        ("a/../b", "has a component '..'"),
        ("./a", "has a component '.'"),
        ("a//b", "has an empty component"),
        ("a/", "has an empty component"),
        ("a\nb", "has a control character"),
        ("a\x7f", "has a control character"),
        ("a\x85", "has a control character"),
        ("a\u2028b", "has a control character"),
        ("a\udc80", "has a control character"),
        ("a./b", "has a component that ends in a dot or a space"),
        ("a /b", "has a component that ends in a dot or a space"),
        ("...", "has a component that ends in a dot or a space"),
        ("CON", "has a component that Windows reserves, 'CON'"),
        ("a/nul.txt", "has a component that Windows reserves, 'nul.txt'"),
        ("com1.tar.gz", "has a component that Windows reserves, 'com1.tar.gz'"),
        ("LPT²", "has a component that Windows reserves, 'LPT²'"),
        ("é" * 128, "has a component longer than 255 bytes"),
        ("a/" * 512 + "a", "is longer than 1024 bytes"),
    ],
)
def test_case_08_a_path_that_is_not_clean(name, fault):
    assert path_fault(name) == fault
    with pytest.raises(InvalidInput) as caught:
        clean_relative_path(name, "m.toml:1")
    assert (caught.value.code, caught.value.exit_status) == ("bad-path", 2)
    assert caught.value.where == "m.toml:1" and "\n" not in caught.value.message


@pytest.mark.parametrize(
    "name",
    ["a", ".gitattributes", "a/b.c", "...a", "console", "com", "com10", "é" * 127, "a b", "~", "-"],
)
def test_ordinary_names_are_clean(name):
    clean_relative_path(name)
    assert path_fault(name) is None


@given(name=NAMES)
def test_a_clean_path_stays_below_its_root_on_posix_and_windows(name):
    if path_fault(name) is None:
        posix, windows = PurePosixPath(name), PureWindowsPath(name)
        assert str(posix) == name and windows.as_posix() == name
        assert not posix.is_absolute() and not windows.anchor
        assert posix.parts == windows.parts and ".." not in posix.parts
        assert name.encode().decode() == name


@pytest.mark.parametrize("device", ["CON", "PRN", "AUX", "NUL", "COM1", "COM9", "LPT1", "LPT9"])
@pytest.mark.parametrize("form", ["{}", "{}.txt", "d/{}", "{}/x", "{} .x"])
def test_case_08_names_that_windows_reserves(device, form):
    for name in (form.format(device), form.format(device.lower())):
        fault = path_fault(name)
        assert fault is not None and "Windows" in fault


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("a", "a", "equal"),
        ("a.bin", "A.bin", "case"),
        ("é", "e\u0301", "normalization"),
        ("ß", "SS", "case"),
        ("K", "\u212a", "case"),
        ("D/x", "d/y", "case"),
        ("a", "a/b", "directory"),
        ("a/b/c", "a/b", "directory"),
        ("A", "a/b", "directory"),
    ],
)
def test_cases_09_and_10_names_that_collide(first, second, reason):
    collision = find_collision([first, "other", second])
    assert collision is not None and reason in collision.reason
    assert {collision.first, collision.second} == {first, second}
    with pytest.raises(InvalidInput) as caught:
        check_collisions([first, second], "m.toml:1")
    assert (caught.value.code, caught.value.exit_status) == ("path-collision", 2)


def test_names_in_one_directory_do_not_collide():
    check_collisions(["d/a", "d/b", "d.a", "da", "e/d"])
    assert find_collision([]) is None


@given(names=st.lists(st.text("ab/", min_size=1, max_size=5).filter(lambda n: not path_fault(n))))
def test_a_collision_is_found_exactly_where_a_file_system_would_refuse(names):
    files: set[str] = set()
    directories: set[str] = set()
    clash = False
    for name in names:
        parents = {str(p) for p in PurePosixPath(name).parents} - {"."}
        clash |= name in files | directories or bool(parents & files)
        files.add(name)
        directories |= parents
    assert (find_collision(names) is not None) == clash


@given(letter=st.sampled_from(string.ascii_letters + "éÉñÑ"))
def test_case_and_normalization_are_folded_together(letter):
    other = unicodedata.normalize("NFD", letter.swapcase())
    assert find_collision([letter, other]) is not None


@pytest.mark.parametrize(
    "name", ["model.sig", "Model.Sig", ".git", ".GIT/x", ".github/a", ".gitignore"]
)
def test_case_12_an_output_is_not_called_what_no_signature_covers(name):
    assert output_name_fault(name) == "is a name that no signature covers"
    assert path_fault(name) is None


def test_an_output_name_is_a_clean_path_too():
    assert output_name_fault("../x") == path_fault("../x")
    assert output_name_fault("model.safetensors") is None
    assert output_name_fault("sub/model.sig") is None
