"""The recipe of tfcnn against the transfer-learning tutorial of Keras, fastai's `fine_tune` schedule and a linear probe, on the same splits.

    python benchmarks/recipe.py [--seeds 5] [--backbone mobilenet_v3_small] [--methods tutorial fastai probe tfcnn]

All methods run in this process, one after the other, on photos that are decoded already, and start with building the network from the
weights file; seconds end with the answers for the test photos. Neither the import of TensorFlow nor exports count, features are
computed anew for each method. The test photos choose nothing. The ImageNet weights are recovered from 8-bit files.
"""

import argparse
import logging
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import tfcnn
from tfcnn.data.dataset import batches, training_batches
from tfcnn.models.backbones import BACKBONES, preprocess_function

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
WEIGHTS = {"mobilenet_v3_small": "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5", "mobilenet_v2": "mobilenet_v2_1.0_224_from_ptq_no_top.h5"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=DATA / "trashnet600", type=Path)
    parser.add_argument("--backbone", default="mobilenet_v3_small", choices=WEIGHTS)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    args = parser.parse_args()
    logging.getLogger("tfcnn").setLevel(logging.ERROR)
    print(f"{args.source.name}, {args.backbone}, {args.image_size} pixels: test accuracy (seconds)")
    print(f"{'seed':<12}" + "".join(f"{method:>18}" for method in args.methods), flush=True)
    results: dict[str, list[tuple[float, float]]] = {method: [] for method in args.methods}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            os.environ["TFCNN_CACHE"] = str(Path(folder) / "photos")
            data = tfcnn.load_images(args.source, image_size=args.image_size, seed=seed)
            for method in args.methods[seed % len(args.methods):] + args.methods[:seed % len(args.methods)]:  # none is always the first, which warms up
                os.environ["TFCNN_CACHE"] = str(Path(folder) / f"{method}-{seed}")  # no method finds the features of another
                results[method].append(measure(METHODS[method], data, args.backbone, seed))
            print(f"{seed:<12}" + "".join(f"{f'{rows[-1][0]:.3f} ({rows[-1][1]:.0f})':>18}" for rows in results.values()), flush=True)
    show_summary(results, len(data.rows("test")))


def measure(method, data, backbone: str, seed: int) -> tuple[float, float]:
    """Test accuracy, and seconds from building the network to the answers."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    start = time.perf_counter()
    answers = method(data, backbone, seed)
    seconds = time.perf_counter() - start
    return float(np.mean(answers == data.targets(data.rows("test")))), seconds


def tutorial(data, backbone: str, seed: int) -> np.ndarray:
    """Frozen backbone, flip and rotation, Adam 1e-3, 10 epochs; then every layer at 1e-5, BatchNorm frozen, 10 epochs.

    Source: keras.io, "Transfer learning & fine-tuning", with the number of epochs of TensorFlow's tutorial of that name.
    """
    layers = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]
    model, base = plain_model(data, backbone, layers)
    train = data.train.unbatch().cache().shuffle(len(data.rows("train"))).batch(32).prefetch(2)  # in memory, as the other methods have them
    for trainable, rate in ((False, 1e-3), (True, 1e-5)):
        base.trainable = trainable
        hold_batch_norm(base)
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
        model.fit(train, epochs=10, verbose=0)
    return model.predict(batches(data, "test"), verbose=0).argmax(axis=1)


def fastai(data, backbone: str, seed: int) -> np.ndarray:
    """`learn.fine_tune(14)`: an epoch of the head at 2e-3, then all layers in one cycle, rates from 1e-5 in the lower half over 1e-4 to 1e-3 in the head.

    This is the schedule, not the whole of fastai: batches of 64 with the last short one, AdamW with decay 0.01 of all weights, the
    augmentation of the recipe ("medium"), which is near to fastai's own, and one Dense layer on average pooling in place of
    fastai's head of two with BatchNorm on two poolings. BatchNorm stays frozen (`train_bn=False`): its statistics in training
    mode are only approximately right in recovered weights. The momentum is not cycled.

    Source: Howard & Gugger 2020, "fastai: A Layered API for Deep Learning", section 2.1; the constants are those of
    `fine_tune` and `fit_one_cycle` in fastai 2.7.
    """
    model, base = plain_model(data, backbone, [])
    steps, frozen, epochs, base_rate = -(-len(data.rows("train")) // 64), 1, 14, 2e-3

    def fit(optimizer, count: int, first: int):
        model.compile(optimizer, "categorical_crossentropy")
        photos = training_batches(data, batch_size=64, augmentation="medium", seed=seed, first_epoch=first, epochs=first + count)
        model.fit(photos, epochs=count, steps_per_epoch=steps, shuffle=False, verbose=0)

    base.trainable = False
    fit(keras.optimizers.AdamW(OneCycle(base_rate, frozen * steps, 0.99, 25.0), weight_decay=0.01), frozen, 0)
    base.trainable = True
    hold_batch_norm(base)
    middle = len(base.layers) // 2
    rates = {variable.path: base_rate / 2 / (100 if index < middle else 10)
             for index, layer in enumerate(base.layers) for variable in layer.trainable_variables}
    members = {rate: keras.optimizers.AdamW(OneCycle(rate, epochs * steps, 0.3, 5.0), weight_decay=0.01) for rate in {*rates.values(), base_rate / 2}}
    fit(keras.optimizers.MultiOptimizer(lambda variable: members[rates.get(variable.path, base_rate / 2)]), epochs, frozen)
    return model.predict(batches(data, "test"), verbose=0).argmax(axis=1)


@keras.saving.register_keras_serializable("benchmark")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A cosine from peak / div up to the peak, then one down to nearly 0 (Smith 2018, arXiv:1803.09820, section 4)."""

    def __init__(self, peak: float, steps: int, share: float, div: float):
        super().__init__()
        self.peak, self.steps, self.share, self.div = peak, steps, share, div

    def __call__(self, step):
        done = keras.ops.cast(step, "float32") / self.steps
        cosine = lambda start, end, at: start + (end - start) * 0.5 * (1 - keras.ops.cos(math.pi * keras.ops.clip(at, 0.0, 1.0)))
        return keras.ops.where(done < self.share, cosine(self.peak / self.div, self.peak, done / self.share),
                               cosine(self.peak, self.peak / 1e5, (done - self.share) / (1 - self.share)))

    def get_config(self) -> dict:
        return {"peak": self.peak, "steps": self.steps, "share": self.share, "div": self.div}


