"""PyTorch checkpoints made without PyTorch: for tests, and for the demonstration's model.

- `write_torch_zip` and `write_torch_legacy` give what `torch.save` gives for a plain dict of
  freshly made CPU tensors: the zip is the same byte for byte, but for `.data/serialization_id`.
- `PickleWriter` and `ZipWriter` underneath assemble anything, malformed things included.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LEGACY_HEAD",
    "PickleWriter",
    "ZipWriter",
    "checkpoint_zip",
    "legacy_bytes",
    "write_huge_zip",
    "write_torch_legacy",
    "write_torch_zip",
    "zip_bytes",
]

_STORAGES = {
    "bool": "BoolStorage",
    "uint8": "ByteStorage",
    "int8": "CharStorage",
    "int16": "ShortStorage",
    "int32": "IntStorage",
    "int64": "LongStorage",
    "float16": "HalfStorage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "complex64": "ComplexFloatStorage",
    "bfloat16": "BFloat16Storage",
}
_UNTYPED = ("uint16", "uint32", "uint64")


class PickleWriter:
    """Emits opcodes of protocol 2 as Python's pickler does, memo included."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self.slots: dict[str, int] = {}
        self.count = 0

    def raw(self, opcodes: bytes) -> PickleWriter:
        """Any bytes."""
        self.out += opcodes
        return self

    def put(self) -> PickleWriter:
        """Store the topmost value in the next memo slot."""
        slot, self.count = self.count, self.count + 1
        return self.raw(b"q" + bytes([slot]) if slot < 256 else b"r" + struct.pack("<I", slot))

    def get(self, what: str) -> bool:
        """Fetch ``what`` from the memo, if it is there."""
        slot = self.slots.get(what)
        if slot is None:
            self.slots[what] = self.count
            return False
        self.raw(b"h" + bytes([slot]) if slot < 256 else b"j" + struct.pack("<I", slot))
        return True

    def text(self, value: str, *, shared: bool = False) -> PickleWriter:
        """A string; ``shared`` if it is one object wherever it occurs."""
        if shared and self.get(f"text {value}"):
            return self
        data = value.encode()
        return self.raw(b"X" + struct.pack("<I", len(data)) + data).put()

    def name(self, module: str, attribute: str) -> PickleWriter:
        """GLOBAL."""
        if self.get(f"name {module}.{attribute}"):
            return self
        return self.raw(f"c{module}\n{attribute}\n".encode()).put()

    def number(self, value: int) -> PickleWriter:
        """An integer, in its shortest form."""
        if 0 <= value < 1 << 8:
            return self.raw(b"K" + bytes([value]))
        if 0 <= value < 1 << 16:
            return self.raw(b"M" + struct.pack("<H", value))
        if -(1 << 31) <= value < 1 << 31:
            return self.raw(b"J" + struct.pack("<i", value))
        size = value.bit_length() // 8 + 1
        return self.raw(b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True))

    def numbers(self, values: Collection[int]) -> PickleWriter:
        """A tuple of integers."""
        if len(values) > 3:
            self.raw(b"(")
        for value in values:
            self.number(value)
        self.raw({0: b")", 1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(values), b"t"))
        return self.put() if values else self

    def storage(
        self, kind: str, key: str, numel: int, *, legacy: bool = False, view: bytes = b"N"
    ) -> PickleWriter:
        """A storage by its persistent id; ``kind`` is its class."""
        module = "torch.storage" if kind == "UntypedStorage" else "torch"
        self.raw(b"(").text("storage", shared=True).name(module, kind).text(key)
        self.text("cpu", shared=True).number(numel)
        return self.raw(view + b"t" if legacy else b"t").put().raw(b"Q")

    def tensor(
        self,
        kind: str,
        key: str,
        numel: int,
        shape: Collection[int],
        *,
        strides: Collection[int] | None = None,
        offset: int = 0,
        legacy: bool = False,
        view: bytes = b"N",
        gradient: bytes = b"\x89",
    ) -> PickleWriter:
        """A tensor over its own storage; ``kind`` is a storage class or an element type."""
        version = "v3" if kind in _UNTYPED else "v2"
        self.name("torch._utils", f"_rebuild_tensor_{version}").raw(b"(")
        if kind in _UNTYPED:
            width = np.dtype(kind).itemsize
            self.storage("UntypedStorage", key, numel * width, legacy=legacy, view=view)
        else:
            self.storage(kind, key, numel, legacy=legacy, view=view)
        self.number(offset).numbers(shape)
        self.numbers(_strides(shape) if strides is None else strides)
        self.raw(gradient).name("collections", "OrderedDict").raw(b")R").put()
        if kind in _UNTYPED:
            self.name("torch", kind)
        return self.raw(b"t").put().raw(b"R").put()

    def done(self) -> bytes:
        """The pickle, ended by STOP."""
        return bytes(self.out) + b"."


