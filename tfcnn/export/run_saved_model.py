"""A program of its own, run by `formats.run_saved_model`: needs TensorFlow and NumPy, not tfcnn and not Keras."""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import numpy as np
import tensorflow as tf


def main(model_path: str, photos_path: str, scores_path: str) -> None:
    """Writes the scores of every photo and the median milliseconds a photo at one thread."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    serve = tf.saved_model.load(model_path).signatures["serve"]
    photos = np.load(photos_path, mmap_mode="r")
    scores, seconds = [], []
    for photo in photos:
        image = tf.constant(photo[None], tf.float32)
        start = time.perf_counter()
        answer = serve(image=image)["output_0"].numpy()
        seconds.append(time.perf_counter() - start)
        scores.append(answer[0])
    np.savez(scores_path, scores=np.stack(scores), milliseconds=1000 * np.median(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
