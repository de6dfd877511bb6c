"""The conditions under which a challenger becomes champion. Everything is read from stored predictions and files.

Rule, on the number that the method's spec names (task, protocol, label fraction, metric, direction):

- against a champion, the lower end of the paired 95 % patient interval of challenger - champion is above `gate.margin`;
- without one, the lower end of the paired interval of challenger - its random-initialised twin is above 0;
- no subgroup (sex, age band) falls behind the champion by more than `gate.subgroup_margin`;
- the macro calibration error exceeds the champion's by at most `gate.calibration_margin`; not asked for of tasks that are numbers;
- all blocking checks are green, no test patient was trained on, and the bundle is what its SHA256SUMS says.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from assets.bundles import WEIGHTS, BundleError, bundle_sums, verify_bundle
from assets.scoring import LOGIT_PROTOCOLS, Person, ScoringError, align, compare, probabilities, ranked, subgroups
from models.errors import ConfigurationError
from models.predictions import Predictions
from models.spec import GateRule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.metrics.bootstrap import Interval

METRICS = ("macro_auroc", "macro_auprc", "mae")
ERRORS = ("mae",)
"""Of numbers, in their unit, smaller is better; margins are then shares of the champion's error."""

MIN_SUBGROUP_PATIENTS = 20
MIN_SUBGROUP_LABELS = 5
"""A class counts in a subgroup with this many positives and negatives; below it the difference of two models is noise."""


