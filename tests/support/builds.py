"""A small base, delta and manifest for tests of planning and building, and the sum by numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.support.torch_files import write_torch_zip
from vbuild.formats.safetensors import canonical_order, header
from vbuild.tensors import DType

Tensors = Mapping[str, np.ndarray]
DTYPES = {"float16": DType.F16, "float32": DType.F32, "float64": DType.F64, "int64": DType.I64}

RULES = """
[apply]
[[apply.rule]]
match = ["*embed_tokens.weight", "*lm_head.weight"]
op = "add"
pad = "zero"
[[apply.rule]]
match = "*"
op = "add"
"""


def write_safetensors(path: Path, tensors: Tensors) -> None:
    """A canonical safetensors file of numpy arrays."""
    order = canonical_order((name, DTYPES[str(a.dtype)]) for name, a in tensors.items())
    head = header([(n, DTYPES[str(tensors[n].dtype)], tensors[n].shape) for n in order])
    path.write_bytes(head + b"".join(np.ascontiguousarray(tensors[n]).tobytes() for n in order))


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, by numpy and json alone."""
    import json

    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    types = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8", "BF16": "<u2"}
    found = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + o for o in entry["data_offsets"])
            flat = np.frombuffer(data[begin:end], types[entry["dtype"]])
            found[name] = flat.reshape(entry["shape"])
    return found


def random_tensors(seed: int, rows: int, scale: float, layers: int = 3) -> dict[str, np.ndarray]:
    """LLaMA-like names; ``rows`` of the two embeddings; f16."""
    rng = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (rows, 16), "lm_head.weight": (rows, 16)}
    for i in range(layers):
        shapes[f"model.layers.{i}.mlp.up_proj.weight"] = (24, 16)
        shapes[f"model.layers.{i}.input_layernorm.weight"] = (16,)
    return {n: (rng.standard_normal(s) * scale).astype(np.float16) for n, s in shapes.items()}


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pins(directory: Path) -> str:
    """The lines of a ``files`` table for everything in ``directory``."""
    return "".join(
        f'"{p.name}" = {{ size = {p.stat().st_size}, sha256 = "{sha256(p)}" }}\n'
        for p in sorted(directory.iterdir())
    )


@dataclass
class Job:
    """A base, a delta and a locked manifest in ``root``; change a part, then ``write()`` again."""

    root: Path
    base: dict[str, np.ndarray] = field(default_factory=lambda: random_tensors(1, 30, 1.0))
    delta: dict[str, np.ndarray] = field(default_factory=lambda: random_tensors(2, 31, 0.01))
    shards: int = 1
    container: str = "safetensors"
    rules: str = RULES
    output: str = ""
    extra: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tail: str = ""
    place: str = "out"

    @property
    def manifest(self) -> Path:
        """Its path."""
        return self.root / "manifest.toml"

    @property
    def out(self) -> Path:
        """Where tests build to."""
        return self.root / self.place

    def write(self) -> Job:
        """Write everything to disk and pin it."""
        for side, tensors in (("base", self.base), ("delta", self.delta)):
            directory = self.root / side
            directory.mkdir(exist_ok=True, parents=True)
            for old in directory.iterdir():
                old.unlink()
            self._write_side(directory, tensors)
            for name, data in self.extra.get(side, {}).items():
                (directory / name).write_bytes(data)
        self.pin()
        return self

    def _write_side(self, directory: Path, tensors: Tensors) -> None:
        names = sorted(tensors)
        suffix = "safetensors" if self.container == "safetensors" else "bin"
        write: Callable[[Path, Tensors], None] = (
            write_safetensors if suffix == "safetensors" else write_torch_zip
        )
        for i in range(self.shards):
            part = {n: tensors[n] for n in names[i :: self.shards]}
            write(directory / f"part-{i + 1}.{suffix}", part)

    def pin(self) -> None:
        """Write the manifest for what is on disk."""
        self.manifest.write_text(
            'schema = "vbuild/1"\nname = "test-model"\nlicense = "test licence"\n'
            f'[base]\nuri = "file:base"\n[base.files]\n{pins(self.root / "base")}'
            f'[[delta]]\nuri = "file:delta"\n[delta.files]\n{pins(self.root / "delta")}'
            f"{self.rules}\n[output]\n{self.output}\n{self.tail}\n",
            encoding="utf-8",
        )

    def expected(self) -> dict[str, np.ndarray]:
        """base + delta by numpy, new rows from zero."""
        total = {}
        for name, change in self.delta.items():
            start = self.base[name]
            if start.shape != change.shape:
                more = change.shape[0] - start.shape[0]
                start = np.concatenate([start, np.zeros((more, *start.shape[1:]), start.dtype)])
            total[name] = start + change
        return total
