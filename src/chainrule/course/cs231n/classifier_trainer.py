"""``cs231n.classifier_trainer``: generation A's training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.course.arrays import global_random, say
from chainrule.errors import ConfigError, explain, nearest
from chainrule.optim import SGD, Momentum, Optimizer, RMSprop

__all__ = ["ClassifierTrainer"]

Model = dict[str, np.ndarray]
_UPDATES = ("momentum", "rmsprop", "sgd")
_EXAMPLES = 1000  # training examples that an accuracy is measured on
_BATCH = 100  # examples in a batch of it


class ClassifierTrainer:
    """Trains a model, a dict of arrays, with a function that gives loss and gradients."""

    def __init__(self) -> None:
        self.step_cache: dict[str, np.ndarray] = {}

    def train(
        self,
        X: np.ndarray,
        y: np.ndarray,
        X_val: np.ndarray,
        y_val: np.ndarray,
        model: Model,
        loss_function: Callable[..., Any],
        reg: float = 0.0,
        learning_rate: float = 1e-2,
        momentum: float = 0,
        learning_rate_decay: float = 0.95,
        update: str = "momentum",
        sample_batches: bool = True,
        num_epochs: int = 30,
        batch_size: int = 100,
        acc_frequency: int | None = None,
        verbose: bool = False,
    ) -> tuple[Model, list[float], list[float], list[float]]:
        """Train by mini-batches, or by all examples at once.

        Parameters
        ----------
        X : ndarray, shape (N, ...)
            Training examples.
        y : ndarray, shape (N,), integer
            Their labels.
        X_val, y_val : ndarray
            Validation examples and labels.
        model : dict of str to ndarray
            Parameters by name, updated in place.
        loss_function : callable
            ``loss_function(X, model, y, reg)`` gives loss and gradients, and
            ``loss_function(X, model)`` scores.
        reg : float, default 0.0
            Strength of the penalty.
        learning_rate : float, default 1e-2
            Step size at the start.
        momentum : float, default 0
            Share of the velocity that is kept, for ``update="momentum"``.
        learning_rate_decay : float, default 0.95
            What the learning rate is multiplied by after each epoch.
        update : {"sgd", "momentum", "rmsprop"}, default "momentum"
            Update rule; rmsprop has the decay 0.99 and adds 1e-8 inside the root.
        sample_batches : bool, default True
            Whether a step takes a batch, drawn with replacement from NumPy's global generator,
            or all examples, which is then an epoch.
        num_epochs : int, default 30
            Number of epochs.
        batch_size : int, default 100
            Examples in a batch.
        acc_frequency : int, optional
            Steps between two accuracies, besides those after each epoch.
        verbose : bool, default False
            Whether to print.

        Returns
        -------
        best_model : dict of str to ndarray
            A copy of the parameters with the best validation accuracy.
        loss_history : list of float
            The loss of each step.
        train_acc_history, val_acc_history : list of float
            Accuracies at the first step, after each epoch, and as `acc_frequency` says.

        Raises
        ------
        ConfigError
            If the update rule is unknown.
        """
        optimizer = _optimizer(update, momentum)
        per_epoch = max(len(X) // batch_size, 1) if sample_batches else 1
        best_model: Model = {}
        best = -1.0
        losses: list[float] = []
        train_accuracies: list[float] = []
        val_accuracies: list[float] = []
        for step in range(num_epochs * per_epoch):
            chosen = global_random().choice(len(X), batch_size) if sample_batches else slice(None)
            loss, grads = loss_function(X[chosen], model, y[chosen], reg)
            losses.append(loss)
            used = {name: np.asarray(grads[name], w.dtype) for name, w in model.items()}
            optimizer.step(model, used, lr=learning_rate)
            epoch_ends = (step + 1) % per_epoch == 0
            if epoch_ends and step > 0:
                learning_rate *= learning_rate_decay
            if not (epoch_ends or step == 0 or (acc_frequency and step % acc_frequency == 0)):
                continue
            train = self._train_accuracy(X, y, model, loss_function)
            val = _accuracy(X_val, y_val, model, loss_function)
            train_accuracies.append(train)
            val_accuracies.append(val)
            if val > best:
                best, best_model = val, {name: w.copy() for name, w in model.items()}
            if verbose:
                say(
                    f"Finished epoch {(step + 1) // per_epoch} / {num_epochs}: cost {loss:f}, "
                    f"train: {train:f}, val {val:f}, lr {learning_rate:e}"
                )
        if verbose:
            say(f"finished optimization. best validation accuracy: {best:f}")
        return best_model, losses, train_accuracies, val_accuracies

    def _train_accuracy(
        self, X: np.ndarray, y: np.ndarray, model: Model, loss_function: Callable[..., Any]
    ) -> float:
        if len(X) > _EXAMPLES:
            chosen = global_random().choice(len(X), _EXAMPLES)
            X, y = X[chosen], y[chosen]
        return _accuracy(X, y, model, loss_function)


def _accuracy(
    X: np.ndarray, y: np.ndarray, model: Model, loss_function: Callable[..., Any]
) -> float:
    starts = range(0, len(X), _BATCH)
    predicted = [loss_function(X[i : i + _BATCH], model).argmax(axis=1) for i in starts]
    return float(np.mean(np.concatenate(predicted) == y))


def _optimizer(update: str, momentum: float) -> Optimizer:
    if update not in _UPDATES:
        rule = f"be one of {', '.join(_UPDATES)}"
        hint = nearest(str(update), _UPDATES)
        raise ConfigError(explain("train", "update", rule, repr(update), hint))
    if update == "rmsprop":
        return RMSprop(alpha=0.99, eps=1e-8)
    return SGD() if update == "sgd" else Momentum(momentum=momentum, lr_in_velocity=True)
