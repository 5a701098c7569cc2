"""Grey photos and images of four channels, from every source that can give them."""

import numpy as np
import pytest
from PIL import Image

import tfcnn
from tfcnn.data.channels import GreyRows, in_channels, to_grey
from tfcnn.data.run_data import load_run_data
from tfcnn.data.store import StoredRows
from tfcnn.errors import InputError
from tfcnn.files import write_rows
from tfcnn.record import write_record

HALF = (0.5, 0.25, 0.25)


def images_of(count, channels=4, side=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels)).astype(np.uint8)


def dataset_of(images, targets):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((images, targets))


def refusal(*arguments, **named):
    with pytest.raises(InputError) as refused:
        tfcnn.load_images(*arguments, **named)
    message = str(refused.value)
    assert message.startswith("expected ") and "\n" not in message
    return message


def test_grey_is_the_brightness_of_bt_601():
    photo = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 20, 30]]], np.uint8)
    np.testing.assert_array_equal(to_grey(photo)[0, :, 0], [76, 150, 29, 255, 18])  # 0.299, 0.587 and 0.114 of 255
    for value in range(256):
        assert to_grey(np.full((1, 1, 3), value, np.uint8)).item() == value


def test_grey_is_pillows_and_keeps_the_shape_in_front():
    photos = images_of(6, channels=3).reshape(2, 3, 16, 16, 3)
    grey = to_grey(photos)
    assert grey.shape == (2, 3, 16, 16, 1) and grey.dtype == np.uint8
    np.testing.assert_array_equal(grey[1, 2, ..., 0], Image.fromarray(photos[1, 2]).convert("L"))
    assert to_grey(photos[0, :0]).shape == (0, 16, 16, 1)
    np.testing.assert_array_equal(to_grey(photos[:, :, ::2, ::-1]), grey[:, :, ::2, ::-1])  # whatever order the bytes lie in


@pytest.mark.parametrize("channels", [3, 4])
def test_other_numbers_of_channels_leave_the_photos_as_they_are(channels):
    photos = images_of(3, channels)
    assert in_channels(photos, channels) is photos


def test_grey_photos_of_files_lie_on_disk_and_are_indexed_like_an_array(photos):
    data, colour = (tfcnn.load_images(photos, image_size=24, channels=channels) for channels in (1, 3))
    assert isinstance(data.inputs, GreyRows) and isinstance(colour.inputs, StoredRows)  # the store holds colours for both
    assert data.input_shape == (24, 24, 1) and data.arguments["channels"] == 1
    assert data.inputs.shape == (60, 24, 24, 1) and data.inputs.dtype == np.uint8 and len(data.inputs) == 60
    expected = to_grey(colour.inputs[:])
    assert expected.std() > 10
    for index in (7, -1, slice(3, 9, 2), np.array([5, 2, 2]), [40, 1], np.arange(60) % 7 == 0):
        np.testing.assert_array_equal(data.inputs[index], expected[index])
    np.testing.assert_array_equal(data.inputs.choose(np.array([8, 3, 5]))[1:], expected[[3, 5]])
    np.testing.assert_array_equal(data.photos(data.rows("test"))[:], expected[data.rows("test")])
    assert len(list(data.photos(data.rows("test")))) == 12  # it ends, as an array does
    assert data.items == colour.items
    pixels, _ = next(iter(data.test))
    assert pixels.shape == (12, 24, 24, 1)
    np.testing.assert_array_equal(pixels, expected[data.rows("test")])


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1)])
def test_grey_arrays_stay_what_they_are_and_colours_become_grey(shape, tmp_path):
    images, targets = images_of(12, 1).reshape(12, *shape), np.arange(12) % 2
    np.savez(tmp_path / "grey.npz", x=images, y=targets)
    for source in ((images, targets), tmp_path / "grey.npz"):
        data = tfcnn.load_images(source, split=HALF, channels=1)
        assert data.input_shape == (16, 16, 1)
        np.testing.assert_array_equal(data.inputs, images.reshape(12, 16, 16, 1))
    colours = images_of(12, 3)
    np.testing.assert_array_equal(tfcnn.load_images((colours, targets), split=HALF, channels=1).inputs, to_grey(colours))


