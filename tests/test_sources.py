"""Where examples come from: class folders, split folders, CSV files, lists and frames."""

import os
from pathlib import Path

import numpy as np
import pytest

from tfcnn.data.sources import Example, list_class_folders, open_source, sort_labels
from tfcnn.errors import InputError


def touch(folder, *names):
    """Files with something in them, and the folders they lie in."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def seen(source, folder):
    """What a source knows of its examples before anything is read: paths below `folder`, labels, splits and groups if there are any."""
    rows = [(Path(e.path).relative_to(folder).as_posix(), e.label, e.split, e.group) for e in source.examples]
    return [row[:4 if row[3] else 3 if row[2] else 2] for row in rows]


def refusal(*arguments, **options) -> str:
    """The one line that a source is refused with."""
    with pytest.raises(InputError) as caught:
        open_source(*arguments, **options)
    text = str(caught.value)
    assert text.startswith("expected ") and "\n" not in text
    return text


@pytest.fixture
def table(tmp_path):
    """Writes a CSV beside the files a.jpg to h.jpg; gives its path."""
    touch(tmp_path, *(f"{name}.jpg" for name in "abcdefgh"))

    def write(text, encoding="utf-8"):
        (tmp_path / "photos.csv").write_bytes(text.encode(encoding))
        return tmp_path / "photos.csv"

    return write


def test_files_are_listed_by_label_in_a_fixed_order(tmp_path):
    touch(tmp_path, "dog/2.jpg", "cat/b.png", "dog/10.jpg", "cat/deep/er/a.jpg", "cat/a.JPG")
    found = list_class_folders(tmp_path)
    assert found == [Example(f"{tmp_path}/{path}", label) for path, label in (
        ("cat/a.JPG", "cat"), ("cat/b.png", "cat"), ("cat/deep/er/a.jpg", "cat"), ("dog/10.jpg", "dog"), ("dog/2.jpg", "dog"))]
    assert list_class_folders(str(tmp_path)) == found


def test_hidden_files_hidden_folders_and_loose_files_are_left_out(tmp_path):
    touch(tmp_path, "cat/1.jpg", "cat/.DS_Store", "cat/.thumbs/1.jpg", "dog/1.jpg", ".git/config", "readme.txt")
    assert [example.path for example in list_class_folders(tmp_path)] == [f"{tmp_path}/cat/1.jpg", f"{tmp_path}/dog/1.jpg"]


def test_a_dataset_inside_a_hidden_folder_is_found(tmp_path):
    touch(tmp_path / ".cache" / "pets", "cat/1.jpg", "dog/1.jpg")
    assert len(list_class_folders(tmp_path / ".cache" / "pets")) == 2


def test_links_to_folders_are_followed_and_broken_ones_left_out(tmp_path):
    touch(tmp_path / "elsewhere", "1.jpg")
    touch(tmp_path / "photos", "dog/1.jpg")
    (tmp_path / "photos" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "dog" / "2.jpg").symlink_to(tmp_path / "gone.jpg")
    assert seen(open_source(tmp_path / "photos"), tmp_path / "photos") == [("cat/1.jpg", "cat"), ("dog/1.jpg", "dog")]


@pytest.mark.parametrize("files, expected", [
    ([], "found none"), (["1.jpg", "2.jpg"], "found none"), (["cat/.hidden", "dog/.hidden"], "found none in 'cat'")])
def test_a_folder_without_class_folders_says_what_is_in_it(tmp_path, files, expected):
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=expected) as caught:
        list_class_folders(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_folder_and_a_file_are_told_apart(tmp_path):
    assert "there is no" in refusal(tmp_path / "missing")
    assert "there is no" in refusal(tmp_path / "missing.csv") and "there is no" in refusal(str(tmp_path / "missing.npz"))
    touch(tmp_path, "photos.zip")
    assert "is a file" in refusal(tmp_path / "photos.zip")


def test_an_empty_class_folder_is_named(tmp_path):
    touch(tmp_path, "a/.hidden", "a/1.jpg", "b/.hidden", "b/1.jpg", "empty/.hidden")
    assert "found none in 'empty'" in refusal(tmp_path)


def test_a_file_name_that_is_not_utf8_is_refused_before_any_work(tmp_path):
    for name in (b"a", b"b"):
        (tmp_path / name.decode()).mkdir()
        with open(os.path.join(os.fsencode(tmp_path), name, b"caf\xe9.jpg"), "wb") as file:
            file.write(b"x")
    assert "rename it" in refusal(tmp_path)


def test_targets_are_in_an_order_that_does_not_depend_on_the_process():
    assert sort_labels(["10", "1", "9", "01", "1"]) == ("01", "1", "9", "10")
    assert sort_labels(["b", "10", "a"]) == ("10", "a", "b")


def test_a_folder_is_opened_before_anything_is_decoded(tmp_path):
    touch(tmp_path, "cat/1.jpg", "cat/2.jpg", "dog/1.jpg")  # none of them a photo
    source = open_source(str(tmp_path))
    assert source.name == str(tmp_path) and source.count == 3 and source.shape is None
    assert seen(source, tmp_path) == [("cat/1.jpg", "cat"), ("cat/2.jpg", "cat"), ("dog/1.jpg", "dog")]
    assert list(source.read()) == list(source.read()) == [(example, example.path) for example in source.examples]


@pytest.mark.parametrize("parts, splits", [
    (("train", "val", "test"), ("train", "validation", "test")), (("Training", "VALID", "testing"), ("train", "validation", "test")),
    (("train", "dev"), ("train", "validation")), (("train", "validation", "test"), ("train", "validation", "test")), (("train",), ("train",))])
def test_folders_of_split_folders_keep_their_splits(tmp_path, parts, splits):
    touch(tmp_path, *(f"{part}/{label}/1.jpg" for part in parts for label in ("cat", "dog")), "readme.txt", ".git/config")
    expected = [(f"{part}/{label}/1.jpg", label, split) for part, split in zip(parts, splits, strict=True) for label in ("cat", "dog")]
    assert sorted(seen(open_source(tmp_path), tmp_path)) == sorted(expected)


@pytest.mark.parametrize("names", [("train", "bus"), ("test", "validation"), ("test", "dev")])
def test_class_folders_that_are_called_like_splits_are_classes(tmp_path, names):
    touch(tmp_path, *(f"{name}/deep/1.jpg" for name in names))
    assert sorted(seen(open_source(tmp_path), tmp_path)) == sorted((f"{name}/deep/1.jpg", name) for name in names)


def test_a_split_folder_without_classes_is_named(tmp_path):
    touch(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "test/1.jpg")
    assert f"one folder a class in '{tmp_path}/test', found none" in refusal(tmp_path)


def test_a_csv_gives_paths_labels_splits_and_groups(table, tmp_path, monkeypatch):
    monkeypatch.chdir("/")  # paths are relative to the file, not to where one is
    file = table("photo_id,path,label,split,patient\n7,a.jpg,cat,train,p1\n8,b.jpg,dog,test,p1\n9,./c.jpg, dog ,val,p2\n")
    source = open_source(file, group_by="patient")
    assert source.name == str(file) and source.count == 3
    assert seen(source, tmp_path) == [("a.jpg", "cat", "train", "p1"), ("b.jpg", "dog", "test", "p1"), ("c.jpg", "dog", "validation", "p2")]
    assert [content for _, content in source.read()] == [str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    assert seen(open_source(str(file)), tmp_path)[0] == ("a.jpg", "cat", "train")  # without group_by the column is one more


def test_a_csv_may_have_other_line_ends_a_byte_order_mark_quotes_and_full_paths(table, tmp_path):
    touch(tmp_path, "x, y.jpg", "ü.jpg")
    source = open_source(table(f'path,label\r\n"x, y.jpg","cat, old"\r\n{tmp_path}/a.jpg,"a ""dog"""\r\nü.jpg,größer\r\n', encoding="utf-8-sig"))
    assert seen(source, tmp_path) == [("x, y.jpg", "cat, old"), ("a.jpg", 'a "dog"'), ("ü.jpg", "größer")]


