"""Reads the run before and today's tables, makes the tool's own history of trait values: what was known when.

An export says what stands in a field today. From the second quarter on the run before says what stood there then, so that the
account table of an earlier date shows the earlier value, and the leak audit sees what was written after the outcome.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from icplab import features
from icplab.core.config import Settings
from icplab.core.schema import CANONICAL
from icplab.core.store import read_parquet, write_parquet

KEYS = {"accounts": "account_id", "opportunities": "opportunity_id"}
# Candidates that the plan keeps out are kept out here too: a forbidden field must not live on in a published run.
_NOT_KEPT = ("forbidden by the plan", "left out by the plan", "empty")


def take_snapshot(tables: dict[str, pd.DataFrame], settings: Settings) -> dict[str, pd.DataFrame]:
    """Values of every candidate trait as text, as known in `tables`.

    Parameters
    ----------
    tables : canonical tables as known on the run's date (`features.view_on`)
    settings : decide which traits are candidates

    Returns
    -------
    Per table (accounts, opportunities): its key and one column per trait, sorted by key; blank is null.
    """
    catalogue = features.build_catalogue(tables, settings)
    catalogue = catalogue[~catalogue["reason"].isin(_NOT_KEPT)]
    taken = {}
    for table, key in KEYS.items():
        traits = catalogue.loc[catalogue["table"] == table, "trait"]
        frame = tables[table].sort_values(key, ignore_index=True)
        taken[table] = pd.DataFrame({key: frame[key].astype("str"), **{t: _as_text(frame[t]) for t in traits}})
    return taken


def find_changes(
    now: dict[str, pd.DataFrame],
    before: dict[str, pd.DataFrame],
    *,
    as_of: pd.Timestamp,
    before_as_of: pd.Timestamp,
) -> pd.DataFrame:
    """Values that differ between two snapshots, as rows of `field_history`.

    A change is dated on the later snapshot, the first day on which the new value is known to have stood, so that a look back
    to any day before shows the old one; `not_before` is the day after the earlier snapshot, the first on which it can have
    happened. Records and fields that only one of the snapshots has say nothing.
    """
    parts = []
    for table, key in KEYS.items():
        if table not in before or table not in now:
            continue
        fields = [c for c in map(str, now[table]) if c != key and c in before[table]]
        both = now[table][[key]].merge(before[table][[key]], on=key)[key]
        new, old = (f.set_index(key).reindex(both)[fields] for f in (now[table], before[table]))
        for field in fields:
            differs = (new[field].fillna("") != old[field].fillna("")).to_numpy()
            changed = {"record_id": both[differs].to_numpy(), "old_value": old.loc[differs, field].to_numpy()}
            changed |= {"new_value": new.loc[differs, field].to_numpy()}
            parts.append(pd.DataFrame(changed).assign(object=table, field=field))
    empty = CANONICAL["field_history"].empty()
    if not parts:
        return empty
    rows = pd.concat(parts, ignore_index=True).assign(
        changed_at=as_of.as_unit("us"), not_before=(before_as_of + pd.Timedelta(days=1)).as_unit("us")
    )
    return rows[list(empty.columns)].astype(empty.dtypes.to_dict())


def join_history(delivered: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """The CRM's own field history, and ours for the fields on which it says nothing."""
    told = set(zip(delivered["object"], delivered["field"], strict=True))
    known = [pair in told for pair in zip(own["object"], own["field"], strict=True)]
    rows = pd.concat([delivered, own[~pd.Series(known, index=own.index, dtype=bool)]], ignore_index=True)
    return rows.sort_values(
        ["object", "record_id", "field", "changed_at", "new_value"], kind="stable", ignore_index=True
    )


def add_own_history(work: Path, settings: Settings, as_of: str, before_as_of: str) -> None:
    """Put what earlier runs have seen into the work folder's `field_history`, and keep it for the next run.

    Reads `tables/` and `previous/artifacts/` (the run before, where `before_as_of` names its date); writes `history/` (the
    artefacts `account_snapshot`, `opportunity_snapshot`, `trait_history`) and replaces `tables/field_history.parquet`.
    """
    names = (*KEYS, "field_history")
    tables = {n: _read(work / "tables" / f"{n}.parquet", CANONICAL[n].empty()) for n in names}
    today = pd.Timestamp(as_of).as_unit("us")
    now = take_snapshot(features.view_on(tables, today), settings)
    own = _seen_so_far(work / "previous" / "artifacts", now, today, before_as_of)
    folder = work / "history"
    folder.mkdir(exist_ok=True)
    for table, frame in now.items():
        write_parquet(frame, folder / f"{_artefact(table)}.parquet")
    write_parquet(own, folder / "trait_history.parquet")
    if len(own):
        write_parquet(join_history(tables["field_history"], own), work / "tables" / "field_history.parquet")


def _seen_so_far(past: Path, now: dict[str, pd.DataFrame], as_of: pd.Timestamp, before_as_of: str) -> pd.DataFrame:
    """Changes that earlier runs saw, and those since the last of them."""
    seen = _read(past / "trait_history.parquet", CANONICAL["field_history"].empty())
    if before_as_of:
        before = {t: read_parquet(p) for t in KEYS if (p := past / f"{_artefact(t)}.parquet").is_file()}
        since = find_changes(now, before, as_of=as_of, before_as_of=pd.Timestamp(before_as_of))
        seen = pd.concat([seen, since], ignore_index=True)
    return seen.sort_values(["object", "record_id", "field", "changed_at"], kind="stable", ignore_index=True)


def _artefact(table: str) -> str:
    """`account_snapshot` of `accounts`, `opportunity_snapshot` of `opportunities`."""
    return f"{KEYS[table].removesuffix('_id')}_snapshot"


def _read(path: Path, otherwise: pd.DataFrame) -> pd.DataFrame:
    return read_parquet(path) if path.is_file() else otherwise


def _as_text(values: pd.Series) -> pd.Series:
    """Text that compares equal when the value is equal: numbers without trailing zeros."""
    if pd.api.types.is_float_dtype(values):
        return values.map("{:.15g}".format, na_action="ignore").astype("str")
    if pd.api.types.is_datetime64_any_dtype(values):
        return values.dt.strftime("%Y-%m-%d").astype("str")
    return values.astype("str")
