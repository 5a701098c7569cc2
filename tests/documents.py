"""The blocks of code in README.md and docs/, and a workspace with small data under the names that they use."""

import csv
import re
import shlex
import shutil
import textwrap
import wave
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "notebooks")]
LANGUAGES = {"", "console", "python", "text"}


class Block(NamedTuple):
    """A fenced block of a page: its language, its text without indentation, and where it begins."""

    page: str
    line: int
    language: str
    text: str


class Command(NamedTuple):
    """A line behind `$ `: as it stands there without its comment, and its words without assignments to the environment."""

    where: str
    text: str
    words: tuple[str, ...]


def blocks() -> list[Block]:
    """All fenced blocks, in the order of the pages."""
    found = []
    for page in PAGES:
        lines, start = page.read_text(encoding="utf-8").splitlines(), None
        for number, line in enumerate(lines):
            fence = re.fullmatch(r" *```(.*)", line)
            if fence and start is None:
                start, language = number, fence[1]
            elif fence:
                found.append(Block(page.relative_to(ROOT).as_posix(), start + 1, language, textwrap.dedent("\n".join(lines[start + 1:number])) + "\n"))
                start = None
        assert start is None, f"{page}: the block of line {start} has no end"
    return found


def commands() -> list[Command]:
    """All commands of console blocks, in the order of the pages."""
    return [command_of(f"{block.page}:{block.line}", line.removeprefix("$ ")) for block in blocks() if block.language == "console"
            for line in block.text.splitlines() if line.startswith("$ ")]


def command_of(where: str, line: str) -> Command:
    text = re.sub(r"\s+#\s.*", "", line)
    words = shlex.split(text)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    words = words[:words.index(">")] if ">" in words else words  # where the output goes is the shell's work
    return Command(where, text, tuple(words))


def inline(start: str) -> list[tuple[str, str]]:
    """(page, code) of what stands in single backticks and begins so."""
    found = []
    for page in PAGES:
        text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        found += [(page.name, code) for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text) if code.startswith(start)]
    return found


def make_workspace(folder: Path, shared: Path) -> Path:
    """A folder with data of every kind under the names of the docs; commands run in it. The shared data lie where the docs say."""
    from conftest import make_photos

    (folder / "shared").mkdir(parents=True)
    (folder / "shared" / "data").symlink_to(shared)
    work = folder / "work"
    waste = ("glass", "metal", "paper")
    named = {"photos": waste, "flowers": ("daisy", "rose", "tulip"), "other_photos": waste, "new-photos": waste[:2]}
    for seed, (name, classes) in enumerate(named.items()):
        make_photos(work / name, classes=classes, count=10, side=32, seed=seed)
    (work / "inbox").mkdir()
    for name in ("photo.jpg", "inbox/a.jpg"):
        shutil.copy(work / "photos" / "glass" / "00.jpg", work / name)
    rng = np.random.default_rng(0)
    np.save(work / "photos.npy", rng.integers(0, 256, (2, 32, 32, 3)).astype(np.float32))
    _make_series(work, rng)
    _make_sound(work, rng)
    _make_texts(work, rng)
    _make_volumes(work, rng)
    _make_videos(work, rng)
    _make_graphs(work, rng, shared)
    return work


def _write_csv(path: Path, rows) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _make_series(work: Path, rng) -> None:
    folder = work / "timeseries" / "GunPoint"
    folder.mkdir(parents=True)
    for part in ("TRAIN", "TEST"):
        lines = ["@problemName GunPoint", "@timeStamps false", "@univariate true", "@equalLength true", "@seriesLength 24", "@classLabel true 1 2", "@data"]
        lines += [",".join(f"{value:.3f}" for value in rng.normal(size=24) + label) + f":{label}" for label in (1, 2) for _ in range(8)]
        (folder / f"GunPoint_{part}.ts").write_text("\n".join(lines) + "\n")
    rows = [[*np.round(rng.normal(size=24) + label, 3), f"class{label}"] for label in (1, 2) for _ in range(8)]
    header = [f"t{step}" for step in range(24)]
    _write_csv(work / "mine.csv", [[*header, "label"], *rows])
    _write_csv(work / "new.csv", [header, *(row[:-1] for row in rows[:2])])


