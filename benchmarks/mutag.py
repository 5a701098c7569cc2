"""MUTAG by cross-validation: epochs chosen inside the training folds, and as published figures choose them, by the folds that are tested.

    python benchmarks/mutag.py [--networks gin] [--repeats 10] [--folds 10] [--data FILE]

Both protocols split alike: ten folds with the shares of both labels, drawn anew in each repeat, graphs that are the same but for the order of their nodes in
one fold. "inside": a tenth of the graphs besides the test fold is held back, and the epoch with the lowest loss on it is kept. "published" (Xu et al. 2019,
section 7): all nine folds train, and the one epoch is taken, for all folds of a repeat, at which the mean accuracy on their test folds is highest.
"""

import argparse
import dataclasses
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["gin"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--data", default=str(DATA / "graphs" / "MUTAG.txt"))
    args = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    print(f"{args.repeats} x {args.folds}-fold cross-validation, mean ± sd in %; {os.cpu_count()} cores\n"
          f"{'network':<8}{'inside: folds':>16}{'repeats':>14}{'published: folds':>18}{'repeats':>14}{'s/training':>12}", flush=True)
    for network in args.networks:
        rows = [one_repeat(network, args.data, args.folds, seed) for seed in range(args.repeats)]
        inside, published = ([row[place] for row in rows] for place in (0, 1))
        print(f"{network:<8}{both(inside)}{both(published, 18)}{statistics.median(row[2] for row in rows):>12.1f}", flush=True)


def one_repeat(network: str, source: str, folds: int, seed: int) -> tuple[list[float], list[float], float]:
    """(test accuracies of the folds with the epoch chosen inside, those at the best common epoch, median seconds of a training)."""
    inside, curves, seconds = [], [], []
    for fold in range(folds):
        import tfcnn

        data = tfcnn.load_graphs(source, folds=folds, fold=fold, seed=seed)
        run, took = trained(network, data, seed, patience=10_000)
        inside.append(run)
        seconds.append(took)
        everything = tuple(item._replace(split="validation" if item.split == "test" else "train") for item in data.items)
        curve, took = trained(network, dataclasses.replace(data, items=everything), seed)
        curves.append(curve)
        seconds.append(took)
    shortest = min(map(len, curves))
    best = int(np.mean([curve[:shortest] for curve in curves], axis=0).argmax())
    return inside, [curve[best] for curve in curves], statistics.median(seconds)


def trained(network: str, data, seed: int, patience: int = 0):
    """(with patience the test accuracy of the kept epoch, else the validation accuracy of each epoch; seconds)."""
    import keras

    import tfcnn
    from tfcnn.models.build import build_for_graphs

    keras.utils.set_random_seed(seed)
    model = build_for_graphs(tfcnn.ModelConfig(network, "none"), data.labels, data.input_shape, data.facts)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = tfcnn.train(model, data, tfcnn.TrainingConfig(seed=seed, patience=patience), output=Path(folder) / "run")
        seconds = time.perf_counter() - start
        result = tfcnn.evaluate(run, data).accuracy if patience else [row["val_accuracy"] for row in tfcnn.record.read_history(run.path / "history.csv")]
    keras.utils.clear_session()
    return result, seconds


def both(repeats: list[list[float]], width: int = 16) -> str:
    """Over all folds, and over the means of repeats."""
    shown = lambda values: f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values) if len(values) > 1 else 0:.1f}"
    return f"{shown([value for repeat in repeats for value in repeat]):>{width}}{shown([statistics.mean(repeat) for repeat in repeats]):>14}"


if __name__ == "__main__":
    main()
