"""Stage pairing: tables that tie ECGs, chest X-rays and lab panels of a patient together, an output a rule.

samples.parquet      one row a sample: whose, which recording, picture and panel (null where missing), seconds from the anchor to each,
                     `observed` (bits as in `assets.pairing_rules.ROLES`), fold and part, and the published part of the picture
panels.parquet       lab panels: values, observed, percentiles, each a list in the order of the items (where the rule has labs)
items.parquet        the items in order, with the mean percentile that stands for missing values
percentiles.parquet  steps of the empirical distributions, fitted on the training part
candidates.parquet   lists for retrieval (where the rule asks for them)
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.access import strictest
from assets.dataset import get_dataset, list_datasets
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, Workspace
from assets.pairing_rules import LAB_RECIPE, MODALITIES, PARTS, RULES, PairingRule

if TYPE_CHECKING:
    import pandas as pd

    from assets.pairing_labs import Panels

CODE_VERSION = "1"


def pairing_assets() -> list[dg.AssetsDefinition]:
    """The assets `pairing/<rule>` of all rules whose datasets there are."""
    known = set(list_datasets())
    return [pairing_asset(rule) for rule in RULES.values() if set(rule.datasets) <= known]


def pairing_asset(rule: PairingRule) -> dg.AssetsDefinition:
    """The asset `pairing/<rule>`."""

    @dg.asset(
        key=asset_key("pairing", rule.name),
        deps=[_dependency(key) for key in source_keys(rule)],
        group_name="data",
        code_version=f"{CODE_VERSION}.{rule.version}",
        kinds={"parquet"},
        tags={"access": str(strictest(get_dataset(name).access for name in rule.datasets))},
        description=f"{rule.title}.",
    )
    def pairing(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult[Any]:
        with explained():
            output = make_pairing(workspace.workspace, rule)
            rows = "\n".join(f"| {name} | {n} |" for name, n in output.facts["combinations"].items())
            extra = {
                "patients": output.facts["n_patients"],
                "results_of_other_items": output.facts.get("n_results_of_other_items", 0),
                "combinations": dg.MetadataValue.md(f"| part: what is there | samples |\n|---|---|\n{rows}"),
            }
            return result(context, output, workspace.settings, extra)

    return pairing


def source_keys(rule: PairingRule) -> list[Key]:
    """The outputs that a rule reads."""
    keys = [Key(("raw", rule.ecg.dataset)), Key(("raw", rule.image.dataset))]
    if rule.labs is not None:
        keys.append(Key(("cleaned", rule.labs.dataset), LAB_RECIPE))
    return list(dict.fromkeys(keys + [key for key, _ in rule.texts().values()]))


def make_pairing(workspace: Workspace, rule: PairingRule) -> Output:
    """Publish the tables of a rule.

    Raises:
        OutputError, UnsafeUpstreamError: something that it reads has not been made, or failed a check.
        PairingError: nothing belongs together.
    """
    upstream = require(workspace, *source_keys(rule))

    def build(folder: Path) -> Built:
        from assets.plots import bars_figure

        samples, panels, published = _pair(rule, upstream)
        samples.to_parquet(folder / "samples.parquet", index=False)
        facts: dict[str, Any] = {
            "rule": rule.describe(),
            "n_patients": int(samples["patient_id"].nunique()),
            "parts": {part: int((samples["part"] == part).sum()) for part in rule.parts},
            "combinations": combinations(samples),
        }
        if panels is not None:
            facts |= _write_panels(folder, rule, samples, panels) | _other_items(rule, upstream)
        if rule.candidates:
            facts |= _write_candidates(folder, rule, samples, published)
        (folder / "figures").mkdir()
        bars_figure(folder / "figures" / "modalities.png", facts["combinations"], f"{rule.name}: what samples consist of", "samples")
        return Built(rows=len(samples), facts=facts)

    return workspace.publish(
        Key(("pairing", rule.name)),
        build,
        code_version=f"{CODE_VERSION}.{rule.version}",
        access=strictest(output.access for output in upstream.values()),
        config={"rule": rule.describe(), "parts": {part: list(folds) for part, folds in rule.parts.items()}},
        upstream=versions(upstream),
    )


def combinations(samples: "pd.DataFrame") -> dict[str, int]:
    """Samples by part and by what is there of the modalities: "train: ecg + image"."""
    mask = samples["observed"] & ((1 << len(MODALITIES)) - 1)
    counts = samples.assign(mask=mask).groupby(["part", "mask"]).size()
    names = {m: " + ".join(role for bit, role in enumerate(MODALITIES) if m >> bit & 1) for m in set(mask)}
    return {f"{part}: {names[m]}": int(counts[part, m]) for part in PARTS for m in sorted(names, reverse=True) if (part, m) in counts.index}


def _pair(rule: PairingRule, upstream: dict[str, Output]) -> "tuple[pd.DataFrame, Panels | None, pd.DataFrame | None]":
    """Samples, panels, and the records that come with lists for retrieval, where there are some."""
    import pandas as pd

    from assets.pairing_tables import add_text, pair_own, pair_records, pair_stays, read_with_text

    def table(key: Key, name: str) -> Path:
        return upstream[str(key)].path(name)

    ecgs, images = (pd.read_parquet(table(Key(("raw", m.dataset)), "records.parquet")) for m in (rule.ecg, rule.image))
    labs = None if rule.labs is None else Key(("cleaned", rule.labs.dataset), LAB_RECIPE)
    panels: Panels | None = None
    if rule.anchor == "ecg":
        samples = pair_records(rule, ecgs, images)
    elif rule.anchor == "record":
        samples, panels = pair_own(rule, ecgs, None if labs is None else table(labs, "labs.parquet"))
    else:
        assert labs is not None, f"rule {rule.name} is anchored at stays and names no dataset for them"
        samples, panels = pair_stays(rule, pd.read_parquet(table(labs, "encounters.parquet")), table(labs, "labs.parquet"), ecgs, images)
    for role, (key, name) in rule.texts().items():
        samples = add_text(samples, role, read_with_text(table(key, name)))
    return samples, panels, ecgs if rule.anchor == "record" and "candidates" in ecgs else None


def _write_candidates(folder: Path, rule: PairingRule, samples: "pd.DataFrame", published: "pd.DataFrame | None") -> dict[str, Any]:
    """Published lists hold what was published, less what is not there; others are drawn."""
    from assets.pairing_tables import draw_candidates, has_all, published_candidates

    if published is None:
        candidates, lost = draw_candidates(samples[has_all(samples)], rule.candidates, rule.seed), 0
    else:
        candidates, lost = published_candidates(samples, published)
    candidates.to_parquet(folder / "candidates.parquet", index=False)
    return {"n_candidates": len(candidates)} | ({"n_candidates_that_are_no_samples": lost} if published is not None else {})


def _write_panels(folder: Path, rule: PairingRule, samples: "pd.DataFrame", panels: "Panels") -> dict[str, Any]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from assets.pairing_labs import LabScale

    assert rule.labs is not None
    held = samples[samples["panel_id"].notna()]
    scale = LabScale.fit(rule.labs.items, panels.values_NP[(held["part"] == "train").to_numpy()])
    width = len(rule.labs.items)
    lists = {
        "values": pa.array(panels.values_NP.ravel(), from_pandas=True),
        "observed": pa.array(~np.isnan(panels.values_NP.ravel())),
        "percentiles": pa.array(scale.apply(panels.values_NP).ravel()),
    }
    columns = {name: pa.array(held[name]) for name in ("panel_id", "patient_id", "encounter_id", "part")}
    columns |= {name: pa.FixedSizeListArray.from_arrays(array, width) for name, array in lists.items()}
    pq.write_table(pa.table(columns), folder / "panels.parquet")
    steps, items = scale.tables()
    steps.to_parquet(folder / "percentiles.parquet", index=False)
    items.to_parquet(folder / "items.parquet", index=False)
    return {
        "n_panels": len(held),
        "items": list(rule.labs.items),
        "items_without_training_values": [i for i, values in zip(scale.items, scale.values, strict=True) if not len(values)],
        "percentiles_sha256": scale.fingerprint,
    }


def _other_items(rule: PairingRule, upstream: dict[str, Output]) -> dict[str, int]:
    """How many tests of the labs' dataset the panel does not know, and how many results of them were not looked at."""
    assert rule.labs is not None
    items: dict[str, int] = upstream[str(Key(("cleaned", rule.labs.dataset), LAB_RECIPE))].facts.get("items", {})
    others = {item: n for item, n in items.items() if item not in rule.labs.items}
    return {"n_other_items": len(others), "n_results_of_other_items": sum(others.values())}


def _dependency(key: Key) -> dg.AssetDep:
    mapping = None if key.partition is None else dg.SpecificPartitionsPartitionMapping([key.partition])
    return dg.AssetDep(asset_key(*key.parts), partition_mapping=mapping)
