"""Reads opportunities, accounts, catalogue and segments, makes the artefact `traits`: effects and a verdict on each."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.config import Settings
from icplab.core.progress import track
from icplab.core.schema import ALL, ARTEFACTS, OUTCOMES, check_artefact
from icplab.core.stats.linear import fit_linear_candidates
from icplab.core.stats.logistic import fit_with_influence, score_candidates
from icplab.core.stats.multiplicity import global_test
from icplab.traits.adjust import STANDS_FOR, Coded, Nuisance
from icplab.traits.levels import TREND
from icplab.traits.missing import missing_shifts
from icplab.traits.outcomes import LOGGED, observe
from icplab.traits.scopes import (
    MIN_FAMILIES,
    MIN_OBSERVATIONS,
    Scope,
    build_scopes,
    families_with,
    read_market,
)
from icplab.traits.specific import measure_differences
from icplab.traits.verdicts import LEVEL, judge

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

MIN_SUPPORT = 20  # observations that have the level, and that have it not
MIN_EXPECTED = 5.0  # expected wins and expected losses in either arm (the usual bound of two-by-two tables)
PROMISING = 0.10  # p-value above which the sign in a later period changes no verdict, and is not computed
SINGLE = ("flag", "multi")  # kinds whose levels stand alone; levels of the other kinds exclude each other
STRONGER, MAX_STRONGER = 0.01, 4  # p-value from which a level of a category is held equal for the others; how many are
CHANNEL = (
    "source",
    "region",
    "motion",
    "period",
    "owner",
    "cell",
)  # nuisance blocks about selling, not about the account
ALONE = CHANNEL[:-1]  # cells repeat the others, and stay shrunken
# A level whose error grows by this factor once sellers and channels are not shrunken stands for one of them.
INSEPARABLE = 1.1
ADJUSTED = ["estimate", "se", "p_value", "df", "separated", "inseparable"]
LATER = ["replicates", "later"]


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
        Not used: every test here is exact. Kept so that all stages are called alike.
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
        `p_value`, `families` (account families with the level), `later` (the
        adjusted ratio in the later half, where p is at most PROMISING; one Newton step), `missing_low`, `missing_high` (the
        adjusted ratio if blanks hid the level twice as often, in odds, on one side; see `missing_shifts`), `rate` and `rate_without` (crude rate or mean with and
        without), `n_needed` (observations that would settle an `insufficient` row). Segments have rows for winning, and for
        another outcome where anything at all is associated with it in the whole market.

    Notes
    -----
    Effects are maximum-likelihood logistic (or least-squares) estimates adjusted as `build_nuisance` says. The standard error
    is the larger of the model-based and the one clustered by account family. A row is `supported` when support is reached,
    the scope's global test (Simes) passed at 5 % after gatekeeping over outcomes and segments, its q-value is at most
    `plan.fdr` over all traits and levels of that outcome in the scope, its adjusted interval excludes no effect, and the sign
    is the same among the later half of the observations (undated: in both halves of the families). An effect that the crude
    figures do not show at all (p above 0.2) rests on the adjustment alone: it is flagged `masked` and not claimed.
    A level of a category is tested with the stronger levels of the same category held equal, because where one level wins
    more, all others win less than the rest. `insufficient` means that support is missing or that an odds ratio of 1.6 (a ratio of 1.25) would have been missed with a
    chance above 20 %.
    """
    from threadpoolctl import threadpool_limits

    market = read_market(opportunities, accounts, catalogue, segments, audit=audit, posteriors=posteriors)
    barred, tables = market.barred, []
    with threadpool_limits(1):  # many small products: threads would only wait for each other, and round differently
        for outcome in track(OUTCOMES, "measuring traits by outcome"):
            observations = observe(outcome, opportunities, subscriptions, as_of)
            parts, whole = [], None
            for scope in build_scopes(outcome, observations, market):
                parts.append(_measure_scope(scope, barred))
                if outcome != "win" and scope.scope == ALL and not _anything(parts[-1]):
                    break  # its segments could not be opened
                whole = scope if scope.segments else whole
            tables.append(_with_differences(parts, whole, barred))
    tables = [t for t in tables if len(t)]
    if not tables:
        return check_artefact("traits", ARTEFACTS["traits"].empty())
    rows = judge(pd.concat(tables, ignore_index=True), audit, fdr=settings.plan.fdr)
    return check_artefact("traits", rows)


