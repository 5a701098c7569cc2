"""`choose_layers`: an 8-bit network whose most sensitive layers stay in float.

What a layer loses by itself says little about what the network loses by it: the errors of MobileNetV3's worst layers hardly
reach the scores, those of a harmless-looking expansion do. So groups of layers are left in float one after the other, and
what counts is how near the scores come to those of Keras on photos the network was not trained on.
"""

import csv
import io
import re

import numpy as np

from tfcnn.export.run_file import load_tflite
from tfcnn.export.tflite import quiet
from tfcnn.models.forward import forward

GROUPS = 20        # of neighbouring layers; each costs one quantisation and one pass over the photos
LOOKED_AT = 50     # photos
FLOAT_SHARE = 1 / 3  # of the groups at most: beyond it the file is nearly as large as a float one
NEAR_BEST = 1.05   # fewer layers in float are taken if the scores are this near to the nearest


def choose_layers(material, converter) -> tuple[bytes, list[str], int]:
    """Leaves in float what brings the scores nearest to those of Keras.

    Args:
        material: with the model, `calibration` and, where there are any, `held_out` photos.
        converter: TensorFlow's, with the calibration photos.

    Returns:
        The file (float in and out), the names of the layers left in float, in the order of their gain, and the number of layers.
    """
    photos = material.held_out if material.held_out is not None and len(material.held_out) else material.calibration
    photos = photos[:LOOKED_AT]
    expected, candidate = forward(material.model, photos), material.folder / "candidate.tflite"
    quantizer, names = _quantizer(converter, material.calibration[:1])
    groups = [list(group) for group in np.array_split(names, min(GROUPS, len(names)))]

    def error(content: bytes) -> float:
        candidate.write_bytes(content)
        run = load_tflite(str(candidate), threads=2)
        return float(np.abs(np.stack([run(photo[None]) for photo in photos]) - expected).mean())

    gains = [error(_quantize(quantizer, group)) for group in groups]
    order = [groups[row] for row in np.argsort(gains, kind="stable")][:max(1, round(FLOAT_SHARE * len(groups)))]
    files = [_quantize(quantizer, [name for group in order[:count] for name in group]) for count in range(1, len(order) + 1)]
    errors = [error(content) for content in files]
    count = next(row for row, value in enumerate(errors) if value <= NEAR_BEST * min(errors))
    return files[count], [readable(name) for group in order[:count + 1] for name in group], len(names)


def readable(name: str) -> str:
    """The Keras layer of a tensor: `classifier_1/backbone_1/expanded_conv_bn_1/batchnorm/add_1;...` is `expanded_conv_bn`."""
    if name.startswith("StatefulPartitionedCall"):  # what the converter calls the end of the graph
        return "predictions"
    parts = [part for part in name.split(";")[0].split("/") if not re.fullmatch(r"(classifier|backbone|model|functional)(_\d+)?", part)]
    return re.sub(r"_\d+$", "", parts[0]) if parts else name


def _quantizer(converter, photos: np.ndarray):
    """TensorFlow's debugger, which calibrates once and then quantises as often as it is asked, and the layers in the order of the graph."""
    import tensorflow as tf

    with quiet():
        quantizer = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=lambda: ([photo[None].astype(np.float32)] for photo in photos),
                                                              debug_options=tf.lite.experimental.QuantizationDebugOptions())
        quantizer.run()
    table = io.StringIO()
    quantizer.layer_statistics_dump(table)
    return quantizer, [row["tensor_name"] for row in csv.DictReader(io.StringIO(table.getvalue()))]


def _quantize(quantizer, in_float: list[str]) -> bytes:
    import tensorflow as tf

    with quiet():
        quantizer.options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=in_float)
        return quantizer.get_nondebug_quantized_model()
