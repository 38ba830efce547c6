"""Reads the addressable market beside the segments, makes size, penetration and whitespace of each segment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from icplab.core.schema import ARTEFACTS, CANONICAL, UNASSIGNED
from icplab.segments.assign import UNASSIGNED_NAME, posteriors_of
from icplab.segments.fit import Segmentation

ALL = "all"
OUTSIDE = ("partner", "competitor")  # account types that nobody sells to
# Accounts of the whole business that a cell of the market file is pooled with: a cell with ten accounts of its own counts half.
PRIOR_ACCOUNTS = 10.0
DRAWS = 2000  # draws of segment shares behind an interval
CHUNK = 20_000  # accounts compared with all cells at a time
_YES = frozenset({"yes", "true", "1", "y", "t"})
_NO = frozenset({"no", "false", "0", "n", "f"})
_RANGE = re.compile(r"\[?\s*([\d.,]*\d)\s*(?:-|–|to|,\s)\s*([\d.,]*\d)\s*\)?")
_FROM = re.compile(r"(?:>=?|from|over)?\s*([\d.,]+)\s*\+?")
_BELOW = re.compile(r"(?:<|under|below|up to)\s*([\d.,]+)")


def measure_market(
    segmentation: Segmentation, accounts: pd.DataFrame, market: pd.DataFrame, *, seed: int
) -> pd.DataFrame:
    """How large each segment's market is, how much of it is won, and how much nobody has touched.

    Parameters
    ----------
    segmentation : result of `fit_segments` (or `continue_segments`)
    accounts : account table; reads account_id, name, domain, account_type, is_customer, n_opportunities and the traits
    market : canonical table `market`: accounts (a list; no column `accounts`), or counts by levels of traits
    seed : source of the draws behind intervals of counts

    Returns
    -------
    Artefact `market_map`: one row per segment, one for accounts without segment, one (`all`) for the whole; empty without a
    market file.

    Notes
    -----
    A list is matched with the CRM by identifier, then domain, then name where it is unique, and every further account gets
    its segment from the frozen assigner. Counts are divided among segments as the CRM's accounts of the same levels are,
    pooled towards the whole (Dirichlet prior of `PRIOR_ACCOUNTS` accounts): that the CRM's mix within a cell is the market's
    is an assumption, and is said in `note`.
    """
    if market.empty:
        return ARTEFACTS["market_map"].empty()
    ids = [*segmentation.assigner["ids"], UNASSIGNED]
    shares = segmentation.posteriors.set_index("account_id")[ids[:-1]].reindex(accounts["account_id"]).to_numpy(float)
    shares = np.column_stack([np.nan_to_num(shares), np.isnan(shares).any(axis=1)])
    counted = market["accounts"].notna().any()
    measured = _from_counts(market, accounts, shares, seed) if counted else _from_list(market, accounts, segmentation)
    names = dict(zip(ids, [*segmentation.assigner["names"], UNASSIGNED_NAME], strict=True))
    return _table(measured, _in_crm(accounts, segmentation, ids), ids, names)


def _in_crm(accounts: pd.DataFrame, segmentation: Segmentation, ids: list[str]) -> pd.DataFrame:
    """Accounts of the CRM, those ever worked and customers, per segment."""
    segment = accounts["account_id"].map(segmentation.assignments.set_index("account_id")["segment_id"])
    sold_to = ~accounts["account_type"].isin(OUTSIDE)
    marks = pd.DataFrame(
        {
            "crm_accounts": sold_to,
            "worked": sold_to & (accounts["n_opportunities"] > 0),
            "customers": sold_to & accounts["is_customer"].fillna(False).astype(bool),
        }
    )
    return marks.groupby(segment).sum().reindex(ids, fill_value=0).astype(float)


def _from_counts(market: pd.DataFrame, accounts: pd.DataFrame, shares: np.ndarray, seed: int) -> dict:
    """Counts by trait levels, divided among segments as the CRM's accounts of the same levels."""
    traits = [c for c in map(str, market) if c not in CANONICAL["market"].by_name and c in accounts]
    code, unread = _cells(market, accounts, traits)
    prior = shares.mean(axis=0) * PRIOR_ACCOUNTS
    found = np.zeros((len(market), shares.shape[1]))
    known = code >= 0
    np.add.at(found, code[known], shares[known])
    weight = found + prior
    size = market["accounts"].fillna(0).to_numpy(float)
    value = market["value"].to_numpy(float)
    mean = weight / weight.sum(axis=1, keepdims=True)
    drawn = _draw_shares(weight, size, seed)
    used = [t for t in traits if t not in unread]
    note = (
        f"segments of the market file's cells ({', '.join(used) or 'none'}) as in the CRM's accounts of the same levels"
    )
    if unread:
        note += f"; not comparable: {', '.join(unread)}"
    return {
        "accounts": size @ mean,
        "low": np.quantile(drawn, 0.025, axis=0),
        "high": np.quantile(drawn, 0.975, axis=0),
        "value": np.nan_to_num(value) @ mean if not np.isnan(value).all() else np.full(shares.shape[1], np.nan),
        "in_market": np.full(shares.shape[1], np.nan),
        "basis": "counts",
        "note": note,
    }


