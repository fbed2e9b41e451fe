"""Meta's ``params.json``: the numbers that say what a LLaMA model's tensors are.

- What the shapes of tensors depend on is read strictly; other keys are kept by name, because a
  configuration can only be made where all of them are known.
- ``vocab_size`` is often -1, which says nothing; without ``n_kv_heads`` every head has its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NoReturn

from vbuild import strict_json
from vbuild.errors import InvalidInput
from vbuild.formats.registry import HEAD, check_foreign
from vbuild.strict_json import Json

__all__ = ["Params", "parse_params"]

_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Params:
    """A model's numbers. ``vocab_size`` and ``rope_theta`` are None where they are not said.

    ``others`` are the keys that no tensor's shape depends on and that are not fields, sorted.
    """

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    norm_eps: float | None = None
    vocab_size: int | None = None
    rope_theta: float | None = None
    others: tuple[str, ...] = ()

    @property
    def head_dim(self) -> int:
        """Rows of ``wq`` that belong to one head."""
        return self.dim // self.n_heads


_KNOWN = frozenset(
    {"dim", "n_layers", "n_heads", "n_kv_heads", "norm_eps", "vocab_size", "rope_theta"}
)


def parse_params(data: bytes, name: str) -> Params:
    """The ``params.json`` with the bytes ``data`` and the key ``name``.

    Raises InvalidInput: ``meta-params``, or what
    :func:`~vbuild.formats.registry.check_foreign` raises.
    """
    check_foreign(data[:HEAD], name)
    document = strict_json.loads(data, name, code="meta-params", max_elements=1000)
    if not isinstance(document, dict):
        _refuse(name, "params.json is not a JSON object")
    if document.get("vocab_size") == -1:
        del document["vocab_size"]
    n_heads = _count(document, "n_heads", name)
    kv_heads = "n_kv_heads" if document.get("n_kv_heads") is not None else "n_heads"
    params = Params(
        dim=_count(document, "dim", name),
        n_layers=_count(document, "n_layers", name),
        n_heads=n_heads,
        n_kv_heads=_count(document, kv_heads, name),
        norm_eps=_positive(document, "norm_eps", name),
        vocab_size=_count(document, "vocab_size", name) if "vocab_size" in document else None,
        rope_theta=_positive(document, "rope_theta", name),
        others=tuple(sorted(document.keys() - _KNOWN)),
    )
    if params.dim % (2 * n_heads) or n_heads % params.n_kv_heads:
        _refuse(
            name,
            f"dim {params.dim}, n_heads {n_heads} and n_kv_heads {params.n_kv_heads} do not fit "
            "together",
        )
    return params


def _refuse(name: str, what: str) -> NoReturn:
    raise InvalidInput(
        "meta-params", what, where=name, hint="get the params.json of this very model"
    )


def _count(document: dict[str, Json], key: str, name: str) -> int:
    value = document.get(key)
    if type(value) is not int or not 0 < value <= _LARGEST:
        _refuse(name, f"{key} is missing or not a whole number above 0")
    return value


def _positive(document: dict[str, Json], key: str, name: str) -> float | None:
    value = document.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        _refuse(name, f"{key} is not a number above 0")
    assert math.isfinite(value), "strict JSON has no infinity"
    return float(value)
