"""``load_cifar10_tvt``: CIFAR-10 as generation A's columns, cut in train, validation and test."""

from __future__ import annotations

import os

import numpy as np

from chainrule.course.cifar import DEFAULT_ROOT, images_last, read_cifar10

__all__ = ["load_cifar10_train_val"]

_TRAINING, _VALIDATION, _TEST = 49000, 1000, 1000
_BLOCK = 256


def load_cifar10_train_val(
    cifar10_dir: str | os.PathLike[str] = DEFAULT_ROOT,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read CIFAR-10 for a linear classifier.

    Parameters
    ----------
    cifar10_dir : path, default "cs231n/datasets/cifar-10-batches-py"
        Where it is; if it is not there, it comes from chainrule's data folder.

    Returns
    -------
    X_train : ndarray of float64, shape (3073, 49000)
        An image a column, flattened from (32, 32, 3), with the mean training image subtracted
        and a row of ones last; 1.2 GB.
    y_train : ndarray of int64, shape (49000,)
        Labels.
    X_val : ndarray of float64, shape (3073, 1000)
        The next 1,000 training images.
    y_val : ndarray of int64, shape (1000,)
        Labels.
    X_test : ndarray of float64, shape (3073, 1000)
        The first 1,000 test images.
    y_test : ndarray of int64, shape (1000,)
        Labels.
    """
    x, y, x_test, y_test = read_cifar10("load_cifar10_train_val", cifar10_dir)
    validation = slice(_TRAINING, _TRAINING + _VALIDATION)
    mean = images_last(x[:_TRAINING].mean(axis=0, dtype=np.float64)[None]).reshape(-1, 1)
    return (
        _columns(x[:_TRAINING], mean),
        y[:_TRAINING],
        _columns(x[validation], mean),
        y[validation],
        _columns(x_test[:_TEST], mean),
        y_test[:_TEST],
    )


def _columns(x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Images as columns over a row of ones."""
    bytes_last = x.transpose(0, 2, 3, 1).reshape(len(x), -1)
    out = np.ones((bytes_last.shape[1] + 1, len(x)))
    for start in range(0, len(x), _BLOCK):  # so that rows are written while they are in the cache
        part = slice(start, start + _BLOCK)
        np.subtract(np.ascontiguousarray(bytes_last[part].T), mean, out=out[:-1, part])
    return out
