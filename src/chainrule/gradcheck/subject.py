"""The function under examination: called with copies only, and asked for what it returned."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from chainrule.errors import InputError, ShapeError, explain

__all__ = ["Inputs", "Subject", "is_float_array"]

Inputs = Sequence[Any] | Mapping[str, Any]
"""Arguments of a function, by position or by name."""


def is_float_array(value: object) -> bool:
    """Whether a value is what can be differentiated by: an array or NumPy scalar of floats."""
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f"


class Subject:
    """A forward, its backward and the inputs at which they are compared.

    Parameters
    ----------
    where : str
        The public function that asks, for messages.
    forward : callable
        Takes the inputs; returns ``(out, cache)``, or out alone where `layer` is false.
    backward : callable
        Takes ``(dout, cache)``, or the cache alone; where `layer` is false, the inputs.
    inputs : sequence or mapping
        The inputs; arrays of floats are differentiated by.
    layer : bool, default True
        Whether forward returns a cache for backward.
    wrt : sequence of int or str, optional
        Positions or names of the inputs that backward differentiates by.
    forward_kwargs : mapping, optional
        Further keyword arguments of forward.
    """

    def __init__(
        self,
        where: str,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        inputs: Inputs,
        *,
        layer: bool = True,
        wrt: Sequence[int | str] | None = None,
        forward_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.where = where
        self.forward = forward
        self.backward = backward
        self.layer = layer
        self.keys = tuple(inputs) if isinstance(inputs, Mapping) else None
        given = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
        self.given = [np.asarray(x) if isinstance(x, np.generic) else x for x in given]
        self.kwargs = dict(forward_kwargs or {})
        self.names = list(self.keys) if self.keys else _names(forward, len(self.given))
        self.wrt = self._choose(wrt)
        self.takes_dout = not layer or _takes_two(backward)
        self.arrays = [_as_float64(x) for x in self.given]
        self.name = _name_of(forward)

    def _choose(self, wrt: Sequence[int | str] | None) -> list[int]:
        """Positions of the inputs to differentiate by."""
        if wrt is None:
            chosen = [i for i, value in enumerate(self.given) if is_float_array(value)]
            if not chosen:
                rule, remedy = "hold an array of floats", "Integers have no derivative."
                got = [type(value).__name__ for value in self.given]
                raise InputError(explain(self.where, "inputs", rule, got, remedy))
            return chosen
        chosen = []
        for each in wrt:
            position = self.names.index(each) if each in self.names else each
            if not isinstance(position, int) or not 0 <= position < len(self.given):
                rule = f"name inputs, of {self.names}"
                raise InputError(explain(self.where, "wrt", rule, repr(each)))
            if not is_float_array(self.given[position]):
                rule = "name arrays of floats"
                raise InputError(explain(self.where, "wrt", rule, repr(each)))
            chosen.append(position)
        return chosen

    @property
    def is_float32(self) -> bool:
        """Whether some input to differentiate by came in less than float64."""
        return any(self.given[i].dtype != np.float64 for i in self.wrt)

    def call(self, values: Sequence[Any]) -> tuple[np.ndarray, Any, list[Any]]:
        """Run forward on copies.

        Parameters
        ----------
        values : sequence
            The inputs.

        Returns
        -------
        out : ndarray
            A copy of what forward returned, as it came.
        cache : object
            Its cache; None for functions without.
        used : list
            The copies that forward was given, as it left them.
        """
        used = [_copied(value) for value in values]
        kwargs = {name: _copied(value) for name, value in self.kwargs.items()}
        forward = _fresh(self.forward)
        result = (
            forward(**dict(zip(self.keys, used, strict=True)), **kwargs)
            if self.keys
            else (forward(*used, **kwargs))
        )
        cache = None
        if self.layer:
            if not isinstance(result, tuple | list) or len(result) < 2:
                rule = "return (out, cache)"
                raise InputError(explain(self.where, "forward", rule, type(result).__name__))
            result, cache = result[0], result[1]
        out = np.array(result)
        if out.dtype.kind not in "fciub":
            rule = "return an array or a number"
            raise InputError(explain(self.where, self.name, rule, type(result).__name__))
        return out, cache, used

    def back(self, dout: np.ndarray, cache: Any, values: Sequence[Any]) -> Any:
        """Run backward on a copy of dout; the result comes as it is."""
        if not self.layer:
            used = [_copied(value) for value in values]
            return (
                self.backward(**dict(zip(self.keys, used, strict=True)))
                if self.keys
                else (self.backward(*used))
            )
        if not self.takes_dout:
            return self.backward(cache)
        return self.backward(dout if dout.ndim else dout[()], cache)

    def cotangent(
        self, out: np.ndarray, dout: ArrayLike | None, rng: np.random.Generator
    ) -> np.ndarray:
        """The gradient from above: what is given, else random of both signs and no zeros."""
        if not self.layer and dout is None and out.size == 1:
            return np.ones(out.shape)
        if self.layer and not self.takes_dout:
            if out.size != 1:
                rule = "take (dout, cache), since out has more than one element"
                raise InputError(explain(self.where, "backward", rule, "one argument"))
            return np.ones(out.shape)
        if dout is None:
            if not self.layer:
                rule = f"be given for a function that returns shape {out.shape}"
                remedy = "It is the gradient of a final scalar by f(x)."
                raise InputError(explain(self.where, "dout", rule, None, remedy))
            return rng.choice([-1.0, 1.0], out.shape) * rng.uniform(0.5, 1.5, out.shape)
        cotangent = np.array(dout, dtype=np.float64)
        if cotangent.shape != out.shape:
            rule = f"have the shape of the output, {out.shape}"
            raise ShapeError(explain(self.where, "dout", rule, cotangent.shape))
        return cotangent

    def fresh_arrays(
        self, rng: np.random.Generator, arrays: Sequence[Any] | None = None
    ) -> list[Any]:
        """Other inputs of the same shapes: values change, signs of positive arrays do not."""
        fresh = []
        for value in self.arrays if arrays is None else arrays:
            if is_float_array(value) and value.size:
                if np.all(value > 0):
                    grown = value * np.exp(0.3 * rng.standard_normal(value.shape))
                    fresh.append(np.asarray(grown))
                else:
                    spread = float(np.std(value)) or float(np.mean(np.abs(value))) or 1.0
                    noise = rng.standard_normal(value.shape)
                    moved = rng.permutation(value.ravel()).reshape(value.shape)
                    fresh.append(np.asarray(moved + spread * noise))
            elif isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
                fresh.append(rng.permutation(value))
            else:
                fresh.append(value)
        return fresh


def _as_float64(value: Any) -> Any:
    return np.array(value, dtype=np.float64) if is_float_array(value) else value


def _copied(value: Any) -> Any:
    """A copy that the function may spoil; a generator's copy gives the same numbers each time."""
    if isinstance(value, np.ndarray):
        return value.copy()
    return copy.deepcopy(value) if isinstance(value, dict | list | np.random.Generator) else value


def _fresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with copies of the generators and dicts that a partial holds."""
    if isinstance(function, functools.partial):
        keywords = {name: _copied(value) for name, value in function.keywords.items()}
        return functools.partial(function.func, *map(_copied, function.args), **keywords)
    return function


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__)
    return "function" if name == "<lambda>" else name


def _names(forward: Callable[..., Any], count: int) -> list[str]:
    """Names of the first arguments, numbered where the signature does not say."""
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [
        each.name
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return [names[i] if i < len(names) else f"inputs[{i}]" for i in range(count)]


def _takes_two(backward: Callable[..., Any]) -> bool:
    """Whether backward takes (dout, cache): it has two required arguments, or any number."""
    try:
        parameters = list(inspect.signature(backward).parameters.values())
    except (TypeError, ValueError):
        return True
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return True
    positional = [
        each
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return sum(each.default is each.empty for each in positional) >= 2
