"""Whole small builds: manifests with their inputs, and their tables as files for ``vbrun``.

Together they have both containers, several shards on either side, a padded row, every arithmetic
type, XOR, a tensor that is read through a strided view, one larger than a block, bytes and a whole
file that only a digest needs, and a chain of two deltas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support.builds import (
    DTYPES,
    Job,
    Tensors,
    pins,
    random_tensors,
    read_safetensors,
    write_safetensors,
)
from tests.support.torch_files import PickleWriter, write_torch_zip, zip_bytes
from vbuild.build import Sealed, build, prepare
from vbuild.manifest import load_manifest

__all__ = ["Program", "make_programs"]

EMBEDDINGS = '["*embed_tokens.weight", "*lm_head.weight"]'
SAFETENSORS_RULES = f"""
[apply]
[[apply.rule]]
match = {EMBEDDINGS}
op = "add"
pad = "zero"
[[apply.rule]]
match = "*.inv_freq"
op = "copy-base"
on_missing = "copy"
[[apply.rule]]
match = "*.input_layernorm.weight"
op = "xor"
[[apply.rule]]
match = "*.unused"
op = "drop"
[[apply.rule]]
match = "*.wide.weight"
op = "add"
compute = "as-stored"
[[apply.rule]]
match = "*"
op = "add"
"""
TORCH_RULES = f"""
[apply]
[[apply.rule]]
match = {EMBEDDINGS}
op = "add"
pad = "delta"
compute = "float32"
[[apply.rule]]
match = "*"
op = "add"
compute = "float32"
"""
CHAIN_RULES = """
rule = [
  { match = "*layernorm*", op = "xor" },
  { match = "*up_proj*", op = "add", compute = "bfloat16" },
  { match = "*", op = "add", compute = "float32" },
]
"""


@dataclass(frozen=True, slots=True)
class Program:
    """One table of a build: what ``vbrun`` is given, and the lines that it must print."""

    name: str
    table: Path
    sources: tuple[Path, ...]
    expected: tuple[str, ...]


def _normal(seed: int, shape: tuple[int, ...], scale: float, dtype: str) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def _from_safetensors(root: Path) -> Job:
    """Three shards a side, and an output cut in other places; f16, f32, f64 and int64."""
    base, delta = random_tensors(1, 30, 1.0), random_tensors(2, 31, 0.01)
    base["model.layers.0.mlp.wide.weight"] = _normal(3, (700, 300), 1.0, "f2")
    delta["model.layers.0.mlp.wide.weight"] = _normal(4, (700, 300), 0.01, "f4")
    base["model.layers.1.mlp.wide.weight"] = _normal(5, (33, 17), 1.0, "f8")
    delta["model.layers.1.mlp.wide.weight"] = _normal(6, (33, 17), 1e-5, "f4")
    base["model.layers.0.rotary_emb.inv_freq"] = _normal(7, (64,), 1.0, "f4")
    delta["model.layers.0.unused"] = np.arange(99, dtype=np.int64)
    output = 'max_shard_size = "5KB"\ndtype = "float16"'
    job = Job(root, base, delta, 3, rules=SAFETENSORS_RULES, output=output).write()
    unused = {"model.layers.1.unused": np.arange(40_000, dtype=np.float64)}
    write_safetensors(root / "delta/unused.safetensors", unused)
    job.pin()
    return job


def _from_torch(root: Path) -> Job:
    """``.bin`` files, bf16 among them; one tensor lies transposed in its file."""
    base, delta = random_tensors(8, 30, 1.0), random_tensors(9, 31, 0.01)
    transposed = _normal(10, (1450, 1501), 1.0, "f2")
    base["model.layers.0.self_attn.q_proj.weight"] = transposed.T
    delta["model.layers.0.self_attn.q_proj.weight"] = _normal(11, (1501, 1450), 0.01, "f4")
    job = Job(root, base, delta, 2, "torch", TORCH_RULES, 'dtype = "bfloat16"').write()
    name = "model.layers.0.self_attn.q_proj.weight"
    path = next(p for p in sorted((root / "base").iterdir()) if _holds(p, name))
    others = {n: base[n] for n in sorted(base) if n != name and _holds(path, n)}
    pickle = PickleWriter().raw(b"}").put().raw(b"(").text(name)
    pickle.tensor("HalfStorage", "0", transposed.size, (1501, 1450), strides=(1, 1501)).raw(b"u")
    path.write_bytes(zip_bytes(pickle.done(), {"0": transposed.tobytes()}))
    bits = {n: (a.astype("<f4").view("<u4") >> 16).astype("<u2") for n, a in others.items()}
    write_torch_zip(root / "base/part-3.bin", bits, bf16_names=bits)
    job.pin()
    return job


def _holds(path: Path, name: str) -> bool:
    return b"X" + len(name).to_bytes(4, "little") + name.encode() in path.read_bytes()


def _chain(root: Path) -> Job:
    """A safetensors base, a safetensors delta, and a ``.bin`` delta with rules of its own."""
    base, first = random_tensors(12, 31, 1.0), random_tensors(13, 31, 0.01)
    job = Job(root, base, first, 2, output='dtype = "float32"').write()
    second: dict[str, np.ndarray] = random_tensors(14, 31, 0.5)
    (root / "second").mkdir()
    write_torch_zip(root / "second/more.bin", second)
    extra = f'[[delta]]\nuri = "file:second"{CHAIN_RULES}[delta.files]\n{pins(root / "second")}'
    text = job.manifest.read_text(encoding="utf-8")
    job.manifest.write_text(text.replace("\n[apply]", f"\n{extra}\n[apply]"), encoding="utf-8")
    return job


JOBS = {"safetensors": _from_safetensors, "torch": _from_torch, "chain": _chain}


def make_programs(root: Path) -> list[Program]:
    """Every table of every build under ``root``; the builds are made here, by this Python."""
    return [p for name, make in JOBS.items() for p in _programs(name, make(root / name))]


def _programs(name: str, job: Job) -> Iterator[Program]:
    """The tables of one build. Expected digests are hashlib's, over the files that are there."""
    prepared = prepare(load_manifest(job.manifest))
    build(prepared, job.out, seal=lambda files: Sealed(), jobs=2)
    for i, program in enumerate(prepared.plan.programs):
        table = job.root / f"table-{i}"
        table.write_bytes(program.table.serialize())
        paths = tuple(prepared.materials[ref].path for ref in program.files)
        outputs = prepared.plan.outputs
        made = job.out / outputs[i].name if i < len(outputs) else None
        lines = [f"output {_digest(made.read_bytes() if made else b'')}"]
        for j, (path, (mode, _)) in enumerate(zip(paths, program.table.sources, strict=True)):
            lines.append(f"source {j} {_digest(path.read_bytes()) if mode else '-'}")
        if made is not None:
            names = [recipe.name for recipe in outputs[i].recipes]
            lines += _tensor_lines(names, made)
        yield Program(f"{name}-{i}", table, paths, tuple(lines))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _tensor_lines(names: list[str], path: Path) -> Iterator[str]:
    """The digest of each tensor (numerics.md, weights digest), from the file that was made."""
    tensors: Tensors = read_safetensors(path)
    for i, name in enumerate(names):
        array = tensors[name]
        dtype = DTYPES[str(array.dtype)].code if str(array.dtype) in DTYPES else "BF16"
        dims = ",".join(map(str, array.shape))
        head = f"vbuild-tensor-v1\0{dtype}\0{dims}\0".encode()
        yield f"tensor {i} {_digest(head + array.tobytes())}"
