"""The audit: what is planted among real photos is found, what is fine is not, and no file is touched."""

import base64
import csv
import io
import json
import shutil
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from conftest import Page, make_photos
from PIL import Image, ImageOps

import tfcnn
from tfcnn.data.audit import audit
from tfcnn.errors import InputError

CLASSES = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
NOTED = {"iss634.gif": ["animated"], "pil_sample_cmyk.jpg": ["cmyk"], "apng_mode_16bit.png": ["animated", "16_bit", "alpha", "blank"],
         "l_trns.png": ["alpha"], "Portrait_6.jpg": ["exif_rotated"], "Landscape_3.jpg": ["exif_rotated"], "png_named.jpg": ["wrong_extension"],
         "no_palette.gif": ["animated", "extreme_size", "blank"]}  # the last has one pixel
BROKEN = {"zero_bytes.jpg": "empty", "text_named.jpg": "not an image", "truncated_half.jpg": "truncated", "bmp_b_shortfile.bmp": "truncated",
          "decompression_bomb.gif": "decompression bomb", "broken_data_stream.png": "unreadable"}


def copy_waste(shared, folder, count=20):
    """Some photos of each class of waste; gives the sorted files of each class."""
    files = {}
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        files[label] = [Path(shutil.copy(file, folder / label)) for file in sorted((shared / "trashnet600" / label).glob("*.jpg"))[:count]]
    return files


def encode(file, copy, *, scale=1.0, **options):
    """The same photo at another size, quality or format."""
    with Image.open(file) as image:
        image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS).save(copy, **options)
    return copy


