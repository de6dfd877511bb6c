"""Errors of reconstructed leads and the linear baseline against their definitions; tables that keep what they are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import TrainingError
from models.predictions import Origin
from models.reconstruction import IDENTITIES, Errors, errors_of, fit_linear
from models.reconstruction_tables import Distance, ReconstructionError, Reconstructions, read_reconstructions, write_reconstructions
from models.types import LEADS

KEPT = ("II", "V1", "V5")
MISSING = tuple(lead for lead in LEADS if lead not in KEPT)


def signals(n: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 12, 50)).cumsum(axis=2)


def twelve(signal_NLT: np.ndarray) -> np.ndarray:
    """The same with limb leads that follow from I and II."""
    i, ii = signal_NLT[:, 0], signal_NLT[:, 1]
    signal_NLT[:, 2:6] = np.stack([ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2], axis=1)
    return signal_NLT


def test_errors_are_those_of_each_record_and_missing_lead() -> None:
    true_NLT, found_NLT = signals(), signals(seed=1)
    errors = errors_of(found_NLT, true_NLT, LEADS, MISSING)
    for n in range(3):
        for m, lead in enumerate(MISSING):
            a_T, b_T = found_NLT[n, LEADS.index(lead)], true_NLT[n, LEADS.index(lead)]
            assert errors.mse_NM[n, m] == pytest.approx(sum((a - b) ** 2 for a, b in zip(a_T, b_T, strict=True)) / 50)
            assert errors.mae_NM[n, m] == pytest.approx(sum(abs(a - b) for a, b in zip(a_T, b_T, strict=True)) / 50)
            assert errors.pearson_NM[n, m] == pytest.approx(np.corrcoef(a_T, b_T)[0, 1])
    assert errors.mse_NM.mean() == pytest.approx(np.mean([errors.mse_NM[:, m].mean() for m in range(9)]))


def test_errors_of_kept_leads_do_not_count() -> None:
    true_NLT, found_NLT = signals(), signals(seed=1)
    before = errors_of(found_NLT, true_NLT, LEADS, MISSING)
    found_NLT[:, [LEADS.index(lead) for lead in KEPT]] += 100
    after = errors_of(found_NLT, true_NLT, LEADS, MISSING)
    assert all(np.array_equal(getattr(before, f"{name}_NM"), getattr(after, f"{name}_NM")) for name in ("mse", "mae", "pearson"))
    found_NLT[:, LEADS.index("V2")] += 100
    assert (errors_of(found_NLT, true_NLT, LEADS, MISSING).mse_NM != after.mse_NM).any(axis=0).tolist() == [m == "V2" for m in MISSING]


@pytest.mark.parametrize("flat", ["true", "found"])
def test_a_flat_lead_has_no_correlation_and_the_others_keep_theirs(flat: str) -> None:
    true_NLT, found_NLT = signals(), signals(seed=1)
    (true_NLT if flat == "true" else found_NLT)[1, LEADS.index("V3")] = 0.25
    undefined_NM = np.isnan(errors_of(found_NLT, true_NLT, LEADS, MISSING).pearson_NM)
    assert [(int(n), MISSING[m]) for n, m in np.argwhere(undefined_NM)] == [(1, "V3")]


def test_leads_that_obey_einthoven_have_no_residual_and_others_have_theirs() -> None:
    found_NLT = twelve(signals())
    assert np.allclose(errors_of(found_NLT, found_NLT, LEADS, MISSING).residual_NI, 0, atol=1e-12)
    found_NLT[:, LEADS.index("aVF")] += 0.5
    residual_NI = errors_of(found_NLT, found_NLT, LEADS, MISSING).residual_NI
    assert np.allclose(residual_NI, [[0.5 * (name == "aVF") for name, _ in IDENTITIES]] * 3, atol=1e-12)


def test_identities_of_leads_that_are_not_there_are_undefined() -> None:
    residual_NI = errors_of(signals()[:, 1:], signals()[:, 1:], LEADS[1:], MISSING[1:]).residual_NI
    assert np.isnan(residual_NI).all()


def test_the_linear_baseline_is_least_squares_over_all_samples() -> None:
    signal_NLT = (100 * signals(70)).astype(np.float32)
    kept = [LEADS.index(lead) for lead in KEPT]
    linear = fit_linear(lambda rows: signal_NLT[rows], np.arange(70), kept)
    seen_XK = np.concatenate([signal_NLT[:, kept].transpose(0, 2, 1).reshape(-1, 3), np.ones((3500, 1))], axis=1)
    all_XL = signal_NLT.transpose(0, 2, 1).reshape(-1, 12)
    expected_XL = seen_XK @ np.linalg.lstsq(seen_XK, all_XL, rcond=None)[0]
    np.testing.assert_allclose(linear(signal_NLT).transpose(0, 2, 1).reshape(-1, 12), expected_XL, rtol=1e-3, atol=0.2)
    np.testing.assert_allclose(linear(signal_NLT)[:, kept], signal_NLT[:, kept], rtol=1e-3, atol=0.2)


def test_the_linear_baseline_sees_no_missing_lead_and_survives_a_flat_one() -> None:
    signal_NLT = signals(5).astype(np.float32)
    signal_NLT[:, LEADS.index("V1")] = 0
    linear = fit_linear(lambda rows: signal_NLT[rows], np.arange(5), [LEADS.index(lead) for lead in KEPT])
    changed_NLT = signal_NLT.copy()
    changed_NLT[:, [LEADS.index(lead) for lead in MISSING]] = 7
    assert np.isfinite(linear(signal_NLT)).all() and np.array_equal(linear(signal_NLT), linear(changed_NLT))


def test_without_training_records_there_is_no_line() -> None:
    with pytest.raises(TrainingError, match="no training record"):
        fit_linear(lambda rows: signals()[rows].astype(np.float32), np.zeros(0, np.int64), [1])


def table() -> Reconstructions:
    rng = np.random.default_rng(0)
    errors = Errors(*(rng.random((4, 9)) for _ in range(3)), rng.random((4, 4)))
    errors.pearson_NM[2, 1] = np.nan
    origin = Origin("small", "leads", "wearecg", "tiny", "reconstruction", "pretrained", 0, "abc")
    distance = Distance(1.5, 4, 16, "Net1D", "f" * 64, "prepared")
    people = ["p0", "p0", "p1", "p2"]
    return Reconstructions(
        origin, MISSING, tuple(n for n, _ in IDENTITIES), ["a", "b", "c", "d"], people, np.array([9, 9, 10, 10]), errors, distance
    )


@pytest.mark.parametrize("measured", [True, False])
def test_a_table_is_read_as_it_was_written(tmp_path: Path, measured: bool) -> None:
    written = table() if measured else replace(table(), distance=None)
    write_reconstructions(tmp_path / "t.parquet", written)
    again = read_reconstructions(tmp_path / "t.parquet")
    assert (again.origin, again.missing, again.record_id, again.distance) == (written.origin, MISSING, written.record_id, written.distance)
    for name in Errors.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again.errors, name), getattr(written.errors, name))


def test_folds_are_cut_out() -> None:
    test = table().folds([10])
    assert test.record_id == ["c", "d"] and np.array_equal(test.errors.mse_NM, table().errors.mse_NM[2:])


def test_fewer_records_than_features_are_spelled_out() -> None:
    distance = table().distance
    assert distance is not None and "singular" in distance.words and "singular" not in replace(distance, n=17).words


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"nothing")
    with pytest.raises(ReconstructionError, match="evaluate again"):
        read_reconstructions(tmp_path / "t.parquet")
