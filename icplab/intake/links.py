"""Reads all typed tables, makes known what does not meet between them: orphans, and labels that nearly agree."""

from __future__ import annotations

import re

import pandas as pd

from icplab.core.config import Settings
from icplab.core.schema import Column
from icplab.intake.batch import Batch, is_among, shown_text, toml_text
from icplab.intake.records import plain_name

# Labels that point to another table without being identifiers: a miss is told, the record stays.
SOFT_LINKS = (
    ("opportunities", "product", "products", "product"),
    ("subscriptions", "product", "products", "product"),
    ("opportunities", "owner", "owners", "owner"),
)
MAX_LEVELS = 300  # columns with more levels are not lists of labels
_WORD = re.compile(r"[^\W\d_]{6,}")  # shorter words are one edit apart by nature (Chad, Chile, China)
VOCABULARY_COLUMNS = ("industry", "country")
# Words that industry and country columns are made of: ISIC/NACE section titles and the industry picklist of common CRMs;
# countries by their English short names (ISO 3166-1). A level one edit away from one of them is probably a slip.
_INDUSTRY_WORDS = """
accounting advertising aerospace agriculture apparel automotive aviation banking biotechnology chemicals
communications construction consulting cosmetics defense distribution education electronics employment
energy engineering entertainment environmental fashion finance financial fintech fitness food government
hardware healthcare hospitality hotels industrial information insurance internet investment logistics
machinery manufacturing maritime marketing media medical metals mining nonprofit pharmaceuticals
pharmaceutical photography printing professional publishing recreation recruiting renewables research
restaurants retail robotics security semiconductors services shipping software sports storage technology
telecommunications telecom textiles tourism transport transportation travel utilities veterinary
warehousing wholesale wireless
"""
INDUSTRIES = frozenset(_INDUSTRY_WORDS.split())
_COUNTRY_WORDS = """
afghanistan albania algeria andorra angola argentina armenia australia austria azerbaijan bahamas bahrain
bangladesh barbados belarus belgium belize bolivia botswana brazil bulgaria cambodia cameroon canada
colombia croatia cyprus czechia denmark ecuador estonia ethiopia finland france georgia germany greece
guatemala honduras hungary iceland india indonesia ireland israel italy jamaica jordan kazakhstan kosovo
kuwait latvia lebanon liechtenstein lithuania luxembourg malaysia malta mauritius mexico moldova monaco
mongolia montenegro morocco mozambique myanmar namibia netherlands nicaragua nigeria norway pakistan
panama paraguay philippines poland portugal romania russia rwanda senegal serbia singapore slovakia
slovenia somalia spain sweden switzerland taiwan tanzania thailand tunisia turkey uganda ukraine uruguay
uzbekistan venezuela vietnam zambia zimbabwe
"""
COUNTRIES = frozenset(_COUNTRY_WORDS.split())


def check_links(batches: dict[str, Batch], settings: Settings) -> None:
    """Records that point to accounts, opportunities or people that are not there.

    A required link that misses sets the record aside (ICP-Q044); more than [tolerance] orphans of them stop (ICP-E044). An
    optional link that misses is told (ICP-W044, ICP-W047) and the record stays.
    """
    for batch in batches.values():
        for column in batch.table.columns:
            target, _, name = column.references.partition(".")
            if target in batches and batch.frame[column.name].notna().any():
                _check_link(batch, column, batches[target], name, settings.tolerance.orphans)


def check_labels(batches: dict[str, Batch]) -> None:
    """Labels that differ only in spelling, inside a column or between tables, and words one edit from a known one."""
    for table, column, target, name in SOFT_LINKS:
        if table in batches and target in batches:
            _check_soft_link(batches[table], column, batches[target], name)
    for batch in batches.values():
        for column in map(str, batch.frame):
            declared = batch.table.by_name.get(column)
            if declared is None or (declared.kind == "category" and not declared.allowed):
                _check_spellings(batch, column)
        for column in VOCABULARY_COLUMNS:
            if column in batch.frame:
                _check_vocabulary(batch, column, INDUSTRIES if column == "industry" else COUNTRIES)


def _check_link(batch: Batch, column: Column, target: Batch, name: str, tolerated: float) -> None:
    value = batch.frame[column.name]
    kept = target.frame.loc[~target.aside, name]
    missing = value.notna() & ~is_among(value, kept) & batch.live
    if not missing.any():
        return
    orphan = missing & ~is_among(value, target.frame[name])
    table = target.table.name
    if column.required:
        widow = missing & ~orphan
        message = f"belongs to a record of {table} that was set aside"
        batch.note(widow, "ICP-Q044", message, fix=f"mend the record of {table} first", column=column.name)
        _note_orphans(batch, column, table, orphan, tolerated)
    elif column.name == "parent_account_id":
        message = "is a parent that is not among the accounts: the account stands for itself"
        batch.note(missing, "ICP-W047", message, fix="export all accounts", column=column.name)
    else:
        batch.note(
            missing, "ICP-W044", f"is not in {table}: the record is kept", fix=f"export all {table}", column=column.name
        )


