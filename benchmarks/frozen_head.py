"""A new head on a frozen backbone: the tutorial way, the expert's way in plain Keras, tfcnn cold, warm, and warm on the same model.

    python benchmarks/frozen_head.py [--repeats 3]

All train on the same photos in one process and are tested on the same photos. A time goes from the folder of photos
to a trained classifier, the building of the network included; importing TensorFlow and testing are not counted.
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tfcnn

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
SIZE = (224, 224)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=DATA / "trashnet600", type=Path)
    parser.add_argument("--weights", default=DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5", type=Path)
    parser.add_argument("--repeats", type=int, default=3, help="each with a split of its own")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).predict(np.zeros((1, 2)), verbose=0)  # TensorFlow's own start
        rows = {name: [] for name in ("a tutorial", "b expert", "c tfcnn cold", "d tfcnn warm", "e warm, same model")}
        for seed in range(args.repeats):
            os.environ["TFCNN_CACHE"] = str(Path(folder) / "elsewhere")  # the split must not warm what is measured
            data = tfcnn.load_images(args.source, seed=seed)
            train, test = split_folders(data, Path(folder) / f"split{seed}")
            os.environ["TFCNN_CACHE"] = str(Path(folder) / f"cache{seed}")
            for name, way in (
                ("a tutorial", partial(tutorial, train, args.weights, len(data.labels))),
                ("b expert", partial(expert, train, args.weights, len(data.labels))),
                ("c tfcnn cold", partial(with_tfcnn, args.source, args.weights, seed, Path(folder) / f"cold{seed}")),
                ("d tfcnn warm", partial(with_tfcnn, args.source, args.weights, seed, Path(folder) / f"warm{seed}")),
            ):
                seconds, model = timed(way)
                rows[name].append((seconds, accuracy(model, test)))
            seconds, _ = timed(partial(train_head, model, args.source, seed, Path(folder) / f"head{seed}"))
            rows["e warm, same model"].append((seconds, accuracy(model, test)))
            show({name: values[-1:] for name, values in rows.items()}, f"split {seed}")
        show(rows, f"median of {args.repeats}")


def timed(way):
    """(seconds, model); like `timeit`, with Python's garbage collector off, so that no way pays for the objects of another."""
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    model = way()
    seconds = time.perf_counter() - start
    gc.enable()
    return seconds, model


def tutorial(train: Path, weights: Path, classes: int):
    """The transfer-learning guide of Keras: frozen backbone, flip and rotation, Adam 1e-3, 10 epochs through the network."""
    photos = keras.utils.image_dataset_from_directory(train, image_size=SIZE, batch_size=32, seed=0, verbose=False).prefetch(2)
    base = keras.applications.MobileNetV3Small(include_top=False, weights=str(weights), input_shape=(*SIZE, 3))
    base.trainable = False
    x = image = keras.Input((*SIZE, 3))
    for layer in (keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)):
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    model = keras.Model(image, keras.layers.Dense(classes, activation="softmax")(keras.layers.Dropout(0.2)(x)))
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(photos, epochs=10, verbose=0)
    return model


def expert(train: Path, weights: Path, classes: int):
    """Plain Keras by someone who knows: every photo through the backbone once, then the head on the features."""
    photos = keras.utils.image_dataset_from_directory(train, image_size=SIZE, batch_size=32, shuffle=False, verbose=False)
    base = keras.applications.MobileNetV3Small(include_top=False, weights=str(weights), input_shape=(*SIZE, 3), pooling="avg")
    features = base.predict(photos.map(lambda pixels, _: pixels).prefetch(2), verbose=0)
    targets = np.array([photos.class_names.index(Path(path).parent.name) for path in photos.file_paths])
    head = keras.Sequential([keras.Input(features.shape[1:]), keras.layers.Dropout(0.2), keras.layers.Dense(classes, activation="softmax")])
    head.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    head.fit(features, targets, batch_size=32, epochs=30, verbose=0)
    return keras.Model(base.input, head(base.output))


def with_tfcnn(source: Path, weights: Path, seed: int, output: Path):
    """The same through the public functions; it also writes the run folder."""
    labels = sorted(folder.name for folder in source.iterdir() if folder.is_dir())
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=labels, weights=str(weights))
    return train_head(model, source, seed, output)


def train_head(model, source: Path, seed: int, output: Path):
    """Another head on a model that is there already, as in a notebook."""
    data = tfcnn.load_images(source, seed=seed)
    tfcnn.train(model, data, tfcnn.TrainingConfig(trainable=False, seed=seed), output=output)
    return model


def split_folders(data, folder: Path) -> tuple[Path, Path]:
    """The training and the test split as folders of links, which is what `image_dataset_from_directory` takes."""
    for item in data.items:
        link = folder / item.split / item.label / Path(item.path).name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(item.path)
    return folder / "train", folder / "test"


def accuracy(model, test: Path) -> float:
    """Test accuracy with the decoding of Keras, the same for all."""
    photos = keras.utils.image_dataset_from_directory(test, image_size=SIZE, batch_size=32, shuffle=False, verbose=False)
    targets = np.array([photos.class_names.index(Path(path).parent.name) for path in photos.file_paths])
    return float(np.mean(model.predict(photos, verbose=0).argmax(axis=1) == targets))


def show(rows: dict[str, list], title: str) -> None:
    """A table of median seconds and mean accuracies, and how many times faster than (a) and (b) each way is."""
    seconds = {name: statistics.median(s for s, _ in values) for name, values in rows.items()}
    print(f"\n{title:<18} {'seconds':>8} {'a / this':>9} {'b / this':>9} {'test accuracy':>14}")
    for name, values in rows.items():
        mean = statistics.mean(a for _, a in values)
        faster = [seconds[other] / seconds[name] for other in ("a tutorial", "b expert")]
        print(f"{name:<18} {seconds[name]:>8.2f} {faster[0]:>9.1f} {faster[1]:>9.2f} {mean:>14.3f}", flush=True)


if __name__ == "__main__":
    main()
