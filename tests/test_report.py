"""The page and the card of a run."""

import re
import shutil
from pathlib import Path

import pytest

import tfcnn
from tfcnn.evaluation.evaluate import Report
from tfcnn.evaluation.report import write_report
from tfcnn.finish import make_report_again
from tfcnn.record import write_record

EXPORTED = {"photos": "test", "n": 24, "keras_accuracy": 0.92,
            "accuracy_drop": 0.01, "accuracy_drop_interval": [-0.02, 0.04], "agreement": 1.0, "max_score_difference": 1e-6,
            "milliseconds": 1.5, "latency": {"1": [1.5, 2.0], "2": [1.0, 1.2]}, "memory": 50_000_000, "accepted": True, "verdict": "accepted",
            "reason": "", "details": {"operators": {"CONV_2D": 3, "MEAN": 1}}, "chosen": None}

REMARKS = ("tflite_int8: lost 40 points; scores calibrated, logits divided by 1.250; MediaPipe leaves out labels that score below 0.5; "
           "1 of 9 layers left in float: conv1")


def evaluated(trained, folder, **changes):
    run, data, _ = trained
    shutil.copytree(run.path, folder)
    exports = [
        {**EXPORTED, "format": "tflite_float32", "path": "exports/float32.tflite", "bytes": 1_500_000, "accuracy": 0.91},
        {**EXPORTED, "format": "tflite_int8", "path": "exports/rejected/int8.tflite", "bytes": 400_000, "accuracy": 0.5, "agreement": 0.5,
         "max_score_difference": None, "accepted": False, "verdict": "rejected", "reason": "lost 40 points",
         "details": {"float_layers": ["conv1"], "layers": 9, "temperature": 1.25, "score_threshold": 0.5}},
        {**EXPORTED, **dict.fromkeys(("accuracy", "accuracy_drop", "agreement", "milliseconds", "memory")), "format": "coreml", "latency": {},
         "path": "exports/unchecked/model.mlpackage", "bytes": 400_000, "accepted": False, "verdict": "unchecked"}]
    record = {**run.record, "test": tfcnn.evaluate(run, data).to_dict(), "exports": exports, **changes}
    return write_record(folder, record)


def test_the_page_says_what_was_measured(trained, tmp_path):
    run = evaluated(trained, tmp_path / "run")
    page = write_report(run).read_text()
    assert f"{100 * run.record['test']['accuracy']:.1f} %" in page
    assert "<td>1.50</td>" in page and "rejected, kept aside" in page and REMARKS in page
    assert "1.0 <span class=\"soft\">(-2.0 to 4.0)" in page and "unchecked, kept aside" in page
    assert all(label in page for label in run.labels) and "<svg" in page
    card = (tmp_path / "run" / "card.md").read_text()
    assert "exports/float32.tflite" in card and f"rejected: {REMARKS.removeprefix('tflite_int8: ')} |" in card and "24 for the test" in card
    source = run.record["data"]["source"]
    assert source in page and source not in card and f"{Path(source).name}: " in card  # a card goes to others
    assert "4 operators (CONV_2D 3, MEAN 1)" in card and "benchmark_model" in card


def test_the_page_asks_nothing_of_the_network(trained, tmp_path):
    page = write_report(evaluated(trained, tmp_path / "run")).read_text()
    loads = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"|url\(([^)]*)\)|@import|<script', page)
    assert [target for pair in loads for target in pair if target and not target.startswith(("#", "data:"))] == []


def test_a_label_cannot_put_markup_into_the_page(trained, tmp_path):
    labels = ["<script>", "b|b", "c"]
    test = {**tfcnn.evaluate(*trained[:2]).to_dict(), "labels": labels}
    test["per_label"] = [{**row, "label": label} for row, label in zip(test["per_label"], labels, strict=True)]
    page = write_report(evaluated(trained, tmp_path / "run", labels=labels, test=test)).read_text()
    assert "<script>" not in page and page.count("&lt;script&gt;") >= 3
    card = (tmp_path / "run" / "card.md").read_text()
    assert "| b\\|b | " in card and "\\<script\\>" in card and "<script>" not in card
    cell = Report(**test)._repr_html_()
    assert "<script>" not in cell and "&lt;script&gt;" in cell


