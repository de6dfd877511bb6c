"""What an evaluation shows: curves, recalls, reports beside their ECG, explanations, and its headline metrics in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.judging import Homes, Judged
from assets.outputs import Output
from models.metrics.names import CHALLENGE_METRIC

if TYPE_CHECKING:
    from assets.plots_page import EcgPage
    from models.predictions import Predictions

SHOWN_REPORTS = 4
_SUMMARY = (
    *("macro_auroc", CHALLENGE_METRIC, "single_label_macro_auroc", "recall@1", "recall@5", "recall@10", "median_rank", "accuracy"),
    *("bleu_1", "bleu_4", "rouge_l", "meteor", "exact_match", "mae", "r2", "mse", "pearson", "fid"),
)


def draw(folder: Path, judged: Judged, upstream: Mapping[str, Output]) -> None:
    """Draw every figure for which an evaluation's folder has tables."""
    (folder / "figures").mkdir(exist_ok=True)
    _draw_predictions(folder, judged.homes, judged.dataset.split.test)
    _draw_ranks(folder, judged)
    if (folder / "generated").exists():
        _draw_reports(folder, judged, upstream)
    if (folder / "explanations.parquet").exists():
        _draw_explanations(folder, judged, upstream)
    if (folder / "answers").exists():
        _draw_answers(folder, judged)
    if (folder / "reconstructions").exists():
        _draw_reconstructions(folder, judged, upstream)


def _draw_predictions(folder: Path, homes: Homes, test_folds: tuple[int, ...]) -> None:
    """ROC curves of the first task of each protocol, and the numbers of each task that predicts some; from the most labels."""
    from assets.plots import judged_figure
    from models.predictions import read_predictions

    tables = [read_predictions(p) for p in sorted((folder / "predictions").glob("*.parquet"))]
    pretrained = [t for t in tables if t.origin.arm == "pretrained"]
    by_figure: dict[str, list[Predictions]] = {}
    for table in pretrained:
        name = f"predicted_{table.origin.task}_{table.origin.protocol}" if table.numbers else f"roc_{table.origin.protocol}"
        by_figure.setdefault(name, []).append(table)
    for name, shown in by_figure.items():
        most_labels = max(shown, key=lambda t: t.origin.fraction or 0.0)
        task = most_labels.origin.task
        folds = homes[task][0].split.test if task in homes else test_folds
        judged_figure(folder / "figures" / f"{name}.png", most_labels.folds(folds))


def _draw_ranks(folder: Path, judged: Judged) -> None:
    import pandas as pd

    from assets.plots_judging import retrieval_figure
    from assets.rank_scoring import SHARES

    metrics = pd.read_parquet(folder / "metrics.parquet")
    for protocol in ("retrieval", "identification"):
        rows = metrics[(metrics["protocol"] == protocol) & metrics["metric"].isin(SHARES)]
        if len(rows):
            title = f"{_about(judged)}: {protocol} on the test folds"
            retrieval_figure(folder / "figures" / f"{protocol}.png", rows, title)


def _draw_reports(folder: Path, judged: Judged, upstream: Mapping[str, Output]) -> None:
    """The first records, beside what the pretrained encoder wrote."""
    from assets.plots_judging import report_figure
    from models.report_tables import read_generated

    assert judged.inputs.signals is not None, "reports are written about signals"
    pages = Pages(upstream[str(judged.inputs.signals)].folder)
    (path,) = (folder / "generated").glob("*-pretrained.parquet")
    table = read_generated(path)
    rows = zip(table.record_id, table.reference, table.generated, strict=True)
    for number, (record_id, reference, generated) in enumerate(list(rows)[:SHOWN_REPORTS], 1):
        title = f"{_about(judged)}: test record {record_id}"
        report_figure(folder / "figures" / f"report-{number}.png", pages.page(record_id), title, reference, generated)


def _draw_explanations(folder: Path, judged: Judged, upstream: Mapping[str, Output]) -> None:
    import numpy as np
    import pandas as pd

    from assets.plots_judging import Look, explanation_figure
    from models.image_store import open_image_store

    assert judged.inputs.signals is not None and judged.inputs.images is not None, "explanations are of both"
    pages, images = Pages(upstream[str(judged.inputs.signals)].folder), open_image_store(upstream[str(judged.inputs.images)].folder)
    place = {record_id: row for row, record_id in enumerate(images.index["record_id"].to_pylist())}
    for number, row in enumerate(pd.read_parquet(folder / "explanations.parquet").itertuples(), 1):
        maps = [np.load(folder / "explanations" / str(name), allow_pickle=False) for name in (row.image_map, row.ecg_map)]
        look = Look(images.images(np.array([place[str(row.image_id)]]))[0], maps[0], pages.page(str(row.ecg_id)), maps[1])
        said = "one of its labels" if row.is_true else "not one of its labels"
        title = f"{_about(judged)}: sample {row.sample_id}, why {row.class_name} ({said}; logit {row.logit:.2f})"
        explanation_figure(folder / "figures" / f"explanation-{number}.png", look, title)


def _draw_answers(folder: Path, judged: Judged) -> None:
    import pandas as pd

    from assets.answer_scoring import EXACT
    from assets.plots_answers import answers_figure

    metrics = pd.read_parquet(folder / "metrics.parquet")
    title = f"{_about(judged)}: questions about test recordings"
    answers_figure(folder / "figures" / "answers.png", metrics[metrics["metric"] == EXACT], title)


