"""Random changes to training photos that leave their label true, and mixtures of photos with mixed labels."""

import numpy as np
import pytest

from tfcnn.data import augment
from tfcnn.data.augment import STRENGTHS, Strength, augment_photos, mix_photos
from tfcnn.data.grid import draw_grid
from tfcnn.data.operations import OPERATIONS
from tfcnn.errors import InputError


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


@pytest.mark.parametrize("strength", ["light", "medium", "strong"])
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
    none, light, medium, strong = (np.abs(augmented(slope, strength) - slope).mean() for strength in STRENGTHS)
    assert none == 0 and light > 3 and medium > 1.5 * light and strong > 1.2 * medium


def test_light_and_medium_give_what_published_results_were_trained_on():
    """Kept from the code before "strong" came: means of three photos, then one of their pixels, at (1, 2, 0) and at (4, 6, 2)."""
    kept = {
        ("light", True): [[116.357, 124.813, 129.513], [139.692, 52.297, 228.115], [130.568, 126.799, 134.091]],
        ("light", False): [[116.357, 124.813, 129.513], [96.667, 52.297, 228.115], [169.808, 126.799, 134.091]],
        ("medium", True): [[109.203, 123.149, 128.433], [98.993, 92.097, 196.321], [97.186, 81.129, 162.135]],
        ("medium", False): [[109.203, 123.149, 128.433], [128.106, 92.097, 196.321], [133.480, 81.129, 162.135]],
    }
    photos = (np.arange(3 * 6 * 8 * 3) * 37 % 256).reshape(3, 6, 8, 3)
    for (strength, mirror), values in kept.items():
        result = augmented(photos, strength, (2024, 11), mirror)
        np.testing.assert_allclose([result.mean(axis=(1, 2, 3)), result[:, 1, 2, 0], result[:, 4, 6, 2]], values, atol=1e-3)


def test_light_and_medium_use_nothing_that_is_new():
    assert all(row[5:] == (0,) * 10 for row in (STRENGTHS["light"], STRENGTHS["medium"]))


@pytest.mark.parametrize("strength", ["light", "medium", "strong"])
@pytest.mark.parametrize("value", [0, 100, 255])
def test_a_blank_photo_stays_blank_and_in_range(strength, value):
    result = augmented(np.full((128, 9, 7, 3), value), strength)
    assert result.shape == (128, 9, 7, 3) and result.dtype == np.float32
    assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 255
    assert np.ptp(result, axis=(1, 2)).max() < 0.1
    assert value == 0 or np.ptp(result.mean(axis=(1, 2, 3))) > 10  # but its brightness changes


def test_strong_keeps_the_range_and_changes_every_photo():
    result = augmented(noise(256), "strong")
    assert result.dtype == np.float32 and np.isfinite(result).all() and result.min() >= 0 and result.max() <= 255
    assert (np.abs(result - noise(256)).mean(axis=(1, 2, 3)) > 5).all()


@pytest.mark.parametrize("strength", ["light", "medium", "strong"])
def test_draws_do_not_depend_on_the_size_of_the_photos(strength):
    colour = np.float32([150, 90, 40])
    small, large = (augmented(np.tile(colour, (64, *size, 1)), strength).mean(axis=(1, 2)) for size in ((6, 6), (10, 31)))
    np.testing.assert_allclose(small, large, atol=0.01)


def test_strong_works_in_tf_data_with_batches_of_unknown_size():
    import tensorflow as tf

    def change(pixels, step):
        pixels = augment_photos(pixels, strength="strong", seed=tf.stack([tf.constant(7, tf.int64), step]))
        return mix_photos(pixels, tf.one_hot(tf.range(tf.shape(pixels)[0]), 4), tf.ones(tf.shape(pixels)[:1]), strength="strong",
                          seed=tf.stack([tf.constant(7, tf.int64), step]))

    batches = tf.data.Dataset.from_tensor_slices(noise(7)).batch(4)
    batches = tf.data.Dataset.zip(batches, tf.data.Dataset.range(2)).map(change, num_parallel_calls=2)
    assert batches.element_spec[0].shape.as_list() == [None, 12, 16, 3]
    got = [[array.numpy() for array in batch] for batch in batches]
    assert [len(pixels) for pixels, _, _ in got] == [4, 3]
    for step, (pixels, targets, _) in enumerate(got):
        eager = augmented(noise(7)[4 * step : 4 * step + 4], "strong", (7, step))
        kept = targets.max(axis=1) == 1
        assert kept.any()
        np.testing.assert_allclose(pixels[kept], eager[kept], atol=1e-2)


