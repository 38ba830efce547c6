"""Reads candidate pairs, makes the evidence of each field in bits and the probability that the two are one organisation.

Fellegi & Sunter (1969): each field adds log2(m / u), m how often it looks so for two records of one organisation, u how often
for two of different ones. u is measured on the file itself (how common the word or value is, Winkler 1989); m is set, because a
file without duplicates has nothing to learn it from and expectation-maximisation then finds duplicates where there are none.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.intake.matching.fingerprint import value_bits, word_bits

EXPECTED = 0.05  # accounts with a second record in a usual CRM; the prior, spread over all pairs
NAME_SAME, NAME_SLIP, NAME_SLIPS, NAME_PART = -0.7, -6.0, -10.0, -5.0  # bits added to what the words tell
NAME_OTHER = -9.0  # names that share too little: hardly ever one organisation
ACRONYM_BITS = 3.0
NUMBERS_DIFFER = -12.0
PLACES_DIFFER = -5.0
LEGAL_DIFFERS = -3.0
DOMAIN_DIFFERS, DOMAIN_SLIP, DOMAIN_TWIN = -4.5, -2.0, 1.0
PAGE_DIFFERS = -5.0
MOST_NAME, MOST_DOMAIN, MOST_PAGE = 24.0, 13.0, 13.0
CONTEXT_MOST, CONTEXT_LEAST = 14.0, -9.0  # fields about an organisation hang together: their sum is bounded
# Most bits for agreeing, bits for differing, of the fields that describe.
DESCRIBED = {
    "country": (3.0, -4.0),
    "region": (1.0, -1.0),
    "city": (4.0, -3.0),
    "postcode": (5.0, -2.0),
    "street": (7.0, -1.5),
    "phone": (9.0, -2.0),
    "industry": (3.0, -2.0),
}
TELLING = frozenset({"phone", "street"})
FIELDS = (
    "name",
    "domain",
    "linkedin_url",
    *DESCRIBED,
    "employees",
    "annual_revenue",
    "founded_year",
    "parent_account_id",
)


def compare_pairs(prints: pd.DataFrame, words: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Evidence of every pair.

    Returns
    -------
    DataFrame, one row per pair in the order given: left, right, one column of bits per field, name_kind (same, slip, slips,
    part, acronym, other, missing), shared_bits (of the words in both names), web (same, twin, slip, differs, missing), page (same, differs, missing), numbers_differ, places_differ, legal_differs,
    countries_differ, is_parent, agreeing (fields beside the name that agree clearly), probability.
    """
    a, b = (prints.iloc[pairs[side].to_numpy()].reset_index(drop=True) for side in ("left", "right"))
    found = pairs.reset_index(drop=True).copy()
    found = found.join(_compare_names(a, b, words, found, len(prints)))
    found = found.join(_compare_web(a, b, prints, pairs))
    for field, (most, differs) in DESCRIBED.items():
        bits = value_bits(prints[field], most, telling=field in TELLING).to_numpy()[pairs["left"]]
        found[field] = np.where((a[field] == "") | (b[field] == ""), 0.0, np.where(a[field] == b[field], bits, differs))
    for field, same, near, far in (("employees", 5.0, 1.5, -3.0), ("annual_revenue", 4.0, 1.0, -2.0)):
        found[field] = _compare_sizes(a[field], b[field], same, near, far)
    gap = (a["founded_year"] - b["founded_year"]).abs()
    found["founded_year"] = np.select([gap == 0, gap == 1, gap > 1], [4.0, 0.0, -3.0], 0.0)
    found["is_parent"] = (a["parent"] == b["account_id"]) | (b["parent"] == a["account_id"])
    found["parent_account_id"] = np.where(found["is_parent"], -6.0, 0.0)
    found["countries_differ"] = (a["country"] != b["country"]) & (a["country"] != "") & (b["country"] != "")
    return _add_up(found, len(prints))


def _add_up(found: pd.DataFrame, accounts: int) -> pd.DataFrame:
    """The sum of bits and its probability."""
    about = [*DESCRIBED, "employees", "annual_revenue", "founded_year"]
    context = found[about].sum(axis=1).clip(CONTEXT_LEAST, CONTEXT_MOST)
    strong = found[["domain", "linkedin_url", "phone", "street"]] >= 4.0
    described = found[["country", "city", "postcode", "industry", "employees", "annual_revenue", "founded_year"]] > 0.5
    found["agreeing"] = strong.sum(axis=1) * 2 + described.sum(axis=1)
    found["opposed"] = (found[about] <= -1.5).sum(axis=1)
    prior = np.log2(EXPECTED * 2 / max(accounts, 2))
    bits = prior + found["name"] + found["domain"] + found["linkedin_url"] + found["parent_account_id"] + context
    found["probability"] = 1 / (1 + np.exp2(-bits.clip(-60, 60)))
    return found


