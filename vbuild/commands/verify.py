"""``vbuild verify``: a model against its signature, or a manifest's inputs against its pins.

- What only a manifest needs is imported when there is one: the rooms of a build take longer to load
  than the signature of a model takes to check.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vbuild.attest.verify import TreeVerdict, verify_tree
from vbuild.commands.signing import trust
from vbuild.digest import watched
from vbuild.errors import Unavailable
from vbuild.files import os_error, read_small
from vbuild.progress import Progress

if TYPE_CHECKING:
    from vbuild.build.materials import InputVerdict

__all__ = ["InputsVerdict", "verify"]


@dataclass(frozen=True, slots=True)
class InputsVerdict:
    """The answer about a manifest's inputs."""

    name: str
    inputs: tuple[InputVerdict, ...]

    @property
    def ok(self) -> bool:
        """Whether every input is the pinned one."""
        return all(verdict.ok for verdict in self.inputs)


def verify(
    target: Path,
    *,
    base: Path | None = None,
    delta: Sequence[Path] = (),
    key: Sequence[Path] = (),
    threshold: int = 1,
    attestations: Path | None = None,
    name: str | None = None,
    environment: Mapping[str, str] = os.environ,
    progress: Progress | None = None,
) -> TreeVerdict | InputsVerdict:
    """Verify ``target``: a model directory, or a manifest's inputs if it is a file.

    A mismatch is a result. ``key`` are files of trusted public keys (default: the user's own and
    trusted ones); ``attestations`` is a directory of further bundles (``*.sig``, ``*.json``) from
    other rebuilders; ``name`` is the model that the signature has to be for. ``progress`` hears of
    the bytes that are hashed.
    """
    if not os.path.lexists(target):
        raise Unavailable("file-missing", "no such model directory or manifest", where=str(target))
    if os.path.isdir(target):  # noqa: PTH112 (also answers where it may not look)
        return verify_tree(
            target,
            trust(key, environment),
            hash_files=watched(progress),
            attestations=() if attestations is None else _bundles(attestations),
            threshold=threshold,
            expected_name=name,
        )
    from vbuild.build.materials import verify_inputs
    from vbuild.manifest import load_manifest, require_locked

    loaded = load_manifest(target)
    require_locked(loaded)
    inputs = verify_inputs(loaded, base, delta, hash_files=watched(progress))
    return InputsVerdict(loaded.manifest.name, inputs)


def _bundles(directory: Path) -> list[tuple[str, bytes]]:
    """Every bundle in ``directory`` by label, in order of name."""
    try:
        paths = sorted(p for p in directory.iterdir() if p.suffix in (".sig", ".json"))
    except OSError as e:
        raise os_error(e, str(directory), "read") from e
    return [(str(path), read_small(path, str(path))) for path in paths]
