"""The table of export formats: how each file is written and how it is run again for the check."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfcnn.errors import WorkError
from tfcnn.export.metadata import write_metadata

COPIED = 64  # photos at a time, so that a large test split does not have to fit into memory


class Exporter(NamedTuple):
    """One format.

    Attributes:
        file: name of what it writes below `exports/`.
        write: (model, path, labels, calibration photos) → None.
        run: (path, photos uint8) → (scores (n, labels), milliseconds a photo at one thread, one photo at a time).
        exact: True where only float rounding separates it from Keras, so that nearly every answer must agree.
        calibrated: True where it needs training photos.
    """

    file: str
    write: Callable
    run: Callable
    exact: bool
    calibrated: bool = False


def write_saved_model(model, path: Path, labels: Sequence[str], calibration) -> None:
    """SavedModel with the signatures `serve` and `serving_default`: `image` in, `output_0` out; labels as an asset file."""
    model.export(path, format="tf_saved_model", verbose=False)
    assets = path / "assets"
    assets.mkdir(exist_ok=True)
    (assets / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")


def write_float32(model, path: Path, labels: Sequence[str], calibration) -> None:
    """TFLite, weights and arithmetic in float32."""
    _write_tflite(model, path, labels)


def write_float16(model, path: Path, labels: Sequence[str], calibration) -> None:
    """TFLite, weights stored in float16."""
    import tensorflow as tf

    _write_tflite(model, path, labels, optimizations=[tf.lite.Optimize.DEFAULT], target_types=[tf.float16])


def write_dynamic(model, path: Path, labels: Sequence[str], calibration) -> None:
    """TFLite, weights stored in 8 bits, activations quantised as they come."""
    import tensorflow as tf

    _write_tflite(model, path, labels, optimizations=[tf.lite.Optimize.DEFAULT])


def write_int8(model, path: Path, labels: Sequence[str], calibration: np.ndarray) -> None:
    """TFLite, all arithmetic in 8 bits, uint8 pixels in, uint8 scores out; ranges measured on the calibration photos."""
    import tensorflow as tf

    spanning = np.array(calibration)
    spanning[0, 0, 0], spanning[0, -1, -1] = 0, 255  # so that the input's range is 0-255 and its bytes are raw pixels

    def photos():
        for photo in spanning:
            yield {"image": photo[None].astype(np.float32)}

    _write_tflite(model, path, labels, optimizations=[tf.lite.Optimize.DEFAULT], operators=tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
                  representative_dataset=photos, inference_input_type=tf.uint8, inference_output_type=tf.uint8)
    scale, zero = _interpreter(path).get_input_details()[0]["quantization"]
    if abs(scale - 1.0) > 1e-3 or zero != 0:
        raise WorkError(f"expected an int8 file that takes raw pixels (scale 1, zero point 0), but the converter gave scale={scale:.4f}, "
                        f"zero point={zero}; use another format")


def run_saved_model(path: Path, photos: np.ndarray) -> tuple[np.ndarray, float]:
    """Runs the signature `serve` in a fresh Python process, which shows that the folder is all that is needed."""
    with tempfile.TemporaryDirectory() as folder:
        pixels, scores = Path(folder) / "photos.npy", Path(folder) / "scores.npz"
        copy = np.lib.format.open_memmap(pixels, mode="w+", dtype=np.uint8, shape=photos.shape)
        for start in range(0, len(photos), COPIED):
            copy[start:start + COPIED] = photos[start:start + COPIED]
        copy.flush()
        script = Path(__file__).with_name("run_saved_model.py")
        done = subprocess.run([sys.executable, "-P", str(script), str(path), str(pixels), str(scores)], capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise WorkError(f"expected '{path.name}' to load in a fresh process, but it failed: {lines[-1]}")
        with np.load(scores) as result:
            return result["scores"], float(result["milliseconds"])


def run_tflite(path: Path, photos: np.ndarray) -> tuple[np.ndarray, float]:
    """Runs a .tflite file in LiteRT, the runtime of phones, one photo at a time on one thread."""
    interpreter = _interpreter(path)
    entry = interpreter.get_input_details()[0]
    result = interpreter.get_output_details()[0]
    scores, seconds = [], []
    for photo in photos:
        start = time.perf_counter()
        interpreter.set_tensor(entry["index"], photo[None].astype(entry["dtype"]))
        interpreter.invoke()
        answer = interpreter.get_tensor(result["index"])[0]
        seconds.append(time.perf_counter() - start)
        if result["dtype"] != np.float32:
            scale, zero = result["quantization"]
            answer = (answer.astype(np.float32) - zero) * scale
        scores.append(answer)
    return np.stack(scores), 1000 * float(np.median(seconds))


EXPORTERS = {
    "saved_model": Exporter("saved_model", write_saved_model, run_saved_model, exact=True),
    "tflite_float32": Exporter("float32.tflite", write_float32, run_tflite, exact=True),
    "tflite_float16": Exporter("float16.tflite", write_float16, run_tflite, exact=True),
    "tflite_dynamic": Exporter("dynamic.tflite", write_dynamic, run_tflite, exact=False),
    "tflite_int8": Exporter("int8.tflite", write_int8, run_tflite, exact=False, calibrated=True),
}
DEFAULT_FORMATS = ("saved_model", "tflite_float32", "tflite_float16")


def _write_tflite(model, path: Path, labels: Sequence[str], *, operators=None, target_types=None, **options) -> None:
    import keras
    import tensorflow as tf

    target = {"supported_ops": [operators or tf.lite.OpsSet.TFLITE_BUILTINS]}  # else Keras allows operators phones lack
    if target_types:
        target["supported_types"] = target_types
    signature = [keras.InputSpec(shape=(1, *model.input_shape[1:]), dtype="float32", name="image")]
    model.export(path, format="litert", input_signature=signature, target_spec=target, verbose=False, **options)
    write_metadata(path, labels, name="tfcnn image classifier", description=f"Tells {len(labels)} classes apart; made with tfcnn")
    flex = [name for name in _operators(path) if name.startswith("Flex")]
    if flex:
        raise WorkError(f"expected operators that phones have, but '{path.name}' needs {', '.join(sorted(set(flex)))}; use another backbone")


def _operators(path: Path) -> list[str]:
    return [operator["op_name"] for operator in _interpreter(path)._get_ops_details()]


def _interpreter(path: Path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter
