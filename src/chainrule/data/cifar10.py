"""CIFAR-10 in its official files: the archive, or the folder it unpacks to."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from chainrule.data.idx import cut_validation
from chainrule.data.pickled import read_pickled_batch
from chainrule.data.splits import DataSplits, Split, check_labels
from chainrule.errors import DataFormatError, explain

__all__ = ["CIFAR10_ARCHIVE", "CIFAR10_CLASSES", "find_cifar10", "load_cifar10"]

CIFAR10_ARCHIVE = "cifar-10-python.tar.gz"
_FOLDER = "cifar-10-batches-py"
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_TEST = "test_batch"
_BATCHES = (*_TRAIN, _TEST)
_META = "batches.meta"
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_GET_AGAIN = "Delete it and get it again."
# The official archive unpacks to 186 MB; what goes on beyond this is a decompression bomb.
_MAX_UNPACKED = 400 * 2**20
_MAX_MEMBER = 64 * 2**20


def find_cifar10(folder: Path) -> Path | None:
    """Find CIFAR-10 in a data folder.

    Parameters
    ----------
    folder : pathlib.Path
        The data folder; or the unpacked folder itself.

    Returns
    -------
    pathlib.Path or None
        The unpacked folder if all its files are there, else the archive, else None.
    """
    for place in (folder / _FOLDER, folder):
        if all((place / name).is_file() for name in _BATCHES):
            return place
    archive = folder / CIFAR10_ARCHIVE
    return archive if archive.is_file() else None


def load_cifar10(path: Path, num_validation: int | None = None) -> DataSplits:
    """Load CIFAR-10 from the archive or from the unpacked folder.

    Parameters
    ----------
    path : pathlib.Path
        ``cifar-10-python.tar.gz``, or a folder with the batches.
    num_validation : int, optional
        Size of the validation split, cut from the end of the five training batches. By default
        1,000, as in CS231n: images 0..48,999 for training, 49,000..49,999 for validation.

    Returns
    -------
    DataSplits
        Images (N, 3, 32, 32) uint8; 49,000, 1,000 and 10,000 of them.

    Raises
    ------
    DataFormatError
        When a file is damaged, truncated, mislabelled or hostile.

    Notes
    -----
    The archive is read in memory and never unpacked to disk; see `chainrule.data.pickled` for
    how the pickles in it are read. 185 MB of memory, of which 31 MB are given back.
    """
    batches = _Batches()
    members = _folder_members(path) if path.is_dir() else _archive_members(path)
    for name, where, data in members:
        batches.add(name, where, read_pickled_batch(where, data))
    x, y = batches.finish(path)
    last = 5 * len(y) // 6
    train, val = cut_validation("cifar10", x[:last], y[:last], num_validation)
    return DataSplits("cifar10", train, val, Split(x[last:], y[last:]), CIFAR10_CLASSES)


class _Batches:
    """Puts batches in their places as they come, in whichever order the archive has them."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.places: dict[str, str] = {}
        self.expected = 10_000
        self.x = np.empty((0, 3, 32, 32), np.uint8)
        self.y = np.empty(0, np.int64)

    def add(self, name: str, where: str, content: dict[str, Any]) -> None:
        if name == _META:
            self.expected = _check_meta(where, content)
            return
        data, labels = _check_batch(where, content)
        rows = len(labels)
        if not self.counts:
            self.x = np.empty((6 * rows, 3, 32, 32), np.uint8)
            self.y = np.empty(6 * rows, np.int64)
        self.counts[name] = rows
        self.places[name] = where
        if 6 * rows == len(self.y):  # `finish` refuses batches of different sizes
            part = slice(_BATCHES.index(name) * rows, (_BATCHES.index(name) + 1) * rows)
            self.x[part] = data.reshape(rows, 3, 32, 32)
            self.y[part] = labels

    def finish(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        for name in _BATCHES:
            if name not in self.counts:
                rule = f"contain {name}"
                raise DataFormatError(explain(str(path), "data", rule, "none", _GET_AGAIN))
            if self.counts[name] != self.expected:
                rule = f"hold {self.expected} images, as {_META} says"
                got = self.counts[name]
                raise DataFormatError(explain(self.places[name], "batch", rule, got, _GET_AGAIN))
        return self.x, self.y


def _check_meta(where: str, content: dict[str, Any]) -> int:
    """Return the number of images in a batch."""
    count = content.get("num_cases_per_batch")
    if type(count) is not int or not 1 <= count <= 20_000:
        rule = "be a number from 1 to 20000"
        raise DataFormatError(explain(where, "num_cases_per_batch", rule, _brief(count)))
    names = content.get("label_names")
    expected = [name.encode() for name in CIFAR10_CLASSES]
    if not isinstance(names, list) or names not in (expected, list(CIFAR10_CLASSES)):
        rule = f"be the ten classes of CIFAR-10, {', '.join(CIFAR10_CLASSES)}"
        got = "other names" if isinstance(names, list) else _brief(names)
        raise DataFormatError(explain(where, "label_names", rule, got))
    return count


def _check_batch(where: str, content: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return data of shape (N, 3072), uint8, and labels of shape (N,), int64."""
    data = content.get("data")
    if not isinstance(data, np.ndarray) or data.shape[1:] != (3072,):
        rule = "be an array of shape (N, 3072), images of 3 x 32 x 32"
        raise DataFormatError(explain(where, "data", rule, _brief(data), _GET_AGAIN))
    labels = content.get("labels")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        remedy = "CIFAR-100 has others; the rest is damage." if "fine_labels" in content else ""
        rule = "be a list of integers"
        raise DataFormatError(explain(where, "labels", rule, _brief(labels), remedy))
    if len(labels) != len(data):
        rule = f"be as many as the images, {len(data)}"
        raise DataFormatError(explain(where, "labels", rule, len(labels), _GET_AGAIN))
    y = np.array(labels, dtype=np.int64)
    check_labels(where, y, 10)
    return data, y


def _brief(value: object) -> str:
    """Say what a value read from a file is, without trusting its contents."""
    if value is None:
        return "none"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return str(value) if type(value) is int else f"a {type(value).__name__}"


def _folder_members(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    for name in (_META, *_BATCHES):
        path = folder / name
        if name == _META and not path.is_file():
            continue
        if path.stat().st_size > _MAX_MEMBER:
            rule = f"have at most {_MAX_MEMBER} bytes"
            got = path.stat().st_size
            raise DataFormatError(explain(str(path), "file", rule, got, _GET_AGAIN))
        yield name, str(path), path.read_bytes()


def _archive_members(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    """Stream the wanted members; their paths are only compared, never used."""
    try:
        with gzip.open(archive) as unpacked:
            limited = _LimitedReader(unpacked, str(archive))
            # A stream ("r|") is read once from front to back, without seeking.
            with tarfile.open(fileobj=limited, mode="r|", bufsize=2**20) as tar:
                for member in tar:
                    name = PurePosixPath(member.name).name
                    if not member.isreg() or name not in (_META, *_BATCHES):
                        continue
                    where = f"{archive}: {name}"
                    content = tar.extractfile(member)
                    if content is None or member.size > _MAX_MEMBER:
                        rule = f"have at most {_MAX_MEMBER} bytes"
                        raise DataFormatError(explain(where, "member", rule, member.size))
                    yield name, where, content.read()
    except (EOFError, OSError, zlib.error, tarfile.TarError) as error:
        rule = "be a complete .tar.gz file"
        raise DataFormatError(explain(str(archive), "archive", rule, error, _GET_AGAIN)) from error


class _LimitedReader(io.RawIOBase):
    """Passes on what another stream holds, up to `_MAX_UNPACKED` bytes."""

    def __init__(self, stream: gzip.GzipFile, where: str) -> None:
        self.stream = stream
        self.where = where
        self.left = _MAX_UNPACKED

    def read(self, size: int = -1) -> bytes:
        self.left -= size if size >= 0 else self.left + 1
        if self.left < 0:
            rule = f"unpack to at most {_MAX_UNPACKED} bytes"
            raise DataFormatError(explain(self.where, "archive", rule, "more", _GET_AGAIN))
        return self.stream.read(size)
