"""Stage benchmark: all entries of a dataset's benchmark in one table and one picture, beside what was published on its tasks.

    benchmark.parquet   rows as `assets.benchmark_table` says
    benchmark.md        the same as text, with the sources
    figures/benchmark.png

It lies in `benchmark/<dataset>/all`; entries lie beside it, in folders with a dot.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg

from assets.access import strictest
from assets.benchmark_table import benchmark_table, entries, published_rows
from assets.dataset import Dataset
from assets.materialize import WorkspaceResource, asset_key, explained, result, versions
from assets.outputs import Built, Key, Output, OutputError, Workspace, digest

CODE_VERSION = "1"


def benchmark_asset(dataset: type[Dataset]) -> dg.AssetsDefinition:
    """The asset `benchmark/<dataset>`. Its entries are asked for by `einthoven benchmark`, so they are no part of the graph."""

    @dg.asset(
        key=asset_key("benchmark", dataset.name),
        deps=[asset_key("labels", dataset.name)],
        group_name="results",
        code_version=CODE_VERSION,
        kinds={"parquet"},
        description=f"Entries of the benchmark on {dataset.source.title}: ours and those of others with intervals, and published numbers.",
    )
    def benchmark(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            output = make_benchmark(workspace.workspace, dataset)
            return result(context, output, settings, {"table": dg.MetadataValue.md(output.path("benchmark.md").read_text())})

    return benchmark


def make_benchmark(workspace: Workspace, dataset: type[Dataset]) -> Output:
    """Build the table from every entry that exists.

    Raises:
        OutputError: nothing was judged on the dataset, and nothing was published on its tasks.
    """
    judged, published = list(entries(workspace, dataset.name)), published_rows(dataset.name)
    if not judged and not published:
        raise OutputError(
            f"nothing has been judged on {dataset.name} yet, and nothing was published on its tasks; see `einthoven benchmark --help`"
        )
    tasks = dict.fromkeys(output.facts["question"]["task"] for output in judged)
    labels = [output for task in tasks if (output := workspace.current(Key(("labels", dataset.name), task))) is not None]
    upstream = {str(output.key): output for output in (*judged, *labels)}

    def build(folder: Path) -> Built:
        from assets.benchmark_text import to_markdown
        from assets.plots_benchmark import benchmark_figure

        table = benchmark_table(workspace, dataset.name, judged)
        table.to_parquet(folder / "benchmark.parquet", index=False)
        (folder / "benchmark.md").write_text(to_markdown(table, dataset.name))
        drawn = table["task"].isin([*dataset.task_names, *tasks])  # not what was trained on one dataset and judged on another
        benchmark_figure(folder / "figures" / "benchmark.png", table[drawn], dataset.source.title)
        return Built(rows=len(table), facts={"entries": len(judged), "published": len(published)})

    return workspace.publish(
        Key(("benchmark", dataset.name)),
        build,
        code_version=CODE_VERSION,
        access=strictest([dataset.access, *(output.access for output in upstream.values())]),
        config={"published": digest([asdict(row) for row in published])},
        upstream=versions(upstream),
    )
