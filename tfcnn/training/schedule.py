"""`StageRate`: the learning rate of one group of stages at every step."""

import math

import keras


@keras.saving.register_keras_serializable("tfcnn")
class StageRate(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to a peak, then stays, or falls along a cosine to 0 at the end of the training.

    A stage that is opened later rises when it is opened and falls together with the others, so its optimizer counts its own
    steps and `opened` says when they began.

    Attributes:
        factor: a variable that multiplies the rate, for a plateau rule; 1 at first.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2, for the rise; Loshchilov & Hutter 2017, "SGDR", section 3,
        for the cosine; Howard & Ruder 2018, "ULMFiT", section 3.3, for stages that are opened one by one.
    """

    def __init__(self, peak: float, *, steps: int, warm_up: int, opened: int = 0, cosine: bool = True, factor: float = 1.0):
        """
        Args:
            peak: the highest rate.
            steps: of the whole training; the cosine reaches 0 there.
            warm_up: steps of the rise, 0 or more; the first of them has the rate peak / warm_up.
            opened: steps of the training that were over when this group's began.
            cosine: whether the rate falls.
            factor: value of the variable.
        """
        super().__init__()
        self.peak, self.steps, self.warm_up, self.opened, self.cosine = peak, steps, warm_up, opened, cosine
        self.factor = keras.Variable(factor, trainable=False, name="rate_factor")

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        rise = keras.ops.minimum((step + 1) / self.warm_up, 1.0) if self.warm_up else 1.0
        if not self.cosine:
            return self.peak * rise * self.factor
        done = (step + self.opened - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.peak * rise * self.factor * 0.5 * (1 + keras.ops.cos(math.pi * keras.ops.clip(done, 0.0, 1.0)))

    def get_config(self) -> dict:
        return {"peak": self.peak, "steps": self.steps, "warm_up": self.warm_up, "opened": self.opened, "cosine": self.cosine,
                "factor": float(self.factor)}
