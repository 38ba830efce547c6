"""Groups must beat one smooth continuum, rest on at least three traits, and survive shapes that the model does not expect."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.segment_hostile import PLANTED, WITHOUT, make_hostile
from icplab import segments
from icplab.core.config import Settings
from icplab.segments.blocks import read_blocks, write_recipe
from icplab.segments.curve import score_of_continuum
from icplab.segments.existence import count_telling, measure_existence
from icplab.segments.found import _verdict as judge
from icplab.segments.mixture import Market, fit_mixture
from icplab.segments.twins import copula_null

QUICK = {"settings": Settings(), "nulls": 19, "starts": 8, "resamples": 4}


def market_of(name: str, n: int, seed: int) -> Market:
    made = make_hostile(name, n, seed)
    return Market(read_blocks(write_recipe(made.accounts, made.catalogue), made.accounts))


def share_of_continuum(market: Market, k: int) -> float:
    """What one smooth continuum gains over one group, as a share of what k groups gain."""
    one, several = (fit_mixture(market, c, np.random.default_rng(1), 8, shapes=True).score[0] for c in (1, k))
    return float((score_of_continuum(market) - one) / (several - one))


class TestContinuum:
    def test_it_describes_a_curved_market_better_than_groups_do(self):
        assert share_of_continuum(market_of("curved", 700, 21), 5) > 1.0

    def test_it_describes_planted_groups_much_worse(self):
        assert share_of_continuum(market_of("heavy planted", 700, 22), 4) < 0.9

    def test_a_curved_market_is_not_natural_although_its_twins_gain_less_and_the_finding_says_why(self):
        made = make_hostile("curved", 700, 23)
        found = segments.fit_segments(made.accounts, made.catalogue, seed=2, **QUICK)
        assert found.verdict != "natural"
        assert found.evidence["p_value"] <= 0.05
        assert found.evidence["gain_ratio"] >= 1.25
        assert "one smooth continuum reaches" in found.evidence["reason"]
        told = judge(found, pd.DataFrame({"segment_id": found.segment_ids}))
        assert "But one smooth continuum reaches" in told.sentence
        assert told.numbers["continuum"] == found.evidence["continuum"]


class TestTelling:
    def test_two_traits_that_go_together_are_no_segments(self):
        made = make_hostile("tables", 900, 25)
        found = segments.fit_segments(made.accounts, made.catalogue, seed=2, **QUICK)
        assert found.verdict != "natural"
        assert "only 2 traits" in found.evidence["reason"]

    def test_traits_that_tell_nothing_are_not_counted(self):
        market = market_of("tables", 900, 25)
        assert count_telling(market, fit_mixture(market, 3, np.random.default_rng(1), 8)) == 2

    def test_planted_groups_are_told_by_many(self):
        market = market_of("heavy planted", 700, 22)
        assert count_telling(market, fit_mixture(market, 4, np.random.default_rng(1), 8)) > 10


class TestTwins:
    def test_a_market_with_other_values_is_the_market_prepared_from_them(self):
        made = make_hostile("a third unknown", 300, 26)
        blocks = read_blocks(write_recipe(made.accounts, made.catalogue), made.accounts)
        twin = copula_null(blocks)(np.random.default_rng(3))
        shared, anew = Market(blocks).with_values(twin), Market(twin)
        for one, other in zip(shared.patterns, anew.patterns, strict=True):
            assert one.rows == other.rows
            assert np.array_equal(one.features, other.features)
            assert one.square == pytest.approx(other.square)
        assert np.array_equal(shared.levels, anew.levels)
        assert np.array_equal(shared.scores, anew.scores)
        rng = [np.random.default_rng(4) for _ in range(2)]
        assert fit_mixture(shared, 3, rng[0], 4).score == pytest.approx(fit_mixture(anew, 3, rng[1], 4).score)

    def test_single_precision_changes_a_fit_by_next_to_nothing(self):
        made = make_hostile("heavy planted", 400, 27)
        blocks = read_blocks(write_recipe(made.accounts, made.catalogue), made.accounts)
        scores = [
            fit_mixture(Market(blocks, single=single), 4, np.random.default_rng(5), 8).score[0]
            for single in (False, True)
        ]
        assert scores[0] == pytest.approx(scores[1], abs=0.5)

    def test_p_and_ratio_are_those_of_the_twins(self):
        made = make_hostile("heavy planted", 400, 28)
        blocks = read_blocks(write_recipe(made.accounts, made.catalogue), made.accounts)
        model = fit_mixture(Market(blocks), 4, np.random.default_rng(5), 8)
        found = measure_existence(blocks, model, seed=3, nulls=19)
        assert len(found.null_gain) == 19
        assert found.p_value == 1 / 20
        assert found.ratio == pytest.approx(found.gain / np.mean(found.null_gain))
        assert found.exists


SLOW = ("a third unknown", "unknown planted", "5/25/70")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in (*WITHOUT, *PLANTED)]
)
def test_no_market_is_too_odd_for_a_verdict(name):
    made = make_hostile(name, 200, 29)
    found = segments.fit_segments(made.accounts, made.catalogue, seed=2, **QUICK)
    assert found.verdict in ("natural", "reproducible", "constructive", "none")
    assert name in PLANTED or found.verdict != "natural"
    assert found.assignments["account_id"].is_unique
    assert len(found.assignments) == 200
