"""What temperature scaling does to the scores of test photos: log loss, Brier score and calibration error as they are and scaled.

    python benchmarks/temperature.py [--seeds 0 1 2 3 4] [--head]

Each seed is another split and training of trashnet600 by the default recipe, or with --head of the head alone. The temperature was fitted on
the validation photos, 60 of them. MobileNetV3-Small with ImageNet weights recovered from an 8-bit file.
"""

import argparse
import logging
import os
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tfcnn

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
WEIGHTS = DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5"
KINDS, NUMBERS = ("as_is", "calibrated"), ("log_loss", "brier", "error")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--head", action="store_true")
    args = parser.parse_args()
    logging.getLogger("tfcnn").setLevel(logging.ERROR)
    print(f"trashnet600, {'the head alone' if args.head else 'default recipe'}; test photos, as they are → scaled")
    print(f"{'seed':<6}{'photos':>7}{'accuracy':>10}{'temperature':>13}{'log loss':>18}{'Brier score':>18}{'calibration error':>20}", flush=True)
    rows = [tested(seed, args.head) for seed in args.seeds]
    changes = {name: [row["calibrated"][name] - row["as_is"][name] for row in rows] for name in NUMBERS}
    for name, values in changes.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0
        print(f"{name}: change {statistics.mean(values):+.3f} ± {spread:.3f}, lower in {sum(value < 0 for value in values)} of {len(values)} splits")


def tested(seed: int, head: bool) -> dict:
    training = tfcnn.TrainingConfig(seed=seed, trainable=False) if head else tfcnn.TrainingConfig(seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        model = tfcnn.ModelConfig(weights=str(WEIGHTS))
        run = tfcnn.train_and_export(DATA / "trashnet600", output=Path(folder) / "run", model=model, training=training, formats=())
    test = run.record["test"]
    told = test["calibration"]
    pairs = [f"{told['as_is'][name]:.3f} → {told['calibrated'][name]:.3f}" for name in NUMBERS]
    print(f"{seed:<6}{test['n']:>7}{test['accuracy']:>10.3f}{told['temperature']:>13.2f}{pairs[0]:>18}{pairs[1]:>18}{pairs[2]:>20}", flush=True)
    return told


if __name__ == "__main__":
    main()