@dataclass(frozen=True)
class GateMargins:
    """Section `gate` of params.yaml.

    Attributes:
        margin: what a challenger must gain over the champion; below zero it is a loss that is tolerated. Of a task that is a number
            a share of the champion's error.
        subgroup_margin: the largest loss in a subgroup, likewise.
        calibration_margin: the largest rise of the macro calibration error.
    """

    margin: float = 0.0
    subgroup_margin: float = 0.05
    calibration_margin: float = 0.02

    @classmethod
    def load(cls, path: Path) -> GateMargins:
        """Read the section `gate` of a params file; entries that are not there keep their default.

        Raises:
            ConfigurationError: the file cannot be read, or the section holds an unknown entry or no finite number.
        """
        try:
            raw = (yaml.safe_load(path.read_text()) or {}).get("gate") or {}
        except (OSError, yaml.YAMLError, AttributeError) as error:
            raise ConfigurationError(f"{path} cannot be read as parameters ({error})") from error
        known = [f.name for f in dataclasses.fields(cls)]
        for name, value in raw.items():
            if name not in known:
                raise ConfigurationError(f"{path}: gate.{name} is unknown; known are {', '.join(known)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ConfigurationError(f"{path}: gate.{name} is {value!r}; it must be a number")
            if name != "margin" and value < 0:
                raise ConfigurationError(f"{path}: gate.{name} is {value}; it must not be negative")
        return cls(**{name: float(value) for name, value in raw.items()})


@dataclass(frozen=True)
class Contender:
    """A registered version at the gate.

    Attributes:
        label: how messages call it, for example "merl.ptb_xl version 3".
        bundle_sha256: hash of its bundle as registered.
        predictions: the table that the gate's rule names, arm "pretrained".
        random_init: the same table of the random-initialised twin; only needed where there is no champion.
    """

    label: str
    bundle_sha256: str
    predictions: Predictions
    random_init: Predictions | None = None


@dataclass(frozen=True)
class Reason:
    """One condition: what was asked, whether it held, and the numbers it was decided on."""

    name: str
    passed: bool
    message: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GateDecision:
    """What the gate says about a challenger.

    Attributes:
        passed: whether it may be champion.
        reasons: every condition, in the order it was looked at.
        challenger_sha256: hash of the bundle that was judged.
        champion_sha256: hash of the bundle it was judged against, or None.
        already_champion: the challenger is the champion itself; there is nothing to promote.
    """

    passed: bool
    reasons: tuple[Reason, ...]
    challenger_sha256: str
    champion_sha256: str | None = None
    already_champion: bool = False

    @property
    def message(self) -> str:
        """One sentence for people; a refusal names every condition that failed."""
        if self.already_champion:
            return "already champion: the challenger has the same bundle"
        if self.passed:
            return "passed: " + next(r.message for r in self.reasons if r.name == "better")
        return "refused: " + "; ".join(r.message for r in self.reasons if not r.passed)

    def as_json(self) -> dict[str, Any]:
        """The decision as plain JSON values; numbers that are not finite become null."""
        return cast(dict[str, Any], _finite({**dataclasses.asdict(self), "message": self.message}))


def decide(
    rule: GateRule,
    challenger: Contender,
    champion: Contender | None,
    *,
    bundle: Path,
    checks: Mapping[str, bool],
    leaked_patients: int,
    people: Mapping[str, Person],
    test_folds: Sequence[int],
    margins: GateMargins,
    n_resamples: int = 1000,
    seed: int = 0,
) -> GateDecision:
    """Judge a challenger.

    Args:
        rule: the number that counts, from the method's spec.
        challenger: the version that wants the title.
        champion: the version that holds it, or None.
        bundle: the challenger's bundle folder.
        checks: every blocking check upstream and whether it passed.
        leaked_patients: number of test patients that the encoder or its head was trained on.
        people: sex and age of every test record, by record id.
        test_folds: the folds that judge.
        margins: from params.yaml.
        n_resamples: patient resamples behind every interval.
        seed: of the resamples.

    Raises:
        ConfigurationError: the rule names a metric that the gate cannot compute, or not of such a task, or the wrong direction.
        ScoringError: a table has no test records, or a record has no entry in `people`.
    """
    if rule.metric not in METRICS:
        raise ConfigurationError(f"the gate cannot judge {rule.metric!r}; choose one of {', '.join(METRICS)}")
    is_error, numbers = rule.metric in ERRORS, challenger.predictions.numbers
    if is_error != numbers or (is_error and rule.direction == "higher"):
        kind = "a number" if numbers else "about classes"
        raise ConfigurationError(
            f"the gate cannot judge task {rule.task!r}, which is {kind}, by {rule.metric}, {rule.direction} being better; correct the method's gate"
        )
    if champion is not None and champion.bundle_sha256 == challenger.bundle_sha256:
        same = Reason(
            "already_champion", True, f"{challenger.label} has the bundle of the champion", {"bundle_sha256": challenger.bundle_sha256}
        )
        return GateDecision(True, (same,), challenger.bundle_sha256, champion.bundle_sha256, already_champion=True)

    named = _rule(rule, challenger, champion)
    reasons = [_checks(checks), _leakage(leaked_patients), _bundle(challenger, bundle), named]
    comparable = _same_records(challenger, champion, test_folds)
    reasons.append(comparable)
    if comparable.passed and named.passed:
        reasons.append(_better(rule, challenger, champion, test_folds, margins, n_resamples, seed))
        if champion is not None:
            reasons.append(_subgroups(rule, challenger, champion, people, test_folds, margins))
            reasons.append(_calibration(rule, challenger, champion, test_folds, margins))
    passed = all(r.passed for r in reasons)
    return GateDecision(passed, tuple(reasons), challenger.bundle_sha256, champion.bundle_sha256 if champion else None)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _checks(checks: Mapping[str, bool]) -> Reason:
    failed = sorted(name for name, passed in checks.items() if not passed)
    if not checks:
        return Reason(
            "checks", False, "no blocking check has been run on what the challenger was made from; materialise it with its checks"
        )
    message = (
        f"{len(failed)} of {len(checks)} blocking checks failed: {', '.join(failed)}"
        if failed
        else f"all {len(checks)} blocking checks passed"
    )
    return Reason("checks", not failed, message, {"failed": failed, "n_checks": len(checks)})


def _leakage(leaked_patients: int) -> Reason:
    message = "no test patient was trained on"
    if leaked_patients:
        message = f"{leaked_patients} test patients were trained on, so the numbers say nothing about new patients; split by patient and train again"
    return Reason("leakage", leaked_patients == 0, message, {"leaked_patients": leaked_patients})


def _bundle(challenger: Contender, folder: Path) -> Reason:
    try:
        found, weights = verify_bundle(folder), bundle_sums(folder)[WEIGHTS]
    except BundleError as error:
        return Reason("bundle", False, str(error))
    judged = challenger.predictions.origin.encoder_sha256
    values = {"bundle_sha256": found, "weights_sha256": weights, "judged_weights_sha256": judged}
    if found != challenger.bundle_sha256:
        message = f"the bundle has hash {found[:12]}, but {challenger.bundle_sha256[:12]} was registered; register the bundle that is there"
    elif judged != weights:
        message = f"the predictions come from weights {judged[:12]}, but the bundle holds {weights[:12]}; evaluate this bundle"
    else:
        return Reason("bundle", True, f"the bundle is the registered one ({found[:12]}) and the one that was judged", values)
    return Reason("bundle", False, message, values)


def matches(rule: GateRule, table: Predictions) -> bool:
    """Whether a table is the one that a gate rule names; the task may be written with or without its dataset."""
    origin = table.origin
    about = rule.task in (origin.task, f"{origin.dataset}/{origin.task}")
    return about and (rule.protocol, rule.fraction, None) == (origin.protocol, origin.fraction, origin.channels)


def _rule(rule: GateRule, challenger: Contender, champion: Contender | None) -> Reason:
    tables = [(c.label, c.predictions) for c in (challenger, champion) if c is not None]
    if champion is None and challenger.random_init is not None:
        tables.append((f"{challenger.label}, random-initialised", challenger.random_init))
    wanted = f"task {rule.task}, {rule.protocol}" + ("" if rule.fraction is None else f", {rule.fraction:.0%} of labels")
    wrong = [f"{label} by {table.origin.slug}" for label, table in tables if not matches(rule, table)]
    message = f"judged by {wanted}" + (f", but {', '.join(wrong)}; pass the table that the rule names" if wrong else "")
    return Reason("rule", not wrong, message, {"wanted": wanted, "wrong": wrong})


def _same_records(challenger: Contender, champion: Contender | None, test_folds: Sequence[int]) -> Reason:
    other = champion.predictions if champion else challenger.random_init
    if other is None:
        message = f"{challenger.label} has neither a champion nor a random-initialised twin to be compared with; evaluate its twin"
        return Reason("same_records", False, message)
    folds = tuple(test_folds)
    against = champion.label if champion else "the random-initialised twin"
    try:
        ours, _ = align(challenger.predictions.folds(folds), other.folds(folds))
    except ScoringError as error:
        return Reason("same_records", False, f"{challenger.label} and {against} cannot be compared: {error}")
    n = len(ours.record_id)
    message = f"{challenger.label} and {against} are judged on the same {n} records"
    return Reason("same_records", n > 0, message if n else "there is no test record to judge on", {"n_records": n})


def _better(
    rule: GateRule, challenger: Contender, champion: Contender | None, test_folds: Sequence[int], margins: GateMargins, n: int, seed: int
) -> Reason:
    other = champion.predictions if champion else cast(Predictions, challenger.random_init)
    pair = (challenger.predictions, other) if rule.direction == "higher" else (other, challenger.predictions)
    gain: Interval = compare(*pair, test_folds, metric=rule.metric, seed=seed, n_resamples=n)
    need = margins.margin if champion else 0.0
    if rule.metric in ERRORS and champion:
        need *= _error(champion.predictions.folds(tuple(test_folds)))
    passed = bool(gain.low > need)
    against = champion.label if champion else "its random-initialised twin"
    verdict = "is better than" if passed else "is not shown to be better than"
    differs = "is smaller by" if rule.direction == "lower" else "differs by"
    message = (
        f"{challenger.label} {verdict} {against}: {rule.metric} {differs} {gain.value:+.4f}, 95 % interval {gain.low:+.4f} to {gain.high:+.4f} "
        f"over {gain.n_patients} patients; the lower end must be above {need:+.4f}"
    )
    return Reason("better", passed, message, {**dataclasses.asdict(gain), "metric": rule.metric, "needed": need, "against": against})


def _subgroups(
    rule: GateRule,
    challenger: Contender,
    champion: Contender,
    people: Mapping[str, Person],
    test_folds: Sequence[int],
    margins: GateMargins,
) -> Reason:
    folds = tuple(test_folds)
    ours, theirs = map(ranked, align(challenger.predictions.folds(folds), champion.predictions.folds(folds)))
    changes: dict[str, float] = {}
    small: list[str] = []
    for group, mask in subgroups(ours.record_id.tolist(), people).items():
        enough = len(set(ours.patient_id[mask].tolist())) >= MIN_SUBGROUP_PATIENTS
        change = _change(rule, ours, theirs, mask) if enough else None
        if change is None:
            small.append(group)
        else:
            changes[group] = change
    worse = {g: v for g, v in changes.items() if v < -margins.subgroup_margin}
    if worse:
        listed = ", ".join(f"{g} {v:+.4f}" for g, v in worse.items())
        message = f"{challenger.label} loses more than {margins.subgroup_margin:.4f} in {rule.metric} against {champion.label} in {listed}"
    else:
        message = f"none of {len(changes)} subgroups loses more than {margins.subgroup_margin:.4f} in {rule.metric}"
    if small:
        message += f" (too few patients or labels to judge: {', '.join(small)})"
    return Reason("subgroups", not worse, message, {"changes": changes, "too_small": small, "allowed": margins.subgroup_margin})


def _change(rule: GateRule, ours: Predictions, theirs: Predictions, mask: NDArray[np.bool_]) -> float | None:
    """What is gained in a subgroup, of an error as a share of the champion's; None where too few labels say so."""
    import numpy as np

    from models.metrics.classification import auprc_per_class, auroc_per_class

    if rule.metric in ERRORS:
        one, other = _error(ours, mask), _error(theirs, mask)
        return (other - one) / other if other else -float(one > 0)
    per_class = auroc_per_class if rule.metric == "macro_auroc" else auprc_per_class
    labels = ours.labels_NC[mask]
    columns = np.flatnonzero(np.minimum((labels == 1).sum(axis=0), (labels == 0).sum(axis=0)) >= MIN_SUBGROUP_LABELS)
    if not len(columns):
        return None
    one, other = (float(per_class(t.scores_NC[mask][:, columns], labels[:, columns]).mean()) for t in (ours, theirs))
    return one - other if rule.direction == "higher" else other - one


def _error(table: Predictions, mask: NDArray[np.bool_] | None = None) -> float:
    """Mean absolute error of some records."""
    from models.metrics.regression import errors

    rows = slice(None) if mask is None else mask
    return errors(table.scores_NC[rows, 0], table.labels_NC[rows, 0])["mae"]


def _calibration(rule: GateRule, challenger: Contender, champion: Contender, test_folds: Sequence[int], margins: GateMargins) -> Reason:
    from models.metrics.calibration import calibration_error_per_class

    if challenger.predictions.numbers:
        return Reason("calibration", True, "not asked for: the task is a number, which has no probability")
    if rule.protocol not in LOGIT_PROTOCOLS:
        return Reason("calibration", True, f"not asked for: {rule.protocol} scores are similarities, not probabilities")
    tables = [c.predictions.folds(tuple(test_folds)) for c in (challenger, champion)]
    ours, theirs = (float(calibration_error_per_class(probabilities(t), t.labels_NC).mean()) for t in tables)
    passed = ours <= theirs + margins.calibration_margin
    message = (
        f"the macro calibration error of {challenger.label} is {ours:.4f}, that of {champion.label} {theirs:.4f}; "
        f"{'within' if passed else 'above'} the allowed rise of {margins.calibration_margin:.4f}"
    )
    return Reason("calibration", passed, message, {"challenger": ours, "champion": theirs, "allowed": margins.calibration_margin})
