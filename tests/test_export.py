"""Every export format against Keras, and the gate that decides what may be shipped."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import IN_CI, make_photos, material_of

import tfcnn
from tfcnn.data.calibration import choose_calibration
from tfcnn.data.channels import in_channels
from tfcnn.data.photo import decode_photo
from tfcnn.export import check, gate, ladder, mixed
from tfcnn.export.contract import Contract
from tfcnn.export.encoded import decoder
from tfcnn.export.formats import EXPORTERS, Exporter, check_extra, has_extra, write_saved_model
from tfcnn.export.read_tflite import check_tflite, read_tflite
from tfcnn.export.runtimes import run_file, scores_of
from tfcnn.export.tflite import float32_file, write_float32, write_int8, write_int8_mixed
from tfcnn.files import alone_in
from tfcnn.models.forward import forward
from tfcnn.models.recast import recast
from tfcnn.record import write_record

TEST = {"split": "test", "n": 3, "accuracy": 1.0, "interval": [0.4, 1.0], "balanced_accuracy": 1.0, "log_loss": 0.1, "labels": ["blue", "green", "red"],
        "per_label": [{"label": label, "n": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0} for label in ("blue", "green", "red")],
        "confusion": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}


@pytest.fixture
def run_copy(trained, tmp_path):
    """(run, data): a copy of the trained run that a test may write to."""
    run, data, _ = trained
    shutil.copytree(run.path, tmp_path / "run")
    return tfcnn.load_run(tmp_path / "run"), data


FILES = ["saved_model", "tflite_float32", "tflite_float16", "tflite_dynamic", "tflite_int8", pytest.param("tflite_int8_mixed", marks=pytest.mark.slow),
         "tflite_weight_int8", pytest.param("onnx", marks=pytest.mark.slow)]


def skip_without_extra(name):
    try:
        check_extra(name)
    except tfcnn.InputError as error:
        pytest.fail(str(error)) if IN_CI else pytest.skip(str(error))


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_answers_of_keras(trained, tmp_path, name):
    skip_without_extra(name)
    run, data, model = trained
    exporter, path = EXPORTERS[name], tmp_path / EXPORTERS[name].file
    photos = data.inputs[data.rows("test")]
    exporter.write(material_of(model, run.labels, tmp_path / "kept", data.inputs[data.rows("train")]), path)
    measured = run_file(exporter.runtime, path, photos)
    assert measured.scores.shape == (24, 3) and measured.memory > 10e6
    assert all(0 < median <= high for median, high in measured.latency.values()) and set(measured.latency) == {1, 2}
    assert np.abs(measured.scores - forward(model, photos)).max() < (2e-3 if exporter.exact else 0.1)
    if exporter.runtime == "tflite":
        file = read_tflite(path)
        assert "CONV_2D" in file.operators and not file.flex and list(file.labels) == run.labels
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt").decode().split() == run.labels
            assert json.loads(archive.read("contract.json"))["input"]["geometry"] == "stretch"


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
    exporter.write(material_of(model, ["a", "b", "c"], tmp_path / "kept", photos), path)
    expected = forward(model, photos)
    assert np.abs(scores_of(exporter.runtime, path, photos) - expected).max() < (1e-4 if exporter.exact else 0.1) and expected.std(axis=0).min() > 0.05


@pytest.mark.slow
def test_onnx_asks_for_nothing_but_the_photo_where_the_network_normalises(tmp_path):
    """tf2onnx made inputs of the constants of a Normalization layer, as EfficientNet has."""
    skip_without_extra("onnx")
    image = keras.Input((32, 32, 3))
    x = keras.layers.Normalization(mean=[110.0, 100.0, 90.0], variance=[3000.0, 3100.0, 3200.0])(image)
    backbone = keras.Model(image, keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x))
    model = tfcnn.build_classifier(backbone, labels=["a", "b", "c"])
    photos = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    EXPORTERS["onnx"].write(material_of(model, ["a", "b", "c"], tmp_path / "kept"), tmp_path / "m.onnx")
    np.testing.assert_allclose(scores_of("onnx", tmp_path / "m.onnx", photos), forward(model, photos), atol=1e-5)


def test_int8_takes_raw_pixels_even_if_no_calibration_photo_reaches_from_black_to_white(trained, tmp_path):
    run, _, model = trained
    grey = np.full((8, 32, 32, 3), 100, np.uint8)
    write_int8(material_of(model, run.labels, tmp_path / "kept", grey), tmp_path / "int8.tflite")
    file = read_tflite(tmp_path / "int8.tflite")
    assert (file.input.dtype, file.output.dtype) == ("uint8", "uint8")
    np.testing.assert_allclose(file.input.quantization, (1.0, 0), atol=1e-3)
    assert (grey == 100).all()


@pytest.mark.slow
def test_int8_takes_raw_pixels_where_the_network_wants_them_less_their_means(tmp_path):
    """The converter measured the sum in place of the pixels while the mean was taken off after the turn to BGR."""
    model = tfcnn.build_classifier("vgg16", labels=["a", "b"], weights="none", image_size=32)
    photos = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    write_int8(material_of(model, ["a", "b"], tmp_path / "kept", photos), tmp_path / "m.tflite")  # refuses other bytes than pixels
    assert np.abs(scores_of("tflite", tmp_path / "m.tflite", photos) - forward(model, photos)).max() < 0.1


def test_a_saved_model_carries_labels_and_contract_and_takes_encoded_photos(trained, photos, tmp_path):
    import tensorflow as tf

    run, _, model = trained
    material = dataclasses.replace(material_of(model, run.labels, tmp_path / "kept"), encoded=True)
    write_saved_model(material, tmp_path / "m")
    assert (tmp_path / "m" / "assets" / "labels.txt").read_text().split() == run.labels
    stored = sum(int(np.prod(shape)) for name, shape in tf.train.list_variables(tmp_path / "m" / "variables" / "variables") if "GRAPH" not in name)
    assert stored == sum(int(np.prod(weight.shape)) for weight in model.weights)  # each once
    assert json.loads((tmp_path / "m" / "assets" / "contract.json").read_text())["output"]["labels"] == run.labels
    files = sorted(photos.rglob("*.jpg"))[:3]
    signatures = tf.saved_model.load(tmp_path / "m").signatures
    given = signatures["serve_encoded"](photos=tf.constant([file.read_bytes() for file in files]))["output_0"].numpy()
    expected = [list(p.scores.values()) for p in tfcnn.predict(run, files)]
    np.testing.assert_allclose(given, expected, atol=0.03)  # TensorFlow resizes a little differently from Pillow


# A program of someone who has TensorFlow and not tfcnn.
ELSEWHERE = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tfcnn":
            raise ImportError("tfcnn is not here")
sys.meta_path.insert(0, Without())
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
np.save(sys.argv[3], model.signatures["serving_default"](image=tf.constant(np.load(sys.argv[2])))["output_0"].numpy())
"""


