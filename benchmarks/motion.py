"""Motion that no single frame tells: a 3-D network, frames one by one, and an inflated backbone of photos on videos of squares that move.

    python benchmarks/motion.py [--ways cnn_3d frames inflated] [--videos 100] [--seeds 0 1 2] [--weights FILE]

Made videos, written to .mp4 files and read back: a square of random colour, size, speed and place moves to the left or to the right and comes in again
where it went out, so that single frames of both labels are alike. `frames` and `inflated` are MobileNetV3-Small at 48 pixels with ImageNet weights
(recovered from an 8-bit file), the first with its cached features and the head alone, the second fine-tuned; otherwise what `train` does where nothing
is said, but 40 epochs for `cnn_3d`. A third of the videos is the test.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
WEIGHTS = Path(os.environ.get("TFCNN_DATA", "../shared/data")) / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5"
FRAMES, SIDE, RATE, EPOCHS = 16, 48, 12, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", default=["cnn_3d", "frames", "inflated"], choices=["cnn_3d", "frames", "inflated"])
    parser.add_argument("--videos", type=int, default=100, help="of each label")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--weights", default=str(WEIGHTS))
    args = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    print(f"test accuracy in % on moving squares, {2 * args.videos} videos, {os.cpu_count()} cores; .tflite: answers like those of Keras\n"
          f"{'network':<12}" + "".join(f"{f'seed {seed}':>10}" for seed in args.seeds) + f"{'mean ± sd':>16}{'seconds':>10}{'.tflite':>12}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            write_videos(Path(folder) / str(seed), args.videos, seed)
        for way in args.ways:
            rows = [one_run(Path(folder) / str(seed), way, seed, args.weights) for seed in args.seeds]
            accuracies, seconds, agreements = zip(*rows, strict=True)
            sd = statistics.stdev(accuracies) if len(accuracies) > 1 else 0
            print(f"{way:<12}" + "".join(f"{accuracy:>10.1f}" for accuracy in accuracies)
                  + f"{f'{statistics.mean(accuracies):.1f} ± {sd:.1f}':>16}{statistics.median(seconds):>10.0f}{min(agreements):>12.3f}", flush=True)


def one_run(folder: Path, way: str, seed: int, weights: str) -> tuple[float, float, float]:
    """(test accuracy in %, seconds of the training, share of the answers in which the .tflite agrees)."""
    import keras

    import tfcnn
    from tfcnn.models.build import build_for_videos
    from tfcnn.models.classifier import ModelConfig

    data = tfcnn.load_videos(folder, seed=seed, split=(0.56, 0.11, 0.33))
    keras.utils.set_random_seed(seed)
    config, training = ModelConfig("cnn_3d", "none"), tfcnn.TrainingConfig(seed=seed, epochs=EPOCHS)
    if way != "cnn_3d":
        config = ModelConfig("mobilenet_v3_small", weights, image_size=SIDE, frames={"frames": "pool", "inflated": "inflate"}[way])
        training = tfcnn.TrainingConfig(seed=seed, trainable=False if way == "frames" else None)
    model = build_for_videos(config, data.labels, data.input_shape, data.facts)
    start = time.perf_counter()
    run = tfcnn.train(model, data, training, output=folder.parent / f"run-{way}-{seed}")
    seconds = time.perf_counter() - start
    accuracy = 100 * tfcnn.evaluate(run, data).accuracy
    (file,) = tfcnn.export(run, data, formats=["tflite_float32"])
    keras.utils.clear_session()
    return accuracy, seconds, file.agreement


def write_videos(folder: Path, count: int, seed: int) -> None:
    """Class folders `left` and `right` with so many files each."""
    import av

    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for label, sign in (("left", -1), ("right", 1)):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            (down, across), speed, size = random.uniform(0, SIDE, 2), sign * random.uniform(1.5, 3.5), random.integers(8, 15)
            ground, colour = random.integers(0, 100, 3), random.integers(150, 256, 3)
            with av.open(str(folder / label / f"{number:03d}.mp4"), "w") as container:
                stream = container.add_stream("libx264", rate=RATE, options={"crf": "12"})
                stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "yuv420p"
                for frame in range(FRAMES):
                    inside = ((columns - across - speed * frame) % SIDE < size) & ((rows - down) % SIDE < size)
                    pixels = np.where(inside[..., None], colour, ground).astype(np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
                container.mux(stream.encode())


if __name__ == "__main__":
    main()
