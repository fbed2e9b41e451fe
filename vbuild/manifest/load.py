"""Text of a manifest -> a checked :class:`LoadedManifest`, or one error with file and line.

- The text is UTF-8 without a byte order mark or NUL, at most 4 MiB, LF or CRLF; TOML as tomli
  reads it (bad-inputs.md, 1-7).
- The exact bytes and their digest are kept: they are a material of the build.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import tomli

from vbuild.errors import InvalidInput, NotLocked
from vbuild.files import read_small
from vbuild.formats.registry import holds_weights
from vbuild.manifest.check import check_manifest, inputs
from vbuild.manifest.check_rules import preset_of, rules_of
from vbuild.manifest.explain import convert
from vbuild.manifest.outline import KeyPath, Outline, cut, format_path, scan
from vbuild.manifest.presets import load_preset
from vbuild.manifest.schema import Manifest, Rule

__all__ = [
    "MAX_MANIFEST_SIZE",
    "LoadedManifest",
    "load_manifest",
    "parse_manifest",
    "require_locked",
    "unpinned",
]

MAX_MANIFEST_SIZE: Final = 4 * 1024 * 1024
"""Bytes."""

LONGEST_REASON: Final = 200

_COPY_ALL: Final = (Rule(match="*", op="copy-base"),)


@dataclass(frozen=True, slots=True)
class LoadedManifest:
    """A manifest, the bytes it was read from, and where each of its keys stands.

    ``digest`` is the SHA-256 of ``data``, in hexadecimal.
    """

    manifest: Manifest
    path: Path
    data: bytes = field(repr=False)
    digest: str
    outline: Outline = field(repr=False, compare=False)
    _rules: tuple[tuple[Rule, ...], ...] = field(repr=False)

    def rules_for(self, delta_index: int = 0) -> tuple[Rule, ...]:
        """The rules of delta ``delta_index``: its own, else those of ``[apply]``.

        Presets are resolved. Without a delta, index 0 gives what happens to the base: the rules
        of ``[apply]``, or a copy of everything.
        """
        return self._rules[delta_index]

    def preset_for(self, delta_index: int = 0) -> str | None:
        """The preset that :meth:`rules_for` comes from, or None for rules of the manifest."""
        return preset_of(self.manifest, delta_index)

    def line_of(self, key_path: KeyPath) -> int:
        """The line of ``("delta", 0, "files", "model.bin")``, or of what is nearest around it."""
        return self.outline.line_of(key_path)

    def place(self, key_path: KeyPath) -> str:
        """``file:line`` of ``key_path``, for the ``where`` of an error."""
        return self.outline.place(key_path)


def _resolve_rules(manifest: Manifest, delta_index: int) -> tuple[Rule, ...]:
    preset = preset_of(manifest, delta_index)
    if preset is not None:
        return load_preset(preset).rule
    chosen = rules_of(manifest, delta_index)
    return _COPY_ALL if chosen is None else chosen.rule or ()


def load_manifest(path: Path) -> LoadedManifest:
    """Read and check the manifest ``path``.

    Raises Unavailable where it cannot be read, InvalidInput for everything that is wrong in it.
    """
    return parse_manifest(read_small(path, str(path), MAX_MANIFEST_SIZE), str(path))


def parse_manifest(data: bytes, where: str) -> LoadedManifest:
    """The manifest in ``data``; ``where`` is its path, in errors and as ``path``."""
    text = decode(data, where)
    outline = scan(text, where)
    manifest = convert(parse_toml(text, where), outline)
    check_manifest(manifest, outline)
    count = max(1, len(manifest.delta))
    return LoadedManifest(
        manifest=manifest,
        path=Path(where),
        data=data,
        digest=hashlib.sha256(data).hexdigest(),
        outline=outline,
        _rules=tuple(_resolve_rules(manifest, i) for i in range(count)),
    )


def decode(data: bytes, where: str) -> str:
    """The text of a manifest, with LF line ends; InvalidInput for what is not such a text."""
    if len(data) > MAX_MANIFEST_SIZE:
        raise InvalidInput(
            "file-too-large",
            "the manifest is too large",
            where=where,
            expected=f"at most {MAX_MANIFEST_SIZE} bytes",
            got=f"{len(data)} bytes",
        )

    def refuse(what: str, at: int, hint: str | None = None) -> InvalidInput:
        line = data.count(b"\n", 0, at) + 1
        return InvalidInput("manifest-encoding", what, where=f"{where}:{line}", hint=hint)

    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise refuse("starts with a byte order mark", 0, "save it as UTF-8 without one")
    if b"\0" in data:
        raise refuse("has a NUL byte", data.index(b"\0"))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise refuse(f"is not UTF-8 at byte {e.start}", e.start, "save it as UTF-8") from e
    return text.replace("\r\n", "\n")


def parse_toml(text: str, where: str) -> Mapping[str, object]:
    """The document ``text``; InvalidInput ``duplicate-key`` or ``manifest-syntax`` otherwise."""
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as e:
        reason = cut(e.msg, LONGEST_REASON)
        code, what = "manifest-syntax", f"not TOML: {reason}"
        if e.msg.startswith(("Cannot overwrite", "Cannot declare", "Duplicate")):
            code, what = "duplicate-key", f"a key is defined twice: {reason}"
        hint = f"look at column {e.colno}"
        raise InvalidInput(code, what, where=f"{where}:{e.lineno}", hint=hint) from e
    except (ValueError, RecursionError) as e:  # a number or a nesting beyond Python's limits
        raise InvalidInput("manifest-syntax", "a value is beyond what is read", where=where) from e


def unpinned(manifest: Manifest) -> list[str]:
    """The paths of what the build would read without knowing its digest; empty if locked."""
    return [format_path(path) for path in unpinned_paths(manifest)]


def unpinned_paths(manifest: Manifest) -> list[KeyPath]:
    """As :func:`unpinned`; an input without any files counts as one.

    Where an input's weights are pinned, its weight files are.
    """
    paths: list[KeyPath] = []
    for path, side in inputs(manifest):
        if not side.files and side.weights is None:
            paths.append((*path, "files"))
        paths += [
            (*path, "files", n)
            for n, pin in side.files.items()
            if pin.sha256 is None and (side.weights is None or not holds_weights(n))
        ]
    tokenizer = manifest.tokenizer
    if tokenizer is not None and tokenizer.tokens is not None and tokenizer.tokens_sha256 is None:
        paths.append(("tokenizer", "tokens_sha256"))
    return paths


def lock_command(loaded: LoadedManifest) -> str:
    """The command that pins what is not pinned, as it can be typed."""
    return f"vbuild lock {shlex.quote(str(loaded.path))}"


def require_locked(loaded: LoadedManifest) -> None:
    """Raise NotLocked, naming the first gap and the command that fills it, unless all is pinned."""
    gaps = unpinned_paths(loaded.manifest)
    if gaps:
        others = f" (and {len(gaps) - 1} more)" if len(gaps) > 1 else ""
        raise NotLocked(
            "not-locked",
            f"{format_path(gaps[0])}{others} is not pinned",
            where=loaded.place(gaps[0]),
            expected="a sha256 for each file that the build reads",
            hint=lock_command(loaded),
        )
