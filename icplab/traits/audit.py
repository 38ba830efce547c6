"""Reads opportunities, accounts and field history, makes the leak audit: which columns were written after the outcome.

Runs before any p-value. A strong association or a telling name is a reason to look and never quarantines; only evidence about
timing does.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.config import Settings
from icplab.core.stats.blocks import invert, sum_by_cluster
from icplab.traits.adjust import MIN_LEVEL, plain_nuisance, quarters
from icplab.traits.levels import TREND, Trait, code_levels, read_traits
from icplab.traits.scopes import build_memberships

Floats = NDArray[np.floating]

ASSOCIATED = 6.0  # standard errors between won and lost from which a column is worth suspecting
BEYOND_WON, BEYOND_SMALL = 2.0, 1.5
INFORMATIVE = (
    0.03  # difference that the wins' share makes among open opportunities, from which the test is at full strength
)
INCONSISTENT = 3.0  # standard errors between open opportunities and what their cohorts' outcomes lead to expect
# Wins close sooner, so that among those still open fewer will be won than among those closed.
OPEN_SHARE = 0.8
MISSING_AUC = 0.60  # from which a blank tells won from lost too well to be an accident
ACCIDENT = 3.5  # standard errors beyond which a telling blank, a collapse or a strong trait is no luck of a dozen deals
CHANGED = 0.10  # share of won records whose column was written at or after the close
CHANGED_Z = 4.0
EARLY, LATE = 0.20, 0.05  # distance of the AUC from one half in the earlier and the later cohorts: a collapse
SUSPICIOUS_AUC, SUSPICIOUS_IV = 0.85, 0.5  # scorecard practice; reasons to look
TELLING = re.compile(r"contract|onboard|csm|invoice|close|won|lost|implement|kick.?off|go.?live|renewal", re.IGNORECASE)
COLUMNS = [
    "trait", "table", "kind", "family", "known_at", "fill_won", "fill_lost", "fill_open", "missing_auc", "auc",
    "information_value", "open_z", "fill_open_z", "changed_won", "changed_lost", "early_auc", "late_auc", "quarantined", "signed",
    "reason", "evidence", "flags",
]  # fmt: skip


def audit_leaks(
    opportunities: pd.DataFrame,
    accounts: pd.DataFrame,
    catalogue: pd.DataFrame,
    settings: Settings,
    *,
    as_of: pd.Timestamp,
    field_history: pd.DataFrame | None = None,
    segments: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """What is known about when each candidate column was written, and which are therefore quarantined.

    Parameters
    ----------
    opportunities, accounts, catalogue
        As `features` builds them. Account columns are judged on each account's first opportunity, because a later one may
        find what an earlier win had written.
    settings
        `[traits.<column>] known_at = "created"` is a person's word that a column was known when the opportunity was opened:
        it lifts the quarantine, and the flag `signed` says so; `reason` is the person's reason.
    as_of
        Date everything is known on.
    field_history
        Changes of single fields, where the CRM keeps them.
    segments
        The artefact `account_segments`, so that a slow segment, which fills the open pipeline, raises no suspicion.

    Returns
    -------
    DataFrame
        One row per candidate trait: share filled among won, lost and open; `missing_auc` and `auc` (how well a blank, and how
        well the levels, tell won from lost); `information_value`; `open_z` (standard errors by which open opportunities look
        like lost ones rather than like the mixture they will become); `changed_won`, `changed_lost` (share of filled closed
        records written at or after the close); `early_auc`, `late_auc`; `quarantined`, `signed`, `evidence` (words) and
        `flags` (`leak`, `missingness`, `suspicious`, `signed`, joined by ";").

    Notes
    -----
    A column is quarantined when (a) its history says it was written at or after the close, more often for won than for lost;
    (b) it differs between won and lost, and open opportunities, which are of the same cohorts, segments, size, source and
    region, do not hold the wins' share of it; (c) a blank tells won from lost, and the open ones do not show that the blank
    was there before; or (d) it told won from lost in the earlier cohorts and says nothing in the later ones.
    """
    from threadpoolctl import threadpool_limits

    traits = read_traits(catalogue, accounts, opportunities)
    accounts = accounts.sort_values("account_id", kind="stable", ignore_index=True)
    rows = opportunities[opportunities["account_id"].isin(accounts["account_id"])]
    rows = rows.sort_values(["created_at", "opportunity_id"], kind="stable", ignore_index=True)
    first = ~rows.duplicated("account_id")
    tables = []
    with threadpool_limits(1):  # as in `measure_traits`
        for table, part in (("accounts", rows[first]), ("opportunities", rows)):
            wanted = [t for t in traits if t.table == table]
            if wanted and part["status"].isin(["won", "lost"]).any():
                tables.append(_audit_table(wanted, part.reset_index(drop=True), accounts, segments, field_history))
    if not tables:
        return pd.DataFrame(columns=COLUMNS)
    audit = pd.concat(tables, ignore_index=True)
    signed = {name for name, t in settings.traits.items() if t.known_at == "created"}
    reasons = {name: t.reason for name, t in settings.traits.items()}
    return _decide(audit.assign(reason=pd.Series([reasons.get(t, "") for t in audit["trait"]], dtype="str")), signed)


def _audit_table(
    traits: list[Trait],
    rows: pd.DataFrame,
    accounts: pd.DataFrame,
    segments: pd.DataFrame | None,
    field_history: pd.DataFrame | None,
) -> pd.DataFrame:
    """Evidence on columns of one table, measured on these opportunities."""
    place = pd.Series(np.arange(len(accounts)), index=accounts["account_id"]).reindex(rows["account_id"]).to_numpy()
    columns = {
        t.name: (accounts[t.name].iloc[place] if t.table == "accounts" else rows[t.name]).reset_index(drop=True)
        for t in traits
    }
    design = _design(rows, accounts, place, segments)
    records = []
    for trait in traits:
        values = columns[trait.name]
        record = {
            "trait": trait.name,
            "table": trait.table,
            "kind": trait.kind,
            "family": trait.family,
            "known_at": trait.known_at,
            **_fill(values, rows["status"]),
            **_separation(trait, values, rows),
            **_open_test(trait, values, rows, design),
            **_history(trait, rows, values, field_history),
        }
        records.append(record)
    return pd.DataFrame(records)


def _design(rows: pd.DataFrame, accounts: pd.DataFrame, place: NDArray, segments: pd.DataFrame | None) -> Floats:
    """Cohort, segment, size, source and region of each opportunity, then won and open."""
    memberships = None
    if segments is not None:
        memberships = build_memberships(accounts["account_id"], segments, None).drop(columns="hard").to_numpy()[place]
    described = rows.assign(
        y=0.0,
        employees=accounts["employees"].to_numpy()[place] if "employees" in accounts else np.nan,
        region=accounts["region"].to_numpy()[place] if "region" in accounts else None,
    )
    nuisance = plain_nuisance(described, memberships, quarters(rows["created_at"]), logged=False).without("owner")
    won, is_open = (rows["status"] == "won").to_numpy(), (rows["status"] == "open").to_numpy()
    return np.column_stack([nuisance.z, won.astype(float), is_open.astype(float)])


def _fill(values: pd.Series, status: pd.Series) -> dict:
    filled = values.notna()
    share = filled.groupby(status.to_numpy()).mean()
    won, lost = share.get("won", np.nan), share.get("lost", np.nan)
    wins, losses = int((status == "won").sum()), int((status == "lost").sum())
    pooled = (won * wins + lost * losses) / max(wins + losses, 1)
    return {
        "fill_won": won,
        "fill_lost": lost,
        "fill_open": share.get("open", np.nan),
        "missing_auc": 0.5 + abs(won - lost) / 2,
        "missing_z": abs(won - lost) / _error_of_difference(pooled, wins, losses),
    }


def _error_of_difference(share: float, one: int, other: int) -> float:
    """Standard error of the difference of two shares that are equal; of nothing it is infinite."""
    return float(np.sqrt(max(share * (1 - share), 1e-12) * (1 / one + 1 / other))) if one and other else np.inf


def _separation(trait: Trait, values: pd.Series, rows: pd.DataFrame) -> dict:
    """AUC and information value of the levels (missing is one), over all closed and in the earlier and later cohorts."""
    closed = rows["status"].isin(["won", "lost"]).to_numpy()
    won = (rows["status"] == "won").to_numpy()[closed]
    x, unknown = code_levels(trait, values[closed].reset_index(drop=True))
    keep = np.array([level != TREND for level in trait.levels])
    x, level = np.column_stack([x[:, keep], unknown.astype(float)]), np.array([*np.array(trait.levels)[keep], ""])
    if trait.kind in ("multi", "flag"):  # levels overlap: the one that separates best
        scores = [x[:, j] for j in range(len(level) - (trait.kind == "multi"))]
        auc = max((_auc(s, won) for s in scores), key=lambda a: abs(a - 0.5), default=0.5)
        best = max(scores, key=lambda s: abs(_auc(s, won) - 0.5), default=np.zeros(len(won)))
        codes = best
    else:
        codes = np.where(x.any(axis=1), x.argmax(axis=1), -1).astype(float)
        best = pd.Series(won).groupby(codes).transform("mean").to_numpy(dtype=float)
        auc = _auc(best, won)
    result = {"auc": max(auc, 1 - auc), "auc_z": abs(auc - 0.5) / _auc_error(won)}
    result["information_value"] = _information_value(codes, won)
    created = rows["created_at"][closed]
    late = (created > created.median()).to_numpy() if created.notna().any() else np.zeros(len(won), bool)
    halves = [_auc(best[half], won[half]) for half in (~late, late)] if late.any() else [np.nan, np.nan]
    turn = 1 if np.isnan(halves[0]) or halves[0] >= 0.5 else -1
    early, late_auc = (0.5 + turn * (h - 0.5) for h in halves)
    error = np.hypot(_auc_error(won[~late]), _auc_error(won[late]))
    return {**result, "early_auc": early, "late_auc": late_auc, "collapse_z": (early - late_auc) / error}


def _auc_error(won: NDArray[np.bool_]) -> float:
    """Standard error of the AUC of a score that says nothing (Mann-Whitney, no ties: the most it can be)."""
    wins, losses = int(won.sum()), int((~won).sum())
    return float(np.sqrt((wins + losses + 1) / (12 * wins * losses))) if wins and losses else np.inf


def _auc(score: Floats, won: NDArray[np.bool_]) -> float:
    """Chance that a won record scores higher than a lost one, ties counting half."""
    wins, losses = int(won.sum()), int((~won).sum())
    if not wins or not losses:
        return 0.5
    ranks = pd.Series(score).rank().to_numpy()
    return float((ranks[won].sum() - wins * (wins + 1) / 2) / (wins * losses))


def _information_value(codes: Floats, won: NDArray[np.bool_]) -> float:
    """Sum over levels of (share of won - share of lost) x log of their ratio, half a record added to each cell."""
    counts = pd.crosstab(codes, won).reindex(columns=[False, True], fill_value=0).to_numpy(dtype=float) + 0.5
    shares = counts / counts.sum(axis=0)
    return float(((shares[:, 1] - shares[:, 0]) * np.log(shares[:, 1] / shares[:, 0])).sum())


def _open_test(trait: Trait, values: pd.Series, rows: pd.DataFrame, design: Floats) -> dict:
    """How far open opportunities are from the mixture of outcomes they will become, on the side of the lost ones.

    Each level x is explained by cohort, segment, size, source, region, won (a) and open (b). A column written before the
    outcome has b = share of eventual wins x a; one written at a win has b = 0 or less.
    """
    is_open = design[:, -1] == 1
    unknown = {"open_z": np.nan, "fill_open_z": np.nan, "fill_held_z": np.nan}
    closed = rows["status"].isin(["won", "lost"])
    if is_open.sum() < MIN_LEVEL or (rows["status"] == "won").sum() < MIN_LEVEL:
        return unknown
    y = _as_responses(trait, values)
    share = OPEN_SHARE * float((rows["status"] == "won").sum() / closed.sum())
    inverse = invert(design.T @ design)
    slopes = inverse @ (design.T @ y)
    rest = y - design @ slopes
    leverage = design @ inverse[:, -2:]
    families = pd.factorize(rows["family_id"])[0]
    by_won = sum_by_cluster(leverage[:, [0]] * rest, families)
    by_open = sum_by_cluster(leverage[:, [1]] * rest, families)
    won, held = slopes[-2], slopes[-1]
    won_z = won / np.sqrt(np.maximum((by_won**2).sum(axis=0), 1e-12))
    gap = np.sign(won) * (share * won - held)
    gap_z = gap / np.sqrt(np.maximum(((share * by_won - by_open) ** 2).sum(axis=0), 1e-12))
    held_z = np.sign(won) * held / np.sqrt(np.maximum((by_open**2).sum(axis=0), 1e-12))
    # Looking even more like the won ones than expected is doubtful too, but may be a slow cycle: it takes more.
    gap_z = np.maximum(gap_z, -gap_z - BEYOND_WON)
    # Where the wins' share is small, the open ones can only differ by luck, or by much: it takes more, too.
    gap_z = gap_z - np.where(share * np.abs(won) < INFORMATIVE, BEYOND_SMALL, 0.0)
    evidence = np.where(np.abs(won_z) > ASSOCIATED, gap_z, np.nan)
    levels = evidence[:-1][~np.isnan(evidence[:-1])]
    return {
        "open_z": float(levels.max()) if len(levels) else np.nan,
        "fill_open_z": float(evidence[-1]),
        "fill_held_z": float(held_z[-1]),
    }


def _as_responses(trait: Trait, values: pd.Series) -> Floats:
    """Levels that are not rare (a number by its rank), unknown at the mean of the known; last, whether it is filled."""
    filled = values.notna().to_numpy(dtype=bool)
    if trait.kind == "number":
        x = (values.rank(pct=True).to_numpy(dtype=float) - 0.5)[:, None]
    else:
        x, _ = code_levels(trait, values)
        x = x[:, x.sum(axis=0) >= MIN_LEVEL]
    if filled.any():
        x = np.where(filled[:, None], x, x[filled].mean(axis=0))
    return np.column_stack([x, filled.astype(float)])


def _history(trait: Trait, rows: pd.DataFrame, values: pd.Series, field_history: pd.DataFrame | None) -> dict:
    """Share of filled closed records whose column was written at or after the close, by outcome."""
    nothing = {"changed_won": np.nan, "changed_lost": np.nan, "changed_z": np.nan}
    if field_history is None or field_history.empty:
        return nothing
    mine = field_history[(field_history["object"] == trait.table) & (field_history["field"] == trait.name)]
    if mine.empty:
        return nothing
    key = "account_id" if trait.table == "accounts" else "opportunity_id"
    # Where only two snapshots tell of a change, it counts as early as it can have happened.
    when = mine["not_before"].fillna(mine["changed_at"]) if "not_before" in mine else mine["changed_at"]
    last = when.groupby(mine["record_id"]).max().reindex(rows[key]).to_numpy()
    after = last >= rows["closed_at"].to_numpy()
    filled = values.notna().to_numpy()
    won, lost = ((rows["status"] == s).to_numpy() & filled for s in ("won", "lost"))
    if not won.any() or not lost.any():
        return nothing
    n_won, n_lost, pooled = won.sum(), lost.sum(), after[won | lost].mean()
    return {
        "changed_won": float(after[won].mean()),
        "changed_lost": float(after[lost].mean()),
        "changed_z": float((after[won].mean() - after[lost].mean()) / _error_of_difference(pooled, n_won, n_lost)),
    }


def _decide(audit: pd.DataFrame, signed: set[str]) -> pd.DataFrame:
    """Quarantine, its evidence in words, and flags."""
    history = (audit["changed_won"] >= CHANGED) & (audit["changed_z"] > CHANGED_Z)
    pipeline = audit["open_z"] > INCONSISTENT
    before = audit["fill_held_z"] > INCONSISTENT  # open ones hold the winners' fill already
    blank = (audit["missing_auc"] >= MISSING_AUC) & (audit["missing_z"] > ACCIDENT)
    blank &= ~(before & ~(audit["fill_open_z"] > INCONSISTENT))
    blank |= audit["fill_open_z"] > INCONSISTENT
    collapse = (audit["early_auc"] - 0.5 >= EARLY) & ((audit["late_auc"] - 0.5).abs() <= LATE)
    collapse &= audit["collapse_z"] > ACCIDENT
    words = {
        "its history shows values written at or after the close, more often for won opportunities": history,
        "open opportunities do not hold the share of it that their cohorts' wins lead to expect": pipeline,
        "a blank tells won from lost": blank,
        "it told won from lost in earlier cohorts and says nothing in later ones": collapse,
    }
    audit = audit.assign(evidence=_joined(words, audit.index, "; "))
    timing = audit["evidence"] != ""
    audit["signed"] = timing & audit["trait"].isin(signed)
    audit["quarantined"] = timing & ~audit["signed"]
    looks = (audit["auc"] > SUSPICIOUS_AUC) | (audit["information_value"] > SUSPICIOUS_IV)
    suspicious = (looks & (audit["auc_z"] > ACCIDENT)) | audit["trait"].str.contains(TELLING)
    lost_like = (audit["fill_open_z"] > INCONSISTENT) & ~before
    marks = {
        "leak": audit["quarantined"] & (history | pipeline | collapse | lost_like),
        "missingness": audit["quarantined"] & blank,
        "suspicious": suspicious & ~audit["quarantined"],
        "signed": audit["signed"],
    }
    audit["flags"] = _joined(marks, audit.index, ";")
    return audit[COLUMNS].sort_values(["table", "trait"], ignore_index=True)


def _joined(marks: dict[str, pd.Series], index: pd.Index, by: str) -> pd.Series:
    """Names of the marks that hold, row by row."""
    text = pd.Series("", index=index, dtype="str")
    for name, mark in marks.items():
        text = text.where(~mark.fillna(False).astype(bool), text + name + by)
    return text.str.removesuffix(by)