@pytest.mark.parametrize(("channels", "words"), [(1, "raw grey (0.299 R + 0.587 G + 0.114 B) pixels"), (3, "raw RGB pixels"), (4, "raw four-channel pixels")])
def test_page_and_card_say_what_the_pixels_are_and_whether_mediapipe_takes_them(trained, tmp_path, channels, words):
    page = write_report(evaluated(trained, tmp_path / "run", input_shape=[32, 32, channels])).read_text()
    card = (tmp_path / "run" / "card.md").read_text()
    assert f"Input: {words} 0 to 255, 32 x 32 x {channels}, upright" in card and words.removeprefix("raw ").removesuffix(" pixels") in page
    for text in (page, card):
        assert ("MediaPipe Tasks takes RGB photos only: an app runs" in text) == (channels != 3)


@pytest.mark.parametrize("part", ["model", "versions", "test", "data", "training"])
def test_a_record_that_lacks_a_part_is_one_line(trained, tmp_path, part):
    run = evaluated(trained, tmp_path / "run")
    (run.path / "report.html").unlink(missing_ok=True)
    write_record(run.path, {key: value for key, value in {**run.record, "status": "finished"}.items() if key != part})
    with pytest.raises(tfcnn.InputError, match=rf"run\.json', but it is damaged \(.*{part}"):
        write_report(run.path)
    assert not (run.path / "report.html").exists()


def test_a_run_without_a_test_and_a_damaged_history_are_one_line(trained, tmp_path):
    with pytest.raises(tfcnn.InputError, match=r"expected an evaluated run, but that in .* has no test yet"):
        write_report(trained[0])
    run = evaluated(trained, tmp_path / "run")
    (run.path / "history.csv").write_text("epoch,loss\n1,\n")
    with pytest.raises(tfcnn.InputError, match=r"history of a run in '.*history\.csv', but it is damaged"):
        write_report(run)


@pytest.mark.parametrize("content", [b"path,split\na.jpg,train\n", b"path,label,split,sha256\n", b"", b"\x82\xff"])
def test_a_damaged_list_of_photos_is_one_line_and_a_page_can_do_without(trained, tmp_path, content):
    run = evaluated(trained, tmp_path / "run")
    (run.path / "items.csv").write_bytes(content)
    with pytest.raises(tfcnn.InputError, match=r"photos of a run in '.*items\.csv', .* but it is damaged"):
        write_report(run)
    (run.path / "items.csv").unlink()
    assert write_report(run).exists()


def test_the_command_that_repeats_a_run_can_be_pasted(trained, tmp_path):
    assert "<code>tfcnn repeat &#39;my run&#39;</code>" in write_report(evaluated(trained, tmp_path / "my run")).read_text()


def test_evaluating_again_gives_a_run_of_an_earlier_version_what_it_lacks(trained, tmp_path):
    run = evaluated(trained, tmp_path / "run", temperature=None)
    (run.path / "scores-validation.npz").unlink()
    assert not tfcnn.evaluate(run).thresholds
    make_report_again(run, again=True)
    again = tfcnn.load_run(run.path)
    assert again.record["temperature"] == pytest.approx(trained[0].record["temperature"]) and len(again.record["test"]["thresholds"]) == 3


def test_page_and_card_say_which_photos_a_file_was_run_on(trained, tmp_path):
    run = evaluated(trained, tmp_path / "run", exports=[{**EXPORTED, "format": name, "path": f"exports/{name}", "bytes": 1, "accuracy": 0.5, "photos": kind}
                                                        for name, kind in (("a", "test"), ("b", "other"), ("c", "calibration"))])
    page, card = write_report(run).read_text(), (run.path / "card.md").read_text()
    assert all(f"<td>24 {kind}</td>" in page and f"| 24 {kind} |" in card for kind in ("test", "other", "calibration"))
    assert "Other photos were given" in page and "says nothing of accuracy" in page


def test_a_run_without_fine_tuning_and_exports_has_a_page_too(trained, tmp_path):
    run = evaluated(trained, tmp_path / "run", exports=[])
    (run.path / "history.csv").unlink()
    page = write_report(run.path).read_text()
    assert "Nothing was exported" in page and "curves of the training" not in page
