"""`KINDS`: what data can be, one row a kind: what its examples are called, what reads them, what learns from them, what an app has to feed.

A row names functions of other parts as "module:function", which `function_of` imports when they are called: the row knows of all parts, and no
part has to know of another for it.
"""

import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from tfcnn.errors import InputError, WorkError, closest

IMAGE = "image"
GRAPH_NETWORKS = ("gin", "gcn", "sage", "gat", "gatv2")  # of graphs
NODE_NETWORKS = ("gcn", "sage", "gin", "gat", "gatv2")
NETWORKS_3D = ("cnn_3d", "r3d_18", "r2plus1d_18")  # of volumes and of clips


class Kind(NamedTuple):
    """One kind of data.

    Attributes:
        one, many: what an example is called.
        source: what can be trained on, for help.
        endings: of files that hold one example, where no photo ends so.
        ranks: of an example.
        load: (source, *, split, seed, folds, fold, like, and the options) → `Dataset`.
        look: (source, and of the options what concerns reading) → what it holds, a `Found`, for `audit`.
        options: fields of `DataConfig` that `load` takes besides, and `reading`: those of them that `look` takes too.
        networks: names of the networks that learn from random weights, the default first; empty where the backbones of photos serve.
        build: (`ModelConfig`, labels, a `Dataset`'s shape and facts) → classifier.
        layers: a module with layers of our own, which has to be imported before a network is loaded.
        takes_backbones: how a backbone of photos, behind what `build` puts before it, sees an example; empty where it cannot.
        takes_frames: whether such a backbone sees the slices or frames of an example, each or with those beside it.
        augments: whether `TrainingConfig.augmentation` means something.
        fewest_epochs: of a network from random weights, however many examples there are; `rate`: the highest learning rate of its `networks`.
        read_files: (paths or values, shape, facts) → (names, reader of rows), for `predict`.
        draw: (an example as the network gets it, heat or None, facts, its text, whether large) → HTML, for the report.
        heat: (model, inputs, targets) → how much each part of each example counts, for `draw`; `heat_text`: what that is, for the report.
        takes: what an app has to feed, with places for the shape and the facts; `dtype`: of which type.
    """

    one: str
    many: str
    source: str
    ranks: tuple[int, ...]
    load: str
    endings: tuple[str, ...] = ()
    look: str = ""
    options: tuple[str, ...] = ()
    reading: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    build: str = ""
    layers: str = ""
    takes_backbones: str = ""
    takes_frames: bool = False
    augments: bool = False
    fewest_epochs: int = 0
    rate: float = 1e-3
    read_files: str = ""
    draw: str = ""
    heat: str = ""
    heat_text: str = ""
    takes: str = ""
    dtype: str = "float32"


