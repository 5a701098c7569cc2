"""Every named backbone in every format: converted, run in its own runtime, compared with Keras, and measured.

    python benchmarks/export_matrix.py [--backbones resnet50 ...] [--trained mobilenet_v2 ...] [--photos 10]

The first tables are of random weights below a head trained on 60 photos of `trashnet600`: they show that a file computes what Keras
does, how large and how fast it is, and say nothing of accuracy. The last are of trained networks on their whole test split:
MobileNetV2 and MobileNetV3-Small (ImageNet weights recovered from 8-bit files) on `trashnet600`, and the network of `tfcnn demo` trained
from nothing on all digits of scikit-learn. Times are of one photo on one thread of this machine.
"""

import argparse
import logging
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from int8 import DATA, WEIGHTS, train  # of this folder

import tfcnn
from tfcnn.demo import FILTERS, PRETRAINING, SIDE, digit_scans
from tfcnn.export.formats import EXPORTERS, has_extra
from tfcnn.models.cnn import build_features
from tfcnn.models.freeze import every_layer

NAMED = ("resnet50", "efficientnet_b0", "mobilenet_v3_small", "mobilenet_v3_large", "vgg16", "vit_b_16")
TRAINED = (*WEIGHTS, "small_cnn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="*", default=NAMED, help="with random weights")
    parser.add_argument("--trained", nargs="*", default=TRAINED, choices=TRAINED)
    parser.add_argument("--formats", nargs="+", default=[name for name in EXPORTERS if has_extra(name)], choices=EXPORTERS)
    parser.add_argument("--photos", type=int, default=10, help="a label, for random weights")
    args = parser.parse_args()
    logging.getLogger("tfcnn").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        few = few_photos(DATA / "trashnet600", args.photos, Path(folder) / "few")
        matrix = {name: exports_of(*random_run(name, few, Path(folder) / name), args.formats) for name in args.backbones}
        trained = {name: exports_of(*trained_run(name, Path(folder) / f"trained-{name}"), args.formats) for name in args.trained}
    if matrix:
        photos = next(iter(next(iter(matrix.values())).values())).n
        show("size in MB", matrix, lambda row: f"{row.bytes / 1e6:.2f}")
        show("median milliseconds a photo", matrix, lambda row: "" if row.milliseconds is None else f"{row.milliseconds:.1f}")
        show(f"random weights, {photos} photos: share of equal answers, and largest difference of a score", matrix,
             lambda row: row.verdict if row.agreement is None else f"{row.agreement:.2f}, {row.max_score_difference:.4f}")
    for name, rows in trained.items():
        details(name, rows)


def few_photos(source: Path, count: int, output: Path) -> Path:
    """A folder with the first photos of each label."""
    for label in sorted(path for path in source.iterdir() if path.is_dir()):
        (output / label.name).mkdir(parents=True)
        for photo in sorted(label.iterdir())[:count]:
            shutil.copy(photo, output / label.name)
    return output


def random_run(backbone: str, source: Path, output: Path):
    """(run, data): random weights below a trained head."""
    keras.utils.set_random_seed(0)
    data = tfcnn.load_images(source, image_size=224)
    model = tfcnn.build_classifier(backbone, labels=data.labels, weights=None, image_size=224)
    measure_statistics(model, data.photos(data.rows("train"))[:])
    return tfcnn.train(model, data, tfcnn.TrainingConfig(trainable=False), output=output), data


def measure_statistics(model, photos) -> None:
    """BatchNorm as after a training. With the statistics 0 and 1 of a new network the features of a deep one hardly differ between
    photos, every score is the same, and every file would agree."""
    layers = [layer for layer in every_layer(model) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum, layer.trainable = 0.0, True
    model(photos, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def trained_run(backbone: str, output: Path):
    """(run, data): a run with all defaults from pretrained weights; the small network all trained on digits."""
    keras.utils.set_random_seed(0)
    if backbone in WEIGHTS:
        return train(backbone, 0, 224, output), None  # exports read the photos of the run
    data = digit_scans(range(10), split=(0.7, 0.1, 0.2), seed=0)
    model = tfcnn.build_classifier(build_features((SIDE, SIDE, 3), filters=FILTERS), labels=data.labels, weights=None)
    return tfcnn.train(model, data, PRETRAINING, output=output), data


def exports_of(run, data, formats) -> dict:
    """format: Export. One format after the other, so that one that fails does not take the rest with it."""
    rows = {}
    for name in formats:
        try:
            (rows[name],) = tfcnn.export(run, data, formats=[name])
            row = rows[name]
            print(f"{run.path.name:<28}{name:<20}{row.bytes / 1e6:>8.2f} MB  agreement {row.agreement}  {row.verdict}", flush=True)
        except tfcnn.WorkError as error:
            print(f"{run.path.name:<28}{name:<20} failed: {error}", flush=True)
    return rows


def show(title: str, matrix: dict[str, dict], cell) -> None:
    """A table with a row for each backbone and a column for each format."""
    formats = list(dict.fromkeys(name for rows in matrix.values() for name in rows))
    print(f"\n{title}\n\n| | {' | '.join(name.removeprefix('tflite_') for name in formats)} |\n|{' --- |' * (len(formats) + 1)}")
    for backbone, rows in matrix.items():
        print(f"| {backbone} | {' | '.join(cell(rows[name]) if name in rows else 'failed' for name in formats)} |")


def details(name: str, rows: dict) -> None:
    """A table of one trained network."""
    first = next(iter(rows.values()))
    print(f"\n{name}, trained: Keras {first.keras_accuracy:.3f} on {first.n} {first.photos} photos\n\n"
          "| format | MB | accuracy | points lost | interval | agreement | largest difference "
          "| ms, 1 thread (95 %) | ms, 2 threads (95 %) | memory MB | verdict |\n"
          f"|{' --- |' * 11}")
    for format_, row in rows.items():
        if row.accuracy is None:
            print(f"| {format_} | {row.bytes / 1e6:.2f} |{' |' * 8} {row.verdict} |")
            continue
        times = " | ".join(f"{median:.1f} ({high:.1f})" for median, high in row.latency.values())
        print(f"| {format_} | {row.bytes / 1e6:.2f} | {row.accuracy:.3f} | {100 * row.accuracy_drop:.1f} | {interval(row)} | {row.agreement:.3f} "
              f"| {row.max_score_difference:.4f} | {times} | {row.memory / 1e6:.0f} | {row.verdict} |")


def interval(row) -> str:
    low, high = row.accuracy_drop_interval
    return f"{100 * low:.1f} to {100 * high:.1f}"


if __name__ == "__main__":
    main()
