from __future__ import annotations

import difflib
import json
from pathlib import Path

import pytest

from assets.chexpert_labels import FINDINGS
from assets.scp import STATEMENTS, SUBCLASS_NAMES, SUPERCLASS_NAMES, TASK_TITLES, task_classes
from assets.text.chest_prompts import PER_FINDING, WORDS, Words, chest_prompts
from assets.text.prompts import PromptError, prompt_sets, read_prompts
from models.prompts import Prompt, prompt_for

CLASSES = [(task, code) for task in TASK_TITLES for code in task_classes(task)] + [("chest", finding) for finding in FINDINGS]


@pytest.mark.parametrize("name", ["einthoven", "plain"])
def test_every_class_of_every_task_has_a_prompt(name: str) -> None:
    prompts = prompt_sets({})[name]
    assert [c for c in CLASSES if prompt_for(prompts, *c) is None] == []


def test_own_prompts_have_the_form_of_ckepe() -> None:
    prompts = {k: p for k, p in prompt_sets({})["einthoven"].items() if k not in FINDINGS}
    for key, prompt in prompts.items():
        assert isinstance(prompt, str)
        assert 4 <= len(prompt.split()) <= 41, key
        assert prompt.endswith("."), key
        assert "," in prompt, key
    assert len(set(prompts.values())) == len(prompts)
    known = set(STATEMENTS) | set(SUPERCLASS_NAMES) | set(SUBCLASS_NAMES)
    assert {key.split(":")[-1] for key in prompts} == known


def test_plain_prompts_are_class_names() -> None:
    plain = prompt_sets({})["plain"]
    assert prompt_for(plain, "super", "STTC") == SUPERCLASS_NAMES["STTC"]
    assert prompt_for(plain, "sub", "STTC") == SUBCLASS_NAMES["STTC"]
    assert prompt_for(plain, "sub", "ISC_") == SUBCLASS_NAMES["ISC_"]
    assert prompt_for(plain, "diag", "ISC_") == STATEMENTS["ISC_"].name


def test_findings_have_five_phrases_each_out_of_their_lists_always_the_same() -> None:
    prompts = chest_prompts()
    assert list(prompts) == list(WORDS) == list(FINDINGS)
    for finding, phrases in prompts.items():
        assert len(set(phrases)) == PER_FINDING
        assert set(phrases) <= set(WORDS[finding].phrases())
    assert prompts == chest_prompts()
    assert prompts["Edema"] == prompt_sets({})["einthoven"]["Edema"]
    assert Words(("", "mild"), ("edema",), ("left", "right")).phrases() == [
        "edema left",
        "edema right",
        "mild edema left",
        "mild edema right",
    ]


def test_a_file_may_hold_several_prompts_of_a_class(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"Edema": ["mild edema", "edema"]}))
    assert prompt_sets({"mine": tmp_path / "p.json"})["mine"] == {"Edema": ["mild edema", "edema"]}


def test_lookup_goes_from_qualified_to_bare_to_stripped() -> None:
    prompts: dict[str, Prompt] = {"sub:STTC": "narrow", "STTC": "wide", "AVB": "block", "NST": "st", "form:STD": "qualified and stripped"}
    assert prompt_for(prompts, "sub", "STTC") == "narrow"
    assert prompt_for(prompts, "super", "STTC") == "wide"
    assert prompt_for(prompts, "sub", "_AVB") == "block"
    assert prompt_for(prompts, "form", "NST_") == "st"
    assert prompt_for(prompts, "form", "STD_") == "qualified and stripped"
    assert prompt_for(prompts, "all", "STD_") is None
    assert prompt_for({"NST_": "own", "NST": "other"}, "form", "NST_") == "own"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ("{}", "at least one"),
        ('"text"', "JSON object"),
        ('{"MI": 3}', "key 'MI'"),
        ('{"MI": "  "}', "key 'MI'"),
        ('{"MI": {"a": "b"}}', "key 'MI'"),
        ('{"MI": []}', "key 'MI'"),
        ('{"MI": ["a", " "]}', "key 'MI'"),
        ('{"MI": ["a", 3]}', "key 'MI'"),
        ('{"CD": "x.", "MI": "a.", "MI": "b."}', "key 'MI': stands there twice"),
    ],
)
def test_a_bad_file_is_refused_by_file_and_key(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(content)
    with pytest.raises(PromptError, match=complaint) as caught:
        prompt_sets({"mine": path})
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_takes_our_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="cannot be read"):
        read_prompts(tmp_path / "nowhere.json")
    (tmp_path / "p.json").write_text('{"MI": "x."}')
    with pytest.raises(PromptError, match="belongs to"):
        prompt_sets({"plain": tmp_path / "p.json"})


def test_configured_sets_stand_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"MI": "größer."}), encoding="utf-8")
    assert prompt_sets({"mine": tmp_path / "p.json"})["mine"] == {"MI": "größer."}
    assert set(prompt_sets({})) == {"einthoven", "plain"}


def test_the_published_set_loads_and_ours_is_not_a_copy(shared_data: Path) -> None:
    sets = prompt_sets({"published": shared_data / "merl_splits" / "CKEPE_prompt.json"})
    assert len(sets["published"]) == 131
    for task, code in CLASSES:
        if task in ("super", "sub", "form", "rhythm"):
            theirs, ours = prompt_for(sets["published"], task, code), prompt_for(sets["einthoven"], task, code)
            assert isinstance(theirs, str) and isinstance(ours, str), (task, code)
            assert difflib.SequenceMatcher(None, theirs.lower(), ours.lower()).ratio() < 0.7, code
