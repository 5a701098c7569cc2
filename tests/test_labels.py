"""Suspicious labels: wrong ones that were planted come first, what is said of them is right, and nothing else is touched."""

import base64
import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Page, make_photos
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tfcnn
from tfcnn import labels as module
from tfcnn.data.dataset import Dataset, Item
from tfcnn.data.sources import open_source
from tfcnn.errors import InputError, WorkError
from tfcnn.evaluation.labels import PhotoRow, judge_labels, rank_labels, write_labels
from tfcnn.labels import LOGISTIC_C, LabelCheck, _check_output, check_labels
from tfcnn.training.config import TrainingConfig

COLUMNS = ["rank", "path", "label", "suggested", "quality", "suggested_score", "is_issue", "outlier"]
MOVED = {"red/03": "blue", "blue/07": "green", "green/11": "red", "red/15": "green"}  # photo: the folder of the class that it is put into


def scores_for(likely, classes, score=0.8):
    """Scores that give each photo its likely target, a little different for each photo."""
    likely = np.asarray(likely)
    own = score + np.arange(len(likely)) * 1e-4
    scores = np.repeat(((1 - own) / (classes - 1))[:, None], classes, axis=1)
    scores[np.arange(len(likely)), likely] = own
    return scores


def features_for(targets, seed=0):
    return np.random.default_rng(seed).normal(size=(len(targets), 8)) + 5 * np.eye(8)[np.asarray(targets)]


