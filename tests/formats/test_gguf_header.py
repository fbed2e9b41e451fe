"""vbuild.formats.gguf_header: what is asked for is in the header, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import pytest

from vbuild.errors import Unavailable
from vbuild.formats.gguf_header import VERSION, Entry, header
from vbuild.tensors import DType

ENTRIES = [
    Entry("general.name", "STRING", "ä"),
    Entry("k.u", "UINT32", 2**32 - 1),
    Entry("k.f", "FLOAT32", 1e-5),
    Entry("k.b", "BOOL", True),
    Entry("k.strings", "STRING", ("", "▁x", "\N{NULL}")),
    Entry("k.floats", "FLOAT32", (0.0, -1000.0)),
    Entry("k.ints", "INT32", (1, 6)),
]
TENSORS = [
    ("b", DType.Q4_0, (3, 64)),
    ("a", DType.F32, (5,)),
    ("c", DType.BF16, (2, 3)),
    ("d", DType.Q8_0, (32,)),
]


def test_the_package_reads_back_what_was_asked_for(tmp_path: Path) -> None:
    data = header("llama", ENTRIES, TENSORS)
    assert len(data) % 32 == 0
    path = tmp_path / "f.gguf"
    path.write_bytes(data + bytes(1000))
    found = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in found.fields.items() if key[:4] != "GGUF"}
    assert list(fields) == ["general.architecture", *(entry.key for entry in ENTRIES)]
    assert fields.pop("k.f") == pytest.approx(1e-5)
    expected = {e.key: list(e.value) if isinstance(e.value, tuple) else e.value for e in ENTRIES}
    expected.pop("k.f")
    assert fields == {"general.architecture": "llama", **expected}
    for entry in ENTRIES:
        assert found.fields[entry.key].types[-1].name == entry.kind
    infos = [(t.name, t.tensor_type.name, tuple(t.shape[::-1].tolist())) for t in found.tensors]
    assert infos == [(name, dtype.code, shape) for name, dtype, shape in TENSORS]
    starts = [t.data_offset for t in found.tensors]
    assert starts == [len(data) + at for at in (0, 128, 160, 192)]


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert header("llama", ENTRIES, TENSORS) == header("llama", list(ENTRIES), list(TENSORS))


def test_a_header_without_tensors_is_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "f.gguf"
    path.write_bytes(header("llama", [], []))
    assert list(gguf.GGUFReader(path).fields)[3:] == ["general.architecture"]


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(Unavailable) as caught:
        header("llama", [], [])
    assert (caught.value.code, caught.value.exit_status) == ("gguf-missing", 3)
    assert "vbuild[gguf]" in str(caught.value.hint)


def test_a_package_that_writes_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "GGUF_VERSION", VERSION + 1)
    with pytest.raises(Unavailable, match="another version"):
        header("llama", [], [])
