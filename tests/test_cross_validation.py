"""Folds and repeats, with trainings that are pretended."""

import json
import statistics

import pytest

import tfcnn
from tfcnn import cross_validation
from tfcnn.record import write_record


@pytest.fixture
def pretended(monkeypatch):
    """Trainings that end at once, right on 10 of 12 photos plus the number of their fold minus that of their seed."""
    asked = []

    def train(source, *, output, training, data, **more):
        asked.append((output, training.seed, data.fold))
        output.mkdir(parents=True)
        return write_record(output, {"test": {"accuracy": (10 + data.fold - training.seed % 2) / 12, "n": 12}})

    monkeypatch.setattr(cross_validation, "train_and_export", train)
    return asked


def test_each_repeat_has_the_next_seed_and_folders_of_its_own(photos, tmp_path, pretended):
    found = tfcnn.cross_validate(photos, output=tmp_path / "out", data=tfcnn.DataConfig(folds=2), training=tfcnn.TrainingConfig(seed=4), repeats=3)
    assert [(path.relative_to(tmp_path / "out").as_posix(), seed, fold) for path, seed, fold in pretended] == [
        (f"repeat-{repeat}/fold-{fold}", 4 + repeat, fold) for repeat in range(3) for fold in range(2)]
    accuracies = [10 / 12, 11 / 12, 9 / 12, 10 / 12, 10 / 12, 11 / 12]
    assert found["accuracies"] == accuracies and found["mean"] == statistics.mean(accuracies) and found["sd"] == statistics.stdev(accuracies)
    assert found["repeats"] == {"seeds": [4, 5, 6], "accuracies": [21 / 24, 19 / 24, 21 / 24], "sd": statistics.stdev([21 / 24, 19 / 24, 21 / 24])}
    assert found["n"] == 24 and found["accuracy"] == pytest.approx(61 / 72) and json.loads((tmp_path / "out" / "folds.json").read_text()) == found


def test_one_repeat_is_folders_of_folds(photos, tmp_path, pretended):
    found = tfcnn.cross_validate(photos, output=tmp_path / "out", data=tfcnn.DataConfig(folds=2))
    assert found["runs"] == [str(tmp_path / "out" / f"fold-{fold}") for fold in range(2)] and found["repeats"]["sd"] is None
    assert found["accuracy"] == 21 / 24 and found["interval"][0] < 21 / 24 < found["interval"][1]


@pytest.mark.parametrize("repeats", [0, -1, 1.5, True])
def test_repeats_are_a_whole_number(photos, tmp_path, repeats):
    with pytest.raises(tfcnn.InputError, match=f"expected a whole number from 1 up, got repeats={repeats}"):
        tfcnn.cross_validate(photos, output=tmp_path / "out", data=tfcnn.DataConfig(folds=2), repeats=repeats)
