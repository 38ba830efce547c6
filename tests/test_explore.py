"""Explorers: controls move the answer, the answer is what the run's own functions say, a saved choice is what a run reads."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import ipywidgets as widgets
import numpy as np
import pandas as pd
import pytest

from icplab import segments
from icplab.align import rank_by_goals
from icplab.core.config import Goals, Settings, read_settings
from icplab.core.errors import BadInput, Problem
from icplab.core.progress import track
from icplab.explore.goals import rank, rankable_cuts, with_goals
from icplab.explore.results import results_of
from icplab.explore.saving import save_settings
from icplab.explore.segments import closed_by_account, segmentation_of, show_look, win_rates
from icplab.explore.shell import Answer, Explorer, choice, several, slider, whole
from icplab.explore.tiers import dearest_touch, ranked_scores, show_tiers
from icplab.explore.traits import EVERYWHERE, named_scopes, show_trait, strongest_first
from tests.test_segments import QUICK, two_groups

BIG_AND_SLOW, SMALL_AND_FAST = "big <b>and</b> slow", "small and fast"


def figures() -> pd.DataFrame:
    """Two segments: one wins large opportunities slowly, the other small ones fast; all else is equal."""
    rows = []
    for level, acv, days in ((BIG_AND_SLOW, 50_000.0, 200.0), (SMALL_AND_FAST, 10_000.0, 40.0)):
        for kpi, basis, value in (
            ("win_rate", "closed", 0.3),
            ("acv", "median", acv),
            ("cycle_days", "won_median", days),
        ):
            rows.append(("segment", level, "all", kpi, basis, value, value * 0.95, value * 1.05, "ok"))
    columns = ["cut", "level", "period", "kpi", "basis", "pooled", "pooled_low", "pooled_high", "status"]
    return pd.DataFrame(rows, columns=columns)


def test_the_explorer_of_goals_says_what_the_step_would():
    for size, leader in ((1.0, BIG_AND_SLOW), (0.0, SMALL_AND_FAST)):
        settings = with_goals(Settings(), size, 1.0)
        answer = rank(figures(), "segment", settings, seed=1)
        assert rank_by_goals(figures(), "segment", settings, seed=1)["level"].iloc[0] == leader
        assert leader in answer.says
        assert "<b>and</b>" not in answer.html()


def test_only_cuts_with_two_levels_to_compare_are_offered():
    one = figures().assign(cut="region").head(3)
    assert rankable_cuts(pd.concat([one, figures()])) == ["segment"]
    assert "nothing" in rank(one, "region", Settings(), seed=1).says.lower()


def explorer(save=None):
    def answer(n: int, kind: str) -> Answer:
        if n == 3:
            raise BadInput(Problem("ICP-E100", "three is refused", fix="take another"))
        return Answer(f"{kind} {n}")

    return Explorer("What?", {"n": whole("n", 1, 0, 9), "kind": choice("kind", ["a", "b"], "a")}, answer, save)


def test_a_moved_control_is_answered_and_what_cannot_be_is_said():
    shown = explorer()
    assert "a 1" in shown.output.value
    shown.controls["n"].value = 2
    assert "a 2" in shown.output.value
    assert "answered in" in shown.status.value
    shown.controls["n"].value = 3
    assert "three is refused" in shown.status.value
    assert "a 2" in shown.output.value, "the last answer stays"


def test_the_button_saves_what_the_controls_are_set_to():
    saved = []
    shown = explorer(lambda n, kind: saved.append((n, kind)) or "Saved.")
    shown.controls["kind"].value = "b"
    shown.button.click()
    assert saved == [(1, "b")]
    assert "Saved." in shown.status.value


def test_controls_keep_values_inside_their_range():
    assert slider("x", 7.0, 0, 1, 0.1).value == 1
    assert several("x", ["a", "b"], ["b"]).value == ("b",)
    assert isinstance(explorer().view, widgets.VBox)


def test_a_saved_choice_is_what_a_run_reads_and_comments_stay(tmp_path):
    (tmp_path / "icplab.toml").write_text(
        "# ours\n[goals]\nland_vs_expand = 0.6  # agreed in May\n\n[plan]\nfdr = 0.1\n"
    )
    said = save_settings(tmp_path, {"goals.land_vs_expand": 0.2, "plan.max_segments": 4, "capacity.tier_1": 120})
    text = (tmp_path / "icplab.toml").read_text()
    assert "# ours" in text
    assert "# agreed in May" in text
    settings = read_settings(tmp_path)
    assert (settings.goals.land_vs_expand, settings.plan.max_segments, settings.capacity.tier_1) == (0.2, 4, 120)
    assert "goals.land_vs_expand = 0.2" in said
    assert [p.name for p in tmp_path.iterdir()] == ["icplab.toml"]


@pytest.mark.parametrize(
    ("before", "choices"),
    [("", {"goals.land_vs_expand": 7.0}), ("", {"plan.max_segmnts": 4}), ("[plan\n", {"plan.max_segments": 4})],
)
def test_a_choice_that_no_run_would_take_is_refused_and_the_file_stays(tmp_path, before, choices):
    (tmp_path / "icplab.toml").write_text(before)
    with pytest.raises(BadInput):
        save_settings(tmp_path, choices)
    assert (tmp_path / "icplab.toml").read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["icplab.toml"]


def test_results_that_are_not_there_name_the_notebook_that_makes_them(tmp_path):
    (tmp_path / "lab").mkdir()
    step = SimpleNamespace(
        folder=tmp_path / "lab", has=lambda name: False, inputs={"files": [{"file": "a.csv", "sha256": "00"}]}
    )
    with pytest.raises(BadInput, match="run the notebook 20_performance first"):
        results_of(step, "kpis", "20_performance")


def test_goals_of_the_settings_are_kept_but_for_the_trade_offs():
    settings = replace(Settings(), goals=Goals(margin_floor=0.5))
    assert with_goals(settings, 0.1, 0.9).goals == Goals(
        margin_floor=0.5, deal_size_vs_velocity=0.1, land_vs_expand=0.9
    )


def test_long_loops_show_a_bar_in_the_lab_and_nowhere_else(monkeypatch):
    monkeypatch.delenv("ICPLAB_PROGRESS", raising=False)
    items = range(3)
    assert track(items, "counting") is items
    monkeypatch.setenv("ICPLAB_PROGRESS", "1")
    bar = track(items, "counting")
    assert bar.desc.startswith("counting")
    assert list(bar) == [0, 1, 2]


def trait_rows() -> pd.DataFrame:
    """One trait in the whole market and in one segment, another only in the market and not supported."""
    rows = [
        ("S1", "uses <b>X</b>", "yes", "win", 200, 40, 0.1, 1.5, 0.9, 2.5, 1.4, 0.8, 2.4, 0.4, "insufficient", ""),
        ("all", "uses <b>X</b>", "yes", "win", 900, 180, 0.12, 2.0, 1.5, 2.7, 1.9, 1.4, 2.6, 0.001, "supported", ""),
        ("all", "region", "north", "win", 900, 300, 0.01, 1.1, 0.8, 1.4, 1.0, 0.7, 1.4, 0.9, "not_supported", ""),
    ]
    columns = ["scope", "trait", "level", "outcome", "n", "support", "rate_diff", "odds_ratio", "low", "high"]
    return pd.DataFrame(
        rows, columns=[*columns, "adjusted", "adjusted_low", "adjusted_high", "q_value", "verdict", "flags"]
    )


def test_the_explorer_of_traits_shows_crude_beside_adjusted_the_whole_market_first():
    named = pd.DataFrame({"segment_id": ["S1"], "segment": ["Small <i>firms</i>"]})
    table = named_scopes(trait_rows(), named)
    assert table["place"].tolist() == [EVERYWHERE, EVERYWHERE, "Small <i>firms</i>"]
    assert strongest_first(table) == ["uses <b>X</b>", "region"]
    answer = show_trait(table, "uses <b>X</b>", "win", 0)
    assert answer.says == "uses <b>X</b> and winning: supported, × 1.90 (1.40–2.60)."
    html = answer.html()
    assert "<b>X</b>" not in html.replace("&lt;b&gt;X&lt;/b&gt;", "")
    assert "<i>firms</i>" not in html
    assert "no level with 999" in show_trait(table, "region", "win", 999).says
    assert "not measured" in show_trait(table, "region", "expansion", 0).says


def test_win_rates_of_a_look_are_counted_by_hand_and_know_that_accounts_repeat():
    label = np.array([1, 1, 1, 2, 2])
    worked = pd.DataFrame({"won": [2, 0, 1, 0, 0], "closed": [2, 2, 1, 3, 0]})
    rates = win_rates(label, worked, 2).set_index("level")
    assert rates["n"].tolist() == [5, 3]
    assert rates["value"].tolist() == [0.6, 0.0]
    alone = win_rates(np.ones(5, int), pd.DataFrame({"won": [1, 1, 1, 0, 0], "closed": [1] * 5}), 1)
    width = rates["high"] - rates["low"]
    assert width.iloc[0] > (alone["high"] - alone["low"]).iloc[0], "three accounts tell less than five"


def test_the_explorer_of_segments_starts_from_the_artefacts_of_a_run():
    accounts, catalogue, _ = two_groups(400)
    found = segments.fit_segments(accounts, catalogue, **QUICK)
    again = segmentation_of(json.loads(json.dumps(found.document())), found.assignments)
    looks = segments.prepare_preview(again, accounts)
    opportunities = pd.DataFrame(
        {"account_id": accounts["account_id"].head(100), "status": ["won", "lost", "open", "lost"] * 25}
    )
    worked = closed_by_account(opportunities, looks)
    assert worked.sum().tolist() == [25, 75]
    answer = show_look(segments.preview_segments(looks, k=2), worked)
    assert answer.says.startswith("2 segments on ")
    assert "CSV, 2 rows" in answer.html()


def test_the_explorer_of_tiers_counts_room_value_and_moves():
    n = 10
    scores = pd.DataFrame(
        {
            "account_id": [f"A{i}" for i in range(n + 2)],
            "segment_id": ["S1"] * n + ["unassigned", "S1"],
            "tier": ["tier_1"] * 2 + ["tier_2"] * 3 + ["tier_3"] * 5 + ["insufficient"] * 2,
            "expected_value": [1000.0 - 100 * i for i in range(n)] + [5000.0, np.nan],
            "win_probability": [0.5] * (n + 2),
        }
    )
    ranked = ranked_scores(scores)
    assert len(ranked) == n
    same = show_tiers(ranked, 2, 3, 0.0, "EUR")
    assert same.says == "Tier 1 holds 2 accounts and 35\u202f% of the expected value; 0 accounts change tier."
    more = show_tiers(ranked, 4, 3, 0.0, "EUR")
    assert more.says.startswith("Tier 1 holds 4 accounts and 62")
    assert "4 accounts change tier" in more.says, "two into tier 1, two into tier 2"
    none = show_tiers(ranked, 0, 0, 0.0, "EUR")
    assert none.says == "Tier 1 holds 0 accounts and none of the expected value; 5 accounts change tier."
    full = show_tiers(ranked, 0, 10, 0.0, "EUR")
    assert "7 accounts change tier" in full.says, "tier 2 takes them all"
    dear = show_tiers(ranked, 2, 3, 350.0, "EUR")
    assert "3 accounts change tier" in dear.says, "those worth less than a touch"
    assert "nothing to cut" in show_tiers(ranked.head(0), 2, 3, 0.0, "").says
    assert dearest_touch(ranked, 900.0) == 2000.0
