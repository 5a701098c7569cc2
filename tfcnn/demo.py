"""The whole flow on handwritten digits that come with scikit-learn: what transfer buys, shown in a minute."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfcnn.data.dataset import Dataset
from tfcnn.data.images import load_images
from tfcnn.errors import InputError
from tfcnn.evaluation.evaluate import evaluate
from tfcnn.finish import finish
from tfcnn.models.classifier import build_classifier
from tfcnn.models.cnn import build_features
from tfcnn.progress import stage
from tfcnn.record import Run, load_run, prepare_output
from tfcnn.training.config import TrainingConfig
from tfcnn.training.train import train

SIDE = 32  # the 8x8 scans, each pixel repeated: MediaPipe takes RGB photos, and 8x8 leaves no room for pooling
FEW = (0.015, 0.04, 0.945)  # of the digits 5 to 9: three scans a digit to learn from, most of the rest to be tested on
FILTERS = (32, 64, 128)
FORMATS = ("saved_model", "tflite_float32", "tflite_float16", "tflite_dynamic", "tflite_int8", "tflite_int8_mixed")
PRETRAINING = TrainingConfig(trainable=True, epochs=30, batch_size=32, learning_rate=2e-3, head_learning_rate=2e-3, label_smoothing=0.0, mirror=False)
# Both ways train as long and at the same rates; transfer keeps the first block frozen, from scratch opens all three.
TRANSFER = replace(PRETRAINING, trainable=2, epochs=40, batch_size=8, augmentation="none")
FROM_SCRATCH = replace(TRANSFER, trainable=True)


def run_demo(output: str | Path, *, seeds: int = 5) -> dict:
    """Pretrains a small CNN on the digits 0-4, transfers it to 5-9 with few examples, exports, and checks the files.

    Args:
        output: run folder of the transferred model of the first seed.
        seeds: how often the comparison with training from scratch is repeated, each time on other few examples.

    Returns:
        `transfer` and `scratch` test accuracies by seed, `train_n`, `test`, `exports`, `run`, `seconds`, and `text`.
    """
    if seeds < 1:
        raise InputError(f"expected at least one seed, got seeds={seeds}")
    import keras

    output = Path(output)
    replaces = _is_demo(output)
    prepare_output(output, overwrite=replaces)
    started = time.perf_counter()
    few = [digit_scans(range(5, 10), split=FEW, seed=seed) for seed in range(seeds)]
    transferred, scratch = [], []
    with tempfile.TemporaryDirectory() as folder:
        keras.utils.set_random_seed(0)
        backbone = build_features((SIDE, SIDE, 3), filters=FILTERS)
        with stage("pretrain on the digits 0-4"):
            _train(backbone, digit_scans(range(5), split=(0.7, 0.1, 0.2), seed=0), PRETRAINING, Path(folder) / "pretrained")
        pretrained = backbone.get_weights()
        for seed, data in enumerate(few):
            with stage(f"transfer to the digits 5-9, seed {seed}"):
                backbone.set_weights(pretrained)
                run = _train(backbone, data, replace(TRANSFER, seed=seed), output if seed == 0 else Path(folder) / f"transfer-{seed}",
                             overwrite=replaces and seed == 0)
                transferred.append(evaluate(run, data).accuracy)
            with stage(f"the same from scratch, seed {seed}"):
                keras.utils.set_random_seed(seed)
                run = _train(build_features((SIDE, SIDE, 3), filters=FILTERS), data, replace(FROM_SCRATCH, seed=seed), Path(folder) / f"scratch-{seed}")
                scratch.append(evaluate(run, data).accuracy)
    run = finish(load_run(output), few[0], formats=FORMATS, started=started)
    return _result(run, few[0], transferred, scratch)


def digit_scans(digits: range, *, split: tuple[float, float, float], seed: int) -> Dataset:
    """Scans of these digits as RGB photos of SIDE x SIDE pixels, 0-255."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    chosen = np.isin(scans.target, list(digits))
    pixels = np.kron(scans.images[chosen] * (255 / 16), np.ones((1, SIDE // 8, SIDE // 8)))
    images = np.repeat(np.round(pixels).astype(np.uint8)[..., None], 3, axis=-1)
    return load_images((images, scans.target[chosen]), split=split, seed=seed)


def _train(backbone, data: Dataset, config: TrainingConfig, output: Path, *, overwrite: bool = False) -> Run:
    return train(build_classifier(backbone, labels=data.labels, weights=None), data, config, output=output, overwrite=overwrite)


def _is_demo(output: Path) -> bool:
    """True where the folder holds an earlier demo, which may be replaced without asking."""
    if not (output / "run.json").exists():
        return False
    try:
        record = load_run(output).record
    except InputError as error:
        raise InputError(f"{error}; or remove '{output}', or give another --output") from error
    return record["labels"] == list("56789") and not record["data"]["source"]


def _result(run: Run, data: Dataset, transferred: list[float], scratch: list[float]) -> dict:
    examples = len(data.rows("train"))
    gain = np.mean(transferred) - np.mean(scratch)
    text = f"""
Digits 5-9 from {examples} examples, tested on {run.record["test"]["n"]}, {len(transferred)} draws of the examples (mean and standard deviation):
  the same network from scratch            {np.mean(scratch):.3f} ± {np.std(scratch):.3f}
  transferred from the digits 0-4          {np.mean(transferred):.3f} ± {np.std(transferred):.3f}   ({100 * gain:+.1f} points)

The transferred network of draw 0 as files, each run on all {run.record["test"]["n"]} test scans:
"""
    return {"text": text, "run": str(run.path), "train_n": examples, "test": run.record["test"], "exports": run.record["exports"],
            "transfer": transferred, "scratch": scratch, "seconds": run.record["seconds"]["total"]}
