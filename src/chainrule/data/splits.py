"""What every loader returns: three splits of read-only arrays, and the rule that cuts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from chainrule.errors import DataFormatError, DTypeError, InputError, ShapeError, explain

__all__ = [
    "DataSplits",
    "Split",
    "check_labels",
    "fill_splits",
    "stratified_order",
    "take_splits",
]

_ORDER = 0x9E3779B97F4A7C15  # the golden ratio in 64 bits


@dataclass(frozen=True, eq=False)
class Split:
    """Examples and their labels, both read-only.

    Parameters
    ----------
    x : numpy.ndarray
        Images of shape (N, C, H, W), uint8 in 0..255 or floats, or features of shape (N, D),
        floats.
    y : numpy.ndarray of int64, shape (N,)
        Class of each example, from 0.

    Raises
    ------
    ShapeError
        When `x` is neither (N, C, H, W) nor (N, D), or `y` is not (N,).
    DTypeError
        When `x` is not uint8, float32 or float64, or `y` is not int64.

    Notes
    -----
    The arrays are made read-only, not copied, so that no part of a program can change the data
    under another part.

    Examples
    --------
    >>> split = Split(np.zeros((5, 1, 8, 8), np.uint8), np.zeros(5, np.int64))
    >>> len(split)
    5
    >>> split.head(2).x.shape
    (2, 1, 8, 8)
    """

    x: np.ndarray
    y: np.ndarray

    def __post_init__(self) -> None:
        if self.x.ndim not in (2, 4):
            rule = "have shape (N, C, H, W) or (N, D)"
            raise ShapeError(explain("Split", "x", rule, self.x.shape))
        if self.y.shape != self.x.shape[:1]:
            rule = f"have shape ({len(self.x)},), a label for each example"
            raise ShapeError(explain("Split", "y", rule, self.y.shape))
        if self.x.dtype not in (np.uint8, np.float32, np.float64):
            rule = "be uint8, float32 or float64"
            raise DTypeError(explain("Split", "x", rule, self.x.dtype))
        if self.y.dtype != np.int64:
            raise DTypeError(explain("Split", "y", "be int64", self.y.dtype))
        self.x.setflags(write=False)
        self.y.setflags(write=False)

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.y)

    def head(self, count: int) -> Split:
        """Return the first `count` examples, without copying.

        Parameters
        ----------
        count : int
            How many, at least 1; more than there are gives all.

        Returns
        -------
        Split
            Views of the first `count` examples.

        Raises
        ------
        InputError
            When `count` is below 1.
        """
        if count < 1:
            raise InputError(explain("Split.head", "count", "be at least 1", count))
        return Split(self.x[:count], self.y[:count])


@dataclass(frozen=True, eq=False)
class DataSplits:
    """A data set cut into training, validation and test.

    Parameters
    ----------
    name : str
        The registered name, or the stem of the file or folder it came from.
    train, val, test : Split
        The three parts; no example is in two of them.
    classes : tuple of str
        Name of each class, in the order of the labels.

    Raises
    ------
    ShapeError
        When the splits differ in the shape of an example.
    """

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for part, split in (("val", self.val), ("test", self.test)):
            if split.x.shape[1:] != self.input_shape:
                rule = f"have examples of shape {self.input_shape} as train has"
                raise ShapeError(explain("DataSplits", part, rule, split.x.shape[1:]))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example: (C, H, W) for images, (D,) for features."""
        return tuple(self.train.x.shape[1:])

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def is_image(self) -> bool:
        """Whether the examples are images (C, H, W)."""
        return len(self.input_shape) == 3


def check_labels(where: str, y: np.ndarray, num_classes: int) -> None:
    """Refuse labels outside ``0 .. num_classes - 1``.

    Parameters
    ----------
    where : str
        The file, for the message.
    y : numpy.ndarray of int, shape (N,)
        The labels.
    num_classes : int
        Number of classes.

    Raises
    ------
    DataFormatError
        When a label is out of range; the message names the first such label and its position.
    """
    wrong = np.flatnonzero((y < 0) | (y >= num_classes))
    if len(wrong):
        got = f"{int(y[wrong[0]])} at index {int(wrong[0])} ({len(wrong)} wrong of {len(y)})"
        rule = f"lie in 0..{num_classes - 1}"
        remedy = "The file is damaged or belongs to another data set; get it again."
        raise DataFormatError(explain(where, "labels", rule, got, remedy))


