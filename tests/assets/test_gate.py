"""Every condition of the gate, once with a challenger that meets it and once with a planted fault."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets.bundles import BundleError, verify_bundle
from assets.gate import Contender, GateDecision, GateMargins, decide, matches
from assets.scoring import Person
from models.errors import ConfigurationError
from models.predictions import Origin, Predictions
from models.spec import GateRule

RULE = GateRule(task="super", protocol="linear_probe", fraction=1.0)
CLASSES = ("CD", "HYP", "MI")
N = 240
PEOPLE = {f"r{i:03d}": Person("female" if i % 2 else "male", 20.0 + i % 70) for i in range(N)}


def bundle(folder: Path, weights: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(weights)
    (folder / "config.json").write_text("{}")
    names = ("config.json", "weights.safetensors")
    (folder / "SHA256SUMS").write_text("".join(f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names))
    return folder


def predictions(signal: float, weights: bytes, *, seed: int = 0, arm: str = "pretrained", **changes: Any) -> Predictions:
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(42)
    labels = (fixed.random((N, 3)) < 0.4).astype(np.int8)
    seen = signal * (2 * labels - 1) + rng.normal(size=labels.shape)
    scores = 2 * signal * seen + np.log(0.4 / 0.6)  # the logit of the posterior, so it is calibrated
    origin = Origin("synthetic", "super", "merl", "tiny", "linear_probe", arm, 0, hashlib.sha256(weights).hexdigest(), fraction=1.0)
    ids = np.array([f"r{i:03d}" for i in range(N)])
    return replace(Predictions(origin, CLASSES, ids, ids, np.full(N, 10), scores.astype(np.float32), labels), **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bundle(tmp_path / "challenger", b"new")


def contender(folder: Path, table: Predictions, label: str = "merl.synthetic version 2", **more: Any) -> Contender:
    return Contender(label, verify_bundle(folder), table, **more)


def judge(folder: Path, challenger: Contender, champion: Contender | None, **changes: Any) -> GateDecision:
    defaults: dict[str, Any] = {
        "bundle": folder,
        "checks": {"encoder: bundle": True, "labels: labels": True},
        "leaked_patients": 0,
        "people": PEOPLE,
        "test_folds": (10,),
        "margins": GateMargins(),
        "n_resamples": 100,
    }
    return decide(changes.pop("rule", RULE), challenger, champion, **(defaults | changes))


def failed(decision: GateDecision) -> list[str]:
    assert decision.passed == all(r.passed for r in decision.reasons)
    return [r.name for r in decision.reasons if not r.passed]


@pytest.fixture
def champion(tmp_path: Path) -> Contender:
    return contender(bundle(tmp_path / "champion", b"old"), predictions(0.7, b"old", seed=1), "merl.synthetic version 1")


def test_better_challenger_passes_and_the_decision_is_json(folder: Path, champion: Contender) -> None:
    decision = judge(folder, contender(folder, predictions(1.5, b"new")), champion)
    assert failed(decision) == []
    assert [r.name for r in decision.reasons] == [
        "checks",
        "leakage",
        "bundle",
        "rule",
        "same_records",
        "better",
        "subgroups",
        "calibration",
    ]
    assert "merl.synthetic version 2 is better than merl.synthetic version 1" in decision.message
    stored = json.loads(json.dumps(decision.as_json(), allow_nan=False))
    assert stored["passed"] is True
    assert stored["reasons"][5]["values"]["low"] > 0
    assert (stored["challenger_sha256"], stored["champion_sha256"]) == (verify_bundle(folder), champion.bundle_sha256)


def test_first_challenger_must_beat_its_random_twin(folder: Path) -> None:
    random_init = predictions(0.1, b"random", seed=3, arm="random_init")
    good = judge(folder, contender(folder, predictions(1.5, b"new"), random_init=random_init), None)
    assert failed(good) == []
    assert [r.name for r in good.reasons][-1] == "better"
    same = judge(folder, contender(folder, predictions(0.1, b"new", seed=4), random_init=random_init), None)
    assert failed(same) == ["better"]
    assert "its random-initialised twin" in same.message
    alone = judge(folder, contender(folder, predictions(1.5, b"new")), None)
    assert failed(alone) == ["same_records"]


def test_worse_or_equal_challenger_is_refused_with_numbers(folder: Path, champion: Contender) -> None:
    worse = judge(folder, contender(folder, predictions(0.2, b"new")), champion)
    assert "better" in failed(worse)
    reason = next(r for r in worse.reasons if r.name == "better")
    assert f"{reason.values['low']:+.4f}" in worse.message
    assert f"{reason.values['value']:+.4f}" in worse.message
    equal = judge(folder, contender(folder, replace(champion.predictions, origin=predictions(1, b"new").origin)), champion)
    assert failed(equal) == ["better"]


def test_margins_decide(folder: Path, champion: Contender) -> None:
    challenger = contender(folder, predictions(1.5, b"new"))
    gain = next(r for r in judge(folder, challenger, champion).reasons if r.name == "better").values["low"]
    assert failed(judge(folder, challenger, champion, margins=GateMargins(margin=gain - 1e-6))) == []
    assert failed(judge(folder, challenger, champion, margins=GateMargins(margin=gain))) == ["better"]
    twin = contender(folder, replace(champion.predictions, origin=challenger.predictions.origin))
    assert failed(judge(folder, twin, champion, margins=GateMargins(margin=-0.01))) == []


def test_direction_lower_asks_for_less(folder: Path, champion: Contender) -> None:
    rule = replace(RULE, direction="lower")
    wide = GateMargins(calibration_margin=1.0)
    assert failed(judge(folder, contender(folder, predictions(0.1, b"new")), champion, rule=rule, margins=wide)) == []
    assert "better" in failed(judge(folder, contender(folder, predictions(1.5, b"new")), champion, rule=rule))


def test_failed_or_missing_checks_and_leakage_refuse(folder: Path, champion: Contender) -> None:
    challenger = contender(folder, predictions(1.5, b"new"))
    red = judge(folder, challenger, champion, checks={"cleaned: index": False, "labels: labels": True})
    assert failed(red) == ["checks"]
    assert "1 of 2 blocking checks failed: cleaned: index" in red.message
    assert failed(judge(folder, challenger, champion, checks={})) == ["checks"]
    leak = judge(folder, challenger, champion, leaked_patients=3)
    assert failed(leak) == ["leakage"]
    assert "3 test patients" in leak.message


def test_bundle_must_be_the_registered_and_judged_one(folder: Path, champion: Contender, tmp_path: Path) -> None:
    challenger = contender(folder, predictions(1.5, b"new"))
    assert "was registered" in judge(folder, replace(challenger, bundle_sha256="0" * 64), champion).message
    other = contender(folder, predictions(1.5, b"something else"))
    assert "evaluate this bundle" in judge(folder, other, champion).message
    (folder / "weights.safetensors").write_bytes(b"nev")
    altered = judge(folder, challenger, champion)
    assert failed(altered) == ["bundle"]
    assert "weights.safetensors has SHA-256" in altered.message


def test_a_subgroup_that_loses_is_named(folder: Path, champion: Contender) -> None:
    table = predictions(2.5, b"new")
    scores = table.scores_NC.copy()
    women = np.array([PEOPLE[r].sex == "female" for r in table.record_id])
    scores[women] = champion.predictions.scores_NC[women][::-1]
    decision = judge(
        folder, contender(folder, replace(table, scores_NC=scores)), champion, margins=GateMargins(margin=-1.0, calibration_margin=1.0)
    )
    assert failed(decision) == ["subgroups"]
    assert "sex: female -0." in decision.message
    assert "sex: male" not in decision.message


def test_small_subgroups_are_told_but_not_judged(folder: Path, champion: Contender) -> None:
    people = {r: Person("unknown" if i < 19 else "male", 50.0) for i, r in enumerate(PEOPLE)}
    decision = judge(folder, contender(folder, predictions(1.5, b"new")), champion, people=people)
    reason = next(r for r in decision.reasons if r.name == "subgroups")
    assert reason.values["too_small"] == ["sex: unknown"]
    assert set(reason.values["changes"]) == {"sex: male", "age: 40 to 59"}
    assert "sex: unknown" in reason.message


def test_calibration_may_not_get_much_worse(folder: Path, champion: Contender) -> None:
    table = predictions(1.1, b"new")
    overconfident = replace(table, scores_NC=6 * table.scores_NC)
    decision = judge(folder, contender(folder, overconfident), champion)
    assert failed(decision) == ["calibration"]
    assert "above the allowed rise of 0.0200" in decision.message
    zero_shot = replace(RULE, protocol="zero_shot", fraction=None)
    origin = replace(table.origin, protocol="zero_shot", fraction=None)
    held = replace(
        champion,
        predictions=replace(champion.predictions, origin=replace(champion.predictions.origin, protocol="zero_shot", fraction=None)),
    )
    cosines = contender(folder, replace(overconfident, origin=origin))
    assert failed(judge(folder, cosines, held, rule=zero_shot)) == []


def test_other_records_labels_or_protocol_are_refused(folder: Path, champion: Contender) -> None:
    table = predictions(1.5, b"new")
    renamed = replace(table, record_id=np.array([f"x{i:03d}" for i in range(N)]))
    decision = judge(folder, contender(folder, renamed), champion)
    assert failed(decision) == ["same_records"]
    assert "do not judge the same records: 240 and 240, 0 in common" in decision.message
    flipped = replace(table, labels_NC=(1 - table.labels_NC).astype(np.int8))
    assert "disagree on the labels" in judge(folder, contender(folder, flipped), champion).message
    wrong = replace(table, origin=replace(table.origin, fraction=0.1))
    assert failed(judge(folder, contender(folder, wrong), champion)) == ["rule"]
    assert failed(judge(folder, contender(folder, table), champion, test_folds=(3,))) == ["same_records"]


def test_the_champion_itself_is_no_refusal(folder: Path) -> None:
    champion = contender(folder, predictions(0.7, b"new"))
    decision = judge(folder, champion, champion, checks={"x": False})
    assert (decision.passed, decision.already_champion) == (True, True)
    assert decision.message.startswith("already champion")


def test_rule_may_name_its_dataset() -> None:
    table = predictions(1.0, b"new")
    assert matches(replace(RULE, task="synthetic/super"), table)
    assert not matches(replace(RULE, task="ptb_xl/super"), table)
    assert not matches(replace(RULE, protocol="finetune"), table)


def test_unknown_metric_is_a_configuration_error(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot judge 'fid'"):
        judge(folder, contender(folder, predictions(1.0, b"new")), None, rule=replace(RULE, metric="fid"))


def test_margins_are_read_from_params(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("pipeline: {dataset: synthetic}\ngate: {margin: -0.01, subgroup_margin: 0.1}\n")
    assert GateMargins.load(path) == GateMargins(-0.01, 0.1, 0.02)
    path.write_text("pipeline: {}\n")
    assert GateMargins.load(path) == GateMargins()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gate: {margins: 0}", "gate.margins is unknown"),
        ("gate: {margin: .nan}", "must be a number"),
        ("gate: {margin: big}", "must be a number"),
        ("gate: {margin: true}", "must be a number"),
        ("gate: {subgroup_margin: -1}", "must not be negative"),
        ("gate: [", "cannot be read"),
        ("- 1", "cannot be read"),
    ],
)
def test_faulty_params_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        GateMargins.load(tmp_path / "params.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        GateMargins.load(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is listed in SHA256SUMS but missing"),
        (lambda f: (f / "extra.json").write_text("{}"), "extra.json is not listed"),
        (lambda f: (f / "config.json").write_text("{ }"), "config.json has SHA-256"),
        (lambda f: (f / "SHA256SUMS").write_text("nonsense\n"), "line 1: 'nonsense'"),
        (lambda f: (f / "SHA256SUMS").write_text(f"{'0' * 64}  ../weights.safetensors\n"), "line 1"),
        (lambda f: (f / "SHA256SUMS").write_text(f"{'0' * 64}  config.json\n"), "does not list weights.safetensors"),
        (lambda f: (f / "SHA256SUMS").unlink(), "cannot be read"),
    ],
)
def test_damaged_bundles_are_refused(folder: Path, plant: Any, message: str) -> None:
    plant(folder)
    with pytest.raises(BundleError, match=message):
        verify_bundle(folder)


def test_a_pickle_may_not_be_in_a_bundle(folder: Path) -> None:
    (folder / "model.pkl").write_bytes(b"x")
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{hashlib.sha256(b'x').hexdigest()}  model.pkl\n")
    with pytest.raises(BundleError, match=r"model\.pkl may not be in a bundle"):
        verify_bundle(folder)


def rates(noise: float, weights: bytes, *, seed: int = 0, arm: str = "pretrained", **changes: Any) -> Predictions:
    """Heart rates of N people, predicted with so much noise."""
    true_N1 = 70 + 10 * np.random.default_rng(42).standard_normal((N, 1))
    scores_N1 = true_N1 + noise * np.random.default_rng(seed).standard_normal((N, 1))
    sha256 = hashlib.sha256(weights).hexdigest()
    origin = Origin("bidmc", "heart_rate", "merl", "tiny", "linear_probe", arm, 0, sha256, 1.0, kind="regression", unit="beats/min")
    ids = np.array([f"r{i:03d}" for i in range(N)])
    table = Predictions(origin, ("heart_rate",), ids, ids, np.full(N, 10), scores_N1.astype(np.float32), true_N1.astype(np.float32))
    return replace(table, **changes)


ERROR_RULE = GateRule(task="heart_rate", protocol="linear_probe", fraction=1.0, metric="mae", direction="lower")


def test_of_numbers_the_smaller_error_is_better(folder: Path, champion: Contender) -> None:
    twin = rates(5.0, b"twin", seed=1, arm="random_init")
    first = judge(folder, contender(folder, rates(2.0, b"new"), random_init=twin), None, rule=ERROR_RULE)
    assert failed(first) == [] and "mae is smaller by +" in first.message
    assert failed(judge(folder, contender(folder, rates(8.0, b"new"), random_init=twin), None, rule=ERROR_RULE)) == ["better"]
    held = replace(champion, predictions=rates(4.0, b"old", seed=2))
    decision = judge(folder, contender(folder, rates(2.0, b"new")), held, rule=ERROR_RULE)
    assert failed(decision) == []
    assert (
        next(r for r in decision.reasons if r.name == "calibration").message
        == "not asked for: the task is a number, which has no probability"
    )
    assert failed(judge(folder, contender(folder, rates(6.0, b"new")), held, rule=ERROR_RULE)) == ["better", "subgroups"]


def test_of_numbers_margins_are_shares_of_the_champions_error(folder: Path, champion: Contender) -> None:
    """The challenger's error is half of the champion's, 1.6 of 3.2 beats a minute, so it meets a margin of 0.3 and not one of 0.6."""
    held = replace(champion, predictions=rates(4.0, b"old", seed=2))
    challenger = contender(folder, rates(2.0, b"new"))
    assert failed(judge(folder, challenger, held, rule=ERROR_RULE, margins=GateMargins(margin=0.3))) == []
    assert failed(judge(folder, challenger, held, rule=ERROR_RULE, margins=GateMargins(margin=0.6))) == ["better"]


def test_a_subgroup_whose_error_grows_holds_a_challenger_back(folder: Path, champion: Contender) -> None:
    held, table = replace(champion, predictions=rates(4.0, b"old", seed=2)), rates(1.0, b"new")
    women = np.array([PEOPLE[r].sex == "female" and (PEOPLE[r].age or 0) >= 75 for r in table.record_id.tolist()])
    worse = replace(table, scores_NC=np.where(women[:, None], table.labels_NC + 9, table.scores_NC).astype(np.float32))
    decision = judge(folder, contender(folder, worse), held, rule=ERROR_RULE)
    assert failed(decision) == ["subgroups"] and "age: 75 and over" in decision.message


@pytest.mark.parametrize("rule", [replace(ERROR_RULE, metric="macro_auroc"), replace(ERROR_RULE, direction="higher")])
def test_a_rule_that_does_not_fit_the_kind_of_task_is_refused(folder: Path, champion: Contender, rule: GateRule) -> None:
    held = replace(champion, predictions=rates(4.0, b"old", seed=2))
    with pytest.raises(ConfigurationError, match="which is a number"):
        judge(folder, contender(folder, rates(2.0, b"new")), held, rule=rule)
