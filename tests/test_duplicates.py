"""Near copies: the same picture in another encoding, size or orientation."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from tfcnn.data.duplicates import TURNS, Pair, connected, near_duplicates
from tfcnn.data.photo import GEOMETRIES, decode_photo, make_thumbnails

ENCODINGS = (("JPEG", {"quality": 30}), ("JPEG", {"quality": 60}), ("JPEG", {"quality": 95}), ("WEBP", {"quality": 50, "method": 0}),
             ("PNG", {"compress_level": 1}))
SCALES = (0.4, 0.53, 0.7, 0.87, 1.0, 1.31, 1.6)


@pytest.fixture(scope="module")
def paths(shared):
    """150 photos of waste, 25 of each class."""
    return sorted((shared / "trashnet600").glob("*/*.jpg"))[::4]


@pytest.fixture(scope="module")
def real(paths):
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    return images


@pytest.fixture(scope="module")
def copies(real):
    """Contents of changed copies: each of the 35 combinations of encoding and scale four times or more."""
    return [encode(image, ENCODINGS[number % 5][0], SCALES[number % 7], **ENCODINGS[number % 5][1]) for number, image in enumerate(real)]


def encode(image, image_format, scale=1.0, **options):
    file = io.BytesIO()
    size = (round(image.width * scale), round(image.height * scale))
    (image if scale == 1 else image.resize(size, Image.Resampling.BICUBIC)).save(file, image_format, **options)
    return file.getvalue()


def thumbnails_of(contents, geometry="stretch", side=64):
    return np.stack([decode_photo(content, side, geometry).thumbnail for content in contents])


def picture(seed, side=32):
    """A smooth picture that looks like no other seed's and like itself in no other orientation."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def turned(pixels):
    """The seven other orientations of a square picture."""
    return [turn for quarter in range(4) for turn in (np.rot90(pixels, quarter), np.rot90(pixels, quarter)[:, ::-1])][1:]


def ends(pairs):
    return {(pair.first, pair.second) for pair in pairs}


# Real photos.


@pytest.mark.parametrize("geometry, side", [("stretch", 224), ("stretch", 16), ("letterbox", 64)])
def test_different_photos_are_no_pair(paths, geometry, side):
    assert near_duplicates(thumbnails_of(paths, geometry, side)) == []


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_copy_of_another_size_and_encoding_is_found_and_nothing_else(paths, copies, geometry):
    pairs = near_duplicates(np.concatenate([thumbnails_of(contents, geometry) for contents in (paths, copies)]))
    assert ends(pairs) == {(number, number + 150) for number in range(150)}
    assert not any(pair.turned for pair in pairs)


def test_every_turned_or_mirrored_copy_is_found_and_said_to_be_turned(paths, real):
    turns = list(Image.Transpose)
    assert len(turns) == 7
    copies = thumbnails_of(encode(image.transpose(turns[number % 7]), "JPEG", quality=85) for number, image in enumerate(real))
    pairs = near_duplicates(np.concatenate([thumbnails_of(paths), copies]))
    assert pairs == [Pair(number, number + 150, True) for number in range(150)]


@pytest.mark.parametrize("side", [96, 150, 224])
def test_copies_of_photos_that_lie_in_memory_are_found(real, side):
    square = lambda image, scale: np.asarray(image.resize((round(image.width * scale),) * 2).resize((side, side), Image.Resampling.BILINEAR))
    originals = make_thumbnails(np.stack([square(image, 1) for image in real[:50]]))
    copies = make_thumbnails(np.stack([square(image, SCALES[number % 7]) for number, image in enumerate(real[:50])]))
    assert ends(near_duplicates(np.concatenate([originals, copies]))) == {(number, number + 50) for number in range(50)}


# Made pictures.


def test_the_seven_turned_copies_of_a_picture_hang_together_with_it():
    pictures = np.stack([picture(0), *turned(picture(0)), picture(1)])
    pairs = near_duplicates(pictures)
    assert ends(pairs) == {(a, b) for a in range(8) for b in range(a + 1, 8)} and all(pair.turned for pair in pairs)
    assert connected(9, sorted(ends(pairs))).tolist() == [0] * 8 + [1]


