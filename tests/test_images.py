"""`load_images`: photos decoded once, upright, on white, and what cannot be read left out."""

import csv
import hashlib
import shutil
import warnings
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tfcnn.data import images
from tfcnn.data.images import load_images, load_run_data
from tfcnn.data.photo import decode_photo
from tfcnn.errors import InputError
from tfcnn.record import load_run, write_record, write_rows

THIRDS = (0.4, 0.2, 0.4)


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
    return write_record(folder, {"labels": list(data.labels), "status": "trained", "input_shape": list(data.input_shape),
                                 "data": {"source": data.source, "arguments": data.arguments}})


def forbid_decoding(monkeypatch):
    """Any decoding from here on is an error."""
    def fail(path, image_size):
        raise AssertionError(f"decoded {path}")

    monkeypatch.setattr(images, "decode_photo", fail)


def test_a_folder_becomes_a_stratified_dataset(photos):
    data = load_images(photos, image_size=24)
    assert data.labels == ("blue", "green", "red") and data.input_shape == (24, 24, 3) and data.quarantined == ()
    assert Counter((item.label, item.split) for item in data.items) == {
        (label, split): count for label in data.labels for split, count in (("train", 14), ("validation", 2), ("test", 4))}
    assert data.inputs.shape == (60, 24, 24, 3) and data.inputs.dtype == np.uint8
    assert data.source == str(photos.absolute()) and data.arguments == {"image_size": 24, "split": [0.7, 0.1, 0.2], "seed": 0}
    for row in (0, 31, 59):
        item = data.items[row]
        with Image.open(item.path) as image:
            np.testing.assert_array_equal(data.inputs[row], image.resize((24, 24), Image.Resampling.BILINEAR))
        with open(item.path, "rb") as file:
            assert item.sha256 == hashlib.sha256(file.read()).hexdigest()
        assert item.path.split("/")[-2] == item.label
    assert data.inputs[data.rows("test")].mean(axis=(1, 2)).argmax(axis=1).tolist() == [2] * 4 + [1] * 4 + [0] * 4  # blue, green, red


def test_the_seed_and_the_fractions_are_those_of_the_split(photos):
    splits = lambda **arguments: [item.split for item in load_images(photos, image_size=24, **arguments).items]
    assert splits(seed=1) == splits(seed=1) != splits(seed=2)
    assert Counter(splits(split=THIRDS)) == {"train": 24, "validation": 12, "test": 24}


@pytest.mark.parametrize("orientation, stored_from_upright", [
    (1, lambda a: a), (2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (4, lambda a: a[::-1]), (5, lambda a: a.swapaxes(0, 1)),
    (6, lambda a: np.rot90(a, 1)), (7, lambda a: a[::-1, ::-1].swapaxes(0, 1)), (8, lambda a: np.rot90(a, -1))])
def test_the_orientation_in_the_file_is_applied(tmp_path, orientation, stored_from_upright):
    upright = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored_from_upright(upright))).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode_photo(tmp_path / "a.png", 16), upright)


@pytest.mark.parametrize("orientation", [2, 5, 6, 8])
def test_real_photos_of_every_orientation_are_upright(shared, orientation):
    upright = decode_photo(shared / "ugly" / "hopper.bmp", 64).astype(int)
    turned = decode_photo(shared / "ugly" / f"hopper_orientation_{orientation}.jpg", 64)
    assert np.abs(turned - upright).mean() < 4  # what JPEG loses; a wrong turn gives more than 40
    assert np.abs(turned[:, ::-1] - upright).mean() > 30


def test_transparent_pixels_lie_on_white(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = (200, 0, 100, 255)
    pixels[4:, 4:] = (200, 0, 100, 128)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photo = decode_photo(tmp_path / "a.png", 8)
    assert photo[0, 0].tolist() == [200, 0, 100] and photo[7, 0].tolist() == [255, 255, 255]
    np.testing.assert_allclose(photo[7, 7], [200 * 128 / 255 + 127, 127, 100 * 128 / 255 + 127], atol=1)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30] * 256)
    palette.save(tmp_path / "p.png", transparency=0)
    assert (decode_photo(tmp_path / "p.png", 8) == 255).all()


