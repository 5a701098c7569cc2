"""Completion for shells: what can be typed behind `tfcnn`, which shtab writes as a script for a shell."""

import argparse
from collections.abc import Iterator

import shtab

from tfcnn.data.augment import STRENGTHS
from tfcnn.data.dataset import BALANCES
from tfcnn.data.photo import GEOMETRIES
from tfcnn.data.split import SPLITS
from tfcnn.data.text import HOW
from tfcnn.errors import InputError, closest
from tfcnn.evaluation.heat import METHODS
from tfcnn.export.formats import EXPORTERS
from tfcnn.export.ladder import AUTO
from tfcnn.kinds import IMAGE, KINDS
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.classifier import ACTIVATIONS, FRAMES, POOLINGS
from tfcnn.models.freeze import BATCH_NORMS
from tfcnn.search.config import ALGORITHMS, OBJECTIVES
from tfcnn.search.space import field_levels
from tfcnn.training.config import OPTIMIZERS, SCHEDULES
from tfcnn.training.strategy import STRATEGIES

SHELLS = ("bash", "zsh", "fish", "tcsh")  # of those that shtab knows
FORMATS = (*EXPORTERS, AUTO)
NETWORKS = (*BACKBONES, *dict.fromkeys(name for kind, row in KINDS.items() if kind != IMAGE for name in row.networks))

# By argument, and by command and argument where commands differ: the names that it takes.
NAMES = {
    "activation": ACTIVATIONS, "algorithm": ALGORITHMS, "augmentation": tuple(STRENGTHS), "backbone": NETWORKS, "backbones": tuple(BACKBONES),
    "balance": BALANCES, "batch_norm": BATCH_NORMS, "evaluate split": SPLITS, "export": FORMATS, "fields": tuple(field_levels()), "format": FORMATS,
    "frames": FRAMES, "geometry": tuple(GEOMETRIES), "hidden": ("none",), "inspect network": tuple(BACKBONES), "kind": tuple(KINDS),
    "labels backbone": tuple(BACKBONES), "method": METHODS, "objective": OBJECTIVES, "optimizer": tuple(OPTIMIZERS), "pooling": POOLINGS,
    "schedule": SCHEDULES, "search backbone": tuple(BACKBONES), "shell": SHELLS, "strategy": STRATEGIES, "tokens": tuple(HOW),
    "train export": (*FORMATS, "none"), "trainable": ("none", "all"),
}
FILES = ("bundle", "files", "source", "weights", "compare output", "find-rate output", "predict output")
FOLDERS = ("data_dir", "first", "like", "output", "run", "second")


def script_of(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that completes commands, their flags, and the names, files and folders that these take.

    Args:
        parser: of all commands; it gets choices for the script, and is of no further use.

    Raises:
        InputError: there is no script for this shell.
    """
    if shell not in SHELLS:
        raise InputError(f"expected a shell, got '{shell}'; {closest(shell, SHELLS)}")
    for command, action in arguments_of(parser):
        known = lambda table, keys=(f"{command} {action.dest}", action.dest): next((key for key in keys if key in table), None)
        if name := known(NAMES):
            action.choices = NAMES[name]
        elif place := known((*FILES, *FOLDERS)):
            vars(action)["complete"] = shtab.FILE if place in FILES else shtab.DIRECTORY  # an attribute that argparse does not know of
    return shtab.complete(parser, shell)


def arguments_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """The arguments of all commands, each with the name of its command."""
    commands, = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for command, below in commands.choices.items():
        for action in below._actions:
            yield command, action
