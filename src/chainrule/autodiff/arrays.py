"""Rules of functions that choose, move, copy and join elements, and NumPy's names for them.

A function below `register` has the parameters of the NumPy functions it runs in place of. Each
ends in `apply` of a rule, or in other functions that do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from chainrule.autodiff.rules import linear, register, unbroadcast, written
from chainrule.autodiff.tracing import (
    FUNCTIONS,
    METHODS,
    EachArgument,
    Rule,
    Tracer,
    apply,
    primal,
    shape_of,
)
from chainrule.autodiff.trees import flatten
from chainrule.errors import NoRuleError

__all__ = ["as_array", "axis_of", "plain", "refuse"]


def as_array(x: Any) -> Any:
    """Return what has a shape and can be indexed: a tracer as it is, anything else as an array."""
    return x if isinstance(x, Tracer) else np.asarray(x)


def axis_of(axis: int, ndim: int) -> int:
    """Return an axis as a number from 0; what is out of bounds gives NumPy's error."""
    return int(normalize_axis_index(axis, ndim))


def plain(tree: Any) -> Any:
    """Return plain values in place of the tracers in nested tuples, lists and dicts."""
    if isinstance(tree, Tracer):
        return primal(tree)
    if isinstance(tree, tuple | list):
        return type(tree)(plain(item) for item in tree)
    if isinstance(tree, dict):
        return {key: plain(item) for key, item in tree.items()}
    return tree


def refuse(function: str, option: str, remedy: str) -> NoRuleError:
    """Word the error about an option under which a function has no rule."""
    return NoRuleError(f"autodiff: {function} has no derivative rule with {option}. {remedy}")


# --- choosing -------------------------------------------------------------------------------

WHERE = Rule(
    "where",
    lambda x, y, condition: np.where(condition, x, y),
    (
        lambda t, out, x, y, condition: np.where(condition, t, 0),
        lambda t, out, x, y, condition: np.where(condition, 0, t),
    ),
    (
        lambda g, out, x, y, condition: unbroadcast(np.where(condition, g, 0), x),
        lambda g, out, x, y, condition: unbroadcast(np.where(condition, 0, g), y),
    ),
)


@register(np.where)
def _where(condition: Any, /, *branches: Any) -> Any:
    if not branches:
        return np.where(primal(condition))
    if len(branches) != 2:
        raise ValueError("either both or neither of x and y should be given")  # as NumPy says it
    return apply(WHERE, branches, {"condition": primal(condition)})


@register(np.select)
def _select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    out = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        out = np.where(condition, choice, out)
    return out


@register(np.clip)
def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = min if a_min is None else a_min, max if a_max is None else a_max
    if low is not None:
        a = np.maximum(a, low)
    return a if high is None else np.minimum(a, high)


METHODS["clip"] = _clip


@register(np.nan_to_num)
def _nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    value = primal(x)
    return np.where(
        np.isfinite(value), x, np.nan_to_num(value, nan=nan, posinf=posinf, neginf=neginf)
    )


def _lower(m: Any, k: int) -> Any:
    """Where the lower triangle is, up to diagonal k."""
    rows, columns = (2 * shape_of(m))[-2:]  # a vector stands for the rows of a square
    return np.tri(rows, columns, k, dtype=bool)


@register(np.tril)
def _tril(m: Any, k: int = 0) -> Any:
    return np.where(_lower(m, k), m, 0)


@register(np.triu)
def _triu(m: Any, k: int = 0) -> Any:
    return np.where(_lower(m, k - 1), 0, m)


# --- dtypes and copies ----------------------------------------------------------------------

CAST = Rule(
    "astype",
    lambda x, dtype: x.astype(dtype),
    (lambda t, out, x, dtype: as_array(t).astype(dtype),),
    (lambda g, out, x, dtype: as_array(g).astype(x.dtype),),
)


def _astype(x: Any, dtype: Any, *, copy: bool = True, device: Any = None, **options: Any) -> Any:
    dtype = np.dtype(dtype)
    if dtype.kind == "c":
        raise refuse("astype", f"{dtype}", "Values under differentiation are real.")
    if dtype.kind != "f":
        return primal(x).astype(dtype)  # constant wherever it has a derivative
    return x if dtype == x.dtype else apply(CAST, (x,), {"dtype": dtype})


