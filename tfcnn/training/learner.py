"""`Learner`: a classifier as `fit` trains it, with the same result on any number of replicas."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf

from tfcnn.training.strategy import check_no_scope
from tfcnn.training.twin import make_twin, with_scaled_loss

WAIT_EVERY = 8  # steps; the time that one of them waited for its photos is measured, for which the device has to come to rest

_place = threading.local()  # replicas are traced in threads of their own


def make_learner(model, *, mixed: bool = False) -> "Learner":
    """A classifier to be trained in the scope of its strategy.

    Args:
        model: from `build_classifier`, in float32.
        mixed: it computes in 16 bits.

    Returns:
        A model on the layers of the other one; on a twin of it, with weights of its own, where it computes in 16 bits or drops
        for several replicas.

    Raises:
        InputError: called within the scope of a strategy.
    """
    check_no_scope()
    shares = model.distribute_strategy.num_replicas_in_sync > 1
    twin = make_twin(model, mixed=mixed, kinds={keras.layers.Dropout: PlacedDropout} if shares else {}) if mixed or shares else model
    # Outside of the scope: with several workers Keras cannot train a model that was made inside (keras issue 20585).
    learner = Learner(twin.inputs, twin.outputs, name=model.name)
    learner.model_config, learner.labels = model.model_config, model.labels
    learner.mixed, learner.waited, learner.measured, learner.done_before = mixed, 0.0, 0.0, 0
    return learner


@keras.saving.register_keras_serializable("tfcnn")
class PlacedDropout(keras.layers.Dropout):
    """Dropout that draws for the whole batch and takes the part of its replica, so that replicas drop what one alone would drop."""

    def call(self, inputs, training=False):
        start, total = getattr(_place, "now", (None, None))
        if total is None or not training or not self.rate:
            return super().call(inputs, training=training)
        count = tf.shape(inputs)[0]
        whole = super().call(tf.ones(tf.concat([[total], tf.shape(inputs)[1:]], axis=0), inputs.dtype), training=True)
        return inputs * whole[start:start + count]


class OwnPart(tf.data.Dataset, tf.distribute.DistributedDataset):
    """A dataset that Keras takes for distributed already: it has the part of the one replica that is here.

    For TensorFlow's own distribution of a dataset every step of a MobileNetV3 took 1.4 times as long on a CPU, as soon as an iterator
    of it was there (benchmarks/overhead.py).
    """

    def __init__(self, dataset: tf.data.Dataset):
        self._dataset = dataset
        super().__init__(dataset._variant_tensor)  # TensorFlow gives no public way to a dataset that is another one

    def _inputs(self) -> list:
        return [self._dataset]

    @property
    def element_spec(self):
        return self._dataset.element_spec


class Learner(keras.Model):
    """The layers and weights of another model with steps of their own; made by `make_learner`.

    A step takes (pixels, targets, weights). The loss of a batch is the sum of weight x loss over all replicas, divided by the number
    of photos, whatever part each replica has; a photo of the weight 0 does not count. Gradients are added up before they are
    clipped, so the optimizer sees on each replica what it would see on one.

    Attributes:
        mixed: whether it computes in 16 bits.
        waited: seconds that measured steps waited for their photos.
        measured: seconds that these steps took in all.
        done_before: steps that the next epoch only counts, since they were done before its training was interrupted.
    """

    train_function: Any
    mixed: bool
    waited: float
    measured: float
    done_before: int
    _logs: Any

    def compile_for(self, optimizer, *, label_smoothing: float = 0.0, xla: bool = False) -> None:
        """Compiles it with the cross-entropy of each photo, which is scaled where gradients in 16 bits would vanish."""
        optimizer = with_scaled_loss(optimizer, self.distribute_strategy) if self.mixed else optimizer
        self.compile(optimizer, keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing, reduction=None), jit_compile=xla)

    def compile(self, optimizer, loss, **arguments):
        """Args as those of Keras; `loss` gives one value for each photo."""
        super().compile(optimizer, loss, **arguments)
        self._loss_of_each = loss
        self._seen = SimpleNamespace(loss=keras.metrics.Mean(name="loss"), accuracy=keras.metrics.Mean(name="accuracy"))  # kept out of `variables`
        inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        for member in getattr(inner, "optimizers", [inner]):  # they are added up already; Keras gives no public way to say so
            member._all_reduce_sum_gradients = list

    @property
    def metrics(self) -> list:
        return list(vars(self._seen).values())

    def train_step(self, data):
        pixels, targets, weights = data
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        real = tf.cast(weights > 0, tf.float32)
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(real))
        with tf.GradientTape() as tape:
            scores = self._scores(pixels, total, replicas)
            losses = self._loss_of_each(targets, scores) * weights
            loss = tf.reduce_sum(losses) / total
            if self.losses:  # of layers, the same on every replica
                loss += tf.add_n([tf.cast(own, loss.dtype) for own in self.losses]) / replicas
            loss = self.optimizer.scale_loss(loss)
        # Of embeddings they are slices, whose squares Keras would add up in place of squaring their sum.
        gradients = [gradient if gradient is None else tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, self.trainable_weights)]
        if replicas > 1:
            summed = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, [gradient for gradient in gradients if gradient is not None]))
            gradients = [gradient if gradient is None else next(summed) for gradient in gradients]
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return self._see(targets, scores, losses, real)

    def test_step(self, data):
        pixels, targets, weights = data
        scores = self(pixels, training=False)
        return self._see(targets, scores, self._loss_of_each(targets, scores) * weights, tf.cast(weights > 0, tf.float32))

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        super().make_train_function(force)
        step, self._steps, self._logs = self.train_function, 0, None

        def timed(iterator):
            """One step; at times it begins with the device at rest, so that what is waited for is the photos."""
            if self.done_before:
                self.done_before -= 1
                return self.get_metrics_result()
            measured = self._steps % WAIT_EVERY == WAIT_EVERY - 1
            if measured:
                self._come_to_rest()
            began = time.perf_counter()
            photos = next(iterator)
            waited = time.perf_counter() - began
            self._steps, self._logs = self._steps + 1, step(iter([photos]))
            if measured:
                self._come_to_rest()
                self.waited, self.measured = self.waited + waited, self.measured + time.perf_counter() - began
            return self._logs

        self.train_function = timed

    def _come_to_rest(self) -> None:
        for value in self._logs.values():
            value.numpy()

    def _scores(self, pixels, total, replicas: int):
        if replicas > 1:
            total = tf.cast(total, tf.int32)
            start = total * tf.distribute.get_replica_context().replica_id_in_sync_group // replicas
            _place.now = (tf.minimum(start, total - 1), total)
        try:
            return self(pixels, training=True)
        finally:
            _place.now = (None, None)

    def _see(self, targets, scores, losses, real) -> dict:
        right = tf.equal(tf.argmax(scores, -1), tf.argmax(targets, -1))
        self._seen.loss.update_state(losses, sample_weight=real)
        self._seen.accuracy.update_state(right, sample_weight=real)
        # Keras reduces what workers say along an axis that a single number lacks (keras issue 20585).
        return {name: tf.reshape(metric.result(), (1,)) for name, metric in vars(self._seen).items()}
