"""What stands between samples of sound and a network of pictures, inside the model: log-mel spectrograms, and random changes in training."""

from collections.abc import Sequence

import keras
import numpy as np

from tfcnn.errors import InputError
from tfcnn.models.freeze import every_layer
from tfcnn.models.networks import MOMENTUM

FRAME, HOP = 0.025, 0.010  # seconds, as is usual in speech recognition
MELS = 64
LOWEST = 20.0  # Hz; below it there is nothing to hear
FLOOR = 1e-8  # of power, so that silence has a logarithm: 80 dB below the loudest sine
SHIFT = 0.1  # farthest to each side, a share of the window
# SpecAugment has two stretches of time and two of frequency, and wider ones; in 1500 steps on 420 clips networks learned less behind those.
MASKS, WIDEST_TIME, WIDEST_MELS = 1, 0.1, 0.1  # stretches of each, and how wide they may be, shares of the whole
STRENGTHS = {"none": 0.0, "light": 0.5, "medium": 1.0, "strong": 1.5}  # of `TrainingConfig.augmentation`: by which ranges are multiplied
MEL_FILTERS = (16, 32, 64, 128)  # of the blocks of `mel_cnn`
M5_BLOCKS = ((128, 80, 4), (128, 3, 1), (256, 3, 1), (512, 3, 1))  # filters, kernel, stride
TO_PIXELS = (np.log(FLOOR), 0.0)  # logarithms of power that become 0 and 255 for a backbone of photos


def build_mel_cnn(frames: int, mels: int = MELS):
    """A small network of log-mel spectrograms.

    Returns:
        A `keras.Model` with random weights: float32 (batch, frames, mels) in, features (batch, 128) out.

    Source: the blocks, the BatchNorm of each mel band at the entrance and the pooling at the end (mean over frequency, then maximum plus mean over
        time) are those of Kong et al. 2020, "PANNs", section III; this network is smaller.
    """
    from keras import layers

    spectrogram = keras.Input((frames, mels), name="spectrogram")
    x = layers.BatchNormalization(momentum=MOMENTUM, name="bands")(spectrogram)
    x = layers.Reshape((frames, mels, 1), name="picture")(x)                           # (batch, frames, mels, 1)
    for number, filters in enumerate(MEL_FILTERS, start=1):
        x = _block(f"block{number}", x, "Conv2D", filters, 3, pool=2)                 # (batch, frames / 2^n, mels / 2^n, filters)
    x = keras.ops.mean(x, axis=2)                                                     # (batch, frames / 16, filters)
    return keras.Model(spectrogram, keras.ops.max(x, axis=1) + keras.ops.mean(x, axis=1), name="mel_cnn")


def build_m5(samples: int):
    """A network of the samples themselves: long filters first, which find their own frequencies.

    Returns:
        A `keras.Model` with random weights: float32 (batch, samples, 1) in, features (batch, 512) out.

    Source: Dai et al. 2017, "Very deep convolutional neural networks for raw waveforms", table 1, M5.
    """
    x = audio = keras.Input((samples, 1), name="samples")
    for number, (filters, kernel, stride) in enumerate(M5_BLOCKS, start=1):
        x = _block(f"block{number}", x, "Conv1D", filters, kernel, pool=4, stride=stride)
    return keras.Model(audio, keras.ops.mean(x, axis=1), name="m5")


def samples_of_sound(samples: int):
    """What stands before a network of samples: (batch, samples) in, (batch, samples, 1) out, moved in time in training."""
    audio = keras.Input((samples,), name="audio")
    return keras.Model(audio, keras.layers.Reshape((samples, 1), name="channel")(Shift(SHIFT, name="shift")(audio)), name="samples_of_sound")


def spectrogram_of_sound(samples: int, sample_rate: int):
    """What stands before a network of spectrograms: (batch, samples) in, (batch, frames, mels) out, moved and masked in training."""
    audio = keras.Input((samples,), name="audio")
    return keras.Model(audio, MaskStretches(name="mask")(log_mel(Shift(SHIFT, name="shift")(audio), sample_rate)), name="spectrogram_of_sound")


