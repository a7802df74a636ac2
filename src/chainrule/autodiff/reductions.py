"""Rules of sums, extrema, running totals, sorting and statistics.

What can be said in terms of other rules is said so; only what would then be slow, unstable or
wrong at special values has a rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from chainrule.autodiff.arrays import as_array, axis_of, refuse
from chainrule.autodiff.rules import Ties, current_ties, linear, register, written
from chainrule.autodiff.tracing import UFUNC_METHODS, Rule, Tracer, apply, primal, shape_of

__all__ = ["LOGSUMEXP", "axes_of", "root"]

Axis = int | Sequence[int] | None


def axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
    """Return axes as a tuple of numbers from 0; None stands for all of them."""
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    return tuple(axis_of(i, ndim) for i in axes) if ndim else ()


def _opened(g: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    """Give what was reduced over `axis` the axes of x again, of length 1."""
    shape = shape_of(x)
    if keepdims or shape_of(g) == ():
        return g
    reduced = axes_of(axis, len(shape))
    return np.reshape(g, [1 if i in reduced else n for i, n in enumerate(shape)])


def _spread(g: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    """Bring what was reduced over `axis` back to the shape of x."""
    g = _opened(g, x, axis, keepdims)
    if isinstance(g, Tracer):
        return np.broadcast_to(g, shape_of(x))
    spread = np.empty(shape_of(x), np.result_type(g))  # for small arrays much quicker than a view
    spread[...] = g
    return spread


def _count(x: Any, axis: Axis) -> int:
    shape = shape_of(x)
    return prod(shape) if axis is None else prod(shape[i] for i in axes_of(axis, len(shape)))


def _mean_value(x: Any, axis: Axis, keepdims: bool) -> Any:
    count = _count(x, axis)
    if count == 0 or x.dtype == np.float16:
        return np.mean(x, axis=axis, keepdims=keepdims)
    return SUM.value(x, axis=axis, keepdims=keepdims) / count  # as NumPy, in half the time


def _cast(x: Any, dtype: Any) -> Any:
    return x if dtype is None else as_array(x).astype(dtype)


# --- sums and products ----------------------------------------------------------------------

SUM = linear(
    "sum",
    lambda x, axis, keepdims: np.add.reduce(x, axis=axis, keepdims=keepdims),
    lambda g, out, x, axis, keepdims: _spread(g, x, axis, keepdims),
)
MEAN = linear(
    "mean",
    _mean_value,
    lambda g, out, x, axis, keepdims: _spread(g / max(_count(x, axis), 1), x, axis, keepdims),
)
CUMSUM = linear(
    "cumsum",
    lambda x, axis: np.cumsum(x, axis=axis),
    lambda g, out, x, axis: np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis),
)


@register(np.sum, method="sum")
def _sum(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    return apply(SUM, (_cast(a, dtype),), {"axis": axis, "keepdims": keepdims})


@register(np.mean, method="mean")
def _mean(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    return apply(MEAN, (_cast(a, dtype),), {"axis": axis, "keepdims": keepdims})


@register(np.cumsum, method="cumsum")
def _cumsum(a: Any, axis: int | None = None, dtype: Any = None) -> Any:
    a = _cast(a, dtype)
    return apply(CUMSUM, (np.ravel(a) if axis is None else a,), {"axis": axis or 0})


@register(getattr(np, "cumulative_sum", None))
def _cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    return _cumulative(np.cumsum, np.zeros, x, axis, dtype, include_initial)


@register(getattr(np, "cumulative_prod", None))
def _cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    return _cumulative(np.cumprod, np.ones, x, axis, dtype, include_initial)


def _cumulative(
    function: Any, start: Any, x: Any, axis: int | None, dtype: Any, include_initial: bool
) -> Any:
    axis = 0 if axis is None and len(shape_of(x)) == 1 else axis
    if axis is None:
        raise refuse("numpy.cumulative_sum", "several axes and no axis=", "Give the axis.")
    out = function(x, axis=axis, dtype=dtype)
    if not include_initial:
        return out
    shape = list(shape_of(out))
    shape[axis] = 1
    return np.concatenate([start(shape, out.dtype), out], axis=axis)


def _recur(factor: Any, term: Any) -> Any:
    """Solve h[k] = factor[k] h[k-1] + term[k], h[-1] = 0, along the last axis.

    In log2(n) rounds, each of which composes steps k and k - 2^i. There is no division in it, so
    zeros among the factors do no harm.
    """
    n = shape_of(factor)[-1]
    shift = 1
    while shift < n:
        later = factor[..., shift:]
        term = np.concatenate(
            [term[..., :shift], term[..., shift:] + later * term[..., :-shift]], axis=-1
        )
        factor = np.concatenate([factor[..., :shift], later * factor[..., :-shift]], axis=-1)
        shift *= 2
    return term


def _before(products: Any) -> Any:
    """The running products up to but not including each element, along the last axis."""
    one = np.ones((*shape_of(products)[:-1], min(shape_of(products)[-1], 1)), products.dtype)
    return np.concatenate([one, products[..., :-1]], axis=-1)


def _next(x: Any) -> Any:
    """Each element's successor along the last axis; 0 for the last."""
    zero = np.zeros((*shape_of(x)[:-1], min(shape_of(x)[-1], 1)), x.dtype)
    return np.concatenate([x[..., 1:], zero], axis=-1)