class ZipWriter:
    """Writes entries as PyTorch does; what is given beside the data makes them unusual."""

    def __init__(self, out: BinaryIO, alignment: int = 64) -> None:
        self.out = out
        self.alignment = alignment
        self.at = out.tell()
        self.central = bytearray()
        self.count = 0

    def add(
        self,
        name: str,
        data: bytes = b"",
        *,
        hole: int = 0,
        flags: int | None = None,
        method: int = 0,
        attributes: int = 0,
        comment: bytes = b"",
    ) -> None:
        """One entry: ``data``, or ``hole`` zero bytes that take no room on the disk."""
        size = hole or len(data)
        if flags is None:
            flags = 0x808 if size else 0x800
        raw = name.encode()
        offset = self.at
        crc = zlib.crc32(data)
        wide = [v for v in (size, size, offset) if v >= 0xFFFFFFFF]
        long = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        padding = -(offset + 30 + len(raw) + len(long) + 4) % self.alignment
        extra = long + b"FB" + struct.pack("<H", padding) + b"Z" * padding
        head = struct.pack(
            "<4s5H3I2H", b"PK\3\4", 0, flags, method, 0, 0, 0, 0, 0, len(raw), len(extra)
        )
        self._write(head + raw + extra + data)
        if hole:
            self.at += hole
            self.out.seek(self.at)
        if flags & 8:
            form = "<4sI2Q" if long else "<4s3I"
            self._write(struct.pack(form, b"PK\7\10", crc, size, size))
        short = [min(v, 0xFFFFFFFF) for v in (size, size, offset)]
        sizes = (short[0], short[1], len(raw), len(long), len(comment), 0, 0, attributes, short[2])
        self.central += struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 0, 0, flags, method, 0, 0, crc, *sizes
        )
        self.central += raw + long + comment
        self.count += 1

    def finish(self, *, zip64: bool = True, comment: bytes = b"") -> None:
        """The central directory and the end records."""
        at, size, count = self.at, len(self.central), self.count
        self._write(bytes(self.central))
        if zip64:
            fields = (44, 0x31E, 45, 0, 0, count, count, size, at)
            self._write(struct.pack("<4sQ2H2I4Q", b"PK\6\6", *fields))
            self._write(struct.pack("<4sIQI", b"PK\6\7", 0, at + size, 1))
        short = (min(count, 0xFFFF), min(count, 0xFFFF), min(size, 0xFFFFFFFF), min(at, 0xFFFFFFFF))
        self._write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *short, len(comment)) + comment)

    def _write(self, data: bytes) -> None:
        self.out.write(data)
        self.at += len(data)


def _strides(shape: Collection[int]) -> list[int]:
    strides: list[int] = []
    step = 1
    for n in reversed(list(shape)):
        strides.insert(0, step)
        step *= max(n, 1)
    return strides


