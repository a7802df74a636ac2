"""Rules that users add, and the list of all that there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from inspect import signature
from typing import Any, NoReturn

import numpy as np

from chainrule.autodiff import arrays, constants, linalg, products, reductions, rules
from chainrule.autodiff.rules import SCIPY, unbroadcast, written
from chainrule.autodiff.tracing import (
    FUNCTIONS,
    UFUNCS,
    Derivative,
    EachArgument,
    Rule,
    Tracer,
    apply,
    full_name,
    shape_of,
)
from chainrule.errors import DTypeError, InputError, NoRuleError, ShapeError, TracerError, explain

__all__ = ["define", "primitive", "supported"]

Derivatives = Derivative | Sequence[Derivative | None] | None
_KINDS = {
    rules.__name__: "elementwise",
    arrays.__name__: "arrays",
    reductions.__name__: "reductions",
    products.__name__: "products",
    linalg.__name__: "linear algebra",
    constants.__name__: "constants",
}
_DEFINED: set[Callable[..., Any]] = set()


def define(
    function: Callable[..., Any],
    jvp: Derivatives = None,
    vjp: Derivatives = None,
    name: str | None = None,
    replace: bool = False,
) -> None:
    """Give a NumPy or SciPy function a derivative rule.

    Parameters
    ----------
    function : ufunc or NumPy function
        One with a single result that NumPy dispatches. Functions of your own, and SciPy's that
        are no ufuncs, take `primitive` instead.
    jvp : callable, or sequence of callable or None, optional
        For each positional argument ``jvp(tangent, out, *args, **kwargs)``, what its tangent
        contributes to that of the result; None for an argument through which nothing flows. Used
        in forward mode.
    vjp : callable, or sequence of callable or None, optional
        For each positional argument ``vjp(cotangent, out, *args, **kwargs)``, what the cotangent
        of the result contributes to that of the argument, in its shape. Used in reverse mode. For
        ufuncs it is summed over axes along which the argument was broadcast.
    name : str, optional
        What graphs call it; by default the function's own name.
    replace : bool, default False
        Whether to replace a rule that there is.

    Raises
    ------
    DTypeError
        If `function` cannot be given a rule, or a derivative cannot be called.
    InputError
        If neither derivative is given, or if there is a rule and `replace` is false.

    Notes
    -----
    One of the two derivatives is enough for the mode it belongs to. To be differentiated again,
    they must be written with operators and functions that have rules.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import special
    >>> from chainrule.autodiff import define, grad
    >>> define(
    ...     special.exprel,  # (exp(x) - 1) / x
    ...     jvp=lambda tangent, out, x: tangent * (np.exp(x) - out) / x,
    ...     vjp=lambda cotangent, out, x: cotangent * (np.exp(x) - out) / x,
    ... )
    >>> float(grad(special.exprel)(1.0))
    1.0
    """
    if not isinstance(function, np.ufunc | type(np.sum)) or getattr(function, "nout", 1) > 1:
        raise DTypeError(
            explain(
                "define",
                "function",
                "be a ufunc or NumPy function with one result",
                repr(function),
                "For a function of your own use chainrule.autodiff.primitive.",
            )
        )
    is_ufunc = isinstance(function, np.ufunc)
    known = function in UFUNCS or function in FUNCTIONS
    if (known or (is_ufunc and function.__name__ in SCIPY)) and not replace:
        remedy = "Pass replace=True to replace it."
        raise InputError(explain("define", "function", "have no rule yet", function, remedy))
    title = name or function.__name__
    elementwise = is_ufunc and getattr(function, "signature", None) is None
    value = function if is_ufunc else _single(title, function)
    rule = Rule(title, value, *_derivatives("define", title, jvp, vjp, elementwise))
    if isinstance(function, np.ufunc):
        UFUNCS[function] = rule
    else:
        FUNCTIONS[function] = _caller(rule, function)
    _DEFINED.add(function)


def primitive(
    function: Callable[..., Any] | None = None,
    *,
    jvp: Derivatives = None,
    vjp: Derivatives = None,
    name: str | None = None,
) -> Callable[..., Any]:
    """Make a primitive of a Python function: an operation with derivatives given by you.

    Parameters
    ----------
    function : callable, optional
        Returns one number or array. It is called with plain values only, so it may do anything:
        loop, write into arrays, call compiled code. If left out, a decorator is returned.
    jvp, vjp : callable, or sequence of callable or None, optional
        The derivatives by each positional argument, as in `define`.
    name : str, optional
        What graphs call it; by default the function's own name.

    Returns
    -------
    callable
        Takes what `function` takes. Any argument that has a position may be traced; what is
        keyword-only is a constant.

    Raises
    ------
    InputError
        If neither derivative is given.
    DTypeError
        If a derivative cannot be called; by the returned function, if `function` returns anything
        but one number or array.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import grad, primitive
    >>> @primitive(
    ...     jvp=lambda tangent, out, x: tangent / (2 * out),
    ...     vjp=lambda cotangent, out, x: cotangent / (2 * out),
    ... )
    ... def newton_root(x):
    ...     guess = x
    ...     while np.any(abs(guess * guess - x) > 1e-12 * x):
    ...         guess = (guess + x / guess) / 2
    ...     return guess
    >>> round(float(grad(newton_root)(4.0)), 6)
    0.25
    """
    if function is None:
        return lambda found: primitive(found, jvp=jvp, vjp=vjp, name=name)
    title = name or str(getattr(function, "__name__", "primitive"))

    def value(*args: Any, **kwargs: Any) -> Any:
        out = function(*args, **kwargs)
        array = np.asarray(out)
        if isinstance(out, tuple | list) or array.dtype.kind not in "fiub":
            rule = "return one real number or array"
            raise DTypeError(explain("primitive", title, rule, type(out).__name__))
        return array[()] if array.ndim == 0 else array

    rule = written(title, value, *_derivatives("primitive", title, jvp, vjp, False))
    return wraps(function)(_caller(rule, function))


def _single(title: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with a message if it has several results."""

    def compute(*args: Any, **kwargs: Any) -> Any:
        out = function(*args, **kwargs)
        if isinstance(out, tuple | list):
            rule = "be one array for a rule"
            remedy = "Make a chainrule.autodiff.primitive of a function that returns one of them."
            raise DTypeError(explain(title, "the result", rule, f"{len(out)} results", remedy))
        return out

    return compute


