"""Reads accounts and their segments, makes profiles of what is over-represented, and names from them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from icplab.core.schema import UNASSIGNED
from icplab.segments.blocks import NO, OTHER, read_blocks

MIN_SHARE_INSIDE = 0.2  # a level that fewer than a fifth have does not characterise a segment
MIN_LIFT = 1.2
MAX_WORDS = 5
SIZE_TRAITS = ("employees", "annual_revenue")
SIZE_WORDS = ("Small", "Mid-size", "Large")  # terciles of the market
MAX_WORDS_OF_LEVEL = 3
BAND_WORDS = ("low", "middle", "high")
WORD = re.compile(r"[\w&+./'-]+")


def measure_profile(accounts: pd.DataFrame, assignments: pd.DataFrame, recipe: Mapping) -> pd.DataFrame:
    """What is over-represented in each segment.

    Parameters
    ----------
    accounts : account table; reads the traits of the recipe
    assignments : artefact account_segments
    recipe : how traits are read (`write_recipe`); numbers are cut at the market's terciles

    Returns
    -------
    One row per segment × trait × level, most telling first within a segment:
    segment_id, segment, trait, level, kind, share (of accounts inside with a known value), share_outside, lift (ratio of the
    two), n (accounts inside that have it), weight (how many bits the level tells about the segment).
    """
    frame = accounts.sort_values("account_id", ignore_index=True)
    segment = assignments.sort_values("account_id")["segment_id"].to_numpy(dtype=object)
    present, labels = _levels(frame, recipe)
    names = dict(zip(assignments["segment_id"], assignments["segment"], strict=True))
    ids = [i for i in dict.fromkeys(sorted(names, key=_id_order)) if i != UNASSIGNED]
    rows = [_segment_profile(present, labels, segment == i).assign(segment_id=i, segment=names[i]) for i in ids]
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
    first = ["segment_id", "segment", "trait", "level", "kind", "share", "share_outside", "lift", "n", "weight"]
    return table[first].astype(dict.fromkeys(first[:5], "str"))


def name_segments(profile: pd.DataFrame, ids: Sequence[str]) -> dict[str, str]:
    """A unique name of at most five words per segment, from its over-represented levels, never from outcomes.

    Size comes first where it sets the segment apart, then the most telling category, then the most telling yes/no trait.
    """
    chosen = {i: _name_parts(profile[profile["segment_id"] == i]) for i in ids}
    names: dict[str, str] = {}
    for i in ids:
        candidates = [_join(chosen[i][:take]) for take in range(min(2, len(chosen[i])), len(chosen[i]) + 1)]
        free = [c for c in candidates if c and c not in names.values()]
        names[i] = free[0] if free else _numbered(candidates[-1] if candidates and candidates[-1] else "Segment", names)
    return names


def name_bands(assigner: Mapping) -> dict[str, str]:
    """Names of the bands of one number: Small, Mid-size, Large for a size, else low, middle and high with the trait."""
    ids, trait = list(assigner["ids"]), assigner["trait"]
    words = SIZE_WORDS if trait in SIZE_TRAITS else tuple(f"{w.capitalize()} {_words(trait)}" for w in BAND_WORDS)
    chosen = words if len(ids) == len(words) else (words[0], words[-1])
    return dict(zip(ids, chosen[: len(ids)], strict=True))


def _id_order(segment_id: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", segment_id)
    return (int(digits) if digits else 0, segment_id)


def _levels(frame: pd.DataFrame, recipe: Mapping) -> tuple[np.ndarray, pd.DataFrame]:
    """(n, levels) 1, 0 or NaN, and what each column is: trait, level, kind."""
    blocks = read_blocks(dict(recipe), frame)
    columns, labels = [], []
    for entry in recipe["numbers"]:
        values = frame[entry["trait"]].to_numpy(dtype=float)
        cuts = np.nanquantile(values, [1 / 3, 2 / 3])
        band = np.searchsorted(cuts, values, side="right")
        edges = [f"{c:,.3g}" if abs(c) < 1000 else f"{c:,.0f}" for c in cuts]
        texts = [f"below {edges[0]}", f"{edges[0]} to below {edges[1]}", f"{edges[1]} or more"]
        for b, text in enumerate(texts):
            columns.append(np.where(np.isnan(values), np.nan, band == b))
            labels.append((entry["trait"], text, f"number:{b}"))
    for j, entry in enumerate(recipe["discrete"]):
        block = blocks.levels[:, blocks.variable == j]
        known = block.sum(axis=1) > 0
        for c, level in enumerate(entry["levels"]):
            if entry["kind"] in ("flag", "tool") and level == NO:
                continue
            text = entry["tool"] if entry["kind"] == "tool" else level
            columns.append(np.where(known, block[:, c], np.nan))
            labels.append((entry["trait"], text, entry["kind"]))
    present = np.column_stack(columns) if columns else np.zeros((len(frame), 0))
    return present, pd.DataFrame(labels, columns=["trait", "level", "kind"])


def _segment_profile(present: np.ndarray, labels: pd.DataFrame, inside: np.ndarray) -> pd.DataFrame:
    known = ~np.isnan(present)
    has = np.nan_to_num(present)
    n_in, n_out = known[inside].sum(axis=0), known[~inside].sum(axis=0)
    yes_in, yes_out = has[inside].sum(axis=0), has[~inside].sum(axis=0)
    share, outside = yes_in / np.maximum(n_in, 1), yes_out / np.maximum(n_out, 1)
    # Half an account on either side keeps the ratio finite where a level is unknown outside.
    lift = ((yes_in + 0.5) / (n_in + 1)) / ((yes_out + 0.5) / (n_out + 1))
    table = labels.assign(share=share, share_outside=outside, lift=lift, n=yes_in, weight=share * np.log2(lift))
    table = table.round({"share": 4, "share_outside": 4, "lift": 3, "weight": 4})
    return table.sort_values(["weight", "trait", "level"], ascending=[False, True, True], ignore_index=True)


def _name_parts(profile: pd.DataFrame) -> list[str]:
    """Parts of a name in order: size, then whatever tells most, categories before tools and yes/no traits."""
    telling = profile[(profile["share"] >= MIN_SHARE_INSIDE) & (profile["lift"] >= MIN_LIFT)]
    kind = telling["kind"]
    number = kind.str.startswith("number")
    size = telling[number & telling["trait"].isin(SIZE_TRAITS)].head(1)
    category = telling[kind.isin(["category", "band"]) & telling["level"].ne(OTHER)].drop_duplicates("trait").head(2)
    marks = telling[kind.isin(["tool", "flag"])].head(2)
    rest = telling[number & ~telling["trait"].isin(SIZE_TRAITS)].head(1)
    parts = [SIZE_WORDS[int(k[-1])] for k in size["kind"]]
    # An industry is what the size is a size of ("Mid-size logistics"); anything else stands beside it.
    parts += [
        ("" if t == "industry" else ", ") + _words(v) for t, v in zip(category["trait"], category["level"], strict=True)
    ]
    parts += [
        ", " + _words(t if k == "flag" else v)
        for t, v, k in zip(marks["trait"], marks["level"], marks["kind"], strict=True)
    ]
    parts += [f", {BAND_WORDS[int(k[-1])]} {_words(t)}" for t, k in zip(rest["trait"], rest["kind"], strict=True)]
    return parts


def _words(text: str) -> str:
    return " ".join(WORD.findall(text.replace("_", " "))[:MAX_WORDS_OF_LEVEL])


def _join(parts: Sequence[str]) -> str:
    """The parts as one name, as far as five words reach."""
    text = ""
    for part in parts:
        longer = f"{text}{part}" if part.startswith(", ") else f"{text} {part}"
        if len(longer.split()) <= MAX_WORDS:
            text = longer
    text = text.strip(" ,")
    return text[:1].upper() + text[1:]


def _numbered(base: str, names: Mapping[str, str]) -> str:
    words = base.split()[: MAX_WORDS - 1]
    number = 2
    while f"{' '.join(words)} {number}" in names.values():
        number += 1
    return f"{' '.join(words)} {number}"
