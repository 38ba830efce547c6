"""Reads the books of an intake, makes a report that says what was read, what was set aside and what to mend."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from icplab.core.errors import Problem
from icplab.core.messages import PAGE
from icplab.intake.batch import OUTCOMES, FileBook, listed

MUCH = 0.1  # share of a table set aside from which the report says so in its first lines
LINES = 60  # that a report should not exceed
# Problems printed of each outcome, the rest is counted: the first choice that keeps the report short, repairs giving way first.
SHOWN = [
    dict(zip("EQWR", counts, strict=True))
    for counts in ((6, 3, 4, 3), (6, 3, 3, 2), (6, 2, 2, 1), (4, 1, 1, 1), (2, 1, 1, 1))
]
OF_ONE_CODE = 3
LINES_TO_COPY = 4  # of a block for the settings
WIDTH = 118
_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
_EXAMPLES = re.compile(r" \(also records? [\d, ]+(?:…)?\)")
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

    def as_text(self, *, everything: bool = False) -> str:
        """The report for a terminal: the verdict, what stops, the ledger, then the other problems by what they mean.

        Columns with the same problem share a line; of each outcome the first are shown, and the rest counted by code, so
        that it all fits into some sixty lines, unless `everything` is asked for.
        """
        if everything:
            return self._text({})
        texts = (self._text(most) for most in SHOWN)
        text = next(texts)
        while text.count("\n") > LINES and (shorter := next(texts, "")):
            text = shorter
        return text

    def _text(self, most: Mapping[str, int]) -> str:
        """The report with at most so many problems of each outcome; of an outcome not named, all."""
        parts = [self._verdict()]
        sections = {letter: self._section(letter, most.get(letter)) for letter, _, _ in _HEADINGS}
        if sections["E"]:
            parts.append(sections["E"])
        if len(self.ledger):
            parts.append("What was read (records)\n" + _ledger_text(self.ledger))
        parts += [sections[letter] for letter in "QWR" if sections[letter]]
        if self.problems:
            gravest = min(self.problems, key=lambda p: "EQWR".index(p.outcome)).code
            parts.append(f"What a code means and what to do about it: {PAGE} (for example #{gravest.lower()}).")
        return "\n\n".join(parts) + "\n"

    def _section(self, letter: str, most: int | None) -> str:
        """The problems of one outcome under their heading, or nothing."""
        found = sorted(_by_column(p for p in self.problems if p.outcome == letter), key=_weight)
        if not found:
            return ""
        heading, meaning = next((h, m) for o, h, m in _HEADINGS if o == letter)
        shown, rest = (found, []) if most is None else _first_of_each(found, most)
        lines = [f"{heading} ({meaning})", *map(_problem_text, shown)]
        if rest:
            by_code = ", ".join(f"{code} ({n}×)" for code, n in sorted(Counter(p.code for p in rest).items()))
            lines.append(f"  … and {len(rest)} more: {by_code}. See all with icplab check --all")
        return "\n".join(lines)

    def _verdict(self) -> str:
        if self.stops:
            problems = len(_by_column(self.stops))
            many = "1 problem" if problems == 1 else f"{problems} problems"
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


def _by_column(problems: Iterable[Problem]) -> list[Problem]:
    """Problems, with those that differ in their column only made one."""
    alike: dict[tuple, list[Problem]] = {}
    for problem in problems:
        key = (problem.code, problem.file, _EXAMPLES.sub("", problem.message), problem.fix)
        alike.setdefault(key, []).append(problem)
    return [p for group in alike.values() for p in ([_joined(group)] if _differ_in_column(group) else group)]


def _differ_in_column(group: list[Problem]) -> bool:
    return len({p.column for p in group}) == len(group) > 1 and all(p.column for p in group)


def _joined(group: list[Problem]) -> Problem:
    """One problem of several columns: the place of the first, the count of all."""
    first = group[0]
    columns = listed((p.column for p in group), 6)
    return replace(first, column=columns, count=sum(p.count for p in group), message=_EXAMPLES.sub("", first.message))


def _weight(problem: Problem) -> tuple:
    """Whole files first, then what concerns most records."""
    return (problem.record is not None, -problem.count)


def _first_of_each(problems: list[Problem], most: int) -> tuple[list[Problem], list[Problem]]:
    """The first problems, not more than a few of one code, and the rest."""
    shown: list[Problem] = []
    rest: list[Problem] = []
    of_code: Counter[str] = Counter()
    for problem in problems:
        of_code[problem.code] += 1
        (shown if len(shown) < most and of_code[problem.code] <= OF_ONE_CODE else rest).append(problem)
    return shown, rest


def _problem_text(problem: Problem) -> str:
    """A problem in lines that fit a terminal; lines to copy are not broken."""
    message, _, fix = str(problem).partition(" Fix: ")
    if ", " in problem.column:
        message = message.replace('column "', 'columns "', 1)
    first, *block = fix.split("\n")
    lines = textwrap.wrap(message, WIDTH, initial_indent="  ", subsequent_indent="      ", **_WHOLE_WORDS)
    if fix:
        lines += textwrap.wrap(first, WIDTH, initial_indent="      Fix: ", subsequent_indent=" " * 11, **_WHOLE_WORDS)
        lines += [" " * 11 + line for line in block[:LINES_TO_COPY]]
        lines += [" " * 11 + f"… and {len(block) - LINES_TO_COPY} more"] if len(block) > LINES_TO_COPY else []
    return "\n".join(lines)
