"""What a manifest may say: its tables, keys, types and defaults.

- The structs are the single definition: strict conversion, error messages, the JSON Schema for
  editors and the reference page are made from or checked against them.
- Unknown keys are refused, nothing is coerced, and a key's type never depends on another key.
- What the language has and this version cannot build yet stands in :data:`LATER`, not in a type.
- Rules that concern several keys are in ``check.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "DEFAULT_PRESETS",
    "LATER",
    "SCHEMA_VERSION",
    "Apply",
    "Base",
    "Config",
    "Delta",
    "FilePin",
    "Manifest",
    "Output",
    "OutputPin",
    "Preset",
    "Rule",
    "Side",
    "Tokenizer",
    "TokenizerAdd",
]

SCHEMA_VERSION: Final = "vbuild/1"
MAX_INTEGER: Final = 2**63 - 1

# `$` alone would also match before a final line feed; the look-ahead is valid in ECMA-262 too.
END: Final = r"$(?!\n)"
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*" + END
SHA256_PATTERN: Final = r"^[0-9a-f]{64}" + END
SIZE_PATTERN: Final = r"^[1-9][0-9]{0,18}(KB|MB|GB|TB)?" + END
GLOB_PATTERN: Final = r"^[^\[\]]+" + END

EXPECTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        NAME_PATTERN: "letters, digits, '.', '_' and '-', beginning with a letter or digit",
        SHA256_PATTERN: "64 lowercase hexadecimal digits",
        SIZE_PATTERN: 'a number of bytes, or of decimal KB, MB, GB or TB, such as "5GB"',
        GLOB_PATTERN: "a glob with * and ? only, without brackets",
    }
)
"""What each pattern asks for, in words."""

K_QUANTS: Final = (
    "Q2_K",
    *(f"Q3_K{size}" for size in ("", "_S", "_M", "_L")),
    *(f"Q{bits}_K{size}" for bits in (4, 5) for size in ("", "_S", "_M")),
    "Q6_K",
)
"""llama.cpp's types that no Python package quantizes to."""

LATER: Final[Mapping[tuple[str, str], tuple[str, ...]]] = MappingProxyType(
    {
        ("Output", "type"): K_QUANTS,
    }
)
"""(Struct, key) -> values of manifest version 1 that this version of vbuild cannot build yet.

To support one, move it into the key's type.
"""

