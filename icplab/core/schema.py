"""Declares every table once: canonical inputs and artefacts, with grain, key, columns, types, units and meaning.

Checks collect every failure; the data dictionary in `docs/` is printed from these declarations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import pandas as pd

from icplab.core.errors import ContractBroken, Problem, nearest

# How a kind of column is held in pandas. Dates are midnight timestamps, in microseconds.
DTYPES = {
    "id": "str",
    "text": "str",
    "category": "str",
    "multi": "str",  # values joined by ";"
    "number": "float64",
    "money": "float64",
    "count": "float64",
    "rate": "float64",  # a fraction; per cent only on screen
    "date": "datetime64[us]",
    "flag": "boolean",
    "json": "str",
}


@dataclass(frozen=True)
class Column:
    """One declared column."""

    name: str
    kind: str
    meaning: str
    required: bool = False
    unit: str = ""
    allowed: tuple[str, ...] = ()
    references: str = ""  # "table.column"
    personal: bool = False  # personal data: masked in messages, kept out of pages


@dataclass(frozen=True)
class Table:
    """One declared table. `open_ended` tables take further columns (as traits)."""

    name: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    meaning: str = ""
    required: bool = False
    open_ended: bool = False
    by_name: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {c.name: c for c in self.columns})

    @property
    def required_columns(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.required)

    def empty(self) -> pd.DataFrame:
        """An empty, typed frame with all declared columns."""
        return _empty(tuple((c.name, c.kind) for c in self.columns)).copy()


@cache
def _empty(columns: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series([], dtype=DTYPES[kind]) for name, kind in columns})


def _parse(block: str) -> tuple[Column, ...]:
    """Columns from lines `name kind [*] [unit=…] [in=a|b] [ref=t.c] [personal] : meaning`."""
    columns = []
    for line in filter(None, (raw.strip() for raw in block.splitlines())):
        head, meaning = line.split(" : ", 1)
        name, kind, *marks = head.split()
        options = dict(m.split("=", 1) for m in marks if "=" in m)
        columns.append(
            Column(
                name,
                kind,
                meaning,
                required="*" in marks,
                unit=options.get("unit", ""),
                allowed=tuple(options["in"].split("|")) if "in" in options else (),
                references=options.get("ref", ""),
                personal="personal" in marks,
            )
        )
    return tuple(columns)


def _table(name: str, grain: str, key: str, block: str, **rest: object) -> Table:
    return Table(name, grain, tuple(key.split()), _parse(block), **rest)  # type: ignore[arg-type]


STATUSES = ("won", "lost", "open")
OPPORTUNITY_TYPES = ("new", "expansion", "renewal")
ACCOUNT_TYPES = ("prospect", "customer", "former", "partner", "competitor")
TIERS = ("tier_1", "tier_2", "tier_3", "not_icp", "insufficient")
FAMILIES = ("firmographic", "technographic", "behavioural", "value")
OUTCOMES = ("win", "value", "cycle", "retention", "expansion", "margin")
TRAIT_ROLES = ("need", "use_case", "deployment", "maturity", "technology", "forbidden")
UNASSIGNED = "unassigned"  # segment_id of accounts with too little data; not a segment
WHOLE_MARKET = "S0"  # the one segment when none are found
ALL = "all"  # scope or cut that covers every account

_CANONICAL = (
    _table(
        "accounts",
        "account",
        "account_id",
        """
        account_id id * : identifier of the account in the CRM
        name text * : name of the organisation
        domain text : web domain
        industry category : industry as the CRM holds it
        employees count unit=people : number of employees
        annual_revenue money unit=per_year : revenue of the account, in its currency
        country category : country
        region category : sales region
        founded_year count unit=year : year of foundation
        parent_account_id id ref=accounts.account_id : parent organisation; families are the unit of resampling
        created_at date : when the account was created in the CRM
        account_type category in=prospect|customer|former|partner|competitor : relation to the business
        owner id : seller who owns the account
        linkedin_url text : page used by audience uploads
        """,
        meaning="Organisations. Every further column is a candidate trait.",
        required=True,
        open_ended=True,
    ),
    _table(
        "opportunities",
        "opportunity",
        "opportunity_id",
        """
        opportunity_id id * : identifier of the opportunity
        account_id id * ref=accounts.account_id : account it belongs to
        created_at date * : when it was opened
        closed_at date : when it was won or lost
        status category * in=won|lost|open : state as exported
        stage category : pipeline stage as the CRM names it
        amount money : annual value, unless term_months is given or [value] amount_is says otherwise
        currency category : currency of the amount
        type category in=new|expansion|renewal : blank means new
        source category : lead source or channel
        campaign_id id ref=campaigns.campaign_id : campaign it is attributed to
        owner id : seller
        loss_reason category : why it was lost
        product category : product sold
        term_months count unit=months : contract length; the amount is then the total contract value
        play category : sales or marketing play it was worked with
        gross_margin rate : gross margin of this opportunity
        """,
        meaning="Sales cycles. Further columns are opportunity traits.",
        required=True,
        open_ended=True,
    ),
    _table(
        "contacts",
        "person",
        "contact_id",
        """
        contact_id id * : identifier of the person
        account_id id * ref=accounts.account_id : employer
        title text personal : job title
        role category : role in buying
        seniority category : level
        department category : department
        email text personal : e-mail address
        opted_out flag : may not be contacted
        """,
        meaning="People at accounts.",
    ),
    _table(
        "opportunity_contacts",
        "person on an opportunity",
        "opportunity_id contact_id",
        """
        opportunity_id id * ref=opportunities.opportunity_id : opportunity
        contact_id id * ref=contacts.contact_id : person
        role category : role on this opportunity
        is_primary flag : main contact
        """,
        meaning="Buying committees.",
    ),
    _table(
        "stage_history",
        "stage entered",
        "opportunity_id stage entered_at",
        """
        opportunity_id id * ref=opportunities.opportunity_id : opportunity
        stage category * : stage entered
        entered_at date * : when
        """,
        meaning="Pipeline stages as they were entered.",
    ),
    _table(
        "leads",
        "lead",
        "lead_id",
        """
        lead_id id * : identifier of the lead
        created_at date * : when it came in
        account_id id ref=accounts.account_id : matched account
        company text : company name as given, when there is no account
        source category : source
        campaign_id id ref=campaigns.campaign_id : campaign
        status category : state
        qualified_at date : qualified by marketing
        accepted_at date : accepted by sales
        disqualified_at date : disqualified
        disqualification_reason category : why
        opportunity_id id ref=opportunities.opportunity_id : opportunity it became
        """,
        meaning="Inbound interest.",
    ),
    _table(
        "activities",
        "event",
        "",
        """
        activity_id id : identifier of the event
        account_id id * ref=accounts.account_id : account
        occurred_at date * : when
        type category * : kind of event
        contact_id id ref=contacts.contact_id : person
        campaign_id id ref=campaigns.campaign_id : campaign
        topic category : topic of interest
        weight number : strength of the signal; blank means 1
        play category : play it belongs to
        minutes number unit=minutes : time spent
        outcome category : result
        """,
        meaning="Engagement, intent and sales activity.",
    ),
    _table(
        "usage",
        "account and period",
        "account_id period metric",
        """
        account_id id * ref=accounts.account_id : account
        period date * : first day of the period
        metric category * : what is measured
        value number * : measurement
        """,
        meaning="Product usage.",
    ),
    _table(
        "campaigns",
        "campaign",
        "campaign_id",
        """
        campaign_id id * : identifier
        name text : name
        channel category : channel
        segment category : segment it is aimed at
        started_at date : first day
        ended_at date : last day
        """,
        meaning="Marketing campaigns.",
    ),
    _table(
        "spend",
        "month and channel (or campaign, segment)",
        "month channel campaign_id segment",
        """
        month date * : first day of the month
        channel category * : channel the money went to
        amount money * : cost
        campaign_id id ref=campaigns.campaign_id : campaign
        segment category : segment it was aimed at
        currency category : currency
        """,
        meaning="Sales and marketing cost, fully loaded where the business can.",
    ),
    _table(
        "products",
        "product",
        "product",
        """
        product category * : product as opportunities name it
        name text : display name
        family category : product family
        list_price money : list price
        gross_margin rate : gross margin
        """,
        meaning="What is sold.",
    ),
    _table(
        "owners",
        "seller or customer-success manager",
        "owner",
        """
        owner id * personal : seller as opportunities name them
        team category : team
        region category : region
        role category : role
        capacity count unit=accounts : accounts they can work in a quarter
        quota money unit=per_year : quota
        active_from date : first day
        active_to date : last day
        """,
        meaning="Sellers and customer-success managers.",
    ),
    _table(
        "rates",
        "currency and date",
        "currency valid_from",
        """
        currency category * : currency
        valid_from date * : first day of validity
        rate number * : worth of one unit in the reporting currency
        """,
        meaning="Exchange rates.",
    ),
    _table(
        "field_history",
        "change of one field",
        "",
        """
        object category * : table of the record, as named here
        record_id id * : record
        field category * : column changed
        changed_at date * : when
        old_value text : value before
        new_value text : value after
        not_before date : first day on which it can have happened, where only two snapshots tell; blank when changed_at is exact
        """,
        meaning="What was known when.",
    ),
    _table(
        "traffic",
        "month and entry point",
        "month channel landing_page search_term campaign_id segment",
        """
        month date * : first day of the month
        channel category * : channel
        visits count * : visits
        forms count : forms filled in
        landing_page text : page
        search_term text : search term
        campaign_id id ref=campaigns.campaign_id : campaign
        segment category : segment it is aimed at
        """,
        meaning="Web traffic by entry point.",
    ),
    _table(
        "subscriptions",
        "subscription period",
        "subscription_id started_at",
        """
        subscription_id id * : identifier
        account_id id * ref=accounts.account_id : customer
        started_at date * : first day
        ended_at date : last day; blank while it runs
        mrr money * unit=per_month : recurring revenue
        currency category : currency
        product category : product
        gross_margin rate : gross margin
        """,
        meaning="Recurring revenue in force.",
    ),
    _table(
        "market",
        "account of the addressable market, or a count by trait levels",
        "",
        """
        account_id id : account, where the universe is a list
        name text : name
        domain text : domain
        accounts count : number of accounts, where the universe is counts
        value money : addressable value
        """,
        meaning="The addressable market.",
        open_ended=True,
    ),
    _table(
        "targets",
        "plan value",
        "period metric segment tier owner",
        """
        period category * : quarter (2026Q3) or year (2026)
        metric category * : KPI planned
        segment category : segment id or name
        tier category in=tier_1|tier_2|tier_3|not_icp|insufficient : tier
        owner id : seller
        target number * : plan value
        """,
        meaning="The plan.",
    ),
    _table(
        "feedback",
        "judgement by sales",
        "",
        """
        given_at date * : when
        account_id id ref=accounts.account_id : account
        opportunity_id id ref=opportunities.opportunity_id : opportunity
        fit category in=good|acceptable|poor : verdict
        reason category : why
        given_by id personal : who
        """,
        meaning="What sales says about fit.",
    ),
    _table(
        "content",
        "asset",
        "asset_id",
        """
        asset_id id * : identifier
        name text : title
        type category : kind of asset
        segment category : segment it speaks to
        tier category in=tier_1|tier_2|tier_3|not_icp|insufficient : tier it is for
        stage category : journey stage
        url text : address
        """,
        meaning="Content assets.",
    ),
    _table(
        "events",
        "dated change of product, price or definition",
        "",
        """
        happened_at date * : when
        kind category * : product, price, definition or another
        description text : what
        """,
        meaning="Changes that break a series.",
    ),
)

_ARTEFACTS = (
    _table(
        "ledger",
        "input file and outcome",
        "table file outcome",
        """
        table category * : canonical table
        file text * : input file, relative to the workspace
        outcome category * in=used|header|blank|preamble|footer|repeated_header|duplicate|quarantined : what became of the records
        records count * unit=records : number of physical records
        """,
        meaning="Where every physical record went.",
    ),
    _table(
        "kpis",
        "cut, level, kpi, basis and period",
        "cut level period kpi basis",
        """
        cut category * : all, segment, tier or a trait column
        level category * : level of the cut
        period category * : all, or a quarter such as 2026Q3
        kpi category * : see docs/methodology.md
        basis category * : the definition used
        value number : estimate
        low number : lower end of the 95 % interval
        high number : upper end of the 95 % interval
        n count : observations behind it
        unit category : fraction, money, days, months, ratio or count
        pooled number : partially pooled estimate over the levels of the cut
        pooled_low number : lower end
        pooled_high number : upper end
        p_best rate : chance of truly being the best level of the cut, from the pooled posterior
        rank_low count : best rank that the data allow (95 %); 1 is the best, for costs and days the lowest
        rank_high count : worst rank that the data allow
        status category * in=ok|insufficient|not_measured : whether it can be used
        note text : what to know about it
        """,
        meaning="Key figures, each with its basis, n and interval.",
    ),
    _table(
        "account_segments",
        "account",
        "account_id",
        """
        account_id id * : account
        segment_id category * : segment, or unassigned
        segment text * : name
        membership rate : probability of membership; null when unassigned
        """,
        meaning="The map: which account is in which segment.",
    ),
    _table(
        "segments",
        "segment",
        "segment_id",
        """
        segment_id category * : stable id
        segment text * : name
        accounts count * : accounts in it
        share rate * : share of assigned accounts
        wins count : won opportunities
        jaccard rate : mean Jaccard similarity under resampling
        rule text : readable CRM filter of at most four conditions
        rule_f1 rate : F1 of the filter
        fit number : mean fit of the segment, 0-100
        pain number : share of known needs that are the segment's leading need, 0-100
        urgency number : recent intent, 0-100
        buying_process number : ease of the buying process, 0-100
        feasibility number : reachability, 0-100
        strategic_fit number : human or derived score, 1-5
        problem_intensity number : human or derived score, 1-5
        path_clarity number : human or derived score, 1-5
        revenue_potential number : human or derived score, 1-5
        sales_feedback number : human or derived score, 1-5
        membership category : firm, fair or doubtful, by how often resampled accounts give the same segment
        rule_precision rate : share of the accounts the filter finds that belong to the segment
        rule_recall rate : share of the segment that the filter finds
        rule_needed count : conditions of the filter that have to hold
        rule_conditions json : conditions of the filter, list of {trait, operator, values}
        strategic_fit_derived number : score from data where a person gave another, 1-5
        problem_intensity_derived number : the same, 1-5
        path_clarity_derived number : the same, 1-5
        revenue_potential_derived number : the same, 1-5
        sales_feedback_derived number : the same, 1-5
        scored_by_people text : areas that people scored, joined by ";"
        """,
        meaning="One row per segment.",
    ),
    _table(
        "market_map",
        "segment, accounts without segment, and the whole market",
        "segment_id",
        """
        segment_id category * : segment, unassigned, or all
        segment text * : name
        market_accounts number * unit=accounts : accounts of the addressable market
        low number unit=accounts : lower end of the 95 % interval
        high number unit=accounts : upper end
        crm_accounts count : accounts of the CRM, partners and competitors left out
        worked count : of these, with an opportunity
        customers count : of these, with a won opportunity
        penetration rate : customers / market_accounts; null when the market file holds fewer than there are customers
        penetration_low rate : customers / high
        penetration_high rate : customers / low
        whitespace_accounts number unit=accounts : accounts of the market that are not in the CRM
        market_value money : addressable value
        whitespace_value money : value of the whitespace at the segment's mean value per account
        basis category in=list|counts : kind of market file
        note text : what the division among segments rests on
        """,
        meaning="How large each segment's market is and how much of it nobody has touched; empty without a market file.",
    ),
    _table(
        "traits",
        "scope, trait, level and outcome",
        "scope trait level outcome",
        """
        scope category * : all or a segment_id
        trait category * : column
        level text * : yes; the value; [low, high); or trend
        family category * in=firmographic|technographic|behavioural|value : trait family
        outcome category * in=win|value|cycle|retention|expansion|margin : what it is associated with
        n count : observations with a known level
        support count : observations that have the level
        rate_diff number : crude difference in rate (or mean) with and without
        odds_ratio number : crude odds ratio (ratio of means for value, cycle, margin)
        low number : lower end of the crude interval
        high number : upper end
        adjusted number : adjusted ratio
        adjusted_low number : lower end
        adjusted_high number : upper end
        q_value rate : false-discovery adjusted p-value
        verdict category * in=supported|not_supported|insufficient|quarantined : answer
        direction category in=+|- : sign of the adjusted effect
        flags text : list joined by ";"
        shrunken number : adjusted ratio pulled towards 1 by how much effects of this outcome vary at all; the one to quote
        p_value rate : two-sided p-value of the adjusted effect
        families count : account families that have the level
        rate number : crude rate (or mean) with the level
        rate_without number : crude rate (or mean) without it
        n_needed count : observations that would settle an insufficient row
        later number : adjusted ratio in the later half of the observations; null where the effect is not worth repeating
        missing_low number : adjusted ratio if blanks hid the level in the least favourable way considered
        missing_high number : adjusted ratio if they hid it in the most favourable way
        """,
        meaning="What goes with winning, keeping, expanding and earning.",
    ),
    _table(
        "scores",
        "account",
        "account_id",
        """
        account_id id * : account
        segment_id category * : segment
        icp category * in=yes|no|unknown : inside the ideal customer profile
        motion category * in=new|expansion : kind of next opportunity
        fit_score number : 0-100
        intent_score number : 0-100; null without activities
        win_probability rate : probability that an opportunity opened now is won within the horizon
        expected_value money : win probability times expected margin, less cost to serve
        value_basis category : what the expected value rests on
        tier category * in=tier_1|tier_2|tier_3|not_icp|insufficient : tier
        tier_confidence rate : probability that the tier is right
        flags text : list joined by ";"
        reasons json : list of {trait, level, points}
        points number : sum of the scorecard's points
        """,
        meaning="Every account, worked or not.",
    ),
    _table(
        "opportunity_scores",
        "opportunity",
        "opportunity_id",
        """
        opportunity_id id * : opportunity
        account_id id : account
        win_probability rate : as at creation
        expected_value money : as at creation
        """,
        meaning="Open opportunities, scored.",
    ),
    _table(
        "tiers",
        "tier and period",
        "tier period",
        """
        tier category * in=tier_1|tier_2|tier_3|not_icp|insufficient : tier
        period category * : now, or the period it was checked on
        accounts count : accounts
        predicted rate : mean predicted win probability
        observed rate : observed win rate
        low rate : lower end of the 90 % band
        high rate : upper end
        capacity count : accounts the team can work
        captured_value_share rate : share of the value won
        n count : opportunities behind the observed rate
        """,
        meaning="What each tier promises, and what it delivered.",
    ),
    _table(
        "forecast",
        "tier, date of the forecast, method and basis",
        "tier made_at method basis",
        """
        tier category * in=tier_1|tier_2|tier_3|not_icp|insufficient|all : tier of the account; all for their sum
        made_at date * : day as known on which it was made
        until date * : last of the 91 days it speaks of
        method category * in=by_tier|without_tiers : whether each tier has its own curve, pace and deal size
        basis category * in=now|earlier_run|reconstructed : made by this run, written down by an earlier one, or made again
        open count : opportunities open on that day
        wins number : wins expected, of open ones and of those still to be opened
        low number : lower end of the 90 % band
        high number : upper end
        value money : annual value of these wins
        value_low money : lower end of the 90 % band
        value_high money : upper end
        came count : wins that came; null until the 91 days are over
        came_value money : their annual value
        """,
        meaning="What the tier mix of the pipeline lets expect, and what came.",
    ),
    _table(
        "account_snapshot",
        "account",
        "account_id",
        """
        account_id id * : account
        """,
        meaning="Trait values as known on the run's date, as text, one column per trait: what the next run compares with.",
        open_ended=True,
    ),
    _table(
        "opportunity_snapshot",
        "opportunity",
        "opportunity_id",
        """
        opportunity_id id * : opportunity
        """,
        meaning="The same for traits of opportunities.",
        open_ended=True,
    ),
    _table(
        "trait_history",
        "change of one trait value seen between runs",
        "object record_id field changed_at",
        """
        object category * : accounts or opportunities
        record_id id * : record
        field category * : trait
        changed_at date * : date of the run that saw the new value first
        old_value text : value before
        new_value text : value after
        not_before date : day after the run that saw the old value last
        """,
        meaning="The tool's own history of values, from the second run on.",
    ),
    _table(
        "findings",
        "finding",
        "step code subject sentence",
        """
        code category * : see the contract
        step category * : step that found it
        severity category * in=info|watch|act : how much it asks for
        subject text * : what it is about
        sentence text * : computed sentence
        numbers json : the numbers in it
        owner category : role that owns it
        action text : suggested action
        """,
        meaning="Computed sentences with their numbers.",
    ),
)

CANONICAL: dict[str, Table] = {t.name: t for t in _CANONICAL}
ARTEFACTS: dict[str, Table] = {t.name: t for t in _ARTEFACTS}
# Artefacts that are JSON documents rather than tables.
DOCUMENTS: dict[str, str] = {
    "segmentation": "verdict (natural, reproducible, constructive, none), k and the evidence",
    "icps": "per segment: fit, pain, potential, key roles, drivers, risks, leading indicators, qualification rule",
    "plan": "the analysis plan of this run and its hash",
}


def check_artefact(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` with declared columns first and declared types, or raise `ContractBroken` with every failure.

    Columns beyond the declaration are kept; missing optional columns are added empty.
    """
    if name not in ARTEFACTS:
        raise ContractBroken(f'no artefact is named "{name}"{nearest(name, ARTEFACTS)}')
    table = ARTEFACTS[name]
    failures = list(_artefact_failures(table, frame))
    if failures:
        raise ContractBroken(f"artefact {name}: " + "; ".join(failures))
    frame = frame.copy()
    for column in table.columns:
        if column.name not in frame:
            frame[column.name] = None
        frame[column.name] = frame[column.name].astype(pd.api.types.pandas_dtype(DTYPES[column.kind]))
    return frame[[c.name for c in table.columns] + [c for c in frame if c not in table.by_name]]