def test_a_copy_that_is_alike_both_ways_is_not_called_turned():
    symmetric = picture(0).astype(int) + picture(0)[:, ::-1]
    other = picture(1).astype(int) + picture(1)[::-1]
    pairs = near_duplicates(np.stack([symmetric // 2, other // 2, symmetric // 2, other // 2]).astype(np.uint8))
    assert pairs == [Pair(0, 2, False), Pair(1, 3, False)]


def test_the_order_of_the_rows_does_not_change_what_is_found():
    pictures = np.stack([picture(seed // 2) if seed % 4 else picture(seed // 2)[::-1] for seed in range(40)])
    expected = near_duplicates(pictures)
    assert [pair.turned for pair in expected] == [number % 2 == 0 for number in range(20)]
    order = np.random.default_rng(0).permutation(40)
    back = {(*sorted((int(order[pair.first]), int(order[pair.second]))), pair.turned) for pair in near_duplicates(pictures[order])}
    assert back == {tuple(pair) for pair in expected}


def test_a_picture_with_another_tint_or_another_part_is_another_picture():
    base = picture(0)
    other_tint = base[..., ::-1]
    covered = base.copy()
    covered[8:24, 8:24] = 0
    shifted = np.roll(base, 8, axis=1)
    assert near_duplicates(np.stack([base, other_tint, covered, shifted])) == []


def test_five_thousand_equal_pictures_hang_together_in_seconds():
    pictures = np.stack([picture(0)] * 5000 + [picture(1)] * 2)
    start = time.process_time()
    pairs = near_duplicates(pictures)
    assert time.process_time() - start < 20  # measured: 4
    assert connected(5002, sorted(ends(pairs))).tolist() == [0] * 5000 + [1] * 2
    assert len(pairs) < 100_000  # of 12.5 million


def test_equal_pictures_and_their_mirror_images_hang_together_without_naming_every_pair():
    pictures = np.stack([picture(0)] * 150 + [picture(0)[:, ::-1]] * 150)
    pairs = near_duplicates(pictures)
    assert set(connected(300, sorted(ends(pairs)))) == {0}
    assert len(pairs) < 5000  # of 45 000


@pytest.mark.parametrize("first, second, same", [
    ((128, 128, 128), (128, 128, 128), True), ((255, 255, 255), (255, 255, 255), True), ((128, 128, 128), (129, 128, 128), True),
    ((255, 0, 0), (0, 0, 255), False), ((255, 255, 255), (0, 0, 0), False), ((128, 128, 128), (140, 128, 128), False),
    ((128, 128, 128), (134, 134, 134), False)])
def test_photos_of_one_colour_are_the_same_only_in_the_same_colour(first, second, same):
    pictures = np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in (first, second)])
    assert near_duplicates(pictures) == ([Pair(0, 1, False)] if same else [])


def test_photos_of_one_colour_with_noise_are_the_same():
    noise = np.random.default_rng(0).integers(-2, 3, (2, 32, 32, 3))
    assert near_duplicates((128 + noise).astype(np.uint8)) == [Pair(0, 1, False)]


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_photos_have_no_pairs(count):
    assert near_duplicates(np.zeros((count, 32, 32, 3), np.uint8)) == []


def test_anything_that_is_indexed_by_rows_is_looked_through():
    class Rows:
        def __len__(self):
            return 3

        def __getitem__(self, rows):
            return np.stack([picture(0), picture(1), picture(0)])[np.asarray(rows)]

    assert near_duplicates(Rows()) == [Pair(0, 2, False)]


def test_all_eight_orientations_are_tried_once_and_the_upright_one_first():
    assert len(set(TURNS)) == 8 and not any(TURNS[0])


# Groups.


@pytest.mark.parametrize("count, pairs, expected", [
    (0, [], []), (3, [], [0, 1, 2]), (4, [(0, 1), (2, 3)], [0, 0, 1, 1]), (5, [(4, 2), (2, 0)], [0, 1, 0, 2, 0]),
    (4, [(1, 1), (0, 3), (3, 0)], [0, 1, 2, 0]), (6, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)], [0] * 6)])
def test_rows_that_hang_together_have_one_number(count, pairs, expected):
    assert connected(count, pairs).tolist() == expected
