"""Everything that Dagster knows: assembled from the registries of datasets and methods, with global policy applied."""

from __future__ import annotations

import dagster as dg

from assets.benchmark_asset import benchmark_asset
from assets.benchmark_table import published_rows
from assets.cleaned import cleaned_asset, recipes_for
from assets.cross_modality import cross_modality_asset, exchanges_signals
from assets.cross_validation import cross_validation_asset
from assets.dataset import get_dataset, list_datasets
from assets.encoders import encoder_asset, first_stage_asset
from assets.evaluation import evaluation_asset
from assets.heads import head_asset
from assets.labels import labels_asset
from assets.leaderboard import leaderboard_asset
from assets.materialize import WorkspaceResource, asset_key
from assets.pairing import pairing_assets
from assets.prompts import prompts_asset
from assets.questions import questions_asset
from assets.raw import raw_asset
from assets.registry import registry_asset
from assets.reports import reports_asset
from assets.training import tasks_of
from assets.transfer import transfer_asset, transfers
from assets.user_tasks import task_names
from assets.verdicts import BLOCKING
from data_checks.dagster_checks import make_asset_checks
from models.registry import get_spec, list_methods
from orchestration.automation import AUTOMATION, SCHEDULES, SENSORS, with_policy
from orchestration.compute.local import LocalCompute
from orchestration.console import console_logger
from orchestration.jobs import JOBS


def _assets() -> list[dg.AssetsDefinition]:
    found = [prompts_asset(), leaderboard_asset(), *pairing_assets()]
    for dataset in map(get_dataset, list_datasets()):
        found.append(raw_asset(dataset))
        if recipes_for(dataset):
            found.append(cleaned_asset(dataset))
        if task_names(dataset):
            found.append(labels_asset(dataset))
        if dataset.has_reports:
            found.append(reports_asset(dataset))
        if dataset.has_questions:
            found.append(questions_asset(dataset))
        if published_rows(dataset.name):
            found.append(benchmark_asset(dataset))
    for method in list_methods():
        spec = get_spec(method)
        if spec.first_stage is not None:
            found.append(first_stage_asset(method))
        found += [encoder_asset(method), *(head_asset(method, t) for t in tasks_of(spec)), evaluation_asset(method)]
        if transfers(spec):
            found.append(transfer_asset(method))
        if spec.splits:
            found.append(cross_validation_asset(method))
        if exchanges_signals(spec):
            found.append(cross_modality_asset(method))
        if not spec.baseline:
            found.append(registry_asset(method))
    return [with_policy(a) for a in found]


def _checks(assets: list[dg.AssetsDefinition]) -> list[dg.AssetChecksDefinition]:
    prefix = len(asset_key("x").path) - 1
    checks: list[dg.AssetChecksDefinition] = []
    for asset in assets:
        parts = tuple(asset.key.path[prefix:])
        if parts[0] in BLOCKING:
            checks += make_asset_checks(parts, asset.partitions_def, asset.key)
    return checks


_ASSETS = _assets()

defs = dg.Definitions(
    assets=_ASSETS,
    asset_checks=_checks(_ASSETS),
    jobs=JOBS,
    schedules=SCHEDULES,
    sensors=[*SENSORS, AUTOMATION],
    resources={"workspace": WorkspaceResource(), "compute": LocalCompute()},
    executor=dg.in_process_executor,
    loggers={"console": console_logger},
)
