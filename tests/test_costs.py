"""Multiply-adds: what TensorFlow counts in the graph it runs, and what papers print."""

import math

import keras
import pytest
import tensorflow as tf
from keras import layers

from tfcnn.models.backbones import BACKBONES, build_network
from tfcnn.models.geometry import geometry_of

COUNTED = ("Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2")


def total(model):
    return sum(row.multiply_adds for row in geometry_of(model))


def counted_by_tensorflow(model):
    """Half of the operations that TensorFlow's profiler finds in the graph at batch 1; of Einsum and 3-D convolutions it knows nothing."""
    function = tf.function(lambda pixels: model(pixels, training=False)).get_concrete_function(tf.TensorSpec((1, *model.input_shape[1:])))
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    options = options.with_empty_output().with_accounted_types(["Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2"]).build()
    return tf.compat.v1.profiler.profile(function.graph, cmd="op", options=options).total_float_ops // 2


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v3_small", pytest.param("efficientnet_b0", marks=pytest.mark.slow), "mobilenet"])
def test_a_backbone_costs_what_tensorflow_counts(name):
    network = build_network(BACKBONES[name], 64)
    assert total(network) == counted_by_tensorflow(network)


@pytest.mark.parametrize(("name", "convolutions", "top", "published"), [
    ("resnet50", 3_855_925_248, 2048 * 1000, 3.8e9),  # He et al. 2016, table 1; the 4.1e9 of others is of a variant that strides in its 3x3 convolutions
    ("mobilenet_v3_small", 54_896_576, 576 * 1024 + 1024 * 1000, 56e6),  # Howard et al. 2019, table 3
    ("vgg16", 15_346_630_656, 25_088 * 4096 + 4096 * 4096 + 4096 * 1000, 15.3e9),  # Howard et al. 2017, table 8
])
def test_published_networks_cost_what_is_published(name, convolutions, top, published):
    assert total(build_network(BACKBONES[name], 224)) == convolutions
    assert convolutions + top == pytest.approx(published, rel=0.02)


def test_a_vit_costs_its_projections_and_the_products_of_its_attention():
    """One of the twelve blocks of ViT-B/16; all of them give the 17.5e9 of Liu et al. 2021 (arXiv:2103.14030), table 1."""
    row = BACKBONES["vit_b_16"]
    network = build_network(row._replace(options={**row.options, "num_layers": 1}), 224)
    patches, tokens, hidden, mlp = 196, 197, 768, 3072
    block = tokens * 4 * hidden**2 + 2 * tokens**2 * hidden + tokens * 2 * hidden * mlp
    assert total(network) == patches * 16 * 16 * 3 * hidden + block
    assert patches * 768 * hidden + 12 * block == 17_563_060_224 == pytest.approx(17.5e9, rel=0.01)
    assert counted_by_tensorflow(network) == total(network) - 2 * tokens**2 * hidden  # the products are Einsum


