"""Quality flags: each found where it was planted, none on a sound record, alike for a record and a batch, and on real records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from assets.datasets.ptb_xl import PTBXL
from assets.signals import quality
from assets.signals.quality import bit_mask, flat_leads, lead_flags, limb_swap, noisy_leads, saturated_leads
from assets.signals.simulate import simulate
from models.types import LEADS


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PTBXL:
    folder = tmp_path_factory.mktemp("ptb_xl")
    PTBXL.make_fixture(folder)
    return PTBXL(folder)


@pytest.fixture
def ecg(dataset: PTBXL) -> NDArray[np.float32]:
    """A sound ECG at 100 Hz, shape (12, 1000)."""
    return dataset.read("2").signal_LT.copy()


def flags(signal: NDArray[np.float32], fs_hz: float = 100.0) -> dict[str, list[str]]:
    found = {"flat": flat_leads(signal, fs_hz), "saturated": saturated_leads(signal), "noisy": noisy_leads(signal, fs_hz)}
    named = {kind: [LEADS[i] for i in np.flatnonzero(which)] for kind, which in found.items() if which.any()}
    return named | ({"limb_swap": []} if limb_swap(signal) else {})


@pytest.mark.parametrize("fs_hz", [100.0, 500.0])
def test_sound_records_have_no_flags(dataset: PTBXL, fs_hz: float) -> None:
    for record_id in ("1", "41", "81", "121", "161"):
        assert flags(dataset.read(record_id, fs_hz).signal_LT, fs_hz) == {}


def test_flat_lead_and_lead_that_fell_off(ecg: NDArray[np.float32]) -> None:
    ecg[7] = 12 + np.resize([0, 20, -20], 1000)
    ecg[9, 700:] = ecg[9, 700]
    assert flags(ecg)["flat"] == ["V2", "V4"]


def test_short_standstill_is_not_flat(ecg: NDArray[np.float32]) -> None:
    ecg[9, :100] = 0
    assert flags(ecg) == {}


def test_saturated_lead(ecg: NDArray[np.float32]) -> None:
    cut = np.clip(ecg[8] * 20, -2000, 2000)
    assert (np.abs(cut) == 2000).mean() > 0.02
    ecg[8] = cut
    assert flags(ecg)["saturated"] == ["V3"]


def test_noise_is_found_and_drift_is_not(ecg: NDArray[np.float32]) -> None:
    rng = np.random.default_rng(0)
    ecg[11] += (500 * np.sin(2 * np.pi * 0.3 * np.arange(1000) / 100)).astype(np.float32)
    assert "noisy" not in flags(ecg)
    ecg[10] += rng.normal(0, 40, 1000).astype(np.float32)
    assert flags(ecg)["noisy"] == ["V5"]


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2), (4, 5), (3, 4), (2, 5), (0, 5)])
def test_exchanged_limb_channels_break_the_relations(ecg: NDArray[np.float32], one: int, other: int) -> None:
    ecg[[one, other]] = ecg[[other, one]]
    assert limb_swap(ecg)


def test_exchanged_arm_electrodes_turn_lead_one_over(ecg: NDArray[np.float32]) -> None:
    one, two, three, avr, avl, avf = ecg[:6].copy()
    ecg[:6] = -one, three, two, avl, avr, avf
    assert limb_swap(ecg)


def test_exchanged_chest_channels_are_not_limb_leads(ecg: NDArray[np.float32]) -> None:
    ecg[[6, 8]] = ecg[[8, 6]]
    assert not limb_swap(ecg)


def block_means(values: NDArray[np.float32], fs_hz: float) -> NDArray[np.float32]:
    width = min(max(round(0.2 * fs_hz), 1), values.shape[-1])
    pieces = values.shape[-1] // width
    return values[..., : pieces * width].reshape(*values.shape[:-1], pieces, width).mean(axis=-1)


def naive_flat(signal: NDArray[np.float32], fs_hz: float) -> NDArray[np.bool_]:
    still = block_means(np.abs(np.diff(signal)), fs_hz) == 0
    return (np.ptp(signal, axis=-1) < quality.FLAT_UV) | (still.mean(axis=-1) > quality.FLAT_SHARE)


def naive_saturated(signal: NDArray[np.float32]) -> NDArray[np.bool_]:
    saturated = np.zeros(signal.shape[:-1], np.bool_)
    for extreme in (signal.max(axis=-1, keepdims=True), signal.min(axis=-1, keepdims=True)):
        at_rail = signal == extreme
        share = (at_rail[..., 1:] & at_rail[..., :-1]).mean(axis=-1)
        saturated |= (share > quality.RAIL_SHARE) & (np.abs(extreme[..., 0]) >= quality.RAIL_UV)
    return saturated


def naive_noisy(signal: NDArray[np.float32], fs_hz: float) -> NDArray[np.bool_]:
    pieces = block_means(np.abs(np.diff(signal, n=2)), fs_hz)
    level = np.sort(pieces, axis=-1)[..., pieces.shape[-1] // 4]
    return level > quality.NOISE_RMS_UV * np.sqrt(6) * np.sqrt(2 / np.pi)


def naive_limb_swap(signal: NDArray[np.float32]) -> NDArray[np.bool_]:
    one, two, three, avr, avl, avf = (signal[:, i].astype(np.float64) for i in range(6))
    errors = (two - one - three, avr + (one + two) / 2, avl - (one - three) / 2, avf - (two + three) / 2)
    worst = np.max([np.sqrt((e**2).mean(axis=-1)) for e in errors], axis=0)
    limit = np.maximum(quality.RELATION_RMS_UV, quality.RELATION_SHARE * np.sqrt((signal[:, :6] ** 2).mean(axis=-1)).mean(axis=-1))
    turned = []
    for i, v6 in zip(np.diff(signal[:, 0]), np.diff(signal[:, 11]), strict=True):
        turned.append(i.std() > 0 and v6.std() > 0 and np.corrcoef(i, v6)[0, 1] < quality.INVERSION)
    return (worst > limit) | np.array(turned)


def spoiled(seed: int, length: int) -> NDArray[np.float32]:
    """Records of all kinds of faults, some near the thresholds, shape (6, 12, length)."""
    rng = np.random.default_rng(seed)
    batch = np.stack([simulate(["NORM"], rng, 500.0) for _ in range(6)])[:, :, :length]
    for record, lead in zip(rng.integers(0, 6, 20), rng.integers(0, 12, 20), strict=True):
        row = batch[record, lead]
        match rng.integers(6):
            case 0:
                row[:] = rng.integers(-1000, 1000)
            case 1:
                row[: int(length * rng.uniform(0.15, 0.25))] = row[0]
            case 2:
                row += rng.normal(0, rng.uniform(20, 30), length).astype(np.float32)
            case 3:
                np.clip(row * 20, -1100, 900, out=row)
            case 4:
                row *= -1
            case _:
                row *= 60 / np.ptp(row)
    return batch


@pytest.mark.parametrize("length", [5000, 4999, 1001, 130, 101, 60, 3])
def test_fused_flags_are_those_of_the_rules_written_out(length: int) -> None:
    found = np.zeros(4, int)
    for seed in range(4):
        batch = spoiled(seed, length)
        wanted = (naive_flat(batch, 500), naive_saturated(batch), naive_noisy(batch, 500))
        flags = lead_flags(batch, 500.0)
        for rule, expected in zip(flags, wanted, strict=True):
            np.testing.assert_array_equal(rule, expected)
        np.testing.assert_array_equal(limb_swap(batch), naive_limb_swap(batch))
        found += [rule.sum() for rule in (*flags, limb_swap(batch))]
    assert length < 5000 or found.all(), "a rule that nothing breaks proves nothing"


def test_one_sample_is_flat_and_nothing_else() -> None:
    flags = lead_flags(np.full((12, 1), 2000, np.float32), 500.0)
    assert (flags.flat.all(), flags.saturated.any(), flags.noisy.any()) == (True, False, False)
    assert not limb_swap(np.zeros((12, 1), np.float32))


def test_flags_of_a_batch_are_those_of_its_records(dataset: PTBXL) -> None:
    batch = np.stack([dataset.read(str(i)).signal_LT for i in (1, 2, 3, 4)]).copy()
    batch[1, 3] = 0
    batch[2, 5] += np.random.default_rng(0).normal(0, 60, 1000).astype(np.float32)
    for rule in (lambda x: flat_leads(x, 100), saturated_leads, lambda x: noisy_leads(x, 100), limb_swap):
        np.testing.assert_array_equal(rule(batch), np.stack([rule(record) for record in batch]))


def test_bit_mask_has_bit_i_for_lead_i() -> None:
    which = np.zeros((2, 12), np.bool_)
    which[0, [0, 11]] = True
    assert bit_mask(which).tolist() == [1 + 2048, 0]
    assert bit_mask(which).dtype == np.int32


def test_real_records_known_to_be_faulty_and_the_rest(shared_data: Path) -> None:
    dataset = PTBXL(shared_data / "ptb-xl")
    assert flags(dataset.read("12722").signal_LT)["flat"] == ["V4", "V5", "V6"]  # V5 throughout, the others for 3 s and 9 s
    assert "limb_swap" in flags(dataset.read("11641").signal_LT)
    sample = np.stack([dataset.read(i).signal_LT for i in dataset.records()["record_id"][::10]])
    assert noisy_leads(sample, 100).any(axis=1).mean() < 0.06
    assert not saturated_leads(sample).any()
    assert limb_swap(sample).mean() < 0.01


def test_real_flat_leads_of_other_sources(shared_data: Path) -> None:
    from assets.readers import read_record

    flat = set()
    for header in (shared_data / "cinc2021").rglob("JS*.hea"):
        record = read_record(header)
        if flat_leads(record.signal_LT, record.fs_hz).any():
            flat.add(header.stem)
    assert flat == {"JS11438", "JS20008", "JS45542", "JS45551"}


def test_real_unacceptable_records_are_flagged_and_acceptable_ones_are_not(shared_data: Path) -> None:
    """Challenge 2011, set a: its columns are I, II, III, aVR, aVF, aVL, V1 to V6, its unit is 5 uV; 38 have a lead that never moves."""
    folder = shared_data / "cinc2011" / "set-a"
    flagged, still = {}, 0
    for name in ("acceptable", "unacceptable"):
        flagged[name] = 0
        for record in (folder / f"RECORDS-{name}").read_text().split():
            columns = np.loadtxt(folder / f"{record}.txt", np.float32, delimiter=",")[:, 1:].T
            signal = np.ascontiguousarray(columns[[0, 1, 2, 3, 5, 4, *range(6, 12)]] * 5)
            rules = lead_flags(signal, 500.0)
            never_moves = np.ptp(signal, axis=-1) == 0
            assert (rules.flat >= never_moves).all()
            still += never_moves.any()
            flagged[name] += any(rule.any() for rule in rules) or bool(limb_swap(signal))
    assert still == 38
    assert flagged == {"acceptable": 2, "unacceptable": 45}
