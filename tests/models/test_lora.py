"""RoBERTa with adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models.encoders.lora import LoraRoberta, LoraShape, RobertaShape, adapt
from models.errors import CheckpointError, ConfigurationError

TEXTS = ["sinus rhythm", "left axis deviation", "small pleural effusion, no pneumothorax"]
PAIRS = [("small pleural effusion", "sinus rhythm"), ("left axis deviation",)]
SHAPE = RobertaShape(128, 32, 2, 4, 64, 0.1)
LORA = LoraShape(4, 2, 0.1)


def counts(model: Any) -> tuple[int, int]:
    return sum(p.numel() for p in model.parameters()), sum(p.numel() for p in model.parameters() if p.requires_grad)


def offline(**changes: Any) -> LoraRoberta:
    torch.manual_seed(0)
    encoder = LoraRoberta(SHAPE, LORA, 64, pretrained=False, **changes)
    encoder.prepare(TEXTS)
    return encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small RoBERTa with its pooler and a byte-level tokenizer, saved as transformers saves them."""
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    found = tmp_path_factory.mktemp("roberta")
    pieces = ByteLevelBPETokenizer()
    pieces.train_from_iterator(TEXTS * 3, vocab_size=320, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False)
    pieces.save_model(str(found))
    transformers.RobertaTokenizerFast.from_pretrained(str(found)).save_pretrained(found)
    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        vocab_size=320, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, max_position_embeddings=40
    )
    transformers.RobertaModel(config).save_pretrained(found)
    return found


def local(folder: Path | None, max_tokens: int = 32, width: int = 24, **changes: Any) -> LoraRoberta:
    shape = RobertaShape(0, width, 0, 0, 0, 0.0)
    return LoraRoberta(shape, LORA, max_tokens, pretrained=True, folder=None if folder is None else str(folder), **changes)


def test_the_published_share_of_roberta_base_learns() -> None:
    import transformers

    config = transformers.RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    with torch.device("meta"):
        assert counts(adapt(transformers.RobertaModel(config), LoraShape())) == (125_235_456, 692_736)
        ours = counts(adapt(transformers.RobertaModel(config, add_pooling_layer=False), LoraShape()))
    pooler = 768 * 768 + 768
    assert ours == (125_235_456 - pooler, 692_736 - 768)
    assert ours[1] / ours[0] < 0.01


def test_query_value_and_biases_learn_and_nothing_else() -> None:
    for name, parameter in offline().named_parameters():
        adapter = "lora_" in name and (".query." in name or ".value." in name)
        assert parameter.requires_grad == (adapter or name.endswith(".bias")), name


def test_the_start_is_the_model_without_adapters(folder: Path) -> None:
    import transformers

    encoder = local(folder)
    encoder.prepare([])
    encoder.eval()
    theirs = transformers.RobertaModel.from_pretrained(folder).eval()
    number_BN, mask_BN = encoder.tokenize(PAIRS)
    with torch.no_grad():
        hidden_BNW, _ = encoder(PAIRS)
        assert torch.equal(hidden_BNW, theirs(input_ids=number_BN, attention_mask=mask_BN.long()).last_hidden_state)


def test_one_step_changes_adapters_and_biases_alone() -> None:
    encoder = offline().train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):  # A has no gradient while B is zero
        optimizer.zero_grad()
        hidden_BNW, mask_BN = encoder(PAIRS)
        ((hidden_BNW * mask_BN[..., None]).sum(dim=1)[0, :8] ** 2).sum().backward()
        optimizer.step()
    for name, parameter in encoder.named_parameters():
        changed = not torch.equal(parameter, before[name])
        expected = "lora_" in name or (name.endswith(".bias") and "key.bias" not in name)  # softmax ignores a shift by the key's bias
        assert changed == expected or "key.bias" in name, name


