"""Every kind of fault in a pairing gives a failed verdict that names the rows at fault."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets import verdicts
from assets.access import Access
from assets.cleaned import make_cleaned
from assets.dataset import get_dataset
from assets.lab_tables import lab_schema
from assets.mimic import Cohort, cohort
from assets.outputs import Built, Key, Output, Workspace
from assets.pairing import make_pairing
from assets.pairing_labs import LabScale
from assets.pairing_rules import RULES, SYMILE_LABS
from assets.raw import make_raw
from assets.reports import make_reports
from assets.splits import fold_of, patient
from assets.verdicts import BLOCKING, Verdict
from data_checks.checks import run_check

Edit = Callable[[pd.DataFrame], pd.DataFrame]
CHECKS = BLOCKING["pairing"]


def person(subject_id: int) -> str:
    return patient("mimic", str(subject_id))


class Pairings:
    """Pairings of the simulated cohort, from sources that are published by hand; spoilt copies of them."""

    def __init__(self, root: Path) -> None:
        self.workspace, self.spoilt, held = Workspace(root), 0, cohort(0)
        for key, tables in _sources(held).items():
            output = self.workspace.publish(key, lambda folder, t=tables: _write(folder, t), code_version="1", access=Access.OPEN)
            for check in BLOCKING[key.stage]:
                verdicts.save(self.workspace, output, Verdict(check, True, ""))
        for name in ("symile_mimic", "synthetic"):
            self._publish(name, root / "source" / name)
        self.outputs = {name: make_pairing(self.workspace, rule) for name, rule in RULES.items()}

    def _publish(self, name: str, folder: Path) -> None:
        """The sources of a rule over the records of one dataset, from its imitation."""
        get_dataset(name).make_fixture(folder)
        dataset = get_dataset(name)(folder)
        outputs = [make_raw(self.workspace, dataset, print)]
        for check in BLOCKING["raw"]:
            verdicts.save(self.workspace, outputs[0], Verdict(check, True, ""))
        outputs += [make_cleaned(self.workspace, dataset, "labs", print)]
        outputs += [make_reports(self.workspace, dataset, "original")] if dataset.has_reports else []
        for output in outputs:
            for check in BLOCKING[output.key.stage]:
                verdicts.save(self.workspace, output, Verdict(check, True, ""))

    def table(self, rule: str, name: str = "samples") -> pd.DataFrame:
        return pq.read_table(self.outputs[rule].path(f"{name}.parquet")).to_pandas()

    def spoil(self, rule: str, facts: dict[str, Any] | None = None, tables: dict[str, Any] | None = None) -> Output:
        """A copy of a pairing with other tables (frames or Arrow tables) or facts."""
        source, self.spoilt = self.outputs[rule], self.spoilt + 1

        def build(folder: Path) -> Built:
            for file in source.folder.glob("*.parquet"):
                shutil.copy(file, folder)
            for name, table in (tables or {}).items():
                arrow = table if isinstance(table, pa.Table) else pa.Table.from_pandas(table, preserve_index=False)
                pq.write_table(arrow, folder / f"{name}.parquet")
            return Built(source.rows, source.facts | (facts or {}))

        return self.workspace.publish(
            source.key, build, code_version=f"spoilt {self.spoilt}", access=Access.OPEN, upstream=source.manifest["upstream"]
        )

    def judge(self, output: Output, check: str) -> Verdict:
        return run_check(self.workspace, output, check)


def _write(folder: Path, tables: dict[str, Any]) -> Built:
    for name, table in tables.items():
        pq.write_table(
            table if isinstance(table, pa.Table) else pa.Table.from_pandas(table, preserve_index=False), folder / f"{name}.parquet"
        )
    return Built(1)


def _sources(held: Cohort) -> dict[Key, dict[str, Any]]:
    def record(record_id: object, subject_id: int, at: str, view: str = "", split: str = "") -> dict[str, object]:
        whose = person(subject_id)
        row = {"record_id": str(record_id), "patient_id": whose, "fold": fold_of(whose), "acquired_at": at, "present": True}
        return row | {"view": view, "official_split": split}

    ecgs = pd.DataFrame([record(e.study_id, e.subject_id, e.recorded.isoformat()) for e in held.ecgs])
    images = pd.DataFrame([record(i.dicom_id, x.subject_id, x.taken.isoformat(), i.view, x.split) for x in held.xrays for i in x.images])
    stays = pd.DataFrame(
        [
            {"encounter_id": str(a.hadm_id), "patient_id": person(a.subject_id), "admitted_at": a.admitted.isoformat()}
            for a in held.admissions
        ]
    )
    results = pd.DataFrame(
        [
            {
                "patient_id": person(r.subject_id), "encounter_id": str(r.hadm_id or ""), "charted_at": r.charted.isoformat(),
                "item_id": str(r.item_id), "value": r.value, "unit": r.unit,
            }
            for r in held.labs
        ]
    )  # fmt: skip
    ecg_texts = pd.DataFrame([{"record_id": str(e.study_id), "text": ". ".join(e.statements)} for e in held.ecgs])
    image_texts = pd.DataFrame([{"record_id": i.dicom_id, "text": x.report} for x in held.xrays for i in x.images])
    return {
        Key(("raw", "mimic_iv_ecg")): {"records": ecgs.drop(columns=["view", "official_split"])},
        Key(("raw", "mimic_cxr_jpg")): {"records": images},
        Key(("cleaned", "mimic_iv"), "labs"): {
            "encounters": stays,
            "labs": pa.Table.from_pandas(results, lab_schema(), preserve_index=False),
        },
        Key(("reports", "mimic_iv_ecg"), "original"): {"reports": ecg_texts},
        Key(("reports", "mimic_cxr_jpg"), "original"): {"reports": image_texts},
    }


@pytest.fixture(scope="module")
def pairings(tmp_path_factory: pytest.TempPathFactory) -> Pairings:
    return Pairings(tmp_path_factory.mktemp("pairings"))


def put(**cells: dict[int, Any]) -> Edit:
    """An edit that sets cells by row."""

    def apply(frame: pd.DataFrame) -> pd.DataFrame:
        for column, values in cells.items():
            held = frame[column].copy()
            for row, value in values.items():
                held.iloc[row] = value
            frame[column] = held
        return frame

    return apply


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("check", CHECKS)
def test_a_sound_pairing_passes(pairings: Pairings, rule: str, check: str) -> None:
    verdict = pairings.judge(pairings.outputs[rule], check)
    assert verdict.passed, verdict.message


def test_repeated_things_are_counted(pairings: Pairings) -> None:
    repeated = pairings.judge(pairings.outputs["symile_mimic"], "samples").details["repeated"]
    assert repeated["train"]["ecg"] == 2  # one ECG serves two stays
    more = pairings.judge(pairings.outputs["more"], "samples").details["repeated"]["train"]
    assert more["ecg"] > 0 and more["image"] > 0 and more["ecg_text"] > 0 and more["image_text"] > 0


# samples


def assert_found(verdict: Verdict, *expected: tuple[str, str]) -> None:
    """Each (part of a problem, row) is said in a problem."""
    assert not verdict.passed
    for text, row in expected:
        assert any(text in p and row in p for p in verdict.details["problems"]), f"{text!r} with {row!r} is not in:\n{verdict.message}"


def test_samples_that_do_not_hold_together_are_named(pairings: Pairings) -> None:
    frame = pairings.table("symile_mimic")
    ids = frame["sample_id"].tolist()
    strange = {name: frame[name].iloc[-1] for name in ("ecg_id", "image_id", "encounter_id", "panel_id")}
    assert frame["patient_id"].iloc[-1] not in set(frame["patient_id"].iloc[:12])
    edit = put(
        ecg_id={0: strange["ecg_id"]}, image_id={1: strange["image_id"], 2: "unknown", 11: None}, encounter_id={3: strange["encounter_id"]},
        panel_id={4: strange["panel_id"]}, patient_id={5: " "}, dt_image_s={6: 90_000.0, 11: None}, dt_ecg_s={7: None},
        dt_labs_s={8: -86_401.0}, dt_labs_last_s={9: 86_401.0}, observed={10: 3, 11: 5},
    )  # fmt: skip
    assert_found(
        pairings.judge(pairings.spoil("symile_mimic", tables={"samples": edit(frame)}), "samples"),
        ("the ecg, where there is one, is known and of the sample's patient", ids[0]),
        ("the image, where there is one, is known and of the sample's patient", f"{ids[1]}, {ids[2]}"),
        ("the stay, where there is one, is known and of the sample's patient", ids[3]),
        ("the panel, where there is one, is known and of the sample's patient", ids[4]),
        ("a patient id is not blank", ids[5]),
        ("the seconds from the anchor are those between the sources' times", ids[6]),
        ("the labs lie in the rule's window", f"{ids[8]}, {ids[9]}"),
        ("observed says what the sample refers to", ids[10]),
        ("every member is there where the rule asks for all", ids[11]),
    )
    frame = pairings.table("symile_mimic")
    verdict = pairings.judge(pairings.spoil("symile_mimic", tables={"samples": put(dt_ecg_s={7: None})(frame)}), "samples")
    assert_found(verdict, ("the seconds from the anchor are those between the sources' times", ids[7]))


def test_one_modality_alone_is_no_sample(pairings: Pairings) -> None:
    frame = put(image_id={0: None}, panel_id={0: None})(pairings.table("admission_any"))
    verdict = pairings.judge(pairings.spoil("admission_any", tables={"samples": frame}), "samples")
    assert_found(verdict, ("at least two modalities are there", frame["sample_id"][0]))


def test_what_texts_there_are_is_checked(pairings: Pairings) -> None:
    frame = put(observed={0: 0b01011}, encounter_id={1: "20000000"})(pairings.table("more"))
    verdict = pairings.judge(pairings.spoil("more", tables={"samples": frame}), "samples")
    ids = frame["sample_id"]
    assert_found(
        verdict, ("observed says what the sample refers to, and which reports have text", ids[0]), ("the stay, where there is one", ids[1])
    )


def test_windows_have_open_ends(pairings: Pairings) -> None:
    """Fold 1's first person has an X-ray at exactly 24 h, which is out, and at 72 h, which is in; each is a true picture of theirs."""
    held = cohort(0)
    whose = next(p for p in held.people if p.fold == 1)
    too_early = next(x for x in held.xrays if x.subject_id == whose.subject_id)
    frame = pairings.table("symile_mimic")
    row = int(np.flatnonzero(frame["patient_id"] == whose.patient_id)[0])
    assert frame["dt_image_s"][row] == 72 * 3600
    edited = put(image_id={row: too_early.images[0].dicom_id}, dt_image_s={row: 24.0 * 3600})(frame)
    problems = pairings.judge(pairings.spoil("symile_mimic", tables={"samples": edited}), "samples").details["problems"]
    assert len(problems) == 1 and "the image lie in the rule's window" in problems[0] and frame["sample_id"][row] in problems[0]


