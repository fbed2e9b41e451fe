"""What both suites run on every machine: vectors, builds and a corpus, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cross.kernel_vectors import Vector, all_vectors, write_vectors
from tests.cross.small_builds import Program, make_programs


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Vector]]:
    """The kernel vectors, and the file that they are in."""
    path = tmp_path_factory.mktemp("vectors") / "vectors"
    made = all_vectors()
    write_vectors(path, made)
    return path, made


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> list[Program]:
    """The tables of some whole small builds, which this Python has made."""
    return make_programs(tmp_path_factory.mktemp("builds"))
