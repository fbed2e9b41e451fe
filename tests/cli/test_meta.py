"""plan and inspect of Meta's files, and inspect of what a trainer leaves, as a user sees them."""

import json
import re

import numpy as np
import pytest

from tests.support.builds import write_safetensors
from tests.support.commands import weights_digest
from tests.support.meta_files import hugging_face, make_meta, write_meta
from tests.support.torch_files import write_torch_zip


@pytest.fixture
def meta(job, vb):
    """The job with a base of Meta's in two files, and a delta for it."""
    model = make_meta(kv_heads=4)
    job.delta = {name: values * 0 for name, values in hugging_face(model).items()}
    job.rules = '[apply]\npreset = "fastchat-v1.1"'
    job.write()
    for old in (job.root / "base").iterdir():
        old.unlink()
    write_meta(job.root / "base", model, 2)
    job.pin()
    return model


def test_a_plan_says_what_the_sides_are_and_what_is_joined(meta, vb):
    ran = vb("plan", "manifest.toml")
    assert (ran.status, ran.err) == (0, "")
    assert re.search(r"\n  base +meta-llama, 21 tensors, 16 of them joined from 2 files\n", ran.out)
    assert re.search(r"\n  delta +safetensors, 21 tensors\n", ran.out)
    found = json.loads(vb("plan", "manifest.toml", "--json").out)
    assert found["checkpoints"] == [
        {"name": "base", "format": "meta-llama", "tensors": 21, "joined": 16},
        {"name": "delta", "format": "safetensors", "tensors": 21, "joined": 0},
    ]


def test_a_base_of_another_size_is_called_that(meta, vb, job):
    write_meta(job.root / "base", make_meta(dim=128, kv_heads=4), 2)
    job.pin()
    ran = vb("plan", "manifest.toml")
    assert ran.status == 2
    assert "the base has shape [320, 128] and the delta has [320, 64]" in ran.err
    assert "probably not the one that the delta was made for" in ran.err


def test_inspect_shows_one_model_under_hugging_faces_names(meta, vb):
    ran = vb("inspect", "base")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("base: meta-llama, 2 files, 21 tensors, ")
    assert re.search(
        r"lm_head.weight .* joined by rows .* consolidated.00.pth and 1 other", ran.out
    )
    assert re.search(r"o_proj.weight .* joined by columns .* consolidated.00.pth and 1", ran.out)
    assert re.search(r"model.norm.weight +F16 +\[64\] +128 +\d+ +consolidated.00.pth\n", ran.out)


def test_the_parts_in_json_are_where_the_values_lie(meta, vb, job):
    """Read by numpy from what the document says, nothing else."""
    found = json.loads(vb("inspect", "base", "--json").out)
    expected = hugging_face(meta)
    for tensor in found["tensors"]:
        pieces = []
        for part in tensor["parts"] or [tensor]:
            data = (job.root / "base" / part["file"]).read_bytes()
            strides = [2 * step for step in part["strides"]]
            view = np.ndarray(part["dims"], "<f2", data, part["offset"], strides)
            pieces.append(view.reshape(part["shape"]))
        whole = np.concatenate(pieces, tensor["axis"] or 0)
        assert whole.tobytes() == expected[tensor["name"]].tobytes(), tensor["name"]
        assert list(whole.shape) == tensor["shape"]


def test_the_weights_digest_is_that_of_the_converted_tensors(meta, vb):
    assert vb("inspect", "base", "--weights-digest").out.split() == [
        weights_digest(hugging_face(meta))
    ]


def test_one_of_the_files_is_shown_as_it_is(meta, vb):
    ran = vb("inspect", "base/consolidated.01.pth")
    assert ran.status == 0
    assert "tok_embeddings.weight" in ran.out and ": torch, 1 file" in ran.out


def test_a_directory_without_the_parameters_is_refused(meta, vb, job):
    (job.root / "base/params.json").unlink()
    ran = vb("inspect", "base")
    assert ran.status == 2
    assert "params.json is not" in ran.err


@pytest.mark.parametrize("name", ["training_args.bin", "optimizer.pt", "rng_state_0.pth"])
def test_inspect_passes_over_what_a_trainer_leaves_beside_the_weights(tmp_path, vb, name):
    directory = tmp_path / "checkpoint-100"
    directory.mkdir()
    tensors = {"a.weight": np.ones((2, 3), np.float16)}
    (directory / name).write_bytes(b"\x80\x02cargparse\nNamespace\n)R.")
    write_torch_zip(directory / "pytorch_model.bin", tensors)
    ran = vb("inspect", directory, "--weights-digest")
    assert (ran.status, ran.out.split()) == (0, [weights_digest(tensors)])
    assert vb("inspect", directory / name).status == 2
    (directory / "pytorch_model.bin").unlink()
    write_safetensors(directory / "model.safetensors", tensors)
    assert vb("inspect", directory, "--weights-digest").out == ran.out


def test_a_directory_with_nothing_but_a_trainers_state_has_no_weights(tmp_path, vb):
    (tmp_path / "optimizer.pt").write_bytes(b"")
    ran = vb("inspect", tmp_path)
    assert ran.status == 2
    assert "no tensors among the files" in ran.err
