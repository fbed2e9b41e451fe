"""GGUF as an output, from a manifest to a signed file: what is in it, and what decides it.

numpy computes what must come out; the package ``gguf`` says how it is stored, and reads it back.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys

import gguf
import numpy as np
import pytest

import vbuild
from tests.support.adapters import factors, write_adapter
from tests.support.commands import digests, load_safetensors, run_vbuild
from tests.support.llama import (
    PAD,
    expected_sum,
    make_base,
    make_delta_v0,
    manifest_text,
    safetensors_bytes,
    write_safetensors,
    write_torch,
)
from tests.support.meta_files import hugging_face, make_meta, write_meta
from tests.support.sentencepiece_models import small_model
from vbuild.errors import InvalidInput, Mismatch, Unavailable
from vbuild.manifest import parse_manifest

VOCAB, HIDDEN, HEADS = 320, 64, 4
TYPES = ("F16", "BF16", "F32", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A base and a delta of v0, and their sum."""
    top = tmp_path_factory.mktemp("gguf")
    base = make_base(top / "base", vocab=VOCAB, hidden=HIDDEN, heads=HEADS)
    delta = make_delta_v0(top / "delta", base)
    return top, expected_sum(base.tensors, delta)


def manifest(top, name, output, **more):
    path = top / f"{name}.toml"
    text = manifest_text("mini", output=output, **more)
    path.write_text(text.replace("[output]\n[[output]]", "[[output]]"))
    vbuild.lock(path)
    return path


@pytest.fixture(scope="module")
def several(inputs):
    """One build of safetensors and of every type of GGUF."""
    tables = ["[[output]]", *(f'[[output]]\nformat = "gguf"\ntype = "{t}"' for t in TYPES)]
    path = manifest(inputs[0], "several", "\n".join(tables))
    out = inputs[0] / "several"
    vbuild.apply(path, out=out, environment={"XDG_CONFIG_HOME": str(inputs[0] / "config")})
    return out


