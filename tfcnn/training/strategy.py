"""`make_strategy`: on which devices, and with which other processes, the model is made and trained."""

import errno
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfcnn.errors import InputError, WorkError, closest, first_line

if TYPE_CHECKING:
    import tensorflow as tf

STRATEGIES = ("auto", "cpu", "one_device", "mirrored", "multi_worker", "tpu")
TASKS = ("chief", "worker")  # of a TF_CONFIG; TensorFlow counts the chief first
SLURM = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE")  # what srun says to each of its tasks
SLURM_PORT = "8888"  # where the first task of a node listens, unless TFCNN_PORT says otherwise; the others follow

WAIT_SAID = 30  # seconds after which it is said again that a worker waits for the others

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One of several processes that train together: its number, how many there are, and where it listens."""

    index: int
    count: int
    address: str


def make_strategy(name: str = "auto", *, devices: Sequence[int] | None = None) -> "tf.distribute.Strategy":
    """A `tf.distribute.Strategy`; build and train the model inside its `scope()`.

    Args:
        name: "auto" (the workers of TF_CONFIG or of srun, else all GPUs mirrored, one GPU, else the CPU), "cpu", "one_device" (the
            first GPU, else the CPU), "mirrored" (every device of the kind there is, with equal copies of the model),
            "multi_worker" (with the processes that TF_CONFIG or Slurm names; to be made before anything else of TensorFlow), or
            "tpu".
        devices: numbers of the GPUs to use, from 0; all if None.

    Raises:
        InputError: an unknown name, a GPU that is not there, a TF_CONFIG that cannot be used, a port that is in use, no TPU.
    """
    task = check_strategy(name, devices)
    import tensorflow as tf

    _choose_gpus(() if name == "cpu" else devices)
    if task is not None:
        return _multi_worker(task)
    if name == "tpu":
        return _tpu()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one_device" if gpus else "none"
    logger.info("training on %s", f"{len(gpus)} GPU, strategy {name}" if gpus and name != "cpu" else "the CPU")
    if name == "none":
        return tf.distribute.get_strategy()  # one CPU: TensorFlow's default adds nothing to a step
    if name == "mirrored":
        return tf.distribute.MirroredStrategy([d.name for d in gpus or tf.config.list_logical_devices("CPU")])
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus and name == "one_device" else "/cpu:0")


def check_strategy(name: str, devices: Sequence[int] | None = None) -> Task | None:
    """Raises InputError for what `make_strategy` does not take, as far as that is seen without TensorFlow.

    Returns:
        What this process is among several, None where it is alone.
    """
    if name not in STRATEGIES:
        raise InputError(f"expected a strategy, got '{name}'; {closest(name, STRATEGIES)}")
    if devices is not None and not _are_numbers(devices):
        raise InputError(f"expected different numbers of GPUs from 0 up, got devices={devices!r}")
    if devices is not None and name in ("cpu", "tpu"):
        raise InputError(f"expected a strategy for GPUs with devices={tuple(devices)}, got '{name}'; leave one of them out")
    if name not in ("auto", "multi_worker"):
        return None
    task = task_of(os.environ)
    if name == "auto" and (task is None or task.count == 1):
        return None
    if task is None:
        raise InputError("expected to be told of the other workers by TF_CONFIG or by srun, got neither; to try it on this computer: "
                         "python -m tfcnn.training.launch --workers 2 -- train ...")
    return task


def _are_numbers(devices) -> bool:
    return isinstance(devices, Sequence) and len(devices) > 0 and all(type(device) is int and device >= 0 for device in devices) \
        and len(set(devices)) == len(devices)


def task_of(environment: Mapping[str, str]) -> Task | None:
    """What TF_CONFIG or srun say that this process is; None where they say nothing.

    Raises:
        InputError: they contradict themselves.
    """
    if environment.get("TF_CONFIG"):
        return _task_of_config(environment["TF_CONFIG"])
    if not all(name in environment for name in SLURM):
        return None
    index, count = environment["SLURM_PROCID"], environment["SLURM_STEP_NUM_TASKS"]
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise InputError(f"expected srun to number its tasks, got SLURM_PROCID={index} of SLURM_STEP_NUM_TASKS={count}; start with srun, or set TF_CONFIG")
    return Task(int(index), int(count), "")


def _task_of_config(text: str) -> Task | None:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise InputError(f"expected JSON in TF_CONFIG, got {text[:60]!r} ({error}); "
                         'write {"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}') from error
    if config == {}:
        return None
    if not isinstance(config, dict) or "cluster" not in config:
        raise InputError(f"expected an object with cluster and task in TF_CONFIG, got {text[:60]!r}; unset it to train alone, or write "
                         '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}')
    cluster, task = config["cluster"], config.get("task")
    if not isinstance(cluster, dict) or not cluster or not all(
            isinstance(hosts, list) and hosts and all(isinstance(host, str) for host in hosts) for hosts in cluster.values()):
        raise InputError(f"expected lists of addresses by job in the cluster of TF_CONFIG, got cluster={cluster!r}")
    unknown = [job for job in cluster if job not in TASKS]
    if unknown:
        raise InputError(f"expected the jobs chief and worker in TF_CONFIG, got '{unknown[0]}'; parameter servers are not used, all workers train")
    if not isinstance(task, dict) or task.get("type") not in cluster:
        raise InputError(f"expected the type and index of this task in TF_CONFIG, got task={task!r}; its type is one of {', '.join(cluster)}")
    if type(task.get("index")) is not int:
        raise InputError(f"expected a whole number for the index of this task in TF_CONFIG, got index={task.get('index')!r}; write it without quotes")
    hosts = cluster[task["type"]]
    if not 0 <= task["index"] < len(hosts):
        raise InputError(f"expected an index from 0 to {len(hosts) - 1} for a {task['type']} in TF_CONFIG, got index={task['index']}; "
                         f"its cluster has {len(hosts)} of them")
    if len(cluster.get("chief", [])) > 1:
        raise InputError(f"expected one chief in TF_CONFIG, got {len(cluster['chief'])}")
    addresses = _addresses(cluster)
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise InputError(f"expected addresses as host:port in TF_CONFIG, got '{address}'")
        if addresses.count(address) > 1:
            raise InputError(f"expected an address of its own for each worker in TF_CONFIG, got '{address}' twice")
    return Task(addresses.index(hosts[task["index"]]), len(addresses), hosts[task["index"]])


def _addresses(cluster: Mapping[str, Sequence[str]]) -> list[str]:
    """Of all workers, in the order of their numbers."""
    return [address for job in TASKS for address in cluster.get(job, [])]


def check_no_scope() -> None:
    """Raises InputError within the scope of a strategy, where Keras cannot make a model that several workers train."""
    import tensorflow as tf

    if tf.distribute.has_strategy():
        raise InputError("expected to be called outside of strategy.scope(), which is for build_classifier alone; the model knows its strategy")


def _choose_gpus(devices: Sequence[int] | None) -> None:
    """Lets TensorFlow see these GPUs alone (no number: none at all), and take their memory as needed instead of all at once."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for device in devices or ():
        if device >= len(gpus):
            raise InputError(f"expected numbers of the {len(gpus)} GPUs that TensorFlow uses here, got devices={tuple(devices or ())}; "
                             "'tfcnn doctor' says what it sees and why")
    try:
        if devices is not None:
            gpus = [gpus[device] for device in devices]
            tf.config.set_visible_devices(gpus, "GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:
        if devices and tf.config.get_visible_devices("GPU") != gpus:
            raise InputError(f"expected to choose the GPUs before TensorFlow uses them, got devices={tuple(devices)} afterwards; "
                             "call make_strategy first") from error
        logger.info("TensorFlow uses the GPUs already; the setting of their memory stays")


def _multi_worker(task: Task):
    import tensorflow as tf

    if not task.address:
        os.environ["TF_CONFIG"] = _config_of_slurm(task)  # as if it had been given: TensorFlow then counts the GPUs that Slurm lets it see
        task = _task_of_config(os.environ["TF_CONFIG"]) or task
    logger.info("worker %d of %d at %s; waiting for the others", task.index, task.count, task.address)
    _meet(task)
    try:
        with _sigterm_kept():
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise WorkError(f"expected all {task.count} workers to join, but this one (worker {task.index}) did not find the others "
                        f"({first_line(error)[:200]}); are all started, and can they reach each other?") from error
    except RuntimeError as error:
        raise InputError("expected to join the other workers before TensorFlow is used, but it was used already; "
                         "call make_strategy('multi_worker') first") from error
    logger.info("all %d workers are there, %d replicas", task.count, strategy.num_replicas_in_sync)
    return strategy


def _meet(task: Task) -> None:
    """Waits until all other workers listen, and listens meanwhile; says now and then for whom it waits.

    TensorFlow waits too, but for an hour, without a word, and without hearing Ctrl-C or SIGTERM. After this it has no reason to.
    """
    missing = dict(enumerate(_addresses(json.loads(os.environ["TF_CONFIG"])["cluster"])))
    del missing[task.index]
    with _listening(task.address):
        began, said = time.monotonic(), 0
        while missing := {index: address for index, address in missing.items() if not _answers(address)}:
            waited = int(time.monotonic() - began)
            if waited >= said + WAIT_SAID:
                said = waited
                logger.info("still waiting for %s, %d s by now; are all started with the same addresses, and can they be reached?",
                            ", ".join(f"worker {index} at {address}" for index, address in missing.items()), waited)
            time.sleep(0.2)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
    except OSError:  # also of a name that is not known yet
        return False
    return True


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """TensorFlow takes SIGTERM for itself when workers join, and then schedulers and containers would end nothing by it."""
    is_main = threading.current_thread() is threading.main_thread()  # in which alone Python sets handlers
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if is_main and before is not None:
            signal.signal(signal.SIGTERM, before)


def _config_of_slurm(task: Task) -> str:
    """A TF_CONFIG from what srun says, by TensorFlow's resolver."""
    import tensorflow as tf

    port = os.environ.get("TFCNN_PORT") or SLURM_PORT
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"expected a port from 1 to 65535, got TFCNN_PORT={port}")
    try:  # Slurm hands out the GPUs; the resolver would count them with nvidia-smi, and gives no addresses where there are none
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(port_base=int(port), gpus_per_node=task.count, gpus_per_task=1, auto_set_gpu=False)
        cluster = resolver.cluster_spec().as_dict()
        kind, index = resolver.get_task_info()
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"expected srun to name the tasks and nodes of this step, but they cannot be read ({type(error).__name__}: {error}); "
                         "start with srun, or set TF_CONFIG") from error
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@contextmanager
def _listening(address: str) -> Iterator[None]:
    """Listens at the port of this address on this machine; raises InputError where another process does."""
    port = address.rpartition(":")[2]
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", int(port)))
            listener.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(f"expected to listen at {address}, but port {port} is in use; end the process that uses it, or give another port") from error
            raise InputError(f"expected to listen at {address}, but: {error.strerror}; give another port") from error
        yield


def _tpu():
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu=os.environ.get("TPU_NAME", "local"))
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise InputError(f"expected a TPU, but none can be reached ({type(error).__name__}); set TPU_NAME, or give another strategy") from error
    return tf.distribute.TPUStrategy(resolver)
