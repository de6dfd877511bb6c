"""What a check has found so far, and the verdict that follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from assets.verdicts import Verdict
from models.errors import EinthovenError

NAMED_IN_MESSAGE = 5
NAMED_IN_DETAILS = 20


class CheckError(EinthovenError):
    """A check that cannot look at what it should: a file that is unreadable, or an upstream output that is gone."""


@dataclass
class Findings:
    """Problems fail a check; notes are said and do not.

    Attributes:
        rows: names (mostly record ids) of the first rows at fault.
        n_rows: number of rows at fault; a row with two problems counts twice.
        facts: small JSON for the UI.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    n_rows: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    def fail(self, problem: str, rows: Iterable[Any] = (), count: int | None = None, *, named: bool = False) -> None:
        """Add a problem and the rows it concerns.

        Args:
            problem: a sentence for people.
            rows: names of the rows at fault, or the first of them.
            count: number of rows at fault, where only the first are given.
            named: whether the sentence names the rows already.
        """
        names = [str(r) for r in rows]
        total = len(names) if count is None else count
        self.problems.append(f"{problem}: {name_rows(names, total)}" if names and not named else problem)
        self.n_rows += total
        self.rows = list(dict.fromkeys([*self.rows, *names]))[:NAMED_IN_DETAILS]

    def note(self, note: str) -> None:
        """Add something worth saying that does not fail the check."""
        self.notes.append(note)

    def verdict(self, check: str, passed: str) -> Verdict:
        """The verdict; `passed` is the sentence for a check without problems."""
        message = "; ".join([*(self.problems or [passed]), *self.notes])
        details = {"problems": self.problems, "notes": self.notes, "rows": self.rows, "n_rows": self.n_rows, **self.facts}
        return Verdict(check, not self.problems, message, details)


def name_rows(names: list[str], count: int | None = None) -> str:
    """The first names of a list and how many more there are."""
    shown = list(dict.fromkeys(names))[:NAMED_IN_MESSAGE]
    more = max((len(names) if count is None else count) - len(shown), 0)
    return ", ".join(shown) + (f" and {more} more" if more else "")
