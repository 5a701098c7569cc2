"""A twin of a model, equal and apart, and one that computes in 16 bits."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcnn
from tfcnn.models.cnn import build_features
from tfcnn.models.forward import forward
from tfcnn.models.freeze import set_flags
from tfcnn.models.recast import recast
from tfcnn.training import recorder, twin
from tfcnn.training.config import TrainingConfig
from tfcnn.training.twin import chosen_by_machine, make_twin

LABELS = ["a", "b", "c"]


def photos(side, count=4):
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v3_small", pytest.param("efficientnet_b0", marks=pytest.mark.slow)])
def test_the_twin_computes_in_16_bits_what_the_model_computes_in_32(name):
    keras.utils.set_random_seed(0)
    model = tfcnn.build_classifier(name, labels=LABELS, weights=None, image_size=64, hidden=(8,))
    mixed = make_twin(model, mixed=True)
    assert [weight.path for weight in mixed.weights] == [weight.path for weight in model.weights]
    assert {weight.dtype for weight in mixed.trainable_weights} == {"float32"}
    computed = {layer.compute_dtype for layer in mixed.get_layer("backbone").layers if layer.weights}
    assert computed == {"bfloat16"} and mixed.get_layer("logits").compute_dtype == "bfloat16"
    scores, expected = mixed(photos(64)).numpy(), model(photos(64)).numpy()
    assert scores.dtype == np.float32 and np.abs(scores - expected).max() < 0.02
    for other in (model, mixed):
        set_flags(other, 2)
    assert [v.path for v in mixed.trainable_variables] == [v.path for v in model.trainable_variables]


def test_a_twin_is_equal_and_apart():
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Normalization(name="standardise"), keras.layers.Dropout(0.5)], name="inner")
    inner.get_layer("standardise").set_weights([np.array([100.0, 120, 90]), np.array([4000.0, 3000, 5000]), np.array(0)])
    inner.get_layer("standardise").finalize_state()
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inner(image))
    model = tfcnn.build_classifier(keras.Model(image, keras.layers.BatchNormalization(name="norm")(x)), labels=LABELS)
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    twin_of_it = make_twin(model)
    np.testing.assert_array_equal(twin_of_it(photos(16)).numpy(), model(photos(16)).numpy())
    assert not {id(v) for v in twin_of_it.variables} & {id(v) for v in model.variables}
    for own, other in zip(twin_of_it.variables, model.variables, strict=True):
        np.testing.assert_array_equal(own.numpy(), other.numpy())  # random states too
    before = model.get_weights()
    tfcnn.set_trainable(twin_of_it, True)
    twin_of_it.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    twin_of_it.fit(photos(16), np.array([0, 1, 2, 0]), verbose=0)
    assert all(np.array_equal(now, old) for now, old in zip(model.get_weights(), before, strict=True))
    assert [w.path for w in model.trainable_weights] == ["logits/kernel", "logits/bias"]


@pytest.mark.parametrize("policy", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"])  # CPU or TPU; GPU, with scaled losses
def test_a_training_in_mixed_precision_leaves_a_float32_model(tmp_path, monkeypatch, data, policy):
    monkeypatch.setattr(twin, "_policy", lambda strategy: policy)
    optimizers = []
    save = recorder.save_place
    monkeypatch.setattr(recorder, "save_place", lambda model, *arguments: (optimizers.append(model.optimizer), save(model, *arguments)))
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
        assert all(layer.trainable for layer in loaded.get_layer("backbone").layers)
        assert any(np.abs(new - old).max() > 1e-4 for new, old in zip(loaded.get_layer("backbone").get_weights(), before, strict=False))
        runs.append(loaded)
    scaled = [isinstance(optimizer, keras.optimizers.LossScaleOptimizer) for optimizer in optimizers]
    assert scaled == [False] * 3 + [policy == "mixed_float16"] * 3
    if policy == "mixed_float16":
        assert "loss_scale/dynamic_scale" in {v.path for v in optimizers[-1].variables}  # and so in the checkpoint
        assert int(optimizers[-1].step_counter) == 9  # it went along when a stage was opened
    exact, rounded = (forward(loaded, data.inputs) for loaded in runs)
    assert 0 < np.abs(exact - rounded).max() < 0.05  # trained alike, up to rounding


@pytest.mark.parametrize(("flags", "cost"), [("fpu sse2 avx512_bf16", "1.5"), ("fpu amx_bf16", "1.5"), ("fpu sse2 avx2", "2.7")])
def test_a_machine_on_which_mixed_precision_is_slower_is_warned_of_the_cost(monkeypatch, caplog, tmp_path, flags, cost):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr(twin, "Path", lambda path: tmp_path / path.rsplit("/", 1)[-1])
    monkeypatch.setattr(logging.getLogger("tfcnn"), "propagate", True)
    with caplog.at_level(logging.WARNING, logger="tfcnn"):
        chosen = chosen_by_machine(TrainingConfig(mixed_precision=True), tf.distribute.get_strategy())
    assert chosen == {"mixed_precision": True, "xla": False}
    assert {f"a step took {cost} times" in record.getMessage() for record in caplog.records if record.name.startswith("tfcnn")} == {True}


def test_a_machine_with_units_is_not_warned(monkeypatch, caplog):
    monkeypatch.setattr(twin, "_policy", lambda strategy: "mixed_float16")
    with caplog.at_level(logging.WARNING, logger="tfcnn"):
        assert chosen_by_machine(TrainingConfig(mixed_precision=True), tf.distribute.get_strategy())["mixed_precision"]
    assert not [record for record in caplog.records if record.name.startswith("tfcnn")]


def test_what_is_left_open_is_chosen_by_the_machine_and_the_log_says_why(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("tfcnn"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="tfcnn"):
        assert chosen_by_machine(TrainingConfig(), tf.distribute.get_strategy()) == {"mixed_precision": False, "xla": False}
    assert "mixed precision off: a step took" in caplog.text and "XLA off: on CPUs" in caplog.text
    monkeypatch.setattr(twin, "_policy", lambda strategy: "mixed_float16")
    monkeypatch.setattr(twin, "_on_gpus", lambda strategy: True)
    assert chosen_by_machine(TrainingConfig(), tf.distribute.get_strategy()) == {"mixed_precision": True, "xla": True}
    assert chosen_by_machine(TrainingConfig(mixed_precision=False, xla=False), tf.distribute.get_strategy()) == {"mixed_precision": False, "xla": False}


@pytest.mark.parametrize(("rank", "side", "stride"), [(1, 1, 2), (2, 1, 2), (3, 1, 2), (3, 2, 1), (2, 2, 1), (3, 4, 1)])
def test_gradients_of_convolutions_over_small_maps_are_right_in_16_bits(rank, side, stride):
    random = np.random.default_rng(0)
    inputs = keras.Input((side,) * rank + (64,))
    conv = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)[rank - 1]
    model = keras.Model(inputs, conv(128, 3, strides=stride, padding="same", use_bias=False, name="conv")(inputs))
    mixed = recast(model, "mixed_bfloat16")
    assert mixed.get_layer("conv").compute_dtype == ("bfloat16" if (side, rank) in ((2, 2), (4, 3)) else "float32")
    for _ in range(5):
        values = tf.constant(random.normal(size=(18, *(side,) * rank, 64)), tf.float32)
        found = []
        for network in (model, mixed):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.cast(network(values), tf.float32) ** 2)
            found.append(tape.gradient(loss, network.trainable_variables)[0].numpy())
        assert np.abs(found[1] - found[0]).max() < 0.05 * np.abs(found[0]).max()
