"""Two answers to the same photos: whether one network is better than another, or only was luckier."""

import numpy as np

ONE_SIDED_Z = 1.644854  # one-sided 95 %, the usual level of a test that something is not worse than a limit


def gain_of(right: np.ndarray, other_right: np.ndarray, targets: np.ndarray, *, balanced: bool = False) -> tuple[float, float]:
    """By how much the accuracy of the first is above that of the second on the same photos, and the standard error of that.

    Args:
        right, other_right: bool (n,), which photos each answered right.
        targets: integers (n,).
        balanced: of balanced accuracy, in which each label counts the same.

    Source: of the error of a difference of paired proportions, McNemar 1947, Psychometrika 12, p. 153: with b and c photos that one alone
    got right, sqrt(b + c) / n; with weights the same sum.
    """
    labels, counts = np.unique(targets, return_counts=True)
    share = dict(zip(labels.tolist(), 1 / (len(labels) * counts), strict=True))
    weights = np.array([share[target] for target in targets.tolist()]) if balanced else np.full(len(targets), 1 / len(targets))
    differences = weights * (right.astype(float) - other_right)
    return float(differences.sum()), float(np.sqrt((differences**2).sum()))


def mcnemar(lost: int, gained: int) -> float:
    """The two-sided p value of the exact test that photos are lost as often as gained."""
    from scipy.stats import binomtest

    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def paired_interval(lost: int, gained: int, n: int, z: float = ONE_SIDED_Z) -> tuple[float, float]:
    """Score interval of the difference of two accuracies that were measured on the same n photos, (lost - gained) / n.

    It holds for few photos and for none that differ, where the usual formula would give an interval of no width: the ends
    are the differences d for which (lost - gained - n d) / standard error given d is ±z.

    Source: Tango 1998, Statistics in Medicine 17, p. 891, equations 8 to 10.
    """
    from scipy.optimize import brentq

    def statistic(d: float) -> float:
        a, b = 2 * n, -lost - gained + (2 * n - lost + gained) * d
        c = -gained * d * (1 - d)
        share = (np.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)  # the likeliest share of gained photos, given d
        variance = n * (2 * share + d * (1 - d))
        return (lost - gained - n * d) / np.sqrt(variance) if variance > 0 else 0.0

    point, edge = (lost - gained) / n, 1 - 1e-9
    low = brentq(lambda d: statistic(d) - z, -edge, point) if point > -edge and statistic(-edge) > z else -1.0
    high = brentq(lambda d: statistic(d) + z, point, edge) if point < edge and statistic(edge) < -z else 1.0
    return float(low), float(high)
