"""Retrieval, identification and generation from job file to table, with a made-up method whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import ConfigurationError
from models.jobs import read_job
from models.predictions import read_predictions
from models.progress import Progress
from models.rank_tables import RankError, Ranks, read_ranks
from models.report_tables import read_generated
from models.retrieval_job import Direction
from models.train import main, run
from tests.models.echo import EchoConfig, EchoStudy, N, echo_registered, make_echo_study

TEST = list(range(24, N))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EchoStudy]:
    with echo_registered(monkeypatch):
        yield make_echo_study(tmp_path)


def ranks(study: EchoStudy, name: str, arm: str = "pretrained", task: str = "retrieval") -> Ranks:
    (path,) = (study.folder / name / "ranks").glob(f"{task}-*-{arm}.parquet")
    return read_ranks(path)


def test_ranks_are_those_of_a_loop_over_all_pairs(study: EchoStudy) -> None:
    assert main([str(study.paired("retrieval", "found", directions=["text->ecg", "ecg->image", "ecg+text->image", "labs->ecg"]))]) == 0
    table = ranks(study, "found")
    assert json.loads((study.folder / "found" / "result.json").read_text())["directions"] == ["text->ecg", "ecg->image", "ecg+text->image"]

    texts = table.of("text->ecg", "split", [10])
    assert [r.query_id for r in texts.rows] == [f"s{i:02d}" for i in TEST if i != 37]  # 37 says what 36 says, of the same patient
    for row in texts.rows:
        q = int(row.query_id[1:])
        scores = {c: float(study.value_ND[q] @ study.value_ND[c]) for c in TEST}
        true = {c for c in TEST if study.texts[c] == study.texts[q]}
        best = max(scores[c] for c in true)
        wrong = [scores[c] for c in TEST if c not in true]
        assert row.rank == 1 + sum(s > best + 1e-6 for s in wrong) + sum(abs(s - best) < 1e-6 for s in wrong) / 2
        assert (row.n_candidates, row.n_true) == (len(TEST), len(true))
        assert scores[int(row.best_id[1:])] == pytest.approx(max(scores.values()))

    images = table.of("ecg->image", "split", [10])
    there = [c for c in TEST if c != 30]
    assert {r.query_id for r in images.rows} == {f"s{i:02d}" for i in there}
    assert {r.n_candidates for r in images.rows} == {len(there)}
    assert table.left_out == {"text->ecg": 0, "ecg->image": 1, "ecg+text->image": 1}
    for row in images.rows:
        scores_C = study.value_ND[int(row.query_id[1:])] @ study.image_ND[there].T
        assert row.rank == pytest.approx(1 + (scores_C > scores_C[there.index(int(row.query_id[1:]))] + 1e-6).sum(), abs=0.51)


def test_lists_of_candidates_are_ranked_by_themselves(study: EchoStudy) -> None:
    assert main([str(study.paired("retrieval", "found", directions=["ecg->image", "image->ecg"]))]) == 0
    table = ranks(study, "found")
    assert not table.of("image->ecg", "candidates", [10]).rows, "the lists are of pictures"
    listed = table.of("ecg->image", "candidates", [10])
    assert len(listed.rows) == len(TEST) - 1
    for row in listed.rows:
        q = int(row.query_id[1:])
        candidates = [q, *(TEST[(TEST.index(q) + step) % len(TEST)] for step in (1, 3, 5, 7))]
        scores = {c: float(study.value_ND[q] @ study.image_ND[c]) for c in candidates if c != 30}
        assert row.n_candidates == len(scores)
        assert 1 + sum(s > scores[q] + 1e-6 for s in scores.values()) <= row.rank <= sum(s >= scores[q] - 1e-6 for s in scores.values())
        assert scores[int(row.best_id[1:])] == pytest.approx(max(scores.values()), abs=1e-6)
        assert (row.rank == 1) == (row.best_id == row.query_id)


def test_equal_scores_share_the_mean_place_and_lists_draw_lots(study: EchoStudy) -> None:
    assert main([str(study.paired("retrieval", "found", directions=["ecg->image"]))]) == 0
    twin = ranks(study, "found", "random_init")
    assert {r.rank for r in twin.of("ecg->image", "split", [10]).rows} == {(len(TEST) - 1 + 1) / 2}
    drawn = [r.rank for r in twin.of("ecg->image", "candidates", [10]).rows]
    assert set(drawn) <= {1, 2, 3, 4, 5} and len(set(drawn)) > 2
    assert main([str(study.paired("retrieval", "again", directions=["ecg->image"]))]) == 0
    assert ranks(study, "again", "random_init").rows == twin.rows


def test_without_a_pairing_recordings_and_their_reports_are_judged(study: EchoStudy) -> None:
    assert main([str(study.job("retrieval", "plain", directions=["text->ecg", "ecg->text", "ecg->image"]))]) == 0
    table = ranks(study, "plain")
    assert {r.direction for r in table.rows} == {"text->ecg", "ecg->text"}
    reports = table.of("ecg->text", "split", [10])
    assert {r.n_candidates for r in reports.rows} == {len(TEST) - 1}, "equal reports stand in the gallery once"
    assert {r.fold for r in table.rows} == {9, 10}


@pytest.mark.parametrize("name", ["text", "ecg->", "ecg->ecg", "ecg+taste->image", "->ecg"])
def test_what_is_no_direction_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no direction"):
        Direction.parse(name)


def test_directions_that_nothing_can_answer_are_refused(study: EchoStudy) -> None:
    with pytest.raises(ConfigurationError, match="nothing can be retrieved"):
        run(read_job(study.job("retrieval", "none", directions=["ecg+labs->image"])), Progress(0))


def test_what_is_no_rank_table_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(RankError, match="is not a rank table"):
        read_ranks(tmp_path / "x.parquet")


@pytest.mark.parametrize("fixed", [False, True])
def test_the_other_recording_of_a_patient_is_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed: bool) -> None:
    with echo_registered(monkeypatch):
        study = make_echo_study(tmp_path, EchoConfig(length=fixed))
        assert main([str(study.job("identification", "who"))]) == 0
        table = ranks(study, "who", task="patients")
    said = "whole recordings" if fixed else "first 0.1 s of the gallery's recordings, last 0.1 s of the probes"
    assert said in table.origin.selection
    assert {r.direction for r in table.rows} == {"ecg->ecg by features", "ecg->ecg by embedding"}
    unit_ND = study.value_ND / np.linalg.norm(study.value_ND, axis=1, keepdims=True)
    firsts = TEST[::2]
    rows = table.of("ecg->ecg by embedding", "split", [10]).rows
    assert [r.query_id for r in rows] == [f"r{i:02d}" for i in TEST[1::2]]
    for row in rows:
        scores = {c: float(unit_ND[int(row.query_id[1:])] @ unit_ND[c]) for c in firsts}
        mine = scores[int(row.query_id[1:]) - 1]
        assert row.rank == 1 + sum(s > mine + 1e-6 for s in scores.values())
        assert row.n_candidates == len(firsts)


def test_without_two_patients_with_two_recordings_nobody_is_sought(study: EchoStudy) -> None:
    result = run(read_job(study.job("identification", "few", test_folds=[8])), Progress(0))
    assert result is not None and result["tables"] == []
    assert not (study.folder / "few" / "ranks").exists()


def test_reports_are_written_from_the_signal_alone_for_the_same_records_each_time(study: EchoStudy) -> None:
    assert main([str(study.job("generation", "words", limit=5))]) == 0
    tables = {
        arm: read_generated(study.folder / "words" / "generated" / f"reports-generation-{arm}.parquet")
        for arm in ("pretrained", "random_init")
    }
    ours, twin = tables["pretrained"], tables["random_init"]
    assert len(ours.record_id) == 5 and ours.record_id == twin.record_id
    for record, patient, reference, written in zip(ours.record_id, ours.patient_id, ours.reference, ours.generated, strict=True):
        i = int(record[1:])
        assert i in TEST and patient == f"p{i // 2}" and reference == study.texts[i]
        assert written == f"{' '.join(f'{v:.2f}' for v in study.value_ND[i])} is written"
    assert {w.replace("-", "") for w in twin.generated} == {"0.00 0.00 0.00 0.00 is written"}
    assert main([str(study.job("generation", "more", limit=9))]) == 0
    more = read_generated(study.folder / "more" / "generated" / "reports-generation-pretrained.parquet")
    assert more.record_id[:5] == ours.record_id


def test_generation_goes_on_with_what_was_written(study: EchoStudy) -> None:
    assert main([str(study.job("generation", "words", limit=5))]) == 0
    folder = study.folder / "words"
    kept = folder / "generated" / "reports-generation-pretrained.parquet"
    before = kept.stat().st_mtime_ns
    (folder / "generated" / "reports-generation-random_init.parquet").unlink()
    (folder / "result.json").unlink()
    assert main([str(folder.with_suffix(".json"))]) == 0
    assert kept.stat().st_mtime_ns == before
    assert len(list((folder / "generated").iterdir())) == 2


def test_zero_shot_of_images_reads_the_image_store(study: EchoStudy) -> None:
    ids = [f"i{i:02d}" for i in range(N)]
    labels = (np.arange(N) % 2).astype(np.int8)
    pq.write_table(pa.table({"record_id": ids, "Edema": labels}), study.folder / "chest.parquet")
    (study.folder / "prompts.json").write_text(json.dumps({"Edema": ["1 0 0 0", "0 1 0 0"]}))
    job = study.job(
        "zero_shot",
        "zero",
        store=str(study.folder / "images"),
        modality="image",
        labels={"chest": str(study.folder / "chest.parquet")},
        prompts={"mine": str(study.folder / "prompts.json")},
    )
    assert main([str(job)]) == 0
    table = read_predictions(study.folder / "zero" / "predictions" / "chest-zero_shot-pretrained-mine.parquet")
    assert len(table.record_id) == 19, "of validation and test, the missing image left out"
    for record, score in zip(table.record_id.tolist(), table.scores_NC[:, 0].tolist(), strict=True):
        value_D = study.image_ND[int(record[1:])]
        unit_D = value_D / np.linalg.norm(value_D)
        assert score == pytest.approx(max(unit_D[0], unit_D[1]), abs=1e-5)