@pytest.mark.parametrize("strength", ["light", "medium", "strong"])
def test_grey_photos_change_like_photos_of_three_equal_channels(strength):
    grey = noise(64, 16, 16)[..., :1]
    result = augmented(grey, strength)
    assert result.shape == grey.shape and np.abs(result - grey).mean() > 5
    np.testing.assert_allclose(result, augmented(np.repeat(grey, 3, axis=-1), strength)[..., :1], atol=0.02)


@pytest.mark.parametrize("strength", ["light", "medium", "strong"])
def test_a_fourth_channel_moves_with_the_photo_and_changes_the_other_three_not_at_all(strength):
    rgb = noise(64, 16, 16)
    result = augmented(np.concatenate([rgb, rgb[..., 1:2]], axis=-1), strength)
    np.testing.assert_array_equal(result[..., :3], augmented(rgb, strength))
    assert result.shape == (64, 16, 16, 4)


def test_a_fourth_channel_is_moved_and_erased_but_not_recoloured(monkeypatch):
    fourth = np.broadcast_to(np.linspace(0, 255, 16, dtype=np.float32)[:, None, None], (64, 16, 16, 1))
    four = np.concatenate([noise(64, 16, 16), fourth], axis=-1)
    colours = {"brightness": 0.5, "contrast": 0.5, "saturation": 1, "hue": 180}
    result = one_change(monkeypatch, four, **colours)
    np.testing.assert_allclose(result[..., 3:], fourth, atol=1e-3)
    assert np.abs(result - four)[..., :3].mean() > 20
    kept = ("identity", "autocontrast", "equalize", "posterize", "solarize", "saturation", "sharpness")  # not the shears, which move
    monkeypatch.setattr(augment, "OPERATIONS", {name: OPERATIONS[name] for name in (*kept, "shear_x", "shear_y")})
    monkeypatch.setattr(augment, "_shears", lambda *_: 0.0)
    np.testing.assert_allclose(one_change(monkeypatch, four, operations=3, magnitude=10)[..., 3:], fourth, atol=1e-3)

    moved = one_change(monkeypatch, np.repeat(fourth, 4, axis=-1), shift=0.3, rotation=90, zoom=0.5)
    np.testing.assert_allclose(moved[..., 3], moved[..., 0], atol=1e-3)
    assert np.abs(moved[..., 3:] - fourth).mean() > 20
    erased = one_change(monkeypatch, np.repeat(fourth, 4, axis=-1), erasing=1, erased_least=0.2, erased_most=0.3)
    np.testing.assert_allclose(erased[..., 3], erased[..., 0], atol=1e-3)
    assert 0.15 < (np.abs(erased - fourth) > 1e-3)[..., 3].mean() < 0.3


@pytest.mark.parametrize("channels", [1, 4])
def test_photos_of_other_channels_are_mixed_whole(channels):
    photos = (np.arange(64, dtype=np.float32) * 37 % 251)[:, None, None, None] + np.zeros((12, 16, 1), np.float32) + np.arange(channels, dtype=np.float32)
    pixels, targets = (np.asarray(part) for part in mix_photos(photos, np.eye(64, dtype=np.float32), np.ones(64, np.float32), strength="strong",
                                                               seed=(1, 2))[:2])
    assert pixels.shape == (64, 12, 16, channels)
    others = np.roll(photos, 1, axis=0)
    shares = (pixels - others) / (photos - others)  # of a photo in each of its values
    assert np.ptp(shares, axis=-1).max() < 1e-3  # in all channels of a pixel alike
    np.testing.assert_allclose(shares.mean(axis=(1, 2, 3)), targets[np.arange(64), np.arange(64)], atol=1e-3)
    assert 15 < (targets.max(axis=1) < 1).sum() < 50


