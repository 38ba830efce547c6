"""A simulated market of B2B accounts: exports of a CRM, the truth behind them, and the Bayes oracle of every account."""

from icplab.simulate.market import Market, Truth, simulate_market
from icplab.simulate.recipe import SCENARIOS, Recipe, Scenario
from icplab.simulate.workspace import LAYOUTS, write_market, write_workspace

__all__ = [
    "LAYOUTS",
    "SCENARIOS",
    "Market",
    "Recipe",
    "Scenario",
    "Truth",
    "simulate_market",
    "write_market",
    "write_workspace",
]
