"""An output as its readers see it: transformers loads it, torch makes the same of the inputs."""

import pytest

import vbuild
from tests.support.llama import PAD, make_base, make_delta_v0, manifest_text

pytestmark = pytest.mark.oracle

VOCAB = 320
TEXT = "soma kire, vatu 42!"


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    top = tmp_path_factory.mktemp("oracle")
    base = make_base(top / "base", vocab=VOCAB)
    make_delta_v0(top / "delta", base)
    (top / "m.toml").write_text(manifest_text("mini", output='max_shard_size = "100KB"'))
    vbuild.lock(top / "m.toml")
    vbuild.apply(top / "m.toml", out=top / "out", unsigned=True)
    return top


def read_bin(torch, directory):
    """A sharded checkpoint as torch itself reads it."""
    state = {}
    for path in sorted(directory.glob("*.bin")):
        state |= torch.load(path, weights_only=True)
    return state


@pytest.fixture(scope="module")
def summed(job, torch):
    """FastChat's rule, done by torch: rows of zeros under the base, then an addition in f16."""
    base, delta = read_bin(torch, job / "base"), read_bin(torch, job / "delta")
    total = {}
    for name, b in delta.items():
        a = torch.zeros_like(b)
        a[: base[name].shape[0]] = base[name]
        a += b
        total[name] = a
    assert total.keys() == base.keys()
    return total


def test_every_tensor_is_bit_identical_to_torch_s_float16_result(job, torch, summed):
    load_file = pytest.importorskip("safetensors.torch").load_file
    made = {}
    for path in sorted((job / "out").glob("*.safetensors")):
        made |= load_file(path)
    assert made.keys() == summed.keys()
    for name, expected in summed.items():
        assert made[name].dtype == torch.float16
        assert torch.equal(made[name].view(torch.int16), expected.view(torch.int16)), name
    assert made["lm_head.weight"].shape[0] == VOCAB + 1
    assert made["lm_head.weight"][VOCAB].any()


@pytest.fixture(scope="module")
def twin(job, torch, transformers, summed, tmp_path_factory):
    """A model of torch's sums, saved by torch and loaded by transformers."""
    directory = tmp_path_factory.mktemp("twin")
    torch.save(summed, directory / "pytorch_model.bin")
    (directory / "config.json").write_bytes((job / "out" / "config.json").read_bytes())
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float16)


def test_the_model_loads_and_its_logits_are_those_of_torch_s_sum(job, torch, transformers, twin):
    model, notes = transformers.AutoModelForCausalLM.from_pretrained(
        job / "out", dtype=torch.float16, output_loading_info=True
    )
    assert not notes["missing_keys"]
    assert not notes["mismatched_keys"]
    assert all("inv_freq" in name for name in notes["unexpected_keys"])
    assert type(model).__name__ == "LlamaForCausalLM"
    weights = twin.state_dict()
    assert model.state_dict().keys() == weights.keys()
    for name, values in model.state_dict().items():
        assert torch.equal(values.view(torch.int16), weights[name].view(torch.int16)), name
    ids = torch.arange(VOCAB + 1)[None, :]
    with torch.no_grad():
        ours = model.eval()(ids).logits
        theirs = twin.eval()(ids).logits
    assert ours.shape == (1, VOCAB + 1, VOCAB + 1)
    assert torch.isfinite(ours).all()
    assert torch.equal(ours.view(torch.int16), theirs.view(torch.int16))
    assert ours.std() > 0


def test_the_logits_are_not_the_base_s(job, torch, transformers):
    base = transformers.AutoModelForCausalLM.from_pretrained(job / "base", dtype=torch.float16)
    model = transformers.AutoModelForCausalLM.from_pretrained(job / "out", dtype=torch.float16)
    ids = torch.arange(VOCAB)[None, :]
    with torch.no_grad():
        before, after = base.eval()(ids).logits, model.eval()(ids).logits
    assert not torch.equal(before, after[..., :VOCAB])


def test_the_tokenizer_loads_with_the_padding_token_at_its_row(job, transformers):
    tokenizer = transformers.AutoTokenizer.from_pretrained(job / "out")
    assert len(tokenizer) == VOCAB + 1
    assert tokenizer.pad_token == PAD
    assert tokenizer.pad_token_id == VOCAB
    assert tokenizer.convert_tokens_to_ids(PAD) == VOCAB
    assert tokenizer.bos_token_id == 1
    padded = tokenizer([TEXT, "so"], padding=True)["input_ids"]
    assert VOCAB in padded[1]
    assert len(padded[0]) == len(padded[1])


def test_text_gets_the_same_ids_from_transformers_and_sentencepiece(job, transformers):
    from sentencepiece import SentencePieceProcessor

    tokenizer = transformers.AutoTokenizer.from_pretrained(job / "out")
    model = SentencePieceProcessor(model_file=str(job / "out" / "tokenizer.model"))
    assert tokenizer(TEXT)["input_ids"] == [1, *model.encode(TEXT)]
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"], skip_special_tokens=True) == TEXT


def test_the_configuration_names_the_padding_token(job, transformers):
    config = transformers.AutoConfig.from_pretrained(job / "out")
    assert config.vocab_size == VOCAB + 1
    assert config.pad_token_id == VOCAB
    generation = transformers.GenerationConfig.from_pretrained(job / "out")
    assert generation.pad_token_id == VOCAB
