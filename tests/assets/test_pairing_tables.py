"""Pairing rules carried out on tables: windows to the second, panels, percentiles, lists for retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import assets.pairing_labs
import assets.pairing_times
from assets.lab_tables import lab_schema
from assets.pairing_labs import LabScale
from assets.pairing_rules import DAY_S, HOUR_S, PARTS, RULES, SYMILE_LABS, LabPanel, Window
from assets.pairing_tables import (
    SAMPLE_COLUMNS,
    add_text,
    draw_candidates,
    has_all,
    pair_own,
    pair_records,
    pair_stays,
    published_candidates,
)
from assets.pairing_times import PairingError
from assets.splits import fold_of

START = pd.Timestamp("2150-06-01T00:00:00")
MORE, SYMILE, ANY = RULES["more"], RULES["symile_mimic"], RULES["admission_any"]
CREATININE, SODIUM = "50912", "50983"


def after(seconds: float) -> str:
    return (START + pd.Timedelta(seconds=seconds)).isoformat()


def records(*rows: tuple[str, str, str], view: str = "AP", **columns: Sequence[object]) -> pd.DataFrame:
    """(record, patient, time) as stage raw publishes them."""
    table = pd.DataFrame(rows, columns=["record_id", "patient_id", "acquired_at"], dtype="str")
    return table.assign(**{"present": True, "view": view, "official_split": "train", **columns})


def stays(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["encounter_id", "patient_id", "admitted_at"], dtype="str")


def labs(path: Path, *rows: tuple[str, str, str, float]) -> Path:
    """(patient, time, item, value) as stage cleaned publishes them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pd.DataFrame(rows, columns=["patient_id", "charted_at", "item_id", "value"]).assign(encounter_id="", unit="mg/dL")
    schema = lab_schema()
    pq.write_table(pa.Table.from_pandas(table[schema.names], schema, preserve_index=False), path / "labs.parquet")
    return path / "labs.parquet"


def shows(samples: pd.DataFrame, column: str) -> list[object]:
    return [None if pd.isna(v) else v for v in samples[column]]


# windows


def test_more_counts_whole_days_between_the_ecg_and_the_day_of_the_x_ray() -> None:
    ecgs = records(("midnight", "p:1", after(0)), ("noon", "p:1", after(0.5 * DAY_S)), ("night", "p:1", after(0.1 * DAY_S)))
    days = {"d-61": -61, "d-60": -60, "d60": 60, "d61": 61, "d62": 62}
    images = records(*((name, "p:1", after(day * DAY_S + 86_399.9)) for name, day in days.items()))
    found = pair_records(MORE, ecgs, images)
    assert list(found.columns) == list(SAMPLE_COLUMNS)
    # Days from the ECG to 00:00 of the day of the X-ray: -60 <= difference < 61.
    assert set(found["sample_id"]) == {
        "midnight+d-60", "midnight+d60",  # -61 and 61 are out
        "noon+d60", "noon+d61",  # -60.5 is out, 60.5 is in
        "night+d60", "night+d61",  # -60.1 is out, 60.9 is in
    }  # fmt: skip
    assert dict(zip(found["sample_id"], found["dt_image_s"], strict=True))["night+d61"] == pytest.approx(60.9 * DAY_S)
    assert shows(found, "encounter_id") == [None] * 6 and set(found["observed"]) == {0b11} and (found["dt_ecg_s"] == 0).all()