def test_grey_arrays_of_another_size_and_grey_tf_data_are_read_too():
    images, targets = images_of(12, 1), np.arange(12) % 2
    for source, size in (((images, targets), 8), (dataset_of(images, targets), 16)):
        data = tfcnn.load_images(source, image_size=size, split=HALF, channels=1)
        assert data.input_shape == (size, size, 1) and isinstance(data.inputs, GreyRows)
    np.testing.assert_array_equal(data.inputs[:], images)  # three equal channels, and back


def test_images_of_four_channels_come_from_arrays_npz_and_tf_data(tmp_path):
    images, targets = images_of(12), np.arange(12) % 2
    np.savez(tmp_path / "four.npz", x_train=images[:6], y_train=targets[:6], x_val=images[6:8], y_val=targets[6:8], x_test=images[8:], y_test=targets[8:])
    dataset = dataset_of(images, targets)
    for source in ((images, targets), (images.astype(np.float32), targets), tmp_path / "four.npz", dataset, dataset.batch(4, drop_remainder=True),
                   dataset.batch(5)):
        for image_size in (None, 16):
            data = tfcnn.load_images(source, image_size=image_size, split=HALF, channels=4)
            assert data.input_shape == (16, 16, 4) and data.arguments["channels"] == 4
            np.testing.assert_array_equal(data.inputs, images)


def test_images_of_four_channels_need_not_be_square_where_no_size_is_asked_for():
    images = images_of(12)[:, :, :10]
    data = tfcnn.load_images((images, np.arange(12) % 2), split=HALF, channels=4)
    assert data.input_shape == (16, 10, 4)
    np.testing.assert_array_equal(data.inputs, images)


def test_images_that_differ_in_the_fourth_channel_alone_are_no_contradiction_but_stay_together():
    images, targets = images_of(24), np.arange(24) % 2
    images[12:, ..., :3] = images[:12, ..., :3]
    targets[12:] = 1 - targets[:12]
    data = tfcnn.load_images((images, targets), split=HALF, channels=4)
    assert len(data.items) == 24 and not data.quarantined
    splits = [item.split for item in data.items]
    assert splits[:12] == splits[12:]


