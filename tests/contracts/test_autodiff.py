"""One suite that every derivative rule passes: each function registers its samples once, below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from chainrule.autodiff import (
    grad,
    hvp,
    jvp,
    log_softmax,
    logsumexp,
    relu,
    sigmoid,
    softmax,
    softplus,
    trace,
    vjp,
)
from chainrule.autodiff.constants import ANSWERS
from chainrule.autodiff.rules import SCIPY
from chainrule.autodiff.tracing import FUNCTIONS, UFUNCS, Tracer, full_name
from chainrule.autodiff.trees import flatten

Shape = tuple[int, ...]


class Samples:
    """Shapes and values of one example; extents start at `low`."""

    def __init__(self, draw: Any, low: int) -> None:
        self.draw = draw
        self.low = low
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def extent(self, high: int = 3) -> int:
        return int(self.draw(st.integers(self.low, high)))

    def shape(self, low: int = 0, high: int = 3) -> Shape:
        return tuple(self.extent() for _ in range(self.draw(st.integers(low, high))))

    def choose(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def flag(self) -> bool:
        return bool(self.draw(st.booleans()))

    def broadcasting(self, count: int = 2, low: int = 0) -> list[Shape]:
        """Shapes that broadcast with each other."""
        full = self.shape(low)
        shapes = []
        for _ in range(count):
            kept = full[self.draw(st.integers(0, max(len(full) - low, 0))) :]
            shapes.append(tuple(n if self.flag() else min(n, 1) for n in kept))
        return shapes

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape)

    def uniform(self, low: float, high: float, shape: Shape) -> Any:
        return np.asarray(self.rng.uniform(low, high, shape))[() if self.flag() else ...]

    def off_zero(self, shape: Shape) -> np.ndarray:
        return self.rng.choice([-1.0, 1.0], shape) * self.rng.uniform(0.05, 2.0, shape)

    def off_integers(self, shape: Shape) -> np.ndarray:
        return self.rng.integers(-3, 4, shape) + self.rng.uniform(0.1, 0.9, shape)

    def apart(self, *shapes: Shape) -> list[np.ndarray]:
        """Arrays with no two elements closer than 0.1, one of them 0.05."""
        sizes = [int(np.prod(shape)) for shape in shapes]
        values = 0.1 * (self.rng.permutation(sum(sizes)) - sum(sizes) // 2) + 0.05
        parts = np.split(values, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def axis(self, ndim: int) -> int:
        return int(self.draw(st.integers(-ndim, ndim - 1)))

    def axes(self, ndim: int) -> Any:
        """None, one axis or several, counted from either end."""
        if not ndim or self.flag():
            return None
        if self.flag():
            return self.axis(ndim)
        chosen = self.draw(st.sets(st.integers(0, ndim - 1), min_size=1))
        return tuple(i - ndim if self.flag() else i for i in chosen)


Case = tuple[Callable[..., Any], Sequence[Any]]  # a function and its arguments


@dataclass(frozen=True)
class Row:
    """A function with what is known of it."""

    function: Any
    make: Callable[[Samples], Case]
    name: str
    analytic: bool = True  # NumPy evaluates it on complex arguments, as the analytic function
    empty: bool = True  # it takes arrays without elements
    single: bool = True  # single precision gives single precision
    flat: bool = False  # its derivative is 0 wherever there is one


ROWS: list[Row] = []


def row(function: Any, name: str = "", **flags: bool) -> Callable[[Any], Any]:
    """Register what makes the cases of a function; the name tells rows of one function apart."""

    def keep(make: Callable[[Samples], Case]) -> Callable[[Samples], Case]:
        if function is not None:  # None is what this version of NumPy does not have
            full = getattr(function, "__name__", function)
            module = getattr(function, "__module__", None) or ""
            prefix = "linalg." if module == "numpy.linalg" else ""
            ROWS.append(Row(function, make, f"{prefix}{full} {name}".strip(), **flags))
        return make

    return keep


def unary(function: Any, low: float, high: float, **flags: bool) -> None:
    @row(function, **flags)
    def _(s: Samples) -> Case:
        return function, [s.uniform(low, high, s.shape())]


def binary(function: Any, xs: tuple[float, float], ys: tuple[float, float], **flags: bool) -> None:
    @row(function, **flags)
    def _(s: Samples) -> Case:
        x, y = s.broadcasting()
        return function, [s.uniform(*xs, x), s.uniform(*ys, y)]


# --- elementwise ----------------------------------------------------------------------------

for function in (np.negative, np.positive, np.square, np.exp, np.expm1):
    unary(function, -2, 2)
for function in (np.sin, np.cos, np.sinh, np.cosh, np.tanh):
    unary(function, -2, 2)
for function in (np.sqrt, np.log, np.log2, np.log10, np.reciprocal):
    unary(function, 0.2, 3)
for function in (np.arcsin, np.arccos, np.arctan, np.arctanh, np.tan, np.log1p):
    unary(function, -0.8, 0.8)
unary(np.arcsinh, -2, 2)
unary(np.arccosh, 1.2, 3)
unary(np.exp2, -2, 2)
unary(np.conjugate, -2, 2, analytic=False)
for function in (np.cbrt, np.deg2rad, np.radians, np.rad2deg, np.degrees):
    unary(function, 0.2, 3, analytic=False)

for function in (np.add, np.subtract, np.multiply):
    binary(function, (-2, 2), (-2, 2))
binary(np.true_divide, (-2, 2), (0.3, 2))
binary(np.power, (0.3, 2), (-2, 3))
binary(np.float_power, (0.3, 2), (-2, 3), single=False)
binary(np.arctan2, (0.3, 2), (-2, 2), analytic=False)
binary(np.hypot, (-2, 2), (0.3, 2), analytic=False)
binary(np.logaddexp, (-2, 2), (-2, 2), analytic=False)
binary(np.logaddexp2, (-2, 2), (-2, 2), analytic=False)


@row(np.power, "with a number")
def _(s: Samples) -> Case:
    exponent = s.choose(0, 1, 2, 3, -1, 0.5, 2.0, -1.5)
    return lambda x: x**exponent, [s.uniform(0.3, 2, s.shape())]


@row(np.power, "of a number")
def _(s: Samples) -> Case:
    return lambda y: 2**y, [s.uniform(-2, 2, s.shape())]


@row(np.power, "of negative numbers")
def _(s: Samples) -> Case:
    return lambda x: x ** np.float32([3, 2, 0]), [s.off_zero((*s.shape(0, 2), 3))]


for function in (np.absolute, np.fabs):

    @row(function, analytic=False)
    def _(s: Samples, function: Any = function) -> Case:
        return function, [s.off_zero(s.shape())]


for function in (np.sign, np.floor, np.ceil, np.trunc, np.rint):

    @row(function, analytic=False, flat=True)
    def _(s: Samples, function: Any = function) -> Case:
        kind = s.choose(0.2, 0.7)
        return function, [kind + s.rng.integers(-3, 3, s.shape())]


for function in (np.maximum, np.minimum, np.fmax, np.fmin):

    @row(function, analytic=False)
    def _(s: Samples, function: Any = function) -> Case:
        return function, s.apart(*s.broadcasting())


@row(np.copysign, analytic=False)
def _(s: Samples) -> Case:
    x, y = s.broadcasting()
    return np.copysign, [s.off_zero(x), s.off_zero(y)]


for function, flat in (
    (np.remainder, False),
    (np.fmod, False),
    (np.floor_divide, True),
    (np.divmod, False),
):

    @row(function, analytic=False, flat=flat)
    def _(s: Samples, function: Any = function) -> Case:
        """Quotients 0.1 from an integer."""
        x, y = s.broadcasting()
        y = s.choose(0.5, 1.0, -2.0) * np.ones(y)
        return function, [s.off_integers(x) * np.abs(y.flat[0] if y.size else 1.0), y]


@row(np.modf, analytic=False)
def _(s: Samples) -> Case:
    return np.modf, [s.off_integers(s.shape())]


@row(np.ldexp, analytic=False)
def _(s: Samples) -> Case:
    x, n = s.broadcasting()
    exponents = s.rng.integers(-2, 3, n)
    return lambda x: np.ldexp(x, exponents), [s.normal(*x)]


@row(np.heaviside, analytic=False, flat=True)
def _(s: Samples) -> Case:
    x, y = s.broadcasting()
    return np.heaviside, [s.off_zero(x), s.off_zero(y)]


# --- SciPy's functions ----------------------------------------------------------------------

# Name, range, whether it is evaluated on complex arguments.
for name, low, high, analytic in (
    ("expit", -3, 3, False),
    ("logit", 0.1, 0.9, False),
    ("log_expit", -3, 3, False),
    ("erf", -2, 2, True),
    ("erfc", -2, 2, True),
    ("erfcx", -1, 2, True),
    ("erfinv", -0.8, 0.8, False),
    ("erfcinv", 0.2, 1.8, False),
    ("ndtr", -2, 2, True),
    ("ndtri", 0.1, 0.9, False),
    ("log_ndtr", -3, 2, True),
    ("gamma", 0.5, 3, True),
    ("gammaln", 0.5, 3, False),
    ("loggamma", 0.5, 3, True),
    ("psi", 0.5, 3, True),
    ("entr", 0.3, 2, False),
    ("j0", 0.5, 4, False),
    ("j1", 0.5, 4, False),
    ("i0", -2, 2, False),
    ("i1", 0.3, 2, False),
    ("exp2", -2, 2, False),
    ("exp10", -1, 1, False),
    ("expm1", -2, 2, True),
    ("log1p", -0.8, 2, True),
    ("cbrt", 0.3, 2, False),
):
    unary(getattr(special, name), low, high, analytic=analytic)

for name, xs, ys, analytic in (
    ("beta", (0.5, 3), (0.5, 3), False),
    ("betaln", (0.5, 3), (0.5, 3), False),
    ("xlogy", (-2, 2), (0.3, 2), True),
    ("xlog1py", (-2, 2), (-0.5, 2), True),
    ("rel_entr", (0.3, 2), (0.3, 2), False),
    ("kl_div", (0.3, 2), (0.3, 2), False),
):
    binary(getattr(special, name), xs, ys, analytic=analytic)

for function in (special.gammainc, special.gammaincc, special.jv, special.iv):

    @row(function, analytic=False)
    def _(s: Samples, function: Any = function) -> Case:
        order = np.float32(s.choose(0.5, 1.0, 2.5))
        return lambda x: function(order, x), [s.uniform(0.5, 3, s.shape())]


@row(special.huber, analytic=False)
def _(s: Samples) -> Case:
    delta, r = s.broadcasting()
    size = s.choose((0.1, 0.9), (1.6, 2.0))
    return special.huber, [s.uniform(1, 1.5, delta), s.choose(-1, 1) * s.uniform(*size, r)]


@row(special.round, analytic=False, flat=True)
def _(s: Samples) -> Case:
    return special.round, [s.choose(0.2, 0.7) + s.rng.integers(-3, 3, s.shape())]


# --- sums, statistics, orders ---------------------------------------------------------------

for function in (np.sum, np.mean, np.prod, np.var, np.std):

    @row(
        function,
        analytic=function not in (np.var, np.std),
        empty=function in (np.sum, np.prod),
    )
    def _(s: Samples, function: Any = function) -> Case:
        shape = s.shape(1) if function is np.std else s.shape()
        options = {"axis": s.axes(len(shape)), "keepdims": s.flag()}
        if function is np.std:  # of one number it is 0, with a kink
            shape = tuple(n + 1 for n in shape)
        return lambda x: function(x, **options), [s.normal(*shape)]


@row(np.prod, "with zeros")
def _(s: Samples) -> Case:
    x = s.normal(3, 4) * s.rng.choice([0.0, 1.0], (3, 4))
    axis = s.choose(None, 0, 1)
    return lambda x: np.prod(x, axis=axis), [x]


@row(np.cumprod, "with zeros")
def _(s: Samples) -> Case:
    x = s.normal(3, 4) * s.rng.choice([0.0, 1.0], (3, 4))
    axis = s.choose(None, 0, 1)
    return lambda x: np.cumprod(x, axis=axis), [x]


@row(np.var, "with degrees of freedom", analytic=False, empty=False)
def _(s: Samples) -> Case:
    axis = s.choose(None, 0, 1)
    return lambda x: np.var(x, axis=axis, ddof=1), [s.normal(2, s.extent() + 1)]


for function in (np.cumsum, np.cumprod):

    @row(function)
    def _(s: Samples, function: Any = function) -> Case:
        x = s.normal(*s.shape(1))
        axis = s.choose(None, s.axis(x.ndim))
        return lambda x: function(x, axis=axis), [x]


for name in ("cumulative_sum", "cumulative_prod"):

    @row(getattr(np, name, None))
    def _(s: Samples, name: str = name) -> Case:
        x = s.normal(*s.shape(1))
        options = {"axis": s.axis(x.ndim), "include_initial": s.flag()}
        return lambda x: getattr(np, name)(x, **options), [x]


for function in (np.max, np.min, np.amax, np.amin, np.ptp, np.nanmax, np.nanmin):

    @row(function, analytic=False, empty=False)
    def _(s: Samples, function: Any = function) -> Case:
        (x,) = s.apart(s.shape())
        axis, keepdims = s.axes(x.ndim), s.flag()
        return lambda x: function(x, axis=axis, keepdims=keepdims), [x]


for function in (np.nansum, np.nanprod, np.nanmean, np.nanmax, np.nanmin, np.nanvar, np.nanstd):

    @row(function, "with NaNs", analytic=False, empty=False)
    def _(s: Samples, function: Any = function) -> Case:
        (x,) = s.apart((3, 4))
        gaps = s.rng.random((3, 4)) < 0.3
        gaps[0, :] = gaps[:, 0] = False
        axis = s.choose(None, 0, 1)
        return lambda x: function(np.where(gaps, np.nan, x), axis=axis), [x]


for function in (np.nansum, np.nanprod, np.nanmean):

    @row(function, analytic=False, empty=False)
    def _(s: Samples, function: Any = function) -> Case:
        x = s.normal(*s.shape())
        axis, keepdims = s.axes(x.ndim), s.flag()
        return lambda x: function(x, axis=axis, keepdims=keepdims), [x]


@row(np.average, empty=False)
def _(s: Samples) -> Case:
    x = s.normal(*s.shape(1))
    axis = s.axis(x.ndim)
    weights = s.uniform(0.5, 2, s.choose(x.shape, (x.shape[axis],)))
    return lambda x, w: np.average(x, axis=axis, weights=np.asarray(w) if not w.shape else w), [
        x,
        np.atleast_1d(weights),
    ]


@row(np.average, "without weights", empty=False)
def _(s: Samples) -> Case:
    x = s.normal(*s.shape())
    axis = s.axes(x.ndim)
    return lambda x: np.average(x, axis=axis, returned=True)[0], [x]


@row(np.partition, analytic=False)
def _(s: Samples) -> Case:
    (x,) = s.apart((2, 3))
    axis = s.choose(None, 0, -1)
    return lambda x: np.sort(np.partition(x, 1, axis=axis)), [x]


@row(np.sort, analytic=False)
def _(s: Samples) -> Case:
    (x,) = s.apart(s.shape(1))
    axis = s.choose(None, s.axis(x.ndim))
    return lambda x: np.sort(x, axis=axis), [x]


for function, levels in (
    (np.quantile, (0.3, [0.0, 0.21, 1.0], [[0.4], [0.9]])),
    (np.percentile, (30.0, [0, 21, 100])),
):

    @row(function, analytic=False, empty=False)
    def _(s: Samples, function: Any = function, levels: Any = levels) -> Case:
        (x,) = s.apart(s.shape())
        q, axis, keepdims = s.choose(*levels), s.axes(x.ndim), s.flag()
        return lambda x: function(x, q, axis=axis, keepdims=keepdims), [x]


@row(np.median, analytic=False, empty=False)
def _(s: Samples) -> Case:
    (x,) = s.apart(s.shape())
    axis, keepdims = s.axes(x.ndim), s.flag()
    return lambda x: np.median(x, axis=axis, keepdims=keepdims), [x]


@row(np.cov, analytic=False, empty=False)
def _(s: Samples) -> Case:
    options = s.choose({}, {"bias": True}, {"ddof": 0}, {"rowvar": False})
    if s.flag():
        return lambda x, y: np.cov(x, y, **options), [s.normal(3, 3), s.normal(3, 3)]
    shape = s.choose((4,), (3, 4))
    return lambda x: np.cov(x, **options), [s.normal(*shape)]


@row(np.corrcoef, analytic=False, empty=False)
def _(s: Samples) -> Case:
    rowvar = s.flag()
    return lambda x: np.corrcoef(x, rowvar=rowvar), [s.normal(6, 5) + 3 * np.eye(6, 5)]


@row(np.diff)
def _(s: Samples) -> Case:
    x = s.normal(*s.shape(1))
    n, axis = s.choose(0, 1, 2), s.axis(x.ndim)
    return lambda x: np.diff(x, n=n, axis=axis), [x]


@row(np.diff, "with ends")
def _(s: Samples) -> Case:
    return lambda x, y: np.diff(x, axis=0, prepend=y, append=np.float32(1)), [
        s.normal(3, 2),
        s.normal(1, 2),
    ]


@row(np.trapezoid)
def _(s: Samples) -> Case:
    y = s.normal(2, 3)
    axis = s.choose(0, 1, -1)
    x = s.uniform(1, 2, (y.shape[axis],)).cumsum()
    return s.choose(
        (lambda y, x: np.trapezoid(y, x, axis=axis), [y, x]),
        (lambda y: np.trapezoid(y, dx=0.5, axis=axis), [y]),
    )


@row(np.interp, analytic=False, empty=False)
def _(s: Samples) -> Case:
    """Outside, in between, and never on a knot."""
    options = s.choose({}, {"left": -1.0, "right": 2.0})
    x = s.rng.integers(-1, 4, s.shape()) + s.rng.uniform(0.2, 0.8, ())
    knots = np.arange(4.0) + s.rng.uniform(-0.05, 0.05, 4)
    return lambda x, xp, fp: np.interp(x, xp, fp, **options), [np.asarray(x), knots, s.normal(4)]


unary(np.sinc, -2, 2)


@row(np.sinc, "around zero")
def _(s: Samples) -> Case:
    return np.sinc, [s.choose(0.0, 0.001, 0.03, 0.033) * np.ones(s.shape())]


@row(np.polyval)
def _(s: Samples) -> Case:
    return np.polyval, [s.normal(s.extent()), s.normal(*s.shape())]


@row(np.nan_to_num, analytic=False)
def _(s: Samples) -> Case:
    shape = s.shape()
    gaps = s.rng.random(shape) < 0.3
    return lambda x: np.nan_to_num(np.where(gaps, np.nan, x), nan=1.0), [s.normal(*shape)]


for function in (np.round, np.around, np.fix):

    @row(function, analytic=False, flat=True)
    def _(s: Samples, function: Any = function) -> Case:
        return function, [s.choose(0.2, 0.7) + s.rng.integers(-3, 3, s.shape())]


# --- choosing and clipping ------------------------------------------------------------------


@row(np.where)
def _(s: Samples) -> Case:
    x, y = s.broadcasting()
    condition = s.rng.random(np.broadcast_shapes(x, y)) < 0.5
    return lambda x, y: np.where(condition, x, y), [s.normal(*x), s.normal(*y)]


@row(np.select)
def _(s: Samples) -> Case:
    x, y = s.broadcasting()
    shape = np.broadcast_shapes(x, y)
    conditions = [s.rng.random(shape) < 0.3, s.rng.random(shape) < 0.5]
    return lambda x, y: np.select(conditions, [x, y], 2.0), [s.normal(*x), s.normal(*y)]


@row(np.clip, analytic=False)
def _(s: Samples) -> Case:
    x, low, high = s.broadcasting(3)
    below, above = s.uniform(-1, -0.7, low), s.uniform(0.7, 1, high)
    values = s.rng.choice([-1.5, 0.0, 1.5], x) + s.rng.uniform(-0.3, 0.3, x)
    return s.choose(
        (np.clip, [values, below, above]),
        (lambda x: np.clip(x, None, 0.6), [values]),
        (lambda x, low: np.clip(x, low, None), [values, below]),
    )


# --- shapes, copies, rearrangements ---------------------------------------------------------


def rearranging(
    function: Any, low: int, high: int, *calls: Callable[..., Any], **flags: bool
) -> None:
    """A function of one array, of `low` to `high` axes, under each of some options."""

    @row(function, **flags)
    def _(s: Samples) -> Case:
        return s.choose(*calls or (function,)), [s.normal(*s.shape(low, high))]


@row(np.reshape)
def _(s: Samples) -> Case:
    x = s.normal(*s.shape())
    shapes = [x.shape[::-1], (x.size,), (1, x.size, 1), *([-1, (-1, 1)] if x.size else [])]
    shape, order = s.choose(*shapes), s.choose("C", "F")
    return lambda x: np.reshape(x, shape, order=order), [x]


@row(np.transpose)
def _(s: Samples) -> Case:
    x = s.normal(*s.shape())
    axes = s.choose(None, tuple(s.rng.permutation(x.ndim) - x.ndim * s.flag()))
    return lambda x: np.transpose(x, axes), [x]


@row(np.moveaxis)
def _(s: Samples) -> Case:
    source, target = s.choose((0, 2), (-1, 0), ((0, 1), (2, 0)), ((2, -2), (-3, -1)))
    return lambda x: np.moveaxis(x, source, target), [s.normal(*s.shape(3))]


@row(np.broadcast_to)
def _(s: Samples) -> Case:
    shape = s.shape()
    start = s.choose(shape, (1, *shape[1:])[: len(shape)], shape[1:], ())
    return lambda x: np.broadcast_to(x, shape), [s.normal(*start)]


@row(np.broadcast_arrays)
def _(s: Samples) -> Case:
    x, y = s.broadcasting()
    return lambda x, y: list(np.broadcast_arrays(x, y)), [s.normal(*x), s.normal(*y)]


@row(np.meshgrid)
def _(s: Samples) -> Case:
    options = {"indexing": s.choose("xy", "ij"), "sparse": s.flag()}
    arrays = [s.normal(s.extent()) for _ in range(s.choose(1, 2, 3))]
    return lambda *xs: list(np.meshgrid(*xs, **options)), arrays


rearranging(np.astype, 0, 3, lambda x: np.astype(x, x.dtype))
rearranging(np.copy, 0, 3)
rearranging(np.real, 0, 3, analytic=False)
rearranging(np.real_if_close, 0, 3, analytic=False)
rearranging(np.imag, 0, 3, analytic=False, flat=True)
rearranging(np.ravel, 0, 3, np.ravel, lambda x: np.ravel(x, order="F"))
rearranging(np.swapaxes, 2, 3, lambda x: np.swapaxes(x, 0, -1), lambda x: np.swapaxes(x, 1, 1))
rearranging(np.matrix_transpose, 2, 3)
rearranging(np.linalg.matrix_transpose, 2, 3)
rearranging(np.rollaxis, 2, 3, lambda x: np.rollaxis(x, 1), lambda x: np.rollaxis(x, 0, 2))
rearranging(
    np.expand_dims, 1, 2, lambda x: np.expand_dims(x, 0), lambda x: np.expand_dims(x, (0, -1))
)
rearranging(np.squeeze, 0, 3, np.squeeze, lambda x: np.squeeze(x[None], 0))
for function in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
    rearranging(function, 0, 3, function, lambda x, f=function: list(f(x, x * x)))
rearranging(np.tril, 2, 3, np.tril, lambda x: np.tril(x, 1))
rearranging(np.triu, 2, 3, np.triu, lambda x: np.triu(x, -1))
rearranging(np.diag, 1, 2, np.diag, lambda x: np.diag(x, 1), lambda x: np.diag(x, -1))
rearranging(np.diagflat, 0, 3, np.diagflat, lambda x: np.diagflat(x, -2))
rearranging(
    np.diagonal, 2, 3, np.diagonal, lambda x: np.diagonal(x, 1, 1, 0), lambda x: np.diagonal(x, -1)
)
rearranging(np.linalg.diagonal, 2, 3, lambda x: np.linalg.diagonal(x, offset=1))
rearranging(np.flip, 1, 3, np.flip, lambda x: np.flip(x, 0), lambda x: np.flip(x, axis=(0, -1)[:1]))
rearranging(np.fliplr, 2, 3)
rearranging(np.flipud, 1, 3)
rearranging(np.rot90, 2, 3, np.rot90, lambda x: np.rot90(x, -1, (1, 0)))
rearranging(np.roll, 1, 3, lambda x: np.roll(x, 1), lambda x: np.roll(x, (2,), axis=(0,)))
rearranging(np.tile, 0, 2, lambda x: np.tile(x, 2), lambda x: np.tile(x, (2, 1, 3)))
rearranging(np.repeat, 0, 3, lambda x: np.repeat(x, 2))
rearranging(np.repeat, 1, 3, lambda x: np.repeat(x, 3, axis=0))
rearranging(np.resize, 0, 2, lambda x: np.resize(x, (2, 3)), empty=False)
rearranging(np.delete, 1, 3, lambda x: np.delete(x, 0), lambda x: np.delete(x, -1, 0), empty=False)
rearranging(
    np.take,
    1,
    3,
    lambda x: np.take(x, [0, -1, 0]),
    lambda x: np.take(x, 0, axis=-1),
    lambda x: np.take(x, [[0, 0]], axis=0, mode="clip"),
    empty=False,
)
rearranging(
    np.take_along_axis,
    1,
    1,
    lambda x: np.take_along_axis(x, np.array([0, 0, -1]), 0),
    empty=False,
)
rearranging(
    np.lib.stride_tricks.sliding_window_view,
    1,
    1,
    lambda x: np.lib.stride_tricks.sliding_window_view(x, 1),
    lambda x: np.lib.stride_tricks.sliding_window_view(x, x.shape[0]),
    empty=False,
)
rearranging(np.compress, 1, 3, lambda x: np.compress([True], x, axis=0), empty=False)
rearranging(np.extract, 0, 3, lambda x: np.extract(np.arange(x.size) % 2 == 0, x))
rearranging(
    np.full_like, 0, 0, lambda x: np.full_like(x, x * x), lambda x: np.full_like(x, x, shape=(2, 3))
)
rearranging(getattr(np, "unstack", None), 1, 3, lambda x: list(np.unstack(x, axis=-1)))
rearranging(np.ediff1d, 0, 3)


# --- putting together and taking apart ------------------------------------------------------


@row(np.concatenate)
def _(s: Samples) -> Case:
    first = s.shape(1)
    axis = s.choose(None, s.axis(len(first)))
    shapes = [list(first) for _ in range(s.choose(1, 2, 3))]
    for shape in shapes:
        shape[0 if axis is None else axis] = s.extent()
    return lambda *xs: np.concatenate(xs, axis=axis), [s.normal(*shape) for shape in shapes]


@row(np.stack)
def _(s: Samples) -> Case:
    shape = s.shape()
    axis = s.axis(len(shape) + 1)
    return lambda *xs: np.stack(xs, axis=axis), [s.normal(*shape) for _ in range(s.choose(1, 3))]


for function in (np.vstack, np.hstack, np.dstack, np.column_stack):

    @row(function)
    def _(s: Samples, function: Any = function) -> Case:
        shape = s.shape(1 if function is np.column_stack else 0)
        return lambda *xs: function(xs), [s.normal(*shape) for _ in range(s.choose(1, 2))]


@row(np.append)
def _(s: Samples) -> Case:
    return s.choose(
        (np.append, [s.normal(*s.shape()), s.normal(*s.shape())]),
        (lambda x, y: np.append(x, y, axis=0), [s.normal(s.extent(), 2), s.normal(s.extent(), 2)]),
    )


@row(np.block)
def _(s: Samples) -> Case:
    m, n, p, q = (s.extent() for _ in range(4))
    shapes = [(m, p), (m, q), (n, p), (n, q)]
    return lambda a, b, c, d: np.block([[a, b], [c, d]]), [s.normal(*shape) for shape in shapes]


for function in (np.split, np.array_split):

    @row(function)
    def _(s: Samples, function: Any = function) -> Case:
        x = s.normal(*s.shape(1))
        axis = s.axis(x.ndim)
        where = s.choose([1], [0, 2], 1 if function is np.split else 2)
        return lambda x: list(function(x, where, axis=axis)), [x]


for function, ndim in ((np.hsplit, 1), (np.vsplit, 2), (np.dsplit, 3)):
    rearranging(function, ndim, 3, lambda x, f=function: list(f(x, [1])))


@row(np.pad, empty=False)
def _(s: Samples) -> Case:
    x = s.normal(*s.shape(1))
    width = s.choose(1, (0, 2), ((1, 0),))
    options = s.choose(
        {},
        {"constant_values": 2.0},
        {"mode": "edge"},
        {"mode": "reflect"},
        {"mode": "symmetric"},
        {"mode": "wrap"},
    )
    return lambda x: np.pad(x, width, **options), [x]


INDICES: list[Any] = [
    0,
    -1,
    (0, 1),
    slice(None, None, -1),
    slice(1, None, 2),
    (Ellipsis, 1),
    (None, slice(None), 0),
    [0, 2, 0],
    np.array([[1, 1], [0, -1]]),
    (np.array([0, 1, 1]), np.array([2, 0, 0])),
    (slice(None), np.array([0, 0, 1])),
    (np.array([0, 0]), slice(1, 3), np.array([1, 1])),
    (np.array([0, 0]), None, 1),
    np.array([True, False, True]),
    (np.array([True, False, True]), 1),
    np.arange(27).reshape(3, 3, 3) % 2 == 0,
    (Ellipsis, np.array([0, 0]), None),
    np.array([], dtype=int),
    (),
]


@row("getitem", empty=False)
def _(s: Samples) -> Case:
    index = s.choose(*INDICES)
    return lambda x: x[index], [s.normal(3, 3, 3)]


# --- products -------------------------------------------------------------------------------


def stacked_products(s: Samples) -> list[tuple[Shape, Shape]]:
    m, n, k = s.extent(), s.extent(), s.extent()
    x, y = s.broadcasting()
    return [
        ((n,), (n,)),
        ((m, n), (n,)),
        ((n,), (n, k)),
        ((*x, m, n), (n,)),
        ((n,), (*y, n, k)),
        ((*x, m, n), (*y, n, k)),
    ]


@row(np.matmul)
def _(s: Samples) -> Case:
    left, right = s.choose(*stacked_products(s))
    return np.matmul, [s.normal(*left), s.normal(*right)]


@row(np.linalg.matmul)
def _(s: Samples) -> Case:
    left, right = stacked_products(s)[-1]
    return np.linalg.matmul, [s.normal(*left), s.normal(*right)]


@row(np.dot)
def _(s: Samples) -> Case:
    m, n, k = s.extent(), s.extent(), s.extent()
    shapes = s.choose(
        ((), (m, n)),
        ((n,), ()),
        ((n,), (n,)),
        ((m, n), (n,)),
        ((n,), (n, k)),
        ((m, n), (n, k)),
        ((k, m, n), (n,)),
        ((m, n), (2, n, k)),
    )
    return np.dot, [s.normal(*shape) for shape in shapes]


for function in (np.vecdot, np.linalg.vecdot):

    @row(function, analytic=False)
    def _(s: Samples, function: Any = function) -> Case:
        x, y = s.broadcasting()
        n = s.extent()
        return function, [s.normal(*x, n), s.normal(*y, n)]


@row(getattr(np, "matvec", None))
def _(s: Samples) -> Case:
    x, y = s.broadcasting()
    m, n = s.extent(), s.extent()
    return np.matvec, [s.normal(*x, m, n), s.normal(*y, n)]


@row(getattr(np, "vecmat", None), analytic=False)
def _(s: Samples) -> Case:
    x, y = s.broadcasting()
    m, n = s.extent(), s.extent()
    return np.vecmat, [s.normal(*x, m), s.normal(*y, m, n)]


@row(np.inner)
def _(s: Samples) -> Case:
    n = s.extent()
    x, y = s.choose(((), (n,)), ((n,), (n,)), ((2, n), (n,)), ((2, n), (3, 2, n)))
    return np.inner, [s.normal(*x), s.normal(*y)]


@row(np.vdot, analytic=False)
def _(s: Samples) -> Case:
    shape = s.shape()
    return np.vdot, [s.normal(*shape), s.normal(int(np.prod(shape)))]


@row(np.outer)
def _(s: Samples) -> Case:
    return np.outer, [s.normal(*s.shape(0, 2)), s.normal(*s.shape(0, 2))]


@row(np.linalg.outer)
def _(s: Samples) -> Case:
    return np.linalg.outer, [s.normal(s.extent()), s.normal(s.extent())]


for function in (np.tensordot, np.linalg.tensordot):

    @row(function)
    def _(s: Samples, function: Any = function) -> Case:
        m, n, k = s.extent(), s.extent(), s.extent()
        x, y, axes = s.choose(
            ((m, n), (n, k), 1),
            ((m, n, k), (n, k), 2),
            ((m,), (n,), 0),
            ((m, n, k), (k, m), ((0, 2), (1, 0))),
            ((m, n), (k, n), (1, -1)),
        )
        return lambda x, y: function(x, y, axes=axes), [s.normal(*x), s.normal(*y)]


@row(np.kron)
def _(s: Samples) -> Case:
    return np.kron, [s.normal(*s.shape(0, 2)), s.normal(*s.shape(0, 2))]


for function in (np.cross, np.linalg.cross):

    @row(function)
    def _(s: Samples, function: Any = function) -> Case:
        x, y = s.broadcasting()
        return function, [s.normal(*x, 3), s.normal(*y, 3)]


@row(np.cross, "along other axes")
def _(s: Samples) -> Case:
    return s.choose(
        (lambda x, y: np.cross(x, y, axis=0), [s.normal(3, 2), s.normal(3, 2)]),
        (lambda x, y: np.cross(x, y, 0, 1, 1), [s.normal(3, 2), s.normal(2, 3)]),
    )


@row(np.linalg.multi_dot)
def _(s: Samples) -> Case:
    m, n, k = s.extent(), s.extent(), s.extent()
    shapes = s.choose(((m, n), (n, k)), ((m, n), (n, k), (k, m)), ((n,), (n, k), (k,)))
    return lambda *xs: np.linalg.multi_dot(xs), [s.normal(*shape) for shape in shapes]


rearranging(
    np.trace, 2, 3, np.trace, lambda x: np.trace(x, 1), lambda x: np.trace(x, axis1=-1, axis2=0)
)
rearranging(np.linalg.trace, 2, 3, lambda x: np.linalg.trace(x, offset=-1))

for function in (np.convolve, np.correlate):

    @row(function, analytic=function is np.convolve, empty=False)
    def _(s: Samples, function: Any = function) -> Case:
        mode = s.choose("full", "same", "valid")
        return lambda x, y: function(x, y, mode), [s.normal(s.extent(5)), s.normal(s.extent(5))]


EINSUMS: list[tuple[str, list[str]]] = [
    ("ij,jk->ik", ["ij", "jk"]),
    ("ij,jk", ["ij", "jk"]),
    ("ii->i", ["ii"]),
    ("ii", ["ii"]),
    ("ij->ji", ["ij"]),
    ("ij->", ["ij"]),
    ("i,i,i->i", ["i", "i", "i"]),
    ("...ij,...jk->...ik", ["bij", "jk"]),
    ("i...->...", ["ibj"]),
    ("iji,jk->k", ["iji", "jk"]),
    ("bij,bjk,k->bi", ["bij", "bjk", "k"]),
    ("i,j->ij", ["i", "j"]),
    (",i->i", ["", "i"]),
]


@row(np.einsum)
def _(s: Samples) -> Case:
    sizes = {letter: s.extent() for letter in "bijk"}
    subscripts, operands = s.choose(*EINSUMS)
    optimize = s.flag()
    arrays = [s.normal(*(sizes[letter] for letter in term)) for term in operands]
    return lambda *xs: np.einsum(subscripts, *xs, optimize=optimize), arrays


@row(np.einsum, "with lists")
def _(s: Samples) -> Case:
    return lambda x, y: np.einsum(x, [0, 1], y, [1, 2], [2, 0]), [s.normal(2, 3), s.normal(3, 2)]


# --- linear algebra -------------------------------------------------------------------------


def regular(s: Samples, stacked: bool = True) -> np.ndarray:
    """Matrices far from singular, or a stack of them."""
    n = s.extent()
    shape = (*(s.shape(0, 1) if stacked else ()), n, n)
    return 0.3 * s.normal(*shape) + np.diag(s.rng.choice([-2.0, 2.0], n))


def spread(s: Samples, rows: int, columns: int) -> np.ndarray:
    """Matrices whose eigenvalues and singular values are far from each other."""
    lead = s.shape(0, 1)
    x = 0.2 * s.normal(*lead, rows, columns) + np.eye(rows, columns) * [1, 3, 5][:columns]
    return np.where(np.abs(x) < 0.02, 0.05, x)  # some norms have a kink at 0


@row(np.linalg.solve)
def _(s: Samples) -> Case:
    a = regular(s)
    n = a.shape[-1]
    shape = s.choose((n,), (*a.shape[:-1], 2), (n, 3))
    return np.linalg.solve, [a, s.normal(*shape)]


for function in (np.linalg.inv, np.linalg.det):

    @row(function)
    def _(s: Samples, function: Any = function) -> Case:
        return function, [regular(s)]


@row(np.linalg.det, "of singular matrices", empty=False)
def _(s: Samples) -> Case:
    n, rank = s.choose((1, 0), (2, 1), (3, 2), (3, 1))
    return np.linalg.det, [s.normal(n, rank) @ s.normal(rank, n)]


@row(np.linalg.slogdet, analytic=False)
def _(s: Samples) -> Case:
    return lambda a: np.linalg.slogdet(a).logabsdet, [regular(s)]


@row(np.linalg.matrix_power)
def _(s: Samples) -> Case:
    n = s.choose(0, 1, 2, 3, 5, -1, -2)
    return lambda a: np.linalg.matrix_power(a, n), [regular(s)]


@row(np.linalg.pinv, analytic=False, empty=False)
def _(s: Samples) -> Case:
    return np.linalg.pinv, [spread(s, *s.choose((3, 3), (3, 2), (2, 3)))]


@row(np.linalg.cholesky, analytic=False)
def _(s: Samples) -> Case:
    a = regular(s)
    upper = s.flag()
    return lambda a: np.linalg.cholesky(a, upper=upper), [np.matmul(a, np.swapaxes(a, -1, -2))]


@row(np.linalg.eigvalsh, analytic=False, empty=False)
def _(s: Samples) -> Case:
    triangle = s.choose("L", "U")
    return lambda a: np.linalg.eigvalsh(a, triangle), [spread(s, 3, 3)]


@row(np.linalg.eigh, analytic=False, empty=False)
def _(s: Samples) -> Case:
    """Squares of eigenvectors, which have no sign to choose."""
    triangle = s.choose("L", "U")

    def f(a: Any) -> Any:
        w, v = np.linalg.eigh(a, triangle)
        return [w, v * v, np.matmul(v[..., :1], v[..., None, :, 0])]

    return f, [spread(s, 3, 3)]


@row(np.linalg.svdvals, analytic=False, empty=False)
def _(s: Samples) -> Case:
    return np.linalg.svdvals, [spread(s, *s.choose((3, 3), (3, 2), (2, 3)))]


@row(np.linalg.svd, analytic=False, empty=False)
def _(s: Samples) -> Case:
    def f(a: Any) -> Any:
        u, d, vh = np.linalg.svd(a, full_matrices=False)
        return [d, u * u, vh * vh, u[..., :, :1] * vh[..., :1, :]]

    return f, [spread(s, *s.choose((3, 3), (3, 2), (2, 3)))]


@row(np.linalg.svd, "without vectors", analytic=False, empty=False)
def _(s: Samples) -> Case:
    return lambda a: np.linalg.svd(a, compute_uv=False), [spread(s, 3, 2)]


VECTOR_ORDERS = (2, None, 1, 3, 2.5, 0.5, -1, np.inf, -np.inf, 0)
MATRIX_ORDERS = (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)


@row(np.linalg.vector_norm, analytic=False, empty=False)
def _(s: Samples) -> Case:
    (x,) = s.apart(s.shape(1))
    order = s.choose(*VECTOR_ORDERS[:1], *VECTOR_ORDERS[2:])
    options = {"ord": order, "axis": s.axes(x.ndim), "keepdims": s.flag()}
    return lambda x: np.linalg.vector_norm(x, **options), [one_sided(x)]


def one_sided(x: np.ndarray) -> np.ndarray:
    """No two magnitudes closer than 0.1."""
    return np.where(np.arange(x.size).reshape(x.shape) % 2, 1, -1) * (x - x.min() + 0.3)


@row(np.linalg.matrix_norm, analytic=False, empty=False)
def _(s: Samples) -> Case:
    order, keepdims = s.choose(*MATRIX_ORDERS[1:]), s.flag()
    return lambda x: np.linalg.matrix_norm(x, ord=order, keepdims=keepdims), [spread(s, 3, 2)]


@row(np.linalg.norm, analytic=False, empty=False)
def _(s: Samples) -> Case:
    keepdims = s.flag()
    if s.flag():
        order, axis = s.choose(*VECTOR_ORDERS), s.choose(0, -1, (1,))
        (x,) = s.apart((3, 4))
        return lambda x: np.linalg.norm(x, order, axis, keepdims), [one_sided(x)]
    if s.flag():
        return np.linalg.norm, [s.normal(*s.shape(1))]
    order, axis = s.choose(*MATRIX_ORDERS), s.choose((0, 1), (-1, 0))
    matrix = spread(s, 3, 2).reshape(-1, 2)[:3]
    return lambda x: np.linalg.norm(x, order, axis, keepdims), [matrix]


# --- functions of chainrule's own -----------------------------------------------------------

for function in (sigmoid, softplus):
    unary(function, -3, 3)


@row(relu, analytic=False)
def _(s: Samples) -> Case:
    return relu, [s.off_zero(s.shape())]


@row(logsumexp)
def _(s: Samples) -> Case:
    x = s.normal(*s.shape())
    axis, keepdims = s.axes(x.ndim), s.flag()
    return lambda x: logsumexp(x, axis, keepdims), [x]


for function in (softmax, log_softmax):

    @row(function, analytic=False, empty=False)
    def _(s: Samples, function: Any = function) -> Case:
        x = s.normal(*s.shape(1))
        axis = s.choose(None, s.axis(x.ndim))
        return lambda x: function(x, axis), [x]


# --- questions, whose answers are plain -----------------------------------------------------

QUESTIONS: dict[Any, list[Callable[[Any], Any]]] = {
    **{
        function: [
            lambda x, function=function: function(x, 0.5),
            lambda x, function=function: function(x, x),
            lambda x, function=function: function([[0.5, 2.0]], x),
        ]
        for function in (
            np.equal,
            np.not_equal,
            np.less,
            np.less_equal,
            np.greater,
            np.greater_equal,
            np.logical_and,
            np.logical_or,
            np.logical_xor,
            np.isclose,
            np.allclose,
            np.array_equal,
            np.array_equiv,
            np.isin,
            np.may_share_memory,
            np.shares_memory,
        )
    },
    **{
        function: [function]
        for function in (
            np.logical_not,
            np.isnan,
            np.isinf,
            np.isfinite,
            np.signbit,
            np.shape,
            np.ndim,
            np.size,
            np.any,
            np.all,
            np.argmax,
            np.argmin,
            np.nanargmax,
            np.nanargmin,
            np.argsort,
            np.argwhere,
            np.nonzero,
            np.flatnonzero,
            np.count_nonzero,
            np.isneginf,
            np.isposinf,
            np.iscomplex,
            np.isreal,
            np.iscomplexobj,
            np.isrealobj,
            np.common_type,
            np.min_scalar_type,
            np.zeros_like,
            np.ones_like,
            np.diag_indices_from,
            np.tril_indices_from,
            np.triu_indices_from,
            np.array_repr,
            np.array_str,
            np.array2string,
        )
    },
    np.result_type: [lambda x: np.result_type(x, np.float32)],
    np.argpartition: [lambda x: np.argpartition(x, 1, axis=0)],
    np.lexsort: [lambda x: np.lexsort((x[0], x[1]))],
    np.searchsorted: [lambda x: np.searchsorted(x[0], 0.5), lambda x: np.searchsorted([0, 1], x)],
    np.digitize: [lambda x: np.digitize(x, [0.0, 1.0])],
    np.can_cast: [lambda x: np.can_cast(x.dtype, np.float32)],
    np.empty_like: [lambda x: np.empty_like(x).shape],
}


@pytest.mark.parametrize("function", QUESTIONS, ids=full_name)
def test_questions_have_plain_answers(function: Any) -> None:
    x = np.array([[0.5, -1.0], [2.0, 0.0]])
    for ask in QUESTIONS[function]:
        answers = [ask(x)]

        def f(x: Any, ask: Any = ask, answers: list[Any] = answers) -> Any:
            answers.append(ask(x))
            return x

        jvp(f, (x,), (x,))
        expected, answer = answers
        assert not isinstance(answer, Tracer)
        assert type(answer) is type(expected)
        for one, other in zip(leaves(answer), leaves(expected), strict=True):
            np.testing.assert_array_equal(one, other)


# --- the suite ------------------------------------------------------------------------------

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
analytic_rows = pytest.mark.parametrize(
    "row", [row for row in ROWS if row.analytic], ids=lambda row: row.name
)


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, derandomize=True, database=None)


def draw_case(data: Any, row: Row, low: int = 1) -> tuple[Callable[..., Any], list[Any]]:
    """A function and its arguments, arrays read-only: writing into one raises."""
    f, arguments = row.make(Samples(data.draw, low))
    arguments = list(arguments)
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            argument.flags.writeable = False
    return f, arguments


def leaves(tree: Any) -> list[Any]:
    return flatten(tree)[0]


def randoms(like: Any, seed: int) -> Any:
    """A direction in the structure, shapes and dtypes of a tree."""
    rng = np.random.default_rng(seed)
    found, rebuild = flatten(like)
    return rebuild([rng.uniform(-1, 1, np.shape(x)).astype(x.dtype)[()] for x in found])


def inner(one: Any, other: Any) -> Any:
    """The inner product of two trees."""
    pairs = zip(leaves(one), leaves(other), strict=True)
    return sum((np.sum(a * b) for a, b in pairs), start=0.0)


def moved(arguments: Sequence[Any], directions: Sequence[Any], step: float) -> list[Any]:
    return [x + step * v for x, v in zip(arguments, directions, strict=True)]


def slope(f: Callable[..., Any], arguments: Sequence[Any], directions: Sequence[Any]) -> list[Any]:
    """The derivative of f along a direction, from central differences, extrapolated once."""

    def central(h: float) -> list[Any]:
        ahead = leaves(f(*moved(arguments, directions, h)))
        behind = leaves(f(*moved(arguments, directions, -h)))
        return [(a - b) / (2 * h) for a, b in zip(ahead, behind, strict=True)]

    h = 2e-3
    return [(4 * b - a) / 3 for a, b in zip(central(h), central(h / 2), strict=True)]


def assert_close(actual: Any, desired: Any, tolerance: float) -> None:
    """Equal to a tolerance relative to the largest element; equal in shape."""
    for a, d in zip(leaves(actual), leaves(desired), strict=True):
        assert np.shape(a) == np.shape(d)
        scale = max(1.0, float(np.max(np.abs(d), initial=0.0)))
        np.testing.assert_allclose(a, d, rtol=tolerance, atol=tolerance * scale)


def test_every_rule_is_registered() -> None:
    registered = {row.function for row in ROWS} | set(ANSWERS) | set(QUESTIONS)
    scipys = {getattr(special, name) for name in SCIPY}
    missing = (set(UFUNCS) | set(FUNCTIONS) | scipys) - registered
    assert sorted(map(full_name, missing)) == []


@every_row
@examples(8)
@given(data=st.data())
def test_forward_mode_is_the_numeric_derivative(row: Row, data: Any) -> None:
    f, arguments = draw_case(data, row)
    directions = randoms(arguments, 1)
    out, tangent = jvp(f, arguments, directions)
    assert_close(out, f(*arguments), 1e-15)
    assert_close(tangent, slope(f, arguments, directions), 1e-8)


@analytic_rows
@examples(6)
@given(data=st.data())
def test_forward_mode_is_the_complex_step(row: Row, data: Any) -> None:
    f, arguments = draw_case(data, row)
    directions = randoms(arguments, 1)
    h = 1e-30
    shifted = [x + 1j * h * v for x, v in zip(arguments, directions, strict=True)]
    exact = [np.imag(out) / h for out in leaves(f(*shifted))]
    assert_close(leaves(jvp(f, arguments, directions)[1]), exact, 1e-12)


@every_row
@examples(12)
@given(data=st.data())
def test_reverse_mode_is_the_adjoint_of_forward_mode(row: Row, data: Any) -> None:
    """<J v, u> = <v, J^T u>."""
    f, arguments = draw_case(data, row)
    directions = randoms(arguments, 1)
    tangent = jvp(f, arguments, directions)[1]
    out, pull_back = vjp(f, *arguments)
    cotangent = randoms(out, 2)
    pulled = pull_back(cotangent)
    for x, bar in zip(arguments, pulled, strict=True):
        assert (np.shape(bar), bar.dtype) == (np.shape(x), x.dtype)
    scale = max(1.0, *(float(np.sum(np.abs(t))) for t in leaves(tangent)))
    assert abs(inner(tangent, cotangent) - inner(directions, pulled)) < 1e-12 * scale


@every_row
@examples(4)
@given(data=st.data())
def test_constant_arguments_take_nothing_away(row: Row, data: Any) -> None:
    """Differentiated by one argument alone, each has the gradient that it has among all."""
    f, arguments = draw_case(data, row)
    out, pull_back = vjp(f, *arguments)
    cotangent = randoms(out, 2)
    for i, together in enumerate(pull_back(cotangent)):

        def alone(x: Any, i: int = i) -> Any:
            return f(*arguments[:i], x, *arguments[i + 1 :])

        assert_close(vjp(alone, arguments[i])[1](cotangent)[0], together, 1e-15)
        direction = randoms(arguments[i], 3)
        zeros = [np.zeros_like(x) for x in arguments]
        pushed = jvp(f, arguments, [*zeros[:i], direction, *zeros[i + 1 :]])[1]
        assert_close(jvp(alone, [arguments[i]], [direction])[1], pushed, 1e-15)


@every_row
@examples(4)
@given(data=st.data())
def test_gradients_start_from_one(row: Row, data: Any) -> None:
    """Where there is one result: grad is the pull-back of 1, for the rule as the last operation."""
    f, arguments = draw_case(data, row)
    out = f(*arguments)
    if isinstance(out, list) or np.size(out) != 1:
        return

    def number(*xs: Any) -> Any:
        found = f(*xs)
        return np.reshape(found, ()) if np.shape(out) else found

    pulled = vjp(number, *arguments)[1](1.0)
    assert_close(grad(number, tuple(range(len(arguments))))(*arguments), pulled, 1e-15)


@every_row
@examples(5)
@given(data=st.data())
def test_second_derivatives(row: Row, data: Any) -> None:
    """All four orders of nesting, against the numeric derivative of the gradient."""
    f, arguments = draw_case(data, row)
    v = tuple(randoms(arguments, 1))
    weights = randoms(leaves(f(*arguments)), 2)

    def phi(xs: Sequence[Any]) -> Any:
        return inner(weights, [out * out for out in leaves(f(*xs))])

    x = tuple(arguments)
    forward_over_reverse = hvp(phi, x, v)
    reverse_over_reverse = grad(lambda x: inner(grad(phi)(x), v))(x)
    reverse_over_forward = grad(lambda x: jvp(phi, (x,), (v,))[1])(x)
    forward_over_forward = jvp(lambda x: jvp(phi, (x,), (v,))[1], (x,), (v,))[1]
    numeric = slope(lambda *xs: grad(phi)(xs), arguments, v)
    assert_close(forward_over_reverse, tuple(numeric), 2e-8)
    assert_close(reverse_over_reverse, forward_over_reverse, 1e-11)
    assert_close(reverse_over_forward, forward_over_reverse, 1e-11)
    assert_close(forward_over_forward, inner(v, forward_over_reverse), 1e-11)


@pytest.mark.parametrize("row", [row for row in ROWS if row.single], ids=lambda row: row.name)
@examples(4)
@given(data=st.data())
def test_single_precision_stays(row: Row, data: Any) -> None:
    """Also inside: every cotangent and tangent that a rule returns has the argument's dtype."""
    f, arguments = draw_case(data, row)
    single = [np.asarray(x).astype(np.float32)[()] for x in arguments]
    directions = randoms(arguments, 1)
    out, tangent = jvp(f, single, randoms(single, 1))
    expected = jvp(f, arguments, directions)[1]
    assert_close(tangent, expected, 1e-4)
    back, pull_back = vjp(f, *single)
    pulled = pull_back(randoms(back, 2))
    wide, wide_pull_back = vjp(f, *arguments)
    assert_close(pulled, wide_pull_back(randoms(wide, 2)), 1e-4)
    results = [*leaves(out), *leaves(tangent), *leaves(back), *leaves(pulled)]
    assert {result.dtype for result in results} == {np.dtype(np.float32)}
    for node in trace(f, *single).nodes:
        if node.rule is None:
            continue
        for i, parent in enumerate(node.parents):
            if parent is None or node.rule.vjp[i] is None:
                continue
            bar = node.rule.vjp[i](randoms(node.value, 3), node.value, *node.args, **node.kwargs)
            assert (np.shape(bar), bar.dtype) == (parent.shape, np.float32), node.rule.name
            dot = node.rule.jvp[i](randoms(parent.value, 4), node.value, *node.args, **node.kwargs)
            assert dot.dtype == np.float32, node.rule.name


