"""``adapter_config.json``: what PEFT's file says about a LoRA, as far as merging needs it.

- Strict: a setting that changes what is merged and that vbuild does not know is an error, also if
  only its name is unknown and it is set. A merge is never nearly right.
- ``scale = alpha / r``, with rsLoRA ``alpha / sqrt(r)``, in doubles as Python computes it, then
  rounded to f32, which is what torch multiplies an f32 product with (numerics.md, LoRA).
- The rank of a matrix is that of its factors; ``r`` and ``rank_pattern`` have to know it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from vbuild.errors import InvalidInput
from vbuild.formats.peft_pattern import Pattern, PatternError
from vbuild.strict_json import Json, loads, quoted

__all__ = ["CONFIG_NAME", "AdapterConfig", "parse_adapter_config"]

CONFIG_NAME: Final = "adapter_config.json"

MAX_SIZE: Final = 1_000_000
"""Bytes."""

MAX_STEPS: Final = 200_000_000
"""The most steps that comparing names with keys of ``alpha_pattern`` may take: some seconds."""

MAX_EXPRESSIONS: Final = 50_000
"""Characters of all the expressions of ``alpha_pattern``; names that are written out are free."""

_NO_EFFECT = frozenset(
    (
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "merge_weights",
        "modules_to_save",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
    )
)
"""Settings that are not needed: what was trained is seen in the tensors, or they concern training
alone. (``init_lora_weights`` is looked at by itself.)"""

_USED = frozenset(
    (
        "alpha_pattern",
        "fan_in_fan_out",
        "lora_alpha",
        "peft_type",
        "r",
        "rank_pattern",
        "use_rslora",
    )
)

_REFUSED: Final[Mapping[str, str]] = {
    "use_dora": "DoRA scales the columns of the merged matrix, which is not supported",
    "use_qalora": "QALoRA is not supported",
    "use_bdlora": "BD-LoRA is not supported",
    "lora_bias": "an adapter with biases of its own is not supported",
    "layer_replication": "layers that are repeated are not supported",
    "megatron_config": "layers of Megatron are not supported",
    "target_parameters": "an adapter of bare parameters is not supported",
    "trainable_token_indices": "single trained tokens are not supported",
    "alora_invocation_tokens": "an activated LoRA cannot be merged",
}

_PLAIN_START = frozenset(("gaussian", "eva", "orthogonal"))


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What a merge needs to know. ``where`` is the file, for errors."""

    where: str
    rank: int
    alpha: float
    rank_stabilized: bool
    transposed: bool
    ranks: frozenset[int]
    alphas: tuple[tuple[Pattern, float], ...]

    def check_names(self, modules: Collection[str]) -> None:
        """Refuse an ``alpha_pattern`` that might take too long for these modules."""
        characters = sum(map(len, modules))
        steps = sum(pattern.steps(len(modules), characters) for pattern, _ in self.alphas)
        if steps > MAX_STEPS:
            raise _refusal(self.where, "alpha_pattern has too many keys for so many modules")

    def scale(self, module: str, rank: int) -> float:
        """What the product of ``module``'s factors is multiplied with, a value of f32.

        InvalidInput where nothing in the file gives the module its ``rank``.
        """
        if rank != self.rank and rank not in self.ranks:
            raise InvalidInput(
                "adapter-rank",
                f"the matrices of {module} have a rank that the configuration does not know",
                where=self.where,
                expected=" or ".join(map(str, sorted({self.rank, *self.ranks}))),
                got=rank,
            )
        try:
            alpha = next((a for p, a in self.alphas if p.matches(module)), self.alpha)
        except PatternError as e:
            raise _refusal(self.where, f"alpha_pattern cannot be applied: {e}") from e
        exact = alpha / math.sqrt(rank) if self.rank_stabilized else alpha / rank
        try:
            (scale,) = struct.unpack("<f", struct.pack("<f", exact))
        except OverflowError:
            raise _malformed(self.where, "lora_alpha", "a number within f32", alpha) from None
        return float(scale)


