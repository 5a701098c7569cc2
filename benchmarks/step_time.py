"""What the checks and the logging of a fine-tuning cost: a step of `train` against bare `fit` of the same model, optimizer and data.

    python benchmarks/step_time.py [--epochs 3] [--repeats 5]

Both fine-tune MobileNetV3-Small with three stages open, batches of 16, augmentation "medium". "bare" has no callback but a clock; "tfcnn"
is what `train` calls, with its checks and logging. The two take turns. A step is the time from the beginning of an epoch to the end of
its last step, divided by the number of steps; then "tfcnn" validates and writes history and a checkpoint, "bare" validates by `fit`: that
is the time between epochs. The first epoch of each training, which traces the graph, is left out. The comparison of all variables, once
in a training, falls into that first epoch and is timed by itself. The last row computes in mixed precision.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import tfcnn
from tfcnn.data.dataset import batches, training_batches
from tfcnn.models.freeze import set_flags
from tfcnn.training import fine_tune
from tfcnn.training.checks import check_freeze
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
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for repeat in range(args.repeats):
        for name in ways if repeat % 2 == 0 else reversed(ways):
            if name != "tfcnn, mixed precision" or repeat < 2:
                seconds[name] += ways[name](data, config)
    steps = -(-len(data.rows("train")) // checked_config(build(data), data, config).batch_size)
    of_steps = {name: [1000 * training / steps for training, _ in taken] for name, taken in seconds.items()}
    base = of_steps["bare"]
    for name, taken in of_steps.items():
        between = 1000 * statistics.median(rest for _, rest in seconds[name])
        print(f"{name:<24} {statistics.median(taken):7.1f} ms a step (median of {len(taken)} epochs; {min(taken):.1f} at best)   ratio of medians "
              f"{statistics.median(taken) / statistics.median(base):.3f}, of the best {min(taken) / min(base):.3f}   {between:.0f} ms between epochs")
    print(f"comparison after the first step: {1000 * statistics.median(compare(data, config) for _ in range(args.repeats)):.0f} ms, once in each phase")


def build(data):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    return tfcnn.build_classifier("mobilenet_v3_small", labels=data.labels, weights=str(WEIGHTS))


class Clock(keras.callbacks.Callback):
    """Seconds of the steps of each epoch, and from there to the next epoch; first of the callbacks, so that it sees the others' work."""

    def __init__(self):
        super().__init__()
        self.begins, self.ends = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begins.append(time.perf_counter())

    def on_test_begin(self, logs=None):
        self.ends.append(time.perf_counter())

    def on_epoch_end(self, epoch, logs=None):
        if len(self.ends) < len(self.begins):  # where `fit` does not validate
            self.ends.append(time.perf_counter())

    def on_train_end(self, logs=None):
        self.begins.append(time.perf_counter())

    def epochs(self) -> list[tuple[float, float]]:
        """Without the first."""
        return [(end - begin, following - end) for begin, end, following in zip(self.begins, self.ends, self.begins[1:], strict=False)][1:]


def bare(data, config) -> list[tuple[float, float]]:
    """From `fit` with nothing but a clock."""
    model = build(data)
    config = checked_config(model, data, config)
    steps = -(-len(data.rows("train")) // config.batch_size)
    set_flags(model, config.trainable)
    model.compile(stage_optimizer(model, config, steps * config.epochs)[0], keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
                  metrics=["accuracy"])
    photos = training_batches(data, batch_size=config.batch_size, augmentation=config.augmentation, seed=0, epochs=config.epochs)
    validation = batches(data, "validation").map(lambda pixels, target: (pixels, keras.ops.one_hot(target, len(data.labels))))
    clock = Clock()
    model.fit(photos, validation_data=validation, steps_per_epoch=steps, epochs=config.epochs, callbacks=[clock], shuffle=False, verbose=0)
    return clock.epochs()


def ours(data, config) -> list[tuple[float, float]]:
    """The same from `fine_tune`."""
    model, clock, fit = build(data), Clock(), fine_tune._fit
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(
            fine_tune, "_fit", lambda learner, data, config, callbacks, **rest: fit(learner, data, config, [clock, *callbacks], **rest)):
        fine_tune.fine_tune(model, data, checked_config(model, data, config), Path(folder), {})
    return clock.epochs()


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


def mixed(data, config) -> list[tuple[float, float]]:
    return ours(data, replace(config, mixed_precision=True, epochs=2))


if __name__ == "__main__":
    main()
