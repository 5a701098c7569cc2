"""One volume from its files: NIfTI in one frame whatever its axes and spacing, a folder of slices, `.npy`.

The frame has the axes (depth, height, width): from the feet to the head, from back to front, from left to right (NIfTI's RAS, turned round).
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.pictures import in_order, size_of
from tfcnn.errors import InputError
from tfcnn.kinds import KINDS

ENDINGS = KINDS["volume"].endings
ARRAY = (".npy",)
NIFTI = tuple(ending for ending in ENDINGS if ending not in ARRAY)
SLICES = "slices"


class Measured(NamedTuple):
    """What a file says of its volume before it is read: voxels (depth, height, width), channels, and mm from voxel to voxel on each axis, or None."""

    shape: tuple[int, int, int]
    channels: int
    spacing: tuple[float, float, float] | None


def measure(files: Sequence[str]) -> Measured:
    """What the header of a volume says; one file, or the slices of a volume in any order.

    Raises:
        InputError: why it cannot be a volume.
    """
    if files[0].lower().endswith(NIFTI):
        image = _open_nifti(files[0])
        return Measured(image.shape[::-1], 1, _spacing(image))
    if files[0].lower().endswith(ARRAY):
        values = _open_array(files[0])
        return Measured(values.shape[:3], values.shape[3], None)
    width, height = size_of(in_order(files, SLICES), SLICES)
    return Measured((len(files), height, width), 1, None)


def read_volume(files: Sequence[str], spacing: Sequence[float] | None) -> np.ndarray:
    """Intensities float32 (depth, height, width, channels) of a volume in the frame, resampled to a spacing in mm where one is given.

    Raises:
        InputError: why it cannot be used.
    """
    if files[0].lower().endswith(NIFTI):
        return _read_nifti(files[0], spacing)[..., None]
    if files[0].lower().endswith(ARRAY):
        return np.array(_open_array(files[0]), np.float32)
    from PIL import Image

    slices = []
    for file in in_order(files, SLICES):
        with Image.open(file) as picture:
            slices.append(np.asarray(picture if picture.mode in ("L", "F", "I", "I;16") else picture.convert("L"), np.float32))
    return np.stack(slices)[..., None]


def fault_of(values: np.ndarray) -> str:
    """Why intensities cannot be used, or ""."""
    if not values.size:
        return "no voxels"
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return "NaN intensities" if np.isnan(values).any() else "infinite intensities"
    return ""


def fit(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """A volume (depth, height, width, channels) cut to a size around its middle, and where it is smaller continued by its lowest intensity."""
    lowest, axes = values.min(), range(3)
    starts = [max(0, (values.shape[axis] - size[axis]) // 2) for axis in axes]
    values = values[tuple(slice(start, start + length) for start, length in zip(starts, size, strict=True))]
    lacks = [size[axis] - values.shape[axis] for axis in axes]
    return np.pad(values, [*((lack // 2, lack - lack // 2) for lack in lacks), (0, 0)], constant_values=lowest)


def _open_array(file: str) -> np.ndarray:
    values = np.load(file, mmap_mode="r", allow_pickle=False)
    if values.ndim not in (3, 4) or values.dtype.kind not in "uifb":
        raise InputError(f"expected numbers of shape (depth, height, width) or with channels behind, got {values.dtype} of shape={values.shape}")
    return values if values.ndim == 4 else values[..., None]


def shape_at(shape: Sequence[int], own: Sequence[float], spacing: Sequence[float]) -> tuple[int, ...]:
    """Voxels of a volume at another spacing, from the middle of its first to that of its last one."""
    return tuple(round((side - 1) * mm / wanted) + 1 for side, mm, wanted in zip(shape, own, spacing, strict=True))


def _open_nifti(file: str):
    """A `nibabel` image with its axes in the order and direction of the frame, its intensities not yet read."""
    import nibabel

    logging.getLogger("nibabel.global").setLevel(logging.ERROR)  # of headers that it mends it says so itself
    image: Any = nibabel.load(file)
    with nibabel.openers.ImageOpener(file) as content:
        pixdim = type(image.header).from_fileobj(content, check=False)["pixdim"][1:4]  # as it is written; of missing ones nibabel makes 1
    if len(image.shape) == 4 and image.shape[3] == 1:
        image = nibabel.funcs.squeeze_image(image)
    if len(image.shape) != 3:
        raise InputError(f"expected a volume of three dimensions, got shape={image.shape}; split it into volumes")
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all() and np.isfinite(image.affine).all() and abs(np.linalg.det(image.affine[:3, :3])) > 1e-9):
        raise InputError("expected the spacing of the voxels in the header, found none")
    return nibabel.as_closest_canonical(image)


def _spacing(image) -> tuple[float, float, float]:
    width, height, depth = (float(size) for size in np.sqrt((image.affine[:3, :3] ** 2).sum(axis=0)))
    return depth, height, width


def _read_nifti(file: str, spacing: Sequence[float] | None) -> np.ndarray:
    from nibabel.processing import resample_from_to

    image = _open_nifti(file)
    own = _spacing(image)
    if spacing is not None and not np.allclose(own, spacing, rtol=1e-3):
        shape, affine = shape_at(image.shape[::-1], own, spacing)[::-1], image.affine.copy()
        affine[:3, :3] *= np.array(spacing[::-1]) / np.array(own[::-1])  # along its own axes, so that a volume that lies askew has no empty corners
        image = resample_from_to(image, (shape, affine), order=1, mode="nearest")
    return np.ascontiguousarray(image.get_fdata(dtype=np.float32).transpose(2, 1, 0))
