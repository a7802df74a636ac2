"""The table: value, JVP and VJP of each primitive, one row each.

Derivatives are written with NumPy and operators alone, so that they can be differentiated again.
In a row, `t` is a tangent, `g` a cotangent, `out` the result, the rest the arguments. Rows of
elementwise functions give the partial derivatives, from which JVP (``t * partial``) and VJP
(``g * partial``, summed over what was broadcast) both follow.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import log, pi, sqrt
from typing import Any, Literal

import numpy as np

from chainrule.autodiff.tracing import (
    FUNCTIONS,
    METHODS,
    UFUNCS,
    Derivative,
    Rule,
    Tracer,
    apply,
    primal,
    shape_of,
)
from chainrule.errors import InputError, NoRuleError, explain

__all__ = [
    "RELU",
    "SCIPY",
    "SIGMOID",
    "SOFTPLUS",
    "current_ties",
    "linear",
    "register",
    "ties",
    "unbroadcast",
    "written",
]

Ties = Literal["split", "first", "last"]
_ties: ContextVar[Ties] = ContextVar("ties", default="split")


@contextmanager
def ties(convention: Ties) -> Iterator[None]:
    """Choose the derivative of maxima, minima and their like where arguments tie.

    Parameters
    ----------
    convention : {"split", "first", "last"}
        Who receives the derivative: all in equal parts (the default outside of this context, as
        in PyTorch's ``maximum`` and ``amax``), the first argument or element in row-major order,
        or the last one. ``numpy.maximum(x, 0)`` under ``"last"`` has the derivative 0 at 0, as
        PyTorch's ``relu`` and `chainrule.autodiff.relu` have.

    Yields
    ------
    None
        Nothing; the convention holds until the end of the ``with`` block.

    Raises
    ------
    InputError
        If there is no such convention.

    Notes
    -----
    It holds for operations carried out inside the context, whenever they are differentiated. It
    covers ``maximum``, ``minimum``, ``fmax``, ``fmin``, ``max``, ``min`` and ``clip``. The
    derivative of ``abs`` at 0 is 0, that of ``sign``, ``floor`` and ``rint`` 0 everywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import grad, ties
    >>> float(grad(lambda x: np.maximum(x, 0))(0.0))
    0.5
    >>> with ties("last"):
    ...     float(grad(lambda x: np.maximum(x, 0))(0.0))
    0.0
    """
    if convention not in ("split", "first", "last"):
        raise InputError(
            explain("ties", "convention", 'be "split", "first" or "last"', repr(convention))
        )
    token = _ties.set(convention)
    try:
        yield
    finally:
        _ties.reset(token)


def current_ties() -> Ties:
    """Return the convention that holds here."""
    return _ties.get()


def register(*functions: Callable[..., Any] | None, method: str = "") -> Callable[[Any], Any]:
    """Say of a function that it runs in place of NumPy functions on traced values.

    Parameters
    ----------
    *functions : callable
        NumPy's; None where this version of NumPy has it not. Their parameters and those of the
        function agree, but for those that have no meaning under differentiation (``out``,
        ``where``): one given in spite of that is refused.
    method : str, default ""
        The method of arrays that it is as well.

    Returns
    -------
    callable
        The decorator.
    """

    def decorate(handler: Any) -> Any:
        for function in functions:
            if function is not None:
                FUNCTIONS[function] = handler
        if method:
            METHODS[method] = handler
        return handler

    return decorate


def linear(name: str, value: Callable[..., Any], pulled: Callable[..., Any]) -> Rule:
    """Make the rule of a function that is linear in its one argument.

    Parameters
    ----------
    name : str
        Of the rule.
    value : callable
        The function. The tangent of the argument goes the same way.
    pulled : callable
        ``pulled(g, out, x, **kwargs)``, the VJP.

    Returns
    -------
    Rule
        The rule.
    """

    def pushed(t: Any, out: Any, x: Any, **kwargs: Any) -> Any:
        return value(t, **kwargs)

    return Rule(name, value, (pushed,), (pulled,))


def written(
    name: str,
    value: Callable[..., Any],
    jvp: Any,
    vjp: Any,
) -> Rule:
    """Make the rule of a function that NumPy does not have, given for plain arguments.

    Parameters
    ----------
    name : str
        Of the rule.
    value : callable
        Computes it from plain arguments. Traced ones lead back to the rule, one level down.
    jvp, vjp : sequence of callable or None, or EachArgument
        As in `Rule`.

    Returns
    -------
    Rule
        The rule.
    """

    def compute(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(argument, Tracer) for argument in args):
            return apply(rule, args, kwargs)
        return value(*args, **kwargs)

    rule = Rule(name, compute, jvp, vjp)
    return rule


def unbroadcast(g: Any, like: Any) -> Any:
    """Sum a cotangent over the axes along which `like` was broadcast.

    Parameters
    ----------
    g : array
        In a shape that `like` broadcasts to.
    like : array or number
        The argument.

    Returns
    -------
    array, shape of `like`
        `g` itself if the shapes agree.
    """
    shape, wanted = shape_of(g), shape_of(like)
    if shape == wanted:
        return g
    missing = len(shape) - len(wanted)
    if missing < 0:  # the other arguments decided, as in sum(x) * 1.0 with x of shape (1,)
        return np.broadcast_to(g, wanted)
    if missing:
        g = np.sum(g, axis=tuple(range(missing)))
        shape = shape[missing:]
    axes = tuple(i for i, (a, b) in enumerate(zip(shape, wanted, strict=True)) if a != b)
    return np.sum(g, axis=axes, keepdims=True) if axes else g


# --- elementwise ----------------------------------------------------------------------------


def _unary(name: str, value: Callable[..., Any], slope: Callable[..., Any]) -> Rule:
    """A function of one argument, given ``slope(out, x)``."""

    def derivative(v: Any, out: Any, x: Any) -> Any:
        return v * slope(out, x)

    return Rule(name, value, (derivative,), (derivative,))


def _binary(name: str, value: Callable[..., Any], *slopes: Callable[..., Any]) -> Rule:
    """A function of two arguments that broadcast, given ``slope(out, x, y, ...)`` for each."""
    jvp: list[Derivative] = []
    vjp: list[Derivative] = []
    for i, slope in enumerate(slopes):

        def pushed(t: Any, out: Any, *args: Any, slope: Any = slope, **kwargs: Any) -> Any:
            return t * slope(out, *args, **kwargs)

        def pulled(
            g: Any, out: Any, *args: Any, slope: Any = slope, i: int = i, **kwargs: Any
        ) -> Any:
            return unbroadcast(g * slope(out, *args, **kwargs), args[i])

        jvp.append(pushed)
        vjp.append(pulled)
    return Rule(name, value, jvp, vjp)


def _own(name: str, value: Callable[..., Any], *slopes: Callable[..., Any]) -> Rule:
    """The same for a function that NumPy does not have."""
    rule = (_unary if len(slopes) == 1 else _binary)(name, value, *slopes)
    return written(name, value, rule.jvp, rule.vjp)


def _flat(name: str, value: Callable[..., Any], arguments: int = 1) -> Rule:
    """A function that is constant wherever it has a derivative."""
    return Rule(name, value, (None,) * arguments, (None,) * arguments)


def _power_slope(out: Any, x: Any, y: Any) -> Any:
    """y x^(y-1), which is 0 for y = 0 even at x = 0."""
    if isinstance(y, int | float):
        return y * x ** (y - 1) if y not in (0, 1, 2) else (0.0 * x, 1.0 + 0.0 * x, 2 * x)[int(y)]
    return y * x ** np.where(primal(y) == 0, 1.0, y - 1)


def _exponent_slope(out: Any, x: Any, y: Any) -> Any:
    """x^y log x, which is 0 at x = 0."""
    if isinstance(x, int | float):
        return out * float(np.log(x)) if x else 0 * out
    return out * np.log(np.where(primal(x) == 0, 1.0, x))


def _share(wins: Any, loses: Any, ties: Ties, first: bool, dtype: Any) -> Any:
    """What one of two arguments gets of the derivative: all, nothing, or what ties are worth."""
    tied = {"split": 0.5, "first": float(first), "last": float(not first)}[ties]
    return np.where(wins, 1.0, np.where(loses, 0.0, tied)).astype(dtype)[()]


def _extremum(name: str, function: Any, compare: Callable[[Any, Any], Any]) -> Rule:
    def x_share(out: Any, x: Any, y: Any, ties: Ties) -> Any:
        x, y = primal(x), primal(y)
        return _share(compare(x, y), compare(y, x), ties, True, np.result_type(x, y))

    def y_share(out: Any, x: Any, y: Any, ties: Ties) -> Any:
        x, y = primal(x), primal(y)
        return _share(compare(y, x), compare(x, y), ties, False, np.result_type(x, y))

    return _binary(name, lambda x, y, ties: function(x, y), x_share, y_share)


def _fmax_compare(x: Any, y: Any) -> Any:
    return (x > y) | (np.isnan(y) & ~np.isnan(x))


def _fmin_compare(x: Any, y: Any) -> Any:
    return (x < y) | (np.isnan(y) & ~np.isnan(x))


def _nonzero(x: Any) -> Any:
    """x, with 1 in place of 0: what is divided by it is 0 there."""
    return np.where(primal(x) == 0, 1, x)


def _stable_sigmoid(x: Any) -> Any:
    if np.iscomplexobj(x):
        return 1 / (1 + np.exp(-x))
    small = np.exp(-np.abs(x))  # never overflows, and loses no small result
    return np.where(x >= 0, 1, small) / (1 + small)


def _softplus(x: Any) -> Any:
    if np.iscomplexobj(x):
        return np.log(1 + np.exp(x))
    return np.logaddexp(x, 0)


_ADD = Rule(
    "add",
    operator.add,
    (lambda t, out, x, y: t, lambda t, out, x, y: t),
    (lambda g, out, x, y: unbroadcast(g, x), lambda g, out, x, y: unbroadcast(g, y)),
)
_SUBTRACT = Rule(
    "subtract",
    operator.sub,
    (lambda t, out, x, y: t, lambda t, out, x, y: -t),
    (lambda g, out, x, y: unbroadcast(g, x), lambda g, out, x, y: unbroadcast(-g, y)),
)
_MULTIPLY = Rule(
    "multiply",
    operator.mul,
    (lambda t, out, x, y: t * y, lambda t, out, x, y: x * t),
    (lambda g, out, x, y: unbroadcast(g * y, x), lambda g, out, x, y: unbroadcast(x * g, y)),
)
_IDENTITY = Rule("positive", lambda x: +x, (lambda t, out, x: t,), (lambda g, out, x: g,))

MAXIMUM = _extremum("maximum", np.maximum, operator.gt)
MINIMUM = _extremum("minimum", np.minimum, operator.lt)
FMAX = _extremum("fmax", np.fmax, _fmax_compare)
FMIN = _extremum("fmin", np.fmin, _fmin_compare)
SIGMOID = _own("sigmoid", _stable_sigmoid, lambda out, x: out * (1 - out))
SOFTPLUS = _own("softplus", _softplus, lambda out, x: SIGMOID.value(x))
RELU = _own("relu", lambda x: np.maximum(x, 0), lambda out, x: primal(x) > 0)


def _with_ties(rule: Rule) -> Callable[[Any, Any], Any]:
    return lambda x, y: apply(rule, (x, y), {"ties": _ties.get()})


UFUNCS.update(
    {
        np.add: _ADD,
        np.subtract: _SUBTRACT,
        np.multiply: _MULTIPLY,
        np.true_divide: _binary(
            "divide", operator.truediv, lambda out, x, y: 1 / y, lambda out, x, y: -out / y
        ),
        np.power: _binary("power", operator.pow, _power_slope, _exponent_slope),
        np.float_power: _binary("power", np.float_power, _power_slope, _exponent_slope),
        np.remainder: _binary(
            "remainder",
            np.remainder,
            lambda out, x, y: 1.0,
            lambda out, x, y: -np.floor_divide(primal(x), primal(y)),
        ),
        np.fmod: _binary(
            "fmod",
            np.fmod,
            lambda out, x, y: 1.0,
            lambda out, x, y: -np.trunc(primal(x) / primal(y)),
        ),
        np.negative: Rule(
            "negative", operator.neg, (lambda t, out, x: -t,), (lambda g, out, x: -g,)
        ),
        np.positive: _IDENTITY,
        np.conjugate: _IDENTITY,
        np.reciprocal: _unary("reciprocal", np.reciprocal, lambda out, x: -out * out),
        np.absolute: _unary("abs", abs, lambda out, x: np.sign(primal(x))),
        np.fabs: _unary("abs", np.fabs, lambda out, x: np.sign(primal(x))),
        np.square: _unary("square", np.square, lambda out, x: 2 * x),
        np.sqrt: _unary("sqrt", np.sqrt, lambda out, x: 0.5 / out),
        np.cbrt: _unary("cbrt", np.cbrt, lambda out, x: 1 / (3 * out * out)),
        np.exp: _unary("exp", np.exp, lambda out, x: out),
        np.exp2: _unary("exp2", np.exp2, lambda out, x: log(2) * out),
        np.expm1: _unary("expm1", np.expm1, lambda out, x: out + 1),
        np.log: _unary("log", np.log, lambda out, x: 1 / x),
        np.log2: _unary("log2", np.log2, lambda out, x: 1 / (log(2) * x)),
        np.log10: _unary("log10", np.log10, lambda out, x: 1 / (log(10) * x)),
        np.log1p: _unary("log1p", np.log1p, lambda out, x: 1 / (1 + x)),
        np.sin: _unary("sin", np.sin, lambda out, x: np.cos(x)),
        np.cos: _unary("cos", np.cos, lambda out, x: -np.sin(x)),
        np.tan: _unary("tan", np.tan, lambda out, x: 1 + out * out),
        np.arcsin: _unary("arcsin", np.arcsin, lambda out, x: 1 / np.sqrt((1 - x) * (1 + x))),
        np.arccos: _unary("arccos", np.arccos, lambda out, x: -1 / np.sqrt((1 - x) * (1 + x))),
        np.arctan: _unary("arctan", np.arctan, lambda out, x: 1 / (1 + x * x)),
        np.sinh: _unary("sinh", np.sinh, lambda out, x: np.cosh(x)),
        np.cosh: _unary("cosh", np.cosh, lambda out, x: np.sinh(x)),
        np.tanh: _unary("tanh", np.tanh, lambda out, x: 1 - out * out),
        np.arcsinh: _unary("arcsinh", np.arcsinh, lambda out, x: 1 / np.sqrt(1 + x * x)),
        np.arccosh: _unary("arccosh", np.arccosh, lambda out, x: 1 / np.sqrt((x - 1) * (x + 1))),
        np.arctanh: _unary("arctanh", np.arctanh, lambda out, x: 1 / ((1 - x) * (1 + x))),
        np.arctan2: _binary(
            "arctan2",
            np.arctan2,
            lambda out, y, x: x / (x * x + y * y),
            lambda out, y, x: -y / (x * x + y * y),
        ),
        np.hypot: _binary(
            "hypot",
            np.hypot,
            lambda out, x, y: x / _nonzero(out),
            lambda out, x, y: y / _nonzero(out),
        ),
        np.logaddexp: _binary(
            "logaddexp",
            np.logaddexp,
            lambda out, x, y: np.exp(x - out),
            lambda out, x, y: np.exp(y - out),
        ),
        np.logaddexp2: _binary(
            "logaddexp2",
            np.logaddexp2,
            lambda out, x, y: np.exp2(x - out),
            lambda out, x, y: np.exp2(y - out),
        ),
        np.deg2rad: _unary("deg2rad", np.deg2rad, lambda out, x: pi / 180),
        np.radians: _unary("deg2rad", np.deg2rad, lambda out, x: pi / 180),
        np.rad2deg: _unary("rad2deg", np.rad2deg, lambda out, x: 180 / pi),
        np.degrees: _unary("rad2deg", np.rad2deg, lambda out, x: 180 / pi),
        np.copysign: _binary(
            "copysign",
            np.copysign,
            lambda out, x, y: np.sign(primal(x)) * np.sign(primal(out)),
            lambda out, x, y: 0.0,
        ),
        np.maximum: _with_ties(MAXIMUM),
        np.minimum: _with_ties(MINIMUM),
        np.fmax: _with_ties(FMAX),
        np.fmin: _with_ties(FMIN),
        np.sign: _flat("sign", np.sign),
        np.floor: _flat("floor", np.floor),
        np.ceil: _flat("ceil", np.ceil),
        np.trunc: _flat("trunc", np.trunc),
        np.rint: _flat("rint", np.rint),
        np.floor_divide: _flat("floor_divide", np.floor_divide, 2),
        np.divmod: lambda x, y: (np.floor_divide(x, y), np.remainder(x, y)),
        np.modf: lambda x: (x - np.trunc(x), np.trunc(x)),
        np.ldexp: lambda x, n: x * np.ldexp(np.ones((), x.dtype), primal(n)),
        np.heaviside: _binary(  # its second argument is its value at 0
            "heaviside", np.heaviside, lambda out, x, y: 0.0, lambda out, x, y: primal(x) == 0
        ),
    }
)


# --- SciPy's ufuncs, by name ----------------------------------------------------------------


def _special(name: str) -> Callable[..., Any]:
    """A function of scipy.special, which is imported only where somebody uses it."""

    def compute(*args: Any) -> Any:
        from scipy import special

        return getattr(special, name)(*args)

    return compute


def _by_name(rule: str, function: str, *slopes: Callable[..., Any]) -> Rule:
    make = _unary if len(slopes) == 1 else _binary
    return make(rule, _special(function), *slopes)


def _unknown(function: str) -> Callable[..., Any]:
    """The derivative by an argument for which there is no closed form."""

    def refuse(*args: Any) -> Any:
        raise NoRuleError(
            f"autodiff: scipy.special.{function} has no rule for the derivative by its first "
            "argument. Keep it constant, as with chainrule.autodiff.stop_gradient."
        )

    return refuse


_digamma = _special("digamma")
_j0, _j1, _jv, _i0, _i1, _iv = map(_special, ("j0", "j1", "jv", "i0", "i1", "iv"))

# The derivatives of digamma are Hurwitz zeta functions, which SciPy has not as a ufunc.
_ZETA: Rule = _own(
    "zeta", _special("zeta"), _unknown("zeta"), lambda out, s, x: -s * _ZETA.value(s + 1.0, x)
)
_DIGAMMA = _by_name("digamma", "digamma", lambda out, x: _ZETA.value(2.0, x))
_BESSEL_J = _by_name(
    "jv", "jv", _unknown("jv"), lambda out, v, x: (_jv(v - 1, x) - _jv(v + 1, x)) / 2
)
SCIPY: dict[str, Rule] = {
    "expit": SIGMOID,
    "logit": _by_name("logit", "logit", lambda out, x: 1 / (x * (1 - x))),
    "log_expit": _by_name("log_expit", "log_expit", lambda out, x: SIGMOID.value(-x)),
    "erf": _by_name("erf", "erf", lambda out, x: 2 / sqrt(pi) * np.exp(-x * x)),
    "erfc": _by_name("erfc", "erfc", lambda out, x: -2 / sqrt(pi) * np.exp(-x * x)),
    "erfcx": _by_name("erfcx", "erfcx", lambda out, x: 2 * x * out - 2 / sqrt(pi)),
    "erfinv": _by_name("erfinv", "erfinv", lambda out, x: sqrt(pi) / 2 * np.exp(out * out)),
    "erfcinv": _by_name("erfcinv", "erfcinv", lambda out, x: -sqrt(pi) / 2 * np.exp(out * out)),
    "ndtr": _by_name("ndtr", "ndtr", lambda out, x: np.exp(-x * x / 2) / sqrt(2 * pi)),
    "ndtri": _by_name("ndtri", "ndtri", lambda out, x: sqrt(2 * pi) * np.exp(out * out / 2)),
    "log_ndtr": _by_name(
        "log_ndtr", "log_ndtr", lambda out, x: np.exp(-x * x / 2 - out) / sqrt(2 * pi)
    ),
    "gamma": _by_name("gamma", "gamma", lambda out, x: out * _digamma(x)),
    "gammaln": _by_name("gammaln", "gammaln", lambda out, x: _digamma(x)),
    "loggamma": _by_name("gammaln", "loggamma", lambda out, x: _digamma(x)),
    "digamma": _DIGAMMA,
    "psi": _DIGAMMA,
    "gammainc": _by_name(
        "gammainc",
        "gammainc",
        _unknown("gammainc"),
        lambda out, a, x: np.exp(-x + (a - 1) * np.log(x) - _special("gammaln")(a)),
    ),
    "gammaincc": _by_name(
        "gammaincc",
        "gammaincc",
        _unknown("gammaincc"),
        lambda out, a, x: -np.exp(-x + (a - 1) * np.log(x) - _special("gammaln")(a)),
    ),
    "beta": _by_name(
        "beta",
        "beta",
        lambda out, a, b: out * (_digamma(a) - _digamma(a + b)),
        lambda out, a, b: out * (_digamma(b) - _digamma(a + b)),
    ),
    "betaln": _by_name(
        "betaln",
        "betaln",
        lambda out, a, b: _digamma(a) - _digamma(a + b),
        lambda out, a, b: _digamma(b) - _digamma(a + b),
    ),
    "xlogy": _by_name(
        "xlogy",
        "xlogy",
        lambda out, x, y: np.log(y),
        lambda out, x, y: x / np.where(primal(x) == 0, 1.0, y),  # 0 at 0 log 0
    ),
    "xlog1py": _by_name(
        "xlog1py",
        "xlog1py",
        lambda out, x, y: np.log1p(y),
        lambda out, x, y: x / np.where(primal(x) == 0, 1.0, 1 + y),
    ),
    "entr": _by_name("entr", "entr", lambda out, x: -np.log(x) - 1),
    "rel_entr": _by_name(
        "rel_entr",
        "rel_entr",
        lambda out, x, y: np.log(x / y) + 1,
        lambda out, x, y: -x / y,
    ),
    "kl_div": _by_name(
        "kl_div", "kl_div", lambda out, x, y: np.log(x / y), lambda out, x, y: 1 - x / y
    ),
    "huber": _by_name(
        "huber",
        "huber",
        lambda out, delta, r: np.where(abs(primal(r)) > primal(delta), abs(r) - delta, 0.0),
        lambda out, delta, r: np.where(
            abs(primal(r)) > primal(delta), delta * np.sign(primal(r)), r
        ),
    ),
    "j0": _by_name("j0", "j0", lambda out, x: -_j1(x)),
    "j1": _by_name("j1", "j1", lambda out, x: (_j0(x) - _jv(2.0, x)) / 2),
    "jv": _BESSEL_J,
    "jn": _BESSEL_J,
    "i0": _by_name("i0", "i0", lambda out, x: _i1(x)),
    "i1": _by_name("i1", "i1", lambda out, x: (_i0(x) + _iv(2.0, x)) / 2),
    "iv": _by_name(
        "iv", "iv", _unknown("iv"), lambda out, v, x: (_iv(v - 1, x) + _iv(v + 1, x)) / 2
    ),
    "exp2": _by_name("exp2", "exp2", lambda out, x: log(2) * out),
    "exp10": _by_name("exp10", "exp10", lambda out, x: log(10) * out),
    "expm1": _by_name("expm1", "expm1", lambda out, x: out + 1),
    "log1p": _by_name("log1p", "log1p", lambda out, x: 1 / (1 + x)),
    "cbrt": _by_name("cbrt", "cbrt", lambda out, x: 1 / (3 * out * out)),
    "round": _flat("rint", np.rint),
}
