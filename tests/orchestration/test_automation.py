"""Schedules and sensor: a change is asked for once, a repeated tick is a recorded no-op."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.access import Access
from assets.dataset import get_dataset
from assets.encoders import CODE_VERSION
from assets.outputs import Built, Key, Output, Workspace
from assets.settings import load
from assets.training import plain
from assets.verdicts import BLOCKING, Verdict, save
from models.registry import get_spec
from orchestration.instance import get_instance

SPEC = get_spec("supervised")
DATASET = "synthetic"


@pytest.fixture
def instance(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    with get_instance(load()) as instance:
        yield instance


def publish(
    home: Path,
    key: Key,
    *,
    upstream: dict[str, str] | None = None,
    facts: dict[str, Any] | None = None,
    config: Any = None,
    passed: bool = True,
) -> Output:
    workspace = Workspace(home)
    code = f"{CODE_VERSION}.{SPEC.version}" if key.stage in ("encoder", "head", "language_model") else "1"
    output = workspace.publish(
        key, lambda _: Built(rows=1, facts=facts or {}), code_version=code, access=Access.OPEN, config={"c": config}, upstream=upstream
    )
    for check in BLOCKING.get(key.stage, ()):
        save(workspace, output, Verdict(check, passed, "planted"))
    return output


def data(home: Path, version: int = 0, passed: bool = True) -> dict[str, str]:
    keys = [Key(("cleaned", DATASET), "native"), *(Key(("labels", DATASET), t) for t in ("super", "form", "rhythm"))]
    return {str(k): publish(home, k, config=version, passed=passed).data_version for k in keys}


def train(home: Path, versions: dict[str, str]) -> None:
    facts = {"preset": "tiny", "seed": 3, "config": plain(SPEC.configure("tiny"))}
    publish(home, Key(("encoder", SPEC.name), DATASET), upstream=versions, facts=facts)
    for task in SPEC.tasks:
        publish(home, Key(("head", SPEC.name, task), DATASET), upstream=versions)


def tick(instance: dg.DagsterInstance) -> tuple[list[dg.RunRequest], list[str]]:
    from orchestration.definitions import defs

    sensor = defs.get_sensor_def("new_data_version")
    with dg.build_sensor_context(instance=instance, repository_def=defs.get_repository_def()) as context:
        found = sensor.evaluate_tick(context)
    return list(found.run_requests or []), [found.skip_message or ""]


def scheduled(instance: dg.DagsterInstance) -> tuple[list[dg.RunRequest], str]:
    from orchestration.definitions import defs

    with dg.build_schedule_context(instance=instance, repository_def=defs.get_repository_def()) as context:
        found = defs.get_schedule_def("retrain_supervised").evaluate_tick(context)
    return list(found.run_requests or []), found.skip_message or ""


def test_what_was_never_trained_is_left_alone(instance: dg.DagsterInstance, home: Path) -> None:
    data(home)
    requests, messages = tick(instance)
    assert requests == []
    assert "encoder/supervised[synthetic]: never trained" in messages[0]


def test_nothing_changed_is_a_no_op_that_says_so(instance: dg.DagsterInstance, home: Path) -> None:
    train(home, data(home))
    requests, messages = tick(instance)
    assert requests == []
    assert "trained on the current data and code" in messages[0]
    requests, message = scheduled(instance)
    assert requests == []
    assert "trained on the current data and code" in message


def test_new_data_asks_once_with_the_configuration_of_before(instance: dg.DagsterInstance, home: Path) -> None:
    train(home, data(home))
    data(home, version=1)
    first, _ = tick(instance)
    again, _ = tick(instance)
    assert [r.run_key for r in first] == [r.run_key for r in again]
    assert len(first) == 1
    request = first[0]
    assert (request.job_name, request.partition_key) == ("train_supervised", DATASET)
    config = request.run_config["ops"]["encoder__supervised"]["config"]
    assert (config["preset"], config["seed"]) == ("tiny", 3)
    from orchestration.definitions import defs

    assert dg.validate_run_config(defs.resolve_job_def("train_supervised"), request.run_config)


def test_a_schedule_remembers_what_it_asked(instance: dg.DagsterInstance, home: Path) -> None:
    from orchestration.definitions import defs

    train(home, data(home))
    data(home, version=1)
    requests, _ = scheduled(instance)
    assert len(requests) == 1
    instance.create_run_for_job(
        defs.resolve_job_def("train_supervised"), run_config=requests[0].run_config, tags={"dagster/run_key": str(requests[0].run_key)}
    )
    requests, message = scheduled(instance)
    assert requests == []
    assert "was asked before" in message


def test_another_version_asks_with_another_key(instance: dg.DagsterInstance, home: Path) -> None:
    train(home, data(home))
    keys = set()
    for version in (1, 2):
        data(home, version=version)
        keys |= {r.run_key for r in tick(instance)[0]}
    assert len(keys) == 2


def test_data_that_failed_a_check_is_not_trained_on(instance: dg.DagsterInstance, home: Path) -> None:
    train(home, data(home))
    data(home, version=1, passed=False)
    requests, messages = tick(instance)
    assert requests == []
    assert "must not be used: check" in messages[0]


def test_the_nightly_scan_takes_the_datasets_in_use(instance: dg.DagsterInstance, home: Path) -> None:
    from orchestration.definitions import defs

    def scan() -> Any:
        with dg.build_schedule_context(instance=instance, repository_def=defs.get_repository_def()) as context:
            return defs.get_schedule_def("scan_nightly").evaluate_tick(context)

    assert "no dataset has been scanned yet" in (scan().skip_message or "")
    publish(home, Key(("raw", DATASET)))
    found = scan().run_requests
    assert [r.asset_selection for r in found] == [[dg.AssetKey(["raw", DATASET])]]


def test_the_stage_before_is_asked_for_with_the_encoder(instance: dg.DagsterInstance, home: Path) -> None:
    """New reports train the language model again, and the encoder after it, both with the configuration of before."""
    from assets.training import data_keys, task_homes
    from orchestration.automation import retrain_request
    from orchestration.definitions import defs

    spec, dataset = get_spec("melp"), get_dataset(DATASET)
    config = spec.configure("tiny", batch_size=8)
    keys = data_keys(spec, config, DATASET)
    keys += [Key(("labels", d.name), task) for task, (d, _) in task_homes(spec, dataset).items()]
    held = {str(k): publish(home, k, config=0).data_version for k in keys}
    stage = publish(
        home, Key(("language_model", "melp"), DATASET), upstream={"reports/synthetic[english]": held["reports/synthetic[english]"]}
    )
    facts = {"preset": "tiny", "seed": 3, "config": plain(config)}
    publish(home, Key(("encoder", "melp"), DATASET), upstream=held | {str(stage.key): stage.data_version}, facts=facts)
    for task in task_homes(spec, dataset):
        publish(home, Key(("head", "melp", task), DATASET), upstream=held)
    assert "trained on the current data" in str(retrain_request(Workspace(home), spec, dataset))

    publish(home, keys[1], config=1)
    request = retrain_request(Workspace(home), spec, dataset)
    assert isinstance(request, dg.RunRequest)
    ops = request.run_config["ops"]
    assert set(ops) == {"language_model__melp", "encoder__melp"}
    assert ops["language_model__melp"] == ops["encoder__melp"]
    assert ops["encoder__melp"]["config"]["batch_size"] == 8
    assert dg.validate_run_config(defs.resolve_job_def("train_melp"), request.run_config)
