"""vbuild.formats: telling containers apart, and joining files into a checkpoint."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

from vbuild.errors import InvalidInput, Unavailable, VbuildError
from vbuild.files import InputFile
from vbuild.formats import Checkpoint, open_checkpoint
from vbuild.formats.index import index_json
from vbuild.formats.registry import FORMATS, format_named, format_of
from vbuild.formats.safetensors import header
from vbuild.tensors import DType, TensorSpec, contiguous_strides

INDEX = "model.safetensors.index.json"
ZIP = b"PK\x03\x04\x00\x00\x08\x08"
LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def shard(*names: str) -> bytes:
    """A safetensors file of F16 tensors of shape (2,)."""
    return header([(name, DType.F16, (2,)) for name in names]) + b"\0" * 4 * len(names)


def put(folder: Path, contents: Mapping[str, bytes]) -> dict[str, Path]:
    """Write ``contents`` under ``folder``; the files as :func:`open_checkpoint` takes them."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def opened(folder: Path, contents: Mapping[str, bytes], format: str = "auto") -> Checkpoint:
    return open_checkpoint(put(folder, contents), "base", format)


def refused(folder: Path, contents: Mapping[str, bytes], format: str = "auto") -> VbuildError:
    """The error for ``contents``; one line, exit status 2."""
    with pytest.raises(InvalidInput) as caught:
        opened(folder, contents, format)
    assert caught.value.exit_status == 2
    assert caught.value.message.isprintable()
    return caught.value


