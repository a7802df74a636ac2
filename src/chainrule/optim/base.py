"""What all optimizers share: checking, weight decay, state, and walking through parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from chainrule import kernels
from chainrule.errors import InputError, RunError, explain, nearest
from chainrule.optim.checks import (
    BLOCK,
    NON_NEGATIVE,
    POSITIVE,
    block_views,
    check_arrays,
    check_flag,
    check_number,
    check_same_layout,
    check_whole,
)

if TYPE_CHECKING:
    from chainrule.kernels._kernels import InstructionSet

__all__ = ["Optimizer", "Scalars", "Tensors"]

Tensors = dict[str, np.ndarray]
Scalars = dict[str, int | float]


class Optimizer(ABC):
    r"""Base of the optimizers: turns gradients into steps, in place.

    Subclasses give one elementwise update rule. Everything around it is here: checks, weight
    decay, the state of each parameter, and saving and restoring that state.

    Parameters
    ----------
    lr : float
        Learning rate, positive. `step` can override it, which is how schedules work.
    weight_decay : float, default 0.0
        Strength :math:`\lambda \ge 0` of the decay. Coupled unless the subclass says otherwise:
        the rule sees the gradient :math:`g + \lambda p`.
    decay_bias : bool, default True
        Whether to decay every parameter, as PyTorch does. If False, only those with more than
        one axis (weights, not biases or normalisation scales) decay.

    Attributes
    ----------
    step_count : int
        How often `step` has been called.

    Notes
    -----
    State is kept by parameter name, in the parameter's dtype, created when a name is first
    seen. A parameter left out of a call keeps its state, and its own count of steps, untouched.

    Large parameters are updated in blocks that fit a core's cache, with scratch memory that is
    allocated once. Every rule is elementwise, so blocks and order change no bit of the result.

    Values that overflow become infinite without a warning; judging them is the caller's affair
    (the training loop stops at the first one).
    """

    _decoupled_decay = False

    def __init__(self, lr: float, weight_decay: float = 0.0, decay_bias: bool = True) -> None:
        where = type(self).__name__
        self.lr = lr
        self.weight_decay = check_number(where, "weight_decay", weight_decay, NON_NEGATIVE)
        self.decay_bias = check_flag(where, "decay_bias", decay_bias)
        self.step_count = 0
        self._steps: dict[str, int] = {}
        self._state: dict[str, Tensors] = {slot: {} for slot in self._slots()}
        self._scratch: dict[np.dtype, np.ndarray] = {}

    @property
    def lr(self) -> float:
        """The learning rate that `step` uses unless it is given another."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = check_number(type(self).__name__, "lr", value, POSITIVE)

    @abstractmethod
    def _slots(self) -> tuple[str, ...]:
        """Names of the state arrays that each parameter has."""

    @abstractmethod
    def _rule(
        self,
        param: np.ndarray,
        grad: np.ndarray,
        state: list[np.ndarray],
        scratch: np.ndarray,
        lr: float,
        step: int,
    ) -> None:
        """Update one flat block of `param` and `state` in place.

        `grad` is read only; the rows of `scratch` (2, size) are free to use; `step` counts this
        parameter's steps from 1.
        """

    @abstractmethod
    def _kernel(
        self,
        chosen: InstructionSet,
        param: np.ndarray,
        grad: np.ndarray,
        state: list[np.ndarray],
        lr: float,
        step: int,
        decay: float,
    ) -> None:
        """Do what `_rule` does, and the weight decay, on compiled kernels."""

    def step(
        self,
        params: Mapping[str, np.ndarray],
        grads: Mapping[str, np.ndarray],
        lr: float | None = None,
    ) -> None:
        """Take one step: update the arrays in `params`.

        Parameters
        ----------
        params : mapping of str to ndarray
            Parameters by name, float32 or float64, any shape. Updated in place.
        grads : mapping of str to ndarray
            The gradient of each parameter, of its shape and dtype. Not modified.
        lr : float, optional
            Learning rate of this step only, zero or more; default: the attribute `lr`.

        Raises
        ------
        InputError
            If a parameter has no gradient, a gradient no parameter, a parameter is read-only,
            or `lr` is out of range. Nothing has been updated then.
        ShapeError
            If a gradient or the kept state has another shape than the parameter.
        DTypeError
            If an array is neither float32 nor float64, or its dtype differs from the
            parameter's.

        Examples
        --------
        >>> from chainrule.optim import SGD
        >>> params = {"weight": np.array([1.0, 2.0])}
        >>> SGD(lr=0.5).step(params, {"weight": np.array([2.0, 0.0])})
        >>> params["weight"]
        array([0., 2.])
        """
        where = f"{type(self).__name__}.step"
        rate = self.lr if lr is None else check_number(where, "lr", lr, NON_NEGATIVE)
        self._check(where, params, grads)
        self.step_count += 1
        with np.errstate(over="ignore", invalid="ignore"):
            for name, param in params.items():
                self._steps[name] = self._steps.get(name, 0) + 1
                self._update(name, param, grads[name], rate)

    def state_dict(self) -> tuple[Tensors, Scalars]:
        """Copy everything that a later identical continuation needs.

        Returns
        -------
        tensors : dict of str to ndarray
            State arrays, keyed ``"slot/parameter"``, such as ``"m/conv1.weight"``.
        scalars : dict of str to int or float
            ``lr``, ``step_count`` and ``"steps/parameter"`` for each parameter.

        Examples
        --------
        >>> from chainrule.optim import Momentum
        >>> optimizer = Momentum(lr=0.5)
        >>> optimizer.step({"bias": np.zeros(1)}, {"bias": np.ones(1)})
        >>> optimizer.state_dict()
        ({'v/bias': array([1.])}, {'lr': 0.5, 'step_count': 1, 'steps/bias': 1})
        """
        tensors = {
            f"{slot}/{name}": array.copy()
            for slot, arrays in self._state.items()
            for name, array in arrays.items()
        }
        scalars: Scalars = {"lr": self.lr, "step_count": self.step_count}
        return tensors, scalars | {f"steps/{name}": count for name, count in self._steps.items()}

    def load_state_dict(
        self, tensors: Mapping[str, np.ndarray], scalars: Mapping[str, int | float]
    ) -> None:
        """Restore what `state_dict` returned, replacing the present state.

        Parameters
        ----------
        tensors : mapping of str to ndarray
            State arrays; they are copied.
        scalars : mapping of str to int or float
            Counts and learning rate. The other options are not part of the state: build the
            optimizer with the same ones.

        Raises
        ------
        RunError
            If keys are missing or belong to another kind of optimizer. The present state is
            kept when anything is wrong.
        InputError
            If a count or the learning rate is out of range.
        DTypeError
            If a value has the wrong type.

        Examples
        --------
        >>> from chainrule.optim import Momentum
        >>> optimizer = Momentum(lr=0.5)
        >>> optimizer.load_state_dict({"v/bias": np.ones(1)},
        ...                           {"lr": 0.1, "step_count": 7, "steps/bias": 7})
        >>> optimizer.lr, optimizer.step_count
        (0.1, 7)
        """
        where = f"{type(self).__name__}.load_state_dict"
        steps = {
            key.removeprefix("steps/"): count
            for key, count in scalars.items()
            if key.startswith("steps/")
        }
        expected = {f"{slot}/{name}" for slot in self._state for name in steps}
        expected_scalars = {"lr", "step_count", *(f"steps/{name}" for name in steps)}
        for kind, given, known in (
            ("tensors", set(tensors), expected),
            ("scalars", set(scalars), expected_scalars),
        ):
            if given != known:
                odd = sorted(given ^ known)[0]
                rule = f"have the keys that {type(self).__name__} saves"
                got = f"no {odd!r}" if odd in known else f"{odd!r}"
                remedy = "Was it saved by another optimizer?"
                raise RunError(explain(where, kind, rule, got, remedy))
        check_arrays(where, "tensors", tensors, write=False)
        lr = check_number(where, "lr", scalars["lr"], POSITIVE)
        step_count = check_whole(where, "step_count", scalars["step_count"], 0)
        counts = {name: check_whole(where, f"steps/{name}", steps[name], 0) for name in steps}
        self.lr, self.step_count, self._steps = lr, step_count, counts
        self._state = {
            slot: {name: np.array(tensors[f"{slot}/{name}"], order="C") for name in steps}
            for slot in self._state
        }

    def _check(
        self, where: str, params: Mapping[str, np.ndarray], grads: Mapping[str, np.ndarray]
    ) -> None:
        check_arrays(where, "params", params, write=True)
        check_arrays(where, "grads", grads, write=False)
        for name in grads:
            if name not in params:
                hint = nearest(name, params)
                raise InputError(explain(where, "grads", "name parameters only", repr(name), hint))
        for name, param in params.items():
            if name not in grads:
                raise InputError(
                    explain(where, "grads", "hold every parameter's gradient", f"none for {name!r}")
                )
            label, like = f"grads[{name!r}]", f"params[{name!r}]"
            check_same_layout(where, label, grads[name], like, param)
            for slot, arrays in self._state.items():
                if name in arrays:
                    check_same_layout(where, f"state {slot}/{name}", arrays[name], like, param)

    def _update(self, name: str, param: np.ndarray, grad: np.ndarray, lr: float) -> None:
        for arrays in self._state.values():
            if name not in arrays:
                arrays[name] = np.zeros(param.shape, param.dtype)
        state = [arrays[name] for arrays in self._state.values()]
        if param.dtype not in self._scratch:
            self._scratch[param.dtype] = np.empty((3, BLOCK), param.dtype)
        scratch = self._scratch[param.dtype]
        decay = self.weight_decay if self.decay_bias or param.ndim > 1 else 0.0

        work, slope = _plain(param), _plain(grad)
        chosen = kernels.current()
        if chosen is not None:
            self._kernel(chosen, work, slope, state, lr, self._steps[name], decay)
        else:
            for p, g, *s in block_views(work, slope, *state):
                decayed = scratch[0, : p.size]
                if decay and self._decoupled_decay:
                    p *= 1.0 - lr * decay
                elif decay:
                    np.multiply(p, decay, out=decayed)
                    decayed += g
                    g = decayed
                self._rule(p, g, s, scratch[1:, : p.size], lr, self._steps[name])
        if work is not param:
            param[...] = work


def _plain(array: np.ndarray) -> np.ndarray:
    """The array itself, or a copy that is contiguous and aligned."""
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy(order="C")
