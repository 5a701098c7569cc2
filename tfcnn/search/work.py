"""The loop over the trials of an oracle, in this process or in several that a chief tells what to try (keras-tuner's protocol).

keras-tuner's own chief waits for ever for a worker that died, and gives its trial to nobody else. Here each worker says every few seconds
that it is at work; the trial of one that falls silent is taken up by another.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures

from tfcnn.errors import InputError, WorkError, first_line
from tfcnn.search.job import COMPLETED, FAILED, IDLE, STOPPED

PAUSE = 0.2  # seconds between two questions of a worker that has nothing to do
BEAT = 5  # seconds between two signs of life
LOST = 30  # seconds without one, after which a trial is given to another worker
CHIEF_TIMEOUT = 600  # seconds in which the chief has to answer; it may decode photos meanwhile

logger = logging.getLogger(__name__)


class StoppedError(BaseException):
    """The search is ended from outside: what happened to a trial after that is not its own fault."""


def work_on(oracle, run: Callable, *, worker: str, on_end: Callable = lambda trial: None, stopped: threading.Event | None = None) -> None:
    """Takes trials from an oracle until it has no more.

    Args:
        oracle: of keras-tuner, or a client of one.
        run: (trial) → its metrics; an error that it raises is that of the trial, and the work goes on.
        worker: by which the oracle knows who asks.
        on_end: called with each trial when its result is with the oracle.
        stopped: set where other threads are to end too.

    Raises:
        StoppedError: `stopped` is set.
    """
    stopped = stopped or threading.Event()
    while True:
        if stopped.is_set():
            raise StoppedError
        trial = oracle.create_trial(worker)
        if trial.status == STOPPED:
            return
        if trial.status == IDLE:
            time.sleep(PAUSE)
            continue
        try:
            with _alive(oracle, trial):
                metrics = run(trial)
        except Exception as error:
            if stopped.is_set():
                raise StoppedError from error
            trial = _copy(trial)
            trial.status = FAILED
            trial.message = first_line(error) if isinstance(error, (InputError, WorkError)) else f"{type(error).__name__}: {first_line(error)}"
        else:
            oracle.update_trial(trial.trial_id, metrics)
            trial = _copy(trial)
            trial.status = COMPLETED
        oracle.end_trial(trial)
        on_end(trial)


def _copy(trial):
    """In this process a trial is the oracle's own, whose status other threads read: it changes with the score, by `end_trial`."""
    return type(trial).from_state(trial.get_state())


class Chief:
    """Serves one oracle after another to the workers, at the address of keras-tuner's environment variables.

    Args:
        environment: with KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT.
        levels: in their order; a worker asks as LEVEL:NAME, and waits for a level that has not begun.
    """

    def __init__(self, environment: Mapping[str, str], levels: tuple[str, ...]):
        self._address = f"{environment['KERASTUNER_ORACLE_IP']}:{environment['KERASTUNER_ORACLE_PORT']}"
        self._levels = levels

    def serve(self, level: str, oracle, on_pause: Callable = lambda: None) -> None:
        """Until all trials of the oracle have ended, and the workers that are there know it; calls `on_pause` meanwhile."""
        import grpc
        from keras_tuner.src import protos

        server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
        servicer = _servicer(oracle, level, self._levels)
        protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
        try:
            if not server.add_insecure_port(self._address):
                raise RuntimeError("no port")
        except RuntimeError as error:
            raise InputError(f"expected to listen at {self._address} as the chief of the search, but that address cannot be used; "
                             "give another KERASTUNER_ORACLE_PORT") from error
        server.start()
        logger.info("workers are awaited at %s", self._address)
        try:
            while not servicer.is_done():
                servicer.give_up_lost(time.monotonic())
                on_pause()
                time.sleep(PAUSE)
        finally:
            server.stop(grace=1).wait()


def client_of(oracle):
    """A client of the chief's oracle."""
    from keras_tuner.src.distribute import oracle_client

    oracle_client.TIMEOUT = CHIEF_TIMEOUT
    return oracle_client.OracleClient(oracle)


