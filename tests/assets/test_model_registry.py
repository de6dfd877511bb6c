"""Registering, promoting and rolling back in a real SQLite MLflow; races, kills at every step, and the audit trail."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assets import model_registry as registry
from assets.access import Access
from assets.audit import AuditError, append_audit, verify_audit
from assets.bundles import BundleError
from assets.gate import GateDecision, Reason
from assets.model_registry import PromotionConflictError, PromotionRefusedError, Registered, RegistryError
from assets.settings import PROJECT, Settings
from assets.tracking import client, ensure_database, log_training

NAME = "merl.synthetic"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose tracking database has its schema; made once, since that takes seconds."""
    home = tmp_path_factory.mktemp("template") / "home"
    home.mkdir()
    ensure_database(Settings(home=home))
    return home


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> Settings:
    shutil.copytree(template, tmp_path / "home")
    return Settings(home=tmp_path / "home")


def register(settings: Settings, content: str, access: Access = Access.OPEN) -> Registered:
    bundle = settings.home / "encoder" / content / "bundle"
    if not bundle.exists():
        bundle.mkdir(parents=True)
        (bundle / "weights.safetensors").write_text(content)
        (bundle / "config.json").write_text("{}")
        names = ("config.json", "weights.safetensors")
        (bundle / "SHA256SUMS").write_text("".join(f"{hashlib.sha256((bundle / n).read_bytes()).hexdigest()}  {n}\n" for n in names))
    run = log_training(
        settings,
        experiment=NAME,
        run_name=content,
        params={},
        metrics_rows=[],
        figures=[],
        dataset_inputs=[],
        bundle=bundle,
        access=access,
        tags={"einthoven.data_version": content},
    )
    return registry.register_challenger(settings, NAME, run=run, bundle=bundle, access=access, tags={"einthoven.data_version": content})


def passed(challenger: Registered, champion: Registered | None) -> GateDecision:
    reason = Reason("better", True, "it is better")
    return GateDecision(True, (reason,), challenger.bundle_sha256, champion.bundle_sha256 if champion else None)


def promote(settings: Settings, version: Registered, champion: Registered | None) -> registry.Promotion:
    expected = champion.version if champion else None
    return registry.promote(settings, NAME, version.version, expected_champion=expected, actor="ada", decision=passed(version, champion))


def aliases(settings: Settings) -> dict[str, int]:
    return {k: int(v) for k, v in client(settings).get_registered_model(NAME).aliases.items()}


def events(settings: Settings) -> list[tuple[str, str, int]]:
    return [(e["event"], e["action"], e["version"]) for e in verify_audit(registry.audit_path(settings))]


def test_registering_is_idempotent_by_bundle(settings: Settings) -> None:
    first = register(settings, "one")
    again = register(settings, "one")
    assert (first.version, first.created, again.version, again.created) == (1, True, 1, False)
    second = register(settings, "two")
    assert second.version == 2
    assert registry.challenger(settings, NAME) == Registered(NAME, 2, second.run_id, second.tags)
    assert second.tags["einthoven.data_version"] == "two"
    assert registry.champion(settings, NAME) is None
    register(settings, "one")
    assert aliases(settings) == {"challenger": 1}


def test_the_champion_is_no_challenger_when_registered_again(settings: Settings) -> None:
    one = register(settings, "one")
    promote(settings, one, None)
    register(settings, "one")
    assert aliases(settings) == {"champion": 1}


def test_an_unknown_model_has_no_champion(settings: Settings) -> None:
    assert registry.champion(settings, "melp.synthetic") is None


def test_fetched_bundle_is_bit_identical(settings: Settings, tmp_path: Path) -> None:
    one = register(settings, "one")
    promote(settings, one, None)
    champion = registry.champion(settings, NAME)
    assert champion is not None
    folder = registry.fetch_bundle(settings, champion, tmp_path / "serving" / "bundle")
    source = settings.home / "encoder" / "one" / "bundle"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in source.iterdir()}
    assert [p.name for p in folder.parent.iterdir()] == ["bundle"]
    with pytest.raises(RegistryError, match="exists already"):
        registry.fetch_bundle(settings, champion, folder)


