"""Stage cleaned: the signals of a dataset as a store, prepared by a recipe that a method declares."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from assets.dataset import Dataset
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, Workspace
from models.recipes import describe
from models.registry import get_recipe, list_recipes
from models.types import Modality

CODE_VERSION = "2"


def recipes_for(dataset: type[Dataset]) -> list[str]:
    """The recipes that fit what a dataset offers, sorted."""
    signals = bool(dataset.channels())
    fits = {Modality.ECG: signals, Modality.IMAGE: dataset.has_images, Modality.LABS: dataset.has_labs}
    return [name for name, recipe in list_recipes().items() if fits[recipe.modality]]


def cleaned_asset(dataset: type[Dataset]) -> dg.AssetsDefinition:
    """The asset `cleaned/<dataset>`, partitioned by recipe."""

    @dg.asset(
        key=asset_key("cleaned", dataset.name),
        deps=[asset_key("raw", dataset.name)],
        partitions_def=dg.StaticPartitionsDefinition(recipes_for(dataset)),
        group_name="data",
        code_version=f"{CODE_VERSION}.{dataset.version}",
        kinds={"numpy", "arrow"},
        tags={"access": str(dataset.access)},
        description=f"Signals of {dataset.source.title}: int16 shards, an Arrow index, a table of quarantined records.",
    )
    def cleaned(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            source = settings.open_dataset(dataset)
            output = make_cleaned(workspace.workspace, source, context.partition_key, context.log.info)
            facts = output.facts
            return result(
                context,
                output,
                settings,
                {"quarantined": facts["n_quarantined"], "absent": facts["n_absent"], "shards": len(facts["shards"])},
            )

    return cleaned


def make_cleaned(workspace: Workspace, dataset: Dataset, recipe_name: str, log: Callable[[str], None]) -> Output:
    """Read, repair, order and store every record that is there."""
    upstream = require(workspace, Key(("raw", dataset.name)))
    recipe = get_recipe(recipe_name)

    def build(folder: Path) -> Built:
        from assets.store import build_store

        built = build_store(folder, dataset, recipe, progress=_reporter(dataset.name, log))
        _draw(folder, built, dataset)
        return built

    return workspace.publish(
        Key(("cleaned", dataset.name), recipe_name),
        build,
        code_version=f"{CODE_VERSION}.{dataset.version}",
        access=dataset.access,
        config={"recipe": describe(recipe)},
        upstream=versions(upstream),
    )


def _reporter(name: str, log: Callable[[str], None]) -> Callable[[int, int], None]:
    told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > 5:
            told = time.monotonic()
            log(f"{name}: {done} of {total} records stored")

    return progress


def _draw(folder: Path, built: Built, dataset: Dataset) -> None:
    """Show the first window of the store as it was stored, on the clinical grid."""
    if not built.rows:
        return
    import numpy as np

    from assets.plots import ecg_figure

    shard = built.facts["shards"][0]
    channels = {c["name"]: c for c in built.facts["channels"]}
    counts_LT = np.load(folder / shard["file"], mmap_mode="r")[0]
    signal_LT = counts_LT * np.array([[channels[c]["scale"]] for c in shard["channels"]], np.float32)
    (folder / "figures").mkdir()
    ecg_figure(
        folder / "figures" / "ecg.png",
        signal_LT,
        tuple(shard["channels"]),
        shard["fs_hz"],
        f"{dataset.source.title}: first record of the store",
        units=[channels[c]["unit"] for c in shard["channels"]],
    )