@pytest.mark.slow
def test_a_saved_model_gives_the_numbers_of_keras_without_tfcnn(trained, tmp_path):
    run, data, model = trained
    photos = data.inputs[data.rows("test")][:5].astype(np.float32)
    write_saved_model(material_of(model, run.labels, tmp_path / "kept"), tmp_path / "m")
    np.save(tmp_path / "photos.npy", photos)
    expected = forward(model, photos)
    subprocess.run([sys.executable, "-I", "-c", ELSEWHERE, tmp_path / "m", tmp_path / "photos.npy", tmp_path / "loaded.npy"], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "loaded.npy"), expected, atol=1e-6)
    command = ["run", "--dir", tmp_path / "m", "--tag_set", "serve", "--signature_def", "serving_default",
               "--inputs", f"image={tmp_path / 'photos.npy'}", "--outdir", tmp_path]
    subprocess.run([Path(sys.executable).with_name("saved_model_cli"), *command], check=True, capture_output=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "output_0.npy"), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_layers_are_left_in_float_while_the_file_stays_small(trained, tmp_path, monkeypatch, share):
    """The nearest to Keras of all files within the limit; with no room for any layer in float, that of 8 bits."""
    monkeypatch.setattr(mixed, "FLOAT_SHARE", share)
    run, data, model = trained
    material = material_of(model, run.labels, tmp_path / "kept", data.inputs[data.rows("train")], data.inputs[data.rows("validation")])
    details = write_int8_mixed(material, tmp_path / "mixed.tflite")
    assert details["layers"] > len(details["float_layers"]) and bool(details["float_layers"]) == (share > 0)
    if share:
        assert (tmp_path / "mixed.tflite").stat().st_size <= share * len(float32_file(material)) + 4000  # metadata come to it
        write_int8(material, tmp_path / "int8.tflite")
        expected = forward(model, material.held_out)
        worse, better = (np.abs(scores_of("tflite", tmp_path / name, material.held_out) - expected).mean() for name in ("int8.tflite", "mixed.tflite"))
        assert better < worse


