"""What does the arithmetic of training: updates, evaluations, weights in and out.

A `Learner` is the part of a `Trainer` that another backend replaces. The order of the data, the
schedule, the records and the checkpoints are the trainer's and the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from chainrule.data import BatchIterator
from chainrule.errors import InputError, RunError, explain
from chainrule.models import Sequential
from chainrule.optim import (
    ExponentialMovingAverage,
    Schedule,
    clip_grad_norm,
    make_optimizer,
    make_schedule,
)
from chainrule.records import Checkpoint
from chainrule.training.config import Config
from chainrule.training.divergence import raise_if_diverged
from chainrule.training.evaluation import MeanOfViews, accuracy_of, evaluate

__all__ = [
    "Arrays",
    "Change",
    "Learner",
    "MakeLearner",
    "Model",
    "NumpyLearner",
    "Records",
    "Update",
    "activation_statistics",
    "best_weights",
    "make_update_rule",
    "update_statistics",
]

Records = Sequence[Mapping[str, Any]]
Change = Callable[..., np.ndarray]  # of images; and, for a part of a batch, its place and size


class Model(Protocol):
    """What can be trained: a `Sequential`, a `FunctionModel` or anything alike."""

    params: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray]

    def loss_and_grads(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        l2: float = 0.0,
        rng: np.random.Generator | None = None,
        observe: Any = None,
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss of a batch and the gradient of every parameter."""

    def scores(self, x: np.ndarray, batch_size: int = 500) -> np.ndarray:
        """Return the scores (N, C) of examples."""


@dataclass(frozen=True)
class Arrays:
    """Preprocessed examples and labels.

    Parameters
    ----------
    x : ndarray (N, ...)
        Examples.
    y : ndarray (N,)
        Labels.
    """

    x: np.ndarray
    y: np.ndarray

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise InputError(explain("Arrays", "y", f"have {len(self.x)} labels", len(self.y)))

    def head(self, count: int) -> Arrays:
        """Return the first `count` examples."""
        return Arrays(self.x[:count], self.y[:count])


@dataclass(frozen=True)
class Update:
    """What one step did.

    Attributes
    ----------
    loss : float
        Of the batch, before the update, with the penalty.
    accuracy : float or None
        Of the batch, before the update; None where the model has no scores.
    layers, parameters : dict of str to dict
        Statistics of each layer's output and of each parameter, where they were asked for.
    """

    loss: float
    accuracy: float | None = None
    layers: dict[str, dict[str, float]] = field(default_factory=dict)
    parameters: dict[str, dict[str, float]] = field(default_factory=dict)