def test_an_unknown_strength_offers_the_closest():
    for call in (lambda: augmented(noise(1), "stronk"), lambda: mix_photos(0, 0, 0, strength="stronk", seed=(0, 0)),
                 lambda: draw_grid(np.zeros((1, 8, 8, 3), np.uint8), strength="stronk")):
        with pytest.raises(InputError, match=r"got strength='stronk'; did you mean 'strong'\? \(all: none, light, medium, strong\)"):
            call()


def one_change(monkeypatch, photos, **ranges):
    """Photos augmented with these ranges alone, not mirrored."""
    monkeypatch.setitem(STRENGTHS, "one", Strength(**{"shift": 0, "zoom": 0, "rotation": 0, "brightness": 0, "contrast": 0} | ranges))
    return augmented(photos, "one", mirror=False)


def test_saturation_moves_colours_from_grey_and_keeps_their_mean(monkeypatch):
    colour = np.float32([120, 90, 60])
    result = one_change(monkeypatch, np.tile(colour, (300, 4, 4, 1)), saturation=0.4)[:, 0, 0]
    factors = (result - 90)[:, 0] / 30
    assert 0.6 - 1e-4 <= factors.min() < 0.63 and 1.37 < factors.max() <= 1.4 + 1e-4
    np.testing.assert_allclose(result, 90 + factors[:, None] * (colour - 90), atol=1e-3)


def test_hue_turns_colours_within_its_range_and_leaves_grey(monkeypatch):
    result = one_change(monkeypatch, np.tile(np.float32([120, 90, 60]), (300, 4, 4, 1)), hue=10)[:, 0, 0] - 90
    np.testing.assert_allclose(result.mean(axis=1), 0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), np.linalg.norm([30, 0, -30]), rtol=1e-4)
    cosine = result @ np.float32([30, 0, -30]) / 1800
    assert 9.5 < np.degrees(np.arccos(cosine.min().clip(-1, 1))) <= 10.01
    assert (result[:, 1] > 1).any() and (result[:, 1] < -1).any()  # to both sides
    np.testing.assert_allclose(one_change(monkeypatch, np.full((20, 4, 4, 3), 77), hue=90), 77, atol=1e-3)


def operated(name, photo, level=1.0):
    """One photo (height, width, 3) after one operation."""
    import tensorflow as tf

    return np.asarray(OPERATIONS[name](tf.constant(photo, tf.float32)[None], tf.constant([level])))[0]


def greys(values):
    """A photo of one row whose three colours are these values."""
    return np.repeat(np.float32(values)[None, :, None], 3, axis=2)


def test_identity_leaves_the_photo():
    np.testing.assert_array_equal(operated("identity", noise(1)[0]), noise(1)[0])


def test_autocontrast_stretches_each_colour_and_leaves_a_flat_one():
    photo = greys([50, 75, 100])
    photo[..., 1] += 100
    photo[..., 2] = 60
    np.testing.assert_allclose(operated("autocontrast", photo)[0], [[0, 0, 60], [127.5, 127.5, 60], [255, 255, 60]], atol=1e-3)


def test_equalize_flattens_the_histogram():
    values = np.repeat([100, 101, 103, 110], [4, 4, 4, 4])
    np.testing.assert_allclose(operated("equalize", greys(values))[0, ::4, 0], [0, 85, 170, 255], atol=1e-3)
    np.testing.assert_allclose(operated("equalize", greys(values), -0.5)[0, ::4, 0], [50, 93, 136.5, 182.5], atol=1e-3)
    dark = np.random.default_rng(1).normal(60, 10, (64, 64, 3)).clip(0, 255)
    shares = np.histogram(operated("equalize", dark), bins=4, range=(0, 255))[0] / dark.size
    np.testing.assert_allclose(shares, 0.25, atol=0.03)
    np.testing.assert_array_equal(operated("equalize", greys([9, 9, 9])), greys([9, 9, 9]))


def test_posterize_keeps_the_top_bits():
    every = np.arange(256)
    for level, bits in ((0.0, 8), (0.25, 7), (-0.5, 6), (1.0, 4)):
        np.testing.assert_array_equal(operated("posterize", greys(every), level)[0, :, 0], every >> (8 - bits) << (8 - bits))


def test_solarize_inverts_above_the_threshold():
    np.testing.assert_allclose(operated("solarize", greys([0, 100, 191, 192, 200, 255]))[0, :, 0], [0, 100, 191, 192, 184, 129])
    np.testing.assert_allclose(operated("solarize", greys([0, 223, 225, 255]), -0.5)[0, :, 0], [0, 223, 223, 193])
    np.testing.assert_array_equal(operated("solarize", greys(np.arange(256)), 0.0), greys(np.arange(256)))


def test_the_saturation_operation_fades_and_strengthens_colours():
    photo = np.tile(np.float32([120, 90, 60]), (2, 2, 1))
    np.testing.assert_allclose(operated("saturation", photo, -1.0)[0, 0], [93, 90, 87], atol=1e-3)
    np.testing.assert_allclose(operated("saturation", photo, 1.0)[0, 0], [147, 90, 33], atol=1e-3)


def test_sharpness_blurs_and_sharpens_but_not_the_frame():
    photo = np.full((5, 5, 3), 100.0)
    photo[2, 2] = 126
    np.testing.assert_allclose(operated("sharpness", photo, 1.0)[1:4, 1:4, 0], [[98.2] * 3, [98.2, 140.4, 98.2], [98.2] * 3], atol=1e-3)
    np.testing.assert_allclose(operated("sharpness", photo, -1.0)[1:4, 1:4, 0], [[101.8] * 3, [101.8, 111.6, 101.8], [101.8] * 3], atol=1e-3)
    for level in (-1.0, 1.0):
        result = operated("sharpness", noise(1)[0], level)
        frame = np.ones((12, 16), bool)
        frame[1:-1, 1:-1] = False
        np.testing.assert_array_equal(result[frame], noise(1)[0][frame])


@pytest.mark.parametrize("level", [-1.0, 0.5, 1.0])
def test_shears_slant_lines_of_one_direction_and_leave_the_other(level):
    import tensorflow as tf

    def sheared(name, photo):
        """The photo as it is moved where `name` was drawn first at this level and "identity" second."""
        chosen = [tf.constant([list(OPERATIONS).index(drawn)]) for drawn in (name, "identity")]
        shears = [augment._shears(shear, chosen, [tf.constant([level]), tf.constant([1.0])]) for shear in ("shear_x", "shear_y")]
        one, zero = tf.ones(1), tf.zeros(1)
        return np.asarray(augment._moved(tf.constant(photo[None], tf.float32), one, zero, one, (zero, zero), shears))[0]

    upright = np.zeros((41, 41, 3))
    upright[:, 19:22] = 200  # through the centre
    level_line = upright.transpose(1, 0, 2)
    places = (np.arange(41) * sheared("shear_x", upright)[..., 0]).sum(axis=1) / 600
    np.testing.assert_allclose(places[5:36], 20 - 0.3 * level * np.arange(-15, 16), atol=0.01)
    np.testing.assert_allclose(sheared("shear_y", level_line), sheared("shear_x", upright).transpose(1, 0, 2), atol=1e-2)
    np.testing.assert_allclose(sheared("shear_x", level_line), level_line, atol=1e-2)
    np.testing.assert_allclose(sheared("shear_y", upright), upright, atol=1e-2)


def test_each_photo_draws_its_own_operations_all_as_often(monkeypatch):
    for number, name in enumerate(OPERATIONS):  # each writes its number into the photos that drew it
        monkeypatch.setitem(OPERATIONS, name, lambda pixels, level, number=number: 0 * pixels + 10 * number)
    result = one_change(monkeypatch, np.full((900, 2, 2, 3), 99), operations=1, magnitude=0)
    numbers, counts = np.unique(result[:, 0, 0, 0], return_counts=True)
    np.testing.assert_array_equal(numbers, 10 * np.arange(9))
    assert counts.min() > 62 and counts.max() < 138  # four standard errors around 100


def test_levels_lie_within_the_magnitude_on_both_sides(monkeypatch):
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda pixels, level: 0 * pixels + 100 * (1 + level[:, None, None, None]))
    levels = one_change(monkeypatch, np.full((300, 2, 2, 3), 99), operations=1, magnitude=6)[:, 0, 0, 0] / 100 - 1
    assert -0.6 - 1e-4 <= levels.min() < -0.57 and 0.57 < levels.max() <= 0.6 + 1e-4


def test_erasing_fills_a_box_of_the_stated_area_with_the_mean_colour(monkeypatch):
    photos = np.tile(noise(1, 60, 80), (400, 1, 1, 1))
    changed = one_change(monkeypatch, photos, erasing=0.25, erased_least=0.02, erased_most=0.2)
    erased = (np.abs(changed - photos) > 0.01).any(axis=3)
    hit = erased.any(axis=(1, 2))
    assert 65 < hit.sum() < 135  # four standard errors around 100
    np.testing.assert_allclose(changed[erased], np.broadcast_to(photos[0].mean(axis=(0, 1)), (erased.sum(), 3)), atol=0.01)
    high, wide = erased[hit].any(axis=2).sum(axis=1), erased[hit].any(axis=1).sum(axis=1)
    area = erased[hit].sum(axis=(1, 2))
    np.testing.assert_array_equal(area, high * wide)  # a full box
    assert 0.018 < area.min() / 4800 < 0.04 and 0.17 < area.max() / 4800 < 0.205
    ratio = (high / 60) / (wide / 80)
    assert 0.28 < ratio.min() < 0.5 and 2 < ratio.max() < 3.6


def mixed(strength="strong", seed=(5, 6), count=200, size=(12, 16)):
    """Plain photos, photo i of value i, with targets and weights of their own: (pixels, targets, weights) after mixing."""
    import tensorflow as tf

    values = np.arange(count, dtype=np.float32)
    pixels = np.broadcast_to(values[:, None, None, None], (count, *size, 3))
    results = mix_photos(tf.constant(pixels), tf.one_hot(np.arange(count), count), tf.constant(1 + values), strength=strength, seed=seed)
    return [np.asarray(result) for result in results]


@pytest.mark.parametrize("strength", ["none", "light", "medium"])
def test_only_strong_mixes(strength):
    given = (object(), object(), object())
    assert mix_photos(*given, strength=strength, seed=(0, 0)) == given


def test_pixels_targets_and_weights_are_mixed_with_the_same_share():
    pixels, targets, weights = mixed()
    assert [array.dtype for array in (pixels, targets, weights)] == [np.float32] * 3
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    own, other = np.diag(targets), targets[np.arange(200), np.arange(200) - 1]
    np.testing.assert_allclose(own + other, 1, atol=1e-6)
    before = np.roll(np.arange(200), 1)
    np.testing.assert_allclose(weights, own * (1 + np.arange(200)) + other * (1 + before), rtol=1e-5)
    np.testing.assert_allclose(pixels.mean(axis=(1, 2, 3)), own * np.arange(200) + other * before, rtol=1e-4, atol=1e-3)


def test_half_of_the_photos_are_mixed_by_mixup_or_cutmix_and_stay_mostly_themselves():
    pixels, targets, _ = mixed(count=256)
    own = np.diag(targets)
    assert own.min() >= 0.5
    untouched = own == 1
    np.testing.assert_array_equal(pixels[untouched], np.broadcast_to(np.arange(256.0)[untouched, None, None, None], (untouched.sum(), 12, 16, 3)))
    cut = np.array([len(np.unique(photo)) == 2 for photo in pixels])
    blended = ~cut & ~untouched
    assert 32 < cut.sum() < 96  # four standard errors around 64
    # MixUp: Beta(0.2, 0.2) has most of its mass beside 0 and 1, so that some of about 64 photos round to untouched.
    assert 16 < blended.sum() < 96 and np.median(own[blended]) > 0.9 and own[blended].min() < 0.7


def test_the_share_of_cutmix_is_the_exact_share_of_pixels_outside_the_box():
    pixels, targets, _ = mixed(size=(11, 7))
    boxes = 0
    for row, photo in enumerate(pixels):
        inside = photo[..., 0] == (row - 1) % 200
        if inside.any() and ((photo[..., 0] == row) | inside).all():
            boxes += 1
            assert targets[row, row] == pytest.approx(1 - inside.mean(), abs=1e-6)
            assert inside.sum() == inside.any(axis=0).sum() * inside.any(axis=1).sum()
    assert boxes > 20


