"""Reads a 0/1 outcome and design columns, makes logistic effects: hundreds of candidate columns at once.

All candidates share the same nuisance columns, so each needs only its own border of the information matrix. Iterations keep
the nuisance block of the null model (a chord step); one exact Newton step at the end makes estimate and variance exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from icplab.core.errors import ContractBroken

Floats = NDArray[np.floating]

MAX_STEPS = 40
TOLERANCE = 1e-9  # largest change of a coefficient at which a fit has converged
# A candidate whose arm is all won or all lost has no finite estimate; it gets the weakly informative prior N(0, 2.5²) on
# its log odds ratio (Gelman et al. 2008, Annals of Applied Statistics 2(4), recommend this scale) and is flagged.
SEPARATION_RIDGE = 1 / 2.5**2
CLOSE = 1e-6  # size of a full Newton step that leaves an error of its square
MAX_CHORDS, CHORD_CLOSE = 15, 1e-5
LARGEST_STEP = 2.0  # in log odds: keeps early steps of strong effects from overshooting
BLOCK_CELLS = 2_000_000  # cells of the pairwise design products held at once (16 MB)


@dataclass(frozen=True)
class LogisticFit:
    """A fitted logistic regression. `covariance` is the cluster-robust one when clusters were given."""

    coefficients: Floats
    covariance: Floats
    model_covariance: Floats
    probabilities: Floats
    log_likelihood: float
    converged: bool
    separated: bool


def fit_logistic(
    outcome: ArrayLike, design: ArrayLike, *, ridge: ArrayLike = 0.0, clusters: ArrayLike | None = None
) -> LogisticFit:
    """Maximum-likelihood (or ridge) logistic regression by Newton's method with step halving.

    Parameters
    ----------
    outcome
        0 or 1 per row.
    design
        Rows by columns, with its own intercept column.
    ridge
        Penalty on each squared coefficient (half of it enters the objective); a number or one per column. A ridge of
        1/s² is a normal prior with standard deviation s.
    clusters
        Label per row; rows of the same label may depend on each other. Default: rows are independent.

    Returns
    -------
    LogisticFit
        `separated` says that a fitted probability reached 0 or 1 within 1e-8, where estimates run away without ridge.

    Raises
    ------
    ContractBroken
        When shapes differ or the outcome holds something else than 0 and 1.
    """
    y, z = _checked(outcome, design)
    penalty = np.broadcast_to(np.asarray(ridge, dtype=float), (z.shape[1],)).copy()
    theta, converged = _newton(y, z, penalty)
    mu = _expit(z @ theta)
    weight = mu * (1 - mu)
    information = (z * weight[:, None]).T @ z + np.diag(penalty)
    model = np.linalg.pinv(information, hermitian=True)
    robust = model
    if clusters is not None:
        sums = _cluster_sums((y - mu)[:, None] * z, _codes(clusters))
        robust = model @ (sums.T @ sums) @ model * _correction(len(sums), len(y), z.shape[1])
    likelihood = float(np.sum(y * (z @ theta) - np.logaddexp(0, z @ theta)))
    separated = bool(mu.min() < 1e-8 or mu.max() > 1 - 1e-8)
    return LogisticFit(theta, robust, model, mu, likelihood, converged, separated)


def fit_candidates(
    outcome: ArrayLike,
    candidates: ArrayLike,
    nuisance: ArrayLike,
    *,
    missing: ArrayLike | None = None,
    ridge: ArrayLike = 0.0,
    clusters: ArrayLike | None = None,
    twin: ArrayLike | None = None,
) -> pd.DataFrame:
    """Log odds ratio of each candidate column, one logistic regression per candidate with the same nuisance columns.

    Parameters
    ----------
    outcome
        0 or 1 per row.
    candidates
        Rows by candidates; where a value is unknown hold 0 and say so in `missing`.
    nuisance
        Rows by shared columns, with the intercept.
    missing
        Rows by candidates, 1 where the value is unknown: enters as an indicator of its own, so that no row is dropped.
    ridge
        Penalty on the nuisance coefficients, a number or one per column. Candidates are never penalised, except
        separated ones.
    clusters
        Label per row (account family); adds a cluster-robust standard error.
    twin
        Per candidate the position of the nuisance column that repeats it and has to leave its regression; -1 for none.

    Returns
    -------
    DataFrame
        One row per candidate, in their order: `estimate` (log odds ratio), `se_model`, `se_cluster` (NaN without
        clusters), `se` (the larger), `p_value` (two-sided; the larger of the model-based normal and the clustered t test
        with clusters - 1 degrees of freedom; the score test for separated ones), `df`, `separated`, `converged`.

    Raises
    ------
    ContractBroken
        When shapes differ or the outcome holds something else than 0 and 1.

    Notes
    -----
    The larger of two standard errors is used because a cluster-robust variance is optimistic when few clusters hold the
    wins (Cameron and Miller 2015, Journal of Human Resources 50(2), section VI).
    """
    return fit_with_influence(
        outcome, candidates, nuisance, missing=missing, ridge=ridge, clusters=clusters, twin=twin
    )[0]


def fit_with_influence(
    outcome: ArrayLike,
    candidates: ArrayLike,
    nuisance: ArrayLike,
    *,
    missing: ArrayLike | None = None,
    ridge: ArrayLike = 0.0,
    clusters: ArrayLike | None = None,
    twin: ArrayLike | None = None,
) -> tuple[pd.DataFrame, Floats]:
    """`fit_candidates`, and the influence of each cluster on each estimate (clusters in order of appearance x candidates).

    The sum of squares of a column is the cluster-robust variance; differences of two columns (crude and adjusted, say) give
    the variance of a difference of estimates made from the same rows. Without clusters every row is one.
    """
    y, z = _checked(outcome, nuisance)
    own = _own_columns(candidates, missing, len(y))
    task = _Task(
        y=y,
        z=z,
        penalty=np.broadcast_to(np.asarray(ridge, dtype=float), (z.shape[1],)).copy(),
        codes=np.arange(len(y)) if clusters is None else _codes(clusters),
        clustered=clusters is not None,
    )
    null, _ = _newton(y, z, task.penalty)
    twins = np.full(own.shape[2], -1) if twin is None else np.asarray(twin, dtype=np.intp)
    own_ridge = np.zeros(own.shape[::2])
    own_ridge[0, _separated(y, own[0])] = SEPARATION_RIDGE
    parts = [
        _fit_block(task, own[:, :, block], null, own_ridge[:, block], twins[block])
        for block in _blocks(own.shape[2], z.shape[1])
    ]
    if not parts:
        return _empty_fits(), np.zeros((task.codes.max(initial=-1) + 1, 0))
    fits = pd.concat([fit for fit, _ in parts], ignore_index=True)
    influence = np.concatenate([sums for _, sums in parts], axis=1)
    lost = fits.index[~fits["converged"] & ~fits["separated"]].to_numpy()
    if len(lost):  # ran away without being separated arm by arm: the same prior settles it
        own_ridge[0, lost] = SEPARATION_RIDGE
        again, sums = _fit_block(task, own[:, :, lost], null, own_ridge[:, lost], twins[lost])
        fits.loc[lost] = again.set_index(lost)
        influence[:, lost] = sums
    return _with_score_p(fits, task, own, twins), influence


def score_candidates(
    outcome: ArrayLike,
    candidates: ArrayLike,
    nuisance: ArrayLike,
    *,
    missing: ArrayLike | None = None,
    ridge: ArrayLike = 0.0,
    clusters: ArrayLike | None = None,
) -> pd.DataFrame:
    """Score (Rao) test of each candidate from one nuisance-only fit: a screen that never iterates per candidate.

    Takes the arguments of `fit_candidates`. Returns one row per candidate: `one_step` (log odds ratio after one Newton
    step from the null model, an approximation: report the estimate of `fit_candidates`), `z_score`, `z_cluster`,
    `p_value` (the larger of both tests).
    """
    y, z = _checked(outcome, nuisance)
    own = _own_columns(candidates, missing, len(y))
    penalty = np.broadcast_to(np.asarray(ridge, dtype=float), (z.shape[1],)).copy()
    return _score(y, z, own, penalty, None if clusters is None else _codes(clusters))


def cluster_sums(rows: ArrayLike, clusters: ArrayLike, parameters: int) -> Floats:
    """Influences of rows summed by cluster, scaled so that their sums of squares are cluster-robust variances."""
    codes = _codes(clusters)
    sums = _cluster_sums(np.asarray(rows, dtype=float), codes)
    return sums * np.sqrt(_correction(len(sums), len(codes), parameters))


@dataclass(frozen=True)
class _Task:
    """What all candidates share."""

    y: Floats
    z: Floats
    penalty: Floats
    codes: NDArray[np.intp]
    clustered: bool


def _checked(outcome: ArrayLike, design: ArrayLike) -> tuple[Floats, Floats]:
    """Outcome and design as float arrays."""
    y, z = np.asarray(outcome, dtype=float), np.asarray(design, dtype=float)
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise ContractBroken(f"outcome of shape {y.shape} does not match a design of shape {z.shape}")
    if not np.isin(y, (0.0, 1.0)).all():
        raise ContractBroken("outcome holds something else than 0 and 1")
    return y, z


def _own_columns(candidates: ArrayLike, missing: ArrayLike | None, n: int) -> Floats:
    """Candidate columns, and below them their missing indicators where there are any: (1 or 2, rows, candidates)."""
    x = np.asarray(candidates, dtype=float)
    if x.ndim != 2 or x.shape[0] != n:
        raise ContractBroken(f"candidates of shape {x.shape} do not match {n} rows")
    m = None if missing is None else np.asarray(missing, dtype=float)
    if m is not None and m.shape != x.shape:
        raise ContractBroken(f"missing of shape {m.shape} does not match candidates of shape {x.shape}")
    return x[None] if m is None or not m.any() else np.stack([x, m])


def _newton(y: Floats, z: Floats, penalty: Floats) -> tuple[Floats, bool]:
    """Coefficients of one penalised logistic regression."""
    theta = np.zeros(z.shape[1])
    loss = _loss(y, z @ theta, theta, penalty)
    for _ in range(MAX_STEPS):
        mu = _expit(z @ theta)
        gradient = z.T @ (y - mu) - penalty * theta
        information = (z * (mu * (1 - mu))[:, None]).T @ z + np.diag(penalty)
        step = _solve(information, gradient)
        for _ in range(10):
            candidate = _loss(y, z @ (theta + step), theta + step, penalty)
            if candidate <= loss + 1e-10:
                break
            step = step / 2
        theta, loss = theta + step, candidate
        if np.abs(step).max(initial=0.0) < TOLERANCE:
            return theta, True
    return theta, False


def _loss(y: Floats, eta: Floats, theta: Floats, penalty: Floats) -> float:
    return float(np.sum(np.logaddexp(0, eta) - y * eta) + 0.5 * np.sum(penalty * theta**2))


def _solve(matrix: Floats, right: Floats) -> Floats:
    """Solution; the smallest one where columns repeat each other."""
    try:
        solution = np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(matrix, hermitian=True) @ right
    return solution if np.isfinite(solution).all() else np.linalg.pinv(matrix, hermitian=True) @ right


def _expit(eta: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(eta, -500, 500)))


def _codes(clusters: ArrayLike) -> NDArray[np.intp]:
    return pd.factorize(np.asarray(clusters), sort=False)[0]


def _cluster_sums(rows: Floats, codes: NDArray[np.intp]) -> Floats:
    """Sums of rows by cluster."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return np.add.reduceat(rows[order], starts, axis=0)


