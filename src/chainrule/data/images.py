"""Image files: a folder per class to learn from, single files to predict."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chainrule.data.splits import DataSplits, Split, fill_splits
from chainrule.errors import (
    ChainruleError,
    DataFormatError,
    DataMissingError,
    InputError,
    ShapeError,
    explain,
)

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["load_image_folder", "read_images"]

# Formats whose decoders read pixels and nothing else (EPS, for one, runs Ghostscript).
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_MAX_PIXELS = 50_000_000  # of one image before resizing; a large camera's
_MAX_BYTES = 4 * 2**30
_GREY_MODES = {"1", "L", "LA"}
_EIGHT_BIT_MODES = _GREY_MODES | {"RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB"}


def load_image_folder(
    folder: Path,
    num_validation: int | None = None,
    resize: int | tuple[int, int] | None = None,
) -> DataSplits:
    """Load a folder that has a sub-folder of image files for each class.

    Parameters
    ----------
    folder : pathlib.Path
        With the class folders directly inside; or with ``train`` and perhaps ``val`` and
        ``test``, each with the class folders inside.
    num_validation : int, optional
        Size of the validation split where there is no ``val``, by default a tenth.
    resize : int or (height, width), optional
        Bring all images to this size; an int is the side of a square.

    Returns
    -------
    DataSplits
        Images (N, C, H, W) uint8: C is 1 if all files are grey, else 3. Classes are the names of
        the folders, sorted.

    Raises
    ------
    DataMissingError
        When there are no class folders with images.
    DataFormatError
        When a file cannot be read as an image of 8 bits a channel, or an image has another size
        than the first and `resize` is not given.
    InputError
        When `resize` or `num_validation` is out of range.

    Notes
    -----
    Read are the files directly in a class folder whose suffix is one of .png .jpg .jpeg .bmp
    .gif .webp .tif .tiff .ppm .pgm, in the order of their names; other files and names that
    begin with a dot are passed over. Rotation marks of cameras are obeyed, transparency is
    dropped, of animations the first frame is taken. Resizing is bilinear over the area that
    makes up a pixel, and does not keep the aspect.

    What is missing of validation and test is cut from the training images, stratified, in a
    fixed order: a tenth and a fifth. See `chainrule.data.stratified_order`.
    """
    size = _check_resize(resize)
    roots = _split_folders(folder)
    classes = tuple(path.name for path in _class_folders(roots["train"]))
    if not classes:
        rule = "contain a sub-folder of image files for each class"
        raise DataMissingError(explain(str(roots["train"]), "folder", rule, "none"))
    files = {part: _labelled_files(root, classes) for part, root in roots.items()}
    everything = [path for part in files.values() for path, _ in part]
    images = _read_all(everything, size)
    given, start = {}, 0
    for part, pairs in files.items():
        labels = np.array([label for _, label in pairs], dtype=np.int64)
        given[part] = Split(images[start : start + len(pairs)], labels)
        start += len(pairs)
    train, val, test = fill_splits(str(folder), given, num_validation)
    return DataSplits(folder.resolve().name, train, val, test, classes)


def read_images(
    paths: Iterable[str | os.PathLike[str]], input_shape: Sequence[int], resize: bool = False
) -> np.ndarray:
    """Read image files for a network.

    Parameters
    ----------
    paths : iterable of path
        The files.
    input_shape : (C, H, W)
        What the network was trained on: C is 1 or 3; colour is turned to grey and grey to
        colour as needed.
    resize : bool, default False
        Bring images of another size to (H, W) instead of refusing them.

    Returns
    -------
    numpy.ndarray of uint8, shape (N, C, H, W)
        In the order of `paths`.

    Raises
    ------
    ShapeError
        When `input_shape` is not that of images, or an image has another size.
    DataMissingError
        When a file is not there.
    DataFormatError
        When a file cannot be read as an image of 8 bits a channel.

    Notes
    -----
    Grey is ``0.299 R + 0.587 G + 0.114 B`` (ITU-R 601-2), rounded.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> path = Path(tempfile.mkdtemp()) / "grey.png"
    >>> Image.new("L", (4, 2), 7).save(path)
    >>> read_images([path], (3, 2, 4))[0, :, 0, 0]
    array([7, 7, 7], dtype=uint8)
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or shape[0] not in (1, 3):
        rule = "be (C, H, W) with 1 or 3 channels"
        remedy = "A network trained on features cannot read image files."
        raise ShapeError(explain("read_images", "input_shape", rule, shape, remedy))
    files = [Path(path) for path in paths]
    out = np.empty((len(files), *shape), np.uint8)
    for row, path in zip(out, files, strict=True):
        if not path.is_file():
            raise DataMissingError(explain("read_images", str(path), "be a file", "nothing there"))
        with _open_image(path) as image:
            if image.size != (shape[2], shape[1]) and not resize:
                rule = f"be {shape[1]} pixels high and {shape[2]} wide"
                got = f"{image.height} x {image.width}"
                raise ShapeError(explain(str(path), "image", rule, got, "Or ask for resizing."))
            row[...] = _pixels(image, shape[0], (shape[1], shape[2]))
    return out


