"""Reads nothing, makes the shape of a case of the bad-input catalogue and the ways in which cases break a workspace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.catalogue.workspace import Row, Workspace

Change = Callable[[Workspace], object]
OPPS, ACCS = "opportunities", "accounts"


@dataclass(frozen=True)
class Said:
    """One message that must be given, and nothing else: code, file, record (by its key), column, words of the fix."""

    code: str
    column: str = ""
    at: str = ""  # key of the record named; empty: none is
    fix: str = ""
    table: str = OPPS
    file: str = ""  # when it is not the table's
    count: int = 1
    line: int | None = None  # where it is not the record's own


@dataclass(frozen=True)
class Case:
    """One way of being wrong, and what the user gets.

    `breaks` changes a clean workspace, or `each` changes one record (`key` of `table`) and can be injected at a rate. `twin`
    changes a clean workspace into the one whose tables must come out (default: as it is); `mend` is what the fix asks for,
    done to the broken workspace, after which the clean tables must come out.
    """

    number: int
    name: str
    said: tuple[Said, ...] = ()
    breaks: Change | None = None
    each: Callable[[Row], object] | None = None
    table: str = OPPS
    key: str = "O007"
    before: Change | None = None  # what the clean workspace needs beside the two tables
    twin: Change | None = None
    mend: Change | None = None
    ledger: tuple[tuple[str, int], ...] = ()  # outcomes of the file broken, beside header and used
    patch: tuple[tuple[str, Any], ...] = ()  # what is set for the test, by dotted name
    shuffles: bool = True  # False: the order of records is what is wrong
    always: tuple[str, ...] = ()  # codes that the clean workspace gives too: how a native export was read
    rows_change: bool = True  # False: the change of one record does not make one message (not injected)
    injected: str = ""  # promise at 1 and at 5 %, when it is not that of `said`: two letters, such as QE

    @property
    def id(self) -> str:
        return f"{self.number:03d} {self.name}"

    @property
    def outcome(self) -> str:
        """The gravest outcome expected; `ok` when nothing is said."""
        letters = {s.code[4] for s in self.said}
        return next((o for o in "EQWR" if o in letters), "ok")

    def break_(self, workspace: Workspace) -> None:
        if self.breaks:
            self.breaks(workspace)
        if self.each:
            self.each(workspace.row(self.table, self.key))


def put(**cells: str) -> Callable[[Row], None]:
    """Cells of one record replaced."""
    return lambda row: row.update(cells)


def column(table: str, name: str, change: Callable[[str], str]) -> Change:
    """Every cell of a column changed; blank ones stay."""

    def act(workspace: Workspace) -> None:
        for row in workspace.tables[table]:
            row[name] = change(row[name]) if row[name] else ""

    return act


def further(table: str, name: str, value: Callable[[int, Row], str]) -> Change:
    """A further column, from the number and the cells of each record."""

    def act(workspace: Workspace) -> None:
        for number, row in enumerate(sorted(workspace.tables[table], key=lambda r: next(iter(r.values())))):
            row[name] = value(number, row)

    return act


def raw(change: Callable[[bytes], bytes], file: str = "opportunities.csv") -> Change:
    """The bytes of a file changed as they are written."""
    return lambda workspace: workspace.edits.append((file, change))


def text(change: Callable[[str], str], file: str = "opportunities.csv") -> Change:
    """The text of a file changed as it is written."""
    return raw(lambda data: change(data.decode()).encode(), file)


def settings(toml: str) -> Change:
    """Further lines of `icplab.toml`."""

    def act(workspace: Workspace) -> None:
        workspace.settings += toml + "\n"

    return act


def table(name: str, content: str, file: str = "") -> Change:
    """A further table, from CSV text without quotes."""

    def act(workspace: Workspace) -> None:
        head, *lines = content.strip().splitlines()
        names = head.strip().split(",")
        workspace.tables[name] = [dict(zip(names, ln.strip().split(","), strict=True)) for ln in lines]
        if file:
            workspace.names[name] = file

    return act


def other(name: str, data: bytes | str) -> Change:
    """A further file."""
    content = data.encode() if isinstance(data, str) else data
    return lambda workspace: workspace.others.update({name: content})


def dropped(*keys: str, table: str = OPPS) -> Change:
    """Records left out."""
    return lambda workspace: workspace.drop(table, *keys)


def again(key: str = "O007", table: str = OPPS, **cells: str) -> Change:
    """A record a second time, with cells changed."""
    return lambda workspace: workspace.tables[table].append({**workspace.row(table, key), **cells})


def cells(table: str, key: str, **changed: str) -> Change:
    """Cells of one record replaced."""
    return lambda workspace: workspace.row(table, key).update(changed)


def all_of(*changes: Change | None) -> Change:
    """Several changes, one after the other."""
    return lambda workspace: [c(workspace) for c in changes if c]


def undone(workspace: Workspace) -> None:
    """The file put right by hand, as in the clean workspace: the edits of bytes are taken back."""
    workspace.edits.clear()
    workspace.after.clear()
