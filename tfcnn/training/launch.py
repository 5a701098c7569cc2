"""Several workers on this computer: `python -m tfcnn.training.launch --workers 2 -- train flowers/ --epochs 5`.

It says with TF_CONFIG to each process which worker it is, as a scheduler does on a cluster. When one of them ends with an error
the others are ended too.
"""

import argparse
import glob
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

INTERRUPT_GRACE = 10  # seconds in which workers may end after Ctrl-C
GRACE = 60  # seconds in which workers may end by themselves after one of them failed, before they are killed


def main(arguments: Sequence[str] | None = None) -> int:
    """Starts workers and waits for them; gives the exit code of the first that failed, 0 if none did."""
    parser = argparse.ArgumentParser(prog="python -m tfcnn.training.launch", description="Trains with several processes on this computer, to try it.")
    parser.add_argument("--workers", type=int, required=True, help="how many processes")
    parser.add_argument("--port", type=int, help="of the first worker, the others follow; by default free ones")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what follows 'tfcnn', such as: train flowers/ --output runs/a")
    args = parser.parse_args(arguments)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if args.workers < 1 or not command:
        parser.exit(2, f"{parser.prog}: expected at least one worker and a command, got --workers {args.workers} -- {' '.join(command)}\n")
    if args.port is not None and not 0 < args.port <= 65536 - args.workers:
        parser.exit(2, f"{parser.prog}: expected a port from 1 to {65536 - args.workers}, got --port {args.port}\n")
    return launch([sys.executable, "-m", "tfcnn", *command], workers=args.workers, port=args.port)


def launch(command: Sequence[str], *, workers: int, port: int | None = None) -> int:
    """Runs a command as so many workers.

    Args:
        command: a program and its arguments; each worker runs it with a TF_CONFIG of its own.
        workers: how many.
        port: of the first worker; free ones if None.

    Returns:
        The exit code of the first worker that failed, 0 if none did.
    """
    ports = free_ports(workers) if port is None else list(range(port, port + workers))
    cluster, gpus = {"worker": [f"127.0.0.1:{number}" for number in ports]}, shared_out(visible_gpus(os.environ), workers)
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                start_new_session=True,  # a terminal's Ctrl-C reaches the launcher, which passes it on: twice would cut the clean-up short
                                env={**os.environ, **gpus[index], "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})})
               for index in range(workers)]
    printers = [threading.Thread(target=_print, args=(index, worker.stdout), daemon=True) for index, worker in enumerate(started)]
    for printer in printers:
        printer.start()
    try:
        code = _wait(started)
    finally:
        for worker in started:
            worker.kill()
            worker.wait()
        for printer in printers:
            printer.join()
        for worker in started:
            worker.stdout.close()
    return code


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The GPUs of this computer that a process may use, as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" not in environment:
        return [str(number) for number in range(len(glob.glob("/proc/driver/nvidia/gpus/*")))]
    named = [name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",")]
    return named[:named.index("-1")] if "-1" in named else [name for name in named if name]


def shared_out(gpus: Sequence[str], workers: int) -> list[dict[str, str]]:
    """What to add to the environment of each worker: no GPU works for two of them, so all use the processor where there are too few."""
    if not gpus:
        return [{}] * workers
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[index::workers]) if len(gpus) >= workers else "-1"} for index in range(workers)]


def free_ports(count: int) -> list[int]:
    """Numbers of ports of this computer at which nobody listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


def _wait(workers: list[subprocess.Popen]) -> int:
    """Waits until all have ended, or until the time of those that did not end after one failed is over."""
    failed, until = 0, float("inf")
    # Which raises KeyboardInterrupt: when the terminal is closed, too, the workers would go on alone.
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        while any(worker.poll() is None for worker in workers) and time.monotonic() < until:
            codes = [worker.poll() for worker in workers]
            if not failed and any(codes):
                failed = next(code for code in codes if code)
                until = time.monotonic() + GRACE
            time.sleep(0.2)
    except KeyboardInterrupt:
        for worker in workers:
            worker.send_signal(signal.SIGINT)
        until = time.monotonic() + INTERRUPT_GRACE  # in which they say how to go on
        while any(worker.poll() is None for worker in workers) and time.monotonic() < until:
            time.sleep(0.2)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    failed = failed or next((worker.returncode for worker in workers if worker.returncode), 0)
    return 128 - failed if failed < 0 else failed  # a signal, as shells count it


def _print(index: int, lines) -> None:
    for line in lines:
        print(f"[{index}] {line}", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
