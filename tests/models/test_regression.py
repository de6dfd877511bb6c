"""Ridge regression on frozen features: against its definition, choosing its penalty, refusing what cannot be learned."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from models.errors import TrainingError
from models.regression import PENALTIES, TargetScale, mean_absolute_error, train_ridges

TRAIN_N, VALIDATION_N = np.arange(0, 80), np.arange(80, 120)


def features(seed: int = 0, width: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Features of a telling encoder and of one that tells nothing, and a rate in beats a minute."""
    rng = np.random.default_rng(seed)
    telling_NF = rng.normal(3, 5, (120, width)).astype(np.float32)
    rate_N = 70 + telling_NF @ rng.normal(0, 2, width) + rng.normal(0, 1, 120)
    return np.stack([telling_NF, rng.normal(0, 1, (120, width)).astype(np.float32)]), rate_N[:, None].astype(np.float32)


def test_every_penalty_gives_the_ridge_of_scikit_learn() -> None:
    features_ANF, rate_NC = features()
    (probe, history), _ = train_ridges(features_ANF, rate_NC, TRAIN_N, VALIDATION_N, ("rate",))
    scaler, scale = StandardScaler().fit(features_ANF[0, TRAIN_N]), TargetScale.of(rate_NC[TRAIN_N], ("rate",))
    found = []
    for penalty in PENALTIES:
        model = Ridge(alpha=penalty, fit_intercept=False).fit(
            scaler.transform(features_ANF[0, TRAIN_N]), scale.standardise(rate_NC[TRAIN_N])
        )
        found.append(scale.restore(model.predict(scaler.transform(features_ANF[0])).reshape(-1, 1)))
    wanted = [mean_absolute_error(scores_NC[VALIDATION_N], rate_NC[VALIDATION_N]) for scores_NC in found]
    assert [-r.validation for r in history] == pytest.approx(wanted, rel=1e-3)
    assert probe.epoch == 1 + int(np.argmin(wanted))
    assert probe.scores(features_ANF[0]) == pytest.approx(found[probe.epoch - 1], abs=1e-2)


def test_telling_features_beat_the_mean_and_others_come_back_to_it() -> None:
    features_ANF, rate_NC = features()
    (told, _), (untold, _) = train_ridges(features_ANF, rate_NC, TRAIN_N, VALIDATION_N, ("rate",))
    mean_error = float(np.abs(rate_NC[VALIDATION_N] - rate_NC[TRAIN_N].mean()).mean())
    assert mean_absolute_error(told.scores(features_ANF[0, VALIDATION_N]), rate_NC[VALIDATION_N]) < 0.15 * mean_error
    assert mean_absolute_error(untold.scores(features_ANF[1, VALIDATION_N]), rate_NC[VALIDATION_N]) < 1.2 * mean_error
    assert PENALTIES[untold.epoch - 1] > PENALTIES[told.epoch - 1]


def test_more_features_than_records_and_constant_ones_are_borne() -> None:
    features_ANF, rate_NC = features(width=300)
    features_ANF[:, :, 7] = 4.0
    (probe, _), _ = train_ridges(features_ANF, rate_NC, TRAIN_N, VALIDATION_N, ("rate",))
    assert np.isfinite(probe.scores(features_ANF[0])).all()


def test_a_target_without_spread_is_refused_by_name() -> None:
    features_ANF, rate_NC = features()
    with pytest.raises(TrainingError, match="target 'rate' is 61 for all 80 training records"):
        train_ridges(features_ANF, np.full_like(rate_NC, 61), TRAIN_N, VALIDATION_N, ("rate",))
    rate_NC[3] = np.nan
    with pytest.raises(TrainingError, match="target 'rate' is no finite number"):
        train_ridges(features_ANF, rate_NC, TRAIN_N, VALIDATION_N, ("rate",))