def _check_resize(resize: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if resize is None:
        return None
    size = (resize, resize) if isinstance(resize, int) else tuple(resize)
    if len(size) != 2 or not all(1 <= side <= 4096 for side in size):
        rule = "be a side, or a height and width, in 1..4096"
        raise InputError(explain("load", "resize", rule, resize))
    return size


def _class_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _split_folders(folder: Path) -> dict[str, Path]:
    """Map train, and val and test if they are there, to the folders that hold class folders."""
    if not _class_folders(folder / "train"):
        return {"train": folder}
    names = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
    roots: dict[str, Path] = {}
    for path in _class_folders(folder):
        part = names.get(path.name)
        if part is None or part in roots:
            rule = "be train, val and test, one of each"
            raise DataFormatError(explain(str(folder), "folders", rule, repr(path.name)))
        roots[part] = path
    return roots


def _labelled_files(root: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    pairs = []
    for folder in _class_folders(root):
        if folder.name not in classes:
            rule = f"be one of the training classes, {', '.join(classes)}"
            raise DataFormatError(explain(str(root), "class folder", rule, repr(folder.name)))
        label = classes.index(folder.name)
        found = [
            (path, label)
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
        ]
        if not found:
            rule = f"contain image files ({' '.join(sorted(_SUFFIXES))})"
            raise DataMissingError(explain(str(folder), "folder", rule, "none"))
        pairs += found
    if not pairs:
        raise DataMissingError(explain(str(root), "folder", "contain class folders", "none"))
    return pairs


def _read_all(paths: list[Path], size: tuple[int, int] | None) -> np.ndarray:
    """Return (N, C, H, W); all headers are read first, so that the array is made once."""
    is_grey = True
    shapes = []
    for path in paths:
        with _open_image(path) as image:
            is_grey = is_grey and image.mode in _GREY_MODES
            shapes.append((image.height, image.width))
    height, width = size or shapes[0]
    for path, shape in zip(paths, shapes, strict=True):
        if size is None and shape != shapes[0]:
            rule = f"be {height} x {width} pixels, as {paths[0].name} is"
            got = f"{shape[0]} x {shape[1]}"
            remedy = "Give all images one size, or set the option resize."
            raise DataFormatError(explain(str(path), "image", rule, got, remedy))
    channels = 1 if is_grey else 3
    if len(paths) * channels * height * width > _MAX_BYTES:
        rule = f"take at most {_MAX_BYTES} bytes of memory"
        got = f"{len(paths)} of {channels} x {height} x {width}"
        remedy = "Set the option resize to a smaller size."
        raise DataFormatError(explain(str(paths[0].parent.parent), "images", rule, got, remedy))
    out = np.empty((len(paths), channels, height, width), np.uint8)
    for row, path in zip(out, paths, strict=True):
        with _open_image(path) as image:
            row[...] = _pixels(image, channels, (height, width))
    return out


@contextmanager
def _open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image, upright, and turn all that can go wrong inside into one clear error."""
    from PIL import ExifTags, Image, ImageOps

    where = str(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of oddities in metadata, which do not matter, and of images that
            # unpack to excessive size, which are refused below.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > _MAX_PIXELS:
                    rule = f"have at most {_MAX_PIXELS} pixels"
                    got = f"{image.height} x {image.width}"
                    raise DataFormatError(explain(where, "image", rule, got))
                if image.mode not in _EIGHT_BIT_MODES:
                    rule = "have 8 bits a channel"
                    got = f"Pillow's mode {image.mode}"
                    raise DataFormatError(explain(where, "image", rule, got, "Convert it first."))
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
                yield ImageOps.exif_transpose(image) if turned else image
    except ChainruleError:
        raise
    except Exception as error:  # what decoders raise on damaged files is not a closed list
        rule = "be a readable image (PNG, JPEG, BMP, GIF, WEBP, TIFF or PPM)"
        raise DataFormatError(explain(where, "file", rule, error)) from error


def _pixels(image: Image.Image, channels: int, size: tuple[int, int]) -> np.ndarray:
    """Return (C, H, W)."""
    from PIL import Image

    converted = image.convert("L" if channels == 1 else "RGB")
    if converted.size != (size[1], size[0]):
        converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(converted, np.uint8).reshape(*size, channels).transpose(2, 0, 1)
