"""Data sets of tensorflow-datasets: prepared on disk from real photos, read back, and those that cannot be had."""

import csv
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import tfcnn
from tfcnn.cli import main
from tfcnn.data.photo import decode_photo
from tfcnn.data.read import content_digest
from tfcnn.data.run_data import load_run_data
from tfcnn.data.sources import open_source
from tfcnn.errors import InputError
from tfcnn.files import write_rows
from tfcnn.record import Run, write_record

WASTE = "tfds:waste_photos/tenth:1.2.0"
TURNED = ("hopper_orientation_2.jpg", "hopper_orientation_5.jpg", "hopper_orientation_6.jpg", "hopper_orientation_8.jpg")


def store(folder, name, examples_of, *, label=True, config=None, **images):
    """Prepares a data set in `folder`; `examples_of` has the examples of each split: dicts of photos and a label."""
    import tensorflow_datasets as tfds

    labels = sorted({example["label"] for examples in examples_of.values() for example in examples})
    features = {"label": tfds.features.ClassLabel(names=labels) if label else tfds.features.Text()}
    features |= {key: tfds.features.Image(shape=shape) for key, shape in (images or {"image": (None, None, 3)}).items()}
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name, version="1.2.0", config=config, data_dir=folder, features=tfds.features.FeaturesDict(features),
        split_datasets={split: [(str(row), example) for row, example in enumerate(examples)] for split, examples in examples_of.items()})


@pytest.fixture(scope="module")
def waste(shared):
    """60 photos of waste, 10 a class, by split: 8 a class to train, 2 to test."""
    files = [file for folder in sorted((shared / "trashnet600").iterdir()) for file in sorted(folder.glob("*.jpg"))[::10]]
    assert len(files) == 60
    return {"train": [file for row, file in enumerate(files) if row % 10 < 8], "test": [file for row, file in enumerate(files) if row % 10 >= 8]}


@pytest.fixture(scope="module")
def prepared(waste, shared, tmp_path_factory):
    """A folder in which tensorflow-datasets prepared some data sets."""
    folder = tmp_path_factory.mktemp("prepared")
    store(folder, "waste_photos", {split: [{"image": str(file), "label": file.parent.name} for file in files] for split, files in waste.items()},
          config="tenth")
    store(folder, "turned_photos", {"train": [{"image": str(shared / "ugly" / name), "label": f"turned {name[-5]}"} for name in TURNED]})
    noise = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    few = [{"image": image, "label": "ab"[row % 2]} for row, image in enumerate(noise)]
    store(folder, "noise", {"train": few[:30], "unlabelled": few[30:]}, image=(16, 16, 3))
    store(folder, "grey", {"training": [{**example, "image": example["image"][..., :1]} for example in few]}, image=(16, 16, 1))
    store(folder, "all_in_one", {"photos": few}, image=(16, 16, 3))
    store(folder, "pairs", {"train": [{"left": example["image"], "right": example["image"], "label": example["label"]} for example in few]},
          left=(16, 16, 3), right=(16, 16, 3))
    store(folder, "captions", {"train": few}, image=(16, 16, 3), label=False)
    return folder


def run_of(data, folder) -> Run:
    """What a finished run says about its data."""
    write_rows(folder / "items.csv", ("path", "label", "split", "sha256"), data.items)
    return write_record(folder, {"labels": data.labels, "input_shape": data.input_shape, "geometry": data.geometry, "status": "finished",
                                 "data": {"source": data.source, "arguments": data.arguments}})


def counts_of(data):
    return [len(data.rows(split)) for split in ("train", "validation", "test")]


def refusal(name, data_dir) -> str:
    """The one line that a name is refused with."""
    with pytest.raises(InputError) as caught:
        open_source(name, data_dir=data_dir)
    text = str(caught.value)
    assert text.startswith("expected ") and "\n" not in text
    return text


def test_the_photos_are_those_of_the_files(prepared, waste, tmp_path, monkeypatch):
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path))  # nothing is decoded yet
    data = tfcnn.load_images("tfds:waste_photos", data_dir=prepared, image_size=32)
    file_of = {content_digest(file.read_bytes()): file for files in waste.values() for file in files}
    assert {item.sha256 for item in data.items} == set(file_of) and len(data.items) == 60
    for item, pixels in zip(data.items, data.inputs[np.arange(60)], strict=True):
        assert item.label == file_of[item.sha256].parent.name
        np.testing.assert_array_equal(pixels, decode_photo(file_of[item.sha256], 32).pixels)