@pytest.mark.parametrize("mode, colour, expected", [
    ("L", 77, (77, 77, 77)), ("1", 1, (255, 255, 255)), ("LA", (50, 255), (50, 50, 50)), ("RGB", (1, 2, 3), (1, 2, 3))])
def test_every_colour_mode_becomes_rgb(tmp_path, mode, colour, expected):
    Image.new(mode, (6, 9), colour).save(tmp_path / "a.png")
    photo = decode_photo(tmp_path / "a.png", 16)
    assert photo.shape == (16, 16, 3) and photo.dtype == np.uint8
    assert (photo == expected).all()


def test_grey_of_sixteen_bits_keeps_its_shades(tmp_path):
    grey = np.arange(256).reshape(16, 16)
    Image.fromarray((grey * 257).astype(np.uint16)).save(tmp_path / "a.png")
    photo = decode_photo(tmp_path / "a.png", 16).astype(int)
    assert np.abs(photo - grey[..., None]).max() <= 1


def test_an_animation_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (decode_photo(tmp_path / "a.gif", 8) == (255, 0, 0)).all()


def test_a_photo_is_stretched_to_the_square(tmp_path):
    wide = np.zeros((4, 32, 3), np.uint8)
    wide[:, 16:] = 255
    Image.fromarray(wide).save(tmp_path / "a.png")
    photo = decode_photo(tmp_path / "a.png", 16)
    assert (photo[:, :7] == 0).all() and (photo[:, 9:] == 255).all()


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
    assert "truncated" in reasons[str(folder / "red" / "half.jpg")] and "UnidentifiedImageError" in reasons[str(folder / "red" / "empty.jpg")]
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
    with pytest.raises(InputError, match=r"none of its 6 files can be decoded; the first: .*1\.jpg"):
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
    with pytest.raises(InputError, match="decoded"):  # another size is another store
        load_images(photos, image_size=25)


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
    assert data.items[5].sha256 == hashlib.sha256(pixels[5].tobytes()).hexdigest()


def test_integer_targets_keep_their_number():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 3), np.uint8)
    targets = np.arange(48) % 12
    data = load_images((pixels, targets), split=THIRDS)
    assert data.labels == tuple(str(number) for number in range(12))  # 10 comes after 9, not after 1
    np.testing.assert_array_equal(data.targets(np.arange(48)), targets)


@pytest.mark.parametrize("pixels, targets, expected", [
    (np.zeros((6, 8, 8), np.uint8), [0, 1] * 3, "got shape="), (np.zeros((6, 8, 8, 1), np.uint8), [0, 1] * 3, "got shape="),
    (np.ones((6, 8, 8, 3), np.float32), [0, 1] * 3, "pixels from 0 to 255"), (np.full((6, 8, 8, 3), -1), [0, 1] * 3, "pixels from 0 to 255"),
    (np.zeros((6, 8, 8, 3), np.uint8), [0, 1], "6 images and 2 targets"), (np.zeros((0, 8, 8, 3), np.uint8), [], "at least two classes")])
def test_arrays_that_are_no_photos_are_refused(pixels, targets, expected):
    with pytest.raises(InputError, match=expected):
        load_images((pixels, targets))


def test_arrays_of_one_class_are_refused():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
    with pytest.raises(InputError, match="at least two classes, found 1: 4"):
        load_images((pixels, [4] * 9))


@pytest.mark.parametrize("image_size", [7, 0, -224, 2049, 224.0, "224", True, None])
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
    assert again.source == data.source and again.arguments == data.arguments
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
    with pytest.raises(InputError, match=r"the 15 photos .* 2 are missing, the first: .*green/02\.jpg"):
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
        np.testing.assert_array_equal(data.inputs[345], image.resize((16, 16), Image.Resampling.BILINEAR))


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
