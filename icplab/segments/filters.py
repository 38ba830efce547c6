"""Reads the rules of `rules`, makes them as a CRM and a database hold them, and the accounts on which rule and segment differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from icplab.core.schema import UNASSIGNED
from icplab.segments.blocks import YES
from icplab.segments.rules import DESCRIBABLE, rule_holds

# Standard fields; any other trait is a custom field: `name__c` in Salesforce, `name` in HubSpot.
_SALESFORCE = {
    "employees": "NumberOfEmployees",
    "annual_revenue": "AnnualRevenue",
    "industry": "Industry",
    "country": "BillingCountry",
    "region": "BillingState",
    "account_type": "Type",
}
_HUBSPOT = {
    "employees": "numberofemployees",
    "annual_revenue": "annualrevenue",
    "account_type": "type",
    "region": "state",
}


def write_filters(rules: pd.DataFrame) -> pd.DataFrame:
    """The readable rule of each segment as list filters and as SQL.

    Parameters
    ----------
    rules : result of `describe_segments`; reads segment_id, segment, conditions, needed, f1

    Returns
    -------
    One row per segment: segment_id, segment, salesforce (numbered conditions and filter logic of a list view), hubspot (the same as
    groups of an active list: OR between groups, AND inside), sql (a boolean expression over the account table; unknown values fail). A
    segment with an F1 below 0.6 says `not-describable` instead: its list would hold other accounts.
    """
    rows = []
    for row in rules.to_dict("records"):
        conditions, needed = json.loads(row["conditions"]), int(row["needed"])
        texts = (_salesforce(conditions, needed), _hubspot(conditions, needed), _sql(conditions, needed))
        if row["f1"] < DESCRIBABLE:
            texts = ("not-describable",) * 3
        rows.append((row["segment_id"], row["segment"], *texts))
    return pd.DataFrame(rows, columns=["segment_id", "segment", "salesforce", "hubspot", "sql"]).astype("str")


def list_exceptions(rules: pd.DataFrame, accounts: pd.DataFrame, assignments: pd.DataFrame) -> pd.DataFrame:
    """Accounts on which a segment's rule and the assigned segment differ.

    Returns
    -------
    One row per account and rule: segment_id (of the rule), account_id, exception (`passes, but belongs to …` or `belongs, but does
    not pass`), belongs_to, membership; the surest members of another segment first.
    """
    frame = accounts.sort_values("account_id", ignore_index=True)
    told = assignments.sort_values("account_id", ignore_index=True)
    segment = told["segment_id"].to_numpy(dtype=object)
    parts = []
    for row in rules.to_dict("records"):
        passed = rule_holds(json.loads(row["conditions"]), int(row["needed"]), frame).to_numpy()
        inside = segment == row["segment_id"]
        for here, says in (
            (passed & ~inside, "passes, but belongs elsewhere"),
            (inside & ~passed, "belongs, but does not pass"),
        ):
            part = told.loc[here, ["account_id", "segment_id", "membership"]]
            part = part.rename(columns={"segment_id": "belongs_to"})
            parts.append(part.assign(segment_id=row["segment_id"], exception=says))
    columns = ["segment_id", "account_id", "exception", "belongs_to", "membership"]
    if not parts:
        return pd.DataFrame({c: pd.Series([], dtype="object") for c in columns})
    table = pd.concat(parts, ignore_index=True)[columns]
    order = ["segment_id", "exception", "membership", "account_id"]
    return table.sort_values(order, ascending=[True, False, False, True], ignore_index=True)


def summarise_exceptions(exceptions: pd.DataFrame) -> pd.DataFrame:
    """Exceptions counted: segment_id, exception, belongs_to, accounts, unsure (of them with a membership below 0.75)."""
    unsure = np.where(exceptions["membership"].fillna(0) < 0.75, 1, 0)
    told = exceptions.assign(
        accounts=1, unsure=unsure, belongs_to=exceptions["belongs_to"].replace({UNASSIGNED: "no segment"})
    )
    keys = ["segment_id", "exception", "belongs_to"]
    return told.groupby(keys, as_index=False)[["accounts", "unsure"]].sum()


def _salesforce(conditions: list[dict], needed: int) -> str:
    """Numbered conditions, then the filter logic that joins them."""
    return _numbered([_salesforce_conditions(c) for c in conditions], needed, "Filter logic") or "every account"


def _numbered(said: list[list[str]], needed: int, word: str) -> str:
    """Each condition's lines under numbers, then which numbers hold together: any `needed` of the conditions."""
    lines: list[str] = []
    places: list[str] = []
    for texts in said:
        numbers = [str(len(lines) + 1 + i) for i in range(len(texts))]
        lines += [f"{n}. {text}" for n, text in zip(numbers, texts, strict=True)]
        places.append(numbers[0] if len(numbers) == 1 else f"({' AND '.join(numbers)})")
    groups = [" AND ".join(group) for group in combinations(places, needed)]
    logic = groups[0] if len(groups) == 1 else " OR ".join(f"({g})" if needed > 1 else g for g in groups)
    return f"{'; '.join(lines)}. {word}: {logic}" if lines else ""


