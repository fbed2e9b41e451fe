"""The output files that are not weights: configuration, tokenizer, copies.

- ``config.json`` and ``generation_config.json`` come from ``config.source``, the tokenizer's files
  and ``output.copy`` from ``tokenizer.source``, byte for byte but for the keys that a rule changes
  (architecture: other files).
- Meta's files come without Hugging Face's: where no ``config.json`` is listed the two are made of
  ``params.json``, and a ``tokenizer.model`` gets the ``tokenizer_config.json`` that it needs.
- Configuration and tokenizer are written beside safetensors. A GGUF file has what it needs of them
  inside, so they are made for it too, and not written.
- Every small input is hashed here, used or not.
- Pieces, ids and embedding rows agree, or the build stops before it starts; the patched model is
  loaded with SentencePiece.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from vbuild.build.materials import Material, group_label, read_material
from vbuild.digest import digest_mismatch, sha256_hex
from vbuild.errors import InvalidInput
from vbuild.files import SMALL_FILE_LIMIT, read_small
from vbuild.formats import Checkpoint
from vbuild.formats.meta_config import configuration
from vbuild.manifest import LoadedManifest, outputs
from vbuild.manifest.schema import Side
from vbuild.plan import FileRef
from vbuild.plan.recipe import Recipe
from vbuild.tokenizer import (
    CONFIG_FILES,
    TOKENIZER_FILES,
    AddedPiece,
    PatchedTokenizer,
    check_rows,
    parse_token_list,
    patch_config,
    patch_tokenizer,
    verify_model,
)

__all__ = ["SideFiles", "make_side_files", "side_label"]

EMBEDDINGS = ("embed_tokens.weight", "lm_head.weight")
"""Endings of the names of tensors that have one row per piece."""


@dataclass(frozen=True, slots=True)
class SideFiles:
    """``model`` has configuration and tokenizer by name, ``files`` what is written of them, and
    copies; ``pieces`` of the tokenizer (None where there is none)."""

    model: Mapping[str, bytes]
    files: Mapping[str, bytes]
    pieces: int | None
    pad_id: int | None


def make_side_files(
    loaded: LoadedManifest,
    materials: Mapping[FileRef, Material],
    checkpoints: Sequence[Checkpoint],
    planned: Collection[FileRef],
    recipes: Mapping[str, Recipe],
) -> SideFiles:
    """All side files of a build, whose inputs are ``checkpoints``: the base, then the deltas.

    The plan hashes the files ``planned`` and makes ``recipes``.

    InvalidInput where the tokenizer and the weights disagree.
    """
    manifest = loaded.manifest
    small = _read_small(materials, planned, manifest.copy)
    rows = {
        name: recipe.shape[0]
        for name, recipe in recipes.items()
        if name.endswith(EMBEDDINGS) and recipe.shape
    }
    tokenizer = _tokenizer(loaded, materials, small, checkpoints, rows)
    model = {} if tokenizer is None else dict(tokenizer.files)
    pad_id = tokenizer.pad_id if tokenizer is not None else None
    group = _group(loaded, manifest.config_source)
    written = [output for output in manifest.outputs if output.format == "safetensors"]
    model |= patch_config(
        _configuration(group, checkpoints[group], materials, small),
        vocab_size=max(rows.values(), default=None),
        pad_id=pad_id,
        dtype=written[0].dtype if written else None,
        where=side_label(loaded, manifest.config_source),
    )
    files = dict(model) if written else {}
    _copy(loaded, small, files)
    return SideFiles(
        model,
        dict(sorted(files.items())),
        tokenizer.pieces if tokenizer is not None else None,
        pad_id,
    )


def _configuration(
    group: int,
    checkpoint: Checkpoint,
    materials: Mapping[FileRef, Material],
    small: Mapping[FileRef, bytes],
) -> dict[str, bytes]:
    """The configuration files of an input: those that it has, or made of Meta's parameters."""
    taken = _taken(CONFIG_FILES, group, materials, small)
    if checkpoint.params is None or "config.json" in taken:
        return taken
    made = configuration(checkpoint.params, checkpoint.tensors, group_label(group))
    return made | taken


