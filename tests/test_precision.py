"""A twin of a model that computes in 16 bits."""

import logging

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.models.cnn import build_features
from tfcnn.models.forward import forward
from tfcnn.models.freeze import set_flags
from tfcnn.training import precision
from tfcnn.training.config import TrainingConfig
from tfcnn.training.precision import as_mixed, warn_of_mixed

LABELS = ["a", "b", "c"]


def photos(side, count=4):
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v3_small", "efficientnet_b0"])
def test_the_twin_computes_in_16_bits_what_the_model_computes_in_32(name):
    keras.utils.set_random_seed(0)
    model = tfcnn.build_classifier(name, labels=LABELS, weights=None, image_size=64, hidden=(8,))
    twin = as_mixed(model)
    assert [weight.path for weight in twin.weights] == [weight.path for weight in model.weights]
    assert {weight.dtype for weight in twin.trainable_weights} == {"float32"}
    computed = {layer.compute_dtype for layer in twin.get_layer("backbone").layers if layer.weights}
    assert computed == {"bfloat16"} and twin.get_layer("logits").compute_dtype == "bfloat16"
    scores, expected = twin(photos(64)).numpy(), model(photos(64)).numpy()
    assert scores.dtype == np.float32 and np.abs(scores - expected).max() < 0.02
    for other in (model, twin):
        set_flags(other, 2)
    assert [v.path for v in twin.trainable_variables] == [v.path for v in model.trainable_variables]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])  # of a CPU or TPU, and of a GPU, where losses are scaled
def test_a_training_in_mixed_precision_leaves_a_float32_model(tmp_path, monkeypatch, policy):
    monkeypatch.setattr(precision, "_policy", lambda: policy)
    rng = np.random.default_rng(0)
    images, targets = rng.integers(0, 156, (36, 8, 8, 3)), np.arange(36) % 3
    images[np.arange(36), :, :, targets] += 60
    data = tfcnn.load_images((images.astype(np.uint8), targets), image_size=8, split=(2 / 3, 1 / 6, 1 / 6))
    runs = []
    for mixed in (False, True):
        keras.utils.set_random_seed(0)
        model = tfcnn.build_classifier(build_features((8, 8, 3), filters=(4, 4)), labels=data.labels)
        before = model.get_weights()
        config = TrainingConfig(trainable=True, gradual=1, epochs=3, batch_size=8, mixed_precision=mixed, augmentation="none")
        run = tfcnn.train(model, data, config, output=tmp_path / str(mixed))
        assert run.record["kept"] == "fine-tuned" and run.record["training"]["mixed_precision"] is mixed
        loaded = run.load_model()
        assert {layer.compute_dtype for layer in loaded.get_layer("backbone").layers} | {loaded.get_layer("logits").compute_dtype} == {"float32"}
        assert any(np.abs(new - old).max() > 1e-4 for new, old in zip(loaded.get_layer("backbone").get_weights(), before, strict=False))
        runs.append(loaded)
    exact, rounded = (forward(loaded, data.inputs) for loaded in runs)
    assert 0 < np.abs(exact - rounded).max() < 0.05  # trained alike, up to rounding


@pytest.mark.parametrize(("flags", "warned"), [("fpu sse2 avx512_bf16", False), ("fpu amx_bf16", False), ("fpu sse2 avx2", True)])
def test_a_machine_without_units_for_16_bits_is_warned_of_the_cost(monkeypatch, caplog, tmp_path, flags, warned):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr(precision, "Path", lambda path: tmp_path / path.rsplit("/", 1)[-1])
    with caplog.at_level(logging.WARNING, logger="tfcnn"):
        warn_of_mixed()
    assert any("benchmarks/step_time.py" in record.getMessage() for record in caplog.records) is warned
