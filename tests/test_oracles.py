"""Oracles: what they ask for, that a killed process loses nothing of it, and that the same seed asks for the same."""

import json
import math

import keras_tuner
import pytest

import tfcnn
from tfcnn.search.oracles import Bayesian, Grid, Halving, Random, completed, make_oracle, rungs_of
from tfcnn.search.space import EPOCHS, FROM


def space():
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["b"]):
        hp.Int("units", 1, 4)
    return hp


def small_space():
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b", "c"])
    hp.Boolean("flag")
    return hp


def end(oracle, trial, score, log_loss=1.0):
    oracle.update_trial(trial.trial_id, {"score": score, "log_loss": log_loss})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


def run(oracle, count=math.inf) -> list[dict]:
    """The values of the next trials; the score is x, or the length of the kind."""
    seen = []
    while len(seen) < count:
        trial = oracle.create_trial("w")
        if trial.status == "STOPPED":
            break
        seen.append(dict(trial.hyperparameters.values))
        end(oracle, trial, seen[-1].get("x", 0.5))
    return seen


@pytest.mark.parametrize("kind", [Random, Bayesian])
def test_the_same_seed_asks_for_the_same_and_seed_0_is_one(kind, tmp_path):
    first, second, other = (run(make_oracle(kind, tmp_path / f"{n}.json", space(), seed=seed, max_trials=6)) for n, seed in enumerate((0, 0, 1)))
    assert first == second != other and len(first) == 6
    assert all(("units" in values) == (values["kind"] == "b") for values in first)


@pytest.mark.parametrize(("kind", "hp"), [(Random, space), (Grid, small_space), (Bayesian, space)])
def test_a_search_that_was_killed_goes_on_with_the_trial_it_had(kind, hp, tmp_path):
    whole = run(make_oracle(kind, tmp_path / "whole.json", hp(), seed=3, max_trials=6))
    oracle = make_oracle(kind, tmp_path / "state.json", hp(), seed=3, max_trials=6)
    before = run(oracle, 2)
    cut_off = oracle.create_trial("w")  # and the process is gone
    again = make_oracle(kind, tmp_path / "state.json", hp(), seed=3, max_trials=6)
    taken_up = again.create_trial("other")
    assert taken_up.trial_id == cut_off.trial_id and taken_up.hyperparameters.values == cut_off.hyperparameters.values
    end(again, taken_up, taken_up.hyperparameters.values.get("x", 0.5))
    after = run(again)
    assert len(before) + 1 + len(after) == len(whole) == 6
    if kind is not Bayesian:  # whose random state keras-tuner does not keep
        assert [*before, cut_off.hyperparameters.values, *after] == whole


def test_a_trial_that_ended_is_not_run_again_after_a_kill(tmp_path):
    """keras-tuner's own state names it among those that run."""
    oracle = make_oracle(Random, tmp_path / "state.json", space(), seed=0, max_trials=2)
    run(oracle, 1)
    assert len(json.loads((tmp_path / "state.json").read_text())["ongoing_trials"]) == 1
    assert len(run(make_oracle(Random, tmp_path / "state.json", space(), seed=0, max_trials=2))) == 1


def test_the_trial_of_a_worker_stays_with_it_where_only_the_chief_was_killed(tmp_path):
    """It is at work on it: another one that took it up would find its run folder locked."""
    oracle = make_oracle(Random, tmp_path / "state.json", space(), seed=0, max_trials=3, keeps_workers=True)
    cut_off = oracle.create_trial("worker0")
    again = make_oracle(Random, tmp_path / "state.json", space(), seed=0, max_trials=3, keeps_workers=True)
    assert again.create_trial("worker1").trial_id != cut_off.trial_id and again.create_trial("worker0").trial_id == cut_off.trial_id
    end(again, again.get_trial(cut_off.trial_id), 0.5)
    assert again.get_trial(cut_off.trial_id).status == "COMPLETED" and "worker0" not in again.ongoing_trials


def test_a_grid_holds_each_combination_once(tmp_path):
    seen = run(make_oracle(Grid, tmp_path / "state.json", small_space(), seed=0))
    assert sorted((values["kind"], values["flag"]) for values in seen) == [(kind, flag) for kind in "abc" for flag in (False, True)]


def test_damaged_state_is_one_line(tmp_path):
    for content in ("", "{}", "[]", '{"trials": 3}'):
        (tmp_path / "state.json").write_text(content)
        with pytest.raises(tfcnn.InputError, match=r"state of a search in '.*state\.json', but it is damaged"):
            make_oracle(Random, tmp_path / "state.json", space(), seed=0)


