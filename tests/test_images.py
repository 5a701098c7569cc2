"""`load_images`: photos decoded once, put into splits that hold together, and what cannot be used left out."""

import csv
import hashlib
import io
import logging
import shutil
import warnings
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tfcnn.data import images, read
from tfcnn.data.dataset import splits_by_content
from tfcnn.data.images import load_images
from tfcnn.data.photo import decode_photo
from tfcnn.data.read import content_digest
from tfcnn.data.run_data import load_run_data
from tfcnn.errors import InputError
from tfcnn.files import write_rows
from tfcnn.record import load_run, write_record

THIRDS = (0.4, 0.2, 0.4)


class Decoded(BaseException):
    """Not an Exception: whatever a decoder raises sends a file to quarantine."""


def state_of(folder):
    """Content and time of every file below a folder."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def copy_photos(photos, folder, count=5):
    """Some of the made photos, to be changed by a test."""
    for path in sorted(photos.glob("*/*.jpg")):
        if int(path.stem) < count:
            (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / path.parent.name)
    return folder


def record_run(folder, data):
    """A run folder as training leaves it, as far as its data goes."""
    write_rows(folder / "items.csv", data.items[0]._fields, data.items)
    return write_record(folder, {"labels": list(data.labels), "status": "trained", "input_shape": list(data.input_shape), "geometry": data.geometry,
                                 "data": {"source": data.source, "arguments": data.arguments}})


def forbid_decoding(monkeypatch):
    """Any decoding from here on is an error."""
    def fail(content, image_size, geometry):
        raise Decoded(content)

    monkeypatch.setattr(read, "decode_photo", fail)


def picture(seed):
    """A smooth picture that looks like no other seed's."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(small).resize((64, 48), Image.Resampling.BICUBIC)


def make_pictures(folder, classes=("cat", "dog"), count=12):
    """Photos of each class that look like no other."""
    for number in range(count * len(classes)):
        path = folder / classes[number % len(classes)] / f"{number // len(classes):02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    return folder


def copy_nearly(path, *, turn=None):
    """A near copy beside a picture: smaller, as JPEG, perhaps mirrored."""
    with Image.open(path) as image:
        copy = image.resize((50, 40))
        (copy if turn is None else copy.transpose(turn)).save(path.with_name(f"{path.stem}-copy.jpg"), quality=60)
    return path.with_name(f"{path.stem}-copy.jpg")


def splits_by_name(data):
    """The split of each file, by LABEL/NAME."""
    return {"/".join(item.path.split("/")[-2:]): item.split for item in data.items}


def test_a_folder_becomes_a_stratified_dataset(photos):
    data = load_images(photos, image_size=24)
    assert data.labels == ("blue", "green", "red") and data.input_shape == (24, 24, 3) and data.quarantined == ()
    assert Counter((item.label, item.split) for item in data.items) == {
        (label, split): count for label in data.labels for split, count in (("train", 14), ("validation", 2), ("test", 4))}
    assert data.inputs.shape == (60, 24, 24, 3) and data.inputs.dtype == np.uint8
    assert data.source == str(photos.absolute()) and data.geometry == "stretch"
    assert data.arguments == {"image_size": 24, "geometry": "stretch", "split": [0.7, 0.1, 0.2], "seed": 0, "folds": None, "fold": 0, "like": None,
                              "group_by": None, "data_dir": None, "channels": 3}
    for row in (0, 31, 59):
        item = data.items[row]
        np.testing.assert_array_equal(data.inputs[row], decode_photo(item.path, 24).pixels)
        with open(item.path, "rb") as file:
            assert item.sha256 == hashlib.sha256(file.read()).hexdigest()
        assert item.path.split("/")[-2] == item.label
    assert data.inputs[data.rows("test")].mean(axis=(1, 2)).argmax(axis=1).tolist() == [2] * 4 + [1] * 4 + [0] * 4  # blue, green, red


def test_the_seed_and_the_fractions_are_those_of_the_split(photos):
    splits = lambda **arguments: [item.split for item in load_images(photos, image_size=24, **arguments).items]
    assert splits(seed=1) == splits(seed=1) != splits(seed=2)
    assert Counter(splits(split=THIRDS)) == {"train": 24, "validation": 12, "test": 24}


