"""Reads a seed, makes a market of another build than `icplab.simulate`: no shared code, another base rate, other links.

Three groups by size, correlated yes/no traits (a Gaussian copula), a probit, log-log or heavy-tailed link instead of the
logistic one, sellers and sources with effects, a number with a curved effect, optionally one trait that works in one group
only. True effects are what the logistic model of the true probabilities on everything that matters says: with another link no
odds ratio is the same for every account.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from icplab.core.schema import CANONICAL

AS_OF = pd.Timestamp("2026-03-31")
GROUPS = ("small", "middle", "large")
LINKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "probit": stats.norm.cdf,
    "loglog": lambda eta: np.exp(-np.exp(-eta)),
    "student": lambda eta: stats.t.cdf(eta, 4),
}
SCALE = {"probit": 1.7, "loglog": 1.6, "student": 1.3}  # log odds that a step of one in the link is worth in the middle
REAL, IDLE = 7, 12
SPECIFIC_RATIO = 2.5


@dataclass(frozen=True)
class OtherMarket:
    """Canonical tables; `traits`: trait, level, role, log_odds_ratio, prevalence; `members`: the map; `specific`: its scope."""

    tables: dict[str, pd.DataFrame]
    traits: pd.DataFrame
    members: pd.DataFrame
    specific: set[tuple[str, str]]
    """(trait, segment) planted to differ."""


def make_market(seed: int, *, accounts: int = 3600, specific: bool = False, effect: float = 0.55) -> OtherMarket:
    """One market. `effect` is the planted log odds ratio in the middle of the link (drawn 0 to 60 % larger per trait)."""
    rng = np.random.default_rng([seed, 77])
    link = list(LINKS)[seed % len(LINKS)]
    group = rng.choice(3, accounts, p=rng.dirichlet([14, 12, 9]))
    employees = np.exp(rng.normal(3.4 + 1.5 * group, 0.9))
    has, prevalence = _correlated_flags(rng, accounts)
    years = rng.gamma(4, 4, accounts)
    kinds = rng.choice(list("pqrs"), accounts, p=[0.4, 0.3, 0.2, 0.1])
    effects = np.zeros(REAL + IDLE)
    effects[:REAL] = rng.choice([-1, 1], REAL) * effect * rng.uniform(1, 1.6, REAL) / SCALE[link]
    slopes = np.tile(effects[:, None], (1, 3))
    where = int(np.argmax(np.bincount(group, minlength=3)))
    if specific:  # the first real trait works in the largest group only, the odds ratios differ by the ratio
        prevalence[0] = max(prevalence[0], 0.25)
        has[:, 0] = rng.random(accounts) < prevalence[0]
        slopes[0] = 0.0
        slopes[0, where] = np.log(SPECIFIC_RATIO) / SCALE[link]
    source, owner = rng.choice(5, accounts, p=[0.3, 0.25, 0.2, 0.15, 0.1]), rng.integers(0, 14, accounts)
    base = rng.uniform(-0.3, 0.3) + np.array([-0.35, 0.0, 0.3])[group]
    base = base + np.array([0.5, 0.0, 0.0, -0.3, 0.0])[source] + rng.normal(0, 0.15, 14)[owner]
    base = base + 0.12 * np.log1p(years) - 0.3
    eta = base + (has * slopes[:, group].T).sum(axis=1)
    win = LINKS[link](eta)
    truth = _true_effects(has, win, group, source, owner, years)
    order = rng.permutation(REAL + IDLE)
    names = [f"x{int(i):02d}" for i in order]
    frame = pd.DataFrame({name: _blanked(rng, has[:, j]) for j, name in enumerate(names)})
    frame = frame.assign(kind=kinds, years=years.round(1))
    tables = _tables(rng, frame, employees, win, source, owner)
    traits = _traits(names, truth, effects, prevalence, specific)
    return OtherMarket(tables, traits, _map(rng, group), {(names[0], GROUPS[where])} if specific else set())


def _correlated_flags(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Flags whose latent normals share three factors: correlations up to about .5."""
    width = REAL + IDLE
    loads = rng.uniform(0, 0.45, (3, width)) * rng.choice([-1, 1], (3, width))
    latent = rng.normal(size=(n, 3)) @ loads + rng.normal(size=(n, width)) * np.sqrt(1 - (loads**2).sum(axis=0))
    prevalence = rng.uniform(0.08, 0.40, width)
    return (latent < stats.norm.ppf(prevalence)).astype(float), prevalence


