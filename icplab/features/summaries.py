"""Reads events on the engine, makes summaries small enough to hold: what the stages need of activities and usage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from icplab.core.engine import open_session
from icplab.core.schema import CANONICAL
from icplab.features.definitions import INTENT_HALF_LIFE_DAYS
from icplab.features.known import Tables, sql_day

# The weights of all events of a row, as one weight dated on the last of them: halving it from there gives their sum.
_SIGNALS = """
SELECT account_id, max(occurred_at) AS occurred_at, type,
       sum(greatest(coalesce(weight, 1.0), 0.0)
           * pow(2.0, -date_diff('day', CAST(occurred_at AS DATE), {date}) / CAST({half} AS DOUBLE)))
       * pow(2.0, date_diff('day', CAST(max(occurred_at) AS DATE), {date}) / CAST({half} AS DOUBLE)) AS weight
FROM activities WHERE occurred_at <= {day} GROUP BY account_id, type ORDER BY account_id, type"""

# Minutes are summed as whole hundredths, so that the order of the rows moves no last digit.
_EFFORT = """
SELECT account_id, CAST(date_trunc('month', occurred_at) AS DATE) AS month, type, count(*) AS events,
       sum(CASE WHEN minutes > 0 THEN 1 ELSE 0 END) AS timed,
       sum(CASE WHEN minutes > 0 THEN CAST(round(minutes * 100) AS BIGINT) ELSE 0 END) / 100.0 AS minutes
FROM activities WHERE occurred_at <= {day} AND account_id IS NOT NULL
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""


def summarise_signals(tables: Tables, as_of: pd.Timestamp, *, engine: str = "") -> pd.DataFrame:
    """Activities until `as_of` as one row per account and type, in the columns of the canonical table.

    `occurred_at` is the day of the last of them; `weight` (never negative) is what, halved every INTENT_HALF_LIFE_DAYS from that day on,
    equals the sum of all of them so halved. Other columns are blank. What is asked of a table of activities (whom did we reach
    since when, by what; how strong is the interest) has the same answer, and events are never loaded.
    """
    source = tables.get("activities")
    empty = CANONICAL["activities"].empty()
    if source is None:
        return empty
    folders = [source.resolve().parent] if isinstance(source, Path) else []
    if not isinstance(source, Path):
        columns = [str(c) for c in empty]
        source = source[columns].sort_values(columns, kind="stable", ignore_index=True)
    with open_session(engine, folders=folders) as session:
        session.give("activities", source)
        query = _SIGNALS.format(day=sql_day(as_of), date=f"DATE '{as_of:%Y-%m-%d}'", half=INTENT_HALF_LIFE_DAYS)
        found = session.fetch(query)
    return pd.DataFrame({c: found[c] if c in found else empty[c].reindex(found.index) for c in empty})


def summarise_effort(tables: Tables, as_of: pd.Timestamp, *, engine: str = "") -> pd.DataFrame:
    """Activities until `as_of` as one row per account, month and type: what was done where and when.

    Returns
    -------
    DataFrame
        `account_id, month` (its first day), `type, events, timed` (events with minutes), `minutes` (their sum). Sorted.
    """
    source = tables.get("activities")
    if source is None:
        source = CANONICAL["activities"].empty()
    folders = [source.resolve().parent] if isinstance(source, Path) else []
    if not isinstance(source, Path):
        source = source[["account_id", "type", "occurred_at", "minutes"]]
    with open_session(engine, folders=folders) as session:
        session.give("activities", source)
        found = session.fetch(_EFFORT.format(day=sql_day(as_of)))
    whole = {"events": "int64", "timed": "int64", "minutes": "float64", "month": "datetime64[us]"}
    return found.astype(whole)
