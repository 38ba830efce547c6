"""Refits on resampled accounts: started from the market's optima they end where fresh starts end, families stay together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icplab import segments
from icplab.segments.blocks import read_blocks, write_recipe
from icplab.segments.em import iterate
from icplab.segments.mixture import Market, fit_mixture, log_density
from icplab.segments.resampling import collect_optima, draw_weights, jaccard_of_labels, refit_resamples
from icplab.segments.stability import jaccard
from tests.test_segments import QUICK, small, two_groups


@pytest.fixture(scope="module")
def blocks():
    frame, catalogue, _ = two_groups(200, 6)
    frame.loc[frame.index % 5 == 0, "employees"] = None
    return read_blocks(write_recipe(frame, catalogue), frame)


def test_members_of_a_family_are_drawn_together_and_a_family_about_once():
    family = np.repeat(["a", "b", "c", "d"], 50)
    weights = draw_weights(family, 400, np.random.default_rng(1))
    per_family = weights.reshape(400, 4, 50)
    assert (per_family == per_family[:, :, :1]).all()
    assert weights.mean() == pytest.approx(1, abs=0.1)
    assert len(np.unique(per_family[:, :, 0], axis=0)) > 100


def test_a_reweighted_market_is_the_market_made_with_those_weights(blocks):
    weights = np.random.default_rng(2).poisson(1.0, len(blocks.account_id)).astype(float)
    market = Market(blocks)
    again, made = market.reweighted(weights[market.order]), Market(blocks, weights)
    one, other = (fit_mixture(m, 2, np.random.default_rng(3), 4, shapes=True) for m in (again, made))
    np.testing.assert_allclose(again.pooled, made.pooled)
    np.testing.assert_allclose(again.patterns[0].square, made.patterns[0].square)
    np.testing.assert_allclose(one.rate, other.rate, rtol=1e-6)
    assert market.even, "the market itself keeps its weights"
    assert market.total == len(weights)


def test_jaccard_from_counts_is_that_of_memberships():
    rng = np.random.default_rng(4)
    label, other = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    one_hot = [(x[:, None] == np.arange(3)).astype(float) for x in (label, other)]
    np.testing.assert_allclose(jaccard_of_labels(label, other, 3), jaccard(*one_hot).max(axis=1))
    # {0, 1} and {0, 1, 2, 3} share two of four accounts.
    assert jaccard_of_labels(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0]), 2)[0] == 0.5


def test_a_refit_from_the_optima_reaches_what_fresh_starts_reach(blocks):
    market = Market(blocks)
    weights = draw_weights(blocks.account_id, 12, np.random.default_rng(5))
    for k in (1, 2):
        optima = collect_optima(market, k, weights, np.random.default_rng(k), starts=8)
        assert np.all(np.diff([m.score[0] for m in optima]) <= 0)
        label = log_density(market, optima[0])[0].argmax(axis=0)
        found, score = refit_resamples(market, optima, label, weights, "")
        fresh = [fit_mixture(market.reweighted(w), k, np.random.default_rng(7), 16, shapes=True) for w in weights]
        naive = [jaccard_of_labels(label, log_density(market, m)[0].argmax(axis=0), k) for m in fresh]
        assert abs(found.mean() - np.mean(naive)) <= 0.03
        assert np.median(score - [m.score[0] - 0.5 * m.parameters[0] for m in fresh]) > -1.0


def test_of_two_optima_a_resample_takes_the_one_it_prefers():
    """Two traits that cut the market in different halves: accounts of one cut alone make that cut the better one."""
    rng = np.random.default_rng(8)
    n = 300
    columns = {}
    for name, half in (("a", rng.random(n) < 0.5), ("b", rng.random(n) < 0.5)):
        for i in range(3):
            columns[f"{name}{i}"] = pd.array(half ^ (rng.random(n) < 0.1), dtype="boolean")
    frame, catalogue = small(n, **columns)
    blocks = read_blocks(write_recipe(frame, catalogue), frame)
    market = Market(blocks)
    values = frame[["a0", "b0"]].to_numpy(dtype=int)[market.order]
    optima = [iterate(market, np.stack([0.9 - 0.8 * v, 0.1 + 0.8 * v])[None], 80, 1e-6) for v in values.T]
    for wanted, optimum in enumerate(optima):
        own = log_density(market, optimum)[0].argmax(axis=0)
        assert jaccard_of_labels(values[:, wanted], own, 2).min() > 0.7, "both cuts are optima"
        # Where the other cut is random within a half, the wanted one is all there is.
        agree = (frame[[f"{'ab'[wanted]}{i}" for i in range(3)]].to_numpy(dtype=int)[market.order]).sum(axis=1)
        weights = np.where(np.isin(agree, [0, 3]), 1.0, 0.0)[None]
        label = values[:, wanted]
        found, _ = refit_resamples(market, optima, label, weights, "")
        assert found.min() > 0.7


def test_two_clear_groups_are_chosen_again_and_a_market_too_small_to_cut_has_nothing_to_choose():
    frame, catalogue, _ = two_groups()
    found = segments.fit_segments(frame, catalogue, **QUICK)
    choice = segments.resample_choice(found, frame, seed=1, resamples=10).set_index("k")
    assert choice.loc[2, "chosen_in"] >= 0.8
    assert choice["chosen_in"].sum() == pytest.approx(1)
    assert choice.loc[2, "weakest"] > 0.9
    assert choice.loc[1, "jaccard"] == 1
    tiny = segments.fit_segments(frame.head(20), catalogue, **QUICK)
    assert segments.resample_choice(tiny, frame.head(20), seed=1).empty
