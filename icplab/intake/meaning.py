"""Reads typed tables, makes known what reads well and cannot be meant: future dates, mixed units, one-sided outcomes."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.errors import Problem
from icplab.core.schema import ALL, UNASSIGNED, WHOLE_MARKET
from icplab.intake.batch import MASKED, SECRET, Batch, is_among, listed
from icplab.intake.coded import codes_of, decoded, is_coded, words_of
from icplab.intake.records import plain_name

# Dates on which a record itself came into being; planned dates of activities, campaigns and contracts may lie ahead.
BORN = {
    "accounts": "created_at",
    "opportunities": "created_at",
    "leads": "created_at",
    "stage_history": "entered_at",
    "field_history": "changed_at",
    "feedback": "given_at",
}
_SECRET = re.compile(SECRET)
_REPORT_NAME = re.compile(r"report(\d{13})\b", re.IGNORECASE)  # Salesforce: milliseconds since 1970
# Names that people give to records made for trying things out.
_TEST_NAME = (
    r"(?i)^\W*(?:tests?|testing|demo|dummy|tbd|x{3,}|z{3,}|asdf\w*|qwerty\w*)\W*\d*\W*$"
    r"|\b(?:test|testing|dummy|demo|sample) ?(?:account|company|customer|client|record|organi[sz]ation|lead)s?\b"
    r"|\bdo ?not ?(?:use|contact|delete)\b|\bdelete ?me\b|\blorem ipsum\b"
)
_TEST_DOMAIN = r"(?i)(^|.*\.)(example\.(com|org|net)|test|invalid|localhost)$"
ENOUGH = 40  # won and lost opportunities each; the floor that vendors of scores use (catalogue case 89)
UNIT_Z = 5.0  # robust standard deviations in the logarithm from which an amount may be in another unit
UNIT_FACTOR = 8.0  # and at least so many times the usual amount, or less than its part
FEW_GROUPS = 32  # products whose medians are taken one after the other, which copies less
UNIT_LEAST = 3  # amounts; one or two are single large or small deals
_UNITS = ((8, 18, "a year and a month"), (300, 3000, "single units and thousands"), (3e5, 3e6, "units and millions"))
ONE_SIDED_LEAST = 20  # won and lost opportunities each before a one-sided column says something
_SEGMENT_NAMES = frozenset({"segment", "segmentid", "segmentname", "icpsegment"})


def today() -> dt.date:
    """The day on which the export is read; a record cannot come from later than that."""
    return dt.date.today()


def check_future(batch: Batch, settings: Settings) -> None:
    """Records that came into being, or closed, after their export was made (ICP-Q060, ICP-Q057).

    The day of the export is `[sources.<table>] exported_on`, else the time in a Salesforce report's file name, else today.
    `[tolerance] future_dates = true` keeps them with a warning.
    """
    source, column = settings.source(batch.table.name), BORN.get(batch.table.name, "")
    if not source.dated or not column:
        return
    days = np.array([np.datetime64(source.exported_on or _named_day(f) or today()) for f in batch.files])
    limit, letter = days[batch.file], "W" if settings.tolerance.future_dates else "Q"
    fix = "correct the date in the CRM; or say when the export was made: "
    fix += f"[sources.{batch.table.name}] exported_on"
    born = batch.frame[column].to_numpy() > limit
    batch.note(born & batch.live, f"ICP-{letter}060", "lies after the day of the export", fix=fix, column=column)
    if batch.table.name == "opportunities":
        closed = (batch.frame["closed_at"].to_numpy() > limit) & batch.frame["status"].isin(["won", "lost"]).to_numpy()
        message = "closed, and its close date lies after the day of the export"
        batch.note(closed & batch.live, f"ICP-{letter}057", message, fix=fix, column="closed_at")


def _named_day(file: str) -> dt.date | None:
    found = _REPORT_NAME.search(file)
    return dt.datetime.fromtimestamp(int(found[1]) / 1000, tz=dt.UTC).date() if found else None


def check_test_accounts(batch: Batch, settings: Settings) -> None:
    """Accounts that look like tests, or like the business itself (ICP-W048)."""
    name, own = batch.frame["name"].str.strip(), plain_name(settings.workspace.name)
    odd = name.str.contains(_TEST_NAME, regex=True).fillna(False).astype(bool)
    odd |= batch.frame["domain"].str.fullmatch(_TEST_DOMAIN).fillna(False).astype(bool)
    if own:
        odd |= (name.str.lower().str.replace(r"[\W_]+", "", regex=True) == own).fillna(False).astype(bool)
    fix = "leave it out of the export if it is one"
    message = "looks like a test or internal account; kept"
    batch.note(odd & batch.live, "ICP-W048", message, fix=fix, column="name")


def check_outcomes(batch: Batch) -> None:
    """Whether there are won and lost opportunities enough to tell them apart (ICP-W088, ICP-W089)."""
    counts = batch.frame.loc[batch.held, "status"].value_counts()
    won, lost = int(counts.get("won", 0)), int(counts.get("lost", 0))
    if not won and not lost:
        return
    if not won or not lost:
        only, none = ("won", "lost") if won else ("lost", "won")
        message = f"all {won + lost:,} closed opportunities are {only}: without {none} ones nothing can be scored, "
        batch.say("ICP-W088", message + "and key figures go on", fix=f"export the {none} ones as well", column="status")
    elif min(won, lost) < ENOUGH:
        message = f"{won:,} won and {lost:,} lost: fewer than {ENOUGH} of each is not enough to score accounts"
        batch.say("ICP-W089", message, fix="export a longer history", column="status")


def check_units(batch: Batch, column: str) -> None:
    """Amounts so far from the others of their product that they may be in another unit (ICP-W072).

    Robust z of the logarithm within a product (deviation from the median over 1.4826 times the median absolute deviation),
    after Iglewicz and Hoaglin (1993), How to Detect and Handle Outliers.
    """
    amount = batch.frame[column].to_numpy()
    log = np.where(batch.live & (amount > 0), amount, np.nan)
    np.log(log, out=log)  # no second copy: there may be millions
    if np.isfinite(log).sum() < 4 * UNIT_LEAST:
        return
    groups = np.zeros(len(log), np.int32)  # 0: products with few amounts, and none
    if "product" in batch.frame:
        groups = _numbered(batch.frame["product"]) + 1
        few = np.bincount(groups[np.isfinite(log)], minlength=int(groups.max(initial=0)) + 1) < ONE_SIDED_LEAST
        groups[few[groups]] = 0
    log -= _medians(log, groups)[groups]
    away = np.abs(log, out=log)
    odd = (away > UNIT_Z * (1.4826 * _medians(away, groups))[groups]) & (away >= np.log(UNIT_FACTOR))
    if odd.sum() < UNIT_LEAST:
        return
    factor = float(np.exp(np.median(away[odd])))
    between = next((words for low, high, words in _UNITS if low <= factor <= high), "two units")
    message = f"is some {factor:,.0f} times away from the usual amount: {between} may be mixed; kept as it is"
    fix = f"export one unit; a whole file can be converted with [sources.{batch.table.name}] multiply"
    batch.note(odd, "ICP-W072", message, fix=fix, column=column)


def _medians(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Median of each group by its number; NaN where it has none. A few groups are looked at one by one, which copies less."""
    size = int(groups.max(initial=0)) + 1
    if size > FEW_GROUPS:
        return pd.Series(values, copy=False).groupby(groups).median().reindex(range(size)).to_numpy()
    medians = np.full(size, np.nan)
    for group in range(size):
        mine = values[(groups == group) & ~np.isnan(values)]
        if len(mine):
            medians[group] = np.median(mine, overwrite_input=True)
    return medians


