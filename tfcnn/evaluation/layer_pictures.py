"""`draw_feature_maps` and `draw_filters`: what the layers of a network compute, as pictures."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcnn.errors import InputError
from tfcnn.evaluation.inside import check_classifier, inside_backbone, layers_with_maps, offer
from tfcnn.evaluation.overlay import draw_cells, kernel_cells, map_cells
from tfcnn.evaluation.predict import check_photo, reader_of
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.classifier import ModelConfig
from tfcnn.models.freeze import OWN
from tfcnn.models.geometry import network_of
from tfcnn.record import Run, load_run

if TYPE_CHECKING:
    from PIL import Image


def draw_feature_maps(run: Any, photo: str | Path | np.ndarray, *, layer: str, columns: int = 8, limit: int = 64) -> "Image.Image":
    """A grid of the feature maps that a layer gives for one photo, each from dark at its lowest to bright at its highest value.

    Args:
        run: a run or its folder, or a functional or Sequential `keras.Model`.
        photo: path of a photo, or pixels (height, width, channels), 0-255, in the model's input shape. A `keras.Model` takes pixels alone, as
            it was trained on.
        layer: of the backbone of a run, or of the model, one with feature maps.
        columns: maps in a row.
        limit: how many maps; those that vary most over the photo come first.

    Returns:
        `PIL.Image.Image` in RGB.

    Raises:
        InputError: a layer that gives no maps, or a photo that cannot be used.
    """
    _check_grid(columns, limit)
    layer = str(layer)
    run, model, network = _opened(run)
    pixels = _pixels_of_run(run, photo) if run else _pixels_of_model(model, photo)
    found = layers_with_maps(network)
    if layer not in found:
        raise InputError(f"expected a layer of the {_whose(model, network)} with feature maps, got layer='{layer}'; "
                         f"{offer(layer, found, _whose(model, network))}")
    maps = _inside(model, network, found[layer])(np.asarray(pixels[None], np.float32))
    return draw_cells(map_cells(np.asarray(maps[0], np.float32), limit), columns)


def draw_filters(run: Any, *, layer: str, columns: int = 8, limit: int = 64) -> "Image.Image":
    """A grid of the kernels of a convolution: 0 is grey, the largest absolute value of each kernel black or white.

    Kernels on three channels, those of the first layer, are drawn in the colours they look for; others as the mean over their
    input channels. A depthwise convolution has a kernel for each channel.

    Args:
        run: a run or its folder, or a functional or Sequential `keras.Model`.
        layer: of the backbone of a run, or of the model, a convolution with kernels of more than one pixel.
        columns: kernels in a row.
        limit: how many kernels; those of the largest norm come first.

    Returns:
        `PIL.Image.Image` in RGB.

    Raises:
        InputError: a layer that has no such kernels.
    """
    _check_grid(columns, limit)
    layer = str(layer)
    run, model, network = _opened(run)
    found = _convolutions(network)
    if layer not in found:
        raise InputError(f"expected a convolution of the {_whose(model, network)} with kernels of more than one pixel, got layer='{layer}'; "
                         f"{offer(layer, found, _whose(model, network))}")
    kernels = np.asarray(found[layer].get_weights()[0], np.float32)                    # (height, width, channels in, channels out)
    if type(found[layer]).__name__ == "DepthwiseConv2D":
        kernels = kernels.reshape(*kernels.shape[:2], 1, -1)
    elif kernels.shape[2] == 3:
        kernels = kernels[:, :, ::-1] if _takes_bgr(run, model) else kernels
    else:
        kernels = kernels.mean(axis=2, keepdims=True)
    return draw_cells(kernel_cells(kernels, limit), columns)


def _opened(given: Any) -> tuple[Run | None, Any, Any]:
    """(the run, if it is one; its model, or that of the caller; the network whose layers are meant: the backbone, if there is one)."""
    run = given if isinstance(given, Run) else load_run(given) if isinstance(given, (str, Path)) else None
    if run:
        model = run.load_model()
        check_classifier(model)
        return run, model, model.get_layer("backbone")
    import keras

    if not isinstance(given, keras.Model) or network_of(given) is None:
        raise InputError(f"expected a run, its folder, or a functional or Sequential keras.Model that is built, got {type(given).__name__}")
    backbone = next((layer for layer in given.layers if layer.name == "backbone"), None)
    return None, given, network_of(given) if backbone is None else backbone


def _whose(model, network) -> str:
    return "model" if network is network_of(model) else "backbone"


def _inside(model, network, tensor):
    """A function from pixels to a tensor of the network."""
    import keras

    if network is not network_of(model):
        return lambda pixels: inside_backbone(model, [tensor])(pixels)[0]
    return functools.partial(keras.Model(network.inputs[0], tensor), training=False)


def _pixels_of_run(run: Run, photo: str | Path | np.ndarray) -> np.ndarray:
    check_photo(photo)
    if isinstance(photo, np.ndarray) and photo.shape != tuple(run.record["input_shape"]):
        raise InputError(f"expected pixels of shape {tuple(run.record['input_shape'])}, got {photo.shape}")
    _, read = reader_of(run, photo[None] if isinstance(photo, np.ndarray) else [photo])
    (pixels, error), = read(range(1))
    if error:
        raise InputError(error)
    return pixels


def _pixels_of_model(model, photo: Any) -> np.ndarray:
    shape = tuple(model.input_shape[1:])
    given = photo.shape if isinstance(photo, np.ndarray) and photo.dtype.kind in "uifb" else ()
    if len(given) != len(shape) or any(side not in (None, there) for side, there in zip(shape, given, strict=True)):
        raise InputError(f"expected pixels of shape {shape} for a keras.Model, got {given or type(photo).__name__}; a run takes files too")
    return photo


def _check_grid(columns: int, limit: int) -> None:
    for name, value in (("columns", columns), ("limit", limit)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"expected a whole number above 0 for {name}, got {name}={value!r}")


def _convolutions(backbone) -> dict:
    """{name: layer} of the convolutions whose kernels are a picture, from input to output."""
    import keras

    return {layer.name: layer for layer in backbone.layers
            if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)) and max(layer.kernel_size) > 1}


def _takes_bgr(run: Run | None, model) -> bool:
    """True for a named backbone whose preprocessing turns RGB round."""
    config = run.record.get("model", {}) if run else vars(getattr(model, "model_config", None) or ModelConfig(weights=OWN))
    row = BACKBONES.get(config.get("backbone", "")) if config.get("weights") != OWN else None
    return row is not None and row.preprocessing == "caffe"
