"""Reads an answer and the planted truth, makes scores. Knows neither icplab's method nor the naive analyst's.

Everything is judged against true probabilities and values, or relative to the Bayes oracle of the generator, never against
another sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

CAPACITY = 0.20  # tier 1 holds this share of accounts (method C4)
STRONG = np.log(1.6)  # smallest planted log odds ratio that counts for power (method T1)
NOTHING_TO_RANK = 0.505  # an oracle's AUC below which a market has no order to find
Z95 = 1.959964


@dataclass(frozen=True)
class Answer:
    """What an analyst hands in about a market.

    segments: label by account_id; traits: found (trait, level) pairs with a claimed sign (+1, -1); win: win probability by
    account_id; value: expected value by account_id; usable: whether a ranking by likelihood to win is claimed at all.
    """

    segments: pd.Series
    traits: dict[tuple[str, str], int]
    win: pd.Series
    value: pd.Series
    usable: bool = True


def judge(answer: Answer, truth) -> dict[str, float]:
    """All scores of one answer; NaN where the market has nothing of the kind."""
    return {
        **judge_segments(answer.segments, truth.accounts),
        **judge_traits(answer.traits, truth.traits),
        **judge_ranking(answer, truth.accounts),
    }


def judge_segments(found: pd.Series, accounts: pd.DataFrame) -> dict[str, float]:
    """Adjusted Rand index against the latent segment, as a share of the oracle's, and the number of segments."""
    from sklearn.metrics import adjusted_rand_score

    latent = accounts.set_index("account_id")["segment"]
    posterior = accounts.set_index("account_id").filter(regex=r"^oracle_segment_")
    oracle = adjusted_rand_score(latent, posterior.to_numpy().argmax(axis=1)) if latent.nunique() > 1 else np.nan
    labels = found.reindex(latent.index).astype("str")
    own = adjusted_rand_score(latent, labels) if latent.nunique() > 1 else np.nan
    named = found[~found.isin(["unassigned"])]
    return {
        "ari": own,
        "oracle_ari": oracle,
        "ari_share": own / oracle,
        "k": named.nunique(),
        "true_k": latent.nunique(),
    }


def judge_traits(found: dict[tuple[str, str], int], planted: pd.DataFrame) -> dict[str, float]:
    """Power over planted traits, overall and strong; false claims, and their share of all claims."""
    effect = {
        (t, str(lv)): e for t, lv, e in zip(planted["trait"], planted["level"], planted["log_odds_ratio"], strict=True)
    }
    real = {key: e for key, e in effect.items() if e != 0}
    strong = {key for key, e in real.items() if abs(e) >= STRONG - 1e-9}
    right = {key for key, sign in found.items() if key in real and sign == np.sign(real[key])}
    false = {key for key in found if key not in right}
    return {
        "traits_found": len(right),
        "traits_planted": len(real),
        "power": len(right) / len(real) if real else np.nan,
        "power_strong": len(right & strong) / len(strong) if strong else np.nan,
        "traits_false": len(false),
        "fdp": len(false) / max(len(found), 1),
    }


def judge_ranking(answer: Answer, accounts: pd.DataFrame) -> dict[str, float]:
    """Value captured by the best accounts relative to the oracle's list, AUC as a share of the oracle's, calibration."""
    table = accounts.set_index("account_id")
    win, value = answer.win.reindex(table.index), answer.value.reindex(table.index)
    size = round(CAPACITY * len(table))
    picked = value.sort_index().sort_values(ascending=False, kind="stable").index[:size]
    best = table["oracle_value"].sort_index().sort_values(ascending=False, kind="stable").index[:size]
    own_auc = expected_auc(win, table["p_win"])
    oracle_auc = expected_auc(table["oracle_win"], table["p_win"])
    return {
        "captured": table.loc[picked, "expected_value"].sum() / table.loc[best, "expected_value"].sum(),
        "auc": own_auc,
        "oracle_auc": oracle_auc,
        "auc_share": (own_auc - 0.5) / (oracle_auc - 0.5) if oracle_auc > NOTHING_TO_RANK else np.nan,
        "slope": calibration_slope(win, table["p_win"]),
        "in_the_large": float(win.mean() - table["p_win"].mean()),
        "usable": float(answer.usable),
    }