KINDS = {
    IMAGE: Kind(
        "photo", "photos", "folder of class folders, CSV (path,label[,split]), .npz, or tfds:NAME[/CONFIG][:VERSION]", (3,),
        load="tfcnn.data.images:load_images", options=("geometry", "group_by", "data_dir"), takes_backbones="as it is", augments=True),
    "signal": Kind(
        "series", "series", "folder with NAME_TRAIN.ts and NAME_TEST.ts, .ts, CSV or .npz", (2,),
        load="tfcnn.data.signals:load_signals", look="tfcnn.data.signals:look", networks=("resnet", "fcn", "inception_time"),
        build="tfcnn.models.build:build_for_signals", fewest_epochs=20, read_files="tfcnn.data.signals:read_files",
        draw="tfcnn.evaluation.draw:draw_signal", heat="tfcnn.evaluation.stretches:stretches",
        heat_text="Shaded is the stretch that the answer rests on, by Grad-CAM over time (Selvaraju et al. 2017).",
        takes="a series of {steps} steps and {channels} channels, as it was measured; NaN stands for a value that is missing and for the steps behind the "
              "end of a shorter series, which change nothing"),
    "audio": Kind(
        "clip", "clips", "folder of class folders with wav, flac or ogg files, or CSV (path,label[,split])", (1,),
        load="tfcnn.data.audio:load_audio", endings=(".wav", ".flac", ".ogg"), look="tfcnn.data.audio:look", options=("group_by", "sample_rate", "window"),
        reading=("group_by", "sample_rate", "window", "like"), networks=("mel_cnn", "m5"),
        build="tfcnn.models.build:build_for_audio", layers="tfcnn.models.audio", takes_backbones="as a spectrogram", augments=True,
        fewest_epochs=20, rate=1e-2, read_files="tfcnn.data.audio:read_files",
        draw="tfcnn.evaluation.draw:draw_audio", heat="tfcnn.evaluation.stretches:stretches",
        heat_text="The line below a spectrogram has the more colour the more the answer rests on that moment, by Grad-CAM over time (Selvaraju et al. 2017).",
        takes="{samples} samples from -1 to 1 at {sample_rate} Hz, one channel; zeros stand behind the end of a shorter clip, a longer one is given in parts"),
    "text": Kind(
        "text", "texts", "folder of class folders with .txt files, or CSV (text,label[,split])", (1,),
        load="tfcnn.data.text:load_text", endings=(".txt",), look="tfcnn.data.text:look", options=("tokens", "vocabulary", "length"), networks=("kim_cnn",),
        build="tfcnn.models.build:build_for_text", fewest_epochs=4, read_files="tfcnn.data.text:read_files", dtype="int32",
        draw="tfcnn.evaluation.draw:draw_text", heat="tfcnn.evaluation.stretches:without_each",
        heat_text="Blue is what speaks for the answer, orange what speaks against it: how much the answer's score falls or rises when the word is not "
                  "known (Li et al. 2016). Dotted words are not in the vocabulary.",
        takes="{length} numbers of {tokens} as int32; 0 stands behind the end of a shorter text, a longer one is cut. How a text becomes {tokens}: {how}. "
              "The number of one is its line in vocabulary.txt, counted from 0; 1 stands for all that are not in it"),
    "volume": Kind(
        "volume", "volumes", "folder of class folders with .nii, .nii.gz or .npy files or with folders of slices, CSV (path,label[,split]), or .npz", (4,),
        load="tfcnn.data.volumes:load_volumes", endings=(".nii", ".nii.gz", ".npy"),
        look="tfcnn.data.volumes:look", options=("group_by", "spacing", "size", "intensity"),
        reading=("group_by", "spacing", "size", "intensity", "like"), networks=NETWORKS_3D,
        build="tfcnn.models.build:build_for_volumes", layers="tfcnn.models.volumes", takes_backbones="slice by slice", takes_frames=True,
        augments=True, fewest_epochs=20, read_files="tfcnn.data.volumes:read_files", draw="tfcnn.evaluation.draw_volume:draw_volume",
        heat="tfcnn.evaluation.stretches:telling_voxels",
        heat_text="Coloured is what the answer rests on, by Grad-CAM in three dimensions (Selvaraju et al. 2017), in the planes through its strongest voxel.",
        takes="a volume of {depth} x {height} x {width} voxels and {channels} channels, intensities as they were measured{frame}"),
    "video": Kind(
        "video", "videos", "folder of class folders with videos (mp4, mov, avi, mkv, webm and others) or with folders of frames, CSV "
        "(path,label[,split]), or .npz", (4,),
        load="tfcnn.data.videos:load_videos",
        endings=(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp", ".flv", ".ogv", ".ts", ".mts", ".m2ts", ".vob"),
        look="tfcnn.data.videos:look", options=("group_by", "size", "stride", "clips"),
        reading=("group_by", "size", "stride", "clips", "like"), networks=NETWORKS_3D,
        build="tfcnn.models.build:build_for_videos", layers="tfcnn.models.videos", takes_backbones="frame by frame", takes_frames=True,
        augments=True, fewest_epochs=20, read_files="tfcnn.data.videos:read_files", draw="tfcnn.evaluation.draw_video:draw_video",
        heat="tfcnn.evaluation.stretches:telling_voxels",
        heat_text="Coloured is what the answer rests on, by Grad-CAM over time and place (Selvaraju et al. 2017), in the clip with its strongest point.",
        takes="{clips} x {length} frames of a video: clips from its beginning to its end, one behind the other, frames of {height} x {width} pixels{frame}, "
              "{channels} channels, 0-255; they are scaled to cover that size and cut at two sides"),
    "graph": Kind(
        "graph", "graphs", "folder in the TU format (NAME_A.txt and others), .txt of DGCNN, or CSV with a column smiles", (2,),
        load="tfcnn.data.graphs:load_graphs", look="tfcnn.data.graphs:look", options=("size",), reading=("size", "like"), networks=GRAPH_NETWORKS,
        build="tfcnn.models.build:build_for_graphs", layers="tfcnn.models.graph_networks", fewest_epochs=20, read_files="tfcnn.data.graphs:read_files",
        draw="tfcnn.evaluation.draw_graph:draw_graph", heat="tfcnn.evaluation.graph_heat:without_nodes_and_edges",
        heat_text="Blue is what speaks for the answer, orange what speaks against it: how much the answer's score falls or rises without the node, or without "
                  "the edge (Li et al. 2016).",
        takes="a graph of up to {size} nodes as one matrix with a line for each node: its {features} features, then 1, then {size} weights of the edges "
              "from every node to it, 0 where there is none; lines behind the last node are 0"),
    "node": Kind(
        "node", "nodes", "folder with edges.csv and nodes.csv, or .npz with CSR parts: one graph", (1, 2),
        load="tfcnn.data.nodes:load_nodes", look="tfcnn.data.nodes:look", options=("neighbours",), reading=("neighbours", "like"), networks=NODE_NETWORKS,
        build="tfcnn.models.build:build_for_nodes", layers="tfcnn.models.graph_networks", fewest_epochs=20, rate=1e-2, read_files="tfcnn.data.nodes:read_files",
        draw="tfcnn.evaluation.draw_graph:draw_node", heat="tfcnn.evaluation.graph_heat:around_nodes",
        heat_text="Blue is what speaks for the answer, orange what speaks against it: how much the answer's score would fall or rise without the node, or "
                  "without the edge; of a whole graph by gradients (Simonyan et al. 2014). The node that was asked for has a ring.",
        takes="{what}", dtype="int32"),
}
COMMON = ("split", "folds", "fold", "like")  # fields of `DataConfig` that every `load` takes


TELLING = {"adj_indptr": "node", "smiles": "graph", "text": "text"}  # columns and keys that no photos have


def hint_of(names: Iterable[str]) -> str:
    """What to do where the names of columns or keys tell another kind of data than photos, to be put behind an error; "" where they tell none."""
    kind = next((TELLING[name] for name in names if name in TELLING), None)
    return f"; for {KINDS[kind].many} give --kind {kind}" if kind else ""


def kind_of(name: str) -> Kind:
    """The row of this name.

    Raises:
        InputError: there is none.
    """
    if name not in KINDS:
        raise InputError(f"expected a kind of data, got kind='{name}'; {closest(name, KINDS)}")
    return KINDS[name]


def takes_of(kind: str, facts: Mapping[str, Any]) -> str:
    """In words, what an app has to feed to a network of this kind of data."""
    return KINDS[kind].takes.format(**{name: "any number of" if value is None else value for name, value in facts.items()})


# Facts that a network is made for.
FIXED = {"sample_rate": "sampling rate", "samples": "window", "tokens": "tokens", "vocabulary": "vocabulary", "spacing": "spacing"}


def differing(facts: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """What two data sets or runs do not have in common and would have to, in words; "" for nothing."""
    return ", ".join(text for name, text in FIXED.items() if name in facts and name in others and facts[name] != others[name])


def function_of(reference: str) -> Callable:
    """The function that a row names."""
    module, name = reference.split(":")
    return getattr(importlib.import_module(module), name)


def in_words(text: str, kind: str) -> str:
    """A text that speaks of photos, as it is said of examples of this kind; what is quoted and what is part of a path stays as it is."""
    if kind == IMAGE:
        return text
    row = KINDS[kind]
    word = lambda found: row.many if found[0].endswith("s") else row.one
    alone = r"(?:(?<![\w/.\\-])|(?<=\bms/))photos?(?:(?![\w/\\.-])|(?=/s\b)|(?=\.(?!\w)))"
    return "".join(part if part.startswith("'") else re.sub(alone, word, part) for part in re.split(r"((?<!\w)'[^'\n]*')", text))


@contextmanager
def said_of(kind: str) -> Iterator[None]:
    """Errors of what is the same for all kinds, whose messages speak of photos, speak of examples of this one."""
    try:
        yield
    except (InputError, WorkError) as error:
        if kind == IMAGE:
            raise
        raise type(error)(in_words(str(error), kind)) from error