def _numbered(labels: pd.Series) -> np.ndarray:
    """A number for each label (int32), by which rows group faster; -1 where there is none."""
    if is_coded(labels):
        numbers = np.where(words_of(labels) == "", -1, np.arange(len(labels.cat.categories)))
        return np.append(numbers, -1).astype(np.int32)[codes_of(labels)]
    return np.where(labels == "", -1, pd.factorize(labels)[0]).astype(np.int32)


def check_one_sided(batches: dict[str, Batch]) -> None:
    """Columns filled for won opportunities, or for customers, and for hardly any other: filled afterwards (ICP-W092)."""
    if "opportunities" not in batches:
        return
    opportunities = batches["opportunities"]
    frame = opportunities.frame.loc[opportunities.live, ["status", "account_id"]]
    _one_sided(opportunities, frame["status"] == "won", frame["status"] == "lost", "won", "lost")
    if "accounts" in batches:
        accounts = batches["accounts"]
        listed_accounts = accounts.frame.loc[accounts.live, "account_id"]
        customer = is_among(listed_accounts, frame.loc[frame["status"] == "won", "account_id"])
        _one_sided(accounts, customer, ~customer, "customers", "others")


def _one_sided(batch: Batch, inside: pd.Series, outside: pd.Series, one: str, other: str) -> None:
    """Note further columns that are filled on one side; `inside` and `outside` are masks over the live rows."""
    if min(inside.sum(), outside.sum()) < ONE_SIDED_LEAST:
        return
    live, of_one, of_other = batch.live, inside.to_numpy(dtype=bool), outside.to_numpy(dtype=bool)

    def is_one_sided(name: str) -> bool:
        filled = batch.frame[name].notna().to_numpy()[live]
        return bool(filled[of_one].mean() >= 0.5 and filled[of_other].mean() <= 0.02)

    names = [c for c in map(str, batch.frame) if c not in batch.table.by_name and is_one_sided(c)]
    if names:
        message = f"filled for {one} and hardly ever for {other}, so probably afterwards: {listed(names)}"
        batch.say("ICP-W092", message, fix="leave them out ([sources] ignore) unless they are known before the outcome")


