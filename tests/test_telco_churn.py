"""Keeping customers on public data: contract type is found with the published direction and size (7,043 customers)."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from icplab import features, traits
from icplab.core.config import Settings
from icplab.core.schema import CANONICAL

pytestmark = pytest.mark.datasets
AS_OF = pd.Timestamp("2026-06-30").as_unit("us")
TRAITS = ["Contract", "InternetService", "PaymentMethod", "PaperlessBilling", "gender", "Partner"]
# Share who left, as published with the data: all, and by contract.
CHURN = {"Month-to-month": 0.4271, "One year": 0.1127, "Two year": 0.0283}


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    folder = os.environ.get("ICPLAB_DATASETS", "")
    if not Path(folder or "/nowhere").is_dir():
        pytest.skip("ICPLAB_DATASETS does not name a folder of public datasets")
    raw = pd.read_csv(Path(folder, "telco_churn_ibm", "Telco-Customer-Churn.csv"))
    ids, start = raw["customerID"].astype("str"), AS_OF - pd.Timedelta(days=730)
    left = (raw["Churn"] == "Yes").to_numpy()
    accounts = raw[TRAITS].astype("str").assign(account_id=ids, name=ids, created_at=start)
    won = pd.DataFrame({"opportunity_id": "O" + ids, "account_id": ids, "created_at": start, "closed_at": start})
    won = won.assign(status="won", type="new").astype({"status": "str", "type": "str"})
    ended = pd.Series(start + pd.Timedelta(days=200), index=raw.index).where(left)
    subscriptions = pd.DataFrame({"subscription_id": ids, "account_id": ids, "started_at": start, "ended_at": ended})
    subscriptions = subscriptions.assign(mrr=raw["MonthlyCharges"].astype("float64"))
    tables = {"accounts": accounts, "opportunities": won, "subscriptions": subscriptions}
    tables = {name: declared(name, frame) for name, frame in tables.items()}
    frames = (tables, Settings(), AS_OF)
    built, opportunities = features.build_accounts(*frames), features.build_opportunities(*frames)
    catalogue = features.build_catalogue(tables, Settings())
    members = pd.DataFrame({"account_id": built["account_id"], "segment_id": "S0", "segment": "S0", "membership": 1.0})
    table = traits.measure_traits(
        *(opportunities, built, catalogue, members, Settings()), as_of=AS_OF, subscriptions=tables["subscriptions"]
    )
    return table[table["outcome"] == "retention"].set_index(["trait", "level"])


def declared(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """With every declared column, blank where the data have none."""
    absent = CANONICAL[name].empty().reindex(frame.index)
    return frame.assign(**{c: absent[c] for c in absent if c not in frame})


@pytest.mark.parametrize(("level", "share"), CHURN.items())
def test_contract_keeps_customers_at_the_published_rates(found, level, share):
    row = found.loc[("Contract", level)]
    assert row["rate"] == pytest.approx(1 - share, abs=0.0001)
    assert row["n"] == 7043


def test_contract_is_supported_in_the_published_direction_and_gender_is_not(found):
    rows = found.loc["Contract"]
    assert rows.loc["Month-to-month", "verdict"] == "supported"
    assert rows.loc["Month-to-month", "direction"] == "-"
    assert rows.loc["Two year", "verdict"] == "supported"
    assert rows.loc["Two year", "direction"] == "+"
    kept, left, others_kept, others_left = 2220, 1655, 2954, 214
    expected = (kept / left) / (others_kept / others_left)
    assert rows.loc["Month-to-month", "odds_ratio"] == pytest.approx(expected, rel=1e-3)
    assert found.loc["gender", "verdict"].isin(["supported"]).sum() == 0
