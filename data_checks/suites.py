"""Great Expectations suites, built from what a dataset and a stage declare.

Every expectation has a description in words: it is what messages and Data Docs say. Columns that the functions name but
no file holds (`known_record`, `n_positive`, ...) are derived by the check that uses the suite.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from assets.dataset import Dataset, Task
from assets.text.terms import LANGUAGES

SHA256 = r"^[0-9a-f]{64}$"
XXH3 = r"^[0-9a-f]{32}$"
FILLED = r"\S"
SEXES = ("female", "male", "unknown")
AGE_LIMIT_YEARS = 130
REPORT_LANGUAGES = (*LANGUAGES, "unknown")
REPORT_SOURCES = ("human", "machine", "template")
EMPTY_TEXT_LIMIT = 0.1
"""Largest share of reports without text: a text method would learn from noise beyond it."""


def columns_suite() -> list[Any]:
    """The table of a table's columns, where one of them does not fit; values are not looked at then."""
    return [_true("fits_declaration", "every declared column is there once, with its type")]


def declared_columns(columns: Sequence[str]) -> list[Any]:
    """The columns of a table, for Data Docs; their types were compared before."""
    return [_gx().ExpectTableColumnsToMatchSet(column_set=list(columns), exact_match=False, description="every declared column is there")]


def files_suite() -> list[Any]:
    """files.parquet of a raw output."""
    return [
        *_some_rows("file"),
        *_identifier("path", "file path"),
        _filled("sha256", "every file has a checksum"),
        _matches("sha256", SHA256, "a checksum is 64 hexadecimal digits"),
        _filled("bytes", "every file has a size"),
        _between("bytes", 0, None, "a size is not negative"),
    ]


def records_suite(dataset: type[Dataset]) -> list[Any]:
    """records.parquet of a raw output."""
    return [
        *_some_rows("record"),
        *_identifier("record_id", "record id"),
        _filled("patient_id", "every record has a patient"),
        _matches("patient_id", FILLED, "a patient id is not blank"),
        _filled("fold", "every record has a fold"),
        _fold(dataset),
        _age(),
        _filled("sex", "sex is said, if only as unknown"),
        _one_of("sex", SEXES, f"sex is one of {', '.join(SEXES)}"),
        _filled("present", "presence of every record is known"),
    ]


def index_suite(dataset: type[Dataset], n_channels: int) -> list[Any]:
    """index.arrow of a store.

    Derived: known_record, same_fold_as_record, row_in_shard, length_of_shard.
    """
    gxe = _gx()
    masks = (1 << n_channels) - 1
    return [
        *_some_rows("window"),
        *_place_suite(dataset),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["record_id", "start"], description="record and start time tell windows apart"),
        _between("start", 0, None, "a start time is not negative"),
        _true("length_of_shard", "n_samples is at least 1 and at most that of the window's shard"),
        _filled("missing_fraction", "missing_fraction is known"),
        _between("missing_fraction", 0, 1, "missing_fraction lies between 0 and 1"),
        *(_between(name, 0, masks, f"{name} is a bit mask of {n_channels} leads") for name in ("absent", "flat", "saturated", "noisy")),
    ]


def image_index_suite(dataset: type[Dataset]) -> list[Any]:
    """index.arrow of an image store. Derived: known_record, same_fold_as_record, row_in_shard."""
    return [*_some_rows("image"), *_place_suite(dataset), *_identifier("record_id", "record id")]


def lab_suites() -> tuple[list[Any], list[Any]]:
    """labs.parquet, encounters.parquet. Derived: known_patient, is_time."""
    return (
        [
            *_some_rows("lab result"),
            _matches("item_id", FILLED, "every result names its item"),
            _true("known_patient", "the patient is one of the raw stage's"),
            _true("is_time", "charted_at is an ISO 8601 time or empty"),
        ],
        [
            *_some_rows("hospital stay"),
            *_identifier("encounter_id", "encounter id"),
            _true("known_patient", "the patient is one of the raw stage's"),
            _true("is_time", "admitted_at is an ISO 8601 time or empty"),
        ],
    )


