"""Finding CIFAR-10 for the notebooks: where they point to, or in chainrule's data folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from chainrule.data import data_folder
from chainrule.data.cifar10 import find_cifar10, load_cifar10
from chainrule.data.pickled import read_pickled_batch
from chainrule.errors import DataFormatError, DataMissingError, explain

__all__ = ["DEFAULT_ROOT", "images_last", "locate_cifar10", "read_batch", "read_cifar10"]

DEFAULT_ROOT = "cs231n/datasets/cifar-10-batches-py"
_ROWS = 2000  # images converted to float64 at a time: 49 MB


def locate_cifar10(where: str, root: str | os.PathLike[str]) -> Path:
    """Find CIFAR-10 where a notebook says, or in chainrule's data folder.

    Parameters
    ----------
    where : str
        The course's function, for messages.
    root : path
        The folder that is named: the unpacked one, or one that holds it or the archive.

    Returns
    -------
    Path
        The unpacked folder or the archive.

    Raises
    ------
    DataMissingError
        If it is in neither place.
    """
    named, kept = Path(root).expanduser(), data_folder()
    found = find_cifar10(named) or find_cifar10(kept)
    if found is None:
        rule = f"be in {named} or in chainrule's data folder, {kept}"
        remedy = (
            "Run `chainrule data fetch cifar10`, or set CHAINRULE_DATA to a folder that has it."
        )
        raise DataMissingError(explain(where, "CIFAR-10", rule, "nothing there", remedy))
    return found


def read_cifar10(
    where: str, root: str | os.PathLike[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read CIFAR-10 as bytes.

    Parameters
    ----------
    where : str
        The course's function, for messages.
    root : path
        The folder that the notebook names. If CIFAR-10 is not there, it is looked for in
        chainrule's data folder, unpacked or as the archive.

    Returns
    -------
    x_train : ndarray of uint8, shape (50000, 3, 32, 32)
        Training images in the official order.
    y_train : ndarray of int64, shape (50000,)
        Their labels.
    x_test : ndarray of uint8, shape (10000, 3, 32, 32)
        Test images.
    y_test : ndarray of int64, shape (10000,)
        Their labels.

    Raises
    ------
    DataMissingError
        If it is in neither place.
    DataFormatError
        If a file is damaged or hostile; pickles are read without running them.
    """
    # Splits cut the last of the training images off for validation; the course cuts by itself.
    splits = load_cifar10(locate_cifar10(where, root), num_validation=1)
    x_train = np.concatenate([splits.train.x, splits.val.x])
    y_train = np.concatenate([splits.train.y, splits.val.y])
    return x_train, y_train, splits.test.x, splits.test.y.copy()


def read_batch(where: str, path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read one batch of CIFAR-10 as bytes.

    Parameters
    ----------
    where : str
        The course's function, for messages.
    path : path
        The file that the notebook names; if it is not there, the file of the same name in
        chainrule's data folder.

    Returns
    -------
    x : ndarray of uint8, shape (N, 3, 32, 32)
        Images.
    y : ndarray of int64, shape (N,)
        Labels.

    Raises
    ------
    DataMissingError
        If it is in neither place.
    DataFormatError
        If the file is damaged or hostile.
    """
    named = Path(path).expanduser()
    kept = data_folder() / "cifar-10-batches-py" / named.name
    found = next((each for each in (named, kept) if each.is_file()), None)
    if found is None:
        rule = f"be at {named} or at {kept}"
        raise DataMissingError(explain(where, "batch of CIFAR-10", rule, "nothing there"))
    content = read_pickled_batch(str(found), found.read_bytes())
    data, labels = content.get("data"), content.get("labels")
    if (
        not isinstance(data, np.ndarray)
        or data.shape[1:] != (3072,)
        or not isinstance(labels, list)
        or len(labels) != len(data)
    ):
        rule = "hold images of 3072 bytes and a label for each"
        raise DataFormatError(explain(str(found), "batch", rule, f"the keys {sorted(content)}"))
    return data.reshape(-1, 3, 32, 32), np.array(labels, np.int64)


def images_last(x: np.ndarray) -> np.ndarray:
    """Turn bytes (N, 3, 32, 32) into the course's float64 images (N, 32, 32, 3).

    Parameters
    ----------
    x : ndarray of uint8, shape (N, 3, 32, 32)
        Images.

    Returns
    -------
    ndarray of float64, shape (N, 32, 32, 3)
        Values from 0 to 255; 1.2 GB for 50,000 images.
    """
    out = np.empty((len(x), *x.shape[2:], x.shape[1]))
    for start in range(0, len(x), _ROWS):
        out[start : start + _ROWS] = x[start : start + _ROWS].transpose(0, 2, 3, 1)
    return out
