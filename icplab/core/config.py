"""Reads `icplab.toml` and `playbook.toml`: every key declared, typed, with a default; unknown keys refused by name."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path

from icplab.core.errors import BadInput, Problem, nearest
from icplab.core.schema import CANONICAL, FAMILIES, TRAIT_ROLES

# Sections about how files are read: leaving them out is no decision the business has yet to take.
OF_READING = ("matching",)
SETTINGS_FILE = "icplab.toml"
# What accounts can be compared by; phone, street, postcode and city are found among further columns.
MATCHED_COLUMNS = (
    *("name", "domain", "linkedin_url", "parent_account_id", "country", "region", "industry", "employees"),
    *("annual_revenue", "founded_year", "phone", "street", "postcode", "city"),
)
DATABASE_FILES = (".duckdb", ".sqlite", ".sqlite3", ".db")
_SELECT = re.compile(r"(\s|\(|--[^\n]*\n|/\*.*?\*/)*(select|with)\b", re.IGNORECASE | re.DOTALL)
_PASSWORD = re.compile(r"\w://[^\s/:@]*:[^\s@/]+@|\bpassword\s*=\s*\S", re.IGNORECASE)
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|")
_SECRET_KEYS = frozenset({"url", "uri", "dsn", "password", "passwd", "pwd", "secret", "token", "connection"})


@dataclass(frozen=True)
class Workspace:
    name: str = ""
    currency: str = ""
    """Reporting currency; amounts in others need a rates table."""
    as_of: dt.date | None = None
    """Date everything is computed as known on; default the last date in the data."""
    seed: int = 1
    markets: tuple[str, ...] = ()
    score_column: str = ""
    """Column of accounts with today's score or tier, to compare with; empty: looked for by its name."""


@dataclass(frozen=True)
class Goals:
    growth_target: float | None = None
    """Wanted growth of won revenue over the next year, as a fraction."""
    margin_floor: float | None = None
    """Gross margin below which a segment is screened."""
    strategic_bets: tuple[str, ...] = ()
    product_focus: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    deal_size_vs_velocity: float = 0.5
    """1 = only deal size counts, 0 = only velocity."""
    land_vs_expand: float = 0.5
    """1 = only new customers count, 0 = only expansion."""


@dataclass(frozen=True)
class Source:
    file: str = ""
    """File name inside the workspace, or a glob such as opportunities_*.csv."""
    sheet: str = ""
    """Sheet of an Excel workbook; empty: the one that holds data."""
    database: str = ""
    """Name of a [databases.<name>] section; the rows then come from there and not from a file."""
    table: str = ""
    """Table of that database, or of a DuckDB or SQLite file; schema.table where it has a schema."""
    query: str = ""
    """A single SELECT in place of a whole table."""
    layout: str = ""
    """salesforce, hubspot, or none for an export mapped by hand; empty: recognised by its header."""
    delimiter: str = ""
    """Empty: found by field-count consistency over the whole file."""
    encoding: str = "utf-8"
    dated: bool = True
    """False: the source has no dates at all; what needs time is not measured."""
    decimal: str = "."
    thousands: str = ""
    date_format: str = ""
    """strptime format, or excel or excel1904 for day numbers of a spreadsheet; empty: [calendar] date_format."""
    exported_on: dt.date | None = None
    """Day the export was made; later records are set aside. Default: the time in a report's file name, else today."""
    missing: tuple[str, ...] = ("", "NULL", "N/A", "#N/A")
    row_id: str = ""
    """Column (or several, by commas) to fill with the record number where the export has no identifier."""
    keep_duplicates: bool = False
    """True: identical records are separate facts (an export without identifiers)."""
    constants: dict[str, str] = field(default_factory=dict)
    """Column = value, for columns the export does not hold."""
    multiply: dict[str, float] = field(default_factory=dict)
    """Column = factor, for units (annual_revenue = 1e6 when the export is in millions)."""
    ignore: tuple[str, ...] = ()
    """Export columns left out; ["*"] leaves out all that map to nothing."""


@dataclass(frozen=True)
class Database:
    """Where a database is. Its connection string never stands in the settings, so that they can be shared."""

    url_env: str = ""
    """Environment variable that holds the connection string, postgresql://… or sqlite:///…"""
    timeout_seconds: int = 300
    """A query that takes longer is given up."""


