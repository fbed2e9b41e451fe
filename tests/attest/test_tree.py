import os
import socket

import pytest

from vbuild.attest.tree import MAX_DEPTH, check_unchanged, list_tree, path_of, signable
from vbuild.errors import InvalidInput, Mismatch, Unavailable


def make(directory, *names):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def test_files_are_listed_by_code_points_with_slashes(tmp_path):
    make(tmp_path, "a.txt", "a/b", "a-b", "Z", "é", "a/c/d")
    tree = list_tree(tmp_path)
    assert list(tree.files) == ["Z", "a-b", "a.txt", "a/b", "a/c/d", "é"]
    assert list(tree.directories) == ["", "a", "a/c"]
    assert tree.irregular == {}


def test_nothing_but_regular_files_is_a_file_cases_20_21(tmp_path):
    make(tmp_path, "real")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as s:
        here = os.open(tmp_path, os.O_RDONLY)
        s.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    tree = list_tree(tmp_path)
    assert list(tree.files) == ["real"]
    assert tree.irregular == {
        "dangling": "a symbolic link",
        "fifo": "a fifo",
        "link": "a symbolic link",
        "loop": "a symbolic link",
        "socket": "a socket",
    }
    with pytest.raises(InvalidInput) as info:
        signable(tmp_path, tree)
    assert (info.value.code, info.value.exit_status) == ("not-a-file", 2)
    assert f"{tmp_path}/dangling" in info.value.message
    assert "cp -rL" in info.value.hint


def test_what_is_signed_leaves_out_the_signature_and_the_four_default_paths(tmp_path):
    make(tmp_path, "a", "model.sig", ".git/config", ".gitattributes", ".github/x", ".gitignore")
    make(tmp_path, ".gitkeep", "sub/.git/x", "sub/model.sig")
    names, uncovered = signable(tmp_path, list_tree(tmp_path))
    assert names == [".gitkeep", "a", "sub/.git/x", "sub/model.sig"]
    assert uncovered == [".git/config", ".gitattributes", ".github/x", ".gitignore"]


@pytest.mark.parametrize("raw", [b"caf\xe9", b"a\nb", b"a\\b", b"\x1b[31m"])
def test_a_name_that_means_something_else_elsewhere_is_not_signed_case_29(tmp_path, raw):
    path = os.path.join(os.fsencode(tmp_path), raw)  # noqa: PTH118
    with open(path, "wb") as f:  # noqa: PTH123
        f.write(b"x")
    tree = list_tree(tmp_path)
    (name,) = tree.files
    assert os.fsencode(path_of(tmp_path, name)) == path
    with pytest.raises(InvalidInput) as info:
        signable(tmp_path, tree)
    assert info.value.code == "name-unsafe"
    assert info.value.message.isprintable()


def test_a_directory_without_files_is_not_signed(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput) as info:
        signable(tmp_path, list_tree(tmp_path))
    assert info.value.code == "nothing-to-sign"


def test_a_missing_directory_is_unavailable_and_a_file_is_not_one(tmp_path):
    with pytest.raises(Unavailable) as info:
        list_tree(tmp_path / "none")
    assert info.value.code == "file-missing"
    make(tmp_path, "file")
    with pytest.raises(InvalidInput) as wrong:
        list_tree(tmp_path / "file")
    assert wrong.value.code == "not-a-directory"


def test_a_tree_deeper_than_the_limit_is_refused_and_one_at_the_limit_is_not(tmp_path):
    make(tmp_path, "/".join(["d"] * (MAX_DEPTH - 1)) + "/file")
    assert len(list_tree(tmp_path).files) == 1
    make(tmp_path, "/".join(["d"] * MAX_DEPTH) + "/file")
    with pytest.raises(InvalidInput) as info:
        list_tree(tmp_path)
    assert info.value.code == "tree-too-large"


def test_listing_leaves_no_descriptor_open(tmp_path):
    make(tmp_path, *[f"d{i}/f" for i in range(20)])
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    list_tree(tmp_path)
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def swap_for_a_link(tmp_path):
    (tmp_path / "m/sub").rename(tmp_path / "elsewhere")
    (tmp_path / "m/sub").symlink_to(tmp_path / "elsewhere")


def swap_there_and_back(tmp_path):
    swap_for_a_link(tmp_path)
    (tmp_path / "m/sub").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "m/sub")


@pytest.mark.parametrize(
    "change",
    [
        swap_for_a_link,
        swap_there_and_back,
        lambda d: (d / "m/sub/f").write_text("other"),
        lambda d: (d / "m/new").write_text(""),
        lambda d: (d / "m/sub/f").unlink(),
        lambda d: (d / "m/l").symlink_to("f"),
    ],
    ids=["link", "there and back", "write", "add", "remove", "new link"],
)
def test_a_tree_that_changes_while_it_is_used_is_found_out_cases_22_24(tmp_path, change):
    make(tmp_path, "m/f", "m/sub/f")
    tree = list_tree(tmp_path / "m")
    check_unchanged(tmp_path / "m", tree)
    change(tmp_path)
    with pytest.raises(Mismatch) as info:
        check_unchanged(tmp_path / "m", tree)
    assert (info.value.code, info.value.exit_status) == ("file-changed", 1)
    assert str(tmp_path / "m") in info.value.message


def test_a_directory_swapped_for_a_link_during_the_walk_is_not_entered_case_22(
    tmp_path, monkeypatch
):
    make(tmp_path, "m/sub/f", "outside/secret")
    real = os.open

    def racing(path, flags, *rest, **options):
        if path == b"sub":
            (tmp_path / "m/sub").rename(tmp_path / "moved")
            (tmp_path / "m/sub").symlink_to(tmp_path / "outside")
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", racing)
    with pytest.raises(Mismatch) as info:
        list_tree(tmp_path / "m")
    assert info.value.code == "file-changed"
