"""The geometry of a network: fields that gradients confirm, shapes, what a graph must be."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfcnn
from tfcnn.errors import InputError
from tfcnn.models.backbones import BACKBONES, build_network
from tfcnn.models.geometry import geometry_of
from tfcnn.models.receptive_field import Field


def fields(model, **arguments):
    """Layer name → its field."""
    return {row.layer.name: row.field for row in geometry_of(model, **arguments)}


def last_field(model):
    return geometry_of(model)[-1].field


def with_positive_weights(model):
    """Nothing cancels and no ReLU is closed: what a position can see, it sees."""
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if not list(layer._flatten_layers(include_self=False)) and not isinstance(layer, layers.BatchNormalization):
            summed = -2 if isinstance(layer, layers.DepthwiseConv2D) else -1  # the axes before it: outputs stay near 1
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) / max(1, np.prod(weight.shape[:summed])) for weight in layer.weights])
    return model


def seen(model, positions, draws=1, values=(0.5, 1.5)):
    """First and last input pixel along each axis with a gradient of the output at some positions; max-pooling takes many draws.

    `values`: of the pixels; behind a preprocessing that makes them negative no ReLU is open."""
    (shape,) = [tensor.shape[1:] for tensor in model.inputs]
    rng, found = np.random.default_rng(1), np.zeros(shape, bool)
    for _ in range(draws):
        pixels = tf.constant(rng.uniform(*values, (1, *shape)).astype(np.float32))
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            value = tf.reduce_sum(model(pixels, training=False)[(0, *positions)])
        found |= tape.gradient(value, pixels).numpy()[0] != 0
    places = np.argwhere(found)
    return [(int(places[:, axis].min()), int(places[:, axis].max())) for axis in range(found.ndim - 1)]


def ends_of(field, positions):
    """First and last pixel of the field of the output at some positions; it may lie outside of the picture."""
    centres = [offset + place * stride for offset, stride, place in zip(field.offset, field.stride, positions, strict=True)]
    return [(centre - (size - 1) / 2, centre + (size - 1) / 2) for centre, size in zip(centres, field.size, strict=True)]


def check_with_gradients(model, draws=1, turns=9):
    """Positions along the diagonal see nothing outside of their field, and its ends too where it lies within the picture."""
    with_positive_weights(model)
    field, inside = last_field(model), 0
    for turn in range(turns):
        positions = tuple(turn * (side - 1) // (turns - 1) for side in model.output_shape[1:-1])
        for (first, last), (low, high), side in zip(seen(model, positions, draws), ends_of(field, positions), model.input_shape[1:], strict=False):
            within = low >= 0 and high < side  # what is padded inside is cut away beyond
            assert (first, last) == (low, high) if within else (first >= low and last <= high), positions
            inside += within
    assert inside >= 2 * min(turns // 4, 3)


def chain(shape, *steps):
    return keras.Sequential([keras.Input(shape), *steps])


def branches(shape, build):
    image = keras.Input(shape)
    return keras.Model(image, build(image))


def residual(x):
    x = layers.Conv2D(4, 7, strides=2, padding="same")(x)
    for stride in (1, 2):
        y = layers.Conv2D(4, 1, strides=stride)(x)
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(y)))
        x = layers.Add()([layers.Conv2D(4, 1, strides=stride)(x), y])
    return x


def inception(x):
    x = layers.Conv2D(3, 3)(x)
    return layers.Concatenate()([layers.Conv2D(2, 1)(x), layers.Conv2D(2, 5, padding="same")(x), layers.Conv2D(2, 3, padding="same", dilation_rate=4)(x),
                                 layers.AveragePooling2D(3, strides=1, padding="same")(x)])


SAME = {"padding": "same"}
NETWORKS = {
    "1-D, strided, dilated": chain((90, 2), layers.Conv1D(3, 5, strides=2, **SAME), layers.Conv1D(3, 3, dilation_rate=3), layers.AveragePooling1D(3)),
    "1-D, causal": chain((60, 2), layers.Conv1D(3, 3, padding="causal", dilation_rate=2), layers.Conv1D(3, 4, strides=2, padding="causal")),
    "1-D, depthwise and separable": chain((60, 2), layers.DepthwiseConv1D(5, strides=2), layers.SeparableConv1D(3, 3, **SAME)),
    "2-D, odd sides": chain((41, 30, 2), layers.Conv2D(3, (3, 5), strides=(2, 1), **SAME), layers.Conv2D(3, (4, 2), **SAME), layers.AveragePooling2D(2)),
    "2-D, padded and cropped": chain((40, 40, 2), layers.ZeroPadding2D(((0, 1), (2, 1))), layers.Conv2D(3, 3, strides=2), layers.Cropping2D(((1, 2), (3, 0)))),
    "2-D, depthwise and separable": chain((40, 36, 2), layers.DepthwiseConv2D(3, strides=2, **SAME), layers.SeparableConv2D(3, 5), layers.PReLU()),
    "2-D, grouped": chain((30, 30, 4), layers.Conv2D(4, 3, groups=2), layers.Conv2D(4, 3, dilation_rate=2, **SAME)),
    "2-D, Dense at each position": chain((20, 24, 3), layers.Conv2D(4, 4, strides=4), layers.LayerNormalization(), layers.Dense(5), layers.Conv2D(2, 3)),
    "2-D, residual": branches((50, 50, 2), residual),
    "2-D, branches of different fields": branches((36, 40, 2), inception),
    "2-D, nested": chain((32, 32, 2), chain((32, 32, 2), layers.Conv2D(3, 3), chain((30, 30, 3), layers.Conv2D(3, 3, strides=2))), layers.Conv2D(2, 3)),
    "3-D": chain((24, 20, 16, 1), layers.Conv3D(2, 3, **SAME), layers.AveragePooling3D(2), layers.ZeroPadding3D(1), layers.Conv3D(2, (3, 2, 2), strides=2)),
    "3-D, cropped": chain((16, 16, 16, 1), layers.Cropping3D(((1, 0), (0, 2), (3, 1))), layers.Conv3D(2, 3, strides=2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_end_where_the_field_ends(name):
    check_with_gradients(NETWORKS[name])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_that_was_saved_has_the_same_geometry(name):
    """Tuples come back as lists."""
    again = keras.models.model_from_json(NETWORKS[name].to_json())
    assert [row[2:] for row in geometry_of(again)] == [row[2:] for row in geometry_of(NETWORKS[name])]


def test_gradients_of_max_pooling_end_where_the_field_ends():
    check_with_gradients(chain((24, 24, 3), layers.Conv2D(3, 3, **SAME), layers.MaxPooling2D(3, strides=2, **SAME), layers.MaxPooling2D(2)), draws=60, turns=4)


@pytest.mark.parametrize("steps", [
    (layers.UpSampling1D(3),), (layers.Conv1D(2, 3, strides=4), layers.UpSampling1D(2), layers.Conv1D(2, 3)),
    (layers.Conv1DTranspose(2, 4, strides=2, padding="same"),), (layers.Conv1DTranspose(2, 3, strides=2), layers.Conv1D(2, 2)),
    (layers.AveragePooling1D(2), layers.UpSampling1D(2), layers.AveragePooling1D(2), layers.UpSampling1D(4))])
def test_after_upsampling_the_largest_field_is_told(steps):
    model = with_positive_weights(chain((80, 2), *[type(step).from_config(step.get_config()) for step in steps]))
    field, count = last_field(model), model.output_shape[1]
    sizes = [last - first + 1 for ((first, last),) in (seen(model, (place,)) for place in range(count // 3, 2 * count // 3))]
    assert max(sizes) == field.size[0]
    ((first, _),), ((later, _),) = seen(model, (count // 2,)), seen(model, (count // 2 + 12,))
    assert later - first == 12 * field.stride[0]


@pytest.mark.parametrize(("interpolation", "size"), [("nearest", 1), ("bilinear", 2), ("bicubic", 4)])
def test_upsampling_reads_what_its_interpolation_reads(interpolation, size):
    model = chain((20, 20, 1), layers.UpSampling2D(2, interpolation=interpolation))
    assert last_field(model).size == (size, size) and last_field(model).stride == (0.5, 0.5)
    assert last_field(chain((20, 20, 1), layers.UpSampling2D((1, 2), interpolation=interpolation))).size == (1, size)
    (rows, columns) = seen(model, (21, 20))
    assert rows[1] - rows[0] + 1 == columns[1] - columns[0] + 1 == size


def test_stacked_convolutions_of_three_see_three_five_seven():
    model = chain((20, 20, 1), *[layers.Conv2D(1, 3) for _ in range(3)])
    rows = geometry_of(model)
    assert [row.field for row in rows] == [Field((size, size), (1, 1), (size // 2, size // 2)) for size in (3, 5, 7)]
    assert [row.output for row in rows] == [(18, 18, 1), (16, 16, 1), (14, 14, 1)]


def test_strides_and_padding_say_where_the_first_output_looks():
    model = chain((16, 16, 1), layers.Conv2D(1, 3, strides=2, padding="same"), layers.Conv2D(1, 2, strides=2), layers.ZeroPadding2D(1))
    assert list(fields(model).values()) == [Field((3, 3), (2, 2), (1, 1)), Field((5, 5), (4, 4), (2, 2)), Field((5, 5), (4, 4), (-2, -2))]


@pytest.mark.parametrize(("name", "layer", "size", "stride"), [
    ("resnet50", "conv5_block3_out", 483, 32), ("vgg16", "block5_pool", 212, 32), ("mobilenet", "conv_pw_13_relu", 315, 32)])
def test_published_networks_have_their_published_fields(name, layer, size, stride):
    """Araujo et al. 2019, section "Discussion: receptive fields of modern networks"."""
    field = fields(build_network(BACKBONES[name], 64))[layer]
    assert field.size == (size, size) and field.stride == (stride, stride) and field.whole is False


class First(layers.Layer):
    """The first of several inputs: what is left of a product with gates, and of a sum whose other parts are of no matter here."""

    def call(self, inputs):
        return inputs[0]


def with_average_pooling(layer):
    """A gradient through max-pooling sees only the winners."""
    if not isinstance(layer, layers.MaxPooling2D):
        return layer.__class__.from_config(layer.get_config())
    return layers.AveragePooling2D(layer.pool_size, layer.strides, layer.padding, name=layer.name)


def without_gates(layer):
    """Squeeze-and-excitation sees the whole picture: left out."""
    return First(name=layer.name) if layer.name.endswith("squeeze_excite_mul") else layer.__class__.from_config(layer.get_config())


@pytest.mark.parametrize(("name", "side", "change", "layer", "size", "position"), [
    ("resnet50", 576, with_average_pooling, "conv5_block3_out", 483, 8),
    ("vgg16", 288, with_average_pooling, "block5_pool", 212, 4),
    ("mobilenet_v3_small", 416, without_gates, "expanded_conv_7_add", 319, 13),
    ("mobilenet_v3_small", 704, without_gates, "conv_1_bn", 639, 11),
])
def test_gradients_of_whole_networks_end_where_their_fields_end(name, side, change, layer, size, position):
    """ResNet50, VGG16 and MobileNetV3-Small; the first two with average in place of max-pooling, the last without its gates."""
    network = build_network(BACKBONES[name], side)
    field = fields(network)[layer]
    assert field.size == (size, size)
    changed = keras.models.clone_model(network, clone_function=change)
    model = with_positive_weights(keras.Model(changed.input, changed.get_layer(layer).output))
    assert seen(model, (position, position), values=(200, 255)) == ends_of(field, (position, position))


def test_a_gate_leaves_the_local_field_and_says_that_the_whole_counts_too():
    found = fields(build_network(BACKBONES["mobilenet_v3_small"], 64))
    assert found["conv_bn"] == Field((3, 3), (2, 2), (1, 1))
    before, gate, after = (found[f"expanded_conv_{name}"] for name in ("depthwise_bn", "squeeze_excite_avg_pool", "project"))
    assert before.size == after.size == (7, 7) and before.whole is False and after.whole is True
    assert gate == Field(whole=True)


def test_the_gate_of_squeeze_and_excitation_reaches_every_pixel():
    def squeezed(x):
        x = layers.Conv2D(3, 3)(x)
        gate = layers.Dense(3)(layers.GlobalAveragePooling2D(keepdims=True)(x))
        return layers.Multiply()([x, gate])

    model = with_positive_weights(branches((12, 12, 2), squeezed))
    assert seen(model, (4, 4)) == [(0, 11), (0, 11)]
    assert last_field(model) == Field((3, 3), (1, 1), (1, 1), True)


def test_a_sum_with_the_whole_sees_the_whole():
    model = branches((12, 12, 2), lambda x: layers.Add()([x, layers.GlobalMaxPooling2D(keepdims=True)(x)]))
    assert last_field(model) == Field(whole=True)


@pytest.mark.parametrize("step", [layers.Flatten(), layers.GlobalMaxPooling2D(), layers.GroupNormalization(2), layers.LayerNormalization(axis=(1, 2, 3)),
                                  layers.Reshape((10 * 8 * 4,)), layers.MultiHeadAttention(2, 2)], ids=lambda step: step.name)
def test_some_layers_see_all(step):
    image = keras.Input((10, 8, 4))
    x = step(image, image) if isinstance(step, layers.MultiHeadAttention) else step(image)
    assert last_field(keras.Model(image, x)) == Field(whole=True)
    assert last_field(keras.Model(image, layers.Dense(2)(x))) == Field(whole=True)


def test_a_vit_sees_a_patch_until_the_first_attention():
    row = BACKBONES["vit_b_16"]
    found = fields(build_network(row._replace(options={**row.options, "num_layers": 1, "hidden_dim": 24, "num_heads": 2, "mlp_dim": 8}), 32))
    assert found["patch_embedding"] == Field((16, 16), (16, 16), (7.5, 7.5))
    assert found["embeddings"] == found["block1_norm1"] == Field((16, 16))  # tokens have no place
    assert found["block1_attention"] == found["block1_add1"] == found["norm"] == Field(whole=True)
    assert found["class_token"] == Field()  # a constant sees nothing


def test_preprocessing_by_channels_sees_a_pixel():
    model = tfcnn.build_classifier("resnet50", labels=["a", "b"], weights="none", image_size=32)
    rows = geometry_of(model)
    before = [row for row in rows if not row.parents][:2]
    assert [type(row.layer).__name__ for row in before] == ["Subtract", "GetItem"]
    assert all(row.field == Field((1, 1), (1, 1), (0, 0)) for row in before)
    assert [row[2:] for row in geometry_of(keras.models.model_from_json(model.to_json()))] == [row[2:] for row in rows]
    found = fields(model)
    assert found["conv5_block3_out"].size == (483, 483) and found["logits"] == Field(whole=True)
    assert [row.parents for row in rows if row.layer.name == "conv1_conv"] == [(model.get_layer("backbone"),)]


class Unheard(layers.Layer):
    def call(self, x):
        return keras.ops.flip(x, axis=1)


@pytest.mark.parametrize("build", [
    lambda x: layers.Conv2D(2, 3)(Unheard()(x)),
    lambda x: layers.Add()([layers.Conv2D(2, 2, strides=2)(x), layers.Conv2D(2, 9)(x)]),  # 8 positions each, at 2 pixels and at 1
    lambda x: x[:, ::-1],
    lambda x: layers.Concatenate(axis=1)([x, x]),
    lambda x: layers.Permute((2, 1, 3))(x),
    lambda x: layers.Conv1D(2, 3)(layers.Reshape((256, 2))(x)),
], ids=["a layer of one's own", "branches of different strides", "a flip", "pictures side by side", "a permutation", "tokens in a convolution"])
def test_what_is_not_known_is_not_told(build):
    assert last_field(branches((16, 16, 2), build)) == Field(whole=None)


def test_what_is_not_known_is_known_again_to_see_all():
    assert last_field(branches((16, 16, 2), lambda x: layers.GlobalMaxPooling2D()(Unheard()(x)))) == Field(whole=True)


def test_with_several_inputs_no_field_is_told():
    one, two = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    assert last_field(keras.Model([one, two], layers.Add()([one, two]))) == Field(whole=None)


def test_a_layer_that_is_called_twice_has_two_rows():
    conv = layers.Conv2D(2, 3, name="conv")
    rows = geometry_of(chain((12, 12, 2), chain((None, None, 2), conv, layers.ReLU()), chain((None, None, 2), conv)))
    assert [row.layer.name for row in rows].count("conv") == 2
    assert [row.field.size for row in rows] == [(3, 3), (3, 3), (5, 5)] and [row.output for row in rows] == [(10, 10, 2), (10, 10, 2), (8, 8, 2)]


def test_a_model_of_open_size_is_told_its_size():
    model = chain((None, None, 3), layers.Conv2D(4, 3, strides=2), layers.GlobalAveragePooling2D(), layers.Dense(2))
    rows = geometry_of(model, input_shape=(21, 11, 3))
    assert [row.output for row in rows] == [(10, 5, 4), (4,), (2,)]
    assert [row.multiply_adds for row in rows] == [10 * 5 * 27 * 4, 0, 8]
    with pytest.raises(InputError, match=r"expected a model of fixed input size, got input_shape=\(None, None, 3\)"):
        geometry_of(model)


def test_a_layer_that_leaves_its_size_open_is_traced():
    model = chain((11, 5), layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3)), layers.Reshape((11, 6)), layers.Conv1D(2, 3))
    assert [row.output for row in geometry_of(model)] == [(11, 2, 3), (11, 6), (9, 2)]
    assert [row.field.size for row in geometry_of(model)] == [(1,), (1,), (3,)]


def test_another_shape_than_the_model_takes_is_refused():
    model = chain((8, 8, 3), layers.Conv2D(4, 3))
    for wrong in ((9, 8, 3), (8, 8), (8, 8, 1)):
        with pytest.raises(InputError, match=r"which is \(8, 8, 3\), got input_shape="):
            geometry_of(model, input_shape=wrong)


def test_a_model_without_a_graph_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    for model in (Own(), keras.Sequential([layers.Dense(2)])):
        with pytest.raises(InputError, match=r"expected a functional or Sequential keras.Model that is built, got model="):
            geometry_of(model)


def test_a_part_of_a_network_counts_from_its_own_input():
    network = chain((20, 20, 1), layers.Conv2D(2, 3, name="one"), layers.Conv2D(2, 3, name="two"))
    part = keras.Model(network.get_layer("one").output, network.outputs[0])
    assert fields(part) == {"two": Field((3, 3), (1, 1), (1, 1))}