@dataclass(frozen=True)
class Calendar:
    date_format: str = "%Y-%m-%d"
    timezone: str = "UTC"
    fiscal_year_start: int = 1
    """Month in which the fiscal year starts."""
    review_every_days: int = 92


@dataclass(frozen=True)
class Value:
    amount_is: str = "annual"
    """annual, total or monthly: what the amount column means where term_months is blank."""


@dataclass(frozen=True)
class Economics:
    gross_margin: float | None = None
    discount_rate: float = 0.10
    months: int = 36
    """Horizon of the expected value of an opportunity."""
    ltv_months: int = 60
    cost_to_serve: float = 0.0
    """Per won opportunity and year, in the reporting currency."""
    cost_of_touch: float = 0.0
    """Cost of working one account for a quarter."""


@dataclass(frozen=True)
class Plan:
    value_metric: str = "margin_36m"
    horizon_days: int = 365
    window_days: int = 730
    """KPIs look back this far; 0 = all history."""
    minimum_n: int = 40
    minimum_n_money: int = 60
    max_segments: int = 7
    min_segment_accounts: int = 50
    fdr: float = 0.10
    alarms_per_year: float = 0.05
    holdout_days: int = 0
    """Period the tiers are checked on; 0 = a quarter of the history, at most a year."""
    candidates: tuple[str, ...] = ()
    """Trait columns to look at; empty: all."""
    excluded: tuple[str, ...] = ()
    """Columns never used as traits."""
    cuts: tuple[str, ...] = ()
    """Trait columns to cut KPIs by; empty: chosen by fill rate and number of levels."""


@dataclass(frozen=True)
class Capacity:
    tier_1: int | None = None
    """Accounts the team can work at this tier in a quarter."""
    tier_2: int | None = None
    tier_3: int | None = None


@dataclass(frozen=True)
class Trait:
    kind: str = ""
    family: str = ""
    role: str = ""
    known_at: str = ""
    """created, snapshot, or the column of the same table that holds the day the value was filled: until then it is blank."""
    reason: str = ""
    """Why a person says so: printed where known_at = "created" lifts the quarantine of a suspected leak."""
    exclude: bool = False


@dataclass(frozen=True)
class Tolerance:
    orphans: float = 0.02
    """Share of records that may point to an account that is not there."""
    quarantine: float = 0.0
    """Share of records that may be set aside before the run stops."""
    future_dates: bool = False


@dataclass(frozen=True)
class Matching:
    merge: str = "clear"
    """clear: accounts that are clearly one organisation are merged, doubtful ones listed; ask: only what you answered yes is merged; never: nothing is looked for."""
    clear: float = 0.95
    """Probability from which a pair can be clear-cut; nothing may speak against it besides. Wrong merges cost more than questions."""
    ask: float = 0.2
    """Probability from which a pair is worth a question; below it four in five would be answered no."""
    columns: tuple[str, ...] = ()
    """Columns of accounts to compare; empty: name, web address, company page, parent, place, telephone, industry and size."""


@dataclass(frozen=True)
class Privacy:
    show_owners: bool = False
    contacts: bool = False


@dataclass(frozen=True)
class Settings:
    """All of `icplab.toml`. `playbook` is `playbook.toml` as read; `defaults_taken` names the sections not given."""

    workspace: Workspace = Workspace()
    goals: Goals = Goals()
    sources: dict[str, Source] = field(default_factory=dict)
    databases: dict[str, Database] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    values: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    calendar: Calendar = Calendar()
    value: Value = Value()
    economics: Economics = Economics()
    plan: Plan = Plan()
    capacity: Capacity = Capacity()
    traits: dict[str, Trait] = field(default_factory=dict)
    tolerance: Tolerance = Tolerance()
    matching: Matching = Matching()
    privacy: Privacy = Privacy()
    playbook: dict[str, object] = field(default_factory=dict)
    defaults_taken: tuple[str, ...] = ()

    def source(self, table: str) -> Source:
        return self.sources.get(table, Source())

    @property
    def dated(self) -> bool:
        """False when the opportunities carry no dates."""
        return self.source("opportunities").dated

    def plan_hash(self) -> str:
        """SHA-256 over everything that was decided before looking at the data."""
        decided = {k: asdict(getattr(self, k)) for k in ("goals", "plan", "capacity", "economics", "value")}
        return hashlib.sha256(json.dumps(decided, sort_keys=True, default=str).encode()).hexdigest()