@pytest.mark.slow
def test_core_ml_is_written_with_labels_and_contract_and_said_to_be_unchecked(run_copy):
    """Its description is read back; only Apple's machines can run it."""
    skip_without_extra("coreml")
    from coremltools.proto import Model_pb2

    run, data = run_copy
    (export,) = tfcnn.export(run, data, formats=["coreml"])
    assert (export.verdict, export.accepted, export.path) == ("unchecked", False, "exports/unchecked/model.mlpackage")
    spec = Model_pb2.Model()
    spec.ParseFromString(next((run.path / export.path).rglob("*.mlmodel")).read_bytes())
    (entry,) = spec.description.input
    assert (entry.name, list(entry.type.multiArrayType.shape)) == ("image", [1, 32, 32, 3])
    assert spec.description.metadata.userDefined["labels.txt"].split() == run.labels


@pytest.mark.parametrize(("geometry", "channels"), [("stretch", 3), ("letterbox", 3), ("center_crop", 3), ("letterbox", 1)])
def test_encoded_photos_become_the_pixels_of_the_training(tmp_path, geometry, channels):
    """A smooth picture, more and more transparent to the left, of a size that no geometry fits without rounding."""
    import tensorflow as tf
    from PIL import Image

    y, x = np.mgrid[0:130, 0:200]
    pixels = np.stack([x, y, (x + y) // 2, x + 50], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    Image.fromarray(pixels[..., :3]).save(tmp_path / "solid.jpg", quality=95)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    decode = decoder(Contract("m", ("a", "b"), (32, 32, channels), geometry))
    for file in sorted(tmp_path.iterdir()):
        given = decode(tf.constant([file.read_bytes()])).numpy()[0]
        expected = in_channels(decode_photo(file, 32, geometry).pixels[None], channels)[0].astype(np.float32)
        assert given.shape == expected.shape and np.abs(given - expected).mean() < 2.0, file.name
        assert ((given == 0).all(axis=(1, 2)) == (expected == 0).all(axis=(1, 2))).all(), file.name  # the bars


@pytest.mark.slow
def test_a_saved_model_that_does_not_load_is_an_error_in_one_line(tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(tfcnn.WorkError, match="fresh process"):
        run_file("saved_model", tmp_path / "m", np.zeros((1, 32, 32, 3), np.uint8))


def test_a_file_whose_metadata_say_something_else_is_refused(trained, tmp_path):
    run, _, model = trained
    material = material_of(model, run.labels, tmp_path / "kept")
    write_float32(material, tmp_path / "m.tflite")
    other = dataclasses.replace(material.contract, labels=("green", "blue", "red"), geometry="letterbox")
    with pytest.raises(tfcnn.WorkError, match=r"labels is .*contract is "):
        check_tflite(tmp_path / "m.tflite", other)
    with pytest.raises(tfcnn.WorkError, match="input type is float32 and should be uint8"):
        check_tflite(tmp_path / "m.tflite", material.contract, bytes_in=True)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x1c\x00\x00\x00TFL3" + bytes(40)])
def test_an_unreadable_tflite_file_is_one_line(tmp_path, content):
    (tmp_path / "m.tflite").write_bytes(content)
    with pytest.raises(tfcnn.InputError, match="LiteRT cannot load it"):
        read_tflite(tmp_path / "m.tflite")
    with pytest.raises(tfcnn.InputError, match="no file"):
        read_tflite(tmp_path / "none.tflite")


def test_a_geometry_that_is_none_is_refused(run_copy):
    run, _ = run_copy
    with pytest.raises(tfcnn.InputError, match="did you mean 'stretch'"):
        tfcnn.export(write_record(run.path, {**run.record, "geometry": "strech"}), formats=["tflite_float32"])
    assert not list((run.path / "exports").glob("*.tflite"))


def test_labels_that_do_not_match_the_outputs_are_refused(run_copy):
    run, _ = run_copy
    record = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**record, "labels": [*run.labels, "yellow"]}))
    with pytest.raises(tfcnn.InputError, match=r"expected the labels of the run in '.*labels\.txt', blue, green, red, yellow, one a line"):
        tfcnn.export(run.path, formats=["tflite_float32"])
    (run.path / "labels.txt").write_text("blue\ngreen\nred\nyellow\n")
    with pytest.raises(tfcnn.InputError, match="one output for each of the 4 labels of the run, got 3"):
        tfcnn.export(run.path, formats=["tflite_float32"])


