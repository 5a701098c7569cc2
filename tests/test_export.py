"""Every export format against Keras, and the gate that decides what may be shipped."""

import json
import shutil
import zipfile

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.export import formats, gate
from tfcnn.export.formats import EXPORTERS, Exporter
from tfcnn.models.forward import forward


@pytest.fixture
def run_copy(trained, tmp_path):
    """(run, data): a copy of the trained run that a test may write to."""
    run, data, _ = trained
    shutil.copytree(run.path, tmp_path / "run")
    return tfcnn.load_run(tmp_path / "run"), data


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_format_gives_the_answers_of_keras(trained, tmp_path, name):
    run, data, model = trained
    exporter, path = EXPORTERS[name], tmp_path / EXPORTERS[name].file
    photos = data.inputs[data.rows("test")]
    exporter.write(model, path, run.labels, data.inputs[data.rows("train")])
    scores, milliseconds = exporter.run(path, photos)
    assert scores.shape == (24, 3) and milliseconds > 0
    largest = np.abs(scores - forward(model, photos)).max()
    assert largest < (2e-3 if exporter.exact else 0.1)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", [pytest.param("saved_model", marks=pytest.mark.slow), "tflite_float32", "tflite_int8"])
def test_files_for_other_channels_give_the_answers_of_keras_too(tiny_vit, tmp_path, name, channels):
    """With the layer in front of a named backbone that makes three channels of them."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    model = tfcnn.build_classifier(tiny_vit, labels=["a", "b", "c"], weights="none", pooling="max", channels=channels)
    for layer in model.layers:
        if layer.name in ("to_rgb", "logits"):  # so that the fourth channel counts and scores differ
            layer.kernel.assign(random.normal(scale=1.0, size=layer.kernel.shape))
    photos = (random.integers(0, 200, (12, 1, 1, channels)) + random.integers(0, 56, (12, 32, 32, channels))).astype(np.uint8)
    exporter, path = EXPORTERS[name], tmp_path / EXPORTERS[name].file
    exporter.write(model, path, ["a", "b", "c"], photos)
    scores, _ = exporter.run(path, photos)
    expected = forward(model, photos)
    assert np.abs(scores - expected).max() < (1e-4 if exporter.exact else 0.1) and expected.std(axis=0).min() > 0.05


@pytest.mark.parametrize("name", [name for name in EXPORTERS if name.startswith("tflite")])
def test_every_tflite_file_has_builtin_operators_and_labels(trained, tmp_path, name):
    run, data, model = trained
    path = tmp_path / "model.tflite"
    EXPORTERS[name].write(model, path, run.labels, data.inputs[data.rows("train")])
    operators = formats._operators(path)
    assert "CONV_2D" in operators and not [o for o in operators if "Flex" in o]
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().split() == run.labels


def test_int8_takes_and_gives_bytes_and_raw_pixels(trained, tmp_path):
    run, data, model = trained
    path = tmp_path / "int8.tflite"
    formats.write_int8(model, path, run.labels, data.inputs[data.rows("train")])
    interpreter = formats._interpreter(path)
    entry, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert entry["dtype"] == np.uint8 and out["dtype"] == np.uint8
    np.testing.assert_allclose(entry["quantization"], (1.0, 0), atol=1e-3)


def test_int8_takes_raw_pixels_even_if_no_calibration_photo_reaches_from_black_to_white(trained, tmp_path):
    run, _, model = trained
    grey = np.full((8, 32, 32, 3), 100, np.uint8)
    formats.write_int8(model, tmp_path / "int8.tflite", run.labels, grey)
    entry = formats._interpreter(tmp_path / "int8.tflite").get_input_details()[0]
    np.testing.assert_allclose(entry["quantization"], (1.0, 0), atol=1e-3)
    assert (grey == 100).all()


def test_saved_model_carries_its_labels(trained, tmp_path):
    run, _, model = trained
    formats.write_saved_model(model, tmp_path / "m", run.labels, None)
    assert (tmp_path / "m" / "assets" / "labels.txt").read_text().split() == run.labels


def test_a_saved_model_that_does_not_load_is_an_error_in_one_line(tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(tfcnn.WorkError, match="fresh process"):
        formats.run_saved_model(tmp_path / "m", np.zeros((1, 32, 32, 3), np.uint8))


def test_export_writes_what_it_measured_into_the_record(run_copy):
    run, data = run_copy
    exports = tfcnn.export(run, data, formats=["tflite_float32", "tflite_float16"])
    assert [e.format for e in exports] == ["tflite_float32", "tflite_float16"]
    for e in exports:
        assert e.accepted and e.n == 24 and e.agreement == 1.0
        assert e.bytes == (run.path / e.path).stat().st_size
    stored = json.loads((run.path / "run.json").read_text())["exports"]
    assert stored == [vars(e) for e in exports]
    tfcnn.export(run, data, formats=["tflite_float16"])  # again: replaces its row, keeps the other
    assert sorted(e["format"] for e in tfcnn.load_run(run.path).record["exports"]) == ["tflite_float16", "tflite_float32"]


def test_export_finds_the_photos_of_the_run_by_itself(run_copy):
    run, data = run_copy
    (e,) = tfcnn.export(run.path, formats=["tflite_float32"])
    assert e.n == len(data.rows("test")) and e.accepted


def planted(change, exact=True):
    """A format whose file is good but whose scores are changed on the way out."""

    def run(path, photos):
        scores, milliseconds = formats.run_tflite(path, photos)
        return change(scores), milliseconds

    return Exporter("planted.tflite", formats.write_float32, run, exact=exact)


def export_planted(monkeypatch, run_copy, exporter):
    run, data = run_copy
    monkeypatch.setitem(EXPORTERS, "planted", exporter)
    (result,) = tfcnn.export(run, data, formats=["planted"])
    return run, result


def test_a_file_that_lost_accuracy_is_rejected_and_kept_aside(monkeypatch, run_copy):
    run, e = export_planted(monkeypatch, run_copy, planted(lambda scores: scores[:, ::-1], exact=False))
    assert not e.accepted and "below Keras" in e.reason
    assert e.path == "exports/rejected/planted.tflite" and (run.path / e.path).exists()
    assert not (run.path / "exports" / "planted.tflite").exists()


def test_a_float_file_that_disagrees_is_rejected_even_where_its_accuracy_holds():
    keras_scores = np.eye(3)[[0, 1, 2] * 34]
    scores = keras_scores.copy()
    scores[[0, 3]] = [0, 1, 0]  # 2 of 102 answers differ; both were wrong before and after
    targets = keras_scores.argmax(axis=1)
    targets[[0, 3]] = 2
    verdict = gate._compare(scores, keras_scores, targets, exact=True, max_accuracy_drop=0.02)
    assert not verdict["accepted"] and "agrees with Keras on 0.980" in verdict["reason"]
    assert gate._compare(scores, keras_scores, targets, exact=False, max_accuracy_drop=0.02)["accepted"]


def test_a_drop_of_exactly_the_limit_is_accepted():
    targets = np.zeros(100, int)
    keras_scores, scores = np.tile([0.9, 0.1], (100, 1)), np.tile([0.9, 0.1], (100, 1))
    scores[:2] = [0.1, 0.9]
    assert gate._compare(scores, keras_scores, targets, exact=False, max_accuracy_drop=0.02)["accepted"]
    scores[:3] = [0.1, 0.9]
    assert not gate._compare(scores, keras_scores, targets, exact=False, max_accuracy_drop=0.02)["accepted"]


def test_scores_that_are_not_finite_are_rejected_by_name(monkeypatch, run_copy):
    run, e = export_planted(monkeypatch, run_copy, planted(lambda scores: scores * np.nan))
    assert not e.accepted and "not finite" in e.reason and e.max_score_difference is None
    json.loads((run.path / "run.json").read_text(), parse_constant=lambda name: pytest.fail(f"run.json holds {name}"))


def test_a_new_verdict_replaces_the_old_file(monkeypatch, run_copy):
    run, bad = export_planted(monkeypatch, run_copy, planted(lambda scores: scores[:, ::-1]))
    run, good = export_planted(monkeypatch, run_copy, planted(lambda scores: scores))
    assert good.accepted and (run.path / good.path).exists() and not (run.path / bad.path).exists()


def test_a_failing_converter_leaves_no_file_and_one_line(monkeypatch, run_copy):
    def write(model, path, labels, calibration):
        path.write_bytes(b"half")
        raise RuntimeError("converter broke\nand said more")

    run, data = run_copy
    monkeypatch.setitem(EXPORTERS, "planted", Exporter("planted.tflite", write, formats.run_tflite, exact=True))
    with pytest.raises(tfcnn.WorkError, match=r"converter broke$"):
        tfcnn.export(run, data, formats=["planted"])
    assert not [p for p in (run.path / "exports").rglob("*") if p.is_file()]


def test_an_unknown_format_is_named_with_the_closest(run_copy):
    with pytest.raises(tfcnn.InputError, match="did you mean 'tflite_int8'"):
        tfcnn.export(*run_copy, formats=["tflite_int"])
    with pytest.raises(tfcnn.InputError, match="list of formats"):
        tfcnn.export(*run_copy, formats="tflite_int8")


def test_calibration_takes_the_labels_in_turn(trained):
    _, data, _ = trained
    photos = gate._calibration(data)
    assert len(photos) == len(data.rows("train")) == 24
    lit = [int(np.argmax(photo.reshape(-1, 3).mean(axis=0))) for photo in photos]  # the brightest channel is the class
    assert all(sorted(lit[i:i + 3]) == [0, 1, 2] for i in range(0, 24, 3))


def test_a_failing_format_does_not_hide_those_before_it(monkeypatch, run_copy):
    def write(model, path, labels, calibration):
        raise RuntimeError("converter broke")

    run, data = run_copy
    monkeypatch.setitem(EXPORTERS, "planted", Exporter("planted.tflite", write, formats.run_tflite, exact=True))
    with pytest.raises(tfcnn.WorkError, match="converter broke"):
        tfcnn.export(run, data, formats=["tflite_float32", "planted"])
    assert [e["format"] for e in tfcnn.load_run(run.path).record["exports"]] == ["tflite_float32"]


def test_data_that_does_not_fit_the_run_is_refused(trained, photos):
    run, _, _ = trained
    with pytest.raises(tfcnn.InputError, match="load them with image_size=32"):
        tfcnn.export(run, tfcnn.load_images(photos, image_size=16), formats=["tflite_float32"])
    with pytest.raises(tfcnn.InputError, match="load them with image_size=32"):
        tfcnn.evaluate(run, tfcnn.load_images(photos, image_size=16))
