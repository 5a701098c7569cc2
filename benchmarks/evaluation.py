"""What an evaluation takes besides the forward passes: the numbers with their intervals, and the photos with heat maps that a report shows.

    python benchmarks/evaluation.py [--photos 10000] [--image-size 224] [--times 3]

Photos of trashnet600, again and again, in memory; MobileNetV3-Small with random weights and six labels.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import tfcnn
from tfcnn.data.dataset import Dataset
from tfcnn.data.scores import scores_of
from tfcnn.evaluation.evaluate import make_report
from tfcnn.evaluation.examples import FILE, write_examples
from tfcnn.evaluation.report import write_report
from tfcnn.models.forward import forward
from tfcnn.record import write_record

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--times", type=int, default=3)
    args = parser.parse_args()
    loaded = tfcnn.load_images(DATA / "trashnet600", image_size=args.image_size, split=None)
    data = many(loaded, args.photos)
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=data.labels, weights="none", image_size=args.image_size)
    rows = np.arange(args.photos)
    start = time.perf_counter()
    outputs = forward(model, data.inputs, rows)
    passes = time.perf_counter() - start
    targets = data.targets(rows)
    noise = np.random.default_rng(0).dirichlet(np.ones(len(data.labels)) / 4, args.photos)
    scores = (0.6 * noise + 0.4 * np.eye(len(data.labels))[targets]).astype(np.float32)  # answers of a network that learned something
    with tempfile.TemporaryDirectory() as folder:
        run = a_run(Path(folder), data, args.image_size)
        told = scores_of(data, rows, scores)
        numbers = median_of(lambda: make_report(scores, targets, data.labels, "test", temperature=1.3), args.times)
        examples = median_of(lambda: write_examples(run, data, told, model=model), args.times)
        record = {**run.record, "test": make_report(scores, targets, data.labels, "test", temperature=1.3).to_dict()}
        run = write_record(run.path, record)
        page = median_of(lambda: write_report(run), args.times)
        sizes = (run.path / "report.html").stat().st_size / 1e6, (run.path / FILE).stat().st_size / 1e6
    assert outputs.shape == scores.shape
    print(f"{args.photos} photos of {args.image_size} pixels, {os.cpu_count()} cores")
    print(f"{'forward passes':<44}{passes:>8.1f} s")
    for name, seconds in (("numbers with intervals", numbers), ("photos and heat maps of the report", examples), ("report.html", page)):
        print(f"{name:<44}{seconds:>8.1f} s{100 * seconds / passes:>8.1f} %")
    print(f"report.html {sizes[0]:.1f} MB, examples.json {sizes[1]:.1f} MB")


def many(data: Dataset, photos: int) -> Dataset:
    """The photos again and again, each as one of its own."""
    rows = np.resize(np.arange(len(data.items)), photos)
    items = tuple(data.items[row]._replace(sha256=f"{number:064x}", split="test") for number, row in enumerate(rows))
    pixels = np.asarray(data.inputs[np.arange(len(data.items))])[rows]
    return Dataset(inputs=pixels, items=items, labels=data.labels, input_shape=data.input_shape, source=data.source)


def a_run(folder: Path, data: Dataset, size: int):
    """A record with what a report says of it."""
    counts = {label: sum(item.label == label for item in data.items) for label in data.labels}
    training = {"epochs": 0, "trainable": False, "augmentation": "none", "seed": 0}
    splits = {"train": 0, "validation": 0, "test": len(data.items)}
    return write_record(folder, {
        "labels": list(data.labels), "status": "finished", "geometry": "stretch", "input_shape": [size, size, 3], "created": "2026-01-01T00:00:00",
        "versions": {"tfcnn": tfcnn.__version__}, "kept": "head", "seconds": {}, "model": {"backbone": "mobilenet_v3_small", "weights": "none"},
        "training": training, "data": {"source": data.source, "counts": counts, "splits": splits, "quarantined": [], "leaks": 0, "arguments": {}}})


def median_of(work, times: int) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
