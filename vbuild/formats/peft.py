"""PEFT's LoRA adapters: which tensors of the base they change, and how.

- A file of weights beside ``adapter_config.json``. Names begin with ``base_model.model.``; the name
  of the adapter, ``default``, may stand in them.
- ``lora_A`` (rank, in) and ``lora_B`` (out, rank) are the factors of a linear layer's update,
  ``lora_embedding_A`` (rank, rows) and ``lora_embedding_B`` (width, rank) those of an embedding's,
  which is the product transposed; so is a linear layer's with ``fan_in_fan_out``.
- Any other tensor is a module that was saved whole: of ``modules_to_save``, an embedding that was
  resized, a trained bias. It replaces the base's.
- Every tensor is of use, or an error (bad-inputs.md, 61).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vbuild.errors import InvalidInput
from vbuild.formats.checkpoint import Checkpoint
from vbuild.formats.peft_config import AdapterConfig
from vbuild.strict_json import quoted
from vbuild.tensors import DType, LowRankSpec, Tensor, TensorSpec

__all__ = ["as_adapter"]

PREFIX = "base_model.model."

_FACTOR = re.compile(
    r"(?P<module>.+)\.(?:lora_(?P<linear>[AB])(?:\.default)?\.weight"
    r"|lora_embedding_(?P<embedding>[AB])(?:\.default)?)"
)
_WRAPPER = re.compile(r"\.(?:modules_to_save(?:\.default)?|base_layer)(?=\.)")
_STRANGE = {
    "lora_magnitude_vector": "DoRA scales the columns of the merged matrix, which is not supported",
    "lora_": "a part of an adapter that is not supported",
    "original_module": "a copy of the base's module, which has no place in an adapter",
    "token_adapter": "single trained tokens are not supported",
}
_TYPES = (DType.F16, DType.BF16, DType.F32)


@dataclass(frozen=True, slots=True)
class _Factor:
    """One of the two matrices of an update; ``name`` is the adapter's own."""

    name: str
    spec: TensorSpec
    embedding: bool


def as_adapter(checkpoint: Checkpoint, config: AdapterConfig) -> Checkpoint:
    """The adapter whose tensors ``checkpoint`` has: by the names of the base's tensors.

    Raises InvalidInput: ``adapter-tensor``, ``adapter-pair``, ``adapter-rank``,
    ``adapter-unsupported``.
    """
    saved: dict[str, Tensor] = {}
    factors: dict[str, dict[str, _Factor]] = defaultdict(dict)
    for name, spec in checkpoint.tensors.items():
        plain = name.removeprefix(PREFIX)
        found = _FACTOR.fullmatch(plain)
        if found is not None:
            factor = _Factor(name, _checked(name, spec), found["linear"] is None)
            side = found["linear"] or found["embedding"]
            _refuse_second(side in factors[found["module"]], name)
            factors[found["module"]][side] = factor
        else:
            target = _saved_name(name, plain)
            _refuse_second(target in saved, name)
            saved[target] = replace(spec, name=target)
    config.check_names(factors)
    updates = {}
    for module in sorted(factors):
        weight = f"{module}.weight"
        update = _update(module, factors[module], config)
        updates[weight] = replace(update, weight=saved.pop(weight, None))
    return replace(
        checkpoint, tensors={name: saved[name] for name in sorted(saved)}, updates=updates
    )


def _refuse_second(found: bool, name: str) -> None:
    if found:
        what = "another tensor of the adapter means the same"
        raise InvalidInput("adapter-tensor", what, where=name)


def _checked(name: str, spec: Tensor) -> TensorSpec:
    if not isinstance(spec, TensorSpec) or len(spec.shape) != 2 or spec.count == 0:
        raise InvalidInput(
            "adapter-tensor",
            "a factor of an update is not a matrix",
            where=name,
            got=f"shape {list(spec.shape)}",
        )
    if spec.dtype not in _TYPES:
        raise InvalidInput(
            "adapter-tensor",
            "a factor of an update has a type that is not supported",
            where=name,
            expected=", ".join(map(str, _TYPES)),
            got=str(spec.dtype),
        )
    return spec


def _saved_name(name: str, plain: str) -> str:
    """The base's name of a tensor that was saved whole."""
    for part, what in _STRANGE.items():
        if part in plain:
            raise InvalidInput(
                "adapter-unsupported",
                what,
                where=name,
                hint="merge it with PEFT, and build from what that writes",
            )
    if plain == name:
        raise InvalidInput(
            "adapter-tensor",
            "the tensor is no part of an adapter",
            where=name,
            expected=f"a name that begins with {quoted(PREFIX)}",
            hint='for a whole model or a dense delta, leave out kind = "lora"',
        )
    return _WRAPPER.sub("", plain)


def _update(module: str, sides: Mapping[str, _Factor], config: AdapterConfig) -> LowRankSpec:
    """The update that the two factors of a module make."""
    if len(sides) < 2 or sides["A"].embedding is not sides["B"].embedding:
        have = next(iter(sides.values()))
        raise InvalidInput(
            "adapter-pair",
            f"one of the two factors of {module} is missing",
            where=have.name,
            expected=_partner(have.name),
            hint="the file is not complete; get it again",
        )
    a, b = sides["A"], sides["B"]
    rank = a.spec.shape[0]
    if b.spec.shape[1] != rank:
        raise InvalidInput(
            "adapter-rank",
            "the two factors have different ranks",
            where=b.name,
            expected=f"shape [{b.spec.shape[0]}, {rank}]",
            got=f"shape {list(b.spec.shape)}",
        )
    scale = config.scale(module, rank)
    if a.embedding or config.transposed:
        return LowRankSpec(f"{module}.weight", _turned(a.spec), _turned(b.spec), scale)
    return LowRankSpec(f"{module}.weight", b.spec, a.spec, scale)


def _turned(spec: TensorSpec) -> TensorSpec:
    """The matrix transposed, where it lies."""
    return replace(spec, shape=spec.shape[::-1], strides=spec.strides[::-1])


def _partner(name: str) -> str:
    """The name of the other factor."""
    for side, other in (("A", "B"), ("B", "A")):
        for kind in ("lora_", "lora_embedding_"):
            head, found, tail = name.rpartition(f".{kind}{side}")
            if found:
                return f"{head}.{kind}{other}{tail}"
    return name
