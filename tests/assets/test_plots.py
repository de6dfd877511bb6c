from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from assets.plots import ecg_figure, leaderboard_figure, loss_figure, roc_figure
from assets.plots_judging import Look, explanation_figure, report_figure, retrieval_figure
from assets.plots_page import EcgPage
from assets.signals.simulate import simulate
from models.predictions import Origin, Predictions
from models.types import LEADS

PIXELS_PER_MM = 160 / 25.4


def pixels(path: Path) -> NDArray[np.int64]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"), np.int64)


def ink(path: Path) -> NDArray[np.bool_]:
    """Where the trace's dark colour is."""
    return pixels(path).sum(axis=2) < 200


def test_the_grid_is_true_to_scale(tmp_path: Path) -> None:
    """A step of 1 mV after 2 s stands 10 mm high, and two steps 2 s apart are 50 mm apart."""
    signal_LT = np.zeros((1, 5000), np.float32)
    signal_LT[0, 1000:2000] = 1000.0
    ecg_figure(tmp_path / "x.png", signal_LT, ("II",), 500.0, "step")
    dark = ink(tmp_path / "x.png")
    columns = dark.sum(axis=0)
    upright = np.flatnonzero(columns > 0.9 * 10 * PIXELS_PER_MM)
    steps = upright[upright > 20 * PIXELS_PER_MM]
    assert (steps.max() - steps.min()) / PIXELS_PER_MM == pytest.approx(50, abs=0.5)
    rows = np.flatnonzero(dark[:, steps.min()])
    assert np.ptp(rows) / PIXELS_PER_MM == pytest.approx(10, abs=0.6)


def test_a_twelve_lead_ecg_has_three_rows_and_a_strip(tmp_path: Path) -> None:
    signal_LT = simulate({"SR"}, np.random.default_rng(0), 100.0)
    ecg_figure(tmp_path / "deep" / "x.png", signal_LT, LEADS, 100.0, "twelve")
    height, width, _ = pixels(tmp_path / "deep" / "x.png").shape
    assert width / PIXELS_PER_MM == pytest.approx(10 * 25 + 2 * 5 + 10 + 2 * 4, abs=5)
    assert height / PIXELS_PER_MM == pytest.approx(4 * 30 + 2 * 5 + 15, abs=5)


def test_lead_order_does_not_change_the_picture(tmp_path: Path) -> None:
    signal_LT = simulate({"SR"}, np.random.default_rng(0), 100.0)
    order = np.random.default_rng(1).permutation(12)
    ecg_figure(tmp_path / "a.png", signal_LT, LEADS, 100.0, "x")
    ecg_figure(tmp_path / "b.png", signal_LT[order], [LEADS[i] for i in order], 100.0, "x")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))


@pytest.mark.parametrize("n", [30, 1000])
def test_gaps_flat_leads_and_short_signals_are_drawn(tmp_path: Path, n: int) -> None:
    signal_LT = simulate({"SR"}, np.random.default_rng(0), 100.0)[:, :n]
    signal_LT[3] = np.nan
    signal_LT[4] = 0.0
    signal_LT[5, 10:20] = np.nan
    ecg_figure(tmp_path / "x.png", signal_LT, LEADS, 100.0, "gaps")
    assert ink(tmp_path / "x.png").any()


def test_channels_in_other_units_fill_their_row(tmp_path: Path) -> None:
    wave = np.sin(np.arange(640) / 10)
    for scale in (1.0, 1e6):
        ecg_figure(tmp_path / f"{scale}.png", np.stack([wave * 500, wave * scale]), ("ECG", "BVP"), 64.0, "x", units=("uV", "NU"))
    np.testing.assert_array_equal(pixels(tmp_path / "1.0.png"), pixels(tmp_path / "1000000.0.png"))


def test_a_real_record(tmp_path: Path, shared_data: Path) -> None:
    from assets.readers import read_record

    record = read_record(shared_data / "ptb-xl" / "records100" / "00000" / "00001_lr.hea")
    ecg_figure(tmp_path / "x.png", record.signal_LT, record.leads, record.fs_hz, "PTB-XL 1")
    assert ink(tmp_path / "x.png").sum() > 10_000


def test_losses(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"step": i, "loss": 1 / i, "part": 0.5 / i, "lr": 1e-3, "records_per_s": 10.0, "mfu": None} for i in range(1, 20)
    ]
    rows[4]["validation_loss"] = 0.3
    loss_figure(tmp_path / "x.png", rows, "losses")
    loss_figure(tmp_path / "one.png", rows[:1], "a single row")
    loss_figure(tmp_path / "bare.png", [{"step": 1, "loss": 2.0}], "only a loss")
    assert len({pixels(tmp_path / f"{n}.png").tobytes() for n in ("x", "one", "bare")}) == 3


def table(n_classes: int, fraction: float | None = None) -> Predictions:
    rng = np.random.default_rng(0)
    labels_NC = (rng.random((80, n_classes)) < 0.3).astype(np.int8)
    labels_NC[:, -1] = 0
    origin = Origin(
        "synthetic", "super", "merl", "tiny", "linear_probe", "pretrained", 0, "0" * 64, fraction, None if fraction else "plain"
    )
    names = np.array([str(i) for i in range(80)])
    classes = tuple(f"class {i}" for i in range(n_classes))
    return Predictions(origin, classes, names, names, np.full(80, 10), rng.random((80, n_classes), np.float32), labels_NC)


