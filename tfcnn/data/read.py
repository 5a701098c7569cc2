"""Every photo of a source, decoded once into the store, and what was found out about it."""

import errno
import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfcnn.data.photo import Facts, Photo, decode_photo, pixels_key, reason_of
from tfcnn.data.sources import Example, Source
from tfcnn.data.store import Store, cache_bound, cache_folder, trim_cache
from tfcnn.errors import InputError
from tfcnn.workers import count_of, from_all, index_of

PART_BYTES, PART_PHOTOS = 2**26, 2000  # pixels and photos in one part of the store: what a killed process loses at most

logger = logging.getLogger(__name__)


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


def read_photos(source: Source, image_size: int, geometry: str, *, advance: Callable = lambda: None, always_decode: bool = False,
                strategy=None) -> Photos:
    """Reads every example; those that the store does not hold are decoded, in parallel, and put into it.

    The parts of the store follow the order of the source, so a build that was killed goes on where it stopped and ends with
    the same files. At most two parts are in memory.

    Args:
        source: from `open_source`.
        image_size: side of the square in pixels.
        geometry: a name of GEOMETRIES.
        advance: called after each example.
        always_decode: decode what the store holds too, for the facts.
        strategy: of several workers, which have to call this together: each reads its share of the parts. Where they share the cache,
            none reads more.
    """
    trim_cache(cache_bound())
    photos = _open_stores(image_size, geometry)
    part_size = min(PART_PHOTOS, max(1, PART_BYTES // (3 * image_size**2)))
    if count_of(strategy) == 1:
        return _read_parts(_parts(source.read(), part_size), photos, image_size, geometry, advance, always_decode=always_decode)
    part_size = min(part_size, -(-(source.count or part_size) // count_of(strategy)))
    examples: list[list[Example]] = []  # of each part

    def own_parts():
        for number, part in enumerate(_parts(source.read(), part_size)):
            examples.append([example for example, _ in part])
            if number % count_of(strategy) == index_of(strategy):
                yield part
            if number % count_of(strategy) == count_of(strategy) - 1:  # a worker that is gone is noticed now, not when all is decoded
                from_all(strategy, number)

    _read_parts(own_parts(), photos, image_size, geometry, advance, always_decode=always_decode)
    said = from_all(strategy, [[r.digest, r.reason, r.bytes] for r in photos.reads])
    if sum(map(len, said)) != sum(map(len, examples)):
        raise InputError(f"expected the same data on all {len(said)} workers, but together they read {sum(map(len, said))} examples where this one counts "
                         f"{sum(map(len, examples))}; give all workers the same data")
    told = [iter(of_worker) for of_worker in said]
    photos = _open_stores(image_size, geometry)  # with what the others added
    for number, part in enumerate(examples):
        for example in part:
            digest, reason, size = next(told[number % len(told)])
            photos.reads.append(Read(example, digest, reason, None, size))
    _read_lacking(source, photos, part_size, image_size, geometry)
    return photos


def _read_lacking(source: Source, photos: Photos, part_size: int, image_size: int, geometry: str) -> None:
    """Reads what other workers put into a cache of their own."""
    lacks = [bool(read.digest) and not (read.digest in photos.pixels and read.digest in photos.thumbnails) for read in photos.reads]
    if any(lacks):
        logger.warning("%d photos that other workers decoded are not in the cache here, so this worker decodes them too; let all workers share a folder "
                       "with TFCNN_CACHE", sum(lacks))
        pairs = (pair for pair, lacking in zip(source.read(), lacks, strict=True) if lacking)
        _read_parts(_parts(pairs, part_size), Photos([], photos.pixels, photos.thumbnails), image_size, geometry, lambda: None)


def _open_stores(image_size: int, geometry: str) -> Photos:
    key = f"{pixels_key(geometry)}-{image_size}"
    return Photos([], Store(cache_folder() / "photos" / key), Store(cache_folder() / "thumbnails" / key))


def _read_parts(parts: Iterable[list], photos: Photos, image_size: int, geometry: str, advance: Callable, *, always_decode: bool = False) -> Photos:
    """Reads and stores examples, a part at a time."""
    def read(example: Example, content) -> tuple[Read, Photo | None]:
        return _read(example, content, image_size, geometry, None if always_decode else photos)

    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged EXIF block is worth a warning to Pillow; the pixels are whole
        waiting: list[Future] = []
        try:
            for part in parts:
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
