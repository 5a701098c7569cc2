"""Predictions of files, folders and arrays."""

import csv
import json
import shutil

import numpy as np
import pytest

import tfcnn
from tfcnn.cli import main
from tfcnn.evaluation.predict import photo_endings
from tfcnn.files import found_files


@pytest.fixture
def folder(trained, tmp_path):
    """Two photos, one of them below a folder, a file that is none, and one that only looks like one."""
    data = trained[1]
    (tmp_path / "some" / "below").mkdir(parents=True)
    shutil.copy(data.items[0].path, tmp_path / "some" / "a.jpg")
    shutil.copy(data.items[1].path, tmp_path / "some" / "below" / "b.JPG")
    (tmp_path / "some" / "notes.txt").write_text("no photo")
    (tmp_path / "some" / "broken.jpg").write_bytes(b"\xff\xd8 not a photo")
    return tmp_path / "some"


def test_a_folder_gives_its_photos_at_any_depth_and_what_cannot_be_read_stops_nothing(trained, folder):
    run, data, _ = trained
    found = tfcnn.predict(run, [folder])
    assert [p.name for p in found] == [str(folder / "a.jpg"), str(folder / "below" / "b.JPG"), str(folder / "broken.jpg")]
    alone = tfcnn.predict(run, [data.items[0].path, data.items[1].path])
    assert [p.scores for p in found[:2]] == [p.scores for p in alone]
    assert found[2].label is None and found[2].scores == {} and "cannot be decoded" in found[2].error


def test_a_reason_that_many_files_have_is_said_of_the_first(trained, tmp_path, caplog):
    for number in range(6):
        (tmp_path / f"{number}.jpg").write_bytes(b"no photo")
    predictions = tfcnn.predict(trained[0], [tmp_path])
    said = [record.message for record in caplog.records if "cannot be decoded" in record.message]
    assert len(predictions) == 6 and all(prediction.error for prediction in predictions)
    assert len(said) == 4 and all(f"'{tmp_path / name}'" in text for name, text in zip(("0.jpg", "1.jpg", "2.jpg"), said, strict=False))
    assert said[3].startswith("3 more: expected a photo in '...'")


def test_many_photos_are_what_each_is_alone(trained):
    run, data, _ = trained
    paths = [item.path for item in data.items[:40]]  # more than a batch
    found = tfcnn.predict(run, paths)
    assert [p.name for p in found] == paths
    for place in (0, 31, 32, 39):
        np.testing.assert_allclose(list(found[place].scores.values()), list(tfcnn.predict(run, [paths[place]])[0].scores.values()), atol=1e-6)


def test_paths_may_come_one_by_one(trained):
    paths = [item.path for item in trained[1].items[:2]]
    assert [p.name for p in tfcnn.predict(trained[0], iter(paths))] == paths


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_predictions_are_written_whole_as_csv_or_lines_of_json(trained, folder, tmp_path, ending):
    run, file = trained[0], tmp_path / "out" / f"answers.{ending}"
    found = tfcnn.predict(run, [folder], output=file)
    with open(file, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines)) if ending == "csv" else [json.loads(line) for line in lines]
    assert len(rows) == 3 and rows[0]["label"] == found[0].label and rows[2]["error"] == found[2].error
    scores = [float(rows[0][f"score of {label}"]) for label in run.labels] if ending == "csv" else list(rows[0]["scores"].values())
    assert scores == list(found[0].scores.values()) and [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_command_lists_what_cannot_be_read_and_fails_only_where_nothing_can(trained, folder, capsys):
    assert main(["predict", str(trained[0].path), str(folder), "--json"]) == 0
    out = capsys.readouterr().out
    assert f"{folder / 'broken.jpg'}  -  cannot be read" in out and "1 of 3 files could not be read" in out
    assert json.loads(out.splitlines()[-1])["unreadable"] == [str(folder / "broken.jpg")]
    assert main(["predict", str(trained[0].path), str(folder / "broken.jpg")]) == 1


@pytest.mark.parametrize(("inputs", "message"), [
    ([], r"expected a list of photos, got inputs=\[\]"), ("photo.jpg", r"write \[path\]"), (["nowhere.jpg"], "there is no file 'nowhere.jpg'")])
def test_what_predict_refuses(trained, inputs, message):
    with pytest.raises(tfcnn.InputError, match=message):
        tfcnn.predict(trained[0], inputs)


def test_a_folder_without_photos_and_a_file_of_another_kind_are_refused_before_the_work(trained, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(tfcnn.InputError, match=r"expected photos in the folder '.*empty', found none"):
        found_files([tmp_path / "empty"], photo_endings(), "a photo", "photos")
    with pytest.raises(tfcnn.InputError, match=r"ends in \.csv or \.jsonl for the predictions, got output='a.txt'"):
        tfcnn.predict(trained[0], [trained[1].items[0].path], output="a.txt")


def test_what_is_hidden_and_what_pillow_only_writes_is_no_photo_of_a_folder(trained, folder):
    (folder / ".thumbnails").mkdir()
    shutil.copy(folder / "a.jpg", folder / ".thumbnails" / "a.jpg")
    (folder / "notes.pdf").write_bytes(b"%PDF-1.4")
    assert [name.rpartition("/")[2] for name in found_files([folder], photo_endings(), "a photo", "photos")] == ["a.jpg", "b.JPG", "broken.jpg"]


def test_arrays_in_a_list_are_refused_without_their_pixels(trained):
    with pytest.raises(tfcnn.InputError, match=r"expected paths of photos, got a list of ndarray; give what they hold as one array"):
        tfcnn.predict(trained[0], [np.zeros((32, 32, 3))])


def test_an_output_that_cannot_be_written_is_refused_before_the_work(trained, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(type(trained[0]), "load_model", lambda run: pytest.fail("the work began"))
    for work in (lambda: tfcnn.predict(trained[0], [trained[1].items[0].path], output=tmp_path / "file" / "answers.csv"),
                 lambda: tfcnn.compare(trained[0], trained[0], output=tmp_path / "file" / "different.csv")):
        with pytest.raises(tfcnn.InputError, match="expected a folder that can be written"):
            work()


def test_predictions_do_not_replace_a_folder(trained, tmp_path):
    (tmp_path / "full.csv").mkdir()
    (tmp_path / "full.csv" / "mine.txt").write_text("mine")
    for work in (lambda: tfcnn.predict(trained[0], [trained[1].items[0].path], output=tmp_path / "full.csv"),
                 lambda: tfcnn.compare(trained[0], trained[0], output=tmp_path / "full.csv")):
        with pytest.raises(tfcnn.InputError, match="is a folder"):
            work()
    assert (tmp_path / "full.csv" / "mine.txt").exists()
