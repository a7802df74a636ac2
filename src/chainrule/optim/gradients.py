"""Around the step: clipping the gradients before it, averaging the weights after it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from chainrule.errors import RunError, explain
from chainrule.optim.base import Scalars, Tensors
from chainrule.optim.checks import (
    BLOCK,
    FRACTION,
    POSITIVE,
    block_views,
    check_arrays,
    check_number,
    check_same_layout,
)

__all__ = ["ExponentialMovingAverage", "clip_grad_norm", "clip_grad_value"]


def clip_grad_norm(grads: Mapping[str, np.ndarray], max_norm: float) -> float:
    r"""Scale all gradients by one factor so that their joint norm is at most `max_norm`.

    Parameters
    ----------
    grads : mapping of str to ndarray
        Gradients, float32 or float64, any shapes. Scaled in place.
    max_norm : float
        The largest allowed norm, positive.

    Returns
    -------
    float
        The norm before clipping, of all gradients taken as one vector. If it is not finite,
        the gradients have been left as they are, for the caller to find the culprit.

    Raises
    ------
    InputError
        If `max_norm` is not positive and finite, or an array is read-only.
    DTypeError
        If an array is neither float32 nor float64.

    Notes
    -----
    As in PyTorch, all gradients are multiplied by

    .. math:: \min\left(1, \frac{\text{max\_norm}}{\lVert g \rVert_2 + 10^{-6}}\right).

    The squares are summed in float64, in a fixed order, so that the result does not depend on
    the number of threads.

    References
    ----------
    R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural
    networks", ICML 2013, algorithm 1.

    Examples
    --------
    >>> grads = {"weight": np.array([3.0, 4.0])}
    >>> clip_grad_norm(grads, max_norm=1.0)
    5.0
    >>> grads["weight"].round(4)
    array([0.6, 0.8])
    """
    where = "clip_grad_norm"
    max_norm = check_number(where, "max_norm", max_norm, POSITIVE)
    check_arrays(where, "grads", grads, write=True)
    total = math.sqrt(sum(_square_sum(grad) for grad in grads.values()))
    factor = max_norm / (total + 1e-6)
    if math.isfinite(total) and factor < 1.0:
        for grad in grads.values():
            grad *= factor
    return total


def _square_sum(grad: np.ndarray) -> float:
    scratch = np.empty(min(BLOCK, grad.size))
    total = 0.0
    with np.errstate(over="ignore"):
        for (block,) in block_views(np.ascontiguousarray(grad)):
            squares = np.multiply(block, block, out=scratch[: block.size], dtype=np.float64)
            total += float(squares.sum())
    return total


def clip_grad_value(grads: Mapping[str, np.ndarray], limit: float) -> None:
    """Clip every element of every gradient to [-limit, limit].

    Parameters
    ----------
    grads : mapping of str to ndarray
        Gradients, float32 or float64, any shapes. Clipped in place; NaN stays NaN.
    limit : float
        The largest allowed magnitude, positive.

    Raises
    ------
    InputError
        If `limit` is not positive and finite, or an array is read-only.
    DTypeError
        If an array is neither float32 nor float64.

    Examples
    --------
    >>> grads = {"weight": np.array([3.0, -0.5])}
    >>> clip_grad_value(grads, limit=1.0)
    >>> grads["weight"]
    array([ 1. , -0.5])
    """
    limit = check_number("clip_grad_value", "limit", limit, POSITIVE)
    check_arrays("clip_grad_value", "grads", grads, write=True)
    for grad in grads.values():
        np.clip(grad, -limit, limit, out=grad)


class ExponentialMovingAverage:
    r"""A running average of weights, often better on test data than the last weights.

    Parameters
    ----------
    decay : float, default 0.999
        Decay :math:`\beta` in [0, 1). Roughly the last :math:`1 / (1 - \beta)` updates count.

    Attributes
    ----------
    averages : dict of str to ndarray
        The averages by parameter name, in the parameter's dtype. They are updated in place:
        copy what should stay.

    Raises
    ------
    InputError
        If `decay` is out of range.

    Notes
    -----
    The first time a name is seen its value is copied. After that, as PyTorch's
    ``AveragedModel`` with ``get_ema_multi_avg_fn`` does,

    .. math:: a \leftarrow a + (1 - \beta) (p - a).

    References
    ----------
    B. T. Polyak, A. B. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM
    Journal on Control and Optimization 30(4), 1992.

    Examples
    --------
    >>> average = ExponentialMovingAverage(decay=0.75)
    >>> average.update({"weight": np.array([0.0])})
    >>> average.update({"weight": np.array([8.0])})
    >>> average.averages["weight"]
    array([2.])
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = check_number("ExponentialMovingAverage", "decay", decay, FRACTION)
        self.averages: Tensors = {}

    def update(self, params: Mapping[str, np.ndarray]) -> None:
        """Move the averages towards `params`.

        Parameters
        ----------
        params : mapping of str to ndarray
            Current values, float32 or float64. Not modified.

        Raises
        ------
        ShapeError
            If an array's shape differs from that of its average. No average has changed then.
        DTypeError
            If an array is neither float32 nor float64, or its dtype differs from that of its
            average.

        Examples
        --------
        >>> average = ExponentialMovingAverage()
        >>> average.update({"bias": np.zeros(3)})
        >>> sorted(average.averages)
        ['bias']
        """
        where = "ExponentialMovingAverage.update"
        check_arrays(where, "params", params, write=False)
        for name in params.keys() & self.averages.keys():
            label = f"params[{name!r}]"
            check_same_layout(where, label, params[name], "its average", self.averages[name])
        for name, param in params.items():
            if name not in self.averages:
                self.averages[name] = param.copy(order="C")
                continue
            scratch = np.empty(min(BLOCK, param.size), param.dtype)
            for average, new in block_views(self.averages[name], np.ascontiguousarray(param)):
                change = np.subtract(new, average, out=scratch[: new.size])
                change *= 1.0 - self.decay
                average += change

    def state_dict(self) -> tuple[Tensors, Scalars]:
        """Copy everything that a later identical continuation needs.

        Returns
        -------
        tensors : dict of str to ndarray
            The averages, keyed ``"average/parameter"``.
        scalars : dict of str to int or float
            ``decay``.

        Examples
        --------
        >>> average = ExponentialMovingAverage(decay=0.5)
        >>> average.update({"bias": np.zeros(1)})
        >>> average.state_dict()
        ({'average/bias': array([0.])}, {'decay': 0.5})
        """
        tensors = {f"average/{name}": array.copy() for name, array in self.averages.items()}
        return tensors, {"decay": self.decay}

    def load_state_dict(
        self, tensors: Mapping[str, np.ndarray], scalars: Mapping[str, int | float]
    ) -> None:
        """Restore what `state_dict` returned, replacing the present averages.

        Parameters
        ----------
        tensors : mapping of str to ndarray
            The averages; they are copied.
        scalars : mapping of str to int or float
            The decay.

        Raises
        ------
        RunError
            If keys are missing or unknown. The present averages are kept then.

        Examples
        --------
        >>> average = ExponentialMovingAverage()
        >>> average.load_state_dict({"average/bias": np.ones(1)}, {"decay": 0.5})
        >>> average.averages["bias"]
        array([1.])
        """
        where = "ExponentialMovingAverage.load_state_dict"
        for name in tensors:
            if not name.startswith("average/"):
                raise RunError(explain(where, "tensors", "be keyed 'average/...'", repr(name)))
        if set(scalars) != {"decay"}:
            raise RunError(explain(where, "scalars", "hold 'decay' only", sorted(scalars)))
        check_arrays(where, "tensors", tensors, write=False)
        self.decay = check_number(where, "decay", scalars["decay"], FRACTION)
        self.averages = {
            name.removeprefix("average/"): np.array(array, order="C")
            for name, array in tensors.items()
        }
