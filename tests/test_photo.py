"""`decode_photo`: upright, on white, 8 bits, in a square of any geometry, and what a file says about itself."""

import csv
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from tfcnn.data import photo as photo_module
from tfcnn.data.photo import GEOMETRIES, NOTES, check_geometry, decode_photo, extension_is_wrong, make_thumbnails, reason_of
from tfcnn.errors import InputError

# How an upright picture lies in the file for each EXIF orientation.
STORED = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
          6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a, -1)}


def encode(pixels, image_format="PNG", *, orientation=None, **options):
    """The bytes of a file with these pixels."""
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.ascontiguousarray(pixels))
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def encode_16_bits(pixels, *, transparent=None):
    """A PNG of 16 bits a channel, which Pillow does not write; pixels are integers (height, width, 1 to 4)."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    colour = chunk(b"tRNS", struct.pack(f">{channels}H", *transparent)) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + colour + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def ramps(height, width):
    """A smooth picture that no turn leaves alike: red to the right, green down, blue in one corner."""
    down, right = np.mgrid[0:1:height * 1j, 0:1:width * 1j]
    return np.stack([255 * right, 255 * down, 255 * right * down], axis=-1).astype(np.uint8)


def verdicts(shared, *wanted):
    with open(shared / "ugly" / "manifest.csv", newline="", encoding="utf-8") as file:
        return [row["file"] for row in csv.DictReader(file) if row["loader_should"] in wanted]


def halves(height, width, colours, axis):
    """A picture of stripes of equal size: along the width for axis 1, along the height for axis 0."""
    picture = np.zeros((height, width, 3), np.uint8)
    for stripe, colour in zip(np.array_split(np.arange((height, width)[axis]), len(colours)), colours, strict=True):
        picture[(stripe, slice(None)) if axis == 0 else (slice(None), stripe)] = colour
    return picture


# Orientation.


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_the_orientation_in_a_lossless_file_is_applied_exactly(orientation, image_format):
    upright = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    photo = decode_photo(encode(STORED[orientation](upright), image_format, orientation=orientation), 16)
    np.testing.assert_array_equal(photo.pixels, upright)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("orientation", STORED)
def test_a_turned_photo_that_is_not_square_is_the_upright_one_in_every_geometry(orientation, geometry):
    upright = np.random.default_rng(1).integers(0, 256, (16, 48, 3), np.uint8)
    expected = decode_photo(encode(upright), 16, geometry)
    photo = decode_photo(encode(STORED[orientation](upright), orientation=orientation), 16, geometry)
    np.testing.assert_array_equal(photo.pixels, expected.pixels)
    np.testing.assert_array_equal(photo.thumbnail, expected.thumbnail)
    assert photo.facts[:3] == ("PNG", 48, 16)


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_the_orientation_in_a_lossy_file_is_applied(orientation, image_format):
    upright = ramps(32, 48)
    photo = decode_photo(encode(STORED[orientation](upright), image_format, orientation=orientation, quality=95), 32).pixels.astype(int)
    expected = decode_photo(encode(upright), 32).pixels.astype(int)
    assert np.abs(photo - expected).mean() < 2  # measured: 1.1
    for other in set(STORED) - {1}:
        assert np.abs(photo - STORED[other](expected)).mean() > 50, other  # measured: 58 and more


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    photo = decode_photo(encode(pixels, orientation=orientation), 16)
    np.testing.assert_array_equal(photo.pixels, pixels)
    assert "exif_rotated" not in photo.facts.notes


@pytest.mark.parametrize("orientation", [2, 5, 6, 8])
def test_real_photos_of_every_orientation_are_upright(shared, orientation):
    upright = decode_photo(shared / "ugly" / "hopper.bmp", 64).pixels.astype(int)
    turned = decode_photo(shared / "ugly" / f"hopper_orientation_{orientation}.jpg", 64).pixels
    assert np.abs(turned - upright).mean() < 8  # 5.5, what JPEG at this quality and its decoding at a half lose
    for other in set(STORED) - {1}:
        assert np.abs(turned - STORED[other](upright)).mean() > 25, other


# What can be read, and why the rest cannot.


def test_every_file_that_should_be_accepted_is_decoded(shared):
    names = verdicts(shared, "accept", "either")  # of the latter, nothing speaks against their pixels
    assert len(names) == 22
    for name in names:
        photo = decode_photo(shared / "ugly" / name, 32)
        assert photo.pixels.shape == (32, 32, 3) and photo.pixels.dtype == np.uint8, name
        assert photo.thumbnail.shape == (32, 32, 3) and photo.thumbnail.dtype == np.uint8, name
        if name not in ("apng_mode_16bit.png", "apng_mode_palette_alpha.png", "no_palette.gif"):  # of one colour
            assert photo.pixels.std() > 15, name


def test_every_file_that_should_be_rejected_has_a_reason_of_its_kind(shared):
    kinds = {}
    for name in verdicts(shared, "reject"):
        with pytest.raises(Exception) as caught:
            decode_photo(shared / "ugly" / name, 32)
        kinds[name], text = reason_of(caught.value).split(": ", 1)
        assert text and "\n" not in text, name
    assert kinds == {"broken.png": "not an image", "broken_data_stream.png": "unreadable", "bmp_b_shortfile.bmp": "truncated", "zero_bytes.jpg": "not an image",
                     "decompression_bomb.gif": "decompression bomb", "truncated_half.jpg": "truncated", "text_named.jpg": "not an image"}


def test_the_same_bytes_give_the_same_verdict_as_their_file(shared):
    for name in verdicts(shared, "accept", "either", "reject"):
        path, outcomes = shared / "ugly" / name, []
        for content in (path, path.read_bytes()):
            try:
                photo = decode_photo(content, 16)
                outcomes.append((photo.facts, photo.pixels.tobytes()))
            except Exception as error:
                outcomes.append(reason_of(error).replace(f" {str(path)!r}", ""))
        assert outcomes[0] == outcomes[1], name


def test_a_reason_does_not_name_the_object_in_memory():
    for content in (b"no photo", b""):
        with pytest.raises(Image.UnidentifiedImageError) as caught:
            decode_photo(content, 16)
        assert reason_of(caught.value) == "not an image: cannot identify image file"


@pytest.mark.parametrize("error, reason", [
    (OSError("image file is truncated (3 bytes not processed)"), "truncated: image file is truncated (3 bytes not processed)"),
    (OSError("Truncated File Read"), "truncated: Truncated File Read"),
    (Image.DecompressionBombError("too large"), "decompression bomb: too large"),
    (SyntaxError("not a TIFF file"), "unreadable: not a TIFF file"), (IndexError(), "unreadable: IndexError")])
def test_reasons_begin_with_their_kind(error, reason):
    assert reason_of(error) == reason


def test_a_decompression_bomb_is_never_decoded(shared, monkeypatch):
    loaded = []
    for kind in (Image.Image, ImageFile.ImageFile):
        monkeypatch.setattr(kind, "load", lambda self, real=kind.load: (loaded.append(self.size), real(self))[1])
    with pytest.raises(Image.DecompressionBombError):
        decode_photo(shared / "ugly" / "decompression_bomb.gif", 32)
    assert loaded == []
    decode_photo(shared / "ugly" / "iss634.gif", 32)
    assert loaded  # the watch works


# Modes.


def test_transparent_pixels_lie_on_white():
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = (200, 0, 100, 255)
    pixels[4:, 4:] = (200, 0, 100, 128)
    photo = decode_photo(encode(pixels), 8).pixels
    assert photo[0, 0].tolist() == [200, 0, 100] and photo[7, 0].tolist() == [255, 255, 255]
    np.testing.assert_allclose(photo[7, 7], [200 * 128 / 255 + 127, 127, 100 * 128 / 255 + 127], atol=1)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30] * 256)
    assert (decode_photo(encode(palette, transparency=0), 8).pixels == 255).all()


@pytest.mark.parametrize("mode, colour, expected", [
    ("L", 77, (77, 77, 77)), ("1", 1, (255, 255, 255)), ("LA", (50, 255), (50, 50, 50)), ("RGB", (1, 2, 3), (1, 2, 3)),
    ("RGBA", (1, 2, 3, 0), (255, 255, 255))])
def test_every_colour_mode_becomes_rgb(mode, colour, expected):
    photo = decode_photo(encode(Image.new(mode, (6, 9), colour)), 16).pixels
    assert photo.shape == (16, 16, 3) and photo.dtype == np.uint8
    assert (photo == expected).all()


@pytest.mark.parametrize("ink, expected", [((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 255), (0, 0, 0)), ((0, 0, 0, 0), (255, 255, 255))])
def test_cmyk_becomes_the_colour_of_its_inks(ink, expected):
    photo = decode_photo(encode(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95), 16)
    np.testing.assert_allclose(photo.pixels[8, 8], expected, atol=2)
    assert photo.facts.notes == ("cmyk", "extreme_size")


@pytest.mark.parametrize("image_format, dtype", [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32)])
def test_grey_of_sixteen_bits_keeps_its_shades(image_format, dtype):
    grey = np.arange(256).reshape(16, 16)
    photo = decode_photo(encode((grey * 257).astype(dtype), image_format), 16)
    np.testing.assert_array_equal(photo.pixels, np.repeat(grey[..., None], 3, axis=-1))
    assert "16_bit" in photo.facts.notes


def test_colours_of_sixteen_bits_are_scaled():
    pixels = np.full((8, 8, 3), (0x1234, 0x80FF, 0xFFFF))
    assert decode_photo(encode_16_bits(pixels), 8).pixels[0, 0].tolist() == [0x12, 0x80, 0xFF]
    with_alpha = np.full((8, 8, 4), (0x1234, 0x80FF, 0xFFFF, 0))
    with_alpha[:4, :, 3] = 0xFFFF
    photo = decode_photo(encode_16_bits(with_alpha), 8).pixels
    assert photo[0, 0].tolist() == [0x12, 0x80, 0xFF] and photo[7, 7].tolist() == [255, 255, 255]


def test_the_transparent_shade_of_a_grey_photo_of_sixteen_bits_lies_on_white():
    grey = np.full((8, 8, 1), 0x4000)
    grey[4:] = 0x1234
    photo = decode_photo(encode_16_bits(grey, transparent=(0x1234,)), 8)
    assert photo.pixels[0, 0].tolist() == [0x40] * 3
    assert photo.pixels[7, 7].tolist() == [255] * 3 and "alpha" in photo.facts.notes


@pytest.mark.parametrize("value", [-1, 65536, 2**31 - 1])
def test_integers_of_more_than_sixteen_bits_are_refused(value):
    with pytest.raises(ValueError, match="more than 16 bits; save it with 8 or 16 bits"):
        decode_photo(encode(np.array([[0, value]], np.int32), "TIFF"), 8)


def test_floating_point_pixels_are_refused():
    with pytest.raises(ValueError, match="floating-point numbers without a range") as caught:
        decode_photo(encode(np.full((8, 8), 0.5, np.float32), "TIFF"), 8)
    assert reason_of(caught.value).startswith("unreadable: pixels are floating-point")


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_is_its_first_frame(image_format):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    options = {"lossless": True} if image_format == "WEBP" else {}
    photo = decode_photo(encode(frames[0], image_format, save_all=True, append_images=frames[1:], **options), 8)
    assert (photo.pixels == (255, 0, 0)).all()
    assert photo.facts.notes == ("animated",)


def test_the_preview_inside_a_phones_jpeg_is_no_animation():
    photo = decode_photo(encode(Image.new("RGB", (64, 64), (200, 0, 0)), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))]), 8)
    np.testing.assert_allclose(photo.pixels[4, 4], (200, 0, 0), atol=3)
    assert photo.facts == ("MPO", 64, 64, ())


# Geometries.

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


@pytest.mark.parametrize("axis", [0, 1])
def test_stretch_keeps_everything(axis):
    shape = (96, 32) if axis == 0 else (32, 96)
    photo = decode_photo(encode(halves(*shape, [RED, GREEN, BLUE], axis)), 24, "stretch").pixels
    photo = photo if axis == 1 else photo.swapaxes(0, 1)
    assert (photo[:, :7] == RED).all() and (photo[:, 9:15] == GREEN).all() and (photo[:, 17:] == BLUE).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_letterbox_puts_equal_black_bars_beside_the_whole_photo(axis):
    shape = (96, 32) if axis == 0 else (32, 96)
    photo = decode_photo(encode(halves(*shape, [RED, GREEN, BLUE], axis)), 24, "letterbox").pixels
    photo = photo if axis == 1 else photo.swapaxes(0, 1)  # now wide: 24 by 8
    assert (photo[:8] == BLACK).all() and (photo[16:] == BLACK).all()
    inner = photo[8:16]
    assert (inner[:, :7] == RED).all() and (inner[:, 9:15] == GREEN).all() and (inner[:, 17:] == BLUE).all()


def test_letterbox_of_a_square_photo_has_no_bars():
    assert (decode_photo(encode(np.full((40, 40, 3), 9, np.uint8)), 24, "letterbox").pixels == 9).all()


def test_letterbox_leaves_a_line_of_a_photo_that_is_very_long():
    photo = decode_photo(np.full((1, 3000, 3), 9, np.uint8), 8, "letterbox").pixels
    assert (photo.max(axis=(1, 2)) == 9).sum() == 1 and (photo == 9).all(axis=(1, 2)).sum() == 1


@pytest.mark.parametrize("axis", [0, 1])
def test_center_crop_keeps_the_middle_square_alone(axis):
    shape = (96, 32) if axis == 0 else (32, 96)
    photo = decode_photo(encode(halves(*shape, [RED, GREEN, BLUE], axis)), 16, "center_crop").pixels
    assert (photo[1:-1, 1:-1] == GREEN).all()  # 32 of 96 pixels
    assert (photo[..., 1] > 200).all()  # the outermost pixels are interpolated with what lies beyond


def test_center_crop_does_not_distort():
    disc = np.hypot(*(np.mgrid[0:64, 0:128] - np.array([31.5, 63.5])[:, None, None])) < 24
    photo = decode_photo(encode(np.repeat(disc[..., None] * np.uint8(255), 3, axis=-1)), 32, "center_crop").pixels[..., 0] > 127
    assert photo.any(axis=0).sum() == photo.any(axis=1).sum() == 24  # 48 of 64 pixels, in both directions


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_thumbnail_is_of_the_whole_photo_in_any_geometry(geometry):
    picture = ramps(96, 192)
    thumbnail = decode_photo(encode(picture), 64, geometry).thumbnail.astype(int)
    expected = picture.reshape(32, 3, 32, 6, 3).mean(axis=(1, 3))
    assert np.abs(thumbnail - expected).mean() < 1.5


def test_thumbnails_of_pixels_in_memory_are_averages():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
    thumbnails = make_thumbnails(pixels)
    assert thumbnails.shape == (3, 32, 32, 3)
    np.testing.assert_allclose(thumbnails, pixels.reshape(3, 32, 2, 32, 3, 3).mean(axis=(2, 4)), atol=1)


def test_pixels_of_the_right_size_are_left_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    for geometry in GEOMETRIES:
        photo = decode_photo(pixels, 20, geometry)
        np.testing.assert_array_equal(photo.pixels, pixels)
        assert photo.facts == ("array", 20, 20, ("extreme_size",))


@pytest.mark.parametrize("height, width", [(240, 320), (100, 300), (163, 164), (81, 81)])
def test_a_smaller_photo_is_an_average_of_all_pixels(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    photo = decode_photo(pixels, 80).pixels.astype(int)
    plain = Image.fromarray(pixels).resize((80, 80), Image.Resampling.BILINEAR)
    assert photo.std() < np.asarray(plain).std() * 1.1  # measured: up to 1.002 times, where single pixels have 1.5 to 5 times
    assert abs(photo.mean() - pixels.mean()) < 0.5


def test_a_geometry_and_a_size_that_are_none_are_named():
    with pytest.raises(InputError, match="geometry='crop'; did you mean 'center_crop'"):
        check_geometry(224, "crop")
    for size in (7, 2049, 32.0, True):
        with pytest.raises(InputError, match=f"from 8 to 2048 pixels, got image_size={size}"):
            check_geometry(size, "stretch")


# JPEGs decoded at a part of their size.


def needed(width, height, side, geometry):
    """The largest of 1/1, 1/2, 1/4 and 1/8 of a JPEG that leaves all pixels that the square needs."""
    scale = {"stretch": min, "center_crop": min, "letterbox": max}[geometry](width, height) / side
    return max(factor for factor in (1, 2, 4, 8) if factor <= max(scale, 1))


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("width, height", [(1000, 800), (800, 1000), (1601, 330), (330, 1601), (640, 640)])
def test_a_jpeg_is_decoded_as_small_as_possible_but_never_below_what_is_needed(monkeypatch, geometry, width, height):
    decoded = []
    monkeypatch.setattr(photo_module, "_finish", lambda image, *rest, real=photo_module._finish: (decoded.append(image.size), real(image, *rest))[1])
    content = encode(np.zeros((height, width, 3), np.uint8), "JPEG")
    for side in (32, 79, 80, 81, 100, 160, 224, 500, 1024):
        photo = decode_photo(content, side, geometry)
        factor = needed(width, height, side, geometry)
        assert decoded.pop() == (-(-width // factor), -(-height // factor)), side
        assert photo.facts[:3] == ("JPEG", width, height) and photo.pixels.shape == (side, side, 3)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name, turn", [("Landscape_3.jpg", Image.Transpose.ROTATE_180), ("Portrait_6.jpg", Image.Transpose.ROTATE_270)])
def test_a_large_jpeg_decoded_at_an_eighth_differs_little(shared, name, turn, geometry):
    assert needed(1200, 1800, 100, geometry) == 8
    with Image.open(shared / "ugly" / name) as image:
        whole = np.asarray(image.transpose(turn))
    photo, expected = decode_photo(shared / "ugly" / name, 100, geometry), decode_photo(whole, 100, geometry)
    difference = lambda a, b: float(np.abs(a.astype(int) - b).mean())
    assert difference(photo.pixels, expected.pixels) < 2.5  # of 255; measured: 1.0 to 2.0
    assert difference(photo.pixels[:, ::-1], expected.pixels) > 25
    assert difference(photo.thumbnail, expected.thumbnail) < 4


# What a file says about itself.


def test_the_size_of_a_turned_photo_is_that_of_the_upright_one():
    pixels = np.zeros((400, 640, 3), np.uint8)
    for orientation, size in ((1, (640, 400)), (3, (640, 400)), (6, (400, 640)), (7, (400, 640))):
        facts = decode_photo(encode(pixels, "JPEG", orientation=orientation), 32).facts  # decoded at 1/8
        assert facts[1:3] == size, orientation
        assert facts.notes == (() if orientation == 1 else ("exif_rotated",))


def test_the_size_of_a_turned_photo_is_right_when_its_reduction_is_square():
    content = encode(np.zeros((1008, 1001, 3), np.uint8), "JPEG", orientation=6)  # an eighth of both sides, rounded up, is 126
    assert decode_photo(content, 64).facts[1:3] == (1008, 1001)


SIXTEEN = np.full((64, 64), 1000, np.uint16)
TRIGGERS = {
    "extreme_size": lambda: [encode(Image.new("RGB", size)) for size in ((31, 64), (64, 31), (33, 265), (265, 33))],
    "animated": lambda: [encode(Image.new("RGB", (64, 64)), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 64), "red")])],
    "cmyk": lambda: [encode(Image.new("CMYK", (64, 64)), "JPEG"), encode(Image.new("CMYK", (64, 64)), "TIFF")],
    "16_bit": lambda: [encode(SIXTEEN), encode(SIXTEEN, "TIFF"), encode(SIXTEEN.astype(np.int32), "TIFF"), encode_16_bits(np.zeros((64, 64, 3)))],
    "alpha": lambda: [encode(Image.new("RGBA", (64, 64))), encode(Image.new("LA", (64, 64))), encode(Image.new("L", (64, 64)), transparency=0)],
    "exif_rotated": lambda: [encode(Image.new("RGB", (64, 64)), image_format, orientation=orientation)
                             for image_format in ("PNG", "JPEG", "WEBP") for orientation in (2, 8)],
}


def test_every_note_but_the_name_is_made_by_decoding():
    assert set(TRIGGERS) | {"wrong_extension"} == set(NOTES)  # the name is known to the audit, not to the decoder


@pytest.mark.parametrize("note", TRIGGERS)
def test_what_is_unusual_is_noted_and_nothing_else(note):
    for content in TRIGGERS[note]():
        assert decode_photo(content, 16).facts.notes == (note,)


def test_an_ordinary_photo_has_no_notes():
    for size in ((32, 32), (33, 264), (64, 48)):
        for image_format in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"):
            assert decode_photo(encode(Image.new("RGB", size), image_format, orientation=1 if image_format == "JPEG" else None), 16).facts == (
                image_format, *size, ())


@pytest.mark.parametrize("name, image_format, wrong", [
    ("a.jpg", "JPEG", False), ("a.JPEG", "JPEG", False), ("a.jfif", "JPEG", False), ("a.jpg", "MPO", False), ("a.mpo", "JPEG", False),
    ("a.png", "PNG", False), ("a.apng", "PNG", False), ("a.jp2", "JPEG2000", False), ("a.tif", "TIFF", False), ("a.b.webp", "WEBP", False),
    ("a", "PNG", False), ("a.photo", "PNG", False), ("a.jpg.bak", "PNG", False), (".jpg", "PNG", False),
    ("a.jpg", "PNG", True), ("a.png", "JPEG", True), ("a.png", "MPO", True), ("a.gif", "WEBP", True), ("/x.png/a.bmp", "PNG", True)])
def test_a_name_of_another_format_is_wrong(name, image_format, wrong):
    assert extension_is_wrong(name, image_format) is wrong
