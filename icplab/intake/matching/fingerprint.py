"""Reads the accounts table, makes one row of comparable values per account, and how much each value tells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from icplab.core.config import MATCHED_COLUMNS
from icplab.intake.matching.names import fold, read_domains, read_names, read_pages
from icplab.intake.matching.words import GENERIC
from icplab.intake.records import plain_name

# Columns of exports (spelled plainly) that hold where and how an account is reached; the first found is taken.
ALIASES = {
    "phone": ("phone", "phonenumber", "telephone", "mainphone", "accountphone", "companyphone"),
    "street": ("street", "billingstreet", "address", "streetaddress", "address1", "billingaddressline1"),
    "postcode": ("postcode", "postalcode", "billingpostalcode", "zip", "zipcode", "billingzippostalcode"),
    "city": ("city", "billingcity", "town"),
}
BACKGROUND = (
    5_000  # names that a short list is thought to be drawn from, so that twenty accounts do not make a word common
)
GENERIC_RATE = 0.02  # of names hold a generic word
RARE_RATE = 1e-4  # of names hold any other one
LETTER_BITS = 2.5  # a letter of a name tells about as much (entropy of printed words per letter, Shannon 1951)


def build_fingerprints(accounts: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """One row per account, in the order of `account_id`, with everything it is compared by.

    Parameters
    ----------
    accounts : canonical accounts; further columns are searched for phone, street, postcode and city
    columns : which of MATCHED_COLUMNS to compare by; empty takes all

    Returns
    -------
    DataFrame with a range index: account_id, the columns of `read_names` and `read_domains`, page, parent, phone, street,
    postcode, city, country, region, industry (folded text, empty where missing), employees, annual_revenue, founded_year.
    """
    frame = accounts.sort_values("account_id", ignore_index=True)
    wanted = set(columns or MATCHED_COLUMNS)
    frame = frame.assign(**{c: frame[c].iloc[:0] for c in MATCHED_COLUMNS if c in frame and c not in wanted})
    parts = [
        frame[["account_id"]],
        read_names(frame["name"]),
        read_domains(frame["domain"]),
        read_pages(frame["linkedin_url"]).rename("page"),
        frame["parent_account_id"].fillna("").astype("str").rename("parent"),
        *(_reached_by(frame, name) if name in wanted else _nothing(frame, name) for name in ALIASES),
        *(fold(frame[c]).rename(c) for c in ("country", "region", "industry")),
        frame[["employees", "annual_revenue", "founded_year"]].astype("float64"),
    ]
    return pd.concat(parts, axis=1)


def word_table(prints: pd.DataFrame) -> pd.DataFrame:
    """One row per account and word of its name: row, word, accounts (that hold the word)."""
    words = prints["words"].rename("word").rename_axis("row").str.split().explode().reset_index()
    words = words.dropna().drop_duplicates(["row", "word"], ignore_index=True)
    words["accounts"] = words.groupby("word")["row"].transform("size")
    return words


def word_bits(word: pd.Series, accounts: pd.Series, total: int) -> pd.Series:
    """Bits that two names tell by sharing a word: -log2 of how often one more name would hold it (Winkler 1989).

    `accounts` counts the names that hold it, the two compared among them. Never more than its letters can tell.
    """
    rate = np.where(word.isin(GENERIC), GENERIC_RATE, RARE_RATE)
    expected = ((accounts - 2).clip(lower=0) + BACKGROUND * rate) / (total + BACKGROUND)
    return pd.Series(np.minimum(-np.log2(expected), LETTER_BITS * word.str.len()), index=word.index)


def value_bits(values: pd.Series, most: float, *, telling: bool = False) -> pd.Series:
    """Bits that two accounts tell by sharing a value, at most `most`; 0 where the value is missing.

    A `telling` value (a domain, a telephone) belongs to one organisation unless the file shows that several hold it.
    """
    counts = values.map(values[values != ""].value_counts()).astype("float64").fillna(0.0)
    filled = max(int((values != "").sum()), 1)
    rate = ((counts - 2).clip(lower=0.0) + 0.5) / (filled + BACKGROUND) if telling else counts.clip(lower=1.0) / filled
    bits = np.minimum(-np.log2(rate.to_numpy().clip(1e-9, 1.0)), most)
    return pd.Series(np.where(values != "", bits, 0.0), index=values.index)


def _reached_by(frame: pd.DataFrame, name: str) -> pd.Series:
    """Folded text of the column that holds phone, street, postcode or city."""
    spelled = {plain_name(str(c)): str(c) for c in reversed(list(frame))}
    found = next((spelled[a] for a in ALIASES[name] if a in spelled), None)
    if found is None:
        return _nothing(frame, name)
    text = fold(frame[found].astype("str").where(frame[found].notna()))
    if name == "phone":
        digits = text.str.replace(r"\D+", "", regex=True).str.lstrip("0")
        return digits.str.slice(-9).where(digits.str.len() >= 6, "").rename(name)
    if name == "street":
        text = text.str.replace(r"\b(?:street|strasse|str|st)\b\.?|strasse\b|str\.", " str ", regex=True)
    return text.str.replace(r"[^\w]+", "", regex=True).rename(name)


def _nothing(frame: pd.DataFrame, name: str) -> pd.Series:
    return pd.Series("", index=frame.index, name=name, dtype="str")