def test_what_cannot_have_four_channels_is_refused_before_anything_is_read(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("tfcnn.data.read.decode_photo", lambda *_: pytest.fail("a photo was decoded"))
    (tmp_path / "photos.csv").write_text("path,label\n")
    for source in (photos, tmp_path / "photos.csv", "tfds:mnist", (["a.jpg", "b.jpg"], [0, 1])):
        assert refusal(source, channels=4).startswith("expected arrays, an .npz or a tf.data.Dataset with channels=4, since photos in files have three, got ")


def test_other_images_than_those_of_four_channels_are_refused(tmp_path):
    targets = np.arange(12) % 2
    np.savez(tmp_path / "rgb.npz", x=images_of(12, 3), y=targets)
    for source in ((images_of(12, 3), targets), tmp_path / "rgb.npz"):
        assert refusal(source, channels=4) == "expected images of shape (n, height, width, 4) with channels=4, got shape=(12, 16, 16, 3)"
    assert "(n, height, width, 4) with channels=4, got shape=(12, 16, 16, 1)" in refusal((images_of(12, 1)[..., 0], targets), channels=4)
    sizes = {"train": (images_of(8), targets[:8]), "test": (images_of(4, side=8), targets[:4])}
    for source in (dataset_of(images_of(12, 3), targets), sizes):
        assert "expected images of one size and four channels with channels=4, got others; give arrays" in refusal(source, channels=4)


def test_images_of_four_channels_are_not_resized():
    for source in ((images_of(12), np.arange(12) % 2), dataset_of(images_of(12), np.arange(12) % 2)):
        assert refusal(source, image_size=32, channels=4) == (
            "expected images of four channels at the image size, 32x32, got 16x16; resize them, or give another image_size")


@pytest.mark.parametrize("channels", [1, 3])
def test_four_channels_that_were_not_asked_for_name_the_option(channels, tmp_path):
    images, targets = images_of(12), np.arange(12) % 2
    np.savez(tmp_path / "four.npz", x=images, y=targets)
    for source in ((images, targets), tmp_path / "four.npz"):
        assert refusal(source, channels=channels) == ("expected images of shape (n, height, width, 3), or grey ones without the 3, got shape=(12, 16, 16, 4); "
                                                      "to train on four channels, give channels=4")
    assert "got shape=(16, 16, 4) in row 0 of the tf.data.Dataset; to train on four channels, give channels=4" in refusal(
        dataset_of(images, targets), channels=channels)


@pytest.mark.parametrize("channels", [0, 2, 5, "3"])
def test_another_number_of_channels_is_refused(photos, channels):
    assert refusal(photos, channels=channels) == f"expected 1 channel (grey), 3 (RGB) or 4 (of arrays that have them), got channels={channels}"


def record_run(folder, data):
    """A run folder as training leaves it, as far as its data goes."""
    folder.mkdir()
    write_rows(folder / "items.csv", data.items[0]._fields, data.items)
    return write_record(folder, {"labels": list(data.labels), "status": "trained", "input_shape": list(data.input_shape), "geometry": data.geometry,
                                 "data": {"source": data.source, "arguments": data.arguments}})


def test_the_data_of_a_run_come_back_with_its_channels(photos, tmp_path):
    np.savez(tmp_path / "four.npz", x=images_of(12), y=np.arange(12) % 2)
    np.savez(tmp_path / "grey.npz", x=images_of(12, 1)[..., 0], y=np.arange(12) % 2)
    cases = ((photos, 1, 24), (tmp_path / "four.npz", 4, None), (tmp_path / "grey.npz", 1, None), (tmp_path / "grey.npz", 1, 8))
    for number, (source, channels, size) in enumerate(cases):
        data = tfcnn.load_images(source, image_size=size, split=HALF, channels=channels)
        again = load_run_data(record_run(tmp_path / f"run{number}", data))
        assert again.items == data.items and again.input_shape == data.input_shape and again.arguments == data.arguments
        np.testing.assert_array_equal(again.inputs[:], data.inputs[:])


def test_an_npz_of_four_channels_that_has_another_size_now_is_refused(tmp_path):
    np.savez(tmp_path / "four.npz", x=images_of(12), y=np.arange(12) % 2)
    run = record_run(tmp_path / "run", tfcnn.load_images(tmp_path / "four.npz", split=HALF, channels=4))
    np.savez(tmp_path / "four.npz", x=images_of(12, side=8), y=np.arange(12) % 2)
    with pytest.raises(InputError, match="at the image size, 16x16, got 8x8"):
        load_run_data(run)


def test_runs_of_before_the_option_have_three_channels(photos, tmp_path):
    data = tfcnn.load_images(photos, image_size=24)
    arguments = {name: value for name, value in data.arguments.items() if name != "channels"}
    run = record_run(tmp_path / "run", data)
    write_record(run.path, {**run.record, "data": {**run.record["data"], "arguments": arguments}})
    assert load_run_data(tfcnn.load_run(run.path)).input_shape == (24, 24, 3)


def test_features_of_grey_and_of_colour_are_kept_apart(photos, tiny_vit, tmp_path, monkeypatch):
    """The same files, the same weights, one channel or three."""
    from tfcnn.training.features import cached_features

    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path))
    models = {channels: tfcnn.build_classifier(tiny_vit, labels=["blue", "green", "red"], weights="none", channels=channels) for channels in (1, 3)}
    models[3].set_weights(models[1].get_weights())
    for _ in range(2):
        rows = {}
        for channels, model in models.items():
            data = tfcnn.load_images(photos, image_size=32, channels=channels)
            rows[channels] = cached_features(model, data)[:]
            expected = model.get_layer("backbone")(data.inputs[:].repeat(3 // channels, axis=-1) / np.float32(127.5) - 1)[:, 0]
            np.testing.assert_allclose(rows[channels], expected, atol=1e-4)
        assert np.abs(rows[1] - rows[3]).max() > 0.01
    assert len(list((tmp_path / "features").iterdir())) == 2 and len(list((tmp_path / "photos").iterdir())) == 1
