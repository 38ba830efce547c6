"""Reads typed tables, makes what is doubtful about single tables known: keys, duplicates, dates, amounts, currencies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.schema import CANONICAL, STATUSES, Column
from icplab.intake.batch import MASKED, SECRET, SECRET_MARKS, Batch, all_differ, contains, is_among, listed
from icplab.intake.meaning import (
    check_assignments,
    check_future,
    check_outcomes,
    check_spend,
    check_subscriptions,
    check_targets,
    check_test_accounts,
    check_units,
)
from icplab.intake.plain import found_in

# Two lines of the same month and channel are two invoices, not a contradiction: they are added up.
ADDITIVE = frozenset({"spend", "traffic"})
# Sizes at which exports and spreadsheets stop without saying so (catalogue case 37).
ROW_LIMITS = frozenset({2_000, 50_000, 65_535, 65_536, 100_000, 1_048_575})
BULK_CLOSE_FACTOR = 10  # times the median closing day (catalogue case 62)
BULK_CLOSE_LEAST = 20  # closings; below this a busy day is not a bulk update
HEAVY_SHARE = 0.2  # of won amount in one opportunity (catalogue case 74)
HEAVY_LEAST = 20  # wins; among fewer, a large share is nothing unusual
MANY_LEVELS = 300  # distinct values of a category (catalogue case 79)
# Checks that only one table has.
_OWN_CHECKS: dict[str, Callable[[Batch, Settings], None]] = {
    "subscriptions": lambda batch, _: check_subscriptions(batch),
    "spend": lambda batch, _: check_spend(batch),
    "targets": check_targets,
}
CORPORATE_ROOT_DEPTH = 64  # parents walked up before a chain counts as a cycle


def check_rows(batch: Batch, settings: Settings) -> None:
    """All checks of one table by itself."""
    source = settings.source(batch.table.name)
    _require(batch, settings)
    if source.dated and batch.table.name == "opportunities":
        _check_opportunity_dates(batch)
    check_future(batch, settings)
    _check_periods(batch)
    _drop_duplicates(batch, source.keep_duplicates, bool(source.row_id))
    if batch.table.name in ("accounts", "market"):
        check_assignments(batch)
    _check_key(batch)
    _check_amounts(batch)
    _check_size(batch)
    _check_further(batch)
    _check_private(batch)
    if batch.table.name == "accounts":
        _check_parents(batch)
        check_test_accounts(batch, settings)
    for table, check in _OWN_CHECKS.items():
        if table == batch.table.name:
            check(batch, settings)


def check_opportunities(batch: Batch, settings: Settings) -> None:
    """Warnings about opportunities as a whole; they change nothing."""
    check_outcomes(batch)
    check_units(batch, "amount")
    if settings.dated:
        _note_bulk_close(batch, batch.frame.loc[batch.live, ["status", "closed_at"]])
    _note_heavy(batch)


def check_currencies(batches: dict[str, Batch], settings: Settings) -> None:
    """Amounts in several currencies need a rate for each of them on each date (ICP-E065)."""
    reporting = settings.workspace.currency
    rates = batches["rates"].frame if "rates" in batches else None
    for table, amount, date in (
        ("opportunities", "amount", "created_at"),
        ("subscriptions", "mrr", "started_at"),
        ("spend", "amount", "month"),
    ):
        if table in batches:
            _check_currency(batches[table], amount, date, reporting, rates)


def _require(batch: Batch, settings: Settings) -> None:
    """Null in a required column: the record is set aside, unless it still tells something."""
    table, frame = batch.table, batch.frame
    undated = not settings.source(table.name).dated
    for column in table.columns:
        if not (column.required or column.name in table.key[:1]) or (undated and column.kind == "date"):
            continue
        null = frame[column.name].isna() & batch.live
        if null.any():
            _note_null(batch, column, null)


def _note_null(batch: Batch, column: Column, null: pd.Series) -> None:
    where = (batch.table.name, column.name)
    state = batch.frame["status"] if "status" in batch.frame else pd.Series("", index=null.index)
    fill = "fill it in the CRM and export again"
    if where == ("accounts", "name"):
        batch.note(null, "ICP-W043", "account without a name kept", fix=fill, column="name")
    elif where == ("opportunities", "status"):
        fix = 'fill it, or map the blank: [values.opportunities.status] "" = "open"'
        batch.note(null, "ICP-E076", f"is blank; it must be one of {', '.join(STATUSES)}", fix=fix, column="status")
    elif where == ("opportunities", "account_id"):
        kept = "kept, counted, left out of account-based figures"
        for part, word in ((state == "open", "open"), (state != "open", "closed")):
            message = f"{word} opportunity without account: {kept}"
            batch.note(null & part, "ICP-W043", message, fix=fill, column="account_id")
    elif where == ("opportunities", "created_at"):
        kept = "open opportunity without creation date: kept, counted, left out of time-based figures"
        batch.note(null & (state == "open"), "ICP-W043", kept, fix=fill, column="created_at")
        message = "closed opportunity without creation date"
        batch.note(null & (state != "open"), "ICP-Q043", message, fix=fill, column="created_at")
    else:
        message = "required value is missing; the record is set aside"
        batch.note(null, "ICP-Q043", message, fix=fill, column=column.name)


def _check_opportunity_dates(batch: Batch) -> None:
    """Order of dates; the expected close date that CRMs keep on open opportunities is not a close date."""
    frame = batch.frame
    state, closed, created = frame["status"], frame["closed_at"], frame["created_at"]
    planned = (state == "open") & closed.notna() & batch.live
    if planned.any():
        last = _last_known(frame)
        stale = planned & (closed < last)
        batch.note(
            planned,
            "ICP-R059",
            "close date of an open opportunity is a plan; not used as close date",
            column="closed_at",
        )
        if stale.any():  # without a single date that is known there is no "past"
            message = f"open past its planned close date (known until {last:%Y-%m-%d})"
            batch.note(stale, "ICP-W059", message, fix="close it, or plan it anew in the CRM", column="closed_at")
        frame["closed_at"] = closed = closed.mask(planned)
    live = batch.live
    fix = "correct the dates in the CRM and export again"
    batch.note((closed < created) & live, "ICP-Q056", "closed before it was created", fix=fix, column="closed_at")
    undated = closed.isna() & live
    if "closed_at" not in batch.text:
        fix = 'name the column that holds the close date in icplab.toml: [columns.opportunities] closed_at = "…"'
    batch.note((state == "won") & undated, "ICP-Q058", "won without a close date", fix=fix, column="closed_at")
    message = "lost without a close date: kept for counts"
    batch.note((state == "lost") & undated, "ICP-W058", message, fix=fix, column="closed_at")


def _last_known(frame: pd.DataFrame) -> pd.Timestamp:
    """Latest close date of a closed, or creation date of any, opportunity."""
    closed = frame["closed_at"][frame["status"] != "open"]
    return max(frame["created_at"].max(), closed.max()) if closed.notna().any() else frame["created_at"].max()


def _check_periods(batch: Batch) -> None:
    """A period that ends before it starts."""
    for start, end in (("started_at", "ended_at"), ("active_from", "active_to")):
        if {start, end} <= set(batch.frame) & set(batch.table.by_name):
            wrong = (batch.frame[end] < batch.frame[start]) & batch.live
            batch.note(wrong, "ICP-Q095", "ends before it starts", fix="correct the dates", column=end)


def _drop_duplicates(batch: Batch, keep: bool, numbered: bool) -> None:
    """Identical records count once, unless the source says that they are separate facts."""
    key = [k for k in batch.table.key if batch.frame[k].notna().any()]
    key = key or [c for c in ("activity_id",) if c in batch.frame and batch.frame[c].notna().any()]
    if key and not numbered:  # only records that share their key can be identical
        if all_differ(batch.frame, key, batch.live):
            return
        keys = batch.frame.loc[batch.live, key]
        compared = batch.frame.loc[keys.index[keys.duplicated(keep=False)]]
    else:
        compared = (batch.frame.drop(columns=key) if numbered else batch.frame)[batch.live]
    again = compared.duplicated(keep="first")
    again = again.reindex(batch.frame.index, fill_value=False)
    if not again.any():
        return
    if keep or not key:
        message = "identical to an earlier record: kept as a separate fact"
        batch.note(again, "ICP-W042", message, fix="set keep_duplicates = false if it is the same fact twice")
        return
    fix = f"set [sources.{batch.table.name}] keep_duplicates = true if they are separate facts" if numbered else ""
    batch.note(again, "ICP-R042", "identical to an earlier record: counted once", fix=fix)
    batch.duplicate |= again.to_numpy()


def _check_key(batch: Batch) -> None:
    """Different records under one key contradict each other: none of them is used."""
    key = list(batch.table.key)
    if not key or batch.table.name in ADDITIVE:
        return
    if all_differ(batch.frame, key, batch.live):
        return
    live = batch.frame.loc[batch.live, key]
    clash = live.duplicated(keep=False).reindex(batch.frame.index, fill_value=False)
    fix = "keep the right one in the export"
    message = f"different records have the same {', '.join(key)}; none of them is used"
    batch.note(clash, "ICP-Q042", message, fix=fix, column=key[0])


def _check_amounts(batch: Batch) -> None:
    """Amounts that are negative, or zero where money was won."""
    frame, live = batch.frame, batch.live
    fix = "correct it in the CRM if it is a slip"
    for name in ("amount", "mrr", "list_price"):
        if name in frame and name in batch.table.by_name:  # a further column of that name is text
            batch.note((frame[name] < 0) & live, "ICP-W070", "is negative: kept as it is", fix=fix, column=name)
    if batch.table.name == "opportunities" and frame["amount"].notna().any():
        won, lost, amount = frame["status"] == "won", frame["status"] == "lost", frame["amount"]
        none = "figures in money leave it out"
        batch.note(won & amount.isna() & live, "ICP-W070", f"won without an amount: {none}", fix=fix, column="amount")
        batch.note(won & (amount == 0) & live, "ICP-W070", "won with amount 0: kept as it is", fix=fix, column="amount")
        worthless = lost & (amount.fillna(0) == 0) & live
        message = f"lost with amount 0 or none ({_share(worthless, lost & live)} of lost): a win rate by value is not meaningful"
        batch.note(worthless, "ICP-W070", message, fix="enter amounts when opportunities open", column="amount")


def _share(part: pd.Series, whole: pd.Series) -> str:
    return f"{part.sum() / max(whole.sum(), 1):.0%}"


def _check_size(batch: Batch) -> None:
    """A round number of records may be a cut export."""
    for number, file in enumerate(batch.files):
        size = int((batch.file == number).sum())
        if size in ROW_LIMITS:
            batch.say(
                "ICP-W037",
                f"{file} holds exactly {size:,} records: possibly cut by an export limit",
                fix="check the count in the CRM",
            )


def _check_further(batch: Batch) -> None:
    """Further columns that are empty, constant, or have very many levels (numbers, dates and free text may)."""
    further = [c for c in map(str, batch.frame) if c not in batch.table.by_name]
    levels = {c: _distinct(batch.frame.loc[batch.held, c]) for c in further}
    for code, names, message in (
        ("ICP-W091", [c for c in further if levels[c] == 0], "columns are empty throughout"),
        (
            "ICP-W090",
            [c for c in further if levels[c] == 1 and batch.frame[c].notna().all()],
            "columns hold one value throughout",
        ),
        (
            "ICP-W079",
            [c for c in further if levels[c] > MANY_LEVELS and _is_labels(batch.frame.loc[batch.held, c])],
            f"columns have more than {MANY_LEVELS} distinct values",
        ),
    ):
        if names:
            batch.say(code, f"{message}: {listed(names)}", fix=_FURTHER_FIX.format(batch.table.name))


_FURTHER_FIX = "nothing; or list them in [sources.{}] ignore to be rid of this line"


def _distinct(values: pd.Series) -> int:
    """Distinct values; of a column of lists (a;b), distinct members, blank ones not counted."""
    unique = pd.Series(values.dropna().unique(), dtype="str")
    if unique.str.contains(";", regex=False).any():
        unique = unique.str.split(";").explode().str.strip().drop_duplicates()
    return int((unique != "").sum())


def _is_labels(values: pd.Series) -> bool:
    """Whether a column holds labels: neither numbers, nor dates, nor a text of its own for most records."""
    unique = pd.Series(values.dropna().unique(), dtype="str")
    return not (_are_plain(unique.iloc[:100]) and _are_plain(unique))


def _are_plain(words: pd.Series) -> bool:
    numbers = pd.to_numeric(words, errors="coerce").notna().all()
    return bool(numbers or words.str.match(r"\d{4}-\d{2}-\d{2}").all())


def _check_private(batch: Batch) -> None:
    """Cells of text columns that hold keys or tokens (ICP-E087), e-mail addresses or phone numbers (ICP-W086)."""
    declared = batch.table.by_name
    for name in map(str, batch.frame):
        column = declared.get(name)
        if column is not None and (column.kind not in ("text", "category") or column.allowed or column.personal):
            continue
        text = batch.frame[name]
        fix = f"leave the column out: [sources.{batch.table.name}] ignore"
        if column is not None:
            fix = "take it out of the export"
        marks = found_in(text, (*SECRET_MARKS, b"@", b"+"))
        if not marks:
            continue
        secret = contains(text, SECRET)
        masked = np.broadcast_to(np.array(MASKED, dtype=object), len(text))
        message = "holds a key or token; revoke it, it has left its safe place"
        batch.note(secret & batch.live, "ICP-E087", message, fix=fix, column=name, shown=masked)
        if name not in _ADDRESSES and marks & {b"@", b"+"}:
            private = contains(text, _EMAIL_OR_PHONE) & ~secret & batch.live
            message = "holds an e-mail address or phone number"
            batch.note(private, "ICP-W086", message, fix=fix, column=name, shown=masked)


# Columns that hold page addresses, in which an @ or a row of digits is no person.
_ADDRESSES = frozenset({"domain", "linkedin_url", "url", "landing_page", "search_term"})
_EMAIL_OR_PHONE = r"[^@\s]+@[^@\s]+\.\w|(^|[^\w+])\+\d{1,3}[\s().-]{0,2}\d[\d\s().-]{6,}\d"


def _check_parents(batch: Batch) -> None:
    """A chain of parents that comes back to itself has no root."""
    frame = batch.frame[batch.live].drop_duplicates("account_id")
    parent = frame.set_index("account_id")["parent_account_id"].dropna()
    if parent.empty:
        return
    walk = parent = parent[is_among(parent, frame["account_id"])]
    for _ in range(CORPORATE_ROOT_DEPTH):
        walk = walk.map(parent).dropna()
        if walk.empty:
            return
    cycle = batch.frame["account_id"].isin(walk.index) & batch.live
    fix = "break the cycle in the CRM"
    batch.note(cycle, "ICP-E047", "its chain of parents comes back to itself", fix=fix, column="parent_account_id")


def _note_bulk_close(batch: Batch, frame: pd.DataFrame) -> None:
    """Days on which far more opportunities closed than on a usual one."""
    days = frame.loc[frame["status"] != "open", "closed_at"].value_counts()
    if days.empty:
        return
    limit = max(BULK_CLOSE_FACTOR * days.median(), BULK_CLOSE_LEAST)
    for day, count in days[days > limit].sort_index().items():
        message = f"{count:,} opportunities closed on {day:%Y-%m-%d}; a median closing day has {days.median():.0f}"
        fix = "ask who closed them: dates of a clean-up in the CRM tell no cycle"
        batch.say("ICP-W062", message, fix=fix, column="closed_at", count=int(count))


def _note_heavy(batch: Batch) -> None:
    """One opportunity that decides the total."""
    won = batch.frame["amount"][batch.live & (batch.frame["status"] == "won").to_numpy()]
    total = won.sum()
    if len(won) >= HEAVY_LEAST and total > 0 and won.max() > HEAVY_SHARE * total:
        top = batch.frame.loc[won.index[won == won.max()], "opportunity_id"].min()
        message = f"one opportunity ({top}) is {won.max() / total:.0%} of all won amount"
        batch.say(
            "ICP-W074", message, fix="check the amount in the CRM; medians are safer than totals", column="amount"
        )


def _check_currency(batch: Batch, amount: str, date: str, reporting: str, rates: pd.DataFrame | None) -> None:
    frame = batch.frame.loc[batch.live & batch.frame[amount].notna().to_numpy(), ["currency", date]]
    used = frame["currency"].dropna().unique()
    foreign = sorted(set(used) - {reporting}) if reporting else sorted(used)
    if not foreign or (not reporting and len(foreign) == 1):
        return
    if not reporting:
        fix = "name the reporting currency in [workspace] currency and add rates.csv"
        batch.say("ICP-E065", f"amounts in several currencies: {', '.join(foreign)}", fix=fix, column="currency")
        return
    known = (CANONICAL["rates"].empty() if rates is None else rates).groupby("currency")["valid_from"].min()
    first = pd.Series(known.reindex(frame["currency"]).to_numpy(), index=frame.index)
    wrong = frame["currency"].isin(foreign) & (first.isna() | (frame[date] < first))
    mask = wrong.reindex(batch.frame.index, fill_value=False)
    fix = f"add rates to {reporting} from the first date on (rates.csv: currency, valid_from, rate)"
    batch.note(
        mask, "ICP-E065", f"there is no rate to {reporting} for this currency on this date", fix=fix, column="currency"
    )
