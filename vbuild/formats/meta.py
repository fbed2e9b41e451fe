"""Meta's original LLaMA files: ``params.json`` beside ``consolidated.NN.pth``.

- A model is cut into 1, 2, 4 or 8 files (model parallelism); each holds a part of every matrix and
  a copy of every norm (``meta_tensors``). Parts become one tensor under Hugging Face's name.
- The copies of a norm are compared with the first file's, byte for byte.
- Shapes are judged by ``params.json``, names by what a LLaMA model has: a file that is missing, or
  that belongs to another model, is an error here and not a surprise later.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vbuild.errors import InvalidInput
from vbuild.files import SMALL_FILE_LIMIT, InputFile
from vbuild.formats.meta_params import Params, parse_params
from vbuild.formats.meta_tensors import (
    EMBEDDINGS,
    LAYER,
    LAYER_KINDS,
    QUERY,
    TOP_KINDS,
    WIDE,
    Kind,
    Sizes,
    is_left_out,
    kind_of,
    permuted,
)
from vbuild.formats.opener import Opener
from vbuild.formats.registry import format_of
from vbuild.strict_json import quoted
from vbuild.tensors import JoinedSpec, Tensor, TensorSpec

__all__ = ["MetaFiles", "MetaModel", "find_meta", "open_meta"]

_PART = re.compile(r"(?:(.*)/)?consolidated\.([0-9]{2})\.pth")
_PARAMS = "params.json"
_ANOTHER = f"the {_PARAMS}, or one of the files, is another model's"
_NAMES_SHOWN = 4


@dataclass(frozen=True, slots=True)
class MetaFiles:
    """The files of one model: the key of its ``params.json``, and of its parts in order."""

    params: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetaModel:
    """``tensors`` by their Hugging Face names, and what ``params.json`` says of the model."""

    tensors: dict[str, Tensor]
    params: Params


# ---- which files ----


def find_meta(names: Iterable[str], label: str, *, asked: bool = False) -> MetaFiles | None:
    """The files of Meta's among ``names``, None where there are none.

    ``label`` names the whole in errors. With ``asked`` there have to be some. Raises InvalidInput:
    ``no-weights``, ``meta-files`` (a gap in the numbers, parts of several models),
    ``meta-params-missing``.
    """
    names = set(names)
    found = {name: m for name in sorted(names) if (m := _PART.fullmatch(name)) is not None}
    if not found:
        if asked:
            raise InvalidInput(
                "no-weights",
                "none of Meta's files among the files",
                where=label,
                expected=f"consolidated.00.pth and {_PARAMS}",
            )
        return None
    folders = sorted({m[1] or "" for m in found.values()})
    if len(folders) > 1:
        raise InvalidInput(
            "meta-files",
            f"parts of several models: {', '.join(list(found)[:_NAMES_SHOWN])}",
            where=label,
            hint="list the files of one model only",
        )
    for i, (name, match) in enumerate(found.items()):
        if int(match[2]) != i:
            missing = posixpath.join(folders[0], f"consolidated.{i:02}.pth")
            raise InvalidInput(
                "meta-files",
                f"{name} is among the files, and {missing} is not",
                where=label,
                hint="a model consists of all its numbered files: list every one",
            )
    params = posixpath.join(folders[0], _PARAMS)
    if params not in names:
        raise InvalidInput(
            "meta-params-missing",
            f"{next(iter(found))} is among the files, and {params} is not",
            where=label,
            hint=f"list {_PARAMS} too: it says how the files belong together; or take their "
            'tensors as they are named with format = "torch"',
        )
    return MetaFiles(params, tuple(found))


# ---- what is in them ----


def open_meta(files: MetaFiles, opener: Opener) -> MetaModel:
    """The model in ``files``, from headers and norms alone; one file is open at a time.

    Raises InvalidInput: ``meta-params``, ``meta-files`` (their number is wrong),
    ``meta-tensor-unknown``, ``meta-tensor-missing``, ``meta-shape``, ``meta-dtype``,
    ``meta-norms-differ``, or what the container's reader raises.
    """
    params = parse_params(opener.read(files.params, _PARAMS), files.params)
    parts: list[dict[str, TensorSpec]] = []
    norms: dict[str, bytes] = {}
    kinds: dict[str, Kind] = {}
    sizes: Sizes | None = None
    for name in files.parts:
        with opener.open(name) as file:
            found = format_of(file).read_tensors(file)
            specs = {spec.name: spec for spec in found if not is_left_out(spec.name)}
            kinds = _kinds(specs, params, name)
            sizes = sizes or _sizes(specs, params, files)
            _check_shapes(specs, kinds, sizes)
            _check_frequencies(found, params)
            if len(files.parts) > 1:
                copies = [specs[n] for n, kind in kinds.items() if kind.axis is None]
                _compare_norms(file, copies, norms, files.parts[0])
        parts.append(specs)
    assert sizes is not None, "there are parts"
    tensors = [_joined(kinds[n], [part[n] for part in parts], sizes) for n in sorted(kinds)]
    return MetaModel({t.name: t for t in tensors}, params)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(quoted(name) for name in names[:_NAMES_SHOWN]) + more


def _kinds(specs: Mapping[str, TensorSpec], params: Params, file: str) -> dict[str, Kind]:
    """The kind of every tensor; all of a model with so many layers are there, and no others."""
    kinds = {name: kind for name in specs if (kind := kind_of(name)) is not None}
    unknown = sorted(specs.keys() - kinds.keys())
    if unknown:
        raise InvalidInput(
            "meta-tensor-unknown",
            f"no tensors of Meta's LLaMA models: {_listed(unknown)}",
            where=file,
            hint=f'if these are not Meta\'s files, leave {_PARAMS} out, or set format = "torch"',
        )
    layers = {int(m[1]) for m in map(LAYER.fullmatch, kinds) if m is not None}
    if len(layers) != params.n_layers or max(layers) != params.n_layers - 1:
        raise InvalidInput(
            "meta-tensor-missing",
            f"the file does not have the layers that {_PARAMS} says",
            where=file,
            expected=f"{params.n_layers} layers",
            got=f"{len(layers)} layers",
            hint=_ANOTHER,
        )
    wanted = {*TOP_KINDS, *(f"layers.{i}.{rest}" for i in layers for rest in LAYER_KINDS)}
    missing = sorted(wanted - kinds.keys())
    if missing:
        what = f"the file lacks {_listed(missing)}"
        raise InvalidInput("meta-tensor-missing", what, where=file, hint=_ANOTHER)
    return kinds


def _sizes(specs: Mapping[str, TensorSpec], params: Params, files: MetaFiles) -> Sizes:
    """The sizes of the whole model, from ``params.json`` and the shapes in the first file."""
    count = len(files.parts)
    for name in (QUERY, WIDE, EMBEDDINGS):
        if len(specs[name].shape) != 2 or 0 in specs[name].shape:
            raise _shape_error(specs[name], "a matrix")
    rows, columns = specs[QUERY].shape
    if columns == params.dim and params.dim % rows == 0 and params.dim // rows != count:
        raise _count_error(files, params.dim // rows)
    if params.n_heads % count or params.n_kv_heads % count:
        raise InvalidInput(
            "meta-files",
            f"{params.n_heads} heads, {params.n_kv_heads} of them with keys, cannot be dealt to "
            f"{count} files",
            where=files.params,
            hint=_ANOTHER,
        )
    embeddings = specs[EMBEDDINGS]
    by_rows = count > 1 and embeddings.shape[1] == params.dim
    vocabulary = embeddings.shape[0] * (count if by_rows else 1)
    if params.vocab_size not in (None, vocabulary):
        raise _shape_error(embeddings, f"{params.vocab_size} rows in all")
    extents = {
        "dim": params.dim,
        "heads": params.n_heads,
        "kv_heads": params.n_kv_heads,
        "kv": params.n_kv_heads * params.head_dim,
        "wide": specs[WIDE].shape[0] * count,
        "vocabulary": vocabulary,
    }
    return Sizes(count, extents, by_rows)


def _count_error(files: MetaFiles, count: int) -> InvalidInput:
    last = f" to consolidated.{count - 1:02}.pth" if count > 1 else " alone"
    return InvalidInput(
        "meta-files",
        f"the model is cut into {count} file(s), and {len(files.parts)} are listed",
        where=files.parts[0],
        expected=f"consolidated.00.pth{last}",
        got=", ".join(posixpath.basename(part) for part in files.parts),
        hint=f"list every file of the model, and its own {_PARAMS}",
    )


def _check_shapes(specs: Mapping[str, TensorSpec], kinds: Mapping[str, Kind], sizes: Sizes) -> None:
    for name, kind in sorted(kinds.items()):
        part = sizes.part(kind)
        if part is None:
            whole = _shown(sizes.shape(kind))
            raise _shape_error(specs[name], f"{whole} in all, dealt to {sizes.files} files")
        if specs[name].shape != part:
            raise _shape_error(specs[name], _shown(part))


def _check_frequencies(specs: Iterable[TensorSpec], params: Params) -> None:
    """Where there are frequencies, a head has two rows for each: nothing else tells of the heads.

    A wrong ``n_heads`` would fit all other shapes, and give rows in another order.
    """
    wanted = (params.head_dim // 2,)
    for spec in specs:
        if is_left_out(spec.name) and spec.shape != wanted:
            raise _shape_error(spec, _shown(wanted))


def _shown(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _shape_error(spec: TensorSpec, expected: str) -> InvalidInput:
    return InvalidInput(
        "meta-shape",
        f"tensor {quoted(spec.name)} does not have the shape that {_PARAMS} means",
        where=spec.file,
        expected=expected,
        got=_shown(spec.shape),
        hint=_ANOTHER,
    )


def _compare_norms(
    file: InputFile, copies: Sequence[TensorSpec], norms: dict[str, bytes], first: str
) -> None:
    """Compare the ``copies`` in ``file`` with ``norms``, which the ``first`` file fills.

    What is read is remembered, so the bytes compared are the bytes hashed.
    """
    size = sum(spec.nbytes for spec in copies)
    if size > SMALL_FILE_LIMIT or not all(spec.is_contiguous for spec in copies):
        raise InvalidInput(
            "meta-shape",
            "the norms are not stored as plain vectors",
            where=file.name,
            hint="load the file with torch and save contiguous tensors",
        )
    for spec in copies:
        data = file.pread(spec.offset, spec.nbytes)
        if norms.setdefault(spec.name, data) != data:
            raise InvalidInput(
                "meta-norms-differ",
                f"its copy of {quoted(spec.name)} is not the one in {first}",
                where=file.name,
                hint="the files are not those of one model: get them again from one place",
            )


# ---- joining ----


def _joined(kind: Kind, parts: Sequence[TensorSpec], sizes: Sizes) -> Tensor:
    """The whole tensor that ``parts``, one of each file, make up."""
    other = next((p for p in parts if p.dtype is not parts[0].dtype), None)
    if other is not None:
        raise InvalidInput(
            "meta-dtype",
            f"tensor {quoted(other.name)} has another type than in {parts[0].file}",
            where=other.file,
            expected=parts[0].dtype,
            got=other.dtype,
            hint="the files are not those of one model: get them again from one place",
        )
    heads, axis = sizes.heads(kind), sizes.axis(kind)
    own = tuple(replace(permuted(p, heads) if heads else p, name=kind.name) for p in parts)
    if axis is None or len(own) == 1:
        return own[0]
    return JoinedSpec(kind.name, own[0].dtype, sizes.shape(kind), axis, own)
