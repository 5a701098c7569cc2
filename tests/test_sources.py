"""Where examples come from: class folders and arrays."""

import os

import numpy as np
import pytest

from tfcnn.data.sources import check_arrays, list_class_folders, sort_labels
from tfcnn.errors import InputError


def touch(folder, *names):
    """Files with something in them, and the folders they lie in."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_files_are_listed_by_label_in_a_fixed_order(tmp_path):
    touch(tmp_path, "dog/2.jpg", "cat/b.png", "dog/10.jpg", "cat/deep/er/a.jpg", "cat/a.JPG")
    found = [(example.path.relative_to(tmp_path).as_posix(), example.label) for example in list_class_folders(tmp_path)]
    assert found == [("cat/a.JPG", "cat"), ("cat/b.png", "cat"), ("cat/deep/er/a.jpg", "cat"), ("dog/10.jpg", "dog"), ("dog/2.jpg", "dog")]
    assert list_class_folders(str(tmp_path)) == list_class_folders(tmp_path)


def test_hidden_files_hidden_folders_and_loose_files_are_left_out(tmp_path):
    touch(tmp_path, "cat/1.jpg", "cat/.DS_Store", "cat/.thumbs/1.jpg", "dog/1.jpg", ".git/config", "readme.txt")
    assert [example.path.relative_to(tmp_path).as_posix() for example in list_class_folders(tmp_path)] == ["cat/1.jpg", "dog/1.jpg"]


def test_a_dataset_inside_a_hidden_folder_is_found(tmp_path):
    touch(tmp_path / ".cache" / "pets", "cat/1.jpg", "dog/1.jpg")
    assert len(list_class_folders(tmp_path / ".cache" / "pets")) == 2


@pytest.mark.parametrize("files, expected", [
    ([], "found none"), (["1.jpg", "2.jpg"], "found none"), (["cat/1.jpg"], r"files of one class \('cat'\)"),
    (["cat/.hidden", "dog/.hidden"], "found none in 'cat'")])
def test_a_folder_without_two_classes_says_what_is_in_it(tmp_path, files, expected):
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=expected) as caught:
        list_class_folders(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_folder_and_a_file_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="there is no"):
        list_class_folders(tmp_path / "missing")
    touch(tmp_path, "photos.zip")
    with pytest.raises(InputError, match="is a file"):
        list_class_folders(tmp_path / "photos.zip")


def test_arrays_become_bytes_and_their_labels_text():
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    checked, labels = check_arrays(images, [1, 0])
    assert checked.dtype == np.uint8 and labels == ["1", "0"]
    np.testing.assert_array_equal(checked, images)
    assert check_arrays(images, np.array(["cat", "dog"]))[1] == ["cat", "dog"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint16"])
def test_other_numbers_from_0_to_255_are_rounded_to_bytes(dtype):
    values = np.array([0, 1.4, 1.6, 254.6] if "float" in dtype else [0, 1, 2, 255], dtype)
    checked, _ = check_arrays(np.tile(values[:, None, None, None], (1, 2, 2, 3)), [0, 0, 1, 1])
    assert checked.dtype == np.uint8
    assert checked[:, 0, 0, 0].tolist() == [0, 1, 2, 255]


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 8, 8, 1), (4, 8, 8, 4), (4, 3, 8, 8), (8, 8, 3), (4, 2, 8, 8, 3)])
def test_images_of_another_rank_or_channel_count_are_refused(shape):
    with pytest.raises(InputError, match=r"shape \(n, height, width, 3\)") as caught:
        check_arrays(np.zeros(shape, np.uint8), [0] * shape[0])
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("low, high", [(0, 1), (-1, 1), (-128, 127), (0, 256), (0, 65535), (0, np.nan), (0, np.inf)])
def test_pixels_of_another_range_are_refused(low, high):
    images = np.full((2, 4, 4, 3), low, np.float32)
    images[1, 2, 2, 0] = high
    with pytest.raises(InputError, match="pixels from 0 to 255") as caught:
        check_arrays(images, [0, 1])
    assert "float32" in str(caught.value)


def test_another_number_of_targets_is_refused():
    with pytest.raises(InputError, match="5 images and 4 targets"):
        check_arrays(np.zeros((5, 4, 4, 3), np.uint8), [0, 1, 0, 1])


@pytest.mark.parametrize("targets", [np.eye(3), np.float32([[0.2, 0.8], [0.5, 0.5], [1, 0]]), 1], ids=["one-hot", "scores", "one number"])
def test_targets_that_are_not_one_label_an_image_are_refused(targets):
    with pytest.raises(InputError, match="one target"):
        check_arrays(np.zeros((3, 4, 4, 3), np.uint8), targets)


def test_a_column_of_targets_as_keras_gives_it_for_cifar_is_one_label_an_image():
    assert check_arrays(np.zeros((3, 4, 4, 3), np.uint8), np.array([[6], [9], [6]]))[1] == ["6", "9", "6"]


def test_an_empty_class_folder_is_named(tmp_path):
    for name in ("a", "b", "empty"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".hidden").write_bytes(b"x")
        if name != "empty":
            (tmp_path / name / "1.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="found none in 'empty'"):
        list_class_folders(tmp_path)


def test_a_file_name_that_is_not_utf8_is_refused_before_any_work(tmp_path):
    for name in (b"a", b"b"):
        (tmp_path / name.decode()).mkdir()
        with open(os.path.join(os.fsencode(tmp_path), name, b"caf\xe9.jpg"), "wb") as file:
            file.write(b"x")
    with pytest.raises(InputError, match="rename it"):
        list_class_folders(tmp_path)


def test_targets_are_in_an_order_that_does_not_depend_on_the_process():
    assert sort_labels(["10", "1", "9", "01", "1"]) == ("01", "1", "9", "10")
    assert sort_labels(["b", "10", "a"]) == ("10", "a", "b")
