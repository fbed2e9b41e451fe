"""What has to hold of the programs on every processor, and with sanitizers in them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

from tests.cross.corpus import Replay, write_corpus, wrong
from tests.cross.kernel_vectors import Vector, differences
from tests.cross.machines import Programs
from tests.cross.small_builds import Program

__all__ = ["assert_builds", "assert_corpus", "assert_vectors"]


def assert_vectors(
    programs: Programs, level: str, vectors: tuple[Path, list[Vector]], scratch: Path
) -> None:
    """Every kernel gives the exact result."""
    path, expected = vectors
    results = scratch / "results"
    programs.run("vbkernels", path, results, level=level)
    _assert_none(differences(expected, results.read_bytes()), programs, level)


def assert_builds(
    programs: Programs, level: str, builds: Sequence[Program], scratch: Path, spare: int = 0
) -> None:
    """Every table gives the digests of the native build, and writes the bytes that it says."""
    for program in builds:
        out = scratch / program.name
        arguments = (program.table, out, *program.sources)
        result = programs.run("vbrun", *arguments, level=level, SPARE_THREADS=str(spare))
        got = result.stdout.splitlines()[1:]
        pairs = itertools.zip_longest(program.expected, got, fillvalue="nothing")
        different = [
            f"{program.name}: {have} instead of {want}" for want, have in pairs if want != have
        ]
        _assert_none(different, programs, level)
        written = f"output {hashlib.sha256(out.read_bytes()).hexdigest()}"
        assert written == program.expected[0], f"{program.name}: the file is another one: {written}"


def assert_corpus(
    programs: Programs, level: str, corpus: Sequence[Replay], scratch: Path, spare: int = 0
) -> None:
    """Every table of the corpus does what the model says, or is refused."""
    path = scratch / "corpus"
    write_corpus(path, corpus)
    printed = programs.run("vbreplay", path, level=level, SPARE_THREADS=str(spare)).stdout
    _assert_none(wrong(corpus, printed), programs, level)


def _assert_none(problems: Sequence[str], programs: Programs, level: str) -> None:
    where = f"{programs.machine.name}, {level}: {len(problems)} wrong"
    assert not problems, "\n".join([where, *problems[:10]])
