"""Weights for a backbone: Keras's own download, or a file that is checked layer by layer before it is loaded."""

import http.client
import os
import re
import warnings
from pathlib import Path

from tfcnn.errors import InputError, WorkError


def check_weights(weights: str | None) -> None:
    """Raises InputError unless `weights` is None, "none", "imagenet" or an existing .h5 file."""
    if weights in (None, "none", "imagenet"):
        return
    path = Path(weights)
    if not path.is_file():
        raise InputError(f"expected --weights imagenet, none or a file, but there is no file '{weights}'; check the path")
    if path.suffix != ".h5":
        raise InputError(f"expected a weights file of Keras (.h5 or .weights.h5), got '{path.name}'; save it with model.save_weights")


def build_with_imagenet(build, backbone: str, **arguments):
    """A network with the weights that Keras distributes, from its cache or downloaded.

    Raises:
        WorkError: they cannot be had; the message names the file and where to put it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MobileNet warns that the weights are of 224 pixels; they serve other sizes too
            return build(weights="imagenet", **arguments)
    except Exception as error:  # keras.utils.get_file raises a bare Exception for a failed download
        text = str(error)
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
        raise InputError(f"expected weights of {name} in '{path}', but they do not fit: {str(error).splitlines()[0]}") from error


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
