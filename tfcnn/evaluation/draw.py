"""An example of a kind of data as a piece of HTML for the report: the curve of a series, the spectrogram and sound of a clip, a text."""

import base64
import html
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcnn.data.photo import jpeg_text
from tfcnn.data.text import UNKNOWN, places_of

WIDE, HIGH = 320, 110  # of a large drawing, in units of its own
SMALL = (120, 60)
POINTS = 160  # of a curve; more cannot be seen
LINES = 6  # channels of a series that are drawn
COLOURS = ("var(--accent)", "var(--second)", "var(--third)")
TELLING = 0.5  # of the largest heat, from which a stretch is marked
QUALITY = 72  # of JPEGs
PLAIN_SOUND = 60_000  # bytes; a longer clip is compressed
SHORT = 160  # characters of a text in a small drawing
DEEPEST = 0.75  # alpha of the mark of the word that counts most


def draw_signal(values: np.ndarray, heat: np.ndarray | None, facts: Mapping[str, Any], text: str, *, large: bool) -> str:
    """The channels of a series (steps, channels), each from its lowest to its highest value, with the telling stretch behind them."""
    width, height = (WIDE, HIGH) if large else SMALL
    there = np.flatnonzero(~np.isnan(values).all(axis=1))
    values, heat = values[:there[-1] + 1], None if heat is None else heat[:there[-1] + 1]
    marks = "" if heat is None else "".join(
        f'<rect x="{width * first / len(values):.1f}" y="0" width="{max(1.0, width * (last - first) / len(values)):.1f}" height="{height}" '
        'fill="var(--second)" opacity="0.28"/>' for first, last in _telling(heat))
    lines = "".join(f'<polyline points="{points}" fill="none" stroke="{COLOURS[channel % len(COLOURS)]}" stroke-width="1.4"/>'
                    for channel in range(min(LINES, values.shape[1])) for points in _curves(values[:, channel], width, height))
    more = f", the first {LINES} of {values.shape[1]} channels" if values.shape[1] > LINES else ""
    return (f'<svg class="series" role="img" aria-label="a series of {len(values)} steps{more}" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}">{marks}{lines}</svg>')


def draw_audio(samples: np.ndarray, heat: np.ndarray | None, facts: Mapping[str, Any], text: str, *, large: bool) -> str:
    """The spectrogram of a clip (samples,), and with it, if large, what the answer rests on and the sound."""
    from PIL import Image

    rate = facts["sample_rate"]
    width, height = (WIDE, HIGH) if large else SMALL
    heard = np.trim_zeros(samples, "b")
    picture = Image.fromarray(_coloured(_spectrogram(samples, rate))).resize((width, height), Image.Resampling.BILINEAR)
    shown = (f'<img src="data:image/jpeg;base64,{jpeg_text(picture, QUALITY)}" alt="spectrogram of {len(heard) / rate:.2f} seconds" '
             f'width="{width}" height="{height}">')
    if not large:
        return shown
    bar = "" if heat is None else (f'<div class="when" role="img" aria-label="{_when(heat, rate)}" '
                                   f'style="background: linear-gradient(to right, {_stops(heat)})"></div>')
    return f'<div class="clip">{shown}{bar}<audio controls preload="none" src="{_sound(heard, rate)}"></audio></div>'


def draw_text(ids: np.ndarray, heat: np.ndarray | None, facts: Mapping[str, Any], text: str, *, large: bool) -> str:
    """A text with the words that decided: in one colour what speaks for the answer, in another what speaks against it."""
    if not large or heat is None:
        return f'<p class="text">{html.escape(text[:SHORT])}{"…" if len(text) > SHORT else ""}</p>'
    count, parts, end = int(np.count_nonzero(ids)), [], 0
    shown, pieces = places_of(text, facts["tokens"])
    for (first, last), number, weight in zip(pieces[:count], ids, heat, strict=False):
        parts += [html.escape(shown[end:first]), _marked(html.escape(shown[first:last]), float(weight), known=number != UNKNOWN)]
        end = last
    rest = html.escape(shown[end:])
    return f'<p class="text">{"".join(parts)}{f"<span class=soft>{rest}</span>" if rest.strip() else ""}</p>'


