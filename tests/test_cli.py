"""The command line: the whole flow on made photos, JSON, exit codes, and bad input in one line."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import make_photos

import tfcnn
from tfcnn.cli import main

SMALL = ["--weights", "none", "--image-size", "32", "--epochs", "1", "--batch-size", "8"]


def run(capsys, *arguments) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of one command."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as done:  # argparse
        code = done.code
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *arguments, code=2) -> str:
    """The one line that a command is refused with; lines of stages that were done may stand before it."""
    got, out, err = run(capsys, *arguments)
    assert got == code, err
    *stages, line = err.strip().splitlines()
    assert line.startswith("tfcnn: expected "), err
    assert all(stage.endswith(" s") or stage == "training on the CPU" for stage in stages), err
    assert out == ""
    return line


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    """A run made by the command line on made photos with one file that is no photo."""
    source = tmp_path_factory.mktemp("cli") / "photos"
    shutil.copytree(photos, source)
    whole = (source / "red" / "00.jpg").read_bytes()
    (source / "red" / "00.jpg").write_bytes(whole[:len(whole) // 2])
    output = source.parent / "run"
    done = subprocess.run([sys.executable, "-m", "tfcnn", "train", str(source), *SMALL, "--output", str(output), "--json"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output, done


def test_train_prints_json_last_and_stages_to_standard_error(finished):
    output, done = finished
    values = json.loads(done.stdout.strip().splitlines()[-1])
    assert values["run"] == str(output) and values["labels"] == ["blue", "green", "red"]
    assert values["test"]["n"] == 12 and 0 <= values["test"]["accuracy"] <= 1
    assert values["validation"]["n"] == 6 and values["seconds"] > 0
    assert [e["format"] for e in values["exports"]] == ["saved_model", "tflite_float32", "tflite_float16"]
    assert "decode photos" in done.stderr and "fine-tune, 1 epochs" in done.stderr and "Traceback" not in done.stderr
    assert "0000 00:00" not in done.stderr  # nothing of TensorFlow's C++ log


def test_a_truncated_photo_is_skipped_listed_and_counted(finished):
    output, done = finished
    (left_out,) = json.loads(done.stdout.strip().splitlines()[-1])["quarantined"]
    assert left_out["path"].endswith("red/00.jpg") and "truncated" in left_out["reason"]
    assert "1 of the files were left out" in done.stdout
    assert (output / "items.csv").read_text().count("\n") == 60  # a header and 59 photos


def test_the_run_folder_is_complete(finished):
    output, _ = finished
    names = {p.name for p in output.iterdir()}
    assert names == {"model.keras", "labels.txt", "run.json", "history.csv", "items.csv", "report.html", "card.md", "exports"}
    assert {p.name for p in (output / "exports").iterdir()} == {"saved_model", "float32.tflite", "float16.tflite"}
    assert tfcnn.load_run(output).record["status"] == "finished"


def test_plain_keras_opens_the_model_without_tfcnn(finished):
    code = f"import sys, keras; m = keras.models.load_model(r'{finished[0] / 'model.keras'}'); print(m.input_shape, 'tfcnn' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "(None, 32, 32, 3) False"


def test_evaluate_gives_the_numbers_of_the_training(finished, capsys):
    output, done = finished
    code, out, _ = run(capsys, "evaluate", output, "--json")
    trained = json.loads(done.stdout.strip().splitlines()[-1])
    assert code == 0
    assert json.loads(out.strip().splitlines()[-1])["test"] == trained["test"]


def test_evaluate_on_another_folder_takes_all_of_it(finished, capsys, tmp_path):
    other = make_photos(tmp_path / "other", count=5, seed=9)
    code, out, _ = run(capsys, "evaluate", finished[0], other, "--json")
    assert code == 0 and json.loads(out.strip().splitlines()[-1])["test"]["n"] == 15


def test_predict_names_the_label_of_each_file(finished, photos, capsys):
    files = sorted((photos / "red").glob("*.jpg"))[:2]
    code, out, _ = run(capsys, "predict", finished[0], *files, "--json")
    rows = json.loads(out.strip().splitlines()[-1])["predictions"]
    assert code == 0 and [row["name"] for row in rows] == [str(f) for f in files]
    assert all(row["label"] == max(row["scores"], key=row["scores"].get) for row in rows)
    assert all(sum(row["scores"].values()) == pytest.approx(1, abs=1e-5) for row in rows)


def test_export_exits_1_if_a_file_that_was_asked_for_is_rejected(finished, capsys, tmp_path, monkeypatch):
    from tfcnn.export import formats

    copy = tmp_path / "run"
    shutil.copytree(finished[0], copy)
    code, out, _ = run(capsys, "export", copy, "--format", "tflite_float32", "--json")
    (row,) = json.loads(out.strip().splitlines()[-1])["exports"]
    assert code == 0 and row["accepted"] and set(row) >= {"format", "path", "bytes", "accuracy", "agreement"}

    def broken(path, pixels):
        scores, milliseconds = formats.run_tflite(path, pixels)
        return scores[:, ::-1], milliseconds

    monkeypatch.setitem(formats.EXPORTERS, "tflite_float32", formats.EXPORTERS["tflite_float32"]._replace(run=broken))
    code, out, _ = run(capsys, "export", copy, "--format", "tflite_float32")
    assert code == 1 and "REJECTED" in out


def test_resume_of_a_finished_run_is_a_no_op(finished, capsys):
    output, _ = finished
    before = {p: p.stat().st_mtime_ns for p in output.rglob("*")}
    source = tfcnn.load_run(output).record["data"]["source"]
    code, out, err = run(capsys, "train", source, *SMALL, "--output", output, "--resume", "--json")
    assert "is finished already: nothing is trained; give --overwrite" in err
    assert "epochs (was 1, is 9)" in run(capsys, "train", source, *SMALL, "--epochs", "9", "--output", output, "--resume")[2]
    assert code == 0 and json.loads(out.strip().splitlines()[-1])["run"] == str(output)
    assert {p: p.stat().st_mtime_ns for p in output.rglob("*")} == before


def test_an_output_that_holds_a_run_is_refused_before_any_work(finished, capsys):
    line = refused(capsys, "train", tfcnn.load_run(finished[0]).record["data"]["source"], *SMALL, "--output", finished[0])
    assert "--resume" in line and "--overwrite" in line


@pytest.mark.parametrize(("make", "words"), [
    (lambda folder: None, "there is no"),
    (lambda folder: folder.mkdir(), "found none"),
    (lambda folder: make_photos(folder, classes=("only",)), "files of one class ('only')"),
    (lambda folder: folder.write_text("x"), "is a file"),
])
def test_a_source_that_cannot_be_used(capsys, tmp_path, make, words):
    make(tmp_path / "source")
    assert words in refused(capsys, "train", tmp_path / "source", *SMALL, "--output", tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_class_with_one_photo(capsys, tmp_path):
    source = make_photos(tmp_path / "source", count=4)
    make_photos(tmp_path / "one", classes=("lonely",), count=1)
    shutil.move(tmp_path / "one" / "lonely", source)
    line = refused(capsys, "train", source, *SMALL, "--output", tmp_path / "run")
    assert "found 1 in 'lonely'" in line


@pytest.mark.parametrize(("flags", "words"), [
    (["--backbone", "mobilnet_v3_smal"], "did you mean 'mobilenet_v3_small'?"),
    (["--export", "tflite_int9"], "did you mean 'tflite_int8'?"),
    (["--weights", "no/such.h5"], "there is no file 'no/such.h5'"),
    (["--trainable", "stage9"], "stage4"),
    (["--trainable", "99"], "0 to 6 stages"),
    (["--learning-rate", "7"], "learning_rate=7.0"),
    (["--epochs", "-1"], "epochs=-1"),
    (["--augmentation", "lite"], "light"),
    (["--split", "0.5", "0.5", "0.5"], "add up to 1"),
    (["--image-size", "7"], "image_size=7"),
    (["--strategy", "mirored"], "did you mean 'mirrored'?"),
    (["--hidden", "0"], "hidden=(0,)"),
    (["--overwrite", "--resume"], "got both"),
])
def test_a_flag_that_cannot_be_used(capsys, photos, tmp_path, flags, words):
    assert words in refused(capsys, "train", photos, *SMALL, *flags, "--output", tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_flag_that_is_no_number_is_bad_usage(capsys, photos):
    code, _, err = run(capsys, "train", photos, "--epochs", "many")
    assert code == 2 and "--epochs" in err
    assert run(capsys, "no-such-command")[0] == 2


def test_weights_of_another_network_name_the_layer(capsys, photos, shared, tmp_path):
    weights = shared / "weights" / "mobilenet_v2_1.0_224_from_ptq_no_top.h5"
    line = refused(capsys, "train", photos, "--backbone", "mobilenet_v3_small", "--weights", weights, "--output", tmp_path / "run")
    assert "layer 'conv'" in line and "Conv1" in line and "3x3x3x16" in line and "3x3x3x32" in line


def test_commands_on_a_folder_that_is_no_run(capsys, tmp_path, photos):
    assert "there is no folder" in refused(capsys, "evaluate", tmp_path / "none")
    assert "has no run.json" in refused(capsys, "export", tmp_path)
    assert "there is no file" in refused(capsys, "predict", _finished_copy(tmp_path), "no.jpg")


def _finished_copy(tmp_path: Path) -> Path:
    """A run folder with a record and no more."""
    from tfcnn.record import write_record

    write_record(tmp_path, {"labels": ["a", "b"], "status": "finished", "input_shape": [32, 32, 3]})
    return tmp_path


def test_an_output_that_cannot_be_written(capsys, photos, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(capsys, "train", photos, *SMALL, "--output", tmp_path / "file")
    assert "cannot" in refused(capsys, "train", photos, *SMALL, "--output", tmp_path / "file" / "below")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "not a run" in refused(capsys, "train", photos, *SMALL, "--output", tmp_path / "mine", "--overwrite")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine" and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("limit", [3_000, 200_000, 2_000_000])
def test_a_file_size_limit_in_the_middle_leaves_no_half_file(photos, tmp_path, limit):
    """Like a full disk: small limits stop the store, then the model, then an export; what has a good name is whole."""
    def lower():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run([sys.executable, "-m", "tfcnn", "train", str(photos), *SMALL, "--output", str(tmp_path / "run")],
                          capture_output=True, text=True, preexec_fn=lower,
                          env={**__import__("os").environ, "TFCNN_CACHE": str(tmp_path / "cache")})
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("tfcnn: expected "), done.stderr
    assert "Traceback" not in done.stderr
    left = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert not [p for p in left if p.name.startswith(".tmp-")]
    for file in left:
        if file.suffix == ".keras":
            tfcnn.load_run(tmp_path / "run").load_model()
        if file.suffix in (".json", ".csv", ".txt", ".keys"):
            assert file.stat().st_size > 0
        assert file.suffix != ".tflite" or file.stat().st_size < limit


def test_control_c_leaves_a_run_that_can_be_resumed(photos, tmp_path):
    command = [sys.executable, "-m", "tfcnn", "train", str(photos), *SMALL[:4], "--epochs", "6", "--batch-size", "4", "--export", "none",
               "--output", str(tmp_path / "run"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,  # a background job ignores Ctrl-C
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.time() + 120
    while not list((tmp_path / "run").glob("checkpoint/epoch-*.npz")) and time.time() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1].startswith("tfcnn: interrupted; go on with --resume"), err
    assert tfcnn.load_run(tmp_path / "run").record["status"] == "started"
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "history.csv").read_text().count("\n") == 7
    assert "fine-tune, 6 epochs" not in done.stderr  # it went on, it did not start again


def test_backbones_lists_every_row(capsys):
    code, out, _ = run(capsys, "backbones", "--json")
    assert code == 0 and list(json.loads(out.strip().splitlines()[-1])["backbones"]) == tfcnn.list_backbones()
