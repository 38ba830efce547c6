"""What the council is asked to decide, and two runs side by side: counted by hand, hostile names harmless."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from icplab.core.findings import Finding, findings_table
from icplab.core.store import Store
from icplab.report import render_comparison, render_index
from icplab.report.decide import decisions
from icplab.run.compare import compare_kpis, compare_tiers, compare_traits, comparison_of
from tests.made_run import CONTEXT, HOSTILE, kpis, scores, write_artefacts

AS_OF = pd.Timestamp("2026-06-30")
FOUND = findings_table(
    [
        Finding("tier-promise", "50_tiers", "info", "next quarter", "Tier 1 holds 300 accounts.", {}),
        Finding("tier-promise", "50_tiers", "info", "ranking", "It ranks.", {}),
        Finding("segments-natural", "30_segments", "info", "map", "Four segments.", {}),
        Finding("plan-gap", "20_performance", "act", "won", "Won reached 60 % of plan.", {}, action="Close the gap."),
        Finding("leak", "40_traits", "watch", "x", "x is a leak.", {}),
    ]
)


def test_what_asks_for_action_comes_first_then_what_a_good_run_asks():
    asked = decisions(FOUND, AS_OF, first_run=True)
    assert asked["code"].tolist() == ["plan-gap", "tier-promise", "segments-natural"]
    assert asked["question"].tolist()[0] == ""
    assert asked["sentence"].tolist()[1] == "Tier 1 holds 300 accounts.", "the finding the question is about"
    assert asked["by"].dt.strftime("%Y-%m-%d").tolist() == ["2026-07-14", "2026-07-14", "2026-07-30"]
    assert asked["owner"].str.len().gt(0).all()


def test_the_map_is_decided_once_and_the_tiers_every_quarter():
    assert decisions(FOUND, AS_OF, first_run=False)["code"].tolist() == ["plan-gap", "tier-promise"]


def test_a_run_without_findings_asks_nothing():
    assert decisions(FOUND.head(0), AS_OF, first_run=True).empty


@pytest.fixture
def two_runs(tmp_path):
    """The made run, and the same one with one key figure moved, ten accounts promoted and one trait no longer supported."""
    before, after = tmp_path / "2026Q1", tmp_path / "2026Q2"
    before.mkdir()
    write_artefacts(before)
    shutil.copytree(before, after)
    moved = kpis()
    moved.loc[1, ["value", "low", "high"]] = 0.40, 0.36, 0.44
    tiers = scores()
    third = tiers.index[tiers["tier"] == "tier_3"][:10]
    tiers.loc[third, "tier"] = "tier_1"
    traits = Store(before).read("traits").copy()
    supported = traits.index[(traits["scope"] == "all") & (traits["verdict"] == "supported")]
    traits.loc[supported[:1], "verdict"] = "not_supported"
    for name, table in (("kpis", moved), ("scores", tiers), ("traits", traits)):
        for path in after.rglob(f"{name}.parquet"):
            table.to_parquet(path)
    return before, after


def facts(name: str, as_of: str) -> dict:
    return {"period": name, "as_of": as_of, "inputs": name, "seed": 1, "verdicts": {"segmentation": HOSTILE[0]}}


def test_what_moved_is_counted(two_runs):
    apart = compare_kpis(*two_runs).set_index(["kpi", "basis"])["apart"]
    assert apart[apart == "yes"].index.tolist() == [("win_rate", "within_365d")]
    flow = compare_tiers(*two_runs)
    assert flow.loc["tier_3", "tier_1"] == 10
    assert flow.to_numpy().sum() == 240
    changed = compare_traits(*two_runs)
    assert changed[["before", "after"]].to_numpy().tolist() == [["supported", "not_supported"]]


def test_the_page_says_it_and_nothing_on_it_is_live(two_runs, tmp_path):
    runs = list(zip(two_runs, (facts("2026Q1", "2026-03-31"), facts(HOSTILE[3], "2026-06-30")), strict=True))
    page = render_comparison(comparison_of(*runs), tmp_path / "out" / "compare.html", inside=True)
    html = page.read_text(encoding="utf-8")
    assert "10 of 240 accounts changed tier, 1 key figure moved beyond doubt" in html
    assert "10 accounts rose, 0 fell" in html
    assert "<script" not in html
    assert "<img" not in html
    assert "data:" not in html.replace("img-src data:", "")
    assert len(list((page.parent / "csv").glob("compare-*.csv"))) == 3
    again = render_comparison(comparison_of(*runs), tmp_path / "again" / "compare.html", inside=True)
    assert again.read_bytes() == page.read_bytes()


def test_the_council_pack_leads_to_the_comparison_when_there_is_one(two_runs):
    _, after = two_runs
    assert "compare.html" not in render_index(after, CONTEXT).read_text(encoding="utf-8")
    (after / "compare.html").write_text("")
    assert 'href="compare.html"' in render_index(after, CONTEXT).read_text(encoding="utf-8")
