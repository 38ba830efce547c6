"""Reads tables, makes files: every cell quoted, split where an import takes no more, listed with hash and row count."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd

from icplab.core.model import Model
from icplab.core.store import sha256_of

MAX_ROWS = 1_000_000  # rows per file; HubSpot takes 1,048,576 with the header
LINKEDIN_MINIMUM = 300  # rows of a company list that LinkedIn accepts


def write_table(table: pd.DataFrame, name: str, what: str, folder: Path) -> list[dict]:
    """Write a table, split where it is longer than an import takes; every cell quoted, typed numbers as they are."""
    parts = range(max(-(-len(table) // MAX_ROWS), 1))
    written = []
    for part in parts:
        file = name if len(parts) == 1 else name.replace(".csv", f"_{part + 1}.csv")
        piece = table.iloc[part * MAX_ROWS : (part + 1) * MAX_ROWS]
        piece.to_csv(
            folder / file, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n", encoding="utf-8", na_rep=""
        )
        note = ""
        if name.startswith("linkedin") and len(table) < LINKEDIN_MINIMUM:
            note = f"fewer than the {LINKEDIN_MINIMUM} rows that LinkedIn accepts"
        written.append(
            {"file": file, "what": what, "rows": len(piece), "sha256": sha256_of(folder / file), "note": note}
        )
    return written


def write_text(text: str, name: str, what: str, note: str, folder: Path) -> dict:
    """Write a text, lines ending in \\n on every system; its row for the index."""
    (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return {"file": name, "what": what, "rows": 1, "sha256": sha256_of(folder / name), "note": note}


def no_files() -> pd.DataFrame:
    return pd.DataFrame({"file": [], "what": [], "rows": [], "sha256": [], "note": []}).astype({"rows": "int64"})


def write_index(files: pd.DataFrame, model: Model, folder: Path, *, usable: bool) -> None:
    content = {
        "as_of": model.as_of,
        "model_version": model.version,
        "verdict": model.verdict,
        "usable": usable,
        "files": files.to_dict("records"),
    }
    (folder / "files.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