def _draw_reconstructions(folder: Path, judged: Judged, upstream: Mapping[str, Output]) -> None:
    """Errors by lead, and the first reconstructions over what was recorded."""
    import numpy as np
    import pandas as pd

    from assets.plots_page import EcgPage
    from assets.plots_reconstruction import lead_errors_figure, overlay_figure
    from models.reconstruction_tables import PROTOCOL, ZERO_ARM, read_reconstructions

    assert judged.inputs.signals is not None, "what is reconstructed are signals"
    metrics = pd.read_parquet(folder / "metrics.parquet")
    title = f"{_about(judged)}: leads that were not shown, test records"
    lead_errors_figure(folder / "figures" / "leads.png", metrics[metrics["protocol"] == PROTOCOL], title)
    (path,) = (folder / "reconstructions").glob(f"*-{ZERO_ARM}.parquet")
    missing = read_reconstructions(path).missing
    pages = Pages(upstream[str(judged.inputs.signals)].folder)
    signal_NLT = np.load(folder / "reconstructed" / "signals.npy", mmap_mode="r", allow_pickle=False)
    ids = pd.read_parquet(folder / "reconstructed" / "records.parquet")["record_id"].tolist()
    leads = judged.encoder.facts["config"]["channels"]
    for number, (record_id, signal_LT) in enumerate(list(zip(ids, signal_NLT, strict=True))[:SHOWN_REPORTS], 1):
        true = pages.page(record_id)
        found = EcgPage.of(signal_LT, leads, true.fs_hz)
        kept = tuple(lead for lead in leads if lead not in missing)
        title = f"{_about(judged)}: test record {record_id}"
        overlay_figure(folder / "figures" / f"reconstruction-{number}.png", true, found, kept, title)


class Pages:
    """Recordings of a store as they stand on paper."""

    def __init__(self, folder: Path) -> None:
        from models.samples import first_rows
        from models.store import open_store

        self._store = open_store(folder)
        self._rows = first_rows(self._store)

    def page(self, record_id: str) -> EcgPage:
        """The page of a recording, or of the window that is named "<recording>@<second>"."""
        import numpy as np

        from assets.plots_page import EcgPage

        row = self._rows.get(record_id)
        if row is None:
            recording, _, start = record_id.rpartition("@")
            starts = zip(self._store.record_ids(), self._store.index["start"].to_pylist(), strict=True)
            row = next(i for i, (name, at) in enumerate(starts) if name == recording and f"{at:g}" == start)
        signal_LT = self._store.signals(np.array([row]))[0]
        names, units = [c.name for c in self._store.channels], [c.unit for c in self._store.channels]
        return EcgPage.of(signal_LT, names, self._store.fs_hz, units=units)


def _about(judged: Judged) -> str:
    return f"{judged.spec.title} {judged.encoder.facts['preset']} on {judged.dataset.source.title}"


def summary(output: Output) -> str:
    """The headline metrics as a Markdown table."""
    import pandas as pd

    table = pd.read_parquet(output.path("metrics.parquet"))
    table = table[table["metric"].isin(_SUMMARY)]
    order = table["metric"].map(_SUMMARY.index)
    table = table.assign(_order=order).sort_values(["task", "protocol", "channels", "direction", "fraction", "prompts", "_order", "arm"])
    header = "| task | protocol | labels | channels | prompts | direction | encoder | metric | value | 95 % interval | chance |"
    lines = [header, "|" + "---|" * 11]
    for row in table.to_dict("records"):
        share = "" if pd.isna(row["fraction"]) else f"{row['fraction']:.0%}"
        interval = "" if pd.isna(row["low"]) else f"{row['low']:.3f} to {row['high']:.3f}"
        chance = "" if pd.isna(row["chance"]) else f"{row['chance']:.3f}"
        about = [row["task"], row["protocol"], share, row["channels"], row["prompts"], row["direction"], row["arm"], row["metric"]]
        lines.append("| " + " | ".join([*map(str, about), f"{row['value']:.3f}", interval, chance]) + " |")
    return "\n".join(lines)


def report_sample(output: Output, rows: int = 12) -> str:
    """The first generated reports as a Markdown table."""
    from models.report_tables import read_generated

    (path,) = (output.folder / "generated").glob("*-pretrained.parquet")
    table = read_generated(path)
    lines = ["| record | report in the data | report written |", "|---|---|---|"]
    for cells in list(zip(table.record_id, table.reference, table.generated, strict=True))[:rows]:
        lines.append("| " + " | ".join(_cell(text) for text in cells) + " |")
    return "\n".join(lines)


def answer_sample(output: Output, rows: int = 12) -> str:
    """Questions from all over the test records with the true and the given answers, as a Markdown table."""
    from assets.dataset import get_dataset
    from models.answer_tables import read_answers

    (path,) = (output.folder / "answers").glob("*-question_answering-pretrained.parquet")
    held = read_answers(path).of(get_dataset(str(output.key.partition)).split.test).rows
    lines = ["| record | question | true answer | answer given | right |", "|---|---|---|---|---|"]
    for row in held[:: max(1, len(held) // rows)][:rows]:
        cells = (row.record_id, row.question, row.truth, row.answer, "yes" if row.correct else "no")
        lines.append("| " + " | ".join(_cell(text) for text in cells) + " |")
    return "\n".join(lines)


def _cell(text: Any) -> str:
    return " ".join(str(text).replace("|", "/").split())
