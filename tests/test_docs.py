"""What the pages say is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from assets.dataset import get_dataset, list_datasets
from models.registry import get_spec, list_methods

ROOT = Path(__file__).resolve().parents[1]
DATA = (ROOT / "docs" / "data.md").read_text()


def test_every_dataset_and_task_stands_in_the_table() -> None:
    rows = [line for line in DATA.splitlines() if line.startswith("| `")]
    for name in list_datasets():
        found = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        assert found, f"docs/data.md has no row for {name}"
        for task in get_dataset(name).task_names:
            assert any(re.search(rf"\b{task}\b", row) for row in found), f"the row of {name} does not name its task {task}"


def test_every_reason_for_quarantine_is_explained() -> None:
    code = "".join(path.read_text() for path in (ROOT / "assets").rglob("*.py"))
    raised = set(re.findall(r'(?:RecordError|refusal)\(\s*f?"([a-z_]+)"', code))
    rows = [row.split("|")[1] for row in DATA[DATA.index("## Reading") : DATA.index("## Preparing")].splitlines() if row.startswith("| `")]
    told = set(re.findall(r"`([a-z_]+)`", "".join(rows)))
    assert raised - told == set()
    assert {reason for reason in told if f'"{reason}"' not in code} == set()


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_method_and_preset_stands_in_the_readme() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    for name in list_methods():
        found = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        assert found, f"README.md has no row for {name}"
        for preset in get_spec(name).presets:
            assert any(f"`{preset}`" in row for row in found), f"the row of {name} does not name its preset {preset}"
