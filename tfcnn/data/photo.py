"""One photo: what its file says, its pixels upright, and the geometry that makes them a square."""

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfcnn.errors import InputError, closest

DECODER = 2  # raised when a photo is decoded to other pixels than before, so that old stores are not read
THUMBNAIL = 32  # pixels
EXTREME_SIDE, EXTREME_RATIO = 32, 8  # a side this short or sides this unequal leave little to see in a square
ORIENTATION = 0x0112  # EXIF 2.3, table 4: where the first row and column of the stored picture belong
PADDING = "black"  # of letterbox: what an app's own letterbox fills with


class Photo(NamedTuple):
    """A decoded photo.

    Attributes:
        pixels: uint8 (image_size, image_size, 3), 0-255 RGB, in the geometry that was asked for.
        thumbnail: uint8 (32, 32, 3): the whole photo, stretched, by which near duplicates are found.
        facts: what the file says.
    """

    pixels: np.ndarray
    thumbnail: np.ndarray
    facts: "Facts"


class Facts(NamedTuple):
    """What a file says about itself: its format, its size upright in pixels, and what is unusual (names of NOTES)."""

    format: str
    width: int
    height: int
    notes: tuple[str, ...]


NOTES = {
    "wrong_extension": "the name says another format than the content",
    "extreme_size": f"a side below {EXTREME_SIDE} pixels, or one {EXTREME_RATIO} times the other",
    "animated": "an animation or several pages; the first is used",
    "cmyk": "CMYK, converted to RGB",
    "16_bit": "more than 8 bits a channel, scaled to 0-255",
    "alpha": "transparent, put on white",
    "exif_rotated": "an EXIF orientation, applied",
}


def _stretch(size: tuple[int, int], side: int) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    return (side, side), (0, 0, *size)


def _letterbox(size: tuple[int, int], side: int) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    scale = side / max(size)
    return (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))), (0, 0, *size)


def _center_crop(size: tuple[int, int], side: int) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    short, left, top = min(size), (size[0] - min(size)) / 2, (size[1] - min(size)) / 2
    return (side, side), (left, top, left + short, top + short)


class Geometry(NamedTuple):
    """One way to a square.

    Attributes:
        place: from the size of a photo (width, height) and the side of the square to the size it is resized to, and which box of it.
        text: what an app has to do, for report and card.
    """

    place: Callable
    text: str


GEOMETRIES = {
    "stretch": Geometry(_stretch, "the whole photo stretched to the square, as MediaPipe does by itself"),
    "letterbox": Geometry(_letterbox, "the whole photo, its aspect ratio kept, with black bars; an app must add the bars before it asks the model"),
    "center_crop": Geometry(_center_crop, "the middle square of the photo; an app must crop it (the region of interest in MediaPipe) before it asks "
                            "the model"),
}


def check_geometry(image_size: int | None, geometry: str) -> None:
    """Raises InputError for a size (None is one that is known to be good) or a geometry that photos cannot be brought to."""
    if image_size is not None and (isinstance(image_size, bool) or not isinstance(image_size, int) or not 8 <= image_size <= 2048):
        raise InputError(f"expected an image size from 8 to 2048 pixels, got image_size={image_size}")
    if geometry not in GEOMETRIES:
        raise InputError(f"expected a geometry, got geometry='{geometry}'; {closest(geometry, GEOMETRIES)}")


def pixels_key(geometry: str) -> str:
    """How files become pixels: part of the key of everything that is computed from them."""
    return f"{geometry}-{DECODER}"


def decode_photo(content: str | Path | bytes | np.ndarray, image_size: int, geometry: str = "stretch") -> Photo:
    """A photo as pixels: upright by its EXIF orientation, on white where it is transparent, 16 bits scaled to 8.

    A JPEG far larger than `image_size` is decoded at 1/2, 1/4 or 1/8 of its size, never below what is needed.

    Args:
        content: a path, the bytes of a file, or uint8 pixels (height, width, 3).
        image_size: side of the square in pixels.
        geometry: a name of GEOMETRIES: "stretch" gives up the aspect ratio, "letterbox" fills up with black,
            "center_crop" loses what lies beyond the middle square.

    Raises:
        OSError, ValueError and whatever else Pillow raises on a file that it cannot decode whole.
    """
    from PIL import Image

    if isinstance(content, np.ndarray):
        image = Image.fromarray(content)
        return _finish(image, Facts("array", *image.size, _size_note(image.size)), image_size, geometry)
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
        size, notes = image.size, _notes(image)
        image.draft(None, GEOMETRIES[geometry].place(size, image_size)[0])
        image.load()  # a truncated file fails here, not somewhere later
        turn = _turn(image)
        if turn is not None:
            notes += ("exif_rotated",)
            size = (size[1], size[0]) if turn in _ON_ITS_SIDE else size
        facts = Facts(image.format or "", *size, notes + _size_note(size))
        return _finish(_to_rgb(image if turn is None else image.transpose(Image.Transpose(turn))), facts, image_size, geometry)


