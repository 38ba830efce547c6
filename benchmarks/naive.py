"""Reads canonical tables, makes the answer of a capable analyst with a typical notebook.

k-means on scaled and one-hot columns with k by silhouette, raw win rates, chi-square at p < 0.05 per trait, a logistic
regression checked on a random split. Idiomatic pandas and scikit-learn, no strawman: this is what the method is compared with.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.judge import Answer


def analyse(accounts: pd.DataFrame, opportunities: pd.DataFrame, catalogue: pd.DataFrame, seed: int = 0) -> Answer:
    """The naive answer. `accounts`, `opportunities` and `catalogue` are icplab's typed tables: reading is not judged here."""
    traits = catalogue[(catalogue["table"] == "accounts") & ~catalogue["excluded"]]
    numbers, levels = _design(accounts, traits)
    segments = _cluster(numbers, levels, seed)
    closed = opportunities[opportunities["status"] != "open"]
    won = (closed["status"] == "won").to_numpy()
    win = _predict(numbers, levels, segments, closed["account_id"], won, seed)
    acv = closed.loc[won].groupby(closed.loc[won, "account_id"].map(segments))["acv"].mean()
    margin = closed["margin_rate"].mean()
    return Answer(
        segments=segments.astype("str"),
        traits=_test_traits(levels.reindex(closed["account_id"]), won, traits),
        win=win,
        value=win * segments.map(acv).fillna(acv.mean()) * (1.0 if np.isnan(margin) else margin),
    )


def find_traits(
    accounts: pd.DataFrame, opportunities: pd.DataFrame, catalogue: pd.DataFrame
) -> dict[tuple[str, str], int]:
    """The naive list of traits only: every level against the rest, chi-square, p < 0.05."""
    traits = catalogue[(catalogue["table"] == "accounts") & ~catalogue["excluded"]]
    closed = opportunities[opportunities["status"] != "open"]
    levels = _design(accounts, traits)[1].reindex(closed["account_id"])
    return _test_traits(levels, (closed["status"] == "won").to_numpy(), traits)


def _design(accounts: pd.DataFrame, traits: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scaled log numbers (missing at the median) and one-hot levels, indexed by account."""
    frame = accounts.set_index("account_id")
    kinds = traits.groupby("kind")["trait"].agg(list)
    numbers = np.log1p(frame[kinds.get("number", [])].clip(lower=0))
    numbers = numbers.fillna(numbers.median())
    numbers = (numbers - numbers.mean()) / numbers.std().replace(0, 1)
    parts = [pd.get_dummies(frame[kinds.get("category", [])], prefix_sep="=", dtype="float64")]
    flags = frame[kinds.get("flag", [])].astype("float64").fillna(0)
    parts.append(flags.add_suffix("=yes"))
    parts += [frame[c].str.get_dummies(";").add_prefix(f"{c}=").astype("float64") for c in kinds.get("multi", [])]
    return numbers, pd.concat(parts, axis=1)


def _cluster(numbers: pd.DataFrame, levels: pd.DataFrame, seed: int) -> pd.Series:
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    x = pd.concat([numbers, levels], axis=1).to_numpy()
    fits = [KMeans(k, n_init=4, random_state=seed).fit_predict(x) for k in range(2, 8)]
    scores = [silhouette_score(x, labels, sample_size=1000, random_state=seed) for labels in fits]
    return pd.Series(fits[int(np.argmax(scores))], index=numbers.index)


def _test_traits(levels: pd.DataFrame, won: np.ndarray, traits: pd.DataFrame) -> dict[tuple[str, str], int]:
    """Chi-square of each level against the rest, p < 0.05."""
    from scipy.stats import chi2

    x = levels.fillna(0).to_numpy()
    n, n1, w = len(won), x.sum(axis=0), won.sum()
    a = won @ x
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = n * (a * n - n1 * w) ** 2 / (n1 * (n - n1) * w * (n - w))
    found = np.nan_to_num(statistic) > chi2.ppf(0.95, 1)
    sign = np.sign(a * n - n1 * w).astype(int)
    names = [tuple(c.split("=", 1)) for c in levels.columns[found]]
    return dict(zip(names, sign[found].tolist(), strict=True))


def _predict(
    numbers: pd.DataFrame, levels: pd.DataFrame, segments: pd.Series, account: pd.Series, won: np.ndarray, seed: int
) -> pd.Series:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    x = pd.concat([numbers, levels, pd.get_dummies(segments, prefix="cluster", dtype="float64")], axis=1)
    train, _ = train_test_split(np.arange(len(won)), test_size=0.3, random_state=seed)
    model = LogisticRegression(max_iter=2000).fit(x.reindex(account).to_numpy()[train], won[train])
    return pd.Series(model.predict_proba(x.to_numpy())[:, 1], index=x.index)


def win_rate_by_created(opportunities: pd.DataFrame, segment: pd.Series, as_of: pd.Timestamp) -> pd.Series:
    """Win rate per segment as dashboards show it: won over opportunities created in the last year."""
    recent = opportunities[opportunities["created_at"] > as_of - pd.Timedelta(days=365)]
    return (recent["status"] == "won").groupby(recent["account_id"].map(segment)).mean()


def raw_leader(opportunities: pd.DataFrame, level: pd.Series) -> str:
    """The level with the highest raw win rate of closed opportunities."""
    closed = opportunities[opportunities["status"] != "open"]
    return str((closed["status"] == "won").groupby(closed["opportunity_id"].map(level)).mean().idxmax())
