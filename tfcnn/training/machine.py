"""`MachineConfig`: on what a training runs, and how it is kept from being lost."""

from dataclasses import dataclass

from tfcnn.training.checkpoint import Saving, check_saving
from tfcnn.training.strategy import Task, check_strategy


@dataclass(frozen=True)
class MachineConfig:
    """Where and how the work is done; what a training gives does not depend on it, but for last digits.

    Attributes:
        strategy: auto, cpu, one_device, mirrored, multi_worker or tpu; auto takes the workers of TF_CONFIG or srun, else all GPUs, else the CPU.
        devices: numbers of the GPUs to use, from 0, with commas between them; all if left out.
        deterministic: the same bits again on a GPU too, at the price of slower kernels.
        checkpoint_steps: steps of fine-tuning after which a checkpoint is written, besides at the end of each epoch; 0 for never.
        checkpoint_minutes: minutes after which one is written at the latest.
        tensorboard: logs for TensorBoard in the folder tensorboard of the run.
    """

    strategy: str = "auto"
    devices: tuple[int, ...] | None = None
    deterministic: bool = False
    checkpoint_steps: int = 0
    checkpoint_minutes: float = 10.0
    tensorboard: bool = False


def check_machine(config: MachineConfig) -> Task | None:
    """Raises InputError for what cannot be used, as far as that is seen without TensorFlow; gives what this process is among several."""
    check_saving(Saving(config.checkpoint_steps, config.checkpoint_minutes))
    return check_strategy(config.strategy, config.devices)
