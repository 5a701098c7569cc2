"""Several workers on this computer: what they train, how they are refused, and what happens when one of them is killed."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photos

import tfcnn
from tfcnn.record import load_run, read_history, write_record
from tfcnn.training.launch import free_ports, launch, launch_search, main, shared_out, visible_gpus

TRAIN = """
import json, os, sys, time
import keras
import numpy as np
import tfcnn
from tfcnn.data import read
from tfcnn.training.machine import MachineConfig
from tfcnn.workers import index_of

source, output, config, pause = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4])
decoded, decode = [], read.decode_photo
read.decode_photo = lambda *arguments: (decoded.append(1), decode(*arguments))[1]
strategy = tfcnn.make_strategy("auto")
try:
    data = tfcnn.load_images(source, image_size=16, strategy=strategy)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        x = image = keras.Input((16, 16, 3))
        x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
        for name in ("a", "b"):
            x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name=name)(x)
            x = keras.layers.ReLU()(keras.layers.BatchNormalization(name=f"norm_{name}")(x))
        model = tfcnn.build_classifier(keras.Model(image, x), labels=data.labels, dropout=0.3)
    if pause:
        from tfcnn.training import recorder
        save = recorder.save_place
        recorder.save_place = lambda *arguments: (save(*arguments), print("SAVED", *arguments[2:4], flush=True), time.sleep(pause))
    resume = "resume" in sys.argv or "RESUME" in os.environ
    run = tfcnn.train(model, data, tfcnn.TrainingConfig(**config), output=output, resume=resume, machine=MachineConfig(checkpoint_steps=2))
except (tfcnn.InputError, tfcnn.WorkError) as error:
    print("REFUSED", error, flush=True)
    sys.exit(3)
np.savez(f"{output}-worker-{index_of(strategy)}.npz", **{w.path.replace("/", "."): w.numpy() for w in model.weights if "seed" not in w.path})
print("RESULT", index_of(strategy), len(decoded), run.record["status"], run.record["kept"], flush=True)
"""
FIT = """
import json, sys
import keras
import numpy as np
import tfcnn
from tfcnn.models.cnn import build_features
from tfcnn.models.freeze import set_flags
from tfcnn.training.fine_tune import photos_of
from tfcnn.training.learner import make_learner

strategy = tfcnn.make_strategy("auto")
photos = np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3)).astype(np.uint8)
data = tfcnn.load_images((photos, np.arange(50) % 2), image_size=16, strategy=strategy)
config = tfcnn.TrainingConfig(batch_size=8, augmentation="none")
keras.utils.set_random_seed(0)
with strategy.scope():
    model = tfcnn.build_classifier(build_features((16, 16, 3), filters=(4, 8)), labels=data.labels)
learner = make_learner(model)
stream, steps, ended = lambda end: photos_of(data, config, strategy, end=end), -(-len(data.rows("train")) // 8), []
with strategy.scope():
    set_flags(learner, True)
    learner.compile(keras.optimizers.SGD(0.01, momentum=0.9), keras.losses.CategoricalCrossentropy(reduction=None))
    history = learner.fit(stream(9), steps_per_epoch=steps, epochs=9, validation_data=stream(1), validation_steps=steps, verbose=0, shuffle=False, callbacks=[
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch)), keras.callbacks.EarlyStopping("loss", min_delta=9, patience=2)])
    found = learner.evaluate(stream(1), steps=steps, return_dict=True, verbose=0)
