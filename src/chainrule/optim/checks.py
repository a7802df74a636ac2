"""Checks at the boundary of this room: numbers in range, dictionaries of arrays in order."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from chainrule.errors import ConfigError, DTypeError, InputError, ShapeError, explain, nearest

__all__ = [
    "BLOCK",
    "FRACTION",
    "NON_NEGATIVE",
    "POSITIVE",
    "Rule",
    "block_views",
    "check_arrays",
    "check_flag",
    "check_keywords",
    "check_number",
    "check_same_layout",
    "check_whole",
]

Rule = tuple[str, Callable[[float], bool]]

POSITIVE: Rule = ("be positive and finite", lambda value: 0 < value < math.inf)
NON_NEGATIVE: Rule = ("be zero or more and finite", lambda value: 0 <= value < math.inf)
FRACTION: Rule = ("be at least 0 and below 1", lambda value: 0 <= value < 1)

# Elementwise passes over a large parameter are bound by memory. Cut into blocks of this many
# elements, the half dozen arrays of an update stay in a core's second-level cache.
BLOCK = 32_768


def check_number(where: str, name: str, value: object, rule: Rule) -> float:
    """Return `value` as a float if it is a number that obeys `rule`.

    Parameters
    ----------
    where : str
        The public function that was called.
    name : str
        The argument.
    value : object
        What was given.
    rule : tuple of str and callable
        How the rule is worded, completing "must", and the test itself.

    Returns
    -------
    float
        The number.

    Raises
    ------
    DTypeError
        If it is no real number (a bool is none).
    InputError
        If it breaks the rule.

    Examples
    --------
    >>> check_number("Adam", "lr", 0.001, POSITIVE)
    0.001
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise DTypeError(explain(where, name, "be a number", repr(value)))
    words, holds = rule
    if not holds(float(value)):
        raise InputError(explain(where, name, words, value))
    return float(value)


def check_whole(where: str, name: str, value: object, minimum: int) -> int:
    """Return `value` as an int if it is a whole number of at least `minimum`.

    Parameters
    ----------
    where : str
        The public function that was called.
    name : str
        The argument.
    value : object
        What was given.
    minimum : int
        The smallest allowed value.

    Returns
    -------
    int
        The number.

    Raises
    ------
    DTypeError
        If it is no whole number (a bool is none).
    InputError
        If it is smaller than `minimum`.

    Examples
    --------
    >>> check_whole("make_schedule", "warmup_steps", 10, 0)
    10
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise DTypeError(explain(where, name, "be a whole number", repr(value)))
    if value < minimum:
        raise InputError(explain(where, name, f"be at least {minimum}", value))
    return int(value)


def check_flag(where: str, name: str, value: object) -> bool:
    """Return `value` if it is a bool.

    Parameters
    ----------
    where : str
        The public function that was called.
    name : str
        The argument.
    value : object
        What was given.

    Returns
    -------
    bool
        The flag.

    Raises
    ------
    DTypeError
        If it is anything else, such as the string ``"false"``, which Python takes for true.

    Examples
    --------
    >>> check_flag("Adam", "decay_bias", False)
    False
    """
    if not isinstance(value, bool):
        raise DTypeError(explain(where, name, "be True or False", repr(value)))
    return value


def check_keywords(where: str, factory: Callable[..., Any], options: Iterable[str]) -> None:
    """Refuse keywords that `factory` does not take.

    Parameters
    ----------
    where : str
        The public function that was called.
    factory : callable
        What the keywords are for.
    options : iterable of str
        The keywords given.

    Raises
    ------
    ConfigError
        If one is unknown; the message names the nearest known one.

    Examples
    --------
    >>> check_keywords("f", lambda lr: None, ["lr"])
    """
    known = inspect.signature(factory).parameters
    for option in options:
        if option not in known:
            hint = nearest(option, known)
            raise ConfigError(f"{where}: option {option!r} is not known. {hint}")


def check_arrays(where: str, kind: str, arrays: Mapping[str, np.ndarray], write: bool) -> None:
    """Check that `arrays` maps names to float32 or float64 arrays.

    Parameters
    ----------
    where : str
        The public function that was called.
    kind : str
        What the arrays are, such as "params".
    arrays : mapping of str to ndarray
        The arrays to check.
    write : bool
        Whether they have to be writeable.

    Raises
    ------
    DTypeError
        If a value is no array, or an array of another dtype.
    InputError
        If an array is read-only and `write` is set.

    Examples
    --------
    >>> check_arrays("f", "grads", {"weight": np.zeros(2)}, write=True)
    """
    for name, array in arrays.items():
        label = f"{kind}[{name!r}]"
        if not isinstance(array, np.ndarray):
            raise DTypeError(explain(where, label, "be a NumPy array", type(array).__name__))
        if array.dtype not in (np.float32, np.float64):
            raise DTypeError(explain(where, label, "be float32 or float64", array.dtype))
        if write and not array.flags.writeable:
            remedy = "Pass a copy of it."
            raise InputError(explain(where, label, "be writeable", "a read-only array", remedy))


def check_same_layout(
    where: str, label: str, array: np.ndarray, like: str, other: np.ndarray
) -> None:
    """Check that two arrays agree in shape and dtype.

    Parameters
    ----------
    where : str
        The public function that was called.
    label : str
        What to call `array` in the message.
    array : ndarray
        The array to check.
    like : str
        What to call `other` in the message.
    other : ndarray
        The array that it is measured by.

    Raises
    ------
    ShapeError
        If the shapes differ.
    DTypeError
        If the dtypes differ.

    Examples
    --------
    >>> check_same_layout("f", "grad", np.zeros(2), "param", np.ones(2))
    """
    if array.shape != other.shape:
        rule = f"have the shape of {like}, {other.shape}"
        raise ShapeError(explain(where, label, rule, array.shape))
    if array.dtype != other.dtype:
        raise DTypeError(
            explain(where, label, f"have the dtype of {like}, {other.dtype}", array.dtype)
        )


def block_views(*arrays: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Walk through arrays of one shape together, a cache-sized block at a time.

    Parameters
    ----------
    *arrays : ndarray
        C-contiguous arrays of equal size, any shape.

    Yields
    ------
    list of ndarray
        For each array, a flat view of its next at most 32,768 elements.

    Examples
    --------
    >>> a = np.zeros((2, 3))
    >>> for (block,) in block_views(a):
    ...     block += 1
    >>> float(a.sum())
    6.0
    """
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield [array[start : start + BLOCK] for array in flat]