def test_failed_trials_end_no_search(tmp_path):
    oracle = make_oracle(Random, tmp_path / "state.json", space(), seed=0, max_trials=8)
    for _ in range(5):
        trial = oracle.create_trial("w")
        trial.status, trial.message = "FAILED", "no memory"
        oracle.end_trial(trial)
    assert len(run(oracle)) == 3 and len(completed(oracle)) == 3
    assert [told["message"] for told in json.loads((tmp_path / "state.json").read_text())["trials"]][:5] == ["no memory"] * 5


def test_halving_trains_the_best_third_for_longer(tmp_path):
    oracle = make_oracle(Halving, tmp_path / "state.json", space(), seed=0, count=9, epochs=(2, 5, 15))
    seen = run(oracle)
    assert [values[EPOCHS] for values in seen] == [2] * 9 + [5] * 3 + [15]
    first = sorted((values["x"] for values in seen[:9]), reverse=True)
    assert sorted((values["x"] for values in seen[9:12]), reverse=True) == first[:3] and seen[12]["x"] == first[0]
    assert len({values[FROM] for values in seen[9:12]}) == 3


def test_halving_ranks_equal_scores_by_log_loss(tmp_path):
    oracle = make_oracle(Halving, tmp_path / "state.json", space(), seed=0, count=3, epochs=(1, 3))
    for log_loss in (0.9, 0.4, 0.7):
        end(oracle, oracle.create_trial("w"), 0.5, log_loss)
    assert oracle.create_trial("w").hyperparameters.values[FROM] == "0001"


def test_halving_tries_no_configuration_twice_in_its_first_rung(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    seen = run(make_oracle(Halving, tmp_path / "state.json", hp, seed=0, count=9, epochs=(1, 3)))
    assert [values[EPOCHS] for values in seen] == [1, 1, 3] and {values["kind"] for values in seen[:2]} == {"a", "b"}


def test_a_trial_that_was_killed_before_it_had_its_score_is_run_again(tmp_path):
    oracle = make_oracle(Random, tmp_path / "state.json", space(), seed=0, max_trials=2)
    run(oracle, 1)
    state = json.loads((tmp_path / "state.json").read_text())
    state["trials"][0]["score"] = None
    (tmp_path / "state.json").write_text(json.dumps(state))
    again = make_oracle(Random, tmp_path / "state.json", space(), seed=0, max_trials=2)
    assert completed(again) == [] and again.create_trial("w").trial_id == "0"


def test_halving_waits_for_what_runs_and_passes_over_what_failed(tmp_path):
    oracle = make_oracle(Halving, tmp_path / "state.json", space(), seed=0, count=3, epochs=(1, 3))
    one, two, three = (oracle.create_trial(worker) for worker in "abc")
    end(oracle, one, 0.3)
    two.status = "FAILED"
    oracle.end_trial(two)
    assert oracle.create_trial("a").status == "IDLE"
    end(oracle, three, 0.2)
    last = oracle.create_trial("a")
    assert last.hyperparameters.values[FROM] == one.trial_id and oracle.create_trial("b").status == "IDLE"
    end(oracle, last, 0.4)
    assert oracle.create_trial("b").status == "STOPPED"


def test_halving_begins_as_many_as_the_time_lasts_for(tmp_path):
    left = [100.0]

    def one_less(trial_epochs):
        return float(trial_epochs)

    oracle = make_oracle(Halving, tmp_path / "state.json", space(), seed=0, count=81, epochs=(5, 15), seconds_of=one_less, time_left=lambda: left[0])
    epochs = []
    while (trial := oracle.create_trial("w")).status != "STOPPED":
        epochs.append(trial.hyperparameters.values[EPOCHS])
        left[0] -= epochs[-1]
        end(oracle, trial, trial.hyperparameters.values["x"])
    assert left[0] >= 0 and epochs.count(15) >= 3 and epochs.count(5) >= 7  # 100 seconds are 10 of the first and 3 of the last rung
    assert epochs == sorted(epochs)


def test_halving_goes_on_after_a_kill_between_its_rungs(tmp_path):
    whole = run(make_oracle(Halving, tmp_path / "whole.json", space(), seed=5, count=6, epochs=(1, 3)))
    run(make_oracle(Halving, tmp_path / "state.json", space(), seed=5, count=6, epochs=(1, 3)), 7)
    rest = run(make_oracle(Halving, tmp_path / "state.json", space(), seed=5, count=6, epochs=(1, 3)))
    assert rest == whole[7:] and len(whole) == 8


@pytest.mark.parametrize(("epochs", "rungs"), [(1, (1,)), (8, (8,)), (15, (5, 15)), (30, (4, 10, 30))])
def test_rungs_have_a_third_of_the_epochs_but_not_too_few(epochs, rungs):
    assert rungs_of(epochs) == rungs
