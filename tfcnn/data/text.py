"""`load_text`: texts with their labels as numbers of words or characters, with the vocabulary of the training texts, as a `Dataset`."""

import csv
import functools
import hashlib
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.arrange import Found, arrange, check_examples, check_split, like_text
from tfcnn.data.dataset import Dataset
from tfcnn.data.read import Read, content_digest
from tfcnn.data.sources import Example, Source, cell_text, list_class_folders
from tfcnn.data.split import SPLIT_NAMES
from tfcnn.errors import InputError, closest, is_plain
from tfcnn.files import found_files
from tfcnn.kinds import KINDS
from tfcnn.record import Run

KIND = "text"
PADDING, UNKNOWN = 0, 1  # numbers
NAMES = ("[padding]", "[unknown]")  # of these in a vocabulary
WORDS, CHARACTERS = "words", "characters"
LONGEST = {WORDS: 400, CHARACTERS: 1_000}  # tokens of a text where no length is asked for
ENDING, = KINDS[KIND].endings
LIKE_A_PATH = re.compile(r"\S*[/\\]\S+|\S+\.(txt|csv|json|md)", re.IGNORECASE)  # without a blank, and with what names of files have
LEAST = {WORDS: 2, CHARACTERS: 1}  # times in the training texts: a word that stands there once teaches what an unknown one is
MANY_UNKNOWN = 0.3  # share of tokens, from which the texts are probably of another language than the vocabulary
LARGEST_CELL = 2**30  # characters; Python's own limit is that of a short article
LATIN = "not UTF-8"
HOW = {WORDS: "Unicode NFKC, case folded; a run of letters, digits, underscores and marks on them is a word, and so is every other sign",
       CHARACTERS: "Unicode NFKC, case folded, every stretch of white space one blank; each character"}

logger = logging.getLogger(__name__)


def load_text(source: Any, *, tokens: str = WORDS, vocabulary: int = 20_000, length: int | None = None,
              split: tuple[float, float, float] | None = (0.7, 0.1, 0.2), seed: int = 0, folds: int | None = None, fold: int = 0,
              like: Run | str | Path | None = None, facts: Mapping[str, Any] | None = None) -> Dataset:
    """Texts with their labels in three stratified splits, as numbers of their words or characters.

    The vocabulary is that of the training texts: words that stand in them twice, the most frequent first. Empty texts, and equal ones
    under two labels, are left out and listed in `Dataset.quarantined`; equal texts land in one split.

    Args:
        source: a folder of class folders with a text in each file (UTF-8), a CSV with the columns text, label and perhaps split and group, a
            pandas frame with these, or in Python (texts, labels).
        tokens: "words" or "characters", which suit languages without blanks between words.
        vocabulary: the most words or characters that are known.
        length: tokens of an example; a longer text is cut, of a shorter one the rest is 0. That of the longest training text if None, at most
            400 words or 1000 characters.
        split, seed, folds, fold, like: see `load_images`.
        facts: of a run that the texts are to be like, in place of `tokens`, `vocabulary` and `length`.

    Returns:
        A `Dataset` whose `inputs` are int32 (n, length); its `input_shape` is (length,), `facts["vocabulary"]` its words by their numbers, and
        `texts` has each text under the SHA-256 of its item.

    Raises:
        InputError: a source that cannot be used, or numbers out of range.
    """
    known = check_split(split, folds, fold, like)
    if tokens not in HOW:
        raise InputError(f"expected words or characters, got tokens='{tokens}'; {closest(tokens, HOW)}")
    for name, value, least in (("vocabulary", vocabulary, 10), ("length", length, 1)):
        if value is not None and (type(value) is not int or value < least):
            raise InputError(f"expected a whole number from {least} up, got {name}={value}")
    if facts is None and split is None:
        raise InputError("expected a split, from whose training texts the vocabulary is made, got split=None; give one, or the facts of a run")
    found = source if isinstance(source, Found) else look(source)
    if split is not None:
        check_examples(found.source, folds)
    arranged = arrange(found.source, found.reads, split=split, seed=seed, folds=folds, fold=fold, known=known)
    texts = {read.digest: found.contents[read.example.path] for read in found.reads if read.digest}
    own = [texts[read.digest] for read in arranged.reads]
    if facts is None:
        facts = _facts([text for text, item in zip(own, arranged.items, strict=True) if item.split == "train"], tokens, vocabulary, length)
    inputs = encode(own, facts)
    _say_unknown(inputs)
    arguments = {"split": split and list(split), "seed": seed, "folds": folds, "fold": fold, "like": like_text(like), "kind": KIND, "tokens": tokens,
                 "vocabulary": vocabulary, "length": length}
    return Dataset(inputs=inputs, items=arranged.items, labels=arranged.labels, input_shape=(facts["length"],), geometry=KIND, source=found.source.name,
                   quarantined=arranged.quarantined, leaks=arranged.leaks, arguments=arguments, kind=KIND, facts=facts, texts=texts)


