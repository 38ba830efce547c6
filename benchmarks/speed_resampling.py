"""Reads nothing, makes speed rows of the resampling kernel: beside scipy.stats.bootstrap and a loop over pandas.

`python -m benchmarks.speed_resampling` prints the ratios and how far interval ends are from the exact multinomial's.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.speed_rows import Row, in_turns
from icplab.core.stats.resample import draw_weights, resample_sums

ACCOUNTS, SEGMENTS, REPLICATES = 100_000, 50, 2000
# Eight ratio KPIs of an account table: what is above and what is below the line.
RATIOS = (
    ("won", "closed"),
    ("won_value", "closed_value"),
    ("won_value", "won"),
    ("margin", "won_value"),
    ("kept", "before"),
    ("now", "before"),
    ("cost", "won"),
    ("margin", "cost"),
)
COLUMNS = tuple(dict.fromkeys(name for pair in RATIOS for name in pair))
SCIPY_SEGMENTS, PANDAS_REPLICATES = 1, 2  # what is measured of the peers; the rest is multiplied, for it is all alike
SCIPY_TARGET, PANDAS_TARGET, END_TARGET = 30, 100, 0.10


def make_accounts(seed: int = 7) -> pd.DataFrame:
    """Accounts with clustered deals and heavy-tailed amounts, and the segment each is in."""
    rng = np.random.default_rng(seed)
    closed = 1 + rng.poisson(0.8, ACCOUNTS)
    won = rng.binomial(closed, rng.beta(1, 3, ACCOUNTS))
    size, before = rng.lognormal(9, 1, ACCOUNTS), rng.lognormal(7, 1, ACCOUNTS)
    kept = before * rng.beta(8, 1, ACCOUNTS)
    table = {"won": won, "closed": closed, "won_value": won * size, "closed_value": closed * size, "before": before}
    table |= {
        "margin": won * size * rng.beta(14, 6, ACCOUNTS),
        "kept": kept,
        "now": kept * rng.lognormal(0.1, 0.2, ACCOUNTS),
    }
    table |= {"cost": closed * rng.lognormal(7, 0.5, ACCOUNTS), "segment": rng.integers(0, SEGMENTS, ACCOUNTS)}
    return pd.DataFrame(table)


def measure_resampling(repeats: int) -> list[Row]:
    """2,000 resamples of eight ratios over 50 segments at 100,000 accounts: ours, scipy and pandas in turns."""
    table = make_accounts()
    calls = [lambda: ours(table), lambda: by_scipy(table), lambda: by_pandas(table)]
    in_turns(calls[1:], 1)  # imports and first calls are not what is compared
    mine, scipy, pandas = in_turns(calls, repeats)
    what = "2,000 resamples, 8 ratios, 50 segments"
    scaled = [round(s * SEGMENTS / SCIPY_SEGMENTS, 3) for s in scipy]
    looped = [round(s * REPLICATES / PANDAS_REPLICATES, 3) for s in pandas]
    return [
        Row(
            what, f"scipy.stats.bootstrap, percentile, {SCIPY_SEGMENTS} segment x 50", mine, scaled, f"≥ {SCIPY_TARGET}"
        ),
        Row(
            what,
            f"pandas sample and groupby, {PANDAS_REPLICATES} resamples x 1,000",
            mine,
            looped,
            f"≥ {PANDAS_TARGET}",
        ),
    ]


def ours(table: pd.DataFrame, seed: int = 1) -> np.ndarray:
    """Interval ends of every segment and ratio: shape (2, segments, ratios)."""
    sums = resample_sums(table[list(COLUMNS)].to_numpy(), REPLICATES, seed, groups=table["segment"].to_numpy())
    return _ends(sums)


def by_scipy(table: pd.DataFrame, segments: int = SCIPY_SEGMENTS) -> np.ndarray:
    """The same by scipy, account pairs drawn together."""
    from scipy.stats import bootstrap

    def ratio(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return a.sum(axis=axis) / b.sum(axis=axis)

    ends = np.empty((2, segments, len(RATIOS)))
    for segment in range(segments):
        part = table[table["segment"] == segment]
        for i, (above, below) in enumerate(RATIOS):
            pair = (part[above].to_numpy(), part[below].to_numpy())
            given = {"n_resamples": REPLICATES, "paired": True, "vectorized": True, "method": "percentile"}
            ends[:, segment, i] = bootstrap(pair, ratio, rng=np.random.default_rng(i), **given).confidence_interval
    return ends


def by_pandas(table: pd.DataFrame, replicates: int = PANDAS_REPLICATES) -> pd.DataFrame:
    """The same as analysts write it: draw rows, group, sum, divide, again and again."""
    draws = []
    for seed in range(replicates):
        sums = table.groupby("segment").sample(frac=1, replace=True, random_state=seed).groupby("segment").sum()
        draws.append(pd.DataFrame({i: sums[a] / sums[b] for i, (a, b) in enumerate(RATIOS)}))
    return pd.concat(draws).groupby(level=0).quantile([0.025, 0.975])


def compare_ends(segments: int = 8) -> np.ndarray:
    """Distance of our interval ends from the exact multinomial bootstrap's, in widths: shape (2, segments, ratios)."""
    table = make_accounts()
    found, exact = ours(table)[:, :segments], np.empty((2, segments, len(RATIOS)))
    for segment in range(segments):
        part = table.loc[table["segment"] == segment, list(COLUMNS)].to_numpy()
        weights = draw_weights(len(part), REPLICATES, 100 + segment, "multinomial").astype(float)
        exact[:, segment] = _ends((weights @ part)[:, None])[:, 0]
    return np.abs(found - exact) / (exact[1] - exact[0])


def _ends(sums: np.ndarray) -> np.ndarray:
    place = {name: i for i, name in enumerate(COLUMNS)}
    draws = np.stack([sums[..., place[a]] / sums[..., place[b]] for a, b in RATIOS], axis=-1)
    return np.quantile(draws, [0.025, 0.975], axis=0)


def main() -> None:
    """Print the ratios and the distances."""
    for row in measure_resampling(3):
        print(
            f"{row.what}: ours {row.ours}, peer {row.theirs}, ratio {row.ratio:.1f}   target {row.target}; {row.peer}"
        )
    far = compare_ends()
    print(
        f"interval ends against the exact multinomial, in widths: median {np.median(far):.3f}, largest {far.max():.3f}"
    )


if __name__ == "__main__":
    main()
