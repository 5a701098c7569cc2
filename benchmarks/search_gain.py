"""What a search of ten minutes gains over the default recipe, on photos that chose nothing.

    python benchmarks/search_gain.py [--seeds 0 1 2] [--time-limit 10m] [--source trashnet600]

Each seed is another split of the same photos: 70 % training, 10 % validation, 20 % test. Both ways see the same split and begin with an empty
cache; each tests its network once, at its end. MobileNetV3-Small with ImageNet weights recovered from an 8-bit file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
WEIGHTS = DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--time-limit", default="10m")
    parser.add_argument("--source", default="trashnet600")
    args = parser.parse_args()
    print(f"{args.source}, searches of {args.time_limit} on {os.cpu_count()} cores")
    print(f"{'':<6}{'the defaults':^38}{'the search':^52}")
    print(f"{'seed':<6}{'seconds':>8}{'validation':>12}{'log loss':>9}{'test':>9}"
          f"{'seconds':>9}{'heads':>6}{'tuned':>6}{'best':>20}{'validation':>12}{'test':>9}",
          flush=True)
    pairs = []
    for seed in args.seeds:
        common = [str(DATA / args.source), "--backbone", "mobilenet_v3_small", "--weights", str(WEIGHTS), "--seed", str(seed)]
        default, default_seconds, _ = tfcnn("train", *common)
        found, seconds, trials = tfcnn("search", *common, "--time-limit", args.time_limit)
        done = [trial["level"] for trial in trials if trial["status"] == "COMPLETED"]
        best = found["best"]
        pairs.append((default["test"]["accuracy"], found["test"]["accuracy"]))
        print(f"{seed:<6}{default_seconds:>8.0f}{default['validation']['accuracy']:>12.3f}{default['validation']['log_loss']:>9.3f}{pairs[-1][0]:>9.3f}"
              f"{seconds:>9.0f}{done.count('heads'):>6}{done.count('fine-tunings'):>6}{best['level'] + ' ' + str(best['id']):>20}{best['accuracy']:>12.3f}"
              f"{pairs[-1][1]:>9.3f}", flush=True)
    gains = [100 * (ours - theirs) for theirs, ours in pairs]
    tell = lambda values: f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0:.1f}"
    print(f"test accuracy, mean ± sd: defaults {tell([100 * theirs for theirs, _ in pairs])}, search {tell([100 * ours for _, ours in pairs])}, "
          f"gain {tell(gains)} points")


def tfcnn(command: str, *arguments: str) -> tuple[dict, float, list]:
    """What a command says, its seconds, and the trials of a search."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "tfcnn", command, *arguments, "--output", f"{folder}/run", "--json"], capture_output=True, text=True,
                              env={**os.environ, "TFCNN_CACHE": f"{folder}/cache"})
        seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(f"tfcnn {command} failed: {done.stderr.strip().splitlines()[-1]}")
        record = Path(folder) / "run" / "search.json"
        trials = json.loads(record.read_text(encoding="utf-8"))["trials"] if record.exists() else []
        return json.loads(done.stdout.strip().splitlines()[-1]), seconds, trials


if __name__ == "__main__":
    main()
