"""Checks of pairing/<rule>: who belongs to whom and when, one part a patient, percentiles from the training part alone.

Everything is computed again from the sources that the output records, not with the code that made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.outputs import Key, canonical
from assets.pairing_rules import LAB_RECIPE, MODALITIES, ROLES, RULES, Member, PairingRule, Window
from assets.splits import fold_of
from data_checks.context import CheckContext, TableRules
from data_checks.findings import CheckError
from data_checks.suites import pairing_split_suite, pairing_suite
from data_checks.tables import Kind, read_table

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("sample_id", "patient_id", "encounter_id", "ecg_id", "image_id", "panel_id"), "text"),
    **dict.fromkeys(("dt_ecg_s", "dt_image_s", "dt_labs_s", "dt_labs_last_s"), "number"),
    "observed": "integer",
    "part": "text",
    "fold": "integer",
    "official_part": "text",
}


def rule_of(c: CheckContext) -> PairingRule:
    """The rule that the output says it follows.

    Raises:
        CheckError: there is no such rule any more, or it now says something else.
    """
    rule = RULES.get(c.output.key.parts[1])
    if rule is None or canonical(rule.describe()) != canonical(c.output.facts["rule"]):
        raise CheckError(f"{c.output.key} follows another rule than the one that is declared now; materialise it again")
    return rule


def check_samples(c: CheckContext) -> str:
    """Everything in a sample is of its patient and in the rule's window, and at least two modalities are there."""
    rule, table = rule_of(c), read_table(c.output.path("samples.parquet"))
    sources = _Sources(c, rule)
    rules = TableRules("samples.parquet", table, SAMPLE_KINDS, "sample_id", pairing_suite, sources.derive, exact=True)
    frame = c.validate(rules).get("samples.parquet")
    if frame is not None:
        c.findings.facts["repeated"] = {part: sources.repeated(frame[frame["part"] == part]) for part in rule.parts}
    return f"{table.num_rows} samples of {rule.name} hold together"


def check_split(c: CheckContext) -> str:
    """Every patient is in one part, that of their fold; lists for retrieval stay within a part and hold the truth once."""
    rule, table = rule_of(c), read_table(c.output.path("samples.parquet"))
    part_of = {fold: part for part, folds in rule.parts.items() for fold in folds}
    fold_of_patient = folds_of_patients(c, rule, table["patient_id"].to_pylist())

    def derive(frame: pd.DataFrame) -> None:
        frame["fold_of_patient"] = frame["fold"] == frame["patient_id"].map(fold_of_patient)
        frame["part_of_fold"] = frame["part"] == frame["fold"].map(part_of)

    rules = TableRules("samples.parquet", table, SAMPLE_KINDS, "sample_id", pairing_split_suite, derive, exact=True)
    frame = c.validate(rules).get("samples.parquet")
    if frame is None:
        return ""
    n_parts = frame.groupby("patient_id")["part"].nunique()
    if torn := n_parts.index[n_parts > 1].tolist():
        c.findings.fail("patients in more than one part", torn)
    if rule.candidates:
        _check_candidates(c, rule, frame)
    return f"{len(n_parts)} patients are in one part each"


def folds_of_patients(c: CheckContext, rule: PairingRule, patients: Iterable[str]) -> dict[str, int]:
    """The fold of each patient: by hash, or as the dataset's records have it where everything is of one record."""
    if rule.anchor != "record":
        return {p: fold_of(p) for p in set(patients)}
    records = read_table(c.origin(Key(("raw", rule.ecg.dataset))).path("records.parquet"))
    return dict(zip(records["patient_id"].to_pylist(), records["fold"].to_pylist(), strict=True))


