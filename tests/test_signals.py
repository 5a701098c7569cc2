"""Series: what is read, what is refused in one line, and the flow from a folder to a run that is evaluated again."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import tfcnn
from tfcnn.cli import main
from tfcnn.data.run_data import load_for_run, load_run_data
from tfcnn.data.series import read_series, read_ts
from tfcnn.data.signals import channel_statistics, load_signals
from tfcnn.export.contract import contract_of
from tfcnn.export.read_tflite import check_tflite, read_tflite
from tfcnn.export.serve import serve
from tfcnn.models.build import build_for_signals
from tfcnn.models.classifier import ModelConfig
from tfcnn.training.rule import complete

HEADER = "@problemName made\n@timeStamps false\n@missing true\n@univariate false\n@classLabel true up down\n@data\n"


def waves(count=24, steps=30, seed=0, lengths=None):
    """Rising and falling sines in two channels, in turn, and their labels; of these lengths if given."""
    rng = np.random.default_rng(seed)
    labels = np.array(["up", "down"])[np.arange(count) % 2]
    sign = np.where(labels == "up", 1, -1)[:, None, None]
    time = np.linspace(0, 3, steps)[None, :, None] + np.array([0, 1])
    values = (sign * np.sin(time) + rng.normal(0, 0.2, (count, steps, 2))).astype(np.float32)
    return [one[:length] for one, length in zip(values, lengths, strict=True)] if lengths is not None else values, labels


def archive(folder, *, broken=None):
    """A folder as the archives have it: two channels, series of 20 to 30 steps, a missing value in each."""
    folder.mkdir(parents=True)
    for name, seed, count in (("TRAIN", 0, 24), ("TEST", 1, 10)):
        values, labels = waves(count, seed=seed, lengths=20 + np.arange(count) % 11)
        lines = [":".join(",".join("?" if row == 3 and channel else f"{value:.6f}" for row, value in enumerate(one[:, channel])) for channel in range(2))
                 + f":{label}" for one, label in zip(values, labels, strict=True)]
        (folder / f"made_{name}.ts").write_text((broken or HEADER) + "\n".join(lines) + "\n")
    return folder


def test_a_ts_file_gives_what_stands_in_it(tmp_path):
    (tmp_path / "a.ts").write_text("# a remark\n" + HEADER + "1,2,?:4,5,6:up\n\n-1e-3,7:0.5,NaN:down\n")
    up, down = read_ts(tmp_path / "a.ts")
    np.testing.assert_array_equal(up.values, np.array([[1, 4], [2, 5], [np.nan, 6]], np.float32))
    np.testing.assert_array_equal(down.values, np.array([[-1e-3, 0.5], [7, np.nan]], np.float32))
    assert (up.label, down.label, up.split) == ("up", "down", "") and up.name.endswith("a.ts/8") and up.values.dtype == np.float32


@pytest.mark.parametrize(("name", "train", "test", "shape", "labels"), [
    ("GunPoint", 50, 150, (150, 1), 2), ("ItalyPowerDemand", 67, 1029, (24, 1), 2), ("BasicMotions", 40, 40, (100, 6), 4),
    ("JapaneseVowels", 270, 370, (None, 12), 9)])
def test_archive_sets_keep_their_test_split(shared, name, train, test, shape, labels):
    data = load_signals(shared / "timeseries" / name)
    counts = {split: len(data.rows(split)) for split in ("train", "validation", "test")}
    assert counts["train"] + counts["validation"] == train and counts["test"] == test and counts["validation"] > 0
    assert data.input_shape == shape and len(data.labels) == labels and not data.quarantined


@pytest.mark.parametrize("form", ["ts", "wide.csv", "long.csv", "npz", "arrays", "lists"])
def test_the_same_series_come_out_of_every_form(tmp_path, form):
    values, labels = waves(6, steps=4)
    values = values[:, :, :1] if form == "wide.csv" else values
    values[1, 3] = np.nan  # ends early
    text = lambda value: "" if np.isnan(value) else repr(float(value))
    if form == "ts":
        source = tmp_path / "a.ts"
        channels = [[",".join(text(value) or "?" for value in channel) for channel in one.T] for one in values]
        rows = [":".join([*of_one, label]) for of_one, label in zip(channels, labels, strict=True)]
        source.write_text(HEADER + "\n".join(rows))
    elif form == "wide.csv":
        source = tmp_path / "a.csv"
        rows = [f"{label},{','.join(map(text, one[:, 0]))}" for one, label in zip(values, labels, strict=True)]
        source.write_text("label,t0,t1,t2,t3\n" + "\n".join(rows))
    elif form == "long.csv":
        source = tmp_path / "a.csv"
        rows = [f"{number},{label},{','.join(map(text, step))}" for number, (one, label) in enumerate(zip(values, labels, strict=True)) for step in one]
        source.write_text("series,label,x,y\n" + "\n".join(rows))
    elif form == "npz":
        source = tmp_path / "a.npz"
        np.savez(source, x=values, y=labels)
    else:
        source = (values if form == "arrays" else [one[:3] if row == 1 else one for row, one in enumerate(values)], labels)
    data = load_signals(source, split=None)
    np.testing.assert_array_equal(data.inputs, values)
    assert [item.label for item in data.items] == labels.tolist() and data.labels == ("down", "up") and data.input_shape == (None, values.shape[2])


def test_splits_of_the_source_are_kept_and_groups_stay_together(tmp_path):
    rows = "\n".join(f"{('up', 'down')[row % 2]},{('train', 'test')[row > 15]},p{row % 8},{row},{row + 1},{-row}" for row in range(24))
    (tmp_path / "a.csv").write_text("label,split,group,a,b,c\n" + rows)
    data = load_signals(tmp_path / "a.csv")
    assert len(data.rows("test")) == 8 and {item.split for item in data.items[:16]} == {"train", "validation"}
    groups = {}
    for row, item in enumerate(data.items[:16]):
        groups.setdefault(row % 8, set()).add(item.split)
    assert all(len(splits) == 1 for splits in groups.values())
    pair = lambda seed: waves(12, seed=seed)
    by_split = load_signals({"train": pair(0), "validation": pair(1), "test": pair(2)})
    assert [len(by_split.rows(split)) for split in ("train", "validation", "test")] == [12, 12, 12]


def test_what_cannot_be_used_is_listed_and_equal_series_stay_together(caplog):
    values, labels = waves(40)
    values[3], values[5, 2, 0] = np.nan, np.inf
    values[8] = values[10]  # a copy with its own label
    values[12] = values[13]  # a contradiction
    values[20] = 1.0  # a constant series is a series
    data = load_signals((values, labels))
    reasons = {entry.path: entry.reason for entry in data.quarantined}
    assert reasons["array/3"] == "no values" and reasons["array/5"] == "infinite values"
    assert "contradiction" in reasons["array/12"] and "contradiction" in reasons["array/13"] and len(reasons) == 4
    split = {item.path: item.split for item in data.items}
    assert split["array/8"] == split["array/10"] and "array/20" in split


@pytest.mark.parametrize(("text", "message"), [
    ("@problemName x\n1,2:up\n", r"lines that begin with @ before @data in '.*a\.ts', got '1,2:up' in line 2; the header is broken"),
    ("@problemName x\n", "expected a line @data in .*, found none"),
    ("@classLabel false\n@data\n1,2\n", "expected @classLabel true and at least two labels"),
    ("@univariate perhaps\n@data\n", "expected @univariate true or false"),
    ("@timeStamps true\n@classLabel true a b\n@data\n", "expected series without times of their own"),
    (HEADER + "1,2:3,4:sideways\n", "one of the labels up, down at the end of line 7"),
    (HEADER + "1,2,x:3,4:up\n", "expected numbers in line 7"),
    (HEADER + "1,2:3,4:up\n5,6:down\n", "expected series of one number of channels, got 2 in .* and 1 in"),
    (HEADER, "expected series in .*, found none"),
])
def test_a_broken_ts_file_is_one_line(tmp_path, text, message):
    (tmp_path / "a.ts").write_text(text)
    with pytest.raises(tfcnn.InputError, match=message) as refused:
        load_signals(tmp_path / "a.ts")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.csv", "t0,t1\n1,2\n", "expected a column label"), ("a.csv", "", "found nothing"), ("a.csv", "label\nup\n", "expected columns with values"),
    ("a.csv", "label,a\nup,1,2\n", "expected 2 cells in line 2"), ("a.csv", "label,split,a\nup,later,1\n", "got 'later' in line 2"),
    ("a.csv", "series,label,a\n1,up,1\n1,down,2\n", "one label, split and group for the series '1'"),
    ("a.csv", "label,a\nup,one\n", "expected numbers in line 2"),
    ("a.csv", f"label,a\nup,{'a whole text ' * 50}\n", r"expected numbers in line 2 of '.*', but: .{100,120}$"),
    ("a.npz", "no zip", "cannot be read"), ("a.txt", "1", "expected a folder with .ts files")])
def test_other_broken_files_are_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(tfcnn.InputError, match=message):
        load_signals(tmp_path / name)


@pytest.mark.parametrize(("source", "message"), [
    ("nowhere", "there is no"), ((np.zeros((4, 3, 2, 2)), list("aabb")), r"an array \(n, steps\) or \(n, steps, channels\), got shape=\(4, 3, 2, 2\)"),
    ((np.zeros((4, 3)), list("aab")), "one label a series, got 4 series"), (np.zeros((4, 3)), r"expected \(series, labels\), got ndarray"),
    (([np.zeros(3), np.zeros((3, 2))] * 3, list("ababab")), "one number of channels"), (([np.array(["x"])], ["a"]), "expected numbers of shape"),
    ({"trian": (np.zeros((4, 3)), list("aabb"))}, "did you mean 'train'"), ((np.arange(30.0).reshape(10, 3), ["a"] * 10), "at least two classes"),
    ((np.arange(30.0).reshape(10, 3), ["a"] * 5 + ["b\n"] * 5), "labels of one line")])
def test_what_is_no_series_is_one_line(source, message):
    with pytest.raises(tfcnn.InputError, match=message):
        load_signals(source)


def test_means_and_variances_are_of_the_training_series_alone_and_of_what_is_there():
    values, labels = waves(40)
    values[:, :, 1] = 7.0  # never changes
    values[0, 5:] = np.nan
    data = load_signals((values, labels))
    told, train = channel_statistics(data), data.inputs[data.rows("train")]
    np.testing.assert_allclose(told["mean"], np.nanmean(train, axis=(0, 1)), rtol=1e-5)
    assert told["variance"][0] == pytest.approx(np.nanvar(train[..., 0]), rel=1e-4) and told["variance"][1] == 1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of series of different lengths."""
    folder = archive(tmp_path_factory.mktemp("series") / "made")
    data = load_signals(folder)
    model = tfcnn.build_classifier(tfcnn.build_network("fcn", data.input_shape, **channel_statistics(data)), labels=data.labels)
    return tfcnn.train(model, data, tfcnn.TrainingConfig(epochs=25), output=folder.with_name("run")), data


