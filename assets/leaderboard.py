"""Stage leaderboard: all evaluations in one table, beside published numbers and both baselines."""

from pathlib import Path
from typing import Any

import dagster as dg

from assets.access import strictest
from assets.cross_modality import exchanges_signals
from assets.dataset import get_dataset
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, OutputError, Workspace
from assets.training import datasets_for
from models.registry import get_spec, list_methods

CODE_VERSION = "2"
KEY = Key(("leaderboard",))


def leaderboard_asset() -> dg.AssetsDefinition:
    """The asset `leaderboard`. It follows its evaluations by itself where the daemon runs."""

    @dg.asset(
        key=asset_key("leaderboard"),
        deps=[asset_key(stage, m) for m in list_methods() for stage in _stages(m)],
        group_name="results",
        code_version=CODE_VERSION,
        kinds={"parquet"},
        description="Methods x tasks x protocols: ours with intervals, published numbers, random-initialised and supervised baselines.",
    )
    def leaderboard(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            output = make_leaderboard(workspace.workspace)
            return result(context, output, settings, {"table": dg.MetadataValue.md(output.path("leaderboard.md").read_text())})

    return leaderboard


def evaluation_keys(workspace: Workspace) -> list[Key]:
    """The evaluations that exist, cross-modality matrices among them."""
    keys = [Key((stage, m), d.name) for m in list_methods() for d in datasets_for(get_spec(m)) for stage in _stages(m)]
    return [k for k in keys if workspace.current(k) is not None]


def _stages(method: str) -> tuple[str, ...]:
    """Where metrics of a method that belong here come from."""
    return ("evaluation", "cross_modality") if exchanges_signals(get_spec(method)) else ("evaluation",)


def make_leaderboard(workspace: Workspace) -> Output:
    """Build the table from every evaluation that exists; one that failed its checks stops it.

    Raises:
        OutputError: nothing has been evaluated.
    """
    keys = evaluation_keys(workspace)
    if not keys:
        raise OutputError("there is no evaluation yet; run a method first, for example `einthoven run merl`")
    upstream = require(workspace, *keys)

    def build(folder: Path) -> Built:
        import pandas as pd

        from assets.leaderboard_table import build_leaderboard
        from assets.leaderboard_text import to_markdown
        from assets.plots import leaderboard_figure

        frames = [
            pd.read_parquet(o.path("metrics.parquet")).assign(
                data_version=o.data_version, saw_test_patients=_saw_test_patients(workspace, o.key)
            )
            for o in upstream.values()
        ]
        table = build_leaderboard(pd.concat(frames, ignore_index=True), [get_spec(m) for m in list_methods()])
        table.to_parquet(folder / "leaderboard.parquet", index=False)
        (folder / "leaderboard.md").write_text(to_markdown(table))
        (folder / "figures").mkdir()
        leaderboard_figure(folder / "figures" / "leaderboard.png", table[table["metric"] == "macro_auroc"])
        return Built(rows=len(table), facts={"evaluations": sorted(upstream)})

    return workspace.publish(
        KEY, build, code_version=CODE_VERSION, access=strictest(o.access for o in upstream.values()), upstream=versions(upstream)
    )


def _saw_test_patients(workspace: Workspace, evaluation: Key) -> bool:
    """Whether the encoder that was judged was pretrained on folds that judge it."""
    encoder = workspace.require(Key(("encoder", *evaluation.parts[1:]), evaluation.partition))
    return bool(set(encoder.facts["train_folds"]) & set(get_dataset(str(evaluation.partition)).split.test))
