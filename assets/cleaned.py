"""Stage cleaned: the signals of a dataset as a store, prepared by a recipe that a method declares."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from assets.dataset import Dataset
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, Workspace
from models.recipes import AnyRecipe, ImageRecipe, LabRecipe, describe
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
        description=f"{_contents(dataset)} of {dataset.source.title} as a recipe prepares them, with an index and a table of what was quarantined.",
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
                {name.removeprefix("n_"): facts[name] for name in ("n_quarantined", "n_absent", "n_encounters") if name in facts},
            )

    return cleaned


def _contents(dataset: type[Dataset]) -> str:
    """What can be stored of a dataset, in words."""
    offered = (("signals", bool(dataset.channels())), ("images", dataset.has_images), ("lab results", dataset.has_labs))
    return " and ".join(name for name, there in offered if there).capitalize()


def make_cleaned(workspace: Workspace, dataset: Dataset, recipe_name: str, log: Callable[[str], None]) -> Output:
    """Read, repair, order and store every record that is there."""
    upstream = require(workspace, Key(("raw", dataset.name)))
    recipe = get_recipe(recipe_name)

    def build(folder: Path) -> Built:
        built = build_cleaned(folder, dataset, recipe, _reporter(dataset.name, log))
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


def build_cleaned(folder: Path, dataset: Dataset, recipe: AnyRecipe, progress: Callable[[int, int], None]) -> Built:
    """Build what a recipe asks for: a signal store, an image store or lab tables."""
    if isinstance(recipe, ImageRecipe):
        from assets.image_store import build_image_store

        return build_image_store(folder, dataset, recipe, progress=progress)
    if isinstance(recipe, LabRecipe):
        from assets.lab_tables import build_lab_tables

        return build_lab_tables(folder, dataset, recipe, progress=progress)
    from assets.store import build_store

    return build_store(folder, dataset, recipe, progress=progress)


def _reporter(name: str, log: Callable[[str], None]) -> Callable[[int, int], None]:
    told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > 5:
            told = time.monotonic()
            log(f"{name}: {done} of {total} records stored")

    return progress


def _draw(folder: Path, built: Built, dataset: Dataset) -> None:
    """Show the first item of a store as it was stored: signals on the clinical grid, the first images side by side."""
    if not built.rows:
        return
    import numpy as np
    import pyarrow as pa

    from assets import plots

    (folder / "figures").mkdir()
    facts = built.facts
    title = dataset.source.title
    if facts["kind"] == "labs":
        common = dict(sorted(facts["items"].items(), key=lambda item: -item[1])[:30])
        plots.bars_figure(folder / "figures" / "items.png", common, f"{title}: most frequent lab items", "results")
        return
    first = np.load(folder / facts["shards"][0]["file"], mmap_mode="r")
    if facts["kind"] == "image_store":
        plots.images_figure(folder / "figures" / "images.png", first[:8], f"{title}: first images of the store")
        return
    absent = pa.ipc.open_file(folder / facts["index"]).get_batch(0)["absent"][0].as_py()
    there = [i for i in range(len(facts["channels"])) if not absent >> i & 1]
    channels = [facts["channels"][i] for i in there]
    signal_LT = first[0][there] * np.array([[c["scale"]] for c in channels], np.float32)
    plots.ecg_figure(
        folder / "figures" / "ecg.png",
        signal_LT,
        tuple(c["name"] for c in channels),
        channels[0]["fs_hz"],
        f"{title}: first record of the store",
        units=[c["unit"] for c in channels],
    )
