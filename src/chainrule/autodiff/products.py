"""Rules of products of arrays: matrix products and their relatives, convolutions, einsum."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import Any

import numpy as np

from chainrule.autodiff.arrays import SCATTER, as_array, refuse
from chainrule.autodiff.reductions import axes_of
from chainrule.autodiff.rules import register, unbroadcast
from chainrule.autodiff.tracing import (
    UFUNCS,
    EachArgument,
    Rule,
    apply,
    shape_of,
)

__all__ = ["transposed"]

# --- products -------------------------------------------------------------------------------


def transposed(x: Any) -> Any:
    """The matrices transposed."""
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
    return unbroadcast(np.matmul(g, transposed(y)), x)


def _matmul_right(g: Any, out: Any, x: Any, y: Any) -> Any:
    """ybar = x^T g."""
    if len(shape_of(x)) == 1:
        if len(shape_of(y)) == 1:
            return g * x
        return unbroadcast(x[:, None] * g[..., None, :], y)
    if len(shape_of(y)) == 1:
        if len(shape_of(x)) == 2:
            return np.matmul(g, x)
        return unbroadcast(np.matmul(transposed(x), g[..., None])[..., 0], y)
    return unbroadcast(np.matmul(transposed(x), g), y)


UFUNCS[np.matmul] = Rule(
    "matmul",
    np.matmul,
    (lambda t, out, x, y: np.matmul(t, y), lambda t, out, x, y: np.matmul(x, t)),
    (_matmul_left, _matmul_right),
)


@register(np.linalg.matmul)
def _linalg_matmul(x1: Any, x2: Any, /) -> Any:
    return np.matmul(x1, x2)


def _vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return np.sum(x1 * as_array(x2), axis=axis)


def _matvec(x1: Any, x2: Any, /) -> Any:
    return np.matmul(x1, as_array(x2)[..., None])[..., 0]


def _vecmat(x1: Any, x2: Any, /) -> Any:
    return np.matmul(as_array(x1)[..., None, :], x2)[..., 0, :]


register(np.linalg.vecdot)(_vecdot)
for name, function in (("vecdot", _vecdot), ("matvec", _matvec), ("vecmat", _vecmat)):
    if hasattr(np, name):
        UFUNCS[getattr(np, name)] = function


@register(np.dot, method="dot")
def _dot(a: Any, b: Any) -> Any:
    a, b = as_array(a), as_array(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if b.ndim <= 2:
        return np.matmul(a, b)
    return np.tensordot(a, b, (-1, -2))


@register(np.inner)
def _inner(a: Any, b: Any, /) -> Any:
    a, b = as_array(a), as_array(b)
    return a * b if a.ndim == 0 or b.ndim == 0 else np.tensordot(a, b, (-1, -1))


@register(np.vdot)
def _vdot(a: Any, b: Any, /) -> Any:
    return np.matmul(np.ravel(a), np.ravel(b))


@register(np.outer, np.linalg.outer)
def _outer(a: Any, b: Any) -> Any:
    return np.ravel(a)[:, None] * np.ravel(b)


@register(np.tensordot, np.linalg.tensordot)
def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = as_array(a), as_array(b)
    if isinstance(axes, int | np.integer):
        left: Any = range(a.ndim - int(axes), a.ndim)
        right: Any = range(int(axes))
    else:
        left, right = axes
    left, right = axes_of(left, a.ndim), axes_of(right, b.ndim)
    rows = [i for i in range(a.ndim) if i not in left]
    columns = [i for i in range(b.ndim) if i not in right]
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        raise ValueError("shape-mismatch for sum")  # as NumPy says it
    inner = int(np.prod([a.shape[i] for i in left], dtype=int))
    shape = [a.shape[i] for i in rows] + [b.shape[i] for i in columns]
    rows_size = int(np.prod([a.shape[i] for i in rows], dtype=int))
    columns_size = int(np.prod([b.shape[i] for i in columns], dtype=int))
    matrix = np.reshape(np.transpose(a, [*rows, *left]), (rows_size, inner))
    other = np.reshape(np.transpose(b, [*right, *columns]), (inner, columns_size))
    return np.reshape(np.matmul(matrix, other), shape)


@register(np.kron)
def _kron(a: Any, b: Any) -> Any:
    a, b = as_array(a), as_array(b)
    ndim = max(a.ndim, b.ndim)
    a_shape = (1,) * (ndim - a.ndim) + a.shape
    b_shape = (1,) * (ndim - b.ndim) + b.shape
    product = np.reshape(a, [n for pair in a_shape for n in (pair, 1)]) * np.reshape(
        b, [n for pair in b_shape for n in (1, pair)]
    )
    return np.reshape(product, [m * n for m, n in zip(a_shape, b_shape, strict=True)])


@register(np.cross, np.linalg.cross)
def _cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(as_array(a), axisa, -1), np.moveaxis(as_array(b), axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise refuse("numpy.cross", "vectors of two elements", "Append a zero to each.")
    (a0, a1, a2), (b0, b1, b2) = ((x[..., 0], x[..., 1], x[..., 2]) for x in (a, b))
    out = np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=-1)
    return np.moveaxis(out, -1, axisc)


@register(np.linalg.multi_dot)
def _multi_dot(arrays: Sequence[Any]) -> Any:
    out = arrays[0]
    for array in arrays[1:]:
        out = np.dot(out, array)
    return out


@register(np.trace, method="trace")
def _trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1)


@register(np.linalg.trace)
def _linalg_trace(x: Any, /, *, offset: int = 0) -> Any:
    return np.trace(x, offset, -2, -1)


@register(np.convolve)
def _convolve(a: Any, v: Any, mode: str = "full") -> Any:
    a, v = as_array(a), as_array(v)
    if len(v) > len(a):
        a, v = v, a
    overlap = {"full": 0, "same": (len(v) - 1) // 2, "valid": len(v) - 1}[mode]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(a, len(v) - 1), len(v))
    out = np.matmul(windows, np.flip(v))
    length = {"full": len(out), "same": len(a), "valid": len(a) - len(v) + 1}[mode]
    return out[overlap : overlap + length]


@register(np.correlate)
def _correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    a, v = as_array(a), as_array(v)
    if len(v) > len(a):  # the result is that of the exchanged arguments, backwards
        return np.flip(_convolve(v, np.flip(a), mode))
    return _convolve(a, np.flip(v), mode)


# --- einsum ---------------------------------------------------------------------------------


def _explicit(subscripts: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    """Bring subscripts into the form without ellipsis and with a result."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    free = [letter for letter in ascii_letters if letter not in subscripts]
    width = 0
    for i, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        if "..." in term:
            count = len(shape) - len(term) + 3
            width = max(width, count)
            terms[i] = term.replace("...", "".join(free[:count][::-1]))  # aligned on the right
    ellipsis = "".join(free[:width][::-1])
    if arrow:
        return terms, output.replace("...", ellipsis)
    letters = "".join(terms)
    named = sorted(x for x in set(letters) - set(ellipsis) if letters.count(x) == 1)
    return terms, ellipsis + "".join(named)


