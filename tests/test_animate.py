"""Animations: a picture for each step, in which numbers and the window are seen."""

import io

import numpy as np
import pytest
from PIL import Image

import tfcnn
from tfcnn.errors import InputError
from tfcnn.evaluation.animate import WINDOW

BOARD = np.indices((5, 5)).sum(axis=0) % 2


def pictures(animation):
    with Image.open(io.BytesIO(animation.gif)) as file:
        found = []
        for number in range(file.n_frames):
            file.seek(number)
            found.append(np.asarray(file.convert("RGB"), int))
    return found


def framed(picture):
    """Columns and rows in which the colour of the window stands."""
    wanted = [int(WINDOW[place:place + 2], 16) for place in (1, 3, 5)]
    return np.argwhere(np.abs(picture - wanted).max(axis=-1) < 24)


def test_a_convolution_has_a_picture_for_each_step_and_its_window_moves(tmp_path):
    animation = tfcnn.animate_convolution(BOARD, np.eye(3), milliseconds=100)
    found = pictures(animation)
    assert animation.frames == len(found) == 9
    left = [framed(picture)[:, 1].min() for picture in found]
    top = [framed(picture[:, :picture.shape[1] // 3])[:, 0].min() for picture in found]
    assert left[0] < left[1] < left[2] and left[3] == left[0] and top[0] == top[1] < top[3] < top[6]
    assert animation.save(tmp_path / "a.gif").read_bytes() == animation.gif and animation._repr_html_().startswith("<img alt=")
    with Image.open(tmp_path / "a.gif") as file:
        assert file.info["duration"] == 100 and file.info["loop"] == 0


@pytest.mark.parametrize(("arguments", "frames"), [
    ({"stride": 2}, 4), ({"padding": "same", "stride": (2, 3)}, 6), ({"dilation": 2}, 1)])
def test_strides_padding_and_dilation_are_drawn(arguments, frames):
    assert tfcnn.animate_convolution(BOARD, np.ones((3, 3)), **arguments).frames == frames


def test_numbers_are_written_whole_and_numpy_numbers_are_taken(monkeypatch):
    written = []
    monkeypatch.setattr("tfcnn.evaluation.animate._cells", lambda axes, numbers, texts, *place, **more: written.append(list(texts)))
    tfcnn.animate_convolution(np.full((5, 5), 255), np.ones((3, 3)), dilation=np.int64(2))
    image, terms, output = written
    assert image == ["255"] * 25 and terms == ["255·1"] * 9 and output == ["2295"]


def test_pooling_and_images_without_room_for_numbers_are_drawn():
    assert len(pictures(tfcnn.animate_pooling(BOARD, padding="same", mode="average"))) == 9
    assert tfcnn.animate_pooling(np.random.default_rng(0).uniform(size=(32, 32)), 16).frames == 4


@pytest.mark.parametrize(("call", "message"), [
    (lambda: tfcnn.animate_convolution(np.ones((5, 5, 2)), np.ones((3, 3, 2))), "two dimensions to draw, got image.shape=(5, 5, 2)"),
    (lambda: tfcnn.animate_convolution(np.ones((64, 64)), np.ones((3, 3))), "at most 400 steps to draw, got more"),
    (lambda: tfcnn.animate_convolution(np.ones((3000, 3000)), np.ones((3, 3))), "got more"),
    (lambda: tfcnn.animate_pooling(BOARD, milliseconds=0), "got milliseconds=0"),
    (lambda: tfcnn.animate_pooling(BOARD, 9), "got one of 9 on 5 positions"),
    (lambda: tfcnn.animate_pooling(BOARD).save("a.png"), "ends in .gif, got 'a.png'"),
])
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)
