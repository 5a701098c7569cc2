"""What `--balance` does to the recall of small classes: photos of waste of which three classes lost most of their training photos.

    python benchmarks/balance.py [--seeds 3] [--epochs 8] [--kept 10]

The test split keeps 20 photos of each class. Glass, metal and trash keep `--kept` of their 70 training photos. Recall is the
mean over the three small and the three large classes, mean and standard deviation over the seeds; each seed draws another
split. The ImageNet weights are recovered from an 8-bit file.
"""

import argparse
import logging
import os
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tfcnn
from tfcnn.data.dataset import BALANCES

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
SMALL = ("glass", "metal", "trash")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=DATA / "trashnet600", type=Path)
    parser.add_argument("--weights", default=DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--kept", type=int, default=10)
    args = parser.parse_args()
    logging.getLogger("tfcnn").setLevel(logging.ERROR)
    print(f"{'':<32} {'recall, small classes':>24} {'recall, large classes':>24} {'balanced accuracy':>20}")
    trainings = {"head alone": tfcnn.TrainingConfig(trainable=False), f"fine-tuned, {args.epochs} epochs": tfcnn.TrainingConfig(epochs=args.epochs)}
    for name, training in trainings.items():
        for balance in BALANCES:
            results = np.array([recalls(args, replace(training, balance=balance, seed=seed)) for seed in range(args.seeds)])
            texts = [f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in zip(results.mean(axis=0), results.std(axis=0, ddof=1), strict=True)]
            print(f"{name + ', ' + balance:<32} {texts[0]:>24} {texts[1]:>24} {texts[2]:>20}", flush=True)


def recalls(args, training) -> tuple[float, float, float]:
    """Mean recall of the small classes, of the large ones, and of all."""
    data = skewed(tfcnn.load_images(args.source, image_size=224, seed=training.seed), args.kept)
    keras.utils.set_random_seed(training.seed)
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=data.labels, weights=str(args.weights))
    with tempfile.TemporaryDirectory() as folder:
        report = tfcnn.evaluate(tfcnn.train(model, data, training, output=folder), data)
    recall = {row["label"]: row["recall"] for row in report.per_label}
    of = lambda small: float(np.mean([value for label, value in recall.items() if (label in SMALL) == small]))
    return of(True), of(False), report.balanced_accuracy


def skewed(data: tfcnn.Dataset, kept: int) -> tfcnn.Dataset:
    """The same data with the small classes cut to `kept` training photos."""
    seen = dict.fromkeys(SMALL, 0)
    rows = []
    for row, item in enumerate(data.items):
        if item.split == "train" and item.label in SMALL:
            seen[item.label] += 1
        if item.split != "train" or item.label not in SMALL or seen[item.label] <= kept:
            rows.append(row)
    return replace(data, inputs=data.inputs[np.array(rows)], items=tuple(data.items[row] for row in rows))


if __name__ == "__main__":
    main()