def stratified_order(y: np.ndarray) -> np.ndarray:
    """Order examples so that every prefix holds the classes in nearly their true proportions.

    Parameters
    ----------
    y : numpy.ndarray of int64, shape (N,)
        Labels, from 0.

    Returns
    -------
    numpy.ndarray of int64, shape (N,)
        A permutation of the indices; the same one for the same labels, always and everywhere.

    Notes
    -----
    The examples are shuffled by sorting the raw output of PCG64 with a fixed seed, a stream that
    NumPy promises never to change; a seed that nobody uses for data, whose own random numbers would
    then be sorted too. The example that then comes at rank r (from 0) among the n of its
    class gets the key ``(r + 1/2) / n``, and the keys are sorted: each class is spread evenly
    over the whole order.

    Examples
    --------
    >>> y = np.array([0, 0, 0, 0, 1, 1])
    >>> sorted(y[stratified_order(y)[:3]].tolist())
    [0, 0, 1]
    """
    shuffled = np.argsort(np.random.PCG64(_ORDER).random_raw(len(y)), kind="stable")
    key = np.empty(len(y))
    for label in np.unique(y):
        members = np.flatnonzero(y[shuffled] == label)
        key[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(key, kind="stable")].astype(np.int64)


def take_splits(x: np.ndarray, y: np.ndarray, num_val: int, num_test: int) -> tuple[Split, ...]:
    """Cut examples into training, validation and test, each with the classes in proportion.

    Parameters
    ----------
    x : numpy.ndarray, shape (N, ...)
        Examples.
    y : numpy.ndarray of int64, shape (N,)
        Labels.
    num_val, num_test : int
        Sizes of the two smaller parts, together below N; the rest is for training.

    Returns
    -------
    train, val, test : Split
        Each in the order of the file.

    See Also
    --------
    stratified_order : the fixed order: its first `num_test` examples are the test split, the
        next `num_val` the validation split.
    """
    test, val, train = np.split(stratified_order(y), [num_test, num_test + num_val])
    return tuple(Split(x[np.sort(part)], y[np.sort(part)]) for part in (train, val, test))


def fill_splits(
    where: str,
    given: Mapping[str, Split],
    num_validation: int | None = None,
    num_test: int | None = None,
) -> tuple[Split, Split, Split]:
    """Cut those of the three splits that are missing from the training examples.

    Parameters
    ----------
    where : str
        The data set or file, for messages.
    given : mapping of str to Split
        ``train``, and perhaps ``val`` and ``test``.
    num_validation : int, optional
        Size of the validation split, by default a tenth of the examples, at least 1.
    num_test : int, optional
        Size of the test split, by default a fifth, at least 1.

    Returns
    -------
    train, val, test : Split
        As given, or cut by `take_splits`.

    Raises
    ------
    InputError
        When `num_validation` is given along with a validation split, is below 1, or leaves
        nothing for training.
    """
    train = given["train"]
    if "val" in given and num_validation is not None:
        rule = "be absent where there is a validation split"
        raise InputError(explain(where, "num_validation", rule, num_validation))
    if num_validation is None:
        num_validation = max(1, len(train) // 10)
    if num_validation < 1:
        raise InputError(explain(where, "num_validation", "be at least 1", num_validation))
    num_val = 0 if "val" in given else num_validation
    num_test = max(1, len(train) // 5) if num_test is None else num_test
    num_test = 0 if "test" in given else num_test
    if num_val + num_test >= len(train):
        rule = f"leave some of the {len(train)} examples for training"
        got = f"{num_val} for validation and {num_test} for test"
        raise InputError(explain(where, "splits", rule, got))
    if num_val + num_test:
        train, val, test = take_splits(train.x, train.y, num_val, num_test)
        return train, given.get("val", val), given.get("test", test)
    return train, given["val"], given["test"]
