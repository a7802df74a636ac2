"""MNIST in its idx files, compressed or not."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chainrule.data.splits import DataSplits, Split, check_labels
from chainrule.errors import DataFormatError, InputError, explain

__all__ = ["MNIST_FILES", "cut_validation", "find_mnist", "load_mnist", "read_idx"]

#: The four files, in the order: training images, training labels, test images, test labels.
MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_GET_AGAIN = "Delete it and get it again."
# The real training images hold 47 MB; a file that claims more than this is no MNIST.
_MAX_BYTES = 2**30


def find_mnist(folder: Path) -> list[Path | None]:
    """Find the four files under the names and in the places where they are usually kept.

    Parameters
    ----------
    folder : pathlib.Path
        The data folder. The files may also be in its ``mnist`` or ``MNIST/raw``.

    Returns
    -------
    list of pathlib.Path or None
        In the order of `MNIST_FILES`; None for each that is not there.
    """
    places = (folder, folder / "mnist", folder / "MNIST" / "raw")

    def find(name: str) -> Path | None:
        names = (f"{name}.gz", name, name.replace("-idx", ".idx"))
        paths = (place / n for place in places for n in names)
        return next((path for path in paths if path.is_file()), None)

    return [find(name) for name in MNIST_FILES]


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read one idx file of unsigned bytes.

    Parameters
    ----------
    path : pathlib.Path
        The file; gzip is recognised by its first bytes, not by its name.
    ndim : int
        Number of dimensions it must have: 3 for images, 1 for labels.

    Returns
    -------
    numpy.ndarray of uint8, ndim dimensions
        Read-only.

    Raises
    ------
    DataFormatError
        When the file is damaged, truncated, has bytes left over, or is no such idx file.

    Notes
    -----
    The format: two zero bytes, the type (8 is unsigned byte), the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the values in C order. No more is read than
    the dimensions announce, so that a small compressed file cannot fill the memory.
    """
    where = str(path)
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
    header_size = 4 + 4 * ndim
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            header = file.read(header_size)
            magic = bytes([0, 0, 8, ndim])
            if header[:4] != magic:
                rule = f"begin with {magic.hex(' ')}, an idx file of bytes in {ndim} dimensions"
                got = header[:4].hex(" ") or "an empty file"
                remedy = "It is another kind of file, or two files have swapped names."
                raise DataFormatError(explain(where, "file", rule, got, remedy))
            if len(header) < header_size:
                got = f"{len(header)} bytes"
                raise DataFormatError(explain(where, "header", "be complete", got, _GET_AGAIN))
            shape = struct.unpack(f">{ndim}I", header[4:])
            size = 1
            for length in shape:
                size *= length
            if size > _MAX_BYTES:
                rule = f"announce at most {_MAX_BYTES} bytes"
                raise DataFormatError(explain(where, "header", rule, shape, _GET_AGAIN))
            data = file.read(size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataFormatError(
            explain(where, "gzip stream", "be complete", error, _GET_AGAIN)
        ) from error
    if len(data) != size:
        got = f"{len(data)}" if len(data) < size else "more"
        rule = f"hold the {size} bytes of shape {shape} that its header announces"
        raise DataFormatError(explain(where, "file", rule, got, _GET_AGAIN))
    return np.frombuffer(data, np.uint8).reshape(shape)


def load_mnist(paths: Sequence[Path], num_validation: int | None = None) -> DataSplits:
    """Load MNIST, or a data set in the same files such as Fashion-MNIST.

    Parameters
    ----------
    paths : sequence of four pathlib.Path
        In the order of `MNIST_FILES`.
    num_validation : int, optional
        Size of the validation split, cut from the end of the training files. By default 1,000,
        or a tenth of a file with fewer than 10,000 images.

    Returns
    -------
    DataSplits
        Images (N, 1, 28, 28) uint8; of the official files 59,000, 1,000 and 10,000.

    Raises
    ------
    DataFormatError
        When a file is damaged or the files do not fit each other.
    """
    x_train, y_train = _images_and_labels(paths[0], paths[1])
    x_test, y_test = _images_and_labels(paths[2], paths[3])
    train, val = cut_validation("mnist", x_train, y_train, num_validation)
    classes = tuple(str(digit) for digit in range(10))
    return DataSplits("mnist", train, val, Split(x_test, y_test), classes)


def _images_and_labels(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    x = read_idx(images, 3)
    y = read_idx(labels, 1).astype(np.int64)
    if x.shape[1:] != (28, 28):
        rule = "have 28 x 28 pixels"
        raise DataFormatError(explain(str(images), "images", rule, x.shape[1:], _GET_AGAIN))
    if len(x) != len(y):
        rule = f"be as many as the images in {images.name}, {len(x)}"
        remedy = "The two files do not belong together; get both again."
        raise DataFormatError(explain(str(labels), "labels", rule, len(y), remedy))
    check_labels(str(labels), y, 10)
    return x.reshape(-1, 1, 28, 28), y


def cut_validation(
    name: str, x: np.ndarray, y: np.ndarray, num_validation: int | None
) -> tuple[Split, Split]:
    """Cut the validation split from the end of the training examples, as the course does.

    Parameters
    ----------
    name : str
        The data set, for messages.
    x, y : numpy.ndarray
        Training examples (N, ...) and labels (N,).
    num_validation : int, optional
        Size of the validation split; by default 1,000, or N // 10, at least 1, where
        N is below 10,000.

    Returns
    -------
    train, val : Split
        Views of the arrays.

    Raises
    ------
    InputError
        When `num_validation` is below 1 or leaves nothing for training.
    """
    count = min(1000, max(1, len(y) // 10)) if num_validation is None else num_validation
    if not 1 <= count < len(y):
        rule = f"lie in 1..{len(y) - 1}"
        raise InputError(explain(name, "num_validation", rule, count))
    cut = len(y) - count
    return Split(x[:cut], y[:cut]), Split(x[cut:], y[cut:])
