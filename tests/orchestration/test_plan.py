"""The way of a method as a list of steps: everything that is read comes before it is read, and what cannot be read is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import ConfigurationError
from orchestration.pipeline import Step, plan


def titles(steps: list[Step]) -> list[str]:
    return [step.title for step in steps]


@pytest.fixture(autouse=True)
def _workspace(home: Path) -> None:
    """An empty workspace."""


def test_the_way_of_a_tied_method_on_one_dataset() -> None:
    steps = titles(plan("symile", "synthetic", "tiny", 0, baselines=False))
    assert steps == [
        "raw/synthetic",
        "prompts",
        "cleaned/synthetic [labs]",
        "reports/synthetic [original]",
        "cleaned/synthetic [native]",
        "cleaned/synthetic [grey_64]",
        "labels/synthetic [super]",
        "labels/synthetic [form]",
        "labels/synthetic [rhythm]",
        "labels/synthetic [chest]",
        "pairing/synthetic",
        "encoder/symile, head/symile/super, head/symile/form, head/symile/rhythm, head/symile/chest, "
        "evaluation/symile, leaderboard, registry/symile [synthetic]",
    ]


def test_datasets_that_are_tied_are_scanned_cleaned_and_labelled_too(home: Path) -> None:
    steps = titles(plan("more", "mimic_iv_ecg", "paper", 0, overrides={"text_weights": None}, baselines=False))
    for title in (
        "raw/mimic_cxr_jpg",
        "cleaned/mimic_cxr_jpg [more_224]",
        "reports/mimic_cxr_jpg [original]",
        "labels/mimic_cxr_jpg [chexpert]",
        "labels/mimic_iv_ecg [mortality]",
    ):
        assert steps.index(title) < steps.index("pairing/more") < len(steps) - 1
    (home / "source" / "mimic_iv").mkdir(parents=True)  # a companion that is there: labels are joined from it
    steps = titles(plan("more", "mimic_iv_ecg", "paper", 0, overrides={"text_weights": None}, baselines=False))
    assert steps.index("raw/mimic_iv") < steps.index("labels/mimic_iv_ecg [diagnoses]")


def test_optional_modalities_are_left_out_where_nothing_ties_them() -> None:
    steps = titles(plan("more", "ptb_xl", "tiny", 0, baselines=False))
    assert not [t for t in steps if "pairing" in t or "more_" in t or "chest" in t]


MIXTURE = ("synthetic 0.5", "cinc2021/ptb 0.25", "cinc2021/georgia 0.125", "ptb_xl 0.125")


def test_all_members_of_a_mixture_are_scanned_and_cleaned_and_their_reports_read(home: Path) -> None:
    for name in ("cinc2021", "ptb_xl"):
        (home / "source" / name).mkdir(parents=True)
    overrides = {"mixture": MIXTURE, "recipe": "native_100hz"}
    steps = titles(plan("merl", "synthetic", "tiny", 0, overrides=overrides, baselines=False))
    before = steps[:-1]
    assert {"raw/synthetic", "raw/cinc2021", "raw/ptb_xl", "cleaned/synthetic [native_100hz]"} < set(before)
    assert {"cleaned/cinc2021 [native_100hz]", "cleaned/ptb_xl [native_100hz]", "reports/ptb_xl [english]"} < set(before)
    assert len(before) == len(set(before)) and not [t for t in before if "labels/ptb_xl" in t or "reports/cinc2021" in t]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"the mixture reads cinc2021 \(.*cinc2021\), ptb_xl \(.*ptb_xl\), which are not there; fetch them"),
        ({"mixture": ("nowhere 1",)}, "there is no dataset 'nowhere'"),
        ({"mixture": ("cinc2021/paris 1",)}, "cinc2021 has no site 'paris'; it has chapman_shaoxing, cpsc_2018"),
        ({"mixture": ("bidmc 1",)}, "bidmc does not offer I, III, aVR.*take bidmc out of it"),
        ({"mixture": ("synthetic 0.5",)}, "sum to 0.5, not to 1"),
        ({"recipe": "native"}, None),
    ],
)  # fmt: skip
def test_a_mixture_that_cannot_be_read_is_refused_before_anything_is_prepared(
    home: Path, changes: dict[str, object], message: str | None
) -> None:
    if message is None:
        (home / "source" / "cinc2021").mkdir(parents=True)
        (home / "source" / "ptb_xl").mkdir()
        message = "recipe native stores 5000 samples a recording of cinc2021, the configuration says n_samples=1000"
    with pytest.raises(ConfigurationError, match=message):
        plan("merl", "synthetic", "tiny", 0, overrides={"mixture": MIXTURE, "recipe": "native_100hz"} | changes, baselines=False)


def test_the_stage_before_is_trained_with_the_same_configuration() -> None:
    steps = plan("melp", "synthetic", "tiny", 7, overrides={"batch_size": 8}, baselines=False)
    last = steps[-1]
    assert last.assets[:2] == (("language_model", "melp"), ("encoder", "melp"))
    config = {"config": {"preset": "tiny", "seed": 7, "batch_size": 8}}
    assert last.config == {"language_model__melp": config, "encoder__melp": config}


def test_the_baseline_comes_first_with_a_preset_of_the_stored_length() -> None:
    def baseline(dataset: str, preset: str) -> object:
        found = [s for s in plan("merl", dataset, preset, 0, overrides={"text_weights": None}) if ("encoder", "supervised") in s.assets]
        return found[0].config["encoder__supervised"]["config"]["preset"]

    assert baseline("synthetic", "tiny") == "tiny"
    assert baseline("mimic_iv_ecg", "repository") == "resnet18"


def test_no_baseline_where_it_cannot_read_the_signals() -> None:
    steps = plan("symile", "symile_mimic", "mimic", 0)  # its ECGs have lost their unit
    assert [s.assets[0] for s in steps if s.partition == "symile_mimic"] == [("encoder", "symile")]


@pytest.mark.parametrize(
    ("method", "dataset", "options", "message"),
    [
        ("symile", "ptb_xl", {}, "ptb_xl does not offer image and labs; .*datasets that fit this configuration: mimic_iv_ecg, symile_mimic, synthetic"),
        ("symile", "synthetic_monitor", {}, "does not offer image and labs; presets that fit synthetic_monitor: tiny_ppg"),
        ("symile", "synthetic", {"pairing": "none"}, "no pairing in force ties them"),
        ("symile", "synthetic", {"pairing": "more"}, "'more' ties pictures to the ECGs of mimic_iv_ecg, not of synthetic"),
        ("symile", "mimic_iv_ecg", {}, "stores 5000 samples a recording of mimic_iv_ecg, the configuration says n_samples=1000; presets that fit: mimic, mimic_l2"),
        ("symile", "synthetic", {"image_size": 32}, "recipe grey_64 stores images of 64 x 64, the configuration says image_size=32"),
        ("melp", "cinc2020", {}, "cinc2020 does not offer text"),
        ("merl", "wesad", {}, "wesad does not offer text"),
        ("melp", "synthetic", {"beats": "x"}, "the option beats cannot be 'x'"),
        ("melp", "synthetic", {"beat_loss": "both"}, "the option beat_loss cannot be 'both': Input should be 'code' or 'paper'"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_anything_is_done(
    method: str, dataset: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan(method, dataset, "tiny", 0, overrides=options)
