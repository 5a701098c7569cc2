"""A program of its own, run by `tfcnn.export.runtimes`: runs one exported file on many photos, in a process that has only its runtime.

    python run_file.py RUNTIME FILE PHOTOS.npy RESULT.npz THREADS

It needs NumPy and the runtime (tensorflow, ai_edge_litert or onnxruntime), not tfcnn and not Keras.
"""

import os
import sys
import time

import numpy as np


def load_saved_model(path: str, threads: int):
    """A function of a photo (1, height, width, channels) of pixels 0-255, uint8, or a series (1, steps, channels), float32, that gives its scores
    (labels,); the signature `serve`."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    serve = tf.saved_model.load(path).signatures["serve"]
    ((name, spec),) = serve.structured_input_signature[1].items()
    kind = spec.dtype
    return lambda photo: serve(**{name: tf.cast(photo, kind)})["output_0"].numpy()[0]


def load_tflite(path: str, threads: int, *, plain: bool = False):
    """The same for a .tflite file in LiteRT, the runtime of phones; scores of bytes are brought to numbers.

    With `plain` by LiteRT's own kernels, without those of XNNPACK, which are chosen by the processor.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else OpResolverType.AUTO
    interpreter = Interpreter(model_path=path, num_threads=threads, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(photo):
        if tuple(interpreter.get_input_details()[0]["shape"]) != photo.shape:  # a file for series of any number of steps
            interpreter.resize_tensor_input(entry["index"], photo.shape, strict=True)
            interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], photo.astype(entry["dtype"]))
        interpreter.invoke()
        scores = interpreter.get_tensor(result["index"])[0]
        if result["dtype"] == np.float32:
            return scores
        scale, zero = result["quantization"]
        return (scores.astype(np.float32) - zero) * np.float32(scale)

    return run


def load_onnx(path: str, threads: int):
    """The same for an .onnx file in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda photo: session.run(None, {name: photo.astype(np.float32)})[0][0]


def load_tflite_plain(path: str, threads: int):
    """The same without XNNPACK."""
    return load_tflite(path, threads, plain=True)


LOADERS = {"saved_model": load_saved_model, "tflite": load_tflite, "tflite_plain": load_tflite_plain, "onnx": load_onnx}


def main(runtime: str, path: str, photos_path: str, result_path: str, threads: str) -> None:
    """Writes the scores of every photo, the milliseconds of each, and the largest memory of the process in bytes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    run = LOADERS[runtime](path, int(threads))
    stored = np.load(photos_path, mmap_mode="r")
    shape, size, kind, offset = stored.shape, int(np.prod(stored.shape[1:])), stored.dtype, stored.offset
    del stored  # mapped pages would count as memory of the process
    scores, seconds = [], []
    for row in range(shape[0]):
        photo = np.fromfile(photos_path, kind, size, offset=offset + row * size * kind.itemsize).reshape(1, *shape[1:])
        if row == 0:
            run(photo)  # the first call makes plans and allocates
        start = time.perf_counter()
        scores.append(run(photo))
        seconds.append(time.perf_counter() - start)
    np.savez(result_path, scores=np.stack(scores), milliseconds=1000 * np.array(seconds), memory=peak_memory())


def peak_memory() -> int:
    """The most memory that this process had resident, in bytes: the runtime, the model and one photo."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(*sys.argv[1:])
