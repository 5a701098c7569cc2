"""What may import what, and that nothing heavy is loaded before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tfcnn

PACKAGE = Path(tfcnn.__file__).parent
BASE = {"callable", "errors", "files", "hardware", "kept", "kinds", "locks", "progress", "record", "tables", "workers"}  # everybody may import these
MAY_IMPORT = {
    "callable": set(),
    "errors": set(),
    "hardware": set(),
    "locks": set(),
    "files": {"errors", "locks"},
    "kinds": {"errors"},
    "kept": {"errors"},
    "record": {"errors", "files", "kinds", "locks"},
    "progress": set(),
    "tables": set(),
    "workers": {"errors"},
    "data": BASE,
    "models": BASE,
    "training": BASE | {"data", "models"},
    "evaluation": BASE | {"data", "models"},
    "export": BASE | {"data", "models", "evaluation"},
    "finish": BASE | {"data", "models", "training", "evaluation", "export"},
    "flow": BASE | {"data", "models", "training", "evaluation", "export", "finish"},
    "demo": BASE | {"data", "models", "training", "evaluation", "export", "finish"},
    "diagnosis": BASE | {"data", "models", "training"},
    "cross_validation": BASE | {"data", "models", "training", "evaluation", "flow"},
    "labels": BASE | {"data", "models", "training", "evaluation", "flow"},
    "repetition": BASE | {"data", "models", "training", "flow"},
    "search": BASE | {"data", "models", "training", "evaluation", "export", "finish", "flow"},
    "console": {"kinds"},
    "flags": {"errors", "training"},
    "parser": {"__version__", "data", "errors", "kinds", "models", "training", "export", "search", "flags"},
    "completion": {"data", "errors", "evaluation", "kinds", "models", "training", "export", "search"},
    "texts": {"evaluation", "kinds"},
    "cli": BASE | {"data", "models", "training", "evaluation", "export", "finish", "flow", "cross_validation", "demo", "diagnosis", "labels", "repetition",
                   "search", "flags", "parser", "texts", "console", "completion"},
    "__main__": {"cli"},
    "__init__": BASE | {"data", "models", "training", "evaluation", "export", "flow", "cross_validation", "diagnosis", "labels", "repetition", "search"},
}


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(file: Path) -> set[str]:
    """The parts of tfcnn that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file} imports relatively"
            names = [f"tfcnn.{alias.name}" for alias in node.names] if node.module == "tfcnn" else [node.module]
        found |= {name.split(".")[1] for name in names if name.startswith("tfcnn.")}
    return found


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file):
    part = part_of(file)
    assert part in MAY_IMPORT, f"say in MAY_IMPORT what {part} may import"
    assert imports_of(file) - {part} <= MAY_IMPORT[part]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_loads_neither_tensorflow_nor_numpy():
    code = "import sys, tfcnn; print([m for m in ('tensorflow', 'keras', 'numpy', 'PIL', 'sklearn', 'rich') if m in sys.modules])"
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"], ["export", "--help"]])
def test_help_does_not_load_tensorflow(command):
    code = f"""
import sys
from tfcnn.cli import main
try:
    main({command})
except SystemExit as done:
    assert done.code == 0
print([m for m in ('tensorflow', 'keras') if m in sys.modules])"""
    assert run_python(code).strip().splitlines()[-1] == "[]"


def test_every_public_name_is_there_in_any_order_of_imports():
    code = """
import tfcnn.export.formats, tfcnn.flow, tfcnn
for name in tfcnn.__all__:
    assert getattr(tfcnn, name) is not None, name
assert callable(tfcnn.export) and callable(tfcnn.train) and callable(tfcnn.evaluate)
import inspect
print(list(inspect.signature(tfcnn.export).parameters)[:3])
try:
    tfcnn.no_such_name
except AttributeError as error:
    print(error)"""
    assert run_python(code).splitlines() == ["['run', 'data', 'formats']", "module 'tfcnn' has no attribute 'no_such_name'"]


def test_type_checkers_see_the_names_that_are_loaded_lazily():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert sorted(f"{node.module}.{alias.name}" for node in block.body for alias in node.names) == sorted(
        f"{module}.{name}" for name, module in tfcnn._WHERE.items())
