"""A look at another k, other variables and other weights is quick, repeatable, and about the same market."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from benchmarks.segment_markets import make_planted
from icplab import segments
from icplab.core.config import Settings
from tests.test_segments import QUICK, two_groups

SECOND = ("colour", "odour", "taste")  # a structure of their own, that has nothing to do with the two groups


@pytest.fixture(scope="module")
def looks():
    accounts, catalogue, group = two_groups(600)
    rng = np.random.default_rng(2)
    accounts["colour"] = pd.array(np.array(["red", "blue"])[rng.integers(0, 2, 600)], dtype="str")
    red = (accounts["colour"] == "red").to_numpy() * 1
    for trait in ("odour", "taste"):
        said = np.where(rng.random(600) < 0.8, np.array(["mild", "sweet"])[red], np.array(["sweet", "mild"])[red])
        accounts[trait] = pd.array(said, dtype="str")
    more = [catalogue.tail(1).assign(trait=t, kind="category") for t in SECOND]
    catalogue = pd.concat([catalogue, *more], ignore_index=True)
    found = segments.fit_segments(accounts, catalogue, **QUICK)
    return segments.prepare_preview(found, accounts), accounts, group


def test_two_segments_on_all_variables_are_the_planted_groups(looks):
    look = segments.preview_segments(looks[0], k=2, weights=dict.fromkeys(SECOND, 0))
    assert adjusted_rand_score(looks[2], look.label) > 0.9
    assert look.segments["accounts"].tolist() == sorted(look.segments["accounts"], reverse=True)
    assert look.segments["share"].sum() == pytest.approx(1)


def test_on_other_variables_the_market_is_cut_another_way(looks):
    look = segments.preview_segments(looks[0], k=2, variables=SECOND)
    assert adjusted_rand_score(looks[1]["colour"], look.label) > 0.9
    assert set(look.telling["trait"].iloc[[0, 3]]) <= set(SECOND)


def test_weights_decide_which_of_two_structures_is_seen(looks):
    light = segments.preview_segments(looks[0], k=2, weights=dict.fromkeys(SECOND, 0.05))
    heavy = segments.preview_segments(looks[0], k=2, weights=dict.fromkeys(SECOND, 10))
    assert adjusted_rand_score(looks[2], light.label) > 0.9
    assert adjusted_rand_score(looks[1]["colour"], heavy.label) > 0.9


def test_the_same_arguments_give_the_same_tables_and_moves_add_up(looks):
    one, two = (segments.preview_segments(looks[0], k=3) for _ in range(2))
    pd.testing.assert_frame_equal(one.telling, two.telling)
    assert (one.label == two.label).all()
    assert one.moves["accounts"].sum() == 600


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"k": 0}, "1 to 12"),
        ({"k": 2, "variables": ["shape"]}, "no trait shape"),
        ({"k": 2, "variables": []}, "no trait is left"),
        ({"k": 2, "weights": {"colour": -1}}, "between 0 and 10"),
    ],
)
def test_what_cannot_be_looked_at_is_named(looks, given, says):
    with pytest.raises(ValueError, match=says):
        segments.preview_segments(looks[0], **given)


@pytest.mark.slow
def test_a_look_at_ten_thousand_accounts_finds_what_is_there():
    made = make_planted(10_000, 5)
    found = segments.fit_segments(made.accounts, made.catalogue, **{**QUICK, "settings": Settings(), "starts": 4})
    looks = segments.prepare_preview(found, made.accounts)
    look = segments.preview_segments(looks, k=7, weights={looks.choices[0]: 2.0})
    assert adjusted_rand_score(made.label, segments.preview_segments(looks, k=5).label) > 0.5
    assert look.quality["k"].tolist() == [7]
