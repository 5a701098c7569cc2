"""The table of backbones: what each is built from, what it expects, where its stages begin."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tfcnn.kinds import KINDS

VIT = "ViT"  # `build` of the rows that `tfcnn/models/vit.py` builds
COMMON_SIZE = 224  # pixels; tables name other sizes
MAXIMUM_SIZE = 2048  # pixels; the features of larger photos do not fit into the memory of any device that we know

CAFFE_MEANS = (123.68, 116.779, 103.939)  # of red, green and blue over ImageNet, as in `keras.applications.imagenet_utils`

Stages = tuple[tuple[str, str], ...]


class Backbone(NamedTuple):
    """One network without its top.

    Attributes:
        build: name of the function in `keras.applications`, or "ViT".
        image_size: side in pixels that its ImageNet weights were trained at.
        stages: (stage name, name of its first layer), from input to output. Whole blocks: what stands before a boundary is
            all that one tensor is computed from, and nothing else.
        parameters: weights of all layers, those of BatchNorm included, at `image_size`.
        licence: of code and ImageNet weights.
        paper: where the network was introduced.
        preprocessing: mode of `keras.applications.imagenet_utils.preprocess_input` that the network needs, "tf" (-1 to 1),
            "caffe" (BGR less means) or "torch" (standardised RGB); None where it rescales inside.
        minimum_size: side in pixels of the smallest image it takes; a ViT takes multiples of its patches.
        options: further arguments of `build`.
    """

    build: str
    image_size: int
    stages: Stages
    parameters: int
    licence: str
    paper: str
    preprocessing: str | None = None
    minimum_size: int = 32
    options: Mapping[str, Any] = {}


# Stage boundaries are layers that keep their name from build to build. A stage begins where the resolution halves; the wide
# convolution on top of a MobileNet or an EfficientNet is a stage of its own, since it holds a large share of the parameters.
RESNET: Stages = (("conv1", "conv1_conv"), ("conv2", "conv2_block1_1_conv"), ("conv3", "conv3_block1_1_conv"), ("conv4", "conv4_block1_1_conv"),
                  ("conv5", "conv5_block1_1_conv"))
RESNET_V2: Stages = (("conv1", "conv1_conv"), ("conv2", "conv2_block1_preact_bn"), ("conv3", "conv3_block1_preact_bn"),  # halves at the end of a stage
                     ("conv4", "conv4_block1_preact_bn"), ("conv5", "conv5_block1_preact_bn"))
EFFICIENTNET: Stages = (("stem", "stem_conv"), ("stage1", "block2a_expand_conv"), ("stage2", "block3a_expand_conv"), ("stage3", "block4a_expand_conv"),
                        ("stage4", "block6a_expand_conv"), ("top", "top_conv"))  # of both versions
MOBILENET_V3_SMALL: Stages = (("stem", "conv"), ("stage1", "expanded_conv_depthwise"), ("stage2", "expanded_conv_1_expand"),
                              ("stage3", "expanded_conv_3_expand"), ("stage4", "expanded_conv_8_expand"), ("top", "conv_1"))
MOBILENET_V3_LARGE: Stages = (("stem", "conv"), ("stage1", "expanded_conv_1_expand"), ("stage2", "expanded_conv_3_expand"),
                              ("stage3", "expanded_conv_6_expand"), ("stage4", "expanded_conv_12_expand"), ("top", "conv_1"))
DENSENET: Stages = (("conv1", "conv1_conv"), ("conv2", "conv2_block1_0_bn"), ("conv3", "conv3_block1_0_bn"), ("conv4", "conv4_block1_0_bn"),
                    ("conv5", "conv5_block1_0_bn"))
VGG: Stages = tuple((f"block{number}", f"block{number}_conv1") for number in range(1, 6))


def _convnext(size: str) -> Stages:
    """Keras puts the size into the layer names."""
    return (("stem", f"convnext_{size}_stem"), ("stage1", f"convnext_{size}_stage_0_block_0_depthwise_conv"),
            *((f"stage{number + 2}", f"convnext_{size}_downsampling_block_{number}") for number in range(3)))


APACHE = "Apache-2.0"
RESNET_LICENCE = "code Apache-2.0, weights MIT"
RESNET_V2_LICENCE = "code Apache-2.0, weights BSD-3-Clause"
DENSENET_LICENCE = "code Apache-2.0, weights BSD-3-Clause"
VGG_LICENCE = "code Apache-2.0, weights CC BY 4.0"
CONVNEXT_LICENCE = "code Apache-2.0, weights MIT"

HE = "He et al. 2016, arXiv:1512.03385"
HE_V2 = "He et al. 2016, arXiv:1603.05027"
TAN = "Tan and Le 2019, arXiv:1905.11946"
TAN_V2 = "Tan and Le 2021, arXiv:2104.00298"
HOWARD = "Howard et al. 2019, arXiv:1905.02244"
HUANG = "Huang et al. 2017, arXiv:1608.06993"
SIMONYAN = "Simonyan and Zisserman 2015, arXiv:1409.1556"
LIU = "Liu et al. 2022, arXiv:2201.03545"

BACKBONES = {
    "resnet50": Backbone("ResNet50", 224, RESNET, 23_587_712, RESNET_LICENCE, HE, "caffe"),
    "efficientnet_b0": Backbone("EfficientNetB0", 224, EFFICIENTNET, 4_049_571, APACHE, TAN),
    "mobilenet_v3_small": Backbone("MobileNetV3Small", 224, MOBILENET_V3_SMALL, 939_120, APACHE, HOWARD),
    "mobilenet_v3_large": Backbone("MobileNetV3Large", 224, MOBILENET_V3_LARGE, 2_996_352, APACHE, HOWARD),
    "vgg16": Backbone("VGG16", 224, VGG, 14_714_688, VGG_LICENCE, SIMONYAN, "caffe"),
    "vit_b_16": Backbone(
        VIT, 224, (("embedding", "patch_embedding"), *((f"block{number}", f"block{number}_norm1") for number in range(1, 13))), 85_798_656,
        APACHE, "Dosovitskiy et al. 2021, arXiv:2010.11929", "tf", minimum_size=16,
        options={"patch_size": 16, "num_layers": 12, "num_heads": 12, "hidden_dim": 768, "mlp_dim": 3072}),
    "resnet101": Backbone("ResNet101", 224, RESNET, 42_658_176, RESNET_LICENCE, HE, "caffe"),
    "resnet152": Backbone("ResNet152", 224, RESNET, 58_370_944, RESNET_LICENCE, HE, "caffe"),
    "resnet50_v2": Backbone("ResNet50V2", 224, RESNET_V2, 23_564_800, RESNET_V2_LICENCE, HE_V2, "tf"),
    "resnet101_v2": Backbone("ResNet101V2", 224, RESNET_V2, 42_626_560, RESNET_V2_LICENCE, HE_V2, "tf"),
    "resnet152_v2": Backbone("ResNet152V2", 224, RESNET_V2, 58_331_648, RESNET_V2_LICENCE, HE_V2, "tf"),
    "efficientnet_b1": Backbone("EfficientNetB1", 240, EFFICIENTNET, 6_575_239, APACHE, TAN),
    "efficientnet_b2": Backbone("EfficientNetB2", 260, EFFICIENTNET, 7_768_569, APACHE, TAN),
    "efficientnet_b3": Backbone("EfficientNetB3", 300, EFFICIENTNET, 10_783_535, APACHE, TAN),
    "efficientnet_b4": Backbone("EfficientNetB4", 380, EFFICIENTNET, 17_673_823, APACHE, TAN),
    "efficientnet_b5": Backbone("EfficientNetB5", 456, EFFICIENTNET, 28_513_527, APACHE, TAN),
    "efficientnet_b6": Backbone("EfficientNetB6", 528, EFFICIENTNET, 40_960_143, APACHE, TAN),
    "efficientnet_b7": Backbone("EfficientNetB7", 600, EFFICIENTNET, 64_097_687, APACHE, TAN),
    "efficientnet_v2_b0": Backbone("EfficientNetV2B0", 224, EFFICIENTNET, 5_919_312, APACHE, TAN_V2),
    "efficientnet_v2_b1": Backbone("EfficientNetV2B1", 240, EFFICIENTNET, 6_931_124, APACHE, TAN_V2),
    "efficientnet_v2_b2": Backbone("EfficientNetV2B2", 260, EFFICIENTNET, 8_769_374, APACHE, TAN_V2),
    "efficientnet_v2_b3": Backbone("EfficientNetV2B3", 300, EFFICIENTNET, 12_930_622, APACHE, TAN_V2),
    "efficientnet_v2_s": Backbone("EfficientNetV2S", 384, EFFICIENTNET, 20_331_360, APACHE, TAN_V2),
    "efficientnet_v2_m": Backbone("EfficientNetV2M", 480, EFFICIENTNET, 53_150_388, APACHE, TAN_V2),
    "efficientnet_v2_l": Backbone("EfficientNetV2L", 480, EFFICIENTNET, 117_746_848, APACHE, TAN_V2),
    "mobilenet": Backbone(
        "MobileNet", 224, (("stem", "conv1"), ("stage1", "conv_dw_2"), ("stage2", "conv_dw_4"), ("stage3", "conv_dw_6"), ("stage4", "conv_dw_12")),
        3_228_864, APACHE, "Howard et al. 2017, arXiv:1704.04861", "tf"),
    "mobilenet_v2": Backbone(
        "MobileNetV2", 224, (("stem", "Conv1"), ("stage1", "block_1_expand"), ("stage2", "block_3_expand"), ("stage3", "block_6_expand"),
                             ("stage4", "block_13_expand"), ("top", "Conv_1")),
        2_257_984, APACHE, "Sandler et al. 2018, arXiv:1801.04381", "tf"),
    "mobilenet_v3_small_minimalistic": Backbone("MobileNetV3Small", 224, MOBILENET_V3_SMALL, 441_000, APACHE, HOWARD, options={"minimalistic": True}),
    "mobilenet_v3_large_minimalistic": Backbone("MobileNetV3Large", 224, MOBILENET_V3_LARGE, 1_437_608, APACHE, HOWARD, options={"minimalistic": True}),
    "densenet121": Backbone("DenseNet121", 224, DENSENET, 7_037_504, DENSENET_LICENCE, HUANG, "torch"),
    "densenet169": Backbone("DenseNet169", 224, DENSENET, 12_642_880, DENSENET_LICENCE, HUANG, "torch"),
    "densenet201": Backbone("DenseNet201", 224, DENSENET, 18_321_984, DENSENET_LICENCE, HUANG, "torch"),
    "vgg19": Backbone("VGG19", 224, VGG, 20_024_384, VGG_LICENCE, SIMONYAN, "caffe"),
    "convnext_tiny": Backbone("ConvNeXtTiny", 224, _convnext("tiny"), 27_820_128, CONVNEXT_LICENCE, LIU),
    "convnext_small": Backbone("ConvNeXtSmall", 224, _convnext("small"), 49_454_688, CONVNEXT_LICENCE, LIU),
    "convnext_base": Backbone("ConvNeXtBase", 224, _convnext("base"), 87_566_464, CONVNEXT_LICENCE, LIU),
    "convnext_large": Backbone("ConvNeXtLarge", 224, _convnext("large"), 196_230_336, CONVNEXT_LICENCE, LIU),
    "convnext_xlarge": Backbone("ConvNeXtXLarge", 224, _convnext("xlarge"), 348_147_968, CONVNEXT_LICENCE, LIU),
    "nasnet_mobile": Backbone(  # a cell reads the two before it: its `adjust` layers are the first of its own that stand after all of theirs
        "NASNetMobile", 224, (("stem", "stem_conv1"), ("stage1", "reduction_conv_1_stem_1"), ("stage2", "adjust_conv_1_stem_2"),
                              ("stage3", "reduction_conv_1_reduce_4"), ("stage4", "reduction_conv_1_reduce_8")),
        4_269_716, APACHE, "Zoph et al. 2018, arXiv:1707.07012", "tf"),
}


def build_network(row: Backbone, image_size: int, *, weights: str | None = None):
    """The network of a row without its top.

    Args:
        row: of `BACKBONES`.
        image_size: height and width of the input in pixels.
        weights: None (random), or "imagenet" for Keras's own download, which a ViT does not have.

    Returns:
        A `keras.Model` named `backbone`: prepared pixels (batch, image_size, image_size, 3) to feature maps
        (batch, height, width, channels), of a ViT to tokens (batch, 1 + patches, hidden).
    """
    import keras

    if row.build == VIT:
        from tfcnn.models.vit import build_vit

        return build_vit(image_size, **row.options)
    arguments = {"include_top": False, "weights": weights, "input_shape": (image_size, image_size, 3), **row.options}
    if row.build.startswith("EfficientNetB") and weights is None:
        arguments["input_tensor"] = _as_for_imagenet(keras.Input(arguments["input_shape"]))
    network = getattr(keras.applications, row.build)(**arguments)
    return keras.Model(network.inputs[0], network.output, name="backbone")  # EfficientNetV2 refuses the argument `name`


def preprocess_function(row: Backbone) -> Callable:
    """The network's own `preprocess_input`, or the identity where the network rescales inside."""
    if row.preprocessing is None:
        return lambda pixels: pixels
    if row.preprocessing == "caffe":
        # The same numbers as Keras's, the mean first: after the turn to BGR TensorFlow's converter adds it in place and takes the
        # sum for the pixels when it measures ranges, so that the bytes of an 8-bit file would no longer be pixels.
        import numpy as np

        return lambda pixels: (pixels - np.array(CAFFE_MEANS, np.float32))[..., ::-1]
    import keras

    return lambda pixels: keras.applications.imagenet_utils.preprocess_input(pixels, mode=row.preprocessing)


