"""A video as a piece of HTML for the report: frames of the clip in its middle from left to right, and below them what its answer rests on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcnn.evaluation.draw_volume import SMALL, heated, picture_html

SHOWN = 4  # frames of a clip, as many as have room beside each other
LONGEST = 76  # pixels of the longest side of a frame


def draw_video(values: np.ndarray, heat: np.ndarray | None, facts: Mapping[str, Any], text: str, *, large: bool) -> str:
    """One frame (of clips x frames, height, width, channels), and if large a strip of frames above the same ones with heat."""
    length = facts["length"]
    clip = facts["clips"] // 2
    frames = np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values
    if not large:
        return picture_html(frames[clip * length + length // 2], "a frame of the middle", SMALL)
    if heat is not None and heat.max() > 0:
        clip = int(heat.reshape(facts["clips"], -1).max(axis=1).argmax())
    places = clip * length + np.unique(np.linspace(0, length - 1, min(SHOWN, length)).round().astype(int))
    rows = [[picture_html(frames[place], _said(place, facts), LONGEST) for place in places]]
    if heat is not None and heat.max() > 0:
        rows.append([picture_html(heated(frames[place], heat[place]), f"{_said(place, facts)}, coloured", LONGEST) for place in places])
    return f'<div class="volume">{"".join(f"""<div class="planes">{"".join(row)}</div>""" for row in rows)}</div>'


def _said(place: int, facts: Mapping[str, Any]) -> str:
    clip, frame = divmod(int(place), facts["length"])
    return f"frame {frame + 1} of {facts['length']}" + (f", clip {clip + 1} of {facts['clips']}" if facts["clips"] > 1 else "")
