"""Reads design blocks and outcomes, makes a small regularised model: which traits enter, and with what effect."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.core.stats.multiplicity import benjamini_hochberg
from icplab.scores.training import Block

MAX_INPUTS = 12  # lines of a card that a person can still read; with the forced ones
SCREEN_FDR = 0.20  # for prediction a doubtful trait is worth more than for a claim (claims: the traits step, 10 %)
KEEP_P = 0.10  # a trait that adds nothing given the other selected ones is dropped again
LEVEL_P = 0.10  # levels of a category that enter when one level carries it
BEND_P = 0.01  # a number keeps its bend only with evidence
PRIOR_SD, PRIOR_WEIGHT = 0.3, 2.0  # prior of the spread of effects within a block: worth two effects of 0.3 log odds
SPREAD_STEPS, NEWTON_STEPS = 12, 25
CLIP_LOGIT = 12.0


@dataclass(frozen=True)
class Ridge:
    """A regression whose effects are shrunk by block. `offset_of` a row is design @ coefficients."""

    coefficients: np.ndarray
    covariance: np.ndarray
    fitted: np.ndarray  # mean per row
    scale: float  # residual variance (1 for a binomial outcome)


@dataclass(frozen=True)
class Fitted:
    """The chosen inputs with their effects.

    Attributes
    ----------
    blocks : inputs, forced ones first
    effects : per block one coefficient per column
    covariance : of all those coefficients, in that order
    intercept : at the mean of everything else
    nuisance : per row, what source, owner and quarter add
    linear : per row, intercept + inputs + nuisance
    screen : one row per candidate: name, p_value, q_value, z, entered
    """

    blocks: tuple[Block, ...]
    effects: tuple[np.ndarray, ...]
    covariance: np.ndarray
    intercept: float
    nuisance: np.ndarray
    linear: np.ndarray
    screen: pd.DataFrame


def fit_inputs(
    outcome: np.ndarray,
    weight: np.ndarray,
    forced: Sequence[Block],
    candidates: Sequence[Block],
    nuisance: Sequence[np.ndarray],
    clusters: np.ndarray,
    *,
    family: str = "binomial",
    max_inputs: int = MAX_INPUTS,
) -> Fitted:
    """Select traits by an adjusted test, then fit the few together.

    Parameters
    ----------
    outcome : 0/1 (or a number, family gaussian) per row
    weight : weight per row; rows with weight 0 are not looked at
    forced, candidates : inputs that are always in, and those that must show themselves
    nuisance : design columns that are adjusted for, shrunk block by block
    clusters : account family per row; the test takes the larger of the model's and the families' variance
    family : binomial or gaussian
    max_inputs : cap on forced and selected inputs together

    Returns
    -------
    Fitted

    Notes
    -----
    Selection by the adjusted score test with Benjamini-Hochberg at SCREEN_FDR, then one ridge fit with a variance per block
    estimated from the data (empirical Bayes, MacKay's fixed point). Selecting first and fitting few inputs beats the lasso
    where effects are few and confounded with the segment (method.md §5).
    """
    rows = np.flatnonzero(weight > 0)
    # Weighted rows carry less information than their sum: scale to the effective number.
    w = weight[rows] * (weight[rows].sum() / max((weight[rows] ** 2).sum(), 1e-12))
    y, codes = outcome[rows], pd.factorize(clusters[rows], sort=True)[0]
    base = _fit_blocks(y, w, [b.matrix(rows) for b in forced], [z[rows] for z in nuisance], family)
    screen = _screen(y, w, codes, candidates, rows, base, family)
    chosen = _choose(screen, candidates, max_inputs)
    fit = _fit_blocks(y, w, [b.matrix(rows) for b in (*forced, *chosen)], [z[rows] for z in nuisance], family)
    chosen = _still_needed(fit, forced, chosen)
    fit = _fit_blocks(y, w, [b.matrix(rows) for b in (*forced, *chosen)], [z[rows] for z in nuisance], family)
    kept = _strongest(fit, (*forced, *chosen), max_inputs)
    chosen = [b for b in chosen if b in kept]
    # A forced input that is worth too little for a line of the card is still adjusted for.
    aside = [b for b in forced if b not in kept]
    everything, nuisance = tuple(kept), [*nuisance, *(b.matrix() for b in aside)]
    fit = _fit_blocks(y, w, [b.matrix(rows) for b in everything], [z[rows] for z in nuisance], family)
    entered = {b.item.name for b in chosen}
    return _unpack(fit.ridge, everything, nuisance, len(outcome), screen.assign(entered=screen["name"].isin(entered)))


@dataclass(frozen=True, eq=False)
class _Design:
    matrix: np.ndarray
    widths: tuple[int, ...]
    ridge: Ridge
    penalty: np.ndarray


def _fit_blocks(
    y: np.ndarray, w: np.ndarray, inputs: list[np.ndarray], nuisance: list[np.ndarray], family: str
) -> _Design:
    widths = tuple(m.shape[1] for m in (*inputs, *nuisance))
    matrix = np.hstack([np.ones((len(y), 1)), *inputs, *nuisance])
    groups = np.repeat(np.arange(len(widths)), widths)
    ridge, penalty = fit_ridge(y, w, matrix, groups, family)
    return _Design(matrix, widths, ridge, penalty)


def fit_ridge(
    y: np.ndarray, w: np.ndarray, matrix: np.ndarray, groups: np.ndarray, family: str = "binomial"
) -> tuple[Ridge, np.ndarray]:
    """Weighted ridge regression with one variance per group of columns, estimated from the data.

    The first column is the intercept and is not shrunk. Returns the fit and the penalty per column.
    """
    k = int(groups.max(initial=-1)) + 1
    size = np.bincount(groups, minlength=k)
    variance = np.full(k, PRIOR_SD**2)
    beta = np.zeros(matrix.shape[1])
    mean = np.average(y, weights=w)
    beta[0] = (
        np.log(mean / (1 - mean)) if family == "binomial" and 0 < mean < 1 else (mean if family != "binomial" else 0.0)
    )
    scale = 1.0 if family == "binomial" else float(np.average((y - mean) ** 2, weights=w)) or 1.0
    for _ in range(SPREAD_STEPS):
        penalty = np.concatenate([[1e-9], 1 / variance[groups]])
        beta, covariance = _newton(y, w, matrix, penalty, beta, family, scale)
        square = np.bincount(groups, beta[1:] ** 2, minlength=k)
        known = size - np.bincount(groups, np.diag(covariance)[1:], minlength=k) / variance
        variance = (square + PRIOR_WEIGHT * PRIOR_SD**2) / (np.maximum(known, 0) + PRIOR_WEIGHT)
        if family != "binomial":
            rest = y - matrix @ beta
            scale = float((w * rest**2).sum() / max(w.sum() - known.sum() - 1, 1)) or 1e-9
    linear = matrix @ beta
    fitted = _expit(linear) if family == "binomial" else linear
    return Ridge(beta, covariance, fitted, scale), penalty


def _newton(
    y: np.ndarray, w: np.ndarray, x: np.ndarray, penalty: np.ndarray, beta: np.ndarray, family: str, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and their covariance under given penalties."""
    for _ in range(NEWTON_STEPS):
        mean = _expit(x @ beta) if family == "binomial" else x @ beta
        curve = w * mean * (1 - mean) if family == "binomial" else w / scale
        information = (x * curve[:, None]).T @ x + np.diag(penalty)
        slope = x.T @ (w * (y - mean) / scale) - penalty * beta
        step = np.linalg.solve(information, slope)
        beta = beta + step * min(1.0, 3.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return beta, np.linalg.inv(information)


def _screen(
    y: np.ndarray,
    w: np.ndarray,
    codes: np.ndarray,
    candidates: Sequence[Block],
    rows: np.ndarray,
    base: _Design,
    family: str,
) -> pd.DataFrame:
    """Score test of every candidate given the forced inputs and the nuisance; one row per candidate."""
    from scipy.stats import chi2, norm

    mean, z = base.ridge.fitted, base.matrix
    curve = w * mean * (1 - mean) if family == "binomial" else w / base.ridge.scale
    inner = np.linalg.inv((z * curve[:, None]).T @ z + np.diag(base.penalty))
    pull = w * (y - mean) / base.ridge.scale
    noise = w**2 * (mean * (1 - mean) if family == "binomial" else 1 / base.ridge.scale)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    table = []
    for block in candidates:
        x = block.matrix(rows)
        rest = x - z @ (inner @ (z.T @ (x * curve[:, None])))
        score = rest.T @ pull
        model = (rest * noise[:, None]).T @ rest
        by_family = np.add.reduceat((rest * pull[:, None])[order], starts, axis=0)
        # The larger variance per column: families make the model's too small, few wins make the families' too small.
        inflate = np.maximum((by_family**2).sum(axis=0) / np.maximum(np.diag(model), 1e-12), 1.0)
        model = model * np.sqrt(np.outer(inflate, inflate))
        spread = np.sqrt(np.maximum(np.diag(model), 1e-12))
        z_score = np.where(spread > 1e-5, score / spread, 0.0)
        joint = float(score @ np.linalg.pinv(model, hermitian=True) @ score)
        p_all = float(chi2.sf(joint, np.linalg.matrix_rank(model, hermitian=True) or 1))
        p_one = float(2 * norm.sf(np.abs(z_score).max()))
        wide = len(z_score) > 1
        single = p_one * (len(z_score) if block.item.kind == "category" else 1)
        trend = float(2 * norm.sf(abs(z_score[0])))
        best = min(p_all, trend if block.item.kind == "number" else single)
        table.append((block.item.name, min(1.0, 2 * best) if wide else p_one, p_all <= single, z_score))
    frame = pd.DataFrame(table, columns=["name", "p_value", "diffuse", "z"])
    return frame.assign(q_value=benjamini_hochberg(frame["p_value"].to_numpy("float64")))


def _choose(screen: pd.DataFrame, candidates: Sequence[Block], room: int) -> list[Block]:
    """Blocks that pass the screen, strongest first within the cap, with the columns that carry them."""
    from scipy.stats import norm

    passed = screen[screen["q_value"] <= SCREEN_FDR].sort_values(["p_value", "name"], kind="stable").head(max(room, 0))
    chosen = []
    for i in sorted(passed.index):
        block, z = candidates[i], np.asarray(screen["z"].iloc[i])
        p = 2 * norm.sf(np.abs(z))
        if block.item.kind == "number":
            columns = np.array([True, *(p[1:] < BEND_P)])
        elif screen.at[i, "diffuse"]:
            columns = np.ones(len(z), bool)
        else:
            columns = (p < LEVEL_P) | (p == p.min())
        chosen.append(block.only(columns))
    return chosen


def _still_needed(fit: _Design, forced: Sequence[Block], chosen: Sequence[Block]) -> list[Block]:
    """Chosen blocks that still show an effect next to each other (near-duplicates fall out here)."""
    from scipy.stats import chi2

    kept, at = [], 1 + sum(b.basis.shape[1] for b in forced)
    for block in chosen:
        part = slice(at, at + block.basis.shape[1])
        beta, cov = fit.ridge.coefficients[part], fit.ridge.covariance[part, part]
        if chi2.sf(float(beta @ np.linalg.solve(cov, beta)), len(beta)) <= KEEP_P:
            kept.append(block)
        at = part.stop
    return kept


def _strongest(fit: _Design, blocks: Sequence[Block], most: int) -> list[Block]:
    """The inputs that move the prediction most, in their order; inputs of opportunities do not count towards the cap."""
    ends = np.cumsum([1, *(b.basis.shape[1] for b in blocks)])
    parts = [fit.matrix[:, a:b] @ fit.ridge.coefficients[a:b] for a, b in itertools.pairwise(ends)]
    spread = np.array(
        [part.std() if b.item.table == "accounts" else np.inf for part, b in zip(parts, blocks, strict=True)]
    )
    room = most + int(np.isinf(spread).sum())
    best = np.sort(np.argsort(-spread, kind="stable")[:room])
    return [blocks[i] for i in best]


def _unpack(
    ridge: Ridge, blocks: tuple[Block, ...], nuisance: Sequence[np.ndarray], n: int, screen: pd.DataFrame
) -> Fitted:
    """Effects by block, and linear predictors for all rows, also those whose outcome is not known yet."""
    beta = ridge.coefficients
    ends = np.cumsum([1, *(b.basis.shape[1] for b in blocks)])
    effects = tuple(beta[a:b] for a, b in itertools.pairwise(ends))
    other = np.hstack([np.zeros((n, 0)), *nuisance]) @ beta[ends[-1] :]
    linear = beta[0] + other + sum((b.matrix() @ e for b, e in zip(blocks, effects, strict=True)), np.zeros(n))
    inputs = slice(1, ends[-1])
    return Fitted(blocks, effects, ridge.covariance[inputs, inputs], float(beta[0]), other, linear, screen)


def _expit(linear: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(linear, -CLIP_LOGIT, CLIP_LOGIT)))
