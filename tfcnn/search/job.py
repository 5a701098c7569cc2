"""`Job`: what a search was asked for, and where its files are."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tfcnn.data.config import DataConfig
from tfcnn.errors import InputError
from tfcnn.files import write_text
from tfcnn.models.classifier import Filled, ModelConfig, with_defaults
from tfcnn.search.config import SearchConfig
from tfcnn.search.space import configs_of
from tfcnn.training.config import TrainingConfig
from tfcnn.training.course import fine_tunes

FORMAT = 1  # of search.json
CLUSTER = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")  # keras-tuner's variables of the environment
RUNNING, IDLE, STOPPED, COMPLETED, FAILED = "RUNNING", "IDLE", "STOPPED", "COMPLETED", "FAILED"  # keras-tuner's states of a trial
LEVELS = ("heads", "defaults", "fine-tunings")  # in the order of the search


@dataclass(frozen=True)
class Job:
    """What a search was asked for.

    Attributes:
        path: its folder.
        source: of the photos, as it can be opened in another process.
        weights: by backbone.
        image_sizes: in pixels; none for each backbone's own.
        model, training, data: with what is not searched.
        config: how to search.
        rows: what is searched, by field.
        gpus: as CUDA_VISIBLE_DEVICES names them, of which each has a trial at a time; none for those that the process finds, or the processor.
    """

    path: Path
    source: str
    weights: Mapping[str, str]
    image_sizes: tuple[int, ...]
    model: ModelConfig
    training: TrainingConfig
    data: DataConfig
    config: SearchConfig
    rows: Mapping[str, Any]
    gpus: tuple[str, ...] = ()

    @property
    def record_file(self) -> Path:
        """search.json"""
        return self.path / "search.json"

    @property
    def sizes(self) -> Path:
        """What was measured of the files of networks."""
        return self.path / "sizes"

    def state_file(self, level: str) -> Path:
        """Of the oracle of a level."""
        return self.path / "state" / f"{level}.json"

    def trial_folder(self, level: str, number: str) -> Path:
        """The run folder of a trial that trains a network; its log, its arguments and its error lie beside it."""
        return self.path / "trials" / f"{level}-{number}"

    def error_file(self, level: str, number: str) -> Path:
        """Why a trial failed: keras-tuner sends no errors to a chief."""
        folder = self.trial_folder(level, number)
        return folder.with_name(f"{folder.name}.error")

    def configs(self, values: Mapping[str, Any]) -> tuple[Filled, TrainingConfig]:
        """What a trial with these values trains."""
        backbone = values.get("backbone", next(iter(self.weights)))
        size = self.image_sizes[0] if self.image_sizes else None
        model, training = configs_of(values, replace(self.model, backbone=backbone, image_size=size), self.training)
        return with_defaults(replace(model, weights=self.weights[backbone])), training

    def told(self) -> dict:
        """The arguments as JSON has them, by which a search is known again; how long it may go is none of them."""
        config = {name: value for name, value in asdict(self.config).items() if name != "time_limit"}
        values = {"source": self.source, "weights": dict(self.weights), "image_sizes": list(self.image_sizes), **asdict(self.data), **asdict(self.training),
                  **{name: value for name, value in asdict(self.model).items() if name not in ("backbone", "weights", "image_size")}, **config,
                  "space": {name: row.get_config() for name, row in self.rows.items()}}
        return json.loads(json.dumps(values, default=str))

    def read_record(self) -> dict:
        """Of search.json, or of a search that begins.

        Raises:
            InputError: it is damaged.
        """
        try:
            record = json.loads(self.record_file.read_text(encoding="utf-8"))
            if not (isinstance(record["arguments"], dict) and isinstance(record["seconds"], float) and isinstance(record["status"], str)):
                raise ValueError("arguments, seconds or status are no such")
        except FileNotFoundError:
            return {"format": FORMAT, "status": "started", "arguments": self.told(), "seconds": 0.0}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"expected the record of a search in '{self.record_file}', but it is damaged ({error!r:.80}); "
                             "search again with --overwrite") from error
        return record

    def write_record(self, **changed) -> dict:
        """Writes search.json with these values in place of those that it has."""
        record = {**self.read_record(), **changed}
        write_text(self.record_file, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        return record


def searches_fine(job: Job) -> bool:
    """False where heads on cached features are all that is searched."""
    return job.config.fine_tune != 0 and fine_tunes(job.training)


def is_worker(environment: Mapping[str, str] = os.environ) -> bool:
    """True for a process that takes trials from the chief of another one, by keras-tuner's environment variables."""
    return "KERASTUNER_ORACLE_IP" in environment and not is_chief(environment)


def is_chief(environment: Mapping[str, str] = os.environ) -> bool:
    """True for the process that tells workers what to try."""
    return "KERASTUNER_ORACLE_IP" in environment and "chief" in environment.get("KERASTUNER_TUNER_ID", "")