class Learner(Protocol):
    """What a backend gives a `Trainer`.

    Where several processes train together, a batch of `stream` holds this process's part of the
    examples and the labels of all of them.
    """

    def stream(
        self, train: Arrays, order: BatchIterator, change: Change | None
    ) -> Iterator[tuple[Any, Any]]:
        """Return endless batches, each taken from `order` only when it is asked for."""

    def step(self, x: Any, y: Any, step: int, records: Records, statistics: bool) -> Update:
        """Do update number `step`, from 0, with a batch of the stream; raise if it diverges."""

    def evaluate(self, arrays: Arrays) -> tuple[float, float | None]:
        """Return loss and accuracy of the weights, or of their averages where there are any."""

    def weights(self) -> dict[str, np.ndarray]:
        """Return copies of what `evaluate` uses, as ``params/...`` and ``buffers/...``."""

    def adopt(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        """Go on with these weights, also in the model."""

    def publish(self) -> None:
        """Put the present weights into the model that the trainer was given."""

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return all that an identical continuation needs: tensors, and what JSON can hold."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to what `state` returned."""

    def describe(self) -> str:
        """Say in a few words what computes."""


class MakeLearner(Protocol):
    """What makes a learner: a class, or a function alike."""

    def __call__(
        self, model: Any, config: Config, schedule: Schedule, rng: np.random.Generator, /
    ) -> Learner:
        """Return a learner for a model with initial parameters."""


class NumpyLearner:
    """Training by chainrule's own layers and optimizers.

    Parameters
    ----------
    model : Model
        With initial parameters; they are updated in place.
    config : Config
        Sections ``optimizer`` and ``training``.
    schedule : chainrule.optim.Schedule
        The learning rate of each step.
    rng : numpy.random.Generator
        Source of dropout masks.
    """

    def __init__(
        self, model: Model, config: Config, schedule: Schedule, rng: np.random.Generator
    ) -> None:
        self._model, self._config, self._schedule, self._rng = model, config, schedule, rng
        rule = config.optimizer
        self._optimizer = make_optimizer(rule.name, lr=rule.lr, **rule.options)
        decay = config.optimizer.ema_decay
        self._average = None if decay is None else ExponentialMovingAverage(decay)

    def describe(self) -> str:
        """Say what computes."""
        return "numpy"

    def stream(
        self, train: Arrays, order: BatchIterator, change: Change | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield batches for ever, each taken from the order only when it is asked for.

        Parameters
        ----------
        train : Arrays
            Preprocessed examples.
        order : BatchIterator
            Gives the indices of each batch.
        change : callable, optional
            Augmentation of a batch.

        Yields
        ------
        x, y : ndarray
            The batch.
        """
        while True:
            _, indices = order.next_batch()
            x = train.x[indices]
            yield (x if change is None else change(x)), train.y[indices]

    def step(
        self, x: np.ndarray, y: np.ndarray, step: int, records: Records, statistics: bool
    ) -> Update:
        """Do one update.

        Parameters
        ----------
        x, y : ndarray
            The batch.
        step : int
            From 0.
        records : sequence of mappings
            History so far, for the message when training diverges.
        statistics : bool
            Whether to describe layers and parameters.

        Returns
        -------
        Update
            Loss, accuracy and statistics.

        Raises
        ------
        DivergedError
            If the loss or a gradient is not finite.
        """
        model, lr = self._model, self._schedule.lr_at(step)
        outputs: list[np.ndarray] = []  # of the last layer: the scores
        loss, grads = model.loss_and_grads(
            x,
            y,
            l2=self._config.training.l2,
            rng=self._rng,
            observe=lambda layer, out: outputs.__setitem__(slice(None), [out]),
        )
        raise_if_diverged(model, x, y, loss, grads, step + 1, lr, records)
        if self._config.optimizer.clip_norm is not None:
            clip_grad_norm(grads, self._config.optimizer.clip_norm)
        layers = _activations(model, x) if statistics else {}
        previous = {k: v.copy() for k, v in model.params.items()} if statistics else {}
        self._optimizer.step(model.params, grads, lr)
        if self._average is not None:
            self._average.update(model.params)
        scored = bool(outputs) and outputs[0].ndim == 2
        return Update(
            loss,
            accuracy_of(outputs[0], y) if scored else None,
            layers,
            {k: update_statistics(v, model.params[k], grads[k]) for k, v in previous.items()},
        )

    def evaluate(self, arrays: Arrays) -> tuple[float, float | None]:
        """Return loss and accuracy on examples, of the averages where there are any.

        Parameters
        ----------
        arrays : Arrays
            Examples and labels.

        Returns
        -------
        loss : float
            Mean loss without the penalty.
        accuracy : float or None
            None where the model has no scores.
        """
        own, self._model.params = self._model.params, self._evaluated
        try:
            loss, accuracy, _ = evaluate(self._judged, arrays.x, arrays.y)
        finally:
            self._model.params = own
        return loss, accuracy

    def weights(self) -> dict[str, np.ndarray]:
        """Return copies of the weights that evaluations use, and of the running statistics."""
        groups = {"params": self._evaluated, "buffers": self._model.buffers}
        return {f"{group}/{k}": v.copy() for group, own in groups.items() for k, v in own.items()}

    def adopt(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        """Go on with these weights.

        Parameters
        ----------
        params, buffers : mapping of str to ndarray
            As in the model.
        """
        for key, value in params.items():
            self._model.params[key][...] = value
        self._model.buffers.update(buffers)

    def publish(self) -> None:
        """Do nothing: the model is what is trained."""

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return parameters, statistics, optimizer state and averages.

        Returns
        -------
        tensors : dict of str to ndarray
            ``params/...``, ``buffers/...``, ``optimizer/...``, ``average/...``.
        scalars : dict
            ``optimizer`` and ``average``.
        """
        rule_tensors, rule_scalars = self._optimizer.state_dict()
        tensors = {f"params/{k}": v for k, v in self._model.params.items()}
        tensors |= {f"buffers/{k}": v for k, v in self._model.buffers.items()}
        tensors |= {f"optimizer/{k}": v for k, v in rule_tensors.items()}
        average_scalars: Mapping[str, Any] = {}
        if self._average is not None:
            average_tensors, average_scalars = self._average.state_dict()
            tensors |= average_tensors
        return tensors, {"optimizer": rule_scalars, "average": average_scalars}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to what `state` returned.

        Parameters
        ----------
        checkpoint : Checkpoint
            Holds it.

        Raises
        ------
        RunError
            If it belongs to another network.
        """
        for group, own in (("params", self._model.params), ("buffers", self._model.buffers)):
            saved = checkpoint.named(group)
            if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in own.items()}:
                raise RunError("resume: the checkpoint belongs to another network.")
            own.update(saved)
        state = checkpoint.state
        self._optimizer.load_state_dict(checkpoint.named("optimizer"), state["optimizer"])
        if self._average is not None:
            averages = {k: v for k, v in checkpoint.tensors.items() if k.startswith("average/")}
            self._average.load_state_dict(averages, state["average"])

    @property
    def _judged(self) -> Any:
        """The model with its test-time augmentation, where it has any."""
        tta = self._config.data.tta
        return self._model if tta == "none" else MeanOfViews(self._model, tta)

    @property
    def _evaluated(self) -> dict[str, np.ndarray]:
        """The weights that evaluations use: the moving averages, where there are any."""
        if self._average is not None and self._average.averages:
            return self._average.averages
        return self._model.params


def make_update_rule(config: Config, total_steps: int, steps_per_epoch: int) -> tuple[Any, Any]:
    """Build the optimizer and the schedule of a configuration.

    Parameters
    ----------
    config : Config
        Its sections ``optimizer`` and ``schedule``.
    total_steps, steps_per_epoch : int
        Length of the run.

    Returns
    -------
    optimizer : chainrule.optim.Optimizer
        The update rule.
    schedule : chainrule.optim.Schedule
        Its learning rate over time.
    """
    rule, plan = config.optimizer, config.schedule
    optimizer = make_optimizer(rule.name, lr=rule.lr, **rule.options)
    warmup = round(plan.warmup_epochs * steps_per_epoch)
    schedule = make_schedule(
        plan.name, rule.lr, total_steps, steps_per_epoch, warmup, **plan.options
    )
    return optimizer, schedule


def best_weights(checkpoint: Checkpoint) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the parameters to evaluate with (averages, where there are any) and the buffers."""
    return checkpoint.named("average") or checkpoint.named("params"), checkpoint.named("buffers")


def _activations(model: Model, x: np.ndarray) -> dict[str, dict[str, float]]:
    """Describe the output of each layer of a network for a batch, in evaluation mode."""
    found: dict[str, dict[str, float]] = {}
    if isinstance(model, Sequential):
        model.forward(
            x, observe=lambda layer, out: found.update({layer: activation_statistics(out)})
        )
    return found


def activation_statistics(out: np.ndarray) -> dict[str, float]:
    """Describe the output of a layer.

    Parameters
    ----------
    out : ndarray (N, ...)
        The output for a batch.

    Returns
    -------
    dict of str to float
        ``activation_mean``, ``activation_std`` and ``activation_zeros``, a fraction.

    Examples
    --------
    >>> activation_statistics(np.array([0.0, 2.0]))["activation_zeros"]
    0.5
    """
    return {
        "activation_mean": float(out.mean(dtype=np.float64)),
        "activation_std": float(out.std(dtype=np.float64)),
        "activation_zeros": float(np.count_nonzero(out == 0) / max(out.size, 1)),
    }


def update_statistics(old: np.ndarray, new: np.ndarray, grad: np.ndarray) -> dict[str, float]:
    """Describe the update of a parameter.

    Parameters
    ----------
    old, new, grad : ndarray
        The parameter before and after, and its gradient.

    Returns
    -------
    dict of str to float
        ``weight_norm``, ``update_ratio`` (NaN for a parameter that was zero), ``grad_norm``.

    Examples
    --------
    >>> update_statistics(np.array([3.0, 4.0]), np.array([3.0, 3.0]), np.ones(2))["update_ratio"]
    0.2
    """
    weight = float(np.linalg.norm(old))
    update = float(np.linalg.norm(new - old))
    return {
        "weight_norm": weight,
        "update_ratio": update / weight if weight else math.nan,
        "grad_norm": float(np.linalg.norm(grad)),
    }