def check_stage_history(batches: dict[str, Batch], settings: Settings) -> None:
    """Stages entered before the opportunity was created, after it closed, or against the playbook's order (ICP-W061)."""
    if not {"stage_history", "opportunities"} <= set(batches):
        return
    history, opportunities = batches["stage_history"], batches["opportunities"]
    known = opportunities.frame[opportunities.live].drop_duplicates("opportunity_id").set_index("opportunity_id")
    entered, of = history.frame["entered_at"], history.frame["opportunity_id"]
    created, closed = (pd.Series(known[c].reindex(of).to_numpy(), index=of.index) for c in ("created_at", "closed_at"))
    for wrong, message in (
        (entered < created, "entered before the opportunity was created"),
        (entered > closed, "entered after the opportunity closed"),
        (_goes_back(history.frame, _stage_order(settings)), "goes back in the playbook's order of stages"),
    ):
        kept = f"{message}; kept as it is"
        batch_mask = wrong.fillna(False).astype(bool) & history.live
        history.note(batch_mask, "ICP-W061", kept, fix="nothing, if it really was so", column="entered_at")


def _stage_order(settings: Settings) -> dict[str, int]:
    """Position of every stage in the playbook's journey; empty without one."""
    journey = settings.playbook.get("stages", {})
    if not isinstance(journey, dict):
        return {}
    stages = [s for part in journey.values() if isinstance(part, list) for s in part]
    return {str(s): i for i, s in enumerate(stages)}


def _goes_back(frame: pd.DataFrame, order: dict[str, int]) -> pd.Series:
    """Whether a stage was entered on a later day than one that comes after it."""
    place = decoded(frame["stage"]).map(order)
    rows = pd.DataFrame({"of": frame["opportunity_id"], "at": frame["entered_at"], "place": place}).dropna()
    days = rows.groupby(["of", "at"])["place"].max().groupby("of").cummax()
    before = days.groupby("of").shift()
    keys = pd.MultiIndex.from_frame(rows[["of", "at"]])
    back = pd.Series(rows["place"].to_numpy() < before.reindex(keys).to_numpy(), index=rows.index)
    return back.reindex(frame.index, fill_value=False)


def check_subscriptions(batch: Batch) -> None:
    """Periods of one product that overlap (ICP-W096), and periods without a day in them (ICP-E097)."""
    frame = batch.frame
    empty = (frame["started_at"] == frame["ended_at"]) & batch.live
    fix = "correct the dates, or leave the record out"
    batch.note(empty, "ICP-E097", "the period ends on the day it starts", fix=fix, column="ended_at")
    alike = _overlapping(frame[batch.live], ["account_id", "product", "mrr"])
    alike |= _overlapping(frame[batch.live], ["subscription_id"])
    message = (
        "overlaps an earlier period of the same subscription, or of the same account, product and price; both count"
    )
    overlapping = alike.reindex(frame.index, fill_value=False)
    batch.note(overlapping, "ICP-W096", message, fix="end the earlier one if it was replaced", column="started_at")


