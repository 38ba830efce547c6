"""Reads a 0/1 outcome and design columns, makes logistic effects: hundreds of candidate columns at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from icplab.core.errors import ContractBroken
from icplab.core.stats.blocks import BLOCK_CELLS, correction, expit, gram, invert, sum_by_cluster
from icplab.core.stats.newton import Block, Flags, Floats, Task, fit_block, newton, score_alone, score_block

# A candidate whose arm is all won or all lost has no finite estimate; it gets the weakly informative prior N(0, 2.5²) on
# its log odds ratio (Gelman et al. 2008, Annals of Applied Statistics 2(4), recommend this scale) and is flagged.
SEPARATION_RIDGE = 1 / 2.5**2
LARGEST_SHARE = 0.95  # of one cluster in an estimate; beyond it nothing is left to compare it with
CACHE_CELLS = 128_000  # rows times candidates worked on at once: what stays near the processor


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
    outcome: ArrayLike,
    design: ArrayLike,
    *,
    ridge: ArrayLike = 0.0,
    clusters: ArrayLike | None = None,
    start: ArrayLike | None = None,
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
    start
        Coefficients to start from. Default: zeros.

    Returns
    -------
    LogisticFit
        `separated` says that a fitted probability reached 0 or 1 within 1e-8, where estimates run away without ridge.

    Raises
    ------
    ContractBroken
        When shapes differ or the outcome holds something else than 0 and 1.
    """
    y, z, penalty = _checked(outcome, design, ridge)
    theta, converged = newton(y, z, penalty, start)
    mu = expit(z @ theta)
    model = invert(gram(z, mu * (1 - mu)) + np.diag(penalty))
    robust = model
    if clusters is not None:
        sums = cluster_sums((y - mu)[:, None] * z, clusters, z.shape[1])
        robust = model @ (sums.T @ sums) @ model
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
        One row per candidate, in their order: `estimate` (log odds ratio), `se_model`, `se_cluster` (CR1; NaN without
        clusters), `se_jackknife` (see `jackknife`), `se` (the larger of the model-based and that), `p_value` (two-sided; the
        larger of the model-based normal and the clustered t test with `df` degrees of freedom; the score test for separated
        ones), `df`, `separated`, `converged`.

    Raises
    ------
    ContractBroken
        When shapes differ or the outcome holds something else than 0 and 1.

    Notes
    -----
    The larger of two standard errors is used because a cluster-robust variance is optimistic when few clusters hold the
    wins (Cameron and Miller 2015, Journal of Human Resources 50(2), section VI).
    """
    shared: dict = {"missing": missing, "ridge": ridge, "clusters": clusters, "twin": twin}
    return _fit(outcome, candidates, nuisance, **shared, exact=True, start=None, influence=clusters is not None)[0]


def fit_with_influence(
    outcome: ArrayLike,
    candidates: ArrayLike,
    nuisance: ArrayLike,
    *,
    missing: ArrayLike | None = None,
    ridge: ArrayLike = 0.0,
    clusters: ArrayLike | None = None,
    twin: ArrayLike | None = None,
    exact: bool = True,
    start: ArrayLike | None = None,
) -> tuple[pd.DataFrame, Floats]:
    """`fit_candidates`, and the influence of each cluster on each estimate (clusters in order of appearance x candidates).

    The sum of squares of a column is the cluster-robust variance; differences of two columns (crude and adjusted, say) give
    the variance of a difference of estimates made from the same rows. Without clusters every row is one.

    With `exact=False` the estimates are the same within 1e-6, and standard errors take the nuisance block of the null model
    (off by less than one per cent unless an effect is huge), which costs a fraction when nuisance columns are many. `start`
    are nuisance coefficients to start from.
    """
    shared: dict = {"missing": missing, "ridge": ridge, "clusters": clusters, "twin": twin}
    return _fit(outcome, candidates, nuisance, **shared, exact=exact, start=start, influence=True)


def _fit(
    outcome: ArrayLike,
    candidates: ArrayLike,
    nuisance: ArrayLike,
    *,
    missing: ArrayLike | None,
    ridge: ArrayLike,
    clusters: ArrayLike | None,
    twin: ArrayLike | None,
    exact: bool,
    start: ArrayLike | None,
    influence: bool,
) -> tuple[pd.DataFrame, Floats]:
    """Fits and influences of clusters; a single row of zeros where no influence is asked for."""
    y, z, penalty = _checked(outcome, nuisance, ridge)
    own = _own_columns(candidates, missing, len(y))
    codes = np.arange(len(y)) if clusters is None else _codes(clusters)
    null, _ = newton(y, z, penalty, start)
    task = Task(y, z, penalty, codes, clustered=clusters is not None, exact=exact, influence=influence, null=null)
    twins = np.full(own.shape[2], -1) if twin is None else np.asarray(twin, dtype=np.intp)
    whole = Block(own, np.zeros(own.shape[::2]), twins)
    whole.ridge[0, _separated(y, own[0])] = SEPARATION_RIDGE
    fits, sums = _fit_all(task, whole)
    lost = np.flatnonzero(~fits["converged"] & ~fits["separated"])
    if len(lost):  # ran away without being separated arm by arm: the same prior settles it
        whole.ridge[0, lost] = SEPARATION_RIDGE
        again, sums[:, lost] = _fit_all(task, whole.part(lost))
        fits.loc[lost] = again.set_index(lost)
    return _with_score_p(fits, task, whole), sums


def score_candidates(
    outcome: ArrayLike,
    candidates: ArrayLike,
    nuisance: ArrayLike,
    *,
    missing: ArrayLike | None = None,
    ridge: ArrayLike = 0.0,
    clusters: ArrayLike | None = None,
    start: ArrayLike | None = None,
) -> pd.DataFrame:
    """Score (Rao) test of each candidate from one nuisance-only fit: a screen that never iterates per candidate.

    Takes the arguments of `fit_candidates`. Returns one row per candidate: `one_step` (log odds ratio after one Newton
    step from the null model, an approximation: report the estimate of `fit_candidates`), `z_score`, `z_cluster`,
    `p_value` (the larger of both tests).
    """
    y, z, penalty = _checked(outcome, nuisance, ridge)
    codes = None if clusters is None else _codes(clusters)
    test = score_block(y, z, _own_columns(candidates, missing, len(y)), penalty, codes, start)
    freedom = 1.0 if codes is None else float(max(codes.max(initial=1), 1))
    test["p_value"] = _score_p(test["z_score"].to_numpy(), test["z_cluster"].to_numpy(), freedom)
    return test


def ratio_table(fits: pd.DataFrame, *, fdr: float = 0.10) -> pd.DataFrame:
    """Fits as ratios: odds_ratio with its 95 % interval, p_value, q_value over these rows, and associated (q at most `fdr`)."""
    from scipy import special

    from icplab.core.stats.multiplicity import benjamini_hochberg

    width = special.stdtrit(fits["df"], 0.975) * fits["se"]
    ends = (("odds_ratio", 0), ("low", -1), ("high", 1))
    ratios = {name: np.exp((fits["estimate"] + side * width).clip(-20, 20)) for name, side in ends}
    q_value = benjamini_hochberg(fits["p_value"])
    return pd.DataFrame({**ratios, "p_value": fits["p_value"], "q_value": q_value, "associated": q_value <= fdr})


def cluster_sums(rows: ArrayLike, clusters: ArrayLike, parameters: int) -> Floats:
    """Influences of rows summed by cluster, scaled so that their sums of squares are cluster-robust variances."""
    codes = _codes(clusters)
    sums = sum_by_cluster(np.asarray(rows, dtype=float), codes)
    return sums * np.sqrt(correction(len(sums), len(codes), parameters))


def _checked(outcome: ArrayLike, design: ArrayLike, ridge: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Outcome, design and ridge per column as float arrays."""
    y, z = np.asarray(outcome, dtype=float), np.asarray(design, dtype=float)
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise ContractBroken(f"outcome of shape {y.shape} does not match a design of shape {z.shape}")
    if not ((y == 0) | (y == 1)).all():
        raise ContractBroken("outcome holds something else than 0 and 1")
    return y, z, np.broadcast_to(np.asarray(ridge, dtype=float), (z.shape[1],)).copy()


