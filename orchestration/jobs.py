"""Jobs, one a use."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.dataset import list_datasets
from assets.materialize import asset_key, explained
from assets.outputs import Workspace
from assets.settings import load
from assets.training import tasks_of
from models.registry import get_spec, list_methods
from orchestration.versioning import current_outputs, require_dvc_allows, run_dvc


def train_job_name(method: str) -> str:
    """The job that trains, judges and offers a method for promotion on one dataset."""
    return f"train_{method}"


def _train_job(method: str) -> UnresolvedAssetJobDefinition:
    spec = get_spec(method)
    keys = [
        *([asset_key(spec.first_stage.name, method)] if spec.first_stage is not None else []),
        asset_key("encoder", method),
        *(asset_key("head", method, t) for t in tasks_of(spec)),
        asset_key("evaluation", method),
        asset_key("leaderboard"),
    ]
    if not spec.baseline:
        keys.append(asset_key("registry", method))
    return dg.define_asset_job(
        train_job_name(method),
        selection=dg.AssetSelection.assets(*keys),
        description=f"Train {spec.title} on one dataset, evaluate it, put it on the leaderboard"
        + ("." if spec.baseline else " and offer it for promotion."),
    )


@dg.op(description="Record in dvc.lock what the runs since the last commit have made.")
def commit_outputs(context: dg.OpExecutionContext) -> None:
    """Run `dvc commit` for the stages of dvc.yaml, where everything may go to the remote."""
    with explained():
        settings = load()
        require_dvc_allows(settings, current_outputs(Workspace(settings.home)))
        context.log.info("dvc commit: %s", run_dvc("commit", "--force") or "done")


@dg.job(description="After runs from the UI: let DVC record the outputs, so that `dvc push` can share them.")
def dvc_commit() -> None:
    """One op: commit."""
    commit_outputs()


SCAN = dg.define_asset_job(
    "scan",
    selection=dg.AssetSelection.assets(*(asset_key("raw", d) for d in list_datasets())),
    description="Look for new or changed files. Select the datasets that you have.",
)
TRAIN = {method: _train_job(method) for method in list_methods()}
JOBS: list[UnresolvedAssetJobDefinition | dg.JobDefinition] = [SCAN, *TRAIN.values(), dvc_commit]
