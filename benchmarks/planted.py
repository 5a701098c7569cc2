"""What `tfcnn audit` finds of copies that were planted in real photos, and what it finds where nothing was planted.

    python benchmarks/planted.py [--seeds 5]

Into a copy of the photos, split into train and test folders: 20 exact copies of training photos in the test folder, 20 near
copies there (another size, quality and format), and 10 copies in the folder of another class. The planted photos are drawn
anew by each seed. Then the untouched photos are audited, every pair that is named there is listed, to be looked at.
"""

import argparse
import io
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

import tfcnn

DATA = Path(os.environ.get("TFCNN_DATA", "../shared/data"))
EXACT, NEAR, CONTRADICTIONS = 20, 20, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=DATA / "trashnet600", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFCNN_CACHE"] = str(Path(folder) / "cache")
        print(f"{'seed':<5} {'exact copies':>14} {'near copies':>14} {'contradictions':>16} {'false alarms':>14}")
        for seed in range(args.seeds):
            planted = plant(args.source, Path(folder) / f"seed{seed}", seed)
            show(seed, planted, tfcnn.audit(Path(folder) / f"seed{seed}"))
        for source in sorted({args.source, DATA / "flowers128"}):
            untouched(source)


def plant(source: Path, folder: Path, seed: int) -> dict[str, dict[str, str]]:
    """Makes the folder; gives {kind: {planted file: its original}}."""
    rng = np.random.default_rng(seed)
    files = sorted(source.glob("*/*"))
    parts = np.where(rng.random(len(files)) < 0.8, "train", "test")
    places = [folder / part / file.parent.name / file.name for file, part in zip(files, parts, strict=True)]
    for file, place in zip(files, places, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    drawn = rng.permutation([place for place, part in zip(places, parts, strict=True) if part == "train"])[:EXACT + NEAR + CONTRADICTIONS]
    planted: dict[str, dict[str, str]] = {"exact": {}, "near": {}, "contradiction": {}}
    for number, original in enumerate(drawn):
        label = original.parent.name
        if number < EXACT:
            copy = folder / "test" / label / f"planted{number}.jpg"
            shutil.copy(original, copy)
            planted["exact"][str(copy)] = str(original)
        elif number < EXACT + NEAR:
            copy = folder / "test" / label / f"planted{number}"
            planted["near"][str(encode_again(original, copy, rng))] = str(original)
        else:
            other = rng.choice([c.name for c in sorted((folder / "train").iterdir()) if c.name != label])
            copy = folder / "train" / other / f"planted{number}.jpg"
            shutil.copy(original, copy)
            planted["contradiction"][str(copy)] = str(original)
    return planted


def encode_again(original: Path, copy: Path, rng) -> Path:
    """Another size (0.4 to 1.5 times, the sides up to 2 % apart), quality (30 to 95) and format."""
    image = Image.open(original).convert("RGB")
    scale = rng.uniform(0.4, 1.5)
    image = image.resize((round(image.width * scale * rng.uniform(0.98, 1.02)), round(image.height * scale)), Image.Resampling.BICUBIC)
    name = str(rng.choice(["JPEG", "WEBP", "PNG"]))
    file = io.BytesIO()
    image.save(file, name, quality=int(rng.integers(30, 96)))
    copy = copy.with_suffix({"JPEG": ".jpg", "WEBP": ".webp", "PNG": ".png"}[name])
    copy.write_bytes(file.getvalue())
    return copy


def show(seed: int, planted, result) -> None:
    leaks = [set(same.paths) for same in result.leaks]
    contradictions = [set(same.paths) for same in result.contradictions]
    found = lambda kind, groups: sum(any({copy, original} <= group for group in groups) for copy, original in planted[kind].items())
    known = [{copy, original} for pairs in planted.values() for copy, original in pairs.items()]
    named = [set(same.paths) for same in (*result.duplicates, *result.contradictions)]
    false = sum(not any(pair <= group for pair in known) for group in named)
    print(f"{seed:<5} {found('exact', leaks):>8} of {EXACT} {found('near', leaks):>8} of {NEAR} "
          f"{found('contradiction', contradictions):>10} of {CONTRADICTIONS} {false:>14}", flush=True)


def untouched(source: Path) -> None:
    result = tfcnn.audit(source)
    found = [*result.duplicates, *result.contradictions]
    print(f"\n{source.name}, untouched: {len(found)} pairs named among {result.n} photos, {len(result.problems)} problems")
    for same in found:
        print(f"  {same.kind}{', turned' if same.turned else ''}: {' = '.join(same.paths)}")


if __name__ == "__main__":
    main()
