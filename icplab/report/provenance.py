"""Reads what a run wrote down about itself, makes the facts in a page's footer: data, dates, versions, hashes."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from icplab.core import formats as fmt
from icplab.core.config import Settings, settings_from_json
from icplab.core.store import sha256_of

# Step, name in the navigation, the question its page answers.
PAGES = (
    ("10_align", "Align", "What is the plan, and what can this data tell?"),
    ("20_performance", "Analyze", "Where do we win, earn and keep?"),
    ("30_segments", "Segment", "Which groups of accounts are on the map?"),
    ("40_traits", "Define ICP", "What do the accounts that win, stay and grow have in common?"),
    ("50_tiers", "Prioritize", "Which accounts come first, and can the ranking be trusted?"),
    ("60_activation", "Activate", "What goes into the CRM, campaigns and territories?"),
    ("70_governance", "Govern", "What changed, and what does the council decide?"),
)
PACKAGES = ("pandas", "numpy", "scikit-learn", "statsmodels", "duckdb")
HASH_SHOWN = 12  # hexadecimal digits of a hash that a page prints; the manifest holds all


def read_json(path: Path) -> dict[str, Any]:
    """A JSON document, or nothing where there is none or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_settings(folder: Path) -> Settings | None:
    """The settings a run was made with, where the folder holds them."""
    path = folder / "settings.json"
    return settings_from_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def navigation(pages: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Step and short name for every page; pages that are not steps keep the title they came with."""
    short = {name: label for name, label, _ in PAGES}
    return [(name, short.get(name) or fmt.plain(title, 40)) for name, title in pages]


def provenance(folder: Path, about: dict[str, Any], notebook: Path | None = None) -> dict[str, Any]:
    """Facts for the footer, and `about` completed by what the folder knows. Nothing in it is a clock time."""
    inputs = about.get("inputs") or read_json(folder / "inputs.json") or {}
    settings = read_settings(folder)
    if settings:
        about.setdefault("workspace", settings.workspace.name)
        about.setdefault("seed", settings.workspace.seed)
        about.setdefault("currency", settings.workspace.currency)
    about["as_of"] = fmt.date(about.get("as_of") or inputs.get("as_of"))
    about["workspace"] = fmt.plain(about.get("workspace") or "")
    about["period"] = fmt.plain(about.get("period") or "")
    rows = [
        ("As known on", about["as_of"] if about["as_of"] != fmt.MISSING else ""),
        ("icplab", _version("icplab")),
        ("Made with", ", ".join(f"{p} {_version(p)}" for p in PACKAGES) + f", Python {platform.python_version()}"),
        ("Seed", str(about.get("seed", ""))),
        ("Notebook", f"{notebook.name} {sha256_of(notebook)[:HASH_SHOWN]}" if notebook else ""),
    ]
    return {"rows": [(label, value) for label, value in rows if value], "files": _files(inputs)}


def _files(inputs: Mapping[str, Any]) -> list[dict[str, str]]:
    """Name, records and hash of every input file, whatever the intake knows of them."""
    listed = inputs.get("files") or []
    if isinstance(listed, Mapping):
        listed = [
            {"file": name, **(about if isinstance(about, Mapping) else {"sha256": about})}
            for name, about in listed.items()
        ]
    used: dict[str, int] = {}
    for row in inputs.get("ledger") or []:
        if isinstance(row, Mapping) and row.get("outcome") == "used":
            used[str(row.get("file"))] = used.get(str(row.get("file")), 0) + int(row.get("records") or 0)
    return [_file(entry, used) for entry in listed if isinstance(entry, Mapping)]


def _file(entry: Mapping[str, Any], used: Mapping[str, int]) -> dict[str, str]:
    name = str(entry.get("file") or entry.get("name") or entry.get("path") or "")
    records = used.get(name, entry.get("records"))
    return {
        "name": fmt.plain(name),
        "records": fmt.integer(records) if isinstance(records, int | float) else fmt.MISSING,
        "hash": fmt.plain(str(entry.get("sha256") or entry.get("hash") or ""))[:HASH_SHOWN],
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
