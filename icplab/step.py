"""What a notebook opens: one step of a run, with its tables as known on a date and the artefacts of earlier steps."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from icplab import features
from icplab.core.config import Settings, settings_from_json
from icplab.core.errors import BadInput, ContractBroken, Problem
from icplab.core.findings import Finding, findings_table
from icplab.core.schema import CANONICAL
from icplab.core.store import Store, read_parquet, sha256_of

STEPS = (
    "10_align",
    "20_performance",
    "30_segments",
    "40_traits",
    "50_tiers",
    "60_activation",
    "70_governance",
)

EVERY_ACCOUNT = frozenset({"account_segments", "scores"})  # artefacts with one row for each account known on the date
EVENTS = "events"  # folder of a run that holds the summary of events, from which the next run goes on
KEPT = "features"  # folder of a run in progress that holds what was made from its tables once


class LazyTables(Mapping[str, pd.DataFrame]):
    """Canonical tables by name, each read when it is first asked for: events may be too many to load."""

    def __init__(self, load: Callable[[str], pd.DataFrame]) -> None:
        self._load = load
        self._held: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in CANONICAL:
            raise KeyError(name)
        if name not in self._held:
            self._held[name] = self._load(name)
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(CANONICAL)

    def __len__(self) -> int:
        return len(CANONICAL)


@dataclass(frozen=True)
class Step:
    """One step of a run. Tables are as known on `as_of`; nothing later can be reached through it.

    Attributes
    ----------
    name : one of STEPS
    folder : the run folder
    settings : all of `icplab.toml` and `playbook.toml`
    as_of : date everything is computed as known on
    seed : whole number of this step, derived from the workspace's seed and the step's name
    inputs : what the intake found (files, hashes, ledger, notes)
    """

    name: str
    folder: Path
    settings: Settings
    as_of: pd.Timestamp
    seed: int
    inputs: dict

    @cached_property
    def all_tables(self) -> Mapping[str, pd.DataFrame]:
        """Every canonical table with all its rows, later ones too: only for looking back from an earlier date."""
        return LazyTables(self._load)

    @cached_property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Every canonical table as known on `as_of`; tables that were not delivered are empty and typed."""
        return LazyTables(lambda name: features.known_table(self.all_tables, name, self.as_of))

    @cached_property
    def sources(self) -> features.Tables:
        """Tables for the account table: large ones as files, which the engine reads as far as it needs them."""
        return {n: p for n in CANONICAL if (p := self._path(n)).exists()}

    @cached_property
    def kept(self) -> features.Kept:
        """What was made from these tables already, by this notebook or another of the run."""
        return features.Kept(self.folder / KEPT, {n: self._path(n) for n in self.sources}, self.settings)

    @cached_property
    def signals(self) -> pd.DataFrame:
        """Activities until `as_of`, one row per account and type (`features.summarise_signals`): takes the place of the
        table of activities wherever that would be too large to load."""
        return self.kept.frame("signals", lambda: features.summarise_signals(self.sources, self.as_of), on=self.as_of)

    @cached_property
    def effort(self) -> pd.DataFrame:
        """Activities until `as_of`, one row per account, month and type (`features.summarise_effort`)."""
        return self.kept.frame("effort", lambda: features.summarise_effort(self.sources, self.as_of), on=self.as_of)

    @cached_property
    def played(self) -> pd.DataFrame:
        """Activities until `as_of` that name a play, by account, play, type and outcome (`features.summarise_plays`)."""
        return self.kept.frame("played", lambda: features.summarise_plays(self.sources, self.as_of), on=self.as_of)

    @cached_property
    def accounts(self) -> pd.DataFrame:
        """One row per account (`features.build_accounts`)."""
        earlier = (self.folder / EVENTS, self.folder / "previous" / EVENTS)
        refresh = features.Refresh(earlier, leave=None if earlier[0].exists() else earlier[0])
        return self._accounts(self.as_of, refresh)

    @cached_property
    def opportunities(self) -> pd.DataFrame:
        """One row per opportunity (`features.build_opportunities`)."""
        return self._opportunities(self.as_of)

    @cached_property
    def catalogue(self) -> pd.DataFrame:
        """One row per candidate trait (`features.build_catalogue`)."""
        return self.kept.frame("catalogue", lambda: features.build_catalogue(self.tables, self.settings), on=self.as_of)

    @cached_property
    def known_accounts(self) -> pd.Series:
        """Identifiers of the accounts known on `as_of`."""
        path = self._path("accounts")
        frame = read_parquet(path, ["account_id", "created_at"]) if path.exists() else CANONICAL["accounts"].empty()
        born = frame["created_at"]
        return frame.loc[born.isna() | (born <= self.as_of), "account_id"]

    def opportunities_on(self, as_of: pd.Timestamp) -> pd.DataFrame:
        """Opportunities as known on an earlier date; a later one is refused."""
        return self._opportunities(self._earlier(as_of))

    def accounts_on(self, as_of: pd.Timestamp) -> pd.DataFrame:
        """Accounts as known on an earlier date; a later one is refused."""
        return self._accounts(self._earlier(as_of))

    def signals_halved(self, days: int) -> pd.DataFrame:
        """Signals whose weight is halved every so many days (`features.summarise_signals`)."""
        if days == features.INTENT_HALF_LIFE_DAYS:
            return self.signals
        return self.kept.frame(
            f"signals_{days}",
            lambda: features.summarise_signals(self.sources, self.as_of, half_life=days),
            on=self.as_of,
        )

    def decay_before(self, half_lives: Sequence[int]) -> pd.DataFrame:
        """Signals on the eve of each opportunity (`features.decay_before`)."""
        return features.decay_before(self.sources, self.opportunities, half_lives, self.as_of)

    def count_early(self, starts: pd.Series, days: int) -> pd.Series | None:
        """Activities of accounts in their first days (`features.count_early`)."""
        return features.count_early(self.sources, starts, days, self.as_of)

    @property
    def store(self) -> Store:
        return Store(self.folder)

    @property
    def previous(self) -> Store | None:
        """Artefacts of the run to compare with, where there is one."""
        folder = self.folder / "previous"
        return Store(folder) if folder.is_dir() else None

    @property
    def decisions(self) -> list[dict]:
        """The council's register, oldest first."""
        path = self.folder / "decisions.jsonl"
        return (
            [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
            if path.exists()
            else []
        )

    @cached_property
    def exploratory(self) -> tuple[str, ...]:
        """Lines of the plan decided after data had been seen: against the run before, and against this run's first step."""
        from icplab.align import compare_plans, draft_plan

        plan, said = draft_plan(self.settings), []
        before = self.previous
        for store, when in ((before, "in the run before"), (self.store, "when this run began")):
            known = store is not None and (store is before or self.name != STEPS[0]) and store.has("plan")
            changed = compare_plans(plan, store.read_json("plan") if store is not None and known else None)
            said += [f"{r['line']} is {r['now']}, was {r['before']} {when}" for r in changed.to_dict("records")]
        return tuple(dict.fromkeys(said))

    def read(self, name: str) -> pd.DataFrame:
        """An artefact of this run."""
        return self.store.read(name)

    def read_json(self, name: str) -> dict:
        """A JSON document of this run."""
        return self.store.read_json(name)

    def has(self, name: str) -> bool:
        """Whether an artefact or document is there."""
        return self.store.has(name)

    def write(self, name: str, frame: pd.DataFrame) -> None:
        """Write an artefact of this step, checked against its declaration; one of every account must hold every account."""
        if name in EVERY_ACCOUNT and "account_id" in frame:
            check_every_account(name, frame["account_id"], self.known_accounts)
        self.store.write(self.name, name, frame)

    def write_json(self, name: str, content: object) -> None:
        """Write a JSON document of this step."""
        self.store.write_json(self.name, name, content)

    def finish(self, found: Iterable[Finding]) -> None:
        """Write the findings and close the step: `done.json` says which files it made, with their hashes."""
        self.write("findings", findings_table(found))
        folder = self.folder / "steps" / self.name
        outputs = {p.name: sha256_of(p) for p in sorted(folder.iterdir()) if p.name != "done.json"}
        done = {"step": self.name, "as_of": f"{self.as_of:%Y-%m-%d}", "seed": self.seed, "outputs": outputs}
        beside = folder / "done.part"
        beside.write_text(json.dumps(done, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(beside, folder / "done.json")

    def _accounts(self, as_of: pd.Timestamp, refresh: features.Refresh | None = None) -> pd.DataFrame:
        return self.kept.frame(
            "accounts", lambda: features.build_accounts(self.sources, self.settings, as_of, refresh=refresh), on=as_of
        )

    def _opportunities(self, as_of: pd.Timestamp) -> pd.DataFrame:
        return self.kept.frame(
            "opportunities", lambda: features.build_opportunities(self.all_tables, self.settings, as_of), on=as_of
        )

    def _load(self, name: str) -> pd.DataFrame:
        path, table = self._path(name), CANONICAL[name]
        if not path.exists():
            return table.empty()
        # The keys that the intake adds to events serve the engine only.
        return read_parquet(path, None if table.open_ended else list(table.by_name))

    def _path(self, name: str) -> Path:
        return self.folder / "tables" / f"{name}.parquet"

    def _earlier(self, as_of: pd.Timestamp) -> pd.Timestamp:
        if as_of > self.as_of:
            raise ValueError(f"{as_of:%Y-%m-%d} is later than the step's as-of date {self.as_of:%Y-%m-%d}")
        return as_of


def check_every_account(name: str, given: pd.Series, known: pd.Series) -> None:
    """Hold that between steps what went in comes out: an artefact of all accounts has each known account, once, and no other.

    Raises
    ------
    ContractBroken
        Saying how many accounts are missing, made up or there more than once: a bug of ours, not of the input.
    """
    faults = {
        "missing": int((~known.isin(given)).sum()),
        "not known on the date": int((~given.isin(known)).sum()),
        "there more than once": int(given.duplicated().sum()),
    }
    if any(faults.values()):
        told = ", ".join(f"{count:,} {fault}" for fault, count in faults.items() if count)
        raise ContractBroken(f"{name} holds {len(given):,} accounts of {len(known):,} known ones: {told}")


def open_step(
    name: str,
    *,
    workspace: str = "../data/sample",
    run: str = "../reports/lab",
    as_of: str = "",
    seed: int = -1,
) -> Step:
    """Open one step of a run.

    Parameters
    ----------
    name : step, such as "30_segments"
    workspace : folder of exports; empty to use what the run folder already holds. The environment variable
        ICPLAB_WORKSPACE takes precedence in the lab, so that notebooks run on another workspace without being edited.
    run : run folder; made when it is not there
    as_of : date like 2026-06-30; empty takes [workspace] as_of, else the last date in the data
    seed : negative takes [workspace] seed

    Raises
    ------
    BadInput
        Everything the intake refuses, a malformed date, or an as-of date after today's.
    """
    if name not in STEPS:
        raise ValueError(f'"{name}" is not one of {STEPS}')
    folder = Path(run)
    if workspace:
        workspace = workspace_of(workspace)
        folder = Path(os.environ.get("ICPLAB_RUN") or run)
        from icplab.intake import take_in  # loads the readers only when something is to be read

        take_in(workspace, folder)
    if not (folder / "inputs.json").exists():
        raise BadInput(
            Problem("ICP-E001", "holds no tables", fix="name a workspace, or use icplab run", file=folder.name)
        )
    inputs = json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
    settings = settings_from_json((folder / "settings.json").read_text(encoding="utf-8"))
    base = settings.workspace.seed if seed < 0 else seed
    own = int.from_bytes(hashlib.sha256(f"{base}/{name}".encode()).digest()[:4], "big")
    return Step(name, folder, settings, resolve_as_of(as_of, settings, inputs), own, inputs)


def workspace_of(workspace: str) -> str:
    """The folder of exports that notebooks read: in the lab, the one it was opened on."""
    return os.environ.get("ICPLAB_WORKSPACE") or workspace


def resolve_as_of(given: str, settings: Settings, inputs: dict) -> pd.Timestamp:
    """The as-of date: as given, else of the workspace, else the last date in the data.

    Raises
    ------
    BadInput
        ICP-E049 when it is no date, or earlier than the first opportunity: nothing was known then.
    """
    try:
        as_of = pd.Timestamp(given or settings.workspace.as_of or inputs["as_of"]).normalize().as_unit("us")
    except ValueError as error:
        message, fix = "is not a calendar date", "write it like 2026-06-30"
        raise BadInput(Problem("ICP-E049", message, fix, column="as_of", value=given)) from error
    first = inputs.get("dates", {}).get("opportunities", {}).get("created_at", [""])[0]
    if first and as_of < pd.Timestamp(first):
        message = f"is earlier than the first opportunity ({first}): nothing was known then"
        raise BadInput(Problem("ICP-E049", message, "name a later date", column="as_of", value=f"{as_of:%Y-%m-%d}"))
    return as_of
