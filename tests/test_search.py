"""Searches: on made photos with a thin network, trials of the second level in this process; those with processes are slow."""

import importlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

import tfcnn
from tfcnn.cli import main
from tfcnn.data.scores import Scores, write_scores
from tfcnn.errors import WorkError
from tfcnn.record import load_run, write_record
from tfcnn.search import finish, heads, levels, limits, trial
from tfcnn.search.config import SearchConfig, seconds_of
from tfcnn.search.job import Job
from tfcnn.search.result import TrialRow, front_of

search_module = importlib.import_module("tfcnn.search.search")  # its name in the package is that of the function
FIFTY = {"a network": SimpleNamespace(validation_targets=np.zeros(50, int))}
QUICK = tfcnn.TrainingConfig(epochs=1, head_epochs=2, batch_size=16, augmentation="light", optimizer="adamw")


@pytest.fixture
def here(monkeypatch):
    """Trials of the second level in this process; gives the arguments of those that ran."""
    ran = []

    def run(folder, kind, told, gpu):
        ran.append({"kind": kind, "folder": folder.name, **told})
        {"train": trial._train, "measure": trial._measure}[kind](told)

    monkeypatch.setattr(trial, "_run", run)
    return ran


@pytest.fixture(scope="module")
def template(photos, tmp_path_factory):
    """A run folder as a trial leaves it, of the thin network."""
    from tfcnn.data.config import DataConfig
    from tfcnn.flow import train_source
    from tfcnn.models.backbones import BACKBONES
    from tfcnn.training.machine import MachineConfig

    BACKBONES["thin_mobilenet"] = BACKBONES["mobilenet"]._replace(image_size=32, options={"alpha": 0.25})
    folder = tmp_path_factory.mktemp("template") / "run"
    train_source(photos, output=folder, model=tfcnn.ModelConfig("thin_mobilenet", "none", image_size=32), training=tfcnn.TrainingConfig(epochs=0),
                 data=DataConfig(), machine=MachineConfig())
    del BACKBONES["thin_mobilenet"]
    return folder


@pytest.fixture
def pretended(monkeypatch, template):
    """As `here`, but nothing is trained: trials leave a run of another training with validation numbers that follow from their arguments."""
    ran = []

    def run(folder, kind, told, gpu):
        ran.append({"kind": kind, "folder": folder.name, **told})
        shutil.copytree(template, folder)
        drawn = np.random.default_rng(zlib.crc32(json.dumps([told["model"], told["training"]], default=str).encode())).random(2)
        validation = {"accuracy": round(6 * drawn[0]) / 6, "balanced_accuracy": drawn[0], "log_loss": drawn[1], "n": 6}
        write_record(folder, {**load_run(template).record, "validation": validation})

    monkeypatch.setattr(trial, "_run", run)
    return ran


@pytest.fixture
def asked(photos, tmp_path, thin_mobilenet):
    """The arguments of a search that takes seconds."""
    return {"source": photos, "output": tmp_path / "search", "backbone": thin_mobilenet, "weights": "none", "training": QUICK,
            "fixed": ["optimizer", "augmentation"], "config": SearchConfig(trials=4, fine_tune=2)}


@pytest.mark.slow
def test_a_search_gives_a_run_folder_with_a_test_and_a_record_of_all_trials(asked, here):
    found = tfcnn.search(**asked)
    assert [row.level for row in found.trials] == ["heads"] * 4 + ["defaults"] + ["fine-tunings"] * 2
    assert all(row.status == "COMPLETED" and 0 <= row.accuracy <= 1 and math.isfinite(row.log_loss) and row.score == row.accuracy for row in found.trials)
    assert [row.epochs for row in found.trials] == [None] * 4 + [1] * 3
    best = found.best
    assert best.record["status"] == "finished" and best.record["test"]["n"] == 12 and best.record["test"] == found.record["test"]
    row = next(row for row in found.trials if row.level == "defaults")
    assert max(row.score for row in found.trials if row.level == "fine-tunings") <= row.score  # so the defaults are kept
    assert (found.record["best"]["level"], found.record["best"]["id"]) == (row.level, row.id)
    assert best.record["validation"]["accuracy"] == row.accuracy
    for name, value in row.values.items():  # what is trained is what the trial says
        trained = {**best.record["model"], **best.record["training"]}[name]
        assert trained == (value if name != "hidden" else [] if value == "none" else [int(value)])
    assert (found.path / "search.png").stat().st_size > 20_000 and json.loads((found.path / "search.json").read_text())["status"] == "finished"
    assert {told["folder"] for told in here} == {"defaults-0", "fine-tunings-0000", "fine-tunings-0001"}
    assert not list(found.path.glob("trials/*/model.keras"))  # of those that are not the best, or copied
    text = str(found)
    assert "4 heads on cached features, 1 fine-tuning of the defaults, 2 other fine-tunings" in text and "test, measured once" in text and "* " in text


