"""What playing clips faster or slower and louder or quieter in training gives for a speaker whom training never heard: validation accuracy.

    python benchmarks/sound_augmentation.py [--speakers theo lucas] [--epochs 40]

Spoken digits; each speaker in turn is the validation split, another one is left out altogether (the test, which is not looked at), and the other four
are learned from, with neither change, with each and with both; moving and masking stay. The recordings of theo are 20 dB quieter than those of most.
"""

import argparse
import csv
import logging
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
CLIPS = Path(os.environ.get("TFCNN_DATA", "../shared/data")) / "fsdd600"
LEFT_OUT = {"theo": "nicolas", "lucas": "theo"}  # beside a speaker; any other one leaves out theo
WAYS = {"neither": (0.0, 0.0), "speed": (0.1, 0.0), "loudness": (0.0, 10.0), "both": (0.1, 10.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speakers", nargs="+", default=["theo", "lucas"])
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    print(f"validation accuracy on a speaker who was not heard, {args.epochs} epochs on 400 clips")
    print(f"{'speaker':<10}" + "".join(f"{way:>10}" for way in WAYS), flush=True)
    for speaker in args.speakers:
        print(f"{speaker:<10}" + "".join(f"{accuracy(speaker, *numbers, args.epochs):>10.2f}" for numbers in WAYS.values()), flush=True)


def accuracy(speaker: str, speed: float, louder: float, epochs: int) -> float:
    """On the clips of a speaker, of a training with such changes."""
    import keras

    import tfcnn
    from tfcnn.models import audio
    from tfcnn.models.build import build_for_audio
    from tfcnn.models.classifier import ModelConfig

    audio.SPEED, audio.LOUDER = speed, louder
    splits = {speaker: "validation", LEFT_OUT.get(speaker, "theo"): "test"}
    with tempfile.TemporaryDirectory() as folder:
        with open(Path(folder) / "digits.csv", "w", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines)
            writer.writerow(["path", "label", "split"])
            for clip in sorted(CLIPS.resolve().glob("*.wav")):
                digit, of, _ = clip.stem.split("_")
                writer.writerow([clip, digit, splits.get(of, "train")])
        data = tfcnn.load_audio(Path(folder) / "digits.csv", seed=0)
        keras.utils.set_random_seed(0)
        model = build_for_audio(ModelConfig("mel_cnn", "none"), data.labels, data.input_shape, data.facts)
        run = tfcnn.train(model, data, tfcnn.TrainingConfig(seed=0, epochs=epochs), output=Path(folder) / "run")
    keras.utils.clear_session()
    return run.record["validation"]["accuracy"]


if __name__ == "__main__":
    main()
