"""Type hints: the public functions have all of them, and a type checker that reads the installed package finds wrong calls and no others."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import tfcnn

RIGHT = """
from pathlib import Path

import tfcnn

data = tfcnn.load_images("flowers/", image_size=224)
with tfcnn.make_strategy("auto").scope():
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=data.labels, weights="imagenet")
run: tfcnn.Run = tfcnn.train(model, data, tfcnn.TrainingConfig(trainable=2), output=Path("saved_models") / "flowers")
report = tfcnn.evaluate(run, data, split="test")
exports = tfcnn.export(run, formats=["saved_model", "tflite_int8"])
found = tfcnn.search("flowers/", output="search", backbone=["resnet50"], config=tfcnn.SearchConfig(trials=5))
checked: tfcnn.Audit = tfcnn.audit("flowers/")
print(report.accuracy + 1, [row.bytes for row in exports], run.path.name, found.path, checked.problems, tfcnn.__version__.split("."))
"""
WRONG = {
    'tfcnn.load_images("flowers/", image_size="224")': 'incompatible type "str"; expected "int | None"',
    'tfcnn.evalute("run")': 'Module has no attribute "evalute"',
    'tfcnn.export("run", format=["tflite_int8"])': 'Unexpected keyword argument "format"',
    'tfcnn.train("run", output="run")': 'Missing positional argument "data"',
    'tfcnn.TrainingConfig(epochs="3")': 'incompatible type "str"; expected "int | None"',
    'tfcnn.evaluate("run").acuracy': '"Report" has no attribute "acuracy"',
}


def functions() -> dict[str, object]:
    """The functions that tfcnn exports, and the methods and properties of the classes, by their names."""
    found = {}
    for name in tfcnn.__all__:
        value = getattr(tfcnn, name)
        if not inspect.isclass(value):
            found |= {name: value} if callable(value) else {}
            continue
        public = {f"{name}.{own}": part for own, part in vars(value).items() if not own.startswith("_")}
        found |= {own: getattr(part, "fget", part) for own, part in public.items() if inspect.isroutine(part) or isinstance(part, property)}
    return found


def test_public_functions_and_methods_have_types_for_all_arguments_and_what_they_return():
    assert {"load_images", "train", "evaluate", "export", "search", "Run.load_model", "Dataset.train"} <= set(functions())
    for name, function in functions().items():
        signature = inspect.signature(function)
        lacking = [own.name for own in signature.parameters.values() if own.annotation is own.empty and own.name not in ("self", "cls")]
        assert not lacking and signature.return_annotation is not signature.empty, (name, lacking)


def checked(program: str, python: Path, folder: Path) -> tuple[int, list[str]]:
    """(exit code, lines) of mypy in its strict mode on a program, with the packages that a Python has."""
    (folder / "program.py").write_text(program)
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "--cache-dir", str(folder / "cache"), "program.py"],
                          capture_output=True, text=True, cwd=folder)
    return done.returncode, done.stdout.splitlines()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("types")


def test_a_right_program_passes_the_strict_check(installed, place):
    assert checked(RIGHT, installed[0], place) == (0, ["Success: no issues found in 1 source file"])


def test_each_wrong_call_is_reported_at_its_line(installed, place):
    code, lines = checked("\n".join(["import tfcnn", *WRONG, ""]), installed[0], place)
    assert code == 1 and lines[-1].startswith(f"Found {len(WRONG)} errors in 1 file")
    for number, (call, message) in enumerate(WRONG.items(), start=2):
        assert [line for line in lines if line.startswith(f"program.py:{number}: error: ") and message in line], call
