"""All blocking checks by stage, and how one is run: once a data version, with a verdict whatever happens."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from assets import settings, verdicts
from assets.access import Access
from assets.dataset import Dataset
from assets.outputs import Output, Workspace, digest, locked
from assets.verdicts import Verdict
from data_checks.cleaned import check_duplicates, check_index, check_quarantine
from data_checks.context import CheckContext, dataset_of
from data_checks.cross_modality import check_matrix
from data_checks.cross_validation import check_folds
from data_checks.encoder import check_bundle
from data_checks.evaluation import check_metrics
from data_checks.head import check_predictions
from data_checks.labels import check_labels
from data_checks.pairing import check_samples, check_split
from data_checks.privacy import check_headers, check_report_privacy
from data_checks.prompts import check_prompts
from data_checks.questions import check_questions
from data_checks.raw import check_manifest, check_patient_leakage
from data_checks.reports import check_reports
from data_checks.transfer import check_transfer
from models.errors import ConfigurationError, EinthovenError

VERSION = "1"
"""Raised by hand whenever a check changes what it accepts, so that stored verdicts are not taken for the new check's."""


@dataclass(frozen=True)
class Check:
    """A blocking check.

    Attributes:
        run: adds what it finds to the context's findings and returns the sentence for an output without problems.
    """

    name: str
    run: Callable[[CheckContext], str]

    @property
    def description(self) -> str:
        """What holds when it passes, in a sentence."""
        return (self.run.__doc__ or "").strip().splitlines()[0]


def check_panels(c: CheckContext) -> str:
    """Lab panels hold the first values of the window; their percentiles come from the training part alone."""
    from data_checks import pairing_panels  # imports numpy, which definitions do without

    return pairing_panels.check_panels(c)


CHECKS: Mapping[str, tuple[Check, ...]] = {
    "raw": (Check("manifest", check_manifest), Check("patient_leakage", check_patient_leakage), Check("privacy", check_headers)),
    "cleaned": (Check("index", check_index), Check("quarantine", check_quarantine), Check("duplicates", check_duplicates)),
    "labels": (Check("labels", check_labels),),
    "reports": (Check("reports", check_reports), Check("privacy", check_report_privacy)),
    "questions": (Check("questions", check_questions),),
    "prompts": (Check("prompts", check_prompts),),
    "pairing": (Check("samples", check_samples), Check("split", check_split), Check("panels", check_panels)),
    **{stage: (Check("bundle", check_bundle),) for stage in (*verdicts.FIRST_STAGES, "encoder")},
    "head": (Check("predictions", check_predictions),),
    "evaluation": (Check("metrics", check_metrics),),
    "transfer": (Check("transfer", check_transfer),),
    "cross_validation": (Check("folds", check_folds),),
    "cross_modality": (Check("matrix", check_matrix),),
}


def run_check(workspace: Workspace, output: Output, name: str) -> Verdict:
    """The verdict of a check about an output: the stored one of this data version, or a new one, which is stored.

    A stored verdict counts as long as neither the check nor the dataset's declaration (split, leads, limits) has changed
    since, and the check did not crash.

    Raises:
        ConfigurationError: the stage has no check of that name.
    """
    check = next((c for c in CHECKS.get(output.key.stage, ()) if c.name == name), None)
    if check is None:
        known = ", ".join(c.name for c in CHECKS.get(output.key.stage, ())) or "none"
        raise ConfigurationError(f"stage {output.key.stage!r} has no check {name!r}; it has {known}")
    with locked(workspace.root / "checks" / output.key.path / f".lock-{name}"):
        stored = verdicts.load(workspace, output, name)
        if stored is not None and stored.details.get("basis") == _basis(output) and not stored.details.get("crashed"):
            return stored
        verdict = _judge(workspace, output, check)
        verdicts.save(workspace, output, verdict)
        return verdict


def run_checks(workspace: Workspace, output: Output) -> list[Verdict]:
    """The verdicts of all blocking checks of an output."""
    return [run_check(workspace, output, c.name) for c in CHECKS.get(output.key.stage, ())]


def _judge(workspace: Workspace, output: Output, check: Check) -> Verdict:
    context = CheckContext(workspace, output, check.name)
    try:
        passed = check.run(context)
    except EinthovenError as error:
        context.findings.fail(str(error))
        passed = ""
    except Exception as error:  # whatever goes wrong, there is a verdict, and it is not a pass
        context.findings.facts |= {"crashed": True, "traceback": _last_line(error, output.access)}
        context.findings.fail(
            f"check {check.name!r} crashed on {output.key} with {context.findings.facts['traceback']}; report this, then run the check again"
        )
        passed = ""
    context.findings.facts["basis"] = _basis(output)
    return context.findings.verdict(check.name, passed)


def _last_line(error: Exception, access: Access) -> str:
    """Type, message and place of an exception; no message where it may quote restricted values."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    said = traceback.format_exception_only(error)[-1].strip() if access is Access.OPEN else type(error).__name__
    return f"{said}{place}"


def _basis(output: Output) -> str:
    """Hash of everything besides the data that a verdict depends on."""
    return digest({"version": VERSION, "declaration": _declaration(dataset_of(output.key))})[:16]


def _declaration(dataset: type[Dataset] | None) -> list[object]:
    if dataset is None:
        return []
    split = dataset.split
    folds = [list(split.train), list(split.validation), list(split.test)]
    accepted = list(settings.load().accepted_identifiers.get(dataset.name, ()))
    return [dataset.name, dataset.version, list(dataset.leads), list(dataset.task_names), folds, dataset.quarantine_limit, accepted]
