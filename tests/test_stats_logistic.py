"""Logistic effects of many columns at once agree with statsmodels, one column at a time."""

from __future__ import annotations

import numpy as np
import pytest

from icplab.core.errors import ContractBroken
from icplab.core.stats.linear import fit_linear_candidates
from icplab.core.stats.logistic import fit_candidates, fit_logistic, fit_with_influence, score_candidates

ROWS, NUISANCES, CANDIDATES = 900, 5, 12


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    nuisance = np.column_stack([np.ones(ROWS), rng.normal(size=(ROWS, NUISANCES - 1))])
    missing = (rng.random((ROWS, CANDIDATES)) < 0.1).astype(float)
    x = (rng.random((ROWS, CANDIDATES)) < rng.uniform(0.1, 0.5, CANDIDATES)) * (1 - missing)
    log_odds = -0.8 + 0.6 * nuisance[:, 1] + 0.9 * x[:, 0] - 0.7 * x[:, 1]
    outcome = (rng.random(ROWS) < 1 / (1 + np.exp(-log_odds))).astype(float)
    return outcome, x, nuisance, missing, rng.integers(0, 350, ROWS)


def by_statsmodels(outcome, x, nuisance, missing, families, j):
    import statsmodels.api as sm

    design = np.column_stack([nuisance, missing[:, j], x[:, j]])
    plain = sm.Logit(outcome, design).fit(disp=0)
    robust = sm.Logit(outcome, design).fit(disp=0, cov_type="cluster", cov_kwds={"groups": families})
    return plain.params[-1], plain.bse[-1], robust.bse[-1]


@pytest.mark.parametrize("j", [0, 1, 7])
def test_effects_and_both_standard_errors_equal_statsmodels(data, j):
    outcome, x, nuisance, missing, families = data
    fits = fit_candidates(outcome, x, nuisance, missing=missing, clusters=families)
    expected = by_statsmodels(*data, j)
    assert fits.loc[j, ["estimate", "se_model", "se_cluster"]].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_fast_way_has_the_same_estimates_and_nearly_the_same_errors(data):
    outcome, x, nuisance, missing, families = data
    exact = fit_candidates(outcome, x, nuisance, missing=missing, clusters=families)
    fast, _ = fit_with_influence(outcome, x, nuisance, missing=missing, clusters=families, exact=False)
    assert np.allclose(exact["estimate"], fast["estimate"], atol=1e-5)
    assert np.allclose(exact["se"] / fast["se"], 1, atol=0.02)


def test_squared_influences_sum_to_the_clustered_variance(data):
    outcome, x, nuisance, _, families = data
    fits, influence = fit_with_influence(outcome, x, nuisance, clusters=families)
    assert np.allclose(np.sqrt((influence**2).sum(axis=0)), fits["se_cluster"])


def test_a_candidate_leaves_the_nuisance_columns_that_repeat_it(data):
    outcome, x, nuisance, _, families = data
    design = np.column_stack([nuisance, x])
    ridge = np.r_[np.zeros(NUISANCES), np.full(CANDIDATES, 20.0)]
    twin = NUISANCES + np.arange(CANDIDATES)
    together = fit_candidates(outcome, x, design, ridge=ridge, clusters=families, twin=twin)
    for j in (0, 5):
        keep = np.arange(design.shape[1]) != twin[j]
        alone = fit_candidates(outcome, x[:, [j]], design[:, keep], ridge=ridge[keep], clusters=families)
        assert together.loc[j, "estimate"] == pytest.approx(alone.loc[0, "estimate"], abs=1e-8)
        assert together.loc[j, "se_model"] == pytest.approx(alone.loc[0, "se_model"], abs=1e-7)


@pytest.mark.parametrize("strength", [0.3, 2.5])
def test_with_many_nuisance_columns_strong_effects_equal_statsmodels_too(data, strength):
    import statsmodels.api as sm

    _, x, nuisance, _, families = data
    rng = np.random.default_rng(9)
    many = np.column_stack([nuisance, rng.normal(size=(ROWS, 30))])
    outcome = (rng.random(ROWS) < 1 / (1 + np.exp(1 - 0.5 * many[:, 1] - strength * x[:, 0]))).astype(float)
    design = np.column_stack([many, x[:, :2]])
    plain = sm.Logit(outcome, design[:, :-1]).fit(disp=0)
    twin = np.array([design.shape[1] - 2])
    fits = fit_candidates(outcome, x[:, [0]], np.delete(design, -1, axis=1), twin=twin, clusters=families)
    assert fits.loc[0, ["estimate", "se_model"]].tolist() == pytest.approx([plain.params[-1], plain.bse[-1]], abs=1e-6)


@pytest.mark.parametrize("most", [100, 1])
def test_solutions_by_gradients_equal_solutions_from_each_matrix(data, monkeypatch, most):
    from icplab.core.stats import blocks

    _, _, nuisance, _, _ = data
    monkeypatch.setattr(blocks, "MAX_GRADIENTS", most)  # one step is too few: each is then solved from its matrix
    rng = np.random.default_rng(4)
    weight, penalty = rng.uniform(0.02, 0.25, (ROWS, 3)), np.full(NUISANCES, 0.5)
    inverse, twins = blocks.invert(blocks.gram(nuisance, np.full(ROWS, 0.1)) + np.diag(penalty)), np.array([-1, 2, -1])
    right = rng.normal(size=(2, NUISANCES, 3)) * (np.arange(NUISANCES)[:, None] != twins[None, :])
    found = blocks.solve_like(inverse, nuisance, weight, penalty, right, twins)
    for j in range(3):
        keep = np.arange(NUISANCES) != twins[j]
        own = (nuisance[:, keep] * weight[:, [j]]).T @ nuisance[:, keep] + np.diag(penalty[keep])
        assert np.allclose(found[:, keep, j].T, np.linalg.solve(own, right[:, keep, j].T), atol=1e-8)
        assert not found[:, ~keep, j].any()


