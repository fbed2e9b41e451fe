"""``vbuild verify``."""

from __future__ import annotations

from pathlib import Path

import click

from vbuild.cli._console import Console
from vbuild.cli._options import PATH, common, inputs
from vbuild.errors import InvalidInput

__all__ = ["command"]


@click.command("verify", short_help="Check a model against its signature, or inputs against pins.")
@click.argument("target", type=PATH, metavar="DIR|MANIFEST")
@click.option(
    "--key",
    type=PATH,
    multiple=True,
    metavar="PUB",
    help="A public key to trust; may be repeated. Default: your own and your trusted keys.",
)
@click.option(
    "--threshold",
    type=int,
    metavar="K",
    help="How many different trusted keys have to agree. Default: 1.",
)
@click.option("--attestations", type=PATH, metavar="DIR", help="A directory of others' signatures.")
@click.option("--name", metavar="NAME", help="The model that the signature has to be for.")
@inputs
@common
def command(
    console: Console,
    target: Path,
    key: tuple[Path, ...],
    threshold: int | None,
    attestations: Path | None,
    name: str | None,
    base: Path | None,
    delta: tuple[Path, ...],
) -> int:
    """Check a model directory against its signature, or a MANIFEST's inputs against its pins.

    Prints NAME: OK, FAILED, MISSING or EXTRA for each file, then one line with the verdict. A
    directory without a signature, with a missing or with an extra file does not pass.
    """
    directory = target.is_dir()
    _check_options(
        directory,
        model={"--key": key, "--threshold": threshold, "--attestations": attestations}
        | {"--name": name},
        inputs={"--base": base, "--delta": delta},
    )
    from vbuild.commands.verify import InputsVerdict, verify
    from vbuild.report import verify as report

    verdict = verify(
        target,
        base=base,
        delta=delta,
        key=key,
        threshold=1 if threshold is None else threshold,
        attestations=attestations,
        name=name,
        progress=console.progress(),
    )
    quiet = console.quiet
    if isinstance(verdict, InputsVerdict):
        lines = report.inputs_lines(verdict, problems_only=quiet)
        fields = report.inputs_document(str(target), verdict)
        status, hint = report.inputs_status(verdict), report.inputs_hint(verdict)
        explained = tuple(report.details(verdict.inputs))
    else:
        lines = report.tree_lines(verdict, problems_only=quiet)
        fields = report.tree_document(str(target), verdict)
        status = report.tree_status(verdict)
        hint = verdict.hint if verdict.problem is None else verdict.problem.hint
        explained = tuple(report.details(verdict.files))
        for refused in verdict.refused:
            console.warn(refused.message)
    console.result(lines, wrong=True)
    console.note(*explained)
    if hint is not None:
        console.hint(hint)
    console.document(fields)
    return status


def _check_options(directory: bool, model: dict[str, object], inputs: dict[str, object]) -> None:
    """Refuse options that would mean nothing for this target."""
    meaningless, what = (inputs, "a manifest") if directory else (model, "a model directory")
    for option, value in meaningless.items():
        if value not in (None, ()):
            raise InvalidInput("usage", f"{option} is for {what} only")
