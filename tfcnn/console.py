"""What the command line shares with the terminal: output, errors of one line, signals."""

import contextlib
import json
import logging
import os
import re
import signal
import sys
import threading
import warnings

from tfcnn.kinds import IMAGE, KINDS, in_words

_kind = IMAGE


def speak_of(kind: str) -> None:
    """From here on what logs and errors say of photos is said of examples of this kind of data, if there is such a kind."""
    global _kind
    _kind = kind if kind in KINDS else IMAGE


@contextlib.contextmanager
def ended_by_sigterm():
    """SIGTERM, by which schedulers and containers end a process, does what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def set_up_output(*, verbose: bool) -> None:
    """Stages and warnings go to standard error; TensorFlow's C++ chatter goes nowhere unless it is asked for."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    if not verbose:
        _silence_native_code()
        warnings.simplefilter("ignore")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        logging.getLogger("absl").setLevel(logging.ERROR)
    handler = _Lines()
    logger = logging.getLogger("tfcnn")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(in_words(record.getMessage(), _kind), file=sys.stderr)  # looked up each time: rich puts its own there


def _silence_native_code() -> None:
    """C++ writes to file descriptor 2 by its number: Python gets a copy of the descriptor, C++ keeps a closed door."""
    with contextlib.suppress(OSError, ValueError):  # where standard error is captured or closed, there is nothing to do
        if sys.stderr.fileno() == 2:
            sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def fail(message, code: int) -> int:
    """Prints an error as one line; gives the exit code."""
    print(f"tfcnn: {in_words(' '.join(str(message).split()), _kind)}", file=sys.stderr)
    return code


def with_flags(text: str, args) -> str:
    """Arguments as the command line takes them: max_bytes=3 is --max-bytes 3, hidden=(256, 128) is --hidden 256,128."""
    def flag(found: re.Match) -> str:
        name, value = f"--{found[1].replace('_', '-')}", found[2]
        return f"no {name}" if value == "None" else f"{name} {value.strip('(,)').replace(', ', ',')}"

    return re.sub(rf"(?<![\w-])({'|'.join(vars(args))})=(None|\([^()]*\)|(?=\S))", flag, text)


def say(text: str) -> None:
    """Prints to standard output; whoever reads it, such as `head`, may have enough and close it, which changes no exit code."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_json(args, values: dict) -> None:
    """Prints the line of --json, where it is asked for."""
    if args.json:
        say(json.dumps(values, ensure_ascii=False))
