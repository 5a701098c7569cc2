"""What is built and installed: wheel and sdist hold the package and nothing else, the installed package works alone, and all say one version."""

import configparser
import os
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import AT_THE_TOP, build, make_photos

import tfcnn

ROOT = Path(__file__).parents[1]


def contents_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_all_files_of_the_package_and_nothing_else(tree, built):
    wheel, = built.glob("*.whl")
    assert wheel.name == f"tfcnn-{tfcnn.__version__}-py3-none-any.whl"
    files = {path.relative_to(tree).as_posix() for path in (tree / "tfcnn").rglob("*") if path.is_file()}
    held = {name for name in contents_of(wheel) if ".dist-info/" not in name}
    assert held == files
    endings = {Path(name).suffix for name in held}
    assert "tfcnn/py.typed" in held and endings >= {".html", ".css", ".md", ".kt", ".kts", ".swift", ".js", ".json"}


def test_the_sdist_makes_the_wheel_that_the_tree_makes(tree, built, tmp_path):
    build(tree, tmp_path, "--wheel")
    (of_sdist,), (of_tree,) = built.glob("*.whl"), tmp_path.glob("*.whl")
    assert contents_of(of_sdist) == contents_of(of_tree)
    sdist, = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert {f"tfcnn-{tfcnn.__version__}/{name}" for name in AT_THE_TOP} <= set(archive.getnames())


def test_one_place_says_the_version():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["metadata"]["version"] == "attr: tfcnn.__version__"
    assert f"\n## {tfcnn.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_names_this_version_and_licence():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software" and cited["message"] and cited["title"]
    assert str(cited["version"]) == tfcnn.__version__ and cited["authors"] == [{"name": "tfcnn contributors"}]
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert cited["license"] == setup["metadata"]["license"]


def alone(installed, *command: str) -> str:
    """Standard output of a command in the environment, in its folder, with nothing of the checkout on the path."""
    python, folder = installed
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"TFCNN_CACHE": str(folder / "cache")}
    done = subprocess.run([str(python.with_name(command[0])), *command[1:]], capture_output=True, text=True, cwd=folder, env=settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_command_says_its_version(installed):
    _, folder = installed
    assert alone(installed, "tfcnn", "--version") == f"tfcnn {tfcnn.__version__}\n"
    assert Path(alone(installed, "python", "-c", "import tfcnn; print(tfcnn.__file__)").strip()).is_relative_to(folder)


@pytest.mark.slow
def test_the_demo_runs_where_only_the_wheel_is_installed(installed):
    said = alone(installed, "tfcnn", "demo", "--seeds", "1")
    assert "transferred from the digits 0-4" in said and (installed[1] / "saved_models" / "demo" / "report.html").is_file()


@pytest.mark.slow
def test_the_program_of_the_readme_runs_on_a_folder_of_photos(installed):
    section = (ROOT / "README.md").read_text().split("\n## In Python\n")[1]
    program = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert len([line for line in program.splitlines() if line.strip()]) <= 10 and 'weights="imagenet"' in program
    make_photos(installed[1] / "flowers")
    said = alone(installed, "python", "-c", program.replace('weights="imagenet"', 'weights="none"'))
    assert "accuracy" in said and "on 12 photos" in said
    run = tfcnn.load_run(installed[1] / "saved_models" / "flowers")
    assert [row["format"] for row in run.record["exports"]] == ["saved_model", "tflite_float32", "tflite_float16", "tflite_int8"]
