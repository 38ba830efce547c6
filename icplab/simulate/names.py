"""Reads random streams, makes names: neutral or plausible columns and levels, fictitious organisations and people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

# Plausible names are dealt out at random: a name says nothing about what its column does.
FLAGS = [
    "sells_online",
    "multi_site",
    "uses_consultants",
    "iso_certified",
    "family_owned",
    "exports_goods",
    "has_data_team",
    "recent_funding",
    "hiring_in_finance",
    "shared_service_centre",
    "audited_accounts",
    "field_workforce",
    "seasonal_demand",
    "recent_merger",
    "board_digital_mandate",
    "spreadsheet_planning",
    "public_tenders",
    "works_in_shifts",
    "own_vehicle_fleet",
    "franchise_model",
    "group_reporting",
    "foreign_subsidiaries",
    "unionised",
    "outsourced_payroll",
    "cloud_first",
]
CATEGORIES = {
    "deployment_preference": ("cloud", "on premise", "hybrid", "hosted", "undecided", "mixed by site"),
    "billing_model": ("monthly", "per project", "subscription", "milestones", "per unit", "mixed"),
    "process_maturity": ("manual", "partly automated", "standardised", "measured", "optimised", "outsourced"),
    "primary_use_case": ("reporting", "planning", "payments", "procurement", "compliance", "consolidation"),
}
CATEGORY_ROLES = {
    "deployment_preference": "deployment",
    "process_maturity": "maturity",
    "primary_use_case": "use_case",
}
LEAKS = ("rollout_package", "seats_confirmed", "days_since_contact")
NUMBERS = ("sites", "open_positions", "fleet_size", "legal_entities")
INDUSTRIES = (
    "Manufacturing",
    "Wholesale",
    "Software",
    "Logistics",
    "Health care",
    "Financial services",
    "Retail",
    "Construction",
)
NEEDS = ("late invoices", "slow month end", "stock gaps", "audit trail", "manual planning")
TOOLS = [
    "Abacore",
    "Brightledger",
    "Cargomesh",
    "Datapint",
    "Easyquote",
    "Factorline",
    "Gridpay",
    "Harborbase",
    "Inkwell",
    "Jetform",
    "Kernelsuite",
    "Loopdesk",
    "Mapforge",
    "Northstack",
    "Orbitcrm",
    "Papertrail",
    "Quillbooks",
    "Rivetplan",
    "Sagewell",
    "Tallypoint",
    "Upstream",
    "Vaultsheet",
    "Wirepost",
    "Xactly-Q",
    "Yieldbase",
    "Zonecart",
    "Anchorpay",
    "Beamtask",
    "Clearstock",
    "Driftmail",
    "Edgefile",
    "Fieldnote",
    "Glasspane",
    "Hubline",
    "Ironroute",
    "Juncture",
    "Kiteform",
    "Latchkey",
    "Meridio",
    "Nimbuslog",
]
_ONSETS = [
    "b",
    "br",
    "c",
    "cl",
    "d",
    "dr",
    "f",
    "g",
    "gr",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "w",
]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ea"]
_ENDS = ("n", "r", "l", "s", "nd", "m", "x", "th")
_TRADES = [
    "Systems",
    "Works",
    "Group",
    "Industries",
    "Logistics",
    "Foods",
    "Textiles",
    "Instruments",
    "Partners",
    "Supply",
    "Motors",
    "Labs",
    "Components",
    "Services",
    "Trading",
    "Packaging",
    "Energy",
    "Materials",
    "Health",
    "Capital",
]


@dataclass(frozen=True)
class Naming:
    """The visible name of everything that was planted."""

    flags: tuple[str, ...]
    categories: tuple[str, ...]
    category_levels: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...]
    need: str
    tools_column: str
    industries: tuple[str, ...]
    needs: tuple[str, ...]
    tools: tuple[str, ...]
    leaks: tuple[str, ...]
    roles: dict[str, str]
    """Column -> role to declare in icplab.toml."""


def deal_names(
    kind: str, flags: int, categories: list[int], numbers: int, tools: int, leaks: int, rng: np.random.Generator
) -> Naming:
    """Names for so many flags, categories (given by their number of levels), numbers, tools and leaking columns.

    `neutral` gives c01, c02, ... in random order over all columns; `plausible` gives readable names in random order.
    """
    if kind == "plausible":
        return _plausible(flags, categories, numbers, tools, leaks, rng)
    total = flags + len(categories) + numbers + leaks + 2
    names = [f"c{i:02d}" for i in rng.permutation(total) + 1]
    levels = tuple(tuple(f"v{i + 1}" for i in rng.permutation(n)) for n in categories)
    first, second = flags, flags + len(categories)
    need, stack = names[-2:]
    return Naming(
        flags=tuple(names[:first]),
        categories=tuple(names[first:second]),
        category_levels=levels,
        numbers=tuple(names[second : second + numbers]),
        leaks=tuple(names[second + numbers : -2]),
        need=need,
        tools_column=stack,
        industries=tuple(f"i{i + 1}" for i in rng.permutation(8)),
        needs=tuple(f"n{i + 1}" for i in rng.permutation(5)),
        tools=tuple(f"t{i + 1:03d}" for i in rng.permutation(tools)),
        roles={need: "need", stack: "technology"},
    )


def _plausible(
    flags: int, categories: list[int], numbers: int, tools: int, leaks: int, rng: np.random.Generator
) -> Naming:
    names = [*rng.permutation(FLAGS), *(f"marker_{i}" for i in range(len(FLAGS), flags))]
    chosen = [str(c) for c in rng.permutation(list(CATEGORIES))[: len(categories)]]
    levels = tuple(
        tuple((*CATEGORIES.get(c, ()), *(f"other {i}" for i in range(n)))[:n])
        for c, n in zip(chosen, categories, strict=True)
    )
    stack = [*rng.permutation(TOOLS), *(f"Tool {i}" for i in range(len(TOOLS), tools))]
    return Naming(
        flags=tuple(map(str, names[:flags])),
        categories=tuple(chosen),
        category_levels=levels,
        numbers=tuple(map(str, rng.permutation(NUMBERS)[:numbers])),
        leaks=LEAKS[:leaks],
        need="main_need",
        tools_column="tech_stack",
        industries=tuple(map(str, rng.permutation(INDUSTRIES))),
        needs=tuple(map(str, rng.permutation(NEEDS))),
        tools=tuple(map(str, stack[:tools])),
        roles={"main_need": "need", "tech_stack": "technology"}
        | {c: CATEGORY_ROLES[c] for c in chosen if c in CATEGORY_ROLES},
    )


def organisations(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """`n` distinct fictitious names with domain and page; top-level domain `.example` belongs to nobody."""
    parts = (_ONSETS, _VOWELS, _ONSETS, _VOWELS, _ENDS)
    total = int(np.prod([len(p) for p in parts]))
    # The first word is never shared while there are enough of them, so no two names look like one organisation.
    place = rng.choice(total, min(n, total), replace=False)
    first, turn = np.resize(place, n), np.arange(n) // total
    trade = (rng.integers(0, len(_TRADES), n) + turn) % len(_TRADES)
    codes = np.unravel_index(first, [len(p) for p in parts])
    word = pd.Series([""] * n, dtype="str")
    for part, code in zip(parts, codes, strict=True):
        word = word + choose(part, code)
    slug = word + "-" + choose([t.lower() for t in _TRADES], trade)
    slug = slug.where(pd.Series(turn == 0), slug + "-" + pd.Series(turn).astype("str"))
    name = word.str.capitalize() + " " + choose(_TRADES, trade)
    name = name.where(pd.Series(turn == 0), name + " " + pd.Series(turn + 1).astype("str"))
    return pd.DataFrame(
        {"name": name, "domain": slug + ".example", "linkedin_url": "https://pages.example/company/" + slug}
    )


def choose(levels: Sequence[str] | pd.Series, codes: np.ndarray) -> pd.Series:
    """Level of each code as text; code -1 is missing."""
    text = levels.array if isinstance(levels, pd.Series) else pd.array(list(levels), dtype="str")
    return pd.Series(text.take(np.asarray(codes), allow_fill=True))


def number_ids(prefix: str, numbers: np.ndarray, width: int = 6) -> pd.Series:
    """Identifiers such as A000042; negative numbers are missing."""
    numbers = np.asarray(numbers)
    text = prefix + pd.Series(np.maximum(numbers, 0)).astype("str").str.zfill(width)
    return text.mask(pd.Series(numbers < 0)) if (numbers < 0).any() else text


def join_marked(marked: np.ndarray, levels: tuple[str, ...]) -> pd.Series:
    """Names of the marked columns of each row joined by `;`, in alphabetical order; no mark is missing."""
    order = np.argsort(levels)
    rows, columns = np.nonzero(marked[:, order])
    offsets = np.searchsorted(rows, np.arange(len(marked) + 1)).astype(np.int32)
    named = pa.array([levels[i] for i in order]).take(pa.array(columns))
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), named), ";")
    text = pd.Series(joined.to_pandas().to_numpy(dtype=object), dtype="str")
    return text.mask(pd.Series(~marked.any(axis=1)))