register(getattr(np, "astype", None), method="astype")(_astype)


@register(np.copy, method="copy")
def _copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    return a  # tracers are never written into


@register(np.real, np.real_if_close)
def _real(val: Any) -> Any:
    return val


@register(np.imag)
def _imag(val: Any) -> Any:
    return np.zeros(shape_of(val), val.dtype)[()]


METHODS["conj"] = METHODS["conjugate"] = _real

# --- shapes ---------------------------------------------------------------------------------

RESHAPE = linear(
    "reshape",
    lambda x, shape: np.reshape(x, shape),
    lambda g, out, x, shape: np.reshape(g, shape_of(x)),
)
TRANSPOSE = linear(
    "transpose",
    lambda x, axes: np.transpose(x, axes),
    lambda g, out, x, axes: np.transpose(g, None if axes is None else np.argsort(axes)),
)
BROADCAST = linear(
    "broadcast_to",
    lambda x, shape: np.broadcast_to(x, shape),
    lambda g, out, x, shape: unbroadcast(g, x),
)


@register(np.reshape)
def _reshape(a: Any, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> Any:
    if order == "F":
        return np.transpose(np.reshape(np.transpose(a), _shape(shape)[::-1]))
    if order != "C":
        raise refuse("numpy.reshape", f"order={order!r}", 'Use "C" or "F".')
    return apply(RESHAPE, (a,), {"shape": shape})


def _shape(shape: Any) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, int | np.integer) else tuple(shape)


METHODS["reshape"] = lambda a, *shape, **options: _reshape(
    a, shape[0] if len(shape) == 1 else shape, **options
)


@register(np.ravel, method="ravel")
def _ravel(a: Any, order: str = "C") -> Any:
    return _reshape(a, -1, order)


METHODS["flatten"] = _ravel


@register(np.transpose)
def _transpose(a: Any, axes: Any = None) -> Any:
    if axes is not None:
        axes = tuple(int(i) % len(axes) for i in axes)
    return apply(TRANSPOSE, (a,), {"axes": axes})


METHODS["transpose"] = lambda a, *axes: _transpose(
    a, axes[0] if len(axes) == 1 and not isinstance(axes[0], int | np.integer) else axes or None
)


@register(np.swapaxes, method="swapaxes")
def _swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    axes = list(range(len(shape_of(a))))
    axis1, axis2 = axis_of(axis1, len(axes)), axis_of(axis2, len(axes))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return np.transpose(a, axes)


@register(np.matrix_transpose, np.linalg.matrix_transpose)
def _matrix_transpose(x: Any, /) -> Any:
    return np.swapaxes(x, -1, -2)


@register(np.moveaxis)
def _moveaxis(a: Any, source: Any, destination: Any) -> Any:
    ndim = len(shape_of(a))
    moved = np.moveaxis(np.empty((0,) * ndim), source, destination)  # its errors are NumPy's
    sources = [i % ndim for i in _shape(source)]
    targets = [i % ndim for i in _shape(destination)]
    axes = [i for i in range(moved.ndim) if i not in sources]
    for target, axis in sorted(zip(targets, sources, strict=True)):
        axes.insert(target, axis)
    return np.transpose(a, axes)


@register(np.broadcast_to)
def _broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    return apply(BROADCAST, (array,), {"shape": shape})


@register(np.broadcast_arrays)
def _broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Any, ...]:
    shape = np.broadcast_shapes(*map(shape_of, args))
    return tuple(np.broadcast_to(x, shape) for x in args)