def _place_suite(dataset: type[Dataset]) -> list[Any]:
    """Where an item lies and whose it is."""
    gxe = _gx()
    return [
        _one_of("dataset", [dataset.name], f"dataset is {dataset.name}"),
        _filled("record_id", "every window has a record"),
        _filled("patient_id", "every window has a patient"),
        _matches("patient_id", FILLED, "a patient id is not blank"),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["shard", "row"], description="every window has a shard row of its own"),
        _true("row_in_shard", "shard and row lie within the shards of the manifest"),
        _true("known_record", "the record is one of the raw stage's"),
        _true("same_fold_as_record", "the fold is the record's own"),
        _fold(dataset),
        _age(),
        _one_of("sex", SEXES, f"sex is one of {', '.join(SEXES)}"),
        _matches("source_checksum", XXH3, "a source checksum is 32 hexadecimal digits"),
    ]


def labels_suite(task: Task, window_s: float) -> list[Any]:
    """labels.parquet of a task. Derived: known_record, on_the_grid, n_positive, `<class> is finite`, `<class> varies`.

    Args:
        task: as the dataset declares it.
        window_s: length of the windows that labels may be about.
    """
    if task.per_window:
        names = [
            _filled("record_id", "every row has a record id"),
            _gx().ExpectCompoundColumnsToBeUnique(
                column_list=["record_id", "start"], description="record and start time tell windows apart"
            ),
            _between("start", 0, None, "a start time is not negative"),
            _true("on_the_grid", f"windows of a recording begin multiples of {window_s:g} s after each other"),
        ]
    else:
        names = _identifier("record_id", "record id")
    return [
        *_some_rows("labelled record"),
        *names,
        _true("known_record", "the record is one of the raw stage's"),
        *(_suite_of_numbers(task) if task.kind == "regression" else _suite_of_classes(task)),
    ]


def _suite_of_classes(task: Task) -> list[Any]:
    values = [_one_of(c, [0, 1], f"{c} is 0 or 1") for c in task.classes]
    if task.kind == "single_label":
        return [*values, _between("n_positive", 1, 1, "every record has exactly one positive label")]
    return values if task.may_be_empty else [*values, _between("n_positive", 1, None, "every record has at least one positive label")]


def _suite_of_numbers(task: Task) -> list[Any]:
    return [
        *(_true(f"{c} is finite", f"{c} is a finite number") for c in task.classes),
        *(_true(f"{c} varies", f"{c} is not the same number for all records") for c in task.classes),
    ]


def reports_suite() -> list[Any]:
    """reports.parquet. Derived: known_record, same_fold_as_record, template_elsewhere, coverage_if_text,
    is_empty."""
    gxe = _gx()
    return [
        *_some_rows("report"),
        *_identifier("record_id", "record id"),
        _true("known_record", "the record is one of the raw stage's"),
        _true("same_fold_as_record", "the fold is the record's own"),
        _filled("text", "text is there, if only as an empty string"),
        _filled("language", "language is said"),
        _one_of("language", REPORT_LANGUAGES, f"language is one of {', '.join(REPORT_LANGUAGES)}"),
        _filled("source", "source is said"),
        _one_of("source", REPORT_SOURCES, f"source is one of {', '.join(REPORT_SOURCES)}"),
        _false("template_elsewhere", "templates made from labels stand in training folds only"),
        _true("coverage_if_text", "coverage is known where the source has text"),
        _between("coverage", 0, 1, "coverage lies between 0 and 1"),
        gxe.ExpectColumnMeanToBeBetween(
            column="is_empty", min_value=0, max_value=EMPTY_TEXT_LIMIT, description=f"at most {EMPTY_TEXT_LIMIT:.0%} of reports are empty"
        ),
    ]


def questions_suite() -> list[Any]:
    """questions.parquet. Derived: known_record, person_of_record, same_fold_as_record, sorted_answers."""
    return [
        *_some_rows("question"),
        *_identifier("question_id", "question id"),
        _true("known_record", "the record is one of the raw stage's"),
        _true("person_of_record", "the patient is the record's own"),
        _true("same_fold_as_record", "the fold is the record's own"),
        *(_filled(column, f"{column} is there") for column in ("question", "question_type", "answers")),
        *(_matches(column, FILLED, f"{column} is not blank") for column in ("question", "question_type", "answers")),
        _true("sorted_answers", "answers are sorted, each once, none of them empty"),
    ]