def snapshot(folder):
    """Content and time of the last change of everything in a folder."""
    return {path: (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def untouched(shared, tmp_path_factory):
    """120 photos of waste, 20 a class."""
    folder = tmp_path_factory.mktemp("untouched") / "waste"
    copy_waste(shared, folder)
    return folder


@pytest.fixture(scope="module")
def planted(shared, tmp_path_factory):
    """(folder, its snapshot before the audit, result, output): 120 photos of waste among which everything that is looked for was hidden."""
    folder = tmp_path_factory.mktemp("planted") / "waste"
    files = copy_waste(shared, folder)
    for name in ("copy.jpg", "deep/copy again.jpg"):  # three equal files
        (folder / "glass" / name).parent.mkdir(exist_ok=True)
        shutil.copy(files["glass"][0], folder / "glass" / name)
    encode(files["metal"][0], folder / "metal" / "half.webp", scale=0.5, quality=60)
    encode(files["metal"][1], folder / "metal" / "large.jpg", scale=1.5, quality=40)
    with Image.open(files["paper"][0]) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(folder / "paper" / "turned.png")
    shutil.copy(files["paper"][1], folder / "plastic" / "wrong.jpg")  # under two labels: equal,
    encode(files["cardboard"][0], folder / "trash" / "wrong.jpg", scale=0.7, quality=50)  # re-encoded,
    with Image.open(files["cardboard"][1]) as image:
        ImageOps.mirror(image).save(folder / "trash" / "mirrored.jpg", quality=90)  # and mirrored
    for name in (*NOTED, *BROKEN):
        shutil.copy(shared / "ugly" / name, folder / "trash" / name)
    Image.new("RGB", (64, 48), (90, 120, 60)).save(folder / "trash" / "green.png")
    (folder / "Glass").mkdir()
    for file in sorted((shared / "trashnet600" / "glass").glob("*.jpg"))[20:23]:
        shutil.copy(file, folder / "Glass")
    before, output = snapshot(folder), tmp_path_factory.mktemp("audit") / "made" / "here"
    return folder, before, audit(folder, output=output, image_size=64), output


def below(folder, found):
    """What each finding is about: its kind and its files below the folder."""
    return {(same.kind, same.turned, *(Path(path).relative_to(folder).as_posix() for path in same.paths)) for same in found}


def sentence(texts, word) -> str:
    """The one sentence that has a word."""
    (found,) = [text for text in texts if word in text]
    assert "\n" not in found
    return found


def test_nothing_is_found_among_untouched_photos(untouched, tmp_path):
    result = audit(untouched, output=tmp_path / "audit", image_size=64, difference=0.2)
    assert (result.source, result.n, result.counts) == (str(untouched), 120, dict.fromkeys(CLASSES, 20))
    assert result.problems == result.warnings == result.duplicates == result.contradictions == result.leaks == result.quarantined == ()
    assert result.notes == {} and result.split_counts == {}
    assert str(result).endswith("\nnothing to object to") and "120 files, 120 readable photos in 6 classes" in str(result)
    assert "nothing to object to" in (tmp_path / "audit" / "audit.html").read_text()


def test_no_file_is_changed_added_or_removed(planted):
    folder, before, _, output = planted
    assert snapshot(folder) == before
    assert sorted(path.name for path in output.iterdir()) == ["audit.html", "audit.json"]


def test_every_file_is_counted(planted, shared):
    _, before, result, _ = planted
    files = [path for path in before if path.is_file()]
    assert result.n == len(result.files) == len(files) == 120 + 8 + len(NOTED) + len(BROKEN) + 1 + 3
    assert result.counts == {"Glass": 3, "cardboard": 20, "glass": 22, "metal": 22, "paper": 21, "plastic": 21, "trash": 20 + 2 + len(NOTED) + 1}
    assert {file["path"] for file in result.files} == set(map(str, files))
    for file in result.files:
        assert file["bytes"] == len(before[Path(file["path"])][0]) and file["split"] == ""
        assert bool(file["sha256"]) != bool(file["reason"])
    (photo,) = [file for file in result.files if file["path"].endswith("Portrait_6.jpg")]
    assert (photo["format"], photo["width"], photo["height"], photo["notes"]) == ("JPEG", 1200, 1800, ["exif_rotated"])  # upright


def test_copies_under_one_label_are_warnings(planted):
    folder, _, result, _ = planted
    glass, metal, paper = (sorted(path.name for path in (folder / label).glob(f"{label}*.jpg")) for label in ("glass", "metal", "paper"))
    assert below(folder, result.duplicates) == {
        ("exact", False, "glass/copy.jpg", "glass/deep/copy again.jpg", f"glass/{glass[0]}"),
        ("near", False, "metal/half.webp", f"metal/{metal[0]}"), ("near", False, "metal/large.jpg", f"metal/{metal[1]}"),
        ("near", True, f"paper/{paper[0]}", "paper/turned.png")}
    assert all(set(same.labels) == {Path(same.paths[0]).relative_to(folder).parts[0]} for same in result.duplicates)
    assert sentence(result.warnings, "equal files").startswith("1 group of equal files under the same label, for instance glass/copy.jpg")
    assert sentence(result.warnings, "near copies").startswith("3 pairs of near copies under the same label, for instance ")


def test_a_photo_under_two_labels_is_a_problem_unless_it_is_mirrored(planted):
    folder, _, result, _ = planted
    cardboard, paper = (sorted(path.name for path in (folder / label).glob(f"{label}*.jpg")) for label in ("cardboard", "paper"))
    assert below(folder, result.contradictions) == {
        ("exact", False, f"paper/{paper[1]}", "plastic/wrong.jpg"), ("near", False, f"cardboard/{cardboard[0]}", "trash/wrong.jpg"),
        ("near", True, f"cardboard/{cardboard[1]}", "trash/mirrored.jpg")}
    assert {same.labels for same in result.contradictions} == {("paper", "plastic"), ("cardboard", "trash")}
    assert len(result.problems) == 1
    text = sentence(result.problems, "under several labels")
    assert text.startswith("2 photos") and f"paper/{paper[1]} (paper) and plastic/wrong.jpg (plastic)" in text
    text = sentence(result.warnings, "turned or mirrored under another label")
    assert text.startswith("1 photo") and f"cardboard/{cardboard[1]} (cardboard) and trash/mirrored.jpg (trash)" in text


def test_files_that_are_no_photos_are_named_with_the_reason(planted):
    folder, _, result, _ = planted
    kinds = {Path(q.path).name: q.reason.split(":")[0] for q in result.quarantined}
    assert {name: kind for name, kind in kinds.items() if kind != "contradiction"} == BROKEN
    assert {Path(q.path).parent for q in result.quarantined if not q.reason.startswith("contradiction")} == {folder / "trash"}
    assert [name for name, kind in kinds.items() if kind == "contradiction"][-1] == "wrong.jpg" and len(kinds) == 8
    text = sentence(result.warnings, "left out")
    assert text.startswith("8 files will be left out: ") and "2 contradiction" in text
    assert all(kind in text for kind in ("2 truncated", "1 empty", "1 not an image", "1 decompression bomb", "1 unreadable"))


def test_unusual_photos_are_noted_and_those_worth_a_look_are_warnings(planted):
    _, _, result, _ = planted
    noted = {}
    for name, paths in result.notes.items():
        for path in paths:
            noted.setdefault(Path(path).name, []).append(name)
    assert noted.pop("green.png") == ["blank"]
    assert {name: sorted(notes) for name, notes in noted.items()} == {name: sorted(notes) for name, notes in NOTED.items()}
    assert sentence(result.warnings, "another format").startswith("1 photo whose name") and "trash/png_named.jpg" in sentence(result.warnings, "another format")
    assert "trash/no_palette.gif" in sentence(result.warnings, "extreme size")
    assert sentence(result.warnings, "of one colour").startswith("3 photos")
    assert not [text for text in result.warnings if "cmyk" in text or "exif" in text or "alpha" in text]
    assert "fine     3 animated, 1 cmyk, 1 16 bit, 2 alpha, 2 exif rotated: read as they should be" in str(result)


def test_labels_in_two_spellings_and_classes_of_unequal_size_are_warnings(planted):
    _, _, result, _ = planted
    assert sentence(result.warnings, "upper and lower case").endswith(": Glass, glass")
    assert "10.3 times as many photos as the smallest; see --balance" in sentence(result.warnings, "largest class")  # 31 / 3


def test_what_is_said_is_what_is_stored(planted):
    _, _, result, output = planted
    stored = json.loads((output / "audit.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(result.to_dict()))
    assert stored == result.to_dict()  # "plain dicts, lists and numbers, as stored"
    assert set(stored) == {"source", "n", "counts", "split_counts", "quarantined", "duplicates", "contradictions", "leaks", "notes", "test", "problems",
                           "warnings", "files", "kind"}
    assert set(stored["quarantined"][0]) == {"path", "reason"} and set(stored["duplicates"][0]) == {"kind", "turned", "paths", "labels", "splits"}
    text = str(result)
    assert text.count("PROBLEM  ") == len(stored["problems"]) == 1 and text.count("\nwarning  ") == len(stored["warnings"]) == 10


def test_the_page_shows_the_findings_and_needs_nothing_from_elsewhere(planted):
    _, _, result, output = planted
    text = (output / "audit.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "a", "object"}
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert all(picture["src"].startswith("data:image/jpeg;base64,") and "srcset" not in picture for picture in pictures)
    for picture in pictures[:5]:
        assert Image.open(io.BytesIO(base64.b64decode(picture["src"].split(",")[1]))).size == (112, 112)
    shown = [picture["title"] for picture in pictures]
    for finding in (*result.duplicates, *result.contradictions):
        assert set(finding.paths) <= set(shown)
    noted = sum(len(paths) for paths in result.notes.values())
    sheets = 6 * 8 + 3  # eight of each class, all three of Glass
    assert len(shown) == noted + sheets + sum(len(same.paths) for same in (*result.duplicates, *result.contradictions))
    left_out = [text for q in result.quarantined for text in (str(Path(q.path).relative_to(result.source)), q.reason)]
    for said in (*result.problems, *result.warnings, *left_out):
        assert " ".join(said.split()) in " ".join(page.text.split())
    assert "The same photo under several labels: 3" in page.text and "The same photo in several splits" not in page.text


def test_a_picture_of_the_page_is_the_photo_as_the_model_gets_it(planted):
    """Of a photo that lies on its side in the file: upright, and a square."""
    folder, _, _, output = planted
    pictures = [attributes for tag, attributes in Page((output / "audit.html").read_text(encoding="utf-8")).tags if tag == "img"]
    (source,) = {picture["src"] for picture in pictures if picture["title"].endswith("/Portrait_6.jpg")}
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))), np.float32)
    with Image.open(folder / "trash" / "Portrait_6.jpg") as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB").resize((112, 112)), np.float32)
    assert np.corrcoef(shown.ravel(), upright.ravel())[0, 1] > 0.97
    assert np.corrcoef(shown.ravel(), upright[::-1].ravel())[0, 1] < 0.9


def test_text_of_the_user_is_text_on_the_page(tmp_path):
    files = sorted(make_photos(tmp_path / "photos", count=3, side=16).glob("*/*.jpg"))
    labels = ["<script>alert(1)</script>", "a & b", '"c"'] * 3
    audit(([str(file) for file in files], labels), output=tmp_path / "audit", image_size=16)
    page = Page((tmp_path / "audit" / "audit.html").read_text())
    assert "script" not in {tag for tag, _ in page.tags}
    assert all(label in page.text for label in labels)


def test_photos_in_several_splits_are_a_problem(shared, tmp_path):
    files = copy_waste(shared, tmp_path / "all", count=10)
    for label in ("glass", "paper"):
        for split, rows in (("train", slice(0, 6)), ("val", slice(6, 8)), ("test", slice(8, 10))):
            (tmp_path / "split" / split / label).mkdir(parents=True)
            for file in files[label][rows]:
                shutil.copy(file, tmp_path / "split" / split / label)
    folder = tmp_path / "split"
    assert audit(folder, image_size=64, difference=0.5).problems == ()
    shutil.copy(files["glass"][0], folder / "test" / "glass" / "again.jpg")
    encode(files["paper"][1], folder / "val" / "paper" / "small.png", scale=0.4)
    shutil.copy(files["paper"][2], folder / "train" / "paper" / "twice.jpg")  # no leak: both to train
    result = audit(folder, image_size=64, difference=0.5)
    assert below(folder, result.leaks) == {("exact", False, "test/glass/again.jpg", f"train/glass/{files['glass'][0].name}"),
                                           ("near", False, f"train/paper/{files['paper'][1].name}", "val/paper/small.png")}
    assert {same.splits for same in result.leaks} == {("test", "train"), ("train", "validation")}
    assert result.split_counts == {"train": 13, "validation": 5, "test": 5} and result.test["n"] == 5
    (problem,) = result.problems
    assert problem.startswith("2 photos in several splits") and "again.jpg" in problem
    assert len(result.duplicates) == 3 and result.contradictions == ()


def test_a_csv_with_splits_is_audited_and_needs_no_three_photos_a_class(tmp_path):
    photos = make_photos(tmp_path / "photos", count=4, side=24)
    with open(tmp_path / "photos.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split", "patient"])
        for label in ("blue", "green", "red"):
            for number, split in enumerate(("train", "train", "val", "test")):
                rows.writerow([f"photos/{label}/{number:02d}.jpg", label, split, number])
        rows.writerow(["photos/red/00.jpg", "red", "train", 0])  # the same file once more
        shutil.copy(photos / "red" / "00.jpg", photos / "red" / "leak.jpg")
        rows.writerow(["photos/red/leak.jpg", "red", "test", 0])
        shutil.copy(photos / "red" / "01.jpg", photos / "red" / "other.jpg")
        rows.writerow(["photos/red/other.jpg", "Red", "train", 0])
    result = audit(tmp_path / "photos.csv", image_size=24, difference=0.5, group_by="patient")
    assert result.n == 14 and result.split_counts == {"train": 7, "validation": 3, "test": 4} and result.test["n"] == 4
    assert below(tmp_path, result.leaks) == {("exact", False, "photos/red/00.jpg", "photos/red/leak.jpg"),
                                             ("group", False, "photos/blue/00.jpg", "photos/red/leak.jpg")}  # patient 0 is in train and test
    assert below(tmp_path, result.contradictions) == {("exact", False, "photos/red/01.jpg", "photos/red/other.jpg")}
    assert len(result.problems) == 3 and not [text for text in result.problems if "too small" in text]
    with pytest.raises(InputError, match="column 'hospital'"):
        audit(tmp_path / "photos.csv", group_by="hospital")