@pytest.mark.slow
def test_trials_that_go_on_from_a_head_have_what_it_was_found_with(asked, pretended):
    found = tfcnn.search(**asked)
    heads = [row.values for row in found.trials if row.level == "heads"]
    for row in found.trials:
        if row.level == "fine-tunings":
            assert any(head.items() <= row.values.items() for head in heads) and {"trainable", "learning_rate"} <= set(row.values)


@pytest.mark.slow
def test_the_head_that_a_fine_tuning_goes_on_from_is_that_of_its_trial(asked, here):
    found = tfcnn.search(**{**asked, "model": tfcnn.ModelConfig(hidden=(32,), dropout=0.5), "only": ["head_learning_rate"], "config": SearchConfig(2, 2)})
    heads = {row.values["head_learning_rate"]: row.log_loss for row in found.trials if row.level == "heads"}
    for row in found.trials:
        if row.level == "fine-tunings":
            assert load_run(found.path / row.run).record["validation_of_head"]["log_loss"] == pytest.approx(heads[row.values["head_learning_rate"]], rel=1e-4)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_trials(asked, pretended, tmp_path):
    first, second = (tfcnn.search(**{**asked, "output": tmp_path / name}) for name in ("a", "b"))
    seed_1 = tfcnn.TrainingConfig(**{**vars(QUICK), "seed": 1})
    other = tfcnn.search(**{**asked, "output": tmp_path / "c", "training": seed_1, "config": SearchConfig(4, 0)})
    plain = lambda search: [(row.level, row.id, row.values, row.accuracy, row.log_loss) for row in search.trials]
    assert plain(first) == plain(second)
    assert [row.values for row in first.trials[:4]] != [row.values for row in other.trials]


@pytest.mark.slow
def test_heads_alone_give_a_run_too(asked, here):
    found = tfcnn.search(**{**asked, "config": SearchConfig(trials=3, fine_tune=0)})
    assert [row.level for row in found.trials] == ["defaults"] + ["heads"] * 3
    assert "3 heads on cached features, 1 head of the defaults" in str(found)
    assert found.best.record["kept"] == "head" and found.best.record["test"]["n"] == 12
    assert found.best.record["validation"]["accuracy"] == pytest.approx(found.record["best"]["accuracy"])  # the run has the head of the trial
    assert found.best.record["validation"]["log_loss"] == pytest.approx(found.record["best"]["log_loss"], rel=1e-4)


@pytest.mark.slow
def test_a_finished_search_is_not_done_again_and_another_one_is_refused(asked, pretended, caplog):
    first = tfcnn.search(**asked)
    count = len(pretended)
    assert tfcnn.search(**asked).record == first.record and len(pretended) == count and "finished already" in caplog.text
    for changed, name in (({"config": SearchConfig(trials=5, fine_tune=2)}, "trials"), ({"fixed": ["optimizer"]}, "space"),
                          ({"weights": "imagenet"}, "weights")):
        with pytest.raises(tfcnn.InputError, match=rf"but it has other arguments \(.*{name}.*\); give those to go on with it, --overwrite"):
            tfcnn.search(**{**asked, **changed})
    again = tfcnn.search(**{**asked, "config": SearchConfig(trials=2, fine_tune=0)}, overwrite=True)
    assert len(again.trials) == 3 and not (again.path / "trials" / "defaults-0").exists()


@pytest.mark.slow
def test_a_refusal_says_what_is_there_and_what_was_given(asked, pretended):
    tfcnn.search(**{**asked, "config": SearchConfig(trials=1, fine_tune=0)})
    with pytest.raises(tfcnn.InputError, match=r"other arguments \(trials: 1 there, 2 here, space: dropout\)"):
        tfcnn.search(**{**asked, "fixed": [*asked["fixed"], "dropout"], "config": SearchConfig(trials=2, fine_tune=0)})


