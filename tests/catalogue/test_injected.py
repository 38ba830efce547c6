"""Bad input at scale: each fault of a record, put into 1 and 5 % of a simulated market, gives its code, its count and a whole ledger."""

from __future__ import annotations

import csv
import random
from collections import Counter
from functools import cache

import pytest

from icplab.intake import Report, check_workspace
from icplab.simulate import simulate_market, write_workspace
from tests.catalogue import files_and_structure, ids_dates_numbers, words_and_meaning
from tests.catalogue.case import ACCS, Case
from tests.catalogue.workspace import Row, Workspace

SHARES = {"1 %": 0.01, "5 %": 0.05}
EVERY = (*files_and_structure.CASES, *ids_dates_numbers.CASES, *words_and_meaning.CASES)
BULK = ("ICP-W062", "closed_at")  # many records given one close date look like what they are
# Accounts that look alike are another matter (and most of the time that a check takes).
ALONE = '[matching]\nmerge = "never"\n'


def _code(case: Case) -> str:
    return case.said[0].code if case.said else ""


NO_RATE = "ICP-E065"  # the market has no day without a rate
# The first case of each number and message; a text that is kept says nothing, and at another share nothing else.
CASES = list(
    {(c.number, _code(c)): c for c in reversed(EVERY) if c.each and c.rows_change and _code(c) != NO_RATE}.values()
)
SHARED = [(case, share) for case in reversed(CASES) for share in SHARES if case.said or share == "5 %"]


@cache
def _market(folder) -> dict[str, list[Row]]:
    """Accounts and opportunities of a simulated market, with the columns of the catalogue's workspace."""
    write_workspace(simulate_market(accounts=600, seed=11), folder / "market")
    small, tables = Workspace(), {}
    for name, examples in small.tables.items():
        with (folder / "market" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        further = [c for c in examples[0] if c not in rows[0]]
        tables[name] = [
            {c: examples[i % len(examples)][c] if c in further else row[c] for c in examples[0]}
            for i, row in enumerate(rows)
        ]
    return tables


def _workspace(case: Case, folder) -> Workspace:
    tables = {name: [dict(row) for row in rows] for name, rows in _market(folder).items()}
    workspace = Workspace(tables=tables, settings=ALONE)
    if case.before:
        case.before(workspace)
    return workspace


def _spoilt(case: Case, workspace: Workspace, share: float) -> int:
    """Put the fault into a share of the records of its table, those of the case's own kind, and say into how many."""
    rows = workspace.tables[case.table]
    example = Workspace().row(case.table, case.key)
    alike = [r for r in rows if case.table == ACCS or _status(r) == example["status"]]
    last = max(r["created_at"] for r in rows)  # on the last day known nothing is late yet
    alike = [r for r in alike if r["created_at"] < last and _changes(case, r)]
    hit = random.Random(case.id).sample(alike, min(len(alike), round(share * len(rows))))
    for row in hit:
        case.each(row)
    assert hit
    return len(hit)


def _changes(case: Case, row: Row) -> bool:
    """Whether the fault can be put into this record: a name without the letter to be replaced stays as it is."""
    changed = dict(row)
    case.each(changed)
    return changed != row


def _status(row: Row) -> str:
    """Whether won, lost or open, whatever the case calls it."""
    return {"Closed Won": "won", "Closed Lost": "lost", "Demo": "open"}.get(row["status"], row["status"])


@cache
def _clean(case: Case | None, folder) -> Report:
    """What is said of the market itself, with what the case needs beside it."""
    tables = {name: [dict(row) for row in rows] for name, rows in _market(folder).items()}
    workspace = _workspace(case, folder) if case else Workspace(tables=tables, settings=ALONE)
    return check_workspace(workspace.write(folder / (case.id if case else "plain")))


def _said(report: Report) -> Counter:
    said: Counter = Counter()
    for problem in report.problems:
        said[problem.code, problem.column] += problem.count
    return said


def _outcomes(report: Report, table: str) -> dict[str, int]:
    lines = report.ledger[report.ledger["table"] == table]
    return lines.groupby("outcome")["records"].sum().to_dict()


def _promised(case: Case, code: str, share: str) -> str:
    """The code at this share: a case may set aside a few, and stop at many."""
    letter = dict(zip(SHARES, case.injected, strict=True))[share] if case.injected else code[4]
    return f"ICP-{letter}{code[5:]}"


@pytest.mark.parametrize(("case", "share"), SHARED, ids=lambda value: getattr(value, "id", value))
def test_a_fault_in_many_records_is_counted_and_accounted_for(case, share, tmp_path, tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    clean = _clean(case if case.before else None, base)
    workspace = _workspace(case, base)
    spoilt = _spoilt(case, workspace, SHARES[share])
    report = check_workspace(workspace.write(tmp_path / "w"))
    more = _said(report) - _said(clean)
    more.pop(BULK, None)
    assert more == {(_promised(case, s.code, share), s.column): spoilt for s in case.said}
    wanted, lost = _outcomes(clean, case.table), spoilt * dict(case.ledger).get("quarantined", 0)
    wanted["used"] -= lost
    if lost:
        wanted["quarantined"] = wanted.get("quarantined", 0) + lost
    assert _outcomes(report, case.table) == wanted
    assert sum(wanted.values()) == len(workspace.tables[case.table]) + 1
