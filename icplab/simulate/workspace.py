"""Reads a world or a market, makes the rest of a workspace: settings, playbook, register of decisions, and its folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from icplab.core.errors import BadInput
from icplab.simulate.native import hubspot_files, salesforce_files
from icplab.simulate.world import CURRENCY, World

if TYPE_CHECKING:
    from icplab.simulate.market import Market

LAYOUTS = ("canonical", "salesforce", "hubspot")
MOST_SEGMENTS = 7  # the default of [plan] max_segments: a neutral playbook has an entry for each
TIER_SHARES = (0.20, 0.30)  # capacity of tier 1 and tier 2, as shares of all accounts


def settings_toml(world: World, scenario: str) -> str:
    """`icplab.toml` of the market, with every section and why it says what it says."""
    r, naming = world.recipe, world.naming
    tier_1, tier_2 = (round(share * r.accounts) for share in TIER_SHARES)
    roles = "\n".join(f'[traits.{name}]\nrole = "{role}"\n' for name, role in sorted(naming.roles.items()))
    cells = [n for n, c in zip(naming.categories, _categories(world), strict=True) if c.counts]
    cuts = f"cuts = {json.dumps(cells)}  # the cells this business looks at\n" if cells else ""
    return f"""# Settings of a simulated business (scenario "{scenario}"). Every account in it is fictitious.

[workspace]
name = "{"Ledgerworks, planning software (simulated)" if r.names == "plausible" else f"simulated market: {scenario}"}"
currency = "{CURRENCY}"  # everything is reported in this currency
as_of = {r.as_of}  # figures are computed as known on this day
seed = 1

[goals]
growth_target = 0.15  # won revenue, next year against this one
margin_floor = 0.55  # segments below this gross margin are screened
strategic_bets = ["expansion in existing customers"]
product_focus = ["plus", "complete"]
constraints = ["no new sellers before next year"]
deal_size_vs_velocity = 0.5  # 1: only deal size counts, 0: only velocity
land_vs_expand = 0.6  # 1: only new customers count, 0: only expansion

[calendar]
fiscal_year_start = 1  # month
review_every_days = 92  # the council meets once a quarter

[value]
amount_is = "annual"  # what the amount of an opportunity means

[economics]
# Gross margin comes from the product of each opportunity (products.csv).
discount_rate = 0.10  # a year
months = 36  # horizon of the expected value of an opportunity
ltv_months = 60
cost_to_serve = {r.cost_to_serve:g}  # per won opportunity and year
cost_of_touch = {r.cost_of_touch:g}  # of working one account for a quarter

[plan]
horizon_days = {r.horizon_days}  # a win counts when it comes within so many days
window_days = 0  # figures look back over the whole history
max_segments = 7
fdr = 0.10  # accepted share of false discoveries among supported traits
{cuts}
[capacity]
# Accounts the team can work in a quarter; see capacity in owners.csv.
tier_1 = {tier_1}
tier_2 = {tier_2}

[tolerance]
orphans = 0.02  # share of records that may point to nothing

[privacy]
show_owners = false
contacts = false

# What columns are about: the tool cannot guess it from their values.
{roles}"""


def playbook_toml(world: World) -> str:
    """`playbook.toml`: what people decided per segment, tier and intent."""
    plausible = world.recipe.names == "plausible"
    needs = world.naming.needs[: len(world.recipe.shares)] if plausible else list(_BY_NEED) * 2
    parts = [_PLAYBOOK_HEAD]
    for i, need in enumerate(needs[:MOST_SEGMENTS]):
        entry = {**_BY_NEED[need], **_BY_SIZE[i % len(_BY_SIZE)]}
        body = "\n".join(f"{key} = {json.dumps(value)}" for key, value in entry.items())
        raters = "".join(f"raters.{who} = {_scores(who, i)}\n" for who in _RATERS) if plausible else ""
        parts.append(f"[segments.S{i + 1}]\n{body}\n{raters}")
    return "\n".join([*parts, *([_DRAFT] if plausible else []), _PLAYBOOK_TAIL])


def _scores(rater: str, segment: int) -> str:
    """What a rater gave a segment, area by area, as TOML."""
    given = zip(_AREAS, _RATERS[rater][segment], strict=True)
    return "{ " + ", ".join(f"{area} = {score}" for area, score in given) + " }"


def decisions(world: World) -> list[dict]:
    """The council's register: each line holds the hash of the one before."""
    as_of = pd.Timestamp(world.recipe.as_of)
    previous, lines = "", []
    for months_ago, review_after, entry in (
        (9, 15, _DECISIONS[0]),
        (6, 12, _DECISIONS[1]),
        (3, 9, _DECISIONS[2]),
    ):
        at = as_of - pd.DateOffset(months=months_ago)
        review = at + pd.DateOffset(months=review_after)
        body = {"at": str(at.date()), **entry, "review": str(review.date()), "prev": previous}
        previous = hash_line(body)
        lines.append({**body, "hash": previous})
    return lines