def test_a_run_of_series_is_evaluated_again_from_its_source_and_predicts(run):
    run, data = run
    assert run.record["training"]["batch_norm"] == "train" and run.record["training"]["head_first"] is False and run.record["kept"] == "fine-tuned"
    assert run.record["input_shape"] == [None, 2] and run.record["validation_of_head"] is None
    report = tfcnn.evaluate(run.path)
    assert report.n == 10 and report.accuracy >= 0.9 and tfcnn.evaluate(run, data).to_dict() == report.to_dict()
    rows = data.rows("test")
    found = tfcnn.predict(run, data.inputs[rows])
    longer = tfcnn.predict(run, np.pad(data.inputs[rows], ((0, 0), (0, 40), (0, 0)), constant_values=np.nan))
    np.testing.assert_allclose([list(p.scores.values()) for p in found], [list(p.scores.values()) for p in longer], atol=1e-5)
    assert np.mean([p.label == data.items[row].label for p, row in zip(found, rows, strict=True)]) == report.accuracy


FORMATS = ("saved_model", "tflite_float32", "tflite_float16", "tflite_dynamic")


def test_files_of_a_run_of_series_are_run_on_its_whole_test_split(run, tmp_path):
    shutil.copytree(run[0].path, tmp_path / "run")
    rows = tfcnn.export(tmp_path / "run", formats=FORMATS)
    assert [row.format for row in rows] == list(FORMATS) and all(row.accepted and row.n == 10 and row.agreement == 1 for row in rows)
    assert all(row.max_score_difference < 1e-5 for row in rows[:2])
    file = read_tflite(tmp_path / "run" / "exports" / "float32.tflite")
    assert file.input.shape == (1, None, 2) and file.labels == ("down", "up") and file.colour_space == 0 and not file.flex
    told = file.contract["input"]
    assert (told["shape"], told["kind"], told["type"]) == ([None, 2], "signal", "float32")
    assert told["text"].startswith("a series of any number of steps and 2 channels, as it was measured; NaN stands for a value that is missing")
    for formats, message in ((["tflite_int8"], "expected a format for series, saved_model, .* got 'tflite_int8'"), (["auto"], "got 'auto'")):
        with pytest.raises(tfcnn.InputError, match=message):
            tfcnn.export(tmp_path / "run", formats=formats)
    with pytest.raises(tfcnn.InputError, match="neither encoded photos nor a bundle"):
        tfcnn.export(tmp_path / "run", formats=["saved_model"], encoded=True)


