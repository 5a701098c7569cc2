"""The page and the card of a run."""

import re
import shutil

import pytest

import tfcnn
from tfcnn.evaluation.report import write_report
from tfcnn.record import write_record


def evaluated(trained, folder, **changes):
    run, data, _ = trained
    shutil.copytree(run.path, folder)
    exports = [
        {"format": "tflite_float32", "path": "exports/float32.tflite", "bytes": 1_500_000, "n": 24, "accuracy": 0.91, "agreement": 1.0,
         "max_score_difference": 1e-6, "milliseconds": 1.5, "accepted": True, "reason": ""},
        {"format": "tflite_int8", "path": "exports/rejected/int8.tflite", "bytes": 400_000, "n": 24, "accuracy": 0.5, "agreement": 0.5,
         "max_score_difference": None, "milliseconds": 1.5, "accepted": False, "reason": "accuracy 0.500 is too low"}]
    record = {**run.record, "test": tfcnn.evaluate(run, data).to_dict(), "exports": exports, **changes}
    return write_record(folder, record)


def test_the_page_says_what_was_measured(trained, tmp_path):
    run = evaluated(trained, tmp_path / "run")
    page = write_report(run).read_text()
    assert f"{100 * run.record['test']['accuracy']:.1f} %" in page
    assert "1.50 MB" in page and "rejected: accuracy 0.500 is too low" in page and "accepted" in page
    assert all(label in page for label in run.labels) and "<svg" in page
    card = (tmp_path / "run" / "card.md").read_text()
    assert "exports/float32.tflite" in card and "no: accuracy 0.500 is too low" in card and "24 for the test" in card


def test_the_page_asks_nothing_of_the_network(trained, tmp_path):
    page = write_report(evaluated(trained, tmp_path / "run")).read_text()
    loads = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"|url\(([^)]*)\)|@import|<script', page)
    assert [target for pair in loads for target in pair if target and not target.startswith("#")] == []


def test_a_label_cannot_put_markup_into_the_page(trained, tmp_path):
    page = write_report(evaluated(trained, tmp_path / "run", labels=["<script>", "b", "c"])).read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize(("channels", "words"), [(1, "raw grey (0.299 R + 0.587 G + 0.114 B) pixels"), (3, "raw RGB pixels"), (4, "raw four-channel pixels")])
def test_page_and_card_say_what_the_pixels_are_and_whether_mediapipe_takes_them(trained, tmp_path, channels, words):
    page = write_report(evaluated(trained, tmp_path / "run", input_shape=[32, 32, channels])).read_text()
    card = (tmp_path / "run" / "card.md").read_text()
    assert f"Input: {words} 0 to 255, 32 x 32 x {channels}, upright" in card and words.removeprefix("raw ").removesuffix(" pixels") in page
    for text in (page, card):
        assert ("MediaPipe Tasks takes RGB photos only: an app runs" in text) == (channels != 3)


def test_a_run_without_fine_tuning_and_exports_has_a_page_too(trained, tmp_path):
    run = evaluated(trained, tmp_path / "run", exports=[])
    (run.path / "history.csv").unlink()
    page = write_report(run.path).read_text()
    assert "Nothing was exported" in page and "<svg" not in page
