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

# Every code a finding may carry, by the step that usually finds it, the answer to the step's question first: findings of equal
# urgency are shown in this order. Outside checks rely on these names.
_CODES = {
    "intake": """duplicate-accounts orphan-records bulk-close stale-pipeline cut-export definition-change low-coverage
        label-variants defaults-taken plan-changed""",
    "performance": """plan-gap paper-vs-reality best-level cell-above-rest no-difference reversal mix-shift censoring
        heavy-tail allocation-dependent small-group not-measured""",
    "segments": """segments-natural segments-reproducible segments-constructive segments-none source-artefact
        segments-changed draft-compared where-to-focus whitespace market-incomplete too-many-segments industry-only
        label-only evidence-poor not-describable draft-unread""",
    "traits": """leak missingness-leak supported-trait nothing-supported combined-traits icp-delta segment-specific-trait
        confounded-trait single-icp insufficient-evidence""",
    "tiers": """no-usable-ranking tier-promise calibration tiers-merged over-capacity override-unusable model-kept
        model-changed""",
    "activation": "uncovered-cell unconnected-segment unsafe-value definition-conflict files-written",
    "governance": """drift backtest-miss backtest-hit retire-segment redefine-trait new-use-case price-or-product-change
        poor-fit-unchanged review-overdue high-traffic-low-qualification low-traffic-high-acceptance high-forms-low-fit
        strong-talks-slow-cycles no-earlier-run compared-with-earlier decision-due forecast
        seller-mix icp-pays""",
}
CODE_ORDER = {code: place for place, code in enumerate(" ".join(_CODES.values()).split())}
CODES = frozenset(CODE_ORDER)


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
    """The artefact `findings`: one row per finding, most urgent first, then as codes are listed, then by subject."""
    columns = {c.name: DTYPES[c.kind] for c in ARTEFACTS["findings"].columns}
    rows = [
        {
            **{c: getattr(f, c) for c in columns if c != "numbers"},
            "numbers": json.dumps(dict(f.numbers), sort_keys=True, default=_plain),
        }
        for f in sorted(
            findings, key=lambda f: (-SEVERITIES.index(f.severity), CODE_ORDER[f.code], f.subject, f.sentence)
        )
    ]
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _plain(value: object) -> object:
    """JSON for numpy scalars and dates."""
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)
