"""Layers that change inputs at random in training, by a strength that a training sets; in inference they do nothing."""

from collections.abc import Sequence

import keras

from tfcnn.errors import InputError
from tfcnn.models.freeze import every_layer

FACTORS = {"none": 0.0, "light": 0.5, "medium": 1.0, "strong": 1.5}  # of `TrainingConfig.augmentation`: by which ranges are multiplied


class Random(keras.layers.Layer):
    """A change of training inputs, of a strength that `set_strength` sets; in inference nothing happens."""

    def __init__(self, strength: float = 1.0, **kwargs):
        super().__init__(autocast=False, **kwargs)  # inputs stay what they are
        self.strength = strength
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs, training=False):
        return self.changed(inputs) if training and self.strength else inputs

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "strength": self.strength}

    def draw(self, shape: Sequence) -> "keras.KerasTensor":
        """Numbers from 0 to 1."""
        return keras.random.uniform(shape, seed=self.seed_generator)


def set_strength(model, augmentation: str) -> None:
    """Tells the layers of a model that change training inputs how much; a name of `FACTORS`. Most models have none."""
    if augmentation not in FACTORS:
        raise InputError(f"expected an augmentation, {', '.join(FACTORS)}, got '{augmentation}'")
    for layer in every_layer(model):
        if isinstance(layer, Random):
            layer.strength = FACTORS[augmentation]
