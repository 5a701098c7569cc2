"""The scaling model of docs/scaling.md: bytes that a step exchanges, and the efficiency to expect, for each named backbone.

python benchmarks/scaling.py [--teraflops 20] [--depthwise 2] [--photos 32] [--overlap 0]

Nothing is measured here: bytes and multiply-adds are counted on the networks, times follow from the assumptions that are printed.
"""

import argparse

DEPTHWISE = ("mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0")  # their convolutions wait for memory more than they compute
NAMED = (*DEPTHWISE, "resnet50", "vgg16", "vit_b_16")
LINKS = {"1 GB/s": 1e9, "10 GB/s": 1e10, "200 GB/s": 2e11}  # 10 Gbit/s Ethernet with its overhead, 100 Gbit/s, NVLink
COUNTS = (2, 8, 64)
LATENCY = 20e-6  # seconds of one hop
BYTES = 4  # gradients are exchanged in float32, in mixed precision too


def main() -> None:
    from tfcnn.models.inspect import inspect_model

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teraflops", type=float, default=20.0, help="that a GPU reaches on these networks, not its peak (default: %(default)s)")
    parser.add_argument("--depthwise", type=float, default=2.0, help="the same of networks with depthwise convolutions (default: %(default)s)")
    parser.add_argument("--photos", type=int, default=32, help="on each GPU in a step (default: %(default)s)")
    parser.add_argument("--overlap", type=float, default=0.0, help="share of the exchange that hides behind computing, 0 to 1 (default: %(default)s)")
    args = parser.parse_args()
    print(f"{args.teraflops:g} teraflops a GPU ({args.depthwise:g} with depthwise convolutions), {args.photos} photos on each, "
          f"{args.overlap:.0%} of the exchange hidden, hops of {1e6 * LATENCY:.0f} microseconds")
    heads = " ".join(f"{f'{link}, {count}':>13}" for link in LINKS for count in COUNTS)
    print(f"{'all stages open':<20} {'MB a step':>9} {'ms computing':>12} {heads}")
    for name in NAMED:
        rows = inspect_model(name).to_dict()["stages"]
        parameters, products = sum(row["parameters"] for row in rows), sum(row["multiply_adds"] for row in rows)
        computing = step_seconds(products, args.photos, args.depthwise if name in DEPTHWISE else args.teraflops)
        cells = " ".join(f"{efficiency(computing, parameters * BYTES, count, speed, args.overlap):>12.0%} " for speed in LINKS.values() for count in COUNTS)
        print(f"{name:<20} {parameters * BYTES / 1e6:>9.1f} {1000 * computing:>12.1f} {cells}".rstrip())


def step_seconds(products: int, photos: int, teraflops: float) -> float:
    """Of a step: two operations a multiply-add, once forward and twice backward (for the activations and for the weights)."""
    return 3 * 2 * products * photos / (teraflops * 1e12)


def exchange_seconds(size: float, count: int, speed: float) -> float:
    """Of a ring all-reduce (Patarasuk & Yuan 2009): each of `count` replicas sends 2 (count - 1) parts of size / count bytes."""
    return 2 * (count - 1) * (size / count / speed + LATENCY)


def efficiency(computing: float, size: float, count: int, speed: float, overlap: float) -> float:
    """Photos a second of `count` replicas, as a share of `count` times those of one."""
    return computing / (computing + (1 - overlap) * exchange_seconds(size, count, speed))


if __name__ == "__main__":
    main()
