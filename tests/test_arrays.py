"""Photos that are pixels already: arrays, `.npz` files and `tf.data`."""

import numpy as np
import pytest
from conftest import make_photos

import tfcnn
from tfcnn.data.arrays import check_arrays
from tfcnn.data.sources import open_source
from tfcnn.errors import InputError


def images_of(count, *, shape=(8, 10, 3), dtype=np.uint8, seed=0):
    """Noise from 0 to 255."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(dtype)


def dataset_of(*arrays):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0])


def seen(source):
    """Path, label and split of each example as it is read, and the pixels of all."""
    pairs = list(source.read())
    return [tuple(example[:3]) for example, _ in pairs], [pixels for _, pixels in pairs]


def labels_of(source):
    return [label for _, label, _ in seen(open_source(source))[0]]


def refusal(source, *, reads=False) -> str:
    """The one line that a source is refused with, when it is opened or when it is read."""
    with pytest.raises(InputError) as caught:
        opened = open_source(source)
        assert reads, "it was opened"
        list(opened.read())
    text = str(caught.value)
    assert text.startswith("expected ") and "\n" not in text
    return text


def test_arrays_keep_their_dtype_and_their_labels_become_text():
    for dtype in ("uint8", "float32", "int32"):
        images = images_of(2, dtype=dtype)
        checked, labels = check_arrays(images, [1, 0])
        assert checked is images and labels == ["1", "0"]
    assert check_arrays(images, np.array(["cat", "dog"]))[1] == ["cat", "dog"]
    assert check_arrays(images.tolist(), (10, 9))[1] == ["10", "9"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint16"])
def test_other_numbers_from_0_to_255_are_rounded_when_they_are_read(dtype):
    values = np.array([0, 1.4, 1.6, 254.6] if "float" in dtype else [0, 1, 2, 255], dtype)
    _, pixels = seen(open_source((np.tile(values[:, None, None, None], (1, 2, 2, 3)), [0, 0, 1, 1])))
    assert all(image.dtype == np.uint8 and image.shape == (2, 2, 3) for image in pixels)
    assert [int(image[0, 0, 0]) for image in pixels] == [0, 1, 2, 255]


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1)])
def test_grey_images_are_read_as_three_equal_channels(shape):
    images = images_of(4, shape=shape)
    source = open_source((images, [0, 1, 0, 1]))
    assert source.shape == (6, 7, 3)
    for image, read in zip(images, seen(source)[1], strict=True):
        assert read.shape == (6, 7, 3)
        for channel in range(3):
            np.testing.assert_array_equal(read[..., channel], image.reshape(6, 7))


def test_arrays_are_a_source_whose_examples_are_known_before_they_are_read():
    images = images_of(3)
    source = open_source((images, ["cat", "dog", "cat"]))
    assert (source.name, source.count, source.shape) == ("", 3, (8, 10, 3))
    assert [tuple(example) for example in source.examples] == [("array/0", "cat", "", ""), ("array/1", "dog", "", ""), ("array/2", "cat", "", "")]
    for _ in range(2):  # it can be read again
        np.testing.assert_array_equal(seen(source)[1], images)


def test_arrays_by_split_keep_their_splits():
    images = images_of(5)
    source = open_source({"train": (images[:3], [0, 1, 0]), "val": (images[3:4], [1]), "TEST": (images[4:], [0])})
    assert seen(source)[0] == [("array/train/0", "0", "train"), ("array/train/1", "1", "train"), ("array/train/2", "0", "train"),
                               ("array/validation/0", "1", "validation"), ("array/test/0", "0", "test")]
    np.testing.assert_array_equal(seen(source)[1], images)
    other = open_source({"train": (images, [0] * 5), "test": (images_of(2, shape=(6, 6, 3)), [0, 1])})
    assert other.shape is None and other.count == 7  # of two sizes: they are to be resized


@pytest.mark.parametrize("shape", [(4, 8, 8, 4), (4, 8, 8, 2), (4, 3, 8, 8), (8, 8, 3), (8, 8), (4, 2, 8, 8, 3)])
def test_images_of_another_rank_or_channel_count_are_refused(shape):
    assert str(shape) in refusal((np.zeros(shape, np.uint8), [0] * 5))


@pytest.mark.parametrize("images", [(path for path in ("a.jpg", "b.jpg")), 7, None], ids=["generator", "number", "nothing"])
def test_what_is_neither_an_array_nor_a_list_is_refused_by_its_type(images):
    assert f"got {type(images).__name__}; give a list" in refusal((images, ["cat", "dog"]))


@pytest.mark.parametrize("low, high", [(-1, 1), (-128, 127), (0, 256), (0, 65535), (0, np.nan), (0, np.inf)])
def test_pixels_of_another_range_are_refused(low, high):
    images = np.full((2, 4, 4, 3), low, np.float32)
    images[1, 2, 2, 0] = high
    line = refusal((images, [0, 1]))
    assert "pixels from 0 to 255, got float32" in line and f"from {images.min():g} to {images.max():g}" in line


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
def test_pixels_from_0_to_1_are_named_as_such(dtype, tmp_path):
    images = (images_of(4) > 128).astype(dtype)
    np.savez(tmp_path / "photos.npz", images=images, labels=[0, 1, 0, 1])
    for source in ((images, [0, 1, 0, 1]), tmp_path / "photos.npz", {"train": (images, [0, 1, 0, 1])}):
        line = refusal(source)
        assert f"got {dtype} from 0 to 1, which look like 0 to 1; multiply them by 255" in line


@pytest.mark.parametrize("value", [0, 1, 255])
def test_pictures_of_one_colour_have_no_wrong_range(value):
    assert open_source((np.full((2, 8, 8, 3), value, np.uint8), [0, 1])).count == 2


@pytest.mark.parametrize("dtype", [bool, str, object, complex])
def test_pixels_that_are_no_numbers_are_refused(dtype):
    images = images_of(2).astype(dtype)
    assert f"got dtype={images.dtype}" in refusal((images, [0, 1]))


def test_images_of_several_sizes_are_refused_in_one_line():
    assert "shape" in refusal(([np.zeros((3, 4, 3)), np.zeros((5, 4, 3))], [0, 1]))


def test_another_number_of_targets_is_refused():
    assert "5 images and 4 targets" in refusal((images_of(5), [0, 1, 0, 1]))


@pytest.mark.parametrize("targets", [np.eye(3), np.float32([[0.2, 0.8], [0.5, 0.5], [1, 0]])], ids=["one-hot", "scores"])
@pytest.mark.parametrize("shape", [(4, 4, 3), (4, 4)], ids=["colour", "grey"])
def test_targets_that_are_not_one_label_an_image_are_refused(targets, shape):
    assert "one target an image" in refusal((images_of(3, shape=shape), targets))


def test_one_number_for_all_images_is_refused():
    assert "one target an image" in refusal((images_of(3), 1))
    assert "(3, 4, 4)" in refusal((images_of(3, shape=(4, 4)), 1))


def test_a_column_of_targets_as_keras_gives_it_for_cifar_is_one_label_an_image():
    assert check_arrays(images_of(3), np.array([[6], [9], [6]]))[1] == ["6", "9", "6"]


def test_whole_numbers_as_floats_are_labels_like_whole_numbers():
    """As loadtxt and many data frames give them; "10.0" would come before "2.0", and tf.data gives "10"."""
    assert check_arrays(images_of(3), np.array([0.0, 2.0, 10.0]))[1] == ["0", "2", "10"]


def test_text_as_bytes_is_text(tmp_path):
    assert check_arrays(images_of(2), np.array([b"cat", b"dog"]))[1] == ["cat", "dog"]
    np.savez(tmp_path / "photos.npz", images=images_of(2), labels=[0, 1], label_names=np.array([b"cat", b"dog"]))
    assert labels_of(tmp_path / "photos.npz") == ["cat", "dog"]


def test_text_in_another_encoding_is_refused():
    labels = np.array(["größer".encode("latin-1"), b"small"])
    for source in ((images_of(2), labels), dataset_of(images_of(2), labels)):
        assert "UTF-8" in refusal(source, reads=True)


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("X", "Y"), ("data", "targets"), ("image", "label"), ("x", "target")])
def test_an_npz_without_splits(tmp_path, keys):
    images = images_of(3)
    np.savez_compressed(tmp_path / "photos.npz", **{keys[0]: images, keys[1]: [1, 0, 1], "weights": [1, 2, 3], "comment": "mine"})
    source = open_source(tmp_path / "photos.npz")
    assert (source.name, source.count, source.shape) == (str(tmp_path / "photos.npz"), 3, (8, 10, 3))
    examples, pixels = seen(source)
    assert examples == [(f"{source.name}/{row}", label, "") for row, label in enumerate("101")]
    np.testing.assert_array_equal(pixels, images)


@pytest.mark.parametrize("keys", [
    ("x_{}", "y_{}", "train", "test"), ("{}_images", "{}_labels", "train", "val", "test"), ("{}_x", "{}_y", "train", "valid"),
    ("images_{}", "labels_{}", "training", "testing"), ("X_{}", "Y_{}", "train", "dev"), ("{}_data", "{}_targets", "train", "validation")])
def test_an_npz_with_splits(tmp_path, keys):
    """As keras.datasets (x_train), MedMNIST (train_images) and others store them."""
    image, target, *splits = keys
    arrays = {}
    for number, split in enumerate(splits):
        arrays |= {image.format(split): images_of(2, seed=number), target.format(split): np.array([[0], [1]])}
    np.savez(tmp_path / "photos.npz", **arrays)
    name = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation", "testing": "test"}
    examples, pixels = seen(open_source(tmp_path / "photos.npz"))
    assert [example[1:] for example in examples] == [(label, name.get(split, split)) for split in splits for label in "01"]
    np.testing.assert_array_equal(pixels, np.concatenate([images_of(2, seed=number) for number in range(len(splits))]))


@pytest.mark.parametrize("key", ["label_names", "class_names"])
def test_label_names_of_an_npz_are_used(tmp_path, key):
    np.savez(tmp_path / "photos.npz", x=images_of(3), y=np.array([2, 0, 1], np.uint8), **{key: ["cat", "dog", "owl"]})
    assert labels_of(tmp_path / "photos.npz") == ["owl", "cat", "dog"]


@pytest.mark.parametrize("targets, words", [([0, 3], "from 0 to 1 for 2 label names"), ([0, 0.5], "from 0 to 1 for 2 label names"),
                                            (["a", "b"], "from 0 to 1 for 2 label names"), ([-1, 1], "from 0 to 1 for 2 label names")])
def test_targets_without_a_name_are_refused(tmp_path, targets, words):
    np.savez(tmp_path / "photos.npz", x=images_of(2), y=targets, label_names=["cat", "dog"])
    assert words in refusal(tmp_path / "photos.npz")


@pytest.mark.parametrize("arrays, found", [
    ({"images": 0}, "images"), ({"y": 0}, "y"), ({"a": 0, "b": 0}, "a, b"), ({"x_train": 0, "y_test": 0}, "x_train, y_test"),
    ({"x": 0, "y": 0, "x_test": 0, "y_test": 0}, "x, y, x_test, y_test"), ({}, "")], ids=str)
def test_an_npz_with_other_keys_says_which_it_has(tmp_path, arrays, found):
    np.savez(tmp_path / "photos.npz", **arrays)
    assert f"found {found}" in refusal(tmp_path / "photos.npz")


def test_an_npz_that_cannot_be_read_is_refused_and_nothing_of_it_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").write_text, ("x",))

    np.savez(tmp_path / "objects.npz", images=np.array([Trap()], dtype=object), labels=np.array([0]))
    assert "without pickled objects" in refusal(tmp_path / "objects.npz")
    assert not (tmp_path / "sprung").exists()
    np.savez(tmp_path / "good.npz", images=images_of(2), labels=[0, 1])
    whole = (tmp_path / "good.npz").read_bytes()
    np.save(tmp_path / "one.npy", images_of(2))
    for content in (b"", b"no zip", whole[:len(whole) // 2], whole[:200] + bytes(50) + whole[250:], (tmp_path / "one.npy").read_bytes()):
        (tmp_path / "bad.npz").write_bytes(content)
        assert f"'{tmp_path / 'bad.npz'}', but it cannot be read" in refusal(tmp_path / "bad.npz")


def test_what_an_npz_may_not_hold_is_said_as_for_arrays(tmp_path):
    np.savez(tmp_path / "photos.npz", x=images_of(3), y=[0, 1])
    assert "3 images and 2 targets" in refusal(tmp_path / "photos.npz")
    np.savez(tmp_path / "photos.npz", x=images_of(3, shape=(3, 8, 8)), y=[0, 1, 0])
    assert "(3, 3, 8, 8)" in refusal(tmp_path / "photos.npz")


def test_a_tf_dataset_is_read_whether_it_comes_in_batches_or_not():
    images, targets = images_of(7), [0, 1, 2, 0, 1, 2, 10]
    for dataset, count in ((dataset_of(images, targets), 7), (dataset_of(images, targets).batch(3), None)):
        source = open_source(dataset)
        assert (source.name, source.count, source.examples) == ("", count, None)
        examples, pixels = seen(source)
        assert examples == [(f"tf.data/{row}", str(target), "") for row, target in enumerate(targets)]
        np.testing.assert_array_equal(pixels, images)


def test_a_tf_dataset_may_have_dicts_text_one_hot_or_column_labels():
    images = images_of(3)
    assert labels_of(dataset_of({"image": images, "label": [4, 5, 6], "id": [7, 8, 9]})) == ["4", "5", "6"]  # as tensorflow-datasets gives them
    assert labels_of(dataset_of(images, ["größer", "b", "größer"])) == ["größer", "b", "größer"]
    assert labels_of(dataset_of(images, np.eye(3, dtype=np.float32)[[2, 0, 1]])) == ["2", "0", "1"]
    assert labels_of(dataset_of(images, np.eye(3, dtype=np.float32)[[2, 0, 1]]).batch(2)) == ["2", "0", "1"]
    assert labels_of(dataset_of(images, np.array([[2], [0], [1]]))) == ["2", "0", "1"]
    assert labels_of(dataset_of(images, np.float32([2, 0, 10]))) == ["2", "0", "10"]


def test_grey_and_float_images_of_a_tf_dataset_become_bytes_of_three_channels():
    images = images_of(2, shape=(6, 7, 1))
    _, pixels = seen(open_source(dataset_of(images.astype(np.float32) * 0.999, [0, 1])))
    np.testing.assert_array_equal(pixels, np.repeat(np.rint(images * 0.999), 3, axis=-1))
    assert all(image.dtype == np.uint8 for image in pixels)


def test_images_of_several_sizes_in_a_tf_dataset_are_read_as_they_are():
    import tensorflow as tf

    shapes = [(8, 8, 3), (5, 9, 3)]
    dataset = tf.data.Dataset.from_generator(lambda: ((np.full(shape, 200, np.uint8), label) for label, shape in enumerate(shapes)),
                                             output_signature=(tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int32)))
    source = open_source(dataset)
    assert source.count is None and [image.shape for image in seen(source)[1]] == shapes


@pytest.mark.parametrize("mode", ["int", "categorical"])
def test_what_keras_reads_from_a_folder_keeps_its_class_names(tmp_path, mode):
    import keras

    folder = make_photos(tmp_path / "photos", count=3, side=16)
    dataset = keras.utils.image_dataset_from_directory(folder, image_size=(16, 24), batch_size=4, label_mode=mode, shuffle=False, verbose=False)
    examples, pixels = seen(open_source(dataset))
    assert [label for _, label, _ in examples] == ["blue"] * 3 + ["green"] * 3 + ["red"] * 3
    from PIL import Image

    files = sorted(folder.glob("*/*.jpg"))
    for file, image in zip(files, pixels, strict=True):
        assert np.abs(np.asarray(Image.open(file)).astype(int) - image).max() <= 8  # TensorFlow's JPEG decoder is not Pillow's


def test_tf_datasets_by_split_become_a_data_set_with_these_splits():
    images = images_of(40, shape=(16, 16, 3))
    part = lambda rows: dataset_of(images[rows], np.arange(40)[rows] % 2)
    source = {"train": part(slice(0, 24)), "val": part(slice(24, 30)).batch(4), "test": part(slice(30, 40))}
    examples, _ = seen(open_source(source))
    assert examples[0] == ("tf.data/train/0", "0", "train") and examples[-1] == ("tf.data/test/9", "1", "test")
    data = tfcnn.load_images(source, image_size=16)
    assert [len(data.rows(split)) for split in ("train", "validation", "test")] == [24, 6, 10]
    assert data.labels == ("0", "1") and data.source == ""
    np.testing.assert_array_equal(data.inputs[np.arange(40)], images)


def test_a_test_split_that_is_given_stays_and_the_validation_split_is_drawn():
    images = images_of(58, shape=(16, 16, 3))
    data = tfcnn.load_images({"train": dataset_of(images[:48], np.arange(48) % 2), "test": dataset_of(images[48:], np.arange(10) % 2)}, image_size=16)
    assert [len(data.rows(split)) for split in ("train", "validation", "test")] == [42, 6, 10]  # 0.1 / 0.8 of 24 a label
    assert {item.path for item in data.items if item.split == "test"} == {f"tf.data/test/{row}" for row in range(10)}


@pytest.mark.parametrize("many", [10, 100])
@pytest.mark.parametrize("scale, words", [
    (1 / 255, "got float32 from 0 to 1, which look like 0 to 1; multiply them by 255"), (2 / 255, "got float32 from 0 to 2"), (256, "from 0 to 65280")])
def test_pixels_of_a_tf_dataset_in_another_range_are_found_while_they_are_read(many, scale, words):
    images = np.tile(images_of(5), (many // 5, 1, 1, 1)).astype(np.float32) * np.float32(scale)
    if scale == 2 / 255:
        images -= 1
        words = "got float32 from -1 to 1"
    assert words in refusal(dataset_of(images, np.arange(many) % 2), reads=True)


def test_a_long_tf_dataset_in_the_wrong_range_is_not_read_to_its_end():
    images = images_of(500, dtype=np.float32) / np.float32(255)
    read, pairs = [], open_source(dataset_of(images, np.arange(500) % 2)).read()
    with pytest.raises(InputError, match="look like 0 to 1"):
        read.extend(pairs)
    assert len(read) == 63


def test_one_dark_image_at_first_is_no_wrong_range():
    images = np.concatenate([np.zeros((30, 8, 8, 3), np.uint8), images_of(50, shape=(8, 8, 3))])
    images[0, 0, 0, 0] = 1
    np.testing.assert_array_equal(seen(open_source(dataset_of(images, np.arange(80) % 2)))[1], images)


def test_pixels_that_are_not_numbers_are_refused_in_a_tf_dataset_as_in_arrays():
    images = images_of(3, dtype=np.float32)
    images[1, 2, 3, 0] = np.nan
    for source in ((images, [0, 1, 0]), dataset_of(images, [0, 1, 0])):
        assert "from 0 to 255" in refusal(source, reads=True)


def test_a_tf_dataset_that_does_not_end_is_refused():
    assert "remove .repeat()" in refusal(dataset_of(images_of(3), [0, 1, 0]).repeat())
    assert open_source(dataset_of(images_of(3), [0, 1, 0]).repeat(2)).count == 6


def test_elements_of_a_tf_dataset_that_are_no_photos_with_labels_are_refused():
    images, targets = images_of(4), [0, 1, 0, 1]
    assert "(image, label), got elements TensorSpec" in refusal(dataset_of(images))
    assert "(image, label), got elements" in refusal(dataset_of(images, targets, [1, 1, 2, 2]))
    assert "(image, label), got elements" in refusal(dataset_of({"picture": images, "label": targets}))
    assert "images of rank 3" in refusal(dataset_of(images[..., 0], targets))
    assert "images of rank 3" in refusal(dataset_of(images, targets).batch(2).batch(2))
    assert "Dataset of string" in refusal(dataset_of(images.astype(str), targets))
    assert "Dataset of bool" in refusal(dataset_of(images > 3, targets))
    assert "shape=(8, 10, 4) in row 0" in refusal(dataset_of(images_of(4, shape=(8, 10, 4)), targets), reads=True)
    assert "shape=(3, 8, 10) in row 0" in refusal(dataset_of(images_of(4, shape=(3, 8, 10)), targets), reads=True)


def test_photos_and_labels_of_a_tf_dataset_that_are_dicts_themselves_are_refused():
    images, targets = images_of(4), [0, 1, 0, 1]
    assert "(image, label)" in refusal(dataset_of({"left": images}, targets), reads=True)
    assert "label" in refusal(dataset_of(images, {"colour": targets}), reads=True)


def test_several_labels_an_image_are_refused_in_a_tf_dataset_as_in_arrays():
    """The first of several would be taken for the label."""
    several = np.float32([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    for source in ((images_of(3), several), dataset_of(images_of(3), several)):
        assert "one" in refusal(source, reads=True)


def test_a_dict_that_is_no_dict_of_splits_is_refused():
    pair = (images_of(2), [0, 1])
    line = refusal({"train": pair, "tets": pair})
    assert "got 'tets'" in line and "did you mean 'test'?" in line
    assert "got 'image'" in refusal({"image": images_of(2), "label": [0, 1]})
    assert "for each split, got ndarray" in refusal({"train": images_of(2)})
    assert "for each split, got" in refusal({"train": dataset_of(*pair), "test": pair})


def test_two_names_of_one_split_do_not_hide_each_other(tmp_path):
    train, first, second = (images_of(2, seed=seed) for seed in range(3))
    targets = [0, 1]
    np.savez(tmp_path / "photos.npz", x_train=train, y_train=targets, x_val=first, y_val=targets, x_dev=second, y_dev=targets)
    for source in ({"train": (train, targets), "val": (first, targets), "dev": (second, targets)}, tmp_path / "photos.npz"):
        try:
            assert open_source(source).count == 6
        except InputError as error:
            assert "dev" in str(error)


def test_what_was_trained_from_an_npz_is_found_again_whatever_its_ending_is_called(tmp_path):
    from tfcnn.data.run_data import load_run_data
    from tfcnn.files import write_rows
    from tfcnn.record import Run

    np.savez(tmp_path / "photos.npz", x=images_of(20, shape=(16, 16, 3)), y=np.arange(20) % 2)
    for name in ("photos.npz", "PHOTOS.NPZ"):
        (tmp_path / name).write_bytes((tmp_path / "photos.npz").read_bytes())
        data = tfcnn.load_images(tmp_path / name)
        write_rows(tmp_path / "items.csv", ("path", "label", "split", "sha256"), data.items)
        run = Run(tmp_path, {"labels": data.labels, "input_shape": data.input_shape, "geometry": "stretch",
                             "data": {"source": data.source, "arguments": data.arguments}})
        again = load_run_data(run)
        assert again.items == data.items
        np.testing.assert_array_equal(again.inputs[np.arange(20)], data.inputs[np.arange(20)])