@pytest.mark.parametrize(("changed", "reason"), [({"seconds": None}, "seconds"), ({"versions": {}}, "'tfcnn' is missing"), ({"test": {}}, "missing")])
def test_a_record_that_no_card_can_be_made_of_is_refused_before_the_work(run_copy, changed, reason):
    run, _ = run_copy
    record = {name: value for name, value in {**run.record, "status": "finished", "test": TEST, **changed}.items() if value is not None}
    with pytest.raises(tfcnn.InputError, match=f"damaged.*{reason}") as refused:
        tfcnn.export(write_record(run.path, record), formats=["tflite_float32"])
    assert str(refused.value).count("train again") == 1 and not list((run.path / "exports").glob("*.tflite"))


def test_a_format_whose_extra_is_missing_names_the_command(run_copy, monkeypatch):
    monkeypatch.setitem(EXPORTERS, "onnx", EXPORTERS["onnx"]._replace(modules=("no_such_module",)))
    with pytest.raises(tfcnn.InputError, match=r"pip install -c constraints\.txt '\.\[onnx\]'"):
        tfcnn.export(*run_copy, formats=["onnx"])


def test_without_the_photos_files_are_compared_with_keras_on_the_calibration_photos(run_copy, monkeypatch, caplog):
    def gone(run, split):
        raise tfcnn.InputError("the photos are missing")

    run, _ = run_copy
    monkeypatch.setattr(gate, "load_run_data", gone)
    float32, int8 = tfcnn.export(run, formats=["tflite_float32", "tflite_int8"])
    assert (float32.photos, float32.n, float32.accuracy, float32.verdict, float32.agreement) == ("calibration", 36, None, "accepted", 1.0)
    assert int8.path == "exports/int8.tflite" and int8.verdict == "undecided" and "only parity" in int8.reason
    assert "says nothing of accuracy" in caplog.text
    with pytest.raises(tfcnn.InputError, match="golden photos of"):
        tfcnn.export(run, formats=["tflite_float32"], bundle=run.path / "app.zip")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_a_network_that_computes_in_16_bits_is_exported_in_float32(run_copy, policy):
    run, data = run_copy
    model = recast(run.load_model(), policy)
    assert model.get_layer("backbone").layers[-1].compute_dtype == policy.removeprefix("mixed_")
    model.save(run.path / "model.keras")
    formats = ["tflite_float32", "tflite_int8"] if policy == "mixed_bfloat16" else [name for name in EXPORTERS if has_extra(name)]
    exports = tfcnn.export(run, data, formats=formats)
    assert all(e.agreement == 1.0 and e.max_score_difference < 1e-2 for e in exports if e.format in ("saved_model", "tflite_float32", "tflite_float16", "onnx"))
    assert all(e.agreement > 0.9 for e in exports if e.agreement is not None) and [e.format for e in exports] == formats


