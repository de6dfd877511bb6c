"""What the command line says of a promotion is what is true now, not what was true when it was decided."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from orchestration import cli


@pytest.mark.parametrize(
    ("passed", "holder", "said"),
    [
        (True, 2, "champion merl.x version 2"),
        (True, 1, "passed merl.x version 2 when it was judged; champion is version 1"),
        (False, 1, "refused merl.x version 2; champion is version 1"),
        (False, None, "refused merl.x version 2; nobody is champion"),
    ],
)
def test_who_is_champion(passed: bool, holder: int | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(cli, "console", Console(file=text, width=140))
    cli._print_decision({"model": "merl.x", "version": 2, "champion": passed, "holder": holder, "reasons": []})
    assert text.getvalue().strip() == said
