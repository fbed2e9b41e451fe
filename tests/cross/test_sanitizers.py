"""The C core under the address, undefined-behaviour and thread sanitizers: nothing may trip them.

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
def threaded(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The programs with the sanitizer that finds data races."""
    build = tmp_path_factory.mktemp("threads")
    return Programs(NATIVE, compile_programs(build, "-Db_sanitize=thread"))


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


def test_the_programs_have_the_thread_sanitizer_in_them(threaded):
    symbols = subprocess.run(
        ["nm", threaded.directory / "vbreplay"], capture_output=True, text=True, check=True
    ).stdout
    assert "__tsan_init" in symbols


def test_a_run_on_two_threads_has_no_data_race(threaded, corpus, builds, tmp_path):
    assert_corpus(threaded, "native", corpus[:400], tmp_path, spare=1)
    assert_builds(threaded, "native", builds, tmp_path, spare=1)
