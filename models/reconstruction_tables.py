"""Tables of reconstructed leads: errors of each record of the validation and test folds, from which every number is computed.

Parquet with one row a record, and a JSON header in the schema that says who reconstructed, and how far the reconstructed test records
are from the real ones as a set (Fréchet distance). Nothing heavy is imported until a table is read or written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import EinthovenError
from models.predictions import Origin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.reconstruction import Errors

TASK, PROTOCOL = "leads", "reconstruction"
LINEAR_ARM, ZERO_ARM = "linear_regression", "zero"
ARMS = ("pretrained", "random_init", LINEAR_ARM, ZERO_ARM)
"""Who reconstructs: the encoder, its random-initialised twin, a line of the kept leads, and nobody."""

REAL, RECONSTRUCTED, KEPT_LEADS, RETRAINED, LINEAR_LEADS = (
    *("downstream_real", "downstream_reconstructed", "downstream_kept_leads", "downstream_retrained"),
    "downstream_linear_regression",
)
"""Protocols of a classifier fine-tuned on real twelve leads and tested on these, on reconstructed ones, on the kept leads with zeros
elsewhere, and on those of linear regression; "retrained" is fine-tuned and tested on reconstructed ones."""

DOWNSTREAM = (REAL, RECONSTRUCTED, KEPT_LEADS, RETRAINED, LINEAR_LEADS)
_HEADER = b"einthoven.reconstructions"
_OF_LEADS = ("mse", "mae", "pearson")


class ReconstructionError(EinthovenError):
    """A table of reconstructions that is unreadable."""


@dataclass(frozen=True)
class Distance:
    """Fréchet distance of the reconstructed test records from the real ones.

    Attributes:
        value: 0 for equal sets.
        n: records of either set; covariances have full rank only above `features`.
        features: numbers of a record that are compared.
        embedding: which network gives them, in words.
        sha256: of its weights.
        signals: what it was shown: "prepared" as its authors ask for, or "raw" millivolts.
    """

    value: float
    n: int
    features: int
    embedding: str
    sha256: str
    signals: str

    @property
    def words(self) -> str:
        """All of it but the value."""
        rank = "" if self.n > self.features else f", not more than the {self.features} features, so covariances are singular"
        return f"{self.embedding} ({self.sha256[:12]}), {self.features} features of {self.signals} signals, n {self.n}{rank}"


@dataclass(frozen=True)
class Reconstructions:
    """Errors of reconstructed records, in order of their ids' places in the store.

    Attributes:
        missing: leads that were not shown.
        identities: limb leads whose residual is held.
        distance: of the test records, where it could be computed.
    """

    origin: Origin
    missing: tuple[str, ...]
    identities: tuple[str, ...]
    record_id: list[str]
    patient_id: list[str]
    fold_N: NDArray[np.int64]
    errors: Errors
    distance: Distance | None = None

    def folds(self, folds: Sequence[int]) -> Reconstructions:
        """The rows of some folds."""
        import numpy as np

        keep = np.flatnonzero(np.isin(self.fold_N, list(folds)))
        errors = type(self.errors)(*(getattr(self.errors, name)[keep] for name in self.errors.__dataclass_fields__))
        ids, patients = ([column[i] for i in keep.tolist()] for column in (self.record_id, self.patient_id))
        return replace(self, record_id=ids, patient_id=patients, fold_N=self.fold_N[keep], errors=errors)


def write_reconstructions(path: Path, table: Reconstructions) -> None:
    """Write a table as Parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"record_id": table.record_id, "patient_id": table.patient_id, "fold": pa.array(table.fold_N, pa.int32())}
    for name in _OF_LEADS:
        values_NM = getattr(table.errors, f"{name}_NM")
        columns |= {f"{name}:{lead}": values_NM[:, m] for m, lead in enumerate(table.missing)}
    columns |= {f"residual:{lead}": table.errors.residual_NI[:, i] for i, lead in enumerate(table.identities)}
    header = {
        "origin": asdict(table.origin),
        "missing": table.missing,
        "identities": table.identities,
        "distance": table.distance and asdict(table.distance),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(pa.table(columns).replace_schema_metadata({_HEADER: json.dumps(header, sort_keys=True)}), temporary)
    os.replace(temporary, path)


def read_reconstructions(path: Path) -> Reconstructions:
    """Read a table.

    Raises:
        ReconstructionError: the file is not one.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from models.reconstruction import Errors

    try:
        arrow = pq.read_table(path)
        header = json.loads((arrow.schema.metadata or {})[_HEADER])
        missing, identities = tuple(header["missing"]), tuple(header["identities"])

        def matrix(name: str, leads: tuple[str, ...]) -> NDArray[np.float64]:
            return np.stack([arrow[f"{name}:{lead}"].to_numpy() for lead in leads], axis=1).astype(np.float64)

        errors = Errors(matrix("mse", missing), matrix("mae", missing), matrix("pearson", missing), matrix("residual", identities))
        return Reconstructions(
            Origin(**header["origin"]),
            missing,
            identities,
            arrow["record_id"].to_pylist(),
            arrow["patient_id"].to_pylist(),
            arrow["fold"].to_numpy().astype(np.int64),
            errors,
            None if header["distance"] is None else Distance(**header["distance"]),
        )
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ReconstructionError(f"{path} is not a table of reconstructions ({error}); evaluate again") from error