def _true_effects(
    has: np.ndarray, win: np.ndarray, group: np.ndarray, source: np.ndarray, owner: np.ndarray, years: np.ndarray
) -> list[float]:
    """Log odds ratios that a logistic model of the true probabilities on everything that matters converges to."""
    everything = [has, np.log1p(years)[:, None], *(np.eye(v.max() + 1)[v][:, 1:] for v in (group, source, owner))]
    design = np.column_stack([np.ones(len(has)), *everything])
    theta = np.zeros(design.shape[1])
    for _ in range(25):
        p = 1 / (1 + np.exp(-design @ theta))
        theta += np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design, design.T @ (win - p))
    return theta[1 : 1 + has.shape[1]].tolist()


def _blanked(rng: np.random.Generator, values: np.ndarray) -> pd.Series:
    """Yes or no, six in a hundred unknown."""
    words = pd.Series(np.where(values == 1, "yes", "no"), dtype="str")
    return words.mask(rng.random(len(values)) < 0.06)


def _tables(
    rng: np.random.Generator,
    frame: pd.DataFrame,
    employees: np.ndarray,
    win: np.ndarray,
    source: np.ndarray,
    owner: np.ndarray,
) -> dict[str, pd.DataFrame]:
    """Accounts and opportunities of two years, as exported on AS_OF."""
    n = len(frame)
    ids = pd.Series([f"K{i:05d}" for i in range(n)], dtype="str")
    accounts = frame.assign(
        account_id=ids,
        name="Org " + ids,
        employees=employees.round(),
        region=pd.Series(rng.choice(["north", "south", "east"], n), dtype="str"),
        created_at=(AS_OF - pd.Timedelta(days=1000)).as_unit("us"),
    )
    place = np.repeat(np.arange(n), rng.choice([1, 2, 3], n, p=[0.6, 0.3, 0.1]))
    created = AS_OF - pd.to_timedelta(rng.integers(5, 730, len(place)), unit="D")
    closed = created + pd.to_timedelta(rng.gamma(3, 25, len(place)).astype(int) + 1, unit="D")
    won = rng.random(len(place)) < win[place]
    is_open = closed > AS_OF
    opportunities = pd.DataFrame(
        {
            "opportunity_id": pd.Series([f"D{i:06d}" for i in range(len(place))], dtype="str"),
            "account_id": ids.iloc[place].to_numpy(),
            "created_at": created.as_unit("us"),
            "closed_at": pd.Series(closed.as_unit("us")).mask(is_open),
            "status": np.where(is_open, "open", np.where(won, "won", "lost")),
            "amount": np.exp(rng.normal(9, 0.8, len(place))).round(2),
            "source": np.array([f"s{i}" for i in range(5)])[source[place]],
            "owner": np.array([f"u{i:02d}" for i in range(14)])[owner[place]],
            "type": "new",
        }
    )
    texts = ("opportunity_id", "account_id", "status", "source", "owner", "type")
    made = {"accounts": accounts, "opportunities": opportunities.astype(dict.fromkeys(texts, "str"))}
    return {name: _declared(name, frame) for name, frame in made.items()}


def _declared(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """With every declared column, blank where this market has none."""
    absent = CANONICAL[name].empty().reindex(frame.index)
    return frame.assign(**{c: absent[c] for c in absent if c not in frame})


def _traits(
    names: list[str], truth: list[float], effects: np.ndarray, prevalence: np.ndarray, specific: bool
) -> pd.DataFrame:
    roles = np.where(effects != 0, "planted", "idle").astype(object)
    if specific:
        roles[0] = "specific"
    rows = {"trait": names, "level": "yes", "role": roles, "log_odds_ratio": truth, "prevalence": prevalence}
    kinds = {"trait": "kind", "level": list("pqrs"), "role": "idle", "log_odds_ratio": 0.0, "prevalence": np.nan}
    return pd.concat([pd.DataFrame(rows), pd.DataFrame(kinds)], ignore_index=True)


def _map(rng: np.random.Generator, group: np.ndarray) -> pd.DataFrame:
    """A map that is right for nine accounts in ten, and says how sure it is."""
    wrong = rng.random(len(group)) < 0.10
    label = np.where(wrong, (group + rng.integers(1, 3, len(group))) % 3, group)
    names = np.array(GROUPS)[label]
    ids = pd.Series([f"K{i:05d}" for i in range(len(group))], dtype="str")
    return pd.DataFrame({"account_id": ids, "segment_id": names, "segment": names, "membership": 0.9})
