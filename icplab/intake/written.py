"""Reads the used rows of every table, makes what is written: rows in a fixed order, events with whole-number keys.

Events are the large tables. In the order of time, a reader of recent events skips all older row groups of the file; and
grouping by a whole number costs a fraction of grouping by text (decision record 0004).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from icplab.core.errors import ContractBroken
from icplab.core.schema import Table
from icplab.intake.batch import FileBook

# First sort columns of the tables that grow with time; the others are sorted by their key.
TIME_ORDER = {"activities": ("occurred_at", "account_id"), "usage": ("period", "account_id")}
ACCOUNT_KEY, CONTACT_KEY = "account_key", "contact_key"


def in_order(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Rows in an order that does not depend on the export's: by time or key, then by every other column."""
    first = TIME_ORDER.get(table.name, table.key)
    rest = [str(c) for c in frame if c not in first]
    return frame.sort_values([*first, *rest], kind="stable", ignore_index=True)


def add_keys(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Activities with two further columns: the place of their account in the table of accounts, and of their contact
    among all contacts they name. Both are int32, and blank where the id is."""
    if "activities" not in tables or "accounts" not in tables:
        return tables
    events = tables["activities"]
    account = pd.Index(tables["accounts"]["account_id"]).get_indexer(pd.Index(events["account_id"]))
    contact, _ = pd.factorize(events["contact_id"], sort=True)
    keys = {name: _blank_below_zero(place) for name, place in ((ACCOUNT_KEY, account), (CONTACT_KEY, contact))}
    return {**tables, "activities": events.assign(**keys)}


def check_handed_on(books: Iterable[FileBook], folder: Path) -> None:
    """Hold that the tables written are what the ledger says was used: no row lost or doubled after the books were closed.

    An account merged into another counts as `duplicate`, not as used. Of a native record that gives several rows, or none, the
    book says how many.

    Raises
    ------
    ContractBroken
        Naming the tables that differ: it is a bug of ours, whatever the input.
    """
    used: Counter[str] = Counter()
    for book in books:
        used[book.table] += book.rows
    written = {path.stem: pq.read_metadata(path).num_rows for path in sorted(folder.glob("*.parquet"))}
    wrong = [t for t in sorted({*used, *written}) if used.get(t, 0) != written.get(t)]
    if wrong:
        told = "; ".join(f"{t}: {written.get(t, 'no file')} rows written, {used.get(t, 0)} used" for t in wrong)
        raise ContractBroken(f"what the intake hands on is not what its ledger says was used: {told}")


def _blank_below_zero(place: object) -> pd.Series:
    keys = pd.Series(place, dtype="Int32")
    return keys.mask(keys < 0)