def _finish(image, facts: Facts, image_size: int, geometry: str) -> Photo:
    from PIL import Image

    target, box = GEOMETRIES[geometry].place(image.size, image_size)
    # Boxes of whole pixels are averaged first, which is fast; the rest is interpolated over all pixels it covers.
    square = image.resize(target, Image.Resampling.BILINEAR, box=box, reducing_gap=1.01)
    if target != (image_size, image_size):
        square, inner = Image.new("RGB", (image_size, image_size), PADDING), square
        square.paste(inner, ((image_size - target[0]) // 2, (image_size - target[1]) // 2))
    # Of the whole photo in any geometry: the black bars of letterboxes would make all photos alike.
    return Photo(np.asarray(square), _thumbnail(square if geometry == "stretch" else image), facts)


def _thumbnail(image) -> np.ndarray:
    from PIL import Image

    return np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def jpeg_text(image, quality: int) -> str:
    """A `PIL.Image.Image` as a JPEG in base64, for a page."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return base64.b64encode(file.getvalue()).decode()


def make_thumbnails(pixels: np.ndarray) -> np.ndarray:
    """Thumbnails uint8 (n, 32, 32, 3) of pixels (n, height, width, 3) that lie in memory."""
    from PIL import Image

    return np.stack([_thumbnail(Image.fromarray(image)) for image in pixels])


def _notes(image) -> tuple[str, ...]:
    """What the header says, before the pixels are decoded."""
    notes = []
    if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a phone's JPEG with a preview in it
        notes.append("animated")
    if image.mode == "CMYK":
        notes.append("cmyk")
    if image.mode in ("I", "F") or ";16" in image.mode or any(";16" in str(tile[3]) for tile in image.tile):
        notes.append("16_bit")
    if image.has_transparency_data:
        notes.append("alpha")
    return tuple(notes)


def _size_note(size: tuple[int, int]) -> tuple[str, ...]:
    return ("extreme_size",) if min(size) < EXTREME_SIDE or max(size) > EXTREME_RATIO * min(size) else ()


# What Pillow has to do with a photo of each EXIF orientation: members of PIL.Image.Transpose by their numbers.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_ON_ITS_SIDE = (2, 4, 5, 6)


def _turn(image) -> int | None:
    """How the photo has to be turned to stand as it was held; None where nothing has to be done."""
    try:
        return _TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # a damaged EXIF block says nothing; the pixels are whole
        return None


def _to_rgb(image):
    from PIL import Image

    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers without a range; save it with 8 or 16 bits a channel")
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow would clip at 255
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError("pixels have more than 16 bits; save it with 8 or 16 bits a channel")
        clear = image.info.get("transparency")
        image = Image.fromarray((pixels >> 8).astype(np.uint8))
        if isinstance(clear, int):
            image.putalpha(Image.fromarray(((pixels != clear) * 255).astype(np.uint8)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def extension_is_wrong(name: str, image_format: str) -> bool:
    """True where the ending of a file name is another format's; a name without a known ending is not wrong."""
    from PIL import Image

    expected = Image.registered_extensions().get(Path(name).suffix.lower())
    same = {"MPO": "JPEG", "APNG": "PNG"}
    return expected is not None and same.get(image_format, image_format) != same.get(expected, expected)


def reason_of(error: Exception) -> str:
    """Why a file cannot be used, "KIND: what the decoder said"; the kinds are those of the audit."""
    from PIL import Image, UnidentifiedImageError

    text = re.sub(r" <_io\.BytesIO[^>]*>", "", str(error)) or type(error).__name__  # Pillow names the object that it read from
    if isinstance(error, Image.DecompressionBombError):
        return f"decompression bomb: {text}"
    if isinstance(error, UnidentifiedImageError):
        return f"not an image: {text}"
    return f"truncated: {text}" if "truncated" in text.lower() else f"unreadable: {text}"