def _correction(groups: int, n: int, parameters: int) -> float:
    """Finite-sample factor of the cluster-robust covariance (as statsmodels and Stata use it)."""
    if groups < 2:
        return np.nan
    return groups / (groups - 1) * (n - 1) / max(n - parameters, 1)


def _separated(y: Floats, x: Floats) -> NDArray[np.bool_]:
    """Candidates one arm of which holds no win or no loss."""
    has = x != 0
    wins, rows = y @ has, has.sum(axis=0)
    binary = ((x == 0) | (x == 1)).all(axis=0)
    inside = (wins == 0) | (wins == rows)
    outside = (y.sum() - wins == 0) | (y.sum() - wins == len(y) - rows)
    return binary & (inside | outside)


def _blocks(candidates: int, nuisances: int) -> list[slice]:
    """Slices of candidates whose information matrices fit into memory together."""
    size = max(1, min(256, BLOCK_CELLS * 8 // max(nuisances * nuisances, 1)))
    return [slice(start, start + size) for start in range(0, candidates, size)]


def _fit_block(
    task: _Task, own: Floats, null: Floats, own_ridge: Floats, twins: NDArray[np.intp]
) -> tuple[pd.DataFrame, Floats]:
    """Estimates and cluster influences of one block of candidates."""
    gamma, beta = _chord(task, own, null, own_ridge, twins)
    converged = np.zeros(own.shape[2], dtype=bool)
    for _ in range(MAX_STEPS):  # the chord leaves one exact step to do, rarely two
        todo = np.flatnonzero(~converged)
        step, _, _ = _exact_step(task, own[:, :, todo], gamma[:, todo], beta[:, todo], own_ridge[:, todo], twins[todo])
        gamma[:, todo] += step[0]
        beta[:, todo] += step[1]
        size = np.maximum(np.abs(step[1]).max(axis=0), np.abs(step[0]).max(axis=0, initial=0.0))
        converged[todo[size < CLOSE]] = True
        if converged.all():
            break
    _, variance, influence = _exact_step(task, own, gamma, beta, own_ridge, twins)
    sums = _cluster_sums(influence, task.codes) * np.sqrt(
        _correction(task.codes.max() + 1, len(task.y), task.z.shape[1] + len(own)) if task.clustered else 1.0
    )
    return _fits_table(task, beta[0], variance, sums, own_ridge[0] > 0, converged), sums


def _chord(task: _Task, own: Floats, null: Floats, own_ridge: Floats, twins: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Nuisance and own coefficients close to the optimum, with the nuisance block of the null model throughout."""
    y, z = task.y, task.z
    mu = _expit(z @ null)
    inverse = np.linalg.pinv((z * (mu * (1 - mu))[:, None]).T @ z + np.diag(task.penalty), hermitian=True)
    m = own.shape[2]
    gamma, beta = np.repeat(null[:, None], m, axis=1), np.zeros((own.shape[0], m))
    with_twin = np.flatnonzero(twins >= 0)
    gamma[twins[with_twin], with_twin] = 0
    active = np.arange(m)
    for _ in range(MAX_CHORDS):
        block, b, g = own[:, :, active], beta[:, active], gamma[:, active]
        mu = _expit(_linear_predictor(z, block, g, b))
        weight, residual = mu * (1 - mu), y[:, None] - mu
        gradient = z.T @ residual - task.penalty[:, None] * g
        cross = np.stack([z.T @ (weight * x) for x in block])  # (q, p, active)
        solved = np.stack([_without_twin(inverse, c, twins[active]) for c in cross])
        right = np.stack([(x * residual).sum(axis=0) for x in block]) - own_ridge[:, active] * b
        schur = _own_information(block, weight, own_ridge[:, active]) - np.einsum("qpm,rpm->mqr", cross, solved)
        step = _bounded(_solve_small(schur, right - np.einsum("qpm,pm->qm", solved, gradient)))
        step_gamma = _without_twin(inverse, gradient, twins[active]) - np.einsum("qpm,qm->pm", solved, step)
        gamma[:, active] += step_gamma
        beta[:, active] += step
        size = np.maximum(np.abs(step).max(axis=0), np.abs(step_gamma).max(axis=0, initial=0.0))
        active = active[(size > CHORD_CLOSE) & (size < 1e3)]
        if not len(active):
            break
    return gamma, beta


def _linear_predictor(z: Floats, own: Floats, gamma: Floats, beta: Floats) -> Floats:
    eta = z @ gamma
    for x, b in zip(own, beta, strict=True):
        eta += x * b
    return eta


def _without_twin(inverse: Floats, columns: Floats, twins: NDArray[np.intp]) -> Floats:
    """Inverse of the nuisance block times columns, the twin of each candidate taken out (a rank-one downdate)."""
    product = inverse @ columns
    has = np.flatnonzero(twins >= 0)
    t = twins[has]
    product[:, has] -= inverse[:, t] * (product[t, has] / inverse[t, t])
    return product


def _bounded(step: Floats) -> Floats:
    """Steps of at most LARGEST_STEP."""
    return step * np.minimum(1, LARGEST_STEP / np.maximum(np.abs(step).max(axis=0), 1e-300))


def _exact_step(
    task: _Task, own: Floats, gamma: Floats, beta: Floats, own_ridge: Floats, twins: NDArray[np.intp]
) -> tuple[tuple[Floats, Floats], Floats, Floats]:
    """Newton step with each candidate's own nuisance block, the variance of its coefficient, and row influences."""
    y, z = task.y, task.z
    mu = _expit(_linear_predictor(z, own, gamma, beta))
    weight, residual = mu * (1 - mu), y[:, None] - mu
    information = _weighted_products(z, weight) + np.diag(task.penalty)
    cross = np.stack([z.T @ (weight * x) for x in own])  # (q, p, m)
    gradient = z.T @ residual - task.penalty[:, None] * gamma
    has = np.flatnonzero(twins >= 0)
    t = twins[has]
    information[has, t, :], information[has, :, t], information[has, t, t] = 0, 0, 1
    cross[:, t, has], gradient[t, has] = 0, 0
    right = np.concatenate([cross.transpose(2, 1, 0), gradient.T[:, :, None]], axis=2)
    solved = _solve_many(information, right)  # (m, p, q + 1)
    by_own, by_gradient = solved[:, :, :-1], solved[:, :, -1]
    schur = _own_information(own, weight, own_ridge) - np.einsum("qpm,mpr->mqr", cross, by_own)
    reduced = np.stack([(x * residual).sum(axis=0) for x in own]) - own_ridge * beta
    step = _bounded(_solve_small(schur, reduced - np.einsum("qpm,mp->qm", cross, by_gradient)))
    step_gamma = by_gradient.T - np.einsum("mpq,qm->pm", by_own, step)
    inverse = _inverse_small(schur)
    influence = np.zeros_like(residual)
    for q, x in enumerate(own):  # the candidate less what the nuisance columns explain of it
        influence += inverse[:, 0, q] * (x - z @ by_own[:, :, q].T)
    return (step_gamma, step), inverse[:, 0, 0], influence * residual


def _weighted_products(z: Floats, weight: Floats) -> Floats:
    """Z' diag(w_j) Z for every column w_j, from the products of pairs of columns: (candidates, p, p)."""
    p = z.shape[1]
    left, right = np.triu_indices(p)
    flat = np.zeros((weight.shape[1], len(left)))
    size = max(1, BLOCK_CELLS // max(len(left), 1))
    for start in range(0, len(z), size):
        rows = z[start : start + size]
        flat += weight[start : start + size].T @ (rows[:, left] * rows[:, right])
    full = np.empty((weight.shape[1], p, p))
    full[:, left, right] = flat
    full[:, right, left] = flat
    return full


def _own_information(own: Floats, weight: Floats, own_ridge: Floats) -> Floats:
    """Information of the candidate's own columns: (candidates, q, q)."""
    q = len(own)
    information = np.empty((own.shape[2], q, q))
    for i in range(q):
        for j in range(i, q):
            information[:, i, j] = information[:, j, i] = (own[i] * weight * own[j]).sum(axis=0)
    index = np.arange(q)
    information[:, index, index] += own_ridge.T
    return information


def _solve_many(matrices: Floats, right: Floats) -> Floats:
    """Batched solution; falls back to the pseudo-inverse where columns repeat each other."""
    try:
        solution = np.linalg.solve(matrices, right)
        if np.isfinite(solution).all() and np.abs(solution).max(initial=0.0) < 1e8:
            return solution
    except np.linalg.LinAlgError:
        pass
    return np.linalg.pinv(matrices, hermitian=True) @ right


def _solve_small(schur: Floats, right: Floats) -> Floats:
    """Steps of the own coefficients; 0 where the column holds no information."""
    return np.einsum("mqr,rm->qm", _inverse_small(schur), right)


def _inverse_small(schur: Floats) -> Floats:
    """Inverses of (candidates, q, q); a column without information (constant, or all zero) gets a zero row."""
    return np.linalg.pinv(schur, rcond=1e-9, hermitian=True)


def _fits_table(
    task: _Task,
    beta: Floats,
    variance: Floats,
    sums: Floats,
    separated: NDArray[np.bool_],
    converged: NDArray[np.bool_],
) -> pd.DataFrame:
    """Estimates with both standard errors; NaN where a candidate does not vary beyond its nuisance."""
    from scipy import stats

    se_model = np.sqrt(np.where(variance > 0, variance, np.nan))
    se_cluster, df = np.full(len(se_model), np.nan), np.inf
    p_value = 2 * stats.norm.sf(np.abs(beta) / se_model)
    if task.clustered:
        se_cluster = np.where(np.isnan(se_model), np.nan, np.sqrt((sums**2).sum(axis=0)))
        df = max(len(sums) - 1, 1)
        p_value = np.fmax(p_value, 2 * stats.t.sf(np.abs(beta) / np.maximum(se_cluster, 1e-300), df))
    return pd.DataFrame(
        {
            "estimate": np.where(np.isnan(se_model), np.nan, beta),
            "se_model": se_model,
            "se_cluster": se_cluster,
            "se": np.fmax(se_model, se_cluster),
            "p_value": p_value,
            "df": float(df),
            "separated": separated,
            "converged": converged,
        }
    )


def _empty_fits() -> pd.DataFrame:
    numbers = dict.fromkeys(("estimate", "se_model", "se_cluster", "se", "p_value", "df"), "float64")
    return pd.DataFrame(columns=[*numbers, "separated", "converged"]).astype(
        {**numbers, "separated": "bool", "converged": "bool"}
    )


def _with_score_p(fits: pd.DataFrame, task: _Task, own: Floats, twins: NDArray[np.intp]) -> pd.DataFrame:
    """Separated candidates tested by score: a Wald test means nothing where the estimate rests on a prior."""
    separated = fits["separated"].to_numpy()
    for twin in np.unique(twins[separated]):
        rows = np.flatnonzero(separated & (twins == twin))
        keep = np.arange(task.z.shape[1]) != twin
        codes = task.codes if task.clustered else None
        test = _score(task.y, task.z[:, keep], own[:, :, rows], task.penalty[keep], codes)
        fits.loc[rows, "p_value"] = test["p_value"].to_numpy()
    return fits


def _score(y: Floats, z: Floats, own: Floats, penalty: Floats, codes: NDArray[np.intp] | None) -> pd.DataFrame:
    """Score tests at the null model."""
    from scipy import stats

    null, _ = _newton(y, z, penalty)
    mu = _expit(z @ null)
    weight, residual = mu * (1 - mu), y - mu
    inverse = np.linalg.pinv((z * weight[:, None]).T @ z + np.diag(penalty), hermitian=True)
    weighted = z * weight[:, None]
    cross = np.stack([weighted.T @ x for x in own])
    solved = np.einsum("ab,qbm->qam", inverse, cross)
    information = np.einsum("qnm,rnm->mqr", own * weight[:, None], own)
    schur = information - np.einsum("qpm,rpm->mqr", cross, solved)
    gradient = z.T @ residual - penalty * null
    reduced = np.einsum("qnm,n->qm", own, residual) - np.einsum("qpm,p->qm", solved, gradient)
    rows = np.arange(own.shape[2])
    # The missing indicator is nuisance too: test the candidate given it.
    helped = schur[:, 0, 1] / np.maximum(schur[:, 1, 1], 1e-300) if len(own) == 2 else np.zeros(len(rows))
    score = reduced[0] - (helped * reduced[1] if len(own) == 2 else 0)
    variance = schur[:, 0, 0] - (helped * schur[:, 1, 0] if len(own) == 2 else 0)
    variance = np.where(variance > 1e-9, variance, np.nan)
    z_score = score / np.sqrt(variance)
    p_value, z_cluster = 2 * stats.norm.sf(np.abs(z_score)), np.full(len(rows), np.nan)
    if codes is not None:
        rest = own[0] - z @ solved[0]
        rest = rest - (helped * (own[1] - z @ solved[1]) if len(own) == 2 else 0)
        sums = _cluster_sums(rest * residual[:, None], codes)
        spread = np.sqrt((sums**2).sum(axis=0) * _correction(len(sums), len(y), z.shape[1] + len(own)))
        z_cluster = score / np.where(spread > 1e-12, spread, np.nan)
        p_value = np.fmax(p_value, 2 * stats.t.sf(np.abs(z_cluster), max(len(sums) - 1, 1)))
    return pd.DataFrame({"one_step": score / variance, "z_score": z_score, "z_cluster": z_cluster, "p_value": p_value})