def _compare_names(
    a: pd.DataFrame, b: pd.DataFrame, words: pd.DataFrame, pairs: pd.DataFrame, total: int
) -> pd.DataFrame:
    """Bits of the names, and what kind of agreement they show."""
    shared, whole = _shared_bits(words, pairs, total)
    slips = np.minimum.reduce([_slips(a[c], b[c]) for c in ("core", "written", "whole", "turned")])
    length = np.minimum(a["core"].str.len().to_numpy(), b["core"].str.len().to_numpy())
    missing = ((a["words"] == "") | (b["words"] == "")).to_numpy()
    acronym = ((a["initials"] == b["core"]) | (b["initials"] == a["core"])).to_numpy() & (length >= 2)
    part = (shared >= 0.999 * whole) & (shared >= 8)
    kind = np.select(
        [missing, slips == 0, (slips == 1) & (length >= 5), (slips <= 2) & (length >= 9), part, acronym],
        ["missing", "same", "slip", "slips", "part", "acronym"],
        "other",
    )
    # A slip hides the words it is in: what they would tell is taken from the letters.
    spelled = np.maximum(np.minimum(whole, MOST_NAME), shared)
    bits = np.select(
        [kind == k for k in ("missing", "same", "slip", "slips", "part", "acronym")],
        [0.0, spelled + NAME_SAME, spelled + NAME_SLIP, spelled + NAME_SLIPS, shared + NAME_PART, ACRONYM_BITS],
        NAME_OTHER + shared / 2,
    ).clip(-12.0, MOST_NAME)
    differ = {
        "numbers_differ": (a["numbers"] != b["numbers"]).to_numpy(),
        "places_differ": (a["places"] != b["places"]).to_numpy() | _named_after_other_cities(a, b),
        "legal_differs": ((a["legal"] != b["legal"]) & (a["legal"] != "") & (b["legal"] != "")).to_numpy(),
    }
    for what, weight in zip(differ, (NUMBERS_DIFFER, PLACES_DIFFER, LEGAL_DIFFERS), strict=True):
        bits = bits + np.where(differ[what], weight, 0.0)
    return pd.DataFrame({"name": bits, "name_kind": kind, "shared_bits": shared, **differ}, index=pairs.index)


def _named_after_other_cities(a: pd.DataFrame, b: pd.DataFrame) -> np.ndarray:
    """Whether both names hold the city of their own account, and these are two: branches of one organisation."""
    differ = ((a["city"] != b["city"]) & (a["city"].str.len() >= 4) & (b["city"].str.len() >= 4)).to_numpy()
    found = np.zeros(len(a), dtype=bool)
    places = np.flatnonzero(differ)
    both = [side.iloc[places] for side in (a, b)]
    held = [[c in w for c, w in zip(s["city"], s["whole"], strict=True)] for s in both]
    found[places] = [x and y for x, y in zip(*held, strict=True)]
    return found


def _shared_bits(words: pd.DataFrame, pairs: pd.DataFrame, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Per pair: bits of the words both names hold, and bits of the shorter name as a whole."""
    told = words.assign(bits=word_bits(words["word"], words["accounts"], total))
    every = told.groupby("row")["bits"].sum().reindex(range(int(total)), fill_value=0.0).to_numpy()
    left = pairs[["left", "right"]].rename_axis("pair").reset_index()
    both = left.merge(told[["row", "word", "bits"]], left_on="left", right_on="row")
    both = both.merge(told[["row", "word"]], left_on=["right", "word"], right_on=["row", "word"])
    shared = both.groupby("pair")["bits"].sum().reindex(pairs.index, fill_value=0.0).to_numpy()
    return shared, np.minimum(every[pairs["left"].to_numpy()], every[pairs["right"].to_numpy()])


def _slips(left: pd.Series, right: pd.Series) -> np.ndarray:
    """Optimal string alignment distance, counted up to 3."""
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    return process.cpdist(left.to_list(), right.to_list(), scorer=OSA.distance, score_cutoff=2, workers=1)


def _compare_web(a: pd.DataFrame, b: pd.DataFrame, prints: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Bits of domain and company page."""
    missing = ((a["domain"] == "") | (b["domain"] == "")).to_numpy()
    slips = _slips(a["label"], b["label"])
    long = np.minimum(a["label"].str.len().to_numpy(), b["label"].str.len().to_numpy()) >= 6
    same = (a["domain"] == b["domain"]).to_numpy()
    web = np.select([missing, same, slips == 0, (slips == 1) & long], ["missing", "same", "twin", "slip"], "differs")
    told = value_bits(prints["domain"], MOST_DOMAIN, telling=True).to_numpy()[pairs["left"]]
    domain = np.select(
        [web == w for w in ("missing", "same", "twin", "slip")], [0.0, told, DOMAIN_TWIN, DOMAIN_SLIP], DOMAIN_DIFFERS
    )
    no_page = ((a["page"] == "") | (b["page"] == "")).to_numpy()
    page = np.select([no_page, (a["page"] == b["page"]).to_numpy()], ["missing", "same"], "differs")
    told = value_bits(prints["page"], MOST_PAGE, telling=True).to_numpy()[pairs["left"]]
    linkedin = np.select([page == "missing", page == "same"], [0.0, told], PAGE_DIFFERS)
    return pd.DataFrame({"domain": domain, "web": web, "linkedin_url": linkedin, "page": page}, index=pairs.index)


def _compare_sizes(left: pd.Series, right: pd.Series, same: float, near: float, far: float) -> np.ndarray:
    """Bits of two numbers: equal, within a fifth, more than threefold apart, or in between."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.abs(np.log(left.to_numpy(dtype=float) / right.to_numpy(dtype=float)))
    ratio = np.where(np.isfinite(ratio), ratio, np.nan)
    return np.select([ratio == 0, ratio < np.log(1.2), ratio > np.log(3)], [same, near, far], 0.0)
