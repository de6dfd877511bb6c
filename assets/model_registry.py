"""Registered encoder versions in MLflow, and who holds the title of champion.

A version is an encoder bundle (safetensors and JSON files, nothing pickled), known by the bundle's hash. Aliases say what it
is: `challenger`, `champion`, `previous`. The title moves by compare-and-set under a lock of the workspace: an intent is
written to the audit trail, then the alias is set, then the rest is tidied and the trail says done. A process killed in
between leaves an open intent, which the next promotion or rollback first settles by looking at the alias.

MLflow itself offers no compare-and-set, so all promotions of a registry must go through one workspace.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from assets.access import Access
from assets.audit import append_audit, verify_audit
from assets.bundles import verify_bundle
from assets.gate import GateDecision
from assets.outputs import locked
from assets.settings import Settings
from assets.tracking import BUNDLE_PATH, WITHHELD, TrackedRun, client, explained, withheld
from models.errors import EinthovenError

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
BUNDLE_SHA256 = "einthoven.bundle_sha256"
LOCAL_BUNDLE = "einthoven.local_bundle"


class RegistryError(EinthovenError):
    """A registered model or version that is missing, or does not fit what was asked of it."""


class PromotionConflictError(RegistryError):
    """Somebody else changed the champion since the decision was made."""


class PromotionRefusedError(RegistryError):
    """The gate did not let the version pass."""


@dataclass(frozen=True)
class Registered:
    """A version of a registered model.

    Attributes:
        created: True where this call made the version, False where it was there.
    """

    name: str
    version: int
    run_id: str
    tags: dict[str, str] = field(default_factory=dict)
    created: bool = False

    @property
    def bundle_sha256(self) -> str:
        """Hash of the bundle as registered."""
        return self.tags[BUNDLE_SHA256]


@dataclass(frozen=True)
class Promotion:
    """Who holds the title after a promotion or rollback.

    Attributes:
        version: the champion now.
        previous: the champion before, or None.
        changed: False where the version was champion already.
    """

    name: str
    version: int
    previous: int | None
    changed: bool


def audit_path(settings: Settings) -> Path:
    """The audit trail of all registered models of a workspace."""
    return settings.home / "registry" / "audit.jsonl"


def champion(settings: Settings, name: str) -> Registered | None:
    """The version that holds the title, or None."""
    return _by_alias(settings, name, CHAMPION)


def champion_by_trail(settings: Settings, name: str) -> int | None:
    """The version that holds the title as the audit trail has it, without asking MLflow.

    Raises:
        AuditError: the trail was altered.
    """
    titles = _titles(verify_audit(audit_path(settings)), name)
    return titles[-1] if titles else None


def rolled_back(settings: Settings, name: str) -> set[int]:
    """Versions that lost the title by a rollback and have not been promoted again since.

    Raises:
        AuditError: the trail was altered.
    """
    versions: set[int] = set()
    for entry in verify_audit(audit_path(settings)):
        if entry["name"] == name and entry["event"] == "done":
            versions.discard(entry["version"])
            if entry["action"] == "rollback":
                versions.add(entry["previous"])
    return versions


def challenger(settings: Settings, name: str) -> Registered | None:
    """The version that was registered last and has not been promoted, or None."""
    return _by_alias(settings, name, CHALLENGER)


def register_challenger(
    settings: Settings, name: str, *, run: TrackedRun, bundle: Path, access: Access, tags: Mapping[str, str], description: str = ""
) -> Registered:
    """Register the bundle that a run logged and call it challenger; a bundle registered before is found again.

    Args:
        settings: where MLflow is.
        name: registered model, for example "merl.synthetic".
        run: the run whose files hold the bundle.
        bundle: the same bundle in the workspace.
        access: class of the bundle.
        tags: anything that should be found with the version: data version, where its predictions are, ...
        description: Markdown shown in MLflow.

    Raises:
        BundleError: the bundle is not what its SHA256SUMS says.
        TrackingError: MLflow cannot be reached or refused.
    """
    sha256 = verify_bundle(bundle)
    inside = bundle.absolute().is_relative_to(settings.home.absolute())
    own = {
        BUNDLE_SHA256: sha256,
        "einthoven.access": str(access),
        LOCAL_BUNDLE: str(bundle.absolute().relative_to(settings.home.absolute())) if inside else "",
    }
    if not run.logged_artifacts:
        own[WITHHELD] = withheld(settings, access)
    with _changing(settings) as mlflow:
        _make_model(mlflow, name)
        found = next((v for v in mlflow.search_model_versions(f"name = '{name}'") if v.tags.get(BUNDLE_SHA256) == sha256), None)
        version = found or mlflow.create_model_version(
            name, source=f"{run.artifact_uri}/{BUNDLE_PATH}", run_id=run.run_id, tags={**tags, **own}, description=description or None
        )
        if _aliases(mlflow, name).get(CHAMPION) != int(version.version):
            mlflow.set_registered_model_alias(name, CHALLENGER, str(version.version))
        return _registered(version, created=found is None)


def fetch_bundle(settings: Settings, version: Registered, destination: Path) -> Path:
    """Bring the bundle of a version into a folder that does not exist yet, and verify it.

    Raises:
        RegistryError: the files were kept back and this workspace does not have them, or are not those registered.
        BundleError: a file is missing or altered.
    """
    if destination.exists():
        raise RegistryError(f"{destination} exists already; name a new folder for the bundle of {version.name} version {version.version}")
    if version.tags.get(WITHHELD):
        local = settings.home / version.tags[LOCAL_BUNDLE]
        if not version.tags[LOCAL_BUNDLE] or not local.is_dir():
            raise RegistryError(
                f"the bundle of {version.name} version {version.version} was not sent to MLflow ({version.tags[WITHHELD]}) and is not in "
                f"{settings.home}; fetch it in the workspace that trained it"
            )
        shutil.copytree(local, destination)
    else:
        with explained(settings):
            downloads = destination.with_name(f".{destination.name}.download")
            shutil.rmtree(downloads, ignore_errors=True)
            downloads.mkdir(parents=True)
            Path(client(settings).download_artifacts(version.run_id, BUNDLE_PATH, str(downloads))).rename(destination)
            shutil.rmtree(downloads)
    if verify_bundle(destination) != version.bundle_sha256:
        raise RegistryError(
            f"{destination} is not the bundle that {version.name} version {version.version} was registered with; register it again"
        )
    return destination


def promote(settings: Settings, name: str, version: int, *, expected_champion: int | None, actor: str, decision: GateDecision) -> Promotion:
    """Make a version champion if the champion is still the one that the gate compared it with.

    Args:
        settings: where MLflow and the workspace are.
        name: registered model.
        version: the version to promote.
        expected_champion: the champion's version when the decision was made, None if there was none.
        actor: who does this, for the trail.
        decision: what the gate said about this version.

    Raises:
        PromotionRefusedError: the gate refused.
        PromotionConflictError: the champion is another one by now; judge again.
        RegistryError: no such version, or the decision is about another bundle.
    """
    if not decision.passed:
        raise PromotionRefusedError(f"{name} version {version} stays challenger. {decision.message}")
    with _changing(settings) as mlflow:
        current = _aliases(mlflow, name).get(CHAMPION)
        if current != expected_champion:
            raise PromotionConflictError(
                f"the champion of {name} is {_called(current)}, but {_called(expected_champion)} was expected; put version {version} through the gate again"
            )
        wanted = _version(mlflow, name, version)
        held = _version(mlflow, name, current).bundle_sha256 if current is not None else None
        if (wanted.bundle_sha256, held) != (decision.challenger_sha256, decision.champion_sha256):
            raise RegistryError(
                f"the gate judged bundle {decision.challenger_sha256[:12]} against {str(decision.champion_sha256)[:12]}, but {name} version {version} is "
                f"{wanted.bundle_sha256[:12]} and the champion {str(held)[:12]}; put it through the gate again"
            )
        if current is not None and wanted.bundle_sha256 == held:
            return Promotion(name, current, current, changed=False)
        return _move(settings, mlflow, "promote", wanted, current, actor, decision.message)


def rollback(settings: Settings, name: str, *, actor: str, reason: str) -> Promotion:
    """Give the title back to the champion before the present one, as the audit trail has it.

    Raises:
        RegistryError: there is no earlier champion, its version is gone, or the alias was moved outside Einthoven.
        AuditError: the trail was altered.
    """
    with _changing(settings) as mlflow:
        current, titles = _aliases(mlflow, name).get(CHAMPION), _titles(verify_audit(audit_path(settings)), name)
        if (titles[-1] if titles else None) != current:
            raise RegistryError(
                f"the champion of {name} is {_called(current)}, but the audit trail ends with {_called(titles[-1] if titles else None)}: the alias was "
                "moved by other means; set it back in MLflow, or promote through the gate"
            )
        if len(titles) < 2:
            raise RegistryError(f"{name} has no earlier champion to go back to; promote another version")
        return _move(settings, mlflow, "rollback", _version(mlflow, name, titles[-2]), current, actor, reason)


@contextmanager
def _changing(settings: Settings) -> Iterator[Any]:
    """Hold the lock of the registry, with what a killed process left open settled."""
    mlflow = client(settings)
    with locked(settings.home / "registry" / ".lock"), explained(settings):
        for intent in _open_intents(verify_audit(audit_path(settings))):
            if _aliases(mlflow, intent["name"]).get(CHAMPION) == intent["version"]:
                _settle(settings, mlflow, intent)
            else:
                append_audit(audit_path(settings), {**_closing(intent), "event": "abandoned"})
        yield mlflow


def _move(settings: Settings, mlflow: Any, action: str, to: Registered, current: int | None, actor: str, reason: str) -> Promotion:
    intent = {
        "event": "intent",
        "id": uuid4().hex,
        "action": action,
        "name": to.name,
        "version": to.version,
        "previous": current,
        "bundle_sha256": to.bundle_sha256,
        "actor": actor,
        "reason": reason,
    }
    append_audit(audit_path(settings), intent)
    mlflow.set_registered_model_alias(to.name, CHAMPION, str(to.version))
    _settle(settings, mlflow, intent)
    return Promotion(to.name, to.version, current, changed=True)


def _settle(settings: Settings, mlflow: Any, intent: Mapping[str, Any]) -> None:
    """Everything that follows from a champion alias that has been set; may be done twice."""
    name, done = intent["name"], {**_closing(intent), "event": "done"}
    aliases = _aliases(mlflow, name)
    titles = _titles([*verify_audit(audit_path(settings)), done], name)
    if len(titles) > 1:
        mlflow.set_registered_model_alias(name, PREVIOUS, str(titles[-2]))
    elif PREVIOUS in aliases:
        mlflow.delete_registered_model_alias(name, PREVIOUS)
    if aliases.get(CHALLENGER) == intent["version"]:
        mlflow.delete_registered_model_alias(name, CHALLENGER)
    append_audit(audit_path(settings), done)


def _closing(intent: Mapping[str, Any]) -> dict[str, Any]:
    return {k: intent[k] for k in ("action", "name", "version", "previous", "bundle_sha256", "actor")} | {"intent": intent["id"]}


def _open_intents(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Intents that neither a done nor an abandoned line refers to."""
    closed = {e["intent"] for e in entries if e["event"] != "intent"}
    return [e for e in entries if e["event"] == "intent" and e["id"] not in closed]


