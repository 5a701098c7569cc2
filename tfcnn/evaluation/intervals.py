"""95 % intervals: Wilson's for a share of photos, of the bootstrap for all else."""

from collections.abc import Callable, Iterator

import numpy as np

Z95 = 1.959964  # two-sided 95 % of the normal distribution
RESAMPLES = 1000
FEWEST_RESAMPLES = 200  # for quantiles at 2.5 and 97.5 %
AT_ONCE = 2**19  # weights of photos that are worked on together: they fit into a processor's cache

Interval = tuple[float, float]


def wilson_interval(successes: int, n: int) -> Interval:
    """95 % interval of a share. Source: Wilson 1927, Journal of the American Statistical Association 22, p. 209."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, Z95**2
    centre, half = share + z2 / (2 * n), Z95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, float((centre - half) / (1 + z2 / n))), min(1.0, float((centre + half) / (1 + z2 / n)))


def bootstrap_intervals(statistics: Callable[[np.ndarray], dict[str, np.ndarray]], n: int, *, areas: bool = False, count: int = RESAMPLES,
                        seed: int = 0) -> dict[str, Interval | None]:
    """95 % intervals of some numbers, by their values in samples of the same n photos, drawn with replacement.

    Args:
        statistics: from weights (samples, n), how often each photo was drawn, to values (samples,) by name.
        n: photos.
        areas: of numbers near 1, whose samples are skewed: intervals are symmetric on the scale of their logit, by the standard deviation of
            the samples. Of others they are the percentiles, as far out as Student's distribution for n has them.
        count: samples.

    Returns:
        By name; None where the value is the same in all samples or a number in none, which says nothing of other photos.

    Source: the expanded percentile interval of Hesterberg 2015, "What teachers should know about the bootstrap"; the logit scale for areas is
    that of Pepe 2003, "The statistical evaluation of medical tests for classification and prediction". Both were chosen by
    `benchmarks/coverage.py`.
    """
    parts = [statistics(weights) for weights in _resamples(n, count, seed)]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    known = {name: of[np.isfinite(of)] for name, of in values.items()}
    varying = {name: of for name, of in known.items() if _varies(of)}
    if areas:
        points = statistics(np.ones((1, n)))
        found = {name: _logit_interval(float(points[name][0]), of) for name, of in varying.items()}
    else:
        found = {name: _percentiles(of, n) for name, of in varying.items()}
    return {name: found.get(name) for name in values}


def _varies(values: np.ndarray) -> bool:
    return len(values) > 1 and np.ptp(values) > 1e-6 * max(1, np.abs(values).max())  # what float32 makes of equal sums


def _resamples(n: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """How often each photo is drawn: float32 (some, n), a few samples at a time."""
    rng, at_once = np.random.default_rng(seed), max(1, AT_ONCE // n)
    for start in range(0, count, at_once):
        some = min(at_once, count - start)
        drawn = rng.integers(0, n, (some, n)) + n * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * n).reshape(some, n).astype(np.float32)


def _percentiles(values: np.ndarray, n: int) -> Interval:
    from scipy.stats import norm, t

    tail = norm.cdf(-np.sqrt(n / max(n - 1, 1)) * t.ppf(0.975, max(n - 1, 1)))
    return float(np.quantile(values, tail)), float(np.quantile(values, 1 - tail))


def _logit_interval(value: float, values: np.ndarray) -> Interval | None:
    if not 0 < value < 1:
        return None
    middle, half = np.log(value / (1 - value)), Z95 * values.std(ddof=1) / (value * (1 - value))
    return float(1 / (1 + np.exp(half - middle))), float(1 / (1 + np.exp(-half - middle)))
