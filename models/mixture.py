"""Training on several datasets at once: records are drawn by the weights of the datasets, with replacement.

A draw takes a dataset by weight, then one of its records uniformly (Weimann and Conrad 2024, arXiv 2410.13867, train on ten so).
Every member contributes its own folds. Since folds follow patients, not recordings, and published splits may disagree, patients
of any member's or of the judged dataset's later parts are looked for by id and left out, whichever dataset shows them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from models.config import TrainingConfig
from models.data import IntArray, Order, Records, numbered, rows_with_reports
from models.errors import ConfigurationError, TrainingError
from models.inputs import open_signals
from models.jobs import MixtureMember, PretrainJob
from models.registry import get_spec
from models.resident import budget_of
from models.signal_scale import SignalScale, measure_scale, stack_scales
from models.store import Store
from models.types import Batch, Modality

Part = Literal["train", "validation"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mixture:
    """Records of several datasets. Positions count through all members, in their order.

    Attributes:
        members: records by name of the dataset, or of a dataset and one of its sites; the same members, in the same order, in
            training and validation, so that their numbers mean the same. Members may have no records to validate on.
        weights: the probability of each in a draw, float64 (S,); they sum to 1.
    """

    members: dict[str, Records]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> IntArray:
        """Position of each member's first record, and how many there are, int64 (S + 1,)."""
        return np.cumsum([0, *(len(records) for records in self.members.values())], dtype=np.int64)

    @property
    def skipped(self) -> int:
        """Records left out for want of a report."""
        return sum(records.skipped for records in self.members.values())

    @cached_property
    def patients(self) -> IntArray:
        """Numbers of the records' patients, the same where members share a patient."""
        return numbered([patient for records in self.members.values() for patient in records.patient_ids()])

    def sources(self, positions: IntArray) -> IntArray:
        """Which member each position belongs to, int64 (B,)."""
        return np.searchsorted(self.starts, positions, side="right").astype(np.int64) - 1

    def batch(self, positions: IntArray) -> Batch:
        """The records at some positions; those of a dataset without reports have empty texts."""
        source_B = self.sources(positions)
        parts, places = [], []
        for source, records in enumerate(self.members.values()):
            place_B = np.flatnonzero(source_B == source)
            if len(place_B):
                parts.append(records.batch(positions[place_B] - self.starts[source]))
                places.append(place_B)
        order_B = torch.from_numpy(np.argsort(np.concatenate(places)))
        found = _joined(parts, order_B)
        found.row_B, found.source_B = torch.from_numpy(np.asarray(positions, np.int64)), torch.from_numpy(source_B)
        found.group_B = torch.from_numpy(self.patients[positions])
        return found

    def names(self, rows: Sequence[int]) -> list[str]:
        """Ids of some rows of batches, each behind the name of its dataset."""
        position_B = np.asarray(rows, np.int64)
        members = list(self.members.items())
        found = []
        for position, source in zip(position_B.tolist(), self.sources(position_B).tolist(), strict=True):
            name, records = members[source]
            found += [f"{name} {record}" for record in records.names([int(records.rows_N[position - self.starts[source]])])]
        return found

    def vocabulary(self) -> list[str]:
        """All texts, from which a tokenizer learns."""
        return [text for records in self.members.values() for text in records.vocabulary() if text]

    def scale(self) -> SignalScale:
        """Mean and spread of the channels, a row a member."""
        return stack_scales([(name, *measure_scale(records.store, records.rows_N)) for name, records in self.members.items()])

    def on(self, device: torch.device) -> Mixture:
        """The same with signals held on a device: of the members that fit together, those most often drawn for their size first."""
        left = budget_of(device)
        order = sorted(zip(self.members, self.weights.tolist(), strict=True), key=lambda m: -m[1] / max(1, len(self.members[m[0]])))
        held: dict[str, Records] = {}
        for name, _ in order:
            held[name] = self.members[name].on(device, left)
            if (resident := held[name].resident) is not None:
                left -= resident.n_bytes
        return replace(self, members={name: held[name] for name in self.members})


def _joined(parts: list[Batch], order_B: torch.Tensor) -> Batch:
    """Batches of several members as one, its records put into another order."""
    device = next((part.signal_BLT.device for part in parts if part.signal_BLT.device.type != "cpu"), torch.device("cpu"))
    signal_BLT = torch.cat([part.signal_BLT.to(device) for part in parts])
    present_BL = None
    if any(part.present_BL is not None for part in parts):
        whole = torch.ones(signal_BLT.shape[1], dtype=torch.bool, device=device)
        told = [whole.expand(len(p), -1) if p.present_BL is None else p.present_BL.to(device) for p in parts]
        present_BL = torch.cat(told)[order_B.to(device)]
    texts = observed = None
    if parts[0].texts is not None:
        all_texts = [text for part in parts for text in part.texts or []]
        texts = [all_texts[i] for i in order_B.tolist()]
        observed = {str(Modality.TEXT): torch.tensor([bool(text) for text in texts])}
    return Batch(signal_BLT[order_B.to(device)], order_B, texts, observed=observed, present_BL=present_BL)