def _check_candidates(c: CheckContext, rule: PairingRule, samples: pd.DataFrame) -> None:
    size = rule.candidates
    table = read_table(c.output.path("candidates.parquet")).to_pandas()
    held = samples.drop_duplicates("sample_id").set_index("sample_id")
    query, candidate = (held.reindex(table[f"{name}_sample_id"]).reset_index(drop=True) for name in ("query", "candidate"))
    itself = table["query_sample_id"] == table["candidate_sample_id"]
    faults = {
        "lists for retrieval name samples that there are not": query["part"].isna() | candidate["part"].isna(),
        "lists for retrieval mix parts": query["part"] != candidate["part"],
        "the true one of a list is not the sample itself": table["is_positive"] != itself,
        "lists hold other samples with the same picture": ~itself & (query["image_id"] == candidate["image_id"]),
        "lists hold a candidate twice": table.duplicated(["query_sample_id", "candidate_sample_id"]),
    }
    for fault, rows in faults.items():
        if rows.any():
            c.findings.fail(fault, table.loc[rows, "query_sample_id"].unique())
    lists = table.groupby("query_sample_id")["is_positive"].agg(["size", "sum"])
    if (wrong := (lists["sum"] != 1) | (lists["size"] > size)).any():
        c.findings.fail(f"lists without exactly one true candidate, or with more than {size}", lists.index[wrong])
    judged = held.index[(held["part"] != "train") & held[["ecg_id", "image_id"]].notna().all(axis=1)]
    if rule.labs is not None:
        judged = judged[held.loc[judged, "panel_id"].notna()]
    if (published := _published_lists(c, rule)) is not None:
        judged = judged[judged.isin(list(published))]
        told = table.groupby("query_sample_id")["candidate_sample_id"].agg(list)
        if strange := [q for q, named in told.items() if named != [i for i in published.get(str(q), []) if i in held.index]]:
            c.findings.fail("lists for retrieval that are not the published ones", strange)
    if set(judged) != set(table["query_sample_id"]):
        c.findings.fail(
            "samples of validation or test without a list, or others with one", sorted(set(judged) ^ set(table["query_sample_id"]))
        )


def _published_lists(c: CheckContext, rule: PairingRule) -> dict[str, list[str]] | None:
    """The lists for retrieval that the records of a rule over one dataset come with; None where there are none."""
    if rule.anchor != "record":
        return None
    records = read_table(c.origin(Key(("raw", rule.ecg.dataset))).path("records.parquet"))
    if "candidates" not in records.column_names:
        return None
    lists = zip(records["record_id"].to_pylist(), records["candidates"].to_pylist(), strict=True)
    return {record_id: named.split(" ") for record_id, named in lists if named}


Found = Mapping[str, Any]
"""By role: whether it is there, or what was found of it; a row a sample."""


