"""``vbuild apply``: build what a manifest says, sign it, publish it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbuild.build import Built, Prepared, Sealed, build, prepare
from vbuild.commands.buildinfo import build_info
from vbuild.commands.evidence import evidence
from vbuild.commands.fetch import fetch_inputs
from vbuild.commands.signing import SigningKey, signing_key
from vbuild.manifest import LoadedManifest, load_manifest
from vbuild.progress import Progress
from vbuild.sources.fetch import Pending

__all__ = ["Applied", "apply", "default_out"]


@dataclass(frozen=True, slots=True)
class Applied:
    """A published build: what was made, who signed it (None: nobody), and how long it took."""

    name: str
    built: Built
    fingerprint: str | None
    warnings: tuple[str, ...]
    hashed_bytes: int
    seconds: float


def default_out(name: str) -> Path:
    """Where a model goes without ``--out``: ``build/NAME`` under the current directory."""
    return Path("build") / name


def apply(
    manifest: Path,
    *,
    base: Path | None = None,
    delta: Sequence[Path] = (),
    out: Path | None = None,
    key: Path | None = None,
    unsigned: bool = False,
    jobs: int | None = None,
    force: bool = False,
    offline: bool = False,
    refetch: bool = False,
    progress: Progress | None = None,
    on_fetch: Callable[[LoadedManifest, Pending], None] | None = None,
    on_start: Callable[[Prepared, SigningKey | None], None] | None = None,
    ask_passphrase: Callable[[str], bytes] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Applied:
    """Build the model of ``manifest`` into ``out`` (default: ``build/NAME``).

    What is missing of ``hf://`` inputs is downloaded first, unless ``offline``; ``refetch`` as for
    :func:`vbuild.fetch`. ``on_fetch`` is called before that if there is something to download,
    ``on_start`` when everything is planned and nothing is written yet: the places to show the
    licence. Errors: those of the manifest, sources, build and attest rooms.
    """
    start = time.monotonic()
    loaded = load_manifest(manifest)
    if not offline:
        fetch_inputs(loaded, base, delta, refetch=refetch, progress=progress, on_start=on_fetch)
    prepared = prepare(loaded, base, delta, progress=progress)
    signer = None if unsigned else signing_key(key, environment, ask_passphrase)
    if on_start is not None:
        on_start(prepared, signer)

    def seal(files: Mapping[str, str]) -> Sealed:
        made = evidence(prepared, files, None if signer is None else signer.key)
        info = build_info(seconds=time.monotonic() - start)
        return Sealed(made.model, {**made.attest, "buildinfo.json": info})

    target = Path(os.path.abspath(out or default_out(loaded.manifest.name)))
    built = build(prepared, target, seal=seal, jobs=jobs, force=force, progress=progress)
    return Applied(
        name=loaded.manifest.name,
        built=built,
        fingerprint=None if signer is None else signer.fingerprint,
        warnings=prepared.plan.warnings,
        hashed_bytes=prepared.plan.hashed_bytes,
        seconds=time.monotonic() - start,
    )
