"""Scores of people stand beside derived ones; a segment must carry a motion; focus follows evidence, and detectors both ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icplab import segments
from icplab.core.config import Settings
from icplab.segments.areas import AREAS, krippendorff_alpha, read_ratings, with_human_scores
from icplab.segments.fit import Segmentation

AS_OF = pd.Timestamp("2026-06-30")
RATERS = {
    "S1": {"raters": {"anna": {"strategic_fit": 5, "path_clarity": 2}, "ben": {"strategic_fit": 4, "path_clarity": 2}}},
    "Second": {"raters": {"anna": {"strategic_fit": 2}, "ben": {"strategic_fit": 1}}, "scores": {"sales_feedback": 3}},
}


def made(sizes: list[int]) -> Segmentation:
    """A segmentation with so many accounts per segment."""
    ids = [f"S{i + 1}" for i in range(len(sizes))]
    label = np.repeat(ids, sizes)
    table = pd.DataFrame(
        {
            "account_id": [f"A{i:04d}" for i in range(len(label))],
            "segment_id": label,
            "segment": label,
            "membership": 1.0,
        }
    )
    empty = pd.DataFrame()
    assigner = {"kind": "mixture", "recipe": {"numbers": [], "discrete": []}, "ids": ids, "names": ids}
    return Segmentation(table, empty, empty, empty, "natural", {"accounts": len(label)}, assigner)


def deals(found: Segmentation, won: dict[str, float], owners: int = 9) -> pd.DataFrame:
    """One closed opportunity per account, of which the share given per segment was won."""
    of = found.assignments
    rank = of.groupby("segment_id").cumcount() / of.groupby("segment_id")["account_id"].transform("size")
    return pd.DataFrame(
        {
            "opportunity_id": "o" + of["account_id"],
            "account_id": of["account_id"],
            "status": np.where(rank < of["segment_id"].map(won), "won", "lost"),
            "created_at": AS_OF - pd.Timedelta(days=30),
            "owner": [f"u{i % owners}" for i in range(len(of))],
            "source": "web",
            "acv": 100.0,
        }
    )


def settings(**entries) -> Settings:
    return replace(Settings(), playbook={"segments": entries})


class TestAreas:
    def test_every_area_has_both_ends_of_its_scale_in_words(self):
        table = segments.score_anchors()
        assert table["area"].tolist() == list(AREAS)
        assert table[["five", "one"]].map(len).min().min() > 20

    def test_the_score_of_people_is_the_agreed_one_or_the_median_of_the_raters(self):
        table = pd.DataFrame({"segment": ["First", "Second"], **dict.fromkeys(AREAS, 3.3)}, index=["S1", "S2"])
        told = with_human_scores(table, settings(**RATERS))
        assert told.loc["S1", ["strategic_fit", "path_clarity"]].tolist() == [4.5, 2.0]
        assert told.loc["S2", ["strategic_fit", "sales_feedback", "path_clarity"]].tolist() == [1.5, 3.0, 3.3]
        assert told["scored_by_people"].tolist() == ["path_clarity;strategic_fit", "sales_feedback;strategic_fit"]

    def test_what_is_no_score_from_one_to_five_is_not_taken(self):
        bad = {
            "S1": {"scores": {"strategic_fit": 6, "path_clarity": "high", "sales_feedback": True}, "raters": ["anna"]}
        }
        assert read_ratings(settings(**bad), ["S1"], ["First"]).empty

    def test_human_and_derived_stand_beside_each_other_with_the_anchors(self):
        row = {"segment_id": "S1", "segment": "x", "scored_by_people": "path_clarity", "path_clarity": 5.0}
        row |= {f"{a}_derived": 2.5 for a in AREAS} | {a: 2.5 for a in AREAS if a != "path_clarity"}
        table = segments.compare_scores(pd.DataFrame([row])).set_index("area")
        assert table.loc["path_clarity", ["human", "derived", "difference", "far"]].tolist() == [5.0, 2.5, 2.5, True]
        assert table["human"].isna().sum() == 4

    def test_alpha_is_that_of_a_worked_example(self):
        # Interval data of four raters, from Krippendorff's computing paper (2011), section F.
        a, b, c, d = (
            [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
            [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
        )
        units = [np.array([x for x in u if x]) for u in zip(a, b, c, d, strict=True)]
        assert krippendorff_alpha([u.astype(float) for u in units if len(u) > 1]) == pytest.approx(0.849, abs=0.001)

    def test_agreement_is_told_per_area_and_over_all(self):
        table = segments.measure_agreement(settings(**RATERS), ["S1", "S2"], ["First", "Second"]).set_index("area")
        assert table.loc["strategic_fit", ["raters", "units", "apart"]].tolist() == [2, 2, 1.0]
        assert table.loc["path_clarity", "agree"] == "yes"
        assert segments.measure_agreement(settings(), ["S1"], ["First"]).empty


class TestMotion:
    def test_a_segment_needs_accounts_deals_and_wins_and_must_not_be_nearly_everything(self):
        found = made([300, 80, 60])
        told = segments.measure_motion(
            found, pd.DataFrame(), deals(found, {"S1": 0.2, "S2": 0.25, "S3": 0.1}), settings=Settings(), as_of=AS_OF
        )
        assert told["verdict"].tolist() == ["too broad", "own motion", "too small"]  # S3: 6 wins
        assert told["deals_a_year"].tolist() == [300, 80, 60]
        assert told["sellers"].tolist() == [9, 9, 9]

    def codes(self, found, table, motion=None, **playbook) -> set[str]:
        told = segments.findings(
            found, table, pd.DataFrame({"f1": [1.0]}), pd.DataFrame(), pd.DataFrame({"account_id": []}),
            settings=settings(**playbook), motion=motion,
        )  # fmt: skip
        return {f.code for f in told}

    @pytest.mark.parametrize(("won", "owners", "said"), [(0.5, 9, False), (0.02, 9, True), (0.5, 3, True)])
    def test_too_many_to_execute_is_said_for_lack_of_wins_or_sellers_only(self, won, owners, said):
        found = made([100, 100, 100, 100])
        closed = deals(found, dict.fromkeys(found.segment_ids, won), owners)
        motion = segments.measure_motion(found, pd.DataFrame(), closed, settings=Settings(), as_of=AS_OF)
        table = pd.DataFrame(
            {"segment_id": found.segment_ids, "segment": found.segment_ids, "wins": 99.0, "accounts": 100}
        )
        assert ("too-many-segments" in self.codes(found, table, motion)) == said

    @pytest.mark.parametrize(("second", "said"), [("Save time", True), (" save  TIME", True), ("Save money", False)])
    def test_one_icp_for_all_is_said_when_the_playbook_treats_all_alike(self, second, said):
        found = made([100, 100])
        table = pd.DataFrame(
            {"segment_id": found.segment_ids, "segment": found.segment_ids, "wins": 99.0, "accounts": 100}
        )
        playbook = {"S1": {"message": "Save time"}, "S2": {"message": second}}
        assert ("single-icp" in self.codes(found, table, **playbook)) == said


class TestFocus:
    def test_it_is_yes_no_or_not_yet_known_by_the_evidence(self):
        found = made([200, 200, 200])
        told = segments.judge_focus(found, deals(found, {"S1": 0.5, "S2": 0.3, "S3": 0.1}), {}).set_index("segment_id")
        assert told["conversion"].tolist() == ["better", "alike", "worse"]
        assert told["focus"].tolist() == ["yes", "not yet known", "no"]
        assert set(told["feedback"]) == {"not measured"}

    def test_signals_that_disagree_leave_it_open_and_the_reason_is_named(self):
        found = made([200, 200])
        leads = pd.DataFrame({"account_id": found.assignments["account_id"]})
        first = found.assignments["segment_id"] == "S1"
        refused = first & (np.arange(400) % 10 > 0)
        leads["accepted_at"] = pd.Series(AS_OF, index=leads.index).mask(refused)
        leads["disqualified_at"] = pd.Series(AS_OF, index=leads.index).where(refused)
        leads["disqualification_reason"] = np.where(refused, "no budget", None)
        told = segments.judge_focus(found, deals(found, {"S1": 0.6, "S2": 0.2}), {"leads": leads}).set_index(
            "segment_id"
        )
        assert told.loc["S1", ["conversion", "acceptance", "focus"]].tolist() == ["better", "worse", "not yet known"]
        assert told.loc["S1", "disqualified_for"] == "no budget"

    def test_alike_segments_deserve_no_more_focus(self):
        found = made([200, 200, 200])
        told = segments.judge_focus(found, deals(found, dict.fromkeys(found.segment_ids, 0.3)), {})
        assert set(told["focus"]) == {"not yet known"}

    def test_context_counts_needs_channels_committee_and_reasons(self):
        found = made([2, 2])
        accounts = pd.DataFrame(
            {"account_id": ["A0000", "A0001", "A0002"], "need": ["a;b", "a", "b"], "n_roles": [1, 3, 5]}
        )
        catalogue = pd.DataFrame({"trait": ["need"], "role": ["need"], "table": ["accounts"], "excluded": [False]})
        leads = pd.DataFrame({"account_id": ["A0000"], "disqualification_reason": ["no budget"]})
        told = segments.measure_context(
            found, accounts, deals(found, {"S1": 1, "S2": 0}), catalogue=catalogue, tables={"leads": leads}
        ).set_index(["segment_id", "aspect", "level"])
        assert told.loc[("S1", "need", "a"), ["share", "share_outside", "n"]].tolist() == [0.6667, 0.0, 2]
        assert told.loc[("S2", "committee", "4 or more roles"), "share"] == 1.0
        assert told.loc[("S1", "disqualified", "no budget"), "n"] == 1
