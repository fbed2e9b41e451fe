"""Containers of tensors: files in, named tensors and where their bytes lie out.

- ``checkpoint`` joins the files of a base or a delta; ``registry`` tells containers apart;
  ``safetensors`` and ``torch`` each read one; ``index`` knows the index of shards, ``meta`` how
  Meta's files make up a model.
- Reading touches headers only and opens files read-only; the writers return bytes.
"""

from __future__ import annotations

from vbuild.formats.checkpoint import Checkpoint, open_checkpoint

__all__ = ["Checkpoint", "open_checkpoint"]
