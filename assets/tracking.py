"""Training runs in MLflow: parameters, metrics, figures, dataset inputs and the encoder bundle, once a data version.

MLflow is imported inside functions, and only its client is used: there is no active run in the process. What is stricter
than the tracking server may hold stays here; then only parameters and metrics go out, and a tag of the run says why.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from assets.access import Access, allows
from assets.bundles import verify_bundle
from assets.outputs import digest, locked, write_atomic
from assets.settings import Settings
from models.errors import EinthovenError

DATA_VERSION = "einthoven.data_version"
WITHHELD = "einthoven.withheld"
BUNDLE_PATH = "bundle"
_SQLITE = "sqlite:///"
_BATCH = 1000
_MAX_VALUE = 6000
_MAX_DIGEST = 36


class TrackingError(EinthovenError):
    """MLflow cannot be reached, or refused what was to be logged."""


@dataclass(frozen=True)
class TrackedRun:
    """A finished MLflow run.

    Attributes:
        run_id: MLflow's id.
        artifact_uri: where the run's files lie; the bundle is below it in "bundle".
        logged_artifacts: False where the access class kept files from being sent.
    """

    run_id: str
    artifact_uri: str
    logged_artifacts: bool


def ensure_database(settings: Settings) -> None:
    """Make or upgrade the schema of an SQLite tracking database, once, before anything uses it in parallel.

    Several processes that are first to touch a fresh database break it for ever, so this happens under a lock and a new
    database appears by rename. A tracking server looks after its own database.

    Raises:
        TrackingError: the schema cannot be made or upgraded.
    """
    if not settings.tracking_uri.startswith(_SQLITE):
        return
    path = Path(settings.tracking_uri.removeprefix(_SQLITE)).absolute()
    marker = path.with_name(f".{path.name}.schema")
    wanted = f"mlflow {version('mlflow')}"
    with locked(path.with_name(f".{path.name}.lock")):
        if path.exists() and marker.exists() and marker.read_text() == wanted:
            return
        with explained(settings):
            if path.exists():
                _upgrade(path)
            else:
                fresh = path.with_name(f".{path.name}.new")
                fresh.unlink(missing_ok=True)
                _upgrade(fresh)
                os.replace(fresh, path)
        write_atomic(marker, wanted)


def _upgrade(path: Path) -> None:
    """Bring the schema of an SQLite file to the state of the installed MLflow; makes the file where there is none."""
    _silence()
    import mlflow.store.db.utils

    schema: Any = mlflow.store.db.utils
    engine = schema.create_sqlalchemy_engine(f"{_SQLITE}{path}")
    try:
        if schema._all_tables_exist(engine):
            schema._upgrade_db(engine)
        else:
            schema._initialize_tables(engine)
    finally:
        engine.dispose()


def client(settings: Settings) -> Any:
    """An MLflow client of the configured server or database, whose schema is there.

    Raises:
        TrackingError: the schema cannot be made.
    """
    ensure_database(settings)
    _silence()
    import mlflow

    return mlflow.MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.tracking_uri)


def _silence() -> None:
    """Keep MLflow from calling home and from drawing progress bars into logs; it looks at the first when it is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Turn MLflow's and SQLAlchemy's errors into a typed one that names the server."""
    _silence()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, ConnectionError) as error:
        raise TrackingError(
            f"MLflow at {settings.tracking_uri} refused ({str(error).strip()}); check that it runs and `mlflow_tracking_uri` in settings.yaml"
        ) from error


def withheld(settings: Settings, access: Access) -> str:
    """Why files of this access class do not go to the tracking server, or "" where they may."""
    limit = settings.limit("mlflow")
    if settings.tracking_is_local or allows(limit, access):
        return ""
    return f"files kept back: they are {access} and this server is configured for {limit} data (`destinations.mlflow: {access}` in settings.yaml allows it)"


def log_training(
    settings: Settings,
    *,
    experiment: str,
    run_name: str,
    params: Mapping[str, Any],
    metrics_rows: Sequence[Mapping[str, Any]],
    figures: Sequence[Path],
    dataset_inputs: Sequence[tuple[str, str, str]],
    bundle: Path,
    access: Access,
    tags: Mapping[str, str],
) -> TrackedRun:
    """Log a finished training, or find the run in which this data version was logged before.

    A run that an earlier attempt left unfinished is deleted (MLflow keeps it in its trash) and logged anew.

    Args:
        settings: where MLflow is, and what it may hold.
        experiment: experiment's name, put behind the configured key prefix.
        run_name: how people see the run.
        params: flat configuration; values are logged as JSON.
        metrics_rows: one mapping a logged step with `step` and numbers; nested mappings become "outer/inner".
        figures: PNG files.
        dataset_inputs: name, data version and source of every dataset that was trained on.
        bundle: the encoder bundle's folder; only safetensors, JSON and Markdown files that its SHA256SUMS lists.
        access: class of everything the run was made from.
        tags: must hold `einthoven.data_version`, which identifies the run.

    Raises:
        TrackingError: MLflow refused, or the tag is missing.
        BundleError: the bundle is not what its SHA256SUMS says.
    """
    if DATA_VERSION not in tags:
        raise TrackingError(f"a run needs the tag {DATA_VERSION}, by which it is found again; pass it")
    bundle_sha256 = verify_bundle(bundle)
    reason = withheld(settings, access)
    name = ".".join((*settings.key_prefix, experiment))
    mlflow = client(settings)
    with locked(settings.home / "locks" / f"tracking-{digest([name, tags[DATA_VERSION]])[:16]}.lock"), explained(settings):
        experiment_id = _experiment(settings, mlflow, name)
        finished = _finished(mlflow, experiment_id, tags[DATA_VERSION])
        if finished is not None:
            return finished
        kept = {WITHHELD: reason} if reason else {}
        run = mlflow.create_run(
            experiment_id,
            run_name=run_name,
            tags={**tags, **kept, "einthoven.access": str(access), "einthoven.bundle_sha256": bundle_sha256},
        )
        _log_numbers(mlflow, run.info.run_id, params, metrics_rows)
        if not reason:
            _log_inputs(mlflow, run.info.run_id, dataset_inputs)
            for figure in figures:
                mlflow.log_artifact(run.info.run_id, str(figure), artifact_path="figures")
            mlflow.log_artifacts(run.info.run_id, str(bundle), artifact_path=BUNDLE_PATH)
        mlflow.set_terminated(run.info.run_id)
        return TrackedRun(run.info.run_id, run.info.artifact_uri, not reason)


def log_evaluation(settings: Settings, run: TrackedRun, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add metrics of an evaluation to the run of its encoder, named task/protocol/labels/prompts/channels/direction/arm/metric.

    Raises:
        TrackingError: MLflow refused.
    """
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = []
    for row in rows:
        share = "" if row["fraction"] != row["fraction"] else f"{row['fraction']:g}"
        direction = str(row.get("direction", "")).replace("->", " to ").replace("+", " and ")
        channels = str(row.get("channels", "")).replace("+", " and ")
        parts = [row["task"], row["protocol"], share, row["prompts"], channels, direction, row["arm"], row["metric"]]
        metrics.append(Metric(_legal("/".join(p for p in parts if p)), float(row["value"]), now, 0))
    mlflow = client(settings)
    with explained(settings):
        for start in range(0, len(metrics), _BATCH):
            mlflow.log_batch(run.run_id, metrics=metrics[start : start + _BATCH])