def test_other_photos_are_not_called_the_test_split(run_copy, tmp_path, monkeypatch):
    run, data = run_copy
    other = tfcnn.load_images(make_photos(tmp_path / "other", count=5, seed=9), image_size=32, split=None)
    (row,) = tfcnn.export(run, other, formats=["tflite_float32"], bundle=tmp_path / "app.zip")
    assert (row.photos, row.n) == ("other", 15) and "test" not in tfcnn.load_run(run.path).record  # no accuracy of the run
    with zipfile.ZipFile(tmp_path / "app.zip") as archive:
        assert not any(name.endswith("card.md") for name in archive.namelist())
    (row,) = tfcnn.export(run, data, formats=["tflite_float32"])
    assert (row.photos, row.n) == ("test", 24)


def test_calibration_photos_that_were_changed_are_refused(run_copy):
    run, data = run_copy
    (run.path / "calibration.npz").write_bytes(b"x")
    with pytest.raises(tfcnn.InputError, match="changed or is damaged"):
        tfcnn.export(run, data, formats=["tflite_float32"])


def test_calibrated_scores_change_no_answer_and_are_less_surprising(run_copy):
    run, data = run_copy
    (export,) = tfcnn.export(run, data, formats=["tflite_float32"], calibrate_scores=True, score_threshold=0.25)
    contract = read_tflite(run.path / export.path).contract
    assert export.agreement == 1.0 and contract["output"]["score_threshold"] == 0.25
    assert contract["output"]["temperature"] == run.record["temperature"] != 1.0
    assert export.details["temperature"] == run.record["temperature"] and export.details["score_threshold"] == 0.25
    plain = forward(run.load_model(), data.photos(data.rows("test")))
    scaled = scores_of("tflite", run.path / export.path, data.photos(data.rows("test")))
    powers = plain ** (1 / run.record["temperature"])
    np.testing.assert_allclose(scaled, powers / powers.sum(axis=1, keepdims=True), atol=1e-4)


def test_the_ladder_passes_over_bad_files_and_stops_at_the_first_good_one(run_copy, monkeypatch):
    run, data = run_copy
    whole = check.run_file
    bad = lambda runtime, path, photos: (m := whole(runtime, path, photos))._replace(scores=m.scores[:, ::-1] if "int8.tflite" in path.name else m.scores)
    monkeypatch.setattr(check, "run_file", bad)
    monkeypatch.setattr(ladder, "LADDER", ("tflite_int8", "tflite_float16", "tflite_float32"))
    rungs = tfcnn.export(run, data, formats=["auto"])
    assert [(r.format, r.accepted, r.chosen) for r in rungs] == [("tflite_int8", False, False), ("tflite_float16", True, True)]
    rungs = tfcnn.export(run, data, formats=["auto"], max_bytes=10)
    assert not any(r.chosen for r in rungs) and "more than the 10 allowed" in rungs[-1].details["over_budget"]
    with pytest.raises(tfcnn.InputError, match="only 'auto' chooses by it"):
        tfcnn.export(run, data, formats=["tflite_int8"], max_bytes=10)


def test_the_ladder_passes_over_what_cannot_be_written(run_copy, monkeypatch, caplog):
    def refuse(material, path):
        raise RuntimeError("Quantization not yet supported for op")

    run, data = run_copy
    monkeypatch.setattr(ladder, "LADDER", ("tflite_int8", "tflite_float16"))
    monkeypatch.setitem(EXPORTERS, "tflite_int8", EXPORTERS["tflite_int8"]._replace(write=refuse))
    assert [(rung.format, rung.chosen) for rung in tfcnn.export(run, data, formats=["auto"])] == [("tflite_float16", True)]
    assert "tflite_int8 is passed over" in caplog.text
    monkeypatch.setattr(ladder, "LADDER", ("tflite_int8",))
    with pytest.raises(tfcnn.WorkError, match="not yet supported"):
        tfcnn.export(run, data, formats=["auto"])