@register(np.meshgrid)
def _meshgrid(
    *xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> tuple[Any, ...]:
    axes = list(range(len(xi)))
    if indexing == "xy":
        axes[:2] = axes[:2][::-1]
    grids = tuple(
        np.reshape(as_array(x), [-1 if i == axis else 1 for i in range(len(xi))])
        for x, axis in zip(xi, axes, strict=True)
    )
    return grids if sparse else np.broadcast_arrays(*grids)


def _reshaping(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that only reshapes: NumPy's own, on the plain value, says to what."""

    def reshape(a: Any, *args: Any, **kwargs: Any) -> Any:
        return np.reshape(a, function(primal(a), *args, **kwargs).shape)

    return reshape


register(np.expand_dims)(_reshaping(np.expand_dims))
register(np.squeeze, method="squeeze")(_reshaping(np.squeeze))


def _at_least(function: Callable[..., Any]) -> Callable[..., Any]:
    one = _reshaping(function)

    def reshape(*arys: Any) -> Any:
        return one(arys[0]) if len(arys) == 1 else tuple(map(one, arys))

    return reshape


register(np.atleast_1d)(_at_least(np.atleast_1d))
register(np.atleast_2d)(_at_least(np.atleast_2d))
register(np.atleast_3d)(_at_least(np.atleast_3d))

# --- indexing -------------------------------------------------------------------------------


def _scatter(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of the given shape, with g added at an index."""
    g = np.asarray(g)
    if _hits_once(index):
        out = np.zeros(shape, g.dtype)
        out[index] = g
        return out
    size = int(np.prod(shape))
    places = np.arange(size).reshape(shape)[index]
    # Much faster than numpy.add.at; it adds up in float64.
    out = np.bincount(places.ravel(), weights=np.ravel(g), minlength=size)
    return out.reshape(shape).astype(g.dtype, copy=False)


def _hits_once(index: Any) -> bool:
    """Whether an index is known to meet no element twice."""
    if isinstance(index, np.ndarray):
        return bool(index.dtype == bool)
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or isinstance(part, slice | int | np.integer)
        for part in parts
    )


GETITEM: Rule = Rule(
    "getitem",
    lambda x, index: x[index],
    (lambda t, out, x, index: t[index],),
    (lambda g, out, x, index: SCATTER.value(g, index=index, shape=shape_of(x)),),
)
SCATTER: Rule = written(
    "scatter",
    _scatter,
    (lambda t, out, g, index, shape: SCATTER.value(t, index=index, shape=shape),),
    (lambda c, out, g, index, shape: c[index],),
)


def _getitem(x: Any, index: Any) -> Any:
    index = tuple(map(primal, index)) if isinstance(index, tuple) else primal(index)
    if isinstance(index, list):
        index = np.asarray(index, dtype=None if index else np.intp)
    return apply(GETITEM, (x,), {"index": index})


METHODS["__getitem__"] = _getitem


@register(np.diag)
def _diag(v: Any, k: int = 0) -> Any:
    if len(shape_of(v)) != 1:
        return np.diagonal(v, k)
    n = len(v) + abs(k)
    index = np.arange(len(v))
    places = (index + max(-k, 0)) * n + index + max(k, 0)
    return np.reshape(apply(SCATTER, (v,), {"index": places, "shape": (n * n,)}), (n, n))


@register(np.diagflat)
def _diagflat(v: Any, k: int = 0) -> Any:
    return np.diag(np.ravel(v), k)


def _rearrange(function: Callable[..., Any], array_first: bool = True) -> Callable[..., Any]:
    """The function in place of one that moves and copies elements, whatever its options.

    Values and tangents go through NumPy's own function. So does an array of places, which says
    where the cotangents belong.
    """

    def pulled(g: Any, out: Any, x: Any, args: Any, options: Any) -> Any:
        shape = shape_of(x)
        places = value(np.arange(int(np.prod(shape))).reshape(shape), args, options)
        flat = SCATTER.value(g, index=places, shape=(int(np.prod(shape)),))
        return np.reshape(flat, shape)

    def value(x: Any, args: Any, options: Any) -> Any:
        return function(x, *args, **options) if array_first else function(*args, x, **options)

    rule = linear(function.__name__, value, pulled)
    parameters = list(signature(function).parameters)
    place = 0 if array_first else 1

    def rearrange(*args: Any, **options: Any) -> Any:
        if parameters[place] in options:  # the array, and what stands before it, to their places
            args = (*args, *(options.pop(name) for name in parameters[len(args) : place + 1]))
        rest = (*args[:place], *args[place + 1 :])
        return apply(rule, (args[place],), {"args": plain(rest), "options": plain(options)})

    return rearrange


REARRANGING: tuple[Callable[..., Any], ...] = (
    np.flip,
    np.fliplr,
    np.flipud,
    np.roll,
    np.rollaxis,
    np.rot90,
    np.tile,
    np.repeat,
    np.resize,
    np.delete,
    np.take,
    np.take_along_axis,
    np.diagonal,
    np.linalg.diagonal,
    np.lib.stride_tricks.sliding_window_view,
)
for each in REARRANGING:
    register(each)(_rearrange(each))
register(np.compress)(_rearrange(np.compress, array_first=False))
register(np.extract)(_rearrange(np.extract, array_first=False))
METHODS.update({each.__name__: FUNCTIONS[each] for each in (np.repeat, np.take, np.diagonal)})

# --- putting together and taking apart ------------------------------------------------------


def _part(i: int, g: Any, out: Any, *arrays: Any, axis: int, sizes: Sequence[int]) -> Any:
    start = sum(sizes[:i])
    index = [slice(None)] * len(shape_of(g))
    index[axis] = slice(start, start + sizes[i])
    return g[tuple(index)]


def _all_parts(tangents: Sequence[Any], out: Any, *arrays: Any, axis: int, sizes: Any) -> Any:
    return np.concatenate(_or_zeros(tangents, arrays), axis=axis)


def _embedded(i: int, t: Any, out: Any, *arrays: Any, axis: int, sizes: Any) -> Any:
    alone = [t if k == i else None for k in range(len(arrays))]
    return _all_parts(alone, out, *arrays, axis=axis, sizes=sizes)


def _or_zeros(tangents: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Zeros in place of the tangents of constants."""
    dtype = next(t.dtype for t in tangents if t is not None)
    return [
        np.zeros(shape_of(x), dtype) if t is None else t
        for t, x in zip(tangents, values, strict=True)
    ]


CONCATENATE = Rule(
    "concatenate",
    lambda *arrays, axis, sizes: np.concatenate(arrays, axis=axis),
    EachArgument(_embedded, _all_parts),
    EachArgument(_part),
)


@register(np.concatenate)
def _concatenate(arrays: Sequence[Any], /, axis: int | None = 0) -> Any:
    arrays = [as_array(x) for x in arrays]
    if axis is None:
        arrays, axis = [np.ravel(x) for x in arrays], 0
    sizes = tuple(shape_of(x)[axis_of(axis, x.ndim)] if x.ndim else 0 for x in arrays)
    return apply(CONCATENATE, arrays, {"axis": axis, "sizes": sizes})


def _layer(i: int, g: Any, out: Any, *arrays: Any, axis: int) -> Any:
    return g[(*(slice(None),) * (axis % len(shape_of(g))), i)]


def _all_layers(tangents: Sequence[Any], out: Any, *arrays: Any, axis: int) -> Any:
    return np.stack(_or_zeros(tangents, arrays), axis=axis)


def _in_layer(i: int, t: Any, out: Any, *arrays: Any, axis: int) -> Any:
    alone = [t if k == i else None for k in range(len(arrays))]
    return _all_layers(alone, out, *arrays, axis=axis)


STACK = Rule(
    "stack",
    lambda *arrays, axis: np.stack(arrays, axis=axis),
    EachArgument(_in_layer, _all_layers),
    EachArgument(_layer),
)


@register(np.stack)
def _stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    return apply(STACK, list(arrays), {"axis": axis})


@register(np.vstack)
def _vstack(tup: Sequence[Any]) -> Any:
    return np.concatenate([np.atleast_2d(x) for x in tup], axis=0)


@register(np.hstack)
def _hstack(tup: Sequence[Any]) -> Any:
    arrays = [np.atleast_1d(x) for x in tup]
    return np.concatenate(arrays, axis=0 if arrays[0].ndim == 1 else 1)


@register(np.dstack)
def _dstack(tup: Sequence[Any]) -> Any:
    return np.concatenate([np.atleast_3d(x) for x in tup], axis=2)


@register(np.column_stack)
def _column_stack(tup: Sequence[Any]) -> Any:
    arrays = [as_array(x) for x in tup]
    return np.concatenate([x if x.ndim > 1 else np.reshape(x, (-1, 1)) for x in arrays], axis=1)


@register(np.append)
def _append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return np.concatenate([arr, values], axis=axis)


@register(np.block)
def _block(arrays: Any) -> Any:
    depth, inner = 0, arrays
    while isinstance(inner, list):
        depth, inner = depth + 1, inner[0]
    ndim = max(depth, *(x.ndim for x in _blocks(arrays)))

    def join(tree: Any, level: int) -> Any:
        if not isinstance(tree, list):
            x = as_array(tree)
            return np.reshape(x, (1,) * (ndim - x.ndim) + x.shape)
        return np.concatenate([join(item, level - 1) for item in tree], axis=ndim - level)

    return join(arrays, depth)


def _blocks(tree: Any) -> list[Any]:
    return (
        [x for item in tree for x in _blocks(item)] if isinstance(tree, list) else [as_array(tree)]
    )


def _splitting(function: Callable[..., Any]) -> Callable[..., Any]:
    """np.split or np.array_split: which says how to divide a range divides the array."""

    def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
        axis = axis_of(axis, len(shape_of(ary)))
        lead = (slice(None),) * axis
        parts = []
        for piece in function(np.arange(shape_of(ary)[axis]), indices_or_sections):
            start = int(piece[0]) if len(piece) else 0
            parts.append(ary[(*lead, slice(start, start + len(piece)))])
        return parts

    return split


register(np.split)(_splitting(np.split))
register(np.array_split)(_splitting(np.array_split))


@register(np.hsplit)
def _hsplit(ary: Any, indices_or_sections: Any) -> Any:
    return np.split(ary, indices_or_sections, axis=0 if ary.ndim == 1 else 1)


@register(np.vsplit)
def _vsplit(ary: Any, indices_or_sections: Any) -> Any:
    return np.split(ary, indices_or_sections, axis=0)


@register(np.dsplit)
def _dsplit(ary: Any, indices_or_sections: Any) -> Any:
    return np.split(ary, indices_or_sections, axis=2)


@register(getattr(np, "unstack", None))
def _unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    return tuple(np.moveaxis(x, axis, 0))


# --- padding --------------------------------------------------------------------------------

PAD = Rule(
    "pad",
    lambda x, width, constant: np.pad(x, width, constant_values=constant),
    (lambda t, out, x, width, constant: np.pad(t, width),),
    (
        lambda g, out, x, width, constant: g[
            tuple(
                slice(before, before + n) for (before, _), n in zip(width, shape_of(x), strict=True)
            )
        ],
    ),
)
_REPEAT = _rearrange(np.pad)
_COPYING = ("edge", "reflect", "symmetric", "wrap")


@register(np.pad)
def _pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    if mode == "constant":
        constant = options.pop("constant_values", 0)
        if options:
            raise refuse("numpy.pad", ", ".join(options), "Leave it out.")
        if any(isinstance(value, Tracer) for value in flatten(constant)[0]):
            raise refuse("numpy.pad", "traced constant_values", "Use numpy.concatenate.")
        width = _pad_pairs(pad_width, len(shape_of(array)))
        return apply(PAD, (array,), {"width": width, "constant": constant})
    if mode not in _COPYING or options.get("reflect_type") == "odd":
        given = f"mode={mode!r}" if mode not in _COPYING else 'reflect_type="odd"'
        raise refuse(
            "numpy.pad",
            given,
            "Modes with a rule: " + ", ".join(map(repr, ("constant", *_COPYING))),
        )
    return _REPEAT(array, pad_width, mode=mode, **options)


def _pad_pairs(pad_width: Any, ndim: int) -> tuple[tuple[int, int], ...]:
    """Bring widths into the form of one pair for each axis."""
    if isinstance(pad_width, dict):
        pairs: list[Any] = [(0, 0)] * ndim
        for axis, width in pad_width.items():
            pairs[axis] = (width, width) if isinstance(width, int | np.integer) else width
        pad_width = pairs
    pairs = np.broadcast_to(np.asarray(pad_width), (ndim, 2)).tolist()
    return tuple((before, after) for before, after in pairs)
