"""A user's own function as a trainable model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from chainrule.errors import DTypeError, InputError, ShapeError, explain

__all__ = ["FunctionModel"]

LossAndGrads = Callable[
    [dict[str, np.ndarray], np.ndarray, np.ndarray], tuple[float, Mapping[str, np.ndarray]]
]
Scores = Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]


class FunctionModel:
    """Any ``loss_and_grads(params, x, y)``, dressed so that it can be trained.

    Parameters
    ----------
    loss_and_grads : callable
        ``loss_and_grads(params, x, y) -> (loss, grads)``; `grads` has the keys of `params`. The
        gradients are copied, in the dtype of their parameters.
    params : mapping of str to ndarray
        Initial parameters, float32 or float64; copied.
    scores : callable, optional
        ``scores(params, x) -> (N, C)``. Without it accuracies are not reported.

    Attributes
    ----------
    params : dict of str to ndarray
        The parameters; optimizers update them in place.

    Raises
    ------
    InputError
        If there are no parameters.
    DTypeError
        If a parameter is neither float32 nor float64.

    Examples
    --------
    >>> def squares(params, x, y):
    ...     residual = x @ params["w"] - y
    ...     return float(residual @ residual), {"w": 2 * x.T @ residual}
    >>> model = FunctionModel(squares, {"w": np.zeros(2)})
    >>> model.loss_and_grads(np.eye(2), np.array([1.0, 2.0]))
    (5.0, {'w': array([-2., -4.])})
    """

    def __init__(
        self,
        loss_and_grads: LossAndGrads,
        params: Mapping[str, np.ndarray],
        scores: Scores | None = None,
    ) -> None:
        if not params:
            raise InputError(explain("FunctionModel", "params", "hold at least one array", "none"))
        self.params = {key: np.array(value) for key, value in params.items()}
        for key, value in self.params.items():
            if value.dtype not in (np.float32, np.float64):
                rule = "be float32 or float64"
                raise DTypeError(explain("FunctionModel", f"params[{key!r}]", rule, value.dtype))
        self.buffers: dict[str, np.ndarray] = {}
        self._loss_and_grads = loss_and_grads
        self._scores = scores

    @property
    def has_scores(self) -> bool:
        """Whether accuracies can be computed."""
        return self._scores is not None

    def loss_and_grads(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        l2: float = 0.0,
        rng: np.random.Generator | None = None,
        observe: Callable[[str, np.ndarray], None] | None = None,
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Call the user's function and check what it returns.

        Parameters
        ----------
        x, y : ndarray
            Batch of examples and labels.
        l2 : float, default 0
            Strength of the penalty ``l2 / 2 * sum(w ** 2)`` over arrays of two and more axes.
        rng : numpy.random.Generator, optional
            Not used: a function brings its own randomness.
        observe : callable, optional
            Called as ``observe("scores", scores)`` if there is a `scores` function.

        Returns
        -------
        loss : float
            What the function returned, plus the penalty.
        grads : dict of str to ndarray
            One for each parameter.

        Raises
        ------
        InputError
            If the gradient of a parameter is missing.
        ShapeError
            If a gradient has another shape than its parameter.
        """
        if observe is not None and self._scores is not None:
            observe("scores", self._scores(self.params, x))
        loss, given = self._loss_and_grads(self.params, x, y)
        grads = {}
        for key, param in self.params.items():
            if key not in given:
                raise InputError(
                    explain("loss_and_grads", "grads", f"have the key {key!r}", list(given))
                )
            # A copy: clipping works in place, and a function may well return its own array,
            # even the parameter itself as the gradient of half its square.
            grad = np.array(given[key], dtype=param.dtype)
            if grad.shape != param.shape:
                raise ShapeError(
                    explain(
                        "loss_and_grads", f"grads[{key!r}]", f"have shape {param.shape}", grad.shape
                    )
                )
            if l2 and param.ndim > 1:
                loss += 0.5 * l2 * float(np.vdot(param, param))
                grad += param.dtype.type(l2) * param
            grads[key] = grad
        return float(loss), grads

    def scores(self, x: np.ndarray, batch_size: int = 500) -> np.ndarray:
        """Return the scores (N, C) of examples, in batches.

        Parameters
        ----------
        x : ndarray (N, ...)
            Examples.
        batch_size : int, default 500
            Examples per batch.

        Returns
        -------
        ndarray (N, C)
            Scores.

        Raises
        ------
        InputError
            If the model was made without a `scores` function.
        """
        if self._scores is None:
            raise InputError(explain("FunctionModel", "scores", "be given to predict", None))
        starts = range(0, max(len(x), 1), batch_size)
        return np.concatenate([self._scores(self.params, x[i : i + batch_size]) for i in starts])

    def predict(self, x: np.ndarray, batch_size: int = 500) -> np.ndarray:
        """Return the label (N,) with the highest score of each example."""
        return np.asarray(np.argmax(self.scores(x, batch_size), axis=1))