def test_a_picture_from_the_side_is_found(pairings: Pairings) -> None:
    lateral = {x.images[0].dicom_id: x.images[1].dicom_id for x in cohort(0).xrays if len(x.images) > 1}
    frame = pairings.table("symile_mimic")
    row = int(np.flatnonzero(frame["image_id"].isin(list(lateral)))[0])
    edited = put(image_id={row: lateral[frame["image_id"][row]]})(frame)
    problems = pairings.judge(pairings.spoil("symile_mimic", tables={"samples": edited}), "samples").details["problems"]
    assert len(problems) == 1 and "a view that the rule wants" in problems[0]


def test_a_sample_stands_once_and_columns_are_as_declared(pairings: Pairings) -> None:
    frame = pairings.table("more")
    twice = pd.concat([frame, frame.iloc[:1]], ignore_index=True)
    verdict = pairings.judge(pairings.spoil("more", tables={"samples": twice}), "samples")
    assert any("no sample id appears twice" in p and frame["sample_id"][0] in p for p in verdict.details["problems"])
    verdict = pairings.judge(pairings.spoil("more", tables={"samples": frame.drop(columns="dt_image_s").assign(extra=1)}), "samples")
    assert "dt_image_s (declared number, found absent)" in verdict.message and "extra (declared nothing" in verdict.message