def test_what_a_file_of_series_says_has_to_be_what_the_run_says(run, tmp_path):
    shutil.copytree(run[0].path, tmp_path / "run")
    tfcnn.export(tmp_path / "run", formats=["tflite_float32"])
    file = tmp_path / "run" / "exports" / "float32.tflite"
    contract = contract_of(tfcnn.load_run(tmp_path / "run"))
    check_tflite(file, contract)
    with pytest.raises(tfcnn.WorkError, match=r"input shape is \(1, None, 2\) and should be \(1, 30, 2\)"):
        check_tflite(file, replace(contract, input_shape=(30, 2)))


def test_series_that_changed_or_do_not_fit_are_named(run, tmp_path):
    run, _ = run
    shutil.copytree(run.path, tmp_path / "run")
    values, labels = waves(6, seed=5)
    with pytest.raises(tfcnn.InputError, match="expected series of 2 channels"):
        load_for_run(run, (values[..., :1], labels))
    with pytest.raises(tfcnn.InputError, match="got sideways besides"):
        load_for_run(run, (values, ["sideways", "up"] * 3))
    moved = archive(tmp_path / "moved", broken=HEADER.replace("made", "other"))
    (moved / "made_TEST.ts").write_text(HEADER + "1,2:3,4:up\n2,2:3,3:down\n")
    record = tfcnn.load_run(tmp_path / "run").record
    from tfcnn.record import write_record

    write_record(tmp_path / "run", {**record, "data": {**record["data"], "source": str(moved)}})
    with pytest.raises(tfcnn.InputError, match="expected the series of the run as they were, but 10 changed or are gone since"):
        load_run_data(tfcnn.load_run(tmp_path / "run"))
    for work in (serve, lambda run: tfcnn.explain(run, values)):
        with pytest.raises(tfcnn.InputError, match=r"expected a run of photos to .*, got one of series"):
            work(run)
    with pytest.raises(tfcnn.InputError, match=r"expected a file of series, but there is no file .a.csv."):
        tfcnn.predict(run, ["a.csv"])


