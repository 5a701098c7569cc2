"""Photos per second of an epoch at 224 px: tfcnn beside `keras.utils.image_dataset_from_directory` and beside tuned `tf.data`.

    python benchmarks/input_pipeline.py [--repeats 3] [--megapixel-photos 60] [--parts a b training]

On (a) the photos of trashnet600 and (b) photos of 12 megapixels, mosaics of them. Every row runs in a process of its own, which
tells its peak memory too; before the clock starts it has run on eight tiny photos, so imports and tracing are charged to none.
Epoch 1 of tfcnn begins with an empty store: it lists, reads, hashes and decodes the files, writes the store, looks for near
copies, splits, and reads the training photos (98 %) once; nothing is augmented. Its later epochs are shuffled in full. "cache"
keeps float32 batches in memory and gives the same batches in each epoch; "cache, shuffled" keeps photos and shuffles them anew,
as a training needs it. The last part measures the input of a training (batches of 16) and the training itself.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
SIZE, BATCH, EPOCHS = 224, 32, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=DATA / "trashnet600", type=Path)
    parser.add_argument("--weights", default=DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--megapixel-photos", type=int, default=60)
    parser.add_argument("--parts", nargs="+", default=["a", "b", "training"], choices=["a", "b", "training"])
    parser.add_argument("--row", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        with tempfile.TemporaryDirectory() as folder:
            make_noise(Path(folder))
            ROWS[args.row](Path(folder))
        print(json.dumps(ROWS[args.row](args.source)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if "a" in args.parts:
            compare("a  " + args.source.name, args.source, args.repeats)
        if "b" in args.parts:
            make_mosaics(args.source, Path(folder) / "mosaics", args.megapixel_photos)
            compare(f"b  {args.megapixel_photos} photos of 12 megapixels", Path(folder) / "mosaics", args.repeats)
        if "training" in args.parts:
            training(args.source, args.weights)


def make_noise(folder: Path) -> None:
    """Eight small photos in two classes."""
    from PIL import Image

    for number in range(8):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((256, 256)).save(folder / "ab"[number % 2] / f"{number}.jpg")


def make_mosaics(source: Path, folder: Path, count: int) -> None:
    """JPEGs of 4032 x 3024, as phones take them, each made of 8 x 8 photos, in two classes."""
    from PIL import Image

    rng = np.random.default_rng(0)
    files = sorted(source.glob("*/*"))
    for number in range(count):
        mosaic = Image.new("RGB", (4032, 3024))
        for place, file in enumerate(rng.choice(files, 64)):
            with Image.open(file) as image:
                mosaic.paste(image.convert("RGB").resize((504, 378)), (504 * (place % 8), 378 * (place // 8)))
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        mosaic.save(folder / "ab"[number % 2] / f"{number:04d}.jpg", quality=90)


def compare(title: str, source: Path, repeats: int) -> None:
    count = len(list(source.glob("*/*")))
    runs = {name: [] for name in ROWS}
    for _ in range(repeats):  # in turn, so that a busy minute hits all of them
        for name in ROWS:
            command = [sys.executable, __file__, "--source", str(source), "--row", name]
            with tempfile.TemporaryDirectory() as cache:
                done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TFCNN_CACHE": cache})
            if done.returncode:
                sys.exit(done.stderr)
            runs[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
    first = {name: count / statistics.median(run["epochs"][0] for run in runs[name]) for name in ROWS}
    later = {name: runs[name][0]["photos"] / statistics.median(seconds for run in runs[name] for seconds in run["epochs"][1:]) for name in ROWS}
    print(f"\n{title}: photos a second, median of {repeats}; ratios to keras")
    print(f"{'':<28} {'epoch 1':>9} {'ratio':>7} {'later':>9} {'ratio':>7} {'peak memory, MB':>16}")
    for name in ROWS:
        memory = statistics.median(run["memory"] for run in runs[name])
        print(f"{name:<28} {first[name]:>9.0f} {first[name] / first['keras']:>7.2f} {later[name]:>9.0f} {later[name] / later['keras']:>7.2f} "
              f"{memory:>16.0f}", flush=True)


def with_tfcnn(source: Path) -> dict:
    import tfcnn
    from tfcnn.data.dataset import training_batches

    start = time.perf_counter()
    data = tfcnn.load_images(source, image_size=SIZE, split=(0.98, 0.01, 0.01) if len(list(source.glob("*/*"))) > 8 else (0.5, 0.25, 0.25))
    steps = -(-len(data.rows("train")) // BATCH)
    stream = iter(training_batches(data, batch_size=BATCH, augmentation="none", seed=0, epochs=EPOCHS))  # one for all epochs, as `train` has it
    return epochs_of(lambda epoch: islice(stream, steps), start)


def with_keras(source: Path) -> dict:
    import keras

    start = time.perf_counter()
    dataset = keras.utils.image_dataset_from_directory(source, image_size=(SIZE, SIZE), batch_size=BATCH, seed=0, verbose=0)
    return epochs_of(lambda epoch: dataset, start)


def with_keras_cache(source: Path) -> dict:
    import keras
    import tensorflow as tf

    start = time.perf_counter()
    dataset = keras.utils.image_dataset_from_directory(source, image_size=(SIZE, SIZE), batch_size=BATCH, seed=0, verbose=0)
    dataset = dataset.cache().prefetch(tf.data.AUTOTUNE)
    return epochs_of(lambda epoch: dataset, start)


def with_expert(source: Path, *, antialias: bool = False, cached: bool = False) -> dict:
    """tf.data as an expert writes it: parallel reads, decoding at the DCT scale that suffices, no order kept, prefetching."""
    import tensorflow as tf

    start = time.perf_counter()
    classes = sorted(folder.name for folder in source.iterdir())
    files = sorted(source.glob("*/*"))
    labels = [classes.index(file.parent.name) for file in files]

    def decode(path, label):
        content = tf.io.read_file(path)
        height, width = tf.unstack(tf.io.extract_jpeg_shape(content)[:2])
        scale = tf.minimum(height, width) // SIZE
        pixels = tf.case([(scale >= ratio, lambda ratio=ratio: tf.io.decode_jpeg(content, channels=3, ratio=ratio)) for ratio in (8, 4, 2)],
                         default=lambda: tf.io.decode_jpeg(content, channels=3))
        return tf.image.resize(pixels, (SIZE, SIZE), antialias=antialias), label

    paths = tf.data.Dataset.from_tensor_slices(([str(file) for file in files], labels))
    if cached:
        dataset = paths.map(decode, num_parallel_calls=tf.data.AUTOTUNE).cache().shuffle(len(files))
    else:
        dataset = paths.shuffle(len(files)).map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
    dataset = dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return epochs_of(lambda epoch: dataset, start)


ROWS = {
    "keras": with_keras,
    "keras, cache": with_keras_cache,
    "tf.data expert": with_expert,
    "tf.data expert, antialiased": lambda source: with_expert(source, antialias=True),
    "tf.data, cache, shuffled": lambda source: with_expert(source, cached=True),
    "tfcnn": with_tfcnn,
}


def epochs_of(dataset_of, start: float) -> dict:
    """Seconds of each epoch, the first from `start`, photos in one, and the peak memory of the process in megabytes."""
    import resource

    seconds = []
    for epoch in range(EPOCHS):
        photos = sum(int(batch[0].shape[0]) for batch in dataset_of(epoch))
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    return {"epochs": seconds, "photos": photos, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def training(source: Path, weights: Path) -> None:
    """How fast the input of a training is, and how fast the training."""
    import keras
    import tensorflow as tf

    import tfcnn
    from tfcnn.data.dataset import training_batches

    data = tfcnn.load_images(source, image_size=SIZE)
    photos = len(data.rows("train"))

    def stream(augmentation, epochs):
        return training_batches(data, batch_size=16, augmentation=augmentation, seed=0, epochs=epochs)

    print(f"\ntraining of MobileNetV3-Small, three stages open, batches of 16, {photos} photos: photos a second, median of 3 epochs")
    for augmentation in ("none", "light", "medium", "strong"):
        batches, seconds = iter(stream(augmentation, 4)), []
        for _ in range(4):
            start = time.perf_counter()
            for _ in islice(batches, -(-photos // 16)):
                pass
            seconds.append(time.perf_counter() - start)
        print(f"  input alone, augmentation {augmentation:<8} {photos / statistics.median(seconds[1:]):>8.0f}")
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=data.labels, weights=str(weights))
    tfcnn.set_trainable(model, 3)
    model.compile(keras.optimizers.AdamW(1e-5), "categorical_crossentropy")
    batch = next(iter(stream("medium", 1)))
    steps = -(-photos // 16)
    for name, dataset in (("a batch that lies in memory", tf.data.Dataset.from_tensors(batch).repeat()), ("medium, from the store", stream("medium", 4))):
        times = [time.perf_counter()]
        clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs, times=times: times.append(time.perf_counter()))
        model.fit(dataset, epochs=4, steps_per_epoch=steps, shuffle=False, callbacks=[clock], verbose=0)
        print(f"  training on {name:<28} {photos / statistics.median(np.diff(times)[1:]):>8.0f}", flush=True)  # the first epoch traces


if __name__ == "__main__":
    main()
