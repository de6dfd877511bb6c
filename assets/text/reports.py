"""The text table of a dataset: one row a record, cleaned, in its own language or in English."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from assets.dataset import Dataset, DatasetError
from assets.text.normalise import clean_report, normalise
from assets.text.templates import named_labels, template_report
from assets.text.terms import detect_language, to_english
from models.types import Modality

if TYPE_CHECKING:
    import pandas as pd

UNDERSTOOD = 0.5
"""Share of words that must be known for a report of no recognised language to count as English all the same."""


def described_by_reports(dataset: type[Dataset] | Dataset) -> Modality:
    """What `Dataset.reports` describes: the recordings, or the images of a dataset that has nothing else."""
    return Modality.ECG if dataset.channels() else Modality.IMAGE


def build_image_reports(dataset: Dataset, form: Literal["original", "english"], records: pd.DataFrame, templates: bool) -> pd.DataFrame:
    """Make the text of every image of a dataset whose records carry a recording's report too; as `build_reports`, for the records that
    `Dataset.image_reports` lists.
    """
    reports = dataset.image_reports()
    return _build(dataset, reports, form, records, Modality.IMAGE if templates else None, only_listed=True)


def build_reports(dataset: Dataset, form: Literal["original", "english"], records: pd.DataFrame, templates: bool) -> pd.DataFrame:
    """Make the text of every record.

    A record without a report gets a sentence made from its labels only where its fold trains: elsewhere the label would be
    handed to the model that is later asked for it. Short reports stay; a method that pretrains on long ones only counts words.

    Args:
        dataset: source of reports, labels and the split.
        form: "original" cleans the text, "english" translates it as well.
        records: record_id, patient_id and fold of every record.
        templates: whether sentences are made from labels at all.

    Returns:
        record_id, patient_id, fold, text (cleaned, "" where there is none), original (as in the source), language ("en", "de",
        "sv" or "unknown", of the original), source ("human", "machine" or "template"), coverage (share of the original's words
        that are English or in the term table; 1.0 without text), in the order of `records`. A report of another language is of
        unknown language; in the form "english" it has no text, so that a method that asks for words leaves it out.

    Raises:
        DatasetError: the dataset has no reports, or has several or an unknown record for one; names the records.
    """
    return _build(dataset, dataset.reports(), form, records, described_by_reports(dataset) if templates else None)


def _build(
    dataset: Dataset,
    reports: pd.DataFrame,
    form: Literal["original", "english"],
    records: pd.DataFrame,
    templated: Modality | None,
    only_listed: bool = False,
) -> pd.DataFrame:
    """`templated` says of what templates speak; `only_listed` leaves out records that `reports` does not list."""
    import pandas as pd

    repeated = reports["record_id"][reports["record_id"].duplicated()].tolist()
    unknown = sorted(set(reports["record_id"]) - set(records["record_id"]))
    if repeated or unknown:
        found = [f"records with two reports: {', '.join(repeated[:5])}"] * bool(repeated)
        found += [f"reports of records that are not listed: {', '.join(unknown[:5])}"] * bool(unknown)
        raise DatasetError(f"dataset {dataset.name!r}: {'; '.join(found)}; correct its tables")
    how: Literal["inner", "left"] = "inner" if only_listed else "left"
    table = records[["record_id", "patient_id", "fold"]].merge(reports, on="record_id", how=how, validate="one_to_one")
    table = table.fillna({"text": "", "source": "machine"}).rename(columns={"text": "original"}).reset_index(drop=True)
    blank = table["original"].str.strip() == ""
    table["language"] = [detect_language(text) for text in table["original"]]
    worded = [to_english(*pair) for pair in zip(table["original"], table["language"], strict=True)]
    strange = pd.Series([coverage < UNDERSTOOD for _, coverage in worded], dtype=bool) & (table["language"] == "unknown") & ~blank
    spoken = [english for english, _ in worded] if form == "english" else [normalise(text) for text in table["original"]]
    table["text"] = [clean_report([text])[0] for text in spoken]
    if form == "english":
        table.loc[strange, "text"] = ""
    table["coverage"] = pd.Series([coverage for _, coverage in worded], dtype=float).mask(blank, 1.0)
    if templated is not None:
        _fill(table, blank & table["fold"].isin(dataset.split.train), dataset, templated)
    return table[["record_id", "patient_id", "fold", "text", "original", "language", "source", "coverage"]]


def _fill(table: pd.DataFrame, rows: pd.Series, dataset: Dataset, described: Modality) -> None:
    """Give the chosen rows a sentence made from their labels, where they have any."""
    if not rows.any():
        return
    names = named_labels(dataset, table["record_id"][rows].tolist(), described)
    rows = rows & table["record_id"].isin(names.index)
    table.loc[rows, "text"] = [clean_report([template_report(names[r], described)])[0] for r in table["record_id"][rows]]
    table.loc[rows, "language"] = "en"
    table.loc[rows, "source"] = "template"
