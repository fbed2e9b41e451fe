"""The same bits on every processor: the C core on its own, compiled for others and emulated.

``tests/cross/install`` installs the compilers and the emulator; ``make test-cross`` does all.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cross.checks import assert_builds, assert_corpus, assert_vectors
from tests.cross.corpus import Replay, large_tables, mutated_tables, random_tables
from tests.cross.machines import MACHINES, NATIVE, Machine, Programs, compile_programs
from vbuild import _core

pytestmark = pytest.mark.cross


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Machine], Programs]:
    """The programs for a machine, compiled when they are first asked for."""
    directories = {}

    def get(machine: Machine) -> Programs:
        if machine.architecture not in directories:
            build = tmp_path_factory.mktemp(machine.architecture)
            directories[machine.architecture] = compile_programs(
                build, f"--cross-file={machine.cross_file}"
            )
        return Programs(machine, directories[machine.architecture])

    return get


@pytest.fixture(scope="session")
def corpus() -> list[Replay]:
    valid = random_tables(300)
    return [*large_tables(), *valid, *mutated_tables(valid, 1)]


@pytest.fixture(params=MACHINES, ids=lambda machine: machine.name)
def programs(request: pytest.FixtureRequest, compiled: Callable[[Machine], Programs]) -> Programs:
    return compiled(request.param)


def test_the_features_of_the_processor_are_found(programs):
    expected = programs.machine.features
    if programs.machine is NATIVE:
        expected = _core.cpu_features()
    assert programs.features() == expected


def test_every_kernel_gives_the_exact_result(programs, vectors, tmp_path):
    for level in programs.levels():
        assert_vectors(programs, level, vectors, tmp_path)


def test_whole_builds_have_the_digests_of_the_native_ones(programs, builds, tmp_path):
    for level in programs.levels():
        assert_builds(programs, level, builds, tmp_path)


def test_random_tables_give_what_the_model_gives(programs, corpus, tmp_path):
    assert_corpus(programs, "native", corpus, tmp_path)
