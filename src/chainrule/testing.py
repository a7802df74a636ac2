"""Helpers for tests of one's own backward passes, under pytest or any other runner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from chainrule.errors import GradientMismatchError
from chainrule.gradcheck import diagnose

__all__ = ["assert_gradients"]


def assert_gradients(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Any] | Mapping[str, Any],
    *,
    dout: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    wrt: Sequence[int | str] | None = None,
    forward_kwargs: Mapping[str, Any] | None = None,
    tolerance: float = 1e-7,
) -> None:
    """Fail with the gradient doctor's words unless a backward pass is right.

    Parameters
    ----------
    forward : callable
        Called with the inputs; returns ``(out, cache)``.
    backward : callable
        Called as ``backward(dout, cache)``, or ``backward(cache)`` for a loss; returns the
        gradients by the inputs of floats, in their order.
    inputs : sequence or mapping
        The arguments of forward, small arrays whose sizes differ.
    dout : array_like, shape of out, optional
        Gradient of a final scalar by out; random by default.
    rng : numpy.random.Generator, optional
        Draws dout and fresh inputs; by default with seed 0, so that a test repeats itself.
    wrt : sequence of int or str, optional
        Positions or names of the inputs that backward differentiates by, if not all of floats.
    forward_kwargs : mapping, optional
        Further arguments of forward that are no inputs.
    tolerance : float, default 1e-7
        The largest relative error that passes.

    Raises
    ------
    GradientMismatchError
        If a gradient is wrong or cannot be checked; an AssertionError, whose text is what
        `chainrule.gradcheck.diagnose` says.
    InputError
        If there is nothing to differentiate by, or forward does not return ``(out, cache)``.

    Examples
    --------
    >>> import numpy as np
    >>> def forward(x):
    ...     return np.tanh(x), x
    >>> x = np.linspace(-1, 1, 5)
    >>> assert_gradients(forward, lambda dout, x: dout * (1 - np.tanh(x) ** 2), [x])
    >>> try:
    ...     assert_gradients(forward, lambda dout, x: dout * (1 - x**2), [x])
    ... except AssertionError as error:
    ...     print(str(error).splitlines()[1].strip())
    1 - x^2 instead of 1 - tanh(x)^2: the input is used where the output belongs  [input_for_output]
    """
    __tracebackhide__ = True  # pytest then shows the caller's line
    diagnosis = diagnose(
        forward,
        backward,
        inputs,
        dout=dout,
        rng=rng,
        wrt=wrt,
        forward_kwargs=forward_kwargs,
        tolerance=tolerance,
    )
    if not diagnosis.ok:
        raise GradientMismatchError(str(diagnosis))
