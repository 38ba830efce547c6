"""Reads fingerprints, makes the pairs of accounts worth comparing; each shares one telling key."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.intake.matching.names import deletions

# Accounts that may share a key before it tells nothing. Larger ones are left to the other keys.
LARGEST = {"domain": 200, "label": 60, "page": 60, "name": 200, "near": 60, "word": 20, "phone": 30, "place": 30}
LEAST_LETTERS = 5  # of a name whose spellings with one letter less are looked at
LEAST_WORD = 4  # letters of a word that is a key by itself


def candidate_pairs(prints: pd.DataFrame, words: pd.DataFrame) -> pd.DataFrame:
    """Pairs of rows (`left` < `right`) that share a key, each once, in order.

    Keys: registrable domain, its label, company page, name, name with one letter left out, a rare word, the first word with
    one letter left out, phone, postcode with street. Names with different numbers share no key made of names.
    """
    numbers = pd.factorize(prints["numbers"])[0].astype(np.uint64)
    first = prints["words"].str.replace(r" .*$|\d+", "", regex=True)
    place = (prints["postcode"] + "|" + prints["street"]).where(
        (prints["postcode"] != "") & (prints["street"] != ""), ""
    )
    rare = words[(words["word"].str.len() >= LEAST_WORD) & ~words["word"].str.isdigit()]
    found = [
        _same(prints["domain"], LARGEST["domain"]),
        _same(prints["label"], LARGEST["label"]),
        _same(prints["page"], LARGEST["page"]),
        _same(prints["ordered"], LARGEST["name"]),
        _same(prints["whole"], LARGEST["name"]),
        _same(prints["phone"], LARGEST["phone"]),
        _same(place, LARGEST["place"]),
        _sharing(pd.factorize(rare["word"])[0], rare["row"].to_numpy(), LARGEST["word"]),
        _near(prints["core"], numbers, LARGEST["near"]),
        _near(prints["written"], numbers, LARGEST["near"]),
        _near(first, numbers, LARGEST["word"]),
    ]
    code = np.unique(np.concatenate([left * len(prints) + right for left, right in found]))
    return pd.DataFrame({"left": code // max(len(prints), 1), "right": code % max(len(prints), 1)})


def _same(key: pd.Series, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows with the same key; empty keys pair nothing."""
    rows = np.flatnonzero((key != "").to_numpy())
    return _sharing(pd.factorize(key.iloc[rows])[0], rows, largest)


def _near(text: pd.Series, numbers: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows whose text is at most one slip apart and whose numbers agree."""
    rows = np.flatnonzero((text.str.len() >= LEAST_LETTERS).to_numpy())
    if not len(rows):
        return rows, rows
    hashes, place = deletions(text.iloc[rows].str.slice(0, 40))
    with np.errstate(over="ignore"):
        hashes = hashes ^ ((numbers[rows[place]] + np.uint64(1)) * np.uint64(0xC2B2AE3D27D4EB4F))
    return _sharing(hashes, rows[place], largest)


def _sharing(key: np.ndarray, rows: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different rows in each group of equal keys of at most `largest`; the smaller row first."""
    order = np.lexsort((rows, key))
    key, rows = key[order], rows[order].astype(np.int64)
    again = np.r_[False, (key[1:] == key[:-1]) & (rows[1:] == rows[:-1])] if len(key) else np.zeros(0, dtype=bool)
    key, rows = key[~again], rows[~again]
    starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]]) if len(key) else np.zeros(0, dtype=np.int64)
    sizes = np.diff(np.r_[starts, len(key)])
    lefts, rights = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    usable = (sizes > 1) & (sizes <= largest)
    starts, sizes = starts[usable], sizes[usable]
    for apart in range(1, int(sizes.max()) if len(sizes) else 0):  # one step per distance inside a group, not per row
        wide = sizes > apart
        starts, sizes = starts[wide], sizes[wide]
        place = np.repeat(starts, sizes - apart) + _counting(sizes - apart)
        lefts.append(rows[place])
        rights.append(rows[place + apart])
    return np.concatenate(lefts), np.concatenate(rights)


def _counting(lengths: np.ndarray) -> np.ndarray:
    """0, 1, … for each length, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
