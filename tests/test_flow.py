"""The whole flow on real photos, the demo, and the code of the README."""

import re
from pathlib import Path

import pytest

import tfcnn

README = Path(__file__).parents[1] / "README.md"


def test_resume_finishes_a_run_that_was_trained_but_not_exported(photos, tmp_path):
    settings = {"output": tmp_path / "run", "model": tfcnn.ModelConfig(weights="none", image_size=32),
                "training": tfcnn.TrainingConfig(epochs=0), "formats": ["tflite_float32"]}
    run = tfcnn.train_and_export(photos, **settings)
    assert run.record["status"] == "finished" and run.record["exports"][0]["accepted"]
    assert set(run.record["seconds"]) >= {"decode photos", "head on cached features", "export and check tflite_float32", "total"}
    from tfcnn.record import write_record

    half = {key: value for key, value in run.record.items() if key not in ("test", "exports")}
    write_record(run.path, {**half, "status": "trained"})  # as if it was killed after the training
    model = (run.path / "model.keras").read_bytes()
    again = tfcnn.train_and_export(photos, **settings, resume=True)
    assert again.record["status"] == "finished" and again.record["test"] == run.record["test"]
    assert (run.path / "model.keras").read_bytes() == model  # it was not trained again


def test_overwrite_replaces_a_run_and_leaves_nothing_of_it(photos, tmp_path):
    settings = {"output": tmp_path / "run", "model": tfcnn.ModelConfig(weights="none", image_size=32),
                "training": tfcnn.TrainingConfig(epochs=0), "formats": []}
    first = tfcnn.train_and_export(photos, **settings)
    second = tfcnn.train_and_export(photos, **settings, overwrite=True)
    assert second.record["test"] == first.record["test"]  # same seed, same numbers
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.fixture
def settings(tmp_path):
    """A run that takes seconds."""
    return {"output": tmp_path / "run", "model": tfcnn.ModelConfig(weights="none", image_size=32),
            "training": tfcnn.TrainingConfig(epochs=0), "formats": []}


def test_a_trained_run_is_not_finished_on_another_split(photos, settings):
    """With another seed the test photos would be some that it was trained on."""
    from tfcnn.record import write_record

    run = tfcnn.train_and_export(photos, **settings)
    write_record(run.path, {**run.record, "status": "trained"})
    with pytest.raises(tfcnn.InputError, match="photos and split"):
        tfcnn.train_and_export(photos, **{**settings, "training": tfcnn.TrainingConfig(epochs=0, seed=1)}, resume=True)


def test_resume_before_the_first_checkpoint_starts_afresh(photos, settings):
    from tfcnn.record import write_record

    run = tfcnn.train_and_export(photos, **settings)
    (run.path / "model.keras").unlink()
    (run.path / ".tmp-1-model.keras").write_bytes(b"half")  # of a killed process
    write_record(run.path, {**run.record, "status": "started"})
    again = tfcnn.train_and_export(photos, **settings, resume=True)
    assert again.record["status"] == "finished" and again.record["test"] == run.record["test"]
    assert not list(run.path.glob(".tmp-*"))


def test_resume_of_a_finished_run_adds_the_formats_it_was_not_asked_for(photos, settings):
    tfcnn.train_and_export(photos, **settings)
    run = tfcnn.train_and_export(photos, **{**settings, "formats": ["tflite_float32"]}, resume=True)
    assert [e["format"] for e in run.record["exports"]] == ["tflite_float32"]
    assert "float32" in (run.path / "report.html").read_text() and "exports/float32.tflite" in (run.path / "card.md").read_text()


def test_an_output_inside_the_photos_is_refused(photos, settings):
    with pytest.raises(tfcnn.InputError, match="outside of the photos"):
        tfcnn.train_and_export(photos, **{**settings, "output": photos / "runs" / "first"})
    assert not (photos / "runs").exists()


def test_a_keras_model_is_for_the_functions_below_the_flow(photos, settings):
    from tfcnn.models.cnn import build_features

    with pytest.raises(tfcnn.InputError, match="give it to build_classifier"):
        tfcnn.train_and_export(photos, **{**settings, "model": tfcnn.ModelConfig(backbone=build_features((32, 32, 3)))})


def test_a_report_that_cannot_be_written_leaves_a_run_to_be_resumed(photos, settings, monkeypatch):
    import tfcnn.flow as flow

    def full(run):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(flow, "write_report", full)
        with pytest.raises(OSError, match="No space"):
            tfcnn.train_and_export(photos, **settings)
    assert tfcnn.load_run(settings["output"]).record["status"] == "trained"
    run = tfcnn.train_and_export(photos, **settings, resume=True)
    assert run.record["status"] == "finished" and (run.path / "report.html").exists()


def test_the_readme_lists_every_backbone():
    readme = README.read_text()
    for name, row in tfcnn.BACKBONES.items():
        assert f"| `{name}` | {', '.join(stage for stage, _ in row.stages)} | {row.paper} | {row.licence} |" in readme


@pytest.mark.slow
def test_defaults_learn_real_photos(shared, v3_small_weights, tmp_path):
    """One seed of benchmarks/recipe.py; the bar is far below its mean, a broken recipe is far below the bar."""
    run = tfcnn.train_and_export(shared / "trashnet600", output=tmp_path / "waste", model=tfcnn.ModelConfig(weights=str(v3_small_weights)),
                                 formats=["tflite_float32", "tflite_int8"])
    assert run.record["test"]["n"] == 120 and run.record["test"]["accuracy"] > 0.70
    float32 = next(e for e in run.record["exports"] if e["format"] == "tflite_float32")
    assert float32["accepted"] and float32["agreement"] == 1.0 and float32["accuracy"] == run.record["test"]["accuracy"]


@pytest.mark.slow
def test_the_demo_shows_that_transfer_pays(tmp_path):
    from tfcnn.demo import run_demo

    result = run_demo(tmp_path / "demo", seeds=2)
    assert result["train_n"] == 15 and len(result["transfer"]) == len(result["scratch"]) == 2
    assert sum(result["transfer"]) > sum(result["scratch"])
    assert {e["format"] for e in result["exports"]} == set(tfcnn.EXPORTERS)
    assert all(e["accepted"] for e in result["exports"] if e["format"] in ("saved_model", "tflite_float32", "tflite_float16"))
    run_demo(tmp_path / "demo", seeds=1)  # a second demo replaces the first without asking
    with pytest.raises(tfcnn.InputError, match="at least one seed"):
        run_demo(tmp_path / "demo", seeds=0)


@pytest.mark.slow
def test_the_python_example_runs_as_it_is_written(shared, v3_small_weights, tmp_path, monkeypatch):
    """Only the folder and the download are replaced: there is no `flowers/` here and no network."""
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "build_classifier" in block]
    monkeypatch.chdir(tmp_path)
    for label in ("daisy", "rose"):
        (tmp_path / "flowers" / label).mkdir(parents=True)
        for photo in sorted((shared / "flowers128" / label).iterdir())[:30]:
            (tmp_path / "flowers" / label / photo.name).symlink_to(photo)
    assert 'weights="imagenet"' in code
    exec(code.replace('"imagenet"', repr(str(v3_small_weights))), {})
    record = tfcnn.load_run("saved_models/flowers").record
    assert [e["format"] for e in record["exports"]] == ["saved_model", "tflite_float32", "tflite_float16", "tflite_int8"]
    assert record["training"]["trainable"] == 2
