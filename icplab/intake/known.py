"""Reads traits that have a date of their own (`[traits.<column>] known_at`), makes the field history they imply."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from icplab.core.config import Settings
from icplab.core.errors import nearest
from icplab.core.schema import CANONICAL, Column
from icplab.core.store import read_parquet, write_parquet
from icplab.intake.batch import Batch
from icplab.intake.dates import type_dates

KNOWN_WORDS = ("", "created", "snapshot", "history")  # what known_at may say besides the name of a date column
_KEYS = {"accounts": "account_id", "opportunities": "opportunity_id"}


def dated_traits(batches: dict[str, Batch], settings: Settings) -> pd.DataFrame:
    """Rows of `field_history` for traits whose values were filled on the day that another column of the record holds.

    Until that day the trait is blank, so that neither an earlier date nor a model of it sees the value; values without a day
    stay as they are. A column that is not there is ICP-E100, a day that cannot be read ICP-E049.
    """
    parts = [CANONICAL["field_history"].empty()]
    if all(given.known_at in KNOWN_WORDS for given in settings.traits.values()):
        return parts[0]
    for trait, given in settings.traits.items():
        for table in (t for t in _KEYS if t in batches and given.known_at not in KNOWN_WORDS):
            batch = batches[table]
            if trait in batch.frame:
                parts.append(_history(batch, trait, given.known_at, settings))
    return pd.concat(parts, ignore_index=True).astype(parts[0].dtypes.to_dict())


def add_history(rows: pd.DataFrame, folder: Path) -> None:
    """Put the rows into `field_history.parquet`; nothing is written when there are none."""
    path = folder / "field_history.parquet"
    if rows.empty:
        return
    delivered = read_parquet(path) if path.is_file() else CANONICAL["field_history"].empty()
    joined = pd.concat([delivered, rows], ignore_index=True)
    write_parquet(joined.sort_values([str(c) for c in joined], kind="stable", ignore_index=True), path)


def _history(batch: Batch, trait: str, column: str, settings: Settings) -> pd.DataFrame:
    """One change, from blank to its value, per record with a value and a day."""
    frame, table = batch.frame, batch.table.name
    if column not in frame:
        message = f"names no column of {table}{nearest(column, map(str, frame))}"
        fix = f"name a date column of {table}, or write one of {', '.join(w for w in KNOWN_WORDS if w)}"
        batch.say("ICP-E100", message, fix=fix, column=f"traits.{trait}.known_at", value=column)
        return CANONICAL["field_history"].empty()
    day = frame[column]
    if not pd.api.types.is_datetime64_any_dtype(day):
        text = day.astype("str").str.strip()
        source = settings.source(table)
        text = text.mask(text.isin(source.missing) | (text == ""))
        day = type_dates(
            batch, Column(column, "date", "day on which the value was filled"), text, source, settings.calendar
        )
    value = frame[trait]
    told = batch.live & day.notna().to_numpy() & value.notna().to_numpy()
    changes = {"record_id": frame[_KEYS[table]], "changed_at": day, "new_value": value.astype("str")}
    return pd.DataFrame(changes)[told].assign(object=table, field=trait)
