"""Every photo of a source, decoded once into the store, and what was found out about it."""

import errno
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfcnn.data.photo import Facts, Photo, decode_photo, pixels_key, reason_of
from tfcnn.data.sources import Example, Source
from tfcnn.data.store import Store, cache_bound, cache_folder, trim_cache

PART_BYTES, PART_PHOTOS = 2**26, 2000  # pixels and photos in one part of the store: what a killed process loses at most


class Read(NamedTuple):
    """One example after its photo was read.

    Attributes:
        example: where it came from.
        digest: SHA-256 of its content; "" where it cannot be used.
        reason: why it cannot be used, or "".
        facts: what its file says; None where the photo was in the store already, or cannot be used.
        bytes: size of its content.
    """

    example: Example
    digest: str
    reason: str
    facts: Facts | None
    bytes: int


@dataclass(frozen=True)
class Photos:
    """All examples of a source, and the stores that hold their pixels and thumbnails."""

    reads: list[Read]
    pixels: Store
    thumbnails: Store


def read_photos(source: Source, image_size: int, geometry: str, *, advance: Callable = lambda: None, always_decode: bool = False) -> Photos:
    """Reads every example; those that the store does not hold are decoded, in parallel, and put into it.

    The parts of the store follow the order of the source, so a build that was killed goes on where it stopped and ends with
    the same files. At most two parts are in memory.

    Args:
        source: from `open_source`.
        image_size: side of the square in pixels.
        geometry: a name of GEOMETRIES.
        advance: called after each example.
        always_decode: decode what the store holds too, for the facts.
    """
    trim_cache(cache_bound())
    key = f"{pixels_key(geometry)}-{image_size}"
    photos = Photos([], Store(cache_folder() / "photos" / key), Store(cache_folder() / "thumbnails" / key))
    part_size = min(PART_PHOTOS, max(1, PART_BYTES // (3 * image_size**2)))

    def read(example: Example, content) -> tuple[Read, Photo | None]:
        return _read(example, content, image_size, geometry, None if always_decode else photos)

    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged EXIF block is worth a warning to Pillow; the pixels are whole
        waiting: list[Future] = []
        try:
            for part in _parts(source.read(), part_size):
                started = [pool.submit(read, *pair) for pair in part]  # they are decoded while the part before is written
                _store_part(waiting, photos, advance)
                waiting = started
            _store_part(waiting, photos, advance)
        except BaseException:  # Ctrl-C too
            pool.shutdown(cancel_futures=True)
            raise
    return photos


def _parts(pairs: Iterator[tuple], size: int) -> Iterator[list]:
    """At most `size` examples at a time, and at most PART_BYTES of content that lies in memory already."""
    part, held = [], 0
    for example, content in pairs:
        part.append((example, content))
        held += content.nbytes if isinstance(content, np.ndarray) else len(content) if isinstance(content, bytes) else 0
        if len(part) == size or held >= PART_BYTES:
            yield part
            part, held = [], 0
    if part:
        yield part


def _store_part(futures: list[Future], photos: Photos, advance: Callable) -> None:
    fresh: dict[str, Photo] = {}
    for future in futures:
        read, photo = future.result()
        photos.reads.append(read)
        if photo is not None:
            fresh[read.digest] = photo
        advance()
    futures.clear()
    for store, rows in ((photos.pixels, {d: p.pixels for d, p in fresh.items()}), (photos.thumbnails, {d: p.thumbnail for d, p in fresh.items()})):
        missing = [digest for digest in rows if digest not in store]
        if missing:
            store.add(missing, [rows[digest] for digest in missing])


def _read(example: Example, content, image_size: int, geometry: str, photos: Photos | None) -> tuple[Read, Photo | None]:
    """What is known of one example, and its photo where it had to be decoded."""
    size = 0
    try:
        if isinstance(content, str):
            with open(content, "rb") as file:
                content = file.read()
        size = content.nbytes if isinstance(content, np.ndarray) else len(content)
        digest = content_digest(content)
        if photos is not None and digest in photos.pixels and digest in photos.thumbnails:
            return Read(example, digest, "", None, size), None
        photo = decode_photo(content, image_size, geometry)
        return Read(example, digest, "", photo.facts, size), photo
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
        if isinstance(error, OSError) and error.errno not in (None, errno.EACCES, errno.EPERM, errno.ENOENT):
            raise  # the machine's trouble, not the file's: a lost network drive, too many open files
        return Read(example, "", "empty: the file has no content" if content == b"" else reason_of(error), None, size), None


def content_digest(content: bytes | np.ndarray) -> str:
    """SHA-256 of the bytes of a file, or of the shape and the bytes of pixels."""
    if isinstance(content, np.ndarray):
        return hashlib.sha256(str(content.shape).encode() + content.tobytes()).hexdigest()
    return hashlib.sha256(content).hexdigest()
