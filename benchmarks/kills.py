"""Kills a training with `kill -9` at random moments, resumes it, and compares the weights with those of an undisturbed one, bit for bit.

python benchmarks/kills.py [--kills 20] [--seed 0]

The training is that of a MobileNetV3-Small on trashnet600 at 64 pixels, three epochs of fine-tuning, a checkpoint at every step. Each
kill hits a training of its own at a moment drawn evenly between the loading of TensorFlow and its end; then it is resumed once.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SHARED = Path(os.environ.get("TFCNN_DATA") or Path(__file__).parents[2] / "shared" / "data")
WEIGHTS = SHARED / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5"
LOADED = "load TensorFlow"  # the stage after which the work begins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _, loaded, ended = train(root, "undisturbed")
        undisturbed = weights_of(root / "undisturbed")
        print(f"undisturbed: {ended - loaded:.1f} s from the loading of TensorFlow to the end", flush=True)
        equal = 0
        for number in range(args.kills):
            shutil.rmtree(root / "cache")  # so that the features are made anew, too
            after = draw.uniform(0, ended - loaded)
            said, *_ = train(root, "killed", kill_after=after)
            left = sorted(file.name for file in (root / "killed" / "checkpoint").glob("*") if "best" not in file.name)
            stage = said[-1].split("  ")[0] if said else "nothing"
            train(root, "killed", "--resume")
            same = all(np.array_equal(one, other) for one, other in zip(undisturbed, weights_of(root / "killed"), strict=True))
            equal += same
            print(f"kill {number + 1:2} after {after:5.1f} s, last stage done: {stage:<28} left: {', '.join(left) or 'no checkpoint'}; "
                  f"{'equal' if same else 'DIFFERENT'}", flush=True)
            shutil.rmtree(root / "killed")
    print(f"{equal} of {args.kills} resumed runs have the weights of the undisturbed one, bit for bit")
    sys.exit(equal < args.kills)


def train(root: Path, name: str, *more: str, kill_after: float | None = None) -> tuple[list[str], float, float]:
    """(lines it said, when TensorFlow was loaded, when it ended) of a training, which is killed so many seconds after the loading."""
    command = [sys.executable, "-m", "tfcnn", "train", str(SHARED / "trashnet600"), "--weights", str(WEIGHTS), "--image-size", "64", "--trainable", "1",
               "--epochs", "3", "--patience", "2", "--ema", "0.9", "--export", "none", "--checkpoint-steps", "1", "--output", str(root / name), *more]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ, "TFCNN_CACHE": str(root / "cache")})
    lines, loaded = [], None
    os.set_blocking(process.stderr.fileno(), False)
    while process.poll() is None:
        line = process.stderr.readline()
        if line:
            lines.append(line.strip())
        else:
            time.sleep(0.02)
        if loaded is None and lines and lines[-1].startswith(LOADED):
            loaded = time.monotonic()
        if kill_after is not None and loaded and time.monotonic() - loaded >= kill_after:
            process.send_signal(signal.SIGKILL)
            process.wait()
    ended = time.monotonic()
    process.stderr.close()
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit("\n".join(lines[-10:]))
    return [line for line in lines if line.endswith(" s")], loaded or ended, ended


def weights_of(run: Path) -> list[np.ndarray]:
    import tfcnn

    return tfcnn.load_run(run).load_model().get_weights()


if __name__ == "__main__":
    main()