class _Sources:
    """What samples refer to, looked up again."""

    def __init__(self, c: CheckContext, rule: PairingRule) -> None:
        import pandas as pd

        self._rule = rule
        raw = {role: c.origin(Key(("raw", member.dataset))).path("records.parquet") for role, member in self._members()}
        self._records = {role: read_table(path).to_pandas().set_index("record_id") for role, path in raw.items()}
        self._stays = self._panels = pd.DataFrame(columns=["patient_id", "encounter_id", "admitted_at"], dtype="str")
        if rule.labs is not None:
            labs = c.origin(Key(("cleaned", rule.labs.dataset), LAB_RECIPE))
            self._stays = read_table(labs.path("encounters.parquet")).to_pandas().set_index("encounter_id")
            panels = read_table(c.output.path("panels.parquet")).select(["panel_id", "patient_id", "encounter_id"])
            self._panels = panels.to_pandas().set_index("panel_id")
        self._texts = {role: _hashed_texts(c.origin(key).path(name)) for role, (key, name) in rule.texts().items()}

    def _members(self) -> tuple[tuple[str, Member], ...]:
        return (("ecg", self._rule.ecg), ("image", self._rule.image))

    def derive(self, frame: pd.DataFrame) -> None:
        """Columns of `pairing_suite`."""
        import numpy as np

        rule = self._rule
        found = {role: self._records[role].reindex(frame[f"{role}_id"]).set_index(frame.index) for role, _ in self._members()}
        stay = self._stays.reindex(frame["encounter_id"]).set_index(frame.index)
        panel = self._panels.reindex(frame["panel_id"]).set_index(frame.index)
        there = {"ecg": frame["ecg_id"].notna(), "image": frame["image_id"].notna(), "labs": frame["panel_id"].notna()}
        for role, _ in self._members():
            frame[f"{role}_of_patient"] = ~there[role] | (found[role]["patient_id"] == frame["patient_id"])
        anchored = rule.anchor == "encounter"
        stays = anchored or (rule.anchor == "record" and rule.labs is not None)
        frame["stay_of_patient"] = (stay["patient_id"] == frame["patient_id"]) if stays else frame["encounter_id"].isna()
        own = (panel["patient_id"] == frame["patient_id"]) & (panel["encounter_id"] == frame["encounter_id"])
        frame["panel_of_patient"] = ~there["labs"] | own
        if rule.anchor == "record":
            self._derive_own(frame, there)
        else:
            anchor = _moments(stay["admitted_at"] if anchored else found["ecg"]["acquired_at"])
            self._derive_times(frame, there, found, anchor)
        present = {"ecg": "present", "image": "image_present" if rule.anchor == "record" else "present"}
        usable = [~there[role] | found[role][present[role]].eq(True) for role, _ in self._members()]
        views = found["image"]["view"].isin(rule.image.views) if rule.image.views else True
        frame["usable"] = usable[0] & usable[1] & (~there["image"] | views)
        bits = [there["ecg"], there["image"], there["labs"]]
        bits += [frame[f"{role}_id"].isin(self._texts[role].index if role in self._texts else []) for role, _ in self._members()]
        frame["observed_as_referred"] = frame["observed"] == np.stack(bits, axis=1) @ (1 << np.arange(len(ROLES)))
        frame["n_modalities"] = np.stack(bits[: len(MODALITIES)], axis=1).sum(axis=1)
        wanted = 2 + (rule.labs is not None) if rule.complete else 2
        frame["complete_as_ruled"] = frame["n_modalities"] >= wanted

    def _derive_times(self, frame: pd.DataFrame, there: Found, found: Found, anchor: pd.Series) -> None:
        """Everything lies in its window."""
        frame["of_one_record"] = True
        same = (frame["dt_labs_s"].notna() == there["labs"]) & (frame["dt_labs_last_s"].notna() == there["labs"])
        for role, member in self._members():
            moment = _moments(found[role]["acquired_at"])
            if member.window is not None and member.window.day:
                moment = moment.dt.normalize()
            elapsed_s = (moment - anchor).dt.total_seconds().where(there[role])
            same &= (frame[f"dt_{role}_s"] == elapsed_s) | (frame[f"dt_{role}_s"].isna() & elapsed_s.isna())
            frame[f"{role}_in_window"] = ~there[role] | _within(elapsed_s, member.window)
        frame["same_seconds"] = same
        window = self._rule.labs.window if self._rule.labs else None
        frame["labs_in_window"] = ~there["labs"] | (_within(frame["dt_labs_s"], window) & _within(frame["dt_labs_last_s"], window))

    @staticmethod
    def _derive_own(frame: pd.DataFrame, there: Found) -> None:
        """Everything is of the record that gives the sample its name; times say nothing."""
        named = [
            frame[column].isna() | (frame[column] == frame["sample_id"]) for column in ("ecg_id", "image_id", "panel_id", "encounter_id")
        ]
        frame["of_one_record"] = named[0] & named[1] & named[2] & named[3]
        frame["same_seconds"] = frame[["dt_ecg_s", "dt_image_s", "dt_labs_s", "dt_labs_last_s"]].isna().all(axis=1)
        for role in there:
            frame[f"{role}_in_window"] = True

    def repeated(self, samples: pd.DataFrame) -> dict[str, int]:
        """Samples whose ECG, picture or text stands in another sample as well."""
        counts = {role: int(samples[f"{role}_id"].dropna().duplicated(keep=False).sum()) for role, _ in self._members()}
        for role, texts in self._texts.items():
            ids = samples[f"{role}_id"].dropna().unique()
            counts[f"{role}_text"] = int(texts.reindex(ids).dropna().duplicated(keep=False).sum())
        return counts


def _moments(times: pd.Series) -> pd.Series:
    import pandas as pd

    return pd.to_datetime(times, format="ISO8601", errors="coerce").dt.floor("s")


def _within(elapsed_s: pd.Series, window: Window | None) -> pd.Series:
    if window is None:
        return elapsed_s == 0
    above = elapsed_s > window.low_s if window.low_open else elapsed_s >= window.low_s
    return above & (elapsed_s < window.high_s if window.high_open else elapsed_s <= window.high_s)


def _hashed_texts(path: Path) -> pd.Series:
    """A hash of every text that is not blank, by record; texts are read a part at a time."""
    import pandas as pd
    import pyarrow.parquet as pq

    parts = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["record_id", "text"]):
            table = batch.to_pandas()
            table = table[table["text"].str.strip() != ""]
            parts.append(pd.Series(pd.util.hash_array(table["text"].to_numpy(object)), index=table["record_id"]))
    hashes: pd.Series = pd.concat(parts)
    return hashes