# Findings that the scenarios of key figures are about; a clean market must not raise one of them as a warning.
TRAPS = ("reversal", "small-group", "heavy-tail", "censoring", "bulk-close", "definition-change")


def judge_verdicts(scenario: str, said: list[tuple[str, str, str, dict]], truth) -> dict[str, float]:
    """Whether the right thing was said about a market: `said` holds code, severity, subject and numbers of each finding.

    A scenario is right when its own finding is raised as a warning about the thing that was planted; a clean market has
    `false` warnings of these codes and `any` warning at all.
    """
    warned = {(code, subject) for code, severity, subject, _ in said if severity != "info"}
    codes = {code for code, _ in warned}
    if scenario == "simpson":
        traits = truth.traits
        turned = set(traits.loc[np.isclose(traits["log_odds_ratio"], np.log(1.3)), "trait"])
        return {"right": float(any(c == "reversal" and s.split(" = ")[0] in turned for c, s in warned))}
    if scenario == "tiny-segments":
        return _judge_cells(said, warned, truth)
    if scenario == "definition-change":
        moved = any(c == "definition-change" and "qualified" in s for c, s in warned)
        return {"right_bulk_day": float("bulk-close" in codes), "right_moved_stage": float(moved)}
    if scenario in ("heavy-tails", "censoring"):
        return {"right": float({"heavy-tails": "heavy-tail", "censoring": "censoring"}[scenario] in codes)}
    return {"false": float(bool(codes & set(TRAPS))), "any_warning": float(bool(codes))}


def _judge_cells(said: list[tuple[str, str, str, dict]], warned: set[tuple[str, str]], truth) -> dict[str, float]:
    """Many small cells and one real one: warned of the small ones, none of them recommended, the real one named."""
    planted = truth.traits[truth.traits["role"] == "planted"]
    cut = planted["trait"].iloc[0]
    real = str(planted.loc[planted["log_odds_ratio"].idxmax(), "level"])
    called = [
        n.get("level") for code, _, subject, n in said if subject == cut and code in ("best-level", "no-difference")
    ]
    named = called + [n["leader"] for code, _, subject, n in said if subject == cut and "leader" in n]
    return {
        "right": float(("small-group", cut) in warned),
        "right_leader_named": float(real in named),
        "false_leader_named": float(any(level != real for level in named)),
    }


def expected_auc(score: pd.Series, p: pd.Series) -> float:
    """AUC of a score over the outcomes that true probabilities `p` would give, in expectation (ties count half)."""
    order = np.argsort(score.to_numpy(), kind="stable")
    s, wins = score.to_numpy()[order], p.to_numpy()[order]
    losses = 1 - wins
    _, start = np.unique(s, return_index=True)
    won, lost = np.add.reduceat(wins, start), np.add.reduceat(losses, start)
    below = np.cumsum(lost) - lost
    return float((won * (below + lost / 2)).sum() / (wins.sum() * losses.sum()))


def calibration_slope(win: pd.Series, p: pd.Series) -> float:
    """Slope of the true log odds on the stated log odds, as a logistic fit to expected outcomes; NaN for a constant."""
    x = np.log(win.clip(1e-6, 1 - 1e-6) / (1 - win.clip(1e-6, 1 - 1e-6))).to_numpy()
    if np.ptp(x) < 1e-9:
        return float("nan")
    design, y, beta = np.column_stack([np.ones_like(x), x]), p.to_numpy(), np.array([0.0, 1.0])
    for _ in range(50):
        mu = 1 / (1 + np.exp(-design @ beta))
        hessian = (design * (mu * (1 - mu))[:, None]).T @ design
        step = np.linalg.solve(hessian, design.T @ (y - mu))
        beta = beta + np.clip(step, -0.5, 0.5)  # overfitted answers send a free step astray
        if np.abs(step).max() < 1e-10:
            break
    return float(beta[1])


def wilson_share(values: pd.Series) -> tuple[float, float, float]:
    """A share over seeds with its Wilson interval."""
    x, n = float(values.sum()), len(values)
    p = x / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * np.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return p, centre - half, centre + half