@pytest.mark.parametrize(
    ("seconds", "inside"),
    [(-24 * HOUR_S - 1, False), (-24 * HOUR_S, True), (0, True), (24 * HOUR_S, True), (24 * HOUR_S + 1, False)],
)
def test_symile_takes_ecgs_of_a_day_before_and_after_admission(tmp_path: Path, seconds: int, inside: bool) -> None:
    ecgs = records(("early", "p:1", after(seconds)))
    images = records(("x", "p:1", after(30 * HOUR_S)))
    path = labs(tmp_path, ("p:1", after(0), CREATININE, 1.0))
    if not inside:
        with pytest.raises(PairingError, match="'symile_mimic' finds nothing that belongs together"):
            pair_stays(SYMILE, stays(("s", "p:1", after(0))), path, ecgs, images)
        return
    samples, _ = pair_stays(SYMILE, stays(("s", "p:1", after(0))), path, ecgs, images)
    assert samples.loc[0, ["sample_id", "encounter_id", "panel_id", "dt_ecg_s"]].tolist() == ["s", "s", "s", seconds]


@pytest.mark.parametrize(
    ("seconds", "view", "inside"),
    [
        (24 * HOUR_S, "AP", False),
        (24 * HOUR_S + 0.9, "AP", False),  # times of day are cut to seconds
        (24 * HOUR_S + 1, "AP", True),
        (72 * HOUR_S, "PA", True),
        (72 * HOUR_S + 0.9, "PA", True),
        (72 * HOUR_S + 1, "PA", False),
        (48 * HOUR_S, "LATERAL", False),
        (48 * HOUR_S, "", False),
    ],
)
def test_symile_takes_frontal_x_rays_of_the_second_and_third_day(tmp_path: Path, seconds: float, view: str, inside: bool) -> None:
    later = records(("first", "p:1", after(seconds)), ("last", "p:1", after(71 * HOUR_S)), view=[view, "AP"])
    path = labs(tmp_path, ("p:1", after(0), CREATININE, 1.0))
    samples, _ = pair_stays(SYMILE, stays(("s", "p:1", after(0))), path, records(("e", "p:1", after(0))), later)
    assert samples["image_id"].tolist() == ["first" if inside and seconds < 71 * HOUR_S else "last"]
    alone = later.iloc[:1]
    if inside:
        assert len(pair_stays(SYMILE, stays(("s", "p:1", after(0))), path, records(("e", "p:1", after(0))), alone)[0]) == 1


def test_the_earliest_that_is_there_is_taken_and_of_equals_the_first_by_id(tmp_path: Path) -> None:
    ecgs = records(
        ("c", "p:1", after(60)),
        ("b", "p:1", after(60)),
        ("gone", "p:1", after(0)),
        ("undated", "p:1", ""),
        present=[True, True, False, True],
    )
    images = records(("x", "p:1", after(30 * HOUR_S)), ("w", "p:2", after(25 * HOUR_S)))
    path = labs(tmp_path, ("p:1", after(0), CREATININE, 1.0))
    samples, _ = pair_stays(SYMILE, stays(("s", "p:1", after(0))), path, ecgs, images)
    assert samples.loc[0, ["ecg_id", "image_id"]].tolist() == ["b", "x"]


# panels


def test_a_panel_has_the_earliest_number_of_each_item_in_the_window(tmp_path: Path) -> None:
    path = labs(
        tmp_path,
        ("p:1", after(-24 * HOUR_S - 1), CREATININE, 9.0),  # too early
        ("p:1", after(3600), CREATININE, 1.5),
        ("p:1", after(-24 * HOUR_S), CREATININE, float("nan")),  # no number
        ("p:1", "", CREATININE, 8.0),  # no time
        ("p:1", after(60), CREATININE, 1.1),
        ("p:1", after(60), CREATININE, 7.0),  # same second, later in the table
        ("p:1", after(24 * HOUR_S), SODIUM, 140.0),
        ("p:1", after(24 * HOUR_S + 1), "50902", 100.0),  # too late
        ("p:1", after(60), "51003", 0.02),  # none of the 50
        ("p:2", after(0), SODIUM, 120.0),  # somebody else's
        ("p:3", after(0), SODIUM, 121.0),  # never admitted
    )
    ecgs = records(("e", "p:1", after(0)), ("f", "p:2", after(0)))
    images = records(("x", "p:1", after(30 * HOUR_S)))
    samples, panels = pair_stays(SYMILE, stays(("s", "p:1", after(0)), ("t", "p:2", after(0))), path, ecgs, images)
    values_P = dict(zip(SYMILE_LABS, panels.values_NP[0], strict=True))
    assert {item: v for item, v in values_P.items() if not np.isnan(v)} == {CREATININE: 1.1, SODIUM: 140.0}
    assert samples.loc[0, ["dt_labs_s", "dt_labs_last_s"]].tolist() == [60.0, 24.0 * HOUR_S]


