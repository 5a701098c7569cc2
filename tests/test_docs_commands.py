"""Every command and every block of Python in README.md and docs/ works: each is parsed in every run, and executed in a slow one."""

import ast
import contextlib
import inspect
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import LANGUAGES, ROOT, blocks, commands, inline, make_workspace

from tfcnn.cli import COMMANDS, main
from tfcnn.parser import make_parser

LAUNCH = ("python", "-m", "tfcnn.training.launch")
INSTALLS = "installs packages"
NETWORK = "addresses and folders of a cluster; tests/test_launch.py and tests/test_search.py start workers on loopback"
TWO = "starts processes that find each other; tests/test_launch.py and tests/test_search.py do it"
# What cannot be executed here, by how it begins, with the reason.
NOT_HERE = {
    "make demo": "trains for four minutes; tests/test_flow.py runs a shorter one",
    "make .venv/core": INSTALLS,
    "pip install": INSTALLS,
    "pip download": INSTALLS,
    ". .venv/bin/activate": "the environment of the reader",
    "export TF_CONFIG=": NETWORK,
    "KERASTUNER_TUNER_ID=": NETWORK,
    "tfcnn train photos/ --strategy multi_worker": NETWORK,
    "tfcnn train photos/ --strategy mirrored --devices": "needs two GPUs",
    "python -m tfcnn.training.launch": TWO,
    "tfcnn serve": "serves until Ctrl-C; tests/test_serve.py asks for its pages",
}
# Blocks of Python, by how they begin.
NO_BLOCK_HERE = {
    "from tflite_model_maker": "does not install beside a current Python",
    "from mediapipe_model_maker": "does not install beside a current TensorFlow",
    "from mediapipe.tasks": "a sketch; tests/test_mediapipe.py classifies photos",
    "from fastai": "would bring PyTorch",
    "import torch": "would bring PyTorch",
    'strategy = tfcnn.make_strategy("multi_worker")': NETWORK,
}
PHOTOS = "--backbone mobilenet_v3_small_minimalistic --weights none --image-size 32"
HEAD = f"{PHOTOS} --trainable none --export none"
# What makes a command short, by what stands in it; the first that fits is appended.
SHORT = {
    "--folds 5 --repeats 3": f"{HEAD} --folds 2 --repeats 2",
    "--resume": "",
    "train photos/ --backbone mobilenet_v3_small --output saved_models/mine": f"{PHOTOS} --trainable none --export saved_model tflite_float16",
    "--export tflite_float32 tflite_int8": f"{PHOTOS} --trainable none --epochs 1",
    "--backbone mobilenet_v3_small,mobilenet_v2": f"{PHOTOS} --trials 2 --overwrite",
    "--fields learning_rate": f"{PHOTOS} --trials 1 --fine-tune 1 --epochs 1 --hidden 16 --overwrite",
    "tfcnn search": f"{PHOTOS} --trials 2 --fine-tune 0 --overwrite",
    "--weights FILE": f"{PHOTOS} --repeats 1 --output saved_models/other-labels",
    "tfcnn labels": f"{PHOTOS} --repeats 1",
    "tfcnn find-rate": "--image-size 32 --steps 20",
    "--kind audio --backbone": f"{HEAD} --overwrite",
    "adrenalmnist3d_32.npz": "--epochs 1 --export none",
    "train scans/": "--epochs 1 --size 16,16,16 --export none --overwrite",
    "train gestures/": "--epochs 1 --size 4,16,16 --stride 1 --clips 2 --export none --overwrite",
    "--neighbours": "--epochs 1 --neighbours 2,2 --export none --overwrite",
    "--weights glove": "--epochs 1 --export none --overwrite",
    "saved_models/waste": "--image-size 32 --trainable none --export none",
    "tfcnn train ../shared": HEAD,
    "--weights ../shared": "--image-size 32 --trainable none --export none --overwrite",
    "tfcnn audit": "",
    "--kind": "--epochs 1 --export none --overwrite",
    "tfcnn train": f"{HEAD} --overwrite",
    "tfcnn doctor": "--quick",
}
# Exit code 1 is right too.
FAILS = {"--max-bytes 2000000": "'auto' may find no file that a network of random weights holds", "tfcnn doctor": "1 where a GPU is not used"}
MINE = 'tfcnn.ModelConfig(weights="none", image_size=32), formats=["tflite_float16"], training=tfcnn.TrainingConfig(trainable=False)'
# What makes a block of Python short, in this order.
SUBSTITUTED = {
    'pooling="avg", weights="imagenet"': 'pooling="avg", weights=None',
    'weights="imagenet"': 'weights="none"',
    "labels=data.labels)": 'labels=data.labels, weights="none", image_size=32)',
    'build_classifier(network, labels=data.labels, weights="none", image_size=32)': "build_classifier(network, labels=data.labels)",
    '"resnet50", labels=data.labels, weights="none")\nrun': '"mobilenet", labels=data.labels, weights="none")\nrun',
    'labels=data.labels, weights="none")': 'labels=data.labels, weights="none", image_size=32)',
    '(backbone="mobilenet_v2", weights="none")': '(backbone="mobilenet_v2", weights="none", image_size=32)',
    'train_and_export("photos/", ': f'train_and_export("photos/", model={MINE}, ',
    'DataConfig(kind="audio")': 'DataConfig(kind="audio"), training=tfcnn.TrainingConfig(epochs=1), formats=["tflite_float16"]',
    '"saved_model", ': "", '"tflite_float32", ': "", ', "tflite_int8"': "",
    "image_size=224": "image_size=32",
    "(224, 224": "(32, 32",
    "TrainingConfig(epochs=10)": "TrainingConfig(trainable=False)",
    "epochs=10": "epochs=1",
    "epochs=4": "epochs=1",
    "epochs=5": "epochs=1",
    "epochs=2": "epochs=1",
    "TrainingConfig(trainable=2)": "TrainingConfig(trainable=1, epochs=1)",
    "TrainingConfig(trainable=True": "TrainingConfig(trainable=False",
    'data, output="saved_models/gunpoint"': 'data, tfcnn.TrainingConfig(epochs=1), output="saved_models/gunpoint"',
    'output="saved_models/flowers")': 'output="saved_models/flowers", overwrite=True)',
    'output="saved_models/gunpoint")': 'output="saved_models/gunpoint", overwrite=True)',
    "space=space,": "space=space, image_size=32, overwrite=True, training=tfcnn.TrainingConfig(epochs=1),",
    'trials=50, time_limit="30m"': "trials=2, fine_tune=0",
}
# What a page takes for granted.
BEFORE = {"docs/training.md": 'import tfcnn\ndata = tfcnn.load_images("flowers/", image_size=32)\n', "docs/search.md": "import tfcnn\n"}


