"""Does it help to begin elsewhere? Series from another set, and a backbone of photos on spectrograms, against the same network from scratch.

    python benchmarks/transfer.py [--part series spectrograms] [--examples 5 10 50] [--seeds 0 1 2 3 4] [--weights FILE]

Series: GunPoint from a run on ItalyPowerDemand, and the other way round; FCN, 500 steps, the same for both arms. 5, 10 or 50 series a class are learned
from, drawn anew by each seed from the whole set; the test has up to 100 of the others a class. Spectrograms: MobileNetV3-Small at 96 pixels on spoken
digits, with ImageNet weights (recovered from an 8-bit file) and with random ones, what `train` does where nothing is said; 10 other clips a digit are the test.
"""

import argparse
import logging
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
WEIGHTS = DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5"
STEPS, TESTED, TESTED_CLIPS, IMAGE_SIZE = 500, 100, 10, 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", default=["series", "spectrograms"], choices=["series", "spectrograms"])
    parser.add_argument("--examples", type=int, nargs="+", default=[5, 10, 50])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--weights", default=str(WEIGHTS))
    args = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    print(f"test accuracy in %, {len(args.seeds)} seeds, {os.cpu_count()} cores\n"
          f"{'data':<18}{'from':<18}{'a class':>8}{'scratch':>14}{'transferred':>14}{'gain':>14}", flush=True)
    if "series" in args.part:
        for target, source in (("GunPoint", "ItalyPowerDemand"), ("ItalyPowerDemand", "GunPoint")):
            with tempfile.TemporaryDirectory() as folder:
                begin = train_series(read_all(source), 10**6, 0, Path(folder) / "source", None)[0]
                for count in args.examples:
                    arms = [[100 * train_series(read_all(target), count, seed, Path(folder) / "run", weights)[1] for weights in (None, begin)]
                            for seed in args.seeds]
                    print_row(target, source, count, arms)
    if "spectrograms" in args.part:
        for count in args.examples:
            arms = [[100 * train_clips(count, seed, weights) for weights in ("none", args.weights)] for seed in args.seeds]
            print_row("spoken digits", "ImageNet", count, arms)


def read_all(name: str) -> tuple[np.ndarray, np.ndarray]:
    """All series of an archive set and their labels."""
    import tfcnn

    data = tfcnn.load_signals(DATA / "timeseries" / name)
    return data.inputs, np.array([item.label for item in data.items])


def train_series(whole: tuple[np.ndarray, np.ndarray], count: int, seed: int, output: Path, weights) -> tuple[str, float]:
    """(folder of a run that learned from so many series a class, its test accuracy)."""
    import keras

    import tfcnn
    from tfcnn.data.dataset import with_validation
    from tfcnn.models.build import build_for_signals
    from tfcnn.models.classifier import ModelConfig

    train, test = drawn(whole[1], count, TESTED, seed)
    rows = lambda chosen: (whole[0][chosen], whole[1][chosen].tolist())
    data = with_validation(tfcnn.load_signals({"train": rows(train), "test": rows(test)}, seed=seed))
    keras.utils.set_random_seed(seed)
    model = build_for_signals(ModelConfig("fcn", weights or "none"), data.labels, data.input_shape, data.facts)
    epochs = max(1, round(STEPS / -(-len(train) // 16)))
    run = tfcnn.train(model, data, tfcnn.TrainingConfig(seed=seed, epochs=epochs, batch_size=16), output=output, overwrite=True)
    accuracy = tfcnn.evaluate(run, data).accuracy
    keras.utils.clear_session()
    return str(run.path), accuracy


def train_clips(count: int, seed: int, weights: str) -> float:
    """The test accuracy of a backbone of photos that learned from so many clips a digit."""
    import csv

    import keras

    import tfcnn
    from tfcnn.data.dataset import with_validation
    from tfcnn.models.build import build_for_audio
    from tfcnn.models.classifier import ModelConfig

    clips = sorted((DATA / "fsdd600").resolve().glob("*.wav"))
    digits = np.array([clip.name[0] for clip in clips])
    train, test = drawn(digits, count, TESTED_CLIPS, seed)
    with tempfile.TemporaryDirectory() as folder:
        with open(Path(folder) / "digits.csv", "w", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines)
            writer.writerow(["path", "label", "split"])
            for split, rows in (("train", train), ("test", test)):
                writer.writerows((clips[row], digits[row], split) for row in rows)
        data = with_validation(tfcnn.load_audio(Path(folder) / "digits.csv", seed=seed))
        keras.utils.set_random_seed(seed)
        config = ModelConfig("mobilenet_v3_small", weights, image_size=IMAGE_SIZE)
        model = build_for_audio(config, data.labels, data.input_shape, data.facts)
        run = tfcnn.train(model, data, tfcnn.TrainingConfig(seed=seed), output=Path(folder) / "run")
        accuracy = tfcnn.evaluate(run, data).accuracy
    keras.utils.clear_session()
    return accuracy


def drawn(labels: np.ndarray, count: int, tested: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows to learn from, rows of the test), so many of each label at most, at random; the labels in turn."""
    random = np.random.default_rng(seed)
    orders = [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    test = np.concatenate([order[:tested if len(order) > 2 * tested else min(tested, len(order) // 2)] for order in orders])
    left = [np.setdiff1d(order, test, assume_unique=True)[:count] for order in orders]
    return np.array([row for turn in zip(*(own[:min(map(len, left))] for own in left), strict=True) for row in turn]), test


def print_row(target: str, source: str, count: int, arms: list[list[float]]) -> None:
    """Means and standard deviations over the seeds, and of the difference seed by seed."""
    shown = lambda values: f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0:.1f}"
    scratch, transferred = zip(*arms, strict=True)
    print(f"{target:<18}{source:<18}{count:>8}{shown(scratch):>14}{shown(transferred):>14}{shown([t - s for s, t in arms]):>14}", flush=True)


if __name__ == "__main__":
    main()
