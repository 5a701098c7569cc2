"""Weights for a backbone: a download, a file, or another run; checked layer by layer before they are loaded."""

import functools
import http.client
import os
import re
import urllib.error
import warnings
from collections.abc import Sequence
from pathlib import Path

from tfcnn.errors import InputError, WorkError, first_line
from tfcnn.models.backbones import BACKBONES, VIT, build_network
from tfcnn.models.freeze import OWN, every_layer
from tfcnn.models.networks import MOMENTUM
from tfcnn.models.vit import IMAGENET_PRESET, check_preset, is_preset, load_preset, resize_positions
from tfcnn.record import Run, load_run


def check_weights(weights: str | None, backbone: str) -> None:
    """Raises InputError unless a backbone can have these weights, as far as that is seen without TensorFlow.

    Args:
        weights: None or "none" (random), "imagenet", a .h5 file, the folder of a run with the same backbone, or, for a ViT,
            the name or folder of a preset of KerasHub.
        backbone: a name of `BACKBONES`.
    """
    row = BACKBONES[backbone]
    if weights in (None, "none") or (weights == "imagenet" and row.build != VIT):
        return
    if row.build == VIT and (weights == "imagenet" or is_preset(weights)):
        check_preset(IMAGENET_PRESET if weights == "imagenet" else weights, row.options)
    elif Path(weights).is_dir():
        if not (Path(weights) / "run.json").is_file():
            kinds, files = ("a run or a preset of KerasHub", "neither run.json nor config.json") if row.build == VIT else ("a run", "no run.json")
            raise InputError(f"expected the folder of {kinds} as --weights of {backbone}, but '{weights}' has {files}; "
                             "give the folder that 'tfcnn train --output' named, or a file")
        _check_run(weights, backbone)
    elif not Path(weights).is_file():
        raise InputError(f"expected --weights imagenet, none, a file or a run, but there is no file '{weights}'; check the path")
    elif Path(weights).suffix != ".h5":
        raise InputError(f"expected a weights file of Keras (.h5 or .weights.h5), got '{Path(weights).name}'; save it with model.save_weights")


def build_with_weights(backbone: str, image_size: int, weights: str):
    """A backbone with the weights that `check_weights` let pass.

    Args:
        backbone: a name of `BACKBONES`.
        image_size: height and width of the input in pixels; weights of another size are good for it.
        weights: as for `check_weights`.

    Raises:
        InputError: weights of another network, or damaged ones.
        WorkError: a download fails.
    """
    row = BACKBONES[backbone]
    if weights == "imagenet" and row.build != VIT:
        return build_with_imagenet(functools.partial(build_network, row, image_size), backbone)
    network = build_network(row, image_size)
    if weights == "none":
        return with_quick_averages(network)
    if row.build == VIT and (weights == "imagenet" or is_preset(weights)):
        load_preset(network, IMAGENET_PRESET if weights == "imagenet" else weights, row.options)
    elif Path(weights).is_dir():
        _load_run(network, weights, backbone)
    else:
        load_backbone_weights(network, weights, backbone)
    return network


def with_quick_averages(network):
    """The network, whose BatchNorm averages follow its batches within tens of steps; it begins with random weights.

    Keras's networks have momentum 0.99 or 0.999, of trainings of a million steps: a third of what inference takes for statistics is still that
    of the start after a hundred steps at 0.99, after a thousand at 0.999.
    """
    import keras

    for layer in every_layer(network):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, MOMENTUM)
    return network


