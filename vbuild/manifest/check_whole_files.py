"""What an xor-file delta and files that are written as they are must satisfy.

- One delta of whole files, and one output of files as they are: each needs the other.
- Nothing that concerns tensors has an effect on them, so it is an error.
- Every file of the delta is an output, and has a file of the base to be XORed with.
"""

from __future__ import annotations

from collections.abc import Sequence

from vbuild.manifest.explain import quote
from vbuild.manifest.outline import KeyPath, Outline
from vbuild.manifest.paths import output_name_fault
from vbuild.manifest.schema import Base, Delta, Manifest, Output

__all__ = ["check_whole_files"]


def check_whole_files(
    manifest: Manifest,
    inputs: Sequence[tuple[KeyPath, Base | Delta]],
    outputs: Sequence[tuple[KeyPath, Output]],
    outline: Outline,
) -> None:
    """Raise InvalidInput, with file, line and key, for the first thing that is wrong."""
    whole = [i for i, delta in enumerate(manifest.delta) if delta.kind == "xor-file"]
    as_is = [path for path, output in outputs if output.format == "as-is"]
    if whole and (not as_is or len(outputs) > 1):
        raise outline.error(
            "xor-file-output",
            ("delta", whole[0], "kind"),
            "files that are XORed whole are written as they are",
            expected='one [output], with format = "as-is"',
        )
    if as_is and (not whole or len(manifest.delta) > 1):
        raise outline.error(
            "xor-file-output",
            (*as_is[0], "format"),
            "only files that are XORed whole are written as they are",
            expected='one [[delta]], of kind = "xor-file"',
        )
    if as_is:
        _check_keys(manifest, inputs, *outputs[0], outline)
        _check_names(manifest, outline)


def _check_keys(
    manifest: Manifest,
    inputs: Sequence[tuple[KeyPath, Base | Delta]],
    place: KeyPath,
    output: Output,
    outline: Outline,
) -> None:
    keys: list[tuple[KeyPath, bool]] = [
        (("tokenizer",), manifest.tokenizer is not None),
        (("config",), manifest.config is not None),
        *(((*path, "format"), side.format != "auto") for path, side in inputs),
        *(((*path, "weights"), side.weights is not None) for path, side in inputs),
        ((*place, "dtype"), output.dtype is not None),
        ((*place, "max_shard_size"), output.max_shard_size is not None),
        ((*place, "nonfinite"), output.nonfinite != "error"),
        ((*place, "weights"), output.weights is not None),
        ((*place, "copy"), bool(output.copy)),
    ]
    for path, used in keys:
        if used:
            raise outline.error(
                "no-effect",
                path,
                "has no effect on files that are written as they are",
                expected='a manifest without it, or another output.format than "as-is"',
            )


def _check_names(manifest: Manifest, outline: Outline) -> None:
    for name in manifest.delta[0].files:
        path: KeyPath = ("delta", 0, "files", name)
        fault = output_name_fault(name) or ("is in a directory" if "/" in name else None)
        if fault is not None:
            raise outline.error(
                "bad-path",
                path,
                f"the file name {fault}",
                expected="a name that an output may have, such as model.bin",
                got=quote(name),
            )
        if manifest.base.files and name not in manifest.base.files:
            raise outline.error(
                "no-base-file",
                path,
                f"the base lists no file {quote(name)} to XOR it with",
                hint="list it under [base.files], or leave it out of [delta.files]",
            )
