"""Reads a recipe and a seed, makes the world behind a market: all draws and names that the exports are written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from icplab.core.schema import CANONICAL, DTYPES
from icplab.simulate import draw, names
from icplab.simulate.draw import Accounts, Clock, Opportunities, Streams, Subscriptions
from icplab.simulate.latent import Classes, build_classes
from icplab.simulate.names import Naming, choose
from icplab.simulate.recipe import CHANNELS, Planted, Recipe, columns_of

CURRENCY = "EUR"
DAYS_BEFORE_FIRST = 60  # an account enters the CRM up to this long before its first opportunity


@dataclass(frozen=True)
class World:
    """Draws of one market; exports, truth and oracle are all read off it."""

    recipe: Recipe
    clock: Clock
    streams: Streams
    classes: Classes
    columns: tuple[Planted, ...]
    naming: Naming
    accounts: Accounts
    deals: Opportunities
    subscriptions: Subscriptions
    account_id: pd.Series
    opportunity_id: pd.Series
    account_created: np.ndarray
    """Day each account entered the CRM (may lie before history)."""
    next_opening: np.ndarray
    """Day the next opportunity of the account will be opened, after the as-of date; far away when none is near."""
    next_urgency: np.ndarray
    is_customer: np.ndarray
    last_end: np.ndarray
    """Day the last subscription of a former customer ended; -1 while any runs, or without any."""

    @property
    def owner_names(self) -> list[str]:
        return [f"seller {i + 1:02d}" for i in range(draw.sellers(self.recipe))]

    def seller_of(self, account: np.ndarray) -> pd.Series:
        """Name of the seller who owns each of these accounts."""
        return choose(self.owner_names, self.accounts.owner[account])

    def channel_of(self, account: np.ndarray) -> pd.Series:
        """Channel through which each of these accounts came."""
        return choose(CHANNELS, self.accounts.source[account])


def draw_world(recipe: Recipe, seed: int) -> World:
    """All draws of a market; one named random stream per part."""
    clock, streams = Clock.of(recipe), Streams(seed)
    classes = build_classes(recipe, streams("classes"))
    columns = columns_of(recipe, streams("effects"))
    categories = [len(c.shares) for c in columns if c.kind == "category"]
    flags = len(columns) - len(categories)
    naming = names.deal_names(
        recipe.names, flags, categories, recipe.idle_numbers, recipe.tools, len(recipe.leaks), streams("names")
    )
    accounts = draw.draw_accounts(recipe, classes, columns, clock, streams)
    deals = draw.draw_opportunities(recipe, classes, columns, accounts, clock, streams)
    subscriptions = draw.draw_subscriptions(accounts, deals, clock, streams)
    customer = np.zeros(len(accounts), bool)
    customer[deals.account[deals.won & deals.is_closed]] = True
    return World(
        recipe=recipe,
        clock=clock,
        streams=streams,
        classes=classes,
        columns=columns,
        naming=naming,
        accounts=accounts,
        deals=deals,
        subscriptions=subscriptions,
        account_id=names.number_ids("A", np.arange(len(accounts)) + 1),
        opportunity_id=names.number_ids("O", np.arange(len(deals)) + 1),
        account_created=_account_created(accounts, deals, streams("entry")),
        is_customer=customer,
        last_end=_last_end(accounts, deals, subscriptions),
        **_next_openings(recipe, accounts, clock, streams("next")),
    )


def typed(table: str, columns: Mapping[Any, Any] | pd.DataFrame, n: int) -> pd.DataFrame:
    """A canonical table with every declared column in its declared type; what is not given is empty."""
    declared = CANONICAL[table]
    frame: dict[Any, Any] = {}
    for column in declared.columns:
        values, dtype = columns.get(column.name), DTYPES[column.kind]
        if values is None:
            values = pd.Series(index=pd.RangeIndex(n), dtype=dtype)
        elif isinstance(values, str):
            values = choose([values], np.zeros(n, dtype=int))
        frame[column.name] = _plain(values, dtype)
    further = {k: _plain(v) for k, v in columns.items() if k not in declared.by_name}
    return pd.DataFrame({**frame, **further})


def _plain(values: Any, dtype: str = "") -> pd.Series:
    """A series with rows numbered from 0, in that type."""
    series = values.reset_index(drop=True) if isinstance(values, pd.Series) else pd.Series(values)
    return series if not dtype or series.dtype == dtype else series.astype(dtype)  # type: ignore[call-overload]


def _account_created(accounts: Accounts, deals: Opportunities, rng: np.random.Generator) -> np.ndarray:
    first = accounts.created.copy()
    np.minimum.at(first, deals.account, deals.created)
    return first - rng.integers(0, DAYS_BEFORE_FIRST, len(accounts))


def _last_end(accounts: Accounts, deals: Opportunities, subscriptions: Subscriptions) -> np.ndarray:
    account = deals.account[subscriptions.opportunity]
    last = np.full(len(accounts), -1)
    np.maximum.at(last, account, subscriptions.ended)
    runs = np.zeros(len(accounts), bool)
    runs[account[~subscriptions.is_ended]] = True
    return np.where(runs, -1, last)


def _next_openings(recipe: Recipe, accounts: Accounts, clock: Clock, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The opportunity that history did not reach yet: its openings follow the same rate as before."""
    rate = (1 + recipe.more_opportunities) / (clock.last + 1)
    wait = np.ceil(rng.exponential(1 / rate, len(accounts))).astype(int)
    return {"next_opening": clock.last + wait, "next_urgency": rng.standard_normal(len(accounts))}
