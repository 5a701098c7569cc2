"""Completion for shells: what a real bash offers, and that the scripts of all shells know all commands."""

import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import missing

from tfcnn.cli import COMMANDS, main, make_parser
from tfcnn.completion import FILES, FOLDERS, NAMES, SHELLS, arguments_of
from tfcnn.export.formats import EXPORTERS
from tfcnn.kinds import KINDS
from tfcnn.models.backbones import BACKBONES


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script for bash, as the command writes it."""
    path = tmp_path_factory.mktemp("completion") / "tfcnn.bash"
    path.write_bytes(subprocess.run([sys.executable, "-m", "tfcnn", "completion", "bash"], capture_output=True, check=True).stdout)
    return path


def offered(script, folder, line: str) -> list[str]:
    """What bash offers for the last word of a line, in a folder; an empty last word is a blank at the end."""
    if not shutil.which("bash"):
        missing("no completion is tried: install bash")
    words = [*line.split(), *([""] if line.endswith(" ") else [])]
    code = f"""set -eu
source {shlex.quote(str(script))}
COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}
complete -p tfcnn > /dev/null
"$(complete -p tfcnn | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "--norc", "--noprofile", "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "saved_models").mkdir()
    (tmp_path / "set.csv").write_text("")
    return tmp_path


@pytest.mark.parametrize(("line", "words"), [
    ("tfcnn ", [*COMMANDS]),
    ("tfcnn re", ["repeat", "report"]),
    ("tfcnn train s", ["saved_models", "set.csv"]),
    ("tfcnn train set.csv --no-mi", ["--no-mirror", "--no-mixed-precision"]),
    ("tfcnn train set.csv --kind ", [*KINDS]),
    ("tfcnn train set.csv --backbone resnet5", ["resnet50", "resnet50_v2"]),
    ("tfcnn train set.csv --backbone kim", ["kim_cnn"]),
    ("tfcnn labels set.csv --backbone kim", []),
    ("tfcnn train set.csv --weights se", ["set.csv"]),
    ("tfcnn train set.csv --mirror --export onnx n", ["none"]),
    ("tfcnn export saved_models --format ", [*EXPORTERS, "auto"]),
    ("tfcnn export saved_models --format n", []),
    ("tfcnn evaluate s", ["saved_models"]),
    ("tfcnn evaluate saved_models --split v", ["validation"]),
    ("tfcnn train set.csv --split v", []),
    ("tfcnn predict saved_models s", ["saved_models", "set.csv"]),
    ("tfcnn inspect vgg", [name for name in BACKBONES if name.startswith("vgg")]),
    ("tfcnn completion ", [*SHELLS]),
])
def test_bash_offers_what_fits(script, folder, line, words):
    assert sorted(set(offered(script, folder, line)) - {"--help", "-h", "--version"}) == sorted(words)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_a_shell_knows_all_commands(capsys, shell):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert not [word for word in (*COMMANDS, *EXPORTERS, *BACKBONES) if word not in script]


def test_every_name_of_the_tables_is_an_argument():
    arguments = {name for command, action in arguments_of(make_parser(COMMANDS)) for name in (action.dest, f"{command} {action.dest}")}
    assert {*NAMES, *FILES, *FOLDERS} <= arguments


def test_completion_loads_no_tensorflow():
    code = "import sys; from tfcnn.cli import main; main(['completion', 'bash']); print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()[-1] == "[]"
