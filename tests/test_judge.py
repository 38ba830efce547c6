"""The judge of the recovery benchmark judges itself: the oracle's own answer is perfect, a coin's is not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import judge


@pytest.fixture
def truth():
    rng = np.random.default_rng(4)
    ids = [f"a{i:03d}" for i in range(400)]
    latent = rng.integers(0, 2, 400)
    win = np.where(latent == 1, 0.5, 0.2) + rng.uniform(-0.1, 0.1, 400)
    accounts = pd.DataFrame(
        {
            "account_id": ids,
            "segment": np.where(latent == 1, "P2", "P1"),
            "oracle_segment_P1": 1.0 - latent,
            "oracle_segment_P2": latent.astype(float),
            "p_win": win,
            "oracle_win": win,
            "expected_value": win * 100,
            "oracle_value": win * 100,
        }
    )
    traits = pd.DataFrame({"trait": ["x", "y", "z"], "level": "yes", "log_odds_ratio": [0.5, -0.5, 0.0]})
    return SimpleNamespace(accounts=accounts, traits=traits)


def answer(truth, **change) -> judge.Answer:
    table = truth.accounts.set_index("account_id")
    own = {
        "segments": table["segment"],
        "traits": {("x", "yes"): 1, ("y", "yes"): -1},
        "win": table["oracle_win"],
        "value": table["oracle_value"],
    }
    return judge.Answer(**{**own, **change})


def test_the_oracles_own_answer_is_perfect(truth):
    scores = judge.judge(answer(truth), truth)
    for name in ("ari_share", "power", "power_strong", "captured", "auc_share"):
        assert scores[name] == pytest.approx(1), name
    assert scores["fdp"] == 0
    assert scores["slope"] == pytest.approx(1, abs=1e-6)
    assert scores["in_the_large"] == pytest.approx(0)


def test_a_wrong_sign_and_an_idle_trait_are_false_claims(truth):
    scores = judge.judge(answer(truth, traits={("x", "yes"): -1, ("z", "yes"): 1, ("y", "yes"): -1}), truth)
    assert (scores["traits_found"], scores["traits_false"]) == (1, 2)
    assert scores["fdp"] == pytest.approx(2 / 3)


def test_noise_captures_a_fifth_and_ranks_nothing(truth):
    rng = np.random.default_rng(1)
    noise = pd.Series(rng.uniform(0.1, 0.9, 400), index=truth.accounts["account_id"])
    scores = judge.judge(answer(truth, win=noise, value=noise, segments=(noise > 0.5).astype("str")), truth)
    assert abs(scores["auc"] - 0.5) < 0.08
    assert abs(scores["ari"]) < 0.02
    assert scores["captured"] < 0.75


def test_the_expected_auc_is_the_auc_where_outcomes_are_certain():
    rng = np.random.default_rng(2)
    score = pd.Series(rng.integers(0, 8, 300).astype(float))
    outcome = pd.Series((rng.uniform(size=300) < 0.1 * score / 2 + 0.2).astype(float))
    assert judge.expected_auc(score, outcome) == pytest.approx(roc_auc_score(outcome, score))


def test_an_overconfident_answer_has_a_slope_below_one(truth):
    p = truth.accounts.set_index("account_id")["p_win"]
    log_odds = np.log(p / (1 - p))
    mean = log_odds.mean()
    bold = 1 / (1 + np.exp(-(mean + 2 * (log_odds - mean))))
    assert judge.calibration_slope(bold, p) == pytest.approx(0.5, abs=0.02)
    assert np.isnan(judge.calibration_slope(p * 0 + 0.3, p))


def test_a_market_without_order_has_no_share_of_an_order(truth):
    truth.accounts[["p_win", "oracle_win"]] = 0.3
    scores = judge.judge(answer(truth), truth)
    assert np.isnan(scores["auc_share"])
    assert scores["oracle_auc"] == pytest.approx(0.5)