@pytest.fixture
def torch_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader in the place of the PyTorch one: ``ZIP``, then lines ``name begin count``."""

    def read_tensors(file: InputFile) -> list[TensorSpec]:
        lines = file.pread(len(ZIP), file.size - len(ZIP)).decode().splitlines()
        rows = [line.split() for line in lines]
        return [
            TensorSpec(n, DType.F16, (int(c),), file.name, int(b), contiguous_strides((int(c),)))
            for n, b, c in rows
        ]

    module = ModuleType("vbuild.formats.torch")
    module.__dict__.update(sniff=lambda head: head[:4] == ZIP[:4], read_tensors=read_tensors)
    monkeypatch.setitem(sys.modules, "vbuild.formats.torch", module)


def test_a_single_file_is_a_checkpoint(tmp_path: Path) -> None:
    content = shard("b", "a", "é", "Z")
    checkpoint = opened(
        tmp_path, {"model.safetensors": content, "config.json": b"{", "tokenizer.model": b"\0"}
    )
    assert list(checkpoint.tensors) == ["Z", "a", "b", "é"]
    assert checkpoint.tensors["a"].file == "model.safetensors"
    assert checkpoint.files == ("model.safetensors",)
    assert checkpoint.format == "safetensors"
    assert list(checkpoint.headers) == list(checkpoint.identities) == ["model.safetensors"]
    assert checkpoint.identities["model.safetensors"].size == len(content)
    ((offset, data),) = checkpoint.headers["model.safetensors"]
    assert content[offset:].startswith(data)


def test_files_without_an_index_are_united(tmp_path: Path) -> None:
    contents = {"y/2.safetensors": shard("a"), "1.safetensors": shard("b", "c")}
    checkpoint = opened(tmp_path, contents)
    assert checkpoint.files == ("1.safetensors", "y/2.safetensors")
    assert {name: t.file for name, t in checkpoint.tensors.items()} == {
        "a": "y/2.safetensors",
        "b": "1.safetensors",
        "c": "1.safetensors",
    }


def test_a_name_in_two_files_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, {"2.safetensors": shard("a"), "1.safetensors": shard("a")})
    assert error.code == "duplicate-tensor"
    assert error.message == '2.safetensors: tensor "a" is in 1.safetensors too'


def test_the_order_of_the_mapping_does_not_matter(tmp_path: Path) -> None:
    files = put(tmp_path, {f"{i}.safetensors": shard(f"t{9 - i}") for i in range(5)})
    backwards = dict(reversed(files.items()))
    one, other = open_checkpoint(files, "base"), open_checkpoint(backwards, "base")
    assert one == other
    assert list(one.tensors) == list(other.tensors)


SHARDED = {
    "1.safetensors": shard("a", "b"),
    "2.safetensors": shard("c"),
    INDEX: index_json({"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}, 12),
}


@pytest.mark.parametrize("folder", ["", "fp16/"])
def test_an_index_that_agrees_is_accepted_and_remembered(tmp_path: Path, folder: str) -> None:
    contents = {folder + name: content for name, content in SHARDED.items()}
    checkpoint = opened(tmp_path, contents)
    assert list(checkpoint.tensors) == ["a", "b", "c"]
    assert checkpoint.files == (f"{folder}1.safetensors", f"{folder}2.safetensors")
    assert checkpoint.headers[folder + INDEX] == ((0, SHARDED[INDEX]),)
    assert sorted(checkpoint.identities) == sorted(contents)


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        pytest.param(
            {"2.safetensors": None}, "index-shard-missing", INDEX, id="case_47_missing_shard"
        ),
        pytest.param(
            {"3.safetensors": shard("d")},
            "index-shard-extra",
            "3.safetensors",
            id="case_47_extra_shard",
        ),
        pytest.param(
            {INDEX: index_json({"a": "../1.safetensors"}, 4)},
            "index-shard-name",
            INDEX,
            id="case_47_shard_above",
        ),
        pytest.param(
            {"2.safetensors": shard("b", "c")},
            "duplicate-tensor",
            "2.safetensors",
            id="case_47_in_two_shards",
        ),
        pytest.param(
            {"1.safetensors": shard("a")}, "index-tensor-missing", INDEX, id="case_47_in_none"
        ),
        pytest.param(
            {"1.safetensors": shard("a"), "2.safetensors": shard("b", "c")},
            "index-tensor-shard",
            INDEX,
            id="case_47_in_another_shard",
        ),
        pytest.param(
            {"2.safetensors": shard("c", "d")},
            "index-tensor-extra",
            "2.safetensors",
            id="case_47_not_in_the_index",
        ),
        pytest.param(
            {INDEX: SHARDED[INDEX].replace(b"12", b"13")},
            "index-total-size",
            INDEX,
            id="case_47_wrong_total",
        ),
        pytest.param(
            {"other.index.json": SHARDED[INDEX]}, "several-indexes", "base", id="two_indexes"
        ),
    ],
)
def test_an_index_that_disagrees_is_refused(
    tmp_path: Path, change: dict[str, bytes | None], code: str, where: str
) -> None:
    contents = {n: c for n, c in {**SHARDED, **change}.items() if c is not None}
    error = refused(tmp_path, contents)
    assert error.code == code
    assert error.message.startswith(f"{where}: ")


def test_a_vast_index_is_refused(tmp_path: Path) -> None:
    files = put(tmp_path, SHARDED)
    os.truncate(files[INDEX], 1 << 40)
    with pytest.raises(InvalidInput) as caught:
        open_checkpoint(files, "base")
    assert caught.value.code == "file-too-large"


@pytest.mark.parametrize("contents", [{}, {"config.json": b"{}"}, {"a.safetensors": shard()}])
def test_no_tensors_at_all_is_refused(tmp_path: Path, contents: dict[str, bytes]) -> None:
    for format in ("auto", "safetensors"):
        error = refused(tmp_path, contents, format)
        assert (error.code, error.where) == ("no-weights", "base")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, {"m.safetensors": shard("a")}, "onnx")
    assert error.code == "unknown-format"
    assert error.expected == "auto, meta-llama, safetensors, torch"


def test_case_16_a_missing_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        open_checkpoint({"m.safetensors": tmp_path / "gone"}, "base")
    assert (caught.value.code, caught.value.where) == ("file-missing", "m.safetensors")


def test_case_20_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.safetensors")
    with pytest.raises(InvalidInput) as caught:
        open_checkpoint({"m.safetensors": tmp_path / "m.safetensors"}, "base")
    assert caught.value.code == "not-a-file"


@pytest.mark.usefixtures("torch_reader")
class TestFormats:
    MIXED = (
        ("pytorch_model.bin", ZIP + b"b 8 2\n"),
        ("pytorch_model.bin.index.json", index_json({"b": "pytorch_model.bin"}, 4)),
        ("model.safetensors", shard("a")),
        (INDEX, index_json({"a": "model.safetensors"}, 4)),
    )

    def test_mixed_formats_are_refused(self, tmp_path: Path) -> None:
        error = refused(tmp_path, dict(self.MIXED))
        assert error.code == "mixed-formats"
        assert "model.safetensors (safetensors), pytorch_model.bin (torch)" in error.message

    def test_the_format_decides_which_files_count(self, tmp_path: Path) -> None:
        one = opened(tmp_path, dict(self.MIXED), "safetensors")
        assert (list(one.tensors), one.files) == (["a"], ("model.safetensors",))
        other = opened(tmp_path, dict(self.MIXED), "torch")
        assert (list(other.tensors), other.files) == (["b"], ("pytorch_model.bin",))
        assert (one.format, other.format) == ("safetensors", "torch")

    def test_an_asked_format_that_no_file_has_is_refused(self, tmp_path: Path) -> None:
        error = refused(tmp_path, {"m.safetensors": shard("a")}, "torch")
        assert error.code == "no-weights"
        assert error.expected == "files of .bin, .pt, .pth"

    def test_an_index_of_the_asked_format_must_agree(self, tmp_path: Path) -> None:
        contents = dict(self.MIXED) | {INDEX: index_json({"a": "gone.safetensors"}, 4)}
        assert refused(tmp_path, contents, "safetensors").code == "index-shard-missing"

    def test_content_decides_not_the_suffix(self, tmp_path: Path) -> None:
        assert opened(tmp_path, {"m.bin": shard("a")}).format == "safetensors"
        assert opened(tmp_path, {"m.safetensors": ZIP + b"a 0 1\n"}).format == "torch"

    def test_tensors_that_share_bytes_may_count_once(self, tmp_path: Path) -> None:
        tied = ZIP + b"a 8 100\nb 8 100\n"
        for total in (200, 400):
            index = index_json({"a": "m.bin", "b": "m.bin"}, total)
            checkpoint = opened(tmp_path, {"m.bin": tied, "m.bin.index.json": index})
            assert list(checkpoint.tensors) == ["a", "b"]
        index = index_json({"a": "m.bin", "b": "m.bin"}, 300)
        error = refused(tmp_path, {"m.bin": tied, "m.bin.index.json": index})
        assert error.code == "index-total-size"


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        pytest.param(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "git-lfs-pointer",
            "Git-LFS pointer",
            id="case_32_pointer",
        ),
        pytest.param(b"<!DOCTYPE html>\n<html>", "html-page", "HTML", id="case_33_html"),
        pytest.param(b"\xef\xbb\xbf\n <html>", "html-page", "HTML", id="case_33_html_after_bom"),
        pytest.param(b"<?xml version='1.0'?><Error/>", "html-page", "XML", id="case_33_xml"),
        pytest.param(b'{"error":"Repository not found"}', "json-page", "JSON", id="case_33_json"),
        pytest.param(b' {\n  "error": "\xc3\xa9"}', "json-page", "JSON", id="case_33_json_spaced"),
        pytest.param(b"[]", "json-page", "JSON", id="case_33_json_list"),
        pytest.param(b"Invalid username or password.", "text-page", "text", id="case_33_text"),
        pytest.param(b"GGUF\x03\0\0\0\0\0\0\0", "gguf-input", "GGUF", id="gguf"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_what_is_not_weights_is_called_by_its_name(
    tmp_path: Path, name: str, content: bytes, code: str, message: str
) -> None:
    error = refused(tmp_path, {name: content})
    assert error.code == code
    assert error.message.startswith(f"{name}: ")
    assert message in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", "safetensors-truncated", id="case_34_empty"),
        pytest.param(b"\0" * 64, "safetensors-header-size", id="case_35_zeros"),
        pytest.param(b"\xff" * 8 + b"{}", "safetensors-header-size", id="case_35_vast"),
        pytest.param(b"<\0\0\0\0\0\0\0[", "safetensors-header-size", id="length_like_markup"),
        pytest.param(struct.pack("<Q", 3) + b" {}", "safetensors-header", id="case_36_space"),
    ],
)
def test_a_damaged_file_goes_to_the_reader_that_its_suffix_names(
    tmp_path: Path, content: bytes, code: str
) -> None:
    error = refused(tmp_path, {"x.safetensors": content})
    assert error.code == code
    assert error.message.startswith("x.safetensors: ")


def test_case_89_control_characters_in_names_are_escaped(tmp_path: Path) -> None:
    name = "\x1b[2J\u202e.safetensors"
    error = refused(tmp_path, {name: b"\0" * 9})
    assert error.message.startswith("\\x1b[2J\\u202e.safetensors: ")


def test_a_file_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\0" * 100)
    with InputFile(tmp_path / "x", "x") as file, pytest.raises(InvalidInput) as caught:
        format_of(file)
    assert caught.value.code == "not-weights"


@pytest.mark.parametrize(("head", "name"), [(ZIP, "torch"), (LEGACY, "torch"), (shard("a"), "s")])
def test_containers_are_told_apart_by_content(tmp_path: Path, head: bytes, name: str) -> None:
    (tmp_path / "x").write_bytes(head)
    with InputFile(tmp_path / "x", "x") as file:
        assert format_of(file).name.startswith(name)


def test_formats_are_listed_in_order_and_found_by_name() -> None:
    names = [fmt.name for fmt in FORMATS]
    assert names == sorted(names)
    assert [format_named(name, "base") for name in names] == list(FORMATS)
    suffixes = [suffix for fmt in FORMATS for suffix in fmt.suffixes]
    assert len(suffixes) == len(set(suffixes))


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_case_88_files_are_opened_one_at_a_time(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    files = put(tmp_path, {f"{i:03}.safetensors": shard(f"t{i}") for i in range(200)})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(p.name) for p in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, before[1]))
    try:
        assert len(open_checkpoint(files, "base").tensors) == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.oracle
def test_what_the_hub_library_saves_is_opened(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    hub = pytest.importorskip("huggingface_hub")
    state = {f"layer.{i}.weight": torch.randn(20, 10 + i).half() for i in range(10)}
    for safe in (True, False):
        folder = tmp_path / str(safe)
        folder.mkdir()
        hub.save_torch_state_dict(state, folder, max_shard_size=1500, safe_serialization=safe)
        files = {path.name: path for path in folder.iterdir()}
        index = next(name for name in files if name.endswith(".index.json"))
        checkpoint = open_checkpoint(files, "base")
        assert checkpoint.format == ("safetensors" if safe else "torch")
        assert len(checkpoint.files) == len(files) - 1 > 3
        assert {name: t.shape for name, t in checkpoint.tensors.items()} == {
            name: tuple(t.shape) for name, t in state.items()
        }
        weight_map = json.loads(files[index].read_text())["weight_map"]
        assert {name: t.file for name, t in checkpoint.tensors.items()} == weight_map
        for name, spec in checkpoint.tensors.items():
            data = files[spec.file].read_bytes()[spec.offset : spec.offset + spec.nbytes]
            assert data == state[name].numpy().tobytes()


@pytest.mark.oracle
def test_tied_weights_of_torch_files_are_opened(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tied = torch.randn(4, 3)
    torch.save({"embed": tied, "head": tied}, tmp_path / "pytorch_model.bin")
    weight_map = {"embed": "pytorch_model.bin", "head": "pytorch_model.bin"}
    for total in (48, 96):
        contents = {
            "pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes(),
            "pytorch_model.bin.index.json": index_json(weight_map, total),
        }
        checkpoint = opened(tmp_path, contents)
        assert checkpoint.tensors["embed"].extent == checkpoint.tensors["head"].extent
