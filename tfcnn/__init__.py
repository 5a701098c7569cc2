"""tfcnn: from a folder of photos to a convolutional model that provably works on a server or a phone."""

import importlib
from typing import TYPE_CHECKING

_WHERE = {
    "load_images": "tfcnn.data.images",
    "load_signals": "tfcnn.data.signals",
    "load_audio": "tfcnn.data.audio",
    "load_text": "tfcnn.data.text",
    "load_graphs": "tfcnn.data.graphs",
    "load_nodes": "tfcnn.data.nodes",
    "load_videos": "tfcnn.data.videos",
    "load_volumes": "tfcnn.data.volumes",
    "channel_statistics": "tfcnn.data.signals",
    "DataConfig": "tfcnn.data.config",
    "Audit": "tfcnn.data.audit",
    "audit": "tfcnn.data.audit",
    "draw_grid": "tfcnn.data.grid",
    "Dataset": "tfcnn.data.dataset",
    "BACKBONES": "tfcnn.models.backbones",
    "list_backbones": "tfcnn.models.backbones",
    "ModelConfig": "tfcnn.models.classifier",
    "build_classifier": "tfcnn.models.classifier",
    "set_trainable": "tfcnn.models.freeze",
    "inspect_model": "tfcnn.models.inspect",
    "convolve2d_steps": "tfcnn.models.geometry",
    "pool2d_steps": "tfcnn.models.geometry",
    "image_of": "tfcnn.models.geometry",
    "output_size": "tfcnn.models.geometry",
    "build_cnn": "tfcnn.models.cnn",
    "build_network": "tfcnn.models.networks",
    "TrainingConfig": "tfcnn.training.config",
    "make_strategy": "tfcnn.training.strategy",
    "RateRange": "tfcnn.training.find_rate",
    "find_learning_rate": "tfcnn.training.find_rate",
    "check_freeze": "tfcnn.training.checks",
    "train": "tfcnn.training.train",
    "Report": "tfcnn.evaluation.evaluate",
    "evaluate": "tfcnn.evaluation.evaluate",
    "Prediction": "tfcnn.evaluation.predict",
    "predict": "tfcnn.evaluation.predict",
    "Explanation": "tfcnn.evaluation.explain",
    "explain": "tfcnn.evaluation.explain",
    "draw_feature_maps": "tfcnn.evaluation.layer_pictures",
    "draw_filters": "tfcnn.evaluation.layer_pictures",
    "draw_receptive_fields": "tfcnn.evaluation.fields",
    "Animation": "tfcnn.evaluation.animate",
    "animate_convolution": "tfcnn.evaluation.animate",
    "animate_pooling": "tfcnn.evaluation.animate",
    "Comparison": "tfcnn.evaluation.compare",
    "compare": "tfcnn.evaluation.compare",
    "write_report": "tfcnn.evaluation.report",
    "LabelCheck": "tfcnn.labels",
    "check_labels": "tfcnn.labels",
    "EXPORTERS": "tfcnn.export.formats",
    "export": "tfcnn.export.gate",
    "SearchConfig": "tfcnn.search.config",
    "Search": "tfcnn.search.result",
    "search": "tfcnn.search.search",
    "Repetition": "tfcnn.repetition",
    "repeat": "tfcnn.repetition",
    "Diagnosis": "tfcnn.diagnosis",
    "doctor": "tfcnn.diagnosis",
    "train_and_export": "tfcnn.flow",
    "cross_validate": "tfcnn.cross_validation",
    "Run": "tfcnn.record",
    "load_run": "tfcnn.record",
    "InputError": "tfcnn.errors",
    "WorkError": "tfcnn.errors",
}
__all__ = list(_WHERE)
__version__ = "0.1.0"

if TYPE_CHECKING:  # for editors and type checkers; at run time the names below are loaded when they are first used
    from tfcnn.cross_validation import cross_validate
    from tfcnn.data.audio import load_audio
    from tfcnn.data.audit import Audit, audit
    from tfcnn.data.config import DataConfig
    from tfcnn.data.dataset import Dataset
    from tfcnn.data.graphs import load_graphs
    from tfcnn.data.grid import draw_grid
    from tfcnn.data.images import load_images
    from tfcnn.data.nodes import load_nodes
    from tfcnn.data.signals import channel_statistics, load_signals
    from tfcnn.data.text import load_text
    from tfcnn.data.videos import load_videos
    from tfcnn.data.volumes import load_volumes
    from tfcnn.diagnosis import Diagnosis, doctor
    from tfcnn.errors import InputError, WorkError
    from tfcnn.evaluation.animate import Animation, animate_convolution, animate_pooling
    from tfcnn.evaluation.compare import Comparison, compare
    from tfcnn.evaluation.evaluate import Report, evaluate
    from tfcnn.evaluation.explain import Explanation, explain
    from tfcnn.evaluation.fields import draw_receptive_fields
    from tfcnn.evaluation.layer_pictures import draw_feature_maps, draw_filters
    from tfcnn.evaluation.predict import Prediction, predict
    from tfcnn.evaluation.report import write_report
    from tfcnn.export.formats import EXPORTERS
    from tfcnn.export.gate import export
    from tfcnn.flow import train_and_export
    from tfcnn.labels import LabelCheck, check_labels
    from tfcnn.models.backbones import BACKBONES, list_backbones
    from tfcnn.models.classifier import ModelConfig, build_classifier
    from tfcnn.models.cnn import build_cnn
    from tfcnn.models.freeze import set_trainable
    from tfcnn.models.geometry import convolve2d_steps, image_of, output_size, pool2d_steps
    from tfcnn.models.inspect import inspect_model
    from tfcnn.models.networks import build_network
    from tfcnn.record import Run, load_run
    from tfcnn.repetition import Repetition, repeat
    from tfcnn.search.config import SearchConfig
    from tfcnn.search.result import Search
    from tfcnn.search.search import search
    from tfcnn.training.checks import check_freeze
    from tfcnn.training.config import TrainingConfig
    from tfcnn.training.find_rate import RateRange, find_learning_rate
    from tfcnn.training.strategy import make_strategy
    from tfcnn.training.train import train


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module 'tfcnn' has no attribute '{name}'")
    module = importlib.import_module(_WHERE[name])
    if name not in globals():  # the import bound tfcnn.export, a package that can be called
        globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