def test_a_worker_does_not_take_the_search_that_its_chief_replaces_for_its_own(asked, pretended, monkeypatch):
    tfcnn.search(**{**asked, "config": SearchConfig(trials=1, fine_tune=0)})
    for name, value in (("TUNER_ID", "worker0"), ("ORACLE_IP", "127.0.0.1"), ("ORACLE_PORT", "1")):
        monkeypatch.setenv(f"KERASTUNER_{name}", value)
    given = {**asked, "config": SearchConfig(trials=2, fine_tune=0)}
    with pytest.raises(tfcnn.InputError, match="trials: 1 there, 2 here"):
        tfcnn.search(**given)
    monkeypatch.setattr(search_module, "CHIEF_TIMEOUT", 0.1)
    with pytest.raises(WorkError, match="expected the chief to replace the search"):
        tfcnn.search(**given, overwrite=True)
    (asked["output"] / "search.json").write_text("{")  # the chief replaces that too
    with pytest.raises(WorkError, match="expected the chief to replace the search"):
        tfcnn.search(**given, overwrite=True)


@pytest.mark.slow
def test_a_worker_that_comes_when_all_is_done_ends_quietly(asked, pretended, monkeypatch):
    given = {**asked, "config": SearchConfig(trials=1, fine_tune=0)}
    done = tfcnn.search(**given)
    for name, value in (("TUNER_ID", "worker0"), ("ORACLE_IP", "127.0.0.1"), ("ORACLE_PORT", "1")):
        monkeypatch.setenv(f"KERASTUNER_{name}", value)
    monkeypatch.setattr(search_module, "REPLACED_IN", 0.1)
    assert tfcnn.search(**given, overwrite=True).record == done.record == tfcnn.search(**given).record


@pytest.mark.slow
def test_an_interrupted_search_goes_on_where_it_was(asked, pretended, monkeypatch):
    whole = tfcnn.search(**{**asked, "output": asked["output"].with_name("whole")})
    run = trial._run

    def interrupted(folder, *given):
        if folder.name == "fine-tunings-0001":
            raise KeyboardInterrupt
        run(folder, *given)

    monkeypatch.setattr(trial, "_run", interrupted)
    tried = []
    try_head = levels.try_head
    monkeypatch.setattr(levels, "try_head", lambda *given: tried.append(given) or try_head(*given))
    with pytest.raises(KeyboardInterrupt):
        tfcnn.search(**asked)
    monkeypatch.setattr(trial, "_run", run)
    pretended.clear()
    found = tfcnn.search(**asked)
    assert len(tried) == 4 and [told["folder"] for told in pretended] == ["fine-tunings-0001"]
    assert [row.values for row in found.trials] == [row.values for row in whole.trials]
    assert [row.accuracy for row in found.trials] == [row.accuracy for row in whole.trials]


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(asked, pretended, monkeypatch, caplog):
    run = trial._run

    def failing(folder, *given):
        if folder.name in ("defaults-0", "fine-tunings-0000"):
            raise WorkError("the disk is full")
        run(folder, *given)

    monkeypatch.setattr(trial, "_run", failing)
    found = tfcnn.search(**asked)
    failed = [(row.level, row.id, row.error) for row in found.trials if row.status == "FAILED"]
    assert failed == [("defaults", "0", "the disk is full"), ("fine-tunings", "0000", "the disk is full")]
    done = [row for row in found.trials if row.status == "COMPLETED"]
    assert found.record["best"]["score"] == max(row.score for row in done)
    assert "2 of them failed" in str(found) and "failed: defaults 0: the disk is full" in str(found)
    assert "fine-tunings 0000 failed: the disk is full" in caplog.text


def test_a_search_in_which_all_failed_is_an_error_with_the_first(asked, monkeypatch, capsys):
    def fail(*given):
        raise ValueError("no such kernel\nand more")

    monkeypatch.setattr(levels, "try_head", fail)
    monkeypatch.setattr(trial, "_run", fail)
    with pytest.raises(WorkError, match=r"expected one trial to be completed, but all 7 failed; the first: ValueError: no such kernel$"):
        tfcnn.search(**asked)


