"""The head on cached features: solved where it is one Dense layer, trained by `fit` where it has hidden ones."""

import numpy as np

from tfcnn.data.dataset import class_weights
from tfcnn.models.freeze import HEAD, every_layer
from tfcnn.models.recast import recast
from tfcnn.training.config import Filled

# Photos in which a feature has to be other than 0, as a share. One that a ReLU lets pass in a single photo has next to no deviation:
# divided by it, its weight was a thousand times the others', and 8 bits for all weights of the head left none for those.
RARE = 0.01


def train_head(model, features: np.ndarray, targets: np.ndarray, config: Filled) -> None:
    """Sets the weights of all layers after `pooling` from features (n, d) and integer targets (n,)."""
    if model.model_config.hidden:
        _fit_hidden(model, features, targets, config)
    else:
        _solve_linear(model, features, targets, config)


def head_of(model):
    """The layers after `pooling` as a `keras.Model` of features (batch, d); it shares its weights with `model`."""
    import keras

    names = [layer.name for layer in model.layers]
    features = keras.Input(model.get_layer("pooling").output.shape[1:], name="features")
    x = features
    for layer in model.layers[names.index("pooling") + 1:]:
        x = layer(x)
    return keras.Model(features, x, name="head")


def summary(scores: np.ndarray, targets: np.ndarray) -> dict:
    """What scores (n, labels) are worth: accuracy, balanced accuracy (mean recall of the classes that there are), mean log loss, and n."""
    right = scores.argmax(axis=1) == targets
    recalls = [right[targets == target].mean() for target in np.unique(targets)]
    of_target = np.clip(scores[np.arange(len(targets)), targets], np.finfo(np.float32).tiny, None)
    return {"accuracy": float(right.mean()), "balanced_accuracy": float(np.mean(recalls)), "log_loss": float(-np.log(of_target).mean()), "n": len(right)}


def seed_dropout(model, seed: int, *, before: int = 0) -> None:
    """The random state of a Dropout layer is drawn when it is built, so the seed of a training has to be put into it.

    Args:
        before: of a head alone, how many more layers its classifier has before `pooling`: each layer then has the state it has there.
    """
    for number, layer in enumerate(every_layer(model), start=before):
        if hasattr(layer, "seed_generator"):
            layer.seed_generator.state.assign([seed, number])


def _solve_linear(model, features, targets, config: Filled) -> None:
    """Multinomial logistic regression: a convex problem, so L-BFGS finds its one answer and no rate has to be chosen.

    Weights of the classes and repeated photos are the same here: both multiply terms of the sum.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    faint = (deviation < 1e-6) | (np.count_nonzero(features, axis=0) < RARE * len(features))
    deviation[faint] = 1.0  # a feature that never or hardly ever changes is not scaled up
    weight = None if config.balance == "none" else "balanced"
    with threadpool_limits(1):  # products of this size take 50 times longer where BLAS threads wait for TensorFlow's
        regression = LogisticRegression(C=config.logistic_c, max_iter=500, class_weight=weight).fit((features - mean) / deviation, targets)
    kernel, bias = regression.coef_, regression.intercept_
    if len(kernel) == 1:  # scikit-learn keeps one row for two classes; half to each gives the same probabilities
        kernel, bias = np.vstack([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
    kernel = kernel / deviation  # the standardisation goes into the Dense layer
    model.get_layer("logits").set_weights([kernel.T.astype(np.float32), (bias - kernel @ mean).astype(np.float32)])


def _fit_hidden(model, features, targets, config: Filled) -> None:
    """What `fit` would do, step by step the same: as one function that TensorFlow traces once and runs from end to end, in less than half the time."""
    import keras
    import tensorflow as tf

    head = _new_head(model, config)
    variables, optimizer = head.trainable_variables, _head_optimizer(head, len(features), config)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)
    one_hot = np.eye(model.output_shape[-1], dtype=np.float32)[targets]
    weights = np.ones(len(targets), np.float32) if config.balance == "none" else class_weights(targets, one_hot.shape[1])[targets]
    photos = tf.data.Dataset.from_tensor_slices((features, one_hot, weights.astype(np.float32)))
    photos = photos.shuffle(len(features), seed=config.seed).batch(config.batch_size).repeat().take(_steps(len(features), config))

    @tf.function
    def run() -> None:
        for x, truth, weight in photos:
            with tf.GradientTape() as tape:
                error = loss(truth, head(x, training=True), sample_weight=weight)
            optimizer.apply(tape.gradient(error, variables), variables)

    optimizer.build(variables)
    run.get_concrete_function()()  # a call of `run` itself warns of retracing when heads are tried one after the other
    head_of(model).set_weights(head.get_weights())


def _steps(examples: int, config: Filled) -> int:
    return config.head_epochs * -(-examples // config.batch_size)


def _new_head(model, config: Filled):
    """The head with new weights, so that the seed of the training decides; on one device, since an epoch over features takes milliseconds."""
    import keras

    head = head_of(model)
    for number, layer in enumerate(head.layers):
        if isinstance(layer, keras.layers.Dense):  # by seeds of their own: a classifier draws other numbers before than a head alone
            layer.kernel.assign(keras.initializers.GlorotUniform(seed=config.seed + number)(layer.kernel.shape))
            layer.bias.assign(np.zeros(layer.bias.shape))
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([np.full(w.shape, w.path.endswith(("gamma", "moving_variance")), np.float32) for w in layer.weights])
    return recast(head, None) if model.distribute_strategy.num_replicas_in_sync > 1 else head


def _head_optimizer(head, examples: int, config: Filled):
    from tfcnn.training.optimizers import batch_factor, make_optimizer
    from tfcnn.training.schedule import StageRate

    rate = (config.learning_rates or {}).get(HEAD, config.head_learning_rate) * batch_factor(config)
    return make_optimizer(head, config, StageRate(rate, steps=_steps(examples, config), warm_up=0))