def read_settings(folder: Path) -> Settings:
    """Settings of a workspace; a folder without `icplab.toml` gets the defaults.

    Raises `BadInput` naming every unknown key (with the nearest known one), wrong type and value out of range.
    """
    raw = _read_toml(folder / SETTINGS_FILE)
    problems: list[Problem] = _secrets(raw, "")
    settings = _build(Settings, raw, "", problems) if not problems else Settings()
    if not problems:
        problems += [*_check(settings), *_check_databases(settings)]
    if problems:
        raise BadInput(problems)
    given = set(raw)
    sections = [f.name for f in fields(Settings) if is_dataclass(f.default) and f.name not in OF_READING]
    return Settings(
        **{
            **{f.name: getattr(settings, f.name) for f in fields(Settings)},
            "playbook": _read_toml(folder / "playbook.toml"),
            "defaults_taken": tuple(s for s in sections if s not in given),
        }
    )


def settings_to_json(settings: Settings) -> str:
    """Settings as canonical JSON, for the run folder."""
    return json.dumps(asdict(settings), sort_keys=True, default=str, indent=1)


def settings_from_json(text: str) -> Settings:
    """Inverse of `settings_to_json`."""
    raw = json.loads(text)
    problems: list[Problem] = []
    extra = {k: raw.pop(k) for k in ("playbook", "defaults_taken")}
    if raw["workspace"].get("as_of"):
        raw["workspace"]["as_of"] = dt.date.fromisoformat(raw["workspace"]["as_of"])
    settings = _build(Settings, raw, "", problems)
    if problems:
        raise BadInput(problems)
    return Settings(
        **{
            **{f.name: getattr(settings, f.name) for f in fields(Settings)},
            "playbook": extra["playbook"],
            "defaults_taken": tuple(extra["defaults_taken"]),
        }
    )


def _read_toml(path: Path) -> dict:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            Problem("ICP-E100", f"is not valid TOML: {error}", fix="correct the line named", file=path.name)
        ) from error


def _build(kind: typing.Any, raw: Mapping, where: str, problems: list[Problem]) -> typing.Any:
    """A dataclass from a mapping; every unknown key and wrong type becomes a problem."""
    if not isinstance(raw, Mapping):
        problems.append(_problem(where, raw, "must be a table of keys"))
        return kind()
    hints = typing.get_type_hints(kind)
    known = {f.name for f in fields(kind)} - {"playbook", "defaults_taken"}
    values = {}
    for key, value in raw.items():
        path = f"{where}.{key}" if where else key
        if key not in known:
            problems.append(_problem(path, key, f"is not a known setting{nearest(key, known)}"))
        else:
            values[key] = _convert(hints[key], value, path, problems)
    return kind(**values)