@pytest.mark.slow
def test_a_diverged_trial_is_a_failed_one(asked, pretended, monkeypatch):
    monkeypatch.setattr(levels, "try_head", lambda *given: {"accuracy": 0.3, "balanced_accuracy": 0.3, "log_loss": math.nan, "n": 6, "seconds": 1.0})
    found = tfcnn.search(**asked)
    assert all("the training diverged" in row.error for row in found.trials if row.level == "heads")
    assert found.record["best"]["level"] != "heads" and all("hidden" not in row.values for row in found.trials if row.level == "fine-tunings")


@pytest.mark.slow
def test_refitting_trains_on_the_validation_photos_too(asked, here):
    found = tfcnn.search(**{**asked, "config": SearchConfig(trials=2, fine_tune=0, refit=True)})
    record = found.best.record
    assert record["data"]["splits"] == {"train": 48, "validation": 0, "test": 12} and record["validation"] is None and record["temperature"] is None
    assert "validation" not in (found.best.path / "items.csv").read_text() and (found.best.path / "report.html").exists()
    assert found.record["test"]["n"] == 12


@pytest.mark.slow
def test_bounds_give_files_beyond_them_a_score_below_all_others_and_a_pareto_front(asked, here, monkeypatch):
    """The sizes are real; of two networks only the one of 32 pixels is to be fast enough."""
    measured = levels.measure_file
    slow = lambda job, values, labels: {**measured(job, values, labels), "milliseconds": 5.0 if values.get("image_size") == 64 else 1.0}
    monkeypatch.setattr(levels, "measure_file", slow)
    config = SearchConfig(trials=6, fine_tune=0, max_host_latency_ms=2.0, algorithm="grid")
    found = tfcnn.search(**{**asked, "image_size": (32, 64), "only": ["pooling"], "config": config})
    assert len(found.trials) == 5 and all(row.bytes > 500_000 for row in found.trials)
    assert all((row.score == row.accuracy) if row.values.get("image_size") != 64 else (row.score == pytest.approx(-1.5)) for row in found.trials)
    assert found.record["best"]["values"].get("image_size") != 64 and found.best.record["input_shape"][0] == 32
    sizes = {f"size-thin_mobilenet-{size}-{pooling}" for size in (32, 64) for pooling in ("avg", "max")}
    assert {told["folder"] for told in here if told["kind"] == "measure"} == sizes
    front = found.record["pareto"]
    assert front and all(row["bytes"] and row["milliseconds"] for row in front) and "not beaten in all three" in str(found)


def test_the_front_is_what_no_other_beats_in_all_three():
    row = lambda number, accuracy, size, time: TrialRow("heads", number, "COMPLETED", *[accuracy] * 3, 1.0, 1.0, None, size, time, {}, None, None)
    rows = [row("a", 0.9, 100, 5.0), row("b", 0.8, 50, 5.0), row("c", 0.8, 60, 6.0), row("d", 0.9, 100, 5.0), row("e", 0.7, 200, 1.0),
            row("f", 0.95, None, None)]
    assert [r.id for r in front_of(rows)] == ["a", "b", "e"]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["random", "bayesian", "grid"])
def test_other_algorithms_train_whole_fine_tunings(asked, pretended, algorithm):
    found = tfcnn.search(**{**asked, "only": ["pooling", "learning_rate"], "config": SearchConfig(trials=2, fine_tune=2, algorithm=algorithm)})
    assert [row.epochs for row in found.trials if row.level == "fine-tunings"] == [1, 1]


def test_a_time_limit_that_is_too_short_is_refused_before_anything_is_tried(asked, pretended):
    with pytest.raises(tfcnn.InputError, match=r"expected time for one trial, about \d\d s for these photos on this computer, got time_limit=9s"):
        tfcnn.search(**{**asked, "config": SearchConfig(trials=4, time_limit="9s")})
    assert not pretended and not (asked["output"] / "state" / "heads.json").exists()


