"""Audit, split, store and one epoch on many photos: seconds a photo and peak memory, from 1,000 to 100,000.

    python benchmarks/scale.py [--counts 1000 10000 100000]

The photos are made: soft random colours with grain, 128 px JPEGs in ten classes, all different. Each step runs in a process
of its own at 96 px; its seconds leave the import of TensorFlow out, its memory does not. `load` finds what the audit has decoded;
`load, empty store` decodes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

SIZE, CLASSES = 96, 10
STEPS = ("audit", "load", "epoch", "load, empty store")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        print(json.dumps(run_step(args.step, args.folder)))
        return
    print(f"{'photos':>8}  " + "".join(f"{step + ', ms a photo':>32}" for step in STEPS) + f"{'peak memory, MB':>18}", flush=True)
    for count in args.counts:
        with tempfile.TemporaryDirectory() as folder:
            make_photos(Path(folder) / "photos", count)
            results = [measure(step, Path(folder)) for step in STEPS]
        print(f"{count:>8}  " + "".join(f"{1000 * result['seconds'] / count:>32.3f}" for result in results) + f"{max(r['memory'] for r in results):>18.0f}",
              flush=True)


def measure(step: str, folder: Path) -> dict:
    cache = folder / ("cache-empty" if "empty" in step else "cache")
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder / "photos")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TFCNN_CACHE": str(cache)})
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_step(step: str, folder: Path) -> dict:
    """Seconds and peak memory of one step in this process, after the same on sixty photos, so that imports and tracing do not count."""
    import resource

    with tempfile.TemporaryDirectory() as small:
        make_photos(Path(small) / "photos", 60)
        seconds_of(step, Path(small) / "photos")
    return {"seconds": seconds_of(step, folder), "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def seconds_of(step: str, folder: Path) -> float:
    import tensorflow as tf

    import tfcnn
    from tfcnn.data.dataset import training_batches

    data = tfcnn.load_images(folder, image_size=SIZE) if step == "epoch" else None
    start = time.perf_counter()
    if step == "audit":
        tfcnn.audit(folder, image_size=SIZE, output=folder.parent / "audit")
    elif step == "epoch":
        for pixels, _ in training_batches(data, batch_size=64, augmentation="none", seed=0):
            tf.reduce_max(pixels)
    else:
        tfcnn.load_images(folder, image_size=SIZE)
    return time.perf_counter() - start


def make_photos(folder: Path, count: int) -> None:
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(make_some, [folder] * 100, range(100), [count] * 100))


def make_some(folder: Path, part: int, count: int) -> None:
    """Every hundredth photo."""
    from PIL import Image

    for number in range(part, count, 100):
        rng = np.random.default_rng(number)
        soft = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((128, 128), Image.Resampling.BICUBIC)
        grain = rng.integers(-12, 13, (128, 128, 1))
        Image.fromarray(np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8)).save(folder / f"class{number % CLASSES}" / f"{number:06d}.jpg", quality=85)


if __name__ == "__main__":
    main()