def hash_line(body: dict) -> str:
    """SHA-256 of a decision's canonical JSON without its own hash."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_market(market: Market, folder: str | Path, layout: str = "canonical") -> Path:
    """Write a workspace, and beside it under `truth/` what was planted; a run never reads `truth/`.

    Parameters
    ----------
    market : Market
        From `simulate_market`.
    folder : path
        Created when it is not there; files of the same name are replaced.
    layout : str, default "canonical"
        How the exports are laid out: one CSV file per canonical table, or the same market as Salesforce or HubSpot would
        export it, with tables the CRM has no object for as they are.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    BadInput
        The layout is not one of `LAYOUTS`.
    """
    write_workspace(market, folder, layout)
    truth = Path(folder) / "truth"
    truth.mkdir(exist_ok=True)
    for name in ("accounts", "traits", "segments", "columns"):
        getattr(market.truth, name).to_parquet(truth / f"{name}.parquet", index=False)
    recipe = json.dumps(market.truth.recipe, sort_keys=True, indent=1)
    (truth / "recipe.json").write_text(recipe + "\n", encoding="utf-8")
    return Path(folder)


def write_workspace(market: Market, folder: str | Path, layout: str = "canonical") -> Path:
    """Write the workspace without its truth."""
    if layout not in LAYOUTS:
        raise BadInput(f'layout "{layout}" is not known; known: {", ".join(LAYOUTS)}')
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {name: _as_text(table.dropna(axis="columns", how="all")) for name, table in market.tables.items()}
    if layout != "canonical":
        tables = salesforce_files(tables) if layout == "salesforce" else hubspot_files(tables)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    (folder / "icplab.toml").write_text(market.settings_toml, encoding="utf-8")
    (folder / "playbook.toml").write_text(market.playbook_toml, encoding="utf-8")
    lines = "".join(json.dumps(d, sort_keys=True, ensure_ascii=False) + "\n" for d in market.decisions)
    (folder / "decisions.jsonl").write_text(lines, encoding="utf-8")
    return folder


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Whole numbers without a decimal point, flags as yes and no, dates without a time."""
    text: dict[Any, Any] = {}
    for name in table:
        values = table[name]
        if values.dtype == "boolean":
            text[name] = values.map({True: "yes", False: "no"})
        elif values.dtype == "float64" and (values.dropna() % 1 == 0).all():
            text[name] = values.astype("Int64")
        elif values.dtype.kind == "M":
            text[name] = values.dt.strftime("%Y-%m-%d")
        else:
            text[name] = values
    return pd.DataFrame(text)


def _categories(world: World) -> list:
    return [c for c in world.columns if c.kind == "category"]


_PLAYBOOK_HEAD = """# What people decide. Segment ids are those of the last run; "any" covers every segment, tier or intent.
"""

# What people would write about a segment whose leading need is this one ...
_BY_NEED = {
    "late invoices": {
        "problem_statement": "Invoices are chased by hand, and nobody sees the gap in cash until weeks later.",
        "message": "Know on Monday what last month still owes you.",
        "offer_angle": "Start in a week with one bank account, pay by month.",
        "content_path": ["cash checklist", "short demo", "reference of the same size"],
        "qualification_rule": "One person owns collections, and there is a date by which it must work.",
    },
    "slow month end": {
        "problem_statement": "Books close late because every site reports in its own way.",
        "message": "One close for every site, in three days.",
        "offer_angle": "A template per site, rolled out one site at a time.",
        "content_path": ["guide to the monthly close", "workshop", "rollout plan"],
        "qualification_rule": "More than one site reports, and finance has a say in the budget.",
    },
    "stock gaps": {
        "problem_statement": "Operations and finance plan with different numbers, so stock runs out while cash is tied up.",
        "message": "One plan that operations and finance both sign.",
        "offer_angle": "A joint planning round before the contract.",
        "content_path": ["benchmark", "planning workshop", "business case"],
        "qualification_rule": "Operations and finance both take part in the second meeting.",
    },
    "audit trail": {
        "problem_statement": "Nobody can show an auditor who changed which plan, and when.",
        "message": "Every change has a name and a date.",
        "offer_angle": "The audit trail first, planning second.",
        "content_path": ["audit checklist", "security review", "executive briefing"],
        "qualification_rule": "An audit finding or a regulator asks for a trail, and IT joins the evaluation.",
    },
    "manual planning": {
        "problem_statement": "Plans live in spreadsheets that only their authors can read, and break when one of them leaves.",
        "message": "A plan that survives a holiday.",
        "offer_angle": "Import of the existing spreadsheets, side by side for one quarter.",
        "content_path": ["spreadsheet audit", "guided trial", "comparison of both plans"],
        "qualification_rule": "At least three departments feed the plan, and one of them wants out of spreadsheets.",
    },
}
# ... and about how it is reached, from the largest segment with the smallest accounts on.
_BY_SIZE = (
    {"channel_assumption": "paid search and website; no field visits", "owner": "Demand Generation"},
    {"channel_assumption": "partners and referral; events for the first contact", "owner": "Product Marketing"},
    {"channel_assumption": "outbound to two departments at once", "owner": "Field Sales"},
    {"channel_assumption": "outbound and partner; executive events", "owner": "Key Accounts"},
)

