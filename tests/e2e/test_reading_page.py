"""Blinded reading as a reader meets it: `einthoven readers serve`, a real browser, answers on the disk, then the score."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets.blinded import Candidate, choose, export_packet, read_answers
from assets.plots_page import EcgPage
from models.types import LEADS

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
COMMAND = [sys.executable, "-P", "-m", "orchestration.cli", "readers"]


@pytest.fixture
def packet(tmp_path: Path) -> Path:
    """Four sheets."""
    rng = np.random.default_rng(0)
    real, generated = ([Candidate(f"{kind}{i}", f"{kind}{i}", kind) for i in range(4)] for kind in ("real", "generated"))  # type: ignore[arg-type]
    sheets = [(c, EcgPage.of(100 * rng.normal(size=(12, 1000)).cumsum(axis=1) / 10, LEADS, 100.0)) for c in choose(real, generated, 4, rng)]
    export_packet(tmp_path / "packet", tmp_path / "key.json", sheets, {})
    return tmp_path / "packet"


@pytest.fixture
def address(packet: Path) -> Iterator[str]:
    process = subprocess.Popen([*COMMAND, "serve", str(packet), "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    yield next(word for word in line.split() if word.startswith("http://"))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


@pytest.fixture
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        )
        yield started
        started.close()


def test_a_reader_answers_by_mouse_and_keys_leaves_and_goes_on(address: str, packet: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(20_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.fill("#reader", "Dr A")
    page.get_by_role("button", name="Begin").click()
    page.get_by_text("0 of 4 sheets answered").wait_for()
    assert page.get_by_role("button", name="Give answer").is_disabled()
    page.get_by_label("reconstructed", exact=True).check()
    page.get_by_label("4", exact=True).check()
    assert page.evaluate("document.querySelector('#sheet').naturalWidth") > 1000
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "reading_page.png", full_page=True)
    page.get_by_role("button", name="Give answer").click()
    page.get_by_text("1 of 4 sheets answered").wait_for()
    (first,) = read_answers(packet.parent / "answers", "Dr A")
    assert (first.sheet, first.answer, first.confidence) == (1, "generated", 4)

    page.reload()
    page.fill("#reader", "Dr A")
    page.keyboard.press("Enter")
    for done, keys in enumerate((("r", "5"), ("g", "1"), ("r", "2")), 2):
        page.locator(f"#sheet[src='/sheet/{done}']").wait_for()
        for key in (*keys, "Enter"):
            page.keyboard.press(key)
        page.get_by_text(f"{done} of 4 sheets answered").wait_for()
    page.get_by_text("That was the last sheet").wait_for()
    given = [(a.sheet, a.answer, a.confidence) for a in read_answers(packet.parent / "answers", "Dr A")]
    assert given == [(1, "generated", 4), (2, "real", 5), (3, "generated", 1), (4, "real", 2)]
    assert faults == []

    scored = packet.parent / "score.json"
    arguments = ["score", str(packet.parent / "answers"), "--key", str(packet.parent / "key.json"), "--output", str(scored)]
    said = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=True).stdout
    kinds = [s["kind"] for s in json.loads((packet.parent / "key.json").read_text())["sheets"]]
    (row,) = json.loads(scored.read_text())["readers"]
    assert row["right"] == sum(a == b for a, b in zip(kinds, ("generated", "real", "generated", "real"), strict=True)) and "Dr A" in said
