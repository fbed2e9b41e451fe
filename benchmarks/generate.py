"""Makes the sides of a model, with their pins, for measuring.

    python -m benchmarks.generate DIR --size 2e9 base=safetensors:2 delta=safetensors:2

- A side is ``NAME=CONTAINER:PARTS``; a name that begins with ``delta`` has the delta's values.
  Parts are shards (``safetensors``, ``bin``), Meta's files (``meta``) or the rank (``lora``).
- Beside each side stands ``NAME.pins``, the lines of a manifest's ``files`` table.
- ``model.json`` has the bytes of all tensors, and of the largest shard of the first side.
- The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.containers import WRITERS
from benchmarks.shapes import Llama, deal
from tests.support.sentencepiece_models import small_model
from vbuild.digest import hash_files
from vbuild.tokenizer.sentencepiece_model import Piece, PieceType, append_pieces, parse_model

SMALL = 320
"""Pieces that are trained; the others are appended."""


def tokenizer(pieces: int) -> bytes:
    """A ``tokenizer.model`` of so many pieces; making it is quick, loading it costs as usual."""
    model = parse_model(small_model(SMALL), "tokenizer.model")
    more = [Piece(f"\u2581piece{i}", -float(i), PieceType.NORMAL) for i in range(SMALL, pieces)]
    return append_pieces(model, more)


def config(model: Llama) -> dict[str, object]:
    """The ``config.json`` of a conversion."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": model.width,
        "intermediate_size": model.intermediate,
        "max_position_embeddings": 2048,
        "model_type": "llama",
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vocab_size": model.vocabulary,
    }


def write_side(directory: Path, text: str, model: Llama) -> None:
    """One side, and its pins beside it."""
    name, _, what = text.partition("=")
    container, _, parts = what.partition(":")
    side = directory / name
    side.mkdir(parents=True)
    kind = "lora" if container == "lora" else "delta" if name.startswith("delta") else "base"
    WRITERS[container](side, model, int(parts), kind)
    if kind == "base":
        (side / "tokenizer.model").write_bytes(tokenizer(model.vocabulary))
        if container != "meta":
            (side / "config.json").write_text(json.dumps(config(model), indent=2))
    paths = sorted(side.iterdir())
    lines = [
        f'"{path.name}" = {{ size = {path.stat().st_size}, sha256 = "{digest}" }}\n'
        for path, digest in zip(paths, hash_files(paths), strict=True)
    ]
    (directory / f"{name}.pins").write_text("".join(lines))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("sides", nargs="+", metavar="NAME=CONTAINER:PARTS")
    parser.add_argument("--size", type=float, default=2e9, help="bytes of all tensors, about")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--vocabulary", type=int, default=12000)
    asked = parser.parse_args()
    model = Llama.of_size(asked.size, asked.width, asked.vocabulary)
    for side in asked.sides:
        write_side(asked.directory, side, model)
    _, largest = deal(model.shapes(), int(asked.sides[0].rpartition(":")[2]))
    facts = {"bytes": model.bytes, "max_shard_size": largest}
    (asked.directory / "model.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
