"""Flags of the command line that are made of the fields of the configs, and back."""

import argparse
import dataclasses
import re
import typing
from collections.abc import Callable

from tfcnn.errors import InputError


def add_flags(command, config, *, unset: Callable = lambda field: None, leave_out: typing.Container[str] = ()) -> None:
    """One flag for every field of a config; its help is the field's line in the docstring.

    Args:
        unset: (field) → what it means that its flag is not given, which is None then; None for the field's own default.
        leave_out: fields without a flag.
    """
    from tfcnn.training.config import TrainingConfig
    from tfcnn.training.rule import FIELDS as BY_RULE

    texts = dict(re.findall(r"^        (\w+): (.+?)(?=\n        \w+: |\n    \Z|\Z)", config.__doc__, re.MULTILINE | re.DOTALL))
    types = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        if field.name in leave_out:
            continue
        if field.name == "split":
            add_split(command)
            continue
        meaning = unset(field)
        default = None if meaning else field.default
        flag, text = f"--{field.name.replace('_', '-')}", " ".join(texts[field.name].split()).replace("%", "%%")
        if types[field.name] in (bool, bool | None):
            command.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
        elif field.name == "learning_rates":
            command.add_argument(flag, type=_rate, action="extend", nargs="+", metavar="STAGE=RATE", help=text)
        else:
            shown = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
            shown = "by the data and the backbone" if config is TrainingConfig and field.name in BY_RULE else shown
            shown = meaning or shown
            shown = "" if shown in (None, "") else f" (default: {'all' if shown is True else shown})"
            command.add_argument(flag, type=_parser_of(field.name, types[field.name]), default=default, metavar=field.name.upper(), help=text + shown)


def add_split(command) -> None:
    """The flag for the fractions of the three splits."""
    command.add_argument("--split", type=float, nargs=3, default=[0.7, 0.1, 0.2], metavar=("TRAIN", "VALIDATION", "TEST"),
                         help="fractions of training, validation and test; a source with splits of its own keeps them (default: 0.7 0.1 0.2)")


def config_of(kind, args, *, leave_out: typing.Container[str] = ()):
    """A config of this kind from the parsed flags; what is not given where that means something else has its default."""
    given = {field: getattr(args, field.name) for field in dataclasses.fields(kind) if field.name not in leave_out}
    values: dict[str, typing.Any] = {field.name: field.default if value is None else value for field, value in given.items()}
    if values.get("learning_rates"):
        stages = [stage for stage, _ in values["learning_rates"]]
        twice = [stage for stage in stages if stages.count(stage) > 1]
        if twice:
            raise InputError(f"expected one rate for each stage, got several for '{twice[0]}' in --learning-rates")
        values["learning_rates"] = dict(values["learning_rates"])
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name for name in text.split(",") if name)


def given_of(kind, args) -> dict:
    """The fields of a config that were given, where `add_flags` leaves the others None."""
    return {field.name: value for field in dataclasses.fields(kind) if (value := getattr(args, field.name)) is not None}


def _parser_of(name: str, kind):
    if name == "trainable":
        return parse_stages
    if name == "hidden":
        return lambda text: () if text == "none" else numbers(text)
    if name == "devices":
        return numbers
    kinds = typing.get_args(kind) or (kind,)
    if tuple[float, ...] in kinds:
        return lambda text: numbers(text, float)
    if tuple[int, ...] in kinds:
        return numbers
    return int if int in kinds else float if float in kinds else str


def parse_stages(text: str) -> bool | int | str:
    """What `set_trainable` takes, as it is typed: none, all, a number, or a stage."""
    return {"none": False, "all": True}.get(text, int(text) if re.fullmatch(r"-?\d+", text) else text)


def numbers(text: str, kind: type = int) -> tuple:
    """Numbers with commas between them, whole ones or float."""
    try:
        return tuple(kind(number) for number in text.split(",") if number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {'whole ' if kind is int else ''}numbers with commas between them, got '{text}'") from None


def _rate(text: str) -> tuple[str, float]:
    stage, _, rate = text.partition("=")
    try:
        return stage, float(rate)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected STAGE=RATE such as head=0.001, got '{text}'") from None
