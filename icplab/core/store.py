"""A run folder on disk: each step writes its artefacts once, later steps read them by name.

While a run is being made every step has its own folder, `steps/<step>/`; publishing joins parts of the same name into
`artifacts/`. Reading works on both, so a notebook in the lab and a published run look alike.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from icplab.core.errors import BadInput, ContractBroken, Problem
from icplab.core.schema import ARTEFACTS, check_artefact

# Step that makes an artefact; where several steps add rows, the first.
MAKERS = {
    "ledger": "10_align",
    "plan": "10_align",
    "kpis": "20_performance",
    "account_segments": "30_segments",
    "segments": "30_segments",
    "market_map": "30_segments",
    "segmentation": "30_segments",
    "traits": "40_traits",
    "icps": "40_traits",
    "scores": "50_tiers",
    "opportunity_scores": "50_tiers",
    "tiers": "50_tiers",
    "model": "50_tiers",
    "forecast": "70_governance",
}


class Store:
    """Artefacts of one run folder."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def write(self, step: str, name: str, frame: pd.DataFrame) -> Path:
        """Write a declared artefact (checked, rows in key order) as this step's part; returns its path."""
        frame = check_artefact(name, frame)
        key = list(ARTEFACTS[name].key)
        frame = frame.sort_values(key, kind="stable", key=lambda s: s.astype("str"), ignore_index=True)
        path = self._part(step, f"{name}.parquet")
        write_parquet(frame, path)
        return path

    def write_json(self, step: str, name: str, content: object) -> Path:
        """Write a JSON document of this step; returns its path."""
        path = self._part(step, f"{name}.json")
        path.write_text(
            json.dumps(content, indent=1, sort_keys=True, default=_plain, allow_nan=False) + "\n",
            encoding="utf-8",
        )
        return path

    def read(self, name: str) -> pd.DataFrame:
        """An artefact, all parts joined; raises `BadInput` naming the notebook to run when it is not there."""
        parts = self._find(f"{name}.parquet")
        frames = [read_parquet(p) for p in parts]
        frames = [f for f in frames if len(f)] or frames[:1]
        return check_artefact(name, pd.concat(frames, ignore_index=True))

    def read_json(self, name: str) -> dict:
        """A JSON document."""
        return json.loads(self._find(f"{name}.json")[0].read_text(encoding="utf-8"))

    def has(self, name: str) -> bool:
        """Whether an artefact or document is there."""
        return bool(self._paths(f"{name}.parquet") or self._paths(f"{name}.json"))

    def assemble(self) -> list[Path]:
        """Join the parts of all steps into `artifacts/`; findings also as JSON. Returns the files written."""
        target = self.folder / "artifacts"
        target.mkdir(exist_ok=True)
        written = []
        for name in sorted({p.stem for p in self.folder.glob("steps/*/*.parquet")}):
            frame = self.read(name).sort_values(
                list(ARTEFACTS[name].key), kind="stable", key=lambda s: s.astype("str"), ignore_index=True
            )
            write_parquet(frame, target / f"{name}.parquet")
            written.append(target / f"{name}.parquet")
            if name == "findings":
                rows = [{**r, "numbers": json.loads(r["numbers"])} for r in frame.astype(object).to_dict("records")]
                (target / "findings.json").write_text(
                    json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8"
                )
                written.append(target / "findings.json")
        for path in sorted(self.folder.glob("steps/*/*.json")):
            if path.name == "done.json":
                continue
            place = self.folder if path.name == "model.json" else target
            (place / path.name).write_bytes(path.read_bytes())
            written.append(place / path.name)
        return written

    def _part(self, step: str, file: str) -> Path:
        folder = self.folder / "steps" / step
        folder.mkdir(parents=True, exist_ok=True)
        return folder / file

    def _paths(self, file: str) -> list[Path]:
        steps = sorted(self.folder.glob(f"steps/*/{file}"))
        return steps or [p for p in (self.folder / "artifacts" / file, self.folder / file) if p.exists()]

    def _find(self, file: str) -> list[Path]:
        paths = self._paths(file)
        if not paths:
            name = file.rsplit(".", 1)[0]
            maker = MAKERS.get(name, "")
            raise BadInput(
                Problem(
                    "ICP-E001",
                    f"artefact {name} is not in this run folder",
                    fix=f"run notebook {maker}.ipynb first" if maker else "run the earlier notebooks first",
                    file=self.folder.name,
                )
            )
        return paths


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Parquet with nothing in it that depends on the machine or the day."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    beside = path.with_suffix(".part")
    pq.write_table(table, beside, compression="zstd")
    os.replace(beside, path)


def read_parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Inverse of `write_parquet`; `columns` reads only those."""
    try:
        return pq.ParquetFile(path).read(columns).to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
    except pa.ArrowInvalid as error:
        raise ContractBroken(f"{path.name} is damaged: {error}") from error


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def code_hash() -> str:
    """Hash of icplab's own code, so that results of another version are not taken for those of this one."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _plain(value: object) -> object:
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)
