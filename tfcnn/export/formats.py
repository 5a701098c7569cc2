"""The table of export formats: how each file is written, which runtime it is run again in, and what it needs."""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfcnn.errors import InputError
from tfcnn.export import tflite
from tfcnn.export.tflite import Material
from tfcnn.models.freeze import every_layer


class Exporter(NamedTuple):
    """One format.

    Attributes:
        file: name of what it writes below `exports/`.
        write: (material, path) → None, or a dict of what there is to say of the file.
        runtime: a name of `run_file.LOADERS`, in which the file is run for the check; empty where none runs here.
        text: one line for users.
        exact: True where only float rounding separates it from Keras, so that nearly every answer must agree.
        integer: True where it computes in 8 bits, by kernels that differ between processors.
        extra: the extra of this package that it needs, and `modules`, what the extra must bring.
        any_kind: True where networks of other data than photos can be written too; `of_frames`: where those of photos that take the slices of volumes
            or the frames of videos can be.
    """

    file: str
    write: Callable
    runtime: str
    text: str
    exact: bool = False
    integer: bool = False
    extra: str = ""
    modules: tuple[str, ...] = ()
    any_kind: bool = False
    of_frames: bool = False


def write_saved_model(material: Material, path: Path) -> None:
    """SavedModel with the signatures `serve` and `serving_default`: `image`, `signal`, `audio` or `text` in, `output_0` out; labels and contract
    as asset files.

    With `material.encoded` also `serve_encoded`: a vector of JPEG or PNG files as strings in.
    """
    import keras

    archive = keras.export.ExportArchive()  # without `track`, which stores every weight a second time, as `model.export` of Keras does
    run = functools.partial(material.model.__call__, training=False)
    spec = keras.InputSpec(shape=(None, *material.contract.input_shape), dtype=material.contract.dtype, name=material.contract.input_name)
    archive.add_endpoint("serve", run, input_signature=[spec])
    if material.encoded:
        from tfcnn.export.encoded import decoder

        decode = decoder(material.contract)
        import tensorflow as tf

        archive.add_endpoint("serve_encoded", lambda photos: run(decode(photos)), input_signature=[tf.TensorSpec((None,), tf.string, name="photos")])
    archive.write_out(path, verbose=False)
    assets = path / "assets"
    assets.mkdir(exist_ok=True)
    for name, text in material.contract.files.items():
        (assets / name).write_text(text, encoding="utf-8")


def write_onnx(material: Material, path: Path) -> None:
    """ONNX of any batch, `image` in, `output_0` out; labels and contract as metadata."""
    import keras
    import onnx

    _teach_tf2onnx_erfc()
    signature = [keras.InputSpec(shape=(None, *material.contract.input_shape), dtype="float32", name="image")]
    for layer in every_layer(material.model):
        if isinstance(layer, keras.layers.Normalization):  # of its tensors tf2onnx makes inputs, of arrays constants
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    material.model(material.model.inputs)  # Keras refuses a model that was never called
    with tflite.quiet():
        material.model.export(path, format="onnx", input_signature=signature, verbose=False)
    graph = onnx.load(path)
    for name, text in material.contract.files.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = name, text
    onnx.save(graph, path)


def write_coreml(material: Material, path: Path) -> None:
    """Core ML in float16, which only Apple's machines can run: nothing here tells whether it is right. `image` in, batch 1."""
    import tensorflow as tf

    with tflite.quiet():
        import coremltools

        _teach_coremltools_erfc()
        run = tf.function(functools.partial(material.model.__call__, training=False))
        image = tf.TensorSpec((1, *material.contract.input_shape), tf.float32, name="image")
        mlmodel = coremltools.convert([run.get_concrete_function(image)], source="tensorflow", convert_to="mlprogram")
        mlmodel.user_defined_metadata.update(material.contract.files)
        mlmodel.save(str(path))


def _teach_tf2onnx_erfc() -> None:
    """TensorFlow computes GELU by erfc, which ONNX does not have: 1 - erf."""
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx, node, **kwargs):
            shape, dtype = ctx.get_shape(node.output[0]), ctx.get_dtype(node.output[0])
            erf = ctx.make_node("Erf", [node.input[0]], shapes=[shape], dtypes=[dtype])
            one = ctx.make_const(f"{node.name}_one", np.array(1, np.float32))
            ctx.remove_node(node.name)
            ctx.make_node("Sub", [one.output[0], erf.output[0]], name=node.name, outputs=node.output, shapes=[shape], dtypes=[dtype])


def _teach_coremltools_erfc() -> None:
    """As for ONNX."""
    from coremltools.converters.mil import Builder, register_tf_op

    @register_tf_op(tf_alias=[], override=True)
    def Erfc(context, node):
        erf = Builder.erf(x=context[node.inputs[0]])
        context.add(node.name, Builder.sub(x=1.0, y=erf, name=node.name))


EXPORTERS = {
    "saved_model": Exporter("saved_model", write_saved_model, "saved_model", "for servers", exact=True, any_kind=True),
    "tflite_float32": Exporter("float32.tflite", tflite.write_float32, "tflite", "weights and arithmetic in float32", exact=True, any_kind=True),
    "tflite_float16": Exporter("float16.tflite", tflite.write_float16, "tflite", "weights in float16, half the size", exact=True, any_kind=True),
    "tflite_dynamic": Exporter("dynamic.tflite", tflite.write_dynamic, "tflite", "weights in 8 bits, activations brought to 8 bits as they come",
                               integer=True, any_kind=True),
    "tflite_weight_int8": Exporter("weight_int8.tflite", tflite.write_weight_int8, "tflite", "weights in 8 bits, arithmetic in float32", extra="quantizer",
                                   modules=("ai_edge_quantizer",)),
    "tflite_int8": Exporter("int8.tflite", tflite.write_int8, "tflite", "all in 8 bits, of photos bytes in and out", integer=True, of_frames=True),
    "tflite_int8_mixed": Exporter("int8_mixed.tflite", tflite.write_int8_mixed, "tflite", "8 bits but for the most sensitive layers, floats in and out",
                                  integer=True),
    "onnx": Exporter("model.onnx", write_onnx, "onnx", "for onnxruntime and what reads ONNX", exact=True, extra="onnx",
                     modules=("tf2onnx", "onnx", "onnxruntime")),
    "coreml": Exporter("model.mlpackage", write_coreml, "", "experimental: it cannot be run on Linux, so nothing here checked it", exact=True,
                       extra="coreml", modules=("coremltools",)),
}
DEFAULT_FORMATS = ("saved_model", "tflite_float32", "tflite_float16")
OF_A_GRAPH = ("saved_model",)  # TFLite has no products of sparse matrices, which a network passes through its whole graph by


def default_formats(whole: bool = False) -> tuple[str, ...]:
    """What is written where nothing is asked for; `whole` for a network whose graph is part of it."""
    return OF_A_GRAPH if whole else DEFAULT_FORMATS


def check_extra(name: str) -> None:
    """Raises InputError for a format whose extra is not installed."""
    exporter = EXPORTERS[name]
    if not has_extra(name):
        raise InputError(f"expected the extra '{exporter.extra}' for the format {name}, but it is not installed; "
                         f"in the folder of tfcnn, run: pip install -c constraints.txt '.[{exporter.extra}]'")


def has_extra(name: str) -> bool:
    """True where what a format needs is installed."""
    return all(importlib.util.find_spec(module) for module in EXPORTERS[name].modules)
