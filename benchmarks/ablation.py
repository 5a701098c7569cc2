"""What each ingredient of the recipe gives, measured on validation photos.

    python benchmarks/ablation.py [--splits 3] [--jobs 2] [--only NAME ...]

Each split takes the test photos of one seed away unread, and divides the rest 3 to 1 into training and validation, stratified.
Every row changes one thing of the defaults and trains from the same start; the figure is the accuracy on the validation photos
after the last epoch, before the better of the two phases is chosen (that choice looks at these photos, and so does patience).
The splits overlap, and test photos of other seeds are among what is chosen on here. Difference: mean
over the splits of row minus defaults on the same photos; its standard error, in points, is sqrt(b + c) / n, where b and c count
the photos over all splits that only one of the two got right (McNemar 1947). The ImageNet weights are recovered from an 8-bit file.
"""

import argparse
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
SHARE = 0.25  # of what is not test, for validation

# name: fields of TrainingConfig, or of ModelConfig ("dropout"), or "head" (how phase 1 ends) that differ from the defaults; "seed" is added
ROWS = {
    "defaults": {},
    "drawn anew": {"seed": 1000},  # another order, augmentation and dropout: what chance alone does
    "drawn anew once more": {"seed": 2000},
    "head alone (phase 1)": {"epochs": 0},
    "no phase 1: random head": {"head": "random"},
    "all stages": {"trainable": True},
    "last stage only": {"trainable": 1},
    "BatchNorm trained": {"batch_norm": "train"},
    "one rate, 3e-4": {"head_learning_rate": 3e-4},
    "rate 1e-3 below": {"learning_rate": 1e-3},
    "layer decay 0.7": {"layer_decay": 0.7},
    "gradual, 3 epochs": {"gradual": 3},
    "no warm-up": {"warm_up": 0.0},
    "constant rate": {"schedule": "constant"},
    "10 epochs": {"epochs": 10},
    "12 epochs": {"epochs": 12},
    "25 epochs": {"epochs": 25},
    "no augmentation": {"augmentation": "none"},
    "light augmentation": {"augmentation": "light"},
    "strong augmentation": {"augmentation": "strong"},
    "MixUp and CutMix, half": {"mixing": 0.5},
    "no label smoothing": {"label_smoothing": 0.0},
    "weight decay 0.01": {"weight_decay": 0.01},
    "weight decay 0.05": {"weight_decay": 0.05},
    "no clipping": {"clip_norm": 0.0},
    "no dropout": {"dropout": 0.0},
    "EMA 0.98": {"ema": 0.98},
    "patience 4, of these photos": {"patience": 4},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=DATA / "trashnet600", type=Path)
    parser.add_argument("--weights", default=DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5", type=Path)
    parser.add_argument("--backbone", default="mobilenet_v3_small")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="NAME", help="these rows beside the defaults")
    args = parser.parse_args()
    names = [name for name in ROWS if not args.only or name in args.only or name == "defaults"]
    print(f"{'':<26} {'accuracy':>15} {'difference, points':>20}   by split", flush=True)
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        work = {name: [pool.submit(right_answers, args, name, split) for split in range(args.splits)] for name in names}
        base = [future.result() for future in work["defaults"]]
        for name, futures in work.items():
            show(name, [future.result() for future in futures], base)


def right_answers(args, name: str, split: int) -> np.ndarray:
    """Which of the validation photos a training gets right, in their order."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    import tfcnn
    from tfcnn.models.forward import forward
    from tfcnn.training.features import cached_features
    from tfcnn.training.fine_tune import fine_tune
    from tfcnn.training.head import seed_dropout, train_head
    from tfcnn.training.train import checked_config

    change = dict(ROWS[name])
    head, dropout, seed = change.pop("head", "solved"), change.pop("dropout", 0.2), split + change.pop("seed", 0)
    data = without_test(tfcnn.load_images(args.source, image_size=args.image_size, seed=split), split)
    keras.utils.set_random_seed(seed)
    model = tfcnn.build_classifier(args.backbone, labels=data.labels, weights=str(args.weights), image_size=args.image_size, dropout=dropout)
    config = checked_config(model, data, replace(tfcnn.TrainingConfig(seed=seed), **change))
    seed_dropout(model, seed)
    rows, validation = data.rows("train"), data.rows("validation")
    if head == "solved":
        train_head(model, cached_features(model, data, rows)[:], data.targets(rows), config)
    with tempfile.TemporaryDirectory() as folder:
        fine_tune(model, data, config, Path(folder), {})
    return forward(model, data.inputs, validation).argmax(axis=1) == data.targets(validation)


def without_test(data, seed: int):
    """The photos that are not in the test split, divided anew; those of the test split belong to no split."""
    from sklearn.model_selection import train_test_split

    rows = np.flatnonzero([item.split != "test" for item in data.items])
    _, validation = train_test_split(rows, test_size=SHARE, random_state=seed, stratify=data.targets(rows))
    chosen, kept = set(validation.tolist()), set(rows.tolist())
    split = lambda row: "unread" if row not in kept else "validation" if row in chosen else "train"
    return replace(data, items=tuple(item._replace(split=split(row)) for row, item in enumerate(data.items)))


def show(name: str, right: list[np.ndarray], base: list[np.ndarray]) -> None:
    accuracies, before = ([float(part.mean()) for part in parts] for parts in (right, base))
    difference = 100 * (np.mean(accuracies) - np.mean(before))
    ours, theirs = np.concatenate(right), np.concatenate(base)
    error = 100 * np.sqrt((ours != theirs).sum()) / len(ours)
    spread = np.std(accuracies, ddof=1) if len(accuracies) > 1 else 0.0
    text = "" if name == "defaults" else f"{difference:+.1f} ± {error:.1f}"
    print(f"{name:<26} {np.mean(accuracies):.3f} ± {spread:.3f} {text:>20}   {' '.join(f'{value:.3f}' for value in accuracies)}", flush=True)


if __name__ == "__main__":
    main()