def parse_adapter_config(data: bytes, where: str) -> AdapterConfig:
    """The configuration in ``data``.

    Raises InvalidInput: ``adapter-config`` where it is malformed, ``adapter-unsupported`` where it
    asks for what vbuild does not merge.
    """
    config = loads(data, where, code="adapter-config", max_size=MAX_SIZE)
    if not isinstance(config, dict):
        raise InvalidInput("adapter-config", "the file is not a JSON object", where=where)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise _refusal(where, "only LoRA adapters can be merged", "LORA", quoted(str(kind)))
    _refuse_settings(config, where)
    rank = config.get("r")
    if not _is_rank(rank):
        raise _malformed(where, "r", "an integer from 1 on", rank)
    ranks = _table(config, "rank_pattern", where)
    for key, value in ranks.items():
        if not _is_rank(value):
            raise _malformed(where, f"rank_pattern: {quoted(key)}", "an integer from 1 on", value)
    return AdapterConfig(
        where,
        int(str(rank)),
        _number(config.get("lora_alpha"), "lora_alpha", where),
        _flag(config, "use_rslora", where),
        _flag(config, "fan_in_fan_out", where),
        frozenset(int(str(value)) for value in ranks.values()),
        tuple(_alphas(_table(config, "alpha_pattern", where), where)),
    )


def _refuse_settings(config: Mapping[str, Json], where: str) -> None:
    """Refuse what would change the result and is not supported, or not known at all."""
    for key, value in sorted(config.items()):
        if key in _USED | _NO_EFFECT or value in (None, False) or value in ([], {}):
            continue
        if key in _REFUSED:
            raise _refusal(where, f"{_REFUSED[key]} ({key})")
        raise _refusal(where, f"the setting {quoted(key)} is not known, and it is set")
    start = config.get("init_lora_weights")
    if not (start is None or isinstance(start, bool) or str(start) in _PLAIN_START):
        raise _refusal(
            where,
            f"the adapter was started with {quoted(str(start))}, which changes the base, too",
            hint="convert it with PEFT (path_initial_model_for_weight_conversion), then merge it",
        )


def _refusal(
    where: str, what: str, expected: str | None = None, got: str | None = None, hint: str = ""
) -> InvalidInput:
    return InvalidInput(
        "adapter-unsupported",
        what,
        where=where,
        expected=expected,
        got=got,
        hint=hint or "merge it with PEFT, and build from what that writes",
    )


def _malformed(where: str, key: str, expected: str, got: object) -> InvalidInput:
    shown = "nothing" if got is None else quoted(str(got)[:60])
    return InvalidInput(
        "adapter-config", f"{key} is not what it must be", where=where, expected=expected, got=shown
    )


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31


def _number(value: object, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _malformed(where, key, "a number", value)
    return float(value)


def _flag(config: Mapping[str, Json], key: str, where: str) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise _malformed(where, key, "true or false", value)
    return bool(value)


def _table(config: Mapping[str, Json], key: str, where: str) -> Mapping[str, Json]:
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _malformed(where, key, "an object", value)
    return value


def _alphas(table: Mapping[str, Json], where: str) -> Iterable[tuple[Pattern, float]]:
    """The pairs of ``alpha_pattern``, in its order: the first that matches wins."""
    length = 0
    for key, value in table.items():
        try:
            pattern = Pattern(key)
            length += 0 if pattern.is_plain else len(key)
            if length > MAX_EXPRESSIONS:
                raise PatternError("there are too many")
        except PatternError as e:
            raise _refusal(
                where,
                f"alpha_pattern has an expression that is not supported: {quoted(key[:60])} ({e})",
                hint="write the modules' names out",
            ) from e
        yield pattern, _number(value, f"alpha_pattern: {quoted(key[:60])}", where)
