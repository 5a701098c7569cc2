"""The row of a kind: what it names exists and takes what it has to, and what is said of photos is said of its examples."""

import dataclasses
import inspect

import numpy as np
import pytest
from PIL import Image

import tfcnn
from tfcnn.cli import main
from tfcnn.data.text import encode
from tfcnn.kinds import COMMON, IMAGE, KINDS, function_of, in_words, kind_of, said_of, takes_of
from tfcnn.models.build import build_for_text
from tfcnn.models.forward import forward
from tfcnn.record import write_record
from tfcnn.training.features import cached_features, feature_network

OTHERS = [name for name in KINDS if name != IMAGE]
mostly_slow = lambda quick: [name if name == quick else pytest.param(name, marks=pytest.mark.slow) for name in OTHERS]  # one in the default run


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
    ("of the run's photos in '/photos'", "of the run's clips in '/photos'"),
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


def made(kind, folder):
    """A small source of a kind, and flags that make its training short."""
    rng = np.random.default_rng(0)
    if kind == "signal":
        np.savez(folder / "made.npz", x=rng.normal(size=(24, 20, 1)).astype(np.float32), y=["a", "b"] * 12)
        return folder / "made.npz", ["--backbone", "fcn"]
    if kind == "volume":
        np.savez(folder / "made.npz", images=rng.normal(size=(24, 8, 8, 8)).astype(np.float32), labels=["a", "b"] * 12)
        return folder / "made.npz", []
    if kind == "text":
        lines = [f"word{number % 5} and {'good' if number % 2 else 'bad'} {number},{'x' if number % 2 else 'y'}" for number in range(24)]
        (folder / "made.csv").write_text("\n".join(["text,label", *lines]) + "\n")
        return folder / "made.csv", []
    if kind == "graph":
        graphs = [f"4 {'a' if ring else 'b'}\n" + "\n".join(f"0 2 {(node - 1) % 4} {(node + 1) % 4} {rng.normal():.3f}" if ring else
                  f"0 {1 if node else 3} {'0' if node else '1 2 3'} {rng.normal():.3f}" for node in range(4)) for ring in [True, False] * 12]
        (folder / "made.txt").write_text("\n".join(["24", *graphs]).replace(" a", " 1").replace(" b", " 2"))
        return folder / "made.txt", []
    if kind == "node":
        edges = np.stack([np.arange(24), (np.arange(24) + 1) % 24])
        np.savez(folder / "made.npz", features=rng.normal(size=(24, 3)) + np.repeat([0, 4], 12)[:, None], edges=edges, labels=np.repeat(["x", "y"], 12))
        return folder / "made.npz", []
    if kind == "video":
        for label, grey in (("x", 40), ("y", 200)):
            for number in range(12):
                for frame in range(16):
                    path = folder / "made" / label / str(number) / f"{frame}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(rng.integers(grey, grey + 50, (24, 32, 3)).astype(np.uint8)).save(path)
        return folder / "made", []
    import soundfile

    for label in ("x", "y"):
        (folder / "made" / label).mkdir(parents=True)
        for number in range(12):
            soundfile.write(folder / "made" / label / f"{number}.wav", rng.normal(0, 0.1, 800).astype(np.float32), 8000)
    return folder / "made", []


@pytest.mark.parametrize("name", mostly_slow("text"))
def test_a_training_of_a_kind_is_resumed_and_repeated_with_the_same_arguments(name, tmp_path, capsys):
    source, flags = made(name, tmp_path)
    arguments = ["train", str(source), "--kind", name, *flags, "--epochs", "1", "--export", "none", "--output", str(tmp_path / "run")]
    assert main(arguments) == 0
    run = tfcnn.load_run(tmp_path / "run")
    write_record(run.path, {**run.record, "status": "started"})
    assert main([*arguments, "--resume"]) == 0
    again = tfcnn.repeat(tmp_path / "run")
    assert again.equal, again.largest_difference
    capsys.readouterr()
    assert main([*arguments, "--resume"]) == 0 and "is finished already" in capsys.readouterr().err


@pytest.mark.parametrize("name", mostly_slow("audio"))
def test_a_network_of_a_kind_computes_in_16_bits_too(name, tmp_path):
    source, flags = made(name, tmp_path)
    arguments = ["train", str(source), "--kind", name, *flags, "--epochs", "1", "--export", "none", "--mixed-precision", "--output", str(tmp_path / "run")]
    assert main(arguments) == 0
    history = tfcnn.record.read_history(tmp_path / "run" / "history.csv")
    assert np.isfinite(history[0]["loss"]) and np.isfinite(history[0]["val_loss"])


def test_data_of_another_rate_or_vocabulary_is_refused(tmp_path):
    texts = [f"{'good' if number % 2 else 'bad'} word {number % 3}" for number in range(30)]
    data, other = (tfcnn.load_text((said, ["x", "y"] * 15), length=9) for said in (texts, [text.replace("word", "else") for text in texts]))
    model = build_for_text(tfcnn.ModelConfig("kim_cnn", "none"), data.labels, data.input_shape, data.facts)
    with pytest.raises(tfcnn.InputError, match="expected texts of the same vocabulary that the model was built for"):
        tfcnn.train(model, other, output=tmp_path / "run")
    run = tfcnn.train(model, data, tfcnn.TrainingConfig(epochs=1), output=tmp_path / "run")
    with pytest.raises(tfcnn.InputError, match="expected texts of the vocabulary of the run, got another"):
        tfcnn.evaluate(run, other)


def test_features_of_a_text_are_those_of_its_vocabulary():
    texts = [f"{'good' if number % 2 else 'bad'} word {number % 3}" for number in range(30)]
    data = tfcnn.load_text((texts, ["x", "y"] * 15), length=9)
    words = data.facts["vocabulary"]
    turned = {**data.facts, "vocabulary": [*words[:2], *words[:1:-1]]}
    other = dataclasses.replace(data, facts=turned, inputs=encode([data.texts[item.sha256] for item in data.items], turned))
    model = build_for_text(tfcnn.ModelConfig("kim_cnn", "none"), data.labels, data.input_shape, data.facts)
    for some in (data, other):
        np.testing.assert_allclose(cached_features(model, some)[:], forward(feature_network(model), some.inputs), atol=1e-6)


@pytest.mark.parametrize(("ending", "kind", "many"), [("wav", "audio", "clips"), ("mp4", "video", "videos"), ("nii.gz", "volume", "volumes"),
                                                      ("txt", "text", "texts")])
def test_files_of_another_kind_are_named_where_the_kind_was_forgotten(tmp_path, capsys, ending, kind, many):
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "data" / label / f"{number}.{ending}").write_text("something")
    assert main(["train", str(tmp_path / "data"), "--output", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == f"tfcnn: expected photos in '{tmp_path / 'data'}', found {many}, such as '0.{ending}'; give --kind {kind}"


def test_columns_and_keys_of_another_kind_are_named_where_the_kind_was_forgotten(tmp_path, capsys):
    (tmp_path / "molecules.csv").write_text("smiles,label\nCCO,a\n")
    np.savez(tmp_path / "graph.npz", adj_indptr=np.zeros(3), labels=np.zeros(2))
    for name, said in (("molecules.csv", "for graphs give --kind graph"), ("graph.npz", "for nodes give --kind node")):
        assert main(["audit", str(tmp_path / name)]) == 2
        assert capsys.readouterr().err.strip().endswith(said)
