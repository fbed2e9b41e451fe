"""What a manifest's outputs are made with: one container of the plan for each.

- A GGUF file holds the configuration and the vocabulary that a safetensors output would have beside
  it, so it is made from those files, as they come out of the build.
"""

from __future__ import annotations

from vbuild.build.side_files import SideFiles, side_label
from vbuild.errors import InvalidInput
from vbuild.formats.gguf_llama import parse_config
from vbuild.manifest import LoadedManifest, Output
from vbuild.plan.containers import Container
from vbuild.plan.containers.gguf import Gguf
from vbuild.plan.containers.safetensors import Safetensors
from vbuild.tensors import DType
from vbuild.tokenizer import TOKENIZER_FILES, ggml_vocabulary, parse_object

__all__ = ["make_containers"]


def make_containers(loaded: LoadedManifest, side_files: SideFiles) -> tuple[Container, ...]:
    """The outputs, in the manifest's order.

    Raises InvalidInput for a model or a tokenizer that one of them cannot hold.
    """
    return tuple(_container(loaded, side_files, output) for output in loaded.manifest.outputs)


def _container(loaded: LoadedManifest, side_files: SideFiles, output: Output) -> Container:
    dtype = DType.from_long_name(output.dtype or "")
    allow_nonfinite = output.nonfinite == "allow"
    if output.format == "safetensors":
        return Safetensors(dtype, output.max_shard_bytes, allow_nonfinite)
    manifest = loaded.manifest
    assert manifest.tokenizer is not None and output.type is not None, "the manifest is checked"
    where = side_label(loaded, manifest.config_source)("config.json")
    if "config.json" not in side_files.model:
        raise InvalidInput(
            "gguf-config",
            "a GGUF file is made with the model's configuration, which is not among the files",
            where=where,
            hint=f'list "config.json" under [{manifest.config_source}.files]',
        )
    config = parse_object(side_files.model["config.json"], where)
    model = parse_config(config, where)
    tokenizer = {n: d for n, d in side_files.model.items() if n in TOKENIZER_FILES}
    label = side_label(loaded, manifest.tokenizer.source)
    vocabulary = ggml_vocabulary(tokenizer, config, model.rows, label)
    stored = next(t for t in DType if t.code == output.type)
    return Gguf(manifest.name, stored, model, tuple(vocabulary), dtype, allow_nonfinite)
