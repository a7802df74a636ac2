"""Keeping NumPy's BLAS and the kernels out of each other's way."""

from __future__ import annotations

from functools import cache
from typing import Any

from chainrule.kernels.dispatch import active

__all__ = ["OneBlasThread"]


class OneBlasThread:
    """Runs BLAS on one thread inside a ``with`` block, where kernels are active.

    After a matrix product OpenBLAS leaves its threads spinning for a while, in wait of the next.
    Where that is a kernel instead, they take a core each away from it: a training step of a small
    VGG network on two cores takes a third longer. So networks that spend little on matrix products
    run those on one thread.

    Parameters
    ----------
    wanted : bool, default True
        False does nothing.

    Examples
    --------
    >>> import numpy as np
    >>> with OneBlasThread():
    ...     product = np.ones((2, 2)) @ np.ones((2, 2))
    """

    def __init__(self, wanted: bool = True) -> None:
        self._wanted = wanted
        self._before: list[tuple[Any, int]] = []

    def __enter__(self) -> None:
        if self._wanted and active() != "none":
            self._before = [(each, each.get_num_threads()) for each in _libraries()]
            for library, _ in self._before:
                library.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        for library, count in self._before:
            library.set_num_threads(count)
        self._before = []


@cache
def _libraries() -> list[Any]:
    """The BLAS libraries of this process; NumPy's is loaded by now."""
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
