"""A stack of pictures in a folder, one in each file: in which order they stand, and that they fit together."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfcnn.errors import InputError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
FEWEST = 2


def in_order(files: Sequence[str], many: str) -> list[str]:
    """Pictures by the last number in their names, whose steps are equal.

    Args:
        many: what they are called, such as "slices".

    Raises:
        InputError: a name without a number, a number twice, too few pictures, or a gap.
    """
    if len(files) < FEWEST:
        raise InputError(f"expected at least {FEWEST} {many}, got {len(files)}")
    numbers: dict[int, str] = {}
    for file in files:
        found = re.findall(r"\d+", Path(file).stem)
        if not found:
            raise InputError(f"expected a number in the name of every one of the {many}, got {Path(file).name}")
        other = numbers.setdefault(int(found[-1]), file)
        if other != file:
            raise InputError(f"two {many} with one number: {Path(other).name} and {Path(file).name}")
    order = sorted(numbers)
    steps = np.diff(order)
    if steps.max() != steps.min():
        place = int(np.argmax(steps > steps.min()))
        raise InputError(f"{many} are missing between {Path(numbers[order[place]]).name} and {Path(numbers[order[place + 1]]).name}")
    return [numbers[number] for number in order]


def size_of(files: Sequence[str], many: str, modes: Sequence[str] = ()) -> tuple[int, int]:
    """(width, height) of all pictures.

    Args:
        modes: of Pillow, that they may have; any if empty.

    Raises:
        InputError: they differ, or have another mode.
    """
    from PIL import Image

    sizes: dict[tuple[int, int], str] = {}
    for file in files:
        with Image.open(file) as picture:
            if modes and picture.mode not in modes:
                raise InputError(f"{many} of 8 bits a colour are expected, got mode {picture.mode} in {Path(file).name}")
            sizes.setdefault(picture.size, file)
    if len(sizes) > 1:
        (first, one), (second, other), *_ = sizes.items()
        raise InputError(f"{many} of different sizes: {first[0]} x {first[1]} pixels in {Path(one).name}, {second[0]} x {second[1]} in {Path(other).name}")
    return next(iter(sizes))