def _convert(kind: typing.Any, value: object, path: str, problems: list[Problem]) -> typing.Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, path, problems)
    if is_dataclass(kind):
        return _build(kind, value, path, problems)  # type: ignore[arg-type]
    if origin is dict:
        if not isinstance(value, Mapping):
            problems.append(_problem(path, value, "must be a table of keys"))
            return {}
        return {str(k): _convert(arguments[1], v, f"{path}.{k}", problems) for k, v in value.items()}
    if origin is tuple:
        if not isinstance(value, list | tuple):
            problems.append(_problem(path, value, "must be a list"))
            return ()
        return tuple(_convert(arguments[0], v, path, problems) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is dt.date and isinstance(value, str):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            pass
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {
            int: "a whole number",
            float: "a number",
            str: "text in quotes",
            bool: "true or false",
            dt.date: "a date like 2026-06-30",
        }
        problems.append(_problem(path, value, f"must be {names.get(kind, kind.__name__)}"))
    return value


def _problem(path: str, value: object, message: str) -> Problem:
    return Problem("ICP-E100", message, fix=f"correct [{path}]", file=SETTINGS_FILE, column=path, value=str(value)[:80])


def _check(settings: Settings) -> list[Problem]:
    """Values that have the right type and still cannot be meant."""
    problems = []
    for section in ("sources", "columns", "values"):
        for table in getattr(settings, section):
            if table not in CANONICAL:
                problems.append(_problem(f"{section}.{table}", table, f"is not a table{nearest(table, CANONICAL)}"))
    for path, value, low, high in (
        ("goals.margin_floor", settings.goals.margin_floor, 0, 1),
        ("goals.deal_size_vs_velocity", settings.goals.deal_size_vs_velocity, 0, 1),
        ("goals.land_vs_expand", settings.goals.land_vs_expand, 0, 1),
        ("economics.gross_margin", settings.economics.gross_margin, 0, 1),
        ("economics.discount_rate", settings.economics.discount_rate, 0, 1),
        ("economics.months", settings.economics.months, 1, 120),
        ("economics.ltv_months", settings.economics.ltv_months, 1, 120),
        ("plan.horizon_days", settings.plan.horizon_days, 1, 3650),
        ("plan.fdr", settings.plan.fdr, 0, 1),
        ("plan.max_segments", settings.plan.max_segments, 2, 7),
        ("calendar.fiscal_year_start", settings.calendar.fiscal_year_start, 1, 12),
        ("matching.clear", settings.matching.clear, 0, 1),
        ("matching.ask", settings.matching.ask, 0, 1),
        ("tolerance.orphans", settings.tolerance.orphans, 0, 1),
        ("tolerance.quarantine", settings.tolerance.quarantine, 0, 1),
    ):
        if value is not None and not low <= value <= high:
            problems.append(_problem(path, value, f"must lie between {low} and {high}"))
    for path, word, allowed in [
        ("value.amount_is", settings.value.amount_is, ("annual", "total", "monthly")),
        *(
            (f"sources.{n}.layout", s.layout, ("", "none", "salesforce", "hubspot"))
            for n, s in settings.sources.items()
        ),
        ("matching.merge", settings.matching.merge, ("clear", "ask", "never")),
        *(("matching.columns", c, MATCHED_COLUMNS) for c in settings.matching.columns),
        *((f"traits.{n}.family", t.family, ("", *FAMILIES)) for n, t in settings.traits.items()),
        *((f"traits.{n}.role", t.role, ("", *TRAIT_ROLES)) for n, t in settings.traits.items()),
        *(
            (f"traits.{n}.kind", t.kind, ("", "number", "flag", "category", "multi"))
            for n, t in settings.traits.items()
        ),
    ]:
        if word not in allowed:
            problems.append(_problem(path, word, f"is not one of {list(allowed)}{nearest(word, allowed)}"))
    return problems


def _secrets(value: object, path: str) -> list[Problem]:
    """Passwords and connection strings that hold one; they are named by place and never repeated."""
    if isinstance(value, Mapping):
        return [p for k, v in value.items() for p in _secrets(v, f"{path}.{k}" if path else str(k))]
    if isinstance(value, list):
        return [p for v in value for p in _secrets(v, path)]
    in_database = path.startswith("databases.")
    key = path.rsplit(".", 1)[-1].lower()
    named = in_database and (key in _SECRET_KEYS or (key == "url_env" and not _ENVIRONMENT_NAME.fullmatch(str(value))))
    if not named and not _PASSWORD.search(str(value)):
        return []
    message = "holds a connection string or a password, and settings are shared and copied into every run"
    fix = 'take it out, set it in an environment variable such as CRM_URL, and write url_env = "CRM_URL"'
    return [Problem("ICP-E087", message, fix, SETTINGS_FILE, column=path)]


def _check_databases(settings: Settings) -> list[Problem]:
    """Sources of which it is not clear what to read, and queries that are not one SELECT."""
    problems = []
    for name, source in settings.sources.items():
        path = f"sources.{name}"
        inside = source.file.lower().endswith(DATABASE_FILES)
        if source.database and source.file:
            problems.append(_problem(f"{path}.file", source.file, "stands beside database; one of them must go"))
        elif source.database and source.database not in settings.databases:
            hint = nearest(source.database, settings.databases)
            problems.append(_problem(f"{path}.database", source.database, f"has no [databases] section{hint}"))
        elif (source.table or source.query) and not (source.database or inside):
            given = source.table or source.query
            problems.append(_problem(path, given, "needs a database, or a DuckDB or SQLite file"))
        elif (source.database or inside) and bool(source.table) == bool(source.query):
            problems.append(_problem(path, source.database or source.file, 'needs table = "…" or query = "…"'))
        if source.query and not _SELECT.match(source.query):
            problems.append(_problem(f"{path}.query", source.query, "is not a SELECT"))
    for name, database in settings.databases.items():
        if not database.url_env:
            problems.append(_problem(f"databases.{name}.url_env", name, "names no environment variable"))
        if database.timeout_seconds < 1:
            value = database.timeout_seconds
            problems.append(_problem(f"databases.{name}.timeout_seconds", value, "must be at least 1"))
    return problems
