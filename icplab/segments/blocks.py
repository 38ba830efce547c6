"""Reads the account table and the catalogue, makes the numeric and the discrete block that a mixture is fitted to.

What the blocks hold is written down as a recipe of plain values, so that later accounts are read the same way.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.core.config import Settings

MIN_TOOL_SHARE, MAX_TOOL_SHARE = 0.01, 0.95  # method.md §3: rarer and commoner tools cannot tell segments apart
MIN_LEVEL_SHARE = 0.01  # rarer levels of a category are read together as "other"
MIN_LEVEL_COUNT = 10
MAX_LEVELS = 20
NEAR_DUPLICATE = 0.9  # phi of two tools (method.md §3), share of a category explained by another
NEAR_COLLINEAR = 0.98  # correlation above which a second number adds nothing but an ill-conditioned covariance
SPIKE_SHARE = 0.10  # a value this frequent would attract a component of its own; the number is then cut into bands
FEW_VALUES = 10  # numbers with so few distinct values are read as bands
BANDS = 4
KNOTS = np.arange(-3.0, 3.01, 0.1)  # normal quantiles at which the scale of a number is written down
SOURCE_CORRELATION = (
    0.2  # with the date of the record: such a tool tells who enriched the record, not what the account is
)
BUNDLE_PHI, BUNDLE_SIZE = (
    0.3,
    3,
)  # tools that co-occur this closely, in groups of at least this many, are checked as a bundle
BUNDLE_P = 0.01  # a bundle that goes with nothing but itself (Bonferroni over the other traits) is left out
OTHER = "other"
YES, NO = "yes", "no"


@dataclass(frozen=True)
class Blocks:
    """What a mixture sees of each account, sorted by account_id.

    Attributes
    ----------
    account_id : (n,) ids
    numbers : (n, d) normal scores of numbers, NaN where unknown
    levels : (n, c) 0/1, one column per level of a discrete variable; a row of zeros within a variable means unknown
    variable : (c,) which discrete variable a level column belongs to, ascending
    """

    account_id: np.ndarray
    numbers: np.ndarray
    levels: np.ndarray
    variable: np.ndarray

    @property
    def n_variables(self) -> int:
        return int(self.variable[-1]) + 1 if len(self.variable) else 0

    def take(self, rows: np.ndarray) -> Blocks:
        """The same blocks for some rows, in the order given."""
        return Blocks(self.account_id[rows], self.numbers[rows], self.levels[rows], self.variable)

    def known_share(self) -> np.ndarray:
        """Share of variables that are known, per account; 0 where there is no variable."""
        starts = np.flatnonzero(np.diff(self.variable, prepend=-1))
        known = np.add.reduceat(self.levels, starts, axis=1) if len(starts) else np.zeros((len(self.levels), 0))
        each = np.hstack([~np.isnan(self.numbers), known > 0])
        return each.mean(axis=1) if each.shape[1] else np.zeros(len(each))


def write_recipe(accounts: pd.DataFrame, catalogue: pd.DataFrame) -> dict:
    """How each candidate trait is read: on which scale, in which levels or bands, and what was left out and why.

    Left out are traits that cannot tell accounts apart, that repeat another, that follow the date on which records were made
    (tools and yes/no traits as a data vendor delivers them), and bundles of tools that go with nothing but each other.

    Parameters
    ----------
    accounts : account table; reads created_at and the trait columns, never an outcome
    catalogue : reads trait, table, kind, role, excluded; traits of opportunities, excluded and forbidden ones are left out

    Returns
    -------
    dict of plain values: numbers (trait, values, scores), discrete (trait, kind, levels, …), left_out (trait, why)
    """
    usable = catalogue[(catalogue["table"] == "accounts") & ~catalogue["excluded"] & (catalogue["role"] != "forbidden")]
    left_out: list[dict] = []
    numbers: list[dict] = []
    discrete: list[dict] = []
    for trait, kind in sorted(zip(usable["trait"], usable["kind"], strict=True)):
        read = _READERS[kind](trait, accounts[trait])
        if not read:
            left_out.append({"trait": trait, "why": "too few values to tell accounts apart"})
        for entry in read:
            (numbers if entry["kind"] == "number" else discrete).append(entry)
    recipe = {"numbers": numbers, "discrete": discrete, "left_out": left_out}
    recipe = _without(recipe, _of_the_source(recipe, accounts))
    return _without(recipe, _repeated(recipe, accounts))


def draft_column(settings: Settings) -> str:
    """Column of the team's own segmentation, "" where the playbook names none. It is compared with, never fitted to."""
    draft = settings.playbook.get("draft")
    column = draft.get("column") if isinstance(draft, Mapping) else None
    return column if isinstance(column, str) else ""


