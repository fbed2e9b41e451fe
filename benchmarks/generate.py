"""Makes a base, a delta and a pinned manifest of any size, for measuring.

- Tensors have LLaMA's names and shapes, in float16; values are seeded and of a plausible magnitude.
- safetensors files are written in pieces, so memory does not grow with the model; a ``.bin`` shard
  is put together in memory.
- The same seed gives the same tensors in any container and cut.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for tests.support, which is not installed

from tests.support.torch_files import write_torch_zip  # noqa: E402
from vbuild.digest import hash_files  # noqa: E402
from vbuild.formats.index import index_json  # noqa: E402
from vbuild.formats.safetensors import canonical_order, header, shard_name  # noqa: E402
from vbuild.tensors import DType  # noqa: E402

VOCABULARY = 32000
PIECE = 4 << 20
"""Elements that are made at a time."""

Shapes = dict[str, tuple[int, ...]]
Bits = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Side:
    """How a base or a delta is stored."""

    directory: Path
    container: str
    shards: int
    seed: int
    exponent: int


def llama_shapes(parameters: float) -> Shapes:
    """Names and shapes of a LLaMA of about so many parameters."""
    width = 2048 if parameters >= 5e8 else 768 if parameters >= 5e7 else 256
    inner = width * 11 // 4
    layer = 4 * width * width + 3 * width * inner
    layers = max(1, round((parameters - 2 * VOCABULARY * width) / layer))
    shapes: Shapes = {"model.embed_tokens.weight": (VOCABULARY, width)}
    for i in range(layers):
        at = f"model.layers.{i}"
        shapes |= {f"{at}.self_attn.{x}_proj.weight": (width, width) for x in "qkvo"}
        shapes |= {f"{at}.mlp.{x}_proj.weight": (inner, width) for x in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (width, inner)
        shapes |= {f"{at}.{x}_layernorm.weight": (width,) for x in ("input", "post_attention")}
    return shapes | {"model.norm.weight": (width,), "lm_head.weight": (VOCABULARY, width)}


def pieces(name: str, count: int, side: Side) -> Iterator[Bits]:
    """Bits of ``count`` float16 numbers between 2^(e-4) and 2^e, either sign, a piece at a time."""
    stream = np.random.Generator(np.random.SFC64([side.seed, zlib.crc32(name.encode())]))
    for begin in range(0, count, PIECE):
        bits = np.frombuffer(stream.bytes(2 * min(PIECE, count - begin)), "<u2")
        yield (bits & np.uint16(0x8FFF)) + np.uint16((15 - 4 + side.exponent) << 10)


def dealt(shapes: Shapes, shards: int) -> list[list[str]]:
    """Names in code-point order, cut into shards of nearly equal size."""
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    groups: list[list[str]] = [[] for _ in range(shards)]
    done = 0
    for name in sorted(shapes):
        groups[min(done * shards // total, shards - 1)].append(name)
        done += int(np.prod(shapes[name]))
    return [group for group in groups if group]


def write_safetensors(path: Path, names: list[str], shapes: Shapes, side: Side) -> None:
    """One shard, streamed."""
    names = canonical_order((name, DType.F16) for name in names)
    with path.open("wb") as out:
        out.write(header([(name, DType.F16, shapes[name]) for name in names]))
        for name in names:
            for piece in pieces(name, int(np.prod(shapes[name])), side):
                out.write(piece.data)


def write_bin(path: Path, names: list[str], shapes: Shapes, side: Side) -> None:
    """One shard as ``torch.save`` wrote it in 2023: storages in string order of their numbers."""
    tensors = {}
    for name in names:
        bits = np.concatenate(list(pieces(name, int(np.prod(shapes[name])), side)))
        tensors[name] = bits.view("<f2").reshape(shapes[name])
    write_torch_zip(path, tensors)


def write_side(side: Side, shapes: Shapes) -> list[Path]:
    """All files of a base or a delta."""
    side.directory.mkdir(parents=True)
    groups = dealt(shapes, side.shards)
    weight_map: dict[str, str] = {}
    paths = []
    for i, names in enumerate(groups, 1):
        name = shard_name(i, len(groups))
        if side.container == "bin":
            name = name.replace("model", "pytorch_model").replace(".safetensors", ".bin")
        write = write_bin if side.container == "bin" else write_safetensors
        write(side.directory / name, names, shapes, side)
        paths.append(side.directory / name)
        weight_map |= dict.fromkeys(names, name)
    if len(groups) > 1:
        index = "pytorch_model.bin" if side.container == "bin" else "model.safetensors"
        paths.append(side.directory / f"{index}.index.json")
        total = sum(2 * int(np.prod(shape)) for shape in shapes.values())
        paths[-1].write_bytes(index_json(weight_map, total))
    return paths


def pins(paths: list[Path]) -> str:
    """The lines of a ``files`` table."""
    return "".join(
        f'"{path.name}" = {{ size = {path.stat().st_size}, sha256 = "{digest}" }}\n'
        for path, digest in zip(paths, hash_files(paths), strict=True)
    )


def generate(
    directory: Path,
    *,
    parameters: float = 1.2e9,
    containers: tuple[str, str] = ("safetensors", "safetensors"),
    shards: tuple[int, int] = (2, 2),
    seed: int = 0,
) -> Path:
    """Write ``base/``, ``delta/`` and ``manifest.toml`` under ``directory``; the manifest's path.

    ``containers`` and ``shards`` are those of base and delta.
    """
    shapes = llama_shapes(parameters)
    base = Side(directory / "base", containers[0], shards[0], 2 * seed, -3)
    delta = Side(directory / "delta", containers[1], shards[1], 2 * seed + 1, -8)
    text = 'schema = "vbuild/1"\nname = "benchmark"\n\n'
    text += f'[base]\nuri = "file:base"\n[base.files]\n{pins(write_side(base, shapes))}\n'
    text += f'[[delta]]\nuri = "file:delta"\n[delta.files]\n{pins(write_side(delta, shapes))}\n'
    text += '[apply]\npreset = "fastchat-v1.1"\n'
    manifest = directory / "manifest.toml"
    manifest.write_text(text)
    return manifest


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="made, or replaced with --force")
    parser.add_argument("--parameters", type=float, default=1.2e9)
    parser.add_argument("--container", choices=("safetensors", "bin"), default="safetensors")
    parser.add_argument("--delta-container", choices=("safetensors", "bin"))
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--delta-shards", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="remove what is there")
    asked = parser.parse_args()
    if asked.force:
        shutil.rmtree(asked.directory, ignore_errors=True)
    manifest = generate(
        asked.directory,
        parameters=asked.parameters,
        containers=(asked.container, asked.delta_container or asked.container),
        shards=(asked.shards, asked.delta_shards or asked.shards),
        seed=asked.seed,
    )
    print(json.dumps({"manifest": str(manifest)}))


if __name__ == "__main__":
    main()
