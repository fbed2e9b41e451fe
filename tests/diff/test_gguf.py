"""GGUF files compared: bytes of blocks, and elements of the types that have them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.checkpoints import f16, write_model
from vbuild import diff, inspect
from vbuild.cli import main
from vbuild.commands.make_delta import make_delta
from vbuild.errors import InvalidInput

gguf = pytest.importorskip("gguf")


def write(path, tensors, kind):
    """A file of two-dimensional f32 ``tensors``, quantized by the package gguf."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, values in tensors.items():
        data = gguf.quants.quantize(values.astype(np.float32), kind)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def tensors():
    rng = np.random.default_rng(0)
    return {
        "blk.0.attn_q.weight": rng.standard_normal((6, 64)).astype(np.float32),
        "output.weight": rng.standard_normal((4, 32)).astype(np.float32),
    }


def changed(tensors):
    other = {name: values.copy() for name, values in tensors.items()}
    other["blk.0.attn_q.weight"][5, 40] += 1
    return other


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_1"])
def test_bytes_of_blocks_are_compared(tmp_path, tensors, kind):
    kind = gguf.GGMLQuantizationType[kind]
    a = write(tmp_path / "a.gguf", tensors, kind)
    b = write(tmp_path / "b.gguf", changed(tensors), kind)
    assert diff(a, a).same
    (pair, same) = diff(a, b).comparison.pairs
    assert same.status == "same"
    stored = [
        gguf.quants.quantize(t["blk.0.attn_q.weight"], kind).ravel()
        for t in (tensors, changed(tensors))
    ]
    assert pair.elements == stored[0].size
    assert pair.measured.differing == np.count_nonzero(stored[0] != stored[1])
    assert pair.measured.first == np.flatnonzero(stored[0] != stored[1])[0]


def test_an_f16_file_is_the_same_as_its_safetensors(tmp_path, tensors):
    a = write(tmp_path / "a.gguf", tensors, gguf.GGMLQuantizationType.F16)
    halves = {name: f16(values) for name, values in tensors.items()}
    b = write_model(tmp_path / "b", halves)
    found = diff(a, b, weights_digest=True)
    assert found.same
    assert found.weights[0] == found.weights[1] == inspect(a, weights_digest=True).weights


def test_every_report_shows_quantized_tensors(tmp_path, tensors, capsys):
    kind = gguf.GGMLQuantizationType.Q8_0
    a = write(tmp_path / "a.gguf", tensors, kind)
    b = write(tmp_path / "b.gguf", changed(tensors), kind)
    page = tmp_path / "d.html"
    assert main(["diff", str(a), str(b), "--html", str(page)]) == 1
    assert "blk.0.attn_q.weight" in capsys.readouterr().out
    assert "Q8_0 [6, 64]" in page.read_text()


def test_no_delta_is_made_of_gguf(tmp_path, tensors):
    a = write(tmp_path / "a.gguf", tensors, gguf.GGMLQuantizationType.F16)
    with pytest.raises(InvalidInput) as caught:
        make_delta(a, a, op="xor", out=tmp_path / "d")
    assert caught.value.code == "gguf-input"


def test_a_directory_with_one_gguf_file_stands_for_it(tmp_path, tensors):
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        directory.mkdir()
        write(directory / "a-F16.gguf", tensors, gguf.GGMLQuantizationType.F16)
        (directory / "model.sig").write_text("{}")
    assert diff(one, two / "a-F16.gguf").same
    write(two / "a-Q8_0.gguf", tensors, gguf.GGMLQuantizationType.Q8_0)
    with pytest.raises(InvalidInput) as caught:
        diff(one, two)
    assert caught.value.code == "weights-unclear"
    assert caught.value.got == "a-F16.gguf, a-Q8_0.gguf"
    write_model(two, {name: f16(values) for name, values in tensors.items()})
    found = diff(one, two)
    assert found.b.checkpoint.format == "safetensors"
    assert found.same
