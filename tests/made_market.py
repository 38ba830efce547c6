"""A small market with known effects, for tests of scores, tiers and activation. Written here, not by `simulate`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.core.config import Capacity, Economics, Settings, Workspace
from icplab.core.model import add_segments
from icplab.scores import build_training, check_forward, fit_model, score_accounts
from icplab.tiers import set_tiers

AS_OF = pd.Timestamp("2026-06-30").as_unit("us")
SETTINGS = Settings(workspace=Workspace(currency="EUR"), economics=Economics(cost_to_serve=100.0))
NO_SUBSCRIPTIONS = pd.DataFrame({"account_id": [], "started_at": [], "ended_at": []})
NO_ACTIVITIES = pd.DataFrame({"account_id": [], "occurred_at": [], "weight": []})


@dataclass(frozen=True)
class Made:
    accounts: pd.DataFrame
    opportunities: pd.DataFrame
    catalogue: pd.DataFrame
    segments: pd.DataFrame
    log_odds: pd.Series


def make_market(n: int = 1200, seed: int = 3, effect: float = 1.0) -> Made:
    """Two segments, two flags that matter, one that does not, one that only rides on the source; sizes, dates, amounts."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"a{i:05d}" for i in range(n)], dtype=object)
    big = rng.random(n) < 0.4
    good, bad, idle, riding = (rng.random((4, n)).T < [0.3, 0.3, 0.3, 0.0]).T
    referred = rng.random(n) < 0.35
    riding = rng.random(n) < np.where(referred, 0.7, 0.2)
    accounts = pd.DataFrame(
        {
            "account_id": pd.Series(ids, dtype="str"),
            "family_id": pd.Series(ids, dtype="str"),
            "name": [f"Company {i}" for i in range(n)],
            "domain": [f"c{i}.example" for i in range(n)],
            "linkedin_url": None,
            "owner": np.where(rng.random(n) < 0.5, "kim", "lee"),
            "account_type": "prospect",
            "employees": np.exp(rng.normal(np.where(big, 6.0, 4.0), 0.7)).round(),
            "good": pd.array(good, dtype="boolean"),
            "bad": pd.array(bad, dtype="boolean"),
            "idle": pd.array(idle, dtype="boolean"),
            "riding": pd.array(riding, dtype="boolean"),
            "n_opportunities": 2.0,
        }
    ).astype({"linkedin_url": "str"})
    log_odds = -1.2 + effect * (0.9 * big + 0.9 * good - 0.9 * bad)
    who = np.repeat(np.arange(n), 2)
    lost_in = rng.lognormal(np.log(70), 0.5, len(who))
    created = AS_OF - pd.to_timedelta(rng.integers(1, 900, len(who)), unit="D")
    chance = 1 / (1 + np.exp(-(log_odds + 1.2 * effect * referred)))
    won = rng.random(len(who)) < chance[who]
    closed = created + pd.to_timedelta(np.round(lost_in), unit="D")
    known = closed <= AS_OF
    opportunities = pd.DataFrame(
        {
            "opportunity_id": pd.Series([f"o{i:06d}" for i in range(len(who))], dtype="str"),
            "account_id": pd.Series(ids[who], dtype="str"),
            "family_id": pd.Series(ids[who], dtype="str"),
            "created_at": created.as_unit("us"),
            "closed_at": pd.Series(closed.as_unit("us")).where(pd.Series(known)),
            "status": np.where(known, np.where(won, "won", "lost"), "open"),
            "motion": "new",
            "source": np.where(referred, "referral", "web")[who],
            "owner": accounts["owner"].to_numpy()[who],
            "product": "suite",
            "acv": np.round(rng.lognormal(np.log(np.where(big, 30000.0, 8000.0)), 0.6)[who], 2),
            "margin_rate": 0.7,
        }
    )
    customers = opportunities.loc[opportunities["status"] == "won", "account_id"]
    accounts["is_customer"] = accounts["account_id"].isin(customers).astype("boolean")
    columns = [("employees", "number"), ("good", "flag"), ("bad", "flag"), ("idle", "flag"), ("riding", "flag")]
    catalogue = pd.DataFrame([{"trait": t, "table": "accounts", "kind": k} for t, k in columns])
    source = pd.DataFrame([{"trait": "source", "table": "opportunities", "kind": "category"}])
    catalogue = pd.concat([catalogue, source], ignore_index=True).assign(role="", excluded=False)
    size = np.log(accounts["employees"].to_numpy()) - 5.0
    large = 1 / (1 + 1.5 * np.exp(-2 * size / 0.7**2))  # Bayes: log sizes are normal around 4 and 6
    segments = pd.DataFrame(
        {
            "account_id": accounts["account_id"],
            "segment_id": np.where(large > 0.5, "S2", "S1"),
            "segment": "made",
            "membership": np.maximum(large, 1 - large),
            "posterior_S1": 1 - large,
            "posterior_S2": large,
        }
    ).astype({"segment_id": "str"})
    return Made(accounts, opportunities, catalogue, segments, pd.Series(log_odds, index=ids))


def train(made: Made, settings: Settings = SETTINGS, leave_out: tuple[str, ...] = ()):
    """Training frame of a made market."""
    return build_training(made.accounts, made.opportunities, made.catalogue, made.segments, settings, AS_OF, leave_out)


def tiered(made: Made, settings: Settings = SETTINGS):
    """Model, market, scores and check of a made market, with tiers."""
    training = train(made, settings)
    check = check_forward(training, settings, 1)
    model = fit_model(training, check, settings, NO_SUBSCRIPTIONS)
    market = add_segments(made.accounts, made.segments)
    scored = score_accounts(model, made.accounts, made.segments, NO_ACTIVITIES, AS_OF)
    model, scored = set_tiers(model, market, scored, settings)
    return model, market, scored, check


def with_capacity(tier_1: int, tier_2: int) -> Settings:
    return Settings(workspace=SETTINGS.workspace, economics=SETTINGS.economics, capacity=Capacity(tier_1, tier_2))