def read_blocks(recipe: dict, accounts: pd.DataFrame) -> Blocks:
    """The blocks of `accounts` under a recipe, sorted by account_id. Unseen levels are read as "other", else as unknown."""
    frame = accounts.sort_values("account_id", ignore_index=True)
    numbers = [_standardised(entry, frame[entry["trait"]]) for entry in recipe["numbers"]]
    codes = {t: _tool_sets(frame[t]) for t in {e["trait"] for e in recipe["discrete"] if e["kind"] == "tool"}}
    levels = [
        _tool(entry, *codes[entry["trait"]]) if entry["kind"] == "tool" else _one_hot(entry, frame[entry["trait"]])
        for entry in recipe["discrete"]
    ]
    sizes = [block.shape[1] for block in levels]
    n = len(frame)
    return Blocks(
        frame["account_id"].to_numpy(dtype=object),
        np.column_stack(numbers) if numbers else np.zeros((n, 0)),
        np.hstack(levels) if levels else np.zeros((n, 0)),
        np.repeat(np.arange(len(sizes)), sizes),
    )


def variable_names(recipe: dict) -> list[str]:
    """Name of each discrete variable: the trait, or trait: tool."""
    return [f"{e['trait']}: {e['tool']}" if e["kind"] == "tool" else e["trait"] for e in recipe["discrete"]]


def _read_number(trait: str, values: pd.Series) -> list[dict]:
    """A scale for a continuous number; bands for a spiked or nearly discrete one."""
    known = values.dropna().to_numpy(dtype=float)
    known = known[np.isfinite(known)]
    if len(known) < MIN_LEVEL_COUNT or np.ptp(known) == 0:
        return []
    distinct, counts = np.unique(known, return_counts=True)
    if len(distinct) <= FEW_VALUES or counts.max() / len(known) > SPIKE_SHARE:
        return _bands(trait, known, distinct, counts)
    return [{"kind": "number", "trait": trait, **_normal_scale(known)}]


def _normal_scale(known: np.ndarray) -> dict:
    """Values at fixed normal quantiles: a number is read as the normal score of its rank.

    A skewed, uniform or clipped margin would otherwise attract classes of its own; what is kept is how it goes with the rest.
    """
    from scipy.special import ndtr, ndtri

    place = ndtr(KNOTS)
    values = np.quantile(known, place, method="median_unbiased")
    # Tied knots share their mean score, so that equal values get equal scores.
    distinct, inverse = np.unique(values, return_inverse=True)
    score = ndtri(np.bincount(inverse, place) / np.bincount(inverse))
    return {"values": distinct.tolist(), "scores": score.tolist()}


def _bands(trait: str, known: np.ndarray, distinct: np.ndarray, counts: np.ndarray) -> list[dict]:
    """Lower edges of bands: quartiles, with a frequent value in a band of its own."""
    starts = {float(e) for e in np.quantile(known, np.arange(1, BANDS) / BANDS, method="lower")}
    for value in distinct[counts / len(known) > SPIKE_SHARE]:
        above = distinct[distinct > value]
        starts |= {float(value)} | ({float(above[0])} if len(above) else set())
    edges = sorted(starts - {float(distinct[0])})
    return [{"kind": "band", "trait": trait, "edges": edges, "levels": _band_names(edges)}] if edges else []


def _band_names(edges: list[float]) -> list[str]:
    inner = [f"{a:g} to below {b:g}" for a, b in itertools.pairwise(edges)]
    return [f"below {edges[0]:g}", *inner, f"{edges[-1]:g} or more"]


def _read_category(trait: str, values: pd.Series) -> list[dict]:
    counts = values.dropna().value_counts()
    floor = max(MIN_LEVEL_COUNT, MIN_LEVEL_SHARE * counts.sum())
    counts = counts.sort_index().sort_values(ascending=False, kind="stable")
    levels = [str(v) for v in counts.index[counts >= floor][:MAX_LEVELS]]
    rest = counts.drop(levels).sum()
    if rest:
        levels = [v for v in levels if v != OTHER] + [OTHER]
    return [{"kind": "category", "trait": trait, "levels": levels}] if len(levels) > 1 else []


