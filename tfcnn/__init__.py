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
    "Audit": "tfcnn.data.findings",
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
    "MachineConfig": "tfcnn.training.machine",
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

# For editors and type checkers, which take names that are imported as themselves for public; at run time they are loaded when they are first used.
if TYPE_CHECKING:
    from tfcnn.cross_validation import cross_validate as cross_validate
    from tfcnn.data.audio import load_audio as load_audio
    from tfcnn.data.audit import audit as audit
    from tfcnn.data.config import DataConfig as DataConfig
    from tfcnn.data.dataset import Dataset as Dataset
    from tfcnn.data.findings import Audit as Audit
    from tfcnn.data.graphs import load_graphs as load_graphs
    from tfcnn.data.grid import draw_grid as draw_grid
    from tfcnn.data.images import load_images as load_images
    from tfcnn.data.nodes import load_nodes as load_nodes
    from tfcnn.data.signals import channel_statistics as channel_statistics, load_signals as load_signals
    from tfcnn.data.text import load_text as load_text
    from tfcnn.data.videos import load_videos as load_videos
    from tfcnn.data.volumes import load_volumes as load_volumes
    from tfcnn.diagnosis import Diagnosis as Diagnosis, doctor as doctor
    from tfcnn.errors import InputError as InputError, WorkError as WorkError
    from tfcnn.evaluation.animate import Animation as Animation, animate_convolution as animate_convolution, animate_pooling as animate_pooling
    from tfcnn.evaluation.compare import Comparison as Comparison, compare as compare
    from tfcnn.evaluation.evaluate import Report as Report, evaluate as evaluate
    from tfcnn.evaluation.explain import Explanation as Explanation, explain as explain
    from tfcnn.evaluation.fields import draw_receptive_fields as draw_receptive_fields
    from tfcnn.evaluation.layer_pictures import draw_feature_maps as draw_feature_maps, draw_filters as draw_filters
    from tfcnn.evaluation.predict import Prediction as Prediction, predict as predict
    from tfcnn.evaluation.report import write_report as write_report
    from tfcnn.export.formats import EXPORTERS as EXPORTERS
    from tfcnn.export.gate import export as export
    from tfcnn.flow import train_and_export as train_and_export
    from tfcnn.labels import LabelCheck as LabelCheck, check_labels as check_labels
    from tfcnn.models.backbones import BACKBONES as BACKBONES, list_backbones as list_backbones
    from tfcnn.models.classifier import ModelConfig as ModelConfig, build_classifier as build_classifier
    from tfcnn.models.cnn import build_cnn as build_cnn
    from tfcnn.models.freeze import set_trainable as set_trainable
    from tfcnn.models.geometry import convolve2d_steps as convolve2d_steps, image_of as image_of, output_size as output_size, pool2d_steps as pool2d_steps
    from tfcnn.models.inspect import inspect_model as inspect_model
    from tfcnn.models.networks import build_network as build_network
    from tfcnn.record import Run as Run, load_run as load_run
    from tfcnn.repetition import Repetition as Repetition, repeat as repeat
    from tfcnn.search.config import SearchConfig as SearchConfig
    from tfcnn.search.result import Search as Search
    from tfcnn.search.search import search as search
    from tfcnn.training.checks import check_freeze as check_freeze
    from tfcnn.training.config import TrainingConfig as TrainingConfig
    from tfcnn.training.find_rate import RateRange as RateRange, find_learning_rate as find_learning_rate
    from tfcnn.training.machine import MachineConfig as MachineConfig
    from tfcnn.training.strategy import make_strategy as make_strategy
    from tfcnn.training.train import train as train
else:  # type checkers would take every misspelt name for one of these
    def __getattr__(name: str):
        if name not in _WHERE:
            raise AttributeError(f"module 'tfcnn' has no attribute '{name}'")
        module = importlib.import_module(_WHERE[name])
        if name not in globals():  # the import bound tfcnn.export, a package that can be called
            globals()[name] = getattr(module, name)
        return globals()[name]


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
