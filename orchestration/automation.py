"""When things run by themselves: declarative conditions for what is cheap, schedules and a sensor for training."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from assets import settings as settings_module
from assets.dataset import Dataset, get_dataset, list_datasets
from assets.encoders import CODE_VERSION
from assets.materialize import asset_key
from assets.outputs import Key, OutputError, Workspace, digest
from assets.training import configured, data_keys, datasets_for, task_homes, tasks_for
from assets.verdicts import UnsafeUpstreamError, require_checked
from models.errors import ConfigurationError
from models.registry import get_spec, list_methods
from models.spec import MethodSpec
from orchestration.jobs import SCAN, TRAIN, train_job_name

_C = dg.AutomationCondition

# `all_deps_blocking_checks_passed` alone lets an unpartitioned asset go although one partition of its input failed.
CHECKS_OK = _C.all_deps_blocking_checks_passed() & ~_C.any_deps_match(_C.any_checks_match(_C.check_failed(), blocking_only=True))
_CHANGED: Any = _C.any_deps_match(_C.data_version_changed()) | _C.code_version_changed()  # Dagster's types do not admit what follows
_FREE = ~_C.any_deps_in_progress() & ~_C.in_progress()

KEEP_FRESH = (_CHANGED.since_last_handled() & ~_C.missing() & CHECKS_OK & ~_C.any_deps_missing() & _FREE).with_label(
    "keep fresh what exists"
)
FOLLOW = (_CHANGED.since_last_handled() & CHECKS_OK & _FREE).with_label("follow every evaluation")

AUTOMATION = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Cleans, labels and normalises again what has changed, and keeps the leaderboard current. Never trains.",
)


def with_policy(asset: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """Attach the automation condition that belongs to an asset's stage."""
    stage = asset.key.path[len(asset_key("x").path) - 1]
    condition = {
        "cleaned": KEEP_FRESH,
        "labels": KEEP_FRESH,
        "reports": KEEP_FRESH,
        "questions": KEEP_FRESH,
        "pairing": KEEP_FRESH,
        "leaderboard": FOLLOW,
    }.get(stage)
    return asset if condition is None else asset.map_asset_specs(lambda s: s.replace_attributes(automation_condition=condition))


def retrain_request(workspace: Workspace, spec: MethodSpec, dataset: type[Dataset]) -> dg.RunRequest | str:
    """A run request if data or code of a trained encoder has changed since, else the reason why there is none.

    The run key is made of asset, data versions and code version, so the same question is asked once.
    """
    key = Key(("encoder", spec.name), dataset.name)
    encoder = workspace.current(key)
    if encoder is None:
        return f"{key}: never trained; train it once by hand"
    try:
        current = _data_versions(workspace, spec, encoder.facts["config"], dataset)
    except (ConfigurationError, OutputError, UnsafeUpstreamError) as error:
        return f"{key}: {error}"
    code_version = f"{CODE_VERSION}.{spec.version}"
    if encoder.manifest["code_version"] == code_version and _uses(workspace, spec, dataset.name, current):
        return f"{key}: trained on the current data and code"
    options = {k: v for k, v in encoder.facts["config"].items() if v is not None}
    config = {"preset": encoder.facts["preset"], "seed": encoder.facts["seed"], **options}
    trained = [spec.first_stage.name, "encoder"] if spec.first_stage is not None else ["encoder"]
    return dg.RunRequest(
        run_key=f"{key}:{digest(current)[:16]}:{code_version}",
        job_name=train_job_name(spec.name),
        partition_key=dataset.name,
        run_config={"ops": {"__".join(asset_key(stage, spec.name).path): {"config": config} for stage in trained}},
        tags={"einthoven/reason": "data or code has changed"},
    )


def _data_versions(workspace: Workspace, spec: MethodSpec, config: dict[str, Any], dataset: type[Dataset]) -> dict[str, str]:
    keys = data_keys(spec, configured(spec, config), dataset.name)
    keys += [Key(("labels", home.name), task) for task, (home, _) in task_homes(spec, dataset).items()]
    return {str(k): require_checked(workspace, k).data_version for k in keys}


def _uses(workspace: Workspace, spec: MethodSpec, dataset: str, current: dict[str, str]) -> bool:
    """Whether encoder, heads and the stage before were made from exactly these data versions."""
    trained = [] if spec.first_stage is None else [Key((spec.first_stage.name, spec.name), dataset)]
    stages = [
        *trained,
        Key(("encoder", spec.name), dataset),
        *(Key(("head", spec.name, t), dataset) for t in tasks_for(spec, get_dataset(dataset))),
    ]
    outputs = [workspace.current(k) for k in stages]
    return all(o is not None and all(current.get(n, v) == v for n, v in o.manifest["upstream"].items()) for o in outputs)


def _requests(methods: list[str], already_asked: Callable[[str], bool]) -> Iterator[dg.RunRequest | dg.SkipReason]:
    workspace = Workspace(settings_module.load().home)
    reasons, requested = [], False
    for spec in map(get_spec, methods):
        for dataset in datasets_for(spec):
            request = retrain_request(workspace, spec, dataset)
            if isinstance(request, str):
                reasons.append(request)
            elif already_asked(str(request.run_key)):
                reasons.append(f"{request.run_key} was asked before")
            else:
                requested = True
                yield request
    if not requested:
        yield dg.SkipReason("nothing to retrain. " + "; ".join(reasons))


@dg.sensor(
    jobs=list(TRAIN.values()),
    minimum_interval_seconds=60,
    description="Retrains what was trained before when its data or code has a new version. Starts switched off.",
)
def new_data_version(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for retraining when data versions have changed; the sensor remembers run keys by itself."""
    yield from _requests(list_methods(), lambda run_key: False)


def _retrain_schedule(method: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        job=TRAIN[method],
        name=f"retrain_{method}",
        cron_schedule="0 2 * * 0",
        description=f"Every Sunday at two: train {method} again where its data or code has changed. Starts switched off.",
    )
    def retrain(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        def asked(run_key: str) -> bool:
            return bool(context.instance.get_run_ids(dg.RunsFilter(tags={"dagster/run_key": run_key}), limit=1))

        yield from _requests([method], asked)

    return retrain


@dg.schedule(
    job=SCAN, name="scan_nightly", cron_schedule="0 1 * * *", description="Look for new files of every dataset in use. Starts switched off."
)
def scan_nightly() -> dg.RunRequest | dg.SkipReason:
    """Scan the datasets that were scanned before."""
    workspace = Workspace(settings_module.load().home)
    known = [d for d in list_datasets() if workspace.current(Key(("raw", d))) is not None]
    if not known:
        return dg.SkipReason("no dataset has been scanned yet; materialise raw/<dataset> once by hand")
    return dg.RunRequest(asset_selection=[asset_key("raw", d) for d in known])


SENSORS = [new_data_version]
SCHEDULES = [scan_nightly, *(_retrain_schedule(m) for m in list_methods())]