def _make_sound(work: Path, rng) -> None:
    rows = [["path", "label", "speaker"]]
    (work / "birds").mkdir()
    for label, pitch in (("one", 300), ("two", 900)):
        (work / "birds" / label).mkdir()
        for take in range(6):
            noise = 0.05 * rng.normal(size=4000)
            samples = np.clip(0.5 * np.sin(2 * np.pi * pitch * np.arange(4000) / 8000) + noise, -1, 1)
            path = work / "birds" / label / f"{take}.wav"
            with wave.open(str(path), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes((samples * 32767).astype("<i2").tobytes())
            rows.append([f"birds/{label}/{take}.wav", label, f"speaker{take % 3}"])
    _write_csv(work / "digits.csv", rows)
    shutil.copy(path, work / "recording.wav")


def _make_texts(work: Path, rng) -> None:
    words = {"good": ["warm", "lovely", "film", "story", "bright", "clever"], "bad": ["dull", "empty", "film", "plot", "slow", "loud"]}
    texts = [[" ".join(rng.choice(words[label], 7)) + f" {number}", label] for label in words for number in range(12)]
    for name, part in (("reviews.csv", texts), ("more.csv", texts[::-1])):
        _write_csv(work / name, [["text", "label"], *part])
    _write_csv(work / "new-reviews.csv", [["text"], ["a warm film"], ["a dull plot"]])
    (work / "inbox" / "review.txt").write_text("a lovely story\n")
    vectors = [(word, " ".join(f"{value:.3f}" for value in rng.normal(size=100))) for word in words["good"] + words["bad"] if word != "film"]
    (work / "glove.6B.100d.txt").write_text("".join(f"{word} {vector}\n" for word, vector in vectors))


def _make_volumes(work: Path, rng) -> None:
    import nibabel

    for label in ("adrenal", "none"):
        (work / "scans" / label).mkdir(parents=True)
        for number in range(6):
            values = rng.normal(size=(16, 16, 16)) + 2 * (label == "none")
            nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), work / "scans" / label / f"{number}.nii.gz")
    shutil.copy(work / "scans" / "none" / "0.nii.gz", work / "new.nii.gz")
    parts = {f"{split}_images": rng.integers(0, 256, (8, 16, 16, 16)).astype(np.uint8) for split in ("train", "val", "test")}
    np.savez(work / "adrenalmnist3d_32.npz", **parts, **{f"{split}_labels": np.arange(8)[:, None] % 2 for split in ("train", "val", "test")})


def _make_videos(work: Path, rng) -> None:
    import av

    for label in ("left", "right"):
        (work / "gestures" / label).mkdir(parents=True)
        for number in range(6):
            frames = rng.integers(0, 120, (20, 32, 32, 3)).astype(np.uint8)
            frames[:, :, : 16 if label == "left" else 8] += 100
            with av.open(str(work / "gestures" / label / f"{number}.mp4"), "w") as container:
                stream = container.add_stream("libx264", rate=10)
                stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
                for pixels in frames:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
                container.mux(stream.encode())
    shutil.copy(work / "gestures" / "left" / "0.mp4", work / "new.mp4")


def _make_graphs(work: Path, rng, shared: Path) -> None:
    for name in ("MUTAG.txt", "cora.npz"):
        shutil.copy(shared / "graphs" / name, work / name)
    lines = (shared / "graphs" / "MUTAG.txt").read_text().splitlines()
    size = int(lines[1].split()[0])
    (work / "new.txt").write_text("\n".join(["1", *lines[1:2 + size]]) + "\n")
    chains = [("C" * size + tail, kind) for kind, tail in (("alcohol", "O"), ("amine", "N")) for size in range(2, 12)]
    _write_csv(work / "molecules.csv", [["smiles", "label"], *chains])
