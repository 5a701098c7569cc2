"""The table of backbones: what each is built from, what it expects, where its stages begin."""

from collections.abc import Callable
from typing import NamedTuple


class Backbone(NamedTuple):
    """One network of Keras Applications.

    Attributes:
        build: name of the function in `keras.applications`.
        preprocessing: module of `keras.applications` whose `preprocess_input` the network needs; None where it rescales inside.
        image_size: side in pixels that its ImageNet weights were trained at.
        stages: (stage name, name of its first layer), from input to output; layers before the first stage are the stem.
        licence: of code and weights.
        paper: where the network was introduced.
    """

    build: str
    preprocessing: str | None
    image_size: int
    stages: tuple[tuple[str, str], ...]
    licence: str
    paper: str


# Stage boundaries are layers that keep their name from build to build. A stage ends where the resolution halves; the wide
# convolution on top of a MobileNet is a stage of its own, since it holds a large share of the parameters.
BACKBONES = {
    "mobilenet_v2": Backbone(
        build="MobileNetV2", preprocessing="mobilenet_v2", image_size=224,
        stages=(("stem", "Conv1"), ("stage1", "block_1_expand"), ("stage2", "block_3_expand"), ("stage3", "block_6_expand"),
                ("stage4", "block_13_expand"), ("top", "Conv_1")),
        licence="Apache-2.0", paper="Sandler et al. 2018, arXiv:1801.04381"),
    "mobilenet_v3_small": Backbone(
        build="MobileNetV3Small", preprocessing=None, image_size=224,
        stages=(("stem", "conv"), ("stage1", "expanded_conv_depthwise"), ("stage2", "expanded_conv_1_expand"),
                ("stage3", "expanded_conv_3_expand"), ("stage4", "expanded_conv_8_expand"), ("top", "conv_1")),
        licence="Apache-2.0", paper="Howard et al. 2019, arXiv:1905.02244"),
    "resnet50": Backbone(
        build="ResNet50", preprocessing="resnet", image_size=224,
        stages=(("conv1", "conv1_conv"), ("conv2", "conv2_block1_1_conv"), ("conv3", "conv3_block1_1_conv"),
                ("conv4", "conv4_block1_1_conv"), ("conv5", "conv5_block1_1_conv")),
        licence="code Apache-2.0, weights MIT", paper="He et al. 2016, arXiv:1512.03385"),
}


def preprocess_function(row: Backbone) -> Callable:
    """The network's own `preprocess_input`, or the identity where the network rescales inside."""
    if row.preprocessing is None:
        return lambda pixels: pixels
    import importlib

    return importlib.import_module(f"keras.applications.{row.preprocessing}").preprocess_input


def list_backbones() -> list[str]:
    """The names that `build_classifier` takes."""
    return sorted(BACKBONES)
