"""The containers that weights come in, and telling them apart by content.

- A container is one entry of :data:`FORMATS`: a name, the suffixes its files bear, and a module
  with ``sniff(head)`` and ``read_tensors(file)``. To add one, add its module and its entry.
- What :data:`READABLE` adds can be looked at, but nothing is built from it.
- Content decides, the suffix only where the content is of no known kind: then the reader that
  the suffix promises says what is wrong with the file.
- Meta's original files are a format, too, but no container: they are files of one, joined by
  ``meta``.
- Things that are often saved under the name of weights are called what they are: a Git-LFS
  pointer, an HTML or JSON error page, a GGUF model (bad-inputs.md, 32, 33).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol, cast

from vbuild.errors import InvalidInput
from vbuild.files import InputFile
from vbuild.tensors import TensorSpec

__all__ = [
    "FORMATS",
    "GGUF",
    "HEAD",
    "META_LLAMA",
    "READABLE",
    "Format",
    "check_foreign",
    "check_lfs_pointer",
    "format_named",
    "format_of",
    "holds_weights",
    "is_training_state",
]

HEAD: Final = 512
"""Bytes; how much of a file :func:`format_of` looks at."""

_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[!?A-Za-z]")
_TEXT = bytes(range(0x20, 0x7F)) + b"\t\r\n"


class _Module(Protocol):
    def sniff(self, head: bytes) -> bool: ...

    def read_tensors(self, file: InputFile) -> list[TensorSpec]: ...


@dataclass(frozen=True, slots=True)
class Format:
    """A container of tensors, and the module that knows it (imported when first asked)."""

    name: str
    suffixes: tuple[str, ...]
    module: str

    def sniff(self, head: bytes) -> bool:
        """Whether a file that starts with ``head`` (HEAD bytes, or all of it) is of this kind."""
        return self._load().sniff(head)

    def read_tensors(self, file: InputFile) -> list[TensorSpec]:
        """The tensors of ``file``, from its headers alone; InvalidInput where it is malformed."""
        return self._load().read_tensors(file)

    def _load(self) -> _Module:
        return cast(_Module, importlib.import_module(self.module))


FORMATS: Final = (
    Format("safetensors", (".safetensors",), "vbuild.formats.safetensors"),
    Format("torch", (".bin", ".pt", ".pth"), "vbuild.formats.torch"),
)
"""Every container that a build reads, in order of name."""

GGUF: Final = Format("gguf", (".gguf",), "vbuild.formats.gguf")

READABLE: Final = (*FORMATS, GGUF)
"""Every container whose tensors can be looked at."""


META_LLAMA: Final = "meta-llama"
"""The format of Meta's original files."""

_TRAINING_STATE = re.compile(
    r"training_args\.bin|(optimizer|scheduler|scaler|rng_state.*)\.(bin|pth?)"
)


def is_training_state(name: str) -> bool:
    """Whether a file of that name is what a trainer leaves beside the weights."""
    return _TRAINING_STATE.fullmatch(name) is not None


def format_named(name: str, where: str) -> Format:
    """The container called ``name``; InvalidInput (``unknown-format``) where there is none."""
    for fmt in FORMATS:
        if fmt.name == name:
            return fmt
    known = ", ".join(["auto", *sorted([META_LLAMA, *(fmt.name for fmt in FORMATS)])])
    raise InvalidInput("unknown-format", "unknown format", where=where, expected=known, got=name)


def holds_weights(name: str) -> bool:
    """Whether a file of this name holds tensors, or is the index of some."""
    return name.endswith((".index.json", *(s for fmt in FORMATS for s in fmt.suffixes)))


def format_of(file: InputFile, known: Sequence[Format] = FORMATS) -> Format:
    """The one of the containers ``known`` that ``file`` is, by content, else by suffix.

    Raises InvalidInput: what :func:`check_foreign` knows, ``json-page``, ``text-page``,
    ``not-weights``.
    """
    head = file.pread(0, min(HEAD, file.size))
    for fmt in known:
        if fmt.sniff(head):
            return fmt
    check_foreign(head, file.name)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] in (b"{", b"[") and text[1:].lstrip()[:1] in (b'"', b"{", b"}", b"]"):
        _refuse_page(file, "json", "a JSON document")
    if head and not head.translate(None, _TEXT):
        _refuse_page(file, "text", "plain text")
    for fmt in known:
        if file.name.endswith(fmt.suffixes):
            return fmt
    raise InvalidInput("not-weights", "not a file of weights", where=file.name)


def _refuse_page(file: InputFile, kind: str, what: str) -> NoReturn:
    raise InvalidInput(
        f"{kind}-page",
        f"this is {what}, not weights",
        where=file.name,
        hint="it is probably an error message that was saved: read it, then download again",
    )


def check_lfs_pointer(head: bytes, where: str) -> None:
    """Refuse (``git-lfs-pointer``) a file that only says where Git LFS keeps the content."""
    if head.startswith(b"version https://git-lfs.github.com/spec"):
        raise InvalidInput(
            "git-lfs-pointer",
            "this is a Git-LFS pointer, not the file itself",
            where=where,
            hint="run `git lfs pull` in the repository that it comes from",
        )


def check_foreign(head: bytes, where: str) -> None:
    """Refuse a file whose first bytes show that neither a checkpoint nor its index was fetched.

    Raises InvalidInput: ``git-lfs-pointer``, ``html-page``, ``gguf-input``.
    """
    check_lfs_pointer(head, where)
    if _MARKUP.match(head):
        raise InvalidInput(
            "html-page",
            "this is an HTML or XML page, not the file itself",
            where=where,
            hint="the download was probably refused: log in or accept the licence, then try again",
        )
    if head.startswith(b"GGUF"):
        raise InvalidInput(
            "gguf-input",
            "this is a GGUF file, from which nothing is built",
            where=where,
            hint="take the safetensors or PyTorch files that it was made from",
        )
