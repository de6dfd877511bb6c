"""Stage registry: a trained encoder is registered as challenger and, if it passes the gate, becomes champion."""

import dataclasses
import getpass
import json
from pathlib import Path
from typing import Any

import dagster as dg

from assets.access import strictest
from assets.dataset import Dataset, get_dataset
from assets.encoders import track
from assets.gate import Contender, GateMargins, Reason, decide, matches
from assets.leaderboard import KEY as LEADERBOARD
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, OutputError, Workspace
from assets.scoring import Person
from assets.settings import PROJECT, Settings
from assets.training import configured, gate_for, inputs_for, partitions_for, task_home, task_homes
from assets.verdicts import BLOCKING, load
from models.predictions import Predictions, read_predictions
from models.registry import get_spec
from models.spec import GateRule, MethodSpec

CODE_VERSION = "1"


def registry_asset(method: str) -> dg.AssetsDefinition:
    """The asset `registry/<method>`, partitioned by dataset."""
    spec = get_spec(method)

    @dg.asset(
        key=asset_key("registry", method),
        deps=[asset_key("evaluation", method), asset_key("encoder", method), asset_key("leaderboard")],
        partitions_def=partitions_for(spec),
        group_name=method,
        code_version=f"{CODE_VERSION}.{spec.version}",
        kinds={"mlflow"},
        description=f"{spec.title} in MLflow's registry: challenger, gate, champion. The gate reads {spec.gate.task}, {spec.gate.protocol}.",
    )
    def registry(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            output = make_registry(settings, spec, context.partition_key)
            decision = current_decision(settings, method, context.partition_key) or {}
            context.log.info("%s", decision["message"])
            extra = {
                "passed": decision["champion"],
                "version": decision["version"],
                "model": decision["model"],
                "champion_now": decision["holder"],
            }
            return result(context, output, settings, extra | {"decision": dg.MetadataValue.md(_as_markdown(decision))})

    return registry


def model_name(settings: Settings, method: str, dataset: str) -> str:
    """The registered model of a method on a dataset."""
    return ".".join([*settings.key_prefix, method, dataset])


def make_registry(settings: Settings, spec: MethodSpec, dataset: str) -> Output:
    """Offer the evaluated encoder for promotion, once: the same evaluation is not offered again by itself."""
    workspace = Workspace(settings.home)
    upstream = require(workspace, Key(("encoder", spec.name), dataset), Key(("evaluation", spec.name), dataset), LEADERBOARD)
    upstream.pop(str(LEADERBOARD))  # it must stand, but another method's new row is no reason to decide again

    def build(folder: Path) -> Built:
        decision = offer(settings, spec, dataset, actor=getpass.getuser(), by_hand=False)
        (folder / "decision.json").write_text(json.dumps(decision, indent=1, sort_keys=True))
        _draw(folder, spec, upstream[str(Key(("evaluation", spec.name), dataset))].folder, get_dataset(dataset))
        return Built(rows=1, facts={"model": decision["model"], "version": decision["version"], "champion": decision["champion"]})

    return workspace.publish(
        Key(("registry", spec.name), dataset),
        build,
        code_version=f"{CODE_VERSION}.{spec.version}",
        access=strictest(o.access for o in upstream.values()),
        config={"gate": dataclasses.asdict(GateMargins.load(PROJECT / "params.yaml"))},
        upstream=versions(upstream),
    )


def _draw(folder: Path, spec: MethodSpec, evaluation: Path, dataset: type[Dataset]) -> None:
    """Show the curves, or the dots, behind the number that the gate reads."""
    from assets.plots import judged_figure

    (folder / "figures").mkdir()
    gate = gate_for(spec, dataset)
    test_folds = task_home(spec, dataset, gate.task)[0].split.test
    judged = _contender(gate, evaluation, spec.name, "").predictions.folds(test_folds)
    judged_figure(folder / "figures" / ("predicted_at_the_gate.png" if judged.numbers else "roc_at_the_gate.png"), judged)


def current_decision(settings: Settings, method: str, dataset: str) -> dict[str, Any] | None:
    """What the gate said about the current encoder, or None; `holder` is the champion's version now, whatever has happened since."""
    from assets.model_registry import champion_by_trail

    output = Workspace(settings.home).current(Key(("registry", method), dataset))
    if output is None:
        return None
    decision: dict[str, Any] = json.loads(output.path("decision.json").read_text())
    return decision | {"holder": champion_by_trail(settings, decision["model"])}


def offer(settings: Settings, spec: MethodSpec, dataset: str, actor: str, by_hand: bool) -> dict[str, Any]:
    """Register the current encoder as challenger, judge it, and promote it if it passes.

    What a person rolled back only a person promotes again: it is refused unless `by_hand`.

    Returns:
        The decision as JSON, with `model`, `version`, `champion` (whether it got or had the title), `holder` (the champion's version).

    Raises:
        OutputError, UnsafeUpstreamError: it has not been evaluated, or something upstream is not sound.
        PromotionConflictError: another promotion came in between.
    """
    from assets import model_registry

    workspace = Workspace(settings.home)
    encoder_key, evaluation_key = Key(("encoder", spec.name), dataset), Key(("evaluation", spec.name), dataset)
    encoder, evaluation = require(workspace, encoder_key, evaluation_key).values()
    if evaluation.manifest["upstream"].get(str(encoder_key)) != encoder.data_version:
        raise OutputError(f"{evaluation_key} judged another version of {encoder_key}; materialise the evaluation again")
    name, bundle = model_name(settings, spec.name, dataset), encoder.path("bundle")
    version = model_registry.register_challenger(
        settings,
        name,
        run=track(settings, spec, encoder),
        bundle=bundle,
        access=encoder.access,
        tags={
            "einthoven.data_version": encoder.data_version,
            "einthoven.evaluation": evaluation.folder.relative_to(settings.home).as_posix(),
            "einthoven.preset": encoder.facts["preset"],
        },
    )
    holder, gate = model_registry.champion(settings, name), gate_for(spec, get_dataset(dataset))
    champion = (
        None
        if holder is None
        else _contender(gate, settings.home / holder.tags["einthoven.evaluation"], f"{name} version {holder.version}", holder.bundle_sha256)
    )
    home, _ = task_home(spec, get_dataset(dataset), gate.task)
    people, leaked = _people(workspace, encoder, dataset, home)
    decision = decide(
        gate,
        _contender(gate, evaluation.folder, f"{name} version {version.version}", version.bundle_sha256),
        champion,
        bundle=bundle,
        checks=_checks(workspace, spec, encoder, dataset),
        leaked_patients=leaked,
        people=people,
        test_folds=home.split.test,
        margins=GateMargins.load(PROJECT / "params.yaml"),
    )
    if not by_hand and version.version in model_registry.rolled_back(settings, name):
        said = f"{name} version {version.version} was rolled back; only `einthoven promote` may make it champion again"
        decision = dataclasses.replace(decision, passed=False, reasons=(*decision.reasons, Reason("rolled_back", False, said)))
    if decision.passed and not decision.already_champion:
        model_registry.promote(
            settings, name, version.version, expected_champion=None if holder is None else holder.version, actor=actor, decision=decision
        )
    holds = version.version if decision.passed else holder and holder.version
    return decision.as_json() | {"model": name, "version": version.version, "champion": decision.passed, "holder": holds}


def _contender(gate: GateRule, evaluation: Path, label: str, bundle_sha256: str) -> Contender:
    tables = [t for t in map(read_predictions, sorted((evaluation / "predictions").glob("*.parquet"))) if matches(gate, t)]
    by_arm: dict[str, Predictions] = {t.origin.arm: t for t in tables}
    if "pretrained" not in by_arm:
        raise OutputError(
            f"{evaluation} holds no prediction table for the gate's rule ({gate.task}, {gate.protocol}), so the version cannot be judged; "
            "evaluate the method again, or train it with what that task needs (a task about images needs a pairing)"
        )
    return Contender(label, bundle_sha256, by_arm["pretrained"], by_arm.get("random_init"))


def _people(workspace: Workspace, encoder: Output, dataset: str, home: type[Dataset]) -> tuple[dict[str, Person], int]:
    """Sex and age of every record of the gate's task, and how many of its test patients the encoder was trained on."""
    import pandas as pd

    learned, records = (pd.read_parquet(workspace.require(Key(("raw", d))).path("records.parquet")) for d in (dataset, home.name))
    ages = [None if age != age else float(age) for age in records["age"]]
    people = {r: Person(s, a) for r, s, a in zip(records["record_id"], records["sex"], ages, strict=True)}
    trained = set(learned.loc[learned["fold"].isin(encoder.facts["train_folds"]), "patient_id"])
    tested = set(records.loc[records["fold"].isin(home.split.test), "patient_id"])
    return people, len(trained & tested)


def _checks(workspace: Workspace, spec: MethodSpec, encoder: Output, dataset: str) -> dict[str, bool]:
    """Every blocking check of everything that the challenger was made from and judged by, and whether it passed."""
    homes, inputs = task_homes(spec, get_dataset(dataset)), inputs_for(spec, configured(spec, encoder.facts["config"]), dataset)
    data = [*inputs.keys, *(Key(("labels", home.name), task) for task, (home, _) in homes.items())]
    sources = dict.fromkeys([dataset, *(key.parts[1] for key in data if key.stage != "pairing")])
    stages = ["encoder", "evaluation"] if spec.first_stage is None else [spec.first_stage.name, "encoder", "evaluation"]
    keys = [*(Key(("raw", name)) for name in sources), *data, *(Key((stage, spec.name), dataset) for stage in stages)]
    keys += [Key(("head", spec.name, t), dataset) for t in homes]
    outputs = [workspace.require(k) for k in keys]
    verdicts = {f"{o.key} {check}": load(workspace, o, check) for o in outputs for check in BLOCKING[o.key.stage]}
    return {name: bool(verdict and verdict.passed) for name, verdict in verdicts.items()}


def _as_markdown(decision: dict[str, Any]) -> str:
    lines = [f"**{decision['message']}**", "", "| condition | holds | finding |", "|---|---|---|"]
    lines += [f"| {r['name']} | {'yes' if r['passed'] else 'no'} | {r['message']} |" for r in decision["reasons"]]
    return "\n".join(lines)