def test_an_altered_artifact_is_not_handed_out(settings: Settings, tmp_path: Path) -> None:
    one = register(settings, "one")
    (stored,) = (settings.home / "mlartifacts").rglob("weights.safetensors")
    stored.write_text("altered")
    with pytest.raises(BundleError, match=r"weights\.safetensors has SHA-256"):
        registry.fetch_bundle(settings, one, tmp_path / "bundle")


class Elsewhere(Settings):
    """A tracking database that counts as a server off this machine."""

    @property
    def tracking_is_local(self) -> bool:
        return False


def test_a_bundle_kept_back_is_fetched_from_the_workspace(settings: Settings, tmp_path: Path) -> None:
    remote = Elsewhere(home=settings.home)
    one = register(remote, "one", Access.CREDENTIALED)
    assert not list((settings.home / "mlartifacts").rglob("weights.safetensors"))
    assert one.tags["einthoven.local_bundle"] == "encoder/one/bundle"
    folder = registry.fetch_bundle(remote, one, tmp_path / "bundle")
    assert (folder / "weights.safetensors").read_text() == "one"
    shutil.rmtree(settings.home / "encoder")
    with pytest.raises(RegistryError, match="fetch it in the workspace that trained it"):
        registry.fetch_bundle(remote, one, tmp_path / "other")


def test_the_title_passes_on_and_back(settings: Settings) -> None:
    one, two = register(settings, "one"), register(settings, "two")
    assert promote(settings, one, None) == registry.Promotion(NAME, 1, None, True)
    assert aliases(settings) == {"champion": 1, "challenger": 2}
    assert promote(settings, two, one) == registry.Promotion(NAME, 2, 1, True)
    assert aliases(settings) == {"champion": 2, "previous": 1}
    three = register(settings, "three")
    promote(settings, three, two)
    assert registry.champion_by_trail(settings, NAME) == 3
    assert registry.rollback(settings, NAME, actor="ada", reason="alarms") == registry.Promotion(NAME, 2, 3, True)
    assert registry.champion_by_trail(settings, NAME) == 2
    assert registry.rolled_back(settings, NAME) == {3}
    assert aliases(settings) == {"champion": 2, "previous": 1}
    assert registry.rollback(settings, NAME, actor="ada", reason="more alarms").version == 1
    assert aliases(settings) == {"champion": 1}
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.rollback(settings, NAME, actor="ada", reason="again")
    assert [e for e in events(settings) if e[0] == "done"] == [
        ("done", "promote", 1),
        ("done", "promote", 2),
        ("done", "promote", 3),
        ("done", "rollback", 2),
        ("done", "rollback", 1),
    ]
    last_intent = [e for e in verify_audit(registry.audit_path(settings)) if e["event"] == "intent"][-1]
    assert (last_intent["actor"], last_intent["reason"], last_intent["previous"]) == ("ada", "more alarms", 2)


def test_two_models_share_a_trail_but_not_a_title(settings: Settings) -> None:
    one = register(settings, "one")
    promote(settings, one, None)
    assert registry.champion(settings, "melp.synthetic") is None
    with pytest.raises(RegistryError, match=r"melp\.synthetic has no earlier champion"):
        registry.rollback(settings, "melp.synthetic", actor="ada", reason="?")


def test_promotion_is_refused_without_a_fitting_decision(settings: Settings) -> None:
    one, two = register(settings, "one"), register(settings, "two")
    refused = GateDecision(False, (Reason("better", False, "it is worse by 0.02"),), one.bundle_sha256)
    with pytest.raises(PromotionRefusedError, match=r"version 1 stays challenger.*worse by 0\.02"):
        registry.promote(settings, NAME, 1, expected_champion=None, actor="ada", decision=refused)
    with pytest.raises(RegistryError, match="put it through the gate again"):
        registry.promote(settings, NAME, 1, expected_champion=None, actor="ada", decision=passed(two, None))
    with pytest.raises(RegistryError, match="has no version 9"):
        registry.promote(settings, NAME, 9, expected_champion=None, actor="ada", decision=passed(two, None))
    assert events(settings) == []


