"""Errors a user can act on: what was given, where, what is allowed, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN_ROWS = 5  # examples printed per message; every row stands in rejects.csv


@dataclass(frozen=True)
class Problem:
    """One thing wrong (or repaired, or doubtful) in the input.

    `code` is `ICP-` + outcome letter (E stop, Q quarantine, R repair, W warning) + catalogue number.
    `record` counts data records from 1, `line` counts physical lines from 1; both None when the whole file is meant.
    `count` is how many rows share the problem; `record` and `value` are then those of the first.
    """

    code: str
    message: str
    fix: str = ""
    file: str = ""
    record: int | None = None
    line: int | None = None
    column: str = ""
    value: str = ""
    count: int = 1

    @property
    def outcome(self) -> str:
        """E, Q, R or W."""
        return self.code.split("-", 1)[1][0]

    def __str__(self) -> str:
        where = self.file
        if self.record is not None:
            where += f" record {self.record}" + (f" (line {self.line})" if self.line else "")
        if self.column:
            where += f'{", " if where else ""}column "{self.column}"'
        value = f'"{self.value}" ' if self.value else ""
        more = f" ({self.count:,} rows in all)" if self.count > 1 else ""
        fix = f" Fix: {self.fix}" if self.fix else ""
        return f"{self.code} {where + ': ' if where else ''}{value}{self.message}{more}{fix}"


class IcplabError(Exception):
    """Base of everything icplab raises on purpose. `exit_code` is what the command line ends with."""

    exit_code = 1


class BadInput(IcplabError):
    """Input or settings that stop a run (exit 2). Carries every problem found, not only the first."""

    exit_code = 2

    def __init__(self, problems: Problem | str | Sequence[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem("ICP-E100", problems)
        self.problems: list[Problem] = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class StageFailed(IcplabError):
    """A notebook failed (exit 3). Names the step and the page that shows where."""

    exit_code = 3


class DoesNotVerify(IcplabError):
    """Artefacts on disk are not what their manifest says (exit 4)."""

    exit_code = 4


class Locked(IcplabError):
    """Another run holds the lock (exit 75)."""

    exit_code = 75


class ContractBroken(IcplabError):
    """A table made by icplab breaks its own declaration: a bug in icplab, not in the input."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """`', did you mean "x"?'` for the closest allowed name, or an empty string."""
    match = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f', did you mean "{match[0]}"?' if match else ""


def no_folder(path: Path) -> str:
    """That a path is not a folder, with the folder beside it that may be meant."""
    beside = path.absolute().parent
    folders = sorted(p.name for p in beside.iterdir() if p.is_dir()) if beside.is_dir() else []
    return f"is not a folder{nearest(path.name, folders)}"
