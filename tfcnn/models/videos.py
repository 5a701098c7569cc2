"""What stands before a network of videos, inside the model: clips apart, pixels standardised, changed at random in training."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfcnn.models.frames import Fold
from tfcnn.models.volumes import VaryPlanes


def video_input(shape: Sequence[int], facts: Mapping[str, Any]):
    """What stands before a network of clips.

    Returns:
        A `keras.Model` without weights that learn: pixels 0-255 (batch, clips * frames, height, width, channels), the clips one behind the other, in;
        standardised ones (batch * clips, frames, height, width, channels) out, in training those of one clip of each video, at random.
    """
    x = video = keras.Input(shape, name="video")
    if facts["clips"] > 1:
        x = Fold(facts["clips"], one_in_training=True, name="clips")(x)
    x = keras.layers.Normalization(mean=facts["mean"], variance=facts["variance"], name="standardise")(x)
    return keras.Model(video, VaryFrames(name="vary")(x), name="video_input")


@keras.saving.register_keras_serializable("tfcnn")
class VaryFrames(VaryPlanes):
    """Turns, scales and shifts some of the standardised clips in training, all frames of one alike, and adds noise to some.

    Nothing is mirrored or played backwards: what moves to the left must not be taken for what moves to the right.
    """

    def changed(self, x):
        """(batch, frames, height, width, channels)."""
        return keras.ops.cast(self._noisy(self._in_planes(keras.ops.cast(x, "float32"))), x.dtype)