def _read_flag(trait: str, values: pd.Series) -> list[dict]:
    share = values.dropna().astype(float).mean() if values.notna().any() else 0.0
    telling = MIN_TOOL_SHARE <= share <= 1 - MIN_TOOL_SHARE
    return [{"kind": "flag", "trait": trait, "levels": [NO, YES]}] if telling else []


def _read_tools(trait: str, values: pd.Series) -> list[dict]:
    present, names, known = _tool_sets(values)
    share = present[known].mean(axis=0) if known.any() else np.zeros(len(names))
    kept = [n for n, s in zip(names, share, strict=True) if MIN_TOOL_SHARE <= s <= MAX_TOOL_SHARE]
    return [{"kind": "tool", "trait": trait, "tool": name, "levels": [NO, YES]} for name in kept]


_READERS = {"number": _read_number, "category": _read_category, "flag": _read_flag, "multi": _read_tools}


def _tool_sets(values: pd.Series) -> tuple[np.ndarray, list[str], np.ndarray]:
    """(n, tools) presence, tool names in alphabetical order, and which accounts have a known stack."""
    parts = values.astype("str").str.split(";").explode().astype("str").str.strip()
    parts = parts[parts.notna() & (parts != "")]
    names = sorted(parts.unique())
    present = np.zeros((len(values), len(names)), dtype=bool)
    rows = pd.Series(np.arange(len(values)), index=values.index).loc[parts.index].to_numpy()
    present[rows, pd.Index(names).get_indexer(parts)] = True
    return present, names, values.notna().to_numpy()


def _tool(entry: dict, present: np.ndarray, names: list[str], known: np.ndarray) -> np.ndarray:
    has = present[:, names.index(entry["tool"])] if entry["tool"] in names else np.zeros(len(known), dtype=bool)
    return np.column_stack([known & ~has, known & has]).astype(float)


def _one_hot(entry: dict, values: pd.Series) -> np.ndarray:
    """(n, levels) 0/1; unknown is a row of zeros."""
    levels = entry["levels"]
    if entry["kind"] == "band":
        number = values.to_numpy(dtype=float)
        code = np.where(np.isnan(number), -1, np.searchsorted(entry["edges"], number, side="right"))
    elif entry["kind"] == "flag":
        code = values.astype("float64").fillna(-1).to_numpy().astype(int)
    else:
        code = pd.Index(levels).get_indexer(values.astype("str"))
        if OTHER in levels:
            code = np.where((code < 0) & values.notna().to_numpy(), levels.index(OTHER), code)
    return (code[:, None] == np.arange(len(levels))).astype(float)


def _standardised(entry: dict, values: pd.Series) -> np.ndarray:
    number = values.to_numpy(dtype=float)
    number = np.where(np.isfinite(number), number, np.nan)
    return np.interp(number, entry["values"], entry["scores"])


def _without(recipe: dict, out: dict[str, str]) -> dict:
    """The recipe without the variables named, which are noted with the reason."""
    names = variable_names(recipe)
    told = [{"trait": name, "why": why} for name, why in sorted(out.items())]
    return {
        "numbers": [e for e in recipe["numbers"] if e["trait"] not in out],
        "discrete": [e for e, name in zip(recipe["discrete"], names, strict=True) if name not in out],
        "left_out": recipe["left_out"] + told,
    }


def _repeated(recipe: dict, accounts: pd.DataFrame) -> dict[str, str]:
    """Variables that repeat another: they would make a segment of their own agreement."""
    blocks = read_blocks(recipe, accounts)
    names = variable_names(recipe)
    out = {recipe["numbers"][i]["trait"]: "repeats another number" for i in _repeated_numbers(blocks.numbers)}
    return out | {names[j]: f"follows from {names[of]}" for j, of in _repeated_levels(blocks).items()}


def _of_the_source(recipe: dict, accounts: pd.DataFrame) -> dict[str, str]:
    """Tools and yes/no traits that tell how a record was made rather than what the account is."""
    names = variable_names(recipe)
    marks = [j for j, e in enumerate(recipe["discrete"]) if e["kind"] in ("tool", "flag")]
    if not marks:
        return {}
    frame = accounts.sort_values("account_id", ignore_index=True)
    blocks = read_blocks(recipe, frame)
    has = np.column_stack([_presence(blocks, j) for j in marks])
    dated = np.abs(_correlation(has, _made_at(frame)[:, None])[:, 0]) >= SOURCE_CORRELATION
    out = {names[j]: "follows the date on which the record was made" for j, d in zip(marks, dated, strict=True) if d}
    bundle = _bundles(_correlation(has, has))
    others = np.hstack([blocks.numbers, blocks.levels[:, ~np.isin(blocks.variable, marks)]])
    for members in bundle:
        if not _goes_with(_centred(has[:, members]).sum(axis=1), others):
            out |= {names[marks[m]]: "goes with other tools only" for m in members}
    return out


