"""Draws small canonical tables in which every oddity occurs that an account table has to live with."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core.config import Economics, Settings, Trait, Value, Workspace
from icplab.core.schema import CANONICAL
from tests.conftest import typed

DAY_ZERO = pd.Timestamp("2025-01-01")
DAYS = 600
AS_OF = pd.Timestamp("2026-03-31").as_unit("us")  # later rows exist: the last day drawn is 2026-08-24
SETTINGS = Settings(
    workspace=Workspace(currency="EUR"),
    value=Value("monthly"),
    economics=Economics(gross_margin=0.6),
    traits={"cloud": Trait(kind="flag", role="technology")},
)
TYPES = (
    "email",
    "E-Mail",
    "call",
    "Call ",
    "demo",
    "web visit",
    "ad",
    "event",
    "mail",
    "sms",
    "fax",
    "chat",
    "post",
    "fair",
)
NOBODY = "a-nobody"  # an account that other tables name and the accounts do not hold


def odd_tables(seed: int, accounts: int = 40) -> dict[str, pd.DataFrame]:
    """Canonical tables: blanks, ties, unknown accounts, dates after AS_OF, deals that close later, terms, currencies, rates that
    change, accounts without anything, loops of parents, types in many spellings."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"a{i:03d}" for i in range(accounts)])

    def days(n: int, blank: float = 0.0, first: int = 0) -> pd.Series:
        drawn = pd.Series(DAY_ZERO + pd.to_timedelta(rng.integers(first, DAYS, n), unit="D"))
        return drawn.mask(rng.random(n) < blank)

    def some(values: tuple | np.ndarray, n: int, blank: float = 0.0) -> pd.Series:
        return pd.Series(rng.choice(np.asarray(values, dtype=object), n)).mask(rng.random(n) < blank)

    def owner(n: int) -> pd.Series:
        return some(np.append(ids[: accounts - 5], NOBODY), n)

    frames = {
        "accounts": {
            "account_id": ids,
            "name": ids,
            "industry": some(("software", "retail", "health"), accounts, 0.2),
            "employees": pd.Series(rng.integers(1, 900, accounts).astype(float)).mask(rng.random(accounts) < 0.2),
            "parent_account_id": some(np.append(ids, NOBODY), accounts, 0.7),
            "created_at": days(accounts, 0.2),
            "cloud": some(("yes", "no", "perhaps"), accounts, 0.2),
            "tools": some(("chat;crm", "crm", "chat; mail ;chat", ";"), accounts, 0.3),
        },
        "opportunities": _opportunities(rng, days, some, owner, 160),
        "products": {"product": ["suite", "core"], "gross_margin": [0.7, None]},
        "contacts": {"contact_id": [f"c{i}" for i in range(80)], "account_id": owner(80)},
        "opportunity_contacts": {
            "opportunity_id": some(tuple(f"o{i:03d}" for i in range(170)), 120),
            "contact_id": some(tuple(f"c{i}" for i in range(80)), 120),
            "role": some(("Economic buyer", "user", "SPONSOR", "champion"), 120, 0.2),
        },
        "activities": {
            "account_id": owner(900),
            "occurred_at": days(900),
            "type": some(TYPES, 900),
            "contact_id": some(tuple(f"c{i}" for i in range(80)), 900, 0.3),
            "weight": some((1.0, 2.5, 0.0, -1.0, 1e-7, 1e6), 900, 0.5),
        },
        "usage": {
            "account_id": owner(200),
            "period": days(200),
            "metric": some(("users", "hours"), 200),
            "value": some((0.0, 0.1, 12.5, 700.0), 200, 0.1),
        },
        "subscriptions": {
            "subscription_id": [f"s{i}" for i in range(60)],
            "account_id": owner(60),
            "started_at": days(60, 0.05),
            "ended_at": days(60, 0.6, 200),
            "mrr": rng.integers(1, 5000, 60) / 7,
            "currency": some(("EUR", "USD"), 60, 0.2),
        },
        "rates": {
            "currency": ["USD", "USD", "USD", "GBP"],
            "valid_from": pd.to_datetime(["2024-01-01", "2025-06-01", "2026-05-01", "2024-01-01"]),
            "rate": [0.9, 0.8, 0.5, 1.2],
        },
        "field_history": {
            "object": ["accounts"] * 40,
            "record_id": owner(40),
            "field": some(("industry", "employees", "cloud", "unheard"), 40),
            "changed_at": days(40),
            "old_value": pd.Series(rng.integers(1, 99, 40)).astype(str),
            "new_value": "x",
        },
    }
    tables = {name: table.empty() for name, table in CANONICAL.items()}
    return tables | {name: typed(name, pd.DataFrame(columns)) for name, columns in frames.items()}


def _opportunities(rng: np.random.Generator, days, some, owner, n: int) -> dict:
    created, status = days(n, 0.05), some(("won", "lost", "open"), n)
    closed = (created + pd.to_timedelta(rng.integers(0, 200, n), unit="D")).mask((status == "open").astype(bool))
    return {
        "opportunity_id": [f"o{i:03d}" for i in range(n)],
        "account_id": owner(n).mask(rng.random(n) < 0.05),
        "created_at": created,
        "closed_at": closed,
        "status": status,
        "amount": pd.Series(rng.choice([1000.0, 1234.56, 99.9, 0.0], n)).mask(rng.random(n) < 0.1),
        "currency": some(("EUR", "USD", "GBP"), n, 0.1),
        "type": some(("new", "renewal", "expansion"), n, 0.3),
        "loss_reason": some(("price", "timing"), n, 0.5),
        "product": some(("suite", "core", "addon"), n, 0.2),
        "term_months": some((0.0, 12.0, 24.0, 7.0), n, 0.5),
        "gross_margin": some((0.5, 0.9), n, 0.6),
        "Status": some(("x", "y"), n),
    }