def test_a_result_may_serve_two_stays_and_a_panel_may_have_to_be_fuller(tmp_path: Path) -> None:
    rule = replace(SYMILE, labs=LabPanel("mimic_iv", (SODIUM, CREATININE), Window(-24 * HOUR_S, 24 * HOUR_S), at_least=2))
    path = labs(
        tmp_path,
        ("p:1", after(10 * HOUR_S), SODIUM, 140.0),
        ("p:1", after(15 * HOUR_S), CREATININE, 2.0),
        ("p:1", after(0), CREATININE, 1.0),
    )
    begins = {"a": 0, "b": 26 * HOUR_S, "c": 37 * HOUR_S}  # in the window of c lies one result only
    ecgs = records(("e", "p:1", after(12 * HOUR_S)), ("f", "p:1", after(37 * HOUR_S)))
    images = records(("x", "p:1", after(62 * HOUR_S)))
    samples, panels = pair_stays(rule, stays(*((s, "p:1", after(t)) for s, t in begins.items())), path, ecgs, images)
    assert samples[["encounter_id", "ecg_id", "image_id"]].to_numpy().tolist() == [["a", "e", "x"], ["b", "e", "x"]]
    np.testing.assert_array_equal(panels.values_NP, [[140.0, 1.0], [140.0, 2.0]])


def test_without_a_rule_for_all_any_two_make_a_sample(tmp_path: Path) -> None:
    patients = {"p:1": "eil", "p:2": "ei", "p:3": "el", "p:4": "il", "p:5": "e", "p:6": "l", "p:7": ""}
    holds = {kind: [(f"{kind}-{p}", p, after(3600)) for p, held in patients.items() if kind in held] for kind in "ei"}
    path = labs(tmp_path, *((p, after(60), SODIUM, 140.0) for p, held in patients.items() if "l" in held))
    samples, panels = pair_stays(ANY, stays(*((f"s-{p}", p, after(0)) for p in patients)), path, records(*holds["e"]), records(*holds["i"]))
    assert dict(zip(samples["patient_id"], samples["observed"], strict=True)) == {"p:1": 0b111, "p:2": 0b011, "p:3": 0b101, "p:4": 0b110}
    assert shows(samples, "panel_id") == ["s-p:1", None, "s-p:3", "s-p:4"] and len(panels.values_NP) == 3
    assert shows(samples, "image_id") == ["i-p:1", "i-p:2", None, "i-p:4"]
    assert shows(samples, "dt_image_s") == [3600, 3600, None, 3600] and shows(samples, "dt_labs_s") == [60, None, 60, 60]
    assert shows(samples, "official_part") == ["train", "train", None, "train"]


