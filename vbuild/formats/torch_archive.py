"""PyTorch checkpoints in a zip archive (`torch.save` since version 1.6).

- All entries lie in one folder, whose name is the file's stem or `archive`; in it, `data.pkl`
  says what there is, and `data/<key>` are the storages (formats.md).
- `byteorder` must be little where it is given; `constants.pkl` or `code/` mean TorchScript.
- A storage's declared number of elements must be the entry's; bytes that do not fill an element
  may follow, because PyTorch counts whole elements.
- Only `data.pkl` and the records of a few bytes are read, never a storage.
"""

from __future__ import annotations

from vbuild.errors import InvalidInput
from vbuild.files import InputFile
from vbuild.formats.torch_pickle import Pickle, load
from vbuild.formats.torch_source import PICKLE_LIMIT, Source
from vbuild.formats.torch_state import Region, tensor_specs
from vbuild.formats.torch_zip import Entry, read_directory
from vbuild.strict_json import quoted
from vbuild.tensors import TensorSpec

__all__ = ["read_archive"]

_RECORD_LIMIT = 64
_FORMAT_VERSIONS = range(1, 11)


def read_archive(file: InputFile) -> list[TensorSpec]:
    """The tensors of the zip checkpoint ``file``, in the order of its state dict."""
    directory = read_directory(file)
    _refuse_torchscript(directory.names, file)
    entries = _strip_root(directory.entries(), file)
    _check_records(file, entries)
    pickle = _load_pickle(file, entries["data.pkl"])
    return tensor_specs(pickle.root, _regions(file, pickle, entries), file.name)


def _refuse_torchscript(names: list[str], file: InputFile) -> None:
    if any(name.partition("/")[2].startswith(("code/", "constants.pkl")) for name in names):
        raise InvalidInput(
            "torch-torchscript",
            "this is a TorchScript archive: a program, not a state dict",
            where=file.name,
            hint="use the checkpoint that torch.save(model.state_dict(), ...) wrote",
        )


def _strip_root(entries: list[Entry], file: InputFile) -> dict[str, Entry]:
    """The entries by their names inside the archive's one folder."""
    pickles = [e.name for e in entries if e.name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InvalidInput(
            "torch-not-a-checkpoint",
            "the zip archive is no PyTorch checkpoint: it needs one data.pkl in its folder",
            where=file.name,
            got=f"{len(pickles)} of them",
        )
    root = pickles[0].removesuffix("data.pkl")
    strangers = [e.name for e in entries if not e.name.startswith(root)]
    if root.count("/") != 1 or strangers:
        raise InvalidInput(
            "torch-not-a-checkpoint",
            f"the zip archive's entries do not lie in one folder {quoted(root)}",
            where=file.name,
            got=", ".join(quoted(name) for name in strangers[:1]) or None,
        )
    return {e.name.removeprefix(root): e for e in entries}


def _check_records(file: InputFile, entries: dict[str, Entry]) -> None:
    """The records that say how to read the others; PyTorch's reader needs the same of them."""
    if _record(file, entries, "byteorder") == b"big":
        raise InvalidInput(
            "torch-big-endian",
            "the checkpoint was written by a big-endian machine",
            where=file.name,
            hint="load it with torch and save it again on a little-endian machine",
        )
    if _record(file, entries, "byteorder") not in (None, b"little"):
        raise _bad_record(file, "byteorder")
    if not {"version", ".data/version"} & set(entries):
        raise InvalidInput(
            "torch-not-a-checkpoint", "the zip archive has no version record", where=file.name
        )
    for name in ("version", ".data/version"):
        version = _record(file, entries, name)
        if version is not None and _number(version.strip()) not in _FORMAT_VERSIONS:
            raise _bad_record(file, name)
    for name in (".format_version", ".storage_alignment"):
        number = _record(file, entries, name)
        if number is not None and _number(number) is None:
            raise _bad_record(file, name)


def _record(file: InputFile, entries: dict[str, Entry], name: str) -> bytes | None:
    entry = entries.get(name)
    if entry is None:
        return None
    if entry.size > _RECORD_LIMIT:
        raise _bad_record(file, name)
    return file.pread(entry.start, entry.size)


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() else None


def _bad_record(file: InputFile, name: str) -> InvalidInput:
    what = f"the archive's record '{name}' has an unknown value"
    return InvalidInput("torch-bad-record", what, where=file.name)


def _load_pickle(file: InputFile, entry: Entry) -> Pickle:
    if entry.size > PICKLE_LIMIT:
        raise InvalidInput(
            "pickle-too-large",
            "data.pkl is too large to describe a state dict",
            where=file.name,
            expected=f"at most {PICKLE_LIMIT} bytes",
            got=f"{entry.size} bytes",
        )
    end = entry.start + entry.size
    source = Source(file, entry.start, end)
    pickle = load(source)
    if source.position != end:
        raise InvalidInput(
            "pickle-trailing-data",
            f"{end - source.position} bytes follow the pickle in data.pkl (byte {source.position})",
            where=file.name,
        )
    return pickle


def _regions(file: InputFile, pickle: Pickle, entries: dict[str, Entry]) -> dict[str, Region]:
    """Where each storage that the pickle mentions lies."""
    regions = {}
    for key, root in pickle.storages.items():
        entry = entries.get(f"data/{key}")
        if entry is None:
            raise InvalidInput(
                "torch-storage-missing",
                f"the pickle mentions storage {quoted(key)}, which the archive lacks",
                where=file.name,
            )
        itemsize = root.dtype.itemsize
        if entry.size // itemsize != root.numel:
            raise InvalidInput(
                "torch-storage-size",
                f"storage {quoted(key)} has another size than the pickle says",
                where=file.name,
                expected=f"{root.numel * itemsize} bytes",
                got=f"{entry.size} bytes",
            )
        regions[key] = Region(entry.start, entry.size)
    return regions
