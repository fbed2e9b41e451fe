"""What a well-typed manifest must still satisfy: rules that concern several keys.

- File names are clean and do not collide (bad-inputs.md, 8, 9, 10, 12); one file has one digest
  (13).
- A key without effect is an error, not a surprise; :mod:`vbuild.manifest.check_rules` says so of
  rules.
- What takes something from the delta needs a delta.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vbuild.errors import InvalidInput
from vbuild.manifest.check_rules import check_rules
from vbuild.manifest.check_whole_files import check_whole_files
from vbuild.manifest.explain import nearest, quote
from vbuild.manifest.outline import KeyPath, Outline
from vbuild.manifest.paths import find_collision, output_name_fault, path_fault
from vbuild.manifest.schema import MAX_INTEGER, Base, Delta, Manifest, Output, Tokenizer
from vbuild.sources import check_uri

__all__ = ["check_manifest", "inputs", "outputs"]

_WEIGHTS = re.compile(
    r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|.*\.gguf"
)


def inputs(manifest: Manifest) -> list[tuple[KeyPath, Base | Delta]]:
    """Base and deltas, each with the path of its table."""
    deltas = [(("delta", i), delta) for i, delta in enumerate(manifest.delta)]
    return [(("base",), manifest.base), *deltas]


def outputs(manifest: Manifest) -> list[tuple[KeyPath, Output]]:
    """The outputs, each with the path of its table."""
    if isinstance(manifest.output, Output):
        return [(("output",), manifest.output)]
    return [(("output", i), output) for i, output in enumerate(manifest.output)]


def check_manifest(manifest: Manifest, outline: Outline) -> None:
    """Raise InvalidInput, with file, line and key, for the first thing that is wrong."""
    for path, side in inputs(manifest):
        _check_input(side, path, outline)
    _check_digests(manifest, outline)
    check_rules(manifest, outline)
    if manifest.tokenizer is not None:
        _check_tokenizer(manifest.tokenizer, outline)
    for key, table in (("tokenizer", manifest.tokenizer), ("config", manifest.config)):
        if table is not None and table.source == "delta" and not manifest.delta:
            raise outline.error(
                "no-delta", (key, "source"), "there is no delta", hint='use source = "base"'
            )
    for path, output in outputs(manifest):
        _check_output(output, path, manifest, outline)
    _check_outputs(manifest, outline)
    _check_copy(manifest, outline)
    check_whole_files(manifest, inputs(manifest), outputs(manifest), outline)


def _check_input(side: Base | Delta, path: KeyPath, outline: Outline) -> None:
    check_uri(side.uri, outline.place((*path, "uri")))
    names = [(name, (*path, "files", name)) for name in side.files]
    for name, place in names:
        _refuse_path(path_fault(name), name, place, outline)
    _check_collisions(names, outline)


def _refuse_path(fault: str | None, name: str, path: KeyPath, outline: Outline) -> None:
    if fault is not None:
        raise outline.error(
            "bad-path",
            path,
            f"the file name {fault}",
            expected="a relative path such as dir/name.ext",
            got=quote(name),
        )


def _check_collisions(names: Sequence[tuple[str, KeyPath]], outline: Outline) -> None:
    collision = find_collision(name for name, _ in names)
    if collision is not None:
        path = [path for name, path in names if name == collision.second][-1]
        raise outline.error(
            "path-collision",
            path,
            f"collides with {quote(collision.first)}: {collision.reason}",
        )


def _check_digests(manifest: Manifest, outline: Outline) -> None:
    """Two inputs with one URI agree about each file."""
    seen: dict[tuple[str, str], tuple[str, KeyPath]] = {}
    for path, side in inputs(manifest):
        for name, pin in side.files.items():
            if pin.sha256 is None:
                continue
            place = (*path, "files", name)
            digest, first = seen.setdefault((side.uri, name), (pin.sha256, place))
            if digest != pin.sha256:
                raise outline.error(
                    "two-digests",
                    place,
                    "one file is pinned with two digests",
                    expected=f"{digest} (line {outline.line_of(first)})",
                    got=pin.sha256,
                )


def _check_tokenizer(tokenizer: Tokenizer, outline: Outline) -> None:
    path: KeyPath = ("tokenizer",)
    if tokenizer.tokens is not None:
        if tokenizer.add:
            raise outline.error(
                "two-token-lists",
                (*path, "tokens"),
                "the pieces are listed twice",
                expected="tokens or [[tokenizer.add]]",
            )
        _refuse_path(path_fault(tokenizer.tokens), tokenizer.tokens, (*path, "tokens"), outline)
    elif tokenizer.tokens_sha256 is not None:
        raise outline.error(
            "no-effect",
            (*path, "tokens_sha256"),
            "pins a list that is not named",
            expected="tokens",
        )
    seen: dict[str, int] = {}
    for i, added in enumerate(tokenizer.add):
        if seen.setdefault(added.piece, i) != i:
            raise outline.error(
                "duplicate-piece",
                (*path, "add", i, "piece"),
                "the piece is added twice",
                got=quote(added.piece),
            )
    pads = [i for i, added in enumerate(tokenizer.add) if added.role == "pad"]
    if len(pads) > 1:
        raise outline.error(
            "duplicate-role", (*path, "add", pads[1], "role"), "two pieces have this role"
        )


def _check_output(output: Output, path: KeyPath, manifest: Manifest, outline: Outline) -> None:
    if output.max_shard_bytes is not None and output.max_shard_bytes > MAX_INTEGER:
        raise outline.error(
            "bad-value",
            (*path, "max_shard_size"),
            "the size is out of range",
            expected=f"at most {MAX_INTEGER} bytes",
        )
    if output.format == "gguf":
        _check_gguf(output, path, manifest, outline)
    elif output.type is not None:
        raise outline.error(
            "no-effect",
            (*path, "type"),
            "has no effect with safetensors, whose element type is dtype",
            expected='format = "gguf"',
        )


def _check_gguf(output: Output, path: KeyPath, manifest: Manifest, outline: Outline) -> None:
    if output.type is None:
        raise outline.error(
            "missing-key",
            path,
            'the key "type" is missing',
            hint='say how the matrices are stored, for example type = "Q8_0"',
        )
    if output.max_shard_size is not None:
        raise outline.error(
            "no-effect",
            (*path, "max_shard_size"),
            "has no effect on a GGUF file, which is one file",
        )
    if manifest.tokenizer is None:
        raise outline.error(
            "gguf-tokenizer",
            path,
            "a GGUF file holds the vocabulary, and nothing says whose",
            hint='add [tokenizer] with source = "base" or "delta"',
        )


def _check_outputs(manifest: Manifest, outline: Outline) -> None:
    """What concerns all outputs: they write into one directory."""
    kinds: dict[tuple[str, str | None], int] = {}
    names: list[tuple[str, KeyPath]] = []
    copied: list[tuple[str, KeyPath]] = []
    for i, (path, output) in enumerate(outputs(manifest)):
        if kinds.setdefault((output.format, output.type), i) != i:
            raise outline.error(
                "two-outputs", path, "two outputs would write the same files", got=output.format
            )
        names += [(n, (*path, "files", n)) for n in output.files]
        copied += [(n, (*path, "copy", i)) for i, n in enumerate(output.copy)]
    for name, path in names + copied:
        _refuse_path(output_name_fault(name), name, path, outline)
    _check_collisions(copied, outline)
    # A copied file may also be pinned as an output: the same name is then no collision.
    pinned = {name for name, _ in names}
    _check_collisions(names + [(n, p) for n, p in copied if n not in pinned], outline)


def _check_copy(manifest: Manifest, outline: Outline) -> None:
    source = manifest.side(manifest.files_source)
    listed = [
        ((*path, "copy", i), name)
        for path, output in outputs(manifest)
        for i, name in enumerate(output.copy)
    ]
    for path, name in listed:
        if _WEIGHTS.fullmatch(name):
            raise outline.error(
                "reserved-name",
                path,
                "the build itself writes a file of that name",
                got=quote(name),
            )
        if source.files and name not in source.files:
            raise _not_listed(name, manifest.files_source, source, path, outline)


def _not_listed(
    name: str, which: str, source: Base | Delta, path: KeyPath, outline: Outline
) -> InvalidInput:
    return outline.error(
        "not-listed",
        path,
        f"{quote(name)} is not among the files of the {which}",
        hint=nearest(name, source.files) or f"list it under [{which}.files]",
    )
