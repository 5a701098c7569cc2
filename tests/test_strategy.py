"""On which devices the model is made."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf

import tfcnn
from tfcnn.errors import InputError
from tfcnn.training.strategy import STRATEGIES

MIRRORED = """
import tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np, sys, tfcnn
from tfcnn.models.cnn import build_features
strategy = tfcnn.make_strategy("mirrored")
assert strategy.num_replicas_in_sync == 2, strategy
images = np.random.default_rng(0).integers(0, 256, (15, 8, 8, 3)).astype(np.uint8)
data = tfcnn.load_images((images, np.arange(15) % 2), image_size=8, split=(1 / 3, 1 / 3, 1 / 3))
assert len(data.rows("train")) == 5  # the last batch of an epoch has one photo for two replicas
with strategy.scope():
    keras.utils.set_random_seed(0)
    model = tfcnn.build_classifier(build_features((8, 8, 3), filters=(4,)), labels=data.labels)
before = model.get_layer("backbone").get_weights()
run = tfcnn.train(model, data, tfcnn.TrainingConfig(trainable=True, epochs=2, batch_size=4, ema=0.5, patience=2), output=sys.argv[1])
moved = max(abs(new - old).max() for new, old in zip(model.get_layer("backbone").get_weights(), before))
copies = [[copy.numpy() for copy in weight.value.values] for weight in model.get_layer("backbone").weights]
same = all(len(pair) == 2 and (pair[0] == pair[1]).all() for pair in copies)
print("RESULT", run.record["status"], run.record["kept"], moved > 0, same)
"""


def test_an_unknown_strategy_offers_the_closest():
    with pytest.raises(InputError, match=r"got 'miror'; did you mean 'mirrored'\? \(all: auto, cpu, one_device, mirrored\)"):
        tfcnn.make_strategy("miror")


def test_names_without_a_gpu():
    assert STRATEGIES == ("auto", "cpu", "one_device", "mirrored")
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    assert tfcnn.make_strategy("auto") is tfcnn.make_strategy() is tf.distribute.get_strategy()
    for name in ("cpu", "one_device"):
        strategy = tfcnn.make_strategy(name)
        assert isinstance(strategy, tf.distribute.OneDeviceStrategy) and strategy.num_replicas_in_sync == 1
        with strategy.scope():
            assert tf.Variable(1.0).device.endswith("CPU:0")


@pytest.mark.slow
def test_mirrored_trains_equal_copies_on_two_devices(tmp_path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TFCNN_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", MIRRORED, str(tmp_path / "run")], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "RESULT trained fine-tuned True True" in done.stdout
