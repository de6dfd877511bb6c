"""Carries out pairing rules on tables: who belongs to whom within a window, and lists for retrieval.

Everything is sorted joins on whole seconds; lab results are read as a stream, and what is kept of them is one panel a stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from assets.pairing_labs import Panels, collect_own, collect_panels, read_labs
from assets.pairing_rules import DAY_S, MODALITIES, ROLES, Member, PairingRule, Window
from assets.pairing_times import PairingError, TimeIndex, Timeline, ranges, taken, timeline
from assets.splits import folds_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]
    Floats = NDArray[np.float64]

SAMPLE_COLUMNS = (
    "sample_id", "patient_id", "encounter_id", "ecg_id", "image_id", "panel_id", "dt_ecg_s", "dt_image_s", "dt_labs_s", "dt_labs_last_s",
    "observed", "part", "fold", "official_part",
)  # fmt: skip


def member_timeline(records: pd.DataFrame, member: Member, known: pd.Index) -> Timeline:
    """A timeline of the records that a rule may use; they stand at 00:00 of their day where the member's window counts in days."""
    wanted = records["present"].astype(bool)
    if member.views:
        wanted &= records["view"].isin(member.views)
    line = timeline(records[wanted], "record_id", "acquired_at", known)
    if member.window is None or not member.window.day:
        return line
    return Timeline(line.ids, line.patient_N, line.time_N // DAY_S * DAY_S, line.official)


def pair_records(rule: PairingRule, ecg_records: pd.DataFrame, image_records: pd.DataFrame) -> pd.DataFrame:
    """Samples of a rule that is anchored at ECGs: every ECG with every picture in its window; `SAMPLE_COLUMNS`.

    Args:
        rule: declares members and window.
        ecg_records: records.parquet of stage raw.
        image_records: likewise.

    Raises:
        PairingError: there is none, or far too many.
    """
    known = pd.Index(ecg_records["patient_id"].unique())
    ecgs, images = member_timeline(ecg_records, rule.ecg, known), member_timeline(image_records, rule.image, known)
    index = TimeIndex(images.patient_N, images.time_N)
    ecg_row, place = ranges(*_inside(index, ecgs, rule.image.window))
    image_row = index.order_N[place]
    ecg_ids, image_ids = taken(ecgs.ids, ecg_row), taken(images.ids, image_row)
    columns = {
        "sample_id": ecg_ids + "+" + image_ids,
        "ecg_id": ecg_ids,
        "image_id": image_ids,
        "dt_ecg_s": np.zeros(len(ecg_row)),
        "dt_image_s": _since(images.time_N, image_row, ecgs.time_N[ecg_row]),
        "official_part": taken(images.official, image_row),
    }
    return _samples(rule, known.take(ecgs.patient_N[ecg_row]), columns)


def pair_stays(
    rule: PairingRule, encounters: pd.DataFrame, labs: Path, ecg_records: pd.DataFrame, image_records: pd.DataFrame
) -> tuple[pd.DataFrame, Panels]:
    """Samples of a rule that is anchored at hospital stays: the earliest ECG, the earliest picture and the panel in the windows of
    each; `SAMPLE_COLUMNS`. Of several at the same second, the first by id is taken.

    Args:
        rule: declares members, panel and windows.
        encounters: encounters.parquet of the labs' dataset.
        labs: its labs.parquet.
        ecg_records: records.parquet of stage raw.
        image_records: likewise.

    Returns:
        The samples, and the panels that they name, in their order.

    Raises:
        PairingError: there is no sample.
    """
    assert rule.labs is not None, f"rule {rule.name} has no panel"
    known = pd.Index(encounters["patient_id"].unique())
    stays = timeline(encounters, "encounter_id", "admitted_at", known)
    ecgs, images = member_timeline(ecg_records, rule.ecg, known), member_timeline(image_records, rule.image, known)
    ecg_row, image_row = _earliest(ecgs, stays, rule.ecg.window), _earliest(images, stays, rule.image.window)
    # A panel alone makes no sample, so stays without the others need no place in memory.
    kept = ((ecg_row >= 0) & (image_row >= 0) if rule.complete else (ecg_row >= 0) | (image_row >= 0)).nonzero()[0]
    stays, ecg_row, image_row = stays.take(kept), ecg_row[kept], image_row[kept]
    panels = collect_panels(read_labs(labs, known, rule.labs.items), stays, rule.labs)
    panel_row = np.full(len(stays), -1)
    panel_row[panels.stay_N] = np.arange(len(panels.stay_N))
    held_3N = np.stack([ecg_row, image_row, panel_row]) >= 0
    kept = (held_3N.sum(axis=0) >= (len(MODALITIES) if rule.complete else 2)).nonzero()[0]
    stays, ecg_row, image_row, panel_row = stays.take(kept), ecg_row[kept], image_row[kept], panel_row[kept]
    columns = {
        "sample_id": stays.ids,
        "encounter_id": stays.ids,
        "ecg_id": taken(ecgs.ids, ecg_row),
        "image_id": taken(images.ids, image_row),
        "panel_id": stays.ids.where(panel_row >= 0),
        "dt_ecg_s": _since(ecgs.time_N, ecg_row, stays.time_N),
        "dt_image_s": _since(images.time_N, image_row, stays.time_N),
        "dt_labs_s": _since(panels.first_N, panel_row, stays.time_N),
        "dt_labs_last_s": _since(panels.last_N, panel_row, stays.time_N),
        "official_part": taken(images.official, image_row),
    }
    return _samples(rule, known.take(stays.patient_N), columns), panels.take(panel_row[panel_row >= 0])


def pair_own(rule: PairingRule, records: pd.DataFrame, labs: Path | None) -> tuple[pd.DataFrame, Panels | None]:
    """Samples of a rule over one dataset: each record with its own recording, picture and lab results; `SAMPLE_COLUMNS`. No times
    are compared, so the seconds are null; fold and part are the dataset's own.

    Args:
        rule: declares the dataset and the panel.
        records: records.parquet of its stage raw.
        labs: its labs.parquet, whose stays have the ids of records; None for a rule without a panel.

    Returns:
        The samples, and the panels that they name, in their order.

    Raises:
        PairingError: there is no sample.
    """
    records = records.sort_values("record_id", ignore_index=True)
    ids = records["record_id"]
    panels, panel_row = None, np.full(len(ids), -1)
    if rule.labs is not None:
        assert labs is not None, f"rule {rule.name} has a panel and no table for it"
        panels = collect_own(read_labs(labs, pd.Index(ids), rule.labs.items, by="encounter_id"), len(ids), rule.labs)
        panel_row[panels.stay_N] = np.arange(len(panels.stay_N))
    held_3N = np.stack([records["present"].to_numpy(bool), records["image_present"].to_numpy(bool), panel_row >= 0])
    kept = (held_3N.sum(axis=0) >= (2 + (panels is not None) if rule.complete else 2)).nonzero()[0]
    ids, held_3N, panel_row, records = taken(ids, kept), held_3N[:, kept], panel_row[kept], records.iloc[kept].reset_index(drop=True)
    columns = {name: ids.where(held_N) for name, held_N in zip(("ecg_id", "image_id", "panel_id"), held_3N, strict=True)}
    columns |= {"sample_id": ids, "fold": records["fold"].astype("int64")}
    if panels is not None:
        columns["encounter_id"] = ids
    if "official_split" in records:
        columns["official_part"] = records["official_split"]
    samples = _samples(rule, pd.Index(records["patient_id"]), columns)
    return samples, None if panels is None else panels.take(panel_row[panel_row >= 0])


def _inside(index: TimeIndex, anchors: Timeline, window: Window | None) -> tuple[Integers, Integers]:
    """Ranges of the index that lie in the window of each anchor."""
    assert window is not None, "a member that is not the anchor has a window"
    return index.between(anchors.patient_N, anchors.time_N + window.first_s, anchors.time_N + window.last_s)


def _earliest(line: Timeline, anchors: Timeline, window: Window | None) -> Integers:
    """Row of the earliest thing in the window of each anchor, -1 for none."""
    index = TimeIndex(line.patient_N, line.time_N)
    start_N, stop_N = _inside(index, anchors, window)
    row_N = np.full(len(anchors), -1)
    row_N[stop_N > start_N] = index.order_N[start_N[stop_N > start_N]]
    return row_N


def _since(time_N: Integers, row_N: Integers, anchor_N: Integers) -> Floats:
    """Seconds from anchors to things, NaN for row -1."""
    elapsed_N = np.full(len(row_N), np.nan)
    there = row_N >= 0
    elapsed_N[there] = time_N[row_N[there]] - anchor_N[there]
    return elapsed_N


def _samples(rule: PairingRule, patients: pd.Index, columns: Mapping[str, Any]) -> pd.DataFrame:
    """The table of samples with patient, fold, part and what is observed, by sample_id."""
    if not len(patients):
        raise PairingError(
            f"rule {rule.name!r} finds nothing that belongs together in {' and '.join(rule.datasets)}; "
            "are these downloads of the same patients, with their files?"
        )
    table = pd.DataFrame({name: columns.get(name) for name in SAMPLE_COLUMNS}, index=range(len(patients)))
    table["patient_id"] = patients.to_numpy()
    if "fold" not in columns:
        table["fold"] = np.array(folds_of(table["patient_id"].tolist()), np.int64)
    table["part"] = table["fold"].map({fold: part for part, folds in rule.parts.items() for fold in folds})
    for name in ("ecg_id", "image_id", "panel_id", "encounter_id", "official_part"):
        table[name] = table[name].astype("str").where(table[name].notna() & (table[name] != ""))
    for name in ("dt_ecg_s", "dt_image_s", "dt_labs_s", "dt_labs_last_s"):
        table[name] = table[name].astype("float64")
    held_N3 = table[["ecg_id", "image_id", "panel_id"]].notna().to_numpy()
    table["observed"] = held_N3 @ (1 << np.arange(3))
    return table.sort_values("sample_id", ignore_index=True)


def add_text(samples: pd.DataFrame, role: str, with_text: pd.Index) -> pd.DataFrame:
    """The samples with the bit of a text set where the recording or picture ("ecg" or "image") is among `with_text`."""
    there = with_text.get_indexer(pd.Index(samples[f"{role}_id"])) >= 0
    return samples.assign(observed=samples["observed"] | (there.astype(np.int64) << ROLES.index(f"{role}_text")))


def read_with_text(path: Path) -> pd.Index:
    """Ids of the reports of reports.parquet that are not empty; texts are read a part at a time."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    ids: list[str] = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["record_id", "text"]):
            ids += pc.filter(batch["record_id"], pc.not_equal(pc.utf8_trim_whitespace(batch["text"]), "")).to_pylist()
    return pd.Index(ids)


def has_all(samples: pd.DataFrame) -> pd.Series:
    """Which samples have every modality that any sample has. Lists for retrieval are made of these: others have nothing to ask with, or
    are no answer.
    """
    mask = samples["observed"] & ((1 << len(MODALITIES)) - 1)
    whole: pd.Series = mask == np.bitwise_or.reduce(mask.to_numpy())
    return whole


def published_candidates(samples: pd.DataFrame, records: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The lists for retrieval that records come with in the column `candidates`, the true one first.

    Returns:
        A table as of `draw_candidates`, and how many candidates were left out because they are no samples.
    """
    lists = records.set_index("record_id")["candidates"]
    lists = lists[(lists != "") & lists.index.isin(samples["sample_id"])]
    table = lists.str.split(" ").explode().rename("candidate_sample_id").rename_axis("query_sample_id").reset_index()
    table["place"] = table.groupby("query_sample_id").cumcount()
    known = table["candidate_sample_id"].isin(samples["sample_id"])
    table = table.assign(is_positive=table["place"] == 0)
    return table[known].reset_index(drop=True), int((~known).sum())


def draw_candidates(samples: pd.DataFrame, size: int, seed: int) -> pd.DataFrame:
    """For each sample of validation and test its list for retrieval: itself, then others of its part, drawn without replacement.

    Others with the very same picture are never drawn: they would be right as well. A part with fewer samples gives shorter lists.

    Returns:
        query_sample_id, candidate_sample_id, place (0 for the true one), is_positive.
    """
    queries: list[str] = []
    candidates: list[str] = []
    places: list[int] = []
    for number, part in enumerate(("validation", "test")):
        held = samples[samples["part"] == part]
        ids, picture_N = held["sample_id"].to_numpy(object), pd.factorize(held["image_id"])[0]
        rng = np.random.default_rng([seed, number])
        for row in range(len(held)):
            others = np.flatnonzero(picture_N != picture_N[row])
            drawn = rng.choice(others, min(size - 1, len(others)), replace=False)
            queries += [ids[row]] * (len(drawn) + 1)
            candidates += ids[[row, *drawn]].tolist()
            places += range(len(drawn) + 1)
    columns = {"query_sample_id": queries, "candidate_sample_id": candidates, "place": places}
    table = pd.DataFrame(columns).astype({"query_sample_id": "str", "candidate_sample_id": "str", "place": "int64"})
    return table.assign(is_positive=table["place"] == 0)
