"""Stage questions: what is asked about recordings, with the true answers, each question in the fold of its recording.

questions.parquet   the questions that can be asked
left_out.parquet    those that cannot, with the reason
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.access import strictest
from assets.dataset import QUESTION_COLUMNS, Dataset, DatasetError
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, shows_content, versions
from assets.outputs import Built, Key, Output, Workspace
from models.answer_tables import SEPARATOR

if TYPE_CHECKING:
    import pandas as pd

CODE_VERSION = "1"
REASONS = {
    "several_records": "asks about two recordings at once",
    "unknown_record": "asks about a recording that the dataset does not have",
    "no_question": "has no words",
    "no_answer": "has no answer",
}
"""Why a question is left out, the first that holds."""


def questions_asset(dataset: type[Dataset]) -> dg.AssetsDefinition:
    """The asset `questions/<dataset>`."""

    @dg.asset(
        key=asset_key("questions", dataset.name),
        deps=[asset_key("raw", name) for name in (dataset.name, *dataset.question_sources)],
        group_name="data",
        code_version=f"{CODE_VERSION}.{dataset.version}",
        kinds={"parquet"},
        tags={"access": str(dataset.access)},
        description=f"Questions about recordings of {dataset.source.title} with their answers, and those that were left out.",
    )
    def questions(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            output = make_questions(workspace.workspace, settings.open_dataset(dataset))
            extra: dict[str, Any] = {name: output.facts[name] for name in ("types", "left_out", "sources", "answers")}
            if shows_content(context.instance, settings, output):
                extra["some_questions"] = dg.MetadataValue.md(_sample(output))
            return result(context, output, settings, extra)

    return questions


def make_questions(workspace: Workspace, dataset: Dataset) -> Output:
    """Publish the questions of a dataset, read from those of its question sources that are there, else its own.

    Raises:
        DatasetError: a file that they come from cannot be read, or no question is left.
    """
    asked_in = [name for name in dataset.companion_folders if name in dataset.question_sources]
    raw = Key(("raw", dataset.name))
    upstream = require(workspace, raw, *(Key(("raw", name)) for name in asked_in))

    def build(folder: Path) -> Built:
        import pandas as pd

        from assets.plots import bars_figure

        records = pd.read_parquet(upstream[str(raw)].path("records.parquet"), columns=["record_id", "patient_id", "fold"])
        table, left_out = sort_out(dataset.questions(), records)
        if table.empty:
            reasons = ", ".join(f"{n} {reason}" for reason, n in left_out["reason"].value_counts().items()) or "there is none"
            raise DatasetError(
                f"no question about {dataset.name} can be asked: {reasons}; check {' and '.join(asked_in) or dataset.folder}"
            )
        table.to_parquet(folder / "questions.parquet", index=False)
        left_out.to_parquet(folder / "left_out.parquet", index=False)
        types = {str(k): int(v) for k, v in table["question_type"].value_counts().items()}
        (folder / "figures").mkdir()
        bars_figure(folder / "figures" / "types.png", types, f"{dataset.source.title}: questions by type", "questions")
        facts = {
            "dataset": dataset.name,
            "sources": ", ".join(asked_in) or "templates",
            "types": types,
            "answers": int(table["answers"].str.split(SEPARATOR).explode().nunique()),
            "left_out": {reason: int((left_out["reason"] == reason).sum()) for reason in REASONS},
        }
        return Built(rows=len(table), facts=facts)

    return workspace.publish(
        Key(("questions", dataset.name)),
        build,
        code_version=f"{CODE_VERSION}.{dataset.version}",
        access=strictest([dataset.access, *(output.access for output in upstream.values())]),
        config={},
        upstream=versions(upstream),
    )


def sort_out(asked: "pd.DataFrame", records: "pd.DataFrame") -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Questions that can be asked, with patient and fold of their recording, and the others with the reason.

    Args:
        asked: with the columns `QUESTION_COLUMNS`.
        records: record_id, patient_id and fold of every recording.
    """
    import numpy as np

    faults = {
        "several_records": asked["record_id"].str.contains(SEPARATOR),
        "unknown_record": ~asked["record_id"].isin(records["record_id"]),
        "no_question": asked["question"].str.strip() == "",
        "no_answer": asked["answers"].str.strip() == "",
    }
    reason = np.select([faults[name] for name in REASONS], list(REASONS), "")
    left_out = asked.loc[reason != "", ["question_id", "record_id", "question_type"]].assign(reason=reason[reason != ""])
    about = records.set_index("record_id").loc[asked.loc[reason == "", "record_id"]]
    kept = asked[reason == ""].reset_index(drop=True)
    kept.insert(2, "patient_id", about["patient_id"].to_numpy())
    kept.insert(3, "fold", about["fold"].to_numpy())
    return kept[["question_id", "record_id", "patient_id", "fold", *QUESTION_COLUMNS[2:]]], left_out.reset_index(drop=True)


def _sample(output: Output, rows: int = 12) -> str:
    """Questions from all over the table."""
    import pandas as pd

    table = pd.read_parquet(output.path("questions.parquet"), columns=["record_id", "question_type", "question", "answers"])
    lines = ["| record | type | question | answers |", "|---|---|---|---|"]
    shown = table.iloc[:: max(1, len(table) // rows)].head(rows)
    return "\n".join([*lines, *("| " + " | ".join(str(v).replace("|", "/") for v in row) + " |" for row in shown.itertuples(index=False))])
