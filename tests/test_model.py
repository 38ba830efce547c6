"""The frozen model: points by hand, reasons that add up, and nothing lost between writing and reading."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from icplab.core.errors import BadInput
from icplab.core.model import (
    Input,
    Model,
    Value,
    add_segments,
    apply_model,
    from_document,
    level_codes,
    level_of,
    points_of,
    read_model,
    to_document,
    value_of,
    with_posteriors,
    write_model,
)

SIZE = Input("employees", "accounts", "number", ("< 50", "[50, 200)", "≥ 200"), (-3, 0, 4), edges=(50.0, 200.0))
CLOUD = Input("cloud", "accounts", "flag", ("no", "yes"), (0, 5), missing=2)
TOOL = Input("tools", "accounts", "item", ("no", "yes"), (0, -4), missing=-1, item="chat")
INDUSTRY = Input("industry", "accounts", "category", ("retail", "software", "(other)"), (-2, 3, 0))
SEGMENT = Input("segment", "accounts", "posterior", ("S1", "S2"), (-6, 8))


def a_model(**change) -> Model:
    inputs = (SIZE, CLOUD, TOOL, INDUSTRY, SEGMENT)
    content = {
        "as_of": "2026-03-31",
        "tool": "test",
        "settings": "0",
        "horizon_days": 365,
        "currency": "EUR",
        "verdict": "usable",
        "base_rate": 0.25,
        "base_points": 15,
        "inputs": inputs,
        "calibration": (-3.0, 0.1),
        "value": Value("margin", float(np.log(1000.0)), (), keep={"S1": 1.0, "S2": 2.0, "": 1.5}, cost_per_year=100.0),
        "cuts": {"tier_1": 500.0, "tier_2": 200.0, "tier_3": 60.0},
        "draws": {
            "points": np.zeros((2, 18)).tolist(),
            "value": [[], []],
            "cuts": [[500.0] * 2, [200.0] * 2, [60.0] * 2],
        },
    }
    return Model(**{**content, **change})


@pytest.fixture
def market() -> pd.DataFrame:
    accounts = pd.DataFrame(
        {
            "account_id": ["a", "b", "c", "d"],
            "employees": [49.0, 50.0, 200.0, np.nan],
            "cloud": pd.array([True, False, None, True], dtype="boolean"),
            "tools": ["chat;ledger", "ledger;webchat", None, ""],
            "industry": ["software", "retail", "farming", None],
            "account_type": ["prospect", "customer", "partner", None],
            "is_customer": pd.array([False, True, False, False], dtype="boolean"),
            "n_opportunities": [1.0, 2.0, 0.0, 0.0],
        }
    )
    segments = pd.DataFrame(
        {
            "account_id": ["a", "b", "c", "d"],
            "segment_id": ["S1", "S2", "S2", "unassigned"],
            "segment": "x",
            "membership": 0.9,
        }
    )
    members = pd.DataFrame(
        {"account_id": ["a", "b", "c", "d"], "S1": [1.0, 0.25, 0.0, np.nan], "S2": [0.0, 0.75, 1.0, np.nan]}
    )
    return add_segments(accounts, with_posteriors(segments, members))


def test_points_of_each_kind_are_those_counted_by_hand(market):
    assert points_of(SIZE, market).tolist() == [-3, 0, 4, 0]
    assert points_of(CLOUD, market).tolist() == [5, 0, 2, 5]
    assert points_of(TOOL, market).tolist() == [-4, 0, -1, 0]  # webchat is not chat; an empty list is known to be empty
    assert points_of(INDUSTRY, market).tolist() == [3, -2, 0, 0]
    assert points_of(SEGMENT, market).tolist() == [-6, 5, 8, 0]  # .25 × −6 + .75 × 8 = 4.5: halves go up


def test_a_level_never_seen_and_a_missing_one_are_told_apart():
    closed = Input("industry", "accounts", "category", ("retail", "software"), (-2, 3))
    frame = pd.DataFrame({"industry": ["retail", "farming", None]})
    assert level_codes(closed, frame).tolist() == [0, -2, -1]
    assert level_of(closed, frame).tolist() == ["retail", "not seen before", "unknown"]
    assert points_of(closed, frame).tolist() == [-2, 0, 0]


def test_a_column_that_is_not_there_is_unknown_everywhere(market):
    assert points_of(CLOUD, market.drop(columns="cloud")).tolist() == [2, 2, 2, 2]


def test_reasons_sum_to_the_points(market):
    scored = apply_model(a_model(), market)
    sums = [sum(r["points"] for r in json.loads(text)) for text in scored["reasons"]]
    assert sums == scored["points"].tolist() == [10, 18, 28, 20]


def test_probability_value_and_tier_follow_from_the_points(market):
    scored = apply_model(a_model(), market).set_index("account_id")
    p = 1 / (1 + np.exp(3 - 0.1 * np.array([10, 18, 28, 20])))
    assert scored["win_probability"].to_numpy() == pytest.approx(p, abs=1e-6)
    worth = np.array([900.0, 0.25 * 900 + 0.75 * 1800, 1800.0, 1350.0])  # (1000 − 100) × years kept
    assert value_of(a_model().value, market) == pytest.approx(
        [900, 1800, 1800, 1350]
    )  # hard segments, no posterior in it
    assert scored.loc["a", "expected_value"] == pytest.approx(p[0] * worth[0], abs=0.01)
    assert scored["tier"].to_dict() == {"a": "tier_3", "b": "tier_2", "c": "not_icp", "d": "insufficient"}
    assert scored["motion"].tolist() == ["new", "expansion", "new", "new"]


def test_money_is_averaged_over_the_segments_and_not_its_logarithm(market):
    item = Input("segment", "accounts", "posterior", ("S1", "S2"), (0.0, float(np.log(4.0))))
    value = Value("margin", float(np.log(100.0)), (item,), keep={"S1": 1.0, "S2": 1.0, "": 1.0})
    assert value_of(value, market)[1] == pytest.approx(0.25 * 100 + 0.75 * 400)


def test_without_a_usable_ranking_nobody_has_a_tier(market):
    scored = apply_model(a_model(verdict="no-usable-ranking"), market)
    assert scored["win_probability"].tolist() == [0.25] * 4
    assert scored["tier"].tolist() == ["insufficient", "insufficient", "not_icp", "insufficient"]


def test_unworked_accounts_outside_the_range_of_worked_ones_are_flagged(market):
    support = Input("employees", "accounts", "number", ("below", "seen", "above"), (), edges=(40.0, 100.0))
    flags = apply_model(a_model(support=(support,)), market)["flags"]
    assert flags.str.contains("unknown_fit").tolist() == [False, False, True, False]


def test_order_of_rows_changes_no_score(market):
    one = apply_model(a_model(), market)
    other = apply_model(a_model(), market.iloc[::-1]).sort_values("account_id")
    pd.testing.assert_frame_equal(one, other.reset_index(drop=True), check_index_type=False)


def test_writing_and_reading_gives_the_same_model_and_the_same_scores(tmp_path, market):
    model = a_model()
    back = read_model(write_model(model, tmp_path / "model.json"))
    assert back == model
    assert back.version == model.version
    pd.testing.assert_frame_equal(apply_model(back, market), apply_model(model, market))


def test_a_newer_format_an_unknown_key_and_a_damaged_file_are_refused(tmp_path):
    document = to_document(a_model())
    with pytest.raises(BadInput, match="format 1"):
        from_document({**document, "format": 2})
    with pytest.raises(BadInput, match="pickle"):
        from_document({**document, "pickle": "x"})
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(BadInput, match="damaged"):
        read_model(tmp_path / "model.json")
    with pytest.raises(BadInput, match="not there"):
        read_model(tmp_path / "other.json")
