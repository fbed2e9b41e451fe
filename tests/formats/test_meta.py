"""vbuild.formats.meta: Meta's files become the tensors that Hugging Face has."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.meta_files import Meta, cut, hugging_face, make_meta, write_meta
from tests.support.torch_files import PickleWriter, write_torch_zip, zip_bytes
from vbuild.errors import InvalidInput
from vbuild.formats import Checkpoint, open_checkpoint
from vbuild.formats.meta_tensors import permuted
from vbuild.formats.safetensors import header
from vbuild.tensors import DType, JoinedSpec, Tensor, TensorSpec, contiguous_strides


def opened(directory: Path, format: str = "auto", **options: Any) -> Checkpoint:
    files = {p.name: p for p in sorted(directory.iterdir())}
    return open_checkpoint(files, "base", format, **options)


def refused(directory: Path, format: str = "auto") -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        opened(directory, format)
    assert caught.value.exit_status == 2
    assert caught.value.message.isprintable() and caught.value.hint
    return caught.value


def values(tensor: Tensor, directory: Path) -> NDArray[Any]:
    """What a tensor holds, its parts put side by side by numpy."""
    axis = tensor.axis if isinstance(tensor, JoinedSpec) else 0
    return np.concatenate([_part(part, directory) for part in tensor.parts], axis)


def _part(spec: TensorSpec, directory: Path) -> NDArray[Any]:
    data = (directory / spec.file).read_bytes()
    extents, strides = spec.layout
    view = np.ndarray(extents, "<f2", data, spec.offset, [2 * s for s in strides])
    return view.reshape(spec.shape)


def assert_same(directory: Path, model: Meta) -> Checkpoint:
    checkpoint, expected = opened(directory), hugging_face(model)
    assert list(checkpoint.tensors) == sorted(expected)
    for name, tensor in checkpoint.tensors.items():
        assert (tensor.name, tensor.dtype, tensor.shape) == (
            name,
            DType.F16,
            expected[name].shape,
        )
        assert values(tensor, directory).tobytes() == expected[name].tobytes(), name
    return checkpoint


@pytest.mark.parametrize("files", [1, 2, 4, 8])
@pytest.mark.parametrize("kv_heads", [8, 16])
@pytest.mark.parametrize("by_rows", [False, True])
def test_every_tensor_is_the_converted_one(tmp_path, files, kv_heads, by_rows):
    model = make_meta(dim=128, heads=16, kv_heads=kv_heads)
    write_meta(tmp_path, model, files, vocabulary_by_rows=by_rows)
    checkpoint = assert_same(tmp_path, model)
    assert checkpoint.format == "meta-llama"
    assert checkpoint.files == tuple(f"consolidated.{i:02}.pth" for i in range(files))
    assert sorted(checkpoint.identities) == [*checkpoint.files, "params.json"]


def test_13b_shaped_files_whose_norms_are_views_of_the_one_storage(tmp_path):
    model = make_meta(dim=160, heads=40)
    write_meta(tmp_path, model, 2, one_storage=True)
    checkpoint = assert_same(tmp_path, model)
    norm = checkpoint.tensors["model.norm.weight"]
    assert isinstance(norm, TensorSpec)
    assert norm.file == "consolidated.00.pth"


def test_parts_are_joined_along_the_axis_that_they_were_cut(tmp_path):
    write_meta(tmp_path, make_meta(), 2)
    tensors = opened(tmp_path).tensors
    axes = {n.split(".")[-2]: t.axis for n, t in tensors.items() if isinstance(t, JoinedSpec)}
    columns = {"embed_tokens", "o_proj", "down_proj"}
    rows = {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "lm_head"}
    assert axes == dict.fromkeys(columns, 1) | dict.fromkeys(rows, 0)


def test_one_file_is_read_in_place(tmp_path):
    write_meta(tmp_path, make_meta(), 1)
    tensors = opened(tmp_path).tensors
    assert not any(isinstance(t, JoinedSpec) for t in tensors.values())
    strided = {n.split(".")[-2] for n, t in tensors.items() if not t.is_contiguous}
    assert strided == {"q_proj", "k_proj"}


@given(heads=st.integers(1, 5), half=st.integers(1, 6), columns=st.integers(1, 4))
def test_the_permutation_is_the_formula(heads, half, columns):
    """formats.md: out[h*hd + r] = in[h*hd + 2*(r mod hd/2) + r div (hd/2)]."""
    size = 2 * half
    matrix = np.arange(heads * size * columns).reshape(heads * size, columns)
    spec = TensorSpec("w", DType.I64, matrix.shape, "f", 0, contiguous_strides(matrix.shape))
    extents, strides = permuted(spec, heads).layout
    got = np.ndarray(extents, matrix.dtype, matrix.tobytes(), 0, [8 * s for s in strides])
    rows = [
        h * size + 2 * (r % half) + r // half
        for h, r in itertools.product(range(heads), range(size))
    ]
    assert (got.reshape(matrix.shape) == matrix[rows]).all()


def test_the_frequencies_of_7b_lie_in_the_layers_and_are_left_out(tmp_path):
    model = make_meta()
    write_meta(tmp_path, model, 1)
    (part,) = cut(model, 1)
    freqs = part.pop("rope.freqs")
    part |= {f"layers.{i}.attention.inner_attention.rope.freqs": freqs for i in range(2)}
    write_torch_zip(tmp_path / "consolidated.00.pth", part)
    assert_same(tmp_path, model)


def test_what_planning_reads_of_a_norm_is_kept_once_for_all_files(tmp_path):
    write_meta(tmp_path, make_meta(), 4)
    checkpoint = opened(tmp_path)
    norm = checkpoint.tensors["model.norm.weight"]
    copies = [
        data
        for file in checkpoint.files
        for offset, data in checkpoint.headers[file]
        if data == (tmp_path / norm.file).read_bytes()[norm.offset : norm.offset + norm.nbytes]
    ]
    assert len(copies) == 4 and len({id(data) for data in copies}) == 1


def test_files_may_lie_in_a_folder(tmp_path):
    write_meta(tmp_path / "7B", make_meta(), 2)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    names = ["7B/params.json", "7B/consolidated.00.pth", "7B/consolidated.01.pth"]
    files = {n: tmp_path / n for n in [*names, "tokenizer.model"]}
    checkpoint = open_checkpoint(files, "base")
    assert checkpoint.files == ("7B/consolidated.00.pth", "7B/consolidated.01.pth")


# Which files are Meta's


def test_the_format_can_be_asked_for(tmp_path):
    model = make_meta()
    write_meta(tmp_path, model, 2)
    (tmp_path / "model.safetensors").write_bytes(header([("a", DType.F16, (1,))]) + b"\0\0")
    assert opened(tmp_path, "meta-llama").files == ("consolidated.00.pth", "consolidated.01.pth")
    assert list(opened(tmp_path, "safetensors").tensors) == ["a"]
    error = refused(tmp_path)
    assert error.code == "mixed-formats"
    assert "consolidated.00.pth (meta-llama), model.safetensors" in error.message


def test_one_of_the_files_by_itself_is_a_torch_file(tmp_path):
    write_meta(tmp_path, make_meta(), 2)
    name = "consolidated.01.pth"
    checkpoint = open_checkpoint({name: tmp_path / name}, "base", joined=False)
    assert checkpoint.format == "torch"
    assert "tok_embeddings.weight" in checkpoint.tensors
    assert "output.weight" in open_checkpoint({name: tmp_path / name}, "base", "torch").tensors


def test_asking_for_the_format_without_such_files_is_refused(tmp_path):
    write_torch_zip(tmp_path / "pytorch_model.bin", {"a": np.zeros(2, np.float16)})
    with pytest.raises(InvalidInput) as caught:
        opened(tmp_path, "meta-llama")
    error = caught.value
    assert (error.code, error.where) == ("no-weights", "base")
    assert error.expected == "consolidated.00.pth and params.json"


def test_a_missing_params_file_is_named(tmp_path):
    write_meta(tmp_path, make_meta(), 2)
    (tmp_path / "params.json").unlink()
    error = refused(tmp_path)
    assert error.code == "meta-params-missing"
    assert "params.json is not" in error.message


@pytest.mark.parametrize(
    ("gone", "listed"),
    [("consolidated.01.pth", "meta-files"), ("consolidated.00.pth", "meta-files")],
)
def test_a_gap_in_the_numbers_is_named(tmp_path, gone, listed):
    write_meta(tmp_path, make_meta(), 4)
    (tmp_path / gone).unlink()
    error = refused(tmp_path)
    assert error.code == listed
    assert f"{gone} is not" in error.message


@pytest.mark.parametrize(("files", "left"), [(2, 1), (4, 2), (8, 3)])
def test_a_missing_last_file_is_seen_by_the_shapes(tmp_path, files, left):
    write_meta(tmp_path, make_meta(), files)
    for i in range(left, files):
        (tmp_path / f"consolidated.{i:02}.pth").unlink()
    error = refused(tmp_path)
    assert error.code == "meta-files"
    assert error.expected == f"consolidated.00.pth to consolidated.{files - 1:02}.pth"


def test_a_surplus_file_is_refused(tmp_path):
    write_meta(tmp_path, make_meta(), 1)
    data = (tmp_path / "consolidated.00.pth").read_bytes()
    (tmp_path / "consolidated.01.pth").write_bytes(data)
    error = refused(tmp_path)
    assert (error.code, error.expected) == ("meta-files", "consolidated.00.pth alone")


def test_parts_in_two_folders_are_refused(tmp_path):
    for folder in ("7B", "13B"):
        write_meta(tmp_path / folder, make_meta(), 1)
    names = [f"{folder}/{n}" for folder in ("7B", "13B") for n in ("params.json", "x")]
    names += ["7B/consolidated.00.pth", "13B/consolidated.00.pth"]
    with pytest.raises(InvalidInput) as caught:
        open_checkpoint({n: tmp_path / n for n in names}, "base")
    assert caught.value.code == "meta-files"


# What is wrong in them

Change = Callable[[list[dict[str, Any]], dict[str, Any]], None]


def _params(**changes: object) -> Change:
    return lambda parts, params: params.update(changes)


def _drop(key: str) -> Change:
    return lambda parts, params: params.pop(key)


def _rename(old: str, new: str) -> Change:
    def change(parts: list[dict[str, Any]], params: dict[str, Any]) -> None:
        parts[1][new] = parts[1].pop(old)

    return change


def _replace(name: str, make: Callable[[NDArray[Any]], NDArray[Any]], part: int = 1) -> Change:
    def change(parts: list[dict[str, Any]], params: dict[str, Any]) -> None:
        parts[part][name] = make(parts[part][name])

    return change


def _flip(array: NDArray[Any]) -> NDArray[Any]:
    bits = array.copy().view("u2")
    bits[-1] ^= 1
    return bits.view("f2")


WQ = "layers.0.attention.wq.weight"
CASES = {
    "another_dim": (_params(dim=128), "meta-shape"),
    "another_number_of_layers": (_params(n_layers=3), "meta-tensor-missing"),
    "a_vast_number_of_layers": (_params(n_layers=2**31 - 1), "meta-tensor-missing"),
    "another_vocabulary": (_params(vocab_size=32000), "meta-shape"),
    "grouped_heads_that_are_not": (_params(n_kv_heads=4), "meta-shape"),
    "another_number_of_heads": (_params(n_heads=16), "meta-shape"),
    "heads_that_cannot_be_dealt": (_params(n_heads=1), "meta-files"),
    "keys_that_cannot_be_dealt": (_params(n_kv_heads=1), "meta-files"),
    "heads_that_do_not_divide": (_params(n_heads=7), "meta-params"),
    "keys_that_do_not_divide": (_params(n_kv_heads=3), "meta-params"),
    "odd_heads": (_params(n_heads=64), "meta-params"),
    "no_dim": (_drop("dim"), "meta-params"),
    "no_heads": (_drop("n_heads"), "meta-params"),
    "a_dim_of_zero": (_params(dim=0), "meta-params"),
    "a_negative_number_of_heads": (_params(n_heads=-8), "meta-params"),
    "a_boolean": (_params(n_layers=True), "meta-params"),
    "a_vast_number": (_params(dim=2**63), "meta-params"),
    "a_text": (_params(norm_eps="1e-6"), "meta-params"),
    "a_vocabulary_of_minus_two": (_params(vocab_size=-2), "meta-params"),
    "an_unknown_tensor": (_rename(WQ, "layers.0.attention.wz.weight"), "meta-tensor-unknown"),
    "a_layer_with_a_leading_zero": (_rename(WQ, "layers.00.attention.wq.weight"),
                                    "meta-tensor-unknown"),
    "a_missing_tensor": (lambda parts, params: parts[1].pop(WQ), "meta-tensor-missing"),
    "a_missing_top_tensor": (
        lambda parts, params: parts[0].pop("output.weight"), "meta-tensor-missing"),
    "a_missing_layer": (
        lambda parts, params: [parts[1].pop(n) for n in [*parts[1]] if n.startswith("layers.1")],
        "meta-tensor-missing"),
    "a_part_of_another_shape": (_replace(WQ, lambda a: a[:-1]), "meta-shape"),
    "a_vector_for_a_matrix": (_replace(WQ, np.ravel, 0), "meta-shape"),
    "an_empty_matrix": (_replace(WQ, lambda a: a[:0], 0), "meta-shape"),
    "a_vocabulary_that_cannot_be_dealt": (
        _replace("tok_embeddings.weight", lambda a: a[:-1], 0), "meta-shape"),
    "another_type": (_replace(WQ, lambda a: a.astype("f4")), "meta-dtype"),
    "another_norm": (_replace("norm.weight", _flip), "meta-norms-differ"),
    "another_norm_of_a_layer": (_replace("layers.1.ffn_norm.weight", _flip), "meta-norms-differ"),
    "another_type_of_norm": (
        _replace("norm.weight", lambda a: a.astype("f4")), "meta-norms-differ"),
    "a_long_norm": (_replace("norm.weight", lambda a: np.resize(a, 65)), "meta-shape"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "code"), CASES.values(), ids=CASES)
def test_what_does_not_fit_is_one_error(tmp_path, change, code):
    model = make_meta()
    parts, params = cut(model, 2), dict(model.params)
    change(parts, params)
    for i, part in enumerate(parts):
        write_torch_zip(tmp_path / f"consolidated.{i:02}.pth", part)
    (tmp_path / "params.json").write_text(json.dumps(params))
    assert refused(tmp_path).code == code


@settings(deadline=None)
@given(
    params=st.dictionaries(
        st.sampled_from(["dim", "n_layers", "n_heads", "n_kv_heads", "norm_eps", "vocab_size"]),
        st.sampled_from([64, 2, 8, 1, 4, 16, 320, 0, -1, 2**40, 1e-5, None, True, "8", [8], {}]),
    )
)
def test_any_numbers_are_those_of_the_model_or_one_error(params, tmp_path_factory):
    """All others are taken from the model's own, so that many get as far as the shapes."""
    directory = tmp_path_factory.mktemp("any")
    model = make_meta(layers=1)
    write_meta(directory, model, 2, params={**model.params, **params})
    try:
        checkpoint = opened(directory)
    except InvalidInput as error:
        assert error.code.startswith("meta-") and error.message.isprintable()
    else:
        assert {n: t.shape for n, t in checkpoint.tensors.items()} == {
            n: v.shape for n, v in hugging_face(model).items()
        }


