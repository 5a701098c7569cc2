"""`doctor`: what this machine can train on, what keeps a GPU from being used, and how fast it is, measured."""

import ctypes
import glob
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tfcnn.data.store import cache_folder
from tfcnn.errors import InputError, closest
from tfcnn.hardware import cpu_facts, gpu_facts
from tfcnn.models.backbones import BACKBONES
from tfcnn.progress import stage

NAMED = ("mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "resnet50", "vgg16", "vit_b_16")
PACKAGES = ("tfcnn", "tensorflow", "keras", "numpy", "ai-edge-litert")
# Libraries that TensorFlow 2.21 opens for a GPU, in this order; the first is the driver's, the others come with TensorFlow's extra.
LIBRARIES = ("libcuda.so.1", "libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcufft.so.11", "libcusolver.so.11", "libcusparse.so.12",
             "libcudnn.so.9", "libnccl.so.2")
INSTALL = "pip install 'tensorflow[and-cuda]'"
BATCH, BATCH_OF_GPU, STEPS = 8, 32, 3  # of a measurement: photos in a step, and steps of which the median counts
ENOUGH = 4.0  # seconds after which a measurement ends with fewer steps
CHOICES = {"16 bits": "mixed_precision", "XLA": "xla"}  # what is measured, and the option it stands for
SMALL = (64, 64, 3)  # photos of the network with which precisions are compared


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` found.

    Attributes:
        versions: of Python and of the packages.
        cpu: model, cores that this process may use, and the flags that TensorFlow's kernels look for.
        memory_gb: of the machine, and available now.
        disk_gb: free where the cache and where runs are written.
        gpus: one dict a GPU that TensorFlow uses: name, memory_gb, compute_capability.
        driver: of NVIDIA, or "".
        unused: what keeps TensorFlow from a GPU that is there, and what to do; "" where nothing does.
        missing: libraries that cannot be opened, where a GPU is not used.
        steps: milliseconds of a training step of a small network in float32, in 16 bits, and compiled by XLA.
        chosen: whether `train` computes in 16 bits and compiles by XLA here, where nothing is said.
        speed: by backbone, photos a second in training of all stages, as `train` computes here, and as features.
    """

    versions: dict[str, str]
    cpu: dict[str, Any]
    memory_gb: dict[str, float]
    disk_gb: dict[str, float]
    gpus: list[dict] = field(default_factory=list)
    driver: str = ""
    unused: str = ""
    missing: list[str] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)
    chosen: dict[str, bool] = field(default_factory=dict)
    speed: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [("versions", ", ".join(f"{name} {version}" for name, version in self.versions.items())),
                ("processor", f"{self.cpu['model']}, {self.cpu['cores']} cores{''.join(f', {flag}' for flag in self.cpu['flags'])}"),
                ("memory", f"{self.memory_gb['available']:.1f} GB of {self.memory_gb['total']:.1f} GB are free"),
                ("disk", "; ".join(f"{free:.0f} GB free for {place}" for place, free in self.disk_gb.items()))]
        rows += [("GPU", f"{gpu['name']}, {gpu['memory_gb']:.0f} GB, compute capability {gpu['compute_capability']}") for gpu in self.gpus]
        rows += [("driver", self.driver)] if self.driver else []
        rows += [("GPU", self.unused or "none; training runs on the processor")] if not self.gpus else []
        if self.steps:
            base = self.steps["float32"]
            rows += [("a step", f"{base:.0f} ms in float32")]
            rows += [(name, f"{taken:.0f} ms, {_times(base, taken)}; {_choice(base, taken, self.chosen[CHOICES[name]], CHOICES[name])}")
                     for name, taken in self.steps.items() if name != "float32"]
        lines = [f"{name:<16} {text}" for name, text in rows]
        if self.speed:
            lines += ["", f"{'photos a second':<20} {'size':>5} {'features':>9} {'training':>9}"]
            lines += [f"{name:<20} {BACKBONES[name].image_size:>5} {of['features']:>9.1f} {of['training']:>9.1f}" for name, of in self.speed.items()]
            lines += [f"features: once for each photo; training: all stages, batches of {_batch(self.gpus)}, as train computes here"]
        return "\n".join(lines)


def doctor(*, backbones: Sequence[str] = NAMED, measure: bool = True) -> Diagnosis:
    """Looks at the machine and measures it.

    Args:
        backbones: whose speed is measured.
        measure: False leaves out what takes longer than seconds.

    Raises:
        InputError: an unknown backbone.
    """
    for name in backbones:
        if name not in BACKBONES:
            raise InputError(f"expected names of backbones, got '{name}'; {closest(name, BACKBONES)}")
    with stage("look at the machine"):
        gpus = _gpus()
        driver, present = _driver()
        missing = [] if gpus or not present else missing_libraries()
        found = Diagnosis(_versions(), cpu_facts(), _memory(), {"the cache": _free(cache_folder()), "runs": _free(Path("saved_models"))}, gpus, driver,
                          _why_unused(present, gpus, missing), missing)
    if measure:
        found.chosen.update(_chosen())
        with stage("measure precisions", 3) as advance:
            found.steps.update(_precisions(advance))
        with stage("measure backbones", len(backbones)) as advance:
            for name in backbones:
                found.speed[name] = _speed(name, _batch(gpus), mixed=found.chosen["mixed_precision"], xla=found.chosen["xla"])
                advance()
    return found


def missing_libraries(names: Sequence[str] = LIBRARIES) -> list[str]:
    """Those that cannot be opened, neither by the system nor beside TensorFlow, where its extra puts them."""
    spec = importlib.util.find_spec("tensorflow")
    beside = Path(spec.origin).parents[1] / "nvidia" if spec and spec.origin else Path()
    return [name for name in names if not _opens(name) and not any(_opens(file) for file in glob.glob(str(beside / "*" / "lib" / name)))]


def _opens(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _why_unused(present: int, gpus: list, missing: list[str]) -> str:
    """One line for GPUs that are in the machine and that TensorFlow does not use."""
    if gpus or not present:
        return ""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return f"{present} in this machine, but CUDA_VISIBLE_DEVICES hides it; unset it"
    if "libcuda.so.1" in missing:
        return f"{present} in this machine, but libcuda.so.1 of the driver does not load; install the driver of NVIDIA, in a container with its toolkit"
    if missing:
        return f"{present} in this machine, but {', '.join(missing)} cannot be loaded; {INSTALL}"
    return f"{present} in this machine, all libraries load, but TensorFlow uses none; TF_CPP_MIN_LOG_LEVEL=0 tfcnn doctor --verbose shows what it says"


def _driver() -> tuple[str, int]:
    """(version of NVIDIA's driver, number of its GPUs in this machine), without any library of theirs."""
    try:
        version = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        version = ""
    known = len(glob.glob("/proc/driver/nvidia/gpus/*") or glob.glob("/dev/nvidia[0-9]*"))
    return version, known or cards(Path("/sys/bus/pci/devices")) or int(os.path.exists("/dev/dxg"))  # the last of Windows' Linux


def cards(devices: Path) -> int:
    """Graphics processors of NVIDIA on the bus of a machine, which are there without a driver too."""
    read = lambda device, name: (device / name).read_text(encoding="ascii").strip() if (device / name).exists() else ""
    return sum(read(device, "vendor") == "0x10de" and read(device, "class").startswith("0x03") for device in devices.glob("*"))


def _gpus() -> list[dict]:
    found = gpu_facts()
    if not found:
        return []
    from tensorflow.python.client import device_lib  # no public call names the bus a GPU is on, by which the driver's tool knows it

    buses = [bus.group(1) for device in device_lib.list_local_devices() if (bus := re.search(r"pci bus id: (\S+?),", device.physical_device_desc))]
    memories = memories_of(_said_by_driver())
    return [{**gpu, "memory_gb": memories.get(bus.lower()[-12:], 0.0)} for gpu, bus in zip(found, [*buses, *[""] * len(found)], strict=False)]


def _said_by_driver() -> str:
    tool = shutil.which("nvidia-smi")
    if not tool:
        return ""
    return subprocess.run([tool, "--query-gpu=pci.bus_id,memory.total", "--format=csv,noheader,nounits"], capture_output=True, text=True, check=False).stdout


def memories_of(said: str) -> dict[str, float]:
    """GB of each GPU under the end of its place on the bus, from what the driver's tool says in MiB; those that it cannot tell are left out."""
    rows = re.findall(r"^\s*(\S+?),\s*([0-9.]+)\s*$", said, re.MULTILINE)
    return {bus.lower()[-12:]: float(mebibytes) * 2**20 / 1e9 for bus, mebibytes in rows}


def _versions() -> dict[str, str]:
    installed = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions() if distribution.metadata["Name"]}
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES if name in installed}}


def _memory() -> dict[str, float]:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        of = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e9 for line in lines}
    except (OSError, ValueError, IndexError):
        of = {}
    return {"total": of.get("MemTotal", 0.0), "available": of.get("MemAvailable", 0.0)}


def _free(folder: Path) -> float:
    """GB that are free where a folder is, or will be."""
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e9


def _times(base: float, taken: float) -> str:
    return f"{base / taken:.1f} times as fast" if taken < base else f"{taken / base:.1f} times as slow"


def _choice(base: float, taken: float, chosen: bool, name: str) -> str:
    """What `train` makes of a measurement, and what to say to it where the measurement says otherwise."""
    said = f"{'on' if chosen else 'off'} in train"
    return said if chosen == (taken < base) else f"{said}, try --{'no-' if chosen else ''}{name.replace('_', '-')} on your network"


def _batch(gpus: list) -> int:
    return BATCH_OF_GPU if gpus else BATCH


def _chosen() -> dict[str, bool]:
    import tensorflow as tf

    from tfcnn.training.config import TrainingConfig
    from tfcnn.training.twin import chosen_by_machine

    return chosen_by_machine(TrainingConfig(), tf.distribute.get_strategy())


def _precisions(advance) -> dict[str, float]:
    """Milliseconds of a training step of a small network."""
    import numpy as np

    from tfcnn.models.classifier import build_classifier
    from tfcnn.models.cnn import build_features

    photos = np.random.default_rng(0).integers(0, 256, (4 * BATCH, *SMALL)).astype(np.float32)
    taken = {}
    for name, mixed, xla in (("float32", False, False), ("16 bits", True, False), ("XLA", False, True)):
        model = build_classifier(build_features(SMALL, filters=(32, 64, 128)), labels=["a", "b"])
        taken[name] = 1000 * _step_seconds(model, photos, mixed=mixed, xla=xla)
        advance()
    return taken


def _speed(name: str, batch: int, **how) -> dict[str, float]:
    """Photos a second of a backbone, with random weights, which take as long as others."""
    import numpy as np

    from tfcnn.models.classifier import build_classifier

    model = build_classifier(name, labels=["a", "b"], weights=None)
    photos = np.random.default_rng(0).integers(0, 256, (batch, *model.input_shape[1:])).astype(np.float32)
    return {"features": batch / _median_seconds(_forward(model, photos)), "training": batch / _step_seconds(model, photos, **how)}


def _forward(model, photos):
    import tensorflow as tf

    run, pixels = tf.function(lambda values: model(values, training=False)), tf.constant(photos)
    return lambda: run(pixels).numpy()


def _step_seconds(model, photos, *, mixed: bool = False, xla: bool = False) -> float:
    """Of a training step of all stages."""
    import keras
    import numpy as np
    import tensorflow as tf

    from tfcnn.models.freeze import set_flags
    from tfcnn.training.learner import make_learner

    learner = make_learner(model, mixed=mixed)
    set_flags(learner, True)
    learner.compile_for(keras.optimizers.Adam(1e-5), xla=xla)
    count = len(photos)
    batch = (tf.constant(photos), tf.one_hot(np.arange(count) % 2, 2), tf.ones(count))
    learner.make_train_function()
    return _median_seconds(lambda: [value.numpy() for value in learner.train_function(iter([batch])).values()])


def _median_seconds(work) -> float:
    """The median of some calls after a first one, which traces and allocates."""
    work()
    seconds: list[float] = []
    while len(seconds) < STEPS and sum(seconds) < ENOUGH:
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
