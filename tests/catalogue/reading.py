"""Reads a case's workspaces as the intake does, once each, and keeps what was said and which tables came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from icplab.core.errors import Problem
from icplab.intake import take
from icplab.intake.report import ledger_table
from icplab.intake.written import used_rows
from tests.catalogue.case import Case
from tests.catalogue.workspace import Workspace


@dataclass
class Seen:
    """What reading a workspace gave: messages, the ledger, and the tables that a run would get."""

    workspace: Workspace
    folder: Path
    problems: list[Problem]
    ledger: pd.DataFrame
    tables: dict[str, pd.DataFrame]

    @property
    def stops(self) -> bool:
        return any(p.outcome == "E" for p in self.problems)


def see(workspace: Workspace, folder: Path) -> Seen:
    """Write a workspace and read it."""
    reading = take._read(workspace.write(folder))
    tables = {name: used_rows(batch) for name, batch in reading.batches.items()}
    return Seen(workspace, folder, reading.problems, ledger_table(reading.books), tables)


def clean(case: Case, shuffled: int = 0) -> Workspace:
    """The workspace before it is broken."""
    workspace = Workspace()
    if case.before:
        case.before(workspace)
    if shuffled:
        workspace.shuffle(shuffled)
    return workspace


def broken(case: Case, shuffled: int = 0) -> Workspace:
    """The workspace of a case."""
    workspace = clean(case, shuffled)
    case.break_(workspace)
    return workspace


def assert_same_tables(given: dict[str, pd.DataFrame], wanted: dict[str, pd.DataFrame]) -> None:
    """Equal in every name, type, order and value; the writer makes equal bytes of equal tables."""
    assert set(given) == set(wanted)
    for name, frame in wanted.items():
        pd.testing.assert_frame_equal(given[name], frame, check_exact=True)
