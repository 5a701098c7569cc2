"""The command line: the whole flow on made photos, JSON, exit codes, and bad input in one line."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf
from conftest import make_photos

import tfcnn
from tfcnn.cli import main
from tfcnn.data.photo import pixels_key

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
    assert names == {"model.keras", "labels.txt", "run.json", "history.csv", "items.csv", "report.html", "card.md", "augmentation.jpg", "calibration.npz",
                     "examples.json", "scores-test.npz", "scores-validation.npz", "exports"}
    assert {p.name for p in (output / "exports").iterdir()} == {"saved_model", "float32.tflite", "float16.tflite", "changes"}
    assert tfcnn.load_run(output).record["status"] == "finished"


def test_plain_keras_opens_the_model_without_tfcnn(finished):
    code = f"import sys, keras; m = keras.models.load_model(r'{finished[0] / 'model.keras'}'); print(m.input_shape, 'tfcnn' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "(None, 32, 32, 3) False"


@pytest.mark.parametrize(("kind", "message"), [
    (tf.errors.ResourceExhaustedError, "tfcnn: expected the work to fit into memory, but it did not; give a smaller --batch-size or --image-size\n"),
    (tf.errors.InvalidArgumentError,
     "tfcnn: expected TensorFlow to do its work, but it ended with InvalidArgumentError: no such thing; --verbose shows all of it\n")])
def test_an_error_of_tensorflow_is_one_line(monkeypatch, capsys, kind, message):
    def fail(*_, **__):
        raise kind(None, None, "no such thing\nin a graph")

    monkeypatch.setattr("tfcnn.data.audit.audit", fail)
    code, out, err = run(capsys, "audit", "photos")
    assert (code, out, err) == (1, "", message)


def test_a_reader_that_has_enough_ends_a_command_quietly():
    command = f"set -o pipefail; (sleep 0.2; {sys.executable} -m tfcnn backbones --json) | true"  # nobody reads when it begins to print
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


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


@pytest.mark.slow
def test_export_exits_1_if_a_file_that_was_asked_for_is_rejected(finished, capsys, tmp_path, monkeypatch):
    copy = tmp_path / "run"
    shutil.copytree(finished[0], copy)
    code, out, _ = run(capsys, "export", copy, "--format", "tflite_float32", "--json")
    (row,) = json.loads(out.strip().splitlines()[-1])["exports"]
    assert code == 0 and row["accepted"] and set(row) >= {"format", "path", "bytes", "accuracy", "agreement"}

    from tfcnn.export import check

    whole = check.run_file
    monkeypatch.setattr(check, "run_file", lambda *arguments: (m := whole(*arguments))._replace(scores=m.scores[:, ::-1]))
    code, out, _ = run(capsys, "export", copy, "--format", "tflite_float32")
    assert code == 1 and "rejected: answers as Keras does" in out


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
    (lambda folder: make_photos(folder, classes=("only",)), "those of one class ('only')"),
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
    (["--learning-rate", "7"], "--learning-rate 7.0"),
    (["--learning-rates", "stage9=0.1"], "got one for 'stage9'"),
    (["--learning-rates", "stage4=1e-4", "stage4=1e-5"], "expected one rate for each stage, got several for 'stage4' in --learning-rates"),
    (["--trainable", "-1"], "expected 0 to 6 stages to train, got --trainable -1"),
    (["--learning-rates", "stem=0.1", "--trainable", "3"], "'stem', which stays frozen with --trainable 3; leave it out, or give --trainable stem"),
    (["--optimizer", "adamv"], "did you mean 'adam'?"),
    (["--epochs", "-1"], "got --epochs -1"),
    (["--augmentation", "lite"], "light"),
    (["--split", "0.5", "0.5", "0.5"], "add up to 1"),
    (["--image-size", "7"], "got --image-size 7"),
    (["--strategy", "mirored"], "did you mean 'mirrored'?"),
    (["--hidden", "0"], "got --hidden 0; write --hidden 256 for one layer"),
    (["--activation", "reluu"], "did you mean 'relu'?"),
    (["--pooling", "token"], "mobilenet_v3_small, which has no class token"),
    (["--channels", "2"], "got --channels 2"),
    (["--channels", "4"], "with --channels 4, since photos in files have three"),
    (["--backbone", "vit_b_16", "--image-size", "225"], "give 224 or 240"),
    (["--overwrite", "--resume"], "got both"),
])
def test_a_flag_that_cannot_be_used(capsys, photos, tmp_path, flags, words):
    assert words in refused(capsys, "train", photos, *SMALL, *flags, "--output", tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_rate_without_a_number_is_refused_in_one_line(capsys, photos):
    with pytest.raises(SystemExit) as stop:
        main(["train", str(photos), "--learning-rates", "head"])
    assert stop.value.code == 2 and "expected STAGE=RATE such as head=0.001, got 'head'" in capsys.readouterr().err


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

    write_record(tmp_path, {"labels": ["a", "b"], "status": "finished", "geometry": "stretch", "input_shape": [32, 32, 3]})
    return tmp_path


def test_an_output_that_cannot_be_written(capsys, photos, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(capsys, "train", photos, *SMALL, "--output", tmp_path / "file")
    assert "cannot" in refused(capsys, "train", photos, *SMALL, "--output", tmp_path / "file" / "below")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "not a run" in refused(capsys, "train", photos, *SMALL, "--output", tmp_path / "mine", "--overwrite")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine" and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("limit", [3_000, pytest.param(200_000, marks=pytest.mark.slow), pytest.param(2_000_000, marks=pytest.mark.slow)])
def test_a_file_size_limit_in_the_middle_leaves_no_half_file(photos, tmp_path, limit):
    """Like a full disk: small limits stop the store, then the model, then an export; what has a good name is whole."""
    def lower():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run([sys.executable, "-m", "tfcnn", "train", str(photos), *SMALL, "--output", str(tmp_path / "run")],
                          capture_output=True, text=True, preexec_fn=lower,
                          env={**os.environ, "TFCNN_CACHE": str(tmp_path / "cache")})
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


@pytest.mark.slow
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


def values_of(out) -> dict:
    """The JSON object on the last line of standard output."""
    return json.loads(out.strip().splitlines()[-1])


def refused_at_once(capsys, *arguments) -> str:
    """The only line on standard error: nothing was begun."""
    code, out, err = run(capsys, *arguments)
    (line,) = err.strip().splitlines()
    assert (code, out) == (2, "") and line.startswith("tfcnn: expected ")
    return line


AUDIT = ["--image-size", "32", "--difference", "0.25"]


def test_audit_exits_0_where_there_is_nothing_to_object_to(capsys, photos, tmp_path):
    code, out, err = run(capsys, "audit", photos, *AUDIT, "--strict", "--output", tmp_path / "audit", "--json")
    values = values_of(out)
    assert code == 0 and values["problems"] == values["warnings"] == []
    assert "60 files, 60 readable photos in 3 classes: blue 20, green 20, red 20\nnothing to object to\n" in out
    assert f"pictures: {tmp_path / 'audit' / 'audit.html'}" in out and (tmp_path / "audit" / "audit.html").exists()
    assert [line[:34].strip() for line in err.strip().splitlines()] == ["decode photos", "compare photos", "write the page"]


def test_audit_exits_1_for_warnings_only_where_it_is_strict(capsys, photos, tmp_path):
    command = ["audit", photos, *AUDIT, "--difference", "0.05", "--output", tmp_path / "audit"]
    code, out, _ = run(capsys, *command)
    assert code == 0 and "warning  12 test photos tell" in out
    assert run(capsys, *command, "--strict")[0] == 1


def test_audit_exits_1_for_problems_and_names_all_of_them_in_json(capsys, photos, tmp_path):
    for split in ("train", "test"):
        shutil.copytree(photos, tmp_path / "photos" / split)
    for file in (tmp_path / "photos" / "test").glob("*/*"):
        if file.name > "04.jpg" or file.name < "02.jpg":
            file.unlink()  # 02 to 04 stay: they are in both splits
    folder = tmp_path / "photos" / "train"
    shutil.copy(folder / "red" / "10.jpg", folder / "red" / "ten.jpg")
    shutil.copy(folder / "red" / "11.jpg", folder / "blue" / "eleven.jpg")
    (folder / "green" / "12.jpg").write_bytes(b"text")
    code, out, _ = run(capsys, "audit", tmp_path / "photos", *AUDIT, "--output", tmp_path / "audit", "--json")
    values = values_of(out)
    assert code == 1 and out.count("\nPROBLEM  ") == len(values["problems"]) == 2
    assert set(values) == {"source", "n", "counts", "split_counts", "quarantined", "duplicates", "contradictions", "leaks", "notes", "test",
                           "problems", "warnings", "kind"}
    assert values["source"] == str(tmp_path / "photos") and values["n"] == 71
    assert values["counts"] == {"blue": 24, "green": 22, "red": 24} and values["split_counts"] == {"train": 61, "test": 9}
    assert values["quarantined"] == [
        {"path": path, "reason": f"contradiction: the same photo is labelled '{label}' here and '{other}' in {twin}"} if twin else
        {"path": path, "reason": "not an image: cannot identify image file"} for path, label, other, twin in (
            (str(folder / "blue" / "eleven.jpg"), "blue", "red", folder / "red" / "11.jpg"), (str(folder / "green" / "12.jpg"), "", "", ""),
            (str(folder / "red" / "11.jpg"), "red", "blue", folder / "blue" / "eleven.jpg"))]
    assert values["contradictions"] == [{"kind": "exact", "turned": False, "paths": [str(folder / "blue" / "eleven.jpg"), str(folder / "red" / "11.jpg")],
                                         "labels": ["blue", "red"], "splits": ["train", "train"]}]
    assert len(values["duplicates"]) == 10 and [str(folder / "red" / "10.jpg"), str(folder / "red" / "ten.jpg")] in [d["paths"] for d in values["duplicates"]]
    assert len(values["leaks"]) == 9 and all(sorted(leak["splits"]) == ["test", "train"] for leak in values["leaks"])
    assert values["test"] == {"n": 9, "half_width": 0.2613, "difference": 0.25, "n_needed": 10}


def test_audit_takes_its_name_from_the_source(capsys, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my list.csv").write_text("path,label\n" + "".join(f"{file},{file.parent.name}\n" for file in sorted(photos.glob("*/*.jpg"))))
    for source in (photos, "my list.csv"):
        assert run(capsys, "audit", source, *AUDIT, "--geometry", "letterbox", "--split", "0.5", "0.2", "0.3")[0] == 0
    assert sorted(path.name for path in (tmp_path / "saved_models").iterdir()) == ["my list-audit", "photos-audit"]
    assert json.loads((tmp_path / "saved_models" / "my list-audit" / "audit.json").read_text())["test"]["n"] == 18


def test_audit_that_is_interrupted_says_so(capsys, photos, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("tfcnn.data.audit.audit", interrupt)
    assert run(capsys, "audit", photos) == (130, "", "tfcnn: interrupted\n")


def broken_npz(path):
    path.write_bytes(b"no zip")


@pytest.mark.parametrize("command", ["audit", "train"])
@pytest.mark.parametrize(("name", "make", "words"), [
    ("missing", lambda path: None, "there is no"),
    ("missing.csv", lambda path: None, "there is no"),
    ("empty", lambda path: path.mkdir(), "found none"),
    ("one", lambda path: make_photos(path, classes=("only",), count=2), "those of one class ('only')"),
    ("photos.zip", lambda path: path.write_text("x"), "is a file"),
    ("photos.csv", lambda path: path.write_text("file,label\na.jpg,cat\n"), "column 'path'"),
    ("gone.csv", lambda path: path.write_text("path,label\na.jpg,cat\nb.jpg,dog\n"), "2 cannot be found"),
    ("photos.npz", broken_npz, "cannot be read"),
    ("tfds:zzqqxx", lambda path: None, "tfds.list_builders()"),
    ("tfds:mnistt", lambda path: None, "did you mean 'mnist'?"),
    ("tfds:a b", lambda path: None, "tfds:NAME"),
])
def test_a_source_that_cannot_be_opened_is_refused_before_any_work(capsys, tmp_path, monkeypatch, command, name, make, words):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    if (command, name) == ("audit", "one"):  # which an audit can look at, and says
        code, out, _ = run(capsys, command, name)
        assert code == 1 and "only 1 class; at least two are needed" in out
        return
    assert words in refused_at_once(capsys, command, name, "--output", tmp_path / "output")
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("command", ["audit", "train"])
@pytest.mark.parametrize(("flags", "words"), [
    (["--group-by", "patient"], "got --group-by 'patient'"),
    (["--data-dir", "data"], "got --data-dir 'data'"),
    (["--geometry", "strech"], "did you mean 'stretch'?"),
    (["--image-size", "7"], "got --image-size 7"),
    (["--split", "0.5", "0.5", "0.5"], "add up to 1"),
    (["--split", "1", "0", "0"], "three positive fractions"),
])
def test_a_flag_of_audit_and_train_that_cannot_be_used_is_refused_before_any_work(capsys, photos, tmp_path, command, flags, words):
    assert words in refused_at_once(capsys, command, photos, *flags, "--output", tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_a_difference_that_none_can_see_and_an_output_among_the_photos_are_refused(capsys, photos, tmp_path):
    assert "got --difference 0.0" in refused_at_once(capsys, "audit", photos, "--difference", "0", "--output", tmp_path)
    assert "outside of the photos" in refused_at_once(capsys, "audit", photos, "--output", photos / "audit")
    assert not (photos / "audit").exists()


def test_an_audit_that_cannot_be_written_is_refused_before_any_work(capsys, photos, tmp_path):
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        assert str(tmp_path / "file") in refused_at_once(capsys, "audit", photos, *AUDIT, "--output", output)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("flags", "words"), [
    (["--folds", "1"], "--folds 1"),
    (["--folds", "0"], "--folds 0"),
    (["--fold", "0"], "no --folds"),
    (["--folds", "3", "--fold", "3"], "from 0 to 2, got --fold 3"),
    (["--folds", "3", "--fold", "-1"], "from 0 to 2, got --fold -1"),
    (["--balance", "oversampel"], "did you mean 'oversample'?"),
    (["--like", "no/such/run"], "there is no folder 'no/such/run'"),
    (["--like", "."], "has no run.json"),
    (["--folds", "3", "--like", "."], "--folds 3"),
    (["--folds", "100"], "at least 100"),
])
def test_a_flag_of_the_data_that_cannot_be_used_is_refused_before_any_work(capsys, photos, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "train", photos, *SMALL, *flags, "--output", tmp_path / "run")
    *before, line = err.strip().splitlines()
    assert (code, out) == (2, "") and line.startswith("tfcnn: expected ") and words in line
    assert before == [], "it was refused late"
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("command", ["demo", "audit", "train", "evaluate", "predict", "export", "backbones", "cache"])
def test_every_command_has_a_help(capsys, command):
    code, out, err = run(capsys, command, "--help")
    assert code == 0 and err == "" and out.startswith(f"usage: tfcnn {command} ") and "--json" in out


def test_the_help_of_train_explains_the_flags_of_the_data(capsys):
    out = " ".join(run(capsys, "train", "--help")[1].split())
    for flag, text in (("--geometry GEOMETRY", "letterbox or center_crop. (default: stretch)"), ("--folds FOLDS", "trains once a fold"),
                       ("--like LIKE", "a run folder"), ("--group-by GROUP_BY", "a column of a CSV"), ("--data-dir DATA_DIR", "tensorflow-datasets"),
                       ("--split TRAIN VALIDATION TEST", "(default: 0.7 0.1 0.2)"), ("--balance BALANCE", "class_weight (in the loss)")):
        assert flag in out and text in out.split(flag, 2)[-1][:250], flag


@pytest.mark.parametrize("arguments", [
    ["audit"], ["audit", "photos", "--difference", "much"], ["audit", "photos", "--split", "0.8", "0.2"], ["audit", "photos", "--folds", "3"],
    ["train", "photos", "--folds", "many"], ["train", "photos", "--fold", "1.5"], ["train", "photos", "--geometry"],
    ["cache", "--keep", "all"], ["cache", "photos"], ["audti", "photos"]], ids=" ".join)
def test_bad_usage_is_one_line_that_names_the_help(capsys, arguments):
    code, out, err = run(capsys, *arguments)
    (line,) = err.strip().splitlines()
    assert (code, out) == (2, "") and line.startswith("tfcnn: ") and line.endswith(("--help' lists what there is", "did you mean 'audit'?"))


class Called(Exception):
    """Instead of a training."""


def arguments_of(monkeypatch, *command) -> tuple[str, dict]:
    """Which function of the flow a command calls, and with which keyword arguments."""
    calls = []
    for name, module in (("train_and_export", "flow"), ("cross_validate", "cross_validation")):
        def called(source, *, name=name, **options):
            calls.append((name, {"source": source, **options}))
            raise Called

        monkeypatch.setattr(f"tfcnn.{module}.{name}", called)
    with pytest.raises(Called):
        main([str(argument) for argument in command])
    (call,) = calls
    return call


def test_a_training_without_flags_has_the_defaults(monkeypatch):
    from tfcnn.data.config import DataConfig
    from tfcnn.training.machine import MachineConfig

    name, options = arguments_of(monkeypatch, "train", "some/photos")
    assert name == "train_and_export" and options["source"] == "some/photos" and options["output"] == Path("saved_models/photos")
    assert (options["data"], options["model"], options["training"]) == (DataConfig(), tfcnn.ModelConfig(), tfcnn.TrainingConfig())
    assert options["formats"] == ["saved_model", "tflite_float32", "tflite_float16"]
    assert (options["machine"], options["overwrite"], options["resume"]) == (MachineConfig(), False, False)


def test_every_flag_of_the_machine_arrives_in_the_config(monkeypatch):
    from tfcnn.training.machine import MachineConfig

    flags = ["--strategy", "mirrored", "--devices", "0,2", "--deterministic", "--checkpoint-steps", "7", "--checkpoint-minutes", "2.5"]
    _, options = arguments_of(monkeypatch, "train", "some/photos", *flags)
    assert options["machine"] == MachineConfig("mirrored", (0, 2), True, 7, 2.5)


def test_every_flag_of_the_data_arrives_in_the_config(monkeypatch):
    from tfcnn.data.config import DataConfig

    name, options = arguments_of(monkeypatch, "train", "all.csv", "--geometry", "letterbox", "--split", "0.6", "0.15", "0.25", "--folds", "5", "--fold", "0",
                                 "--like", "runs/first", "--group-by", "patient", "--data-dir", "/data", "--balance", "class_weight", "--no-mirror",
                                 "--seed", "7", "--output", "here")
    assert name == "train_and_export"  # of one fold
    assert options["data"] == DataConfig(geometry="letterbox", split=(0.6, 0.15, 0.25), folds=5, fold=0, like="runs/first", group_by="patient",
                                         data_dir="/data")
    assert options["training"] == tfcnn.TrainingConfig(balance="class_weight", mirror=False, seed=7) and options["output"] == "here"
    assert arguments_of(monkeypatch, "train", "x", "--balance", "oversample", "--mirror")[1]["training"] == tfcnn.TrainingConfig(balance="oversample")


def test_every_flag_of_the_model_arrives_in_the_config(monkeypatch):
    _, options = arguments_of(monkeypatch, "train", "x", "--backbone", "vit_b_16", "--weights", "runs/first", "--image-size", "384", "--pooling", "max",
                              "--hidden", "64,32", "--dropout", "0.5", "--activation", "gelu", "--head-batch-norm", "--channels", "1")
    assert options["model"] == tfcnn.ModelConfig("vit_b_16", "runs/first", 384, "max", (64, 32), 0.5, "gelu", True, 1)
    assert arguments_of(monkeypatch, "train", "x", "--no-head-batch-norm")[1]["model"] == tfcnn.ModelConfig()


def test_flags_have_dashes(capsys):
    out = run(capsys, "train", "--help")[1]
    assert "--head-batch-norm, --no-head-batch-norm" in out and "--mixed-precision" in out
    assert not re.findall(r"--\w*_\w*", out) and "None" not in out.split("--geometry GEOMETRY", 2)[-2]


def test_folds_without_a_fold_are_a_cross_validation_that_exports_only_what_is_asked_for(monkeypatch):
    for flags, formats in (([], []), (["--export", "tflite_int8"], ["tflite_int8"]), (["--export", "none"], [])):
        name, options = arguments_of(monkeypatch, "train", "photos", "--folds", "5", *flags)
        assert name == "cross_validate" and options["data"].folds == 5 and options["data"].fold is None and options["formats"] == formats


def test_repeats_are_of_folds(capsys, monkeypatch):
    assert arguments_of(monkeypatch, "train", "photos", "--folds", "5", "--repeats", "3")[1]["repeats"] == 3
    for flags in (["--repeats", "3"], ["--repeats", "3", "--folds", "5", "--fold", "1"]):
        code, _, err = run(capsys, "train", "photos", *flags)
        assert code == 2 and "expected --folds, all of them, for repeated splits, got --repeats 3" in err


@pytest.mark.parametrize(("source", "name"), [
    ("a/photos", "photos"), ("a/photos/", "photos"), ("a/all.csv", "all"), ("x.y/digits.npz", "digits"), ("a/v1.5", "v1.5"),
    ("tfds:mnist", "mnist"), ("tfds:a/b:1.0.0", "a-b-1-0-0")])
def test_a_run_is_named_after_its_source(monkeypatch, source, name):
    assert arguments_of(monkeypatch, "train", source)[1]["output"] == Path("saved_models") / name


def test_a_cross_validation_prints_each_fold_and_all_of_them(capsys, monkeypatch):
    result = {"folds": 2, "accuracies": [0.75, 0.5], "mean": 0.625, "sd": 0.1768, "n": 8, "accuracy": 0.625, "interval": [0.3057, 0.8632],
              "runs": ["x/fold-0", "x/fold-1"], "repeats": {"seeds": [0], "accuracies": [0.625], "sd": None}}
    monkeypatch.setattr("tfcnn.cross_validation.cross_validate", lambda source, **options: result)
    code, out, _ = run(capsys, "train", "photos", "--folds", "2", "--output", "x", "--json")
    assert code == 0 and values_of(out) == result
    assert "fold-0: accuracy 0.750  x/fold-0\nfold-1: accuracy 0.500  x/fold-1\n" in out
    assert "2 runs: accuracy 0.625 ± 0.177" in out and "all 8 photos, each tested once: 0.625 [0.306, 0.863]" in out


STRETCH, LETTERBOX = (f"photos/{pixels_key(geometry)}-32" for geometry in ("stretch", "letterbox"))


@pytest.fixture
def filled_cache(capsys, photos, tmp_path, monkeypatch):
    """A cache with the photos in two geometries."""
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path / "cache"))
    for geometry in ("stretch", "letterbox"):
        assert run(capsys, "audit", photos, *AUDIT, "--geometry", geometry, "--output", tmp_path / "audit")[0] == 0
    return tmp_path / "cache"


def test_cache_lists_what_it_holds(filled_cache, capsys, monkeypatch):
    monkeypatch.setenv("TFCNN_CACHE_GB", "2.5")
    code, out, err = run(capsys, "cache", "--json")
    values = values_of(out)
    assert code == 0 and err == "" and set(values) == {"folder", "bound", "freed", "bytes", "stores"}
    assert values["folder"] == str(filled_cache) and values["bound"] == 2_500_000_000 and values["freed"] == 0
    assert [store["name"] for store in values["stores"]] == [LETTERBOX, STRETCH, f"thumbnails/{Path(LETTERBOX).name}", f"thumbnails/{Path(STRETCH).name}"]
    assert all(store["rows"] == 60 and store["in_use"] is False and abs(time.time() - store["used"]) < 600 for store in values["stores"])
    assert all(60 * 32 * 32 * 3 < store["bytes"] < 60 * 32 * 32 * 3 + 10_000 for store in values["stores"])
    assert values["bytes"] == sum(store["bytes"] for store in values["stores"])
    assert values["bytes"] == sum(file.stat().st_size for file in filled_cache.rglob("*") if file.is_file())
    assert STRETCH in out and "60 rows" in out and "0.8 MB of at most 2.5 GB (TFCNN_CACHE_GB)" in out and "removed" not in out


def test_cache_clear_removes_all_and_keeps_nothing_from_working(filled_cache, capsys, photos, tmp_path):
    held = values_of(run(capsys, "cache", "--json")[1])["bytes"]
    code, out, _ = run(capsys, "cache", "--clear", "--json")
    values = values_of(out)
    assert code == 0 and values["freed"] == held and values["bytes"] == 0 and "0.8 MB were removed" in out
    assert not [file for file in filled_cache.rglob("*") if file.suffix in (".npy", ".keys")]
    assert values_of(run(capsys, "cache", "--clear", "--json")[1])["freed"] == 0
    assert run(capsys, "audit", photos, *AUDIT, "--output", tmp_path / "audit")[0] == 0
    assert values_of(run(capsys, "cache", "--json")[1])["bytes"] > held / 3


def test_cache_keep_removes_what_was_not_used_for_longest(filled_cache, capsys):
    for file in filled_cache.rglob("*.keys"):
        if "letterbox" in str(file):
            os.utime(file, (1e9, 1e9))
    held = values_of(run(capsys, "cache", "--json")[1])["bytes"]
    code, out, _ = run(capsys, "cache", "--keep", str(held / 1e9 * 0.6), "--json")
    values = values_of(out)
    assert code == 0 and values["freed"] == held - values["bytes"] and values["bytes"] <= held * 0.6
    assert {store["name"]: store["rows"] for store in values["stores"]} == {
        LETTERBOX: 0, STRETCH: 60, f"thumbnails/{Path(LETTERBOX).name}": 0, f"thumbnails/{Path(STRETCH).name}": 60}
    assert values_of(run(capsys, "cache", "--keep", "1", "--json")[1])["freed"] == 0


def test_cache_leaves_alone_what_is_in_use(filled_cache, capsys):
    from tfcnn.data.store import Store

    store = Store(filled_cache / STRETCH)
    values = values_of(run(capsys, "cache", "--clear", "--json")[1])
    assert {entry["name"]: (entry["rows"], entry["in_use"]) for entry in values["stores"]}[STRETCH] == (60, True)
    assert sum(entry["rows"] for entry in values["stores"]) == 60
    del store
    assert values_of(run(capsys, "cache", "--clear", "--json")[1])["bytes"] == 0


def test_an_empty_cache_and_one_that_is_not_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path / "none"))
    for flags in ([], ["--clear"], ["--keep", "0"]):
        code, out, _ = run(capsys, "cache", *flags, "--json")
        assert code == 0 and values_of(out)["stores"] == [] and values_of(out)["bytes"] == values_of(out)["freed"] == 0


@pytest.mark.parametrize("keep", ["-1", "nan", "inf", "1e300"])
def test_a_size_that_no_cache_can_have_is_refused(capsys, keep):
    assert f"--keep {float(keep)}" in refused_at_once(capsys, "cache", "--keep", keep)


@pytest.mark.parametrize("bound", ["much", "-1", "inf", "nan"])
def test_a_bound_of_the_cache_that_is_none_is_refused(capsys, monkeypatch, photos, tmp_path, bound):
    monkeypatch.setenv("TFCNN_CACHE_GB", bound)
    assert f"TFCNN_CACHE_GB={bound}" in refused_at_once(capsys, "cache")
    assert f"TFCNN_CACHE_GB={bound}" in refused_at_once(capsys, "audit", photos, "--output", tmp_path / "audit")


def test_find_rate_suggests_rates_and_draws_them(photos, tmp_path, capsys):
    picture = tmp_path / "pictures" / "rates.png"
    arguments = ["find-rate", str(photos), "--weights", "none", "--image-size", "32", "--steps", "20", "--trainable", "top", "--output", str(picture), "--json"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert found["picture"] == str(picture) and picture.stat().st_size > 5_000
    assert len(found["rates"]) == len(found["losses"]) <= 20 and found["rates"][0] == pytest.approx(1e-6)
    assert any(f"--learning-rate {found['learning_rate']:.1e} --head-learning-rate" in line for line in lines)


@pytest.mark.parametrize(("flags", "words"), [
    (["--output", "rates.xyz"], "a picture that ends in .png"), (["--steps", "5"], "at least 20 steps"), (["--optimizer", "sdg"], "did you mean 'sgd'?"),
    (["--trainable", "none", "--weights", "none"], "stages to fine-tune"),
])
def test_a_range_test_that_cannot_work_is_refused_in_one_line(photos, capsys, flags, words):
    assert main(["find-rate", str(photos), "--image-size", "32", *flags]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tfcnn: ")]
    assert words in line
