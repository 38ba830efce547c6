"""Reads events on the engine, makes summaries small enough to hold: what the stages need of activities and usage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

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

_PLAYS = """
SELECT account_id, play, type, outcome, count(*) AS events FROM activities
WHERE occurred_at <= {day} AND account_id IS NOT NULL AND play IS NOT NULL GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""

# Days are summed first: an account has far fewer of them than activities. What happened on the day itself may follow from it.
_BEFORE = """
WITH daily AS (
  SELECT account_id, CAST(occurred_at AS DATE) AS day, sum(greatest(coalesce(weight, 1.0), 0.0)) AS w FROM activities
  WHERE occurred_at >= {first} AND occurred_at <= {day} AND account_id IN (SELECT account_id FROM asked) GROUP BY 1, 2),
aged AS (
  SELECT a.opportunity_id, d.w, date_diff('day', d.day, CAST(a.created_at AS DATE)) AS age
  FROM asked AS a JOIN daily AS d ON d.account_id = a.account_id
  WHERE d.day < CAST(a.created_at AS DATE) AND d.day >= CAST(a.oldest AS DATE))
SELECT opportunity_id, {sums} FROM aged GROUP BY opportunity_id ORDER BY opportunity_id"""
MOST_ASKED = 50_000  # opportunities that are enough to tell half-lives apart
DECAYED = 8  # half-lives after which a weight is less than half a per cent of itself

_EARLY = """
SELECT a.account_id, count(*) AS n FROM activities AS a JOIN starts AS s ON s.account_id = a.account_id
WHERE a.occurred_at >= {first} AND a.occurred_at <= {day}
  AND a.occurred_at >= s.starts AND a.occurred_at < s.ends GROUP BY a.account_id"""


def summarise_signals(
    tables: Tables, as_of: pd.Timestamp, *, half_life: int = INTENT_HALF_LIFE_DAYS, engine: str = ""
) -> pd.DataFrame:
    """Activities until `as_of` as one row per account and type, in the columns of the canonical table.

    `occurred_at` is the day of the last of them; `weight` (never negative) is what, halved every `half_life` days from that day on,
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
        query = _SIGNALS.format(day=sql_day(as_of), date=f"DATE '{as_of:%Y-%m-%d}'", half=half_life)
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


def summarise_plays(tables: Tables, as_of: pd.Timestamp, *, engine: str = "") -> pd.DataFrame:
    """Activities until `as_of` that name a play, one row per account, play, type and outcome.

    Returns
    -------
    DataFrame
        `account_id, play, type, outcome` (may be null), `events`. Sorted.
    """
    source = tables.get("activities")
    if source is None:
        source = CANONICAL["activities"].empty()
    folders = [source.resolve().parent] if isinstance(source, Path) else []
    if not isinstance(source, Path):
        source = source[["account_id", "play", "type", "outcome", "occurred_at"]]
    with open_session(engine, folders=folders) as session:
        session.give("activities", source)
        found = session.fetch(_PLAYS.format(day=sql_day(as_of)))
    return found.astype({**dict.fromkeys(("account_id", "play", "type", "outcome"), "str"), "events": "int64"})


def decay_before(
    tables: Tables,
    opportunities: pd.DataFrame,
    half_lives: Sequence[int],
    as_of: pd.Timestamp,
    *,
    engine: str = "",
) -> pd.DataFrame:
    """Signals of each account as they stood on the eve of each opportunity, halved in several ways.

    Parameters
    ----------
    tables : canonical tables; only activities are read, and of a file only as far as needed
    opportunities : opportunity_id, account_id, created_at; those without account or date are left out
    half_lives : days in which a weight is halved; activities older than DECAYED half-lives of the longest count for nothing
    as_of : nothing later is read

    Returns
    -------
    DataFrame
        opportunity_id and one column per half-life (named by its number): the sum of weights, 0 where there was none. Of more
        than MOST_ASKED opportunities, as many, chosen by a hash of their id. Empty where no activities were delivered.
    """
    empty = pd.DataFrame(columns=["opportunity_id", *half_lives])
    source = tables.get("activities")
    if source is None or not (pq.read_metadata(source).num_rows if isinstance(source, Path) else len(source)):
        return empty
    asked = opportunities[["opportunity_id", "account_id", "created_at"]].dropna()
    place = pd.util.hash_array(asked["opportunity_id"].to_numpy(dtype=object))
    asked = asked.iloc[np.sort(np.argsort(place, kind="stable")[:MOST_ASKED])]
    if asked.empty:
        return empty
    day = asked["created_at"].dt.normalize()
    asked = asked.assign(created_at=day, oldest=day - pd.Timedelta(days=DECAYED * max(half_lives)))
    folders = [source.resolve().parent] if isinstance(source, Path) else []
    sums = ", ".join(f"sum(w * pow(2.0, -age / {float(h)})) AS h{h}" for h in half_lives)
    with open_session(engine, folders=folders) as session:
        columns = ["account_id", "occurred_at", "weight"]
        session.give("activities", source if isinstance(source, Path) else source[columns])
        session.give("asked", asked.reset_index(drop=True))
        first = sql_day(asked["oldest"].min())
        found = session.fetch(_BEFORE.format(first=first, day=sql_day(as_of), sums=sums))
    found = found.set_index("opportunity_id").rename(columns={f"h{h}": h for h in half_lives})[list(half_lives)]
    return found.reindex(asked["opportunity_id"]).fillna(0.0).round(9).astype("float64").reset_index()


def count_early(
    tables: Tables, starts: pd.Series, days: int, as_of: pd.Timestamp, *, engine: str = ""
) -> pd.Series | None:
    """Activities of each account in the first `days` days from a date of its own, none of them after `as_of`.

    Parameters
    ----------
    tables : canonical tables; only activities are read, and of a file only as far as needed
    starts : date by account identifier (the index, each once)
    days : length of the window; it begins on the date itself

    Returns
    -------
    Series
        Count by account, indexed as `starts`, 0 where there was none; None where activities were not delivered.
    """
    source = tables.get("activities")
    delivered = source is not None and bool(
        pq.read_metadata(source).num_rows if isinstance(source, Path) else len(source)
    )
    if source is None or not delivered:
        return None
    if starts.empty:
        return starts.astype("object").astype("float64")
    ends = starts + pd.Timedelta(days=days)
    asked = pd.DataFrame({"account_id": starts.index.astype("str"), "starts": starts.array, "ends": ends.array})
    folders = [source.resolve().parent] if isinstance(source, Path) else []
    with open_session(engine, folders=folders) as session:
        session.give("activities", source if isinstance(source, Path) else source[["account_id", "occurred_at"]])
        session.give("starts", asked)
        found = session.fetch(_EARLY.format(first=sql_day(starts.min()), day=sql_day(as_of)))
    return found.set_index("account_id")["n"].reindex(starts.index).fillna(0).astype("float64")
