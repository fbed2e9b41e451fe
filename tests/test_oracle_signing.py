"""The signature of a built model, as the reference implementation of the OMS judges it."""

import shutil
import subprocess
import sys

import pytest

import vbuild
from tests.support.commands import digests
from tests.support.llama import make_base, make_delta_v0, manifest_text

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    pytest.importorskip("model_signing")
    pytest.importorskip("OpenSSL")
    top = tmp_path_factory.mktemp("signed")
    make_delta_v0(top / "delta", make_base(top / "base", hidden=32, layers=1))
    (top / "m.toml").write_text(manifest_text("mini"))
    vbuild.lock(top / "m.toml")
    vbuild.keygen(top / "key.pem")
    vbuild.apply(top / "m.toml", out=top / "out", key=top / "key.pem")
    return top


@pytest.fixture
def model(signed, tmp_path):
    return shutil.copytree(signed / "out", tmp_path / "model")


def accepts(model, key):
    arguments = ["verify", "key", "--signature", model / "model.sig", "--public_key", key, model]
    done = subprocess.run(
        [sys.executable, "-m", "model_signing", *map(str, arguments)],
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_model_signing_accepts_what_apply_publishes(signed):
    assert accepts(signed / "out", signed / "key.pub")


def test_model_signing_rejects_another_key(signed, tmp_path):
    vbuild.keygen(tmp_path / "other.pem")
    assert not accepts(signed / "out", tmp_path / "other.pub")


@pytest.mark.parametrize("pattern", ["*.safetensors", "config.json", "tokenizer.model"])
def test_model_signing_and_vbuild_reject_a_flipped_bit(signed, model, pattern):
    flip(sorted(model.glob(pattern))[0])
    assert not accepts(model, signed / "key.pub")
    assert not vbuild.verify(model, key=[signed / "key.pub"]).ok


def test_model_signing_and_vbuild_reject_a_missing_and_an_extra_file(signed, model):
    (model / "tokenizer_config.json").rename(model / "renamed.json")
    assert not accepts(model, signed / "key.pub")
    assert not vbuild.verify(model, key=[signed / "key.pub"]).ok
    (model / "renamed.json").rename(model / "tokenizer_config.json")
    assert accepts(model, signed / "key.pub")
    assert vbuild.verify(model, key=[signed / "key.pub"]).ok


def test_vbuild_accepts_what_model_signing_signs(signed, model):
    (model / "model.sig").unlink()
    arguments = ["--private_key", signed / "key.pem", "--signature", model / "model.sig", model]
    subprocess.run(
        [sys.executable, "-m", "model_signing", "sign", "key", *map(str, arguments)],
        capture_output=True,
        check=True,
    )
    verdict = vbuild.verify(model, key=[signed / "key.pub"])
    assert verdict.ok, verdict.problem
    assert {f.name: f.expected for f in verdict.files} == digests(model)