def scattered(x: Any) -> Any:
    """Equal values in every second element of a reversed, Fortran-ordered array."""
    if np.ndim(x) == 0:
        return x
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), dtype=x.dtype, order="F")
    strided = wide[..., ::2][::-1]
    strided[...] = x
    return strided


@every_row
@examples(3)
@given(data=st.data())
def test_memory_layout_does_not_matter(row: Row, data: Any) -> None:
    f, arguments = draw_case(data, row)
    directions = randoms(arguments, 1)
    strided = list(map(scattered, arguments))
    tangent = jvp(f, arguments, directions)[1]
    assert_close(jvp(f, strided, list(map(scattered, directions)))[1], tangent, 1e-13)
    out, pull_back = vjp(f, *arguments)
    cotangent = randoms(out, 2)
    found, rebuild = flatten(cotangent)
    strided_cotangent = rebuild(list(map(scattered, found)))
    pulled = vjp(f, *strided)[1](strided_cotangent)
    assert_close(pulled, pull_back(cotangent), 1e-13)


@every_row
@examples(3)
@given(data=st.data())
def test_results_belong_to_the_caller(row: Row, data: Any) -> None:
    """Tangents and cotangents are writable and share memory with nothing."""
    f, arguments = draw_case(data, row)
    directions = randoms(arguments, 1)
    out, tangent = jvp(f, arguments, directions)
    back, pull_back = vjp(f, *arguments)
    cotangent = randoms(back, 2)
    results = [*leaves(tangent), *leaves(pull_back(cotangent)), *leaves(pull_back(cotangent))]
    others = [*arguments, *leaves(directions), *leaves(cotangent), *leaves(out), *leaves(back)]
    for k, result in enumerate(results):
        if isinstance(result, np.ndarray):
            assert result.flags.writeable
            assert not any(np.shares_memory(result, other) for other in [*results[:k], *others])


@pytest.mark.parametrize("row", [row for row in ROWS if row.empty], ids=lambda row: row.name)
@examples(5)
@given(data=st.data())
def test_arrays_without_elements(row: Row, data: Any) -> None:
    f, arguments = draw_case(data, row, low=0)
    out, pull_back = vjp(f, *arguments)
    for x, bar in zip(arguments, pull_back(randoms(out, 2)), strict=True):
        assert (np.shape(bar), bar.dtype) == (np.shape(x), x.dtype)
    tangent = jvp(f, arguments, randoms(arguments, 1))[1]
    assert [np.shape(t) for t in leaves(tangent)] == [np.shape(o) for o in leaves(out)]


@pytest.mark.parametrize("row", [row for row in ROWS if row.flat], ids=lambda row: row.name)
@examples(3)
@given(data=st.data())
def test_flat_functions_have_the_derivative_zero(row: Row, data: Any) -> None:
    f, arguments = draw_case(data, row)
    out, pull_back = vjp(f, *arguments)
    for x, bar in zip(arguments[:1], pull_back(randoms(out, 2)), strict=False):
        np.testing.assert_array_equal(bar, np.zeros_like(x))
