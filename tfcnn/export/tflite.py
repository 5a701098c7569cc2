"""TFLite files: one function a format, all from one SavedModel of batch 1; each returns what there is to say of the file, such as its operators."""

import contextlib
import functools
import io
import logging
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.export.contract import Contract
from tfcnn.export.metadata import add_metadata
from tfcnn.export.read_tflite import check_tflite
from tfcnn.kinds import IMAGE


@dataclass(frozen=True)
class Material:
    """What files are made of.

    Attributes:
        model: a float32 `keras.Model` from pixels to scores.
        contract: what the files say of it.
        calibration: photos uint8 (n, height, width, channels) that ranges are measured on; None where no format needs them.
        held_out: photos that the network was not trained on, none of the test split, which choose the layers to leave in float.
        folder: for what several formats share.
        encoded: whether a SavedModel also takes encoded photos.
    """

    model: Any
    contract: Contract
    calibration: np.ndarray | None
    held_out: np.ndarray | None
    folder: Path
    encoded: bool = False


def write_float32(material: Material, path: Path) -> dict:
    """Weights and arithmetic in float32."""
    return _write(material, path, float32_file(material))


def write_float16(material: Material, path: Path) -> dict:
    """Weights stored in float16, arithmetic in float32."""
    import tensorflow as tf

    return _write(material, path, _convert(material, target={"supported_types": [tf.float16]}, optimizations=[tf.lite.Optimize.DEFAULT]))


def write_dynamic(material: Material, path: Path) -> dict:
    """Weights stored in 8 bits, activations brought to 8 bits as they come."""
    import tensorflow as tf

    return _write(material, path, _convert(material, optimizations=[tf.lite.Optimize.DEFAULT]))


def write_weight_int8(material: Material, path: Path) -> dict:
    """Weights stored in 8 bits, arithmetic in float32."""
    from ai_edge_quantizer import quantizer, recipe

    with quiet():
        result = quantizer.Quantizer(float32_file(material), recipe.weight_only_wi8_afp32()).quantize(enable_progress_report=False)
    return _write(material, path, bytes(result.quantized_model))


def write_int8(material: Material, path: Path) -> dict:
    """All arithmetic in 8 bits, ranges measured on the calibration photos. Photos come in and scores go out as bytes; what has no natural bytes, such as
    the intensities of a volume, as floats."""
    import tensorflow as tf

    photos = material.contract.kind == IMAGE
    inside = {"inference_input_type": tf.uint8, "inference_output_type": tf.uint8} if photos else {}
    content = _convert(material, target={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]}, **inside, **_calibrated(material))
    return _write(material, path, content, whole=photos)


def write_int8_mixed(material: Material, path: Path) -> dict:
    """8 bits but for the layers that lose most by it, floats in and out.

    Returns:
        `float_layers`, what was left in float, and `layers`, the number of all that can be brought to 8 bits.
    """
    from tfcnn.export.mixed import choose_layers

    content, chosen, layers = choose_layers(material, _converter(material, **_calibrated(material)))
    return {**_write(material, path, content), "float_layers": chosen, "layers": layers}


@contextlib.contextmanager
def quiet():
    """Converters show bars, old advice, and tracebacks of steps that they then leave out; an error is still raised."""
    before = logging.root.manager.disable
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


def _write(material: Material, path: Path, content: bytes, *, whole: bool = False) -> dict:
    """Adds the metadata, reads the file back and compares; returns how many operators of each kind it has."""
    path.write_bytes(add_metadata(content, material.contract))
    file = check_tflite(path, material.contract, bytes_in=whole, bytes_out=whole)
    return {"operators": dict(Counter(name for name in file.operators if name != "DELEGATE").most_common())}


def float32_file(material: Material) -> bytes:
    """The float32 file without metadata, converted once."""
    kept = material.folder / "float32.tflite"
    if not kept.exists():
        kept.write_bytes(_convert(material))
    return kept.read_bytes()


def _convert(material: Material, **options) -> bytes:
    with quiet():
        return _converter(material, **options).convert()


def _converter(material: Material, *, target: dict | None = None, **options):
    """TensorFlow's converter of the network, without operators that phones lack."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(batch_of_one(material)))
    converter.experimental_enable_resource_variables = True
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    for name, value in (target or {}).items():
        setattr(converter.target_spec, name, value)
    for name, value in options.items():
        setattr(converter, name, value)
    return converter


def batch_of_one(material: Material) -> Path:
    """A SavedModel of fixed batch 1, written once. `training=False` is said, since some layers otherwise augment in an export."""
    import keras

    folder = material.folder / "batch_of_one"
    if not folder.exists():
        archive = keras.export.ExportArchive()
        signature = [keras.InputSpec(shape=(1, *material.contract.input_shape), dtype=material.contract.dtype, name=material.contract.input_name)]
        archive.add_endpoint("serve", functools.partial(material.model.__call__, training=False), input_signature=signature)
        archive.write_out(folder, verbose=False)
    return folder


def _calibrated(material: Material) -> dict:
    import tensorflow as tf

    examples = np.array(material.calibration)
    if material.contract.kind == IMAGE:
        examples[0, 0, 0], examples[0, -1, -1] = 0, 255  # so that the input's range is 0-255 and its bytes are raw pixels

    def photos():
        for example in examples:
            yield {material.contract.input_name: example[None].astype(np.float32)}

    return {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": photos}
