"""Where in time an answer comes from, and which word it comes from, on networks whose weights are known."""

import keras
import numpy as np

import tfcnn
from tfcnn.evaluation.draw import draw_audio, draw_signal, draw_text
from tfcnn.evaluation.stretches import stretches, without_each


def bump_finder(steps=64):
    """A classifier whose one filter answers to bumps, and whose logit for 'bump' is its mean."""
    signal = keras.Input((steps, 1), name="signal")
    x = keras.layers.Conv1D(1, 5, padding="same", activation="relu", use_bias=False, name="find")(signal)
    model = tfcnn.build_classifier(keras.Model(signal, x), labels=["bump", "flat"], dropout=0)
    model.get_layer("backbone").get_layer("find").set_weights([np.ones((5, 1, 1), np.float32)])
    model.get_layer("logits").set_weights([np.array([[1.0, -1.0]], np.float32), np.zeros(2, np.float32)])
    return model


def test_the_telling_stretch_is_where_the_bump_is():
    values = np.zeros((3, 64, 1), np.float32)
    for row, place in enumerate((10, 32, 55)):
        values[row, place - 2:place + 3] = 1
    heat = stretches(bump_finder(), values, np.zeros(3, np.int64))
    assert heat.shape == (3, 64) and heat.min() == 0 and (heat.max(axis=1) == 1).all()
    assert heat.argmax(axis=1).tolist() == [10, 32, 55]
    for row, place in enumerate((10, 32, 55)):
        assert heat[row, max(0, place - 5):place + 6].sum() > 0.99 * heat[row].sum()


def test_nothing_speaks_for_the_other_label():
    values = np.zeros((1, 64, 1), np.float32)
    values[0, 20:25] = 1
    assert not stretches(bump_finder(), values, np.array([1])).any()


def word_finder(length=8):
    """A classifier whose logit for 'good' is the number of words 2 less that of words 3."""
    text = keras.Input((length,), dtype="int32", name="text")
    x = keras.layers.Embedding(5, 1, name="words")(text)
    model = tfcnn.build_classifier(keras.Model(text, keras.layers.Flatten()(x)), labels=["good", "bad"], dropout=0)
    model.get_layer("backbone").get_layer("words").set_weights([np.array([[0], [0], [1], [-1], [0]], np.float32)])
    model.get_layer("logits").set_weights([np.repeat([[1.0, -1.0]], length, axis=0).astype(np.float32), np.zeros(2, np.float32)])
    return model


def test_words_speak_for_and_against_as_the_weights_say():
    ids = np.array([[4, 2, 3, 4, 0, 0, 0, 0], [4, 4, 4, 4, 4, 4, 4, 4]], np.int32)
    heat = without_each(word_finder(), ids, np.array([0, 0]))
    np.testing.assert_allclose(heat[0], [0, 1, -1, 0, 0, 0, 0, 0], atol=1e-6)
    assert not heat[1].any()


def test_drawings_are_html_without_what_texts_bring_along():
    facts = {"tokens": "words", "length": 8}
    ids, heat = np.array([2, 1, 3, 4, 4, 3, 3, 4], np.int32), np.array([1, 0, -0.5, 0, 0, 0, 0, 0], np.float32)
    drawn = draw_text(ids, heat, facts, "Good <script> bad & more than eight words stand here", large=True)
    assert '<mark class="for" style="--w: 0.75">Good</mark>' in drawn and "&lt;" in drawn and "<script" not in drawn and "&amp;" in drawn
    assert '<mark class="against"' in drawn and '<span class="unknown"' in drawn and drawn.endswith("stand here</span></p>")
    assert draw_text(ids, None, facts, "x" * 500, large=False).endswith("…</p>")
    values = np.full((30, 2), np.nan, np.float32)
    values[:20, 0], values[5:10, 1] = np.arange(20), 3.0
    drawn = draw_signal(values, np.r_[np.zeros(8), np.ones(4), np.zeros(18)].astype(np.float32), {}, "", large=True)
    assert drawn.count("<polyline") == 2 and drawn.count("<rect") == 1 and 'aria-label="a series of 20 steps"' in drawn and "nan" not in drawn
    rect = drawn[drawn.index("<rect"):]
    assert rect.startswith('<rect x="128.0" y="0" width="64.0"')  # steps 8 to 12 of 20
    clip = np.sin(np.arange(2400) / 5).astype(np.float32)
    drawn = draw_audio(clip, np.r_[np.zeros(1200), np.ones(1200)].astype(np.float32), {"sample_rate": 8000}, "", large=True)
    assert drawn.count("data:image/jpeg") == drawn.count("<audio controls") == 1 and 'aria-label="the answer rests on 0.15 to 0.30 s"' in drawn
    assert "<audio" not in draw_audio(np.zeros(2400, np.float32), None, {"sample_rate": 8000}, "", large=False)
