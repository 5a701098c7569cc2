"""Classifiers of other kinds of data than photos: a network by its name, for the shape and the facts of a data set."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.errors import InputError
from tfcnn.kept import kept_graph
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.classifier import ModelConfig, Named, build_classifier, with_defaults
from tfcnn.models.networks import build_network
from tfcnn.models.weights import load_layers
from tfcnn.record import load_run

HEAD = ("hidden", "dropout", "activation", "head_batch_norm")  # fields of `ModelConfig`

logger = logging.getLogger(__name__)


def build_for_signals(config: Named, labels: Sequence[str], shape: tuple[int | None, ...], facts: Mapping[str, Any]):
    """A classifier of series, `config.backbone` a name of `tfcnn.models.networks.NETWORKS`."""
    return _on(build_network(config.backbone, shape, mean=facts["mean"], variance=facts["variance"]), config, labels, facts)


def build_for_audio(config: Named, labels: Sequence[str], shape: tuple[int], facts: Mapping[str, Any]):
    """A classifier of sound: `mel_cnn` or a backbone of photos on its spectrogram, or `m5` on its samples."""
    from tfcnn.models.audio import build_m5, build_mel_cnn, pixels_of_sound, samples_of_sound, spectrogram_of_sound

    (samples,), rate = shape, facts["sample_rate"]
    if config.backbone in BACKBONES:
        filled = with_defaults(config)
        model = build_classifier(labels=labels, before=pixels_of_sound(samples, rate, filled.image_size), **asdict(filled))
        model.facts = dict(facts)
        return model
    if config.weights != "none" and (other := load_run(config.weights).facts.get("sample_rate")) != rate:
        raise InputError(f"expected clips at the sampling rate of the run '{config.weights}', {other} Hz, got {rate} Hz; give --sample-rate {other}")
    if config.backbone == "m5":
        return _on(build_m5(samples), config, labels, facts, before=samples_of_sound(samples))
    before = spectrogram_of_sound(samples, rate)
    return _on(build_mel_cnn(*before.output_shape[1:]), config, labels, facts, before=before)


def build_for_text(config: Named, labels: Sequence[str], shape: tuple[int], facts: Mapping[str, Any]):
    """A classifier of texts; with `config.weights` a file of vectors of words, they begin with those."""
    from tfcnn.models.text import build_kim_cnn

    words, vectors = facts["vocabulary"], None
    if config.weights != "none":
        vectors = read_vectors(config.weights, words) if Path(config.weights).is_file() else _vectors_of_run(config.weights, facts)
    return _on(build_kim_cnn(shape[0], len(words), vectors=vectors), config, labels, facts, keep=("words",))


def build_for_graphs(config: Named, labels: Sequence[str], shape: tuple[int, ...], facts: Mapping[str, Any]):
    """A classifier of graphs, `config.backbone` a name of `tfcnn.models.graph_networks.CONVOLUTIONS`.

    Where the run that `config.weights` names knows nodes of other kinds, what sees these is new, and the blocks behind it are those of the run.
    """
    from tfcnn.models.graph_networks import OF_FEATURES, build_graph_network

    keep: tuple[str, ...] = ()
    if config.weights != "none":
        before = load_run(config.weights).facts
        same = (before["names"], before["counts"]) == (facts["names"], facts["counts"])
        keep = () if same else OF_FEATURES
        if not same:
            logger.info("nodes of the run have other features: %s are new, the blocks behind are those of the run", " and ".join(OF_FEATURES))
    return _on(build_graph_network(config.backbone, shape, facts), config, labels, facts, keep=keep)


def build_for_nodes(config: Named, labels: Sequence[str], shape: tuple[int, ...], facts: Mapping[str, Any]):
    """A classifier of nodes, `config.backbone` a name of `tfcnn.models.graph_networks.CONVOLUTIONS`, on a whole graph or on their neighbourhoods."""
    from tfcnn.models.graph_networks import build_network_of_graph, build_node_network

    if facts["neighbours"]:
        return _on(build_node_network(config.backbone, shape, facts), config, labels, facts)
    return _on(build_network_of_graph(config.backbone, kept_graph(facts["graph"]), facts), config, labels, facts, keep=("graph",))


def build_for_volumes(config: Named, labels: Sequence[str], shape: tuple[int, ...], facts: Mapping[str, Any]):
    """A classifier of volumes: a network of `tfcnn.models.volumes.NETWORKS`, or a backbone of photos on their slices."""
    from tfcnn.models.volumes import volume_input

    return _of_stacks(volume_input(shape, facts), config, labels, facts)


def build_for_videos(config: Named, labels: Sequence[str], shape: tuple[int, ...], facts: Mapping[str, Any]):
    """A classifier of videos: a network of `tfcnn.models.volumes.NETWORKS` on each clip, or a backbone of photos on their frames."""
    from tfcnn.models.videos import video_input

    return _of_stacks(video_input(shape, facts), config, labels, facts)


def _of_stacks(standardised, config: Named, labels: Sequence[str], facts: Mapping[str, Any]):
    """A classifier behind a `keras.Model` from examples to standardised (batch, depth or frames, height, width, channels)."""
    from tfcnn.models.frames import mean_over, parts_of
    from tfcnn.models.volumes import NETWORKS, as_pixels

    if config.backbone in BACKBONES:
        return _on_frames(as_pixels(standardised), config, labels, facts)
    parts = parts_of(standardised)
    network = NETWORKS[config.backbone](standardised.output_shape[1:])
    return _on(network, config, labels, facts, before=standardised, after=(lambda x: mean_over(x, parts)) if parts else None)


def _on_frames(pixels, config: Named, labels: Sequence[str], facts: Mapping[str, Any]):
    """A classifier by a backbone of photos on slices or frames.

    Args:
        pixels: a `keras.Model` from examples to pixels 0-255 (batch, frames, height, width, 1 or 3).
    """
    from tfcnn.models.frames import as_photos, inflate, mean_over, parts_of

    filled, parts = with_defaults(config), parts_of(pixels)
    frames, channels = pixels.output_shape[1], pixels.output_shape[-1]
    if channels not in (1, 3):
        raise InputError(f"expected 1 or 3 channels for {config.backbone}, which knows grey and colour, got {channels}; take a network of its own")
    left = frames  # of an example behind the backbone

    def inside(network):
        nonlocal left
        if filled.frames == "inflate":
            network, left = inflate(network, frames)
        return network

    model = build_classifier(labels=labels, before=as_photos(pixels, filled.image_size), inside=inside,
                             after=lambda x: mean_over(x, [*parts, (left, False)]), **asdict(filled))
    model.facts = dict(facts)
    return model


def _vectors_of_run(weights: str, facts: Mapping[str, Any]) -> np.ndarray:
    """For each word the vector that a run learned for it, whatever its number there."""
    run = load_run(weights)
    if run.facts["tokens"] != facts["tokens"]:
        raise InputError(f"expected a run of {facts['tokens']} as --weights, got one of {run.facts['tokens']}, '{weights}'")
    learned = run.load_model().get_layer("backbone").get_layer("words").get_weights()[0]
    found = {word: learned[row] for row, word in enumerate(run.facts["vocabulary"])}
    return _vectors(found, facts["vocabulary"], weights)


def read_vectors(path: str | Path, vocabulary: Sequence[str]) -> np.ndarray:
    """Vectors of words from a text file as GloVe and word2vec have them: a word and its numbers a line, perhaps a first line with two counts.

    Returns:
        float32 (len(vocabulary), width); words that the file lacks have random numbers of the same spread, 0 stands for nothing.

    Raises:
        InputError: a file of another form, or without a word of the vocabulary.
    """
    place, found, width = {word: row for row, word in enumerate(vocabulary)}, {}, 0
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            parts = line.rstrip().split(" ")
            if number == 1 and len(parts) == 2:
                continue
            width = width or len(parts) - 1
            if len(parts) <= width or width < 2:
                raise InputError(f"expected a word and {width if width > 1 else 'its'} numbers in line {number} of '{path}', got {len(parts) - 1}")
            word = " ".join(parts[:-width]).casefold()  # some files have words with blanks
            if word in place and word not in found:
                found[word] = _vector(parts[-width:], f"line {number} of '{path}'")
    if not found:
        raise InputError(f"expected vectors of words of the vocabulary in '{path}', found none of its {len(vocabulary)}; give vectors of the same language")
    return _vectors(found, vocabulary, path)


def _vector(texts: Sequence[str], where: str) -> np.ndarray:
    try:
        vector = np.array(texts, np.float32)
    except ValueError as error:
        raise InputError(f"expected numbers in {where}, but: {error}") from error
    if not np.isfinite(vector).all():
        raise InputError(f"expected numbers in {where}, got NaN or infinity; remove the line")
    return vector


def _vectors(found: Mapping[str, np.ndarray], vocabulary: Sequence[str], path: str | Path) -> np.ndarray:
    """Those that were found, by the numbers of the vocabulary; random ones of the same spread for the others."""
    shared = [word for word in vocabulary if word in found]
    logger.info("%d of the %d words have a vector in '%s'", len(shared), len(vocabulary), path)
    known = np.stack([found[word] for word in shared])
    vectors = np.random.default_rng(0).normal(0, known.std(), (len(vocabulary), known.shape[1])).astype(np.float32)
    for row, word in enumerate(vocabulary):
        vectors[row] = found.get(word, vectors[row])
    vectors[0] = 0
    return vectors


def check_network(config: Named, kind: str) -> None:
    """Raises InputError for weights that a network from random weights cannot have."""
    wrong = next((name for name in ("image_size", "pooling", "channels") if getattr(config, name) != getattr(ModelConfig, name)), None)
    if wrong:
        raise InputError(f"expected no {wrong} for the network {config.backbone} of {kind} data, got {wrong}={getattr(config, wrong)}; leave it out")
    if config.weights == "none" or (kind == "text" and Path(config.weights).is_file()):
        return
    if not Path(config.weights).is_dir():
        wanted = "none, a run, or a file of vectors of words" if kind == "text" else "none or a run"
        there = "" if Path(config.weights).exists() or config.weights == "imagenet" else ", which is not there"
        raise InputError(f"expected --weights {wanted} for {config.backbone}, got '{config.weights}'{there}")
    run = load_run(config.weights)
    if run.kind != kind or run.record["model"]["backbone"] != config.backbone:
        raise InputError(f"expected a run of {kind} data with the network {config.backbone} as --weights, got one of {run.kind} data with "
                         f"{run.record['model']['backbone']}, '{config.weights}'")


def _on(network, config: Named, labels: Sequence[str], facts: Mapping[str, Any], *, before=None, after=None, keep: Sequence[str] = ()):
    """A classifier on a network, with the weights of a run where one is named; it remembers the facts of the data that it is made for."""
    if config.weights != "none" and Path(config.weights).is_dir():
        load_layers(network, config.weights, config.backbone, keep=keep)
    model = build_classifier(network, labels=labels, before=before, after=after, **{name: getattr(config, name) for name in HEAD})
    given = {"image_size": None, "pooling": None, "channels": ModelConfig.channels}  # of photos
    model.model_config = replace(model.model_config, backbone=config.backbone, weights=config.weights, **given)
    model.facts = dict(facts)
    return model
