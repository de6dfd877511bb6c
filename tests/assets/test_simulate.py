from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import find_peaks

from assets.signals.simulate import FINDINGS, simulate
from models.errors import ConfigurationError
from models.types import LEADS

LEAD_I, II, III, AVR, AVL, AVF = range(6)
V1, V5, V6 = LEADS.index("V1"), LEADS.index("V5"), LEADS.index("V6")
SEEDS = range(8)


def draw(*codes: str, seed: int = 0, fs_hz: float = 250.0) -> NDArray[np.float32]:
    return simulate(codes, np.random.default_rng(seed), fs_hz)


def r_times(signal_LT: NDArray[np.float32], fs_hz: float = 250.0) -> NDArray[np.float64]:
    """Beats by the energy of the slope over all leads: a detector that knows nothing of the simulator."""
    energy = np.convolve((np.diff(signal_LT[[LEAD_I, II, V1, V5]], axis=1) ** 2).sum(axis=0), np.ones(int(0.06 * fs_hz)), "same")
    peaks, _ = find_peaks(energy, height=0.25 * np.quantile(energy, 0.99), distance=int(0.25 * fs_hz))
    return peaks / fs_hz


def beats(*codes: str, lead: int, before: float = 0.1, after: float = 0.5, fs_hz: float = 250.0) -> NDArray[np.float64]:
    """Median beats in millivolts of several patients, each against its own level before the QRS, shape (seeds, T)."""
    result = []
    for seed in SEEDS:
        signal_LT = draw(*codes, seed=seed)
        at = [int(t * fs_hz) for t in r_times(signal_LT) if 0.5 < t < 9.0]
        cut = np.median([signal_LT[lead, a - int(before * fs_hz) : a + int(after * fs_hz)] for a in at], axis=0)
        result.append((cut - np.median(cut[: int(0.04 * fs_hz)])) / 1000.0)
    return np.array(result, np.float64)


@pytest.mark.parametrize(("fs_hz", "duration", "n"), [(100.0, 10.0, 1000), (500.0, 10.0, 5000), (250.0, 2.5, 625)])
def test_shape_and_type(fs_hz: float, duration: float, n: int) -> None:
    signal_LT = simulate({"SR"}, np.random.default_rng(0), fs_hz, duration)
    assert signal_LT.shape == (12, n)
    assert signal_LT.dtype == np.float32


@pytest.mark.parametrize("codes", [("NORM",), ("AFIB", "IMI"), ("CLBBB", "PVC"), ("PACE",)])
def test_limb_leads_obey_einthoven_and_goldberger(codes: tuple[str, ...]) -> None:
    s = draw(*codes).astype(np.float64)
    for lead, expected in (
        (III, s[II] - s[LEAD_I]),
        (AVR, -(s[LEAD_I] + s[II]) / 2),
        (AVL, s[LEAD_I] - s[II] / 2),
        (AVF, s[II] - s[LEAD_I] / 2),
    ):
        np.testing.assert_allclose(s[lead], expected, atol=1e-3)


def test_the_seed_decides() -> None:
    np.testing.assert_array_equal(draw("SR", "LVH", seed=3), draw("SR", "LVH", seed=3))
    assert not np.array_equal(draw("SR", seed=3), draw("SR", seed=4))


@pytest.mark.parametrize("code", sorted(FINDINGS))
def test_every_finding_is_drawn_with_plausible_amplitude(code: str) -> None:
    for seed in range(3):
        signal_LT = draw(code, seed=seed, fs_hz=100.0)
        assert np.isfinite(signal_LT).all()
        spread = np.ptp(signal_LT, axis=1)
        assert 250 < spread.max() < 9000


@pytest.mark.parametrize("codes", [("XYZ",), ("SR", "AFIB"), ("SBRAD", "STACH"), ("AFIB", "BIGU")])
def test_what_cannot_be_drawn_is_refused(codes: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError):
        draw(*codes)


@pytest.mark.parametrize(("code", "low", "high"), [("SBRAD", 38, 58), ("SR", 58, 100), ("STACH", 100, 150), ("PACE", 57, 77)])
def test_rates(code: str, low: float, high: float) -> None:
    for seed in SEEDS:
        rate = 60.0 / np.median(np.diff(r_times(draw(code, seed=seed))))
        assert low < rate < high


def test_rhythms_differ_in_regularity() -> None:
    def irregularity(code: str) -> float:
        return float(np.mean([np.std(np.diff(t)) / np.mean(np.diff(t)) for t in (r_times(draw(code, seed=s)) for s in SEEDS)]))

    assert irregularity("SR") < 0.04
    assert irregularity("PACE") < 0.02
    assert irregularity("SARRH") > 0.08
    assert irregularity("AFIB") > 0.12


def test_bigeminy_alternates() -> None:
    interval = np.diff(r_times(draw("SR", "BIGU", "PVC", seed=1)))
    short, long = np.sort(np.array([interval[::2].mean(), interval[1::2].mean()]))
    assert long / short > 1.3


def test_p_waves_come_before_sinus_beats_only() -> None:
    def atrial(code: str) -> float:
        cut = beats(code, lead=II, before=0.28, after=0.0)
        return float(np.median(cut[:, : int(0.22 * 250)].max(axis=1)))

    assert atrial("SR") > 0.05
    assert atrial("SR") > 2 * atrial("PACE")


def test_flutter_waves_come_at_about_300_a_minute() -> None:
    for seed in range(4):
        lead = draw("AFLT", seed=seed)[III]
        power = np.abs(np.fft.rfft(lead - lead.mean())) ** 2
        frequency = np.fft.rfftfreq(lead.size, 1 / 250.0)
        band = (frequency > 3.8) & (frequency < 6.0)
        outside = (frequency > 2.5) & (frequency < 3.8)
        assert power[band].max() > power[outside].max()


def test_findings_show_where_the_textbook_says() -> None:
    def lowest(lead: int, *codes: str) -> float:
        return float(np.median(beats(*codes, lead=lead).min(axis=1)))

    def highest(lead: int, *codes: str) -> float:
        return float(np.median(beats(*codes, lead=lead).max(axis=1)))

    def late(lead: int, *codes: str) -> float:
        """T wave: 200 to 350 ms after the R."""
        return float(np.median(beats(*codes, lead=lead)[:, int(0.3 * 250) : int(0.45 * 250)].mean(axis=1)))

    assert lowest(III, "SR", "IMI") < lowest(III, "SR") - 0.1
    assert highest(V1, "SR", "CRBBB") > highest(V1, "SR") + 0.2
    assert lowest(V1, "SR", "CLBBB") < lowest(V1, "SR") - 0.12
    assert lowest(AVF, "SR", "LAFB") < lowest(AVF, "SR") - 0.2
    assert highest(V5, "SR", "LVH") > 1.2 * highest(V5, "SR")
    assert highest(V5, "SR", "LVOLT") < 0.6 * highest(V5, "SR")
    assert highest(V1, "SR", "RVH") > highest(V1, "SR") + 0.1
    assert late(V5, "SR") > 0.1
    assert late(V5, "SR", "INVT") < -0.05
    assert abs(late(V5, "SR", "LOWT")) < 0.5 * late(V5, "SR")
    assert late(V6, "SR", "CLBBB") < 0.0


def test_bundle_branch_block_widens_the_qrs() -> None:
    def width(*codes: str) -> float:
        cut = np.abs(beats(*codes, lead=V6, before=0.1, after=0.14))
        return float(np.median((cut > 0.3 * cut.max(axis=1, keepdims=True)).sum(axis=1)) / 250.0)

    assert width("SR", "CLBBB") > 1.5 * width("SR")
