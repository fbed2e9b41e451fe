"""vbuild.formats.index: reading, checking and writing the index of shards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbuild.errors import InvalidInput
from vbuild.formats.index import (
    ShardIndex,
    check_shards,
    check_tensors,
    check_total,
    index_json,
    parse_index,
)
from vbuild.formats.safetensors import header, shard_name
from vbuild.tensors import DType, TensorSpec, contiguous_strides

NAME = "model.safetensors.index.json"


def spec(name: str, count: int, file: str = "a.bin", offset: int = 0) -> TensorSpec:
    return TensorSpec(name, DType.F16, (count,), file, offset, contiguous_strides((count,)))


def test_an_index_is_read_in_order_of_names() -> None:
    text = b'{"metadata":{"total_size":7,"x":[]},"weight_map":{"b":"2.bin","a":"1.bin"},"y":0}'
    index = parse_index(text, NAME)
    assert index == ShardIndex(NAME, {"a": "1.bin", "b": "2.bin"}, 7)
    assert list(index.weight_map) == ["a", "b"]
    assert index.shards == ("1.bin", "2.bin")


def test_shards_are_relative_to_the_index() -> None:
    index = parse_index(b'{"weight_map":{"a":"x/1.bin"}}', f"fp16/{NAME}")
    assert index.shards == ("fp16/x/1.bin",)


@pytest.mark.parametrize(
    ("metadata", "total"),
    [
        pytest.param('"metadata":{"total_size":0},', 0, id="zero"),
        pytest.param('"metadata":{"total_size":12.0},', 12, id="whole_double"),
        pytest.param('"metadata":{},', None, id="not_said"),
        pytest.param("", None, id="no_metadata"),
    ],
)
def test_the_total_is_optional(metadata: str, total: int | None) -> None:
    text = f'{{{metadata}"weight_map":{{"a":"b"}}}}'
    assert parse_index(text.encode(), NAME).total_size == total


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        pytest.param("", "index-malformed", "not valid JSON", id="empty"),
        pytest.param("[]", "index-malformed", "not a JSON object", id="list"),
        pytest.param("{}", "index-malformed", "weight_map is missing", id="no_weight_map"),
        pytest.param('{"weight_map":{}}', "index-malformed", "empty", id="empty_weight_map"),
        pytest.param('{"weight_map":[]}', "index-malformed", "weight_map", id="weight_map_list"),
        pytest.param('{"weight_map":{"a":1}}', "index-malformed", '"a" is not', id="number"),
        pytest.param('{"metadata":0,"weight_map":{"a":"b"}}', "index-malformed", "meta", id="meta"),
        pytest.param(
            '{"weight_map":{"a":"1","a":"2"}}',
            "index-malformed",
            'duplicate key "a"',
            id="case_47_tensor_named_twice",
        ),
        *(
            pytest.param(
                f'{{"metadata":{{"total_size":{total}}},"weight_map":{{"a":"b"}}}}',
                "index-malformed",
                "whole number",
                id=f"case_47_total_size_{what}",
            )
            for what, total in {
                "negative": "-1",
                "half": "0.5",
                "string": '"1"',
                "boolean": "true",
                "minus_one_double": "-1.0",
            }.items()
        ),
        *(
            pytest.param(
                json.dumps({"weight_map": {"a": shard}}),
                "index-shard-name",
                "not a clean relative file name",
                id=f"case_47_shard_{what}",
            )
            for what, shard in {
                "above": "../evil.bin",
                "absolute": "/etc/passwd",
                "dot": "./a.bin",
                "inner_dots": "a/../b.bin",
                "empty": "",
                "empty_component": "a//b.bin",
                "folder": "a/",
                "backslash": "..\\a.bin",
                "drive": "C:a.bin",
                "control": "a\n.bin",
                "nul": "a\0.bin",
            }.items()
        ),
        pytest.param(
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            "git-lfs-pointer",
            "Git-LFS pointer",
            id="case_32_pointer",
        ),
        pytest.param("<!DOCTYPE html><html>", "html-page", "HTML", id="case_33_html"),
    ],
)
def test_a_malformed_index_is_refused(text: str, code: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_index(text.encode(), NAME)
    assert caught.value.code == code
    assert caught.value.exit_status == 2
    assert caught.value.message.startswith(f"{NAME}: ")
    assert message in caught.value.message
    assert caught.value.message.isprintable()


def test_case_47_a_missing_shard_is_refused() -> None:
    index = ShardIndex(NAME, {"a": "1.bin", "b": "2.bin"}, None)
    check_shards(index, {"1.bin", "2.bin"})
    with pytest.raises(InvalidInput, match=r'shard "2\.bin"') as caught:
        check_shards(index, {"1.bin"})
    assert caught.value.code == "index-shard-missing"


def test_case_47_a_shard_that_the_index_does_not_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^3\.bin: ") as caught:
        check_shards(ShardIndex(NAME, {"a": "1.bin"}, None), {"3.bin", "1.bin"})
    assert caught.value.code == "index-shard-extra"


@pytest.mark.parametrize(
    ("shards", "code", "message"),
    [
        pytest.param(
            {"1.bin": ["a", "b"], "2.bin": ["b"]},
            "duplicate-tensor",
            '2.bin: tensor "b" is in 1.bin too',
            id="case_47_in_two_shards",
        ),
        pytest.param(
            {"1.bin": ["a"], "2.bin": []},
            "index-tensor-missing",
            f'{NAME}: tensor "b" is in no shard',
            id="case_47_in_none",
        ),
        pytest.param(
            {"1.bin": ["a", "b"], "2.bin": []},
            "index-tensor-shard",
            f'{NAME}: puts tensor "b" in 2.bin, but it is in 1.bin',
            id="case_47_in_another_shard",
        ),
        pytest.param(
            {"1.bin": ["a"], "2.bin": ["b", "c"]},
            "index-tensor-extra",
            f'2.bin: {NAME} lacks tensor "c"',
            id="case_47_not_in_the_index",
        ),
    ],
)
def test_tensors_must_be_where_the_index_says(
    shards: dict[str, list[str]], code: str, message: str
) -> None:
    index = ShardIndex(NAME, {"a": "1.bin", "b": "2.bin"}, None)
    check_tensors(index, {"1.bin": ["a"], "2.bin": ["b"]})
    with pytest.raises(InvalidInput) as caught:
        check_tensors(index, shards)
    assert caught.value.code == code
    assert caught.value.message == message


def test_case_47_a_wrong_total_is_refused() -> None:
    tensors = [spec("a", 3), spec("b", 4, offset=6)]
    check_total(ShardIndex(NAME, {}, 14), tensors, shared=False)
    check_total(ShardIndex(NAME, {}, None), tensors, shared=False)
    with pytest.raises(InvalidInput, match="expected 14, got 15") as caught:
        check_total(ShardIndex(NAME, {}, 15), tensors, shared=True)
    assert caught.value.code == "index-total-size"


def test_shared_bytes_count_once_or_each_time_in_torch_files() -> None:
    tied = [spec("a", 8), spec("b", 8), spec("c", 4, offset=8), spec("d", 4, "b.bin", offset=8)]
    for total in (48, 24):
        check_total(ShardIndex(NAME, {}, total), tied, shared=True)
    for total in (16, 40):
        with pytest.raises(InvalidInput):
            check_total(ShardIndex(NAME, {}, total), tied, shared=True)
    with pytest.raises(InvalidInput):
        check_total(ShardIndex(NAME, {}, 24), tied, shared=False)


def test_an_index_is_written_sorted_and_indented() -> None:
    written = index_json({"b": "2", "a": "1"}, 5)
    assert written == (
        b'{\n  "metadata": {\n    "total_size": 5\n  },\n'
        b'  "weight_map": {\n    "a": "1",\n    "b": "2"\n  }\n}\n'
    )


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.just("x"), min_size=1),
    st.integers(0, 1 << 60),
)
def test_what_is_written_is_read_back(weight_map: dict[str, str], total: int) -> None:
    index = parse_index(index_json(weight_map, total), NAME)
    assert index == ShardIndex(NAME, weight_map, total)


@pytest.mark.oracle
def test_names_and_total_equal_those_of_the_hub_library() -> None:
    torch = pytest.importorskip("torch")
    hub = pytest.importorskip("huggingface_hub")
    state = {f"w.{i}": torch.zeros(1000 + i) for i in range(12)}
    split = hub.split_torch_state_dict_into_shards(state, max_shard_size=10_000)
    n = len(split.filename_to_tensors)
    assert list(split.filename_to_tensors) == [shard_name(i + 1, n) for i in range(n)]
    total = sum(t.nbytes for t in state.values())
    assert split.metadata == {"total_size": total}
    assert json.loads(index_json(split.tensor_to_filename, total)) == {
        "metadata": split.metadata,
        "weight_map": split.tensor_to_filename,
    }
    one = hub.split_torch_state_dict_into_shards(state)
    assert list(one.filename_to_tensors) == [shard_name(1, 1)]


@pytest.mark.oracle
def test_others_load_what_is_written(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    hub = pytest.importorskip("huggingface_hub")
    transformers_hub = pytest.importorskip("transformers.utils.hub")
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 5))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weight_map = {}
    for i, name in enumerate(state):
        shard = shard_name(i + 1, len(state))
        front = header([(name, DType.F32, tuple(state[name].shape))])
        (tmp_path / shard).write_bytes(front + state[name].numpy().tobytes())
        weight_map[name] = shard
    total = sum(t.nbytes for t in state.values())
    (tmp_path / NAME).write_bytes(index_json(weight_map, total))

    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    hub.load_torch_model(model, tmp_path, strict=True, safe=True)
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)

    files, metadata = transformers_hub.get_checkpoint_shard_files(tmp_path, tmp_path / NAME)
    assert files == [str(tmp_path / shard) for shard in sorted(weight_map.values())]
    assert metadata["weight_map"] == weight_map
    assert metadata["total_size"] == total
