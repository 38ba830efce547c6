"""Reads the activation files of published runs, makes a copy to import and a list of what the import would change."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

from icplab.core.errors import BadInput, Problem
from icplab.run.publish import read_manifest, verify_run

# Beginning of the files made for each target, as the activate step names them.
PREFIX = {"hubspot": "hubspot", "salesforce": "salesforce"}
# Differ in every run by themselves, so they are not a change of an account.
STAMPS = ("as_of", "as-of", "model")
# Figures that move a little whenever a model is fitted again: alone they are no change of an account.
FIGURES = ("probability", "expected_value", "intent_score", "reasons")
POINTS = ("score", "points")  # the fit score is the points of the card on a scale of 100
WHOLE_POINT = 1.0  # rounding alone moves a total by about one point
# Kinds of change, most telling first, by what the name of a column says.
KINDS = (
    ("tier", ("tier", "ideal_customer_profile", "target_account")),
    ("points", POINTS),
    ("segment", ("segment",)),
)
OTHER_KIND = "other columns"
SHOWN = 10


@dataclass(frozen=True)
class Difference:
    """What importing a file would change.

    Identifiers that come and go; those that change, with the columns that do, and how many by kind (tier, points, segment,
    other columns; one record may count in several). `moved` are records in which only figures moved: probabilities, expected
    values, intent, reasons, and a fit score within WHOLE_POINT, as every new fit moves them; `same` those without any change.
    """

    file: str
    key: str
    added: list[str]
    gone: list[str]
    changed: dict[str, list[str]]
    kinds: dict[str, int]
    moved: int
    same: int


def export_files(run: Path | str, to: str, target: Path | str) -> list[Path]:
    """Copy the import files for one target out of a run that verifies.

    Parameters
    ----------
    run : published run
    to : hubspot or salesforce
    target : folder; files that are there are never replaced

    Returns
    -------
    list of Path
        The files written, byte for byte those of the run.

    Raises
    ------
    BadInput
        The run made no such files (without a usable ranking it makes none), or the target has some already.
    DoesNotVerify
        The run was changed after it was published.
    """
    sources, target = _files(Path(run), to), Path(target)
    present = [s.name for s in sources if (target / s.name).exists()]
    if present:
        raise BadInput(
            Problem("ICP-E100", f"already holds {', '.join(present)}", fix="name a new folder", file=str(target))
        )
    target.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(s, target / s.name)) for s in sources]


def compare_files(run: Path | str, to: str, against: Path | str | None = None) -> list[Difference]:
    """What importing the files of `run` changes, where those of `against` were imported before (nothing, if None)."""
    earlier = {p.name: p for p in _files(Path(against), to)} if against else {}
    return [_compare(path, earlier.get(path.name)) for path in _files(Path(run), to)]


def describe_export(run: Path | str, to: str, against: Path | str | None = None) -> str:
    """The dry run as text: per file how many records come, change and go, and the first of each."""
    lines = []
    for change in compare_files(run, to, against):
        lines.append(f"{change.file}: {_counts(change)} (by {change.key})")
        lines += [f"  + {key}" for key in change.added[:SHOWN]] if against else []
        lines += [f"  ~ {key}: {', '.join(columns)}" for key, columns in list(change.changed.items())[:SHOWN]]
        lines += [f"  - {key}" for key in change.gone[:SHOWN]]
    merged = read_manifest(Path(run)).get("inputs", {}).get("merged_accounts", {})
    if merged:
        lines.append(f"{len(merged):,} accounts were merged into others and have no row of their own:")
        lines += [f"  {gone} is in {kept}" for gone, kept in sorted(merged.items())[:SHOWN]]
        lines += ["  all of them: inputs.merged_accounts in manifest.json"] if len(merged) > SHOWN else []
    if not against:
        lines.append("Compared with an empty system; name the run that was imported before with --against.")
    return "\n".join(lines)


def _files(run: Path, to: str) -> list[Path]:
    verify_run(run)
    found = sorted((run / "activation").glob(f"{PREFIX[to]}*.csv"))
    if not found:
        fix = "see its page 60_activation.html: without a usable ranking no files are written"
        raise BadInput(Problem("ICP-E001", f"holds no import files for {to}", fix=fix, file=str(run)))
    return found


def _counts(change: Difference) -> str:
    """How many records come, change (by kind), go and stay, in words."""
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in change.kinds.items())
    told = [
        f"{len(change.added):,} new",
        f"{len(change.changed):,} changed" + (f" ({kinds})" if kinds else ""),
        f"{len(change.gone):,} no longer there",
        *([f"{change.moved:,} in which only figures move"] if change.moved else []),
        f"{change.same:,} the same",
    ]
    return ", ".join(told)


def _compare(path: Path, earlier: Path | None) -> Difference:
    key, now = _read(path)
    _, before = _read(earlier) if earlier else (key, {})
    found = {k: _changes(before[k], row) for k, row in sorted(now.items()) if k in before}
    told = {k: [kind for c in columns if (kind := _kind(c, before[k], now[k]))] for k, columns in found.items()}
    names = [*(kind for kind, _ in KINDS), OTHER_KIND]
    order = sorted((k for k in told if told[k]), key=lambda k: (min(map(names.index, told[k])), k))
    return Difference(
        path.name,
        key,
        sorted(now.keys() - before.keys()),
        sorted(before.keys() - now.keys()),
        {k: [_words(c, before[k], now[k]) for c in found[k]] for k in order},
        {kind: n for kind in names if (n := sum(kind in kinds for kinds in told.values()))},
        sum(bool(found[k]) and not told[k] for k in found),
        sum(not columns for columns in found.values()),
    )


def _read(path: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """The name of the first column, and the rows by its value."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        key = (reader.fieldnames or [""])[0]
        return key, {row[key]: row for row in reader}


def _changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Columns that differ, stamps left out."""
    columns = [c for c in now if not any(s in c.lower() for s in STAMPS)]
    return [c for c in columns if before.get(c, "") != now[c]]


def _kind(column: str, before: dict[str, str], now: dict[str, str]) -> str:
    """Kind of a change; empty where only a figure moved."""
    name = column.lower()
    if any(part in name for part in FIGURES):
        return ""
    kind = next((kind for kind, parts in KINDS if any(part in name for part in parts)), OTHER_KIND)
    return "" if kind == "points" and _within_a_point(before.get(column, ""), now[column]) else kind


def _within_a_point(before: str, now: str) -> bool:
    try:
        return abs(float(before) - float(now)) <= WHOLE_POINT
    except ValueError:
        return False


def _words(column: str, before: dict[str, str], now: dict[str, str]) -> str:
    return f"{column} {before.get(column, '')!r} → {now[column]!r}"