def pixels_of_sound(samples: int, sample_rate: int, image_size: int):
    """What stands before a backbone of photos: a log-mel spectrogram as grey pixels, time from left to right, low tones below.

    Returns:
        A `keras.Model` without weights that learn: float32 (batch, samples), -1 to 1, in, pixels 0-255 (batch, image_size, image_size, 3) out.
    """
    low, high = TO_PIXELS
    x = spectrogram_of_sound(samples, sample_rate)
    audio, x = x.inputs[0], x.outputs[0]
    x = keras.layers.Rescaling(255 / (high - low), offset=-255 * low / (high - low), name="to_pixels")(x)
    x = keras.ops.flip(keras.ops.transpose(x, (0, 2, 1)), axis=1)[..., None]           # (batch, mels, frames, 1)
    x = keras.ops.image.resize(x, (image_size, image_size))
    return keras.Model(audio, keras.layers.Concatenate(name="grey_to_rgb")([x, x, x]), name="pixels_of_sound")


def log_mel(audio, sample_rate: int):
    """Logarithm of the power in mel bands: samples (batch, n) to (batch, frames, mels), by operators that TFLite has.

    Frames of 25 ms every 10 ms, a Hann window; the Fourier transform is a product with two matrices, which a phone computes as fast as it
    needs to and every converter knows.

    Source: the mel scale is O'Shaughnessy's, 2595 log10(1 + f / 700), with triangles of equal area as in Slaney's Auditory Toolbox.
    """
    frame, hop = frame_of(sample_rate)
    count = frames_of(audio.shape[1], sample_rate)
    padded = keras.ops.pad(audio, [[0, 0], [0, max(0, (count - 1) * hop + frame - audio.shape[1])]])[:, :(count - 1) * hop + frame]
    return LogMel(sample_rate, name="log_mel")(padded)


def frame_of(sample_rate: int) -> tuple[int, int]:
    """(samples in a frame, samples from one frame to the next)."""
    return max(16, round(FRAME * sample_rate)), max(4, round(HOP * sample_rate))


def window_of(frame: int) -> np.ndarray:
    """A Hann window (frame,) in which the loudest sine, from -1 to 1, has the power 1 whatever the sampling rate."""
    window = np.hanning(frame + 2)[1:-1]
    return 2 * window / window.sum()


