"""Which compiled kernels there are, which are used, and on how many threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from chainrule.errors import ConfigError, DTypeError, InputError, explain, nearest

if TYPE_CHECKING:
    from chainrule.kernels._kernels import InstructionSet

__all__ = [
    "MODULE",
    "active",
    "current",
    "instruction_sets",
    "limited_threads",
    "reason",
    "set_threads",
    "threads",
    "use",
    "winograd",
    "winograd_allowed",
]


def _load() -> tuple[Any, str]:
    """The compiled module, or None and why it is not there."""
    try:
        return import_module("chainrule.kernels._kernels"), ""
    except ModuleNotFoundError:
        return None, "installed without compiled kernels, because no C++17 compiler built them"
    except ImportError as error:
        return None, f"the compiled kernels could not be loaded ({error})"


MODULE, _FAULT = _load()
_SETS: dict[str, InstructionSet] = (
    {} if MODULE is None else {each.name: each for each in MODULE.instruction_sets()}
)


def _default_threads() -> int:
    """What OMP_NUM_THREADS says, as in NumPy's BLAS and PyTorch, or else the usable cores."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_active = next(iter(_SETS), "none")
_forced = False
_threads = _default_threads()
_winograd = True


def instruction_sets() -> tuple[str, ...]:
    """Name the instruction sets with compiled kernels that this processor can run.

    Returns
    -------
    tuple of str
        Best first, of ``avx512``, ``avx2`` and ``portable``; empty where no kernels are
        installed.

    Examples
    --------
    >>> set(instruction_sets()) <= {"avx512", "avx2", "portable"}
    True
    """
    return tuple(_SETS)


def active() -> str:
    """Name the instruction set whose kernels are used.

    Returns
    -------
    str
        One of `instruction_sets`, or ``none``: NumPy does the work.

    Examples
    --------
    >>> with use("none"):
    ...     active()
    'none'
    """
    return _active


def reason() -> str:
    """Say in one sentence why `active` is what it is.

    Returns
    -------
    str
        Without a full stop, to follow a colon.

    Examples
    --------
    >>> with use("none"):
    ...     reason()
    'chosen by kernels.use'
    """
    if _forced:
        return "chosen by kernels.use"
    return _FAULT or "the best that this processor can run"


def current() -> InstructionSet | None:
    """Return the compiled kernels of the active instruction set.

    Returns
    -------
    InstructionSet or None
        None where NumPy does the work.

    Examples
    --------
    >>> with use("none"):
    ...     current() is None
    True
    """
    return _SETS.get(_active)


@contextmanager
def use(name: str) -> Iterator[None]:
    """Use another instruction set inside a ``with`` block, in all threads of the process.

    Parameters
    ----------
    name : str
        One of `instruction_sets`, or ``none`` to leave the work to NumPy.

    Yields
    ------
    None

    Raises
    ------
    ConfigError
        If this processor cannot run it, or no kernels are installed.

    Notes
    -----
    A backward runs on what its forward ran on, also after the block.

    Examples
    --------
    >>> with use("none"):
    ...     active()
    'none'
    """
    global _active, _forced
    if name not in (*_SETS, "none"):
        known = nearest(str(name), [*_SETS, "none"])
        rule = f"be one of {[*_SETS, 'none']}"
        raise ConfigError(explain("kernels.use", "name", rule, repr(name), known))
    before = _active, _forced
    _active, _forced = name, True
    try:
        yield
    finally:
        _active, _forced = before


def winograd_allowed() -> bool:
    """Tell whether convolutions may use Winograd's algorithm.

    Returns
    -------
    bool
        True unless `winograd` says otherwise.

    Examples
    --------
    >>> winograd_allowed()
    True
    """
    return _winograd


@contextmanager
def winograd(allowed: bool) -> Iterator[None]:
    """Allow or forbid Winograd's algorithm inside a ``with`` block, in all threads.

    Parameters
    ----------
    allowed : bool
        Whether 3 x 3 convolutions with stride 1 and at least 16 channels on both sides may be
        computed by minimal filtering F(2 x 2, 3 x 3), with 2.25 times fewer multiplications.

    Yields
    ------
    None

    Notes
    -----
    Its rounding error is of the size of the direct sum's (docs/decisions.md has numbers). Numbers
    too large for its intermediate sums are noticed, and those arrays go the direct way.

    Examples
    --------
    >>> with winograd(False):
    ...     winograd_allowed()
    False
    """
    global _winograd
    before, _winograd = _winograd, allowed
    try:
        yield
    finally:
        _winograd = before


def threads() -> int:
    """Return the number of threads that kernels use.

    Returns
    -------
    int
        At first what the environment variable OMP_NUM_THREADS says, or else the number of cores
        that the process may use.

    Examples
    --------
    >>> threads() >= 1
    True
    """
    return _threads


def set_threads(count: int) -> None:
    """Set the number of threads that kernels use.

    Parameters
    ----------
    count : int
        At least 1. Results do not depend on it, to the last bit.

    Raises
    ------
    DTypeError
        If it is no integer.
    InputError
        If it is less than 1.

    Examples
    --------
    >>> set_threads(threads())
    """
    global _threads
    if isinstance(count, bool) or not isinstance(count, int):
        raise DTypeError(explain("kernels.set_threads", "count", "be an int", repr(count)))
    if count < 1:
        raise InputError(explain("kernels.set_threads", "count", "be at least 1", count))
    _threads = count


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Use another number of threads inside a ``with`` block, in kernels called from any thread.

    Parameters
    ----------
    count : int
        As for `set_threads`.

    Yields
    ------
    None

    Raises
    ------
    DTypeError, InputError
        As `set_threads`.

    Examples
    --------
    >>> with limited_threads(1):
    ...     threads()
    1
    """
    before = _threads
    set_threads(count)
    try:
        yield
    finally:
        set_threads(before)
