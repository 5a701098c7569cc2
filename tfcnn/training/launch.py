"""Several workers on this computer: `python -m tfcnn.training.launch --workers 2 -- train flowers/ --epochs 5`.

It says with TF_CONFIG to each process which worker it is, as a scheduler does on a cluster. When one of them ends with an error
the others are ended too. A search has a chief besides, told by keras-tuner's variables, and goes on without a worker that fails.
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
from collections.abc import Callable, Mapping, Sequence

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
    start = launch_search if command[0] == "search" else launch
    return start([sys.executable, "-m", "tfcnn", *command], workers=args.workers, port=args.port)


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
    told = [{**gpus[index], "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})} for index in range(workers)]
    return _run(command, {str(index): environment for index, environment in enumerate(told)}, _code_of_all)


def launch_search(command: Sequence[str], *, workers: int, port: int | None = None) -> int:
    """Runs a search as its chief and so many workers; one that fails is named, and the others take up its trial.

    Args:
        command: a program and its arguments; each process runs it with keras-tuner's variables of its own.
        workers: how many, besides the chief.
        port: where the chief listens; a free one if None.

    Returns:
        The exit code of the chief, or of a worker if all of them failed.
    """
    address = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port or free_ports(1)[0])}
    gpus = shared_out(visible_gpus(os.environ), workers)
    told = {"chief": {**address, "KERASTUNER_TUNER_ID": "chief", "CUDA_VISIBLE_DEVICES": "-1"}}
    told |= {str(index): {**address, **gpus[index], "KERASTUNER_TUNER_ID": f"worker{index}"} for index in range(workers)}
    return _run(command, told, _code_of_chief)


def _run(command: Sequence[str], environments: Mapping[str, Mapping[str, str]], code_of: Callable) -> int:
    """Runs a command in several processes by their names; `code_of` says of their exit codes so far whether that is the end, see `_wait`."""
    # A session of their own: a terminal's Ctrl-C reaches the launcher, which passes it on; twice would cut the clean-up short.
    started = {name: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
                                      env={**os.environ, **environment}) for name, environment in environments.items()}
    printers = [threading.Thread(target=_print, args=(name, process.stdout), daemon=True) for name, process in started.items()]
    for printer in printers:
        printer.start()
    try:
        code = _wait(started, code_of)
    finally:
        for process in started.values():
            process.kill()
            process.wait()
        for printer in printers:
            printer.join()
        for process in started.values():
            if process.stdout:
                process.stdout.close()
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


def _wait(processes: Mapping[str, subprocess.Popen], code_of: Callable) -> int:
    """Waits until all have ended, or until the time of those that did not end after the end was clear is over; names those that failed.

    Args:
        code_of: (exit codes by name, None of those that run) → the exit code of all when it is clear, else None.
    """
    code, until, named = None, float("inf"), set()
    # Which raises KeyboardInterrupt: when the terminal is closed, too, the processes would go on alone.
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        while any(process.poll() is None for process in processes.values()) and time.monotonic() < until:
            codes = {name: process.poll() for name, process in processes.items()}
            for name, ended in codes.items():
                if ended and name not in named:
                    named.add(name)
                    print(f"[{name}] ended with exit code {_as_shells(ended)}", flush=True)
            if code is None and (code := code_of(codes)) is not None:
                until = time.monotonic() + GRACE
            time.sleep(0.2)
    except KeyboardInterrupt:
        for process in processes.values():
            process.send_signal(signal.SIGINT)
        until = time.monotonic() + INTERRUPT_GRACE  # in which they say how to go on
        while any(process.poll() is None for process in processes.values()) and time.monotonic() < until:
            time.sleep(0.2)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    code = code_of({name: process.returncode for name, process in processes.items()}) if code is None else code
    return _as_shells(code or 0)


def _code_of_all(codes: Mapping[str, int | None]) -> int | None:
    return next((code for code in codes.values() if code), None)


def _code_of_chief(codes: Mapping[str, int | None]) -> int | None:
    """That of the chief, or of a worker where none is left that could do the trials."""
    workers = [code for name, code in codes.items() if name != "chief"]
    return codes["chief"] if codes["chief"] is not None else workers[0] if all(workers) else None


def _as_shells(code: int) -> int:
    """A signal, as shells count it."""
    return 128 - code if code < 0 else code


def _print(name: str, lines) -> None:
    for line in lines:
        print(f"[{name}] {line}", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