@pytest.mark.parametrize("seed", range(3))
def test_sorted_joins_find_what_a_plain_search_finds(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets.pairing_labs, "_BATCH_ROWS", 17)
    rng = np.random.default_rng(seed)

    def things(kind: str, n: int, days: float) -> list[tuple[str, str, str]]:
        hours = rng.integers(-24 * days, 24 * days, n)
        return [(f"{kind}{i:03d}", f"p:{rng.integers(6)}", after(float(h) * HOUR_S)) for i, h in enumerate(hours)]

    ecgs, images = records(*things("e", 40, 6)), records(*things("i", 40, 6))
    admitted = stays(*things("s", 15, 4))
    results = [(p, t, (SODIUM, CREATININE)[rng.integers(2)], float(v)) for v, (_, p, t) in enumerate(things("l", 150, 5))]
    samples, panels = pair_stays(ANY, admitted, labs(tmp_path, *results), ecgs, images)

    def elapsed(a: str, b: str) -> float:
        return (pd.Timestamp(a) - pd.Timestamp(b)).total_seconds() / HOUR_S

    expected = {}
    for stay, patient, begin in admitted.itertuples(index=False):
        firsts = []
        for table, high in ((ecgs, 72), (images, 72)):
            held = [(elapsed(r.acquired_at, begin), r.record_id) for r in table.itertuples() if r.patient_id == patient]
            firsts.append(min((h for h in held if -24 <= h[0] <= high), default=(0, None))[1])
        values = []
        for item in (CREATININE, SODIUM):
            held = [(elapsed(t, begin), n, v) for n, (p, t, i, v) in enumerate(results) if p == patient and i == item]
            values.append(min((h for h in held if -24 <= h[0] <= 24), default=(0, 0, None))[2])
        if sum([firsts[0] is not None, firsts[1] is not None, values != [None, None]]) >= 2:
            expected[stay] = (*firsts, *values)
    row_of = {panel: row for row, panel in enumerate(samples["panel_id"].dropna())}
    columns = [SYMILE_LABS.index(i) for i in (CREATININE, SODIUM)]
    found = {}
    for row in samples.itertuples():
        pair = [None if pd.isna(v) else v for v in (row.ecg_id, row.image_id)]
        held = panels.values_NP[row_of[row.panel_id], columns] if not pd.isna(row.panel_id) else [np.nan, np.nan]
        found[row.sample_id] = (*pair, *(None if np.isnan(v) else v for v in held))
    assert found == expected and len(found) > 5
    pairs = pair_records(MORE, ecgs, images)
    assert len(pairs) == sum((ecgs["patient_id"] == p).sum() * (images["patient_id"] == p).sum() for p in ecgs["patient_id"].unique())


# parts


def test_people_are_in_the_part_of_their_fold_by_every_rule(tmp_path: Path) -> None:
    people = [f"mimic:{n}" for n in range(60)]
    ecgs, images = (records(*((f"{kind}{p}", p, after(30 * HOUR_S)) for p in people)) for kind in "ei")
    ecgs["acquired_at"] = after(0)
    path = labs(tmp_path, *((p, after(0), SODIUM, 140.0) for p in people))
    admitted = stays(*((f"s{p}", p, after(0)) for p in people))
    tables = [
        pair_records(MORE, ecgs, images),
        pair_stays(SYMILE, admitted, path, ecgs, images)[0],
        pair_stays(ANY, admitted, path, ecgs, images)[0],
    ]
    part_of = {p: next(part for part, folds in PARTS.items() if fold_of(p) in folds) for p in people}
    for table in tables:
        assert dict(zip(table["patient_id"], table["part"], strict=True)) == part_of
    assert set(part_of.values()) == set(PARTS)


# percentiles


def test_percentiles_are_shares_of_training_values_that_are_at_most_the_value() -> None:
    train_NP = np.array([[1.0, 5.0, np.nan], [2.0, np.nan, np.nan], [2.0, np.nan, np.nan], [4.0, np.nan, np.nan]])
    scale = LabScale.fit(("a", "b", "c"), train_NP)
    other_NP = np.array([[0.5, 5.0, 7.0], [2.0, 4.9, np.nan], [3.0, np.nan, np.nan], [4.0, 6.0, np.nan], [np.nan, np.nan, np.nan]])
    expected_NP = [[0, 1, 0.5], [0.75, 0, 0.5], [0.75, 1, 0.5], [1, 1, 0.5], [0.6875, 1, 0.5]]
    np.testing.assert_allclose(scale.apply(other_NP), expected_NP)
    assert scale.apply(other_NP).dtype == np.float32
    steps, items = scale.tables()
    assert steps.to_numpy().tolist() == [["a", 1.0, 0.25], ["a", 2.0, 0.75], ["a", 4.0, 1.0], ["b", 5.0, 1.0]]
    assert items.to_numpy().tolist() == [["a", 0.6875], ["b", 1.0], ["c", 0.5]]
    assert scale.fingerprint == LabScale.fit(("a", "b", "c"), train_NP[::-1]).fingerprint
    assert scale.fingerprint != LabScale.fit(("a", "b", "c"), train_NP[:3]).fingerprint


