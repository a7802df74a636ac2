"""``cs231n.classifiers.neural_net``: the two-layer network of both generations.

Generation A has functions of a model dict, with the penalty ``0.5 reg sum(W ** 2)``; B has a class,
with ``reg sum(W ** 2)``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.course.arrays import global_random, say
from chainrule.course.networks import CourseNetwork, draw
from chainrule.errors import ConfigError, explain, nearest
from chainrule.models import Linear, ReLU
from chainrule.optim import SGD

__all__ = ["TwoLayerNet", "init_two_layer_model", "two_layer_net"]

Model = dict[str, np.ndarray]


@lru_cache(maxsize=8)
def _network(where: str, size: int, hidden: int, num_classes: int) -> CourseNetwork:
    return CourseNetwork(where, [Linear(hidden), ReLU(), Linear(num_classes)], (size,))


def _run(where: str, model: Model, X: np.ndarray, y: np.ndarray | None, l2: float) -> Any:
    for name in ("W1", "W2"):
        if name not in model or np.ndim(model[name]) != 2:
            rule = "be a matrix in the model"
            got = np.shape(model[name]) if name in model else "none"
            raise ConfigError(explain(where, name, rule, got, nearest(name, model)))
    size, hidden = model["W1"].shape
    return _network(where, size, hidden, model["W2"].shape[1]).run(model, X, y, l2)


def init_two_layer_model(input_size: int, hidden_size: int, output_size: int) -> Model:
    """Draw the parameters of a two-layer network.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        D, H and C.

    Returns
    -------
    dict of str to ndarray of float64
        ``W1`` (D, H) and ``W2`` (H, C), normal with standard deviation 1e-5, ``b1`` (H,) and
        ``b2`` (C,), zeros.
    """
    return {
        "W1": draw(1e-5, input_size, hidden_size),
        "b1": np.zeros(hidden_size),
        "W2": draw(1e-5, hidden_size, output_size),
        "b2": np.zeros(output_size),
    }


def two_layer_net(
    X: np.ndarray, model: Model, y: np.ndarray | None = None, reg: float = 0.0
) -> Any:
    """Compute scores, or loss and gradients, of affine - ReLU - affine - softmax.

    Parameters
    ----------
    X : ndarray, shape (N, D)
        Examples.
    model : dict of str to ndarray
        ``W1`` (D, H), ``b1`` (H,), ``W2`` (H, C), ``b2`` (C,).
    y : ndarray, shape (N,), integer, optional
        Labels.
    reg : float, default 0.0
        Strength of the penalty ``0.5 reg sum(W ** 2)``.

    Returns
    -------
    ndarray (N, C), or (float, dict of str to ndarray)
        Scores without labels, else loss and gradients.
    """
    return _run("two_layer_net", model, X, y, reg)


class TwoLayerNet:
    """Affine - ReLU - affine - softmax, with its own training.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        D, H and C.
    std : float, default 1e-4
        Standard deviation of the weights.

    Attributes
    ----------
    params : dict of str to ndarray
        ``W1`` (D, H), ``b1`` (H,), ``W2`` (H, C), ``b2`` (C,).
    """

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int, std: float = 1e-4
    ) -> None:
        self.params: Model = {
            "W1": draw(std, input_size, hidden_size),
            "b1": np.zeros(hidden_size),
            "W2": draw(std, hidden_size, output_size),
            "b2": np.zeros(output_size),
        }

    def loss(self, X: np.ndarray, y: np.ndarray | None = None, reg: float = 0.0) -> Any:
        """Compute scores, or loss and gradients.

        Parameters
        ----------
        X : ndarray, shape (N, D)
            Examples.
        y : ndarray, shape (N,), integer, optional
            Labels.
        reg : float, default 0.0
            Strength of the penalty ``reg sum(W ** 2)``.

        Returns
        -------
        ndarray (N, C), or (float, dict of str to ndarray)
            Scores without labels, else loss and gradients.
        """
        return _run("TwoLayerNet.loss", self.params, X, y, 2 * reg)

    def train(
        self,
        X: np.ndarray,
        y: np.ndarray,
        X_val: np.ndarray,
        y_val: np.ndarray,
        learning_rate: float = 1e-3,
        learning_rate_decay: float = 0.95,
        reg: float = 5e-6,
        num_iters: int = 100,
        batch_size: int = 200,
        verbose: bool = False,
    ) -> dict[str, list[float]]:
        """Train by stochastic gradient descent.

        Parameters
        ----------
        X : ndarray, shape (N, D)
            Training examples.
        y : ndarray, shape (N,), integer
            Their labels.
        X_val, y_val : ndarray
            Validation examples and labels.
        learning_rate : float, default 1e-3
            Step size at the start.
        learning_rate_decay : float, default 0.95
            What it is multiplied by after each epoch.
        reg : float, default 5e-6
            Strength of the penalty.
        num_iters : int, default 100
            Number of steps.
        batch_size : int, default 200
            Examples in a step, drawn with replacement.
        verbose : bool, default False
            Whether to print the loss each 100 steps.

        Returns
        -------
        dict of str to list of float
            ``loss_history``, ``train_acc_history`` and ``val_acc_history``.
        """
        random, optimizer = global_random(), SGD()
        per_epoch = max(len(X) // batch_size, 1)
        losses, train_accuracies, val_accuracies = [], [], []
        for step in range(num_iters):
            chosen = random.choice(len(X), batch_size)
            batch, labels = X[chosen], y[chosen]
            loss, grads = self.loss(batch, labels, reg)
            losses.append(loss)
            optimizer.step(self.params, grads, lr=learning_rate)
            if verbose and step % 100 == 0:
                say(f"iteration {step} / {num_iters}: loss {loss:f}")
            if step % per_epoch == 0:
                train_accuracies.append(float((self.predict(batch) == labels).mean()))
                val_accuracies.append(float((self.predict(X_val) == y_val).mean()))
                learning_rate *= learning_rate_decay
        return {
            "loss_history": losses,
            "train_acc_history": train_accuracies,
            "val_acc_history": val_accuracies,
        }

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class with the largest score for each example.

        Parameters
        ----------
        X : ndarray, shape (N, D)
            Examples.

        Returns
        -------
        ndarray of int64, shape (N,)
            Labels.
        """
        return np.asarray(self.loss(X).argmax(axis=1))
