"""The house: which room may import which, and who may import which library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vbuild"

ROOMS = (  # from the ground up; a room imports only rooms below it
    "errors",
    "progress",
    "strict_json",
    "_core",
    "files",
    "tensors",
    "table",
    "digest",
    "formats",
    "tokenizer",
    "sources",
    "manifest",
    "plan",
    "build",
    "attest",
    "diff",
    "delta",
    "reproduce",
    "commands",
    "report",
    "cli",
)

LIBRARIES = {  # the only rooms that may import a library
    "click": {"cli"},
    "rich": {"cli", "report"},
    "tomli": {"manifest"},
    "msgspec": {"manifest"},
    "sentencepiece": {"tokenizer"},
    "gguf": {"formats"},
    "numpy": {"formats"},
    "Crypto": {"attest"},
    "huggingface_hub": {"sources"},
    "httpx2": {"sources"},
}

FRONT = {"__init__", "__main__"}  # of the package itself: they show the command line to the world


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the room"
            assert node.module is not None
            yield node.lineno, node.module
            if node.module == "vbuild":
                for alias in node.names:
                    yield node.lineno, f"vbuild.{alias.name}"


def test_every_module_is_in_a_room() -> None:
    assert {room_of(path) for path in modules()} <= {*ROOMS, *FRONT}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_rooms_below_it(path: Path) -> None:
    room = room_of(path)
    if room in FRONT:
        return
    for line, name in imported(path):
        parts = name.split(".")
        if parts[0] != "vbuild" or len(parts) == 1:
            continue
        where = f"{path.relative_to(ROOT)}:{line}"
        assert parts[1] in ROOMS, f"{where} imports {name}"
        assert ROOMS.index(parts[1]) <= ROOMS.index(room), f"{where}: {room} imports {parts[1]}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_library_is_imported_only_where_it_belongs(path: Path) -> None:
    for line, name in imported(path):
        top = name.split(".")[0]
        if top in {"vbuild", *sys.stdlib_module_names}:
            continue
        where = f"{path.relative_to(ROOT)}:{line}"
        assert top in LIBRARIES, f"{where} imports {top}, which is no dependency"
        assert room_of(path) in LIBRARIES[top], f"{where}: {top} is not for {room_of(path)}"


def test_the_core_has_no_python_in_c() -> None:
    for path in sorted((ROOT / "_core").glob("*.[ch]")):
        assert "<Python.h>" not in path.read_text(encoding="utf-8"), path.name


def test_the_top_level_is_what_the_house_has() -> None:
    have = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}
    made = {"build", "dist", "demo"}
    assert have - made == {
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "_core",
        "benchmarks",
        "docs",
        "manifests",
        "meson.build",
        "pyproject.toml",
        "tests",
        "vbuild",
    }