@pytest.mark.slow
def test_a_network_of_a_fixed_length_takes_shorter_series_and_refuses_longer_ones(tmp_path):
    values, labels = waves(24)
    data = load_signals((values, labels))
    model = tfcnn.build_classifier(tfcnn.build_network("fcn", data.input_shape), labels=data.labels)
    run = tfcnn.train(model, data, tfcnn.TrainingConfig(epochs=1), output=tmp_path / "run")
    assert load_for_run(run, (values[:, :20], labels)).inputs.shape == (24, 30, 2)
    with pytest.raises(tfcnn.InputError, match="expected series of at most 30 steps"):
        load_for_run(run, (np.concatenate([values, values], axis=1), labels))


def test_series_are_not_augmented_and_something_has_to_be_trained(tmp_path):
    data = load_signals(waves(24))
    model = tfcnn.build_classifier(tfcnn.build_network("fcn", data.input_shape), labels=data.labels)
    with pytest.raises(tfcnn.InputError, match="expected no augmentation for series"):
        tfcnn.train(model, data, tfcnn.TrainingConfig(augmentation="light"), output=tmp_path / "run")
    with pytest.raises(tfcnn.InputError, match="expected no mixing for series, got mixing="):  # before a source is read, which there is none
        tfcnn.train_and_export(tmp_path / "none", output=tmp_path / "run", data=tfcnn.DataConfig(kind="signal"), training=tfcnn.TrainingConfig(mixing=0.5))
    with pytest.raises(tfcnn.InputError, match="expected something to train"):
        tfcnn.train(model, data, tfcnn.TrainingConfig(epochs=0), output=tmp_path / "run")