def test_a_champion_that_changed_is_a_conflict(settings: Settings) -> None:
    one, two, three = (register(settings, c) for c in ("one", "two", "three"))
    promote(settings, one, None)
    with pytest.raises(PromotionConflictError, match="is version 1, but nobody was expected"):
        promote(settings, two, None)
    promote(settings, two, one)
    with pytest.raises(PromotionConflictError, match="is version 2, but version 1 was expected"):
        promote(settings, three, one)
    assert aliases(settings)["champion"] == 2


def test_promoting_the_champion_changes_nothing(settings: Settings) -> None:
    one = register(settings, "one")
    promote(settings, one, None)
    before = events(settings)
    assert promote(settings, one, one) == registry.Promotion(NAME, 1, 1, False)
    assert events(settings) == before


def test_an_alias_moved_by_other_means_stops_the_rollback(settings: Settings) -> None:
    one, two, three = (register(settings, c) for c in ("one", "two", "three"))
    promote(settings, one, None)
    client(settings).set_registered_model_alias(NAME, "champion", "2")
    with pytest.raises(RegistryError, match="is version 2, but the audit trail ends with version 1"):
        registry.rollback(settings, NAME, actor="ada", reason="?")
    promote(settings, three, two)
    assert registry.rollback(settings, NAME, actor="ada", reason="?").version == 2


class Killed(BaseException):
    """Stands for a process that ends here."""


