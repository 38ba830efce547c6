"""Reads a sheet of a native export, makes rows and columns in the shape of the canonical table it feeds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from icplab.core.schema import CANONICAL
from icplab.intake.coded import decoded
from icplab.intake.layouts.declare import Feed, Object, is_custom, plain, trait_name
from icplab.intake.layouts.hubspot import LIFECYCLE, STAGE_DATE
from icplab.intake.outline import Sheet
from icplab.intake.records import plain_name
from icplab.intake.typed import FALSE, TRUE

PART = "~"  # first letter of columns that are used on the way in and then dropped
_NAMES = (["Account Name"], ["Opportunity Name"], ["Campaign Name"])
_PERSONAL = re.compile(r"\w*(phone|mobile|fax|email|street|birthdate)\w*")
_STAGE_DATE = re.compile(STAGE_DATE, re.IGNORECASE)
_ADDRESS = r"(?i)^\s*(?:https?://)?(?:www\.)?([^/?#\s]+).*$"


@dataclass(frozen=True)
class Native:
    """A file recognised as an object of a CRM, and the feed by which it fills one table."""

    source: Object
    feed: Feed

    @property
    def changes_rows(self) -> bool:
        """Whether a record may give several rows of the table, or none."""
        return bool(self.feed.keep[0]) or self.feed.reshape in _RESHAPES

    def applies(self, header: tuple[str, ...]) -> bool:
        """Whether a file with this header has anything for the table of the feed."""
        columns = dict.fromkeys(header)
        if self.feed.reshape == "stage_dates":
            return any(_STAGE_DATE.match(c) for c in columns)
        return all(find_columns(self.feed, name, columns) for name in self.feed.needs)


def find_columns(feed: Feed, name: str, columns: Mapping[str, object]) -> list[str]:
    """Export columns that may fill a canonical column or part, best first."""
    spelled = {plain(c): c for c in reversed(list(columns))}
    return list(dict.fromkeys(spelled[p] for p in map(plain, feed.columns.get(name, ())) if p in spelled))


def reshape(sheet: Sheet, native: Native) -> Sheet:
    """The records as rows of the table: filtered, unpivoted, or split. A record may give none, one or several rows."""
    feed = native.feed
    column, wanted = feed.keep
    if column:
        held = sheet.frame[{plain(c): c for c in map(str, sheet.frame)}[plain(column)]]
        sheet = _rows(sheet, held.map(plain_name).isin(wanted).to_numpy().nonzero()[0])
    step = _RESHAPES.get(feed.reshape)
    return step(sheet, feed) if step else sheet


def choose_columns(native: Native, columns: pd.Index, chosen: dict[str, str]) -> None:
    """Add to `chosen` (canonical column → export column) what the layout knows; what the user mapped stays."""
    for name in native.feed.columns:
        found = find_columns(native.feed, name, dict.fromkeys(map(str, columns)))
        if name not in chosen and found:
            chosen[name] = found[0]


def other_columns(native: Native, mapped: Mapping[str, str]) -> dict[str, str]:
    """Of the columns that the user mapped, those that the layout would not have taken: they are used as exported."""
    known = {name: {plain(c) for c in columns} for name, columns in native.feed.columns.items()}
    return {name: column for name, column in mapped.items() if plain(column) not in known.get(name, set())}


def finish(frame: pd.DataFrame, sheet: Sheet, native: Native, mapped: Mapping[str, str]) -> pd.DataFrame:
    """Canonical columns in their final form; columns that the user mapped otherwise are left as exported.

    Columns may be coded, unless records become other rows: what gets cells of another column is plain text from then on.
    """
    feed = native.feed
    for name in feed.merged - set(mapped):
        found = find_columns(feed, name, dict.fromkeys(map(str, sheet.frame)))
        if found:
            frame[name] = _first_filled([sheet.frame[c] for c in found])
    for step in (_amounts, _status, _relation, _lists, _domain, _minutes, _fields, _reciprocal):
        step(frame, native, mapped)
    for name, value in feed.constants.items():
        if name not in mapped:
            frame[name] = _first_filled([frame[name], value]) if name in frame else value
    key = CANONICAL[feed.table].key[:1]
    if key and key[0] not in mapped and find_columns(feed, key[0], dict.fromkeys(map(str, sheet.frame)))[:1] in _NAMES:
        frame["~by_name"] = "yes"
    for link in feed.links:  # filled later, from other tables
        if link.column not in frame and link.part in frame:
            frame[link.column] = ""
    return frame


def never_traits(native: Native, columns: list[str], table: str) -> list[str]:
    """Of the further columns, those that are bookkeeping, personal data, or restate the outcome."""
    return [c for c in columns if _is_aside(native.source, c) or not CANONICAL[table].open_ended]


def further_names(columns: list[str], taken: set[str]) -> dict[str, str]:
    """Trait names of further columns: custom fields lose the ending that marks them, unless that name is taken."""
    names = [trait_name(c) for c in columns]
    return {c: n for c, n in zip(columns, names, strict=True) if n != c and n not in taken and names.count(n) == 1}


def _is_aside(source: Object, column: str) -> bool:
    name = plain(column)
    if is_custom(column):
        return bool(_PERSONAL.fullmatch(name))
    return bool(source.aside.fullmatch(name)) or bool(_STAGE_DATE.match(column))


def _rows(sheet: Sheet, rows: np.ndarray, frame: pd.DataFrame | None = None) -> Sheet:
    """A sheet of some of its rows, each with the place it came from."""
    frame = sheet.frame.iloc[rows] if frame is None else frame
    places = {name: getattr(sheet, name)[rows] for name in ("record", "line", "excess")}
    return replace(sheet, frame=frame.reset_index(drop=True), **places)


def _first_of_run(sheet: Sheet, feed: Feed) -> Sheet:
    """Only the records in which the stage is another than in the one before of the same opportunity."""
    columns = dict.fromkeys(map(str, sheet.frame))
    names = [find_columns(feed, n, columns) for n in ("opportunity_id", "entered_at", "stage")]
    if not all(names):
        return sheet
    key, at, stage = (n[0] for n in names)
    ordered = sheet.frame[[key, at, stage]].sort_values([key, at], kind="stable")
    same = (ordered[key] == ordered[key].shift()) & (ordered[stage] == ordered[stage].shift())
    return _rows(sheet, np.sort(ordered.index[~same].to_numpy()))


def _stage_dates(sheet: Sheet, feed: Feed) -> Sheet:
    """One row per record and stage with a date, from columns such as `Date entered "Demo (Sales Pipeline)"`."""
    columns = dict.fromkeys(map(str, sheet.frame))
    key, stage = (find_columns(feed, n, columns) for n in ("opportunity_id", "~stage"))
    spelled = {plain_name(v): v for v in sorted(sheet.frame[stage[0]].unique())} if stage else {}
    parts, rows = [], []
    for column in columns:
        match = _STAGE_DATE.match(column)
        if match and key:
            text = sheet.frame[column]
            held = (text.str.strip() != "").to_numpy().nonzero()[0]
            name = match["label"] or match["internal"]
            name = spelled.get(plain_name(name), name)
            values = {key[0]: sheet.frame[key[0]].iloc[held], "stage": name, "entered_at": text.iloc[held]}
            parts.append(pd.DataFrame(values))
            rows.append(held)
    frame = pd.concat(parts, ignore_index=True) if parts else sheet.frame.iloc[:0]
    order = np.argsort(np.concatenate(rows), kind="stable") if rows else np.array([], dtype=int)
    return _rows(sheet, np.concatenate(rows)[order], frame.iloc[order]) if rows else _rows(sheet, order)


def _one_by_one(sheet: Sheet, feed: Feed) -> Sheet:
    """One row per member of a list of associated records."""
    columns = dict.fromkeys(map(str, sheet.frame))
    name = find_columns(feed, "contact_id", columns)[0]
    members = sheet.frame[name].str.split(r"[;,]", regex=True).explode().str.strip()
    members = members[members != ""]
    rows = members.index.to_numpy()
    frame = sheet.frame.iloc[rows].reset_index(drop=True)
    frame[name] = members.to_numpy()
    return _rows(sheet, rows, frame)


_RESHAPES = {"first_of_run": _first_of_run, "stage_dates": _stage_dates, "one_by_one": _one_by_one}


def _amounts(frame: pd.DataFrame, native: Native, mapped: Mapping[str, str]) -> None:
    """The converted amount, where the export has it, with its own currency."""
    if "~converted" not in frame or "amount" in mapped or not (frame["~converted"].str.strip() != "").any():
        return
    frame["amount"] = frame["~converted"]
    frame["~is_converted"] = "yes"
    if "currency" not in mapped:
        frame["currency"] = frame.get("~converted_currency", "")


def _status(frame: pd.DataFrame, native: Native, mapped: Mapping[str, str]) -> None:
    """won, lost, open from the flags of the CRM (blank is no); without flags from the stage."""
    if native.feed.table != "opportunities":
        return
    flags = {n: frame[n].str.strip().str.lower() for n in ("is_won", "is_closed", "~is_lost") if n in frame}
    stage = frame.get("stage", pd.Series("", index=frame.index))
    for name in {"is_won", "is_closed"} & set(flags):
        del frame[name]
    if "status" in mapped:
        return
    if "is_won" not in flags:
        is_open = flags["is_closed"].isin(FALSE | {""}) if "is_closed" in flags else None
        frame["status"] = stage if is_open is None else decoded(stage).mask(is_open, "open")
        return
    odd = ~flags["is_won"].isin(TRUE | FALSE | {""})
    won = flags["is_won"].isin(TRUE)
    others = [flags[n].isin(TRUE) for n in ("is_closed", "~is_lost") if n in flags]
    if others:
        closed = np.logical_or.reduce([won, *others])
        status = pd.Series(np.select([won, closed], ["won", "lost"], "open"), index=frame.index)
    else:
        status = decoded(stage).mask(won, "won")
    frame["status"] = status.astype("str").mask(odd, flags["is_won"])


def _relation(frame: pd.DataFrame, native: Native, mapped: Mapping[str, str]) -> None:
    """HubSpot says the relation in two places: the type when it is a relation, else the lifecycle stage."""
    if native.feed.reshape != "lifecycle" or "account_type" in mapped or "~lifecycle" not in frame:
        return
    stage = frame["~lifecycle"]
    stage = stage.map({v: LIFECYCLE.get(plain_name(v), v) for v in stage.unique()})
    words = native.feed.values["account_type"]
    kind = frame.get("account_type", pd.Series("", index=frame.index))
    told = kind.map({v: words.get(plain_name(v), "") for v in kind.unique()})
    frame["account_type"] = stage.where(told.isin(["", "prospect"]), told).astype("str")


def _lists(frame: pd.DataFrame, native: Native, mapped: Mapping[str, str]) -> None:
    """Of a list of associated records the first, which HubSpot puts there as the primary one."""
    if native.feed.reshape == "first_of_list":
        for name in {"account_id", "contact_id"} & set(frame) - set(mapped) - set(CANONICAL[native.feed.table].key):
            text = frame[name]
            listed = text.str.contains("[;,]", regex=True)
            if listed.any():
                frame["~several_" + name] = listed.map({True: "yes", False: ""})
                frame[name] = text.str.split("[;,]", regex=True).str[0].str.strip()


def _domain(frame: pd.DataFrame, native: Native, mapped: Mapping[str, str]) -> None:
    """A web address without scheme, www and path."""
    if "domain" in frame and "domain" not in mapped:
        text = decoded(frame["domain"])
        frame["domain"] = text.mask(text.str.strip() != "", text.str.replace(_ADDRESS, r"\1", regex=True).str.lower())


def _minutes(frame: pd.DataFrame, native: Native, mapped: Mapping[str, str]) -> None:
    """Seconds of a call as minutes, where the export has no minutes."""
    if "~seconds" in frame and "minutes" not in frame:
        seconds = decoded(frame["~seconds"]).str.strip()
        number = pd.to_numeric(seconds, errors="coerce") / 60
        frame["minutes"] = seconds.mask(number.notna(), number.map("{:g}".format)).astype("str")


def _fields(frame: pd.DataFrame, native: Native, mapped: Mapping[str, str]) -> None:
    """Names of changed fields as the columns they fill here: standard ones by the layout, custom ones without ending."""
    if native.feed.reshape == "field_names":
        known = native.feed.values["field"]
        names = {v: known.get(plain_name(v), trait_name(v)) for v in frame["field"].unique()}
        by_name = {plain_name(c): c for c in CANONICAL[native.feed.constants["object"]].by_name}
        names = {v: by_name.get(plain_name(n), n) if is_custom(v) else n for v, n in names.items()}
        frame["field"] = frame["field"].map(names)


def _reciprocal(frame: pd.DataFrame, native: Native, mapped: Mapping[str, str]) -> None:
    """Salesforce gives units of a currency for one of the corporate currency; here it is the other way round."""
    if native.feed.reshape == "one_by_rate" and "rate" in frame and "rate" not in mapped:
        rate = pd.to_numeric(frame["rate"].str.strip(), errors="coerce")
        good = rate > 0
        frame["rate"] = frame["rate"].mask(good, (1 / rate.where(good)).map(repr)).astype("str")


def _first_filled(columns: list) -> pd.Series:
    """Per row the first text that is not blank."""
    found = columns[0]
    for other in columns[1:]:
        found = decoded(found)
        found = found.mask(found.str.strip() == "", decoded(other) if isinstance(other, pd.Series) else other)
    return found
