"""One GCN layer on large graphs, forward and backward: nanoseconds an edge and peak memory, from 100,000 to 10,000,000 edges.

    python benchmarks/graph_edges.py [--edges 100000 1000000 10000000] [--features 64] [--rounds 5] [--windows 0 500]

Graphs with ten edges a node, in the sparse form, between any two nodes (window 0), so that those of a large one are nowhere near each other in memory,
or between nodes whose numbers differ by at most a window, as in graphs that are numbered by where things are. Edges are in the order of their targets; in
another one the layer sorts them each time. Each size has a process of its own, whose memory has all of TensorFlow in it; of the rounds behind the first one
the median is printed. Beside it stands SciPy's product of the same sparse matrix with the same features, once forward and once turned round, which is the
least that the layer has to do.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
EDGES_A_NODE = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--windows", type=int, nargs="+", default=[0, 500])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one_size(args.one, args.features, args.rounds, args.windows[0])))
        return
    print(f"{args.features} features, {os.cpu_count()} cores\n"
          f"{'window':>7}{'edges':>10}{'nodes':>10}{'ns an edge':>12}{'SciPy':>9}{'peak memory, GB':>17}", flush=True)
    for window, edges in ((window, edges) for window in args.windows for edges in args.edges):
        command = [sys.executable, __file__, "--one", str(edges), "--features", str(args.features), "--rounds", str(args.rounds), "--windows", str(window)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        told = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"{window:>7}{edges:>10}{edges // EDGES_A_NODE:>10}{told['layer']:>12.0f}{told['scipy']:>9.0f}{told['memory']:>17.2f}", flush=True)


def one_size(count: int, features: int, rounds: int, window: int) -> dict[str, float]:
    """ns an edge of the layer and of SciPy, and peak memory in GB."""
    import tensorflow as tf

    from tfcnn.models.graph import GCNConv

    random, nodes = np.random.default_rng(0), count // EDGES_A_NODE
    edges = random.integers(0, nodes, (2, count), np.int32)
    if window:
        edges[0] = (edges[1] + random.integers(-window, window + 1, count)) % nodes
    edges = np.ascontiguousarray(edges[:, np.argsort(edges[1], kind="stable")])
    values = random.normal(size=(nodes, features)).astype(np.float32)
    layer, x, ends = GCNConv(features), tf.constant(values), tf.constant(edges)
    layer.build([(None, features), (2, None)])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer([x, ends]))
        return tape.gradient(loss, [x, layer.kernel])

    def timed(work) -> float:
        seconds = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - began)
        return 1e9 * statistics.median(seconds[1:]) / count

    layer_ns = timed(lambda: [gradient.numpy() for gradient in step()])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    from scipy.sparse import csr_matrix

    matrix = csr_matrix((np.ones(count, np.float32), (edges[1], edges[0])), (nodes, nodes))
    turned = matrix.T.tocsr()
    return {"layer": layer_ns, "scipy": timed(lambda: (matrix @ values, turned @ values)), "memory": memory}


if __name__ == "__main__":
    main()
