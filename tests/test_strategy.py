"""On which devices the model is made."""

import json
import socket

import pytest
import tensorflow as tf

import tfcnn
from tfcnn.errors import InputError
from tfcnn.training.strategy import STRATEGIES, Task, _config_of_slurm, check_strategy, task_of


def test_an_unknown_strategy_offers_the_closest():
    with pytest.raises(InputError, match=r"got 'miror'; did you mean 'mirrored'\? \(all: auto, cpu, one_device, mirrored, multi_worker, tpu\)"):
        tfcnn.make_strategy("miror")


def config(cluster, **task):
    return json.dumps({"cluster": cluster, "task": task})


SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}
WORKERS = {"worker": ["a:1", "b:2"]}


@pytest.mark.parametrize(("text", "message"), [
    ("{cluster", r"expected JSON in TF_CONFIG, got '{cluster'"),
    *((text, r"expected an object with cluster and task in TF_CONFIG, got .*unset it to train alone") for text in (
        "[1]", '"x"', "3", "null", '{"task": {"type": "worker", "index": 0}}', '{"Cluster": {"worker": ["a:1", "b:2"]}}')),
    (config(WORKERS, type="worker", index=True), "expected a whole number for the index"),
    (json.dumps({"cluster": ["a:1"]}), "expected lists of addresses by job"),
    (json.dumps({"cluster": {}}), "expected lists of addresses by job"),
    (json.dumps({"cluster": {"worker": "a:1"}}), "expected lists of addresses by job"),
    (config({**WORKERS, "ps": ["c:3"]}, type="worker", index=0), "got 'ps'; parameter servers are not used"),
    (config(WORKERS), r"expected the type and index of this task in TF_CONFIG, got task=\{\}"),
    (config(WORKERS, type="chief", index=0), "its type is one of worker"),
    (config(WORKERS, type="worker", index="1"), "expected a whole number for the index of this task in TF_CONFIG, got index='1'"),
    (config(WORKERS, type="worker", index=2), r"expected an index from 0 to 1 for a worker in TF_CONFIG, got index=2"),
    (config(WORKERS, type="worker", index=-1), r"got index=-1"),
    (config({"worker": ["a:1", "a"]}, type="worker", index=0), r"expected addresses as host:port in TF_CONFIG, got 'a'"),
    (config({"worker": ["a:1", "a:99999"]}, type="worker", index=0), r"got 'a:99999'"),
    (config({"worker": ["a:1", "a:1"]}, type="worker", index=0), r"'a:1' twice"),
    (config({"chief": ["a:1", "b:2"]}, type="chief", index=0), "expected one chief"),
])
def test_a_tf_config_that_contradicts_itself_is_refused_in_one_line(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    for name in ("auto", "multi_worker"):
        with pytest.raises(InputError, match=message) as refused:
            check_strategy(name)
        assert "\n" not in str(refused.value)


def test_who_this_process_is_among_several():
    both = {"chief": ["a:1"], "worker": ["b:2", "c:3"]}
    assert task_of({"TF_CONFIG": config(both, type="worker", index=1)}) == Task(2, 3, "c:3")
    assert task_of({"TF_CONFIG": config(both, type="chief", index=0)}) == Task(0, 3, "a:1")
    assert task_of(SLURM) == Task(3, 4, "")
    assert task_of({}) is task_of({"TF_CONFIG": "{}"}) is None


def test_srun_names_the_addresses(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    cluster = {"worker": ["n1:8888", "n1:8889", "n2:8888", "n2:8889"]}
    assert json.loads(_config_of_slurm(task_of(SLURM))) == {"cluster": cluster, "task": {"type": "worker", "index": 3}}
    monkeypatch.setenv("TFCNN_PORT", "70000")
    with pytest.raises(InputError, match="expected a port from 1 to 65535, got TFCNN_PORT=70000"):
        _config_of_slurm(task_of(SLURM))
    monkeypatch.setenv("TFCNN_PORT", "2222")
    assert json.loads(_config_of_slurm(task_of(SLURM)))["cluster"]["worker"][0] == "n1:2222"
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "three")
    with pytest.raises(InputError, match="expected srun to name the tasks and nodes"):
        _config_of_slurm(task_of(SLURM))


@pytest.mark.parametrize("change", [{"SLURM_PROCID": "x"}, {"SLURM_PROCID": "4"}, {"SLURM_STEP_NUM_TASKS": ""}])
def test_what_srun_cannot_have_said_is_refused_in_one_line(change):
    with pytest.raises(InputError, match=r"expected srun to number its tasks, got SLURM_PROCID=.*; start with srun, or set TF_CONFIG"):
        task_of({**SLURM, **change})


def test_several_workers_without_a_cluster_are_told_how_to_try_it(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(InputError, match=r"TF_CONFIG or by srun, got neither; .* tfcnn\.training\.launch --workers 2"):
        tfcnn.make_strategy("multi_worker")
    monkeypatch.setenv("TF_CONFIG", config({"worker": ["a:1"]}, type="worker", index=0))
    assert check_strategy("auto") is None and check_strategy("multi_worker") == Task(0, 1, "a:1")


def test_a_port_that_is_in_use_is_named(monkeypatch):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("TF_CONFIG", config({"worker": [f"127.0.0.1:{port}", "127.0.0.1:9"]}, type="worker", index=0))
        with pytest.raises(InputError, match=f"expected to listen at 127.0.0.1:{port}, but port {port} is in use"):
            tfcnn.make_strategy("auto")


@pytest.mark.parametrize("devices", [(), (0, 0), (-1,), (True,), ("0",)])
def test_devices_are_different_numbers(devices):
    with pytest.raises(InputError, match="expected different numbers of GPUs from 0 up"):
        check_strategy("auto", devices)


def test_devices_that_are_not_there_are_refused():
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match=r"expected numbers of the 0 GPUs that TensorFlow uses here, got devices=\(0,\); 'tfcnn doctor'"):
        tfcnn.make_strategy("auto", devices=(0,))
    with pytest.raises(InputError, match="leave one of them out"):
        check_strategy("cpu", (0,))


def test_without_a_tpu_it_is_said(monkeypatch):
    monkeypatch.setenv("TPU_NAME", "grpc://127.0.0.1:9")
    monkeypatch.setattr("tensorflow.distribute.cluster_resolver.TPUClusterResolver.connect", lambda **_: (_ for _ in ()).throw(RuntimeError("no TPU")))
    with pytest.raises(InputError, match="expected a TPU, but none can be reached"):
        tfcnn.make_strategy("tpu")


def test_names_without_a_gpu():
    assert STRATEGIES == ("auto", "cpu", "one_device", "mirrored", "multi_worker", "tpu")
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    assert tfcnn.make_strategy("auto") is tfcnn.make_strategy() is tf.distribute.get_strategy()
    for name in ("cpu", "one_device"):
        strategy = tfcnn.make_strategy(name)
        assert isinstance(strategy, tf.distribute.OneDeviceStrategy) and strategy.num_replicas_in_sync == 1
        with strategy.scope():
            assert tf.Variable(1.0).device.endswith("CPU:0")
