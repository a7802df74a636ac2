"""The two generations of the course, and which of them a call means."""

from __future__ import annotations

from typing import Literal

import numpy as np

from chainrule.errors import ConfigError, ShapeError, explain

__all__ = ["GENERATIONS", "Generation", "are_columns", "check_generation", "generation", "use"]

Generation = Literal["A", "B"]
GENERATIONS: tuple[Generation, ...] = ("A", "B")

_chosen: Generation | None = None


def check_generation(where: str, name: str | None) -> Generation | None:
    """Require ``"A"``, ``"B"`` or None.

    Parameters
    ----------
    where : str
        Who asks, for the message.
    name : str or None
        What was given.

    Returns
    -------
    str or None
        The same.

    Raises
    ------
    ConfigError
        If it is anything else.
    """
    for known in GENERATIONS:
        if name == known:
            return known
    if name is not None:
        rule = "be 'A' (CS231n 2015, CS7643) or 'B' (CS231n from 2016)"
        raise ConfigError(explain(where, "generation", rule, repr(name)))
    return None


def use(generation: str | None) -> None:
    """Choose the generation that counts where the shapes of arrays do not tell.

    Parameters
    ----------
    generation : {"A", "B"} or None
        *A* is CS231n 2015 and CS7643: examples are columns, weights of classifiers (C, D). *B* is
        CS231n from 2016: examples are rows, weights (D, C). None chooses neither, so that a call
        that could mean both is an error.

    Raises
    ------
    ConfigError
        If it is anything else.

    Examples
    --------
    >>> use("B")
    >>> generation()
    'B'
    >>> use(None)
    """
    global _chosen
    _chosen = check_generation("use", generation)


def generation() -> Generation | None:
    """Return the generation that `use` has chosen.

    Returns
    -------
    str or None
        ``"A"``, ``"B"`` or None.

    Examples
    --------
    >>> generation() is None
    True
    """
    return _chosen


def are_columns(where: str, X: np.ndarray, count: int | None, W: np.ndarray | None = None) -> bool:
    """Tell whether the examples in X are its columns (generation A) or its rows (B).

    Parameters
    ----------
    where : str
        The course's function, for messages.
    X : ndarray, shape (D, N) or (N, D)
        Examples.
    count : int or None
        N, the number of labels, where there are labels.
    W : ndarray, shape (C, D) or (D, C), optional
        Weights of a linear classifier, where there are any.

    Returns
    -------
    bool
        Whether they are columns.

    Raises
    ------
    ShapeError
        If the shapes fit neither generation, or fit both and `use` has chosen none.
    """
    if X.ndim != 2 or (W is not None and W.ndim != 2):
        name, array = ("X", X) if X.ndim != 2 or W is None else ("W", W)
        remedy = "Reshape the examples to vectors first." if name == "X" else ""
        raise ShapeError(explain(where, name, "have two axes", array.shape, remedy))
    columns = (count is None or X.shape[1] == count) and (W is None or W.shape[1] == X.shape[0])
    rows = (count is None or X.shape[0] == count) and (W is None or W.shape[0] == X.shape[1])
    if columns != rows:
        return columns
    got = f"{X.shape}" + ("" if W is None else f" with W {W.shape}")
    got += "" if count is None else f" and {count} labels"
    if not columns:
        rule = "have shape (D, N) with W (C, D), or (N, D) with W (D, C)"
        raise ShapeError(explain(where, "X", rule, got))
    if _chosen is None:
        rule = "tell by its shape whether examples are columns (generation A) or rows (B)"
        remedy = 'Say which: chainrule.course.use("A") or chainrule.course.use("B").'
        raise ShapeError(explain(where, "X", rule, got, remedy))
    return _chosen == "A"