def test_the_time_of_a_head_is_measured_before_the_first_one(asked, monkeypatch):
    """Of the largest that is searched, on this computer as busy as it is."""
    timed = []
    monkeypatch.setattr(heads, "try_head", lambda table, model, training: timed.append((table, model.hidden)) or {"seconds": 100.0})
    monkeypatch.setattr(levels, "try_head", lambda *given: pytest.fail("a trial began"))
    with pytest.raises(tfcnn.InputError, match=r"expected time for one trial, about 1\d\d s .*, got time_limit=90s; give more time, or fewer photos$"):
        tfcnn.search(**{**asked, "config": SearchConfig(trials=4, fine_tune=0, time_limit="90s")})
    (table, hidden), = timed
    assert hidden == (1024,) and table.features.shape == (len(table.targets), 256) and not asked["output"].exists()


def test_bounds_that_no_network_meets_are_refused_before_the_first_trial(asked, here, monkeypatch):
    monkeypatch.setattr(search_module, "with_features", lambda *given: pytest.fail("features were computed"))
    with pytest.raises(tfcnn.InputError, match=r"got max_bytes=1000, but the nearest one, thin_mobilenet at 32 pixels, has \d{6} bytes; give more"):
        tfcnn.search(**{**asked, "config": SearchConfig(trials=4, fine_tune=0, max_bytes=1000)})
    assert not asked["output"].exists()


@pytest.mark.parametrize("name", ["trials", "sizes", "state/heads.json"])
def test_what_no_record_tells_of_is_left_alone(asked, pretended, name):
    (asked["output"] / name).mkdir(parents=True)
    with pytest.raises(tfcnn.InputError, match="holds other files"):
        tfcnn.search(**{**asked, "config": SearchConfig(trials=1, fine_tune=0, max_bytes=1000)})
    assert (asked["output"] / name).exists()


@pytest.mark.slow
def test_no_trial_begins_when_the_time_is_over(asked, pretended, monkeypatch):
    monkeypatch.setattr(limits, "START", 0.0)
    monkeypatch.setattr(levels, "HEADS_TIME", 0.0)
    spent = iter(np.arange(0, 1000, 2.0))
    monkeypatch.setattr(levels.Clock, "spent", property(lambda clock: next(spent)))
    found = tfcnn.search(**{**asked, "config": SearchConfig(trials=50, time_limit="60s")})
    assert sum(row.level == "heads" for row in found.trials) <= 1 and sum(row.level == "fine-tunings" for row in found.trials) < 40


@pytest.mark.parametrize(("changed", "message"), [
    ({"source": np.zeros((9, 8, 8, 3), np.uint8)}, "expected the path of the photos"),
    ({"backbone": ()}, "expected a backbone or several"),
    ({"backbone": "resnet5"}, "did you mean 'resnet50'"),
    ({"weights": {"vgg16": "none"}}, "expected weights for each of thin_mobilenet"),
    ({"image_size": (32, 3)}, "expected an image size"),
    ({"devices": (3,)}, "expected numbers of the 0 GPUs"),
    ({"data": tfcnn.DataConfig(folds=3)}, "expected one split for a search"),
    ({"formats": ["tflite"]}, "expected an export format"),
    ({"config": SearchConfig(trials=0)}, "expected a whole number from 1 up, got trials=0"),
    ({"config": SearchConfig(fine_tune=-1)}, "from 0 up, got fine_tune=-1"),
    ({"config": SearchConfig(algorithm="bayes")}, "did you mean 'bayesian'"),
    ({"config": SearchConfig(objective="auc")}, "expected the objective of a search"),
    ({"config": SearchConfig(time_limit="soon")}, "expected a time such as 90s, 30m or 2h, got time_limit=soon"),
    ({"config": SearchConfig(time_limit="0m")}, "expected a time above 0"),
    ({"config": SearchConfig(max_host_latency_ms=0)}, "expected milliseconds above 0"),
    ({"only": []}, "expected something to search"),
    ({"only": ["learning_rate"], "fixed": [], "config": SearchConfig(fine_tune=0)}, "fields that heads can be searched by, .* got learning_rate; give"),
    ({"fixed": ["dropuot"]}, "did you mean 'dropout'"),
    ({"training": tfcnn.TrainingConfig(gradual=2)}, "expected all stages to open at once"),
    ({"space": lambda hp: hp.Int("trainable", 1, 50)}, "expected from 0 to 5 stages"),
    ({"space": lambda hp: hp.Fixed("optimizer", "sgd") and hp.Float("learning_rate", 0.01, 0.1), "fixed": []}, "a learning rate between 0 and 1"),
])
def test_what_cannot_work_is_one_line_before_anything_is_read(asked, changed, message):
    with pytest.raises(tfcnn.InputError, match=message) as refused:
        tfcnn.search(**{**asked, **changed})
    assert "\n" not in str(refused.value) and not asked["output"].exists()


