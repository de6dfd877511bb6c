"""One table of all evaluations: ours with intervals, beside published numbers, the random-initialised twin and a supervised baseline.

A row is a dataset x task x method x preset x protocol x label fraction x prompt set x set of channels x direction x seed, and one of the
metrics `assets.scoring.HEADLINES`: macro AUROC of heads and of zero-shot, the metric of the Challenges, recalls of retrieval and identification, metrics of generated
reports, exact match of answers, the error of numbers (a gain is then how much smaller it is than the twin's). Rows of kind "published" repeat what others printed on a task where we have a number of our own; they stand apart, because
their protocols differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assets.scoring import GAIN_SUFFIX, HEADLINES
from models.errors import EinthovenError
from models.head_recipes import ATTENTIVE, FINETUNE, FINETUNE_AFTER, LINEAR
from models.metrics.names import LOWER_IS_BETTER
from models.reconstruction_tables import DOWNSTREAM
from models.spec import MethodSpec, Published

if TYPE_CHECKING:
    import pandas as pd

QUESTION = ["dataset", "task", "method", "preset", "protocol", "fraction", "prompts", "channels", "direction", "seed"]
COLUMNS = [
    *("kind", "dataset", "task", "method", "title", "preset", "protocol", "fraction", "prompts", "channels", "direction", "seed"),
    *("metric", "unit", "chance"),
    *("value", "low", "high", "random_init", "random_init_low", "random_init_high", "gain", "gain_low", "gain_high", "macro_auprc"),
    *("supervised", "supervised_low", "supervised_high", "supervised_method", "supervised_fraction"),
    *("published", "published_model", "published_source", "published_protocol"),
    *("n_records", "n_patients", "n_classes", "n_undefined", "saw_test_patients", "data_version", "interval", "note"),
]
_PROTOCOL_ORDER = (
    *("zero_shot", LINEAR, ATTENTIVE, FINETUNE, FINETUNE_AFTER, "fused", "fused_image_only"),
    *("retrieval", "identification", "generation", "question_answering", "question_answering_text_only"),
    *("reconstruction", *DOWNSTREAM),
)
_AUROC = "macro_auroc"
_COUNTS = ("n_records", "n_patients", "n_classes", "n_undefined")
_ADDED: Mapping[str, Any] = {"direction": "", "channels": "", "chance": float("nan"), "unit": ""}
"""Columns that evaluations made before there were retrieval, numbers and sets of channels do not have, with what they mean there."""


class LeaderboardError(EinthovenError):
    """Metrics that cannot be put into a leaderboard."""


def build_leaderboard(metrics: pd.DataFrame, specs: Iterable[MethodSpec]) -> pd.DataFrame:
    """Put the rows of all metrics.parquet files into one table with the columns `COLUMNS`.

    Args:
        metrics: all rows, each with the data version of its evaluation in `data_version`; where a column
            `saw_test_patients` (bool) is present it says whether the encoder was pretrained on test patients, without it the
            leaderboard says that this is not recorded.
        specs: all methods; their published numbers and the baselines are taken from here.

    Raises:
        LeaderboardError: a column is missing, a method has no spec, or two rows answer the same question.
    """
    import pandas as pd

    by_name = {s.name: s for s in specs}
    metrics = metrics.assign(**{c: v for c, v in _ADDED.items() if c not in metrics}).fillna({"direction": "", "channels": "", "unit": ""})
    _require_complete(metrics, by_name)
    values = metrics.assign(fraction=metrics["fraction"].astype(float).fillna(-1.0))  # NaN never equals NaN
    shown = values[values["metric"].isin(HEADLINES)]
    ours = shown[shown["arm"] == "pretrained"]
    wanted = {"macro_auprc", *HEADLINES, *(f"{m}{GAIN_SUFFIX}" for m in HEADLINES)}
    lookup = {(row.metric, row.arm, *(getattr(row, c) for c in QUESTION)): row for row in each(values[values["metric"].isin(wanted)])}
    auroc = shown[shown["metric"] == _AUROC]
    baselines = auroc[auroc["method"].map(lambda m: by_name[m].baseline)]
    rows = []
    for row in each(ours):
        question = tuple(getattr(row, c) for c in QUESTION)
        entry = {c: getattr(row, c) for c in (*QUESTION, "metric", "unit", "chance", "low", "high", *_COUNTS, "data_version")}
        entry |= {"kind": "ours", "title": by_name[row.method].title, "value": row.value, "interval": row.interval, "note": row.note}
        entry |= {"saw_test_patients": getattr(row, "saw_test_patients", None)}
        entry |= _named("random_init", lookup.get((row.metric, "random_init", *question)))
        entry |= _named("gain", lookup.get((f"{row.metric}{GAIN_SUFFIX}", "pretrained", *question)))
        if row.metric == _AUROC:
            entry |= {"macro_auprc": getattr(lookup.get(("macro_auprc", "pretrained", *question)), "value", None)}
        if row.metric == _AUROC and not by_name[row.method].baseline:
            entry |= _supervised(row, baselines)
        entry |= _own_published(row, by_name[row.method])
        rows.append(entry)
    rows += _context(rows, by_name.values())
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["fraction"] = table["fraction"].astype(float).where(lambda f: f >= 0)
    for column in ("value", "chance", "random_init", "gain", "macro_auprc", "supervised", "supervised_fraction", "published"):
        table[column] = table[column].astype(float)
    table["saw_test_patients"] = table["saw_test_patients"].astype("boolean")
    for column in ("seed", *_COUNTS):
        table[column] = table[column].astype("Int64")
    return _sorted(table)


def each(table: pd.DataFrame) -> Iterator[Any]:
    """Rows with their columns as attributes."""
    yield from table.itertuples()


def _require_complete(metrics: pd.DataFrame, by_name: dict[str, MethodSpec]) -> None:
    needed = [*QUESTION, "arm", "metric", "value", "low", "high", *_COUNTS, "interval", "note", "data_version"]
    if missing := [c for c in needed if c not in metrics.columns]:
        raise LeaderboardError(f"the metrics lack the columns {', '.join(missing)}; evaluate again, and add each evaluation's data version")
    if unknown := sorted(set(metrics["method"]) - set(by_name)):
        raise LeaderboardError(
            f"there are metrics of {', '.join(unknown)}, which are no methods any more; remove their evaluations or install them"
        )
    twice = metrics[metrics.duplicated([*QUESTION, "arm", "metric"])]
    if len(twice):
        row = twice.iloc[0]
        raise LeaderboardError(f"{row.method} on {row.dataset}/{row.task} has two rows for {row.protocol}, {row.metric}; evaluate it again")


def _named(prefix: str, row: Any) -> dict[str, Any]:
    return {prefix: getattr(row, "value", None), f"{prefix}_low": getattr(row, "low", None), f"{prefix}_high": getattr(row, "high", None)}


def _supervised(row: Any, baselines: pd.DataFrame) -> dict[str, Any]:
    """The best baseline on the same test records and channels, with the same label fraction if there is one, else with all labels."""
    same = baselines[(baselines["dataset"] == row.dataset) & (baselines["task"] == row.task) & (baselines["channels"] == row.channels)]
    same = same[(same["n_records"] == row.n_records) & (same["n_patients"] == row.n_patients)]
    for fraction in (row.fraction, 1.0):
        candidates = same[same["fraction"] == fraction].dropna(subset=["value"])
        if len(candidates):
            best = candidates.sort_values("value").iloc[-1]
            return _named("supervised", best) | {"supervised_method": best["method"], "supervised_fraction": fraction}
    return {}


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _is_own(published: Published, spec: MethodSpec) -> bool:
    return any(_letters(published.model).startswith(_letters(name)) for name in (spec.title, spec.name))


def _answers(published: Published, row: Any) -> bool:
    """Whether a published number belongs to the same task, protocol, metric and label fraction as a row of ours with all channels."""
    fraction = -1.0 if published.fraction is None else published.fraction
    where = (published.task, published.protocol, published.metric, fraction, "")
    return where == (f"{row.dataset}/{row.task}", row.protocol, row.metric, row.fraction, row.channels)


def _own_published(row: Any, spec: MethodSpec) -> dict[str, Any]:
    for published in spec.published:
        if _answers(published, row) and _is_own(published, spec):
            return {
                "published": published.value,
                "published_model": published.model,
                "published_source": published.source,
                "published_protocol": published.protocol,
            }
    return {}


def _context(rows: Sequence[dict[str, Any]], specs: Iterable[MethodSpec]) -> list[dict[str, Any]]:
    """Published numbers on our tasks that stand beside no row of ours."""
    tasks = {f"{r['dataset']}/{r['task']}" for r in rows}
    beside = {
        (r["published_model"], f"{r['dataset']}/{r['task']}", r["published_protocol"], r["fraction"], r["metric"], r["published"])
        for r in rows
        if "published" in r
    }
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for spec in specs:
        for p in spec.published:
            fraction = -1.0 if p.fraction is None else p.fraction
            key = (p.model, p.task, p.protocol, fraction, p.metric, p.value)
            if p.task not in tasks or p.metric not in HEADLINES or key in beside or key in found:
                continue
            dataset, task = p.task.split("/", 1)
            found[key] = {"kind": "published", "dataset": dataset, "task": task, "protocol": p.protocol, "fraction": fraction} | {
                "metric": p.metric,
                "direction": "",
                "channels": "",
                "unit": "",
                "method": p.model,
                "title": p.model,
                "preset": "",
                "prompts": "",
                "published": p.value,
                "published_model": p.model,
                "published_source": p.source,
                "published_protocol": p.protocol,
            }
    return list(found.values())


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    """By dataset and task; ours before published; protocols in their usual order, direction, metric, rising label fraction, best first."""
    order = {p: i for i, p in enumerate(_PROTOCOL_ORDER)}
    keys = table.assign(
        _protocol=table["protocol"].map(lambda p: order.get(p, len(order))),
        _metric=table["metric"].map(HEADLINES.index),
        _value=table["value"].astype(float).fillna(table["published"]) * table["metric"].isin(LOWER_IS_BETTER).map({True: 1, False: -1}),
        _fraction=table["fraction"].fillna(-1.0),
    )
    by = ["dataset", "task", "kind", "_protocol", "protocol", "channels", "direction", "_metric", "_fraction", "_value", "method"]
    return keys.sort_values(by, kind="stable")[COLUMNS].reset_index(drop=True)
