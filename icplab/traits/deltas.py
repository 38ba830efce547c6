"""Reads who matches the ICP and what happened, makes the difference between inside and outside on every outcome."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.schema import ALL, OUTCOMES
from icplab.core.stats.blocks import expit
from icplab.core.stats.linear import fit_linear_candidates
from icplab.core.stats.logistic import fit_logistic, fit_with_influence
from icplab.traits.outcomes import LOGGED, observe
from icplab.traits.scopes import MIN_FAMILIES, Market, Scope, build_memberships, build_scopes, families_with

MIN_ARM = 20  # observations inside, and outside
COLUMNS = [
    "outcome", "scope", "n_yes", "n_no", "yes", "no", "ratio", "low", "high", "adjusted_yes", "adjusted_no", "adjusted",
    "adjusted_low", "adjusted_high", "status",
]  # fmt: skip
Floats = NDArray[np.floating]


def measure_icp_delta(
    matches: pd.DataFrame,
    opportunities: pd.DataFrame,
    accounts: pd.DataFrame,
    segments: pd.DataFrame,
    *,
    as_of: pd.Timestamp,
    subscriptions: pd.DataFrame | None = None,
    posteriors: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Accounts inside their segment's ICP against those outside, on all six outcomes, raw and among alike.

    Parameters
    ----------
    matches
        From `match_icp`; accounts whose match is `unknown` are in neither arm.
    opportunities, accounts, segments, as_of, subscriptions, posteriors
        As `measure_traits` takes them.

    Returns
    -------
    DataFrame
        One row per outcome and scope (the whole market, and segments that can be measured): observations `n_yes`, `n_no`;
        `yes`, `no` (rates, or geometric means in the outcome's unit); `ratio` with low and high (odds ratio, or ratio of
        geometric means); `adjusted_yes`, `adjusted_no` (what every observation would show inside and outside, by the model);
        `adjusted` with its interval: held equal in segment, size, source, region, motion, month and seller (product too, for
        value, cycle and margin); `status` (`ok`, `insufficient`, `not_measured`). 95 % intervals clustered by family.

    Notes
    -----
    The rule was drafted on these opportunities, so that the differences in winning flatter; what was not looked at for the
    rule (value, keeping, expanding, margin) flatters less.
    """
    from threadpoolctl import threadpool_limits

    frame = accounts.sort_values("account_id", kind="stable", ignore_index=True)
    memberships = build_memberships(frame["account_id"], segments, posteriors)
    icp = matches.set_index("account_id")["icp"].reindex(frame["account_id"]).to_numpy(dtype=object)
    rows = []
    with threadpool_limits(1):
        for outcome in OUTCOMES:
            observations = observe(outcome, opportunities, subscriptions, as_of)
            scopes = list(build_scopes(outcome, observations, Market(frame, [], memberships, set())))
            rows += [_compare(scope, icp[scope.observations["place"].to_numpy(dtype=int)]) for scope in scopes]
            if not any(s.scope == ALL for s in scopes):
                rows.append({"outcome": outcome, "scope": ALL, "status": "not_measured"})
    table = pd.DataFrame(rows, columns=COLUMNS)
    text = {"outcome": "str", "scope": "str", "status": "str"}
    return table.astype({c: text.get(c, "float64") for c in COLUMNS})


def _compare(scope: Scope, icp: NDArray) -> dict:
    """One row: inside against outside in one scope."""
    known = np.isin(icp, ["yes", "no"])
    inside = (icp == "yes").astype(float)
    rows, logged = scope.observations, scope.outcome in LOGGED
    arms = [known & (icp == side) for side in ("yes", "no")]
    families = rows["family_id"].to_numpy()
    counted = {"outcome": scope.outcome, "scope": scope.scope, "n_yes": arms[0].sum(), "n_no": arms[1].sum()}
    if min(a.sum() for a in arms) < MIN_ARM or min(families_with(a[:, None], families)[0] for a in arms) < MIN_FAMILIES:
        return {**counted, "status": "insufficient"}
    y = rows["y"].to_numpy()
    plain = [float(np.exp(y[a].mean()) if logged else y[a].mean()) for a in arms]
    ones = np.ones((len(y), 1))
    crude = _effect(y, inside, ~known, ones, np.zeros(1), families, logged)
    z, ridge = scope.nuisance.z, scope.nuisance.ridge
    adjusted = _effect(y, inside, ~known, z, ridge, families, logged)
    even = _standardised(y, inside, ~known, z, ridge, logged, adjusted[0])
    return {
        **counted,
        "yes": plain[0],
        "no": plain[1],
        **dict(zip(("ratio", "low", "high"), np.exp(crude), strict=True)),
        "adjusted_yes": even[0],
        "adjusted_no": even[1],
        **dict(zip(("adjusted", "adjusted_low", "adjusted_high"), np.exp(adjusted), strict=True)),
        "status": "ok",
    }


def _effect(
    y: Floats, inside: Floats, unknown: NDArray[np.bool_], z: Floats, ridge: Floats, families: NDArray, logged: bool
) -> tuple[float, float, float]:
    """Log ratio with its 95 % interval."""
    from scipy import special

    shared: dict = {"missing": unknown[:, None].astype(float), "ridge": ridge, "clusters": families}
    fit = fit_linear_candidates if logged else fit_with_influence
    row = fit(y, (inside * ~unknown)[:, None], z, **shared)[0].iloc[0]
    middle = float(row["estimate"])
    width = float(special.stdtrit(row["df"], 0.975)) * float(row["se"])
    return middle, float(np.clip(middle - width, -20, 20)), float(np.clip(middle + width, -20, 20))


def _standardised(
    y: Floats, inside: Floats, unknown: NDArray[np.bool_], z: Floats, ridge: Floats, logged: bool, effect: float
) -> tuple[float, float]:
    """What all observations would show inside and outside, by the fitted model."""
    if logged:
        known = ~unknown
        level = float(y[known].mean() - effect * inside[known].mean())
        return float(np.exp(level + effect)), float(np.exp(level))
    design = np.column_stack([z, unknown.astype(float), inside * ~unknown])
    fit = fit_logistic(y, design, ridge=np.r_[ridge, 0.01, 0.0])
    rest = design[:, :-2] @ fit.coefficients[:-2]
    return float(expit(rest + fit.coefficients[-1]).mean()), float(expit(rest).mean())