def test_broken_files_are_left_out_with_a_reason_and_nothing_is_touched(photos, tmp_path):
    folder = copy_photos(photos, tmp_path / "p")
    whole = (folder / "red" / "00.jpg").read_bytes()
    (folder / "red" / "half.jpg").write_bytes(whole[:len(whole) // 2])
    (folder / "red" / "empty.jpg").write_bytes(b"")
    (folder / "blue" / "notes.txt").write_text("not a photo")
    before = state_of(folder)
    data = load_images(folder, image_size=24, split=THIRDS)
    assert state_of(folder) == before
    reasons = {quarantined.path: quarantined.reason for quarantined in data.quarantined}
    assert {path.split("/p/")[1] for path in reasons} == {"blue/notes.txt", "red/empty.jpg", "red/half.jpg"}
    kinds = {path.split("/p/")[1]: reason.split(":")[0] for path, reason in reasons.items()}
    assert kinds == {"blue/notes.txt": "not an image", "red/empty.jpg": "empty", "red/half.jpg": "truncated"}
    assert all(str(tmp_path) not in reason and "\n" not in reason for reason in reasons.values())
    assert len(data.items) == len(data.inputs) == 15
    assert not {item.path for item in data.items} & set(reasons)
    clean = load_images(copy_photos(photos, tmp_path / "q"), image_size=24, split=THIRDS)
    assert [item[1:] for item in data.items] == [item[1:] for item in clean.items]  # they move no other photo


def test_paths_are_whole_whatever_the_source_was_given_as(photos, tmp_path, monkeypatch):
    folder = copy_photos(photos, tmp_path / "p")
    (folder / "red" / "empty.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    data = load_images("p", image_size=24, split=THIRDS)
    assert data.source == str(folder) and data.items[0].path == str(folder / "blue" / "00.jpg")
    assert data.quarantined[0].path == str(folder / "red" / "empty.jpg")


def test_a_folder_of_broken_files_says_so(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in (1, 2, 3):
            (tmp_path / label / f"{number}.jpg").write_text("no photo")
    with pytest.raises(InputError, match=r"none of its 6 files can be used; the first: .*1\.jpg"):
        load_images(tmp_path, image_size=24)


@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_class_with_too_few_readable_photos_is_named(photos, tmp_path, good):
    folder = copy_photos(photos, tmp_path)
    (folder / "owl").mkdir()
    for number in range(4):
        (folder / "owl" / f"{number}.jpg").write_bytes((photos / "red" / f"{number + 10}.jpg").read_bytes() if number < good else b"broken")
    with pytest.raises(InputError, match=f"at least three .*found {good} in 'owl'"):
        load_images(folder, image_size=24, split=THIRDS)


def test_a_second_load_decodes_nothing(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path / "cache"))
    first = load_images(photos, image_size=24)
    forbid_decoding(monkeypatch)
    second = load_images(photos, image_size=24)
    assert second.items == first.items and second.quarantined == ()
    np.testing.assert_array_equal(second.inputs[np.arange(60)], first.inputs[np.arange(60)])
    for other in ({"image_size": 25}, {"image_size": 24, "geometry": "letterbox"}):  # another store
        with pytest.raises(Decoded):
            load_images(photos, **other)


def test_a_changed_file_is_decoded_anew(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path / "cache"))
    folder = copy_photos(photos, tmp_path / "p")
    load_images(folder, image_size=24, split=THIRDS)
    Image.new("RGB", (30, 30), (1, 2, 3)).save(folder / "blue" / "00.jpg", format="PNG")
    data = load_images(folder, image_size=24, split=THIRDS)
    assert (data.inputs[0] == (1, 2, 3)).all()


def test_copies_of_a_photo_are_kept_and_stay_in_one_split(photos, tmp_path):
    folder = copy_photos(photos, tmp_path)
    for number in range(3):
        shutil.copy(folder / "red" / "00.jpg", folder / "red" / f"copy{number}.jpg")
    data = load_images(folder, image_size=24, split=THIRDS)
    assert len(data.items) == 18 and data.quarantined == ()
    copies = [row for row, item in enumerate(data.items) if item.path.endswith("red/00.jpg") or "copy" in item.path]
    assert len(copies) == 4 and len({data.items[row].split for row in copies}) == 1
    assert (data.inputs[copies] == data.inputs[copies[0]]).all()


def test_arrays_become_a_dataset():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 10, 12, 3), np.uint8)
    data = load_images((pixels, ["cat", "dog"] * 10))
    assert data.labels == ("cat", "dog") and data.input_shape == (10, 12, 3) and data.source == "" and data.quarantined == ()
    assert Counter((item.label, item.split) for item in data.items) == {
        (label, split): count for label in data.labels for split, count in (("train", 7), ("validation", 1), ("test", 2))}
    np.testing.assert_array_equal(data.inputs, pixels)
    assert [item.path for item in data.items[:3]] == ["array/0", "array/1", "array/2"]
    assert data.items[5].sha256 == content_digest(pixels[5])


