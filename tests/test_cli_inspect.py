"""`tfcnn inspect` and `tfcnn backbones`, and the table of README.md."""

import json
from pathlib import Path

import pytest

import tfcnn
from tfcnn.cli import main
from tfcnn.models.backbones import BACKBONES, backbones_markdown, backbones_text

README = Path(__file__).parents[1] / "README.md"


def run(capsys, *arguments) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of one command."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as done:  # argparse
        code = done.code
    return (code, *capsys.readouterr())


def test_inspect_prints_stages_and_one_json_object_last(capsys):
    code, out, err = run(capsys, "inspect", "mobilenet_v3_small", "--image-size", 32, "--json")
    assert code == 0 and err == ""
    *lines, last = out.splitlines()
    assert lines == str(tfcnn.inspect_model("mobilenet_v3_small", image_size=32)).splitlines()
    assert json.loads(last)["parameters"] == BACKBONES["mobilenet_v3_small"].parameters


def test_inspect_opens_stages_and_lists_layers(capsys):
    code, out, _ = run(capsys, "inspect", "mobilenet", "--image-size", "32", "--trainable", "stage4", "--layers")
    assert code == 0 and [line.split()[4] for line in out.splitlines()[3:8]] == [*["frozen"] * 4, "1,586,688"]
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert rows["conv_pw_13"][3:5] == ["1,048,576", "yes"] and rows["conv_pw_13_bn"][4] == "no"


def test_inspect_takes_a_run(capsys, trained):
    code, out, _ = run(capsys, "inspect", trained[0].path)
    assert code == 0 and [line.split()[0] for line in out.splitlines()[3:8]] == ["conv1", "conv2", "conv3", "head", "total"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["resnet5"], "expected the name of a backbone or a run folder, got 'resnet5', and there is no such folder; did you mean 'resnet50'?"),
    (["resnet50", "--image-size", "20"], "expected an image size from 32 to 2048 pixels for resnet50, got --image-size 20"),
    (["vit_b_16", "--image-size", "30"], "give 16 or 32"),
    (["mobilenet", "--image-size", "32", "--trainable", "9"], "expected 0 to 5 stages to train, got --trainable 9"),
    ([], "the following arguments are required: NAME|RUN"),
    (["resnet50", "--image-size", "big"], "expected a whole number for --image-size, got 'big'"),
])
def test_inspect_refuses_in_one_line(capsys, arguments, words):
    code, out, err = run(capsys, "inspect", *arguments)
    assert (code, out) == (2, "") and err.startswith("tfcnn: ") and err.count("\n") == 1 and words in err


def test_inspect_has_a_help(capsys):
    code, out, err = run(capsys, "inspect", "--help")
    assert code == 0 and err == "" and out.startswith("usage: tfcnn inspect ") and "NAME|RUN" in out and "--json" in out


def test_backbones_has_a_line_for_each_row(capsys):
    code, out, _ = run(capsys, "backbones")
    lines = out.splitlines()
    assert code == 0 and out.rstrip("\n") == backbones_text() and max(map(len, lines)) <= 120
    assert [line.split()[0] for line in lines[1:1 + len(BACKBONES)]] == list(BACKBONES)
    assert lines[1].split() == ["resnet50", "23.6", "M", "224", "5", "MIT", "He", "et", "al.", "2016,", "arXiv:1512.03385"]


def test_the_code_of_every_backbone_has_the_licence_that_the_tables_name():
    assert {row.licence.split(",")[0].removeprefix("code ") for row in BACKBONES.values()} == {"Apache-2.0"}


def test_backbones_prints_the_table_of_the_readme(capsys):
    code, out, _ = run(capsys, "backbones", "--markdown")
    section = README.read_text(encoding="utf-8").split("## Backbones\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    assert code == 0 and out.splitlines() == table == backbones_markdown().splitlines(), "put what 'tfcnn backbones --markdown' prints into README.md"
    assert all(out.count(f"`{name}`") == 1 for name in BACKBONES)
    assert "| `vit_b_16` 85.8 | embedding, block1 to block12 |" in out and "`efficientnet_b7` 64.1 (600 px)" in out
