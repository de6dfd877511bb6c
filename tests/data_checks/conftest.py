"""A tiny dataset whose every stage can be published by hand, whole or with a planted fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

import assets.dataset
from assets.access import Access
from assets.dataset import Dataset, Source, Task
from assets.outputs import Built, Key, Output, Workspace, sha256_file
from assets.record import Record
from assets.verdicts import Verdict
from data_checks.checks import run_check
from models.predictions import Origin, Predictions, write_predictions
from models.types import LEADS

CLASSES = ("MI", "NORM")
N_RECORDS, N_SAMPLES = 40, 50
Edit = Callable[[Any], Any]


class Tiny(Dataset):
    name: ClassVar[str] = "tiny"
    source: ClassVar[Source] = Source("Tiny", "1", "", "CC0", "", "")
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = LEADS
    fs_hz: ClassVar[float] = 100.0
    has_reports: ClassVar[bool] = True
    task_names: ClassVar[tuple[str, ...]] = ("super",)
    quarantine_limit: ClassVar[float] = 0.05

    def files(self) -> list[Path]:
        return []

    def records(self) -> pd.DataFrame:
        raise NotImplementedError

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        raise NotImplementedError

    def task(self, name: str) -> Task:
        return Task(name, "Superclasses", CLASSES, {c: c for c in CLASSES})

    def labels(self, task: str) -> pd.DataFrame:
        raise NotImplementedError

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        raise NotImplementedError


class Guarded(Tiny):
    name: ClassVar[str] = "guarded"
    access: ClassVar[Access] = Access.CREDENTIALED


def same(thing: Any) -> Any:
    return thing


class World:
    """Publishes outputs of a dataset; every method takes edits that plant faults."""

    def __init__(self, root: Path, dataset: type[Dataset]) -> None:
        self.workspace, self.dataset, self.published = Workspace(root), dataset, 0

    def records(self) -> pd.DataFrame:
        """40 records of 20 patients, four a fold."""
        i = np.arange(N_RECORDS)
        return pd.DataFrame(
            {
                "record_id": [f"r{n:02d}" for n in i],
                "patient_id": [f"p{n // 2:02d}" for n in i],
                "fold": i // 4 + 1,
                "age": np.where(i % 7 == 0, np.nan, 30.0 + i),
                "sex": np.where(i % 2 == 0, "female", "male"),
                "site": "",
                "device": "CS-12",
                "acquired_at": "",
                "present": True,
            }
        )

    def publish(self, key: Key, build: Callable[[Path], Built], *upstream: Output) -> Output:
        self.published += 1
        versions = {str(u.key): u.data_version for u in upstream}
        return self.workspace.publish(key, build, code_version=f"1.{self.published}", access=self.dataset.access, upstream=versions)

    def raw(self, files: Edit = same, records: Edit = same, facts: Edit = same) -> Output:
        def build(folder: Path) -> Built:
            listing = pd.DataFrame({"path": [f"a/{i}.dat" for i in range(5)], "bytes": range(5), "sha256": [f"{i}" * 64 for i in range(5)]})
            listing, table = files(listing), records(self.records())
            listing.to_parquet(folder / "files.parquet", index=False)
            table.to_parquet(folder / "records.parquet", index=False)
            present = int((table["present"] == True).sum()) if "present" in table else 0  # noqa: E712
            counted = {"dataset": self.dataset.name, "n_records": len(table), "n_present": present, "n_files": len(listing)}
            return Built(len(table), facts(counted))

        return self.publish(Key(("raw", self.dataset.name)), build)

    def cleaned(
        self, index: Edit = same, quarantine: Edit = same, shards: Edit = same, facts: Edit = same, absent: tuple[str, ...] = ()
    ) -> Output:
        """All records but r39, which is in quarantine, in two shards."""
        raw = self.workspace.require(Key(("raw", self.dataset.name)))

        def build(folder: Path) -> Built:
            records = self.records()
            stored = records[records["record_id"] != "r39"].drop(columns="present").reset_index(drop=True)
            n = len(stored)
            number = np.arange(n)
            table = index(
                stored.assign(
                    dataset=self.dataset.name, start=0.0, row=number % 20, shard=(number // 20).astype(np.int32), n_samples=N_SAMPLES, absent=np.int32(0),
                    missing_fraction=np.float32(0), flat=np.int32(0), saturated=np.int32(0), noisy=np.int32(0), limb_swap=False, source_checksum="ab" * 16,
                )
            )  # fmt: skip
            bad = pd.DataFrame(
                {
                    "record_id": ["r39"],
                    "patient_id": ["p19"],
                    "start": [0.0],
                    "reason": ["checksum"],
                    "explanation": ["differs"],
                    "path": ["r39.hea"],
                }
            )
            pd.DataFrame({"record_id": pd.Series(absent, dtype="str")}).to_parquet(folder / "absent.parquet", index=False)
            quarantine(bad).to_parquet(folder / "quarantine.parquet", index=False)
            signals = np.random.default_rng(0).integers(-500, 500, (n, 12, N_SAMPLES)).astype(np.int16)
            arrays = shards([signals[:20], signals[20:]])
            for k, array in enumerate(arrays):
                np.save(folder / f"shard-{k:05d}.npy", array)
            with pa.OSFile(str(folder / "index.arrow"), "wb") as sink:
                arrow = pa.Table.from_pandas(table, preserve_index=False)
                with pa.ipc.new_file(sink, arrow.schema) as writer:
                    writer.write_table(arrow)
            return Built(len(table), facts(self._store_facts(n)))

        return self.publish(Key(("cleaned", self.dataset.name), "native"), build, raw)

    def _store_facts(self, n: int) -> dict[str, Any]:
        shard = {"channels": list(LEADS), "n_samples": N_SAMPLES, "fs_hz": 100.0}
        return {
            "kind": "store", "format_version": 1, "dataset": self.dataset.name, "recipe": "native", "index": "index.arrow",
            "channels": [{"name": lead, "kind": "ECG", "unit": "uV", "scale": 1.0, "fs_hz": 100.0} for lead in LEADS],
            "shards": [{"file": "shard-00000.npy", "rows": 20, **shard}, {"file": "shard-00001.npy", "rows": n - 20, **shard}],
            "n_quarantined": 1, "n_absent": 0, "window_s": 0.5,
        }  # fmt: skip

    def label_table(self) -> pd.DataFrame:
        i = np.arange(N_RECORDS)
        return pd.DataFrame(
            {"record_id": [f"r{n:02d}" for n in i], "MI": (i % 3 == 0).astype(np.int8), "NORM": (i % 3 != 0).astype(np.int8)}
        )

    def labels(self, table: Edit = same, classes: tuple[str, ...] = CLASSES) -> Output:
        raw = self.workspace.require(Key(("raw", self.dataset.name)))

        def build(folder: Path) -> Built:
            frame = table(self.label_table())
            frame.to_parquet(folder / "labels.parquet", index=False)
            return Built(
                len(frame), {"dataset": self.dataset.name, "task": "super", "classes": list(classes), "class_names": {}, "positives": {}}
            )

        return self.publish(Key(("labels", self.dataset.name), "super"), build, raw)

    def reports(self, table: Edit = same) -> Output:
        raw = self.workspace.require(Key(("raw", self.dataset.name)))

        def build(folder: Path) -> Built:
            frame = self.records()[["record_id", "patient_id", "fold"]]
            source = np.where(frame["fold"] == 3, "template", "human")
            frame = table(frame.assign(text="sinus rhythm", original="sinusrhythmus", language="de", source=source, coverage=1.0))
            frame.to_parquet(folder / "reports.parquet", index=False)
            return Built(len(frame), {"form": "original"})

        return self.publish(Key(("reports", self.dataset.name), "original"), build, raw)

    def prompts(self, sets: Edit = same) -> Output:
        def build(folder: Path) -> Built:
            held = sets({"einthoven": {"MI": "myocardial infarction", "NORM": "normal ECG"}, "plain": {"MI": "MI", "NORM": "NORM"}})
            for name, prompts in held.items():
                (folder / f"{name}.json").write_text(json.dumps(prompts))
            return Built(4, {"sets": {name: len(p) for name, p in held.items()}})

        return self.publish(Key(("prompts",)), build)

    def encoder(self, spoil: Edit = same, weights: Edit = same, config: Edit = same) -> Output:
        """`spoil` gets the folder once the sums are written."""

        def build(folder: Path) -> Built:
            for k, name in enumerate(("bundle", "random_init")):
                bundle = folder / name
                bundle.mkdir()
                tensors = {"a": np.full((2, 3), k, np.float32), "b": np.arange(4, dtype=np.int64)}
                save_file(weights(tensors) if k == 0 else tensors, bundle / "weights.safetensors")
                described = {"method": "merl", "spec_version": "1"}
                (bundle / "config.json").write_text(json.dumps(config(described) if k == 0 else described))
                (bundle / "card.md").write_text("# an encoder")
                files = ("card.md", "config.json", "weights.safetensors")
                (bundle / "SHA256SUMS").write_text("".join(f"{sha256_file(bundle / f)}  {f}\n" for f in files))
            spoil(folder)
            return Built(1, {"method": "merl", "preset": "tiny", "seed": 0})

        return self.publish(Key(("encoder", "merl"), self.dataset.name), build)

    def table(self, arm: str = "pretrained", fraction: float = 1.0, seed: int = 0, **changes: Any) -> Predictions:
        records, labels = self.records(), self.label_table()
        judged = (records["fold"] >= 9).to_numpy()
        scores = np.random.default_rng([seed, arm == "pretrained", int(fraction * 100)]).random((judged.sum(), 2)).astype(np.float32)
        origin = Origin(self.dataset.name, "super", "merl", "tiny", "linear_probe", arm, 0, "0" * 64, fraction)
        held = {
            "record_id": records["record_id"][judged].to_numpy(np.str_),
            "patient_id": records["patient_id"][judged].to_numpy(np.str_),
            "fold": records["fold"][judged].to_numpy(np.int64),
            "scores_NC": scores,
            "labels_NC": labels.loc[judged, list(CLASSES)].to_numpy(np.int8),
        }
        return Predictions(origin, CLASSES, **(held | changes))

    def head(self, *tables: Predictions, listed: list[str] | None = None, spoil: Edit = same) -> Output:
        upstream = self.workspace.require(Key(("labels", self.dataset.name), "super"))
        held = tables or (self.table(), self.table("random_init"))

        def build(folder: Path) -> Built:
            for t in held:
                write_predictions(folder / "predictions" / f"{t.origin.slug}.parquet", t)
            spoil(folder)
            return Built(len(held), {"task": "super", "tables": [f"{t.origin.slug}.parquet" for t in held] if listed is None else listed})

        return self.publish(Key(("head", "merl", "super"), self.dataset.name), build, upstream)

    def evaluation(self, metrics: Edit = same) -> Output:
        from assets.scoring import compare_arms, score_table

        upstream = self.workspace.require(Key(("head", "merl", "super"), self.dataset.name))

        def build(folder: Path) -> Built:
            tables = [self.table(), self.table("random_init")]
            rows = [r for t in tables for r in score_table(t, (9,), (10,), n_resamples=20)] + compare_arms(tables, (10,), n_resamples=20)
            for t in tables:
                write_predictions(folder / "predictions" / f"{t.origin.slug}.parquet", t)
            metrics(pd.DataFrame(rows)).to_parquet(folder / "metrics.parquet", index=False)
            return Built(len(rows), {"tables": len(tables)})

        return self.publish(Key(("evaluation", "merl"), self.dataset.name), build, upstream)

    def judge(self, output: Output, check: str) -> Verdict:
        return run_check(self.workspace, output, check)


@pytest.fixture
def make_world(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Dataset]], World]:
    classes = {d.name: d for d in (Tiny, Guarded)}
    monkeypatch.setattr(assets.dataset, "_classes", lambda: classes)
    return lambda dataset: World(home, dataset)


@pytest.fixture
def world(make_world: Callable[[type[Dataset]], World]) -> World:
    return make_world(Tiny)


@pytest.fixture
def guarded(make_world: Callable[[type[Dataset]], World]) -> World:
    return make_world(Guarded)


@pytest.fixture
def edit() -> Callable[..., Edit]:
    """An edit that sets cells: edit(column={row: value, ...})."""

    def make(**cells: dict[int, Any]) -> Edit:
        def apply(frame: pd.DataFrame) -> pd.DataFrame:
            for column, values in cells.items():
                held = frame[column].astype(object)
                for row, value in values.items():
                    held[row] = value
                frame[column] = held.infer_objects()
            return frame

        return apply

    return make


@pytest.fixture
def retold() -> Callable[..., Predictions]:
    """A prediction table with some fields of its origin replaced."""
    return lambda table, **fields: replace(table, origin=replace(table.origin, **fields))
