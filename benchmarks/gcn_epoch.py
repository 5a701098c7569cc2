"""How near is an epoch of GCN on Cora to the sparse products that it cannot do without?

    python benchmarks/gcn_epoch.py [--units 16 64] [--rounds 7] [--epochs 50] [--data FILE]

An epoch is one step with all training nodes: forward, backward and Adam, of the network of `tfcnn train --kind node` for a whole graph, with dropout, and of
two bare GCN layers as Kipf & Welling 2017 have them. The limit is SciPy's product of a CSR matrix and an array for each sparse product of such a step, float32:
features by the first matrix and back, and edges by what nodes have, twice and back. Medians of rounds, one after the other in turn.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--data", default=str(DATA / "graphs" / "cora.npz"))
    args = parser.parse_args()
    print(f"Cora, milliseconds an epoch, median of {args.rounds} rounds of {args.epochs}; {os.cpu_count()} cores\n"
          f"{'units':>6}{'SciPy products':>16}{'bare layers':>13}{'ratio':>7}{'whole network':>15}{'ratio':>7}", flush=True)
    for units in args.units:
        works = [products(args.data, units), bare(args.data, units), network(args.data, units)]
        times = [[] for _ in works]
        for work in works:
            work(3)
        for _ in range(args.rounds):
            for work, found in zip(works, times, strict=True):
                start = time.perf_counter()
                work(args.epochs)
                found.append(1000 * (time.perf_counter() - start) / args.epochs)
        limit, layers, whole = (statistics.median(found) for found in times)
        print(f"{units:>6}{limit:>16.2f}{layers:>13.2f}{layers / limit:>7.1f}{whole:>15.2f}{whole / limit:>7.1f}", flush=True)


def read(path: str):
    from tfcnn.data.nodes import load_nodes

    return load_nodes(path, split=(0.05, 0.2, 0.75))


def products(path: str, units: int):
    """A function of a number of epochs: the sparse products of one step each."""
    from scipy.sparse import csr_array

    from tfcnn.data.network_files import read_network

    graph = read_network(path)
    features = csr_array(graph.features)
    edges = csr_array((np.ones(graph.edges.shape[1], np.float32), (graph.edges[1], graph.edges[0])), shape=(graph.node_count,) * 2)
    back, matrix = csr_array(features.T), np.ones((features.shape[1], units), np.float32)
    hidden, answers = np.ones((graph.node_count, units), np.float32), np.ones((graph.node_count, len(set(graph.labels))), np.float32)

    def run(epochs: int) -> None:
        for _ in range(epochs):
            features @ matrix
            edges @ hidden
            edges @ answers
            edges @ answers  # back; the matrix of an undirected graph is its own transpose
            edges @ hidden
            back @ hidden

    return run


def bare(path: str, units: int):
    """Two GCN layers, the second with an output a class."""
    import keras
    import tensorflow as tf

    from tfcnn.models.graph import GCNConv

    data = read(path)
    from tfcnn.kept import kept_graph
    from tfcnn.models.graph_networks import prepared

    graph = kept_graph(data.facts["graph"])
    nodes, edges = tf.sparse.from_dense(prepared(graph.nodes, data.facts)), tf.constant(graph.edges)
    first, second = GCNConv(units, activation="relu"), GCNConv(len(data.labels))
    rows = data.rows("train")
    numbers, targets = tf.constant(data.inputs[rows, 0]), tf.constant(data.targets(rows))
    second([first([nodes, edges]), edges])
    variables, optimizer = first.trainable_variables + second.trainable_variables, keras.optimizers.Adam(0.01)
    optimizer.build(variables)

    def step():
        with tf.GradientTape() as tape:
            logits = tf.gather(second([first([nodes, edges]), edges]), numbers)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))
        optimizer.apply(tape.gradient(loss, variables), variables)

    return repeated(step)


def network(path: str, units: int):
    """The classifier that `tfcnn train --kind node` builds, with its head, dropout and penalty."""
    import keras
    import tensorflow as tf

    from tfcnn.kept import kept_graph
    from tfcnn.models.classifier import build_classifier
    from tfcnn.models.freeze import set_trainable
    from tfcnn.models.graph_networks import build_network_of_graph

    data = read(path)
    network = build_network_of_graph("gcn", kept_graph(data.facts["graph"]), data.facts, units=units)
    model = build_classifier(network, labels=data.labels)
    set_trainable(model, True)
    rows = data.rows("train")
    numbers, targets = tf.constant(data.inputs[rows]), tf.constant(data.targets(rows))
    variables, optimizer = model.trainable_variables, keras.optimizers.Adam(0.01)
    optimizer.build(variables)

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(targets, model(numbers, training=True))) + tf.add_n(model.losses)
        optimizer.apply(tape.gradient(loss, variables), variables)

    return repeated(step)


def repeated(step):
    """A function of a number of epochs that TensorFlow runs from end to end, as SciPy's loop does without a call for each."""
    import tensorflow as tf

    @tf.function
    def run(epochs):
        for _ in tf.range(epochs):
            step()

    return lambda epochs: run(tf.constant(epochs))


if __name__ == "__main__":
    main()