def test_a_csv_in_a_folder_beside_its_photos(tmp_path):
    touch(tmp_path, "photos/a.jpg", "photos/b.jpg")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "All.CSV").write_text("label,path\ncat,../photos/a.jpg\ndog,../photos/b.jpg\n")
    assert seen(open_source(tmp_path / "lists" / "All.CSV"), tmp_path) == [("photos/a.jpg", "cat"), ("photos/b.jpg", "dog")]


def test_a_file_that_stands_twice_in_a_csv_is_one_example(table, tmp_path):
    assert seen(open_source(table("path,label\na.jpg,cat\nb.jpg,dog\n./a.jpg,cat\n")), tmp_path) == [("a.jpg", "cat"), ("b.jpg", "dog")]


@pytest.mark.parametrize("name, split", [
    ("train", "train"), ("Training", "train"), ("val", "validation"), ("VALID", "validation"), ("validation", "validation"), ("dev", "validation"),
    (" test ", "test"), ("testing", "test")])
def test_a_split_may_be_called_as_it_is_elsewhere(table, tmp_path, name, split):
    assert seen(open_source(table(f"path,label,split\na.jpg,cat,{name}\nb.jpg,dog,test\n")), tmp_path)[0] == ("a.jpg", "cat", split)


def test_an_empty_split_column_is_none(table, tmp_path):
    assert seen(open_source(table("path,label,split\na.jpg,cat,\nb.jpg,dog, \n")), tmp_path) == [("a.jpg", "cat"), ("b.jpg", "dog")]


