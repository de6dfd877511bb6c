"""Every kind of fault in bundles, prediction tables and metrics gives a failed verdict that names what is at fault."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def failed_with(verdict: Any, said: str) -> None:
    assert not verdict.passed and said in verdict.message, verdict.message


# encoder


def flip_a_byte(folder: Path) -> None:
    path = folder / "bundle" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(folder: Path) -> None:
    path = folder / "random_init" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-3])


def remove(name: str) -> Any:
    return lambda folder: (folder / "bundle" / name).unlink()


def pickle_into(name: str) -> Any:
    return lambda folder: (folder / name).write_bytes(pickle.dumps({"a": 1}))


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"spoil": flip_a_byte}, "bundle/weights.safetensors has SHA-256"),
        ({"spoil": truncate}, "random_init/weights.safetensors cannot be read as safetensors"),
        ({"spoil": remove("card.md")}, "card.md is missing or empty"),
        ({"spoil": remove("SHA256SUMS")}, "SHA256SUMS cannot be read"),
        ({"spoil": lambda f: (f / "bundle" / "config.json").write_text("{")}, "config.json cannot be read as JSON"),
        ({"spoil": lambda f: (f / "bundle").rename(f / "elsewhere")}, "bundle is missing"),
        ({"spoil": pickle_into("bundle/model.pkl")}, "model.pkl is a pickle"),
        ({"spoil": pickle_into("innocent.json")}, "innocent.json is a pickle"),
        ({"weights": lambda w: w | {"a": np.array([1.0, np.nan], np.float32)}}, "tensors hold values that are not finite: a"),
        ({"weights": lambda w: {}}, "holds no tensor"),
        ({"config": lambda c: c | {"method": "melp"}}, "names method 'melp', the output belongs to 'merl'"),
        ({"config": lambda c: {"method": "merl"}}, "names no version"),
    ],
)
def test_bundle(world: Any, edits: Any, said: str) -> None:
    failed_with(world.judge(world.encoder(**edits), "bundle"), said)


# head


@pytest.fixture
def labelled(world: Any) -> Any:
    world.raw()
    world.labels()
    return world


def changed(array: Any, row: int, value: Any) -> Any:
    array = array.astype(object) if isinstance(value, str) else array.copy()
    array[row] = value
    return array.astype(np.str_) if isinstance(value, str) else array


@pytest.mark.parametrize(
    ("column", "row", "value", "said"),
    [
        ("record_id", 0, "stranger", "unknown records: stranger"),
        ("record_id", 0, "r03", "records of the training folds are judged: r03"),
        ("fold", 1, 8, "neither validation nor test: r33"),
        ("fold", 1, 10, "another fold than their own: r33"),
        ("labels_NC", 2, [2, 0], "labels other than 0 and 1: r34"),
        ("labels_NC", 2, [1, 1], "labels that differ from the label table: r34"),
    ],
)
def test_prediction_tables_name_records_at_fault(labelled: Any, column: str, row: int, value: Any, said: str) -> None:
    tables = []
    for arm in ("pretrained", "random_init"):
        table = labelled.table(arm)
        tables.append(labelled.table(arm, **{column: changed(getattr(table, column), row, value)}))
    verdict = labelled.judge(labelled.head(*tables), "predictions")
    failed_with(verdict, said)
    assert said.rsplit(" ", 1)[-1] in verdict.details["rows"]


def test_both_arms_are_needed_for_frozen_protocols_only(labelled: Any, retold: Any) -> None:
    alone = labelled.judge(labelled.head(labelled.table()), "predictions")
    failed_with(alone, "super, linear_probe, 1.0: arms pretrained instead of pretrained and random_init")
    fraction = labelled.judge(
        labelled.head(labelled.table(), labelled.table("random_init"), labelled.table("random_init", 0.1)), "predictions"
    )
    failed_with(fraction, "super, linear_probe, 0.1: arms random_init")
    assert labelled.judge(labelled.head(retold(labelled.table(), protocol="finetune")), "predictions").passed
    probe = labelled.judge(labelled.head(retold(labelled.table(), protocol="attentive_probe")), "predictions")
    failed_with(probe, "super, attentive_probe, 1.0: arms pretrained")
    shown = labelled.judge(
        labelled.head(labelled.table(), labelled.table("random_init"), retold(labelled.table(), channels="II+PLETH")), "predictions"
    )
    failed_with(shown, "super, linear_probe, 1.0, II+PLETH: arms pretrained")


def test_tables_are_about_the_outputs_task_classes_and_records(labelled: Any, retold: Any) -> None:
    twin = labelled.table("random_init")
    other_task = labelled.judge(labelled.head(retold(labelled.table(), task="form"), twin), "predictions")
    failed_with(other_task, "about task 'form', the output about 'super'")
    failed_with(other_task, "which dataset 'tiny' does not have")
    other_method = labelled.judge(labelled.head(retold(labelled.table(), method="melp"), twin), "predictions")
    failed_with(other_method, "of method 'melp'")
    swapped = labelled.table()
    object.__setattr__(swapped, "classes", ("NORM", "MI"))
    failed_with(labelled.judge(labelled.head(swapped, twin), "predictions"), "labels that differ from the label table")
    failed_with(labelled.judge(labelled.head(labelled.table().folds((10,)), twin), "predictions"), "different records of one task: r32")
    failed_with(
        labelled.judge(labelled.head(*(t.folds((9,)) for t in (labelled.table(), twin))), "predictions"), "no record of the test folds"
    )


def test_unreadable_and_unlisted_tables_are_found(labelled: Any) -> None:
    torn = labelled.head(spoil=lambda f: (f / "predictions" / "extra.parquet").write_bytes(b"PAR1torn"))
    verdict = labelled.judge(torn, "predictions")
    failed_with(verdict, "extra.parquet: ")
    failed_with(labelled.judge(labelled.head(listed=[]), "predictions"), "the manifest lists the tables none")


def test_not_finite_scores_are_found(labelled: Any) -> None:
    table = labelled.table()
    output = labelled.head(
        table, labelled.table("random_init"), spoil=lambda f: _poison(f / "predictions" / f"{table.origin.slug}.parquet")
    )
    failed_with(labelled.judge(output, "predictions"), "1 scores are not finite")


def _poison(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    scores = table["score:MI"].to_numpy().copy()
    scores[0] = np.nan
    pq.write_table(table.set_column(table.column_names.index("score:MI"), "score:MI", pa.array(scores)), path)


def test_task_that_a_dataset_lacks_gives_an_empty_output_that_passes(labelled: Any) -> None:
    from assets.outputs import Built, Key

    output = labelled.publish(Key(("head", "merl", "form"), "tiny"), lambda _: Built(0, {"task": "form", "tables": []}))
    assert labelled.judge(output, "predictions").passed


# evaluation


def test_metrics_name_rows_at_fault(labelled: Any) -> None:
    labelled.head()

    def spoil(metrics: Any) -> Any:
        pretrained = metrics["arm"] == "pretrained"
        at = {m: metrics.index[pretrained & (metrics["metric"] == m)][0] for m in ("macro_auroc", "macro_auprc", "auroc:MI", "macro_brier")}
        metrics.loc[at["macro_auroc"], "value"] += 2e-6
        metrics.loc[at["macro_auprc"], ["low", "high"]] = [0.9, 0.1]
        metrics.loc[at["macro_brier"], "value"] = 1.5
        metrics.loc[at["auroc:MI"], "value"] = np.nan
        return metrics

    verdict = labelled.judge(labelled.evaluation(spoil), "metrics")
    name = "super linear_probe pretrained 1"
    for said in (
        f"lies between 0 and 1, a difference of metrics between -1 and 1, a rank from 1 on, an error of numbers from 0 on, "
        f'the challenge metric up to 1": {name} macro_brier',
        f'low is not above high": {name} macro_auprc',
        f'is the stored one": {name} macro_auroc, {name} auroc:MI',
    ):
        failed_with(verdict, said)


@pytest.mark.parametrize(("value", "gain", "passes"), [(-0.4, 1.2, True), (1.0, -1.3, True), (1.01, 0.2, False)])
def test_the_challenge_metric_may_be_negative_and_not_above_one(labelled: Any, value: float, gain: float, passes: bool) -> None:
    import pandas as pd

    labelled.head()

    def add(metrics: Any) -> Any:
        row = metrics[metrics["metric"] == "macro_brier"].head(1)
        values = {"challenge_metric": value, "challenge_metric_gain_over_random_init": gain}
        return pd.concat(
            [metrics, *(row.assign(metric=m, value=v, low=v - 0.1, high=v + 0.1) for m, v in values.items())], ignore_index=True
        )

    verdict = labelled.judge(labelled.evaluation(add), "metrics")
    assert verdict.passed is passes and (passes or "1 challenge_metric" in verdict.message), verdict.message


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda m: m.assign(prompts=m["prompts"].where(m.index != 0, "invented")),
            'is there": super linear_probe pretrained 1 invented macro_auroc',
        ),
        (lambda m: m[m["metric"] != "macro_auroc"], "tables without their metrics: super linear_probe pretrained lacks macro_auroc"),
        (lambda m: m.drop(columns="low"), "low (declared number, found absent)"),
        (lambda m: m.assign(low=m["low"].where(m.index != 0, 0.0), high=m["high"].where(m.index != 0, 0.01)), "in its interval"),
        (lambda m: m.assign(value=m["value"].where(~m["metric"].str.contains("gain"), 0.0123)), "macro_auroc_gain_over_random_init"),
    ],
)
def test_metrics_are_those_of_the_tables(labelled: Any, spoil: Any, said: str) -> None:
    labelled.head()
    failed_with(labelled.judge(labelled.evaluation(spoil), "metrics"), said)


def test_recomputed_auroc_is_the_mean_over_pairs(world: Any) -> None:
    from data_checks.evaluation import auroc_by_metric

    table = world.table()
    found = auroc_by_metric(table, (10,))
    test = table.folds((10,))
    for i, name in enumerate(test.classes):
        s, y = test.scores_NC[:, i], test.labels_NC[:, i]
        pairs = [(p > n) + 0.5 * (p == n) for p in s[y == 1] for n in s[y == 0]]
        assert found[f"auroc:{name}"] == pytest.approx(np.mean(pairs))
    assert found["macro_auroc"] == pytest.approx(np.mean([found["auroc:MI"], found["auroc:NORM"]]))
