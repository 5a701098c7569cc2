"""What Keras and TensorFlow do that one would not expect, each beside what keeps it away from a training here.

Where a test of a library's own behaviour fails after an upgrade, the library was mended: then what guards against it can go.
The others of the list: BatchNorm statistics that move are named (test_checks.py), preprocessing and names of layers (test_backbones.py),
labels that do not survive in a model (test_train.py), MirroredStrategy (test_strategy.py), EXIF and reduced decoding (test_photo.py).
"""

import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.cnn import build_features
from tfcnn.training.learner import make_learner
from tfcnn.training.schedule import StageRate

PIXELS = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)).astype(np.float32)
TARGETS = np.arange(8) % 2


def with_norm(**arguments):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, name="conv")(keras.layers.Rescaling(1 / 255)(image))
    return keras.Model(image, keras.layers.BatchNormalization(name="norm")(x), **arguments)


def fit(model, optimizer=None, **arguments):
    model.compile(optimizer or keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    model.fit(PIXELS, TARGETS, batch_size=4, verbose=0, **arguments)


def test_training_false_does_not_hold_batch_norm_and_freezing_each_layer_does(tmp_path):
    """Keras issue 20285: the official guide says that the call argument is enough."""
    base = with_norm()
    image = keras.Input((16, 16, 3))
    plain = keras.Model(image, keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling2D()(base(image, training=False))))
    before = base.get_layer("norm").moving_mean.numpy()
    fit(plain)
    assert np.abs(base.get_layer("norm").moving_mean.numpy() - before).max() > 0

    model = tfcnn.build_classifier(with_norm(), labels=["a", "b"])
    tfcnn.set_trainable(model, True)
    norm = model.get_layer("backbone").get_layer("norm")
    before = [weight.numpy() for weight in norm.weights]
    fit(model)
    assert all(np.array_equal(weight.numpy(), old) for weight, old in zip(norm.weights, before, strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not loaded.get_layer("backbone").get_layer("norm").trainable and loaded.get_layer("backbone").get_layer("conv").trainable


def test_keras_ignores_flags_that_change_after_compile_and_set_trainable_compiles_again():
    model = tfcnn.build_classifier(build_features((16, 16, 3), filters=(4,)), labels=["a", "b"])
    fit(model)
    kernel = model.get_layer("backbone").get_layer("conv1").kernel
    before = kernel.numpy()
    model.get_layer("backbone").get_layer("conv1").trainable = True  # behind its back
    model.fit(PIXELS, TARGETS, batch_size=4, verbose=0)
    np.testing.assert_array_equal(kernel.numpy(), before)
    tfcnn.set_trainable(model, True)
    model.fit(PIXELS, TARGETS, batch_size=4, verbose=0)
    assert not np.array_equal(kernel.numpy(), before)


def test_a_multi_optimizer_dies_when_a_stage_is_opened_and_set_trainable_compiles_again():
    model = tfcnn.build_classifier(build_features((16, 16, 3), filters=(4, 4)), labels=["a", "b"])
    tfcnn.set_trainable(model, 1)
    several = lambda: keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(keras.optimizers.Adam(1e-3), {"conv.*": keras.optimizers.Adam(1e-5)}))
    fit(model, several())
    model.get_layer("backbone").get_layer("conv1").trainable = True
    model.train_function = None
    with pytest.raises((KeyError, ValueError)):
        model.fit(PIXELS, TARGETS, batch_size=4, verbose=0)
    tfcnn.set_trainable(model, 1)
    fit(model, several())
    tfcnn.set_trainable(model, 2)
    model.fit(PIXELS, TARGETS, batch_size=4, verbose=0)


def test_patterns_of_an_optimizer_map_match_whole_paths_and_only_one_may():
    rates = keras.optimizers.OptimizerMap(keras.optimizers.Adam(1e-3), {"conv5": keras.optimizers.Adam(1e-5), "conv4.*": keras.optimizers.Adam(1e-4)})
    assert float(rates["conv5/kernel"].learning_rate) == pytest.approx(1e-3)  # "conv5" alone is no path
    assert float(rates["conv4/kernel"].learning_rate) == pytest.approx(1e-4)
    rates["conv.*"] = keras.optimizers.Adam(1e-6)
    with pytest.raises(ValueError, match="Multiple optimizers"):
        rates["conv4/kernel"]


def test_the_plateau_callback_of_keras_fails_with_schedules_at_the_moment_it_fires():
    """It knows groups, but no groups that warm up; `schedule="plateau"` is the rule that does both (test_fine_tune.py)."""
    model = tfcnn.build_classifier(build_features((16, 16, 3), filters=(4,)), labels=["a", "b"])
    several = lambda rate: keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(keras.optimizers.Adam(rate)))
    plateau = lambda: keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, min_delta=100.0)
    fit(model, several(1e-3), epochs=3, callbacks=[plateau()])
    assert float(model.optimizer.optimizers[0].learning_rate) == pytest.approx(1e-5)
    with pytest.raises(AttributeError, match="cannot be accessed on a MultiOptimizer"):
        _ = model.optimizer.learning_rate
    with pytest.raises(TypeError, match="LearningRateSchedule"):
        fit(model, several(StageRate(1e-3, steps=10, warm_up=2)), epochs=3, callbacks=[plateau()])


