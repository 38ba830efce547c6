"""Reads the declarations of settings and tables, makes a workspace to fill in: commented settings, playbook, templates."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path

from icplab.core.config import SETTINGS_FILE, Settings
from icplab.core.errors import BadInput, Problem
from icplab.core.schema import CANONICAL
from icplab.intake.files import InputFile, find_files
from icplab.intake.layouts import header_of
from icplab.intake.layouts.guide import export_guide
from icplab.intake.layouts.shape import PART, find_columns

PLAYBOOK_FILE, EXPORT_FILE, TEMPLATES = "playbook.toml", "EXPORT.md", "templates"
# What an analyst meets first; the others can be added when there is such an export.
FIRST_TABLES = ("accounts", "opportunities", "contacts", "activities", "subscriptions", "spend")
# Sections that hold one table per export, column or trait: shown by an example.
EXAMPLES = """
# An export with other names: say which file holds which table, and which column is which.
# [sources.opportunities]
# file = "Deals 2026.csv"
# date_format = "%d/%m/%Y"
#
# [columns.opportunities]
# opportunity_id = "Deal ID"
# account_id = "Company ID"
#
# [values.opportunities.status]
# "Closed Won" = "won"
# "Closed Lost" = "lost"

# A sheet of a workbook, or a table of a database. The connection string stays in an environment variable.
# [sources.subscriptions]
# file = "finance.xlsx"
# sheet = "MRR 2026"
#
# [databases.crm]
# url_env = "CRM_URL"
# timeout_seconds = 300
#
# [sources.contacts]
# database = "crm"
# table = "public.contacts"

# What a column is about: the tool cannot guess it from its values.
# [traits.main_pain]
# role = "need"
"""
PLAYBOOK = """# What people decide. Segment ids are those of the last run; "any" covers every segment, tier or intent.

# [segments.S1]
# problem_statement = "What this group cannot do today, in its own words."
# message = "What it should remember."
# offer_angle = "How the offer begins."
# content_path = ["first read", "then", "before the decision"]
# channel_assumption = "Where these accounts are reached."
# qualification_rule = "What must be true before a seller spends a second meeting."
# owner = "Product Marketing"

# [[plays]]
# tier = "tier_1"
# segment = "any"
# intent = "high"
# play = "workshop"
# steps = ["call within one working day", "workshop", "written business case"]
# owner = "Field Sales"
# sla_days = 1
"""


def init_workspace(folder: Path | str, source: str = "csv") -> list[Path]:
    """Write a workspace to fill in.

    Parameters
    ----------
    folder : made when it is not there; files that are there are never touched
    source : salesforce, hubspot or csv: what `EXPORT.md` explains. Exports that already lie in the folder are recognised
        whatever it says, and written into the settings.

    Returns
    -------
    list of Path
        What was written: `icplab.toml` with every setting as a comment at its default, `playbook.toml`, `EXPORT.md`, and
        for `csv`, under `templates/`, the header of each export that a first run can use.

    Raises
    ------
    BadInput
        The folder already has settings, or is a file.
    """
    folder = Path(folder)
    if (folder / SETTINGS_FILE).exists() or (folder.exists() and not folder.is_dir()):
        what = f"already has {SETTINGS_FILE}" if folder.is_dir() else "is a file"
        raise BadInput(Problem("ICP-E100", what, fix="name a new folder", file=str(folder)))
    folder.mkdir(parents=True, exist_ok=True)
    recognised = _recognised(folder)
    texts = {SETTINGS_FILE: settings_template() + _mapping(recognised), PLAYBOOK_FILE: PLAYBOOK}
    texts[EXPORT_FILE] = export_guide(source)
    if source == "csv":
        (folder / TEMPLATES).mkdir(exist_ok=True)
        texts |= {f"{TEMPLATES}/{name}.csv": _header(name) for name in FIRST_TABLES}
    paths = [folder / name for name in texts if not (folder / name).exists()]
    for path in paths:
        path.write_text(texts[path.relative_to(folder).as_posix()], encoding="utf-8")
    return paths


def describe_exports(folder: Path | str) -> list[str]:
    """One line per file and table that a run would read as a native export."""
    files = (file for several in _recognised(Path(folder)).values() for file in several)
    return [f"{f.name}: {f.native.source.title}, into {f.table}" for f in files if f.native]


def _recognised(folder: Path) -> dict[str, list[InputFile]]:
    """Native exports in a folder by the table they feed."""
    found: dict[str, list[InputFile]] = {}
    for file in find_files(folder, Settings())[0]:
        if file.native:
            found.setdefault(file.table, []).append(file)
    return found


def _mapping(recognised: dict[str, list[InputFile]]) -> str:
    """Settings that say what was recognised: the file and its layout, and each column as a comment to change."""
    lines = (
        ["", "# Recognised in this folder. A column named in [columns.…] wins over the layout."] if recognised else []
    )
    for table, files in recognised.items():
        several = len(files) > 1
        lines += ["", f"# {table} comes from {len(files)} files, each by its own layout:"] if several else [""]
        for file in files:
            assert file.native is not None
            mark = "# " if several else ""
            lines += [f"{mark}[sources.{table}]", f"{mark}file = {json.dumps(file.name, ensure_ascii=False)}"]
            lines += [f'{mark}layout = "{file.native.source.system.lower()}"', f"# [columns.{table}]"]
            columns = dict.fromkeys(header_of(file.path))
            for name in file.native.feed.columns:
                of_export = find_columns(file.native.feed, name, columns)
                if of_export and not name.startswith(PART):
                    lines.append(f"# {name} = {json.dumps(of_export[0], ensure_ascii=False)}")
    return "\n".join(lines) + "\n" if lines else ""


def settings_template() -> str:
    """`icplab.toml` with every section and setting, commented out, at its default, with its meaning."""
    lines = [
        "# Settings of this workspace. Everything below is a comment and stands at its default.",
        "# Take away the # of what you change, and that of the [section] above it.",
        "# Exports go beside this file, as accounts.csv, opportunities.csv and so on (see templates/).",
    ]
    for section in fields(Settings):
        if is_dataclass(section.default):
            lines += ["", f"# [{section.name}]", *_settings_lines(type(section.default))]
    return "\n".join(lines) + "\n" + EXAMPLES


def _settings_lines(section: type) -> Iterator[str]:
    notes = _notes(section)
    for field in fields(section):
        if field.name in notes:
            yield f"# {notes[field.name]}"
        yield f"# {field.name} = {_toml(field)}"


def _notes(section: type) -> dict[str, str]:
    """The text below each setting in the code: what it means."""
    body = ast.parse(inspect.getsource(section)).body[0].body  # type: ignore[attr-defined]
    notes = {}
    for statement, following in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            assert isinstance(statement.target, ast.Name)
            notes[statement.target.id] = " ".join(str(ast.literal_eval(following.value)).split())
    return notes


def _toml(field: Field) -> str:
    """The default as TOML; what has none shows its type."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    if value is None:
        example = {"float": "0.0", "int": "0", "dt.date": "2026-06-30"}.get(str(field.type).split(" ")[0], '""')
        return f"{example}  # an example: not set by default"
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _header(table: str) -> str:
    return ",".join(c.name for c in CANONICAL[table].columns) + "\n"
