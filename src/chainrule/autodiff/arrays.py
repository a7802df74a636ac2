"""Rules of functions of whole arrays: sums, shapes, indexing, products; and NumPy's names for them.

A function below `_numpy` has the parameters of the NumPy function it stands for, without those
that have no meaning under differentiation (``out``, ``where``); one given in spite of that is
refused with a message. Each ends in `apply` of a rule, or in other functions that do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.autodiff.rules import unbroadcast
from chainrule.autodiff.tracing import (
    FUNCTIONS,
    METHODS,
    UFUNCS,
    EachArgument,
    Rule,
    Tracer,
    apply,
    primal,
    shape_of,
)

__all__: list[str] = []

Axis = int | Sequence[int] | None


def _numpy(*functions: Callable[..., Any], method: str = "") -> Callable[[Any], Any]:
    """Register what runs in place of NumPy functions, and perhaps as a method of arrays."""

    def register(handler: Any) -> Any:
        for function in functions:
            FUNCTIONS[function] = handler
        if method:
            METHODS[method] = handler
        return handler

    return register


def _linear(name: str, value: Callable[..., Any], pulled: Callable[..., Any]) -> Rule:
    """A function that is linear in its one argument: its tangent goes the way of its value."""

    def pushed(t: Any, out: Any, x: Any, **kwargs: Any) -> Any:
        return value(t, **kwargs)

    return Rule(name, value, (pushed,), (pulled,))


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    return tuple(int(i) % ndim for i in axes) if ndim else ()


def _spread(g: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    """Bring what was reduced over `axis` back to the shape of x."""
    shape = shape_of(x)
    if not keepdims and shape_of(g) != ():
        reduced = _axes(axis, len(shape))
        g = np.reshape(g, [1 if i in reduced else n for i, n in enumerate(shape)])
    if isinstance(g, Tracer):
        return np.broadcast_to(g, shape)
    spread = np.empty(shape, x.dtype)  # for small arrays much quicker than a view
    spread[...] = g
    return spread


# --- sums and means -------------------------------------------------------------------------

SUM = _linear(
    "sum",
    lambda x, axis, keepdims: np.add.reduce(x, axis=axis, keepdims=keepdims),
    lambda g, out, x, axis, keepdims: _spread(g, x, axis, keepdims),
)
MEAN = _linear(
    "mean",
    lambda x, axis, keepdims: np.mean(x, axis=axis, keepdims=keepdims),
    lambda g, out, x, axis, keepdims: _spread(
        g * (np.size(primal(out)) / max(np.size(primal(x)), 1)), x, axis, keepdims
    ),
)


@_numpy(np.sum, method="sum")
def _sum(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return apply(SUM, (a,), {"axis": axis, "keepdims": keepdims})


@_numpy(np.mean, method="mean")
def _mean(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return apply(MEAN, (a,), {"axis": axis, "keepdims": keepdims})


# --- shapes ---------------------------------------------------------------------------------

RESHAPE = _linear(
    "reshape",
    lambda x, shape: np.reshape(x, shape),
    lambda g, out, x, shape: np.reshape(g, shape_of(x)),
)
TRANSPOSE = _linear(
    "transpose",
    lambda x, axes: np.transpose(x, axes),
    lambda g, out, x, axes: np.transpose(g, None if axes is None else np.argsort(axes)),
)
BROADCAST = _linear(
    "broadcast_to",
    lambda x, shape: np.broadcast_to(x, shape),
    lambda g, out, x, shape: unbroadcast(g, x),
)


@_numpy(np.reshape)
def _reshape(a: Any, /, shape: Any) -> Any:
    return apply(RESHAPE, (a,), {"shape": shape})


METHODS["reshape"] = lambda a, *shape: _reshape(a, shape[0] if len(shape) == 1 else shape)


@_numpy(np.transpose)
def _transpose(a: Any, axes: Any = None) -> Any:
    if axes is not None:
        axes = tuple(int(i) % len(axes) for i in axes)
    return apply(TRANSPOSE, (a,), {"axes": axes})


@_numpy(np.broadcast_to)
def _broadcast_to(array: Any, shape: Any) -> Any:
    return apply(BROADCAST, (array,), {"shape": shape})


# --- indexing -------------------------------------------------------------------------------


def _scatter(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of the given shape, with g added at an index."""
    out = np.zeros(shape, np.asarray(g).dtype)
    if _is_basic(index):
        out[index] = g  # no element twice
    else:
        np.add.at(out, index, g)
    return out


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or isinstance(part, slice | int | np.integer)
        for part in parts
    )


