"""What processes that train together tell each other; here the others are made up, real ones are in test_launch.py."""

import pytest
import tensorflow as tf

from tfcnn import workers
from tfcnn.errors import InputError, WorkError


def three(monkeypatch, said):
    """From now on there are three workers, which said this."""
    monkeypatch.setattr(workers, "count_of", lambda strategy: 3)
    monkeypatch.setattr(workers, "index_of", lambda strategy: 0)
    monkeypatch.setattr(workers, "from_all", lambda strategy, value: said)


def test_values_that_differ_are_named(monkeypatch):
    three(monkeypatch, [{"epochs": 3, "seed": 0}, {"epochs": 3, "seed": 0}, {"epochs": 4, "seed": 0, "xla": True}])
    with pytest.raises(InputError) as refused:
        workers.check_same(None, "the same arguments", {}, "start all alike")
    assert str(refused.value) == ("expected the same arguments on all 3 workers, but worker 2 has others than worker 0 "
                                  "(epochs: 4 in place of 3, xla: True in place of None); start all alike")


def test_digests_that_differ_are_not_shown(monkeypatch):
    three(monkeypatch, ["ab", "cd", "ef"])
    with pytest.raises(InputError, match=r"^expected the same photos on all 3 workers, but worker 1, 2 has others than worker 0; give the same$"):
        workers.check_same(None, "the same photos", "ab", "give the same")


@pytest.mark.parametrize(("error", "said"), [
    (tf.errors.UnavailableError(None, None, "connection lost"), "another one ended or cannot be reached any more"),
    (tf.errors.InternalError(None, None, "Collective ops is aborted by: ..."), "another one ended or cannot be reached any more"),
    (tf.errors.InternalError(None, None, "cuDNN launch failure"), "another one ended, or this one failed"),
])
def test_another_worker_is_blamed_only_where_that_is_known(monkeypatch, error, said):
    three(monkeypatch, [])
    with pytest.raises(WorkError, match=rf"expected all 3 workers to go on, but {said} \(this is worker 0\).*--resume \("), workers.together(None):
        raise error


def test_a_process_that_is_alone_has_its_errors_as_they_are():
    with pytest.raises(tf.errors.InternalError), workers.together(None):
        raise tf.errors.InternalError(None, None, "cuDNN launch failure")