def test_pairs_are_tokenised_as_roberta_does(folder: Path) -> None:
    import transformers

    encoder = local(folder)
    encoder.prepare([])
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    number_BN, mask_BN = encoder.tokenize(PAIRS)
    assert number_BN[0].tolist() == theirs(*PAIRS[0])["input_ids"]
    assert number_BN[1][mask_BN[1]].tolist() == theirs(*PAIRS[1])["input_ids"]
    assert (number_BN[1][~mask_BN[1]] == theirs.pad_token_id).all()
    short = local(folder, max_tokens=8)
    short.prepare([])
    assert short.tokenize(PAIRS)[0][0].tolist() == theirs(*PAIRS[0], truncation=True, max_length=8)["input_ids"]


def test_learned_pairs_have_two_separators_between_and_lose_the_end_of_the_longer_text() -> None:
    encoder = offline()
    vocabulary = encoder.state()["vocabulary"]
    numbers, mask = encoder.tokenize(PAIRS)
    words = [vocabulary[i] for i in numbers[0].tolist()]
    assert words == ["[CLS]", "small", "pleural", "effusion", "[SEP]", "[SEP]", "sinus", "rhythm", "[SEP]"]
    assert mask[1].sum() == 5
    torch.manual_seed(0)
    short = LoraRoberta(SHAPE, LORA, 7, pretrained=False)
    short.prepare(TEXTS)
    assert [vocabulary[i] for i in short.tokenize(PAIRS[:1])[0][0].tolist()] == [
        "[CLS]",
        "small",
        "[SEP]",
        "[SEP]",
        "sinus",
        "rhythm",
        "[SEP]",
    ]


def test_fixed_length_pads_to_the_longest_possible_text() -> None:
    assert offline(fixed_length=True).tokenize(PAIRS)[0].shape == (2, 64)


def test_padding_does_not_change_what_tokens_become() -> None:
    plain, fixed = offline().eval(), offline(fixed_length=True).eval()
    with torch.no_grad():
        hidden_BNW, mask_BN = plain(PAIRS)
        padded_BNW, _ = fixed(PAIRS)
    torch.testing.assert_close(padded_BNW[:, : hidden_BNW.shape[1]][mask_BN], hidden_BNW[mask_BN])


def test_a_state_rebuilds_the_network_without_the_folder(folder: Path) -> None:
    encoder = local(folder)
    encoder.prepare([])
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = json.loads(json.dumps(encoder.state()))
    assert str(folder) not in json.dumps(state)
    again = local(None)
    again.restore(state)
    again.load_state_dict(encoder.state_dict())
    assert again.state() == encoder.state()
    assert {n: p.requires_grad for n, p in again.named_parameters()} == {n: p.requires_grad for n, p in encoder.named_parameters()}
    with torch.no_grad():
        assert torch.equal(again.eval()(PAIRS)[0], encoder.eval()(PAIRS)[0])


def test_a_state_that_fits_nothing_is_refused() -> None:
    with pytest.raises(CheckpointError, match="at most 128 pieces"):
        offline().restore({"vocabulary": ["x"] * 129})
    with pytest.raises(CheckpointError, match="cannot be rebuilt"):
        local(None).restore({"model": {"model_type": "bert"}, "tokenizer": "{}"})


@pytest.mark.parametrize("changes", [{}, {"folder": "/nowhere"}])
def test_missing_weights_are_explained(changes: dict[str, Any]) -> None:
    encoder = LoraRoberta(SHAPE, LORA, 64, pretrained=True, **changes)
    with pytest.raises(ConfigurationError, match="name the folder"):
        encoder.prepare([])
    with pytest.raises(ConfigurationError, match="call prepare"):
        encoder(PAIRS)


def test_weights_that_do_not_fit_are_explained(folder: Path, tmp_path: Path) -> None:
    import transformers

    for wrong, call in (
        (local(tmp_path), "does not hold a RoBERTa"),
        (local(folder, width=32), "set text_width=24"),
        (local(folder, max_tokens=64), "reads 38 tokens"),
    ):
        with pytest.raises(ConfigurationError, match=call):
            wrong.prepare([])
    transformers.BertModel(
        transformers.BertConfig(vocab_size=50, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="a model of type bert"):
        local(tmp_path).prepare([])
