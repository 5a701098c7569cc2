"""A training on several replicas, which is that on one; replicas are logical devices of the CPU."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tfcnn.record import read_history

TRAIN = """
import json, sys
import tensorflow as tf
replicas, output, config = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
if replicas > 1:
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * replicas)
import keras
import numpy as np
import tfcnn
from tfcnn.models.vit import build_vit
from tfcnn.training import twin

if config.pop("float16", False):  # as on GPUs, with scaled losses
    twin._policy = lambda strategy: "mixed_float16"
strategy = tfcnn.make_strategy("mirrored" if replicas > 1 else "auto")
assert strategy.num_replicas_in_sync == replicas
photos = np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3)).astype(np.uint8)
data = tfcnn.load_images((photos, np.arange(50) % 2), image_size=16, split=(0.6, 0.2, 0.2))
assert len(data.rows("train")) == 30
with strategy.scope():
    keras.utils.set_random_seed(0)
    x = image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    for name in ("a", "b"):
        x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name=name, kernel_regularizer=keras.regularizers.L2(1e-3))(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(name=f"norm_{name}")(x))
        x = keras.layers.Dropout(0.1, noise_shape=(None, 1, 1, 1))(x)
    backbone = build_vit(16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16) if config.pop("vit", False) else keras.Model(image, x)
    model = tfcnn.build_classifier(backbone, labels=data.labels, dropout=0.3, hidden=config.pop("hidden", ()))
run = tfcnn.train(model, data, tfcnn.TrainingConfig(**config), output=output)
copies = [[copy.numpy() for copy in weight.value.values] for weight in model.weights] if replicas > 1 else []
assert all(len(each) == replicas and all((one == each[0]).all() for one in each) for each in copies)
scores = run.load_model().predict(photos[:8].astype(np.float32), verbose=0)
same = np.abs(scores - model(photos[:8].astype(np.float32)).numpy()).max()
tfcnn.export(run, data, formats=["tflite_float32"])
print("RESULT", json.dumps({"kept": run.record["kept"], "same": float(same), "export": tfcnn.load_run(output).record["exports"][0]["verdict"]}))
np.savez(output + "/weights.npz", **{weight.path.replace("/", "."): weight.numpy() for weight in model.weights if "seed" not in weight.path})
"""
# 30 photos in batches of 7: the last one of an epoch has 2, fewer than there are replicas.
FINE = {"trainable": True, "epochs": 3, "batch_size": 7, "learning_rates": {"b": 2e-3}, "learning_rate": 1e-3, "augmentation": "strong",
        "clip_norm": 0.1, "ema": 0.5, "patience": 2, "weight_decay": 0.01}


def train(folder, replicas, config):
    """(what the training said, rows of its history, its weights) on so many replicas."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TFCNN_CACHE": str(folder / "cache")}
    output = folder / f"run-{replicas}"
    done = subprocess.run([sys.executable, "-c", TRAIN, str(replicas), str(output), json.dumps(config)], env=environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))[7:])
    rows = read_history(output / "history.csv")
    with np.load(output / "weights.npz") as weights:
        return said, [{name: value for name, value in row.items() if name != "seconds"} for row in rows], dict(weights)


@pytest.mark.parametrize(("config", "tolerance"), [
    pytest.param(FINE, 1e-5, id="fine-tuned"),
    pytest.param({**FINE, "vit": True, "learning_rates": None}, 1e-5, id="embeddings", marks=pytest.mark.slow),
    pytest.param({"trainable": False, "hidden": [8]}, 1e-5, id="frozen", marks=pytest.mark.slow),
    pytest.param({**FINE, "mixed_precision": True, "balance": "class_weight", "optimizer": "sgd"}, 3e-3, id="mixed", marks=pytest.mark.slow),
    pytest.param({**FINE, "mixed_precision": True, "float16": True}, 3e-3, id="scaled", marks=pytest.mark.slow),
])
@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_replicas_train_what_one_trains(tmp_path, replicas, config, tolerance):
    (said, rows, weights), (other, same_rows, same_weights) = train(tmp_path, 1, config), train(tmp_path, replicas, config)
    assert said["same"] < 1e-6 and other["same"] < 1e-6 and other["kept"] == said["kept"] and other["export"] == said["export"] == "accepted"
    assert len(rows) == len(same_rows) == (3 if config["trainable"] else 0)
    for row, same in zip(rows, same_rows, strict=True):
        assert row == pytest.approx(same, abs=tolerance)
    for path, value in weights.items():
        np.testing.assert_allclose(same_weights[path], value, atol=tolerance, err_msg=path)
