"""`tfcnn train` with its defaults against the transfer-learning tutorial of Keras, on the same splits.

    python benchmarks/recipe.py [--seeds 5]

tfcnn runs as a command, from a cold cache and with its default exports, so its seconds hold everything: start of Python,
import of TensorFlow, decoding, training, test, three files written and checked. The tutorial's seconds hold
`fit` alone. Both are tested on the same photos; the test photos choose nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tfcnn
from tfcnn.data.dataset import batches

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=DATA / "trashnet600", type=Path)
    parser.add_argument("--weights", default=DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="keep the run folders here")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            ours = with_tfcnn(args, seed, Path(folder) / f"cache{seed}", (args.output or Path(folder)) / f"seed{seed}")
            os.environ["TFCNN_CACHE"] = str(Path(folder) / f"cache{seed}")
            theirs = tutorial(tfcnn.load_images(args.source, seed=seed), args.weights)
            rows.append({**ours, **theirs})
            show_row(seed, rows[-1], header=seed == 0)
    show_summary(rows)


def with_tfcnn(args, seed: int, cache: Path, output: Path) -> dict:
    """One run of the command, as a user types it."""
    command = [sys.executable, "-m", "tfcnn", "train", str(args.source), "--backbone", "mobilenet_v3_small", "--weights", str(args.weights),
               "--seed", str(seed), "--output", str(output), "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TFCNN_CACHE": str(cache)})
    if done.returncode:
        sys.exit(done.stderr)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"seed {seed}: " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result["stages"].items()), file=sys.stderr, flush=True)
    return {"accuracy": result["test"]["accuracy"], "n": result["test"]["n"], "seconds": time.perf_counter() - start,
            "rejected": [e["format"] for e in result["exports"] if not e["accepted"]]}


def tutorial(data, weights: Path) -> dict:
    """Frozen backbone, flip and rotation, Adam 1e-3, 10 epochs; then every layer at 1e-5, BatchNorm frozen, 10 epochs."""
    keras.utils.set_random_seed(0)
    base = keras.applications.MobileNetV3Small(include_top=False, weights=str(weights), input_shape=data.input_shape)
    base.trainable = False
    x = image = keras.Input(data.input_shape)
    for layer in (keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)):
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    model = keras.Model(image, keras.layers.Dense(len(data.labels), activation="softmax")(keras.layers.Dropout(0.2)(x)))
    train = data.train.unbatch().shuffle(len(data.rows("train"))).batch(32).prefetch(2)
    rows = data.rows("test")

    def test_accuracy() -> float:
        return float(np.mean(model.predict(batches(data, "test"), verbose=0).argmax(axis=1) == data.targets(rows)))

    seconds = 0.0
    accuracies = []
    for trainable, rate in ((False, 1e-3), (True, 1e-5)):
        base.trainable = trainable
        for layer in base.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
        start = time.perf_counter()
        model.fit(train, epochs=10, verbose=0)
        seconds += time.perf_counter() - start
        accuracies.append(test_accuracy())
    return {"tutorial_10": accuracies[0], "tutorial_20": accuracies[1], "tutorial_seconds": seconds}


def show_row(seed: int, row: dict, *, header: bool) -> None:
    """One line of a Markdown table."""
    if header:
        print("| seed | tfcnn accuracy | seconds, all of it | tutorial, 10 epochs | tutorial, 20 epochs | seconds of fit | rejected files |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
    print(f"| {seed} | {row['accuracy']:.3f} | {row['seconds']:.0f} | {row['tutorial_10']:.3f} | {row['tutorial_20']:.3f} | "
          f"{row['tutorial_seconds']:.0f} | {', '.join(row['rejected']) or 'none'} |", flush=True)


def show_summary(rows: list[dict]) -> None:
    """Mean and standard deviation over the seeds, and the paired gain."""
    def spread(values):
        return statistics.stdev(values) if len(values) > 1 else 0.0

    columns = {name: [row[name] for row in rows] for name in ("accuracy", "seconds", "tutorial_10", "tutorial_20", "tutorial_seconds")}
    mean = {name: f"{statistics.mean(values):.3f} ± {spread(values):.3f}" for name, values in columns.items()}
    median = {name: f"median {statistics.median(values):.0f}" for name, values in columns.items()}
    print(f"| mean ± sd | {mean['accuracy']} | {median['seconds']} | {mean['tutorial_10']} | {mean['tutorial_20']} | {median['tutorial_seconds']} | |")
    gains = [100 * (row["accuracy"] - row["tutorial_20"]) for row in rows]
    print(f"\nGain over the tutorial's 20 epochs, paired by split: {statistics.mean(gains):+.1f} ± {spread(gains):.1f} points "
          f"({rows[0]['n']} test photos a split).")


if __name__ == "__main__":
    main()
