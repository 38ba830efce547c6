"""Reads observations, levels and segments, makes the artefact `traits`: effects, their uncertainty, and a verdict each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.config import Settings
from icplab.core.schema import ALL, ARTEFACTS, OUTCOMES, UNASSIGNED, WHOLE_MARKET, check_artefact
from icplab.core.stats.linear import fit_linear_candidates
from icplab.core.stats.logistic import fit_with_influence, score_candidates
from icplab.core.stats.multiplicity import benjamini_hochberg, global_test, open_families
from icplab.traits.adjust import STANDS_FOR, Coded, Nuisance, build_nuisance
from icplab.traits.levels import Trait, code_levels, read_traits
from icplab.traits.outcomes import BY_CUSTOMER, LOGGED, observe

Floats = NDArray[np.floating]

MIN_SUPPORT = 20  # observations that have the level, and that have it not
MIN_FAMILIES = 10  # account families that have the level, and that have it not
MIN_EXPECTED = 5.0  # expected wins and expected losses in either arm (the usual bound of two-by-two tables)
MIN_OBSERVATIONS = 60  # of an outcome in a scope, below which nothing is fitted
MIN_EVENTS = 15  # of the rarer result
LEVEL = 0.05  # of global tests, and of intervals
RELEVANT = {"odds": np.log(1.6), "ratio": np.log(1.25)}  # effects a team would act on; power is judged against them
POWER = 2.8  # standard errors that an effect must have to be found with 80 % power at 5 %: 1.96 + 0.84
# The price list makes these rows true by definition.
BY_DEFINITION = {("product", "value"), ("product", "margin")}


@dataclass(frozen=True)
class _Scope:
    """Observations of one outcome in one scope, aligned with their levels and nuisance columns."""

    outcome: str
    scope: str
    observations: pd.DataFrame
    coded: list[Coded]
    nuisance: Nuisance
    late: NDArray[np.bool_]


def measure_traits(
    opportunities: pd.DataFrame,
    accounts: pd.DataFrame,
    catalogue: pd.DataFrame,
    segments: pd.DataFrame,
    settings: Settings,
    *,
    as_of: pd.Timestamp,
    seed: int = 0,
    audit: pd.DataFrame | None = None,
    posteriors: pd.DataFrame | None = None,
    subscriptions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Association of every trait level with winning, value, cycle, retention, expansion and margin, with a verdict each.

    Parameters
    ----------
    opportunities, accounts, catalogue
        As `features` builds them.
    segments
        The artefact `account_segments`.
    settings
        `plan.fdr` is the false-discovery rate accepted.
    as_of
        Date everything is known on.
    seed
        Unused by the tests themselves, which are exact; kept so that every stage is called alike.
    audit
        From `audit_leaks`; traits it quarantines are shown and not judged.
    posteriors
        Probability of membership, one row per account_id and one column per segment: adjusts better than the hard labels,
        because an account between two segments counts for both. Default: the labels, softened by their membership.
    subscriptions
        Table of subscriptions; without it retention and expansion are not measured.

    Returns
    -------
    DataFrame
        The artefact `traits` (contract), one row per scope, trait, level and outcome. Besides the declared columns:
        `shrunken` (the adjusted ratio pulled towards 1 by how much effects of this outcome vary at all: the one to quote),
        `p_value`, `families` (account families with the level), `rate` and `rate_without` (crude rate or mean with and
        without), `n_needed` (observations that would settle an `insufficient` row).

    Notes
    -----
    Effects are maximum-likelihood logistic (or least-squares) estimates adjusted as `build_nuisance` says. The standard error
    is the larger of the model-based and the one clustered by account family. A row is `supported` when support is reached,
    the scope's global test (Simes) passed at 5 % after gatekeeping over outcomes and segments, its q-value is at most
    `plan.fdr` over all traits and levels of that outcome in the scope, its adjusted interval excludes no effect, and the sign
    is the same among the later half of the observations (undated: in both halves of the families). `insufficient` means that
    support is missing or that an odds ratio of 1.6 (a ratio of 1.25) would have been missed with a chance above 20 %.
    """
    traits = read_traits(catalogue, accounts, opportunities)
    accounts = accounts.sort_values("account_id", kind="stable", ignore_index=True)
    on_accounts = {t.name: code_levels(t, accounts[t.name]) for t in traits if t.table == "accounts"}
    memberships = _memberships(accounts["account_id"], segments, posteriors)
    barred = set() if audit is None else set(audit.loc[audit["quarantined"].astype(bool), "trait"])
    tables = []
    for outcome in OUTCOMES:
        observations = _describe(observe(outcome, opportunities, subscriptions, as_of), accounts)
        for scope in _scopes(outcome, observations, memberships, traits, on_accounts, barred):
            tables.append(_measure_scope(scope, barred))
    if not tables:
        return check_artefact("traits", ARTEFACTS["traits"].empty())
    rows = _judge(pd.concat(tables, ignore_index=True), settings.plan.fdr)
    return check_artefact("traits", _flag(rows, audit))


