"""Kills a training with `kill -9` at random moments, resumes it, and compares the weights with those of an undisturbed one, bit for bit.

python benchmarks/kills.py [--kills 20] [--seed 0]

The training is that of a MobileNetV3-Small on trashnet600 at 64 pixels, three epochs of fine-tuning, a checkpoint at every step. Each
kill hits a training of its own, which is then resumed once. Its moment is drawn by what the training is at, since seconds mean
something else on a busy machine: of 20, four before the first checkpoint, ten in steps of the fine-tuning, four while a checkpoint is
written, and two after the last one.
"""

import argparse
import os
import random
import re
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
EPOCHS, STEPS = 3, 81  # of the fine-tuning, in all: 420 photos in batches of 16
STEP_SECONDS = 0.3  # up to which a kill comes later than the step that was drawn
BEFORE, STEPPING, WRITING, AFTER = "before a checkpoint", "in a step", "while one is written", "after the last one"
KINDS = (STEPPING, BEFORE, STEPPING, WRITING, STEPPING) * 3 + (STEPPING, BEFORE, AFTER, WRITING, AFTER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        beginnings = []  # seconds from the loading of TensorFlow to the first checkpoint
        train(root, "undisturbed", until=lambda done, is_writing, seconds: beginnings.append(seconds) if done and not beginnings else None)
        undisturbed = weights_of(root / "undisturbed")
        equal = 0
        for number in range(args.kills):
            shutil.rmtree(root / "cache")  # so that the features are made anew, too
            kind = KINDS[number % len(KINDS)]
            while not train(root, "killed", until=moment(kind, draw, beginnings[0])):  # it was over before the moment came
                shutil.rmtree(root / "killed")
            left = sorted(file.name for file in (root / "killed" / "checkpoint").glob("*"))
            train(root, "killed", "--resume")
            same = all(np.array_equal(one, other) for one, other in zip(undisturbed, weights_of(root / "killed"), strict=True))
            equal += same
            print(f"kill {number + 1:2}, {kind:<22} left: {', '.join(left) or 'no checkpoint'}; {'equal' if same else 'DIFFERENT'}", flush=True)
            shutil.rmtree(root / "killed")
    print(f"{equal} of {args.kills} resumed runs have the weights of the undisturbed one, bit for bit")
    sys.exit(equal < args.kills)


def moment(kind: str, draw: random.Random, beginning: float):
    """A function of (steps done, whether a checkpoint is being written, seconds since the loading) that is true once the moment has come."""
    step, delay, reached = draw.randrange(1, STEPS), draw.uniform(0, STEP_SECONDS), []
    before = draw.uniform(0, beginning)

    def has_come(done: int, is_writing: bool, seconds: float) -> bool:
        if kind == BEFORE:
            return seconds >= before
        if kind == WRITING:
            return done >= step and is_writing
        if done >= (STEPS if kind == AFTER else step):
            reached.append(seconds)
        return bool(reached) and seconds - reached[0] >= delay

    return has_come


def train(root: Path, name: str, *more: str, until=lambda done, is_writing, seconds: False) -> bool:
    """A training, which is killed when `until` says so; gives whether it was."""
    command = [sys.executable, "-m", "tfcnn", "train", str(SHARED / "trashnet600"), "--weights", str(WEIGHTS), "--image-size", "64", "--trainable", "1",
               "--epochs", str(EPOCHS), "--patience", "2", "--ema", "0.9", "--export", "none", "--checkpoint-steps", "1", "--output", str(root / name), *more]
    log = root / "log"
    with open(log, "w") as said:
        process = subprocess.Popen(command, stderr=said, stdout=subprocess.DEVNULL, env={**os.environ, "TFCNN_CACHE": str(root / "cache")})
    loaded = None
    while process.poll() is None:
        if loaded is None and LOADED in log.read_text():
            loaded = time.monotonic()
        if loaded is not None and until(*position(root / name / "checkpoint"), time.monotonic() - loaded):
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(0.002)
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(log.read_text()[-2000:])
    return process.returncode != 0


def position(folder: Path) -> tuple[int, bool]:
    """(steps of the newest checkpoint, whether one is being written); all steps where the training is over."""
    names = os.listdir(folder) if folder.is_dir() else []
    if not names:
        return (STEPS if (folder.parent / "model.keras").exists() else 0), False
    found = [re.fullmatch(r"epoch-(\d+)-step-(\d+)\.npz", name) for name in names]
    return max((int(at[1]) * STEPS // EPOCHS + int(at[2]) for at in found if at), default=0), any(name.startswith(".tmp-") for name in names)


def weights_of(run: Path) -> list[np.ndarray]:
    import tfcnn

    return tfcnn.load_run(run).load_model().get_weights()


if __name__ == "__main__":
    main()