def _marked(word: str, weight: float, *, known: bool) -> str:
    if not known:
        word = f'<span class="unknown" title="not in the vocabulary">{word}</span>'
    if abs(weight) < 0.1:
        return word
    return f'<mark class="{"for" if weight > 0 else "against"}" style="--w: {DEEPEST * abs(weight):.2f}">{word}</mark>'


def _telling(heat: np.ndarray) -> list[tuple[int, int]]:
    """The stretches (first, behind the last) where the heat is at least half of its largest."""
    high = np.concatenate([[False], (heat >= TELLING) & (heat > 0), [False]])
    changes = np.flatnonzero(high[1:] != high[:-1])
    return list(zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True))


def _curves(values: np.ndarray, width: int, height: int) -> list[str]:
    """The points of a curve, one text for each part without a gap."""
    if len(values) > POINTS:
        edges = np.linspace(0, len(values), POINTS + 1).astype(int)
        values = np.array([np.nanmean(part) if np.isfinite(part).any() else np.nan for part in np.split(values, edges[1:-1])])
    there = np.isfinite(values)
    if not there.any():
        return []
    low, high = values[there].min(), values[there].max()
    x = np.arange(len(values)) / max(1, len(values) - 1) * width
    y = height - 4 - (values - low) / (high - low if high > low else 1) * (height - 8)
    parts = np.split(np.arange(len(values)), np.flatnonzero(np.diff(there.astype(int))) + 1)
    return [" ".join(f"{x[place]:.1f},{y[place]:.1f}" for place in part) for part in parts if there[part[0]]]


def _spectrogram(samples: np.ndarray, rate: int) -> np.ndarray:
    """(mels, frames) of a clip, 0-1, low tones below."""
    from tfcnn.models.audio import FLOOR, frame_of, mel_bands, window_of

    frame, hop = frame_of(rate)
    size = 1 << (frame - 1).bit_length()
    starts = np.arange(0, max(1, len(samples) - frame + 1), hop)
    frames = np.pad(samples, (0, frame))[starts[:, None] + np.arange(frame)] * window_of(frame)
    power = np.log(np.abs(np.fft.rfft(frames, size)) ** 2 @ mel_bands(size, rate) + FLOOR)
    low, high = np.log(FLOOR), max(power.max(), np.log(FLOOR) + 1)
    return np.clip((power.T[::-1] - low) / (high - low), 0, 1)


def _coloured(picture: np.ndarray) -> np.ndarray:
    from matplotlib import colormaps

    return np.rint(colormaps["magma"](picture)[..., :3] * 255).astype(np.uint8)


def _stops(heat: np.ndarray, count: int = 40) -> str:
    places = np.linspace(0, len(heat) - 1, count).astype(int)
    return ", ".join(f"rgba(var(--tint), {heat[place]:.2f})" for place in places)


def _when(heat: np.ndarray, rate: int) -> str:
    parts = [f"{first / rate:.2f} to {last / rate:.2f} s" for first, last in _telling(heat)]
    return f"the answer rests on {' and '.join(parts)}" if parts else "nothing speaks for the answer"


def _sound(samples: np.ndarray, rate: int) -> str:
    """A clip as the address of an audio tag: as it is, or as MP3 where it is long and the rate is one that MP3 has."""
    import soundfile

    kinds = [("WAV", "audio/wav")] if 2 * len(samples) < PLAIN_SOUND else [("MP3", "audio/mpeg"), ("WAV", "audio/wav")]
    for kind, mime in kinds:
        file = io.BytesIO()
        try:
            soundfile.write(file, np.clip(samples, -1, 1) if len(samples) else np.zeros(1, np.float32), rate, format=kind)
        except (soundfile.LibsndfileError, ValueError, TypeError):
            continue
        return f"data:{mime};base64,{base64.b64encode(file.getvalue()).decode()}"
    return ""