def _titles(entries: list[dict[str, Any]], name: str) -> list[int]:
    """The champions that a rollback would go back through, the present one last."""
    titles: list[int] = []
    for entry in entries:
        if entry["name"] == name and entry["event"] == "done":
            if entry["action"] == "rollback":
                titles.pop()
            else:
                if entry["previous"] is not None and titles[-1:] != [entry["previous"]]:
                    titles.append(entry["previous"])  # its alias was set by other means
                titles.append(entry["version"])
    return titles


def _make_model(mlflow: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _aliases(mlflow: Any, name: str) -> dict[str, int]:
    """Alias -> version; empty for a model that does not exist. (Searching for versions returns no aliases.)"""
    from mlflow.exceptions import MlflowException

    try:
        return {alias: int(version) for alias, version in mlflow.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def _by_alias(settings: Settings, name: str, alias: str) -> Registered | None:
    with explained(settings):
        mlflow = client(settings)
        version = _aliases(mlflow, name).get(alias)
        return None if version is None else _version(mlflow, name, version)


def _version(mlflow: Any, name: str, version: int) -> Registered:
    from mlflow.exceptions import MlflowException

    try:
        return _registered(mlflow.get_model_version(name, str(version)))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise RegistryError(f"{name} has no version {version} ({error.message}); register it first") from error


def _registered(version: Any, created: bool = False) -> Registered:
    if BUNDLE_SHA256 not in version.tags:
        raise RegistryError(
            f"{version.name} version {version.version} has no tag {BUNDLE_SHA256}: it was not registered by Einthoven; register a bundle"
        )
    return Registered(version.name, int(version.version), version.run_id or "", dict(version.tags), created)


def _called(version: int | None) -> str:
    return "nobody" if version is None else f"version {version}"