def has_class_token(row: Backbone) -> bool:
    """True where the output is a sequence of tokens of which the first stands for the whole image."""
    return row.build == VIT


def list_backbones() -> list[str]:
    """The names that `build_classifier` takes."""
    return sorted(BACKBONES)


def backbones_text() -> str:
    """A line for each backbone, for a terminal."""
    lines = [f"{'backbone':<31}  {'parameters':>10}  {'pixels':>6}  {'stages':>6}  {'weights':<12}  paper"]
    for name, row in BACKBONES.items():
        lines.append(f"{name:<31}  {row.parameters / 1e6:>8.1f} M  {row.image_size:>6}  {len(row.stages):>6}  {_licence_of_weights(row):<12}  {row.paper}")
    return "\n".join([*lines, "", "parameters: without a head; pixels: the side its ImageNet weights were trained at; weights: their licence, the code's is",
                      "Apache-2.0. 'tfcnn inspect NAME' shows the stages.", "", "Networks of other data, from random weights (tfcnn train --kind):",
                      *(f"{name:<8} {', '.join(row.networks)}{f'; or one of the above, {row.takes_backbones}' if row.takes_backbones else ''}"
                        for name, row in KINDS.items() if row.networks)])


def backbones_markdown() -> str:
    """The table of README.md: a row for all backbones that share stages, licence and paper, in the order of `BACKBONES`."""
    groups: dict[tuple, list[str]] = {}
    for name, row in BACKBONES.items():
        size = "" if row.image_size == COMMON_SIZE else f" ({row.image_size} px)"
        groups.setdefault((_stage_names(row), row.paper, _licence_of_weights(row)), []).append(f"`{name}` {row.parameters / 1e6:.1f}{size}")
    lines = [f"| {', '.join(names)} | {stages} | {paper} | {licence} |" for (stages, paper, licence), names in groups.items()]
    return "\n".join(["| name, millions of parameters | stages for `--trainable` | paper | licence of the weights |", "| --- | --- | --- | --- |", *lines])