def test_the_rule_gives_networks_of_series_so_many_steps():
    for count, batch in ((50, 16), (1000, 16), (5000, 32)):
        config = complete(tfcnn.TrainingConfig(), photos=count, stages=["block1"], kind="signal", scratch=True)
        assert config.batch_size == batch and config.trainable is True and config.augmentation == "none" and not config.head_first
        assert config.epochs * -(-count // batch) == pytest.approx(1500, rel=0.1) or config.epochs == 20


def test_a_source_is_opened_by_what_it_is_called(tmp_path):
    name, found = read_series(archive(tmp_path / "made"))
    assert name == str(tmp_path / "made") and {series.split for series in found} == {"train", "test"}
    (tmp_path / "made" / "second_TRAIN.ts").write_text(HEADER)
    with pytest.raises(tfcnn.InputError, match=r"expected one \*_TRAIN\.ts in '.*made', found 2"):
        read_series(tmp_path / "made")


def test_the_command_line_trains_tests_and_reports_series_and_predicts_new_ones(tmp_path, capsys):
    folder = archive(tmp_path / "made")
    arguments = ["train", str(folder), "--kind", "signal", "--backbone", "fcn", "--epochs", "25", "--export", "tflite_float32"]
    assert main([*arguments, "--output", str(tmp_path / "run"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["test"]["n"] == 10 and told["test"]["accuracy"] >= 0.9 and told["exports"][0]["accepted"]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert '<svg class="series"' in page and '<rect x="' in page and "10 test series" in page and "any number of steps and 2 channels" in page
    values, labels = waves(4, seed=9)
    lines = [f"{row},{step[0]},{step[1]}" for row, one in enumerate(values) for step in one]
    (tmp_path / "new.csv").write_text("\n".join(["series,a,b", *lines]) + "\n")
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "new.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"]
    assert [row["label"] for row in found] == labels.tolist()
    (tmp_path / "thin.csv").write_text("series,a\n0,1\n0,2\n")
    (thin,) = tfcnn.predict(tmp_path / "run", [tmp_path / "thin.csv"])
    assert "1 channels, the network takes 2" in thin.error
    assert main(["report", str(tmp_path / "run"), "--again"]) == 0
    assert main(["explain", str(tmp_path / "run"), "new.csv"]) == 2
    assert "expected a run of photos to explain, got one of series" in capsys.readouterr().err.splitlines()[-1]


def test_a_run_of_series_gives_its_weights_to_a_network_for_others(run, tmp_path, capsys):
    run, _ = run
    values, labels = waves(30, steps=50)
    data = load_signals((values * 10 + 3, np.where(labels == "up", "rise", "fall").tolist()))
    build = lambda weights: build_for_signals(ModelConfig("fcn", weights), data.labels, data.input_shape, data.facts)
    model, old = build(str(run.path)).get_layer("backbone"), run.load_model().get_layer("backbone")
    for layer in ("block1", "block2", "block3"):
        for new, before in zip(model.get_layer(layer).get_weights(), old.get_layer(layer).get_weights(), strict=True):
            np.testing.assert_array_equal(new, before)
    np.testing.assert_allclose(np.ravel(model.get_layer("standardise").mean), data.facts["mean"], rtol=1e-5)  # of the new series
    folder = archive(tmp_path / "made")
    for flags, message in ((["--weights", str(run.path)], "with the network resnet as --weights, got one of signal data with fcn"),
                           (["--weights", str(tmp_path)], "has no run.json")):
        assert main(["train", str(folder), "--kind", "signal", "--output", str(tmp_path / "run"), *flags]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(tfcnn.InputError, match=r"layer 'block1' wants"):
        build_for_signals(ModelConfig("fcn", str(run.path)), ["a", "b"], (50, 3), {"mean": [0] * 3, "variance": [1] * 3})


@pytest.mark.slow
def test_series_are_cross_validated_and_a_run_is_repeated_to_the_last_bit(tmp_path):
    values, labels = waves(24)
    np.savez(tmp_path / "waves.npz", x=values, y=labels)
    arguments = ["--kind", "signal", "--backbone", "fcn", "--epochs", "2", "--export", "none"]
    assert main(["train", str(tmp_path / "waves.npz"), *arguments, "--folds", "3", "--output", str(tmp_path / "folds")]) == 0
    assert json.loads((tmp_path / "folds" / "folds.json").read_text())["n"] == 24
    assert main(["train", str(tmp_path / "waves.npz"), *arguments, "--output", str(tmp_path / "run")]) == 0
    again = tfcnn.repeat(tmp_path / "run")
    assert again.equal and not again.differences
    assert main(["find-rate", str(tmp_path / "waves.npz"), "--kind", "signal", "--steps", "20", "--output", str(tmp_path / "rates.png")]) == 0
