"""AdrenalMNIST3D with its official split: area under the ROC curve, accuracy and balanced accuracy over seeds, beside the majority answer.

    python benchmarks/volumes.py [--network cnn_3d] [--sizes 32 64] [--seeds 0 1 2 3 4]

1188 volumes to learn from, 98 validate, 298 are the test; two labels. What `train` does where nothing is said: about 1500 steps of AdamW, volumes flipped,
some turned, scaled, shifted and with noise. 64³ has eight times the voxels and gets 8 epochs in place of 20, to stay within minutes. The last columns
are the .tflite against Keras on every test volume. The figure of the paper is that of ResNet-18 with 3-D convolutions on 28 x 28 x 28 voxels (Yang et
al. 2023, "MedMNIST v2", benchmark of MedMNIST3D).
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
VOLUMES = Path(os.environ.get("TFCNN_DATA", "../shared/data")) / "volumes"
EPOCHS = {64: 8}  # in place of those of `train`
PAPER = "0.827    0.721"  # area under the curve and accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="cnn_3d")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    print(f"AdrenalMNIST3D, test split, {args.network}, {os.cpu_count()} cores\n"
          f"{'voxels':<14}{'seed':>5}{'epochs':>8}{'seconds':>9}{'AUC':>9}{'accuracy':>10}{'balanced':>10}{'tflite':>10}{'difference':>12}", flush=True)
    for size in args.sizes:
        rows = []
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(one_run(Path(folder), args.network, size, seed))
        mean_sd = "  ".join(f"{name} {statistics.mean(values):.3f} ± {statistics.stdev(values) if len(values) > 1 else 0:.3f}"
                            for name, values in zip(("AUC", "accuracy", "balanced accuracy"), zip(*rows, strict=True), strict=True))
        print(f"{size}³, mean ± sd of {len(rows)}: {mean_sd}", flush=True)
    print(f"{'majority':<14}{'':>22}{0.5:>9.3f}{majority():>10.3f}{0.5:>10.3f}\n{'paper, 28³':<14}{'':>26}{PAPER}")


def one_run(folder: Path, network: str, size: int, seed: int) -> tuple[float, float, float]:
    """Area under the curve, accuracy and balanced accuracy on the test; prints a row."""
    import keras

    import tfcnn
    from tfcnn.models.build import build_for_volumes
    from tfcnn.models.classifier import ModelConfig

    data = tfcnn.load_volumes(VOLUMES / f"adrenalmnist3d_{size}.npz", seed=seed)
    keras.utils.set_random_seed(seed)
    model = build_for_volumes(ModelConfig(network, "none"), data.labels, data.input_shape, data.facts)
    start = time.perf_counter()
    run = tfcnn.train(model, data, tfcnn.TrainingConfig(seed=seed, epochs=EPOCHS.get(size)), output=folder / "run")
    seconds = time.perf_counter() - start
    report = tfcnn.evaluate(run, data)
    (file,) = tfcnn.export(run, data, formats=["tflite_float32"])
    print(f"{size:>3} x {size} x {size}  {seed:>5}{run.record['training']['epochs']:>8}{seconds:>9.0f}{report.roc_auc:>9.3f}{report.accuracy:>10.3f}"
          f"{report.balanced_accuracy:>10.3f}{round(file.agreement * file.n):>6}/{file.n}{file.max_score_difference:>12.1e}", flush=True)
    keras.utils.clear_session()
    return report.roc_auc, report.accuracy, report.balanced_accuracy


def majority() -> float:
    """Accuracy of the most frequent training label on the test."""
    import numpy as np

    with np.load(VOLUMES / "adrenalmnist3d_32.npz") as file:
        train, test = file["train_labels"].ravel(), file["test_labels"].ravel()
    return float((test == np.bincount(train).argmax()).mean())


if __name__ == "__main__":
    main()
