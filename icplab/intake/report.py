"""Reads the books of an intake, makes a report that says what was read, what was set aside and what to mend."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from icplab.core.errors import Problem
from icplab.intake.batch import OUTCOMES, FileBook

MUCH = 0.1  # share of a table set aside from which the report says so in its first lines
_HEADINGS = (
    ("E", "Stops a run", "must be mended first"),
    ("Q", "Set aside", "left out of every figure, listed in rejects.csv"),
    ("W", "Kept, with a warning", "nothing was changed"),
    ("R", "Repaired", "read in the only way that makes sense, and written down"),
)


@dataclass(frozen=True)
class Report:
    """What reading a workspace found.

    `ledger` has one row per table, file and outcome (`records`); `problems` are in the order found; `rejects` has one row
    per record and reason that stops or is set aside.
    """

    workspace: str
    ledger: pd.DataFrame
    problems: tuple[Problem, ...]
    rejects: pd.DataFrame

    @property
    def stops(self) -> tuple[Problem, ...]:
        """Problems that keep a run from starting."""
        return tuple(p for p in self.problems if p.outcome == "E")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Records set aside and doubts; repairs are not among them."""
        return tuple(p for p in self.problems if p.outcome in "QW")

    def exit_code(self, *, strict: bool = False) -> int:
        """0 clean, 1 with warnings when `strict`, 2 when a run would stop."""
        if self.stops:
            return 2
        return 1 if strict and self.warnings else 0

    def as_text(self) -> str:
        """The report for a terminal: the verdict first, then the ledger, then every problem by what it means."""
        parts = [self._verdict()]
        if len(self.ledger):
            parts.append("What was read (records)\n" + _ledger_text(self.ledger))
        for letter, heading, meaning in _HEADINGS:
            found = [p for p in self.problems if p.outcome == letter]
            if found:
                parts.append(f"{heading} ({meaning})\n" + "\n".join(_problem_text(p) for p in found))
        return "\n\n".join(parts) + "\n"

    def _verdict(self) -> str:
        if self.stops:
            many = "1 problem" if len(self.stops) == 1 else f"{len(self.stops)} problems"
            return f"{self.workspace}: a run would stop. Mend {many}, listed below under “Stops a run”."
        used = int(self.ledger.loc[self.ledger["outcome"] == "used", "records"].sum())
        total = int(self.ledger["records"].sum())
        verdict = f"{self.workspace}: a run would go ahead, using {used:,} of {total:,} records"
        return f"{verdict}; every other one is accounted for.{self._heavy_losses()}"

    def _heavy_losses(self) -> str:
        """Tables of which so much was set aside that their figures may mislead."""
        by_table = self.ledger.pivot_table(
            index="table", columns="outcome", values="records", aggfunc="sum", fill_value=0
        )
        aside = by_table.get("quarantined", 0 * by_table["used"])
        share = (aside / (aside + by_table["used"]).clip(lower=1)).loc[lambda s: s > MUCH]
        said = ", ".join(f"{table} {part:.0%}" for table, part in share.sort_index().items())
        return f"\nMuch was set aside, look there first: {said}." if said else ""


def ledger_table(books: list[FileBook]) -> pd.DataFrame:
    """One row per table, file and outcome with records; outcomes without records are left out, `used` never."""
    rows = [
        (book.table, book.file, outcome, book.counts[outcome])
        for book in books
        for outcome in OUTCOMES
        if book.counts[outcome] or outcome == "used"
    ]
    return pd.DataFrame(rows, columns=["table", "file", "outcome", "records"]).astype(
        {"table": "str", "file": "str", "outcome": "str", "records": "int64"}
    )


def _ledger_text(ledger: pd.DataFrame) -> str:
    """Files as lines, outcomes as columns, with the total that the parts add up to."""
    wide = ledger.pivot_table(index=["table", "file"], columns="outcome", values="records", fill_value=0, sort=False)
    wide = wide.astype(int)[[o for o in OUTCOMES if o in wide]]
    wide.insert(0, "records", wide.sum(axis=1))
    names = {"quarantined": "set aside", "repeated_header": "header again"}
    heads = ["table", "file", *(names.get(str(c), str(c)) for c in wide)]
    body = [[str(t), str(f), *(f"{n:,}" for n in row)] for (t, f), row in zip(wide.index, wide.to_numpy(), strict=True)]
    widths = [max(len(line[i]) for line in [heads, *body]) for i in range(len(heads))]
    return "\n".join(
        "  " + "  ".join(_cell(c, w, i) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in [heads, *body]
    )


def _cell(text: str, width: int, position: int) -> str:
    return text.ljust(width) if position < 2 else text.rjust(width)


def _problem_text(problem: Problem) -> str:
    message, _, fix = str(problem).partition(" Fix: ")
    lines = [f"  {message}"]
    if fix:
        lines.append("      Fix: " + fix.replace("\n", "\n           "))
    return "\n".join(lines)