def probe(data, backbone: str, seed: int) -> np.ndarray:
    """Logistic regression on pooled features of the frozen backbone, C chosen by 5-fold cross-validation on the training photos."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    model, _ = plain_model(data, backbone, [])
    features = keras.Model(model.input, model.layers[-3].output)
    of = lambda split: features.predict(batches(data, split), verbose=0)
    with threadpool_limits(1):
        solver = LogisticRegressionCV(Cs=np.logspace(-4, 0, 9), cv=5, max_iter=500, l1_ratios=(0,), use_legacy_attributes=False)
        regression = make_pipeline(StandardScaler(), solver)
        regression.fit(of("train"), data.targets(data.rows("train")))
        return regression.predict(of("test"))


def recipe(data, backbone: str, seed: int) -> np.ndarray:
    """`tfcnn.train` with all defaults: features, head, fine-tuning with its checks and checkpoints, the better of the two, the run folder."""
    model = tfcnn.build_classifier(backbone, labels=data.labels, weights=str(weights_of(backbone)), image_size=data.input_shape[0])
    with tempfile.TemporaryDirectory() as folder:
        run = tfcnn.train(model, data, tfcnn.TrainingConfig(seed=seed), output=Path(folder) / "run")
    print(f"{run.record['kept_because']}; {run.record['seconds']}", file=sys.stderr, flush=True)
    return model.predict(batches(data, "test"), verbose=0).argmax(axis=1)


METHODS = {"tutorial": tutorial, "fastai": fastai, "probe": probe, "tfcnn": recipe}


def plain_model(data, backbone: str, augmentation: list):
    """(model, backbone) as the tutorial builds them: backbone, average pooling, dropout 0.2, softmax."""
    row = BACKBONES[backbone]
    base = getattr(keras.applications, row.build)(include_top=False, weights=str(weights_of(backbone)), input_shape=data.input_shape)
    x = image = keras.Input(data.input_shape)
    for layer in augmentation:
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D()(base(preprocess_function(row)(x), training=False))
    return keras.Model(image, keras.layers.Dense(len(data.labels), activation="softmax")(keras.layers.Dropout(0.2)(x))), base


def hold_batch_norm(base) -> None:
    """Freezes each BatchNorm layer: `training=False` alone does not hold it."""
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def weights_of(backbone: str) -> Path:
    return DATA / "weights" / WEIGHTS[backbone]


def show_summary(results: dict[str, list[tuple[float, float]]], photos: int) -> None:
    """Mean and standard deviation over the seeds, median seconds, and the gain over each method, paired by split."""
    spread = lambda values: statistics.stdev(values) if len(values) > 1 else 0.0
    text = lambda values, scale, digits: f"{scale * statistics.mean(values):{'+' if scale > 1 else ''}.{digits}f} ± {scale * spread(values):.{digits}f}"
    accuracies = {method: [accuracy for accuracy, _ in rows] for method, rows in results.items()}
    seconds = {method: [taken for _, taken in rows] for method, rows in results.items()}
    print(f"{'mean ± sd':<12}" + "".join(f"{text(values, 1, 3):>18}" for values in accuracies.values()))
    print(f"{'median s':<12}" + "".join(f"{statistics.median(values):>18.0f}" for values in seconds.values()))
    if "tfcnn" in results:
        for method in [method for method in results if method != "tfcnn"]:
            gains = [ours - theirs for ours, theirs in zip(accuracies["tfcnn"], accuracies[method], strict=True)]
            ratio = statistics.median(ours / theirs for ours, theirs in zip(seconds["tfcnn"], seconds[method], strict=True))
            print(f"tfcnn over {method}, paired by split: {text(gains, 100, 1)} points, {ratio:.2f} of its time (median ratio)")
    print(f"({photos} test photos a split)")


if __name__ == "__main__":
    tf.config.set_visible_devices([], "GPU")  # what is compared here are recipes on two cores
    main()
