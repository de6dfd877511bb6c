"""Asset checks in Dagster: blocking, by partition, with the verdict's message as metadata."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.materialize import WorkspaceResource
from assets.outputs import Key
from assets.verdicts import BLOCKING, load
from data_checks.dagster_checks import make_asset_checks


def definitions(world: Any, publish: Any) -> dg.Definitions:
    """raw -> cleaned of the tiny dataset, where `publish` makes the outputs, behind a key prefix."""
    recipes = dg.StaticPartitionsDefinition(["native", "other"])

    @dg.asset(key=["site", "raw", "tiny"])
    def raw() -> None:
        publish("raw")

    @dg.asset(key=["site", "cleaned", "tiny"], deps=[raw], partitions_def=recipes)
    def cleaned() -> None:
        publish("cleaned")

    @dg.asset(key=["site", "child"], deps=[cleaned], partitions_def=recipes)
    def child() -> None:
        publish("child")

    checks = make_asset_checks(("raw", "tiny"), None, raw.key) + make_asset_checks(("cleaned", "tiny"), recipes, cleaned.key)
    return dg.Definitions(assets=[raw, cleaned, child], asset_checks=checks, resources={"workspace": WorkspaceResource()})


def run(world: Any, **edits: Any) -> tuple[Any, list[str]]:
    made: list[str] = []

    def publish(stage: str) -> None:
        made.append(stage)
        if stage != "child":
            getattr(world, stage)(**edits.get(stage, {}))

    job = definitions(world, publish).resolve_implicit_global_asset_job_def()
    with dg.instance_for_test() as instance:
        return job.execute_in_process(partition_key="native", raise_on_error=False, instance=instance), made


def test_every_stage_has_blocking_checks_and_no_warning_is_raised() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for stage, names in BLOCKING.items():
            checks = make_asset_checks((stage, "tiny"), dg.StaticPartitionsDefinition(["a"]), dg.AssetKey([stage, "tiny"]))
            specs = [s for c in checks for s in c.check_specs]
            assert tuple(s.name for s in specs) == names and all(s.blocking for s in specs)


def test_green_checks_let_the_child_run_and_say_what_they_found(world: Any) -> None:
    result, made = run(world)
    assert result.success and made == ["raw", "cleaned", "child"]
    by_name = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert set(by_name) == {*BLOCKING["raw"], *BLOCKING["cleaned"]}
    index = by_name["index"]
    assert index.partition == "native" and by_name["manifest"].partition is None
    assert index.metadata["message"].value == "39 windows in 2 shards are as declared"
    assert index.metadata["data_version"].value == world.workspace.require(Key(("cleaned", "tiny"), "native")).data_version
    assert Path(index.metadata["data_docs"].value).is_file()


def test_a_failed_check_stops_the_child_and_leaves_its_verdict(world: Any, edit: Any) -> None:
    result, made = run(world, cleaned={"index": edit(missing_fraction={4: 2.0})})
    assert not result.success and made == ["raw", "cleaned"]
    index = next(e for e in result.get_asset_check_evaluations() if e.check_name == "index")
    assert not index.passed and index.severity is dg.AssetCheckSeverity.ERROR
    assert "r04" in index.metadata["message"].value and index.metadata["rows_at_fault"].value == 1
    output = world.workspace.require(Key(("cleaned", "tiny"), "native"))
    verdict = load(world.workspace, output, "index")
    assert verdict is not None and not verdict.passed


def test_a_check_of_an_output_that_was_never_made_fails(world: Any) -> None:
    check = make_asset_checks(("raw", "tiny"), None, dg.AssetKey(["raw", "tiny"]))[0]

    @dg.asset(key=["raw", "tiny"])
    def raw() -> None:
        return None

    result = dg.materialize([raw, check], resources={"workspace": WorkspaceResource()}, raise_on_error=False)
    evaluation = result.get_asset_check_evaluations()[0]
    assert not evaluation.passed and "materialise it first" in evaluation.metadata["message"].value


@pytest.mark.parametrize("stage", ["leaderboard", "registry"])
def test_stages_without_checks_have_none(stage: str) -> None:
    assert make_asset_checks((stage,), None, dg.AssetKey([stage])) == []