def _memberships(account_id: pd.Series, segments: pd.DataFrame, posteriors: pd.DataFrame | None) -> pd.DataFrame:
    """Probability of each segment per account (rows in the order given); unassigned accounts belong to all alike."""
    labels = segments.set_index("account_id")["segment_id"].reindex(account_id)
    names = sorted(set(labels.dropna()) - {UNASSIGNED})
    if not names:
        return pd.DataFrame({WHOLE_MARKET: 1.0}, index=range(len(labels))).assign(hard=WHOLE_MARKET)
    hard = labels.to_numpy(dtype=object)
    if posteriors is not None:
        given = posteriors.set_index("account_id").reindex(account_id)
        soft = given[[c for c in given if c in names]].reindex(columns=names).to_numpy(dtype=float)
    else:
        own = segments.set_index("account_id")["membership"].reindex(account_id).fillna(1.0).to_numpy(dtype=float)
        is_own = hard[:, None] == np.asarray(names)[None, :]
        soft = np.where(is_own, own[:, None], ((1 - own) / max(len(names) - 1, 1))[:, None])
        soft[~is_own.any(axis=1)] = np.nan
    soft = np.where(np.isnan(soft), np.nanmean(soft, axis=0), soft)
    return pd.DataFrame(soft / soft.sum(axis=1, keepdims=True), columns=names).assign(hard=hard)


def _describe(observations: pd.DataFrame, accounts: pd.DataFrame) -> pd.DataFrame:
    """Observations of known accounts with the account's row number, size, region and family."""
    place = pd.Series(np.arange(len(accounts)), index=accounts["account_id"])
    rows = observations[observations["account_id"].isin(place.index)].reset_index(drop=True)
    at = place.reindex(rows["account_id"]).to_numpy(dtype=int)
    known = {c: accounts[c].to_numpy()[at] for c in ("employees", "region", "family_id") if c in accounts}
    rows = rows.drop(columns=["employees", "region"], errors="ignore").assign(place=at, **known)
    for column in {"employees", "region"} - set(known):
        rows[column] = np.nan
    return rows


def _scopes(
    outcome: str,
    observations: pd.DataFrame,
    memberships: pd.DataFrame,
    traits: list[Trait],
    on_accounts: dict[str, tuple[Floats, NDArray[np.bool_]]],
    barred: set[str],
) -> list[_Scope]:
    """The whole market and its segments, as far as they hold enough observations."""
    names = [str(c) for c in memberships if c != "hard"]
    hard = (
        memberships["hard"].to_numpy()[observations["place"].to_numpy(dtype=int)] if len(observations) else np.array([])
    )
    scopes = []
    for scope in [ALL, *(names if len(names) > 1 else [])]:
        rows = observations.loc[np.ones(len(observations), bool) if scope == ALL else hard == scope]
        rows = rows.reset_index(drop=True)
        if not _enough(outcome, rows):
            continue
        soft = memberships[names].to_numpy()[rows["place"].to_numpy(dtype=int)] if scope == ALL else None
        coded = [c for t in traits if (c := _code(t, outcome, rows, on_accounts)) is not None]
        background = [c for c in coded if c.trait.table == "accounts" and c.trait.name not in barred]
        nuisance = build_nuisance(rows, soft, background, logged=outcome in LOGGED)
        scopes.append(_Scope(outcome, scope, rows, coded, nuisance, _later_half(rows)))
    return scopes