def _anything(table: pd.DataFrame) -> bool:
    """Whether the whole market's global test passes before any adjustment for the number of outcomes."""
    return len(table) > 0 and global_test(table["p_value"].where(table["enough"].astype(bool))) <= LEVEL


def _with_differences(parts: list[pd.DataFrame], whole: Scope | None, barred: set[str]) -> pd.DataFrame:
    """Rows of all scopes of an outcome with how far each effect differs from that in the other segments, where support
    is enough to ask."""
    filled = [p for p in parts if len(p)]
    if not filled:
        return pd.DataFrame()
    table = pd.concat(filled, ignore_index=True)
    asked = table[(table["scope"] != ALL) & table["enough"].astype(bool)]
    if whole is None or asked.empty:
        return table.assign(difference=np.nan, difference_se=np.nan)
    keys = ["trait", "level", "scope"]
    wanted = set(asked[keys].itertuples(index=False, name=None))
    differences = measure_differences(whole, _groups(whole, barred), _prepare, _fit, wanted)
    return table.merge(differences, on=keys, how="left", validate="one_to_one")


def _groups(scope: Scope, barred: set[str]) -> list[list[Coded]]:
    """Traits that share their nuisance columns: all whose levels stand alone together, the others one by one."""
    open_to_test = [c for c in scope.coded if c.trait.name not in barred]
    singles = [c for c in open_to_test if c.trait.kind in SINGLE]
    return ([singles] if singles else []) + [[c] for c in open_to_test if c.trait.kind not in SINGLE]


def _measure_scope(scope: Scope, barred: set[str]) -> pd.DataFrame:
    """Rows of one scope and outcome, without verdicts; quarantined traits with their crude effect only."""
    groups = _groups(scope, barred)
    shown = [c for c in scope.coded if c.trait.name in barred] if scope.scope == ALL else []
    ordered = [c for g in groups for c in g] + shown
    if not ordered:
        return pd.DataFrame()
    table, crude_influence = _crude(scope, ordered)
    fits = [_adjust(scope, g) for g in groups]
    adjusted = pd.concat([f for f, _ in fits], ignore_index=True) if fits else pd.DataFrame(columns=[*ADJUSTED, *LATER])
    table = table.join(adjusted[[*ADJUSTED, *LATER]] if fits else adjusted)
    influence = np.hstack([i for _, i in fits]) if fits else np.zeros((len(crude_influence), 0))
    spread = np.full(len(table), np.nan)
    spread[: influence.shape[1]] = np.sqrt(((crude_influence[:, : influence.shape[1]] - influence) ** 2).sum(axis=0))
    table["shift_z"] = (table["crude"] - table["estimate"]) / np.where(spread > 0, spread, np.nan)
    table["by_channel"] = _channel_effect(scope, ordered) if scope.scope == ALL else np.nan
    table["quarantined"] = table["trait"].isin(barred)
    return table.assign(scope=scope.scope, outcome=scope.outcome)