def _little_endian(values: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def _pickled(
    tensors: Mapping[str, NDArray[np.generic]], bf16_names: Collection[str], *, legacy: bool
) -> bytes:
    """The state dict's pickle: storages are numbered in the order of ``tensors``."""
    out = PickleWriter().raw(b"}").put()
    items = list(enumerate(tensors.items()))
    for begin in range(0, len(items), 1000):  # Python's pickler writes batches of this size
        out.raw(b"" if len(items) == 1 else b"(")
        for key, (name, values) in items[begin : begin + 1000]:
            kind = values.dtype.name
            if name in bf16_names:
                if kind != "uint16":
                    raise ValueError(f"{name}: bfloat16 values are given as their bits, in uint16")
                kind = "bfloat16"
            kind = kind if kind in _UNTYPED else _STORAGES[kind]
            out.text(name).tensor(kind, str(key), values.size, values.shape, legacy=legacy)
        out.raw(b"s" if len(items) == 1 else b"u")
    return out.done()


def checkpoint_zip(
    out: BinaryIO, pickle: bytes, storages: Iterable[tuple[str, bytes]], root: str
) -> None:
    """A whole checkpoint around ``pickle``, with the storages in the order they are given."""
    writer = ZipWriter(out)
    entries: list[tuple[str, bytes]] = [
        ("data.pkl", pickle),
        (".format_version", b"1"),
        (".storage_alignment", b"64"),
        ("byteorder", b"little"),
        *((f"data/{key}", data) for key, data in storages),
        ("version", b"3\n"),
    ]
    names = zlib.crc32(" ".join(name for name, _ in entries).encode())
    values = zlib.crc32(b"".join(struct.pack("<I", zlib.crc32(data)) for _, data in entries))
    for name, data in [*entries, (".data/serialization_id", f"{names:020}{values:020}".encode())]:
        writer.add(f"{root}/{name}", data)
    writer.finish()


def zip_bytes(pickle: bytes, storages: Mapping[str, bytes] | None = None) -> bytes:
    """A whole checkpoint, in memory."""
    out = io.BytesIO()
    checkpoint_zip(out, pickle, (storages or {}).items(), "archive")
    return out.getvalue()


def write_torch_zip(
    path: Path,
    tensors: Mapping[str, NDArray[np.generic]],
    *,
    bf16_names: Collection[str] = (),
    root: str = "archive",
    string_order: bool = True,
) -> None:
    """Write ``tensors`` as `torch.save(dict, path)` does, in a zip archive with folder ``root``.

    The values of ``bf16_names`` are bfloat16 bits in uint16 arrays. Storages lie in string order
    of their keys, as in the checkpoints of 2023; without ``string_order`` they lie in the order
    of the tensors, as PyTorch 2.13 puts them.
    """
    pickle = _pickled(tensors, bf16_names, legacy=False)
    keyed = [(str(i), v) for i, v in enumerate(tensors.values())]
    if string_order:
        keyed.sort(key=lambda item: item[0])
    storages = ((key, _little_endian(v)) for key, v in keyed)
    with path.open("wb") as out:
        checkpoint_zip(out, pickle, storages, root)


def write_huge_zip(path: Path, last: bytes) -> int:
    """Write a sparse checkpoint above 4 GiB; the number of its zero bytes is returned.

    It holds "big", uint8 zeros in a hole of the file, and behind it "last", the bytes ``last``.
    """
    count = (1 << 32) + 8
    pickle = PickleWriter().raw(b"}").put().raw(b"(")
    pickle.text("big").tensor("ByteStorage", "0", count, [count])
    pickle.text("last").tensor("ByteStorage", "1", len(last), [len(last)]).raw(b"u")
    with path.open("wb") as out:
        writer = ZipWriter(out)
        writer.add("archive/data.pkl", pickle.done())
        writer.add("archive/data/0", hole=count)
        writer.add("archive/data/1", last)
        writer.add("archive/version", b"3\n")
        writer.finish()
    return count


def _legacy_head() -> Iterator[bytes]:
    yield b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    yield b"\x80\x02M\xe9\x03."
    facts = PickleWriter().raw(b"}").put().raw(b"(")
    facts.text("protocol_version").number(1001).text("little_endian").raw(b"\x88")
    facts.text("type_sizes").raw(b"}").put().raw(b"(")
    facts.text("short").number(2).text("int").number(4).text("long").number(4)
    yield facts.raw(b"uu").done()


LEGACY_HEAD = b"".join(_legacy_head())
"""The three pickles that every legacy stream starts with."""


def legacy_bytes(pickle: bytes, storages: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A legacy stream around ``pickle``: storages are (key, number of elements, bytes)."""
    ordered = sorted(storages)
    keys = PickleWriter().raw(b"]").put()
    if len(ordered) > 1:
        keys.raw(b"(")
    for key, _, _ in ordered:
        keys.text(key)
    if ordered:
        keys.raw(b"e" if len(ordered) > 1 else b"a")
    payload = b"".join(struct.pack("<q", count) + data for _, count, data in ordered)
    return LEGACY_HEAD + pickle + keys.done() + payload


def write_torch_legacy(
    path: Path,
    tensors: Mapping[str, NDArray[np.generic]],
    *,
    bf16_names: Collection[str] = (),
) -> None:
    """Write ``tensors`` as `torch.save(..., _use_new_zipfile_serialization=False)` does."""
    pickle = _pickled(tensors, bf16_names, legacy=True)
    values = enumerate(tensors.values())
    storages = [(str(i), v.size, _little_endian(v)) for i, v in values]
    path.write_bytes(legacy_bytes(pickle, storages))
