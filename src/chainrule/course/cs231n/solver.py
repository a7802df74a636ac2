"""``cs231n.solver``: generation B's training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from chainrule.course.arrays import global_random, say
from chainrule.course.cs231n import optim
from chainrule.errors import ConfigError, explain, nearest
from chainrule.records import save_tensors

__all__ = ["CourseModel", "Solver"]

Rule = Callable[..., tuple[np.ndarray, dict[str, Any]]]


class CourseModel(Protocol):
    """What a `Solver` trains: parameters by name, and a loss with their gradients."""

    params: dict[str, np.ndarray]

    def loss(self, X: np.ndarray, y: np.ndarray | None = None) -> Any:
        """Return scores without labels, else loss and gradients."""


class Solver:
    """Trains a model by mini-batches and keeps the parameters of the best epoch.

    Parameters
    ----------
    model : object
        With ``params``, a dict of arrays, and ``loss(X, y=None)``: scores, or loss and gradients.
    data : mapping of str to ndarray
        ``X_train``, ``y_train``, ``X_val`` and ``y_val``.
    update_rule : str or callable, default "sgd"
        A function of `chainrule.course.cs231n.optim`, or one like them.
    optim_config : dict, optional
        What the rule is given for each parameter, such as ``{"learning_rate": 1e-3}``.
    lr_decay : float, default 1.0
        What the learning rate is multiplied by after each epoch.
    batch_size : int, default 100
        Examples in a step, drawn with replacement from NumPy's global generator.
    num_epochs : int, default 10
        Number of epochs.
    num_train_samples : int, default 1000
        Training examples for the accuracy, drawn anew each time; None for all.
    num_val_samples : int, optional
        Validation examples for the accuracy; by default all.
    print_every : int, default 10
        Steps between two printed losses.
    verbose : bool, default True
        Whether to print.
    checkpoint_name : str, optional
        Where parameters and histories go after each epoch: ``NAME_epoch_1.safetensors``. (The
        course writes pickles there.)

    Attributes
    ----------
    loss_history : list of float
        The loss of each step.
    train_acc_history, val_acc_history : list of float
        Accuracies at the start and after each epoch.
    best_val_acc : float
        The best of the latter; `train` ends with ``best_params`` in the model.

    Raises
    ------
    ConfigError
        If the update rule is unknown or data are missing.
    """

    def __init__(
        self,
        model: CourseModel,
        data: Mapping[str, np.ndarray],
        *,
        update_rule: str | Rule = "sgd",
        optim_config: Mapping[str, Any] | None = None,
        lr_decay: float = 1.0,
        batch_size: int = 100,
        num_epochs: int = 10,
        num_train_samples: int | None = 1000,
        num_val_samples: int | None = None,
        print_every: int = 10,
        verbose: bool = True,
        checkpoint_name: str | None = None,
    ) -> None:
        for name in ("X_train", "y_train", "X_val", "y_val"):
            if name not in data:
                hint = nearest(name, data)
                raise ConfigError(explain("Solver", name, "be in the data", "none", hint))
        self.model = model
        self.X_train, self.y_train = data["X_train"], data["y_train"]
        self.X_val, self.y_val = data["X_val"], data["y_val"]
        self.update_rule = _rule(update_rule)
        self.optim_config = dict(optim_config or {})
        self.lr_decay = lr_decay
        self.batch_size = batch_size
        self.num_epochs = num_epochs
        self.num_train_samples = num_train_samples
        self.num_val_samples = num_val_samples
        self.print_every = print_every
        self.verbose = verbose
        self.checkpoint_name = checkpoint_name
        self.epoch = 0
        self.best_val_acc = 0.0
        self.best_params: dict[str, np.ndarray] = {}
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []
        self.optim_configs = {name: dict(self.optim_config) for name in model.params}

    def train(self) -> None:
        """Run all epochs, and leave the parameters of the best one in the model."""
        per_epoch = max(len(self.X_train) // self.batch_size, 1)
        total = self.num_epochs * per_epoch
        for step in range(total):
            self._step()
            if self.verbose and step % self.print_every == 0:
                say(f"(Iteration {step + 1} / {total}) loss: {self.loss_history[-1]:f}")
            epoch_ends = (step + 1) % per_epoch == 0
            if epoch_ends:
                self.epoch += 1
                for config in self.optim_configs.values():
                    config["learning_rate"] *= self.lr_decay
            if epoch_ends or step in (0, total - 1):
                self._evaluate()
        if self.best_params:
            self.model.params = self.best_params

    def check_accuracy(
        self,
        X: np.ndarray,
        y: np.ndarray,
        num_samples: int | None = None,
        batch_size: int = 100,
    ) -> float:
        """Measure the model's accuracy.

        Parameters
        ----------
        X : ndarray, shape (N, ...)
            Examples.
        y : ndarray, shape (N,)
            Labels.
        num_samples : int, optional
            How many to draw at random; by default all.
        batch_size : int, default 100
            Examples computed at a time.

        Returns
        -------
        float
            The share that is classified right.
        """
        if num_samples is not None and len(X) > num_samples:
            chosen = global_random().choice(len(X), num_samples)
            X, y = X[chosen], y[chosen]
        starts = range(0, len(X), batch_size)
        predicted = [self.model.loss(X[i : i + batch_size]).argmax(axis=1) for i in starts]
        return float(np.mean(np.concatenate(predicted) == y))

    def _step(self) -> None:
        """Draw a batch and update every parameter."""
        chosen = global_random().choice(len(self.X_train), self.batch_size)
        loss, grads = self.model.loss(self.X_train[chosen], self.y_train[chosen])
        self.loss_history.append(loss)
        for name, weight in self.model.params.items():
            config = self.optim_configs[name]
            self.model.params[name], self.optim_configs[name] = self.update_rule(
                weight, grads[name], config
            )

    def _evaluate(self) -> None:
        train = self.check_accuracy(self.X_train, self.y_train, self.num_train_samples)
        val = self.check_accuracy(self.X_val, self.y_val, self.num_val_samples)
        self.train_acc_history.append(train)
        self.val_acc_history.append(val)
        self._save_checkpoint()
        if self.verbose:
            epochs = f"(Epoch {self.epoch} / {self.num_epochs})"
            say(f"{epochs} train acc: {train:f}; val_acc: {val:f}")
        if val > self.best_val_acc:
            self.best_val_acc = val
            self.best_params = {name: w.copy() for name, w in self.model.params.items()}

    def _save_checkpoint(self) -> None:
        if self.checkpoint_name is None:
            return
        histories = {
            "epoch": self.epoch,
            "loss_history": [float(loss) for loss in self.loss_history],
            "train_acc_history": self.train_acc_history,
            "val_acc_history": self.val_acc_history,
        }
        path = Path(f"{self.checkpoint_name}_epoch_{self.epoch}.safetensors")
        save_tensors(path, self.model.params, histories)
        if self.verbose:
            say(f'Saving checkpoint to "{path}"')


def _rule(update_rule: str | Rule) -> Rule:
    if callable(update_rule):
        return update_rule
    if update_rule not in optim.__all__:
        rule = "be the name of an update rule"
        hint = nearest(update_rule, optim.__all__)
        raise ConfigError(explain("Solver", "update_rule", rule, repr(update_rule), hint))
    chosen: Rule = getattr(optim, update_rule)
    return chosen