def test_integer_targets_keep_their_number():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 3), np.uint8)
    targets = np.arange(48) % 12
    data = load_images((pixels, targets), split=THIRDS)
    assert data.labels == tuple(str(number) for number in range(12))  # 10 comes after 9, not after 1
    np.testing.assert_array_equal(data.targets(np.arange(48)), targets)


@pytest.mark.parametrize("pixels, targets, expected", [
    (np.zeros((6, 8, 8, 4), np.uint8), [0, 1] * 3, "got shape="), (np.zeros((6, 8), np.uint8), [0, 1] * 3, "got shape="),
    (np.linspace(0, 1, 1152, dtype=np.float32).reshape(6, 8, 8, 3), [0, 1] * 3, "look like 0 to 1; multiply them by 255"),
    (np.full((6, 8, 8, 3), -1), [0, 1] * 3, "pixels from 0 to 255"),
    (np.zeros((6, 8, 8, 3), np.uint8), [0, 1], "6 images and 2 targets"), (np.zeros((0, 8, 8, 3), np.uint8), [], "at least two classes")])
def test_arrays_that_are_no_photos_are_refused(pixels, targets, expected):
    with pytest.raises(InputError, match=expected):
        load_images((pixels, targets))


def test_arrays_of_one_class_are_refused():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
    with pytest.raises(InputError, match=r"at least two classes, found those of one class \('4'\)"):
        load_images((pixels, [4] * 9))


@pytest.mark.parametrize("image_size", [7, 0, -224, 2049, 224.0, "224", True])
def test_an_image_size_out_of_range_is_refused_before_any_work(photos, monkeypatch, image_size):
    forbid_decoding(monkeypatch)
    with pytest.raises(InputError, match="image size from 8 to 2048") as caught:
        load_images(photos, image_size=image_size)
    assert f"image_size={image_size}" in str(caught.value)


def test_fractions_that_are_no_split_are_refused_before_any_work(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="three positive fractions"):
        load_images(photos, image_size=24, split=(0.5, 0.5, 0.5))
    assert list(tmp_path.iterdir()) == []  # nothing was decoded


def test_a_run_gives_its_photos_back_in_their_splits(photos, tmp_path, monkeypatch):
    data = load_images(photos, image_size=24, split=THIRDS, seed=5)
    run = record_run(tmp_path, data)
    forbid_decoding(monkeypatch)
    again = load_run_data(load_run(run.path))
    assert again.items == data.items and again.labels == data.labels and again.input_shape == data.input_shape
    assert again.source == data.source and again.arguments == data.arguments and again.geometry == data.geometry
    np.testing.assert_array_equal(again.inputs[np.arange(60)], data.inputs[np.arange(60)])


def test_a_photo_that_came_later_is_not_part_of_the_run(photos, tmp_path):
    folder = copy_photos(photos, tmp_path / "p")
    data = load_images(folder, image_size=24, split=THIRDS)
    run = record_run(tmp_path / "run", data)
    shutil.copy(photos / "red" / "19.jpg", folder / "red")
    assert load_run_data(run).items == data.items


def test_missing_photos_are_counted_and_the_first_is_named(photos, tmp_path):
    folder = copy_photos(photos, tmp_path / "p")
    run = record_run(tmp_path / "run", load_images(folder, image_size=24, split=THIRDS))
    (folder / "red" / "01.jpg").unlink()
    (folder / "green" / "02.jpg").unlink()
    with pytest.raises(InputError, match=r"the 15 photos .* 2 cannot be found, the first: .*green/02\.jpg"):
        load_run_data(run)


@pytest.mark.parametrize("content", [b"no photo any more", None], ids=["broken", "another photo"])
def test_changed_photos_are_counted_and_the_first_is_named(photos, tmp_path, content):
    folder = copy_photos(photos, tmp_path / "p")
    run = record_run(tmp_path / "run", load_images(folder, image_size=24, split=THIRDS))
    (folder / "red" / "01.jpg").write_bytes(content or (folder / "blue" / "01.jpg").read_bytes())
    with pytest.raises(InputError, match=r"1 changed since, the first: .*red/01\.jpg"):
        load_run_data(run)