def test_a_sample_of_one_record_holds_nothing_of_another(pairings: Pairings) -> None:
    frame = pairings.table("synthetic")
    ids = frame["sample_id"].tolist()
    whole = np.flatnonzero(frame["observed"] % 8 == 7)
    again = frame["patient_id"].duplicated(keep=False).to_numpy()
    row, other = next((a, b) for a in whole for b in whole if a < b and again[a] and frame["patient_id"][a] == frame["patient_id"][b])
    absent = int(np.flatnonzero(frame["image_id"].isna())[0])
    edit = put(
        image_id={row: frame["image_id"][other], absent: ids[absent]},
        dt_ecg_s={other: 0.0},
        observed={other: frame["observed"][other] ^ 16},
    )
    verdict = pairings.judge(pairings.spoil("synthetic", tables={"samples": edit(frame)}), "samples")
    assert_found(
        verdict,
        ("everything of a sample is of the record that it is named after", ids[row]),
        ("ECG and picture have their files", ids[absent]),
        ("the seconds from the anchor are those between the sources' times", ids[other]),
        ("which reports have text", ids[other]),
    )


def test_published_parts_and_lists_are_held_to_the_records(pairings: Pairings) -> None:
    frame, table = pairings.table("symile_mimic_published"), pairings.table("symile_mimic_published", "candidates")
    moved = int(np.flatnonzero(frame["part"] == "train")[0])
    swapped = table.copy()
    swapped.loc[[1, 2], "candidate_sample_id"] = swapped.loc[[2, 1], "candidate_sample_id"].to_numpy()
    tables = {"samples": put(fold={moved: 2}, part={moved: "validation"})(frame), "candidates": swapped}
    assert_found(
        pairings.judge(pairings.spoil("symile_mimic_published", tables=tables), "split"),
        ("the fold is the patient's own", frame["sample_id"][moved]),
        ("lists for retrieval that are not the published ones", table["query_sample_id"][1]),
    )


