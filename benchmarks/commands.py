"""The contestants: what each of them is started with.

- vbuild is started as a user starts it: signed, outputs synced, default settings.
- ``cp`` and the torch peer sync what they write, because a build does.
- A contestant is written down as a function of the place it runs in.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Command",
    "Contestant",
    "Place",
    "apply",
    "cat",
    "copy",
    "diff",
    "interpreter",
    "openssl",
    "torch_and_openssl",
    "vbuild",
    "verify",
    "weight_files",
]

HERE = Path(__file__).resolve().parent
WEIGHTS = (".safetensors", ".bin", ".pth")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a group's data are, and what vbuild is started with."""

    data: Path
    vbuild: tuple[str, ...]

    @property
    def out(self) -> Path:
        """What every contestant writes, and what is removed after it."""
        return self.data / "out"

    @property
    def key(self) -> Path:
        """The private key; the public one is ``key.pub``."""
        return self.data / "key.pem"


Command = Callable[[Place], list[str]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A command to measure.

    ``writes``: it makes ``out``. ``same``: what it makes has to be the reference's weights.
    ``optional``: if vbuild refuses it or lacks what it needs, it is skipped, with that reason.
    ``needs`` is a package of this interpreter without which it is skipped.
    """

    command: Command
    writes: bool = False
    same: bool = False
    optional: bool = False
    needs: str | None = None


def weight_files(*directories: Path) -> list[str]:
    """Paths of the shards in the directories."""
    return [
        str(path) for d in directories for path in sorted(d.iterdir()) if path.suffix in WEIGHTS
    ]


def vbuild(*arguments: str) -> Command:
    """Any command of vbuild; arguments are relative to the data where they begin with ``./``."""

    def command(place: Place) -> list[str]:
        given = [str(place.data / a) if a.startswith("./") else a for a in arguments]
        return [*place.vbuild, *given]

    return command


def apply(manifest: str = "aligned", *, jobs: int = 2) -> Command:
    """The build of a manifest into ``out``, signed."""

    def command(place: Place) -> list[str]:
        build = [*place.vbuild, "apply", str(place.data / f"{manifest}.toml"), "--quiet"]
        return [*build, "--out", str(place.out), "--key", str(place.key), "--jobs", str(jobs)]

    return command


def verify(directory: str) -> Command:
    """The verification of a signed directory."""
    return vbuild("verify", f"./{directory}", "--key", "./key.pub", "--quiet")


def diff(a: str, b: str) -> Command:
    """The comparison of two checkpoints that differ: exit status 1 is the answer."""

    def command(place: Place) -> list[str]:
        compare = [*place.vbuild, "diff", str(place.data / a), str(place.data / b), "--quiet"]
        return ["sh", "-c", '"$@"; s=$?; test $s -eq 1 && exit 0; exit $s', "sh", *compare]

    return command


def copy(directory: str) -> Command:
    """``cp -r`` into ``out``, and sync: what the disk costs."""
    script = 'cp -r "$0" "$1" && sync "$1"/*'
    return lambda place: ["sh", "-c", script, str(place.data / directory), str(place.out)]


def openssl(*directories: str) -> Command:
    """SHA-256 of the weights, one stream, one thread: what hashing costs."""

    def command(place: Place) -> list[str]:
        return ["openssl", "dgst", "-sha256", *weight_files(*(place.data / d for d in directories))]

    return command


def cat(*directories: str) -> Command:
    """Reading the weights and doing nothing with them: what memory costs."""

    def command(place: Place) -> list[str]:
        files = weight_files(*(place.data / d for d in directories))
        return ["sh", "-c", 'cat "$@" > /dev/null', "sh", *files]

    return command


def torch_and_openssl(base: str, delta: str) -> Command:
    """FastChat's rule in torch, written by safetensors; then openssl over all three."""

    def command(place: Place) -> list[str]:
        peer, sides = str(HERE / "peer_torch.py"), (place.data / base, place.data / delta)
        return [sys.executable, peer, *map(str, sides), str(place.out)]

    return command


def interpreter() -> Command:
    """Python with nothing to do: what is there before a command begins."""
    return lambda place: [sys.executable, "-c", "pass"]
