"""The card beside its rivals on the same folds, and whether its probabilities are right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icplab.core.config import Settings, Workspace
from icplab.scores import (
    check_forward,
    compare_rules,
    decompose_brier,
    explain_brier,
    find_rule,
    measure_gains,
    measure_reliability,
)
from icplab.scores.reliability import isotonic, reliability_curve
from icplab.scores.rivals import rank_by_rule
from tests.made_market import SETTINGS, make_market, train


@pytest.fixture(scope="module")
def checked():
    """A market whose team rates accounts by luck, except that it knows one trait."""
    made = make_market()
    rng = np.random.default_rng(5)
    good = made.accounts["good"].to_numpy(dtype=bool)
    rating = np.where(
        good & (rng.random(len(good)) < 0.8), "Hot", np.where(rng.random(len(good)) < 0.5, "Warm", "Cold")
    )
    made = replace(made, accounts=made.accounts.assign(account_rating=pd.Series(rating, dtype="str")))
    training = train(made)
    return training, check_forward(training, SETTINGS, 1)


def test_isotonic_means_are_those_of_scikit_learn_for_every_replicate():
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(1)
    rate, weight = rng.random((5, 30)), rng.integers(1, 50, 30).astype(float)
    ours = isotonic(rate, weight)
    for row, given in zip(ours, rate, strict=True):
        assert row == pytest.approx(IsotonicRegression().fit(np.arange(30), given, weight).predict(np.arange(30)))


def test_an_input_that_is_the_same_everywhere_is_left_to_the_others():
    from icplab.scores.rivals import _varying

    codes = np.array([[1.0, 2.0, np.nan, np.nan], [1.0, 3.0, 1.0, np.nan], [2.0, 3.0, np.nan, np.nan]])
    assert _varying(codes, np.array([True, True, True])).tolist() == [0, 1]
    assert _varying(codes, np.array([True, True, False])).tolist() == [1]
    assert _varying(codes, np.array([False, False, False])).tolist() == []


def test_brier_parts_sum_to_the_score_and_a_constant_shift_is_miscalibration():
    rng = np.random.default_rng(2)
    p = rng.choice([0.1, 0.3, 0.6], 4000)
    y = (rng.random(4000) < p).astype(float)
    parts = decompose_brier(p, y, np.ones(4000))
    assert parts["brier"] == pytest.approx(np.mean((y - p) ** 2))
    assert parts["brier"] == pytest.approx(parts["miscalibration"] - parts["discrimination"] + parts["uncertainty"])
    assert parts["miscalibration"] < 0.001 < parts["discrimination"]
    shifted = decompose_brier(p + 0.2, y, np.ones(4000))
    assert shifted["miscalibration"] == pytest.approx(0.04, abs=0.008)
    assert shifted["discrimination"] == pytest.approx(parts["discrimination"])


def test_the_band_holds_what_right_probabilities_show_and_not_what_wrong_ones_do():
    rng = np.random.default_rng(3)
    p = rng.choice(np.linspace(0.05, 0.6, 12), 6000)
    y = (rng.random(6000) < p).astype(float)
    right = reliability_curve(p, y, np.ones(6000), 1)
    assert ((right["observed"] >= right["low"]) & (right["observed"] <= right["high"])).mean() > 0.7
    wrong = reliability_curve(np.clip(p * 1.5, 0, 1), y, np.ones(6000), 1)
    assert ((wrong["observed"] >= wrong["low"]) & (wrong["observed"] <= wrong["high"])).mean() < 0.4
    assert right["n"].sum() == 6000


@pytest.mark.parametrize(
    ("name", "values", "order"),
    [
        ("account_rating", ["Cold", "Hot", "Warm"], [0, 2, 1]),
        ("grade", ["B", "A", "C"], [2, 0, 1][::-1]),
        ("tier", ["1", "2", "3"], [2, 1, 0]),
        ("fit_score", ["10", "90", "50"], [0, 2, 1]),
        ("hs_ideal_customer_profile", ["tier_2", "tier_1", "tier_3"], [1, 2, 0]),
    ],
)
def test_a_rating_of_any_kind_rises_with_how_good_an_account_is_said_to_be(name, values, order):
    rank = rank_by_rule(pd.Series(values, name=name, dtype="str"))
    assert rank.rank().sub(1).tolist() == ([1, 2, 0] if name == "grade" else order)


def test_today_s_rule_is_found_by_its_name_and_can_be_named(checked):
    accounts = checked[0].accounts
    assert find_rule(accounts, SETTINGS) == "account_rating"
    assert find_rule(accounts, Settings(workspace=Workspace(score_column="employees"))) == "employees"
    assert find_rule(accounts.drop(columns="account_rating"), SETTINGS) == ""


def test_the_card_beats_today_s_rule_and_boosting_gains_little(checked):
    table = compare_rules(*checked, SETTINGS, 1).set_index("rule")
    assert table.loc["card", "auc"] > table.loc["today's rule", "auc"] > 0.5
    assert table.loc["today's rule", "gain_low"] > 0
    assert table.loc["boosting", "gain_over"] > -0.03
    assert abs(table.loc["random split", "auc"] - table.loc["card", "auc"]) < 0.08
    assert table.loc["card", "lift_20"] > 1.3


def test_one_family_cannot_be_split_at_random(checked):
    training, check = checked
    alone = replace(training, opportunities=training.opportunities.assign(family_id="f"))
    assert "random split" not in set(compare_rules(alone, check, SETTINGS, 1, ceiling=False)["rule"])


def test_the_diagram_of_a_check_covers_its_opportunities(checked):
    curve = measure_reliability(checked[1], 1)
    assert curve["n"].sum() == pytest.approx(checked[1].predictions["weight"].sum())
    assert curve["observed"].is_monotonic_increasing


def test_gains_rise_to_everything_and_stand_above_chance(checked):
    known = checked[1].predictions.query("weight > 0")
    table = measure_gains(known, np.ones(len(known)), 1)
    wins = table[table["what"] == "wins"]
    assert wins["captured"].is_monotonic_increasing
    assert wins["captured"].iloc[-1] == pytest.approx(1.0)
    assert (wins["low"].iloc[1:5] > wins["random"].iloc[1:5]).all()
    value = table[table["what"] == "value"]["captured"].to_numpy()
    assert np.allclose(value, wins["captured"])


def test_the_brier_score_on_the_page_adds_up():
    check = check_forward(train(make_market()), SETTINGS, 1)
    table = explain_brier(check).set_index("part")["value"]
    total = table["uncertainty"] - table["discrimination"] + table["miscalibration"]
    assert table["brier"] == pytest.approx(total)
    assert table["brier"] == pytest.approx(check.measures.set_index("measure").loc["brier", "value"], abs=1e-6)
    nothing = check_forward(train(make_market(n=60)), SETTINGS, 1)
    assert explain_brier(nothing).empty
