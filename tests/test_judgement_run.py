"""From exports on disk to tiers, CRM files and scores of new accounts, in a workspace with too few wins for a model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from icplab import activation, cli, scores, segments, tiers, traits
from icplab.core.model import add_segments, with_posteriors, write_model
from icplab.step import open_step

WHOLE = {
    "kind": "whole",
    "ids": ["S0"],
    "names": ["whole market"],
    "recipe": {"numbers": [], "discrete": [], "left_out": []},
}
FILES = ("accounts.csv", "opportunities.csv")
pytestmark = pytest.mark.slow


def plant_trait(workspace: Path) -> None:
    """A trait strong enough to be supported by 70 wins, so that the profile gets a rule."""
    accounts, deals = (pd.read_csv(workspace / f, dtype="str", keep_default_na=False) for f in FILES)
    won, lost = (accounts["account_id"].isin(deals.loc[deals["status"] == s, "account_id"]) for s in ("won", "lost"))
    chance = np.where(won, 0.72, np.where(lost, 0.3, 0.5))
    has = np.random.default_rng(3).random(len(accounts)) < chance
    accounts.assign(cloud_first=np.where(has, "true", "false")).to_csv(workspace / FILES[0], index=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The steps 30 to 60 as their notebooks call them."""
    folder = tmp_path_factory.mktemp("tiny")
    assert cli.main(["simulate", str(folder / "ws"), "--accounts", "220", "--seed", "7"]) == 0
    plant_trait(folder / "ws")
    step = open_step("50_tiers", workspace=str(folder / "ws"), run=str(folder / "run"))
    accounts, opportunities, catalogue = step.accounts, step.opportunities, step.catalogue
    assignments = segments.assign_segments(WHOLE, accounts)
    posteriors = segments.posteriors_of(WHOLE, accounts)
    listed = pd.DataFrame({"segment_id": ["S0"], "segment": ["whole market"]})
    given = {"settings": step.settings, "as_of": step.as_of}
    audit = traits.audit_leaks(opportunities, accounts, catalogue, **given, segments=assignments)
    shared = {**given, "audit": audit, "posteriors": posteriors, "seed": step.seed}
    table = traits.measure_traits(opportunities, accounts, catalogue, assignments, **shared)
    icps = traits.draft_icps(table, listed, assignments, opportunities, accounts, catalogue, **given)
    members = with_posteriors(assignments, posteriors)
    leaks = scores.quarantined_traits(table)
    training = scores.build_training(accounts, opportunities, catalogue, members, step.settings, step.as_of, leaks)
    check = scores.check_forward(training, step.settings, step.seed)
    fitted = scores.fit_model(training, check, step.settings, step.tables["subscriptions"], segments=WHOLE)
    model = scores.settle_champion(training, fitted, None, step.seed).model
    market = add_segments(accounts, members)
    scored = scores.score_accounts(model, accounts, members, step.signals, step.as_of)
    model, placed = tiers.set_tiers(model, market, scored, step.settings)
    judged = tiers.judge_tiers(model, placed, market, traits.match_icp(icps, accounts, members))
    promise = tiers.measure_tiers(model, market, judged, opportunities, step.settings)
    files = activation.write_files(judged, accounts, assignments, model, step.settings, folder / "activation")
    return SimpleNamespace(**{k: v for k, v in locals().items() if k != "tmp_path_factory"})


def test_there_is_too_little_for_a_model_and_no_tier_is_sold_as_measured(made):
    assert made.model.verdict == "insufficient-evidence"
    assert "tier_1" not in set(made.judged["tier"]), "the best tier is kept for what was measured"
    assert made.judged["tier_confidence"].isna().all()
    assert made.judged["win_probability"].nunique() == 1
    assert {"insufficient-evidence"} == {f.code for f in scores.findings(made.check, made.model)}


def test_tiers_follow_the_rule_of_the_profile_and_are_labelled(made):
    ranked = made.judged[made.judged["tier"].isin(["tier_2", "tier_3"])]
    assert len(ranked) > 0
    assert ranked["flags"].str.contains("judgement").all()
    assert ranked["icp"].map({"yes": "tier_2", "no": "tier_3"}).equals(ranked["tier"])
    assert len(tiers.judged_findings(made.judged)) == 1


def test_judgement_promises_nothing_and_reaches_no_crm(made):
    now = made.promise[made.promise["tier"].isin(["tier_2", "tier_3"])]
    assert now[["predicted", "low", "high"]].isna().all(axis=None)
    assert not made.files.usable
    assert [p.name for p in (made.folder / "activation").iterdir()] == ["files.json"]


def test_the_frozen_model_gives_new_accounts_no_tier(made):
    path = write_model(made.model, made.folder / "model.json")
    new = made.folder / "new.csv"
    exported = pd.read_csv(made.folder / "ws" / "accounts.csv", dtype="str", keep_default_na=False)
    exported.head(40).to_csv(new, index=False)
    assert cli.main(["score", str(new), "--model", str(path), "--out", str(made.folder / "scored.csv")]) == 0
    scored = pd.read_csv(made.folder / "scored.csv")
    assert set(scored["tier"]) <= {"insufficient", "not_icp"}