@pytest.mark.slow
def test_a_bundle_has_the_file_that_auto_settled_on_and_golden_scores_as_they_were_exported(run_copy, monkeypatch):
    run, data = run_copy
    monkeypatch.setattr(ladder, "LADDER", ("tflite_float32", "tflite_float16"))
    (alone,) = tfcnn.export(run, data, formats=["tflite_float16"])
    path = run.path / "app.zip"
    rungs = tfcnn.export(run, data, formats=["auto"], max_bytes=alone.bytes + 1000, calibrate_scores=True, score_threshold=0.25,
                         data_licence="CC0", bundle=path)
    assert [(rung.accepted, rung.chosen) for rung in rungs] == [(True, False), (True, True)]
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        golden = json.loads(archive.read(next(name for name in names if name.endswith("expected.json"))))
        card = archive.read(next(name for name in names if name.endswith("card.md"))).decode()
        description = json.loads(archive.read(next(name for name in names if name.endswith("model.json"))))
    assert [Path(name).name for name in names if "/models/" in name] == ["float16.tflite"]
    assert "on 24 test photos" in card and "Their licence: CC0" in card and description["score_threshold"] == 0.25
    assert golden["photos"]
    for row in golden["photos"]:
        assert row["keras"][0]["score"] == pytest.approx(row["expected"]["float16.tflite"][0]["score"], abs=2e-3)


def test_what_cannot_be_bundled_is_refused_before_the_work_and_what_failed_is_told_after_it(run_copy, monkeypatch, caplog):
    run, data = run_copy
    with pytest.raises(tfcnn.InputError, match="a format of TFLite"):
        tfcnn.export(run, data, formats=["saved_model"], bundle=run.path / "app.zip")
    with pytest.raises(tfcnn.InputError, match="the format saved_model with encoded, got tflite_float32"):
        tfcnn.export(run, data, formats=["tflite_float32"], encoded=True)
    whole = check.run_file
    monkeypatch.setattr(check, "run_file", lambda *arguments: (m := whole(*arguments))._replace(scores=m.scores[:, ::-1]))
    (bad,) = tfcnn.export(run, data, formats=["tflite_float32"], bundle=run.path / "app.zip")
    assert not bad.accepted and "no bundle was written" in caplog.text and not (run.path / "app.zip").exists()


def test_another_auto_forgets_what_was_chosen_before(run_copy, monkeypatch):
    run, data = run_copy
    for name in ("tflite_float32", "tflite_float16"):
        monkeypatch.setattr(ladder, "LADDER", (name,))
        assert tfcnn.export(run, data, formats=["auto"])[0].chosen
    assert {row["format"]: row["chosen"] for row in tfcnn.load_run(run.path).record["exports"]} == {"tflite_float32": None, "tflite_float16": True}


def test_a_latency_beyond_the_budget_is_passed_over(run_copy, monkeypatch):
    run, data = run_copy
    monkeypatch.setattr(ladder, "LADDER", ("tflite_float16",))
    (rung,) = tfcnn.export(run, data, formats=["auto"], max_host_latency_ms=1e-6)
    assert rung.accepted and not rung.chosen and "ms a photo on this host are more than the 1e-06 allowed" in rung.details["over_budget"]


def test_a_run_is_exported_by_one_process_at_a_time(run_copy):
    run, data = run_copy
    with alone_in(run.path / "exports"), pytest.raises(tfcnn.InputError, match="another process does"):
        tfcnn.export(run, data, formats=["tflite_float32"])


@pytest.mark.parametrize(("plain", "blamed"), [(1.0, True), (0.0, False)])
def test_an_8_bit_file_that_changes_answers_is_run_by_other_kernels_too(run_copy, monkeypatch, plain, blamed):
    run, data = run_copy
    right = forward(run.load_model(), data.photos(data.rows("test")))
    monkeypatch.setattr(check, "run_file", lambda *arguments: (m := run_file(*arguments))._replace(scores=m.scores[:, ::-1]))
    monkeypatch.setattr(check, "scores_of", lambda *arguments: right if plain else right[:, ::-1])
    (result,) = tfcnn.export(run, data, formats=["tflite_dynamic"])
    assert ("the 8-bit kernels of this processor are to blame" in result.reason) == blamed
    assert not result.accepted and (result.details["agreement_plain_kernels"] > result.agreement) == blamed


