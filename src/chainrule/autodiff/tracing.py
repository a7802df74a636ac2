"""The mechanism: values that remember, or carry along, how they came about.

A `Node` stands for a value in reverse mode: it keeps the rule and the arguments it was computed
with, on a `Tape`, which is walked backwards. A `Dual` stands for a value in forward mode: it
carries its tangent with it. Both enter ordinary NumPy code through NumPy's own protocols, and
every operation on them ends in `apply`, which looks for nothing but a `Rule`.

Each use of an operator (`grad`, `jvp`, ...) takes a level of its own, higher than that of any use
around it. An operation belongs to the highest level among its arguments; to the rule, values of
lower levels are arguments like any others, and if they are tracers themselves, the rule's
own NumPy calls are recorded there. That is all that nesting to any order needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, NoReturn

import numpy as np

from chainrule.errors import NoRuleError, TracerError

__all__ = [
    "FUNCTIONS",
    "METHODS",
    "UFUNCS",
    "UFUNC_METHODS",
    "Dual",
    "EachArgument",
    "Node",
    "Rule",
    "Tape",
    "Tracer",
    "apply",
    "full_name",
    "new_level",
    "primal",
    "shape_of",
    "stop_gradient",
]

Derivative = Callable[..., Any]
NOTHING: Mapping[str, Any] = {}  # a dict, as other mappings take long to unpack
_levels = count()


def new_level() -> int:
    """Return a level above all that were handed out before."""
    return next(_levels)


class EachArgument:
    """The derivatives of a rule with any number of arguments.

    Parameters
    ----------
    derivative : callable
        Takes the index of the argument first, then what a derivative takes.
    together : callable, optional
        For the JVP, where it is cheaper for all arguments at once: takes a list with the tangent
        of each argument, or None for a constant, then what a derivative takes.
    """

    def __init__(
        self, derivative: Callable[..., Any], together: Callable[..., Any] | None = None
    ) -> None:
        self.derivative = derivative
        self.together = together

    def __getitem__(self, i: int) -> Derivative:
        return partial(self.derivative, i)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A primitive: how to compute it and how to differentiate it.

    Parameters
    ----------
    name : str
        What graphs and messages call it.
    value : callable
        ``value(*args, **kwargs)`` computes it. It must itself work on tracers of lower levels,
        as everything written with NumPy and operators does.
    jvp : sequence of callable or None
        One for each argument: ``jvp[i](tangent, out, *args, **kwargs)`` is what the tangent of
        argument i contributes to the tangent of `out`. None where nothing flows.
    vjp : sequence of callable or None
        One for each argument: ``vjp[i](cotangent, out, *args, **kwargs)`` is what the cotangent
        of `out` contributes to that of argument i, in its shape. None where nothing flows.
    """

    name: str
    value: Callable[..., Any]
    jvp: Sequence[Derivative | None] | EachArgument
    vjp: Sequence[Derivative | None] | EachArgument


# What NumPy's protocols look up. A ufunc leads to its rule, or to a function where it takes more
# than that; a NumPy function, a method of arrays or a method of a ufunc leads to a function with
# the same parameters.
UFUNCS: dict[np.ufunc, Rule | Callable[..., Any]] = {}
FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {}
METHODS: dict[str, Callable[..., Any]] = {}
UFUNC_METHODS: dict[tuple[np.ufunc, str], Callable[..., Any]] = {}


