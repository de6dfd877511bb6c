"""Reports as a causal text encoder reads them: their tokens, who sees whom, their sentences. Beside BERT as a causal model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.encoders.report_text import report_tokens, sentence_means, separated_tokens
from models.encoders.text import LocalBert, OfflineBert, TextEncoder, Tokens
from models.encoders.wordpiece import SPECIAL, WordPiece, learn_vocabulary
from models.errors import CheckpointError, ConfigurationError

REPORTS = ["sinus rhythm. normal ecg.", "sinus bradycardia", "normal ecg. left axis. sinus"]


def offline(trainable: int | None = 2, max_tokens: int = 12) -> OfflineBert:
    torch.manual_seed(0)
    encoder = OfflineBert(64, 16, 2, 2, max_tokens, 0.0, trainable, language=True)
    encoder.prepare(REPORTS)
    return encoder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights, saved as transformers saves one."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("weights")
    (folder / "vocab.txt").write_text("\n".join(learn_vocabulary(REPORTS, 100, ("[MASK]",))))
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    size = len((folder / "vocab.txt").read_text().split("\n"))
    transformers.BertModel(transformers.BertConfig(vocab_size=size, **shape)).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def local(folder: Path, trainable: int | None = 1) -> LocalBert:
    torch.manual_seed(0)
    encoder = LocalBert(str(folder), 24, 12, trainable, language=True)
    encoder.prepare([])
    return encoder.eval()


def words(encoder: TextEncoder, numbers: list[int]) -> list[str]:
    return [encoder.decode([n]) for n in numbers]


@pytest.mark.parametrize("kind", ["offline", "local"])
def test_tokens_begin_with_bos_and_end_with_cls(kind: str, folder: Path) -> None:
    encoder: TextEncoder = offline() if kind == "offline" else local(folder)
    marks = encoder.marks
    tokens = report_tokens(encoder, [*REPORTS, "", "sinus " * 30])
    assert tokens.number_BN.shape == tokens.mask_BN.shape == (5, 12)
    assert (tokens.number_BN[:, 0] == marks.bos).all() and (tokens.number_BN[:, -1] == marks.cls).all()
    assert tokens.place_N is not None and tokens.place_N.tolist() == list(range(12))
    for row, real in zip(tokens.number_BN, tokens.mask_BN, strict=True):
        report = row[real].tolist()
        assert report[-2] == marks.sep and report[-1] == marks.cls
        assert (row[~real] == marks.pad).all() and not set(report[1:-2]) & set(marks.special)
    assert words(encoder, tokens.number_BN[0, 1:7].tolist()) == ["sinus", "rhythm", ".", "normal", "ecg", "."]
    assert tokens.number_BN[3].tolist()[:2] == [marks.bos, marks.sep] and int(tokens.mask_BN[3].sum()) == 3
    assert int(tokens.mask_BN[4].sum()) == 12
    short = report_tokens(encoder, REPORTS[:2])
    assert short.number_BN.shape == (2, 9) and short.place_N is not None and short.place_N.tolist()[-2:] == [7, 11]


@pytest.mark.parametrize("kind", ["offline", "local"])
def test_padding_that_is_left_out_changes_nothing(kind: str, folder: Path) -> None:
    encoder: TextEncoder = offline().eval() if kind == "offline" else local(folder)
    short = report_tokens(encoder, REPORTS[:2])
    long = report_tokens(encoder, [*REPORTS[:2], "sinus " * 30])
    few, many = encoder.hidden(short, causal=True), encoder.hidden(long, causal=True)[:2]
    torch.testing.assert_close(few[:, -1], many[:, -1])
    torch.testing.assert_close(few[:, :-1], many[:, :8])
    for one, other in zip(sentence_means(encoder, short, few), sentence_means(encoder, long, encoder.hidden(long, True)), strict=True):
        torch.testing.assert_close(one, other[:2])


def test_the_padding_token_is_never_read() -> None:
    encoder = offline().eval()
    tokens = report_tokens(encoder, REPORTS)
    before = encoder.hidden(tokens, causal=True)
    with torch.no_grad():
        encoder.embedding.weight[encoder.marks.pad] += 5
    after = encoder.hidden(tokens, causal=True)
    assert torch.equal(before[tokens.mask_BN], after[tokens.mask_BN])


@pytest.mark.parametrize("kind", ["offline", "local"])
def test_no_token_sees_those_behind_it_and_the_last_sees_all(kind: str, folder: Path) -> None:
    encoder: TextEncoder = offline().eval() if kind == "offline" else local(folder)
    tokens = report_tokens(encoder, REPORTS)
    before = encoder.hidden(tokens, causal=True)
    for j in range(1, 5):
        changed = tokens.number_BN.clone()
        changed[:, j] = encoder.marks.ordinary[3]
        different = changed[:, j] != tokens.number_BN[:, j]
        moved = (encoder.hidden(Tokens(changed, tokens.mask_BN, tokens.place_N), causal=True) - before).abs().amax(dim=2)
        assert (moved[:, :j] < 1e-6).all()
        real = different & tokens.mask_BN[:, j]
        assert real.any() and (moved[real, -1] > 1e-5).all()


def test_two_sentences_and_a_fragment() -> None:
    encoder = offline()
    tokens = report_tokens(encoder, REPORTS)
    state_BNW = torch.randn(*tokens.number_BN.shape, 16)
    mean_BSW, present_BS = sentence_means(encoder, tokens, state_BNW)
    assert mean_BSW.shape == (3, 9, 16)
    assert present_BS.sum(dim=1).tolist() == [2, 1, 2]
    torch.testing.assert_close(mean_BSW[0, 0], state_BNW[0, 1:4].mean(dim=0))  # without [BOS], with the full stop
    torch.testing.assert_close(mean_BSW[0, 1], state_BNW[0, 4:7].mean(dim=0))
    torch.testing.assert_close(mean_BSW[1, 0], state_BNW[1, 1 : 1 + len(encoder.pieces(REPORTS[1:2])[0])].mean(dim=0))
    torch.testing.assert_close(mean_BSW[2, 1], state_BNW[2, 4:7].mean(dim=0))  # "sinus" belongs to none
    assert mean_BSW[~present_BS].abs().max() == 0


@pytest.mark.parametrize("text", ["", "...", ". . .", "§§ ¶", "\x00", "心电图 正常", "нормальная ЭКГ", "a" * 500])
def test_every_text_has_a_finite_sentence(text: str) -> None:
    encoder = offline()
    tokens = report_tokens(encoder, [text])
    mean_BSW, present_BS = sentence_means(encoder, tokens, encoder.hidden(tokens, causal=True))
    assert present_BS[0, 0] and torch.isfinite(mean_BSW).all()


def test_a_vocabulary_without_full_stop_makes_one_sentence() -> None:
    encoder = offline()
    encoder.tokenizer = WordPiece([*SPECIAL, "[BOS]", "[MASK]", "sinus", "rhythm"])
    tokens = report_tokens(encoder, ["sinus rhythm"])
    state_BNW = torch.randn(1, 5, 16)
    mean_BSW, present_BS = sentence_means(encoder, tokens, state_BNW)
    assert encoder.marks.stop is None and int(present_BS.sum()) == 1
    torch.testing.assert_close(mean_BSW[0, 0], state_BNW[0, 1:3].mean(dim=0))


def test_sentences_are_separated_for_the_language_model() -> None:
    encoder = offline()
    tokens = separated_tokens(encoder, [*REPORTS, "", "sinus " * 30])
    sep, cls = encoder.marks.sep, encoder.marks.cls
    row = tokens.number_BN[0].tolist()
    assert row[0] == cls and row[4] == row[8] == sep and row.count(sep) == 2
    assert tokens.number_BN[3, :2].tolist() == [cls, sep]
    assert tokens.number_BN.shape[1] == 12 and tokens.number_BN[4, -1] == sep


def test_writing_undoes_reading() -> None:
    encoder = offline()
    for text in ["sinus rhythm. normal ecg.", "sinus bradycardia."]:
        assert encoder.decode(report_tokens(encoder, [text]).number_BN[0].tolist()) == text
    tokenizer = WordPiece([*SPECIAL, "brady", "##cardia", ",", "(", ")", "sinus"])
    assert tokenizer.text(tokenizer.pieces("Sinus (bradycardia), sinus", 20)) == "sinus (bradycardia), sinus"


def test_what_learns() -> None:
    encoder = offline(trainable=1)
    learning = {
        name.split(".")[0] + name.split(".")[1] * name.startswith("layers") for name, p in encoder.named_parameters() if p.requires_grad
    }
    assert learning == {"embedding", "positions", "norm", "layers1"}
    assert all(p.requires_grad for p in offline(trainable=None).parameters())
    assert encoder.pooler is None
    with pytest.raises(ConfigurationError, match="no pooler"):
        encoder(REPORTS)
    with pytest.raises(ConfigurationError, match="not made for language modelling"):
        _ = OfflineBert(64, 16, 1, 2, 8, 0.0).marks
    with pytest.raises(CheckpointError, match="no vocabulary of at most 64"):
        encoder.restore({"vocabulary": [*SPECIAL, "sinus"]})


def test_local_weights_are_read_as_berts_causal_model_reads_them(folder: Path) -> None:
    import transformers

    encoder = local(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.BertLMHeadModel.from_pretrained(folder, is_decoder=True).eval()
    tokenizer.add_special_tokens({"bos_token": "[BOS]"})
    theirs.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    theirs.bert.embeddings.load_state_dict(encoder.model.embeddings.state_dict())
    found = tokenizer([f"[BOS] {t}" for t in REPORTS], truncation=True, max_length=12, padding="max_length", return_tensors="pt")
    cls = torch.full((3, 1), tokenizer.cls_token_id)
    number_BN = torch.cat([found["input_ids"][:, 1:], cls], dim=1)
    mask_BN = torch.cat([found["attention_mask"][:, 1:], torch.ones_like(cls)], dim=1)
    ours = report_tokens(encoder, REPORTS)
    n = ours.number_BN.shape[1] - 1
    assert torch.equal(ours.number_BN[:, :n], number_BN[:, :n]) and torch.equal(ours.mask_BN[:, :n], mask_BN[:, :n].bool())
    assert encoder.marks.stop == tokenizer.convert_tokens_to_ids(".") and encoder.marks.bos == tokenizer.bos_token_id
    with torch.no_grad():
        expected = theirs(input_ids=number_BN, attention_mask=mask_BN, output_hidden_states=True).hidden_states[-1]
        state_BNW = encoder.hidden(ours, causal=True)
    torch.testing.assert_close(state_BNW[:, -1], expected[:, -1])
    torch.testing.assert_close(state_BNW[:, :n][ours.mask_BN[:, :n]], expected[:, :n][ours.mask_BN[:, :n]])


def test_local_weights_freeze_layers_from_below_and_come_back_from_their_state(folder: Path) -> None:
    encoder = local(folder)
    frozen = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    assert frozen and all(".layer.0." in name for name in frozen)
    assert len(encoder.embedding_table) == encoder.marks.known + 1
    again = LocalBert(None, 24, 12, 1, language=True)
    again.restore(encoder.state())
    again.load_state_dict(encoder.state_dict())
    assert again.marks == encoder.marks
    tokens = report_tokens(encoder, REPORTS)
    torch.testing.assert_close(again.eval().hidden(tokens, True), encoder.hidden(tokens, True))
    assert again.decode(tokens.number_BN[0].tolist()) == REPORTS[0]
    with pytest.raises(ConfigurationError, match="not prepared"):
        _ = LocalBert(str(folder), 24, 12, language=True).marks