def test_test_photos_are_enough_to_check_with(run_copy, photos, tmp_path, monkeypatch):
    """Training photos may be gone."""
    run, data = run_copy
    shutil.copytree(photos, tmp_path / "photos")
    items = (run.path / "items.csv").read_text().replace(str(photos.resolve()), str((tmp_path / "photos").resolve()))
    (run.path / "items.csv").write_text(items)
    for row in data.rows("train"):
        (tmp_path / "photos" / Path(data.items[row].path).relative_to(photos.resolve())).unlink()
    (result,) = tfcnn.export(run.path, formats=["tflite_float32"])
    assert (result.photos, result.n) == ("test", 24)


def test_export_writes_what_it_measured_into_the_record(run_copy):
    run, data = run_copy
    exports = tfcnn.export(run, data, formats=["tflite_float32", "tflite_float16"])
    assert [e.format for e in exports] == ["tflite_float32", "tflite_float16"]
    for e in exports:
        assert e.accepted and e.n == 24 and e.agreement == 1.0
        assert e.bytes == (run.path / e.path).stat().st_size
    stored = json.loads((run.path / "run.json").read_text())["exports"]
    assert stored == json.loads(json.dumps([vars(e) for e in exports]))
    assert len((run.path / "exports" / "changes" / "tflite_float16.csv").read_text().splitlines()) == 1 + exports[1].changed
    tfcnn.export(run, data, formats=["tflite_float16"])  # again: replaces its row, keeps the other
    assert sorted(e["format"] for e in tfcnn.load_run(run.path).record["exports"]) == ["tflite_float16", "tflite_float32"]


def test_export_finds_the_photos_of_the_run_by_itself(run_copy):
    run, data = run_copy
    (e,) = tfcnn.export(run.path, formats=["tflite_float32"])
    assert e.n == len(data.rows("test")) and e.accepted


def planted(change, exact=True):
    """A format whose file is good but whose scores are changed on the way out."""
    return change, Exporter("planted.tflite", write_float32, "tflite", "planted", exact=exact)


def export_planted(monkeypatch, run_copy, change_and_exporter):
    change, exporter = change_and_exporter
    run, data = run_copy
    monkeypatch.setitem(EXPORTERS, "planted", exporter)
    with monkeypatch.context() as patch:
        patch.setattr(check, "run_file", lambda *arguments: (m := run_file(*arguments))._replace(scores=change(m.scores)))
        (result,) = tfcnn.export(run, data, formats=["planted"])
    return run, result


def test_a_file_that_lost_accuracy_is_rejected_and_kept_aside(monkeypatch, run_copy):
    run, e = export_planted(monkeypatch, run_copy, planted(lambda scores: scores[:, ::-1], exact=False))
    assert not e.accepted and e.verdict == "rejected" and "points against Keras" in e.reason
    assert e.path == "exports/rejected/planted.tflite" and (run.path / e.path).exists()
    assert not (run.path / "exports" / "planted.tflite").exists()


def test_scores_that_are_not_finite_are_rejected_by_name(monkeypatch, run_copy):
    run, e = export_planted(monkeypatch, run_copy, planted(lambda scores: scores * np.nan))
    assert not e.accepted and "scores are NaN or infinite for" in e.reason and e.max_score_difference is None
    json.loads((run.path / "run.json").read_text(), parse_constant=lambda name: pytest.fail(f"run.json holds {name}"))


def test_a_new_verdict_replaces_the_old_file(monkeypatch, run_copy):
    run, bad = export_planted(monkeypatch, run_copy, planted(lambda scores: scores[:, ::-1]))
    run, good = export_planted(monkeypatch, run_copy, planted(lambda scores: scores))
    assert good.accepted and (run.path / good.path).exists() and not (run.path / bad.path).exists()


@pytest.mark.parametrize("name", ["onnx", "coreml"])
def test_a_network_with_gelu_is_exported(tmp_path, name):
    """As ViT and ConvNeXt have it; TensorFlow computes it by erfc, which neither format has."""
    skip_without_extra(name)
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    features = keras.layers.Conv2D(4, 3, activation="gelu")(keras.layers.Rescaling(1 / 64)(image))
    model = tfcnn.build_classifier(keras.Model(image, features), labels=["a", "b", "c"], weights=None)
    photos = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    path = tmp_path / EXPORTERS[name].file
    EXPORTERS[name].write(material_of(model, ["a", "b", "c"], tmp_path / "kept", photos), path)
    assert path.exists()
    if EXPORTERS[name].runtime:
        np.testing.assert_allclose(run_file(EXPORTERS[name].runtime, path, photos).scores, forward(model, photos), atol=1e-5)


