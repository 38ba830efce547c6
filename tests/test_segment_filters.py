"""A rule as SQL, Salesforce and HubSpot text means what the readable rule means."""

from __future__ import annotations

import json
from itertools import chain, combinations

import duckdb
import numpy as np
import pandas as pd

from icplab import segments
from icplab.segments.refine import Candidates, Filter, Price, improve_filter
from tests.test_segments import QUICK, two_groups

SIZE = {"trait": "employees", "operator": "between", "values": [50.0, 500.0]}
TRADE = {"trait": "industry", "operator": "is one of", "values": ["energy", "oil, gas"]}
TOOL = {"trait": "stack", "operator": "contains", "values": ["o'tool"]}
TOOLS = {"trait": "stack", "operator": "contains", "values": ["o'tool", "y"]}
PLANT = {"trait": "has_plant", "operator": "is", "values": ["yes"]}
ACCOUNTS = pd.DataFrame(
    {
        "account_id": list("abcdef"),
        "employees": [50.0, 500.0, 70.0, None, 60.0, 10.0],
        "industry": pd.array(["energy", "oil, gas", "retail", "energy", None, "retail"], dtype="str"),
        "stack": pd.array(["o'tool;x", "x;o'tool2", "y", "o'tool", None, "x;o'tool"], dtype="str"),
        "has_plant": pd.array([True, False, True, None, True, False], dtype="boolean"),
    }
)


def rules(conditions: list[dict], needed: int, f1: float = 0.9) -> pd.DataFrame:
    row = {"segment_id": "S1", "segment": "x", "conditions": json.dumps(conditions), "needed": needed, "f1": f1}
    return pd.DataFrame([row])


def passes(conditions: list[dict], needed: int) -> list[str]:
    sql = segments.write_filters(rules(conditions, needed))["sql"].iloc[0]
    with duckdb.connect() as connection:
        connection.register("accounts", ACCOUNTS)
        return [r[0] for r in connection.execute(f"SELECT account_id FROM accounts WHERE {sql} ORDER BY 1").fetchall()]


def test_the_sql_expression_passes_the_accounts_of_the_rule_and_unknown_fails():
    assert passes([SIZE, TRADE], 2) == ["a"]
    assert passes([SIZE, TRADE, TOOL, PLANT], 2) == ["a", "c", "d", "e"]
    assert passes([TOOL], 1) == ["a", "d", "f"]
    assert passes([TOOLS], 1) == ["a", "c", "d", "f"]
    for conditions, needed in (
        ([SIZE, TRADE], 2),
        ([SIZE, TOOLS, PLANT], 2),
        ([SIZE, TRADE, TOOL, PLANT], 2),
        ([TRADE], 1),
    ):
        readable = ACCOUNTS.loc[segments.rule_holds(conditions, needed, ACCOUNTS), "account_id"].tolist()
        assert passes(conditions, needed) == readable


def test_a_salesforce_list_view_numbers_its_conditions_and_joins_them_by_filter_logic():
    told = segments.write_filters(rules([SIZE, TRADE, PLANT], 2))["salesforce"].iloc[0]
    assert told == (
        "1. NumberOfEmployees greater or equal 50; 2. NumberOfEmployees less than 500; "
        '3. Industry equals energy,"oil, gas"; 4. has_plant__c equals True. '
        "Filter logic: ((1 AND 2) AND 3) OR ((1 AND 2) AND 4) OR (3 AND 4)"
    )


def test_a_hubspot_list_joins_inside_a_group_by_and_and_groups_by_or():
    told = segments.write_filters(rules([TRADE, PLANT], 1))["hubspot"].iloc[0]
    assert told == '1. industry is any of "energy", "oil, gas"; 2. has_plant is equal to True. Groups: 1 OR 2'


def test_below_f1_of_six_tenths_no_filter_is_offered():
    told = segments.write_filters(rules([TRADE], 1, f1=0.59))
    assert set(told[["salesforce", "hubspot", "sql"]].iloc[0]) == {"not-describable"}


def f1_of(passed: np.ndarray, inside: np.ndarray) -> float:
    return 2 * (passed & inside).sum() / (passed.sum() + inside.sum())


def test_the_list_of_levels_beside_a_condition_is_the_best_of_all_lists():
    rng = np.random.default_rng(5)
    level, big = rng.integers(0, 5, 400), rng.random(400) < 0.5
    inside = big & (rng.random(400) < np.array([0.9, 0.7, 0.5, 0.2, 0.1])[level])
    holds = np.column_stack([big, *(level == c for c in range(5))]).astype(np.float32)
    candidates = Candidates(holds, np.array([0, 1, 1, 1, 1, 1]), (np.arange(1, 6),), ())
    start = Filter(((0,), (5,)), 2, f1_of(big & (level == 4), inside) - 1)
    found = improve_filter(start, candidates, inside.astype(np.float32), Price(0.0, 1.0, 2))
    lists = chain.from_iterable(combinations(range(5), size) for size in range(1, 6))
    best = max(f1_of(big & np.isin(level, chosen), inside) - 0.002 * (len(chosen) - 1) for chosen in lists)
    assert found.lists[0] == (0,)
    assert abs(found.worth - best) < 1e-6


def test_tools_are_joined_where_any_of_them_tells_the_segment_and_a_useless_one_stays_out():
    rng = np.random.default_rng(6)
    inside = np.repeat([True, False], [90, 210])
    tools = rng.random((300, 3)) < np.array([[0.05, 0.05, 0.4]])
    tools[:50, 0], tools[40:90, 1] = True, True
    candidates = Candidates(tools.astype(np.float32), np.arange(3), (), (np.arange(3),))
    found = improve_filter(Filter(((0,),), 1, 0.0), candidates, inside.astype(np.float32), Price(0.005, 0.02, 4))
    assert found.lists == ((0, 1),)
    assert abs(found.worth - (f1_of(tools[:, 0] | tools[:, 1], inside) - 0.002)) < 1e-6


def test_exceptions_are_the_accounts_on_which_rule_and_segment_differ():
    accounts, catalogue, _ = two_groups()
    found = segments.fit_segments(accounts, catalogue, **QUICK)
    described = segments.describe_segments(accounts, found.assignments, found.assigner)
    exceptions = segments.list_exceptions(described, accounts, found.assignments)
    for row in described.to_dict("records"):
        mine = exceptions[exceptions["segment_id"] == row["segment_id"]]
        inside = (found.assignments["segment_id"] == row["segment_id"]).sum()
        missed = (mine["exception"] == "belongs, but does not pass").sum()
        wrong = len(mine) - missed
        assert row["recall"] == round((inside - missed) / inside, 4)
        assert row["matched"] == inside - missed + wrong
    assert segments.summarise_exceptions(exceptions)["accounts"].sum() == len(exceptions)
