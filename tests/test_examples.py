"""Which photos a report shows, and the report in a browser."""

import base64
import io
import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from test_report import evaluated

from tfcnn.data.scores import scores_of
from tfcnn.data.sources import below
from tfcnn.errors import WorkError
from tfcnn.evaluation import examples
from tfcnn.evaluation.evaluate import score
from tfcnn.evaluation.examples import FILE, OF_A_CELL, OF_ALL_CELLS, _chosen_of_cells, read_examples, write_examples
from tfcnn.evaluation.report import write_report
from tfcnn.record import load_run

AXE = "axe-core@4.14.1"


@pytest.fixture
def run_copy(trained, tmp_path):
    shutil.copytree(trained[0].path, tmp_path / "run")
    return load_run(tmp_path / "run")


def given(data, rows, answers, confidence):
    scores = np.full((len(rows), len(data.labels)), 0.0)
    for place, (answer, sure) in enumerate(zip(answers, confidence, strict=True)):
        scores[place] = (1 - sure) / (len(data.labels) - 1)
        scores[place, answer] = sure
    return scores_of(data, rows, scores)


def test_the_surest_mistakes_and_the_least_certain_answers_come_first(trained, run_copy):
    _, data, model = trained
    rows = data.rows("test")[:6]
    targets = data.targets(rows)
    answers = [*((targets[:3] + 1) % 3), *targets[3:]]
    write_examples(run_copy, data, given(data, rows, answers, [0.5, 0.9, 0.7, 0.95, 0.4, 0.99]), model=model)
    found = read_examples(run_copy)
    assert [round(row["score"], 2) for row in found["worst"]] == [0.9, 0.7, 0.5] and all(row["label"] != row["answer"] for row in found["worst"])
    assert [round(row["score"], 2) for row in found["uncertain"]][:2] == [0.4, 0.5] and len(found["uncertain"]) == 6
    for row in found["worst"]:
        for name in ("photo", "heat"):
            assert Image.open(io.BytesIO(base64.b64decode(row[name]))).size == (32, 32)
        assert not row["path"].startswith("/") and row["path"].startswith(row["label"])
    assert sum(len(cell["photos"]) for cell in found["cells"]) == 6


def test_all_right_and_one_photo_are_shown_too(trained, run_copy):
    _, data, model = trained
    rows = data.rows("test")[:1]
    write_examples(run_copy, data, given(data, rows, data.targets(rows), [0.9]), model=model)
    found = read_examples(run_copy)
    assert found["worst"] == [] and len(found["uncertain"]) == 1 and len(found["cells"]) == 1


def test_each_cell_has_photos_and_the_page_stays_small():
    rng = np.random.default_rng(0)
    targets, answers = rng.integers(0, 30, 10_000), rng.integers(0, 30, 10_000)
    chosen = _chosen_of_cells(targets, answers)
    assert sum(map(len, chosen.values())) == OF_ALL_CELLS and all(target != answer for target, answer in chosen)  # mistakes before right answers
    few = _chosen_of_cells(np.zeros(100, int), np.repeat([0, 1], 50))
    assert {cell: len(places) for cell, places in few.items()} == {(0, 0): OF_A_CELL, (0, 1): OF_A_CELL} and few[0, 1] == list(range(50, 50 + OF_A_CELL))


def test_damaged_examples_are_none(run_copy, caplog):
    for text in ("{", "{}", "[]", '{"worst": 1, "uncertain": [], "cells": []}', '{"worst": [{"path": "a"}], "uncertain": [], "cells": []}',
                 '{"worst": [], "uncertain": [], "cells": [{"target": 9, "answer": 0, "photos": []}]}'):
        (run_copy.path / FILE).write_text(text)
        caplog.clear()
        assert read_examples(run_copy) == {"worst": [], "uncertain": [], "cells": []} and "'tfcnn report --again' chooses them anew" in caplog.text


def test_a_network_without_gradients_is_shown_without_heat(trained, run_copy, monkeypatch, caplog):
    """The training is done: it is not lost for a picture."""
    _, data, model = trained
    rows = data.rows("test")[:2]

    def fail(*given):
        raise WorkError("expected finite gradients")

    monkeypatch.setattr(examples, "heat_maps", fail)
    write_examples(run_copy, data, given(data, rows, (data.targets(rows) + 1) % 3, [0.9, 0.8]), model=model)
    assert "no heat maps are kept for the report: expected finite gradients" in caplog.text
    page = write_report(evaluated((run_copy, data, model), run_copy.path.with_name("other"))).read_text()
    assert "rests on\">" not in page and "The surest mistakes" in page


def test_paths_are_told_below_the_source(tmp_path):
    (tmp_path / "photos").mkdir()
    assert below(str(tmp_path / "photos"), str(tmp_path / "photos" / "a" / "x.jpg")) == "a/x.jpg"
    assert below("", "array/3") == "array/3" and below(str(tmp_path), "/else/x.jpg") == "/else/x.jpg"


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """axe-core, fetched with npm."""
    from conftest import missing

    folder = tmp_path_factory.mktemp("axe")
    try:
        subprocess.run(["npm", "pack", AXE], cwd=folder, check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        missing(f"the accessibility of the report is not tested: npm cannot fetch {AXE} ({error})")
    (archive,) = folder.glob("*.tgz")
    shutil.unpack_archive(archive, folder, filter="data")
    return folder / "package" / "axe.min.js"


@pytest.fixture
def report_page(chromium, trained, tmp_path):
    """The report of a run in a browser; fails the test for an error in the console or a request."""
    run = evaluated(trained, tmp_path / "run")
    write_examples(run, trained[1], score(run, trained[1], "test"), model=trained[2])
    said, asked = [], []
    page = chromium.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{write_report(run)}")
    yield page
    page.close()
    assert said == [] and [url for url in asked if not url.startswith(("data:", "file://"))] == []


def test_a_number_of_the_confusion_matrix_leads_to_its_photos(report_page):
    link = report_page.locator("table.confusion a").first
    cell = report_page.locator(link.get_attribute("href"))
    assert not cell.is_visible()
    link.press("Enter")  # as by keyboard
    assert cell.is_visible() and cell.locator("img").count() == min(int(link.inner_text()), OF_A_CELL)
    assert cell.locator("img").first.evaluate("image => image.complete && image.naturalWidth > 0")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_nothing_is_in_the_way_of_a_screen_reader_and_nothing_is_cut_off(report_page, axe, theme, width):
    report_page.emulate_media(color_scheme=theme)
    report_page.set_viewport_size({"width": width, "height": 900})
    report_page.add_script_tag(path=axe)
    found = report_page.evaluate("axe.run()")["violations"]
    assert [(each["id"], each["impact"], each["nodes"][0]["html"]) for each in found] == []
    assert report_page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_examples_are_plain_text(trained, run_copy):
    write_examples(run_copy, trained[1], score(run_copy, trained[1], "test"), model=trained[2])
    assert set(json.loads((run_copy.path / FILE).read_text())) == {"worst", "uncertain", "cells"}
