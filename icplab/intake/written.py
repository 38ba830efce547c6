"""Reads the batch of every table, makes its Parquet file: used rows in a fixed order, events with whole-number keys.

Events are the large tables. In the order of time, a reader of recent events skips all older row groups of the file; and
grouping by a whole number costs a fraction of grouping by text (decision record 0004).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from icplab.core.errors import ContractBroken
from icplab.core.schema import Table
from icplab.intake.batch import Batch, FileBook, rises
from icplab.intake.coded import codes_of, decoded, is_coded, words_of

if TYPE_CHECKING:
    import pyarrow as pa

# First sort columns of the tables that grow with time; the others are sorted by their key.
TIME_ORDER = {"activities": ("occurred_at", "account_id"), "usage": ("period", "account_id")}
ACCOUNT_KEY, CONTACT_KEY = "account_key", "contact_key"
PART = 1 << 17  # rows decoded, encoded and written at a time: one row group


def write_table(batch: Batch, path: Path, further: Mapping[str, pd.Series] | None = None) -> None:
    """Write the used rows, with nothing in the file that depends on the machine, the day, or the order of the export.

    `further` are columns for all rows of the batch that are written beside its own.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = in_order(batch)
    columns = {**{str(c): batch.frame[c] for c in batch.frame}, **(further or {})}
    schema = pa.schema([(name, _type_of(column)) for name, column in columns.items()])
    beside = path.with_suffix(".part")
    repeated = [name for name in columns if _repeats(batch.table, name)]
    with (
        pq.ParquetWriter(beside, schema, compression="zstd", use_dictionary=repeated) as writer,
        ThreadPoolExecutor(1) as pool,
    ):
        written: Future[None] | None = None
        for start in range(0, max(len(rows), 1), PART):
            part = _as_run(rows[start : start + PART])
            table = pa.table([_taken(c, part) for c in columns.values()], schema=schema)
            if written:
                written.result()
            written = pool.submit(writer.write_table, table)  # while it is encoded, the next part is taken
            del table
        if written:
            written.result()
    os.replace(beside, path)


def _repeats(table: Table, name: str) -> bool:
    """Whether the values of a column are worth a dictionary: not those of a unique key, nor amounts."""
    amount = name in table.by_name and table.by_name[name].kind == "money"
    return (name,) != table.key and not amount


def _as_run(rows: np.ndarray) -> np.ndarray | slice:
    """Places of rows, as a slice when they follow each other."""
    if len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def event_keys(batches: Mapping[str, Batch]) -> dict[str, dict[str, pd.Series]]:
    """Two further columns of activities: the place of their account in the table of accounts, and of their contact
    among all contacts they name. Both are int32, and blank where the id is."""
    if "activities" not in batches or "accounts" not in batches:
        return {}
    events, accounts = batches["activities"], batches["accounts"]
    known = pd.Index(decoded(accounts.frame["account_id"]).iloc[in_order(accounts)])
    account = known.get_indexer(pd.Index(decoded(events.frame["account_id"])))
    contact, _ = pd.factorize(decoded(events.frame["contact_id"]).where(events.live), sort=True)
    return {"activities": {ACCOUNT_KEY: _blank_below_zero(account), CONTACT_KEY: _blank_below_zero(contact)}}


def check_handed_on(books: Iterable[FileBook], folder: Path) -> None:
    """Hold that the tables written are what the ledger says was used: no row lost or doubled after the books were closed.

    An account merged into another counts as `duplicate`, not as used. Of a native record that gives several rows, or none, the
    book says how many.

    Raises
    ------
    ContractBroken
        Naming the tables that differ: it is a bug of ours, whatever the input.
    """
    import pyarrow.parquet as pq

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


def used_rows(batch: Batch) -> pd.DataFrame:
    """What `write_table` writes, as a frame: for tests and small tables."""
    frame = pd.DataFrame({c: decoded(batch.frame[c]) for c in batch.frame})
    return frame.iloc[in_order(batch)].reset_index(drop=True)


def in_order(batch: Batch) -> np.ndarray:
    """Positions of the used rows in an order that the export's does not change: by time or key, then all other columns."""
    import pyarrow.compute as pc

    live = np.flatnonzero(batch.live)
    first = [k for k in TIME_ORDER.get(batch.table.name, batch.table.key) if k in batch.frame]
    if len(first) == 1 and not is_coded(batch.frame[first[0]]) and rises(batch.frame[first[0]], batch.live):
        return live
    keys = {k: _taken(batch.frame[k], live) for k in first}
    order = _sorted(keys)
    same = np.ones(max(len(live) - 1, 0), dtype=bool)
    for values in keys.values():  # a null is not told from another: the other columns decide
        following = values.take(order)
        same &= pc.fill_null(pc.equal(following[:-1], following[1:]), True).to_numpy(zero_copy_only=False)
    if same.any() or not keys:
        names = [*first, *(c for c in map(str, batch.frame) if c not in first)]
        order = _sorted({str(i): _ranked(batch.frame[c], live) for i, c in enumerate(names)})
    return live[order.to_numpy()]


def _sorted(keys: Mapping[str, pa.Array]) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not keys:
        return pa.array([], type=pa.uint64())
    return pc.sort_indices(pa.table(dict(keys)), sort_keys=[(k, "ascending") for k in keys])


def _ranked(column: pd.Series, rows: np.ndarray) -> pa.Array:
    """What sorts as the column does, null last: of a coded one the ranks of its words."""
    import pyarrow as pa

    if is_coded(column):
        order = np.argsort(words_of(column).to_numpy(dtype=object), kind="stable")
        rank = np.full(len(order) + 1, len(order))
        rank[order] = np.arange(len(order))
        return pa.array(rank[codes_of(column)[rows]])
    taken = _taken(column, rows)
    return taken.cast(pa.int8()) if pa.types.is_boolean(taken.type) else taken


def _type_of(column: pd.Series) -> pa.DataType:
    import pyarrow as pa

    if is_coded(column) or column.dtype == "str":
        return pa.large_string()
    return pa.array(column.iloc[:0]).type


def _taken(column: pd.Series, rows: np.ndarray | slice) -> pa.Array:
    """Some rows of a column as one Arrow array."""
    import pyarrow as pa

    if is_coded(column):
        codes = codes_of(column)[rows]
        return pa.array(words_of(column), type=pa.large_string()).take(pa.array(codes, mask=codes < 0))
    values = column.array[rows] if isinstance(rows, slice) else column.array.take(rows)
    taken = pa.array(pd.Series(values, copy=False), type=_type_of(column), from_pandas=True)  # NaN is null
    return taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken
