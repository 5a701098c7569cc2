"""Random changes to training photos that leave their label true."""

import numpy as np
import pytest

from tfcnn.data.augment import STRENGTHS, augment_photos


def augmented(pixels, strength="medium", seed=(3, 4), mirror=True):
    """The result as an array."""
    import tensorflow as tf

    return np.asarray(augment_photos(tf.constant(pixels, tf.float32), strength=strength, seed=seed, mirror=mirror))


def noise(count, height=12, width=16):
    """Photos of random bytes."""
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.float32)


def test_none_gives_the_pixels_back():
    np.testing.assert_array_equal(augmented(noise(3), "none"), noise(3))


@pytest.mark.parametrize("strength", ["light", "medium"])
def test_shape_type_and_range_are_kept(strength):
    result = augmented(noise(64), strength)
    assert result.shape == (64, 12, 16, 3) and result.dtype == np.float32
    assert result.min() >= 0 and result.max() <= 255
    white = augmented(np.full((64, 8, 8, 3), 255), strength)
    assert white.max() == 255 and 255 * (1 - STRENGTHS[strength].brightness) - 1e-3 <= white.min() < 250
    assert augmented(np.zeros((4, 8, 8, 3)), strength).max() == 0


@pytest.mark.parametrize("strength", ["light", "medium"])
def test_the_same_seed_gives_the_same_and_another_seed_another(strength):
    first = augmented(noise(4), strength, (1, 2))
    np.testing.assert_array_equal(first, augmented(noise(4), strength, (1, 2)))
    for seed in ((1, 3), (2, 2)):
        assert (np.abs(first - augmented(noise(4), strength, seed)).mean(axis=(1, 2, 3)) > 5).all()


def test_equal_photos_in_a_batch_are_changed_differently():
    results = augmented(np.repeat(noise(1), 16, axis=0), "light")
    assert len({result.tobytes() for result in results}) == 16


@pytest.mark.parametrize("strength", ["light", "medium"])
def test_about_half_of_the_photos_are_mirrored(strength):
    photos = np.full((400, 16, 16, 3), 60.0)
    photos[:, :, 8:] = 190  # bright on the right
    result = augmented(photos, strength)
    right = result[:, 2:-2, 11:].mean(axis=(1, 2, 3)) > result[:, 2:-2, :5].mean(axis=(1, 2, 3))
    assert 160 < right.sum() < 240  # four standard errors around 200
    kept = augmented(photos, strength, mirror=False)
    assert (kept[:, 2:-2, 11:].mean(axis=(1, 2, 3)) > kept[:, 2:-2, :5].mean(axis=(1, 2, 3)) + 50).all()
    np.testing.assert_allclose(kept[right], result[right], atol=1e-3)  # the other changes stay the same
    photos = photos.transpose(0, 2, 1, 3)  # bright at the bottom: never upside down
    result = augmented(photos, strength)
    assert (result[:, 11:, 2:-2].mean(axis=(1, 2, 3)) > result[:, :5, 2:-2].mean(axis=(1, 2, 3)) + 50).all()


def test_only_medium_turns():
    stripes = np.tile(np.linspace(50, 200, 32)[None, :, None, None], (64, 1, 32, 3))
    slope = lambda result: np.abs(np.diff(result[:, 8:24, 8:24], axis=2)).mean(axis=(1, 2, 3))
    assert slope(augmented(stripes, "light")).max() < 1e-3
    assert slope(augmented(stripes, "medium")).max() > 0.3


@pytest.mark.parametrize("strength", ["light", "medium"])
def test_what_is_in_the_middle_stays_there_and_keeps_its_size(strength):
    side, ranges = 64, STRENGTHS[strength]
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    photos = np.tile(np.where(x**2 + y**2 <= 12**2, 220.0, 40.0)[None, :, :, None], (200, 1, 1, 3))
    result = augmented(photos, strength)[..., 0]
    seen = result > (result.max(axis=(1, 2), keepdims=True) + result.min(axis=(1, 2), keepdims=True)) / 2
    area = seen.sum(axis=(1, 2)) / (photos[0, ..., 0] > 130).sum()
    zoom = (1 + ranges.zoom) ** 2
    assert 0.95 / zoom < area.min() < 1 - ranges.zoom / 2 and 1 + ranges.zoom / 2 < area.max() < 1.05 * zoom
    for axis in (x, y):
        moved = (seen * axis).sum(axis=(1, 2)) / seen.sum(axis=(1, 2)) / side
        limit = ranges.shift * (1 + ranges.zoom) * 1.5  # a shift is turned and zoomed with the photo
        assert ranges.shift / 2 < np.abs(moved).max() < limit and abs(moved.mean()) < ranges.shift / 4


@pytest.mark.parametrize("strength", ["light", "medium"])
def test_brightness_changes_within_its_range_and_colours_keep_their_order(strength):
    colours = np.tile(np.float32([120, 90, 60]), (200, 8, 8, 1))
    result = augmented(colours, strength)
    factor = result.mean(axis=(1, 2, 3)) / 90
    brightness = STRENGTHS[strength].brightness
    assert 1 - brightness - 1e-4 <= factor.min() < 1 - brightness * 0.9 and 1 + brightness * 0.9 < factor.max() <= 1 + brightness + 1e-4
    contrast = (result[..., 0] - result[..., 2]).mean(axis=(1, 2)) / 60
    limit = STRENGTHS[strength].contrast
    assert 1 - limit - 1e-4 <= contrast.min() < 1 - limit * 0.9 and 1 + limit * 0.9 < contrast.max() <= 1 + limit + 1e-4
    assert (np.diff(result, axis=-1) < 0).all()


def test_the_edges_are_filled_with_the_photo_and_not_with_black():
    assert augmented(np.full((64, 16, 16, 3), 100), "medium").min() > 75


def test_stronger_is_stronger():
    slope = np.tile(np.linspace(50, 200, 32, dtype=np.float32)[None, :, None, None], (64, 1, 32, 3))
    none, light, medium = (np.abs(augmented(slope, strength) - slope).mean() for strength in ("none", "light", "medium"))
    assert none == 0 and light > 3 and medium > 1.5 * light
