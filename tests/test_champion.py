"""The card in force changes only for one that is proven better on opportunities neither has seen."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from icplab.core.model import add_segments, from_document, to_document
from icplab.core.store import Store
from icplab.scores import (
    build_training,
    champion_findings,
    check_forward,
    fit_model,
    read_champion,
    score_accounts,
    settle_champion,
)
from icplab.tiers import set_tiers
from tests.made_market import AS_OF, NO_ACTIVITIES, NO_SUBSCRIPTIONS, SETTINGS, make_market

SINCE = AS_OF - pd.Timedelta(days=100)
SEGMENTS = {"kind": "mixture", "ids": ["S1", "S2"], "names": ["one", "two"]}


def known_on(opportunities: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    """Opportunities as an export of that day would hold them."""
    rows = opportunities[opportunities["created_at"] <= day]
    later = rows["closed_at"] > day
    return rows.assign(status=rows["status"].mask(later, "open"), closed_at=rows["closed_at"].mask(later))


def fit(made, day, **change):
    rows = known_on(made.opportunities, day)
    training = build_training(made.accounts, rows, made.catalogue, made.segments, SETTINGS, day, **change)
    check = check_forward(training, SETTINGS, 1)
    return training, fit_model(training, check, SETTINGS, NO_SUBSCRIPTIONS, segments=SEGMENTS)


@pytest.fixture(scope="module")
def made():
    return make_market(n=1300)


@pytest.fixture(scope="module")
def old(made):
    return fit(made, SINCE)[1]


@pytest.fixture(scope="module")
def today(made):
    return fit(made, AS_OF)


@pytest.fixture(scope="module")
def kept(today, old):
    return settle_champion(*today, old, 1)


def test_without_an_earlier_run_the_new_card_is_in_force_and_nothing_is_said(today, tmp_path):
    contest = settle_champion(*today, None, 1)
    assert (contest.verdict, contest.model.fitted_on) == ("first", f"{AS_OF:%Y-%m-%d}")
    assert champion_findings(contest) == []
    assert read_champion(None) is None
    assert read_champion(Store(tmp_path)) is None


def test_a_card_of_the_same_market_stays_in_force_with_today_s_money(today, old, kept):
    contest = kept
    assert contest.verdict == "champion"
    model = contest.model
    assert (model.inputs, model.calibration) == (old.inputs, old.calibration)
    assert (model.value, model.as_of) == (today[1].value, f"{AS_OF:%Y-%m-%d}")
    assert model.fitted_on == f"{SINCE:%Y-%m-%d}"
    assert model.contest["champion"] == old.version
    (found,) = champion_findings(contest)
    assert found.code == "model-kept"
    assert "no proof" in found.sentence


def test_a_card_that_ranks_the_wrong_way_is_replaced(today, old):
    spoiled = [replace(i, points=tuple(-int(p) for p in i.points), missing=0.0) for i in old.inputs]
    contest = settle_champion(*today, replace(old, inputs=tuple(spoiled)), 1)
    assert contest.verdict == "challenger"
    assert contest.figures.set_index("figure").loc["pairs in order", "low"] > 0
    assert contest.model.inputs == today[1].inputs
    assert champion_findings(contest)[0].code == "model-changed"


def test_a_card_whose_level_is_far_off_is_replaced_for_its_probabilities(today, old):
    contest = settle_champion(*today, replace(old, calibration=(old.calibration[0] - 1.5, old.calibration[1])), 1)
    assert contest.verdict == "challenger"
    assert "Brier" in contest.reason


def test_only_what_was_opened_since_is_tested(made, kept):
    opened = made.opportunities[made.opportunities["created_at"] > SINCE]
    assert 0 < kept.figures["n"].iloc[0] <= len(opened)


def test_a_card_that_stays_is_met_by_the_longer_span_next_time(today, kept):
    second = settle_champion(*today, from_document(to_document(kept.model)), 1)
    assert second.model.fitted_on == kept.model.fitted_on == f"{SINCE:%Y-%m-%d}"
    pd.testing.assert_frame_equal(kept.figures, second.figures)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"horizon_days": 180}, "horizon"),
        ({"inputs": "leak"}, "may no longer predict"),
        ({"segments": "redrawn"}, "segments were redrawn"),
    ],
)
def test_a_card_that_cannot_go_on_is_replaced_and_the_reason_is_said(today, old, change, words):
    if change.get("inputs"):
        change = {
            "inputs": (replace(old.inputs[0], trait="signed_on", kind="flag", levels=("no", "yes"), points=(0, 5)),)
        }
    training, challenger = today
    if change.pop("segments", ""):
        challenger = replace(challenger, segments={**SEGMENTS, "ids": ["S3", "S4"]})
    contest = settle_champion(training, challenger, replace(old, **change), 1)
    assert contest.verdict == "forced"
    assert words in contest.reason


def test_too_few_outcomes_since_prove_nothing(today, old):
    recent = replace(old, as_of=f"{AS_OF - pd.Timedelta(days=3):%Y-%m-%d}")
    contest = settle_champion(*today, recent, 1)
    assert contest.verdict == "champion"
    assert "only" in contest.reason
    assert contest.figures.empty


def test_a_card_that_ranks_nothing_is_never_defended(today, old):
    silent = replace(today[1], verdict="no-usable-ranking")
    assert settle_champion(today[0], silent, old, 1).verdict == "first"
    assert settle_champion(*today, replace(old, verdict="no-usable-ranking"), 1).verdict == "first"


def test_the_card_that_stays_places_every_account_within_today_s_capacity(made, kept):
    scored = score_accounts(kept.model, made.accounts, made.segments, NO_ACTIVITIES, AS_OF)
    model, placed = set_tiers(kept.model, add_segments(made.accounts, made.segments), scored, SETTINGS)
    assert model.usable
    assert placed["tier"].value_counts()["tier_1"] == pytest.approx(0.2 * len(placed), rel=0.1)
    assert placed["tier_confidence"].notna().any()