def test_a_run_on_arrays_asks_for_its_data(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    with pytest.raises(InputError, match="arrays in memory; in Python, give the data set"):
        load_run_data(record_run(tmp_path, load_images((pixels, [0, 1] * 3))))


def test_a_run_whose_items_were_not_written_yet_is_an_input_error(photos, tmp_path):
    run = record_run(tmp_path, load_images(photos, image_size=24))
    (tmp_path / "items.csv").unlink()
    with pytest.raises(InputError, match=r"items\.csv|not completed"):
        load_run_data(run)


def test_real_photos_load_in_stratified_splits(shared):
    data = load_images(shared / "trashnet600", image_size=16)
    assert data.labels == ("cardboard", "glass", "metal", "paper", "plastic", "trash")
    assert data.quarantined == () and len(data.inputs) == 600
    assert Counter(item.split for item in data.items) == {"train": 420, "validation": 60, "test": 120}
    assert set(Counter(item.label for item in data.items if item.split == "test").values()) == {20}
    with Image.open(data.items[345].path) as image:
        plain = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(data.inputs[345] - plain).mean() < 4  # decoded at an eighth, and averaged in boxes


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow warns about broken EXIF data and reads the pixels
def test_no_odd_file_does_more_than_go_to_quarantine(shared, photos, tmp_path):
    folder = copy_photos(photos, tmp_path)
    (folder / "odd").mkdir()
    for path in (shared / "ugly").iterdir():
        shutil.copy(path, folder / "odd")
    data = load_images(folder, image_size=32, split=THIRDS)
    with open(shared / "ugly" / "manifest.csv", newline="") as file:
        verdicts = {row["file"]: row["loader_should"] for row in csv.DictReader(file)}
    left_out = {quarantined.path.split("/odd/")[1] for quarantined in data.quarantined}
    used = {item.path.split("/odd/")[1]: row for row, item in enumerate(data.items) if item.label == "odd"}
    named = lambda verdict: {name for name, said in verdicts.items() if said == verdict}
    assert left_out - named("either") == named("reject") | {"manifest.csv"}
    assert set(used) - named("either") == named("accept")
    assert left_out | set(used) == set(verdicts) | {"manifest.csv"} and not left_out & set(used)
    assert all(quarantined.reason for quarantined in data.quarantined)
    assert all(data.inputs[row].std() > 1 for name, row in used.items() if name in named("accept") and not name.startswith("apng_"))


def test_loading_leaves_the_warning_filters_alone(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path))
    before = list(warnings.filters)
    load_images(photos, image_size=16)
    assert warnings.filters == before


def test_the_geometry_is_recorded_and_used_again(photos, tmp_path):
    data = load_images(photos, image_size=24, geometry="letterbox", split=THIRDS)
    assert data.geometry == data.arguments["geometry"] == "letterbox"
    np.testing.assert_array_equal(data.inputs[7], decode_photo(data.items[7].path, 24, "letterbox").pixels)
    again = load_run_data(record_run(tmp_path, data))
    assert again.geometry == "letterbox"
    np.testing.assert_array_equal(again.inputs[np.arange(60)], data.inputs[np.arange(60)])


def test_a_geometry_that_is_none_is_refused_before_any_work(photos, monkeypatch):
    forbid_decoding(monkeypatch)
    with pytest.raises(InputError, match="geometry='fit'"):
        load_images(photos, image_size=24, geometry="fit")


def test_files_without_a_size_have_that_of_most_backbones(photos, tmp_path):
    data = load_images(copy_photos(photos, tmp_path), split=THIRDS)
    assert data.input_shape == (224, 224, 3) and data.arguments["image_size"] is None


# Contradictions.


def test_a_photo_under_two_labels_is_left_out_and_both_places_are_named(photos, tmp_path):
    folder = copy_photos(photos, tmp_path)
    shutil.copy(folder / "red" / "00.jpg", folder / "blue" / "also.jpg")
    data = load_images(folder, image_size=24, split=THIRDS)
    paths = {str(folder / "red" / "00.jpg"): str(folder / "blue" / "also.jpg")}
    paths |= {there: here for here, there in paths.items()}
    assert {quarantined.path for quarantined in data.quarantined} == set(paths)
    for path, reason in data.quarantined:
        labels = ("red", "blue") if "/red/" in path else ("blue", "red")
        assert reason == f"contradiction: the same photo is labelled '{labels[0]}' here and '{labels[1]}' in {paths[path]}"
    assert len(data.items) == len(data.inputs) == 14 and not set(paths) & {item.path for item in data.items}
    clean = copy_photos(photos, tmp_path / "clean")
    (clean / "red" / "00.jpg").unlink()
    assert [item[1:] for item in data.items] == [item[1:] for item in load_images(clean, image_size=24, split=THIRDS).items]


