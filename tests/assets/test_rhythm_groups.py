"""Four groups of rhythms: invariant 8 of the stacked scalograms."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from assets.dataset import get_dataset
from assets.rhythm_groups import RHYTHM4, RHYTHMS, SCP_RHYTHMS, from_scp, left_out, rhythm, rhythm_table
from assets.scp import STATEMENTS

LISTED = """
426177001 SB, 164889003 AFIB, 164890007 AFIB, 427084000 GSVT, 426761007 GSVT, 713422000 GSVT, 251166008 GSVT, 233896004 GSVT,
233897008 GSVT, 17366009 GSVT, 195101003 GSVT, 426783006 SR, 427393009 SR
"""
MAP = dict(pair.split() for pair in LISTED.replace("\n", " ").split(","))


def twin(codes: tuple[str, ...]) -> str:
    """The rule in the specification's words."""
    classes = {MAP[c] for c in codes if c in MAP}
    if len(classes) == 1:
        return classes.pop()
    rate = classes - {"SR"}
    if "427393009" in codes and "426783006" not in codes and len(rate) == 1 and rate <= {"SB", "GSVT"}:
        return rate.pop()
    return "excluded"


def test_the_map_is_total_over_the_listed_codes_and_knows_no_other() -> None:
    assert {code: group for group, codes in RHYTHMS.items() for code in codes} == MAP
    assert RHYTHM4.classes == ("SB", "AFIB", "GSVT", "SR") and RHYTHM4.kind == "single_label"


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_every_set_of_codes_has_one_group_or_a_reason(size: int) -> None:
    for codes in combinations([*MAP, "284470004"], size):
        group, reason = rhythm(codes)
        assert (group or "excluded") == twin(codes), codes
        assert (group is None) == (reason in ("no_rhythm", "several_rhythms"))


def test_what_is_left_out_is_counted() -> None:
    codes = {"a": ["426177001", "427393009"], "b": ["164889003", "427084000"], "c": [], "d": ["284470004"], "e": ["426783006", "426783006"]}
    table = rhythm_table(codes).set_index("record_id")
    assert table.idxmax(axis=1).to_dict() == {"a": "SB", "e": "SR"}
    assert (table.sum(axis=1) == 1).all() and table.dtypes.eq("int8").all()
    assert left_out(codes) == {"several_rhythms": 1, "no_rhythm": 2}
    assert list(rhythm_table({}).columns) == ["record_id", *RHYTHM4.classes]


def test_statements_of_rhythm_name_a_code_or_are_known_not_to() -> None:
    rhythms = {code for code, statement in STATEMENTS.items() if statement.rhythm}
    assert rhythms - set(SCP_RHYTHMS) == {"BIGU", "TRIGU", "PACE", "SVARR"}
    assert set(SCP_RHYTHMS) <= rhythms and set(SCP_RHYTHMS.values()) <= set(MAP)
    assert from_scp({"a": ["NORM", "SARRH", "SBRAD"]}) == {"a": ["427393009", "426177001"]}


@pytest.mark.parametrize("name", ["sph", "cinc2020", "cinc2021", "ptb_xl", "synthetic"])
def test_datasets_with_such_rhythms_offer_the_task(name: str, tmp_path: Path) -> None:
    kind = get_dataset(name)
    kind.make_fixture(tmp_path)
    dataset = kind(tmp_path)
    table, reasons = dataset.labels("rhythm4"), dataset.left_out("rhythm4")
    assert dataset.task("rhythm4") is RHYTHM4 and tuple(table.columns) == ("record_id", *RHYTHM4.classes)
    assert (table[list(RHYTHM4.classes)].sum(axis=1) == 1).all() and table["record_id"].is_unique
    listed = len(dataset.records())
    assert len(table) > 10 and len(table) + sum(reasons.values()) in (listed, listed - 1, listed - 2)  # one or two have no header
    assert not dataset.left_out(next(t for t in dataset.task_names if t != "rhythm4"))