def side_label(loaded: LoadedManifest, side: Side) -> Callable[[str], str]:
    """How errors name a file of an input: ``base/config.json``."""
    label = group_label(_group(loaded, side))
    return lambda name: f"{label}/{name}"


def _read_small(
    materials: Mapping[FileRef, Material], planned: Collection[FileRef], copied: Sequence[str]
) -> dict[FileRef, bytes]:
    """Read and check every input that the plan does not hash; keep what an output may need."""
    kept = {*CONFIG_FILES, *TOKENIZER_FILES, *copied}
    small = {}
    for ref, material in sorted(materials.items()):
        if ref in planned:
            continue
        data = read_material(material)
        if ref.file in kept:
            small[ref] = data
    return small


def _taken(
    names: Sequence[str],
    group: int,
    materials: Mapping[FileRef, Material],
    small: Mapping[FileRef, bytes],
) -> dict[str, bytes]:
    """Those of ``names`` that an input has; InvalidInput for one that is not a small file."""
    taken = {}
    for name in names:
        ref = FileRef(group, name)
        if ref in materials and ref not in small:
            raise InvalidInput(
                "file-too-large",
                "the file is too large to be what it should be",
                where=materials[ref].label,
                expected=f"at most {SMALL_FILE_LIMIT} bytes",
                got=f"{materials[ref].size} bytes",
            )
        if ref in small:
            taken[name] = small[ref]
    return taken


def _group(loaded: LoadedManifest, side: Side) -> int:
    """The input that a ``source`` key means: the base, or the last delta of the chain."""
    return 0 if side == "base" else len(loaded.manifest.delta)


def _copy(loaded: LoadedManifest, small: Mapping[FileRef, bytes], files: dict[str, bytes]) -> None:
    manifest = loaded.manifest
    group = _group(loaded, manifest.files_source)
    listed = [
        ((*path, "copy", i), name)
        for path, output in outputs(manifest)
        for i, name in enumerate(output.copy)
    ]
    for path, name in listed:
        data = small.get(FileRef(group, name))
        where = loaded.place(path)
        if data is None:
            raise InvalidInput(
                "cannot-copy",
                f"{group_label(group)}/{name} is not a small file that can be copied",
                where=where,
            )
        if name in files:
            raise InvalidInput("output-collision", f"the build writes {name!r} itself", where=where)
        files[name] = data


def _adds(loaded: LoadedManifest) -> tuple[AddedPiece, ...]:
    tokenizer = loaded.manifest.tokenizer
    if tokenizer is None:
        return ()
    if tokenizer.tokens is not None:
        data = read_small(loaded.path.parent / tokenizer.tokens, tokenizer.tokens)
        if sha256_hex(data) != tokenizer.tokens_sha256:
            raise digest_mismatch(tokenizer.tokens, str(tokenizer.tokens_sha256), sha256_hex(data))
        return parse_token_list(data, tokenizer.tokens)
    return tuple(AddedPiece(add.piece, add.type, add.role) for add in tokenizer.add)


def _tokenizer(
    loaded: LoadedManifest,
    materials: Mapping[FileRef, Material],
    small: Mapping[FileRef, bytes],
    checkpoints: Sequence[Checkpoint],
    rows: Mapping[str, int],
) -> PatchedTokenizer | None:
    """The patched tokenizer, or None where the manifest asks for none."""
    asked = loaded.manifest.tokenizer
    if asked is None:
        return None
    group = _group(loaded, asked.source)
    have = _taken(TOKENIZER_FILES, group, materials, small)
    adds = _adds(loaded)
    patched = patch_tokenizer(
        have,
        adds,
        where=side_label(loaded, asked.source),
        update_trainer_vocab_size=asked.update_trainer_vocab_size,
        bare=checkpoints[group].params is not None,
    )
    if patched.pieces:
        check_rows(patched.pieces, rows, asked.rows)
    model = patched.files.get("tokenizer.model")
    if model is not None:
        verify_model(model, adds)
    return patched
