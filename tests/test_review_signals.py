"""The four review signals and the cause of failure: there where planted, silent where levels are alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icplab.core.config import Plan, Settings
from icplab.core.stats.intervals import wilson
from icplab.performance import causes, signals, tally

SETTINGS = Settings(plan=Plan(minimum_n=40))
MEASURES = ("qualified", "accepted", "good fit", "poor fit", "won")


def evidence(levels: dict[str, dict[str, float]], n: int = 200, visits: dict[str, float] | None = None) -> pd.DataFrame:
    """Exactly `rate` of `n` rows of each measure are a hit; one family a row."""
    rows = []
    for level, rates in levels.items():
        for measure in MEASURES:
            hits = round(n * rates.get(measure, 0.5))
            rows += [(measure, float(i < hits), None, f"{level} {measure} {i}", level) for i in range(n)]
        volume = (visits or {}).get(level, 100.0)
        rows += [(kind, volume, None, None, level) for kind in ("visits", "forms")]
        rows += [
            ("cycle", rates.get("cycle", 60.0) * f, None, f"{level} c{i}", level) for i in range(50) for f in (0.5, 2)
        ]
    frame = pd.DataFrame(rows, columns=["measure", "value", "reason", "family_id", "channel"])
    return frame.assign(segment=None, campaign=None).astype(dict.fromkeys(("segment", "campaign", "family_id"), "str"))


def verdicts(frame: pd.DataFrame) -> dict[tuple[str, str], str]:
    found = signals.review_signals(frame, SETTINGS)
    return dict(zip(zip(found["level"], found["signal"], strict=True), found["verdict"], strict=True))


def test_levels_that_are_alike_show_no_signal():
    assert set(verdicts(evidence({"web": {}, "events": {}, "mail": {}})).values()) == {"no"}


def test_much_traffic_that_rarely_qualifies_is_the_first_signal():
    found = verdicts(evidence({"web": {"qualified": 0.2}, "events": {}, "mail": {}}, visits={"web": 400.0}))
    assert found["web", "high traffic, low qualification"] == "yes"
    assert [k for k, v in found.items() if v == "yes"] == [("web", "high traffic, low qualification")]


def test_little_traffic_that_sales_accepts_is_the_second():
    found = verdicts(evidence({"web": {}, "events": {"accepted": 0.9}, "mail": {}}, visits={"events": 20.0}))
    assert [k for k, v in found.items() if v == "yes"] == [("events", "low traffic, high sales acceptance")]


def test_many_forms_with_poor_fit_are_the_third():
    found = verdicts(evidence({"web": {"poor fit": 0.9}, "events": {}, "mail": {}}, visits={"web": 400.0}))
    assert [k for k, v in found.items() if v == "yes"] == [("web", "many forms, low sales fit")]


def test_strong_conversations_are_the_fourth_signal_only_when_cycles_are_slow():
    slow = {"web": {"good fit": 0.9, "cycle": 200.0}, "events": {}, "mail": {}}
    quick = {"web": {"good fit": 0.9, "cycle": 60.0}, "events": {}, "mail": {}}
    assert verdicts(evidence(slow))["web", "strong conversations, slow cycles"] == "yes"
    assert "yes" not in verdicts(evidence(quick)).values()


def test_below_the_minimum_the_answer_is_not_enough_evidence():
    few = evidence({"web": {"qualified": 0.0}, "events": {}}, n=30, visits={"web": 400.0})
    assert verdicts(few)["web", "high traffic, low qualification"] == "not enough evidence"


def test_a_signal_becomes_a_note_with_its_numbers_and_what_to_do():
    table = signals.review_signals(
        evidence({"web": {"qualified": 0.2}, "events": {}, "mail": {}}, visits={"web": 400.0}), SETTINGS
    )
    (found,) = signals.find_signals(table)
    assert (found.code, found.severity) == ("high-traffic-low-qualification", "info")
    assert "2.0 times" in found.sentence  # 400 against a mean of 200
    assert found.numbers["value"] == pytest.approx(0.2)
    assert found.numbers["rest"] == pytest.approx(0.5)


def test_chance_alone_raises_no_signal_more_often_than_one_market_in_twenty():
    frame = evidence({f"c{i}": {} for i in range(4)}, n=60, visits={"c0": 300.0, "c1": 20.0})
    rates, raised = frame["measure"].isin(MEASURES).to_numpy(), 0
    for seed in range(16):
        drawn = np.random.default_rng(seed).random(rates.sum()) < 0.4
        frame.loc[rates, "value"] = drawn.astype(float)
        raised += (signals.review_signals(frame, SETTINGS)["verdict"] == "yes").any()
    assert raised <= 2  # at 5 % more than two of sixteen are rarer than 5 %


def failing(reasons: dict[str, list[str]]) -> pd.DataFrame:
    """Levels whose written reasons are given; web wins less than the others."""
    frame = evidence({level: {"won": 0.1 if level == "web" else 0.5} for level in reasons})
    parts = [
        pd.DataFrame({"measure": "failed", "value": 1.0, "reason": said, "channel": level}).assign(
            family_id=lambda t, level=level: [f"{level} f{i}" for i in range(len(t))], segment=None, campaign=None
        )
        for level, said in reasons.items()
    ]
    return pd.concat([frame, *parts], ignore_index=True)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("No budget this year", "the pain is not urgent"),
        ("no response", "the channel is poor"),
        ("Wrong person, no authority", "the message attracts the wrong ones"),
    ],
)
def test_the_cause_is_the_one_named_more_often_than_elsewhere(reason, cause):
    frame = failing({"web": [reason] * 90 + ["price"] * 10, "events": ["price"] * 100, "mail": ["price"] * 100})
    table = causes.name_causes(frame, SETTINGS).set_index("level")
    assert table.loc["web", "cause"] == cause
    assert table.loc["web", "fails_at"] == "won"
    assert table.loc["events", "cause"] == causes.NOTHING


def test_a_level_that_fails_for_the_same_reasons_as_others_has_no_named_cause():
    frame = failing({level: ["no budget"] * 50 + ["price"] * 50 for level in ("web", "events", "mail")})
    assert (
        causes.name_causes(frame, SETTINGS).set_index("level").loc["web", "cause"] == "not enough evidence to name one"
    )


def test_the_playbook_says_what_a_reason_means():
    said = pd.Series(["Went with Globex", "price", None], dtype="str")
    assert causes.classify_reasons(said, {}).fillna("-").tolist() == ["other", "other", "-"]
    own = {"reasons": {"went with globex": "audience"}}
    assert causes.classify_reasons(said, own).fillna("-").tolist() == ["audience", "other", "-"]


def test_nothing_is_reviewed_before_leads_and_conversations_gave_evidence():
    table = causes.name_causes(evidence({"web": {"won": 0.0}, "events": {}}, n=15), SETTINGS)
    assert table["cause"].str.startswith("not enough evidence: review it after 40").all()


def test_evidence_counts_what_happened_to_leads_and_deals():
    day = pd.Timestamp("2026-01-05")
    leads = pd.DataFrame(
        {
            "lead_id": ["l1", "l2", "l3"],
            "account_id": pd.array(["a1", None, "a2"], dtype="str"),
            "company": pd.array([None, "Globex", None], dtype="str"),
            "source": ["Web", "web ", "mail"],
            "campaign_id": pd.array([None] * 3, dtype="str"),
            "qualified_at": [day, pd.NaT, pd.NaT],
            "accepted_at": [day, pd.NaT, pd.NaT],
            "disqualified_at": [pd.NaT, day, pd.NaT],  # l3 is still pending
            "disqualification_reason": pd.array([None, "no budget", None], dtype="str"),
        }
    )
    deals = pd.DataFrame(
        {
            "opportunity_id": ["o1", "o2"],
            "account_id": ["a1", "a2"],
            "source": ["web", "mail"],
            "campaign_id": pd.array([None, None], dtype="str"),
            "status": ["won", "lost"],
            "loss_reason": pd.array([None, "price"], dtype="str"),
            "cycle_days": [30.0, np.nan],
        }
    )
    traffic = {
        "month": [day],
        "channel": ["WEB"],
        "visits": [10.0],
        "forms": [2.0],
        "segment": ["S1"],
        "campaign_id": ["k"],
    }
    feedback = {"account_id": ["a2"], "opportunity_id": [None], "fit": ["poor"], "reason": ["not their problem"]}
    tables = {
        "traffic": pd.DataFrame(traffic),
        "leads": leads,
        "feedback": pd.DataFrame(feedback).astype({"opportunity_id": "str"}),
    }
    accounts = pd.DataFrame({"account_id": ["a1", "a2"], "family_id": ["a1", "a1"]})
    segments = pd.DataFrame({"account_id": ["a1", "a2"], "segment_id": ["S1", "S2"], "segment": ["Small", "Large"]})
    found = signals.place_evidence(tables, deals, accounts, segments)
    counted = found.groupby("measure")["value"].agg(["size", "sum"])
    assert counted.loc["qualified"].tolist() == [2, 1]  # l1 and l2; l3 is pending
    assert counted.loc["accepted"].tolist() == [1, 1]  # l2 was never offered to sales
    assert counted.loc["won"].tolist() == [2, 1]
    assert counted.loc["poor fit"].tolist() == [1, 1]
    assert sorted(found.loc[found["measure"] == "failed", "reason"]) == ["no budget", "not their problem", "price"]
    assert found.loc[found["measure"] == "visits", ["channel", "segment", "value"]].to_numpy().tolist() == [
        ["web", "Small", 10.0]
    ]
    assert set(found.loc[found["measure"] == "qualified", "channel"]) == {"web"}


def test_a_tally_is_wilsons_interval_where_every_family_has_one_row():
    frame = pd.DataFrame({"g": ["x"] * 40 + ["y"] * 10, "family_id": [f"f{i}" for i in range(50)]})
    table = tally.tally(frame, ["g"], [True] * 10 + [False] * 40, 40).set_index("g")
    low, high = wilson(10, 40)
    assert table.loc["x", ["n", "hits", "value"]].tolist() == [40, 10, 0.25]
    assert table.loc["x", ["low", "high"]].tolist() == pytest.approx([float(low), float(high)])
    assert table["status"].tolist() == ["ok", "insufficient"]


def test_rows_of_one_family_count_for_less():
    hits = [True, True, True, True, False, False, False, False] * 10
    pairs = pd.DataFrame({"g": "x", "family_id": [f"f{i // 4}" for i in range(80)]})
    alone = pairs.assign(family_id=[f"f{i}" for i in range(80)])
    clustered, single = (tally.tally(f, ["g"], hits, 1).iloc[0] for f in (pairs, alone))
    assert clustered["high"] - clustered["low"] > 1.8 * (single["high"] - single["low"])


def test_a_contrast_equals_two_tallies_with_families_on_both_sides():
    rng = np.random.default_rng(5)
    n = 400
    frame = pd.DataFrame({"g": rng.choice(["x", "y", "z"], n), "family_id": rng.integers(0, 120, n).astype(str)})
    hit = rng.random(n) < 0.3
    found = tally.contrast(frame, "g", hit, 40)
    for level in "xyz":
        both = tally.tally(frame.assign(own=frame["g"] == level), ["own"], hit, 40).set_index("own")
        assert found.loc[level, ["n", "value", "low", "high"]].tolist() == pytest.approx(
            both.loc[True, ["n", "value", "low", "high"]].tolist()
        )
        assert found.loc[level, ["rest_n", "rest", "rest_low", "rest_high"]].tolist() == pytest.approx(
            both.loc[False, ["n", "value", "low", "high"]].tolist()
        )
    assert (found["p_above"] + found["p_below"]).tolist() == pytest.approx([1, 1, 1])
