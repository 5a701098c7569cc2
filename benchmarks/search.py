"""Heads searched by tfcnn against keras-tuner's RandomSearch, (a) over the model of the Keras tutorial and (b) over a head on features an expert keeps.

    python benchmarks/search.py [--trials 50] [--tutorial-trials 3] [--epochs 10] [--image-size 224]

All three search the same three things (hidden units, dropout, rate) with as many epochs a trial on the same photos of trashnet600, in the same split,
after those are decoded; features count. Of (a), whose 50 trials take the better part of an hour, the first few are run. A head without hidden layers is
solved in tfcnn, whatever the epochs. The search of tfcnn ends with the best network as a run folder and its test, which its seconds leave out as those
of the others do. Validation photos are few: one is 1.7 points. MobileNetV3-Small with ImageNet weights recovered from an 8-bit file.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_tuner
import numpy as np

import tfcnn
from tfcnn.data.dataset import batches
from tfcnn.models.backbones import BACKBONES, preprocess_function

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
WEIGHTS = DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5"
NAME, UNITS, DROPOUT, RATE = "mobilenet_v3_small", ("none", "64", "256"), (0.0, 0.6), (3e-4, 1e-2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--tutorial-trials", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=224)
    args = parser.parse_args()
    logging.getLogger("tfcnn").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFCNN_CACHE"] = str(Path(folder) / "cache")
        source = DATA / "trashnet600"
        data = tfcnn.load_images(source, image_size=args.image_size)
        counts = {split: len(data.rows(split)) for split in ("train", "validation")}
        print(f"{counts['train']} training and {counts['validation']} validation photos of {args.image_size} pixels, "
              f"{args.epochs} epochs a trial")
        print(f"{'':<42}{'trials':>7}{'seconds':>9}{'trials a minute':>17}{'best validation accuracy':>26}", flush=True)
        rows = {}
        for name, method in METHODS.items():
            keras.utils.set_random_seed(0)
            started = time.perf_counter()
            trials, accuracy, seconds = method(data, args, Path(folder), source)
            seconds = seconds or time.perf_counter() - started
            rows[name] = trials * 60 / seconds
            print(f"{name:<42}{trials:>7}{seconds:>9.1f}{rows[name]:>17.1f}{accuracy:>26.3f}", flush=True)
    ours = rows["tfcnn"]
    print("tfcnn: " + ", ".join(f"{ours / rate:.1f} times as many trials a minute as {name[:1]}" for name, rate in rows.items() if name != "tfcnn"))


def tutorial(data, args, folder, source):
    """As keras.io/guides/transfer_learning builds it: frozen backbone, flip and rotation in the model; keras-tuner trains it anew in each trial."""
    def build(hp):
        size = args.image_size
        backbone = keras.applications.MobileNetV3Small(input_shape=(size, size, 3), include_top=False, weights=str(WEIGHTS))
        backbone.trainable = False
        image = keras.Input((size, size, 3))
        x = keras.layers.RandomRotation(0.1)(keras.layers.RandomFlip("horizontal")(image))
        x = preprocess_function(BACKBONES[NAME])(x)
        x = keras.layers.GlobalAveragePooling2D()(backbone(x, training=False))
        return finished(keras.Model(image, head(x, hp, len(data.labels))), hp)

    return tuned(build, batches(data, "train", batch_size=16), batches(data, "validation"), args.tutorial_trials, args.epochs, folder / "tutorial")


def expert(data, args, folder, source):
    """Features computed once, by hand; keras-tuner trains heads on them."""
    size = args.image_size
    backbone = keras.applications.MobileNetV3Small(input_shape=(size, size, 3), include_top=False, weights=str(WEIGHTS), pooling="avg")
    features = {split: backbone.predict(batches(data, split).map(first), verbose=0) for split in ("train", "validation")}
    targets = {split: data.targets(data.rows(split)) for split in features}

    def build(hp):
        pooled = keras.Input((features["train"].shape[1],))
        return finished(keras.Model(pooled, head(pooled, hp, len(data.labels))), hp)

    pairs = {split: (features[split], targets[split]) for split in features}
    return tuned(build, pairs["train"], pairs["validation"], args.trials, args.epochs, folder / "expert")


def ours(data, args, folder, source):
    """`tfcnn.search` over the same three, without fine-tuning; its seconds are those of features and trials."""
    def space(hp):
        hp.Choice("hidden", list(UNITS))
        hp.Float("dropout", *DROPOUT)
        hp.Float("head_learning_rate", *RATE, sampling="log")

    config = tfcnn.SearchConfig(trials=args.trials, fine_tune=0, algorithm="random")
    found = tfcnn.search(source, output=folder / "ours", backbone=NAME, weights=str(WEIGHTS), image_size=args.image_size, config=config, space=space, only=(),
                         training=tfcnn.TrainingConfig(head_epochs=args.epochs))
    heads = [row for row in found.trials if row.level == "heads"]  # beside them the head of the defaults, in the same seconds
    assert len(heads) == args.trials and all(row.status == "COMPLETED" for row in heads)
    return args.trials, max(row.accuracy for row in heads), found.record["seconds_of_trials"]


def head(x, hp, labels: int):
    units = hp.Choice("hidden", list(UNITS))
    dropout = hp.Float("dropout", *DROPOUT)
    if units != "none":
        x = keras.layers.Dense(int(units), activation="relu")(keras.layers.Dropout(dropout)(x))
    return keras.layers.Dense(labels, activation="softmax")(keras.layers.Dropout(dropout)(x))


def first(pixels, target):
    return pixels


def finished(model, hp):
    model.compile(keras.optimizers.Adam(hp.Float("rate", *RATE, sampling="log")), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def tuned(build, train, validation, trials: int, epochs: int, folder: Path):
    """How many trials keras-tuner's RandomSearch made, and the best validation accuracy."""
    tuner = keras_tuner.RandomSearch(build, "val_accuracy", max_trials=trials, seed=1, directory=folder, project_name="trials", overwrite=True)
    given = {"x": train[0], "y": train[1], "batch_size": 16} if isinstance(train, tuple) else {"x": train, "shuffle": False}
    tuner.search(**given, validation_data=validation, epochs=epochs, verbose=0)
    done = [trial for trial in tuner.oracle.trials.values() if trial.status == "COMPLETED"]
    assert len(done) == trials, "trials of keras-tuner failed"
    return trials, float(np.max([trial.score for trial in done])), None


METHODS = {"a keras-tuner, model of the tutorial": tutorial, "b keras-tuner, features kept by hand": expert, "tfcnn": ours}

if __name__ == "__main__":
    sys.exit(main())