def stored(name, values):
    """The rows in llama.cpp's order, as f32."""
    values = values.astype("f4")
    if name.split(".")[-2] in ("q_proj", "k_proj"):
        split = values.reshape(HEADS, 2, HIDDEN // HEADS // 2, HIDDEN)
        return split.swapaxes(1, 2).reshape(HIDDEN, HIDDEN)
    return values


# ---- what comes out ----


@pytest.mark.parametrize("type_", TYPES)
def test_the_package_reads_back_every_tensor_with_its_own_bits(inputs, several, type_):
    found = {t.name: t for t in gguf.GGUFReader(several / f"mini-{type_}.gguf").tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, values in inputs[1].items():
        if name.endswith("inv_freq"):
            continue
        tensor = found.pop(str(names.get_name(name, (".weight",))))
        assert tuple(tensor.shape[::-1]) == values.shape
        expected = gguf.quants.quantize(stored(name, values), tensor.tensor_type)
        assert tensor.data.tobytes() == expected.tobytes(), name
        kind = "F32" if values.ndim == 1 else type_
        if kind[0] == "Q" and values.shape[1] % 32:
            kind = "F16"
        assert tensor.tensor_type.name == kind
        near = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(values.shape)
        assert np.abs(near - stored(name, values)).max() < 0.01
    assert not found


def test_the_metadata_describe_the_model_that_the_manifest_names(several):
    fields = gguf.GGUFReader(several / "mini-Q8_0.gguf").fields
    found = {key: field.contents() for key, field in fields.items()}
    config = json.loads((several / "config.json").read_text())
    assert found["general.architecture"] == "llama"
    assert found["general.name"] == "mini"
    assert found["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    assert found["general.quantization_version"] == gguf.GGML_QUANT_VERSION
    assert found["llama.block_count"] == config["num_hidden_layers"]
    assert found["llama.vocab_size"] == config["vocab_size"] == VOCAB + 1
    assert found["tokenizer.ggml.tokens"][VOCAB] == PAD
    assert found["tokenizer.ggml.token_type"][VOCAB] == gguf.TokenType.CONTROL
    assert found["tokenizer.ggml.padding_token_id"] == config["pad_token_id"] == VOCAB
    assert [found[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos")] == [1, 2]
    assert found["tokenizer.ggml.add_bos_token"] is True


def test_the_file_types_are_the_package_s(several):
    for type_ in TYPES:
        kind = "ALL_F32" if type_ == "F32" else f"MOSTLY_{type_}"
        fields = gguf.GGUFReader(several / f"mini-{type_}.gguf").fields
        assert fields["general.file_type"].contents() == gguf.LlamaFileType[kind]


def test_all_files_are_under_one_signature(inputs, several):
    names = set(digests(several))
    assert {f"mini-{t}.gguf" for t in TYPES} | {"config.json", "tokenizer.model"} <= names
    environment = {"XDG_CONFIG_HOME": str(inputs[0] / "config")}
    assert vbuild.verify(several, environment=environment).ok
    path = several / "mini-Q4_0.gguf"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    verdict = vbuild.verify(several, environment=environment)
    path.write_bytes(data)
    assert [f.name for f in verdict.files if f.status != "OK"] == ["mini-Q4_0.gguf"]


def test_the_safetensors_beside_it_are_what_they_are_alone(inputs, several):
    path = manifest(inputs[0], "alone", "")
    vbuild.apply(path, out=inputs[0] / "alone", unsigned=True)
    alone, both = digests(inputs[0] / "alone"), digests(several)
    assert alone.items() <= both.items()
    assert both.keys() - alone.keys() == {f"mini-{t}.gguf" for t in TYPES}


def build_one(top, type_, name="one", **more):
    path = manifest(top, name, f'format = "gguf"\ntype = "{type_}"', **more)
    out = top / f"{name}-{type_}"
    vbuild.apply(path, out=out, unsigned=True)
    return digests(out)


@pytest.mark.parametrize("type_", ["F16", "Q8_0", "Q5_1"])
def test_a_gguf_alone_is_the_whole_model(inputs, several, type_):
    made = build_one(inputs[0], type_)
    name = f"mini-{type_}.gguf"
    assert made == {name: digests(several)[name]}


# ---- nothing else decides ----


def write_one(directory, tensors, shards):
    (directory / "model.safetensors").write_bytes(safetensors_bytes(tensors))


@pytest.mark.parametrize("write", [write_safetensors, write_one])
def test_containers_cuts_and_directories_change_nothing(several, tmp_path, write):
    top = tmp_path / "elsewhere"
    base = make_base(top / "b", vocab=VOCAB, shards=2, write=write)
    make_delta_v0(top / "d", base, shards=5, write=write)
    made = build_one(top, "Q8_0", "other-name", base="b", delta="d")
    assert made["mini-Q8_0.gguf"] == digests(several)["mini-Q8_0.gguf"]


@pytest.mark.parametrize(("isa", "jobs"), [("portable", 1), ("native", 3)])
def test_threads_and_instruction_sets_change_nothing(inputs, several, isa, jobs):
    top = inputs[0]
    out = top / f"{isa}-{jobs}"
    arguments = ("apply", top / "several.toml", "--out", out, "--unsigned", "--jobs", jobs)
    done = run_vbuild(*arguments, config=top / "config", VBUILD_ISA=isa)
    assert done.returncode == 0, done.stderr
    assert digests(out) == digests(several)
    shutil.rmtree(out)


def test_the_manifest_s_name_is_in_the_file(inputs):
    path = manifest(inputs[0], "renamed", 'format = "gguf"\ntype = "Q8_0"')
    path.write_text(path.read_text().replace('"mini"', '"other"'))
    vbuild.apply(path, out=inputs[0] / "renamed", unsigned=True)
    (name,) = digests(inputs[0] / "renamed")
    assert name == "other-Q8_0.gguf"
    fields = gguf.GGUFReader(inputs[0] / "renamed" / name).fields
    assert fields["general.name"].contents() == "other"


# ---- pins, digests, inspection ----


def weights_of(reader):
    """The weights digest of a GGUF file, spelt out with hashlib (numerics.md)."""
    lines = ["vbuild-weights-v1\n"]
    for tensor in sorted(reader.tensors, key=lambda t: t.name):
        dims = ",".join(str(n) for n in tensor.shape[::-1])
        head = f"vbuild-tensor-v1\0{tensor.tensor_type.name}\0{dims}\0".encode()
        digest = hashlib.sha256(head + tensor.data.tobytes()).hexdigest()
        lines.append(f"{digest}  {tensor.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("type_", ["F16", "Q8_0", "Q4_1"])
def test_the_weights_digest_is_over_what_is_stored(several, type_):
    path = several / f"mini-{type_}.gguf"
    found = vbuild.inspect(path, weights_digest=True)
    assert found.weights == weights_of(gguf.GGUFReader(path))
    assert found.checkpoint.format == "gguf"
    shapes = {t.name: (t.dtype.code, t.shape) for t in found.tensors}
    assert shapes["blk.0.attn_q.weight"] == (type_, (HIDDEN, HIDDEN))
    assert shapes["output_norm.weight"] == ("F32", (HIDDEN,))


def test_pins_of_files_and_of_weights_are_enforced_for_each_output(inputs, several):
    path = several / "mini-Q8_0.gguf"
    weights = weights_of(gguf.GGUFReader(path))
    of_safetensors = vbuild.inspect(several, weights_digest=True).weights
    sha256 = digests(several)[path.name]
    text = (
        f'[[output]]\nweights = "{of_safetensors}"\n'
        f'[[output]]\nformat = "gguf"\ntype = "Q8_0"\nweights = "{weights}"\n'
        f'[output.files]\n"{path.name}" = {{ sha256 = "{sha256}", size = {path.stat().st_size} }}'
    )
    pinned = manifest(inputs[0], "pinned", text)
    built = vbuild.apply(pinned, out=inputs[0] / "pinned", unsigned=True).built
    assert built.weights == of_safetensors
    for right, code in ((weights, "weights-mismatch"), (sha256, "output-mismatch")):
        wrong = inputs[0] / "wrong.toml"
        wrong.write_text(pinned.read_text().replace(right, "0" * 64))
        with pytest.raises(Mismatch) as caught:
            vbuild.apply(wrong, out=inputs[0] / "wrong", unsigned=True)
        assert caught.value.code == code
        assert not (inputs[0] / "wrong").exists()


def test_the_plan_names_the_file_and_its_types(inputs, several):
    shown = run_vbuild("plan", inputs[0] / "several.toml", config=inputs[0], cwd=inputs[0])
    assert shown.returncode == 0, shown.stderr
    for word in (*(f"mini-{t}.gguf" for t in TYPES), *TYPES, "rows are no whole blocks"):
        assert word in shown.stdout + shown.stderr


@pytest.mark.parametrize("type_", ["F16", "Q8_0"])
def test_two_files_are_compared_tensor_by_tensor(several, tmp_path, type_):
    path = several / f"mini-{type_}.gguf"
    other = tmp_path / path.name
    shutil.copy(path, other)
    assert vbuild.diff(path, other).comparison.same
    tensor = next(t for t in gguf.GGUFReader(path).tensors if t.name == "blk.1.attn_q.weight")
    data = bytearray(path.read_bytes())
    row = len(tensor.data.tobytes()) // HIDDEN
    data[tensor.data_offset + 5 * row + 3] ^= 1
    other.write_bytes(data)
    found = vbuild.diff(path, other).comparison
    (pair,) = [pair for pair in found.pairs if pair.status != "same"]
    assert (pair.name, pair.status, pair.differing) == (tensor.name, "changed", 1)
    assert pair.measured.first == 5 * pair.extents[1] + (3 if type_ == "Q8_0" else 1)
    assert pair.elements == (HIDDEN * row if type_ == "Q8_0" else HIDDEN * HIDDEN)


@pytest.mark.parametrize("adapter", [False, True], ids=["alone", "with_an_adapter"])
def test_metas_files_give_the_same_file_as_transformers_conversion_of_them(tmp_path, adapter):
    meta = make_meta(heads=4, kv_heads=2, vocab=VOCAB)
    updates = {}
    for part, rows in (("q", meta.dim), ("k", meta.dim // 2), ("o", meta.dim)):
        updates |= factors(f"model.layers.1.self_attn.{part}_proj", (rows, meta.dim), seed=rows)
    write_adapter(tmp_path / "lora", updates)
    delta = '[[delta]]\nuri = "file:lora"\nkind = "lora"\n' if adapter else ""
    config = json.dumps(
        {
            "architectures": ["LlamaForCausalLM"],
            "hidden_act": "silu",
            "hidden_size": meta.dim,
            "intermediate_size": meta.wide,
            "max_position_embeddings": 128,
            "num_attention_heads": meta.heads,
            "num_hidden_layers": meta.layers,
            "num_key_value_heads": meta.kv_heads,
            "rms_norm_eps": 1e-6,
            "vocab_size": meta.vocab,
        }
    )
    for name, files in (("two", 2), ("one", 1)):
        write_meta(tmp_path / name, meta, files)
    (tmp_path / "hf").mkdir()
    write_torch(tmp_path / "hf", hugging_face(meta), 2)
    made = {}
    for name in ("one", "two", "hf"):
        (tmp_path / name / "config.json").write_text(config)
        (tmp_path / name / "tokenizer.model").write_bytes(small_model(VOCAB))
        (tmp_path / name / "tokenizer_config.json").write_text('{"add_bos_token": true}')
        path = tmp_path / f"{name}.toml"
        path.write_text(
            f'schema = "vbuild/1"\nname = "m"\n[base]\nuri = "file:{name}"\n{delta}'
            '[tokenizer]\nsource = "base"\n[output]\nformat = "gguf"\ntype = "Q5_0"\n'
        )
        vbuild.lock(path)
        vbuild.apply(path, out=tmp_path / f"out-{name}", unsigned=True)
        made[name] = digests(tmp_path / f"out-{name}")
    assert made["one"] == made["two"] == made["hf"]


def test_an_adapter_that_is_merged_gives_what_it_gives_in_safetensors(inputs, tmp_path):
    shape = (HIDDEN, HIDDEN)
    updates = {}
    for i, part in enumerate("qkv"):
        updates |= factors(f"model.layers.1.self_attn.{part}_proj", shape, seed=i)
    write_adapter(tmp_path / "lora", updates, target_modules=["q_proj", "k_proj", "v_proj"])
    path = tmp_path / "m.toml"
    path.write_text(
        f'schema = "vbuild/1"\nname = "mini"\n[base]\nuri = "file:{inputs[0]}/base"\n'
        '[[delta]]\nuri = "file:lora"\nkind = "lora"\n[apply]\npreset = "peft"\n'
        '[tokenizer]\nsource = "base"\n'
        '[[output]]\n[[output]]\nformat = "gguf"\ntype = "Q4_0"\n'
    )
    vbuild.lock(path)
    vbuild.apply(path, out=tmp_path / "out", unsigned=True)
    merged = load_safetensors(tmp_path / "out")
    found = {t.name: t for t in gguf.GGUFReader(tmp_path / "out" / "mini-Q4_0.gguf").tensors}
    for part in "qkvo":
        name = f"model.layers.1.self_attn.{part}_proj.weight"
        expected = gguf.quants.quantize(stored(name, merged[name]), gguf.GGMLQuantizationType.Q4_0)
        here = "output" if part == "o" else part
        assert found[f"blk.1.attn_{here}.weight"].data.tobytes() == expected.tobytes(), name


# ---- what does not fit ----


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ('format = "gguf"', "missing-key"),
        ('format = "gguf"\ntype = "Q4_K_M"', "not-supported-yet"),
        ('format = "gguf"\ntype = "IQ2_XS"', "bad-value"),
        ('format = "gguf"\ntype = "F16"\nmax_shard_size = "1GB"', "no-effect"),
        ('type = "F16"', "no-effect"),
        ('format = "gguf"\ntype = "F16"\ncopy = ["mini-F16.gguf"]', "reserved-name"),
        (2 * '[[output]]\nformat = "gguf"\ntype = "F16"\n', "two-outputs"),
        (2 * "[[output]]\n", "two-outputs"),
        (
            '[[output]]\ncopy = ["a"]\n[[output]]\nformat = "gguf"\ntype = "F16"\ncopy = ["A"]',
            "path-collision",
        ),
    ],
)
def test_an_output_that_makes_no_sense_is_refused_with_its_line(output, code):
    text = manifest_text("mini", output=output).replace("[output]\n[[output]]", "[[output]]")
    with pytest.raises(InvalidInput) as caught:
        parse_manifest(text.encode(), "m.toml")
    assert caught.value.code == code
    assert str(caught.value.where).startswith("m.toml:")


def test_a_k_quant_is_refused_with_what_is_supported():
    text = manifest_text("mini", output='format = "gguf"\ntype = "Q4_K_M"')
    with pytest.raises(InvalidInput) as caught:
        parse_manifest(text.encode(), "m.toml")
    assert all(type_ in str(caught.value.expected) for type_ in TYPES)


def test_without_a_tokenizer_there_is_no_gguf():
    text = manifest_text("mini", output='format = "gguf"\ntype = "F16"', pad=False)
    text = text.replace('[tokenizer]\nsource = "delta"\n', "")
    with pytest.raises(InvalidInput) as caught:
        parse_manifest(text.encode(), "m.toml")
    assert caught.value.code == "gguf-tokenizer"


@pytest.mark.parametrize(
    ("name", "old", "new", "code"),
    [
        ("config.json", None, None, "gguf-config"),
        ("tokenizer.model", None, None, "gguf-tokenizer"),
        ("config.json", "LlamaForCausalLM", "MixtralForCausalLM", "gguf-architecture"),
        ("config.json", '"num_hidden_layers": 2', '"num_hidden_layers": 3', "gguf-tensor"),
    ],
)
def test_files_that_do_not_make_a_model_are_named(inputs, tmp_path, name, old, new, code):
    delta = tmp_path / "delta"
    shutil.copytree(inputs[0] / "base", tmp_path / "base")
    shutil.copytree(inputs[0] / "delta", delta)
    if old is None:
        (delta / name).unlink()
    else:
        (delta / name).write_text((delta / name).read_text().replace(old, new))
    adds = name != "tokenizer.model"  # without pieces there is nothing to add one to
    path = manifest(tmp_path, "m", 'format = "gguf"\ntype = "F16"', pad=adds)
    with pytest.raises(InvalidInput) as caught:
        vbuild.apply(path, out=tmp_path / "out", unsigned=True)
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_without_the_package_the_command_says_what_to_install(inputs, several, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(Unavailable) as caught:
        vbuild.plan(inputs[0] / "several.toml")
    assert caught.value.code == "gguf-missing"