def _draw_shares(weight: np.ndarray, size: np.ndarray, seed: int) -> np.ndarray:
    """Accounts per segment under draws of each cell's shares from its Dirichlet distribution (draws x segments)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((DRAWS, weight.shape[1]))
    for row, accounts in zip(weight, size, strict=True):
        gamma = rng.standard_gamma(np.maximum(row, 1e-9), size=(DRAWS, len(row)))
        total += accounts * gamma / gamma.sum(axis=1, keepdims=True)
    return total


def _cells(market: pd.DataFrame, accounts: pd.DataFrame, traits: list[str]) -> tuple[np.ndarray, list[str]]:
    """Row of the market file that each account falls into (-1: none), and the traits that cannot be compared."""
    readable = {t: fits for t in traits if (fits := _comparison(market[t], accounts[t])) is not None}
    unread = [t for t in traits if t not in readable]
    code = np.full(len(accounts), -1)
    for start in range(0, len(accounts) if readable else 0, CHUNK):  # accounts x cells must fit into memory
        part = slice(start, start + CHUNK)
        inside = np.logical_and.reduce([fits(part) for fits in readable.values()])
        code[part] = np.where(inside.any(axis=1), inside.argmax(axis=1), -1)
    return code, unread


def _comparison(levels: pd.Series, values: pd.Series) -> Callable[[slice], np.ndarray] | None:
    """A function that says which of some accounts lie in which level (accounts x levels); None when none can be told."""
    text = levels.astype("str").str.strip().str.lower().fillna("")
    if pd.api.types.is_float_dtype(values):
        bounds = [_bounds(t) for t in text]
        if any(b is None for b in bounds):
            return None
        low, high = np.array(bounds, dtype=float).T
        x = values.to_numpy(dtype=float)[:, None]
        return lambda part: (x[part] >= low) & (x[part] < high)
    if pd.api.types.is_bool_dtype(values):
        text, own = text.map(_as_flag), values.map({True: "yes", False: "no"})
    else:
        own = values.astype("str").str.strip().str.lower()
    theirs, mine = text.to_numpy(dtype=object), own.to_numpy(dtype=object)[:, None]
    return lambda part: mine[part] == theirs


def _as_flag(text: str) -> str:
    return "yes" if text in _YES else "no" if text in _NO else text


def _bounds(text: str) -> tuple[float, float] | None:
    """Bounds of a level of a number: `51-200` (to 200 inclusive), `[50, 200)`, `1000+`, `<50`, a single value."""
    if match := _BELOW.fullmatch(text):
        return -np.inf, _number(match[1])
    if match := _RANGE.fullmatch(text):
        high = _number(match[2])
        return _number(match[1]), high if text.endswith(")") else np.nextafter(high, np.inf)
    if match := _FROM.fullmatch(text):
        low, single = _number(match[1]), text[0].isdigit() and not text.endswith("+")
        return low, np.nextafter(low, np.inf) if single else np.inf
    return None


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _from_list(market: pd.DataFrame, accounts: pd.DataFrame, segmentation: Segmentation) -> dict:
    """A list of accounts: those of the CRM keep their segment, the others get it from the frozen assigner."""
    match = _matched(market, accounts)
    frame = _typed(market, segmentation.assigner["recipe"]).assign(
        account_id=[f"{i:09d}" for i in range(len(market))], family_id=[str(i) for i in range(len(market))]
    )
    ids = list(segmentation.assigner["ids"])
    own = posteriors_of(segmentation.assigner, frame)[ids].to_numpy(float)
    known = segmentation.posteriors.set_index("account_id")[ids].reindex(match).to_numpy(float)
    posterior = np.where(match.notna().to_numpy()[:, None], known, own)
    share = np.column_stack([np.nan_to_num(posterior), np.isnan(posterior).any(axis=1)])
    size, spread = share.sum(axis=0), 1.96 * np.sqrt((share * (1 - share)).sum(axis=0))
    value = market["value"].to_numpy(float)
    matched = int(match.notna().sum())
    return {
        "accounts": size,
        "low": np.maximum(size - spread, 0),
        "high": size + spread,
        "value": np.nan_to_num(value) @ share if not np.isnan(value).all() else np.full(share.shape[1], np.nan),
        "in_market": share[match.notna().to_numpy()].sum(axis=0),
        "basis": "list",
        "note": f"{matched:,} of {len(market):,} accounts of the market file are in the CRM; the others were assigned by their traits",
    }


def _matched(market: pd.DataFrame, accounts: pd.DataFrame) -> pd.Series:
    """CRM account of each row of a market list, or null: by identifier, then domain, then name; first come, never twice."""
    sold = accounts[~accounts["account_type"].isin(OUTSIDE)]
    match = pd.Series(index=market.index, dtype="str")
    for column, plain in (("account_id", _as_is), ("domain", _plain_domain), ("name", _plain_name)):
        if column not in market or column not in sold:
            continue
        key, theirs = plain(sold[column]), plain(market[column])
        once = key.notna() & (key != "") & ~key.duplicated(keep=False)
        index = pd.Series(sold.loc[once, "account_id"].to_numpy(), index=key[once].to_numpy())
        candidate = theirs.map(index).where(match.isna() & ~theirs.duplicated(keep=False))
        match = match.fillna(candidate.where(~candidate.isin(match.dropna())).astype("str"))
    return match


def _as_is(values: pd.Series) -> pd.Series:
    return values.astype("str").str.strip()


def _plain_domain(values: pd.Series) -> pd.Series:
    text = values.astype("str").str.strip().str.lower()
    return text.str.replace(r"^(https?://)?(www\.)?", "", regex=True).str.replace(r"[/?#].*$", "", regex=True)


def _plain_name(values: pd.Series) -> pd.Series:
    return values.astype("str").str.lower().str.replace(r"[\W_]+", "", regex=True)


def _typed(market: pd.DataFrame, recipe: Mapping) -> pd.DataFrame:
    """The list's trait columns as the assigner reads them."""
    kinds = {e["trait"]: e["kind"] for e in [*recipe["numbers"], *recipe["discrete"]]}
    typed = {}
    for trait, kind in kinds.items():
        if trait not in market:
            continue
        if kind in ("number", "band"):
            typed[trait] = pd.to_numeric(market[trait], errors="coerce").astype("float64")
        elif kind == "flag":
            text = market[trait].astype("str").str.strip().str.lower()
            typed[trait] = text.isin(_YES).astype("boolean").where(text.isin(_YES | _NO))
        else:
            typed[trait] = market[trait].astype("str").str.strip()
    return pd.DataFrame(typed, index=market.index)