ONE_LAYER = [  # (layer, shape of the input, multiply-adds worked out by hand)
    (layers.Conv1D(5, 3, strides=2, padding="same"), (20, 4), 10 * 3 * 4 * 5),
    (layers.Conv2D(6, (3, 5), dilation_rate=2), (20, 20, 4), 16 * 12 * 15 * 4 * 6),
    (layers.Conv2D(6, 3, groups=2, padding="same"), (8, 8, 4), 64 * 9 * 2 * 6),
    (layers.Conv2D(6, 3, padding="same", data_format="channels_first"), (4, 8, 10), 80 * 9 * 4 * 6),
    (layers.Conv3D(2, 3), (6, 7, 8, 3), 4 * 5 * 6 * 27 * 3 * 2),
    (layers.DepthwiseConv1D(3, depth_multiplier=2), (10, 4), 8 * 3 * 4 * 2),
    (layers.DepthwiseConv2D(3, strides=2, padding="same"), (10, 10, 4), 25 * 9 * 4),
    (layers.SeparableConv1D(7, 3), (10, 4), 8 * (3 * 4 + 4 * 7)),
    (layers.SeparableConv2D(7, 3, padding="same"), (5, 5, 4), 25 * (9 * 4 + 4 * 7)),
    (layers.Conv1DTranspose(3, 4, strides=2), (10, 2), 10 * 4 * 2 * 3),
    (layers.Conv2DTranspose(3, 4, strides=2, padding="same"), (5, 6, 2), 30 * 16 * 2 * 3),
    (layers.Conv3DTranspose(3, 2, strides=2), (2, 3, 4, 2), 24 * 8 * 2 * 3),
    (layers.Dense(7), (5,), 35),
    (layers.Dense(7), (11, 5), 11 * 35),
    (layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3)), (11, 5), 11 * 5 * 6),
    (layers.EinsumDense("...x,xy->...y", output_shape=7), (11, 5), 11 * 35),
    (layers.EinsumDense("abc,bd->adc", output_shape=(4, 5)), (11, 5), 11 * 4 * 5),
    (layers.LSTM(6), (10, 4), 10 * 4 * (4 * 6 + 6 * 6)),
    (layers.GRU(6, return_sequences=True), (10, 4), 10 * 3 * (4 * 6 + 6 * 6)),
    (layers.SimpleRNN(6), (10, 4), 10 * (4 * 6 + 6 * 6)),
    *[(layer, (8, 8, 4), 0) for layer in (layers.BatchNormalization(), layers.LayerNormalization(), layers.ReLU(), layers.PReLU(), layers.MaxPooling2D(),
                                          layers.GlobalAveragePooling2D(), layers.Dropout(0.5), layers.Flatten(), layers.UpSampling2D())],
]


@pytest.mark.parametrize(("layer", "shape", "expected"), ONE_LAYER, ids=[f"{type(layer).__name__}, {count}" for layer, _, count in ONE_LAYER])
def test_a_layer_costs_what_its_shapes_say(layer, shape, expected):
    image = keras.Input(shape)
    assert total(keras.Model(image, layer(image))) == expected


def test_attention_over_another_sequence_counts_both():
    query, value, mask = keras.Input((7, 6)), keras.Input((5, 4)), keras.Input((7, 5), dtype="bool")
    out = layers.MultiHeadAttention(2, 3, value_dim=4, output_shape=9)(query, value, attention_mask=mask)
    projections = 7 * 6 * 2 * 3 + 5 * 4 * 2 * 3 + 5 * 4 * 2 * 4 + 7 * 2 * 4 * 9
    assert total(keras.Model([query, value, mask], out)) == projections + 2 * 7 * 5 * (3 + 4)


def test_attention_along_one_axis_of_a_map():
    image = keras.Input((4, 6, 8))
    out = layers.MultiHeadAttention(2, 3, attention_axes=2)(image, image)
    assert total(keras.Model(image, out)) == 24 * 4 * 8 * 6 + 2 * (4 * 6 * 6) * (3 + 3)


def test_attention_without_projections_and_products_of_tensors():
    query, value = keras.Input((7, 6)), keras.Input((5, 6))
    assert total(keras.Model([query, value], layers.Attention()([query, value]))) == 7 * 5 * 12
    assert total(keras.Model([query, value], query @ keras.ops.swapaxes(value, 1, 2))) == 7 * 5 * 6


def test_what_cannot_be_counted_is_not_guessed():
    class Own(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 3))

        def call(self, x):
            return x @ self.kernel

    image = keras.Input((6, 4))
    model = keras.Model(image, layers.Dense(2)(Own()(image)))
    assert [row.multiply_adds for row in geometry_of(model)] == [None, 6 * 3 * 2]
    assert [row.multiply_adds for row in geometry_of(keras.Model(image, keras.ops.einsum("abc,abd->acd", image, image)))] == [None]


def test_a_nested_network_costs_as_much_as_alone():
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Conv2D(5, 1)], name="backbone")
    image = keras.Input((8, 8, 3))
    outer = keras.Model(image, layers.Dense(2)(layers.Flatten()(inner(image))))
    assert total(outer) == total(inner) + 2 * math.prod(inner.output_shape[1:]) == 36 * 27 * 4 + 36 * 20 + 360