@dataclass(frozen=True)
class MixtureOrder(Order):
    """Which records a step draws from a mixture: a function of (seed, step), dataset by weight, then record uniformly.

    Attributes:
        first_S: positions at which members begin, as in `Mixture`.
        weights: of the members.
    """

    batch_size: int
    seed: int
    first_S: IntArray
    weights: NDArray[np.float64]

    def positions(self, step: int) -> IntArray:
        """Positions of the records of a step, int64 (batch_size,)."""
        rng = np.random.default_rng([self.seed, step])
        source_B = rng.choice(len(self.weights), self.batch_size, p=self.weights)
        size_B = np.diff(self.first_S)[source_B]
        return self.first_S[source_B] + rng.integers(0, size_B)


@dataclass(frozen=True)
class OpenMixture:
    """The open stores of a mixture, and whom training must not see.

    Attributes:
        stores: by member.
        members: where they lie, by member.
        weights: of a draw, by member.
        held_out: patients of validation and test folds of the members and of the judged dataset.
        test: those of test folds.
        reads_text: whether the method reads reports.
    """

    stores: dict[str, Store]
    members: dict[str, MixtureMember]
    weights: dict[str, float]
    held_out: frozenset[str]
    test: frozenset[str]
    reads_text: bool
    min_words: int

    def train(self) -> Mixture:
        """The records to train on.

        Raises:
            TrainingError: a member has none.
        """
        found = self._part("train")
        assert found is not None, "every member has training records"
        return found

    def validation(self) -> Mixture | None:
        """The records to measure a loss on, from the members that have some; None where none has."""
        return self._part("validation")

    def _part(self, part: Part) -> Mixture | None:
        forbidden = self.held_out if part == "train" else self.test
        found: dict[str, Records] = {}
        left_out = 0
        for name, member in self.members.items():
            rows_N, n_others = self._rows(name, member, member.train_folds if part == "train" else member.validation_folds, forbidden)
            left_out += n_others
            reports = member.reports if self.reads_text else None
            if len(rows_N):
                records = rows_with_reports(self.stores[name], rows_N, reports, self.min_words, f"folds of {name}")
                found[name] = records if reports or not self.reads_text else replace(records, texts=[""] * len(records))
            elif part == "validation":
                found[name] = Records(self.stores[name], rows_N, [] if self.reads_text else None)
            else:
                raise TrainingError(
                    f"member {name!r} of the mixture has no record to train on in folds {member.train_folds} of {member.store} "
                    f"({n_others} are of patients whom others judge on); take it out of the mixture, or prepare its records"
                )
        if left_out:
            _log.info("%d records left out of %s: their patients are in later folds of the judged dataset or of a member", left_out, part)
        weights = np.array([self.weights[name] if len(records) else 0.0 for name, records in found.items()])
        return Mixture(found, weights / weights.sum()) if weights.any() else None

    def _rows(self, name: str, member: MixtureMember, folds: Sequence[int], forbidden: frozenset[str]) -> tuple[IntArray, int]:
        """Rows of some folds of a member, and how many more there would be but for forbidden patients."""
        store = self.stores[name]
        rows_N = store.rows_of_folds(folds)
        if member.site:
            rows_N = rows_N[np.array(store.index["site"].to_pylist(), np.str_)[rows_N] == member.site]
        patients = store.index["patient_id"].to_pylist()
        kept = np.array([patients[row] not in forbidden for row in rows_N.tolist()], np.bool_)
        return rows_N[kept], int((~kept).sum())


def open_mixture(job: PretrainJob, config: TrainingConfig, judged: Store) -> OpenMixture:
    """Open the members of a configuration's mixture.

    Args:
        job: says where they lie.
        config: says which they are and how often each is drawn.
        judged: the store of the dataset that the encoder will be judged on, a member or not.

    Raises:
        ConfigurationError: weights, names or sites do not fit, or stores are of different rates; or batches must hold no patient twice.
        StoreError: a store cannot be opened.
    """
    weights = config.mixture_weights()
    if config.distinct_patients:
        raise ConfigurationError("a mixture is drawn with replacement, so a batch may hold a patient twice; set distinct_patients to false")
    if absent := [name for name in weights if name not in job.mixture]:
        raise ConfigurationError(
            f"the mixture names {', '.join(absent)}, of which the job says nothing; it knows {', '.join(job.mixture) or 'none'}"
        )
    spec = get_spec(job.method)
    members = {name: job.mixture[name] for name in weights}
    stores = {name: open_signals(member.store, config, any_channels=spec.any_channels) for name, member in members.items()}
    for name, store in stores.items():
        if store.fs_hz != judged.fs_hz:
            raise ConfigurationError(
                f"member {name!r} of the mixture is stored at {store.fs_hz:g} Hz, the judged dataset at {judged.fs_hz:g} Hz"
            )
        sites = set(store.index["site"].to_pylist()) if "site" in store.index.column_names else set()
        if (site := members[name].site) and site not in sites:
            raise ConfigurationError(f"{members[name].store} has no site {site!r}; it has {', '.join(sorted(sites)) or 'none'}")
    everyone = [(judged, job.validation_folds, job.test_folds)]
    everyone += [(stores[name], member.validation_folds, member.test_folds) for name, member in members.items()]
    test = frozenset(patient for store, _, folds in everyone for patient in _patients(store, folds))
    validation = frozenset(patient for store, folds, _ in everyone for patient in _patients(store, folds))
    reads_text = Modality.TEXT in spec.reads(config)
    return OpenMixture(stores, members, weights, test | validation, test, reads_text, config.min_words)


def _patients(store: Store, folds: Iterable[int]) -> set[str]:
    patients = store.index["patient_id"].to_pylist()
    return {patients[row] for row in store.rows_of_folds(folds).tolist()}
