"""Networks of series on sets of the UCR and UEA archives, with their own test split, beside published figures.

    python benchmarks/series.py [--sets GunPoint ItalyPowerDemand BasicMotions JapaneseVowels] [--network resnet] [--seeds 0 1 2 3 4]

What `train` does where nothing is said: about 1500 steps of AdamW with label smoothing, no augmentation. Nothing is chosen by the test series,
and nothing by these sets: all training series are learned from, none is held out. A set is a folder with NAME_TRAIN.ts and NAME_TEST.ts.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data")) / "timeseries"
PUBLISHED = {"GunPoint": 99.1, "ItalyPowerDemand": 96.3}  # ResNet, Ismail Fawaz et al. 2019, mean of 10 runs of 1500 epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["GunPoint", "ItalyPowerDemand", "BasicMotions", "JapaneseVowels"])
    parser.add_argument("--network", default="resnet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    print(f"{args.network}, test accuracy in %, {os.cpu_count()} cores")
    print(f"{'set':<20}{'train':>6}{'test':>6}{'epochs':>8}{'seconds':>9}{'mean':>8}{'sd':>6}{'published':>11}   by seed", flush=True)
    for name in args.sets:
        rows = [one_run(DATA / name, args.network, seed) for seed in args.seeds]
        accuracies = [100 * accuracy for *_, accuracy in rows]
        train, test, epochs, _, _ = rows[0]
        sd = statistics.stdev(accuracies) if len(rows) > 1 else 0.0
        print(f"{name:<20}{train:>6}{test:>6}{epochs:>8}{statistics.median(row[3] for row in rows):>9.0f}{statistics.mean(accuracies):>8.1f}{sd:>6.1f}"
              f"{PUBLISHED.get(name, '-'):>11}   {' '.join(f'{accuracy:.1f}' for accuracy in accuracies)}", flush=True)


def one_run(folder: Path, network: str, seed: int) -> tuple[int, int, int, float, float]:
    """(training series, test series, epochs, seconds, test accuracy)."""
    import keras

    import tfcnn
    from tfcnn.data.dataset import with_validation

    data = with_validation(tfcnn.load_signals(folder, seed=seed))
    keras.utils.set_random_seed(seed)
    model = tfcnn.build_classifier(tfcnn.build_network(network, data.input_shape, **tfcnn.channel_statistics(data)), labels=data.labels)
    with tempfile.TemporaryDirectory() as output:
        start = time.perf_counter()
        run = tfcnn.train(model, data, tfcnn.TrainingConfig(seed=seed), output=Path(output) / "run")
        seconds = time.perf_counter() - start
        report = tfcnn.evaluate(run, data)
    keras.utils.clear_session()
    return len(data.rows("train")), report.n, run.record["training"]["epochs"], seconds, report.accuracy


if __name__ == "__main__":
    main()