def test_a_label_of_a_csv_may_be_called_nan(table, tmp_path):
    """It is a bread; a CSV has no other way to be empty than to be empty."""
    assert seen(open_source(table("path,label\na.jpg,nan\nb.jpg,roti\n")), tmp_path) == [("a.jpg", "nan"), ("b.jpg", "roti")]


def test_rows_with_an_empty_group_are_in_none(table, tmp_path):
    source = open_source(table("path,label,patient\na.jpg,cat,\nb.jpg,dog, \nc.jpg,dog,p\n"), group_by="patient")
    assert [example.group for example in source.examples] == ["", "", "p"]


@pytest.mark.parametrize("text, words", [
    ("Path,label\na.jpg,cat\n", ["column 'path'", "found Path, label", "did you mean 'Path'?"]),
    ("path,labels,x\na.jpg,cat,1\n", ["column 'label'", "found path, labels, x", "did you mean 'labels'?"]),
    ("path;label\na.jpg;cat\n", ["column 'path'", "found path;label"]),
    ("", ["column 'path'", "no columns"]),
    ("path,label\n", ["at least one row"]),
    ("path,label\na.jpg,cat\nb.jpg,\n", ["a label in every row", "row 2 after the header"]),
    ("path,label\na.jpg,cat\nb.jpg\n", ["a label in every row", "row 2 after the header"]),
    ("path,label\n ,cat\nb.jpg,dog\n", ["a path in every row", "row 1 after the header"]),
    ("path,label\na.jpg,cat\nb.jpg,dog\n./a.jpg,dog\n", ["one label a file", "a.jpg' has 'cat' and 'dog'"]),
    ("path,label,split\na.jpg,cat,train\na.jpg,cat,test\n", ["one split a file", "a.jpg' has 'train' and 'test'"]),
    ("path,label,split\na.jpg,cat,train\nb.jpg,dog,holdout\n", ["train, validation, test", "'holdout' in row 2 after the header"]),
    ("path,label,split\na.jpg,cat,train\nb.jpg,dog,\n", ["got '' in row 2 after the header", "fill all rows or none"]),
    ('path,label\na.jpg,"cat\ndog"\n', ["paths and labels of one line"]),
], ids=lambda value: repr(value)[:40] if isinstance(value, str) else "")
def test_a_csv_that_cannot_be_used_is_refused_in_one_line(table, text, words):
    file = table(text)
    line = refusal(file)
    assert all(word in line for word in [*words, str(file)]), line


def test_a_csv_in_another_encoding_is_refused(table):
    assert "in UTF-8" in refusal(table("path,label\na.jpg,größer\n", encoding="latin-1"))


def test_missing_files_of_a_csv_are_counted_and_the_first_five_named(table, tmp_path):
    line = refusal(table("path,label\na.jpg,cat\n" + "".join(f"no{number}.jpg,cat\nno{number}.jpg,cat\n" for number in range(7))))
    assert "the 8 files" in line and "7 cannot be found" in line and "and 2 more" in line and f"relative to {tmp_path}" in line
    assert all(f"{tmp_path}/no{number}.jpg" in line for number in range(5)) and "no5.jpg" not in line
    line = refusal(table("path,label\na.jpg,cat\nno.jpg,cat\n"))
    assert "1 cannot be found" in line and "more" not in line


def test_a_column_to_group_by_that_is_not_there_is_named(table):
    line = refusal(table("path,label,patient_id\na.jpg,cat,1\n"), group_by="patientid")
    assert "column 'patientid'" in line and "did you mean 'patient_id'?" in line


def test_grouping_by_a_column_where_there_is_none_is_refused(tmp_path):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg")
    for source in (tmp_path, "tfds:mnist", ([str(tmp_path / "cat/1.jpg")], ["cat"]), (np.zeros((2, 8, 8, 3)), [0, 1])):
        assert "group_by='patient'" in refusal(source, group_by="patient")


