"""The sample-size gate: Riley's published numbers, candidates counted once, and tiers that say they are judgement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icplab.core.schema import check_artefact
from icplab.scores import findings, measure_sample, sample_findings
from icplab.scores.forward import _failed
from icplab.scores.sample import count_candidates, enough, required_size
from icplab.tiers import judge_tiers, judged_findings, measure_tiers
from tests.made_market import SETTINGS, make_market, tiered, train


@pytest.fixture(scope="module")
def made():
    return make_market()


@pytest.fixture(scope="module")
def few():
    made = make_market(n=100)
    return made, tiered(made)


def test_the_size_is_that_of_rileys_formulas_worked_by_hand():
    # Rate .5: largest R² .75, expected .1125; shrinkage: 20 / (.1 × .13353) = 1497.8; the level alone asks for 384.2.
    assert required_size(0.5, 20) == 1498
    assert required_size(0.5, 1) == 385
    # 30 parameters, 5 % events (largest R² .32769), R² of .05: 30 / (.1 × .05716) = 5,248.6 by shrinkage.
    assert required_size(0.05, 30, 0.05 / 0.32769) == pytest.approx(5249, abs=2)
    assert required_size(0.0, 1) > 10**9


def test_more_candidates_ask_for_more(made):
    sizes = [required_size(0.3, k) for k in (5, 12, 40)]
    assert sizes == sorted(sizes)
    assert required_size(0.3, 5) < required_size(0.3, 12)


def test_candidates_that_say_the_same_count_once(made):
    training = train(made)
    block = next(b for b in training.blocks if b.item.trait == "good")
    twice = replace(training, blocks=(*training.blocks, block, block))
    assert count_candidates(twice) == count_candidates(training)
    rng = np.random.default_rng(1)
    fresh = tuple(replace(block, weights=rng.permutation(block.weights)) for _ in range(5))
    added = count_candidates(replace(training, blocks=(*training.blocks, *fresh))) - count_candidates(training)
    assert 4 <= added <= 6


def test_a_failed_ranking_means_none_with_enough_data_and_nothing_without(made):
    assert enough(measure_sample(train(made)))
    assert _failed(train(made)) == "no-usable-ranking"
    small = make_market(n=150)
    assert not enough(measure_sample(train(small)))
    assert _failed(train(small)) == "insufficient-evidence"


def test_vendors_thresholds_stand_for_comparison_and_decide_nothing(few):
    sample = measure_sample(train(few[0])).set_index("rule")
    assert sample.loc["Dynamics 365: won", "enough"] == "yes"
    assert not enough(sample.reset_index())


def test_a_model_below_the_gate_that_held_says_so(few):
    sample = measure_sample(train(few[0]))
    assert [f.subject for f in sample_findings(sample, "usable")] == ["sample size"]
    assert sample_findings(sample, "insufficient-evidence") == []
    assert sample_findings(sample.assign(enough="yes"), "usable") == []


def test_below_it_tiers_follow_the_rule_flagged_and_without_a_probability_of_their_own(few):
    made, (model, market, scored, check) = few
    assert model.verdict == "insufficient-evidence"
    icp = np.resize(np.array(["yes", "no", "no", "unknown"], dtype=object), len(market))
    matches = pd.DataFrame({"account_id": market["account_id"], "icp": icp})
    market = market.assign(account_type=np.where(np.arange(len(market)) == 0, "partner", market["account_type"]))
    judged = judge_tiers(model, scored, market, matches)
    check_artefact("scores", judged)
    assert judged["tier"].tolist()[:6] == ["insufficient", "tier_3", "tier_3", "insufficient", "tier_2", "tier_3"]
    assert "tier_1" not in set(judged["tier"])
    assert (judged["flags"].str.contains("judgement") == judged["tier"].isin(["tier_2", "tier_3"])).all()
    assert judged["win_probability"].nunique() == 1
    assert judged["tier_confidence"].isna().all()
    promise = measure_tiers(model, market, judged, made.opportunities, SETTINGS).set_index("tier")
    assert promise.loc[["tier_2", "tier_3"], ["predicted", "low", "high"]].isna().all(axis=None)
    assert judged_findings(judged)[0].numbers == {"inside": 24, "outside": 50}
    assert findings(check, model)[0].code == "insufficient-evidence"


def test_a_measured_ranking_and_a_failed_one_are_never_judged_over(few):
    model, market, scored, _ = few[1]
    matches = pd.DataFrame({"account_id": market["account_id"], "icp": "yes"})
    for verdict in ("usable", "no-usable-ranking"):
        pd.testing.assert_frame_equal(judge_tiers(replace(model, verdict=verdict), scored, market, matches), scored)
    assert judged_findings(scored) == []
