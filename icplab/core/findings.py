"""A finding: a computed sentence with its numbers, a code, a severity, a subject, an owner and an action."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from icplab.core.errors import ContractBroken, nearest
from icplab.core.schema import ARTEFACTS, DTYPES

SEVERITIES = ("info", "watch", "act")

# Who owns a finding unless it says otherwise: the roles of the maturity matrix.
OWNERS = {
    "10_align": "RevOps",
    "20_performance": "Analytics / Finance",
    "30_segments": "Product Marketing / Strategy",
    "40_traits": "Revenue Leadership / Product Marketing",
    "50_tiers": "RevOps",
    "60_activation": "Sales / Marketing / CS",
    "70_governance": "Revenue Leadership",
}

# Every code a finding may carry, by the step that usually finds it. Outside checks rely on these names.
_CODES = {
    "intake": """duplicate-accounts orphan-records bulk-close stale-pipeline cut-export definition-change low-coverage
        label-variants defaults-taken plan-changed""",
    "performance": """small-group heavy-tail reversal censoring mix-shift allocation-dependent plan-gap paper-vs-reality
        best-level no-difference not-measured cell-above-rest""",
    "segments": """segments-natural segments-reproducible segments-constructive segments-none source-artefact
        not-describable evidence-poor label-only too-many-segments industry-only whitespace market-incomplete
        segments-changed draft-compared draft-unread where-to-focus""",
    "traits": """leak missingness-leak confounded-trait segment-specific-trait insufficient-evidence single-icp
        supported-trait nothing-supported combined-traits icp-delta""",
    "tiers": """no-usable-ranking tiers-merged over-capacity calibration override-unusable tier-promise
        model-kept model-changed""",
    "activation": "uncovered-cell unconnected-segment unsafe-value definition-conflict files-written",
    "governance": """drift backtest-miss backtest-hit retire-segment redefine-trait new-use-case price-or-product-change
        poor-fit-unchanged review-overdue high-traffic-low-qualification low-traffic-high-acceptance high-forms-low-fit
        strong-talks-slow-cycles no-earlier-run compared-with-earlier decision-due forecast
        seller-mix icp-pays""",
}
CODES = frozenset(code for block in _CODES.values() for code in block.split())


@dataclass(frozen=True)
class Finding:
    """One computed sentence. `numbers` holds every number that the sentence prints."""

    code: str
    step: str
    severity: str
    subject: str
    sentence: str
    numbers: Mapping[str, object] = field(default_factory=dict)
    owner: str = ""
    action: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ContractBroken(f'finding code "{self.code}" is not declared{nearest(self.code, CODES)}')
        if self.severity not in SEVERITIES:
            raise ContractBroken(f'severity "{self.severity}" is not one of {SEVERITIES}')
        if self.step not in OWNERS:
            raise ContractBroken(f'step "{self.step}" is not one of {tuple(OWNERS)}')
        if not self.owner:
            object.__setattr__(self, "owner", OWNERS[self.step])


def findings_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """The artefact `findings`: one row per finding, most urgent first, then by code and subject."""
    columns = {c.name: DTYPES[c.kind] for c in ARTEFACTS["findings"].columns}
    rows = [
        {
            **{c: getattr(f, c) for c in columns if c != "numbers"},
            "numbers": json.dumps(dict(f.numbers), sort_keys=True, default=_plain),
        }
        for f in sorted(findings, key=lambda f: (-SEVERITIES.index(f.severity), f.code, f.subject, f.sentence))
    ]
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _plain(value: object) -> object:
    """JSON for numpy scalars and dates."""
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)
