"""What the adapters share: dtypes, the global generator of the notebooks, printing."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from chainrule.errors import DTypeError, explain

__all__ = ["SeededMasks", "as_floats", "global_random", "say"]


def as_floats(where: str, **arrays: Any) -> tuple[np.ndarray, ...]:
    """Give arrays one dtype, as NumPy's arithmetic would: float32 if all are, else float64.

    Parameters
    ----------
    where : str
        The course's function, for messages.
    **arrays : array_like
        Numbers.

    Returns
    -------
    tuple of ndarray
        The same arrays where nothing is to be changed, else copies.

    Raises
    ------
    DTypeError
        If one holds no real numbers.
    """
    found = {name: np.asarray(value) for name, value in arrays.items()}
    for name, array in found.items():
        if array.dtype.kind not in "fiub":
            raise DTypeError(explain(where, name, "be an array of real numbers", array.dtype))
    narrow = all(array.dtype in (np.float16, np.float32) for array in found.values())
    dtype = np.float32 if narrow else np.float64
    return tuple(array.astype(dtype, copy=False) for array in found.values())


def global_random() -> np.random.RandomState:
    """Return NumPy's global generator, which the notebooks seed with ``np.random.seed``.

    Returns
    -------
    numpy.random.RandomState
        The object whose methods are ``np.random.randn`` and so on. Drawing from it in the order
        of the course's own code is what makes a seeded notebook print the same numbers.
    """
    state: np.random.RandomState = np.random.mtrand._rand
    return state


class SeededMasks(np.random.Generator):
    """A view of the global generator that draws dropout masks as the course does.

    Parameters
    ----------
    seed : int, optional
        What the global generator is seeded with before each mask; by default it goes on.

    Notes
    -----
    The course keeps a value where a number u drawn from [0, 1) is below the keep probability,
    chainrule where it is at least the drop probability. Drawing 1 - u makes the two the same
    masks. Numbers are drawn in float64 whatever the dtype, as ``np.random.rand`` does.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(np.random.mtrand.get_bit_generator())
        self.seed = seed

    def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """Draw the numbers that decide about one mask.

        Parameters
        ----------
        size : int or tuple of int, optional
            Shape.
        dtype, out : object
            Ignored.

        Returns
        -------
        ndarray of float64, shape size
            Numbers in (0, 1].
        """
        if self.seed is not None:
            global_random().seed(self.seed)
        return 1.0 - super().random(size)


def say(text: str) -> None:
    """Write a line to standard output, where a notebook's cell shows it.

    Parameters
    ----------
    text : str
        The line, without its end.
    """
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
