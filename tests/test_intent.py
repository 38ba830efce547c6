"""The half-life of a signal: chosen on later opportunities, from what was known before each was opened, or left as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icplab.core.model import from_document, to_document
from icplab.features import decay_before
from icplab.scores import HALF_LIVES, choose_half_life, score_accounts
from icplab.scores.intent import busy_level, intent_scores
from tests.made_market import AS_OF, SETTINGS, make_market, train


def activities(rows: list[tuple[str, str, float | None]]) -> pd.DataFrame:
    """Events of the canonical table: account, day, weight."""
    frame = pd.DataFrame(rows, columns=["account_id", "occurred_at", "weight"])
    return frame.assign(
        occurred_at=pd.to_datetime(frame["occurred_at"]).astype("datetime64[us]"),
        weight=frame["weight"].astype("float64"),
        type="email",
    ).astype({"account_id": "str", "type": "str"})


def opened(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["opportunity_id", "account_id", "created_at"])
    return frame.assign(created_at=pd.to_datetime(frame["created_at"]).astype("datetime64[us]")).astype(
        {"opportunity_id": "str", "account_id": "str"}
    )


def test_only_what_happened_before_the_day_counts_halved_by_its_age():
    events = activities(
        [
            ("a", "2026-01-01", 1.0),
            ("a", "2026-01-15", None),
            ("a", "2026-01-29", 1.0),
            ("a", "2026-02-01", 9.0),
            ("b", "2026-01-22", -3.0),
        ]
    )
    asked = opened([("o1", "a", "2026-01-29"), ("o2", "b", "2026-01-29"), ("o3", "c", "2026-01-29")])
    found = decay_before({"activities": events}, asked, (7, 14), AS_OF).set_index("opportunity_id")
    assert found.loc["o1", 14] == pytest.approx(2.0**-2 + 2.0**-1), "the day itself and what follows are left out"
    assert found.loc["o1", 7] == pytest.approx(2.0**-4 + 2.0**-2)
    assert found.loc[["o2", "o3"]].to_numpy().tolist() == [[0.0, 0.0]] * 2, "a weight is never negative"


def test_nothing_later_than_the_as_of_date_and_nothing_without_activities():
    events = activities([("a", "2026-01-10", 1.0)])
    asked = opened([("o1", "a", "2026-03-01")])
    early = decay_before({"activities": events}, asked, (7,), pd.Timestamp("2026-01-05"))
    assert early[7].tolist() == [0.0]
    assert decay_before({}, asked, (7,), AS_OF).empty
    assert decay_before({"activities": events.head(0)}, asked, (7,), AS_OF).empty


@pytest.fixture(scope="module")
def made():
    return make_market(n=1500, seed=11)


def signals(made, seed: int) -> pd.DataFrame:
    """What each account showed on the eve of each opportunity: a burst of some age, at every half-life."""
    rng = np.random.default_rng(seed)
    ids = np.sort(made.opportunities["opportunity_id"].to_numpy(dtype=object))
    age, size = rng.uniform(1, 90, len(ids)), rng.lognormal(1, 0.5, len(ids))
    return pd.DataFrame({"opportunity_id": ids, **{h: size * 2 ** (-age / h) for h in HALF_LIVES}})


def with_outcomes_of(made, decayed: pd.DataFrame, days: int, effect: float):
    """The market with every closed outcome drawn again from the signal of one half-life."""
    rows = made.opportunities.sort_values("opportunity_id", ignore_index=True)
    x = np.log1p(decayed[days].to_numpy())
    chance = 1 / (1 + np.exp(-(effect * (x - x.mean()) - 0.8)))
    won = np.random.default_rng(5).random(len(rows)) < chance
    status = rows["status"].where(rows["status"] == "open", np.where(won, "won", "lost"))
    return replace(made, opportunities=rows.assign(status=status.astype("str")))


def test_a_half_life_that_tells_more_is_chosen_and_its_evidence_shown(made):
    decayed = signals(made, 1)
    found = choose_half_life(train(with_outcomes_of(made, decayed, 7, 3.0)), decayed, SETTINGS, 1)
    assert (found.days, found.chosen) == (7, True)
    rows = found.figures.set_index("half_life")
    assert rows.loc["7", "low"] > 0 > rows.loc["none", "high"]
    assert rows["log_loss"].idxmin() == "7"


@pytest.mark.parametrize(("days", "effect"), [(30, 3.0), (7, 0.0)])
def test_without_evidence_the_default_is_kept_and_said(made, days, effect):
    decayed = signals(made, 2)
    found = choose_half_life(train(with_outcomes_of(made, decayed, days, effect)), decayed, SETTINGS, 1)
    assert (found.days, found.chosen) == (30, False)
    assert "default kept" in found.reason
    assert len(found.figures) == 1 + len(HALF_LIVES)


def test_no_activities_or_no_dates_keep_the_default(made):
    training = train(made)
    none = decay_before({}, made.opportunities, HALF_LIVES, AS_OF)
    assert choose_half_life(training, none, SETTINGS, 1).reason == "no activities before any opportunity: default kept"
    undated = replace(training, dated=False)
    assert choose_half_life(undated, signals(made, 1), SETTINGS, 1).reason == "no dates: default kept"


def test_scores_and_their_scale_use_the_chosen_half_life():
    events = activities([("a", "2026-06-23", 1.0), ("b", "2026-05-31", 2.0)])
    ids = pd.Series(["a", "b", "c"], dtype="str")
    assert intent_scores(ids, events, AS_OF, 1.0, 7).tolist() == [33.3, 9.3, 0.0]
    assert intent_scores(ids, events, AS_OF, 1.0, 30)[1] == 50.0
    assert busy_level(events, AS_OF, 7) == 4.0, "too few active accounts for a scale of their own"


def test_the_half_life_travels_with_the_model(made):
    from icplab.core.model import Model

    model = Model(*("2026-06-30", "t", "", 365, "EUR", "no-usable-ranking", 0.2), intent_days=7, intent_half=1.0)
    again = from_document(to_document(model))
    assert again.intent_days == 7
    events = activities([("a00001", "2026-06-23", 1.0)])
    scored = score_accounts(again, made.accounts, made.segments, events, AS_OF).set_index("account_id")
    assert scored.loc["a00001", "intent_score"] == 33.3
