"""What the checks and the logging of a fine-tuning cost: a step of `train` against bare `fit` of the same model, optimizer and data.

    python benchmarks/step_time.py [--epochs 3] [--repeats 5]

Both fine-tune MobileNetV3-Small with three stages open, batches of 16, augmentation "medium". "bare" has no callback but a clock; "tfcnn"
is what `train` calls, with the flags at each epoch, history and a checkpoint at the end of each epoch. The two take turns; seconds are
of whole epochs, the first of each training, which traces the graph, is left out. The comparison of all variables, once in a
training, falls into that first epoch and is timed by itself. The last row computes in mixed precision.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tfcnn
from tfcnn.data.dataset import batches, training_batches
from tfcnn.models.freeze import set_flags
from tfcnn.training.checks import check_freeze
from tfcnn.training.fine_tune import fine_tune
from tfcnn.training.optimizers import stage_optimizer
from tfcnn.training.train import checked_config

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
WEIGHTS = DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="counted epochs of each training")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-mixed", action="store_true", help="leave the row of mixed precision out")
    args = parser.parse_args()
    logging.getLogger("tfcnn").setLevel(logging.ERROR)
    data = tfcnn.load_images(DATA / "trashnet600", image_size=224)
    config = tfcnn.TrainingConfig(epochs=args.epochs + 1)
    ways = {"bare": bare, "tfcnn": ours} | ({} if args.no_mixed else {"tfcnn, mixed precision": mixed})
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(args.repeats):
        for name in ways if repeat % 2 == 0 else reversed(ways):
            if name != "tfcnn, mixed precision" or repeat < 2:
                seconds[name] += ways[name](data, config)
    steps = -(-len(data.rows("train")) // checked_config(build(data), data, config).batch_size)
    base = statistics.median(seconds["bare"])
    for name, taken in seconds.items():
        print(f"{name:<24} {1000 * statistics.median(taken) / steps:7.1f} ms a step (median of {len(taken)} epochs; {1000 * min(taken) / steps:.1f} at best)   "
              f"ratio of medians {statistics.median(taken) / base:.3f}, of the best {min(taken) / min(seconds['bare']):.3f}")
    print(f"comparison after the first step: {1000 * statistics.median(compare(data, config) for _ in range(args.repeats)):.0f} ms, once in each phase")


def build(data):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    return tfcnn.build_classifier("mobilenet_v3_small", labels=data.labels, weights=str(WEIGHTS))


def bare(data, config) -> list[float]:
    """Seconds of each epoch but the first, from `fit` with nothing but a clock."""
    model = build(data)
    config = checked_config(model, data, config)
    steps = -(-len(data.rows("train")) // config.batch_size)
    set_flags(model, config.trainable)
    model.compile(stage_optimizer(model, config, steps * config.epochs)[0], keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
                  metrics=["accuracy"])
    photos = training_batches(data, batch_size=config.batch_size, augmentation=config.augmentation, seed=0, epochs=config.epochs)
    validation = batches(data, "validation").map(lambda pixels, target: (pixels, keras.ops.one_hot(target, len(data.labels))))
    ends = []
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter()))
    model.fit(photos, validation_data=validation, steps_per_epoch=steps, epochs=config.epochs, callbacks=[clock], shuffle=False, verbose=0)
    return np.diff(ends).tolist()


def ours(data, config) -> list[float]:
    """The same from `fine_tune`; from the end of an epoch to the end of the next, checkpoints included."""
    model = build(data)
    with tempfile.TemporaryDirectory() as folder:
        return [row["seconds"] for row in fine_tune(model, data, checked_config(model, data, config), Path(folder), {})[1:]]


def compare(data, config) -> float:
    """Seconds that the check of a phase takes: all variables copied before the first step, compared after it."""
    model = build(data)
    config = checked_config(model, data, config)
    check = check_freeze(model, set_flags(model, config.trainable))
    model.compile(stage_optimizer(model, config, 10)[0], "categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    start = time.perf_counter()
    check.on_epoch_begin(0)
    check.on_train_begin()
    for variable in model.trainable_variables:  # as a step would
        variable.assign(variable + 1e-3)
    moved = time.perf_counter()
    for variable in model.trainable_variables:
        variable.assign(variable + 1e-3)
    assigning = time.perf_counter() - moved
    check.on_train_batch_begin(1)
    return time.perf_counter() - start - 2 * assigning


def mixed(data, config) -> list[float]:
    return ours(data, replace(config, mixed_precision=True, epochs=2))


if __name__ == "__main__":
    main()