GETITEM: Rule = Rule(
    "getitem",
    lambda x, index: x[index],
    (lambda t, out, x, index: t[index],),
    (lambda g, out, x, index: apply(SCATTER, (g,), {"index": index, "shape": shape_of(x)}),),
)
SCATTER: Rule = Rule(
    "scatter",
    lambda g, index, shape: (
        apply(SCATTER, (g,), {"index": index, "shape": shape})
        if isinstance(g, Tracer)
        else _scatter(g, index, shape)
    ),
    (lambda t, out, g, index, shape: apply(SCATTER, (t,), {"index": index, "shape": shape}),),
    (lambda c, out, g, index, shape: c[index],),
)


def _getitem(x: Any, index: Any) -> Any:
    plain = tuple(map(primal, index)) if isinstance(index, tuple) else primal(index)
    return apply(GETITEM, (x,), {"index": plain})


METHODS["__getitem__"] = _getitem


# --- putting together -----------------------------------------------------------------------


def _part(i: int, g: Any, out: Any, *arrays: Any, axis: int) -> Any:
    start = sum(shape_of(x)[axis] for x in arrays[:i])
    index = [slice(None)] * len(shape_of(g))
    index[axis] = slice(start, start + shape_of(arrays[i])[axis])
    return g[tuple(index)]


def _embedded(i: int, t: Any, out: Any, *arrays: Any, axis: int) -> Any:
    parts = [t if k == i else np.zeros(shape_of(x)) for k, x in enumerate(arrays)]
    return np.concatenate(parts, axis=axis)


CONCATENATE = Rule(
    "concatenate",
    lambda *arrays, axis: np.concatenate(arrays, axis=axis),
    EachArgument(_embedded),
    EachArgument(_part),
)


@_numpy(np.concatenate)
def _concatenate(arrays: Sequence[Any], /, axis: int | None = 0) -> Any:
    if axis is None:
        arrays, axis = [np.ravel(x) for x in arrays], 0
    arrays = [x if isinstance(x, Tracer) else np.asarray(x) for x in arrays]
    return apply(CONCATENATE, arrays, {"axis": axis})


@_numpy(np.stack)
def _stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    ndim = len(shape_of(arrays[0])) + 1
    axis %= ndim
    index = (*(slice(None),) * axis, None)
    return np.concatenate(
        [(x if isinstance(x, Tracer) else np.asarray(x))[index] for x in arrays], axis=axis
    )


# --- products -------------------------------------------------------------------------------


def _swap(x: Any) -> Any:
    return np.swapaxes(x, -1, -2) if len(shape_of(x)) > 1 else x


def _matmul_left(g: Any, out: Any, x: Any, y: Any) -> Any:
    """xbar = g y^T, with vectors taken as a row on the left and a column on the right."""
    if len(shape_of(y)) == 1:
        if len(shape_of(x)) == 1:
            return g * y
        return unbroadcast(g[..., None] * y, x)
    if len(shape_of(x)) == 1:
        if len(shape_of(y)) == 2:
            return np.matmul(y, g)
        return unbroadcast(np.matmul(y, g[..., None])[..., 0], x)
    return unbroadcast(np.matmul(g, _swap(y)), x)


def _matmul_right(g: Any, out: Any, x: Any, y: Any) -> Any:
    """ybar = x^T g."""
    if len(shape_of(x)) == 1:
        if len(shape_of(y)) == 1:
            return g * x
        return unbroadcast(x[:, None] * g[..., None, :], y)
    if len(shape_of(y)) == 1:
        if len(shape_of(x)) == 2:
            return np.matmul(g, x)
        return unbroadcast(np.matmul(_swap(x), g[..., None])[..., 0], y)
    return unbroadcast(np.matmul(_swap(x), g), y)


UFUNCS[np.matmul] = Rule(
    "matmul",
    np.matmul,
    (lambda t, out, x, y: np.matmul(t, y), lambda t, out, x, y: np.matmul(x, t)),
    (_matmul_left, _matmul_right),
)