def _enough(outcome: str, rows: pd.DataFrame) -> bool:
    if len(rows) < MIN_OBSERVATIONS or rows["family_id"].nunique() < 2 * MIN_FAMILIES:
        return False
    if outcome in LOGGED:
        return bool(rows["y"].std() > 0)
    return bool(min(rows["y"].sum(), (1 - rows["y"]).sum()) >= MIN_EVENTS)


def _code(
    trait: Trait, outcome: str, rows: pd.DataFrame, on_accounts: dict[str, tuple[Floats, NDArray[np.bool_]]]
) -> Coded | None:
    """Levels of a trait on observations; None where the outcome has no such column or the answer is a definition."""
    if (trait.name, outcome) in BY_DEFINITION:
        return None
    if trait.table == "accounts":
        x, unknown = on_accounts[trait.name]
        place = rows["place"].to_numpy(dtype=int)
        return Coded(trait, x[place], unknown[place])
    if outcome in BY_CUSTOMER or trait.name not in rows:
        return None
    return Coded(trait, *code_levels(trait, rows[trait.name]))


def _later_half(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Observations created after the middle one; without dates, every second family."""
    if rows["created_at"].notna().any():
        return (rows["created_at"] > rows["created_at"].median()).to_numpy(dtype=bool)
    families = pd.factorize(rows["family_id"], sort=True)[0]
    return families % 2 == 1


def _measure_scope(scope: _Scope, barred: set[str]) -> pd.DataFrame:
    """Rows of one scope and outcome, without verdicts."""
    singles = [c for c in scope.coded if c.trait.kind in ("flag", "multi") and c.trait.name not in barred]
    others = [c for c in scope.coded if c.trait.kind not in ("flag", "multi") and c.trait.name not in barred]
    groups = ([singles] if singles else []) + [[c] for c in others]
    tables = [_measure_group(scope, group) for group in groups]
    tables += [_crude(scope, [c])[0] for c in scope.coded if c.trait.name in barred and scope.scope == ALL]
    if not tables:
        return pd.DataFrame()
    return pd.concat(tables, ignore_index=True).assign(scope=scope.scope, outcome=scope.outcome)


def _measure_group(scope: _Scope, group: list[Coded]) -> pd.DataFrame:
    """Crude and adjusted effects of levels that share their nuisance columns."""
    table, crude_influence = _crude(scope, group)
    nuisance, twin = scope.nuisance, None
    if group[0].trait.kind in ("flag", "multi"):
        twin = np.array([nuisance.position(c.trait.name, level) for c in group for level in c.trait.levels])
    else:
        nuisance = nuisance.without(f"trait:{group[0].trait.name}", STANDS_FOR.get(group[0].trait.name, ""))
    x, missing = _matrix(group)
    y, families = scope.observations["y"].to_numpy(), scope.observations["family_id"].to_numpy()
    fits, influence = _fit(scope, y, x, nuisance, missing, families, twin)
    table[["estimate", "se", "p_value", "df", "separated"]] = fits[["estimate", "se", "p_value", "df", "separated"]]
    difference = (table["crude"] - fits["estimate"]).to_numpy()
    spread = np.sqrt(((crude_influence - influence) ** 2).sum(axis=0))
    table["shift_z"] = difference / np.where(spread > 0, spread, np.nan)
    table["replicates"] = _replicates(scope, y, x, nuisance, missing, families, fits["estimate"].to_numpy())
    return table


def _matrix(group: list[Coded]) -> tuple[Floats, Floats]:
    """Levels side by side, and beside each whether it is unknown."""
    x = np.hstack([c.x for c in group])
    missing = np.hstack([np.repeat(c.unknown[:, None], c.x.shape[1], axis=1) for c in group]).astype(float)
    return x, missing


def _fit(
    scope: _Scope,
    y: Floats,
    x: Floats,
    nuisance: Nuisance,
    missing: Floats,
    families: NDArray,
    twin: NDArray[np.intp] | None,
) -> tuple[pd.DataFrame, Floats]:
    shared: dict = {"missing": missing, "ridge": nuisance.ridge, "clusters": families, "twin": twin}
    if scope.outcome in LOGGED:
        return fit_linear_candidates(y, x, nuisance.z, **shared)
    return fit_with_influence(y, x, nuisance.z, **shared, exact=False, start=nuisance.start)


def _crude(scope: _Scope, group: list[Coded]) -> tuple[pd.DataFrame, Floats]:
    """Support, rates with and without, the unadjusted effect of each level, and the influences of families on it."""
    x, missing = _matrix(group)
    rows = scope.observations
    y, families = rows["y"].to_numpy(), rows["family_id"].to_numpy()
    plain = Nuisance(np.ones((len(y), 1)), np.zeros(1), np.array([""]), np.array([""]))
    fits, influence = _fit(scope, y, x, plain, missing, families, None)
    has, known = (x != 0) & (missing == 0), missing == 0
    trend = np.array([level == "trend" for c in group for level in c.trait.levels])
    measured = rows["measured"].to_numpy()[:, None]
    n, support = known.sum(axis=0), np.where(trend, known.sum(axis=0), has.sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = (measured * has).sum(axis=0) / support
        rate_without = (measured * (known & ~has)).sum(axis=0) / (n - support)
    rare = _rare(scope, has, known)
    table = pd.DataFrame(
        {
            "trait": [c.trait.name for c in group for _ in c.trait.levels],
            "level": [level for c in group for level in c.trait.levels],
            "family": [c.trait.family for c in group for _ in c.trait.levels],
            "n": n.astype(float),
            "support": support.astype(float),
            "families": _families_with(has, families).astype(float),
            "rate": np.where(trend, np.nan, rate),
            "rate_without": np.where(trend, np.nan, rate_without),
            "crude": fits["estimate"],
            "crude_se": fits["se"],
            "crude_p": fits["p_value"],
            "enough": np.where(trend, n >= 2 * MIN_SUPPORT, ~rare),
        }
    )
    return table, influence


def _rare(scope: _Scope, has: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Levels without enough observations, families or expected wins and losses in both arms."""
    families = scope.observations["family_id"].to_numpy()
    arms = [has, known & ~has]
    rare = np.zeros(has.shape[1], dtype=bool)
    for arm in arms:
        rare |= (arm.sum(axis=0) < MIN_SUPPORT) | (_families_with(arm, families) < MIN_FAMILIES)
        if scope.outcome not in LOGGED:
            base = scope.observations["y"].mean()
            rare |= arm.sum(axis=0) * min(base, 1 - base) < MIN_EXPECTED
    return rare


def _families_with(has: NDArray[np.bool_], families: NDArray) -> NDArray[np.intp]:
    """Distinct families among the rows that have each level."""
    codes = pd.factorize(families)[0]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return np.logical_or.reduceat(has[order], starts, axis=0).sum(axis=0)


def _replicates(
    scope: _Scope, y: Floats, x: Floats, nuisance: Nuisance, missing: Floats, families: NDArray, estimate: Floats
) -> NDArray[np.bool_]:
    """Whether the sign is the same in the later half (undated: in both halves); True where a half cannot tell."""
    dated = scope.observations["created_at"].notna().any()
    same = np.ones(x.shape[1], dtype=bool)
    for part in [scope.late] if dated else [scope.late, ~scope.late]:
        if part.sum() < MIN_OBSERVATIONS // 2 or y[part].std() == 0:
            continue
        args = (y[part], x[part], nuisance.z[part])
        rest = {"missing": missing[part], "ridge": nuisance.ridge}
        if scope.outcome in LOGGED:
            sign = fit_linear_candidates(*args, **rest)[0]["estimate"].to_numpy()
        else:
            sign = score_candidates(*args, **rest, start=nuisance.start)["one_step"].to_numpy()
        same &= (np.sign(sign) == np.sign(estimate)) | np.isnan(sign)
    return same


def _judge(rows: pd.DataFrame, fdr: float) -> pd.DataFrame:
    """q-values, opened scopes, intervals and verdicts."""
    from scipy import stats

    rows["p_used"] = rows["p_value"].where(rows["enough"].astype(bool))
    by = rows.groupby(["outcome", "scope"], sort=False)["p_used"]
    rows["q_value"] = by.transform(lambda p: benjamini_hochberg(p))
    families = by.agg(global_test).rename("p_global").reset_index()
    opened = open_families(families, root=ALL, level=LEVEL).set_index(["outcome", "scope"])["opened"]
    rows["opened"] = opened.reindex(pd.MultiIndex.from_frame(rows[["outcome", "scope"]])).to_numpy()
    for name, value, se, df in (
        ("odds_ratio", "crude", "crude_se", rows["df"]),
        ("adjusted", "estimate", "se", rows["df"]),
    ):
        width = stats.t.ppf(1 - LEVEL / 2, df.fillna(np.inf)) * rows[se]
        low, high = ("low", "high") if name == "odds_ratio" else ("adjusted_low", "adjusted_high")
        rows[name], rows[low], rows[high] = (np.exp(rows[value].clip(-20, 20) + s * width) for s in (0, -1, 1))
    excludes = (rows["adjusted_low"] > 1) | (rows["adjusted_high"] < 1)
    supported = (
        rows["enough"].astype(bool) & rows["opened"] & (rows["q_value"] <= fdr) & excludes & rows["replicates"].eq(True)
    )
    relevant = np.where(rows["outcome"].isin(LOGGED), RELEVANT["ratio"], RELEVANT["odds"])
    powerless = ~rows["enough"].astype(bool) | rows["se"].isna() | (rows["se"] * POWER > relevant)
    rows["verdict"] = np.select(
        [rows["estimate"].isna() & rows["p_value"].isna() & rows["replicates"].isna(), supported, powerless],
        ["quarantined", "supported", "insufficient"],
        "not_supported",
    )
    n_needed = rows["n"] * (rows["se"] * POWER / relevant) ** 2
    rows["n_needed"] = n_needed.round().where(rows["verdict"] == "insufficient")
    rows["direction"] = pd.Series(np.where(rows["estimate"] >= 0, "+", "-"), dtype="str").where(
        rows["estimate"].notna()
    )
    rows["rate_diff"] = rows["rate"] - rows["rate_without"]
    rows["shrunken"] = _shrink(rows)
    return rows


def _shrink(rows: pd.DataFrame) -> pd.Series:
    """Adjusted ratios pulled towards 1: posterior mean under a normal prior, its variance by moments per outcome and scope."""
    by = [rows["outcome"], rows["scope"]]
    square, noise = rows["estimate"] ** 2, rows["se"] ** 2
    weight = 1 / noise**2
    excess = ((square - noise) * weight).groupby(by).transform("sum") / weight.groupby(by).transform("sum")
    spread = excess.clip(lower=0)
    return np.exp(rows["estimate"] * spread / (spread + noise))


def _flag(rows: pd.DataFrame, audit: pd.DataFrame | None) -> pd.DataFrame:
    """Flags per row, and rounding below which a solver's noise could show."""
    crude_clear = (rows["low"] > 1) | (rows["high"] < 1)
    turned = np.sign(rows["crude"]) != np.sign(rows["estimate"])
    adjusted_clear = (rows["adjusted_low"] > 1) | (rows["adjusted_high"] < 1)
    marks = {
        "reversal": crude_clear & turned & (rows["shift_z"].abs() > 1.96),
        "confounded": crude_clear & ~adjusted_clear & (rows["shift_z"].abs() > 1.96) & rows["enough"].astype(bool),
        "separated": rows["separated"].eq(True),
    }
    flags = pd.Series("", index=rows.index)
    for name, mark in marks.items():
        flags = flags.where(~mark.fillna(False), flags + name + ";")
    if audit is not None:
        by_trait = audit.set_index("trait")["flags"].fillna("")
        extra = rows["trait"].map(by_trait).fillna("")
        flags = flags + extra.where(extra == "", extra + ";")
    rows["flags"] = flags.str.strip(";")
    declared = [c.name for c in ARTEFACTS["traits"].columns]
    kept = rows[[*declared, "shrunken", "p_value", "families", "rate", "rate_without", "n_needed"]].copy()
    numbers = kept.select_dtypes("number").columns
    kept[numbers] = kept[numbers].round(9)
    return kept.sort_values(["outcome", "scope", "trait", "level"], ignore_index=True)