# lists for retrieval


def drawable(n: int = 30, pictures: int = 30) -> pd.DataFrame:
    parts = np.array(["train", "validation", "test"])[np.arange(n) % 3]
    return pd.DataFrame({"sample_id": [f"s{i:02d}" for i in range(n)], "image_id": [f"x{i % pictures}" for i in range(n)], "part": parts})


def test_lists_hold_the_true_one_first_and_others_of_the_part_once() -> None:
    samples = drawable()
    table = draw_candidates(samples, 5, seed=1)
    part = samples.set_index("sample_id")["part"]
    assert set(table["query_sample_id"]) == set(part.index[part != "train"])
    assert (part[table["query_sample_id"]].to_numpy() == part[table["candidate_sample_id"]].to_numpy()).all()
    for query, held in table.groupby("query_sample_id"):
        assert held["candidate_sample_id"].is_unique and held["place"].tolist() == [0, 1, 2, 3, 4]
        assert held.loc[held["is_positive"], "candidate_sample_id"].tolist() == [query]
    pd.testing.assert_frame_equal(table, draw_candidates(samples, 5, seed=1))
    assert not table.equals(draw_candidates(samples, 5, seed=2))


def test_a_candidate_with_the_same_picture_would_be_right_as_well() -> None:
    table = draw_candidates(drawable(pictures=6), 20, seed=0)  # of ten samples a part, five have the same picture
    assert set(table.groupby("query_sample_id").size()) == {6}
    assert len(draw_candidates(drawable(3), 10, seed=0)) == 2  # a part of one sample: the true one alone
    assert draw_candidates(drawable(1), 10, seed=0).empty


def test_texts_set_their_own_bits(tmp_path: Path) -> None:
    samples = pair_records(MORE, records(("e", "p:1", after(0)), ("f", "p:1", after(0))), records(("x", "p:1", after(0))))
    told = add_text(add_text(samples, "ecg", pd.Index(["f", "other"])), "image", pd.Index(["x"]))
    assert told["observed"].tolist() == [0b10011, 0b11011]


def test_far_too_many_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets.pairing_times, "MOST_PAIRS", 3)
    with pytest.raises(PairingError, match="combines 4 pairs, more than 3; narrow its window"):
        pair_records(MORE, *(records(*((f"{kind}{i}", "p:1", after(0)) for i in range(2))) for kind in "ei"))


# a record's own