@pytest.mark.parametrize("text", ["", "[]", "{", '{"dim": 1, "dim": 2}', "null", '{"dim": NaN}'])
def test_a_params_file_that_is_no_object_is_refused(tmp_path, text):
    write_meta(tmp_path, make_meta(), 1)
    (tmp_path / "params.json").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        opened(tmp_path)
    assert (caught.value.code, caught.value.where) == ("meta-params", "params.json")


def test_case_32_a_pointer_for_a_file_is_called_by_its_name(tmp_path):
    write_meta(tmp_path, make_meta(), 2)
    for name in ("params.json", "consolidated.01.pth"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        assert refused(tmp_path).code == "git-lfs-pointer"
        (tmp_path / name).write_bytes(whole)


def test_norms_that_a_file_only_pretends_to_have_are_not_read(tmp_path):
    """A view with a stride of 0 makes a vast vector of one element."""
    names = {
        "tok_embeddings": (2, 1 << 29),
        "norm": (1 << 30,),
        "output": (1, 1 << 30),
        "layers.0.attention.wq": (1 << 29, 1 << 30),
        "layers.0.attention.wk": (1 << 29, 1 << 30),
        "layers.0.attention.wv": (1 << 29, 1 << 30),
        "layers.0.attention.wo": (1 << 30, 1 << 29),
        "layers.0.feed_forward.w1": (1, 1 << 30),
        "layers.0.feed_forward.w2": (1 << 30, 1),
        "layers.0.feed_forward.w3": (1, 1 << 30),
        "layers.0.attention_norm": (1 << 30,),
        "layers.0.ffn_norm": (1 << 30,),
    }
    pickle = PickleWriter().raw(b"}").put().raw(b"(")
    for name, shape in names.items():
        pickle.text(f"{name}.weight")
        pickle.tensor("HalfStorage", "0", 1, shape, strides=[0] * len(shape))
    data = zip_bytes(pickle.raw(b"u").done(), {"0": b"\0\0"})
    for i in range(2):
        (tmp_path / f"consolidated.{i:02}.pth").write_bytes(data)
    params = {"dim": 1 << 30, "n_layers": 1, "n_heads": 8}
    (tmp_path / "params.json").write_text(json.dumps(params))
    error = refused(tmp_path)
    assert (error.code, "plain vectors" in error.message) == ("meta-shape", True)
