"""A run once more from its record."""

import json
import shutil

import numpy as np
import pytest

import tfcnn
from tfcnn.cli import main
from tfcnn.errors import InputError
from tfcnn.record import load_run, write_record
from tfcnn.training.machine import MachineConfig

pytestmark = pytest.mark.slow  # they train twice


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A run on made photos that the command line trained."""
    output = tmp_path_factory.mktemp("repetition") / "run"
    assert main(["train", str(photos), "--weights", "none", "--image-size", "32", "--trainable", "1", "--epochs", "2", "--export", "none",
                 "--output", str(output), "--seed", "3", "--learning-rates", "head=0.002"]) == 0
    return load_run(output)


def test_a_repetition_has_the_same_bits_and_says_so(run, capsys):
    assert main(["repeat", str(run.path), "--json"]) == 0
    *text, line = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["equal"] is True and found["largest_difference"] == 0 and found["differences"] == []
    assert len(found["losses"]) == 2 and all(one == other for one, other in found["losses"])
    assert found["test"][0] == found["test"][1] == run.record["test"]["accuracy"]
    assert "weights: the same bits" in text and "before the training: nothing differs" in text
    again = load_run(run.path.with_name("run-repeat"))
    assert again.record["training"] == run.record["training"] and again.record["model"] == run.record["model"]
    for one, other in zip(run.load_model().get_weights(), again.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_differed_before_the_training_is_named(run, tmp_path):
    record = json.loads(json.dumps(run.record))
    record["versions"]["numpy"] = "1.0"
    record["code"] = "other"
    record["data"]["digest"] = "other"
    record["hardware"]["replicas"] = 8
    record["training"]["learning_rates"] = {"head": 0.02}
    write_record(run.path, record)
    try:
        found = tfcnn.repeat(run.path, output=tmp_path / "again")
    finally:
        write_record(run.path, run.record)
    assert found.differences == (f"numpy was 1.0 and is {np.__version__}", "the code of tfcnn changed", "photos or their split changed",
                                 "replicas was 8 and is 1")
    assert not found.equal and found.largest_difference > 0
    assert f"weights: they differ by up to {found.largest_difference:.1e}" in str(found)


@pytest.mark.parametrize(("change", "message"), [
    ({"status": "started"}, "training was not completed; finish it with --resume"),
    ({"data": {"source": ""}}, "trained on arrays in memory; train again in Python"),
    ({"model": {"weights": "own"}}, "is a network of its own"),
    ({"data": {"source": "photos", "arguments": {"seed": 4}}}, "has 4 and 3; train again in Python"),
])
def test_a_run_that_cannot_be_repeated_is_refused(run, tmp_path, change, message):
    record = {**run.record, **{name: {**run.record[name], **value} if isinstance(value, dict) else value for name, value in change.items()}}
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match=message):
        tfcnn.repeat(write_record(tmp_path / "run", record))


def test_other_labels_are_refused_before_the_training(run, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "blue").rename(tmp_path / "photos" / "azure")
    record = {**run.record, "data": {**run.record["data"], "source": str(tmp_path / "photos")}}
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match=r"expected the labels of the run in .*, blue, green, red, got azure, green, red; train anew"):
        tfcnn.repeat(write_record(tmp_path / "run", record))
    assert not (tmp_path / "run-repeat").exists()


def test_what_is_not_given_is_as_the_run_had_it(run, tmp_path, monkeypatch):
    from tfcnn import repetition

    asked = []
    monkeypatch.setattr(repetition, "train_and_export", lambda *_, **arguments: asked.append(arguments["machine"]) or run)
    shutil.copytree(run.path, tmp_path / "run")
    for strategy in ("multi_worker", "mirrored"):
        write_record(tmp_path / "run", {**run.record, "machine": {**run.record["machine"], "strategy": strategy, "deterministic": True, "devices": [0, 1]}})
        main(["repeat", str(tmp_path / "run"), "--strategy", "cpu", "--tensorboard"])
        main(["repeat", str(tmp_path / "run")])
    assert asked == [MachineConfig(strategy="cpu", deterministic=True, tensorboard=True), MachineConfig(deterministic=True),
                     MachineConfig(strategy="cpu", deterministic=True, tensorboard=True), MachineConfig("mirrored", (0, 1), deterministic=True)]


def test_the_repetition_does_not_replace_the_run(run):
    with pytest.raises(InputError, match="expected another folder for the repetition"):
        tfcnn.repeat(run, output=run.path, overwrite=True)
