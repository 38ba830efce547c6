"""Reads nothing, makes recipes: every parameter of a simulated market, the ranges they vary in, and the scenarios."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from icplab.core.errors import BadInput, nearest

# Channels of the simulated business, share of opportunities, and cost of one opportunity in the reporting currency.
CHANNELS = ("outbound", "referral", "paid search", "events", "partner", "website")
CHANNEL_SHARES = (0.30, 0.15, 0.15, 0.10, 0.10, 0.20)
CHANNEL_COSTS = (3800.0, 900.0, 2800.0, 4600.0, 1800.0, 1200.0)
REFERRAL = CHANNELS.index("referral")
# Shared log odds that give outcomes within a family an intraclass correlation of .3 on the logistic scale.
FAMILY_SD = float(np.sqrt(0.3 / 0.7 * np.pi**2 / 3))


@dataclass(frozen=True)
class Planted:
    """One column with known effect on winning: `shares` and `effects` run over its levels (for a flag: no, yes)."""

    role: str
    """planted, idle, confounded or vendor; see docs/simulation.md."""
    kind: str
    """flag or category."""
    shares: tuple[float, ...]
    effects: tuple[float, ...]
    """Log odds of winning, added per level."""
    late_effects: tuple[float, ...] = ()
    """Effects from `Recipe.drift_month` on; empty: unchanged."""
    in_referral: float = 0.0
    """Share of `yes` among referred accounts, when it differs (flags only); 0: the same everywhere."""
    counts: tuple[int, ...] = ()
    """Exact number of accounts of the first levels; the rest is drawn from `shares`."""


@dataclass(frozen=True)
class Recipe:
    """Parameters of a market. The defaults are the base market B0."""

    accounts: int = 3000
    months: int = 30
    as_of: str = "2026-06-30"
    names: str = "neutral"
    """neutral: shuffled c01, c02, ...; plausible: readable names, dealt out at random."""
    structure: str = "segments"
    """segments, or continuum: one factor and no segments."""
    shares: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    separation: float = 1.0
    """Scales how far segments differ in what is visible; 0 = not at all."""
    log_employees: tuple[float, ...] = (4.0, 5.1, 6.2, 7.3)
    employees_sd: float = 1.0
    revenue_slope: float = 0.9
    revenue_sd: float = 0.6
    own_industry: float = 0.35
    """Share of each of the two industries a segment prefers, of eight."""
    own_need: float = 0.6
    """Share of the need a segment prefers, of five."""
    tools: int = 40
    tools_each: int = 5
    """Tools that each segment prefers."""
    own_tool: float = 0.38
    other_tool: float = 0.08
    tool_range: tuple[float, float] | None = None
    """Log-uniform range of the prevalence of other tools; None: `other_tool`."""
    vendors: bool = False
    """True: tools come in bundles that depend on who enriched the record, and on nothing else."""
    worked: float = 1.0
    """Share of accounts with at least one opportunity."""
    more_opportunities: float = 0.6
    """Opportunities of a worked account: one plus a Poisson number with this mean."""
    growth: float = 0.0
    """Monthly growth of the number of opportunities created."""
    win_rate: float | None = 0.22
    """Share of opportunities that are won in the end; None: `segment_win` holds absolute log odds."""
    segment_win: tuple[float, ...] = (-0.6, 0.0, 0.4, 0.9)
    late_segment_win: tuple[float, ...] = ()
    """Added to `segment_win` from `drift_month` on."""
    drift_month: int = 18
    late_tools: float = 0.0
    """Shift of tool prevalence, in standard deviations, of accounts created from `drift_month` on."""
    traits: int = 10
    trait_effect: float = 0.5
    trait_shares: tuple[float, float] = (0.08, 0.40)
    idle_flags: int = 10
    idle_categories: int = 2
    idle_numbers: int = 2
    extra: tuple[Planted, ...] = ()
    """Further planted columns of a scenario."""
    rep_sd: float = 0.25
    star_rep: float = 0.0
    """Log odds that one seller adds; that seller owns every account of one industry."""
    quarter_sd: float = 0.1
    source_shares: tuple[float, ...] = CHANNEL_SHARES
    source_win: tuple[float, ...] = (0.0,) * len(CHANNELS)
    expansion_win: float = 0.0
    """Log odds added when the account is a customer already."""
    expansion_acv: float = 1.0
    """Factor on the annual value of expansions."""
    cycle_median: tuple[float, ...] = (60.0, 78.0, 101.4, 131.82)
    cycle_sd: float = 0.6
    won_cycle: float = 0.8
    urgency_on_cycle: float = 0.4
    """Correlation between urgency (seen in activities) and a short log cycle."""
    acv_median: tuple[float, ...] = (9000.0, 16200.0, 29160.0, 52488.0)
    acv_sd: float = 0.8
    churn: tuple[float, ...] = (0.035, 0.025, 0.018, 0.012)
    """Mean of the beta distribution of the monthly churn probability (shifted-beta-geometric)."""
    churn_a: float = 1.0
    contacts: tuple[float, ...] = (0.8, 1.4, 2.2, 3.2)
    """People at an account: one plus a Poisson number with this mean."""
    activity: float = 1.0
    missing: float = 0.08
    partners: float = 0.0
    """Share of accounts that are partners or competitors (never worked)."""
    horizon_days: int = 365
    cost_to_serve: float = 600.0
    cost_of_touch: float = 60.0
    families: int = 0
    """Number of parent accounts."""
    family_share: float = 0.0
    """Share of accounts that are children of one of the parents."""
    family_sd: float = 0.0
    """Standard deviation of the log odds that a family shares."""
    duplicates: float = 0.0
    """Share of accounts that stand in the CRM twice, under two spellings, with their opportunities split."""
    leaks: tuple[str, ...] = ()
    """written_at_win, filled_after_win, touched_after_close."""
    leak_history: bool = False
    """True: field_history tells when the leaking columns were filled."""
    missing_depends: bool = False
    """True: revenue is missing more often when high, the need when the account was lost."""
    huge_deal: float = 0.0
    """Annual value of one won deal in the smallest segment."""
    clean_up: float = 0.0
    """Share of opportunities closed as lost on one day, and a stage definition that moves at `drift_month`."""


@dataclass(frozen=True)
class Scenario:
    """A named change of the recipe, and the sentence that a good tool should be able to say about it."""

    name: str
    says: str
    change: Callable[[Recipe], Recipe]


def _flat(recipe: Recipe) -> Recipe:
    """One homogeneous segment, no effect of anything."""
    return replace(
        recipe,
        shares=(1.0,),
        separation=0.0,
        log_employees=(5.3,),
        segment_win=(0.0,),
        cycle_median=(80.0,),
        acv_median=(15000.0,),
        churn=(0.025,),
        contacts=(1.6,),
        trait_effect=0.0,
        rep_sd=0.0,
        quarter_sd=0.0,
    )


def _simpson(recipe: Recipe) -> Recipe:
    # Win rate .42 referred and .10 otherwise; the trait is rarer where winning is easy, and helps (odds x 1.3).
    effects = tuple(1.87 if i == REFERRAL else 0.0 for i in range(len(CHANNELS)))
    trait = Planted("planted", "flag", (0.35, 0.65), (0.0, float(np.log(1.3))), in_referral=0.15)
    return replace(recipe, source_shares=(0.65, 0.35, 0, 0, 0, 0), source_win=effects, extra=(trait,))


def _confounded(recipe: Recipe) -> Recipe:
    effects = tuple(1.0 if i == REFERRAL else 0.0 for i in range(len(CHANNELS)))
    shares = (0.10, 0.15, 0.20, 0.25, 0.30)
    extra = tuple(Planted("confounded", "flag", (1 - s, s), (0.0, 0.0), in_referral=2.2 * s) for s in shares)
    return replace(
        recipe,
        source_win=effects,
        source_shares=(0.20, 0.35, 0.12, 0.08, 0.10, 0.15),
        star_rep=1.2,
        extra=extra,
    )


def _tiny_segments(recipe: Recipe) -> Recipe:
    # 25 cells: 15 of 6 to 15 accounts, one of 150 that really wins more (.32 against .20), nine large ones.
    counts = (*(6 + (7 * i) % 10 for i in range(15)), 150)
    low, high = np.log(0.20 / 0.80), np.log(0.32 / 0.68)
    effects = (0.0,) * 15 + (float(high - low),) + (0.0,) * 9
    cells = Planted("planted", "category", (0.0,) * 16 + (1 / 9,) * 9, effects, counts=counts)
    return replace(_flat(recipe), win_rate=None, segment_win=(float(low),), traits=0, extra=(cells,))


def _drift(recipe: Recipe) -> Recipe:
    # Quarter 7 of 10 on: segment 2 loses .7, the tool mix moves; the third trait turns (see `columns_of`).
    return replace(recipe, late_segment_win=(0.0, -0.7, 0.0, 0.0), late_tools=0.2)


def _censoring(recipe: Recipe) -> Recipe:
    logit = [float(np.log(p / (1 - p))) for p in (0.20, 0.30)]
    return replace(
        recipe,
        shares=(0.5, 0.5),
        log_employees=(4.0, 6.2),
        win_rate=None,
        segment_win=tuple(logit),
        cycle_median=(30.0, 150.0),
        won_cycle=1.0,
        acv_median=(12000.0, 25000.0),
        churn=(0.03, 0.018),
        contacts=(1.0, 2.4),
        growth=0.08,
        trait_effect=0.0,
        rep_sd=0.0,
        quarter_sd=0.0,
    )


SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario("clean", "no warning", lambda r: r),
        Scenario("null", "no usable ranking, no trait, no segment", _flat),
        Scenario(
            "continuum",
            "a continuum: no natural segments",
            lambda r: replace(r, structure="continuum", tools=20, trait_effect=0.0),
        ),
        Scenario("simpson", "the crude contrast turns once channels are held equal", _simpson),
        Scenario(
            "leak",
            "three columns were filled after the outcome",
            lambda r: replace(r, leaks=("written_at_win", "filled_after_win", "touched_after_close")),
        ),
        Scenario("confounded", "five traits and one industry ride on a channel and a seller", _confounded),
        Scenario(
            "rare-wins",
            "too few wins for a list of traits",
            lambda r: replace(r, win_rate=0.02, tools=300, tool_range=(0.01, 0.40)),
        ),
        Scenario("tiny-segments", "small cells lead by luck, one larger one is real", _tiny_segments),
        Scenario("censoring", "the slow segment wins more once open deals are censored", _censoring),
        Scenario(
            "heavy-tails",
            "one deal carries the mean",
            lambda r: replace(r, acv_sd=1.8, huge_deal=40e6),
        ),
        Scenario("drift", "a segment and a trait changed from quarter 7 on", _drift),
        Scenario(
            "mnar", "missing values depend on the value and on the outcome", lambda r: replace(r, missing_depends=True)
        ),
        Scenario(
            "definition-change", "a stage moved and deals were closed in bulk", lambda r: replace(r, clean_up=0.125)
        ),
        Scenario(
            "vendor-artefact",
            "tool bundles follow the data vendor, not the market",
            lambda r: replace(r, tools=300, vendors=True),
        ),
        Scenario(
            "duplicates",
            "accounts stand twice in the CRM, and families share outcomes",
            lambda r: replace(r, duplicates=0.15, families=60, family_share=0.20, family_sd=FAMILY_SD),
        ),
    )
}


def find_scenario(name: str) -> Scenario:
    """The scenario of that name.

    Raises
    ------
    BadInput
        No scenario has that name; the message gives the nearest.
    """
    if name not in SCENARIOS:
        raise BadInput(f'scenario "{name}" is not known{nearest(name, SCENARIOS)}; known: {", ".join(SCENARIOS)}')
    return SCENARIOS[name]


def vary_recipe(recipe: Recipe, rng: np.random.Generator) -> Recipe:
    """B0 with its parameters drawn from ranges around their values, so that a tool cannot be tuned to one market."""

    def around(values: tuple[float, ...], spread: float) -> tuple[float, ...]:
        return tuple(float(v) for v in np.asarray(values) * rng.uniform(1 - spread, 1 + spread, len(values)))

    shares = np.asarray(around(recipe.shares, 0.15))
    step = rng.uniform(0.9, 1.3)
    wins = np.asarray(recipe.segment_win) + rng.uniform(-0.12, 0.12, len(recipe.segment_win))
    return replace(
        recipe,
        shares=tuple(float(s) for s in shares / shares.sum()),
        log_employees=tuple(float(4 + step * k) for k in range(len(recipe.log_employees))),
        own_industry=float(rng.uniform(0.31, 0.38)),
        own_need=float(rng.uniform(0.52, 0.66)),
        own_tool=float(rng.uniform(0.34, 0.42)),
        other_tool=float(rng.uniform(0.06, 0.10)),
        win_rate=float(rng.uniform(0.19, 0.25)),
        segment_win=tuple(float(w) for w in wins),
        trait_effect=float(rng.uniform(0.47, 0.60)),
        rep_sd=float(rng.uniform(0.15, 0.35)),
        quarter_sd=float(rng.uniform(0.05, 0.15)),
        more_opportunities=float(rng.uniform(0.4, 0.8)),
        cycle_median=around(recipe.cycle_median, 0.10),
        cycle_sd=float(rng.uniform(0.5, 0.7)),
        acv_median=around(recipe.acv_median, 0.15),
        acv_sd=float(rng.uniform(0.7, 0.9)),
        churn=around(recipe.churn, 0.15),
        missing=float(rng.uniform(0.05, 0.11)),
    )


def columns_of(recipe: Recipe, rng: np.random.Generator) -> tuple[Planted, ...]:
    """Every flag and category column with its role: planted, idle and those of the scenario."""
    signs = rng.permutation(np.resize([1.0, -1.0], recipe.traits)) * recipe.trait_effect
    low, high = recipe.trait_shares
    shares = rng.uniform(low, high, recipe.traits + recipe.idle_flags)
    drifts = bool(recipe.late_segment_win)
    planted = [
        Planted(
            "planted" if sign else "idle",
            "flag",
            (1 - float(share), float(share)),
            (0.0, float(sign)),
            late_effects=(0.0, -float(sign)) if drifts and i == 2 else (),
        )
        for i, (share, sign) in enumerate(zip(shares, signs, strict=False))
    ]
    idle = [Planted("idle", "flag", (1 - float(s), float(s)), (0.0, 0.0)) for s in shares[recipe.traits :]]
    levels = [rng.dirichlet(np.full(n, 6.0)) for n in (3, 5, 4, 6)[: recipe.idle_categories]]
    categories = [Planted("idle", "category", tuple(map(float, s)), (0.0,) * len(s)) for s in levels]
    return (*planted, *idle, *categories, *recipe.extra)