def test_a_search_that_was_refused_leaves_its_folder_to_the_next(asked, pretended):
    with pytest.raises(tfcnn.InputError, match="nowhere"):
        tfcnn.search(**{**asked, "source": asked["source"] / "nowhere"})
    with pytest.raises(tfcnn.InputError, match="expected time for one trial"):
        tfcnn.search(**{**asked, "config": SearchConfig(trials=4, time_limit="9s")})
    assert len(tfcnn.search(**{**asked, "config": SearchConfig(trials=1, fine_tune=0)}).trials) == 2


def test_a_part_of_the_variables_of_a_cluster_is_refused(asked, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(tfcnn.InputError, match="got no KERASTUNER_TUNER_ID"):
        tfcnn.search(**asked)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "many")
    with pytest.raises(tfcnn.InputError, match="KERASTUNER_ORACLE_PORT=many"):
        tfcnn.search(**asked)


@pytest.mark.slow
def test_each_gpu_has_a_trial_at_a_time_and_an_interruption_spoils_none(asked, pretended, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    run, used = trial._run, []

    def on_a_gpu(folder, kind, told, gpu):
        used.append(gpu)
        if folder.name == "fine-tunings-2":
            raise KeyboardInterrupt
        time.sleep(0.3)
        run(folder, kind, told, gpu)

    monkeypatch.setattr(trial, "_run", on_a_gpu)
    given = {**asked, "config": SearchConfig(trials=1, fine_tune=4, algorithm="random")}
    with pytest.raises(KeyboardInterrupt):
        tfcnn.search(**given)
    monkeypatch.setattr(trial, "_run", run)
    found = tfcnn.search(**given)
    assert set(used) == {"0", "1"} and len(found.trials) == 6 and all(row.status == "COMPLETED" for row in found.trials)


def test_the_defaults_are_kept_unless_another_is_better_by_more_than_one_standard_error(monkeypatch):
    row = lambda level, number, accuracy, score, log_loss=1.0, epochs=3: TrialRow(level, number, "COMPLETED", score, accuracy, accuracy, log_loss, 1.0, epochs,
                                                                                  None, None, {}, None, None)
    job = SimpleNamespace(config=SearchConfig(), path=None)
    monkeypatch.setattr(finish, "_answers", lambda *given: None)  # as where trials of an earlier version kept none
    equal = [row("defaults", "0", 1.0, 1.0), row("fine-tunings", "0", 1.0, 1.0, 0.5)]
    assert finish.best_of(equal) is equal[1] and finish.choose(job, equal, FIFTY)[0] is equal[0]
    bounded = [row("defaults", "0", 0.9, -0.5), row("fine-tunings", "0", 0.7, 0.7)]
    best, why = finish.choose(job, bounded, FIFTY)
    assert best is bounded[1] and "the defaults, 0.900, are not within the bounds" in why
    alone = [row("defaults", "0", 0.9, 0.9), row("fine-tunings", "0", 0.95, 0.95, epochs=1)]
    best, why = finish.choose(job, alone, FIFTY)
    assert best is alone[0] and "nothing else was tried" in why
    head = [row("heads", "0", 0.8, 0.8, epochs=None), row("defaults", "0", 0.6, 0.6), row("fine-tunings", "0", 0.7, 0.7)]
    best, why = finish.choose(job, head, FIFTY)  # a head may be what is best, on a frozen backbone
    assert best is head[0] and "the defaults 0.600: +20.0 points" in why
    lucky = [row("defaults", "0", 0.5, 0.5), row("fine-tunings", "0", 0.58, 0.58)]
    best, why = finish.choose(job, lucky, FIFTY)
    assert best is lucky[0] and "+8.0 points with a standard error of 9.9, which is what chance makes of the best of many" in why
    better = [row("defaults", "0", 0.5, 0.5), row("fine-tunings", "0", 0.6, 0.6)]
    best, why = finish.choose(job, better, FIFTY)
    assert best is better[1] and why.endswith("the defaults 0.500: +10.0 points with a standard error of 9.9")


def test_trials_that_keep_their_scores_are_compared_photo_by_photo(tmp_path):
    """49 photos that both answer alike say nothing of the difference, so one more right answer is one standard error, not less."""
    targets, digests = np.zeros(50, int), np.array([f"{number}" for number in range(50)])
    rows = []
    for number, right in enumerate((25, 28)):
        folder = tmp_path / f"trial-{number}"
        folder.mkdir()
        write_record(folder, {"labels": ["a", "b"], "status": "trained", "geometry": "stretch", "input_shape": [8, 8, 3]})
        scores = np.where(np.arange(50)[:, None] < right, [0.9, 0.1], [0.1, 0.9])
        write_scores(folder, "validation", Scores(scores.astype(np.float32), targets, digests, digests))
        rows.append(TrialRow(("defaults", "fine-tunings")[number], "0", "COMPLETED", right / 50, right / 50, right / 50, 1.0, 1.0, 3, None, None, {}, None,
                             folder.name))
    best, why = finish.choose(SimpleNamespace(config=SearchConfig(), path=tmp_path), rows, FIFTY)
    assert best is rows[1] and "+6.0 points with a standard error of 3.5" in why


def test_heads_alone_are_compared_with_the_head_of_the_defaults_photo_by_photo(tmp_path, monkeypatch):
    targets = np.zeros(50, int)
    right = {"heads": 28, "defaults": 25}
    rows = [TrialRow(level, "0", "COMPLETED", count / 50, count / 50, count / 50, 1.0, 1.0, None, None, None, {"of": level}, None, None)
            for level, count in right.items()]
    scores = lambda table, level: np.where(np.arange(50)[:, None] < right[level], [0.9, 0.1], [0.1, 0.9])
    monkeypatch.setattr(finish, "scores_of_head", scores)
    monkeypatch.setattr(finish, "network_of", lambda values, job: "a network")
    job = SimpleNamespace(config=SearchConfig(fine_tune=0), path=tmp_path, configs=lambda values: (values["of"],))
    tables = {"a network": SimpleNamespace(validation_targets=targets)}
    best, why = finish.choose(job, rows, tables)
    assert best is rows[0] and "the defaults 0.500: +6.0 points with a standard error of 3.5" in why
    right["heads"] = 26
    rows[0] = rows[0]._replace(score=0.52, accuracy=0.52)
    assert finish.choose(job, rows, tables)[0] is rows[1]


def test_folders_of_other_things_and_damaged_records_are_refused(asked, pretended):
    asked["output"].mkdir()
    (asked["output"] / "notes.txt").write_text("mine")
    with pytest.raises(tfcnn.InputError, match="holds other files"):
        tfcnn.search(**asked)
    (asked["output"] / "search.json").write_text('{"arguments": {}')
    with pytest.raises(tfcnn.InputError, match=r"record of a search in '.*search\.json', but it is damaged"):
        tfcnn.search(**asked)


def test_times_are_read():
    assert [seconds_of(text) for text in ("90", "90s", "30m", "1.5h", "2min")] == [90, 90, 1800, 5400, 120]


@pytest.mark.slow
def test_a_flag_that_is_given_is_not_searched(photos, tmp_path, here, capsys):
    code = main(["search", str(photos), "--backbone", "mobilenet", "--weights", "none", "--image-size", "32", "--trials", "3", "--fine-tune", "0",
                 "--head-epochs", "2", "--hidden", "16", "--dropout", "0.1", "--fields", "activation", "label_smoothing", "--output", str(tmp_path / "s"),
                 "--json"])
    said = capsys.readouterr().out.strip().splitlines()
    record = json.loads(said[-1])
    assert code == 0 and [set(row["values"]) for row in record["trials"]] == [set()] + [{"activation", "label_smoothing"}] * 3
    run = load_run(tmp_path / "s" / "best").record
    assert run["model"]["hidden"] == [16] and run["model"]["dropout"] == 0.1 and record["best"]["accuracy"] == run["validation"]["accuracy"]
    assert main(["search", str(photos), "--backbone", "mobilenet,vgg16", "--weights", "a,b,c"]) == 2
    assert "expected weights for all backbones or one for each of the 2" in capsys.readouterr().err


def command(photos, output, *more) -> list[str]:
    return ["search", str(photos), "--backbone", "mobilenet", "--weights", "none", "--image-size", "32", "--epochs", "2", "--head-epochs", "5",
            "--batch-size", "16", "--trials", "6", "--fine-tune", "3", "--output", str(output), *more]


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_and_runs_no_finished_trial_again(photos, tmp_path):
    output = tmp_path / "search"
    arguments = [sys.executable, "-m", "tfcnn", *command(photos, output)]
    finished = {}
    for wanted in ("heads.json", "defaults.json", "fine-tunings.json"):  # killed in each level
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while not (output / "state" / wanted).exists() and process.poll() is None:
                time.sleep(0.1)
            time.sleep(1.5)
            process.send_signal(signal.SIGKILL)
        for file in (output / "state").glob("*.json"):
            for told in json.loads(file.read_text())["trials"]:
                if told["status"] == "COMPLETED":
                    finished.setdefault((file.stem, told["trial_id"]), told)
    assert main(command(photos, output)) == 0
    after = {(file.stem, told["trial_id"]): told for file in (output / "state").glob("*.json") for told in json.loads(file.read_text())["trials"]}
    assert finished and all(after[key] == told for key, told in finished.items())  # its numbers and its seconds too
    record = json.loads((output / "search.json").read_text())
    assert record["best"]["score"] >= max((told["score"] for (level, _), told in finished.items() if level != "heads"), default=0)


@pytest.mark.slow
def test_a_chief_and_two_workers_run_no_trial_twice_and_take_up_that_of_a_killed_one(photos, tmp_path, monkeypatch):
    output = tmp_path / "search"
    launcher = [sys.executable, "-m", "tfcnn.training.launch", "--workers", "2", "--", *command(photos, output, "--algorithm", "random")]
    with subprocess.Popen(launcher, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while not list((output / "trials").glob("fine-tunings-*.log") if (output / "trials").exists() else ()) and process.poll() is None:
            time.sleep(0.2)
        parent = json.loads(next((output / "trials").glob("fine-tunings-*.arguments.json")).read_text())["parent"]
        os.kill(parent, signal.SIGKILL)  # a worker in the middle of a fine-tuning
        said = process.stdout.read()
    assert process.returncode == 0, said
    assert "ended with exit code 137" in said and "was not heard of for 30 s: its trial" in said
    record = json.loads((output / "search.json").read_text())
    rows = [TrialRow(**row) for row in record["trials"]]
    assert [row.level for row in rows] == ["heads"] * 6 + ["defaults"] + ["fine-tunings"] * 3 and all(row.status == "COMPLETED" for row in rows)
    assert len({json.dumps(row.values, sort_keys=True) for row in rows}) == len(rows)
    for level in ("heads", "defaults", "fine-tunings"):
        state = json.loads((output / "state" / f"{level}.json").read_text())
        assert sorted(state["end_order"]) == sorted(told["trial_id"] for told in state["trials"]) and all(runs == 1 for runs in state["run_times"].values())
    assert load_run(output / "best").record["status"] == "finished"


@pytest.mark.slow
def test_a_port_in_use_is_said_by_the_chief(photos, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {**os.environ, "KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(taken.getsockname()[1]), "KERASTUNER_TUNER_ID": "chief"}
        done = subprocess.run([sys.executable, "-m", "tfcnn", *command(photos, tmp_path / "s")], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "cannot be used; give another KERASTUNER_ORACLE_PORT" in done.stderr


def test_the_error_of_a_trials_process_is_what_it_said_last(photos, tmp_path):
    job = Job(tmp_path, str(photos), {"mobilenet": "none"}, (32,), tfcnn.ModelConfig(), tfcnn.TrainingConfig(), tfcnn.DataConfig(), SearchConfig(), {})
    with pytest.raises(WorkError, match=r"expected photos .*there is no|expected.*nowhere"):
        trial.fine_tune(Job(**{**vars(job), "source": str(tmp_path / "nowhere")}), {}, tmp_path / "trials" / "a", epochs=1)
    assert "nowhere" in (tmp_path / "trials" / "a.log").read_text()
    assert finish.best_of([]) is None
