"""How often the 95 % intervals of a report hold the true number: networks of known worth, test splits drawn again and again.

    python benchmarks/coverage.py [--draws 1000]

A made population of 200,000 photos with scores and labels stands for all photos there are; its numbers are the true ones. Each draw is a test split of
n photos of it. Labels are equally frequent, or each 0.6 times as frequent as the one before.
"""

import argparse

import numpy as np

from tfcnn.evaluation.evaluate import make_report
from tfcnn.evaluation.metrics import numbers_of, top_k

LABELS = 6
POPULATION = 200_000
# n, by how much the logit of the true label is above the others, share of each label relative to the one before
CASES = ((60, 2.5, 1.0), (120, 2.5, 1.0), (600, 2.5, 1.0), (120, 2.5, 0.6), (600, 2.5, 0.6), (120, 5.0, 1.0))
NAMES = ("accuracy", "top_2", "balanced_accuracy", "macro_f1", "weighted_f1", "roc_auc", "average_precision", "log_loss", "brier")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"share of {args.draws} intervals that hold the true number; one standard error is {np.sqrt(0.95 * 0.05 / args.draws):.3f}")
    print(f"{'photos':>6} {'accuracy':>9} {'labels':<8}" + "".join(f"{name:>18}" for name in NAMES))
    for n, strength, share in CASES:
        scores, targets = population(rng, strength, share)
        true = truth(scores, targets)
        held = dict.fromkeys(NAMES, 0)
        for _ in range(args.draws):
            chosen = rng.choice(len(targets), n, replace=False)
            intervals = make_report(scores[chosen], targets[chosen], [str(label) for label in range(LABELS)], "test").intervals
            for name in NAMES:
                interval = intervals[name]
                held[name] += interval is not None and interval[0] <= true[name] <= interval[1]
        kind = "equal" if share == 1 else "unequal"
        print(f"{n:>6} {true['accuracy']:>9.2f} {kind:<8}" + "".join(f"{held[name] / args.draws:>18.3f}" for name in NAMES), flush=True)


def population(rng, strength: float, share: float) -> tuple[np.ndarray, np.ndarray]:
    frequencies = share ** np.arange(LABELS)
    targets = rng.choice(LABELS, POPULATION, p=frequencies / frequencies.sum())
    logits = rng.normal(0, 1.3, (POPULATION, LABELS))
    logits[np.arange(POPULATION), targets] += strength
    scores = np.exp(1.4 * (logits - logits.max(axis=1, keepdims=True)))  # sharper than they are worth, as of most networks
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32), targets


def truth(scores: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Of the whole population."""
    values, _ = numbers_of(scores, targets, samples=1)  # no intervals are wanted of it
    return {**values, "accuracy": float((scores.argmax(axis=1) == targets).mean()), "top_2": top_k(scores, targets)[0]["2"]}


if __name__ == "__main__":
    main()
