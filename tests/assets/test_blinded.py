"""Blinded reading: what is chosen, what a packet gives away, how answers are kept, and how they are scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets.blinded import Answer, Candidate, Kind, ReadingError, append_answer, choose, export_packet, read_answers, read_packet
from assets.blinded_scoring import POOLED, score_reading
from assets.plots_page import EcgPage
from models.types import LEADS


def candidates(kind: Kind, n: int = 20, offset: int = 0) -> list[Candidate]:
    """Two records of each patient."""
    return [Candidate(f"secret{i + offset}", f"p{(i + offset) // 2}", kind) for i in range(n)]


def page(seed: int = 0) -> EcgPage:
    return EcgPage.of(100 * np.random.default_rng(seed).normal(size=(12, 200)).cumsum(axis=1) / 10, LEADS, 100.0)


def drawn(n: int = 10, seed: int = 0) -> list[Candidate]:
    return choose(candidates("real"), candidates("generated"), n, np.random.default_rng(seed))


def test_half_are_real_and_all_of_different_patients() -> None:
    found = drawn()
    assert [c.kind for c in found].count("real") == [c.kind for c in found].count("generated") == 5
    assert len({c.patient_id for c in found}) == 10


def test_the_order_is_drawn_by_the_seed_and_is_no_pattern() -> None:
    assert drawn() == drawn() and drawn(seed=1) != drawn()
    firsts = [drawn(seed=s)[0].kind for s in range(40)]
    assert 8 <= firsts.count("real") <= 32


@pytest.mark.parametrize(("n", "said"), [(3, "even number"), (0, "even number"), (12, "at most 10")])
def test_packets_that_cannot_be_are_refused(n: int, said: str) -> None:
    with pytest.raises(ReadingError, match=said):
        drawn(n)


@pytest.fixture
def packet(tmp_path: Path) -> Path:
    sheets = [(c, page(i)) for i, c in enumerate(drawn(4))]
    export_packet(tmp_path / "packet", tmp_path / "key.json", sheets, {"method": "wearecg"})
    return tmp_path / "packet"


def test_a_packet_gives_nothing_away(packet: Path) -> None:
    key = json.loads((packet.parent / "key.json").read_text())
    assert [s["kind"] for s in key["sheets"]] == [c.kind for c in drawn(4)] and key["about"] == {"method": "wearecg"}
    files = sorted(p for p in packet.rglob("*") if p.is_file())
    assert [p.name for p in files] == ["packet.json", "001.png", "002.png", "003.png", "004.png"]
    for path in files:
        assert not any(word in path.read_bytes() for word in (b"secret", b"wearecg", b"generated", b"Software", b"tEXt"))
    assert read_packet(packet) == {"packet": key["packet"], "sheets": [1, 2, 3, 4]}


def test_a_sheet_looks_the_same_whatever_it_is(tmp_path: Path) -> None:
    for name, kind in (("a", "real"), ("b", "generated")):
        export_packet(tmp_path / name, tmp_path / f"{name}.json", [(Candidate("r", "p", kind), page())], {})  # type: ignore[arg-type]
    assert (tmp_path / "a/sheets/001.png").read_bytes() == (tmp_path / "b/sheets/001.png").read_bytes()


def test_a_key_does_not_lie_in_the_packet_and_nothing_is_overwritten(packet: Path) -> None:
    sheets = [(candidates("real")[0], page())]
    with pytest.raises(ReadingError, match="readers find it"):
        export_packet(packet.parent / "other", packet.parent / "other" / "deep" / "key.json", sheets, {})
    with pytest.raises(ReadingError, match="exists already"):
        export_packet(packet, packet.parent / "other.json", sheets, {})
    with pytest.raises(ReadingError, match="exists already"):
        export_packet(packet.parent / "other", packet.parent / "key.json", sheets, {})


def answer(folder: Path, sheet: int = 1, said: str = "real", reader: str = "Dr A", **changes: Any) -> Answer:
    return replace(Answer(read_packet(folder)["packet"], reader, sheet, said, 3, "2026-01-01T00:00:00+00:00"), **changes)  # type: ignore[arg-type]


def test_answers_are_kept_one_a_line_and_read_again(packet: Path, tmp_path: Path) -> None:
    given = [answer(packet, 2), answer(packet, 1, "generated")]
    for each in given:
        append_answer(tmp_path / "answers", read_packet(packet), each)
    assert len((tmp_path / "answers" / "Dr A.jsonl").read_text().splitlines()) == 2
    assert read_answers(tmp_path / "answers", "Dr A") == given


def test_the_first_answer_counts(packet: Path, tmp_path: Path) -> None:
    append_answer(tmp_path / "answers", read_packet(packet), answer(packet))
    with pytest.raises(ReadingError, match="the first answer counts"):
        append_answer(tmp_path / "answers", read_packet(packet), answer(packet, said="generated"))
    for other in ("Dr B", "Dr_A"):
        append_answer(tmp_path / "answers", read_packet(packet), answer(packet, reader=other))
    assert [a.answer for a in read_answers(tmp_path / "answers", "Dr A")] == ["real"]


def test_a_line_that_a_crash_has_cut_short_is_no_answer(packet: Path, tmp_path: Path) -> None:
    path = tmp_path / "answers" / "Dr A.jsonl"
    append_answer(tmp_path / "answers", read_packet(packet), answer(packet, 1))
    with path.open("a") as stream:
        stream.write('{"packet": "abc", "rea')
    assert [a.sheet for a in read_answers(tmp_path / "answers", "Dr A")] == [1]
    append_answer(tmp_path / "answers", read_packet(packet), answer(packet, 2))
    assert [a.sheet for a in read_answers(tmp_path / "answers", "Dr A")] == [1, 2]


def test_a_line_that_is_no_answer_is_named(packet: Path, tmp_path: Path) -> None:
    append_answer(tmp_path / "answers", read_packet(packet), answer(packet, 1))
    with (tmp_path / "answers" / "Dr A.jsonl").open("a") as stream:
        stream.write("nonsense\n")
    with pytest.raises(ReadingError, match=r"Dr A\.jsonl, line 2"):
        read_answers(tmp_path / "answers", "Dr A")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reader": "../../etc/passwd"}, "reader's name"),
        ({"reader": ""}, "reader's name"),
        ({"reader": ".hidden"}, "reader's name"),
        ({"sheet": 5}, "not in packet"),
        ({"packet": "other"}, "not in packet"),
        ({"answer": "perhaps"}, "real or generated"),
        ({"confidence": 6}, "confidence of 1 to 5"),
        ({"confidence": True}, "confidence of 1 to 5"),
        ({"confidence": "3"}, "confidence of 1 to 5"),
    ],
)
def test_what_is_no_answer_is_refused_and_not_kept(packet: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ReadingError, match=said):
        append_answer(tmp_path / "answers", read_packet(packet), answer(packet, **changes))
    assert not (tmp_path / "answers").exists()


def test_what_is_no_packet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadingError, match="einthoven readers export"):
        read_packet(tmp_path)


def fill(packet: Path, answers: Path, **by_reader: str) -> None:
    """Answers of readers by letters: r real, g generated, in the order of the sheets, x for none."""
    for reader, letters in by_reader.items():
        for sheet, letter in enumerate(letters, 1):
            if letter != "x":
                said = {"r": "real", "g": "generated"}[letter]
                append_answer(answers, read_packet(packet), answer(packet, sheet, said, reader, confidence=5 if letter == "r" else 2))


def truth(packet: Path) -> str:
    return "".join(s["kind"][0] for s in json.loads((packet.parent / "key.json").read_text())["sheets"])


def test_scores_are_shares_of_right_answers_with_interval_p_and_agreement(packet: Path, tmp_path: Path) -> None:
    right = truth(packet)
    first_wrong = right.translate(str.maketrans("rg", "gr"))[0] + right[1:]
    fill(packet, tmp_path / "answers", A=right, B=first_wrong, C=right[:3] + "x")
    scored = score_reading(packet.parent / "key.json", tmp_path / "answers")
    rows = {row["reader"]: row for row in scored["readers"]}
    assert [(rows[r]["right"], rows[r]["n"]) for r in ("A", "B", "C", POOLED)] == [(4, 4), (3, 4), (3, 3), (10, 11)]
    assert rows["A"]["p"] == pytest.approx(2 / 16) and rows["B"]["accuracy"] == 0.75 and rows["B"]["low"] < 0.75 < rows["B"]["high"]
    assert rows["A"]["real_found"] == rows["A"]["generated_found"] == 1
    found = {"real": "real_found", "generated": "generated_found"}[{"r": "real", "g": "generated"}[right[0]]]
    assert rows["B"][found] == 0.5
    assert scored["common"] == 3 and scored["fleiss_kappa"] == pytest.approx(_kappa(right[:3]))
    assert rows["A"]["confidence_right"] == 3.5 and rows["A"]["confidence_wrong"] is None


def _kappa(truths: str) -> float:
    """Of three readers and three sheets of which one reader got the first wrong, written out."""
    agreed = (1 / 3 + 1 + 1) / 3
    reals = 3 * truths.count("r") + (-1 if truths[0] == "r" else 1)
    chance = (reals / 9) ** 2 + (1 - reals / 9) ** 2
    return (agreed - chance) / (1 - chance)


def test_of_one_reader_there_is_no_agreement_nor_a_pooled_row(packet: Path, tmp_path: Path) -> None:
    fill(packet, tmp_path / "answers", A=truth(packet))
    scored = score_reading(packet.parent / "key.json", tmp_path / "answers")
    assert scored["fleiss_kappa"] is None and [row["reader"] for row in scored["readers"]] == ["A"]


def test_answers_to_another_packet_are_refused(packet: Path, tmp_path: Path) -> None:
    fill(packet, tmp_path / "answers", A=truth(packet))
    key = json.loads((packet.parent / "key.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps(key | {"packet": "other"}))
    with pytest.raises(ReadingError, match="give its own key"):
        score_reading(tmp_path / "other.json", tmp_path / "answers")
    with pytest.raises(ReadingError, match="holds no answer"):
        score_reading(packet.parent / "key.json", tmp_path / "nobody")
    with pytest.raises(ReadingError, match="not the key"):
        score_reading(packet / "packet.json", tmp_path / "answers")