def test_arrays_are_audited_like_files(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), np.uint8)
    images[4], images[7], images[9] = images[1], images[2], 77
    result = audit((images, np.arange(30) % 3), output=tmp_path / "audit", image_size=32, difference=0.5)
    assert result.source == "" and result.counts == {"0": 10, "1": 10, "2": 10}
    assert [same.paths for same in result.duplicates] == [("array/1", "array/4")]
    assert [(same.paths, same.labels) for same in result.contradictions] == [(("array/2", "array/7"), ("2", "1"))]
    assert result.notes == {"blank": ("array/9",)}
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["files"][0]["format"] == "array"
    assert "Audit of arrays in memory" in Page((tmp_path / "audit" / "audit.html").read_text()).text


@pytest.mark.parametrize("levels, is_blank", [(0, True), (6, True), (8, True), (9, False), (40, False)])
def test_a_photo_is_blank_when_its_thumbnail_has_few_levels(levels, is_blank):
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    images[0] = 100
    images[0, :, 16:, 1] += levels  # one channel, half of the picture
    result = audit((images, [0, 1] * 3), image_size=32, difference=0.5)
    assert result.notes == ({"blank": ("array/0",)} if is_blank else {})


@pytest.mark.parametrize("n, split, difference", [(120, (0.7, 0.1, 0.2), 0.05), (120, (0.5, 0.25, 0.25), 0.1), (120, (0.7, 0.1, 0.2), 0.17)])
def test_the_size_of_the_test_split_is_judged_by_the_normal_interval(untouched, n, split, difference):
    z = NormalDist().inv_cdf(0.975)
    tested = round(n * split[2])
    result = audit(untouched, image_size=64, split=split, difference=difference)
    assert result.test["n"] == tested and result.test["difference"] == difference
    assert result.test["half_width"] == pytest.approx(z * (0.8 * 0.2 / tested) ** 0.5, abs=1e-4)
    assert result.test["n_needed"] == -(-z**2 * 0.8 * 0.2 // difference**2)
    warned = [text for text in result.warnings if "test photos" in text]
    assert len(warned) == (result.test["half_width"] > difference)
    if difference == 0.05:
        assert warned == ["24 test photos tell an accuracy of 0.8 within ±16.0 points; to see 5 points, 246 are needed"]


def test_classes_too_small_to_split_are_a_problem(tmp_path):
    folder = make_photos(tmp_path / "photos", count=4, side=24)
    for name in ("02.jpg", "03.jpg"):
        shutil.copy(folder / "red" / "00.jpg", folder / "red" / name)  # four files, two photos
    (folder / "green" / "00.jpg").write_bytes(b"")
    result = audit(folder, image_size=24, difference=0.5)
    (problem,) = result.problems
    assert problem == "classes too small to split (3 different photos are needed): red 2"
    assert result.counts == {"blue": 4, "green": 3, "red": 4}
    with pytest.raises(InputError, match="found 2 in 'red'"):  # as the training will say
        tfcnn.load_images(folder, image_size=24)


def test_a_class_of_no_readable_photo_and_a_source_of_one_class_are_problems(tmp_path):
    folder = make_photos(tmp_path / "photos", count=3, side=24)
    for file in (folder / "red").iterdir():
        file.write_bytes(b"text")
    assert audit(folder, image_size=24, difference=0.5).problems == ("classes too small to split (3 different photos are needed): red 0",)
    files = [str(file) for file in sorted((folder / "blue").iterdir())]
    assert audit((files, ["blue"] * 3), image_size=24, difference=0.5).problems == ("only 1 class; at least two are needed",)


def test_a_folder_without_any_photo_is_still_audited(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "notes.txt").write_text("x")
    result = audit(tmp_path / "photos", output=tmp_path / "audit")
    assert result.counts == {"a": 0, "b": 0} and len(result.quarantined) == 2
    assert sentence(result.problems, "too small").endswith(": a 0, b 0")
    assert "Left out: 2" in Page((tmp_path / "audit" / "audit.html").read_text()).text


def test_many_findings_are_counted_and_the_first_shown(tmp_path):
    folder = make_photos(tmp_path / "photos", classes=("blue", "red"), count=30, side=40)
    for file in list((folder / "red").iterdir()):
        shutil.copy(file, file.with_name(f"copy of {file.name}"))
    result = audit(folder, output=tmp_path / "audit", image_size=40, difference=0.5)
    assert len(result.duplicates) == 30
    page = Page((tmp_path / "audit" / "audit.html").read_text())
    assert "under one label: 30" in page.text and "The first 24 are shown." in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 24 * 2 + 2 * 8  # the findings, and a look at each class


def test_an_output_inside_the_photos_is_refused_before_anything_is_written(untouched):
    before = snapshot(untouched)
    for output in (untouched / "audit", untouched, untouched / "glass" / ".." / "deep" / "er"):
        with pytest.raises(InputError, match="outside of the photos"):
            audit(untouched, output=output)
    assert snapshot(untouched) == before


@pytest.mark.parametrize("arguments, words", [
    ({"difference": 0}, "difference=0"), ({"difference": 0.6}, r"difference=0\.6"), ({"difference": float("nan")}, "difference=nan"),
    ({"split": (0.7, 0.1, 0.1)}, "add up to 1"), ({"image_size": 4}, "image_size=4"), ({"geometry": "strech"}, "did you mean 'stretch'"),
    ({"group_by": "patient"}, "group_by='patient'"), ({"data_dir": "/data"}, "data_dir='/data'")])
def test_arguments_that_cannot_be_used_are_refused(untouched, arguments, words):
    with pytest.raises(InputError, match=words) as caught:
        audit(untouched, **arguments)
    assert "\n" not in str(caught.value)


def test_an_output_that_cannot_be_written_is_refused_before_the_photos_are_decoded(untouched, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("tfcnn.data.audit.read_photos", lambda *arguments, **options: pytest.fail("photos were decoded"))
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises((InputError, OSError)):
            audit(untouched, output=output)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_training_finds_what_the_audit_decoded(untouched, monkeypatch):
    audit(untouched, image_size=40, geometry="center_crop")
    monkeypatch.setattr("tfcnn.data.read.decode_photo", lambda *arguments: pytest.fail("a photo was decoded again"))
    data = tfcnn.load_images(untouched, image_size=40, geometry="center_crop")
    assert len(data.items) == 120 and data.quarantined == ()


def test_every_flag_of_the_command_is_taken_by_some_kind_and_others_are_one_line(photos):
    from tfcnn.parser import OF_AN_AUDIT

    for name in OF_AN_AUDIT:
        if name not in ("kind", "split", "group_by", "data_dir", "geometry"):
            with pytest.raises(tfcnn.InputError, match=f"expected no {name} for photos, got {name}=1; leave it out"):
                tfcnn.audit(photos, **{name: 1})
    with pytest.raises(tfcnn.InputError, match="expected no colour for photos"):
        tfcnn.audit(photos, colour="red")
