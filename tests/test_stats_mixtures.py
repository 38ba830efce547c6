"""The mixture prior keeps what is real and pulls what is idle to nothing, from all effects together."""

from __future__ import annotations

import numpy as np
import pytest

from icplab.core.stats.mixtures import fit_normal_mixture, posterior_means

WIDTHS = (0.02, 0.1, 0.4, 1.6)


def test_ten_real_effects_among_many_idle_ones_are_hardly_pulled():
    rng = np.random.default_rng(3)
    truth = np.r_[np.full(5, 0.55), np.full(5, -0.55), np.zeros(80)]
    error = rng.uniform(0.08, 0.25, 90)
    seen = truth + rng.normal(size=90) * error
    weights = fit_normal_mixture(seen, error**2, WIDTHS)
    shown = posterior_means(seen, error**2, WIDTHS, weights)
    real = truth != 0
    assert weights.sum() == pytest.approx(1)
    slope = (truth[real] @ shown[real]) / (shown[real] @ shown[real])
    assert 0.85 < slope < 1.2
    assert np.sqrt(np.mean(shown[~real] ** 2)) < 0.3 * np.sqrt(np.mean(seen[~real] ** 2))


def test_a_posterior_mean_under_one_width_is_the_textbook_one():
    shown = posterior_means([0.5], [0.04], (0.2,), [1.0])
    assert shown[0] == pytest.approx(0.5 * 0.04 / (0.04 + 0.04))


def test_one_effect_alone_is_judged_with_caution():
    alone = fit_normal_mixture([0.5], [0.04], WIDTHS)
    assert alone[0] > 0.8
    assert fit_normal_mixture([], [], WIDTHS).tolist() == [1, 0, 0, 0]


def test_order_does_not_matter():
    values, noise = np.array([0.1, -0.7, 0.4, 0.0]), np.array([0.01, 0.02, 0.03, 0.01])
    assert np.allclose(
        fit_normal_mixture(values, noise, WIDTHS), fit_normal_mixture(values[::-1], noise[::-1], WIDTHS), atol=1e-12
    )
