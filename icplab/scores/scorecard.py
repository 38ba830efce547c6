"""Reads a fitted model, makes the frozen scorecard: whole points per level, calibration, uncertainty, value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.model import Input, Value, whole_points
from icplab.core.stats.survival import retention_curve
from icplab.scores.fit import Fitted, fit_inputs
from icplab.scores.training import Training, one_hot

POINTS_PER_LOGIT = 10  # 7 points double the odds; rounding to whole points then costs less than .002 of AUC
MIN_SPREAD = 2  # points between the best and the worst level, below which an input is not worth a line of the card
# The posterior of the effects leaves out which traits were chosen and what the card cannot see. Widened by this factor, the
# stated tier confidence (mean .915) agreed with the oracle's tier (.897) over six simulated markets, bin by bin.
DRAW_SPREAD = 2.0
DRAWS = 200  # of the uncertain effects: tier confidence to within .04
MIN_WON_AMOUNTS = 20  # amounts of won opportunities needed for a value model
MIN_KEPT = 30  # customers needed to measure how long they stay
PRIOR_KEPT = 50  # customer months by which a segment's churn is drawn towards the whole market's
SUPPORT_TRAITS = ("industry", "country", "region", "employees", "annual_revenue")
MAX_VALUE_INPUTS = 5
SCALE_ERRORS = 3.0  # standard errors by which won amounts may differ in slope before the others are left out
POOL = 400  # points of the nuisance distribution that is averaged over


def build_card(fitted: Fitted, *, opportunity: bool = False) -> tuple[int, tuple[Input, ...]]:
    """Base points and inputs with whole points per level; inputs worth nothing are left off.

    The card of accounts holds account traits only, that of opportunities everything known on the day they are opened.
    Two-valued inputs give 0 points to "no", so that an unknown value stands between; others are centred at 0. The base is
    chosen so that the lowest possible total is 0.
    """
    inputs = []
    for block, effect in zip(fitted.blocks, fitted.effects, strict=True):
        if block.item.table != "accounts" and not opportunity:
            continue
        worth = block.basis @ effect * POINTS_PER_LOGIT
        missing = 0.0
        if block.item.kind in ("flag", "item"):
            worth, missing = worth - worth[0], -worth[0]
        points = tuple(int(p) for p in np.rint(worth))
        if np.ptp(points) >= MIN_SPREAD:
            inputs.append(replace(block.item, points=points, missing=int(np.rint(missing))))
    return -int(sum(min(i.points) for i in inputs)), tuple(inputs)


def points_of_rows(base: int, inputs: tuple[Input, ...], fitted: Fitted) -> np.ndarray:
    """Total points per training opportunity."""
    blocks = {(b.item.table, b.item.name): b for b in fitted.blocks}
    total = np.full(len(fitted.linear), base, dtype="float64")
    for item in inputs:
        worth = np.array([*item.points, item.missing])
        weights = blocks[item.table, item.name].weights
        if weights.ndim == 2:
            total += np.where(weights.sum(axis=1) > 0, whole_points(weights, worth[:-1]), worth[-1])
        else:
            total += worth[np.where(weights < 0, len(item.levels), weights)]
    return total


def opportunity_effects(fitted: Fitted) -> np.ndarray:
    """Log odds per training row from inputs that belong to the opportunity, not to the account."""
    pairs = zip(fitted.blocks, fitted.effects, strict=True)
    return sum((b.matrix() @ e for b, e in pairs if b.item.table == "opportunities"), np.zeros(len(fitted.linear)))


def calibrate(
    points: np.ndarray, rest: np.ndarray, outcome: np.ndarray, weight: np.ndarray, shrink: float
) -> tuple[float, float]:
    """Intercept and slope of probability = logistic(a + b × points), averaged over everything else.

    Parameters
    ----------
    points : total per opportunity
    rest : log odds that the nuisance (source, seller, quarter, traits of the opportunity) adds per opportunity
    outcome, weight : as labelled
    shrink : factor on the slope found on forward folds (1 = none)

    Notes
    -----
    The outcome is fitted on points with `rest` held fixed, and the probability is then averaged over the distribution of
    `rest` in the workspace: an account is not better because its opportunities happened to come by referral.
    """
    slope = _slope(points / POINTS_PER_LOGIT, rest, outcome, weight) * shrink
    level = _level(slope * points / POINTS_PER_LOGIT + rest, outcome, weight)
    pool = np.quantile(rest, (np.arange(POOL) + 0.5) / POOL)
    grid = np.unique(points)
    share = np.array([(points == g).mean() for g in grid])
    average = _expit(level + slope * grid[:, None] / POINTS_PER_LOGIT + pool).mean(axis=1)
    if len(grid) < 2:
        return float(_logit(average[0])), 0.0
    b, a = np.polyfit(grid, _logit(average), 1, w=np.sqrt(share))
    return round(float(a), 6), round(float(b), 6)


def fit_value(training: Training, subscriptions: pd.DataFrame, settings: Settings) -> tuple[Value, np.ndarray]:
    """Expected value of a won opportunity, and draws of its uncertain effects (draws × levels).

    Regression of log annual value of won opportunities on segment, size, motion and traits that show themselves, shrunken;
    back on the scale of money with the residual variance. Multiplied by the discounted years a customer of the segment stays
    within [economics] months, and by the gross margin. Without margins the amounts are used and the basis says so.
    """
    rows = training.opportunities
    given = (rows["acv"] > 0).to_numpy()
    won = given & (rows["status"] == "won").to_numpy()
    if won.sum() < MIN_WON_AMOUNTS:
        return Value(), np.zeros((DRAWS, 0))
    y = np.log(rows["acv"].where(given, 1.0).to_numpy("float64"))
    fitted = _fit_amounts(training, y, given)
    if not _same_scale(y[won], _of_inputs(fitted)[won]):
        fitted = _fit_amounts(training, y, won)
    margin, basis = _margin(rows[won])
    keep, kept = _years_kept(training, subscriptions, settings)
    level = float(np.mean((y - _of_inputs(fitted))[won]))
    residual = y[won] - level - _of_inputs(fitted)[won]
    inputs = tuple(
        replace(b.item, points=tuple(float(v) for v in np.round(b.basis @ e, 5)))
        for b, e in zip(fitted.blocks, fitted.effects, strict=True)
    )
    value = Value(
        basis=basis if kept else basis + ", kept for the whole period",
        intercept=round(level, 5),
        inputs=inputs,
        smearing=round(_smearing(residual, _unsure(fitted)[won]), 5),
        margin=round(margin, 5),
        keep=keep,
        cost_per_year=float(settings.economics.cost_to_serve),
    )
    return value, _draws(fitted, "value")


def _fit_amounts(training: Training, y: np.ndarray, rows: np.ndarray) -> Fitted:
    """Log amount on segment, size, motion and traits that show themselves; status, source and seller held equal."""
    status = one_hot(training.opportunities["status"])
    return fit_inputs(
        y,
        rows.astype(float),
        [b for b in training.forced if b.item.table == "accounts"],
        [b for b in training.blocks if b.item.table == "accounts"],
        [status, *training.nuisance.values()],
        training.opportunities["family_id"].to_numpy(),
        family="gaussian",
        max_inputs=MAX_VALUE_INPUTS,
    )


def _of_inputs(fitted: Fitted) -> np.ndarray:
    return fitted.linear - fitted.intercept - fitted.nuisance


def _same_scale(y: np.ndarray, x: np.ndarray) -> bool:
    """Whether won amounts move one for one with what all amounts say; open and lost ones are often wishes."""
    if x.std() < 1e-9 or len(x) < MIN_WON_AMOUNTS:
        return True
    slope, intercept = np.polyfit(x, y, 1)
    error = float(np.std(y - intercept - slope * x) / (x.std() * np.sqrt(len(x))))
    return bool(abs(slope - 1) <= SCALE_ERRORS * error)


def _unsure(fitted: Fitted) -> np.ndarray:
    """Variance of the log amount per row that comes from not knowing the segment for sure."""
    variance = np.zeros(len(fitted.linear))
    for block, effect in zip(fitted.blocks, fitted.effects, strict=True):
        if block.weights.ndim == 2:
            worth = block.basis @ effect
            variance += block.weights @ worth**2 - (block.weights @ worth) ** 2
    return variance


def account_draws(fitted: Fitted, inputs: tuple[Input, ...]) -> np.ndarray:
    """Draws × levels of the account inputs on the card: by how many points each could be off."""
    names = {i.name for i in inputs}
    return _draws(fitted, "points", names) * POINTS_PER_LOGIT


def describe_support(accounts: pd.DataFrame, inputs: tuple[Input, ...]) -> tuple[Input, ...]:
    """Range of worked accounts: numbers between their extremes, levels that at least one worked account has."""
    worked = accounts[accounts["n_opportunities"].fillna(0) > 0]
    kinds = {
        i.trait: i.kind
        for i in inputs
        if i.table == "accounts" and i.kind in ("number", "category") and i.trait != "motion"
    }
    for trait in SUPPORT_TRAITS:
        if trait in accounts and trait not in kinds:
            kinds[trait] = "number" if accounts[trait].dtype == "float64" else "category"
    found = []
    for trait, kind in sorted(kinds.items()):
        known = worked[trait].dropna()
        if known.empty:
            continue
        if kind == "number":
            low, high = float(known.min()), float(np.nextafter(known.max(), np.inf))
            found.append(Input(trait, "accounts", kind, ("below", "seen", "above"), (), edges=(low, high)))
        else:
            found.append(Input(trait, "accounts", kind, tuple(sorted(known.astype("str").unique())), ()))
    return tuple(found)


def _draws(fitted: Fitted, what: str, names: set[str] | None = None) -> np.ndarray:
    """Draws of level effects from the posterior of the coefficients; a fixed generator, for the same model every time."""
    generator = np.random.Generator(np.random.PCG64(len(what)))
    size = len(fitted.covariance)
    root = np.linalg.cholesky(fitted.covariance + 1e-12 * np.eye(size)) if size else np.zeros((0, 0))
    half = generator.standard_normal((DRAWS // 2, size)) @ root.T
    moved = np.vstack([half, -half]) * DRAW_SPREAD  # antithetic: their mean is exactly the estimate
    parts, at = [np.zeros((DRAWS, 0))], 0
    for block in fitted.blocks:
        wide = block.basis.shape[1]
        if names is None or (block.item.table == "accounts" and block.item.name in names):
            parts.append(np.hstack([moved[:, at : at + wide] @ block.basis.T, np.zeros((DRAWS, 1))]))
        at += wide
    return np.hstack(parts)


def _margin(won: pd.DataFrame) -> tuple[float, str]:
    """Gross margin of won opportunities by value, and what the expected value then rests on."""
    known = won["margin_rate"].notna()
    if not known.any():
        return 1.0, "amount"
    return float(np.average(won.loc[known, "margin_rate"], weights=won.loc[known, "acv"])), "margin"


def _smearing(residual: np.ndarray, unsure: np.ndarray) -> float:
    """From the mean log back to the mean: exp(half the variance within a segment).

    Taken from the middle of the residuals, so that one huge deal cannot raise every account's value (normal theory; Duan's
    smearing would take it at its word).
    """
    low, high = np.quantile(residual, [0.05, 0.95])
    spread = ((high - low) / (2 * 1.6448536)) ** 2
    return float(np.exp(max(spread - unsure.mean(), 0.0) / 2))


def _years_kept(training: Training, subscriptions: pd.DataFrame, settings: Settings) -> tuple[dict[str, float], bool]:
    """Discounted years a new customer stays within [economics] months, per segment; "" is the whole market."""
    economics = settings.economics
    months = np.arange(1, economics.months + 1)
    discount = (1 + economics.discount_rate) ** (-months / 12) / 12
    whole = {"": round(float(discount.sum()), 5)}
    if len(subscriptions) == 0:
        return whole, False
    running = subscriptions["ended_at"].isna().groupby(subscriptions["account_id"]).any()
    life = subscriptions.groupby("account_id").agg(start=("started_at", "min"), end=("ended_at", "max"))
    life = life.assign(open=running)
    life = life.join(training.accounts.set_index("account_id")["segment_id"], how="inner")
    if len(life) < MIN_KEPT:
        return whole, False
    ended = life["end"].where(~life["open"].astype("bool"))
    lasted = ((ended.fillna(training.as_of) - life["start"]).dt.days / 30.4375).to_numpy().clip(min=0)
    churned, risk = _life_table(lasted, ended.notna().to_numpy(), economics.months)
    curve = retention_curve(churned, risk, economics.months).kept
    keep = {"": round(float((curve[:-1] * discount).sum()), 5)}
    hazard = churned.sum() / max(risk.sum(), 1)
    for segment, part in life.groupby("segment_id"):
        rows = life.index.get_indexer(part.index)
        lost, seen = _life_table(lasted[rows], ended.notna().to_numpy()[rows], economics.months)
        ratio = (lost.sum() + PRIOR_KEPT * hazard) / (seen.sum() + PRIOR_KEPT) / max(hazard, 1e-12)
        # Proportional hazards around the market's curve: one number per segment is all that a few churns can tell.
        keep[str(segment)] = round(float((curve[:-1] ** ratio * discount).sum()), 5)
    return keep, True


def _life_table(lasted: np.ndarray, ended: np.ndarray, months: int) -> tuple[np.ndarray, np.ndarray]:
    """Churned and at risk in month 1, 2, ... of a customer's life."""
    month = np.floor(lasted).astype(int)
    lost = np.bincount(month[ended & (month < months)], minlength=months)[:months]
    full = np.bincount(np.minimum(month, months), minlength=months + 1)
    through = full[::-1].cumsum()[::-1][1:]  # lived through the month
    return lost, through + lost


def _slope(x: np.ndarray, offset: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """Logistic slope on x with an offset, by Newton."""
    beta = np.array([0.0, 1.0])
    design = np.column_stack([np.ones_like(x), x])
    for _ in range(30):
        mean = _expit(design @ beta + offset)
        information = (design * (w * mean * (1 - mean))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(information, design.T @ (w * (y - mean)) - 1e-6 * (beta - [0, 1]))
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return float(beta[1])


def _level(linear: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """Intercept at which mean predicted equals mean observed."""
    level = 0.0
    for _ in range(50):
        mean = _expit(level + linear)
        step = (w * (y - mean)).sum() / max((w * mean * (1 - mean)).sum(), 1e-9)
        level += float(np.clip(step, -2, 2))
        if abs(step) < 1e-10:
            break
    return level


def _expit(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def _logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))
