"""Does a backbone of photos help on volumes? AdrenalMNIST3D, slice by slice and inflated, with ImageNet weights and the same budget from scratch.

    python benchmarks/volume_transfer.py [--ways slices inflated cnn_3d] [--volumes 50 200 1188] [--seeds 0 1 2] [--image-size 64] [--weights FILE]

MobileNetV3-Small on volumes of 32 x 32 x 32, each slice enlarged to 64 x 64 pixels; weights recovered from an 8-bit file. As many volumes as
are named are drawn anew by each seed from the 1188 to learn from, with the shares of both labels kept; validation and test are the official ones. Both
arms have the epochs, the batches and the rates that `train` gives to the one with weights; of random weights all stages learn. `cnn_3d` is the network
of `train` where none is named, with the 1500 steps that it gives.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
WEIGHTS = DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5"
FRAMES = {"slices": "pool", "inflated": "inflate"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", default=["slices", "inflated", "cnn_3d"], choices=["slices", "inflated", "cnn_3d"])
    parser.add_argument("--volumes", type=int, nargs="+", default=[50, 200, 1188])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--weights", default=str(WEIGHTS))
    args = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    print(f"AdrenalMNIST3D 32³, test split, {len(args.seeds)} seeds, {os.cpu_count()} cores; balanced accuracy in %, seconds of a training\n"
          f"{'network':<12}{'volumes':>8}{'AUC scratch':>16}{'AUC weights':>16}{'gain':>16}{'bal. scratch':>14}{'bal. weights':>14}{'seconds':>12}", flush=True)
    for count in args.volumes:
        for way in args.ways:
            arms = ("none",) if way == "cnn_3d" else ("none", args.weights)
            rows = [[one_run(way, count, seed, weights, args.image_size) for weights in arms] for seed in args.seeds]
            print_row(way, count, rows)


def one_run(way: str, count: int, seed: int, weights: str, image_size: int) -> tuple[float, float, float]:
    """(area under the curve, balanced accuracy in %, seconds) of one training."""
    import keras

    import tfcnn
    from tfcnn.models.build import build_for_volumes
    from tfcnn.models.classifier import ModelConfig

    data = tfcnn.load_volumes(drawn(count, seed), seed=seed)
    keras.utils.set_random_seed(seed)
    config, training = ModelConfig("cnn_3d", "none"), tfcnn.TrainingConfig(seed=seed)
    if way != "cnn_3d":
        config = ModelConfig("mobilenet_v3_small", weights, image_size=image_size, frames=FRAMES[way])
    model = build_for_volumes(config, data.labels, data.input_shape, data.facts)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = tfcnn.train(model, data, training, output=Path(folder) / "run")
        seconds = time.perf_counter() - start
        report = tfcnn.evaluate(run, data)
    keras.utils.clear_session()
    return report.roc_auc, 100 * report.balanced_accuracy, seconds


def drawn(count: int, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The splits, with so many volumes to learn from."""
    with np.load(DATA / "volumes" / "adrenalmnist3d_32.npz") as file:
        parts = {name: (file[f"{name}_images"], file[f"{name}_labels"].ravel()) for name in ("train", "val", "test")}
    images, labels = parts["train"]
    random, rows = np.random.default_rng(seed), []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        rows.append(random.permutation(own)[:round(count * len(own) / len(labels))])
    rows = np.sort(np.concatenate(rows))
    return {"train": (images[rows], labels[rows]), "validation": parts["val"], "test": parts["test"]}


def print_row(way: str, count: int, rows: list[list[tuple[float, float, float]]]) -> None:
    """Means and standard deviations over the seeds."""
    def shown(values, digits=1):
        return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values) if len(values) > 1 else 0:.{digits}f}"

    scratch, *others = zip(*rows, strict=True)
    weights = others[0] if others else ()
    gain = [arm[0] - base[0] for base, arm in zip(scratch, weights, strict=True)] if weights else []
    column = lambda arm, place, digits, width: f"{shown([row[place] for row in arm], digits) if arm else '':>{width}}"
    times = "/".join(f"{statistics.median(row[2] for row in arm):.0f}" for arm in (scratch, weights) if arm)
    print(f"{way:<12}{count:>8}{column(scratch, 0, 3, 16)}{column(weights, 0, 3, 16)}{shown(gain, 3) if gain else '':>16}{column(scratch, 1, 1, 14)}"
          f"{column(weights, 1, 1, 14)}{times:>12}", flush=True)


if __name__ == "__main__":
    main()
