"""The C library's allocator, as it is and tuned."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["can_be_tuned", "settle", "tuned"]

# Names of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_MIB = 1 << 20


def can_be_tuned() -> bool:
    """Say whether the C library is glibc.

    Examples
    --------
    >>> can_be_tuned() in (True, False)
    True
    """
    return platform.libc_ver()[0] == "glibc"


def settle() -> None:
    """Bring the allocator to where glibc's own adaptation ends.

    glibc gives blocks beyond a threshold back to the system when they are freed, and raises
    the threshold to the size of each such block, up to 32 MiB. That adaptation ends with the
    first call of mallopt and cannot be resumed, so its end is set by hand: what PyTorch has in
    a program that has run for a while, and never worse. Free memory is given back.
    """
    libc = _libc()
    libc.mallopt(_M_MMAP_MAX, 1 << 16)
    libc.mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)
    libc.mallopt(_M_TRIM_THRESHOLD, 64 * _MIB)
    libc.malloc_trim(0)


@contextmanager
def tuned() -> Iterator[None]:
    """Keep all memory in the process inside a ``with`` block; `settle` afterwards.

    Yields
    ------
    None
    """
    libc = _libc()
    libc.mallopt(_M_MMAP_MAX, 0)  # no block comes straight from the system ...
    libc.mallopt(_M_TRIM_THRESHOLD, 2048 * _MIB - 1)  # ... and hardly any goes back to it
    try:
        yield
    finally:
        settle()


def _libc() -> Any:
    return ctypes.CDLL(None)
