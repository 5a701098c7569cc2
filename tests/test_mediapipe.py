"""The exported files in MediaPipe Tasks, the runtime of Android and iOS apps."""

import os

import numpy as np
import pytest
from conftest import material_of

import tfcnn
from tfcnn.models.forward import forward


@pytest.fixture(scope="module")
def vision():
    """MediaPipe's vision tasks; skipped where the package or its Debian packages are missing, which fails in CI."""
    try:
        import mediapipe
        from mediapipe.tasks.python import vision

        mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.zeros((2, 2, 3), np.uint8))
    except (ImportError, OSError) as error:
        reason = f"MediaPipe does not load ({error}); install the extra 'mediapipe' and libegl1 libgles2 libgl1 libglib2.0-0 libxcb1 libx11-6"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return vision


@pytest.fixture(scope="module")
def waste(shared, v3_small_weights, tmp_path_factory):
    """(run, data, model): MobileNetV3-Small with a head on the features of real photos, exported to float32 and int8."""
    data = tfcnn.load_images(shared / "trashnet600", image_size=128)
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=data.labels, weights=str(v3_small_weights), image_size=128)
    run = tfcnn.train(model, data, tfcnn.TrainingConfig(trainable=False), output=tmp_path_factory.mktemp("waste") / "run")
    tfcnn.export(run, data, formats=["tflite_float32", "tflite_int8"], max_accuracy_drop=1.0)  # the gate is tested elsewhere
    return run, data, model


def classify(vision, path, photos):
    """(label names, scores) for each photo, best first, as an app gets them."""
    import mediapipe
    from mediapipe.tasks.python.core.base_options import BaseOptions

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(path)), max_results=-1)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for photo in photos:
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(photo))
            categories = classifier.classify(image).classifications[0].categories
            yield [c.category_name for c in categories], [c.score for c in categories]


def test_float32_gives_the_top_answer_of_keras_on_every_test_photo(vision, waste):
    run, data, model = waste
    photos = data.inputs[data.rows("test")]
    expected = forward(model, photos)
    answers = list(classify(vision, run.path / "exports" / "float32.tflite", photos))
    assert len(answers) == 120
    for (names, scores), row in zip(answers, expected, strict=True):
        assert names[0] == run.labels[row.argmax()]
        assert sorted(names) == run.labels
        np.testing.assert_allclose(scores, np.sort(row)[::-1], atol=1e-4)


def test_int8_loads_with_the_label_names_and_agrees_with_its_own_runtime(vision, waste):
    from tfcnn.export.runtimes import scores_of

    run, data, _ = waste
    photos = data.inputs[data.rows("test")][:40]
    path = run.path / "exports" / "int8.tflite"
    expected = scores_of("tflite", path, photos)
    for (names, scores), row in zip(classify(vision, path, photos), expected, strict=True):
        assert sorted(names) == run.labels
        best = np.isclose(row, row.max(), atol=1e-6)  # bytes may tie
        assert names[0] in [label for label, b in zip(run.labels, best, strict=True) if b]
        np.testing.assert_allclose(scores[0], row.max(), atol=1 / 256)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_than_those_of_rgb_are_refused_by_name(vision, tmp_path, channels):
    """As the card says; the files are for LiteRT."""
    from tfcnn.export.tflite import write_float32
    from tfcnn.models.cnn import build_features

    labels = ["cat", "dog"]
    model = tfcnn.build_classifier(build_features((16, 16, channels)), labels=labels)
    write_float32(material_of(model, labels, tmp_path / "kept"), tmp_path / "m.tflite")
    with pytest.raises(ValueError, match="Only RGB color space is supported"):
        list(classify(vision, tmp_path / "m.tflite", []))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_preprocessing_inside_the_graph_is_what_mediapipe_needs(vision, photos, tmp_path, name):
    """Networks that want other ranges or colour order ("caffe") also take raw RGB pixels, so no metadata has to say it."""
    from tfcnn.export.tflite import write_float32

    data = tfcnn.load_images(photos, image_size=64)
    model = tfcnn.build_classifier(name, labels=data.labels, weights=None, image_size=64)
    write_float32(material_of(model, data.labels, tmp_path / "kept"), tmp_path / "m.tflite")
    chosen = data.inputs[np.arange(12)]
    expected = forward(model, chosen)
    for (names, scores), row in zip(classify(vision, tmp_path / "m.tflite", chosen), expected, strict=True):
        assert dict(zip(names, scores, strict=True)) == pytest.approx(dict(zip(data.labels, map(float, row), strict=True)), abs=1e-4)