# Of running products along the last axis: hdot[k] = x[k] hdot[k-1] + h[k-1] xdot[k], and the
# same backwards, s[k] = g[k] + x[k+1] s[k+1], xbar[k] = h[k-1] s[k].
CUMPROD = Rule(
    "cumprod",
    lambda x: np.cumprod(x, axis=-1),
    (lambda t, out, x: _recur(x, _before(out) * t),),
    (lambda g, out, x: _before(out) * np.flip(_recur(np.flip(_next(x), -1), np.flip(g, -1)), -1),),
)


@register(np.cumprod, method="cumprod")
def _cumprod(a: Any, axis: int | None = None, dtype: Any = None) -> Any:
    a = _cast(a, dtype)
    if axis is None:
        return apply(CUMPROD, (np.ravel(a),))
    if len(shape_of(a)) == 1 and axis_of(axis, 1) == 0:
        return apply(CUMPROD, (a,))
    return np.moveaxis(apply(CUMPROD, (np.moveaxis(a, axis, -1),)), -1, axis)


def _others(x: Any) -> Any:
    """The product of all elements but each one, along the last axis."""
    from_left = _before(np.cumprod(x, axis=-1))
    from_right = np.flip(_before(np.cumprod(np.flip(x, -1), axis=-1)), -1)
    return from_left * from_right


PROD = Rule(
    "prod",
    lambda x: np.prod(x, axis=-1),
    (lambda t, out, x: np.sum(t * _others(x), axis=-1),),
    (lambda g, out, x: g[..., None] * _others(x),),
)


