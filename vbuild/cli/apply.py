"""``vbuild apply``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vbuild.cli._console import Console
from vbuild.cli._options import PATH, common, force, inputs, jobs, key, refetch
from vbuild.errors import InvalidInput

if TYPE_CHECKING:
    from vbuild.build import Prepared
    from vbuild.commands.signing import SigningKey
    from vbuild.manifest import LoadedManifest
    from vbuild.sources.fetch import Pending

__all__ = ["command"]


@click.command("apply", short_help="Build the model of a manifest, sign it, publish it.")
@click.argument("manifest", type=PATH)
@inputs
@click.option("--out", type=PATH, metavar="DIR", help="The model directory. Default: build/NAME.")
@key
@click.option("--unsigned", is_flag=True, help="Do not sign.")
@jobs
@force("the output of an earlier build")
@click.option("--offline", is_flag=True, help="Download nothing: use what is there, or fail.")
@refetch
@click.option("--dry-run", is_flag=True, help="Show the plan and write nothing.")
@common
def command(
    console: Console,
    manifest: Path,
    base: Path | None,
    delta: tuple[Path, ...],
    out: Path | None,
    key: Path | None,
    unsigned: bool,
    jobs: int | None,
    force: bool,
    offline: bool,
    refetch: bool,
    dry_run: bool,
) -> int:
    """Build the model that MANIFEST describes, sign it and publish it.

    What is missing of hf:// inputs is downloaded first. The inputs are verified against their pins
    while they are read. The output appears at once and whole, or not at all; DIR.attest beside it
    has SHA256SUMS and the provenance. If the build is interrupted, the same command goes on where
    it stopped.
    """
    if key is not None and unsigned:
        raise InvalidInput("usage", "--key and --unsigned exclude each other")
    if offline and refetch:
        raise InvalidInput("usage", "--offline and --refetch exclude each other")
    if dry_run:
        from vbuild.cli.plan import show

        return show(console, manifest, base, delta, out, jobs)
    from vbuild.cli._passphrase import ask_once
    from vbuild.commands.apply import apply, default_out
    from vbuild.report import apply as report
    from vbuild.report import fetch as fetch_report

    target: Path | None = out
    license: str | None = None

    def on_fetch(loaded: LoadedManifest, pending: Pending) -> None:
        console.note(*fetch_report.opening(loaded.manifest, pending))

    def on_start(prepared: Prepared, signer: SigningKey | None) -> None:
        nonlocal target, license
        target = out or default_out(prepared.loaded.manifest.name)
        license = prepared.loaded.manifest.license
        console.note(*report.opening(prepared, target))
        for warning in prepared.plan.warnings:
            console.warn(warning)
        if signer is not None and signer.created is not None:
            console.note(report.new_key_line(signer.created, signer.fingerprint))

    applied = apply(
        manifest,
        base=base,
        delta=delta,
        out=out,
        key=key,
        unsigned=unsigned,
        jobs=jobs,
        force=force,
        offline=offline,
        refetch=refetch,
        progress=console.progress(),
        on_fetch=on_fetch,
        on_start=on_start,
        ask_passphrase=ask_once,
    )
    assert target is not None
    check = report.check_command(target, applied.fingerprint is not None, public_key(key))
    console.result(report.result(applied, target, check))
    console.document(report.document(applied, target, check, license))
    return 0


def public_key(key: Path | None) -> str | None:
    """What ``verify --key`` needs if ``key`` has signed; None for the user's own key."""
    named = os.environ.get("VBUILD_KEY")
    path = key or (Path(named) if named else None)
    if path is None:
        return None
    public = path.with_suffix(".pub") if path.suffix == ".pem" else Path(f"{path}.pub")
    return str(public) if public.is_file() else "PUBLIC_KEY"
