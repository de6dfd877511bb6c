"""The asset pairing/<rule>, from imitations of the MIMIC downloads through every stage that it reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from assets import verdicts
from assets.access import Access
from assets.cleaned import make_cleaned
from assets.dataset import get_dataset
from assets.datasets.symile_mimic import SymileMimic
from assets.datasets.synthetic import Synthetic
from assets.materialize import WorkspaceResource
from assets.mimic import cohort
from assets.outputs import Key, Output, Workspace
from assets.pairing import make_pairing, pairing_asset, pairing_assets, source_keys
from assets.pairing_rules import HOUR_S, RULES, SYMILE_LABS, PairingRule
from assets.raw import make_raw
from assets.reports import make_reports
from assets.verdicts import BLOCKING, UnsafeUpstreamError, Verdict
from data_checks.checks import run_checks

DATASETS = ("mimic_iv", "mimic_iv_ecg", "mimic_cxr_jpg", "symile_mimic", "synthetic")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("pairing")
    os.environ["EINTHOVEN_HOME"] = str(folder)
    yield folder
    del os.environ["EINTHOVEN_HOME"]


@pytest.fixture(scope="module")
def paired(home: Path) -> dict[str, Output]:
    """All rules carried out on the imitations."""
    workspace = Workspace(home)

    def trusted(output: Output) -> None:
        for check in BLOCKING[output.key.stage]:
            verdicts.save(workspace, output, Verdict(check, True, ""))

    for name in DATASETS:
        get_dataset(name).make_fixture(home / "source" / name)
        dataset = get_dataset(name)(home / "source" / name)
        trusted(make_raw(workspace, dataset, print))
        if dataset.has_labs:
            trusted(make_cleaned(workspace, dataset, "labs", print))
        if dataset.has_reports:
            trusted(make_reports(workspace, dataset, "original"))
    return {name: make_pairing(workspace, rule) for name, rule in RULES.items()}


@pytest.mark.parametrize("rule", RULES)
def test_what_is_made_passes_its_checks(home: Path, paired: dict[str, Output], rule: str) -> None:
    found = run_checks(Workspace(home), paired[rule])
    assert [v.check for v in found] == ["samples", "split", "panels"]
    assert all(v.passed for v in found), [v.message for v in found]


def samples(output: Output) -> pd.DataFrame:
    return pd.read_parquet(output.path("samples.parquet"))


def test_symile_samples_are_those_of_the_cohort(home: Path, paired: dict[str, Output]) -> None:
    """Every stay with ECG and X-ray in their windows, looked up in the cohort that the imitations were made from."""
    held, output = cohort(0), paired["symile_mimic"]
    sources = [
        pd.read_parquet(Workspace(home).require(key).path("records.parquet")).query("present")
        for key in source_keys(RULES["symile_mimic"])[:2]
    ]
    ecgs_there, pictures = set(sources[0]["record_id"]), sources[1].query("view in ['AP', 'PA']")["record_id"]
    expected = {}
    for stay in held.admissions:
        own = [e for e in held.ecgs if e.subject_id == stay.subject_id and str(e.study_id) in ecgs_there]
        near = [str(e.study_id) for e in own if abs((e.recorded - stay.admitted).total_seconds()) <= 24 * HOUR_S]
        taken = [(x.taken.replace(microsecond=0), i.dicom_id) for x in held.xrays if x.subject_id == stay.subject_id for i in x.images]
        later = [i for at, i in taken if 24 * HOUR_S < (at - stay.admitted).total_seconds() <= 72 * HOUR_S and i in set(pictures)]
        if near and later:
            expected[str(stay.hadm_id)] = (near[0], later[0])
    found = samples(output)
    assert dict(zip(found["sample_id"], zip(found["ecg_id"], found["image_id"], strict=True), strict=True)) == expected
    assert output.rows == len(expected) > 30 and output.access is Access.CREDENTIALED
    assert found["dt_image_s"].max() == 72 * HOUR_S and found["dt_ecg_s"].min() == -24 * HOUR_S  # edges that the cohort deals out


def test_panels_are_read_as_matrices_in_the_order_of_the_items(paired: dict[str, Output]) -> None:
    output = paired["symile_mimic"]
    table = pq.read_table(output.path("panels.parquet"))
    assert table["panel_id"].to_pylist() == samples(output)["panel_id"].tolist()
    held = {name: np.stack(table[name].to_numpy()) for name in ("values", "observed", "percentiles")}
    assert all(array.shape == (output.rows, 50) for array in held.values())
    assert held["percentiles"].dtype == np.float32 and held["percentiles"].min() >= 0 and held["percentiles"].max() <= 1
    measured = np.isin(SYMILE_LABS, ["50912", "50971", "50983", "51006", "50931", "51222", "51265", "51301"])
    assert held["observed"][:, measured].mean() > 0.5 and not held["observed"][:, ~measured].any()
    assert set(output.facts["items_without_training_values"]) == set(np.array(SYMILE_LABS)[~measured])


def test_more_samples_refer_to_both_texts_and_to_the_published_split(paired: dict[str, Output]) -> None:
    found = samples(paired["more"])
    assert set(found["observed"]) == {0b11011, 0b10011}  # one ECG of the cohort has no statements
    split = {i.dicom_id: x.split for x in cohort(0).xrays for i in x.images}
    assert found["official_part"].tolist() == found["image_id"].map(split).tolist()
    assert ((found["part"] == "train") & (found["official_part"] == "test")).any(), "a patient whom the published split puts elsewhere"


def test_missing_members_are_null(paired: dict[str, Output]) -> None:
    found = samples(paired["admission_any"])
    for bit, column in enumerate(("ecg_id", "image_id", "panel_id")):
        assert (found[column].notna() == (found["observed"] // 2**bit % 2 == 1)).all()
    assert found["ecg_id"].isna().any() and found["image_id"].isna().any()
    facts = paired["admission_any"].facts
    assert sum(facts["combinations"].values()) == len(found) and "train: ecg + labs" in facts["combinations"]
    assert (paired["admission_any"].folder / "figures" / "modalities.png").is_file()


def test_published_samples_keep_parts_and_lists_of_the_dataset(home: Path, paired: dict[str, Output]) -> None:
    output, dataset = paired["symile_mimic_published"], SymileMimic(home / "source" / "symile_mimic")
    found, records = samples(output).set_index("sample_id"), dataset.records().set_index("record_id")
    assert set(found.index) == set(records.index) and output.access is Access.CREDENTIALED
    assert found["fold"].to_dict() == records["fold"].to_dict()
    assert found["part"].equals(found["official_part"].replace({"val": "validation"}).rename("part"))
    assert (found[["ecg_id", "image_id", "panel_id", "encounter_id"]].to_numpy() == found.index.to_numpy()[:, None]).all()
    candidates = pd.read_parquet(output.path("candidates.parquet"))
    for part in ("val", "test"):
        told = dataset.retrieval(part)
        own = candidates[candidates["query_sample_id"].isin(told["query_id"])]
        assert set(zip(own["query_sample_id"], own["candidate_sample_id"], own["is_positive"], strict=True)) == {
            (q, c, bool(p)) for q, c, p in told.itertuples(index=False)
        }
    assert (candidates["is_positive"] == (candidates["place"] == 0)).all() and output.facts["n_candidates_that_are_no_samples"] == 0
    published = pd.read_csv(dataset.folder / "train.csv", dtype={"hadm_id": str}).set_index("hadm_id")
    table = pq.read_table(output.path("panels.parquet")).to_pandas().set_index("panel_id")
    own = published.loc[found.index[found["part"] == "train"], [f"{item}_percentile" for item in SYMILE_LABS]].to_numpy()
    held = np.stack(table.loc[found.index[found["part"] == "train"], "percentiles"])
    np.testing.assert_allclose(held[~np.isnan(own)], own[~np.isnan(own)], atol=1e-6)  # the published percentiles are ours


def test_simulated_visits_become_samples(home: Path, paired: dict[str, Output]) -> None:
    output, dataset = paired["synthetic"], Synthetic(home / "source" / "synthetic")
    found, records = samples(output).set_index("sample_id"), dataset.records().set_index("record_id")
    assert output.access is Access.OPEN and found["fold"].to_dict() == records["fold"].loc[found.index].to_dict()
    xrays, bloods = set(dataset.labels("chest")["record_id"]), set(pd.concat(dataset.labs())["encounter_id"])
    assert {i for i in records.index if i in xrays or i in bloods} == set(found.index)
    assert {i for i in found.index if found["image_id"].notna()[i]} == xrays and set(found["panel_id"].dropna()) == bloods
    texts = [set(t.loc[t["text"].str.strip() != "", "record_id"]) for t in (dataset.reports(), dataset.image_reports())]
    templates = _reported(home)
    for bit, own in ((3, texts[0] | templates["reports"]), (4, texts[1] | templates["image_reports"])):
        assert {i for i in found.index if found["observed"][i] >> bit & 1} == own & set(found.index)
    table = pq.read_table(output.path("panels.parquet"))
    first = pd.concat(dataset.labs()).sort_values("charted_at", kind="stable").dropna(subset="value")
    wanted = first[first["item_id"] == "50971"].drop_duplicates("encounter_id").set_index("encounter_id")["value"]
    held = dict(zip(table["panel_id"].to_pylist(), np.stack(table["values"].to_numpy())[:, SYMILE_LABS.index("50971")], strict=True))
    assert {i: v for i, v in held.items() if not np.isnan(v)} == wanted.to_dict()
    assert output.facts["n_other_items"] == 2, "troponin and NT-proBNP are none of the fifty"
    results = pd.concat(dataset.labs())["item_id"]
    assert output.facts["n_results_of_other_items"] == (~results.isin(SYMILE_LABS)).sum() > 0
    whole = found.index[found["observed"] % 8 == 7]
    candidates = pd.read_parquet(output.path("candidates.parquet"))
    assert set(candidates["query_sample_id"]) == {i for i in whole if found["part"][i] != "train"}
    assert set(candidates["candidate_sample_id"]) <= set(whole)


def _reported(home: Path) -> dict[str, set[str]]:
    """Records that have got a sentence made from labels."""
    output = Workspace(home).require(Key(("reports", "synthetic"), "original"))
    tables = {name: pd.read_parquet(output.path(f"{name}.parquet")) for name in ("reports", "image_reports")}
    return {name: set(table.loc[table["source"] == "template", "record_id"]) for name, table in tables.items()}


def test_the_same_question_is_answered_once(home: Path, paired: dict[str, Output]) -> None:
    again = make_pairing(Workspace(home), RULES["symile_mimic"])
    assert again.reused and again.data_version == paired["symile_mimic"].data_version


def test_it_is_an_asset_that_follows_its_sources(home: Path, paired: dict[str, Output]) -> None:
    assets = {a.key.path[-1]: a for a in pairing_assets()}
    assert set(assets) == set(RULES)
    assert {"/".join(k.path) for k in assets["synthetic"].dependency_keys} == {"raw/synthetic", "cleaned/synthetic", "reports/synthetic"}
    parents = {"/".join(k.path) for k in assets["symile_mimic"].dependency_keys}
    assert parents == {"raw/mimic_iv_ecg", "raw/mimic_cxr_jpg", "cleaned/mimic_iv"}
    result = _materialize(RULES["symile_mimic"])
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["rows"].value == paired["symile_mimic"].rows
    assert "| test: ecg + image + labs | 4 |" in str(event.materialization.metadata["combinations"].value)


def test_without_the_downloads_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EINTHOVEN_HOME", str(tmp_path))
    result = _materialize(RULES["more"])
    assert not result.success
    (failure,) = result.get_step_failure_events()
    assert "raw/mimic_iv_ecg has not been made yet; materialise it first" in str(failure.step_failure_data)


def test_sources_that_failed_a_check_are_not_paired(home: Path, paired: dict[str, Output]) -> None:
    checks = home / "checks" / "raw" / "mimic_cxr_jpg"
    shutil.move(checks, home / "aside")
    try:
        with pytest.raises(UnsafeUpstreamError, match=r"raw/mimic_cxr_jpg .* check 'manifest' has not run"):
            make_pairing(Workspace(home), RULES["more"])
    finally:
        shutil.move(home / "aside", checks)


def _materialize(rule: PairingRule) -> Any:
    return dg.materialize([pairing_asset(rule)], resources={"workspace": WorkspaceResource()}, raise_on_error=False)