def _artefact_failures(table: Table, frame: pd.DataFrame) -> Iterator[str]:
    missing = [c for c in table.required_columns if c not in frame]
    if missing:
        yield f"missing columns {missing}"
        return
    for column in table.columns:
        if column.name not in frame:
            continue
        values = frame[column.name]
        if column.required and values.isna().any():
            yield f"{column.name} is empty in {int(values.isna().sum())} rows"
        if column.allowed:
            strange = set(values.dropna().unique()) - set(column.allowed)
            if strange:
                yield f"{column.name} has {sorted(map(str, strange))}, allowed {list(column.allowed)}"
    twice = frame.duplicated(list(table.key))
    if twice.any():
        yield f"{int(twice.sum())} rows repeat the key {table.key}, first {frame.loc[twice, list(table.key)].iloc[0].tolist()}"


def missing_columns(table: Table, present: list[str], file: str) -> list[Problem]:
    """One problem per required column that a file lacks, with the nearest name it has."""
    return [
        Problem(
            "ICP-E027",
            f'required column "{name}" of table {table.name} is missing{nearest(name, present)}',
            fix=f"add the column, or map it in icplab.toml under [columns.{table.name}]",
            file=file,
            column=name,
        )
        for name in table.required_columns
        if name not in present
    ]


def data_dictionary() -> str:
    """The data dictionary as Markdown: every canonical table and artefact, from their declarations."""
    lines = [
        "# Data dictionary",
        "",
        "Generated from `icplab/core/schema.py` by `make docs`; do not edit by hand.",
        "",
        "Kinds: id, text, category, multi (values joined by `;`), number, money, count, rate (a fraction), date, flag",
        "(yes/no), json. Required columns are marked `*`.",
    ]
    for title, tables in (("Canonical tables", CANONICAL), ("Artefacts", ARTEFACTS)):
        lines += ["", f"## {title}"]
        for table in tables.values():
            lines += ["", f"### {table.name}", "", *_described(table)]
    lines += ["", "## Documents", "", *(f"- `{name}.json`: {meaning}" for name, meaning in DOCUMENTS.items())]
    return "\n".join(lines)


def _described(table: Table) -> list[str]:
    key = ", ".join(f"`{k}`" for k in table.key)
    facts = f"{table.meaning} One row per {table.grain}." + (f" Key: {key}." if key else "")
    facts += " Required." if table.required else ""
    facts += " Takes further columns." if table.open_ended else ""
    rows = [
        f"| `{c.name}`{' *' if c.required else ''} | {c.kind} | {c.unit.replace('_', ' ')} | {c.meaning}"
        f"{'; one of ' + ', '.join(c.allowed) if c.allowed else ''}"
        f"{'; refers to ' + c.references if c.references else ''}{'; personal' if c.personal else ''} |"
        for c in table.columns
    ]
    return [facts, "", "| column | kind | unit | meaning |", "|---|---|---|---|", *rows]


if __name__ == "__main__":
    print(data_dictionary())
