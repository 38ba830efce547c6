"""Reads a file of events, makes a summary per account that later runs add only new events to.

The summary covers the first row groups of the file, all dated on or before the as-of date. It is believed only when a hash over the
bytes of exactly those row groups still agrees: events that arrive late, or change, change the bytes, and everything is read anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from icplab.core.engine import DuckDBSession, Session
from icplab.core.schema import CANONICAL
from icplab.core.store import write_parquet
from icplab.features import definitions as d

VERSION = 1
SUMS, MANIFEST = "sums.parquet", "covers.json"
_MERGED = """
SELECT account_key, CAST(sum(n_activities) AS BIGINT) AS n_activities, min(first_activity_at) AS first_activity_at,
       max(last_activity_at) AS last_activity_at, sum(intent_30d) AS intent_30d
FROM ({parts}) AS parts GROUP BY account_key"""
_OLD = """
SELECT ids.account_key, s.n_activities, s.first_activity_at, s.last_activity_at, s.intent_30d * {halved} AS intent_30d
FROM sums AS s JOIN ids ON ids.account_id = s.account_id"""


@dataclass(frozen=True)
class Refresh:
    """Where to look for the summary of an earlier run (the first that still holds is used), and where to leave one."""

    earlier: tuple[Path, ...] = ()
    leave: Path | None = None


@dataclass(frozen=True)
class Cover:
    """Row groups of a file that lie on or before a date: how many, how many rows, and the hash of their bytes."""

    groups: int
    rows: int
    sha256: str


def keep_events(session: Session, path: Path, as_of: pd.Timestamp, refresh: Refresh) -> bool:
    """Keep `of_activities` as the full scan would, from an earlier summary where one holds; leave a summary of this date.

    False when nothing was done: not DuckDB, no whole row group to cover, or neither a summary that holds nor one to leave.
    """
    if not isinstance(session, DuckDBSession) or not (refresh.earlier or refresh.leave):
        return False
    groups, rows = _groups_until(path, as_of)
    if not groups:
        return False
    read = [(folder, _read_covers(folder)) for folder in refresh.earlier]
    earlier = [(folder, covers) for folder, covers in read if covers and covers["version"] == VERSION]
    hashes = hash_groups(path, {groups, *(int(covers["groups"]) for _, covers in earlier)})
    start, halved = _give_earlier(session, path, as_of, earlier, hashes)
    if not start and refresh.leave is None:
        return False
    parts = [_OLD.format(halved=halved)] if start else []
    # From the rows the earlier summary covers to those this one covers, then what follows: the group that is still growing.
    for name, first, last in (("covered", start, rows), ("after", rows, None)):
        session.give_rows(f"rows_{name}", path, first, last)
        query = d.all_events(as_of).replace("FROM activities", f"FROM rows_{name}")
        session.keep(f"of_{name}", query)
    session.keep("of_prefix", _MERGED.format(parts=" UNION ALL ".join([*parts, "SELECT * FROM of_covered"])))
    session.keep("of_activities", _MERGED.format(parts="SELECT * FROM of_prefix UNION ALL SELECT * FROM of_after"))
    if refresh.leave is not None:
        _leave(session, refresh.leave, Cover(groups, rows, hashes[groups]), as_of)
    return True


def hash_groups(path: Path, counts: Collection[int]) -> dict[int, str]:
    """Hash of the stored bytes of the first row groups, for each of several numbers of them, in one reading.

    Keys are left out, as new accounts shift them. Numbers beyond the file's are left out of the answer.
    """
    metadata = pq.ParquetFile(path).metadata
    digest = hashlib.sha256(f"{VERSION} {metadata.created_by}".encode())
    found = {0: digest.hexdigest()} if 0 in counts else {}
    with path.open("rb") as file:
        for group in range(min(max(counts, default=0), metadata.num_row_groups)):
            row_group = metadata.row_group(group)
            for column in map(row_group.column, range(row_group.num_columns)):
                if column.path_in_schema in CANONICAL["activities"].by_name:
                    offset = column.dictionary_page_offset or column.data_page_offset
                    file.seek(min(offset, column.data_page_offset))
                    digest.update(column.path_in_schema.encode())
                    digest.update(file.read(column.total_compressed_size))
            if group + 1 in counts:
                found[group + 1] = digest.hexdigest()
    return found


def _groups_until(path: Path, as_of: pd.Timestamp) -> tuple[int, int]:
    """Leading row groups without an event after `as_of`, and their rows."""
    metadata = pq.ParquetFile(path).metadata
    place = metadata.schema.names.index("occurred_at")
    groups = rows = 0
    # The last group grows with the next export, so it is never covered.
    for group in range(metadata.num_row_groups - 1):
        statistics = metadata.row_group(group).column(place).statistics
        if statistics is None or not statistics.has_min_max or pd.Timestamp(statistics.max) > as_of:
            break
        groups, rows = group + 1, rows + metadata.row_group(group).num_rows
    return groups, rows


def _give_earlier(
    session: DuckDBSession,
    path: Path,
    as_of: pd.Timestamp,
    earlier: Iterable[tuple[Path, dict]],
    hashes: Mapping[int, str],
) -> tuple[int, float]:
    """Give the first earlier summary that holds; rows it covers, and what its decayed sums weigh now. (0, 0) when none does."""
    for folder, covers in earlier:
        if pd.Timestamp(covers["as_of"]) > as_of:
            continue
        metadata = pq.ParquetFile(path).metadata
        groups = int(covers["groups"])
        rows = sum(metadata.row_group(g).num_rows for g in range(min(groups, metadata.num_row_groups)))
        if groups > metadata.num_row_groups or rows != covers["rows"] or hashes[groups] != covers["sha256"]:
            continue
        session.give("sums", pq.ParquetFile(folder / SUMS).read())
        days = (as_of - pd.Timestamp(covers["as_of"])).days
        return rows, 2.0 ** (-days / d.INTENT_HALF_LIFE_DAYS)
    return 0, 0.0


def _read_covers(folder: Path) -> dict:
    """What a summary says it covers; empty when there is none, or none that can be read."""
    try:
        covers = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = {"version", "as_of", "groups", "rows", "sha256"} <= set(covers) and (folder / SUMS).is_file()
        return covers if whole and hashlib.sha256((folder / SUMS).read_bytes()).hexdigest() == covers["sums"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _leave(session: DuckDBSession, folder: Path, cover: Cover, as_of: pd.Timestamp) -> None:
    """Write the summary; the file that makes it count comes last."""
    sums = session.fetch(
        "SELECT ids.account_id, p.n_activities, p.first_activity_at, p.last_activity_at, p.intent_30d "
        "FROM of_prefix AS p JOIN ids ON ids.account_key = p.account_key ORDER BY ids.account_key"
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    write_parquet(sums, folder / SUMS)
    covers = {
        "version": VERSION,
        "as_of": f"{as_of:%Y-%m-%d}",
        "groups": cover.groups,
        "rows": cover.rows,
        "sha256": cover.sha256,
        "sums": hashlib.sha256((folder / SUMS).read_bytes()).hexdigest(),
    }
    beside = folder / "covers.part"
    beside.write_text(json.dumps(covers, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(beside, folder / MANIFEST)
