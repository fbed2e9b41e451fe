"""Tokenizers: SentencePiece models and the Hugging Face files beside them.

- Bytes in, bytes out; the build opens and writes the files.
- ``patch`` is the front; ``load_check`` is the only importer of sentencepiece, when it is used.
- ``sentencepiece_model`` owns the model's form (``wire`` that of its fields), ``token_list`` the
  request, ``vocabulary`` the ids, ``huggingface_files`` and ``json_text`` the JSON files, ``ggml``
  the form in a GGUF file.
"""

from vbuild.tokenizer.ggml import ggml_vocabulary
from vbuild.tokenizer.load_check import verify_model
from vbuild.tokenizer.patch import (
    CONFIG_FILES,
    TOKENIZER_FILES,
    PatchedTokenizer,
    check_rows,
    patch_config,
    patch_tokenizer,
)
from vbuild.tokenizer.token_list import AddedPiece, parse_token_list
from vbuild.tokenizer.vocabulary import parse_object

__all__ = [
    "CONFIG_FILES",
    "TOKENIZER_FILES",
    "AddedPiece",
    "PatchedTokenizer",
    "check_rows",
    "ggml_vocabulary",
    "parse_object",
    "parse_token_list",
    "patch_config",
    "patch_tokenizer",
    "verify_model",
]