def pairing_suite() -> list[Any]:
    """samples.parquet. Derived: ecg_of_patient, image_of_patient, stay_of_patient, panel_of_patient, of_one_record, same_seconds,
    ecg_in_window, image_in_window, labs_in_window, usable, observed_as_referred, n_modalities, complete_as_ruled.
    """
    return [
        *_some_rows("sample"),
        *_identifier("sample_id", "sample id"),
        _matches("patient_id", FILLED, "a patient id is not blank"),
        *(
            _true(f"{role}_of_patient", f"the {role}, where there is one, is known and of the sample's patient")
            for role in ("ecg", "image", "stay", "panel")
        ),
        _true("of_one_record", "everything of a sample is of the record that it is named after, where the rule says so"),
        _true("same_seconds", "the seconds from the anchor are those between the sources' times"),
        *(_true(f"{role}_in_window", f"the {role} lie in the rule's window") for role in ("ecg", "image", "labs")),
        _true("usable", "ECG and picture have their files, and the picture a view that the rule wants"),
        _true("observed_as_referred", "observed says what the sample refers to, and which reports have text"),
        _between("n_modalities", 2, None, "at least two modalities are there"),
        _true("complete_as_ruled", "every member is there where the rule asks for all"),
    ]


def pairing_split_suite() -> list[Any]:
    """samples.parquet. Derived: fold_of_patient, part_of_fold."""
    return [
        _true("fold_of_patient", "the fold is the patient's own, by hash or as the one dataset of the rule has it"),
        _true("part_of_fold", "the part is that of the fold"),
    ]


def panels_suite() -> list[Any]:
    """panels.parquet. Derived: as_sampled, as_valued, enough_items, recomputed."""
    return [
        *_some_rows("panel"),
        *_identifier("panel_id", "panel id"),
        _true("as_sampled", "patient, stay and part are those of the one sample that names the panel"),
        _true("as_valued", "observed says which values there are"),
        _true("enough_items", "a panel has as many items as the rule asks for"),
        _true("recomputed", "percentiles are those of the training part's values, the mean where a value is missing"),
    ]


def prompts_suite() -> list[Any]:
    """All prompt sets as one table of set, code and prompt. Derived: is_text."""
    return [
        *_some_rows("prompt"),
        _matches("code", FILLED, "a class code is not blank"),
        _true("is_text", "a prompt is text"),
        _matches("prompt", FILLED, "a prompt is not blank"),
    ]


def metrics_suite(dataset: type[Dataset]) -> list[Any]:
    """metrics.parquet. Derived: in_range, ordered_interval, near_interval, has_table, recomputed."""
    return [
        _one_of("dataset", [dataset.name], f"dataset is {dataset.name}"),
        _true(
            "in_range",
            "a metric lies between 0 and 1, a difference of metrics between -1 and 1, a rank from 1 on, an error of numbers from 0 on, "
            "the challenge metric up to 1",
        ),
        _true("ordered_interval", "the interval is ordered: low is not above high"),
        _true("near_interval", "the value lies in its interval, or close to it"),
        _true("has_table", "the table that the row was computed from is there"),
        _true("recomputed", "the metric recomputed from the table is the stored one"),
    ]


def _gx() -> Any:
    """The expectations of Great Expectations, which declares no types for them."""
    return importlib.import_module("great_expectations.expectations")


def _some_rows(what: str) -> list[Any]:
    return [_gx().ExpectTableRowCountToBeBetween(min_value=1, description=f"there is at least one {what}")]


def _identifier(column: str, what: str) -> list[Any]:
    gxe = _gx()
    return [
        _filled(column, f"every row has a {what}"),
        _matches(column, FILLED, f"a {what} is not blank"),
        gxe.ExpectColumnValuesToBeUnique(column=column, description=f"no {what} appears twice"),
    ]


def _fold(dataset: type[Dataset]) -> Any:
    folds = sorted({*dataset.split.train, *dataset.split.validation, *dataset.split.test})
    return _one_of("fold", folds, f"fold is one of the split's ({', '.join(map(str, folds))})")


def _age() -> Any:
    return _between("age", 0, AGE_LIMIT_YEARS, f"age is unknown or between 0 and {AGE_LIMIT_YEARS} years")


def _filled(column: str, description: str) -> Any:
    return _gx().ExpectColumnValuesToNotBeNull(column=column, description=description)


def _matches(column: str, regex: str, description: str) -> Any:
    return _gx().ExpectColumnValuesToMatchRegex(column=column, regex=regex, description=description)


def _between(column: str, low: float | None, high: float | None, description: str) -> Any:
    return _gx().ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, description=description)


def _one_of(column: str, values: Sequence[Any], description: str) -> Any:
    return _gx().ExpectColumnValuesToBeInSet(column=column, value_set=list(values), description=description)


def _true(column: str, description: str) -> Any:
    return _one_of(column, [True], description)


def _false(column: str, description: str) -> Any:
    return _one_of(column, [False], description)