def test_an_array_under_two_labels_is_left_out(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    pixels[7] = pixels[2]
    data = load_images((pixels, ["cat", "dog"] * 10), split=THIRDS)
    assert [quarantined.path for quarantined in data.quarantined] == ["array/2", "array/7"]
    assert "'cat' here and 'dog' in array/7" in data.quarantined[0].reason
    assert len(data.items) == len(data.inputs) == 18
    np.testing.assert_array_equal(data.inputs, np.delete(pixels, [2, 7], axis=0))


def test_a_class_of_contradictions_alone_is_named(photos, tmp_path):
    folder = copy_photos(photos, tmp_path)
    (folder / "pink").mkdir()
    for number in range(3):
        shutil.copy(folder / "red" / f"0{number}.jpg", folder / "pink")
    with pytest.raises(InputError, match="found 0 in 'pink'"):
        load_images(folder, image_size=24, split=THIRDS)


# Near copies.


def test_near_copies_are_in_one_split_and_without_the_search_they_would_not_be(tmp_path, monkeypatch, caplog):
    folder = make_pictures(tmp_path)
    pairs = {}
    for number, turn in enumerate([None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90, None]):
        original = folder / ("cat", "dog")[number % 2] / f"{number:02d}.png"
        pairs[f"{original.parent.name}/{original.name}"] = f"{original.parent.name}/{copy_nearly(original, turn=turn).name}"
    divided = lambda splits: [first for first, second in pairs.items() if splits[first] != splits[second]]
    with caplog.at_level(logging.INFO, logger="tfcnn"):
        loaded = [splits_by_name(load_images(folder, image_size=32, split=THIRDS, seed=seed)) for seed in range(6)]
    assert [divided(splits) for splits in loaded] == [[]] * 6 and len({tuple(splits.values()) for splits in loaded}) == 6
    assert "8 photos are near copies of others; they stay together" in caplog.messages
    assert all(Counter(splits.values()) == {"train": 10, "validation": 6, "test": 12} for splits in loaded)
    monkeypatch.setattr(images, "near_duplicates", lambda thumbnails: [])
    assert any(divided(splits_by_name(load_images(folder, image_size=32, split=THIRDS, seed=seed))) for seed in range(6))


def test_near_copies_in_memory_are_in_one_split():
    pixels = np.stack([np.asarray(picture(seed)) for seed in range(20)])
    mirrored = pixels[:8, :, ::-1].copy()
    mirrored[:, 0, 0] //= 2  # near, not equal
    for seed in range(6):
        data = load_images((np.concatenate([pixels, mirrored]), ["cat", "dog"] * 14), split=THIRDS, seed=seed)
        splits = [item.split for item in data.items]
        assert splits[:8] == splits[20:] and set(splits) == {"train", "validation", "test"}


# Cross-validation.


def test_each_photo_is_tested_once_over_the_folds(tmp_path):
    folder = make_pictures(tmp_path)
    original = folder / "cat" / "03.png"
    copy = copy_nearly(original)
    loaded = [load_images(folder, image_size=32, folds=4, fold=fold) for fold in range(4)]
    splits = [splits_by_name(data) for data in loaded]
    tested = Counter(name for fold in splits for name, split in fold.items() if split == "test")
    assert tested == dict.fromkeys(splits[0], 1) and len(tested) == 25
    assert [Counter(item.label for item in data.items if item.split == "test")["dog"] for data in loaded] == [3] * 4
    assert all(fold[f"cat/{original.name}"] == fold[f"cat/{copy.name}"] for fold in splits)
    assert all(set(fold.values()) == {"train", "validation", "test"} for fold in splits)
    assert (loaded[2].arguments["folds"], loaded[2].arguments["fold"]) == (4, 2)


@pytest.mark.parametrize("arguments, expected", [
    ({"folds": 1}, "two folds or more, got folds=1"), ({"folds": 3, "fold": 3}, "a fold from 0 to 2, got fold=3"),
    ({"folds": 3, "fold": -1}, "got fold=-1"), ({"folds": 3, "split": None}, "got folds=3 with split=None"),
    ({"folds": 3, "like": "run"}, "got folds=3 and like='run'")])
def test_folds_that_cannot_be_are_refused_before_any_work(photos, monkeypatch, arguments, expected):
    forbid_decoding(monkeypatch)
    with pytest.raises(InputError, match=expected):
        load_images(photos, image_size=24, **arguments)


def test_folds_of_data_with_splits_of_its_own_are_refused(tmp_path):
    for part in ("train", "test"):
        make_pictures(tmp_path / part)
    with pytest.raises(InputError, match="without splits of its own for a cross-validation, got folds=3"):
        load_images(tmp_path, image_size=32, folds=3)


# Like a run.


def test_photos_of_a_run_keep_their_splits_and_new_ones_fill_up(tmp_path):
    folder = make_pictures(tmp_path / "p")
    old = load_images(folder, image_size=32, split=THIRDS, seed=3)
    run = record_run(tmp_path / "run", old)
    for number in range(100, 124):
        picture(number).save(folder / ("cat", "dog")[number % 2] / f"new-{number}.png")
    before = splits_by_name(old)
    for like in (run, str(run.path), run.path):
        data = load_images(folder, image_size=32, split=THIRDS, seed=4, like=like)
        after = splits_by_name(data)
        assert {name: after[name] for name in before} == before
        assert data.arguments["like"] == str(run.path)
        assert Counter((item.label, item.split) for item in data.items) == {
            (label, split): count for label in ("cat", "dog") for split, count in (("train", 9), ("validation", 5), ("test", 10))}
    alone = splits_by_name(load_images(folder, image_size=32, split=THIRDS, seed=4))
    assert {name: alone[name] for name in before} != before  # it is the run that keeps them


def test_a_near_copy_of_a_photo_of_a_run_follows_it(tmp_path):
    folder = make_pictures(tmp_path / "p")
    old = load_images(folder, image_size=32, split=THIRDS)
    run = record_run(tmp_path / "run", old)
    chosen = {split: next(name for name, part in splits_by_name(old).items() if part == split) for split in ("train", "validation", "test")}
    copies = {split: copy_nearly(folder / name, turn=Image.Transpose.FLIP_TOP_BOTTOM) for split, name in chosen.items()}
    after = splits_by_name(load_images(folder, image_size=32, split=THIRDS, seed=9, like=run))
    assert {split: after["/".join(path.parts[-2:])] for split, path in copies.items()} == {split: split for split in chosen}
    assert {name: after[name] for name in splits_by_name(old)} == splits_by_name(old)


def test_a_photo_of_a_run_keeps_its_split_under_another_name(tmp_path):
    folder = make_pictures(tmp_path / "p")
    old = load_images(folder, image_size=32, split=THIRDS)
    run = record_run(tmp_path / "run", old)
    test = next(item for item in old.items if item.split == "test" and item.label == "cat")
    shutil.move(test.path, folder / "cat" / "zzz.png")
    after = load_images(folder, image_size=32, split=THIRDS, seed=9, like=run)
    assert next(item.split for item in after.items if item.path.endswith("zzz.png")) == "test"


def test_the_splits_of_a_run_are_known_by_content(photos, tmp_path):
    data = load_images(photos, image_size=24, split=THIRDS)
    run = record_run(tmp_path, data)
    assert splits_by_content(run) == {item.sha256: item.split for item in data.items} and len(splits_by_content(run)) == 60
    (tmp_path / "items.csv").unlink()
    assert splits_by_content(run) == {}


def test_a_run_without_items_is_refused_as_a_model_for_a_split(photos, tmp_path):
    run = record_run(tmp_path, load_images(photos, image_size=24))
    (tmp_path / "items.csv").unlink()
    with pytest.raises(InputError, match=r"has no items\.csv; its training was not completed"):
        load_images(photos, image_size=24, like=run)


# Groups.


def test_photos_of_one_group_of_a_csv_stay_together(tmp_path):
    folder = make_pictures(tmp_path)
    rows = [(f"{label}/{number:02d}.png", label, f"{label}-patient-{number // 2}") for label in ("cat", "dog") for number in range(12)]
    with open(tmp_path / "data.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "patient"), *rows])
    divided = 0
    for seed in range(4):
        data = load_images(folder / "data.csv", image_size=32, split=THIRDS, seed=seed, group_by="patient")
        splits = splits_by_name(data)
        assert all(splits[f"{label}/{number:02d}.png"] == splits[f"{label}/{number + 1:02d}.png"] for label in ("cat", "dog") for number in range(0, 12, 2))
        assert set(splits.values()) == {"train", "validation", "test"} and data.arguments["group_by"] == "patient"
        alone = splits_by_name(load_images(folder / "data.csv", image_size=32, split=THIRDS, seed=seed))
        divided += sum(alone[f"{label}/{number:02d}.png"] != alone[f"{label}/{number + 1:02d}.png"] for label in ("cat", "dog") for number in range(0, 12, 2))
    assert divided > 10  # of 48: the column does it


# Splits that the data came with.


def test_given_splits_are_kept(tmp_path):
    for number, part in enumerate(("train", "val", "test")):
        for label in ("cat", "dog"):
            for name in range(3 + number):
                (tmp_path / part / label).mkdir(parents=True, exist_ok=True)
                picture(1000 * number + 10 * name + (label == "dog")).save(tmp_path / part / label / f"{name}.png")
    expected = {"train": 6, "val": 8, "test": 10}
    for seed in (0, 1):
        data = load_images(tmp_path, image_size=32, seed=seed)
        assert Counter((item.path.split("/")[-3], item.split) for item in data.items) == {
            (part, {"val": "validation"}.get(part, part)): count for part, count in expected.items()}


@pytest.mark.parametrize("present, drawn, share", [("validation", "test", 0.4 / 0.8), ("test", "validation", 0.2 / 0.6)])
def test_a_split_that_the_data_lacks_is_drawn_from_its_training_photos(tmp_path, present, drawn, share):
    make_pictures(tmp_path / "train", count=15)
    for number in range(10):
        (tmp_path / present / ("cat", "dog")[number % 2]).mkdir(parents=True, exist_ok=True)
        picture(500 + number).save(tmp_path / present / ("cat", "dog")[number % 2] / f"{number}.png")
    data = load_images(tmp_path, image_size=32, split=THIRDS)
    found = Counter((item.path.split("/")[-3], item.label, item.split) for item in data.items)
    taken = round(15 * share)
    assert found == {(present, label, present): 5 for label in ("cat", "dog")} | {
        ("train", label, split): count for label in ("cat", "dog") for split, count in ((drawn, taken), ("train", 15 - taken))}
    other = load_images(tmp_path, image_size=32, split=THIRDS, seed=1)
    assert [item.split for item in other.items] != [item.split for item in data.items]


def test_new_training_photos_of_data_with_splits_of_its_own_stay_training_photos_like_a_run(tmp_path):
    for part, first in (("train", 0), ("validation", 100), ("test", 200)):
        for number in range(first, first + 12):
            (tmp_path / "p" / part / ("cat", "dog")[number % 2]).mkdir(parents=True, exist_ok=True)
            picture(number).save(tmp_path / "p" / part / ("cat", "dog")[number % 2] / f"{number}.png")
    run = record_run(tmp_path / "run", load_images(tmp_path / "p", image_size=32))
    for number in range(20, 60):
        picture(number).save(tmp_path / "p" / "train" / ("cat", "dog")[number % 2] / f"{number}.png")
    data = load_images(tmp_path / "p", image_size=32, like=run)
    assert Counter((item.path.split("/")[-3], item.split) for item in data.items) == {
        ("train", "train"): 52, ("validation", "validation"): 12, ("test", "test"): 12}


def test_a_photo_in_two_of_the_given_splits_is_said(tmp_path, caplog):
    for part, first in (("train", 0), ("validation", 100), ("test", 200)):
        for number in range(first, first + 8):
            (tmp_path / part / ("cat", "dog")[number % 2]).mkdir(parents=True, exist_ok=True)
            picture(number).save(tmp_path / part / ("cat", "dog")[number % 2] / f"{number}.png")
    with caplog.at_level(logging.WARNING, logger="tfcnn"):
        load_images(tmp_path, image_size=32)
        assert caplog.messages == []
        shutil.copy(tmp_path / "train" / "cat" / "0.png", tmp_path / "test" / "cat" / "again.png")
        shutil.move(copy_nearly(tmp_path / "train" / "dog" / "1.png"), tmp_path / "validation" / "dog")
        data = load_images(tmp_path, image_size=32)
    assert caplog.messages == ["2 photos or their copies are in more than one of the splits that the data came with, so its test is too good; "
                               "'tfcnn audit' names them"]
    assert Counter(item.split for item in data.items) == {"train": 8, "validation": 9, "test": 9}  # and are kept where they are


def test_without_a_split_everything_is_for_the_test_but_what_has_one(tmp_path):
    data = load_images(make_pictures(tmp_path / "a", count=2), image_size=32, split=None)
    assert {item.split for item in data.items} == {"test"} and len(data.items) == 4 and data.arguments["split"] is None
    for part in ("train", "test"):
        make_pictures(tmp_path / "b" / part, count=2)
    data = load_images(tmp_path / "b", image_size=32, split=None)
    assert Counter(item.split for item in data.items) == {"train": 4, "test": 4}


# Arrays.


@pytest.mark.parametrize("shape", [(20, 12, 10), (20, 12, 10, 1)])
def test_grey_arrays_become_photos(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = load_images((pixels, [0, 1] * 10))
    assert data.input_shape == (12, 10, 3) and data.inputs.shape == (20, 12, 10, 3)
    np.testing.assert_array_equal(data.inputs, np.repeat(pixels.reshape(20, 12, 10, 1), 3, axis=-1))


@pytest.mark.parametrize("geometry", ["stretch", "letterbox"])
def test_arrays_are_brought_to_the_size_that_is_given(geometry):
    pixels = np.stack([np.asarray(picture(seed)) for seed in range(20)])
    data = load_images((pixels, [0, 1] * 10), image_size=32, geometry=geometry)
    assert data.input_shape == (32, 32, 3) and data.geometry == geometry and data.inputs.shape == (20, 32, 32, 3)
    for row in (0, 7, 19):
        np.testing.assert_array_equal(data.inputs[row], decode_photo(pixels[row], 32, geometry).pixels)
        assert data.items[row].sha256 == content_digest(pixels[row])
    whole = load_images((pixels, [0, 1] * 10))
    assert [item.split for item in whole.items] == [item.split for item in data.items]  # the size moves no photo


def test_arrays_of_the_size_that_is_given_are_not_decoded(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    forbid_decoding(monkeypatch)
    np.testing.assert_array_equal(load_images((pixels, [0, 1] * 10), image_size=16).inputs, pixels)


def save_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("shape, image_size", [((16, 16, 3), None), ((16, 16), None), ((20, 30, 3), 16), ((12, 16, 3), None)],
                         ids=["square", "grey", "resized", "not square"])
def test_a_run_on_an_npz_gives_its_photos_back(tmp_path, shape, image_size):
    pixels = np.random.default_rng(0).integers(0, 256, (30, *shape), np.uint8)
    source = save_npz(tmp_path / "photos.npz", x_train=pixels[:20], y_train=np.arange(20) % 2, x_test=pixels[20:], y_test=np.arange(10) % 2)
    data = load_images(source, image_size=image_size, split=THIRDS)
    assert Counter(item.split for item in data.items) == {"train": 14, "validation": 6, "test": 10}  # a third of 20 for validation
    assert data.items[0].path == f"{source}/train/0" and data.source == str(source)
    again = load_run_data(record_run(tmp_path / "run", data))
    assert again.items == data.items and again.input_shape == data.input_shape
    np.testing.assert_array_equal(again.inputs[np.arange(30)], data.inputs[np.arange(30)])


def test_an_npz_that_changed_since_the_run_is_said(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    source = save_npz(tmp_path / "photos.npz", images=pixels, labels=np.arange(20) % 2)
    run = record_run(tmp_path / "run", load_images(source, split=THIRDS))
    pixels[3, 0, 0] ^= 255
    save_npz(source, images=pixels, labels=np.arange(20) % 2)
    with pytest.raises(InputError, match=r"1 changed since, the first: .*photos\.npz/3"):
        load_run_data(run)
    source.unlink()
    with pytest.raises(InputError, match=r"there is no '.*photos\.npz'"):
        load_run_data(run)


def test_a_run_on_a_csv_and_on_lists_gives_its_photos_back(photos, tmp_path):
    paths = sorted(photos.glob("*/*.jpg"))
    text = io.StringIO()
    csv.writer(text).writerows([("path", "label"), *((path, path.parent.name) for path in paths)])
    (tmp_path / "data.csv").write_text(text.getvalue(), encoding="utf-8")
    for number, source in enumerate((tmp_path / "data.csv", (paths, [path.parent.name for path in paths]))):
        data = load_images(source, image_size=24, split=THIRDS)
        assert data.source == (str(source) if number == 0 else "")
        assert load_run_data(record_run(tmp_path / str(number), data)).items == data.items