@pytest.mark.parametrize("check", CHECKS)
def test_a_rule_that_has_changed_since_judges_nothing(pairings: Pairings, check: str) -> None:
    rule = RULES["symile_mimic"].describe() | {"candidates": 11}
    verdict = pairings.judge(pairings.spoil("symile_mimic", facts={"rule": rule}), check)
    assert not verdict.passed and "follows another rule than the one that is declared now" in verdict.message


# split


def test_a_patient_in_two_parts_is_named(pairings: Pairings) -> None:
    frame = pairings.table("more")
    again = frame["patient_id"].duplicated(keep=False) & (frame["part"] == "train")
    row = int(np.flatnonzero(again)[0])
    problems = pairings.judge(pairings.spoil("more", tables={"samples": put(part={row: "test"}, fold={row: 10})(frame)}), "split").details[
        "problems"
    ]
    assert any("patients in more than one part" in p and frame["patient_id"][row] in p for p in problems)
    assert any("the fold is the patient's own" in p and frame["sample_id"][row] in p for p in problems)


def test_a_part_that_is_not_the_folds_is_named(pairings: Pairings) -> None:
    frame = pairings.table("more")
    everywhere = frame.assign(part=frame["part"].where(frame["patient_id"] != frame["patient_id"][0], "train"))
    assert frame["part"][0] == "test"
    verdict = pairings.judge(pairings.spoil("more", tables={"samples": everywhere}), "split")
    assert "the part is that of the fold" in verdict.message and frame["sample_id"][0] in verdict.message
    assert len(verdict.details["problems"]) == 1


def test_faults_of_lists_for_retrieval_are_named(pairings: Pairings) -> None:
    table, samples = pairings.table("symile_mimic", "candidates"), pairings.table("symile_mimic")
    trained = samples.loc[samples["part"] == "train", "sample_id"].iloc[0]
    query = table["query_sample_id"].unique().tolist()
    row = {q: int(np.flatnonzero(table["query_sample_id"] == q)[0]) for q in query}  # of the true one; three others follow
    spoilt = put(
        candidate_sample_id={
            row[query[0]] + 1: trained,
            row[query[1]] + 1: "nobody",
            row[query[2]] + 2: table["candidate_sample_id"][row[query[2]] + 1],
        },
        is_positive={row[query[3]]: False, row[query[3]] + 1: True, row[query[4]]: False},
    )(table.copy())
    spoilt = spoilt[spoilt["query_sample_id"] != query[5]]
    candidate = table["candidate_sample_id"][row[query[6]] + 1]
    picture = samples.set_index("sample_id")["image_id"]
    twins = samples.assign(image_id=samples["image_id"].where(samples["sample_id"] != candidate, picture[query[6]]))
    assert_found(
        pairings.judge(pairings.spoil("symile_mimic", tables={"candidates": spoilt, "samples": twins}), "split"),
        ("lists for retrieval mix parts", query[0]),
        ("lists for retrieval name samples that there are not", query[1]),
        ("lists hold a candidate twice", query[2]),
        ("the true one of a list is not the sample itself", query[3]),
        ("lists without exactly one true candidate", query[4]),
        ("without a list, or others with one", query[5]),
        ("lists hold other samples with the same picture", query[6]),
    )