def test_every_block_is_of_a_known_language():
    assert not [(block.page, block.line) for block in blocks() if block.language not in LANGUAGES]


def test_every_command_is_one_that_exists():
    parser = make_parser(COMMANDS)
    for command in commands():
        words = command.words
        if words[:3] == LAUNCH:
            assert words[3] == "--workers" and words[4].isdigit() and words[5] == "--", command
            words = ("tfcnn", *words[6:])
        if words[0] == "tfcnn":
            parsed_by(parser, words[1:], command)
        elif words[0] == "make":
            assert words[1] in targets(), command
        elif words[:1] == ("python",):
            check_benchmark(words[1:], command)
        else:
            assert is_in(NOT_HERE, command.text) or words[0] == "saved_model_cli", f"{command}: a command that no test knows"


def test_trainings_of_one_block_do_not_meet_in_one_folder():
    parser, taken = make_parser(COMMANDS), {}
    for command in commands():
        if command.words[:2] in (("tfcnn", "train"), ("tfcnn", "search")) and not is_in(NOT_HERE, command.text):
            args = parser.parse_args(list(command.words[1:]))
            name = f"{Path(args.source).stem}{'-search' if command.words[1] == 'search' else '-folds' if getattr(args, 'folds', None) else ''}"
            output = str(args.output or f"saved_models/{name}")
            assert getattr(args, "resume", False) or taken.setdefault((command.where, output), command) is command, (command, taken[command.where, output])


def test_commands_within_sentences_exist():
    for page, code in inline("tfcnn "):
        words = code.split()
        if words[1] in COMMANDS:
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
                make_parser(COMMANDS).parse_args([words[1], "--help"])
            assert set(re.findall(r"--[\w-]+", said.getvalue())) >= {word for word in words if word.startswith("--")}, (page, code)
        else:
            assert words[1] in ("COMMAND", "--help", "--version"), (page, code)
    for page, code in inline("make "):
        assert code.split()[1] in targets(), (page, code)