def _einsum_value(*operands: Any, terms: Sequence[str], output: str, optimize: Any) -> Any:
    return np.einsum(",".join(terms) + "->" + output, *operands, optimize=optimize)


def _einsum_pushed(
    i: int, t: Any, out: Any, *operands: Any, terms: Sequence[str], output: str, optimize: Any
) -> Any:
    args = [t if k == i else x for k, x in enumerate(operands)]
    return _einsum_value(*args, terms=terms, output=output, optimize=optimize)


def _einsum_pulled(
    i: int, g: Any, out: Any, *operands: Any, terms: Sequence[str], output: str, optimize: Any
) -> Any:
    """Exchange the operand and the result.

    Then come the cases in which that is not all: a letter that stands in this operand alone was
    summed over, one that stands in it twice took a diagonal, and an axis of length 1 may have
    been broadcast.
    """
    others = [x for k, x in enumerate(operands) if k != i]
    other_terms = [term for k, term in enumerate(terms) if k != i]
    sizes = dict(zip(terms[i], shape_of(operands[i]), strict=True))
    known = set(output).union(*other_terms)
    kept = "".join(letter for letter in sizes if letter in known)
    part = np.einsum(",".join([output, *other_terms]) + "->" + kept, g, *others, optimize=optimize)
    shrunk = tuple(
        k for k, letter in enumerate(kept) if sizes[letter] == 1 and shape_of(part)[k] != 1
    )
    if shrunk:
        part = np.sum(part, axis=shrunk, keepdims=True)
    shape = [size if letter in known else 1 for letter, size in sizes.items()]
    part = np.broadcast_to(np.reshape(part, shape), tuple(sizes.values()))
    if len(sizes) == len(terms[i]):
        return part
    grids = np.ogrid[tuple(slice(size) for size in sizes.values())]
    index = tuple(grids[list(sizes).index(letter)] for letter in terms[i])
    return SCATTER.value(part, index=index, shape=shape_of(operands[i]))


EINSUM = Rule("einsum", _einsum_value, EachArgument(_einsum_pushed), EachArgument(_einsum_pulled))


@register(np.einsum)
def _einsum(*operands: Any, optimize: Any = False) -> Any:
    if not isinstance(operands[0], str):
        operands = _from_lists(operands)
    arrays = [as_array(x) for x in operands[1:]]
    terms, output = _explicit(operands[0], [x.shape for x in arrays])
    return apply(EINSUM, arrays, {"terms": terms, "output": output, "optimize": optimize})


def _from_lists(operands: Sequence[Any]) -> tuple[Any, ...]:
    """Turn ``einsum(a, [0, 1], b, [1, 2], [0, 2])`` into ``einsum("ab,bc->ac", a, b)``."""

    def word(subscripts: Sequence[Any]) -> str:
        return "".join("..." if k is Ellipsis else ascii_letters[k] for k in subscripts)

    count = len(operands) // 2
    text = ",".join(word(subscripts) for subscripts in operands[1 : 2 * count : 2])
    if len(operands) % 2:
        text += "->" + word(operands[-1])
    return (text, *operands[: 2 * count : 2])
