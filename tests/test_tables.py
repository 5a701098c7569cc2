"""What notebooks show of results."""

import re

import pytest
from conftest import make_photos

import tfcnn
from tfcnn.export.gate import Exports
from tfcnn.tables import html_list, html_table


def cells_of(text: str) -> list[list[str]]:
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)]


def test_a_table_has_its_values_and_no_markup_of_others():
    text = html_table(("name", "n"), [("<b>x</b>", 3), ("y", None)], "a & b")
    assert cells_of(text) == [["name", "n"], ["&lt;b&gt;x&lt;/b&gt;", "3"], ["y", ""]] and "<p>a &amp; b</p>" in text
    assert html_list([]) == "" and html_list(["<i>"]) == "<ul><li>&lt;i&gt;</li></ul>"


def test_the_freeze_table_says_what_its_text_says(trained):
    plan = tfcnn.set_trainable(trained[2], 1)
    rows = cells_of(plan._repr_html_())
    assert [row[0] for row in rows] == ["stage", *(stage.stage for stage in plan.stages), "total"]
    assert rows[-1][2].replace(",", "") == str(sum(stage.parameters for stage in plan.stages))
    tfcnn.set_trainable(trained[2], False)


def test_an_audit_shows_counts_sentences_and_pictures(tmp_path):
    folder = make_photos(tmp_path / "photos", count=4)
    (folder / "red" / "again.jpg").write_bytes((folder / "blue" / "00.jpg").read_bytes())
    found = tfcnn.audit(folder)
    text = found._repr_html_()
    assert ["red", str(found.counts["red"])] in cells_of(text) and "PROBLEM: 1 photo under several labels" in text
    assert text.count("<img") == 2 and "again.jpg" in text
    (folder / "red" / "again.jpg").unlink()
    assert found._repr_html_().count("<img") == 1  # the other one is still there


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_report_shows_its_numbers_and_its_figure(trained, split):
    report = tfcnn.evaluate(trained[0], trained[1], split=split)
    text = report._repr_html_()
    assert f"{report.accuracy:.3f}" in text and "<svg" in text and all(label in text for label in report.labels)


def test_exports_are_a_list_that_shows_itself(shipped):
    exports = Exports(shipped[2])
    assert list(exports) == list(shipped[2])
    text = exports._repr_html_()
    assert all(export.format in text and f"{export.bytes / 1e6:.2f}" in text for export in exports)
