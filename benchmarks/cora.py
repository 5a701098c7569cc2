"""Which topic is a paper about, by its words and what it cites? Cora by random splits, every graph convolution in one table.

    python benchmarks/cora.py [--networks gcn sage gin gat gatv2] [--splits 50] [--nodes component|all] [--neighbours 10 10] [--data FILE]

As Shchur et al. 2018, "Pitfalls of Graph Neural Network Evaluation", section 3: 20 nodes of each class to learn from, 30 of each for validation, all others for
the test, drawn anew for each split; on the largest connected component (2,485 nodes), or on all 2,708. Networks and training are the defaults of
`tfcnn train --kind node`.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
TRAIN, VALIDATION = 20, 30  # nodes of each class


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["gcn", "sage", "gin", "gat", "gatv2"])
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--nodes", default="component", choices=["component", "all"])
    parser.add_argument("--neighbours", type=int, nargs="+")
    parser.add_argument("--data", default=str(DATA / "graphs" / "cora.npz"))
    args = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    graph = read(args.data, args.nodes)
    print(f"Cora, {len(graph['features'])} nodes, {args.splits} random splits, {TRAIN} nodes of each class to learn from; accuracy in %, mean ± sd and the "
          f"95 % interval of the mean; {os.cpu_count()} cores\n{'network':<8}{'validation':>14}{'test':>14}{'interval':>16}{'s/training':>12}", flush=True)
    for network in args.networks:
        rows = [one_split(graph, network, seed, args.neighbours) for seed in range(args.splits)]
        validation, test, seconds = zip(*rows, strict=True)
        half = 1.96 * statistics.stdev(test) / len(test) ** 0.5 if len(test) > 1 else 0.0
        mean = statistics.mean(test)
        interval = f"{mean - half:.1f} to {mean + half:.1f}"
        print(f"{network:<8}{shown(validation):>14}{shown(test):>14}{interval:>16}{statistics.median(seconds):>12.1f}", flush=True)


def read(path: str, nodes: str) -> dict:
    """Features, edges and labels, of all nodes or of the largest component."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from tfcnn.data.network_files import read_network

    network = read_network(path)
    chosen = np.arange(network.node_count)
    if nodes == "component":
        edges = coo_array((np.ones(network.edges.shape[1]), tuple(network.edges)), (network.node_count,) * 2)
        _, part = connected_components(edges, directed=False)
        chosen = np.flatnonzero(part == np.bincount(part).argmax())
    place = np.full(network.node_count, -1)
    place[chosen] = np.arange(len(chosen))
    edges = place[network.edges]
    return {"features": network.features[chosen], "edges": edges[:, (edges >= 0).all(axis=0)], "labels": np.array(network.labels)[chosen]}


def drawn(labels: np.ndarray, seed: int) -> np.ndarray:
    """The split of each node."""
    random, splits = np.random.default_rng(seed), np.full(len(labels), "test", object)
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        splits[own[:TRAIN]], splits[own[TRAIN:TRAIN + VALIDATION]] = "train", "validation"
    return splits


def one_split(graph: dict, network: str, seed: int, neighbours) -> tuple[float, float, float]:
    """(validation accuracy, test accuracy, seconds of the training)."""
    import keras

    import tfcnn
    from tfcnn.models.build import build_for_nodes

    data = tfcnn.load_nodes({**graph, "splits": drawn(graph["labels"], seed)}, neighbours=neighbours, seed=seed)
    keras.utils.set_random_seed(seed)
    model = build_for_nodes(tfcnn.ModelConfig(network, "none"), data.labels, data.input_shape, data.facts)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = tfcnn.train(model, data, tfcnn.TrainingConfig(seed=seed), output=Path(folder) / "run")
        seconds = time.perf_counter() - start
        test = tfcnn.evaluate(run, data).accuracy
    keras.utils.clear_session()
    return 100 * run.record["validation"]["accuracy"], 100 * test, seconds


def shown(values) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0:.1f}"


if __name__ == "__main__":
    main()