def chief_is_gone(error: Exception) -> WorkError:
    """What a worker says of a chief that does not answer."""
    address = f"{os.environ.get('KERASTUNER_ORACLE_IP')}:{os.environ.get('KERASTUNER_ORACLE_PORT')}"
    return WorkError(f"expected the chief of the search at {address} to answer, but it did not ({first_line(error):.120}); "
                     "start chief and workers again with the same command: the search goes on")


def _servicer(oracle, level: str, levels: tuple[str, ...]):
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer
    from keras_tuner.src.engine.hyperparameters import HyperParameters
    from keras_tuner.src.engine.oracle import synchronized
    from keras_tuner.src.engine.trial import Trial

    @synchronized
    def give_up(oracle, worker):
        """The trial that a worker had, which waits for another one now."""
        oracle.tuner_ids.discard(worker)
        trial = oracle.ongoing_trials.pop(worker, None)
        if trial is not None:
            oracle._retry_queue.append(trial.trial_id)
            oracle.save()
        return trial

    class Servicer(OracleServicer):
        """keras-tuner's, with levels, and with an ear for workers that fall silent."""

        def __init__(self):
            super().__init__(oracle)
            # By worker, of those that were not told yet that there is nothing more; of a chief before this one they may be at work.
            self._heard: dict[str, float] = dict.fromkeys(oracle.ongoing_trials, time.monotonic())
            self._told = False

        def CreateTrial(self, request, context):
            asked = request.tuner_id.partition(":")[0]
            if asked != level:
                status = STOPPED if levels.index(asked) < levels.index(level) else IDLE
                return self._nothing(status)
            response = super().CreateTrial(request, context)
            if Trial.from_proto(response.trial).status != STOPPED:
                self._heard[request.tuner_id] = time.monotonic()
                return response
            if oracle.ongoing_trials:  # one of which may be lost yet
                self._heard[request.tuner_id] = time.monotonic()
                return self._nothing(IDLE)
            self._heard.pop(request.tuner_id, None)
            self._told = True
            return response

        def UpdateTrial(self, request, context):
            if request.trial_id not in oracle.end_order:  # of a worker that was given up and is back, when another one was faster
                return super().UpdateTrial(request, context)
            return protos.get_service().UpdateTrialResponse(trial=oracle.get_trial(request.trial_id).to_proto())

        def EndTrial(self, request, context):
            trial_id = request.trial.trial_id
            if trial_id in oracle.end_order:
                return protos.get_service().EndTrialResponse()
            if trial_id in oracle._retry_queue:
                oracle._retry_queue.remove(trial_id)
            return super().EndTrial(request, context)

        def GetTrial(self, request, context):
            for worker, trial in list(oracle.ongoing_trials.items()):
                if trial.trial_id == request.trial_id:
                    self._heard[worker] = time.monotonic()
            return super().GetTrial(request, context)

        def is_done(self) -> bool:
            return self._told and not oracle.ongoing_trials and not self._heard

        def give_up_lost(self, now: float) -> None:
            for worker, heard in list(self._heard.items()):
                if now - heard > LOST:
                    del self._heard[worker]
                    trial = give_up(oracle, worker)
                    if trial is not None:
                        logger.warning("worker %s was not heard of for %d s: its trial %s is given to another", worker.partition(":")[2], LOST, trial.trial_id)

        @staticmethod
        def _nothing(status: str):
            return protos.get_service().CreateTrialResponse(trial=Trial(HyperParameters(), trial_id="", status=status).to_proto())

    return Servicer()


class _alive:
    """Says to a chief, as long as a trial runs, that it does; does nothing where the oracle is in this process."""

    def __init__(self, oracle, trial):
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(oracle, trial.trial_id), daemon=True) if hasattr(oracle, "stub") else None

    def __enter__(self):
        if self._thread:
            self._thread.start()

    def __exit__(self, *_):
        self._ended.set()

    def _beat(self, oracle, trial_id: str) -> None:
        while not self._ended.wait(BEAT):
            try:
                oracle.get_trial(trial_id)
            except Exception as error:  # the work itself will meet it
                logger.debug("the chief does not hear: %s", error)