def frames_of(samples: int, sample_rate: int) -> int:
    """How many frames a clip has, the last one filled up with zeros."""
    frame, hop = frame_of(sample_rate)
    return 1 + max(0, -(-(samples - frame) // hop))


@keras.saving.register_keras_serializable("tfcnn")
class LogMel(keras.layers.Layer):
    """Frames of samples to the logarithm of the power in mel bands; its numbers are constants of the sampling rate."""

    def __init__(self, sample_rate: int, **kwargs):
        super().__init__(autocast=False, **kwargs)  # what is computed in 16 bits has no power as low as that of silence
        self.sample_rate = sample_rate

    def build(self, shape):
        frame, _ = frame_of(self.sample_rate)
        # As one convolution: window and transform of a frame, real parts then imaginary ones. A frame is padded to a power of two by the number of waves.
        size = 1 << (frame - 1).bit_length()
        wave = np.exp(-2j * np.pi * np.arange(frame)[:, None] * np.arange(size // 2 + 1) / size) * window_of(frame)[:, None]
        self._waves = np.concatenate([wave.real, wave.imag], axis=1).astype(np.float32)[:, None]      # (frame, 1, 2 x tones)
        self._bands = mel_bands(size, self.sample_rate).astype(np.float32)                             # (tones, mels)

    def call(self, audio):
        _, hop = frame_of(self.sample_rate)
        audio = keras.ops.cast(audio, "float32")
        parts = keras.ops.conv(audio[..., None], self._waves, strides=hop, padding="valid")            # (batch, frames, 2 x tones)
        tones = self._bands.shape[0]
        power = keras.ops.square(parts[..., :tones]) + keras.ops.square(parts[..., tones:])
        return keras.ops.cast(keras.ops.log(keras.ops.matmul(power, self._bands) + FLOOR), self.compute_dtype)

    def compute_output_shape(self, shape):
        frame, hop = frame_of(self.sample_rate)
        return (shape[0], 1 + (shape[1] - frame) // hop, MELS)

    def get_config(self):
        return {**super().get_config(), "sample_rate": self.sample_rate}


def mel_bands(size: int, sample_rate: int) -> np.ndarray:
    """Weights (size // 2 + 1, MELS) of the tones of a Fourier transform in triangular mel bands of equal area."""
    to_mel, to_hz = (lambda hz: 2595 * np.log10(1 + hz / 700)), (lambda mel: 700 * (10 ** (mel / 2595) - 1))
    edges = to_hz(np.linspace(to_mel(LOWEST), to_mel(sample_rate / 2), MELS + 2))
    tones = np.arange(size // 2 + 1) * sample_rate / size
    rising = (tones[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - tones[:, None]) / (edges[2:] - edges[1:-1])
    bands = np.maximum(0, np.minimum(rising, falling))
    thin = bands.sum(axis=0) == 0  # low bands of short frames lie between two tones: they take the nearer one
    bands[np.abs(tones[:, None] - edges[1:-1]).argmin(axis=0)[thin], np.flatnonzero(thin)] = 1
    return bands / bands.sum(axis=0)


class _Random(keras.layers.Layer):
    """A change of training inputs, of a strength that `set_strength` sets; in inference nothing happens."""

    def __init__(self, strength: float = 1.0, **kwargs):
        super().__init__(autocast=False, **kwargs)  # samples stay what they are
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


@keras.saving.register_keras_serializable("tfcnn")
class Shift(_Random):
    """Moves each clip in time by up to a share of its length; what leaves at one end is silence at the other."""

    def __init__(self, share: float, **kwargs):
        super().__init__(**kwargs)
        self.share = share

    def changed(self, audio):
        """Samples (batch, n)."""
        n, most = audio.shape[1], min(audio.shape[1], int(self.strength * self.share * audio.shape[1]))
        start = keras.ops.cast(self.draw((keras.ops.shape(audio)[0], 1)) * (2 * most + 1), "int32")
        padded = keras.ops.pad(audio, [[0, 0], [most, most]])
        return keras.ops.take_along_axis(padded, start + keras.ops.arange(n, dtype="int32")[None], axis=1)

    def get_config(self):
        return {**super().get_config(), "share": self.share}


@keras.saving.register_keras_serializable("tfcnn")
class MaskStretches(_Random):
    """Hides stretches of time and bands of frequency behind the mean of the clip.

    Source: Park et al. 2019, "SpecAugment", section 2, without time warping, which they find to matter least.
    """

    def changed(self, x):
        """Spectrograms (batch, frames, mels)."""
        mean, batch = keras.ops.mean(x, axis=(1, 2), keepdims=True), keras.ops.shape(x)[0]
        keep = keras.ops.ones_like(x)
        for axis, widest in ((1, WIDEST_TIME), (2, WIDEST_MELS)):
            places = keras.ops.arange(x.shape[axis], dtype="float32") / x.shape[axis]
            for _ in range(MASKS):
                width = self.draw((batch, 1)) * min(0.5, self.strength * widest)
                start = self.draw((batch, 1)) * (1 - width)
                hidden = keras.ops.cast(keras.ops.logical_and(places[None] >= start, places[None] < start + width), x.dtype)
                keep = keep * (1 - keras.ops.expand_dims(hidden, 3 - axis))
        return keep * x + (1 - keep) * mean


def set_strength(model, augmentation: str) -> None:
    """Tells the layers of a model that change training inputs how much; a name of `STRENGTHS`. Most models have none."""
    if augmentation not in STRENGTHS:
        raise InputError(f"expected an augmentation of sound, {', '.join(STRENGTHS)}, got '{augmentation}'")
    for layer in every_layer(model):
        if isinstance(layer, _Random):
            layer.strength = STRENGTHS[augmentation]


def _block(name: str, x, convolution: str, filters: int, kernel: int, *, pool: int, stride: int = 1):
    """Convolution, BatchNorm, ReLU and pooling as one layer, which is a stage: the mean of spectrograms, the largest value of samples."""
    from keras import layers

    inside = keras.Input(x.shape[1:], name="x")
    y = getattr(layers, convolution)(filters, kernel, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal")(inside)
    y = layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(y))
    sides = tuple(min(pool, side) for side in y.shape[1:-1])
    y = layers.AveragePooling2D(sides, padding="same")(y) if convolution == "Conv2D" else layers.MaxPooling1D(sides[0], padding="same")(y)
    return keras.Model(inside, y, name=name)(x)
