"""False-discovery rate and gatekeeping, against statsmodels and by counting."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icplab.core.stats.multiplicity import benjamini_hochberg, global_test, holm, open_families


def test_q_values_and_holm_equal_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(1).beta(0.6, 2, 40)
    assert np.allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1])
    assert np.allclose(holm(p), multipletests(p, method="holm")[1])


def test_questions_not_asked_do_not_count():
    p = np.array([0.01, np.nan, 0.04, np.nan])
    q = benjamini_hochberg(p)
    assert q[[0, 2]].tolist() == pytest.approx([0.02, 0.04])
    assert np.isnan(q[[1, 3]]).all()
    assert global_test([np.nan, np.nan]) == 1.0


def test_the_global_test_keeps_its_level_when_nothing_is_associated():
    p = np.random.default_rng(2).random((4000, 30))
    passed = np.mean([global_test(row) <= 0.05 for row in p])
    assert 0.04 <= passed <= 0.06


def test_parts_open_only_behind_their_whole():
    families = pd.DataFrame(
        {
            "outcome": ["win"] * 3 + ["value"] * 2,
            "scope": ["all", "S1", "S2", "all", "S1"],
            "p_global": [0.001, 0.001, 0.2, 0.2, 0.0001],
        }
    )
    opened = open_families(families, root="all")
    assert opened["opened"].tolist() == [True, True, False, False, False]


def test_in_a_market_of_noise_anything_at_all_opens_in_one_of_twenty():
    rng = np.random.default_rng(3)
    keys = pd.MultiIndex.from_product([["win", "value", "cycle"], ["all", "S1", "S2"]], names=["outcome", "scope"])
    draws = [open_families(keys.to_frame(index=False).assign(p_global=rng.random(9)), root="all") for _ in range(600)]
    assert np.mean([d["opened"].any() for d in draws]) <= 0.07
