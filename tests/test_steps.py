"""Convolution and pooling by hand: the same numbers as Keras, worked examples, sizes."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tfcnn.errors import InputError
from tfcnn.models.geometry import convolve2d_steps, image_of, output_size, pool2d_steps

CHECKERBOARD = np.indices((5, 5)).sum(axis=0) % 2 == 0
CROSS = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]])


def by_keras(image, kernel, **arguments):
    image, kernel = (array[..., None] if array.ndim == 2 else array for array in (np.asarray(image, np.float32), np.asarray(kernel, np.float32)))
    return np.asarray(keras.ops.conv(image[None], kernel[..., None], **arguments))[0, ..., 0]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_sums_are_those_of_keras(data):
    number = lambda least, most: data.draw(st.integers(least, most))
    kernel_shape, channels = (number(1, 4), number(1, 4)), number(1, 3)
    stride, dilation = ((number(1, 3), number(1, 3)), (1, 1)) if data.draw(st.booleans()) else ((1, 1), (number(1, 3), number(1, 3)))
    padding = data.draw(st.sampled_from(["valid", "same"]))
    image_shape = [dilation[axis] * (kernel_shape[axis] - 1) + number(1, 6) for axis in (0, 1)]
    rng = np.random.default_rng(number(0, 1000))
    image, kernel = rng.normal(size=(*image_shape, channels)), rng.normal(size=(*kernel_shape, channels))
    ours = image_of(convolve2d_steps(image, kernel, stride, padding, dilation))
    np.testing.assert_allclose(ours, by_keras(image, kernel, strides=stride, padding=padding, dilation_rate=dilation), atol=1e-4)
    assert ours.shape == output_size(image_shape, kernel_shape, stride, padding, dilation)


@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), ((2, 3), (1, 2)), (2, None)])
def test_pooling_is_that_of_keras(mode, padding, size, stride):
    image = np.random.default_rng(0).normal(size=(7, 8)) - 5  # zeros of a padding would be the largest
    pool = {"max": keras.ops.max_pool, "average": keras.ops.average_pool}[mode]
    expected = np.asarray(pool(image[None, ..., None].astype(np.float32), size, strides=stride, padding=padding))[0, ..., 0]
    np.testing.assert_allclose(image_of(pool2d_steps(image, size, stride, padding, mode)), expected, atol=1e-5)


def test_the_checkerboard_gives_five_and_zero():
    """Where a one lies under the middle, all five ones of the kernel meet ones; elsewhere none does. Often printed as 4 3 4 / 3 4 3 / 4 3 4."""
    assert image_of(convolve2d_steps(CHECKERBOARD, CROSS)).tolist() == [[5, 0, 5], [0, 5, 0], [5, 0, 5]]
    assert by_keras(CHECKERBOARD, CROSS).tolist() == [[5, 0, 5], [0, 5, 0], [5, 0, 5]]


def test_a_step_shows_what_is_multiplied():
    steps = list(convolve2d_steps(np.arange(16).reshape(4, 4), [[1, 2], [3, 4]]))
    assert [step[:4] for step in steps[:4]] == [(0, 0, 0, 0), (0, 1, 0, 1), (0, 2, 0, 2), (1, 0, 1, 0)]
    assert steps[4].patch.tolist() == [[5, 6], [9, 10]] and steps[4].product.tolist() == [[5, 12], [27, 40]] and steps[4].sum == 84


def test_steps_may_come_in_any_order_and_not_all():
    steps = list(convolve2d_steps(CHECKERBOARD, CROSS))
    assert image_of(reversed(steps)).tolist() == image_of(steps).tolist()
    np.testing.assert_array_equal(image_of(steps[:4]), [[5, 0, 5], [0, np.nan, np.nan]])


def test_the_kernel_is_not_turned_round():
    image = np.zeros((5, 5))
    image[2, 2] = 1
    kernel = np.arange(1, 10).reshape(3, 3)
    assert image_of(convolve2d_steps(image, kernel)).tolist() == kernel[::-1, ::-1].tolist()
    from scipy.signal import convolve2d, correlate2d

    image = np.random.default_rng(0).normal(size=(6, 7))
    np.testing.assert_allclose(image_of(convolve2d_steps(image, kernel)), correlate2d(image, kernel, "valid"))
    np.testing.assert_allclose(image_of(convolve2d_steps(image, kernel[::-1, ::-1])), convolve2d(image, kernel, "valid"))


def test_padding_surrounds_the_image():
    first = next(convolve2d_steps(np.ones((3, 3)), np.ones((3, 3)), padding="same"))
    assert (first.top, first.left) == (-1, -1) and first.patch.tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 1]] and first.sum == 4
    first = next(pool2d_steps(-np.ones((3, 3)), 2, padding="same", mode="average"))
    assert first.value == -1


@pytest.mark.parametrize(("arguments", "expected"), [
    ((28, 3), 26), ((28, 3, 1, "same"), 28), ((28, 2, 2), 14), ((224, 7, 2, "same"), 112), ((9, 3, 1, "valid", 2), 5),
    (((100,), 5, 2), (48,)), (((32, 48), 3, 2, "same"), (16, 24)), (((16, 32, 32), (1, 3, 3)), (16, 30, 30))])
def test_sizes_of_outputs(arguments, expected):
    assert output_size(*arguments) == expected


@pytest.mark.parametrize(("rank", "layer"), [(1, "Conv1D"), (2, "Conv2D"), (3, "Conv3D")])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_sizes_are_those_of_layers(rank, layer, padding):
    shape = (11, 12, 13)[:rank]
    for kernel, stride, dilation in [(3, 1, 1), (4, 3, 1), (3, 1, 2)]:
        made = getattr(keras.layers, layer)(1, kernel, strides=stride, padding=padding, dilation_rate=dilation)
        assert made.compute_output_shape((None, *shape, 1))[1:-1] == output_size(shape, kernel, stride, padding, dilation)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: convolve2d_steps(np.ones(5), np.ones((3, 3))), "expected an image of numbers .* got float64 of shape=(5,)"),
    (lambda: convolve2d_steps([["a"]], np.ones((1, 1))), "expected an image of numbers"),
    (lambda: convolve2d_steps(np.full((3, 3), np.nan), np.ones((1, 1))), "finite numbers"),
    (lambda: convolve2d_steps(np.ones((5, 5, 3)), np.ones((3, 3))), "got image.shape=(5, 5, 3) and kernel.shape=(3, 3)"),
    (lambda: convolve2d_steps(np.ones((5, 5)), np.ones((3, 3)), padding="sane"), "got padding='sane'; did you mean 'same'"),
    (lambda: convolve2d_steps(np.ones((5, 5)), np.ones((3, 3)), stride=0), "got stride=0"),
    (lambda: convolve2d_steps(np.ones((5, 5)), np.ones((3, 3)), dilation=(1, 2, 3)), r"got dilation=(1, 2, 3)"),
    (lambda: convolve2d_steps(np.ones((5, 5)), np.ones((3, 3)), dilation=3), "got one of 7 on 5 positions"),
    (lambda: pool2d_steps(np.ones((4, 4)), mode="mean"), "expected a pooling, got mode='mean'"),
    (lambda: pool2d_steps(np.ones((4, 4, 1))), "two dimensions"),
    (lambda: output_size((5, 5), (3, 3, 3)), r"got kernel=(3, 3, 3)"),
    (lambda: output_size(5, 2.5), "got kernel=2.5"),
    (lambda: image_of([]), "got none"),
    (lambda: output_size(5.0, 3), "got size=5.0"),
    (lambda: output_size(None, 3), "got size=None"),
    (lambda: convolve2d_steps([[1, 2], [3]], [[1]]), "in rows of one length, got list"),
    (lambda: pool2d_steps(np.ones((4, 4)), mode=["max"]), "got mode=['max']"),
])
def test_what_cannot_be_done_is_refused(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert all(part in str(caught.value) for part in message.split(" .* "))