def test_given_splits_are_kept_and_the_validation_split_is_drawn_from_the_training_photos(prepared, waste):
    data = tfcnn.load_images("tfds:waste_photos", data_dir=prepared, image_size=32)
    assert data.labels == ("cardboard", "glass", "metal", "paper", "plastic", "trash")
    assert counts_of(data) == [42, 6, 12]  # 0.1 / 0.8 of 8 a class is one a class
    split_of = {item.sha256: item.split for item in data.items}
    assert {split_of[content_digest(file.read_bytes())] for file in waste["test"]} == {"test"}
    assert Counter(item.label for item in data.items if item.split == "validation") == dict.fromkeys(data.labels, 1)


def test_the_full_name_with_configuration_and_version_is_recorded(prepared):
    for name in ("tfds:waste_photos", "tfds:waste_photos/tenth", "tfds:waste_photos/tenth:1.2.0", "tfds:waste_photos:1.*.*"):
        source = open_source(name, data_dir=prepared)
        assert source.name == WASTE and source.count == 60 and source.examples is None
    paths = [example.path for example, _ in source.read()]
    assert sorted(paths) == sorted([*(f"{WASTE}/train/{row}" for row in range(48)), *(f"{WASTE}/test/{row}" for row in range(12))])
    assert paths == [example.path for example, _ in source.read()]


def test_the_orientation_that_a_photo_was_taken_in_is_applied(prepared, shared, tmp_path, monkeypatch):
    """tensorflow-datasets by itself ignores it."""
    from PIL import Image, ImageOps

    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path))
    data = tfcnn.load_images("tfds:turned_photos", data_dir=prepared, image_size=128, split=None)
    row_of = {item.label: row for row, item in enumerate(data.items)}
    for name in TURNED:
        with Image.open(shared / "ugly" / name) as image:
            upright = np.asarray(ImageOps.exif_transpose(image))
            assert not np.array_equal(upright, np.asarray(image))
        np.testing.assert_array_equal(data.inputs[[row_of[f"turned {name[-5]}"]]][0], upright)


def test_splits_that_are_none_of_the_three_are_left_out_and_missing_ones_drawn(prepared):
    data = tfcnn.load_images("tfds:noise", data_dir=prepared, image_size=16)
    assert counts_of(data) == [20, 4, 6]  # of 15 a class: 3 to test, 2 to validate
    noise = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)[:30]  # of the same seed as they were stored
    assert sorted(image.tobytes() for image in data.inputs[np.arange(30)]) == sorted(image.tobytes() for image in noise)


def test_a_data_set_of_one_part_is_split_like_a_folder(prepared):
    data = tfcnn.load_images("tfds:all_in_one", data_dir=prepared, image_size=16)
    assert counts_of(data) == [28, 4, 8]
    assert {example.split for example, _ in open_source("tfds:all_in_one", data_dir=prepared).read()} == {""}


def test_grey_pictures_have_three_equal_channels(prepared):
    data = tfcnn.load_images("tfds:grey", data_dir=prepared, image_size=16)
    pixels = data.inputs[np.arange(40)]
    assert data.input_shape == (16, 16, 3) and pixels.std() > 50
    np.testing.assert_array_equal(pixels, np.repeat(pixels[..., :1], 3, axis=-1))


def test_a_run_finds_its_photos_again(prepared, tmp_path, monkeypatch):
    data = tfcnn.load_images("tfds:waste_photos", data_dir=prepared, image_size=32)
    run = run_of(data, tmp_path / "run")
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path / "cache"))
    again = load_run_data(run)
    assert again.items == data.items and again.source == WASTE
    np.testing.assert_array_equal(again.inputs[np.arange(60)], data.inputs[np.arange(60)])


