# Two commands on a fresh machine, nothing else first: make demo, make test. Each makes what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
# Two processes, each with whole files: what a file trains for its tests is trained once.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet

.PHONY: help demo test test-slow lint notebooks docs constraints clean

help:
	@echo "make demo         the whole flow on data that ships with the installation, no download"
	@echo "make test         the default tests (eight to twelve minutes on two cores)"
	@echo "make test-slow    the tests that train for minutes"
	@echo "make lint         ruff and mypy"
	@echo "make notebooks    executes the notebooks into pages of the documentation, docs/notebooks"
	@echo "make docs         the documentation as a site in site/, with the notebooks executed"
	@echo "make constraints  resolve all dependencies and extras anew into constraints.txt"

demo: .venv/core
	$(BIN)/tfcnn demo

test: .venv/dev
	$(PYTEST)

test-slow: .venv/dev
	$(PYTEST) -m slow --no-loadscope-reorder

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/mypy

notebooks: .venv/dev
	rm -rf docs/notebooks
	JUPYTER_PLATFORM_DIRS=1 $(BIN)/jupyter nbconvert --to markdown --execute --template-file notebooks/page.md.j2 --output-dir docs/notebooks notebooks/*.ipynb

.venv/core: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) --constraint constraints.txt --editable .
	touch .venv/core

.venv/dev: .venv/core
	$(PIP) --constraint constraints.txt --editable '.[dev,docs,audio,volume,video,molecule,labels,mediapipe,vit,quantizer,onnx,coreml]'
	touch .venv/dev

# docs/hooks.py finds the pages of the notebooks in docs/notebooks, which git ignores.
docs: notebooks
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# uv finds versions that fit Python 3.11 to 3.13 and every extra at once. It ignores upper bounds of Requires-Python, which pip
# obeys: from 1.3 on, backports-strenum (which ai-edge-litert asks for) does not install on Python 3.11.
constraints: .venv/dev
	$(PIP) uv
	head -n 2 constraints.txt > constraints.new
	echo 'backports-strenum<1.3' | $(BIN)/uv pip compile setup.cfg --constraint - --quiet --universal --python-version 3.11 --all-extras \
		--no-emit-index-url --no-header --no-annotate >> constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf .venv build dist site docs/notebooks *.egg-info .mypy_cache .pytest_cache .ruff_cache
