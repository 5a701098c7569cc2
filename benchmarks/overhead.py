"""What a strategy costs where there is only one device: milliseconds of a training step with one replica against no strategy.

python benchmarks/overhead.py [--rounds 5] [--steps 30]

A MobileNetV3-Small with all stages open, 128 pixels, batches of 16, photos that lie in memory, augmentation "light". Each strategy has a
process of its own, which trains for one epoch that is thrown away and then in turns with the others: in each round one after the
other does an epoch, while the rest stand still. Printed are medians over the rounds and the ratio of each to the first in the same
round; "Keras" is the same network, photos and optimizer with Keras's own train_step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise

WAYS = ("none", "one_device", "mirrored", "multi_worker", "keras")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        measure(args.way, args.steps)
        return
    workers = {way: start(way, args.steps) for way in WAYS}
    for worker in workers.values():
        worker.stdout.readline()  # it is warm
    taken = {way: [] for way in WAYS}
    for number in range(args.rounds):
        for way in WAYS if number % 2 == 0 else reversed(WAYS):  # so that a drift of the machine hits all alike
            workers[way].stdin.write("go\n")
            workers[way].stdin.flush()
            taken[way].append(float(workers[way].stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    print(f"{'way':<14} {'ms a step':>10} {'against none':>13}   of {args.rounds} rounds of {args.steps} steps, lowest and highest ratio")
    for way in WAYS:
        ratios = [one / base for one, base in zip(taken[way], taken["none"], strict=True)]
        print(f"{way:<14} {statistics.median(taken[way]):>10.1f} {statistics.median(ratios):>13.3f}   {min(ratios):.3f} to {max(ratios):.3f}")


def start(way: str, steps: int) -> subprocess.Popen:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if way == "multi_worker":
        from tfcnn.training.launch import free_ports

        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": [f"127.0.0.1:{free_ports(1)[0]}"]}, "task": {"type": "worker", "index": 0}})
    return subprocess.Popen([sys.executable, __file__, "--way", way, "--steps", str(steps)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, env=environment)


def measure(way: str, steps: int) -> None:
    """Trains an epoch when it is told to, and says the milliseconds of a step."""
    import keras
    import numpy as np

    import tfcnn
    from tfcnn.data.dataset import Dataset, Item, training_batches
    from tfcnn.models.freeze import set_flags
    from tfcnn.training.config import TrainingConfig
    from tfcnn.training.fine_tune import photos_of
    from tfcnn.training.learner import make_learner

    strategy = tfcnn.make_strategy("auto" if way in ("none", "keras") else way)
    photos = np.random.default_rng(0).integers(0, 256, (16 * steps, 128, 128, 3), np.uint8)
    items = tuple(Item(str(row), "ab"[row % 2], "train", str(row)) for row in range(len(photos)))
    data = Dataset(inputs=photos, items=items, labels=("a", "b"), input_shape=(128, 128, 3))
    config = TrainingConfig(batch_size=16, augmentation="light", epochs=1)
    with strategy.scope():
        model = tfcnn.build_classifier("mobilenet_v3_small", labels=data.labels, weights=None, image_size=128)
    learner = model if way == "keras" else make_learner(model)
    with strategy.scope():
        set_flags(learner, True)
        loss = keras.losses.CategoricalCrossentropy(reduction="sum_over_batch_size" if way == "keras" else None)
        learner.compile(keras.optimizers.Adam(1e-5, global_clipnorm=1.0), loss, **({"metrics": ["accuracy"]} if way == "keras" else {}))
        learner.optimizer.build(learner.trainable_variables)  # as `train` does; built in the first step, under a strategy every step takes 1.4 times as long

    def epoch() -> float:
        stream = training_batches(data, batch_size=16, augmentation="light", seed=0) if way == "keras" else photos_of(data, config, strategy, end=1)
        marks = []
        mark = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda step, logs: marks.append(time.perf_counter()))
        with strategy.scope():
            learner.fit(stream, steps_per_epoch=steps, epochs=1, verbose=0, shuffle=False, callbacks=[mark])
        return 1000 * statistics.median(after - before for before, after in pairwise(marks[5:]))

    epoch()
    print("warm", flush=True)
    for _ in sys.stdin:
        print(epoch(), flush=True)


if __name__ == "__main__":
    main()
