"""Networks of texts, from numbers of words or characters to features."""

from tfcnn.errors import InputError

WIDTH = 128  # numbers of a word; Kim 2014 has 300, which take longer
KERNELS, FILTERS = (3, 4, 5), 100  # Kim 2014, section 3.1
DROPOUT = 0.4  # of the numbers of words, the same ones for all words of a text; with that of the head in place of the 0.5 of Kim 2014
SPREAD = 0.25  # random vectors are drawn from -0.25 to 0.25, as in the code of Kim 2014


def build_kim_cnn(length: int, vocabulary: int, *, vectors=None):
    """Convolutions of several widths over the vectors of words, the largest value of each filter at the end.

    Args:
        length: tokens of a text.
        vocabulary: how many numbers there are, with 0 (nothing) and 1 (unknown).
        vectors: float32 (vocabulary, width), where words have vectors already; random ones if None. They are learned on.

    Returns:
        A `keras.Model`: int32 (batch, length) in, features (batch, 300) out. Its stages are `words` and the convolutions.

    Raises:
        InputError: vectors of another number of words.

    Source: Kim 2014, "Convolutional Neural Networks for Sentence Classification", section 2 and table 1.
    """
    import keras
    from keras import layers

    if vectors is not None and vectors.shape[0] != vocabulary:
        raise InputError(f"expected a vector for each of the {vocabulary} numbers, got {vectors.shape[0]}")
    start = keras.initializers.RandomUniform(-SPREAD, SPREAD) if vectors is None else keras.initializers.Constant(vectors)
    text = keras.Input((length,), dtype="int32", name="text")
    words = layers.Embedding(vocabulary, WIDTH if vectors is None else vectors.shape[1], embeddings_initializer=start, name="words")(text)
    there = keras.ops.cast(keras.ops.not_equal(text, 0), "float32")[..., None]        # (batch, length, 1); behind the end there is nothing
    x = layers.SpatialDropout1D(DROPOUT, name="word_dropout")(words * there)          # (batch, length, width)
    maps = [layers.Conv1D(FILTERS, kernel, padding="same", activation="relu", name=f"width{kernel}")(x) for kernel in KERNELS]
    return keras.Model(text, layers.Concatenate(name="features")([layers.GlobalMaxPooling1D()(m) for m in maps]), name="kim_cnn")
