"""Reads sheets and the mapping in `icplab.toml`, makes text tables under canonical column names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from icplab.core.config import Settings, Source
from icplab.core.errors import Problem, nearest
from icplab.core.schema import CANONICAL, Table
from icplab.intake.batch import Batch, listed
from icplab.intake.coded import CODED_LINKS, EVENTS, blanked, decoded, is_coded, map_words
from icplab.intake.dates import ISO
from icplab.intake.layouts import shape
from icplab.intake.layouts.declare import plain
from icplab.intake.layouts.locale import iso_dates
from icplab.intake.layouts.shape import Native
from icplab.intake.misspelt import misspelt
from icplab.intake.outline import Sheet
from icplab.intake.records import plain_name
from icplab.intake.typed import FALSE, TRUE

# Columns that are not canonical and may still be mapped: the status of an opportunity is derived from them.
STATUS_PARTS = ("is_won", "is_closed")
DATES = {t.name: tuple(c.name for c in t.columns if c.kind == "date") for t in CANONICAL.values()}
# Identifiers of other tables are links, not traits, when an open-ended table holds them.
_LINKS = frozenset(plain_name(k) for t in CANONICAL.values() for k in t.key if k.endswith("_id"))


def expected_names(table: str, settings: Settings, native: Native | None = None) -> set[str]:
    """Plain forms of the column names hoped for in the exports of a table."""
    mapped = settings.columns.get(table, {})
    known = {n for feed in native.source.feeds for many in feed.columns.values() for n in many} if native else set()
    return {plain_name(n) for n in (*mapped.values(), *CANONICAL[table].by_name, *STATUS_PARTS, *known)}


def build_batch(
    table: Table,
    sheets: list[tuple[str, Sheet]],
    settings: Settings,
    problems: list[Problem],
    natives: list[Native | None] | None = None,
) -> Batch | None:
    """All data records of a table as text, under canonical names, further columns of open-ended tables under their own.

    `natives` says of each sheet which layout it was recognised as. Missing required columns, unknown names in the mapping
    and columns that are left out become problems. None when a required column is missing in any file.
    """
    source, mapping = settings.source(table.name), settings.columns.get(table.name, {})
    natives = natives or [None] * len(sheets)
    sheets = [
        (f, shape.reshape(_plain(s), n) if n and _turns(n) else s) for (f, s), n in zip(sheets, natives, strict=True)
    ]
    parts, complete = [], True
    for (file, sheet), native in zip(sheets, natives, strict=True):
        part = _mapped(table, file, sheet, source, mapping, problems, native)
        complete &= part is not None
        parts.append(part)
        if native and part is not None and (source.date_format or settings.calendar.date_format) == ISO:
            _read_report_dates(table, file, part, problems)
    if not complete or (source.row_id and len(sheets) > 1 and not _one_file_only(table, sheets, problems)):
        return None
    frame = _stacked(table, [p for p in parts if p is not None])
    sizes = [len(s.frame) for _, s in sheets]
    batch = Batch(
        table,
        frame,
        tuple(f for f, _ in sheets),
        np.repeat(np.arange(len(sheets), dtype=np.int16), sizes),
        np.concatenate([s.record for _, s in sheets]),
        np.concatenate([s.line for _, s in sheets]),
    )
    _note_ragged(batch, np.concatenate([s.excess for _, s in sheets]))
    batch.text = {c: batch.frame[c] for c in map(str, batch.frame)}
    del frame
    _split_parts(batch)
    _derive_status(batch)
    values = settings.values.get(table.name, {})
    _map_native_values(batch, natives, values)
    _map_values(batch, values)
    _check_flags_agree(batch)
    return batch


def unknown_mappings(settings: Settings) -> list[Problem]:
    """Mapped names that no column of a table can take."""
    problems = []
    for table, mapping in settings.columns.items():
        known = (*CANONICAL[table].by_name, *(STATUS_PARTS if table == "opportunities" else ()))
        for name in mapping if not CANONICAL[table].open_ended else ():
            if name not in known:
                message = f"is not a column of {table}{nearest(name, known)}"
                problems.append(Problem("ICP-E100", message, f"correct [columns.{table}]", "icplab.toml", column=name))
    for table, values in settings.values.items():
        _contradicting(values, table, problems)
    return problems


def _mapped(
    table: Table,
    file: str,
    sheet: Sheet,
    source: Source,
    mapping: Mapping[str, str],
    problems: list[Problem],
    native: Native | None = None,
) -> pd.DataFrame | None:
    """One sheet under canonical names, or None when a column that must be there is not."""
    export = {plain_name(c): c for c in map(str, reversed(sheet.frame.columns))}
    chosen: dict[str, str] = {}
    respelled: list[str] = []
    missing = _explicit(table, file, sheet, mapping, export, chosen, respelled, problems)
    if native:
        shape.choose_columns(native, sheet.frame.columns, chosen)
        _by_custom_name(table, sheet, native, chosen)
    else:
        _by_name(table, sheet, source, mapping, export, chosen, respelled)
    missing |= _required_missing(table, file, sheet, source, mapping, chosen, problems, native)
    if native:
        _tell_native(file, native, chosen, mapping, problems)
    if respelled:
        message = f"column names recognised in another spelling: {listed(respelled)}"
        problems.append(Problem("ICP-R026", message, file=file))
    if missing:
        return None
    frame = pd.DataFrame({name: sheet.frame[column] for name, column in chosen.items()}, index=sheet.frame.index)
    if native:
        frame = shape.finish(frame, sheet, native, shape.other_columns(native, mapping))
    for name, value in source.constants.items():
        frame[name] = value
    for name in _row_ids(source):
        frame[name] = pd.Series(sheet.record, index=frame.index).astype("str")
    taken, names = set(chosen.values()), set(map(str, frame.columns))
    further = _further(table, file, sheet, source, taken, names, problems, native)
    renamed = shape.further_names(further, names) if native else {}
    return pd.concat([frame, sheet.frame[further].rename(columns=renamed)], axis=1)


def _explicit(
    table: Table,
    file: str,
    sheet: Sheet,
    mapping: Mapping[str, str],
    export: Mapping[str, str],
    chosen: dict[str, str],
    respelled: list[str],
    problems: list[Problem],
) -> bool:
    """Columns named in `[columns.<table>]`; returns whether any was not found."""
    missing = False
    for name, wanted in mapping.items():
        if wanted in sheet.frame.columns:
            chosen[name] = wanted
        elif plain_name(wanted) in export:
            chosen[name] = export[plain_name(wanted)]
            respelled.append(f"{chosen[name]} (mapped as {wanted})")
        else:
            missing = True
            message = f"is not a column of the file{nearest(wanted, sheet.frame.columns)}; it has {_listed(sheet)}"
            fix = f"correct [columns.{table.name}] {name}"
            problems.append(Problem("ICP-E027", message, fix, file, column=wanted))
    return missing


def _by_name(
    table: Table,
    sheet: Sheet,
    source: Source,
    mapping: Mapping[str, str],
    export: Mapping[str, str],
    chosen: dict[str, str],
    respelled: list[str],
) -> None:
    """Canonical columns that the export holds under their own name, in any spelling."""
    extra = STATUS_PARTS if table.name == "opportunities" else ()
    taken = set(chosen.values())
    for name in (*table.by_name, *extra):
        if name in mapping:
            continue
        column = name if name in sheet.frame.columns else export.get(plain_name(name))
        if column is not None and column not in taken and column not in source.ignore:
            chosen[name] = column
            if column != name:
                respelled.append(f"{column} as {name}")


def _by_custom_name(table: Table, sheet: Sheet, native: Native, chosen: dict[str, str]) -> None:
    """Canonical columns without a standard field that a custom field of a native export is named after."""
    export = {plain(c): c for c in map(str, reversed(sheet.frame.columns))}
    taken = set(chosen.values())
    own = {"status", *native.feed.constants, *(k for k in table.key if k.endswith("_id"))}
    for name in table.by_name:
        column = export.get(plain_name(name))
        if column is not None and column not in taken and name not in chosen and name not in own:
            chosen[name] = column


def _read_report_dates(table: Table, file: str, frame: pd.DataFrame, problems: list[Problem]) -> None:
    """Dates of a report in the order that all its date columns together prove."""
    found = iso_dates(frame, [c for c in DATES[table.name] if c in frame])
    if found:
        problems.append(Problem("ICP-R050", f"dates read as {found}", file=file))


def _tell_native(
    file: str, native: Native, chosen: Mapping[str, str], mapping: Mapping[str, str], problems: list[Problem]
) -> None:
    """Which columns a recognised export fills, so that all of it can be checked and overridden."""
    table = native.feed.table
    told = [f"{column} → {name}" for name, column in chosen.items() if name[0] != shape.PART and name not in mapping]
    message = f"read as {native.source.title} into {table}: {listed(told, 30)}"
    fix = f"nothing, unless a column is meant otherwise: then name it in [columns.{table}]"
    problems.append(Problem("ICP-R026", message, fix, file))


def _required_missing(
    table: Table,
    file: str,
    sheet: Sheet,
    source: Source,
    mapping: Mapping[str, str],
    chosen: Mapping[str, str],
    problems: list[Problem],
    native: Native | None = None,
) -> bool:
    """Whether a required column has no source at all; each becomes a problem with the nearest names."""
    given = {*chosen, *source.constants, *_row_ids(source)}
    if native:
        given |= {*native.feed.constants, *(link.column for link in native.feed.links if link.part in given)}
    missing = [c for c in table.required_columns if c not in given]
    if not source.dated:
        missing = [c for c in missing if c not in DATES[table.name]]
    if table.name == "opportunities" and given & {"stage", *STATUS_PARTS}:
        missing = [c for c in missing if c != "status"]
    for name in (m for m in missing if m not in mapping):  # of a mapped one it is said already
        message = f"is required and not in the file{nearest(name, sheet.frame.columns)}; it has {_listed(sheet)}"
        fix = f'name the column that holds it in icplab.toml: [columns.{table.name}] {name} = "…"'
        problems.append(Problem("ICP-E027", message, fix, file, column=name))
    return bool(missing)


def _further(
    table: Table,
    file: str,
    sheet: Sheet,
    source: Source,
    taken: set[str],
    names: set[str],
    problems: list[Problem],
    native: Native | None = None,
) -> list[str]:
    """Export columns kept under their own name; those left out are said."""
    rest = [c for c in map(str, sheet.frame.columns) if c not in taken]
    ignored = set(rest) if "*" in source.ignore else {c for c in rest if c in source.ignore}
    aside = [c for c in shape.never_traits(native, rest, table.name) if c not in ignored] if native else []
    if aside:
        message = f"columns of a native export that are no traits, left out: {listed(aside, 12)}"
        problems.append(Problem("ICP-R028", message, f"map those wanted in [columns.{table.name}]", file))
    rest = [c for c in rest if c not in set(aside)]
    clashing = {c for c in rest if not table.open_ended or c in names or plain_name(c) in _LINKS}
    slips = [] if native else misspelt(table, file, [c for c in rest if c not in ignored], names)
    problems += slips
    left = [c for c in rest if c in clashing - ignored - {p.column for p in slips}]
    if left:
        message = f"columns not used: {listed(left, 12)}"
        fix = f"map them in [columns.{table.name}], or list them in [sources.{table.name}] ignore"
        problems.append(Problem("ICP-W028", message, fix, file))
    return [c for c in rest if c not in clashing | ignored]


def _one_file_only(table: Table, sheets: list[tuple[str, Sheet]], problems: list[Problem]) -> bool:
    message = f"record numbers of {len(sheets)} files would collide as identifiers"
    fix = f"join the files, or drop [sources.{table.name}] row_id"
    problems.append(Problem("ICP-E036", message, fix, sheets[0][0]))
    return False


def _note_ragged(batch: Batch, excess: np.ndarray) -> None:
    """Records with too few or too many fields: no cell of them can be trusted."""
    fix = "quote the cell that holds the delimiter or line break, or mend the record"
    batch.note(excess < 0, "ICP-E029", "the record has fewer fields than the header", fix=fix)
    batch.note(excess > 0, "ICP-E030", "the record has more fields than the header", fix=fix)
    if excess.any():  # their cells stand under the wrong names; judging them too would only mislead
        rows = excess != 0
        columns = {c: batch.frame.pop(c) for c in map(str, batch.frame.columns)}
        batch.frame = pd.DataFrame({c: blanked(columns.pop(c), rows) for c in list(columns)}, copy=False)


def _contradicting(values: Mapping[str, Mapping[str, str]], table: str, problems: list[Problem]) -> None:
    """One stage or status mapped both ways: two spellings of a value, two meanings (ICP-E077)."""
    for value, meaning in values.get("status", {}).items():
        for other, says in values["status"].items():
            if value < other and plain_name(value) == plain_name(other) and meaning != says:
                message = f'is mapped to {meaning}, and "{other}" to {says}'
                fix = f"say which one holds in [values.{table}.status]"
                problems.append(
                    Problem("ICP-E077", message, fix, "icplab.toml", column=f"values.{table}.status", value=value)
                )


def _check_flags_agree(batch: Batch) -> None:
    """A status and yes/no flags that say different things about one record (ICP-E077)."""
    if not {"status", "is_won"} <= set(batch.text):
        return
    won = batch.text["is_won"].str.strip().str.lower()
    status = batch.frame["status"]
    wrong = (won.isin(TRUE) & status.isin(["lost", "open"])) | (won.isin(FALSE) & (status == "won"))
    message = "contradicts is_won of the same record"
    fix = "leave one of the two columns out: [sources.opportunities] ignore"
    batch.note(wrong, "ICP-E077", message, fix=fix, column="status")


def _split_parts(batch: Batch) -> None:
    """Take out of the frame what is only used on the way in (columns of native exports whose name begins with ~)."""
    parts = [c for c in map(str, batch.frame) if c.startswith(shape.PART)]
    batch.parts = {c: batch.frame[c] for c in parts}
    batch.frame = batch.frame.drop(columns=parts)


def _map_native_values(batch: Batch, natives: list[Native | None], values: Mapping[str, Mapping[str, str]]) -> None:
    """Standard values of a CRM as canonical ones, in any spelling; those that the settings map are left to them."""
    for number, native in enumerate(natives):
        for column, known in native.feed.values.items() if native else ():
            if column in batch.frame and column != "field":
                mine = batch.file == number
                found = {str(v): known.get(plain_name(v)) for v in batch.frame.loc[mine, column].unique()}
                given = {v: w for v, w in found.items() if w is not None and v not in values.get(column, {})}
                if not given:
                    continue
                text = batch.frame[column]
                if mine.all():
                    batch.frame[column] = map_words(text, partial(_replaced, mapping=given))
                else:
                    batch.frame[column] = text.map(given).where(text.isin(list(given)) & mine, text).astype("str")


def _derive_status(batch: Batch) -> None:
    """Fill `status` from `status`, else `is_won` and `is_closed`, else `stage`; unmapped values stop (ICP-E076)."""
    frame = batch.frame
    if batch.table.name != "opportunities":
        return
    if "status" not in frame:
        if "is_won" in frame:
            frame["status"] = _status_from_flags(batch)
            batch.text["status"] = frame["status"]
        elif "stage" in frame:
            frame["status"] = frame["stage"]
            batch.text["status"] = batch.text["stage"]
    elif set(STATUS_PARTS) & set(frame):
        fix = "nothing; or leave them out: [sources.opportunities] ignore"
        batch.say("ICP-W028", "status is given; is_won and is_closed are not used", fix=fix)
    batch.frame = frame.drop(columns=["is_won", "is_closed"], errors="ignore")


def _status_from_flags(batch: Batch) -> pd.Series:
    """won, lost or open from yes/no text; a blank is no, as Salesforce exports it."""
    flags = {}
    for name in ("is_won", "is_closed"):
        text = batch.frame.get(name, batch.frame["is_won"]).str.strip().str.lower()
        odd = ~text.isin(TRUE | FALSE | {""})
        batch.note(
            odd, "ICP-E076", "is neither yes nor no", fix=f"map it in [values.opportunities.{name}]", column=name
        )
        flags[name] = text.isin(TRUE)
    if "is_closed" not in batch.frame:
        batch.say("ICP-E027", "is_won alone does not tell lost from open", fix="map is_closed too", column="is_closed")
    closed = flags["is_closed"] | flags["is_won"]
    return pd.Series(np.select([flags["is_won"], closed], ["won", "lost"], "open"), index=batch.frame.index).astype(
        "str"
    )


def _map_values(batch: Batch, values: Mapping[str, Mapping[str, str]]) -> None:
    """Replace values as `[values.<table>.<column>]` says; messages keep showing the exported text."""
    for column, mapping in values.items():
        if column not in batch.frame:
            message = f"has no column {column} to map values of{nearest(column, batch.frame.columns)}"
            batch.say("ICP-E100", message, fix=f"correct [values.{batch.table.name}.{column}]")
            continue
        batch.frame[column] = map_words(batch.frame[column], partial(_replaced, mapping=dict(mapping)))


def _replaced(text: pd.Series, mapping: dict[str, str]) -> pd.Series:
    return text.map(mapping).where(text.isin(list(mapping)), text).astype("str")


def _turns(native: Native) -> bool:
    """Whether records of a layout become other rows."""
    return bool(native.feed.keep[0] or native.feed.reshape)


def _plain(sheet: Sheet) -> Sheet:
    """The sheet with every column as plain text, which is what layouts look into."""
    return replace(sheet, frame=pd.DataFrame({c: decoded(sheet.frame[c]) for c in sheet.frame}, copy=False))


def _stacked(table: Table, parts: list[pd.DataFrame]) -> pd.DataFrame:
    """All parts of a table below each other, as text.

    Coded columns stay coded in a single part of a table of events; keys, and all there is about accounts, people and other
    things that are matched and merged, are plain text everywhere.
    """
    ids = {c.name for c in table.columns if c.kind == "id" or c.references}
    plain = {*table.key} if table.name in CODED_LINKS else ids
    if len(parts) > 1 or table.name not in EVENTS:
        plain = {str(c) for p in parts for c in p}
    parts = [pd.DataFrame({c: decoded(p[c]) if c in plain else p[c] for c in p}, copy=False) for p in parts]
    frame = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
    return pd.DataFrame({c: frame[c] if is_coded(frame[c]) else _as_text(frame[c]) for c in frame}, copy=False)


def _as_text(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.StringDtype) and not column.hasnans:
        return column
    return column.astype("str").fillna("")


def _row_ids(source: Source) -> tuple[str, ...]:
    return tuple(source.row_id.replace(",", " ").split())


def _listed(sheet: Sheet) -> str:
    return listed(sheet.frame.columns, 12)
