"""What is measured: groups of contestants that take turns over the same data.

- Only figures of one group are compared as ratios: its contestants are interleaved, so that a
  machine which others use disturbs all of them alike.
- A group's data are made when it begins and removed when it ends.
- Every model has the same kind of tensors (``shapes.py``), so groups differ in size and cut only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from benchmarks.commands import (
    Contestant,
    apply,
    cat,
    copy,
    diff,
    interpreter,
    openssl,
    torch_and_openssl,
    vbuild,
    verify,
)

__all__ = ["GROWTH", "SHARDS", "Group", "Job", "Model", "groups", "quick"]

GROWTH = (0.2, 0.5, 1, 2, 4)
"""Sizes over which cost is followed, in GB of 2 shards."""

SHARDS = (1, 2, 5, 10, 20, 40)
"""Cuts of 2 GB over which cost is followed."""

TWO = "vbuild, 2 threads"
ONE = "vbuild, 1 thread"
COPY = "cp + sync"
OPENSSL = "openssl dgst"
PEER = "torch + openssl"
WEIGHTS = "vbuild, weights digest"


@dataclass(frozen=True, slots=True)
class Model:
    """A model in bytes, and its sides as ``generate.py`` takes them."""

    size: float
    sides: tuple[str, ...]
    width: int = 1280
    vocabulary: int = 12000


@dataclass(frozen=True, slots=True)
class Job:
    """A manifest: which sides it uses, and what else stands in it.

    In the texts ``WEIGHTS`` and ``MAX_SHARD_SIZE`` stand for the reference's weights digest and the
    bytes of its largest shard.
    """

    base: str = "base"
    delta: str = "delta"
    base_keys: str = ""
    delta_keys: str = ""
    output: str = ""
    rules: str = '[apply]\npreset = "fastchat-v1.1"\n'

    def manifest(self, pins: Mapping[str, str], facts: Mapping[str, str]) -> str:
        """The text; ``pins`` are the lines of each side's files table."""
        text = (
            'schema = "vbuild/1"\nname = "benchmark"\n'
            f'[base]\nuri = "file:{self.base}"\n{self.base_keys}[base.files]\n{pins[self.base]}'
            f'[[delta]]\nuri = "file:{self.delta}"\n{self.delta_keys}'
            f"[delta.files]\n{pins[self.delta]}"
            f'{self.rules}[tokenizer]\nsource = "base"\n[output]\n{self.output}'
        )
        for word, value in facts.items():
            text = text.replace(word, value)
        return text


@dataclass(frozen=True, slots=True)
class Group:
    """Contestants over the same data.

    With ``reference``, the manifest ``aligned`` is built and signed once before they begin.
    ``signed`` is a side that is signed where it is. ``rounds`` multiplies the repetitions.
    """

    model: Model
    contestants: Mapping[str, Contestant]
    jobs: Mapping[str, Job] = field(default_factory=lambda: {"aligned": Job()})
    reference: bool = True
    signed: str | None = None
    rounds: int = 1


def _build(manifest: str = "aligned", jobs: int = 2, **other: bool) -> Contestant:
    return Contestant(apply(manifest, jobs=jobs), writes=True, **other)


_PAIR = {COPY: Contestant(copy("base"), writes=True), TWO: _build(same=True)}


def _cut(shards: int, size: float = 2e9) -> Model:
    return Model(size, (f"base=safetensors:{shards}", f"delta=safetensors:{shards}"))


_JOBS = {
    "aligned": Job(),
    "weights": Job(output='weights = "WEIGHTS"\n'),
    "bin": Job("base-bin", "delta-bin"),
    "mixed": Job("base", "delta-bin"),
    "meta": Job(
        "base-meta",
        base_keys='format = "meta-llama"\n',
        output='max_shard_size = "MAX_SHARD_SIZE"\n',
    ),
    "lora": Job(delta="delta-lora", delta_keys='kind = "lora"\n', rules=""),
    "gguf-f16": Job(output='format = "gguf"\ntype = "F16"\n'),
    "gguf-q8": Job(output='format = "gguf"\ntype = "Q8_0"\n'),
}

_MAIN = Group(
    Model(
        2e9,
        (
            "base=safetensors:2",
            "delta=safetensors:2",
            "base-bin=bin:2",
            "delta-bin=bin:3",
            "base-meta=meta:2",
            "delta-lora=lora:64",
        ),
    ),
    {
        **_PAIR,
        ONE: _build(jobs=1, same=True),
        OPENSSL: Contestant(openssl("base", "delta", "reference")),
        PEER: Contestant(torch_and_openssl("base", "delta"), writes=True, same=True, needs="torch"),
        WEIGHTS: _build("weights", same=True),
        "vbuild, .bin + .bin": _build("bin", same=True),
        "vbuild, safetensors + .bin": _build("mixed", same=True),
        "vbuild, Meta's files": _build("meta", same=True, optional=True),
        "vbuild, LoRA": _build("lora", optional=True),
        "vbuild, GGUF F16": _build("gguf-f16", optional=True),
        "vbuild, GGUF Q8_0": _build("gguf-q8", optional=True),
        "vbuild verify": Contestant(verify("reference")),
        "openssl dgst, output": Contestant(openssl("reference")),
        "vbuild diff": Contestant(diff("base", "reference"), optional=True),
        "cat": Contestant(cat("base", "reference")),
    },
    _JOBS,
)

_ONE_FILE = Group(_cut(1), {**_PAIR, ONE: _build(jobs=1, same=True)})

_MANY = Group(
    _cut(40),
    {**_PAIR, WEIGHTS: _build("weights", same=True)},
    {name: _JOBS[name] for name in ("aligned", "weights")},
)

_EIGHT = Group(
    Model(2.048e9, ("base=safetensors:8",)),
    {"vbuild verify": Contestant(verify("base")), OPENSSL: Contestant(openssl("base"))},
    {},
    reference=False,
    signed="base",
)

_START = Group(
    Model(1e6, ("base=safetensors:1",), width=128, vocabulary=400),
    {
        "python -c pass": Contestant(interpreter()),
        "vbuild --help": Contestant(vbuild("--help")),
        "vbuild verify": Contestant(verify("base")),
    },
    {},
    reference=False,
    signed="base",
    rounds=4,
)


def groups() -> dict[str, Group]:
    """Every group by name, in the order in which they run."""
    found = {"start": _START, "2 x 1 GB": _MAIN, "1 x 2 GB": _ONE_FILE, "40 x 50 MB": _MANY}
    found["8 x 256 MB"] = _EIGHT
    for shards in SHARDS:
        if shards not in (1, 2, 40):
            found[f"{shards} shards"] = Group(_cut(shards), _PAIR)
    for size in GROWTH:
        if size != 2:
            found[f"{size} GB"] = Group(_cut(2, size * 1e9), _PAIR)
    return found


def quick(group: Group) -> Group:
    """The same group over a twentieth of the data."""
    model = group.model
    if model.size < 1e8:
        return group
    return replace(group, model=replace(model, size=model.size / 20, width=256, vocabulary=2000))