def test_benchmarks_know_the_flags_that_are_named(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for where, code in inline("python benchmarks/"):
        check_benchmark(code.split()[1:], (where, code))


def parsed_by(parser, words, where) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser.parse_args(list(words))
    except SystemExit as end:
        assert end.code == 0, f"{where}: {said.getvalue()}"


def check_benchmark(words, where) -> None:
    """The script exists, and its help names each flag."""
    script = ROOT / words[0]
    assert script.is_file(), where
    said, before, arguments = io.StringIO(), dict(os.environ), sys.argv
    sys.argv = [words[0], "--help"]
    try:
        with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
            runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(before)
    flags = set(re.findall(r"--[\w-]+", said.getvalue()))
    assert flags >= {word for word in words[1:] if word.startswith("--")}, (where, sorted(flags))


def targets() -> set[str]:
    return set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def is_in(table: dict[str, str], text: str) -> bool:
    return any(text.startswith(start) for start in table)


def test_python_names_only_what_exists():
    for block in blocks():
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text, filename=f"{block.page}:{block.line}")):
                check_names(node, block)


def check_names(node, block) -> None:
    """Attributes of tfcnn, what is imported from it, and the arguments that its functions are called with."""
    if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "tfcnn":
        module = __import__(node.module, fromlist=["_"])
        assert not [alias.name for alias in node.names if not hasattr(module, alias.name)], block
    if isinstance(node, ast.Attribute):
        found_in_tfcnn(node, block)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and (function := found_in_tfcnn(node.func, block)) is not None:
        known = inspect.signature(function).parameters
        assert not [keyword.arg for keyword in node.keywords if keyword.arg and keyword.arg not in known], (block, sorted(known))


def found_in_tfcnn(node, block):
    """What tfcnn.a.b is; None for an attribute of something else."""
    import tfcnn

    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id != "tfcnn":
        return None
    found = tfcnn
    for name in reversed(names):
        if found is tfcnn and not hasattr(found, name):
            __import__(f"tfcnn.{name}")
        assert hasattr(found, name), (block.page, block.line, name)
        found = getattr(found, name)
    return found


def test_what_is_left_out_is_still_there():
    texts, starts = [command.text for command in commands()], [block.text for block in blocks() if block.language == "python"]
    assert not [start for start in NOT_HERE if not any(text.startswith(start) for text in texts)]
    assert not [start for start in NO_BLOCK_HERE if not any(text.startswith(start) for text in starts)]
    assert not [start for start in FAILS if not any(start in text for text in texts)]
    assert not [part for part in SHORT if not any(part in text for text in texts)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, shared):
    """Where the docs are executed: small data, and the run that most commands ask for."""
    work = make_workspace(tmp_path_factory.mktemp("docs"), shared)
    with contextlib.chdir(work):
        run_command("tfcnn train photos/ --backbone mobilenet_v3_small --output saved_models/mine")
        for name in ("trash", "other"):
            shutil.copytree("saved_models/mine", f"saved_models/{name}")
    return work


def run_command(text: str) -> None:
    words = next(command for command in commands() if command.text == text).words
    extra = next((extra for part, extra in SHORT.items() if part in text), "").split()
    words = [*words, *extra]
    assert main(words[1:]) in ((0, 1) if any(part in text for part in FAILS) else (0,)), words


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_command_does_what_it_is_there_for(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    done = {"tfcnn train photos/ --backbone mobilenet_v3_small --output saved_models/mine"}
    for command in commands():
        if command.text in done or is_in(NOT_HERE, command.text):
            continue
        done.add(command.text)
        if command.words[0] == "saved_model_cli":
            tool = Path(sys.executable).with_name("saved_model_cli")
            subprocess.run([tool, *command.words[1:]], check=True, capture_output=True)
        else:
            run_command(command.text)
    assert len(done) > 60 and (workspace / "app.zip").is_file() and (workspace / "output_0.npy").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", sorted({block.page for block in blocks() if block.language == "python"}))
def test_the_python_of_a_page_runs(page, workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    names, ran = {"__name__": page}, 0
    exec(BEFORE.get(page, ""), names)
    for block in blocks():
        if block.page == page and block.language == "python" and not is_in(NO_BLOCK_HERE, block.text):
            text = block.text
            for was, becomes in SUBSTITUTED.items():
                text = text.replace(was, becomes)
            exec(compile("\n" * block.line + text, page, "exec"), names)
            ran += 1
    assert ran or all(is_in(NO_BLOCK_HERE, block.text) for block in blocks() if block.page == page and block.language == "python")