def test_no_layer_of_a_classifier_acts_in_training_mode_when_the_model_is_called():
    """Resizing, CenterCrop and RandomFlip inside a model make a plain call run in training mode, exports too."""
    for channels in (1, 3, 4):
        model = tfcnn.build_classifier("mobilenet_v3_small", labels=["a", "b"], weights=None, image_size=32, channels=channels, dropout=0.9)
        kinds = {type(layer).__name__ for layer in [*model.layers, *model.get_layer("backbone").layers]}
        assert not [kind for kind in kinds if kind.startswith(("Random", "Resizing", "CenterCrop", "Lambda", "TFSM"))]
        pixels = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, channels)).astype(np.float32)
        np.testing.assert_array_equal(model(pixels).numpy(), model(pixels, training=False).numpy())


def test_efficientnet_v2_refuses_a_name_and_every_backbone_is_called_backbone():
    with pytest.raises(KeyError):
        keras.applications.EfficientNetV2B0(weights=None, include_top=False, input_shape=(32, 32, 3), name="backbone")
    model = tfcnn.build_classifier("efficientnet_v2_b0", labels=["a", "b"], weights=None, image_size=32)
    assert model.get_layer("backbone").count_params() == BACKBONES["efficientnet_v2_b0"].parameters


def test_labels_and_configuration_do_not_survive_as_attributes_of_a_model(tmp_path, trained):
    run, _, model = trained
    model.class_names = ["blue", "green", "red"]
    model.save(tmp_path / "model.keras")
    assert not hasattr(keras.models.load_model(tmp_path / "model.keras"), "class_names")
    assert run.labels == ["blue", "green", "red"] == (run.path / "labels.txt").read_text().split()


def test_a_training_is_not_compiled_by_xla_on_a_cpu(trained):
    """XLA is many times slower there for these networks."""
    learner = make_learner(trained[2])
    learner.compile(keras.optimizers.SGD(), keras.losses.CategoricalCrossentropy(reduction=None))
    assert learner.jit_compile is False


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of a fit to three trials
def test_the_search_library_finds_what_it_needs(tmp_path):
    """keras-tuner needs tensorboard, SciPy and scikit-learn and does not ask for them: every trial failed while `search` returned."""
    import keras_tuner

    def build(hp):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
        model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-3, 1e-1, sampling="log")), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    tuner = keras_tuner.BayesianOptimization(build, objective="val_accuracy", max_trials=3, num_initial_points=1, directory=tmp_path, overwrite=True)
    x, y = np.random.default_rng(0).normal(size=(16, 4)), np.arange(16) % 2
    tuner.search(x, y, validation_data=(x, y), epochs=1, verbose=0)
    assert [trial.status for trial in tuner.oracle.trials.values()] == ["COMPLETED"] * 3


WORKER = """
import os, sys, json
import numpy as np, tensorflow as tf, keras

class Reshaped(keras.Model):  # logs of one number each: Keras reduces along an axis that scalars lack
    def train_step(self, data):
        return {name: tf.reshape(value, (1,)) for name, value in super().train_step(data).items()}

    def test_step(self, data):
        return {name: tf.reshape(value, (1,)) for name, value in super().test_step(data).items()}

strategy = tf.distribute.MultiWorkerMirroredStrategy()
keras.utils.set_random_seed(0)
with strategy.scope():
    image = keras.Input((4,))
    x = keras.layers.Dense(3, activation="softmax")(image)
Kind = keras.Model if sys.argv[1] == "plain" else Reshaped
if sys.argv[1] == "plain":
    with strategy.scope():
        model = Kind(image, x)
else:
    model = Kind(image, x)  # outside of the scope
rng = np.random.default_rng(0)
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
data = tf.data.Dataset.from_tensor_slices((rng.normal(size=(16, 4)).astype("float32"), np.arange(16) % 3)).batch(8).with_options(options)
with strategy.scope():
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(data, validation_data=data, epochs=2, verbose=0)
print("RESULT", float(np.abs(model.get_weights()[0]).sum()), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["plain", "reshaped"])
def test_two_workers_fail_as_documented_and_work_with_logs_of_one_number_each(way):
    """Keras issue 20585. What works: layers inside the scope, the model outside, its steps' logs reshaped to (1,)."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, way], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={
        **os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})})
        for index in range(2)]
    try:
        results = [worker.communicate(timeout=240) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    sums = [line for out, _ in results for line in out.splitlines() if line.startswith("RESULT")]
    if way == "plain":
        assert not sums and all(worker.returncode for worker in workers)
    else:
        assert len(sums) == 2 and len(set(sums)) == 1, results[0][1][-2000:]