def build_with_imagenet(build, backbone: str):
    """A network with the weights that Keras distributes, from its cache or downloaded.

    Raises:
        WorkError: they cannot be had; the message names the file and where to put it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MobileNet warns that the weights are of 224 pixels; they serve other sizes too
            return build(weights="imagenet")
    except Exception as error:  # keras.utils.get_file raises a bare Exception for a failed download
        text = str(error)
        if isinstance(error.__context__, urllib.error.HTTPError):
            error.__context__.close()  # Keras leaves the connection open
        cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
        url = re.search(r"https?://\S+", text)
        if url:
            file = url.group().rstrip(".:,").rsplit("/", 1)[-1]
            raise WorkError(f"expected the ImageNet weights of {backbone}, but they cannot be downloaded; put '{file}' into '{cache}', "
                            "or give --weights FILE") from error
        if "hash" in text or "corrupted" in text:
            raise WorkError(f"expected the ImageNet weights of {backbone}, but the file that came has another hash than Keras's own; "
                            f"remove it from '{cache}' and try again, or give --weights FILE") from error
        if isinstance(error, (OSError, http.client.HTTPException)):
            raise WorkError(f"expected the ImageNet weights of {backbone}, but their download failed ({type(error).__name__}: {text}); "
                            f"try again, put the file that Keras names into '{cache}', or give --weights FILE") from error
        raise


def load_backbone_weights(backbone, path: str | Path, name: str) -> None:
    """Loads a weights file into a network, after comparing every layer.

    Raises:
        InputError: not a weights file, or one of another network; the message names the first layer that differs.
    """
    path = Path(path)
    if not path.name.endswith(".weights.h5"):
        _compare_layers(backbone, path, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of layers it skips before it refuses the file
            backbone.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise InputError(f"expected weights of {name} in '{path}', but they do not fit: {first_line(error)}") from error


def _check_run(path: str, name: str) -> Run:
    """The run in a folder, if it is finished and has this backbone."""
    run = load_run(path)
    model = run.record.get("model") or {}
    if model.get("weights") == OWN:
        raise InputError(f"expected a run with the backbone {name} in '{path}', got one with a network that tfcnn did not build; give the run of a {name}")
    found = model.get("backbone")
    if found != name:
        raise InputError(f"expected a run with the backbone {name} in '{path}', got backbone={found}; build {found}, or give the run of a {name}")
    if not (run.path / "model.keras").is_file():
        raise InputError(f"expected a finished run in '{path}', but it has no model.keras; finish it with --resume")
    return run


def _load_run(network, path: str, name: str) -> None:
    """Copies the backbone of a run's model, layer by layer in order: a run of another image size has the same layers."""
    load_layers(network, _check_run(path, name), name)


def load_layers(network, run: Run | str | Path, name: str, *, keep: Sequence[str] = ()) -> None:
    """Copies the weights of a run's backbone into a network of the same layers; what standardises series stays that of the network's own data.

    Args:
        network: with the layers of the backbone `name`.
        run: whose weights are copied.
        name: of the network.
        keep: names of layers that keep their own weights.

    Raises:
        InputError: layers that differ: another number of channels, or another version of the network.
    """
    import keras

    run = run if isinstance(run, Run) else load_run(run)
    path = run.path
    source = [layer for layer in run.load_model().get_layer("backbone").layers if layer.weights]
    target = [layer for layer in network.layers if layer.weights]
    if len(source) != len(target):
        raise InputError(f"expected {len(target)} layers with weights in the backbone of '{path}', got {len(source)}; the run was made with another "
                         "version, train it again")
    for old, new in zip(source, target, strict=True):
        values = old.get_weights()
        if new.name == "position_embedding":
            values = [resize_positions(values[0], new.input_dim)]
        if isinstance(new, keras.layers.Normalization) or new.name in keep:
            continue
        shapes, wanted = [value.shape for value in values], [tuple(weight.shape) for weight in new.weights]
        if shapes != wanted:
            raise InputError(f"expected weights of {name} in '{path}', but layer '{new.name}' wants {_list(wanted)} and the run's "
                             f"'{old.name}' has {_list(shapes)}; the run was made with another version, train it again")
        new.set_weights(values)
        if hasattr(new, "finalize_state"):  # Normalization computes with constants that it draws from its weights here
            new.finalize_state()


def _compare_layers(backbone, path: Path, name: str) -> None:
    in_file = _layers_of_file(path)
    in_network = [(layer.name, [tuple(w.shape) for w in layer.weights]) for layer in backbone.layers if layer.weights]
    for (expected, shapes), (found, found_shapes) in zip(in_network, in_file, strict=False):
        if shapes != found_shapes:
            raise InputError(f"expected weights of {name} in '{path.name}', but layer '{expected}' wants {_list(shapes)} and the file's "
                             f"'{found}' has {_list(found_shapes)}; give a file of {name} made without the top")
    if len(in_file) != len(in_network):
        longer, word = (in_file, "more") if len(in_file) > len(in_network) else (in_network, "fewer")
        layer = longer[min(len(in_file), len(in_network))][0]
        raise InputError(f"expected weights of {name} in '{path.name}', but the file has {abs(len(in_file) - len(in_network))} layers {word} "
                         f"than the network, from '{layer}' on; give a file of {name} made without the top ('no_top')")


def _layers_of_file(path: Path) -> list[tuple[str, list[tuple]]]:
    """(layer name, shapes of its weights) in the order of a legacy Keras .h5 file."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)  # a whole model saved as .h5 has its weights one level down
            text = lambda name: name.decode() if isinstance(name, bytes) else name
            names = [text(n) for n in group.attrs["layer_names"]]
            layers = [(n, [tuple(group[n][text(w)].shape) for w in group[n].attrs["weight_names"]]) for n in names]
    except (OSError, KeyError) as error:
        raise InputError(f"expected a Keras weights file (HDF5), but '{path}' cannot be read as one; is the download complete?") from error
    return [layer for layer in layers if layer[1]]


def _list(shapes: list[tuple]) -> str:
    return " and ".join("x".join(map(str, shape)) for shape in shapes)
