"""Prediction tables: per-record outputs from which every metric, interval, figure and gate decision is computed.

Parquet with one row a record of the validation and test folds; columns record_id, patient_id, fold, `score:<class>`
(float32) and `label:<class>` (int8), and a JSON header in the schema that says where the scores come from. Scores of trained
heads are logits, zero-shot scores are cosines. Of a regression task both are numbers in the target's unit (float32). Where a task
is about windows, `record_id` is "<recording>@<second at which the window begins>", patient and fold are the recording's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import EinthovenError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HEADER = b"einthoven.predictions"


class PredictionError(EinthovenError):
    """A prediction table that is unreadable or does not have the form it must have."""


@dataclass(frozen=True)
class Origin:
    """Where the scores of a table come from.

    Attributes:
        protocol: "zero_shot", "linear_probe", "finetune", ...
        arm: "pretrained", or "random_init" for the untrained twin of the encoder.
        fraction: share of the training labels, or None where none are used.
        prompts: name of the prompt set, or None.
        encoder_sha256: hash of the encoder's weights file.
        selection: how epoch and hyperparameters were chosen, in a few words.
        channels: names of the channels that the encoder was shown, joined by "+"; None where it saw all that it reads.
        split: "<named split>/<number of the fold>" where records were not parted by the folds of their dataset, or None.
        kind: of the task: "multilabel", "single_label" or "regression" (`label:` columns are float32 numbers then).
        unit: of the numbers of a regression task.
        reference: what somebody who sees no signal would predict of a regression task: the mean of the training records.
    """

    dataset: str
    task: str
    method: str
    preset: str
    protocol: str
    arm: str
    seed: int
    encoder_sha256: str
    fraction: float | None = None
    prompts: str | None = None
    selection: str = ""
    channels: str | None = None
    split: str | None = None
    kind: str = "multilabel"
    unit: str = ""
    reference: float | None = None

    @property
    def slug(self) -> str:
        """A file name that tells tables of one evaluation apart."""
        parts = [self.task, self.protocol, self.arm]
        if self.fraction is not None:
            parts.append(f"{self.fraction:g}")
        if self.prompts is not None:
            parts.append(self.prompts)
        if self.channels is not None:
            parts.append(self.channels)
        if self.split is not None:
            parts.append(self.split)
        return "-".join(parts).replace("/", "_")


@dataclass(frozen=True)
class Predictions:
    """A prediction table in memory. Rows are records, columns of `scores_NC` and `labels_NC` are `classes`.

    Labels are int8 zeros and ones, or float32 numbers where `origin.kind` is "regression".
    """

    origin: Origin
    classes: tuple[str, ...]
    record_id: NDArray[np.str_]
    patient_id: NDArray[np.str_]
    fold: NDArray[np.int64]
    scores_NC: NDArray[np.float32]
    labels_NC: NDArray[Any]

    def __post_init__(self) -> None:
        import numpy as np

        rows, columns = len(self.record_id), len(self.classes)
        if self.scores_NC.shape != (rows, columns) or self.labels_NC.shape != (rows, columns):
            raise PredictionError(
                f"{self.origin.slug}: {rows} records and {columns} classes, but scores {self.scores_NC.shape}, labels {self.labels_NC.shape}"
            )
        if len(set(self.record_id.tolist())) != rows:
            raise PredictionError(f"{self.origin.slug}: a record appears twice")
        if not np.isfinite(self.scores_NC).all():
            raise PredictionError(f"{self.origin.slug}: {int((~np.isfinite(self.scores_NC)).sum())} scores are not finite")
        if not np.isfinite(self.labels_NC).all():
            raise PredictionError(f"{self.origin.slug}: {int((~np.isfinite(self.labels_NC)).sum())} targets are not finite")

    @property
    def numbers(self) -> bool:
        """Whether scores and labels are numbers in a unit rather than scores of classes and zeros and ones."""
        return self.origin.kind == "regression"

    def folds(self, folds: tuple[int, ...]) -> Predictions:
        """The rows of some folds."""
        import numpy as np

        keep = np.isin(self.fold, folds)
        return Predictions(
            self.origin,
            self.classes,
            self.record_id[keep],
            self.patient_id[keep],
            self.fold[keep],
            self.scores_NC[keep],
            self.labels_NC[keep],
        )


def window_name(record_id: str, start_s: float) -> str:
    """How prediction tables call a window of a recording."""
    return f"{record_id}@{start_s:g}"


def write_predictions(path: Path, table: Predictions) -> None:
    """Write a table as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "record_id": pa.array(table.record_id.tolist(), pa.string()),
        "patient_id": pa.array(table.patient_id.tolist(), pa.string()),
        "fold": pa.array(table.fold, pa.int32()),
    }
    columns |= {f"score:{c}": pa.array(table.scores_NC[:, i], pa.float32()) for i, c in enumerate(table.classes)}
    form = pa.float32() if table.numbers else pa.int8()
    columns |= {f"label:{c}": pa.array(table.labels_NC[:, i], form) for i, c in enumerate(table.classes)}
    arrow = pa.table(columns).replace_schema_metadata({_HEADER: json.dumps(asdict(table.origin), sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(arrow, path)


def read_predictions(path: Path) -> Predictions:
    """Read a table.

    Raises:
        PredictionError: the file is not a prediction table.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(path)
        origin = Origin(**json.loads((arrow.schema.metadata or {})[_HEADER]))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, json.JSONDecodeError) as error:
        raise PredictionError(f"{path} is not a prediction table ({error}); evaluate again") from error
    classes = tuple(n.removeprefix("score:") for n in arrow.column_names if n.startswith("score:"))

    def matrix(prefix: str, dtype: Any) -> Any:
        if not classes:
            return np.zeros((arrow.num_rows, 0), dtype)
        return np.stack([arrow[f"{prefix}:{c}"].to_numpy() for c in classes], axis=1).astype(dtype)

    return Predictions(
        origin,
        classes,
        np.array(arrow["record_id"].to_pylist(), dtype=np.str_),
        np.array(arrow["patient_id"].to_pylist(), dtype=np.str_),
        arrow["fold"].to_numpy().astype(np.int64),
        matrix("score", np.float32),
        matrix("label", np.float32 if origin.kind == "regression" else np.int8),
    )