# panels


def panels(pairings: Pairings, **columns: Any) -> pa.Table:
    """panels.parquet of the Symile rule with some columns replaced: text lists as they are, matrices as lists of 50."""
    table = pq.read_table(pairings.outputs["symile_mimic"].path("panels.parquet"))
    for name, values in columns.items():
        if isinstance(values, np.ndarray):
            flat = pa.array(values.ravel(), from_pandas=True)
            values = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        table = table.set_column(table.column_names.index(name), name, pa.array(values) if isinstance(values, list) else values)
    return table


def matrix(pairings: Pairings, name: str) -> np.ndarray:
    column = pq.read_table(pairings.outputs["symile_mimic"].path("panels.parquet"))[name].combine_chunks()
    return np.array(column.values.to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def test_percentiles_that_have_seen_other_parts_are_found(pairings: Pairings) -> None:
    values_NP = matrix(pairings, "values")
    scale = LabScale.fit(SYMILE_LABS, values_NP)  # of all parts
    steps, items = scale.tables()
    tables = {"panels": panels(pairings, percentiles=scale.apply(values_NP)), "percentiles": steps, "items": items}
    verdict = pairings.judge(pairings.spoil("symile_mimic", {"percentiles_sha256": scale.fingerprint}, tables), "panels")
    problems = verdict.details["problems"]
    assert any("percentiles are those of the training part's values" in p for p in problems)
    assert any("the stored percentiles of items are not those of the training part" in p and "50912" in p for p in problems)
    assert len(problems) == 2


def test_a_mapping_with_another_fingerprint_or_other_items_is_found(pairings: Pairings) -> None:
    steps, items = pairings.table("symile_mimic", "percentiles"), pairings.table("symile_mimic", "items")
    moved = steps.assign(value=steps["value"] + 1e-9)
    verdict = pairings.judge(pairings.spoil("symile_mimic", tables={"percentiles": moved}), "panels")
    assert "do not have the fingerprint of the manifest" in verdict.message
    verdict = pairings.judge(pairings.spoil("symile_mimic", tables={"items": items.iloc[::-1]}), "panels")
    assert "lists other items than the rule, or in another order" in verdict.message


def test_faults_of_panels_are_named(pairings: Pairings) -> None:
    values_NP, observed_NP, percentiles_NP = (matrix(pairings, name) for name in ("values", "observed", "percentiles"))
    table = pairings.table("symile_mimic", "panels")
    ids, people, parts = (table[name].tolist() for name in ("panel_id", "patient_id", "part"))
    judged = [row for row, part in enumerate(parts) if part != "train"]  # their values do not enter the percentiles
    trained = [row for row, part in enumerate(parts) if part == "train"]
    empty, late = judged[:2]
    flipped, missing, moved, strange, doubled = trained[:5]
    there = int(np.flatnonzero(observed_NP[late])[0])
    values_NP[empty] = np.nan
    values_NP[late, there] += 1.0
    observed_NP[flipped, 0] ^= True
    percentiles_NP[missing, np.flatnonzero(~observed_NP[missing])[0]] = 0.0
    parts[moved] = "test"
    people[strange] = people[judged[0]]
    lost, ids[doubled] = ids[doubled], ids[doubled + 1]
    spoilt = panels(
        pairings, values=values_NP, observed=observed_NP, percentiles=percentiles_NP, part=parts, patient_id=people, panel_id=ids
    )
    assert_found(
        pairings.judge(pairings.spoil("symile_mimic", tables={"panels": spoilt}), "panels"),
        ("as many items as the rule asks for", ids[empty]),
        ("panels that do not hold the earliest results of the window", ids[late]),
        ("observed says which values there are", ids[flipped]),
        ("percentiles are those of the training part's values, the mean where", ids[missing]),
        ("patient, stay and part are those of the one sample", ids[moved]),
        ("patient, stay and part are those of the one sample", ids[strange]),
        ("no panel id appears twice", ids[doubled]),
        ("samples name panels that there are not", lost),
    )
    narrow = panels(pairings, values=values_NP[:, :49].copy())
    verdict = pairings.judge(pairings.spoil("symile_mimic", tables={"panels": narrow}), "panels")
    assert not verdict.passed and "column values of" in verdict.message and "not a list of 50" in verdict.message