def test_ridge_is_a_normal_prior_on_the_nuisance_coefficients(data):
    outcome, _, nuisance, _, _ = data
    free = fit_logistic(outcome, nuisance).coefficients
    held = fit_logistic(outcome, nuisance, ridge=np.r_[0, np.full(NUISANCES - 1, 1e6)]).coefficients
    assert abs(free[1]) > 0.3
    assert np.abs(held[1:]).max() < 1e-3


def test_separated_candidates_are_finite_flagged_and_tested_by_score(data):
    outcome, _, nuisance, _, _ = data
    only_lost = ((np.arange(ROWS) % 3 == 0) & (outcome == 0)).astype(float)[:, None]
    fits = fit_candidates(outcome, only_lost, nuisance)
    assert fits.loc[0, "separated"]
    assert -10 < fits.loc[0, "estimate"] < 0
    assert fits.loc[0, "p_value"] == pytest.approx(score_candidates(outcome, only_lost, nuisance)["p_value"][0])


def test_a_column_that_does_not_vary_has_no_effect_and_breaks_nothing(data):
    outcome, x, nuisance, _, _ = data
    columns = np.column_stack([np.zeros(ROWS), x[:, 0], np.ones(ROWS)])
    fits = fit_candidates(outcome, columns, nuisance)
    assert fits["estimate"].isna().tolist() == [True, False, True]


def test_the_p_value_is_the_larger_of_model_and_cluster(data):
    from scipy import stats

    outcome, x, nuisance, _, families = data
    fits = fit_candidates(outcome, x, nuisance, clusters=families)
    model = 2 * stats.norm.sf(np.abs(fits["estimate"] / fits["se_model"]))
    cluster = 2 * stats.t.sf(np.abs(fits["estimate"] / fits["se_jackknife"]), fits["df"])
    assert (fits["se_jackknife"] >= fits["se_cluster"] * 0.99).all()
    assert (fits["df"] < len(np.unique(families))).all(), "families count by what they know"
    assert np.allclose(fits["p_value"], np.maximum(model, cluster))


def test_the_score_test_agrees_with_the_wald_test_where_effects_are_small(data):
    outcome, x, nuisance, missing, _ = data
    wald = fit_candidates(outcome, x, nuisance, missing=missing)
    score = score_candidates(outcome, x, nuisance, missing=missing)
    assert np.allclose(score["z_score"], wald["estimate"] / wald["se_model"], atol=0.25)


def test_linear_effects_and_errors_equal_statsmodels(data):
    import statsmodels.api as sm

    outcome, x, nuisance, missing, families = data
    measured = outcome + nuisance[:, 1] + 0.3 * x[:, 0]
    fits, _ = fit_linear_candidates(measured, x, nuisance, missing=missing, clusters=families)
    design = np.column_stack([nuisance, missing[:, 0], x[:, 0]])
    plain = sm.OLS(measured, design).fit()
    robust = sm.OLS(measured, design).fit(cov_type="cluster", cov_kwds={"groups": families})
    expected = [plain.params[-1], plain.bse[-1], robust.bse[-1]]
    assert fits.loc[0, ["estimate", "se_model", "se_cluster"]].tolist() == pytest.approx(expected, abs=1e-9)


def test_an_outcome_that_is_not_zero_or_one_is_refused(data):
    _, x, nuisance, _, _ = data
    with pytest.raises(ContractBroken, match="something else than 0 and 1"):
        fit_candidates(np.full(ROWS, 0.5), x, nuisance)


@pytest.mark.parametrize("many", [0, 30])
def test_separated_columns_that_repeat_a_nuisance_column_are_tested_without_it(data, many):
    outcome, _, nuisance, missing, families = data
    rng = np.random.default_rng(11)
    held = (rng.random((ROWS, 3)) < 0.05) * (outcome == 0)[:, None] * (1 - missing[:, :3])
    design = np.column_stack([nuisance, rng.normal(size=(ROWS, many)), held])
    width = design.shape[1]
    ridge = np.r_[np.zeros(width - 3), np.full(3, 4.0)]
    shared = {"missing": missing[:, :3], "clusters": families}
    fits = fit_candidates(outcome, held, design, ridge=ridge, twin=np.arange(width - 3, width), **shared)
    for j in range(3):
        keep = np.arange(width) != width - 3 + j
        alone = {"missing": missing[:, [j]], "clusters": families, "ridge": ridge[keep]}
        expected = score_candidates(outcome, held[:, [j]], design[:, keep], **alone).loc[0, "p_value"]
        assert fits.loc[j, "separated"]
        assert fits.loc[j, "p_value"] == pytest.approx(expected, abs=1e-6)


def test_the_jackknife_error_is_that_of_leaving_clusters_out(data):
    """One cluster of a quarter of the rows: leaving each out in turn, by hand."""
    outcome, x, nuisance, _, families = data
    clusters = np.where(np.arange(ROWS) < ROWS // 4, "giant", np.asarray(families).astype(str))
    fits = fit_candidates(outcome, x[:, :1], nuisance, clusters=clusters)
    names = np.unique(clusters)
    without = [
        fit_candidates(outcome[clusters != c], x[clusters != c, :1], nuisance[clusters != c])["estimate"][0]
        for c in names
    ]
    by_hand = np.sqrt(((np.array(without) - fits["estimate"][0]) ** 2).sum())
    assert fits["se_jackknife"][0] == pytest.approx(by_hand, rel=0.15)
    assert fits["df"][0] < 20, "one cluster holds a quarter of what is known"
