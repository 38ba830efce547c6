"""The whole quarterly run on public data: its reference figures come out, and nothing is found where nothing is.

maven_crm is a null control (no trait is associated with winning); salvirt_b2b is real, small, undated and full of exact
duplicates. Left out, with the reason, where ICPLAB_DATASETS does not name the folder of the datasets.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from icplab.core.store import Store

pytestmark = [pytest.mark.datasets, pytest.mark.slow]
WORKSPACES = Path(__file__).parent / "workspaces"


def run_on(name: str, folder: Path) -> Store:
    """Run icplab on a public dataset with the mapping kept under tests/workspaces."""
    datasets = os.environ.get("ICPLAB_DATASETS", "")
    if not Path(datasets or "/nowhere").is_dir():
        pytest.skip("ICPLAB_DATASETS does not name a folder of public datasets")
    workspace = folder / name
    shutil.copytree(Path(datasets) / name, workspace, ignore=shutil.ignore_patterns("variants"))
    workspace.chmod(0o755)
    shutil.copy(WORKSPACES / name / "icplab.toml", workspace / "icplab.toml")
    out = folder / "reports" / name
    command = [sys.executable, "-m", "icplab", "run", str(workspace), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return Store(out)


@pytest.fixture(scope="module")
def maven(tmp_path_factory) -> Store:
    return run_on("maven_crm", tmp_path_factory.mktemp("maven"))


@pytest.fixture(scope="module")
def salvirt(tmp_path_factory) -> Store:
    return run_on("salvirt_b2b", tmp_path_factory.mktemp("salvirt"))


def whole(kpis: pd.DataFrame, period: str = "all") -> pd.DataFrame:
    return kpis[(kpis["cut"] == "all") & (kpis["period"] == period)].set_index(["kpi", "basis"])


def test_maven_key_figures_are_the_published_ones(maven):
    kpis = whole(maven.read("kpis"))
    value = kpis["value"].droplevel("basis")
    assert value["won"] == 4238
    assert value["lost"] == 2473
    assert kpis.at[("win_rate", "closed"), "value"] == pytest.approx(4238 / 6711, abs=1e-12)
    assert value["won_amount"] == pytest.approx(10_005_534)
    assert kpis.at[("cycle_days", "won_median"), "value"] == 57


@pytest.mark.parametrize(
    ("quarter", "amount"),
    [("2017Q1", 1_134_672), ("2017Q2", 3_086_111), ("2017Q3", 2_982_255), ("2017Q4", 2_802_496)],
)
def test_maven_revenue_by_quarter_is_the_published_one(maven, quarter, amount):
    value = whole(maven.read("kpis"), quarter)["value"].droplevel("basis")
    assert value["won_amount"] == pytest.approx(amount)


def test_maven_has_no_trait_associated_with_winning(maven):
    traits = maven.read("traits")
    assert len(traits) > 0
    assert not (traits["verdict"] == "supported").any()


def test_maven_has_no_usable_ranking_and_no_tier_is_sold(maven):
    scores = maven.read("scores")
    assert set(scores["tier"]) <= {"insufficient", "not_icp"}
    assert scores["win_probability"].nunique() == 1
    assert "no-usable-ranking" in set(maven.read("findings")["code"])


def test_maven_does_not_claim_natural_segments_at_85_accounts(maven):
    assert maven.read_json("segmentation")["verdict"] != "natural"


@pytest.mark.parametrize("sign", ["GTXPro", "technolgy", "1,425"])
def test_maven_blemishes_are_noticed_and_said(maven, sign):
    assert maven.read("findings")["sentence"].str.contains(sign, regex=False).any()


def test_every_maven_record_is_accounted_for(maven):
    ledger = maven.read("ledger").set_index(["table", "outcome"])["records"]
    assert ledger[("opportunities", "used")] == 8800
    assert ledger[("accounts", "used")] == 85


def test_salvirt_true_traits_are_supported_and_come_first(salvirt):
    traits = salvirt.read("traits").query("scope == 'all' and outcome == 'win'")
    best = traits[traits["verdict"] == "supported"].groupby("trait")["q_value"].min().sort_values(kind="stable")
    assert {"Up_sale", "Client", "Competitors"} <= set(best.index)
    assert {"Up_sale", "Client", "Competitors"} <= set(best.index[:5])
    assert not {"Authority", "Cross_sale"} & set(best.index)


def test_salvirt_crude_rates_are_the_published_ones(salvirt):
    traits = salvirt.read("traits").query(
        "scope == 'all' and outcome == 'win' and trait == 'Up_sale' and level == 'yes'"
    )
    assert traits["support"].iloc[0] == 241
    assert traits["rate_diff"].iloc[0] == pytest.approx(0.743 - 0.232, abs=0.001)


def test_salvirt_figures_that_need_time_or_money_are_not_measured(salvirt):
    kpis = whole(salvirt.read("kpis"))
    assert kpis.at[("win_rate", "closed"), "value"] == pytest.approx(227 / 448)
    for name in ("cycle_days", "acv", "won_amount", "grr", "nrr", "cac", "ltv"):
        rows = kpis.loc[[name]]
        assert (rows["status"] == "not_measured").all(), name
        assert rows["value"].isna().all(), name


def test_salvirt_is_checked_with_identical_rows_together_and_says_so(salvirt):
    periods = set(salvirt.read("tiers")["period"]) - {"now"}
    assert periods == {"cross-validation"}
    checks = salvirt.read_json("model")["checks"]
    assert 0.7 < checks["auc_value"] < 0.85, "grouped; a random split would leak the 83 duplicates (0.82 to 0.85)"
    assert checks["basis"] == "cross_validation"
