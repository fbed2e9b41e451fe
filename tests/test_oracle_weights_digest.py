"""One weights digest, whatever torch or safetensors have put the tensors into."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.commands import weights_digest
from vbuild import diff, inspect

pytestmark = pytest.mark.oracle
torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file


@pytest.fixture(scope="module")
def tensors():
    made = torch.Generator().manual_seed(1)
    return {
        f"model.layers.{i}.{name}": torch.randn(shape, generator=made).to(torch.float16)
        for i in range(5)
        for name, shape in (("w", (7, 12)), ("norm", (12,)), ("cube", (2, 3, 4)))
    }


@pytest.fixture(scope="module")
def expected(tensors):
    """By hashlib alone, from the definition."""
    return weights_digest({name: np.asarray(t) for name, t in tensors.items()})


def strided(tensors):
    """The same values as views: transposed, with gaps, and slices of one storage."""
    views = {}
    shared = torch.cat([t.flatten() for t in tensors.values()])
    at = 0
    for i, (name, tensor) in enumerate(tensors.items()):
        flat = shared[at : at + tensor.numel()].view(tensor.shape)
        at += tensor.numel()
        if i % 3 == 0:
            views[name] = flat
        elif i % 3 == 1:
            views[name] = tensor.T.contiguous().T if tensor.dim() == 2 else tensor
        else:
            views[name] = torch.stack([tensor, tensor + 1], dim=-1)[..., 0]
    return views


CASES = ("file", "shards", "zip", "legacy", "strided zip", "strided legacy", "strided shards")


def write(directory, tensors, case):
    directory.mkdir()
    names = sorted(tensors)
    if case == "file":
        save_file(tensors, directory / "model.safetensors")
    elif case == "shards":
        for i in range(7):
            part = {n: tensors[n] for n in names[i::7]}
            save_file(part, directory / f"model-{i + 1:05}-of-00007.safetensors")
    else:
        held = strided(tensors) if "strided" in case else tensors
        groups = [names[i::4] for i in range(4)] if "shards" in case else [names]
        for i, group in enumerate(groups):
            name = f"pytorch_model-{i + 1:05}-of-{len(groups):05}.bin"
            new = "legacy" not in case
            torch.save(
                {n: held[n] for n in group}, directory / name, _use_new_zipfile_serialization=new
            )


@pytest.mark.parametrize("case", CASES)
def test_the_digest_is_that_of_the_tensors(tmp_path, tensors, expected, case):
    write(tmp_path / "model", tensors, case)
    assert inspect(tmp_path / "model", weights_digest=True).weights == expected


@pytest.mark.parametrize("case", CASES)
def test_a_diff_sees_no_difference_and_the_same_digests(tmp_path, tensors, expected, case):
    write(tmp_path / "a", tensors, "file")
    write(tmp_path / "b", tensors, case)
    found = diff(tmp_path / "a", tmp_path / "b", weights_digest=True)
    assert found.same
    assert found.weights == (expected, expected)


@pytest.mark.parametrize("case", CASES)
def test_a_diff_finds_the_one_element_that_torch_has_changed(tmp_path, tensors, case):
    write(tmp_path / "a", tensors, "file")
    name = "model.layers.3.cube"
    changed = {**tensors, name: tensors[name].clone()}
    changed[name][1, 2, 0] += 1
    write(tmp_path / "b", changed, case)
    (pair,) = [p for p in diff(tmp_path / "a", tmp_path / "b").comparison.pairs if p.differing]
    assert (pair.name, pair.measured.differing, pair.measured.first) == (name, 1, 20)
    apart = (changed[name][1, 2, 0].double() - tensors[name][1, 2, 0].double()).abs().item()
    assert pair.measured.max_abs == apart
