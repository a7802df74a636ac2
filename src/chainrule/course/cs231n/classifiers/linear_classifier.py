"""``cs231n.classifiers.linear_classifier``: linear classifiers trained by mini-batches."""

from __future__ import annotations

import numpy as np

from chainrule.course.arrays import as_floats, global_random, say
from chainrule.course.generations import are_columns
from chainrule.course.linear import linear_loss
from chainrule.errors import ConfigError, InputError, explain
from chainrule.optim import SGD

__all__ = ["LinearClassifier", "LinearSVM", "Softmax"]


class LinearClassifier:
    """What the linear classifiers share.

    Attributes
    ----------
    W : ndarray or None
        Weights, (C, D) where the training examples were columns (generation A), (D, C) where they
        were rows (B); None before `train`.
    """

    _loss = ""

    def __init__(self) -> None:
        self.W: np.ndarray | None = None
        self._columns: bool | None = None

    def train(
        self,
        X: np.ndarray,
        y: np.ndarray,
        learning_rate: float = 1e-3,
        reg: float = 1e-5,
        num_iters: int = 100,
        batch_size: int = 200,
        verbose: bool = False,
    ) -> list[float]:
        """Train by stochastic gradient descent.

        Parameters
        ----------
        X : ndarray, shape (D, N) or (N, D)
            Examples: columns in generation A, rows in B.
        y : ndarray, shape (N,), integer
            Labels from 0; the largest says how many classes there are.
        learning_rate : float, default 1e-3
            Step size.
        reg : float, default 1e-5
            Strength of the penalty.
        num_iters : int, default 100
            Number of steps.
        batch_size : int, default 200
            Examples in a step, drawn with replacement.
        verbose : bool, default False
            Whether to print the loss each 100 steps.

        Returns
        -------
        list of float
            The loss of each step.

        Raises
        ------
        InputError
            If there are no examples.

        Notes
        -----
        Weights that exist go on being trained; new ones are drawn from NumPy's global generator,
        and so are the batches.
        """
        where = f"{type(self).__name__}.train"
        X, y = as_floats(where, X=X)[0], np.asarray(y)
        if y.size == 0:
            raise InputError(explain(where, "y", "hold at least one label", y.shape))
        columns = are_columns(where, X, len(y), self.W)
        random, optimizer = global_random(), SGD()
        if self.W is None:
            num_classes, size = int(y.max()) + 1, X.shape[0 if columns else 1]
            shape = (num_classes, size) if columns else (size, num_classes)
            self.W = 0.001 * random.standard_normal(shape)
        self._columns = columns
        history = []
        for step in range(num_iters):
            chosen = random.choice(len(y), batch_size)
            batch = X[:, chosen] if columns else X[chosen]
            loss, dW = self.loss(batch, y[chosen], reg)
            history.append(loss)
            optimizer.step({"W": self.W}, {"W": dW.astype(self.W.dtype)}, lr=learning_rate)
            if verbose and step % 100 == 0:
                say(f"iteration {step} / {num_iters}: loss {loss:f}")
        return history

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class with the largest score for each example.

        Parameters
        ----------
        X : ndarray, shape (D, N) or (N, D)
            Examples, laid out as in training.

        Returns
        -------
        ndarray of int64, shape (N,)
            Labels.

        Raises
        ------
        ConfigError
            If there are no weights yet.
        """
        where = f"{type(self).__name__}.predict"
        W, X = as_floats(where, W=self._weights(where), X=X)
        columns = are_columns(where, X, None, W) if self._columns is None else self._columns
        return np.asarray((W @ X).argmax(axis=0) if columns else (X @ W).argmax(axis=1))

    def loss(
        self, X_batch: np.ndarray, y_batch: np.ndarray, reg: float
    ) -> tuple[float, np.ndarray]:
        """Compute the loss of a batch and its gradient.

        Parameters
        ----------
        X_batch : ndarray, shape (D, N) or (N, D)
            Examples.
        y_batch : ndarray, shape (N,), integer
            Labels.
        reg : float
            Strength of the penalty.

        Returns
        -------
        loss : float
            The loss.
        dW : ndarray, shape of W
            Its gradient.

        Raises
        ------
        ConfigError
            If there are no weights yet, or this class has no loss.
        """
        where = f"{type(self).__name__}.loss"
        if not self._loss:
            raise ConfigError(f"{where}: use LinearSVM or Softmax, which have a loss.")
        W = self._weights(where)
        return linear_loss(where, self._loss, W, X_batch, y_batch, reg, columns=self._columns)

    def _weights(self, where: str) -> np.ndarray:
        if self.W is None:
            raise ConfigError(explain(where, "W", "be set", None, "Call train first."))
        return self.W


class LinearSVM(LinearClassifier):
    """A linear classifier under the multiclass hinge loss."""

    _loss = "multiclass_hinge"


class Softmax(LinearClassifier):
    """A linear classifier under the cross-entropy of the softmax."""

    _loss = "cross_entropy"