def test_a_data_dir_is_for_tensorflow_datasets_alone(tmp_path):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg")
    line = refusal(tmp_path, data_dir="/data")
    assert "data_dir='/data'" in line and "leave it out" in line


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda values: [Path(value) for value in values]], ids=["list", "tuple", "array", "Path"])
def test_paths_and_labels_are_a_source_without_a_name(tmp_path, monkeypatch, kind):
    touch(tmp_path, "a.jpg", "b.jpg")
    monkeypatch.chdir(tmp_path)
    source = open_source((kind(["a.jpg", f"{tmp_path}/b.jpg"]), np.array([3, 10])))
    assert source.name == "" and source.count == 2
    assert seen(source, tmp_path) == [("a.jpg", "3"), ("b.jpg", "10")]


def test_paths_and_labels_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    touch(tmp_path, "a.jpg", "b.jpg")
    monkeypatch.chdir(tmp_path)
    assert "1 paths and 2 labels" in refusal((["a.jpg"], ["cat", "dog"]))
    assert "1 cannot be found: " in refusal((["a.jpg", "c.jpg"], ["cat", "dog"]))
    assert "'cat' and 'dog'" in refusal((["a.jpg", "./a.jpg"], ["cat", "dog"]))
    assert "none in row 2" in refusal((["a.jpg", "b.jpg"], ["cat", None]))


def test_a_frame_is_read_like_a_csv(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    monkeypatch.chdir(tmp_path)
    frame = pandas.DataFrame({"label": [1, 2, 2], "path": ["a.jpg", Path("b.jpg"), "c.jpg"], "split": ["train", "val", "test"],
                              "camera": [7, 7, 8], "score": [0.5, None, 1]}, index=[5, 9, 7])
    source = open_source(frame, group_by="camera")
    assert source.name == ""
    assert seen(source, tmp_path) == [("a.jpg", "1", "train", "7"), ("b.jpg", "2", "validation", "7"), ("c.jpg", "2", "test", "8")]


def test_a_frame_that_cannot_be_used_is_refused_in_one_line(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    touch(tmp_path, "a.jpg", "b.jpg")
    monkeypatch.chdir(tmp_path)
    frame = pandas.DataFrame({"path": ["a.jpg", "b.jpg"], "label": ["cat", "dog"], "patient_id": [1, 2]})
    line = refusal(frame.rename(columns={"path": "file_path"}))
    assert "column 'path' in the frame" in line and "did you mean 'file_path'?" in line
    assert "did you mean 'patient_id'?" in refusal(frame, group_by="patientid")
    assert "label in every row of the frame, found none in row 2" in refusal(frame.assign(label=["cat", float("nan")]))
    assert "fill all rows or none" in refusal(frame.assign(split=["train", None]))
    assert "at least one row" in refusal(frame[:0])


def test_missing_values_of_pandas_are_missing_whatever_they_are(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    touch(tmp_path, "a.jpg", "b.jpg")
    monkeypatch.chdir(tmp_path)
    frame = pandas.DataFrame({"path": ["a.jpg", "b.jpg"], "label": ["cat", "dog"], "patient": ["p", None]})
    assert [example.group for example in open_source(frame, group_by="patient").examples] == ["p", ""]
    nullable = frame.convert_dtypes()
    nullable.loc[1, "label"] = pandas.NA
    assert "label in every row" in refusal(nullable)
    splits = pandas.array([pandas.NA, pandas.NA], dtype="string")
    assert seen(open_source(frame.assign(split=splits)), tmp_path) == [("a.jpg", "cat"), ("b.jpg", "dog")]


def test_a_dict_of_arrays_by_split_is_one_source():
    images = np.full((2, 8, 8, 3), 200, np.uint8)
    source = open_source({"train": (images, ["cat", "dog"]), "val": (images[:1], ["cat"])})
    assert [(e.path, e.label, e.split) for e in source.examples] == [
        ("array/train/0", "cat", "train"), ("array/train/1", "dog", "train"), ("array/validation/0", "cat", "validation")]


@pytest.mark.parametrize("source, what", [
    (None, "builtins.NoneType"), (5, "builtins.int"), (["a.jpg"], "builtins.list"), (np.zeros((2, 8, 8, 3)), "numpy.ndarray"), ((1, 2, 3), "a tuple of 3")])
def test_what_is_no_source_is_named_with_what_is_one(source, what):
    line = refusal(source)
    assert line.startswith(f"expected photos, got {what};")
    assert all(kind in line for kind in ("folder", "CSV", ".npz", "tfds:NAME", "frame", "(paths, labels)", "(images, targets)", "tf.data.Dataset"))


def test_a_link_that_leads_back_does_not_multiply_the_photos(tmp_path):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "cat" / "up").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "more").symlink_to(tmp_path / "dog", target_is_directory=True)
    assert len(list_class_folders(tmp_path)) == 2
