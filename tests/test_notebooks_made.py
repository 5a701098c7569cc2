"""Notebooks run where no data are but those of the installation; a file of its own, so that another process takes it."""

import pytest
from test_notebooks import NOTEBOOKS, run_notebook


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem != "data"], ids=lambda path: path.stem)  # which is about photos of one's own
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_runs_without_photos(path, monkeypatch):
    monkeypatch.delenv("TFCNN_DATA", raising=False)
    run_notebook(path, monkeypatch)
