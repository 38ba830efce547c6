"""Reads the dates of one export as text, makes ISO dates where all its date columns together prove the order."""

from __future__ import annotations

import pandas as pd

from icplab.intake.coded import map_words

_SHAPE = r"\s*\d{1,2}([/.-])\d{1,2}[/.-]\d{4}(?:,?\s+\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:\s?[AaPp]\.?[Mm]\.?)?)?\s*"
_MILLISECONDS = r"\s*\d{12,13}\s*"


def iso_dates(frame: pd.DataFrame, columns: list[str]) -> str:
    """Rewrite the date columns of a report, in place.

    A report writes all its dates in the locale of whoever exported it, so that one day above 12 in any column decides for
    all. What is not written like that, or stays undecided, is left for the declared format. Milliseconds since 1970, as
    interfaces give them, become timestamps. Returns the order found and what proves it, or an empty string.
    """
    words = {c: pd.Series(frame[c].unique(), dtype="str") for c in columns}
    for column in columns:
        _from_milliseconds(frame, column, words[column])
    shaped = {c: w[w.str.fullmatch(_SHAPE)] for c, w in words.items()}
    pool = pd.concat(list(shaped.values())).drop_duplicates() if shaped else pd.Series(dtype="str")
    if pool.empty:
        return ""
    numbers = pool.str.extract(r"^\s*(\d+)\D(\d+)").astype(int)
    day_first, month_first = pool[numbers[0] > 12], pool[numbers[1] > 12]
    if day_first.empty == month_first.empty:
        return _without_times(frame, shaped)
    order, proof = ("day/month/year", day_first) if month_first.empty else ("month/day/year", month_first)
    for column, text in shaped.items():
        frame[column] = _replaced(frame[column], text, _iso(text, month_first.empty))
    return f"{order}, which {sorted(proof)[0].strip()} proves"


def _iso(text: pd.Series, day_first: bool) -> pd.Series:
    """yyyy-mm-dd from numeric dates; the time of day, if any, is left out."""
    parts = text.str.extract(r"^\s*(\d+)\D(\d+)\D(\d{4})")
    day, month = (parts[0], parts[1]) if day_first else (parts[1], parts[0])
    return parts[2] + "-" + month.str.zfill(2) + "-" + day.str.zfill(2)


def _without_times(frame: pd.DataFrame, shaped: dict[str, pd.Series]) -> str:
    """Undecided dates lose their time of day, so that a declared date format reads them."""
    for column, text in shaped.items():
        frame[column] = _replaced(frame[column], text, text.str.extract(r"^\s*(\S+?),?(?:\s.*)?$")[0])
    return ""


def _from_milliseconds(frame: pd.DataFrame, column: str, words: pd.Series) -> None:
    stamps = words[words.str.fullmatch(_MILLISECONDS)]
    if len(stamps):
        time = pd.to_datetime(stamps.astype("int64"), unit="ms", utc=True).dt.strftime("%Y-%m-%dT%H:%M:%S+0000")
        frame[column] = _replaced(frame[column], stamps, time)


def _replaced(column: pd.Series, old: pd.Series, new: pd.Series) -> pd.Series:
    """A column with some of its distinct values replaced."""
    changes = {o: n for o, n in zip(old, new, strict=True) if o != n}
    if not changes:
        return column
    return map_words(column, lambda text: text.map(changes).where(text.isin(list(changes)), text).astype("str"))
