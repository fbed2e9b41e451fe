"""The processors that the C core is run on, how its programs are compiled for them and started.

- Flags and files of the core stand in ``meson.build`` alone; a cross file adds the compiler.
- Programs are linked statically, so that an emulator needs nothing but the program.
- Nothing is judged here: a program that cannot be compiled or ends with a signal is an error.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MACHINES", "NATIVE", "Machine", "Programs", "compile_programs"]

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor. ``cpu`` is qemu's name for it; without, this computer's own is meant.

    ``features`` are those that the core has to find on an emulated one, sorted.
    """

    name: str
    architecture: str
    cpu: str = ""
    features: tuple[str, ...] = ()

    @property
    def cross_file(self) -> Path:
        """What meson has to know of its compiler."""
        return HERE / f"{self.architecture}.ini"

    @property
    def emulator(self) -> tuple[str, ...]:
        """What is put before a program to run it."""
        if not self.cpu:
            return ()
        name = f"qemu-{self.architecture}"
        return (_tool(f"{name}-static", name), "-cpu", self.cpu)


NATIVE = Machine("native", platform.machine())
MACHINES = (
    NATIVE,
    Machine("x86-64-sse2", "x86_64", "qemu64"),
    Machine("x86-64-avx2", "x86_64", "max,sha-ni=off", ("avx2", "pclmul")),
    Machine("aarch64", "aarch64", "max", ("arm-sha2", "neon")),
    Machine("aarch64-without-f16", "aarch64", "cortex-a57", ("arm-sha2", "neon")),
    Machine("s390x-big-endian", "s390x", "max"),
)


@dataclass(frozen=True, slots=True)
class Programs:
    """Compiled programs, and the processor that runs them."""

    machine: Machine
    directory: Path

    def run(
        self, program: str, *arguments: str | Path, level: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``program`` at an ISA level. Status 3, or a signal, is an AssertionError."""
        result = subprocess.run(
            [*self.machine.emulator, self.directory / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "VBUILD_ISA": level, **environment},
        )
        assert result.returncode in (0, 1, 2) and not result.stderr, (
            f"{program} on {self.machine.name} at {level!r} ended with {result.returncode}:\n"
            f"{result.stdout[-500:]}\n{result.stderr[:5000]}"
        )
        return result

    def features(self) -> tuple[str, ...]:
        """What the core finds on this processor, sorted."""
        line = self.run("vbrun").stdout.split()[1]
        return () if line == "-" else tuple(line.split(","))

    def levels(self) -> tuple[str, ...]:
        """Every ISA level worth a run of its own: none, each feature alone, all."""
        return tuple(dict.fromkeys(("portable", *self.features(), "native")))


def _tool(*names: str) -> str:
    """The first of these programs that this Python's environment or the system has."""
    for name in names:
        beside = Path(sys.executable).with_name(name)
        found = str(beside) if beside.exists() else shutil.which(name)
        if found:
            return found
    raise AssertionError(f"{names[0]} is not installed; `make test-cross` installs it")


def _call(arguments: Sequence[str | Path]) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        arguments, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    assert result.returncode == 0, f"{arguments[0]} failed:\n{result.stdout}{result.stderr}"


def compile_programs(build: Path, *options: str) -> Path:
    """Compile the programs of this directory in ``build``; the directory that they are in.

    ``options`` are meson's, a cross file among them. A warning of the compiler is an error.
    """
    setup = ["setup", "--native-file", HERE / "programs.ini", "-Dwerror=true", *options]
    _call([_tool("meson"), *setup, build, ROOT])
    _call([_tool("ninja"), "-C", build])
    return build / "tests" / "cross"
