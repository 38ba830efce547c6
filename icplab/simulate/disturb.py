"""Reads a world and its exports, makes what a scenario spoils in them: leaks, one huge deal, a bulk close, new definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.simulate.exports import STAGES
from icplab.simulate.names import choose, number_ids
from icplab.simulate.world import World, typed

LEAK_LEVELS = ("a", "b", "c")
# The recipe of the leaking columns: how often they are filled.
WRITTEN = (0.90, 0.03)  # won, everything else
FILLED = (0.95, 0.55)  # accounts that won, all others
CLEAN_UP_MONTH = 20
NEGLECTED_DAYS = 200  # lost opportunities that ended so long before the clean-up were still open in the CRM

Tables = dict[str, pd.DataFrame]


def apply(world: World, tables: Tables) -> Tables:
    """The tables after everything the recipe's scenario does to them."""
    tables = dict(tables)
    if world.recipe.leaks:
        _add_leaks(world, tables)
    if world.recipe.huge_deal:
        _add_huge_deal(world, tables)
    if world.recipe.clean_up:
        _close_in_bulk(world, tables)
        _move_stage(world, tables)
    if world.recipe.duplicates:
        _duplicate(world, tables)
    return tables


def duplicates_of(world: World) -> tuple[pd.Series, np.ndarray]:
    """Identifier of each duplicate account, and the number of the account it repeats."""
    n = len(world.accounts)
    originals = np.sort(world.streams("duplicates").permutation(n)[: round(world.recipe.duplicates * n)])
    return number_ids("A", n + 1 + np.arange(len(originals))), originals


def leak_names(world: World) -> dict[str, str]:
    """Visible name of each leaking column by what it is."""
    return dict(zip(world.recipe.leaks, world.naming.leaks, strict=False))


def columns_truth(world: World) -> pd.DataFrame:
    """One row per visible candidate column: table, column, what it is, role, and when it is known."""
    naming, rows = world.naming, []
    flags, categories = iter(naming.flags), iter(naming.categories)
    for j, column in enumerate(world.columns):
        name = next(flags) if column.kind == "flag" else next(categories)
        rows.append(("accounts", name, f"{column.role} {column.kind} {j + 1}", column.role, "created"))
    rows += [("accounts", name, f"idle number {j + 1}", "idle", "created") for j, name in enumerate(naming.numbers)]
    rows += [
        ("accounts", naming.need, "need of the account", "marker", "created"),
        ("accounts", naming.tools_column, "tools the account uses", "marker", "created"),
        ("accounts", "industry", "industry", "marker", "created"),
        ("accounts", "employees", "size", "marker", "created"),
        ("accounts", "annual_revenue", "size", "marker", "created"),
        *(("accounts", c, "noise", "idle", "created") for c in ("country", "region", "founded_year")),
    ]
    for kind, name in leak_names(world).items():
        table = "opportunities" if kind == "written_at_win" else "accounts"
        rows.append((table, name, kind.replace("_", " "), "leak", "after the outcome"))
    frame = pd.DataFrame(rows, columns=["table", "column", "what", "role", "known"])
    return frame.astype("str").sort_values(["table", "column"], ignore_index=True)


def _add_leaks(world: World, tables: Tables) -> None:
    rng, names, d = world.streams("leaks"), leak_names(world), world.deals
    n, customer = len(world.accounts), world.is_customer
    won = d.won & d.is_closed
    written = rng.random(len(d)) < np.where(won, *WRITTEN)
    level = rng.integers(0, len(LEAK_LEVELS), len(d))
    filled = rng.random(n) < np.where(customer, *FILLED)
    seats = np.round(world.accounts.employees * np.exp(rng.normal(0, 0.4, n)))
    closed = np.full(n, -1)
    np.maximum.at(closed, d.account[d.is_closed], d.closed[d.is_closed])
    touched = closed + rng.integers(1, 20, n) + np.where(customer, rng.integers(20, 200, n), 0)
    quiet = np.where(closed < 0, rng.integers(0, 400, n), np.maximum(world.clock.last - touched, 0))
    accounts, opportunities = tables["accounts"].copy(), tables["opportunities"].copy()
    if "written_at_win" in names:
        opportunities[names["written_at_win"]] = choose(LEAK_LEVELS, np.where(written, level, -1))
    if "filled_after_win" in names:
        accounts[names["filled_after_win"]] = pd.Series(seats).mask(pd.Series(~filled))
    if "touched_after_close" in names:
        accounts[names["touched_after_close"]] = quiet.astype(float)
    tables["accounts"], tables["opportunities"] = _in_order(world, accounts), opportunities
    if world.recipe.leak_history:
        _tell_when(world, tables, names, written & won, filled & customer)


def _in_order(world: World, accounts: pd.DataFrame) -> pd.DataFrame:
    """Neutral columns in the order of their names, so that a late column does not stand last."""
    if world.recipe.names != "neutral":
        return accounts
    further = _further(world)
    return accounts[[c for c in accounts if c not in further] + sorted(further.intersection(accounts.columns))]