@register(np.prod, method="prod")
def _prod(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    a = _cast(a, dtype)
    out = apply(PROD, (_last(a, axis),))
    return _kept(out, a, axis) if keepdims else out


def _last(a: Any, axis: Axis) -> Any:
    """Gather the axes that are reduced in one, the last."""
    shape = shape_of(a)
    reduced = axes_of(axis, len(shape))
    rest = [i for i in range(len(shape)) if i not in reduced]
    count = _count(a, axis)
    return np.reshape(np.transpose(a, [*rest, *reduced]), [*(shape[i] for i in rest), count])


def _kept(out: Any, a: Any, axis: Axis) -> Any:
    """What was reduced over `axis`, as with keepdims."""
    shape = shape_of(a)
    reduced = axes_of(axis, len(shape))
    return np.reshape(out, [1 if i in reduced else n for i, n in enumerate(shape)])


# --- extrema --------------------------------------------------------------------------------


def _shares(out: Any, x: Any, axis: Axis, keepdims: bool, ties: Ties) -> Any:
    """How much of the derivative of an extremum each element gets."""
    x = np.asarray(primal(x))
    wins = (x == _opened(primal(out), x, axis, keepdims)) | np.isnan(x)
    axes = axes_of(axis, x.ndim)
    if ties == "split":
        return wins / np.sum(wins, axis=axes, keepdims=True, dtype=x.dtype)
    rest = [i for i in range(x.ndim) if i not in axes]
    line = np.transpose(wins, [*rest, *axes])
    flat = line.reshape(*line.shape[: len(rest)], -1)
    if ties == "last":
        flat = flat[..., ::-1]
    chosen = np.arange(flat.shape[-1]) == np.argmax(flat, axis=-1)[..., None]
    if ties == "last":
        chosen = chosen[..., ::-1]
    return np.transpose(chosen.reshape(line.shape), np.argsort([*rest, *axes])).astype(x.dtype)


def _extremum(name: str, function: Callable[..., Any]) -> Rule:
    return Rule(
        name,
        lambda x, axis, keepdims, ties: function(x, axis=axis, keepdims=keepdims),
        (
            lambda t, out, x, axis, keepdims, ties: np.sum(
                t * _shares(out, x, axis, keepdims, ties), axis=axis, keepdims=keepdims
            ),
        ),
        (
            lambda g, out, x, axis, keepdims, ties: (
                _opened(g, x, axis, keepdims) * _shares(out, x, axis, keepdims, ties)
            ),
        ),
    )


MAX, MIN = _extremum("max", np.max), _extremum("min", np.min)


@register(np.max, np.amax, method="max")
def _max(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return apply(MAX, (a,), {"axis": axis, "keepdims": keepdims, "ties": current_ties()})


@register(np.min, np.amin, method="min")
def _min(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return apply(MIN, (a,), {"axis": axis, "keepdims": keepdims, "ties": current_ties()})


@register(np.ptp)
def _ptp(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return np.max(a, axis, keepdims=keepdims) - np.min(a, axis, keepdims=keepdims)


# --- log of a sum of exponentials -----------------------------------------------------------


def _logsumexp(x: Any, axis: Axis, keepdims: bool) -> Any:
    if np.iscomplexobj(x):
        shift = np.max(x.real, axis=axis, keepdims=True)
    else:
        shift = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(shift), shift, 0)
    with np.errstate(divide="ignore"):  # the logarithm of no summands, or of exp(-inf)
        out = shift + np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True))
    return out if keepdims else np.squeeze(out, axes_of(axis, out.ndim))[()]


def _softened(out: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    """exp(x - out), the softmax of x; 0 where all of x is -inf."""
    out = _opened(out, x, axis, keepdims)
    return np.exp(x - np.where(np.isfinite(primal(out)), out, 0))


LOGSUMEXP = written(
    "logsumexp",
    _logsumexp,
    (
        lambda t, out, x, axis, keepdims: np.sum(
            t * _softened(out, x, axis, keepdims), axis=axis, keepdims=keepdims
        ),
    ),
    (
        lambda g, out, x, axis, keepdims: (
            _opened(g, x, axis, keepdims) * _softened(out, x, axis, keepdims)
        ),
    ),
)

# --- statistics -----------------------------------------------------------------------------


@register(np.var, method="var")
def _var(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    *,
    ddof: float = 0,
    keepdims: bool = False,
    mean: Any = None,
    correction: float | None = None,
) -> Any:
    a = _cast(a, dtype)
    if mean is None:
        mean = np.mean(a, axis=axis, keepdims=True)
    centred = a - mean
    total = np.sum(centred * centred, axis=axis, keepdims=keepdims)
    return total / max(_count(a, axis) - (ddof if correction is None else correction), 0)


@register(np.std, method="std")
def _std(a: Any, axis: Axis = None, dtype: Any = None, **options: Any) -> Any:
    return root(_var(a, axis, dtype, **options))


def root(x: Any) -> Any:
    """Return the square root, with the derivative 0 at 0: for lengths and standard deviations."""
    zero = primal(x) == 0
    if not np.any(zero):
        return np.sqrt(x)
    return np.where(zero, 0, np.sqrt(np.where(zero, 1, x)))


@register(np.average)
def _average(
    a: Any,
    axis: Axis = None,
    weights: Any = None,
    returned: bool = False,
    *,
    keepdims: bool = False,
) -> Any:
    a = as_array(a)
    if weights is None:
        out: Any = np.mean(a, axis, keepdims=keepdims)
        total: Any = np.full(shape_of(out), _count(a, axis), dtype=a.dtype)[()]
    else:
        weights = as_array(weights)
        if weights.shape != a.shape:
            axes = axes_of(axis, a.ndim)
            shape = [a.shape[i] if i in axes else 1 for i in range(a.ndim)]
            weights = np.reshape(np.transpose(weights, np.argsort(axes)), shape)
        weights = np.broadcast_to(weights, a.shape)
        total = np.sum(weights, axis, keepdims=keepdims)
        out = np.sum(a * weights, axis, keepdims=keepdims) / total
    return (out, total) if returned else out


@register(np.sort)
def _sort(a: Any, axis: int | None = -1, kind: Any = None, *, stable: bool | None = None) -> Any:
    if axis is None:
        a, axis = np.ravel(a), 0
    order = np.argsort(primal(a), axis=axis, kind="stable")
    return np.take_along_axis(a, order, axis)


@register(np.partition)
def _partition(a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect") -> Any:
    if axis is None:
        a, axis = np.ravel(a), 0
    order = np.argpartition(primal(a), kth, axis=axis)
    return np.take_along_axis(a, order, axis)


@register(np.quantile)
def _quantile(
    a: Any, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False
) -> Any:
    if method != "linear":
        raise refuse("numpy.quantile", f"method={method!r}", 'Use "linear".')
    levels = np.asarray(q, dtype=float)
    if not np.all((levels >= 0) & (levels <= 1)):
        raise ValueError("Quantiles must be in the range [0, 1]")  # as NumPy says it
    inner = np.sort(_last(a, axis), axis=-1)
    place = levels * (inner.shape[-1] - 1)
    low = np.floor(place).astype(int)
    part = np.asarray(place - low, dtype=inner.dtype)[()]
    high = np.minimum(low + 1, inner.shape[-1] - 1)
    out = inner[..., low] * (1 - part) + inner[..., high] * part
    undefined = np.isnan(primal(inner)[..., -1])  # NaNs are sorted to the end
    if np.any(undefined):
        out = np.where(undefined[(..., *(None,) * levels.ndim)], np.nan, out)
    axes = tuple(range(out.ndim - levels.ndim, out.ndim))
    out = np.moveaxis(out, axes, tuple(range(levels.ndim))) if axes else out
    if not keepdims:
        return out
    reduced = axes_of(axis, len(shape_of(a)))
    shape = [1 if i in reduced else n for i, n in enumerate(shape_of(a))]
    return np.reshape(out, (*levels.shape, *shape))


@register(np.percentile)
def _percentile(a: Any, q: Any, axis: Axis = None, **options: Any) -> Any:
    return np.quantile(a, np.asarray(q) / 100, axis, **options)


@register(np.median)
def _median(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return np.quantile(a, 0.5, axis, keepdims=keepdims)


@register(np.cov)
def _cov(
    m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None
) -> Any:
    rows = np.atleast_2d(m)
    if not rowvar and len(shape_of(m)) != 1:
        rows = rows.T
    if y is not None:
        more = np.atleast_2d(y)
        rows = np.concatenate([rows, more if rowvar or len(shape_of(y)) == 1 else more.T])
    centred = rows - np.mean(rows, axis=1, keepdims=True)
    freedom = (0 if bias else 1) if ddof is None else ddof
    return np.squeeze(centred @ centred.T / max(rows.shape[1] - freedom, 0))


@register(np.corrcoef)
def _corrcoef(x: Any, y: Any = None, rowvar: bool = True) -> Any:
    c = np.cov(x, y, rowvar)
    if c.ndim == 0:
        return c / c
    deviation = np.sqrt(np.diag(c))
    return c / deviation[:, None] / deviation[None, :]


# --- where some elements are not numbers ----------------------------------------------------


def _without_nan(a: Any, value: float) -> Any:
    return np.where(np.isnan(primal(a)), value, a)


@register(np.nansum)
def _nansum(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    return np.sum(_without_nan(a, 0.0), axis, dtype, keepdims=keepdims)


@register(np.nanprod)
def _nanprod(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    return np.prod(_without_nan(a, 1.0), axis, dtype, keepdims=keepdims)


@register(np.nanmax)
def _nanmax(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return np.max(_without_nan(a, -np.inf), axis, keepdims=keepdims)


@register(np.nanmin)
def _nanmin(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return np.min(_without_nan(a, np.inf), axis, keepdims=keepdims)


@register(np.nanmean)
def _nanmean(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    present = np.sum(~np.isnan(primal(a)), axis=axis, keepdims=keepdims, dtype=a.dtype)
    return np.nansum(a, axis, dtype, keepdims=keepdims) / present


@register(np.nanvar)
def _nanvar(
    a: Any, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False
) -> Any:
    a = _cast(a, dtype)
    present = ~np.isnan(primal(a))
    centred = np.where(present, a - np.nanmean(a, axis, keepdims=True), 0)
    count = np.sum(present, axis=axis, keepdims=keepdims, dtype=a.dtype)
    return np.sum(centred * centred, axis, keepdims=keepdims) / (count - ddof)


@register(np.nanstd)
def _nanstd(a: Any, axis: Axis = None, dtype: Any = None, **options: Any) -> Any:
    return root(_nanvar(a, axis, dtype, **options))


# --- differences and integrals --------------------------------------------------------------


def _along(a: Any, axis: int, part: slice) -> Any:
    return a[(*(slice(None),) * (axis % len(shape_of(a))), part)]


@register(np.diff)
def _diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n!r}")  # as NumPy says it
    ends = []
    for end in (prepend, append):
        if end is not None and shape_of(end) == ():
            shape = list(shape_of(a))
            shape[axis] = 1
            end = np.broadcast_to(end, shape)
        ends.append(end)
    parts = [part for part in (ends[0], a, ends[1]) if part is not None]
    a = np.concatenate(parts, axis=axis) if len(parts) > 1 else a
    for _ in range(n):
        a = _along(a, axis, slice(1, None)) - _along(a, axis, slice(None, -1))
    return a


@register(np.ediff1d)
def _ediff1d(ary: Any) -> Any:
    return np.diff(np.ravel(ary))


@register(np.trapezoid)
def _trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = as_array(y)
    if x is not None:
        dx = np.diff(x, axis=-1 if len(shape_of(x)) == 1 else axis)
        if len(shape_of(dx)) == 1:
            dx = np.reshape(dx, [-1 if i == axis % y.ndim else 1 for i in range(y.ndim)])
    middle = (_along(y, axis, slice(1, None)) + _along(y, axis, slice(None, -1))) / 2
    return np.sum(dx * middle, axis=axis)


@register(np.interp)
def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None) -> Any:
    xp, fp = as_array(xp), as_array(fp)
    where = np.clip(np.searchsorted(primal(xp), primal(x), side="right") - 1, 0, len(xp) - 2)
    slope = (fp[where + 1] - fp[where]) / (xp[where + 1] - xp[where])
    inside = fp[where] + slope * (x - xp[where])
    out = np.where(primal(x) < primal(xp[0]), fp[0] if left is None else left, inside)
    return np.where(primal(x) > primal(xp[-1]), fp[-1] if right is None else right, out)


@register(np.sinc)
def _sinc(x: Any) -> Any:
    z = np.pi * x
    near = abs(primal(z)) < 0.1
    square = np.where(near, z * z, 0)
    # The Taylor series, whose next term is below 1e-17 here.
    series = 1 + square * (-1 / 6 + square * (1 / 120 + square * (-1 / 5040 + square / 362880)))
    away = np.where(near, 1, z)
    return np.where(near, series, np.sin(away) / away)


@register(np.polyval)
def _polyval(p: Any, x: Any) -> Any:
    out = np.zeros(shape_of(x), np.result_type(primal(x)))[()]
    for coefficient in as_array(p):
        out = out * x + coefficient
    return out


ROUND = Rule("round", lambda x, decimals: np.round(x, decimals), (None,), (None,))


@register(np.round, np.around, method="round")
def _round(a: Any, decimals: int = 0) -> Any:
    return apply(ROUND, (a,), {"decimals": decimals})


@register(np.fix)
def _fix(x: Any) -> Any:
    return np.trunc(x)


def _logaddexp_reduce(a: Any, axis: Axis = 0, *, keepdims: bool = False) -> Any:
    return apply(LOGSUMEXP, (a,), {"axis": axis, "keepdims": keepdims})


UFUNC_METHODS.update(
    {
        (np.add, "reduce"): _sum,
        (np.multiply, "reduce"): _prod,
        (np.maximum, "reduce"): _max,
        (np.minimum, "reduce"): _min,
        (np.logaddexp, "reduce"): _logaddexp_reduce,
        (np.add, "accumulate"): _cumsum,
        (np.multiply, "accumulate"): _cumprod,
    }
)