def _overlapping(live: pd.DataFrame, of: list[str]) -> pd.Series:
    """Whether a period starts before an earlier one of the same group ends; add-ons at another price are none."""
    rows = live.sort_values([*of, "started_at", "ended_at", "subscription_id"], kind="stable")
    key = rows.groupby(of, dropna=False).ngroup()
    last = rows["ended_at"].fillna(pd.Timestamp("2262-01-01"))
    before = last.groupby(key).cummax().groupby(key).shift()
    return (rows["started_at"] < before).reindex(live.index)


def check_spend(batch: Batch) -> None:
    """Months without cost between the first and the last one (ICP-W093)."""
    months = batch.frame.loc[batch.live, "month"].dropna().dt.to_period("M")
    if months.empty:
        return
    missing = [str(m) for m in pd.period_range(months.min(), months.max(), freq="M").difference(months.unique())]
    if missing:
        message = f"no cost in {listed(missing)}: acquisition cost, payback and LTV:CAC are not measured"
        fix = "add the months, with amount 0 where nothing was spent"
        batch.say("ICP-W093", message, fix=fix, column="month", count=len(missing))


def check_targets(batch: Batch, settings: Settings) -> None:
    """Plan values for segments that the playbook does not know (ICP-E094), or by an undeclared fiscal year (ICP-W063)."""
    known = settings.playbook.get("segments", {})
    if isinstance(known, dict) and known:
        named = {WHOLE_MARKET, UNASSIGNED, ALL, *known}
        named |= {str(s["name"]) for s in known.values() if isinstance(s, dict) and "name" in s}
        unknown = batch.frame["segment"].notna() & ~batch.frame["segment"].isin(sorted(named)) & batch.live
        fix = "correct it, or add the segment to playbook.toml"
        message = f"is not a segment of the playbook, which has {listed(sorted(known))}"
        batch.note(unknown, "ICP-E094", message, fix=fix, column="segment")
    quarterly = batch.frame["period"].str.contains("Q", regex=False).fillna(False).any()
    if "calendar" in settings.defaults_taken and quarterly:
        message = "the plan goes by quarters, and no fiscal year is declared: quarters of the calendar year are taken"
        batch.say("ICP-W063", message, fix="[calendar] fiscal_year_start = 1 (the month)", column="period")


def check_assignments(batch: Batch) -> None:
    """One account listed under two segments (ICP-E099)."""
    names = [c for c in map(str, batch.frame) if plain_name(c) in _SEGMENT_NAMES]
    if not names or "account_id" not in batch.frame:
        return
    rows = batch.frame.loc[batch.live & batch.frame["account_id"].notna().to_numpy(), ["account_id", names[0]]]
    several = rows.dropna().groupby("account_id")[names[0]].nunique().loc[lambda n: n > 1]
    wrong = batch.frame["account_id"].isin(several.index) & batch.live
    fix = "keep one segment per account"
    batch.note(wrong, "ICP-E099", "the account stands in two segments", fix=fix, column=names[0])


def secrets_in(settings: Settings) -> list[Problem]:
    """Keys, tokens and passwords in `icplab.toml` and `playbook.toml`: they would be copied into every run (ICP-E087)."""
    problems = []
    for path, text in _texts(asdict(settings), ""):
        if _SECRET.search(text):
            message = "holds a key, token or password, which every run would keep"
            fix = "take it out and revoke it; give it in an environment variable"
            file = "playbook.toml" if path.startswith("playbook.") else "icplab.toml"
            problems.append(Problem("ICP-E087", message, fix, file, column=path, value=MASKED))
    return problems


def _texts(part: object, path: str) -> Iterator[tuple[str, str]]:
    """All texts of nested settings, with where they stand."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            yield from _texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(part, list | tuple):
        for value in part:
            yield from _texts(value, path)
    elif isinstance(part, str):
        yield path, part
