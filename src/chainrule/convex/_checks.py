"""Checks at the boundary of this room: numbers in range, vectors of the right length."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from chainrule.errors import DTypeError, InputError, ShapeError, explain

__all__ = [
    "FINITE",
    "NON_NEGATIVE",
    "POSITIVE",
    "Rule",
    "check_array",
    "check_number",
    "check_whole",
]

Rule = tuple[str, Callable[[float], bool]]

FINITE: Rule = ("be finite", math.isfinite)
POSITIVE: Rule = ("be positive and finite", lambda value: 0 < value < math.inf)
NON_NEGATIVE: Rule = ("be zero or more and finite", lambda value: 0 <= value < math.inf)


def check_number(where: str, name: str, value: object, rule: Rule) -> float:
    """Return `value` as a float if it is a number that obeys `rule`; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise DTypeError(explain(where, name, "be a number", repr(value)))
    words, holds = rule
    if not holds(float(value)):
        raise InputError(explain(where, name, words, value))
    return float(value)


def check_whole(where: str, name: str, value: object, minimum: int) -> int:
    """Return `value` as an int if it is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise DTypeError(explain(where, name, "be a whole number", repr(value)))
    if value < minimum:
        raise InputError(explain(where, name, f"be {minimum} or more", value))
    return int(value)


def check_array(where: str, name: str, value: ArrayLike, shape: tuple[Any, ...]) -> np.ndarray:
    """Return `value` as a finite float64 array of a shape; a name in it stands for any extent."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        rule = "be an array of numbers"
        raise DTypeError(explain(where, name, rule, type(value).__name__)) from error
    fits = array.ndim == len(shape) and all(
        isinstance(wanted, str) or extent == wanted
        for extent, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        words = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
        raise ShapeError(explain(where, name, f"have shape {words}", array.shape))
    if not np.isfinite(array).all():
        raise InputError(explain(where, name, "be finite", "NaN or infinity among its elements"))
    return array