def look(source: Any) -> Found:
    """The texts of a source, before they are split."""
    name, found = _read(source)
    if not found:
        raise InputError(f"expected texts in '{name}', found none")
    reads = [Read(example, content_digest(text.encode()) if text.strip() else "", "" if text.strip() else reason or "no text", None, len(text))
             for example, text, reason in found]
    opened = Source(name, lambda: iter(()), tuple(example for example, *_ in found), len(found), kind=KIND)
    return Found(opened, reads, {example.path: text for example, text, _ in found})


def tokens_of(text: str, tokens: str) -> list[str]:
    """The words or characters of a text, as `HOW` says."""
    shown, places = places_of(text, tokens)
    return [unicodedata.normalize("NFKC", shown[first:last].casefold()) for first, last in places]


def places_of(text: str, tokens: str) -> tuple[str, list[tuple[int, int]]]:
    """(a text as it is read, where each of its words or characters begins and ends in it)."""
    text = unicodedata.normalize("NFKC", text)
    if tokens == CHARACTERS:
        text = " ".join(text.split())
        return text, [(place, place + 1) for place in range(len(text))]
    return text, [found.span() for found in _word().finditer(text)]


@functools.cache
def _word() -> re.Pattern:
    """A word: letters, digits, underscores and the marks on them, without which many scripts would fall apart; or one other sign."""
    marks = [code for code in range(0x110000) if unicodedata.category(chr(code)).startswith("M")]
    ranges: list[list[int]] = []
    for code in marks:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    told = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
    return re.compile(rf"[\w{told}]+|[^\w\s{told}]")


def encode(texts: Sequence[str], facts: Mapping[str, Any]) -> np.ndarray:
    """Texts as numbers int32 (n, length), as the facts of a data set or a run say."""
    number = {token: place for place, token in enumerate(facts["vocabulary"])}
    ids = np.zeros((len(texts), facts["length"]), np.int32)
    for row, text in enumerate(texts):
        own = [number.get(token, UNKNOWN) for token in tokens_of(text, facts["tokens"])[:facts["length"]]]
        ids[row, :len(own)] = own
    return ids


def read_files(inputs: Sequence[str | Path], shape: tuple[int, ...], facts: Mapping[str, Any]) -> tuple[list[str], Callable]:
    """The texts that are given, and (range of rows) → for each its numbers, or None and why it cannot be read. A `str` is a text, a `Path` a file
    or a folder of .txt files.

    Raises:
        InputError: a file that is not there, one that is neither .txt nor a CSV with a column text, or a `str` that looks like the
            name of a file that is not there.
    """
    wrong = next((given for given in inputs if isinstance(given, str) and LIKE_A_PATH.fullmatch(given)), None)
    if wrong:
        raise InputError(f"expected texts, or files that are there, got '{wrong}', which looks like the name of a file, and there is none; check the path")
    rows_of_tables: dict[str, str] = {}  # texts of CSV files, by the names of their rows
    names: list[str | Path] = []
    for given in inputs:
        if isinstance(given, Path) and given.suffix.lower() == ".csv" and given.is_file():
            own = {f"{given}/{number}": text for number, text in _column(given)}
            rows_of_tables |= own
            names += list(own)
        elif isinstance(given, Path) and given.is_file() and given.suffix.lower() != ENDING:
            raise InputError(f"expected {ENDING} files with a text each, or a CSV with a column text, got '{given}'")
        else:
            names += [given] if isinstance(given, str) else map(Path, found_files([given], (ENDING,), "a text", "texts"))

    def read(rows):
        found: list[tuple[np.ndarray | None, str | None]] = []
        for name in (names[row] for row in rows):
            text, reason = _file(name) if isinstance(name, Path) else (_whole(rows_of_tables.get(name, name)), "")
            if not text.strip():
                found.append((None, f"'{name}': {reason or 'no text'}"))
                continue
            (ids,) = encode([text], facts)
            if _share_unknown(ids) > MANY_UNKNOWN:
                logger.warning("'%.60s': %d of %d %s are not in the vocabulary", name, np.sum(ids == UNKNOWN), np.sum(ids != PADDING), facts["tokens"])
            found.append((ids, None))
        return found

    return list(map(str, names)), read


def vocabulary_text(vocabulary: Sequence[str]) -> str:
    """The content of a vocabulary.txt: a word or character a line, whose number is that of its line, counted from 0."""
    return "\n".join(vocabulary) + "\n"


def vocabulary_digest(vocabulary: Sequence[str]) -> str:
    """By which a run knows its own."""
    return hashlib.sha256(vocabulary_text(vocabulary).encode()).hexdigest()


