"""The check that a training changes what was planned, and nothing else."""

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.errors import InputError, WorkError
from tfcnn.models.freeze import freeze_plan
from tfcnn.training.checks import check_freeze

LABELS = ["a", "b", "c"]
PIXELS = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)).astype(np.float32)
TARGETS = np.array([0, 1, 2, 0, 1, 2, 0, 1])


def with_norms():
    """A classifier on two blocks of convolution and BatchNorm."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((16, 16, 3))
    for name in ("a", "b"):
        x = keras.layers.Conv2D(4, 3, strides=2, name=f"conv_{name}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{name}")(x)
    return tfcnn.build_classifier(keras.Model(image, x), labels=LABELS)


def fit(model, *callbacks, rate=1e-3, epochs=1):
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(PIXELS, TARGETS, batch_size=4, epochs=epochs, callbacks=list(callbacks), verbose=0)


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
@pytest.mark.parametrize("trainable", [False, 1, True])
def test_a_training_that_does_as_planned_goes_on(trainable, batch_norm):
    model = with_norms()
    plan = tfcnn.set_trainable(model, trainable, batch_norm=batch_norm)
    fit(model, check_freeze(model, plan), epochs=2)
    assert int(model.optimizer.iterations) == 4


def test_a_frozen_variable_that_moves_stops_the_training_by_its_name():
    model = with_norms()
    plan = tfcnn.set_trainable(model, 1)
    moves = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda step, logs: model.get_layer("backbone").get_layer("conv_a").bias.assign_add(np.ones(4)))
    with pytest.raises(WorkError, match=r"the first step moved conv_a/bias; compile after set_trainable"):
        fit(model, moves, check_freeze(model, plan))
    assert int(model.optimizer.iterations) == 1


def test_statistics_of_batch_norm_that_move_are_named():
    """`training=False` in the call is what the guides rely on, and it does not hold them in Keras 3 (keras issue 20285)."""
    model = with_norms()
    plan = tfcnn.set_trainable(model, 1)
    backbone = model.get_layer("backbone")
    backbone.get_layer("norm_a").trainable = True
    backbone.get_layer("norm_a").gamma.trainable = backbone.get_layer("norm_a").beta.trainable = False
    check = check_freeze(model, plan)
    check.on_epoch_begin = lambda epoch, logs=None: None  # the flags would tell before the first step
    with pytest.raises(WorkError, match=r"moved norm_a/moving_mean, norm_a/moving_variance"):
        fit(model, check)


def test_flags_that_change_after_the_plan_are_caught_before_the_first_step():
    model = with_norms()
    plan = tfcnn.set_trainable(model, 1)
    model.get_layer("backbone").get_layer("conv_a").trainable = True
    with pytest.raises(WorkError, match=r"but it changed for conv_a/kernel, conv_a/bias; set_trainable compiles again"):
        fit(model, check_freeze(model, plan))


def test_flags_that_change_between_epochs_are_caught():
    model = with_norms()
    plan = tfcnn.set_trainable(model, True)
    changes = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model.get_layer("backbone").get_layer("conv_b"), "trainable", False))
    with pytest.raises(WorkError, match=r"changed for conv_b/kernel, conv_b/bias"):
        fit(model, changes, check_freeze(model, plan), epochs=2)
    assert int(model.optimizer.iterations) == 2


def test_a_stage_that_was_opened_after_compile_is_caught():
    """Keras says nothing: the step that was traced leaves the stage as it is."""
    model = with_norms()
    tfcnn.set_trainable(model, False)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    model.fit(PIXELS, TARGETS, batch_size=4, verbose=0)
    for name in ("conv_a", "conv_b"):
        model.get_layer("backbone").get_layer(name).trainable = True
    with pytest.raises(WorkError, match="it left conv_a/kernel, conv_a/bias, conv_b/kernel, conv_b/bias; compile after set_trainable"):
        model.fit(PIXELS, TARGETS, batch_size=4, callbacks=[check_freeze(model, freeze_plan(model))], verbose=0)


def test_a_stage_whose_name_ends_another_one_is_caught():
    """The slots of ab stand for `ab` alone."""
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(2, 3, name="b")(image)
    model = tfcnn.build_classifier(keras.Model(image, keras.layers.Conv2D(2, 3, name="ab")(x)), labels=LABELS)
    tfcnn.set_trainable(model, 1)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    model.fit(PIXELS, TARGETS, batch_size=4, verbose=0)
    model.get_layer("backbone").get_layer("b").trainable = True
    with pytest.raises(WorkError, match="it left b/kernel, b/bias; compile after set_trainable"):
        model.fit(PIXELS, TARGETS, batch_size=4, callbacks=[check_freeze(model, freeze_plan(model))], verbose=0)


def test_an_optimizer_without_slots_is_no_mismatch():
    model = with_norms()
    plan = tfcnn.set_trainable(model, True)
    model.compile(keras.optimizers.SGD(1e-30), "sparse_categorical_crossentropy")
    model.fit(PIXELS, TARGETS, batch_size=4, callbacks=[check_freeze(model, plan)], verbose=0)
    assert int(model.optimizer.iterations) == 2


def test_a_step_too_small_for_float32_is_no_mismatch():
    model = with_norms()
    plan = tfcnn.set_trainable(model, True)
    fit(model, check_freeze(model, plan), rate=1e-30)


def test_what_is_no_plan_is_refused():
    with pytest.raises(InputError, match="expected the plan that set_trainable returned, got plan=None"):
        check_freeze(with_norms(), None)


def test_many_names_are_counted():
    model = with_norms()
    plan = tfcnn.set_trainable(model, False)
    for layer in model.get_layer("backbone").layers:
        layer.trainable = True
    with pytest.raises(WorkError, match=r"changed for conv_a/kernel, conv_a/bias, norm_a/gamma, norm_a/beta, norm_a/moving_mean and 7 more;"):
        fit(model, check_freeze(model, plan))
