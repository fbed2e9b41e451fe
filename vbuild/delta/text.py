"""The text of a delta's manifest: the same delta, the same bytes.

- Everything is pinned: the base by its files or by its weights digest, the delta's files, and what
  comes out.
- Strings are TOML's basic strings; no key depends on the time, the machine or the locale.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vbuild.delta.rules import DeltaRule
from vbuild.manifest import Rule

__all__ = ["Pinned", "Text"]


@dataclass(frozen=True, slots=True)
class Pinned:
    """A file's size and digest."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Text:
    """What a delta's manifest says. ``base`` has the files of the base, without the weights
    where ``base_weights`` pins these; ``outputs`` and ``weights`` are filled in when they are
    known."""

    name: str
    license: str | None
    base_uri: str
    base: Mapping[str, Pinned]
    base_weights: str | None
    delta: Mapping[str, Pinned]
    rules: Sequence[DeltaRule]
    config: bool
    tokenizer: bool
    rows: int | None
    dtype: str | None
    max_shard_size: str
    outputs: Mapping[str, Pinned]
    weights: str | None

    def with_outputs(self, outputs: Mapping[str, Pinned], weights: str) -> Text:
        """The same, with what comes out."""
        return replace(self, outputs=outputs, weights=weights)

    def encode(self) -> bytes:
        """As TOML."""
        return "".join(f"{line}\n" for line in self._lines()).encode("utf-8")

    def _lines(self) -> Iterator[str]:
        yield 'schema = "vbuild/1"'
        yield f"name = {quoted(self.name)}"
        if self.license is not None:
            yield f"license = {quoted(self.license)}"
        yield from ("", "[base]", f"uri = {quoted(self.base_uri)}")
        if self.base_weights is not None:
            yield f"weights = {quoted(self.base_weights)}"
        if self.base:
            yield "[base.files]"
            yield from _files(self.base)
        yield from ("", "[[delta]]", 'uri = "file:."', "[delta.files]")
        yield from _files(self.delta)
        for rule in self.rules:
            yield from ("", "[[apply.rule]]", *_rule(rule.rule))
        if self.tokenizer:
            yield from ("", "[tokenizer]", 'source = "delta"')
            if self.rows is not None:
                yield f"rows = {self.rows}"
        if self.config:
            yield from ("", "[config]", 'source = "delta"')
        yield from ("", "[output]")
        if self.dtype is not None:
            yield f"dtype = {quoted(self.dtype)}"
        yield f"max_shard_size = {quoted(self.max_shard_size)}"
        if self.weights is not None:
            yield f"weights = {quoted(self.weights)}"
        if self.outputs:
            yield "[output.files]"
            yield from _files(self.outputs)


def _files(pins: Mapping[str, Pinned]) -> Iterator[str]:
    for name, pin in sorted(pins.items()):
        yield f'{quoted(name)} = {{ size = {pin.size}, sha256 = "{pin.sha256}" }}'


def _rule(rule: Rule) -> Iterator[str]:
    if isinstance(rule.match, str):
        yield f"match = {quoted(rule.match)}"
    else:
        yield "match = ["
        yield from (f"    {quoted(pattern)}," for pattern in rule.match)
        yield "]"
    yield f"op = {quoted(rule.op)}"
    if rule.pad is not None:
        yield f"pad = {quoted(rule.pad)}"
    if rule.compute is not None:
        yield f"compute = {quoted(rule.compute)}"


def quoted(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, which wants DEL escaped, too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
