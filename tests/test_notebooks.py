"""Every notebook runs from top to bottom, is stored without output, defines nothing long, and becomes a page of the documentation."""

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEMPLATE = str(ROOT / "notebooks" / "page.md.j2")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_output(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert cells and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of the converter
def test_a_notebook_becomes_a_page_whose_links_lead_somewhere(path, monkeypatch):
    from nbconvert import MarkdownExporter

    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    source = "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "markdown")
    page, _ = MarkdownExporter(template_file=TEMPLATE).from_filename(path)
    assert page.lstrip().startswith("# ")
    in_repository, in_pages = (_links(text) for text in (source, page))
    assert len(in_repository) == len(in_pages)
    assert all((path.parent / link).exists() for link in in_repository), in_repository
    pages = {f"{other.stem}.md" for other in NOTEBOOKS}
    assert all(link in pages or (link.startswith("../") and (ROOT / "docs" / link[3:]).exists()) for link in in_pages), in_pages


def test_a_page_shows_what_is_printed_and_drawn_and_no_standard_error(monkeypatch):
    from nbconvert import MarkdownExporter
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    outputs = [new_output("stream", name=name, text=f"to {name}") for name in ("stdout", "stderr")]
    outputs += [new_output("display_data", {"text/plain": "Figure", "image/png": "aGVsbG8="})]
    page, _ = MarkdownExporter(template_file=TEMPLATE).from_notebook_node(new_notebook(cells=[new_code_cell("1", outputs=outputs)]))
    assert "    to stdout" in page and "![png]" in page and "stderr" not in page


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of the client that talks to the kernel; the kernel has its own
def test_a_notebook_runs(path, shared, monkeypatch):
    monkeypatch.setenv("TFCNN_DATA", str(shared))
    run_notebook(path, monkeypatch)


def run_notebook(path, monkeypatch):
    """From a clean kernel, in the folder where it lies."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    output = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert not [out for out in output if out.output_type == "error"]
    assert any("image/png" in out.get("data", {}) for out in output), os.fspath(path)


def _links(text: str) -> list[str]:
    """Relative links, without the heading that they may lead to."""
    return [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:|#|data:", link)]
