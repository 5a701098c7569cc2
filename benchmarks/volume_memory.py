"""1,000 volumes of 64 x 64 x 64: peak memory of reading and training, and the seconds of a step, beside Keras's own `fit` on arrays in memory.

    python benchmarks/volume_memory.py [--volumes 1000] [--epochs 3]

Made volumes of bytes in an .npz, which holds them once more than `train` ever does; `cnn_3d`, batches of 16, the same augmentation inside of the network
and the same optimizer without its extras. Each way has a process of its own; the first epoch is thrown away, the median of the others is divided by its
steps. What `train` does besides (validation of 2 volumes, history, a checkpoint an epoch) is in its seconds.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SIDE, BATCH = 64, 16
WAYS = ("train", "fit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        seconds = WORK[args.way](args.file, args.epochs)
        steps = -(-args.volumes // BATCH)
        print(json.dumps({"step": statistics.median(seconds[1:]) / steps, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "made.npz"
        make(file, args.volumes)
        print(f"{args.volumes} volumes of {SIDE}³, {os.cpu_count()} cores\n{'way':<8}{'seconds a step':>16}{'peak memory, MB':>18}", flush=True)
        told = {}
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--file", str(file), "--volumes", str(args.volumes), "--epochs", str(args.epochs)]
            done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TFCNN_CACHE": str(Path(folder) / "cache")})
            if done.returncode:
                sys.exit(done.stderr)
            told[way] = json.loads(done.stdout.strip().splitlines()[-1])
            print(f"{way:<8}{told[way]['step']:>16.2f}{told[way]['memory']:>18.0f}", flush=True)
        time_share, memory_share = (told["train"][name] / told["fit"][name] for name in ("step", "memory"))
        print(f"train against fit: {time_share:.2f} of the time, {memory_share:.2f} of the memory")


def make(file: Path, count: int) -> None:
    """Noise with a bright cube in the lower or the upper half."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, number in (("train", count), ("val", 2), ("test", 2)):
        values = random.integers(0, 100, (number, SIDE, SIDE, SIDE), np.uint8)
        values[::2, 8:24, 8:24, 8:24] += 100
        values[1::2, 40:56, 8:24, 8:24] += 100
        arrays |= {f"{split}_images": values, f"{split}_labels": np.arange(number) % 2}
    np.savez(file, **arrays)


def with_train(file: Path, epochs: int) -> list[float]:
    """Seconds of each epoch."""
    import csv

    import keras

    import tfcnn
    from tfcnn.models.build import build_for_volumes
    from tfcnn.models.classifier import ModelConfig

    data = tfcnn.load_volumes(file)
    keras.utils.set_random_seed(0)
    model = build_for_volumes(ModelConfig("cnn_3d", "none"), data.labels, data.input_shape, data.facts)
    with tempfile.TemporaryDirectory() as folder:
        run = tfcnn.train(model, data, tfcnn.TrainingConfig(epochs=epochs, batch_size=BATCH), output=Path(folder) / "run")
        with open(run.path / "history.csv", encoding="utf-8") as rows:
            return [float(row["seconds"]) for row in csv.DictReader(rows)]


def with_fit(file: Path, epochs: int) -> list[float]:
    """Seconds of each epoch."""
    import keras

    from tfcnn.models.build import build_for_volumes
    from tfcnn.models.classifier import ModelConfig
    from tfcnn.models.freeze import set_flags
    from tfcnn.models.vary import set_strength

    with np.load(file) as arrays:
        images, labels = arrays["train_images"][..., None], arrays["train_labels"]
    keras.utils.set_random_seed(0)
    facts = {"intensity": None, "mean": [float(images.mean())], "variance": [float(images.std()) ** 2]}
    model = build_for_volumes(ModelConfig("cnn_3d", "none"), ["0", "1"], (SIDE, SIDE, SIDE, 1), facts)
    set_flags(model, True, batch_norm="train")
    set_strength(model, "medium")
    model.compile(keras.optimizers.AdamW(1e-3), "sparse_categorical_crossentropy")
    begun, seconds = [], []
    mark = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(time.perf_counter()),
                                          on_epoch_end=lambda epoch, logs: seconds.append(time.perf_counter() - begun[-1]))
    model.fit(images, labels, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[mark])
    return seconds


WORK = {"train": with_train, "fit": with_fit}

if __name__ == "__main__":
    main()