def _salesforce_conditions(condition: Mapping) -> list[str]:
    """One condition as the one or two lines of a list view; several values of a line, set off by commas, mean any of them."""
    field = _SALESFORCE.get(condition["trait"], f"{condition['trait']}__c")
    operator, values = condition["operator"], condition["values"]
    borders = _borders(condition, "greater or equal", "less than")
    if borders:
        return [f"{field} {word} {value:.15g}" for word, value in borders]
    if operator == "is":
        return [f"{field} equals {'True' if values[0] == YES else 'False'}"]
    word = "includes" if operator == "contains" else "equals"
    return [f"{field} {word} {','.join(_listed(v) for v in values)}"]


def _borders(condition: Mapping, at_least: str, below: str) -> list[tuple[str, float]]:
    """The one or two comparisons of a condition on a number, in the words of a CRM or database; none on other traits."""
    words = {"between": (at_least, below), "from": (at_least,), "below": (below,)}.get(condition["operator"], ())
    return [(word, float(value)) for word, value in zip(words, condition["values"], strict=False)]


def _listed(value: object) -> str:
    """A value of a list view; one with a comma stands in quotes, or it would be read as two."""
    text = str(value).replace('"', '""')
    return f'"{text}"' if "," in text or '"' in text else text


def _hubspot(conditions: list[dict], needed: int) -> str:
    """Numbered conditions, then the groups of an active list: AND inside a group, OR between groups."""
    return _numbered([_hubspot_conditions(c) for c in conditions], needed, "Groups") or "every company"


def _hubspot_conditions(condition: Mapping) -> list[str]:
    field = _HUBSPOT.get(condition["trait"], condition["trait"])
    operator, values = condition["operator"], condition["values"]
    borders = _borders(condition, "greater than or equal to", "less than")
    if borders:
        return [f"{field} is {word} {value:.15g}" for word, value in borders]
    if operator == "is":
        return [f"{field} is equal to {'True' if values[0] == YES else 'False'}"]
    listed = ", ".join('"' + str(v).replace('"', '\\"') + '"' for v in values)
    return [f"{field} is any of {listed}"]


def _sql(conditions: list[dict], needed: int) -> str:
    if not conditions:
        return "TRUE"
    said = [_sql_condition(c) for c in conditions]
    if needed == len(said):
        return " AND ".join(f"coalesce({s}, FALSE)" for s in said)
    return f"({' + '.join(f'CASE WHEN {s} THEN 1 ELSE 0 END' for s in said)}) >= {needed}"


def _sql_condition(condition: Mapping) -> str:
    column = '"' + condition["trait"].replace('"', '""') + '"'
    operator, values = condition["operator"], condition["values"]
    borders = _borders(condition, ">=", "<")
    if borders:
        said = " AND ".join(f"{column} {word} {value!r}" for word, value in borders)
        return said if len(borders) == 1 else f"({said})"
    if operator == "is":
        return column if values[0] == YES else f"NOT {column}"
    texts = ["'" + str(v).replace("'", "''") + "'" for v in values]
    if operator == "contains":
        found = " OR ".join(f"position(';' || {t} || ';' IN ';' || {column} || ';') > 0" for t in texts)
        return found if len(texts) == 1 else f"({found})"
    return f"{column} IN ({', '.join(texts)})"
