"""The row of a kind: what it names exists and takes what it has to, and what is said of photos is said of its examples."""

import dataclasses
import inspect

import numpy as np
import pytest

import tfcnn
from tfcnn.cli import main
from tfcnn.kinds import COMMON, IMAGE, KINDS, function_of, in_words, kind_of, said_of, takes_of

OTHERS = [name for name in KINDS if name != IMAGE]


@pytest.mark.parametrize("name", KINDS)
def test_a_loader_takes_what_the_configuration_says(name):
    row, fields = KINDS[name], {field.name for field in dataclasses.fields(tfcnn.DataConfig)}
    parameters = inspect.signature(function_of(row.load)).parameters
    assert set(row.options) <= fields and set(COMMON) <= fields
    assert {"seed", *COMMON, *row.options} <= set(parameters)
    for option in row.options:
        default = next(field.default for field in dataclasses.fields(tfcnn.DataConfig) if field.name == option)
        assert parameters[option].default == default


@pytest.mark.parametrize("name", OTHERS)
def test_what_a_row_names_is_there(name):
    row = KINDS[name]
    assert "facts" in inspect.signature(function_of(row.load)).parameters
    assert list(inspect.signature(function_of(row.build)).parameters) == ["config", "labels", "shape", "facts"]
    assert list(inspect.signature(function_of(row.read_files)).parameters) == ["inputs", "shape", "facts"]
    assert list(inspect.signature(function_of(row.draw)).parameters)[3:] == ["text", "large"]
    assert list(inspect.signature(function_of(row.heat)).parameters) == ["model", "inputs", "targets"]
    assert callable(function_of(row.look)) and row.networks and row.fewest_epochs > 0


def test_every_field_of_the_configuration_belongs_to_a_kind():
    fields = {field.name for field in dataclasses.fields(tfcnn.DataConfig)}
    assert fields == {"kind", *COMMON, *(option for row in KINDS.values() for option in row.options)}


@pytest.mark.parametrize(("text", "said"), [
    ("on 3 photos", "on 3 clips"), ("a photo, or photos.", "a clip, or clips."), ("ms/photo and 5 photos/s", "ms/clip and 5 clips/s"),
    ("in '/photos/photo 1.wav'", "in '/photos/photo 1.wav'"), ("saved_models/photos/report.html", "saved_models/photos/report.html"),
    ("photo.jpg and photos-audit", "photo.jpg and photos-audit"), ("photograph", "photograph")])
def test_words_of_photos_are_those_of_clips_but_not_in_names(text, said):
    assert in_words(text, "audio") == said and in_words(text, IMAGE) == text


def test_errors_speak_of_the_kind_and_keep_their_class():
    with pytest.raises(tfcnn.WorkError, match=r"^no texts$"), said_of("text"):
        raise tfcnn.WorkError("no photos")
    with pytest.raises(tfcnn.InputError, match=r"^no photos$"), said_of(IMAGE):
        raise tfcnn.InputError("no photos")


def test_what_an_app_feeds_is_said_with_its_numbers():
    assert "any number of steps and 3 channels" in takes_of("signal", {"steps": None, "channels": 3})
    assert takes_of("audio", {"sample_rate": 8000, "samples": 4000}).startswith("4000 samples from -1 to 1 at 8000 Hz")


def test_an_unknown_kind_is_one_line():
    with pytest.raises(tfcnn.InputError, match="did you mean 'signal'"):
        kind_of("signals")


@pytest.mark.parametrize("name", OTHERS)
def test_a_source_that_is_not_there_is_one_line(name, tmp_path, capsys):
    assert main(["train", str(tmp_path / "nothing"), "--kind", name, "--output", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == f"tfcnn: expected {KINDS[name].many} in '{tmp_path / 'nothing'}', but there is nothing; check the path"


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_searched_and_ranked_is_photos_alone(name, photos, tmp_path):
    data = tfcnn.DataConfig(kind=name)
    with pytest.raises(tfcnn.InputError, match="expected photos to search on"):
        tfcnn.search(photos, output=tmp_path / "search", data=data)


def test_predictions_of_arrays_are_checked_by_the_words_of_the_kind(tmp_path):
    values = np.random.default_rng(0).normal(size=(20, 12, 1)).astype(np.float32)
    data = tfcnn.load_signals((values, ["a", "b"] * 10))
    model = tfcnn.build_classifier(tfcnn.build_network("fcn", data.input_shape), labels=data.labels)
    run = tfcnn.train(model, data, tfcnn.TrainingConfig(epochs=1), output=tmp_path / "run")
    with pytest.raises(tfcnn.InputError, match=r"expected series of shape \(n, 12, 1\), got \(20, 5, 1\)"):
        tfcnn.predict(run, values[:, :5])
