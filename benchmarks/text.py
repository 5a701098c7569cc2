"""Sentences of film reviews, positive or negative: ten folds of random vectors of words, beside the published figure.

    python benchmarks/text.py [--folds 0 1 2 3 4 5 6 7 8 9] [--seed 0]

What `train` does where nothing is said: about 1500 steps of AdamW. 10,662 sentences; each is tested once, by a network that learned from the other
nine folds, whose vocabulary is theirs. No pretrained vectors, and nothing is chosen by the test sentences.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
FOLDER = Path(os.environ.get("TFCNN_DATA", "../shared/data")) / "rt_polarity"
PUBLISHED = 76.1  # CNN-rand, Kim 2014, table 2, ten folds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    print(f"kim_cnn, {os.cpu_count()} cores\n{'fold':<6}{'train':>7}{'test':>6}{'words':>8}{'epochs':>8}{'seconds':>9}{'accuracy':>10}", flush=True)
    accuracies = [100 * one_fold(fold, args.seed) for fold in args.folds]
    sd = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"mean ± sd of {len(accuracies)} folds: {statistics.mean(accuracies):.1f} ± {sd:.1f}; published: {PUBLISHED}")


def one_fold(fold: int, seed: int) -> float:
    """The test accuracy; prints a row."""
    import keras

    import tfcnn
    from tfcnn.data.dataset import with_validation
    from tfcnn.models.build import build_for_text
    from tfcnn.models.classifier import ModelConfig

    data = with_validation(tfcnn.load_text(sentences(), folds=10, fold=fold, seed=seed))
    keras.utils.set_random_seed(seed)
    model = build_for_text(ModelConfig("kim_cnn", "none"), data.labels, data.input_shape, data.facts)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = tfcnn.train(model, data, tfcnn.TrainingConfig(seed=seed), output=Path(folder) / "run")
        seconds = time.perf_counter() - start
        report = tfcnn.evaluate(run, data)
    print(f"{fold:<6}{len(data.rows('train')):>7}{report.n:>6}{len(data.facts['vocabulary']):>8}{run.record['training']['epochs']:>8}{seconds:>9.0f}"
          f"{100 * report.accuracy:>10.1f}", flush=True)
    keras.utils.clear_session()
    return report.accuracy


def sentences() -> tuple[list[str], list[str]]:
    """Texts and labels."""
    found = [(line.strip(), label) for name, label in (("pos", "positive"), ("neg", "negative"))
             for line in (FOLDER / f"rt-polarity.{name}").read_text(encoding="latin-1").strip("\n").split("\n")]
    return [text for text, _ in found], [label for _, label in found]


if __name__ == "__main__":
    main()