def _licence_of_weights(row: Backbone) -> str:
    return row.licence.removeprefix("code Apache-2.0, weights ")


def _stage_names(row: Backbone) -> str:
    """Names from input to output; of a long series that is counted the first and the last."""
    names = [stage for stage, _ in row.stages]
    numbered = [name for name in names if name[-1].isdigit()]
    if len(numbered) <= 5:
        return ", ".join(names)
    return ", ".join([*names[:names.index(numbered[0])], f"{numbered[0]} to {numbered[-1]}", *names[names.index(numbered[-1]) + 1:]])


def _as_for_imagenet(pixels):
    """Pixels such that EfficientNet computes from them what it computes from its input when it is built with ImageNet weights.

    Only then does Keras divide the standardised input by a further sqrt(0.229), sqrt(0.224), sqrt(0.225): a file with these
    weights, or a run that began with them, needs the same. (p / 255 - mean) / d times c is (q / 255 - mean) / d for
    q = c p + 255 mean (1 - c), whatever d is.

    Source: `keras.applications.efficientnet`, tensorflow issue 49930.
    """
    import keras

    mean, scale = (0.485, 0.456, 0.406), tuple(deviation**-0.5 for deviation in (0.229, 0.224, 0.225))
    offset = [255 * m * (1 - c) for m, c in zip(mean, scale, strict=True)]
    return keras.layers.Rescaling(list(scale), offset=offset)(pixels)