# Score areas as three teams judge them, 1 to 5, per segment from the smallest accounts to the largest. They agree on revenue and on how
# clear the way to sales is; sales thinks less of the segments it disqualifies most.
_AREAS = ("strategic_fit", "problem_intensity", "path_clarity", "revenue_potential", "sales_feedback")
_RATERS = {
    "marketing": ((3, 4, 4, 2, 3), (4, 4, 4, 3, 3), (4, 3, 3, 4, 4), (5, 4, 2, 5, 4)),
    "sales": ((2, 3, 4, 1, 2), (3, 4, 4, 3, 3), (4, 4, 3, 4, 4), (5, 4, 2, 5, 5)),
    "success": ((3, 3, 3, 2, 2), (3, 4, 4, 2, 3), (4, 4, 2, 4, 3), (4, 5, 3, 5, 4)),
}
_DRAFT = """# The segmentation the team works with today: by size alone. Page 30 judges it by the same gates as the one it finds.
[draft]
[[draft.segments]]
name = "Small business"
where = [{ trait = "employees", below = 100 }]

[[draft.segments]]
name = "Mid-market"
where = [{ trait = "employees", from = 100, below = 1000 }]

[[draft.segments]]
name = "Enterprise"
where = [{ trait = "employees", from = 1000 }]
"""

_PLAYBOOK_TAIL = """# Plays: what happens with an account of this tier, segment and intent. The most specific one counts.
[[plays]]
tier = "tier_1"
segment = "any"
intent = "high"
play = "workshop"
steps = ["call within one working day", "workshop with every buying role", "written business case"]
owner = "Field Sales"
sla_days = 1

[[plays]]
tier = "tier_1"
segment = "any"
intent = "low"
play = "reference visit"
steps = ["invite to a reference customer", "executive letter", "call after two weeks"]
owner = "Field Sales"
sla_days = 10

[[plays]]
tier = "tier_2"
segment = "any"
intent = "high"
play = "trial"
steps = ["trial account", "two guided sessions", "offer"]
owner = "Inside Sales"
sla_days = 3

[[plays]]
tier = "tier_2"
segment = "any"
intent = "low"
play = "nurture"
steps = ["monthly guide", "webinar", "call when intent rises"]
owner = "Demand Generation"
sla_days = 30

[[plays]]
tier = "tier_3"
segment = "any"
intent = "any"
play = "newsletter"
steps = ["quarterly newsletter"]
owner = "Demand Generation"
sla_days = 90

# Personas are people, not accounts: who they are and what they want to hear.
[[personas]]
name = "The budget holder"
roles = ["decision maker"]
cares_about = "a date, a price and who answers for it"

[[personas]]
name = "The champion"
roles = ["champion", "user"]
cares_about = "less manual work this quarter"

[[personas]]
name = "The guardian"
roles = ["finance", "IT", "procurement"]
cares_about = "controls, integration and exit"

# Fields that let sales confirm in the CRM that an account is what the segment says.
[[crm_fields]]
name = "confirmed_need"
type = "picklist"
asks = "Which problem did the account name in its own words?"

[[crm_fields]]
name = "people_in_evaluation"
type = "number"
asks = "How many people take part in the evaluation?"

# From awareness to expansion: which CRM stages stand for which part of the journey.
[stages]
awareness = ["lead"]
evaluation = ["discovery", "qualified"]
purchase = ["proposal", "negotiation", "closed won"]
expansion = ["expansion"]
"""

_DECISIONS = (
    {
        "what": "Review segments and tiers every quarter, on the council's first Tuesday.",
        "why": "Territories were cut by hand and disagreed with marketing's lists.",
        "evidence": "definition-conflict",
        "who": "Revenue Leadership",
        "expect": {},
    },
    {
        "what": "Keep one play per tier until a quarter of results is in.",
        "why": "Plays were mixed within tiers, so nothing could be compared.",
        "evidence": "uncovered-cell",
        "who": "Sales",
        "expect": {"meeting_rate": 0.8},
    },
    {
        "what": "Give the first call within one working day to tier 1 accounts with high intent.",
        "why": "Urgent accounts close faster, and most of them waited a week.",
        "evidence": "tier-promise",
        "who": "RevOps",
        "expect": {"win_rate": 0.22},
    },
)