def _caller(rule: Rule, function: Callable[..., Any]) -> Callable[..., Any]:
    """What applies a rule, with traced arguments moved to their positions."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(value, Tracer) for value in kwargs.values()):
            bound = signature(function).bind(*args, **kwargs)
            args, kwargs = bound.args, bound.kwargs
            for key, value in kwargs.items():
                if isinstance(value, Tracer):
                    raise TracerError(
                        f"autodiff: {rule.name} is differentiated by positional arguments only; "
                        f"got {key}= under differentiation. Give what stands before it as well."
                    )
        return apply(rule, args, kwargs)

    return call


def _derivatives(
    where: str, title: str, jvp: Derivatives, vjp: Derivatives, elementwise: bool
) -> tuple[_Given, _Given]:
    """Check the derivatives of a user and make them fit for a rule."""
    if jvp is None and vjp is None:
        rule = "be given, at least one of them"
        raise InputError(explain(where, "jvp and vjp", rule, "neither"))

    def push(i: int, given: Derivative, t: Any, out: Any, *args: Any, **kwargs: Any) -> Any:
        return _checked(title, "jvp", i, given(t, out, *args, **kwargs), out)

    def pull(i: int, given: Derivative, g: Any, out: Any, *args: Any, **kwargs: Any) -> Any:
        part = given(g, out, *args, **kwargs)
        if elementwise and part is not None:
            part = unbroadcast(part, args[i])
        return _checked(title, "vjp", i, part, args[i])

    return _Given(where, title, "jvp", jvp, push), _Given(where, title, "vjp", vjp, pull)


class _Given(EachArgument):
    """The derivatives that a user gave, each within what checks its results."""

    def __init__(
        self, where: str, title: str, kind: str, given: Derivatives, around: Callable[..., Any]
    ) -> None:
        super().__init__(around)
        self.title, self.kind = title, kind
        self.given = (given,) if callable(given) else () if given is None else tuple(given)
        for each in self.given:
            if each is not None and not callable(each):
                rule = "be a callable, or a sequence of callables and None"
                raise DTypeError(explain(where, kind, rule, repr(each)))

    def __getitem__(self, i: int) -> Any:
        if i >= len(self.given):
            return self._missing(i)
        given = self.given[i]
        return None if given is None else partial(self.derivative, i, given)

    def _missing(self, i: int) -> Callable[..., NoReturn]:
        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            mode = {"jvp": "forward", "vjp": "reverse"}[self.kind]
            raise NoRuleError(
                f"autodiff: {self.title} has no {self.kind} for argument {i}, which {mode} mode "
                f"needs. Give one where it is defined, or None if nothing flows."
            )

        return refuse


def _checked(title: str, kind: str, i: int, part: Any, like: Any) -> Any:
    """Require a user's derivative to return an array of the right shape."""
    name = f"the {kind} of argument {i}"
    if part is None:
        raise DTypeError(explain(title, name, "return an array", None))
    shape, wanted = shape_of(part), shape_of(like)
    if shape != wanted and not (kind == "jvp" and _broadcasts(shape, wanted)):
        remedy = "Sum it over the axes that were broadcast." if kind == "vjp" else ""
        raise ShapeError(explain(title, name, f"return shape {wanted}", shape, remedy))
    return part


def _broadcasts(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        return False


def supported() -> dict[str, list[str]]:
    """List the NumPy and SciPy functions that can be applied to traced values.

    Returns
    -------
    dict of str to list of str
        By kind, in alphabetical order: "elementwise", "arrays", "reductions", "products", "linear
        algebra", "constants" (whose results are plain values), "scipy.special", and "defined" for
        those that `define` added.

    Examples
    --------
    >>> from chainrule.autodiff import supported
    >>> "numpy.einsum" in supported()["products"]
    True
    """
    found: dict[str, list[str]] = {kind: [] for kind in (*_KINDS.values(), "defined")}
    handlers: list[tuple[Any, Any]] = [*UFUNCS.items(), *FUNCTIONS.items()]
    for function, handler in handlers:
        if function in _DEFINED:
            kind = "defined"
        elif not isinstance(handler, Rule):
            kind = _KINDS[handler.__module__]
        elif getattr(np, function.__name__, None) is function:
            kind = "products" if getattr(function, "signature", None) else "elementwise"
        else:
            continue  # a ufunc of SciPy's that was used before
        found[kind].append(full_name(function))
    found["scipy.special"] = [f"scipy.special.{name}" for name in SCIPY]
    return {kind: sorted(names) for kind, names in found.items()}