def dying_client(settings: Settings, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next call of one MLflow function end the process instead."""
    real = client(settings)

    class Dying:
        def __getattr__(self, name: str) -> Any:
            if name == at:
                raise Killed
            return getattr(real, name)

    monkeypatch.setattr(registry, "client", lambda _: Dying())


def test_killed_after_the_intent_is_abandoned(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = register(settings, "one"), register(settings, "two")
    promote(settings, one, None)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        dying_client(settings, "set_registered_model_alias", patch)
        promote(settings, two, one)
    assert events(settings)[-1] == ("intent", "promote", 2)
    assert promote(settings, two, one).changed
    assert events(settings)[2:] == [
        ("intent", "promote", 2),
        ("abandoned", "promote", 2),
        ("intent", "promote", 2),
        ("done", "promote", 2),
    ]
    assert registry.rollback(settings, NAME, actor="ada", reason="?").version == 1


@pytest.mark.parametrize(
    ("action", "step"),
    [
        ("promote", "previous alias"),
        ("promote", "challenger alias"),
        ("promote", "done line"),
        ("rollback", "previous alias"),
        ("rollback", "done line"),
    ],
)
def test_killed_after_the_alias_is_settled_by_the_next_call(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str, action: str
) -> None:
    one, two, three = (register(settings, c) for c in ("one", "two", "three"))
    promote(settings, one, None)
    promote(settings, two, one)
    if action == "rollback":
        promote(settings, three, two)

    real_append, real_client = append_audit, client(settings)

    def dying_append(path: Path, entry: Any) -> None:
        if entry["event"] == "done" and step == "done line":
            raise Killed
        real_append(path, entry)

    class Dying:
        def __getattr__(self, name: str) -> Any:
            return getattr(real_client, name)

        def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
            if alias == "previous" and step == "previous alias":
                raise Killed
            real_client.set_registered_model_alias(name, alias, version)

        def delete_registered_model_alias(self, name: str, alias: str) -> None:
            if step == "challenger alias":
                raise Killed
            real_client.delete_registered_model_alias(name, alias)

    with monkeypatch.context() as patch:
        patch.setattr(registry, "append_audit", dying_append)
        patch.setattr(registry, "client", lambda _: Dying())
        act: Callable[[], Any] = (
            (lambda: promote(settings, three, two))
            if action == "promote"
            else (lambda: registry.rollback(settings, NAME, actor="ada", reason="?"))
        )
        with pytest.raises(Killed):
            act()
    now = 3 if action == "promote" else 2
    assert aliases(settings)["champion"] == now
    four = register(settings, "four")
    assert events(settings)[-1] == ("done", action, now)
    assert aliases(settings) == {"champion": now, "previous": now - 1, "challenger": four.version}
    assert registry.rollback(settings, NAME, actor="ada", reason="?").version == now - 1


def test_exactly_one_of_eight_wins(settings: Settings) -> None:
    """Eight contenders that all saw no champion: two threads in each of four processes."""
    versions = [register(settings, f"v{i}") for i in range(8)]
    script = """
import os, sys, threading
from pathlib import Path
import mlflow.store.model_registry.sqlalchemy_store, mlflow.store.tracking.sqlalchemy_store
from assets import model_registry as registry
from assets.gate import GateDecision, Reason
from assets.settings import Settings
home, *hashes = sys.argv[1:]
def contend(version, outcomes):
    decision = GateDecision(True, (Reason("better", True, "yes"),), hashes[version - 1])
    try:
        registry.promote(Settings(home=Path(home)), "merl.synthetic", version, expected_champion=None, actor=f"p{version}", decision=decision)
        outcomes.append("won")
    except registry.PromotionConflictError:
        outcomes.append("lost")
go, out, children = os.pipe(), os.pipe(), []
for first in range(1, 9, 2):
    child = os.fork()
    if child == 0:
        os.close(go[1])
        os.read(go[0], 1)
        outcomes = []
        threads = [threading.Thread(target=contend, args=(v, outcomes)) for v in (first, first + 1)]
        [t.start() for t in threads], [t.join() for t in threads]
        os.write(out[1], (" ".join(outcomes) + " ").encode())
        os._exit(0)
    children.append(child)
os.close(go[1])
[os.waitpid(c, 0) for c in children]
print(sorted(os.read(out[0], 4096).decode().split()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(settings.home), *(v.bundle_sha256 for v in versions)],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == str(["lost"] * 7 + ["won"]), done.stderr
    champion = registry.champion(settings, NAME)
    assert champion is not None
    assert events(settings) == [("intent", "promote", champion.version), ("done", "promote", champion.version)]


def trail(path: Path, n: int = 4) -> list[bytes]:
    for i in range(n):
        append_audit(path, {"event": "done", "number": i})
    return path.read_bytes().splitlines(keepends=True)


def test_the_trail_is_a_chain(tmp_path: Path) -> None:
    path = tmp_path / "registry" / "audit.jsonl"
    assert verify_audit(path) == []
    lines = trail(path)
    assert [e["number"] for e in verify_audit(path)] == [0, 1, 2, 3]
    assert json.loads(lines[2])["previous_sha256"] == hashlib.sha256(lines[1].rstrip(b"\n")).hexdigest()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: [lines[0], lines[1].replace(b'"number":1', b'"number":7'), *lines[2:]], 3),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], 2),
        (lambda lines: [lines[0], b"not json\n", *lines[1:]], 2),
        (lambda lines: [lines[0], b"[]\n", *lines[1:]], 2),
    ],
)
def test_every_alteration_is_found(tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], line: int) -> None:
    path = tmp_path / "audit.jsonl"
    altered = b"".join(change(trail(path)))
    path.write_bytes(altered)
    with pytest.raises(AuditError, match=f"line {line} "):
        verify_audit(path)
    with pytest.raises(AuditError, match=f"line {line} "):
        append_audit(path, {"event": "done"})
    assert path.read_bytes() == altered


def test_a_line_cut_off_by_a_kill_is_left_out_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    lines = trail(path)
    for cut in range(1, len(lines[3])):
        path.write_bytes(b"".join(lines[:3]) + lines[3][:cut])
        assert len(verify_audit(path)) == 3
    append_audit(path, {"event": "done", "number": 9})
    assert [e["number"] for e in verify_audit(path)] == [0, 1, 2, 9]


def test_a_tampered_trail_stops_promotions(settings: Settings) -> None:
    one, two = register(settings, "one"), register(settings, "two")
    promote(settings, one, None)
    path = registry.audit_path(settings)
    path.write_text(path.read_text().replace('"actor":"ada"', '"actor":"eve"'))
    with pytest.raises(AuditError, match="was altered"):
        promote(settings, two, one)
    assert aliases(settings)["champion"] == 1