def _own_columns(candidates: ArrayLike, missing: ArrayLike | None, n: int) -> Floats:
    """Candidate columns, and below them their missing indicators where there are any: (1 or 2, rows, candidates)."""
    x = np.asarray(candidates, dtype=float)
    if x.ndim != 2 or x.shape[0] != n:
        raise ContractBroken(f"candidates of shape {x.shape} do not match {n} rows")
    m = None if missing is None else np.asarray(missing, dtype=float)
    if m is not None and m.shape != x.shape:
        raise ContractBroken(f"missing of shape {m.shape} does not match candidates of shape {x.shape}")
    return x[None] if m is None or not m.any() else np.stack([x, m])


def _codes(clusters: ArrayLike) -> NDArray[np.intp]:
    return pd.factorize(np.asarray(clusters), sort=False)[0]


def _separated(y: Floats, x: Floats) -> Flags:
    """Candidates one arm of which holds no win or no loss."""
    flags = (x * x == x).all(axis=0)
    wins, rows = y @ x, x.sum(axis=0)  # counts, where the candidate is a flag
    inside = (wins == 0) | (wins == rows)
    outside = (y.sum() - wins == 0) | (y.sum() - wins == len(y) - rows)
    return flags & (rows > 0) & (rows < len(y)) & (inside | outside)


