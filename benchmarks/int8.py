"""What each small format loses against Keras on real photos, over several splits, and what the automatic ladder settles on.

    python benchmarks/int8.py [--seeds 5] [--backbones mobilenet_v2 mobilenet_v3_small]

Each seed draws its own split of `trashnet600`, trains with all defaults, and exports every rung of the ladder. Drops are paired:
the same 120 test photos a split in Keras and in the file. The splits are of the same 600 photos and so not independent: the interval is
that of the corrected resampled t (Nadeau and Bengio 2003, Machine Learning 52, section 3.2), 90 % two-sided. Last, the ladder runs on a copy of the
first run whose calibration photos were replaced by faint noise. The ImageNet weights are recovered from 8-bit files.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from scipy import stats

import tfcnn
from tfcnn.export.ladder import LADDER

TEST_OVER_TRAIN = 0.2 / 0.7  # photos, of the default split
DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
WEIGHTS = {"mobilenet_v3_small": "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5", "mobilenet_v2": "mobilenet_v2_1.0_224_from_ptq_no_top.h5"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(WEIGHTS), choices=WEIGHTS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=224)
    args = parser.parse_args()
    logging.getLogger("tfcnn").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        for backbone in args.backbones:
            results: dict[str, list] = {name: [] for name in LADDER}
            for seed in range(args.seeds):
                run = train(backbone, seed, args.image_size, Path(folder) / f"{backbone}-{seed}")
                for export in tfcnn.export(run, formats=LADDER):
                    results[export.format].append(export)
                print(f"{backbone} seed {seed}: Keras {results[LADDER[0]][-1].keras_accuracy:.3f}; "
                      + ", ".join(f"{name[7:]} {rows[-1].accuracy:.3f}" for name, rows in results.items()), flush=True)
            show(backbone, results)
        planted(Path(folder) / f"{args.backbones[-1]}-0", Path(folder) / "noise")


def train(backbone: str, seed: int, image_size: int, output: Path):
    """A run with all defaults on the split of this seed."""
    data = tfcnn.load_images(DATA / "trashnet600", image_size=image_size, seed=seed)
    model = tfcnn.build_classifier(backbone, labels=data.labels, weights=str(DATA / "weights" / WEIGHTS[backbone]), image_size=image_size)
    return tfcnn.train(model, data, tfcnn.TrainingConfig(seed=seed), output=output)


def show(backbone: str, results: dict[str, list]) -> None:
    """One line a format, over all splits."""
    print(f"\n{backbone}: points of accuracy lost against Keras, mean ± sd over {len(results[LADDER[0]])} splits; 90 % interval of the mean over splits")
    print(f"{'format':<20}{'MB':>7}{'lost':>14}{'interval':>16}{'agreement':>11}{'accepted':>10}")
    for name, rows in results.items():
        drops = [100 * row.accuracy_drop for row in rows]
        sd = statistics.stdev(drops) if len(drops) > 1 else 0.0
        half = stats.t.ppf(0.95, len(drops) - 1) * sd * (1 / len(drops) + TEST_OVER_TRAIN) ** 0.5 if len(drops) > 1 else float("nan")
        low, high = statistics.mean(drops) - half, statistics.mean(drops) + half
        print(f"{name:<20}{rows[0].bytes / 1e6:>7.2f}{f'{statistics.mean(drops):.1f} ± {sd:.1f}':>14}{f'{low:.1f} to {high:.1f}':>16}"
              f"{statistics.mean(r.agreement for r in rows):>11.3f}{f'{sum(r.accepted for r in rows)} of {len(rows)}':>10}")
    chosen = [next((name for name in LADDER if results[name][row].accepted), "none") for row in range(len(results[LADDER[0]]))]
    print(f"the ladder settles on: {', '.join(chosen)}")
    for rows in zip(*results.values(), strict=True):
        smallest = min((row for row in rows if row.accepted), key=lambda row: row.bytes, default=None)
        print(f"the smallest that lost at most 2 points: {smallest and f'{smallest.format}, {smallest.bytes / 1e6:.2f} MB'}")
    for split, row in enumerate(results["tflite_int8_mixed"]):
        layers = list(dict.fromkeys(row.details["float_layers"]))
        print(f"left in float by tflite_int8_mixed in split {split}, {len(layers)} of {row.details['layers']} layers: {', '.join(layers)}")
    print()


def planted(run: Path, copy: Path) -> None:
    """The ladder on a run whose calibration photos are faint noise, which hardly excites the network."""
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    with np.load(copy / "calibration.npz") as arrays:
        noise = np.random.default_rng(0).integers(120, 137, arrays["photos"].shape).astype(np.uint8)
        np.savez(copy / "calibration.npz", photos=noise, held_out=arrays["held_out"])
    record["calibration"]["sha256"] = hashlib.sha256((copy / "calibration.npz").read_bytes()).hexdigest()
    (copy / "run.json").write_text(json.dumps({**record, "exports": []}))
    print("planted: calibration photos replaced by noise, --format auto")
    for rung in tfcnn.export(copy, formats=["auto"]):
        print(f"{rung.format:<20}{rung.bytes / 1e6:>7.2f} MB  lost {100 * rung.accuracy_drop:>5.1f}  agreement {rung.agreement:.3f}  {rung.verdict}"
              f"{'  <- chosen' if rung.chosen else ''}")


if __name__ == "__main__":
    main()