def _experiment(settings: Settings, mlflow: Any, name: str) -> str:
    """The id of an experiment, made where it is missing; a local one keeps its files in the workspace."""
    from mlflow.exceptions import MlflowException

    found = mlflow.get_experiment_by_name(name)
    if found is None:
        location = (settings.home / "mlartifacts" / name).as_uri() if settings.tracking_uri.startswith(_SQLITE) else None
        try:
            return str(mlflow.create_experiment(name, artifact_location=location))
        except MlflowException:
            found = mlflow.get_experiment_by_name(name)  # another process was first
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the MLflow experiment {name!r} has been deleted; restore it (`mlflow experiments restore -x {found.experiment_id}`)"
        )
    return str(found.experiment_id)


def _finished(mlflow: Any, experiment_id: str, data_version: str) -> TrackedRun | None:
    runs = mlflow.search_runs([experiment_id], filter_string=f"tags.`{DATA_VERSION}` = '{data_version}'")
    for run in runs:
        if run.info.status == "FINISHED":
            return TrackedRun(run.info.run_id, run.info.artifact_uri, WITHHELD not in run.data.tags)
    for run in runs:
        mlflow.delete_run(run.info.run_id)
    return None


def _log_numbers(mlflow: Any, run_id: str, params: Mapping[str, Any], metrics_rows: Sequence[Mapping[str, Any]]) -> None:
    from mlflow.entities import Metric, Param

    values = [Param(_legal(k), (v if isinstance(v, str) else json.dumps(v))[:_MAX_VALUE]) for k, v in params.items()]
    for start in range(0, len(values), 100):
        mlflow.log_batch(run_id, params=values[start : start + 100])
    now = int(time.time() * 1000)
    metrics = [
        Metric(_legal(key), value, now, int(row.get("step", 0))) for row in metrics_rows for key, value in _numbers(row) if key != "step"
    ]
    for start in range(0, len(metrics), _BATCH):
        mlflow.log_batch(run_id, metrics=metrics[start : start + _BATCH])


def _numbers(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a row, also those that are not finite: a loss that broke must be seen."""
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)


def _legal(name: str) -> str:
    """A name with every character that MLflow refuses replaced by an underscore."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _log_inputs(mlflow: Any, run_id: str, dataset_inputs: Sequence[tuple[str, str, str]]) -> None:
    """Dataset inputs; MLflow cuts digests to 36 characters, so the whole data version stands in a tag."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            dataset=Dataset(name=name, digest=data_version[:_MAX_DIGEST], source_type="local", source=json.dumps({"uri": source})),
            tags=[InputTag("mlflow.data.context", "training"), InputTag(DATA_VERSION, data_version)],
        )
        for name, data_version, source in dataset_inputs
    ]
    if inputs:
        mlflow.log_inputs(run_id, inputs)