class Tracer:
    """A value under differentiation; to NumPy code it looks like an array.

    Attributes
    ----------
    level : int
        Of the operator it belongs to.
    value : float, ndarray or Tracer of a lower level
        What it stands for.
    """

    __slots__ = ("level", "value")
    __array_priority__ = 1000.0

    level: int
    value: Any

    def _record(
        self, rule: Rule, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Tracer:  # pragma: no cover
        raise NotImplementedError

    # --- NumPy's protocols ------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        found = UFUNCS.get(ufunc) or _find_scipy(ufunc)
        if method != "__call__":
            return _method(ufunc, method, inputs, kwargs)
        if kwargs:
            _refuse(f"numpy.{ufunc.__name__}", kwargs)
        if isinstance(found, Rule):
            return apply(found, inputs)
        if found is None:
            _no_rule(ufunc, "xyzuvw"[: ufunc.nin])
        return found(*inputs)

    def __array_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        handler = FUNCTIONS.get(function)
        if handler is None:
            _no_rule(function, "x" if len(args) == 1 and not kwargs else "x*")
        return _call(full_name(function), handler, args, kwargs)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        _lost("an array")

    def __float__(self) -> NoReturn:
        _lost("a float")

    def __int__(self) -> NoReturn:
        _lost("an int")

    def __index__(self) -> NoReturn:
        _lost("an index")

    def __complex__(self) -> NoReturn:
        _lost("a complex number")

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TracerError(
            "autodiff: a traced array must not be written into; got x[...] = value. Build the "
            "result with numpy.where, numpy.concatenate or numpy.stack instead."
        )

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        _lost("a pickle")

    def __copy__(self) -> Tracer:
        return self  # it is never written into

    def __deepcopy__(self, memo: Any) -> Tracer:
        return self

    def __bool__(self) -> bool:
        return bool(primal(self))

    def __hash__(self) -> int:
        return id(self)

    def __format__(self, spec: str) -> str:
        return format(primal(self), spec)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({primal(self)!r})"

    # --- what an array knows of itself ------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value."""
        return shape_of(self.value)

    @property
    def ndim(self) -> int:
        """Of the value."""
        return len(shape_of(self.value))

    @property
    def size(self) -> int:
        """Of the value."""
        return int(np.size(primal(self)))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the value."""
        return np.asarray(primal(self)).dtype

    @property
    def flags(self) -> Any:
        """Of the value."""
        return np.asarray(primal(self)).flags

    @property
    def T(self) -> Any:
        """The value with its axes reversed."""
        return np.transpose(self)

    @property
    def mT(self) -> Any:
        """The value with its last two axes exchanged."""
        return np.swapaxes(self, -1, -2)

    @property
    def real(self) -> Any:
        """The value, which is real."""
        return self

    @property
    def imag(self) -> Any:
        """Zeros."""
        return np.imag(self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Methods of arrays: ``x.sum(axis=0)`` is ``numpy.sum(x, axis=0)``."""
        method = METHODS.get(name)
        if method is None:
            if not name.startswith("__") and hasattr(np.ndarray, name):
                raise TracerError(
                    f"autodiff: the array method .{name} cannot be used on a traced value. Take "
                    "a NumPy function, or chainrule.autodiff.stop_gradient(x) for its plain value."
                )
            raise AttributeError(f"a traced value has no attribute {name!r}")
        return lambda *args, **kwargs: _call(f".{name}", method, (self, *args), kwargs)

    # --- operators --------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        return METHODS["__getitem__"](self, index)

    def __add__(self, other: Any) -> Any:
        return apply(UFUNCS[np.add], (self, other))

    def __radd__(self, other: Any) -> Any:
        return apply(UFUNCS[np.add], (other, self))

    def __sub__(self, other: Any) -> Any:
        return apply(UFUNCS[np.subtract], (self, other))

    def __rsub__(self, other: Any) -> Any:
        return apply(UFUNCS[np.subtract], (other, self))

    def __mul__(self, other: Any) -> Any:
        return apply(UFUNCS[np.multiply], (self, other))

    def __rmul__(self, other: Any) -> Any:
        return apply(UFUNCS[np.multiply], (other, self))

    def __truediv__(self, other: Any) -> Any:
        return apply(UFUNCS[np.true_divide], (self, other))

    def __rtruediv__(self, other: Any) -> Any:
        return apply(UFUNCS[np.true_divide], (other, self))

    def __pow__(self, other: Any) -> Any:
        return apply(UFUNCS[np.power], (self, other))

    def __rpow__(self, other: Any) -> Any:
        return apply(UFUNCS[np.power], (other, self))

    def __matmul__(self, other: Any) -> Any:
        return apply(UFUNCS[np.matmul], (self, other))

    def __rmatmul__(self, other: Any) -> Any:
        return apply(UFUNCS[np.matmul], (other, self))

    def __mod__(self, other: Any) -> Any:
        return np.remainder(self, other)

    def __rmod__(self, other: Any) -> Any:
        return np.remainder(other, self)

    def __floordiv__(self, other: Any) -> Any:
        return np.floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return np.floor_divide(other, self)

    def __round__(self, ndigits: int | None = None) -> Any:
        return np.round(self, ndigits or 0)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __neg__(self) -> Any:
        return apply(UFUNCS[np.negative], (self,))

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return apply(UFUNCS[np.absolute], (self,))

    def __eq__(self, other: object) -> Any:
        return primal(self) == primal(other)

    def __ne__(self, other: object) -> Any:
        return primal(self) != primal(other)

    def __lt__(self, other: Any) -> Any:
        return primal(self) < primal(other)

    def __le__(self, other: Any) -> Any:
        return primal(self) <= primal(other)

    def __gt__(self, other: Any) -> Any:
        return primal(self) > primal(other)

    def __ge__(self, other: Any) -> Any:
        return primal(self) >= primal(other)


class Node(Tracer):
    """A value in reverse mode: what it was computed from, and with which rule.

    Parameters
    ----------
    tape : Tape
        Where it is recorded.
    value : float, ndarray or Tracer of a lower level
        What it stands for.
    rule : Rule, optional
        None for an input.
    parents : sequence of Node or None
        One for each argument; None where the argument is a constant.
    args : sequence
        The values the rule was given.
    kwargs : mapping
        The options the rule was given.

    Attributes
    ----------
    index : int
        Its place on the tape.
    """

    __slots__ = ("args", "index", "kwargs", "parents", "rule", "tape")

    def __init__(
        self,
        tape: Tape,
        value: Any,
        rule: Rule | None = None,
        parents: Sequence[Node | None] = (),
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = NOTHING,
    ) -> None:
        nodes = tape.nodes
        self.level = tape.level
        self.value = value
        self.tape = tape
        self.rule = rule
        self.parents = parents
        self.args = args
        self.kwargs = kwargs
        self.index = len(nodes)
        nodes.append(self)

    def _record(self, rule: Rule, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Node:
        if len(args) == 1:
            parents: list[Node | None] = [self]
            values = [self.value]
        else:
            level = self.level
            parents = []
            values = []
            for argument in args:
                if isinstance(argument, Node) and argument.level == level:
                    parents.append(argument)
                    values.append(argument.value)
                else:
                    parents.append(None)
                    values.append(np.asarray(argument) if type(argument) is list else argument)
        return Node(self.tape, rule.value(*values, **kwargs), rule, parents, values, kwargs)


class Tape:
    """All nodes of one level, in the order in which they were computed."""

    __slots__ = ("level", "nodes")

    def __init__(self) -> None:
        self.level = new_level()
        self.nodes: list[Node] = []

    def pull_back(self, cotangents: Mapping[int, Any], keep: bool = True) -> list[Any]:
        """Walk backwards from the cotangents of some nodes.

        Parameters
        ----------
        cotangents : mapping of int to array
            By index of the node; each in the shape of the node's value.
        keep : bool, default True
            Leave the tape as it is. Otherwise it is empty in the end, each node dropped after its
            turn, so that the memory of its value serves the cotangents to come.

        Returns
        -------
        list
            A cotangent for each input (node without rule) of the tape, or None where nothing
            arrived; None at all other places.
        """
        nodes = self.nodes
        gathered: list[Any] = [None] * len(nodes)
        last = -1
        for index, cotangent in cotangents.items():
            gathered[index] = cotangent
            last = max(last, index)
        if not keep:
            del nodes[last + 1 :]
        for index in range(last, -1, -1):
            node = nodes[index] if keep else nodes.pop()
            rule = node.rule
            cotangent = gathered[index]
            if cotangent is None or rule is None:
                continue
            gathered[index] = None  # it is not needed again
            value, args, kwargs = node.value, node.args, node.kwargs
            for i, parent in enumerate(node.parents):
                if parent is None:
                    continue
                derivative = rule.vjp[i]
                if derivative is None:
                    continue
                there = gathered[parent.index]
                if there is None:
                    gathered[parent.index] = derivative(cotangent, value, *args, **kwargs)
                else:  # in one expression, so that NumPy may add in place
                    gathered[parent.index] = there + derivative(cotangent, value, *args, **kwargs)
        return gathered


class Dual(Tracer):
    """A value in forward mode, with its tangent.

    Parameters
    ----------
    level : int
        Of the operator it belongs to.
    value : float, ndarray or Tracer of a lower level
        What it stands for.
    tangent : array
        In the shape of the value.
    """

    __slots__ = ("tangent",)

    def __init__(self, level: int, value: Any, tangent: Any) -> None:
        self.level = level
        self.value = value
        self.tangent = tangent

    def _record(self, rule: Rule, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if isinstance(rule.jvp, EachArgument) and rule.jvp.together is not None:
            return self._record_together(rule, rule.jvp.together, args, kwargs)
        level = self.level
        tangents = []
        values = []
        for i, argument in enumerate(args):
            if isinstance(argument, Dual) and argument.level == level:
                values.append(argument.value)
                derivative = rule.jvp[i]
                if derivative is not None:
                    tangents.append((derivative, argument.tangent))
            else:
                values.append(np.asarray(argument) if type(argument) is list else argument)
        out = rule.value(*values, **kwargs)
        total = None
        for derivative, tangent in tangents:
            part = derivative(tangent, out, *values, **kwargs)
            total = part if total is None else total + part
        if total is None:
            return out
        if shape_of(total) != shape_of(out):
            total = np.broadcast_to(total, shape_of(out))
        return Dual(level, out, total)

    def _record_together(
        self,
        rule: Rule,
        together: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Dual:
        level = self.level
        mine = [isinstance(x, Dual) and x.level == level for x in args]
        values = [x.value if own else x for x, own in zip(args, mine, strict=True)]
        tangents = [x.tangent if own else None for x, own in zip(args, mine, strict=True)]
        out = rule.value(*values, **kwargs)
        return Dual(level, out, together(tangents, out, *values, **kwargs))


def apply(rule: Any, args: Sequence[Any], kwargs: Mapping[str, Any] = NOTHING) -> Any:
    """Compute a primitive; record it at the highest level among its arguments.

    Parameters
    ----------
    rule : Rule
        The primitive.
    args : sequence
        What may be differentiated, traced or not.
    kwargs : mapping
        What never is: axes, shapes, indices.

    Returns
    -------
    array or Tracer
        Plain if no argument is traced.
    """
    top = None
    level = -1
    for argument in args:
        if isinstance(argument, Tracer) and argument.level > level:
            top = argument
            level = argument.level
    if top is None:
        return rule.value(*args, **kwargs)
    return top._record(rule, args, kwargs)


def shape_of(x: Any) -> tuple[int, ...]:
    """Return the shape of an array, a number, or a tracer."""
    try:
        return x.shape  # type: ignore[no-any-return]
    except AttributeError:
        return () if isinstance(x, float | int) else np.shape(x)


def primal(x: Any) -> Any:
    """Return the plain value behind a tracer of any level; anything else as it is."""
    while isinstance(x, Tracer):
        x = x.value
    return x


def stop_gradient(x: Any) -> Any:
    """Return the plain value of x, through which no derivative flows.

    Parameters
    ----------
    x : array or number
        Traced or not.

    Returns
    -------
    array or number
        The same value, as a constant.

    Examples
    --------
    >>> from chainrule.autodiff import grad, stop_gradient
    >>> float(grad(lambda x: x * stop_gradient(x))(3.0))
    3.0
    """
    return primal(x)


def _call(
    name: str, handler: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Call what stands for a function; say so if it does not take all that the function does."""
    try:
        return handler(*args, **kwargs)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise NoRuleError(
                f"autodiff: {name} is differentiated without some of its options: "
                f"{str(error).partition('() ')[2] or error}. Leave them out."
            ) from None
        raise


def _method(ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """``numpy.add.reduce(x)`` and its like, which default to axis 0."""
    handler = UFUNC_METHODS.get((ufunc, method))
    if handler is not None:
        return _call(f"numpy.{ufunc.__name__}.{method}", handler, inputs, {"axis": 0} | kwargs)
    if method == "outer" and not kwargs and ufunc.nin == 2:
        left, right = inputs
        shape = (*shape_of(left), *(1,) * len(shape_of(right)))
        return ufunc(np.reshape(left, shape), right)
    raise NoRuleError(
        f"autodiff: numpy.{ufunc.__name__}.{method} has no derivative rule. Use functions that "
        "have one, such as numpy.sum, numpy.cumsum or numpy.concatenate."
    )


def _find_scipy(ufunc: np.ufunc) -> Any:
    """Rules of SciPy's ufuncs are kept by name, so that SciPy need not be imported for them."""
    from chainrule.autodiff.rules import SCIPY

    rule = SCIPY.get(ufunc.__name__)
    if rule is not None:
        from scipy import special

        if getattr(special, ufunc.__name__, None) is ufunc:
            UFUNCS[ufunc] = rule
            return rule
    return None


def _refuse(name: str, kwargs: Mapping[str, Any]) -> NoReturn:
    if "out" in kwargs:
        raise TracerError(
            f"autodiff: {name} must not write a traced value into an array; got out=, or an "
            "operator such as += on an array. Write x = x + y instead."
        )
    raise NoRuleError(
        f"autodiff: {name} is differentiated without options; got {', '.join(kwargs)}. "
        "Leave them out, or use numpy.where."
    )


def full_name(function: Callable[..., Any]) -> str:
    """Return what a user writes for a function of NumPy or SciPy."""
    name = function.__name__
    if not isinstance(function, np.ufunc):
        return f"{getattr(function, '__module__', None) or 'numpy'}.{name}"
    if getattr(np, name, None) is function:
        return f"numpy.{name}"
    special = sys.modules.get("scipy.special")
    return f"scipy.special.{name}" if getattr(special, name, None) is function else name


def _no_rule(function: Callable[..., Any], letters: str) -> NoReturn:
    """Say how to add a rule; `letters` are the arguments, or ``x*`` for one and any others."""
    if getattr(function, "nout", 1) > 1:
        raise NoRuleError(
            f"autodiff: {full_name(function)} has several results and no derivative rule. Use "
            "functions that have one."
        )
    given = "x, *rest, **options" if letters == "x*" else ", ".join(letters)
    count = letters.count("x") if letters == "x*" else len(letters)
    jvp = ", ".join([f"lambda tangent, out, {given}: tangent * ..."] * count)
    vjp = ", ".join([f"lambda cotangent, out, {given}: cotangent * ..."] * count)
    raise NoRuleError(
        f"autodiff: {full_name(function)} has no derivative rule. Add one, as in "
        f"chainrule.autodiff.define({full_name(function)}, jvp=[{jvp}], vjp=[{vjp}]), or use "
        "functions that have one."
    )


def _lost(kind: str) -> NoReturn:
    raise TracerError(
        f"autodiff: a traced value must not become {kind}, where its derivative would be lost. "
        "Use NumPy functions (numpy.stack for a list of values), "
        "chainrule.autodiff.primitive for a function that needs plain arrays, or "
        "chainrule.autodiff.stop_gradient(x) where you want the plain value."
    )