def visits(path: Path, *rows: tuple[str, str, str, float]) -> Path:
    """(record, time, item, value) as stage cleaned publishes them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pd.DataFrame(rows, columns=["encounter_id", "charted_at", "item_id", "value"]).assign(patient_id="p:1", unit="mg/dL")
    schema = lab_schema()
    pq.write_table(pa.Table.from_pandas(table[schema.names], schema, preserve_index=False), path / "labs.parquet")
    return path / "labs.parquet"


def own_records(*rows: tuple[str, int, bool, bool], **columns: Sequence[object]) -> pd.DataFrame:
    """(record, fold, whether the recording is there, whether the picture is)."""
    table = pd.DataFrame(rows, columns=["record_id", "fold", "present", "image_present"])
    return table.assign(patient_id="p:" + table["record_id"], **columns)


OWN = replace(RULES["synthetic"], ecg=replace(RULES["synthetic"].ecg, text=False))


def test_a_record_is_paired_with_what_is_its_own(tmp_path: Path) -> None:
    held = own_records(("d", 9, True, True), ("a", 1, True, False), ("b", 10, False, True), ("c", 2, True, False), ("e", 3, False, False))
    path = visits(
        tmp_path,
        ("a", after(90), CREATININE, 9.0),
        ("a", "", CREATININE, 8.0),  # without a time: after all others
        ("a", after(60), CREATININE, 1.5),
        ("b", "", SODIUM, 140.0),
        ("b", "", SODIUM, 141.0),  # later in the table
        ("e", after(0), SODIUM, 139.0),  # nothing else is there
        ("nobody", after(0), SODIUM, 1.0),
    )
    samples, panels = pair_own(OWN, held, path)
    assert panels is not None
    assert shows(samples, "sample_id") == ["a", "b", "d"] and shows(samples, "observed") == [0b101, 0b110, 0b011]
    assert shows(samples, "ecg_id") == ["a", None, "d"] and shows(samples, "image_id") == [None, "b", "d"]
    assert shows(samples, "panel_id") == ["a", "b", None] and shows(samples, "encounter_id") == ["a", "b", "d"]
    assert shows(samples, "fold") == [1, 10, 9] and shows(samples, "part") == ["train", "test", "validation"]
    assert shows(samples, "dt_ecg_s") == [None] * 3
    values = [dict(zip(SYMILE_LABS, row, strict=True)) for row in panels.values_NP]
    assert values[0][CREATININE] == 1.5 and values[1][SODIUM] == 140.0
    assert list(samples.columns) == list(SAMPLE_COLUMNS)


def test_numbers_that_are_none_and_unknown_items_make_no_panel(tmp_path: Path) -> None:
    held = own_records(("a", 1, True, True), ("b", 1, True, True), ("c", 1, True, True))
    path = visits(
        tmp_path,
        ("a", after(0), CREATININE, float("inf")),
        ("a", after(0), SODIUM, float("nan")),
        ("b", after(0), "51003", 0.02),
        ("c", after(0), CREATININE, -4.0),  # as the source has it: its percentile is the lowest
        ("c", after(0), SODIUM, float("-inf")),
    )
    samples, panels = pair_own(OWN, held, path)
    assert panels is not None
    assert shows(samples, "panel_id") == [None, None, "c"] and shows(samples, "observed") == [0b011, 0b011, 0b111]
    assert np.isfinite(panels.values_NP).sum() == 1
    scale = LabScale.fit(SYMILE_LABS, np.where(np.isnan(panels.values_NP), np.nan, 1.0))
    assert scale.apply(panels.values_NP)[0, SYMILE_LABS.index(CREATININE)] == 0.0


def test_a_record_with_nothing_makes_no_sample(tmp_path: Path) -> None:
    path = visits(tmp_path, ("a", after(0), CREATININE, 1.0))
    with pytest.raises(PairingError, match="'synthetic' finds nothing that belongs together in synthetic; "):
        pair_own(OWN, own_records(("a", 1, False, False), ("b", 1, False, False)), path)


def test_published_lists_keep_their_order_less_what_is_no_sample() -> None:
    held = own_records(("a", 1, True, True), ("b", 1, True, True), ("c", 1, True, True), candidates=["", "b c gone", "c b a"])
    samples = pd.DataFrame({"sample_id": ["a", "b", "c"]})
    table, lost = published_candidates(samples, held)
    assert table.to_numpy().tolist() == [
        ["b", "b", 0, True],
        ["b", "c", 1, False],
        ["c", "c", 0, True],
        ["c", "b", 1, False],
        ["c", "a", 2, False],
    ]
    assert lost == 1 and list(table.columns) == ["query_sample_id", "candidate_sample_id", "place", "is_positive"]


def test_lists_are_made_of_samples_with_every_modality() -> None:
    assert has_all(pd.DataFrame({"observed": [0b111, 0b101, 0b11111, 0b11011]})).tolist() == [True, False, True, False]
    assert has_all(pd.DataFrame({"observed": [0b11011, 0b00011, 0b10001]})).tolist() == [True, True, False]