Name = Annotated[
    str,
    Meta(pattern=NAME_PATTERN, max_length=200, description="The name of the signed subject."),
]
Sha256 = Annotated[str, Meta(pattern=SHA256_PATTERN, description="SHA-256 of the content.")]
Size = Annotated[int, Meta(ge=0, le=MAX_INTEGER, description="Size in bytes.")]
Rows = Annotated[
    int,
    Meta(ge=1, le=MAX_INTEGER, description="Rows of the embeddings, where more than pieces."),
]
Uri = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1024,
        description="file:PATH (relative to the manifest) or hf://ORG/REPO@COMMIT.",
    ),
]
ShardSize = Annotated[
    str, Meta(pattern=SIZE_PATTERN, description="Largest shard: bytes, or decimal KB, MB, GB, TB.")
]
Glob = Annotated[str, Meta(pattern=GLOB_PATTERN, max_length=1000)]
ContainerFormat = Annotated[
    Literal["auto", "safetensors", "torch", "meta-llama"],
    Meta(description="How the weight files are encoded."),
]
ElementType = Literal["float16", "bfloat16", "float32"]
Side = Literal["base", "delta"]
PresetName = Annotated[str, Meta(min_length=1, description="The name of a list of rules.")]
FilePath = Annotated[str, Meta(min_length=1)]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table with a fixed set of keys."""


class FilePin(Table, frozen=True, kw_only=True):
    """Size and digest of an input file; complete with ``sha256``, `{}` is not pinned yet."""

    size: Size | None = None
    sha256: Sha256 | None = None


class OutputPin(Table, frozen=True, kw_only=True):
    """Digest, and perhaps size, of an expected output file."""

    sha256: Sha256
    size: Size | None = None


InputFiles = Annotated[
    dict[str, FilePin],
    Meta(min_length=1, description="Every file that the build reads, by relative path."),
]

WeightsPin = Annotated[
    Sha256 | None,
    Meta(
        description="The weights digest: any container and sharding of these tensors will do, and "
        "the weight files need no digests of their own."
    ),
]


class Rule(Table, frozen=True, kw_only=True):
    """What happens to the tensors that ``match``; the first rule that matches claims a tensor."""

    match: Annotated[
        Glob | Annotated[tuple[Glob, ...], Meta(min_length=1)],
        Meta(description="Globs over tensor names: * is any text, ? one character."),
    ]
    op: Annotated[
        Literal["add", "xor", "merge", "copy-base", "copy-delta", "drop"],
        Meta(description="What the output tensor is made of."),
    ]
    pad: Annotated[
        Literal["zero", "mean", "delta"] | None,
        Meta(description="What new rows of the base start from."),
    ] = None
    on_missing: Annotated[
        Literal["error", "copy", "copy-base", "copy-delta", "drop"],
        Meta(description="What to do with a tensor that is on one side only."),
    ] = "error"
    on_shape_mismatch: Annotated[
        Literal["error", "copy-delta"],
        Meta(description="What to do where the two shapes differ."),
    ] = "error"
    compute: Annotated[
        Literal["float16", "bfloat16", "float32", "as-stored"] | None,
        Meta(
            description="Both operands are converted to it before the addition; as-stored: they "
            "are not, and the result is rounded once, to the base's type."
        ),
    ] = None

    @property
    def patterns(self) -> tuple[str, ...]:
        """``match`` as a tuple, however it was written."""
        return (self.match,) if isinstance(self.match, str) else self.match


Rules = Annotated[tuple[Rule, ...], Meta(min_length=1, description="Rules, read from the top.")]


Kind = Literal["dense", "lora", "xor-file"]

DEFAULT_PRESETS: Final[Mapping[str, str]] = MappingProxyType(
    {"lora": "peft", "xor-file": "oasst-xor"}
)
"""The preset of a delta that no rules are given for, by kind."""


class Preset(Table, frozen=True, kw_only=True):
    """A named list of rules, as a file of ``presets/`` holds it.

    ``kind`` is that of the deltas it is for; ``dtype`` what the tool that it describes writes.
    """

    description: str
    rule: Rules
    kind: Kind = "dense"
    dtype: ElementType | None = None


class Base(Table, frozen=True, kw_only=True):
    """The checkpoint that the build starts from."""

    uri: Uri
    format: ContainerFormat = "auto"
    weights: WeightsPin = None
    files: InputFiles = {}


class Delta(Table, frozen=True, kw_only=True):
    """A checkpoint that is applied to the base, with rules of its own if it has any."""

    uri: Uri
    format: ContainerFormat = "auto"
    kind: Annotated[
        Kind,
        Meta(
            description="Tensors to combine with the base's, a LoRA adapter as PEFT writes it, or "
            "files to XOR with the base's."
        ),
    ] = "dense"
    weights: WeightsPin = None
    files: InputFiles = {}
    preset: PresetName | None = None
    rule: Rules | None = None


class Apply(Table, frozen=True, kw_only=True):
    """The rules for every delta without its own: a preset or a list, one of the two."""

    preset: PresetName | None = None
    rule: Rules = ()


class TokenizerAdd(Table, frozen=True, kw_only=True):
    """A piece that is appended to the vocabulary."""

    piece: Annotated[str, Meta(min_length=1, description="The text of the piece.")]
    type: Annotated[
        Literal["control", "user-defined", "normal"], Meta(description="SentencePiece's type.")
    ]
    role: Annotated[
        Literal["pad"] | None, Meta(description='"pad": sets pad_token and pad_token_id.')
    ] = None


class Tokenizer(Table, frozen=True, kw_only=True):
    """Whose tokenizer files the output gets, and what is added to them."""

    source: Annotated[Side, Meta(description="Whose tokenizer files are copied.")]
    add: Annotated[tuple[TokenizerAdd, ...], Meta(description="Pieces to append, in order.")] = ()
    tokens: Annotated[
        FilePath | None, Meta(description="A list of pieces in llama-tools' format.")
    ] = None
    tokens_sha256: Sha256 | None = None
    rows: Rows | None = None
    update_trainer_vocab_size: Annotated[
        bool, Meta(description="Raise trainer_spec.vocab_size in tokenizer.model, too.")
    ] = False


class Config(Table, frozen=True, kw_only=True):
    """Whose ``config.json`` and ``generation_config.json`` the output gets."""

    source: Annotated[Side, Meta(description="Whose configuration files are copied.")]


class Output(Table, frozen=True, kw_only=True):
    """How the result is written, and what it must be."""

    format: Annotated[
        Literal["safetensors", "gguf", "as-is"],
        Meta(description="The container format; as-is: the files of an xor-file delta."),
    ] = "safetensors"
    type: Annotated[
        Literal["F16", "BF16", "F32", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] | None,
        Meta(description="How a GGUF file stores its matrices."),
    ] = None
    dtype: Annotated[
        ElementType | None, Meta(description="Element type of the result; default: the base's.")
    ] = None
    max_shard_size: ShardSize | None = None
    nonfinite: Annotated[
        Literal["error", "allow"], Meta(description="NaN or infinity as a result of arithmetic.")
    ] = "error"
    weights: Annotated[Sha256 | None, Meta(description="The expected weights digest.")] = None
    files: Annotated[
        dict[str, OutputPin], Meta(min_length=1, description="Expected output files.")
    ] = {}
    copy: Annotated[
        tuple[FilePath, ...], Meta(description="Other files of the source to copy.")
    ] = ()

    @property
    def max_shard_bytes(self) -> int | None:
        """``max_shard_size`` in bytes."""
        return None if self.max_shard_size is None else decimal_size(self.max_shard_size)


class Manifest(Table, frozen=True, kw_only=True):
    """What goes into a build, which rule applies to each tensor, and what must come out."""

    schema: Annotated[Literal["vbuild/1"], Meta(description="The version of this language.")]
    name: Name
    license: Annotated[str | None, Meta(description="Shown before a build.")] = None
    description: str | None = None
    base: Base
    delta: Annotated[tuple[Delta, ...], Meta(description="Deltas, applied in order.")] = ()
    apply: Apply | None = None
    tokenizer: Tokenizer | None = None
    config: Config | None = None
    output: Output | Annotated[tuple[Output, ...], Meta(min_length=1)] = Output()

    @property
    def outputs(self) -> tuple[Output, ...]:
        """``output`` as a tuple, however it was written."""
        return (self.output,) if isinstance(self.output, Output) else self.output

    @property
    def copy(self) -> tuple[str, ...]:
        """The files that any of the outputs copies."""
        return tuple(name for output in self.outputs for name in output.copy)

    @property
    def files_source(self) -> Side:
        """Whose tokenizer files and ``output.copy`` files are taken."""
        return "base" if self.tokenizer is None else self.tokenizer.source

    @property
    def config_source(self) -> Side:
        """Whose ``config.json`` and ``generation_config.json`` are copied.

        An adapter has none: a LoRA's tokenizer goes with the base's configuration.
        """
        if self.config is not None:
            return self.config.source
        adapter = self.files_source == "delta" and self.delta[-1].kind == "lora"
        return "base" if adapter else self.files_source

    def side(self, which: Side) -> Base | Delta:
        """The base, or the last delta of the chain."""
        return self.base if which == "base" else self.delta[-1]


def decimal_size(text: str) -> int:
    """``"5GB"`` in bytes; the units are decimal (:data:`SIZE_PATTERN`)."""
    for power, unit in enumerate(("KB", "MB", "GB", "TB"), 1):
        if text.endswith(unit):
            return int(text[:-2] + power * "000")
    return int(text)
