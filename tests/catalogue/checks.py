"""The claims that hold for every case of the catalogue; the test modules apply them to their part of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from icplab.core.errors import BadInput
from icplab.intake import Report, take_in
from tests.catalogue.case import Case, Said
from tests.catalogue.reading import Seen, assert_same_tables, broken, clean, see
from tests.catalogue.workspace import Workspace, physical_records

_SEEN: dict[str, Seen] = {}  # the broken workspace of each case, read once for all claims


def seen(case: Case, folder: Path) -> Seen:
    if case.id not in _SEEN:
        _SEEN[case.id] = see(broken(case), folder / "w")
    return _SEEN[case.id]


@cache
def spotless(folder: Path) -> Seen:
    return see(Workspace(), folder / "spotless")


def check_messages(case: Case, folder: Path) -> None:
    """(a) exactly the expected messages, each with its code, file, record, line, column and remedy."""
    found = seen(case, folder)
    report = Report("w", found.ledger, tuple(found.problems), None)
    given = [(p.code, p.file, p.record, p.column, p.count) for p in found.problems if p.code not in case.always]
    assert sorted(given, key=str) == sorted((_expected(s, found.workspace) for s in case.said), key=str), (
        report.as_text()
    )
    for said in case.said:
        problem = next(p for p in found.problems if p.code == said.code and p.column == said.column)
        assert said.fix in problem.fix
        assert problem.fix or problem.outcome == "R", "a doubt or a stop says what to do"
        if said.line:
            assert problem.line == said.line
        elif said.at and not any("\n" in v for r in found.workspace.tables[said.table] for v in r.values()):
            assert problem.line == problem.record + 1
        assert len(problem.message) < 400
    assert report.exit_code() == (2 if case.outcome == "E" else 0)
    assert report.exit_code(strict=True) == {"E": 2, "Q": 1, "W": 1}.get(case.outcome, 0)


def _expected(said: Said, workspace: Workspace) -> tuple:
    """What a message must name."""
    file = said.file or (workspace.file(said.table) if said.table in workspace.tables else f"{said.table}.csv")
    record = _record(said, workspace)
    return said.code, "" if said.code == "ICP-W001" else file, record, said.column, said.count


def _record(said: Said, workspace: Workspace) -> int | None:
    """Number of the record named: of the one with this key, or as given behind an asterisk."""
    if said.at.startswith("*"):
        return int(said.at[1:])
    return workspace.position(said.table, said.at) if said.at else None


def check_ledger(case: Case, folder: Path) -> None:
    """(b) the outcomes of every file read add up to its physical records, counted by another reader."""
    found = seen(case, folder)
    for file, lines in found.ledger.groupby("file"):
        assert lines["records"].sum() == physical_records((found.folder / file).read_bytes())
    for table in found.workspace.tables:
        lines = found.ledger[found.ledger["file"] == found.workspace.file(table)]
        if lines.empty:
            assert any(p.outcome == "E" for p in found.problems)
        elif table == case.table:
            counts = lines.set_index("outcome")["records"].to_dict()
            assert {o: n for o, n in counts.items() if o not in ("header", "used")} == dict(case.ledger)


def check_twin(case: Case, folder: Path, base: Path) -> None:
    """(c) repaired by the tool, or by hand as the remedy says, the tables are those of the clean twin."""
    found = seen(case, folder)
    if case.outcome == "E":
        with pytest.raises(BadInput) as stopped:
            take_in(found.folder, folder / "run")
        assert stopped.value.exit_code == 2
        assert not (folder / "run").exists()
        if case.mend:
            workspace = broken(case)
            case.mend(workspace)
            mended = see(workspace, folder / "mended")
            assert not mended.stops
            assert_same_tables(mended.tables, _clean(case, folder, base).tables)
    elif case.twin:
        twin = clean(case)
        case.twin(twin)
        assert_same_tables(found.tables, see(twin, folder / "twin").tables)
    elif case.outcome != "W":
        assert_same_tables(found.tables, _clean(case, folder, base).tables)


def _clean(case: Case, folder: Path, base: Path) -> Seen:
    return see(clean(case), folder / "clean") if case.before else spotless(base)


def check_order(case: Case, folder: Path) -> None:
    """(d) in another order of records: the same messages but for places, the same tables."""
    first, second = seen(case, folder), see(broken(case, shuffled=7), folder / "shuffled")
    assert _orderless(first) == _orderless(second)
    for said in case.said:
        if said.at and not said.at.startswith("*") and said.count == 1:  # a record without a key cannot be found again
            code, file, record, column, _ = _expected(said, second.workspace)
            assert any((p.code, p.file, p.record, p.column) == (code, file, record, column) for p in second.problems)
    if case.outcome != "E":
        assert_same_tables(second.tables, first.tables)


def _orderless(found: Seen) -> set[tuple]:
    return {(p.code, p.file, p.column, p.count, p.fix, p.message if p.count == 1 else "") for p in found.problems}