def test_mixing_is_a_function_of_the_seed_and_keeps_the_range():
    import tensorflow as tf

    for first, second in zip(mixed(), mixed(), strict=True):
        np.testing.assert_array_equal(first, second)
    for seed in ((5, 7), (6, 6)):
        assert (np.diag(mixed()[1]) != np.diag(mixed(seed=seed)[1])).mean() > 0.4
    white = mix_photos(tf.fill((64, 8, 8, 3), 255.0), tf.ones((64, 1)), tf.ones(64), strength="strong", seed=(1, 1))
    assert white[0].numpy().max() <= 255 and white[0].numpy().min() > 254.99
    alone = mixed(count=1)
    assert alone[0].max() == 0 and alone[1] == pytest.approx(1) and alone[2] == pytest.approx(1)


@pytest.mark.parametrize("alpha, least, most", [(0.2, 0.89, 0.91), (1.0, 0.74, 0.76)])
def test_shares_follow_their_distribution(alpha, least, most):
    """The mean of the larger share, from 100 000 draws of NumPy's Beta: 0.898 for 0.2, 0.750 for 1."""
    shares = np.asarray(augment._shares(alpha, 20_000, (1, 2)))
    assert np.isfinite(shares).all() and shares.min() >= 0.5 and shares.max() <= 1 and least < shares.mean() < most


def test_mixed_targets_train():
    import keras

    pixels, targets, weights = mixed(count=8)
    model = keras.Sequential([keras.Input((12, 16, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(8, activation="softmax")])
    model.compile("adam", keras.losses.CategoricalCrossentropy(label_smoothing=0.1), metrics=[keras.metrics.CategoricalAccuracy()], jit_compile=False)
    history = model.fit(pixels, targets, sample_weight=weights, epochs=2, verbose=0).history
    assert 0 < history["loss"][1] < history["loss"][0] and 0 <= history["categorical_accuracy"][0] <= 1


def test_a_grid_has_the_originals_first_then_their_augmentations():
    photos = noise(2, 30, 40).astype(np.uint8)
    grid = draw_grid(photos, strength="strong", columns=3)
    assert grid.mode == "RGB" and grid.size == (3 * 40 + 2 * 4, 2 * 30 + 4)
    array = np.asarray(grid)
    np.testing.assert_array_equal([array[:30, :40], array[34:, :40]], photos)
    assert (array[30:34] == 255).all() and (array[:, 40:44] == 255).all() and (array[:, 84:88] == 255).all()
    cells = [array[top : top + 30, left : left + 40].tobytes() for top in (0, 34) for left in (0, 44, 88)]
    assert len(set(cells)) == 6
    assert grid.tobytes() == draw_grid(photos, strength="strong", columns=3).tobytes()
    assert grid.tobytes() != draw_grid(photos, strength="strong", columns=3, seed=1).tobytes()


def test_a_grid_scales_large_photos_down_and_can_show_originals_alone():
    photos = np.full((1, 100, 256, 3), 90, np.uint8)
    assert draw_grid(photos, strength="none", columns=2).size == (2 * 128 + 4, 50)
    assert draw_grid(photos, strength="medium", columns=1).size == (128, 50)
    assert np.ptp(np.asarray(draw_grid(photos, strength="none", columns=2))[:, :128]) == 0


def test_a_grid_shows_grey_photos_grey_and_the_first_three_of_four_channels():
    photos = noise(2, 30, 40).astype(np.uint8)
    grey = np.asarray(draw_grid(photos[..., :1], strength="medium", columns=2))
    np.testing.assert_array_equal(grey[:30, :40], np.repeat(photos[0, ..., :1], 3, axis=-1))
    assert np.ptp(grey, axis=-1).max() == 0 and np.abs(grey[:30, 44:84].astype(int) - grey[:30, :40]).mean() > 5
    four = draw_grid(np.concatenate([photos, photos[..., :1]], axis=-1), strength="medium", columns=3)
    assert four.tobytes() == draw_grid(photos, strength="medium", columns=3).tobytes()


def test_a_grid_says_what_it_needs():
    with pytest.raises(InputError, match=r"expected photos as uint8 \(photos, height, width, 1, 3 or 4\), got uint8 \(3, 12, 16, 2\); give"):
        draw_grid(noise(3).astype(np.uint8)[..., :2], strength="light")
    with pytest.raises(InputError, match=r"expected photos as uint8 .* got float32 \(3, 12, 16, 3\); give"):
        draw_grid(noise(3), strength="light")
    with pytest.raises(InputError, match="expected at least the column of originals, got columns=0; give"):
        draw_grid(noise(3).astype(np.uint8), strength="light", columns=0)
