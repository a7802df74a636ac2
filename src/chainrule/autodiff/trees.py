"""Arguments and results in tuples, lists and dicts: taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from chainrule.autodiff.tracing import Tracer

__all__ = ["flatten"]

LEAVES = (Tracer, np.ndarray, float, np.generic)


def flatten(tree: Any) -> tuple[list[Any], Callable[[Iterable[Any]], Any]]:
    """List the leaves of nested tuples, lists and dicts.

    Parameters
    ----------
    tree : array, or tuple, named tuple, list or dict of trees, or None
        None has no leaves. Whatever else is a leaf.

    Returns
    -------
    leaves : list
        In order.
    rebuild : callable
        Puts as many other leaves into the same structure.

    Examples
    --------
    >>> leaves, rebuild = flatten({"weight": [1.0, 2.0], "bias": None})
    >>> leaves
    [1.0, 2.0]
    >>> rebuild(["a", "b"])
    {'weight': ['a', 'b'], 'bias': None}
    """
    if isinstance(tree, LEAVES):
        return [tree], _only
    leaves: list[Any] = []
    build = _visit(tree, leaves)
    return leaves, lambda values: build(iter(values))


def _only(values: Iterable[Any]) -> Any:
    (value,) = values
    return value


def _visit(tree: Any, leaves: list[Any]) -> Callable[[Iterator[Any]], Any]:
    if tree is None:
        return lambda values: None
    if isinstance(tree, dict):
        keys = list(tree)
        parts = [_visit(tree[key], leaves) for key in keys]
        return lambda values: {k: part(values) for k, part in zip(keys, parts, strict=True)}
    if isinstance(tree, tuple | list):
        parts = [_visit(item, leaves) for item in tree]
        kind = type(tree)
        if hasattr(kind, "_fields"):
            return lambda values: kind(*(part(values) for part in parts))
        return lambda values: kind(part(values) for part in parts)
    leaves.append(tree)
    return next
