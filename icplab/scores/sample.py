"""Reads a training frame, makes the sample-size gate: are there enough opportunities for a model of these candidates?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core.findings import Finding
from icplab.scores.fit import MAX_INPUTS
from icplab.scores.training import Training

STEP = "50_tiers"
SHRINKAGE, OPTIMISM, RISK_ERROR = 0.9, 0.05, 0.05  # Riley's three criteria
EXPLAINED = 0.15  # share of the possible R² a model may be expected to reach before anything is fitted (Riley 2020)
LOOKED_AT = 5_000  # opportunities on which candidates are compared with each other
COLUMNS = ("rule", "counts", "needed", "there", "enough")
# (whose, what is counted, how many) as the vendors publish them; for comparison, nothing rests on them.
VENDORS = (
    ("Dynamics 365: won", "won", 40),
    ("Dynamics 365: lost", "lost", 40),
    ("Einstein lead scoring: records", "closed", 1000),
    ("Einstein lead scoring: converted", "won", 120),
)


def measure_sample(training: Training) -> pd.DataFrame:
    """What a model needs by Riley's criteria and by vendors' thresholds, and what is there.

    Parameters
    ----------
    training : see `build_training`; opportunities with a known outcome count

    Returns
    -------
    One row per rule: rule, counts (won, lost or closed), needed, there, enough (yes, no). The row `Riley: the card` is the
    gate; `Riley: every candidate` shows what a model without a cap on its inputs would need.

    Notes
    -----
    Candidates are pruned without a look at outcomes: correlated ones count once (`count_candidates`), and a card holds no more
    than MAX_INPUTS. Choosing them is not paid for by the count; the forward check repeats the choice on every fold and so
    pays for it.
    """
    outcome, weight = training.labels()
    known = weight > 0
    won, lost = int((outcome[known] > 0).sum()), int((outcome[known] == 0).sum())
    there = {"won": won, "lost": lost, "closed": won + lost}
    found = count_candidates(training)
    rate = won / max(won + lost, 1)
    rules = [
        (f"Riley: the card, {_inputs(min(found, MAX_INPUTS))}", "closed", required_size(rate, min(found, MAX_INPUTS))),
        (f"Riley: every candidate, {_inputs(found)}", "closed", required_size(rate, found)),
        *VENDORS,
    ]
    rows = [(r, c, float(n), float(there[c]), "yes" if there[c] >= n else "no") for r, c, n in rules]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def enough(sample: pd.DataFrame) -> bool:
    """Whether the gate, the first row of `measure_sample`, is passed."""
    return bool(sample["enough"].iloc[0] == "yes")


def required_size(rate: float, parameters: int, explained: float = EXPLAINED) -> int:
    """Closed opportunities a model of so many parameters needs: the largest of Riley's three criteria.

    Parameters
    ----------
    rate : share won; 0 and 1 leave nothing to predict, and no number is enough
    parameters : candidates, each a column
    explained : expected R² as a share of the largest possible one (Nagelkerke's)

    Notes
    -----
    Expected shrinkage at least 0.9, optimism of Nagelkerke's R² at most 0.05, overall rate within 5 points (Riley et al.,
    Statistics in Medicine 2019 and BMJ 2020).
    """
    if not 0 < rate < 1:
        return np.iinfo("int32").max
    most = 1 - np.exp(2 * (rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))
    expected = explained * most
    level = (1.96 / RISK_ERROR) ** 2 * rate * (1 - rate)
    by_optimism = expected / (expected + OPTIMISM * most)
    needed = [-parameters / ((1 - s) * np.log(1 - expected / s)) for s in (SHRINKAGE, by_optimism)]
    return int(np.ceil(max(level, *needed) - 1e-9))


def count_candidates(training: Training) -> int:
    """Independent candidates of the card of accounts: what is left when those that say the same count once.

    Li and Ji's count from the eigenvalues of the correlation matrix (Heredity 2005): one for each eigenvalue from 1 on, and
    the fractions of all. Outcomes are not looked at.
    """
    blocks = [*training.forced, *(b for b in training.blocks if b.item.table == "accounts")]
    rows = slice(None, None, max(len(training.opportunities) // LOOKED_AT, 1))
    matrix = np.hstack([b.matrix(rows) for b in blocks]) if blocks else np.zeros((0, 0))
    matrix = matrix[:, matrix.std(axis=0) > 1e-9] if matrix.size else matrix
    if matrix.shape[1] < 2:
        return max(matrix.shape[1], 1)
    values = np.round(np.linalg.eigvalsh(np.corrcoef(matrix, rowvar=False)).clip(min=0), 9)
    return max(round(float(((values >= 1) + values - np.floor(values)).sum())), 1)


def sample_findings(sample: pd.DataFrame, verdict: str) -> list[Finding]:
    """Said where a model stands although the gate is not passed: it held later, but with less to spare."""
    if verdict != "usable" or enough(sample):
        return []
    gate = sample.iloc[0]
    sentence = (
        f"{gate['there']:,.0f} closed opportunities carry the scorecard; the sample-size rule asks for {gate['needed']:,.0f}. "
        "It ranked later opportunities better than chance, so it stands, with wide bands."
    )
    return [
        Finding(
            "insufficient-evidence",
            STEP,
            "info",
            "sample size",
            sentence,
            {"needed": gate["needed"], "there": gate["there"]},
            action="Check the promise every quarter until the number is reached.",
        )
    ]


def _inputs(count: int) -> str:
    return f"{count} independent input{'' if count == 1 else 's'}"