def test_a_failing_converter_leaves_no_file_and_one_line(monkeypatch, run_copy):
    def write(material, path):
        path.write_bytes(b"half")
        raise RuntimeError("converter broke\nand said more")

    run, data = run_copy
    monkeypatch.setitem(EXPORTERS, "planted", Exporter("planted.tflite", write, "tflite", "planted", exact=True))
    with pytest.raises(tfcnn.WorkError, match=r"converter broke$"):
        tfcnn.export(run, data, formats=["planted"])
    assert not [p for p in (run.path / "exports").rglob("*") if p.is_file()]


# A process that exports the run argv[1] and kills itself where it comes to the function argv[2] of check or gate.
KILLED = """
import os, signal, sys
import tfcnn
from tfcnn.export import check, gate
setattr(check if hasattr(check, sys.argv[2]) else gate, sys.argv[2], lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL))
tfcnn.export(sys.argv[1], formats=["tflite_float32"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", ["run_file", "compare", "publish", "_record"])
def test_an_export_that_is_killed_leaves_no_half_file_under_a_good_name(run_copy, point):
    run, data = run_copy
    (before,) = tfcnn.export(run, data, formats=["tflite_float32"])
    complete = (run.path / before.path).read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED, str(run.path), point], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    named = [path for path in (run.path / "exports").rglob("*") if path.is_file() and not any(part.startswith((".tmp-", ".lock")) for part in path.parts)]
    assert sorted(path.name for path in named) == ["float32.tflite", "tflite_float32.csv"]
    assert (run.path / before.path).read_bytes() == complete
    assert [path.name for path in (run.path / "exports").glob(".tmp-*")] if point != "_record" else True
    (after,) = tfcnn.export(run, data, formats=["tflite_float32"])
    assert after.accepted and not list(run.path.rglob(".tmp-*"))


def test_an_unknown_format_is_named_with_the_closest(run_copy):
    with pytest.raises(tfcnn.InputError, match="did you mean 'tflite_int8'"):
        tfcnn.export(*run_copy, formats=["tflite_int"])
    with pytest.raises(tfcnn.InputError, match="list of formats"):
        tfcnn.export(*run_copy, formats="tflite_int8")


def test_calibration_takes_the_labels_in_turn(trained):
    _, data, _ = trained
    photos, held_out = choose_calibration(data)
    assert len(photos) == len(data.rows("train")) == 24 and len(held_out) == len(data.rows("validation")) == 12
    lit = [int(np.argmax(photo.reshape(-1, 3).mean(axis=0))) for photo in photos]  # the brightest channel is the class
    assert all(sorted(lit[i:i + 3]) == [0, 1, 2] for i in range(0, 24, 3))


def test_a_failing_format_does_not_hide_those_before_it(monkeypatch, run_copy):
    def write(material, path):
        raise RuntimeError("converter broke")

    run, data = run_copy
    monkeypatch.setitem(EXPORTERS, "planted", Exporter("planted.tflite", write, "tflite", "planted", exact=True))
    with pytest.raises(tfcnn.WorkError, match="converter broke"):
        tfcnn.export(run, data, formats=["tflite_float32", "planted"])
    assert [e["format"] for e in tfcnn.load_run(run.path).record["exports"]] == ["tflite_float32"]


def test_data_that_does_not_fit_the_run_is_refused(trained, photos):
    run, _, _ = trained
    with pytest.raises(tfcnn.InputError, match="load them with image_size=32"):
        tfcnn.export(run, tfcnn.load_images(photos, image_size=16), formats=["tflite_float32"])
    with pytest.raises(tfcnn.InputError, match="load them with image_size=32"):
        tfcnn.evaluate(run, tfcnn.load_images(photos, image_size=16))