def _note_orphans(batch: Batch, column: Column, table: str, orphan: pd.Series, tolerated: float) -> None:
    share = orphan.mean() if len(orphan) else 0.0
    if not orphan.any():
        return
    if share <= tolerated:
        message = f"is not in {table} ({share:.1%} of records); the record is set aside"
        batch.note(orphan, "ICP-Q044", message, fix=f"add it to {table}, or correct it", column=column.name)
    else:
        message = f"is not in {table}: {share:.1%} of records, more than the {tolerated:.1%} allowed"
        fix = f"export all {table}; or accept it with [tolerance] orphans = {_rounded_up(share)}"
        batch.note(orphan, "ICP-E044", message, fix=fix, column=column.name)


def _rounded_up(share: float) -> str:
    return f"{min(1.0, int(share * 100 + 1) / 100):.2f}"


def _check_soft_link(batch: Batch, column: str, target: Batch, name: str) -> None:
    value, known = batch.frame[column], target.frame[name].dropna().unique()
    missing = value.notna() & ~value.isin(known) & batch.live
    if not missing.any():
        return
    if target.table.by_name[name].personal:
        levels = value[missing].nunique()
        message = f"{levels} levels are not in {target.table.name}: kept as they are"
        fix = f"export all {target.table.name}"
        batch.say("ICP-W044", message, fix=fix, column=column, count=int(missing.sum()))
        return
    spelled = {plain_name(k): k for k in known}
    for level, count in _counts(value[missing]):
        other, table = spelled.get(plain_name(level)), target.table.name
        if other is None:
            message = f"is not in {table}: kept as it is"
            fix = f"add it to {table}, or correct it"
            batch.say("ICP-W044", message, fix=fix, column=column, value=level, count=count)
        else:
            fix = f"if they are the same: [values.{batch.table.name}.{column}] {toml_text(level)} = {toml_text(other)}"
            message = f'is not in {table}, where "{shown_text(other)}" is; the two are kept apart'
            batch.say("ICP-W080", message, fix=fix, column=column, value=level, count=count)


def _check_spellings(batch: Batch, column: str) -> None:
    """Levels of one column that agree but for case, spaces and punctuation."""
    values = batch.live_cells(column)
    levels = [v for v in values.unique() if isinstance(v, str)]
    if not 2 <= len(levels) <= MAX_LEVELS:
        return
    alike: dict[str, list[str]] = {}
    for level in levels:
        alike.setdefault(plain_name(level), []).append(level)
    for plain in sorted(p for p, group in alike.items() if len(group) > 1 and any(c.isalpha() for c in p)):
        counts = _counts(values[values.isin(alike[plain])])
        main = max(counts, key=lambda c: c[1])[0]
        for level, count in counts:
            if level != main:
                fix = (
                    f"if they are the same: [values.{batch.table.name}.{column}] {toml_text(level)} = {toml_text(main)}"
                )
                message = f'is spelled like "{shown_text(main)}"; the two are kept apart'
                batch.say("ICP-W080", message, fix=fix, column=column, value=level, count=count)


def _check_vocabulary(batch: Batch, column: str, vocabulary: frozenset[str]) -> None:
    """Levels with a word that is one slip away from a known word and is not one itself."""
    for level, count in _counts(batch.live_cells(column))[:MAX_LEVELS]:
        for word in _WORD.findall(level.lower()):
            near = sorted(_one_edit(word) & vocabulary) if word not in vocabulary else []
            if near and not _inflected(word, near[0]):
                fix = f'if it is a slip: [values.{batch.table.name}.{column}] {toml_text(level)} = "…"'
                message = f'looks like a misspelling of "{near[0]}"; kept as it is'
                batch.say("ICP-W080", message, fix=fix, column=column, value=level, count=count)


def _counts(values: pd.Series) -> list[tuple[str, int]]:
    """Levels with counts, in alphabetical order."""
    counts = values.value_counts()
    return sorted((str(v), int(n)) for v, n in counts.items() if n)  # a coded column also counts words that are gone


def _inflected(word: str, near: str) -> bool:
    """Singular and plural are not slips of each other."""
    return word + "s" == near or near + "s" == word


def _one_edit(word: str) -> set[str]:
    """All words one insertion, deletion, substitution or transposition away (Damerau 1964)."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    splits = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    return {
        *(a + b[1:] for a, b in splits if b),
        *(a + b[1] + b[0] + b[2:] for a, b in splits if len(b) > 1),
        *(a + c + b[1:] for a, b in splits if b for c in letters),
        *(a + c + b for a, b in splits for c in letters),
    }
