"""OpenAssistant's payloads: XOR of whole container files, whatever is in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import vbuild
from tests.presets.field import llama, write_bin
from vbuild.errors import InvalidInput, Mismatch, NotLocked
from vbuild.report.apply import opening
from vbuild.report.lines import render

NAMES = ("config.json", "part-1.bin", "tokenizer.model")


def codec(payload: bytes, base: bytes) -> bytes:
    """xor_codec's rule: the base is cut, or filled with zeros, to the payload's length."""
    whole = np.zeros(len(payload), np.uint8)
    cut = np.frombuffer(base[: len(payload)], np.uint8)
    whole[: len(cut)] = cut
    return (whole ^ np.frombuffer(payload, np.uint8)).tobytes()


def numbers(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def write(root, base, payload):
    for side, files in (("base", base), ("payload", payload)):
        (root / side).mkdir()
        for name, data in files.items():
            (root / side / name).write_bytes(data)


def manifest(root, payload, base=None, *, apply="", output="", base_extra=""):
    def listed(names):
        return "".join(f'"{name}" = {{}}\n' for name in names)

    path = root / "manifest.toml"
    path.write_text(
        'schema = "vbuild/1"\nname = "oasst"\n[base]\nuri = "file:base"\n[base.files]\n'
        f"{listed(payload if base is None else base)}{base_extra}\n"
        f'[[delta]]\nuri = "file:payload"\nkind = "xor-file"\n[delta.files]\n{listed(payload)}\n'
        f'{apply}\n[output]\nformat = "as-is"\n{output}\n'
    )
    return path


def built(path, **options):
    vbuild.lock(path)
    out = path.parent / "out"
    vbuild.apply(path, out=out, unsigned=True, **options)
    return {p.name: p.read_bytes() for p in out.iterdir()}


@pytest.mark.parametrize("sizes", [(5000, 5000), (5000, 3000), (3000, 5000), (5000, 0), (0, 5000)])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_is_the_payload_xor_the_base_of_its_length(tmp_path, sizes, jobs):
    payload = {name: numbers(i, sizes[0] + i) for i, name in enumerate(NAMES)}
    base = {name: numbers(i + 9, sizes[1]) for i, name in enumerate(NAMES)}
    write(tmp_path, base, payload)
    made = built(manifest(tmp_path, NAMES), jobs=jobs)
    assert made == {name: codec(payload[name], base[name]) for name in NAMES}


def test_the_preset_may_be_named_and_is_shown(tmp_path):
    write(tmp_path, {"a.bin": b"12345"}, {"a.bin": b"abc"})
    path = manifest(tmp_path, ["a.bin"], apply='[apply]\npreset = "oasst-xor"\n')
    assert built(path) == {"a.bin": codec(b"abc", b"12345")}
    rules = vbuild.plan(path, out=tmp_path / "x").prepared.loaded.rules_for(0)
    assert [rule.op for rule in rules] == ["xor"]


def test_what_is_going_to_be_built_is_said_in_files(tmp_path):
    write(tmp_path, {"a.bin": b"12345"}, {"a.bin": b"abc"})
    path = manifest(tmp_path, ["a.bin"])
    vbuild.lock(path)
    first = next(opening(vbuild.plan(path, out=tmp_path / "x").prepared, Path("out")))
    assert render(first) == "building oasst: 1 file, 3 B, into out"


def test_the_base_s_other_files_are_verified_and_nothing_else(tmp_path):
    write(tmp_path, {"a.bin": b"12345", "more.bin": b"more"}, {"a.bin": b"abcde"})
    path = manifest(tmp_path, ["a.bin"], ["a.bin", "more.bin"])
    assert list(built(path)) == ["a.bin"]
    (tmp_path / "base" / "more.bin").write_bytes(b"MORE")
    with pytest.raises(Mismatch) as caught:
        vbuild.apply(path, out=tmp_path / "again", unsigned=True)
    assert caught.value.where == "base/more.bin"
    assert not (tmp_path / "again").exists()


def test_a_base_that_is_not_the_pinned_one_makes_nothing(tmp_path):
    write(tmp_path, {"a.bin": b"12345"}, {"a.bin": b"abcde"})
    path = manifest(tmp_path, ["a.bin"])
    vbuild.lock(path)
    (tmp_path / "base" / "a.bin").write_bytes(b"12346")
    with pytest.raises(Mismatch) as caught:
        vbuild.apply(path, out=tmp_path / "out", unsigned=True)
    assert caught.value.code == "digest-mismatch"
    assert not (tmp_path / "out").exists()


def test_the_output_is_signed_and_summed_like_any_other(tmp_path):
    write(tmp_path, {"a.bin": b"12345"}, {"a.bin": b"abcde"})
    vbuild.lock(manifest(tmp_path, ["a.bin"]))
    vbuild.keygen(tmp_path / "key")
    out = tmp_path / "out"
    vbuild.apply(tmp_path / "manifest.toml", out=out, key=tmp_path / "key")
    assert sorted(p.name for p in out.iterdir()) == ["a.bin", "model.sig"]
    digest = hashlib.sha256(codec(b"abcde", b"12345")).hexdigest()
    assert (tmp_path / "out.attest" / "SHA256SUMS").read_text() == f"{digest}  a.bin\n"


def test_a_payload_without_a_base_is_an_error_that_says_what_to_do(tmp_path):
    write(tmp_path, {"a.bin": b"1"}, {"a.bin": b"a", "added_tokens.json": b"{}"})
    path = manifest(tmp_path, ["a.bin", "added_tokens.json"], ["a.bin"])
    with pytest.raises(InvalidInput) as caught:
        vbuild.lock(path)
    assert caught.value.code == "no-base-file"
    assert "[delta.files]" in str(caught.value.hint)


def test_lock_does_not_guess_which_files_are_payload(tmp_path):
    write(tmp_path, {"a.bin": b"1"}, {"a.bin": b"a"})
    path = manifest(tmp_path, ["a.bin"])
    text = path.read_text().replace('[delta.files]\n"a.bin" = {}\n', "")
    path.write_text(text)
    with pytest.raises(NotLocked):
        vbuild.apply(path, out=tmp_path / "out", unsigned=True)
    with pytest.raises(InvalidInput) as caught:
        vbuild.lock(path)
    assert caught.value.code == "weights-unclear"
    assert "list them" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"output": 'dtype = "float16"'}, "no-effect"),
        ({"output": 'max_shard_size = "5GB"'}, "no-effect"),
        ({"output": 'nonfinite = "allow"'}, "no-effect"),
        ({"output": f'weights = "{"0" * 64}"'}, "no-effect"),
        ({"output": 'copy = ["a.bin"]'}, "no-effect"),
        ({"output": '[config]\nsource = "base"'}, "no-effect"),
        ({"output": '[tokenizer]\nsource = "base"'}, "no-effect"),
        ({"apply": '[[apply.rule]]\nmatch = "*"\nop = "xor"\n'}, "no-effect"),
        ({"apply": '[apply]\npreset = "fastchat-v0"\n'}, "wrong-preset"),
    ],
)
def test_what_concerns_tensors_has_no_place_here(tmp_path, changes, code):
    with pytest.raises(InvalidInput) as caught:
        vbuild.lock(manifest(tmp_path, ["a.bin"], **changes))
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["model.sig", "dir/a.bin", ".gitattributes"])
def test_the_names_are_those_of_outputs_in_one_directory(tmp_path, name):
    with pytest.raises(InvalidInput) as caught:
        vbuild.lock(manifest(tmp_path, [name]))
    assert caught.value.code == "bad-path"


def test_the_kind_and_the_format_need_each_other(tmp_path):
    text = manifest(tmp_path, ["a.bin"]).read_text()
    for old, new in (
        ('format = "as-is"', ""),
        ('kind = "xor-file"', 'preset = "fastchat-v0"'),
        ("[output]", '[[delta]]\nuri = "file:more"\nkind = "xor-file"\n[output]'),
    ):
        (tmp_path / "manifest.toml").write_text(text.replace(old, new))
        with pytest.raises(InvalidInput) as caught:
            vbuild.lock(tmp_path / "manifest.toml")
        assert caught.value.code == "xor-file-output"


@pytest.mark.oracle
def test_a_checkpoint_of_torch_comes_back_to_the_last_byte(tmp_path):
    pytest.importorskip("torch")
    write_bin(tmp_path / "base", llama(1))
    write_bin(tmp_path / "tuned", llama(2))
    names = sorted(p.name for p in (tmp_path / "tuned").iterdir())
    (tmp_path / "payload").mkdir()
    for name in names:
        tuned, base = ((tmp_path / side / name).read_bytes() for side in ("tuned", "base"))
        (tmp_path / "payload" / name).write_bytes(codec(tuned, base))
    made = built(manifest(tmp_path, names))
    assert made == {name: (tmp_path / "tuned" / name).read_bytes() for name in names}
