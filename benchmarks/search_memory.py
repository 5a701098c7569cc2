"""Peak memory of a search after few and after many fine-tuning trials, of its own process and of those of its trials.

    python benchmarks/search_memory.py [--trials 30] [--early 3]

A MobileNet without pretrained weights at 32 pixels on flowers128, one epoch a trial, so that trials are short; what a process keeps of a
trial does not depend on its length. The peaks are what Linux counts (VmHWM), looked at ten times a second.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--early", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "search"
        command = [sys.executable, "-m", "tfcnn", "search", str(DATA / "flowers128"), "--backbone", "mobilenet", "--weights", "none", "--image-size", "32",
                   "--epochs", "1", "--trials", "2", "--fine-tune", str(args.trials), "--algorithm", "random", "--fields", "learning_rate", "logistic_c",
                   "--output", str(output)]
        peaks: dict[int, tuple[float, float]] = {}  # by number of trials that ended: the process of the search, the largest of a trial
        largest = 0.0
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TFCNN_CACHE": f"{folder}/cache"}) as search:
            while search.poll() is None:
                largest = max([largest, *(peak_of(child) for child in children_of(search.pid))])
                peaks.setdefault(ended(output), (peak_of(search.pid), largest))  # at once: what the end of the search takes is not of its trials
                time.sleep(0.1)
        assert search.returncode == 0
        done = sum(trial["status"] == "COMPLETED" for trial in json.loads((output / "state" / "fine-tunings.json").read_text())["trials"])
    print(f"{done} of {args.trials} trials completed; peak memory in MB")
    print(f"{'after trials':<14}{'the search':>12}{'largest trial':>15}")
    for count in (args.early, args.trials):
        own, trial = peaks[count]
        print(f"{count:<14}{own:>12.0f}{trial:>15.0f}")
    print(f"{'ratio':<14}{peaks[args.trials][0] / peaks[args.early][0]:>12.3f}{peaks[args.trials][1] / peaks[args.early][1]:>15.3f}")


def peak_of(pid: int) -> float:
    """The most memory of a process, in MB; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as lines:
            return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), 0.0)
    except (OSError, UnicodeDecodeError):
        return 0.0


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def ended(output: Path) -> int:
    """How many fine-tunings have ended."""
    try:
        return len(json.loads((output / "state" / "fine-tunings.json").read_text())["end_order"])
    except (OSError, ValueError):
        return 0


if __name__ == "__main__":
    main()
