"""Which datasets a method can use, what a configuration reads of them, and where the labels of its tasks come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from assets.dataset import get_dataset, list_datasets
from assets.pairing_rules import RULES
from assets.training import (
    configured,
    datasets_for,
    default_inputs,
    deps_on,
    fits,
    gate_for,
    inputs_for,
    plain,
    presets_for,
    rule_for,
    task_home,
    task_homes,
    task_modality,
    tasks_for,
    wrong_size,
)
from models.config import TrainingConfig
from models.errors import ConfigurationError
from models.registry import get_spec, list_methods
from models.spec import GateRule, MethodSpec, Paper, Stage
from models.types import Modality

ECG, TEXT, IMAGE, LABS = Modality.ECG, Modality.TEXT, Modality.IMAGE, Modality.LABS


@dataclass(frozen=True, kw_only=True)
class MadeUpConfig(TrainingConfig):
    modalities: tuple[str, ...] = ()
    pairing: str = "auto"
    image_recipe: str = "grey_224"
    image_size: int = 224
    report_form: str = "english"


TINY = MadeUpConfig()


def make_spec(*modalities: Modality, **changes: Any) -> MethodSpec:
    values: dict[str, Any] = {
        "name": "made_up",
        "title": "Made up",
        "version": "1",
        "paper": Paper("", "", ""),
        "modalities": modalities,
        "config": MadeUpConfig,
        "presets": {"tiny": TINY},
        "protocols": ("linear_probe",),
        "tasks": ("super", "chest", "chexpert"),
        "gate": GateRule(task="super", protocol="linear_probe", fraction=1.0),
        "pairings": ("synthetic", "symile_mimic", "symile_mimic_published"),
    }
    return MethodSpec(**(values | changes))


THREE = make_spec(ECG, IMAGE, LABS, units=("uV", "1"))
REPORTS = make_spec(ECG, TEXT, IMAGE, optional=(IMAGE,), pairings=("synthetic", "more"))


def names(spec: MethodSpec) -> list[str]:
    return [d.name for d in datasets_for(spec)]


def keys(spec: MethodSpec, dataset: str, config: Any = TINY) -> list[str]:
    return [str(k) for k in inputs_for(spec, config, dataset).keys]


@pytest.fixture(autouse=True)
def _no_tasks_of_users(home: Path) -> None:
    """An empty workspace."""


def test_datasets_are_those_that_offer_everything_alone_or_by_a_rule() -> None:
    assert names(THREE) == ["mimic_iv_ecg", "symile_mimic", "synthetic"]
    assert names(REPORTS) == ["mimic_iv_ecg", "ptb_xl", "synthetic"]
    assert names(replace(REPORTS, optional=())) == ["mimic_iv_ecg", "synthetic"]
    assert names(make_spec(ECG, TEXT, pairings=())) == ["mimic_iv_ecg", "ptb_xl", "synthetic"]
    assert names(make_spec(ECG, IMAGE, pairings=())) == []  # nothing ties them, although synthetic holds both


def test_units_and_channels_are_asked_for_by_the_configuration() -> None:
    assert "symile_mimic" not in names(replace(THREE, units=("uV",)))
    pulse = replace(TINY, channels=("II", "PLETH"), modalities=("ecg", "ppg"))
    spec = make_spec(ECG, IMAGE, LABS, presets={"tiny": TINY, "pulse": pulse}, alternatives=((ECG, Modality.PPG),))
    assert fits(spec, pulse, get_dataset("bidmc"))
    assert not fits(spec, TINY, get_dataset("bidmc"))
    assert not fits(spec, replace(pulse, channels=("II", "RESP", "GSR")), get_dataset("bidmc"))
    assert not fits(spec, replace(pulse, modalities=("ecg",), channels=("V1", "PLETH")), get_dataset("ptb_xl"))


def test_a_method_for_any_channels_needs_one_of_them() -> None:
    config = replace(TINY, channels=("II", "V6", "PLETH"), modalities=("ecg",))
    spec = make_spec(ECG, presets={"tiny": config}, any_channels=True)
    assert fits(spec, config, get_dataset("ptb_xl")) and fits(spec, config, get_dataset("bidmc"))
    assert not fits(replace(spec, any_channels=False), config, get_dataset("ptb_xl"))
    with pytest.raises(ConfigurationError, match=r"made_up reads any of the channels ABP in uV; ptb_xl offers none of them"):
        inputs_for(spec, replace(config, channels=("ABP",)), "ptb_xl")


def test_a_dataset_without_a_task_is_of_no_use() -> None:
    config = replace(TINY, channels=("ECG1",))
    spec = make_spec(ECG, presets={"tiny": config})
    assert fits(spec, config, get_dataset("qtdb"))
    assert names(spec) == []


def test_a_rule_is_taken_by_the_dataset_whose_ecgs_it_holds() -> None:
    found = {d: rule_for(THREE, TINY, d) for d in ("synthetic", "mimic_iv_ecg", "symile_mimic", "ptb_xl")}
    assert {d: r and r.name for d, r in found.items()} == {
        "synthetic": "synthetic",
        "mimic_iv_ecg": "symile_mimic",
        "symile_mimic": "symile_mimic_published",
        "ptb_xl": None,
    }
    rule = rule_for(THREE, replace(TINY, pairing="admission_any"), "mimic_iv_ecg")
    assert rule is not None and rule.name == "admission_any"
    assert rule_for(REPORTS, replace(TINY, pairing="none"), "synthetic") is None
    assert rule_for(make_spec(ECG, TEXT), TINY, "synthetic") is None  # there is nothing to tie


def test_of_several_rules_one_that_has_what_must_be_read_is_taken() -> None:
    spec = replace(THREE, pairings=("more", "symile_mimic"))  # `more` has no lab results
    rule = rule_for(spec, TINY, "mimic_iv_ecg")
    assert rule is not None and rule.name == "symile_mimic"


@pytest.mark.parametrize(
    ("spec", "changes", "dataset", "message"),
    [
        (THREE, {"pairing": "mor"}, "synthetic", "there is no pairing 'mor'; choose auto, none or one of more, symile_mimic"),
        (THREE, {"pairing": "more"}, "synthetic", "'more' ties pictures to the ECGs of mimic_iv_ecg, not of synthetic; for synthetic choose auto, none, synthetic"),
        (THREE, {}, "ptb_xl", "made_up reads ecg, image and labs; ptb_xl does not offer image and labs; presets that fit ptb_xl: none; datasets that fit this configuration: mimic_iv_ecg, symile_mimic, synthetic"),
        (THREE, {"pairing": "none"}, "synthetic", r"does not offer image and labs \(it holds image and labs, but no pairing in force ties them to its recordings\); presets that fit synthetic: tiny"),
        (THREE, {"pairing": "more"}, "mimic_iv_ecg", "mimic_iv_ecg does not offer labs"),
        (REPORTS, {}, "cinc2020", "made_up reads ecg, text and image; cinc2020 does not offer text"),
        (REPORTS, {"channels": ("I", "PLETH")}, "ptb_xl", "reads the channels I, PLETH in uV; ptb_xl does not offer PLETH"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_what_could(spec: MethodSpec, changes: dict[str, Any], dataset: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        inputs_for(spec, replace(TINY, **changes), dataset)


def test_inputs_name_the_outputs_of_both_sides() -> None:
    assert keys(THREE, "mimic_iv_ecg") == ["cleaned/mimic_iv_ecg[native]", "cleaned/mimic_cxr_jpg[grey_224]", "pairing/symile_mimic"]
    assert keys(REPORTS, "mimic_iv_ecg") == [
        "cleaned/mimic_iv_ecg[native]",
        "reports/mimic_iv_ecg[english]",
        "cleaned/mimic_cxr_jpg[grey_224]",
        "reports/mimic_cxr_jpg[english]",
        "pairing/more",
    ]
    assert inputs_for(REPORTS, TINY, "mimic_iv_ecg").image_reports_file == "reports.parquet"


def test_one_dataset_holds_both_reports_in_one_output() -> None:
    inputs = inputs_for(REPORTS, TINY, "synthetic")
    assert inputs.image_reports == inputs.reports
    assert inputs.image_reports_file == "image_reports.parquet"
    assert [str(k) for k in inputs.keys] == [
        "cleaned/synthetic[native]",
        "reports/synthetic[english]",
        "cleaned/synthetic[grey_224]",
        "pairing/synthetic",
    ]


def test_without_a_pairing_optional_modalities_are_left_out() -> None:
    inputs = inputs_for(REPORTS, TINY, "ptb_xl")
    assert inputs.modalities == (ECG, TEXT)
    assert [str(k) for k in inputs.keys] == ["cleaned/ptb_xl[native]", "reports/ptb_xl[english]"]
    assert inputs_for(REPORTS, replace(TINY, pairing="none"), "synthetic").pairing is None


def test_a_configuration_that_reads_less_needs_less() -> None:
    inputs = inputs_for(THREE, replace(TINY, modalities=("ecg", "labs")), "synthetic")
    assert inputs.modalities == (ECG, LABS)
    assert (inputs.images, str(inputs.pairing)) == (None, "pairing/synthetic")


def test_a_stage_before_reads_its_own_modalities() -> None:
    stage = Stage("language_model", "", (TEXT,), lambda config: config)
    inputs = inputs_for(REPORTS, TINY, "synthetic", stage)
    assert [str(k) for k in inputs.keys] == ["reports/synthetic[english]"]


def test_presets_that_fit_are_those_of_the_right_length_and_size() -> None:
    long = replace(TINY, recipe="native_500hz", n_samples=5000)
    wide = replace(long, image_size=320)
    spec = replace(THREE, presets={"tiny": TINY, "long": long, "wide": wide})
    assert presets_for(spec, get_dataset("synthetic")) == ["tiny", "long"]
    assert presets_for(spec, get_dataset("mimic_iv_ecg")) == ["long"]
    said = wrong_size(TINY, inputs_for(spec, TINY, "mimic_iv_ecg"))
    assert said == "recipe native stores 5000 samples a recording of mimic_iv_ecg, the configuration says n_samples=1000"
    assert wrong_size(wide, inputs_for(spec, wide, "synthetic")) == (
        "recipe grey_224 stores images of 224 x 224, the configuration says image_size=320"
    )


def test_the_graph_shows_a_preset_that_fits() -> None:
    spec = replace(THREE, presets={"tiny": replace(TINY, channels=("PLETH",)), "other": TINY})
    assert default_inputs(spec, get_dataset("synthetic")).keys == inputs_for(THREE, TINY, "synthetic").keys


def test_tasks_about_pictures_are_for_methods_that_read_them() -> None:
    synthetic, mimic, published = map(get_dataset, ("synthetic", "mimic_iv_ecg", "symile_mimic"))
    assert tasks_for(THREE, synthetic) == ["super", "chest"]
    assert tasks_for(make_spec(ECG, TEXT), synthetic) == ["super"]
    assert tasks_for(make_spec(ECG, TEXT, tasks=()), synthetic) == ["super", "form", "rhythm", "rhythm4", "age"]
    assert tasks_for(THREE, mimic) == ["diagnoses", "mortality", "chexpert"]
    assert tasks_for(THREE, published) == ["chexpert"]
    assert tasks_for(replace(THREE, tasks=("super",)), published) == ["chexpert"]  # there would be no task else
    assert tasks_for(REPORTS, get_dataset("ptb_xl")) == ["super"]


def test_a_task_has_a_home() -> None:
    mimic = get_dataset("mimic_iv_ecg")
    assert task_home(THREE, mimic, "chexpert") == (get_dataset("mimic_cxr_jpg"), IMAGE)
    assert task_home(THREE, mimic, "mortality") == (mimic, ECG)
    assert task_homes(THREE, get_dataset("synthetic"))["chest"] == (get_dataset("synthetic"), IMAGE)
    with pytest.raises(ConfigurationError, match="made_up has no task 'super' on mimic_iv_ecg; it has diagnoses, mortality, chexpert"):
        task_home(THREE, mimic, "super")
    assert gate_for(THREE, get_dataset("symile_mimic")).task == "chexpert"


def test_dependencies_on_one_asset_are_one_with_all_its_partitions() -> None:
    wanted = [(key, d) for d in ("synthetic", "mimic_iv_ecg") for key in inputs_for(THREE, TINY, d).keys]
    deps = {dep.asset_key.to_user_string(): dep.partition_mapping for dep in deps_on(wanted)}
    mapping: Any = deps["cleaned/synthetic"]
    assert {k: set(v) for k, v in mapping.downstream_partition_keys_by_upstream_partition_key.items()} == {
        "native": {"synthetic"},
        "grey_224": {"synthetic"},
    }
    assert deps["pairing/synthetic"] is None


@pytest.mark.parametrize("method", list_methods())
def test_every_method_can_be_trained_and_judged_somewhere(method: str) -> None:
    spec = get_spec(method)
    assert set(spec.pairings) <= set(RULES)
    made_here = [get_dataset(name) for name in names(spec) if name.startswith("synthetic")]
    assert any("tiny" in presets_for(spec, dataset) for dataset in made_here)
    for dataset in datasets_for(spec):
        assert presets_for(spec, dataset) or dataset.name == "code15"  # whose recordings last 7 seconds: options say so
        for task, (home, modality) in task_homes(spec, dataset).items():
            assert task in home.task_names
            assert modality == task_modality(home, task)
    for config in spec.presets.values():
        assert configured(spec, plain(config)) == config


def test_what_a_task_describes_is_known_without_the_files() -> None:
    for dataset in map(get_dataset, list_datasets()):
        for task in dataset.task_names:
            assert task_modality(dataset, task) in (ECG, IMAGE)
