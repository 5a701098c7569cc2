"""What decoding at a reduced DCT scale and averaging whole boxes change: pixels, and the accuracy of a head on frozen features.

    python benchmarks/decoding.py [--sizes 96 128 224]

Three ways from a file to a square: as tfcnn does; the whole JPEG and one antialiased resize of Pillow; and as
`keras.utils.image_dataset_from_directory` does (the whole JPEG, bilinear without antialiasing). The accuracy is that of a
logistic regression on pooled features of MobileNetV3-Small, in a 5-fold cross-validation of all photos, repeated with 5 shuffles:
mean and standard deviation over the shuffles. The ImageNet weights are recovered from an 8-bit file.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import tfcnn
from tfcnn.data.photo import decode_photo
from tfcnn.models.forward import forward
from tfcnn.training.features import feature_network

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=DATA / "trashnet600", type=Path)
    parser.add_argument("--weights", default=DATA / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 128, 224])
    args = parser.parse_args()
    files = sorted(args.source.glob("*/*"))
    labels = [file.parent.name for file in files]
    print(f"{'pixels':<8} {'way':<34} {'decoded at':>11} {'mean difference':>16} {'accuracy':>18}")
    for size in args.sizes:
        model = tfcnn.build_classifier("mobilenet_v3_small", labels=sorted(set(labels)), weights=str(args.weights), image_size=size)
        network = feature_network(model)
        whole = np.stack([whole_then_resized(file, size) for file in files])
        for way, decode in WAYS.items():
            pixels = np.stack([decode(file, size) for file in files])
            scores = accuracy(forward(network, pixels), labels)
            scale = f"1/{reduced_scale(files[0], size)}" if way == "tfcnn" else "1/1"
            difference = np.abs(pixels.astype(float) - whole).mean()
            print(f"{size:<8} {way:<34} {scale:>11} {difference:>16.2f} {np.mean(scores):>10.3f} ± {np.std(scores):.3f}", flush=True)


def whole_then_resized(file: Path, size: int) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def as_keras(file: Path, size: int) -> np.ndarray:
    pixels = tf.image.resize(tf.io.decode_jpeg(file.read_bytes(), channels=3), (size, size))
    return np.rint(pixels.numpy()).astype(np.uint8)


WAYS = {"tfcnn": lambda file, size: decode_photo(str(file), size).pixels, "whole JPEG, antialiased": whole_then_resized, "as keras, not antialiased": as_keras}


def reduced_scale(file: Path, size: int) -> int:
    with Image.open(file) as image:
        width = image.size[0]
        image.draft(None, (size, size))
        return round(width / image.size[0])


def accuracy(features: np.ndarray, labels: list[str]) -> list[float]:
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=500))
    with threadpool_limits(1):
        return [float(cross_val_score(regression, features, labels, cv=StratifiedKFold(5, shuffle=True, random_state=seed)).mean()) for seed in range(5)]


if __name__ == "__main__":
    main()
