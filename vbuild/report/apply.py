"""A build: what is said before it starts, and its result."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vbuild.report.document import Value
from vbuild.report.lines import BLANK, Line, Span, line, styled, table
from vbuild.report.units import counted, duration, size

if TYPE_CHECKING:
    from vbuild.build import Prepared
    from vbuild.commands.apply import Applied

__all__ = ["document", "license_line", "new_key_line", "opening", "result", "sum_line"]


def license_line(text: str | None) -> Line:
    """The manifest's licence, or that it has none."""
    if text is None:
        return line(styled("license:", "strong"), " ", styled("none given", "caution"))
    return line(styled("license:", "strong"), " ", styled(text, "strong"))


def opening(prepared: Prepared, out: Path) -> Iterator[Line]:
    """What is going to be built, and under which licence."""
    tensors = len(prepared.plan.recipes)
    what = counted(tensors, "tensor") if tensors else counted(len(prepared.output_names), "file")
    written = prepared.plan.output_bytes + sum(map(len, prepared.side_files.values()))
    name = prepared.loaded.manifest.name
    yield line(f"building {name}: {what}, {size(written)}, into {out}")
    yield license_line(prepared.loaded.manifest.license)


def new_key_line(path: Path, fingerprint: str) -> Line:
    """That a signing key was made on first use."""
    return line(styled("new signing key:", "strong"), f" {path} ({fingerprint})")


def sum_line(name: str, sha256: str) -> Line:
    """As ``sha256sum`` writes it."""
    return line(f"{sha256}  {name}")


def result(applied: Applied, out: Path, check: str) -> Iterator[Line]:
    """The digests of all files, then what was made, how fast, by which key, and how to check it.

    ``out`` is the directory as the user named it, ``check`` the command that verifies it.
    """
    built = applied.built
    for name, digest in sorted(built.files.items()):
        yield sum_line(name, digest)
    yield BLANK
    rate = f"{size(applied.hashed_bytes / max(applied.seconds, 1e-9))}/s"
    rows: list[tuple[str | Span, ...]] = [
        ("built", styled(str(out), "strong")),
        ("", f"{counted(len(built.files), 'file')}, {size(built.size)}"),
        ("time", f"{duration(applied.seconds)}, {rate} hashed"),
    ]
    if built.resumed:
        rows.append(("resumed", f"{counted(len(built.resumed), 'shard')} of an earlier run"))
    if built.weights is not None:
        rows.append(("weights", f"{built.weights} (as pinned)"))
    signer = applied.fingerprint
    rows.append(("signed", "no" if signer is None else f"by {signer}"))
    rows.append(("evidence", str(out.with_name(built.attest.name))))
    rows.append(("verify", styled(check, "accent")))
    yield from table(rows, indent=0)


def check_command(out: Path, signed: bool, key: str | None = None) -> str:
    """What to type to check the directory ``out``; ``key`` is the signer's public key, if it is
    not the user's own."""
    if not signed:
        sums = shlex.quote(f"../{out.name}.attest/SHA256SUMS")
        return f"(cd {shlex.quote(str(out))} && sha256sum -c {sums})"
    trusted = "" if key is None else f" --key {shlex.quote(key)}"
    return f"vbuild verify {shlex.quote(str(out))}{trusted}"


def document(applied: Applied, out: Path, check: str, license: str | None) -> dict[str, Value]:
    """The fields of ``vbuild.apply/1``."""
    built = applied.built
    return {
        "name": applied.name,
        "license": license,
        "out": out,
        "attest": out.with_name(built.attest.name),
        "files": [{"name": name, "sha256": digest} for name, digest in sorted(built.files.items())],
        "size": built.size,
        "weights": built.weights,
        "fingerprint": applied.fingerprint,
        "resumed": list(built.resumed),
        "warnings": list(applied.warnings),
        "hashed_bytes": applied.hashed_bytes,
        "seconds": round(applied.seconds, 3),
        "kernels": list(built.features),
        "verify": check,
    }
