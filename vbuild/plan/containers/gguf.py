"""GGUF as an output: one file, for llama.cpp and gpt4all, of a model of LLaMA's architecture.

- The values are those that a safetensors output of the same rules would have, stored as the
  output's type; tensors of one dimension as F32, and those whose rows are no whole blocks as F16,
  as llama.cpp's own converter does.
- The rows of q and k are turned back by reading every operand in another order, so nothing is
  written twice; the turn of a base in Meta's own layout and this one cancel.
- Name, order of tensors and metadata come from the manifest and the model's configuration, nothing
  from a directory or a cut into shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from vbuild.errors import InvalidInput
from vbuild.formats import Checkpoint
from vbuild.formats.gguf import ALIGNMENT
from vbuild.formats.gguf_header import Entry, header
from vbuild.formats.gguf_llama import ARCHITECTURE, Llama, Place
from vbuild.plan.containers import Contents, WeightFile
from vbuild.plan.recipe import Band, Product, Recipe, View, as_type
from vbuild.plan.strides import split_axes
from vbuild.tensors import BLOCK_ELEMENTS, DType, Tensor, TensorSpec

__all__ = ["FILE_TYPES", "Gguf"]

FILE_TYPES: Final = {
    DType.F32: 0,
    DType.F16: 1,
    DType.Q4_0: 2,
    DType.Q4_1: 3,
    DType.Q8_0: 7,
    DType.Q5_0: 8,
    DType.Q5_1: 9,
    DType.BF16: 32,
}
"""llama.cpp's number for a file that is mostly of each type: the types that are written."""

QUANTIZATION_VERSION: Final = 2
"""Of the layout of blocks; ggml's GGML_QNT_VERSION."""

LISTED: Final = 6
"""How many tensors a message names before it only counts."""


@dataclass(frozen=True, slots=True)
class Gguf:
    """A file ``<name>-<type>.gguf``. ``dtype`` is the result's type before it is stored as
    ``type`` (None: as the rules leave it); ``vocabulary`` the metadata of the tokenizer."""

    name: str
    type: DType
    model: Llama
    vocabulary: tuple[Entry, ...]
    dtype: DType | None = None
    allow_nonfinite: bool = False

    @property
    def file_name(self) -> str:
        """The name of the file."""
        return f"{self.name}-{self.type}.gguf"

    def contents(self, recipes: Mapping[str, Recipe], base: Checkpoint) -> Contents:
        """The one file. InvalidInput: ``gguf-tensor`` for a tensor that the configuration and
        llama.cpp do not expect, or of another shape, or that is missing."""
        missing = sorted(self.model.names() - recipes.keys())
        if missing:
            raise InvalidInput(
                "gguf-tensor",
                f"{len(missing)} tensor(s) that llama.cpp needs are not there: {_listed(missing)}",
                where=self.model.where,
                hint="compare the numbers of the configuration with the model",
            )
        placed = []
        for recipe in as_type(recipes, self.dtype).values():
            place = self.model.place(recipe.name)
            if place is not None:
                placed.append((place.order, self._stored(recipe, place)))
        made = tuple(recipe for _, recipe in sorted(placed, key=lambda pair: pair[0]))
        data = header(ARCHITECTURE, self._entries(), [(r.name, r.dtype, r.shape) for r in made])
        return Contents((WeightFile(self.file_name, data, made, ALIGNMENT),), {}, self._notes(made))

    def _entries(self) -> list[Entry]:
        return [
            Entry("general.type", "STRING", "model"),
            Entry("general.name", "STRING", self.name),
            *self.model.entries(),
            Entry("general.file_type", "UINT32", FILE_TYPES[self.type]),
            Entry("general.quantization_version", "UINT32", QUANTIZATION_VERSION),
            *self.vocabulary,
        ]

    def _stored(self, recipe: Recipe, place: Place) -> Recipe:
        """``recipe`` as the file has it."""
        if recipe.shape != place.shape or not recipe.dtype.is_arithmetic:
            raise InvalidInput(
                "gguf-tensor",
                "the tensor is not what the configuration says",
                where=recipe.name,
                expected=f"{list(place.shape)} numbers",
                got=f"{list(recipe.shape)} of {recipe.dtype}",
                hint=f"compare it with {self.model.where}",
            )
        stored = self.type if len(recipe.shape) > 1 else DType.F32
        if stored.is_block and recipe.shape[-1] % BLOCK_ELEMENTS:
            stored = DType.F16
        bands = recipe.bands
        if place.turned:
            bands = _turned(recipe, place.turned)
        return replace(recipe, name=place.name, dtype=stored, rounded=recipe.dtype, bands=bands)

    def _notes(self, made: Sequence[Recipe]) -> tuple[str, ...]:
        other = [r.name for r in made if r.dtype not in (self.type, DType.F32)]
        if not other:
            return ()
        return (
            f"{len(other)} tensor(s) are stored as F16, because their rows are no whole blocks "
            f"of {BLOCK_ELEMENTS}: {_listed(other)}",
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _turned(recipe: Recipe, heads: int) -> tuple[Band, ...]:
    """The one band of ``recipe``, with the rows of each of ``heads`` heads turned back."""
    if len(recipe.bands) > 1:
        raise _cannot_turn(recipe.name)
    (band,) = recipe.bands
    width = recipe.rows // heads
    start = band.start
    if isinstance(start, View):  # all rows of anything else are the same
        start = replace(start, spec=_turned_tensor(start.spec, width))
    steps = tuple(replace(s, operand=_turned_operand(s.operand, width)) for s in band.steps)
    return (replace(band, start=start, steps=steps),)


def _turned_operand(operand: View | Product, width: int) -> View | Product:
    if isinstance(operand, Product):
        return replace(operand, left=_turned_rows(operand.left, width))
    return replace(operand, spec=_turned_tensor(operand.spec, width))


def _turned_tensor(tensor: Tensor, width: int) -> Tensor:
    if isinstance(tensor, TensorSpec):
        return _turned_rows(tensor, width)
    parts = tuple(_turned_rows(part, width) for part in tensor.parts)
    return replace(tensor, parts=parts)


def _turned_rows(spec: TensorSpec, width: int) -> TensorSpec:
    """``spec`` with row ``2 * i + j`` of each head of ``width`` rows taken from its row
    ``j * width / 2 + i`` (interop.md, GGUF)."""
    wanted = (spec.shape[0] // width, 2, width // 2, *spec.shape[1:])
    groups = None if spec.shape[0] % width else split_axes(spec.layout, wanted)
    if groups is None:
        raise _cannot_turn(spec.name)
    heads, halves, inside, *columns = groups
    axes = [axis for group in (heads, inside, halves, *columns) for axis in group]
    return replace(spec, dims=tuple(n for n, _ in axes), strides=tuple(step for _, step in axes))


def _cannot_turn(name: str) -> InvalidInput:
    return InvalidInput(
        "gguf-tensor",
        "the rows of the tensor cannot be brought into the order that llama.cpp needs",
        where=name,
        expected="whole heads of rows, in one piece or in parts of whole heads",
    )
