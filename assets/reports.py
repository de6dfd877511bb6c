"""Stage reports: the text that belongs to each record, normalised, in its own language or in English.

reports.parquet          of recordings, or of images where a dataset has nothing else
image_reports.parquet    of the images of a dataset that has reports of recordings too, by the same record ids
"""

from pathlib import Path
from typing import Any, Literal

import dagster as dg

from assets.dataset import Dataset
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, shows_content, versions
from assets.outputs import Built, Key, Output, Workspace

CODE_VERSION = "1"
IMAGE_CODE_VERSION = "2"
"""For datasets of images alone, since sentences made of their labels speak of an X-ray and no more of an ECG."""

REPORT_FORMS: tuple[Literal["original", "english"], ...] = ("original", "english")


def reports_asset(dataset: type[Dataset]) -> dg.AssetsDefinition:
    """The asset `reports/<dataset>`, partitioned by form: the original language, or English by our term table."""

    @dg.asset(
        key=asset_key("reports", dataset.name),
        deps=[asset_key("raw", dataset.name)],
        partitions_def=dg.StaticPartitionsDefinition(list(REPORT_FORMS)),
        group_name="data",
        code_version=_code_version(dataset),
        kinds={"parquet"},
        tags={"access": str(dataset.access)},
        description=f"Reports of {dataset.source.title}: text, language and source of each; templates from labels only in training folds.",
    )
    def reports(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            form = REPORT_FORMS[REPORT_FORMS.index(context.partition_key)]
            output = make_reports(workspace.workspace, settings.open_dataset(dataset), form)
            extra: dict[str, Any] = {
                "languages": output.facts["languages"],
                "sources": output.facts["sources"],
                "empty": output.facts["n_empty"],
                "not_understood": output.facts.get("n_not_understood", 0),
            }
            if shows_content(context.instance, settings, output):
                extra["first_reports"] = dg.MetadataValue.md(_sample(output))
            return result(context, output, settings, extra)

    return reports


def make_reports(workspace: Workspace, dataset: Dataset, form: Literal["original", "english"]) -> Output:
    """Publish one row of text a record."""
    raw = Key(("raw", dataset.name))
    upstream = require(workspace, raw)

    def build(folder: Path) -> Built:
        import pandas as pd

        from assets.plots import bars_figure
        from assets.text.reports import UNDERSTOOD, build_image_reports, build_reports

        records = pd.read_parquet(upstream[str(raw)].path("records.parquet"))
        table = build_reports(dataset, form, records, templates=True)
        table.to_parquet(folder / "reports.parquet", index=False)
        facts = {
            "form": form,
            "n_not_understood": int(((table["language"] == "unknown") & (table["coverage"] < UNDERSTOOD)).sum()),
            "n_empty": int((table["text"] == "").sum()),
            "languages": {str(k): int(v) for k, v in table["language"].value_counts().items()},
            "sources": {str(k): int(v) for k, v in table["source"].value_counts().items()},
            "mean_coverage": round(float(table["coverage"].mean()), 6),
        }
        if dataset.has_image_reports:
            pictured = build_image_reports(dataset, form, records, templates=True)
            pictured.to_parquet(folder / "image_reports.parquet", index=False)
            facts |= {"n_image_reports": len(pictured), "n_empty_image_reports": int((pictured["text"] == "").sum())}
        (folder / "figures").mkdir()
        words = table["text"].str.replace(r"[^\w\s-]", " ", regex=True).str.split().explode().dropna()
        common = {str(k): int(v) for k, v in words.value_counts().head(30).items()}
        bars_figure(
            folder / "figures" / "words.png", common, f"{dataset.source.title}: most frequent words of the reports ({form})", "occurrences"
        )
        return Built(rows=len(table), facts=facts)

    return workspace.publish(
        Key(("reports", dataset.name), form),
        build,
        code_version=_code_version(dataset),
        access=dataset.access,
        config={"form": form},
        upstream=versions(upstream),
    )


def _code_version(dataset: type[Dataset] | Dataset) -> str:
    return f"{CODE_VERSION if dataset.channels() else IMAGE_CODE_VERSION}.{dataset.version}"


def _sample(output: Output, rows: int = 12) -> str:
    import pandas as pd

    table = pd.read_parquet(output.path("reports.parquet"), columns=["record_id", "language", "source", "original", "text"]).head(rows)
    lines = ["| record | language | source | original | text |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(str(v).replace("|", "/").replace("\n", " ") for v in row) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines)
