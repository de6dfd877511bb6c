"""WordPiece, the offline BERT, and the adapter for local weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint import Provenance, load_encoder, write_bundle
from models.encoders.text import LocalBert, OfflineBert
from models.encoders.wordpiece import CLS, SEP, SPECIAL, UNKNOWN, WordPiece, learn_vocabulary
from models.errors import CheckpointError, ConfigurationError
from models.methods.merl.spec import SPEC
from models.registry import create_method

REPORTS = ["sinus rhythm. normal ecg", "sinus bradycardia, normal ecg", "mässige hypertrophie"]


def test_longest_piece_from_the_left_wins() -> None:
    tokens = WordPiece([*SPECIAL, "brady", "bradycard", "##ia", "##card", "sinus", ","])
    assert tokens.numbers("Sinus, bradycardia", 10) == [CLS, 8, 9, 5, 6, SEP]
    assert tokens.numbers("sinus xyz", 10) == [CLS, 8, UNKNOWN, SEP]
    assert tokens.numbers("sinus sinus sinus", 4) == [CLS, 8, 8, SEP]
    assert tokens.numbers("", 4) == [CLS, SEP]


def test_vocabulary_is_small_whole_and_independent_of_order() -> None:
    vocabulary = learn_vocabulary(REPORTS, 64)
    assert vocabulary == learn_vocabulary(REPORTS[::-1], 64)
    assert len(set(vocabulary)) == len(vocabulary) <= 64
    assert vocabulary[:4] == list(SPECIAL)
    tokens = WordPiece(learn_vocabulary(REPORTS, 256))
    assert all(UNKNOWN not in tokens.numbers(text, 99) for text in REPORTS)
    assert tokens.numbers("MÄSSIGE", 9) == tokens.numbers("massige", 9)
    assert len(tokens.numbers("normal ecg", 9)) == 4


def test_words_agree_with_berts_own_tokenizer() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = learn_vocabulary(REPORTS, 256)
    theirs = tokenizers.BertWordPieceTokenizer(vocab={piece: i for i, piece in enumerate(vocabulary)}, lowercase=True)
    for text in [*REPORTS, "Left-axis deviation; T  inverted!", "sinus\nrhythm (normal)"]:
        assert WordPiece(vocabulary).numbers(text, 99) == theirs.encode(text).ids


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    encoder = OfflineBert(64, 16, 2, 2, 12, 0.1).eval()
    encoder.prepare(REPORTS)
    alone, padded = encoder(REPORTS[:1]).pooled_BW, encoder([REPORTS[0], "sinus rhythm " * 9]).pooled_BW[:1]
    torch.testing.assert_close(alone, padded)


def test_texts_that_differ_stay_apart_in_a_frozen_network() -> None:
    torch.manual_seed(0)
    encoder = OfflineBert(256, 32, 2, 2, 32, 0.0).eval()
    encoder.prepare(REPORTS)
    z_BW = torch.nn.functional.normalize(encoder(REPORTS).pooled_BW, dim=1)
    assert (z_BW @ z_BW.T).fill_diagonal_(0).max() < 0.97


def test_a_state_without_vocabulary_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no vocabulary of at most 64"):
        OfflineBert(64, 16, 1, 2, 8, 0.0).restore({"vocabulary": ["x"] * 65})


@pytest.fixture(scope="session")
def local_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights, saved as transformers saves one."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("local_model")
    (folder / "vocab.txt").write_text("\n".join(learn_vocabulary(REPORTS, 200)))
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    transformers.BertModel(transformers.BertConfig(vocab_size=200, **shape)).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_local_weights_give_the_pooler_output_of_transformers(local_model: Path) -> None:
    import transformers

    encoder = LocalBert(str(local_model), 24, 16)
    encoder.prepare([])
    encoder.eval()
    theirs = transformers.BertModel.from_pretrained(local_model).eval()
    tokens = encoder.tokenize(REPORTS)
    with torch.no_grad():
        expected = theirs(input_ids=tokens.number_BN, attention_mask=tokens.mask_BN.long()).pooler_output
    torch.testing.assert_close(encoder(REPORTS).pooled_BW, expected)
    assert not any(p.requires_grad for p in encoder.parameters())


def test_a_bundle_opens_without_the_local_folder(local_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = create_method("merl", SPEC.configure("tiny", text_weights=str(local_model), text_width=24))
    method.prepare(REPORTS)
    origin = Provenance(method="merl", preset="tiny", seed=0, arm="pretrained", steps=0, records=3, fs_hz=100.0)
    write_bundle(tmp_path / "bundle", method, origin)
    stored = json.loads((tmp_path / "bundle" / "config.json").read_text())
    assert stored["extra_state"]["text"]["model"]["hidden_size"] == 24
    local_model.rename(tmp_path / "gone")
    try:
        torch.testing.assert_close(load_encoder(tmp_path / "bundle").embed_text(REPORTS), method.eval().embed_text(REPORTS))
    finally:
        (tmp_path / "gone").rename(local_model)


@pytest.mark.parametrize("folder", [None, "/nowhere"])
def test_missing_local_weights_are_explained(folder: str | None) -> None:
    with pytest.raises(ConfigurationError, match="name the folder of a downloaded model"):
        LocalBert(folder, 24, 16).prepare([])


def test_local_weights_of_another_kind_are_explained(local_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not hold a model"):
        LocalBert(str(tmp_path), 24, 16).prepare([])
    with pytest.raises(ConfigurationError, match="set text_width=24"):
        LocalBert(str(local_model), 768, 16).prepare([])
