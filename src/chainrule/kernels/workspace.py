"""Memory for the arrays of a training step, used again in the next one."""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np

from chainrule.errors import DTypeError, InputError, explain
from chainrule.kernels.dispatch import MODULE

__all__ = ["Workspace", "empty"]

# The allocator serves smaller arrays from memory that it does not return to the system.
_SMALL_BYTES = 16 << 10

_CODES = frozenset("fdB")  # float32, float64, uint8


class _Entered(threading.local):
    """The workspaces whose ``with`` blocks this thread is in, innermost last."""

    def __init__(self) -> None:
        self.stack: list[Any] = []


_entered = _Entered()


class Workspace:
    """Blocks of memory that arrays borrow and give back when they are garbage-collected.

    Inside ``with workspace:`` the arrays that layers return come from it, in this thread. The
    system hands out new memory page by page, at the first touch of each, which for the arrays
    of a training step costs as much as the arithmetic of some layers; here the pages stay.

    Parameters
    ----------
    max_bytes : int, optional
        Most memory to hold, arrays in use not limited. By default twice the most that was in
        use at a time.

    Raises
    ------
    DTypeError
        If max_bytes is no integer.
    InputError
        If max_bytes is less than 1.

    Notes
    -----
    A block is free once its array and all views of it are gone, and never before; it may well
    outlive the workspace. What is not compiled cannot borrow: without kernels the arrays are
    those of `numpy.empty`.

    Examples
    --------
    >>> import numpy as np
    >>> workspace = Workspace()
    >>> with workspace:
    ...     out = empty((1000, 1000), np.float32)
    >>> out.shape
    (1000, 1000)
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        if max_bytes is not None:
            where = "Workspace"
            if isinstance(max_bytes, bool) or not isinstance(max_bytes, int):
                raise DTypeError(explain(where, "max_bytes", "be an int", repr(max_bytes)))
            if max_bytes < 1:
                raise InputError(explain(where, "max_bytes", "be at least 1", max_bytes))
        self._blocks = None if MODULE is None else MODULE.Workspace(max_bytes or 0)

    def __enter__(self) -> Workspace:
        _entered.stack.append(self._blocks)
        return self

    def __exit__(self, *_: object) -> None:
        _entered.stack.pop()

    @property
    def bytes_in_use(self) -> int:
        """Bytes that arrays hold now."""
        return 0 if self._blocks is None else int(self._blocks.lent)

    @property
    def bytes_free(self) -> int:
        """Bytes that wait for the next array."""
        return 0 if self._blocks is None else int(self._blocks.kept)

    @property
    def peak_bytes(self) -> int:
        """The most bytes that arrays held at a time."""
        return 0 if self._blocks is None else int(self._blocks.peak)

    def clear(self) -> None:
        """Give the free memory back to the system."""
        if self._blocks is not None:
            self._blocks.clear()


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Make an array without setting its values, from the current `Workspace` if there is one.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    dtype : dtype
        Its dtype. Workspaces serve float32, float64 and uint8, `numpy.empty` the others.

    Returns
    -------
    ndarray
        C-contiguous.

    Examples
    --------
    >>> import numpy as np
    >>> empty((2, 3), np.float32).shape
    (2, 3)
    """
    stack = _entered.stack
    if stack and (blocks := stack[-1]) is not None:
        dtype = np.dtype(dtype)
        if prod(shape) * dtype.itemsize >= _SMALL_BYTES and dtype.char in _CODES:
            array: np.ndarray = blocks.empty(shape, dtype.char)
            return array
    return np.empty(shape, dtype)