def _fit_all(task: Task, whole: Block) -> tuple[pd.DataFrame, Floats]:
    """All candidates, block by block, as many as fit into memory together."""
    parts = [fit_block(task, part) for part in _parts(task, whole)]
    if not parts:
        nothing = np.zeros((task.codes.max(initial=-1) + 1, 0))
        parts = [(np.zeros(0), np.zeros(0), nothing, nothing, np.zeros(0, bool))]
    beta, variance, sums, shares, converged = (np.concatenate(p, axis=-1) for p in zip(*parts, strict=True))
    return _table(task, beta, variance, sums, shares, whole.ridge[0] > 0, converged), sums


def _parts(task: Task, whole: Block) -> list[Block]:
    """As many candidates together as fit into memory."""
    m = whole.own.shape[2]
    size = max(1, min(256, 8 * BLOCK_CELLS // max(task.parameters**2, 1), max(CACHE_CELLS // len(task.y), 32)))
    return [whole.part(slice(s, s + size)) for s in range(0, m, size)]


def jackknife(sums: Floats, shares: Floats) -> tuple[Floats, Floats]:
    """Standard errors and degrees of freedom that a few large clusters cannot flatter.

    Parameters
    ----------
    sums, shares
        Clusters by candidates: influence on the estimate, and share in what is known of it (shares of a candidate sum to 1).

    Returns
    -------
    tuple
        The cluster-robust error had each cluster been left out in turn (an influence grows by 1/(1 - share), because the
        estimate bends to the cluster), and how many clusters the estimate rests on, less one: 1/Σ share², the number that
        equal clusters would have.

    Notes
    -----
    Bell and McCaffrey 2002, Survey Methodology 28(2), for the correction; Carter, Schnepel and Steigerwald 2017, Review of
    Economics and Statistics 99(4), for the effective number of clusters. One direction only: that of the candidate.
    """
    error = np.sqrt(((sums / (1 - np.minimum(shares, LARGEST_SHARE))) ** 2).sum(axis=0))
    effective = 1 / np.maximum((shares**2).sum(axis=0), 1e-12)
    return error, np.clip(effective - 1, 1.0, max(len(sums) - 1, 1))


def _table(
    task: Task, beta: Floats, variance: Floats, sums: Floats, shares: Floats, separated: Flags, converged: Flags
) -> pd.DataFrame:
    """Estimates with their standard errors; NaN where a candidate does not vary beyond its nuisance."""
    from scipy import special

    se_model = np.sqrt(np.where(variance > 0, variance, np.nan))
    se_cluster, se_jackknife, df = (np.full(len(se_model), v) for v in (np.nan, np.nan, np.inf))
    p_value = 2 * special.ndtr(-np.abs(beta) / se_model)
    if task.clustered:
        se_cluster = np.where(np.isnan(se_model), np.nan, np.sqrt((sums**2).sum(axis=0)))
        se_jackknife, df = jackknife(sums, shares)
        se_jackknife = np.where(np.isnan(se_model), np.nan, se_jackknife)
        p_value = np.fmax(p_value, 2 * special.stdtr(df, -np.abs(beta) / np.maximum(se_jackknife, 1e-300)))
    return pd.DataFrame(
        {
            "estimate": np.where(np.isnan(se_model), np.nan, beta),
            "se_model": se_model,
            "se_cluster": se_cluster,
            "se_jackknife": se_jackknife,
            "se": np.fmax(se_model, se_jackknife),
            "p_value": p_value,
            "df": df,
            "separated": separated,
            "converged": converged,
        }
    )


def _with_score_p(fits: pd.DataFrame, task: Task, whole: Block) -> pd.DataFrame:
    """Separated candidates tested by score: a Wald test means nothing where the estimate rests on a prior."""
    separated = np.flatnonzero(fits["separated"].to_numpy(dtype=bool))
    if len(separated):
        tests = [score_alone(task, part) for part in _parts(task, whole.part(separated))]
        z_score, z_cluster = (np.concatenate(t) for t in zip(*tests, strict=True))
        fits.loc[separated, "p_value"] = _score_p(z_score, z_cluster, float(max(task.codes.max(initial=1), 1)))
    return fits


def _score_p(z_score: Floats, z_cluster: Floats, freedom: float) -> Floats:
    """Two-sided p-values of score tests; the larger of the model-based and the clustered one."""
    from scipy import special

    p_value = 2 * special.ndtr(-np.abs(z_score))
    return np.fmax(p_value, 2 * special.stdtr(freedom, -np.abs(z_cluster)))