print("RESULT", json.dumps({"history": history.history, "evaluated": found, "ended": ended}), flush=True)
"""
CONFIG = {"trainable": True, "epochs": 3, "batch_size": 8, "learning_rates": {"b": 2e-3}, "learning_rate": 1e-3, "augmentation": "strong", "clip_norm": 0.1,
          "ema": 0.5, "patience": 2}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """60 photos of three classes, 42 of them for the training: the last batch of an epoch has two."""
    return make_photos(tmp_path_factory.mktemp("photos"))


@contextlib.contextmanager
def workers_of(count, sources, output, *, script=TRAIN, config=CONFIG, pause=0.0, more=(), hosts=None, prefixes=None, environments=None):
    """Processes that train together; `sources` and the others have one value for each worker."""
    ports = free_ports(count)
    hosts = hosts or ["127.0.0.1"] * count
    cluster = {"worker": [f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)]}
    started = []
    for index in range(count):
        environment = {**os.environ, "TFCNN_CACHE": f"{output}-cache", "TF_CPP_MIN_LOG_LEVEL": "3"}
        if count > 1:
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        environment |= environments[index] if environments else {}
        arguments = [str(sources[index]), str(output), json.dumps(config), str(pause), *more]
        command = [*(prefixes[index] if prefixes else []), sys.executable, "-c", script, *arguments]
        started.append(subprocess.Popen(command, env=environment, cwd=Path(output).parent, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True))
    try:
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.communicate()


def results(workers):
    """(exit codes, lines that were said) of workers that end by themselves."""
    said = [worker.communicate(timeout=240) for worker in workers]
    return [worker.returncode for worker in workers], [[line for line in out.splitlines() if line.isupper() or " " in line] or [err[-2000:]]
                                                       for out, err in said]


def outcome(output, worker):
    with np.load(f"{output}-worker-{worker}.npz") as weights:
        return dict(weights), [{name: value for name, value in row.items() if name != "seconds"} for row in read_history(Path(output) / "history.csv")]


@pytest.fixture(scope="module")
def alone(photos, tmp_path_factory):
    """The weights and the history of one process."""
    output = tmp_path_factory.mktemp("alone") / "run"
    with workers_of(1, [photos], output) as workers:
        codes, said = results(workers)
    assert codes == [0], said
    assert said[0][-1] == "RESULT 0 60 trained fine-tuned", said
    return outcome(output, 0)


def assert_like(outcome_of_worker, alone, tolerance=2e-6):
    for path, value in alone[0].items():
        np.testing.assert_allclose(outcome_of_worker[0][path], value, atol=tolerance, err_msg=path)
    assert len(outcome_of_worker[1]) == len(alone[1]) == 3
    for row, same in zip(outcome_of_worker[1], alone[1], strict=True):
        assert row == pytest.approx(same, abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_workers_train_what_one_process_trains(tmp_path, photos, alone, count):
    output = tmp_path / "run"
    with workers_of(count, [photos] * count, output) as workers:
        codes, said = results(workers)
    assert codes == [0] * count, said
    assert [lines[-1] for lines in said] == [f"RESULT {index} {60 // count} trained fine-tuned" for index in range(count)]  # each decoded its share
    outcomes = [outcome(output, worker) for worker in range(count)]
    for weights, _ in outcomes[1:]:
        for path, value in weights.items():
            np.testing.assert_array_equal(value, outcomes[0][0][path], err_msg=path)
    assert_like(outcomes[0], alone)
    model = tfcnn.load_run(output).load_model()
    assert {path.replace(".", "/"): value.shape for path, value in outcomes[0][0].items()} == {w.path: tuple(w.shape) for w in model.weights}
    assert not list(output.rglob(".tmp-*")) and not (output / "checkpoint").exists()


@pytest.mark.slow
def test_fit_validation_evaluate_and_callbacks_of_keras_give_the_same_on_two_workers(tmp_path):
    found = []
    for count in (1, 2):
        with workers_of(count, [""] * count, tmp_path / str(count), script=FIT) as workers:
            codes, said = results(workers)
        assert codes == [0] * count, said
        found += [json.loads(lines[-1].removeprefix("RESULT ")) for lines in said]
    alone, *others = found
    assert alone["ended"] == [0, 1, 2]  # early stopping
    assert set(alone["history"]) == {"loss", "accuracy", "val_loss", "val_accuracy"} and set(alone["evaluated"]) == {"loss", "accuracy"}
    assert alone["evaluated"]["loss"] == pytest.approx(alone["history"]["val_loss"][-1], rel=1e-5)
    for other in others:
        assert other["ended"] == alone["ended"] and other["evaluated"] == pytest.approx(alone["evaluated"], rel=1e-5)
        for name, values in alone["history"].items():
            assert other["history"][name] == pytest.approx(values, rel=1e-5), name


@pytest.mark.slow
def test_workers_without_a_common_cache_read_the_rest_themselves(tmp_path, photos, alone):
    output = tmp_path / "run"
    own = [{"TFCNN_CACHE": str(tmp_path / f"cache-{index}")} for index in range(2)]
    with workers_of(2, [photos] * 2, output, environments=own) as workers:
        codes, said = results(workers)
    assert codes == [0, 0], said
    assert [lines[-1] for lines in said] == [f"RESULT {index} 60 trained fine-tuned" for index in range(2)]
    assert_like(outcome(output, 1), alone)


@pytest.mark.slow
def test_workers_that_srun_would_start(tmp_path, photos, alone):
    output = tmp_path / "run"
    port = max(free_ports(2)) - 1
    said = [{"TF_CONFIG": "", "TFCNN_PORT": str(port), "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": str(index), "SLURM_STEP_NODELIST": "localhost",
             "SLURM_STEP_TASKS_PER_NODE": "2"} for index in range(2)]
    with workers_of(2, [photos] * 2, output, environments=said) as workers:
        codes, said = results(workers)
    assert codes == [0, 0], said
    assert_like(outcome(output, 1), alone)


@pytest.mark.slow
def test_workers_at_addresses_of_their_own(tmp_path, photos, alone):
    """Each in a network namespace, with a cable between them."""
    names = [f"tfcnn-{os.getpid()}-{index}" for index in range(2)]
    steps = [["ip", "netns", "add", name] for name in names]
    steps += [["ip", "link", "add", "tfcnn-a", "netns", names[0], "type", "veth", "peer", "name", "tfcnn-b", "netns", names[1]]]
    for index, (name, device) in enumerate(zip(names, ("tfcnn-a", "tfcnn-b"), strict=True), start=1):
        inside = ["ip", "netns", "exec", name, "ip"]
        steps += [[*inside, "addr", "add", f"10.73.0.{index}/24", "dev", device], [*inside, "link", "set", device, "up"], [*inside, "link", "set", "lo", "up"]]
    try:
        for step in steps:
            try:
                subprocess.run(step, check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"this machine lets no test make network namespaces: {error}")
        output = tmp_path / "run"
        prefixes = [["ip", "netns", "exec", name] for name in names]
        with workers_of(2, [photos] * 2, output, hosts=["10.73.0.1", "10.73.0.2"], prefixes=prefixes) as workers:
            codes, said = results(workers)
        assert codes == [0, 0], said
        assert_like(outcome(output, 1), alone)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_is_killed_ends_the_others_within_a_minute_and_a_restart_finishes(tmp_path, photos, alone, victim):
    output = tmp_path / "run"
    with workers_of(3, [photos] * 3, output, pause=0.5) as workers:
        for line in workers[victim].stdout:
            if line.startswith("SAVED 1 2"):
                break
        workers[victim].send_signal(signal.SIGKILL)
        began = time.monotonic()
        codes, said = results([worker for worker in workers if worker is not workers[victim]])
        assert time.monotonic() - began < 60
    assert codes == [3, 3], said
    for index, lines in zip([index for index in range(3) if index != victim], said, strict=True):
        assert any(line.startswith("REFUSED expected all 3 workers to go on, but another one ended") and f"this is worker {index}" in line
                   and "--resume" in line for line in lines), lines
    assert len(list((output / "checkpoint").glob("epoch-*.npz"))) == 2
    with workers_of(3, [photos] * 3, output, more=["resume"]) as workers:
        codes, said = results(workers)
    assert codes == [0, 0, 0], said
    assert_like(outcome(output, 2), alone)


@pytest.mark.slow
def test_the_command_of_the_docs_trains_evaluates_and_exports(tmp_path, photos):
    """A class folder more on one worker is refused before the network is built, which workers do together."""
    command = [sys.executable, "-m", "tfcnn.training.launch", "--workers", "2", "--"]
    train = ["train", str(photos), "--weights", "none", "--image-size", "32", "--trainable", "1", "--epochs", "1", "--export", "tflite_float32", "--json"]
    environment = {**os.environ, "TFCNN_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([*command, *train, "--output", str(tmp_path / "run")], env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:]
    said = {number: [line[4:] for line in done.stdout.splitlines() if line.startswith(f"[{number}] ")] for number in (0, 1)}
    assert "this worker is done; worker 0 evaluates, exports and writes" in said[1]
    found = json.loads(said[0][-1])
    assert found["exports"][0]["verdict"] == "accepted" and found["test"]["n"] == 12 and (tmp_path / "run" / "exports" / "float32.tflite").exists()
    assert json.loads(said[1][-1])["validation"] == found["validation"]
    again = subprocess.run([*command, *train, "--output", str(tmp_path / "run"), "--resume"], env=environment, capture_output=True, text=True, check=False,
                           timeout=240)
    assert again.returncode == 0 and "is trained already; worker 0 evaluates" in again.stdout and "is finished already" in again.stdout
    finished = load_run(tmp_path / "run").record  # as if worker 0 had died in the export
    write_record(tmp_path / "run", {**finished, "status": "trained", "seconds": {k: v for k, v in finished["seconds"].items() if k != "total"}})
    rest = subprocess.run([*command, *train, "--output", str(tmp_path / "run"), "--resume"], env=environment, capture_output=True, text=True, check=False,
                          timeout=240)
    assert rest.returncode == 0 and "is trained already; worker 0 evaluates" in rest.stdout, rest.stdout[-3000:]
    assert load_run(tmp_path / "run").record["status"] == "finished"
    taken = subprocess.run([*command, *train, "--output", str(tmp_path / "run")], env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert taken.returncode == 2 and taken.stdout.count("holds a run already") == 2 and "decode photos" not in taken.stdout


@pytest.mark.slow
def test_workers_with_other_data_or_code_are_refused_before_the_training(tmp_path, photos):
    other = shutil.copytree(photos, tmp_path / "other")
    next(other.glob("*/*.jpg")).unlink()
    with workers_of(2, [photos, other], tmp_path / "run") as workers:
        codes, said = results(workers)
    assert codes == [3, 3]
    assert all("REFUSED expected the same files in the same order on all 2 workers, but worker 1 has others than worker 0" in lines[-1]
               for lines in said), said

    package = shutil.copytree(Path(tfcnn.__file__).parent, tmp_path / "code" / "tfcnn")
    with open(package / "errors.py", "a") as file:
        file.write("# changed\n")
    with workers_of(2, [photos, photos], tmp_path / "run", environments=[{}, {"PYTHONPATH": str(package.parent)}]) as workers:
        codes, said = results(workers)
    assert codes == [3, 3]
    assert all("REFUSED expected the same tfcnn and libraries on all 2 workers, but worker 1 has others" in lines[-1] for lines in said), said

    with workers_of(2, [photos, photos], tmp_path / "run", environments=[{}, {"RESUME": "1"}]) as workers:
        codes, said = results(workers)
    assert codes == [3, 3] and all("worker 1 has others than worker 0 (resume: True in place of False)" in lines[-1] for lines in said), said

    with workers_of(2, [photos, photos], tmp_path / "run") as workers:  # a folder that is taken is refused by all, not only by the one that writes
        results(workers)
    with workers_of(2, [photos, photos], tmp_path / "run") as workers:
        codes, said = results(workers)
    assert codes == [3, 3] and all("holds a run already" in lines[-1] for lines in said), said


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_worker_that_waits_for_the_others_is_ended_by_a_signal_and_says_that_it_waits(number):
    """TensorFlow takes SIGTERM for itself, and no handler of Python runs while it waits."""
    wait = ("import logging, signal, sys; logging.basicConfig(level='INFO', stream=sys.stdout, format='%(message)s'); import tfcnn\n"
            "from tfcnn.training import strategy; strategy.WAIT_SAID = 2; signal.signal(signal.SIGINT, signal.SIG_DFL); tfcnn.make_strategy('multi_worker')")
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    environment = {**os.environ, "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}})}
    with subprocess.Popen([sys.executable, "-u", "-c", wait], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as worker:
        lines = iter(worker.stdout.readline, "")
        assert any(f"still waiting for worker 1 at {addresses[1]}, 2 s by now" in line for line in lines)
        worker.send_signal(number)
        try:
            assert worker.wait(timeout=20) == -number
        finally:
            worker.kill()


@pytest.mark.slow
def test_a_worker_in_the_middle_of_a_training_is_ended_by_sigterm(tmp_path, photos):
    """With the advice of Ctrl-C; the launcher ends the other."""
    command = [sys.executable, "-m", "tfcnn", "train", str(photos), "--weights", "none", "--image-size", "32", "--trainable", "1", "--epochs", "2000",
               "--export", "none", "--output", str(tmp_path / "run")]
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    environments = [{**os.environ, "TFCNN_CACHE": str(tmp_path / "cache"), "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {
        "type": "worker", "index": index}})} for index in range(2)]
    workers = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for environment in environments]
    try:
        assert any(" of 2000: loss" in line for line in workers[1].stderr)
        workers[1].send_signal(signal.SIGTERM)
        rest = workers[1].stderr.read()
        assert workers[1].wait(timeout=60) == 130 and "tfcnn: interrupted; go on with --resume" in rest
        assert "another one ended" in workers[0].stderr.read() and workers[0].wait(timeout=60) == 1
    finally:
        for worker in workers:
            worker.kill()
            worker.stderr.close()
            worker.wait()


def test_the_launcher_gives_each_worker_its_number_and_passes_on_a_failure(capfd):
    show = "import json, os, sys; task = json.loads(os.environ['TF_CONFIG']); print(task['task']['index'], len(task['cluster']['worker'])); sys.exit(0)"
    assert launch([sys.executable, "-c", show], workers=3) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == ["[0] 0 3", "[1] 1 3", "[2] 2 3"]
    fail = "import json, os, sys; sys.exit(7 * json.loads(os.environ['TF_CONFIG'])['task']['index'])"
    assert launch([sys.executable, "-c", fail], workers=2) == 7


def test_the_launcher_ends_workers_that_stay_when_one_fails(monkeypatch):
    monkeypatch.setattr("tfcnn.training.launch.GRACE", 0.5)
    stay = "import json, os, sys, time; time.sleep(60) if json.loads(os.environ['TF_CONFIG'])['task']['index'] else sys.exit(2)"
    began = time.monotonic()
    assert launch([sys.executable, "-c", stay], workers=2) == 2 and time.monotonic() - began < 30


@pytest.mark.parametrize(("failing", "code"), [(["worker1"], 0), (["worker0", "worker1"], 3), (["chief"], 3)])
def test_a_search_goes_on_without_a_worker_but_not_without_all_of_them_or_its_chief(monkeypatch, capfd, failing, code):
    monkeypatch.setattr("tfcnn.training.launch.GRACE", 0.5)
    play = ("import os, sys, time; name = os.environ['KERASTUNER_TUNER_ID']; print(name, os.environ['KERASTUNER_ORACLE_PORT'], flush=True); "
            f"time.sleep(0 if name in {failing} else 1.5 if name == 'worker0' else 3); sys.exit(3 if name in {failing} else 0)")
    assert launch_search([sys.executable, "-c", play], workers=2, port=4711) == code
    said = sorted(capfd.readouterr().out.splitlines())
    assert {"[0] worker0 4711", "[1] worker1 4711", "[chief] chief 4711"} <= set(said)
    assert {line for line in said if "ended" in line} == {f"[{name.removeprefix('worker')}] ended with exit code 3" for name in failing}


def test_ctrl_c_at_a_terminal_reaches_each_worker_once(tmp_path):
    stay = ("import signal, sys, time\nsignal.signal(signal.SIGINT, lambda *_: print('INT', flush=True))\nprint('READY', flush=True)\n"
            "until = time.monotonic() + 60\nwhile time.monotonic() < until: time.sleep(0.1)")
    # Where the tests run in the background of a shell, Ctrl-C is ignored by all that they start; at a terminal it is not.
    run = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    run += f"import sys; from tfcnn.training import launch; launch.INTERRUPT_GRACE = 2; sys.exit(launch.launch([sys.executable, '-c', {stay!r}], workers=2))"
    with subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.PIPE, text=True, start_new_session=True) as launcher:
        ready = [launcher.stdout.readline() for _ in range(2)]
        os.killpg(launcher.pid, signal.SIGINT)  # as a terminal does, to all that it started
        said = launcher.stdout.read().splitlines()
    assert sorted(ready) == ["[0] READY\n", "[1] READY\n"] and sorted(said) == ["[0] INT", "[1] INT"] and launcher.returncode == 130


@pytest.mark.parametrize(("visible", "workers", "expected"), [
    (None, 2, [None, None]), ("0,1,2,3", 2, ["0,2", "1,3"]), ("5", 2, ["-1", "-1"]), ("-1", 2, [None, None]), ("", 1, [None]),
    ("GPU-a, GPU-b", 2, ["GPU-a", "GPU-b"]),
])
def test_workers_share_the_gpus_and_none_works_for_two(monkeypatch, visible, workers, expected):
    monkeypatch.setattr("tfcnn.training.launch.glob.glob", lambda pattern: [])
    gpus = visible_gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert [environment.get("CUDA_VISIBLE_DEVICES") for environment in shared_out(gpus, workers)] == expected


@pytest.mark.parametrize(("arguments", "message"), [
    (["--workers", "0", "--", "train"], "expected at least one worker and a command, got --workers 0"),
    (["--workers", "2"], "expected at least one worker and a command"),
    (["--workers", "2", "--port", "65535", "--", "train"], "expected a port from 1 to 65534, got --port 65535"),
])
def test_the_launcher_refuses_what_it_cannot_start(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_free_ports_are_free():
    ports = free_ports(3)
    assert len(set(ports)) == 3
    with socket.create_server(("127.0.0.1", ports[0])):
        pass
