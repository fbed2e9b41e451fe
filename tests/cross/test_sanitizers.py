"""The C core under the address and undefined-behaviour sanitizers: nothing may trip them.

The extension itself can be built with them too::

    meson setup build/sanitized -Db_sanitize=address,undefined -Db_lundef=false

and is then imported with ``LD_PRELOAD=$(gcc -print-file-name=libasan.so)``.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.cross.checks import assert_builds, assert_corpus, assert_vectors
from tests.cross.corpus import Replay, large_tables, mutated_tables, random_tables
from tests.cross.machines import NATIVE, Programs, compile_programs

pytestmark = pytest.mark.sanitizers

OPTIONS = (
    "-Db_sanitize=address,undefined",
    "-Dc_args=-fno-sanitize-recover=all -fno-omit-frame-pointer",
)
LEVELS = ("portable", "native")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    build = tmp_path_factory.mktemp("sanitized")
    return Programs(NATIVE, compile_programs(build, *OPTIONS))


@pytest.fixture(scope="session")
def corpus() -> list[Replay]:
    valid = random_tables(1000)
    return [*large_tables(), *valid, *mutated_tables(valid, 2)]


def test_the_programs_have_the_sanitizers_in_them(programs):
    symbols = subprocess.run(
        ["nm", programs.directory / "vbreplay"], capture_output=True, text=True, check=True
    ).stdout
    assert "__asan_init" in symbols and "__ubsan_handle" in symbols


def test_every_kernel_gives_the_exact_result(programs, vectors, tmp_path):
    for level in programs.levels():
        assert_vectors(programs, level, vectors, tmp_path)


@pytest.mark.parametrize("level", LEVELS)
def test_whole_builds_have_the_digests_of_the_native_ones(programs, builds, tmp_path, level):
    assert_builds(programs, level, builds, tmp_path)


@pytest.mark.parametrize("level", LEVELS)
def test_random_and_malformed_tables_run_as_they_say_or_are_refused(
    programs, corpus, tmp_path, level
):
    assert_corpus(programs, level, corpus, tmp_path)
