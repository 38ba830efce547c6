"""Reads a recipe and a seed, makes a market: canonical tables, the truth behind them, and its settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from icplab.simulate import around, business, disturb, exports, oracle, workspace
from icplab.simulate.draw import Streams, sigmoid
from icplab.simulate.recipe import Recipe, find_scenario, vary_recipe
from icplab.simulate.world import World, draw_world


@dataclass(frozen=True)
class Truth:
    """What was planted. A run never reads it. Columns are described in docs/simulation.md.

    accounts : one row per account, with true and oracle probabilities, values and segments.
    traits : one row per visible candidate column and level, with its role and true log odds ratio.
    segments : one row per planted segment with its true key figures.
    columns : one row per visible candidate column: what it really is.
    recipe : the parameters of the generator.
    """

    accounts: pd.DataFrame
    traits: pd.DataFrame
    segments: pd.DataFrame
    columns: pd.DataFrame
    recipe: dict


@dataclass(frozen=True)
class Market:
    """A simulated market: canonical tables as exported on the as-of date, its truth and the rest of a workspace."""

    tables: dict[str, pd.DataFrame]
    truth: Truth
    settings_toml: str
    playbook_toml: str
    decisions: list[dict]


def simulate_market(
    accounts: int = 3000,
    seed: int = 1,
    scenario: str = "clean",
    months: int = 30,
    as_of: str = "2026-06-30",
    vary: bool = False,
    recipe: Recipe | None = None,
) -> Market:
    """A market of B2B accounts with planted segments, traits, value and churn, and everything a CRM says about it.

    Parameters
    ----------
    accounts : int, default 3000
        Number of accounts.
    seed : int, default 1
        The same seed gives the same market.
    scenario : str, default "clean"
        Name of a scenario; see `icplab.simulate.SCENARIOS`.
    months : int, default 30
        Months of history before `as_of`.
    as_of : str, default "2026-06-30"
        Last day of history; what closes later is open.
    vary : bool, default False
        Draw the parameters of the recipe from ranges around B0 instead of taking B0 itself.
    recipe : Recipe, optional
        Start from this recipe instead of B0; `accounts`, `months` and `as_of` still hold.

    Returns
    -------
    Market
        Canonical tables (typed as declared), truth, settings, playbook, decisions.

    Raises
    ------
    BadInput
        The scenario is not known.
    """
    base = replace(recipe or Recipe(), accounts=accounts, months=months, as_of=str(pd.Timestamp(as_of).date()))
    if vary:
        base = vary_recipe(base, Streams(seed)("recipe"))
    world = draw_world(find_scenario(scenario).change(base), seed)
    tables = _tables(world)
    truth = Truth(
        accounts=_accounts(world, tables),
        traits=_traits(world),
        segments=pd.DataFrame(),
        columns=disturb.columns_truth(world),
        recipe=asdict(world.recipe) | {"scenario": scenario, "seed": seed},
    )
    segments = oracle.segment_truth(world.recipe, world.classes, truth.accounts, world.deals.account)
    truth = replace(truth, segments=segments)
    tables = disturb.apply(world, tables)
    return Market(
        tables=tables,
        truth=truth,
        settings_toml=workspace.settings_toml(world, scenario),
        playbook_toml=workspace.playbook_toml(world),
        decisions=workspace.decisions(world),
    )


def _tables(world: World) -> dict[str, pd.DataFrame]:
    makers = {
        "accounts": exports.accounts_table,
        "opportunities": exports.opportunities_table,
        "contacts": exports.contacts_table,
        "opportunity_contacts": exports.opportunity_contacts_table,
        "stage_history": exports.stage_history_table,
        "leads": around.leads_table,
        "activities": around.activities_table,
        "usage": exports.usage_table,
        "campaigns": business.campaigns_table,
        "spend": business.spend_table,
        "products": business.products_table,
        "owners": business.owners_table,
        "rates": business.rates_table,
        "field_history": around.field_history_table,
        "traffic": business.traffic_table,
        "subscriptions": exports.subscriptions_table,
        "market": business.market_table,
        "targets": business.targets_table,
        "feedback": around.feedback_table,
        "content": business.content_table,
        "events": business.events_table,
    }
    return {name: make(world) for name, make in makers.items()}


def _accounts(world: World, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    facts = around.evidence(world, tables)
    truth = oracle.account_truth(
        world.recipe, world.classes, world.columns, world.accounts, world.deals, world.subscriptions, facts, world.clock
    )
    truth.insert(0, "account_id", world.account_id)
    truth["next_opportunity_at"] = world.clock.dates(world.next_opening)
    truth["next_opportunity_urgency"] = world.next_urgency
    truth["duplicate_of"] = pd.Series([None] * len(truth), dtype="str")
    ids, originals = disturb.duplicates_of(world)
    twin = truth.iloc[originals].assign(account_id=ids.array, duplicate_of=world.account_id.iloc[originals].array)
    truth = pd.concat([truth, twin], ignore_index=True) if len(ids) else truth
    texts = [c for c in truth if truth[c].dtype == object]
    return truth.astype(dict.fromkeys([*texts, "segment"], "str"))


def _traits(world: World) -> pd.DataFrame:
    """One row per visible column and level: role, prevalence, true conditional and marginal log odds ratios."""
    rows = [*_planted_rows(world), *_marker_rows(world)]
    frame = pd.DataFrame(rows, columns=["trait", "level", "role", "prevalence", "log_odds_ratio", "marginal"])
    frame = frame.rename(columns={"marginal": "marginal_log_odds_ratio"})
    leaks = [(name, "", "leak", np.nan, 0.0, np.nan) for name in disturb.leak_names(world).values()]
    leaks_frame = pd.DataFrame(leaks, columns=list(frame.columns))
    frame = pd.concat([frame, leaks_frame], ignore_index=True) if leaks else frame
    return frame.astype({"trait": "str", "level": "str", "role": "str"}).sort_values(
        ["trait", "level"], ignore_index=True
    )


def _planted_rows(world: World) -> list[tuple]:
    """Planted columns: the effect of a level against the effect that most accounts have, everything else equal."""
    late = world.clock.drift <= world.clock.last
    flags, categories = (
        iter(world.naming.flags),
        iter(zip(world.naming.categories, world.naming.category_levels, strict=True)),
    )
    rows = []
    for j, column in enumerate(world.columns):
        effects = np.asarray((column.late_effects if late else ()) or column.effects)
        shares = np.bincount(world.accounts.codes[:, j], minlength=len(effects)) / len(world.accounts)
        if column.kind == "flag":
            rows.append((next(flags), "yes", column.role, shares[1], float(effects[1] - effects[0]), np.nan))
            continue
        name, levels = next(categories)
        usual = max(effects, key=lambda effect: shares[effects == effect].sum())
        rows += [
            (name, level, column.role, share, float(effect - usual), np.nan)
            for level, share, effect in zip(levels, shares, effects, strict=True)
        ]
    plain = ((*world.naming.numbers, "founded_year"), "idle"), (("employees", "annual_revenue"), "marker")
    rows += [(name, "trend", role, np.nan, 0.0, np.nan) for columns, role in plain for name in columns]
    return rows


def _marker_rows(world: World) -> list[tuple]:
    """Columns that only tell segments apart: no effect given the segment, an apparent one without it."""
    c, naming = world.classes, world.naming
    win = sigmoid(world.deals.intercept + c.win)
    rows = []
    for trait, levels, shares in (
        ("industry", naming.industries, c.industry),
        (naming.need, naming.needs, c.need),
        (naming.tools_column, naming.tools, c.tools),
    ):
        tools_idle = trait == naming.tools_column and world.recipe.vendors
        for i, level in enumerate(levels):
            p = shares[:, i]
            same = np.ptp(p) < 1e-12 or tools_idle
            with_it, without = (w @ win / w.sum() for w in (c.weight * p, c.weight * (1 - p)))
            marginal = 0.0 if same else float(np.log(with_it / (1 - with_it)) - np.log(without / (1 - without)))
            rows.append((trait, level, "idle" if same else "marker", float(c.weight @ p), 0.0, marginal))
    return rows