def test_a_run_finds_its_photos_again_from_another_folder(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(prepared.parent)
    run = run_of(tfcnn.load_images("tfds:noise", data_dir=prepared.name, image_size=16), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert len(load_run_data(run).items) == 30


def test_the_command_line_audits_a_prepared_data_set(prepared, tmp_path, capsys):
    code = main(["audit", "tfds:waste_photos", "--data-dir", str(prepared), "--output", str(tmp_path / "audit"), "--image-size", "32",
                 "--difference", "0.25", "--strict", "--json"])
    values = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert code == 0 and values["problems"] == values["warnings"] == []
    assert values["source"] == WASTE and values["n"] == 60 and values["split_counts"] == {"train": 48, "test": 12}
    assert values["counts"] == dict.fromkeys(("cardboard", "glass", "metal", "paper", "plastic", "trash"), 10)
    assert values["test"]["n"] == 12
    files = json.loads((tmp_path / "audit" / "audit.json").read_text())["files"]
    assert {(file["format"], file["width"], file["height"]) for file in files} == {("JPEG", 384, 512)}


def test_what_holds_no_photos_with_labels_is_refused(prepared):
    for name, features in (("pairs", ["label", "left", "right"]), ("captions", ["image", "label"])):
        line = refusal(f"tfds:{name}", prepared)
        assert f"one photo and one class label an example in 'tfds:{name}', found the features " in line
        assert sorted(line.split("features ")[1].split(", ")) == features


def test_a_name_that_does_not_exist_offers_the_closest_at_once(prepared, tmp_path, capsys):
    start = time.perf_counter()
    assert "got 'waste_photo'; did you mean 'waste_photos'?" in refusal("tfds:waste_photo", prepared)
    assert "got 'mnistt'; did you mean 'mnist'?" in refusal("tfds:mnistt", tmp_path / "none")
    assert "are known, see tfds.list_builders()" in refusal("tfds:zzqqxx", None)
    assert main(["audit", "tfds:turned_photo", "--data-dir", str(prepared), "--output", str(tmp_path / "audit")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("tfcnn: expected a data set") and "did you mean 'turned_photos'?" in line
    assert time.perf_counter() - start < 20  # it asks no server
    assert not (tmp_path / "none").exists() and not (tmp_path / "audit").exists()


@pytest.mark.parametrize("name, word", [
    ("tfds:waste_photos:9.9.9", "9.9.9"), ("tfds:waste_photos/half", "half"), ("tfds:mnist:9.9.9", "9.9.9"), ("tfds:mnist/half", "half")])
def test_a_version_or_configuration_that_does_not_exist_is_named(prepared, name, word):
    line = refusal(name, prepared)
    assert word in line and "did you mean 'waste_photos'" not in line


@pytest.mark.parametrize("name", ["tfds:", "tfds:a/b/c", "tfds:a:b:c", "tfds:a b"])
def test_what_is_no_name_is_refused(name, tmp_path):
    assert "tfds:NAME[/CONFIG][:VERSION]" in refusal(name, tmp_path)


def known_data_set(url=None):
    """Registers the builder of a data set of photos and masks, which are downloaded first if there is a URL; gives its name."""
    import tensorflow_datasets as tfds

    class KnownPhotos(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("2.0.0")
        name = "known_photos_here" if url is None else "known_photos_elsewhere"
        url_infos = {url: tfds.core.download.checksums.UrlInfo(size=1000, checksum="0" * 64, filename="photos.zip")} if url else {}

        def _info(self):
            image = tfds.features.Image(shape=(16, 16, 3))
            features = tfds.features.FeaturesDict({"mask": image, "image": image, "label": tfds.features.ClassLabel(names=["cat", "dog"])})
            return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

        def _split_generators(self, manager):
            if url:
                manager.download(url)
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            noise = np.random.default_rng(1).integers(0, 256, (30, 16, 16, 3), np.uint8)
            for row, image in enumerate(noise):
                yield row, {"image": image, "mask": np.zeros_like(image), "label": row % 2}

    return KnownPhotos.name


def test_a_known_data_set_is_prepared_first_and_the_photo_it_is_supervised_by_is_taken(tmp_path):
    name = known_data_set()
    data = tfcnn.load_images(f"tfds:{name}", data_dir=tmp_path, image_size=16)
    assert data.source == f"tfds:{name}:2.0.0" and data.labels == ("cat", "dog") and counts_of(data) == [20, 4, 6]
    noise = np.random.default_rng(1).integers(0, 256, (30, 16, 16, 3), np.uint8)
    assert sorted(image.tobytes() for image in data.inputs[np.arange(30)]) == sorted(image.tobytes() for image in noise)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    assert open_source(f"tfds:{name}", data_dir=tmp_path).count == 30  # the second time it is there
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()} == files


@pytest.mark.timeout(30)
def test_a_known_data_set_that_cannot_be_downloaded_is_refused_soon(tmp_path, capsys):
    name = known_data_set(url="http://127.0.0.1:9/photos.zip")  # nobody answers there, with or without a network
    start = time.perf_counter()
    line = refusal(f"tfds:{name}", tmp_path)
    assert time.perf_counter() - start < 20
    assert f"expected '{name}' to be prepared in '{tmp_path}" in line and "127.0.0.1" in line and "--data-dir" in line
    assert "\n" not in line and len(line) < 1000


def test_the_items_of_a_prepared_data_set_survive_the_record(prepared, tmp_path):
    data = tfcnn.load_images("tfds:noise", data_dir=prepared, image_size=16)
    run_of(data, tmp_path)
    with open(tmp_path / "items.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [item.path for item in data.items] and rows[0]["path"].startswith("tfds:noise:1.2.0/train/")
    assert json.loads((tmp_path / "run.json").read_text())["data"]["arguments"]["data_dir"] == str(Path(prepared))
