"""Every real recording at hand reads, and becomes rows of a store or a row of its quarantine with the reason that is true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.cleaned import build_cleaned
from assets.dataset import Channel, Dataset, get_dataset
from assets.lab_tables import build_lab_tables
from assets.outputs import Key, Output, Workspace
from assets.pairing_labs import LabScale, collect_panels, read_labs
from assets.pairing_rules import HOUR_S, LabPanel, Window
from assets.pairing_times import timeline
from assets.readers import read_record
from assets.record import Record, RecordError
from assets.splits import fold_of
from assets.store import build_store
from models.recipes import LabRecipe, Recipe
from models.registry import get_recipe
from models.store import open_store
from models.types import LEADS


class AFolder(Dataset):
    """All recordings of a folder, by file, whatever their format."""

    pattern = "*.hea"
    leads = LEADS
    required_channels = ()
    fs_hz = 250.0

    def files(self) -> list[Path]:
        return sorted(p.relative_to(self.folder) for p in self.folder.rglob(self.pattern))

    def records(self) -> pd.DataFrame:
        names = [p.as_posix() for p in self.files()]
        table = pd.DataFrame({"record_id": names, "patient_id": names, "fold": [fold_of(n) for n in names], "age": np.nan})
        return table.assign(sex="unknown", site="", device="", acquired_at="")

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        return read_record(self.folder / record_id)

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        raise NotImplementedError


COLLECTIONS = [
    # folder, files, other leads than the twelve, window, recordings stored, reasons of those that are not
    ("cinc2021", "*.hea", (), 6.0, 119, {}),
    ("challenge2025", "*.hea", (), 7.0, 192, {"too_short": 7}),
    ("cinc2011", "*.txt", (), 10.0, 72, {"amplitude": 29, "constant": 19}),
    ("cpsc2018", "*.mat", (), 6.0, 4, {}),
    ("cpsc2019/data", "*.mat", ("ECG",), 10.0, 33, {}),
    ("cpsc2021", "*.hea", (), 10.0, 12, {}),
    ("mitdb", "*.hea", ("MLII",), 10.0, 5, {}),
    ("qtdb", "*.hea", ("ECG1", "ECG2"), 10.0, 1, {}),
    ("wfdb-samples", "*.hea", ("ECG", "MCL1"), 2.0, 6, {"missing_leads": 1, "duplicate": 4, "constant": 1}),
    ("broken", "*.hea", (), 10.0, 1, {"lfs_pointer": 1, "missing_signal": 5, "bad_gain": 1, "record_name": 2}),
]


@pytest.mark.parametrize(("folder", "pattern", "more", "window_s", "stored", "reasons"), COLLECTIONS, ids=[c[0] for c in COLLECTIONS])
def test_every_recording_is_stored_or_quarantined(
    shared_data: Path,
    tmp_path: Path,
    folder: str,
    pattern: str,
    more: tuple[str, ...],
    window_s: float,
    stored: int,
    reasons: dict[str, int],
) -> None:
    channels = tuple(Channel(lead) for lead in LEADS + more)
    kind = type(
        "Collection", (AFolder,), {"name": "collection", "pattern": pattern, "window_s": window_s, "channels": lambda self: channels}
    )
    built = build_store(tmp_path, kind(shared_data / folder), Recipe("native", fs_hz=250.0))
    quarantine = pd.read_parquet(tmp_path / "quarantine.parquet")
    assert (len(set(_ids(tmp_path))), dict(quarantine["reason"].value_counts())) == (stored, reasons), quarantine.to_string()
    assert built.facts["n_absent"] == 0


def _ids(folder: Path) -> list[str]:
    import pyarrow as pa

    with pa.memory_map(str(folder / "index.arrow")) as source:
        ids: list[str] = pa.ipc.open_file(source).read_all()["record_id"].to_pylist()
    return ids


def cleaned(dataset: Dataset, root: Path) -> Output:
    return Workspace(root).publish(
        Key(("cleaned", dataset.name), "native"),
        lambda f: build_cleaned(f, dataset, get_recipe("native"), lambda *_: None),
        code_version="1",
        access=dataset.access,
    )


@pytest.mark.parametrize(
    ("name", "folder", "n_records"), [("cinc2021", "cinc2021", 119), ("cpsc2018", "cpsc2018", 4), ("bidmc", "bidmc", 9)]
)
def test_downloads_as_they_lie_on_disk_become_stores(shared_data: Path, tmp_path: Path, name: str, folder: str, n_records: int) -> None:
    dataset = get_dataset(name)(shared_data / folder)
    output = cleaned(dataset, tmp_path)
    store = open_store(output.folder)
    left_out = set(pd.read_parquet(output.path("quarantine.parquet"))["record_id"])
    present = [
        r
        for r, there in zip(dataset.records()["record_id"], dataset.present(dataset.records()["record_id"].tolist()), strict=True)
        if there
    ]
    assert len(present) == n_records
    assert set(store.record_ids()) | left_out == set(present)
    assert len(left_out) <= 0.05 * n_records
    assert np.isfinite(store.signals(np.arange(min(64, len(store))))).all()


def test_a_file_of_another_kind_is_refused_by_name(shared_data: Path) -> None:
    for name in ("cinc2021/weights.csv", "wesad/S16/S16_git.pkl", "cpsc2019/ref", "ptb-xl/ptbxl_database.csv", "cxr-nih/images"):
        with pytest.raises(RecordError) as caught:
            read_record(shared_data / name)
        assert caught.value.reason and str(shared_data / name) in str(caught.value)


def test_what_cannot_be_stored_of_the_quality_challenge_was_judged_unacceptable_by_people(shared_data: Path, tmp_path: Path) -> None:
    kind = type("Collection", (AFolder,), {"name": "collection", "pattern": "*.txt"})
    build_store(tmp_path, kind(shared_data / "cinc2011"), Recipe("native"))
    refused = {Path(r).stem for r in pd.read_parquet(tmp_path / "quarantine.parquet")["record_id"]}
    unacceptable = set((shared_data / "cinc2011" / "set-a" / "RECORDS-unacceptable").read_text().split())
    # 2140454 was called acceptable, although V6 leaves the range of any amplifier in it.
    assert refused - unacceptable == {"2140454"}
    assert len(refused) == 48


def test_lab_results_of_real_stays_form_panels(shared_data: Path, tmp_path: Path) -> None:
    """The eICU demo's results, written as stage cleaned writes them, and collected by the names of tests."""
    dataset = get_dataset("eicu_demo")(shared_data / "eicu-demo")
    built = build_lab_tables(tmp_path, dataset, LabRecipe("labs"))
    items = ("potassium", "creatinine", "troponin - I", "no such test")
    panel = LabPanel("eicu_demo", items, Window(-24 * HOUR_S, 24 * HOUR_S))
    stays = pd.read_parquet(tmp_path / "encounters.parquet")
    known = pd.Index(stays["patient_id"].unique())
    line = timeline(stays, "encounter_id", "admitted_at", known)
    panels = collect_panels(read_labs(tmp_path / "labs.parquet", known, items), line, panel)
    assert 0.8 * len(stays) < len(panels.stay_N) <= len(stays) and set(items[:3]) <= set(built.facts["items"])
    observed_P = np.isfinite(panels.values_NP).mean(axis=0)
    assert observed_P[0] > 0.9 and observed_P[1] > 0.9 and 0 < observed_P[2] < 0.5 and observed_P[3] == 0
    assert 2 < np.nanmedian(panels.values_NP[:, 0]) < 6 and 0.5 < np.nanmedian(panels.values_NP[:, 1]) < 2
    assert panels.first_N.min() >= line.time_N.min() - 24 * HOUR_S

    labs = pd.read_parquet(tmp_path / "labs.parquet").dropna(subset="value")
    labs["at"] = pd.to_datetime(labs["charted_at"])
    for row in range(0, len(panels.stay_N), 7):
        stay = stays[stays["encounter_id"] == line.ids[panels.stay_N[row]]].iloc[0]
        near = (labs["at"] - pd.Timestamp(stay["admitted_at"])).abs() <= pd.Timedelta(hours=24)
        own = labs[(labs["patient_id"] == stay["patient_id"]) & near].sort_values("at", kind="stable").drop_duplicates("item_id")
        expected = own.set_index("item_id")["value"].reindex(items).to_numpy()
        np.testing.assert_array_equal(panels.values_NP[row], expected)

    part_N = np.array([fold_of(p) <= 8 for p in known.take(line.patient_N[panels.stay_N])])
    scale = LabScale.fit(items, panels.values_NP[part_N])
    percentile_NP = scale.apply(panels.values_NP)
    assert percentile_NP.min() >= 0 and percentile_NP.max() <= 1 and (percentile_NP[:, 3] == 0.5).all()
    own_N = percentile_NP[part_N, 0][np.isfinite(panels.values_NP[part_N, 0])]
    assert abs(own_N.mean() - scale.means_P[0]) < 1e-6 and own_N.max() == 1