def _facts(texts: Sequence[str], tokens: str, most: int, length: int | None) -> dict[str, Any]:
    found = [tokens_of(text, tokens) for text in texts]
    counts = Counter(token for own in found for token in own)
    frequent = sorted((token for token, count in counts.items() if count >= LEAST[tokens]), key=lambda token: (-counts[token], token))
    length = length or max(1, min(LONGEST[tokens], max(map(len, found))))
    longer = sum(len(own) > length for own in found)
    if longer:
        logger.warning("%d of the %d training texts have more than %d %s: the rest of them is not read; --length takes more",
                       longer, len(found), length, tokens)
    return {"tokens": tokens, "length": length, "how": HOW[tokens], "vocabulary": [*NAMES, *frequent[:most]]}


def _share_unknown(ids: np.ndarray) -> float:
    """Of the numbers of texts."""
    return float(np.mean(ids[ids != PADDING] == UNKNOWN)) if (ids != PADDING).any() else 0.0


def _say_unknown(ids: np.ndarray) -> None:
    share = _share_unknown(ids)
    if share > MANY_UNKNOWN:
        logger.warning("%.0f %% of the tokens are not in the vocabulary: there are few training texts, or these are of another language, or of one "
                       "without blanks between words, for which --tokens characters is made", 100 * share)


def _read(source: Any) -> tuple[str, list[tuple[Example, str, str]]]:
    """(what opens the source again, examples with their texts, or why they cannot be read)."""
    if isinstance(source, (str, os.PathLike)):
        path = os.path.abspath(source)
        if path.lower().endswith(".csv") and os.path.isfile(path):
            return path, list(_read_csv(path))
        examples = list_class_folders(path)
        files = [_file(example.path) for example in examples]
        latin = sum(reason == LATIN for _, reason in files)
        if latin:
            logger.warning("%d of the %d files are not UTF-8: they are read as Latin-1", latin, len(files))
        return path, [(example, *file) for example, file in zip(examples, files, strict=True)]
    if hasattr(source, "columns"):
        rows = [dict(zip(source.columns, row, strict=True)) for row in source.itertuples(index=False)]
        return "", [_example("frame", number, row) for number, row in enumerate(rows)]
    if isinstance(source, tuple) and len(source) == 2 and not isinstance(source[0], str):
        texts, labels = list(source[0]), list(source[1])
        if len(texts) != len(labels):
            raise InputError(f"expected one label a text, got {len(texts)} texts and {len(labels)} labels")
        return "", [_example("list", number, {"text": text, "label": label}) for number, (text, label) in enumerate(zip(texts, labels, strict=True))]
    raise InputError(f"expected texts, got {type(source).__name__}; give a folder of class folders, a CSV, a frame or (texts, labels)")


def _read_csv(path: str) -> Iterator[tuple[Example, str, str]]:
    csv.field_size_limit(LARGEST_CELL)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"expected a CSV in UTF-8 with commas, but '{path}' cannot be read ({error}); save it so") from error
    for number, row in enumerate(rows, start=2):
        yield _example(path, number, row)


def _column(path: Path) -> list[tuple[int, str]]:
    """(number of the line, text) of a CSV with a column text, whether it has labels or not."""
    csv.field_size_limit(LARGEST_CELL)
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file)
        if "text" not in (reader.fieldnames or ()):
            raise InputError(f"expected a column text in '{path}', found {', '.join(reader.fieldnames or ()) or 'nothing'}")
        return [(number, row["text"] or "") for number, row in enumerate(reader, start=2)]


def _example(name: str, number: int, row: Mapping[str, Any]) -> tuple[Example, str, str]:
    missing = next((column for column in ("text", "label") if column not in row or row[column] is None), None)
    if missing:
        raise InputError(f"expected the columns text and label in '{name}', found no {missing} in row {number} ({', '.join(map(str, row))})")
    text, label = row["text"] if isinstance(row["text"], str) else cell_text(row["text"]), cell_text(row["label"])
    if not label or not is_plain(label):
        raise InputError(f"expected a label of one line in row {number} of '{name}', got {label!a} with {text!r:.40}")
    told = cell_text(row.get("split")).lower()
    if told and told not in SPLIT_NAMES:
        raise InputError(f"expected train, validation or test in the column split of '{name}', got '{told}' in row {number}")
    return Example(f"{name}/{number}", label, SPLIT_NAMES.get(told, ""), cell_text(row.get("group"))), _whole(text), ""


def _file(path: str | Path) -> tuple[str, str]:
    """(the text of a file, ""), or ("", why it is none); what is no UTF-8 is taken for Latin-1, in which every file can be read."""
    if Path(path).suffix.lower() != ENDING:
        return "", f"not a {ENDING} file"
    content = Path(path).read_bytes()
    if b"\0" in content:
        return "", "not a text: it holds the byte 0"
    try:
        return content.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return content.decode("latin-1"), LATIN


def _whole(text: str) -> str:
    """Without halves of characters, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode()