def _crude(scope: Scope, group: list[Coded]) -> tuple[pd.DataFrame, Floats]:
    """Support, rates with and without, the unadjusted effect of each level, and the influences of families on it."""
    x, missing = _matrix(group)
    rows = scope.observations
    plain = Nuisance(np.ones((len(rows), 1)), np.zeros(1), np.array([""]), np.array([""]))
    fits, influence = _fit(scope, x, plain, missing, None)
    has, known = (x != 0) & (missing == 0), missing == 0
    trend = np.array([level == TREND for c in group for level in c.trait.levels])
    n, support = known.sum(axis=0), np.where(trend, known.sum(axis=0), has.sum(axis=0))
    measured = rows["measured"].to_numpy()
    shifts = np.full((2, x.shape[1]), np.nan)
    if scope.outcome not in LOGGED:
        shifts[:, ~trend] = missing_shifts(rows["y"].to_numpy(), has[:, ~trend], known[:, ~trend])
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = (measured @ has) / support
        rate_without = (measured @ (known & ~has)) / (n - support)
    table = pd.DataFrame(
        {
            "trait": [c.trait.name for c in group for _ in c.trait.levels],
            "level": [level for c in group for level in c.trait.levels],
            "family": [c.trait.family for c in group for _ in c.trait.levels],
            "n": n.astype(float),
            "support": support.astype(float),
            "families": families_with(has, rows["family_id"].to_numpy()).astype(float),
            "rate": np.where(trend, np.nan, rate),
            "rate_without": np.where(trend, np.nan, rate_without),
            "crude": fits["estimate"],
            "crude_se": fits["se"],
            "crude_df": fits["df"],
            "shift_low": shifts[0],
            "shift_high": shifts[1],
            "enough": np.where(trend, n >= 2 * MIN_SUPPORT, ~_rare(scope, has, known)),
        }
    )
    return table, influence


def _adjust(scope: Scope, group: list[Coded]) -> tuple[pd.DataFrame, Floats]:
    """Adjusted effects of levels that share their nuisance columns, with the sign later on, and influences of families."""
    trait = group[0].trait
    nuisance, twin = _prepare(scope, group)
    x, missing = _matrix(group)
    fits, influence = _apart_from_channel(scope, x, nuisance, missing, twin)
    if trait.kind == "category":
        fits["p_value"] = _given_stronger(scope, x, nuisance, missing, fits["p_value"].to_numpy(dtype=float))
    promising = np.flatnonzero(fits["p_value"] <= PROMISING)
    replicates, later = np.zeros(len(fits), dtype=bool), np.full(len(fits), np.nan)
    replicates[promising], later[promising] = _replicates(
        scope, x[:, promising], nuisance, missing[:, promising], fits["estimate"].to_numpy()[promising]
    )
    return fits.assign(replicates=replicates, later=later), influence


def _apart_from_channel(
    scope: Scope, x: Floats, nuisance: Nuisance, missing: Floats, twin: NDArray[np.intp] | None
) -> tuple[pd.DataFrame, Floats]:
    """Effects and influences, `inseparable` ones (one seller's industry, say) measured within sellers and channels.

    Their priors shrink sellers and channels but not the trait, so that a trait that nearly repeats a seller would be given
    the seller's success. Where the error grows once those priors are lifted, the figures without them stand.
    """
    fits, influence = _fit(scope, x, nuisance, missing, twin)
    fits["inseparable"] = False
    asked = np.flatnonzero(fits["p_value"] <= PROMISING)
    if not len(asked):
        return fits, influence
    own = None if twin is None else twin[asked]
    within, sums = _fit(scope, x[:, asked], nuisance.free(*ALONE), missing[:, asked], own)
    before = fits["se"].to_numpy(dtype=float)[asked]
    moved = ~(within["se"].to_numpy(dtype=float) <= INSEPARABLE * before)
    fits.loc[asked[moved], within.columns] = within[moved].to_numpy()
    fits.loc[asked[moved], "inseparable"] = True
    influence[:, asked[moved]] = sums[:, moved]
    return fits, influence


def _prepare(scope: Scope, group: list[Coded]) -> tuple[Nuisance, NDArray[np.intp] | None]:
    """Nuisance columns of a group, and for levels that stand alone the column that repeats each."""
    trait, nuisance = group[0].trait, scope.nuisance
    if trait.kind in SINGLE:
        return nuisance, np.array([nuisance.position(c.trait.name, level) for c in group for level in c.trait.levels])
    return nuisance.without(f"trait:{trait.name}", *STANDS_FOR.get(trait.name, ())), None


