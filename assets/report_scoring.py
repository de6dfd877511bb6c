"""Metrics of generated reports: BLEU, ROUGE-L and METEOR, with patient intervals, as rows of metrics.parquet.

BLEU is of the corpus, as sacrebleu computes it (tokens "13a", lower case, no smoothing); ROUGE-L is the F1 of the longest common
subsequence of stems, METEOR matches words and stems; both are means over records. METEOR's synonyms would need WordNet and BERTScore
a language model, which Einthoven does not download: METEOR goes without, BERTScore is left out. Chance is what the same reports
score against the references of other records. All values lie between 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assets.scoring import GAIN_SUFFIX, ScoringError, metric_row
from models.report_tables import Generated

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REPORT_METRICS = ("bleu_1", "bleu_4", "rouge_l", "meteor")
DISTINCT = "distinct_reports"
_ORDER = 4
_NOTE = "METEOR without synonyms; BERTScore left out, it needs a language model"


@dataclass(frozen=True)
class ReportCounts:
    """What the metrics of records are made of, shapes (N, 4), (N, 4), (N,), (N,), (N,), (N,).

    Attributes:
        matched_NO: n-grams of orders 1 to 4 that stand in the reference too, clipped.
        written_NO: n-grams that were written.
        words_N, reference_words_N: tokens.
        rouge_N, meteor_N: of each record.
    """

    matched_NO: NDArray[np.float64]
    written_NO: NDArray[np.float64]
    words_N: NDArray[np.float64]
    reference_words_N: NDArray[np.float64]
    rouge_N: NDArray[np.float64]
    meteor_N: NDArray[np.float64]

    def metrics(self, weights_RN: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Each metric (R,) where records count as often as the weights say."""
        import numpy as np

        weights_RN = weights_RN.astype(np.float64)
        matched_RO, written_RO = weights_RN @ self.matched_NO, weights_RN @ self.written_NO
        precision_RO = matched_RO / np.maximum(written_RO, 1)
        words_R, reference_R = weights_RN @ self.words_N, weights_RN @ self.reference_words_N
        brevity_R = np.where(words_R > 0, np.exp(np.minimum(0.0, 1 - reference_R / np.maximum(words_R, 1e-9))), 0.0)
        total_R = weights_RN.sum(axis=1)
        with np.errstate(divide="ignore"):
            bleu_4_R = brevity_R * np.exp(np.log(precision_RO).mean(axis=1))
        means = {"rouge_l": weights_RN @ self.rouge_N / total_R, "meteor": weights_RN @ self.meteor_N / total_R}
        return {"bleu_1": brevity_R * precision_RO[:, 0], "bleu_4": bleu_4_R, **means}


def count_reports(generated: Sequence[str], references: Sequence[str]) -> ReportCounts:
    """Count what the metrics need, a row a record."""
    import numpy as np
    from nltk.stem.porter import PorterStemmer
    from nltk.translate.meteor_score import single_meteor_score
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU

    bleu, rouge, stemmer = (
        BLEU(lowercase=True, smooth_method="none", max_ngram_order=_ORDER, effective_order=True),
        RougeScorer(["rougeL"], True),
        PorterStemmer(),
    )
    rows = []
    for ours, theirs in zip(generated, references, strict=True):
        score = bleu.sentence_score(ours, [theirs])
        rouge_l = rouge.score(theirs, ours)["rougeL"].fmeasure
        meteor = single_meteor_score(theirs.split(), ours.split(), stemmer=stemmer, wordnet=_NoSynonyms()) if ours and theirs else 0.0
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len, rouge_l, meteor])
    found = np.array(rows, np.float64).reshape(len(rows), 2 * _ORDER + 4)
    return ReportCounts(found[:, :_ORDER], found[:, _ORDER : 2 * _ORDER], *found[:, 2 * _ORDER :].T)


class _NoSynonyms:
    """Stands for WordNet where there is none."""

    def synsets(self, word: str) -> list[Any]:
        return []


def score_reports(tables: Iterable[Generated], seed: int = 0, n_resamples: int = 1000) -> list[dict[str, Any]]:
    """Metrics of every table, and paired gains of the pretrained one over its random-initialised twin.

    Raises:
        ScoringError: a table is empty, or the twin wrote about other records.
    """
    import numpy as np

    arms = {t.origin.arm: t for t in tables}
    rows, drawn = [], {}
    for arm, table in arms.items():
        n = len(table.record_id)
        if not n:
            raise ScoringError(f"{table.origin.slug} holds no report; evaluate again")
        counts = count_reports(table.generated, table.reference)
        elsewhere = count_reports(table.generated, others(table)).metrics(np.ones((1, n)))
        value = counts.metrics(np.ones((1, n)))
        drawn[arm] = (value, counts.metrics(_weights(table.patient_id, n_resamples, seed)))
        for name in REPORT_METRICS:
            low, high = np.percentile(drawn[arm][1][name], (2.5, 97.5))
            chance = float(elsewhere[name][0]) if len(set(table.patient_id)) > 1 else math.nan
            rows.append(_row(table, name, float(value[name][0]), n_resamples, float(low), float(high), chance))
        rows.append(_row(table, DISTINCT, len(set(table.generated)) / n, 0))
    if set(arms) == {"pretrained", "random_init"}:
        ours, twin = arms["pretrained"], arms["random_init"]
        if ours.record_id != twin.record_id or ours.reference != twin.reference:
            raise ScoringError(f"{ours.origin.slug} and its twin are not about the same records; evaluate again")
        for name in REPORT_METRICS:
            (first, first_R), (second, second_R) = drawn["pretrained"], drawn["random_init"]
            low, high = np.percentile(first_R[name] - second_R[name], (2.5, 97.5))
            gain = float(first[name][0] - second[name][0])
            rows.append(_row(ours, f"{name}{GAIN_SUFFIX}", gain, n_resamples, float(low), float(high)))
    return rows


def others(table: Generated) -> list[str]:
    """For each record the reference of the next one of another patient, around the end."""
    n = len(table.record_id)
    found = []
    for i, patient in enumerate(table.patient_id):
        places = ((i + step) % n for step in range(1, n + 1))
        found.append(table.reference[next((p for p in places if table.patient_id[p] != patient), i)])
    return found


def _weights(patient_ids: Sequence[str], n: int, seed: int) -> NDArray[Any]:
    """How often each record counts in each resample of patients, (R, N)."""
    import numpy as np

    from models.metrics.bootstrap import draw_with_replacement

    names, patient_N = np.unique(np.asarray(patient_ids), return_inverse=True)
    drawn = draw_with_replacement(np.random.default_rng(seed), np.zeros(len(names), np.int64), n)
    found: NDArray[Any] = np.take(drawn, patient_N, axis=1)
    return found


def _row(
    table: Generated, metric: str, value: float, n_resamples: int, low: float = math.nan, high: float = math.nan, chance: float = math.nan
) -> dict[str, Any]:
    people = {"n_records": len(table.record_id), "n_patients": len(set(table.patient_id))}
    interval = f"95% patient bootstrap, {n_resamples} resamples" if n_resamples else ""
    return metric_row(table.origin, metric, value, **people, low=low, high=high, chance=chance, interval=interval, note=_NOTE)
