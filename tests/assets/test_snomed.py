"""SNOMED CT codes of the Challenges, against facts of their papers and against the Challenges' own tables."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from assets.snomed import diagnoses, label_table, scored_classes
from models.errors import ConfigurationError
from models.metrics.challenge_classes import SINUS_RHYTHM, reward_matrix


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return [[cell.strip() for cell in row] for row in csv.reader(stream)]


def test_classes_in_the_order_of_the_weights() -> None:
    first, second = scored_classes(2020), scored_classes(2021)
    assert (len(first), len(second)) == (24, 26)
    assert " ".join(c.name for c in first) == (
        "IAVB AF AFL Brady CRBBB IRBBB LAnFB LAD LBBB LQRSV NSIVCB PR PAC PVC LPR LQT QAb RAD SA SB NSR STach TAb TInv"
    )
    assert [c.codes for c in second][4:6] == [("733534002", "164909002"), ("713427006", "59118001")]
    assert sum(len(c.codes) for c in first) == len(scored_classes(2020, merged=False)) == 27
    assert sum(len(c.codes) for c in second) == len(scored_classes(2021, merged=False)) == 30
    assert all(SINUS_RHYTHM in [c.codes[0] for c in classes] for classes in (first, second))


def test_scored_codes_are_called_as_the_list_of_all_codes_calls_them() -> None:
    singles = [c for year in (2020, 2021) for c in scored_classes(year, merged=False)]
    assert {c.codes[0]: c.name for c in singles} == {c.codes[0]: diagnoses()[c.codes[0]].abbreviation for c in singles}


def test_another_year_is_a_typed_error() -> None:
    with pytest.raises(ConfigurationError, match="2022"):
        scored_classes(2022)


def test_rewards_have_the_shape_of_the_metric() -> None:
    for year, merged in ((2020, True), (2020, False), (2021, True), (2021, False)):
        classes = scored_classes(year, merged)
        rewards_CC = reward_matrix(classes)
        assert rewards_CC.shape == (len(classes),) * 2
        assert (rewards_CC == rewards_CC.T).all() and (np.diag(rewards_CC) == 1).all()
        assert rewards_CC.min() == pytest.approx(0.15)
        ones = int((rewards_CC == 1).sum()) - len(classes)
        assert ones == (0 if merged else {2020: 6, 2021: 8}[year])


def test_labels_merge_equivalent_codes_and_ignore_others() -> None:
    classes = scored_classes(2021)
    codes = {"a": {"59118001"}, "b": {"713427006", "164889003"}, "c": {"55827005"}, "d": set[str]()}
    table = label_table(codes, classes).set_index("record_id")
    assert list(table.index) == ["a", "b", "c"]
    assert [set(table.columns[row == 1]) for row in table.to_numpy()] == [{"CRBBB"}, {"CRBBB", "AF"}, set()]
    assert set(table.dtypes.astype(str)) == {"int8"}


@pytest.mark.parametrize(("year", "merged"), [(2020, False), (2021, True)])
def test_rewards_are_the_published_ones(shared_data: Path, year: int, merged: bool) -> None:
    rows = read(shared_data / "cinc" / f"weights_{year}.csv")
    classes = scored_classes(year, merged)
    assert ["|".join(c.codes) for c in classes] == rows[0][1:] == [row[0] for row in rows[1:]]
    assert np.allclose(reward_matrix(classes), np.array([row[1:] for row in rows[1:]], float), rtol=0, atol=1e-12)


def test_merged_rewards_of_2020_are_those_of_the_first_of_each_pair(shared_data: Path) -> None:
    rows = read(shared_data / "cinc" / "weights_2020.csv")
    kept = [rows[0].index(c.codes[0]) - 1 for c in scored_classes(2020)]
    published_CC = np.array([row[1:] for row in rows[1:]], float)[np.ix_(kept, kept)]
    assert np.allclose(reward_matrix(scored_classes(2020)), published_CC, rtol=0, atol=1e-12)


def test_codes_are_those_of_the_mapping_files(shared_data: Path) -> None:
    scored = read(shared_data / "cinc2021" / "dx_mapping_scored.csv")[1:]
    unscored = read(shared_data / "cinc2021" / "dx_mapping_unscored.csv")[1:]
    assert {row[1]: row[2] for row in scored + unscored} == {d.code: d.abbreviation for d in diagnoses().values()}
    assert {row[1] for row in scored} == {c.codes[0] for c in scored_classes(2021, merged=False)}
    first = read(shared_data / "cinc" / "dx_mapping_scored_2020.csv")[1:]
    assert {row[1]: row[2] for row in first} == {c.codes[0]: c.name for c in scored_classes(2020, merged=False)}