@pytest.mark.parametrize("n_classes", [1, 5, 11, 12, 71])
def test_roc_curves_of_few_and_many_classes_and_undefined_ones(tmp_path: Path, n_classes: int) -> None:
    roc_figure(tmp_path / "x.png", table(n_classes, fraction=0.1))
    roc_figure(tmp_path / "zero.png", table(n_classes))
    assert pixels(tmp_path / "x.png").std() > 1


def test_the_leaderboard_grows_with_its_rows(tmp_path: Path) -> None:
    row = {"kind": "ours", "dataset": "synthetic", "task": "super", "title": "MERL", "preset": "tiny", "protocol": "zero_shot"}
    row |= {
        "fraction": np.nan,
        "prompts": "plain",
        "channels": "",
        "value": 0.8,
        "low": 0.75,
        "high": 0.84,
        "published": np.nan,
        "supervised": np.nan,
    }
    row |= {"random_init": np.nan, "random_init_low": np.nan, "random_init_high": np.nan}
    full = row | {"task": "form", "fraction": 0.1, "prompts": "", "channels": "II+PLETH", "published": 0.9, "supervised": 0.7}
    full |= {"random_init": 0.6, "random_init_low": 0.5, "random_init_high": 0.7}
    heights = []
    for name, rows in (("none", []), ("few", [row, full]), ("many", [row, full] * 8)):
        frame = pd.DataFrame(rows, columns=list(row))
        leaderboard_figure(tmp_path / f"{name}.png", frame)
        heights.append(pixels(tmp_path / f"{name}.png").shape[0])
    assert heights[0] <= heights[1] < heights[2]


def test_published_rows_of_others_are_not_drawn_as_ours(tmp_path: Path) -> None:
    columns = ["kind", "dataset", "task", "title", "preset", "protocol", "fraction", "prompts", "value", "low", "high"]
    columns += ["random_init", "random_init_low", "random_init_high", "supervised", "published"]
    other = pd.DataFrame([dict.fromkeys(columns, np.nan) | {"kind": "published", "dataset": "ptb_xl", "task": "super", "published": 0.9}])
    leaderboard_figure(tmp_path / "none.png", pd.DataFrame(columns=columns))
    leaderboard_figure(tmp_path / "other.png", other)
    np.testing.assert_array_equal(pixels(tmp_path / "none.png"), pixels(tmp_path / "other.png"))


def shares(direction: str, *metrics: str) -> list[dict[str, Any]]:
    row = {
        "direction": direction,
        "value": 0.2,
        "low": 0.1,
        "high": 0.4,
        "chance": 0.05,
        "note": "among 40 candidates; 3 records lack a part",
    }
    return [row | {"metric": m, "arm": arm} for m in metrics for arm in ("pretrained", "random_init")]


def test_recalls_are_drawn_a_direction_each(tmp_path: Path) -> None:
    one = shares("ecg->image", "recall@1", "recall@5", "recall@10", "accuracy")
    retrieval_figure(tmp_path / "one.png", pd.DataFrame(one), "one")
    retrieval_figure(tmp_path / "three.png", pd.DataFrame(one + shares("a->b", "recall@1") + shares("b->a", "recall@1")), "three")
    assert pixels(tmp_path / "one.png").shape[0] < pixels(tmp_path / "three.png").shape[0]
    blue = np.array([0x1F, 0x5F, 0xA8])
    assert (np.abs(pixels(tmp_path / "one.png") - blue).max(axis=2) < 8).any()


@pytest.mark.parametrize("text", ["", "sinus rhythm", "costs $5 and $6 \\frac", "very long words " * 60, "two\nlines"])
def test_a_report_stands_beside_its_ecg_in_true_size(tmp_path: Path, text: str) -> None:
    page = EcgPage.of(simulate({"SR"}, np.random.default_rng(0), 100.0), LEADS, 100.0)
    report_figure(tmp_path / "x.png", page, "a record", "sinus rhythm", text)
    ecg_figure(tmp_path / "ecg.png", simulate({"SR"}, np.random.default_rng(0), 100.0), LEADS, 100.0, "a record")
    wide, ecg = pixels(tmp_path / "x.png"), pixels(tmp_path / "ecg.png")
    assert wide.shape[0] == ecg.shape[0]
    paper = ecg.shape[1] - round(5 * PIXELS_PER_MM)
    np.testing.assert_array_equal(wide[:, 40:paper], ecg[:, 40:paper])
    assert (wide[:, ecg.shape[1] :].sum(axis=2) < 200).sum() > 500


def test_what_counts_is_coloured_on_image_and_ecg(tmp_path: Path) -> None:
    page = EcgPage.of(simulate({"SR"}, np.random.default_rng(0), 100.0), LEADS, 100.0)
    nothing = np.zeros(page.n_samples), np.zeros((16, 16))
    bump = np.zeros((16, 16))
    bump[4:8, 4:8] = 1.0
    window = np.zeros(page.n_samples)
    window[300:350] = 1.0
    grey = np.full((16, 16), 128, np.uint8)
    explanation_figure(tmp_path / "none.png", Look(grey, nothing[1], page, nothing[0]), "x")
    explanation_figure(tmp_path / "both.png", Look(grey, bump, page, window), "x")
    none, both = pixels(tmp_path / "none.png"), pixels(tmp_path / "both.png")
    changed = np.abs(none - both).max(axis=2) > 60
    left = round(116 * PIXELS_PER_MM)
    assert changed[:, :left].mean() > 0.02 and changed[:, left:].mean() > 0.01
    columns = np.flatnonzero(changed[:, left:].any(axis=0)) / PIXELS_PER_MM
    first = columns.min() - 15 - 4  # margin, pulse and the side of the page
    assert first == pytest.approx(300 / 100 * 25, abs=6)