def _table(measured: dict, crm: pd.DataFrame, ids: list[str], names: Mapping[str, str]) -> pd.DataFrame:
    columns = {k: np.append(v, np.sum(v)) for k, v in measured.items() if isinstance(v, np.ndarray)}
    columns["low"][-1] = columns["high"][-1] = np.nan  # the whole is counted, not estimated
    crm = pd.concat([crm, crm.sum().to_frame(ALL).T])
    size, customers = columns["accounts"], crm["customers"].to_numpy()
    inside = columns["in_market"]
    untouched = np.clip(size - np.where(np.isnan(inside), crm["crm_accounts"].to_numpy(), inside), 0, None)
    measurable = size >= np.maximum(customers, 1)
    table = pd.DataFrame(
        {
            "segment_id": pd.Series([*ids, ALL], dtype="str"),
            "segment": pd.Series([*(names[i] for i in ids), "whole market"], dtype="str"),
            "market_accounts": size.round(1),
            "low": columns["low"].round(1),
            "high": columns["high"].round(1),
            **{c: crm[c].to_numpy() for c in crm},
            "penetration": np.where(measurable, customers / np.maximum(size, 1), np.nan),
            # Customers are counted; what is uncertain is the size of the segment's market.
            "penetration_low": np.where(measurable, customers / np.maximum(columns["high"], 1), np.nan),
            "penetration_high": np.where(measurable, np.minimum(customers / np.maximum(columns["low"], 1), 1), np.nan),
            "whitespace_accounts": untouched.round(1),
            "market_value": columns["value"].round(2),
            "whitespace_value": (columns["value"] * untouched / np.maximum(size, 1e-9)).round(2),
            "basis": measured["basis"],
            "note": measured["note"],
        }
    )
    return table[(table["segment_id"] != UNASSIGNED) | (table["market_accounts"] > 0) | (table["crm_accounts"] > 0)]
