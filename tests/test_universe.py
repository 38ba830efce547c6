"""Market universe: sizes, penetration and whitespace of segments from a file of the addressable market."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from icplab import features
from icplab.core.config import Settings
from icplab.core.schema import CANONICAL, check_artefact
from icplab.segments import findings, measure_market
from icplab.segments.universe import _bounds, _matched
from icplab.simulate import simulate_market

WHOLE = {"kind": "whole", "ids": ["S0"], "names": ["whole market"], "recipe": {"numbers": [], "discrete": []}}


def made(posteriors, assigner=None, **columns):
    """A segmentation and its accounts, written by hand: one row of `posteriors` per account."""
    n = len(posteriors)
    ids = [f"A{i}" for i in range(n)]
    assigner = assigner or {**WHOLE, "ids": ["S1", "S2"], "names": ["small", "large"]}
    table = pd.DataFrame(posteriors, columns=assigner["ids"], dtype="float64")
    best = np.array([*assigner["ids"], "unassigned"])[
        np.where(table.isna().any(axis=1), -1, table.fillna(0).to_numpy().argmax(axis=1))
    ]
    table.insert(0, "account_id", pd.Series(ids, dtype="str"))
    assignments = pd.DataFrame({"account_id": ids, "segment_id": best})
    accounts = pd.DataFrame(
        {
            "account_id": ids,
            "name": ids,
            "domain": None,
            "account_type": "prospect",
            "n_opportunities": 0.0,
            "is_customer": pd.array([False] * n, dtype="boolean"),
            **columns,
        }
    )
    return SimpleNamespace(assigner=assigner, posteriors=table, assignments=assignments), accounts


def universe(**columns):
    """A market table: declared columns empty unless given."""
    n = len(next(iter(columns.values())))
    empty = {
        c.name: pd.Series([None] * n, dtype="float64" if c.name in ("accounts", "value") else "str")
        for c in CANONICAL["market"].columns
    }
    return pd.DataFrame(empty | {k: pd.Series(v) for k, v in columns.items()})


def test_counts_are_divided_as_the_crm_of_the_same_cell_and_pooled_with_the_whole():
    """40 retail accounts in S1, 10 software accounts in S2; the whole is 0.8 / 0.2, a prior of ten accounts 8 / 2."""
    found, accounts = made([[1, 0]] * 40 + [[0, 1]] * 10, industry=["Retail"] * 40 + ["software "] * 10)
    market = universe(
        industry=["retail", "Software", "Mining"], accounts=[500.0, 200.0, 100.0], value=[5000.0, 2000.0, 1000.0]
    )
    table = measure_market(found, accounts, market, seed=1).set_index("segment_id")
    retail, software, mining = 48 / 50, 8 / 20, 0.8
    assert table.loc["S1", "market_accounts"] == pytest.approx(500 * retail + 200 * software + 100 * mining, abs=0.06)
    assert table.loc["all", "market_accounts"] == 800
    assert table.loc["all", "market_value"] == 8000
    assert table.loc["S1", "low"] < table.loc["S1", "market_accounts"] < table.loc["S1", "high"]


def test_penetration_counts_customers_and_whitespace_accounts_outside_the_crm():
    found, accounts = made(
        [[1, 0]] * 4,
        is_customer=pd.array([True, True, False, True], dtype="boolean"),
        account_type=["customer", "customer", "prospect", "partner"],
        n_opportunities=[1.0, 2.0, 1.0, 1.0],
    )
    market = universe(industry=["x"], accounts=[10.0], value=[1000.0])
    whole = measure_market(found, accounts, market, seed=1).set_index("segment_id").loc["all"]
    assert (whole["crm_accounts"], whole["worked"], whole["customers"]) == (3, 3, 2)
    assert whole["penetration"] == pytest.approx(0.2)
    assert whole["whitespace_accounts"] == 7
    assert whole["whitespace_value"] == 700


def test_a_list_is_matched_by_id_then_domain_then_unique_name_and_no_account_twice():
    _, accounts = made(
        [[1, 0]] * 4, name=["Acme Inc", "Beta", "Gamma", "Gamma"], domain=["acme.example", None, "g.example", None]
    )
    market = universe(
        account_id=["A1", None, None, None, None],
        name=["Something", "ACME, inc.", "beta", "gamma", "New"],
        domain=[None, "https://www.acme.example/about", None, None, "new.example"],
    )
    assert _matched(market, accounts).fillna("").tolist() == ["A1", "A0", "", "", ""]


def test_levels_of_numbers_are_read_as_written():
    assert _bounds("51-200") == (51, np.nextafter(200, np.inf))
    assert _bounds("[50, 200)") == (50, 200)
    assert _bounds("1,000+") == (1000, np.inf)
    assert _bounds("<50") == (-np.inf, 50)
    assert _bounds("many") is None


def test_a_trait_that_cannot_be_compared_is_named_and_not_used():
    found, accounts = made([[1, 0]] * 5, employees=[5.0] * 5)
    table = measure_market(found, accounts, universe(employees=["many"], accounts=[9.0]), seed=1)
    assert "not comparable: employees" in table["note"].iloc[0]


def test_more_crm_accounts_than_the_market_holds_warns_and_gives_no_penetration():
    found, accounts = made([[1, 0]] * 30 + [[0, 1]] * 30, is_customer=pd.array([True] * 60, dtype="boolean"))
    market = universe(industry=["x"], accounts=[10.0])
    table = measure_market(found, accounts, market, seed=1)
    assert table["penetration"].isna().all()
    segmentation = SimpleNamespace(verdict="none", evidence={"accounts": 60, "reason": "too few"})
    codes = [f.code for f in findings(segmentation, table, table, table, accounts, settings=Settings(), market=table)]
    assert "market-incomplete" in codes


def test_without_a_market_file_the_map_is_empty():
    found, accounts = made([[1, 0]])
    assert measure_market(found, accounts, CANONICAL["market"].empty(), seed=1).empty


def test_a_lopsided_crm_is_set_right_by_the_market_file():
    """The CRM lacks most accounts of one industry; the market file's counts by industry bring its segments back."""
    planted = simulate_market(accounts=1200, seed=23)
    as_of = pd.Timestamp("2026-06-30").as_unit("us")
    accounts = features.build_accounts(planted.tables, Settings(), as_of)
    true = planted.truth.accounts.set_index("account_id")["segment"]
    largest = true.value_counts().index[0]
    at_home = (
        accounts["industry"]
        .groupby(accounts["account_id"].map(true) == largest)
        .value_counts(normalize=True)[True]
        .index[0]
    )
    gone = (accounts["industry"] == at_home).to_numpy() & (np.arange(len(accounts)) % 4 > 0)
    ids = ["S1", "S2"]
    inside = (accounts["account_id"].map(true) == largest).to_numpy()
    held = accounts[~gone].reset_index(drop=True)
    posteriors = pd.DataFrame({"account_id": held["account_id"], "S1": inside[~gone] * 1.0, "S2": 1.0 - inside[~gone]})
    assignments = pd.DataFrame({"account_id": held["account_id"], "segment_id": np.where(inside[~gone], "S1", "S2")})
    assigner = {**WHOLE, "ids": ids, "names": ids}
    found = SimpleNamespace(assigner=assigner, posteriors=posteriors, assignments=assignments)
    table = measure_market(found, held, planted.tables["market"], seed=1).set_index("segment_id")
    check_artefact("market_map", table.reset_index())
    share = table.loc["S1", "market_accounts"] / table.loc["all", "market_accounts"]
    assert abs(share - inside.mean()) < 0.05 < abs(inside[~gone].mean() - inside.mean())