def _presence(blocks: Blocks, variable: int) -> np.ndarray:
    """1, 0 or NaN per account for a yes/no variable."""
    block = blocks.levels[:, blocks.variable == variable]
    return np.where(block.sum(axis=1) > 0, block[:, 1], np.nan)


def _made_at(frame: pd.DataFrame) -> np.ndarray:
    """Rank of the date on which the record was made, NaN where unknown."""
    if "created_at" not in frame:
        return np.full(len(frame), np.nan)
    return frame["created_at"].rank().to_numpy(dtype=float)


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(a, b) correlations over the accounts where both are known; 0 where there is nothing to correlate."""
    known_a, known_b = ~np.isnan(one), ~np.isnan(other)
    a, b = _centred(one), _centred(other)
    spread = ((a**2).T @ known_b) * (known_a.T @ (b**2))
    return (a.T @ b) / np.sqrt(np.maximum(spread, 1e-12))


def _centred(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, values - mean, 0.0)


def _bundles(phi: np.ndarray) -> list[np.ndarray]:
    """Groups of tools linked by close co-occurrence."""
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components(phi >= BUNDLE_PHI, directed=False)
    groups = [np.flatnonzero(label == g) for g in range(count)]
    return [g for g in groups if len(g) >= BUNDLE_SIZE]


def _goes_with(score: np.ndarray, others: np.ndarray) -> bool:
    """Whether a bundle is associated with any trait that is not a tool."""
    from scipy.special import erfc

    if not others.shape[1]:
        return True  # nothing to hold it against
    r = _correlation(score[:, None], others)[0]
    p = erfc(np.abs(np.arctanh(np.clip(r, -0.999, 0.999))) * np.sqrt(max(len(score) - 3, 1) / 2))
    return bool(p.min() * others.shape[1] <= BUNDLE_P)


def _repeated_numbers(numbers: np.ndarray) -> set[int]:
    if numbers.shape[1] < 2:
        return set()
    r = pd.DataFrame(numbers).corr(min_periods=MIN_LEVEL_COUNT).abs().to_numpy()
    repeated: set[int] = set()
    for i, j in np.argwhere(np.triu(r > NEAR_COLLINEAR, 1)):
        if int(i) not in repeated:
            repeated.add(int(j))
    return repeated


def _repeated_levels(blocks: Blocks) -> dict[int, int]:
    """Variable -> the coarser one that it determines: its own levels add only detail, and the pair is not independent."""
    h, var = blocks.levels, blocks.variable
    if not len(var):
        return {}
    starts = np.flatnonzero(np.diff(var, prepend=-1))
    size = np.diff(np.append(starts, len(var)))
    joint = h.T @ h
    total = np.add.reduceat(np.add.reduceat(joint, starts, axis=0), starts, axis=1)
    within = np.add.reduceat(joint, starts, axis=1)  # (level, variable): accounts with the level and the variable known
    xlogx = np.where(joint > 0, joint * np.log(np.maximum(joint, 1)), 0.0)
    inner = np.add.reduceat(np.add.reduceat(xlogx, starts, axis=0), starts, axis=1)
    wlogw = np.where(within > 0, within * np.log(np.maximum(within, 1)), 0.0)
    by_row = np.add.reduceat(wlogw, starts, axis=0)  # [a, b]: sum over levels of a, on accounts where b is known
    n = np.maximum(total, 1)
    entropy_joint = np.log(n) - inner / n
    entropy = np.log(n) - by_row / n  # entropy of a where b is known
    shared = entropy + entropy.T - entropy_joint
    explained = shared / np.maximum(entropy.T, 1e-9)  # share of b explained by a
    repeated: dict[int, int] = {}
    # b follows from a: keep the coarser b, leave a out. Among equals the later one goes.
    for a, b in np.argwhere((explained > NEAR_DUPLICATE**2) & ~np.eye(len(size), dtype=bool)):
        coarser = size[b] < size[a] or (size[b] == size[a] and b < a)
        if coarser and int(b) not in repeated and int(a) not in repeated:
            repeated[int(a)] = int(b)
    return repeated
