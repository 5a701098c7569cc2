"""Spoken digits: random splits, and each speaker left out in turn; each .tflite of raw samples against Keras on every test clip.

    python benchmarks/speech.py [--network mel_cnn] [--seeds 0 1 2 3 4] [--speakers]

600 clips of 10 digits by 6 speakers. What `train` does where nothing is said: about 1500 steps of AdamW, clips moved, played faster or slower, louder or
quieter, and masked. Random splits have 120 test clips; of the other 480 all are learned from. With --speakers each speaker in turn is the test and the
other five are learned from.
"""

import argparse
import csv
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
FORMATS = ("float32", "float16", "dynamic")
CLIPS = Path(os.environ.get("TFCNN_DATA", "../shared/data")) / "fsdd600"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mel_cnn")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--speakers", action="store_true", help="leave each speaker out, with the first seed, instead of random splits")
    args = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    print(f"{args.network}, {os.cpu_count()} cores; of each .tflite the clips with the answer of Keras, and the largest difference of a score")
    print(f"{'test':<12}{'train':>6}{'test':>6}{'epochs':>8}{'seconds':>9}{'accuracy':>10}" + "".join(f"{name:>18}" for name in FORMATS), flush=True)
    speakers = sorted({clip.stem.split("_")[1] for clip in CLIPS.glob("*.wav")})
    tests = [(speaker, args.seeds[0]) for speaker in speakers] if args.speakers else [(None, seed) for seed in args.seeds]
    accuracies = []
    for speaker, seed in tests:
        with tempfile.TemporaryDirectory() as folder:
            accuracies.append(100 * one_run(Path(folder), args.network, speaker, seed))
    sd = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"mean ± sd of {len(accuracies)}: {statistics.mean(accuracies):.1f} ± {sd:.1f}")


def one_run(folder: Path, network: str, speaker: str | None, seed: int) -> float:
    """The test accuracy; prints a row."""
    import keras

    import tfcnn
    from tfcnn.data.dataset import with_validation
    from tfcnn.models.build import build_for_audio
    from tfcnn.models.classifier import ModelConfig

    data = with_validation(tfcnn.load_audio(write_table(folder / "digits.csv", speaker), seed=seed))
    keras.utils.set_random_seed(seed)
    model = build_for_audio(ModelConfig(network, "none"), data.labels, data.input_shape, data.facts)
    start = time.perf_counter()
    run = tfcnn.train(model, data, tfcnn.TrainingConfig(seed=seed), output=folder / "run")
    seconds = time.perf_counter() - start
    report = tfcnn.evaluate(run, data)
    files = tfcnn.export(run, data, formats=[f"tflite_{name}" for name in FORMATS])
    said = "".join(f"{round(file.agreement * file.n):>6}/{file.n:<3}{file.max_score_difference:>8.0e}" for file in files)
    print(f"{speaker or f'seed {seed}':<12}{len(data.rows('train')):>6}{report.n:>6}{run.record['training']['epochs']:>8}{seconds:>9.0f}"
          f"{100 * report.accuracy:>10.1f}{said}", flush=True)
    keras.utils.clear_session()
    return report.accuracy


def write_table(file: Path, speaker: str | None) -> Path:
    """A CSV of the clips with their digits; those of one speaker are the test, if one is given."""
    with open(file, "w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["path", "label", *(["split"] if speaker else [])])
        for clip in sorted(CLIPS.resolve().glob("*.wav")):
            digit, of, _ = clip.stem.split("_")
            writer.writerow([clip, digit, *([("test" if of == speaker else "train")] if speaker else [])])
    return file


if __name__ == "__main__":
    main()
