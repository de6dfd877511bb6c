"""Two entries of a benchmark beside each other, paired over patients and averaged over seeds, as a table and as LaTeX.

Entries are named as the table shows them: `merl:tiny`, `merl` where there is one preset, or the name of an external entry;
`/random_init` behind it means its untrained twin. What is computed is said in `models.metrics.paired_seeds`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assets.benchmark import NOT_STATED
from assets.benchmark_scores import N_RESAMPLES, BenchmarkError, require_defined
from assets.benchmark_table import entries
from assets.dataset import get_dataset
from assets.outputs import Workspace
from assets.scoring import align, ranked
from models.predictions import Predictions, read_predictions

if TYPE_CHECKING:
    from models.metrics.paired_seeds import SeedComparison

_TWIN = "/random_init"


@dataclass(frozen=True)
class Contender:
    """The tables of one entry for one question, a seed each.

    Attributes:
        names: by which it can be asked for; the first is the full one.
        skipped: whether classes that are undefined on the test records were left out.
    """

    names: tuple[str, ...]
    task: str
    protocol: str
    fraction: float | None
    skipped: bool
    tables: dict[int, Predictions]

    @property
    def label(self) -> str:
        """For people."""
        return self.names[0]

    @property
    def terms(self) -> str:
        """Under which terms its numbers were obtained."""
        share = "" if self.fraction is None else f" at {self.fraction:.0%} of the labels"
        return f"{self.protocol}{share}" + (", undefined classes skipped" if self.skipped else "")


@dataclass(frozen=True)
class Comparison:
    """What two entries come to on the same test records."""

    first: Contender
    second: Contender
    classes: tuple[str, ...]
    n_left_out: int
    n_records: int
    n_resamples: int
    found: SeedComparison


def contenders(workspace: Workspace, dataset: str, task: str) -> list[Contender]:
    """Everything that can be compared on a task."""
    groups: dict[tuple[object, ...], Contender] = {}
    for output in entries(workspace, dataset):
        question, facts = output.facts["question"], output.facts
        if question["task"] != task:
            continue
        method, preset = facts["entry"]["method"], facts["entry"]["name"]
        short = (facts["label"], output.key.parts[2], *(() if facts["kind"] == "external" else (f"{method}:{preset}", method)))
        for path in sorted((output.folder / "predictions").glob("*.parquet")):
            table = read_predictions(path)
            behind = (f" [{table.origin.prompts}]" if table.origin.prompts else "") + (_TWIN if table.origin.arm == "random_init" else "")
            names = tuple(dict.fromkeys(f"{name}{behind}" for name in short))
            terms = (task, question["protocol"], question["fraction"], question["skip_undefined"])
            groups.setdefault((names[1], *terms), Contender(names, *terms, {})).tables[question["seed"]] = table
    return list(groups.values())


def choose(
    held: Iterable[Contender], first: str, second: str, protocol: str | None = None, fraction: float | None = None
) -> tuple[Contender, Contender]:
    """The two that are meant, under the same protocol and share of labels.

    Raises:
        BenchmarkError: a name is unknown, no two answers share their terms, or several do.
    """
    found = list(held)
    sides = []
    for name in (first, second):
        named = [c for c in found if name == c.label] or [c for c in found if name in c.names]  # a full name means itself alone
        if not named:
            raise BenchmarkError(
                f"the benchmark has no entry {name!r} on this task; it has {', '.join(sorted({c.label for c in found})) or 'none'}"
            )
        sides.append([c for c in named if _meant(c, protocol, fraction)])
    pairs = [(a, b) for a in sides[0] for b in sides[1] if _same_terms(a, b)]
    if not pairs:
        one, other = ("; ".join(f"{c.label} by {c.terms}" for c in found if n in c.names) for n in (first, second))
        raise BenchmarkError(
            f"{first} and {second} were not judged under the same protocol and share of the labels: {one} / {other}; judge both alike"
        )
    if len(pairs) > 1:
        choices = "; ".join(f"{a.label} by {a.terms} and {b.label} by {b.terms}" for a, b in pairs)
        raise BenchmarkError(
            f"{first} and {second} can be compared in several ways ({choices}); say --protocol, --fraction or a fuller name"
        )
    return pairs[0]


def _meant(c: Contender, protocol: str | None, fraction: float | None) -> bool:
    stated = c.protocol != NOT_STATED
    return (protocol in (None, c.protocol) or not stated) and (fraction in (None, c.fraction) or not stated)


def _same_terms(a: Contender, b: Contender) -> bool:
    """Whether two are judged alike; where nobody says how scores were obtained, the task and the records must do."""
    if NOT_STATED in (a.protocol, b.protocol):
        return True
    return (a.protocol, a.fraction) == (b.protocol, b.fraction)


def compare_entries(
    workspace: Workspace,
    dataset: str,
    task: str,
    first: str,
    second: str,
    protocol: str | None = None,
    fraction: float | None = None,
    n_resamples: int = N_RESAMPLES,
) -> Comparison:
    """Compare two entries on the test folds.

    Raises:
        BenchmarkError: as `choose`, or a class is undefined on the test records and was not skipped.
        ScoringError: the two do not judge the same records with the same labels; says in what they differ.
    """
    import numpy as np

    from models.metrics.paired_seeds import compare_over_seeds

    a, b = choose(contenders(workspace, dataset, task), first, second, protocol, fraction)
    test = get_dataset(dataset).split.test
    reference = next(iter(a.tables.values())).folds(test)
    reference, _ = align(reference, reference)
    require_defined(reference.labels_NC, reference.classes, f"{dataset}/{task}", a.skipped or b.skipped)
    columns = np.flatnonzero(np.isin(reference.labels_NC.mean(axis=0), (0, 1), invert=True))
    scores = [[align(reference, ranked(t).folds(test))[1].scores_NC[:, columns] for t in side.tables.values()] for side in (a, b)]
    found = compare_over_seeds(scores[0], scores[1], reference.labels_NC[:, columns], reference.patient_id, n_resamples)
    classes = tuple(reference.classes[c] for c in columns)
    return Comparison(a, b, classes, len(reference.classes) - len(classes), len(reference.record_id), n_resamples, found)
