"""What can be typed: the version, help with examples, and misspelt commands, flags and names."""

import shlex

import pytest

import tfcnn
from tfcnn.cli import COMMANDS, main
from tfcnn.completion import NAMES
from tfcnn.flags import config_of
from tfcnn.parser import EXAMPLES, make_parser
from tfcnn.training.config import TrainingConfig, check_training


def ended(capsys, *arguments) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of arguments with which no command begins."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return (end.value.code, *capsys.readouterr())


def test_the_version_is_that_of_the_package(capsys):
    assert ended(capsys, "--version") == (0, f"tfcnn {tfcnn.__version__}\n", "")


@pytest.mark.parametrize(("line", "said"), [
    ("trian", "expected a command, got 'trian'; did you mean 'train'?"),
    ("exprot run", "expected a command, got 'exprot'; did you mean 'export'?"),
    ("findrate photos", "expected a command, got 'findrate'; did you mean 'find-rate'?"),
    ("Evaluate run", "expected a command, got 'Evaluate'; did you mean 'evaluate'?"),
    ("xyzzy", "expected a command, got 'xyzzy'; 'tfcnn --help' lists what there is"),
    ("", "expected a command, got none; 'tfcnn --help' lists what there is"),
    ("--verson", "expected a command, got '--verson'; did you mean '--version'?"),
    ("train photos --bakbone resnet50", "expected a flag of 'tfcnn train', got '--bakbone'; did you mean '--backbone'?"),
    ("train photos --bakbone=resnet50", "expected a flag of 'tfcnn train', got '--bakbone'; did you mean '--backbone'?"),
    ("train photos --learning_rate 0.1", "expected a flag of 'tfcnn train', got '--learning_rate'; did you mean '--learning-rate'?"),
    ("train photos --no-miror", "expected a flag of 'tfcnn train', got '--no-miror'; did you mean '--no-mirror'?"),
    ("export run --formats tflite_int8", "expected a flag of 'tfcnn export', got '--formats'; did you mean '--format'?"),
    ("cache --claer", "expected a flag of 'tfcnn cache', got '--claer'; did you mean '--clear'?"),
    ("cache -x", "expected a flag of 'tfcnn cache', got '-x'; 'tfcnn cache --help' lists what there is"),
    ("report run run", "expected nothing behind the arguments, got 'run'; 'tfcnn report --help' lists what there is"),
    ("train photos --epochs many", "expected a whole number for --epochs, got 'many'; 'tfcnn train --help' lists what there is"),
    ("train photos --dropout 0,3", "expected a number for --dropout, got '0,3'; 'tfcnn train --help' lists what there is"),
])
def test_what_is_not_understood_is_refused_with_the_nearest_there_is(capsys, line, said):
    assert ended(capsys, *line.split()) == (2, "", f"tfcnn: {said}\n")


@pytest.mark.parametrize(("line", "said"), [
    ("audit photos --kind imgae", "expected a kind of data, got --kind 'imgae'; did you mean 'image'?"),
    ("audit photos --geometry streched", "expected a geometry, got --geometry 'streched'; did you mean 'stretch'?"),
    ("search photos --algorithm hyperbnad", "expected the algorithm of a search, got --algorithm 'hyperbnad'; did you mean 'hyperband'?"),
    ("search photos --fields dropuot", "expected a field that can be searched, got 'dropuot'; did you mean 'dropout'?"),
    ("doctor --backbones resnet_50", "expected names of backbones, got 'resnet_50'; did you mean 'resnet50'?"),
    ("completion bsh", "expected a shell, got 'bsh'; did you mean 'bash'?"),
    ("inspect resnet51", "got 'resnet51', and there is no such folder; did you mean 'resnet50'?"),
])
def test_a_misspelt_name_is_refused_with_the_nearest_there_is(capsys, photos, tmp_path, monkeypatch, line, said):
    monkeypatch.chdir(tmp_path)
    code = main([str(photos) if word == "photos" else word for word in line.split()])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_examples(capsys, command):
    code, out, err = ended(capsys, command, "--help")
    assert (code, err) == (0, "") and 1 <= len(EXAMPLES[command]) <= 2
    title = "examples:" if len(EXAMPLES[command]) == 2 else "example:"
    assert out.endswith("\n".join(["", title, *(f"  {line}" for line in EXAMPLES[command]), ""]))


@pytest.mark.parametrize(("command", "line"), [(command, line) for command, lines in EXAMPLES.items() for line in lines])
def test_an_example_is_understood_and_names_what_there_is(command, line):
    program, *words = shlex.split(line.split(" > ")[0])
    args = make_parser(COMMANDS).parse_args(words)
    assert program == "tfcnn" and args.command is COMMANDS[command]
    for argument, value in vars(args).items():
        names = NAMES.get(f"{command} {argument}") or NAMES.get(argument, ())
        values = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
        assert not names or argument in ("hidden", "network") or set(values) <= set(names), argument  # these two may be numbers or a folder
    if command == "train":
        check_training(config_of(TrainingConfig, args))
