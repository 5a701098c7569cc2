"""How many of 60 planted wrong labels are among the first photos that `tfcnn labels` names.

    python benchmarks/labels.py [--seeds 5] [--first 0]

Each draw gives 60 of the 600 photos of waste, drawn uniformly, the label of another class, drawn uniformly. Counted is how many of them are
among the first 60 and the first 100 photos of the ranking, and among those of which it says that they may be wrong. Beside it stands a
plain ranking: by the score of the given label from one cross-validation of the regression that a training would use. Then ten photos of
flowers, under labels drawn uniformly, are put among the untouched photos, and counted among the first 30 outliers. The labels stand in a
CSV in a temporary folder; no photo is touched. The ImageNet weights are recovered from an 8-bit file.
"""

import argparse
import csv
import logging
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import tfcnn
from tfcnn.labels import LabelCheck, check_labels
from tfcnn.training.features import cached_features

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
WRONG, FOREIGN, FIRST, OUTLIERS = 60, 10, (60, 100), 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=DATA / "trashnet600", type=Path)
    parser.add_argument("--foreign", default=DATA / "flowers128", type=Path, help="photos that belong to no class")
    parser.add_argument("--weights", default=DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5", type=Path)
    parser.add_argument("--seeds", type=int, default=5, help="number of draws")
    parser.add_argument("--first", type=int, default=0, help="seed of the first of them")
    args = parser.parse_args()
    logging.getLogger("tfcnn").setLevel(logging.ERROR)
    files = sorted(os.path.abspath(file) for file in args.source.glob("*/*"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFCNN_CACHE"] = str(Path(folder) / "cache")
        features = features_of(args, files)
        widths = (13, 13, 15, 13, 13, 13)
        line = lambda name, texts: print(f"{name:<6}" + "".join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True)), flush=True)
        print(f"how many of {WRONG} wrong labels are among the first {FIRST[0]}, the first {FIRST[1]} and those that may be wrong, "
              f"and of {FOREIGN} flowers among {OUTLIERS} outliers")
        line("draw", (FIRST[0], FIRST[1], "may be wrong", f"plain {FIRST[0]}", f"plain {FIRST[1]}", "flowers"))
        rows = []
        for seed in range(args.first, args.first + args.seeds):
            *counts, said, plain60, plain100, flowers = draw(args, files, features, seed, Path(folder))
            rows.append([*counts, plain60, plain100, flowers])
            line(seed, (counts[0], counts[1], f"{counts[2]} of {said}", plain60, plain100, flowers))
    if len(rows) > 1:
        line("mean", [f"{mean:.1f} ± {sd:.1f}" for mean, sd in zip(np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1), strict=True)])


def features_of(args, files: list[str]) -> dict[str, np.ndarray]:
    """Features of each file."""
    data = tfcnn.load_images(args.source, image_size=224)
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=data.labels, weights=str(args.weights))
    features = dict(zip((item.path for item in data.items), cached_features(model, data)[np.arange(len(data.items))], strict=True))
    return {file: features[file] for file in files}


def draw(args, files: list[str], features: dict[str, np.ndarray], seed: int, folder: Path) -> list[int]:
    """The counts of one draw."""
    rng = np.random.default_rng(seed)
    true = np.array([Path(file).parent.name for file in files])
    labels, names = true.copy(), np.unique(true)
    for row in rng.choice(len(files), WRONG, replace=False):
        labels[row] = rng.choice(names[names != true[row]])
    wrong = {file for file, label, right in zip(files, labels, true, strict=True) if label != right}
    planted = ranked(args, folder / f"wrong{seed}.csv", files, labels)
    plain = [files[row] for row in plain_ranking(np.stack([features[file] for file in files]), labels, seed)]
    foreign = [os.path.abspath(file) for file in rng.choice(sorted(args.foreign.glob("*/*")), FOREIGN, replace=False)]
    mixed = ranked(args, folder / f"mixed{seed}.csv", files + foreign, np.concatenate([true, rng.choice(names, FOREIGN)]))
    outliers = [photo.path for photo in sorted(mixed.photos, key=lambda photo: -photo.outlier)[:OUTLIERS]]
    found = lambda paths: [len(wrong & set(paths[:first])) for first in FIRST]
    said = {photo.path for photo in planted.issues}
    return [*found([photo.path for photo in planted.photos]), len(wrong & said), len(said), *found(plain), len(set(foreign) & set(outliers))]


def ranked(args, file: Path, paths: list[str], labels: np.ndarray) -> LabelCheck:
    """What `check_labels` makes of these labels."""
    with open(file, "w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([("path", "label"), *zip(paths, labels, strict=True)])
    return check_labels(file, weights=str(args.weights))


def plain_ranking(features: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Rows by the score of the given label from one cross-validation."""
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=tfcnn.TrainingConfig.logistic_c, max_iter=500))
    with threadpool_limits(1):
        scores = cross_val_predict(regression, features, labels, cv=StratifiedKFold(5, shuffle=True, random_state=seed), method="predict_proba")
    return np.argsort(scores[np.arange(len(labels)), np.unique(labels, return_inverse=True)[1]], kind="stable")


if __name__ == "__main__":
    main()
