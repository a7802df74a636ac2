"""``cs231n.data_utils``: CIFAR-10 in the course's arrays, read without running a pickle."""

from __future__ import annotations

import os

import numpy as np

from chainrule.course.cifar import DEFAULT_ROOT, images_last, read_batch, read_cifar10
from chainrule.errors import InputError, explain

__all__ = ["get_CIFAR10_data", "load_CIFAR10", "load_CIFAR_batch"]

Four = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def load_CIFAR_batch(filename: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read one batch of CIFAR-10.

    Parameters
    ----------
    filename : path
        Such as ``cs231n/datasets/cifar-10-batches-py/data_batch_1``. If it is not there, the file
        of that name in chainrule's data folder.

    Returns
    -------
    X : ndarray of float64, shape (10000, 32, 32, 3)
        Images, 0 to 255; 0.25 GB.
    Y : ndarray of int64, shape (10000,)
        Labels.
    """
    x, y = read_batch("load_CIFAR_batch", filename)
    return images_last(x), y


def load_CIFAR10(ROOT: str | os.PathLike[str]) -> Four:
    """Read all of CIFAR-10.

    Parameters
    ----------
    ROOT : path
        Such as ``cs231n/datasets/cifar-10-batches-py``. If CIFAR-10 is not there, it comes from
        chainrule's data folder.

    Returns
    -------
    Xtr : ndarray of float64, shape (50000, 32, 32, 3)
        Training images, 0 to 255; 1.2 GB.
    Ytr : ndarray of int64, shape (50000,)
        Their labels.
    Xte : ndarray of float64, shape (10000, 32, 32, 3)
        Test images; 0.25 GB.
    Yte : ndarray of int64, shape (10000,)
        Their labels.
    """
    x_train, y_train, x_test, y_test = read_cifar10("load_CIFAR10", ROOT)
    return images_last(x_train), y_train, images_last(x_test), y_test


def get_CIFAR10_data(
    num_training: int = 49000,
    num_validation: int = 1000,
    num_test: int = 1000,
    subtract_mean: bool = True,
) -> dict[str, np.ndarray]:
    """Read CIFAR-10 and cut it into training, validation and test examples for networks.

    Parameters
    ----------
    num_training : int, default 49000
        The first images of the training batches.
    num_validation : int, default 1000
        Those that follow.
    num_test : int, default 1000
        The first images of the test batch.
    subtract_mean : bool, default True
        Whether to subtract the mean of the training examples from all.

    Returns
    -------
    dict of str to ndarray
        ``X_train``, ``X_val`` and ``X_test``, float64 of shape (N, 3, 32, 32), and ``y_train``,
        ``y_val`` and ``y_test``, int64. 1.2 GB for all.

    Raises
    ------
    InputError
        If more examples are wanted than there are.

    Notes
    -----
    Read from ``cs231n/datasets/cifar-10-batches-py`` below the current folder, or else from
    chainrule's data folder.
    """
    where = "get_CIFAR10_data"
    x, y, x_test, y_test = read_cifar10(where, DEFAULT_ROOT)
    last = num_training + num_validation
    if min(num_training, num_validation, num_test) < 0 or last > len(x) or num_test > len(x_test):
        rule = f"be at most {len(x)} in training and validation, {len(x_test)} in test"
        got = f"{num_training} + {num_validation}, {num_test}"
        raise InputError(explain(where, "number of examples", rule, got))
    data = {
        "X_train": x[:num_training].astype(np.float64),
        "y_train": y[:num_training],
        "X_val": x[num_training:last].astype(np.float64),
        "y_val": y[num_training:last],
        "X_test": x_test[:num_test].astype(np.float64),
        "y_test": y_test[:num_test],
    }
    if subtract_mean:
        mean = data["X_train"].mean(axis=0)
        for split in ("X_train", "X_val", "X_test"):
            data[split] -= mean
    return data