def _further(world: World) -> set[str]:
    naming = world.naming
    return {*naming.flags, *naming.categories, *naming.numbers, *naming.leaks, naming.need, naming.tools_column}


def _tell_when(world: World, tables: Tables, names: dict[str, str], written: np.ndarray, filled: np.ndarray) -> None:
    """Field history rows: when the leaking columns got their values."""
    d, clock = world.deals, world.clock
    won_at = np.full(len(world.accounts), clock.last)
    won = d.won & d.is_closed
    np.minimum.at(won_at, d.account[won], d.closed[won])
    parts = [tables["field_history"]]
    for kind, table, ids, rows, days in (
        ("written_at_win", "opportunities", world.opportunity_id, np.flatnonzero(written), d.closed),
        ("filled_after_win", "accounts", world.account_id, np.flatnonzero(filled), won_at),
    ):
        if kind not in names:
            continue
        name = names[kind]
        columns = {
            "object": table,
            "record_id": choose(ids, rows),
            "field": name,
            "changed_at": clock.dates(np.minimum(days[rows] + 1, clock.last)),
            "new_value": tables[table][name].iloc[rows].astype("str"),
        }
        parts.append(typed("field_history", columns, len(rows)))
    merged = pd.concat(parts, ignore_index=True)
    tables["field_history"] = merged.sort_values(
        ["changed_at", "object", "record_id", "field"], ignore_index=True, kind="stable"
    )


def _add_huge_deal(world: World, tables: Tables) -> None:
    """One won deal of the smallest segment becomes enormous."""
    d = world.deals
    smallest = int(np.argmin(world.classes.weight))
    candidates = np.flatnonzero(d.won & d.is_closed & (world.accounts.cls[d.account] == smallest))
    if not len(candidates):
        return
    deal = candidates[len(candidates) // 2]
    opportunities, subscriptions = tables["opportunities"].copy(), tables["subscriptions"].copy()
    opportunities.loc[deal, "amount"] = world.recipe.huge_deal
    subscriptions.loc[world.subscriptions.opportunity == deal, "mrr"] = round(world.recipe.huge_deal / 12, 2)
    tables["opportunities"], tables["subscriptions"] = opportunities, subscriptions


def _close_in_bulk(world: World, tables: Tables) -> None:
    """Lost opportunities that nobody had closed are all closed on one day."""
    d = world.deals
    day = (world.clock.start + pd.DateOffset(months=CLEAN_UP_MONTH) - world.clock.start).days
    pool = np.flatnonzero(~d.won & (d.created < day - 10) & (d.closed > day - NEGLECTED_DAYS))
    chosen = world.streams("clean-up").permutation(pool)[: round(world.recipe.clean_up * len(d))]
    opportunities = tables["opportunities"].copy()
    marked = pd.Series(np.isin(np.arange(len(d)), chosen))
    opportunities["closed_at"] = opportunities["closed_at"].mask(marked, world.clock.start + pd.Timedelta(days=day))
    for column, value in (("status", "lost"), ("stage", "closed lost"), ("loss_reason", "no decision")):
        opportunities[column] = opportunities[column].mask(marked, value)
    tables["opportunities"] = opportunities


def _move_stage(world: World, tables: Tables) -> None:
    """From the drift on, `qualified` is entered when `proposal` was before; opportunities that never got there lose it."""
    history = tables["stage_history"]
    order = pd.Index(world.opportunity_id)
    late = pd.Series(world.deals.created[order.get_indexer(history["opportunity_id"])] >= world.clock.drift)
    qualified = late & (history["stage"] == STAGES[1])
    proposal = history.loc[history["stage"] == STAGES[2]].set_index("opportunity_id")["entered_at"]
    entered = history["entered_at"].mask(qualified, history["opportunity_id"].map(proposal))
    moved = history.assign(entered_at=entered)
    tables["stage_history"] = moved[moved["entered_at"].notna()].reset_index(drop=True)


def _duplicate(world: World, tables: Tables) -> None:
    """Some accounts stand twice: another spelling, half of them without a domain, opportunities split at random."""
    rng, (ids, originals) = world.streams("duplicates' spelling"), duplicates_of(world)
    accounts, opportunities = tables["accounts"], tables["opportunities"].copy()
    twin = accounts.iloc[originals].reset_index(drop=True)
    kind = pd.Series(rng.integers(0, 4, len(twin)))
    spelling = (twin["name"] + " Inc").where(kind == 0, twin["name"] + " GmbH")
    spelling = spelling.mask(kind == 2, twin["name"].str.slice_replace(3, 4, "")).mask(
        kind == 3, twin["name"].str.upper()
    )
    bare = pd.Series(rng.random(len(twin)) < 0.5)
    twin = twin.assign(account_id=ids, name=spelling, domain=twin["domain"].mask(bare))
    place = np.full(len(accounts), -1)
    place[originals] = np.arange(len(originals))
    place = place[world.deals.account]
    moves = pd.Series((place >= 0) & (rng.random(len(place)) < 0.5))
    opportunities["account_id"] = opportunities["account_id"].mask(moves, choose(ids, place))
    tables["accounts"], tables["opportunities"] = pd.concat([accounts, twin], ignore_index=True), opportunities