def dataset(targets, labels=("a", "b", "c"), side=16, seed=0, name="array/{}"):
    """Noise as photos, with these targets."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(targets), side, side, 3)).astype(np.uint8)
    items = tuple(Item(name.format(row), labels[target], "train", f"{row:064x}") for row, target in enumerate(targets))
    return Dataset(inputs=pixels, items=items, labels=tuple(labels), input_shape=(side, side, 3))


def judged(count=150, wrong=(4, 53, 111), side=16, **options):
    """The check of noise under three labels, of which some are wrong."""
    true = np.arange(count) % 3
    given = true.copy()
    given[list(wrong)] = (given[list(wrong)] + 1) % 3
    return judge_labels(dataset(given, side=side, **options), scores_for(true, 3), features_for(true))


def snapshot(folder):
    return {path: (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns) for path in sorted(Path(folder).rglob("*"))}


# The ranking.


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_planted_wrong_labels_are_the_first_and_no_other_is_called_wrong(classes):
    true = np.arange(60) % classes
    given, wrong = true.copy(), [41, 37, 53, 58]
    given[wrong] = (given[wrong] + 1) % classes
    ranking = rank_labels(scores_for(true, classes), given, features_for(true))
    assert set(ranking.order[:4]) == set(wrong) and sorted(ranking.order) == list(range(60))
    assert np.flatnonzero(ranking.is_issue).tolist() == sorted(wrong)
    np.testing.assert_array_equal(ranking.suggested, true)
    assert ranking.order[:4].tolist() == [58, 53, 41, 37]  # by the score of the given label: the surer the other one, the lower


def test_the_number_of_wrong_labels_is_that_of_the_confident_joint():
    """Thresholds, the mean score of a label over its photos: 0.5875 and 0.7."""
    of_second = np.array([0.1, 0.1, 0.9, 0.55, 0.9, 0.9, 0.3])
    ranking = rank_labels(np.stack([1 - of_second, of_second], axis=1), np.array([0, 0, 0, 0, 1, 1, 1]), features_for([0] * 7))
    assert ranking.is_issue.tolist() == [False, False, True, False, False, False, True]  # 0.55 is more than 0.45, but below 0.7
    assert ranking.order[:3].tolist() == [2, 6, 3] and ranking.suggested.tolist() == [0, 0, 1, 1, 1, 1, 0]
    np.testing.assert_allclose(ranking.quality, [0.9, 0.9, 0.1, 0.45, 0.9, 0.9, 0.3], atol=1e-12)


def test_photos_that_look_most_like_their_own_label_come_last_however_unsure():
    scores = np.array([[0.36, 0.34, 0.30], [0.45, 0.55, 0.0], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
    ranking = rank_labels(scores, np.array([0, 0, 1, 2, 0]), features_for([0, 0, 1, 2, 0]))
    assert ranking.order.tolist()[:2] == [1, 0]  # 0.45 before 0.36


def test_equal_scores_speak_for_the_given_label():
    ranking = rank_labels(np.full((6, 3), 1 / 3), np.array([0, 1, 2] * 2), np.ones((6, 4)))
    assert ranking.suggested.tolist() == [0, 1, 2] * 2 and not ranking.is_issue.any()
    assert ranking.order.tolist() == list(range(6))
    np.testing.assert_array_equal(ranking.outlier, 0)  # all photos alike


def test_scores_that_do_not_quite_add_up_are_taken():
    scores = np.float32([[1.000001, 0], [0, 1.000001], [1, 0], [0, 1]])
    ranking = rank_labels(scores, np.array([0, 1, 0, 1]), features_for([0, 1, 0, 1]))
    np.testing.assert_array_equal(ranking.quality, 1)


@pytest.mark.parametrize(("counts", "neighbours"), [((50, 40), 30), ((12, 5), 4), ((9, 2), 1), ((5, 1), 1)])
def test_outliers_are_far_from_as_many_neighbours_as_the_smallest_class_has(counts, neighbours):
    targets = np.repeat([0, 1], counts)
    features = np.random.default_rng(1).normal(size=(len(targets), 6)) + 2
    features[3] *= [1, -1, 1, -1, 1, -1]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distances = np.sort(1 - unit @ unit.T, axis=1)[:, 1:neighbours + 1].mean(axis=1)
    ranking = rank_labels(scores_for(targets, 2), targets, features)
    np.testing.assert_allclose(ranking.outlier, 1 - np.exp(-distances / np.median(distances)), atol=1e-6)
    assert ranking.outlier.argmax() == 3


# What is said, and written.


def test_a_check_says_what_was_found():
    check = judged()
    assert [photo.path for photo in check.issues] == ["array/111", "array/53", "array/4"]
    assert check.issues == check.suspects == check.photos[:3] and check.photos[0][:4] == (1, "array/111", "b", "a")
    assert check.photos[0].quality == pytest.approx((1 - 0.8111) / 2, abs=1e-6) and check.photos[0].suggested_score == pytest.approx(0.8111, abs=1e-6)
    assert check.pairs == (("a", "c", 1), ("b", "a", 1), ("c", "b", 1))
    assert check.agreement == 147 / 150 and not check.doubt
    assert [photo.rank for photo in check.photos] == list(range(1, 151)) and len(check.outliers) == 30
    outlying = [photo.outlier for photo in check.photos]
    assert [photo.outlier for photo in check.outliers] == sorted(outlying, reverse=True)[:30]
    lines = str(check).splitlines()
    assert lines[0] == "3 labels may be wrong among 150 photos in 3 classes; 98.0 % of the photos get their own label from heads that did not see them"
    assert [line.split() for line in lines[2:5]] == [["!", "b", "0.09", "a", "0.81", "array/111"], ["!", "a", "0.10", "c", "0.81", "array/53"],
                                                     ["!", "c", "0.10", "b", "0.80", "array/4"]]
    assert lines[5] == "most often: a that looks like c 1, b that looks like a 1, c that looks like b 1" and len(lines) == 6


def test_a_check_is_plain_values():
    told = judged().to_dict()
    assert told == json.loads(json.dumps(told))
    assert (told["n"], told["issues"], told["agreement"], told["labels"]) == (150, 3, 147 / 150, ["a", "b", "c"])
    assert told["pairs"][0] == {"label": "a", "suggested": "c", "photos": 1}
    assert list(told["photos"][0]) == COLUMNS and len(told["photos"]) == 150 and told["photos"][0]["path"] == "array/111"


def test_many_issues_are_counted_and_the_first_ten_shown():
    check = judged(wrong=range(0, 120, 8))
    assert len(check.issues) == 15
    lines = str(check).splitlines()
    assert sum(line.startswith("! ") for line in lines) == 10 and "  ... and 5 more that may be wrong" in lines
    assert check._repr_html_().count("<figure") == 10


def test_nothing_is_said_against_right_labels():
    check = judged(wrong=())
    assert check.issues == check.suspects == check.pairs == ()
    assert str(check) == "no label may be wrong among 150 photos in 3 classes; 100.0 % of the photos get their own label from heads that did not see them"


def test_heads_that_know_nothing_are_doubted(tmp_path):
    targets = np.arange(12) % 3
    check = judge_labels(dataset(targets), scores_for((targets + np.array([0, 1, 1] * 4)) % 3, 3), np.ones((12, 4)))
    assert check.agreement == 1 / 3 and "no better than the commonest label, which is right for 33.3 % of the photos" in check.doubt
    assert check.doubt in str(check) and check.doubt in check._repr_html_()
    assert check.doubt[1:] in Page(write_labels(tmp_path, check).read_text()).text


def test_the_csv_has_every_photo_and_is_a_source(photos, tmp_path):
    opened = open_source(photos)
    names = ("blue", "green", "red")
    targets = [names.index(example.label) for example in opened.examples]
    data = dataset(targets, names)
    data = tfcnn.Dataset(data.inputs, tuple(item._replace(path=example.path) for item, example in zip(data.items, opened.examples, strict=True)), names,
                         (16, 16, 3), source=str(photos))
    check = judge_labels(data, scores_for(np.roll(targets, 1), 3), features_for(targets))
    write_labels(tmp_path / "made" / "here", check)
    with open(tmp_path / "made" / "here" / "labels.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS and len(rows) == 60
    typed = [PhotoRow(int(r["rank"]), r["path"], r["label"], r["suggested"], float(r["quality"]), float(r["suggested_score"]), r["is_issue"] == "True",
                      float(r["outlier"])) for r in rows]
    assert tuple(typed) == check.photos and len(check.issues) == 3
    again = open_source(tmp_path / "made" / "here" / "labels.csv")
    assert {(e.path, e.label) for e in again.examples} == {(e.path, e.label) for e in opened.examples}
    assert str(check).splitlines()[2].endswith(" red/00.jpg")  # below the source, which the reader knows


def test_the_page_shows_the_first_photos_and_needs_nothing_from_elsewhere(tmp_path):
    check = judged(count=450, wrong=range(0, 450, 4), side=200)  # noise is what JPEG makes largest
    text = write_labels(tmp_path, check).read_text(encoding="utf-8")
    assert len(text.encode()) < 3e6
    page = Page(text)
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "a", "object"}
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags and "prefers-color-scheme: dark" in text
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [picture["title"] for picture in pictures] == [photo.path for photo in (*check.photos[:100], *check.outliers)] and len(pictures) == 130
    first = check.photos[0]
    assert pictures[0]["alt"] == f"{Path(first.path).name}: labelled {first.label}, looks like {first.suggested}" and first.is_issue
    assert sum(tag == "figure" and attributes.get("class") == "issue" for tag, attributes in page.tags) == sum(p.is_issue for p in check.photos[:100])
    shown = Image.open(io.BytesIO(base64.b64decode(pictures[0]["src"].removeprefix("data:image/jpeg;base64,"))))
    assert shown.size == (144, 144)
    assert " ".join(check.verdict[1:].split()) in " ".join(page.text.split())
    assert "b that looks like a" in page.text and "correct its column" not in page.text  # of arrays no CSV is a source


def test_a_picture_is_that_of_its_photo(tmp_path):
    data = dataset(np.arange(12) % 3)
    data.inputs[:] = np.arange(12)[:, None, None, None] * 20
    check = judge_labels(data, scores_for((np.arange(12) + (np.arange(12) == 5)) % 3, 3), features_for(np.arange(12) % 3))
    assert [photo.path for photo in check.issues] == ["array/5"] and set(check.pictures) == {item.path for item in data.items}
    for path, picture in check.pictures.items():
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))))
        assert abs(float(pixels.mean()) - 20 * int(path.split("/")[1])) < 2


def test_text_of_the_user_is_text_on_the_page_and_in_a_notebook(tmp_path):
    labels = ("<script>alert(1)</script>", "a & b", '"c"')
    true = np.arange(30) % 3
    given = np.where(np.arange(30) % 10 == 0, (true + 1) % 3, true)
    check = judge_labels(dataset(given, labels, name="<b>{}"), scores_for(true, 3), features_for(true))
    for text in (write_labels(tmp_path, check).read_text(), check._repr_html_()):
        page = Page(text)
        assert "script" not in {tag for tag, _ in page.tags}
        assert all(label in page.text for label in labels)


def test_an_interrupted_write_leaves_what_was_there(tmp_path, monkeypatch):
    write_labels(tmp_path, judged())
    before = snapshot(tmp_path)
    assert [path.name for path in before] == ["labels.csv", "labels.html"]

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("tfcnn.files.publish", fail)
    with pytest.raises(OSError, match="disk full"):
        write_labels(tmp_path, judged(wrong=(1,)))
    assert snapshot(tmp_path) == before
    with pytest.raises(OSError, match="disk full"):
        write_labels(tmp_path / "new", judged())
    assert list((tmp_path / "new").iterdir()) == []


# From a source to the check.


@pytest.fixture(scope="module")
def mixed_up(tmp_path_factory):
    """60 made photos, 4 of them in the folder of another class."""
    folder = make_photos(tmp_path_factory.mktemp("labels") / "photos")
    for photo, other in MOVED.items():
        shutil.move(folder / f"{photo}.jpg", folder / other / f"was_{photo.replace('/', '_')}.jpg")
    return folder


def planted_paths(folder):
    return {str(path) for path in folder.glob("*/was_*")}


def test_wrong_labels_among_photos_are_found(mixed_up, tiny_vit, tmp_path):
    before = snapshot(mixed_up)
    check = check_labels(mixed_up, backbone=tiny_vit, weights="none", output=tmp_path / "check")
    assert {photo.path for photo in check.photos[:4]} == planted_paths(mixed_up) and {photo.path for photo in check.issues} <= planted_paths(mixed_up)
    assert len(check.photos) == 60 and check.agreement == 56 / 60 and check.labels == ("blue", "green", "red") and check.source == str(mixed_up)
    assert {Path(photo.path).stem: photo.suggested for photo in check.photos[:4]} == {
        "was_red_03": "red", "was_blue_07": "blue", "was_green_11": "green", "was_red_15": "red"}
    assert check.arguments == {"backbone": tiny_vit, "weights": "none", "image_size": 32, "folds": 5, "repeats": 5, "seed": 0, "geometry": "stretch",
                               "group_by": None, "data_dir": None}
    assert snapshot(mixed_up) == before
    assert sorted(path.name for path in (tmp_path / "check").iterdir()) == ["labels.csv", "labels.html"]
    assert check.suspects[0].path in (tmp_path / "check" / "labels.html").read_text()
    assert "correct its column" in Page((tmp_path / "check" / "labels.html").read_text()).text


def test_the_same_seed_gives_the_same_check_and_features_are_computed_once(mixed_up, tiny_vit, monkeypatch):
    arguments = {"backbone": tiny_vit, "weights": "none", "repeats": 2}
    first = check_labels(mixed_up, **arguments)
    with monkeypatch.context() as patch:
        patch.setattr("tfcnn.training.features.forward", lambda *_, **__: pytest.fail("features were computed again"))
        again = check_labels(mixed_up, **arguments)
    assert again.to_dict() == first.to_dict() and again.pictures == first.pictures
    other = check_labels(mixed_up, **arguments, seed=1)
    assert [photo.quality for photo in other.photos] != [photo.quality for photo in first.photos]


def test_scores_are_those_of_a_regression_that_did_not_see_the_photo():
    rng = np.random.default_rng(0)
    targets = np.arange(60) % 3
    features = (rng.normal(size=(3, 6))[targets] + rng.normal(size=(60, 6))).astype(np.float32)
    parts = [[np.arange(start, 60, 4) for start in range(4)], [np.arange(60)[start:start + 20] for start in range(0, 60, 20)]]
    expected = np.zeros((60, 3))
    for tested in (fold for folds in parts for fold in folds):
        trained = np.setdiff1d(np.arange(60), tested)
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=LOGISTIC_C, max_iter=1000))
        expected[tested] += regression.fit(features[trained], targets[trained]).predict_proba(features[tested]) / 2
    model = tfcnn.ModelConfig("mobilenet_v3_small", weights="none")
    scores = module._scores_of_others(features, dataset(targets), parts, model, TrainingConfig(logistic_c=LOGISTIC_C))
    np.testing.assert_allclose(scores, expected, atol=2e-4)


def load(source, folds=3, **options):
    """What `_load` makes of a source at 32 pixels."""
    model = tfcnn.ModelConfig("mobilenet_v3_small", weights="none", image_size=32)
    return module._load(open_source(source, **options), model, {"geometry": "stretch", "folds": folds})


def fold_of(data, folds):
    return {data.items[row].path: number for number, rows in enumerate(folds) for row in rows}


def test_copies_and_groups_of_a_photo_are_in_one_fold_and_every_photo_is_in_one(tmp_path):
    folder, twins = tmp_path / "photos", {}
    for label in ("blue", "green", "red"):
        (folder / label).mkdir(parents=True)
    for number in range(24):
        file = folder / ("blue", "green", "red")[number % 3] / f"0{number // 3}.jpg"
        pixels = np.random.default_rng(number).integers(0, 256, (6, 6, 3)).astype(np.uint8)
        image = Image.fromarray(pixels).resize((96, 80), Image.Resampling.BICUBIC)
        image.save(file, quality=90)
        if number < 12:  # the copy is under the same label or another one
            copy = twins[str(file)] = str(file.with_name(f"copy{number}.webp") if number % 2 else folder / "red" / f"copy{number}.png")
            image.resize((130, 90)).save(copy, quality=80)
    for seed in range(5):
        data, groups = load(folder)
        folds = module._folds_of(data, groups, 3, seed)
        assert sorted(np.concatenate(folds)) == list(range(36))
        place = fold_of(data, folds)
        assert all(place[file] == place[copy] for file, copy in twins.items()) and len(twins) == 12
        assert all({data.items[row].label for row in rows} == {"blue", "green", "red"} for rows in folds)
    with open(tmp_path / "photos.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "camera"), *((str(f), f.parent.name, f.stem[-1]) for f in sorted(folder.glob("*/*.jpg")))])
    data, groups = load(tmp_path / "photos.csv", group_by="camera")
    place = fold_of(data, module._folds_of(data, groups, 3, 0))
    assert all(len({place[str(folder / label / f"0{number}.jpg")] for label in ("blue", "green", "red")}) == 1 for number in range(8))
    assert len(set(place.values())) == 3


def test_all_splits_of_a_source_are_looked_at_and_what_cannot_be_used_is_named(mixed_up, tiny_vit, tmp_path):
    for number, file in enumerate(sorted(mixed_up.glob("*/*.jpg"))):
        folder = tmp_path / "photos" / ("test" if number % 3 == 0 else "train") / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    (tmp_path / "photos" / "train" / "red" / "broken.jpg").write_bytes(b"text")
    shutil.copy(mixed_up / "blue" / "00.jpg", tmp_path / "photos" / "train" / "red" / "twice.jpg")  # blue/00 under another label
    check = check_labels(tmp_path / "photos", backbone=tiny_vit, weights="none", output=tmp_path / "check")
    assert len(check.photos) == 59 and {Path(photo.path).name for photo in check.photos[:4]} == {Path(path).name for path in planted_paths(mixed_up)}
    assert sorted(Path(q.path).name for q in check.quarantined) == ["00.jpg", "broken.jpg", "twice.jpg"]
    assert "3 files were left out, see 'tfcnn audit'" in str(check)
    page = Page((tmp_path / "check" / "labels.html").read_text())
    assert "Left out: 3" in page.text and "contradiction: the same photo is labelled 'red' here and 'blue'" in page.text


def test_two_classes_in_memory_in_two_folds(tiny_vit, tmp_path):
    rng = np.random.default_rng(0)
    images, true = rng.integers(0, 120, (24, 40, 40, 3)), np.arange(24) % 2
    images[np.arange(24), :, :, true] += 110
    given = np.where(np.arange(24) == 9, 0, true)
    check = check_labels((images.astype(np.uint8), given), backbone=tiny_vit, weights="none", folds=2, repeats=3, output=tmp_path)
    assert (check.photos[0].path, check.photos[0].label, check.photos[0].suggested) == ("array/9", "0", "1") and check.source == ""
    assert "Labels of arrays in memory" in (tmp_path / "labels.html").read_text()


def test_photos_that_are_all_alike_are_no_folds(tiny_vit):
    images = np.full((12, 32, 32, 3), 99, np.uint8)
    images[:, 0, 0, 0] = np.arange(12)  # other content, but near copies: one group
    with pytest.raises(InputError, match="groups of photos that do not hang together"):
        check_labels((images, [0, 1] * 6), backbone=tiny_vit, weights="none", folds=3)


def test_a_network_to_which_all_photos_are_alike_is_doubted_and_nothing_is_called_wrong(photos, tiny_vit, monkeypatch, caplog):
    monkeypatch.setattr(module, "cached_features", lambda model, data: np.ones((len(data.items), 8), np.float32))
    check = check_labels(photos, backbone=tiny_vit, weights="none", folds=4, repeats=2)  # 20 a class: five of each in each fold
    assert check.agreement == 0 and check.issues == check.suspects == check.outliers == () and check.doubt in caplog.text
    assert all(photo.quality == pytest.approx(1 / 3, abs=1e-5) for photo in check.photos)


def test_a_class_without_readable_photos_is_named_after_reading(tiny_vit, tmp_path):
    folder = make_photos(tmp_path / "photos", count=6)
    for file in list((folder / "green").iterdir())[:4]:
        file.write_bytes(b"text")
    with pytest.raises(InputError, match=r"at least 5 different readable photos in every class with folds=5, found 2 in 'green'; add photos, give fewer folds"):
        check_labels(folder, backbone=tiny_vit, weights="none")
    for file in (folder / "green").iterdir():
        file.write_bytes(b"text")
    with pytest.raises(InputError, match="found 0 in 'green'"):
        check_labels(folder, backbone=tiny_vit, weights="none", folds=2)


@pytest.fixture
def nothing_read(monkeypatch):
    """Fails a test in which photos are read or a network is built."""
    for name in ("read_photos", "build_classifier"):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("slow work has begun"))


@pytest.mark.parametrize(("arguments", "words"), [
    ({"folds": 1}, "expected two folds or more, got folds=1"), ({"folds": 2.5}, "folds=2.5"), ({"repeats": 0}, "repeats=0"),
    ({"repeats": True}, "repeats=True"),
    ({"folds": 21}, "at least 21 different readable photos in every class with folds=21, found 20 in 'blue'; add photos, give fewer folds, or remove"),
    ({"backbone": "mobilenet_v3_smal"}, "did you mean 'mobilenet_v3_small'"), ({"backbone": 3}, "backbone=3"), ({"image_size": 4}, "image_size=4"),
    ({"weights": "no/such.h5"}, "no/such.h5"), ({"geometry": "strech"}, "did you mean 'stretch'"), ({"seed": -1}, "seed=-1"),
    ({"group_by": "camera"}, "group_by='camera'"), ({"data_dir": "/data"}, "data_dir='/data'")])
def test_arguments_that_cannot_be_used_are_refused_before_slow_work(photos, nothing_read, arguments, words):
    with pytest.raises(InputError) as caught:
        check_labels(photos, **arguments)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_class_with_three_photos_needs_more_than_two_folds(tmp_path, nothing_read):
    with pytest.raises(InputError, match=r"at least 4 different readable photos in every class with folds=2, found 3 in 'blue'; add photos, or remove"):
        check_labels(make_photos(tmp_path / "photos", count=3), folds=2)


def test_an_output_that_would_change_the_source_or_cannot_be_written_is_refused(photos, tmp_path, nothing_read):
    before = snapshot(photos)
    for output in (photos, photos / "red" / "check"):
        with pytest.raises(InputError, match="outside of the photos"):
            check_labels(photos, output=output)
    assert snapshot(photos) == before
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((str(path), path.parent.name) for path in sorted(photos.glob("*/*")))])
    before = (tmp_path / "labels.csv").read_bytes()
    with pytest.raises(InputError, match=r"an output folder whose labels\.csv is not the source, got output="):
        check_labels(tmp_path / "labels.csv", output=tmp_path)
    assert (tmp_path / "labels.csv").read_bytes() == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="a folder that can be written"):
        check_labels(photos, output=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_without_cleanlab_the_extra_is_named_before_slow_work(photos, nothing_read, monkeypatch):
    find = module.check_cleanlab.__globals__["importlib"].util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "cleanlab" else find(name, *rest))
    with pytest.raises(InputError) as caught:
        check_labels(photos)
    assert str(caught.value) == ("expected the package cleanlab, which ranks suspicious labels, but it is not installed; "
                                 "install it with pip install -c constraints.txt '.[labels]' in the folder of tfcnn")


def test_features_that_are_no_numbers_are_one_line(photos, tiny_vit, monkeypatch):
    monkeypatch.setattr(module, "cached_features", lambda model, data: np.full((len(data.items), 8), np.nan, np.float32))
    with pytest.raises(WorkError, match="expected numbers as features of the photos, but tiny_vit with weights='none' gives others; give other weights"):
        check_labels(photos, backbone=tiny_vit, weights="none")


@pytest.mark.slow
def test_wrong_labels_among_real_photos_are_found(shared, v3_small_weights, tmp_path):
    """60 of 600 labels of waste are wrong; those of chance would be 10 of the first 100."""
    files = sorted(str(file) for file in (shared / "trashnet600").glob("*/*"))
    rng, true = np.random.default_rng(100), np.array([Path(file).parent.name for file in files])
    labels, names = true.copy(), np.unique(true)
    for row in rng.choice(600, 60, replace=False):
        labels[row] = rng.choice(names[names != true[row]])
    wrong = {file for file, label, right in zip(files, labels, true, strict=True) if label != right}
    check = check_labels((files, labels.tolist()), weights=str(v3_small_weights), output=tmp_path / "check")
    found = [photo for photo in check.photos[:100] if photo.path in wrong]
    assert isinstance(check, LabelCheck) and len(wrong) == 60 and len(found) >= 46
    assert np.mean([photo.suggested == Path(photo.path).parent.name for photo in found]) > 0.6  # and the right label is suggested for most
    assert len(wrong & {photo.path for photo in check.issues}) >= 46 and 80 <= len(check.issues) <= 140 and not check.doubt
    assert (tmp_path / "check" / "labels.html").stat().st_size < 3e6


def test_labels_that_were_corrected_by_hand_are_not_written_over(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(tfcnn.InputError, match=r"a folder without a labels\.csv, which may hold corrected labels"):
        _check_output(tmp_path, "")
    assert (tmp_path / "labels.csv").read_text() == "path,label\n"
