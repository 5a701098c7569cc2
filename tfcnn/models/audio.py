"""What stands between samples of sound and a network of pictures, inside the model: log-mel spectrograms, and random changes in training."""

import keras
import numpy as np

from tfcnn.models.networks import MOMENTUM, conv_block
from tfcnn.models.vary import Random

FRAME, HOP = 0.025, 0.010  # seconds, as is usual in speech recognition
MELS = 64
LOWEST = 20.0  # Hz; below it there is nothing to hear
FLOOR = 1e-8  # of power, so that silence has a logarithm: 80 dB below the loudest sine
SHIFT = 0.1  # farthest to each side, a share of the window
SPEED = 0.1  # faster or slower by up to this share, with the pitch: Ko et al. 2015, "Audio augmentation for speech recognition", section 3.1
LOUDER = 10.0  # dB, or quieter
# SpecAugment has two of each and wider ones.
MASKS, WIDEST_TIME, WIDEST_MELS = 1, 0.1, 0.1  # stretches of each, and how wide they may be, shares of the whole
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
        x = conv_block(f"block{number}", x, filters, 3, pool=2, pooling="mean")       # (batch, frames / 2^n, mels / 2^n, filters)
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
        x = conv_block(f"block{number}", x, filters, kernel, pool=4, stride=stride)
    return keras.Model(audio, keras.ops.mean(x, axis=1), name="m5")


def samples_of_sound(samples: int):
    """What stands before a network of samples: (batch, samples) in, (batch, samples, 1) out, moved in time in training."""
    audio = keras.Input((samples,), name="audio")
    return keras.Model(audio, keras.layers.Reshape((samples, 1), name="channel")(_varied(audio)), name="samples_of_sound")


def spectrogram_of_sound(samples: int, sample_rate: int):
    """What stands before a network of spectrograms: (batch, samples) in, (batch, frames, mels) out, moved and masked in training."""
    audio = keras.Input((samples,), name="audio")
    return keras.Model(audio, MaskStretches(name="mask")(log_mel(_varied(audio), sample_rate)), name="spectrogram_of_sound")


def _varied(audio):
    """Samples (batch, n) of which in training each clip is faster or slower, earlier or later, louder or quieter."""
    return Loudness(LOUDER, name="loudness")(Shift(SHIFT, SPEED, name="shift")(audio))