def _given_stronger(scope: Scope, x: Floats, nuisance: Nuisance, missing: Floats, p_value: Floats) -> Floats:
    """p-values of levels of a category once its stronger levels are held equal.

    Where one level wins more, all others win less "than the rest"; only what remains without that level is their own.
    """
    p_value = p_value.copy()
    chosen: list[int] = []
    rest = list(range(len(p_value)))
    while rest and len(chosen) < MAX_STRONGER:
        best = min(rest, key=lambda j: (np.nan_to_num(p_value[j], nan=1.0), j))
        if not p_value[best] <= STRONGER:
            break
        chosen.append(best)
        rest.remove(best)
        given = nuisance.plus(x[:, chosen])
        if rest:
            again = _fit(scope, x[:, rest], given, missing[:, rest], None)[0]["p_value"].to_numpy(dtype=float)
            p_value[rest] = np.fmax(p_value[rest], again)
    return p_value


def _channel_effect(scope: Scope, group: list[Coded]) -> Floats:
    """Effects adjusted for how and by whom the account was sold to, and nothing else: whether a shift comes from there."""
    kept = np.isin(scope.nuisance.block, ["intercept", *CHANNEL])
    nuisance = scope.nuisance.without(*np.unique(scope.nuisance.block[~kept]))
    x, missing = _matrix(group)
    return _fit(scope, x, nuisance, missing, None)[0]["estimate"].to_numpy(dtype=float)


def _matrix(group: list[Coded]) -> tuple[Floats, Floats]:
    """Levels side by side, and for each whether it is unknown."""
    x = np.hstack([c.x for c in group])
    missing = np.hstack([np.repeat(c.unknown[:, None], c.x.shape[1], axis=1) for c in group]).astype(float)
    return x, missing


def _fit(
    scope: Scope, x: Floats, nuisance: Nuisance, missing: Floats, twin: NDArray[np.intp] | None
) -> tuple[pd.DataFrame, Floats]:
    """Effects of levels on the outcome of a scope, clustered by family."""
    y, families = scope.observations["y"].to_numpy(), scope.observations["family_id"].to_numpy()
    shared: dict = {"missing": missing, "ridge": nuisance.ridge, "clusters": families, "twin": twin}
    if scope.outcome in LOGGED:
        return fit_linear_candidates(y, x, nuisance.z, **shared)
    return fit_with_influence(y, x, nuisance.z, **shared, exact=False, start=nuisance.start)


def _rare(scope: Scope, has: Flags, known: Flags) -> Flags:
    """Levels without enough observations, families or expected wins and losses in either arm."""
    families, base = scope.observations["family_id"].to_numpy(), scope.observations["y"].mean()
    rare = np.zeros(has.shape[1], dtype=bool)
    for arm in (has, known & ~has):
        rare |= (arm.sum(axis=0) < MIN_SUPPORT) | (families_with(arm, families) < MIN_FAMILIES)
        if scope.outcome not in LOGGED:
            rare |= arm.sum(axis=0) * min(base, 1 - base) < MIN_EXPECTED
    return rare


def _replicates(scope: Scope, x: Floats, nuisance: Nuisance, missing: Floats, estimate: Floats) -> tuple[Flags, Floats]:
    """Whether the sign is the same in the later half (undated: in both halves), True where a half cannot tell; and the
    log ratio there (undated: in the second half of the families)."""
    same, later = np.ones(x.shape[1], dtype=bool), np.full(x.shape[1], np.nan)
    y = scope.observations["y"].to_numpy()
    for part in [scope.late] if scope.dated else [scope.late, ~scope.late]:
        if not x.shape[1] or part.sum() < MIN_OBSERVATIONS // 2 or y[part].std() == 0:
            continue
        columns = (y[part], x[part], nuisance.z[part])
        shared: dict = {"missing": missing[part], "ridge": nuisance.ridge}
        if scope.outcome in LOGGED:
            slope = fit_linear_candidates(*columns, **shared)[0]["estimate"].to_numpy()
        else:
            slope = score_candidates(*columns, **shared, start=nuisance.start)["one_step"].to_numpy()
        same &= (np.sign(slope) == np.sign(estimate)) | np.isnan(slope)
        later = slope if part is scope.late else later
    return same, later
