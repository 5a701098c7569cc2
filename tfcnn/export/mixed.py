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
from tfcnn.export.tflite import float32_file, quiet
from tfcnn.models.forward import forward

GROUPS = 20        # of neighbouring layers; each costs one quantisation and one pass over the photos
LOOKED_AT = 50     # photos
FLOAT_GROUPS = 7     # at most
FLOAT_SHARE = 0.5    # of the bytes of a float32 file at most: float16 needs as many, and loses next to nothing
NEAR_BEST = 1.05   # fewer layers in float are taken if the scores are this near to the nearest


def choose_layers(material, converter) -> tuple[bytes, list[str], int]:
    """Leaves in float what brings the scores nearest to those of Keras, as long as the file stays smaller than one of float16.

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

    alone = [error(_quantize(quantizer, group)) for group in groups]
    limit = FLOAT_SHARE * len(float32_file(material))
    content = _quantize(quantizer, [])
    tried: list[tuple[float, bytes, list[str]]] = [(error(content), content, [])]  # with more and more layers in float
    for group in (groups[row] for row in np.argsort(alone, kind="stable")):
        in_float = [*tried[-1][2], *group]
        content = _quantize(quantizer, in_float)
        if len(content) <= limit:
            tried.append((error(content), content, in_float))
        if len(tried) > FLOAT_GROUPS:
            break
    nearest = min(value for value, _, _ in tried)
    _, content, in_float = next(row for row in tried if row[0] <= NEAR_BEST * nearest)
    return content, [readable(name) for name in in_float], len(names)


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