def pixels_of_sound(samples: int, sample_rate: int, image_size: int):
    """What stands before a backbone of photos: a log-mel spectrogram as grey pixels, time from left to right, low tones below.

    Returns:
        A `keras.Model` without weights that learn: float32 (batch, samples), -1 to 1, in, pixels (batch, image_size, image_size, 3) out: 0 is silence, 255
        the power of the loudest sine; what is louder still, such as a square wave, lies a little above.
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

    Frames of 25 ms every 10 ms, the last one filled up with zeros; a Hann window.

    Source: the mel scale is O'Shaughnessy's, 2595 log10(1 + f / 700), with triangles of equal area as in Slaney's Auditory Toolbox.
    """
    return LogMel(sample_rate, name="log_mel")(audio)


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
        self._size = 1 << (frame - 1).bit_length()  # samples of a Fourier transform, which takes powers of two; what a frame lacks is zero
        # Power is counted in floors: 1 is kept by a file of 16 bits, where the floor itself would be 0 and silence minus infinity.
        self._window = (window_of(frame) / np.sqrt(FLOOR)).astype(np.float32)
        # The constant comes first in the product: TFLite's dynamic format brings a second factor to 8 bits, and power needs more.
        self._bands = mel_bands(self._size, self.sample_rate).T.astype(np.float32)                     # (mels, tones)

    def call(self, audio):
        frame, hop = frame_of(self.sample_rate)
        count, hops = frames_of(audio.shape[1], self.sample_rate), -(-frame // hop)                    # frames, and stretches of a hop that each covers
        length = (count + hops - 1) * hop
        audio = keras.ops.cast(audio, "float32")[:, :length]
        audio = keras.ops.pad(audio, [[0, 0], [0, length - audio.shape[1]]])
        stretches = keras.ops.reshape(audio, (-1, count + hops - 1, hop))
        frames = keras.ops.concatenate([stretches[:, first:first + count] for first in range(hops)], axis=2)[..., :frame]
        real, imaginary = keras.ops.rfft(frames * self._window, fft_length=self._size)                 # (batch, frames, tones)
        power = keras.ops.transpose(keras.ops.square(real) + keras.ops.square(imaginary), (0, 2, 1))
        bands = keras.ops.transpose(keras.ops.matmul(self._bands, power), (0, 2, 1))                   # (batch, frames, mels)
        return keras.ops.cast(keras.ops.log(bands + 1) + np.log(FLOOR), self.compute_dtype)

    def compute_output_shape(self, shape):
        return (shape[0], frames_of(shape[1], self.sample_rate), MELS)

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


@keras.saving.register_keras_serializable("tfcnn")
class Shift(Random):
    """Moves each clip in time by up to a share of the window and plays it faster or slower.

    By moving earlier a clip loses that share of itself at most. One that fills its window also loses what then reaches beyond its end: the share when it
    is moved later, and as much as it is played slower.
    """

    def __init__(self, share: float, speed: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.share, self.speed = share, speed

    def changed(self, audio):
        """Samples (batch, n)."""
        n, share, batch = audio.shape[1], min(1.0, self.strength * self.share), keras.ops.shape(audio)[0]
        rate = 1 + self.strength * self.speed * (2 * self.draw((batch, 1)) - 1)
        _, end = sounding(keras.ops.not_equal(audio, 0))                                 # (batch, 1)
        earliest, latest = share * end, -share * n                                       # a clip that is shorter than its window has room behind it
        start = earliest + self.draw((batch, 1)) * (latest - earliest)
        places = start + rate * keras.ops.arange(n, dtype="float32")[None]              # (batch, n), between samples
        before = keras.ops.floor(places)
        padded = keras.ops.pad(audio, [[0, 0], [1, 1]])                                  # silence before and behind the clip
        at = lambda offset: keras.ops.take_along_axis(padded, keras.ops.cast(keras.ops.clip(before + 1 + offset, 0, n + 1), "int32"), axis=1)
        return at(0) + (places - before) * (at(1) - at(0))

    def get_config(self):
        return {**super().get_config(), "share": self.share, "speed": self.speed}


@keras.saving.register_keras_serializable("tfcnn")
class Loudness(Random):
    """Makes each clip louder or quieter by up to some dB, as another microphone or distance would."""

    def __init__(self, most: float, **kwargs):
        super().__init__(**kwargs)
        self.most = most

    def changed(self, audio):
        """Samples (batch, n)."""
        decibels = self.strength * self.most * (2 * self.draw((keras.ops.shape(audio)[0], 1)) - 1)
        return audio * keras.ops.power(10.0, decibels / 20)

    def get_config(self):
        return {**super().get_config(), "most": self.most}


@keras.saving.register_keras_serializable("tfcnn")
class MaskStretches(Random):
    """Hides stretches of time, within what is to be heard, and bands of frequency behind the mean of the clip.

    Source: Park et al. 2019, "SpecAugment", section 2, without time warping, which they find to matter least.
    """

    def changed(self, x):
        """Spectrograms (batch, frames, mels)."""
        frames, mels = x.shape[1:]
        begin, end = sounding(keras.ops.max(x, axis=2) > np.log(FLOOR) + 1e-3)            # (batch, 1)
        hidden = sum(self._stretch(frames, begin, end, WIDEST_TIME)[..., None] + self._stretch(mels, 0 * begin, 0 * end + mels, WIDEST_MELS)[:, None]
                     for _ in range(MASKS))
        return keras.ops.where(hidden > 0, keras.ops.mean(x, axis=(1, 2), keepdims=True), x)

    def _stretch(self, size: int, begin, end, widest: float):
        """(batch, size), 1 on a stretch between begin and end (batch, 1) of a random width."""
        width = self.draw(keras.ops.shape(begin)) * min(0.5, self.strength * widest) * (end - begin)
        start = begin + self.draw(keras.ops.shape(begin)) * (end - begin - width)
        places = keras.ops.arange(size, dtype="float32")[None]
        return keras.ops.cast(keras.ops.logical_and(places >= start, places < start + width), "float32")


def sounding(there) -> tuple:
    """(begin, end) float32 (batch, 1) of what is there in each row of booleans (batch, n), end exclusive; the whole row where nothing is."""
    n = there.shape[1]
    places = keras.ops.arange(n, dtype="float32")[None]
    begin = keras.ops.min(keras.ops.where(there, places, float(n)), axis=1, keepdims=True)
    end = keras.ops.max(keras.ops.where(there, places + 1, 0.0), axis=1, keepdims=True)
    nothing = end <= begin
    return keras.ops.where(nothing, 0.0, begin), keras.ops.where(nothing, float(n), end)
